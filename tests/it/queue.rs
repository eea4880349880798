//! The intake of the queue: what is kept of messages that never become events and when two of them are one; the order and the
//! bounds of what waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use podero_bridge::broker::{Frame, Intake, IntakeResult, Properties};
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::event::Happening;
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::inbound::amqp::Frames;
use podero_bridge::inbound::mapping::mapper::Mapper;
use podero_bridge::inbound::{AllowedTypes, Backlog, Inbox, TreeBudget, UNREADABLE_MAX};
use podero_bridge::metrics::Metrics;
use podero_bridge::permits::Permits;
use podero_bridge::store::{Ordered, ParkedFilter, Stepped};
use serde_json::json;

use crate::bus::Bus;
use crate::kit::{BY, Fixture, StoreFixture, on_both_databases};
use crate::running::{self, Running};
use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

const INBOUND: &str = "podero-bridge.inbound";

/// The intake of the queue on a store.
fn frames(fixture: &StoreFixture) -> Frames {
    let inbox = Inbox {
        store: fixture.store.clone(),
        clock: fixture.clock.clone(),
        wake: Arc::default(),
        wake_team: Arc::default(),
        metrics: Metrics::new(),
        batch_max: 100,
        body_bytes_max: 1 << 10,
        backlog: Backlog::new(u64::MAX),
        trees: TreeBudget::default(),
        mapper: Mapper::none(),
        types: AllowedTypes::default(),
    };
    Frames { inbox, source: "default".to_owned(), appliers: Permits::default() }
}

/// A CloudEvent in binary mode that lacks its type.
fn frame(ce_id: &str) -> Frame {
    Frame {
        body: b"{\"customer_id\":\"C-1\"}".to_vec(),
        content_type: Some("application/json".to_owned()),
        content_encoding: None,
        headers: BTreeMap::from([("ce-id".to_owned(), ce_id.to_owned())]),
        message_id: None,
        exchange: "customer.lifecycle".to_owned(),
        routing_key: "customer.churned".to_owned(),
        properties: Properties::default(),
        redelivered: false,
    }
}

async fn rows(fixture: &StoreFixture) -> usize {
    fixture.store.parked(None).await.expect("the store is there").len()
}

on_both_databases! {
    redelivered_is_the_one_that_is_there_and_equal_ones_are_several
    one_that_is_offered_again_after_a_lost_answer_is_one
    an_erasure_empties_the_envelope_as_well
    what_is_no_event_has_a_bound_beyond_which_it_stays_in_the_queue
    a_retry_of_many_waits_while_the_backlog_is_more_than_half_full
}

async fn redelivered_is_the_one_that_is_there_and_equal_ones_are_several(fixture: StoreFixture) {
    let frames = frames(&fixture);
    for _ in 0..3 {
        assert_eq!(frames.take(frame("1")).await, IntakeResult::Stored);
    }
    assert_eq!(rows(&fixture).await, 3, "for all that is known they are three");
    // Their acks were lost with a connection.
    for _ in 0..3 {
        assert_eq!(frames.take(Frame { redelivered: true, ..frame("1") }).await, IntakeResult::Stored);
    }
    assert_eq!(rows(&fixture).await, 3);
    // Redelivered, and never seen here: another consumer had it in hand.
    assert_eq!(frames.take(Frame { redelivered: true, ..frame("2") }).await, IntakeResult::Stored);
    assert_eq!(rows(&fixture).await, 4);
    // A message with a sender's name is one, also when the sender repeats it; another name is another message.
    for name in ["m1", "m1", "m2"] {
        assert_eq!(frames.take(Frame { message_id: Some(name.to_owned()), ..frame("1") }).await, IntakeResult::Stored);
    }
    assert_eq!(rows(&fixture).await, 6);
    let duplicates = "podero_bridge_events_settled_total{outcome=\"duplicate\",type=\"unknown\"} 4";
    let shown = frames.inbox.metrics.encode();
    assert!(shown.contains(duplicates), "{shown}");
}

async fn one_that_is_offered_again_after_a_lost_answer_is_one(fixture: StoreFixture) {
    let frames = frames(&fixture);
    for held in [frames.hold(frame("1")), frames.hold(frame("1"))] {
        for _ in 0..2 {
            assert_eq!(frames.offer(&held).await, IntakeResult::Stored);
        }
    }
    assert_eq!(rows(&fixture).await, 2);
}

