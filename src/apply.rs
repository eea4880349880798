//! Stage 2, per customer or member and in order: claim -> next -> call -> judge -> settle. One screen of control flow.
//!
//! It decides nothing: `domain::plan` says which call comes next, `domain::verdict` what a reply means; `domain::team` does so for
//! members, whose lanes have appliers of their own. No transaction is open while Podero is called. It must never act on a claim whose
//! lease is about to lapse.
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
use crate::domain::notice::Notice;
use crate::domain::plan::{Policy, Work};
use crate::domain::team::{MemberCall, MemberDone, MemberWork, PolicyRefusal, Proposal, is_address};
use crate::domain::verdict::{self, Decision, Fate, Moment, Setback, Verdict};
use crate::domain::work::{EventHead, LaneCall, LaneKind, LaneWork, WorkStep};
use crate::metrics::{Metrics, Outcome};
use crate::permits::{Permit, Permits};
use crate::podero::Partner;
use crate::pump::{self, Step};
use crate::store::{self, Asked, CallMade, Claim, Settled, Store, TeamAnswer};

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
struct Claimed<W> {
    claim: Claim<W>,
    permit: Permit,
}

/// Limit of the lists of the staff that one question of the policy reads: the second is for a list that aged meanwhile.
const LISTS_MAX: usize = 2;

/// The effects of a claim's work, which differ between customers and members.
trait Applied: LaneWork {
    /// Makes a call to Podero.
    fn call<P: Partner>(
        partner: &P,
        call: &Self::Call,
        idempotency_key: Option<uuid::Uuid>,
        until: Timestamp,
    ) -> impl Future<Output = Reply<Self::Done>> + Send;

    /// Asks the store whether the work may go on; else its fate, or `None` when a newer claim exists.
    fn ask<P: Partner>(
        applier: &Applier<P>,
        claim: &mut Claim<Self>,
        question: Self::Question,
        calls: &mut Vec<CallMade>,
    ) -> impl Future<Output = ControlFlow<Option<Fate>>> + Send;

    /// Keeps the part of an answer that concerns more than this claim.
    fn keep<P: Partner>(
        applier: &Applier<P>,
        reply: &Reply<Self::Done>,
        asked_at: Timestamp,
    ) -> impl Future<Output = ()> + Send;

    /// `true` if a look-up found nothing.
    fn is_nothing(done: &Self::Done) -> bool;
}

impl Applied for Work {
    fn call<P: Partner>(
        partner: &P,
        call: &Call,
        idempotency_key: Option<uuid::Uuid>,
        until: Timestamp,
    ) -> impl Future<Output = Reply> + Send {
        partner.call(call, idempotency_key, until)
    }

    fn ask<P: Partner>(
        applier: &Applier<P>,
        claim: &mut Claim,
        _: (),
        _: &mut Vec<CallMade>,
    ) -> impl Future<Output = ControlFlow<Option<Fate>>> + Send {
        applier.ask_brake(claim)
    }

    async fn keep<P: Partner>(_: &Applier<P>, _: &Reply, _: Timestamp) {}

    fn is_nothing(done: &Done) -> bool {
        matches!(done, Done::UserLookedUp(None))
    }
}

impl Applied for MemberWork {
    fn call<P: Partner>(
        partner: &P,
        call: &MemberCall,
        idempotency_key: Option<uuid::Uuid>,
        until: Timestamp,
    ) -> impl Future<Output = Reply<MemberDone>> + Send {
        partner.call_for_member(call, idempotency_key, until)
    }

    fn ask<P: Partner>(
        applier: &Applier<P>,
        claim: &mut Claim<Self>,
        proposal: Proposal,
        calls: &mut Vec<CallMade>,
    ) -> impl Future<Output = ControlFlow<Option<Fate>>> + Send {
        applier.ask_team(claim, proposal, calls)
    }

    async fn keep<P: Partner>(applier: &Applier<P>, reply: &Reply<MemberDone>, asked_at: Timestamp) {
        let Reply::Done(MemberDone::StaffListed { staff, .. }) = reply else { return };
        let protected = applier.policy.team.protected.clone();
        if let Err(error) = applier.store.keep_staff(asked_at, staff.clone(), protected).await {
            tracing::warn!(%error, "the list of the staff could not be kept; it is read again");
        }
    }

    fn is_nothing(done: &MemberDone) -> bool {
        matches!(done, MemberDone::LookedUp(None))
    }
}

impl<P: Partner> Applier<P> {
    /// Works on one due event of a customer, from claim to settlement.
    pub async fn step(&self) -> Step {
        self.step_of::<Work>().await
    }

    /// As [`Applier::step`], for an event of a member.
    pub async fn member_step(&self) -> Step {
        self.step_of::<MemberWork>().await
    }

