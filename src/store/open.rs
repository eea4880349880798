//! Opening a store: the checks that come before any write, in their order.
//!
//! Before: [`crate::app`] and [`crate::cli`]. After: [`crate::store::handle`].

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};

use super::closed_sets::Target;
use super::condition::Condition;
use super::db::{Aim, Connection, Db, Dialect};
use super::db_file::FileLock;
use super::email_key::EmailKey;
use super::error::OpenError;
use super::give_back::Unclaimed;
use super::handle::{Desk, Store, StoreParts, StoreView};
use super::memory::{ActiveCount, Company, Uncounted};
use super::moments::KnownCeilings;
use super::tombstones::TombstoneKey;
use super::writer::{QUEUE_BYTES_MAX, QUEUE_MAX, Writer};
use super::{integrity, schema, standing};
use crate::clock::Clock;
use crate::domain::identity::Actor;

/// The way to open a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `store.url`.
    pub url: String,
    /// The targets of notices: each notice gets a row per target. Empty: notices are kept and shown.
    pub targets: Vec<Target>,
    /// `true` for a process that works on the events. A SQLite file has one such process at a time; other processes may read.
    pub works: bool,
}

impl StoreView {
    /// Opens an existing store for a command that only reads.
    pub async fn open(url: &str, clock: Clock) -> Result<Self, OpenError> {
        let settings = Settings { url: url.to_owned(), targets: Vec::new(), works: false };
        let opened = Opened::new(&settings, &clock).await?;
        let view = opened.view(&settings, clock);
        let _ = opened.connection.close().await;
        Ok(view)
    }
}

impl Desk {
    /// Opens an existing store for a command that moves parked events, and returns the [`Writer`] that the caller must run.
    pub async fn open(url: &str, clock: Clock) -> Result<(Self, Writer), OpenError> {
        let settings = Settings { url: url.to_owned(), targets: Vec::new(), works: false };
        let opened = Opened::new(&settings, &clock).await?;
        Ok(opened.into_desk(&settings, clock))
    }
}

impl Store {
    /// Opens the database and returns a handle and the [`Writer`] that the caller must run. A process that works on the events
    /// makes the database, brings its schema up to date, and has a SQLite file for itself: a second one gets
    /// [`OpenError::InUse`]. A process that only reads gets [`OpenError::Missing`], [`OpenError::Older`] or [`OpenError::Newer`]
    /// instead.
    pub async fn open(settings: Settings, clock: Clock) -> Result<(Self, Writer), OpenError> {
        Self::open_with(settings, None, clock).await
    }

    /// As [`Store::open`], with the key that hashes the ids of erased customers (`store.erasure_key`); `None`: the store's own
    /// key.
    pub async fn open_with(
        settings: Settings,
        erasure_key: Option<&str>,
        clock: Clock,
    ) -> Result<(Self, Writer), OpenError> {
        let mut opened = Opened::new(&settings, &clock).await?;
        let key = match TombstoneKey::open(&mut opened.connection, erasure_key, settings.works, &clock).await {
            Ok(key) => key,
            Err(error) => return Err(opened.give_up(error)),
        };
        let emails = match EmailKey::open(&mut opened.connection, &clock).await {
            Ok(emails) => emails,
            Err(error) => return Err(opened.give_up(error)),
        };
        let inner = Arc::new(StoreParts {
            key,
            emails,
            db: opened.db.clone(),
            lock: opened.lock.clone(),
            is_unexamined: settings.works && opened.is_examined_later,
            polls: Arc::default(),
            notices: Arc::default(),
            uncounted: Uncounted::default(),
            active: ActiveCount::default(),
            company: Company::default(),
        });
        let (desk, writer) = opened.into_desk(&settings, clock);
        Ok((Self { desk, inner }, writer))
    }
}

/// The schema of a store before and after [`migrate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the newest migration of the store then, and now")]
pub struct Migrated {
    pub found: i64,
    pub known: i64,
}

