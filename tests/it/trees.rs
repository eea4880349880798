//! Bodies that are small as text and large as JSON values, in real processes: their answers at each entrance, and the memory
//! that the process takes.

use std::io::Write as _;
use std::path::Path;

use futures_util::future::join_all;
use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::file::expect;
use crate::running::{self, Environment, Running};
use crate::servers;
use crate::world::{sign_up, until};

const STRUCTURED: &str = "application/cloudevents+json";
const TIME: &str = "2026-10-01T12:00:00Z";

/// More than the values that one body may have, and close below them; an object and its number are two.
const TOO_MANY: usize = 125_000;
const NEARLY_TOO_MANY: usize = 49_000;

/// The memory of a process that reads such bodies: the process itself (50 MiB in a debug build), trees of 64 MiB, bodies of
/// 32 MiB as they came and as they are stored.
const MEMORY_BYTES_MAX: u64 = 260 << 20;

/// Passes a CloudEvent of another type on, and makes a sign-up of any other message.
const MAP: &str = r#"if has("specversion") then . + {type: "customer.signed_up"} | .data |= del(.notes)
    else {type: "customer.signed_up", data: {customer_id: "C-own", email: "c@example.com"}} end"#;

/// A list of the smallest objects, which take 80 times their bytes.
fn objects(count: usize) -> String {
    format!("[{}]", vec![r#"{"a":0}"#; count].join(","))
}

fn event(id: &str, type_name: &str, notes: &str) -> String {
    let mut event = sign_up(id, &format!("C-{id}"), TIME);
    event["type"] = json!(type_name);
    event["data"]["notes"] = json!("NOTES");
    event.to_string().replace("\"NOTES\"", notes)
}

fn environment(folder: &Path) -> Environment {
    let map = folder.join("map.jq");
    std::fs::write(&map, MAP).expect("written");
    let mut environment = running::on_file(folder);
    environment.extend([
        ("SOURCE__CRM__VERIFY", "none".to_owned()),
        ("SOURCE__CRM__MAP", map.display().to_string()),
        ("SOURCE__PLAIN__VERIFY", "none".to_owned()),
        ("WATCH__ENABLED", "false".to_owned()),
    ]);
    environment
}

/// Sends a body to a source; status and answer.
async fn post(bridge: &Running, source: &str, (media_type, body): (&str, String)) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/events/{source}", bridge.door)).body(body);
    let answer = request.header("content-type", media_type).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_would_become_too_many_values_is_refused_in_every_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment(folder.path()));
    let items: Vec<String> =
        (0..10).map(|number| event(&format!("b{number}"), "customer.signed_up", &objects(TOO_MANY / 10))).collect();
    let batch = format!("[{}]", items.join(","));
    for (source, media_type, body) in [
        ("plain", STRUCTURED, event("e1", "customer.signed_up", &objects(TOO_MANY))),
        ("plain", STRUCTURED, event("e2", "customer.signed_up", &format!("[{}0]", "0,".repeat(4 * TOO_MANY)))),
        ("plain", STRUCTURED, event("e3", "customer.signed_up", &format!("[{}[]]", "[[]],".repeat(TOO_MANY)))),
        ("plain", "application/cloudevents-batch+json", batch),
        ("crm", STRUCTURED, event("e4", "com.example.made", &objects(TOO_MANY))),
        ("crm", "application/json", objects(TOO_MANY)),
    ] {
        let (status, answer) = post(&bridge, source, (media_type, body)).await;
        assert_eq!((status, &answer["type"]), (413, &json!("urn:podero-bridge:problem:too-large")), "{answer}");
        assert!(answer["detail"].as_str().expect("text").starts_with("more than 100000 JSON values"), "{answer}");
    }
    let (status, answer) = post(&bridge, "plain", (STRUCTURED, sign_up("e5", "C-5", TIME).to_string())).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(bridge.terminate(), Some(0));
}

