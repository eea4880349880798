//! The SQLite file: where it is, its copies, and the schema of what is opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::store::{Error, OpenError, Settings, Store};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use crate::running::{self, Environment, Running};
use crate::servers;
use crate::world::until;

/// Opens a store; `works` as a bridge does, else as a command.
async fn open(url: &str, works: bool) -> Result<Store, OpenError> {
    let settings = Settings { url: url.to_owned(), targets: Vec::new(), works };
    let (store, writer) = Store::open(settings, Clock::system()).await?;
    tokio::spawn(writer.run());
    Ok(store)
}

/// A folder with the store of a bridge that has ended, and its settings.
async fn ended() -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    drop(open(&environment[0].1, true).await.expect("it is made"));
    (folder, environment)
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.expect("the database is there")
}

async fn run_sql(url: &str, sql: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("it runs");
    connection.close().await.expect("closed");
}

async fn schema_of(url: &str) -> i64 {
    let mut connection = connect(url).await;
    let query = "SELECT MAX(version) FROM _sqlx_migrations";
    let version = sqlx::query(query).fetch_one(&mut connection).await.expect("a row").try_get(0).expect("a number");
    connection.close().await.expect("closed");
    version
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// A command that ended with this status and said these words.
#[track_caller]
pub fn expect(output: &Output, code: i32, words: &str) {
    let said = running::said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{words:?} is not in\n{said}");
}

fn backup(folder: &Path, to: &OsStr, environment: &Environment) -> Output {
    running::command(&["backup"], environment).arg(to).current_dir(folder).output().expect("it runs")
}

#[tokio::test]
async fn a_backup_has_the_name_it_was_given_and_only_when_it_is_whole() {
    let (folder, environment) = ended().await;
    let copies = folder.path().join("copies");
    std::fs::create_dir_all(copies.join("inner")).expect("a folder");
    for name in ["a?b.db", "a%20b.db", "a b.db", "a:b.db", "file:u.db", "file:u.db?mode=memory", "ä.db", "a\\b.db"] {
        expect(&backup(&copies, OsStr::new(name), &environment), 0, "ok");
        let copy = copies.join(name);
        assert!(std::fs::read(&copy).expect("a file").starts_with(b"SQLite format 3"), "{name}");
        assert_eq!(mode(&copy), 0o600, "{name}");
    }
    expect(&backup(&copies, OsStr::new("inner/../up.db"), &environment), 0, "ok");
    assert!(copies.join("up.db").is_file());
    expect(&backup(&copies, OsStr::from_bytes(b"a\xff.db"), &environment), 64, "UTF-8");
    expect(&backup(&copies, OsStr::new(".."), &environment), 64, "name");
    std::os::unix::fs::symlink("nowhere", copies.join("link.db")).expect("a symlink");
    expect(&backup(&copies, OsStr::new("link.db"), &environment), 1, "something already");
    expect(&backup(&copies, OsStr::new("none/x.db"), &environment), 1, "folder");
    let names = std::fs::read_dir(&copies).expect("a folder").count();
    assert_eq!(names, 8 + 1 + 2, "nothing else is left");
}

#[tokio::test]
async fn a_backup_holds_what_a_killed_bridge_left_in_the_log() {
    let (folder, copies) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let environment = running::on_file(folder.path());
    let store = open(&environment[0].1, true).await.expect("it is made");
    for name in ["bridge.db", "bridge.db-wal"] {
        std::fs::copy(folder.path().join(name), copies.path().join(name)).expect("copied");
    }
    drop(store);
    expect(&backup(copies.path(), OsStr::new("x.db"), &running::on_file(copies.path())), 0, "ok");
    let copied = schema_of(&format!("sqlite://{}", copies.path().join("x.db").display())).await;
    assert_eq!(copied, schema_of(&environment[0].1).await);
}

#[tokio::test]
async fn a_command_does_not_touch_a_file_that_is_no_store() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bridge.db"), "").expect("written");
    expect(&running::run(&["parked", "list"], &running::on_file(folder.path())), 1, "of schema 0");
    assert_eq!(std::fs::read(folder.path().join("bridge.db")).expect("a file").len(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing beside it");
}

#[tokio::test]
async fn a_backup_that_is_interrupted_leaves_nothing() {
    let (folder, environment) = ended().await;
    // Large enough that its copying takes a while.
    let fill = "CREATE TABLE ballast (bytes BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                WHERE i < 300) INSERT INTO ballast SELECT randomblob(1000000) FROM n;";
    run_sql(&environment[0].1, fill).await;
    let copies = folder.path().join("copies");
    std::fs::create_dir(&copies).expect("a folder");
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut child = running::command(&["backup", "x.db"], &environment)
            .current_dir(&copies)
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        until("it has begun", async || {
            let mut inside = std::fs::read_dir(&copies).expect("a folder").flatten();
            inside.find(|entry| entry.path().join("copy.db").is_file())
        })
        .await;
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let code = child.wait().expect("it ends").code();
        assert!(!copies.join("x.db").exists(), "no half backup has the name after {signal}");
        if signal != "-KILL" {
            assert_eq!(code, Some(1));
            assert_eq!(std::fs::read_dir(&copies).expect("a folder").count(), 0, "{signal} leaves nothing");
        }
    }
    expect(&backup(&copies, OsStr::new("x.db"), &environment), 0, "ok");
}

#[tokio::test]
async fn the_path_of_the_store_is_read_literally_and_what_is_made_is_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = |name: &str| folder.path().join(name);
    std::fs::create_dir(inside("x")).expect("a folder");
    for (name, file) in [
        ("a%20b.db", "a%20b.db"),
        ("a b.db", "a b.db"),
        ("a:b.db", "a:b.db"),
        ("a?b.db", "a?b.db"),
        ("a#b.db", "a#b.db"),
        ("x/../c.db", "c.db"),
        ("new/deep/d.db", "new/deep/d.db"),
    ] {
        let url = format!("sqlite://{}/{name}", folder.path().display());
        let store = open(&url, true).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(open(&url, true).await, Err(OpenError::InUse)), "{name} has a lock");
        assert!(open(&url, false).await.is_ok(), "{name} is found by a command");
        for made in [file.to_owned(), format!("{file}-wal"), format!("{file}.lock")] {
            assert_eq!(mode(&inside(&made)), 0o600, "{made}");
        }
        drop(store);
    }
    assert_eq!((mode(&inside("new")), mode(&inside("new/deep"))), (0o700, 0o700));
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("a folder")
            .filter(|entry| {
                let name = entry.as_ref().expect("an entry").file_name();
                name.to_string_lossy().ends_with(".db")
            })
            .count(),
        6,
        "no file of another name"
    );
}

