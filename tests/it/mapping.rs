//! A sender's own JSON through jq: by webhook and by queue, the worked examples, the command that tries them, and programs that
//! do not end, take all memory, or recurse without bottom.

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::running;
use crate::servers;
use crate::world::{Database, Settings, World, until};

const BILLING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/mappings/billing");

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("{BILLING}/{name}.input.json")).expect("it is there")
}

fn settings(map: &str) -> Settings {
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"billing\"\nverify = \"none\"\nmap = \"{map}\"\n\
         [[source]]\nname = \"default\"\nverify = \"none\"\n"
    );
    Settings { toml, environment: Vec::new() }
}

async fn post(world: &World, body: &str) -> (u16, Value) {
    world.post(&world.door("/v1/events/billing"), "application/json", body.to_owned()).await
}

/// A billing system's own messages take effect and wrong ones are explained.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_billing_systems_own_form_take_effect() {
    let world = World::start(Database::Sqlite, settings(&format!("{BILLING}/map.jq"))).await;
    let (status, answer) = post(&world, &example("opened")).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
    let event = world.settled(answer["id"].as_str().expect("an id")).await;
    assert_eq!(event["state"], "applied", "{event}");
    assert_eq!(event["raw"].as_str(), Some(&*example("opened")), "the original bytes are kept");
    let (_, answer) = post(&world, &example("opened")).await;
    assert_eq!(answer["status"], "duplicate");
    let (_, answer) = post(&world, &example("moved")).await;
    assert_eq!(answer["status"], "accepted", "{answer}");
    // None of our business.
    assert_eq!(post(&world, &example("invoice")).await, (202, json!({"results": []})));

    let state = world.sandbox_state().await;
    let building = &state["buildings"][0];
    assert_eq!((&building["zip_code"], &building["property_type"]), (&json!("01067"), &json!("Detached")), "{state}");

    for (name, body, expected) in [
        ("not JSON", "{".to_owned(), (400, "malformed")),
        ("more than JSON", "{\"a\": nan}".to_owned(), (400, "malformed")),
        ("of another shape", "\"Jane Doe\"".to_owned(), (422, "unmappable")),
        ("a bad date", example("opened").replace("01.10.2026 14:05", "Jane Doe"), (422, "unmappable")),
        ("no e-mail address", example("opened").replace("anna@example.com", "Jane Doe"), (422, "invalid-event")),
    ] {
        let (status, answer) = post(&world, &body).await;
        let found = (status, answer["type"].as_str().unwrap_or_default().replace("urn:podero-bridge:problem:", ""));
        assert_eq!(found, (expected.0, expected.1.to_owned()), "{name}: {answer}");
        assert!(!answer.to_string().contains("Jane"), "no value is repeated: {answer}");
    }
    // A CloudEvent is one also there.
    let (status, answer) = world
        .post(
            &world.door("/v1/events/billing"),
            "application/cloudevents+json",
            crate::world::sign_up("e1", "C-9", "2026-10-01T12:00:00Z").to_string(),
        )
        .await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_webhook_may_be_two_events_and_its_name_is_their_identity() {
    let folder = tempfile::tempdir().expect("a folder");
    let map = folder.path().join("map.jq");
    let code = ". as $message | .names[] | {id: $message.id, type: \"customer.signed_up\", data: {customer_id: ., email: \"\\(.)@example.com\"}}";
    std::fs::write(&map, code).expect("written");
    let world = World::start(Database::Sqlite, settings(&map.display().to_string())).await;
    let send = async |name: &str, body: &str| {
        let request = world.http.post(world.door("/v1/events/billing")).header("idempotency-key", name);
        let answer = request.body(body.to_owned()).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        Value::Array(results.iter().map(|result| result["status"].clone()).collect())
    };
    let two = r#"{"names": ["C-1", "C-2"]}"#;
    assert_eq!(send("k1", two).await, json!(["accepted", "accepted"]));
    assert_eq!(send("k1", two).await, json!(["duplicate", "duplicate"]));
    assert_eq!(send("k1", r#"{"names": ["C-1", "C-3"]}"#).await, json!(["rejected", "rejected"]), "it is another one");
    assert_eq!(send("k2", two).await, json!(["accepted", "accepted"]), "another delivery is another event");
    // The second would be taken for a repeat of the first, and be lost.
    let one_id = r#"{"names": ["C-4", "C-5"], "id": "the-same"}"#;
    assert_eq!(send("k3", one_id).await, json!(["accepted", "rejected"]));
    world.bridge.stop().await;
}

/// Messages from the queue are translated and those that cannot be are parked.
#[tokio::test(flavor = "multi_thread")]
async fn messages_from_the_queue_are_translated_or_parked() {
    let vhost = servers::fresh_vhost();
    let mut settings = settings(&format!("{BILLING}/map.jq"));
    settings.environment.extend([("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "billing".into())]);
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    for body in [example("invoice"), "\"Jane Doe\"".to_owned(), example("opened")] {
        bus.publish("customer.account", "application/json", body.as_bytes()).await;
    }
    until("the sign-up has taken effect", async || {
        let state = world.sandbox_state().await;
        (state["buildings"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    let parked = world.get(&world.operator("/v1/parked")).await;
    let parked = parked["parked"].as_array().or(parked["events"].as_array()).cloned().unwrap_or_default();
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(parked[0]["reason"], "untranslatable", "{parked:?}");
    assert!(!parked[0].to_string().contains("Jane"), "{parked:?}");
    world.bridge.stop().await;
}

/// Programs without end, depth or measure are stopped, and their messages parked.
/// Each kind is stopped, its message is kept for a person, and the next message of the same source is none the worse.
#[tokio::test(flavor = "multi_thread")]
async fn programs_without_end_are_stopped_and_their_messages_parked() {
    let folder = tempfile::tempdir().expect("a folder");
    let map = folder.path().join("map.jq");
    let code = r#"
        def forever: forever;
        def deep: 1 + deep;
        if .kind == "loop" then forever
        elif .kind == "silent loop" then (range(infinite) | empty)
        elif .kind == "caught loop" then last(repeat(try error("again") catch .))
        elif .kind == "depth" then deep
        elif .kind == "memory" then [range(1e12)]
        elif .kind == "text" then reduce range(60) as $n ("x"; . + .)
        elif .kind == "many" then range(1e6)
        else {type: "customer.signed_up", data: {customer_id: .kind, email: "a@example.com"}} end
    "#;
    std::fs::write(&map, code).expect("written");
    let world = World::start(Database::Sqlite, settings(&map.display().to_string())).await;
    let kinds = ["loop", "silent loop", "caught loop", "depth", "memory", "text", "many"];
    for (number, kind) in kinds.iter().enumerate() {
        let body = json!({"kind": kind}).to_string();
        let (status, answer) = post(&world, &body).await;
        assert_eq!((status, &answer["state"]), (202, &json!("parked")), "{kind}: {answer}");
        let event = world.get(&world.operator(&format!("/v1/events/{}", answer["id"].as_str().expect("an id")))).await;
        assert_eq!((&event["reason"], &event["raw"]), (&json!("mapping_failed"), &json!(body)), "{event}");
        let (status, answer) = post(&world, &json!({"kind": format!("C-{number}")}).to_string()).await;
        assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "after {kind}: {answer}");
    }
    world.bridge.stop().await;
}

#[test]
fn the_worked_examples_pass_and_a_difference_is_shown_line_by_line() {
    let environment = running::Environment::new();
    for name in ["billing", "crm", "bamboohr", "hr-feed"] {
        let dir = format!("{}/deploy/mappings/{name}", env!("CARGO_MANIFEST_DIR"));
        let output = running::run(&["test", &dir], &environment);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.lines().count() >= 3 && said.lines().all(|line| line.starts_with("ok ")), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "map.jq",
        "{type: \"customer.churned\", data: {customer_id: .id, zip: (.zip | zip_code(5))}}, .more // empty",
    );
    write("good.input.json", r#"{"id": "C-1"}"#);
    write("good.expected.json", r#"[{"type": "customer.churned", "data": {"customer_id": "C-1", "zip": null}}]"#);
    write("other.input.json", r#"{"id": "C-1", "zip": 1067}"#);
    write("other.expected.json", r#"[{"type": "customer.churned", "data": {"customer_id": "C-1", "zip": "1067"}}]"#);
    write("strange.input.json", r#"{"id": "C-1", "more": {"type": "customer.vanished"}}"#);
    let dir = folder.path().display().to_string();
    let output = running::run(&["test", &dir], &environment);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "ok      good",
        "failed  other",
        "  -       \"zip\": \"1067\"",
        "  +       \"zip\": \"01067\"",
        "failed  strange",
        "output 2: invalid-event",
        "strange.expected.json is missing; it gave:",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    write("map.jq", "{\n  type: \"a\",\n  data: zip_cod(5)\n}");
    let output = running::run(&["test", &dir], &environment);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("map.jq:3:9: undefined filter zip_cod"), "{said}");
}

#[test]
fn a_mapping_that_does_not_compile_is_a_problem_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let map = write("map.jq", "{ type: .kind |\n".to_owned());
    let config = write(
        "config.toml",
        format!(
            "[store]\nurl = \"sqlite://{}/bridge.db\"\n[podero]\norg_id = \"6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b\"\n\
             client_id = \"a\"\nclient_secret = \"b\"\n[[source]]\nname = \"a\"\nverify = \"none\"\nmap = \"{map}\"\n",
            folder.path().display()
        ),
    );
    for command in [&["check", "--offline", "--config", &config][..], &["serve", "--config", &config]] {
        let output = running::run(command, &running::Environment::new());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(&format!("{map}:2:1: expected")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_nobodys_name_house_number_or_id() {
    let folder = env!("CARGO_MANIFEST_DIR").to_owned() + "/deploy/mappings";
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"billing\"\nverify = \"none\"\nmap = \"{folder}/billing/map.jq\"\n\
         [[source]]\nname = \"crm\"\nverify = \"none\"\nmap = \"{folder}/crm/map.jq\"\n\
         [[source]]\nname = \"default\"\nverify = \"none\"\n"
    );
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let opened = |number: Value, address: Value| {
        let name = format!("n{}", number.to_string().replace(['"', ' '], ""));
        json!({"messageId": name, "messageType": "ACCOUNT_OPENED", "createdAt": "01.10.2026 14:05",
               "account": {"number": number, "email": format!("{name}@example.com"), "address": address}})
    };
    let created = |contact: &str| {
        json!({"delivery": null, "event": "contact.created", "occurred": 1_790_856_000_000_i64, "contact": {"id": contact},
               "changes": {"email": {"old": null, "new": format!("{contact}@example.com")}}})
    };
    let address = json!({"street": "Hauptstrasse", "houseNumber": "1a", "zip": 1067, "city": "Dresden"});
    let no_number = json!({"street": "Hauptstrasse 7", "zip": "1067\u{a0}", "city": "Dresden", "houseNumber": null});
    let vienna = json!({"street": "Ring", "houseNumber": 9.0, "zip": 1010, "city": "Wien", "country": "Austria"});
    let nothing = json!({"street": null, "houseNumber": "", "zip": " ", "city": null, "country": "DE"});
    for (source, body, expected) in [
        ("billing", opened(Value::Null, address.clone()), (422, "/data/customer_id")),
        ("billing", opened(json!(" "), address.clone()), (422, "/data/customer_id")),
        ("billing", opened(json!(4712.0), address), (202, "")),
        ("billing", opened(json!("4713"), no_number), (202, "")),
        ("billing", opened(json!("4714"), vienna), (202, "")),
        ("billing", opened(json!("4715"), nothing), (202, "")),
        // Unreadable is not the same as not there.
        ("billing", opened(json!(true), Value::Null), (422, "text: true or false")),
        ("crm", created("CR-1"), (202, "")),
        ("crm", created("CR-2"), (202, "")),
    ] {
        let (status, answer) =
            world.post(&world.door(&format!("/v1/events/{source}")), "application/json", body.to_string()).await;
        assert_eq!(status, expected.0, "{body}: {answer}");
        assert!(answer.to_string().contains(expected.1), "{answer}");
        if status == 202 {
            assert_eq!(answer["status"], "accepted", "{body}: {answer}");
            let event = world.settled(answer["id"].as_str().expect("an id")).await;
            assert_eq!(event["state"], "applied", "{event}");
        }
    }
    let state = world.sandbox_state().await;
    let texts = |list: &str, field: &str| -> Vec<String> {
        let items = state[list].as_array().expect("a list").iter();
        let mut texts: Vec<String> = items.filter_map(|item| item[field].as_str().map(str::to_owned)).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts("users", "external_user_id"), ["4712", "4713", "4714", "4715", "CR-1", "CR-2"]);
    assert_eq!(texts("buildings", "street_and_number"), ["Hauptstrasse 1a", "Hauptstrasse 7", "Ring 9"], "{state:#}");
    assert_eq!(texts("buildings", "zip_code"), ["01067", "01067", "1010"]);
    world.bridge.stop().await;
}
