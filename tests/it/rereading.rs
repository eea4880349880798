//! Parked messages that never became events, read again: by the mended mapping they become their events, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use podero_bridge::broker::{Frame, Intake, IntakeResult, Properties};
use podero_bridge::config::{Config, Strings};
use podero_bridge::domain::event::{EventKind, EventState};
use podero_bridge::domain::verdict::Reason;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::inbound::amqp::Frames;
use podero_bridge::inbound::mapping::mapper::Mapper;
use podero_bridge::inbound::{AllowedTypes, Backlog, Inbox, TreeBudget};
use podero_bridge::metrics::Metrics;
use podero_bridge::permits::Permits;
use podero_bridge::store::{
    EventSummary, EventView, NotTaken, Ordered, ParkedFilter, ReadAgain, RetryRequest, RetryState, RowKind, Stepped,
    Store, UnreadMessage,
};
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::running::{self, Running};
use crate::servers;
use crate::world::{sign_up, until};

/// A program with a slip, and the mended one.
const BROKEN: &str = r#"{type: "customer.churned", data: {customer_id: .kunde.nr | error("no")}}"#;
const MENDED: &str = r#"{type: $amqp.routing_key, data: {customer_id: .nr}}"#;

const BODY_BYTES_MAX: usize = 1 << 10;

/// The intake of the queue on a store, with a mapping and types of its own source.
fn frames(store: &Store, fixture: &StoreFixture, map: &str, types: &str) -> Frames {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("map.jq");
    std::fs::write(&file, map).expect("written");
    let toml = format!(
        "[[source]]\nname = 'crm'\nverify = 'none'\ntypes = ['{types}']\nmap = {:?}",
        file.display().to_string()
    );
    let config = Config::parse(&toml, &Strings::new(), true).expect("it is right");
    let binary = env!("CARGO_BIN_EXE_podero-bridge").into();
    let inbox = Inbox {
        store: store.clone(),
        clock: fixture.clock.clone(),
        wake: Arc::default(),
        wake_team: Arc::default(),
        metrics: Metrics::new(),
        batch_max: 10,
        body_bytes_max: BODY_BYTES_MAX,
        backlog: Backlog::new(u64::MAX),
        trees: TreeBudget::default(),
        mapper: Mapper::new(&config.sources, binary, 10, BODY_BYTES_MAX),
        types: AllowedTypes::of(&config.sources),
    };
    Frames { inbox, source: "crm".to_owned(), appliers: Permits::default() }
}

fn frame(body: &str) -> Frame {
    Frame {
        body: body.as_bytes().to_vec(),
        content_encoding: None,
        content_type: None,
        headers: BTreeMap::new(),
        message_id: None,
        exchange: "customer.lifecycle".to_owned(),
        routing_key: "customer.churned".to_owned(),
        properties: Properties { timestamp: Some(1_790_000_000), ..Properties::default() },
        redelivered: false,
    }
}

/// Parks a message that the broken program cannot read.
async fn parks(fixture: &StoreFixture, frame: Frame) -> EventSummary {
    let frames = frames(&fixture.store, fixture, BROKEN, "customer.*");
    assert_eq!(frames.take(frame).await, IntakeResult::Stored);
    fixture.store.parked(None).await.expect("the store is there").pop().expect("it is parked")
}

fn id(summary: &EventSummary) -> EventId {
    summary.id
}

async fn retry(fixture: &StoreFixture, parked: &EventSummary) {
    let retried = fixture.store.unpark(id(parked), RetryRequest::Retry, BY).await.expect("the store is there");
    assert_eq!(retried, Some(RowKind::Unreadable));
}

async fn event(fixture: &StoreFixture, id: EventId) -> EventView {
    fixture.store.event(id).await.expect("the store is there").expect("it is known")
}

async fn rereads(frames: &Frames) -> u32 {
    let mut ended = 0;
    while frames.inbox.reread().await.expect("the store is there") {
        ended += 1;
    }
    ended
}

async fn of_customer(fixture: &StoreFixture, customer: &str) -> usize {
    let view = fixture.store.customer(customer).await.expect("the store is there");
    view.map_or(0, |view| view.events.len())
}

on_both_databases! {
    a_mended_mapping_makes_the_event_under_its_own_id
    the_same_message_twice_is_one_event_also_when_two_read_it_at_once
    what_is_still_no_event_stays_parked_with_what_is_wrong_now
    a_batch_whose_items_were_partly_taken_gives_the_rest
    what_was_cut_cannot_be_read_again_and_a_retry_of_many_knows
    what_is_erased_while_it_waits_or_is_read_comes_to_nothing
    a_type_that_its_source_may_not_send_is_parked_and_taken_once_it_may
}

