//! A sender's own JSON, translated by a jq program of its source into none, one or many events.
//!
//! [`program`] compiles and runs; [`mapper`] does so in processes of their own, which can be stopped. Here is what an output
//! becomes: the attributes that it leaves out have defaults, and its identity is the message's.
//!
//! Before: [`crate::inbound::signature`]. After: [`crate::inbound::cloudevents`].

pub mod mapper;
pub mod program;
mod zip;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Delivery;
use super::cloudevents::{self, Envelope};
use super::problem::{FieldError, Problem, ProblemKind};
use super::sha256;
use super::signature::Verified;
use super::wire;
use crate::config::Source;
use crate::domain::event::Event;
use crate::domain::{EventId, Timestamp};
use crate::metrics::Door;
use mapper::{Mapper, Trouble};
pub use program::{Bounds, Fault, Program};

/// Compiles the programs of all sources; what is wrong with them, with file, line and column.
pub fn check(sources: &[Source]) -> Vec<String> {
    let maps = sources.iter().filter_map(|source| source.map.as_ref());
    maps.filter_map(|map| Program::compile(&map.path, &map.code).err()).flatten().collect()
}

/// What came of a message that was tried out.
#[derive(Debug)]
pub struct Tried {
    /// What the program gave.
    pub output: Value,
    /// What a door would make of it.
    pub event: Result<Event, Problem>,
}

/// Translates a message as the door of a webhook would, and keeps nothing.
pub async fn try_out(
    mapper: &Mapper,
    source: &str,
    headers: BTreeMap<String, String>,
    message: Vec<u8>,
    received_at: Timestamp,
) -> Result<Vec<Tried>, Trouble> {
    let outputs = mapper.map(source, visible(&headers), received_at.to_string(), &message).await?;
    let (door, source) = (Door::Webhook, source.to_owned());
    let delivery = Delivery { door, source, content_type: None, headers, body: message, received_at };
    let verified = Verified::unproven(delivery);
    let message_id = verified.name().map(str::to_owned);
    let events = envelopes(&verified, message_id.as_deref(), outputs.clone());
    let event = |read: Result<Envelope, Problem>| {
        read.and_then(|envelope| wire::event(&envelope, EventId(uuid::Uuid::nil()), received_at))
    };
    Ok(outputs.into_iter().zip(events).map(|(output, read)| Tried { output, event: event(read) }).collect())
}

/// What a program's outputs are as events. `message_id` is the sender's name of the message.
pub fn envelopes(verified: &Verified, message_id: Option<&str>, outputs: Vec<Value>) -> Vec<Result<Envelope, Problem>> {
    let (delivery, body) = (verified.delivery(), verified.body());
    let digest = sha256(body);
    let identity = message_id.unwrap_or(&digest);
    let headers = super::poison::kept(&delivery.headers);
    let beside =
        json!({"content_type": delivery.content_type, "headers": headers, "message_id": message_id}).to_string();
    let several = outputs.len() > 1;
    let mut known = BTreeSet::new();
    let read = |(number, output): (usize, Value)| {
        // The message as a whole stands with its first event; the others have what was made of it.
        let raw = if number == 0 { body.clone() } else { Bytes::from(output.to_string()) };
        let Value::Object(mut event) = output else {
            let found = cloudevents::kind_of(&output);
            let reason = format!("the mapping must give objects, found {found}; a list is opened by `.[]`");
            return Err(Problem::invalid(vec![FieldError { pointer: String::new(), reason }]));
        };
        let mut default = |name: &str, value: String| {
            let slot = event.entry(name).or_insert(Value::Null);
            if slot.is_null() {
                *slot = Value::String(value);
            }
        };
        default("specversion", "1.0".to_owned());
        default("source", format!("/{}", delivery.source));
        default("id", if several { format!("{identity}/{}", number + 1) } else { identity.to_owned() });
        event.retain(|_, value| !value.is_null());
        let beside = (number == 0).then(|| beside.clone());
        let envelope = cloudevents::envelope(Value::Object(event), raw, beside)?;
        if !known.insert((envelope.source.clone(), envelope.id.clone())) {
            let reason =
                "another output of the message has this `source` and `id`; leave `id` away, or make it another";
            return Err(Problem::invalid(vec![FieldError { pointer: "/id".to_owned(), reason: reason.to_owned() }]));
        }
        // A repeat is the same message, also where its translation has changed meanwhile or has the time of arrival in it.
        Ok(Envelope { of_message: Some(digest.clone()), ..envelope })
    };
    outputs.into_iter().enumerate().map(read).collect()
}

/// Headers that a program may see.
pub(super) fn visible(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let named = headers.iter().filter(|(name, _)| !super::poison::may_be_secret(name));
    named.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// Why a message that was not translated was not, for its sender. A helper names the kind of value that it could not read;
/// what else the program says may quote the message, so it is not repeated, and `podero-bridge test` shows it.
pub(super) fn unmappable(why: &str) -> Problem {
    let words = if program::is_a_helpers(why) { why } else { "" };
    ended_with(words)
}

/// The same for a person who has the message: with all that the program said.
pub(super) fn ended_with(words: &str) -> Problem {
    let colon = if words.is_empty() { "" } else { ": " };
    Problem::new(
        ProblemKind::Unmappable,
        format!("the mapping of this source ended with an error over it{colon}{words}"),
    )
}
