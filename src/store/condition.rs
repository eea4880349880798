//! The condition of the store, as its own writer finds it: whether it takes writes, the last success, the trouble since, and
//! since when the writer waits.
//!
//! A read proves nothing: a full disk, a read-only database and a locked table still answer reads. So the state comes from real
//! transactions. A replica's heartbeat and every arrival prove that writing works; a failure that concerns the whole store counts
//! until the next proof. The reasons are a closed list in our own words: a database's text may carry values. This file reads and
//! writes no table.
//!
//! Before: [`crate::store::writer`] and the readers report what they met. After: `/readyz`, the metrics, and the arrivals that
//! are refused at once.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Timeout of one attempt to write, after which the store counts as one that does not answer. Above the needs of a large erasure
/// or a slow disk, and as long as the wait for a lock.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Limit of the age of the last proof. The heartbeat proves that writing works every three seconds; without one for this long the
/// writer itself hangs.
const PROOF_AGE_MAX: Duration = Duration::from_secs(20);

/// Interval of the arrivals that are let through to a store in trouble, so that one of them can find it well again when no
/// heartbeat does.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Limit of the time for which an arrival that was denied its rights outweighs heartbeats that went through: while the bridge is
/// not ready, no sender comes, so no arrival can prove the contrary.
const DENIED_AGE_MAX: Duration = Duration::from_secs(180);

/// Limit of the time for which damage that a server has reported counts after the last statement that met it. Nothing else shows
/// that a table was repaired, or that a failover took place.
pub(super) const SERVER_DAMAGE_AGE_MAX: Duration = Duration::from_secs(300);

/// Interval at which the same trouble is logged again.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The reason why the whole store takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is full, or a quota is used up.
    NoRoom,
    /// The database, its role or its file system takes no writes.
    ReadOnly,
    /// Another session holds a lock that is needed.
    Locked,
    /// A page is not what was written.
    Damaged,
    /// The SQLite file, or its log, is not the one that this process has open.
    Replaced,
    /// No server listens at the database's address.
    ConnectionRefused,
    /// The database does not answer in time, or the connection broke.
    Silent,
    /// The database does not let the bridge in, or denies it its tables.
    AccessDenied,
    /// The disk reports errors.
    DiskFails,
}

impl Trouble {
    /// The name of the trouble, from a closed list.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoRoom => "no room on the disk",
            Self::ReadOnly => "read-only",
            Self::Locked => "locked by another session",
            Self::Damaged => "damaged",
            Self::Replaced => "the file at its path is another one, or its log is",
            Self::ConnectionRefused => "connection refused",
            Self::Silent => "does not answer",
            Self::AccessDenied => "refuses the bridge",
            Self::DiskFails => "the disk fails",
        }
    }

    /// `true` if the trouble holds for every write of a group, so that trying each alone would only take longer.
    pub(super) fn is_for_all(self) -> bool {
        match self {
            // A smaller transaction may have room, a lock may be on one row, one statement may be slow, one table withheld.
            Self::NoRoom | Self::Locked | Self::Silent | Self::AccessDenied => false,
            Self::ReadOnly | Self::Damaged | Self::Replaced | Self::ConnectionRefused | Self::DiskFails => true,
        }
    }
}

/// A fact that a committed transaction has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Proof that a row can be changed in place.
    Change,
    /// Proof that an arrival can be stored.
    Arrival,
    /// Proof that there is room for some of the largest arrivals.
    Room,
}

/// State of writing at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Writability {
    /// The reason why the store takes no writes; `None`: it takes them.
    pub trouble: Option<Trouble>,
    /// The time for which that has lasted.
    pub lasting: Duration,
    /// The time since a write was last proven.
    pub last_write_age: Duration,
}

impl std::fmt::Display for Writability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.trouble {
            None => f.write_str("ok"),
            Some(trouble @ (Trouble::Locked | Trouble::Silent)) => {
                write!(f, "{} for {} s", trouble.words(), self.lasting.as_secs())
            }
            Some(trouble) => f.write_str(trouble.words()),
        }
    }
}

/// The state, shared by the writer, the readers and the callers.
#[derive(Debug)]
pub(super) struct Condition {
    state: Mutex<State>,
    damage: Notify,
}

