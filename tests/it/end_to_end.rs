//! Real input through the whole bridge: webhooks and RabbitMQ at once, SQLite and PostgreSQL, the sandbox at the end.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::servers;
use crate::stories::{Stories, as_delivered, differences};
use crate::world::{Database, Settings, World, event, sign_up, until, until_within};

const CUSTOMERS: usize = 1_000;
const EVENTS: usize = 5_000;
const SEED: u64 = 20_261_001;

async fn real_input(database: Database) {
    let mut dice = StdRng::seed_from_u64(SEED);
    let Stories { events, ends } = Stories::tell(CUSTOMERS, EVENTS, &mut dice);
    assert_eq!((events.len(), ends.len()), (EVENTS, CUSTOMERS));
    let delivered = as_delivered(events, &mut dice);
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let world = World::start(
        database,
        Settings { toml: "[watch]\nenabled = false\n".into(), environment: vec![("AMQP__URL", vhost.clone())] },
    )
    .await;
    world.ready().await;

    // Each delivery goes by webhook or by queue, by chance, both at the same time.
    let (by_webhook, by_queue): (Vec<Value>, Vec<Value>) =
        delivered.into_iter().partition(|_| dice.random_range(0..2) == 0);
    assert!(by_webhook.len() > EVENTS / 3 && by_queue.len() > EVENTS / 3);
    let bus = Bus::connect(&vhost).await;
    let webhooks = stream::iter(by_webhook.chunks(25)).for_each_concurrent(8, async |chunk| {
        let (url, body) = (world.door("/v1/events"), json!(chunk).to_string());
        let (status, answer) = world.post(&url, "application/cloudevents-batch+json", body).await;
        assert_eq!(status, 202);
        let results = answer["results"].as_array().expect("results");
        assert!(results.iter().all(|result| result["status"] != "rejected"), "{answer}");
    });
    let frames = stream::iter(&by_queue).for_each_concurrent(64, |event| bus.publish_event(event));
    tokio::join!(webhooks, frames);

    let patience = Duration::from_secs(240);
    until_within(patience, "every event has its effect", async || {
        let settled = settled(&world).await;
        (settled == EVENTS as u64).then_some(())
    })
    .await;
    until("the gauges follow", async || {
        (world.metric("podero_bridge_events_pending").await == Some(0.0)).then_some(())
    })
    .await;
    let parked = world.get(&world.operator("/v1/parked")).await;
    assert_eq!(parked["parked"], json!([]), "nothing had to be parked");
    let differences = differences(&world.sandbox_state().await, &ends);
    assert!(differences.are_none(), "{differences:#?}");
    world.bridge.stop().await;
}

