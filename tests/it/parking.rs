//! Parked work: the ways in, that it blocks no customer, and the ways out, for one event and for many.

use std::sync::Mutex;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::event::Happening;
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::metrics::Metrics;
use podero_bridge::store::{BulkRetry, Ordered, ParkedFilter, RetryRequest, RetryState, Stepped, Store};
use podero_bridge::upkeep::Counting;
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::running::{self, Running};
use crate::servers;
use crate::world::{self, Database, World, event, sign_up, until};

const LEASE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const TIME: &str = "2026-10-01T12:00:00Z";
const JSON: &str = "application/json";

fn refused() -> Fate {
    Fate::Parked { reason: Reason::Refused, detail: "create_user 422".to_owned() }
}

fn gave_up() -> Fate {
    Fate::Parked { reason: Reason::GaveUp, detail: "timeout".to_owned() }
}

async fn order(store: &Store, reason: Option<Reason>, per_second: u32) -> BulkRetry {
    match store.order_retry(ParkedFilter::of_reason(reason), per_second, BY).await.expect("the store is there") {
        Ordered::Running(retry) => retry,
        Ordered::Occupied(other) => panic!("another one runs: {other:?}"),
    }
}

async fn step(store: &Store) -> usize {
    match store.retry_step(u64::MAX).await.expect("the store is there") {
        Stepped::Nothing => 0,
        Stepped::Retried { count, .. } => count,
    }
}

async fn progress(store: &Store, id: &str) -> (u64, String) {
    let retry = store.bulk_retry(id).await.expect("the store is there").expect("it is known");
    (retry.retried, retry.state.to_string())
}

on_both_databases! {
    a_retry_of_many_keeps_its_pace_also_when_two_drive_it
    a_retry_of_many_covers_what_was_parked_before_it_and_each_event_once
    a_retry_of_many_can_be_stopped_and_only_one_runs
    a_retried_event_cannot_be_retried_twice
    parked_events_are_paged_and_grouped
    an_event_that_cannot_be_read_is_parked_and_counted
}

async fn a_retry_of_many_keeps_its_pace_also_when_two_drive_it(fixture: StoreFixture) {
    for number in 0..35 {
        fixture.ends(&format!("C-{number}"), refused()).await;
    }
    let other = fixture.beside().await;
    let retry = order(&fixture.store, Some(Reason::Refused), 10).await;
    assert_eq!((retry.total, retry.retried, retry.state), (35, 0, RetryState::Running));
    assert_eq!((step(&fixture.store).await, step(&other).await, step(&fixture.store).await), (1, 0, 0), "the first");
    for _ in 0..10 {
        fixture.clock.advance(Duration::from_millis(100));
        assert_eq!((step(&other).await, step(&fixture.store).await), (1, 0), "one each tenth of a second, by whomever");
    }
    // No process drove it for an hour: it goes on at its pace, and does not catch up.
    fixture.clock.advance(Duration::from_secs(3_600));
    let after_a_pause = step(&fixture.store).await;
    assert!((1..=11).contains(&after_a_pause), "{after_a_pause} at once");
    fixture.clock.advance(SECOND);
    let mut left = 35 - 11 - after_a_pause;
    while left > 0 {
        let stepped = step(&other).await;
        assert!(stepped <= 10, "{stepped} in a second");
        left -= stepped;
        fixture.clock.advance(SECOND);
    }
    step(&fixture.store).await;
    assert_eq!(progress(&fixture.store, &retry.id).await, (35, "done".to_owned()));
    assert_eq!(step(&fixture.store).await, 0, "nothing runs any more");
}

