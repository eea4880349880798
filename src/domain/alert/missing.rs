//! When is a user or heat pump that a list does not name gone? Never after one list.
//!
//! A list of users and a user's list of heat pumps are counted separately, each in a row. A list that names the user or pump ends
//! the row, and so does a break. If a list of users newly omits many at once, a second one has to confirm it.
//!
//! Before: the store counts the users that a list does not name. After: the store, [`super::pump_record`].

use super::policy::WatchPolicy;

/// Limit below which missing lists never count as removal, whatever `watch.disconnect_polls` is: one odd answer must not end the
/// watch of a heat pump.
const LISTS_MIN: u32 = 2;

/// Limit of users that one list may newly omit without doubt: a small utility may well lose some in one interval.
const NEWLY_MISSING_MAX: u64 = 10;

/// Divisor: one list may newly omit this part of the watched users without doubt. No utility loses a fifth of its customers
/// within an interval; a list that lost a page, or half of its lines, shows that much.
const NEWLY_MISSING_PART: u64 = 5;

/// The number of lists in a row that must omit a heat pump, or a user, before it counts as removed.
pub fn lists_to_remove(policy: &WatchPolicy) -> u32 {
    policy.disconnect_polls.max(LISTS_MIN)
}

/// A list of users that names far fewer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrunk {
    /// Users that it omits and the list before named.
    pub missing: u64,
    /// Users who are watched.
    pub watched: u64,
}

impl Shrunk {
    /// True if it newly omits more users than is credible: then nothing is concluded from the list. The next list omits the same
    /// users, but not newly, and is believed.
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
