//! Stores of former versions, brought up to date: with all that they hold, however large, and although the process is killed
//! meanwhile. And stores of the next version, on which this one works as long as nothing that it needs was taken away.
//!
//! `PODERO_BRIDGE_TEST_ROWS` is the number of customers of the store that is killed; `tests/reliability migration` is the run at full
//! size.

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::customer::Customer;
use podero_bridge::domain::event::{Event, Happening};
use podero_bridge::domain::verdict::Fate;
use podero_bridge::domain::{CustomerId, EventId};
use podero_bridge::pump;
use podero_bridge::store::{OpenError, Settings, Store};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::chaos::{binary, note};
use crate::kit::{Fixture, StoreFixture, TestDatabase, on_both_databases};
use crate::running;
use crate::servers::environment;

/// The newest migration of the version before customers had a table of their own.
const BEFORE_CUSTOMERS: i64 = 15;

/// Migrations from this one on add only, or raise the store's floor.
const ADDING_SINCE: i64 = 21;

const LEASE: Duration = Duration::from_secs(60);

on_both_databases! {
    a_store_of_a_former_version_keeps_all_that_it_holds
    an_upgrade_that_is_killed_goes_on_at_the_next_start
    a_newer_schema_serves_this_version_unless_it_took_something_away
}

struct Empty(TestDatabase);

impl Fixture for Empty {
    async fn open(database: TestDatabase, _: usize) -> Self {
        Self(database)
    }
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.expect("the database is there")
}

async fn number(connection: &mut AnyConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn open(url: &str, works: bool) -> Result<(Store, tokio::task::JoinHandle<()>), OpenError> {
    let settings = Settings { url: url.to_owned(), targets: Vec::new(), works };
    let (store, writer) = Store::open(settings, Clock::system()).await?;
    Ok((store, tokio::spawn(writer.run())))
}

/// A database of the version before, with lanes of `rows` customers: of every tenth nothing is known, every third is active. Each has
/// an event that was applied and a notice of it; that of `C-1` has an event to be applied.
async fn of_before(url: &str, rows: u64) {
    if let Some(file) = url.strip_prefix("sqlite://") {
        std::fs::File::options().create_new(true).write(true).mode(0o600).open(file).expect("an empty file");
    }
    let mut connection = connect(url).await;
    if url.starts_with("sqlite") {
        sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")
            .execute(&mut connection)
            .await
            .expect("set");
    }
    migrations_until(BEFORE_CUSTOMERS).await.run(&mut connection).await.expect("the schema of that version");
    let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)";
    let customer = "CASE WHEN n % 10 = 0 THEN '' ELSE $2 END, n, 0, 0, NULL, NULL, n % 2, CASE WHEN n % 3 = 0 \
                    THEN 1 ELSE 0 END";
    let id = "'01900000-0000-7000-8000-' || CAST(100000000000 + n AS TEXT)";
    let statements = [
        format!(
            "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, begun, ready_at, bulk, active) {numbers} \
             SELECT 'C-' || CAST(n AS TEXT), {customer} FROM numbers"
        ),
        format!(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, digest, event, raw, raw_encoding, settled_at, scope) {numbers} SELECT {id}, 'C-' || CAST(n AS TEXT), \
             '/billing', CAST(n AS TEXT), 'crm', 'webhook', 'customer.updated', n, n, n, n, 'applied', 0, 'd', '{{}}', $2, 'utf8', \
             4000000000000000, 'crm' FROM numbers"
        ),
        format!(
            "INSERT INTO notices (id, target, place, topic, line, customer, body, created_at, due_at, failures, state) {numbers} \
             SELECT {id}, 'none', {id}, 'customer.updated', 'customer/C-' || CAST(n AS TEXT), 'C-' || CAST(n AS TEXT), $2, \
             4000000000000000, n, 0, 'kept' FROM numbers"
        ),
    ];
    let rows = i64::try_from(rows).expect("a count");
    for statement in statements {
        let filled = sqlx::query(AssertSqlSafe(statement)).bind(rows).bind(known_customer());
        filled.execute(&mut connection).await.expect("filled");
    }
    connection.close().await.expect("closed");
}

/// The stored form of a customer, as long as most are: white space after a value is part of no value.
fn known_customer() -> String {
    format!("{:600}", serde_json::to_string(&Customer::default()).expect("JSON"))
}

/// The schema until this version, which is one from before there were parts for PostgreSQL alone.
async fn migrations_until(version: i64) -> Migrator {
    let all = Migrator::new(Path::new("src/store/migrations")).await.expect("they are there");
    Migrator::with_migrations(all.iter().filter(|migration| migration.version <= version).cloned().collect())
}

/// Counts the rows of the audit log about the schema.
const MIGRATE_ROWS: &str = "SELECT COUNT(*) FROM audit WHERE action = 'store.migrate'";

