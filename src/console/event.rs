//! One event: its state and why, the calls that were made, the bytes that came; and, if it is parked, the ways out.
//!
//! Before: a list, or an alert. After: [`crate::admin`], as `/v1/events/{id}` and the routes of `/v1/parked/{id}`.

use actix_web::http::StatusCode;
use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::customer::why;
use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::layout::Sheet;
use super::parts::{customer_link, path_of, state_tag};
use super::reasons::explanation;
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, Caller};
use crate::domain::audit::{NOTE_CHARS_MAX, accept_note};
use crate::domain::event::EventState;
use crate::domain::identity::Role;
use crate::domain::verdict::Reason;
use crate::store::{EventSummary, EventView, RetryRequest};

/// The query of the page.
#[derive(Deserialize)]
pub(super) struct AfterAct {
    /// Given after an act.
    done: Option<String>,
}

/// The form of a skip.
#[derive(Deserialize)]
pub(super) struct SkipForm {
    note: Option<String>,
}

/// The page.
pub(super) async fn page(
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    query: web::Query<AfterAct>,
) -> PageResult {
    let view = admin::event_view(&admin, &caller, &id).await?;
    let event = &view.event;
    let acts = admin::acts_on(&admin, &caller, &event.id.to_string()).await?;
    let main = html! {
        div.stack {
            @if query.done.is_some() { p.note.good role="status" { (visit.say(words::ACT_DONE)) } }
            @if event.state == EventState::Parked { (parked(&visit, event, &caller)) }
            section.panel { (summary(&visit, event)) }
            section.panel {
                h2 { (visit.say(words::CALLS_TO_PODERO)) }
                @if view.calls.is_empty() { p.soft { (visit.say(words::NO_CALLS)) } } @else { (visit.calls(&view.calls)) }
            }
            (received(&visit, &view, &caller))
            @if !acts.is_empty() {
                section.panel { h2 { (visit.say(words::ACTS_OF_OPERATORS)) } (visit.acts(&acts)) }
            }
        }
    };
    let commands = [
        format!("podero-bridge events show {}", event.id),
        format!("podero-bridge parked retry {}", event.id),
        format!("podero-bridge parked skip {} --note TEXT", event.id),
    ];
    let count = if event.state == EventState::Parked { 3 } else { 1 };
    let commands: Vec<&str> = commands.iter().take(count).map(String::as_str).collect();
    Ok(visit.page(Sheet::new(event.kind.name(), main).same_as(&commands)))
}

/// The reason of parking in words, the next step, and the forms of those who may act.
fn parked(visit: &Visit, event: &EventSummary, caller: &Caller) -> Markup {
    let reason = event.reason.as_deref().and_then(Reason::from_name);
    let path = |act: &str| format!("{}/{act}", path_of("/console/events", &event.id.to_string()));
    html! {
        section.panel {
            h2 { (visit.say(words::PARKED_ABOUT)) }
            (why(visit, event))
            @if let Some(reason) = reason {
                p { strong { (visit.say(words::NEXT_STEP)) } " " (visit.say(explanation(reason).advice)) }
            }
            @if caller.role.allows(Role::Admin) {
                div.stack {
                    div.pages {
                        form method="post" action=(path("retry")) { button.main { (visit.say(words::RETRY)) } }
                        @if reason.is_some_and(Reason::is_approvable) {
                            form method="post" action=(path("approve")) { button { (visit.say(words::APPROVE)) } }
                        }
                    }
                    form.line method="post" action=(path("skip")) {
                        div.field {
                            label for="note" { (visit.say(words::NOTE)) }
                            input #note name="note" maxlength=(NOTE_CHARS_MAX) size="48" autocomplete="off";
                        }
                        button.risky { (visit.say(words::SKIP_EVENT)) }
                    }
                    p.small.soft { (visit.say(words::ACTS_MEAN)) }
                }
            } @else { p.soft { (visit.say(words::FOR_ADMINS)) } }
        }
    }
}

fn summary(visit: &Visit, event: &EventSummary) -> Markup {
    html! {
        dl.facts {
            dt { (visit.say(words::STATE)) } dd { (state_tag(event.state)) @if event.state != EventState::Parked { (why(visit, event)) } }
            dt { (visit.say(words::ID)) } dd { span.id { (event.id) } }
            dt { (visit.say(words::WHOSE)) }
            dd {
                @if let Some(id) = &event.customer_id { (customer_link(id)) }
                @else if let Some(id) = &event.member_id { (id) }
                @else { "–" }
            }
            dt { (visit.say(words::CAME_BY)) } dd { (event.source) " · " (event.transport) }
            dt { (visit.say(words::ORIGIN)) } dd { span.id { (event.origin) " " (event.origin_id) } }
            dt { (visit.say(words::HAPPENED)) } dd { (visit.time(event.time)) }
            dt { (visit.say(words::ARRIVED)) } dd { (visit.time(event.received_at)) }
            @if let Some(settled) = event.settled_at { dt { (visit.say(words::SETTLED)) } dd { (visit.time(settled)) } }
            @else { dt { (visit.say(words::NEXT_TRY)) } dd { (visit.time(event.due_at)) } }
            @if event.failures > 0 { dt { (visit.say(words::FAILURES)) } dd { (event.failures) } }
        }
    }
}

/// The bytes as they came; a viewer is told who sees them.
fn received(visit: &Visit, view: &EventView, caller: &Caller) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::RECEIVED)) }
            @if !caller.sees_personal_data() { p.soft { (visit.say(words::FOR_SUPPORT)) } }
            @else if let Some(original) = view.original.as_ref().filter(|original| !original.raw.is_empty()) {
                details {
                    summary { (visit.say(words::RECEIVED_SHOW)) " (" (original.raw.len()) " " (original.raw_encoding) ")" }
                    pre { (original.raw) }
                    @if let Some(envelope) = &original.envelope {
                        h3 { (visit.say(words::ENVELOPE)) }
                        pre { (serde_json::to_string_pretty(envelope).unwrap_or_default()) }
                    }
                }
            }
            @else { p.soft { (visit.say(words::NOT_KEPT)) } }
        }
    }
}

/// Puts a parked event back to work.
pub(super) async fn retry(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    move_on(&admin, &caller, &id, RetryRequest::Retry, None).await
}

/// Approves a parked event.
pub(super) async fn approve(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    move_on(&admin, &caller, &id, RetryRequest::Approve, None).await
}

/// Gives a parked event up, with the reason in a person's own words.
pub(super) async fn skip(
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    form: web::Form<SkipForm>,
) -> PageResult {
    let given = form.into_inner().note.filter(|note| !note.trim().is_empty());
    let unfit = || PageError::of(StatusCode::BAD_REQUEST).with(words::NOTE_UNFIT, &[&NOTE_CHARS_MAX.to_string()]);
    let note = given.map(|note| accept_note(&note).ok_or_else(unfit)).transpose()?;
    move_on(&admin, &caller, &id, RetryRequest::Skip, note).await
}

async fn move_on(admin: &Admin, caller: &Caller, id: &str, request: RetryRequest, note: Option<String>) -> PageResult {
    admin::unpark(admin, caller, id, request, note).await?;
    Ok(see_other(&format!("{}?done=1", path_of("/console/events", id))))
}
