//! The documents for machines: that `docs/` has copies of them, and that both HTTP listeners and the bus behave as they say.
//!
//! `UPDATE=1` writes the copies in `docs/` again. Requests and events are generated, from a seed that is printed first.
//! `tests/specs` does the same with tools that others wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use podero_bridge::domain::notice::Topic;
use podero_bridge::spec;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::world::{Database, Settings, World, sign_up};

/// Requests to each operation.
const REQUESTS: usize = 150;
/// Events, in batches.
const EVENTS: usize = 4_000;
const BATCH: usize = 500;

const TOKEN: &str = "a-token-of-the-tests";

#[test]
fn docs_has_the_documents_as_the_program_makes_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let documents = spec::documents();
    for (path, document) in &documents {
        let path = root.join(path);
        let text = format!("{document:#}\n");
        if crate::servers::environment("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            std::fs::write(&path, &text).expect("it can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} is not what the program says: UPDATE=1 writes it", path.display());
    }
    let known: BTreeSet<_> = documents.iter().map(|(path, _)| root.join(path)).collect();
    for folder in ["schemas", "openapi"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            assert!(known.contains(&path), "{} is nobody's", path.display());
        }
    }
}

fn validator(schema: &Value) -> Validator {
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(schema).expect("a valid schema")
}

/// Schemas of outgoing events, by their type.
static NOTICES: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let schemas = spec::documents().into_iter().filter_map(|(path, schema)| {
        let name = path.strip_prefix("schemas/")?.strip_suffix(".json")?.to_owned();
        Topic::from_name(&name).map(|_| (name, validator(&closed(schema))))
    });
    schemas.collect()
});

/// Holds an outgoing event against its schema. The simulation asks for each that it publishes.
pub fn assert_documented(body: &[u8]) {
    let event: Value = serde_json::from_slice(body).expect("JSON");
    let validator = event["type"].as_str().and_then(|name| NOTICES.get(name)).expect("a documented type");
    let wrong: Vec<String> =
        validator.iter_errors(&event).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{event:#}");
}

/// The schema with nothing allowed that it does not name, so that what is not documented shows. Not for what comes in.
fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            for value in fields.values_mut() {
                *value = closed(value.take());
            }
            let is_exact = fields.contains_key("properties") && fields.contains_key("required");
            if is_exact && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = closed(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    schema
}

fn seed() -> StdRng {
    let seed = crate::servers::environment("PODERO_BRIDGE_TEST_SEED").and_then(|text| text.parse().ok()).unwrap_or(7);
    eprintln!("seed: {seed}");
    StdRng::seed_from_u64(seed)
}

fn pick<'a, T>(items: &'a [T], dice: &mut StdRng) -> &'a T {
    &items[dice.random_range(0..items.len())]
}

/// One event of each type with everything in it.
fn whole(type_name: &str, number: usize) -> Value {
    let address = json!({"street_and_number": "Gasse 1", "street_add_info": "Top 3", "zip_code": "01067",
                         "town": "Dresden", "country": "DE"});
    let building = json!({"key": "main", "name": "Home", "property_type": "Flat", "occupant_type": "Retirees",
                          "space_heating": "floor", "water_heating": "tank", "property_size_m2": 120,
                          "property_age": 30, "num_occupants": 2, "photovoltaic": true});
    let mut data = json!({"customer_id": format!("C-{number}")});
    if type_name != "customer.churned" {
        data["address"] = address;
        data["building"] = building;
        data["building_key"] = json!("main");
    }
    match type_name {
        "customer.moved" | "customer.churned" => data["effective_at"] = json!("2026-10-01T12:00:00+02:00"),
        _ => {
            for (name, value) in
                [("email", "a@example.com"), ("first_name", "A"), ("last_name", "B"), ("language", "de")]
            {
                data[name] = json!(value);
            }
        }
    }
    json!({"specversion": "1.0", "id": format!("e-{number}"), "source": "/billing", "type": type_name,
           "subject": format!("C-{number}"), "time": "2026-09-30T12:00:00Z", "data": data})
}

/// Some value that may or may not do.
fn any_value(dice: &mut StdRng) -> Value {
    let lengths = [0, 1, 20, 21, 50, 51, 100, 101, 128, 129, 254, 255, 512, 513];
    match dice.random_range(0..14) {
        0 => Value::Null,
        1 => json!(dice.random_range(0..2) == 0),
        2 => json!(dice.random_range(-2..5)),
        3 => json!(3.0),
        4 => json!(0.5),
        5 => json!(*pick(&[2_147_483_647_i64, 2_147_483_648, -1], dice)),
        6 => json!("x".repeat(*pick(&lengths, dice))),
        7 => json!("ü".repeat(*pick(&lengths, dice))),
        8 => json!(pick(&["", " ", "a b", "a@b", "a@@b", "a@b ", "\u{7}", "tab\there", "\u{85}"], dice)),
        9 => json!(pick(&["Flat", "flat", "Castle", "Retirees", "1.0", "main", "customer.moved"], dice)),
        10 => json!(pick(&["2026-10-01", "2026-10-01T00:00:00Z", "2026-13-01T00:00:00Z", "soon"], dice)),
        11 => json!([]),
        12 => json!({}),
        _ => json!({"zip_code": "1010"}),
    }
}

