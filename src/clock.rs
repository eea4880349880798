//! The only file that asks what time it is or rolls dice.
//!
//! Everything else takes a [`Timestamp`], a `dice` value or an id as an argument, or holds a [`Clock`],
//! so that a test (and the seeded simulation) can own time and chance. It never sleeps: sleeping is
//! [`crate::pump`]'s alone.
//!
//! Before: nothing. After: everything.

use std::sync::Arc;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::domain::Timestamp;

/// Source of time, chance and fresh ids. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System(Mutex<uuid::ContextV7>),
    Manual(Box<Mutex<Manual>>),
}

struct Manual {
    now: Timestamp,
    /// The latest moment of an id: ids keep their order when the clock is set back, as the system's do.
    latest: Timestamp,
    dice: StdRng,
    ids_made: u64,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &*self.0 {
            Source::System(_) => "System",
            Source::Manual(_) => "Manual",
        };
        write!(f, "Clock::{kind}")
    }
}

impl Clock {
    /// The machine's own time and entropy.
    pub fn system() -> Self {
        Self(Arc::new(Source::System(Mutex::new(uuid::ContextV7::new()))))
    }

    /// A clock that stands still until [`Clock::advance`] is called; dice and ids repeat with `seed`.
    pub fn manual(now: Timestamp, seed: u64) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self(Arc::new(Source::Manual(Box::new(Mutex::new(Manual { now, latest: now, dice, ids_made: 0 })))))
    }

    /// The moment that is now, in UTC, to the microsecond.
    #[expect(clippy::disallowed_methods, reason = "this file is the one place that may ask")]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System(_) => {
                let since_epoch =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
            }
            Source::Manual(manual) => lock(manual).now,
        }
    }

    /// A value in `[0, 1)`, uniformly distributed.
    #[expect(clippy::disallowed_methods, reason = "this file is the one place that may roll")]
    pub fn dice(&self) -> f64 {
        match &*self.0 {
            Source::System(_) => rand::random::<f64>(),
            Source::Manual(manual) => lock(manual).dice.random::<f64>(),
        }
    }

    /// Bytes that nobody can guess, for a key.
    #[expect(clippy::disallowed_methods, reason = "this file is the one place that may roll")]
    pub fn fresh_secret(&self) -> [u8; 32] {
        match &*self.0 {
            Source::System(_) => rand::random(),
            Source::Manual(manual) => lock(manual).dice.random(),
        }
    }

    /// A fresh UUIDv7 (RFC 9562): ids made later by this clock sort later, also within one millisecond.
    pub fn fresh_id(&self) -> Uuid {
        match &*self.0 {
            Source::System(context) => {
                let micros = self.now().micros();
                let seconds = u64::try_from(micros.div_euclid(1_000_000)).unwrap_or(0);
                let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
                let context = context.lock().expect("no code panics while it holds the counter");
                Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, nanos))
            }
            Source::Manual(manual) => {
                let mut manual = lock(manual);
                manual.ids_made += 1;
                manual.latest = manual.latest.max(manual.now);
                let millis = u64::try_from(manual.latest.micros() / 1_000).unwrap_or(0);
                let counter = manual.ids_made.to_be_bytes();
                let mut tail = [0; 10];
                tail[2..].copy_from_slice(&counter);
                uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
            }
        }
    }

    /// Moves a manual clock forward; the system's clock cannot be moved and asserts.
    pub fn advance(&self, by: std::time::Duration) {
        match &*self.0 {
            Source::System(_) => panic!("only a manual clock can be moved"),
            Source::Manual(manual) => {
                let mut manual = lock(manual);
                manual.now = manual.now.plus(by);
            }
        }
    }

    /// Moves a manual clock backward, as a correction of the machine's time does; the system's cannot be moved and asserts.
    pub fn set_back(&self, by: std::time::Duration) {
        match &*self.0 {
            Source::System(_) => panic!("only a manual clock can be moved"),
            Source::Manual(manual) => {
                let mut manual = lock(manual);
                manual.now = manual.now.minus(by);
            }
        }
    }
}

fn lock(manual: &Mutex<Manual>) -> std::sync::MutexGuard<'_, Manual> {
    manual.lock().expect("no code panics while it holds the clock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ids_of_one_clock_sort_in_the_order_in_which_they_were_made() {
        for clock in [Clock::system(), Clock::manual(Timestamp::from_micros(1_000_000), 7)] {
            let ids: Vec<String> = (0..1_000).map(|_| clock.fresh_id().to_string()).collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{clock:?}");
        }
    }

    #[test]
    fn a_manual_clock_repeats_with_its_seed_and_moves_only_when_told() {
        let (a, b) = (Clock::manual(Timestamp::from_micros(5), 1), Clock::manual(Timestamp::from_micros(5), 1));
        assert_eq!((a.dice(), a.fresh_id()), (b.dice(), b.fresh_id()));
        assert_eq!(a.now(), Timestamp::from_micros(5));
        a.advance(Duration::from_secs(2));
        assert_eq!(a.now(), Timestamp::from_micros(2_000_005));
    }
}
