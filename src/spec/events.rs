//! JSON Schemas of the events that come in.
//!
//! A schema is somewhat narrower than the reader of events, which also takes spaces around a text, an empty text for none, and
//! another case of a value. The reader takes every event that satisfies its schema. No schema can state a rule on two fields or
//! on the time of day (`subject` against `customer_id`, a `time` in the future): the descriptions do.
//!
//! Before: [`crate::inbound::wire`], which has the limits. After: [`crate::spec`].

use serde_json::{Map, Value, json};

use super::schemas::{object, or_null};
use crate::domain::ID_CHARS_MAX;
use crate::domain::event::{EventKind, Field};
use crate::domain::team::MemberRole;
use crate::inbound::cloudevents::ATTRIBUTE_CHARS_MAX;
use crate::inbound::wire::{FieldForm, NOTHING, WHOLE_MAX, form};

/// Letters of European languages and their signs, without blanks: the reader takes every visible character of Unicode, which no
/// pattern can list.
const VISIBLE: &str = r"!-~\u00a1-\u00ac\u00ae-\u034e\u0350-\u0377\u0400-\u052f\u1e00-\u1eff\u2010-\u2027\u2030-\u205e";
/// Characters of an e-mail address: [`VISIBLE`] without the signs that stand around an address, or between two.
const IN_EMAIL: &str = r"!-'*+\-./0-9=?A-Z\\^-~\u00a1-\u00ac\u00ae-\u034e\u0350-\u0377\u0400-\u052f\u1e00-\u1eff\u2010-\u2027\u2030-\u205e";
/// A year from 2001 on: an earlier date than 2000-01-02 is a mistake.
const YEAR: &str = "^2[01](0[1-9]|[1-9][0-9])-";

/// A media type of JSON.
const JSON_TYPE: &str = r"^(application|text)/(json|[A-Za-z0-9.-]+\+json)$";
/// A character that is no space.
const FILLED: &str = r"\S";

/// The schema of each type of event, in the order of the contract.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    EventKind::ALL.into_iter().map(|kind| (kind.name(), event(kind))).collect()
}

fn event(kind: EventKind) -> Value {
    let type_name = kind.name();
    let (description, mut data) = match kind {
        EventKind::SignedUp => ("A person became a customer.", details(true)),
        EventKind::Moved => ("The customer left one home for another.", moved()),
        EventKind::Updated => ("Something known about the customer was corrected.", details(false)),
        EventKind::Churned => ("The customer left.", churned()),
        EventKind::MemberJoined => ("A person joined the utility's team.", member_joined()),
        EventKind::MemberUpdated => ("Something known about a member of the team was corrected.", member_updated()),
        EventKind::MemberRoleChanged => ("A member of the team has another role.", member_role_changed()),
        EventKind::MemberLeft => ("A member of the team left.", member_left()),
    };
    let (whose, subject) = if kind.is_of_team() { ("member", "member_id") } else { ("customer", "customer_id") };
    let subject_id = format!("the utility's own id of the {whose}; here or as `subject`, the same if both");
    data["properties"][subject] = id(&subject_id);
    if kind.is_of_team() {
        data["properties"][subject]["description"] =
            json!(format!("{subject_id}; never an e-mail address, which is refused as member-id-is-address"));
    }
    let is_all_in_subject = matches!(kind, EventKind::Churned | EventKind::MemberLeft);
    if is_all_in_subject {
        data["type"] = json!(["object", "null"]);
    }
    let mut source = line(ATTRIBUTE_CHARS_MAX);
    source["minLength"] = json!(1);
    source["format"] = json!("uri-reference");
    source["description"] = json!("who made the event");
    let mut event = object(&[
        ("specversion", json!({"const": "1.0"})),
        ("id", id("unique within `source`; a repeat has the same")),
        ("source", source),
        ("type", json!({"const": type_name})),
    ]);
    event["title"] = json!(type_name);
    event["description"] = json!(format!("{description} A CloudEvent 1.0 in the structured JSON format."));
    let when = "when it happened, at most a day ahead and not before 2000-01-02; without it the moment of its arrival";
    let properties = &mut event["properties"];
    properties["subject"] = id(&format!("the {whose}'s id"));
    properties["time"] = json!({"type": "string", "format": "date-time", "pattern": YEAR, "description": when});
    properties["datacontenttype"] = json!({"type": "string", "pattern": JSON_TYPE, "description": "JSON of any kind"});
    properties["data"] = data;
    properties["data_base64"] = json!({"type": "string", "description": "the same as `data`, in Base64"});
    let extension = "an extension attribute; kept";
    event["additionalProperties"] = json!({"type": ["string", "integer", "boolean", "null"], "description": extension});
    event["not"] = json!({"required": ["data", "data_base64"]});
    let may_be_ahead = match kind {
        EventKind::Moved
        | EventKind::Churned
        | EventKind::MemberJoined
        | EventKind::MemberRoleChanged
        | EventKind::MemberLeft => true,
        EventKind::SignedUp | EventKind::Updated | EventKind::MemberUpdated => false,
    };
    if may_be_ahead {
        // They belong into `data`; next to it they are refused, since ignoring them could take something away.
        for name in ["cancelled", "effective_at", "effectiveat"] {
            event["properties"][name] = json!(false);
        }
    }
    if !is_all_in_subject {
        event["required"].as_array_mut().into_iter().for_each(|names| names.push(json!("data")));
    }
    let named = json!({"required": ["data"], "properties": {"data": {"type": "object", "required": [subject]}}});
    event["anyOf"] = json!([{"required": ["subject"]}, named]);
    event
}

