//! When to try again: exponential back-off with full jitter, as a value.
//!
//! The retry policy of events is the operator's (`retry.initial`, `retry.max`), and [`super::verdict`] applies it. Five other
//! schedules have the same shape and are constants next to their users: the probes of an open circuit
//! ([`super::partner_health`]), the pauses of a Podero that says "slow down" ([`crate::podero`]), the connections to the broker
//! and the offers of a message to a store that is away ([`crate::broker`]), and notices that their receiver does not take
//! ([`crate::outbound`]).
//!
//! The only file that names the `backoff` crate (docs/adr/0009): it supplies the schedule of ceilings,
//! never a loop, a sleep, a clock or a random number. Time and chance are arguments.
//!
//! Before: [`crate::config`] sets the bounds. After: [`crate::domain::verdict`], [`crate::broker`].

use std::time::{Duration, Instant};

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;

/// Limit of doublings: 2^40 of the smallest step exceeds any ceiling that the bridge accepts.
const DOUBLINGS_MAX: u32 = 40;

/// Bounds of one back-off schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySchedule {
    /// Ceiling of the first wait.
    pub initial: Duration,
    /// Ceiling of every wait.
    pub max: Duration,
}

impl RetrySchedule {
    /// The wait after `failures` failures in a row (1 or more): uniform in `[0, min(max, initial * 2^(failures-1)))`,
    /// the place in that range given by `jitter` in `[0, 1)`. Full jitter keeps a herd from retrying in step.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        self.ceiling(failures).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// The longest wait after `failures` failures in a row.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let mut schedule = ExponentialBackoff::<NoClock> {
            current_interval: self.initial,
            initial_interval: self.initial,
            // No jitter of its own: chance enters by `jitter` alone.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: self.max,
            start_time: EPOCH.with(|epoch| *epoch),
            // Giving up is the verdict's decision, by age, not the schedule's.
            max_elapsed_time: None,
            clock: NoClock,
        };
        let mut ceiling = self.initial.min(self.max);
        for _ in 0..failures.clamp(1, DOUBLINGS_MAX) {
            ceiling = schedule.next_backoff().unwrap_or(self.max);
        }
        ceiling.min(self.max)
    }
}

thread_local! {
    /// The crate wants a start time in its state; with no `max_elapsed_time` it is never compared.
    static EPOCH: Instant = arbitrary_instant();
}

#[expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor; its value is never read")]
fn arbitrary_instant() -> Instant {
    Instant::now()
}

/// A clock that stands still, so that the schedule cannot depend on time.
#[derive(Debug, Default, Clone, Copy)]
struct NoClock;

impl backoff::Clock for NoClock {
    fn now(&self) -> Instant {
        EPOCH.with(|epoch| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: RetrySchedule =
        RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(15 * 60) };

    #[test]
    fn ceilings_double_up_to_the_maximum() {
        let seconds: Vec<u64> = (1..=12).map(|failures| SCHEDULE.ceiling(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(SCHEDULE.ceiling(u32::MAX).as_secs(), 900);
        assert_eq!(SCHEDULE.ceiling(0).as_secs(), 1);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_its_ceiling(failures in 0u32..200, jitter in 0.0f64..1.0) {
            prop_assert!(SCHEDULE.delay(failures, jitter) <= SCHEDULE.ceiling(failures));
        }

        #[test]
        fn a_larger_die_never_shortens_the_wait(failures in 1u32..50, a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(SCHEDULE.delay(failures, low) <= SCHEDULE.delay(failures, high));
        }
    }
}
