//! The envelope: CloudEvents 1.0, structured (JSON format), batch, or binary (attributes in headers, data in the body).
//!
//! Pure. The official SDK reads the envelope; this file only decides which mode it is and says where an
//! envelope is wrong. A binary event is put into the form of a structured one first, so that there is one way to read.
//! It looks into `data` no further than to see that it is JSON.
//!
//! Sources: CloudEvents JSON format 1.0.2, HTTP protocol binding 1.0.2, AMQP protocol binding 1.0.2, and knative's RabbitMQ
//! protocol binding.
//!
//! Before: [`crate::inbound::signature`]. After: [`crate::inbound::wire`].

use std::collections::BTreeMap;

use bytes::Bytes;
use cloudevents::{AttributesReader, Data, Event as CloudEvent, event::SpecVersion};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Delivery;
use super::problem::{FieldError, Problem, ProblemKind};
use super::sha256;
use super::signature::Verified;
use crate::domain::{ID_CHARS_MAX, Timestamp, is_printable_id};
use crate::metrics::Door;

/// Media type of one event (CloudEvents JSON format 1.0.2, §3).
pub const STRUCTURED: &str = "application/cloudevents+json";
/// Media type of a batch (§4).
pub const BATCH: &str = "application/cloudevents-batch+json";

/// A CloudEvent, as far as the bridge uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `source`: who made it.
    pub source: String,
    /// `id`: unique within `source`.
    pub id: String,
    /// `type`.
    pub type_name: String,
    /// `subject`.
    pub subject: Option<String>,
    /// `time`.
    pub time: Option<Timestamp>,
    /// `data`.
    pub data: Value,
    /// The bytes it was read from; of a batch, its own part.
    pub raw: Bytes,
    /// Of a binary event: the headers it was read from as well, as JSON.
    pub beside: Option<String>,
    /// Of a translated message: the digest of its bytes.
    pub of_message: Option<String>,
}

/// What a delivery turned out to hold.
pub enum Read {
    /// One event, or what is wrong with it.
    One(Result<Envelope, Problem>),
    /// Several, each for itself.
    Batch(Vec<Result<Envelope, Problem>>),
}

impl Read {
    /// Each event, or what is wrong with it.
    pub fn items(self) -> Vec<Result<Envelope, Problem>> {
        match self {
            Self::One(item) => vec![item],
            Self::Batch(items) => items,
        }
    }
}

impl Envelope {
    /// What the event says, apart from its identity: the same event by another door or with other white space
    /// has the same digest, and a reused id shows. Of a translated one: what its message said.
    pub fn digest(&self) -> String {
        if let Some(digest) = &self.of_message {
            return digest.clone();
        }
        let time = self.time.map(Timestamp::micros);
        // Keys of a JSON object are kept sorted, so equal values give equal text.
        let meaning = serde_json::to_vec(&(&self.type_name, &self.subject, time, &self.data));
        sha256(&meaning.expect("JSON values can be written as JSON"))
    }
}

/// Whether a delivery says that it is a CloudEvent: by its media type, or by the version among its attributes.
pub fn is_one(delivery: &Delivery) -> bool {
    is_enclosed(delivery) || attributes(delivery).iter().any(|attribute| attribute.name == "specversion")
}

/// Whether it has attributes beside its body.
pub fn is_binary(delivery: &Delivery) -> bool {
    !is_enclosed(delivery) && !attributes(delivery).is_empty()
}

fn is_enclosed(delivery: &Delivery) -> bool {
    let media_type = delivery.content_type.as_deref().unwrap_or_default().trim_start().to_ascii_lowercase();
    media_type.starts_with("application/cloudevents")
}

/// Reads a delivery. The outer error is about the delivery as a whole.
pub fn read(verified: &Verified, batch_max: usize) -> Result<Read, Problem> {
    let (media_type, body) = (verified.delivery().content_type.as_deref().unwrap_or_default(), verified.body());
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        STRUCTURED => {
            let value = parse(body)?;
            Ok(Read::One(envelope(value, body.clone(), None)))
        }
        BATCH => batch(body, batch_max).map(Read::Batch),
        _ => {
            let attributes = attributes(verified.delivery());
            if attributes.is_empty() || essence.starts_with("application/cloudevents") {
                let detail = format!("send CloudEvents as `{STRUCTURED}`, as `{BATCH}`, or with attributes in headers");
                return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
            }
            binary(verified, attributes, &essence).map(Read::One)
        }
    }
}