fn id(description: &str) -> Value {
    let pattern = format!("^[{VISIBLE}]([ {VISIBLE}]*[{VISIBLE}])?$");
    json!({"type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": pattern, "not": {"pattern": nothing()},
           "description": description})
}

/// The words for nothing, in either case of each letter: the dialect of JSON Schema has no flag for that.
fn nothing() -> String {
    let either = |letter: char| match letter {
        letter if letter.is_ascii_alphabetic() => format!("[{}{letter}]", letter.to_ascii_uppercase()),
        letter => format!("\\{letter}"),
    };
    let words = NOTHING.map(|word| word.chars().map(either).collect::<String>());
    format!("^({})$", words.join("|"))
}

/// A text in one line.
fn line(chars_max: usize) -> Value {
    json!({"type": "string", "maxLength": chars_max, "pattern": format!("^[ {VISIBLE}]*$")})
}

fn details(is_sign_up: bool) -> Value {
    let mut properties = properties(&Field::PERSONAL);
    let email = &mut properties[Field::Email.name()];
    email["pattern"] = json!(format!("^[{IN_EMAIL}]+@[{IN_EMAIL}]+$"));
    if is_sign_up {
        email["type"] = json!("string");
    }
    properties.insert("address".to_owned(), address(true));
    home(&mut properties);
    let required: &[&str] = if is_sign_up { &["email"] } else { &[] };
    json!({"type": "object", "required": required, "properties": properties})
}

fn moved() -> Value {
    let mut properties = Map::from_iter([
        ("address".to_owned(), new_address()),
        ("effective_at".to_owned(), ahead("when the customer moves")),
        ("cancelled".to_owned(), cancelled("the move that was announced is off; nothing else is needed then")),
    ]);
    home(&mut properties);
    for object in ["address", "building"] {
        // They decide about the move, and are looked at in `data` alone.
        for name in ["cancelled", "effective_at"] {
            properties[object]["properties"][name] = json!(false);
        }
    }
    let is_cancelled = json!({"required": ["cancelled"], "properties": {"cancelled": {"const": true}}});
    json!({"type": "object", "properties": properties, "anyOf": [{"required": ["address"]}, is_cancelled]})
}

fn churned() -> Value {
    let properties = Map::from_iter([
        ("effective_at".to_owned(), ahead("when the contract ends")),
        ("cancelled".to_owned(), cancelled("the end that was announced is off")),
        ("reason".to_owned(), json!({"description": "for the sender's own use"})),
    ]);
    json!({"type": "object", "properties": properties})
}

fn member_joined() -> Value {
    let mut properties = person();
    properties["email"]["type"] = json!("string");
    properties.insert("role".to_owned(), role());
    properties
        .insert("expires_at".to_owned(), ahead("when the access ends by itself; not before the event's own time"));
    announced(
        &mut properties,
        "when the member joins",
        "the join that was announced is off; nothing else is needed then",
    );
    let is_cancelled = json!({"required": ["cancelled"], "properties": {"cancelled": {"const": true}}});
    json!({"type": "object", "properties": properties, "anyOf": [{"required": ["email", "role"]}, is_cancelled]})
}

