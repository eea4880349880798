//! A sender's own JSON, translated by a jq program of its source into none, one or many events.
//!
//! [`program`] compiles and runs; [`mapper`] does so in processes of their own, which can be stopped. This file makes events of
//! the outputs: attributes that an output leaves out have defaults, and its identity is the message's.
//!
//! Before: [`crate::inbound::signature`]. After: [`crate::inbound::cloudevents`].

pub mod mapper;
mod nesting;
pub mod program;
mod zip;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::cloudevents::{self, Envelope, Item};
use super::delivery::{Delivery, sha256};
use super::sent;
use super::signature::Verified;
use crate::config::Source;
use crate::domain::EventId;
use crate::domain::team::TeamPolicy;
use crate::domain::work::SentEvent;
use crate::problem::{Problem, ProblemKind};
use mapper::{MapError, Mapper};
pub use program::{OutputBounds, Program, ProgramFault, Variables};

/// Compiles the programs of all sources; returns their errors, with file, line and column.
pub fn check(sources: &[Source]) -> Vec<String> {
    let maps = sources.iter().filter_map(|source| source.map.as_ref());
    maps.filter_map(|map| Program::compile(&map.path, &map.code).err()).flatten().collect()
}

/// One event of a message that was tried out.
#[derive(Debug)]
pub struct Tried {
    /// The program's output.
    pub output: Value,
    /// The event that the bridge would make of it.
    pub event: Result<SentEvent, Problem>,
}

/// Translates a message as the webhook endpoint would, and keeps nothing. `amqp` is the value of `$amqp`.
pub async fn try_out(mapper: &Mapper, delivery: Delivery, amqp: Value) -> Result<Vec<Tried>, MapError> {
    let verified = Verified::unchecked(delivery);
    let message = Message::read(&verified);
    let delivery = verified.delivery();
    let outputs = outputs(mapper, delivery, &message, amqp).await?;
    let events = envelopes(&message, &delivery.source, outputs.clone());
    // Of the policy of a team what no setting allows.
    let team = TeamPolicy { is_enabled: true, ..TeamPolicy::default() };
    let event = |read: Result<Envelope, Problem>| {
        read.and_then(|envelope| sent::event(&envelope, EventId(uuid::Uuid::nil()), delivery.received_at, Some(&team)))
    };
    Ok(outputs.into_iter().zip(events).map(|(output, read)| Tried { output, event: event(read) }).collect())
}

/// The outputs of the source's program over a message. `amqp` is the value of `$amqp`.
pub(super) async fn outputs(
    mapper: &Mapper,
    delivery: &Delivery,
    message: &Message,
    amqp: Value,
) -> Result<Vec<Value>, MapError> {
    let Delivery { source, headers, received_at, .. } = delivery;
    let variables = Variables { headers: visible(headers), received_at: received_at.to_string(), amqp };
    mapper.map(source, variables, &message.body).await
}

/// A message for a program: the sender's own JSON, or a CloudEvent of a type that is the sender's own.
#[derive(Debug)]
pub struct Message {
    /// The program's input.
    pub body: Bytes,
    /// The bytes as they came, which are kept.
    raw: Bytes,
    /// Headers and properties that came with them, as JSON.
    beside: Option<String>,
    /// Its identity, from which those of its events are made.
    identity: String,
    /// Attributes of its events unless the program gives others: of a CloudEvent its `source` and `time`.
    defaults: Vec<(&'static str, String)>,
    /// The digest, which a repeat shares.
    digest: String,
}

impl Message {
    /// A message that is no CloudEvent. `message_id` is the sender's name of it; `apart` distinguishes it from another one with
    /// the same bytes.
    pub fn own(verified: &Verified, message_id: Option<&str>, apart: &[&str]) -> Self {
        let (delivery, body) = (verified.delivery(), verified.body());
        let digest = match apart {
            [] => sha256(body),
            // Texts of JSON, so that two lists never look the same.
            apart => sha256(&[json!(apart).to_string().as_bytes(), body].concat()),
        };
        let headers = super::held::kept(&delivery.headers);
        let beside = json!({"content_type": delivery.content_type, "headers": headers, "message_id": message_id});
        Self {
            body: body.clone(),
            raw: body.clone(),
            beside: Some(beside.to_string()),
            identity: message_id.unwrap_or(&digest).to_owned(),
            defaults: Vec::new(),
            digest,
        }
    }

