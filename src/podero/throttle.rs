//! One budget for everything that is asked of Podero: calls in flight, requests per second, pauses, the circuit.
//!
//! Events go first; polls take what is left, and a small fixed share so that the watch never goes blind under
//! a long import. A pause that Podero asks for, and an open circuit, hold the whole target: whoever asks then is
//! told so at once, nobody waits for hours. This file never sleeps, never sends and never repeats a call.
//!
//! | reply | pause | circuit |
//! |---|---|---|
//! | `Done`, `Refused` | stays as it is | closes |
//! | `Busy` | as long as Podero wishes, at most [`RETRY_AFTER_MAX`] | closes: it answers |
//! | `Held` | - | opens at once |
//! | `Unsent`, `Unknown` | - | opens after [`FAILURES_MAX`] in a row, or again when it was the probe |
//!
//! Before: [`crate::podero`] asks for a [`Slot`] per request. After: the slot is settled with the reply.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Observe, Urgency};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::plan::Reply;
use crate::domain::retry::RetrySchedule;
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

/// So many failures in a row, of whatever calls, are Podero's trouble and not one customer's.
pub(super) const FAILURES_MAX: u32 = 10;

/// How long the circuit stays open before a probe: at once is pointless, a minute is as long as anyone should
/// wait for the news that Podero is back.
const PROBES: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// How long a `Busy` without a wish pauses the target; doubles while the answer stays the same.
const BUSY_PAUSES: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// While a probe is under way the circuit is open for this much longer: look again then.
const PROBE_GLANCE: Duration = Duration::from_secs(1);

/// The caller's side of the budget.
pub(super) struct Throttle {
    gate: Arc<Gate>,
    events: mpsc::Sender<Waiter>,
    polls: mpsc::Sender<Waiter>,
}

/// The dispatcher's side: hands slots to whoever goes first.
pub(super) struct Turnstile {
    gate: Arc<Gate>,
    permits: Arc<Semaphore>,
    limiter: DefaultDirectRateLimiter,
    events: mpsc::Receiver<Waiter>,
    polls: mpsc::Receiver<Waiter>,
    events_in_row: u32,
}

struct Waiter {
    give: oneshot::Sender<Result<OwnedSemaphorePermit, Reply>>,
    is_probe: bool,
}

/// The right to make one request. Dropping it gives the place free; [`Slot::settle`] also tells how it went.
pub(super) struct Slot {
    gate: Arc<Gate>,
    probe: Option<Probe>,
    _permit: OwnedSemaphorePermit,
}

/// Makes both sides of one budget. Both bounds are at least 1 (checked by the caller's settings).
pub(super) fn throttle(
    max_in_flight: usize,
    per_second: NonZeroU32,
    clock: Clock,
    watcher: Arc<dyn Observe>,
) -> (Throttle, Turnstile) {
    let gate = Arc::new(Gate { clock, watcher, state: Mutex::new(State::default()) });
    let burst = NonZeroU32::new(per_second.get() / BURST_DIVISOR).unwrap_or(NonZeroU32::MIN);
    let (events, events_out) = mpsc::channel(WAITERS_MAX);
    let (polls, polls_out) = mpsc::channel(WAITERS_MAX);
    let turnstile = Turnstile {
        gate: gate.clone(),
        permits: Arc::new(Semaphore::new(max_in_flight.min(Semaphore::MAX_PERMITS))),
        limiter: RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)),
        events: events_out,
        polls: polls_out,
        events_in_row: 0,
    };
    (Throttle { gate, events, polls }, turnstile)
}