/// How attributes are named in headers: by the HTTP and the RabbitMQ binding; by the AMQP 1.0 binding, whose senders
/// reach a queue through a broker that translates.
const HTTP_PREFIX: &str = "ce-";
const AMQP_PREFIXES: [&str; 3] = [HTTP_PREFIX, "cloudevents:", "cloudevents_"];

/// An attribute as a header has it.
struct Attribute<'a> {
    header: &'a str,
    value: &'a str,
    /// In lower case.
    name: String,
}

fn attributes(delivery: &Delivery) -> Vec<Attribute<'_>> {
    let prefixes = match delivery.door {
        Door::Webhook | Door::Import => &AMQP_PREFIXES[..1],
        Door::Amqp => &AMQP_PREFIXES[..],
    };
    let of = |header: &String| {
        let lower = header.to_ascii_lowercase();
        let name = prefixes.iter().find_map(|prefix| lower.strip_prefix(prefix))?;
        // CloudEvents 1.0.2, §3: names are lower-case letters and digits. `data` is none.
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_name && name != "data" && name != "datacontenttype").then(|| name.to_owned())
    };
    let named =
        delivery.headers.iter().filter_map(|(header, value)| Some(Attribute { header, value, name: of(header)? }));
    named.collect()
}

fn binary(
    verified: &Verified,
    attributes: Vec<Attribute<'_>>,
    essence: &str,
) -> Result<Result<Envelope, Problem>, Problem> {
    let (delivery, body) = (verified.delivery(), verified.body());
    let is_json =
        essence.is_empty() || essence == "text/json" || essence.ends_with("/json") || essence.ends_with("+json");
    if !is_json && !body.is_empty() {
        let detail = "the data of an event must be JSON, so `content-type` must be `application/json`";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let shown = attributes.iter().filter(|attribute| !super::poison::may_be_secret(attribute.header));
    let headers: BTreeMap<&str, &str> = shown.map(|attribute| (attribute.header, attribute.value)).collect();
    let beside = json!({"content_type": delivery.content_type, "headers": headers}).to_string();
    let mut event = Map::new();
    for Attribute { name, value, .. } in attributes {
        let value = match delivery.door {
            Door::Webhook | Door::Import => from_header(value),
            Door::Amqp => value.to_owned(),
        };
        event.insert(name, Value::String(value));
    }
    if !body.is_empty() {
        event.insert("data".to_owned(), parse(body)?);
    }
    Ok(envelope(Value::Object(event), body.clone(), Some(beside)))
}

/// HTTP binding, §3.1.3.2: a value may be quoted, and characters that a header cannot have are percent-encoded.
fn from_header(value: &str) -> String {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = quoted.map(|inner| {
        let mut plain = String::with_capacity(inner.len());
        let mut letters = inner.chars();
        while let Some(letter) = letters.next() {
            plain.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
        }
        plain
    });
    let plain = plain.as_deref().unwrap_or(value);
    percent_encoding::percent_decode_str(plain).decode_utf8_lossy().into_owned()
}

pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(super::text::utf8(body)?).map_err(|error| {
        // The parser's own words could quote the body; its place is enough.
        let place = format!("line {}, column {}", error.line(), error.column());
        let detail = if error.is_data() {
            format!("a batch is a JSON array of events; see {place}")
        } else {
            format!("not valid JSON at {place}")
        };
        Problem::new(ProblemKind::Malformed, detail)
    })
}

