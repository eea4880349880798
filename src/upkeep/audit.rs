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
use crate::store::{Error, SEALED_AT_ONCE, Store};

/// Interval of the log line with the head: with the log it is kept elsewhere, so that a rewrite of everything before shows.
const HEAD_EVERY: Duration = Duration::from_hours(1);

/// The duty of the log line, which one replica takes.
const HEAD_DUTY: &str = "audit_head";

/// Pause between two seals while rows come in and do not fill a transaction: a few rows at a time hold up an event for less long than
/// all of a second's at once.
const SEAL_PAUSE: Duration = Duration::from_millis(50);

/// Pause between two transactions that remove old rows.
const TRIM_PAUSE: Duration = Duration::from_millis(50);

/// Interval in which a replica asks for the duty after another one had it: so much later comes the line of a replica that died.
const HEAD_ASK_EVERY: Duration = Duration::from_mins(5);

/// Everything that the upkeep of the audit log needs.
pub struct AuditUpkeep {
    /// The tables.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// `audit.retention`; `None`: nothing is ever removed.
    pub retention: Option<Duration>,
    /// The time from which on this replica asks for the duty of the log line.
    pub ask_at: Mutex<Timestamp>,
}

impl AuditUpkeep {
    /// Seals what is not sealed yet, and once an hour writes a log line with the head.
    pub async fn seal(&self) -> Step {
        let sealed = match self.store.seal_audit().await {
            Ok(SEALED_AT_ONCE..) => return Step::Busy,
            Ok(sealed) => sealed,
            Err(error) => return failed!(error, "rows of the audit log could not be sealed"),
        };
        if let Err(error) = self.tell_head().await {
            tracing::debug!(%error, "the head of the audit log could not be read");
        }
        if sealed > 0 { Step::IdleFor(SEAL_PAUSE) } else { Step::Idle }
    }

    async fn tell_head(&self) -> Result<(), Error> {
        let ask_at = *self.ask_at.lock().expect("no code panics while it holds this");
        if !ask_at.has_come(self.clock.now(), HEAD_EVERY) {
            return Ok(());
        }
        // Before the duty is taken, which cannot fail from then on.
        let head = self.store.audit_head().await?;
        let ask_after = match self.store.take_duty(HEAD_DUTY, HEAD_EVERY).await? {
            Some(_) => {
                tracing::info!(%head, "the head of the audit log; `audit verify --head` takes it");
                HEAD_EVERY
            }
            None => HEAD_ASK_EVERY,
        };
        // By a later time than that of the duty, so that it is due by then.
        *self.ask_at.lock().expect("no code panics while it holds this") = self.clock.now().plus(ask_after);
        Ok(())
    }

    /// Removes rows that are older than the retention. Without one, only ends a removal that was under way.
    pub async fn trim(&self) -> Step {
        match self.store.trim_audit(self.retention).await {
            Ok(true) => Step::IdleFor(TRIM_PAUSE),
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "old rows of the audit log could not be removed"),
        }
    }
}
