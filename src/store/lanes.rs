//! Lanes: one per customer, worked on by one claim at a time, in the order of what happened.
//!
//! A claim is a lease with a fence. Whoever claims may call Podero without any transaction open; what it
//! found out is recorded only if no newer claim exists (the fence), so a worker that slept through its lease
//! changes nothing. A claim that ends without a result marks the lane interrupted: the next one looks before
//! it makes anything.
//!
//! Before: [`crate::store::inbox`]. After: [`crate::apply`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use super::announcements;
use super::closed_sets::{RowKind, Target};
use super::db::{Connection, Db, Fault, ours, query, row};
use super::moments::{Ceilings, Reach, work_ceiling};
use super::outbox;
use super::roster;
use super::writer::Write;
use super::{Error, Store};
use crate::domain::brake::Clearance;
use crate::domain::call::Operation;
use crate::domain::customer::Customer;
use crate::domain::event::{Event, EventState};
use crate::domain::notice::Notice;
use crate::domain::plan::Work;
use crate::domain::verdict::{Fate, Reason, Verdict, unreadable_notice};
use crate::domain::{EventId, Timestamp};

/// Events that become due in one go; the rest follow at the next step.
const PROMOTED_MAX: usize = 500;

/// Lanes that one write may find held by a head in back-off before it gives up until the next step.
const LOOKS_MAX: usize = 256;

/// Why an event that was claimed is superseded: something newer says otherwise, and `detail` names it.
const NEWER: &str = "newer";

/// Whether somebody waits for the effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It comes as it happens.
    Live,
    /// It is one of many that were imported, and yields.
    Bulk,
}

impl Urgency {
    /// As `lanes.bulk` has it.
    pub(super) fn bulk(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::Bulk => 1,
        }
    }
}

row! {
    /// Who has a lane.
    pub(super) struct LaneHold {
        pub(super) is_claimed: bool = "claimed",
        pub(super) begun: Option<EventId> = "begun",
        pub(super) lease_until: Option<Timestamp> = "ready_at",
    }
}

impl LaneHold {
    /// Whether an applier works on this event. A lease that has lapsed, or lies beyond its ceiling, does not count.
    pub(super) fn is_at_work_on(&self, id: EventId, now: Timestamp, ceilings: Ceilings) -> bool {
        let is_leased = self.lease_until.is_some_and(|until| !until.has_come(now, ceilings.work));
        self.is_claimed && self.begun == Some(id) && is_leased
    }
}

/// The right to work on one customer's next event.
#[derive(Debug)]
pub struct Claim {
    /// The event and everything needed to decide about it.
    pub work: Work,
    /// Whose lane it is.
    pub lane: String,
    /// A result is recorded only under the newest fence.
    pub fence: i64,
    /// Until then nobody else claims the lane.
    pub lease_until: Timestamp,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is on disk.
    Recorded,
    /// A newer claim exists; the result was dropped, and nothing changed.
    Fenced,
}

/// One call that was made, for the timeline.
#[derive(Debug, Clone)]
pub struct CallMade {
    /// Sorts by time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Which.
    pub operation: Operation,
    /// What Podero answered, free of personal data.
    pub outcome: String,
    /// How long it took.
    pub took: Duration,
    /// The key that went with it.
    pub idempotency_key: Option<Uuid>,
}

impl Store {
    /// Claims the head of one due lane for `lease`; `None` when nothing is due. Two claims never overlap on a
    /// lane while the lease lasts. A crash afterwards costs the rest of the lease.
    pub async fn claim(&self, lease: Duration) -> Result<Option<Claim>, Error> {
        Ok(self.claims(1, lease).await?.pop())
    }