/// Changes, adds or removes something somewhere.
fn mutate(event: &mut Value, dice: &mut StdRng) {
    let Value::Object(fields) = event else { return };
    let names: Vec<String> = fields.keys().cloned().collect();
    if names.is_empty() || dice.random_range(0..12) == 0 {
        let name = *pick(
            &["customer_id", "effective_at", "email", "address", "cancelled", "sequence", "name", "subject"],
            dice,
        );
        fields.insert(name.to_owned(), any_value(dice));
        return;
    }
    let name = pick(&names, dice).clone();
    let inner = fields.get_mut(&name).expect("it is there");
    if inner.is_object() && dice.random_range(0..6) > 0 {
        return mutate(inner, dice);
    }
    if dice.random_range(0..4) == 0 {
        fields.remove(&name);
    } else {
        *inner = any_value(dice);
    }
}

#[tokio::test]
async fn what_the_schema_of_an_event_allows_the_door_takes() {
    let mut dice = seed();
    let world = World::start(Database::Sqlite, Settings::default()).await;
    let types = ["customer.signed_up", "customer.moved", "customer.updated", "customer.churned"];
    let schemas: BTreeMap<String, Value> = spec::documents()
        .into_iter()
        .filter_map(|(path, schema)| Some((path.strip_prefix("schemas/")?.strip_suffix(".json")?.to_owned(), schema)))
        .collect();
    let validators: BTreeMap<&str, Validator> =
        types.into_iter().map(|name| (name, validator(&schemas[name]))).collect();
    let (mut both_take, mut both_refuse, mut tolerated) = (0, 0, 0);
    for first in (0..EVENTS).step_by(BATCH) {
        let events: Vec<(&str, Value)> = (first..first + BATCH)
            .map(|number| {
                let type_name = *pick(&types, &mut dice);
                let mut event = whole(type_name, number);
                for _ in 0..dice.random_range(0..3) {
                    mutate(&mut event, &mut dice);
                }
                (type_name, event)
            })
            .collect();
        let batch: Vec<&Value> = events.iter().map(|(_, event)| event).collect();
        let (status, answer) =
            world.post(&world.door("/v1/events"), "application/cloudevents-batch+json", json!(batch).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        for ((type_name, event), result) in events.iter().zip(answer["results"].as_array().expect("results")) {
            let is_taken = result["status"] != "rejected";
            let is_repeat = result["problem"]["type"] == "urn:podero-bridge:problem:event-id-reused";
            let is_contradiction = result["problem"]["errors"].to_string().contains("must be the same as");
            let is_allowed = validators[type_name].is_valid(event);
            match (is_allowed, is_taken) {
                (true, true) => both_take += 1,
                (false, false) => both_refuse += 1,
                (false, true) => tolerated += 1,
                // No schema can say it.
                (true, false) if is_repeat || is_contradiction => {}
                (true, false) => panic!("the schema allows what the door refuses: {event}\n{result}"),
            }
        }
    }
    eprintln!("{both_take} taken, {both_refuse} refused, {tolerated} taken although the schema is narrower");
    assert!(both_take > EVENTS / 4 && both_refuse > EVENTS / 10 && tolerated < EVENTS / 5);
    world.bridge.stop().await;
}

/// One operation of a document.
struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    spec: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&'_ String, &'_ Value)| {
        let methods = item.as_object().expect("an item").keys().map(String::as_str).collect::<Vec<_>>();
        (path.clone(), methods.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let named: Vec<(String, Vec<String>)> = paths.iter().map(of).collect();
    let mut found = Vec::new();
    for (path, methods) in named {
        for method in methods {
            let (path, item) = paths.get_key_value(&path).expect("it is there");
            let (method, spec) = item.as_object().and_then(|item| item.get_key_value(&method)).expect("it is there");
            found.push(Operation { path, method, spec });
        }
    }
    found
}

/// The answers' schemas of a document, with what they refer to.
fn answer_validator(document: &Value, schema: &Value) -> Validator {
    let mut schema = closed(schema.clone());
    schema["components"] = json!({"schemas": {}});
    for name in ["Receipt", "Results"] {
        if let Some(known) = document["components"]["schemas"].get(name) {
            schema["components"]["schemas"][name] = closed(known.clone());
        }
    }
    validator(&schema)
}

/// A text that may stand in a path or a query.
fn any_text(known: &[String], dice: &mut StdRng) -> String {
    let odd = [
        "", "default", "nobody", "%00", "%ff", "%2e%2e", "a%2Fb", "1e9", "-1", "true", "false", "connected", "ü",
        "'; --",
    ];
    match dice.random_range(0..3) {
        0 if !known.is_empty() => pick(known, dice).clone(),
        1 => "z".repeat(dice.random_range(1..300)),
        _ => (*pick(&odd, dice)).to_owned(),
    }
}

fn any_body(dice: &mut StdRng) -> String {
    let number = dice.random_range(0..50);
    let mut event = whole("customer.signed_up", number);
    match dice.random_range(0..10) {
        0 => String::new(),
        1 => "{".to_owned(),
        2 => "[".repeat(dice.random_range(1..2_000)),
        3 => any_value(dice).to_string(),
        4 => json!({"reason": any_value(dice), "per_second": any_value(dice)}).to_string(),
        5 => json!({"all": true}).to_string(),
        6 => json!([event, any_value(dice)]).to_string(),
        7 => json!(vec![event; 1_001]).to_string(),
        _ => {
            (0..dice.random_range(0..3)).for_each(|_| mutate(&mut event, dice));
            event.to_string()
        }
    }
}

async fn try_operation(
    world: &World,
    base: &str,
    (document, operation): (&Value, &Operation<'_>),
    known: &[String],
    dice: &mut StdRng,
) -> u16 {
    let mut path = operation.path.to_owned();
    let mut queries = Vec::new();
    for parameter in operation.spec["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().expect("a name");
        let words = parameter["schema"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<String> = words.map(str::to_owned).chain(known.iter().cloned()).collect();
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &any_text(&words, dice)),
            Some("query") if dice.random_range(0..2) == 0 => queries.push(format!("{name}={}", any_text(&words, dice))),
            _ => {}
        }
    }
    if !queries.is_empty() {
        path = format!("{path}?{}", queries.join("&"));
    }
    let method = operation.method.to_uppercase().parse().expect("a method");
    let mut request = world.http.request(method, format!("{base}{path}"));
    if dice.random_range(0..20) > 0 {
        request = request.bearer_auth(TOKEN);
    }
    if operation.method == "post" {
        let types = [
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/json",
            "text/plain",
            "",
        ];
        request = request.header("content-type", *pick(&types, dice)).body(any_body(dice));
        if dice.random_range(0..4) == 0 {
            for name in ["ce-specversion", "ce-id", "ce-source", "ce-type", "idempotency-key", "webhook-id"] {
                request = request.header(name, *pick(&["1.0", "x", "customer.churned", "%ff"], dice));
            }
        }
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{} {path}: {error}", operation.method));
    let status = answer.status().as_u16();
    let what = format!("{} {path} -> {status}", operation.method);
    // Another path than the one that is meant, such as that of an empty name.
    if path.contains("//") || path.ends_with('/') || path.contains("/?") {
        return status;
    }
    let documented = &operation.spec["responses"][status.to_string()];
    assert!(documented.is_object(), "{what} is not documented");
    assert!(status < 500 || operation.path == "/readyz", "{what}");
    let media_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().to_owned();
    let body = answer.bytes().await.expect("a body");
    let Some(content) = documented["content"].as_object() else {
        assert!(body.is_empty(), "{what}: a body that is not documented");
        return status;
    };
    let content = content.get(&media_type).unwrap_or_else(|| panic!("{what}: {media_type} is not documented"));
    // An export of the audit log has a JSON value a line.
    if media_type.ends_with("json") && media_type != "application/x-ndjson" {
        let body: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{what}: {error}"));
        let validator = answer_validator(document, &content["schema"]);
        let wrong: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?}\n{body:#}");
    }
    status
}

#[tokio::test]
async fn both_doors_answer_as_their_documents_say_whatever_they_are_asked() {
    let mut dice = seed();
    let settings = Settings { environment: vec![("ADMIN__TOKEN", TOKEN.to_owned())], ..Settings::default() };
    let world = World::start(Database::Sqlite, settings).await;
    let (_, answer) = world.send(&sign_up("known", "C-1", "2026-10-01T12:00:00Z")).await;
    let known = [answer["id"].as_str().expect("an id").to_owned(), "C-1".to_owned()];
    let doors = [(world.door(""), spec::webhook()), (world.operator(""), spec::admin())];
    for (base, document) in doors {
        let served = world.get(&format!("{base}/openapi.json")).await;
        assert_eq!(served, document, "it is served as it is documented");
        for operation in operations(&document) {
            let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
            for _ in 0..REQUESTS {
                let status = try_operation(&world, &base, (&document, &operation), &known, &mut dice).await;
                *statuses.entry(status).or_default() += 1;
            }
            eprintln!("{} {}: {statuses:?}", operation.method, operation.path);
        }
    }
    world.bridge.stop().await;
}

#[test]
fn the_bus_is_documented_with_every_type_in_both_directions() {
    let document = spec::bus();
    let names: BTreeSet<&String> = document["channels"].as_object().map(Map::keys).into_iter().flatten().collect();
    let schemas = spec::documents().into_iter().filter(|(path, _)| path.starts_with("schemas/")).count();
    assert_eq!((names.len(), document["operations"].as_object().map(Map::len)), (schemas, Some(schemas)));
}