impl Throttle {
    /// A slot, or what to answer instead of making the call: `Busy` in a pause, `Held` or `Unsent` while the
    /// circuit is open, `Unsent` when no place came free within [`SLOT_WAIT_MAX`].
    pub(super) async fn slot(&self, urgency: Urgency) -> Result<Slot, Reply> {
        let probe = Gate::admit(&self.gate)?;
        let (give, take) = oneshot::channel();
        let queue = match urgency {
            Urgency::Event { .. } => &self.events,
            Urgency::Poll => &self.polls,
        };
        let is_probe = probe.is_some();
        if queue.try_send(Waiter { give, is_probe }).is_err() {
            return Err(Reply::Unsent { why: "no slot" });
        }
        match tokio::time::timeout(SLOT_WAIT_MAX, take).await {
            Ok(Ok(Ok(permit))) => Ok(Slot { gate: self.gate.clone(), probe, _permit: permit }),
            Ok(Ok(Err(instead))) => Err(instead),
            Ok(Err(_)) => Err(Reply::Unsent { why: "shutting down" }),
            Err(_) => Err(Reply::Unsent { why: "no slot" }),
        }
    }

    /// Until when the whole target is held; `None` when it is open.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        self.gate.paused_until()
    }
}

impl Slot {
    /// Gives the slot back and lets the target's standing learn from the reply.
    pub(super) fn settle(mut self, reply: &Reply) {
        let is_probe = self.probe.as_mut().is_some_and(Probe::end);
        self.gate.settle(reply, is_probe);
    }
}

