//! The gate to Podero: its pace, its pauses, and the circuit, which a [`Probe`] closes and opens.
//!
//! A pause that Podero asks for, and an open circuit, hold the whole target. A [`Probe`], a call by the bridge itself, asks
//! whether Podero is there: it closes an open circuit, and it alone opens one on failures that may be a single customer's. This
//! file never sleeps, never sends and never repeats a call.
//!
//! | reply | pace and pause | circuit |
//! |---|---|---|
//! | `Done`, `Refused` | stays as it is | stays; forgets failures in a row |
//! | `Busy` | slower; paused as long as Podero wishes, at most [`RETRY_AFTER_MAX`]; without a wish only after [`BUSY_IN_ROW_MAX`] in a row | stays; forgets failures in a row |
//! | `Held` | - | opens at once; a 403 about one customer raises a suspicion after [`FORBIDDEN_MAX`] in a row |
//! | `Unsent`, `Unknown` | - | raises a suspicion after [`FAILURES_MAX`] in a row |
//!
//! In a quiet hour the only calls may be those of one customer, and fail for its own reasons. So a row is only a suspicion: it
//! asks for a probe, at most one in [`SUSPICION_EVERY`], and the circuit stays as it is meanwhile. An answer to any call
//! withdraws it; a further failure adds nothing.
//!
//! | probe's reply | circuit closed, suspicion stands | circuit open, or a pause has passed |
//! |---|---|---|
//! | `Done`, `Refused`, `Busy` | stays closed; forgets the rows | closes |
//! | `Held`, `Unsent`, `Unknown` | opens | stays open for longer; opens |
//!
//! While the circuit is open a reply changes nothing but pace and pause: calls in flight are old news. The reply to a probe of
//! a suspicion that has been withdrawn, or that an opening overtook, counts like any other reply.
//!
//! The budget is shared by all replicas: each uses its part, and all adopt what one learns of Podero.
//!
//! Before: [`super::turnstile`] asks for admission. After: it is settled with each reply.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use super::partner::Observe;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::call::RETRY_AFTER_MAX;
use crate::domain::call::{Instead, Reply};
use crate::domain::partner_health::{CircuitCause, Hold, Opening, PartnerHealth};
use crate::domain::retry::RetrySchedule;
use crate::permits::Permits;

/// Divisor of a second's budget that gives the largest burst (1/20: 50 ms). Timers of a millisecond's resolution can still use
/// up a large budget, while any second sees at most 5 % more than it.
pub(super) const BURST_DIVISOR: u32 = 20;

/// Divisor of the pace that gives the smallest change worth a new limiter.
const PACE_STEP_DIVISOR: u32 = 20;

/// Limit of failures in a row, of any calls: at the limit they may be Podero's trouble and not one customer's.
pub(super) const FAILURES_MAX: u32 = 10;

/// Limit of 403 in a row, without an answer between them: at the limit they may be the bridge's trouble. They may be about the
/// customer alone (a role, a lock), and one customer's trouble must not hold the others; but a bridge that lost its rights gets
/// nothing else, and knows it after three calls and a probe.
const FORBIDDEN_MAX: u32 = 3;

/// Interval between two probes of suspicions. A customer whose calls go on failing raises one suspicion after the other: this
/// bounds what they cost Podero. It is as long as the shortest opening, so that an outage is not found later than before.
const SUSPICION_EVERY: Duration = Duration::from_secs(1);

/// Limit of "slow down" without a wish in a row. One lowers the pace; at the limit a lower pace does not help.
const BUSY_IN_ROW_MAX: u32 = 3;

/// Delays of the target after [`BUSY_IN_ROW_MAX`]; not the retry policy of events. They double while the answer stays the same.
const BUSY_PAUSES: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Delay of the next look while a probe is under way: the circuit is open for this much longer.
const PROBE_GLANCE: Duration = Duration::from_secs(1);

/// The budget of requests, of all replicas together. Both bounds are at least 1 (checked by the settings).
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Requests in flight at once.
    pub(super) max_in_flight: usize,
    /// Requests per second.
    pub(super) per_second: NonZeroU32,
}

