//! Stores as they are after months: thousands of customers, up to a million pending events, thousands of notices.
//!
//! One customer signs up through a bridge and sends changes that wait; the rest are copies of its rows under other names, so
//! that what the bridge reads is what a bridge wrote.

use std::time::{Duration, Instant};

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::{self, DiffContext, Observation, Outages, WatchPolicy};
use podero_bridge::domain::notice::{Notice, Topic};
use podero_bridge::store::{Observed, Settings};
use serde_json::json;
use sqlx::{Connection as _, Row};
use uuid::Uuid;

use crate::load;
use crate::process::{Binary, Key, Process};
use crate::store::{Kept, Store};
use crate::target::Control;

/// Changes of a customer that wait.
pub(crate) const CHANGES: u64 = 10;

/// The sources' settings of a bridge that is under load.
pub(crate) fn source() -> [Key; 2] {
    [("SOURCE__DEFAULT__VERIFY", "standard-webhooks".to_owned()), ("SOURCE__DEFAULT__SECRETS", load::SECRET.to_owned())]
}

pub(crate) fn podero(target: &Control) -> Key {
    ("PODERO__BASE_URL", format!("http://{}", target.0))
}

/// One customer, `C-0`, who has signed up and has changes that wait, in an empty store. Returns when no process works on it.
pub(crate) async fn template(store: &Store, target: &Control) -> anyhow::Result<()> {
    sign_up(Binary::Measured, store, target).await?;
    let bridge = Process::bridge(store, &source())?;
    for number in 0..CHANGES {
        load::send(&bridge.address, load::change(0, number)).await?;
    }
    bridge.terminate()?;
    if store.kept() == Kept::Sqlite {
        // Only the file is copied.
        store.run("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    }
    Ok(())
}

/// One customer, `C-0`, in an empty store.
pub(crate) async fn sign_up(binary: Binary, store: &Store, target: &Control) -> anyhow::Result<()> {
    let keys: Vec<Key> = source().into_iter().chain([podero(target)]).collect();
    let bridge = Process::bridge_of(binary, store, &keys)?;
    bridge.ready(Instant::now()).await?;
    load::send(&bridge.address, load::sign_up(0)).await?;
    while bridge.metric("podero_bridge_events_settled_total").await? < 1.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bridge.terminate()
}

/// Customers next to `C-0`, after its sign-up.
pub(crate) async fn add_customers(store: &Store, customers: u64) -> anyhow::Result<()> {
    let rows = lanes(SeedSchema::of(store).await, customers);
    grow(store, &rows).await
}

/// The schema of the program that made a store: next to an older one PostgreSQL is measured, and two programs are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SeedSchema {
    /// Without a table of customers, and with other names of columns.
    Lanes,
    /// Without the hashes of e-mail addresses.
    Customers,
    /// With them. A bridge would make up for hashes that are missing while it is measured.
    Hashes,
}

impl SeedSchema {
    async fn of(store: &Store) -> Self {
        if store.run("SELECT email_hash FROM customers LIMIT 1").await.is_ok() {
            Self::Hashes
        } else if store.run("SELECT lane FROM customers LIMIT 1").await.is_ok() {
            Self::Customers
        } else {
            Self::Lanes
        }
    }
}

/// Customers next to `C-0`, each with the changes that wait.
pub(crate) async fn add_pending(store: &Store, customers: u64) -> anyhow::Result<()> {
    // Text that sorts by arrival, as ids do. Two changes of the template may have come in the same millisecond.
    let ending = match store.kept() {
        Kept::Sqlite => "printf('%04x%08x', t.number, n)",
        Kept::Postgres => "lpad(to_hex(t.number), 4, '0') || lpad(to_hex(n), 8, '0')",
    };
    let id = format!("substr(t.id, 1, 14) || '7' || substr(t.id, 16, 9) || {ending}");
    let schema = SeedSchema::of(store).await;
    let transport = if schema == SeedSchema::Lanes { "door" } else { "transport" };
    let events = EVENTS.replace("{id}", &id).replace("transport", transport);
    grow(store, &format!("{} {};", lanes(schema, customers), of_each(customers, &events))).await
}

/// The rows of customers next to `C-0`.
fn lanes(schema: SeedSchema, customers: u64) -> String {
    let rows = match schema {
        SeedSchema::Lanes => vec![OLDER_LANES.to_owned()],
        SeedSchema::Customers => {
            LANES.map(|rows| rows.replace(", email_hash", "").replace(", t.email_hash", "")).into()
        }
        SeedSchema::Hashes => LANES.map(str::to_owned).into(),
    };
    rows.iter().map(|rows| format!("{};", of_each(customers, rows))).collect::<Vec<_>>().join(" ")
}

/// A statement that has `numbers (n)`, one for each customer.
fn of_each(customers: u64, statement: &str) -> String {
    format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {customers}) {statement}"
    )
}

