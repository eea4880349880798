//! The end of a claim: all its results, in one transaction or not at all.
//!
//! Before: [`crate::apply`] has the verdict. After: the outbox, and the next claim.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::claims::{Claim, Settled};
use super::closed_sets::RowKind;
use super::db::{DbFault, ours, query};
use super::error::Error;
use super::event_rows::NewEvent;
use super::handle::Store;
use super::lanes::StoredCustomer;
use super::outbox::{self, NewNotice};
use super::pumps;
use super::transaction::{Transaction, Write};
use crate::domain::call::Operation;
use crate::domain::event::{Event, EventState};
use crate::domain::verdict::{Fate, Verdict};
use crate::domain::{EventId, Timestamp};

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
    /// Ends a claim: event, customer, calls, notices and alerts, in one transaction or not at all. A claim that has already ended
    /// is fenced, so a write whose answer was lost may be repeated.
    pub async fn settle(
        &self,
        claim: &Claim,
        verdict: impl Into<Arc<Verdict>>,
        calls: impl Into<Arc<[CallMade]>>,
    ) -> Result<Settled, Error> {
        let (clock, verdict, calls) = (&self.clock, verdict.into(), calls.into());
        let seqs = (0..verdict.notices.len() + verdict.seen.len()).map(|_| clock.fresh_id().to_string()).collect();
        self.write(Settle {
            event: claim.work.event.id,
            lane: claim.lane.clone(),
            fence: claim.fence,
            customer: StoredCustomer::of(&verdict.customer),
            verdict,
            calls,
            now: clock.now(),
            seqs,
        })
        .await
    }
}

struct Settle {
    event: EventId,
    lane: String,
    fence: i64,
    customer: StoredCustomer,
    verdict: Arc<Verdict>,
    calls: Arc<[CallMade]>,
    now: Timestamp,
    seqs: Vec<String>,
}

impl Write for Settle {
    type Output = Settled;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Settled, DbFault> {
        let ours =
            ours(format!("SELECT 1 FROM lanes WHERE lane = $1 AND fence = $2 AND claimed = 1{}", tx.db.for_update()));
        let is_newest = query(ours).with((&self.lane, self.fence)).finds(&mut *tx).await?;
        if !is_newest {
            return Ok(Settled::Fenced);
        }
        self.settle_event(tx).await?;
        self.keep_calls(tx).await?;
        let mut seqs = self.seqs.iter().map(String::as_str);
        let mut seq = || seqs.next().unwrap_or_default();
        for notice in &self.verdict.notices {
            let new = NewNotice { notice, customer: Some(&self.lane), seq: seq() };
            outbox::insert(tx, new, self.now).await?;
        }
        for change in &self.verdict.seen {
            pumps::end(tx, change, seq(), self.now).await?;
        }
        if let Some(event) = &self.verdict.follow_up {
            self.follow_up(tx, event).await?;
        }
        if self.verdict.wakes_waiting {
            self.wake_waiting(tx).await?;
        }
        self.release(tx).await?;
        Ok(Settled::Recorded)
    }
}

impl Settle {
    /// Stores the customer and frees the lane, as [`super::lanes::ready_for_head`] does: in one write, since the row is as large as the
    /// customer.
    async fn release(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        // An event that has ended for good is never claimed again, so no look-up comes first. A churn that the brake refused was
        // not begun, and a later event may replace it when it is retried.
        let is_over = match &self.verdict.fate {
            Fate::Applied { .. } | Fate::Superseded => true,
            Fate::Parked { reason, .. } => reason.is_approvable(),
            Fate::Waiting { .. } | Fate::Retry { .. } => false,
        };
        let sql = "UPDATE lanes SET customer = $2, active = $4, claimed = 0, interrupted = 0, \
             begun = CASE WHEN $3 = 1 THEN NULL ELSE begun END, ready_at = COALESCE(\
             (SELECT due_at FROM events WHERE id = lanes.begun AND state = 'pending'), \
             (SELECT due_at FROM events WHERE lane = $1 AND state = 'pending' ORDER BY time, id LIMIT 1)) WHERE lane = $1";
        query(sql).with((&self.lane, &self.customer.text, is_over, self.customer.is_active)).execute(tx).await?;
        Ok(())
    }

    async fn settle_event(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
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
        // An approval is for this try: if the event is parked for any reason, it needs a new approval.
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
        // An event that arrived while the clock was ahead: its age counts from now on.
        .with((Timestamp::latest(self.now, Duration::ZERO), now))
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn wake_waiting(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let woken = query("UPDATE events SET state = 'pending', due_at = $2 WHERE lane = $1 AND state = 'waiting'")
            .with((&self.lane, self.now))
            .execute(&mut *tx)
            .await?;
        if woken > 0 {
            // An event that has waited for a sign-up must not wait for an import as well.
            let live = query("UPDATE lanes SET bulk = 0 WHERE lane = $1").bind(&self.lane);
            live.execute(tx).await?;
        }
        Ok(())
    }

    async fn keep_calls(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        for call in &*self.calls {
            let sql = "INSERT INTO calls (id, event_id, at, operation, outcome, took_ms, idempotency_key) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)";
            query(sql)
                .with((
                    call.id,
                    self.event,
                    call.at,
                    call.operation.name(),
                    &call.outcome,
                    i64::try_from(call.took.as_millis()).unwrap_or(i64::MAX),
                    call.idempotency_key,
                ))
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    /// Inserts an event of the bridge's own: it has no sender, so its own id is its identity.
    async fn follow_up(&self, tx: &mut Transaction<'_>, event: &Event) -> Result<(), DbFault> {
        let (id, time) = (event.id.to_string(), event.stamp().time);
        let text = serde_json::to_string(event).expect("an event has only serialisable fields");
        let kind = RowKind::of(&event.happening);
        let new = NewEvent {
            lane: Some(&self.lane),
            origin: OURS,
            origin_id: &id,
            source: OURS,
            door: "internal",
            received_at: self.now,
            event: Some(&text),
            ..NewEvent::bare(event.id, kind, EventState::Scheduled, time)
        };
        new.insert(tx).await?;
        Ok(())
    }
}
