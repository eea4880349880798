//! What the bridge says of its own interfaces, for machines: JSON Schemas of every event in and out, OpenAPI 3.1 of both
//! doors, AsyncAPI 3.0 of the bus.
//!
//! Made of the tables by which the doors read (fields, limits, allowed values, problems, topics), so that these cannot fall
//! behind; what else stands here is held by the tests against what the program does. Pure: it makes values, and neither
//! serves nor checks anything.
//!
//! Before: the tables of [`crate::domain`], [`crate::inbound`] and [`crate::store`]. After: [`crate::app`] hands the
//! documents to the doors, and `docs/` has copies of them.

mod bus;
mod door;
mod events;
mod notices;
mod operator;

use serde_json::{Map, Value, json};

use crate::listener::PROBLEM_JSON;
use crate::problem::ProblemKind;

/// The dialect of every schema here, and of OpenAPI 3.1.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// RFC 6838 media type of OpenAPI and AsyncAPI documents as they are served.
pub const MEDIA_TYPE: &str = "application/json";

/// OpenAPI 3.1 of the public door.
pub fn door() -> Value {
    door::document()
}

/// OpenAPI 3.1 of the operator's door.
pub fn operator() -> Value {
    operator::document()
}

/// AsyncAPI 3.0 of the bus, in both directions.
pub fn bus() -> Value {
    bus::document()
}

/// Every document, with the path below `docs/` where its copy stands.
pub fn documents() -> Vec<(String, Value)> {
    let mut documents = vec![
        ("openapi/door.json".to_owned(), door()),
        ("openapi/operator.json".to_owned(), operator()),
        ("asyncapi.json".to_owned(), bus()),
    ];
    let schemas = events::schemas().into_iter().chain(notices::schemas());
    documents.extend(schemas.map(|(name, schema)| (format!("schemas/{name}.json"), alone(name, schema))));
    documents
}

/// A schema as a document of its own.
fn alone(name: &str, mut schema: Value) -> Value {
    schema["$schema"] = json!(DIALECT);
    schema["$id"] = json!(format!("urn:podero-bridge:schema:{name}"));
    schema
}

/// The version that the documents describe.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn info(title: &str, description: &str) -> Value {
    let licence = json!({"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"});
    json!({"title": title, "version": VERSION, "description": description, "license": licence})
}

/// An object of these fields, all of them always there.
fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn text_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "description": description})
}

fn uuid(description: &str) -> Value {
    json!({"type": "string", "format": "uuid", "description": description})
}

fn uuid_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "format": "uuid", "description": description})
}

fn moment(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn moment_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "format": "date-time", "description": description})
}

fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn one_of(words: &[&str], description: &str) -> Value {
    json!({"type": "string", "enum": words, "description": description})
}

/// A problem as an answer (RFC 9457) of one of these kinds.
fn problem(kinds: &[ProblemKind]) -> Value {
    let types: Vec<String> = kinds.iter().map(|kind| kind.type_uri()).collect();
    let error = object(&[
        ("pointer", text("where, as an RFC 6901 JSON pointer into the event")),
        ("reason", text("what was found and what is allowed")),
    ]);
    json!({
        "type": "object",
        "required": ["type", "status", "detail"],
        "properties": {
            "type": {"type": "string", "enum": types},
            "status": {"type": "integer"},
            "title": {"type": "string"},
            "detail": {"type": "string"},
            "errors": list(error),
        },
    })
}

fn problem_answer(description: &str, kinds: &[ProblemKind]) -> Value {
    json!({"description": description, "content": {PROBLEM_JSON: {"schema": problem(kinds)}}})
}

/// An answer that has one kind of problem, described by the kind's title.
fn titled(kind: ProblemKind) -> Value {
    problem_answer(kind.title(), &[kind])
}

/// The same with `WWW-Authenticate`; `schemes` says which challenges there are.
fn challenge_answer(description: &str, kinds: &[ProblemKind], schemes: &str) -> Value {
    let mut answer = problem_answer(description, kinds);
    let schema = json!({"type": "string"});
    answer["headers"] = json!({"WWW-Authenticate": {"required": true, "schema": schema, "description": schemes}});
    answer
}

/// The same with `Retry-After`.
fn later_answer(description: &str, kinds: &[ProblemKind]) -> Value {
    let mut answer = problem_answer(description, kinds);
    let schema = json!({"type": "integer", "minimum": 1});
    answer["headers"] = json!({"Retry-After": {"required": true, "schema": schema, "description": "seconds"}});
    answer
}

fn json_answer(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {MEDIA_TYPE: {"schema": schema}}})
}

/// The path under which a door serves its own document.
const SELF: &str = "/openapi.json";

/// `GET` of a door's own document.
fn itself() -> Value {
    json!({"get": {
        "operationId": "openapi",
        "summary": "This document",
        "security": [],
        "responses": {"200": json_answer("OpenAPI 3.1", &json!({"type": "object"}))},
    }})
}