/// The lanes of the other customers, and what is known of these, as `C-0` has it.
const LANES: [&str; 2] = [
    "INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at, bulk) \
     SELECT 'C-' || CAST(n AS TEXT), t.fence, 0, 0, t.ready_at, t.bulk FROM numbers, lanes t WHERE t.lane = 'C-0'",
    "INSERT INTO customers (lane, state, active, email_hash) \
     SELECT 'C-' || CAST(n AS TEXT), replace(t.state, '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), t.active, t.email_hash \
     FROM numbers, customers t WHERE t.lane = 'C-0'",
];

/// The same in the schema of an older program, whose lanes hold what is known.
const OLDER_LANES: &str = "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, ready_at, bulk) \
    SELECT 'C-' || CAST(n AS TEXT), replace(t.customer, '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), t.fence, 0, 0, \
    t.ready_at, t.bulk FROM numbers, lanes t WHERE t.lane = 'C-0'";

/// The events of the other customers, as `C-0` has them.
const EVENTS: &str = "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, \
    due_at, state, failures, digest, event, raw, raw_encoding) \
    SELECT {id}, 'C-' || CAST(n AS TEXT), t.origin, t.origin_id || '/' || CAST(n AS TEXT), t.source, t.transport, t.type, t.time, \
    t.received_at, t.tries_from, t.due_at, t.state, 0, t.digest, \
    replace(replace(t.event, t.id, {id}), '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), \
    replace(t.raw, '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), t.raw_encoding \
    FROM numbers, (SELECT *, ROW_NUMBER() OVER (ORDER BY id) AS number FROM events WHERE lane = 'C-0' AND state = 'pending') t \
    ORDER BY t.id, n";

/// Customers next to `C-0`, whose events are done but for one in a hundred that waits and one that is parked, each with a call and an
/// outgoing event. No bridge works on those that wait.
pub(crate) async fn add_settled(store: &Store, customers: u64) -> anyhow::Result<()> {
    let ending = match store.kept() {
        Kept::Sqlite => "printf('%04x%08x', t.number, n)",
        Kept::Postgres => "lpad(to_hex(t.number), 4, '0') || lpad(to_hex(n), 8, '0')",
    };
    let id = format!("substr(t.id, 1, 14) || '7' || substr(t.id, 16, 9) || {ending}");
    let lanes = LANES[0].replace("t.ready_at", "NULL");
    let each =
        [&lanes, LANES[1], &SETTLED.replace("{id}", &id), NOTICES].map(|rows| format!("{};", of_each(customers, rows)));
    grow(store, &format!("{} {CALLS};", each.concat())).await
}

