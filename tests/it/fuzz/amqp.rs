//! A message of RabbitMQ, from the values of its headers on: read as the consumer reads it, and as the queue's intake does.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use lapin::BasicProperties;
use lapin::message::Delivery as Message;
use lapin::types::{AMQPValue, DecimalValue, FieldTable, ShortString};
use podero_bridge::broker::Frame;
use podero_bridge::config::{Config, Strings};
use podero_bridge::domain::event::Transport;
use podero_bridge::domain::work::SentEvent;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::inbound::cloudevents::STRUCTURED;
use podero_bridge::inbound::explain::explain;
use podero_bridge::inbound::mapping::mapper::Mapper;
use podero_bridge::inbound::{Delivery, MessageReader, Unreadable};
use podero_bridge::problem::Problem;

use super::door::{place_of, received_at};
use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

const MEDIA_TYPES: [&str; 6] =
    [STRUCTURED, "application/json", "application/octet-stream", "text/plain", "application/xml", ""];

const HEADERS: [&str; 14] = [
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-subject",
    "ce-time",
    "ce_id",
    "ce_type",
    "ce_subject",
    "cloudEvents:source",
    "cloudEvents_specversion",
    "ce-sequence",
    "x-death",
    "tenant",
];

const EVENT: &str = r#"{"specversion": "1.0", "id": "e1", "source": "/billing", "type": "customer.signed_up", "subject": "C-1",
    "data": {"email": "anna@example.com", "address": {"zip_code": "01067", "town": "Dresden"}}}"#;

/// A message before lapin has made a delivery of it.
#[derive(Clone, Debug)]
struct Sent {
    content_type: Option<String>,
    headers: BTreeMap<String, AMQPValue>,
    kind: Option<String>,
    timestamp: Option<u64>,
    routing_key: String,
    body: Vec<u8>,
}

impl Sent {
    fn structured(content_type: Option<&str>) -> Self {
        Self {
            content_type: content_type.map(str::to_owned),
            headers: BTreeMap::new(),
            kind: None,
            timestamp: Some(1_790_000_000),
            routing_key: "customer.signed_up".to_owned(),
            body: EVENT.as_bytes().to_vec(),
        }
    }

    fn binary(prefix: &str, value: impl Fn(&str) -> AMQPValue) -> Self {
        let attributes = [("specversion", "1.0"), ("id", "e1"), ("source", "/billing"), ("type", "customer.churned")];
        let headers = attributes.iter().map(|(name, text)| (format!("{prefix}{name}"), value(text))).collect();
        let body = br#"{"customer_id": "C-1"}"#.to_vec();
        Self { headers, body, ..Self::structured(Some("application/json")) }
    }
}

fn value(mutator: &mut Mutator, own: &str) -> AMQPValue {
    let text = mutator.text(own, "customer.churned");
    let number = i64::try_from(mutator.below(usize::MAX)).unwrap_or(i64::MAX);
    match mutator.below(12) {
        0 => AMQPValue::Boolean(mutator.once_in(2)),
        1 => AMQPValue::LongLongInt(number.wrapping_neg()),
        2 => AMQPValue::ShortShortUInt(7),
        3 => AMQPValue::Double(1.0 / f64::from(mutator.below(3) as u8)),
        4 => AMQPValue::Timestamp(timestamp(mutator)),
        5 => AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 700 }),
        6 => AMQPValue::FieldArray(vec![AMQPValue::LongString(text.into())].into()),
        7 => AMQPValue::FieldTable(FieldTable::default()),
        8 => AMQPValue::Void,
        9 => AMQPValue::ByteArray(mutator.bytes(own.as_bytes(), text.as_bytes(), &[b"\xff", b"\xc3"]).into()),
        10 => AMQPValue::LongString(mutator.bytes(own.as_bytes(), text.as_bytes(), &[b"\xfc"]).into()),
        _ => AMQPValue::ByteArray(text.into_bytes().into()),
    }
}

fn timestamp(mutator: &mut Mutator) -> u64 {
    let ends = [0, 1, 46_296, 946_684_799, 946_684_800, 1_790_000_000, 1_790_000_000_000, 4_102_444_800, u64::MAX];
    ends[mutator.below(ends.len())]
}

/// As AMQP can carry it.
fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(&text[..end])
}

impl Input for Sent {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut sent = self.clone();
        if mutator.once_in(6) {
            sent.content_type = Some(mutator.one_of(&MEDIA_TYPES).to_owned()).filter(|_| !mutator.once_in(3));
        }
        if mutator.once_in(6) {
            sent.timestamp = Some(timestamp(mutator)).filter(|_| !mutator.once_in(3));
        }
        if mutator.once_in(8) {
            sent.kind = Some(mutator.text("customer.moved", &self.routing_key));
            sent.routing_key = mutator.text(&self.routing_key, &other.routing_key);
        }
        let changes_headers = mutator.once_in(if sent.headers.is_empty() { 8 } else { 2 });
        for _ in 0..if changes_headers { 1 + mutator.below(2) } else { 0 } {
            let named = sent.headers.keys().nth(mutator.below(sent.headers.len())).cloned();
            let name = named.filter(|_| !mutator.once_in(3));
            let name = name.unwrap_or_else(|| mutator.one_of(&HEADERS).to_owned());
            let own = match sent.headers.get(&name) {
                Some(AMQPValue::LongString(text)) => text.to_string(),
                _ => "e1".to_owned(),
            };
            if mutator.once_in(6) {
                sent.headers.remove(&name);
            } else {
                sent.headers.insert(name, value(mutator, &own));
            }
        }
        if !changes_headers || mutator.once_in(4) {
            sent.body = mutator.body(&self.body, &other.body);
        }
        sent
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.headers.keys().map(String::len).sum::<usize>()
    }
}

