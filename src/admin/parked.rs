//! Parked events: listed, put back to work, given up.
//!
//! Before: an operator. After: [`crate::store`], which moves an event by compare-and-set.

use actix_web::{Error, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::access::Caller;
use super::error::{ApiError, ApiResult, whole};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::domain::audit::{NOTE_CHARS_MAX, accept_note};
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::metrics::Outcome;
use crate::problem::ProblemKind;
use crate::store::{NotTaken, ParkedFilter, RetryRequest};

/// The query of the list of parked events.
#[derive(Deserialize, JsonSchema)]
pub struct ParkedQuery {
    /// Only those.
    #[schemars(extend("enum" = Reason::names()))]
    reason: Option<String>,
}

/// A page of parked events; with the first one the groups of all of them.
pub(super) async fn list(
    admin: web::Data<Admin>,
    query: web::Query<ParkedQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let reason = query.reason.as_deref();
    reason.map(reason_of).transpose().map_err(ApiError::malformed)?;
    let (after, limit) = (page.after_id()?, page.limit()?);
    let rows = admin.store.parked_page(reason, after.as_deref(), limit).await?;
    let groups = match after {
        None => Some(admin.store.parked_groups(&ParkedFilter::default()).await?),
        Some(_) => None,
    };
    let mut answer = Page::by_id(rows, limit, |event| event.id.to_string()).named("parked");
    answer["groups"] = json!(groups);
    Ok(HttpResponse::Ok().json(answer))
}

/// The query that says which parked events are meant: the filter of an order.
#[derive(Deserialize, JsonSchema)]
pub struct ParkedFilterQuery {
    /// Only those.
    #[schemars(extend("enum" = Reason::names()))]
    reason: Option<String>,
    /// Only of this source.
    source: Option<String>,
    /// Only those that were parked at this moment or later: a date, or a time of RFC 3339.
    since: Option<String>,
    /// Only those that were parked until this moment.
    until: Option<String>,
}

impl ParkedFilterQuery {
    fn read(self) -> Result<ParkedFilter, ApiError> {
        let Self { reason, source, since, until } = self;
        filter_of(reason, source, since, until).map_err(ApiError::malformed)
    }
}

/// The filter of these words; the error says what is wrong with one.
pub(super) fn filter_of(
    reason: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
) -> Result<ParkedFilter, String> {
    let time = |name: &str, text: Option<String>| {
        let no_time = || format!("`{name}` is a date, or a time of RFC 3339");
        text.map(|text| Timestamp::parse_time_or_date(&text).ok_or_else(no_time)).transpose()
    };
    let reason = reason.map(|name| reason_of(&name)).transpose()?;
    if source.as_deref() == Some("") {
        return Err("`source` is the name of a source".to_owned());
    }
    Ok(ParkedFilter { reason, source, since: time("since", since)?, until: time("until", until)? })
}

/// Parked events by reason.
pub(super) async fn groups(admin: web::Data<Admin>, query: web::Query<ParkedFilterQuery>) -> ApiResult {
    let groups = admin.store.parked_groups(&query.into_inner().read()?).await?;
    Ok(HttpResponse::Ok().json(json!({ "groups": groups })))
}

/// The events that a retry of this filter would cover.
pub(super) async fn preview(admin: web::Data<Admin>, query: web::Query<ParkedFilterQuery>) -> ApiResult {
    Ok(HttpResponse::Ok().json(admin.store.parked_preview(&query.into_inner().read()?).await?))
}

/// The reason of this name; the error says which there are.
fn reason_of(name: &str) -> Result<Reason, String> {
    Reason::from_name(name).ok_or_else(|| format!("`reason` is one of {}", Reason::names().join(", ")))
}

/// The body of a retry of one event.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryOne {
    /// Overrides the reason for which it is parked, and no other.
    #[serde(default)]
    approve: bool,
}

impl RetryOne {
    /// An empty body is a retry without an approval.
    fn read(body: &[u8]) -> Result<Self, &'static str> {
        match body.trim_ascii() {
            b"" => Ok(Self::default()),
            body => serde_json::from_slice(body).map_err(|_| "send nothing, or `{\"approve\": true}`"),
        }
    }
}

pub(super) async fn retry(
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    body: Result<web::Bytes, Error>,
) -> ApiResult {
    let RetryOne { approve } = RetryOne::read(&whole(body)?).map_err(ApiError::malformed)?;
    let request = if approve { RetryRequest::Approve } else { RetryRequest::Retry };
    moved(&id, unpark(&admin, &caller, &id, request, None).await?)
}

/// The body of a skip.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipOne {
    /// Why, in a person's own words, for the audit log: no names and no addresses.
    #[schemars(length(min = 1, max = NOTE_CHARS_MAX))]
    note: Option<String>,
}

impl SkipOne {
    /// An empty body is a skip without a note.
    fn read(body: &[u8]) -> Result<Self, String> {
        let usage =
            || format!("send nothing, or `{{\"note\": TEXT}}` with 1 to {NOTE_CHARS_MAX} characters, on one line");
        match body.trim_ascii() {
            b"" => Ok(Self::default()),
            body => {
                let Self { note } = serde_json::from_slice(body).map_err(|_| usage())?;
                let note = note.map(|note| accept_note(&note).ok_or_else(usage)).transpose()?;
                Ok(Self { note })
            }
        }
    }
}

pub(super) async fn skip(
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    body: Result<web::Bytes, Error>,
) -> ApiResult {
    let SkipOne { note } = SkipOne::read(&whole(body)?).map_err(ApiError::malformed)?;
    moved(&id, unpark(&admin, &caller, &id, RetryRequest::Skip, note).await?)
}

/// Takes an event out of parking. Returns its state after it.
pub async fn unpark(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    request: RetryRequest,
    note: Option<String>,
) -> Result<EventState, ApiError> {
    let event = EventId(Uuid::parse_str(id).map_err(|_| ApiError::not_found("no event has this id"))?);
    let is_skip = request == RetryRequest::Skip;
    let Some(kind) = admin.store.unpark_with_note(event, request, note, &caller.actor).await? else {
        let why = admin.store.why_not_taken(event, request).await?;
        let problem = match why {
            NotTaken::Unknown => ProblemKind::NotFound,
            NotTaken::NotParked(_) | NotTaken::NotWhole => ProblemKind::NotParked,
            NotTaken::InProgress => ProblemKind::InProgress,
            NotTaken::NotApprovable(_) => ProblemKind::NotApprovable,
        };
        return Err(ApiError::new(problem, why.to_string()));
    };
    if is_skip {
        admin.metrics.event_settled(kind.sent(), Outcome::Skipped);
    } else {
        admin.wake.notify_one();
    }
    let state = if is_skip { EventState::Skipped } else { EventState::Pending };
    tracing::info!(by = %caller.actor, event.id = %event, %state, "an event was taken out of parking");
    Ok(state)
}

fn moved(id: &str, state: EventState) -> ApiResult {
    Ok(HttpResponse::Ok().json(json!({ "id": id, "state": state })))
}
