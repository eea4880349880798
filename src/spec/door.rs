//! OpenAPI 3.1 of the public door.
//!
//! Before: [`crate::inbound::http`], which answers so. After: [`crate::spec`].

use serde_json::{Map, Value, json};

use super::{
    SELF, challenge_answer, events, info, itself, json_answer, later_answer, list, object, one_of, problem,
    problem_answer, text, titled,
};
use crate::config::DEFAULT_SOURCE;
use crate::domain::event::EventState;
use crate::inbound::cloudevents::{BATCH, STRUCTURED};
use crate::problem::ProblemKind;

const DESCRIPTION: &str = "Where customer events arrive. 202 means: on disk. A repeat is safe at any time. \
    The media type says which of the three modes of CloudEvents 1.0 it is; a source with a mapping takes its sender's own \
    JSON instead.";

pub(super) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": info("podero-bridge: events in", DESCRIPTION),
        "paths": {
            "/v1/events": source(&[]),
            "/v1/events/{source}": source(&[json!({
                "name": "source", "in": "path", "required": true, "schema": {"type": "string"},
                "example": DEFAULT_SOURCE,
                "description": "the name of a `[[source]]` of the configuration",
            })]),
            SELF: itself(),
        },
        "components": {"schemas": schemas(), "securitySchemes": schemes()},
    })
}

/// What a source demands is in the configuration: one of these, or nothing.
fn schemes() -> Value {
    let header = |name: &str, description: &str| json!({"type": "apiKey", "in": "header", "name": name, "description": description});
    json!({
        "standardWebhooks": header("webhook-signature", "Standard Webhooks, with `webhook-id` and `webhook-timestamp`"),
        "hmac": header("x-signature", "a signature in the sender's own way; the header is configured"),
        "bearer": {"type": "http", "scheme": "bearer"},
        "basic": {"type": "http", "scheme": "basic"},
    })
}

fn schemas() -> Map<String, Value> {
    let mut schemas: Map<String, Value> =
        events::schemas().into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let names: Vec<String> = schemas.keys().map(|name| reference(name)).collect();
    let any: Vec<Value> = names.iter().map(|name| json!({"$ref": name})).collect();
    schemas.insert("Event".to_owned(), json!({"oneOf": any}));
    schemas.insert("Receipt".to_owned(), receipt());
    schemas.insert("Results".to_owned(), results());
    schemas
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

fn receipt() -> Value {
    let state = "what has become of it; of a duplicate, of the first one";
    object(&[
        ("id", text("the bridge's own id of the event, for the operator's door")),
        ("status", one_of(&["accepted", "duplicate"], "whether it was new")),
        ("state", one_of(&EventState::names(), state)),
    ])
}

/// Why one event of a batch is rejected.
const REJECTED: [ProblemKind; 3] = [ProblemKind::InvalidEvent, ProblemKind::EventIdReused, ProblemKind::TypeNotAllowed];

fn results() -> Value {
    let rejected = object(&[("status", json!({"const": "rejected"})), ("problem", problem(&REJECTED))]);
    let one = json!({"oneOf": [{"$ref": reference("Receipt")}, rejected]});
    let mut results = object(&[("results", list(one))]);
    results["description"] = json!("one per event, in order");
    results
}

fn source(parameters: &[Value]) -> Value {
    let is_named = !parameters.is_empty();
    let mut post = json!({
        "operationId": if is_named { "sendEvents" } else { "sendEventsToDefault" },
        "summary": "Send one event, a batch, or a message for the source's mapping",
        "parameters": parameters,
        "security": [{}, {"standardWebhooks": []}, {"hmac": []}, {"bearer": []}, {"basic": []}],
        "requestBody": {"required": true, "content": {
            STRUCTURED: {"schema": {"$ref": reference("Event")}},
            BATCH: {"schema": list(json!({"$ref": reference("Event")}))},
            "application/json": {"schema": {
                "description": "the data of an event whose attributes are in headers `ce-…`, or what the source's mapping takes",
            }},
        }},
        "responses": responses(),
    });
    let headers = ["idempotency-key", "webhook-id"].map(|name| {
        json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"},
               "description": "names a message that is translated, where its translation does not"})
    });
    post["parameters"].as_array_mut().into_iter().for_each(|all| all.extend(headers.clone()));
    json!({"post": post, "options": handshake(parameters, is_named)})
}

const CHALLENGES: &str =
    "what the source demands: `Basic`, `Bearer`, or for a signature `standard-webhooks` or `hmac`, each with a realm";

fn responses() -> Value {
    use ProblemKind as Kind;
    let taken = json!({"oneOf": [{"$ref": reference("Receipt")}, {"$ref": reference("Results")}]});
    let unprocessable = [Kind::InvalidEvent, Kind::Unmappable, Kind::EventIdReused];
    json!({
        "202": json_answer("It is on disk; or, of a batch, what became of each event. Without a body where the source is configured so", &taken),
        "400": titled(Kind::Malformed),
        "401": challenge_answer(Kind::Unauthorized.title(), &[Kind::Unauthorized], CHALLENGES),
        "403": titled(Kind::TypeNotAllowed),
        "404": problem_answer("Nothing here, or no such source", &[Kind::UnknownSource, Kind::NotFound]),
        "405": titled(Kind::MethodNotAllowed),
        "408": titled(Kind::Timeout),
        "413": titled(Kind::TooLarge),
        "415": unread(),
        "422": problem_answer("It is understood, and cannot be taken", &unprocessable),
        "503": later_answer(Kind::Unavailable.title(), &[Kind::Unavailable]),
    })
}

/// 415 has two causes, and the header stands for one of them (RFC 9110, §12.5.3).
fn unread() -> Value {
    let kinds = [ProblemKind::UnsupportedMediaType, ProblemKind::UnsupportedContentEncoding];
    let mut answer = problem_answer("Another media type, or packed otherwise than with gzip", &kinds);
    answer["headers"] = json!({"Accept-Encoding": {
        "required": false, "schema": {"type": "string"}, "description": "codings that are read, where the body's is none of them",
    }});
    answer
}

/// CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, §4.
fn handshake(parameters: &[Value], is_named: bool) -> Value {
    let mut parameters = parameters.to_vec();
    parameters.push(json!({
        "name": "WebHook-Request-Origin", "in": "header", "required": false, "schema": {"type": "string"},
        "description": "who asks",
    }));
    let header = |description: &str| json!({"schema": {"type": "string"}, "description": description});
    let kinds = [ProblemKind::UnknownSource, ProblemKind::NotFound];
    json!({
        "operationId": if is_named { "handshake" } else { "handshakeOfDefault" },
        "summary": "Ask whether events may be delivered here",
        "parameters": parameters,
        "security": [],
        "responses": {
            "200": {"description": "They may", "headers": {
                "Allow": header("the methods"),
                "WebHook-Allowed-Origin": header("who asked"),
                "WebHook-Allowed-Rate": header("`*`: no limit but that of 503"),
            }},
            "404": problem_answer("No such source", &kinds),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::REFUSED_STATUSES;

    #[test]
    fn every_kind_has_a_status_that_is_counted() {
        let document = document();
        let statuses = document["paths"]["/v1/events"]["post"]["responses"].as_object().expect("answers").keys();
        let refused: Vec<u16> =
            statuses.filter_map(|status| status.parse().ok()).filter(|status| *status >= 400).collect();
        assert_eq!(refused, REFUSED_STATUSES);
    }
}
