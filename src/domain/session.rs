//! The life of an operator's session at the console: when it ends by itself, and when its use is worth a row.
//!
//! Before: nothing. After: [`crate::store`] keeps sessions, [`crate::console`] asks with each request.

use std::time::Duration;

use super::Timestamp;

/// Limit of a session without a request by a person: a screen that was left alone.
pub const IDLE_MAX: Duration = Duration::from_mins(30);

/// Limit of a session however much it is used: a working day. Then a password is asked for again.
pub const LIFE_MAX: Duration = Duration::from_hours(12);

/// Interval in which the use of a session is written down at most once: a write costs more than a page.
const SEEN_EVERY: Duration = Duration::from_mins(1);

/// The moments by which a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionAge {
    /// The login.
    pub created_at: Timestamp,
    /// The last request by a person, to the minute.
    pub seen_at: Timestamp,
}

impl SessionAge {
    /// True if the session has ended. One that a clock wrote which was ahead, and was set back since, has ended as well.
    pub fn is_over(self, now: Timestamp) -> bool {
        self.created_at.plus(LIFE_MAX).has_come(now, LIFE_MAX) || self.seen_at.plus(IDLE_MAX).has_come(now, IDLE_MAX)
    }

    /// The latest moment at which it ends.
    pub fn ends_at(self) -> Timestamp {
        self.created_at.plus(LIFE_MAX)
    }

    /// True if a request now is to be written down.
    pub fn is_noted(self, now: Timestamp) -> bool {
        now.since(self.seen_at) >= SEEN_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_left_alone_old_or_under_a_wrong_clock() {
        let at = |minutes: u64| Timestamp::from_micros(0).plus(Duration::from_mins(minutes));
        for (name, created, seen, now, expected) in [
            ("new", 100, 100, 100, false),
            ("used", 100, 700, 729, false),
            ("left alone", 100, 700, 730, true),
            ("used for half a day", 100, 819, 819, false),
            ("used for longer", 100, 819, 820, true),
            ("by another replica, a minute ahead", 101, 101, 100, false),
            ("begun under a clock that was ahead", 500, 500, 100, true),
            ("seen under a clock that was ahead", 100, 500, 101, true),
        ] {
            let age = SessionAge { created_at: at(created), seen_at: at(seen) };
            assert_eq!(age.is_over(at(now)), expected, "{name}");
        }
    }

    #[test]
    fn a_use_is_written_down_once_a_minute() {
        let start = Timestamp::from_micros(0);
        let age = SessionAge { created_at: start, seen_at: start };
        assert!(!age.is_noted(start.plus(Duration::from_secs(59))));
        assert!(age.is_noted(start.plus(Duration::from_secs(60))));
        assert_eq!(age.ends_at(), start.plus(LIFE_MAX));
    }
}