/// Each item keeps its own bytes, as they were sent.
fn batch(body: &Bytes, batch_max: usize) -> Result<Vec<Result<Envelope, Problem>>, Problem> {
    let items: Vec<&RawValue> = parse(body)?;
    if items.len() > batch_max {
        let detail = format!("{} events in one batch; {batch_max} are taken at once", items.len());
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    let read = |item: &RawValue| {
        let bytes = item.get().as_bytes();
        envelope(parse(bytes)?, body.slice_ref(bytes), None)
    };
    Ok(items.into_iter().map(read).collect())
}

pub(super) fn envelope(mut value: Value, raw: Bytes, beside: Option<String>) -> Result<Envelope, Problem> {
    // JSON format, §2.2: what is null is not there.
    if let Value::Object(attributes) = &mut value {
        attributes.retain(|_, attribute| !attribute.is_null());
    }
    let errors = wrong_attributes(&value);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    // Extension attributes stay in the bytes that are kept; nobody here looks at them.
    if let Value::Object(attributes) = &mut value {
        attributes.retain(|name, _| OURS.contains(&name.as_str()));
    }
    let plain = plain_data(&mut value);
    let mut event: CloudEvent = serde_json::from_value(value).map_err(|_| {
        let reason = "not a CloudEvent 1.0 in the JSON format".to_owned();
        Problem::invalid(vec![FieldError { pointer: String::new(), reason }])
    })?;
    debug_assert_eq!(event.specversion(), SpecVersion::V10);
    let data = plain.unwrap_or_else(|| match event.take_data().2 {
        Some(Data::Json(value)) => value,
        Some(Data::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Some(Data::Binary(bytes)) => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        None => Value::Null,
    });
    Ok(Envelope {
        source: event.source().clone(),
        id: event.id().to_owned(),
        type_name: event.ty().to_owned(),
        subject: event.subject().map(str::to_owned),
        time: event.time().map(|time| Timestamp::from_micros(time.timestamp_micros())),
        data,
        raw,
        beside,
        of_message: None,
    })
}

/// Data that is said to be JSON, or of which nothing is said (JSON format, §3.1), is what it is: taken out before the SDK reads
/// the event, which would copy it three times.
fn plain_data(event: &mut Value) -> Option<Value> {
    let attributes = event.as_object_mut()?;
    let is_json = attributes.get("datacontenttype").is_none_or(|media_type| media_type == "application/json");
    if is_json && !attributes.contains_key("data_base64") { attributes.remove("data") } else { None }
}

/// Everything that is wrong with the attributes we use, at once; the SDK would stop at the first.
fn wrong_attributes(value: &Value) -> Vec<FieldError> {
    let Value::Object(attributes) = value else {
        return vec![FieldError { pointer: String::new(), reason: "an event is a JSON object".to_owned() }];
    };
    let mut errors = Vec::new();
    let mut wrong = |name: &str, reason: String| errors.push(FieldError { pointer: format!("/{name}"), reason });
    for name in ["specversion", "id", "source", "type"] {
        match attributes.get(name) {
            None | Some(Value::Null) => wrong(name, "is required".to_owned()),
            Some(Value::String(text)) if text.is_empty() => wrong(name, "must not be empty".to_owned()),
            Some(Value::String(text)) => match name {
                "specversion" if text != "1.0" => wrong(name, "must be \"1.0\"".to_owned()),
                "id" if !is_printable_id(text) => {
                    wrong(name, format!("must have 1 to {ID_CHARS_MAX} printable characters"));
                }
                "source" | "type"
                    if text.chars().count() > ATTRIBUTE_CHARS_MAX || text.chars().any(char::is_control) =>
                {
                    wrong(name, format!("must have at most {ATTRIBUTE_CHARS_MAX} printable characters"));
                }
                _ => {}
            },
            Some(other) => wrong(name, format!("must be a text, found {}", kind_of(other))),
        }
    }
    for name in ["subject", "time", "datacontenttype"] {
        match attributes.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                if name == "time" && Timestamp::parse(text).is_none() {
                    wrong(name, "must be an RFC 3339 date and time, like 2026-10-01T12:00:00Z".to_owned());
                }
            }
            Some(other) => wrong(name, format!("must be a text, found {}", kind_of(other))),
        }
    }
    let is_simple = |value: &Value| {
        let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
        value.is_string() || value.is_boolean() || is_whole
    };
    let extensions = attributes.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    for (name, value) in extensions.filter(|(_, value)| !is_simple(value)).take(WRONG_EXTENSIONS_TOLD_MAX) {
        let reason = format!("must be a text, a whole number, true or false, found {}", kind_of(value));
        wrong(&shown(name), reason);
    }
    errors
}

/// A sender's own name of an attribute, as a part of a pointer: RFC 6901 escapes `~` and `/`. A name can be as long as a
/// body, and its refusal must not be.
fn shown(name: &str) -> String {
    let mut letters = name.chars();
    let start: String = letters.by_ref().take(NAME_CHARS_TOLD_MAX).collect();
    let rest = if letters.next().is_some() { "…" } else { "" };
    format!("{}{rest}", start.replace('~', "~0").replace('/', "~1"))
}

