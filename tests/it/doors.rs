//! The webhook endpoint and the admin API over real HTTP: signatures, limits, the status table, timelines, parked work.

use podero_bridge::admin::{ApiMethod, ApiRoute};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const TIME: &str = "2026-10-01T12:00:00Z";

fn sources() -> Settings {
    Settings {
        toml: format!(
            r#"
[watch]
enabled = false
[[source]]
name = "default"
verify = "none"
[[source]]
name = "signed"
verify = "standard-webhooks"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAA", "{SECRET}"]
[[source]]
name = "token"
verify = "bearer"
secrets = ["a-token-that-is-long-enough"]
[[source]]
name = "basic"
verify = "basic"
secrets = ["shop:a-password-that-is-long"]
[[source]]
name = "tagged"
verify = "hmac"
secrets = ["a-key-that-is-long-enough"]
hmac_header = "x-signature"
"#
        ),
        environment: vec![("HTTP__BODY_MAX", "4KiB".into()), ("HTTP__BATCH_MAX", "3".into())],
    }
}

/// Every problem is RFC 9457, with a stable type and its own status in the body.
fn assert_problem(status: u16, body: &Value, expected: (u16, &str), name: &str) {
    assert_eq!((status, &body["status"]), (expected.0, &json!(expected.0)), "{name}: {body}");
    assert_eq!(body["type"], json!(format!("urn:podero-bridge:problem:{}", expected.1)), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_sender_has_its_status_and_type() {
    let world = World::start(Database::Sqlite, sources()).await;
    let good = sign_up("e1", "C-1", TIME).to_string();
    let bad_email = event("e2", "customer.signed_up", TIME, &json!({"customer_id": "C", "email": "no"})).to_string();
    let many = Value::Array(vec![json!({}); 4]).to_string();
    let large = format!("{{\"padding\":\"{}\"}}", "x".repeat(5_000));
    for (name, path, content_type, body, expected) in [
        ("not JSON", "/v1/events", STRUCTURED, "{", (400, "malformed")),
        ("a batch that is none", "/v1/events", BATCH, "{}", (400, "malformed")),
        ("no attributes", "/v1/events", STRUCTURED, "{}", (422, "invalid-event")),
        ("no e-mail address", "/v1/events", STRUCTURED, &bad_email, (422, "invalid-event")),
        ("no token", "/v1/events/token", STRUCTURED, &good, (401, "unauthorized")),
        ("no signature", "/v1/events/signed", STRUCTURED, &good, (401, "unauthorized")),
        ("no such source", "/v1/events/nobody", STRUCTURED, &good, (404, "unknown-source")),
        ("no such path", "/v2/events", STRUCTURED, &good, (404, "not-found")),
        ("too many bytes", "/v1/events", STRUCTURED, &large, (413, "too-large")),
        ("too many items", "/v1/events", BATCH, &many, (413, "too-large")),
        ("another media type", "/v1/events", "text/plain", &good, (415, "unsupported-media-type")),
    ] {
        let (status, answer) = world.post(&world.door(path), content_type, body.to_owned()).await;
        assert_problem(status, &answer, expected, name);
    }
    let answer = world.http.get(world.door("/v1/events")).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().expect("text")), (405, "POST, OPTIONS"));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(world.sandbox_state().await["users"], json!([]), "nothing of it took effect");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_pointer_and_reason_and_no_value() {
    let world = World::start(Database::Sqlite, sources()).await;
    let data = json!({"customer_id": "C", "email": "Jane Doe", "address": {"zip_code": 1067}});
    let (_, answer) = world.send(&event("e1", "customer.signed_up", TIME, &data)).await;
    let pointers: Vec<&str> =
        answer["errors"].as_array().expect("errors").iter().filter_map(|error| error["pointer"].as_str()).collect();
    assert_eq!(pointers, ["/data/email", "/data/address/zip_code"]);
    assert!(!answer.to_string().contains("Jane"), "{answer}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_and_a_token_are_let_in() {
    let world = World::start(Database::Sqlite, sources()).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let now = podero_bridge::clock::Clock::system().now().micros() / 1_000_000;
    let signed = |secret: &str, timestamp: i64| {
        let signature = Webhook::new(secret).expect("valid").sign("msg_1", timestamp, body.as_bytes()).expect("text");
        world
            .http
            .post(world.door("/v1/events/signed"))
            .header("content-type", STRUCTURED)
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(body.clone())
            .send()
    };
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (name, secret, timestamp, expected) in
        [("stale", SECRET, now - 400, 401), ("wrong secret", wrong, now, 401), ("good", SECRET, now, 202)]
    {
        assert_eq!(signed(secret, timestamp).await.expect("an answer").status(), expected, "{name}");
    }
    let request = world.http.post(world.door("/v1/events/token")).header("content-type", STRUCTURED);
    let answer = request.bearer_auth("a-token-that-is-long-enough").body(body.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"], "accepted", "another source may use the same id for what it has to say");
    world.bridge.stop().await;
}

/// A repeat is a duplicate with the first one's state and a reused id is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_a_duplicate_and_a_reused_id_is_refused() {
    let world = World::start(Database::Sqlite, sources()).await;
    let first = sign_up("e1", "C-1", TIME);
    let (status, accepted) = world.send(&first).await;
    assert_eq!((status, &accepted["status"]), (202, &json!("accepted")));
    let id = accepted["id"].as_str().expect("an id");
    world.settled(id).await;
    let requests = world.get(&world.sandbox("/requests")).await;
    let (status, again) = world.send(&first).await;
    assert_eq!((status, &again), (202, &json!({"id": id, "status": "duplicate", "state": "applied"})));
    let (status, reused) = world.send(&sign_up("e1", "C-2", TIME)).await;
    assert_problem(status, &reused, (422, "event-id-reused"), "another content");
    assert!(reused["detail"].as_str().expect("text").contains(id));
    assert_eq!(world.get(&world.sandbox("/requests")).await, requests, "Podero heard nothing of either");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_item_in_order() {
    let world = World::start(Database::Sqlite, sources()).await;
    let batch = json!([sign_up("e1", "C-1", TIME), {"id": "e2"}, sign_up("e1", "C-1", TIME)]);
    let (status, answer) = world.post(&world.door("/v1/events"), BATCH, batch.to_string()).await;
    assert_eq!(status, 202);
    let results = answer["results"].as_array().expect("results");
    let states: Vec<&str> = results.iter().filter_map(|result| result["status"].as_str()).collect();
    assert_eq!(states, ["accepted", "rejected", "duplicate"]);
    assert_problem(422, &results[1]["problem"], (422, "invalid-event"), "the item's own problem");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timelines_show_event_calls_and_notices_and_health_is_a_line_each() {
    let world = World::start(Database::Sqlite, sources()).await;
    let applied = world.apply(&sign_up("e1", "C-1", TIME)).await;
    let calls = applied["calls"].as_array().expect("calls");
    let made: Vec<_> = calls.iter().map(|call| call["operation"].as_str().expect("text")).collect();
    assert_eq!(made, ["find_user", "create_user", "create_building"]);
    assert!(calls[1]["idempotency_key"].is_string() && calls[0]["idempotency_key"].is_null());
    assert!(applied["raw"].as_str().expect("text").contains("C-1@example.com"), "the original is kept");

    let customer = world.get(&world.operator("/v1/customers/C-1")).await;
    assert_eq!(customer["events"][0]["state"], "applied");
    assert_eq!(customer["notices"][0]["type"], "customer.provisioned");
    assert_eq!(customer["notices"][0]["state"], "kept", "nobody is there to publish to");
    assert!(!customer["notices"].to_string().contains("@example.com"), "ids only");

    assert_eq!(world.get_text(&world.operator("/livez")).await, (200, "ok\n".into()));
    let (status, ready) = world.get_text(&world.operator("/readyz")).await;
    assert_eq!((status, ready.as_str()), (200, "[+] store: ok\n[+] podero: ok\n"));
    let (_, metrics) = world.get_text(&world.operator("/metrics")).await;
    for line in [
        r#"podero_bridge_events_received_total{source="default",transport="http",type="customer.signed_up"} 1"#,
        r#"podero_bridge_events_settled_total{outcome="applied",type="customer.signed_up"} 1"#,
        r#"podero_bridge_podero_requests_total{operation="create_user",status="200"} 1"#,
        r#"podero_bridge_circuit_open 0"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("podero_bridge_broker_connected"), "there is no broker to be connected to");
    for path in ["/v1/events/nobody", "/v1/customers/nobody", "/v3"] {
        assert_eq!(world.get_text(&world.operator(path)).await.0, 404, "{path}");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_guards_everything_but_health_and_metrics() {
    let mut settings = sources();
    settings.environment.push(("ADMIN__TOKEN", "an-operators-own-token".into()));
    let world = World::start(Database::Sqlite, settings).await;
    for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/parked", 401)] {
        until("the bridge is ready", async || {
            let (status, _) = world.get_text(&world.operator(path)).await;
            (status == expected).then_some(())
        })
        .await;
    }
    for (token, expected) in [("an-operators-own-token", 200), ("an-operators-own-toke", 401)] {
        let answer = world.http.get(world.operator("/v1/parked")).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{token}");
    }
    // A scheme's letters may be large or small (RFC 9110).
    let request = world.http.get(world.operator("/v1/parked")).header("authorization", "bearer an-operators-own-token");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_401_has_a_challenge_that_a_client_can_answer() {
    let mut settings = sources();
    settings.environment.push(("ADMIN__TOKEN", "an-operators-own-token".into()));
    let world = World::start(Database::Sqlite, settings).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let ask = async |url: &str, authorization: Option<&str>| {
        let request = world.http.post(url).header("content-type", STRUCTURED).body(body.clone());
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        let answer = request.send().await.expect("an answer");
        let challenge = answer.headers().get("www-authenticate");
        (answer.status().as_u16(), challenge.map(|value| value.to_str().expect("text").to_owned()))
    };
    let password = "Basic c2hvcDphLXBhc3N3b3JkLXRoYXQtaXMtbG9uZw";
    for (url, challenge, answers) in [
        (
            world.door("/v1/events/basic"),
            r#"Basic realm="podero-bridge", charset="UTF-8""#,
            [(password, 202), ("Basic c2hvcDpub25l", 401), ("Bearer a-token-that-is-long-enough", 401)],
        ),
        (
            world.door("/v1/events/token"),
            r#"Bearer realm="podero-bridge""#,
            [("Bearer a-token-that-is-long-enough", 202), ("Bearer another-token", 401), (password, 401)],
        ),
        (
            world.operator("/v1/parked/none/skip"),
            r#"Bearer realm="podero-bridge admin""#,
            [("Bearer an-operators-own-token", 400), ("Bearer a-token-that-is-long-enough", 401), (password, 401)],
        ),
        (
            world.door("/v1/events/signed"),
            r#"standard-webhooks realm="podero-bridge""#,
            [("Bearer a-token-that-is-long-enough", 401), (password, 401), ("x", 401)],
        ),
        (
            world.door("/v1/events/tagged"),
            r#"hmac realm="podero-bridge""#,
            [("Bearer a-token-that-is-long-enough", 401), (password, 401), ("x", 401)],
        ),
    ] {
        assert_eq!(ask(&url, None).await, (401, Some(challenge.to_owned())), "{url}");
        for (authorization, expected) in answers {
            let (status, found) = ask(&url, Some(authorization)).await;
            assert_eq!(
                (status, found.as_deref()),
                (expected, (expected == 401).then_some(challenge)),
                "{url} {authorization}"
            );
        }
    }
    // A signature is looked at before the body comes and after it; both refusals have the challenge.
    let now = podero_bridge::clock::Clock::system().now().micros() / 1_000_000;
    let wrong = Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").expect("valid");
    let request = world.http.post(world.door("/v1/events/signed")).header("content-type", STRUCTURED);
    let request = request.header("webhook-id", "m1").header("webhook-timestamp", now.to_string());
    let signature = wrong.sign("m1", now, body.as_bytes()).expect("text");
    let answer = request.header("webhook-signature", signature).body(body.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], r#"standard-webhooks realm="podero-bridge""#);
    world.bridge.stop().await;
}

/// Refused webhooks are counted by source and status and others as accepted.
#[tokio::test(flavor = "multi_thread")]
async fn refused_webhooks_are_counted_by_source_and_status() {
    let world = World::start(Database::Sqlite, sources()).await;
    let good = sign_up("e1", "C-1", TIME).to_string();
    let invalid = event("e2", "customer.signed_up", TIME, &json!({"customer_id": "C", "email": "no"}));
    let batch = json!([sign_up("e3", "C-3", TIME), invalid, {}]).to_string();
    let many = Value::Array(vec![json!({}); 4]).to_string();
    let large = format!("{{\"padding\":\"{}\"}}", "x".repeat(5_000));
    for (path, content_type, body) in [
        ("/v1/events", STRUCTURED, good.as_str()),
        ("/v1/events", STRUCTURED, good.as_str()),
        ("/v1/events", STRUCTURED, "{"),
        ("/v1/events", STRUCTURED, &invalid.to_string()),
        ("/v1/events/default", BATCH, &batch),
        ("/v1/events", BATCH, "[{}]"),
        ("/v1/events", BATCH, &many),
        ("/v1/events", STRUCTURED, &large),
        ("/v1/events", "text/plain", &good),
        ("/v1/events/token", STRUCTURED, &good),
        ("/v1/events/signed", STRUCTURED, &good),
        ("/v1/events/stranger", STRUCTURED, &good),
        ("/v1/events/C-1@example.com", STRUCTURED, &good),
        ("/v2", STRUCTURED, &good),
    ] {
        world.post(&world.door(path), content_type, body.to_owned()).await;
    }
    for path in ["/v1/events/token", "/v1/events/stranger"] {
        world.http.get(world.door(path)).send().await.expect("an answer");
        world.http.request(reqwest::Method::OPTIONS, world.door(path)).send().await.expect("an answer");
    }
    let (_, metrics) = world.get_text(&world.operator("/metrics")).await;
    for (series, expected) in [
        ("accepted_total{source=\"default\"}", 3),
        ("accepted_total{source=\"token\"}", 0),
        ("refused_total{source=\"default\",status=\"400\"}", 1),
        ("refused_total{source=\"default\",status=\"413\"}", 2),
        ("refused_total{source=\"default\",status=\"415\"}", 1),
        // One alone, two of a batch, and a batch of one, which was not accepted.
        ("refused_total{source=\"default\",status=\"422\"}", 4),
        ("refused_total{source=\"default\",status=\"503\"}", 0),
        ("refused_total{source=\"token\",status=\"401\"}", 1),
        ("refused_total{source=\"token\",status=\"405\"}", 1),
        ("refused_total{source=\"signed\",status=\"401\"}", 1),
        ("refused_total{source=\"tagged\",status=\"401\"}", 0),
        ("refused_total{source=\"_unknown\",status=\"404\"}", 4),
        ("refused_total{source=\"_unknown\",status=\"405\"}", 1),
    ] {
        let line = format!("podero_bridge_webhooks_{series} {expected}");
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("stranger") && !metrics.contains("C-1"), "what strangers write is no label");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_door_without_a_token_answers_no_web_page() {
    let world = World::start(Database::Sqlite, sources()).await;
    let ask = async |path: &str, name: &str, value: &str| {
        let answer = world.http.get(world.operator(path)).header(name, value).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    for path in ["/v1/parked", "/metrics", "/livez"] {
        let (status, body) = ask(path, "host", "rebound.example:9090").await;
        assert_problem(status, &body, (403, "forbidden"), path);
        let (status, body) = ask(path, "origin", "http://127.0.0.1:9090").await;
        assert_problem(status, &body, (403, "forbidden"), path);
        assert_eq!(ask(path, "host", "localhost:9090").await.0, 200, "{path}");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_an_operator_is_a_problem() {
    let world = World::start(Database::Sqlite, sources()).await;
    let send = async |method: reqwest::Method, path: &str, body: String| {
        let answer = world.http.request(method, world.operator(path)).body(body).send().await.expect("an answer");
        let allow = answer.headers().get("allow").map(|allow| allow.to_str().expect("text").to_owned());
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default(), allow)
    };
    use reqwest::Method;
    for (method, path, body, expected) in [
        (Method::GET, "/v1/parked?limit=many", String::new(), (400, "malformed")),
        (Method::GET, "/v1/alerts?open=perhaps", String::new(), (400, "malformed")),
        (Method::GET, "/v1/parked/retry", String::new(), (405, "method-not-allowed")),
        (Method::DELETE, "/v1/customers/C-1", String::new(), (405, "method-not-allowed")),
        (Method::POST, "/readyz", String::new(), (405, "method-not-allowed")),
        (Method::POST, "/v1/parked/retry", "x".repeat(1 << 20), (413, "too-large")),
        (Method::GET, "/v1/nothing", String::new(), (404, "not-found")),
    ] {
        let name = format!("{method} {path}");
        let (status, body, allow) = send(method, path, body).await;
        assert_problem(status, &body, expected, &name);
        assert_eq!(allow.is_some(), status == 405, "{name}");
    }
    world.bridge.stop().await;
}

/// One rule for every list: a value that cannot be taken as it is written is refused, and so is a parameter that there is not, which
/// is not repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_takes_its_parameters_and_no_other() {
    const ID: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";
    let world = World::start(Database::Sqlite, sources()).await;
    world.apply(&sign_up("e1", ID, TIME)).await;
    let ask = async |path: &str| {
        let answer = world.http.get(world.operator(path)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    for route in ApiRoute::ALL {
        let row = route.row();
        if row.method != ApiMethod::Get || row.role.is_none() {
            continue;
        }
        let path = row.path.replace("{id}", ID);
        let (status, text) = ask(&format!("{path}?anna=example")).await;
        assert!(status == 400 && text.contains("this path takes") && !text.contains("anna"), "{path}: {status} {text}");
        if !route.query().contains(&"limit") {
            continue;
        }
        assert_eq!(ask(&format!("{path}?limit=1000")).await.0, 200, "{path}");
        for query in ["limit=0", "limit=-1", "limit=1001", "limit=99999999999999999999", "limit=1&limit=2", "after="] {
            let (status, text) = ask(&format!("{path}?{query}")).await;
            assert_eq!(status, 400, "{path}?{query}: {text}");
        }
        // The ids of heat pumps are Podero's, and have no form.
        if ![ApiRoute::HeatPumps, ApiRoute::Alerts].contains(&route) {
            let (status, text) = ask(&format!("{path}?after=yesterday")).await;
            assert!(status == 400 && text.contains("`after`"), "{path}: {text}");
        }
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_e_mail_is_parked_retried_and_skipped_and_holds_nobody() {
    let world = World::start(Database::Sqlite, sources()).await;
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    let data = json!({"customer_id": "C-2", "email": "C-1@example.com"});
    let parked = world.apply(&event("e2", "customer.signed_up", TIME, &data)).await;
    assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!("email_taken")), "{parked}");
    assert!(!parked["detail"].to_string().contains("@example.com"), "{}", parked["detail"]);
    let id = parked["id"].as_str().expect("an id");
    let listed = world.get(&world.operator("/v1/parked?reason=email_taken")).await;
    assert_eq!(listed["parked"][0]["id"], json!(id));
    assert_eq!(world.get_text(&world.operator("/v1/parked?reason=bad_luck")).await.0, 400);

    let retry = world.operator(&format!("/v1/parked/{id}/retry"));
    // The stranger moves out of the way; the retry then goes through.
    let update = json!({"customer_id": "C-1", "email": "other@example.com"});
    world.apply(&event("e3", "customer.updated", TIME, &update)).await;
    let (status, answer) = world.post(&retry, "application/json", String::new()).await;
    assert_eq!((status, &answer["state"]), (200, &json!("pending")));
    let applied = until("the retry took effect", async || {
        let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
        (event["state"] == "applied").then_some(event)
    })
    .await;
    assert_eq!(applied["state"], "applied");
    let (status, _) = world.post(&retry, "application/json", String::new()).await;
    assert_eq!(status, 409, "it is not parked any more");

    let again = json!({"customer_id": "C-3", "email": "C-1@example.com"});
    let parked = world.apply(&event("e4", "customer.signed_up", TIME, &again)).await;
    let skip = world.operator(&format!("/v1/parked/{}/skip", parked["id"].as_str().expect("an id")));
    assert_eq!(world.post(&skip, "application/json", String::new()).await.0, 200);
    let (status, answer) = world.post(&skip, "application/json", String::new()).await;
    assert_problem(status, &answer, (409, "not-parked"), "a second skip");
    for act in ["retry", "skip"] {
        let unknown = world.operator(&format!("/v1/parked/01a208c1-30eb-77e5-80f8-81194b0303c0/{act}"));
        let (status, answer) = world.post(&unknown, "application/json", String::new()).await;
        assert_problem(status, &answer, (404, "not-found"), act);
    }
    assert_eq!(world.get(&world.operator("/v1/parked")).await["parked"], json!([]));
    world.bridge.stop().await;
}

/// While the store is away the listener says 503, and afterwards it takes events again.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_webhooks_get_503() {
    let postgres = tokio::task::spawn_blocking(servers::Postgres::start).await.expect("a database of our own");
    let world = World::start(Database::Postgres(postgres.url()), sources()).await;
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.stop();
        postgres
    })
    .await
    .expect("stopped");
    let request = world.http.post(world.door("/v1/events")).header("content-type", STRUCTURED);
    let answer = request.body(sign_up("e2", "C-2", TIME).to_string()).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    let (status, ready) = world.get_text(&world.operator("/readyz")).await;
    assert_eq!((status, ready.starts_with("[-] store")), (503, true), "{ready}");
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.start_again();
        postgres
    })
    .await
    .expect("started");
    let id = until("the door takes events again", async || {
        let (status, answer) = world.send(&sign_up("e2", "C-2", TIME)).await;
        (status == 202).then(|| answer["id"].as_str().expect("an id").to_owned())
    })
    .await;
    until("it took effect", async || {
        let (status, _) = world.get_text(&world.operator(&format!("/v1/events/{id}"))).await;
        if status != 200 {
            return None;
        }
        let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
        (event["state"] == "applied").then_some(())
    })
    .await;
    world.bridge.stop().await;
    tokio::task::spawn_blocking(move || drop(postgres)).await.expect("stopped");
}
