//! Lanes: one per customer, worked on by one claim at a time.
//!
//! Before: [`crate::store::inbox`] and [`crate::store::parking`] make a lane claimable. After: [`crate::store::claims`].

use std::collections::{BTreeMap, BTreeSet};

use super::db::{DbFault, RowStatement, query, row};
use super::moments::Ceilings;
use super::transaction::Transaction;
use crate::domain::team::member_of_lane;
use crate::domain::{EventId, Timestamp};

/// The urgency of an event: `Live` if a person may wait for its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneUrgency {
    /// The event came as it happened.
    Live,
    /// The event is one of many that were imported, and yields.
    Bulk,
    /// The event is about a member of the team: those lanes are a set of their own.
    Team,
}

impl LaneUrgency {
    /// The value in the column `lanes.bulk`.
    pub(super) fn bulk(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::Bulk => 1,
            Self::Team => 2,
        }
    }
}

row! {
    /// The holder of a lane.
    pub(super) struct LaneHold {
        pub(super) is_claimed: bool = "claimed",
        pub(super) begun: Option<EventId> = "begun",
        pub(super) lease_until: Option<Timestamp> = "ready_at",
    }
}

impl LaneHold {
    /// `true` if an applier works on this event. A lease that has lapsed, or lies beyond its ceiling, does not count.
    pub(super) fn is_at_work_on(&self, id: EventId, now: Timestamp, ceilings: Ceilings) -> bool {
        let is_leased = self.lease_until.is_some_and(|until| !until.has_come(now, ceilings.work));
        self.is_claimed && self.begun == Some(id) && is_leased
    }
}

static LOCK: RowStatement = RowStatement::new(
    &["lane"],
    "SELECT 1 FROM {join}lanes WHERE lanes.lane = {lane} ORDER BY lanes.lane {lock lanes}",
);

/// Locks those lanes of these that exist, in their order: a transaction that locked some of them later, in an order of its own,
/// could wait for another that waits for it.
pub(super) async fn lock(tx: &mut Transaction<'_>, lanes: BTreeSet<&str>) -> Result<(), DbFault> {
    let mut rows = LOCK.rows(lanes.len());
    for lane in lanes {
        rows.bind(lane);
    }
    rows.execute(tx).await?;
    Ok(())
}

/// A lane that gets work.
#[derive(Clone, Copy)]
pub(super) struct ReadyLane<'a> {
    pub(super) lane: &'a str,
    pub(super) urgency: LaneUrgency,
    /// The time from which on it is work.
    pub(super) from: Timestamp,
}

static READY: RowStatement = RowStatement::new(
    &["lane", "fence", "claimed", "interrupted", "ready_at", "bulk"],
    "INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at, bulk) {rows} \
     ON CONFLICT (lane) DO UPDATE SET ready_at = CASE \
     WHEN lanes.claimed = 1 THEN lanes.ready_at \
     WHEN lanes.ready_at IS NOT NULL AND lanes.ready_at < excluded.ready_at THEN lanes.ready_at \
     ELSE excluded.ready_at END, bulk = CASE \
     WHEN excluded.bulk = 0 THEN 0 \
     WHEN excluded.bulk = 2 THEN 2 \
     WHEN lanes.ready_at IS NULL AND lanes.claimed = 0 THEN 1 \
     ELSE lanes.bulk END \
     WHERE (lanes.claimed = 0 AND (lanes.ready_at IS NULL OR lanes.ready_at > excluded.ready_at)) \
     OR (excluded.bulk = 0 AND lanes.bulk = 1)",
);

/// Makes lanes claimable now, except those that an applier works on: there the settling of its claim looks for the next head. A
/// new lane's fence begins at the present time, so that it repeats no fence of a lane of the same name from before its customer
/// was erased.
///
/// A live event makes the lane live, with all that is in it: one customer's events keep their order. An imported event makes a
/// lane yield only if nothing else is due in it. Nothing is written if nothing would change: most arrivals of a backlog find
/// their lane ready.
pub(super) async fn ready_lanes(tx: &mut Transaction<'_>, lanes: Vec<ReadyLane<'_>>) -> Result<(), DbFault> {
    let mut by_name: BTreeMap<&str, ReadyLane<'_>> = BTreeMap::new();
    for ready in lanes {
        let known = by_name.entry(ready.lane).or_insert(ready);
        known.from = known.from.min(ready.from);
        if member_of_lane(ready.lane).is_some() {
            known.urgency = LaneUrgency::Team;
        } else if ready.urgency == LaneUrgency::Live {
            known.urgency = LaneUrgency::Live;
        }
    }
    let mut rows = READY.rows(by_name.len());
    for ReadyLane { lane, urgency, from } in by_name.into_values() {
        rows.with((lane, from, false, false, from, urgency.bulk()));
    }
    rows.execute(tx).await?;
    Ok(())
}

/// As [`ready_lanes`], for live events.
pub(super) async fn ready_live_lanes<'a>(
    tx: &mut Transaction<'_>,
    lanes: impl IntoIterator<Item = &'a String>,
    from: Timestamp,
) -> Result<(), DbFault> {
    let live = |lane: &'a String| ReadyLane { lane, urgency: LaneUrgency::Live, from };
    ready_lanes(tx, lanes.into_iter().map(live).collect()).await
}

/// Makes a customer's lane due with its head, and a member's with the earliest of its pending events, since a leave is due although an
/// older event is in back-off: a claim passes the lane over if its head still waits. Without any, it waits for an arrival.
pub(super) async fn ready_for_head(tx: &mut Transaction<'_>, lane: &str) -> Result<(), DbFault> {
    let sql = match member_of_lane(lane) {
        None => {
            "UPDATE lanes SET ready_at = COALESCE(\
             (SELECT CASE WHEN state = 'pending' THEN due_at END FROM events WHERE id = lanes.begun), \
             (SELECT due_at FROM events WHERE lane = $1 AND state = (SELECT 'pending') ORDER BY time, id LIMIT 1)) \
             WHERE lane = $1"
        }
        Some(_) => {
            "UPDATE lanes SET ready_at = \
             (SELECT MIN(due_at) FROM events WHERE lane = $1 AND state = (SELECT 'pending')) WHERE lane = $1"
        }
    };
    query(sql).bind(lane).execute(tx).await?;
    Ok(())
}
