//! The seam between SQLite and PostgreSQL: only these files know which of the two it is.
//!
//! Every other file of the store writes one SQL text for both (docs/adr/0026). The differences are here: opening and preparing a
//! connection, running a statement ([`sqlite`], in this process; [`postgres`], over a connection), beginning a writing
//! transaction, and the clauses by which replicas wait for each other's locks or skip them.
//!
//! Before: [`crate::config`]. After: [`crate::store::writer`] and the readers.

mod fault;
mod log;
mod pool;
mod postgres;
mod query;
mod rows;
mod server;
mod server_gauges;
mod sqlite;
mod values;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;

pub(super) use fault::{DbFault, NotMigrated};
pub(super) use log::LogMover;
pub(super) use query::{Cell, Cells, Executor, FromCell, FromRow, Query, Row, ours, query, row};
pub(super) use rows::{RowStatement, Rows, RowsExecutor};
pub use server_gauges::{ServerGauges, TableRows};

use postgres::ServerSession;
use server::{ReaderLease, Server, ServerReaders};

use super::condition::{Condition, Trouble};
use super::db_file::{self, DbFile, FileLock, WHAT_TO_DO, sqlite_path};
use super::error::{Error, OpenError};

/// Timeout of the wait, at the end, for readers in other processes.
const END_WAIT_MAX: Duration = Duration::from_secs(2);

/// Size of the attempt that ends "no room": that of a large arrival. Small writes find room in existing pages.
const PROBE_BYTES: usize = 1 << 20;

/// The same attempt on a server: about as many bytes, in rows too small to be compressed. A temporary table, so that it is cheap,
/// and a role without the right to make others can try it.
const PROBE_OF_SERVER: &str = "CREATE TEMPORARY TABLE podero_bridge_room (filler TEXT NOT NULL); \
    INSERT INTO podero_bridge_room SELECT repeat(md5(number::text), 50) FROM generate_series(1, 640) AS number";

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded; one process.
    Sqlite,
    /// A server; several replicas may share it.
    Postgres,
}

impl Dialect {
    /// The condition that a column has one of the values that `select` finds. PostgreSQL gets an array that is made first: an `IN`
    /// that is planned for a table with few rows looks for each row of the whole table whether it is one of those.
    pub(super) fn chosen(self, select: &str) -> String {
        match self {
            Self::Sqlite => format!("IN ({select})"),
            Self::Postgres => format!("= ANY (ARRAY({select}))"),
        }
    }
}

/// The purpose of opening a SQLite file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// To work on it: a missing file is made.
    Work,
    /// To read and write an existing file.
    Use,
    /// To read an existing file.
    Look,
}

/// The address of the database and the way to reach it.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) dialect: Dialect,
    address: Address,
    /// The condition for writes, as found by all that run on the database.
    pub(super) condition: Arc<Condition>,
}

#[derive(Clone)]
enum Address {
    File { file: DbFile, may_write: bool },
    Server(Arc<Server>),
}

/// A connection, on which statements run one at a time.
pub(super) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(ServerSession),
}

/// A connection for reading that is lent for one transaction, next to the writer's. Dropped, it is closed.
pub(super) struct Lent {
    pub(super) connection: Connection,
    lease: ReaderLease,
}

/// Connections for reading, in addition to the writer's; cheap to clone.
#[derive(Clone)]
pub(super) struct Readers {
    source: ReadSource,
    condition: Arc<Condition>,
}

#[derive(Clone)]
enum ReadSource {
    Sqlite(sqlite::SqliteReaders),
    Postgres(ServerReaders),
}

impl Executor for &mut Connection {
    async fn rows(self, query: Query<'_>) -> Result<Vec<Row>, DbFault> {
        match self {
            Connection::Sqlite(connection) => sqlite::rows(connection, &query),
            Connection::Postgres(session) => session.rows(query).await,
        }
    }

