//! Lanes: one per customer, worked on by one claim at a time.
//!
//! Before: [`crate::store::inbox`] and [`crate::store::parking`] make a lane claimable. After: [`crate::store::claims`].

use super::db::{DbFault, query, row};
use super::moments::Ceilings;
use super::transaction::Transaction;
use crate::domain::customer::Customer;
use crate::domain::{EventId, Timestamp};

/// The urgency of an event: `Live` if a person may wait for its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneUrgency {
    /// The event came as it happened.
    Live,
    /// The event is one of many that were imported, and yields.
    Bulk,
}

impl LaneUrgency {
    /// The value in the column `lanes.bulk`.
    pub(super) fn bulk(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::Bulk => 1,
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

/// Makes a lane claimable now, unless an applier works on it: then the settling of its claim looks for the next head. A new
/// lane's fence begins at the present time, so that it repeats no fence of a lane of the same name from before its customer was
/// erased.
///
/// A live event makes the lane live, with all that is in it: one customer's events keep their order. An imported event makes a
/// lane yield only if nothing else is due in it. Nothing is written if nothing would change: most arrivals of a backlog find
/// their lane ready.
pub(super) async fn ready_lane(
    tx: &mut Transaction<'_>,
    lane: &str,
    urgency: LaneUrgency,
    now: Timestamp,
) -> Result<(), DbFault> {
    let sql = "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, ready_at, bulk) \
         VALUES ($1, '', $2, 0, 0, $2, $3) ON CONFLICT (lane) DO UPDATE SET ready_at = CASE \
         WHEN lanes.claimed = 1 THEN lanes.ready_at \
         WHEN lanes.ready_at IS NOT NULL AND lanes.ready_at < $2 THEN lanes.ready_at \
         ELSE $2 END, bulk = CASE \
         WHEN $3 = 0 THEN 0 \
         WHEN lanes.ready_at IS NULL AND lanes.claimed = 0 THEN 1 \
         ELSE lanes.bulk END \
         WHERE (lanes.claimed = 0 AND (lanes.ready_at IS NULL OR lanes.ready_at > $2)) OR ($3 = 0 AND lanes.bulk = 1)";
    query(sql).with((lane, now, urgency.bulk())).execute(tx).await?;
    Ok(())
}

/// Makes a lane due with its head; without a head, it waits for an arrival.
pub(super) async fn ready_for_head(tx: &mut Transaction<'_>, lane: &str) -> Result<(), DbFault> {
    let sql = "UPDATE lanes SET ready_at = COALESCE(\
         (SELECT due_at FROM events WHERE id = lanes.begun AND state = 'pending'), \
         (SELECT due_at FROM events WHERE lane = $1 AND state = 'pending' ORDER BY time, id LIMIT 1)) WHERE lane = $1";
    query(sql).bind(lane).execute(tx).await?;
    Ok(())
}

/// The stored form of a customer in a lane.
pub(super) struct StoredCustomer {
    pub(super) text: String,
    /// `true` if they are an active customer: the brake counts those.
    pub(super) is_active: bool,
}

impl StoredCustomer {
    pub(super) fn of(customer: &Customer) -> Self {
        let text = serde_json::to_string(customer).expect("a customer has only serialisable fields");
        Self { text, is_active: customer.facts.is_active() }
    }
}
