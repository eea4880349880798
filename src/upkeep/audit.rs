//! The upkeep of the audit log: sealing, the removal of old rows, and an hourly log line with the head of the chain.
//!
//! Every replica tries; a lock in the store lets one at a time through.
//!
//! Before: time. After: [`crate::store`].

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::pump::{Step, failed};
use crate::store::{Error, Store};

/// Interval of the log line with the head: with the log it is kept elsewhere, so that a rewrite of everything before shows.
const HEAD_EVERY: Duration = Duration::from_hours(1);

/// The duty of the log line, which one replica takes.
const HEAD_DUTY: &str = "audit_head";

/// Pause between two transactions that remove old rows.
const TRIM_PAUSE: Duration = Duration::from_millis(50);

/// Everything that the upkeep of the audit log needs.
pub struct AuditUpkeep {
    /// The tables.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// `audit.retention`; `None`: nothing is ever removed.
    pub retention: Option<Duration>,
    /// The time from which on this replica asks for the duty of the log line again.
    pub told_until: Mutex<Timestamp>,
}

impl AuditUpkeep {
    /// Seals what is not sealed yet, and once an hour writes a log line with the head.
    pub async fn seal(&self) -> Step {
        match self.store.seal_audit().await {
            Ok(0) => {}
            Ok(_) => return Step::Busy,
            Err(error) => return failed!(error, "rows of the audit log could not be sealed"),
        }
        if let Err(error) = self.tell_head().await {
            tracing::debug!(%error, "the head of the audit log could not be read");
        }
        Step::Idle
    }

    async fn tell_head(&self) -> Result<(), Error> {
        let now = self.clock.now();
        {
            let mut told_until = self.told_until.lock().expect("no code panics while it holds this");
            if now < *told_until {
                return Ok(());
            }
            *told_until = now.plus(HEAD_EVERY);
        }
        if self.store.take_duty(HEAD_DUTY, HEAD_EVERY).await?.is_some() {
            let head = self.store.audit_head().await?;
            tracing::info!(%head, "the head of the audit log; `audit verify --head` takes it");
        }
        Ok(())
    }

    /// Removes rows that are older than the retention.
    pub async fn trim(&self) -> Step {
        let Some(retention) = self.retention else { return Step::Idle };
        match self.store.trim_audit(retention).await {
            Ok(true) => Step::IdleFor(TRIM_PAUSE),
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "old rows of the audit log could not be removed"),
        }
    }
}