    async fn changes(self, query: Query<'_>) -> Result<u64, DbFault> {
        match self {
            Connection::Sqlite(connection) => sqlite::changes(connection, &query),
            Connection::Postgres(session) => session.changes(query).await,
        }
    }
}

impl RowsExecutor for &mut Connection {
    async fn found(self, rows: &Rows<'_>) -> Result<Vec<Row>, DbFault> {
        match self {
            Connection::Sqlite(connection) => sqlite::rows_of(connection, rows),
            Connection::Postgres(session) => session.rows_of(rows).await,
        }
    }

    async fn changed(self, rows: &Rows<'_>) -> Result<u64, DbFault> {
        match self {
            Connection::Sqlite(connection) => Ok(sqlite::changes_of(connection, rows)?.into_iter().sum()),
            Connection::Postgres(session) => session.changes_of(rows).await,
        }
    }

    async fn written(self, rows: &Rows<'_>) -> Result<Vec<bool>, DbFault> {
        match self {
            Connection::Sqlite(connection) => {
                Ok(sqlite::changes_of(connection, rows)?.into_iter().map(|changes| changes > 0).collect())
            }
            Connection::Postgres(session) => {
                let keys = session.rows_of(rows).await?.into_iter().map(Row::read);
                let keys = keys.collect::<Result<HashSet<String>, _>>()?;
                Ok(rows.keys().map(|key| key.is_some_and(|key| keys.contains(key))).collect())
            }
        }
    }
}

impl Executor for &Readers {
    async fn rows(self, query: Query<'_>) -> Result<Vec<Row>, DbFault> {
        let found = match &self.source {
            ReadSource::Sqlite(readers) => {
                let query = query.into_owned();
                readers.read(move |connection| sqlite::rows(connection, &query)).await
            }
            ReadSource::Postgres(readers) => readers.rows(query).await,
        };
        self.noted(found)
    }

    async fn changes(self, query: Query<'_>) -> Result<u64, DbFault> {
        let done = match &self.source {
            ReadSource::Sqlite(readers) => {
                let query = query.into_owned();
                readers.read(move |connection| sqlite::changes(connection, &query)).await
            }
            ReadSource::Postgres(readers) => readers.changes(query).await,
        };
        self.noted(done)
    }
}

impl Readers {
    /// Notes damage in the result of a read, which cannot tell that writing works.
    pub(super) fn noted<T>(&self, result: Result<T, DbFault>) -> Result<T, DbFault> {
        if result.as_ref().is_err_and(|fault| fault.trouble() == Some(Trouble::Damaged)) {
            self.condition.damage_seen();
        }
        result
    }

    /// A connection on which a transaction has begun, next to the writer's; `None` on SQLite, where only the writer writes.
    pub(super) async fn begin(&self) -> Result<Option<Lent>, DbFault> {
        let ReadSource::Postgres(readers) = &self.source else { return Ok(None) };
        let (session, lease) = readers.lend().await?;
        // From here on the right to use the connection ends after the connection.
        let mut lent = Lent { connection: Connection::Postgres(session), lease };
        if let Connection::Postgres(session) = &mut lent.connection {
            session.begin_as_writer().await?;
        }
        Ok(Some(lent))
    }

    /// Commits the transaction of a connection that was lent, and keeps the connection; after `Ok` it is on disk.
    pub(super) async fn commit(&self, mut lent: Lent) -> Result<(), DbFault> {
        lent.connection.commit().await?;
        if let (ReadSource::Postgres(readers), Connection::Postgres(session)) = (&self.source, lent.connection) {
            readers.take_back(session, lent.lease);
        }
        Ok(())
    }

    /// Reads the state of the server; `None` on SQLite, which has none.
    pub(super) async fn server_gauges(&self) -> Result<Option<ServerGauges>, DbFault> {
        match &self.source {
            ReadSource::Sqlite(_) => Ok(None),
            ReadSource::Postgres(_) => ServerGauges::read(self).await.map(Some),
        }
    }

