//! Stage 2, per customer and in order: claim -> next -> call -> judge -> settle. One screen of control flow.
//!
//! It decides nothing: what to call is `domain::plan`'s, what a reply means `domain::verdict`'s. No transaction is
//! open while Podero is called. What it must never do is act on a claim whose lease is about to lapse.
//!
//! Before: the inbox, by [`crate::store`]. After: the outbox, by [`crate::outbound`].

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::brake::Brake;
use crate::domain::call::{Call, Done, Reply};
use crate::domain::notice::Notice;
use crate::domain::plan::{Next, Policy, next};
use crate::domain::verdict::{self, Decision, Fate, Moment, Setback, Verdict};
use crate::metrics::{Metrics, Outcome};
use crate::podero::Partner;
use crate::pump::{self, Step};
use crate::store::{self, Asked, CallMade, Claim, Settled, Store};

/// Calls for one event in one claim. A sign-up takes five, a move of a home with many pumps a few dozen; more
/// than this is a disagreement with Podero that going on will not end.
const CALLS_MAX: usize = 200;

/// Of a lease, for what is not the call: commits that wait their turn, a clock that differs between replicas.
pub const LEASE_MARGIN: Duration = Duration::from_secs(20);

/// Limit of a lease under any settings that are allowed: one that lies further ahead was taken by a clock that was wrong.
/// Another replica may have other settings, and its leases are not to be judged by those of this one.
pub const LEASE_MAX: Duration = Duration::from_mins(10);

/// Events that one commit claims: as many as wait is best, and a group commit has room for others.
const CLAIMS_AT_ONCE: usize = 64;

/// A store that is away is asked again after so long.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// When the circuit is open there is nothing to do but to look again.
const CIRCUIT_LOOK: Duration = Duration::from_secs(1);

/// A place comes free with every answer and is taken again a moment later: that is no reason to hurry.
const PLENTY_DIVISOR: usize = 8;

/// Everything the stage needs; shared by all who work.
pub struct Applier<P> {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub partner: P,
    /// What the operator chose.
    pub policy: Policy,
    /// Time and jitter.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Rung when there may be more to take: one wake-up may stand for many events.
    pub wake: Arc<Notify>,
    /// Rung when there is something to publish.
    pub wake_outbound: Arc<Notify>,
    /// The longest that one call can take, from asking for its turn to its reply.
    pub call_time_max: Duration,
    /// Of that, the last request alone, from its first byte to its reply (`podero.timeout`). What nobody heard of may be
    /// under way for as long again.
    pub request_time_max: Duration,
    /// Those at work.
    pub room: Room,
}

/// Claims for so many places at Podero: nearly each has one that is there and one that waits for its turn, so that a place
/// that comes free is taken at once, and not after a commit. A single place has but one.
const fn claims_for(places: usize) -> usize {
    places.saturating_mul(2).saturating_sub(1)
}

/// Workers with a claim that is not at its end: no more than `claims_for` the calls that may be under way from here. A
/// claim that only waits for its turn at Podero keeps its lane from a replica that is free. Whoever has only to settle is
/// outside.
#[derive(Debug, Default, Clone)]
pub struct Room(Arc<Mutex<Crowd>>);

#[derive(Debug, Default)]
struct Crowd {
    inside: usize,
    /// Raised when there is no place left, until one in [`PLENTY_DIVISOR`] is free: whoever brings more may take their time.
    has_plenty: Arc<AtomicBool>,
    /// Fewer than so many take it down.
    plenty: usize,
    /// Somebody was woken and found no place: whoever leaves next passes the wake-up on.
    was_full: bool,
}

/// One of those at work; dropping it leaves.
struct Inside {
    room: Room,
    wake: Arc<Notify>,
}

impl Room {
    /// An empty room that raises a sign while it has plenty to do.
    pub fn telling(has_plenty: Arc<AtomicBool>) -> Self {
        Self(Arc::new(Mutex::new(Crowd { has_plenty, ..Crowd::default() })))
    }

