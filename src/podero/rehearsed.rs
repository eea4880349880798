//! A rehearsal of an event as a person reads it: the requests that it would make of Podero, and its end. Nothing is sent.
//!
//! Before: [`crate::domain::rehearsal`] plays the event. After: [`crate::cli`] and [`crate::admin`] show it.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::client::{CallPreview, preview, preview_of_member};
use crate::domain::Timestamp;
use crate::domain::call::Operation;
use crate::domain::customer::Customer;
use crate::domain::event::Event;
use crate::domain::plan::{Policy, Work};
use crate::domain::rehearsal::{placeholder, rehearse};
use crate::domain::team::{MemberWork, TeamEvent, TeamMember, rehearse_member};
use crate::domain::verdict::Fate;

/// The rehearsal of an event, in words.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// The end of the event.
    pub outcome: String,
    /// The requests, in order.
    pub calls: Vec<RehearsedCall>,
    /// The types of the outgoing events.
    pub tells: Vec<&'static str>,
}

/// A request that would be made. Ids that only Podero can give stand as `<user>`, `<building>` and `<org>`.
#[derive(Debug, Clone, Serialize)]
pub struct RehearsedCall {
    /// Name of the call.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// True if it is sent with a key, by which Podero knows its repeat.
    pub idempotency_key: bool,
    /// The body, if it has one.
    pub body: Option<Value>,
}

/// Rehearses an event of a customer of whom this is known.
pub fn rehearsed(event: Event, known: Customer, now: Timestamp, policy: &Policy) -> Rehearsed {
    let (id, effective_at) = (event.id, event.effective_at);
    let rehearsal = rehearse(Work::new(event, now, known), now, policy);
    let calls = rehearsal.calls.iter();
    let calls = calls.map(|call| shown(call.operation(), preview(call), call.idempotency_key(id).is_some()));
    Rehearsed {
        outcome: outcome(effective_at, rehearsal.fate.as_ref(), now),
        calls: calls.collect(),
        tells: rehearsal.topics.iter().map(|topic| topic.name()).collect(),
    }
}

/// Rehearses an event of a member of whom this is known. Whether the policy allows it depends on the list of the staff, which is not
/// asked for.
pub fn rehearsed_of_member(event: TeamEvent, known: TeamMember, now: Timestamp, policy: &Policy) -> Rehearsed {
    let (id, effective_at) = (event.id, event.effective_at);
    let rehearsal = rehearse_member(MemberWork::new(event, now, known), now, policy);
    let calls = rehearsal.calls.iter();
    let calls = calls.map(|call| shown(call.operation(), preview_of_member(call), call.idempotency_key(id).is_some()));
    Rehearsed {
        outcome: outcome(effective_at, rehearsal.fate.as_ref(), now),
        calls: calls.collect(),
        tells: rehearsal.topics.iter().map(|topic| topic.name()).collect(),
    }
}

fn shown(operation: Operation, call: CallPreview, has_key: bool) -> RehearsedCall {
    RehearsedCall {
        operation: operation.name(),
        method: call.method,
        path: named(&call.path),
        idempotency_key: has_key,
        body: call.body.map(|body| named_in(&body)),
    }
}

fn outcome(effective_at: Option<Timestamp>, fate: Option<&Fate>, now: Timestamp) -> String {
    let ahead = effective_at.filter(|at| *at > now);
    let when = ahead.map(|at| format!("on {at}, unless a later word replaces it: ")).unwrap_or_default();
    let what = match fate {
        Some(Fate::Applied { stale }) if stale.is_empty() => "applied".to_owned(),
        Some(Fate::Applied { stale }) => format!("applied, but for what something newer says: {}", stale.join(", ")),
        Some(Fate::Superseded) => "superseded: something newer says otherwise, or it says nothing".to_owned(),
        Some(Fate::Waiting { until }) => format!("waits for the sign-up, or the join, until {until}"),
        Some(Fate::Parked { reason, detail }) => format!("parked: {} {detail}", reason.name()),
        Some(Fate::Retry { setback, .. }) => format!("tried again: {}", setback.name()),
        None => "no end within the bound of calls".to_owned(),
    };
    format!("{when}{what}")
}

/// Replaces the ids that only Podero can give, and the id of the organisation, by placeholders.
fn named(text: &str) -> String {
    let known = [(placeholder("user"), "<user>"), (placeholder("building"), "<building>"), (Uuid::nil(), "<org>")];
    known.iter().fold(text.to_owned(), |text, (id, name)| text.replace(&id.to_string(), name))
}

fn named_in(body: &Value) -> Value {
    match body {
        Value::String(text) => Value::String(named(text)),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), named_in(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(named_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => body.clone(),
    }
}
