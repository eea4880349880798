//! Customers: the search by id, and the events that are not done, with why each waits.
//!
//! Before: support staff who have a customer on the phone. After: the page of one customer.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use maud::{Markup, html};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::layout::Sheet;
use super::parts::{customer_link, event_link, filled_query, path_of, state_tag, with_query};
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, Caller, OpenQuery, PageQuery};
use crate::domain::identity::Role;
use crate::store::{OpenEvent, OpenState};

const PATH: &str = "/console/customers";

/// Entries of a page.
const ROWS: i64 = 50;

/// The query of the page.
#[derive(Deserialize)]
pub(super) struct Search {
    /// A customer's id, as a person has typed it.
    id: Option<String>,
    state: Option<String>,
    after: Option<String>,
}

/// The page; a search leads to the customer.
pub(super) async fn page(
    request: HttpRequest,
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    search: web::Query<Search>,
) -> PageResult {
    if let Some(id) = search.id.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
        return Ok(see_other(&path_of(PATH, id)));
    }
    let state = search.state.as_deref().and_then(OpenState::from_name).unwrap_or(OpenState::Pending);
    let bad = |_| PageError::of(StatusCode::BAD_REQUEST);
    let query = filled_query(request.query_string());
    let query = web::Query::<OpenQuery>::from_query(&query).map_err(bad)?.into_inner();
    let page = PageQuery::of(search.after.clone(), ROWS);
    let found = admin::open_events(&admin, query, &page).await?;
    let next = found.next.map(|next| next.to_string());
    let address = next.map(|next| with_query(PATH, &[("state", Some(state.name())), ("after", Some(next.as_str()))]));
    let main = html! {
        div.stack {
            section.panel.forms {
                form.line method="get" action=(PATH) role="search" aria-label=(visit.say(words::CUSTOMER_ID)) {
                    div.field {
                        label for="id" { (visit.say(words::CUSTOMER_ID)) }
                        input #id type="search" name="id" autocomplete="off" spellcheck="false" required;
                    }
                    button.main { (visit.say(words::SHOW)) }
                }
                @if caller.role.allows(Role::Support) { (email_form(&visit)) }
            }
            section.panel {
                div.head {
                    h2 { (visit.say(words::NOT_DONE)) }
                    (states(&visit, state))
                }
                @if found.events.is_empty() { (visit.empty(words::NOTHING_WAITS, words::NOTHING_WAITS_NEXT)) }
                @else { (table(&visit, &found.events)) }
                (visit.further(address))
            }
        }
    };
    let commands =
        ["podero-bridge customers show CUSTOMER_ID".to_owned(), format!("podero-bridge events list --state {state}")];
    Ok(visit.page(Sheet::new(visit.say(words::CUSTOMERS), main).same_as(&commands.each_ref().map(String::as_str))))
}

/// An address is a person's: it is sent in a body, and stands in no address of a page.
fn email_form(visit: &Visit) -> Markup {
    html! {
        form.line method="post" action="/console/customers/find" role="search" aria-label=(visit.say(words::EMAIL)) {
            div.field {
                label for="email" { (visit.say(words::EMAIL)) }
                input #email type="email" name="email" autocomplete="off" required;
            }
            button { (visit.say(words::FIND)) }
        }
    }
}

/// The form of a search by e-mail address.
#[derive(Deserialize)]
pub(super) struct EmailForm {
    email: String,
}

/// The customers with exactly this e-mail address.
pub(super) async fn find(visit: Visit, admin: web::Data<Admin>, form: web::Form<EmailForm>) -> PageResult {
    let found = admin::find_customers(&admin, Some(form.email.trim())).await?;
    let main = html! {
        div.stack {
            section.panel {
                @if found.customers.is_empty() { (visit.empty(words::NONE_FOUND, words::NONE_FOUND_NEXT)) }
                @for customer in &found.customers { p { (customer_link(&customer.customer_id)) } }
                @if found.is_cut { p.soft { (visit.say(words::FOUND_MORE)) } }
            }
            section.panel { (email_form(&visit)) }
        }
    };
    let sheet = Sheet::new(visit.say(words::FOUND), main);
    Ok(visit.page(sheet.same_as(&["curl --get http://127.0.0.1:9090/v1/customers --data-urlencode email=ADDRESS"])))
}

fn states(visit: &Visit, chosen: OpenState) -> Markup {
    html! {
        nav.acts aria-label=(visit.say(words::STATE)) {
            @for state in OpenState::ALL {
                a.button.small href=(with_query(PATH, &[("state", Some(state.name()))])) aria-current=[(state == chosen).then_some("true")] {
                    (state.name())
                }
            }
        }
    }
}

fn table(visit: &Visit, events: &[OpenEvent]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::EVENT)) } th { (visit.say(words::WHOSE)) } th { (visit.say(words::STATE)) }
                th { (visit.say(words::WAITS_FOR)) } th { (visit.say(words::SINCE)) } th { (visit.say(words::NEXT_TRY)) }
            } }
            tbody {
                @for event in events {
                    tr {
                        td data-name=(visit.say(words::EVENT)) {
                            div { code { (event.kind.name()) } br; (event_link(&event.id.to_string())) }
                        }
                        td data-name=(visit.say(words::WHOSE)) {
                            @if let Some(id) = &event.customer_id { (customer_link(id)) }
                            @else if let Some(id) = &event.member_id { (id) }
                        }
                        td data-name=(visit.say(words::STATE)) { (state_tag(event.state)) }
                        td data-name=(visit.say(words::WAITS_FOR)) {
                            div {
                                code { (event.waits_for.name()) }
                                @if let Some(reason) = &event.reason { " " span.soft { (reason) } }
                                @if event.failures > 0 { " " span.soft { (event.failures) "×" } }
                            }
                        }
                        td data-name=(visit.say(words::SINCE)) { (visit.time(event.since)) }
                        td data-name=(visit.say(words::NEXT_TRY)) { @if let Some(next) = event.next_try { (visit.time(next)) } }
                    }
                }
            }
        }
    }
}