    /// [`Store::claim`] of up to `limit` lanes, in one write; none when nothing is due.
    pub async fn claims(&self, limit: usize, lease: Duration) -> Result<Vec<Claim>, Error> {
        let now = self.0.clock.now();
        loop {
            let found =
                self.write(TakeClaims { now, until: now.plus(lease), limit, ceilings: self.0.ceilings.get() }).await?;
            let was_any = !found.is_empty();
            let mut claims = Vec::with_capacity(found.len());
            for found in found {
                match found.into_claim(now, now.plus(lease)) {
                    Ok(claim) => claims.push(claim),
                    // Written by another version, or damaged: for a person, and out of its customer's way.
                    Err(unreadable) => self.park_unreadable(unreadable, now).await?,
                }
            }
            if !claims.is_empty() || !was_any {
                return Ok(claims);
            }
        }
    }

    async fn park_unreadable(&self, event: Unreadable, now: Timestamp) -> Result<(), Error> {
        let place = &event.detail;
        tracing::error!(event.id = %event.id, place, "an event cannot be read by this version; it is parked");
        let notice = unreadable_notice(event.id, Reason::Unreadable, now);
        let (seq, targets) = (self.0.clock.fresh_id().to_string(), self.0.targets.clone());
        self.write(ParkUnreadable { event, notice, seq, targets, now }).await?;
        self.0.unreadable.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the customer down in the middle of a claim and extends its lease. After `Recorded` a crash finds
    /// the customer as it is now.
    pub async fn save(&self, claim: &mut Claim, lease: Duration) -> Result<Settled, Error> {
        let until = self.0.clock.now().plus(lease);
        let customer = Stored::of(&claim.work.customer);
        let save = Save { lane: claim.lane.clone(), fence: claim.fence, customer, until };
        let settled = self.write(save).await?;
        claim.lease_until = until;
        Ok(settled)
    }

    /// Ends a claim: event, customer, calls, notices and alerts, in one transaction, or nothing at all. A claim that is
    /// ended already is fenced, so that a write whose answer was lost may be repeated.
    pub async fn settle(
        &self,
        claim: &Claim,
        verdict: impl Into<Arc<Verdict>>,
        calls: impl Into<Arc<[CallMade]>>,
    ) -> Result<Settled, Error> {
        let (clock, verdict, calls) = (&self.0.clock, verdict.into(), calls.into());
        let places = (0..verdict.notices.len() + verdict.seen.len()).map(|_| clock.fresh_id().to_string()).collect();
        self.write(Settle {
            event: claim.work.event.id,
            lane: claim.lane.clone(),
            fence: claim.fence,
            customer: Stored::of(&verdict.customer),
            verdict,
            calls,
            now: clock.now(),
            targets: self.0.targets.clone(),
            places,
        })
        .await
    }

    /// To be called once at the start, before anything is claimed. Who works on a SQLite file has it for itself, so the
    /// claims in it belong to a process that died: they end after `pause` instead of with their leases. On PostgreSQL they
    /// may be another replica's, and nothing changes.
    pub async fn release_claims(&self, pause: Duration) -> Result<(), Error> {
        if self.0.lock.is_none() {
            return Ok(());
        }
        self.write(ReleaseAll { at: self.0.clock.now().plus(pause) }).await
    }

    /// Makes events whose day has come, or whose wait is over, claimable. Returns how many.
    pub async fn promote(&self) -> Result<usize, Error> {
        let clock = &self.0.clock;
        self.write(Promote { now: clock.now(), day: clock.steady_now(), ceilings: self.0.ceilings.get() }).await
    }
}

struct ReleaseAll {
    at: Timestamp,
}

impl Write for ReleaseAll {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("UPDATE lanes SET ready_at = $1 WHERE claimed = 1 AND ready_at > $1")
            .bind(self.at)
            .execute(connection)
            .await?;
        Ok(())
    }
}

struct TakeClaims {
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
        customer: String = "customer",
        begun: Option<EventId> = "begun",
        is_claimed: bool = "claimed",
    }
}

row! {
    /// The event at the head of a lane.
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
        clearance: Option<String> = "clearance",
    }
}

/// A lane that was claimed, with its head.
struct ClaimedLane {
    lane: String,
    fence: i64,
    was_interrupted: bool,
    customer: String,
    head: HeadRow,
    /// What is remembered of the customer's heat pumps.
    seen: Vec<String>,
}