/// The subject that a reply is evidence about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Podero and the bridge.
    Podero,
    /// Maybe one customer alone.
    OneCustomer,
    /// Nothing: the bridge itself did not send.
    Nothing,
}

/// The purpose of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbePurpose {
    /// Tells whether a row of failures is Podero's trouble or one customer's. Only the process that met them can ask.
    Suspicion,
    /// Tells whether Podero is back. All replicas wait for that, and one of them asks.
    Return,
}

fn limiter(per_second: NonZeroU32) -> DefaultDirectRateLimiter {
    let burst = NonZeroU32::new(per_second.get() / BURST_DIVISOR).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst))
}

/// The knowledge of the target as a whole, and the permits of the requests in flight.
pub(super) struct Gate {
    clock: Clock,
    watcher: Arc<dyn Observe>,
    budget: Budget,
    state: Mutex<GateState>,
    pace: Mutex<Paced>,
    /// Requests in flight.
    pub(super) permits: Permits,
    /// Woken when a pause or the circuit changed here.
    pub(super) changed: Arc<Notify>,
    /// Woken when a suspicion was raised here: a probe is due.
    pub(super) suspected: Arc<Notify>,
}

/// Lets requests go at a pace.
struct Paced {
    per_second: NonZeroU32,
    limiter: Arc<DefaultDirectRateLimiter>,
}

#[derive(Default)]
struct GateState {
    health: PartnerHealth,
    /// The number of live replicas, this one among them.
    replicas: usize,
    busy_in_row: u32,
    failures_in_row: u32,
    forbidden_in_row: u32,
    is_probing: bool,
    /// `true` once the store's knowledge was adopted since the start.
    has_adopted: bool,
    /// The time of the last probe of a suspicion.
    suspicion_probed_at: Option<Timestamp>,
}

impl GateState {
    fn is_suspicious(&self) -> bool {
        self.failures_in_row >= FAILURES_MAX || self.forbidden_in_row >= FORBIDDEN_MAX
    }

    fn forget_failures(&mut self) {
        (self.failures_in_row, self.forbidden_in_row) = (0, 0);
    }

    fn purpose(&self, now: Timestamp) -> Option<ProbePurpose> {
        // A clock that was set back must not keep a suspicion waiting.
        let is_soon = |at: Timestamp| at <= now && now.since(at) < SUSPICION_EVERY;
        let may_suspect = self.health.hold(now).is_none() && !self.suspicion_probed_at.is_some_and(is_soon);
        if self.is_probing {
            None
        } else if may_suspect && self.is_suspicious() {
            Some(ProbePurpose::Suspicion)
        } else {
            self.health.is_probe_due(now).then_some(ProbePurpose::Return)
        }
    }
}

/// The single call that may be made outside the budget. If its caller gives up, it ends without a result.
pub(super) struct Probe {
    gate: Arc<Gate>,
    purpose: ProbePurpose,
}

impl Probe {
    /// Learns from the reply to the probe.
    pub(super) fn settle(self, reply: &Reply<()>) {
        self.gate.settle_probe(self.purpose, reply);
    }

    /// The opening of the circuit, if that is why calls are held back.
    pub(super) fn opening(&self) -> Option<Opening> {
        self.gate.lock().health.opening()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.gate.lock().is_probing = false;
    }
}

impl Gate {
    pub(super) fn new(budget: Budget, clock: Clock, watcher: Arc<dyn Observe>) -> Arc<Self> {
        let state = GateState { replicas: 1, ..GateState::default() };
        let (changed, suspected) = (Arc::default(), Arc::default());
        let permits = Permits::new(budget.max_in_flight);
        let pace = Paced { per_second: budget.per_second, limiter: Arc::new(limiter(budget.per_second)) };
        let (state, pace) = (Mutex::new(state), Mutex::new(pace));
        Arc::new(Self { clock, watcher, budget, state, pace, permits, changed, suspected })
    }

