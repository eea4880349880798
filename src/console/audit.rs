//! The audit log: who did what, newest first, by actor, action, thing and time; and its export.
//!
//! Before: an auditor. After: [`crate::admin`], as `/v1/audit`.

use actix_web::http::StatusCode;
use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::layout::Sheet;
use super::parts::with_query;
use super::visit::Visit;
use super::words::{self, Text};
use crate::admin::{self, Admin, AuditQuery, Caller, PageQuery};
use crate::domain::audit::Action;
use crate::domain::identity::Role;
use crate::domain::zone::Zone;
use crate::store::ExportFormat;

const PATH: &str = "/console/audit";

/// Rows of a page.
const ROWS: i64 = 50;

/// The filter as it was typed.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Typed {
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    since: Option<String>,
    until: Option<String>,
    after: Option<String>,
}

impl Typed {
    /// The same filter, with its times as moments: a time without an offset is one of the reader's zone.
    fn in_zone(&self, zone: &Zone) -> Result<Self, PageError> {
        let unknown = || PageError::of(StatusCode::BAD_REQUEST);
        let moment = |text: &Option<String>| {
            let moment = filled(text).map(|text| zone.moment(text).ok_or_else(unknown)).transpose()?;
            Ok::<_, PageError>(moment.map(|moment| moment.to_string()))
        };
        Ok(Self { since: moment(&self.since)?, until: moment(&self.until)?, ..self.clone() })
    }

    fn parameters(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("actor", filled(&self.actor)),
            ("action", filled(&self.action)),
            ("target", filled(&self.target)),
            ("since", filled(&self.since)),
            ("until", filled(&self.until)),
        ]
    }
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The page.
pub(super) async fn page(
    visit: Visit,
    admin: web::Data<Admin>,
    caller: Caller,
    typed: web::Query<Typed>,
) -> PageResult {
    let bad = |_| PageError::of(StatusCode::BAD_REQUEST);
    let exact = typed.in_zone(&visit.zone)?;
    let query = with_query("", &exact.parameters());
    let query = query.trim_start_matches('?');
    let query = web::Query::<AuditQuery>::from_query(query).map_err(bad)?.into_inner();
    let page = PageQuery::of(filled(&typed.after).map(str::to_owned), ROWS);
    let found = admin::audit_page(&admin, &caller, query, &page).await?;
    let next = found.next.map(|next| {
        let parameters = [&typed.parameters()[..], &[("after", Some(next.as_str()))]].concat();
        with_query(PATH, &parameters)
    });
    let main = html! {
        div.stack {
            section.panel { (filter_form(&visit, &typed)) }
            section.panel {
                @if found.records.is_empty() && next.is_none() { (visit.empty(words::NO_ACTS, words::NO_ACTS_NEXT)) }
                @else if found.records.is_empty() { p.soft { (visit.say(words::NONE_ON_PAGE)) } }
                @else { (visit.acts(&found.records)) }
                (visit.further(next))
            }
            @if caller.role.allows(Role::Admin) { (export_form(&visit, &exact)) }
        }
    };
    let sheet = Sheet::new(visit.say(words::AUDIT), main);
    Ok(visit.page(sheet.same_as(&[
        "podero-bridge audit list",
        "podero-bridge audit export --format jsonl",
        "podero-bridge audit verify",
    ])))
}

fn filter_form(visit: &Visit, typed: &Typed) -> Markup {
    let zone = visit.zone.name();
    let field = |name: &str, title: Text, value: &Option<String>, hint: &str| {
        html! {
            div.field {
                label for=(name) { (visit.say_with(title, &[zone])) }
                input id=(name) name=(name) value=(value.as_deref().unwrap_or_default()) placeholder=(hint) autocomplete="off" spellcheck="false";
            }
        }
    };
    html! {
        form.line method="get" action=(PATH) role="search" {
            (field("actor", words::ACTOR, &typed.actor, "operator:anna"))
            div.field {
                label for="action" { (visit.say(words::ACT)) }
                select #action name="action" {
                    option value="" { (visit.say(words::ANY)) }
                    @for action in Action::ALL {
                        option value=(action.name()) selected[typed.action.as_deref() == Some(action.name())] { (action.name()) }
                    }
                }
            }
            (field("target", words::TARGET, &typed.target, "C-4711"))
            (field("since", words::FROM_ON, &typed.since, "2026-10-01"))
            (field("until", words::BEFORE, &typed.until, "2026-11-01"))
            button.main { (visit.say(words::FILTER)) }
            a.button href=(PATH) { (visit.say(words::CLEAR)) }
        }
    }
}

/// An export has a row of its own, so that it is a form and no link.
fn export_form(visit: &Visit, typed: &Typed) -> Markup {
    let action = |format: &str| {
        let parameters = [&typed.parameters()[..], &[("format", Some(format))]].concat();
        with_query("/console/audit/export", &parameters)
    };
    html! {
        section.panel {
            h2 { (visit.say(words::EXPORT)) }
            p.soft { (visit.say(words::EXPORT_ABOUT)) }
            div.pages {
                @for format in ExportFormat::ALL {
                    form method="post" action=(action(format.name())) { button.small { (format.name()) } }
                }
            }
        }
    }
}