/// The events of the other customers: as `C-0` has them, and mostly done.
const SETTLED: &str = "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, \
    due_at, state, failures, reason, digest, event, raw, raw_encoding, settled_at, change, said_at, scope) \
    SELECT {id}, 'C-' || CAST(n AS TEXT), t.origin, t.origin_id || '/' || CAST(n AS TEXT), t.source, t.transport, t.type, t.time, \
    t.received_at, t.tries_from + n, t.due_at, CASE n % 100 WHEN 0 THEN 'pending' WHEN 50 THEN 'parked' ELSE 'applied' END, 0, \
    CASE n % 100 WHEN 50 THEN 'refused' END, t.digest, \
    replace(replace(t.event, t.id, {id}), '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), \
    replace(t.raw, '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), t.raw_encoding, CASE WHEN n % 100 <> 0 THEN t.received_at + n END, \
    t.change, t.said_at, t.scope \
    FROM numbers, (SELECT *, ROW_NUMBER() OVER (ORDER BY id) AS number FROM events WHERE lane = 'C-0' AND state = 'pending') t \
    ORDER BY t.id, n";

/// A call for each event that is done.
const CALLS: &str = "INSERT INTO calls (id, event_id, at, operation, outcome, took_ms) \
    SELECT id, id, received_at, 'update_user', 'done', 20 FROM events WHERE state = 'applied'";

/// An outgoing event for each customer, which is out.
const NOTICES: &str = "INSERT INTO notices (id, target, seq, topic, order_key, customer, body, created_at, due_at, failures, state, \
    published_at) SELECT '00000000-0000-4000-8003-' || CAST(100000000000 + n AS TEXT), 'amqp', '00000000-0000-4000-8003-' || \
    CAST(100000000000 + n AS TEXT), 'customer.provisioned', 'customer/C-' || CAST(n AS TEXT), 'C-' || CAST(n AS TEXT), \
    '{\"data\": {\"customer_id\": \"C-' || CAST(n AS TEXT) || '\"}}', 1, 1, 0, 'published', 1 FROM numbers";

/// Makers of the heat pumps that [`add_pumps`] adds.
pub(crate) const MAKERS: usize = 20;

/// A heat pump for each of so many customers; one in fifty is lost.
pub(crate) async fn add_pumps(store: &Store, pumps: u64) -> anyhow::Result<()> {
    let settings = Settings { url: store.url.clone(), targets: Vec::new(), works: false };
    let clock = Clock::system();
    let (opened, writer) = podero_bridge::store::Store::open(settings, clock.clone()).await?;
    let writing = tokio::spawn(writer.run());
    for (number, is_connected) in [(0_u32, true), (1, false)] {
        let [user, heat_pump] = [1_u128, 2].map(|kind| Uuid::from_u128((u128::from(number) << 8) + kind));
        let watched = format!("INSERT INTO watched (user_id, due_at, since, roster) VALUES ('{user}', 0, 0, 0)");
        store.run(watched).await?;
        let now = clock.now();
        let shown = Observation {
            heat_pump,
            is_authenticated: Some(is_connected),
            updated_at: Some(now),
            manufacturer: Some("Maker 0".to_owned()),
            model: Some("Model".to_owned()),
            ..Observation::default()
        };
        let outages = Outages::default();
        let around = DiffContext::plain(user, Some("C-0"), &outages);
        let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
        let connected = Observation { is_authenticated: Some(true), ..shown.clone() };
        let first = alert::diff(None, &connected, &around, now, &policy);
        let change = if is_connected { first } else { alert::diff(Some(&first.seen), &shown, &around, now, &policy) };
        opened.observe(Observed { user, changes: vec![change], due_at: now }).await?;
    }
    drop(opened);
    writing.await?;
    grow(store, &format!("{};", of_each(pumps, FLEET))).await
}

