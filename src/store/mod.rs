//! What survives: inbox, lanes, outbox and the watch's memory, on SQLite or PostgreSQL.
//!
//! The store decides nothing. Retry times, parking and alerts are values that the core computed; here they
//! become durable. Every write goes through one [`Writer`] (group commit); reads go beside it. A call
//! that returned `Ok` is on disk; one whose future was dropped or that failed with [`Error::Away`] may or may
//! not be, and is safe to repeat.
//!
//! Before: [`crate::inbound`] accepts. After: [`crate::apply`], [`crate::watch`], [`crate::replica`] and [`crate::outbound`] meet here, in
//! tables.

mod announcements;
mod backup;
mod brake;
mod db;
mod erasure;
mod inbox;
mod keeping;
mod lanes;
mod mentions;
mod moments;
mod outages;
mod outbox;
mod parking;
mod place;
mod roster;
mod schema;
mod standing;
mod taken;
mod timeline;
mod unread;
mod waits;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::clock::Clock;
pub use announcements::REPLACED;
use announcements::Replaced;
pub use backup::{BackupError, back_up};
use brake::ActiveCount;
pub use brake::{ACTIVE_AGE_MAX, Asked};
pub use db::Dialect;
use db::{Aim, Db, Fault, Readers, query};
pub use erasure::{Erased, InTheWay};
pub use inbox::{Arrival, Content, Receipt};
pub use lanes::{CallMade, Claim, Settled};
pub use moments::Ceilings;
use moments::KnownCeilings;
pub use outages::KnownOutages;
pub use outbox::{DueNotice, PublishOutcome, Target};
pub use parking::{BulkRetry, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedGroup, RetryRequest, Stepped};
pub use place::is_sqlite;
pub use roster::{DueUser, Member, Observed};
pub use standing::{REPLICA_LIFE, Shared, Told};
use taken::{Taken, Taking};
pub use timeline::{
    AlertView, CallView, CustomerView, EventSummary, EventView, Gauges, NotTaken, NoticeView, OutageView, PumpFilter,
    PumpView, ROWS_MAX,
};
pub use unread::{ReadAgain, Reread, UnreadMessage};
pub use waits::{OpenCursor, OpenEvent, OpenFilter, OpenPage, OpenState, WaitsFor};
pub use writer::Writer;
use writer::{Pending, QUEUE_MAX, Write};

/// Why the store did not do it; the variants differ by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Try again later: the database is away, full or busy. Nothing, or something harmless to repeat, happened.
    #[error("the store is away: {0}")]
    Away(String),
    /// Do not try again while it is so: another bridge works on this SQLite file.
    #[error("another bridge works on this SQLite file; several replicas need PostgreSQL")]
    Taken,
    /// Try again sooner: too many writes are waiting.
    #[error("the store has more to write than it may keep waiting")]
    Full,
    /// Do not try again: what the store holds cannot be read by this version.
    #[error("the store holds something that this version cannot read: {0}")]
    Unreadable(String),
    /// Do not try again: the SQLite file is not what was written. It is left as it is.
    #[error("the SQLite file is damaged ({0}); keep it, and start with a backup (`podero-bridge backup` makes them)")]
    Damaged(String),
    /// Do not try again: with another key than theirs the tombstones of erased customers would not be known.
    #[error(
        "this store knows erased customers by another store.erasure_key than the one configured; give back that key"
    )]
    OtherKey,
    /// Do not try again before somebody has made it usable: the database refuses us, or the file is not to be opened.
    #[error("{0}")]
    Unusable(String),
    /// Do not try again before a bridge has made it: a command never does.
    #[error("there is no store at {0}")]
    Missing(String),
    /// Do not try again before a bridge of this version has brought the schema up to date: a command never does.
    #[error(
        "the store is of schema {found}, this program of schema {known}; start `podero-bridge serve` of this version once"
    )]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Older { found: i64, known: i64 },
    /// Do not try again: a newer version has worked on it.
    #[error("the store is of schema {found}, this program knows no more than {known}; run the newer version")]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Newer { found: i64, known: i64 },
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable { .. } => Self::Unreadable(fault.to_string()),
            Fault::Sqlite(_) | Fault::Postgres(_) | Fault::TooLate | Fault::Ended | Fault::Missing => {
                Self::Away(fault.to_string())
            }
        }
    }
}

/// Whoever waits for a write longer than this is told that the store is away: a sender has its own deadline.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(30);

/// A handle to the store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Pending>,
    readers: Readers,
    dialect: Dialect,
    clock: Clock,
    targets: Vec<Target>,
    /// Events that were parked in here because they could not be read, and are not counted yet.
    unreadable: AtomicU64,
    /// Announced events that were replaced, and are not counted yet.
    replaced: Replaced,
    /// How many customers are active.
    active: ActiveCount,
    key: Keyring,
    /// Held for as long as this process works on a SQLite file.
    lock: Option<std::fs::File>,
    polls: Arc<Taken<Uuid>>,
    notices: Arc<Taken<(Target, Uuid)>>,
    /// How far ahead due times can lie.
    ceilings: KnownCeilings,
    /// A SQLite file that is to be checked beside the work.
    unexamined: Option<Db>,
}

/// The key of the tombstones, for whoever accepts or erases. Who only looks has none, and no need to know it.
struct Keyring(Option<erasure::Key>);

impl std::ops::Deref for Keyring {
    type Target = erasure::Key;

