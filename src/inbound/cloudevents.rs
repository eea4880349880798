//! The envelope: CloudEvents 1.0, structured (JSON format), batch, or binary (attributes in headers, data in the body).
//!
//! Pure. The official SDK reads the envelope; this file only decides on its mode and says where an envelope is wrong. A binary
//! event is put into the form of a structured one first, so that there is one way to read. It looks into `data` only to see
//! that it is JSON.
//!
//! Sources: CloudEvents JSON format 1.0.2, HTTP protocol binding 1.0.2, AMQP protocol binding 1.0.2, and knative's RabbitMQ
//! protocol binding.
//!
//! Before: [`crate::inbound::signature`]. After: [`crate::inbound::wire`].

use std::collections::BTreeMap;

use bytes::Bytes;
use cloudevents::{AttributesReader, Event as CloudEvent, event::SpecVersion};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::control::{self, CONTROLS};
use super::delivery::{Delivery, sha256};
use super::json;
use super::signature::Verified;
use crate::config::bytes_of_standard_base64;
use crate::domain::event::Transport;
use crate::domain::{ID_CHARS_MAX, Timestamp, date, is_printable_id};
use crate::problem::{FieldError, Problem, ProblemKind};

/// Media type of one event (CloudEvents JSON format 1.0.2, §3).
pub const STRUCTURED: &str = "application/cloudevents+json";
/// Media type of a batch (§4).
pub const BATCH: &str = "application/cloudevents-batch+json";

/// A CloudEvent, as far as the bridge uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `source`: its maker.
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
    /// The bytes from which it was read; of a batch, its own part.
    pub raw: Bytes,
    /// The headers from which a binary event was read as well, as JSON.
    pub beside: Option<String>,
    /// The digest of the bytes of a translated message.
    pub of_message: Option<String>,
    /// Extension attributes that are, or nearly are, control fields of `data` (see `control.rs`) or the data itself, with the
    /// field that each means.
    pub astray: Astray,
}

/// A CloudEvent as it stands in a delivery: it is JSON, and no more is known of it.
#[derive(Debug)]
pub struct Item {
    /// The event in the structured form.
    pub value: Value,
    /// The bytes from which it was read; of a batch, its own part.
    pub raw: Bytes,
    /// The headers from which a binary event was read as well, as JSON.
    pub beside: Option<String>,
    /// Headers of a binary event that can be no attributes and look like a control field or data.
    pub astray: Astray,
    /// `true` if its data came in Base64, and stands in `data` now.
    pub is_decoded: bool,
}

impl Item {
    /// An event in the structured form, as its sender wrote it.
    pub(super) fn structured(value: Value, raw: Bytes) -> Self {
        Self { value, raw, beside: None, astray: Vec::new(), is_decoded: false }
    }

    /// The event's type, as far as there is one.
    pub fn type_name(&self) -> Option<&str> {
        self.value.get("type").and_then(Value::as_str)
    }

    /// Reads the event; the error says what is wrong with it.
    pub fn envelope(self) -> Result<Envelope, Problem> {
        let mut envelope = envelope(self.value, self.raw, self.beside)?;
        envelope.astray.extend(self.astray);
        Ok(envelope)
    }

    /// The event for a mapping: its data stands in `data`, even if it came in Base64. Unreadable data is an error.
    pub fn with_plain_data(mut self) -> Result<Self, Problem> {
        let is_coded = self.value.get("data_base64").is_some_and(|coded| !coded.is_null());
        if is_coded {
            let mut errors = Vec::new();
            let data = data_of(&mut self.value, &mut errors);
            if !errors.is_empty() {
                return Err(Problem::invalid(errors));
            }
            self.value["data"] = data;
            self.is_decoded = true;
        }
        Ok(self)
    }
}

/// The items of a delivery, each read or with its problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Items<T> {
    /// Each item, in their order.
    pub items: Vec<Result<T, Problem>>,
    /// `true` if they are a batch. Otherwise there is one.
    pub is_batch: bool,
}

impl<T> Items<T> {
    /// A delivery of one item.
    pub fn one(item: Result<T, Problem>) -> Self {
        Self { items: vec![item], is_batch: false }
    }

    /// A batch.
    pub fn batch(items: Vec<Result<T, Problem>>) -> Self {
        Self { items, is_batch: true }
    }

