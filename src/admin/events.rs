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
use crate::store::{
    AuditRecord, CustomerCard, CustomerView, EventView, FoundCustomers, OpenCursor, OpenFilter, OpenPage, OpenState,
    TimelineCursor, TimelineEntry, TimelinePage,
};

/// Limit of an e-mail address that is searched for, in bytes: that of a path in SMTP (RFC 5321), and room for blanks.
const EMAIL_BYTES_MAX: usize = 400;

/// Limit of the acts that are shown of one thing: a person acts on it a few times.
const ACTS: i64 = 20;

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
pub async fn open_events(admin: &Admin, query: OpenQuery, page: &PageQuery) -> Result<OpenPage, ApiError> {
    let OpenQuery { state, customer_id } = query;
    let no_id = || ApiError::malformed("`customer_id` is an id of a customer");
    let customer = customer_id.map(|id| CustomerId::accept(&id).ok_or_else(no_id)).transpose()?;
    let customer = customer.map(|id| id.as_str().to_owned());
    let name = state.as_deref().unwrap_or(OpenState::Pending.name());
    let state = OpenState::from_name(name)
        .ok_or_else(|| ApiError::malformed(format!("`state` is one of {}", OpenState::names().join(", "))))?;
    let (after, limit) = (page.after(OpenCursor::parse)?, page.limit()?);
    Ok(admin.store.open_events(OpenFilter { state, customer, after, limit }).await?)
}

pub(super) async fn open(
    admin: web::Data<Admin>,
    query: web::Query<OpenQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let found = open_events(&admin, query.into_inner(), &page).await?;
    let page = Page { rows: found.events, next: found.next.map(|next| next.to_string()) };
    Ok(HttpResponse::Ok().json(page.named("events")))
}

/// One event; to a viewer without its bytes.
pub async fn event_view(admin: &Admin, caller: &Caller, id: &str) -> Result<EventView, ApiError> {
    let unknown = || ApiError::not_found("no event has this id");
    let id = EventId(Uuid::parse_str(id).map_err(|_| unknown())?);
    let event = admin.store.event(id).await?.ok_or_else(unknown)?;
    Ok(if caller.sees_personal_data() { event } else { event.impersonal() })
}

pub(super) async fn event(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    Ok(HttpResponse::Ok().json(event_view(&admin, &caller, &id).await?))
}

/// The newest acts of persons and tokens on the thing of this id; to a viewer without their words.
pub async fn acts_on(admin: &Admin, caller: &Caller, id: &str) -> Result<Vec<AuditRecord>, ApiError> {
    let acts = admin.store.acts_on(id, ACTS).await?;
    Ok(if caller.sees_personal_data() { acts } else { acts.into_iter().map(AuditRecord::without_note).collect() })
}

/// The query of the search for customers.
#[derive(Deserialize, JsonSchema)]
pub struct CustomersQuery {
    /// The whole address, in letters of any case. Required.
    #[schemars(required)]
    email: Option<String>,
}

/// Customers with exactly this e-mail address.
pub async fn find_customers(admin: &Admin, email: Option<&str>) -> Result<FoundCustomers, ApiError> {
    let email = email.filter(|email| email.contains('@') && email.len() <= EMAIL_BYTES_MAX);
    let email = email.ok_or_else(|| ApiError::malformed("`email` is a whole e-mail address"))?;
    Ok(admin.store.customers_by_email(email).await?)
}

pub(super) async fn customers(admin: web::Data<Admin>, query: web::Query<CustomersQuery>) -> ApiResult {
    Ok(HttpResponse::Ok().json(find_customers(&admin, query.email.as_deref()).await?))
}

/// One customer; to a viewer without facts, and without the data of outgoing events.
pub async fn customer_view(admin: &Admin, caller: &Caller, id: &str) -> Result<CustomerView, ApiError> {
    let id = CustomerId::accept(id).ok_or_else(unheard_of)?;
    let customer = admin.store.customer(id.as_str()).await?.ok_or_else(unheard_of)?;
    Ok(if caller.sees_personal_data() { customer } else { customer.impersonal() })
}

pub(super) async fn customer(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    Ok(HttpResponse::Ok().json(customer_view(&admin, &caller, &id).await?))
}

/// The present of one customer; to a viewer without facts.
pub async fn customer_card(admin: &Admin, caller: &Caller, id: &str) -> Result<CustomerCard, ApiError> {
    let id = CustomerId::accept(id).ok_or_else(unheard_of)?;
    let card = admin.store.customer_card(id.as_str()).await?.ok_or_else(unheard_of)?;
    Ok(if caller.sees_personal_data() { card } else { card.impersonal() })
}

/// A page of what happened to one customer; to a viewer without the data of outgoing events, and without the words of persons.
pub async fn customer_timeline(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    page: &PageQuery,
) -> Result<TimelinePage, ApiError> {
    let id = CustomerId::accept(id).ok_or_else(unheard_of)?;
    let (from, limit) = (page.after(TimelineCursor::parse)?, page.limit()?);
    let mut found = admin.store.timeline(id.as_str(), from, limit).await?;
    if !caller.sees_personal_data() {
        found.entries = found.entries.into_iter().map(TimelineEntry::impersonal).collect();
    }
    Ok(found)
}

pub(super) async fn timeline(
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let found = customer_timeline(&admin, &caller, &id, &page).await?;
    if found.entries.is_empty() {
        // Of one who is known nothing may be kept any more.
        customer_card(&admin, &caller, &id).await?;
    }
    let page = Page { rows: found.entries, next: found.next.map(|next| next.to_string()) };
    Ok(HttpResponse::Ok().json(page.named("timeline")))
}

fn unheard_of() -> ApiError {
    ApiError::not_found("nothing was ever heard of this customer")
}
