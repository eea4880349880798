//! Claims: the leased right to work on the head of a lane, in the order of the events' times.
//!
//! A claim is a lease with a fence. Its holder may call Podero without any transaction open; the result is recorded only if no
//! newer claim exists (the fence), so a worker that slept through its lease changes nothing. A claim that ends without a result
//! marks the lane interrupted: the next claim looks before it makes anything.
//!
//! Before: [`crate::store::lanes`]. After: [`crate::apply`], and [`crate::store::settlement`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::announcements::Announced;
use super::audit::{self, AuditRow};
use super::customers::{self, StateChange, StoredState};
use super::db::{DbFault, RowStatement, ours, query, row};
use super::error::Error;
use super::event_rows::INTERNAL;
use super::give_back::{GiveBack, Leased};
use super::handle::Store;
use super::lanes::{LaneUrgency, ready_for_head};
use super::moments::{Ceilings, Reach, work_ceiling};
use super::outbox::{self, NewNotice};
use super::transaction::{Transaction, Write};
use super::{announcements, pumps, team_lanes};
use crate::domain::brake::Clearance;
use crate::domain::event::{EventKind, Transport};
use crate::domain::identity::Actor;
use crate::domain::notice::Notice;
use crate::domain::plan::Work;
use crate::domain::verdict::{Reason, unreadable_notice};
use crate::domain::work::{ClaimedParts, LaneKind, LaneWork};
use crate::domain::{EventId, Stamp, Timestamp};

/// Limit of the lanes that one write finds held by a head in back-off before it gives up until the next step.
const LOOKS_MAX: usize = 256;

/// The right to work on one customer's, or one member's, next event.
#[derive(Debug)]
pub struct Claim<W = Work> {
    /// The event and everything needed to decide about it.
    pub work: W,
    /// The lane.
    pub lane: String,
    /// The fence: a result is recorded only under the newest one.
    pub fence: i64,
    /// The end of the lease: until then no other claim of the lane begins.
    pub lease_until: Timestamp,
    /// The subject's row; `None`: there is none, or a write of it was not answered.
    pub(super) stored: Option<StoredState>,
    /// Rows of the audit log that no write has made durable for certain.
    pub(super) acts: Vec<AuditRow>,
}

/// The outcome of recording a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The result is on disk.
    Recorded,
    /// A newer claim exists; the result was dropped, and nothing changed.
    Fenced,
}

impl Store {
    /// Claims the head of one due lane for `lease`; `None` when nothing is due. Two claims never overlap on a
    /// lane while the lease lasts. A crash afterwards costs the rest of the lease.
    pub async fn claim(&self, lease: Duration) -> Result<Option<Claim>, Error> {
        Ok(self.claims(1, lease).await?.pop())
    }

    /// As [`Store::claim`], for up to `limit` lanes in one write; empty when nothing is due.
    pub async fn claims(&self, limit: usize, lease: Duration) -> Result<Vec<Claim>, Error> {
        self.claims_of(limit, lease).await
    }

    /// As [`Store::claims`], for lanes of one kind.
    pub async fn claims_of<W: LaneWork>(&self, limit: usize, lease: Duration) -> Result<Vec<Claim<W>>, Error> {
        let now = self.clock.now();
        let until = now.plus(lease);
        loop {
            let found =
                self.write(TakeClaims { kind: W::LANES, now, until, limit, ceilings: self.ceilings.get() }).await?;
            let was_any = !found.is_empty();
            let (mut claims, mut failed) = (Vec::with_capacity(found.len()), None);
            for found in found {
                let Err(unreadable) = found.into_claim(now, until).map(|claim| claims.push(claim)) else { continue };
                // Another version wrote it, or it is damaged: a person must look at it, and it must not block its customer.
                let lane = unreadable.lane.clone();
                if let Err(error) = self.park_unreadable(unreadable, now).await {
                    self.give_back(GiveBack::of(Leased::Lanes, vec![lane], now, until));
                    failed = Some(error);
                }
            }
            match failed {
                Some(error) if claims.is_empty() => return Err(error),
                None if claims.is_empty() && was_any => {}
                Some(_) | None => return Ok(claims),
            }
        }
    }

