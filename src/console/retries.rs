//! Retries of many parked events: what one would cover, its order, its progress, and its stop.
//!
//! Nothing is ordered before a person has seen how many events it covers and the first of them.
//!
//! Before: the page of parked events. After: [`crate::admin`], as `/v1/parked/retry` and `/v1/parked/retries/{id}`.

use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::layout::Sheet;
use super::parked::{capped, retry_tag, table};
use super::parked_filter::{PATH, TypedFilter, command, form};
use super::parts::path_of;
use super::reasons::explanation;
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, Caller};
use crate::domain::identity::Role;
use crate::domain::verdict::Reason;
use crate::store::{BulkRetry, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedFilter, ParkedPreview};

/// The form of an order.
#[derive(Deserialize)]
pub(super) struct Order {
    #[serde(flatten)]
    filter: TypedFilter,
    per_second: u32,
    approve: Option<String>,
}

/// The preview of a retry of all events that the filter selects.
pub(super) async fn preview(visit: Visit, admin: web::Data<Admin>, typed: web::Query<TypedFilter>) -> PageResult {
    let filter = typed.into_inner().read(&visit.zone)?;
    let found = admin.store.parked_preview(&filter).await?;
    let main = html! {
        div.stack {
            (form(&visit, &filter))
            @if found.groups.is_empty() {
                section.panel { (visit.empty(words::NOTHING_MATCHES, words::NOTHING_MATCHES_NEXT)) }
            } @else {
                section.panel { (meant(&visit, &found)) }
                section.panel {
                    h2 { (visit.say(words::ORDER_RETRY)) }
                    @if found.retryable > 0 { (order_form(&visit, &filter, &capped(found.retryable, found.is_capped))) } @else { p.soft { (visit.say(words::ONLY_SKIPPED)) } }
                }
                section.panel { h2 { (visit.say(words::THE_FIRST)) } (table(&visit, &found.sample)) }
            }
        }
    };
    Ok(visit.page(Sheet::new(visit.say(words::RETRY_MANY), main).same_as(&[&command(&filter)])))
}

/// How many events are meant, by reason.
fn meant(visit: &Visit, found: &ParkedPreview) -> Markup {
    let capped = |count: u64| capped(count, found.is_capped);
    html! {
        dl.facts {
            dt { (visit.say(words::COUNT)) } dd { (capped(found.count)) }
            dt { (visit.say(words::RETRYABLE)) } dd { (capped(found.retryable)) }
            @for group in &found.groups {
                dt { code { (group.reason) } }
                dd {
                    (capped(group.count)) ": "
                    @for (kind, count) in &group.types { code { (kind) } " " (capped(*count)) " " }
                    @if let Some(reason) = Reason::from_name(&group.reason) {
                        div.small.soft { (visit.say(explanation(reason).means)) }
                    }
                }
            }
        }
    }
}

/// The order covers the events that were parked until the moment of the preview, and no later one.
fn order_form(visit: &Visit, filter: &ParkedFilter, count: &str) -> Markup {
    let is_approvable =
        filter.reason.is_some_and(Reason::is_approvable) && filter.source.is_none() && filter.since.is_none();
    html! {
        form.line method="post" action=(PATH) {
            input type="hidden" name="reason" value=[filter.reason.map(Reason::name)];
            input type="hidden" name="source" value=[filter.source.as_deref()];
            input type="hidden" name="since" value=[filter.since];
            input type="hidden" name="until" value=(filter.until.unwrap_or(visit.now));
            div.field {
                label for="per_second" { (visit.say(words::PER_SECOND)) }
                input #per_second type="number" name="per_second" min="1" max=(PER_SECOND_MAX) value=(PER_SECOND_DEFAULT) required;
            }
            @if is_approvable {
                label.check { input type="checkbox" name="approve" value="true"; " " (visit.say(words::APPROVE_ALL)) }
            }
            button.main { (visit.say_with(words::RETRY_COUNT, &[count])) }
            a.button href="/console/parked" { (visit.say(words::CANCEL)) }
        }
    }
}

/// Orders the retry.
pub(super) async fn order(visit: Visit, admin: web::Data<Admin>, caller: Caller, form: web::Form<Order>) -> PageResult {
    let Order { filter, per_second, approve } = form.into_inner();
    let filter = filter.read(&visit.zone)?;
    let order = json!({
        "reason": filter.reason.map(Reason::name),
        "source": filter.source,
        "since": filter.since.map(|since| since.to_string()),
        "until": filter.until.unwrap_or(visit.now).to_string(),
        "per_second": per_second,
        "approve": approve.is_some(),
    });
    let retry = admin::order_retry(&admin, &caller, order.to_string().as_bytes()).await?;
    Ok(see_other(&path_of("/console/retries", &retry.id)))
}

/// The progress of a retry.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    let retry = admin.store.bulk_retry(&id).await?.ok_or_else(PageError::unknown)?;
    let acts = admin::acts_on(&admin, &caller, &retry.id).await?;
    let main = html! {
        div.stack data-part="retry" {
            section.panel { (progress(&visit, &retry)) }
            @if retry.is_running() && caller.role.allows(Role::Admin) {
                form method="post" action={ (path_of("/console/retries", &retry.id)) "/stop" } {
                    button.risky { (visit.say(words::STOP)) }
                }
            }
            @if !acts.is_empty() { section.panel { h2 { (visit.say(words::ACTS_OF_OPERATORS)) } (visit.acts(&acts)) } }
        }
    };
    let commands =
        ["podero-bridge parked retry --reason REASON".to_owned(), format!("podero-bridge parked stop {}", retry.id)];
    Ok(visit
        .page(Sheet::new(visit.say(words::RETRY_MANY), main).live().same_as(&commands.each_ref().map(String::as_str))))
}

fn progress(visit: &Visit, retry: &BulkRetry) -> Markup {
    html! {
        p {
            progress max=(retry.total.max(1)) value=(retry.retried) aria-label=(visit.say(words::PROGRESS)) {}
        }
        dl.facts {
            dt { (visit.say(words::STATE)) } dd { (retry_tag(retry)) }
            dt { (visit.say(words::PROGRESS)) } dd { (retry.retried) " / " (retry.total) }
            dt { (visit.say(words::RETRY_OF)) } dd { code { (retry.reason.as_deref().unwrap_or(visit.say(words::ALL_REASONS))) } }
            dt { (visit.say(words::PER_SECOND)) } dd { (retry.per_second) }
            @if retry.approve { dt { (visit.say(words::APPROVE)) } dd { (visit.say(words::YES)) } }
            @if let Some(source) = &retry.source { dt { (visit.say(words::CAME_BY)) } dd { (source) } }
            @if let Some(since) = retry.since { dt { (visit.say(words::PARKED_FROM)) } dd { (visit.time(since)) } }
            dt { (visit.say(words::PARKED_UNTIL)) } dd { (visit.time(retry.ordered_at)) }
            @if let Some(ended) = retry.ended_at { dt { (visit.say(words::ENDED)) } dd { (visit.time(ended)) } }
        }
    }
}

/// Stops a retry.
pub(super) async fn stop(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    let retry = admin::stop_retry(&admin, &caller, &id).await?.ok_or_else(PageError::unknown)?;
    Ok(see_other(&path_of("/console/retries", &retry.id)))
}