#[tokio::test]
async fn a_file_has_one_lock_however_it_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = |name: &str| format!("sqlite://{}/{name}", folder.path().display());
    // One that leads to a file that is to be made.
    std::os::unix::fs::symlink("real.db", folder.path().join("link.db")).expect("a symlink");
    std::os::unix::fs::symlink(".", folder.path().join("again")).expect("a symlink");
    let store = open(&url("link.db"), true).await.expect("it is made");
    assert_eq!(mode(&folder.path().join("real.db")), 0o600);
    for name in ["real.db", "./real.db", "link.db", "again/real.db", "again/again/link.db"] {
        let second = open(&url(name), true).await.map(|_| ());
        assert!(matches!(second, Err(OpenError::InUse)), "{name}: {second:?}");
    }
    assert!(!folder.path().join("link.db.lock").exists());
    drop(store);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "").expect("written");
    for (path, words) in [("", "this is no file"), ("/file/x.db", "Not a directory")] {
        let path = format!("{}{path}", folder.path().display());
        let mut environment = running::on_file(folder.path());
        environment[0].1 = format!("sqlite://{path}");
        let output = running::run(&["serve", "--sandbox"], &environment);
        expect(&output, 1, words);
        assert!(running::said(&output).contains(&path), "{}", running::said(&output));
    }
    for url in ["sqlite://", "sqlite::memory:", "sqlite://x.db?mode=memory"] {
        let mut environment = running::on_file(folder.path());
        environment[0].1 = url.to_owned();
        expect(&running::run(&["serve", "--sandbox"], &environment), 64, "store.url");
    }
}

