//! The only file that asks for the time or draws a random number.
//!
//! All other code takes a [`Timestamp`], a `jitter` value or an id as an argument, or holds a [`Clock`],
//! so that a test (and the seeded simulation) can own time and chance. It never sleeps: only [`crate::pump`] does.
//!
//! Before: nothing. After: everything.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Timestamp;

/// Limit of the wall clock's gain on the time that passed. Beyond it the clock is doubted: corrections by NTP are far below it,
/// and five minutes do not matter to an event that waits for its day.
pub const JUMP_MAX: Duration = Duration::from_mins(5);

/// Limit of a doubt. After it the clock is believed, since it may have been set forward rightly (it was behind, or a virtual
/// machine was paused). Only time in which a bridge runs counts, so that no restart ends a doubt.
pub const DOUBT_MAX: Duration = Duration::from_hours(24);

/// Limit of the time between the last heartbeat in the store and a start. Beyond it the wall clock is doubted: no bridge in use
/// stands still for 30 days.
pub const STANDSTILL_MAX: Duration = Duration::from_hours(30 * 24);

/// Source of time, chance and fresh ids. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Clock(Arc<Shared>);

struct Shared {
    source: Source,
    trust: Mutex<Trust>,
}

enum Source {
    /// The maker of ids, and the time from the machine's boot to the start.
    System(Mutex<uuid::ContextV7>, Duration),
    Manual(Box<Mutex<Manual>>),
}

struct Manual {
    now: Timestamp,
    /// The latest moment of an id: ids keep their order when the clock is set back, as the system's do.
    latest: Timestamp,
    random: StdRng,
    ids_made: u64,
    /// The time that passed, which no jump changes.
    passed: Duration,
}

/// The moment at which the wall clock was last believed. From it and the time that passed follows what the clock should show.
#[derive(Debug, Clone, Copy)]
struct Trust {
    /// Reading of the wall clock at that moment.
    wall: Timestamp,
    /// Time from the start to that moment.
    passed: Duration,
    /// Time from the start until the clock was first found ahead.
    doubted_at: Option<Duration>,
    /// Time for which the clock was doubted before the start.
    doubted_before: Duration,
}

/// The trust in the clock as the store keeps it, for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Now, without a jump ahead.
    pub time: Timestamp,
    /// Reading of the wall clock at that moment.
    pub wall: Timestamp,
    /// Time for which the wall clock had been doubted, while bridges ran; `None` while it was believed.
    pub doubted_for: Option<Duration>,
}

impl Trust {
    fn of(wall: Timestamp) -> Self {
        Self { wall, passed: Duration::ZERO, doubted_at: None, doubted_before: Duration::ZERO }
    }

    /// Time by which the wall clock has jumped ahead; zero while it is believed.
    fn jump(&mut self, now: Timestamp, passed: Duration) -> Duration {
        let expected = self.wall.plus(passed.saturating_sub(self.passed));
        let jump = now.since(expected);
        if jump <= JUMP_MAX || self.doubted_for(passed) >= DOUBT_MAX {
            *self = Self { passed, ..Self::of(now) };
            return Duration::ZERO;
        }
        jump
    }

    /// Time for which a clock that is ahead has been doubted.
    fn doubted_for(&mut self, passed: Duration) -> Duration {
        self.doubted_before + passed.saturating_sub(*self.doubted_at.get_or_insert(passed))
    }

    fn saved(&mut self, now: Timestamp, passed: Duration) -> Trusted {
        let jump = self.jump(now, passed);
        let doubted_for = (!jump.is_zero()).then(|| self.doubted_for(passed));
        Trusted { time: now.minus(jump), wall: now, doubted_for }
    }

    /// Goes on where `saved` ended. Only the wall clock tells for how long no bridge ran.
    fn resume(&mut self, saved: Trusted, now: Timestamp, passed: Duration) {
        let stood_still = now.since(saved.wall);
        let is_same_doubt = now >= saved.wall && stood_still <= STANDSTILL_MAX;
        let doubted = saved.doubted_for.filter(|_| is_same_doubt);
        if let Some(doubted_before) = doubted {
            *self = Self { passed, doubted_before, ..Self::of(saved.time.plus(stood_still)) };
        } else if now.since(saved.time) > STANDSTILL_MAX + passed {
            // A time in this process without a heartbeat is no standstill.
            *self = Self { passed, ..Self::of(saved.time) };
        }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0.source {
            Source::System(..) => "System",
            Source::Manual(_) => "Manual",
        };
        write!(f, "Clock::{kind}")
    }
}

