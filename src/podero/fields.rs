//! Podero's objects and values: a user, a building, a heat pump and their fields, read in every shape that its pages show,
//! and written from an allow-list of our own. Pure.
//!
//! Before: [`super::calls`] names what is read or written. After: values in the core's words.

use reqwest::Url;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::drift::{Drift, DriftNotes};
use super::moments::{is_set, moment};
use super::pruned;
use crate::domain::alert::{ConnectionStatus, Observation};
use crate::domain::call::{BuildingFound, Changes, Cue, Hidden, PumpFound, Reconnection, Reply, UserFound, Zip};
use crate::domain::event::{Field, FieldValue, Record};
use crate::domain::{CustomerId, link};

/// Limit of a label: names of manufacturers, models and countries stand in indices. Podero's own text fields have 100
/// characters.
const LABEL_CHARS_MAX: usize = 100;

pub(super) fn is_of_user(field: Field) -> bool {
    field != Field::Language && (Field::PERSONAL.contains(&field) || Field::ADDRESS.contains(&field))
}

pub(super) fn is_of_building(field: Field) -> bool {
    Field::BUILDING.contains(&field) || Field::ADDRESS.contains(&field)
}

/// `true` for text; Podero counts or switches the other fields.
fn is_text(field: Field) -> bool {
    !matches!(field, Field::PropertySizeM2 | Field::PropertyAge | Field::NumOccupants | Field::Photovoltaic)
}

pub(super) fn json_of(field: Field, value: &FieldValue) -> Value {
    match value {
        FieldValue::Text(text) => json!(**text),
        // A ZIP code that arrived as a number is text all the same.
        FieldValue::Number(number) if is_text(field) => json!(number.to_string()),
        FieldValue::Number(number) => json!(number),
        FieldValue::Flag(flag) => json!(flag),
    }
}

pub(super) fn body_of(record: &Record, is_allowed: fn(Field) -> bool) -> Map<String, Value> {
    let allowed = record.iter().filter(|(field, _)| is_allowed(**field));
    allowed.map(|(field, value)| (field.name().to_owned(), json_of(*field, value))).collect()
}

pub(super) fn changed(changes: &Changes, is_allowed: fn(Field) -> bool) -> Map<String, Value> {
    let allowed = changes.iter().filter(|(field, _)| is_allowed(**field));
    allowed
        .map(|(field, value)| {
            let value = value.as_ref().map_or(Value::Null, |value| json_of(*field, value));
            (field.name().to_owned(), value)
        })
        .collect()
}

/// The fields that are read of a user in the list of all; no other is kept.
pub(super) fn is_of_user_line(name: &str) -> bool {
    matches!(
        name,
        "id" | "role" | "external_user_id" | "num_heat_pumps" | "deleted_at" | "zip_code" | "country" | "country_iso2"
    )
}

/// The fields that are read of any answer about one thing.
pub(super) fn is_read(name: &str) -> bool {
    let is_own = |fields: &[Field]| fields.iter().any(|field| field.name() == name);
    #[rustfmt::skip]
    let is_of_heat_pump = matches!(
        name,
        "is_smart_optimization_active" | "building" | "building_id" | "is_authenticated" | "device_model"
            | "manufacturer" | "model" | "connection_status" | "lifecycle_state" | "current_state_last_updated_at"
            | "action_needed" | "actions" | "code" | "resolution_link" | "url" | "required_parameters"
    );
    let is_link = matches!(name, "authorization_url" | "authentication_url" | "redirect_url");
    let is_of_customer = || [&Field::PERSONAL[..], &Field::ADDRESS, &Field::BUILDING].into_iter().any(is_own);
    let is_of_login = matches!(name, "last_login" | "joined_at");
    is_of_heat_pump || is_link || is_of_login || is_of_user_line(name) || is_of_customer()
}