impl Turnstile {
    /// Hands out slots until every [`Throttle`] is gone. Place and rate are taken first and the waiter chosen
    /// last, so that an event which came this moment still overtakes every poll.
    pub(super) async fn run(mut self) {
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                return;
            };
            self.limiter.until_ready().await;
            if !self.hand_over(permit).await {
                return;
            }
        }
    }

    /// Gives the permit to the first waiter who is still there and may go. `false`: nobody can come any more.
    async fn hand_over(&mut self, mut permit: OwnedSemaphorePermit) -> bool {
        while let Some(waiter) = self.next().await {
            let offer = match self.gate.standing(waiter.is_probe) {
                Ok(()) if waiter.give.is_closed() => continue,
                Ok(()) => Ok(permit),
                Err(instead) => {
                    // Gone or told: either way the permit is still ours.
                    drop(waiter.give.send(Err(instead)));
                    continue;
                }
            };
            match waiter.give.send(offer) {
                Err(Ok(back)) => permit = back,
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

/// What is known of the target as a whole.
struct Gate {
    clock: Clock,
    watcher: Arc<dyn Observe>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paused_until: Option<Timestamp>,
    busy_in_row: u32,
    failures_in_row: u32,
    circuit: Circuit,
}

#[derive(Default, Clone, Copy)]
enum Circuit {
    #[default]
    Closed,
    /// Nobody calls before `until`; the first one after it is the probe.
    Open { until: Timestamp, openings: u32, why: Why },
    /// One probe is under way.
    Probing { openings: u32, why: Why },
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Held { status: u16 },
    Away,
}

impl Why {
    /// What a caller is told. An open circuit keeps the reason's own judgement: a bridge that is refused parks nothing.
    fn reply(self) -> Reply {
        match self {
            Self::Held { status } => Reply::Held { status },
            Self::Away => Reply::Unsent { why: "circuit open" },
        }
    }
}

/// The single call that may go through a circuit that is open. Ends without a word when its caller gave up.
struct Probe {
    gate: Arc<Gate>,
    is_ended: bool,
}

impl Probe {
    fn end(&mut self) -> bool {
        self.is_ended = true;
        true
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.is_ended {
            self.gate.probe_lost();
        }
    }
}

impl State {
    fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| *until > now)
    }

    fn standing(&self, now: Timestamp, is_probe: bool) -> Result<(), Reply> {
        if let Some(until) = self.pause(now) {
            let after = Some(until.since(now));
            return Err(Reply::Busy { after });
        }
        match self.circuit {
            Circuit::Closed => Ok(()),
            Circuit::Open { .. } | Circuit::Probing { .. } if is_probe => Ok(()),
            Circuit::Open { why, .. } | Circuit::Probing { why, .. } => Err(why.reply()),
        }
    }
}

impl Gate {
    /// Whether a caller may queue; `Some` when it is the probe.
    fn admit(gate: &Arc<Self>) -> Result<Option<Probe>, Reply> {
        let now = gate.clock.now();
        let mut state = gate.lock();
        let may_probe = match state.circuit {
            Circuit::Open { until, openings, why } if now >= until => Some((openings, why)),
            Circuit::Open { .. } | Circuit::Closed | Circuit::Probing { .. } => None,
        };
        state.standing(now, may_probe.is_some())?;
        Ok(may_probe.map(|(openings, why)| {
            state.circuit = Circuit::Probing { openings, why };
            Probe { gate: gate.clone(), is_ended: false }
        }))
    }

    fn standing(&self, is_probe: bool) -> Result<(), Reply> {
        self.lock().standing(self.clock.now(), is_probe)
    }

    fn paused_until(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let state = self.lock();
        let circuit = match state.circuit {
            Circuit::Closed => None,
            Circuit::Open { until, .. } => Some(until).filter(|until| *until > now),
            Circuit::Probing { .. } => Some(now.plus(PROBE_GLANCE)),
        };
        state.pause(now).max(circuit)
    }

    fn settle(&self, reply: &Reply, is_probe: bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        match reply {
            Reply::Done(_) | Reply::Refused(_) => {
                state.busy_in_row = 0;
                self.close(&mut state);
            }
            Reply::Busy { after } => {
                self.close(&mut state);
                pause(&mut state, now, *after);
            }
            Reply::Held { status } => self.open(&mut state, now, is_probe, Why::Held { status: *status }),
            Reply::Unsent { .. } | Reply::Unknown { .. } => {
                state.failures_in_row = state.failures_in_row.saturating_add(1);
                if is_probe || state.failures_in_row >= FAILURES_MAX {
                    self.open(&mut state, now, is_probe, Why::Away);
                }
            }
        }
    }

    /// Opens the circuit, longer each time a probe fails. What was in flight when it opened changes nothing more.
    fn open(&self, state: &mut State, now: Timestamp, is_probe: bool, why: Why) {
        let openings = match state.circuit {
            Circuit::Closed => 1,
            Circuit::Open { openings, .. } | Circuit::Probing { openings, .. } if is_probe => {
                openings.saturating_add(1)
            }
            Circuit::Open { .. } | Circuit::Probing { .. } => return,
        };
        let until = now.plus(PROBES.ceiling(openings));
        if openings == 1 {
            tracing::warn!(?why, %until, "circuit opened: Podero is asked nothing but probes");
            self.watcher.circuit(true);
        }
        state.circuit = Circuit::Open { until, openings, why };
    }

    fn close(&self, state: &mut State) {
        state.failures_in_row = 0;
        match state.circuit {
            Circuit::Closed => {}
            Circuit::Open { .. } | Circuit::Probing { .. } => {
                state.circuit = Circuit::Closed;
                tracing::info!("circuit closed: Podero answers again");
                self.watcher.circuit(false);
            }
        }
    }

    /// The probe's caller gave up before there was an answer: the next caller probes.
    fn probe_lost(&self) {
        let until = self.clock.now();
        let mut state = self.lock();
        match state.circuit {
            Circuit::Probing { openings, why } => state.circuit = Circuit::Open { until, openings, why },
            Circuit::Open { .. } | Circuit::Closed => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the gate")
    }
}

/// Holds the whole target. A shorter wish never shortens a longer one that stands.
fn pause(state: &mut State, now: Timestamp, after: Option<Duration>) {
    // Calls in flight when the pause began all say the same once more: that is one `Busy`, not many.
    if state.pause(now).is_none() {
        state.busy_in_row = state.busy_in_row.saturating_add(1);
    }
    let wish = after.unwrap_or_else(|| BUSY_PAUSES.ceiling(state.busy_in_row));
    if wish > RETRY_AFTER_MAX {
        tracing::warn!(wish_s = wish.as_secs(), "Podero asks for a longer pause than is believable");
    }
    let until = now.plus(wish.min(RETRY_AFTER_MAX));
    if state.paused_until.is_none_or(|standing| standing < until) {
        tracing::warn!(%until, "Podero asks for a pause");
        state.paused_until = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Answer;

    const DONE: Reply = Reply::Done(Answer::Nothing);
    const AWAY: Reply = Reply::Unsent { why: "connect" };

    fn gate() -> (Arc<Gate>, Clock) {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let gate = Arc::new(Gate { clock: clock.clone(), watcher: Arc::new(()), state: Mutex::new(State::default()) });
        (gate, clock)
    }

    fn seconds(gate: &Gate) -> Option<u64> {
        let now = gate.clock.now();
        gate.paused_until().map(|until| until.since(now).as_secs())
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_a_success_between_them_does_not() {
        let (gate, _) = gate();
        for _ in 1..FAILURES_MAX {
            gate.settle(&AWAY, false);
        }
        gate.settle(&DONE, false);
        for _ in 1..FAILURES_MAX {
            gate.settle(&AWAY, false);
        }
        assert!(Gate::admit(&gate).is_ok_and(|probe| probe.is_none()));
        gate.settle(&AWAY, false);
        assert_eq!(Gate::admit(&gate).err(), Some(Reply::Unsent { why: "circuit open" }));
        assert_eq!(seconds(&gate), Some(1));
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute_and_only_one_probe_goes() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 403 }, false);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(seconds(&gate), Some(expected));
            clock.advance(Duration::from_secs(expected));
            assert_eq!(seconds(&gate), None, "time for a probe");
            let mut probe = Gate::admit(&gate).ok().flatten().expect("the first one probes");
            assert_eq!(Gate::admit(&gate).err(), Some(Reply::Held { status: 403 }));
            assert_eq!(seconds(&gate), Some(1));
            gate.settle(&AWAY, false);
            let ended = probe.end();
            gate.settle(&Reply::Held { status: 403 }, ended);
        }
        clock.advance(Duration::from_secs(60));
        let mut probe = Gate::admit(&gate).ok().flatten().expect("the next probe");
        let ended = probe.end();
        gate.settle(&DONE, ended);
        assert!(Gate::admit(&gate).is_ok_and(|probe| probe.is_none()), "closed");
    }

    #[test]
    fn a_probe_whose_caller_gave_up_leaves_the_next_caller_to_probe() {
        let (gate, clock) = gate();
        gate.settle(&Reply::Held { status: 401 }, false);
        clock.advance(Duration::from_secs(1));
        drop(Gate::admit(&gate).ok().flatten().expect("probes"));
        assert!(Gate::admit(&gate).is_ok_and(|probe| probe.is_some()));
    }

    #[test]
    fn a_pause_holds_everybody_for_as_long_as_podero_wishes_within_a_day() {
        let day = RETRY_AFTER_MAX.as_secs();
        for (wish, expected) in [(7, Some(7)), (day, Some(day)), (u64::MAX, Some(day)), (0, None)] {
            let (gate, clock) = gate();
            let after = Some(Duration::from_secs(wish));
            gate.settle(&Reply::Busy { after }, false);
            assert_eq!(seconds(&gate), expected, "{wish}");
            let Some(expected) = expected else { continue };
            let left = Some(Duration::from_secs(expected));
            assert_eq!(Gate::admit(&gate).err(), Some(Reply::Busy { after: left }));
            // A call that was in flight and went well does not cut the pause short, nor does a smaller wish.
            gate.settle(&DONE, false);
            gate.settle(&Reply::Busy { after: Some(Duration::from_secs(1)) }, false);
            assert_eq!(seconds(&gate), Some(expected));
            clock.advance(Duration::from_secs(expected));
            assert!(Gate::admit(&gate).is_ok());
        }
    }

    #[test]
    fn busy_without_a_wish_pauses_longer_each_time_but_counts_simultaneous_answers_once() {
        let (gate, clock) = gate();
        for expected in [1, 2, 4] {
            for _ in 0..64 {
                gate.settle(&Reply::Busy { after: None }, false);
            }
            assert_eq!(seconds(&gate), Some(expected));
            clock.advance(Duration::from_secs(expected));
        }
    }
}
