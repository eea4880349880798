//! Events that are not done and why they wait; one event, and one customer, with all that happened.
//!
//! Before: an operator who asks what a backlog is made of, or what became of an event. After: [`crate::store`].

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::access::Caller;
use super::error::{ApiError, ApiResult};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::domain::{CustomerId, EventId};
use crate::store::{OpenCursor, OpenFilter, OpenState};

/// The query of the list of events that are not done.
#[derive(Deserialize, JsonSchema)]
pub struct OpenQuery {
    /// Only those.
    #[schemars(extend("enum" = OpenState::names(), "default" = OpenState::Pending.name()))]
    state: Option<String>,
    /// Only this customer's.
    customer_id: Option<String>,
}

/// A page of events that are not done, the longest waiting first.
pub(super) async fn open(
    admin: web::Data<Admin>,
    query: web::Query<OpenQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let OpenQuery { state, customer_id } = query.into_inner();
    let no_id = || ApiError::malformed("`customer_id` is an id of a customer");
    let customer = customer_id.map(|id| CustomerId::accept(&id).ok_or_else(no_id)).transpose()?;
    let customer = customer.map(|id| id.as_str().to_owned());
    let name = state.as_deref().unwrap_or(OpenState::Pending.name());
    let state = OpenState::from_name(name)
        .ok_or_else(|| ApiError::malformed(format!("`state` is one of {}", OpenState::names().join(", "))))?;
    let (after, limit) = (page.after(OpenCursor::parse)?, page.limit()?);
    let found = admin.store.open_events(OpenFilter { state, customer, after, limit }).await?;
    let page = Page { rows: found.events, next: found.next.map(|next| next.to_string()) };
    Ok(HttpResponse::Ok().json(page.named("events")))
}

/// One event; to a viewer without its bytes.
pub(super) async fn event(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("no event has this id");
    let id = EventId(Uuid::parse_str(&id).map_err(|_| unknown())?);
    let event = admin.store.event(id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(if caller.sees_personal_data() { event } else { event.impersonal() }))
}

/// One customer; to a viewer without facts, and without the data of outgoing events.
pub(super) async fn customer(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("nothing was ever heard of this customer");
    let id = CustomerId::accept(&id).ok_or_else(unknown)?;
    let customer = admin.store.customer(id.as_str()).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(if caller.sees_personal_data() { customer } else { customer.impersonal() }))
}