/// What a claim leaves in a lane.
struct Hold {
    is_claimed: bool,
    ready_at: Option<Timestamp>,
    begun: Option<EventId>,
}

impl Write for TakeClaims {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<ClaimedLane>;

    fn weight(&self) -> usize {
        self.limit
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        let mut all = Vec::with_capacity(self.limit);
        let mut passed_over = 0;
        while all.len() < self.limit && passed_over < LOOKS_MAX {
            let (wanted, passed_over_before) = (self.limit - all.len(), passed_over);
            let lanes = self.due(wanted, db, connection).await?;
            let is_last = lanes.len() < wanted;
            for lane in lanes {
                match self.head(connection, lane).await? {
                    Some(found) => all.push(found),
                    None => passed_over += 1,
                }
            }
            // One that was passed over may be due again by its next head.
            if is_last && passed_over == passed_over_before {
                break;
            }
        }
        Ok(all)
    }
}

impl TakeClaims {
    /// Up to `limit` lanes, those first that have been due for longest, and such with nothing but imported work only where
    /// no other is due.
    async fn due(&self, limit: usize, db: &Db, connection: &mut Connection) -> Result<Vec<DueLane>, Fault> {
        let mut lanes = Vec::new();
        for urgency in [Urgency::Live, Urgency::Bulk] {
            for reach in Reach::BOTH {
                if lanes.len() == limit {
                    return Ok(lanes);
                }
                let look = DueLook { urgency, reach, limit: limit - lanes.len(), ceiling: self.ceilings.work };
                let mut due = self.due_of(look, db, connection).await?;
                // A pause is looked for only where something lies so far ahead.
                if reach == Reach::Beyond && !due.is_empty() {
                    let ceiling = work_ceiling(connection, self.now, self.ceilings).await?;
                    if ceiling > self.ceilings.work {
                        due = self.due_of(DueLook { ceiling, ..look }, db, connection).await?;
                    }
                }
                lanes.extend(due);
            }
        }
        Ok(lanes)
    }

    async fn due_of(&self, look: DueLook, db: &Db, connection: &mut Connection) -> Result<Vec<DueLane>, Fault> {
        // The kind is written out, so that the index serves the look at it and its order.
        let due = ours(format!(
            "SELECT {columns} FROM lanes WHERE bulk = {} AND ready_at {compares} $1 ORDER BY ready_at LIMIT $2{}",
            look.urgency.bulk(),
            db.skip_locked(),
            columns = DueLane::COLUMNS,
            compares = look.reach.compares(),
        ));
        query(due).with((look.reach.bound(self.now, look.ceiling), look.limit)).fetch_all(connection).await
    }

    /// Whether the time of a customer's next event has come.
    async fn has_come(&self, connection: &mut Connection, due: Timestamp) -> Result<bool, Fault> {
        if due <= self.now || !due.has_come(self.now, self.ceilings.work) {
            return Ok(due <= self.now);
        }
        Ok(due.has_come(self.now, work_ceiling(connection, self.now, self.ceilings).await?))
    }

    /// What is to be done in a lane that was found; `None` passes it over, since a newer arrival makes a lane look due
    /// although its head is in back-off and holds it. Either way an earlier claim is fenced.
    async fn head(&self, connection: &mut Connection, found: DueLane) -> Result<Option<ClaimedLane>, Fault> {
        let DueLane { lane, fence, is_interrupted, customer, begun, is_claimed } = found;
        let head = head_of(connection, &lane, begun).await?;
        let due = head.as_ref().map(|head| head.due_at);
        let is_due = match due {
            Some(due) => self.has_come(connection, due).await?,
            None => false,
        };
        let Some(head) = head.filter(|_| is_due) else {
            self.hold(connection, &lane, Hold { is_claimed: false, ready_at: due, begun }).await?;
            return Ok(None);
        };
        // What was begun may have made something that only it knows of, and is finished.
        if begun != Some(head.id) && self.was_replaced(connection, &lane, &head).await? {
            self.hold(connection, &lane, Hold { is_claimed: false, ready_at: None, begun }).await?;
            ready_for_head(connection, &lane).await?;
            return Ok(None);
        }
        let hold = Hold { is_claimed: true, ready_at: Some(self.until), begun: Some(head.id) };
        self.hold(connection, &lane, hold).await?;
        let seen = roster::seen_of(connection, &lane).await?;
        let was_interrupted = is_interrupted || is_claimed;
        Ok(Some(ClaimedLane { lane, fence: fence + 1, was_interrupted, customer, head, seen }))
    }

