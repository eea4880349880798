//! Senders that we did not write: deliveries made by the official CloudEvents SDK and by the library of Standard Webhooks
//! (`tests/senders/make.py`), and each way of proving who one is, over real HTTP and a real RabbitMQ.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use podero_bridge::config::{Secret, Secrets, Verify};
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::event::Transport;
use podero_bridge::inbound::Delivery;
use podero_bridge::inbound::signature;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::servers;
use crate::world::{Database, Settings, World, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const STRUCTURED: &str = "application/cloudevents+json";

/// A delivery as the SDK would send it.
#[derive(Deserialize)]
struct Made {
    door: String,
    name: String,
    content_type: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
}

async fn post(world: &World, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = world.http.post(world.door(path)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// Events made by the official SDK take effect in every mode by webhook and by queue.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_official_sdk_take_effect_in_every_mode() {
    let made: Vec<Made> = serde_json::from_str(include_str!("../senders/cloudevents.json")).expect("it was made");
    let vhost = servers::fresh_vhost();
    let settings = Settings {
        toml: "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n".into(),
        environment: vec![("AMQP__URL", vhost.clone())],
    };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let mut customers = Vec::new();
    for made in &made {
        let mut headers: Vec<(&str, &str)> = made.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        if made.door == "webhook" {
            headers.push(("content-type", &made.content_type));
            for expected in ["accepted", "duplicate"] {
                let (status, answer) = post(&world, "/v1/events", &headers, &made.body).await;
                assert_eq!((status, &answer["status"]), (202, &json!(expected)), "{}: {answer}", made.name);
            }
        } else {
            let mut table = FieldTable::default();
            for (name, value) in headers {
                table.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            let properties = BasicProperties::default().with_content_type(made.content_type.as_str().into());
            bus.publish_with("customer.signed_up", properties.with_headers(table), made.body.as_bytes()).await;
        }
        customers.push(format!("C-{}", customers.len() + 1));
    }
    let views = until("all are applied", async || {
        let mut views = Vec::new();
        for customer in &customers {
            let view = world.get(&world.operator(&format!("/v1/customers/{customer}"))).await;
            (view["events"][0]["state"] == "applied").then(|| views.push(view))?;
        }
        Some(views)
    })
    .await;
    for (made, view) in made.iter().zip(&views) {
        let id = view["events"][0]["id"].as_str().expect("an id");
        let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
        let kept = format!("{}{}", event["envelope"], event["raw"]);
        for extension in ["sequence", "partitionkey", "traceparent", "000042"] {
            assert!(kept.contains(extension), "{}: {extension} is kept: {kept}", made.name);
        }
    }
    let state = world.sandbox_state().await;
    let names: Vec<&Value> = state["users"].as_array().expect("users").iter().map(|user| &user["last_name"]).collect();
    assert_eq!(names, vec!["Müller"; made.len()]);
    world.bridge.stop().await;
}

/// Deliveries signed by the published library pass and each of its bad ones is refused.
#[test]
fn deliveries_signed_by_the_published_library_pass() {
    #[derive(Deserialize)]
    struct Signed {
        secret: String,
        now: i64,
        deliveries: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        name: String,
        passes: bool,
        headers: std::collections::BTreeMap<String, String>,
        body: String,
    }
    let signed: Signed = serde_json::from_str(include_str!("../senders/standard_webhooks.json")).expect("it was made");
    let now = Timestamp::from_micros(signed.now * 1_000_000);
    let demand = Verify::StandardWebhooks { secrets: Secrets::fixed(vec![Secret::new(signed.secret)]) };
    assert!(signed.deliveries.iter().any(|one| !one.passes));
    for one in signed.deliveries {
        let delivery = Delivery {
            transport: Transport::Http,
            source: "default".into(),
            content_type: None,
            headers: one.headers,
            body: one.body.into_bytes(),
            received_at: now,
        };
        let verified = signature::verify(&demand, delivery, now).map(drop);
        let refused = verified.as_ref().err().map(|problem| problem.kind.status());
        assert_eq!(refused, (!one.passes).then_some(401), "{}", one.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_asks_before_it_delivers_is_told_that_it_may() {
    let toml = "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n".to_owned();
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let ask = async |path: &str, origin: Option<&str>| {
        let request = world.http.request(reqwest::Method::OPTIONS, world.door(path));
        let request = origin.into_iter().fold(request, |request, origin| {
            let request = request.header("webhook-request-origin", origin).header("webhook-request-rate", "120");
            request.header("webhook-request-callback", "http://127.0.0.1:9/")
        });
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), [header("allow"), header("webhook-allowed-origin"), header("webhook-allowed-rate")])
    };
    let some = |text: &str| Some(text.to_owned());
    let methods = some("POST, OPTIONS");
    let asked = ask("/v1/events", Some("events.example.com")).await;
    assert_eq!(asked, (200, [methods.clone(), some("events.example.com"), some("*")]));
    assert_eq!(ask("/v1/events/default", None).await, (200, [methods, None, None]));
    assert_eq!(ask("/v1/events/nobody", Some("events.example.com")).await.0, 404);
    world.bridge.stop().await;
}

/// A signature of the sender's own kind and a password let in and others do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_senders_own_signature_or_password_lets_in() {
    let toml = r#"
[watch]
enabled = false
[[source]]
name = "crm"
verify = "hmac"
secrets = ["the-old-key-of-the-crm", "the-new-key-of-the-crm"]
hmac_header = "X-Hub-Signature-256"
hmac_prefix = "sha256="
[[source]]
name = "shop"
verify = "basic"
secrets = ["shop:a-password-that-is-long"]
"#;
    let world = World::start(Database::Sqlite, Settings { toml: toml.into(), environment: Vec::new() }).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"the-new-key-of-the-crm");
    let tag = aws_lc_rs::hmac::sign(&key, body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (good, bad) = (format!("sha256={tag}"), format!("sha256={}", tag.replace('a', "b")));
    let password = |text: &str| format!("Basic {}", BASE64.encode(text));
    let (known, unknown) = (password("shop:a-password-that-is-long"), password("shop:a-password-that-is-lonG"));
    for (path, header, value, expected) in [
        ("/v1/events/crm", "x-hub-signature-256", &good, 202),
        ("/v1/events/crm", "x-hub-signature-256", &bad, 401),
        ("/v1/events/crm", "x-other", &good, 401),
        ("/v1/events/shop", "authorization", &known, 202),
        ("/v1/events/shop", "authorization", &unknown, 401),
    ] {
        let (status, answer) = post(&world, path, &[("content-type", STRUCTURED), (header, value)], &body).await;
        assert_eq!(status, expected, "{path} {header}: {answer}");
        assert!(status == 202 || answer["type"] == "urn:podero-bridge:problem:unauthorized", "{answer}");
    }
    // The signature covers the body alone: an attacker who recorded it could write other headers, and so another event.
    let recorded = [
        ("content-type", "application/json"),
        ("x-hub-signature-256", &*good),
        ("ce-specversion", "1.0"),
        ("ce-id", "forged"),
        ("ce-source", "/billing"),
        ("ce-type", "customer.churned"),
        ("ce-subject", "C-1"),
    ];
    let (status, answer) = post(&world, "/v1/events/crm", &recorded, &body).await;
    assert_eq!(
        (status, &answer["type"]),
        (415, &json!("urn:podero-bridge:problem:unsupported-media-type")),
        "{answer}"
    );
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_changed_in_their_file_while_the_bridge_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "the-first-token-of-two\n").expect("written");
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"shop\"\nverify = \"bearer\"\nsecrets_file = \"{}\"\n",
        file.display()
    );
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let send = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("content-type", STRUCTURED), ("authorization", &*authorization)];
        post(&world, "/v1/events/shop", &headers, &body).await.0
    };
    assert_eq!((send("the-first-token-of-two").await, send("the-second-token-of-two").await), (202, 401));
    std::fs::write(&file, "the-second-token-of-two\n").expect("written");
    until("the second one is known", async || (send("the-second-token-of-two").await == 202).then_some(())).await;
    assert_eq!(send("the-first-token-of-two").await, 401);
    // A file that cannot be used changes nothing, for as long as two looks at it take.
    std::fs::write(&file, "").expect("written");
    podero_bridge::pump::sleep(Duration::from_secs(11)).await;
    assert_eq!(send("the-second-token-of-two").await, 202);
    world.bridge.stop().await;
}
