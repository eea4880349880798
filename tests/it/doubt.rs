//! Input that is in doubt takes nothing away: a churn or a move that cannot be meant as it is read is refused at each entrance
//! (webhook, queue, import, `explain`), and the customer stays.

use std::path::Path;
use std::process::{Command, Output};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

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
    /// Where it goes: the source and the media type.
    source: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    /// A word of the refusal.
    word: &'static str,
}

const STRUCTURED: &str = "application/cloudevents+json";
const PLAIN: &str = "application/json";

/// A churn of the customer as a CloudEvent, with other fields beside and in its data.
fn churn(id: &str, fields: &Value, data: &Value) -> Value {
    let mut churn = event(id, "customer.churned", "2026-10-02T12:00:00Z", data);
    churn["subject"] = json!("CUST");
    churn.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    churn
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut structured = |name, churn: Value, word| {
        let body = churn.to_string().into_bytes();
        cases.push(Case { name, source: "default", content_type: STRUCTURED, body, word });
    };
    let without_data = |id, fields: Value| {
        let mut churn = churn(id, &json!({"data": null}), &json!({}));
        churn.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        churn
    };
    // {"effective_at": "2027-06-01T00:00:00Z"}, compressed; and a field in Latin-1.
    let gzip = "H4sIAAAAAAAC/6tWSk1LS03OSExJjU8sUbJSMjIwMtc1MNM1MAwxMLACoyilWgB6czOCJgAAAA==";
    structured("data that is gzip", without_data("d1", json!({ "data_base64": gzip })), "/data_base64");
    structured(
        "data in Latin-1",
        without_data("d2", json!({"data_base64": "eyJ0b3duIjogIk38bmNoZW4ifQ=="})),
        "/data_base64",
    );
    structured(
        "data of another type",
        without_data("d3", json!({"data": "<churn/>", "datacontenttype": "text/xml"})),
        "/data",
    );
    structured("canceled", churn("c1", &json!({}), &json!({"canceled": true})), "did you mean `cancelled`");
    structured("isCancelled", churn("c2", &json!({}), &json!({"isCancelled": true})), "did you mean `cancelled`");
    structured(
        "effectiveAt",
        churn("c3", &json!({}), &json!({"effectiveAt": "2027-06-01T00:00:00Z"})),
        "/data/effectiveAt",
    );
    structured("effective-date", churn("c4", &json!({}), &json!({"effective-date": "2027-06-01"})), "`effective_at`");
    structured(
        "beside data",
        churn("c5", &json!({"effectiveat": "2027-06-01T00:00:00Z"}), &json!({})),
        "belongs into `data`",
    );
    structured("cancelled as a text", churn("c6", &json!({}), &json!({"cancelled": "true"})), "/data/cancelled");
    structured("year 1", churn("t1", &json!({}), &json!({"effective_at": "0001-01-01T00:00:00Z"})), "2000-01-02");
    structured("1900", churn("t2", &json!({}), &json!({"effective_at": "1900-01-01T00:00:00+01:00"})), "2000-01-02");
    structured("1970", churn("t3", &json!({}), &json!({"effective_at": "1970-01-01T00:00:00Z"})), "2000-01-02");
    structured("9999", churn("t4", &json!({}), &json!({"effective_at": "9999-12-31T00:00:00Z"})), "too far ahead");
    structured("a serial number", churn("t5", &json!({}), &json!({"effective_at": "46387"})), "Excel");
    structured("a number", churn("t6", &json!({}), &json!({"effective_at": 46387})), "/data/effective_at");
    structured("no offset", churn("t7", &json!({}), &json!({"effective_at": "2027-06-01"})), "offset");
    structured("time of year 1", churn("t8", &json!({"time": "0001-01-01T00:00:00Z"}), &json!({})), "/time");
    structured(
        "an id with something invisible",
        churn("i1", &json!({"subject": "CU\u{200b}ST"}), &json!({})),
        "/subject",
    );
    let twice =
        churn("k1", &json!({}), &json!({})).to_string().replace("\"data\":{}", "\"data\":{},\"data\":{\"a\":1}");
    cases.push(Case {
        name: "a name twice",
        source: "default",
        content_type: STRUCTURED,
        body: twice.into(),
        word: "twice",
    });
    for (name, closed_on, zone, word) in [
        ("two digits in UTC", json!("31.12.26"), "UTC", "two digits"),
        ("two digits in Berlin", json!("31.12.26"), "Europe/Berlin", "two digits"),
        ("two digits in Warsaw", json!("26-12-31"), "Europe/Warsaw", "two digits"),
        ("a spreadsheet's number", json!(46387), "Europe/Berlin", "Excel"),
        ("zero", json!("0"), "Europe/Berlin", "10^8"),
        ("open end", json!("9999-12-31"), "Europe/Berlin", "too far ahead"),
        ("not set", json!("1900-01-01"), "Europe/Berlin", "2000-01-02"),
        ("either way round", json!("03/04/2027"), "Europe/Berlin", "either way"),
        ("rounded", json!("1,79868E+12"), "Europe/Berlin", "shortened"),
        ("no date", json!("soon"), "Europe/Berlin", "form"),
    ] {
        let message = json!({"kind": "churned", "id": name, "cust": "CUST", "closedOn": closed_on, "z": zone});
        cases.push(Case { name, source: "dates", content_type: PLAIN, body: message.to_string().into(), word });
    }
    let latin_1 = b"{\"kind\": \"churned\", \"id\": \"l1\", \"cust\": \"K\xfc1\"}".to_vec();
    cases.push(Case { name: "Latin-1", source: "dates", content_type: PLAIN, body: latin_1, word: "" });
    let half = br#"{"kind": "churned", "id": "l2", "cust": "K\ud800"}"#.to_vec();
    cases.push(Case { name: "half a character", source: "dates", content_type: PLAIN, body: half, word: "" });
    let twice = br#"{"kind": "churned", "id": "l3", "cust": "A", "cust": "CUST"}"#.to_vec();
    cases.push(Case {
        name: "a name twice in a mapped message",
        source: "dates",
        content_type: PLAIN,
        body: twice,
        word: "twice",
    });
    cases
}