/// A message becomes its event by the mended mapping under its own id and time.
async fn a_mended_mapping_makes_the_event_under_its_own_id(fixture: StoreFixture) {
    let came_at = fixture.clock.now();
    let parked = parks(&fixture, frame(r#"{"nr": "C-1"}"#)).await;
    assert_eq!(parked.reason.as_deref(), Some("untranslatable"));
    fixture.clock.advance(Duration::from_secs(4 * 24 * 60 * 60));
    let mended = frames(&fixture.store, &fixture, MENDED, "customer.*");
    assert_eq!(rereads(&mended).await, 0, "nobody asked for it");
    retry(&fixture, &parked).await;
    assert_eq!(event(&fixture, parked.id).await.event.state, EventState::Pending);
    assert_eq!(rereads(&mended).await, 1);
    let became = event(&fixture, parked.id).await;
    let EventSummary { customer_id, kind, state, time, received_at, reason, detail, .. } = became.event;
    assert_eq!(
        (customer_id.as_deref(), kind, state),
        (Some("C-1"), RowKind::Sent(EventKind::Churned), EventState::Pending)
    );
    assert_eq!(time, Timestamp::parse("2026-09-21T14:13:20Z").expect("a moment"), "when it was sent");
    assert_eq!((received_at, reason, detail), (came_at, None, None));
    assert_eq!(became.original.expect("its bytes").raw, r#"{"nr": "C-1"}"#);
    let claim = fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").expect("it is due");
    assert_eq!(claim.work.event.id, id(&parked));
    assert_eq!(fixture.store.parked(None).await.expect("the store is there").len(), 0);
    assert!(fixture.store.unpark(id(&parked), RetryRequest::Retry, BY).await.expect("the store is there").is_none());
    let shown = mended.inbox.metrics.encode();
    let received = "podero_bridge_events_received_total{source=\"crm\",transport=\"amqp\",type=\"customer.churned\"} 1";
    assert!(shown.contains(received), "{shown}");
}

async fn the_same_message_twice_is_one_event_also_when_two_read_it_at_once(fixture: StoreFixture) {
    let first = parks(&fixture, frame(r#"{"nr": "C-1"}"#)).await;
    let second = parks(&fixture, frame(r#"{"nr": "C-1"}"#)).await;
    assert_ne!(first.id, second.id, "for all that was known they were two");
    retry(&fixture, &first).await;
    retry(&fixture, &second).await;
    let beside = fixture.beside().await;
    let both =
        [frames(&fixture.store, &fixture, MENDED, "customer.*"), frames(&beside, &fixture, MENDED, "customer.*")];
    let ended = tokio::join!(rereads(&both[0]), rereads(&both[1]));
    assert!(ended.0 + ended.1 >= 1, "{ended:?}");
    assert_eq!(of_customer(&fixture, "C-1").await, 1);
    let states = [event(&fixture, first.id).await.event, event(&fixture, second.id).await.event];
    let duplicate =
        states.iter().find(|event| event.state == EventState::Superseded).expect("one of them is the other");
    let detail = duplicate.detail.as_deref().unwrap_or_default();
    let became = states.iter().find(|event| event.state == EventState::Pending).expect("one of them became it");
    assert!(detail.contains(&became.id.to_string()), "{detail}");
    // Sent once more, it is known.
    assert_eq!(both[0].take(frame(r#"{"nr": "C-1"}"#)).await, IntakeResult::Stored);
    assert_eq!(of_customer(&fixture, "C-1").await, 1);
}

async fn what_is_still_no_event_stays_parked_with_what_is_wrong_now(fixture: StoreFixture) {
    let parked = parks(&fixture, frame(r#"{"nr": 7}"#)).await;
    let told = fixture.store.outbox_pending().await.expect("the store is there");
    fixture.clock.advance(Duration::from_secs(1));
    retry(&fixture, &parked).await;
    assert_eq!(rereads(&frames(&fixture.store, &fixture, MENDED, "customer.*")).await, 1);
    let again = event(&fixture, parked.id).await.event;
    assert_eq!((again.state, again.reason.as_deref()), (EventState::Parked, Some("untranslatable")));
    let detail = again.detail.unwrap_or_default();
    assert!(detail.contains("/data/customer_id") && !detail.contains("unmappable"), "{detail}");
    assert_eq!(fixture.store.outbox_pending().await.expect("the store is there"), told + 1, "it is told again");
    // A program without an end.
    retry(&fixture, &parked).await;
    assert_eq!(rereads(&frames(&fixture.store, &fixture, "def f: f; f", "customer.*")).await, 1);
    assert_eq!(event(&fixture, parked.id).await.event.reason.as_deref(), Some("mapping_failed"));
    // None of our business, says the next.
    retry(&fixture, &parked).await;
    assert_eq!(rereads(&frames(&fixture.store, &fixture, "empty", "customer.*")).await, 1);
    assert_eq!(event(&fixture, parked.id).await.event.state, EventState::Superseded);
}

async fn a_batch_whose_items_were_partly_taken_gives_the_rest(fixture: StoreFixture) {
    let batch = |type_name: &str| {
        let mut other = sign_up("e2", "C-2", "2026-09-01T12:00:00Z");
        other["type"] = json!(type_name);
        Value::Array(vec![sign_up("e1", "C-1", "2026-09-01T12:00:00Z"), other]).to_string()
    };
    let strict = frames(&fixture.store, &fixture, MENDED, "customer.signed_up");
    assert_eq!(strict.take(frame(&batch("customer.updated"))).await, IntakeResult::Stored);
    let parked = fixture.store.parked(None).await.expect("the store is there").remove(0);
    assert_eq!((of_customer(&fixture, "C-1").await, of_customer(&fixture, "C-2").await), (1, 0));
    retry(&fixture, &parked).await;
    assert_eq!(rereads(&frames(&fixture.store, &fixture, MENDED, "customer.*")).await, 1);
    assert_eq!((of_customer(&fixture, "C-1").await, of_customer(&fixture, "C-2").await), (1, 1));
    let ended = event(&fixture, parked.id).await.event;
    let detail = ended.detail.unwrap_or_default();
    assert_eq!(ended.state, EventState::Superseded);
    assert!(detail.contains("it became event") && detail.contains("here already"), "{detail}");
}

async fn what_was_cut_cannot_be_read_again_and_a_retry_of_many_knows(fixture: StoreFixture) {
    let large = frame(&format!(r#"{{"nr": "C-1", "notes": "{}"}}"#, "n".repeat(BODY_BYTES_MAX)));
    let cut = parks(&fixture, large).await;
    assert_eq!(cut.reason.as_deref(), Some("too_large"));
    assert_eq!(fixture.store.unpark(id(&cut), RetryRequest::Retry, BY).await.expect("the store is there"), None);
    let why = fixture.store.why_not_taken(id(&cut), RetryRequest::Retry).await.expect("the store is there");
    assert!(why == NotTaken::NotWhole && why.to_string().contains("not all of it was kept"), "{why}");
    for number in 2..5 {
        // A header by the name of the key that says it was cut is no such key.
        let headers = BTreeMap::from([("body_bytes".to_owned(), "7".to_owned())]);
        parks(&fixture, Frame { headers, ..frame(&format!(r#"{{"nr": "C-{number}"}}"#)) }).await;
    }
    let groups = fixture.store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let groups: Vec<_> = groups.iter().map(|group| (&*group.reason, group.count, group.retryable)).collect();
    assert_eq!(groups, [("too_large", 1, 0), ("untranslatable", 3, 3)]);
    let ordered = fixture
        .store
        .order_retry(ParkedFilter::of_reason(Some(Reason::Untranslatable)), 1, BY)
        .await
        .expect("the store is there");
    let Ordered::Running(ordered) = ordered else { panic!("nothing else runs") };
    assert_eq!(ordered.total, 3);
    let step = async || match fixture.store.retry_step(u64::MAX).await.expect("the store is there") {
        Stepped::Retried { count, .. } => count,
        Stepped::Nothing => 0,
    };
    assert_eq!((step().await, step().await), (1, 0), "at its pace");
    for _ in 0..4 {
        fixture.clock.advance(Duration::from_secs(1));
        step().await;
    }
    let ended = fixture.store.bulk_retry(&ordered.id).await.expect("the store is there").expect("it is known");
    assert_eq!((ended.retried, ended.state), (3, RetryState::Done));
    let mended = frames(&fixture.store, &fixture, MENDED, "customer.*");
    assert!(rereads(&mended).await >= 1);
    for number in 2..5 {
        assert_eq!(of_customer(&fixture, &format!("C-{number}")).await, 1);
    }
}

async fn what_is_erased_while_it_waits_or_is_read_comes_to_nothing(fixture: StoreFixture) {
    let body = r#"{"nr": "C-1", "customer_id": "C-1"}"#;
    let waits = parks(&fixture, frame(body)).await;
    retry(&fixture, &waits).await;
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    assert_eq!(event(&fixture, waits.id).await.event.state, EventState::Skipped);
    let mended = frames(&fixture.store, &fixture, MENDED, "customer.*");
    assert_eq!(rereads(&mended).await, 0);

    let body = r#"{"nr": "C-2", "customer_id": "C-2"}"#;
    let is_read = parks(&fixture, frame(body)).await;
    retry(&fixture, &is_read).await;
    let in_hand: UnreadMessage = fixture.store.unread(9).await.expect("the store is there").remove(0);
    fixture.store.erase("C-2", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    let read = ReadAgain { arrivals: Vec::new(), problem: None, is_single: false };
    assert_eq!(fixture.store.settle_unread(&in_hand, read).await.expect("the store is there"), None);
    assert_eq!((of_customer(&fixture, "C-1").await, of_customer(&fixture, "C-2").await), (0, 0));
}

async fn a_type_that_its_source_may_not_send_is_parked_and_taken_once_it_may(fixture: StoreFixture) {
    let strict = frames(&fixture.store, &fixture, MENDED, "customer.signed_up");
    assert_eq!(strict.take(frame(r#"{"nr": "C-1"}"#)).await, IntakeResult::Stored);
    let parked = fixture.store.parked(Some("type_not_allowed")).await.expect("the store is there").remove(0);
    let detail = parked.detail.clone().unwrap_or_default();
    assert!(detail.contains("type-not-allowed") && detail.contains("source.types"), "{detail}");
    // A CloudEvent of its own does not get round it.
    let event = sign_up("e1", "C-1", "2026-09-01T12:00:00Z").to_string().replace("signed_up", "updated");
    assert_eq!(strict.take(frame(&event)).await, IntakeResult::Stored);
    assert_eq!(fixture.store.parked(Some("type_not_allowed")).await.expect("the store is there").len(), 2);
    retry(&fixture, &parked).await;
    assert_eq!(rereads(&frames(&fixture.store, &fixture, MENDED, "customer.*")).await, 1);
    assert_eq!(of_customer(&fixture, "C-1").await, 1);
}

/// After a slip in the mapping the command retries what came also without a bridge.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_slip_in_the_mapping_the_command_retries_alone() {
    let vhost = servers::fresh_vhost();
    let folder = tempfile::tempdir().expect("a folder");
    let map = folder.path().join("map.jq");
    std::fs::write(&map, BROKEN).expect("written");
    let mut environment = running::on_file(folder.path());
    environment.extend([
        ("AMQP__URL", vhost.clone()),
        ("AMQP__SOURCE", "crm".to_owned()),
        ("AMQP__BINDINGS", "crm.#,customer.#".to_owned()),
        ("SOURCE__CRM__VERIFY", "none".to_owned()),
        ("SOURCE__CRM__MAP", map.display().to_string()),
    ]);
    let command = |arguments: &[&str]| running::run(arguments, &environment);
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    until("the queue is there", async || {
        let answer = http.get(format!("{}/readyz", bridge.operator)).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let bus = Bus::connect(&vhost).await;
    for number in 1..=3 {
        let body = json!({"nr": format!("C-{number}"), "mail": format!("c{number}@example.com")}).to_string();
        bus.publish("crm.customer.created", "application/json", body.as_bytes()).await;
    }
    let list = || -> Value {
        let output = command(&["parked", "list", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    until("all are parked", async || (list()["groups"][0]["count"] == 3).then_some(())).await;
    assert_eq!(list()["groups"][0]["retryable"], 3);
    assert_eq!(bridge.terminate(), Some(0));

    let one = list()["parked"][0]["id"].as_str().expect("an id").to_owned();
    let output = command(&["parked", "retry", &one]);
    assert_eq!(output.status.code(), Some(0), "{}", running::said(&output));
    let output = command(&["parked", "retry", "--reason", "untranslatable", "--per-second", "100"]);
    assert_eq!(output.status.code(), Some(0), "{}", running::said(&output));
    let mended = r#"if $amqp.routing_key == "crm.customer.created"
        then {type: "customer.signed_up", data: {customer_id: .nr, email: .mail}} else error("what is it?") end"#;
    std::fs::write(&map, mended).expect("written");
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    until("all three became events, and took effect", async || {
        let output = command(&["customers", "show", "C-3", "--json"]);
        let customer: Value = serde_json::from_slice(&output.stdout).ok()?;
        let is_applied = customer["events"][0]["state"] == "applied";
        (is_applied && list()["parked"] == json!([])).then_some(())
    })
    .await;
    let output = command(&["events", "show", &one, "--json"]);
    let event: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&event["type"], &event["customer_id"]), (&json!("customer.signed_up"), &json!("C-1")), "{event}");
    assert_eq!(bridge.terminate(), Some(0));
}