/// Copies of the two heat pumps of [`add_pumps`], the first of which is connected.
const FLEET: &str = "INSERT INTO pumps (heat_pump, user_id, customer, knowledge, is_retired, has_alert, record, version, checked_at, \
    manufacturer, region, lost_at) \
    SELECT '00000000-0000-4000-8002-' || CAST(100000000000 + n AS TEXT), '00000000-0000-4000-8001-' || \
    CAST(100000000000 + n AS TEXT), 'C-' || CAST(n AS TEXT), t.knowledge, 0, t.has_alert, \
    replace(replace(replace(replace(t.record, t.heat_pump, '00000000-0000-4000-8002-' || CAST(100000000000 + n AS TEXT)), t.user_id, \
    '00000000-0000-4000-8001-' || CAST(100000000000 + n AS TEXT)), '\"C-0\"', '\"C-' || CAST(n AS TEXT) || '\"'), '\"Maker 0\"', \
    '\"Maker ' || CAST(n % 20 AS TEXT) || '\"'), t.version, t.checked_at, 'Maker ' || CAST(n % 20 AS TEXT), t.region, t.lost_at \
    FROM numbers JOIN pumps t ON t.has_alert = CASE WHEN n % 50 = 0 THEN 1 ELSE 0 END";

/// Runs statements that write much. Their work, on the disk as well, is no part of what is measured: it is over when this returns.
async fn grow(store: &Store, statements: &str) -> anyhow::Result<()> {
    let Some(file) = store.file() else {
        store.run(statements).await?;
        // Neither may be part of a transaction, which several statements in one text are.
        store.run("VACUUM ANALYZE").await?;
        return store.checkpoint().await;
    };
    let quickly = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN;";
    store.run(format!("{quickly} {statements} COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")).await?;
    // Gigabytes that wait for the disk would be in the way of the next measurement.
    Ok(std::fs::File::open(file)?.sync_all()?)
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
pub(crate) async fn make_polls_due(store: &Store) -> anyhow::Result<()> {
    const HOURS_MICROS: i64 = 10_000_000_000;
    let statements = format!(
        "UPDATE watched SET due_at = due_at - {HOURS_MICROS}, taken_until = 0; \
         UPDATE duties SET due_at = due_at + {HOURS_MICROS} WHERE name = 'roster';"
    );
    store.run(statements).await
}

/// A notice that waits.
const NOTICE: &str = "INSERT INTO notices (id, target, seq, topic, order_key, body, created_at, due_at, failures, state) \
    VALUES ($1, 'amqp', $2, $3, $4, $5, $6, $7, 0, 'pending')";

/// The same in the schema of an older program.
const OLDER_NOTICE: &str = "INSERT INTO notices (id, target, place, topic, line, body, created_at, due_at, failures, state) \
    VALUES ($1, 'amqp', $2, $3, $4, $5, $6, $7, 0, 'pending')";

/// Alerts that wait for the broker.
pub(crate) async fn add_notices(store: &Store, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let insert = if SeedSchema::of(store).await == SeedSchema::Lanes { OLDER_NOTICE } else { NOTICE };
    let mut connection = store.connect().await?;
    let mut transaction = connection.begin().await?;
    for number in numbers {
        let notice = notice(number);
        let insert = sqlx::query(insert);
        let (id, at) = (notice.id.to_string(), notice.time.micros());
        let insert = insert.bind(id.clone()).bind(id).bind(notice.topic.name()).bind(notice.order_key.clone());
        insert.bind(serde_json::to_string(&notice)?).bind(at).bind(at).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The number of alerts a second that were marked as out, of those from a number on; `None`: not all of them are.
pub(crate) async fn published_per_second(store: &Store, numbers: std::ops::Range<u64>) -> anyhow::Result<Option<f64>> {
    let mut connection = store.connect().await?;
    let marked = sqlx::query(
        "SELECT COUNT(*), COALESCE(MIN(published_at), 0), COALESCE(MAX(published_at), 0) FROM notices \
         WHERE state = 'published' AND id >= $1 AND id < $2",
    );
    let marked = marked.bind(crate::target::id(4, numbers.start)).bind(crate::target::id(4, numbers.end));
    let marked = marked.fetch_one(&mut connection).await?;
    let (count, first, last): (i64, i64, i64) = (marked.try_get(0)?, marked.try_get(1)?, marked.try_get(2)?);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand, over seconds")]
    let per_second = count as f64 / ((last - first).max(1) as f64 / 1e6);
    Ok((count == i64::try_from(numbers.end - numbers.start)?).then_some(per_second))
}