    /// Reads each item further; `read` gets its number, too.
    pub fn read<U>(self, mut read: impl FnMut(usize, T) -> Result<U, Problem>) -> Items<U> {
        let items = self.items.into_iter().enumerate();
        let items = items.map(|(number, item)| item.and_then(|item| read(number, item))).collect();
        Items { items, is_batch: self.is_batch }
    }
}

impl Envelope {
    /// Digest of the event's content, apart from its identity: the same event by another transport or with other white space
    /// has the same digest, and a reused id shows. For a translated event it is the digest of its message.
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

/// `true` if a delivery says that it is a CloudEvent: by its media type, or by the version among its attributes.
pub fn is_one(verified: &Verified) -> bool {
    let delivery = verified.delivery();
    let has_version = || attributes(delivery).iter().any(|attribute| attribute.name == "specversion");
    is_enclosed(delivery) || has_version() || unsaid(verified).is_some()
}

/// `true` if a delivery has an event's attributes in its headers.
pub fn is_binary(delivery: &Delivery) -> bool {
    !is_enclosed(delivery) && !attributes(delivery).is_empty()
}

fn is_enclosed(delivery: &Delivery) -> bool {
    let media_type = delivery.content_type.as_deref().unwrap_or_default().trim_start().to_ascii_lowercase();
    media_type.starts_with("application/cloudevents")
}

/// Media types with which clients of RabbitMQ send any content.
const GENERIC: [&str; 5] = ["", "application/json", "application/octet-stream", "text/json", "text/plain"];

/// The media type of a CloudEvent from the queue whose message has none, or a generic one: no answer can ask its sender to name
/// it. A webhook's sender gets that answer.
fn unsaid(verified: &Verified) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "specversion")]
        _specversion: serde::de::IgnoredAny,
    }
    let delivery = verified.delivery();
    let is_generic = GENERIC.contains(&essence_of_delivery(delivery).as_str());
    if delivery.transport != Transport::Amqp || !is_generic || !attributes(delivery).is_empty() {
        return None;
    }
    match verified.body().trim_ascii_start().first()? {
        b'{' => serde_json::from_slice::<Versioned>(verified.body()).ok().map(|_| STRUCTURED),
        b'[' => {
            serde_json::from_slice::<Vec<Versioned>>(verified.body()).ok().filter(|all| !all.is_empty()).map(|_| BATCH)
        }
        _ => None,
    }
}

fn essence_of_delivery(delivery: &Delivery) -> String {
    essence_of(delivery.content_type.as_deref().unwrap_or_default())
}

/// Reads a delivery. An error is about the delivery as a whole.
pub fn read(verified: &Verified, batch_max: usize) -> Result<Items<Envelope>, Problem> {
    Ok(find(verified, batch_max)?.read(|_, item| item.envelope()))
}

/// Finds the events in a delivery. An error is about the delivery as a whole.
pub fn find(verified: &Verified, batch_max: usize) -> Result<Items<Item>, Problem> {
    let body = verified.body();
    let essence = unsaid(verified).map_or_else(|| essence_of_delivery(verified.delivery()), str::to_owned);
    match essence.as_str() {
        STRUCTURED => Ok(Items::one(Ok(Item::structured(json::read(body)?, body.clone())))),
        BATCH => batch(body, batch_max).map(Items::batch),
        _ => {
            let attributes = attributes(verified.delivery());
            if attributes.is_empty() || essence.starts_with("application/cloudevents") {
                let detail = format!("send CloudEvents as `{STRUCTURED}`, as `{BATCH}`, or with attributes in headers");
                return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
            }
            binary(verified, attributes, &essence)
        }
    }
}

/// Prefixes of attributes in headers: of the HTTP and the RabbitMQ binding; of the AMQP 1.0 binding, whose senders reach a
/// queue through a broker that translates; and of the Kafka binding, whose senders come by a bridge from there.
pub(super) const HTTP_PREFIX: &str = "ce-";
const AMQP_PREFIXES: [&str; 4] = [HTTP_PREFIX, "cloudevents:", "cloudevents_", "ce_"];

/// An attribute as a header has it.
struct Attribute<'a> {
    header: &'a str,
    value: &'a str,
    /// The name in lower case.
    name: String,
}