/// Events that have come to an end, duplicates not counted: there were no others to count.
async fn settled(world: &World) -> u64 {
    let (_, text) = world.get_text(&world.operator("/metrics")).await;
    let ends = text.lines().filter(|line| line.starts_with("podero_bridge_events_settled_total"));
    let ends = ends.filter(|line| !line.contains("duplicate"));
    ends.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_events_by_both_doors_end_as_told_on_sqlite() {
    real_input(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_events_by_both_doors_end_as_told_on_postgres() {
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    real_input(Database::Postgres(url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_the_start_comes_alive_without_a_restart() {
    let broker = tokio::task::spawn_blocking(|| {
        let broker = servers::Broker::start();
        broker.stop();
        broker
    })
    .await
    .expect("a broker of our own");
    let settings = Settings { environment: vec![("AMQP__URL", broker.url())], ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    let applied = world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    assert_eq!(applied["state"], "applied", "webhooks are taken, and Podero is called");
    let (status, ready) = world.get_text(&world.operator("/readyz")).await;
    assert_eq!(status, 503);
    assert!(ready.contains("[-] broker") && ready.contains("[-] consumer") && ready.contains("[+] store"), "{ready}");

    let broker = tokio::task::spawn_blocking(move || {
        broker.start_again();
        broker
    })
    .await
    .expect("started");
    world.ready().await;
    until("what it had to say is out", async || {
        (world.metric("podero_bridge_notices_published_total{type=\"customer.provisioned\"}").await == Some(1.0))
            .then_some(())
    })
    .await;
    // Nothing was tried without a connection, or it would now sit out a back-off.
    let customer = world.get(&world.operator("/v1/customers/C-1")).await;
    assert_eq!(customer["notices"][0]["failures"], 0, "{customer}");
    let bus = Bus::connect(&broker.url()).await;
    let mut listener = bus.listen(&["#"]).await;
    bus.publish_event(&event("e2", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-1"}))).await;
    let heard = listener.next(Duration::from_secs(60)).await.expect("the churn came in and its news went out");
    assert_eq!(heard.routing_key, "customer.offboarded");
    assert_eq!(heard.event["type"], "customer.offboarded");
    assert_eq!(heard.event["id"], json!(heard.message_id));
    assert_eq!(heard.content_type, "application/cloudevents+json");
    assert!(heard.is_persistent);
    world.bridge.stop().await;
    drop(bus);
    tokio::task::spawn_blocking(move || drop(broker)).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_parked_from_the_queue_with_its_bytes_and_acked() {
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let settings = Settings { environment: vec![("AMQP__URL", vhost.clone())], ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let mut listener = bus.listen(&["event.parked"]).await;
    bus.publish("customer.signed_up", "text/plain", b"\xff\x00 not an event").await;
    let heard = listener.next(Duration::from_secs(30)).await.expect("the operator is told");
    assert_eq!(heard.event["data"]["reason"], "untranslatable");
    let parked = world.get(&world.operator("/v1/parked?reason=untranslatable")).await;
    let id = parked["parked"][0]["id"].as_str().expect("one is parked").to_owned();
    let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
    assert_eq!((&event["raw_encoding"], &event["raw"]), (&json!("base64"), &json!("/wAgbm90IGFuIGV2ZW50")));
    // An unreadable frame holds back no other.
    bus.publish_event(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    until("the next one took effect", async || {
        let state = world.sandbox_state().await;
        (state["users"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_podero_acted_makes_nothing_twice() {
    let settings = Settings { toml: "[watch]\nenabled = false\n".into(), ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    let mut number = 0;
    for operation in ["create_user", "create_building", "find_user"] {
        for kind in ["drop_after", "garbage", "drop_before"] {
            number += 1;
            let customer = format!("C-{number}");
            world.fault(&json!({"operation": operation, "kind": kind, "times": 1})).await;
            let id = format!("e-{number}");
            let (status, answer) = world.send(&sign_up(&id, &customer, "2026-10-01T12:00:00Z")).await;
            assert_eq!(status, 202, "{answer}");
            let event = world.settled(answer["id"].as_str().expect("an id")).await;
            assert_eq!(event["state"], "applied", "{operation} {kind}: {event}");
            let state = world.sandbox_state().await;
            let users: Vec<&Value> = state["users"]
                .as_array()
                .expect("users")
                .iter()
                .filter(|user| user["external_user_id"] == json!(customer))
                .collect();
            assert_eq!(users.len(), 1, "{operation} {kind}");
            let buildings = state["buildings"].as_array().expect("buildings").iter();
            let own = buildings.filter(|building| building["user_id"] == users[0]["id"]).count();
            assert_eq!(own, 1, "{operation} {kind}");
            // The rules that struck are gone; a rule that did not strike would make this test say nothing.
            let calls = event["calls"].to_string();
            assert!(calls.contains("unknown: ") || calls.contains("unsent: "), "{operation} {kind}: {calls}");
        }
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_user_of_ours_is_adopted_and_staff_is_never_touched() {
    let settings = Settings { toml: "[watch]\nenabled = false\n".into(), ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    // Made by hand in Podero's portal, long before the bridge.
    let account = podero_bridge::sandbox::SandboxAccount::default();
    let base = world.sandbox("").replace("/_sandbox", "");
    let token: Value = world
        .http
        .post(format!("{base}/oauth2/token/"))
        .basic_auth(&account.client_id, Some(&account.client_secret))
        .header("content-type", "application/json")
        .body(r#"{"grant_type":"client_credentials"}"#)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let make = async |external_id: &str, role: &str| {
        let body =
            json!({"role": role, "email": format!("{external_id}@example.com"), "external_user_id": external_id});
        let answer = world
            .http
            .post(format!("{base}/api/partners/v2.0/org/{}/users", account.org_id))
            .bearer_auth(token["access_token"].as_str().expect("a token"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        answer.json::<Value>().await.expect("JSON")["id"].clone()
    };
    let ours = make("C-1", "user").await;
    make("C-2", "staff").await;
    let applied = world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    assert_eq!(applied["state"], "applied");
    for (id, event) in [
        ("e2", sign_up("e2", "C-2", "2026-10-01T12:00:00Z")),
        ("e3", event("e3", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-2"}))),
    ] {
        let parked = world.apply(&event).await;
        assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!("not_a_customer")), "{id}");
    }
    let state = world.sandbox_state().await;
    let users = state["users"].as_array().expect("users");
    assert_eq!(users.len(), 2, "nobody was made");
    let adopted = users.iter().find(|user| user["id"] == ours).expect("still there");
    assert_eq!((&adopted["first_name"], &adopted["zip_code"]), (&json!("Anna"), &json!("01067")));
    let staff = users.iter().find(|user| user["role"] == "staff").expect("still there");
    assert_eq!((&staff["deleted"], &staff["first_name"]), (&json!(false), &Value::Null));
    world.bridge.stop().await;
}

#[tokio::test]
async fn an_announced_move_is_put_off_and_called_off_and_the_timeline_says_so() {
    let world = World::start(Database::Sqlite, Settings::default()).await;
    world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    let town = |town: &str| json!({"street_and_number": "Ring 9", "town": town, "country": "AT"});
    let announce = |id: &str, said: &str, day: &str| {
        let data = json!({"customer_id": "C-1", "address": town("Wien"), "effective_at": day});
        event(id, "customer.moved", said, &data)
    };
    let send = async |event: Value| {
        let (status, answer) = world.send(&event).await;
        assert_eq!(status, 202, "{answer}");
        (answer["id"].as_str().expect("an id").to_owned(), answer["state"].clone())
    };
    let (first, state) = send(announce("e2", "2026-10-02T12:00:00Z", "2035-01-01T00:00:00Z")).await;
    assert_eq!(state, "scheduled");
    let (second, _) = send(announce("e3", "2026-10-03T12:00:00Z", "2035-02-01T00:00:00Z")).await;
    let off = event("e4", "customer.moved", "2026-10-04T12:00:00Z", &json!({"customer_id": "C-1", "cancelled": true}));
    let (third, state) = send(off).await;
    assert_eq!(state, "applied");
    let timeline = world.get(&world.operator("/v1/customers/C-1")).await;
    let told: Vec<_> = timeline["events"].as_array().expect("events").iter().take(3).collect();
    let of =
        |event: &Value| (event["id"].clone(), event["state"].clone(), event["reason"].clone(), event["detail"].clone());
    let replaced_by = |id: &str| json!(format!("replaced by event {id}"));
    assert_eq!(of(told[0]), (json!(third), json!("applied"), Value::Null, Value::Null));
    assert_eq!(of(told[1]), (json!(second), json!("superseded"), json!("replaced"), replaced_by(&third)));
    assert_eq!(of(told[2]), (json!(first), json!("superseded"), json!("replaced"), replaced_by(&second)));
    until("the replaced ones are counted", async || {
        let series = "podero_bridge_events_settled_total{outcome=\"superseded\",type=\"customer.moved\"}";
        (world.metric(series).await == Some(2.0)).then_some(())
    })
    .await;
    world.bridge.stop().await;
}