    async fn park_unreadable(&self, event: Unreadable, now: Timestamp) -> Result<(), Error> {
        let place = &event.detail;
        tracing::error!(event.id = %event.id, place, "an event cannot be read by this version; it is parked");
        let notice = unreadable_notice(event.id, Reason::Unreadable, now);
        let seq = self.clock.fresh_id().to_string();
        self.write(ParkUnreadable { event, notice, seq, now }).await?;
        self.inner.uncounted.note_unreadable();
        Ok(())
    }

    /// Stores the customer in the middle of a claim, with the rows of the audit log so far, and extends its lease. After
    /// `Recorded`, a crash leaves the customer as it is now.
    pub async fn save<W: LaneWork>(&self, claim: &mut Claim<W>, lease: Duration) -> Result<Settled, Error> {
        let until = self.clock.now().plus(lease);
        let state = StoredState::of::<W>(claim.work.state());
        let change = state.clone().change_from(claim.stored.take().as_ref(), &self.inner.emails);
        // If the answer is lost, the rows keep their ids, so that none of them is written twice.
        claim.acts.extend(self.audit_rows(claim.work.acts().drain(..)));
        let acts = claim.acts.clone();
        let saved = self.write(Save { lane: claim.lane.clone(), fence: claim.fence, until, change, acts }).await?;
        claim.lease_until = until;
        claim.acts.clear();
        claim.stored = Some(state).filter(|_| saved == Settled::Recorded);
        Ok(saved)
    }

    /// Ends the claims of a process that died; call it once at the start, before anything is claimed. A process that works on a
    /// SQLite file has it for itself, so all claims in it belong to a dead process: they end after `pause` instead of with their
    /// leases. On PostgreSQL they may be another replica's, and nothing changes.
    pub async fn release_claims(&self, pause: Duration) -> Result<(), Error> {
        if self.inner.lock.is_none() {
            return Ok(());
        }
        let release = query("UPDATE lanes SET ready_at = $1 WHERE claimed = 1 AND ready_at > $1");
        self.change(release.bind(self.clock.now().plus(pause))).await?;
        Ok(())
    }
}

struct Save {
    lane: String,
    fence: i64,
    until: Timestamp,
    change: StateChange,
    acts: Vec<AuditRow>,
}

static EXTEND: RowStatement = RowStatement::new(
    &["lane", "fence", "until"],
    "UPDATE lanes SET ready_at = {until} {from} \
     WHERE lanes.lane = {lane} AND lanes.fence = {fence} AND lanes.claimed = 1 {written lanes.lane}",
);

impl Write for Save {
    type Output = Settled;

    fn lanes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.lane.as_str())
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Settled, DbFault> {
        Ok(Self::run_all(&[self], tx).await?.remove(0))
    }

    async fn run_all(writes: &[&Self], tx: &mut Transaction<'_>) -> Result<Vec<Settled>, DbFault> {
        // Of a lane's claims only the one with the highest fence can be the newest; of its saves the last one holds.
        let mut by_lane: BTreeMap<&str, &Save> = BTreeMap::new();
        for save in writes {
            let last = by_lane.entry(&save.lane).or_insert(save);
            if save.fence >= last.fence {
                *last = save;
            }
        }
        let mut rows = EXTEND.rows(by_lane.len());
        for save in by_lane.values() {
            rows.with((&save.lane, save.fence, save.until));
        }
        let is_extended = rows.written(&mut *tx).await?;
        let saved = by_lane.into_values().zip(is_extended).filter(|(_, is_extended)| *is_extended);
        let saved: Vec<&Save> = saved.map(|(save, _)| save).collect();
        customers::keep(tx, saved.iter().map(|save| (save.lane.as_str(), &save.change))).await?;
        audit::record(tx, saved.iter().flat_map(|save| &save.acts)).await?;
        let newest: HashSet<_> = saved.iter().map(|save| (&save.lane, save.fence)).collect();
        let outcome = |save: &&Save| match newest.contains(&(&save.lane, save.fence)) {
            true => Settled::Recorded,
            false => Settled::Fenced,
        };
        Ok(writes.iter().map(outcome).collect())
    }
}