/// Events of another type are held as trees while they wait for one of the workers of their source's mapping.
#[tokio::test(flavor = "multi_thread")]
async fn many_bodies_of_many_values_at_once_share_one_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment(folder.path()));
    let sent = (0..20).map(|number| {
        let body = event(&format!("m{number}"), "com.example.made", &objects(NEARLY_TOO_MANY));
        post(&bridge, "crm", (STRUCTURED, body))
    });
    let answers = join_all(sent).await;
    // A slow machine may have no worker in time: the answer says so, too.
    assert!(answers.iter().all(|(status, _)| [202, 503].contains(status)), "{answers:?}");
    let peak = bridge.memory_peak();
    eprintln!("20 bodies of {NEARLY_TOO_MANY} objects: at most {} MiB resident", peak >> 20);
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
    assert_eq!(bridge.terminate(), Some(0));
}

/// Messages that would become too many values are parked in bounded memory.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_too_many_values_are_parked_in_bounded_memory() {
    const MESSAGES: usize = 24;
    let vhost = servers::fresh_vhost();
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = environment(folder.path());
    environment.extend([("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "crm".to_owned())]);
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    until("the queue is there", async || {
        let answer = http.get(format!("{}/readyz", bridge.operator)).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let bus = Bus::connect(&vhost).await;
    let mut bodies = 0;
    for number in 0..MESSAGES {
        let body = event(&format!("q{number}"), "com.example.made", &objects(TOO_MANY));
        bodies += u64::try_from(body.len()).expect("a size");
        let properties = BasicProperties::default().with_content_type(STRUCTURED.into());
        bus.publish_with("customer.signed_up", properties, body.as_bytes()).await;
    }
    let parked = until("all are parked", async || {
        let listed = http.get(format!("{}/v1/parked", bridge.operator)).send().await.ok()?;
        let listed: Value = listed.json().await.ok()?;
        let parked = listed["parked"].as_array()?.clone();
        (parked.len() == MESSAGES).then_some(parked)
    })
    .await;
    assert!(parked.iter().all(|row| row["reason"] == "too_large"), "{parked:?}");
    // With its bytes, which are read again in the same bounds.
    let id = parked[0]["id"].as_str().expect("an id");
    let shown = http.get(format!("{}/v1/events/{id}", bridge.operator)).send().await.expect("an answer");
    let shown: Value = shown.json().await.expect("JSON");
    assert!(shown["raw"].as_str().expect("text").len() > TOO_MANY * 8, "all of it is kept");
    let retried = http
        .post(format!("{}/v1/parked/{id}/retry", bridge.operator))
        .header("content-type", "application/json")
        .send()
        .await
        .expect("an answer");
    assert_eq!(retried.status(), 200);
    until("it was read again", async || bridge.log().contains("a parked message was read again").then_some(())).await;
    let peak = bridge.memory_peak();
    eprintln!("{MESSAGES} messages of {TOO_MANY} objects: at most {} MiB resident", peak >> 20);
    assert!(peak < MEMORY_BYTES_MAX + bodies, "{} MiB", peak >> 20);
    assert_eq!(bridge.terminate(), Some(0));
}

/// A line that would become too many values is rejected and explain says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_too_many_values_is_rejected_and_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = environment(folder.path());
    assert_eq!(Running::start(folder.path(), &["--sandbox"], &environment).terminate(), Some(0));
    let path = folder.path().join("lines.ndjson");
    let mut file = std::fs::File::create(&path).expect("a file");
    for (number, type_name) in ["customer.signed_up", "com.example.made"].into_iter().enumerate() {
        writeln!(file, "{}", event(&format!("l{number}"), type_name, &objects(TOO_MANY))).expect("written");
    }
    writeln!(file, "{}", objects(TOO_MANY)).expect("written");
    writeln!(file, "{}", sign_up("l9", "C-9", TIME)).expect("written");
    drop(file);
    let output = running::run(&["import", "--source", "crm", path.to_str().expect("text")], &environment);
    expect(&output, 1, "accepted 1, duplicate 0, rejected 3");
    let rejected = std::fs::read_to_string(folder.path().join("lines.ndjson.rejected.ndjson")).expect("it is there");
    assert_eq!(rejected.matches("more than 100000 JSON values").count(), 3, "{}", &rejected[..300]);
    let message = folder.path().join("message.json");
    std::fs::write(&message, event("x1", "customer.signed_up", &objects(TOO_MANY))).expect("written");
    let output = running::run(&["explain", "--source", "crm", message.to_str().expect("text")], &environment);
    assert!(running::said(&output).contains("more than 100000 JSON values"), "{}", running::said(&output));
}
