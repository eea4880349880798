//! Stores as they are after months: thousands of customers, up to a million pending events, thousands of notices.
//!
//! One customer signs up through a bridge and sends changes that wait; the rest are copies of its rows under other names, so
//! that what the bridge reads is what a bridge wrote.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::notice::{Notice, Topic};
use rusqlite::Connection;
use serde_json::json;
use sqlx::Connection as _;

use crate::load;
use crate::process::{Key, Process};
use crate::target::Control;

/// Changes of a customer that wait.
pub(crate) const CHANGES: u64 = 10;

/// Customers under whose names everything is copied: one row of the template becomes a row of each in the store.
const CUSTOMERS: &str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1) ";

/// The sources' settings of a bridge that is under load.
pub(crate) fn source() -> [Key; 2] {
    [("SOURCE__DEFAULT__VERIFY", "standard-webhooks".to_owned()), ("SOURCE__DEFAULT__SECRETS", load::SECRET.to_owned())]
}

pub(crate) fn podero(target: &Control) -> Key {
    ("PODERO__BASE_URL", format!("http://{}", target.0))
}

/// A SQLite file with one customer, `C-0`, who has signed up and has changes that wait.
pub(crate) async fn template(folder: &Path, target: &Control) -> anyhow::Result<PathBuf> {
    let file = folder.join("template.db");
    sign_up(&sqlite(&file), target).await?;
    let bridge = Process::bridge(&sqlite(&file), &source())?;
    for number in 0..CHANGES {
        load::send(&bridge.address, load::change(0, number)).await?;
    }
    bridge.terminate()?;
    // Only the file is copied.
    Connection::open(&file)?.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(file)
}

/// One customer, `C-0`, in an empty store.
pub(crate) async fn sign_up(store: &str, target: &Control) -> anyhow::Result<()> {
    let keys: Vec<Key> = source().into_iter().chain([podero(target)]).collect();
    let bridge = Process::bridge(store, &keys)?;
    bridge.ready(Instant::now()).await?;
    load::send(&bridge.address, load::sign_up(0)).await?;
    while bridge.metric("podero_bridge_events_settled_total").await? < 1.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bridge.terminate()
}

pub(crate) fn sqlite(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// A copy of the template with `customers` next to `C-0`, each with its changes if they are `pending`.
pub(crate) fn grow(template: &Path, to: &Path, customers: u64, pending: bool) -> anyhow::Result<()> {
    std::fs::copy(template, to)?;
    let connection = Connection::open(to)?;
    // Its making is no part of what is measured.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN;")?;
    if !pending {
        connection.execute_batch("DELETE FROM events WHERE state = 'pending'; UPDATE lanes SET ready_at = NULL;")?;
    }
    connection.execute(&format!("{CUSTOMERS} {LANES}").replace("$1", &customers.to_string()), [])?;
    if pending {
        // Text that sorts by arrival, as ids do. Two changes of the template may have come in the same millisecond.
        let id = "substr(t.id, 1, 14) || '7' || substr(t.id, 16, 9) || printf('%04x%08x', t.rowid, n)";
        let copies = format!(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, digest, event, raw, raw_encoding) \
             SELECT {id}, 'C-' || n, t.origin, t.origin_id || '/' || n, t.source, t.door, t.type, t.time, t.received_at, \
             t.tries_from, t.due_at, t.state, 0, t.digest, \
             replace(replace(t.event, t.id, {id}), '\"C-0\"', '\"C-' || n || '\"'), \
             replace(t.raw, '\"C-0\"', '\"C-' || n || '\"'), t.raw_encoding \
             FROM numbers, events t WHERE t.lane = 'C-0' AND t.state = 'pending' ORDER BY t.id, n"
        );
        connection.execute(&format!("{CUSTOMERS} {copies}").replace("$1", &customers.to_string()), [])?;
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")?;
    // Gigabytes that wait for the disk would be in the way of the next measurement.
    std::fs::File::open(to)?.sync_all()?;
    Ok(())
}

/// The lanes of the other customers, as `C-0` has it.
const LANES: &str = "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, ready_at, bulk) \
    SELECT 'C-' || CAST(n AS TEXT), replace(t.customer, '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), t.fence, 0, 0, \
    t.ready_at, t.bulk FROM numbers, lanes t WHERE t.lane = 'C-0'";

/// Customers next to `C-0`, on PostgreSQL.
pub(crate) async fn grow_postgres(url: &str, customers: u64) -> anyhow::Result<()> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let sql = format!("{CUSTOMERS} {LANES}").replace("$1", &customers.to_string());
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    Ok(())
}

/// An alert as it goes out.
pub(crate) fn notice(number: u64) -> Notice {
    let data = json!({
        "heat_pump_id": crate::target::id(3, number), "customer_id": format!("C-{number}"), "cause": "needs_reauthentication",
        "severity": "warning", "dedup_key": format!("heat_pump/{number}"), "occurrence_id": crate::target::id(5, number),
        "manufacturer": "Vaillant", "model": "aroTHERM plus", "since": "2026-10-01T11:40:00Z",
        "detected_at": "2026-10-01T12:00:00Z",
    });
    Notice {
        id: crate::target::id(4, number).parse().expect("an id"),
        topic: Topic::HeatPumpDisconnected,
        order_key: format!("heat_pump/{number}"),
        subject: format!("C-{number}"),
        time: Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"),
        data,
    }
}

/// Every poll is due, and the list of users is not.
pub(crate) fn make_polls_due(file: &Path) -> anyhow::Result<()> {
    const HOURS_MICROS: i64 = 10_000_000_000;
    let connection = Connection::open(file)?;
    connection.execute("UPDATE watched SET due_at = due_at - ?1, taken_until = 0", [HOURS_MICROS])?;
    connection.execute("UPDATE duties SET due_at = due_at + ?1 WHERE name = 'roster'", [HOURS_MICROS])?;
    Ok(())
}

/// Alerts that wait for the broker.
pub(crate) fn add_notices(file: &Path, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    for number in numbers {
        let notice = notice(number);
        transaction.execute(
            "INSERT INTO notices (id, target, place, topic, line, body, created_at, due_at, failures, state) \
             VALUES (?1, 'amqp', ?1, ?2, ?3, ?4, ?5, ?5, 0, 'pending')",
            (
                notice.id.to_string(),
                notice.topic.name(),
                &notice.order_key,
                serde_json::to_string(&notice)?,
                notice.time.micros(),
            ),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// The number of alerts a second that were marked as out, of those from a number on.
pub(crate) fn published_per_second(file: &Path, numbers: std::ops::Range<u64>) -> anyhow::Result<Option<f64>> {
    let connection = Connection::open(file)?;
    let (count, first, last): (i64, i64, i64) = connection.query_row(
        "SELECT COUNT(*), COALESCE(MIN(published_at), 0), COALESCE(MAX(published_at), 0) FROM notices \
         WHERE state = 'published' AND id >= ?1 AND id < ?2",
        (crate::target::id(4, numbers.start), crate::target::id(4, numbers.end)),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand, over seconds")]
    let per_second = count as f64 / ((last - first).max(1) as f64 / 1e6);
    Ok((count == i64::try_from(numbers.end - numbers.start)?).then_some(per_second))
}
