//! The pure way of a delivery: proven, read in its mode, and translated, or refused with what is wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use podero_bridge::config::Verify;
use podero_bridge::domain::event::Event;
use podero_bridge::domain::event::Transport;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::inbound::cloudevents::{self, BATCH, Envelope, STRUCTURED};
use podero_bridge::inbound::{Delivery, signature, wire};
use podero_bridge::problem::{Problem, ProblemKind};
use serde::Deserialize;

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

/// `http.batch_max` of this target.
const BATCH_MAX: usize = 100;
/// Limit of the errors of a refusal, which names every field that is known at most once.
const ERRORS_MAX: usize = 64;
/// Limit of a refusal in one line.
const LINE_BYTES_MAX: usize = 16 << 10;

const RECEIVED_AT: &str = "2026-10-01T12:00:01Z";

const MEDIA_TYPES: [&str; 12] = [
    STRUCTURED,
    BATCH,
    "application/json",
    "text/json; charset=utf-8",
    "APPLICATION/CLOUDEVENTS+JSON; charset=utf-16",
    "application/cloudevents",
    "application/cloudevents+avro",
    "application/x+json",
    "text/plain",
    ";",
    " application/cloudevents+json",
    "",
];

const HEADERS: [&str; 16] = [
    "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-data", "ce-datacontenttype",
    "ce-dataschema", "ce-", "CE-Id", "cloudEvents:id", "cloudEvents_type", "idempotency-key", "webhook-id",
    "authorization",
];

/// A delivery, before it is believed.
#[derive(Clone, Debug)]
pub struct Sent {
    transport: Transport,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Sent {
    fn structured(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            transport: Transport::Http,
            content_type: Some(content_type.into()),
            headers: BTreeMap::new(),
            body: body.into(),
        }
    }
}

impl Input for Sent {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut sent = self.clone();
        if mutator.once_in(16) {
            sent.transport = if mutator.once_in(2) { Transport::Http } else { Transport::Amqp };
        }
        if mutator.once_in(8) {
            let own = sent.content_type.clone().unwrap_or_default();
            sent.content_type = match mutator.below(4) {
                0 => None,
                1 => Some(mutator.text(&own, &own)),
                _ => Some(mutator.one_of(&MEDIA_TYPES).to_owned()),
            };
        }
        let changes_headers = mutator.once_in(if sent.headers.is_empty() { 16 } else { 2 });
        for _ in 0..if changes_headers { 1 + mutator.below(3) } else { 0 } {
            let named = sent.headers.keys().nth(mutator.below(sent.headers.len())).cloned();
            let name = named.filter(|_| !mutator.once_in(4));
            let name = name.unwrap_or_else(|| mutator.one_of(&HEADERS).to_owned());
            let (own, theirs) = [&sent.headers, &other.headers].map(|headers| headers.get(&name).cloned()).into();
            let (own, theirs) = (own.unwrap_or_default(), theirs.unwrap_or_default());
            match mutator.below(8) {
                0 => drop(sent.headers.remove(&name)),
                1 => drop(sent.headers.insert(mutator.text(&name, &own), own)),
                2 => drop(sent.headers.insert(name, theirs)),
                _ => drop(sent.headers.insert(name, mutator.text(&own, &theirs))),
            }
        }
        if !changes_headers || mutator.once_in(2) {
            sent.body = mutator.body(&self.body, &other.body).into();
        }
        sent
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Deliveries that the SDK would send, and the events of this file.
fn corpus() -> Vec<Sent> {
    #[derive(Deserialize)]
    struct Made {
        door: String,
        content_type: String,
        headers: BTreeMap<String, String>,
        body: String,
    }
    let made: Vec<Made> = serde_json::from_str(include_str!("../../senders/cloudevents.json")).expect("it was made");
    let mut corpus: Vec<Sent> = made
        .into_iter()
        .map(|made| Sent {
            transport: if made.door == "webhook" { Transport::Http } else { Transport::Amqp },
            content_type: Some(made.content_type),
            headers: made.headers,
            body: made.body.into(),
        })
        .collect();
    let events = EVENTS.map(|event| event.trim().to_owned());
    corpus.push(Sent::structured(BATCH, format!("[{}]", events.join(","))));
    corpus.push(Sent::structured(BATCH, "[]"));
    corpus.extend(events.into_iter().map(|event| Sent::structured(STRUCTURED, event)));
    corpus
}

/// Events that have every field with a reader.
const EVENTS: [&str; 5] = [
    r#"{"specversion": "1.0", "id": "e1", "source": "/billing", "type": "customer.signed_up", "subject": "C-1",
        "time": "2026-10-01T12:00:00Z", "datacontenttype": "application/json", "data": {"customer_id": "C-1",
        "email": "anna@example.com", "first_name": "Anna", "last_name": "Muster", "language": "de",
        "address": {"street_and_number": "Gasse 1", "street_add_info": "links", "zip_code": "01067", "town": "Dresden",
        "country": "DE"}, "building_key": "cabin", "building": {"key": "cabin", "name": "Hut", "property_type": "Detached",
        "property_size_m2": 120, "property_age": 30, "occupant_type": "Retirees", "num_occupants": 3, "photovoltaic": true,
        "space_heating": "heat pump", "water_heating": "boiler"}}}"#,
    r#"{"specversion": "1.0", "id": "e2", "source": "/billing", "type": "customer.moved", "time": "2026-10-01T12:00:00+02:00",
        "data": {"customer_id": "C-1", "effective_at": "2026-12-01T00:00:00+01:00", "address": {"street_and_number": "Gasse 2", "town": "Dresden"}}}"#,
    r#"{"specversion": "1.0", "id": "e3", "source": "/billing", "type": "customer.updated",
        "data": "{\"customer_id\": \"C-1\", \"first_name\": \"A\\u0301\"}"}"#,
    r#"{"specversion": "1.0", "id": "e4", "source": "/billing", "type": "customer.churned", "subject": "C-1"}"#,
    r#"{"specversion": "1.0", "id": "e5", "source": "/billing", "type": "customer.churned",
        "data_base64": "eyJjdXN0b21lcl9pZCI6ICJDLTEifQ=="}"#,
];

