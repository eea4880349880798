//! Support: one heat pump with all that is known of it and since when, a link for its owner, and whether it comes back.
//!
//! A link is on the page that answers its form, and nowhere else: it is neither stored nor in an address.
//!
//! Before: an agent on the telephone. After: [`crate::admin`] makes the link; [`crate::store`] has what is known.

use actix_web::{HttpResponse, web};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::layout::Sheet;
use super::parts::{alert_tag, customer_link, pump_link, pump_path, pump_state_tag};
use super::visit::Visit;
use super::words::{self, Text};
use crate::admin::{self, Admin, Caller, LinkRequest, ReconnectLink};
use crate::domain::identity::Role;
use crate::domain::{CustomerId, Timestamp};
use crate::store::{CloseWatchView, OccurrenceView, PumpDetail, PumpView};

/// The query of the search.
#[derive(Deserialize)]
pub(super) struct SupportQuery {
    q: Option<String>,
}

/// The search: a heat pump by its id, or those of a customer.
pub(super) async fn search(visit: Visit, admin: web::Data<Admin>, query: web::Query<SupportQuery>) -> PageResult {
    let wanted = query.q.as_deref().unwrap_or_default().trim();
    if Uuid::parse_str(wanted).is_ok()
        && let Some(found) = admin.store.pump_detail(wanted).await?
    {
        return Ok(see_other(&pump_path(&found.pump.heat_pump_id)));
    }
    let pumps = match CustomerId::accept(wanted) {
        Some(customer) => admin.store.customer_card(customer.as_str()).await?.map(|found| found.heat_pumps),
        None => None,
    };
    let main = html! {
        div.stack {
            section.panel {
                form.line method="get" action="/console/support" role="search" {
                    label.field {
                        span { (visit.say(words::SUPPORT_SEARCH)) }
                        input type="search" name="q" value=(wanted) autocomplete="off" required;
                    }
                    button.main { (visit.say(words::SEARCH)) }
                }
            }
            @if !wanted.is_empty() { (found(&visit, &pumps.unwrap_or_default())) }
            @else { p.soft { (visit.say(words::SUPPORT_ABOUT)) } }
        }
    };
    let command = "curl http://127.0.0.1:9090/v1/heat-pumps/HEAT_PUMP_ID";
    Ok(visit.page(Sheet::new(visit.say(words::SUPPORT), main).same_as(&[command])))
}

fn found(visit: &Visit, pumps: &[PumpView]) -> Markup {
    if pumps.is_empty() {
        return html! {
            div.panel.empty { strong { (visit.say(words::NOTHING_FOUND)) } p { (visit.say(words::NOTHING_FOUND_HINT)) } }
        };
    }
    html! {
        section.panel {
            h2 { (visit.say(words::HEAT_PUMPS)) }
            table.cards {
                thead { tr {
                    th { (visit.say(words::HEAT_PUMP)) } th { (visit.say(words::STATE)) } th { (visit.say(words::CHECKED)) }
                } }
                tbody {
                    @for pump in pumps {
                        tr {
                            td data-name=(visit.say(words::HEAT_PUMP)) {
                                (pump_link(&pump.heat_pump_id))
                            }
                            td data-name=(visit.say(words::STATE)) { (pump_state_tag(&pump.state)) }
                            td data-name=(visit.say(words::CHECKED)) { (visit.time(pump.checked_at)) }
                        }
                    }
                }
            }
        }
    }
}

/// The page of a heat pump.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    let detail = admin.store.pump_detail(&id).await?.ok_or_else(PageError::unknown)?;
    Ok(shown(&visit, &caller, &detail, None))
}

/// The form of a link.
#[derive(Deserialize)]
pub(super) struct ReconnectForm {
    language: Option<String>,
    success_url: Option<String>,
    cancel_url: Option<String>,
}

/// Makes a link, and shows it.
pub(super) async fn make_link(
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    form: web::Form<ReconnectForm>,
) -> PageResult {
    let ReconnectForm { language, success_url, cancel_url } = form.into_inner();
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let wanted = LinkRequest::accept(given(success_url), given(cancel_url), given(language))?;
    let link = admin::make_link(&admin, &caller, &id, wanted).await?;
    let detail = admin.store.pump_detail(&id).await?.ok_or_else(PageError::unknown)?;
    Ok(shown(&visit, &caller, &detail, Some(&link)))
}

fn shown(visit: &Visit, caller: &Caller, detail: &PumpDetail, link: Option<&ReconnectLink>) -> HttpResponse {
    let pump = &detail.pump;
    let may_make = caller.role.allows(Role::Support) && !pump.is_retired;
    let main = html! {
        div.stack {
            @if let Some(link) = link { (link_made(visit, link)) }
            div data-part="watch" { (watched(visit, detail)) }
            div.two {
                div data-part="facts" { (facts(visit, detail)) }
                @if may_make { (form(visit, pump)) }
            }
            (occurrences(visit, &detail.occurrences))
        }
    };
    let path = format!("http://127.0.0.1:9090/v1/heat-pumps/{}", pump.heat_pump_id);
    let commands = [format!("curl {path}"), format!("curl -X POST {path}/reconnect-link")];
    let title = html! { (visit.say(words::HEAT_PUMP)) " " span.id { (pump.heat_pump_id) } };
    let window_title = format!("{} {}", visit.say(words::HEAT_PUMP), pump.heat_pump_id);
    let shown = commands.iter().take(if may_make { 2 } else { 1 }).map(String::as_str).collect::<Vec<_>>();
    visit.page(Sheet { title, window_title, ..Sheet::new("", main).live().same_as(&shown) })
}