/// Checks the rows of a store of [`of_before`] once it is up to date.
async fn check_all_is_there(url: &str, rows: i64) {
    let mut connection = connect(url).await;
    let expected = [
        ("SELECT COUNT(*) FROM lanes", rows),
        ("SELECT CAST(SUM(fence) AS BIGINT) FROM lanes", rows * (rows + 1) / 2),
        ("SELECT COUNT(*) FROM lanes WHERE bulk = 1", (rows + 1) / 2),
        ("SELECT COUNT(*) FROM customers", rows - rows / 10),
        ("SELECT COUNT(*) FROM customers WHERE active = 1", rows / 3 - rows / 30),
        ("SELECT COUNT(*) FROM events WHERE transport = 'webhook'", rows),
        ("SELECT COUNT(*) FROM notices WHERE seq = id AND order_key LIKE 'customer/%'", rows),
        // Of the transaction of the newest migration, so that no end of a process leaves the one without the other.
        (MIGRATE_ROWS, 1),
    ];
    for (sql, count) in expected {
        assert_eq!(number(&mut connection, sql).await, count, "{sql}");
    }
    let other = sqlx::query("SELECT lane FROM customers WHERE state <> $1").bind(known_customer());
    assert!(other.fetch_all(&mut connection).await.expect("readable").is_empty(), "each state is what it was");
    connection.close().await.expect("closed");
}

async fn a_store_of_a_former_version_keeps_all_that_it_holds(Empty(database): Empty) {
    let url = &database.url;
    of_before(url, 300).await;
    let customer = CustomerId::accept("C-1").expect("an id");
    let id = EventId(Clock::system().fresh_id());
    let event = Event { id, customer, time: Clock::system().now(), effective_at: None, happening: Happening::Churned };
    let mut connection = connect(url).await;
    sqlx::query("UPDATE events SET id = $1, event = $2, state = 'pending', settled_at = NULL WHERE lane = 'C-1'")
        .bind(id.to_string())
        .bind(serde_json::to_string(&event).expect("JSON"))
        .execute(&mut connection)
        .await
        .expect("written");
    sqlx::query("UPDATE lanes SET ready_at = 1 WHERE lane = 'C-1'").execute(&mut connection).await.expect("written");
    connection.close().await.expect("closed");
    let refused = open(url, false).await.map(|_| ());
    assert!(
        matches!(refused, Err(OpenError::Older { found: BEFORE_CUSTOMERS, .. })),
        "a command leaves it: {refused:?}"
    );

    let (store, writer) = open(url, true).await.expect("a bridge brings it up to date");
    check_all_is_there(url, 300).await;
    let claim = store.claim(LEASE).await.expect("the store is there").expect("C-1 has work");
    assert_eq!((claim.work.event.id, &claim.work.customer), (id, &Customer::default()));
    store
        .settle(&claim, StoreFixture::verdict(&claim, Fate::Superseded, Vec::new()), Vec::new())
        .await
        .expect("settled");
    assert_eq!(store.active_customers().await.expect("counted"), 300 / 3 - 300 / 30);
    assert!(
        store.customer("C-10").await.expect("readable").expect("known").card.state.is_some_and(|state| state.is_null())
    );
    drop(store);
    writer.await.expect("it ends");
}

async fn an_upgrade_that_is_killed_goes_on_at_the_next_start(Empty(database): Empty) {
    let rows: u64 = environment("PODERO_BRIDGE_TEST_ROWS").map_or(20_000, |rows| rows.parse().expect("a number"));
    let (url, folder) = (&database.url, tempfile::tempdir().expect("a folder"));
    of_before(url, rows).await;
    let rows = i64::try_from(rows).expect("a count");
    let mut environment = running::on_file(folder.path());
    environment[0].1.clone_from(url);
    let (mut pause, mut kills, mut versions) = (Duration::from_millis(10), 0, BTreeSet::new());
    loop {
        kill_after(pause, &environment).await;
        kills += 1;
        let mut connection = connect(url).await;
        while url.starts_with("postgres") && number(&mut connection, OTHERS).await > 0 {
            pump::sleep(Duration::from_millis(20)).await;
        }
        let version = number(&mut connection, "SELECT MAX(version) FROM _sqlx_migrations").await;
        versions.insert(version);
        let (of_lanes, of_customers) = match version {
            BEFORE_CUSTOMERS => ("SELECT COUNT(customer) FROM lanes", None),
            _ => ("SELECT COUNT(*) FROM lanes", Some("SELECT COUNT(*) FROM customers")),
        };
        assert_eq!(number(&mut connection, of_lanes).await, rows, "after {pause:?}, at {version}");
        if let Some(of_customers) = of_customers {
            assert_eq!(number(&mut connection, of_customers).await, rows - rows / 10, "after {pause:?}, at {version}");
        }
        connection.close().await.expect("closed");
        if version == newest_migration(url) {
            break;
        }
        pause = pause * 3 / 2;
    }
    let (store, writer) = open(url, true).await.expect("all is done");
    drop(store);
    writer.await.expect("it ends");
    check_all_is_there(url, rows).await;
    assert!(kills > 1 && versions.len() > 1, "it was killed before the end: {kills} times, at schemas {versions:?}");
    let seconds = pause.as_secs();
    note(&format!("migration 0 {rows} {rows} {kills} {kills} 0 0 0 0 {seconds}"));
}

