//! A message that is being worked on, and the row of one that cannot be read as an event.
//!
//! An unreadable message is kept with all that came with it, for an operator: its bytes, and its envelope without possible
//! secrets. Two equal messages are two rows, since their sender may have meant two things. Only a message that the broker may
//! have delivered before, or that names itself by a `message_id`, counts as the one that is there already.
//!
//! Before: [`super::amqp`] holds it. After: [`super::inbox`] reads or parks it, and [`crate::store`] keeps it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::delivery::{CONTENT_ENCODING, sha256};
use super::signature::Verified;
use crate::broker::Properties;
use crate::clock::Clock;
use crate::domain::event::Transport;
use crate::domain::verdict::{Reason, unreadable_notice};
use crate::domain::{EventId, Timestamp, date};
use crate::problem::{Problem, ProblemKind};
use crate::store::{Arrival, Content};

/// Limit of a detail: a batch of a thousand bad items must not make one of a megabyte.
const DETAIL_CHARS_MAX: usize = 2_000;

/// Parts of the name of a header that may hold a secret: it is neither kept nor part of the identity.
const SECRET_NAMES: [&str; 10] =
    ["auth", "signature", "hmac", "token", "secret", "passw", "cookie", "apikey", "credential", "privatekey"];

/// A message, with all that is decided about it once, however often it is offered to the store.
#[derive(Debug)]
pub struct HeldMessage {
    pub(super) verified: Verified,
    pub(super) ids: Ids,
    /// Property `message_id`.
    pub(super) message_id: Option<String>,
    /// The exchange to which it was published.
    pub(super) exchange: String,
    /// The key with which it was published.
    pub(super) routing_key: String,
    /// Its properties.
    pub(super) properties: Properties,
    /// `true` if the broker may have delivered it before.
    pub(super) is_redelivered: bool,
}

impl HeldMessage {
    /// Holds a delivery whose sender waits for the answer. Its sender's name for it identifies it.
    pub(super) fn answered(verified: Verified) -> Self {
        let message_id = verified.name().map(str::to_owned);
        Self {
            verified,
            ids: Ids::default(),
            message_id,
            exchange: String::new(),
            routing_key: String::new(),
            properties: Properties::default(),
            is_redelivered: false,
        }
    }

    /// The time at which the message was sent, by its property `timestamp`; `None`: it has none. Clients that were given no
    /// time write 0. The error is a number that cannot be meant.
    pub(super) fn sent_at(&self) -> Result<Option<Timestamp>, Problem> {
        let Some(given) = self.properties.timestamp.filter(|given| *given != 0) else { return Ok(None) };
        date::since_1970(given).map(Some).map_err(|fault| {
            let reason = format!(
                "is missing, and the message's property `timestamp` is {fault}: it is in seconds since 1970 (or in \
                 milliseconds, of 12 or 13 digits)"
            );
            Problem::of_field("/time", reason)
        })
    }

    /// The value of `$amqp` in a mapping: for a message from the queue its routing key, exchange and those properties that it
    /// has; for another delivery nothing. A `timestamp` that cannot be meant stays a number, which no helper reads as a date.
    pub(super) fn amqp_variable(&self) -> Value {
        if self.verified.delivery().transport != Transport::Amqp {
            return json!({});
        }
        let mut shown = json!(self.properties);
        match self.sent_at() {
            Ok(Some(sent_at)) => shown["timestamp"] = json!(sent_at),
            Ok(None) => drop(shown.as_object_mut().and_then(|shown| shown.remove("timestamp"))),
            Err(_) => {}
        }
        shown["routing_key"] = json!(self.routing_key);
        shown["exchange"] = json!(self.exchange);
        if let Some(message_id) = &self.message_id {
            shown["message_id"] = json!(message_id);
        }
        shown
    }

