//! PostgreSQL, by sqlx: a session with a server, and the statements that run on it.
//!
//! On a direct connection the session is ours: its limits are set once, and statements stay prepared. Behind a pooler it may not
//! be ours for longer than a transaction: the next one may run on another connection to the server, and the one before on ours.
//! So there nothing outlives a transaction. Each statement runs in one, as an unnamed statement (the driver sends it in two
//! parts, which must meet the same connection), and each transaction sets its own limits.
//!
//! Before: [`mod@super::query`], and [`super::server`], which connects. After: the server.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, Migrator};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, Column, Connection as _, PgConnection, Postgres, Row as _, TypeInfo, ValueRef};

use super::fault::{DbFault, NotMigrated};
use super::query::{Argument, Cell, Query, Row};
use super::rows::{Column as RowColumn, Rows};

/// Timeout of the wait for a row's lock: a replica that was frozen in a transaction holds its lanes' rows.
const LOCK_TIMEOUT_MS: u32 = 5_000;

/// Timeout of a statement, below the writer's own, so that PostgreSQL gives up first: a client that just goes away leaves behind
/// a backend that keeps waiting, with all its locks. It also ends a transaction whose replica is frozen or cut off.
const STATEMENT_TIMEOUT_MS: u32 = 15_000;

/// Settings of all plans. A plan that is made while a table is empty, and then kept, reads all of the table once it has grown, since
/// that is cheapest for a few pages.
const PLANS: [&str; 2] = ["enable_seqscan = off", "jit = off"];

/// Settings of the writer's plans besides [`PLANS`]: no join reads all of an index.
const PLANS_OF_WRITER: [&str; 2] = ["enable_hashjoin = off", "enable_mergejoin = off"];

/// Timeout of the wait until a pooler has a connection to the server for a transaction. The pooler's own is two minutes.
const POOL_TIME_MAX: Duration = Duration::from_secs(5);

/// Key of the lock that one process holds while it changes the schema (any number that no other program uses).
const MIGRATION_LOCK: i64 = 0x706f_6465_726f_0001;

/// Removes the limits of a transaction for a migration, and for the wait for its locks: if given up in the middle, it would only
/// begin again.
const WITHOUT_LIMITS: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
    SET LOCAL idle_in_transaction_session_timeout = 0";

/// Counts the tables of applied migrations: one, or none yet.
pub(super) const HAS_SCHEMA: &str = "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')";

/// The table of applied migrations, as sqlx makes it.
const APPLIED: &str = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
    execution_time BIGINT NOT NULL)";

type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// For what a commit waits: a value of `synchronous_commit` by which it is on the server's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitWait(&'static str);

impl CommitWait {
    /// The default that a session met; `on` where by the default a commit waits for no disk.
    pub(super) fn by_default(met: &str) -> Self {
        let waits = ["local", "remote_write", "remote_apply"];
        Self(waits.into_iter().find(|value| *value == met).unwrap_or("on"))
    }
}

/// A connection to a server, or to a pooler in front of it.
pub(in crate::store) struct ServerSession {
    connection: PgConnection,
    /// `true` if no pooler stands in between.
    is_direct: bool,
    is_in_transaction: bool,
    /// The settings that hold for each transaction.
    settings: Vec<String>,
}

impl ServerSession {
    /// A session on which no statement waits or runs for too long, and whose commits are on disk, whatever default the server, the
    /// database or the role gets later.
    pub(super) async fn new(connection: PgConnection, is_direct: bool, commit: CommitWait) -> Result<Self, DbFault> {
        let mut session = Self { connection, is_direct, is_in_transaction: false, settings: Vec::new() };
        let limits = [
            format!("lock_timeout = {LOCK_TIMEOUT_MS}"),
            format!("statement_timeout = {STATEMENT_TIMEOUT_MS}"),
            format!("idle_in_transaction_session_timeout = {STATEMENT_TIMEOUT_MS}"),
        ];
        let durable = [format!("synchronous_commit = {}", commit.0)];
        session.set(limits.into_iter().chain(PLANS.map(str::to_owned)).chain(durable).collect()).await?;
        Ok(session)
    }

