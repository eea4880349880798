//! From a verified delivery to arrivals: reads CloudEvents, has a source's mapping translate its own messages, and checks the
//! types that the source may send. The same for every transport.
//!
//! Before: [`super::signature`]. After: [`super::wire`] reads each event; [`super::inbox`] keeps the arrivals.

use super::cloudevents::{self, Envelope, Item, Items};
use super::control;
use super::held::HeldMessage;
use super::json;
use super::mapping::mapper::{MapError, Mapper};
use super::mapping::{self, Message};
use super::sent;
use super::signature::Verified;
use super::text;
use super::types::{AllowedTypes, RefusedEvent};
use super::wire;
use crate::domain::event::{EventKind, Transport};
use crate::domain::work::SentEvent;
use crate::domain::{EventId, Timestamp};
use crate::problem::{Problem, ProblemKind};
use crate::store::{Arrival, Content};

/// The reason why a delivery could not be read as events.
#[derive(Debug)]
pub enum Unreadable {
    /// The problem, which a webhook's sender gets as the answer.
    Problem(Problem),
    /// The error with which the source's mapping did not translate it.
    Mapping(MapError),
}

/// Reads deliveries as events.
#[derive(Clone, Copy)]
pub struct MessageReader<'a> {
    /// Translates messages that are no CloudEvents.
    pub mapper: &'a Mapper,
    /// Limit of the events in a batch.
    pub batch_max: usize,
    /// Limit of the bytes of a body.
    pub body_bytes_max: usize,
}

impl MessageReader<'_> {
    /// Reads a message, packed as it came.
    pub(super) async fn read_packed(&self, held: &HeldMessage) -> Result<Items<Envelope>, Unreadable> {
        let plain = text::plain(&held.verified, self.body_bytes_max).map_err(Unreadable::Problem)?;
        self.read(held, plain.as_ref().unwrap_or(&held.verified)).await
    }

    /// Reads a message that was unpacked as `verified`. A CloudEvent of one of the bridge's types is read as one, whatever its
    /// source. Any other message is the sender's own, and so is a CloudEvent of another type: the source's mapping translates
    /// it, if there is one.
    pub(super) async fn read(&self, held: &HeldMessage, verified: &Verified) -> Result<Items<Envelope>, Unreadable> {
        let delivery = verified.delivery();
        if verified.is_signed_in_part() && cloudevents::is_binary(delivery) {
            let detail =
                "a signature covers the body alone, and not the attributes in headers: send the structured mode";
            return Err(Unreadable::Problem(Problem::new(ProblemKind::UnsupportedMediaType, detail)));
        }
        if !self.mapper.has(&delivery.source) {
            return cloudevents::read(verified, self.batch_max).map_err(Unreadable::Problem);
        }
        if !cloudevents::is_one(verified) {
            // The translator would accept more than JSON.
            json::read(verified.body()).map_err(Unreadable::Problem)?;
            let is_told_by_key = delivery.transport == Transport::Amqp && self.mapper.reads_amqp(&delivery.source);
            let type_name = held.properties.type_name.as_deref().unwrap_or_default();
            let apart = [held.routing_key.as_str(), type_name];
            let apart = if is_told_by_key { &apart[..] } else { &[] };
            let items = self.map(held, &Message::own(verified, held.message_id.as_deref(), apart)).await?;
            return Ok(Items { is_batch: items.len() != 1, items });
        }
        let found = cloudevents::find(verified, self.batch_max).map_err(Unreadable::Problem)?;
        self.read_items(held, found).await
    }

    async fn read_items(&self, held: &HeldMessage, found: Items<Item>) -> Result<Items<Envelope>, Unreadable> {
        let mut items = Vec::new();
        for item in found.items {
            match item {
                Ok(item) if item.type_name().is_some_and(is_foreign) => {
                    let item = match item.with_plain_data() {
                        Ok(item) => item,
                        Err(problem) => {
                            items.push(Err(problem));
                            continue;
                        }
                    };
                    match self.map(held, &Message::cloud_event(&item)).await {
                        Ok(mapped) => items.extend(mapped),
                        // The other events of a batch are still good.
                        Err(Unreadable::Mapping(error)) if found.is_batch && error != MapError::NoWorker => {
                            items.push(Err(mapping::problem_of(&error)));
                        }
                        Err(unreadable) => return Err(unreadable),
                    }
                }
                item => items.push(item.and_then(Item::envelope)),
            }
            if items.len() > self.batch_max.max(1) {
                let detail = format!("more than {} events come of one batch", self.batch_max);
                return Err(Unreadable::Problem(Problem::new(ProblemKind::TooLarge, detail)));
            }
        }
        Ok(Items { is_batch: found.is_batch || items.len() != 1, items })
    }

    /// Translates one message of the sender's own.
    async fn map(&self, held: &HeldMessage, message: &Message) -> Result<Vec<Result<Envelope, Problem>>, Unreadable> {
        let delivery = held.verified.delivery();
        let outputs = mapping::outputs(self.mapper, delivery, message, held.amqp_variable()).await;
        Ok(mapping::envelopes(message, &delivery.source, outputs.map_err(Unreadable::Mapping)?))
    }
}

/// `true` if a type is the sender's own. A type that differs from one of the bridge's only in case and signs is a slip, and no
/// program should pass it over.
fn is_foreign(type_name: &str) -> bool {
    !EventKind::names().iter().any(|known| control::is_same_but_for_signs(type_name, known))
}

/// Makes arrivals of the envelopes of one message.
pub(super) struct Translator<'a> {
    pub(super) types: &'a AllowedTypes,
    pub(super) held: &'a HeldMessage,
    /// The time now, without a jump of the clock.
    pub(super) trusted: Timestamp,
}

impl Translator<'_> {
    /// The event of an envelope, if the source may send it. An event without a time of its own happened when its message was
    /// sent; if that is unknown too, when it came.
    pub(super) fn event(&self, envelope: &mut Envelope, id: EventId) -> Result<SentEvent, Problem> {
        let delivery = self.held.verified.delivery();
        self.types.check(&delivery.source, &envelope.type_name)?;
        if envelope.time.is_none() {
            let sent_at = self.held.sent_at()?;
            envelope.time = sent_at.or_else(|| Some(wire::happened_by(delivery.received_at, self.trusted)));
        }
        sent::event(envelope, id, delivery.received_at, self.types.team())
    }

    /// The row of an envelope's event. One that is refused, and that the audit log records, is added to `refused`.
    pub(super) fn arrival(
        &self,
        mut envelope: Envelope,
        id: EventId,
        refused: &mut Vec<RefusedEvent>,
    ) -> Result<Arrival, Problem> {
        let delivery = self.held.verified.delivery();
        // The digest of the event's own content: by another transport the same event has no such time.
        let digest = envelope.digest();
        let event = self.event(&mut envelope, id);
        let event = event.inspect_err(|problem| refused.extend(RefusedEvent::of(&envelope, problem.kind)))?;
        Ok(Arrival {
            id,
            origin: envelope.source,
            origin_id: envelope.id,
            source: delivery.source.clone(),
            transport: delivery.transport,
            received_at: delivery.received_at,
            digest,
            raw: envelope.raw,
            envelope: envelope.beside,
            content: match event {
                SentEvent::Customer(event) => Content::Event(event),
                SentEvent::Member(event) => Content::Team(event),
            },
        })
    }
}
