//! The gauges of a PostgreSQL server, against real ones: dead rows, open transactions, standbys, and what a role may not see.

use std::sync::Arc;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::verdict::Fate;
use podero_bridge::metrics::Metrics;
use podero_bridge::store::{Settings, Store};
use podero_bridge::upkeep::Measuring;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::spawn_blocking;

use crate::kit::{Fixture, StoreFixture, TestDatabase};
use crate::servers::{LogReader, Postgres};
use crate::world::{Database, Settings as BridgeSettings, World, until};

/// The name of every gauge of a server that has no standby.
const ALONE: [&str; 5] = [
    "table_live_rows{table=\"lanes\"}",
    "table_dead_rows{table=\"lanes\"}",
    "oldest_transaction_age_seconds",
    "xmin_age_transactions",
    "slot_wal_bytes",
];

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the database is there")
}

async fn run_sql(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("it runs");
}

async fn restart(postgres: &Arc<Postgres>) {
    let postgres = postgres.clone();
    let restarting = spawn_blocking(move || {
        postgres.stop();
        postgres.start_again();
    });
    restarting.await.expect("it is back");
}

/// Restarts a server with a setting that needs it.
async fn restart_with(postgres: &Arc<Postgres>, setting: &str) {
    run_sql(&mut connect(&postgres.url()).await, &format!("ALTER SYSTEM SET {setting}")).await;
    restart(postgres).await;
}

/// Measures a store's server as the bridge does.
struct Measured {
    measuring: Measuring,
}

impl Measured {
    fn of(store: &Store) -> Self {
        Self { measuring: Measuring { store: store.clone(), metrics: Metrics::new() } }
    }

    /// As a role, on tables that are there.
    async fn of_role(url: &str, role: &str) -> Self {
        let url = url.replace("postgres@", &format!("{role}@"));
        let settings = Settings { url, targets: Vec::new(), works: false };
        let (store, writer) = Store::open(settings, Clock::system()).await.expect("the role reads the tables");
        tokio::spawn(writer.run());
        Self::of(&store)
    }

    /// The value of a gauge now; `None`: it is absent.
    async fn now(&self, gauge: &str) -> Option<f64> {
        self.measuring.step().await;
        let text = self.measuring.metrics.encode();
        text.lines()
            .find_map(|line| line.strip_prefix("podero_bridge_store_")?.strip_prefix(gauge)?.trim().parse().ok())
    }

