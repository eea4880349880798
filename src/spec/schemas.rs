//! Pieces of JSON Schemas: of fields, and of types of the program.
//!
//! Before: [`schemars`] derives the schema of a type. After: the documents and schemas of [`crate::spec`].

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// The schema of what is written from a type.
pub(super) fn schema<T: JsonSchema>() -> Value {
    derived::<T>(SchemaSettings::draft2020_12().for_serialize(), true)
}

/// The schema of what is read into a type.
pub(super) fn request<T: JsonSchema>() -> Value {
    derived::<T>(SchemaSettings::draft2020_12(), false)
}

fn derived<T: JsonSchema>(settings: SchemaSettings, takes_null: bool) -> Value {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let simplified = RecursiveTransform(move |schema: &mut Schema| simplify(schema, takes_null));
    let mut schema = settings.with_transform(simplified).into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.into()
}

/// Makes a derived schema read as those that are written here. Only where `takes_null` may what is left out be null as well.
fn simplify(schema: &mut Schema, takes_null: bool) {
    let Some(schema) = schema.as_object_mut() else { return };
    if !takes_null && let Some(Value::Array(types)) = schema.get("type") {
        let other = types.iter().find(|name| *name != "null").cloned();
        schema.extend(other.map(|name| ("type".to_owned(), name)));
    }
    if schema.get("type").is_some_and(|kind| kind.to_string().contains("integer")) {
        // Each number counts something; the format is that of a language's integers.
        schema.remove("format");
        schema.entry("minimum").or_insert(json!(0));
    }
    if schema.contains_key("properties") {
        schema.remove("description");
    }
    if let Some(Value::String(sentence)) = schema.get_mut("description") {
        *sentence = phrase(sentence);
    }
}

/// A comment's sentence as the documents have it: a phrase, without a capital and a full stop.
fn phrase(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.').replace('\n', " ");
    if sentence.starts_with("Podero") {
        return sentence;
    }
    let mut letters = sentence.chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

/// An object of these fields, all of them always there.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// The object with one more field, or another schema of a field.
pub(super) fn with(mut object: Value, name: &str, schema: Value) -> Value {
    let is_new = object["properties"].get(name).is_none();
    object["properties"][name] = schema;
    object["required"].as_array_mut().filter(|_| is_new).into_iter().for_each(|names| names.push(json!(name)));
    object
}

pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(super) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

pub(super) fn text_or_null(description: &str) -> Value {
    or_null(text(description))
}

pub(super) fn uuid(description: &str) -> Value {
    json!({"type": "string", "format": "uuid", "description": description})
}

pub(super) fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    schema
}

pub(super) fn moment(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

pub(super) fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

pub(super) fn one_of(words: &[&str], description: &str) -> Value {
    json!({"type": "string", "enum": words, "description": description})
}
