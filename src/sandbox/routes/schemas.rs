//! JSON Schemas of what the sandbox takes and answers, from the tables of its model.
//!
//! It must never describe a field that no table has, but for the few that are no fields of a table.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use serde_json::{Map, Value, json};

use crate::sandbox::access::UserRole;
use crate::sandbox::model::{
    BUILDING_FIELDS, CONTRACT_FIELDS, EMAIL_CHARS_MAX, FieldKind, LANGUAGES, NAME_CHARS_MAX, PRICE_ZONES, PeriodLength,
    RETURN_URL_CHARS_MAX, Table, USER_FIELDS, untouched_heat_pump,
};

/// The schemas that others refer to, by name.
pub(super) fn all() -> Map<String, Value> {
    let named = [
        ("AccessToken", access_token()),
        ("User", user()),
        ("Building", building()),
        ("HeatPump", heat_pump()),
        ("EnergyContract", energy_contract()),
        ("OnboardingSession", onboarding_session()),
        ("AuthSession", auth_session()),
        ("Data", data()),
        ("Statistics", statistics()),
        ("Savings", savings()),
        ("Refusal", refusal()),
        ("TokenRefusal", text_of("error")),
    ];
    named.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(super) fn flag() -> Value {
    json!({"type": "boolean", "default": false})
}

pub(super) fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

pub(super) fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub(super) fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// An object that always has these fields, and only these.
fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": names, "properties": properties, "additionalProperties": false})
}

/// A body whose fields are those of the tables; all may be left out, or null.
pub(super) fn body(tables: &[&Table]) -> Value {
    let fields = tables.iter().flat_map(|table| table.iter());
    let taken = fields.filter(|(_, kind)| !matches!(kind, FieldKind::ReadOnly));
    let properties: Map<String, Value> = taken.map(|(name, kind)| ((*name).to_owned(), or_null(of(*kind)))).collect();
    json!({"type": "object", "properties": properties})
}

/// The schema of a field that is not null.
fn of(kind: FieldKind) -> Value {
    match kind {
        FieldKind::Flag => json!({"type": "boolean"}),
        FieldKind::Integer => json!({"type": "integer"}),
        FieldKind::Number => json!({"type": "number"}),
        FieldKind::Text(Some(max)) => json!({"type": "string", "maxLength": max}),
        FieldKind::Text(None) | FieldKind::Country | FieldKind::ZipCode(usize::MAX) => json!({"type": "string"}),
        FieldKind::ZipCode(max) => json!({"type": "string", "maxLength": max}),
        FieldKind::OneOf(words) => word(words),
        FieldKind::Email(max) => json!({"type": "string", "format": "email", "maxLength": max}),
        FieldKind::Role => word(&UserRole::names()),
        FieldKind::Id => uuid(),
        FieldKind::Moment => moment(),
        FieldKind::Object => json!({"type": "object"}),
        FieldKind::List => list(json!({"type": "object"})),
        FieldKind::ReadOnly => json!({}),
    }
}

fn or_null(mut schema: Value) -> Value {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    schema
}

/// The fields of a table as answers show them.
fn shown(table: &Table) -> Vec<(&'static str, Value)> {
    table.iter().map(|(name, kind)| (*name, or_null(of(*kind)))).collect()
}

pub(super) fn building_name() -> Value {
    json!({"type": "string", "maxLength": NAME_CHARS_MAX})
}

pub(super) fn new_user() -> Value {
    let mut schema = changed_user();
    schema["required"] = json!(["email", "role"]);
    schema
}

pub(super) fn changed_user() -> Value {
    let mut schema = body(&[&USER_FIELDS]);
    schema["properties"]["email"] = of(FieldKind::Email(EMAIL_CHARS_MAX));
    schema["properties"]["role"] = of(FieldKind::Role);
    schema
}

pub(super) fn new_session() -> Value {
    let url = || json!({"type": "string", "maxLength": RETURN_URL_CHARS_MAX});
    json!({
        "type": "object",
        "required": ["user_id", "language", "price_zone_default", "success_url", "cancel_url"],
        "properties": {
            "user_id": uuid(), "language": word(&LANGUAGES), "price_zone_default": word(&PRICE_ZONES),
            "success_url": url(), "cancel_url": url(),
            "is_smart_optimization_active_default": nullable("boolean"), "building_id": or_null(uuid()),
        },
    })
}

pub(super) fn return_urls() -> Value {
    json!({
        "type": "object", "required": ["successUrl", "cancelUrl"],
        "properties": {
            "successUrl": {"type": "string"}, "cancelUrl": {"type": "string"}, "language": {}, "location": {}, "clientInfo": {},
        },
    })
}

pub(super) fn optional_urls() -> Value {
    json!({"type": "object", "properties": {"success_url": nullable("string"), "cancel_url": nullable("string")}})
}

pub(super) fn cue_report() -> Value {
    json!({
        "type": "object", "required": ["state"],
        "properties": {"state": word(&["success", "fail"]), "payload": {}, "location": {}, "client_info": {}},
    })
}