    /// The message with the given properties, by the names under which [`Self::amqp_variable`] shows them.
    pub(super) fn with(mut self, given: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let wrong = |detail: &str| Problem::new(ProblemKind::Malformed, detail);
        let no_number = |_| wrong("`timestamp` is a number of seconds since 1970");
        for (name, value) in given {
            let value = value.clone();
            match name.as_str() {
                "routing_key" => self.routing_key = value,
                "exchange" => self.exchange = value,
                "message_id" => self.message_id = Some(value),
                "type" => self.properties.type_name = Some(value),
                "app_id" => self.properties.app_id = Some(value),
                "correlation_id" => self.properties.correlation_id = Some(value),
                "timestamp" => self.properties.timestamp = Some(value.parse().map_err(no_number)?),
                _ => {
                    return Err(wrong(
                        "a message from the queue has routing_key, exchange, message_id, type, app_id, correlation_id, \
                         timestamp",
                    ));
                }
            }
        }
        Ok(self)
    }

    /// The row of a message that is parked. At most `bytes_max` of its bytes are kept, as many as an event may have: a sender
    /// of large ones must not fill the disk. By length and digest its sender can still recognise a message that was cut.
    pub(super) fn parked(&self, id: EventId, cause: ParkCause, bytes_max: usize) -> Arrival {
        let (delivery, body) = (self.verified.delivery(), self.verified.body());
        let headers = kept(&delivery.headers);
        let digest = digest(self, &headers);
        let mut envelope = json!({
            "content_type": delivery.content_type,
            "headers": headers,
            "message_id": self.message_id,
            "routing_key": self.routing_key,
        });
        if delivery.transport == Transport::Amqp {
            envelope["properties"] = json!(self.properties);
            envelope["properties"]["exchange"] = json!(self.exchange);
        }
        if let Some((_, coding)) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_ENCODING)) {
            envelope["content_encoding"] = json!(coding);
        }
        let raw = cut(body, bytes_max);
        let ParkCause { reason, mut detail } = cause;
        if raw.len() < body.len() {
            envelope["body_bytes"] = json!(body.len());
            envelope["body_sha256"] = json!(sha256(body));
            detail.push_str(&format!("; of its {} bytes the first {} are kept", body.len(), raw.len()));
        }
        let now = delivery.received_at;
        Arrival {
            id,
            origin: format!("untranslatable/{}", delivery.source),
            origin_id: digest.clone(),
            source: delivery.source.clone(),
            transport: delivery.transport,
            received_at: now,
            digest,
            raw,
            envelope: Some(envelope.to_string()),
            content: Content::Parked {
                reason,
                detail,
                notice: unreadable_notice(id, reason, now),
                may_be_known: self.is_redelivered || self.message_id.is_some(),
            },
        }
    }
}

/// The reason why a message is parked.
#[derive(Debug)]
pub(super) struct ParkCause {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl ParkCause {
    /// A cause whose detail is cut to a length that an operator reads.
    pub(super) fn new(reason: Reason, detail: &str) -> Self {
        Self { reason, detail: detail.chars().take(DETAIL_CHARS_MAX).collect() }
    }

    /// The cause when the bridge itself failed.
    pub(super) fn panicked() -> Self {
        Self::new(Reason::Panicked, "the bridge failed over it; see its log")
    }

    /// The cause for these problems; the commonest reason stands for several kinds.
    pub(super) fn of(problems: &[Problem]) -> Self {
        let of_message =
            [(ProblemKind::EventIdReused, Reason::EventIdReused), (ProblemKind::TooLarge, Reason::TooLarge)];
        let reason_of = |problem: &Problem| {
            let known = of_message.iter().find(|(kind, _)| *kind == problem.kind).map(|(_, reason)| *reason);
            known.or_else(|| problem.kind.recorded_reason())
        };
        let first = problems.first().and_then(reason_of);
        let of_all = first.filter(|first| problems.iter().all(|problem| reason_of(problem) == Some(*first)));
        let reason = of_all.unwrap_or(Reason::Untranslatable);
        Self::new(reason, &problems.iter().map(Problem::line).collect::<Vec<_>>().join("; "))
    }
}

/// The ids of a delivery and its items: made when they are first asked for, and the same ever after.
#[derive(Debug, Default)]
pub(super) struct Ids {
    made: Mutex<Vec<EventId>>,
    /// The id of a message that is read again, which its single event has, too.
    known: Option<EventId>,
}

impl Ids {
    /// The ids of a message that is read again.
    pub(super) fn of_known(id: EventId) -> Self {
        Self { made: Mutex::default(), known: Some(id) }
    }

