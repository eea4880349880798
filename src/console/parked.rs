//! Parked events: by reason with what to do, one by one, and the retries of many with who ordered each.
//!
//! Before: an operator who was told that a person is needed. After: [`crate::admin`] and [`crate::store`], as `/v1/parked`.

use actix_web::http::StatusCode;
use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::layout::Sheet;
use super::parked_filter::{PATH as RETRY_PATH, address};
use super::parts::{customer_link, event_link, path_of, with_query};
use super::reasons::explanation;
use super::visit::Visit;
use super::words;
use crate::admin::{Admin, Caller, next_of};
use crate::domain::identity::Role;
use crate::domain::verdict::Reason;
use crate::store::{BulkRetry, EventSummary, ParkedFilter, ParkedGroup, RetryState};

const PATH: &str = "/console/parked";

/// Events of a page.
const ROWS: i64 = 50;

/// Retries of many that are shown, the newest.
const RETRIES: usize = 5;

/// The query of the page.
#[derive(Deserialize)]
pub(super) struct Filter {
    reason: Option<String>,
    after: Option<String>,
}

/// The page.
pub(super) async fn page(
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    filter: web::Query<Filter>,
) -> PageResult {
    let unknown = || PageError::of(StatusCode::BAD_REQUEST);
    let reason = filter.reason.as_deref().filter(|name| !name.is_empty());
    let reason = reason.map(|name| Reason::from_name(name).ok_or_else(unknown)).transpose()?.map(Reason::name);
    let after = filter.after.as_deref().map(|id| uuid::Uuid::parse_str(id).map_err(|_| unknown())).transpose()?;
    let after = after.map(|id| id.to_string());
    let groups = async {
        match after {
            None => admin.store.parked_groups(&ParkedFilter::default()).await,
            Some(_) => Ok(Vec::new()),
        }
    };
    let rows = admin.store.parked_page(reason, after.as_deref(), ROWS);
    let (rows, groups, retries) = tokio::try_join!(rows, groups, admin.store.bulk_retries())?;
    let next = next_of(&rows, ROWS, |event| event.id.to_string());
    let next = next.map(|next| with_query(PATH, &[("reason", reason), ("after", Some(&next))]));
    let main = html! {
        div.stack data-part="parked" {
            @if let Some(retry) = retries.iter().find(|retry| retry.is_running()) {
                p.note.warn { a href=(path_of("/console/retries", &retry.id)) { (visit.say(words::RETRY_RUNS)) } }
            }
            @if rows.is_empty() && groups.is_empty() {
                section.panel { (visit.empty(words::NOTHING_PARKED, words::NOTHING_PARKED_NEXT)) }
            }
            @if !groups.is_empty() { (by_reason(&visit, &groups, reason, &caller)) }
            @if !rows.is_empty() {
                section.panel { h2 { (visit.say(words::ONE_BY_ONE)) } (table(&visit, &rows)) (visit.further(next)) }
            }
            @if !retries.is_empty() { section.panel { h2 { (visit.say(words::RETRIES)) } (retries_table(&visit, &retries)) } }
        }
    };
    let filtered = reason.map(|reason| format!("podero-bridge parked list --reason {reason}"));
    let command = filtered.unwrap_or_else(|| "podero-bridge parked list".to_owned());
    let is_offered = caller.role.allows(Role::Admin) && !groups.is_empty();
    let acts = html! { @if is_offered { a.button href=(RETRY_PATH) { (visit.say(words::RETRY_BY_FILTER)) } } };
    let sheet = Sheet { acts, ..Sheet::new(visit.say(words::PARKED), main) };
    Ok(visit.page(sheet.live().same_as(&[&command])))
}