fn attributes(delivery: &Delivery) -> Vec<Attribute<'_>> {
    let prefixes = prefixes_of(delivery.transport);
    let of = |header: &String| {
        let name = name_in(header, prefixes)?;
        (is_name(&name) && name != "data" && name != "datacontenttype").then_some(name)
    };
    let named =
        delivery.headers.iter().filter_map(|(header, value)| Some(Attribute { header, value, name: of(header)? }));
    named.collect()
}

fn name_in(header: &str, prefixes: &[&str]) -> Option<String> {
    let lower = header.to_ascii_lowercase();
    prefixes.iter().find_map(|prefix| lower.strip_prefix(prefix)).map(str::to_owned)
}

/// CloudEvents 1.0.2, §3: names are lower-case letters and digits.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Headers that look like attributes and can be none, but are nearly a control field or data.
fn astray_headers(delivery: &Delivery) -> Astray {
    let prefixes = prefixes_of(delivery.transport);
    let names = delivery.headers.keys().filter_map(|header| name_in(header, prefixes));
    names.filter(|name| !is_name(name) || name == "data").filter_map(|name| astray(&name)).collect()
}

/// A name next to `data` that means a control field or data.
fn astray(name: &str) -> Option<(String, &'static str)> {
    let known = [&CONTROLS[..], &DATA].concat();
    let is_one = || known.iter().copied().find(|known| *known == name);
    let is_elsewhere = || ELSEWHERE.contains(&name.to_ascii_lowercase().as_str()).then_some(DATA[0]);
    let meant = is_one().or_else(|| control::meant(name, &known, &OURS)).or_else(is_elsewhere)?;
    Some((shown(name), meant))
}

/// Names of an event's data.
const DATA: [&str; 2] = ["data", "data_base64"];

/// Names under which senders put data next to `data`, or say where it is (the extension `dataref`).
const ELSEWHERE: [&str; 3] = ["body", "dataref", "payload"];

/// Names in the wrong place, each with the field that it means.
pub type Astray = Vec<(String, &'static str)>;

fn prefixes_of(transport: Transport) -> &'static [&'static str] {
    match transport {
        Transport::Http | Transport::Import | Transport::Scim => &AMQP_PREFIXES[..1],
        Transport::Amqp => &AMQP_PREFIXES[..],
    }
}

fn binary(verified: &Verified, attributes: Vec<Attribute<'_>>, essence: &str) -> Result<Items<Item>, Problem> {
    let (delivery, body) = (verified.delivery(), verified.body());
    let is_readable = essence.is_empty() || is_json(essence) || body.is_empty();
    if !is_readable {
        let detail = "the data of an event must be JSON, so `content-type` must be `application/json`";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let kept = attributes.iter().filter(|attribute| !super::held::may_be_secret(attribute.header));
    let headers: BTreeMap<&str, &str> = kept.map(|attribute| (attribute.header, attribute.value)).collect();
    let beside = json!({"content_type": delivery.content_type, "headers": headers}).to_string();
    let (mut event, mut errors) = (Map::new(), Vec::new());
    for Attribute { name, value, .. } in attributes {
        let value = match delivery.transport {
            Transport::Http | Transport::Import | Transport::Scim => from_header(value),
            Transport::Amqp if value.contains(char::REPLACEMENT_CHARACTER) => {
                Err("its header is no text in UTF-8: send a string, or its bytes in UTF-8")
            }
            Transport::Amqp => Ok(value.to_owned()),
        };
        let read = value.and_then(|value| match event.insert(name.clone(), Value::String(value.clone())) {
            Some(other) if other != value => Err("is there twice, under two prefixes, with two values"),
            Some(_) | None => Ok(()),
        });
        if let Err(reason) = read {
            errors.push(FieldError::new(format!("/{}", shown(&name)), reason));
        }
    }
    if !errors.is_empty() {
        errors.truncate(WRONG_EXTENSIONS_TOLD_MAX);
        return Ok(Items::one(Err(Problem::invalid(errors))));
    }
    if !body.is_empty() {
        event.insert("data".to_owned(), json::read(body)?);
    }
    let astray = astray_headers(delivery);
    let value = Value::Object(event);
    Ok(Items::one(Ok(Item { beside: Some(beside), astray, ..Item::structured(value, body.clone()) })))
}

/// HTTP binding, §3.1.3.2: a value may be quoted, and characters that a header cannot have are percent-encoded UTF-8. Another
/// value is refused, since two unreadable values would look the same.
fn from_header(value: &str) -> Result<String, &'static str> {
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
    let is_encoded = |rest: &str| rest.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
    if !plain.split('%').skip(1).all(is_encoded) {
        return Err("has a % without two hexadecimal digits behind it; write % itself as %25");
    }
    let decoded = percent_encoding::percent_decode_str(plain).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| "is not UTF-8 once its percent-encoding is undone")
}