    async fn hold(&self, connection: &mut Connection, lane: &str, hold: Hold) -> Result<(), Fault> {
        query(
            "UPDATE lanes SET fence = fence + 1, interrupted = CASE WHEN claimed = 1 THEN 1 ELSE interrupted END, \
             claimed = $2, ready_at = $3, begun = $4 WHERE lane = $1",
        )
        .with((lane, hold.is_claimed, hold.ready_at, hold.begun))
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn was_replaced(&self, connection: &mut Connection, lane: &str, head: &HeadRow) -> Result<bool, Fault> {
        let (id, time, change, said_at) = (head.id, head.time, head.change.as_deref(), head.said_at);
        announcements::is_replaced(connection, &announcements::Head { lane, id, time, change, said_at }, self.now).await
    }
}

/// Which lanes are looked for.
#[derive(Clone, Copy)]
struct DueLook {
    urgency: Urgency,
    reach: Reach,
    limit: usize,
    ceiling: Duration,
}

/// The event to be worked on next: the one that was begun, else the first by time and arrival. What was begun is
/// finished before something older that came later: it may have made something at Podero that only it knows to look for.
async fn head_of(connection: &mut Connection, lane: &str, begun: Option<EventId>) -> Result<Option<HeadRow>, Fault> {
    if let Some(begun) = begun {
        let head = ours(format!("SELECT {} FROM events WHERE id = $1 AND state = 'pending'", HeadRow::COLUMNS));
        let head = query(head).bind(begun).fetch_optional(&mut *connection).await?;
        if head.is_some() {
            return Ok(head);
        }
    }
    let head = ours(format!(
        "SELECT {} FROM events WHERE lane = $1 AND state = 'pending' ORDER BY time, id LIMIT 1",
        HeadRow::COLUMNS
    ));
    query(head).bind(lane).fetch_optional(connection).await
}

impl ClaimedLane {
    /// The error says where it cannot be read, and not what stands there.
    fn into_claim(self, now: Timestamp, lease_until: Timestamp) -> Result<Claim, Unreadable> {
        let Self { lane, fence, head, .. } = self;
        let read = || -> Result<(Event, Customer), serde_json::Error> {
            let customer = match self.customer.as_str() {
                "" => Customer::default(),
                text => serde_json::from_str(text)?,
            };
            Ok((serde_json::from_str(&head.event)?, customer))
        };
        let (event, mut customer) = match read() {
            Ok(read) => read,
            Err(error) => {
                let detail = format!("stored form, column {}", error.column());
                return Err(Unreadable { lane, fence, id: head.id, detail });
            }
        };
        customer.begin(self.was_interrupted);
        let mut work = Work::new(event, head.tries_from.no_later_than(now), customer);
        work.failures = head.failures;
        work.failing_since = head.failing_since.map(|since| since.no_later_than(now));
        work.clearance = Clearance::from_name(head.clearance.as_deref());
        work.seen = self.seen.iter().filter_map(|text| roster::legible(text)).collect();
        Ok(Claim { work, lane, fence, lease_until })
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
    targets: Vec<Target>,
    now: Timestamp,
}

impl Write for ParkUnreadable {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        let Unreadable { lane, fence, id, detail } = &self.event;
        let release = query("UPDATE lanes SET claimed = 0 WHERE lane = $1 AND fence = $2").with((lane, *fence));
        if release.execute(&mut *connection).await? == 0 {
            return Ok(());
        }
        query("UPDATE events SET state = 'parked', reason = $2, detail = $3, settled_at = $4, clearance = NULL WHERE id = $1")
            .with((*id, Reason::Unreadable, detail, self.now))
            .execute(&mut *connection)
            .await?;
        outbox::insert(connection, &self.notice, Some(lane), &self.targets, &self.seq, self.now).await?;
        ready_for_head(connection, lane).await
    }
}

/// Makes a lane claimable now, unless somebody works on it: then its settling looks for the next head. A new lane's
/// fence begins at the moment, so that none repeats that a lane of the same name had before its customer was erased.
///
/// What is live makes the lane live, with all that is in it: one customer's events keep their order. What is imported
/// makes a lane yield only where nothing else is due in it. What would change nothing is not written: most arrivals of a
/// backlog find their lane ready.
pub(super) async fn ready_lane(
    connection: &mut Connection,
    lane: &str,
    urgency: Urgency,
    now: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, ready_at, bulk) \
         VALUES ($1, '', $2, 0, 0, $2, $3) ON CONFLICT (lane) DO UPDATE SET ready_at = CASE \
         WHEN lanes.claimed = 1 THEN lanes.ready_at \
         WHEN lanes.ready_at IS NOT NULL AND lanes.ready_at < $2 THEN lanes.ready_at \
         ELSE $2 END, bulk = CASE \
         WHEN $3 = 0 THEN 0 \
         WHEN lanes.ready_at IS NULL AND lanes.claimed = 0 THEN 1 \
         ELSE lanes.bulk END \
         WHERE (lanes.claimed = 0 AND (lanes.ready_at IS NULL OR lanes.ready_at > $2)) OR ($3 = 0 AND lanes.bulk = 1)",
    )
    .with((lane, now, urgency.bulk()))
    .execute(connection)
    .await?;
    Ok(())
}

