//! PostgreSQL as people run it: behind PgBouncer, as several hosts with a failover, with few connections, and with a role that may
//! not change tables.
//!
//! Each cell of the table "Behind a pooler" in docs/INSTALL.md is a test of this file, or of `chaos/servers.rs` (under load).

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::clock::Clock;
use podero_bridge::pump;
use podero_bridge::store::{OpenError, Settings, Store, Target};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::time::Instant;

use crate::running::{self, Environment, Running, said};
use crate::servers::{self, POOL_SIZE, Pooler, Postgres};
use crate::world::until;
use crate::writing::ProcessWorld;

/// Limit of the time in which a command says that something does not fit.
const SAID_WITHIN: Duration = Duration::from_secs(20);

/// Connections of a pooler that clients must share.
const SMALL_POOL: u32 = 3;

async fn run_sql(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the database is there");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("it runs");
    connection.close().await.expect("closed");
}

/// The settings of a bridge with this store, and a folder for its log.
fn settings(url: &str) -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = running::on_file(folder.path());
    environment[0].1 = url.to_owned();
    (folder, environment)
}

/// A command on this store; its exit status and words, which come soon.
fn command(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let (_folder, environment) = settings(url);
    let started = Instant::now();
    let mut program = Command::new("timeout");
    program
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .arg(SAID_WITHIN.as_secs().to_string())
        .arg(env!("CARGO_BIN_EXE_podero-bridge"))
        .args(arguments);
    let output = running::with(program, &environment).output().expect("it runs");
    assert!(started.elapsed() < SAID_WITHIN, "{arguments:?} took {:?}: {}", started.elapsed(), said(&output));
    (output.status.code(), said(&output))
}