async fn a_retry_of_many_covers_what_was_parked_before_it_and_each_event_once(fixture: StoreFixture) {
    let first = fixture.ends("C-1", refused()).await;
    let other_reason = fixture.ends("C-2", gave_up()).await;
    fixture.clock.advance(SECOND);
    let retry = order(&fixture.store, Some(Reason::Refused), 1_000).await;
    fixture.clock.advance(SECOND);
    let later = fixture.ends("C-3", refused()).await;
    assert_eq!(step(&fixture.store).await, 1);
    // It is parked again by its retry, and stays so.
    fixture.settle_head(refused()).await;
    fixture.clock.advance(SECOND);
    assert_eq!(step(&fixture.store).await, 0);
    assert_eq!(progress(&fixture.store, &retry.id).await, (1, "done".to_owned()));
    for (id, state) in [(first, "parked"), (other_reason, "parked"), (later, "parked")] {
        assert_eq!(fixture.state(id).await, state);
    }
    // All, for any reason; a message that never became an event is not counted and stays.
    let retry = order(&fixture.store, None, 1_000).await;
    assert_eq!(retry.total, 3);
    while progress(&fixture.store, &retry.id).await.1 == "running" {
        fixture.clock.advance(SECOND);
        step(&fixture.store).await;
    }
    assert_eq!(progress(&fixture.store, &retry.id).await.0, 3);
    for id in [first, other_reason, later] {
        assert_eq!(fixture.state(id).await, "pending");
    }
}

async fn a_retry_of_many_can_be_stopped_and_only_one_runs(fixture: StoreFixture) {
    for number in 0..5 {
        fixture.ends(&format!("C-{number}"), refused()).await;
    }
    let retry = order(&fixture.store, None, 1).await;
    assert_eq!(step(&fixture.store).await, 1);
    let second = fixture
        .store
        .order_retry(ParkedFilter::of_reason(Some(Reason::GaveUp)), 1, BY)
        .await
        .expect("the store is there");
    assert!(matches!(second, Ordered::Occupied(ref other) if other.id == retry.id), "{second:?}");
    let stopped = fixture.beside().await.stop_retry(&retry.id, BY).await.expect("the store is there").expect("known");
    assert_eq!((stopped.retried, stopped.state), (1, RetryState::Stopped));
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(step(&fixture.store).await, 0);
    assert_eq!(fixture.store.parked(None).await.expect("the store is there").len(), 4);
    let again = order(&fixture.store, None, 1).await;
    assert_eq!(again.total, 4);
    let listed = fixture.store.bulk_retries().await.expect("the store is there");
    let states: Vec<_> = listed.iter().map(|retry| retry.state).collect();
    assert_eq!(states, [RetryState::Running, RetryState::Stopped], "newest first");
    assert_eq!(fixture.store.stop_retry("nobody", BY).await.expect("the store is there"), None);
}

async fn a_retried_event_cannot_be_retried_twice(fixture: StoreFixture) {
    let id = fixture.ends("C-1", refused()).await;
    let other = fixture.beside().await;
    let retries = tokio::join!(
        fixture.store.unpark(id, RetryRequest::Retry, BY),
        other.unpark(id, RetryRequest::Retry, BY),
        fixture.store.unpark(id, RetryRequest::Skip, BY),
    );
    let done = [retries.0, retries.1, retries.2].map(|result| result.expect("the store is there").is_some());
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
    let retry = order(&fixture.store, None, 10).await;
    assert_eq!((retry.total, step(&fixture.store).await), (0, 0));
    assert_eq!(progress(&fixture.store, &retry.id).await, (0, "done".to_owned()));
}

async fn parked_events_are_paged_and_grouped(fixture: StoreFixture) {
    let mut refused_ones = Vec::new();
    for number in 0..5 {
        refused_ones.push(fixture.ends(&format!("C-{number}"), refused()).await.to_string());
        fixture.clock.advance(SECOND);
    }
    fixture.ends("C-9", gave_up()).await;
    let mut read = Vec::new();
    while let Some(last) = {
        let after = read.last().cloned();
        let page = fixture.store.parked_page(Some("refused"), after.as_deref(), 2).await.expect("the store is there");
        assert!(page.len() <= 2);
        read.extend(page.into_iter().map(|event| event.id.to_string()));
        (read.last().cloned() != after).then_some(())
    } {
        let () = last;
    }
    assert_eq!(read, refused_ones, "every one once, oldest first");
    let groups = fixture.store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let groups: Vec<_> =
        groups.iter().map(|g| (g.reason.as_str(), g.count, g.retryable, g.newest_at.since(g.oldest_at))).collect();
    assert_eq!(groups, [("gave_up", 1, 1, Duration::ZERO), ("refused", 5, 5, 4 * SECOND)]);
}