    /// `Ok` if a call may be made; else the reply in place of it.
    pub(super) fn admit(&self) -> Result<(), Instead> {
        let now = self.clock.now();
        match self.lock_at(now).health.hold(now) {
            None => Ok(()),
            Some(Hold::Paused { until }) => Err(Reply::Busy { after: Some(until.since(now)) }),
            Some(Hold::Open(Opening { why: CircuitCause::Refused { status }, .. })) => Err(Reply::Held { status }),
            Some(Hold::Open(opening)) => Err(Reply::Busy { after: Some(next_look(&opening, now).since(now)) }),
        }
    }

    /// The health of Podero, as this process knows it.
    pub(super) fn health(&self) -> PartnerHealth {
        self.lock_at(self.clock.now()).health
    }

    /// The end of the time for which the whole target is held; `None` when it is open.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        match self.lock_at(now).health.hold(now)? {
            Hold::Paused { until } => Some(until),
            Hold::Open(opening) => Some(next_look(&opening, now)),
        }
    }

    /// Requests per second that this process may make now, and at full pace.
    pub(super) fn per_second(&self) -> (u32, u32) {
        let now = self.clock.now();
        let state = self.lock_at(now);
        let replicas = u32::try_from(state.replicas).unwrap_or(u32::MAX);
        let whole = (self.budget.per_second.get() / replicas).max(1);
        (state.health.pace().of(whole, now), whole)
    }

    /// The limiter that says when the next request may go, at the pace of now.
    pub(super) fn limiter(&self) -> Arc<DefaultDirectRateLimiter> {
        let (wanted, whole) = self.per_second();
        let mut pace = self.pace.lock().expect("no code panics while it sets the pace");
        let paced = pace.per_second.get();
        let is_news = wanted.abs_diff(paced) > paced / PACE_STEP_DIVISOR || (wanted == whole && paced != whole);
        if let (true, Some(wanted)) = (is_news, NonZeroU32::new(wanted)) {
            let limiter = limiter(wanted);
            // A new limiter would begin with a burst, at each change of pace.
            while limiter.check().is_ok() {}
            *pace = Paced { per_second: wanted, limiter: Arc::new(limiter) };
        }
        pace.limiter.clone()
    }

    pub(super) fn settle(&self, reply: &Reply<()>, evidence: Evidence) {
        let now = self.clock.now();
        let mut state = self.lock_at(now);
        let is_open = state.health.opening().is_some();
        let was_suspicious = state.is_suspicious();
        match reply {
            Reply::Done(_) | Reply::Refused(_) => {
                state.forget_failures();
                state.busy_in_row = 0;
                state.health.answered(now);
            }
            Reply::Busy { after } => {
                state.failures_in_row = 0;
                self.slow(&mut state, now, *after);
            }
            Reply::Held { .. } | Reply::Unsent { .. } | Reply::Unknown { .. } if is_open => {}
            Reply::Held { status: 403 } if evidence == Evidence::OneCustomer => {
                state.forbidden_in_row = state.forbidden_in_row.saturating_add(1);
            }
            Reply::Held { status } => self.open(&mut state, now, CircuitCause::Refused { status: *status }),
            Reply::Unsent { .. } | Reply::Unknown { .. } => {
                state.failures_in_row = state.failures_in_row.saturating_add(1);
            }
        }
        if state.is_suspicious() && !was_suspicious {
            tracing::debug!(?reply, "nothing but failures: Podero's trouble, or one customer's? A probe tells");
            self.suspected.notify_one();
        }
    }

    /// The purpose of a probe now; `None` when none is due.
    pub(super) fn purpose(&self) -> Option<ProbePurpose> {
        let now = self.clock.now();
        self.lock_at(now).purpose(now)
    }

    /// The right to probe, if a probe is due and no other task of this process has it.
    pub(super) fn begin_probe(gate: &Arc<Self>) -> Option<Probe> {
        let now = gate.clock.now();
        let mut state = gate.lock_at(now);
        let purpose = state.purpose(now)?;
        state.is_probing = true;
        if purpose == ProbePurpose::Suspicion {
            state.suspicion_probed_at = Some(now);
        }
        Some(Probe { gate: gate.clone(), purpose })
    }

    fn settle_probe(&self, purpose: ProbePurpose, reply: &Reply<()>) {
        let now = self.clock.now();
        let mut state = self.lock_at(now);
        if purpose == ProbePurpose::Suspicion && !state.is_suspicious() {
            drop(state);
            return self.settle(reply, Evidence::Podero);
        }
        match reply {
            Reply::Done(_) | Reply::Refused(_) => self.close(&mut state, now),
            // Podero answers, and the pause it may ask for comes first.
            Reply::Busy { after } => {
                self.slow(&mut state, now, *after);
                self.close(&mut state, now);
            }
            Reply::Held { status } => self.open(&mut state, now, CircuitCause::Refused { status: *status }),
            Reply::Unsent { .. } | Reply::Unknown { .. } => self.open(&mut state, now, CircuitCause::Away),
        }
    }

    /// Learns what other replicas know, and how many of them share the budget.
    pub(super) fn adopt(&self, known: PartnerHealth, replicas: usize) {
        let now = self.clock.now();
        let mut state = self.lock_at(now);
        let was_open = state.health.opening().is_some();
        let is_first = !std::mem::replace(&mut state.has_adopted, true);
        // Merged, not replaced: this process may have learnt more meanwhile.
        state.health = state.health.merge(known.plausible(now));
        state.replicas = replicas.max(1);
        if is_first && state.replicas == 1 {
            // A process that ended left this opening behind: a start often follows the cure.
            state.health.ask_soon(now);
        }
        match (was_open, state.health.opening()) {
            (false, Some(opening)) => {
                state.forget_failures();
                if is_first {
                    let (why, since) = (opening.why, opening.since);
                    tracing::warn!(?why, %since, "circuit open: it was open before this start; a probe tells whether it still is");
                } else {
                    tracing::warn!(why = ?opening.why, "circuit opened: another replica says so");
                }
                self.watcher.circuit(true);
            }
            (true, None) => self.closed(&mut state),
            (true, Some(_)) | (false, None) => {}
        }
        self.permits.set_limit((self.budget.max_in_flight / state.replicas).max(1));
    }

    fn open(&self, state: &mut GateState, now: Timestamp, why: CircuitCause) {
        let was_open = state.health.opening().is_some();
        state.forget_failures();
        state.health.open(now, why);
        if !was_open {
            tracing::warn!(?why, "circuit opened: Podero is asked nothing but probes");
            self.watcher.circuit(true);
        }
        self.changed.notify_one();
    }

    fn close(&self, state: &mut GateState, now: Timestamp) {
        let was_open = state.health.opening().is_some();
        state.forget_failures();
        state.health.close(now);
        if was_open {
            self.closed(state);
        }
        self.changed.notify_one();
    }

    fn closed(&self, state: &mut GateState) {
        state.busy_in_row = 0;
        tracing::info!("circuit closed: Podero answers again");
        self.watcher.circuit(false);
    }

    /// Slows down, and holds the whole target when Podero names a pause, or answers nothing but "slow down" any more.
    fn slow(&self, state: &mut GateState, now: Timestamp, after: Option<Duration>) {
        let is_paused = state.health.paused(now).is_some();
        state.health.slow(now);
        let wish = match after {
            Some(wish) => wish,
            // Calls in flight when the pause began all repeat the same answer: that is one `Busy`, not many.
            None if is_paused => return,
            None => {
                state.busy_in_row = state.busy_in_row.saturating_add(1);
                match state.busy_in_row.checked_sub(BUSY_IN_ROW_MAX) {
                    Some(more) => BUSY_PAUSES.ceiling(more.saturating_add(1)),
                    None => return,
                }
            }
        };
        if wish > RETRY_AFTER_MAX {
            tracing::warn!(wish_s = wish.as_secs(), "Podero asks for a longer pause than is believable");
        }
        let until = now.plus(wish.min(RETRY_AFTER_MAX));
        if state.health.pause(now, until) {
            tracing::warn!(%until, "Podero asks for a pause");
            self.changed.notify_one();
        }
    }

    /// The state without anything that this clock knows to be impossible: the clock may have been set back.
    fn lock_at(&self, now: Timestamp) -> MutexGuard<'_, GateState> {
        let mut state = self.lock();
        state.health = state.health.plausible(now);
        state
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().expect("no code panics while it holds the gate")
    }
}

