//! The end of a claim: all its results, in one transaction or not at all.
//!
//! Before: [`crate::apply`] has the verdict. After: the outbox, and the next claim.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::audit::{self, AuditRow};
use super::claims::{Claim, Settled};
use super::closed_sets::RowKind;
use super::customers::{self, StateChange, StoredState};
use super::db::{DbFault, RowStatement};
use super::error::Error;
use super::event_rows::{INTERNAL, NewEvent};
use super::handle::Store;
use super::outbox::{self, NewNotice};
use super::transaction::{Transaction, Write};
use super::{pumps, team_lanes};
use crate::domain::call::Operation;
use crate::domain::event::EventState;
use crate::domain::verdict::{Fate, Verdict};
use crate::domain::work::{LaneKind, LaneWork};
use crate::domain::{EventId, Stamp, Timestamp};

/// Reason for which a claimed event is superseded: a newer event contradicts it, and `detail` names that event.
const NEWER: &str = "newer";

/// The source and origin of the bridge's own events.
const OURS: &str = "podero-bridge";

/// One call that was made, for the timeline.
#[derive(Debug, Clone)]
pub struct CallMade {
    /// The id, which sorts by time.
    pub id: Uuid,
    /// The time of the call.
    pub at: Timestamp,
    /// The operation.
    pub operation: Operation,
    /// Podero's answer, free of personal data.
    pub outcome: String,
    /// The duration of the call.
    pub took: Duration,
    /// The idempotency key that was sent with it.
    pub idempotency_key: Option<Uuid>,
}

impl Store {
    /// Ends a claim: event, customer, calls, audit rows, notices and alerts, in one transaction or not at all. A claim that has already ended
    /// is fenced, so a write whose answer was lost may be repeated.
    pub async fn settle<W: LaneWork>(
        &self,
        claim: &Claim<W>,
        verdict: impl Into<Arc<Verdict<W::State, W::Event>>>,
        calls: impl Into<Arc<[CallMade]>>,
    ) -> Result<Settled, Error> {
        let (clock, verdict, calls) = (&self.clock, verdict.into(), calls.into());
        let stamp = claim.work.head().stamp;
        let acts = claim.acts.iter().cloned().chain(self.audit_rows(verdict.acts.iter().cloned())).collect();
        let seqs = (0..verdict.notices.len() + verdict.seen.len()).map(|_| clock.fresh_id().to_string()).collect();
        let settle = Settle::<W> {
            event: claim.work.head().id,
            stamp,
            lane: claim.lane.clone(),
            fence: claim.fence,
            state: StoredState::of::<W>(&verdict.state).change_from(claim.stored.as_ref(), &self.inner.emails),
            verdict,
            calls,
            acts,
            now: clock.now(),
            seqs,
        };
        let (settled, overtaken) = self.write(settle).await?;
        self.inner.uncounted.note_replaced(&overtaken);
        Ok(settled)
    }
}

struct Settle<W: LaneWork> {
    event: EventId,
    stamp: Stamp,
    lane: String,
    fence: i64,
    state: StateChange,
    verdict: Arc<Verdict<W::State, W::Event>>,
    calls: Arc<[CallMade]>,
    acts: Vec<AuditRow>,
    now: Timestamp,
    seqs: Vec<String>,
}

impl<W: LaneWork> Write for Settle<W> {
    /// And the kinds of the events that a leave has overtaken.
    type Output = (Settled, Vec<RowKind>);

    fn lanes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.lane.as_str())
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        Ok(Self::run_all(&[self], tx).await?.remove(0))
    }

    async fn run_all(writes: &[&Self], tx: &mut Transaction<'_>) -> Result<Vec<Self::Output>, DbFault> {
        let mut newest = newest(tx, writes).await?;
        // Of two that repeat each other, the first ends the claim, and the other is fenced.
        let is_newest: Vec<bool> =
            writes.iter().map(|settle| newest.remove(&(settle.lane.clone(), settle.fence))).collect();
        let kept = writes.iter().zip(&is_newest).filter(|(_, is_newest)| **is_newest).map(|(settle, _)| *settle);
        let mut kept: Vec<&Self> = kept.collect();
        kept.sort_by(|one, other| one.lane.cmp(&other.lane));
        settle_events(tx, &kept).await?;
        keep_calls(tx, &kept).await?;
        audit::record(&mut *tx, kept.iter().flat_map(|settle| &settle.acts)).await?;
        let notices = kept.iter().flat_map(|settle| settle.notices());
        outbox::insert_all(tx, notices.collect()).await?;
        let mut overtaken: HashMap<(String, i64), Vec<RowKind>> = HashMap::new();
        for settle in &kept {
            settle.end_pumps(tx).await?;
            settle.follow_up(tx).await?;
            if settle.verdict.overtakes {
                let ended = team_lanes::overtake(&mut *tx, &settle.lane, settle.stamp, settle.now).await?;
                overtaken.insert((settle.lane.clone(), settle.fence), ended);
            }
        }
        wake_waiting(tx, &kept).await?;
        customers::keep(tx, kept.iter().map(|settle| (settle.lane.as_str(), &settle.state))).await?;
        release(tx, &kept).await?;
        let settled = |(settle, is_newest): (&&Self, bool)| match is_newest {
            true => (Settled::Recorded, overtaken.remove(&(settle.lane.clone(), settle.fence)).unwrap_or_default()),
            false => (Settled::Fenced, Vec::new()),
        };
        Ok(writes.iter().zip(is_newest).map(settled).collect())
    }
}

