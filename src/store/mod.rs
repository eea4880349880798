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
mod closed_sets;
mod condition;
mod db;
mod duties;
mod erasure;
mod gauges;
mod inbox;
mod keeping;
mod lanes;
mod mentions;
mod moments;
mod outages;
mod outbox;
mod parking;
mod place;
mod purges;
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

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::clock::Clock;
pub use announcements::REPLACED;
use announcements::Replaced;
pub use backup::{BackupError, back_up};
use brake::ActiveCount;
pub use brake::{ACTIVE_AGE_MAX, Asked};
pub use closed_sets::{NoticeState, OpenState, RetryState, RowKind, Target};
use condition::Condition;
pub use condition::{Trouble, Writability};
pub use db::Dialect;
use db::{Aim, Connection, Db, Fault, Readers, query};
pub use erasure::{Erased, InTheWay};
pub use gauges::{BacklogCounts, Gauges};
pub use inbox::{Arrival, Content, Receipt};
pub use lanes::{CallMade, Claim, Settled};
pub use moments::Ceilings;
use moments::KnownCeilings;
pub use outages::KnownOutages;
pub use outbox::{DueNotice, PublishOutcome};
pub use parking::{
    BulkRetry, KindCounts, NotTaken, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedGroup, RetryRequest, Stepped,
};
use place::FileLock;
pub use place::is_sqlite;
pub use roster::{DueUser, Kept, Member, Observed, Roster};
pub use standing::{REPLICA_LIFE, Shared, Told};
use taken::{Taken, Taking};
pub use timeline::{
    AlertView, CallView, CustomerView, EventSummary, EventView, NoticeData, NoticeView, OutageView, PumpFilter,
    PumpView, ROWS_MAX,
};
pub use unread::{ReadAgain, Reread, UnreadMessage};
pub use waits::{OpenCursor, OpenEvent, OpenFilter, OpenPage, WaitsFor};
pub use writer::Writer;
use writer::{Pending, QUEUE_BYTES_MAX, QUEUE_MAX, Write};

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

/// Timeout of the reads under way when the store is closed.
const READS_END_MAX: Duration = Duration::from_secs(2);

/// Timeout of the read behind `/readyz`, whose callers have deadlines of a few seconds.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);

/// Interval at which an arrival that waits looks whether the store has come into trouble meanwhile.
const WRITE_LOOK_EVERY: Duration = Duration::from_millis(500);