pub(super) fn user(item: &Map<String, Value>, observed: Record) -> Option<UserFound> {
    let field = |name: &str| item.get(name).and_then(label);
    Some(UserFound {
        id: id_of(item.get("id"))?,
        is_customer: item.get("role").and_then(Value::as_str).is_some_and(|role| role.eq_ignore_ascii_case("user")),
        external_id: item.get("external_user_id").and_then(text_of).filter(|id| is_key(id)),
        heat_pumps: item.get("num_heat_pumps").and_then(count).and_then(|count| u64::try_from(count).ok()),
        zip: field("zip_code").map(|code| {
            let country = field("country").or_else(|| field("country_iso2"));
            Box::new(Zip { country, code })
        }),
        observed,
    })
}

pub(super) fn building(item: &Map<String, Value>) -> Option<BuildingFound> {
    Some(BuildingFound { id: id_of(item.get("id"))?, observed: record_of(item, is_of_building) })
}

pub(super) fn pump(item: &Map<String, Value>) -> Option<PumpFound> {
    let is_paused = item.get("is_smart_optimization_active") == Some(&Value::Bool(false));
    Some(PumpFound {
        id: id_of(item.get("id"))?,
        building: building_of(item),
        is_steered: !is_paused && !item.get("deleted_at").is_some_and(is_set),
    })
}

pub(super) fn observation(item: &Map<String, Value>, notes: &mut DriftNotes) -> Option<Observation> {
    let flag = |name: &str| item.get(name).and_then(Value::as_bool);
    let model = |name: &str| item.get("device_model").and_then(|model| model.get(name)).and_then(label);
    let actions = item.get("actions").and_then(Value::as_array);
    let is_authenticated = flag("is_authenticated");
    let lifecycle = item.get("lifecycle_state").and_then(Value::as_str);
    Some(Observation {
        heat_pump: id_of(item.get("id"))?,
        building: building_of(item),
        manufacturer: model("manufacturer"),
        model: model("model"),
        is_authenticated,
        wants_reauthentication: actions.is_some_and(|actions| actions.iter().any(is_reauthentication)),
        wants_detail: actions.is_none() && (flag("action_needed") == Some(true) || is_authenticated == Some(false)),
        connection: item.get("connection_status").and_then(Value::as_str).and_then(connection_status),
        has_lifecycle_error: lifecycle.is_some_and(|state| state.eq_ignore_ascii_case("error")),
        is_paused: flag("is_smart_optimization_active") == Some(false),
        updated_at: item.get("current_state_last_updated_at").and_then(moment),
        is_deleted: item.get("deleted_at").is_some_and(is_set),
        // Never `actions[].resolution_link`: it carries a secret, lives an hour and is no page for a customer.
        reconnect_url: link(item.get("authorization_url"), notes),
    })
}

fn connection_status(word: &str) -> Option<ConnectionStatus> {
    match word.to_ascii_lowercase().as_str() {
        "ok" => Some(ConnectionStatus::Ok),
        "warning" => Some(ConnectionStatus::Warning),
        "error" => Some(ConnectionStatus::Error),
        "unknown" => Some(ConnectionStatus::Unknown),
        _ => None,
    }
}

/// Tries the newer way first, a cue of an action `reauthenticate`; else `authorization_url`. Either may be missing.
pub(super) fn reconnection(item: &Map<String, Value>, notes: &mut DriftNotes) -> Option<Reconnection> {
    let actions = item.get("actions").and_then(Value::as_array);
    let cue = actions.into_iter().flatten().filter(|action| is_reauthentication(action)).find_map(cue);
    let page = || link(item.get("authorization_url"), notes).map(Reconnection::Page);
    cue.map(Reconnection::Cue).or_else(page)
}