    /// Makes plans suit the writer.
    pub(super) async fn prepare_writer(&mut self) -> Result<(), DbFault> {
        self.set(PLANS_OF_WRITER.map(str::to_owned).into()).await
    }

    /// Adds settings to those that hold for each transaction.
    async fn set(&mut self, settings: Vec<String>) -> Result<(), DbFault> {
        if self.is_direct {
            let setting = tokio::time::timeout(POOL_TIME_MAX, self.send(sets("SET", &settings)));
            setting.await.unwrap_or(Err(DbFault::TooLate))?;
        }
        self.settings.extend(settings);
        Ok(())
    }

    pub(super) async fn rows(&mut self, query: Query<'_>) -> Result<Vec<Row>, DbFault> {
        self.fetch(statement(query)).await?.iter().map(read).collect()
    }

    pub(super) async fn changes(&mut self, query: Query<'_>) -> Result<u64, DbFault> {
        self.execute(statement(query)).await
    }

    /// Runs a statement once for a set of rows, and returns all that it found.
    pub(super) async fn rows_of(&mut self, rows: &Rows<'_>) -> Result<Vec<Row>, DbFault> {
        self.fetch(statement_of(rows)).await?.iter().map(read).collect()
    }

    /// Runs a statement once for a set of rows, and returns the number of rows that it changed.
    pub(super) async fn changes_of(&mut self, rows: &Rows<'_>) -> Result<u64, DbFault> {
        self.execute(statement_of(rows)).await
    }

    /// Runs several statements without values.
    pub(super) async fn batch(&mut self, sql: String) -> Result<(), DbFault> {
        let is_alone = self.enter().await?;
        let done = self.send(sql).await;
        self.leave(is_alone, done).await
    }

    /// Begins a transaction. Behind a pooler this is where a statement waits until a connection to the server is free.
    pub(super) async fn begin(&mut self) -> Result<(), DbFault> {
        self.begin_with(&[]).await
    }

    /// As [`Self::begin`], with plans that suit the writer until the transaction ends.
    pub(super) async fn begin_as_writer(&mut self) -> Result<(), DbFault> {
        self.begin_with(&PLANS_OF_WRITER.map(str::to_owned)).await
    }

