//! One budget for everything that is asked of Podero: calls in flight, requests per second, pauses, the circuit.
//!
//! Events go first; polls take what is left, and a small fixed share so that the watch never goes blind under
//! a long import. A pause that Podero asks for, and an open circuit, hold the whole target: whoever asks then is
//! told so at once, nobody waits for hours, and nothing counts against the event that wanted to be sent. What opens
//! the circuit again is a [`Probe`], a call of the bridge's own. This file never sleeps, never sends and never repeats
//! a call.
//!
//! | reply | pace and pause | circuit |
//! |---|---|---|
//! | `Done`, `Refused` | stays as it is | stays; forgets failures in a row |
//! | `Busy` | slower; paused as long as Podero wishes, at most [`RETRY_AFTER_MAX`]; without a wish only after [`BUSY_IN_ROW_MAX`] in a row | stays; forgets failures in a row |
//! | `Held` | - | opens at once; a 403 about one customer only after [`FORBIDDEN_MAX`] in a row |
//! | `Unsent`, `Unknown` | - | opens after [`FAILURES_MAX`] in a row |
//!
//! While it is open a reply changes nothing but pace and pause: what was in flight is old news. A probe closes it by
//! any answer that makes sense (`Done`, `Refused`, `Busy`) and otherwise keeps it open for longer.
//!
//! The budget is shared by all replicas: each uses its part, and what one learns of Podero the others adopt.
//!
//! Before: [`crate::podero`] asks for a [`Slot`] per request. After: the slot is settled with the reply.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Observe, Urgency};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::plan::Reply;
use crate::domain::retry::RetrySchedule;
use crate::domain::standing::{Hold, Opening, Standing, Why};
use crate::domain::verdict::RETRY_AFTER_MAX;

/// The longest wait for a slot. At the default budget of 50 requests a second this is a queue of 1,500: whoever
/// waits behind more than that does better to give the claim back than to let its lease run out.
pub(super) const SLOT_WAIT_MAX: Duration = Duration::from_secs(30);

/// Waiters per urgency; a few times what [`SLOT_WAIT_MAX`] can serve at the default budget.
const WAITERS_MAX: usize = 4_096;

/// After so many events in a row one waiting poll gets its turn: 6 % of the budget keeps the watch seeing.
const EVENTS_IN_ROW_MAX: u32 = 16;

/// Requests may bunch up to this share of a second's budget (1/20: 50 ms), so that timers of a millisecond's
/// resolution can still use up a large budget, while any second sees at most 5 % more than it.
const BURST_DIVISOR: u32 = 20;

/// A change of pace smaller than one in so many is not worth a new limiter.
const PACE_STEP_DIVISOR: u32 = 20;

/// So many failures in a row, of whatever calls, are Podero's trouble and not one customer's.
pub(super) const FAILURES_MAX: u32 = 10;

/// So many 403 in a row, without one answer between them, are the bridge's trouble. One may be about the customer alone
/// (a role, a lock), and one customer's trouble must not hold the others; but a bridge that lost its rights gets
/// nothing else, and three calls later knows it.
const FORBIDDEN_MAX: u32 = 3;

/// A "slow down" without a wish lowers the pace; so many in a row show that it is no matter of pace.
const BUSY_IN_ROW_MAX: u32 = 3;

/// How long those pause the target; doubles while the answer stays the same.
const BUSY_PAUSES: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// While a probe is under way the circuit is open for this much longer: look again then.
const PROBE_GLANCE: Duration = Duration::from_secs(1);

/// What may be asked of Podero, by all replicas together. Both bounds are at least 1 (checked by the settings).
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Requests at one time.
    pub(super) max_in_flight: usize,
    /// Requests per second.
    pub(super) per_second: NonZeroU32,
}

/// The caller's side of the budget.
pub(super) struct Throttle {
    gate: Arc<Gate>,
    events: mpsc::Sender<Waiter>,
    polls: mpsc::Sender<Waiter>,
}

