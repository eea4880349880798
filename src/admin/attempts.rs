//! Limits of wrong passwords: for each address and for each name, within a time.
//!
//! Attempts under way take part of what is left of the limit, so that attempts at the same time are no way around it; one for
//! which nothing is left comes again in a moment. Only a wrong password is remembered. The memory of it is bounded; beyond the
//! bound the oldest is forgotten.
//!
//! Before: [`super::access`]. After: [`crate::clock`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::listener::peers::Peer;

/// Limit of the wrong passwords of one address, and for one name, within [`FAILURES_WINDOW`]: three thousand guesses a day.
const FAILURES_MAX: u32 = 10;

/// Time in which wrong passwords are counted, from the first one on; a person who mistyped waits no longer.
const FAILURES_WINDOW: Duration = Duration::from_mins(5);

/// Limit of the addresses and names whose wrong passwords are remembered.
const TRACKED_MAX: usize = 4_096;

/// The counts of wrong passwords.
pub(super) struct Attempts {
    clock: Clock,
    tallies: Mutex<BTreeMap<Key, Tally>>,
}

/// The one whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Peer(Peer),
    Name(String),
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    /// Wrong passwords since.
    failures: u32,
    since: Timestamp,
    /// Attempts whose passwords are being checked.
    under_way: u32,
}

/// The reason why a password is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMany {
    /// Wrong passwords; the window ends after this time.
    Failures(Duration),
    /// Attempts under way, which may all be right.
    UnderWay,
}

/// An attempt under way. One that is dropped without a result was not answered, and counts no more.
#[must_use]
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    keys: Vec<Key>,
}

impl Attempts {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, tallies: Mutex::default() }
    }

    /// Begins an attempt of a peer for a name, or says why they must wait. `None` for a name that nobody can have.
    pub(super) fn begin(&self, peer: Peer, name: Option<&str>) -> Result<Attempt<'_>, TooMany> {
        let keys: Vec<Key> = [Key::Peer(peer)].into_iter().chain(name.map(|name| Key::Name(name.to_owned()))).collect();
        let now = self.clock.now();
        let mut tallies = self.lock();
        tallies.retain(|_, tally| {
            // Of a clock that was ahead nothing is kept.
            if tally.since > now || now.since(tally.since) >= FAILURES_WINDOW {
                tally.failures = 0;
            }
            tally.failures + tally.under_way > 0
        });
        let known = || keys.iter().filter_map(|key| tallies.get(key));
        let waits = known().filter(|tally| tally.failures >= FAILURES_MAX);
        if let Some(wait) = waits.map(|tally| FAILURES_WINDOW.saturating_sub(now.since(tally.since))).max() {
            return Err(TooMany::Failures(wait));
        }
        if known().any(|tally| tally.failures + tally.under_way >= FAILURES_MAX) {
            return Err(TooMany::UnderWay);
        }
        for key in &keys {
            tallies.entry(key.clone()).or_insert(Tally { failures: 0, since: now, under_way: 0 }).under_way += 1;
        }
        Ok(Attempt { attempts: self, keys })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// Counts the attempt as a failure.
    pub(super) fn fail(self) {
        let now = self.attempts.clock.now();
        let mut tallies = self.attempts.lock();
        for key in &self.keys {
            let tally = tallies.entry(key.clone()).or_insert(Tally { failures: 0, since: now, under_way: 0 });
            if tally.failures == 0 {
                tally.since = now;
            }
            tally.failures += 1;
        }
        forget_oldest(&mut tallies);
    }
}

/// Forgets the oldest failures beyond the limit. Attempts under way are bounded by the connections.
fn forget_oldest(tallies: &mut BTreeMap<Key, Tally>) {
    while tallies.values().filter(|tally| tally.failures > 0).count() > TRACKED_MAX {
        let of_failures = tallies.iter_mut().filter(|(_, tally)| tally.failures > 0);
        let Some((key, oldest)) = of_failures.min_by_key(|(_, tally)| tally.since) else { return };
        oldest.failures = 0;
        if oldest.under_way == 0 {
            let key = key.clone();
            tallies.remove(&key);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut tallies = self.attempts.lock();
        for key in &self.keys {
            if let Some(tally) = tallies.get_mut(key) {
                tally.under_way = tally.under_way.saturating_sub(1);
                if tally.failures + tally.under_way == 0 {
                    tallies.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn peer(number: u32) -> Peer {
        Peer::of(IpAddr::V4(number.into()))
    }

    fn attempts() -> Attempts {
        Attempts::new(Clock::manual(Timestamp::from_micros(0).plus(Duration::from_hours(1)), 1))
    }

    /// Makes an attempt that fails; `false` if it was not looked at.
    fn fails(attempts: &Attempts, number: u32, name: Option<&str>) -> bool {
        attempts.begin(peer(number), name).map(Attempt::fail).is_ok()
    }

    #[test]
    fn beyond_the_limit_an_address_and_a_name_wait_until_the_window_is_over() {
        let attempts = attempts();
        for _ in 0..FAILURES_MAX {
            assert!(fails(&attempts, 1, Some("anna")));
        }
        attempts.clock.advance(Duration::from_mins(1));
        let wait = attempts.begin(peer(1), None).err();
        assert_eq!(wait, Some(TooMany::Failures(Duration::from_mins(4))), "the address");
        assert!(!fails(&attempts, 2, Some("anna")), "the name, from elsewhere");
        assert!(fails(&attempts, 2, Some("bert")));
        attempts.clock.advance(Duration::from_mins(4));
        assert!(fails(&attempts, 1, Some("anna")));
    }

    #[test]
    fn attempts_under_way_are_bounded_and_only_wrong_ones_are_remembered() {
        let attempts = attempts();
        let mut under_way: Vec<_> =
            (0..FAILURES_MAX).map(|_| attempts.begin(peer(1), Some("anna")).expect("within the limit")).collect();
        assert_eq!(attempts.begin(peer(1), Some("anna")).err(), Some(TooMany::UnderWay));
        assert_eq!(attempts.begin(peer(2), Some("anna")).err(), Some(TooMany::UnderWay), "the name, from elsewhere");
        under_way.pop().expect("some").fail();
        assert_eq!(attempts.begin(peer(1), None).err(), Some(TooMany::UnderWay), "one failed, the rest may");
        drop(under_way.pop());
        drop(attempts.begin(peer(1), Some("anna")).expect("one was right"));
        drop(under_way);
        for _ in 1..FAILURES_MAX {
            assert!(fails(&attempts, 1, Some("anna")), "the right ones count no more");
        }
        assert!(matches!(attempts.begin(peer(1), Some("anna")).err(), Some(TooMany::Failures(_))));
        attempts.clock.advance(FAILURES_WINDOW);
        drop(attempts.begin(peer(1), Some("anna")).expect("the window is over"));
        assert!(attempts.lock().is_empty(), "nothing is remembered of it");
    }

    #[test]
    fn the_memory_is_bounded_and_a_clock_that_is_set_back_locks_nobody_out() {
        let attempts = attempts();
        for number in 0..u32::try_from(TRACKED_MAX).expect("small") + 9 {
            assert!(fails(&attempts, number, None));
        }
        assert_eq!(attempts.lock().len(), TRACKED_MAX);
        attempts.clock.advance(Duration::from_secs(1));
        for _ in 0..FAILURES_MAX {
            assert!(fails(&attempts, 7, None));
        }
        assert!(!fails(&attempts, 7, None));
        attempts.clock.set_back(Duration::from_mins(30));
        assert!(fails(&attempts, 7, None));
    }
}
