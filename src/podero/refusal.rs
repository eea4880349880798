//! Keeps three things of a refusal: names of our own fields, codes of a closed list, and our own values. Nothing else.
//!
//! Podero may say anything in a refusal: names, addresses and telephone numbers, also of other people, in any spelling and as
//! the name of a field. No text of it is known to be harmless, so none is repeated: this file keeps the words that it knows,
//! and counts the rest. Pure.
//!
//! Before: an answer that is no yes. After: [`super::wire`] makes a [`crate::domain::call::Refusal`] of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::answer::{REFUSAL_BYTES_MAX, Received};
use crate::domain::event::{Field, FieldValue};

/// Limit of the codes, and of the fields, that are named: a line of a ticket.
const NAMED_MAX: usize = 8;

/// Fewest characters of a sent value that is hidden wherever it occurs. Shorter ones are hidden only as whole words: hiding
/// every "DE" would leave nothing to read.
const HIDDEN_ANYWHERE_CHARS_MIN: usize = 4;

/// Names under which a code stands: of Django Ninja's validation, of Django REST framework, of OAuth2 and of the boost
/// calls, the only refusal with a body that Podero's pages show.
const CODE_NAMES: [&str; 6] = ["type", "code", "error", "error_code", "reason", "state"];

/// Names that hold problems and are no fields themselves.
#[rustfmt::skip]
const WRAPPER_NAMES: [&str; 13] = [
    "detail", "details", "errors", "non_field_errors", "__all__", "message", "msg", "title", "status", "loc", "input",
    "ctx", "url",
];

/// Parts of a `loc` that say where in a request a field stands.
const PLACES: [&str; 7] = ["body", "payload", "query", "path", "header", "data", "form"];

/// Fields that the bridge sends in addition to those of the customer ([`Field`]).
#[rustfmt::skip]
const OWN_FIELDS: [&str; 15] = [
    "role", "external_user_id", "external_id", "user_id", "building_id", "heat_pump_id", "org_id", "language",
    "price_zone_default", "success_url", "cancel_url", "successUrl", "cancelUrl", "is_smart_optimization_active",
    "soft_delete",
];

/// Codes that may be repeated: those of pydantic (Django Ninja's validation), of Django and its REST framework, of
/// OAuth2, and a few that speak for themselves.
#[rustfmt::skip]
const CODES: &[&str] = &[
    // Django, Django REST framework.
    "authentication_failed", "blank", "does_not_exist", "error", "invalid", "invalid_choice", "max_length", "max_value",
    "method_not_allowed", "min_length", "min_value", "not_acceptable", "not_authenticated", "not_found", "null",
    "parse_error", "permission_denied", "required", "throttled", "unique", "unique_together", "unsupported_media_type",
    // pydantic.
    "assertion_error", "bool_parsing", "bool_type", "date_parsing", "datetime_parsing", "dict_type", "enum",
    "extra_forbidden", "float_parsing", "float_type", "greater_than", "greater_than_equal", "int_from_float",
    "int_parsing", "int_type", "json_invalid", "less_than", "less_than_equal", "list_type", "literal_error", "missing",
    "model_attributes_type", "model_type", "string_pattern_mismatch", "string_too_long", "string_too_short",
    "string_type", "too_long", "too_short", "type_error", "url_parsing", "url_scheme", "url_type", "uuid_parsing",
    "uuid_type", "value_error",
    // OAuth2.
    "access_denied", "insufficient_scope", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope",
    "invalid_token", "unauthorized_client", "unsupported_grant_type",
    // Usual codes for a duplicate.
    "already_exists", "conflict", "duplicate", "email_taken",
];

/// The fields and codes that a refusal names.
#[derive(Default)]
struct Said {
    fields: Names,
    codes: Names,
}

/// Names of one kind: those that may be repeated, and those that are only counted.
#[derive(Default)]
struct Names {
    known: BTreeSet<&'static str>,
    unknown: BTreeSet<String>,
}

impl Names {
    fn add(&mut self, name: &str, known: Option<&'static str>) {
        match known {
            Some(known) => drop(self.known.insert(known)),
            None => drop(self.unknown.insert(name.to_owned())),
        }
    }

    /// The known names, and how many others there are of this kind.
    fn told(&self, kind: &str) -> [String; 2] {
        let mut named: Vec<&str> = self.known.iter().copied().take(NAMED_MAX).collect();
        if self.known.len() > NAMED_MAX {
            named.push("…");
        }
        let unknown = match self.unknown.len() {
            0 => String::new(),
            1 => format!("an unknown {kind}"),
            count => format!("{count} unknown {kind}s"),
        };
        [named.join(", "), unknown]
    }
}