fn by_reason(visit: &Visit, groups: &[ParkedGroup], chosen: Option<&str>, caller: &Caller) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::BY_REASON)) }
            table.cards {
                thead { tr {
                    th { (visit.say(words::REASON)) } th.end { (visit.say(words::COUNT)) } th { (visit.say(words::OLDEST)) }
                    th { span.hidden { (visit.say(words::ACT)) } }
                } }
                tbody {
                    @for group in groups {
                        tr {
                            td data-name=(visit.say(words::REASON)) {
                                div {
                                    a href=(with_query(PATH, &[("reason", Some(&group.reason))]))
                                        aria-current=[(chosen == Some(&*group.reason)).then_some("true")] { (group.reason) }
                                    @if let Some(reason) = Reason::from_name(&group.reason) {
                                        br; span.small.soft { (visit.say(explanation(reason).means)) }
                                    }
                                }
                            }
                            td.end data-name=(visit.say(words::COUNT)) { (capped(group.count, group.is_capped)) }
                            td data-name=(visit.say(words::OLDEST)) { (visit.time(group.oldest_at)) }
                            td data-name="" {
                                @if caller.role.allows(Role::Admin) && group.retryable > 0 {
                                    a.button.small href=(address(&ParkedFilter::of_reason(Reason::from_name(&group.reason)))) {
                                        (visit.say(words::RETRY_GROUP))
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @if chosen.is_some() { p.pages { a href=(PATH) { (visit.say(words::ALL_REASONS)) } } }
        }
    }
}

/// A count, which says that there may be more.
pub(super) fn capped(count: u64, is_capped: bool) -> String {
    if is_capped { format!("{count}+") } else { count.to_string() }
}

/// Parked events in a list.
pub(super) fn table(visit: &Visit, rows: &[EventSummary]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::EVENT)) } th { (visit.say(words::WHOSE)) } th { (visit.say(words::REASON)) }
                th { (visit.say(words::CAME_BY)) } th { (visit.say(words::PARKED_SINCE)) }
            } }
            tbody {
                @for event in rows {
                    tr {
                        td data-name=(visit.say(words::EVENT)) { div { code { (event.kind.name()) } br; (event_link(&event.id.to_string())) } }
                        td data-name=(visit.say(words::WHOSE)) {
                            @if let Some(id) = &event.customer_id { (customer_link(id)) }
                            @else if let Some(id) = &event.member_id { (id) }
                        }
                        td data-name=(visit.say(words::REASON)) {
                            div {
                                code { (event.reason.as_deref().unwrap_or("–")) }
                                @if let Some(detail) = &event.detail { br; span.small.soft { (detail) } }
                            }
                        }
                        td data-name=(visit.say(words::CAME_BY)) { (event.source) }
                        td data-name=(visit.say(words::PARKED_SINCE)) { (visit.time(event.settled_at.unwrap_or(event.received_at))) }
                    }
                }
            }
        }
    }
}

fn retries_table(visit: &Visit, retries: &[BulkRetry]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::RETRY_OF)) } th { (visit.say(words::STATE)) } th { (visit.say(words::PROGRESS)) } th { (visit.say(words::PARKED_UNTIL)) }
            } }
            tbody {
                @for retry in retries.iter().take(RETRIES) {
                    tr {
                        td data-name=(visit.say(words::RETRY_OF)) {
                            a href=(path_of("/console/retries", &retry.id)) { (retry.reason.as_deref().unwrap_or(visit.say(words::ALL_REASONS))) }
                        }
                        td data-name=(visit.say(words::STATE)) { (retry_tag(retry)) }
                        td data-name=(visit.say(words::PROGRESS)) { (retry.retried) " / " (retry.total) }
                        td data-name=(visit.say(words::PARKED_UNTIL)) { (visit.time(retry.ordered_at)) }
                    }
                }
            }
        }
    }
}

/// The state of a retry of many.
pub(super) fn retry_tag(retry: &BulkRetry) -> Markup {
    let tone = match retry.state {
        RetryState::Running => "warn",
        RetryState::Done => "good",
        RetryState::Stopped => "bad",
    };
    html! { span class={ "tag " (tone) } { (retry.state.name()) } }
}
