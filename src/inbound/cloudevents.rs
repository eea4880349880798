//! The envelope: CloudEvents 1.0 in the JSON format, single (structured) or batch.
//!
//! Pure. The official SDK reads the envelope; this file only decides which mode it is and says where an
//! envelope is wrong. It looks into `data` no further than to see that it is JSON.
//!
//! Before: [`crate::inbound::signature`]. After: [`crate::inbound::wire`].

use bytes::Bytes;
use cloudevents::{AttributesReader, Data, Event as CloudEvent, event::SpecVersion};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::problem::{FieldError, Problem, ProblemKind};
use super::sha256;
use super::signature::Verified;
use crate::domain::{ID_CHARS_MAX, Timestamp, is_printable_id};

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
}

/// What a delivery turned out to hold.
pub enum Read {
    /// One event, or what is wrong with it.
    One(Result<Envelope, Problem>),
    /// Several, each for itself.
    Batch(Vec<Result<Envelope, Problem>>),
}

impl Envelope {
    /// What the event says, apart from its identity: the same event by another door or with other white space
    /// has the same digest, and a reused id shows.
    pub fn digest(&self) -> String {
        let time = self.time.map(Timestamp::micros);
        // Keys of a JSON object are kept sorted, so equal values give equal text.
        let meaning = json!([self.type_name, self.subject, time, self.data]);
        sha256(meaning.to_string().as_bytes())
    }
}

/// Reads a delivery. The outer error is about the delivery as a whole.
pub fn read(verified: &Verified, batch_max: usize) -> Result<Read, Problem> {
    let (media_type, body) = (verified.delivery().content_type.as_deref().unwrap_or_default(), verified.body());
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        STRUCTURED => {
            let value = parse(body)?;
            Ok(Read::One(envelope(value, body.clone())))
        }
        BATCH => batch(body, batch_max).map(Read::Batch),
        _ => {
            let detail = format!("send CloudEvents as `{STRUCTURED}` or `{BATCH}`");
            Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
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
        envelope(parse(bytes)?, body.slice_ref(bytes))
    };
    Ok(items.into_iter().map(read).collect())
}

fn envelope(value: Value, raw: Bytes) -> Result<Envelope, Problem> {
    let errors = wrong_attributes(&value);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let event: CloudEvent = serde_json::from_value(value).map_err(|_| {
        let reason = "not a CloudEvent 1.0 in the JSON format".to_owned();
        Problem::invalid(vec![FieldError { pointer: String::new(), reason }])
    })?;
    debug_assert_eq!(event.specversion(), SpecVersion::V10);
    let data = match event.data() {
        Some(Data::Json(value)) => value.clone(),
        Some(Data::String(text)) => serde_json::from_str(text).unwrap_or(Value::String(text.clone())),
        Some(Data::Binary(bytes)) => serde_json::from_slice(bytes).unwrap_or(Value::Null),
        None => Value::Null,
    };
    Ok(Envelope {
        source: event.source().clone(),
        id: event.id().to_owned(),
        type_name: event.ty().to_owned(),
        subject: event.subject().map(str::to_owned),
        time: event.time().map(|time| Timestamp::from_micros(time.timestamp_micros())),
        data,
        raw,
    })
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
    errors
}

/// The store keeps `source` in an index; a URI longer than this names nobody.
const ATTRIBUTE_CHARS_MAX: usize = 512;

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
    use crate::inbound::Delivery;
    use crate::metrics::Door;

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
