//! Whether the store takes writes, as its own writer finds out: its last success, what went wrong since, and since when it
//! waits.
//!
//! A read proves nothing: a full disk, a read-only database and a locked table still answer reads. So the state comes from
//! real transactions. A replica's heartbeat and every arrival prove that writing works; a failure that concerns the whole
//! store counts until the next proof. The reasons are a closed list in words of our own: a database's text may carry
//! values. It reads and writes no table.
//!
//! Before: [`crate::store::writer`] and the readers say what they met. After: `/readyz`, the metrics, and the arrivals that
//! are refused at once.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Limit of the time that one attempt to write may take before the store counts as one that does not answer. Above what a
/// large erasure or a slow disk needs, and as long as a lock is waited for.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Limit of the age of the last proof. The heartbeat proves itself every three seconds; without one for this long the writer
/// itself hangs.
const PROOF_AGE_MAX: Duration = Duration::from_secs(20);

/// Interval of the arrivals that are let through to a store in trouble, so that one of them can find it well again where no
/// heartbeat does.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Interval at which the same trouble is logged again.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Reason for which the whole store takes no writes.
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
    /// Nothing listens where the database should be.
    ConnectionRefused,
    /// It does not answer in time, or the connection broke.
    Silent,
    /// The database does not let the bridge in, or not to its tables.
    AccessDenied,
    /// The disk reports errors.
    DiskFails,
}

impl Trouble {
    /// The closed list of words for it.
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

    /// Whether it holds for every write of a group, so that trying each alone would only take longer.
    pub(super) fn is_for_all(self) -> bool {
        match self {
            // A smaller transaction may have room, a lock may be on one row, one statement may be slow, one table withheld.
            Self::NoRoom | Self::Locked | Self::Silent | Self::AccessDenied => false,
            Self::ReadOnly | Self::Damaged | Self::Replaced | Self::ConnectionRefused | Self::DiskFails => true,
        }
    }
}

/// State of writing at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Writability {
    /// Why it does not take writes; `None`: it does.
    pub trouble: Option<Trouble>,
    /// For how long.
    pub lasting: Duration,
    /// How long ago a write was last proven.
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

/// The state, shared by the writer, the readers and all who ask.
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
    /// Seen by any statement; stays until a check finds nothing.
    damaged_since: Option<Instant>,
    replaced_since: Option<Instant>,
    /// Begin of the attempt that the writer is at.
    working_since: Option<Instant>,
    tried_at: Instant,
    /// When trouble was last logged, and which.
    told: Option<(Trouble, Instant)>,
}

impl Default for Condition {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                proven_at: now,
                trouble: None,
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

    /// The attempt is over, however it ended.
    pub(super) fn ends(&self) {
        let mut state = self.lock();
        state.working_since = None;
        state.tried_at = Instant::now();
    }

    /// A transaction that proves writing is on disk.
    pub(super) fn proven(&self) {
        let mut state = self.lock();
        state.proven_at = Instant::now();
        state.trouble = None;
        let is_well = state.damaged_since.is_none() && state.replaced_since.is_none();
        if is_well && state.told.take().is_some() {
            drop(state);
            tracing::info!("the store takes writes again");
        }
    }

    /// A transaction failed for a reason that concerns the whole store.
    pub(super) fn failed(&self, trouble: Trouble) {
        if trouble == Trouble::Damaged {
            return self.damage_seen();
        }
        let mut state = self.lock();
        let since = state.trouble.map(|(_, since)| since).or(state.working_since).unwrap_or_else(Instant::now);
        state.trouble = Some((trouble, since));
    }

    /// A statement, a read or a write, has met a page that is not what was written.
    pub(super) fn damage_seen(&self) {
        let is_first = self.lock().damaged_since.replace(Instant::now()).is_none();
        if is_first {
            tracing::error!(
                "the store is damaged: a page is not what was written; the bridge takes no events until a check finds it whole"
            );
            self.damage.notify_one();
        }
    }

    /// A check of the whole file has found nothing.
    pub(super) fn found_whole(&self) {
        self.lock().damaged_since = None;
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.lock().damaged_since.is_some()
    }

    /// Resolves when damage was seen; once for each time.
    pub(super) async fn until_damage_is_seen(&self) {
        self.damage.notified().await;
    }

    /// Whether the file at its path is another one than this process has open. `true` when that is news.
    pub(super) fn set_replaced(&self, is_replaced: bool) -> bool {
        let mut state = self.lock();
        let was_replaced = state.replaced_since.is_some();
        state.replaced_since = is_replaced.then(|| state.replaced_since.unwrap_or_else(Instant::now));
        is_replaced != was_replaced
    }

    /// Whether this failure is to be logged as a warning: the first, of another kind, or after a while.
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

    /// Whether an arrival is to be refused without trying: the store is known to be in trouble and is being tried, or was a
    /// moment ago.
    pub(super) fn refuses_arrivals(&self) -> Option<Trouble> {
        let state = self.lock();
        let trouble = state.look().trouble?;
        let is_final = state.damaged_since.is_some() || state.replaced_since.is_some();
        let is_tried = state.working_since.is_some() || state.tried_at.elapsed() < TRY_EVERY;
        (is_final || is_tried).then_some(trouble)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this")
    }
}

impl State {
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