/// `resolution_link` is an object with `url` and `required_parameters`, or the address alone: the pages show both. Of the
/// address only the cue's id and its secret are taken: the bridge knows where to send them.
fn cue(action: &Value) -> Option<Cue> {
    let told = action.get("resolution_link")?;
    let address = told.as_str().or_else(|| told.get("url")?.as_str())?;
    // A longer one is here only in its beginning, and the secret may be cut.
    let url = Url::parse(address).ok().filter(|_| address.len() < pruned::TEXT_BYTES_MAX)?;
    let asked = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let in_path = || url.path_segments()?.skip_while(|part| *part != "cues").nth(1).map(str::to_owned);
    let id = asked("cue_id").or_else(in_path).and_then(|id| Uuid::parse_str(&id).ok())?;
    let secret = Hidden(asked("secret").filter(|secret| !secret.is_empty())?);
    let parameters = told.get("required_parameters").and_then(Value::as_array).into_iter().flatten();
    let parameters = parameters.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    Some(Cue { id, secret, parameters })
}

fn is_reauthentication(action: &Value) -> bool {
    let code = action.get("code").and_then(Value::as_str);
    code.is_some_and(|code| code.eq_ignore_ascii_case("reauthenticate"))
}

/// `building` in answers, `building_id` in requests; the pages mix them up.
fn building_of(item: &Map<String, Value>) -> Option<Uuid> {
    id_of(item.get("building")).or_else(|| id_of(item.get("building_id")))
}

pub(super) fn record_of(item: &Map<String, Value>, is_allowed: fn(Field) -> bool) -> Record {
    let fields = [&Field::PERSONAL[..], &Field::ADDRESS, &Field::BUILDING];
    let allowed = fields.into_iter().flatten().filter(|field| is_allowed(**field));
    allowed
        .filter_map(|field| {
            let named = |name: &str| item.get(name).and_then(|value| value_of(*field, value));
            let other_name = || if *field == Field::Country { named("country_iso2") } else { None };
            Some((*field, named(field.name()).or_else(other_name)?))
        })
        .collect()
}

/// A field's value, of any type; a missing value and an empty text are the same.
fn value_of(field: Field, value: &Value) -> Option<FieldValue> {
    if let (Field::ZipCode, Some(number)) = (field, value.as_i64()) {
        // One page shows a number. It stays one, which shows that its leading zeros may be gone.
        return Some(FieldValue::Number(number));
    }
    if is_text(field) {
        return text_of(value).map(FieldValue::from);
    }
    match value {
        Value::Bool(flag) => Some(FieldValue::Flag(*flag)),
        Value::Number(number) => whole(number).map(FieldValue::Number),
        Value::String(text) => match text.parse() {
            Ok(number) => Some(FieldValue::Number(number)),
            Err(_) => text_of(value).map(FieldValue::from),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    /// Limit of the whole numbers that a float distinguishes (2^53).
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then(|| format!("{float:.0}").parse().ok())?
    })
}

/// `true` for a text that can be one of our customers' ids; no customer is known by another.
fn is_key(id: &str) -> bool {
    CustomerId::accept(id).is_some()
}

/// A short text by which things are grouped: no control characters, and no longer than Podero's own fields.
fn label(value: &Value) -> Option<String> {
    let text: String = text_of(value)?.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// Text, or a number written as text (a ZIP code, a key): Podero's pages show both.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn count(value: &Value) -> Option<usize> {
    let number = match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_u64(),
    };
    number.and_then(|number: u64| usize::try_from(number).ok())
}

pub(super) fn id_of(value: Option<&Value>) -> Option<Uuid> {
    value.and_then(Value::as_str).and_then(|text| Uuid::parse_str(text).ok())
}

/// An address that may go out ([`link::may_go_out`]); one that may not is noted for operators and left out.
fn link(value: Option<&Value>, notes: &mut DriftNotes) -> Option<String> {
    let address = value.and_then(Value::as_str).filter(|address| !address.is_empty())?;
    if !link::may_go_out(address) {
        notes.note(Drift::UnusableLink);
        return None;
    }
    Some(address.to_owned())
}

/// The address that an answer is only about.
pub(super) fn wanted_link<A>(
    item: &Map<String, Value>,
    name: &str,
    notes: &mut DriftNotes,
) -> Result<String, Reply<A>> {
    if !item.get(name).is_some_and(Value::is_string) {
        notes.note(Drift::MissingLink);
    }
    link(item.get(name), notes).ok_or(Reply::Unknown { why: "answer without link" })
}