    /// The id of the event that a delivery is.
    pub(super) fn of_single(&self, clock: &Clock) -> EventId {
        self.known.unwrap_or_else(|| self.of_item(0, clock))
    }

    /// The id of the delivery as a whole, if it has to be kept as such.
    pub(super) fn of_whole(&self, clock: &Clock) -> EventId {
        self.nth(0, clock)
    }

    /// The id of an item of it; a single event is item 0.
    pub(super) fn of_item(&self, number: usize, clock: &Clock) -> EventId {
        self.nth(number + 1, clock)
    }

    fn nth(&self, index: usize, clock: &Clock) -> EventId {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.len() <= index {
            made.push(EventId(clock.fresh_id()));
        }
        made[index]
    }
}

/// The first bytes; a text is not cut within a character.
fn cut(body: &Bytes, bytes_max: usize) -> Bytes {
    if body.len() <= bytes_max {
        return body.clone();
    }
    let end = match std::str::from_utf8(&body[..bytes_max]) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => bytes_max,
    };
    body.slice(..end)
}

/// Headers that brokers and proxies write, differently each time a message comes: neither kept nor part of the identity. Every
/// other `x-…` is the sender's own, and a mapping finds it again when the message is read again.
const WRITTEN_ON_THE_WAY: [&str; 20] = [
    "x-amzn-", "x-b3-", "x-client-ip", "x-cloud-trace-", "x-correlation-id", "x-death", "x-delivery-", "x-envoy-",
    "x-first-death-", "x-forwarded-", "x-last-death-", "x-opt-", "x-original-", "x-received-from", "x-real-ip",
    "x-request-", "x-routed-", "x-shovelled", "x-stream-", "x-trace",
];

/// The headers that are the sender's own, and no secrets. A message's headers fit into one frame (128 KiB unless the broker
/// says otherwise), which bounds them.
pub(super) fn kept(headers: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let is_kept = |name: &str| {
        let lower = name.to_ascii_lowercase();
        !WRITTEN_ON_THE_WAY.iter().any(|start| lower.starts_with(start)) && !may_be_secret(name)
    };
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// `true` if a header of this name may hold a secret.
pub(super) fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let letters: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    SECRET_NAMES.iter().any(|secret| letters.contains(secret))
}