async fn an_event_that_cannot_be_read_is_parked_and_counted(fixture: StoreFixture) {
    use sqlx::Connection;
    let arrival = fixture.arrival("C-1", Happening::Churned);
    let id = arrival.id;
    fixture.store.accept(vec![arrival]).await.expect("the store is there");
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&fixture.url).await.expect("the database is there");
    sqlx::query("UPDATE events SET event = '{}'").execute(&mut connection).await.expect("written");
    connection.close().await.expect("closed");
    assert!(fixture.store.claim(LEASE).await.expect("the store is there").is_none());
    assert_eq!(fixture.state(id).await, "parked");
    let metrics = Metrics::new();
    let counting = Counting {
        store: fixture.store.clone(),
        metrics: metrics.clone(),
        clock: fixture.clock.clone(),
        interval: Duration::from_mins(10),
        brake: None,
        team: None,
        counted: Box::new(|_| {}),
        last_took: Mutex::default(),
    };
    assert!(counting.count().await, "the store is there");
    let counted = "podero_bridge_events_settled_total{outcome=\"parked\",type=\"unknown\"} 1";
    assert!(metrics.encode().contains(counted), "{}", metrics.encode());
    assert_eq!(fixture.store.take_unreadable(), 0, "once");
}

fn settings() -> world::Settings {
    world::Settings { toml: "[watch]\nenabled = false\n".into(), ..world::Settings::default() }
}

async fn parked_of(world: &World, reason: &str) -> Vec<Value> {
    let listed = world.get(&world.operator(&format!("/v1/parked?reason={reason}"))).await;
    listed["parked"].as_array().expect("a list").clone()
}

/// Limit of the bytes that are kept of a message: `http.body_max`.
const KEPT_MAX: usize = 4 << 10;

/// Each is parked with the bytes that were sent. A message that was cut cannot be retried; the rest is read again, and parked
/// again.
async fn kept_with_their_bytes(world: &World, poison: &[(&str, &str, Vec<u8>)]) {
    for reason in ["untranslatable", "too_large"] {
        let mut kept = Vec::new();
        for parked in parked_of(world, reason).await {
            let id = parked["id"].as_str().expect("an id");
            let shown = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
            let raw = shown["raw"].as_str().expect("text");
            kept.push(match shown["raw_encoding"].as_str() {
                Some("utf8") => raw.as_bytes().to_vec(),
                _ => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, raw).expect("base64"),
            });
            let is_cut = shown["envelope"]["body_bytes"].is_number();
            let (status, _) = world.post(&world.operator(&format!("/v1/parked/{id}/retry")), JSON, String::new()).await;
            assert_eq!(status, if is_cut { 409 } else { 200 }, "{shown}");
            let again = world.settled(id).await;
            assert_eq!((&again["state"], &again["reason"]), (&json!("parked"), &json!(reason)), "{again}");
        }
        kept.sort();
        let of_reason = poison.iter().filter(|(why, _, _)| *why == reason);
        let mut sent: Vec<Vec<u8>> = of_reason.map(|(_, _, body)| body[..body.len().min(KEPT_MAX)].to_vec()).collect();
        sent.sort();
        assert_eq!(kept, sent, "the original bytes of {reason}");
    }
}

