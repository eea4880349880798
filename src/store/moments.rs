//! Stored due times, held against their ceilings.
//!
//! A clock that was ahead leaves due times in the future. A statement that reads a due time holds it against the ceiling of
//! its kind: beyond it, it has come. Due times are not rewritten for that, so a clock that is wrong in the other direction
//! destroys nothing.
//! `docs/LIMITS.md` lists the moments and their ceilings.
//!
//! Before: [`crate::app`] knows the settings. After: every statement of the store that looks for due rows.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::db::{Executor, Fault};
use super::shared_state::shared_standing;
use crate::domain::Timestamp;
use crate::domain::call::RETRY_AFTER_MAX;

/// How far ahead of now a tombstone can be dated: as far as the time of an event that was there may have been.
const TOMBSTONE_AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long ago an event of an erased customer may have happened to be of a new one, where the tombstone is dated beyond its
/// ceiling and does not tell: longer than most senders try to deliver. A repeated event of the erased customer is nearly
/// always older.
const NEW_CUSTOMER_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The latest moment that a tombstone can be dated: one beyond it was written by a clock that was ahead.
pub(super) fn tombstone_ceiling(now: Timestamp) -> Timestamp {
    Timestamp::latest(now, TOMBSTONE_AHEAD_MAX)
}

/// Where a tombstone lies beyond its ceiling, it refuses what happened until this moment.
pub(super) fn doubted_tombstone(now: Timestamp) -> Timestamp {
    now.minus(NEW_CUSTOMER_WITHIN)
}

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

/// The two places in which due rows are found, by an index on the due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Their time has come.
    Come,
    /// Their time lies beyond its ceiling. Looked at where too few have come; there is none unless a clock was ahead.
    Beyond,
}

impl Reach {
    pub(super) const BOTH: [Self; 2] = [Self::Come, Self::Beyond];

    /// How a column of due times compares with [`Reach::bound`].
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

/// The ceiling of a customer's next event now: while Podero has asked for a pause, its end.
pub(super) async fn work_ceiling(on: impl Executor, now: Timestamp, ceilings: Ceilings) -> Result<Duration, Fault> {
    let standing = shared_standing(on, now).await?;
    let pause = standing.paused(now).map_or(Duration::ZERO, |until| until.since(now));
    Ok(ceilings.work.max(pause))
}