async fn what_is_no_event_has_a_bound_beyond_which_it_stays_in_the_queue(fixture: StoreFixture) {
    let frames = frames(&fixture);
    frames.inbox.backlog.set(0, 0, UNREADABLE_MAX - 1);
    assert_eq!(frames.take(frame("1")).await, IntakeResult::Stored);
    assert_eq!(frames.take(frame("2")).await, IntakeResult::NotNow);
    let complaints = frames.inbox.backlog.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("stay in RabbitMQ"), "{complaints:?}");
    let event = sign_up("e1", "C-1", "2026-10-01T12:00:00Z").to_string().into_bytes();
    let structured = Some("application/cloudevents+json".to_owned());
    assert_eq!(frames.take(Frame { body: event, content_type: structured, ..frame("3") }).await, IntakeResult::Stored);
    // Skipped, they are counted no more. Messages that may still be retried stay.
    let refused = Fate::Parked { reason: Reason::Refused, detail: "create_user 422".to_owned() };
    fixture.settle_head(refused).await;
    assert_eq!(fixture.store.skip_unreadable(Some(Reason::TooLarge), None, BY).await.expect("the store is there"), 0);
    assert_eq!(fixture.store.skip_unreadable(None, None, BY).await.expect("the store is there"), 1);
    let gauges = fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there");
    assert_eq!((gauges.parked, gauges.parked_unreadable), (1, 0));
}

async fn a_retry_of_many_waits_while_the_backlog_is_more_than_half_full(fixture: StoreFixture) {
    let refused = Fate::Parked { reason: Reason::Refused, detail: "create_user 422".to_owned() };
    fixture.ends("C-1", refused).await;
    for customer in ["C-2", "C-3"] {
        fixture.store.accept(vec![fixture.arrival(customer, Happening::Churned)]).await.expect("the store is there");
    }
    let ordered =
        fixture.store.order_retry(ParkedFilter::of_reason(None), 1_000, BY).await.expect("the store is there");
    assert!(matches!(ordered, Ordered::Running(_)), "{ordered:?}");
    let retried = async |backlog_max| match fixture.store.retry_step(backlog_max).await.expect("the store is there") {
        Stepped::Retried { count, .. } => count,
        Stepped::Nothing => panic!("one runs"),
    };
    assert_eq!(retried(3).await, 0, "two of three are pending");
    assert_eq!(retried(4).await, 1);
}

#[tokio::test]
async fn the_command_skips_many_that_can_only_be_skipped() {
    let fixture = StoreFixture::on_sqlite().await;
    let frames = frames(&fixture);
    for number in 0..3 {
        frames.take(frame(&number.to_string())).await;
    }
    let environment = vec![("STORE__URL", fixture.url.clone()), ("SOURCE__DEFAULT__VERIFY", "none".to_owned())];
    let skip = async |which: [&'static str; 2]| {
        let arguments = ["parked", "skip", "--json", which[0], which[1]];
        let arguments = arguments.map(str::to_owned).into_iter().filter(|argument| !argument.is_empty());
        let (arguments, environment) = (arguments.collect::<Vec<_>>(), environment.clone());
        let run = move || running::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &environment);
        running::said(&tokio::task::spawn_blocking(run).await.expect("it ran"))
    };
    assert!(skip(["--reason", "too_large"]).await.contains("\"skipped\": 0"));
    let all = skip(["--all", ""]).await;
    assert!(all.contains("\"skipped\": 3"), "{all}");
    assert_eq!(rows(&fixture).await, 0);
}

async fn an_erasure_empties_the_envelope_as_well(fixture: StoreFixture) {
    let (frames, subject) = (frames(&fixture), ("ce-subject".to_owned(), "C-1".to_owned()));
    frames.take(Frame { headers: BTreeMap::from([subject]), ..frame("1") }).await;
    let id = fixture.store.parked(None).await.expect("the store is there").remove(0).id;
    let envelope = async || {
        let view = fixture.store.event(id).await.expect("the store is there").expect("it is known");
        view.original.expect("its bytes").envelope
    };
    assert_eq!(envelope().await.expect("it is kept")["headers"], json!({"ce-subject": "C-1"}));
    fixture.store.erase("C-1", &[], false, BY).await.expect("the store is there").expect("nothing is in the way");
    assert_eq!(envelope().await, None);
}

