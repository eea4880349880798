//! The store's writing: whether it takes writes, what the bridge says of it meanwhile, and that a stop leaves one whole file.

use std::path::Path;
use std::process::Command;

use podero_bridge::clock::Clock;
use podero_bridge::domain::event::Transport;
use podero_bridge::domain::verdict::{Reason, unreadable_notice};
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::store::{Arrival, Content, Error, Settings, Store};
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use crate::chaos::disk::unshare;
use crate::running::{self, Environment, Running};
use crate::servers;
use crate::world::{sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.expect("the database is there")
}

async fn run_sql(connection: &mut AnyConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("it runs");
}

/// A bridge and a client that looks at it.
pub struct ProcessWorld {
    pub bridge: Running,
    http: reqwest::Client,
}

impl ProcessWorld {
    fn of(bridge: Running) -> Self {
        Self { bridge, http: reqwest::Client::new() }
    }

    pub fn start(folder: &Path, environment: &Environment) -> Self {
        Self::of(Running::start(folder, &["--sandbox"], environment))
    }

    /// The status, and whether the answer says when to come again.
    async fn post(&self, kind: &str, body: String) -> (u16, bool) {
        let request = self.http.post(format!("{}/v1/events", self.bridge.door)).header("content-type", kind);
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    }

    pub async fn send(&self, number: usize) -> (u16, bool) {
        let event = sign_up(&format!("evt-{number}"), &format!("C-{number}"), TIME);
        self.post("application/cloudevents+json", event.to_string()).await
    }

    async fn get(&self, path: &str) -> String {
        let answer = self.http.get(format!("{}{path}", self.bridge.operator)).send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    /// Waits until `/readyz` has this beginning of a line.
    pub async fn says(&self, words: &str) {
        until(words, async || self.get("/readyz").await.lines().any(|line| line.starts_with(words)).then_some(()))
            .await;
    }

    /// The value of the series as a truth: 1 is true. `None`: it is absent.
    async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(&format!("podero_bridge_{name} "))?.parse().ok())
    }

    /// A store that takes no writes, and one that takes them again.
    async fn refuses(&self, number: usize, words: &str) {
        self.says(&format!("[-] store: {words}")).await;
        assert_eq!(self.metric("store_writable").await, Some(0.0), "{words}");
        assert_eq!(self.send(number).await, (503, true), "{words}");
    }

    pub async fn recovers(&self, number: usize) {
        self.says("[+] store: ok").await;
        assert_ne!(self.metric("store_writable").await, Some(0.0));
        until("an event is taken", async || (self.send(number).await.0 == 202).then_some(())).await;
        until("the tables are counted", async || self.metric("events_pending").await).await;
    }
}

/// A bridge that works on a database of its own; with the folder that it runs in, and the database's URL.
async fn on_postgres() -> (tempfile::TempDir, String, ProcessWorld) {
    let (folder, url) = (tempfile::tempdir().expect("a folder"), servers::fresh_database());
    let mut environment = running::on_file(folder.path());
    environment[0].1 = url.clone();
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    (folder, url, world)
}

