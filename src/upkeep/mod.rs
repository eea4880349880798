//! Upkeep: periodic work that belongs to no single event. Each piece is a step, which [`crate::app`] repeats.
//!
//! Events whose day has come become due, a bulk retry goes on, old rows are removed, and the log of a SQLite file is emptied
//! after an erasure. `audit.rs` seals the audit log, `gauges.rs` counts the tables, `server_gauges.rs` measures the server that
//! has them, `history.rs` keeps what was counted, `secret_files.rs` reads changed secrets. A step decides nothing about an event, and makes no call.
//!
//! Before: time. After: [`crate::store`], and [`crate::apply`] for what became due.

mod audit;
mod gauges;
mod history;
mod secret_files;
mod server_gauges;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::pump::{Step, failed};
use crate::store::{Error, Stepped, Store};

pub use audit::AuditUpkeep;
pub use gauges::{Counting, GAUGES_EVERY, GAUGES_REST_MAX};
pub use history::{HISTORY_EVERY, Recorder};
pub use secret_files::{SecretFiles, note_tokens};
pub use server_gauges::{Measuring, SERVER_GAUGES_EVERY};

/// Pause between two transactions that remove what is old: some thousand rows a second, and room for all other writes.
const FORGET_PAUSE: Duration = Duration::from_millis(50);

/// Everything the stage needs.
pub struct Upkeep {
    /// The tables.
    pub store: Store,
    /// Woken when there is more to apply.
    pub wake: Arc<Notify>,
    /// `store.retention`; `None`: nothing is ever removed.
    pub retention: Option<Duration>,
    /// `store.backlog_max`, which a bulk retry leaves room in.
    pub backlog_max: u64,
}

impl Upkeep {
    /// Takes up events whose day has come.
    pub async fn promote(&self) -> Step {
        match self.store.promote().await {
            Ok(0) => Step::Idle,
            Ok(_) => {
                self.wake.notify_one();
                Step::Busy
            }
            Err(error) => failed!(error, "events that are due could not be taken up"),
        }
    }

    /// Goes on with the running bulk retry, if there is one.
    pub async fn retry(&self) -> Step {
        match self.store.retry_step(self.backlog_max).await {
            Ok(Stepped::Nothing) => Step::Idle,
            Ok(Stepped::Retried { count, pause }) => {
                if count > 0 {
                    self.wake.notify_one();
                }
                if pause.is_zero() { Step::Busy } else { Step::IdleFor(pause) }
            }
            Err(error) => failed!(error, "parked events could not be retried"),
        }
    }

    /// Hashes the e-mail addresses of customers from before there were hashes.
    pub async fn hash_emails(&self) -> Step {
        match self.store.hash_emails().await {
            Ok(0) => Step::Idle,
            Ok(_) => Step::IdleFor(FORGET_PAUSE),
            Err(error) => failed!(error, "customers' e-mail addresses could not be hashed"),
        }
    }

    /// Looks for purges that a clock ahead has put off.
    pub async fn date_purges(&self) -> Step {
        match self.store.date_purges().await {
            Ok(true) => Step::IdleFor(FORGET_PAUSE),
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "purges that a clock ahead has put off could not be looked for"),
        }
    }

    /// Removes what is older than the retention.
    pub async fn forget(&self) -> Step {
        let Some(retention) = self.retention else { return Step::Idle };
        match self.store.forget(retention).await {
            Ok(true) => Step::IdleFor(FORGET_PAUSE),
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "what is old enough could not be removed"),
        }
    }

    /// Empties the log of a SQLite file after an erasure next to a reader, as soon as no other process reads.
    pub async fn scrub(&self) -> Step {
        match self.store.scrub_if_owed().await {
            Ok(Some(true)) => tracing::info!("what was erased has left the store's log (FILE-wal)"),
            Ok(Some(false) | None) => {}
            Err(error) => tracing::debug!(%error, "the store's log (FILE-wal) could not be emptied after an erasure"),
        }
        Step::Idle
    }
}

/// Checks a large SQLite file next to the work, and any when a statement has met damage later. Ends only when the first of
/// these finds damage, which ends the bridge as at a start.
pub async fn examine(store: Store) {
    match store.examine().await {
        Ok(()) => {}
        Err(error @ Error::Damaged(_)) => {
            tracing::error!(%error, "the bridge ends");
            return;
        }
        // The next reader or writer meets the same trouble, and waits for its end.
        Err(error) => tracing::warn!(%error, "the store's file could not be checked"),
    }
    loop {
        match store.examine_when_damage_is_seen().await {
            Ok(()) => tracing::info!("the whole of the store's file was checked: nothing is wrong with it"),
            // The bridge stays up and takes nothing, so that an operator can look at what is there.
            Err(error) => tracing::error!(%error, "the store stays damaged; stop the bridge and start with a backup"),
        }
    }
}
