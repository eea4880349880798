//! The calls that a retry of a parked event would make: a rehearsal, in which nothing is sent.
//!
//! Before: an operator who is about to retry. After: [`crate::store`] has the event, [`crate::podero`] rehearses it.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::{ApiError, ApiResult};
use super::state::Admin;
use crate::domain::EventId;
use crate::podero::{Rehearsed, RehearsedCall, rehearsed, rehearsed_of_member};
use crate::problem::ProblemKind;
use crate::store::Rehearsable;

/// Outcome of a message, whose retry begins at the beginning.
const READ_AGAIN: &str = "it never became an event: its retry reads it again, by the present mapping and limits";

/// A rehearsal of a retry.
#[derive(Serialize, JsonSchema)]
pub struct RehearsalView {
    /// The end of the event, if Podero says yes to everything.
    outcome: String,
    /// Events of the same customer or member that are pending: those that happened before come first.
    pending: u64,
    /// The requests to Podero, in order.
    calls: Vec<RehearsalCall>,
    /// The types of the outgoing events.
    tells: Vec<&'static str>,
}

/// A request of a rehearsal.
#[derive(Serialize, JsonSchema)]
pub struct RehearsalCall {
    /// Its name.
    operation: &'static str,
    /// Of HTTP.
    method: String,
    /// And query; `<user>`, `<building>` and `<org>` stand for ids that only Podero knows.
    path: String,
    /// Whether it is sent with a key, by which Podero knows its repeat.
    idempotency_key: bool,
    /// As it would be sent; null: it has none.
    #[schemars(with = "Option<Map<String, Value>>")]
    body: Option<Value>,
}

impl From<RehearsedCall> for RehearsalCall {
    fn from(call: RehearsedCall) -> Self {
        let RehearsedCall { operation, method, path, idempotency_key, body } = call;
        Self { operation, method, path, idempotency_key, body }
    }
}

impl RehearsalView {
    fn of(rehearsed: Rehearsed, pending: u64) -> Self {
        let Rehearsed { outcome, calls, tells } = rehearsed;
        Self { outcome, pending, calls: calls.into_iter().map(RehearsalCall::from).collect(), tells }
    }
}

/// Rehearses the retry of a parked event.
pub(super) async fn rehearse(admin: web::Data<Admin>, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("no event has this id");
    let id = EventId(Uuid::parse_str(&id).map_err(|_| unknown())?);
    let (found, pending) = admin.store.rehearsable(id).await?.ok_or_else(unknown)?;
    let now = admin.clock.now();
    let rehearsed = match found {
        Rehearsable::Customer(event, known) => rehearsed(event, known, now, &admin.policy),
        Rehearsable::Member(event, known) => rehearsed_of_member(event, known, now, &admin.policy),
        Rehearsable::Message => Rehearsed { outcome: READ_AGAIN.to_owned(), calls: Vec::new(), tells: Vec::new() },
        Rehearsable::NotParked(state) => {
            let detail = format!("it is not parked; its state is {state}");
            return Err(ApiError::new(ProblemKind::NotParked, detail));
        }
    };
    Ok(HttpResponse::Ok().json(RehearsalView::of(rehearsed, pending)))
}
