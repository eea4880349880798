//! The seam between SQLite and PostgreSQL: the only file that knows which of the two it is.
//!
//! Every other file of the store writes one SQL text for both (docs/adr/0003). What differs is here: how a
//! connection is prepared, how a writing transaction begins, and the clause that lets replicas pass each
//! other's locks.
//!
//! Before: [`crate::config`]. After: [`crate::store::writer`] and the readers.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr};

use super::place::{Place, WHAT_TO_DO, sqlite_path};
use super::{Error, keeping};

/// Waiting for another process's lock on the SQLite file; the CLI's writes are short.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// A replica that was frozen in a transaction holds its lanes' rows; nobody waits for it longer than this.
const LOCK_TIMEOUT_MS: u32 = 5_000;

/// Below the writer's own bound, so that PostgreSQL gives up first: a client that just goes away leaves a backend
/// behind that waits on, with all its locks. The same bound ends a transaction whose replica is frozen or cut off.
const STATEMENT_TIMEOUT_MS: u32 = 15_000;

/// A server that has not let us in by then is away.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Readers: timelines, gauges. Few, because each PostgreSQL connection costs the server memory.
const READERS_MAX: u32 = 4;

/// A reader that finds no free connection for this long reports the store as away.
const READER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded; one process.
    Sqlite,
    /// A server; several replicas may share it.
    Postgres,
}

/// What a SQLite file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// To work on it: it is made when it is not there.
    Work,
    /// To read and write what is there.
    Use,
    /// To read what is there.
    Look,
}

/// Where the database is and how to reach it.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) dialect: Dialect,
    options: AnyConnectOptions,
    /// Of SQLite.
    place: Option<Place>,
}

impl Db {
    /// Understands `sqlite://path` and `postgres://…`.
    pub(super) fn new(url: &str, aim: Aim) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let (dialect, url, place) = match sqlite_path(url) {
            Some(path) => {
                // Never `rwc`: what SQLite makes, others may read.
                let (place, mode) = match aim {
                    Aim::Work => (Place::make(path)?, "rw"),
                    Aim::Use => (Place::find(path)?, "rw"),
                    Aim::Look => (Place::look(path)?, "ro"),
                };
                (Dialect::Sqlite, place.url(mode), Some(place))
            }
            None => (Dialect::Postgres, url.to_owned(), None),
        };
        let options = url.parse::<AnyConnectOptions>().map_err(|error| Error::Unusable(error.to_string()))?;
        Ok(Self { dialect, options: options.disable_statement_logging(), place })
    }

    /// The right to work on a SQLite file, held until it is dropped or the process dies; `None` on PostgreSQL, where
    /// many may. The lock is on a file beside it, since SQLite's own locks are taken and left all the time.
    pub(super) fn lock(&self) -> Result<Option<File>, Error> {
        let Some(place) = &self.place else { return Ok(None) };
        let path = place.lock_file();
        let unusable = |error: std::io::Error| Error::Unusable(format!("{}: {error}; {WHAT_TO_DO}", path.display()));
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Taken),
            Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Why the database could not be opened: whether it is worth waiting for, or somebody must do something.
    pub(super) fn refusal(&self, error: sqlx::Error) -> Error {
        match &self.place {
            Some(place) if is_refused_by_files(&error) => Error::Unusable(format!("{place}: {error}; {WHAT_TO_DO}")),
            Some(_) => keeping::of_file(error),
            None if is_away(&error) => error.into(),
            None => Error::Unusable(error.to_string()),
        }
    }

    /// A connection on which a commit means: on disk.
    pub(super) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = self.connect_plain().await?;
            self.prepare(&mut connection).await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIME_MAX, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// A connection that leaves the file as it is: no log beside it.
    pub(super) async fn connect_plain(&self) -> Result<AnyConnection, sqlx::Error> {
        let connecting = AnyConnection::connect_with(&self.options);
        tokio::time::timeout(CONNECT_TIME_MAX, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Makes of it a connection on which a commit means: on disk.
    pub(super) async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        prepare(self.dialect, connection).await
    }

    /// A migration takes as long as it takes, also to get its locks: given up in the middle it would only begin anew.
    pub(super) async fn prepare_migration(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self.dialect {
            Dialect::Sqlite => {}
            Dialect::Postgres => {
                let settings =
                    "SET lock_timeout = 0; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;";
                sqlx::raw_sql(settings).execute(connection).await?;
            }
        }
        Ok(())
    }

    /// Counts the tables that tell the schema: one, or none yet.
    pub(super) fn has_schema(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
            Dialect::Postgres => "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')",
        }
    }

    /// Keeps everybody else from writing events until the transaction ends; on SQLite its beginning does.
    pub(super) fn hold_events(&self) -> Option<&'static str> {
        match self.dialect {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE"),
        }
    }

    /// Connections for reading; opened when first needed.
    pub(super) fn readers(&self) -> AnyPool {
        let dialect = self.dialect;
        AnyPoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(READER_WAIT_MAX)
            .after_connect(move |connection, _| Box::pin(async move { prepare(dialect, connection).await }))
            .connect_lazy_with(self.options.clone())
    }

    /// How a writing transaction begins. SQLite takes the write lock at once: an upgrade in the middle would
    /// fail with `BUSY_SNAPSHOT` instead of waiting.
    pub(super) fn begin(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        }
    }

    /// Ends an inner `SELECT` of rows to be claimed, so that replicas take different ones.
    pub(super) fn skip_locked(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

/// A statement put together from our own constants only; nothing that came from outside is ever in its text.
pub(super) fn ours(text: String) -> impl SqlSafeStr {
    AssertSqlSafe(text)
}

/// `($3, $4, $5)`: as many placeholders, from `first` on.
pub(super) fn listed(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    format!("({})", places.join(", "))
}

async fn prepare(dialect: Dialect, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    match dialect {
        Dialect::Sqlite => {
            // `secure_delete`: what is deleted is overwritten, since it was somebody's address.
            let pragmas = format!(
                "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA secure_delete = ON;"
            );
            sqlx::raw_sql(ours(pragmas)).execute(connection).await?;
        }
        Dialect::Postgres => {
            let settings = format!(
                "SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = {STATEMENT_TIMEOUT_MS}; \
                 SET idle_in_transaction_session_timeout = {STATEMENT_TIMEOUT_MS};"
            );
            sqlx::raw_sql(ours(settings)).execute(connection).await?;
        }
    }
    Ok(())
}

/// `SQLITE_PERM`, `SQLITE_READONLY`, `SQLITE_CANTOPEN`, also in their extended forms.
fn is_refused_by_files(error: &sqlx::Error) -> bool {
    keeping::sqlite_code(error).is_some_and(|code| matches!(code, 3 | 8 | 14))
}

/// Whether PostgreSQL may let us in a little later, without anybody doing anything: it cannot be reached, starts or
/// stops (57P01 to 57P03), has no connection to spare (53300), or the connection broke (08).
fn is_away(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(refusal) => refusal
            .code()
            .is_some_and(|code| code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P03" | "53300")),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut),
    }
}