fn member_updated() -> Value {
    let mut properties = person();
    let end = "when the access ends by itself, not before the event's own time; null removes the end";
    properties.insert("expires_at".to_owned(), ahead(end));
    json!({"type": "object", "properties": properties})
}

fn member_role_changed() -> Value {
    let mut properties = Map::from_iter([("role".to_owned(), role())]);
    let off = "the change that was announced is off; nothing else is needed then";
    announced(&mut properties, "when the role changes", off);
    let is_cancelled = json!({"required": ["cancelled"], "properties": {"cancelled": {"const": true}}});
    json!({"type": "object", "properties": properties, "anyOf": [{"required": ["role"]}, is_cancelled]})
}

fn member_left() -> Value {
    let mut properties = Map::from_iter([("reason".to_owned(), json!({"description": "for the sender's own use"}))]);
    announced(&mut properties, "when the member leaves", "the leave that was announced is off");
    json!({"type": "object", "properties": properties})
}

fn announced(properties: &mut Map<String, Value>, when: &str, off: &str) {
    properties.insert("effective_at".to_owned(), ahead(when));
    properties.insert("cancelled".to_owned(), cancelled(off));
}

/// The fields of a member's person.
fn person() -> Map<String, Value> {
    let mut properties = properties(&[Field::Email, Field::FirstName, Field::LastName]);
    properties["email"]["pattern"] = json!(format!("^[{IN_EMAIL}]+@[{IN_EMAIL}]+$"));
    properties
}

fn role() -> Value {
    json!({"type": "string", "enum": MemberRole::names(), "description": "the role at Podero"})
}

fn ahead(description: &str) -> Value {
    let description = format!("{description}, if not at once; at most ten years ahead, and not before 2000-01-02");
    json!({"type": ["string", "null"], "format": "date-time", "pattern": YEAR, "description": description})
}

fn cancelled(description: &str) -> Value {
    json!({"type": ["boolean", "null"], "description": description})
}

fn home(properties: &mut Map<String, Value>) {
    let which = "which of the customer's homes; `main` unless there are several";
    properties.insert("building_key".to_owned(), or_null(id(which)));
    properties.insert("building".to_owned(), building());
}

/// The address of a move: the whole of it, not a part.
fn new_address() -> Value {
    let mut schema = address(false);
    let zip_or_town = json!({"anyOf": [says(Field::ZipCode), says(Field::Town)]});
    schema["allOf"] = json!([says(Field::StreetAndNumber), zip_or_town]);
    schema["description"] = json!("the whole new address: street_and_number, and zip_code or town at least");
    schema
}

/// An address that has this part, and not empty.
fn says(field: Field) -> Value {
    let filled = json!({"type": "string", "pattern": FILLED});
    json!({"required": [field.name()], "properties": {field.name(): filled}})
}

fn address(is_optional: bool) -> Value {
    let properties = properties(&Field::ADDRESS);
    let mut ways: Vec<Value> = Field::ADDRESS.iter().copied().map(says).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if is_optional {
        schema["type"] = json!(["object", "null"]);
        ways.push(json!({"type": "null"}));
    }
    schema["anyOf"] = Value::Array(ways);
    schema["description"] = json!("at least one part; text, a ZIP code too");
    schema
}

fn building() -> Value {
    let mut properties = properties(&Field::BUILDING);
    properties.insert("key".to_owned(), or_null(id("the same as `building_key`")));
    json!({"type": ["object", "null"], "properties": properties})
}

/// Fields by their names; each may be null.
fn properties(fields: &[Field]) -> Map<String, Value> {
    let schema = |field: Field| match form(field) {
        FieldForm::Text(chars_max) => or_null(line(chars_max)),
        FieldForm::OneOf(words) => {
            let allowed: Vec<Value> = words.iter().map(|word| json!(word)).chain([Value::Null]).collect();
            json!({"type": ["string", "null"], "enum": allowed})
        }
        FieldForm::Whole => json!({"type": ["integer", "null"], "minimum": 0, "maximum": WHOLE_MAX}),
        FieldForm::Flag => json!({"type": ["boolean", "null"]}),
    };
    fields.iter().map(|field| (field.name().to_owned(), schema(*field))).collect()
}