/// The dispatcher's side: hands slots to whoever goes first.
pub(super) struct Turnstile {
    gate: Arc<Gate>,
    limiter: DefaultDirectRateLimiter,
    /// Requests per second of `limiter`.
    paced: NonZeroU32,
    events: mpsc::Receiver<Waiter>,
    polls: mpsc::Receiver<Waiter>,
    events_in_row: u32,
}

struct Waiter {
    give: oneshot::Sender<Result<Place, Reply>>,
}

/// One of the requests that may be in flight; dropping it gives the place free.
struct Place {
    gate: Arc<Gate>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().in_flight -= 1;
        self.gate.freed.notify_one();
    }
}

/// The right to make one request. Dropping it gives the place free; [`Slot::settle`] also tells how it went.
pub(super) struct Slot {
    place: Place,
}

/// What a reply speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Podero and the bridge.
    Podero,
    /// Maybe one customer alone.
    OneCustomer,
    /// Nothing: it was the bridge that did not send.
    Nothing,
}

/// Makes both sides of one budget.
pub(super) fn throttle(budget: Budget, clock: Clock, watcher: Arc<dyn Observe>) -> (Throttle, Turnstile) {
    let gate = Gate::new(budget, clock, watcher);
    let (events, events_out) = mpsc::channel(WAITERS_MAX);
    let (polls, polls_out) = mpsc::channel(WAITERS_MAX);
    let turnstile = Turnstile {
        gate: gate.clone(),
        limiter: limiter(budget.per_second),
        paced: budget.per_second,
        events: events_out,
        polls: polls_out,
        events_in_row: 0,
    };
    (Throttle { gate, events, polls }, turnstile)
}

fn limiter(per_second: NonZeroU32) -> DefaultDirectRateLimiter {
    let burst = NonZeroU32::new(per_second.get() / BURST_DIVISOR).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst))
}

impl Throttle {
    /// A slot, or what to answer instead of making the call: `Busy` in a pause, while Podero is away, and when no
    /// place came free within [`SLOT_WAIT_MAX`]; `Held` while the bridge is refused. Only a bridge that shuts down
    /// answers `Unsent`: nothing else here is the event's failure.
    pub(super) async fn slot(&self, urgency: Urgency) -> Result<Slot, Reply> {
        self.gate.admit()?;
        let (give, take) = oneshot::channel();
        let queue = match urgency {
            Urgency::Event { .. } => &self.events,
            Urgency::Poll => &self.polls,
        };
        match queue.try_send(Waiter { give }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Reply::Busy { after: None }),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Reply::Unsent { why: "shutting down" }),
        }
        match tokio::time::timeout(SLOT_WAIT_MAX, take).await {
            Ok(Ok(Ok(place))) => Ok(Slot { place }),
            Ok(Ok(Err(instead))) => Err(instead),
            Ok(Err(_)) => Err(Reply::Unsent { why: "shutting down" }),
            Err(_) => Err(Reply::Busy { after: None }),
        }
    }

    /// Until when the whole target is held; `None` when it is open.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        self.gate.paused_until()
    }

    /// The right to probe, if it is time for one and nobody else in this process is at it.
    pub(super) fn probe(&self) -> Option<Probe> {
        Gate::begin_probe(&self.gate)
    }

    /// Whether it is time for a probe.
    pub(super) fn is_probe_due(&self) -> bool {
        let state = self.gate.lock();
        !state.is_probing && state.standing.is_probe_due(self.gate.clock.now())
    }

    /// What this process knows of Podero as a whole.
    pub(super) fn standing(&self) -> Standing {
        self.gate.lock().standing
    }

    /// Learns what others know, and how many there are to share the budget with.
    pub(super) fn adopt(&self, known: Standing, replicas: usize) {
        self.gate.adopt(known, replicas);
    }

    /// Rung when a pause or the circuit changed here.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.gate.changed.clone()
    }

    /// Requests per second that this process may make now, and when nothing slows it down.
    pub(super) fn per_second(&self) -> (u32, u32) {
        self.gate.per_second()
    }
}

