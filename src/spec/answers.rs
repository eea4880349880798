//! Pieces of OpenAPI documents that both HTTP listeners have: answers, problems, and the operation that serves the document.
//!
//! Before: [`crate::problem`], which has the kinds. After: the OpenAPI documents of [`crate::spec`].

use serde_json::{Value, json};

use super::schemas::{list, schema};
use crate::listener::PROBLEM_JSON;
use crate::problem::{FieldError, ProblemKind};

/// Media type of answers that are no problems.
const MEDIA_TYPE: &str = "application/json";

/// The version that the documents describe.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn info(title: &str, description: &str) -> Value {
    let licence = json!({"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"});
    json!({"title": title, "version": VERSION, "description": description, "license": licence})
}

/// A problem as an answer (RFC 9457) of one of these kinds.
pub(super) fn problem(kinds: &[ProblemKind]) -> Value {
    let types: Vec<String> = kinds.iter().map(|kind| kind.type_uri()).collect();
    json!({
        "type": "object",
        "required": ["type", "status", "detail"],
        "properties": {
            "type": {"type": "string", "enum": types},
            "status": {"type": "integer"},
            "title": {"type": "string"},
            "detail": {"type": "string"},
            "errors": list(schema::<FieldError>()),
        },
    })
}

pub(super) fn problem_answer(description: &str, kinds: &[ProblemKind]) -> Value {
    json!({"description": description, "content": {PROBLEM_JSON: {"schema": problem(kinds)}}})
}

/// An answer that has one kind of problem, described by the kind's title.
pub(super) fn titled(kind: ProblemKind) -> Value {
    problem_answer(kind.title(), &[kind])
}

pub(super) fn with_header(mut answer: Value, name: &str, header: Value) -> Value {
    answer["headers"] = json!({ (name): header });
    answer
}

/// A problem with `WWW-Authenticate`; `schemes` says which challenges there are.
pub(super) fn challenge_answer(description: &str, kinds: &[ProblemKind], schemes: &str) -> Value {
    let header = json!({"required": true, "schema": {"type": "string"}, "description": schemes});
    with_header(problem_answer(description, kinds), "WWW-Authenticate", header)
}

/// A problem with `Retry-After`.
pub(super) fn later_answer(description: &str, kinds: &[ProblemKind]) -> Value {
    let header = json!({"required": true, "schema": {"type": "integer", "minimum": 1}, "description": "seconds"});
    with_header(problem_answer(description, kinds), "Retry-After", header)
}

pub(super) fn json_answer(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {MEDIA_TYPE: {"schema": schema}}})
}

/// The path under which a listener serves its own document.
pub(super) const SELF: &str = "/openapi.json";

/// `GET` of a listener's own document.
pub(super) fn itself() -> Value {
    json!({"get": {
        "operationId": "openapi",
        "summary": "This document",
        "security": [],
        "responses": {"200": json_answer("OpenAPI 3.1", json!({"type": "object"}))},
    }})
}