fn link_made(visit: &Visit, link: &ReconnectLink) -> Markup {
    html! {
        section.panel role="status" {
            h2 { (visit.say(words::LINK_MADE)) }
            p { (visit.say(words::LINK_FOR)) }
            (visit.command(&link.url))
            @if let Some(at) = link.expires_at { p.small.soft.below { (visit.say(words::LINK_EXPIRES)) " " (visit.time(at)) } }
            @if link.watched_until.is_none() { p.note.warn { (visit.say(words::NOT_WATCHED)) } }
        }
    }
}

/// Whether it has come back since a link was made.
fn watched(visit: &Visit, detail: &PumpDetail) -> Markup {
    match &detail.close_watch {
        Some(CloseWatchView { connected_at: Some(at), .. }) => html! {
            p.note.good role="status" { (visit.say(words::BACK_SINCE)) " " (visit.time(*at)) }
        },
        Some(CloseWatchView { until, made_at, .. }) if *until > visit.now => html! {
            div.note role="status" {
                (visit.say(words::WATCHED_UNTIL)) " " (visit.time(*until))
                div.small { (visit.say(words::LINK_MADE_AT)) " " (visit.time(*made_at)) }
            }
        },
        Some(CloseWatchView { made_at, .. }) => html! {
            div.note.warn role="status" {
                (visit.say(words::NOT_BACK))
                div.small { (visit.say(words::LINK_MADE_AT)) " " (visit.time(*made_at)) }
            }
        },
        None => html! {},
    }
}

fn facts(visit: &Visit, detail: &PumpDetail) -> Markup {
    let pump = &detail.pump;
    let text = |name: Text, value: Option<&String>| {
        html! {
            @if let Some(value) = value { dt { (visit.say(name)) } dd { (value) } }
        }
    };
    let moment = |name: Text, at: Option<Timestamp>| {
        html! {
            @if let Some(at) = at { dt { (visit.say(name)) } dd { (visit.time(at)) } }
        }
    };
    html! {
        section.panel {
            h2 { (visit.say(words::KNOWN)) }
            dl.facts {
                dt { (visit.say(words::STATE)) }
                dd {
                    (pump_state_tag(&pump.state))
                    @if let Some(reason) = &pump.reason { " " span.soft { (reason) } }
                    @if pump.is_retired { " " span.tag { (visit.say(words::RETIRED)) } }
                }
                (moment(words::CHECKED, Some(pump.checked_at)))
                (moment(words::CONNECTED_SINCE, detail.connected_since))
                (moment(words::DISCONNECTED_SINCE, pump.bad_since))
                (moment(words::LOST_AT, detail.lost_at))
                @if let Some(alert) = &pump.alert {
                    dt { (visit.say(words::ALERT)) }
                    dd { (alert_tag(&alert.cause, &alert.severity)) " " (visit.time(alert.since)) }
                }
                @if let Some(customer) = &pump.customer_id { dt { (visit.say(words::CUSTOMER)) } dd { (customer_link(customer)) } }
                (text(words::MANUFACTURER, pump.manufacturer.as_ref()))
                (text(words::MODEL, pump.model.as_ref()))
                (text(words::REGION, pump.region.as_ref()))
                (text(words::BUILDING, pump.building_id.as_ref()))
                (text(words::PODERO_USER, Some(&pump.podero_user_id)))
                (text(words::OUTAGE, pump.outage_id.as_ref()))
                (moment(words::FIRST_SEEN, detail.first_seen_at))
                (moment(words::WATCHED_SINCE, detail.watched_since))
                @if !detail.losses.is_empty() {
                    dt { (visit.say(words::LOSSES)) }
                    dd { @for loss in &detail.losses { div { (visit.time(*loss)) } } }
                }
            }
        }
    }
}

fn form(visit: &Visit, pump: &PumpView) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::MAKE_LINK)) }
            p { (visit.say(words::MAKE_LINK_ABOUT)) }
            form.stack method="post" action=(pump_path(&pump.heat_pump_id)) {
                label.field {
                    span { (visit.say(words::LINK_LANGUAGE)) }
                    select name="language" {
                        option value="" { (visit.say(words::AS_CONFIGURED)) }
                        @for language in LinkRequest::languages() { option value=(language) { (language) } }
                    }
                }
                details {
                    summary.small { (visit.say(words::LANDING)) }
                    div.stack.below {
                        label.field { span { (visit.say(words::LANDING_DONE)) } input type="url" name="success_url"; }
                        label.field { span { (visit.say(words::LANDING_NOT)) } input type="url" name="cancel_url"; }
                    }
                }
                div { button.main { (visit.say(words::MAKE_LINK)) } }
            }
        }
    }
}

fn occurrences(visit: &Visit, occurrences: &[OccurrenceView]) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::ALERTS)) }
            @if occurrences.is_empty() { p.soft { (visit.say(words::NO_PAST_ALERTS)) } }
            @else {
                table.cards {
                    thead { tr {
                        th { (visit.say(words::CAUSE)) } th { (visit.say(words::SINCE)) } th { (visit.say(words::DETECTED)) }
                        th { (visit.say(words::RESOLVED)) }
                    } }
                    tbody {
                        @for one in occurrences {
                            tr {
                                td data-name=(visit.say(words::CAUSE)) { (one.cause) }
                                td data-name=(visit.say(words::SINCE)) { @if let Some(at) = one.since { (visit.time(at)) } }
                                td data-name=(visit.say(words::DETECTED)) { @if let Some(at) = one.detected_at { (visit.time(at)) } }
                                td data-name=(visit.say(words::RESOLVED)) {
                                    div {
                                        @if let Some(at) = one.resolved_at { (visit.time(at)) }
                                        @if let Some(resolution) = &one.resolution { " " span.soft { (resolution) } }
                                        @else { span.tag.warn { (visit.say(words::OPEN)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
