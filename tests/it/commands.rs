//! The commands on a store: what they need, what they say, and with which status they end.

use std::process::{Command, Stdio};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::EventId;
use podero_bridge::domain::event::Happening;
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::pump;
use podero_bridge::store::{AuditFilter, Content, Settings, Store};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::file::expect;
use crate::kit::{BY, Fixture, StoreFixture};
use crate::running::{self, Environment};
use crate::world::until;

const UNKNOWN: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";

fn at(fixture: &StoreFixture) -> Environment {
    vec![("STORE__URL", fixture.url.clone())]
}

fn refused() -> Fate {
    Fate::Parked { reason: Reason::Refused, detail: "create_user 422".to_owned() }
}

async fn run_sql(connection: &mut AnyConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("it runs");
}

#[tokio::test]
async fn a_command_on_the_store_needs_no_other_part_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let settings = Settings { url: url.clone(), targets: Vec::new(), works: true };
    let key = "an-operators-erasure-key";
    drop(Store::open_with(settings, Some(key), Clock::system()).await.expect("it is made"));
    let (file, key_file) = (folder.path().join("config.toml"), folder.path().join("key"));
    let text = format!(
        "[store]\nurl = \"{url}\"\nerasure_key_file = \"{}\"\n[admin]\nlisten = \"0.0.0.0:1\"\n[podero]\n\
         timeout = \"soon\"\nclient_secret_file = \"/none\"\n[amqp]\nurl_file = \"/none\"\n",
        key_file.display()
    );
    std::fs::write(&file, &text).expect("written");
    let run = |arguments: &[&str]| {
        let config = ["--config", file.to_str().expect("text")];
        running::run(&[arguments, &config].concat(), &Environment::new())
    };
    let copy = folder.path().join("copy.db");
    expect(&run(&["parked", "list"]), 0, "nothing is parked");
    expect(&run(&["customers", "show", "C-1"]), 1, "nothing was ever heard");
    expect(&run(&["events", "show", UNKNOWN]), 1, "no event has the id");
    expect(&run(&["backup", copy.to_str().expect("text")]), 0, "ok");
    // Only an erasure needs the key, and the right one.
    expect(&run(&["erase", "C-1"]), 64, "store.erasure_key");
    std::fs::write(&key_file, "another-operators-erasure-key").expect("written");
    expect(&run(&["erase", "C-1"]), 1, "store.erasure_key");
    std::fs::write(&key_file, key).expect("written");
    expect(&run(&["erase", "C-1", "--force"]), 0, "erased");
    // An unknown key is a mistake in every command.
    std::fs::write(&file, text + "ulr = \"x\"\n").expect("written");
    expect(&run(&["parked", "list"]), 64, "amqp.ulr");
}

