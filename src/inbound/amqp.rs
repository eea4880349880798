//! The queue's door: a frame from RabbitMQ becomes a delivery, and is acknowledged once it is on disk.
//!
//! The sender behind a queue cannot be told what is wrong, so what is no event is parked with its bytes and
//! acknowledged: a poisoned frame blocks nobody. While the store is away nothing is acknowledged and nothing is
//! thrown back; the frames wait here, bounded by the prefetch.
//!
//! Before: [`crate::broker`]. After: [`crate::inbound`].

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::poison::Ids;
use super::signature::Verified;
use super::{Delivery, Held, Inbox, text};
use crate::broker::{Frame, Intake, Taken};
use crate::domain::event::Transport;
use crate::domain::{Timestamp, date};
use crate::problem::{FieldError, Problem, ProblemKind};

/// Takes frames into the inbox.
pub struct Frames {
    /// The path behind the door.
    pub inbox: Inbox,
    /// `amqp.source`.
    pub source: String,
    /// Whether those who work on events have plenty in hand.
    pub plenty: Arc<AtomicBool>,
}

/// When a message was sent, as its property `timestamp` says; `None`: it does not say. 0 is what clients write who were
/// given nothing. The error is a number that cannot be meant.
pub(super) fn sent_at(timestamp: Option<u64>) -> Result<Option<Timestamp>, Problem> {
    let Some(given) = timestamp.filter(|given| *given != 0) else { return Ok(None) };
    date::since_1970(given).map(Some).map_err(|fault| {
        let reason = format!(
            "is missing, and the message's property `timestamp` is {fault}: it is in seconds since 1970 (or in milliseconds, of \
             12 or 13 digits)"
        );
        Problem::invalid(vec![FieldError { pointer: "/time".to_owned(), reason }])
    })
}

/// The value of `$amqp` in a mapping: of a message from the queue its routing key, exchange and properties as far as it has
/// them; of another delivery nothing. A `timestamp` that cannot be meant stays a number, which is no date to anybody.
pub(super) fn variable(held: &Held) -> Value {
    if held.verified.delivery().transport != Transport::Amqp {
        return json!({});
    }
    let Held { exchange, routing_key, properties, message_id, .. } = held;
    let mut shown = json!(properties);
    match sent_at(properties.timestamp) {
        Ok(Some(sent_at)) => shown["timestamp"] = json!(sent_at),
        Ok(None) => drop(shown.as_object_mut().and_then(|shown| shown.remove("timestamp"))),
        Err(_) => {}
    }
    shown["routing_key"] = json!(routing_key);
    shown["exchange"] = json!(exchange);
    if let Some(message_id) = message_id {
        shown["message_id"] = json!(message_id);
    }
    shown
}

/// A message with what came with it, given by the names that [`variable`] shows it under.
pub(super) fn named(held: Held, given: &BTreeMap<String, String>) -> Result<Held, Problem> {
    let mut held = held;
    for (name, value) in given {
        let value = value.clone();
        match name.as_str() {
            "routing_key" => held.routing_key = value,
            "exchange" => held.exchange = value,
            "message_id" => held.message_id = Some(value),
            "type" => held.properties.type_name = Some(value),
            "app_id" => held.properties.app_id = Some(value),
            "correlation_id" => held.properties.correlation_id = Some(value),
            "timestamp" => {
                let wrong = || Problem::new(ProblemKind::Malformed, "`timestamp` is a number of seconds since 1970");
                held.properties.timestamp = Some(value.parse().map_err(|_| wrong())?);
            }
            _ => {
                let known = "routing_key, exchange, message_id, type, app_id, correlation_id, timestamp";
                return Err(Problem::new(ProblemKind::Malformed, format!("a message from the queue has {known}")));
            }
        }
    }
    Ok(held)
}

impl Intake for Frames {
    type Held = Held;

    /// Time and ids are taken here, once: events without a `time` keep the order in which they came, however often and
    /// in whatever order they are offered.
    fn hold(&self, frame: Frame) -> Held {
        let clock = &self.inbox.clock;
        let ids = Ids::default();
        ids.of_item(0, clock);
        let mut headers = frame.headers;
        if let Some(coding) = frame.content_encoding {
            headers.retain(|name, _| !name.eq_ignore_ascii_case(text::CONTENT_ENCODING));
            headers.insert(text::CONTENT_ENCODING.to_owned(), coding);
        }
        let verified = Verified::by_broker(Delivery {
            transport: Transport::Amqp,
            source: self.source.clone(),
            content_type: frame.content_type,
            headers,
            body: frame.body,
            received_at: clock.now(),
        });
        // Whatever becomes of it, a person reads its text, and an erasure finds a customer in it. Bytes that cannot be
        // unpacked stay as they came, and their reader says why.
        let plain = text::plain(&verified, self.inbox.body_bytes_max).ok().flatten();
        let verified = plain.unwrap_or(verified);
        let Frame { message_id, exchange, routing_key, properties, .. } = frame;
        Held { verified, ids, message_id, exchange, routing_key, properties, is_redelivered: frame.redelivered }
    }

    fn has_plenty(&self) -> bool {
        self.plenty.load(Ordering::Relaxed)
    }

    async fn offer(&self, held: &Held) -> Taken {
        // Whoever fails even over parking it must not take the process along: the broker keeps it.
        let Ok(taken) = AssertUnwindSafe(self.inbox.accept_or_park(held)).catch_unwind().await else {
            tracing::error!("the bridge failed over parking a message from the queue; it stays there");
            return Taken::NotNow;
        };
        match taken {
            Ok(()) => Taken::Stored,
            Err(error) => {
                tracing::debug!(%error, "a frame waits: the store did not take it");
                Taken::NotNow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_in_seconds_or_milliseconds_and_what_cannot_be_meant_is_refused() {
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
            assert_eq!(sent_at(timestamp).map_err(drop), expected, "{timestamp:?}");
        }
    }
}