/// A lane may be claimed again when its head is due; with no head, when something arrives.
async fn ready_for_head(connection: &mut Connection, lane: &str) -> Result<(), Fault> {
    query(
        "UPDATE lanes SET ready_at = COALESCE(\
         (SELECT due_at FROM events WHERE id = lanes.begun AND state = 'pending'), \
         (SELECT due_at FROM events WHERE lane = $1 AND state = 'pending' ORDER BY time, id LIMIT 1)) WHERE lane = $1",
    )
    .bind(lane)
    .execute(connection)
    .await?;
    Ok(())
}

struct Save {
    lane: String,
    fence: i64,
    customer: Stored,
    until: Timestamp,
}

impl Write for Save {
    type Output = Settled;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Settled, Fault> {
        let saved = query(
            "UPDATE lanes SET customer = $3, active = $5, ready_at = $4 WHERE lane = $1 AND fence = $2 AND claimed = 1",
        )
        .with((&self.lane, self.fence, &self.customer.text, self.until, self.customer.is_active))
        .execute(connection)
        .await?;
        Ok(if saved == 1 { Settled::Recorded } else { Settled::Fenced })
    }
}

struct Settle {
    event: EventId,
    lane: String,
    fence: i64,
    customer: Stored,
    verdict: Arc<Verdict>,
    calls: Arc<[CallMade]>,
    now: Timestamp,
    targets: Vec<Target>,
    places: Vec<String>,
}

impl Write for Settle {
    type Output = Settled;

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Settled, Fault> {
        let ours =
            ours(format!("SELECT 1 FROM lanes WHERE lane = $1 AND fence = $2 AND claimed = 1{}", db.for_update()));
        let is_newest = query(ours).with((&self.lane, self.fence)).finds(&mut *connection).await?;
        if !is_newest {
            return Ok(Settled::Fenced);
        }
        self.settle_event(connection).await?;
        self.keep_calls(connection).await?;
        let mut places = self.places.iter();
        let mut place = || places.next().map_or("", String::as_str);
        for notice in &self.verdict.notices {
            outbox::insert(connection, notice, Some(&self.lane), &self.targets, place(), self.now).await?;
        }
        for change in &self.verdict.seen {
            roster::end(connection, change, &self.targets, place(), self.now).await?;
        }
        if let Some(event) = &self.verdict.follow_up {
            self.follow_up(connection, event).await?;
        }
        if self.verdict.wakes_waiting {
            self.wake_waiting(connection).await?;
        }
        self.release(connection).await?;
        Ok(Settled::Recorded)
    }
}