/// Output that cannot be written ends the command with 1, but for a closed pipe.
#[tokio::test]
async fn unwritten_output_ends_with_1_but_for_a_closed_pipe() {
    let fixture = StoreFixture::on_sqlite().await;
    for arguments in [&["parked", "list", "--json"][..], &["parked", "list"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let output = running::command(arguments, &at(&fixture)).stdout(full).output().expect("it runs");
        expect(&output, 1, "standard output");
        let mut child = running::command(arguments, &at(&fixture)).stdout(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "nobody reads it any more");
    }
}

/// An id that no customer can have is bad usage and one that no customer has is said.
#[tokio::test]
async fn an_impossible_id_is_bad_usage_and_an_unknown_one_is_said() {
    let fixture = StoreFixture::on_sqlite().await;
    let run = |arguments: &[&str]| running::run(arguments, &at(&fixture));
    for arguments in [["erase", ""].as_slice(), &["customers", "show", ""], &["erase", "a\u{7}b"]] {
        expect(&run(arguments), 64, "printable characters");
    }
    for act in ["retry", "skip"] {
        expect(&run(&["parked", act, UNKNOWN]), 1, "unknown: no event has this id");
    }
    let settled = fixture.ends("C-1", Fate::Superseded).await.to_string();
    expect(&run(&["parked", "skip", &settled]), 1, "not-parked: it is not parked; its state is superseded");
}

/// A message that never became an event is not retried, and the command says what to do.
#[tokio::test]
async fn a_message_that_never_became_an_event_is_not_retried() {
    let fixture = StoreFixture::on_sqlite().await;
    let run = |arguments: &[&str]| running::run(arguments, &at(&fixture));
    let mut message = fixture.arrival("C-1", Happening::Churned);
    let notice = Notice {
        id: notice_id("message", Topic::EventParked),
        topic: Topic::EventParked,
        order_key: "C-1".to_owned(),
        subject: message.id.to_string(),
        time: message.received_at,
        data: serde_json::Value::Null,
    };
    let (reason, detail) = (Reason::Untranslatable, "no".to_owned());
    message.content = Content::Parked { reason, detail, notice, may_be_known: false };
    let id = message.id.to_string();
    fixture.store.accept(vec![message]).await.expect("the store is there");
    for which in [&["--reason", "untranslatable"][..], &["--all"], &[&id]] {
        let output = run(&[&["parked", "retry"], which].concat());
        expect(&output, 1, "ever became an event");
        expect(&output, 1, "skip");
    }
    assert!(fixture.store.bulk_retries().await.expect("the store is there").is_empty(), "nothing was ordered");
    fixture.ends("C-2", refused()).await;
    let output = run(&["parked", "retry", "--all"]);
    expect(&output, 0, "1 more never became an event");
    expect(&output, 0, "done: 1 of 1 retried");
    fixture.ends("C-3", refused()).await;
    for (which, words) in [
        (&["--reason", "too_large"][..], "nothing matched: nothing is parked so"),
        (&["--reason", "refused", "--json"], "nothing matched: the 1 that are parked so are events"),
    ] {
        expect(&run(&[&["parked", "skip"], which].concat()), 1, words);
    }
    expect(&run(&["parked", "skip", &id, "--note", "two\nlines"]), 64, "on one line");
    expect(&run(&["parked", "skip", &id, "--note", "sent again by hand"]), 0, "skipped");
    let page = fixture.store.audit_page(&AuditFilter::default(), None, 1).await.expect("the store is there");
    assert_eq!(page.records[0].note.as_deref(), Some("sent again by hand"));
    // It is in no lane, and its note goes with it all the same.
    let message = EventId(id.parse().expect("an id"));
    fixture.store.erase("C-1", &[message], true, BY).await.expect("the store is there").expect("nothing is in the way");
    let page = fixture.store.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there");
    assert!(page.records.iter().all(|row| row.note.is_none()), "{page:?}");
    assert_eq!(fixture.store.verify_audit(None).await.expect("the store is there").broken, None);
    for actor in ["anna", "operator", "people:anna"] {
        expect(&run(&["audit", "list", "--actor", actor]), 64, "`operator:NAME`");
    }
    expect(&run(&["audit", "list", "--after", "yesterday"]), 64, "--after");
}

#[tokio::test]
async fn an_erasure_stands_also_when_the_log_beside_the_file_cannot_be_emptied() {
    let fixture = StoreFixture::on_sqlite().await;
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&fixture.url).await.expect("the file is there");
    // The erased rows lie so far behind in the file that a limit prevents writes there, but not to the log.
    run_sql(&mut connection, "CREATE TABLE ballast (b BLOB); INSERT INTO ballast VALUES (zeroblob(4000000))").await;
    let mut arrival = fixture.arrival("C-1", Happening::Churned);
    arrival.raw = vec![b'x'; 50_000].into();
    fixture.store.accept(vec![arrival]).await.expect("the store is there");
    fixture.settle_head(Fate::Superseded).await;
    run_sql(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut shell = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" erase C-1 --json";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_podero-bridge")]).env_clear();
    let output = shell.env("PODERO_BRIDGE__STORE__URL", &fixture.url).output().expect("it runs");
    expect(&output, 0, "could not be emptied");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["erased"]["events"], &told["is_log_clean"]), (&1.into(), &false.into()), "{told}");
    let output = running::run(&["erase", "C-1", "--json"], &at(&fixture));
    expect(&output, 0, "\"is_log_clean\": true");
}

#[tokio::test]
async fn a_retry_of_many_goes_on_when_the_store_was_away_for_a_moment() {
    let fixture = StoreFixture::on_sqlite().await;
    for number in 0..4 {
        fixture.ends(&format!("C-{number}"), refused()).await;
    }
    let arguments = ["parked", "retry", "--all", "--per-second", "1"];
    let child = running::command(&arguments, &at(&fixture)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let retried = async || Some(fixture.store.bulk_retries().await.expect("the store is there").first()?.retried);
    until("it has begun", async || retried().await.filter(|retried| *retried >= 1)).await;
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(&fixture.url).await.expect("the file is there");
    run_sql(&mut other, "BEGIN IMMEDIATE").await;
    // Longer than any process waits for the lock of another.
    pump::sleep(Duration::from_secs(7)).await;
    run_sql(&mut other, "ROLLBACK").await;
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().expect("it ends")).await.expect("no panic");
    expect(&output, 0, "done: 4 of 4 retried");
}

/// The server's message names the database.
#[test]
fn no_words_of_postgresqls_server_are_repeated() {
    let url = crate::servers::fresh_database();
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    let environment = vec![("STORE__URL", format!("{server}/hunter2OfTheUtility"))];
    let output = running::run(&["parked", "list"], &environment);
    let said = running::said(&output);
    assert!(said.contains("SQLSTATE 3D000: the database does not exist"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
