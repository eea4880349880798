//! The configuration in effect, the store and the operators, and who is logged in; a session is ended from here.
//!
//! Before: an operator. After: [`crate::admin`], as `/v1/settings`, `/v1/operators` and `/v1/sessions`.

use actix_web::web;
use maud::{Markup, html};

use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::layout::Sheet;
use super::parts::path_of;
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, Caller, SettingsView};
use crate::domain::identity::{LOGIN_LINK, Role};
use crate::store::{OperatorView, SessionView};

const PATH: &str = "/console/settings";

/// The page.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>, caller: Caller) -> PageResult {
    let sessions = admin::sessions(&admin, &caller).await?;
    let main = html! {
        div.stack {
            section.panel {
                dl.facts {
                    dt { (visit.say(words::VERSION)) } dd { (env!("CARGO_PKG_VERSION")) }
                    dt { (visit.say(words::YOU)) } dd { (caller.actor) " · " (caller.role) }
                }
            }
            section.panel { h2 { (visit.say(words::SESSIONS)) } (sessions_table(&visit, &sessions, &caller)) }
            @if caller.role.allows(Role::Admin) { (for_admins(&visit, &admin).await?) }
            @else { p.soft { (visit.say(words::SETTINGS_FOR_ADMINS)) } }
        }
    };
    let sheet = Sheet::new(visit.say(words::SETTINGS), main);
    Ok(visit.page(sheet.same_as(&[
        "curl http://127.0.0.1:9090/v1/settings",
        "podero-bridge operator list",
        "podero-bridge operator sessions",
    ])))
}

/// Operators, store and configuration, as `/v1/operators` and `/v1/settings` have them.
async fn for_admins(visit: &Visit, admin: &Admin) -> Result<Markup, PageError> {
    let (operators, seen) = tokio::join!(admin.store.operators(), admin::settings(admin));
    let (operators, seen) = (operators?, seen?);
    Ok(html! {
        section.panel { h2 { (visit.say(words::OPERATORS)) } (operators_table(visit, &operators)) }
        section.panel {
            h2 { (visit.say(words::STORE)) }
            dl.facts {
                dt { (visit.say(words::STORE)) } dd { (seen.store) }
                dt { (visit.say(words::SCHEMA)) } dd { (seen.schema.version) " (" (seen.schema.floor) " – " (seen.schema.known) ")" }
                dt { (visit.say(words::REPLICAS)) }
                dd { @for replica in &seen.replicas { div { span.id { (replica.id) } " " (visit.time(replica.seen_at)) } } }
            }
        }
        section.panel { h2 { (visit.say(words::CONFIGURATION)) } (settings_table(visit, &seen)) }
    })
}

/// Every key with its value, secrets left out, and where it comes from.
fn settings_table(visit: &Visit, seen: &SettingsView) -> Markup {
    html! {
        table.cards {
            thead { tr { th { (visit.say(words::KEY)) } th { (visit.say(words::VALUE)) } th { (visit.say(words::VALUE_FROM)) } } }
            tbody {
                @for setting in &seen.settings {
                    tr {
                        td data-name=(visit.say(words::KEY)) { code { (setting.key) } }
                        td data-name=(visit.say(words::VALUE)) {
                            @if setting.is_hidden { span.soft { (visit.say(words::HIDDEN)) } }
                            @else { (setting.value.as_deref().unwrap_or("–")) }
                        }
                        td data-name=(visit.say(words::VALUE_FROM)) {
                            @if setting.origin == "default" { span.soft { (setting.origin) } } @else { strong { (setting.origin) } }
                        }
                    }
                }
            }
        }
    }
}

fn sessions_table(visit: &Visit, sessions: &[SessionView], caller: &Caller) -> Markup {
    let own = visit.login.as_ref().map(|(_, session)| session.id);
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::OPERATOR)) } th { (visit.say(words::ROLE)) } th { (visit.say(words::LOGGED_IN)) }
                th { (visit.say(words::LAST_SEEN)) } th { (visit.say(words::ENDS)) } th { span.hidden { (visit.say(words::ACT)) } }
            } }
            tbody {
                @for session in sessions {
                    tr {
                        td data-name=(visit.say(words::OPERATOR)) {
                            div {
                                (session.operator.as_deref().unwrap_or(LOGIN_LINK))
                                @if Some(session.id) == own { " " span.tag.good { (visit.say(words::THIS_ONE)) } }
                            }
                        }
                        td data-name=(visit.say(words::ROLE)) { (session.role.map_or("admin", Role::name)) }
                        td data-name=(visit.say(words::LOGGED_IN)) { (visit.time(session.created_at)) }
                        td data-name=(visit.say(words::LAST_SEEN)) { (visit.time(session.seen_at)) }
                        td data-name=(visit.say(words::ENDS)) { (visit.time(session.ends_at)) }
                        td data-name="" {
                            @if caller.role.allows(Role::Admin) && Some(session.id) != own {
                                form method="post" action={ (path_of("/console/sessions", &session.id.to_string())) "/revoke" } {
                                    button.small.risky { (visit.say(words::END_SESSION)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn operators_table(visit: &Visit, operators: &[OperatorView]) -> Markup {
    if operators.is_empty() {
        return html! {
            div.note { p { (visit.say(words::NO_OPERATORS)) } (visit.command("podero-bridge operator add NAME --role admin")) }
        };
    }
    html! {
        table.cards {
            thead { tr {
                th { (visit.say(words::OPERATOR)) } th { (visit.say(words::ROLE)) } th { (visit.say(words::ADDED)) } th { (visit.say(words::CHANGED)) }
            } }
            tbody {
                @for operator in operators {
                    tr {
                        td data-name=(visit.say(words::OPERATOR)) { (operator.name) }
                        td data-name=(visit.say(words::ROLE)) { (operator.role) }
                        td data-name=(visit.say(words::ADDED)) { (visit.time(operator.created_at)) }
                        td data-name=(visit.say(words::CHANGED)) { (visit.time(operator.changed_at)) }
                    }
                }
            }
        }
    }
}

/// Ends a session.
pub(super) async fn revoke(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> PageResult {
    admin::revoke_session(&admin, &caller, &id).await?;
    Ok(see_other(PATH))
}
