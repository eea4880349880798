//! `explain`: what a message would become, by the real program; and that the bridge then does just that.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Settings, World, event, sign_up};

struct Told {
    status: Option<i32>,
    out: String,
    err: String,
}

/// Runs it on a message, in a folder of its own unless a store is named.
fn explain(folder: &Path, arguments: &[&str], message: &str) -> Told {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podero-bridge"))
        .arg("explain")
        .args(arguments)
        .arg("-")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(message.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Told { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn as_json(told: &Told) -> Value {
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {} {}", told.out, told.err))
}

fn operations(event: &Value) -> Vec<&str> {
    event["calls"].as_array().expect("calls").iter().map(|call| call["operation"].as_str().expect("a name")).collect()
}

#[test]
fn a_sign_up_without_any_store_shows_its_calls_and_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = sign_up("e1", "C-1", "2026-10-01T12:00:00Z").to_string();
    let told = explain(folder.path(), &["--json"], &message);
    let all = as_json(&told);
    assert_eq!((told.status, &all["verified"]), (Some(0), &json!("nothing is demanded")), "{}", told.err);
    let event = &all["events"][0];
    assert_eq!(operations(event), ["find_user", "create_user", "create_building"]);
    let calls = event["calls"].as_array().expect("calls");
    assert_eq!(calls[0]["path"], "/api/partners/v2.0/org/<org>/users/by-ext-id/C-1");
    assert_eq!(calls[1]["body"]["external_user_id"], "C-1");
    assert_eq!(calls[2]["path"], "/api/partners/v2.0/org/<org>/users/<user>/buildings");
    assert_eq!(calls[2]["body"]["zip_code"], "01067");
    assert_eq!((&event["outcome"], &event["tells"]), (&json!("applied"), &json!(["customer.provisioned"])));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is kept");
    // And for a reader.
    let told = explain(folder.path(), &[], &message);
    for line in [
        "event     customer.signed_up",
        "call      POST /api/partners/v2.0/org/<org>/users (create_user)",
        "outcome   applied",
    ] {
        assert!(told.out.contains(line), "{line}\n{}", told.out);
    }
}

#[test]
fn what_a_door_would_refuse_is_named_and_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = explain(
        folder.path(),
        &[],
        &event(
            "e1",
            "customer.signed_up",
            "2026-10-01T12:00:00Z",
            &json!({"customer_id": "C-1", "address": {"zip_code": 1067}}),
        )
        .to_string(),
    );
    assert_eq!(told.status, Some(1));
    for part in ["refused   invalid-event", "/data/address/zip_code", "/data/email", "leading zeros"] {
        assert!(told.out.contains(part), "{part}\n{}", told.out);
    }
    let told = explain(folder.path(), &["--source", "nobody"], "{}");
    assert_eq!(told.status, Some(1));
    assert!(told.err.contains("nobody"), "{}", told.err);
}

#[test]
fn a_senders_own_message_is_translated_and_its_signature_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mappings/billing");
    let map = examples.join("map.jq");
    let config = folder.path().join("bridge.toml");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let text = format!(
        "[[source]]\nname = \"billing\"\nverify = \"standard-webhooks\"\nsecrets = [\"{secret}\"]\nmap = \"{}\"\n",
        map.display()
    );
    std::fs::write(&config, text).expect("written");
    let message = std::fs::read_to_string(examples.join("opened.input.json")).expect("text");
    let path = config.display().to_string();
    let told = explain(folder.path(), &["--config", &path, "--source", "billing", "--json"], &message);
    let all = as_json(&told);
    assert_eq!(
        (told.status, &all["verified"]),
        (Some(0), &json!("not looked at: no --header was given")),
        "{}",
        told.err
    );
    assert!(all["events"][0]["event"]["customer"].is_string(), "{all:#}");
    // A signature that is none.
    let wrong = ["webhook-id: m1", "webhook-timestamp: 1", "webhook-signature: v1,AAAA"];
    let mut arguments = vec!["--config", &path, "--source", "billing", "--json"];
    wrong.iter().for_each(|header| arguments.extend(["--header", header]));
    let told = explain(folder.path(), &arguments, &message);
    let all = as_json(&told);
    assert_eq!(told.status, Some(1));
    assert!(all["verified"].as_str().is_some_and(|text| text.starts_with("no: unauthorized")), "{all:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_the_bridge_then_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("bridge.db");
    let config = folder.path().join("bridge.toml");
    std::fs::write(&config, format!("[store]\nurl = \"sqlite://{}\"\n", store.display())).expect("written");
    let url = format!("sqlite://{}", store.display());
    let world = World::start_on(tempfile::tempdir().expect("a folder"), url, Settings::default()).await;
    let path = config.display().to_string();
    let told_of = |message: String| {
        let (folder, path) = (folder.path().to_owned(), path.clone());
        tokio::task::spawn_blocking(move || as_json(&explain(&folder, &["--config", &path, "--json"], &message)))
    };
    let address = json!({"street_and_number": "Ringstrasse 9", "zip_code": "1010", "town": "Wien", "country": "AT"});
    for event in [
        sign_up("e1", "C-1", "2026-10-01T12:00:00Z"),
        event("e2", "customer.updated", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-1", "first_name": "Berta"})),
        event("e3", "customer.moved", "2026-10-03T12:00:00Z", &json!({"customer_id": "C-1", "address": address})),
        event("e4", "customer.updated", "2026-09-01T12:00:00Z", &json!({"customer_id": "C-1", "first_name": "Carla"})),
        event("e5", "customer.churned", "2026-10-05T12:00:00Z", &json!({"customer_id": "C-1"})),
    ] {
        let told = told_of(event.to_string()).await.expect("it ran");
        let told = &told["events"][0];
        assert!(told.get("known").is_none());
        let done = world.apply(&event).await;
        assert_eq!(operations(told), operations(&done), "{event}");
        let outcome = told["outcome"].as_str().expect("text");
        assert!(outcome.starts_with(done["state"].as_str().expect("text")), "{outcome} {}", done["state"]);
        let again = told_of(event.to_string()).await.expect("it ran");
        assert_eq!(again["events"][0]["known"]["state"], done["state"], "a duplicate is told as one");
    }
    world.bridge.stop().await;
}

#[test]
fn a_message_of_rabbitmq_is_explained_and_tried_with_what_came_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let map = r#"{type: $amqp.routing_key, time: $amqp.timestamp, data: {customer_id: .nr}}"#;
    std::fs::write(folder.path().join("map.jq"), map).expect("written");
    let toml = "[[source]]\nname = \"crm\"\nverify = \"bearer\"\nsecrets = [\"0123456789abcdef\"]\n\
                types = [\"customer.churned\"]\nmap = \"map.jq\"\n";
    std::fs::write(folder.path().join("bridge.toml"), toml).expect("written");
    let explained = |beside: &[&str]| {
        let arguments = [&["--config", "bridge.toml", "--source", "crm", "--json"], beside].concat();
        explain(folder.path(), &arguments, r#"{"nr": "C-1"}"#)
    };
    let told = explained(&["--amqp", "routing_key=customer.churned", "--amqp", "timestamp=1790000000"]);
    let all = as_json(&told);
    assert_eq!((told.status, &all["verified"]), (Some(0), &json!("nothing is demanded")), "{all} {}", told.err);
    let event = &all["events"][0];
    assert_eq!((&event["type"], &event["event"]["time"]), (&json!("customer.churned"), &json!("2026-09-21T14:13:20Z")));
    for (beside, refused) in [
        ("routing_key=customer.updated", "type-not-allowed"),
        ("routing_key=customer.unheard_of", "invalid-event"),
        ("timestamp=1", "invalid-event"),
    ] {
        let told = explained(&["--amqp", beside]);
        assert_eq!(told.status, Some(1), "{}", told.err);
        assert_eq!(as_json(&told)["events"][0]["refused"]["type"], refused, "{beside}: {}", told.out);
    }
    for wrong in ["routing_keys=x", "timestamp=soon"] {
        assert_eq!(as_json(&explained(&["--amqp", wrong]))["refused"]["type"], "malformed", "{wrong}");
    }
    assert_eq!(explained(&["--amqp", "routing_key"]).status, Some(1));

    let write = |name: &str, value: Value| {
        std::fs::write(folder.path().join(format!("ended.{name}.json")), value.to_string()).expect("written");
    };
    write("input", json!({"nr": "C-1"}));
    write("amqp", json!({"routing_key": "customer.churned", "timestamp": "2026-10-01T12:00:00Z"}));
    let expected = json!({"type": "customer.churned", "time": "2026-10-01T12:00:00Z", "data": {"customer_id": "C-1"}});
    write("expected", json!([expected]));
    let tried = || crate::running::run(&["test", &folder.path().display().to_string()], &Vec::new());
    assert_eq!(tried().status.code(), Some(0), "{}", crate::running::said(&tried()));
    write("amqp", json!({"routing_key": "customer.moved", "timestamp": "2026-10-01T12:00:00Z"}));
    assert_eq!(tried().status.code(), Some(1));
}
