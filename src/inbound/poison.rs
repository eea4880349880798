//! A message from the queue in our hands, and the row of one that does not become an event.
//!
//! Such a message is kept with all that came with it, for a person: its bytes, and its envelope without what could be
//! a secret. Two equal ones are two rows, since nobody knows whether their sender meant one thing or two; only one that
//! the broker may have delivered before, or that names itself by a `message_id`, is the one that is there already.
//!
//! Before: [`crate::inbound::amqp`] holds it. After: [`crate::store`] keeps it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::sha256;
use super::signature::Verified;
use super::text::CONTENT_ENCODING;
use crate::broker::Properties;
use crate::clock::Clock;
use crate::domain::EventId;
use crate::domain::event::{Transport, UNKNOWN};
use crate::domain::verdict::{Reason, unreadable_notice};
use crate::problem::{Problem, ProblemKind};
use crate::store::{Arrival, Content};

/// A batch of a thousand bad items must not make a detail of a megabyte.
const DETAIL_CHARS_MAX: usize = 2_000;

/// A header whose name has one of these in it may hold a secret: neither kept nor part of the identity.
const SECRET_NAMES: [&str; 10] =
    ["auth", "signature", "hmac", "token", "secret", "passw", "cookie", "apikey", "credential", "privatekey"];

/// A message from the queue, with all that is decided about it once, however often it is offered to the store.
#[derive(Debug)]
pub struct Held {
    pub(super) verified: Verified,
    pub(super) ids: Ids,
    /// Property `message_id`.
    pub(super) message_id: Option<String>,
    /// The exchange it was published to.
    pub(super) exchange: String,
    /// The key it was published with.
    pub(super) routing_key: String,
    /// Its properties.
    pub(super) properties: Properties,
    /// Whether the broker may have delivered it before.
    pub(super) is_redelivered: bool,
}

impl Held {
    /// A delivery whose sender waits for the answer. It is known again by the name that its sender gave it.
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
}

/// The ids of a delivery and its items: made when they are first asked for, and the same ever after.
#[derive(Debug, Default)]
pub(super) struct Ids {
    made: Mutex<Vec<EventId>>,
    /// Of a message that is read again: its single event has the id that it had itself.
    known: Option<EventId>,
}

impl Ids {
    /// Of a message that is read again.
    pub(super) fn of_known(id: EventId) -> Self {
        Self { made: Mutex::default(), known: Some(id) }
    }

    /// Of the event that a delivery is.
    pub(super) fn of_single(&self, clock: &Clock) -> EventId {
        self.known.unwrap_or_else(|| self.of_item(0, clock))
    }

    /// Of the delivery as a whole, if it has to be kept as such.
    pub(super) fn of_whole(&self, clock: &Clock) -> EventId {
        self.nth(0, clock)
    }

    /// Of an item of it; a single event is item 0.
    pub(super) fn of_item(&self, number: usize, clock: &Clock) -> EventId {
        self.nth(number + 1, clock)
    }

    fn nth(&self, place: usize, clock: &Clock) -> EventId {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.len() <= place {
            made.push(EventId(clock.fresh_id()));
        }
        made[place]
    }
}

/// The row of something that never became an event. Of its bytes at most `bytes_max` are kept, as many as an event may
/// have: a sender of large ones must not fill the disk with what nobody can use. Of one that is cut, length and digest
/// tell whether it is the one that the sender has.
pub(super) fn arrival(held: &Held, id: EventId, (reason, detail): (Reason, &str), bytes_max: usize) -> Arrival {
    let (delivery, body) = (held.verified.delivery(), held.verified.body());
    let headers = kept(&delivery.headers);
    let digest = digest(held, &headers);
    let mut envelope = json!({
        "content_type": delivery.content_type,
        "headers": headers,
        "message_id": held.message_id,
        "routing_key": held.routing_key,
    });
    if delivery.transport == Transport::Amqp {
        envelope["properties"] = json!(held.properties);
        envelope["properties"]["exchange"] = json!(held.exchange);
    }
    if let Some((_, coding)) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_ENCODING)) {
        envelope["content_encoding"] = json!(coding);
    }
    let raw = cut(body, bytes_max);
    let mut detail = self::detail(detail);
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
        door: delivery.transport.name(),
        type_name: UNKNOWN.to_owned(),
        received_at: now,
        digest,
        raw,
        envelope: Some(envelope.to_string()),
        content: Content::Parked {
            reason,
            detail,
            notice: unreadable_notice(id, reason, now),
            may_be_known: held.is_redelivered || held.message_id.is_some(),
        },
    }
}