/// The specification asks for names of at most 20 letters; what is longer is known by its beginning.
const NAME_CHARS_TOLD_MAX: usize = 64;

/// Whoever has so many wrong has one mistake in all of them.
const WRONG_EXTENSIONS_TOLD_MAX: usize = 16;

/// What is no extension attribute.
const OURS: [&str; 9] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"];

/// The store keeps `source` in an index; a URI longer than this names nobody.
pub const ATTRIBUTE_CHARS_MAX: usize = 512;

/// What kind of JSON value it is, for people.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(content_type: &str, body: &str) -> Verified {
        Verified::by_broker(Delivery {
            door: Door::Webhook,
            source: "default".into(),
            content_type: Some(content_type.into()),
            headers: Default::default(),
            body: body.as_bytes().to_vec(),
            received_at: Timestamp::from_micros(0),
        })
    }

    #[test]
    fn a_refusal_has_a_bound_however_many_and_however_long_the_wrong_names_are() {
        let mut event = json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "t"});
        for number in 0..1_000 {
            event[format!("{number:04}~/{}", "x".repeat(1_000))] = json!([]);
        }
        let problem = one(&event).expect_err("lists are no attributes");
        assert_eq!(problem.errors.len(), WRONG_EXTENSIONS_TOLD_MAX);
        let expected = format!("/0000~0~1{}…", "x".repeat(NAME_CHARS_TOLD_MAX - 6));
        assert_eq!(problem.errors[0].pointer, expected);
    }

    fn one(body: &Value) -> Result<Envelope, Problem> {
        match read(&delivery(STRUCTURED, &body.to_string()), 10)? {
            Read::One(result) => result,
            Read::Batch(_) => panic!("not a batch"),
        }
    }

    #[test]
    fn a_structured_event_is_read() {
        let envelope = one(&json!({
            "specversion": "1.0", "id": "e1", "source": "/billing", "type": "customer.churned",
            "subject": "C-1", "time": "2026-10-01T12:00:00Z", "data": {"customer_id": "C-1"}, "sequence": "7",
        }))
        .expect("valid");
        assert_eq!(envelope.id, "e1");
        assert_eq!(envelope.subject.as_deref(), Some("C-1"));
        assert_eq!(envelope.time, Timestamp::parse("2026-10-01T12:00:00Z"));
        assert_eq!(envelope.data, json!({"customer_id": "C-1"}));
    }

    fn beside(
        door: Door,
        content_type: Option<&str>,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Envelope, Problem> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let verified = Verified::by_broker(Delivery {
            door,
            source: "default".into(),
            content_type: content_type.map(str::to_owned),
            headers,
            body: body.as_bytes().to_vec(),
            received_at: Timestamp::from_micros(0),
        });
        match read(&verified, 10)? {
            Read::One(result) => result,
            Read::Batch(_) => panic!("not a batch"),
        }
    }

    #[test]
    fn a_binary_event_is_the_structured_one_by_whichever_prefix_its_door_knows() {
        let structured = one(&json!({
            "specversion": "1.0", "id": "e1", "source": "/billing", "type": "customer.churned", "subject": "C-1",
            "time": "2026-10-01T12:00:00Z", "data": {"customer_id": "C-1"}, "sequence": "7",
        }))
        .expect("valid");
        for (door, prefix, is_known) in [
            (Door::Webhook, "ce-", true),
            (Door::Amqp, "ce-", true),
            (Door::Amqp, "cloudEvents:", true),
            (Door::Amqp, "cloudEvents_", true),
            (Door::Webhook, "cloudevents:", false),
        ] {
            let named = ["specversion", "id", "source", "type", "subject", "time", "sequence"];
            let values = ["1.0", "e1", "/billing", "customer.churned", "C-1", "2026-10-01T12:00:00Z", "7"];
            let names: Vec<String> = named.iter().map(|name| format!("{prefix}{name}")).collect();
            let headers: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
            let binary = beside(door, Some("application/json; charset=utf-8"), &headers, r#"{"customer_id": "C-1"}"#);
            match binary {
                Ok(binary) => {
                    assert_eq!((binary.digest(), &binary.id), (structured.digest(), &structured.id), "{prefix}");
                    let kept = binary.beside.expect("its headers");
                    assert!(kept.contains("sequence") && kept.contains("charset"), "{kept}");
                }
                Err(problem) => {
                    assert!(!is_known, "{prefix}: {problem:?}");
                    assert_eq!(problem.kind, ProblemKind::UnsupportedMediaType);
                }
            }
        }
    }

    #[test]
    fn binary_table() {
        let all = [("ce-specversion", "1.0"), ("ce-id", "e1"), ("ce-source", "/b"), ("ce-type", "customer.churned")];
        let with = |name: &'static str, value: &'static str| {
            let mut headers = all.to_vec();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
            headers
        };
        for (content_type, headers, body, expected) in [
            (None, all.to_vec(), "", Ok(None)),
            (None, all.to_vec(), "{}", Ok(None)),
            (Some("application/vnd.billing+json"), all.to_vec(), "{}", Ok(None)),
            (None, with("ce-subject", "C%2D1%20%C3%BC"), "", Ok(Some("C-1 ü"))),
            (None, with("ce-subject", r#""a \"b\"""#), "", Ok(Some(r#"a "b""#))),
            (None, with("ce-data", "hello"), "", Ok(None)),
            (Some("text/xml"), all.to_vec(), "<a/>", Err(ProblemKind::UnsupportedMediaType)),
            (Some("application/cloudevents+avro"), all.to_vec(), "a", Err(ProblemKind::UnsupportedMediaType)),
            (None, all.to_vec(), "{", Err(ProblemKind::Malformed)),
            (None, with("ce-specversion", "0.3"), "{}", Err(ProblemKind::InvalidEvent)),
            (None, with("ce-time", "yesterday"), "{}", Err(ProblemKind::InvalidEvent)),
            (None, vec![("ce-id", "e1")], "{}", Err(ProblemKind::InvalidEvent)),
        ] {
            let read = beside(Door::Webhook, content_type, &headers, body);
            let found = read.map(|envelope| envelope.subject).map_err(|problem| problem.kind);
            assert_eq!(found, expected.map(|subject: Option<&str>| subject.map(str::to_owned)), "{headers:?} {body}");
        }
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let problem = one(&json!({"specversion": "0.3", "id": "", "source": 5, "time": "yesterday"})).expect_err("bad");
        let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/specversion", "/id", "/source", "/type", "/time"]);
        assert_eq!(problem.kind, ProblemKind::InvalidEvent);
    }

    #[test]
    fn the_digest_ignores_white_space_and_key_order_and_nothing_else() {
        let text = |data: &str| format!(r#"{{"specversion":"1.0","id":"e1","source":"/b","type":"t","data":{data}}}"#);
        let digest = |data: &str| match read(&delivery(STRUCTURED, &text(data)), 10) {
            Ok(Read::One(Ok(envelope))) => envelope.digest(),
            _ => panic!("valid"),
        };
        assert_eq!(digest(r#"{"a":1,"b":2}"#), digest(r#"{ "b": 2, "a": 1 }"#));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":2}"#));
    }

    #[test]
    fn whole_deliveries_that_cannot_be_read() {
        for (content_type, body, kind) in [
            ("text/plain", "hello", ProblemKind::UnsupportedMediaType),
            ("application/json", "{}", ProblemKind::UnsupportedMediaType),
            (STRUCTURED, "{", ProblemKind::Malformed),
            (BATCH, "{}", ProblemKind::Malformed),
            (BATCH, "[1,2,3]", ProblemKind::TooLarge),
        ] {
            match read(&delivery(content_type, body), 2) {
                Err(problem) => assert_eq!(problem.kind, kind, "{content_type} {body}"),
                Ok(_) => panic!("{content_type} {body} was read"),
            }
        }
    }

    #[test]
    fn a_batch_judges_each_item_for_itself() {
        let good = json!({"specversion": "1.0", "id": "e1", "source": "/b", "type": "t"});
        match read(&delivery("Application/CloudEvents-Batch+JSON; charset=utf-8", &json!([good, 7]).to_string()), 2) {
            Ok(Read::Batch(items)) => {
                assert!(items[0].is_ok());
                assert!(items[1].is_err());
            }
            _ => panic!("a batch"),
        }
    }
}
