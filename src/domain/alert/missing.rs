//! When does something that a list does not name count as gone? Never after one list.
//!
//! A list of users and a user's list of heat pumps are counted apart, each in a row: a list that names it ends the row, and
//! so does a break. A list of users that newly omits many at once is doubted, and a second one has to confirm it.
//!
//! Before: the store counts whom a list does not name. After: the store, [`super::seen`].

use super::policy::WatchPolicy;

/// Limit below which no missing list counts as removal, whatever `watch.disconnect_polls` is: one odd answer must not end the
/// watch of a heat pump.
const LISTS_MIN: u32 = 2;

/// Limit of users that may be missing newly from one list without doubt: in one interval a small utility may well lose some.
const NEWLY_MISSING_MAX: u64 = 10;

/// Share of the watched users, one in this many, that may be missing newly from one list without doubt. No utility loses a
/// fifth of its customers within an interval; a list that lost a page, or half of its lines, shows that much.
const NEWLY_MISSING_PART: u64 = 5;

/// How many lists in a row must not name a heat pump, or a user, before it counts as removed.
pub fn lists_to_remove(policy: &WatchPolicy) -> u32 {
    policy.disconnect_polls.max(LISTS_MIN)
}

/// A list of users that names far fewer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrunk {
    /// Users whom it does not name, and the list before did.
    pub missing: u64,
    /// Users who are watched.
    pub watched: u64,
}

impl Shrunk {
    /// Whether more are newly missing than is credible: then nothing is concluded from the list. The next list finds the
    /// same users missing again, not newly, and is believed.
    pub fn is_doubted(self) -> bool {
        self.missing > NEWLY_MISSING_MAX && self.missing.saturating_mul(NEWLY_MISSING_PART) >= self.watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_doubted_when_many_and_a_large_share_are_missing_at_once() {
        for (missing, watched, expected) in [
            (0, 0, false),
            (10, 10, false),
            (11, 11, true),
            (11, 55, true),
            (11, 56, false),
            (1_000, 100_000, false),
            (20_000, 100_000, true),
        ] {
            assert_eq!(Shrunk { missing, watched }.is_doubted(), expected, "{missing} of {watched}");
        }
    }

    #[test]
    fn one_list_is_never_enough() {
        for (polls, expected) in [(1, 2), (2, 2), (3, 3)] {
            let policy = WatchPolicy { disconnect_polls: polls, ..WatchPolicy::DEFAULT };
            assert_eq!(lists_to_remove(&policy), expected);
        }
    }
}
