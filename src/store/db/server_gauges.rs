//! The state of a PostgreSQL server that slows the store down before anything fails: dead rows, old transactions, replication.
//!
//! A server shows a role less than there is: details of other roles' sessions, and of standbys, only to a member of
//! `pg_read_all_stats` (`pg_monitor` is one). A value that may be hidden is absent here, never 0. A statement that the role may not
//! run at all leaves only its own values out.
//!
//! Before: the server's statistics. After: [`crate::metrics`].

use std::time::Duration;

use super::fault::DbFault;
use super::query::{Executor, FromRow, query};

/// Timeout of each look into the statistics: they are in the server's memory, so one that takes longer waits for a server in
/// trouble.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);

/// Counts the rows of each table that the work changes all the time. The names of the tables are the values of a label.
const ROWS_OF_TABLES: &str = "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relid IN (\
    to_regclass('events'), to_regclass('lanes'), to_regclass('customers'), to_regclass('calls'), to_regclass('notices'), \
    to_regclass('watched'), to_regclass('pumps'), to_regclass('audit'))";

/// Finds the oldest open transaction of the database, and the oldest snapshot that holds back vacuum, with the number of sessions
/// whose details are hidden. A vacuum of the server's own is no transaction that holds back another one. A prepared transaction
/// has no session, and a replication slot keeps a standby's snapshot while the standby is away.
const HELD_OPEN: &str = "SELECT \
    (EXTRACT(EPOCH FROM MAX(clock_timestamp() - began) FILTER (WHERE is_here)) * 1000)::bigint, \
    COUNT(*) FILTER (WHERE is_hidden AND is_here), MAX(age(xmin))::bigint, COUNT(*) FILTER (WHERE is_hidden) FROM (\
    SELECT xact_start AS began, backend_xmin AS xmin, datname IS NOT NULL AS is_here, \
    usesysid IS NOT NULL AND query = '<insufficient privilege>' AS is_hidden FROM pg_stat_activity \
    WHERE (datname = current_database() OR datname IS NULL) AND backend_type IS DISTINCT FROM 'autovacuum worker' \
    UNION ALL SELECT prepared, transaction, TRUE, FALSE FROM pg_prepared_xacts WHERE database = current_database() \
    UNION ALL SELECT NULL, xmin, FALSE, FALSE FROM pg_replication_slots) AS held";

/// Counts the standbys that stream, finds the one that is furthest behind, and counts those whose details are hidden. A logical
/// subscriber, known by its slot, is no standby, nor is a receiver of the log that replays nothing: an archiver, or a backup.
const STANDBYS: &str = "SELECT COUNT(*) FILTER (WHERE state = 'streaming' AND replay_lsn IS NOT NULL), \
    MAX(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::bigint, COUNT(*) FILTER (WHERE state IS NULL) \
    FROM pg_stat_replication WHERE NOT EXISTS (SELECT FROM pg_replication_slots AS slot \
    WHERE slot.active_pid = pg_stat_replication.pid AND slot.slot_type = 'logical')";

/// Finds the replication slot that keeps most of the write-ahead log from being removed.
const SLOTS: &str =
    "SELECT COALESCE(MAX(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint FROM pg_replication_slots";

/// The state of a server at one moment. `None`: the role of the bridge may not see all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerGauges {
    /// The rows of each table that the work changes all the time; empty if they are hidden.
    pub tables: Vec<TableRows>,
    /// The age of the oldest transaction that is open in the database.
    pub oldest_transaction: Option<Duration>,
    /// The age, in transactions, of the oldest snapshot that holds back vacuum.
    pub xmin_age: Option<u64>,
    /// The number of standbys that stream.
    pub standbys: Option<u64>,
    /// The bytes of the log that the standby furthest behind has still to replay; `None` also without a standby.
    pub replay_lag_bytes: Option<u64>,
    /// The bytes of the log that one replication slot keeps, of the slot that keeps most.
    pub slot_wal_bytes: Option<u64>,
}

/// The rows of one table, as the server estimates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// The name of the table.
    pub table: String,
    /// The number of rows.
    pub live: u64,
    /// The number of old versions of rows that no vacuum has removed yet.
    pub dead: u64,
}

impl ServerGauges {
    /// Reads the state of the server.
    pub(super) async fn read(on: impl Executor + Copy) -> Result<Self, DbFault> {
        let tables: Vec<(String, u64, u64)> = seen(on, ROWS_OF_TABLES).await?;
        let tables = tables.into_iter().map(|(table, live, dead)| TableRows { table, live, dead }).collect();
        let mut gauges = Self { tables, ..Self::default() };
        let held: Option<(Option<u64>, u64, Option<u64>, u64)> = seen(on, HELD_OPEN).await?.pop();
        if let Some((age_ms, hidden_here, xmin_age, hidden)) = held {
            let age = Duration::from_millis(age_ms.unwrap_or_default());
            gauges.oldest_transaction = Some(age).filter(|_| hidden_here == 0);
            gauges.xmin_age = Some(xmin_age.unwrap_or_default()).filter(|_| hidden == 0);
        }
        let standbys: Option<(u64, Option<u64>, u64)> = seen(on, STANDBYS).await?.pop();
        if let Some((streaming, lag_bytes, hidden)) = standbys {
            gauges.standbys = Some(streaming).filter(|_| hidden == 0);
            gauges.replay_lag_bytes = lag_bytes.filter(|_| hidden == 0);
        }
        gauges.slot_wal_bytes = seen(on, SLOTS).await?.pop();
        Ok(gauges)
    }
}

/// The rows of a look; none if the role may not look.
async fn seen<T: FromRow>(on: impl Executor, statement: &'static str) -> Result<Vec<T>, DbFault> {
    let look = tokio::time::timeout(LOOK_TIME_MAX, query(statement).fetch_all(on)).await;
    match look.unwrap_or(Err(DbFault::TooLate)) {
        Err(fault) if fault.is_denied() => Ok(Vec::new()),
        seen => seen,
    }
}