struct TakeClaims {
    kind: LaneKind,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
    ceilings: Ceilings,
}

row! {
    /// A lane that looks due.
    struct DueLane {
        lane: String = "lane",
        fence: i64 = "fence",
        is_interrupted: bool = "interrupted",
        begun: Option<EventId> = "begun",
        is_claimed: bool = "claimed",
    }
}

row! {
    /// The event at the head of a lane, and the state of its customer.
    struct HeadRow {
        event: String = "event",
        tries_from: Timestamp = "tries_from",
        failures: u32 = "failures",
        failing_since: Option<Timestamp> = "failing_since",
        due_at: Timestamp = "due_at",
        id: EventId = "id",
        time: Timestamp = "time",
        change: Option<String> = "change",
        said_at: Option<Timestamp> = "said_at",
        type_name: String = "type",
        clearance: Option<String> = "clearance",
        source: String = "source",
        transport: String = "transport",
        customer: Option<String> = "customers.state",
    }
}

/// A lane that was claimed, with its head.
struct ClaimedLane {
    lane: String,
    fence: i64,
    was_interrupted: bool,
    head: HeadRow,
    /// The records of the customer's heat pumps.
    seen: Vec<String>,
    /// The joins that a leave overtakes.
    overtaken: Vec<String>,
}

impl HeadRow {
    /// `true` for a leave, before which older events of its member do not come.
    fn is_leave(&self) -> bool {
        self.type_name == EventKind::MemberLeft.name()
    }

    fn stamp(&self) -> Stamp {
        Stamp { time: self.time, event: self.id }
    }
}

/// The state of a lane after a look at its head.
struct Hold {
    lane: DueLane,
    is_claimed: bool,
    ready_at: Option<Timestamp>,
    begun: Option<EventId>,
    /// The head, if the lane is claimed.
    head: Option<HeadRow>,
    /// `true` if the head was ended, so that the next one is looked for.
    is_ended: bool,
}

impl Hold {
    /// The lane is left until `ready_at`.
    fn passed_over(lane: DueLane, ready_at: Option<Timestamp>) -> Self {
        let begun = lane.begun;
        Self { lane, is_claimed: false, ready_at, begun, head: None, is_ended: false }
    }
}

impl Write for TakeClaims {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<ClaimedLane>;

    fn weight(&self) -> usize {
        self.limit
    }

    fn give_back(&self, claimed: &Self::Output) -> Option<GiveBack> {
        let lanes = claimed.iter().map(|claimed| claimed.lane.clone()).collect();
        GiveBack::of(Leased::Lanes, lanes, self.now, self.until)
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        let mut all = Vec::with_capacity(self.limit);
        let mut passed_over = 0;
        while all.len() < self.limit && passed_over < LOOKS_MAX {
            let (wanted, passed_over_before) = (self.limit - all.len(), passed_over);
            let lanes = self.due(wanted, tx).await?;
            let is_last = lanes.len() < wanted;
            let found = lanes.len();
            let claimed = self.claim(tx, lanes).await?;
            passed_over += found - claimed.len();
            all.extend(claimed);
            // A lane that was passed over may be due again by its next head.
            if is_last && passed_over == passed_over_before {
                break;
            }
        }
        Ok(all)
    }
}

