//! Stage 2, per customer and in order: claim -> next -> call -> judge -> settle. One screen of control flow.
//!
//! It decides nothing: `domain::plan` says which call comes next, `domain::verdict` what a reply means. No transaction is open
//! while Podero is called. It must never act on a claim whose lease is about to lapse.
//!
//! Before: the inbox, by [`crate::store`]. After: the outbox, by [`crate::outbound`].

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::brake::Brake;
use crate::domain::call::{Call, Done, Reply};
use crate::domain::interruption;
use crate::domain::notice::Notice;
use crate::domain::plan::{Next, Policy, next};
use crate::domain::verdict::{self, Decision, Fate, Moment, Setback, Verdict};
use crate::metrics::{Metrics, Outcome};
use crate::permits::{Permit, Permits};
use crate::podero::Partner;
use crate::pump::{self, Step};
use crate::store::{self, Asked, CallMade, Claim, Settled, Store};

/// Limit of calls for one event in one claim. A sign-up takes five, a move of a home with many pumps a few dozen; more than
/// this is a disagreement with Podero that going on will not end.
const CALLS_MAX: usize = 200;

/// Part of a lease for everything but the call: commits that wait their turn, clocks that differ between replicas.
pub const LEASE_MARGIN: Duration = Duration::from_secs(20);

/// Limit of a lease under any settings that are allowed: one that lies further ahead was taken by a clock that was wrong.
/// Another replica may have other settings, and its leases are not to be judged by those of this one.
pub const LEASE_MAX: Duration = Duration::from_mins(10);

/// Limit of the events that one commit claims: as many as wait is best, and a group commit has room for others.
const CLAIMS_AT_ONCE: usize = 64;

/// Limit of the wait while the circuit is open, before the next look at it.
const CIRCUIT_LOOK: Duration = Duration::from_secs(1);

/// Everything the stage needs; shared by all its workers.
pub struct Applier<P> {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub partner: P,
    /// The operator's settings.
    pub policy: Policy,
    /// Time and jitter.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Woken when there may be more to take: one wake-up may stand for many events.
    pub wake: Arc<Notify>,
    /// Woken when there is something to publish.
    pub wake_outbound: Arc<Notify>,
    /// The longest time of one call, from asking for its turn to its reply.
    pub call_time_max: Duration,
    /// The part of that for the last request alone, from its first byte to its reply (`podero.timeout`). A request without a
    /// reply may be under way for as long again.
    pub request_time_max: Duration,
    /// Permits of claims that are worked on: `claims_for` the calls that may be under way from here. A claim that only waits
    /// for its turn at Podero keeps its lane from a replica that is free. A claim that only has to be settled needs none.
    pub permits: Permits,
}

/// The number of claims for this many calls at once: nearly two for each, one at Podero and one that waits for its turn, so
/// that a slot that comes free is taken at once, and not after a commit. For a single slot it is one.
const fn claims_for(places: usize) -> usize {
    places.saturating_mul(2).saturating_sub(1)
}

/// A claim and the permit to work on it.
struct Claimed {
    claim: Claim,
    permit: Permit,
}

impl<P: Partner> Applier<P> {
    /// Works on one due event, from claim to settlement.
    pub async fn step(&self) -> Step {
        match self.claim(1).await {
            ControlFlow::Continue(mut claimed) => {
                self.wake.notify_one();
                self.work(claimed.remove(0)).await
            }
            ControlFlow::Break(step) => step,
        }
    }