    /// Ends all reading: waits for the reads under way, lets no other begin, and closes every connection.
    pub(super) async fn close(&self) {
        match &self.source {
            ReadSource::Sqlite(readers) => readers.close().await,
            ReadSource::Postgres(readers) => readers.close().await,
        }
    }
}

impl Connection {
    /// Runs several statements without values.
    pub(super) async fn batch(&mut self, sql: impl Into<String>) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(&sql.into())?),
            Self::Postgres(session) => session.batch(sql.into()).await,
        }
    }

    /// Runs one slow statement, and closes the connection. It holds no thread of the runtime, and dropping the future stops it.
    pub(super) async fn rows_apart(self, query: Query<'static>) -> Result<Vec<Row>, DbFault> {
        match self {
            Self::Sqlite(connection) => sqlite::rows_apart(connection, query).await,
            Self::Postgres(mut session) => session.rows(query).await,
        }
    }

    /// Applies the missing migrations, in order, each whole or not at all. `told` are the rows that tell of it, written with the
    /// newest one.
    pub(super) async fn migrate(&mut self, migrations: &Migrator, told: &Rows<'_>) -> Result<(), NotMigrated> {
        match self {
            Self::Sqlite(connection) => sqlite::migrate(connection, migrations, told),
            Self::Postgres(session) => session.migrate(migrations, told).await,
        }
    }

    /// Begins a writing transaction. SQLite takes the write lock at once: an upgrade in the middle would fail with
    /// `BUSY_SNAPSHOT` instead of waiting.
    pub(super) async fn begin(&mut self) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => sqlite::changes(connection, &query("BEGIN IMMEDIATE")).map(drop),
            Self::Postgres(session) => session.begin().await,
        }
    }

    /// Commits the transaction; after `Ok` it is on disk.
    pub(super) async fn commit(&mut self) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => sqlite::changes(connection, &query("COMMIT")).map(drop),
            Self::Postgres(session) => session.commit().await,
        }
    }

    /// Undoes the transaction.
    pub(super) async fn roll_back(&mut self) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => sqlite::changes(connection, &query("ROLLBACK")).map(drop),
            Self::Postgres(session) => session.roll_back().await,
        }
    }

    /// Maintains the log between two transactions. `had_room`: the last one did not fail for lack of room.
    pub(super) fn tidy(&self, had_room: bool, log: &mut Option<LogMover>) {
        if let (Self::Sqlite(connection), Some(log)) = (self, log) {
            log.note(had_room, connection);
            log.look(connection);
        }
    }

    /// Sets a connection up for the writer: a commit is on disk, and plans suit tables that grow.
    pub(super) async fn prepare(&mut self) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => {
                log::count_pages(connection);
                Ok(sqlite::prepare_writer(connection)?)
            }
            Self::Postgres(session) => session.prepare_writer().await,
        }
    }

    /// Moves the whole log into the file and empties the log, as the last step of a process that works on a SQLite file.
    pub(super) fn empty_log_at_the_end(&self) {
        let Self::Sqlite(connection) = self else { return };
        match log::empty(connection, END_WAIT_MAX) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "another process reads the store, so its log (FILE-wal) could not be emptied: a copy needs both files"
            ),
            Err(error) => {
                tracing::warn!(%error, "the store's log (FILE-wal) could not be emptied: a copy needs both files");
            }
        }
    }

    /// Makes the end of a connection leave a SQLite file's log as it is.
    pub(super) fn leave_log(&self) {
        if let Self::Sqlite(connection) = self {
            log::leave(connection);
        }
    }

    /// `true` if no transaction is open any more: SQLite rolls one back by itself when a commit fails for lack of room.
    pub(super) fn has_rolled_back(&self) -> bool {
        matches!(self, Self::Sqlite(connection) if connection.is_autocommit())
    }

    /// `true` if a statement holds its thread until it is done.
    pub(super) fn is_in_process(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Closes the connection in good order.
    pub(super) async fn close(self) -> Result<(), DbFault> {
        match self {
            Self::Sqlite(connection) => connection.close().map_err(|(_, error)| error.into()),
            Self::Postgres(session) => session.close().await,
        }
    }
}