/// Says whether the name occurs in the file.
fn holds(path: &Path, word: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_readyz_tells_of_a_locked_table_and_of_a_read_only_database() {
    let (_folder, url, world) = on_postgres().await;

    let mut other = connect(&url).await;
    run_sql(&mut other, "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE;").await;
    world.refuses(2, "locked by another session for ").await;
    until("what cannot be counted is absent", async || world.metric("events_pending").await.is_none().then_some(()))
        .await;
    run_sql(&mut other, "ROLLBACK").await;
    world.recovers(3).await;

    let name = url.rsplit('/').next().expect("a name").to_owned();
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                        AND pid <> pg_backend_pid()";
    run_sql(&mut other, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on; {end_sessions}")).await;
    world.refuses(4, "read-only").await;
    // The bridge's sessions are left alone this time: it is to find out by itself.
    run_sql(&mut other, &format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    world.recovers(5).await;
    assert_eq!(world.bridge.terminate(), Some(0));
}

/// On SQLite `/readyz` reports a file that another process has locked and damaged pages.
#[tokio::test(flavor = "multi_thread")]
async fn readyz_tells_of_a_locked_or_damaged_sqlite_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;

    let mut other = connect(&environment[0].1).await;
    run_sql(&mut other, "BEGIN IMMEDIATE").await;
    world.refuses(2, "locked by another session for ").await;
    run_sql(&mut other, "ROLLBACK").await;
    world.recovers(3).await;

    run_sql(&mut other, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let path = folder.path().join("bridge.db");
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[4_096..].fill(0xa5);
    // In place: it is the same file.
    let file = std::fs::File::options().write(true).open(&path).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
    world.refuses(4, "damaged").await;
    until("the whole file was checked", async || world.bridge.log().contains("stays damaged").then_some(())).await;
    world.refuses(5, "damaged").await;
}

/// A start on a full disk waits for room and `/readyz` reports one that is full later.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_waits_for_room() {
    let Some(mut words) = unshare() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let place = disk.display();
    let script = format!(
        "mount -t tmpfs -o size=12m tmpfs {place} && {{ head -c 13M /dev/zero > {place}/ballast 2>/dev/null; \
         (sleep 3; rm {place}/ballast) & exec \"$0\" \"$@\"; }}"
    );
    words.extend(["bash".to_owned(), "-c".to_owned(), script]);
    let mut environment = running::on_file(folder.path());
    environment[0].1 = crate::kit::sqlite_url(&disk);
    let world = ProcessWorld::of(Running::start_through(folder.path(), &words, &environment));
    assert!(world.bridge.log().contains("the store is not there yet"), "{}", world.bridge.log());
    world.recovers(1).await;

    let ballast = Path::new("/proc").join(world.bridge.pid().to_string()).join("root");
    let ballast = ballast.join(disk.strip_prefix("/").expect("absolute")).join("ballast");
    let bytes = vec![0; 64 << 10];
    let mut number = 10;
    until("an arrival meets the full disk", async || {
        let mut file = std::fs::File::options().create(true).append(true).open(&ballast).expect("a file");
        while std::io::Write::write_all(&mut file, &bytes).is_ok() {}
        number += 1;
        // The log may have room for some.
        (world.send(number).await.0 == 503).then_some(())
    })
    .await;
    world.says("[-] store: no room on the disk").await;
    assert_eq!(world.metric("store_writable").await, Some(0.0));
    // Some room is enough: most of the disk stays taken.
    let file = std::fs::File::options().write(true).open(&ballast).expect("it was there");
    let length = file.metadata().expect("a length").len();
    file.set_len(length.saturating_sub(4 << 20)).expect("it shrinks");
    world.recovers(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stop_leaves_one_whole_file_and_no_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let (path, copy) = (folder.path().join("bridge.db"), folder.path().join("copy.db"));
    for stop in 1..=12 {
        let world = ProcessWorld::start(folder.path(), &environment);
        let events: Vec<Value> =
            (0..30).map(|number| sign_up(&format!("evt-{stop}-{number}"), &format!("C-{number}"), TIME)).collect();
        let batch = Value::from(events).to_string();
        assert_eq!(world.post("application/cloudevents-batch+json", batch).await.0, 202);
        assert_eq!(world.bridge.terminate(), Some(0));
        assert!(!folder.path().join("bridge.db-wal").exists(), "stop {stop} leaves a log");
        std::fs::copy(&path, &copy).expect("copied");
        let mut copied = connect(&format!("sqlite://{}", copy.display())).await;
        let said: String = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&mut copied)
            .await
            .expect("a row")
            .try_get(0)
            .expect("text");
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM events")
            .fetch_one(&mut copied)
            .await
            .expect("a row")
            .try_get(0)
            .expect("1");
        assert_eq!((&*said, count), ("ok", 30 * stop), "stop {stop}");
        copied.close().await.expect("closed");
    }
}

/// Rows that were erased next to a reader leave the log once the reader has gone.
#[tokio::test(flavor = "multi_thread")]
async fn erased_rows_leave_the_log_once_the_reader_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let (path, log) = (folder.path().join("bridge.db"), folder.path().join("bridge.db-wal"));
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    // The gauge of pending events is counted every two seconds, and may be from before the event.
    let applied = "events_settled_total{outcome=\"applied\",type=\"customer.signed_up\"}";
    until("it is applied", async || (world.metric(applied).await == Some(1.0)).then_some(())).await;
    assert!(holds(&log, "Hauptstra") || holds(&path, "Hauptstra"));
    let mut reader = connect(&environment[0].1).await;
    run_sql(&mut reader, "BEGIN; SELECT COUNT(*) FROM events;").await;
    let erased = running::run(&["erase", "C-1", "--force"], &environment);
    let said = running::said(&erased);
    assert_eq!(erased.status.code(), Some(0), "{said}");
    assert!(said.contains("still holds old pages"), "{said}");
    assert!(holds(&log, "Hauptstra"), "the reader keeps it there");
    run_sql(&mut reader, "ROLLBACK").await;
    until("it is gone", async || (!holds(&log, "Hauptstra") && !holds(&path, "Hauptstra")).then_some(())).await;
    reader.close().await.expect("closed");
    assert_eq!(world.bridge.terminate(), Some(0));
    assert!(!log.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_sqlite_file_that_another_process_has_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    assert_eq!(world.bridge.terminate(), Some(0));
    let mut other = connect(&environment[0].1).await;
    run_sql(&mut other, "BEGIN IMMEDIATE").await;
    let path = folder.path().to_owned();
    let starting = tokio::task::spawn_blocking(move || ProcessWorld::start(&path, &environment));
    let log = folder.path().join("bridge.log");
    until("the log says that the start waits", async || {
        std::fs::read_to_string(&log).expect("a log").contains("the store is not there yet").then_some(())
    })
    .await;
    assert!(!starting.is_finished());
    run_sql(&mut other, "ROLLBACK").await;
    let world = starting.await.expect("it starts");
    world.recovers(2).await;
    assert_eq!(world.bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_file_that_is_removed_alone_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    std::fs::remove_file(folder.path().join("bridge.db-wal")).expect("it was there");
    assert_eq!(world.send(2).await, (503, true), "a crash would lose it");
    world.refuses(3, "the file at its path is another one, or its log is").await;
    assert_eq!(world.bridge.terminate(), Some(0));
}

/// One file has one bridge under every name and a removed file takes no events.
#[tokio::test(flavor = "multi_thread")]
async fn one_file_has_one_bridge_by_whatever_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    let refused = |environment: &Environment| {
        let second = running::run(&["serve", "--sandbox"], environment);
        let said = running::said(&second);
        assert!(second.status.code() == Some(1) && said.contains("another bridge works"), "{said}");
    };
    std::fs::hard_link(folder.path().join("bridge.db"), folder.path().join("other.db")).expect("a link");
    let mut by_link = environment.clone();
    by_link[0].1 = format!("sqlite://{}", folder.path().join("other.db").display());
    refused(&by_link);
    std::fs::remove_file(folder.path().join("bridge.db.lock")).expect("it was there");
    refused(&environment);
    world.recovers(2).await;

    for name in ["bridge.db", "bridge.db-wal", "bridge.db-shm", "bridge.db.lock"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    assert_eq!(world.send(3).await, (503, true), "it would be in no file");
    world.refuses(4, "the file at its path is another one").await;
    assert_eq!(world.bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_refused_is_not_kept() {
    let (_folder, url, world) = on_postgres().await;
    let mut other = connect(&url).await;
    run_sql(&mut other, "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE;").await;
    let world = std::sync::Arc::new(world);
    let batch = |sender: usize, round: usize| {
        let events = (0..900).map(|number| {
            let mut event = sign_up(&format!("e-{sender}-{round}-{number}"), &format!("C-{sender}-{number}"), TIME);
            event["data"]["note"] = "x".repeat(500).into();
            event
        });
        Value::from(events.collect::<Vec<_>>()).to_string()
    };
    let senders = (0..34).map(|sender| {
        let (world, batches) = (world.clone(), [batch(sender, 0), batch(sender, 1)]);
        tokio::spawn(async move {
            for batch in batches {
                let (status, _) = world.post("application/cloudevents-batch+json", batch).await;
                assert_eq!(status, 503);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("it was answered");
    }
    let peak = world.bridge.memory_peak() >> 20;
    assert!(peak < 350, "{peak} MiB");
    run_sql(&mut other, "ROLLBACK").await;
    world.recovers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_leaves_one_whole_file_and_no_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let world = ProcessWorld::start(folder.path(), &environment);
    world.recovers(1).await;
    assert_eq!(world.bridge.terminate(), Some(0));
    // The last write of a start does not go through, and is waited for.
    let mut other = connect(&environment[0].1).await;
    run_sql(
        &mut other,
        "UPDATE lanes SET claimed = 1, ready_at = 9000000000000000; CREATE TRIGGER held BEFORE UPDATE ON lanes \
         BEGIN SELECT RAISE(ABORT, 'held'); END",
    )
    .await;
    other.close().await.expect("closed");
    let log = folder.path().join("start.log");
    let mut command = running::command(&["serve", "--sandbox"], &environment);
    let mut bridge = command.stderr(std::fs::File::create(&log).expect("a log")).spawn().expect("it starts");
    let says = async || std::fs::read_to_string(&log).unwrap_or_default().contains("the start waits").then_some(());
    until("the start waits", says).await;
    assert!(folder.path().join("bridge.db-wal").exists());
    assert!(Command::new("kill").arg(bridge.id().to_string()).status().expect("kill runs").success());
    assert_eq!(bridge.wait().expect("it ends").code(), Some(0));
    assert!(!folder.path().join("bridge.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_lock_of_one_row_is_not_the_trouble_of_the_whole_store() {
    let (_folder, url, world) = on_postgres().await;
    let mut other = connect(&url).await;
    run_sql(&mut other, "BEGIN; SELECT * FROM lanes FOR UPDATE;").await;
    let held = sign_up("evt-2", "C-1", TIME).to_string();
    assert_eq!(world.post("application/cloudevents+json", held).await, (503, true));
    world.recovers(3).await;
    run_sql(&mut other, "ROLLBACK").await;
    assert!(!world.bridge.log().contains("the store takes writes again"), "it never took none");
}

fn large(number: usize) -> Vec<Arrival> {
    let id = EventId(uuid::Uuid::from_u128(number as u128));
    let notice = unreadable_notice(id, Reason::Refused, Timestamp::from_micros(0));
    vec![Arrival {
        id,
        origin: "/billing".to_owned(),
        origin_id: format!("evt-{number}"),
        source: "default".to_owned(),
        transport: Transport::Http,
        received_at: Timestamp::from_micros(0),
        digest: number.to_string(),
        raw: vec![b'x'; 1 << 20].into(),
        envelope: None,
        content: Content::Parked { reason: Reason::Refused, detail: String::new(), notice, may_be_known: true },
    }]
}

/// Writes that wait are bounded by their bytes, and dropped when their sender has gone.
#[tokio::test]
async fn the_writers_queue_is_bounded_by_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let settings = Settings { url, targets: Vec::new(), works: true };
    let (store, writer) = Store::open(settings, Clock::system()).await.expect("it is made");
    // Nothing is written yet: the writer does not run.
    let mut waiting = Vec::new();
    let full = loop {
        let mut accepting = Box::pin({
            let (store, arrivals) = (store.clone(), large(waiting.len()));
            async move { store.accept(arrivals).await }
        });
        match futures_util::future::poll_immediate(&mut accepting).await {
            None => waiting.push(accepting),
            Some(answer) => break answer,
        }
        assert!(waiting.len() < 1_000, "there is no bound");
    };
    assert!(matches!(full, Err(Error::Full)), "{full:?}");
    let count = waiting.len();
    assert!((10..100).contains(&count), "{count} MiB are bounded by 48 MiB, each held twice");
    let last = waiting.pop().expect("one waits");
    drop(waiting);
    tokio::spawn(writer.run());
    last.await.expect("it is written");
    let kept = store.gauges(Timestamp::from_micros(0)).await.expect("it reads").parked;
    assert_eq!(kept, 1, "what no sender waits for is not kept");
    store.accept(large(count)).await.expect("there is room again");
}

#[test]
fn the_second_process_is_told_apart_by_the_lock_on_the_file_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bridge.db");
    let held = Command::new("flock").args(["-F", "-n", "-x"]).arg(&path).args(["sleep", "30"]).spawn();
    let mut held = held.expect("flock is installed");
    while std::fs::File::open(&path).map_or(true, |file| file.try_lock_shared().is_ok()) {
        std::thread::yield_now();
    }
    let second = running::run(&["serve", "--sandbox"], &running::on_file(folder.path()));
    let said = running::said(&second);
    let _ = held.kill();
    let _ = held.wait();
    assert!(said.contains("another bridge works"), "{said}");
}