/// The processes that PostgreSQL has for others: it notices that a client was killed when a statement has ended.
const OTHERS: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                      AND backend_type = 'client backend'";

/// Starts a bridge, and kills it after a while.
async fn kill_after(pause: Duration, environment: &running::Environment) {
    let mut process = running::with(running::program_of(&binary(), &["serve", "--sandbox"]), environment);
    let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    pump::sleep(pause).await;
    assert!(process.try_wait().expect("it is ours").is_none(), "it ended by itself");
    process.kill().expect("it is killed");
    process.wait().expect("it has ended");
}

async fn a_newer_schema_serves_this_version_unless_it_took_something_away(fixture: StoreFixture) {
    fixture.ends("C-1", Fate::Superseded).await;
    let newer = "ALTER TABLE events ADD COLUMN of_tomorrow TEXT; ALTER TABLE lanes ADD COLUMN of_tomorrow BIGINT NOT NULL DEFAULT 0; \
                 INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 99, 'of tomorrow', success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
    let mut connection = connect(&fixture.url).await;
    sqlx::raw_sql(newer).execute(&mut connection).await.expect("as a newer program does it");
    fixture.ends("C-1", Fate::Superseded).await;
    fixture.beside().await.parked(None).await.expect("a command reads it as well");
    let url = fixture.url.clone();
    if url.starts_with("postgres") {
        let before = number(&mut connection, MIGRATE_ROWS).await;
        let (replica, writer) = open(&url, true).await.expect("a replica of this version starts beside it");
        drop(replica);
        writer.await.expect("it ends");
        assert_eq!(number(&mut connection, MIGRATE_ROWS).await, before, "it changes no schema, and says so nowhere");
    }
    sqlx::raw_sql("UPDATE schema_floor SET version = 99")
        .execute(&mut connection)
        .await
        .expect("as a later one does it");
    let refused = open(&url, false).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, .. })), "{refused:?}");
    connection.close().await.expect("closed");
}

/// The schema's files, by number.
fn files() -> Vec<(i64, PathBuf)> {
    let folders = ["src/store/migrations", "src/store/migrations/postgres"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("it is there"));
    let files = files.map(|file| file.expect("readable").path()).filter(|file| file.is_file());
    let numbered = files.map(|file| {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        (name[..4].parse().expect("its number comes first"), file)
    });
    let mut numbered: Vec<_> = numbered.collect();
    numbered.sort();
    numbered
}

/// The newest that a store of this kind has.
fn newest_migration(url: &str) -> i64 {
    let has =
        |file: &PathBuf| url.starts_with("postgres") || !file.components().any(|part| part.as_os_str() == "postgres");
    files().iter().rev().find(|(_, file)| has(file)).expect("there are some").0
}

#[test]
fn a_migration_adds_only_or_raises_the_floor() {
    for (number, file) in files().into_iter().filter(|(number, _)| *number >= ADDING_SINCE) {
        let text = std::fs::read_to_string(&file).expect("text").to_uppercase();
        if text.contains("UPDATE SCHEMA_FLOOR") {
            continue;
        }
        let takes = ["DROP TABLE", "DROP COLUMN", " RENAME ", "ADD CONSTRAINT", "SET NOT NULL", "CREATE UNIQUE INDEX"];
        for statement in text.split(';') {
            let has_no_default =
                statement.contains("ADD COLUMN") && statement.contains("NOT NULL") && !statement.contains("DEFAULT");
            // No program of the version before writes to a table that this file makes.
            let is_own = statement.rsplit_once(" ON ").is_some_and(|(_, rest)| {
                let table = rest.split([' ', '(']).next().unwrap_or_default();
                text.contains(&format!("CREATE TABLE {table} "))
            });
            let is_taken = takes.iter().any(|words| statement.contains(words) && !(words.ends_with("INDEX") && is_own));
            assert!(!is_taken && !has_no_default, "{number} takes from programs of the version before: {statement}");
        }
    }
}

#[tokio::test]
async fn on_postgres_ids_have_the_order_of_bytes_and_customers_change_in_place() {
    let fixture = StoreFixture::open(TestDatabase::postgres(), 0).await;
    fixture.ends("C-1", Fate::Superseded).await;
    let mut connection = connect(&fixture.url).await;
    let others = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text' \
                  AND table_name IN ('events', 'lanes', 'customers', 'calls', 'notices', 'watched', 'pumps', 'admissions', 'audit') \
                  AND (column_name IN ('id', 'lane', 'origin', 'begun', 'seq', 'order_key', 'heat_pump', 'customer') \
                  OR column_name LIKE '%\\_id') AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(number(&mut connection, others).await, 0);
    let mut transaction = connection.begin().await.expect("it begins");
    let update = "UPDATE customers SET state = state || ' ' WHERE lane = 'C-1'";
    sqlx::query(update).execute(&mut *transaction).await.expect("written");
    let hot = "SELECT pg_stat_get_xact_tuples_hot_updated('customers'::regclass)";
    let hot: i64 = sqlx::query_scalar(hot).fetch_one(&mut *transaction).await.expect("counted");
    assert_eq!(hot, 1, "the new version is on the page of the old one");
    transaction.rollback().await.expect("it ends");
}