#[derive(Debug)]
struct State {
    proven_at: Instant,
    /// The trouble that was met since then, and when it began.
    trouble: Option<(Trouble, Instant)>,
    /// The time at which an arrival was last denied its rights.
    denied_at: Option<Instant>,
    /// The time at which damage was last met.
    damage_met_at: Instant,
    /// The time at which any statement first met damage; stays until a check finds nothing.
    damaged_since: Option<Instant>,
    replaced_since: Option<Instant>,
    /// The beginning of the writer's current attempt.
    working_since: Option<Instant>,
    /// The time at which an arrival was last tried.
    tried_at: Instant,
    /// The trouble that was last logged, and when.
    told: Option<(Trouble, Instant)>,
}

impl Default for Condition {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                proven_at: now,
                trouble: None,
                denied_at: None,
                damage_met_at: now,
                damaged_since: None,
                replaced_since: None,
                working_since: None,
                tried_at: now,
                told: None,
            }),
            damage: Notify::new(),
        }
    }
}

impl Condition {
    /// The writer begins an attempt.
    pub(super) fn begins(&self) {
        self.lock().working_since.get_or_insert_with(Instant::now);
    }

    /// The attempt is over, with or without success. The bridge's own writes are no attempt of an arrival.
    pub(super) fn ends(&self, had_arrival: bool) {
        let mut state = self.lock();
        state.working_since = None;
        if had_arrival {
            state.tried_at = Instant::now();
        }
    }

    /// A transaction that proves writing is on disk.
    pub(super) fn proven(&self, proof: Proof) {
        let mut state = self.lock();
        state.proven_at = Instant::now();
        if state.outlasts(proof) {
            return;
        }
        let had_trouble = state.trouble.take().is_some();
        state.denied_at = None;
        let is_well = state.damaged_since.is_none() && state.replaced_since.is_none();
        if is_well && had_trouble && state.told.take().is_some() {
            drop(state);
            tracing::info!("the store takes writes again");
        }
    }

    /// `true` if room is to be proven before the store takes writes again.
    pub(super) fn lacks_room(&self) -> bool {
        self.lock().trouble.is_some_and(|(trouble, _)| trouble == Trouble::NoRoom)
    }

    /// A transaction failed for a reason that concerns the whole store.
    pub(super) fn failed(&self, trouble: Trouble, is_arrival: bool) {
        if trouble == Trouble::Damaged {
            return self.damage_seen();
        }
        let mut state = self.lock();
        let since = state.trouble.map(|(_, since)| since).or(state.working_since).unwrap_or_else(Instant::now);
        state.trouble = Some((trouble, since));
        if trouble == Trouble::AccessDenied && is_arrival {
            state.denied_at = Some(Instant::now());
        }
    }

    /// A statement, a read or a write, has met a damaged page.
    pub(super) fn damage_seen(&self) {
        let mut state = self.lock();
        state.damage_met_at = Instant::now();
        let is_first = state.damaged_since.is_none();
        state.damaged_since.get_or_insert_with(Instant::now);
        drop(state);
        if is_first {
            tracing::error!(
                "the store is damaged: a page is not what was written; the bridge takes no events until a check finds it whole"
            );
            self.damage.notify_one();
        }
    }

    /// The time since a statement last met damage.
    pub(super) fn damage_age(&self) -> Duration {
        self.lock().damage_met_at.elapsed()
    }

    /// A check of the whole file has found nothing, or a server has not reported damage for long.
    pub(super) fn found_whole(&self) {
        self.lock().damaged_since = None;
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.lock().damaged_since.is_some()
    }

    /// Resolves when damage was met; once for each time.
    pub(super) async fn until_damage_is_seen(&self) {
        self.damage.notified().await;
    }

    /// Records whether the file at its path is another one than this process has open. Returns `true` if that is news.
    pub(super) fn set_replaced(&self, is_replaced: bool) -> bool {
        let mut state = self.lock();
        let was_replaced = state.replaced_since.is_some();
        state.replaced_since = is_replaced.then(|| state.replaced_since.unwrap_or_else(Instant::now));
        is_replaced != was_replaced
    }