fn expect(arguments: &[&str], url: &str, status: i32, words: &str) {
    let (code, said) = command(arguments, url);
    assert_eq!(code, Some(status), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {words} is not in\n{said}");
}

/// Serves, takes events to their effect, and runs the commands that read, write and erase.
async fn does_everything(url: &str) {
    let (folder, environment) = settings(url);
    let world = ProcessWorld::start(folder.path(), &environment);
    for number in 1..=20 {
        world.recovers(number).await;
    }
    until("all are applied", async || (command(&["events", "list"], url).1.lines().count() <= 1).then_some(())).await;
    expect(&["customers", "show", "C-7"], url, 0, "applied");
    expect(&["parked", "list"], url, 0, "");
    expect(&["operator", "list"], url, 0, "");
    expect(&["audit", "verify"], url, 0, "");
    expect(&["erase", "C-7", "--force"], url, 0, "erased: 1 events");
    assert_eq!(world.bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_works_behind_a_pooler_of_sessions() {
    works_and_leaves_nothing(|database| Pooler::start("session", database, POOL_SIZE), POOL_SIZE).await;
}

/// Behind a pooler with `connections` connections a bridge works, and leaves no setting and no prepared statement to other clients.
async fn works_and_leaves_nothing(start: impl Fn(&str) -> Pooler, connections: u32) {
    let database = servers::fresh_database();
    let (_, name) = database.rsplit_once('/').expect("a URL with a database");
    run_sql(&database, &format!("ALTER DATABASE \"{name}\" SET synchronous_commit = off")).await;
    let pooler = start(&database);
    let url = pooler.url_of(&database);
    does_everything(&url).await;
    // All of the pooler's connections at once, each for another client.
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = plain(&url).await;
        sqlx::raw_sql("BEGIN").execute(&mut client).await.expect("it runs");
        clients.push(client);
    }
    for client in &mut clients {
        let left = "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout') || ' ' || \
                    current_setting('idle_in_transaction_session_timeout') || ' ' || current_setting('enable_seqscan') \
                    || ' ' || current_setting('synchronous_commit') || ' ' || (SELECT COUNT(*) FROM pg_prepared_statements)";
        let row = sqlx::raw_sql(left).fetch_one(client).await.expect("it runs");
        assert_eq!(row.get::<String, _>(0), "0 0 0 on off 0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_works_behind_a_pooler_of_transactions() {
    works_and_leaves_nothing(|database| Pooler::start("transaction", database, SMALL_POOL), SMALL_POOL).await;
}

/// As many are told to be, for other clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_drops_start_parameters_is_recognised_as_well() {
    let ignored = "extra_float_digits, options";
    works_and_leaves_nothing(|database| Pooler::that_ignores(ignored, "transaction", database, SMALL_POOL), SMALL_POOL)
        .await;
}

/// Makes the database note the `synchronous_commit` under which each event is written.
async fn notes_commits(database: &str) {
    drop(open(database).await.expect("the tables are made"));
    let notes = "CREATE TABLE met (setting TEXT NOT NULL); CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO met VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; \
                 CREATE TRIGGER meet AFTER INSERT OR UPDATE ON events FOR EACH ROW EXECUTE FUNCTION meet()";
    run_sql(database, notes).await;
}

/// The different values that [`notes_commits`] has noted.
async fn noted_commits(database: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(database).await.expect("the database is there");
    let noted = sqlx::query_scalar("SELECT DISTINCT setting FROM met ORDER BY setting");
    noted.fetch_all(&mut connection).await.expect("it answers")
}

/// A server or a role whose default lets a commit be lost does not make the bridge's commits so.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_disk_whatever_the_default_of_the_database() {
    let database = servers::fresh_database();
    notes_commits(&database).await;
    let (_, name) = database.rsplit_once('/').expect("a URL with a database");
    let pooler = Pooler::start("transaction", &database, SMALL_POOL);
    // The second is an operator's choice that loses no commit of this server: it stays.
    for (turn, (default, expected)) in [("off", "on"), ("local", "local")].into_iter().enumerate() {
        for (way, url) in [database.clone(), pooler.url_of(&database)].into_iter().enumerate() {
            let set = format!("TRUNCATE met; ALTER DATABASE \"{name}\" SET synchronous_commit = {default}");
            run_sql(&database, &set).await;
            // A connection keeps the default from its beginning.
            pooler.stop();
            pooler.start_again();
            let (folder, environment) = settings(&url);
            let world = ProcessWorld::start(folder.path(), &environment);
            world.recovers(2 * turn + way).await;
            assert_eq!(world.bridge.terminate(), Some(0));
            assert_eq!(noted_commits(&database).await, [expected], "{default}, {url}");
        }
    }
}

/// A server that is told another default while the bridge works does not take it from the bridge's commits either.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_disk_after_a_reload_of_the_server() {
    let postgres = Postgres::start();
    let database = postgres.url();
    notes_commits(&database).await;
    let poolers = ["session", "transaction"].map(|mode| Pooler::start(mode, &database, POOL_SIZE));
    let ways: Vec<String> =
        [database.clone()].into_iter().chain(poolers.iter().map(|it| it.url_of(&database))).collect();
    // Of a connection that has no setting of its own, the default is what it has.
    let mut other = PgConnection::connect(&database).await.expect("the database is there");
    for (way, url) in ways.iter().enumerate() {
        run_sql(&database, "TRUNCATE met").await;
        let (folder, environment) = settings(url);
        let world = ProcessWorld::start(folder.path(), &environment);
        world.recovers(2 * way).await;
        run_sql(&database, "ALTER SYSTEM SET synchronous_commit = off").await;
        run_sql(&database, "SELECT pg_reload_conf()").await;
        until("the default is the new one", async || {
            let row = sqlx::raw_sql("SHOW synchronous_commit").fetch_one(&mut other).await.expect("it answers");
            (row.get::<String, _>(0) == "off").then_some(())
        })
        .await;
        world.recovers(2 * way + 1).await;
        assert_eq!(world.bridge.terminate(), Some(0));
        assert_eq!(noted_commits(&database).await, ["on"], "{url}");
        run_sql(&database, "ALTER SYSTEM RESET synchronous_commit").await;
        run_sql(&database, "SELECT pg_reload_conf()").await;
    }
}

/// The server itself gives up a wait for a lock, and a statement that does not end: a client that only went away would leave it waiting.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_gives_up_a_write_that_waits_or_runs_too_long() {
    let database = servers::fresh_database();
    let poolers = ["session", "transaction"].map(|mode| Pooler::start(mode, &database, SMALL_POOL));
    let ways = [database.clone()].into_iter().chain(poolers.iter().map(|it| it.url_of(&database)));
    let mut stores = Vec::new();
    for url in ways {
        let settings = Settings { url, targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(settings, Clock::system()).await.expect("the store opens");
        tokio::spawn(writer.run());
        stores.push(store);
    }
    let fail = async |reason: &str| {
        let writes = stores.iter().map(|store| store.due_notices(Target::Amqp, 1, Duration::from_secs(60)));
        for error in join_all(writes).await.into_iter().map(|written| written.expect_err("it does not end")) {
            assert!(error.to_string().contains(reason), "{error}");
        }
        let mut connection = PgConnection::connect(&database).await.expect("the database is there");
        let running = "SELECT query FROM pg_stat_activity \
                       WHERE datname = current_database() AND state = 'active' \
                       AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let running: Vec<String> = sqlx::query_scalar(running).fetch_all(&mut connection).await.expect("it answers");
        assert!(running.is_empty(), "still at the server: {running:?}");
    };
    let mut other = PgConnection::connect(&database).await.expect("the database is there");
    let lock = "BEGIN; LOCK TABLE notices IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut other).await.expect("it is free");
    fail("locked by another session").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("it runs");
    let sleep = "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$; \
                 CREATE TRIGGER sleep BEFORE UPDATE ON notices FOR EACH STATEMENT EXECUTE FUNCTION sleep()";
    run_sql(&database, sleep).await;
    fail("the statement took too long").await;
}

/// A client without the start parameter that a pooler refuses.
async fn plain(url: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    PgConnection::connect_with(&options.extra_float_digits(None)).await.expect("the pooler is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_pooler_is_said_within_seconds() {
    let database = servers::fresh_database();
    let pooler = Pooler::start("statement", &database, POOL_SIZE);
    let url = pooler.url_of(&database);
    let does_not_fit = "pool_mode = statement does not fit; session and transaction do";
    for arguments in [&["serve", "--sandbox"][..], &["migrate"]] {
        expect(arguments, &url, 1, does_not_fit);
    }
    drop(open(&database).await.expect("the tables are made"));
    for arguments in [&["serve", "--sandbox"][..], &["migrate"], &["parked", "list"]] {
        expect(arguments, &url, 1, does_not_fit);
    }
    let with_options = |url: &str| format!("{url}?options=-c%20search_path%3Dpublic");
    expect(&["parked", "list"], &with_options(&database), 0, "");
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(mode, &database, 1);
        let url = pooler.url_of(&database);
        expect(&["serve", "--sandbox"], &url.replace("postgres@", "nobody@"), 1, "it knows no such user");
        expect(&["serve", "--sandbox"], &with_options(&url), 1, "it takes no `options` of store.url");
        // The only connection is another client's.
        let mut other = plain(&url).await;
        sqlx::raw_sql("BEGIN").execute(&mut other).await.expect("it runs");
        expect(&["parked", "list"], &url, 1, "its pool is too small");
        other.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_that_the_server_behind_a_pooler_is_away() {
    for mode in ["session", "transaction"] {
        let postgres = Postgres::start();
        let pooler = Pooler::start(mode, &postgres.url(), POOL_SIZE);
        let url = pooler.url_of(&postgres.url());
        postgres.stop();
        let started = Instant::now();
        let (folder, environment) = settings(&url);
        let log = folder.path().join("bridge.log");
        let starting = std::thread::spawn(move || Running::start(folder.path(), &["--sandbox"], &environment));
        until("it says that it waits", async || {
            std::fs::read_to_string(&log).ok()?.contains("the store is not there yet").then_some(())
        })
        .await;
        assert!(started.elapsed() < SAID_WITHIN, "{mode}: it took {:?}", started.elapsed());
        postgres.start_again();
        assert_eq!(starting.join().expect("it starts").terminate(), Some(0));
    }
}

// --- several hosts ---

/// The URL of one database that any of these hosts may have.
fn of_hosts(urls: &[String]) -> String {
    let split = |url: &str| {
        let (before, behind) = url.split_once('@').expect("a user");
        let (host, path) = behind.split_once('/').expect("a database");
        [before.to_owned(), host.to_owned(), path.to_owned()]
    };
    let hosts: Vec<String> = urls.iter().map(|url| split(url)[1].clone()).collect();
    let [before, _, path] = split(&urls[0]);
    format!("{before}@{}/{path}", hosts.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_bridge_goes_on_at_the_host_that_writes() {
    let primary = Postgres::start();
    let standby = Postgres::standby_of(&primary);
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        run_sql(&primary.url(), sql).await;
    }
    let url = of_hosts(&[standby.url(), primary.url()]) + "?target_session_attrs=read-write";
    let (folder, environment) = settings(&url);
    let world = ProcessWorld::start(folder.path(), &environment);
    for number in 1..=10 {
        world.recovers(number).await;
    }
    primary.kill();
    world.says("[-] store: ").await;
    expect(&["parked", "list"], &url, 1, "no host of store.url takes writes");
    run_sql(&standby.url(), "SELECT pg_promote()").await;
    world.recovers(11).await;
    expect(&["customers", "show", "C-10"], &url, 0, "C-10");
    let mut connection = PgConnection::connect(&standby.url()).await.expect("it was promoted");
    let kept: i64 = sqlx::query("SELECT COUNT(DISTINCT lane) FROM events WHERE lane LIKE 'C-%'")
        .fetch_one(&mut connection)
        .await
        .expect("it answers")
        .get(0);
    assert!(kept >= 11, "{kept} of the accepted events are left");
    assert_eq!(world.bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_those_that_are_away_are_passed_over() {
    let database = servers::fresh_database();
    let nothing = "postgres://postgres@127.0.0.1:1/x".to_owned();
    let url = of_hosts(&[database.clone(), nothing.clone()]);
    expect(&["migrate"], &url, 0, "made");
    let (user, _) = database.split_once('@').expect("a user");
    let path = database.rsplit('/').next().expect("a database");
    let url = format!("{user}@127.0.0.1:1,{}/{path}", database.split(['@', '/']).nth(3).expect("a host"));
    expect(&["parked", "list"], &url, 0, "");
    expect(
        &["parked", "list"],
        &format!("{url}?target_session_attrs=standby"),
        1,
        "must be read-write, primary or any",
    );
    // Read-only hosts are told from those that are away.
    let read_only = format!("ALTER DATABASE {path} SET default_transaction_read_only = on");
    run_sql(&database, &read_only).await;
    expect(&["parked", "list"], &url, 1, "no host of store.url takes writes");
    expect(&["parked", "list"], &format!("{url}?target_session_attrs=any"), 0, "");
}

// --- a server with few connections ---

/// Reads share the connections that the server has, and wait for one that it has a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn reads_wait_for_a_connection_that_the_server_cannot_spare() {
    let database = servers::fresh_database();
    let name = database.rsplit('/').next().expect("a name");
    let [owner, _] = roles(&database).await;
    let store = open(&owner).await.expect("the tables are made");
    let limit = async |connections: i32| {
        run_sql(&database, &format!("ALTER DATABASE {name} CONNECTION LIMIT {connections}")).await;
    };
    let take_all = async || {
        limit(0).await;
        // Returns when they are gone.
        let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'bridge_owner'";
        run_sql(&database, &format!("{end} AND datname = '{name}'")).await;
    };
    let read = async || store.parked(None).await;
    limit(1).await;
    let (first, second, third, fourth) = tokio::join!(read(), read(), read(), read());
    for found in [first, second, third, fourth] {
        found.expect("one connection is enough");
    }
    take_all().await;
    let release = async {
        pump::sleep(Duration::from_millis(500)).await;
        limit(-1).await;
    };
    let (found, ()) = tokio::join!(read(), release);
    found.expect("the server has connections again");
    take_all().await;
    let error = read().await.expect_err("the server has none");
    assert!(error.to_string().contains("it has no connection left"), "{error}");
}

// --- a role without the right to change tables ---

async fn open(url: &str) -> Result<Store, OpenError> {
    let settings = Settings { url: url.to_owned(), targets: Vec::new(), works: true };
    Store::open(settings, Clock::system()).await.map(|(store, _)| store)
}

/// The roles of docs/INSTALL.md, "A role without the right to change tables": the URLs of the owner and of the bridge.
async fn roles(database: &str) -> [String; 2] {
    let name = database.rsplit('/').next().expect("a name");
    for role in ["bridge_owner", "bridge"] {
        // Roles belong to the whole server, which other tests use too.
        let made = "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
        run_sql(database, &made.replace("{role}", role)).await;
    }
    run_sql(database, &format!("ALTER DATABASE {name} OWNER TO bridge_owner")).await;
    let url = |role: &str| database.replace("postgres@", &format!("{role}@"));
    let grant = "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bridge";
    run_sql(&url("bridge_owner"), grant).await;
    [url("bridge_owner"), url("bridge")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_ddl_rights_works_on_tables_that_migrate_made() {
    let database = servers::fresh_database();
    let [owner, bridge] = roles(&database).await;
    let denied = "may not change it (PostgreSQL answers SQLSTATE 42501";
    for url in [&bridge, &format!("{bridge}?application_name=x")] {
        expect(&["serve", "--sandbox"], url, 1, denied);
        expect(&["migrate"], url, 1, "run `podero-bridge migrate` with the URL of the role that owns the tables");
    }
    expect(&["parked", "list"], &bridge, 1, "or run `podero-bridge migrate`");
    expect(&["migrate"], &owner, 0, "made");
    expect(&["migrate"], &owner, 0, "as before");
    expect(&["migrate"], &bridge, 0, "as before");
    does_everything(&bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_ddl_rights_works_behind_a_pooler() {
    for mode in ["session", "transaction"] {
        let database = servers::fresh_database();
        let [owner, bridge] = roles(&database).await;
        let pooler = Pooler::start(mode, &database, POOL_SIZE);
        expect(&["migrate"], &pooler.url_of(&owner), 0, "made");
        does_everything(&pooler.url_of(&bridge)).await;
    }
}

/// Replicas that start together on an empty database make its tables once, and leave no lock behind.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_migrate_together_wait_for_each_other() {
    for mode in [None, Some("session"), Some("transaction")] {
        let database = servers::fresh_database();
        let pooler = mode.map(|mode| Pooler::start(mode, &database, POOL_SIZE));
        let url = pooler.as_ref().map_or(database.clone(), |pooler| pooler.url_of(&database));
        let opened = futures_util::future::join_all((0..4).map(|_| open(&url))).await;
        // They live, and so do their connections.
        let stores: Result<Vec<Store>, OpenError> = opened.into_iter().collect();
        let stores = stores.unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        let locks = "SELECT COUNT(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";
        let left = sqlx::raw_sql(locks).fetch_one(&mut plain(&url).await).await.expect("it answers");
        assert_eq!((left.get::<&str, _>(0), stores.len()), ("0", 4), "{mode:?}: a lock is left");
    }
}

/// On a file the command does the same, once no bridge works on it.
#[test]
fn a_file_is_migrated_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let migrate = || said(&running::run(&["migrate"], &environment));
    assert!(migrate().contains("made"));
    assert!(migrate().contains("as before"));
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    assert!(migrate().contains("another bridge works on this SQLite file"));
    assert_eq!(bridge.terminate(), Some(0));
}
