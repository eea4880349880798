//! Stored due times, compared with their ceilings.
//!
//! A clock that was ahead leaves due times in the future. A statement that reads a due time compares it with the ceiling of its
//! kind: a due time beyond the ceiling counts as past. The stored due times stay unchanged, so a clock that is wrong in the other
//! direction destroys nothing.
//! `docs/LIMITS.md` lists the moments and their ceilings.
//!
//! Before: [`crate::app`] knows the settings. After: every statement of the store that looks for due rows.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::db::{DbFault, Executor};
use super::shared_state::shared_standing;
use crate::domain::Timestamp;
use crate::domain::call::RETRY_AFTER_MAX;

/// Limit of how far ahead of now a tombstone can be dated: as far as the time of an accepted event may have been.
const TOMBSTONE_AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Limit of the age of an event that still counts as one of a new customer, where the tombstone is dated beyond its ceiling and
/// does not tell. Longer than most senders try to deliver. A repeated event of the erased customer is nearly always older.
const NEW_CUSTOMER_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The latest moment that a tombstone can be dated. A clock that was ahead wrote any later date.
pub(super) fn tombstone_ceiling(now: Timestamp) -> Timestamp {
    Timestamp::latest(now, TOMBSTONE_AHEAD_MAX)
}

/// The moment until which a tombstone beyond its ceiling refuses events.
pub(super) fn doubted_tombstone(now: Timestamp) -> Timestamp {
    now.minus(NEW_CUSTOMER_WITHIN)
}

/// The limits of how far ahead due times can lie, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Limit for a customer's next event: the longest back-off or lease. A pause in force counts as well.
    pub work: Duration,
    /// Limit for a notice: the longest back-off or lease of a publisher.
    pub notice: Duration,
    /// Limit for a poll: the watch's interval.
    pub poll: Duration,
    /// Limit for an event that waits for its sign-up.
    pub sign_up: Duration,
}

impl Ceilings {
    /// The ceilings of a process that does not know the settings: no event waits longer than the longest pause of Podero's, and
    /// an event that waits for its sign-up waits until its own day.
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

/// The two ranges in which due rows are found, by an index on the due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Rows whose time has come.
    Come,
    /// Rows whose due time lies beyond its ceiling. They are searched when too few rows have come due; there are none unless a
    /// clock was ahead.
    Beyond,
}

impl Reach {
    pub(super) const BOTH: [Self; 2] = [Self::Come, Self::Beyond];

    /// The comparison of a column of due times with [`Reach::bound`].
    pub(super) const fn compares(self) -> &'static str {
        match self {
            Self::Come => "<=",
            Self::Beyond => ">",
        }
    }

    pub(super) fn bound(self, now: Timestamp, ceiling: Duration) -> Timestamp {
        match self {
            Self::Come => now,
            Self::Beyond => Timestamp::latest(now, ceiling),
        }
    }
}

/// The current ceiling of a customer's next event: while Podero has asked for a pause, its end.
pub(super) async fn work_ceiling(on: impl Executor, now: Timestamp, ceilings: Ceilings) -> Result<Duration, DbFault> {
    let standing = shared_standing(on, now).await?;
    let pause = standing.paused(now).map_or(Duration::ZERO, |until| until.since(now));
    Ok(ceilings.work.max(pause))
}