impl Slot {
    /// Gives the slot back and lets the target's standing learn from the reply.
    pub(super) fn settle(self, reply: &Reply, evidence: Evidence) {
        match evidence {
            Evidence::Nothing => {}
            Evidence::Podero | Evidence::OneCustomer => self.place.gate.settle(reply, evidence),
        }
    }
}

impl Turnstile {
    /// Hands out slots until every [`Throttle`] is gone. Place and rate are taken first and the waiter chosen
    /// last, so that an event which came this moment still overtakes every poll.
    pub(super) async fn run(mut self) {
        loop {
            let place = self.place().await;
            self.until_ready().await;
            if !self.hand_over(place).await {
                return;
            }
        }
    }

    async fn place(&self) -> Place {
        loop {
            // A place that comes free between the look and the wait leaves its ring behind.
            if let Some(place) = Gate::take_place(&self.gate) {
                return place;
            }
            self.gate.freed.notified().await;
        }
    }

    /// Waits for the next request's turn at the pace of now.
    async fn until_ready(&mut self) {
        let (wanted, whole) = self.gate.per_second();
        let step = self.paced.get() / PACE_STEP_DIVISOR;
        let is_news = wanted.abs_diff(self.paced.get()) > step || (wanted == whole && self.paced.get() != whole);
        if let (true, Some(wanted)) = (is_news, NonZeroU32::new(wanted)) {
            self.paced = wanted;
            self.limiter = limiter(wanted);
            // A new limiter would begin with a burst, at each change of pace.
            while self.limiter.check().is_ok() {}
        }
        self.limiter.until_ready().await;
    }

    /// Gives the place to the first waiter who is still there and may go. `false`: nobody can come any more.
    async fn hand_over(&mut self, mut place: Place) -> bool {
        while let Some(waiter) = self.next().await {
            let offer = match self.gate.admit() {
                Ok(()) if waiter.give.is_closed() => continue,
                Ok(()) => Ok(place),
                Err(instead) => {
                    // Gone or told: either way the place is still ours.
                    drop(waiter.give.send(Err(instead)));
                    continue;
                }
            };
            match waiter.give.send(offer) {
                Err(Ok(back)) => place = back,
                Ok(()) | Err(Err(_)) => return true,
            }
        }
        false
    }

    async fn next(&mut self) -> Option<Waiter> {
        if self.events_in_row >= EVENTS_IN_ROW_MAX {
            self.events_in_row = 0;
            if let Ok(poll) = self.polls.try_recv() {
                return Some(poll);
            }
        }
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => {
                self.events_in_row += 1;
                Some(event)
            }
            Some(poll) = self.polls.recv() => {
                self.events_in_row = 0;
                Some(poll)
            }
            else => None,
        }
    }
}

/// What is known of the target as a whole, and who is on the way to it.
struct Gate {
    clock: Clock,
    watcher: Arc<dyn Observe>,
    budget: Budget,
    state: Mutex<State>,
    /// A place came free, or there are more of them.
    freed: Notify,
    changed: Arc<Notify>,
}

struct State {
    standing: Standing,
    in_flight: usize,
    /// Those that live, this one among them.
    replicas: usize,
    busy_in_row: u32,
    failures_in_row: u32,
    forbidden_in_row: u32,
    is_probing: bool,
}

/// The single call that may be made while the circuit is open. Ends without a word when its caller gave up.
pub(super) struct Probe {
    gate: Arc<Gate>,
}

impl Probe {
    /// How it went.
    pub(super) fn settle(self, reply: &Reply) {
        self.gate.settle_probe(reply);
    }