    /// A CloudEvent: the program gets it in the structured form, whatever its mode was.
    pub fn cloud_event(item: &Item) -> Self {
        // Keys are sorted, so the same event in another mode or with other white space has the same text.
        let structured = item.value.to_string();
        let digest = sha256(structured.as_bytes());
        // A structured one keeps its own bytes: a number in them may have more digits than a value holds.
        let is_as_sent = item.beside.is_none() && !item.is_decoded;
        let body = if is_as_sent { item.raw.clone() } else { structured.into() };
        let text = |name: &str| item.value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let defaults = ["source", "time"].into_iter().filter_map(|name| Some((name, text(name)?.to_owned())));
        Self {
            body,
            raw: item.raw.clone(),
            beside: item.beside.clone(),
            identity: text("id").map_or_else(|| digest.clone(), str::to_owned),
            defaults: defaults.collect(),
            digest,
        }
    }

    /// Either kind, from a message without headers that tell them apart.
    fn read(verified: &Verified) -> Self {
        let value = super::json::read(verified.body()).ok().filter(|value| value.get("specversion").is_some());
        match value {
            Some(value) => Self::cloud_event(&Item::structured(value, verified.body().clone())),
            None => Self::own(verified, verified.name(), &[]),
        }
    }
}

/// Reads a program's outputs as events of the source.
pub fn envelopes(message: &Message, source: &str, outputs: Vec<Value>) -> Vec<Result<Envelope, Problem>> {
    let several = outputs.len() > 1;
    let mut known = BTreeSet::new();
    let mut read = |number: usize, output: Value| {
        // The message as a whole is kept with its first event; the others have only their output.
        let raw = if number == 0 { message.raw.clone() } else { Bytes::from(output.to_string()) };
        let Value::Object(mut event) = output else {
            let found = cloudevents::kind_of(&output);
            let reason = format!("the mapping must give objects, found {found}; a list is opened by `.[]`");
            return Err(Problem::of_field("", reason));
        };
        let mut default = |name: &str, value: String| {
            let slot = event.entry(name).or_insert(Value::Null);
            if slot.is_null() {
                *slot = Value::String(value);
            }
        };
        default("specversion", "1.0".to_owned());
        for (name, value) in &message.defaults {
            default(name, value.clone());
        }
        default("source", format!("/{source}"));
        let identity = &message.identity;
        default("id", if several { format!("{identity}/{}", number + 1) } else { identity.clone() });
        event.retain(|_, value| !value.is_null());
        let beside = message.beside.clone().filter(|_| number == 0);
        let envelope = cloudevents::envelope(Value::Object(event), raw, beside)?;
        if !known.insert((envelope.source.clone(), envelope.id.clone())) {
            let reason =
                "another output of the message has this `source` and `id`; leave `id` away, or make it another";
            return Err(Problem::of_field("/id", reason));
        }
        // A repeat is the same message, even if its translation has changed meanwhile or has the time of arrival in it.
        Ok(Envelope { of_message: Some(message.digest.clone()), ..envelope })
    };
    outputs.into_iter().enumerate().map(|(number, output)| read(number, output)).collect()
}

/// Headers that a program may see.
fn visible(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let named = headers.iter().filter(|(name, _)| !super::held::may_be_secret(name));
    named.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// The problem of a message that was not translated, for its sender. A helper names the kind of value that it could not read;
/// the program's other texts may quote the message, so they are not repeated, and `podero-bridge test` shows them.
pub(super) fn problem_of(error: &MapError) -> Problem {
    match error {
        MapError::Failed(why) => ended_with(if program::is_a_helpers(why) { why } else { "" }),
        MapError::Unbounded(why) => Problem::new(ProblemKind::Unmappable, *why),
        MapError::NoWorker => Problem::new(ProblemKind::Unavailable, "no worker for mappings could be started"),
    }
}

/// The problem of a message that was not translated, for an operator who has the message: with the program's whole text.
pub(super) fn ended_with(words: &str) -> Problem {
    let colon = if words.is_empty() { "" } else { ": " };
    Problem::new(
        ProblemKind::Unmappable,
        format!("the mapping of this source ended with an error over it{colon}{words}"),
    )
}