/// The digest that distinguishes two messages.
fn digest(held: &HeldMessage, headers: &BTreeMap<&str, &str>) -> String {
    let delivery = held.verified.delivery();
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // Lengths go before texts, so that two lists never look the same.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    };
    for property in [&delivery.content_type, &held.message_id] {
        add(if property.is_some() { b"+" } else { b"-" });
        add(property.as_deref().unwrap_or_default().as_bytes());
    }
    for (name, value) in headers {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    // The sender's properties count as well. Without any, the digest is that of versions that did not look at them.
    if held.properties != Properties::default() {
        add(json!(held.properties).to_string().as_bytes());
    }
    add(held.verified.body());
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::Delivery;

    fn held(headers: &[(&str, &str)], message_id: Option<&str>) -> HeldMessage {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let verified = Verified::unchecked(Delivery {
            transport: Transport::Amqp,
            source: "default".into(),
            content_type: Some("application/json".into()),
            headers,
            body: b"{}".to_vec(),
            received_at: Timestamp::from_micros(0),
        });
        HeldMessage {
            verified,
            ids: Ids::default(),
            message_id: message_id.map(str::to_owned),
            exchange: "customer.lifecycle".into(),
            routing_key: "customer.moved".into(),
            properties: Properties::default(),
            is_redelivered: false,
        }
    }

    fn parked(held: &HeldMessage) -> (String, String) {
        let cause = ParkCause::new(Reason::Untranslatable, "");
        let arrival = held.parked(EventId(uuid::Uuid::nil()), cause, 1_024);
        (arrival.origin_id, arrival.envelope.expect("it says what came beside the bytes"))
    }

    /// The identity of an unreadable message is all that its sender said, and nothing of the broker or of a secret.
    #[test]
    fn its_identity_is_all_that_its_sender_said() {
        let (plain, _) = parked(&held(&[("ce-id", "1")], None));
        for (other, is_same) in [
            (held(&[("ce-id", "2")], None), false),
            (held(&[("ce-id", "1")], Some("m1")), false),
            (held(&[("ce-id", "1"), ("x-delivery-count", "2")], None), true),
            (held(&[("ce-id", "1"), ("X-Death", "[]")], None), true),
            (held(&[("ce-id", "1"), ("x-effective-at", "2027-06-01")], None), false),
            (held(&[("ce-id", "1"), ("Webhook-Signature", "v1,abc")], None), true),
            (held(&[("ce-id", "1"), ("Api_Key", "abc")], None), true),
        ] {
            assert_eq!(parked(&other).0 == plain, is_same, "{other:?}");
        }
        let mut typed = held(&[("ce-id", "1")], None);
        typed.properties.type_name = Some("Created".into());
        assert_ne!(parked(&typed).0, plain);
    }

    #[test]
    fn a_cut_spares_the_last_character_of_a_text_and_nothing_else() {
        for (body, expected) in [
            (&b"abcd"[..], &b"abcd"[..]),
            (b"abcdef", b"abcd"),
            ("abc\u{fc}".as_bytes(), b"abc"),
            (b"\xff\xfe\xfd\xfc\xfb", b"\xff\xfe\xfd\xfc"),
        ] {
            assert_eq!(cut(&Bytes::copy_from_slice(body), 4), expected, "{body:?}");
        }
    }

    #[test]
    fn its_envelope_has_the_ids_and_no_secret() {
        let headers = [("ce-id", "1"), ("Authorization", "Bearer hunter2"), ("webhook-signature", "v1,hunter2")];
        let (_, envelope) = parked(&held(&headers, Some("m1")));
        assert!(!envelope.contains("hunter2"), "{envelope}");
        let envelope: serde_json::Value = serde_json::from_str(&envelope).expect("JSON");
        let expected = json!({"content_type": "application/json", "headers": {"ce-id": "1"}, "message_id": "m1",
                              "routing_key": "customer.moved", "properties": {"exchange": "customer.lifecycle"}});
        assert_eq!(envelope, expected);
    }

    /// A timestamp is read in seconds or milliseconds; one that cannot be meant is refused.
    #[test]
    fn a_timestamp_is_read_in_seconds_or_milliseconds() {
        for (timestamp, expected) in [
            (None, Ok(None)),
            (Some(0), Ok(None)),
            (Some(1_790_000_000), Ok(Some("2026-09-21T14:13:20Z"))),
            (Some(1_790_000_000_250), Ok(Some("2026-09-21T14:13:20.250Z"))),
            (Some(946_771_201), Ok(Some("2000-01-02T00:00:01Z"))),
            (Some(946_771_200), Err(())),
            (Some(1), Err(())),
            (Some(20_261_001), Err(())),
            (Some(7_258_118_400), Err(())),
            (Some(1_790_000_000_000_000), Err(())),
            (Some(u64::MAX), Err(())),
        ] {
            let expected = expected.map(|text| text.and_then(Timestamp::parse));
            let mut message = held(&[], None);
            message.properties.timestamp = timestamp;
            assert_eq!(message.sent_at().map_err(drop), expected, "{timestamp:?}");
        }
    }
}