static NEWEST: RowStatement = RowStatement::new(
    &["lane", "fence"],
    "SELECT {lane}, {fence} FROM {join}lanes WHERE lanes.lane = {lane} AND lanes.fence = {fence} AND lanes.claimed = 1 \
     {lock lanes}",
);

/// The claims that no newer one has fenced.
async fn newest<W: LaneWork>(
    tx: &mut Transaction<'_>,
    settles: &[&Settle<W>],
) -> Result<HashSet<(String, i64)>, DbFault> {
    let mut rows = NEWEST.rows(settles.len());
    for settle in settles {
        rows.with((&settle.lane, settle.fence));
    }
    Ok(rows.fetch_all(tx).await?.into_iter().collect())
}

static SETTLE: RowStatement = RowStatement::new(
    &[
        "id", "state", "due_at", "failures", "failing_since", "reason", "detail", "settled_at", "keeps_clearance",
        "latest", "now",
    ],
    "UPDATE events SET state = {state}, due_at = {due_at}, failures = {failures}, failing_since = {failing_since}, \
     reason = {reason}, detail = {detail}, settled_at = {settled_at}, \
     clearance = CASE WHEN {keeps_clearance} = 1 THEN events.clearance ELSE NULL END, \
     tries_from = CASE WHEN events.tries_from > {latest} THEN {now} ELSE events.tries_from END {from} \
     WHERE events.id = {id}",
);

async fn settle_events<W: LaneWork>(tx: &mut Transaction<'_>, settles: &[&Settle<W>]) -> Result<(), DbFault> {
    let mut rows = SETTLE.rows(settles.len());
    for settle in settles {
        let (now, verdict) = (settle.now, &settle.verdict);
        let (state, due_at, reason, detail, settled_at) = match &verdict.fate {
            Fate::Applied { stale } => {
                let in_part = (!stale.is_empty()).then(|| format!("superseded in part: {}", stale.join(", ")));
                let detail: Vec<String> = in_part.into_iter().chain(verdict.remark.clone()).collect();
                (EventState::Applied, now, None, (!detail.is_empty()).then(|| detail.join("; ")), Some(now))
            }
            Fate::Superseded => (EventState::Superseded, now, Some(NEWER), verdict.remark.clone(), Some(now)),
            Fate::Waiting { until } => (EventState::Waiting, *until, Some(W::WAITS_FOR), None, None),
            Fate::Retry { at, setback } => (EventState::Pending, *at, Some(setback.name()), None, None),
            Fate::Parked { reason, detail } => {
                (EventState::Parked, now, Some(reason.name()), Some(detail.clone()), Some(now))
            }
        };
        // An approval is for this try: if the event is parked for any reason, it needs a new approval.
        let keeps_clearance = state != EventState::Parked;
        rows.with((settle.event, state, due_at, verdict.failures, verdict.failing_since, reason, detail, settled_at))
            // An event that arrived while the clock was ahead: its age counts from now on.
            .with((keeps_clearance, Timestamp::latest(now, Duration::ZERO), now));
    }
    rows.execute(tx).await?;
    Ok(())
}

static CALLS: RowStatement = RowStatement::new(
    &["id", "event_id", "at", "operation", "outcome", "took_ms", "idempotency_key"],
    "INSERT INTO calls (id, event_id, at, operation, outcome, took_ms, idempotency_key) {rows}",
);

async fn keep_calls<W: LaneWork>(tx: &mut Transaction<'_>, settles: &[&Settle<W>]) -> Result<(), DbFault> {
    let mut rows = CALLS.rows(settles.len());
    for settle in settles {
        for call in &*settle.calls {
            let took_ms = u64::try_from(call.took.as_millis()).unwrap_or(u64::MAX);
            rows.with((call.id, settle.event, call.at, call.operation.name(), &call.outcome, took_ms))
                .bind(call.idempotency_key);
        }
    }
    rows.execute(tx).await?;
    Ok(())
}

static WAKE: RowStatement = RowStatement::new(
    &["lane", "now"],
    "UPDATE events SET state = 'pending', due_at = {now} {from} \
     WHERE events.lane = {lane} AND COALESCE(events.state, '') = 'waiting' {written events.lane}",
);

