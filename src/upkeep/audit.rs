//! The upkeep of the audit log: sealing, a watch over the chain, the removal of old rows, and an hourly log line with the head.
//!
//! Every replica tries to seal and to remove; a lock in the store lets one at a time through. Every replica watches.
//!
//! Before: time. After: [`crate::store`].

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::chain::Broken;
use crate::metrics::Metrics;
use crate::pump::{Step, failed};
use crate::store::{ChainLook, ChainWatch, Dialect, Error, SEALED_AT_ONCE, Store};

/// Interval of the log line with the head: with the log it is kept elsewhere, so that a rewrite of everything before shows.
const HEAD_EVERY: Duration = Duration::from_hours(1);

/// The duty of the log line, which one replica takes.
const HEAD_DUTY: &str = "audit_head";

/// Pause between two seals in a SQLite file while rows come in and do not fill a transaction: a few rows at a time hold up an event for
/// less long than all of a second's at once.
const SEAL_PAUSE: Duration = Duration::from_millis(50);

/// The same pause on a server, where no event waits for it and each transaction costs a flush.
const SEAL_PAUSE_APART: Duration = Duration::from_millis(200);

/// Pause between two transactions that remove old rows.
const TRIM_PAUSE: Duration = Duration::from_millis(50);

/// Interval in which a replica asks for the duty after another one had it: so much later comes the line of a replica that died.
const HEAD_ASK_EVERY: Duration = Duration::from_mins(5);

/// Everything that the upkeep of the audit log needs.
pub struct AuditUpkeep {
    store: Store,
    clock: Clock,
    metrics: Metrics,
    /// `audit.retention`; `None`: nothing is ever removed.
    retention: Option<Duration>,
    /// The time from which on this replica asks for the duty of the log line.
    ask_at: Mutex<Timestamp>,
    watch: Mutex<ChainWatch>,
    /// The finding of the watch that the log has.
    found: Mutex<Option<Broken>>,
}

impl AuditUpkeep {
    /// The upkeep of this store.
    pub fn new(store: Store, clock: Clock, metrics: Metrics, retention: Option<Duration>) -> Self {
        let (ask_at, watch, found) = (Mutex::new(Timestamp::from_micros(0)), Mutex::default(), Mutex::default());
        Self { store, clock, metrics, retention, ask_at, watch, found }
    }

    /// Seals what is not sealed yet, and once an hour writes a log line with the head.
    pub async fn seal(&self) -> Step {
        let sealed = match self.store.seal_apart().await {
            Ok(SEALED_AT_ONCE..) => return Step::Busy,
            Ok(sealed) => sealed,
            Err(error) => return failed!(error, "rows of the audit log could not be sealed"),
        };
        if let Err(error) = self.tell_head().await {
            tracing::debug!(%error, "the head of the audit log could not be read");
        }
        let pause = match self.store.dialect() {
            Dialect::Sqlite => SEAL_PAUSE,
            Dialect::Postgres => SEAL_PAUSE_APART,
        };
        if sealed > 0 { Step::IdleFor(pause) } else { Step::Idle }
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

    /// Looks whether the chain is whole: the newest rows, and a part of all others in turn.
    pub async fn watch(&self) -> Step {
        let mut watch = std::mem::take(&mut *self.watch.lock().expect("no code panics while it holds this"));
        let look = watch.look(&self.store).await;
        *self.watch.lock().expect("no code panics while it holds this") = watch;
        match look {
            Ok(ChainLook::Nothing) => {}
            Ok(ChainLook::Whole) => self.tell(None),
            Ok(ChainLook::Broken(broken)) => self.tell(Some(broken)),
            Err(error) => return failed!(error, "the audit log could not be looked through"),
        }
        Step::Idle
    }

    fn tell(&self, broken: Option<Broken>) {
        self.metrics.audit_broken.set(broken.is_some().into());
        let mut found = self.found.lock().expect("no code panics while it holds this");
        if *found == broken {
            return;
        }
        match &broken {
            Some(broken) => {
                tracing::error!(%broken, "the audit log is not as it was sealed; keep a copy of the store, and see `audit verify`")
            }
            None => tracing::info!("the audit log is whole again"),
        }
        *found = broken;
    }

    /// Removes rows that are older than the retention. Without one, removes nothing.
    pub async fn trim(&self) -> Step {
        match self.store.trim_audit(self.retention).await {
            Ok(true) => Step::IdleFor(TRIM_PAUSE),
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "old rows of the audit log could not be removed"),
        }
    }
}