/// Events without a time keep the order in which they came however long they wait.
#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_time_keep_the_order_of_their_arrival() {
    let vhost = servers::fresh_vhost();
    let environment = vec![("AMQP__URL", vhost.clone()), ("STORE__BACKLOG_MAX", "3".into())];
    let world = World::start(Database::Sqlite, Settings { environment, ..Settings::default() }).await;
    world.ready().await;
    world.apply(&sign_up("e0", "C-1", "2026-10-01T12:00:00Z")).await;
    world.fault(&json!({"operation": "*", "kind": "status", "status": 503, "probability": 1.0})).await;
    for number in 2..5 {
        world.send(&sign_up(&format!("e{number}"), &format!("C-{number}"), "2026-10-01T12:00:00Z")).await;
    }
    let bus = Bus::connect(&vhost).await;
    for number in 1..=10 {
        let data = json!({"customer_id": "C-1", "first_name": format!("Anna {number}")});
        let mut update = event(&format!("u{number}"), "customer.updated", "", &data);
        update.as_object_mut().expect("an object").remove("time");
        bus.publish_event(&update).await;
    }
    until("the bridge has them in hand", async || (bus.ready(INBOUND).await == 0).then_some(())).await;
    // The backlog is full, so each is refused for now and offered again at a moment of its own.
    podero_bridge::pump::sleep(Duration::from_secs(1)).await;
    world.no_faults().await;
    let settled = until("all took effect", async || {
        let customer = world.get(&world.operator("/v1/customers/C-1")).await;
        let mut events = customer["events"].as_array()?.clone();
        let is_over = events.len() == 11 && events.iter().all(|event| event["state"] != "pending");
        events.sort_by_key(|event| (event["time"].to_string(), event["id"].to_string()));
        is_over.then_some(events)
    })
    .await;
    let order: Vec<String> =
        settled.iter().map(|event| event["origin_id"].as_str().expect("text").to_owned()).collect();
    assert_eq!(order[1..], (1..=10).map(|number| format!("u{number}")).collect::<Vec<_>>());
    let user = world.sandbox_state().await["users"].as_array().expect("users").clone();
    let names: Vec<&str> = user.iter().filter_map(|user| user["first_name"].as_str()).collect();
    assert!(names.contains(&"Anna 10"), "{names:?}");
    world.bridge.stop().await;
}

/// Three binary mode messages with equal bodies are three rows with their envelopes.
#[tokio::test(flavor = "multi_thread")]
async fn binary_mode_messages_with_equal_bodies_are_separate_rows() {
    let vhost = servers::fresh_vhost();
    let settings = Settings { environment: vec![("AMQP__URL", vhost.clone())], ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    for number in 1..=3 {
        let mut headers = FieldTable::default();
        let mut add = |name: &str, value: String| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        add("ce-id", format!("e{number}"));
        add("ce-type", "customer.churned".to_owned());
        add("authorization", "Bearer hunter2".to_owned());
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(format!("m{number}").into())
            .with_headers(headers);
        bus.publish_with("customer.churned", properties, b"{\"customer_id\":\"C-1\"}").await;
    }
    let parked = until("all are parked", async || {
        let listed = world.get(&world.operator("/v1/parked")).await;
        let parked = listed["parked"].as_array().expect("a list").clone();
        (parked.len() == 3).then_some(parked)
    })
    .await;
    let mut shown = Vec::new();
    for row in &parked {
        let id = row["id"].as_str().expect("an id");
        let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
        shown.push(event["envelope"].clone());
    }
    shown.sort_by_key(|envelope| envelope["message_id"].to_string());
    let expected = |number: u32| {
        json!({
            "content_type": "application/json",
            "headers": {"ce-id": format!("e{number}"), "ce-type": "customer.churned"},
            "message_id": format!("m{number}"),
            "properties": {"exchange": "customer.lifecycle"},
            "routing_key": "customer.churned",
        })
    };
    assert_eq!(shown, [expected(1), expected(2), expected(3)]);
    world.bridge.stop().await;
}

/// Large messages of the next test, and what a bridge may need in addition to what lapin holds of them: the budget of bodies that
/// are being worked on a few times over, the process itself, and what the allocator keeps.
const LARGE: u64 = 120;
const LARGE_BYTES: usize = 1_000_000;
const BESIDE_MAX: u64 = 160 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_large_messages_are_worked_on_in_bounded_memory() {
    let vhost = servers::fresh_vhost();
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = running::on_file(folder.path());
    environment.push(("AMQP__URL", vhost.clone()));
    // It declares the queue, and ends.
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    let is_ready = async |bridge: &Running| {
        let answer = http.get(format!("{}/readyz", bridge.operator)).send().await.ok()?;
        (answer.status() == 200).then_some(())
    };
    until("the queue is there", async || is_ready(&bridge).await).await;
    assert_eq!(bridge.terminate(), Some(0));
    let bus = Bus::connect(&vhost).await;
    for number in 0..LARGE {
        let mut large = sign_up(&format!("e{number}"), &format!("C-{number}"), "2026-10-01T12:00:00Z");
        large["data"]["notes"] = json!("n".repeat(LARGE_BYTES));
        bus.publish_event(&large).await;
    }
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    until("all are stored", async || {
        let text = http.get(format!("{}/metrics", bridge.operator)).send().await.ok()?.text().await.ok()?;
        let series =
            "podero_bridge_events_received_total{source=\"default\",transport=\"amqp\",type=\"customer.signed_up\"}";
        let received = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<u64>().ok());
        (received == Some(LARGE)).then_some(())
    })
    .await;
    let (peak, bodies) = (bridge.memory_peak(), LARGE * u64::try_from(LARGE_BYTES).expect("a size"));
    eprintln!("{LARGE} messages, {} MiB: at most {} MiB resident", bodies >> 20, peak >> 20);
    assert!(peak < bodies + BESIDE_MAX, "{} MiB", peak >> 20);
    assert_eq!(bridge.terminate(), Some(0));
}