    /// Why calls are held back, when it is the circuit.
    pub(super) fn opening(&self) -> Option<Opening> {
        self.gate.lock().standing.opening()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.gate.lock().is_probing = false;
    }
}

impl Gate {
    fn new(budget: Budget, clock: Clock, watcher: Arc<dyn Observe>) -> Arc<Self> {
        let state = State {
            standing: Standing::default(),
            in_flight: 0,
            replicas: 1,
            busy_in_row: 0,
            failures_in_row: 0,
            forbidden_in_row: 0,
            is_probing: false,
        };
        let (freed, changed) = (Notify::new(), Arc::new(Notify::new()));
        Arc::new(Self { clock, watcher, budget, state: Mutex::new(state), freed, changed })
    }

    /// Whether a call may be made; else what to answer instead.
    fn admit(&self) -> Result<(), Reply> {
        let now = self.clock.now();
        match self.lock().standing.hold(now) {
            None => Ok(()),
            Some(Hold::Paused { until }) => Err(Reply::Busy { after: Some(until.since(now)) }),
            Some(Hold::Open(Opening { why: Why::Refused { status }, .. })) => Err(Reply::Held { status }),
            Some(Hold::Open(opening)) => Err(Reply::Busy { after: Some(next_look(&opening, now).since(now)) }),
        }
    }

    fn paused_until(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        match self.lock().standing.hold(now)? {
            Hold::Paused { until } => Some(until),
            Hold::Open(opening) => Some(next_look(&opening, now)),
        }
    }

    fn take_place(gate: &Arc<Self>) -> Option<Place> {
        let mut state = gate.lock();
        let allowed = (gate.budget.max_in_flight / state.replicas).max(1);
        if state.in_flight >= allowed {
            return None;
        }
        state.in_flight += 1;
        Some(Place { gate: gate.clone() })
    }

    fn per_second(&self) -> (u32, u32) {
        let state = self.lock();
        let replicas = u32::try_from(state.replicas).unwrap_or(u32::MAX);
        let whole = (self.budget.per_second.get() / replicas).max(1);
        (state.standing.pace().of(whole, self.clock.now()), whole)
    }

    fn settle(&self, reply: &Reply, evidence: Evidence) {
        let now = self.clock.now();
        let mut state = self.lock();
        let is_open = state.standing.opening().is_some();
        match reply {
            Reply::Done(_) | Reply::Refused(_) => {
                (state.busy_in_row, state.failures_in_row, state.forbidden_in_row) = (0, 0, 0);
                state.standing.answered(now);
            }
            Reply::Busy { after } => {
                state.failures_in_row = 0;
                self.slow(&mut state, now, *after);
            }
            Reply::Held { .. } | Reply::Unsent { .. } | Reply::Unknown { .. } if is_open => {}
            Reply::Held { status: 403 } if evidence == Evidence::OneCustomer => {
                state.forbidden_in_row = state.forbidden_in_row.saturating_add(1);
                if state.forbidden_in_row >= FORBIDDEN_MAX {
                    self.open(&mut state, now, Why::Refused { status: 403 });
                }
            }
            Reply::Held { status } => self.open(&mut state, now, Why::Refused { status: *status }),
            Reply::Unsent { .. } | Reply::Unknown { .. } => {
                state.failures_in_row = state.failures_in_row.saturating_add(1);
                if state.failures_in_row >= FAILURES_MAX {
                    self.open(&mut state, now, Why::Away);
                }
            }
        }
    }

    fn begin_probe(gate: &Arc<Self>) -> Option<Probe> {
        let mut state = gate.lock();
        if state.is_probing || !state.standing.is_probe_due(gate.clock.now()) {
            return None;
        }
        state.is_probing = true;
        Some(Probe { gate: gate.clone() })
    }

