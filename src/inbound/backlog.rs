//! Counts of the events that the bridge keeps, and their limits, which the transports check before they take more.
//!
//! Counting the tables for each request would cost more than the request. So this adds what was accepted since to the last
//! count of them: near enough for limits that spare the disk. It reads no table.
//!
//! Before: [`crate::upkeep`] counts the tables. After: [`super::inbox`], [`super::http`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::domain::event::EventState;
use crate::store::Gauges;

/// Limit of the events that wait for the day they take effect, or for their sign-up. They are no work yet, so they do not count
/// against `store.backlog_max`; but they are rows, and stay for long.
pub const SCHEDULED_MAX: u64 = 1_000_000;

/// Limit of the parked messages that are unreadable. An operator looks at them, at no more than this number; a sender that
/// sends nothing else must not fill the disk. At the limit more of them stay in RabbitMQ.
pub const UNREADABLE_MAX: u64 = 100_000;

/// Rows that were counted in the tables, and those accepted since.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU64,
    scheduled: AtomicU64,
    unreadable: AtomicU64,
}

/// Counts of accepted work, with their limits, and the publishers to wake when a message is parked. Clones share it.
#[derive(Debug, Clone)]
pub struct Backlog {
    counts: Arc<Counts>,
    max: u64,
    wake_outbound: Arc<Notify>,
}

impl Backlog {
    /// Empty until it is counted; full at `max` (`store.backlog_max`).
    pub fn new(max: u64) -> Self {
        Self { counts: Arc::default(), max, wake_outbound: Arc::default() }
    }

    /// Wakes the publishers when something was parked, so that its notice goes out at once.
    #[must_use]
    pub fn waking(self, wake_outbound: Arc<Notify>) -> Self {
        Self { wake_outbound, ..self }
    }

    /// `true` while the transports take nothing until some of it is done.
    pub fn is_full(&self) -> bool {
        load(&self.counts.waiting) >= self.max || load(&self.counts.scheduled) >= SCHEDULED_MAX
    }

    /// `true` while no more unreadable messages are parked.
    pub fn is_full_of_unreadable(&self) -> bool {
        load(&self.counts.unreadable) >= UNREADABLE_MAX
    }

    /// The limits that are reached, one line each for an operator.
    pub fn complaints(&self) -> Vec<String> {
        let (waiting, scheduled) = (load(&self.counts.waiting), load(&self.counts.scheduled));
        let mut complaints = Vec::new();
        if waiting >= self.max {
            complaints.push(format!("full, {waiting} events wait; the doors take none until some are done"));
        }
        if scheduled >= SCHEDULED_MAX {
            complaints.push(format!(
                "full, {scheduled} events are scheduled or wait for a sign-up; the doors take none until some are due"
            ));
        }
        if self.is_full_of_unreadable() {
            let parked = load(&self.counts.unreadable);
            complaints.push(format!(
                "{parked} messages that are no events are parked; more of them stay in RabbitMQ, and hold up what is behind \
                 them, until some are skipped"
            ));
        }
        complaints
    }

    /// Takes over a count of the tables.
    pub fn counted(&self, gauges: &Gauges) {
        let was_full = self.is_full_of_unreadable();
        // An event that waits for its sign-up is no work, and must not keep that sign-up out.
        let (waiting, scheduled) = (gauges.pending - gauges.waiting, gauges.scheduled + gauges.waiting);
        let unreadable = gauges.parked_unreadable;
        self.set(waiting, scheduled, unreadable);
        if self.is_full_of_unreadable() && !was_full {
            tracing::warn!(parked = unreadable, "messages that are no events stay in RabbitMQ from now on");
        }
    }

    /// Takes over a count of the tables: events that are work now, events that are none yet, parked messages that are
    /// unreadable.
    pub fn set(&self, waiting: u64, scheduled: u64, unreadable: u64) {
        self.counts.waiting.store(waiting, Ordering::Relaxed);
        self.counts.scheduled.store(scheduled, Ordering::Relaxed);
        self.counts.unreadable.store(unreadable, Ordering::Relaxed);
    }

    /// Counts an accepted event in this state.
    pub(super) fn grow(&self, state: EventState) {
        match state {
            EventState::Pending => add(&self.counts.waiting),
            EventState::Scheduled => add(&self.counts.scheduled),
            // No new event waits for its sign-up, and the other states are no waiting work.
            EventState::Waiting
            | EventState::Applied
            | EventState::Superseded
            | EventState::Parked
            | EventState::Skipped => {}
        }
    }

    /// Counts a parked message that is unreadable.
    pub(super) fn parked(&self) {
        add(&self.counts.unreadable);
        self.wake_outbound.notify_one();
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_effect_later_is_no_work_and_has_a_bound_of_its_own() {
        use EventState::{Pending, Scheduled, Superseded};
        let backlog = Backlog::new(2);
        for state in [Scheduled, Scheduled, Scheduled, Superseded, Pending] {
            backlog.grow(state);
        }
        assert!(!backlog.is_full(), "one waits");
        backlog.grow(Pending);
        assert!(backlog.is_full());
        backlog.set(0, SCHEDULED_MAX, 0);
        assert!(backlog.is_full());
        assert_eq!(backlog.complaints().len(), 1);
    }
}
