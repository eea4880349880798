//! The presets of docs/PRESETS.md, read from the page itself, against what their senders send.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use podero_bridge::config::{Config, Hmac, Secret, Secrets, SignedText, Strings, Verify};
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::event::Transport;
use podero_bridge::inbound::{Delivery, signature};
use serde_json::{Value, json};

use crate::world::{Database, Settings, World, event, sign_up};

const PAGE: &str = include_str!("../../docs/PRESETS.md");

/// The senders of the page, by their headings.
const SENDERS: [&str; 9] =
    ["GitHub", "Stripe", "Shopify", "Zendesk", "Svix", "Slack", "SAP", "Azure Event Grid", "Dapr"];

/// The block of configuration below a heading of the page.
fn block(sender: &str) -> &'static str {
    let (_, chapter) = PAGE.split_once(&format!("\n## {sender}\n")).expect("the page has the heading");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let (_, block) = chapter.split_once("```toml\n").expect("the chapter has a block");
    block.split("```").next().unwrap_or_default()
}

/// A folder with the configuration of a preset, the secret that it names, and a mapping that makes nothing.
fn folder(sender: &str, secret: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let table: toml::Table = block(sender).parse().expect("TOML");
    let source = &table["source"][0];
    for (key, content) in [("secrets_file", secret), ("map", "empty")] {
        let path = folder.path().join(source[key].as_str().expect("a path"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    let file = folder.path().join("bridge.toml");
    let account =
        "[podero]\norg_id = \"6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b\"\nclient_id = \"bridge\"\nclient_secret = \"s\"\n";
    std::fs::write(&file, format!("{account}{}", block(sender))).expect("written");
    (folder, file)
}

/// The demand of the preset, with this secret.
fn preset(sender: &str, secret: &str) -> Verify {
    let (_folder, file) = folder(sender, secret);
    load(&file).sources.remove(0).verify
}

fn load(file: &Path) -> Config {
    Config::load(Some(file), &Strings::new(), false).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A request of a sender.
struct Request {
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    /// When it was sent, in seconds since 1970.
    sent: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn passes(demand: &Verify, request: &Request, body: &str, now: i64) -> bool {
    let headers: BTreeMap<String, String> =
        request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let admitted = signature::admit(demand, &headers, at(now)).is_ok();
    let delivery = Delivery {
        transport: Transport::Http,
        source: "preset".into(),
        content_type: None,
        headers,
        body: body.as_bytes().to_vec(),
        received_at: at(now),
    };
    let verified = signature::verify(demand, delivery, at(now)).is_ok();
    assert!(!verified || admitted, "what passes is not refused before its body comes");
    verified
}

/// The request passes, and no change of it does. `is_timed`: the time is signed.
fn prove(sender: &str, (demand, other): (&Verify, &Verify), request: &Request, is_timed: bool) {
    assert!(passes(demand, request, request.body, request.sent), "{sender}: as it was sent");
    assert!(!passes(demand, request, &format!("{} ", request.body), request.sent), "{sender}: another body");
    assert!(!passes(other, request, request.body, request.sent), "{sender}: another secret");
    assert_eq!(passes(demand, request, request.body, request.sent + 301), !is_timed, "{sender}: played back later");
}

fn tag(secret: &str, text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const OTHER: &str = "another-secret-of-the-sender";

#[test]
fn the_page_has_a_preset_for_each_sender_and_each_is_loaded() {
    let headings: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, SENDERS);
    for sender in SENDERS {
        let secret = match sender {
            "Svix" => "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "SAP" => "sap:a-password-that-is-long",
            _ => OTHER,
        };
        let (_folder, file) = folder(sender, secret);
        assert_eq!(load(&file).sources.len(), 1, "{sender}");
    }
}

/// Published at docs.github.com, "Validating webhook deliveries".
#[test]
fn github_signs_as_its_manual_shows() {
    let secret = "It's a Secret to Everybody";
    let request = Request {
        headers: vec![(
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".into(),
        )],
        body: "Hello, World!",
        sent: 1_790_000_000,
    };
    prove("GitHub", (&preset("GitHub", secret), &preset("GitHub", OTHER)), &request, false);
}

/// By the algorithm published at docs.stripe.com, "Verify webhook signatures manually". The form of the header, with a `v0`
/// that proves nothing, is the one shown there.
#[test]
fn stripe_signs_time_and_body_in_one_header() {
    let secret = "whsec_test_secret_of_an_endpoint";
    let body = r#"{"id":"evt_1","object":"event"}"#;
    let good = hex(&tag(secret, &format!("1492774577.{body}")));
    let old = hex(&tag(OTHER, &format!("1492774577.{body}")));
    let demands = (&preset("Stripe", secret), &preset("Stripe", "whsec_another_secret"));
    for header in [
        format!("t=1492774577,v1={good},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"),
        format!("t=1492774577,v1={old},v1={good}"),
        format!("t=1492774577, v1={good}"),
    ] {
        let request = Request { headers: vec![("Stripe-Signature", header)], body, sent: 1_492_774_577 };
        prove("Stripe", demands, &request, true);
    }
    let request =
        Request { headers: vec![("Stripe-Signature", format!("t=1492774577,v0={good}"))], body, sent: 1_492_774_577 };
    assert!(!passes(demands.0, &request, body, request.sent), "another version");
}

/// By the algorithm published at shopify.dev, "Deliver webhooks through HTTPS".
#[test]
fn shopify_signs_the_body_in_base64() {
    let secret = "hush-this-is-the-client-secret";
    let body = r#"{"id":820982911946154508,"email":"jon@example.com"}"#;
    let request = Request {
        headers: vec![("X-Shopify-Hmac-SHA256", BASE64.encode(tag(secret, body)))],
        body,
        sent: 1_790_000_000,
    };
    prove("Shopify", (&preset("Shopify", secret), &preset("Shopify", OTHER)), &request, false);
}

/// By the algorithm published at developer.zendesk.com, "Verifying webhook authenticity": time, then body. Its secret for
/// tests is published too.
#[test]
fn zendesk_signs_an_iso_time_and_the_body() {
    let secret = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";
    let (body, time) = (r#"{"say": "hello"}"#, "2021-07-25T10:00:00Z");
    let headers = |signature: String| {
        vec![("X-Zendesk-Webhook-Signature", signature), ("X-Zendesk-Webhook-Signature-Timestamp", time.into())]
    };
    let signature = BASE64.encode(tag(secret, &format!("{time}{body}")));
    let request = Request { headers: headers(signature), body, sent: 1_627_207_200 };
    prove("Zendesk", (&preset("Zendesk", secret), &preset("Zendesk", OTHER)), &request, true);

    // An older edition of the page has a whole example, with the body first.
    let older = |secret: &str| {
        let Verify::Hmac(hmac) = preset("Zendesk", secret) else { panic!("it is signed") };
        Verify::Hmac(Hmac { text: SignedText { before: String::new(), after: "{timestamp}".into() }, ..hmac })
    };
    let published = headers("tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw=".into());
    let request = Request { headers: published, body, sent: 1_627_207_200 };
    prove("Zendesk", (&older("HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA="), &older(OTHER)), &request, true);
}

/// Published at docs.svix.com, "Verifying webhooks manually".
#[test]
fn svix_signs_as_its_manual_shows() {
    // The example's key is shorter than the configuration allows: it is put into what the preset made.
    let with = |secret: &str| {
        let demand = preset("Svix", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let Verify::StandardWebhooks { .. } = demand else { panic!("it is signed") };
        Verify::StandardWebhooks { secrets: Secrets::fixed(vec![Secret::new(secret)]) }
    };
    let request = Request {
        headers: vec![
            ("svix-id", "msg_loFOjxBNrRLzqYUf".into()),
            ("svix-timestamp", "1731705121".into()),
            ("svix-signature", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=".into()),
        ],
        body: r#"{"event_type":"ping","data":{"success":true}}"#,
        sent: 1_731_705_121,
    };
    let demands = (&with("whsec_plJ3nmyCDGBKInavdOK15jsl"), &with("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
    prove("Svix", demands, &request, true);
}

/// Published at api.slack.com, "Verifying requests from Slack".
#[test]
fn slack_signs_as_its_manual_shows() {
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let request = Request {
        headers: vec![
            ("X-Slack-Request-Timestamp", "1531420618".into()),
            ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503".into()),
        ],
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
               &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
               &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
               &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        sent: 1_531_420_618,
    };
    prove("Slack", (&preset("Slack", secret), &preset("Slack", OTHER)), &request, true);
}

#[test]
fn what_the_senders_own_libraries_sign_passes_and_nothing_else_does() {
    #[derive(serde::Deserialize)]
    struct One {
        preset: String,
        secret: String,
        now: i64,
        headers: BTreeMap<String, String>,
        body: String,
    }
    let made: Vec<One> = serde_json::from_str(include_str!("../senders/presets.json")).expect("it was made");
    let presets: Vec<&str> = made.iter().map(|one| one.preset.as_str()).collect();
    assert_eq!(presets, ["Stripe", "Slack", "Svix"]);
    for One { preset: sender, secret, now, headers, body } in made {
        let demand = preset(&sender, &secret);
        let other = preset(&sender, &format!("{}{}", &secret[..secret.len() - 4], "AAAA"));
        let is_let_in = |demand: &Verify, body: &str, seconds: i64| {
            let delivery = Delivery {
                transport: Transport::Http,
                source: "preset".into(),
                content_type: None,
                headers: headers.clone(),
                body: body.as_bytes().to_vec(),
                received_at: at(seconds),
            };
            signature::verify(demand, delivery, at(seconds)).is_ok()
        };
        assert!(is_let_in(&demand, &body, now) && is_let_in(&demand, &body, now - 300), "{sender}");
        assert!(!is_let_in(&demand, &body.replace("ö", "o"), now), "{sender}: another body");
        assert!(!is_let_in(&other, &body, now), "{sender}: another secret");
        assert!(!is_let_in(&demand, &body, now + 301), "{sender}: played back later");
    }
}

/// A world whose only source is a preset.
async fn world(sender: &str, secret: &str) -> (World, tempfile::TempDir) {
    let (block, folder) = absolute(sender, secret);
    let toml = format!("[watch]\nenabled = false\n{block}");
    (World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await, folder)
}

/// The block of a preset with the paths of its files.
fn absolute(sender: &str, secret: &str) -> (String, tempfile::TempDir) {
    let (folder, _) = folder(sender, secret);
    let root = format!("\"{}/", folder.path().display());
    // A world has no configuration file, and so no folder of it.
    let block = block(sender).replace("\"secrets/", &format!("{root}secrets/"));
    (block.replace("\"maps/", &format!("{root}maps/")), folder)
}

/// Senders that sign are let in over HTTP and their changed requests are not.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_changed_after_signing_are_refused() {
    const SVIX: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let presets = ["GitHub", "Stripe", "Shopify", "Zendesk", "Slack", "Svix"]
        .map(|sender| absolute(sender, if sender == "Svix" { SVIX } else { "a-secret-of-the-sender" }));
    let blocks: String = presets.iter().map(|(block, _)| block.as_str()).collect();
    let toml = format!("[watch]\nenabled = false\n{blocks}");
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let now = podero_bridge::clock::Clock::system().now();
    let seconds = now.micros() / 1_000_000;
    let tag = |text: String| tag("a-secret-of-the-sender", &text);
    let svix = standardwebhooks::Webhook::new(SVIX).expect("valid").sign("m1", seconds, body.as_bytes());
    for (source, headers) in [
        ("github", vec![("x-hub-signature-256", format!("sha256= {}", hex(&tag(body.clone()))))]),
        (
            "stripe",
            vec![("stripe-signature", format!("t={seconds},v1=00,v1={}", hex(&tag(format!("{seconds}.{body}")))))],
        ),
        ("shopify", vec![("x-shopify-hmac-sha256", BASE64.encode(tag(body.clone())))]),
        (
            "zendesk",
            vec![
                ("x-zendesk-webhook-signature", BASE64.encode(tag(format!("{now}{body}")))),
                ("x-zendesk-webhook-signature-timestamp", now.to_string()),
            ],
        ),
        (
            "slack",
            vec![
                ("x-slack-signature", format!("v0={}", hex(&tag(format!("v0:{seconds}:{body}"))))),
                ("x-slack-request-timestamp", seconds.to_string()),
            ],
        ),
        (
            "svix",
            vec![
                ("svix-id", "m1".into()),
                ("svix-timestamp", seconds.to_string()),
                ("svix-signature", svix.expect("text")),
            ],
        ),
    ] {
        let path = format!("/v1/events/{source}");
        let headers: Vec<(&str, &str)> = std::iter::once(("content-type", STRUCTURED))
            .chain(headers.iter().map(|(name, value)| (*name, value.as_str())))
            .collect();
        let answer = post(&world, &path, &headers, body.clone()).await;
        assert_eq!(answer.status(), 202, "{source}: {}", answer.text().await.unwrap_or_default());
        assert_eq!(post(&world, &path, &headers, body.replace("C-1", "C-2")).await.status(), 401, "{source}");
        assert_eq!(post(&world, &path, &headers[..1], body.clone()).await.status(), 401, "{source}: no signature");
    }
    world.bridge.stop().await;
}

const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";
const TIME: &str = "2026-10-01T12:00:00Z";

async fn post(world: &World, path: &str, headers: &[(&str, &str)], body: String) -> reqwest::Response {
    let request =
        headers.iter().fold(world.http.post(world.door(path)), |request, (name, value)| request.header(*name, *value));
    request.body(body).send().await.expect("an answer")
}

/// CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery", §4, with the origin of its example.
async fn shake_hands(world: &World, path: &str) {
    let request = world.http.request(reqwest::Method::OPTIONS, world.door(path));
    let request = request.header("WebHook-Request-Origin", "eventemitter.example.com");
    let answer = request.header("WebHook-Request-Rate", "120").send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    assert_eq!(answer.headers()["webhook-allowed-origin"], "eventemitter.example.com", "{path}");
    assert_eq!(answer.headers()["webhook-allowed-rate"], "*", "{path}");
}

/// In the form of SAP's catalogue of events.
const SAP_EVENT: &str = r#"{"specversion":"1.0","id":"6b1f3c9e-0d5a-1eef-a5d4-8a1b2c3d4e5f","source":"/default/sap.s4.beh/100",
"type":"sap.s4.beh.businesspartner.v1.BusinessPartner.Created.v1","time":"2026-10-01T12:00:00Z",
"datacontenttype":"application/json","data":{"BusinessPartner":"10100000"}}"#;

/// Published at learn.microsoft.com, "CloudEvents v1.0 schema with Azure Event Grid".
const EVENT_GRID_EVENT: &str = r#"{"specversion":"1.0","type":"Microsoft.Storage.BlobCreated",
"source":"/subscriptions/{subscription-id}/resourceGroups/{resource-group}/providers/Microsoft.Storage/storageAccounts/{storage-account}",
"id":"9aeb0fdf-c01e-0131-0922-9eb54906e209","time":"2019-11-18T15:13:39.4589254Z",
"subject":"blobServices/default/containers/{storage-container}/blobs/{new-file}",
"data":{"api":"PutBlockList","clientRequestId":"4c5dd7fb-2c48-4a27-bb30-5361b5de920a",
"requestId":"9aeb0fdf-c01e-0131-0922-9eb549000000","eTag":"0x8D76C39E4407333","contentType":"image/png","contentLength":30699}}"#;

/// Published at docs.dapr.io, "Publishing & subscribing messages with Cloudevents".
const DAPR_EVENT: &str = r#"{"topic":"orders","pubsubname":"order_pub_sub",
"traceid":"00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01","tracestate":"","data":{"orderId":1},
"id":"5929aaac-a5e2-4ca1-859c-edfe73f11565","specversion":"1.0","datacontenttype":"application/json; charset=utf-8",
"source":"checkout","type":"com.dapr.event.sent","time":"2020-09-23T06:23:21Z",
"traceparent":"00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01"}"#;

/// An event of the sender's own type is believed to be the sender's: what becomes of it is the mapping's matter.
async fn is_believed(world: &World, path: &str, (name, value): (&str, &str), body: &str) {
    let wrong = format!("{value}x");
    // Its program passes the event over, which is a success.
    for (value, expected) in [(value, 202), (&*wrong, 401)] {
        let answer = post(world, path, &[("content-type", STRUCTURED), (name, value)], body.to_owned()).await;
        assert_eq!(answer.status(), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sap_shakes_hands_is_asked_for_its_password_and_delivers() {
    let (world, _folder) = world("SAP", "sap:a-password-that-is-long").await;
    let path = "/v1/events/sap";
    shake_hands(&world, path).await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let asked = post(&world, path, &[("content-type", STRUCTURED)], body.clone()).await;
    assert_eq!(asked.status(), 401);
    assert_eq!(asked.headers()["www-authenticate"], r#"Basic realm="podero-bridge", charset="UTF-8""#);
    for (password, expected) in [("sap:a-password-that-is-long", 202), ("sap:a-password-that-is-lonG", 401)] {
        let authorization = format!("Basic {}", BASE64.encode(password));
        let headers = [("content-type", STRUCTURED), ("authorization", &*authorization)];
        assert_eq!(post(&world, path, &headers, body.clone()).await.status(), expected, "{password}");
    }
    let authorization = format!("Basic {}", BASE64.encode("sap:a-password-that-is-long"));
    is_believed(&world, path, ("authorization", &authorization), SAP_EVENT).await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_grid_shakes_hands_and_delivers_one_event_and_many() {
    let (world, _folder) = world("Azure Event Grid", "a-token-of-the-subscription").await;
    let path = "/v1/events/event-grid";
    shake_hands(&world, path).await;
    let with = |token: &str| format!("Bearer {token}");
    let (known, unknown) = (with("a-token-of-the-subscription"), with("another-token-that-is-long"));
    let body = sign_up("e1", "C-1", TIME).to_string();
    let refused = post(&world, path, &[("content-type", STRUCTURED), ("authorization", &unknown)], body.clone()).await;
    assert_eq!(refused.headers()["www-authenticate"], r#"Bearer realm="podero-bridge""#);
    for (content_type, body) in
        [(STRUCTURED, body), (BATCH, json!([sign_up("e2", "C-2", TIME), sign_up("e3", "C-3", TIME)]).to_string())]
    {
        let answer = post(&world, path, &[("content-type", content_type), ("authorization", &known)], body).await;
        assert_eq!(answer.status(), 202, "{content_type}");
    }
    is_believed(&world, path, ("authorization", &known), EVENT_GRID_EVENT).await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dapr_shows_its_token_and_reads_no_status_in_the_answer() {
    let (world, _folder) = world("Dapr", "a-token-of-the-sidecar").await;
    let path = "/v1/events/dapr";
    // The extensions of the published example.
    let mut wrapped = sign_up("e1", "C-1", TIME);
    for (name, value) in [
        ("topic", "orders"),
        ("pubsubname", "order_pub_sub"),
        ("traceid", "00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01"),
        ("tracestate", ""),
        ("datacontenttype", "application/json; charset=utf-8"),
    ] {
        wrapped[name] = json!(value);
    }
    for (token, expected) in [("a-token-of-the-sidecar", 202), ("another-token-that-is-long", 401)] {
        let headers = [("content-type", STRUCTURED), ("dapr-api-token", token)];
        let answer = post(&world, path, &headers, wrapped.to_string()).await;
        assert_eq!(answer.status(), expected, "{token}");
        let body = answer.text().await.expect("a body");
        assert!(expected != 202 || body.is_empty(), "{body}");
    }
    is_believed(&world, path, ("dapr-api-token", "a-token-of-the-sidecar"), DAPR_EVENT).await;
    // Dapr sends again what is refused. Of a batch it would read no answer, so a part that is refused refuses the whole.
    let batch = json!([sign_up("e3", "C-3", TIME), event("e4", "customer.signed_up", TIME, &json!({}))]);
    let headers = [("content-type", BATCH), ("dapr-api-token", "a-token-of-the-sidecar")];
    assert_eq!(post(&world, path, &headers, batch.to_string()).await.status(), 422);
    let wrong = event("e2", "customer.signed_up", TIME, &json!({"customer_id": "C-2", "email": "no"}));
    let headers = [("content-type", STRUCTURED), ("dapr-api-token", "a-token-of-the-sidecar")];
    let answer = post(&world, path, &headers, wrong.to_string()).await;
    let (status, body): (_, Value) = (answer.status().as_u16(), answer.json().await.expect("JSON"));
    assert_eq!((status, &body["status"]), (422, &json!(422)));
    world.bridge.stop().await;
}