impl Clock {
    /// The machine's own time and entropy.
    pub fn system() -> Self {
        Self::of(Source::System(Mutex::new(uuid::ContextV7::new()), since_boot()), system_time())
    }

    /// A clock that stands still until [`Clock::advance`] is called; jitter and ids repeat with `seed`.
    pub fn manual(now: Timestamp, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let manual = Manual { now, latest: now, random, ids_made: 0, passed: Duration::ZERO };
        Self::of(Source::Manual(Box::new(Mutex::new(manual))), now)
    }

    fn of(source: Source, now: Timestamp) -> Self {
        Self(Arc::new(Shared { source, trust: Mutex::new(Trust::of(now)) }))
    }

    /// The moment that is now, in UTC, to the microsecond.
    pub fn now(&self) -> Timestamp {
        match &self.0.source {
            Source::System(..) => system_time(),
            Source::Manual(manual) => lock(manual).now,
        }
    }

    /// Time by which the wall clock jumped ahead of the time that passed: a correction of the machine's time, or a mistake. Zero
    /// below [`JUMP_MAX`], and again after [`DOUBT_MAX`].
    pub fn jump(&self) -> Duration {
        self.with_trust(Trust::jump)
    }

    fn with_trust<T>(&self, what: impl FnOnce(&mut Trust, Timestamp, Duration) -> T) -> T {
        what(&mut lock(&self.0.trust), self.now(), self.passed())
    }

    /// The time that passed since this clock was made, whatever the wall clock shows: also while the machine slept.
    pub fn passed(&self) -> Duration {
        match &self.0.source {
            Source::System(_, started) => since_boot().saturating_sub(*started),
            Source::Manual(manual) => lock(manual).passed,
        }
    }

    /// Now, without a jump ahead. For acts that cannot be undone and wait for their day: a mistake of the machine's clock must
    /// not remove a customer weeks too early.
    pub fn steady_now(&self) -> Timestamp {
        self.now().minus(self.jump())
    }

    /// The trust in the wall clock, to be kept for the next start.
    pub fn trusted(&self) -> Trusted {
        self.with_trust(Trust::saved)
    }

    /// Takes over the trust of the last heartbeat in the store. Its doubt goes on; a doubt begins if the heartbeat is older than
    /// [`STANDSTILL_MAX`].
    pub fn resume(&self, saved: Trusted) {
        self.with_trust(|trust, now, passed| trust.resume(saved, now, passed));
    }

    /// A random value in `[0, 1)`, uniformly distributed.
    #[expect(clippy::disallowed_methods, reason = "this file is the one place that may draw random numbers")]
    pub fn jitter(&self) -> f64 {
        match &self.0.source {
            Source::System(..) => rand::random::<f64>(),
            Source::Manual(manual) => lock(manual).random.random::<f64>(),
        }
    }

    /// Random bytes for a key, which cannot be guessed.
    #[expect(clippy::disallowed_methods, reason = "this file is the one place that may draw random numbers")]
    pub fn fresh_secret(&self) -> [u8; 32] {
        match &self.0.source {
            Source::System(..) => rand::random(),
            Source::Manual(manual) => lock(manual).random.random(),
        }
    }

