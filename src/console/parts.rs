//! Pieces that several pages have: tags of states, links, lists that go on, the list of an event's calls.
//!
//! Before: the pages. After: nothing.

use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::visit::Visit;
use super::words;
use crate::domain::event::EventState;
use crate::store::{AuditRecord, CallView};

/// All but the unreserved characters (RFC 3986, section 2.3), which stand for themselves in an address.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a part of an address.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A text from outside as one word of a command that a person copies: it says nothing to the shell.
pub(super) fn shell_word(text: &str) -> String {
    // Only a NUL is in no word of a shell, and no accepted id has one.
    shlex::try_quote(text).map_or_else(|_| "?".to_owned(), std::borrow::Cow::into_owned)
}

/// As [`shell_word`], in the place of an argument: one that begins with a hyphen is no option.
pub(super) fn shell_argument(text: &str) -> String {
    let options_end = if text.starts_with('-') { "-- " } else { "" };
    format!("{options_end}{}", shell_word(text))
}

/// Path of a page about the thing of this id.
pub(super) fn path_of(page: &str, id: &str) -> String {
    format!("{page}/{}", encoded(id))
}

/// Path with a query of those of these parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let pairs: Vec<String> = given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// The parameters of a query that have a value: a form sends its empty fields as well.
pub(super) fn filled_query(query: &str) -> String {
    query
        .split('&')
        .filter(|pair| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty()))
        .collect::<Vec<_>>()
        .join("&")
}

/// The tone of a state: its colour, next to its name.
pub(super) fn tone(state: EventState) -> &'static str {
    match state {
        EventState::Applied => "good",
        EventState::Parked => "bad",
        EventState::Pending | EventState::Waiting | EventState::Scheduled => "warn",
        EventState::Superseded | EventState::Skipped => "",
    }
}

/// A state, by its public name.
pub(super) fn state_tag(state: EventState) -> Markup {
    html! { span class={ "tag " (tone(state)) } { (state.name()) } }
}

/// The state of a heat pump.
pub(super) fn pump_state_tag(state: &str) -> Markup {
    let class = match state {
        "connected" => "tag good",
        "disconnected" => "tag bad",
        "unknown" | "paused" => "tag warn",
        _ => "tag",
    };
    html! { span class=(class) { (state) } }
}

/// The cause of an alert, by its severity.
pub(super) fn alert_tag(cause: &str, severity: &str) -> Markup {
    let class = if severity == "critical" { "tag bad" } else { "tag warn" };
    html! { span class=(class) title=(severity) { (cause) } }
}

/// A link to an event.
pub(super) fn event_link(id: &str) -> Markup {
    html! { a.id href=(path_of("/console/events", id)) { (id) } }
}

/// Path of the page of a heat pump, whose id is a UUID as the store has it.
pub(super) fn pump_path(id: &str) -> String {
    format!("/console/heat-pumps/{id}")
}

/// A link to a heat pump.
pub(super) fn pump_link(id: &str) -> Markup {
    html! { a.id href=(pump_path(id)) { (id) } }
}

/// A link to a customer.
pub(super) fn customer_link(id: &str) -> Markup {
    html! { a href=(path_of("/console/customers", id)) { (id) } }
}

impl Visit {
    /// The link to the next page of a list; nothing if there is none.
    pub(super) fn further(&self, address: Option<String>) -> Markup {
        let Some(address) = address else { return html! {} };
        html! { nav.pages { a.button href=(address) rel="next" { (self.say(words::NEXT_PAGE)) } } }
    }

    /// A list without entries: what that means, and what to do next.
    pub(super) fn empty(&self, means: words::Text, next: words::Text) -> Markup {
        html! { div.empty { strong { (self.say(means)) } p { (self.say(next)) } } }
    }