    /// Claims what is due, as much as there are permits for, and works on each in a task of `tasks`: one commit claims for
    /// many, and no task asks in vain. Dropping `tasks` ends them where they are, as a crash would.
    pub async fn feed(self: Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Step {
        match self.claim(CLAIMS_AT_ONCE).await {
            ControlFlow::Continue(claimed) => {
                let mut tasks = tasks.lock().expect("no code panics while it spawns");
                while let Some(ended) = tasks.try_join_next() {
                    if ended.is_err() {
                        tracing::error!("the bridge panicked while it settled an event, which comes back by its lease");
                    }
                }
                for claimed in claimed {
                    let applier = self.clone();
                    tasks.spawn(async move {
                        applier.work(claimed).await;
                    });
                }
                Step::Busy
            }
            ControlFlow::Break(step) => step,
        }
    }

    /// Claims up to `wanted` due events, no more than there are permits for, and at least one; else the step to take instead.
    async fn claim(&self, wanted: usize) -> ControlFlow<Step, Vec<Claimed>> {
        if let Some(until) = self.partner.paused_until() {
            return ControlFlow::Break(Step::IdleFor(until.since(self.clock.now()).min(CIRCUIT_LOOK)));
        }
        self.permits.set_limit(claims_for(self.partner.concurrency()));
        let permits = self.permits.acquire_up_to(wanted);
        if permits.is_empty() {
            return ControlFlow::Break(Step::Idle);
        }
        let claims = match self.store.claims(permits.len(), self.lease()).await {
            Ok(claims) if claims.is_empty() => return ControlFlow::Break(Step::Idle),
            Ok(claims) => claims,
            Err(error) => {
                tracing::warn!(%error, "no event could be claimed");
                return ControlFlow::Break(Step::Failed);
            }
        };
        let claimed = claims.into_iter().zip(permits).map(|(mut claim, permit)| {
            // An outage in which no replica could call is no part of an event's age: else the first failure after a long one
            // would park an event that has failed twice.
            let failing_since = &mut claim.work.failing_since;
            *failing_since = failing_since.map(|since| self.partner.back_since().map_or(since, |at| at.max(since)));
            Claimed { claim, permit }
        });
        let claimed = claimed.collect();
        self.permits.note_saturation();
        ControlFlow::Continue(claimed)
    }

    /// A claim outlives any call of its own: it is extended before a call that it might not.
    fn lease(&self) -> Duration {
        self.call_time_max + self.request_time_max + LEASE_MARGIN
    }

    async fn work(&self, claimed: Claimed) -> Step {
        let Claimed { mut claim, permit } = claimed;
        let mut calls = Vec::new();
        let fate = AssertUnwindSafe(self.drive(&mut claim, &mut calls)).catch_unwind().await;
        drop(permit);
        let fate = match fate {
            Ok(Some(fate)) => fate,
            // A newer claim exists: its worker finds out again what this one has found.
            Ok(None) => return Step::Busy,
            Err(_) => {
                tracing::error!(event.id = %claim.work.event.id, "the bridge panicked over an event; it is parked");
                verdict::interrupted(&mut claim.work, self.clock.now(), &self.policy)
            }
        };
        let now = self.clock.now();
        let verdict = Arc::new(verdict::settle_with(&claim.work, fate, now, &self.policy));
        let calls: Arc<[CallMade]> = calls.into();
        let news = !verdict.notices.is_empty() || verdict.seen.iter().any(|change| !change.notices.is_empty());
        // A repeat of a write that was answered with an error and took effect all the same is fenced.
        let result = (self, &claim, &verdict, &calls);
        let settled = pump::offer(&self.clock, claim.lease_until, result, |(it, claim, verdict, calls)| {
            it.store.settle(claim, verdict.clone(), calls.clone()).boxed()
        });
        match settled.await {
            Ok(Settled::Recorded) => {
                self.report(&claim, &verdict, &calls);
                if news {
                    pump::wake_all(&self.wake_outbound);
                }
                Step::Busy
            }
            Ok(Settled::Fenced) => Step::Busy,
            Err(error) => {
                tracing::warn!(%error, event.id = %claim.work.event.id, "an event could not be settled");
                Step::Failed
            }
        }
    }

    /// Asks, calls and judges until the event's fate is known; `None` when a newer claim exists.
    async fn drive(&self, claim: &mut Claim, calls: &mut Vec<CallMade>) -> Option<Fate> {
        interruption::resume(&mut claim.work, self.clock.now(), &self.policy);
        if let Some(fate) = verdict::too_soon(&claim.work, self.clock.now(), &self.policy) {
            return Some(fate);
        }
        loop {
            let moment = Moment { now: self.clock.now(), jitter: self.clock.jitter() };
            let step = next(&claim.work, &self.policy);
            let call = match step {
                Next::Call(call) => call,
                Next::AskBrake => match self.ask_brake(claim).await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(fate) => return fate,
                },
                Next::Applied | Next::Superseded | Next::WaitsForSignUp => {
                    return verdict::final_fate(&claim.work, &step, moment, &self.policy);
                }
            };
            if calls.len() >= CALLS_MAX {
                let why = "Podero's answers lead to no end";
                return Some(verdict::fail(&mut claim.work, Setback::TooManyCalls, why, moment, &self.policy));
            }
            if !self.may_call(claim).await {
                return None;
            }
            let reply = self.call(claim, &call, calls).await;
            let moment = Moment { now: self.clock.now(), jitter: self.clock.jitter() };
            match verdict::judge(&mut claim.work, &call, reply, moment, &self.policy) {
                Decision::Settle(fate) => return Some(fate),
                Decision::Continue { save: false } => {}
                Decision::Continue { save: true } => {
                    if !self.save(claim).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Asks whether a churn may take its customer away now; else its fate, or `None` as [`Applier::drive`] says it.
    async fn ask_brake(&self, claim: &mut Claim) -> ControlFlow<Option<Fate>> {
        let Some(brake) = self.policy.brake else { return ControlFlow::Continue(()) };
        let (lease_until, result) = (claim.lease_until, (self, &mut *claim));
        let asked = pump::offer(&self.clock, lease_until, result, |(it, claim)| it.asked_brake(claim, brake).boxed());
        match asked.await {
            Ok(Asked::Cleared) => ControlFlow::Continue(()),
            Ok(Asked::Refused { tally, has_closed }) => {
                if has_closed {
                    tracing::warn!(
                        admitted = tally.admitted,
                        limit = brake.limit(tally.active),
                        window_s = brake.window.as_secs(),
                        active = tally.active,
                        "the churn brake has closed: further churns are parked as churn_brake and wait for an approval"
                    );
                }
                ControlFlow::Break(Some(verdict::braked(&brake, tally)))
            }
            Ok(Asked::Fenced) => ControlFlow::Break(None),
            Err(error) => {
                tracing::warn!(%error, event.id = %claim.work.event.id, "the churn brake could not be asked");
                ControlFlow::Break(None)
            }
        }
    }

    /// Asks the store. If customers cannot be counted, `churn.brake_count` decides alone; if that is not set, nothing can be
    /// decided yet.
    async fn asked_brake(&self, claim: &mut Claim, brake: Brake) -> Result<Asked, store::Error> {
        let active = match brake.share.map(|_| self.store.active_customers()) {
            None => None,
            Some(counting) => match counting.await {
                Err(error) if brake.count.is_some() => {
                    tracing::warn!(%error, "active customers could not be counted: churn.brake_count decides alone");
                    None
                }
                counted => Some(counted?),
            },
        };
        self.store.ask_brake(claim, brake, active).await
    }

    /// `true` if the lease outlives the call; it is extended when it would not. A store that took longer for that than the
    /// margin leaves the event to the next claim.
    async fn may_call(&self, claim: &mut Claim) -> bool {
        let needed = self.call_time_max + self.request_time_max + LEASE_MARGIN / 2;
        let lasts = |claim: &Claim| claim.lease_until.since(self.clock.now()) >= needed;
        lasts(claim) || (self.save(claim).await && lasts(claim))
    }

    /// The last moment at which a request may leave: its answer, or its end at its deadline and the time after it in which
    /// Podero may still act, falls within the lease.
    fn leaves_until(&self, claim: &Claim) -> Timestamp {
        claim.lease_until.minus(self.request_time_max * 2 + LEASE_MARGIN / 2)
    }

    /// Saves the progress. `false`: go no further. Either a newer claim exists, or the store is away, and then the lapsed lease
    /// brings the event back with everything in doubt.
    async fn save(&self, claim: &mut Claim) -> bool {
        let (lease_until, result) = (claim.lease_until, (self, &mut *claim));
        let saved =
            pump::offer(&self.clock, lease_until, result, |(it, claim)| it.store.save(claim, it.lease()).boxed());
        match saved.await {
            Ok(Settled::Recorded) => true,
            Ok(Settled::Fenced) => false,
            Err(error) => {
                tracing::warn!(%error, event.id = %claim.work.event.id, "progress could not be saved");
                false
            }
        }
    }

    async fn call(&self, claim: &Claim, call: &Call, calls: &mut Vec<CallMade>) -> Reply {
        let event = &claim.work.event;
        let idempotency_key = call.idempotency_key(event.id);
        let at = self.clock.now();
        let reply = self.partner.call(call, idempotency_key, self.leaves_until(claim)).await;
        let made = CallMade {
            id: self.clock.fresh_id(),
            at,
            operation: call.operation(),
            outcome: outcome_of(&reply),
            took: self.clock.now().since(at),
            idempotency_key,
        };
        tracing::debug!(
            event.id = %event.id,
            operation = made.operation.name(),
            outcome = %made.outcome,
            "called Podero"
        );
        calls.push(made);
        reply
    }

    fn report(&self, claim: &Claim, verdict: &Verdict, calls: &[CallMade]) {
        let event = &claim.work.event;
        let (name, outcome) = match &verdict.fate {
            Fate::Applied { .. } => ("applied", Some(Outcome::Applied)),
            Fate::Superseded => ("superseded", Some(Outcome::Superseded)),
            Fate::Parked { .. } => ("parked", Some(Outcome::Parked)),
            Fate::Waiting { .. } => ("waiting", None),
            Fate::Retry { setback, .. } => {
                let operation = calls.last().map_or("none", |call| call.operation.name());
                self.metrics.retries.with_label_values(&[operation, setback.name()]).inc();
                (setback.name(), None)
            }
        };
        if let Some(outcome) = outcome {
            self.metrics.event_settled(event.happening.kind(), outcome);
        }
        if outcome == Some(Outcome::Applied) {
            let effective = event.effective_at.map_or(claim.work.tries_from, |at| at.max(claim.work.tries_from));
            self.metrics.event_duration.observe(self.clock.now().since(effective).as_secs_f64());
        }
        let topics = verdict.notices.iter().map(|notice: &Notice| notice.topic.name()).collect::<Vec<_>>().join(",");
        tracing::info!(
            event.id = %event.id,
            event.type = event.happening.type_name(),
            customer.id = %event.customer,
            fate = name,
            calls = calls.len(),
            attempt = verdict.failures,
            notices = topics,
            "an event was worked on"
        );
    }
}

/// A reply in a few words for the timeline; never the answer itself.
fn outcome_of(reply: &Reply) -> String {
    match reply {
        Reply::Done(Done::UserLookedUp(None)) => "not there".to_owned(),
        Reply::Done(_) => "done".to_owned(),
        Reply::Refused(refusal) => format!("refused {}", refusal.status),
        Reply::Busy { .. } => "busy".to_owned(),
        Reply::Held { status } => format!("held {status}"),
        Reply::Unsent { why } => format!("unsent: {why}"),
        Reply::Unknown { why } => format!("unknown: {why}"),
    }
}