    async fn begin_with(&mut self, settings: &[String]) -> Result<(), DbFault> {
        let settings = sets("SET LOCAL", settings);
        if self.is_direct {
            self.send(format!("BEGIN; {settings}")).await?;
        } else {
            let beginning = self.send(format!("BEGIN; {}{settings}", sets("SET LOCAL", &self.settings)));
            tokio::time::timeout(POOL_TIME_MAX, beginning).await.unwrap_or(Err(DbFault::PoolBusy))?;
        }
        self.is_in_transaction = true;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), DbFault> {
        self.send("COMMIT".to_owned()).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), DbFault> {
        self.send("ROLLBACK".to_owned()).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Checks that the other end still answers.
    pub(super) async fn ping(&mut self) -> Result<(), DbFault> {
        Ok(self.connection.ping().await?)
    }

    pub(super) async fn close(self) -> Result<(), DbFault> {
        Ok(self.connection.close().await?)
    }

    /// Applies the missing migrations, in order, each in a transaction of its own that records it. If none is missing, this only
    /// reads: the role may lack the right to change tables. The newest one's transaction writes the rows `told`.
    pub(super) async fn migrate(&mut self, migrations: &Migrator, told: &Rows<'_>) -> Result<(), NotMigrated> {
        let mut applied = self.applied().await?;
        let newest = migrations.iter().map(|migration| migration.version).max();
        for migration in migrations.iter() {
            if !applied.contains_key(&migration.version) {
                self.send(format!("{WITHOUT_LIMITS}; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
                self.is_in_transaction = true;
                // Another replica may have been faster.
                applied = self.applied().await?;
                if !applied.contains_key(&migration.version) {
                    self.apply(migration).await?;
                    if Some(migration.version) == newest {
                        self.changes_of(told).await?;
                    }
                }
                self.commit().await?;
            }
            if applied.get(&migration.version).is_some_and(|checksum| **checksum != *migration.checksum) {
                return Err(NotMigrated::Schema(MigrateError::VersionMismatch(migration.version)));
            }
        }
        Ok(())
    }

    async fn has_schema(&mut self) -> Result<bool, DbFault> {
        let counted = self.rows(super::query(HAS_SCHEMA)).await?.pop().ok_or(DbFault::Missing)?;
        Ok(counted.read::<i64>()? > 0)
    }

    /// The versions that the server has, with their checksums; empty if it has no schema yet.
    async fn applied(&mut self) -> Result<HashMap<i64, Vec<u8>>, DbFault> {
        if !self.has_schema().await? {
            return Ok(HashMap::new());
        }
        let rows = self.fetch(sqlx::query("SELECT version, checksum FROM _sqlx_migrations")).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    async fn apply(&mut self, migration: &Migration) -> Result<(), DbFault> {
        if !self.has_schema().await? {
            self.send(APPLIED.to_owned()).await?;
        }
        self.send(migration.sql.as_str().to_owned()).await?;
        let noted = sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES ($1, $2, TRUE, $3, -1)",
        );
        let noted = noted.bind(migration.version).bind(&*migration.description).bind(&*migration.checksum);
        self.execute(noted).await.map(drop)
    }

    async fn fetch(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, DbFault> {
        let is_alone = self.enter().await?;
        let found = statement.persistent(self.is_direct).fetch_all(&mut self.connection).await;
        self.leave(is_alone, found.map_err(DbFault::from)).await
    }

    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, DbFault> {
        let is_alone = self.enter().await?;
        let done = statement.persistent(self.is_direct).execute(&mut self.connection).await;
        Ok(self.leave(is_alone, done.map_err(DbFault::from)).await?.rows_affected())
    }

    /// Behind a pooler, begins a transaction for a statement that stands alone. Returns whether it did.
    async fn enter(&mut self) -> Result<bool, DbFault> {
        let is_alone = !self.is_direct && !self.is_in_transaction;
        if is_alone {
            self.begin().await?;
        }
        Ok(is_alone)
    }

    /// Ends the transaction of a statement that stands alone.
    async fn leave<T>(&mut self, is_alone: bool, result: Result<T, DbFault>) -> Result<T, DbFault> {
        if is_alone && result.is_ok() {
            self.commit().await?;
        } else if is_alone {
            // If this fails the connection is of no more use, as its next statement will find.
            let _ = self.roll_back().await;
        }
        result
    }

    /// Sends statements without values as one message, which one connection to the server gets.
    async fn send(&mut self, sql: String) -> Result<(), DbFault> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// The statements that make these settings, for a session (`SET`) or for a transaction (`SET LOCAL`).
fn sets(verb: &str, settings: &[String]) -> String {
    settings.iter().map(|setting| format!("{verb} {setting}; ")).collect()
}

fn statement(query: Query<'_>) -> Statement<'_> {
    let statement = match query.sql.0 {
        std::borrow::Cow::Borrowed(text) => sqlx::query(text),
        std::borrow::Cow::Owned(text) => sqlx::query(AssertSqlSafe(text)),
    };
    query.arguments.into_iter().fold(statement, |statement, argument| match argument {
        Argument::Integer(value) => statement.bind(value),
        Argument::Text(value) => statement.bind(value),
    })
}

fn statement_of<'q>(rows: &Rows<'_>) -> Statement<'q> {
    let columns = rows.columns();
    let statement = sqlx::query(rows.statement.for_all(&columns));
    columns.into_iter().fold(statement, |statement, column| match column {
        RowColumn::Integers(values) => statement.bind(values),
        RowColumn::Texts(values) => statement.bind(values),
    })
}

fn read(row: &PgRow) -> Result<Row, DbFault> {
    let cells = row.columns().iter().map(|column| {
        let place = column.ordinal();
        if row.try_get_raw(place)?.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match column.type_info().name() {
            "INT8" => Cell::Integer(row.try_get(place)?),
            "INT4" => Cell::Integer(row.try_get::<i32, _>(place)?.into()),
            "TEXT" | "VARCHAR" | "NAME" => Cell::Text(row.try_get(place)?),
            _ => return Err(DbFault::Unreadable { column: place }),
        })
    });
    Ok(Row(cells.collect::<Result<_, _>>()?))
}