/// A source's own messages: what they are stands in the routing key, or in the property `type`.
const MAP: &str = r#"
    if $amqp.routing_key == "customer.ended" or $amqp.type == "Ended" then
        {type: "customer.churned", data: {customer_id: .nr}}
    else
        {type: "customer.signed_up", data: {customer_id: .nr, email: .mail}}
    end"#;

/// A bridge whose messages are translated by [`MAP`], and the other end of its bus.
async fn mapped_world() -> (World, Bus, tempfile::TempDir) {
    let vhost = servers::fresh_vhost();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("map.jq");
    std::fs::write(&file, MAP).expect("written");
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"crm\"\nverify = \"none\"\nmap = {:?}\n",
        file.display().to_string()
    );
    let environment = vec![("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "crm".to_owned())];
    let world = World::start(Database::Sqlite, Settings { toml, environment }).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    (world, bus, folder)
}

async fn events_of(world: &World, customer: &str, count: usize) -> Vec<serde_json::Value> {
    until("the customer's events are there", async || {
        let view = world.get(&world.operator(&format!("/v1/customers/{customer}"))).await;
        let events = view["events"].as_array()?.clone();
        (events.len() == count).then_some(events)
    })
    .await
}

async fn all_parked(world: &World, count: usize) -> Vec<serde_json::Value> {
    until("they are parked", async || {
        let listed = world.get(&world.operator("/v1/parked")).await;
        let parked = listed["parked"].as_array()?.clone();
        (parked.len() == count).then_some(parked)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_the_forms_in_which_clients_of_rabbitmq_send_them() {
    let (world, bus, _folder) = mapped_world().await;
    let media_types =
        [None, Some("application/json"), Some("application/octet-stream"), Some("text/plain; charset=UTF-8")];
    for (number, media_type) in media_types.into_iter().enumerate() {
        let mut properties = BasicProperties::default();
        if let Some(media_type) = media_type {
            properties = properties.with_content_type(media_type.into());
        }
        let event = sign_up(&format!("s{number}"), &format!("S-{number}"), "2026-10-01T12:00:00Z");
        bus.publish_with("customer.signed_up", properties, event.to_string().as_bytes()).await;
        assert_eq!(events_of(&world, &format!("S-{number}"), 1).await[0]["origin_id"], format!("s{number}"));
    }
    let both = json!([sign_up("t1", "T-1", "2026-10-01T12:00:00Z"), sign_up("t2", "T-2", "2026-10-01T12:00:00Z"),]);
    bus.publish_with("customer.signed_up", BasicProperties::default(), both.to_string().as_bytes()).await;
    events_of(&world, "T-1", 1).await;
    events_of(&world, "T-2", 1).await;
    for (number, prefix) in ["ce-", "ce_", "cloudEvents:", "cloudEvents_"].into_iter().enumerate() {
        let customer = format!("B-{number}");
        let mut headers = FieldTable::default();
        let attributes = [
            ("specversion", "1.0"),
            ("id", customer.as_str()),
            ("source", "/billing"),
            ("type", "customer.churned"),
            ("subject", customer.as_str()),
            ("time", "2026-10-01T12:00:00Z"),
        ];
        for (name, text) in attributes {
            headers.insert(format!("{prefix}{name}").into(), AMQPValue::ByteArray(text.as_bytes().into()));
        }
        bus.publish_with("customer.churned", BasicProperties::default().with_headers(headers), b"").await;
        assert_eq!(events_of(&world, &customer, 1).await[0]["type"], "customer.churned", "{prefix}");
    }
    assert_eq!(all_parked(&world, 0).await.len(), 0);
    // A value that is no text was said all the same, so the event is not one without it.
    let mut headers = FieldTable::default();
    for (name, text) in [("specversion", "1.0"), ("id", "l1"), ("source", "/billing"), ("type", "customer.churned")] {
        headers.insert(format!("ce-{name}").into(), AMQPValue::LongString(text.into()));
    }
    headers.insert("ce-subject".into(), AMQPValue::ByteArray(b"M\xfcller".as_slice().into()));
    let properties = BasicProperties::default().with_headers(headers);
    bus.publish_with("customer.churned", properties, b"{\"customer_id\":\"C-9\"}").await;
    let detail = all_parked(&world, 1).await[0]["detail"].clone();
    assert!(detail.as_str().is_some_and(|detail| detail.contains("/subject") && detail.contains("UTF-8")), "{detail}");
    world.bridge.stop().await;
}

/// A mapping sees routing key and properties and the timestamp dates what has no time.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_sees_the_routing_key_and_the_properties() {
    let (world, bus, _folder) = mapped_world().await;
    let sent_at = |seconds: u64| BasicProperties::default().with_timestamp(seconds);
    let body = br#"{"nr": "C-1", "mail": "anna@example.com"}"#;
    // The same bytes, and two events: the routing key tells them apart.
    bus.publish_with("customer.begun", sent_at(1_790_000_000), body).await;
    bus.publish_with("customer.ended", sent_at(1_790_000_060_000), body).await;
    let mut events = events_of(&world, "C-1", 2).await;
    events.sort_by_key(|event| event["time"].to_string());
    let told: Vec<_> = events.iter().map(|event| (event["type"].as_str(), event["time"].as_str())).collect();
    let expected = [
        (Some("customer.signed_up"), Some("2026-09-21T14:13:20Z")),
        (Some("customer.churned"), Some("2026-09-21T14:14:20Z")),
    ];
    assert_eq!(told, expected, "seconds, and milliseconds");
    bus.publish_with("customer.begun", sent_at(1_790_000_000), body).await;
    bus.publish_with("customer.something", BasicProperties::default().with_type("Ended".into()), b"{\"nr\": \"C-2\"}")
        .await;
    assert_eq!(events_of(&world, "C-2", 1).await[0]["type"], "customer.churned");
    assert_eq!(events_of(&world, "C-1", 2).await.len(), 2, "a repeat is one");

    // An event of its own, without a time; by the webhook of the same source it is the same one.
    let mut event = sign_up("e3", "C-3", "");
    event.as_object_mut().expect("an object").remove("time");
    bus.publish_with("customer.signed_up", sent_at(1_790_000_000), event.to_string().as_bytes()).await;
    assert_eq!(events_of(&world, "C-3", 1).await[0]["time"], "2026-09-21T14:13:20Z");
    let url = world.door("/v1/events/crm");
    let (status, answer) = world.post(&url, "application/cloudevents+json", event.to_string()).await;
    assert_eq!((status, &answer["status"]), (202, &json!("duplicate")), "{answer}");
    // An event with a time needs no timestamp; one without is not dated by a timestamp that cannot be meant.
    let dated = sign_up("e4", "C-4", "2026-10-01T12:00:00Z");
    bus.publish_with("customer.signed_up", sent_at(20_261_001), dated.to_string().as_bytes()).await;
    assert_eq!(events_of(&world, "C-4", 1).await[0]["time"], "2026-10-01T12:00:00Z");
    event["id"] = json!("e5");
    bus.publish_with("customer.signed_up", sent_at(20_261_001), event.to_string().as_bytes()).await;
    let parked = all_parked(&world, 1).await;
    let detail = parked[0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("/time") && detail.contains("timestamp") && !detail.contains("20261001"), "{detail}");
    world.bridge.stop().await;
}