    /// Places for so many that `wanted` are free; one at least, or `None`: then whoever leaves next rings.
    fn enter(&self, places: usize, wanted: usize, wake: &Arc<Notify>) -> Option<Vec<Inside>> {
        let mut crowd = self.lock();
        let free = places.saturating_sub(crowd.inside).min(wanted);
        if free == 0 {
            crowd.was_full = true;
            return None;
        }
        crowd.inside += free;
        Some((0..free).map(|_| Inside { room: self.clone(), wake: wake.clone() }).collect())
    }

    /// To be called once it is known who stays: what was only reserved is no work.
    fn tell(&self, places: usize) {
        let mut crowd = self.lock();
        crowd.plenty = places - places / PLENTY_DIVISOR;
        if crowd.inside >= places {
            crowd.has_plenty.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Crowd> {
        self.0.lock().expect("no code panics while it counts")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut crowd = self.room.lock();
        crowd.inside -= 1;
        if crowd.inside < crowd.plenty {
            crowd.has_plenty.store(false, Ordering::Relaxed);
        }
        if std::mem::take(&mut crowd.was_full) {
            self.wake.notify_one();
        }
    }
}

/// Claims with their places, or what to do instead.
type Taken = Result<Vec<(Claim, Inside)>, Step>;

impl<P: Partner> Applier<P> {
    /// Works on one due event, from claim to settlement.
    pub async fn step(&self) -> Step {
        match self.take(1).await {
            Ok(mut taken) => {
                self.wake.notify_one();
                let (claim, inside) = taken.remove(0);
                self.work(claim, inside).await
            }
            Err(step) => step,
        }
    }

    /// Takes what is due, as much as there are places for, and works on each in a task of `tasks`: one commit claims for
    /// many, and nobody asks in vain. Dropping `tasks` ends them where they are, as a crash would.
    pub async fn feed(self: Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Step {
        match self.take(CLAIMS_AT_ONCE).await {
            Ok(taken) => {
                let mut tasks = tasks.lock().expect("no code panics while it spawns");
                while let Some(ended) = tasks.try_join_next() {
                    if ended.is_err() {
                        tracing::error!("the bridge panicked while it settled an event, which comes back by its lease");
                    }
                }
                for (claim, inside) in taken {
                    let applier = self.clone();
                    tasks.spawn(async move {
                        applier.work(claim, inside).await;
                    });
                }
                Step::Busy
            }
            Err(step) => step,
        }
    }

    /// Claims up to `wanted` due events, no more than there are places for; at least one.
    async fn take(&self, wanted: usize) -> Taken {
        if let Some(until) = self.partner.paused_until() {
            return Err(Step::IdleFor(until.since(self.clock.now()).min(CIRCUIT_LOOK)));
        }
        let places = self.partner.concurrency();
        let Some(inside) = self.room.enter(claims_for(places), wanted, &self.wake) else { return Err(Step::Idle) };
        let claims = self.store.claims(inside.len(), self.lease()).await.map_err(|error| {
            tracing::warn!(%error, "no event could be claimed");
            Step::Failed
        })?;
        if claims.is_empty() {
            return Err(Step::Idle);
        }
        let aged = claims.into_iter().map(|mut claim| {
            // An outage in which nobody could call is no part of an event's age: else the first failure after a
            // long one would park what has failed twice.
            let failing_since = &mut claim.work.failing_since;
            *failing_since = failing_since.map(|since| self.partner.back_since().map_or(since, |at| at.max(since)));
            claim
        });
        let taken = aged.zip(inside).collect();
        self.room.tell(claims_for(places));
        Ok(taken)
    }

    /// A claim outlives any call of its own: it is extended before a call that it might not.
    fn lease(&self) -> Duration {
        self.call_time_max + self.request_time_max + LEASE_MARGIN
    }

    async fn work(&self, mut claim: Claim, inside: Inside) -> Step {
        let mut calls = Vec::new();
        let fate = AssertUnwindSafe(self.drive(&mut claim, &mut calls)).catch_unwind().await;
        drop(inside);
        let fate = match fate {
            Ok(Some(fate)) => fate,
            // A newer claim exists: whatever was found out is theirs to find out.
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
        let settled = loop {
            match self.store.settle(&claim, verdict.clone(), calls.clone()).await {
                Err(_) if self.may_ask_again(claim.lease_until).await => {}
                settled => break settled,
            }
        };
        match settled {
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

    /// Whether a churn may take its customer away now; else its fate, or `None` as [`Applier::drive`] says it.
    async fn ask_brake(&self, claim: &mut Claim) -> ControlFlow<Option<Fate>> {
        let Some(brake) = self.policy.brake else { return ControlFlow::Continue(()) };
        let asked = loop {
            match self.asked_brake(claim, brake).await {
                Err(_) if self.may_ask_again(claim.lease_until).await => {}
                asked => break asked,
            }
        };
        match asked {
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

    /// Where customers cannot be counted the count decides alone; where there is no count, nobody can decide yet.
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

    /// The lease must outlive the call; it is extended when it would not. A store that took longer for that than the
    /// margin leaves the event to the next claim.
    async fn may_call(&self, claim: &mut Claim) -> bool {
        let needed = self.call_time_max + self.request_time_max + LEASE_MARGIN / 2;
        let lasts = |claim: &Claim| claim.lease_until.since(self.clock.now()) >= needed;
        lasts(claim) || (self.save(claim).await && lasts(claim))
    }

    /// No request leaves after this: its answer, or its end at its deadline and the time after it in which Podero may act
    /// all the same, falls within the lease.
    fn leaves_until(&self, claim: &Claim) -> Timestamp {
        claim.lease_until.minus(self.request_time_max * 2 + LEASE_MARGIN / 2)
    }

    /// The store did not answer: waits a moment, and says whether the claim lasts for another attempt. Whoever gave up
    /// sooner would leave the customer waiting for the rest of the lease. A write that was answered with an error and
    /// stands all the same is fenced when it is repeated.
    async fn may_ask_again(&self, until: Timestamp) -> bool {
        let is_time = self.clock.now().plus(STORE_PAUSE) < until;
        if is_time {
            pump::sleep(STORE_PAUSE).await;
        }
        is_time
    }

    /// `false`: go no further. Either a newer claim exists, or the store is away, and then the lapsed lease
    /// brings the event back with everything in doubt.
    async fn save(&self, claim: &mut Claim) -> bool {
        let saved = loop {
            match self.store.save(claim, self.lease()).await {
                Err(_) if self.may_ask_again(claim.lease_until).await => {}
                saved => break saved,
            }
        };
        match saved {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_raises_its_sign_and_takes_it_down_once_an_eighth_is_free() {
        let (sign, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let room = Room::telling(sign.clone());
        let enter = |places, wanted| {
            let inside = room.enter(places, wanted, &wake).expect("there is a place");
            room.tell(places);
            inside
        };
        drop(room.enter(16, 64, &wake));
        assert!(!sign.load(Ordering::Relaxed), "what is only reserved is no work");
        let mut inside = enter(16, 15);
        assert!(!sign.load(Ordering::Relaxed), "there is a place left");
        inside.extend(enter(16, 64));
        assert_eq!(inside.len(), 16);
        assert!(sign.load(Ordering::Relaxed));
        assert!(room.enter(16, 1, &wake).is_none(), "nobody more comes in");
        inside.truncate(14);
        assert!(sign.load(Ordering::Relaxed), "two places come free and are taken again all the time");
        inside.truncate(13);
        assert!(!sign.load(Ordering::Relaxed));
        // A single place is an eighth, and all of it.
        inside.clear();
        let only = enter(1, 64);
        assert!(sign.load(Ordering::Relaxed));
        drop(only);
        assert!(!sign.load(Ordering::Relaxed));
    }
}