impl TakeClaims {
    fn urgencies(&self) -> &'static [LaneUrgency] {
        match self.kind {
            LaneKind::Customers => &[LaneUrgency::Live, LaneUrgency::Bulk],
            LaneKind::Members => &[LaneUrgency::Team],
        }
    }

    /// Up to `limit` lanes, those first that have been due for longest. Lanes with only imported work come only if no other is
    /// due.
    async fn due(&self, limit: usize, tx: &mut Transaction<'_>) -> Result<Vec<DueLane>, DbFault> {
        let mut lanes = Vec::new();
        for urgency in self.urgencies().iter().copied() {
            for reach in Reach::BOTH {
                if lanes.len() == limit {
                    return Ok(lanes);
                }
                let look = DueLook { urgency, reach, limit: limit - lanes.len(), ceiling: self.ceilings.work };
                let mut due = self.due_of(look, tx).await?;
                // Looks for a pause only if a lane lies this far ahead.
                if reach == Reach::Beyond && !due.is_empty() {
                    let ceiling = work_ceiling(&mut *tx, self.now, self.ceilings).await?;
                    if ceiling > self.ceilings.work {
                        due = self.due_of(DueLook { ceiling, ..look }, tx).await?;
                    }
                }
                lanes.extend(due);
            }
        }
        Ok(lanes)
    }

    async fn due_of(&self, look: DueLook, tx: &mut Transaction<'_>) -> Result<Vec<DueLane>, DbFault> {
        // The literal kind lets the index serve both the search and its order.
        let due = ours(format!(
            "SELECT {columns} FROM lanes WHERE bulk = {} AND ready_at {compares} $1 ORDER BY ready_at LIMIT $2{}",
            look.urgency.bulk(),
            tx.db.skip_locked(),
            columns = DueLane::COLUMNS,
            compares = look.reach.compares(),
        ));
        query(due).with((look.reach.bound(self.now, look.ceiling), look.limit)).fetch_all(tx).await
    }

    /// `true` if the time of a customer's next event has come.
    async fn has_come(&self, tx: &mut Transaction<'_>, due: Timestamp) -> Result<bool, DbFault> {
        if due <= self.now || !due.has_come(self.now, self.ceilings.work) {
            return Ok(due <= self.now);
        }
        Ok(due.has_come(self.now, work_ceiling(&mut *tx, self.now, self.ceilings).await?))
    }

    /// Claims lanes that were found, and returns those that have work. The others are passed over: a newer arrival makes a lane
    /// look due although its head is in back-off and holds it. Either way an earlier claim is fenced.
    async fn claim(&self, tx: &mut Transaction<'_>, found: Vec<DueLane>) -> Result<Vec<ClaimedLane>, DbFault> {
        let mut heads = heads_of(tx, self.kind, &found).await?;
        let mut holds = Vec::with_capacity(found.len());
        for lane in found {
            let head = heads.remove(&lane.lane);
            holds.push(self.hold(tx, lane, head).await?);
        }
        keep_holds(tx, &holds).await?;
        for hold in holds.iter().filter(|hold| hold.is_ended) {
            ready_for_head(tx, &hold.lane.lane).await?;
        }
        let lanes = holds.iter().filter(|hold| hold.is_claimed).map(|hold| hold.lane.lane.as_str()).collect();
        let mut seen = pumps::seen_of(&mut *tx, lanes).await?;
        let mut claimed = Vec::with_capacity(holds.len());
        for Hold { lane, head, .. } in holds {
            let Some(head) = head else { continue };
            let overtaken = match head.is_leave() {
                true => team_lanes::waiting_joins(&mut *tx, &lane.lane, head.stamp()).await?,
                false => Vec::new(),
            };
            let DueLane { lane, fence, is_interrupted, is_claimed, .. } = lane;
            let seen = seen.remove(&lane).unwrap_or_default();
            let was_interrupted = is_interrupted || is_claimed;
            claimed.push(ClaimedLane { lane, fence: fence + 1, was_interrupted, head, seen, overtaken });
        }
        Ok(claimed)
    }

    /// The state of a lane, by its head.
    async fn hold(&self, tx: &mut Transaction<'_>, lane: DueLane, head: Option<HeadRow>) -> Result<Hold, DbFault> {
        let due = head.as_ref().map(|head| head.due_at);
        let is_due = match due {
            Some(due) => self.has_come(tx, due).await?,
            None => false,
        };
        let Some(head) = head.filter(|_| is_due) else { return Ok(Hold::passed_over(lane, due)) };
        // An event that was begun may have made something that only it knows of, so it is finished.
        if lane.begun != Some(head.id) && self.was_replaced(tx, &lane.lane, &head).await? {
            return Ok(Hold { is_ended: true, ..Hold::passed_over(lane, None) });
        }
        let begun = Some(head.id);
        Ok(Hold { lane, is_claimed: true, ready_at: Some(self.until), begun, head: Some(head), is_ended: false })
    }

    async fn was_replaced(&self, tx: &mut Transaction<'_>, lane: &str, head: &HeadRow) -> Result<bool, DbFault> {
        let said_at = head.said_at.filter(|said_at| *said_at < head.time);
        let (Some(change), Some(said_at)) = (head.change.as_deref(), said_at) else { return Ok(false) };
        announcements::is_replaced(tx, &Announced { lane, change, id: head.id, said_at }, self.now).await
    }
}

