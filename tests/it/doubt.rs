//! Input that is in doubt takes nothing away: a churn or a move that cannot be meant as it is read is refused at each entrance
//! (webhook, queue, import, `explain`), and the customer stays.

use std::path::Path;
use std::process::{Command, Output};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::servers;
use crate::world::{Settings, World, event, sign_up, until};

/// A sender's own JSON, with a date on its own clocks.
const DATES: &str = r#". as $m | if .kind == "other" then empty else {
  type: ("customer." + .kind), id: .id, time: "2026-10-01T12:00:00Z",
  data: ({customer_id: .cust, effective_at: (.closedOn | date_time($m.z // "Europe/Berlin"))} | given)
} end"#;

/// The same from the CloudEvents of a system that has types of its own.
const OWN_EVENTS: &str = r#"if .type == "sap.s4.contract.Ended.v1" then
  {type: "customer.churned", data: {customer_id: .data.Partner, effective_at: (.data.EndDate | date_time("Europe/Berlin"))}}
else empty end"#;

struct Case {
    name: &'static str,
    /// The source, by which it is sent.
    source: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    /// A part of the refusal's text.
    word: &'static str,
}

const STRUCTURED: &str = "application/cloudevents+json";
const PLAIN: &str = "application/json";

/// A churn of the customer as a CloudEvent, with other fields next to its data and in it.
fn churn(id: &str, fields: &Value, data: &Value) -> Value {
    let mut churn = event(id, "customer.churned", "2026-10-02T12:00:00Z", data);
    churn["subject"] = json!("CUST");
    churn.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    churn
}

/// Churns as CloudEvents, each with a part of its refusal's text.
fn structured() -> Vec<(&'static str, Value, &'static str)> {
    let without_data = |id, fields: Value| {
        let mut churn = churn(id, &json!({"data": null}), &json!({}));
        churn.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        churn
    };
    let with = |id: &str, data: Value| churn(id, &json!({}), &data);
    // {"effective_at": "2027-06-01T00:00:00Z"}, compressed; and a field in Latin-1.
    let gzip = "H4sIAAAAAAAC/6tWSk1LS03OSExJjU8sUbJSMjIwMtc1MNM1MAwxMLACoyilWgB6czOCJgAAAA==";
    let latin_1 = "eyJ0b3duIjogIk38bmNoZW4ifQ==";
    let beside = json!({"effectiveat": "2027-06-01T00:00:00Z"});
    vec![
        ("data that is gzip", without_data("d1", json!({ "data_base64": gzip })), "/data_base64"),
        ("data in Latin-1", without_data("d2", json!({ "data_base64": latin_1 })), "/data_base64"),
        ("data as XML", without_data("d3", json!({"data": "<churn/>", "datacontenttype": "text/xml"})), "/data"),
        ("canceled", with("c1", json!({"canceled": true})), "did you mean `cancelled`"),
        ("isCancelled", with("c2", json!({"isCancelled": true})), "did you mean `cancelled`"),
        ("effectiveAt", with("c3", json!({"effectiveAt": "2027-06-01T00:00:00Z"})), "/data/effectiveAt"),
        ("effective-date", with("c4", json!({"effective-date": "2027-06-01"})), "`effective_at`"),
        ("beside data", churn("c5", &beside, &json!({})), "belongs into `data`"),
        ("cancelled as a text", with("c6", json!({"cancelled": "true"})), "/data/cancelled"),
        ("year 1", with("t1", json!({"effective_at": "0001-01-01T00:00:00Z"})), "2000-01-02"),
        ("1900", with("t2", json!({"effective_at": "1900-01-01T00:00:00+01:00"})), "2000-01-02"),
        ("1970", with("t3", json!({"effective_at": "1970-01-01T00:00:00Z"})), "2000-01-02"),
        ("9999", with("t4", json!({"effective_at": "9999-12-31T00:00:00Z"})), "too far ahead"),
        ("a serial number", with("t5", json!({"effective_at": "46387"})), "Excel"),
        ("a number", with("t6", json!({"effective_at": 46387})), "/data/effective_at"),
        ("no offset", with("t7", json!({"effective_at": "2027-06-01"})), "offset"),
        ("time of year 1", churn("t8", &json!({"time": "0001-01-01T00:00:00Z"}), &json!({})), "/time"),
        ("something invisible", churn("i1", &json!({"subject": "CU\u{200b}ST"}), &json!({})), "/subject"),
    ]
}

/// Dates of a sender's own, each with a part of its refusal's text.
const MAPPED: [(&str, &str, &str, &str); 10] = [
    ("two digits in UTC", "\"31.12.26\"", "UTC", "two digits"),
    ("two digits in Berlin", "\"31.12.26\"", "Europe/Berlin", "two digits"),
    ("two digits in Warsaw", "\"26-12-31\"", "Europe/Warsaw", "two digits"),
    ("a spreadsheet's number", "46387", "Europe/Berlin", "Excel"),
    ("zero", "\"0\"", "Europe/Berlin", "10^8"),
    ("open end", "\"9999-12-31\"", "Europe/Berlin", "too far ahead"),
    ("not set", "\"1900-01-01\"", "Europe/Berlin", "2000-01-02"),
    ("either way round", "\"03/04/2027\"", "Europe/Berlin", "either way"),
    ("rounded", "\"1,79868E+12\"", "Europe/Berlin", "shortened"),
    ("no date", "\"soon\"", "Europe/Berlin", "form"),
];

fn cases() -> Vec<Case> {
    let of_default = |name, body: Vec<u8>, word| Case { name, source: "default", content_type: STRUCTURED, body, word };
    let of_dates = |name, body: Vec<u8>, word| Case { name, source: "dates", content_type: PLAIN, body, word };
    let mut cases: Vec<Case> = structured()
        .into_iter()
        .map(|(name, churn, word)| of_default(name, churn.to_string().into_bytes(), word))
        .collect();
    let once = churn("k1", &json!({}), &json!({})).to_string();
    let twice = once.replace("\"data\":{}", "\"data\":{},\"data\":{\"a\":1}");
    cases.push(of_default("a name twice", twice.into(), "twice"));
    cases.extend(MAPPED.iter().map(|(name, closed_on, zone, word)| {
        let closed_on: Value = serde_json::from_str(closed_on).expect("JSON");
        let message = json!({"kind": "churned", "id": name, "cust": "CUST", "closedOn": closed_on, "z": zone});
        of_dates(name, message.to_string().into(), word)
    }));
    let twice = br#"{"kind": "churned", "id": "l3", "cust": "A", "cust": "CUST"}"#.to_vec();
    cases.push(of_dates("a name twice in a mapped message", twice, "twice"));
    let latin_1 = b"{\"kind\": \"churned\", \"id\": \"l1\", \"cust\": \"K\xfc1\"}".to_vec();
    cases.push(of_dates("Latin-1", latin_1, "not UTF-8"));
    let half = br#"{"kind": "churned", "id": "l2", "cust": "K\ud800"}"#.to_vec();
    cases.push(of_dates("half a character", half, "not valid JSON"));
    cases
}

fn run(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podero-bridge"));
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(folder);
    command.env("PODERO_BRIDGE__STORE__URL", url).args(arguments);
    command.output().expect("it ends")
}

/// A folder with the mappings and the configuration of a bridge.
struct Desk {
    folder: tempfile::TempDir,
    url: String,
    toml: String,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("dates.jq"), DATES).expect("written");
        std::fs::write(folder.path().join("own.jq"), OWN_EVENTS).expect("written");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let source = |name: &str, map: &str| format!("[[source]]\nname = \"{name}\"\nverify = \"none\"\n{map}");
        let map = |name: &str| format!("map = \"{}\"\n", at(name));
        let sources =
            [source("default", ""), source("dates", &map("dates.jq")), source("own", &map("own.jq"))].concat();
        let toml = format!("[watch]\nenabled = false\n{sources}");
        std::fs::write(folder.path().join("bridge.toml"), &toml).expect("written");
        let url = format!("sqlite://{}", at("bridge.db"));
        Self { folder, url, toml }
    }

    async fn world(&self, environment: Vec<(&'static str, String)>) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        World::start_on(folder, self.url.clone(), Settings { toml: self.toml.clone(), environment }).await
    }

    /// Runs a command over a file with these bytes; its status and all that it says.
    fn over(&self, file: &str, bytes: &[u8], arguments: &[&str]) -> (Option<i32>, String) {
        std::fs::write(self.folder.path().join(file), bytes).expect("written");
        let output = run(self.folder.path(), &self.url, &[arguments, &[file]].concat());
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

async fn webhooks_are_refused(world: &World, cases: &[Case]) {
    for case in cases {
        let path =
            if case.source == "default" { "/v1/events".to_owned() } else { format!("/v1/events/{}", case.source) };
        let request = world.http.post(world.door(&path)).header("content-type", case.content_type);
        let answer = request.body(case.body.clone()).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert!((400..500).contains(&status) && text.contains(case.word), "{}: {status} {text}", case.name);
    }
}

/// A churn of the customer in binary mode.
fn headers<'a>(subject: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![
        ("ce-specversion", "1.0"),
        ("ce-id", "b1"),
        ("ce-source", "/wild"),
        ("ce-type", "customer.churned"),
        ("ce-subject", subject),
    ];
    headers.extend(more);
    headers
}

async fn binary_webhooks_are_refused(world: &World) {
    for (name, headers, expected) in [
        ("no UTF-8", headers("CUST%FF", &[]), 422),
        ("no percent-encoding", headers("CUST%", &[]), 422),
        ("a control field as a header", headers("CUST", &[("ce-effectiveat", "2027-06-01T00:00:00Z")]), 422),
        ("a header twice", headers("CUST", &[("ce-subject", "OTHER")]), 400),
    ] {
        let request = world.http.post(world.door("/v1/events"));
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.body("{}").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{name}");
    }
    let raw = world.http.post(world.door("/v1/events")).header("ce-subject", &b"K\xfc1"[..]);
    let answer = raw.body("{}").send().await.expect("an answer");
    let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
    assert!(status == 400 && text.contains("ce-subject"), "{status} {text}");
}

async fn messages_are_parked(world: &World, bus: &Bus, cases: &[Case]) {
    for case in cases {
        bus.publish("customer.churned", case.content_type, &case.body).await;
    }
    let mut table = FieldTable::default();
    for (name, value) in headers("CUST", &[("ce-canceled", "true")]) {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    bus.publish_with("customer.churned", BasicProperties::default().with_headers(table), b"{}").await;
    let expected = cases.len() + 1;
    let parked = until("all are parked", async || {
        let parked = world.get(&world.operator("/v1/parked?limit=200")).await;
        let events = parked["parked"].as_array().cloned().unwrap_or_default();
        (events.len() == expected).then_some(events)
    })
    .await;
    for (parked, case) in parked.iter().zip(cases) {
        let detail = parked["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(case.word), "{}: {parked}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_in_doubt_is_refused_at_every_entrance_and_the_customer_stays() {
    let desk = Desk::new();
    let vhost = servers::fresh_vhost();
    let world = desk.world(vec![("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "dates".into())]).await;
    world.ready().await;
    world.apply(&sign_up("s1", "CUST", "2026-10-01T10:00:00Z")).await;
    let cases = cases();
    webhooks_are_refused(&world, &cases).await;
    binary_webhooks_are_refused(&world).await;
    messages_are_parked(&world, &Bus::connect(&vhost).await, &cases).await;
    let state = world.sandbox_state().await;
    assert_eq!(state["users"][0]["deleted_at"], Value::Null, "{state}");
    assert_eq!(state["buildings"].as_array().map(Vec::len), Some(1), "{state}");
    world.bridge.stop().await;

    for source in ["default", "dates"] {
        // A line that is no text ends no import of the others.
        let lines: Vec<&Case> = cases.iter().filter(|case| case.source == source).collect();
        let file = lines.iter().flat_map(|case| [&case.body[..], b"\n"].concat()).collect::<Vec<u8>>();
        let (status, told) =
            desk.over("file.ndjson", &file, &["import", "--config", "bridge.toml", "--source", source]);
        assert_eq!(status, Some(1), "{told}");
        assert!(told.contains(&format!("rejected {},", lines.len())), "{told}");
    }
    for case in cases.iter().step_by(3) {
        let arguments = ["explain", "--config", "bridge.toml", "--source", case.source];
        let (status, told) = desk.over("one.json", &case.body, &arguments);
        assert!(status == Some(1) && told.contains(case.word), "{}: {told}", case.name);
    }
}

/// Asserts that an answer says that the event waits for its day.
fn is_scheduled((status, answer): (u16, Value), name: &str) {
    assert_eq!((status, &answer["state"]), (202, &json!("scheduled")), "{name}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_is_taken_in_the_forms_that_senders_use() {
    let desk = Desk::new();
    let world = desk.world(Vec::new()).await;
    let dates = [
        (json!("31.12.2026"), "Europe/Berlin"),
        (json!("20261231235959"), "Europe/Berlin"),
        (json!(1_798_675_200), "UTC"),
        (json!(1_798_675_200.5), "UTC"),
        (json!("/Date(1798675200000)/"), "UTC"),
        (json!("2026-12-31 00:00:00 +0100"), "UTC"),
        (json!("2026/12/31"), "Europe/Vienna"),
    ];
    for (number, (closed_on, zone)) in dates.into_iter().enumerate() {
        let customer = format!("C-{number}");
        world.apply(&sign_up(&format!("s{number}"), &customer, "2026-10-01T10:00:00Z")).await;
        let id = format!("m{number}");
        let message = json!({"kind": "churned", "id": id, "cust": customer, "closedOn": closed_on, "z": zone});
        let answer = world.post(&world.door("/v1/events/dates"), PLAIN, message.to_string()).await;
        is_scheduled(answer, &message.to_string());
    }
    // {"effective_at": "2027-06-01T00:00:00Z"} behind a byte order mark.
    let coded = "77u/eyJlZmZlY3RpdmVfYXQiOiAiMjAyNy0wNi0wMVQwMDowMDowMFoifQ";
    world.apply(&sign_up("s", "CUST", "2026-10-01T10:00:00Z")).await;
    let coded = churn("m", &json!({"data_base64": coded, "data": null}), &json!({}));
    is_scheduled(world.send(&coded).await, "data in Base64");

    // The past is no doubt, nor are other fields.
    for (number, effective_at) in ["2026-09-30T12:00:00Z", "2021-10-01T12:00:00Z"].into_iter().enumerate() {
        let customer = format!("Y-{number}");
        world.apply(&sign_up(&format!("sy{number}"), &customer, "2020-10-01T10:00:00Z")).await;
        let data = json!({"customer_id": customer, "effective_at": effective_at, "reason": "r", "note": "n", "contract_id": 7});
        let settled =
            world.apply(&event(&format!("y{number}"), "customer.churned", "2026-10-02T12:00:00Z", &data)).await;
        assert_eq!(settled["state"], "applied", "{settled}");
    }
    // A blank more is the same customer.
    world.apply(&sign_up("sb", "B-1", "2026-10-01T10:00:00Z")).await;
    let data = json!({"customer_id": "B-1 "});
    let settled = world.apply(&event("b", "customer.churned", "2026-10-02T12:00:00Z", &data)).await;
    assert_eq!((&settled["customer_id"], &settled["state"]), (&json!("B-1"), &json!("applied")), "{settled}");
    world.bridge.stop().await;
}

/// In each mode; one that its program passes over; and one of the bridge's own types next to them.
#[tokio::test(flavor = "multi_thread")]
async fn a_senders_own_cloudevents_go_to_its_mapping() {
    let desk = Desk::new();
    let world = desk.world(Vec::new()).await;
    let sap = |id: &str, partner: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/sap/s4", "type": "sap.s4.contract.Ended.v1",
               "time": "2026-10-02T12:00:00Z", "data": {"Partner": partner, "EndDate": "/Date(1798675200000)/"}})
    };
    world.apply(&sign_up("s-p1", "P-1", "2026-10-01T10:00:00Z")).await;
    world.apply(&sign_up("s-p2", "P-2", "2026-10-01T10:00:00Z")).await;
    let door = world.door("/v1/events/own");
    is_scheduled(world.post(&door, STRUCTURED, sap("sap-1", "P-1").to_string()).await, "structured");
    let again = world.post(&door, STRUCTURED, format!(" {}", sap("sap-1", "P-1"))).await;
    assert_eq!(again.1["status"], "duplicate", "{}", again.1);
    let mut request = world.http.post(&door).header("content-type", "application/json");
    for name in ["specversion", "source", "type", "time"] {
        request = request.header(format!("ce-{name}"), sap("", "")[name].as_str().expect("a text"));
    }
    let body = sap("", "P-2")["data"].to_string();
    let answer = request.header("ce-id", "sap-2").body(body).send().await.expect("an answer");
    is_scheduled((answer.status().as_u16(), answer.json().await.expect("JSON")), "binary");
    let mut other = sap("sap-3", "P-1");
    other["type"] = json!("sap.s4.invoice.Created.v1");
    assert_eq!(world.post(&door, STRUCTURED, other.to_string()).await, (202, json!({"results": []})));
    let batch = json!([other, sap("sap-1", "P-1"), sign_up("s-p3", "P-3", "2026-10-01T10:00:00Z")]);
    let (status, answer) = world.post(&door, "application/cloudevents-batch+json", batch.to_string()).await;
    let results = answer["results"].as_array().expect("a batch");
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!((status, statuses), (202, vec![&json!("duplicate"), &json!("accepted")]), "{answer}");
    // Its data in Base64 is the program's data, or is refused.
    world.apply(&sign_up("s-p4", "P-4", "2026-10-01T10:00:00Z")).await;
    let coded = |id: &str, coded: &str| {
        let mut event = sap(id, "");
        event.as_object_mut().expect("an object").remove("data");
        event["data_base64"] = json!(coded);
        event.to_string()
    };
    // {"Partner": "P-4", "EndDate": "2027-06-01"}
    let readable = "eyJQYXJ0bmVyIjogIlAtNCIsICJFbmREYXRlIjogIjIwMjctMDYtMDEifQ==";
    is_scheduled(world.post(&door, STRUCTURED, coded("sap-4", readable)).await, "in Base64");
    for unreadable in ["H4sIAAAAAAAC/w==", "***", "eyJ0b3duIjogIk38bmNoZW4ifQ=="] {
        let (status, answer) = world.post(&door, STRUCTURED, coded("sap-5", unreadable)).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/data_base64")), "{answer}");
    }
    // One item over which the program fails leaves the others of its batch alone.
    let mut failing = sap("sap-6", "P-1");
    failing["data"]["EndDate"] = json!("31.12.26");
    let batch = json!([failing, sign_up("s-p5", "P-5", "2026-10-01T10:00:00Z")]);
    let (_, answer) = world.post(&door, "application/cloudevents-batch+json", batch.to_string()).await;
    let statuses: Vec<&Value> =
        answer["results"].as_array().expect("a batch").iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, [&json!("rejected"), &json!("accepted")], "{answer}");
    // A slip in a type of the bridge's is reported, not passed over.
    let mut slip = sign_up("s-p6", "P-6", "2026-10-01T10:00:00Z");
    slip["type"] = json!("Customer.Signed_Up");
    assert_eq!(world.post(&door, STRUCTURED, slip.to_string()).await.0, 422);
    // A source without a mapping knows the bridge's types alone.
    let (status, answer) = world.send(&other).await;
    assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/type")), "{answer}");
    world.bridge.stop().await;
}