    /// `true` if this failure is to be logged as a warning: the first, of another kind, or after a while.
    pub(super) fn is_to_be_told(&self, trouble: Trouble) -> bool {
        let mut state = self.lock();
        let is_told = state.told.is_some_and(|(told, at)| told == trouble && at.elapsed() < TELL_EVERY);
        if !is_told {
            state.told = Some((trouble, Instant::now()));
        }
        !is_told
    }

    pub(super) fn look(&self) -> Writability {
        self.lock().look()
    }

    /// The reason for which a new arrival is refused without trying: the store is known to be in trouble and is being tried, or
    /// an arrival was tried a moment ago. If the store is in trouble, an arrival that is not refused is the next one to be tried.
    pub(super) fn refuses_new_arrival(&self) -> Option<Trouble> {
        let mut state = self.lock();
        let refused = state.refuses_arrivals();
        if refused.is_none() && state.look().trouble.is_some() {
            state.tried_at = Instant::now();
        }
        refused
    }

    /// The reason for which an arrival that waits already is refused.
    pub(super) fn refuses_waiting_arrival(&self) -> Option<Trouble> {
        self.lock().refuses_arrivals()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this")
    }
}

impl State {
    /// `true` if the trouble goes on despite this proof.
    fn outlasts(&self, proof: Proof) -> bool {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < DENIED_AGE_MAX);
        match (self.trouble.map(|(trouble, _)| trouble), proof) {
            (Some(Trouble::NoRoom), Proof::Change) => true,
            (Some(Trouble::AccessDenied), Proof::Change) => is_recent(self.denied_at),
            (Some(_) | None, Proof::Change | Proof::Arrival | Proof::Room) => false,
        }
    }

    fn refuses_arrivals(&self) -> Option<Trouble> {
        let trouble = self.look().trouble?;
        let is_final = self.damaged_since.is_some() || self.replaced_since.is_some();
        let is_tried = self.working_since.is_some() || self.tried_at.elapsed() < TRY_EVERY;
        (is_final || is_tried).then_some(trouble)
    }

    fn look(&self) -> Writability {
        let stalled = self.working_since.filter(|since| since.elapsed() >= STALL_MAX);
        let overdue = (self.proven_at.elapsed() >= PROOF_AGE_MAX).then_some(self.proven_at);
        let found = (self.damaged_since.map(|since| (Trouble::Damaged, since)))
            .or(self.replaced_since.map(|since| (Trouble::Replaced, since)))
            .or(self.trouble)
            .or(stalled.or(overdue).map(|since| (Trouble::Silent, since)));
        Writability {
            trouble: found.map(|(trouble, _)| trouble),
            lasting: found.map(|(_, since)| since.elapsed()).unwrap_or_default(),
            last_write_age: self.proven_at.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_room_ends_with_room_and_not_with_a_change_in_place() {
        let condition = Condition::default();
        condition.failed(Trouble::NoRoom, true);
        condition.proven(Proof::Change);
        assert_eq!(condition.look().trouble, Some(Trouble::NoRoom));
        condition.proven(Proof::Room);
        assert_eq!(condition.look().trouble, None);
    }

    #[tokio::test(start_paused = true)]
    async fn in_trouble_one_arrival_is_tried_at_a_time_whatever_else_is_written() {
        let condition = Condition::default();
        condition.failed(Trouble::NoRoom, true);
        assert_eq!(condition.refuses_new_arrival(), Some(Trouble::NoRoom));
        for _ in 0..4 {
            tokio::time::advance(TRY_EVERY / 4).await;
            condition.begins();
            condition.ends(false);
        }
        assert_eq!(condition.refuses_new_arrival(), None);
        assert_eq!(condition.refuses_new_arrival(), Some(Trouble::NoRoom), "the one before is being tried");
    }

    #[tokio::test(start_paused = true)]
    async fn rights_that_an_arrival_lacks_are_not_proven_by_a_heartbeat() {
        let condition = Condition::default();
        condition.failed(Trouble::AccessDenied, true);
        condition.proven(Proof::Change);
        assert_eq!(condition.look().trouble, Some(Trouble::AccessDenied));
        condition.proven(Proof::Arrival);
        assert_eq!(condition.look().trouble, None);
        condition.failed(Trouble::AccessDenied, true);
        tokio::time::advance(DENIED_AGE_MAX).await;
        condition.proven(Proof::Change);
        assert_eq!(condition.look().trouble, None, "no sender comes to a bridge that is not ready");
    }
}