    async fn all(&self, gauges: &[&str]) -> Vec<Option<f64>> {
        let mut values = Vec::new();
        for gauge in gauges {
            values.push(self.now(gauge).await);
        }
        values
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_are_seen_after_updates() {
    let fixture = StoreFixture::open(TestDatabase::postgres(), 0).await;
    let mut admin = connect(&fixture.url).await;
    run_sql(&mut admin, "ALTER TABLE lanes SET (autovacuum_enabled = false)").await;
    let measured = Measured::of(&fixture.store);
    assert_eq!(measured.now("table_dead_rows{table=\"lanes\"}").await, Some(0.0));
    for number in 0..20 {
        fixture.ends(&format!("C-{number}"), Fate::Superseded).await;
    }
    // A server's session tells of its rows a second later.
    let dead = until("dead rows are counted", async || {
        measured.now("table_dead_rows{table=\"lanes\"}").await.filter(|dead| *dead > 0.0)
    })
    .await;
    assert!(measured.now("table_live_rows{table=\"lanes\"}").await.is_some_and(|live| live > 0.0));
    run_sql(&mut admin, "VACUUM lanes").await;
    until("the vacuum is seen", async || {
        measured.now("table_dead_rows{table=\"lanes\"}").await.filter(|left| *left < dead)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_seen_until_it_ends() {
    let fixture = StoreFixture::open(TestDatabase::postgres(), 0).await;
    let measured = Measured::of(&fixture.store);
    let age = "oldest_transaction_age_seconds";
    assert!(measured.now(age).await.expect("the role sees all") < 1.0);
    let mut other = connect(&fixture.url).await;
    run_sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT COUNT(*) FROM lanes").await;
    until("it grows old", async || measured.now(age).await.filter(|age| *age >= 1.0)).await;
    // Other transactions begin, and its snapshot holds back vacuum.
    for number in 0..5 {
        fixture.ends(&format!("C-{number}"), Fate::Superseded).await;
    }
    assert!(measured.now("xmin_age_transactions").await.expect("the role sees all") >= 5.0);
    run_sql(&mut other, "COMMIT").await;
    until("it has ended", async || measured.now(age).await.filter(|age| *age < 1.0)).await;
}

/// It has no session, and outlives the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_seen_until_it_ends() {
    let postgres = Arc::new(spawn_blocking(Postgres::start).await.expect("a cluster"));
    restart_with(&postgres, "max_prepared_transactions = 1").await;
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
    let fixture = StoreFixture::on(postgres.url(), clock).await;
    let measured = Measured::of(&fixture.store);
    let age = "oldest_transaction_age_seconds";
    let prepare = "BEGIN; CREATE TABLE forgotten (x INT); PREPARE TRANSACTION 'forgotten'";
    run_sql(&mut connect(&postgres.url()).await, prepare).await;
    for number in 0..5 {
        fixture.ends(&format!("C-{number}"), Fate::Superseded).await;
    }
    until("it grows old", async || measured.now(age).await.filter(|age| *age >= 1.0)).await;
    restart(&postgres).await;
    let xmin_age = until("the server is back", async || measured.now("xmin_age_transactions").await).await;
    assert!(xmin_age >= 5.0, "{xmin_age}");
    assert!(measured.now(age).await.is_some_and(|age| age >= 1.0));
    run_sql(&mut connect(&postgres.url()).await, "ROLLBACK PREPARED 'forgotten'").await;
    until("it has ended", async || measured.now(age).await.filter(|age| *age < 1.0)).await;
    assert!(measured.now("xmin_age_transactions").await.is_some_and(|age| age < xmin_age));
    spawn_blocking(move || drop(postgres)).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn logical_subscribers_and_archivers_are_no_standbys() {
    let primary = Arc::new(spawn_blocking(Postgres::start).await.expect("a cluster"));
    restart_with(&primary, "wal_level = logical").await;
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
    let fixture = StoreFixture::on(primary.url(), clock).await;
    let measured = Measured::of(&fixture.store);
    let mut admin = connect(&primary.url()).await;
    let mut streams = async |readers: i64| {
        until("the readers stream", async || {
            let count = "SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming'";
            let found: i64 = sqlx::query_scalar(count).fetch_one(&mut admin).await.expect("it answers");
            (found == readers).then_some(())
        })
        .await;
    };
    let server = primary.clone();
    let readers = spawn_blocking(move || [LogReader::logical(&server), LogReader::archive(&server)]);
    let readers = readers.await.expect("they start");
    streams(2).await;
    let lag = "replay_lag_bytes";
    fixture.ends("C-1", Fate::Superseded).await;
    assert_eq!(measured.all(&["standbys", lag]).await, [Some(0.0), None]);
    let server = primary.clone();
    let standby = spawn_blocking(move || Postgres::standby_of(&server)).await.expect("a standby");
    streams(3).await;
    until("the standby is seen", async || measured.now(lag).await).await;
    assert_eq!(measured.now("standbys").await, Some(1.0));
    spawn_blocking(move || drop((readers, standby, primary))).await.expect("stopped");
}

/// With a standby: it is seen, and so is a slot that no standby reads. A role without rights sees the tables alone; with them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_seen_by_a_role_that_may_and_is_absent_for_another() {
    let (primary, standby) = spawn_blocking(|| {
        let primary = Postgres::start();
        let standby = Postgres::standby_of(&primary);
        (primary, standby)
    })
    .await
    .expect("clusters");
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
    let fixture = StoreFixture::on(primary.url(), clock).await;
    let measured = Measured::of(&fixture.store);
    until("the standby streams", async || measured.now("standbys").await.filter(|standbys| *standbys == 1.0)).await;
    let lag = "replay_lag_bytes";
    until("it has replayed all", async || measured.now(lag).await.filter(|bytes| *bytes < 1_000.0)).await;
    assert_eq!(measured.now("slot_wal_bytes").await, Some(0.0));
    let mut admin = connect(&primary.url()).await;
    run_sql(&mut admin, "SELECT pg_create_physical_replication_slot('unread', true)").await;
    let mut other = connect(&standby.url()).await;
    run_sql(&mut other, "SELECT pg_wal_replay_pause()").await;
    for number in 0..20 {
        fixture.ends(&format!("C-{number}"), Fate::Superseded).await;
    }
    until("the standby is behind", async || measured.now(lag).await.filter(|bytes| *bytes > 1_000.0)).await;
    assert!(measured.now("slot_wal_bytes").await.expect("seen") > 1_000.0);

    run_sql(&mut admin, "CREATE ROLE plain LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain").await;
    let plain = Measured::of_role(&primary.url(), "plain").await;
    assert_eq!(
        plain.all(&["oldest_transaction_age_seconds", "xmin_age_transactions", "standbys", lag]).await,
        [None; 4]
    );
    assert!(plain.all(&["table_dead_rows{table=\"lanes\"}", "slot_wal_bytes"]).await.iter().all(Option::is_some));
    run_sql(&mut admin, "GRANT pg_monitor TO plain").await;
    let all = plain.all(&["oldest_transaction_age_seconds", "xmin_age_transactions", "standbys", lag]).await;
    assert!(all.iter().all(Option::is_some), "{all:?}");
    spawn_blocking(move || drop((standby, primary))).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_of_a_server_are_absent_while_it_is_away_and_on_sqlite() {
    let on_file = StoreFixture::on_sqlite().await;
    assert_eq!(Measured::of(&on_file.store).all(&ALONE).await, [None; ALONE.len()]);
    let postgres = spawn_blocking(Postgres::start).await.expect("a cluster");
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
    let fixture = StoreFixture::on(postgres.url(), clock).await;
    let measured = Measured::of(&fixture.store);
    assert!(measured.all(&ALONE).await.iter().all(Option::is_some));
    let postgres = spawn_blocking(move || {
        postgres.stop();
        postgres
    });
    let postgres = postgres.await.expect("stopped");
    assert_eq!(measured.all(&ALONE).await, [None; ALONE.len()]);
    spawn_blocking(move || drop(postgres)).await.expect("gone");
}

/// The whole bridge measures as soon as it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_on_postgres_shows_them() {
    let database = TestDatabase::postgres();
    let settings = BridgeSettings { toml: "[watch]\nenabled = false\n".into(), ..BridgeSettings::default() };
    let world = World::start(Database::Postgres(database.url), settings).await;
    let began = tokio::time::Instant::now();
    until("the server is measured", async || world.metric("podero_bridge_store_standbys").await).await;
    assert!(began.elapsed() < Duration::from_secs(15), "with the start, and not an interval later");
    world.bridge.stop().await;
}