/// An object with one text.
pub(super) fn text_of(name: &str) -> Value {
    object(&[(name, json!({"type": "string"}))])
}

fn access_token() -> Value {
    let text = || json!({"type": "string"});
    object(&[
        ("access_token", text()),
        ("expires_in", json!({"type": "integer"})),
        ("token_type", json!({"const": "Bearer"})),
        ("scope", text()),
    ])
}

fn user() -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let mut fields = vec![
        ("id", uuid()),
        ("organization_id", uuid()),
        ("role", of(FieldKind::Role)),
        ("email", json!({"type": "string"})),
        ("num_heat_pumps", count()),
        ("num_inverters", count()),
        ("num_electric_vehicles", count()),
        ("num_wallboxes", count()),
        ("last_login", or_null(moment())),
        ("joined_at", or_null(moment())),
    ];
    fields.extend(shown(&USER_FIELDS));
    object(&fields)
}

fn building() -> Value {
    let mut fields = vec![("id", uuid()), ("name", building_name())];
    fields.extend(shown(&BUILDING_FIELDS));
    object(&fields)
}

/// A control may set any field of a heat pump to anything, so only the kinds of an untouched one are given.
fn heat_pump() -> Value {
    let kind = |value: &Value| match value {
        Value::Bool(_) => nullable("boolean"),
        Value::String(_) => nullable("string"),
        Value::Array(_) => nullable("array"),
        Value::Object(_) => nullable("object"),
        Value::Number(_) => nullable("number"),
        Value::Null => json!({}),
    };
    let mut properties: Map<String, Value> =
        untouched_heat_pump().iter().map(|(name, value)| (name.clone(), kind(value))).collect();
    let own = [("id", uuid()), ("owner", nullable("object")), ("created_at", moment()), ("updated_at", moment())];
    properties.extend(own.map(|(name, schema)| (name.to_owned(), schema)));
    properties.insert("current_state_last_updated_at".to_owned(), or_null(moment()));
    // Items of a list have none unless switched.
    let required: Vec<&String> = properties.keys().filter(|name| *name != "actions").collect();
    json!({"type": "object", "required": required, "properties": properties})
}

fn energy_contract() -> Value {
    let mut fields = vec![("id", uuid())];
    fields.extend(shown(&CONTRACT_FIELDS).into_iter().map(|(name, schema)| match name {
        "building_id" => ("building", schema),
        name => (name, schema),
    }));
    object(&fields)
}

fn onboarding_session() -> Value {
    object(&[
        ("id", uuid()),
        ("user", uuid()),
        ("authentication_url", json!({"type": "string", "format": "uri"})),
        ("success_url", json!({"type": "string"})),
        ("cancel_url", json!({"type": "string"})),
        ("expiration_date", json!({"type": "string", "format": "date"})),
        ("object_id", or_null(uuid())),
        ("external_metadata", json!({"type": "object"})),
    ])
}

fn auth_session() -> Value {
    let ids = [("device_id", or_null(uuid())), ("session_id", or_null(uuid()))];
    let fields: Vec<_> = [("authentication_url", nullable("string"))].into_iter().chain(ids).collect();
    object(&fields)
}

fn data() -> Value {
    let number = || nullable("number");
    let reading = object(&[
        ("time", moment()),
        ("price", number()),
        ("inlet_temp_act", number()),
        ("hot_water_temp", number()),
        ("estimated_consumption", number()),
        ("simulated_consumption", number()),
        ("unoptimized_consumption", number()),
        ("estimated_consumption_filtered", number()),
    ]);
    object(&[("metadata", json!({"type": "object"})), ("data", list(reading))])
}

fn statistics() -> Value {
    let metadata = object(&[
        ("requested_at", moment()),
        ("query", json!({"type": "string"})),
        ("units", json!({"type": "object"})),
        ("error", nullable("string")),
    ]);
    let statistic = object(&[
        ("resolution", word(&PeriodLength::OF_STATISTICS.map(PeriodLength::name))),
        ("period", object(&[("start_period", moment()), ("end_period", moment())])),
        ("savings", nullable("object")),
        ("consumption", nullable("object")),
        ("heat_pump", nullable("object")),
        ("electric_vehicle", nullable("object")),
        ("inverter", nullable("object")),
    ]);
    object(&[("metadata", metadata), ("data", list(statistic))])
}

fn savings() -> Value {
    let number = || json!({"type": "number"});
    object(&[
        ("total_savings", number()),
        ("heat_pump_savings", number()),
        ("electric_vehicle_savings", number()),
        ("inverter_savings", number()),
    ])
}

/// Django Ninja's form; Podero documents none.
fn refusal() -> Value {
    let problem = object(&[
        ("type", json!({"type": "string"})),
        ("loc", list(json!({"type": "string"}))),
        ("msg", json!({"type": "string"})),
    ]);
    object(&[("detail", json!({"oneOf": [{"type": "string"}, list(problem)]}))])
}
