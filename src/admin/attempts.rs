//! Limits of wrong passwords: for each address and for each name, within a time.
//!
//! An attempt counts from its beginning, and is taken back if its password was right: attempts at the same time are no way
//! around the limit. The memory of it is bounded; beyond the bound the oldest is forgotten.
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
    count: u32,
    since: Timestamp,
}

/// An attempt under way, counted as a failure.
#[must_use]
pub(super) struct Attempt(Vec<Key>);

impl Attempts {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, tallies: Mutex::default() }
    }

    /// Begins an attempt of a peer for a name, or says how long they must wait. `None` for a name that nobody can have.
    pub(super) fn begin(&self, peer: Peer, name: Option<&str>) -> Result<Attempt, Duration> {
        let keys: Vec<Key> = [Key::Peer(peer)].into_iter().chain(name.map(|name| Key::Name(name.to_owned()))).collect();
        let now = self.clock.now();
        let mut tallies = self.lock();
        // Of a clock that was ahead nothing is kept.
        tallies.retain(|_, tally| tally.since <= now && now.since(tally.since) < FAILURES_WINDOW);
        let waits = keys.iter().filter_map(|key| tallies.get(key)).filter(|tally| tally.count >= FAILURES_MAX);
        if let Some(wait) = waits.map(|tally| FAILURES_WINDOW.saturating_sub(now.since(tally.since))).max() {
            return Err(wait);
        }
        for key in &keys {
            tallies.entry(key.clone()).or_insert(Tally { count: 0, since: now }).count += 1;
        }
        while tallies.len() > TRACKED_MAX {
            let oldest = tallies.iter().min_by_key(|(_, tally)| tally.since).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            tallies.remove(&oldest);
        }
        Ok(Attempt(keys))
    }

    /// Takes back an attempt that did not fail.
    pub(super) fn take_back(&self, attempt: Attempt) {
        let mut tallies = self.lock();
        for key in attempt.0 {
            if let Some(tally) = tallies.get_mut(&key) {
                tally.count = tally.count.saturating_sub(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn fails(attempts: &Attempts, number: u32, name: Option<&str>) -> bool {
        attempts.begin(peer(number), name).is_ok()
    }

    #[test]
    fn beyond_the_limit_an_address_and_a_name_wait_until_the_window_is_over() {
        let attempts = attempts();
        for _ in 0..FAILURES_MAX {
            assert!(fails(&attempts, 1, Some("anna")));
        }
        attempts.clock.advance(Duration::from_mins(1));
        let wait = attempts.begin(peer(1), None).err();
        assert_eq!(wait, Some(Duration::from_mins(4)), "the address");
        assert!(!fails(&attempts, 2, Some("anna")), "the name, from elsewhere");
        assert!(fails(&attempts, 2, Some("bert")));
        attempts.clock.advance(Duration::from_mins(4));
        assert!(fails(&attempts, 1, Some("anna")));
    }

    #[test]
    fn attempts_count_from_their_beginning_and_right_ones_not_at_all() {
        let attempts = attempts();
        for _ in 0..3 * FAILURES_MAX {
            let attempt = attempts.begin(peer(1), Some("anna")).expect("within the limit");
            attempts.take_back(attempt);
        }
        let under_way: Vec<_> = (0..FAILURES_MAX).map(|_| attempts.begin(peer(1), Some("anna"))).collect();
        assert!(under_way.iter().all(Result::is_ok));
        assert!(!fails(&attempts, 1, Some("anna")), "their ends are not awaited");
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