    /// The calls to Podero that were made for an event.
    pub(super) fn calls(&self, calls: &[CallView]) -> Markup {
        html! {
            table.cards {
                thead { tr {
                    th { (self.say(words::CALL)) } th { (self.say(words::ANSWER)) } th { (self.say(words::TOOK)) } th { (self.say(words::AT)) }
                } }
                tbody {
                    @for call in calls {
                        tr {
                            td data-name=(self.say(words::CALL)) { code { (call.operation) } }
                            td data-name=(self.say(words::ANSWER)) { (call.outcome) }
                            td data-name=(self.say(words::TOOK)) { (call.took_ms) " ms" }
                            td data-name=(self.say(words::AT)) { (self.time(call.at)) }
                        }
                    }
                }
            }
        }
    }

    /// Rows of the audit log.
    pub(super) fn acts(&self, rows: &[AuditRecord]) -> Markup {
        html! {
            table.cards {
                thead { tr {
                    th { (self.say(words::AT)) } th { (self.say(words::ACTOR)) } th { (self.say(words::ACT)) }
                    th { (self.say(words::TARGET)) } th { (self.say(words::OUTCOME)) } th { (self.say(words::DETAILS)) }
                } }
                tbody { @for row in rows { (self.act(row)) } }
            }
        }
    }

    fn act(&self, row: &AuditRecord) -> Markup {
        let tone = match row.outcome.as_str() {
            "done" => "good",
            "unknown" => "warn",
            _ => "bad",
        };
        let change = match (&row.was, &row.became) {
            (Some(was), Some(became)) => format!("{was} → {became}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => String::new(),
        };
        html! {
            tr {
                td data-name=(self.say(words::AT)) { (self.time(row.at)) }
                td.actor data-name=(self.say(words::ACTOR)) { (row.actor) }
                td data-name=(self.say(words::ACT)) { code { (row.action) } }
                td data-name=(self.say(words::TARGET)) {
                    div {
                        span.soft { (row.target_kind) } " "
                        @match (row.target_kind.as_str(), &row.target_id) {
                            (_, None) => span.soft { (self.say(words::ERASED)) },
                            ("event", Some(id)) => (event_link(id)),
                            ("customer", Some(id)) => (customer_link(id)),
                            (_, Some(id)) => span.id { (id) },
                        }
                    }
                }
                td data-name=(self.say(words::OUTCOME)) { span class={ "tag " (tone) } { (row.outcome) } }
                td data-name=(self.say(words::DETAILS)) {
                    div {
                        @if let Some(reason) = &row.reason { code { (reason) } " " }
                        @if !change.is_empty() { (change) " " }
                        @if let Some(note) = &row.note { q { (note) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_from_outside_says_anything_to_a_shell() {
        for text in ["C-17", "a b", "it's", "$(touch x)", "`id`", "a;b", "x\ny", "--config=x", "\"", "\\", "*", "~", ""]
        {
            let command = format!("podero-bridge customers show {}", shell_argument(text));
            let words = shlex::split(&command).expect("whole words");
            let (last, before) = words.split_last().expect("words");
            let before = before.strip_suffix(&["--".to_owned()]).unwrap_or(before);
            assert_eq!((last.as_str(), before), (text, &["podero-bridge", "customers", "show"].map(str::to_owned)[..]));
            assert_eq!(words.contains(&"--".to_owned()), text.starts_with('-'), "{text}");
        }
        assert_eq!(shell_argument("C-17"), "C-17", "a plain one stays as it is");
    }

    #[test]
    fn addresses_carry_any_id_and_leave_empty_parameters_out() {
        assert_eq!(path_of("/console/customers", "a/b?c d"), "/console/customers/a%2Fb%3Fc%20d");
        assert_eq!(path_of("/console/customers", "C-1_a.b~c"), "/console/customers/C-1_a.b~c");
        assert_eq!(
            with_query("/console/parked", &[("reason", Some("a&b")), ("after", None)]),
            "/console/parked?reason=a%26b"
        );
        assert_eq!(with_query("/console/parked", &[("after", None)]), "/console/parked");
        assert_eq!(filled_query("actor=&action=event.skip&target"), "action=event.skip");
    }
}