    /// Claims what is due of customers, as much as there are permits for, and works on each in a task of `tasks`: one commit claims
    /// for many, and no task asks in vain. Dropping `tasks` ends them where they are, as a crash would.
    pub async fn feed(self: Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Step {
        self.feed_of::<Work>(tasks).await
    }

    /// As [`Applier::feed`], of members.
    pub async fn feed_members(self: Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Step {
        self.feed_of::<MemberWork>(tasks).await
    }

    async fn step_of<W: Applied>(&self) -> Step {
        match self.claim::<W>(1).await {
            ControlFlow::Continue(mut claimed) => {
                self.wake.notify_one();
                self.work(claimed.remove(0)).await
            }
            ControlFlow::Break(step) => step,
        }
    }

    async fn feed_of<W: Applied>(self: Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Step {
        match self.claim::<W>(CLAIMS_AT_ONCE).await {
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
    async fn claim<W: Applied>(&self, wanted: usize) -> ControlFlow<Step, Vec<Claimed<W>>> {
        if let Some(until) = self.partner.paused_until() {
            return ControlFlow::Break(Step::IdleFor(until.since(self.clock.now()).min(CIRCUIT_LOOK)));
        }
        self.permits.set_limit(claims_for(self.partner.concurrency()));
        let permits = self.permits.acquire_up_to(wanted);
        if permits.is_empty() {
            return ControlFlow::Break(Step::Idle);
        }
        let claims = match self.store.claims_of::<W>(permits.len(), self.lease()).await {
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
            let failing_since = claim.work.failing_since();
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

    async fn work<W: Applied>(&self, claimed: Claimed<W>) -> Step {
        let Claimed { mut claim, permit } = claimed;
        let mut calls = Vec::new();
        let fate = AssertUnwindSafe(self.drive(&mut claim, &mut calls)).catch_unwind().await;
        drop(permit);
        let fate = match fate {
            Ok(Some(fate)) => fate,
            // A newer claim exists: its worker finds out again what this one has found.
            Ok(None) => return Step::Busy,
            Err(_) => {
                tracing::error!(event.id = %claim.work.head().id, "the bridge panicked over an event; it is parked");
                claim.work.interrupt(self.clock.now(), &self.policy)
            }
        };
        let now = self.clock.now();
        let verdict = Arc::new(claim.work.settle_with(fate, now, &self.policy));
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
                tracing::warn!(%error, event.id = %claim.work.head().id, "an event could not be settled");
                Step::Failed
            }
        }
    }

    /// Asks, calls and judges until the event's fate is known; `None` when a newer claim exists.
    async fn drive<W: Applied>(&self, claim: &mut Claim<W>, calls: &mut Vec<CallMade>) -> Option<Fate> {
        claim.work.resume(self.clock.now(), &self.policy);
        if let Some(fate) = claim.work.too_soon(self.clock.now(), &self.policy) {
            return Some(fate);
        }
        loop {
            let moment = self.moment();
            let call = match claim.work.step(moment, &self.policy) {
                WorkStep::Call(call) => call,
                WorkStep::Ask(question) => match W::ask(self, claim, question, calls).await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(fate) => return fate,
                },
                WorkStep::End(fate) => return Some(fate),
            };
            if calls.len() >= CALLS_MAX {
                let why = "Podero's answers lead to no end";
                return Some(claim.work.fail(Setback::TooManyCalls, why, moment, &self.policy));
            }
            if !self.may_call(claim).await {
                return None;
            }
            let reply = self.call(claim, &call, calls).await;
            match claim.work.judge(&call, reply, self.moment(), &self.policy) {
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

    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), jitter: self.clock.jitter() }
    }

    /// Asks whether a change of a member may be made; else its fate, or `None` as [`Applier::drive`] says it. The store wants a list of
    /// the staff that is not too old, and before it refuses for too few admins one of this moment.
    async fn ask_team(
        &self,
        claim: &mut Claim<MemberWork>,
        proposal: Proposal,
        calls: &mut Vec<CallMade>,
    ) -> ControlFlow<Option<Fate>> {
        let began = self.clock.now();
        for _ in 0..=LISTS_MAX {
            let result = (self, &*claim, &proposal);
            let asked = pump::offer(&self.clock, claim.lease_until, result, |(it, claim, proposal)| {
                it.store.ask_team(claim, proposal.clone(), &it.policy.team, began).boxed()
            });
            match asked.await {
                Ok(TeamAnswer::Allowed) => {
                    claim.work.clear();
                    return ControlFlow::Continue(());
                }
                Ok(TeamAnswer::Refused(refused)) => {
                    let PolicyRefusal { reason, detail } = refused;
                    return ControlFlow::Break(Some(Fate::Parked { reason, detail }));
                }
                Ok(TeamAnswer::Fenced) => return ControlFlow::Break(None),
                Ok(TeamAnswer::WantsList) => {}
                Err(error) => {
                    tracing::warn!(%error, event.id = %claim.work.event.id, "the policy of the team could not be asked");
                    return ControlFlow::Break(None);
                }
            }
            if !self.may_call(claim).await {
                return ControlFlow::Break(None);
            }
            let list = MemberCall::ListStaff { email: None };
            let reply = self.call(claim, &list, calls).await;
            if !matches!(reply, Reply::Done(_))
                && let Decision::Settle(fate) = claim.work.judge(&list, reply, self.moment(), &self.policy)
            {
                return ControlFlow::Break(Some(fate));
            }
        }
        let why = "the list of the staff was too old as soon as it was read";
        ControlFlow::Break(Some(claim.work.fail(Setback::TooManyCalls, why, self.moment(), &self.policy)))
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
    async fn may_call<W: LaneWork>(&self, claim: &mut Claim<W>) -> bool {
        let needed = self.call_time_max + self.request_time_max + LEASE_MARGIN / 2;
        let lasts = |claim: &Claim<W>| claim.lease_until.since(self.clock.now()) >= needed;
        lasts(claim) || (self.save(claim).await && lasts(claim))
    }

    /// The last moment at which a request may leave: its answer, or its end at its deadline and the time after it in which
    /// Podero may still act, falls within the lease.
    fn leaves_until<W>(&self, claim: &Claim<W>) -> Timestamp {
        claim.lease_until.minus(self.request_time_max * 2 + LEASE_MARGIN / 2)
    }

    /// Saves the progress. `false`: go no further. Either a newer claim exists, or the store is away, and then the lapsed lease
    /// brings the event back with everything in doubt.
    async fn save<W: LaneWork>(&self, claim: &mut Claim<W>) -> bool {
        let (lease_until, result) = (claim.lease_until, (self, &mut *claim));
        let saved =
            pump::offer(&self.clock, lease_until, result, |(it, claim)| it.store.save(claim, it.lease()).boxed());
        match saved.await {
            Ok(Settled::Recorded) => true,
            Ok(Settled::Fenced) => false,
            Err(error) => {
                tracing::warn!(%error, event.id = %claim.work.head().id, "progress could not be saved");
                false
            }
        }
    }

    async fn call<W: Applied>(&self, claim: &Claim<W>, call: &W::Call, calls: &mut Vec<CallMade>) -> Reply<W::Done> {
        let event = claim.work.head().id;
        let idempotency_key = call.idempotency_key(event);
        let at = self.clock.now();
        let reply = W::call(&self.partner, call, idempotency_key, self.leaves_until(claim)).await;
        let made = CallMade {
            id: self.clock.fresh_id(),
            at,
            operation: call.operation(),
            outcome: outcome_of(&reply, W::is_nothing),
            took: self.clock.now().since(at),
            idempotency_key,
        };
        tracing::debug!(
            event.id = %event,
            operation = made.operation.name(),
            outcome = %made.outcome,
            "called Podero"
        );
        calls.push(made);
        W::keep(self, &reply, at).await;
        reply
    }

    fn report<W: LaneWork>(&self, claim: &Claim<W>, verdict: &Verdict<W::State, W::Event>, calls: &[CallMade]) {
        let EventHead { id, kind, type_name, subject, effective_at, .. } = claim.work.head();
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
            self.metrics.event_settled(kind, outcome);
        }
        if outcome == Some(Outcome::Applied) {
            let from = claim.work.tries_from();
            let effective = effective_at.map_or(from, |at| at.max(from));
            self.metrics.event_duration.observe(self.clock.now().since(effective).as_secs_f64());
        }
        let topics = verdict.notices.iter().map(|notice: &Notice| notice.topic.name()).collect::<Vec<_>>().join(",");
        // An id that is an address is personal data; that of a customer is the utility's own choice.
        let is_shown = W::LANES == LaneKind::Customers || !is_address(subject);
        let shown = |kind| (W::LANES == kind && is_shown).then(|| tracing::field::display(subject));
        tracing::info!(
            event.id = %id,
            event.type = type_name,
            customer.id = shown(LaneKind::Customers),
            member.id = shown(LaneKind::Members),
            fate = name,
            calls = calls.len(),
            attempt = verdict.failures,
            notices = topics,
            "an event was worked on"
        );
    }
}

/// A reply in a few words for the timeline; never the answer itself.
fn outcome_of<A>(reply: &Reply<A>, is_nothing: fn(&A) -> bool) -> String {
    match reply {
        Reply::Done(done) if is_nothing(done) => "not there".to_owned(),
        Reply::Done(_) => "done".to_owned(),
        Reply::Refused(refusal) => format!("refused {}", refusal.status),
        Reply::Busy { .. } => "busy".to_owned(),
        Reply::Held { status } => format!("held {status}"),
        Reply::Unsent { why } => format!("unsent: {why}"),
        Reply::Unknown { why } => format!("unknown: {why}"),
    }
}