/// The field of this name, if the bridge sends one.
fn own_field(name: &str) -> Option<&'static str> {
    let fields = Field::PERSONAL.iter().chain(&Field::ADDRESS).chain(&Field::BUILDING);
    fields.map(|field| field.name()).chain(OWN_FIELDS).find(|known| *known == name)
}

impl Said {
    fn field(&mut self, name: &str) {
        self.fields.add(name, own_field(name));
    }

    fn look(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| self.look_at(name, value)),
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn look_at(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(code) if CODE_NAMES.contains(&name) => {
                self.codes.add(code, CODES.iter().copied().find(|known| known == code));
            }
            Value::Array(place) if name == "loc" => {
                let names = place.iter().filter_map(Value::as_str).filter(|part| !PLACES.contains(part));
                names.for_each(|name| self.field(name));
            }
            // Input that Podero repeats is no problem of its own.
            _ if matches!(name, "input" | "ctx") => {}
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                if !WRAPPER_NAMES.contains(&name) && !CODE_NAMES.contains(&name) && !PLACES.contains(&name) {
                    self.field(name);
                }
                self.look(value);
            }
        }
    }

    fn told(&self) -> String {
        let parts = [self.fields.told("field"), self.codes.told("code")].into_iter().flatten();
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// The text that is kept of a refusal: its status, our fields, known codes, and how many others it names.
pub(super) fn detail(received: &Received) -> String {
    if let Some(coding) = received.coding {
        return coding.why().to_owned();
    }
    let mut said = Said::default();
    if let Some(body) = body_of(received.body()) {
        said.look(&body);
    }
    said.told()
}

fn body_of(body: &[u8]) -> Option<Value> {
    if body.len() > REFUSAL_BYTES_MAX { None } else { serde_json::from_slice(body).ok() }
}

/// `true` if a refusal of a write with these values says that something is there already. No page shows the texts, so a few are
/// tried.
pub(super) fn speaks_of_duplicate(values: &[&FieldValue], body: &[u8]) -> bool {
    let Some(body) = body_of(body) else { return false };
    let mut texts = Vec::new();
    collect_texts(&body, &mut texts);
    let sent = sent(values);
    texts.into_iter().any(|text| {
        let text = without(text, &sent).to_lowercase();
        let words = ["already", "exists", "unique", "taken", "duplicate", "in use"];
        !text.contains("not exist") && words.iter().any(|word| text.contains(word))
    })
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(items) => items.values().for_each(|item| collect_texts(item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every value about the customer that the call's body carries, and the words in them, longest first.
fn sent(values: &[&FieldValue]) -> Vec<String> {
    let mut sent = BTreeSet::new();
    for value in values {
        let text = match value {
            FieldValue::Text(text) => text.to_string(),
            FieldValue::Number(number) => number.to_string(),
            FieldValue::Flag(_) => continue,
        };
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        sent.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        sent.insert(text);
    }
    let mut sent: Vec<String> = sent.into_iter().filter(|text| !text.is_empty()).collect();
    sent.sort_by_key(|text| std::cmp::Reverse(text.len()));
    sent
}

/// A text without e-mail addresses and without all that was sent: our own values are no statement of Podero's.
fn without(text: &str, sent: &[String]) -> String {
    let without_addresses: Vec<&str> =
        text.split_whitespace().map(|word| if word.contains('@') { "…" } else { word }).collect();
    // Whole values first: once the words of one are hidden, the value itself is no longer found.
    sent.iter().fold(without_addresses.join(" "), |text, secret| hide(&text, secret))
}

fn hide(text: &str, secret: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let secret: Vec<char> = secret.chars().collect();
    let is_inside = |at: usize| text.get(at).is_some_and(|letter| letter.is_alphanumeric());
    let is_hit = |at: usize| {
        let end = at + secret.len();
        let same = |(a, b): (&char, &char)| a == b || a.to_lowercase().eq(b.to_lowercase());
        let matches = text.get(at..end).is_some_and(|part| part.iter().zip(&secret).all(same));
        let is_word = !is_inside(end) && !at.checked_sub(1).is_some_and(is_inside);
        matches && (is_word || secret.len() >= HIDDEN_ANYWHERE_CHARS_MIN)
    };
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(letter) = text.get(at) {
        if is_hit(at) {
            shown.push('…');
            at += secret.len();
        } else {
            shown.push(*letter);
            at += 1;
        }
    }
    shown
}
