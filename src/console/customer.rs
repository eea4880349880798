//! One customer: the facts, the heat pumps, and the timeline of all that happened, with the reason of each.
//!
//! Before: a search, or a link from a list. After: [`crate::admin`], as `/v1/customers/{id}` and `/v1/customers/{id}/timeline`.

use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::PageResult;
use super::layout::Sheet;
use super::parts::{
    alert_tag, event_link, path_of, pump_link, pump_state_tag, shell_argument, state_tag, tone, with_query,
};
use super::reasons::explanation;
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, Caller, PageQuery};
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::store::{AuditRecord, CustomerCard, EventSummary, PumpView, TimelineEntry, TimelineEvent};

/// Entries of a page of the timeline.
const ENTRIES: i64 = 25;

/// The query of the page.
#[derive(Deserialize)]
pub(super) struct TimelineQuery {
    /// The place at which the page of the timeline begins.
    after: Option<String>,
}

/// The page.
pub(super) async fn page(
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    from: web::Query<TimelineQuery>,
) -> PageResult {
    let customer = admin::customer_card(&admin, &caller, &id).await?;
    let is_first = from.after.is_none();
    let query = PageQuery::of(from.into_inner().after, ENTRIES);
    let shown = admin::customer_timeline(&admin, &caller, &customer.customer_id, &query).await?;
    let path = path_of("/console/customers", &customer.customer_id);
    let next = shown.next.map(|next| with_query(&path, &[("after", Some(&next.to_string()))]));
    let main = html! {
        div.stack data-part="customer" {
            @if is_first {
                (pumps(&visit, &customer.heat_pumps))
                (facts(&visit, &customer, &caller))
            }
            section.panel {
                h2 { (visit.say(words::TIMELINE)) }
                @if shown.entries.is_empty() { (visit.empty(words::NOTHING_HAPPENED, words::NOTHING_HAPPENED_NEXT)) }
                ol.timeline { @for entry in &shown.entries { (shown_entry(&visit, entry)) } }
                (visit.further(next))
            }
        }
    };
    let commands = [
        format!("podero-bridge customers show {}", shell_argument(&customer.customer_id)),
        format!("curl http://127.0.0.1:9090/v1{}/timeline", path.trim_start_matches("/console")),
    ];
    let title = format!("{} {}", visit.say(words::CUSTOMER), customer.customer_id);
    Ok(visit.page(Sheet::new(&title, main).live().same_as(&commands.each_ref().map(String::as_str))))
}

fn shown_entry(visit: &Visit, entry: &TimelineEntry) -> Markup {
    match entry {
        TimelineEntry::Event(entry) => {
            let TimelineEvent { event, calls, acts } = &**entry;
            html! { li class=(tone(event.state)) {
                div.first {
                    code { (event.kind.name()) }
                    (state_tag(event.state))
                    (event_link(&event.id.to_string()))
                    (visit.time(event.received_at))
                }
                (why(visit, event))
                @if !calls.is_empty() {
                    details {
                        summary.small { (calls.len()) " " (visit.say(words::CALLS)) }
                        (visit.calls(calls))
                    }
                }
                @for row in acts { (act(visit, row)) }
            } }
        }
        TimelineEntry::Notice(notice) => html! {
            li {
                div.first {
                    span.soft { "→ " } code { (notice.topic) }
                    span.tag { (notice.target) " · " (notice.state.name()) }
                    (visit.time(notice.created_at))
                }
                @if let Some(outcome) = &notice.outcome { p.small.soft { (outcome) } }
                @if let Some(data) = notice.data.as_ref() {
                    details {
                        summary.small { (visit.say(words::DATA_SENT)) }
                        pre { (serde_json::to_string_pretty(&data.0).unwrap_or_default()) }
                    }
                }
            }
        },
        TimelineEntry::Act(row) => html! { li.warn { (act(visit, row)) } },
    }
}

/// An act of a person, in a line.
fn act(visit: &Visit, row: &AuditRecord) -> Markup {
    html! {
        div.first {
            strong { (row.actor) } code { (row.action) } span.tag { (row.outcome) }
            @if let Some(reason) = &row.reason { code { (reason) } }
            @if let Some(note) = &row.note { q { (note) } }
            (visit.time(row.at))
        }
    }
}

/// The reason why an event is as it is.
pub(super) fn why(visit: &Visit, event: &EventSummary) -> Markup {
    let explained = event.reason.as_deref().and_then(Reason::from_name).filter(|_| event.state == EventState::Parked);
    html! {
        @if let Some(reason) = &event.reason {
            p.small {
                code { (reason) }
                @if let Some(reason) = explained { " " (visit.say(explanation(reason).means)) }
                @if let Some(detail) = &event.detail { " " span.soft { (detail) } }
            }
        }
    }
}

fn pumps(visit: &Visit, pumps: &[PumpView]) -> Markup {
    if pumps.is_empty() {
        return html! {};
    }
    html! {
        section.panel {
            h2 { (visit.say(words::HEAT_PUMPS)) }
            table.cards {
                thead { tr {
                    th { (visit.say(words::HEAT_PUMP)) } th { (visit.say(words::STATE)) } th { (visit.say(words::ALERT)) }
                    th { (visit.say(words::CHECKED)) }
                } }
                tbody {
                    @for pump in pumps {
                        tr {
                            td data-name=(visit.say(words::HEAT_PUMP)) {
                                div {
                                    (pump.manufacturer.as_deref().unwrap_or("–")) " " (pump.model.as_deref().unwrap_or_default())
                                    br; (pump_link(&pump.heat_pump_id))
                                }
                            }
                            td data-name=(visit.say(words::STATE)) {
                                div {
                                    (pump_state_tag(&pump.state))
                                    @if let Some(reason) = &pump.reason { " " code { (reason) } }
                                    @if pump.is_retired { " " span.soft { (visit.say(words::RETIRED)) } }
                                }
                            }
                            td data-name=(visit.say(words::ALERT)) {
                                @if let Some(alert) = &pump.alert {
                                    div { (alert_tag(&alert.cause, &alert.severity)) " " (visit.time(alert.since)) }
                                }
                            }
                            td data-name=(visit.say(words::CHECKED)) { (visit.time(pump.checked_at)) }
                        }
                    }
                }
            }
        }
    }
}

/// The facts that are known; a viewer is told who sees them.
fn facts(visit: &Visit, customer: &CustomerCard, caller: &Caller) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::FACTS)) }
            @if !caller.sees_personal_data() { p.soft { (visit.say(words::FOR_SUPPORT)) } }
            @else if let Some(state) = customer.state.as_ref().filter(|state| !state.is_null()) {
                details {
                    summary { (visit.say(words::FACTS_SHOW)) }
                    pre { (serde_json::to_string_pretty(state).unwrap_or_default()) }
                }
            }
            @else { p.soft { (visit.say(words::NO_FACTS)) } }
        }
    }
}
