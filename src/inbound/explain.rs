//! Reads a message as the bridge would on its arrival, for an operator who asks. Nothing is kept.
//!
//! Before: [`crate::cli`]. After: [`crate::domain::rehearsal`].

use std::collections::BTreeMap;

use super::delivery::Delivery;
use super::held::HeldMessage;
use super::reader::{MessageReader, Translator, Unreadable};
use super::signature::{self, Verified};
use super::types::AllowedTypes;
use crate::config::{Source, Verify};
use crate::domain::EventId;
use crate::domain::event::Transport;
use crate::domain::team::TeamPolicy;
use crate::domain::work::SentEvent;
use crate::problem::Problem;

/// The result of checking the proof that the source demands.
#[derive(Debug, Clone, PartialEq)]
pub enum ProofCheck {
    /// The source demands no proof.
    NotDemanded,
    /// The proof is valid.
    Given,
    /// The proof is missing or not valid.
    Refused(Problem),
}

/// One event of a message.
#[derive(Debug)]
pub struct Explained {
    /// The sender's identity of it: CloudEvents `source` and `id`.
    pub identity: Option<(String, String)>,
    /// The event, or the problem with it.
    pub event: Result<SentEvent, Problem>,
}

/// Checks the proof, and reads the message whether the proof is valid or not. `from_queue` are the properties of a message from
/// the queue, by the names of `$amqp`. The inner error is about the message as a whole.
pub async fn explain(
    source: &Source,
    team: &TeamPolicy,
    reader: MessageReader<'_>,
    delivery: Delivery,
    from_queue: &BTreeMap<String, String>,
    id: EventId,
) -> (ProofCheck, Result<Vec<Explained>, Unreadable>) {
    let now = delivery.received_at;
    if delivery.body.len() > reader.body_bytes_max {
        let problem = Problem::too_large(reader.body_bytes_max);
        return (ProofCheck::NotDemanded, Err(Unreadable::Problem(problem)));
    }
    let is_from_queue = delivery.transport == Transport::Amqp;
    let (proof, verified) = match signature::verify(&source.verify, delivery.clone(), now) {
        _ if is_from_queue => (ProofCheck::NotDemanded, Verified::unchecked(delivery)),
        Ok(verified) if matches!(source.verify, Verify::None) => (ProofCheck::NotDemanded, verified),
        Ok(verified) => (ProofCheck::Given, verified),
        Err(problem) => (ProofCheck::Refused(problem), Verified::unchecked(delivery)),
    };
    let held = match HeldMessage::answered(verified).with(from_queue) {
        Ok(held) => held,
        Err(problem) => return (proof, Err(Unreadable::Problem(problem))),
    };
    let types = AllowedTypes::of(std::slice::from_ref(source)).with_team(team);
    let translator = Translator { types: &types, held: &held, trusted: now };
    let read = reader.read_packed(&held).await.map(|read| {
        let explained = read.items.into_iter().map(|envelope| Explained {
            identity: envelope.as_ref().ok().map(|envelope| (envelope.source.clone(), envelope.id.clone())),
            event: envelope.and_then(|mut envelope| translator.event(&mut envelope, id)),
        });
        explained.collect()
    });
    (proof, read)
}