/// An unreadable message on the queue is parked with its bytes, is reported, and blocks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_is_parked_and_blocks_nothing() {
    let vhost = servers::fresh_vhost();
    let mut settings = settings();
    settings.environment = vec![
        ("AMQP__URL", vhost.clone()),
        ("AMQP__PREFETCH", "1".into()),
        ("HTTP__BODY_MAX", "4KiB".into()),
        ("HTTP__BATCH_MAX", "2".into()),
    ];
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let mut told = bus.listen(&["event.parked"]).await;
    let structured = "application/cloudevents+json";
    let wrong =
        event("w1", "customer.signed_up", TIME, &json!({"customer_id": 7, "email": "a@example.com"})).to_string();
    let with_nul = sign_up("n1", "C-N", TIME).to_string().replace("/billing", "/bill\\u0000ing");
    let large = sign_up("l1", "C-L", TIME).to_string().replace("Anna", &"A".repeat(5_000));
    let batch = Value::Array(vec![sign_up("b1", "C-B", TIME); 3]).to_string();
    let poison: [(&str, &str, Vec<u8>); 6] = [
        ("untranslatable", structured, b"{ not JSON".to_vec()),
        ("untranslatable", "text/plain", vec![0xff, 0x00, 0xfe]),
        ("untranslatable", structured, wrong.into_bytes()),
        ("untranslatable", structured, with_nul.into_bytes()),
        ("too_large", structured, large.into_bytes()),
        ("too_large", "application/cloudevents-batch+json", batch.into_bytes()),
    ];
    for (_, content_type, body) in &poison {
        bus.publish("customer.signed_up", content_type, body).await;
    }
    // A reused id, from the queue, is parked as well.
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    bus.publish_event(&sign_up("e1", "C-other", TIME)).await;
    bus.publish_event(&sign_up("e2", "C-2", TIME)).await;
    until("what comes behind the poison is applied", async || {
        let users = world.sandbox_state().await["users"].as_array().map(Vec::len);
        (users == Some(2)).then_some(())
    })
    .await;
    let mut reasons = Vec::new();
    for _ in 0..=poison.len() {
        let heard = told.next(Duration::from_secs(20)).await.expect("each is told");
        reasons.push(heard.event["data"]["reason"].as_str().expect("a reason").to_owned());
    }
    reasons.sort();
    let expected = [vec!["event_id_reused"], vec!["too_large"; 2], vec!["untranslatable"; 4]].concat();
    assert_eq!(reasons, expected);
    kept_with_their_bytes(&world, &poison).await;
    let listed = world.get(&world.operator("/v1/parked")).await;
    let groups = listed["groups"].as_array().expect("groups");
    let counts: Vec<_> =
        groups.iter().map(|g| (g["reason"].as_str(), g["count"].as_i64(), g["retryable"].as_i64())).collect();
    let expected = [
        (Some("event_id_reused"), Some(1), Some(1)),
        (Some("too_large"), Some(2), Some(1)),
        (Some("untranslatable"), Some(4), Some(4)),
    ];
    assert_eq!(counts, expected);
    let first = world.get(&world.operator("/v1/parked?limit=5")).await;
    let next = first["next"].as_str().expect("there is more");
    let second = world.get(&world.operator(&format!("/v1/parked?limit=5&after={next}"))).await;
    let count = |page: &Value| page["parked"].as_array().map(Vec::len);
    assert_eq!((count(&first), count(&second), &second["next"]), (Some(5), Some(2), &Value::Null));
    assert_eq!(second["groups"], Value::Null, "they are told once");
    world.bridge.stop().await;
}

/// Three customers, and an update of each that Podero refuses.
async fn three_refusals(world: &World) {
    for number in 1..=3 {
        world.apply(&sign_up(&format!("s{number}"), &format!("C-{number}"), TIME)).await;
    }
    world.fault(&json!({"operation": "update_user", "kind": "status", "status": 422, "times": 3})).await;
    for number in 1..=3 {
        let data = json!({"customer_id": format!("C-{number}"), "first_name": "Old", "last_name": "Muster"});
        let parked =
            world.apply(&event(&format!("u{number}"), "customer.updated", "2026-10-02T12:00:00Z", &data)).await;
        assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!("refused")), "{parked}");
    }
    world.no_faults().await;
}

