//! The turnstile before the gate: hands the right to make one request to one caller after the other.
//!
//! Events go first; polls take what is left, and a small fixed share so that the watch never goes blind under a long import.
//! While the target is held, every caller is answered so at once: no caller waits for hours, and nothing counts against its
//! event.
//!
//! Before: [`super::client`] asks for a [`Slot`] per request. After: the slot is settled with the reply.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::gate::{Evidence, Gate};
use crate::domain::Timestamp;
use crate::domain::call::{Instead, Reply};
use crate::permits::Permit;

/// Timeout of the wait for a slot. At the default budget of 50 requests a second this is a queue of 1,500: a caller behind more
/// than that does better to give the claim back than to let its lease run out.
pub(super) const SLOT_WAIT_MAX: Duration = Duration::from_secs(30);

/// Limit of the waiters per urgency: a few times what [`SLOT_WAIT_MAX`] can serve at the default budget.
const WAITERS_MAX: usize = 4_096;

/// Limit of events in a row before one waiting poll gets its turn: 6 % of the budget keeps the watch seeing.
const EVENTS_IN_ROW_MAX: u32 = 16;

/// The purpose of a call: events go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// For an event that holds its customer's lane.
    Event {
        /// The last moment at which the call may leave the bridge: the claim's lease would not cover a later one's end.
        until: Timestamp,
    },
    /// For the watch, which comes round again.
    Poll,
}

/// The caller's side of the budget.
pub(super) struct Throttle {
    gate: Arc<Gate>,
    events: mpsc::Sender<Waiter>,
    polls: mpsc::Sender<Waiter>,
}

/// The dispatcher's side: hands a slot to the caller that goes first.
pub(super) struct Turnstile {
    gate: Arc<Gate>,
    events: mpsc::Receiver<Waiter>,
    polls: mpsc::Receiver<Waiter>,
    events_in_row: u32,
}

type Waiter = oneshot::Sender<Result<Permit, Instead>>;

/// The right to make one request. Dropping it gives it back; [`Slot::settle`] also reports the reply.
pub(super) struct Slot {
    gate: Arc<Gate>,
    _permit: Permit,
}

/// Makes both sides of the budget that the gate keeps.
pub(super) fn turnstile(gate: Arc<Gate>) -> (Throttle, Turnstile) {
    let (events, events_out) = mpsc::channel(WAITERS_MAX);
    let (polls, polls_out) = mpsc::channel(WAITERS_MAX);
    let turnstile = Turnstile { gate: gate.clone(), events: events_out, polls: polls_out, events_in_row: 0 };
    (Throttle { gate, events, polls }, turnstile)
}

impl Throttle {
    /// A slot, or the reply in place of the call: `Busy` in a pause, while Podero is away, and when no place came free within
    /// [`SLOT_WAIT_MAX`]; `Held` while the bridge is refused. Only a bridge that shuts down answers `Unsent`: nothing else here
    /// is the event's failure.
    pub(super) async fn slot(&self, urgency: Urgency) -> Result<Slot, Instead> {
        self.gate.admit()?;
        let slot = |permit| Slot { gate: self.gate.clone(), _permit: permit };
        if let Some(permit) = self.at_once() {
            return Ok(slot(permit));
        }
        let (give, take) = oneshot::channel();
        let queue = match urgency {
            Urgency::Event { .. } => &self.events,
            Urgency::Poll => &self.polls,
        };
        match queue.try_send(give) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Reply::Busy { after: None }),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Reply::Unsent { why: "shutting down" }),
        }
        match tokio::time::timeout(SLOT_WAIT_MAX, take).await {
            Ok(Ok(Ok(permit))) => Ok(slot(permit)),
            Ok(Ok(Err(instead))) => Err(instead),
            Ok(Err(_)) => Err(Reply::Unsent { why: "shutting down" }),
            Err(_) => Err(Reply::Busy { after: None }),
        }
    }

    /// Fast path: if the queues are empty, take a permit directly; there is nobody to overtake.
    fn at_once(&self) -> Option<Permit> {
        let waits = |queue: &mpsc::Sender<Waiter>| queue.is_closed() || queue.capacity() < queue.max_capacity();
        if waits(&self.events) || waits(&self.polls) {
            return None;
        }
        self.gate.permits.try_acquire().filter(|_| self.gate.limiter().check().is_ok())
    }
}

impl Slot {
    /// Gives the slot back and lets the target's health learn from the reply.
    pub(super) fn settle(self, reply: &Reply<()>, evidence: Evidence) {
        match evidence {
            Evidence::Nothing => {}
            Evidence::Podero | Evidence::OneCustomer => self.gate.settle(reply, evidence),
        }
    }
}

impl Turnstile {
    /// Hands out slots until every [`Throttle`] is gone. Permit and rate are taken first and the waiter is chosen last, so that
    /// an event which came this moment still overtakes every poll.
    pub(super) async fn run(mut self) {
        loop {
            let permit = self.gate.permits.acquire().await;
            self.gate.limiter().until_ready().await;
            if !self.hand_over(permit).await {
                return;
            }
        }
    }

    /// Gives the permit to the first waiter that is still there and may go. `false`: no further waiter can come.
    async fn hand_over(&mut self, mut permit: Permit) -> bool {
        while let Some(waiter) = self.next().await {
            let offer = match self.gate.admit() {
                Ok(()) if waiter.is_closed() => continue,
                Ok(()) => Ok(permit),
                Err(instead) => {
                    // The permit is still ours, whether the waiter has gone or was answered.
                    drop(waiter.send(Err(instead)));
                    continue;
                }
            };
            match waiter.send(offer) {
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

#[cfg(test)]
mod tests {
    use super::super::gate::{BURST_DIVISOR, Budget};
    use super::*;
    use crate::clock::Clock;
    use futures_util::FutureExt;
    use std::num::NonZeroU32;

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_goes_at_once_and_nobody_overtakes_who_waits() {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let budget = Budget { max_in_flight: 3, per_second: NonZeroU32::new(10_000).expect("not 0") };
        let (throttle, dispatcher) = turnstile(Gate::new(budget, clock, Arc::new(())));
        let slot = || Box::pin(throttle.slot(Urgency::Poll));
        // The dispatcher has not run yet.
        let mut places: Vec<Slot> = (0..3).filter_map(|_| slot().now_or_never()?.ok()).collect();
        assert_eq!(places.len(), 3);
        let mut waits = slot();
        assert!((&mut waits).now_or_never().is_none(), "no place is free");
        drop(places.pop());
        assert!(slot().now_or_never().is_none(), "one is, and somebody else's");
        let dispatcher = tokio::spawn(dispatcher.run());
        let first = waits.await.expect("its turn");
        drop(first);
        drop(throttle);
        dispatcher.await.expect("it ends with the throttle");
    }

    #[tokio::test]
    async fn who_goes_at_once_keeps_to_the_pace() {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let per_second = NonZeroU32::new(u32::from(u8::MAX)).expect("not 0");
        let budget = Budget { max_in_flight: 100, per_second };
        let (throttle, _dispatcher) = turnstile(Gate::new(budget, clock, Arc::new(())));
        let at_once = (0..100).filter_map(|_| throttle.slot(Urgency::Poll).now_or_never()?.ok()).collect::<Vec<_>>();
        let burst = usize::try_from(per_second.get() / BURST_DIVISOR).expect("small");
        // The machine's own clock goes on meanwhile.
        assert!((burst..100).contains(&at_once.len()), "{}", at_once.len());
    }
}
