//! The filter of a retry of many: as it is typed, as an order has it, and its form with the usual stretches of time.
//!
//! A time without an offset is one of the reader's zone: "yesterday" is the day of the person who reads.
//!
//! Before: [`super::retries`]. After: [`crate::store`] selects the events.

use actix_web::http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::PageError;
use super::parts::{shell_word, with_query};
use super::visit::Visit;
use super::words::{self, Text};
use crate::domain::Timestamp;
use crate::domain::verdict::Reason;
use crate::domain::zone::Zone;
use crate::store::ParkedFilter;

/// Path of the preview.
pub(super) const PATH: &str = "/console/parked/retry";

/// The filter as a query or a form has it; an empty value narrows nothing.
#[derive(Deserialize)]
pub(super) struct TypedFilter {
    reason: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl TypedFilter {
    /// The filter; a value that is none is refused.
    pub(super) fn read(self, zone: &Zone) -> Result<ParkedFilter, PageError> {
        let Self { reason, source, since, until } = self;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let unknown = || PageError::of(StatusCode::BAD_REQUEST);
        let time = |text| given(text).map(|text| zone.moment(&text).ok_or_else(unknown)).transpose();
        let reason = given(reason).map(|name| Reason::from_name(&name).ok_or_else(unknown)).transpose()?;
        Ok(ParkedFilter { reason, source: given(source), since: time(since)?, until: time(until)? })
    }
}

/// Address of the preview by this filter.
pub(super) fn address(filter: &ParkedFilter) -> String {
    let [since, until] = [filter.since, filter.until].map(|moment| moment.map(|moment| moment.to_string()));
    let parameters = [
        ("reason", filter.reason.map(Reason::name)),
        ("source", filter.source.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ];
    with_query(PATH, &parameters)
}

/// The command that retries the same events.
pub(super) fn command(filter: &ParkedFilter) -> String {
    let which = filter.reason.map_or_else(|| "--all".to_owned(), |reason| format!("--reason {reason}"));
    let source = filter.source.as_ref().map(|source| format!(" --source={}", shell_word(source))).unwrap_or_default();
    let time = |name: &str, moment: Option<Timestamp>| moment.map(|at| format!(" --{name} {at}")).unwrap_or_default();
    let (since, until) = (time("since", filter.since), time("until", filter.until));
    format!("podero-bridge parked retry {which}{source}{since}{until}")
}

/// The form of the filter.
pub(super) fn form(visit: &Visit, filter: &ParkedFilter) -> Markup {
    let field = |name: &str, title: Text, moment: Option<Timestamp>| {
        let value = moment.map(|moment| visit.zone.local(moment));
        html! {
            label.field { span { (visit.say(title)) } input type="datetime-local" step="1" name=(name) value=[value]; }
        }
    };
    html! {
        section.panel.stack {
            form.line method="get" action=(PATH) role="search" {
                label.field {
                    span { (visit.say(words::REASON)) }
                    select name="reason" {
                        option value="" { (visit.say(words::ANY)) }
                        @for reason in Reason::ALL {
                            option value=(reason.name()) selected[filter.reason == Some(reason)] { (reason.name()) }
                        }
                    }
                }
                label.field {
                    span { (visit.say(words::CAME_BY)) }
                    input name="source" value=[filter.source.as_deref()] autocomplete="off" spellcheck="false";
                }
                (field("since", words::PARKED_FROM, filter.since))
                (field("until", words::PARKED_UNTIL, filter.until))
                button.main { (visit.say(words::FILTER)) }
            }
            (stretches(visit, filter))
        }
    }
}

/// The usual stretches of time, in the reader's zone.
fn stretches(visit: &Visit, filter: &ParkedFilter) -> Markup {
    let day = |before: i64| visit.zone.day_begin(visit.now, before);
    let all = [
        (words::ANY_TIME, None, None),
        (words::TODAY, day(0), None),
        (words::YESTERDAY, day(1), day(0)),
        (words::LAST_7_DAYS, day(7), None),
    ];
    html! {
        nav.pages aria-label=(visit.say(words::PARKED_SINCE)) {
            span.small.soft { (visit.say(words::PARKED_SINCE)) ":" }
            @for (name, since, until) in all {
                @let other = ParkedFilter { since, until, ..filter.clone() };
                a.button.small href=(address(&other)) aria-current=[(other == *filter).then_some("true")] { (visit.say(name)) }
            }
            span.small.soft { (visit.say(words::TIME_ZONE)) " " (visit.zone.name()) }
        }
    }
}