fn run(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podero-bridge"));
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(folder);
    command.env("PODERO_BRIDGE__STORE__URL", url).args(arguments);
    command.output().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn input_in_doubt_is_refused_at_every_entrance_and_the_customer_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("dates.jq"), DATES).expect("written");
    std::fs::write(folder.path().join("own.jq"), OWN_EVENTS).expect("written");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (dates, own) = (at("dates.jq"), at("own.jq"));
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"dates\"\nverify = \"none\"\nmap = \"{dates}\"\n\
         [[source]]\nname = \"own\"\nverify = \"none\"\nmap = \"{own}\"\n"
    );
    std::fs::write(folder.path().join("bridge.toml"), &toml).expect("written");
    let url = format!("sqlite://{}", at("bridge.db"));
    let vhost = servers::fresh_vhost();
    let environment = vec![("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "dates".into())];
    let of_world = tempfile::tempdir().expect("a folder");
    let world = World::start_on(of_world, url.clone(), Settings { toml, environment }).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    world.apply(&sign_up("s1", "CUST", "2026-10-01T10:00:00Z")).await;

    let cases = cases();
    for case in &cases {
        let path =
            if case.source == "default" { "/v1/events".to_owned() } else { format!("/v1/events/{}", case.source) };
        let request = world.http.post(world.door(&path)).header("content-type", case.content_type);
        let answer = request.body(case.body.clone()).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert!((400..500).contains(&status) && text.contains(case.word), "{}: {status} {text}", case.name);
        bus.publish("customer.churned", case.content_type, &case.body).await;
    }
    let headers = |subject: &str, more: &[(&str, &str)]| {
        let mut headers = vec![
            ("ce-specversion", "1.0"),
            ("ce-id", "b1"),
            ("ce-source", "/wild"),
            ("ce-type", "customer.churned"),
            ("ce-subject", subject),
        ];
        headers.extend(more);
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    for (name, headers, expected) in [
        ("no UTF-8", headers("CUST%FF", &[]), 422),
        ("no percent-encoding", headers("CUST%", &[]), 422),
        ("a control field as a header", headers("CUST", &[("ce-effectiveat", "2027-06-01T00:00:00Z")]), 422),
        ("a header twice", headers("CUST", &[("ce-subject", "OTHER")]), 400),
    ] {
        let mut request = world.http.post(world.door("/v1/events"));
        for (header, value) in headers {
            request = request.header(header, value);
        }
        let answer = request.body("{}").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{name}");
    }
    let mut table = FieldTable::default();
    for (name, value) in headers("CUST", &[("ce-canceled", "true")]) {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    bus.publish_with("customer.churned", BasicProperties::default().with_headers(table), b"{}").await;

    let expected = cases.len() + 1;
    let parked = until("all are parked", async || {
        let parked = world.get(&world.operator("/v1/parked?limit=200")).await;
        let events = parked["parked"].as_array().or(parked["events"].as_array()).cloned().unwrap_or_default();
        (events.len() == expected).then_some(events)
    })
    .await;
    for (parked, case) in parked.iter().zip(&cases) {
        let detail = parked["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(case.word), "{}: {parked}", case.name);
    }
    let state = world.sandbox_state().await;
    assert_eq!(state["users"][0]["deleted_at"], Value::Null, "{state}");
    assert_eq!(state["buildings"].as_array().map(Vec::len), Some(1), "{state}");
    world.bridge.stop().await;

    for source in ["default", "dates"] {
        let lines: Vec<&Case> = cases.iter().filter(|case| case.source == source).collect();
        let file = lines.iter().flat_map(|case| [&case.body[..], b"\n"].concat()).collect::<Vec<u8>>();
        std::fs::write(folder.path().join("file.ndjson"), file).expect("written");
        let arguments = ["import", "--config", "bridge.toml", "--source", source, "file.ndjson"];
        let output = run(folder.path(), &url, &arguments);
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains(&format!("rejected {}", lines.len())) || told.contains(&format!("{} rejected", lines.len())),
            "{told}"
        );
    }
    for case in cases.iter().step_by(3) {
        std::fs::write(folder.path().join("one.json"), &case.body).expect("written");
        let arguments = ["explain", "--config", "bridge.toml", "--source", case.source, "one.json"];
        let output = run(folder.path(), &url, &arguments);
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{}: {told}", case.name);
        assert!(told.contains(case.word), "{}: {told}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_is_taken_in_the_forms_that_senders_use() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("dates.jq"), DATES).expect("written");
    std::fs::write(folder.path().join("own.jq"), OWN_EVENTS).expect("written");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (dates, own) = (at("dates.jq"), at("own.jq"));
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"dates\"\nverify = \"none\"\nmap = \"{dates}\"\n\
         [[source]]\nname = \"own\"\nverify = \"none\"\nmap = \"{own}\"\n"
    );
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let scheduled = async |answer: (u16, Value), name: &str| {
        assert_eq!((answer.0, &answer.1["state"]), (202, &json!("scheduled")), "{name}: {}", answer.1);
        let event =
            world.get(&world.operator(&format!("/v1/events/{}", answer.1["id"].as_str().expect("an id")))).await;
        event["effective_at"].as_str().or(event["due_at"].as_str()).unwrap_or_default().to_owned()
    };
    for (number, (closed_on, zone)) in [
        (json!("31.12.2026"), "Europe/Berlin"),
        (json!("20261231235959"), "Europe/Berlin"),
        (json!(1_798_675_200), "UTC"),
        (json!(1_798_675_200.5), "UTC"),
        (json!("/Date(1798675200000)/"), "UTC"),
        (json!("2026-12-31 00:00:00 +0100"), "UTC"),
        (json!("2026/12/31"), "Europe/Vienna"),
    ]
    .into_iter()
    .enumerate()
    {
        let customer = format!("C-{number}");
        world.apply(&sign_up(&format!("s{number}"), &customer, "2026-10-01T10:00:00Z")).await;
        let message =
            json!({"kind": "churned", "id": format!("m{number}"), "cust": customer, "closedOn": closed_on, "z": zone});
        let answer = world.post(&world.door("/v1/events/dates"), PLAIN, message.to_string()).await;
        scheduled(answer, &message.to_string()).await;
    }
    // {"effective_at": "2027-06-01T00:00:00Z"} behind a byte order mark.
    let churn = churn(
        "m",
        &json!({"data_base64": "eyJlZmZlY3RpdmVfYXQiOiAiMjAyNy0wNi0wMVQwMDowMDowMFoifQ", "data": null}),
        &json!({}),
    );
    world.apply(&sign_up("s", "CUST", "2026-10-01T10:00:00Z")).await;
    scheduled(world.send(&churn).await, "data in Base64").await;

    // A sender's own CloudEvents, in each mode; one that its program passes over; and one of the bridge's types.
    let sap = |id: &str, partner: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/sap/s4", "type": "sap.s4.contract.Ended.v1",
               "time": "2026-10-02T12:00:00Z", "data": {"Partner": partner, "EndDate": "/Date(1798675200000)/"}})
    };
    world.apply(&sign_up("s-p1", "P-1", "2026-10-01T10:00:00Z")).await;
    world.apply(&sign_up("s-p2", "P-2", "2026-10-01T10:00:00Z")).await;
    let door = world.door("/v1/events/own");
    scheduled(world.post(&door, STRUCTURED, sap("sap-1", "P-1").to_string()).await, "structured").await;
    let again = world.post(&door, STRUCTURED, format!(" {}", sap("sap-1", "P-1"))).await;
    assert_eq!(again.1["status"], "duplicate", "{}", again.1);
    let binary = |body: Value| {
        let request = world.http.post(&door).header("content-type", "application/json");
        let named = [
            ("specversion", "1.0"),
            ("id", "sap-2"),
            ("source", "/sap/s4"),
            ("type", "sap.s4.contract.Ended.v1"),
            ("time", "2026-10-02T12:00:00Z"),
        ];
        named
            .iter()
            .fold(request, |request, (name, value)| request.header(format!("ce-{name}"), *value))
            .body(body.to_string())
    };
    let answer = binary(sap("", "P-2")["data"].clone()).send().await.expect("an answer");
    let answer = (answer.status().as_u16(), answer.json().await.expect("JSON"));
    scheduled(answer, "binary").await;
    let mut other = sap("sap-3", "P-1");
    other["type"] = json!("sap.s4.invoice.Created.v1");
    assert_eq!(world.post(&door, STRUCTURED, other.to_string()).await, (202, json!({"results": []})));
    let batch = json!([other, sap("sap-1", "P-1"), sign_up("s-p3", "P-3", "2026-10-01T10:00:00Z")]);
    let (status, answer) = world.post(&door, "application/cloudevents-batch+json", batch.to_string()).await;
    let statuses: Vec<&Value> =
        answer["results"].as_array().expect("a batch").iter().map(|result| &result["status"]).collect();
    assert_eq!((status, statuses), (202, vec![&json!("duplicate"), &json!("accepted")]), "{answer}");

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
    let settled =
        world.apply(&event("b", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "B-1 "}))).await;
    assert_eq!((&settled["customer_id"], &settled["state"]), (&json!("B-1"), &json!("applied")), "{settled}");
    world.bridge.stop().await;
}