/// Each item keeps its own bytes, as they were sent.
fn batch(body: &Bytes, batch_max: usize) -> Result<Vec<Result<Item, Problem>>, Problem> {
    let items: Vec<&RawValue> = json::parse(body, "a batch is a JSON array of events; see")?;
    if items.len() > batch_max {
        let detail = format!("{} events in one batch; {batch_max} are taken at once", items.len());
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    let read = |item: &RawValue| {
        let bytes = item.get().as_bytes();
        Ok(Item::structured(json::read(bytes)?, body.slice_ref(bytes)))
    };
    Ok(items.into_iter().map(read).collect())
}

pub(super) fn envelope(mut value: Value, raw: Bytes, beside: Option<String>) -> Result<Envelope, Problem> {
    if let Value::Object(attributes) = &mut value {
        // JSON format, §2.2: a null attribute is absent. An empty subject names nothing either.
        attributes.retain(|name, attribute| !(attribute.is_null() || (name == "subject" && *attribute == "")));
    }
    let mut errors = Vec::new();
    wrong_attributes(&value, &mut errors);
    let data = data_of(&mut value, &mut errors);
    let time = time_of(&mut value, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let mut found = Vec::new();
    // Extension attributes stay in the bytes that are kept; nothing here looks at their values.
    if let Value::Object(attributes) = &mut value {
        attributes.retain(|name, _| {
            let is_ours = OURS.contains(&name.as_str());
            if !is_ours {
                found.extend(astray(name));
            }
            is_ours
        });
    }
    found.truncate(WRONG_EXTENSIONS_TOLD_MAX);
    let event: CloudEvent =
        serde_json::from_value(value).map_err(|_| Problem::of_field("", "not a CloudEvent 1.0 in the JSON format"))?;
    debug_assert_eq!(event.specversion(), SpecVersion::V10);
    Ok(Envelope {
        source: event.source().clone(),
        id: event.id().to_owned(),
        type_name: event.ty().to_owned(),
        subject: event.subject().map(str::to_owned),
        time,
        data,
        raw,
        beside,
        of_message: None,
        astray: found,
    })
}

/// Takes `data` or `data_base64` out of the event before the SDK, which would copy it three times, reads it. Unreadable data is
/// an error, never "no data": a churn without data is a churn now.
fn data_of(event: &mut Value, errors: &mut Vec<FieldError>) -> Value {
    let Some(attributes) = event.as_object_mut() else { return Value::Null };
    let media_type = attributes.get("datacontenttype").and_then(Value::as_str).unwrap_or("application/json");
    let is_json = is_json(&essence_of(media_type));
    let mut wrong = |reason: &str| {
        errors.push(FieldError::new("/data_base64", reason));
        Value::Null
    };
    match (attributes.remove("data"), attributes.remove("data_base64")) {
        (Some(_), Some(_)) => wrong("must not be there beside `data`"),
        // JSON format, §3.1.1: data of another type is a text, which may be JSON all the same.
        (Some(Value::String(text)), None) if !is_json => json::read(text.as_bytes()).unwrap_or(Value::String(text)),
        (Some(data), None) => data,
        (None, Some(Value::String(coded))) => match bytes_of_standard_base64(&coded) {
            Some(bytes) => json::read(&bytes).unwrap_or_else(|problem| {
                let is_too_large = problem.kind == ProblemKind::TooLarge;
                let reason =
                    if is_too_large { problem.detail.as_str() } else { "is not JSON in UTF-8, so it cannot be read" };
                wrong(reason)
            }),
            None => wrong("must be Base64 (RFC 4648 §4)"),
        },
        (None, Some(other)) => wrong(&must_be("a text", &other)),
        (None, None) => Value::Null,
    }
}

/// Takes `time` out of the event: it is read in more forms than the SDK knows, and within bounds.
fn time_of(event: &mut Value, errors: &mut Vec<FieldError>) -> Option<Timestamp> {
    let told = event.as_object_mut()?.remove("time")?;
    let form = "must be an RFC 3339 date and time, like 2026-10-01T12:00:00Z";
    let read = match told.as_str() {
        Some(text) => date::read_exact(text).map_err(|fault| format!("{form}; this is {fault}")),
        None => Err(must_be("a text", &told)),
    };
    read.map_err(|reason| errors.push(FieldError::new("/time", reason))).ok()
}

fn essence_of(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(essence: &str) -> bool {
    essence == "text/json" || essence.ends_with("/json") || essence.ends_with("+json")
}

/// Collects all errors in the attributes we use; the SDK would stop at the first.
fn wrong_attributes(value: &Value, errors: &mut Vec<FieldError>) {
    let Value::Object(attributes) = value else {
        errors.push(FieldError::new("", "an event is a JSON object"));
        return;
    };
    let mut wrong = |name: &str, reason: String| errors.push(FieldError::new(format!("/{name}"), reason));
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
            Some(other) => wrong(name, must_be("a text", other)),
        }
    }
    for name in ["subject", "datacontenttype"] {
        match attributes.get(name) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => wrong(name, must_be("a text", other)),
        }
    }
    let is_simple = |value: &Value| {
        let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
        value.is_string() || value.is_boolean() || is_whole
    };
    let extensions = attributes.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    for (name, value) in extensions.filter(|(_, value)| !is_simple(value)).take(WRONG_EXTENSIONS_TOLD_MAX) {
        wrong(&shown(name), must_be("a text, a whole number, true or false", value));
    }
}