#[tokio::test]
async fn a_command_leaves_the_schema_as_it_is_and_a_backup_takes_any() {
    let (folder, environment) = ended().await;
    let url = &environment[0].1;
    let known = schema_of(url).await;
    let copy_url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    run_sql(url, &format!("DELETE FROM _sqlx_migrations WHERE version = {known}")).await;
    expect(&running::run(&["parked", "list"], &environment), 1, "start `podero-bridge serve` of this version once");
    expect(&backup(folder.path(), OsStr::new("old.db"), &environment), 0, "ok");
    let older = schema_of(url).await;
    assert!(older < known, "{older}");
    assert_eq!(schema_of(&copy_url("old.db")).await, older);
    let newer = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT version, description, success, checksum, execution_time FROM (SELECT {known} AS version, description, \
         success, checksum, execution_time FROM _sqlx_migrations UNION ALL SELECT 99, description, success, checksum, \
         execution_time FROM _sqlx_migrations) WHERE true GROUP BY version; UPDATE schema_floor SET version = 99"
    );
    run_sql(url, &newer).await;
    for arguments in [&["parked", "list"][..], &["serve", "--sandbox"]] {
        expect(&running::run(arguments, &environment), 1, "run the newer version");
    }
    expect(&backup(folder.path(), OsStr::new("new.db"), &environment), 0, "ok");
    assert_eq!((schema_of(url).await, schema_of(&copy_url("new.db")).await), (99, 99));
}

#[tokio::test]
async fn on_postgres_a_command_makes_no_schema_and_a_bridge_refuses_a_newer_one() {
    let url = servers::fresh_database();
    for _ in 0..2 {
        let found = open(&url, false).await.map(|_| ());
        assert!(matches!(found, Err(OpenError::Older { found: 0, .. })), "{found:?}");
    }
    drop(open(&url, true).await.expect("a bridge makes it"));
    drop(open(&url, false).await.expect("and a command uses it"));
    run_sql(&url, "UPDATE _sqlx_migrations SET version = 99 WHERE version = 1; UPDATE schema_floor SET version = 99")
        .await;
    for works in [true, false] {
        let found = open(&url, works).await.map(|_| ());
        assert!(matches!(found, Err(OpenError::Newer { found: 99, .. })), "{found:?}");
    }
}

#[tokio::test]
async fn on_postgres_what_only_a_person_can_mend_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = running::on_file(folder.path());
    environment[0].1 = servers::postgres_url().replace("bridge_test", "no_such_database");
    expect(&running::run(&["serve", "--sandbox"], &environment), 1, "SQLSTATE 3D000: the database does not exist");
}

#[tokio::test]
async fn on_postgres_a_server_that_starts_or_is_full_is_waited_for() {
    let postgres = servers::Postgres::start();
    run_sql(&postgres.url(), "CREATE ROLE late LOGIN CONNECTION LIMIT 0").await;
    let mut full = url::Url::parse(&postgres.url()).expect("a URL");
    full.set_username("late").expect("it has a host");
    let found = open(full.as_str(), true).await.map(|_| ());
    assert!(matches!(found, Err(OpenError::Failed(Error::Away(_)))), "{found:?}");
    full.set_username("nobody").expect("it has a host");
    let found = open(full.as_str(), true).await.map(|_| ());
    assert!(matches!(found, Err(OpenError::Unusable(_))), "{found:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = running::on_file(folder.path());
    environment[0].1 = postgres.url();
    postgres.stop();
    let starting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        postgres.start_again();
        postgres
    });
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    assert!(bridge.log().contains("the store is not there yet"), "{}", bridge.log());
    assert_eq!(bridge.terminate(), Some(0));
    drop(starting.join().expect("it started"));
}

#[tokio::test]
async fn on_postgres_a_migration_waits_for_its_locks_as_long_as_it_takes() {
    let url = servers::fresh_database();
    let mut other = connect(&url).await;
    sqlx::raw_sql("BEGIN; CREATE TABLE _sqlx_migrations (x INT);").execute(&mut other).await.expect("it runs");
    let release = async {
        // Longer than any other statement waits for a lock.
        podero_bridge::pump::sleep(Duration::from_secs(7)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("it runs");
    };
    let (opened, ()) = tokio::join!(open(&url, true), release);
    drop(opened.expect("it waits and goes on"));
}
