//! What a door would make of a message, for a person who asks. Nothing is kept.
//!
//! Before: [`crate::cli`]. After: [`crate::domain::rehearsal`].

use super::cloudevents::{self, Read};
use super::mapping::mapper::{Mapper, Trouble};
use super::mapping::{self};
use super::problem::Problem;
use super::signature::{self, Verified};
use super::{Delivery, wire};
use crate::config::{Source, Verify};
use crate::domain::EventId;
use crate::domain::event::Event;

/// Whether the source's demand is met.
#[derive(Debug, Clone, PartialEq)]
pub enum Proof {
    /// It demands nothing.
    NotDemanded,
    /// It is.
    Given,
    /// It is not.
    Refused(Problem),
}

/// What one event of a message would be.
#[derive(Debug)]
pub struct Explained {
    /// The sender's identity of it: CloudEvents `source` and `id`.
    pub identity: Option<(String, String)>,
    /// The event, or what is wrong with it.
    pub event: Result<Event, Problem>,
}

/// Looks at the proof, and reads the message whether it is there or not. The inner error is about the message as a whole.
pub async fn explain(
    (source, mapper): (&Source, &Mapper),
    delivery: Delivery,
    id: EventId,
    (batch_max, body_bytes_max): (usize, usize),
) -> (Proof, Result<Vec<Explained>, Refused>) {
    let now = delivery.received_at;
    let proof = match (&source.verify, signature::verify(&source.verify, delivery.clone(), now)) {
        (Verify::None, _) => Proof::NotDemanded,
        (_, Ok(_)) => Proof::Given,
        (_, Err(problem)) => Proof::Refused(problem),
    };
    if delivery.body.len() > body_bytes_max {
        return (proof, Err(Refused::Problem(Problem::too_large(body_bytes_max))));
    }
    let verified = Verified::unproven(delivery);
    let read = read(&verified, mapper, batch_max).await.map(|envelopes| {
        let explained = envelopes.into_iter().map(|envelope| Explained {
            identity: envelope.as_ref().ok().map(|envelope| (envelope.source.clone(), envelope.id.clone())),
            event: envelope.and_then(|envelope| wire::event(&envelope, id, now)),
        });
        explained.collect()
    });
    (proof, read)
}

/// Why there is no event at all.
#[derive(Debug)]
pub enum Refused {
    /// What a webhook's sender would be told.
    Problem(Problem),
    /// The mapping could not cope with it.
    Trouble(Trouble),
}

async fn read(
    verified: &Verified,
    mapper: &Mapper,
    batch_max: usize,
) -> Result<Vec<Result<cloudevents::Envelope, Problem>>, Refused> {
    let delivery = verified.delivery();
    if !mapper.has(&delivery.source) || cloudevents::is_one(delivery) {
        return match cloudevents::read(verified, batch_max) {
            Ok(Read::One(item)) => Ok(vec![item]),
            Ok(Read::Batch(items)) => Ok(items),
            Err(problem) => Err(Refused::Problem(problem)),
        };
    }
    cloudevents::parse::<serde::de::IgnoredAny>(verified.body()).map_err(Refused::Problem)?;
    let headers = mapping::visible(&delivery.headers);
    let received_at = delivery.received_at.to_string();
    let outputs = mapper.map(&delivery.source, headers, received_at, verified.body()).await;
    Ok(mapping::envelopes(verified, verified.name(), outputs.map_err(Refused::Trouble)?))
}