    fn deref(&self) -> &erasure::Key {
        self.0.as_ref().expect("a store that was opened to look is not asked to accept or to erase")
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.0.dialect)
    }
}

/// `store.erasure_key`; without one, the store's own.
struct KeyGiven<'a>(Option<&'a str>);

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `store.url`.
    pub url: String,
    /// Where notices go: each gets a row per target. Empty: they are kept and shown.
    pub targets: Vec<Target>,
    /// Whether this process works on the events. A SQLite file has one such process at a time; others may look.
    pub works: bool,
}

impl Store {
    /// Opens the database and gives back a handle and the [`Writer`] that the caller must run. Who works on it makes
    /// it and brings its schema up to date, and has a SQLite file for itself: a second one gets [`Error::Taken`]. Who
    /// only looks gets [`Error::Missing`], [`Error::Older`] or [`Error::Newer`] instead.
    pub async fn open(settings: Settings, clock: Clock) -> Result<(Self, Writer), Error> {
        Self::open_with(settings, None, clock).await
    }

    /// [`Store::open`], with the key that hashes the ids of erased customers (`store.erasure_key`); `None`: the
    /// store's own.
    pub async fn open_with(
        settings: Settings,
        erasure_key: Option<&str>,
        clock: Clock,
    ) -> Result<(Self, Writer), Error> {
        Self::open_as(settings, Some(KeyGiven(erasure_key)), clock).await
    }

    /// Opens what is there for a command that neither accepts nor erases events: without the key.
    pub async fn look(url: &str, clock: Clock) -> Result<(Self, Writer), Error> {
        let settings = Settings { url: url.to_owned(), targets: Vec::new(), works: false };
        Self::open_as(settings, None, clock).await
    }

    async fn open_as(settings: Settings, key: Option<KeyGiven<'_>>, clock: Clock) -> Result<(Self, Writer), Error> {
        let db = Db::new(&settings.url, if settings.works { Aim::Work } else { Aim::Use })?;
        let lock = if settings.works { db.lock()? } else { None };
        // What is not this program's is not touched, so it is looked at before the connection is prepared to write.
        let mut connection = db.connect_plain().await.map_err(|error| db.refusal(error))?;
        if !settings.works {
            schema::compare(&db, &mut connection).await?;
        }
        db.prepare(&mut connection).await.map_err(|error| db.refusal(error))?;
        let is_examined_later = keeping::is_large(&db);
        if settings.works {
            if db.dialect == Dialect::Sqlite && !is_examined_later {
                let connection = db.connect().await.map_err(|error| db.refusal(error))?;
                keeping::check_file(connection).await?;
            }
            schema::upgrade(&db, &mut connection).await?;
        }
        if lock.is_some() {
            standing::forget_all(&mut connection).await?;
        }
        if settings.works
            && let Some(at) = moments::last_written(&mut connection).await?
        {
            clock.doubt_after(at);
        }
        let key = match key {
            Some(KeyGiven(given)) => Some(erasure::Key::open(&mut connection, given, settings.works, &clock).await?),
            None => None,
        };
        let key = Keyring(key);
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let (readers, dialect, targets) = (db.readers(), db.dialect, settings.targets);
        let unreadable = AtomicU64::new(0);
        let replaced = Replaced::default();
        let unexamined = (settings.works && is_examined_later).then(|| db.clone());
        let (polls, notices) = (Arc::default(), Arc::default());
        let inner = Inner {
            queue,
            readers,
            dialect,
            clock,
            targets,
            unreadable,
            replaced,
            active: ActiveCount::default(),
            key,
            lock,
            polls,
            notices,
            ceilings: KnownCeilings::default(),
            unexamined,
        };
        let log = db.log_mover();
        let writer = Writer { db, connection: Some(connection), log, had_room: true, queue: receiver };
        Ok((Self(Arc::new(inner)), writer))
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// Events that this process has parked as unreadable since it was last asked: nobody else hears of them.
    pub fn take_unreadable(&self) -> u64 {
        self.0.unreadable.swap(0, Ordering::Relaxed)
    }

    /// Whether the database answers: a read, since a full disk still reads.
    pub async fn check(&self) -> Result<(), Error> {
        query("SELECT 1").execute(&self.0.readers).await?;
        Ok(())
    }

    /// For what is taken in memory; `None` where others may take as well, so that it is a row.
    fn taking<K: Eq + std::hash::Hash + Copy>(&self, all: &Arc<Taken<K>>) -> Option<Arc<Taking<K>>> {
        self.0.lock.is_some().then(|| Taking::of(all))
    }

    /// A write that takes: what it took is given back when it did not go through.
    async fn write_taking<W: Write, K: Eq + std::hash::Hash + Copy>(
        &self,
        write: W,
        taking: Option<Arc<Taking<K>>>,
    ) -> Result<W::Output, Error> {
        let result = self.write(write).await;
        if let (Err(_), Some(taking)) = (&result, taking) {
            taking.undo();
        }
        result
    }

    async fn write<W: Write>(&self, write: W) -> Result<W::Output, Error> {
        let (pending, answer) = Pending::new(write);
        self.0.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Away("the writer has ended".to_owned()),
        })?;
        match tokio::time::timeout(WRITE_WAIT_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Away("the writer has ended".to_owned())),
            // It may still be written; a repeat is safe.
            Err(_) => Err(Error::Away("it did not answer in time".to_owned())),
        }
    }
}