fn frame(sent: &Sent) -> Frame {
    let mut headers = FieldTable::default();
    for (name, value) in &sent.headers {
        headers.insert(short(name), value.clone());
    }
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(content_type) = &sent.content_type {
        properties = properties.with_content_type(short(content_type));
    }
    if let Some(kind) = &sent.kind {
        properties = properties.with_type(short(kind));
    }
    if let Some(timestamp) = sent.timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    let mut message = Message::mock(1, "customer.lifecycle".into(), short(&sent.routing_key), false, sent.body.clone());
    message.properties = properties;
    message.into()
}

/// Says by a plain rule whether a header's value says something that is no text.
fn is_no_text(value: &AMQPValue) -> bool {
    let is_utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    if let AMQPValue::LongString(text) = value {
        return !is_utf8(text.as_bytes());
    }
    if let AMQPValue::ByteArray(bytes) = value {
        return !is_utf8(bytes.as_slice());
    }
    matches!(value, AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) | AMQPValue::DecimalValue(_))
}

fn deliver(sent: &Sent) -> Outcome {
    let config = Config::parse("", &Strings::new(), true).expect("it is right");
    let source = &config.sources[0];
    let Frame { body, content_type, headers, message_id, exchange, routing_key, properties, .. } = frame(sent);
    let mut beside = BTreeMap::from([("routing_key".to_owned(), routing_key), ("exchange".to_owned(), exchange)]);
    let given = [("message_id", message_id), ("type", properties.type_name)];
    beside.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    beside.extend(properties.timestamp.map(|timestamp| ("timestamp".to_owned(), timestamp.to_string())));
    let delivery = Delivery {
        transport: Transport::Amqp,
        source: source.name.clone(),
        content_type,
        headers,
        body,
        received_at: received_at(),
    };
    let is_said_in_headers = delivery.headers.keys().any(|name| name.to_ascii_lowercase().ends_with("specversion"));
    let mapper = Mapper::none();
    let reader = MessageReader { mapper: &mapper, batch_max: 100, body_bytes_max: 1 << 20 };
    let team = podero_bridge::domain::team::TeamPolicy::default();
    let explained = explain(source, &team, reader, delivery, &beside, EventId(uuid::Uuid::nil()));
    let (_, read) = explained.now_or_never().expect("without a mapping nobody is waited for");
    let explained = match read {
        Ok(explained) => explained,
        Err(Unreadable::Problem(problem)) => return Outcome::refused(place_of(&problem)),
        Err(Unreadable::Mapping(trouble)) => panic!("there is no mapping: {trouble:?}"),
    };
    let told: Vec<Result<String, Problem>> = explained
        .into_iter()
        .map(|one| {
            let event = one.event?;
            let (time, type_name) = match &event {
                SentEvent::Customer(event) => (event.time, event.happening.type_name()),
                SentEvent::Member(event) => (event.time, event.happening.type_name()),
            };
            // One whose time is not its own has its message's, or that of its arrival.
            let is_near = time <= received_at().plus(std::time::Duration::from_hours(24));
            assert!(is_near && time > Timestamp::from_micros(i64::MIN), "{event:?}");
            Ok(type_name.to_owned())
        })
        .collect();
    let is_accepted = told.iter().all(Result::is_ok);
    if is_accepted && is_said_in_headers && !told.is_empty() {
        let is_attribute = |name: &str| {
            ["ce-", "ce_", "cloudevents:", "cloudevents_"].iter().any(|prefix| {
                let name = name.to_ascii_lowercase();
                name.strip_prefix(prefix).is_some_and(|rest| {
                    !rest.is_empty()
                        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
                        && !rest.starts_with("data")
                })
            })
        };
        let unread = sent.headers.iter().find(|(name, value)| is_attribute(name) && is_no_text(value));
        let is_enclosed = sent.content_type.as_deref().is_some_and(|it| it.contains("cloudevents"));
        assert!(unread.is_none() || is_enclosed, "{unread:?} was taken for what was not said");
    }
    let mut places: Vec<String> =
        told.into_iter().map(|told| told.unwrap_or_else(|problem| place_of(&problem))).collect();
    places.sort();
    places.dedup();
    places.truncate(2);
    let place = format!("{is_said_in_headers} {}", places.join(", "));
    if is_accepted { Outcome::accepted(place) } else { Outcome::refused(place) }
}

#[test]
fn fuzz_amqp_whatever_comes_by_the_queue_is_an_event_or_a_refusal() {
    let mut corpus = vec![Sent::structured(Some(STRUCTURED)), Sent::structured(None)];
    for prefix in ["ce-", "ce_", "cloudEvents:", "cloudEvents_"] {
        corpus.push(Sent::binary(prefix, |text| AMQPValue::LongString(text.into())));
        corpus.push(Sent::binary(prefix, |text| AMQPValue::ByteArray(text.as_bytes().into())));
    }
    Target::new("amqp", STACK_BYTES).run(corpus, deliver);
}