    /// A fresh UUIDv7 (RFC 9562): ids made later by this clock sort later, also within one millisecond.
    pub fn fresh_id(&self) -> Uuid {
        match &self.0.source {
            Source::System(context, ..) => {
                let micros = self.now().micros();
                let seconds = u64::try_from(micros.div_euclid(1_000_000)).unwrap_or(0);
                let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
                Uuid::new_v7(uuid::Timestamp::from_unix(&*lock(context), seconds, nanos))
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

    /// Moves a manual clock forward. Panics for the system's clock, which cannot be moved.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.movable();
        manual.now = manual.now.plus(by);
        manual.passed += by;
    }

    /// Sets a manual clock forward while no time passes, as a mistake of the machine's time does. Panics for the system's clock.
    pub fn jump_ahead(&self, by: Duration) {
        let mut manual = self.movable();
        manual.now = manual.now.plus(by);
    }

    /// Moves a manual clock backward, as a correction of the machine's time does. Panics for the system's clock.
    pub fn set_back(&self, by: Duration) {
        let mut manual = self.movable();
        manual.now = manual.now.minus(by);
    }

    fn movable(&self) -> MutexGuard<'_, Manual> {
        match &self.0.source {
            Source::System(..) => panic!("only a manual clock can be moved"),
            Source::Manual(manual) => lock(manual),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this file is the one place that may ask")]
fn system_time() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// Time since the machine booted. Not `Instant`, which stands still while the machine sleeps.
fn since_boot() -> Duration {
    let passed = clock_gettime(ClockId::Boottime);
    Duration::try_from(passed).unwrap_or_default()
}

fn lock<T>(of_clock: &Mutex<T>) -> MutexGuard<'_, T> {
    of_clock.lock().expect("no code panics while it holds the clock")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((a.jitter(), a.fresh_id()), (b.jitter(), b.fresh_id()));
        assert_eq!(a.now(), Timestamp::from_micros(5));
        a.advance(Duration::from_secs(2));
        assert_eq!(a.now(), Timestamp::from_micros(2_000_005));
    }

    #[test]
    fn a_jump_ahead_is_doubted_for_a_day_and_a_step_back_is_believed() {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        clock.jump_ahead(4 * minute);
        assert_eq!((clock.jump(), clock.steady_now()), (Duration::ZERO, clock.now()), "NTP");
        clock.jump_ahead(1_000 * hour);
        assert_eq!(clock.jump(), 1_000 * hour);
        clock.advance(23 * hour);
        assert_eq!(clock.steady_now(), clock.now().minus(1_000 * hour), "time passes all the same");
        clock.set_back(1_000 * hour);
        assert_eq!(clock.jump(), Duration::ZERO, "it was set right");
        clock.jump_ahead(1_000 * hour);
        assert!(clock.jump() > Duration::ZERO);
        clock.advance(24 * hour);
        assert_eq!(clock.jump(), Duration::ZERO, "it stays so: it is so");
    }

    #[test]
    fn a_start_long_after_the_last_heartbeat_is_doubted() {
        let day = Duration::from_hours(24);
        let clock = Clock::manual(Timestamp::from_micros(0).plus(100 * day), 1);
        let seen = |ago: Duration| {
            let then = clock.now().minus(ago);
            clock.resume(Trusted { time: then, wall: then, doubted_for: None });
        };
        seen(20 * day);
        assert_eq!(clock.jump(), Duration::ZERO, "a long holiday");
        seen(90 * day);
        assert_eq!(clock.jump(), 90 * day);
        clock.advance(day);
        assert_eq!(clock.jump(), Duration::ZERO);
    }

    #[test]
    fn a_doubt_goes_on_after_a_restart() {
        let (hour, start) = (Duration::from_hours(1), Timestamp::from_micros(0));
        for jump in [hour, 30_000 * hour] {
            let mut clock = Clock::manual(start, 1);
            clock.jump_ahead(jump);
            for _ in 0..4 {
                assert_eq!(clock.jump(), jump);
                clock.advance(6 * hour);
                let saved = clock.trusted();
                let restarted_at = clock.now().plus(hour);
                clock = Clock::manual(restarted_at, 1);
                clock.resume(saved);
            }
            assert_eq!(clock.jump(), Duration::ZERO, "a day in which bridges ran");
            clock = Clock::manual(start.plus(jump), 1);
            clock.resume(Trusted { time: start, wall: start.plus(jump), doubted_for: Some(hour) });
            assert_eq!(clock.steady_now(), start);
            clock.set_back(jump);
            assert_eq!(clock.jump(), Duration::ZERO, "it was set right");
            clock = Clock::manual(start.plus(hour / 2), 1);
            clock.resume(Trusted { time: start, wall: start.plus(jump), doubted_for: Some(hour) });
            assert_eq!(clock.jump(), Duration::ZERO, "it was set right while no bridge ran");
        }
    }
}