static LIVE: RowStatement =
    RowStatement::new(&["lane"], "UPDATE lanes SET bulk = 0 {from} WHERE lanes.lane = {lane} AND lanes.bulk = 1");

async fn wake_waiting<W: LaneWork>(tx: &mut Transaction<'_>, settles: &[&Settle<W>]) -> Result<(), DbFault> {
    let waking: Vec<&&Settle<W>> = settles.iter().filter(|settle| settle.verdict.wakes_waiting).collect();
    let mut rows = WAKE.rows(waking.len());
    for settle in &waking {
        rows.with((&settle.lane, settle.now));
    }
    let woken = rows.written(&mut *tx).await?;
    // An event that has waited for a sign-up must not wait for an import as well.
    let mut live = LIVE.rows(0);
    for (settle, _) in waking.iter().zip(woken).filter(|(_, is_woken)| *is_woken) {
        live.bind(&settle.lane);
    }
    live.execute(tx).await?;
    Ok(())
}

static RELEASE: RowStatement = RowStatement::new(
    &["lane", "is_over"],
    "UPDATE lanes SET claimed = 0, interrupted = 0, \
     begun = CASE WHEN {is_over} = 1 THEN NULL ELSE lanes.begun END, ready_at = COALESCE(\
     (SELECT CASE WHEN state = 'pending' THEN due_at END FROM events WHERE id = lanes.begun), \
     (SELECT due_at FROM events WHERE events.lane = {lane} AND state = (SELECT 'pending') ORDER BY time, id LIMIT 1)) {from} \
     WHERE lanes.lane = {lane}",
);

/// As [`RELEASE`], of members: a leave is due although an older event is in back-off.
static RELEASE_MEMBERS: RowStatement = RowStatement::new(
    &["lane", "is_over"],
    "UPDATE lanes SET claimed = 0, interrupted = 0, \
     begun = CASE WHEN {is_over} = 1 THEN NULL ELSE lanes.begun END, \
     ready_at = (SELECT MIN(due_at) FROM events WHERE events.lane = {lane} AND state = (SELECT 'pending')) {from} \
     WHERE lanes.lane = {lane}",
);

/// Frees the lanes and makes them due with their heads, as [`super::lanes::ready_for_head`] does.
async fn release<W: LaneWork>(tx: &mut Transaction<'_>, settles: &[&Settle<W>]) -> Result<(), DbFault> {
    let release = match W::LANES {
        LaneKind::Customers => &RELEASE,
        LaneKind::Members => &RELEASE_MEMBERS,
    };
    let mut rows = release.rows(settles.len());
    for settle in settles {
        // An event that has ended for good is never claimed again, so no look-up comes first. A churn that the brake refused was
        // not begun, and a later event may replace it when it is retried.
        let is_over = match &settle.verdict.fate {
            Fate::Applied { .. } | Fate::Superseded => true,
            Fate::Parked { reason, .. } => reason.is_approvable(),
            Fate::Waiting { .. } | Fate::Retry { .. } => false,
        };
        rows.with((&settle.lane, is_over));
    }
    rows.execute(tx).await?;
    Ok(())
}

impl<W: LaneWork> Settle<W> {
    fn notices(&self) -> impl Iterator<Item = NewNotice<'_>> {
        let customer = Some(self.lane.as_str());
        let notices = self.verdict.notices.iter().zip(&self.seqs);
        notices.map(move |(notice, seq)| NewNotice { notice, customer, seq, at: self.now })
    }

    async fn end_pumps(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let seqs = self.seqs.iter().skip(self.verdict.notices.len());
        for (change, seq) in self.verdict.seen.iter().zip(seqs) {
            pumps::end(tx, change, seq, self.now).await?;
        }
        Ok(())
    }

    /// Inserts events of the bridge's own: each has no sender, so its own id is its identity. An end of a member's access that was
    /// scheduled before is over, whether another follows or none.
    async fn follow_up(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        if self.verdict.ends_scheduled {
            team_lanes::end_scheduled(&mut *tx, &self.lane, self.event, self.now).await?;
        }
        for event in &self.verdict.follow_ups {
            let head = W::head_of(event);
            let (id, time) = (head.id.to_string(), head.stamp.time);
            let text = serde_json::to_string(event).expect("an event has only serialisable fields");
            let kind = RowKind::from_name(head.type_name);
            let new = NewEvent {
                lane: Some(&self.lane),
                origin: OURS,
                origin_id: &id,
                source: OURS,
                transport: INTERNAL,
                received_at: self.now,
                event: Some(&text),
                ..NewEvent::bare(head.id, kind, EventState::Scheduled, time)
            };
            new.insert(&mut *tx).await?;
        }
        Ok(())
    }
}