/// The text of a detail, cut to a length that a person reads.
pub(super) fn detail(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

/// The first bytes; of a text not the half of its last character.
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
/// other `x-…` is the sender's own, and a mapping that reads it finds it again when the message is read again.
const WRITTEN_ON_THE_WAY: [&str; 20] = [
    "x-amzn-",
    "x-b3-",
    "x-client-ip",
    "x-cloud-trace-",
    "x-correlation-id",
    "x-death",
    "x-delivery-",
    "x-envoy-",
    "x-first-death-",
    "x-forwarded-",
    "x-last-death-",
    "x-opt-",
    "x-original-",
    "x-received-from",
    "x-real-ip",
    "x-request-",
    "x-routed-",
    "x-shovelled",
    "x-stream-",
    "x-trace",
];

/// Headers that are the sender's own, and no secrets. A message's headers fit into one frame (128 KiB unless the broker says
/// otherwise), which bounds them.
pub(super) fn kept(headers: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let is_kept = |name: &str| {
        let lower = name.to_ascii_lowercase();
        !WRITTEN_ON_THE_WAY.iter().any(|start| lower.starts_with(start)) && !may_be_secret(name)
    };
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Whether a header of this name may hold a secret.
pub(super) fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let letters: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    SECRET_NAMES.iter().any(|secret| letters.contains(secret))
}

/// What tells two messages apart.
fn digest(held: &Held, headers: &BTreeMap<&str, &str>) -> String {
    let delivery = held.verified.delivery();
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // Lengths before texts: two lists never look the same.
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
    // The sender's as well. Without any the digest is the one of versions that did not look at them.
    if held.properties != Properties::default() {
        add(json!(held.properties).to_string().as_bytes());
    }
    add(held.verified.body());
    format!("{:x}", hash.finalize())
}

/// A mixture has its first and commonest name.
pub(super) fn reason_of(problems: &[Problem]) -> Reason {
    let are_all = |kind| problems.iter().all(|problem| problem.kind == kind);
    if are_all(ProblemKind::EventIdReused) {
        Reason::EventIdReused
    } else if are_all(ProblemKind::TooLarge) {
        Reason::TooLarge
    } else if are_all(ProblemKind::TypeNotAllowed) {
        Reason::TypeNotAllowed
    } else {
        Reason::Untranslatable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::inbound::Delivery;

    fn held(headers: &[(&str, &str)], message_id: Option<&str>) -> Held {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let verified = Verified::by_broker(Delivery {
            transport: Transport::Amqp,
            source: "default".into(),
            content_type: Some("application/json".into()),
            headers,
            body: b"{}".to_vec(),
            received_at: Timestamp::from_micros(0),
        });
        Held {
            verified,
            ids: Ids::default(),
            message_id: message_id.map(str::to_owned),
            exchange: "customer.lifecycle".into(),
            routing_key: "customer.moved".into(),
            properties: Properties::default(),
            is_redelivered: false,
        }
    }

    fn parked(held: &Held) -> (String, String) {
        let arrival = arrival(held, EventId(uuid::Uuid::nil()), (Reason::Untranslatable, ""), 1_024);
        (arrival.origin_id, arrival.envelope.expect("it says what came beside the bytes"))
    }

    #[test]
    fn its_identity_is_all_that_its_sender_said_and_nothing_that_the_broker_or_a_secret_says() {
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
}