/// Makes the tables, or brings them up to date, and does nothing else: for a bridge whose own role may not. A SQLite file that a
/// bridge works on is [`OpenError::InUse`].
pub async fn migrate(url: &str, by: &Actor, clock: &Clock) -> Result<Migrated, OpenError> {
    let db = Db::new(url, Aim::Work)?;
    let lock = db.lock()?.map(Arc::new);
    let migrated = async {
        let mut connection = db.connect().await.map_err(|error| db.refusal(error))?;
        let found = upgrade(&db, &mut connection, by, clock).await?;
        let _ = connection.close().await;
        Ok(Migrated { found, known: schema::known_of(db.dialect) })
    };
    let migrated = migrated.await;
    drop(db);
    unlock(lock);
    migrated
}

/// A database that is ready for this process.
struct Opened {
    db: Db,
    connection: Connection,
    lock: Option<Arc<FileLock>>,
    is_examined_later: bool,
}

impl Opened {
    async fn new(settings: &Settings, clock: &Clock) -> Result<Self, OpenError> {
        let db = Db::new(&settings.url, if settings.works { Aim::Work } else { Aim::Use })?;
        let lock = if settings.works { db.lock()?.map(Arc::new) } else { None };
        match connect(&db, settings.works, lock.is_some(), clock).await {
            Ok((connection, is_examined_later)) => Ok(Self { db, connection, lock, is_examined_later }),
            Err(error) => {
                unlock(lock);
                Err(error)
            }
        }
    }

    /// Closes everything, in the order that keeps SQLite's own locks.
    fn give_up(self, error: OpenError) -> OpenError {
        let Self { db, connection, lock, .. } = self;
        drop((db, connection));
        unlock(lock);
        error
    }

    fn view(&self, settings: &Settings, clock: Clock) -> StoreView {
        StoreView {
            readers: self.db.readers(),
            dialect: self.db.dialect,
            clock,
            targets: settings.targets.as_slice().into(),
            ceilings: Arc::new(KnownCeilings::default()),
        }
    }

    fn into_desk(self, settings: &Settings, clock: Clock) -> (Desk, Writer) {
        let view = self.view(settings, clock);
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let (closing, closed) = watch::channel(false);
        let condition: Arc<Condition> = self.db.condition.clone();
        let unclaimed = Arc::<Unclaimed>::default();
        let writer = Writer {
            log: self.db.log_mover(),
            db: self.db,
            targets: view.targets.clone(),
            connection: Some(self.connection),
            had_room: true,
            went_through: false,
            has_file: true,
            queue: receiver,
            unclaimed: unclaimed.clone(),
            closing: closed,
            lock: self.lock.as_ref().map(Arc::downgrade),
        };
        let bytes = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        let desk = Desk { view, queue, bytes, closing: Arc::new(closing), condition, unclaimed, works: settings.works };
        (desk, writer)
    }
}

/// A connection to a store of this program's schema. The schema is checked before the connection is prepared to write, so that a
/// store of another program stays untouched. With it comes whether the file is too large to be examined before the start: that is
/// looked at once, so that a file which grows meanwhile is examined all the same.
async fn connect(db: &Db, works: bool, has_lock: bool, clock: &Clock) -> Result<(Connection, bool), OpenError> {
    let mut connection = db.connect_plain().await.map_err(|error| db.refusal(error))?;
    if !works {
        schema::compare(db, &mut connection).await?;
    }
    connection.prepare().await.map_err(|error| db.refusal(error))?;
    let is_large = integrity::is_large(db);
    if works {
        upgrade(db, &mut connection, &Actor::Bridge, clock).await?;
    }
    if has_lock {
        standing::forget_all(&mut connection).await.map_err(|error| db.refusal(error))?;
    }
    standing::resume_clock(&mut connection, clock, works).await?;
    Ok((connection, is_large))
}

/// Brings the schema up to date, of a SQLite file that is whole as far as its size allows to examine it first.
async fn upgrade(db: &Db, connection: &mut Connection, by: &Actor, clock: &Clock) -> Result<i64, OpenError> {
    if db.dialect == Dialect::Sqlite && !integrity::is_large(db) {
        let connection = db.connect().await.map_err(|error| db.refusal(error))?;
        integrity::check_file(connection).await?;
    }
    schema::upgrade(db, connection, by, clock).await
}

/// Gives back the right to work on a SQLite file, once this process no longer has the file open.
fn unlock(lock: Option<Arc<FileLock>>) {
    if let Some(lock) = lock.and_then(Arc::into_inner) {
        lock.close();
    }
}