/// A handle to the store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Pending>,
    /// Permits for the bytes of what waits in the queue.
    bytes: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    condition: Arc<Condition>,
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
    lock: Option<Arc<FileLock>>,
    polls: Arc<Taken<Uuid>>,
    notices: Arc<Taken<(Target, Uuid)>>,
    /// Whether this process works on the events.
    works: bool,
    /// Where it is, for what opens a connection of its own.
    db: Db,
    /// Whether a SQLite file is to be checked next to the work.
    is_unexamined: bool,
    /// How far ahead due times can lie.
    ceilings: KnownCeilings,
    company: standing::Company,
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
        let lock = if settings.works { db.lock()?.map(Arc::new) } else { None };
        let opened = Self::open_locked(db, (settings, clock), key, lock.clone()).await;
        if let (Err(_), Some(lock)) = (&opened, lock.and_then(Arc::into_inner)) {
            lock.close();
        }
        opened
    }

    async fn open_locked(
        db: Db,
        (settings, clock): (Settings, Clock),
        key: Option<KeyGiven<'_>>,
        lock: Option<Arc<FileLock>>,
    ) -> Result<(Self, Writer), Error> {
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
            standing::forget_all(&mut connection).await.map_err(|error| db.refusal(error))?;
        }
        standing::resume_clock(&mut connection, &clock, settings.works).await?;
        let key = match key {
            Some(KeyGiven(given)) => Some(erasure::Key::open(&mut connection, given, settings.works, &clock).await?),
            None => None,
        };
        Ok(Self::of(db, connection, (settings, clock), Keyring(key), (lock, is_examined_later)))
    }

    /// The handle and the writer, once everything is in order.
    fn of(
        db: Db,
        connection: Connection,
        (settings, clock): (Settings, Clock),
        key: Keyring,
        (lock, is_examined_later): (Option<Arc<FileLock>>, bool),
    ) -> (Self, Writer) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let (readers, dialect, targets) = (db.readers(), db.dialect, settings.targets);
        let unreadable = AtomicU64::new(0);
        let replaced = Replaced::default();
        let is_unexamined = settings.works && is_examined_later;
        let (polls, notices) = (Arc::default(), Arc::default());
        let (closing, closed) = watch::channel(false);
        let inner = Inner {
            queue,
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            closing,
            condition: db.condition.clone(),
            readers,
            dialect,
            clock,
            targets,
            unreadable,
            replaced,
            active: ActiveCount::default(),
            key,
            lock: lock.clone(),
            polls,
            notices,
            works: settings.works,
            db: db.clone(),
            is_unexamined,
            ceilings: KnownCeilings::default(),
            company: standing::Company::default(),
        };
        let (log, lock) = (db.log_mover(), lock.as_ref().map(Arc::downgrade));
        let connection = Some(connection);
        let writer =
            Writer { db, connection, log, had_room: true, has_file: true, queue: receiver, closing: closed, lock };
        (Self(Arc::new(inner)), writer)
    }

    /// Ends all work on the store: no read or write begins any more, reads under way are waited for, and the writer
    /// writes what waits, empties the log of a SQLite file and ends. Await the writer for that.
    pub async fn close(&self) {
        // A read that hangs must not keep the writer from its end.
        let _ = tokio::time::timeout(READS_END_MAX, self.0.readers.close()).await;
        self.0.closing.send_replace(true);
    }

    /// Whether it takes writes, as its own writer has found out.
    pub fn writability(&self) -> Writability {
        self.0.condition.look()
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
        let read = query("SELECT 1").execute(&self.0.readers);
        tokio::time::timeout(CHECK_TIME_MAX, read).await.unwrap_or(Err(Fault::TooLate))?;
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
        if W::IS_ARRIVAL {
            self.0.refuse(self.0.condition.refuses_new_arrival())?;
        }
        // One that is larger than the whole goes when it is alone.
        let bytes = u32::try_from(write.bytes().min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let bytes = match bytes {
            0 => None,
            bytes => Some(self.0.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| Error::Full)?),
        };
        let (pending, answer) = Pending::new(write, bytes);
        self.0.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Away("the writer has ended".to_owned()),
        })?;
        let waiting = async {
            if W::IS_ARRIVAL {
                self.0.answer_unless_in_trouble(answer).await
            } else {
                answer.await.unwrap_or_else(ended)
            }
        };
        // It may still be written; a repeat is safe.
        let late = |_| Err(Error::Away("it did not answer in time".to_owned()));
        tokio::time::timeout(WRITE_WAIT_MAX, waiting).await.unwrap_or_else(late)
    }
}

/// The writer went without an answer.
fn ended<T>(_: oneshot::error::RecvError) -> Result<T, Error> {
    Err(Error::Away("the writer has ended".to_owned()))
}

impl Inner {
    /// A sender is told at once, and not after its own deadline, that the store takes nothing. A command waits: it has no
    /// heartbeat that finds the store well again.
    fn refuse(&self, refused: Option<Trouble>) -> Result<(), Error> {
        match refused.filter(|_| self.works) {
            Some(trouble) => Err(Error::Away(trouble.words().to_owned())),
            None => Ok(()),
        }
    }

    /// Waits for an arrival's answer for as long as the store is well.
    async fn answer_unless_in_trouble<T>(&self, mut answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        loop {
            match tokio::time::timeout(WRITE_LOOK_EVERY, &mut answer).await {
                Ok(answer) => return answer.unwrap_or_else(ended),
                Err(_) => self.refuse(self.condition.refuses_waiting_arrival())?,
            }
        }
    }
}