/// A sender's own name of an attribute, as a part of a pointer: RFC 6901 escapes `~` and `/`.
fn shown(name: &str) -> String {
    start_of(name).replace('~', "~0").replace('/', "~1")
}

/// The shown beginning of a sender's own name: the name can be as long as a body, and its refusal must not be.
pub(super) fn start_of(name: &str) -> String {
    let mut letters = name.chars();
    let start: String = letters.by_ref().take(NAME_CHARS_TOLD_MAX).collect();
    let rest = if letters.next().is_some() { "…" } else { "" };
    format!("{start}{rest}")
}

/// Limit of the shown part of a name. The specification asks for names of at most 20 letters; a longer one is known by its
/// beginning.
const NAME_CHARS_TOLD_MAX: usize = 64;

/// Limit of wrong attributes in one refusal: a sender with more has made one mistake in all of them.
const WRONG_EXTENSIONS_TOLD_MAX: usize = 16;

/// Names of attributes that are no extensions.
const OURS: [&str; 9] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"];

/// Limit of `source` and `type`. The store keeps `source` in an index; no sender needs a longer URI.
pub const ATTRIBUTE_CHARS_MAX: usize = 512;

/// The fault of a value of another kind than the allowed one.
pub(super) fn must_be(allowed: &str, found: &Value) -> String {
    format!("must be {allowed}, found {}", kind_of(found))
}