pub fn received_at() -> Timestamp {
    Timestamp::parse(RECEIVED_AT).expect("valid")
}

/// The kind of a refusal, without the values; and a check that it can be sent.
pub fn place_of(problem: &Problem) -> String {
    assert!((400..600).contains(&problem.kind.status()));
    assert!(problem.errors.is_empty() != (problem.kind == ProblemKind::InvalidEvent), "{}", problem.line());
    assert!(problem.errors.len() <= ERRORS_MAX && problem.line().len() <= LINE_BYTES_MAX, "{}", problem.line());
    let pointers: Vec<&str> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    format!("{} {}", problem.kind.name(), pointers.join(" "))
}

/// Outcome of an envelope. An accepted one can be stored, and is the same when it is read again.
pub fn translated(read: Result<Envelope, Problem>) -> Result<String, Problem> {
    let envelope = read?;
    assert_eq!(envelope.digest().len(), 64);
    let event = wire::event(&envelope, EventId(uuid::Uuid::nil()), received_at())?;
    let stored = serde_json::to_string(&event).expect("an event is JSON");
    let again: Event = serde_json::from_str(&stored).unwrap_or_else(|error| panic!("{error}: {stored}"));
    assert_eq!(again, event);
    assert!((1..=128).contains(&event.customer.as_str().chars().count()));
    let said: serde_json::Value = serde_json::from_str(&stored).expect("JSON");
    let fields: Vec<_> = said["happening"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    Ok(format!("{} {} {}", event.happening.type_name(), event.effective_at.is_some(), fields.join(" ")))
}

fn deliver(sent: &Sent) -> Outcome {
    let delivery = Delivery {
        transport: sent.transport,
        source: "default".into(),
        content_type: sent.content_type.clone(),
        headers: sent.headers.clone(),
        body: sent.body.to_vec(),
        received_at: received_at(),
    };
    let verified = signature::verify(&Verify::None, delivery, received_at()).expect("nothing is asked for");
    let forms = (cloudevents::is_one(&verified), cloudevents::is_binary(verified.delivery()));
    let name = verified.name().is_some();
    let read = match cloudevents::read(&verified, BATCH_MAX) {
        Err(problem) => return Outcome::refused(format!("{forms:?} {name} {}", place_of(&problem))),
        Ok(read) => read.items,
    };
    assert!(read.len() <= BATCH_MAX);
    let told: Vec<Result<String, String>> =
        read.into_iter().map(|item| translated(item).map_err(|problem| place_of(&problem))).collect();
    let is_accepted = told.iter().all(Result::is_ok);
    let mut places: Vec<String> = told.into_iter().map(|told| told.unwrap_or_else(|place| place)).collect();
    places.sort();
    places.dedup();
    places.truncate(2);
    let place = format!("{:?} {forms:?} {name} {}", sent.transport, places.join(", "));
    if is_accepted { Outcome::accepted(place) } else { Outcome::refused(place) }
}

#[test]
fn fuzz_door_whatever_is_delivered_is_an_event_or_a_refusal() {
    Target::new("door", STACK_BYTES).run(corpus(), deliver);
}