impl Db {
    /// Parses `sqlite://path` and `postgres://…`.
    pub(super) fn new(url: &str, aim: Aim) -> Result<Self, OpenError> {
        let Some(path) = sqlite_path(url) else {
            let server = Server::parse(url).map_err(|why| OpenError::Unusable(why.to_owned()))?;
            let address = Address::Server(Arc::new(server));
            return Ok(Self { dialect: Dialect::Postgres, address, condition: Arc::default() });
        };
        let (file, may_write) = match aim {
            Aim::Work => (DbFile::make(path)?, true),
            Aim::Use => (DbFile::find(path)?, true),
            Aim::Look => (DbFile::look(path)?, false),
        };
        let address = Address::File { file, may_write };
        Ok(Self { dialect: Dialect::Sqlite, address, condition: Arc::default() })
    }

    /// Takes the right to work on a SQLite file, held until it is dropped or the process dies; `None` on PostgreSQL, where many
    /// processes may work.
    pub(super) fn lock(&self) -> Result<Option<FileLock>, OpenError> {
        match &self.address {
            Address::File { file, .. } => file.lock().map(Some),
            Address::Server(_) => Ok(None),
        }
    }

    /// A more exact trouble for a failed write: a file system that was made read-only answers as a full one does.
    pub(super) fn refined(&self, trouble: Trouble) -> Trouble {
        match (&self.address, trouble) {
            (Address::File { file, .. }, Trouble::NoRoom) if db_file::is_read_only(file.path()) => Trouble::ReadOnly,
            (Address::File { .. } | Address::Server(_), trouble) => trouble,
        }
    }

    /// Checks by an attempt whether there is enough room to end "no room". On a server this begins a transaction, which the
    /// caller must roll back: a table of its own needs room whatever its neighbours have left, and leaves nothing behind. Also
    /// `true` if the attempt fails for another reason.
    pub(super) async fn has_room(&self, connection: &mut Connection) -> bool {
        match &self.address {
            Address::File { file, .. } => file.has_room(PROBE_BYTES),
            Address::Server(_) => {
                let tried = async {
                    connection.begin().await?;
                    connection.batch(PROBE_OF_SERVER).await
                };
                !tried.await.is_err_and(|fault| fault.trouble() == Some(Trouble::NoRoom))
            }
        }
    }

