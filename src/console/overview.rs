//! The overview: whether all parts are well, how much waits, and which alerts are open.
//!
//! Before: an operator who opens the console. After: [`crate::admin`], as `/v1/overview`.

use actix_web::web;
use maud::{Markup, html};

use super::charts;
use super::error::PageResult;
use super::layout::Sheet;
use super::parts::with_query;
use super::visit::Visit;
use super::words::{self, Text};
use crate::admin::{Admin, OverviewView, overview};
use crate::store::{CappedCount, OpenState, ReplicaView};

/// The page.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>) -> PageResult {
    let seen = overview(&admin).await?;
    let history = admin.store.history().await?;
    let main = html! {
        div.stack data-part="overview" {
            @if seen.is_ready { p.note.good role="status" { (visit.say(words::ALL_WELL)) } }
            @else { p.note.bad role="status" { (visit.say(words::NOT_WELL)) } }
            @if seen.alerts.is_blind { p.note.warn { (visit.say(words::BLIND)) } }
            (figures(&visit, &seen))
            (charts::last_day(&visit, &history))
            div.two {
                section.panel { h2 { (visit.say(words::PARTS)) } (parts(&visit, &seen)) }
                section.panel { h2 { (visit.say(words::OPEN_ALERTS)) } (causes(&visit, &seen)) }
                section.panel { h2 { (visit.say(words::REPLICAS)) } (replicas(&visit, &seen.replicas)) }
            }
            p.small.soft { (visit.say(words::LOOKED_AT)) " " (visit.time(seen.at)) }
        }
    };
    let sheet = Sheet::new(visit.say(words::OVERVIEW), main).live();
    Ok(visit.page(sheet.same_as(&["curl http://127.0.0.1:9090/v1/overview", "curl http://127.0.0.1:9090/v1/history"])))
}

/// The numbers of what waits. A large one is not counted to its end.
fn figures(visit: &Visit, seen: &OverviewView) -> Markup {
    // Each leads to the things that it counts, if they have a page.
    let figure = |name: Text, count: CappedCount, path: Option<String>| {
        let shown = html! { div.name { (visit.say(name)) } div.value { (capped(count)) } };
        match path {
            Some(path) => html! { a.figure href=(path) { (shown) } },
            None => html! { div.figure { (shown) } },
        }
    };
    let events = |state: OpenState| Some(with_query("/console/customers", &[("state", Some(state.name()))]));
    html! {
        div.figures {
            (figure(words::PENDING, seen.work.pending, events(OpenState::Pending)))
            (figure(words::PARKED_EVENTS, seen.work.parked, Some("/console/parked".to_owned())))
            (figure(words::OPEN_ALERTS, seen.alerts.heat_pumps, Some("/console/fleet?alert=open".to_owned())))
            (figure(words::SCHEDULED, seen.work.scheduled, events(OpenState::Scheduled)))
            (figure(words::OUTBOX, seen.work.outbox, None))
            div.figure {
                div.name { (visit.say(words::OLDEST_PENDING)) }
                div.value {
                    @if let Some(oldest) = seen.work.oldest_pending_at { small { (visit.relative(oldest)) } } @else { "–" }
                }
            }
        }
    }
}

/// A count, which says where it was ended.
fn capped(CappedCount { count, is_capped }: CappedCount) -> String {
    if is_capped { format!("{count}+") } else { count.to_string() }
}

fn parts(visit: &Visit, seen: &OverviewView) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::PART)) } th { (visit.say(words::STATE)) } th { (visit.say(words::DETAILS)) }
            } }
            tbody {
                @for part in &seen.parts {
                    tr {
                        td data-name=(visit.say(words::PART)) { (part.name) }
                        td data-name=(visit.say(words::STATE)) {
                            @if part.is_ready { span.tag.good { (visit.say(words::WELL)) } }
                            @else { span.tag.bad { (visit.say(words::ILL)) } }
                        }
                        td data-name=(visit.say(words::DETAILS)) { (part.state) }
                    }
                }
            }
        }
    }
}

fn causes(visit: &Visit, seen: &OverviewView) -> Markup {
    if seen.alerts.by_cause.is_empty() && seen.alerts.outages == 0 {
        return html! { p.soft { (visit.say(words::NO_ALERTS)) } };
    }
    html! {
        dl.facts {
            @if seen.alerts.outages > 0 { dt { (visit.say(words::OUTAGES)) } dd { (seen.alerts.outages) } }
            @for (cause, count) in &seen.alerts.by_cause { dt { code { (cause) } } dd { (count) } }
        }
    }
}

/// The replicas that live, each with its last sign of life.
fn replicas(visit: &Visit, replicas: &[ReplicaView]) -> Markup {
    html! {
        div.list { @for replica in replicas { div { span.id { (replica.id) } " " (visit.time(replica.seen_at)) } } }
    }
}
