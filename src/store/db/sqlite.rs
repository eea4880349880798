//! SQLite, in this process: each statement is a call, without a network. It runs on the caller's thread, so the writer has a
//! thread of its own, and reads go to threads that may block.
//!
//! Before: [`mod@super::query`]. After: the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, InterruptHandle, OpenFlags, OptionalExtension, TransactionBehavior};
use sqlx::migrate::{MigrateError, Migrator};
use tokio::sync::oneshot;

use super::fault::{DbFault, MOVED, NotMigrated};
use super::pool::ReaderPool;
use super::query::{Argument, Cell, Query, Row};
use super::rows::Rows;
use crate::store::db_file::DbFile;

/// Limit of the statements that a connection keeps prepared: more than the writer has.
const STATEMENTS_KEPT: usize = 256;

/// Timeout of the wait for another process's lock on the file; the CLI's writes are short.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);

/// Opens a connection to the locked file. If another file has its path by now, that one is left alone.
pub(super) fn open_at(file: &DbFile, may_write: bool) -> rusqlite::Result<rusqlite::Connection> {
    let moved = || Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(MOVED), None));
    if !file.is_the_locked() {
        return moved();
    }
    let connection = open(file.path(), may_write)?;
    if file.is_the_locked() { Ok(connection) } else { moved() }
}

/// Opens one connection.
fn open(path: &Path, may_write: bool) -> rusqlite::Result<rusqlite::Connection> {
    // The path is absolute, and not a URL. SQLite never creates the file here: others might read a file that it creates.
    let access = if may_write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let connection = rusqlite::Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.busy_timeout(BUSY_TIME_MAX)?;
    Ok(connection)
}

/// Sets a connection up so that a commit is on disk.
pub(super) fn prepare(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    // `secure_delete`: deleted rows are overwritten, since they held addresses.
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
}

/// Size of the writer's page cache: customers come in any order, so a group of commits touches pages all over the file.
const WRITER_CACHE_KIB: u32 = 16 << 10;

/// As [`prepare`], for a connection that writes much.
pub(super) fn prepare_writer(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    prepare(connection)?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{WRITER_CACHE_KIB};"))
}

/// The table of applied migrations, as sqlx makes it on PostgreSQL.
const APPLIED: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
    execution_time BIGINT NOT NULL)";

/// Applies the missing migrations, in order, each in a transaction of its own that records it; the newest one's writes the rows
/// `told`.
pub(super) fn migrate(
    connection: &mut rusqlite::Connection,
    migrations: &Migrator,
    told: &Rows<'_>,
) -> Result<(), NotMigrated> {
    connection.execute_batch(APPLIED)?;
    let newest = migrations.iter().map(|migration| migration.version).max();
    for migration in migrations.iter() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = transaction
            .query_row("SELECT checksum FROM _sqlx_migrations WHERE version = ?1", [migration.version], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()?;
        if let Some(checksum) = known {
            if *checksum != *migration.checksum {
                return Err(NotMigrated::Schema(MigrateError::VersionMismatch(migration.version)));
            }
            continue;
        }
        transaction.execute_batch(migration.sql.as_str())?;
        transaction.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (?1, ?2, 1, ?3, -1)",
            (migration.version, &migration.description, &*migration.checksum),
        )?;
        if Some(migration.version) == newest {
            changes_of(&transaction, told)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

pub(super) fn rows(connection: &rusqlite::Connection, query: &Query<'_>) -> Result<Vec<Row>, DbFault> {
    let mut found = Vec::new();
    read(&mut connection.prepare_cached(&query.sql.0)?, &query.arguments, &mut found)?;
    Ok(found)
}

/// Runs a statement for each row of a set, and returns all that it found.
pub(super) fn rows_of(connection: &rusqlite::Connection, rows: &Rows<'_>) -> Result<Vec<Row>, DbFault> {
    let mut statement = connection.prepare_cached(rows.statement.for_each())?;
    let mut found = Vec::new();
    for row in rows.each() {
        read(&mut statement, row, &mut found)?;
    }
    Ok(found)
}

fn read(statement: &mut CachedStatement<'_>, arguments: &[Argument<'_>], found: &mut Vec<Row>) -> Result<(), DbFault> {
    bind(statement, arguments)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let cells = (0..columns).map(|column| cell(row.get_ref(column)?, column));
        found.push(Row(cells.collect::<Result<_, DbFault>>()?));
    }
    Ok(())
}