    fn settle_probe(&self, reply: &Reply) {
        let now = self.clock.now();
        let mut state = self.lock();
        match reply {
            Reply::Done(_) | Reply::Refused(_) => self.close(&mut state, now),
            // It answers, and the pause it may ask for comes first.
            Reply::Busy { after } => {
                self.slow(&mut state, now, *after);
                self.close(&mut state, now);
            }
            Reply::Held { status } => self.open(&mut state, now, Why::Refused { status: *status }),
            Reply::Unsent { .. } | Reply::Unknown { .. } => self.open(&mut state, now, Why::Away),
        }
    }

    fn adopt(&self, known: Standing, replicas: usize) {
        let mut state = self.lock();
        let was_open = state.standing.opening().is_some();
        // Merged, not replaced: something may have been learnt here meanwhile.
        state.standing = state.standing.merge(known);
        state.replicas = replicas.max(1);
        match (was_open, state.standing.opening()) {
            (false, Some(opening)) => {
                tracing::warn!(why = ?opening.why, "circuit opened: another replica says so");
                self.watcher.circuit(true);
            }
            (true, None) => self.closed(&mut state),
            (true, Some(_)) | (false, None) => {}
        }
        drop(state);
        self.freed.notify_one();
    }

    fn open(&self, state: &mut State, now: Timestamp, why: Why) {
        let was_open = state.standing.opening().is_some();
        state.standing.open(now, why);
        if !was_open {
            tracing::warn!(?why, "circuit opened: Podero is asked nothing but probes");
            self.watcher.circuit(true);
        }
        self.changed.notify_one();
    }

    fn close(&self, state: &mut State, now: Timestamp) {
        let was_open = state.standing.opening().is_some();
        state.standing.close(now);
        if was_open {
            self.closed(state);
        }
        self.changed.notify_one();
    }

    fn closed(&self, state: &mut State) {
        (state.busy_in_row, state.failures_in_row, state.forbidden_in_row) = (0, 0, 0);
        tracing::info!("circuit closed: Podero answers again");
        self.watcher.circuit(false);
    }

