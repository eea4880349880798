//! How far ahead of now each kind of due time can lie, by the settings.
//!
//! Before: [`crate::app`] knows the settings. After: [`crate::store::moments`] compares due times with them.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::domain::verdict::RETRY_AFTER_MAX;

/// How far ahead due times can lie, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Of a customer's next event: the longest back-off or lease. A pause that stands counts as well.
    pub work: Duration,
    /// Of a notice: the longest back-off or lease of a publisher.
    pub notice: Duration,
    /// Of a poll: the watch's interval.
    pub poll: Duration,
    /// Of an event that waits for its sign-up.
    pub sign_up: Duration,
}

impl Ceilings {
    /// Ceilings of a process that does not know the settings: nothing waits longer than a pause of Podero's may be, and a
    /// sign-up is waited for until its own day.
    const UNKNOWN: Self = Self {
        work: RETRY_AFTER_MAX,
        notice: RETRY_AFTER_MAX,
        poll: RETRY_AFTER_MAX,
        sign_up: Duration::from_secs(365 * 24 * 60 * 60),
    };
}

/// The ceilings in force.
#[derive(Debug)]
pub(super) struct KnownCeilings(Mutex<Ceilings>);

impl Default for KnownCeilings {
    fn default() -> Self {
        Self(Mutex::new(Ceilings::UNKNOWN))
    }
}

impl KnownCeilings {
    fn lock(&self) -> MutexGuard<'_, Ceilings> {
        self.0.lock().expect("no code panics while it holds the ceilings")
    }

    pub(super) fn get(&self) -> Ceilings {
        *self.lock()
    }

    pub(super) fn set(&self, ceilings: Ceilings) {
        *self.lock() = ceilings;
    }
}
