//! The seam between SQLite and PostgreSQL: the only file that knows which of the two it is.
//!
//! Every other file of the store writes one SQL text for both (docs/adr/0003). What differs is here: how a
//! connection is prepared, how a writing transaction begins, and the clause that lets replicas pass each
//! other's locks.
//!
//! Before: [`crate::config`]. After: [`crate::store::writer`] and the readers.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr};

use super::Error;

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

/// The schema, numbered, forward only.
pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded; one process.
    Sqlite,
    /// A server; several replicas may share it.
    Postgres,
}

/// Where the database is and how to reach it.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) dialect: Dialect,
    options: AnyConnectOptions,
    /// Of SQLite.
    path: Option<String>,
}

impl Db {
    /// Understands `sqlite://path` and `postgres://…`.
    pub(super) fn new(url: &str) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let path = sqlite_path(url);
        let (dialect, url) = match &path {
            Some(path) => {
                make_private(path);
                // `rwc`: the file is made when it is not there.
                (Dialect::Sqlite, format!("sqlite://{path}?mode=rwc"))
            }
            None => (Dialect::Postgres, url.to_owned()),
        };
        let options = url.parse::<AnyConnectOptions>()?.disable_statement_logging();
        Ok(Self { dialect, options, path })
    }

    /// The right to work on a SQLite file, held until it is dropped or the process dies; `None` on PostgreSQL, where
    /// many may. The lock is on a file beside it, since SQLite's own locks are taken and left all the time.
    pub(super) fn lock(&self) -> Result<Option<File>, Error> {
        let Some(path) = &self.path else { return Ok(None) };
        let away = |error: std::io::Error| Error::Away(format!("{path}.lock: {error}"));
        make_private(&format!("{path}.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(format!("{path}.lock"));
        let file = file.map_err(away)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Taken),
            Err(std::fs::TryLockError::Error(error)) => Err(away(error)),
        }
    }

    /// A connection on which a commit means: on disk.
    pub(super) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = AnyConnection::connect_with(&self.options).await?;
            prepare(self.dialect, &mut connection).await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIME_MAX, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// A connection that leaves the file as it is: no log beside it.
    pub(super) async fn connect_plain(&self) -> Result<AnyConnection, sqlx::Error> {
        AnyConnection::connect_with(&self.options).await
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

/// The file of a SQLite URL; `None` for another database.
pub fn sqlite_file(url: &str) -> Option<std::path::PathBuf> {
    sqlite_path(url).map(std::path::PathBuf::from)
}

fn sqlite_path(url: &str) -> Option<String> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    Some(path.split('?').next().unwrap_or(path).to_owned())
}

/// The file holds personal data: nobody but its owner reads it. A file that is there keeps its rights, and a
/// failure shows itself when the file is opened.
fn make_private(path: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    if !Path::new(path).exists() {
        let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_sqlite_url() {
        for (url, path) in [
            ("sqlite://podero-bridge.db", Some("podero-bridge.db")),
            ("sqlite:///var/lib/x.db", Some("/var/lib/x.db")),
            ("sqlite:x.db?mode=ro", Some("x.db")),
            ("postgres://localhost/x", None),
        ] {
            assert_eq!(sqlite_path(url).as_deref(), path, "{url}");
        }
    }
}