/// The kind of a JSON value, in a sender's terms.
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
    use base64::Engine;

    use super::*;

    fn delivery(content_type: &str, body: &str) -> Verified {
        Verified::unchecked(Delivery {
            transport: Transport::Http,
            source: "default".into(),
            content_type: Some(content_type.into()),
            headers: Default::default(),
            body: body.as_bytes().to_vec(),
            received_at: Timestamp::from_micros(0),
        })
    }

    /// A refusal has a bound however many and however long the wrong names are.
    #[test]
    fn a_refusal_has_a_bound_whatever_the_wrong_names() {
        let mut event = json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "t"});
        for number in 0..1_000 {
            event[format!("{number:04}~/{}", "x".repeat(1_000))] = json!([]);
        }
        let problem = one(&event).expect_err("lists are no attributes");
        assert_eq!(problem.errors.len(), WRONG_EXTENSIONS_TOLD_MAX);
        let expected = format!("/0000~0~1{}…", "x".repeat(NAME_CHARS_TOLD_MAX - 6));
        assert_eq!(problem.errors[0].pointer, expected);
    }

    fn only(mut read: Items<Envelope>) -> Result<Envelope, Problem> {
        assert!(!read.is_batch);
        read.items.pop().expect("one item")
    }

    fn one(body: &Value) -> Result<Envelope, Problem> {
        only(read(&delivery(STRUCTURED, &body.to_string()), 10)?)
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
        transport: Transport,
        content_type: Option<&str>,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Envelope, Problem> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let verified = Verified::unchecked(Delivery {
            transport,
            source: "default".into(),
            content_type: content_type.map(str::to_owned),
            headers,
            body: body.as_bytes().to_vec(),
            received_at: Timestamp::from_micros(0),
        });
        only(read(&verified, 10)?)
    }

    /// A binary event is the structured one by whichever prefix its transport knows.
    #[test]
    fn a_binary_event_is_the_structured_one_by_any_known_prefix() {
        let structured = one(&json!({
            "specversion": "1.0", "id": "e1", "source": "/billing", "type": "customer.churned", "subject": "C-1",
            "time": "2026-10-01T12:00:00Z", "data": {"customer_id": "C-1"}, "sequence": "7",
        }))
        .expect("valid");
        for (transport, prefix, is_known) in [
            (Transport::Http, "ce-", true),
            (Transport::Amqp, "ce-", true),
            (Transport::Amqp, "cloudEvents:", true),
            (Transport::Amqp, "cloudEvents_", true),
            (Transport::Amqp, "ce_", true),
            (Transport::Http, "ce_", false),
            (Transport::Http, "cloudevents:", false),
        ] {
            let named = ["specversion", "id", "source", "type", "subject", "time", "sequence"];
            let values = ["1.0", "e1", "/billing", "customer.churned", "C-1", "2026-10-01T12:00:00Z", "7"];
            let names: Vec<String> = named.iter().map(|name| format!("{prefix}{name}")).collect();
            let headers: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
            let binary =
                beside(transport, Some("application/json; charset=utf-8"), &headers, r#"{"customer_id": "C-1"}"#);
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
            let read = beside(Transport::Http, content_type, &headers, body);
            let found = read.map(|envelope| envelope.subject).map_err(|problem| problem.kind);
            assert_eq!(found, expected.map(|subject: Option<&str>| subject.map(str::to_owned)), "{headers:?} {body}");
        }
    }

    #[test]
    fn data_that_cannot_be_read_is_never_no_data() {
        let coded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let with = |fields: Value| {
            let mut event = json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "customer.churned"});
            event.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
            one(&event)
        };
        for (fields, pointer) in [
            (json!({"data_base64": coded(b"\x1f\x8b\x08\x00")}), "/data_base64"),
            (json!({"data_base64": coded(b"{\"town\": \"M\xfcnchen\"}")}), "/data_base64"),
            (json!({"data_base64": coded(b"\xff\xfe{\x00}\x00")}), "/data_base64"),
            (json!({"data_base64": coded(b"{\"a\": 1, \"a\": 2}")}), "/data_base64"),
            (json!({"data_base64": ""}), "/data_base64"),
            (json!({"data_base64": "no base64!"}), "/data_base64"),
            (json!({"data_base64": 5}), "/data_base64"),
            (json!({"data_base64": coded(b"<xml/>"), "datacontenttype": "text/xml"}), "/data_base64"),
            (json!({"data_base64": coded(b"{}"), "data": {}}), "/data_base64"),
        ] {
            let problem = with(fields.clone()).expect_err("it cannot be read");
            assert_eq!(problem.errors[0].pointer, pointer, "{fields}");
        }
        let data = json!({"effective_at": "2027-06-01T00:00:00Z"});
        for fields in [
            json!({"data_base64": coded(data.to_string().as_bytes())}),
            json!({"data_base64": coded(data.to_string().as_bytes()).trim_end_matches('=')}),
            json!({"data_base64": coded(data.to_string().as_bytes()), "datacontenttype": "application/json; charset=utf-8"}),
            json!({"data": data.to_string(), "datacontenttype": "text/plain"}),
            json!({"data": data}),
            json!({"data": data, "data_base64": null}),
        ] {
            assert_eq!(with(fields.clone()).expect("it can be read").data, data, "{fields}");
        }
        // A text is not taken for an object, nor for a missing value.
        assert_eq!(with(json!({"data": "{}"})).expect("JSON").data, json!("{}"));
        assert_eq!(
            with(json!({"data": "<xml/>", "datacontenttype": "text/xml"})).expect("a text").data,
            json!("<xml/>")
        );
    }

    #[test]
    fn values_in_headers_that_cannot_be_read_are_refused_and_never_alike() {
        let all = [("ce-specversion", "1.0"), ("ce-source", "/b"), ("ce-type", "customer.churned")];
        let with = |id: &str, subject: &str| {
            let headers = [&all[..], &[("ce-id", id), ("ce-subject", subject)]].concat();
            beside(Transport::Http, None, &headers, "{}")
        };
        for (id, subject, pointer) in [
            ("e1", "C%FF1", "/subject"),
            ("e1", "C%FE1", "/subject"),
            ("e1", "C%ED%A0%80", "/subject"),
            ("e1", "100%", "/subject"),
            ("e1", "C%2", "/subject"),
            ("e1", "C%ZZ", "/subject"),
            ("e%FF", "C", "/id"),
        ] {
            let problem = with(id, subject).expect_err("it cannot be read");
            assert_eq!(problem.errors[0].pointer, pointer, "{subject}");
        }
        let read = |subject: &str| with("e1", subject).expect("it can be read").subject;
        assert_eq!(read("Zo%C3%AB").as_deref(), Some("Zo\u{eb}"));
        assert_eq!(read("Zo\u{eb}").as_deref(), Some("Zo\u{eb}"));
        assert_eq!(read("100%25").as_deref(), Some("100%"));
        let twice = [&all[..], &[("ce-id", "e1"), ("cloudevents:id", "e2")]].concat();
        let problem = beside(Transport::Amqp, None, &twice, "{}").expect_err("two ids");
        assert_eq!(problem.errors[0].pointer, "/id");
    }

    #[test]
    fn an_attribute_that_looks_like_a_control_field_is_noted() {
        let mut event = json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "subject": "",
                               "traceparent": "x", "effectiveat": "2027-01-01T00:00:00Z", "Cancelled": true});
        for name in ["partitionkey", "dataschema", "datacontentencoding"] {
            event[name] = json!("p");
        }
        let envelope = one(&event).expect("valid");
        assert_eq!(envelope.subject, None);
        let meant: Vec<_> = envelope.astray.iter().map(|(name, meant)| (name.as_str(), *meant)).collect();
        assert_eq!(meant, [("Cancelled", control::CANCELLED), ("effectiveat", control::EFFECTIVE_AT)]);
        for (name, expected) in [
            ("Data", "data"),
            ("payload", "data"),
            ("dataBase64", "data_base64"),
            ("dataref", "data"),
            ("databse64", "data_base64"),
        ] {
            let mut event = json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "t"});
            event[name] = json!("{}");
            let astray = one(&event).expect("valid").astray;
            assert_eq!(astray.first().map(|(_, meant)| *meant), Some(expected), "{name}");
        }
        let all = [("ce-specversion", "1.0"), ("ce-id", "e"), ("ce-source", "/s"), ("ce-type", "t")];
        for header in ["ce-effective_at", "ce-effective-date", "ce-is_cancelled", "ce-data", "ce-data_base64"] {
            let envelope = beside(Transport::Http, None, &[&all[..], &[(header, "x")]].concat(), "{}").expect("valid");
            assert_eq!(envelope.astray.len(), 1, "{header}");
        }
        let envelope =
            beside(Transport::Amqp, None, &[&all[..], &[("ce_effective_at", "x")]].concat(), "{}").expect("valid");
        assert_eq!(envelope.astray.len(), 1);
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
        let read = |data: &str| only(read(&delivery(STRUCTURED, &text(data)), 10)?);
        let digest = |data: &str| read(data).expect("valid").digest();
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
        let batch = delivery("Application/CloudEvents-Batch+JSON; charset=utf-8", &json!([good, 7]).to_string());
        let read = read(&batch, 2).expect("a batch");
        assert!(read.is_batch && read.items[0].is_ok() && read.items[1].is_err());
    }
}