    /// The size of a SQLite file; `None` on PostgreSQL.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        match &self.address {
            Address::File { file, .. } => Some(file.bytes()),
            Address::Server(_) => None,
        }
    }

    /// The error for a database that could not be opened: if waiting is worthwhile, or an operator must act.
    pub(super) fn refusal(&self, fault: DbFault) -> OpenError {
        match &self.address {
            Address::File { file, .. } if fault.is_refused_by_files() => {
                OpenError::Unusable(format!("{file}: {fault}; {WHAT_TO_DO}"))
            }
            Address::File { .. } => match (fault.trouble(), of_file(fault)) {
                // This passes while the file stays as it is: a lock is released, room is made.
                (Some(Trouble::Locked | Trouble::NoRoom), error) => error.into(),
                (_, Error::Away(why)) => OpenError::Unusable(why),
                (_, error) => error.into(),
            },
            Address::Server(_) if fault.is_away() => fault.into(),
            Address::Server(_) => OpenError::Unusable(fault.to_string()),
        }
    }

    /// Opens a connection on which a commit is on disk.
    pub(super) async fn connect(&self) -> Result<Connection, DbFault> {
        let mut connection = self.connect_plain().await?;
        connection.prepare().await?;
        Ok(connection)
    }

    /// Opens a connection that leaves the file as it is: no log next to it.
    pub(super) async fn connect_plain(&self) -> Result<Connection, DbFault> {
        match &self.address {
            Address::File { file, may_write } => Ok(Connection::Sqlite(sqlite::open_at(file, *may_write)?)),
            Address::Server(server) => Ok(Connection::Postgres(server.connect().await?)),
        }
    }

    /// Counts the tables that show the schema: one, or none yet.
    pub(super) fn has_schema(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
            Dialect::Postgres => postgres::HAS_SCHEMA,
        }
    }

    /// Keeps all others from writing events until the transaction ends; on SQLite its beginning does.
    pub(super) fn hold_events(&self) -> Option<&'static str> {
        match self.dialect {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE"),
        }
    }

    /// The mover of a SQLite file's log.
    pub(super) fn log_mover(&self) -> Option<LogMover> {
        match &self.address {
            Address::File { file, .. } => Some(LogMover::new(file.clone())),
            Address::Server(_) => None,
        }
    }

    /// On SQLite: moves the log into the file and empties it. `false`: a reader was in the way.
    pub(super) async fn scrub(&self, wait_max: Duration) -> Result<bool, DbFault> {
        match &self.address {
            Address::File { file, .. } => {
                let file = file.clone();
                let scrubbing = tokio::task::spawn_blocking(move || {
                    let connection = sqlite::open_at(&file, true)?;
                    log::empty(&connection, wait_max)
                });
                Ok(scrubbing.await.map_err(|_| DbFault::Ended)??)
            }
            Address::Server(_) => Ok(true),
        }
    }

    /// Connections for reading; opened when first needed.
    pub(super) fn readers(&self) -> Readers {
        let source = match &self.address {
            Address::File { file, may_write } => {
                let (file, may_write) = (file.clone(), *may_write);
                ReadSource::Sqlite(sqlite::SqliteReaders::new(move || {
                    let connection = sqlite::open_at(&file, may_write)?;
                    sqlite::prepare(&connection)?;
                    Ok(connection)
                }))
            }
            Address::Server(server) => ReadSource::Postgres(ServerReaders::new(server.clone())),
        };
        Readers { source, condition: self.condition.clone() }
    }

    /// Proves that the tables take rows: on PostgreSQL this meets a lock on one of them as an arrival does. On SQLite the
    /// transaction has the whole file.
    pub(super) fn try_tables(&self) -> Option<&'static str> {
        match self.dialect {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(
                "LOCK TABLE events, lanes, customers, notices, calls, pumps, watched, tombstones IN ROW EXCLUSIVE MODE",
            ),
        }
    }

    /// Ends a `SELECT` of a row that is about to be changed, so that no other transaction changes it in between.
    pub(super) fn for_update(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }

    /// As [`Dialect::chosen`].
    pub(super) fn chosen(&self, select: &str) -> String {
        self.dialect.chosen(select)
    }

    /// Ends a `SELECT` of rows to be claimed, so that replicas take different ones.
    pub(super) fn skip_locked(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

impl From<DbFault> for Error {
    fn from(fault: DbFault) -> Self {
        match fault {
            DbFault::Unreadable { .. } => Self::Unreadable(fault.to_string()),
            DbFault::Sqlite(_)
            | DbFault::Postgres(_)
            | DbFault::TooLate
            | DbFault::PoolBusy
            | DbFault::OnlyReads
            | DbFault::Ended
            | DbFault::Missing => Self::Away(fault.to_string()),
        }
    }
}

impl From<DbFault> for OpenError {
    fn from(fault: DbFault) -> Self {
        Self::Failed(fault.into())
    }
}

/// An error of a SQLite file, which may be damaged.
pub(super) fn of_file(fault: DbFault) -> Error {
    if fault.is_of_damaged_file() { Error::Damaged(fault.to_string()) } else { fault.into() }
}

/// A list of `count` placeholders from `first` on: `($3, $4, $5)`.
pub(super) fn listed(first: usize, count: usize) -> String {
    let numbers: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    format!("({})", numbers.join(", "))
}