/// The lanes to look for.
#[derive(Clone, Copy)]
struct DueLook {
    urgency: LaneUrgency,
    reach: Reach,
    limit: usize,
    ceiling: Duration,
}

static HEADS: RowStatement = RowStatement::selecting(
    &["lane"],
    HeadRow::COLUMNS,
    "SELECT {lane}, head.* FROM {join}{lateral} (SELECT {selected} FROM events \
     LEFT JOIN customers ON customers.lane = events.lane \
     WHERE events.lane = {lane} AND events.state = (SELECT 'pending') ORDER BY events.time, events.id LIMIT 1) AS head",
);

static BEGUN: RowStatement = RowStatement::selecting(
    &["begun", "of_lane"],
    HeadRow::COLUMNS,
    "SELECT {of_lane}, {selected} FROM {join}events LEFT JOIN customers ON customers.lane = events.lane \
     WHERE events.id = {begun} AND COALESCE(events.state, '') = 'pending'",
);

/// As [`HEADS`], of members, whose columns stand under the same name. A leave comes before all others, the newest first, of two of one
/// time the one that arrived later: also one that is in back-off, so that no older event is worked on in between.
static MEMBER_HEADS: RowStatement = RowStatement::selecting(
    &["lane"],
    HeadRow::COLUMNS,
    "SELECT {lane}, head.* FROM {join}{lateral} (SELECT {selected} FROM events \
     LEFT JOIN members AS customers ON customers.lane = events.lane \
     WHERE events.lane = {lane} AND events.state = (SELECT 'pending') \
     ORDER BY CASE WHEN events.type = 'team.member_left' THEN -events.time ELSE NULL END NULLS LAST, \
     CASE WHEN events.type = 'team.member_left' THEN events.id ELSE NULL END DESC NULLS LAST, events.time, events.id \
     LIMIT 1) AS head",
);

/// As [`BEGUN`], of members.
static MEMBER_BEGUN: RowStatement = RowStatement::selecting(
    &["begun", "of_lane"],
    HeadRow::COLUMNS,
    "SELECT {of_lane}, {selected} FROM {join}events LEFT JOIN members AS customers ON customers.lane = events.lane \
     WHERE events.id = {begun} AND COALESCE(events.state, '') = 'pending'",
);

/// The events to be worked on next: the one that was begun, else the first by time and arrival. A begun event is finished before
/// an older one that arrived later: it may have made something at Podero that only it knows to look for. A member's does not wait so:
/// each claim of a member looks first, and a leave comes before.
///
/// The state of the customer is read here too, in a statement after the one that locked the lane: on PostgreSQL that one would show
/// it as it was before another replica's claim ended.
async fn heads_of(
    tx: &mut Transaction<'_>,
    kind: LaneKind,
    lanes: &[DueLane],
) -> Result<HashMap<String, HeadRow>, DbFault> {
    let (first, in_work) = match kind {
        LaneKind::Customers => (&HEADS, &BEGUN),
        LaneKind::Members => (&MEMBER_HEADS, &MEMBER_BEGUN),
    };
    let mut rows = first.rows(lanes.len());
    for found in lanes {
        rows.bind(&found.lane);
    }
    let mut heads: HashMap<String, HeadRow> = rows.fetch_all(&mut *tx).await?.into_iter().collect();
    let mut rows = in_work.rows(0);
    for DueLane { lane, begun, .. } in lanes {
        if let Some(begun) =
            begun.filter(|begun| heads.get(lane).is_none_or(|head| head.id != *begun && !head.is_leave()))
        {
            rows.with((begun, lane));
        }
    }
    heads.extend(rows.fetch_all::<(String, HeadRow)>(tx).await?);
    Ok(heads)
}