/// The time of the next look at an open circuit: when its probe is due, or a little later when that is past.
fn next_look(opening: &Opening, now: Timestamp) -> Timestamp {
    if opening.until > now { opening.until } else { now.plus(PROBE_GLANCE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const DONE: Reply<()> = Reply::Done(());
    const AWAY: Reply<()> = Reply::Unsent { why: "connect" };
    const BUSY: Reply<()> = Reply::Busy { after: None };
    const FORBIDDEN: Reply<()> = Reply::Held { status: 403 };

    fn gate() -> (Arc<Gate>, Clock) {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let budget = Budget { max_in_flight: 8, per_second: NonZeroU32::new(100).expect("not 0") };
        (Gate::new(budget, clock.clone(), Arc::new(())), clock)
    }

    fn admitted(gate: &Gate) -> Result<(), Reply<()>> {
        gate.admit().map_err(Reply::of_call)
    }

    fn seconds(gate: &Gate) -> Option<u64> {
        let now = gate.clock.now();
        gate.paused_until().map(|until| until.since(now).as_secs())
    }

    fn is_rung(gate: &Gate) -> bool {
        gate.suspected.notified().now_or_never().is_some()
    }

    /// One customer's calls fail until it looks like Podero's trouble.
    fn suspect(gate: &Gate, reply: &Reply<()>) {
        for _ in 0..FAILURES_MAX {
            gate.settle(reply, Evidence::OneCustomer);
        }
    }

    fn busy_for(seconds: u64) -> Reply<()> {
        Reply::Busy { after: Some(Duration::from_secs(seconds)) }
    }

    /// Failures in a row raise a suspicion and an answer between them does not.
    #[test]
    fn failures_in_a_row_raise_a_suspicion() {
        let (gate, _) = gate();
        for between in [DONE, busy_for(0)] {
            for _ in 1..FAILURES_MAX {
                gate.settle(&AWAY, Evidence::Podero);
            }
            gate.settle(&between, Evidence::Podero);
        }
        for _ in 1..FAILURES_MAX {
            gate.settle(&AWAY, Evidence::Podero);
        }
        assert!(!is_rung(&gate) && Gate::begin_probe(&gate).is_none());
        gate.settle(&AWAY, Evidence::Podero);
        assert!(is_rung(&gate), "it waits for no timer");
        let probe = Gate::begin_probe(&gate).expect("a suspicion");
        assert_eq!(admitted(&gate), Ok(()), "and no more than that");
        probe.settle(&AWAY);
        assert_eq!(admitted(&gate), Err(busy_for(1)), "no failure of the event that asks");
        assert_eq!(seconds(&gate), Some(1));
    }

    #[test]
    fn only_a_probe_that_fails_opens_on_a_suspicion_and_it_says_why() {
        let refused = |status| Some(CircuitCause::Refused { status });
        for (row, expected_of) in [(AWAY, FAILURES_MAX), (FORBIDDEN, FORBIDDEN_MAX)] {
            for (reply, why) in [
                (DONE, None),
                (busy_for(0), None),
                (AWAY, Some(CircuitCause::Away)),
                (Reply::Unknown { why: "server error" }, Some(CircuitCause::Away)),
                (FORBIDDEN, refused(403)),
                (Reply::Held { status: 401 }, refused(401)),
            ] {
                let (gate, clock) = gate();
                suspect(&gate, &row);
                let probe = Gate::begin_probe(&gate).expect("a suspicion");
                // Other failures meanwhile have the same cause.
                for _ in 0..3 * expected_of {
                    gate.settle(&row, Evidence::OneCustomer);
                }
                assert_eq!(admitted(&gate), Ok(()), "{row:?} {reply:?}");
                probe.settle(&reply);
                assert_eq!(gate.lock().health.opening().map(|opening| opening.why), why, "{row:?} {reply:?}");
                clock.advance(Duration::from_secs(60));
                assert_eq!(
                    gate.lock().purpose(clock.now()),
                    why.map(|_| ProbePurpose::Return),
                    "nothing is left of the row"
                );
            }
        }
    }

    /// An answer withdraws a suspicion and its probe is then one call among others.
    #[test]
    fn an_answer_withdraws_a_suspicion() {
        let (gate, _) = gate();
        suspect(&gate, &AWAY);
        let probe = Gate::begin_probe(&gate).expect("a suspicion");
        gate.settle(&DONE, Evidence::OneCustomer);
        probe.settle(&AWAY);
        assert_eq!((admitted(&gate), gate.lock().failures_in_row), (Ok(()), 1));
    }

    #[test]
    fn suspicions_cost_podero_a_call_a_second_and_none_in_a_pause() {
        let (gate, clock) = gate();
        suspect(&gate, &FORBIDDEN);
        Gate::begin_probe(&gate).expect("the first").settle(&DONE);
        suspect(&gate, &FORBIDDEN);
        assert!(Gate::begin_probe(&gate).is_none(), "too soon");
        clock.advance(SUSPICION_EVERY);
        drop(Gate::begin_probe(&gate).expect("a second later"));
        clock.advance(SUSPICION_EVERY);
        gate.settle(&busy_for(2), Evidence::Podero);
        assert!(Gate::begin_probe(&gate).is_none(), "it wants to be left alone");
        clock.advance(Duration::from_secs(2));
        Gate::begin_probe(&gate).expect("given up, it stands; and so it does after a pause").settle(&FORBIDDEN);
        assert_eq!(admitted(&gate), Err(FORBIDDEN));
    }

    #[test]
    fn an_opening_that_overtakes_a_suspicion_is_told_by_its_own_probe() {
        let ((mine, _), (theirs, _)) = (gate(), gate());
        theirs.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        let known = theirs.lock().health;
        for reply in [DONE, AWAY, FORBIDDEN] {
            suspect(&mine, &AWAY);
            let probe = Gate::begin_probe(&mine);
            mine.adopt(known, 2);
            if let Some(probe) = probe {
                probe.settle(&reply);
            }
            assert_eq!(mine.lock().health, known, "{reply:?}: it was asked before");
        }
    }

    /// Each failed probe doubles the wait up to a minute and only one probe goes.
    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(seconds(&gate), Some(expected));
            assert!(Gate::begin_probe(&gate).is_none(), "not yet");
            clock.advance(Duration::from_secs(expected));
            let probe = Gate::begin_probe(&gate).expect("it is time");
            assert!(Gate::begin_probe(&gate).is_none(), "one at a time");
            assert_eq!(admitted(&gate), Err(Reply::Held { status: 401 }), "and nobody else");
            assert_eq!(seconds(&gate), Some(1));
            // Calls that were in flight are old news, good or bad.
            gate.settle(&AWAY, Evidence::Podero);
            gate.settle(&DONE, Evidence::Podero);
            probe.settle(&Reply::Held { status: 401 });
        }
        clock.advance(Duration::from_secs(60));
        Gate::begin_probe(&gate).expect("it is time").settle(&DONE);
        assert_eq!((admitted(&gate), seconds(&gate)), (Ok(()), None));
    }

    /// A probe that was given up leaves the next to probe and one that is slowed down closes.
    #[test]
    fn a_probe_that_was_given_up_leaves_the_next_call_to_probe() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        clock.advance(Duration::from_secs(1));
        drop(Gate::begin_probe(&gate).expect("probes"));
        Gate::begin_probe(&gate).expect("probes again").settle(&busy_for(7));
        assert!(gate.lock().health.opening().is_none(), "it answers");
        assert_eq!(admitted(&gate), Err(busy_for(7)), "and says when to come again");
    }

    #[test]
    fn one_customer_that_is_forbidden_holds_nobody_and_a_bridge_that_is_stops() {
        let (gate, _) = gate();
        for _ in 0..10 {
            gate.settle(&FORBIDDEN, Evidence::OneCustomer);
            gate.settle(&FORBIDDEN, Evidence::OneCustomer);
            assert_eq!(admitted(&gate), Ok(()));
            gate.settle(&DONE, Evidence::Podero);
        }
        suspect(&gate, &FORBIDDEN);
        assert_eq!(admitted(&gate), Ok(()));
        Gate::begin_probe(&gate).expect("a suspicion").settle(&FORBIDDEN);
        assert_eq!(admitted(&gate), Err(FORBIDDEN));
        for reply in [FORBIDDEN, Reply::Held { status: 401 }, Reply::Held { status: 302 }] {
            let (gate, _) = super::tests::gate();
            gate.settle(&reply, Evidence::Podero);
            assert_eq!(admitted(&gate), Err(reply));
        }
    }

    #[test]
    fn a_pause_holds_everybody_for_as_long_as_podero_wishes_within_a_day() {
        let day = RETRY_AFTER_MAX.as_secs();
        for (wish, expected) in [(7, Some(7)), (day, Some(day)), (u64::MAX, Some(day)), (0, None)] {
            let (gate, clock) = gate();
            gate.settle(&busy_for(wish), Evidence::Podero);
            assert_eq!(seconds(&gate), expected, "{wish}");
            let Some(expected) = expected else { continue };
            assert_eq!(admitted(&gate), Err(busy_for(expected)));
            // A call that was in flight and went well does not cut the pause short, nor does a smaller wish.
            gate.settle(&DONE, Evidence::Podero);
            gate.settle(&busy_for(1), Evidence::Podero);
            assert_eq!(seconds(&gate), Some(expected));
            assert!(Gate::begin_probe(&gate).is_none(), "no probe either");
            clock.advance(Duration::from_secs(expected));
            assert_eq!(admitted(&gate), Ok(()));
        }
    }

    /// Busy without a wish slows down and pauses only when nothing else is said.
    #[test]
    fn busy_without_a_retry_after_slows_down() {
        let (gate, clock) = gate();
        gate.settle(&BUSY, Evidence::Podero);
        gate.settle(&BUSY, Evidence::Podero);
        assert_eq!((seconds(&gate), gate.per_second()), (None, (70, 100)));
        gate.settle(&DONE, Evidence::Podero);
        gate.settle(&BUSY, Evidence::Podero);
        gate.settle(&BUSY, Evidence::Podero);
        assert_eq!(seconds(&gate), None, "the row was broken");
        for expected in [1, 2, 4] {
            for _ in 0..64 {
                gate.settle(&BUSY, Evidence::Podero);
            }
            assert_eq!(seconds(&gate), Some(expected), "answers to calls of one moment count once");
            clock.advance(Duration::from_secs(expected));
        }
    }

    #[test]
    fn replicas_share_the_budget_and_what_they_know() {
        let ((mine, clock), (theirs, _)) = (gate(), gate());
        mine.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        mine.settle(&busy_for(5), Evidence::Podero);
        let known = mine.lock().health;
        theirs.adopt(known, 2);
        mine.adopt(known, 2);
        assert_eq!((admitted(&theirs), seconds(&theirs)), (Err(busy_for(5)), Some(5)));
        assert_eq!(theirs.per_second(), (35, 50));
        let permits = theirs.permits.acquire_up_to(8);
        assert_eq!(permits.len(), 4);
        theirs.adopt(known, 100);
        assert_eq!(theirs.per_second().1, 1, "never nothing");
        clock.advance(Duration::from_secs(5));
        Gate::begin_probe(&mine).expect("due").settle(&DONE);
        theirs.adopt(mine.lock().health, 1);
        assert!(theirs.lock().health.opening().is_none(), "closed for all");
        assert_eq!(theirs.permits.acquire_up_to(8).len(), 4, "the other half");
    }
}