    /// Slows down, and holds the whole target when Podero says for how long, or says nothing else any more.
    fn slow(&self, state: &mut State, now: Timestamp, after: Option<Duration>) {
        let is_paused = state.standing.paused(now).is_some();
        state.standing.slow(now);
        let wish = match after {
            Some(wish) => wish,
            // Calls in flight when the pause began all say the same once more: that is one `Busy`, not many.
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
        if state.standing.pause(now, until) {
            tracing::warn!(%until, "Podero asks for a pause");
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the gate")
    }
}

/// When to look again at a circuit that is open: when its probe is due, or a little later when that is over.
fn next_look(opening: &Opening, now: Timestamp) -> Timestamp {
    if opening.until > now { opening.until } else { now.plus(PROBE_GLANCE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Answer;

    const DONE: Reply = Reply::Done(Answer::Nothing);
    const AWAY: Reply = Reply::Unsent { why: "connect" };
    const BUSY: Reply = Reply::Busy { after: None };
    const FORBIDDEN: Reply = Reply::Held { status: 403 };

    fn gate() -> (Arc<Gate>, Clock) {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let budget = Budget { max_in_flight: 8, per_second: NonZeroU32::new(100).expect("not 0") };
        (Gate::new(budget, clock.clone(), Arc::new(())), clock)
    }

    fn seconds(gate: &Gate) -> Option<u64> {
        let now = gate.clock.now();
        gate.paused_until().map(|until| until.since(now).as_secs())
    }

    fn busy_for(seconds: u64) -> Reply {
        Reply::Busy { after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_an_answer_between_them_does_not() {
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
        assert_eq!(gate.admit(), Ok(()));
        gate.settle(&AWAY, Evidence::Podero);
        assert_eq!(gate.admit(), Err(busy_for(1)), "no failure of the event that asks");
        assert_eq!(seconds(&gate), Some(1));
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute_and_only_one_probe_goes() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(seconds(&gate), Some(expected));
            assert!(Gate::begin_probe(&gate).is_none(), "not yet");
            clock.advance(Duration::from_secs(expected));
            let probe = Gate::begin_probe(&gate).expect("it is time");
            assert!(Gate::begin_probe(&gate).is_none(), "one at a time");
            assert_eq!(gate.admit(), Err(Reply::Held { status: 401 }), "and nobody else");
            assert_eq!(seconds(&gate), Some(1));
            // What was in flight is old news, good or bad.
            gate.settle(&AWAY, Evidence::Podero);
            gate.settle(&DONE, Evidence::Podero);
            probe.settle(&Reply::Held { status: 401 });
        }
        clock.advance(Duration::from_secs(60));
        Gate::begin_probe(&gate).expect("it is time").settle(&DONE);
        assert_eq!((gate.admit(), seconds(&gate)), (Ok(()), None));
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_the_next_to_probe_and_one_that_is_slowed_down_closes() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 401 }, Evidence::Podero);
        clock.advance(Duration::from_secs(1));
        drop(Gate::begin_probe(&gate).expect("probes"));
        Gate::begin_probe(&gate).expect("probes again").settle(&busy_for(7));
        assert!(gate.lock().standing.opening().is_none(), "it answers");
        assert_eq!(gate.admit(), Err(busy_for(7)), "and says when to come again");
    }

    #[test]
    fn one_customer_that_is_forbidden_holds_nobody_and_a_bridge_that_is_stops() {
        let (gate, _) = gate();
        for _ in 0..10 {
            gate.settle(&FORBIDDEN, Evidence::OneCustomer);
            gate.settle(&FORBIDDEN, Evidence::OneCustomer);
            assert_eq!(gate.admit(), Ok(()));
            gate.settle(&DONE, Evidence::Podero);
        }
        for _ in 0..FORBIDDEN_MAX {
            gate.settle(&FORBIDDEN, Evidence::OneCustomer);
        }
        assert_eq!(gate.admit(), Err(FORBIDDEN));
        for reply in [FORBIDDEN, Reply::Held { status: 401 }, Reply::Held { status: 302 }] {
            let (gate, _) = super::tests::gate();
            gate.settle(&reply, Evidence::Podero);
            assert_eq!(gate.admit(), Err(reply));
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
            assert_eq!(gate.admit(), Err(busy_for(expected)));
            // A call that was in flight and went well does not cut the pause short, nor does a smaller wish.
            gate.settle(&DONE, Evidence::Podero);
            gate.settle(&busy_for(1), Evidence::Podero);
            assert_eq!(seconds(&gate), Some(expected));
            assert!(Gate::begin_probe(&gate).is_none(), "no probe either");
            clock.advance(Duration::from_secs(expected));
            assert_eq!(gate.admit(), Ok(()));
        }
    }

    #[test]
    fn busy_without_a_wish_slows_down_and_pauses_only_when_nothing_else_is_said() {
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
        let known = mine.lock().standing;
        theirs.adopt(known, 2);
        mine.adopt(known, 2);
        assert_eq!((theirs.admit(), seconds(&theirs)), (Err(busy_for(5)), Some(5)));
        assert_eq!(theirs.per_second(), (35, 50));
        let places: Vec<Place> = std::iter::from_fn(|| Gate::take_place(&theirs)).collect();
        assert_eq!(places.len(), 4);
        theirs.adopt(known, 100);
        assert_eq!(theirs.per_second().1, 1, "never nothing");
        clock.advance(Duration::from_secs(5));
        Gate::begin_probe(&mine).expect("due").settle(&DONE);
        theirs.adopt(mine.lock().standing, 1);
        assert!(theirs.lock().standing.opening().is_none(), "closed for all");
        assert_eq!(std::iter::from_fn(|| Gate::take_place(&theirs)).collect::<Vec<_>>().len(), 4, "the other half");
    }
}