static HOLD: RowStatement = RowStatement::new(
    &["lane", "is_claimed", "ready_at", "begun"],
    "UPDATE lanes SET fence = lanes.fence + 1, \
     interrupted = CASE WHEN lanes.claimed = 1 THEN 1 ELSE lanes.interrupted END, \
     claimed = {is_claimed}, ready_at = {ready_at}, begun = {begun} {from} WHERE lanes.lane = {lane}",
);

async fn keep_holds(tx: &mut Transaction<'_>, holds: &[Hold]) -> Result<(), DbFault> {
    let mut rows = HOLD.rows(holds.len());
    let mut by_lane: Vec<&Hold> = holds.iter().collect();
    by_lane.sort_by(|one, other| one.lane.lane.cmp(&other.lane.lane));
    for hold in by_lane {
        rows.with((&hold.lane.lane, hold.is_claimed, hold.ready_at, hold.begun));
    }
    rows.execute(tx).await?;
    Ok(())
}

impl ClaimedLane {
    /// The error names the position that cannot be read, and quotes nothing.
    fn into_claim<W: LaneWork>(self, now: Timestamp, lease_until: Timestamp) -> Result<Claim<W>, Unreadable> {
        let Self { lane, fence, head, .. } = self;
        let read = || -> Result<(W::Event, W::State), serde_json::Error> {
            let state = match head.customer.as_deref() {
                None => W::State::default(),
                Some(text) => serde_json::from_str(text)?,
            };
            Ok((serde_json::from_str(&head.event)?, state))
        };
        let (event, state) = match read() {
            Ok(read) => read,
            Err(error) => {
                let detail = format!("stored form, column {}", error.column());
                return Err(Unreadable { lane, fence, id: head.id, detail });
            }
        };
        let stored = head.customer.map(|text| StoredState { text, columns: W::columns(&state) });
        let claimed = ClaimedParts {
            tries_from: head.tries_from.no_later_than(now),
            failures: head.failures,
            failing_since: head.failing_since.map(|since| since.no_later_than(now)),
            clearance: Clearance::from_name(head.clearance.as_deref()),
            actor: actor_of(&head.transport, head.source),
            was_interrupted: self.was_interrupted,
            seen: self.seen.iter().filter_map(|text| pumps::legible(text)).collect(),
            // One that this version cannot read is parked when its turn comes.
            overtaken: self.overtaken.iter().filter_map(|text| serde_json::from_str(text).ok()).collect(),
        };
        Ok(Claim { work: W::begin(event, state, claimed), lane, fence, lease_until, stored, acts: Vec::new() })
    }
}

/// The actor behind an event.
fn actor_of(transport: &str, source: String) -> Actor {
    match transport {
        INTERNAL => Actor::Bridge,
        _ if transport == Transport::Scim.name() => Actor::Scim(source),
        _ => Actor::Source(source),
    }
}

/// A claimed event that this version cannot read.
struct Unreadable {
    lane: String,
    fence: i64,
    id: EventId,
    detail: String,
}

struct ParkUnreadable {
    event: Unreadable,
    notice: Notice,
    seq: String,
    now: Timestamp,
}

impl Write for ParkUnreadable {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let Unreadable { lane, fence, id, detail } = &self.event;
        let release = query("UPDATE lanes SET claimed = 0 WHERE lane = $1 AND fence = $2").with((lane, *fence));
        if release.execute(&mut *tx).await? == 0 {
            return Ok(());
        }
        query("UPDATE events SET state = 'parked', reason = $2, detail = $3, settled_at = $4, clearance = NULL WHERE id = $1")
            .with((*id, Reason::Unreadable, detail, self.now))
            .execute(&mut *tx)
            .await?;
        let new = NewNotice { notice: &self.notice, customer: Some(lane), seq: &self.seq, at: self.now };
        outbox::insert(tx, new).await?;
        ready_for_head(tx, lane).await
    }
}