async fn user(world: &World, customer: &str) -> Value {
    let state = world.sandbox_state().await;
    let users = state["users"].as_array().expect("users");
    users.iter().find(|user| user["external_user_id"] == customer).expect("the customer's user").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_older_update_that_is_retried_changes_only_what_is_not_newer() {
    let world = World::start(Database::Sqlite, settings()).await;
    three_refusals(&world).await;
    // Newer: the whole update of C-1, half of it of C-2, and a churn of C-3.
    let newer = "2026-10-03T12:00:00Z";
    let whole = json!({"customer_id": "C-1", "first_name": "New", "last_name": "Neu"});
    world.apply(&event("n1", "customer.updated", newer, &whole)).await;
    let half = json!({"customer_id": "C-2", "first_name": "New"});
    world.apply(&event("n2", "customer.updated", newer, &half)).await;
    world.apply(&event("n3", "customer.churned", newer, &json!({"customer_id": "C-3"}))).await;

    let orders = world.operator("/v1/parked/retry");
    for body in [
        r#"{}"#,
        "",
        r#"{"reason":"bad_luck"}"#,
        r#"{"all":true,"per_second":0}"#,
        r#"{"all":true,"reason":"refused"}"#,
    ] {
        assert_eq!(world.post(&orders, JSON, body.into()).await.0, 400, "{body}");
    }
    let parked: Vec<String> =
        parked_of(&world, "refused").await.iter().map(|p| p["id"].as_str().expect("an id").to_owned()).collect();
    let (status, ordered) = world.post(&orders, JSON, r#"{"reason":"refused","per_second":100}"#.into()).await;
    assert_eq!((status, &ordered["total"], &ordered["state"]), (202, &json!(3), &json!("running")), "{ordered}");
    let id = ordered["id"].as_str().expect("an id");
    until("the retry is done", async || {
        let retry = world.get(&world.operator(&format!("/v1/parked/retries/{id}"))).await;
        (retry["state"] == "done" && retry["retried"] == 3).then_some(())
    })
    .await;
    let mut states = Vec::new();
    for id in &parked {
        let event = until("it is settled", async || {
            let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
            (event["state"] != "pending").then_some(event)
        })
        .await;
        states.push(event["state"].as_str().expect("a state").to_owned());
    }
    assert_eq!(states, ["superseded", "applied", "superseded"]);
    let (one, two) = (user(&world, "C-1").await, user(&world, "C-2").await);
    assert_eq!((&one["first_name"], &one["last_name"]), (&json!("New"), &json!("Neu")));
    assert_eq!(
        (&two["first_name"], &two["last_name"]),
        (&json!("New"), &json!("Muster")),
        "the half that is not newer"
    );
    let listed = world.get(&world.operator("/v1/parked/retries")).await;
    assert_eq!(listed["retries"][0]["id"], json!(id));
    assert_eq!(world.get_text(&world.operator("/v1/parked/retries/nobody")).await.0, 404);
    let (status, ended) =
        world.post(&world.operator(&format!("/v1/parked/retries/{id}/stop")), JSON, String::new()).await;
    assert_eq!((status, &ended["state"]), (200, &json!("done")), "what has ended stays as it ended");
    world.bridge.stop().await;
}

/// Sends an event to a process and gives back its id.
async fn send(http: &reqwest::Client, bridge: &Running, event: &Value) -> String {
    let request =
        http.post(format!("{}/v1/events", bridge.door)).header("content-type", "application/cloudevents+json");
    let answer: Value = request.body(event.to_string()).send().await.expect("an answer").json().await.expect("JSON");
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The command line sees and clears parked events next to a running bridge and without one.
#[tokio::test(flavor = "multi_thread")]
async fn commands_clear_parked_events_with_and_without_a_bridge() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let command = |arguments: &[&str]| running::run(arguments, &environment);
    let none = command(&["parked", "list"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(running::said(&none).contains("there is no store at"), "{}", running::said(&none));
    assert!(!folder.path().join("bridge.db").exists(), "looking makes nothing");

    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    let faults = format!("{}/_sandbox/faults", bridge.sandbox.as_ref().expect("it runs"));
    let fault = json!({"operation": "create_user", "kind": "status", "status": 422, "times": 4});
    http.post(&faults).json(&fault).send().await.expect("an answer");
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(send(&http, &bridge, &sign_up(&format!("e{number}"), &format!("C-{number}"), TIME)).await);
    }
    let list = || -> Value {
        let output = running::run(&["parked", "list", "--json"], &environment);
        assert_eq!(output.status.code(), Some(0), "{}", running::said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    until("all four are parked", async || (list()["groups"][0]["count"] == 4).then_some(())).await;
    let shown = running::said(&command(&["parked", "list", "--reason", "refused"]));
    assert!(ids.iter().all(|id| shown.contains(id.as_str())) && shown.contains("create_user"), "{shown}");
    assert!(!shown.contains("example.com"), "personal data is in `show` alone:\n{shown}");
    let shown = running::said(&command(&["parked", "show", &ids[0]]));
    assert!(shown.contains("C-0@example.com") && shown.contains("refused 422"), "{shown}");

    // One by its id, one given up; each once.
    assert_eq!(command(&["parked", "retry", &ids[0]]).status.code(), Some(0));
    assert_eq!(command(&["parked", "retry", &ids[0]]).status.code(), Some(1));
    assert_eq!(command(&["parked", "skip", &ids[1]]).status.code(), Some(0));
    let applied = async |id: &str| {
        until("the retried event is applied", async || {
            let output = running::run(&["events", "show", id, "--json"], &environment);
            let event: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            (event["state"] == "applied").then_some(())
        })
        .await;
    };
    applied(&ids[0]).await;
    // The rest by its reason, next to the bridge.
    let output = command(&["parked", "retry", "--reason", "refused", "--per-second", "100", "--json"]);
    let retry: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&retry["retried"], &retry["state"]), (&json!(2), &json!("done")), "{retry}");
    applied(&ids[3]).await;
    let shown = running::said(&command(&["customers", "show", "C-3"]));
    assert!(shown.contains("customer.signed_up") && shown.contains("customer.provisioned"), "{shown}");
    assert_eq!(command(&["customers", "show", "nobody"]).status.code(), Some(1));
    assert_eq!(list()["parked"], json!([]));
    for bad in [
        &["parked", "retry"][..],
        &["parked", "retry", "--all", "--per-second", "0"],
        &["parked", "show", "7"],
        &["parked", "list", "--reason", "bad_luck"],
        &["parked", "retry", &ids[0], "--all"],
    ] {
        assert_eq!(command(bad).status.code(), Some(64), "{bad:?}");
    }
    assert_eq!(bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bridge_the_command_line_drives_a_retry_and_ctrl_c_stops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let clock = Clock::system();
    let url = environment.iter().find(|(key, _)| *key == "STORE__URL").expect("a store").1.clone();
    let fixture = StoreFixture::on(url, clock).await;
    for number in 0..30 {
        fixture.ends(&format!("C-{number}"), refused()).await;
    }
    let mut child = running::command(&["parked", "retry", "--all", "--per-second", "1"], &environment)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    until("it has retried some by itself", async || {
        let retries = fixture.store.bulk_retries().await.expect("the store is there");
        retries.first().is_some_and(|retry| retry.retried >= 2).then_some(())
    })
    .await;
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let retries = fixture.store.bulk_retries().await.expect("the store is there");
    assert_eq!(retries[0].state, RetryState::Stopped);
    assert!(retries[0].retried < 30, "{retries:?}");
    // Detached, it is left to a bridge; without one it stays where it is, and can be stopped by its id.
    let output = running::run(&["parked", "retry", "--all", "--detach", "--json"], &environment);
    let retry: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&retry["state"], &retry["retried"]), (&json!("running"), &json!(0)));
    let id = retry["id"].as_str().expect("an id");
    let occupied = running::run(&["parked", "retry", "--all"], &environment);
    assert!(occupied.status.code() == Some(1) && running::said(&occupied).contains(id), "{}", running::said(&occupied));
    assert_eq!(running::run(&["parked", "stop", id], &environment).status.code(), Some(0));
}