pub(super) fn changes(connection: &rusqlite::Connection, query: &Query<'_>) -> Result<u64, DbFault> {
    change(&mut connection.prepare_cached(&query.sql.0)?, &query.arguments)
}

/// Runs a statement for each row of a set, and returns the number of rows that each changed.
pub(super) fn changes_of(connection: &rusqlite::Connection, rows: &Rows<'_>) -> Result<Vec<u64>, DbFault> {
    let mut statement = connection.prepare_cached(rows.statement.for_each())?;
    rows.each().map(|row| change(&mut statement, row)).collect()
}

fn change(statement: &mut CachedStatement<'_>, arguments: &[Argument<'_>]) -> Result<u64, DbFault> {
    bind(statement, arguments)?;
    if statement.column_count() > 0 {
        // A pragma, say: it answers with a row.
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        return Ok(0);
    }
    Ok(u64::try_from(statement.raw_execute()?).unwrap_or(u64::MAX))
}

/// Runs one slow statement on a thread of its own, and closes the connection. A caller that stops waiting for it stops it.
pub(super) async fn rows_apart(connection: rusqlite::Connection, query: Query<'static>) -> Result<Vec<Row>, DbFault> {
    let _interrupt = Interrupt(connection.get_interrupt_handle());
    let (give, take) = oneshot::channel();
    let thread = std::thread::Builder::new().name("long-read".to_owned());
    let work = move || {
        let found = rows(&connection, &query);
        drop(connection);
        // A caller that no longer waits has gone away.
        let _ = give.send(found);
    };
    thread.spawn(work).map_err(|_| DbFault::Ended)?;
    take.await.unwrap_or(Err(DbFault::Ended))
}

/// Stops the current statement of a connection when it is dropped; harmless if the statement has ended.
struct Interrupt(InterruptHandle);

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// Binds the values. `$2` is a name to SQLite, which numbers names in the order of their first occurrence.
fn bind(statement: &mut CachedStatement<'_>, arguments: &[Argument<'_>]) -> rusqlite::Result<()> {
    for position in 1..=statement.parameter_count() {
        let name = statement.parameter_name(position).unwrap_or_default();
        let number = name.get(1..).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(position);
        let Some(argument) = arguments.get(number - 1) else {
            return Err(rusqlite::Error::InvalidParameterName(name.to_owned()));
        };
        statement.raw_bind_parameter(position, argument)?;
    }
    Ok(())
}

fn cell(value: ValueRef<'_>, column: usize) -> Result<Cell, DbFault> {
    match value {
        ValueRef::Null => Ok(Cell::Null),
        ValueRef::Integer(value) => Ok(Cell::Integer(value)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cell::Text(text.to_owned())),
            Err(_) => Err(DbFault::Unreadable { column }),
        },
        ValueRef::Real(_) | ValueRef::Blob(_) => Err(DbFault::Unreadable { column }),
    }
}

impl ToSql for Argument<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Integer(None) | Self::Text(None) => ValueRef::Null,
        }))
    }
}

type OpenReader = dyn Fn() -> rusqlite::Result<rusqlite::Connection> + Send + Sync;

/// Connections for reading, opened when first needed.
#[derive(Clone)]
pub(in crate::store) struct SqliteReaders {
    open: Arc<OpenReader>,
    pool: Arc<ReaderPool<rusqlite::Connection>>,
}

impl SqliteReaders {
    pub(super) fn new(open: impl Fn() -> rusqlite::Result<rusqlite::Connection> + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), pool: Arc::default() }
    }

    /// Reads on a thread that may block. A read whose caller has gone away goes on to its end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> Result<T, DbFault> + Send + 'static,
    ) -> Result<T, DbFault> {
        let permit = self.pool.permit().await?;
        let Self { open, pool } = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = pool.take().map_or_else(|| open(), Ok)?;
            let result = read(&connection);
            pool.give_back(connection, result)
        });
        reading.await.unwrap_or(Err(DbFault::Ended))
    }

    /// Lets no read begin any more, waits for those under way, and closes every connection.
    pub(super) async fn close(&self) {
        drop(self.pool.close().await);
    }
}