impl Settle {
    /// The customer as it is now, and the lane free again, as by [`ready_for_head`]: in one write, since the row is as large
    /// as the customer.
    async fn release(&self, connection: &mut Connection) -> Result<(), Fault> {
        // An event that has ended for good is never claimed again, so no look-up comes first. A churn that the brake refused was not
        // begun, and a later word may replace it when it is retried.
        let is_over = match &self.verdict.fate {
            Fate::Applied { .. } | Fate::Superseded => true,
            Fate::Parked { reason, .. } => reason.is_approvable(),
            Fate::Waiting { .. } | Fate::Retry { .. } => false,
        };
        query(
            "UPDATE lanes SET customer = $2, active = $4, claimed = 0, interrupted = 0, \
             begun = CASE WHEN $3 = 1 THEN NULL ELSE begun END, ready_at = COALESCE(\
             (SELECT due_at FROM events WHERE id = lanes.begun AND state = 'pending'), \
             (SELECT due_at FROM events WHERE lane = $1 AND state = 'pending' ORDER BY time, id LIMIT 1)) WHERE lane = $1",
        )
        .with((&self.lane, &self.customer.text, is_over, self.customer.is_active))
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn settle_event(&self, connection: &mut Connection) -> Result<(), Fault> {
        let now = self.now;
        let (state, due_at, reason, detail, settled_at) = match &self.verdict.fate {
            Fate::Applied { stale } => {
                let in_part = (!stale.is_empty()).then(|| format!("superseded in part: {}", stale.join(", ")));
                let detail: Vec<String> = in_part.into_iter().chain(self.verdict.remark.clone()).collect();
                (EventState::Applied, now, None, (!detail.is_empty()).then(|| detail.join("; ")), Some(now))
            }
            Fate::Superseded => (EventState::Superseded, now, Some(NEWER), self.verdict.remark.clone(), Some(now)),
            Fate::Waiting { until } => (EventState::Waiting, *until, Some("no_sign_up"), None, None),
            Fate::Retry { at, setback } => (EventState::Pending, *at, Some(setback.name()), None, None),
            Fate::Parked { reason, detail } => {
                (EventState::Parked, now, Some(reason.name()), Some(detail.clone()), Some(now))
            }
        };
        // An approval is for this try: parked for whatever reason, it asks again.
        let keeps_clearance = state != EventState::Parked;
        query(
            "UPDATE events SET state = $2, due_at = $3, failures = $4, failing_since = $5, reason = $6, \
             detail = $7, settled_at = $8, clearance = CASE WHEN $9 = 1 THEN clearance ELSE NULL END, \
             tries_from = CASE WHEN tries_from > $10 THEN $11 ELSE tries_from END WHERE id = $1",
        )
        .with((
            self.event,
            state,
            due_at,
            self.verdict.failures,
            self.verdict.failing_since,
            reason,
            detail,
            settled_at,
            keeps_clearance,
        ))
        // Arrived while the clock was ahead: its age counts from now on.
        .with((Timestamp::latest(self.now, Duration::ZERO), now))
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn wake_waiting(&self, connection: &mut Connection) -> Result<(), Fault> {
        let woken = query("UPDATE events SET state = 'pending', due_at = $2 WHERE lane = $1 AND state = 'waiting'")
            .with((&self.lane, self.now))
            .execute(&mut *connection)
            .await?;
        if woken > 0 {
            // Whoever has waited for a sign-up is not to wait for an import as well.
            let live = query("UPDATE lanes SET bulk = 0 WHERE lane = $1").bind(&self.lane);
            live.execute(connection).await?;
        }
        Ok(())
    }

    async fn keep_calls(&self, connection: &mut Connection) -> Result<(), Fault> {
        for call in &*self.calls {
            query(
                "INSERT INTO calls (id, event_id, at, operation, outcome, took_ms, idempotency_key) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .with((
                call.id,
                self.event,
                call.at,
                call.operation.name(),
                &call.outcome,
                i64::try_from(call.took.as_millis()).unwrap_or(i64::MAX),
                call.idempotency_key,
            ))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    /// An event of ours: it has no sender, so its own id is its identity.
    async fn follow_up(&self, connection: &mut Connection, event: &Event) -> Result<(), Fault> {
        let text = serde_json::to_string(event).expect("an event has only serialisable fields");
        let due_at = event.stamp().time;
        query(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, digest, event, raw, raw_encoding, scope) \
             VALUES ($1, $2, 'podero-bridge', $1, 'podero-bridge', 'internal', $3, $4, $5, $4, $4, 'scheduled', 0, '', \
             $6, '', 'utf8', 'podero-bridge') ON CONFLICT (origin, origin_id, scope) DO NOTHING",
        )
        .with((event.id, &self.lane, RowKind::of(&event.happening), due_at, self.now, text))
        .execute(connection)
        .await?;
        Ok(())
    }
}

struct Promote {
    now: Timestamp,
    /// Now, for what takes effect on its day: a churn that comes too early takes its customer away.
    day: Timestamp,
    ceilings: Ceilings,
}

impl Write for Promote {
    type Output = usize;

    fn weight(&self) -> usize {
        PROMOTED_MAX
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<usize, Fault> {
        let promote = ours(format!(
            "UPDATE events SET state = 'pending' WHERE id IN (SELECT id FROM events \
             WHERE state IN ('scheduled', 'waiting') AND due_at <= $1 \
             AND (door <> 'internal' OR time <= $1 OR received_at > $3) ORDER BY due_at LIMIT $2{}) RETURNING lane",
            db.skip_locked()
        ));
        // A purge that was dated back waits for its own day all the same, if the clock that set it turns out to be right.
        let latest = Timestamp::latest(self.now, Duration::ZERO);
        let promote = query(promote).with((self.day, PROMOTED_MAX, latest));
        let mut lanes: Vec<String> = promote.fetch_all(&mut *connection).await?;
        // A day on which an event takes effect is its sender's; the end of a wait is ours, and cannot lie so far ahead. The
        // wait begins again, by a clock that is right.
        let waits_too_long = ours(format!(
            "UPDATE events SET state = 'pending', due_at = $3, tries_from = $3 WHERE id IN (SELECT id FROM events \
             WHERE state = 'waiting' AND state IN ('scheduled', 'waiting') AND due_at > $1 ORDER BY due_at LIMIT $2{}) \
             RETURNING lane",
            db.skip_locked()
        ));
        let latest = Reach::Beyond.bound(self.now, self.ceilings.sign_up);
        let again = query(waits_too_long).with((latest, PROMOTED_MAX, self.now));
        lanes.extend(again.fetch_all::<String>(&mut *connection).await?);
        self.date_back(db, connection).await?;
        for lane in &lanes {
            ready_lane(connection, lane, Urgency::Live, self.now).await?;
        }
        Ok(lanes.len())
    }
}

impl Promote {
    /// Arrivals in the future, of a clock that was ahead, have waited since now as far as is known: their age would be none.
    async fn date_back(&self, db: &Db, connection: &mut Connection) -> Result<(), Fault> {
        let date_back = ours(format!(
            "UPDATE events SET tries_from = $3 WHERE id IN (SELECT id FROM events \
             WHERE (state = 'pending' OR state = 'waiting' OR state = 'scheduled') AND state = 'pending' AND tries_from > $1 \
             ORDER BY tries_from LIMIT $2{})",
            db.skip_locked()
        ));
        let latest = Timestamp::latest(self.now, Duration::ZERO);
        let date_back = query(date_back).with((latest, PROMOTED_MAX, self.now));
        date_back.execute(connection).await?;
        Ok(())
    }
}

/// A customer as a lane keeps it.
struct Stored {
    text: String,
    /// Whether they are a customer: the brake counts those.
    is_active: bool,
}

impl Stored {
    fn of(customer: &Customer) -> Self {
        let text = serde_json::to_string(customer).expect("a customer has only serialisable fields");
        Self { text, is_active: customer.facts.is_active() }
    }
}
