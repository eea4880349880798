//! OpenAPI 3.1 of the webhook endpoint.
//!
//! Before: [`crate::inbound::http`], which answers so. After: [`crate::spec`].

use serde_json::{Map, Value, json};

use super::answers::{
    SELF, challenge_answer, info, itself, json_answer, later_answer, problem, problem_answer, titled, with_header,
};
use super::events;
use super::schemas::{list, object, one_of, text};
use crate::config::DEFAULT_SOURCE;
use crate::domain::event::EventState;
use crate::inbound::cloudevents::{BATCH, STRUCTURED};
use crate::problem::ProblemKind;

const DESCRIPTION: &str = "Where customer events arrive. 202 means: on disk. A repeat is safe at any time. \
    The media type says which of the three modes of CloudEvents 1.0 it is; a source with a mapping takes its sender's own \
    JSON instead.";

/// OpenAPI 3.1 of the webhook endpoint.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": info("podero-bridge: events in", DESCRIPTION),
        "paths": {
            "/v1/events": endpoint(false),
            "/v1/events/{source}": endpoint(true),
            SELF: itself(),
        },
        "components": {"schemas": schemas(), "securitySchemes": schemes()},
    })
}

/// The proofs that a source may demand; the configuration says which, if any.
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
    let any: Vec<Value> = schemas.keys().map(|name| reference(name)).collect();
    schemas.insert("Event".to_owned(), json!({"oneOf": any}));
    schemas.insert("Receipt".to_owned(), receipt());
    schemas.insert("Results".to_owned(), results());
    schemas
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn receipt() -> Value {
    let state = "what has become of it; of a duplicate, of the first one";
    object(&[
        ("id", text("the bridge's own id of the event, for the admin API")),
        ("status", one_of(&["accepted", "duplicate"], "whether it was new")),
        ("state", one_of(&EventState::names(), state)),
    ])
}

/// Problems for which one event of a batch is rejected.
const REJECTED: [ProblemKind; 7] = [
    ProblemKind::InvalidEvent,
    ProblemKind::EventIdReused,
    ProblemKind::TypeNotAllowed,
    ProblemKind::MemberIdIsAddress,
    ProblemKind::ExpiresBeforeEvent,
    ProblemKind::ForeignEmailDomain,
    ProblemKind::GuestAccess,
];

fn results() -> Value {
    let rejected = object(&[("status", json!({"const": "rejected"})), ("problem", problem(&REJECTED))]);
    let one = json!({"oneOf": [reference("Receipt"), rejected]});
    let mut results = object(&[("results", list(one))]);
    results["description"] = json!("one per event, in order");
    results
}

fn parameter(place: &str, name: &str, description: &str) -> Value {
    let is_required = place == "path";
    json!({"name": name, "in": place, "required": is_required, "schema": {"type": "string"}, "description": description})
}

/// The endpoint of the source that the path names, or of the default one.
fn endpoint(is_named: bool) -> Value {
    let mut source = parameter("path", "source", "the name of a `[[source]]` of the configuration");
    source["example"] = json!(DEFAULT_SOURCE);
    let source: Vec<Value> = is_named.then_some(source).into_iter().collect();
    let id = |name| parameter("header", name, "names a message that is translated, where its translation does not");
    let parameters = [&source[..], &["idempotency-key", "webhook-id"].map(id)].concat();
    let post = json!({
        "operationId": if is_named { "sendEvents" } else { "sendEventsToDefault" },
        "summary": "Send one event, a batch, or a message for the source's mapping",
        "parameters": parameters,
        "security": [{}, {"standardWebhooks": []}, {"hmac": []}, {"bearer": []}, {"basic": []}],
        "requestBody": {"required": true, "content": {
            STRUCTURED: {"schema": reference("Event")},
            BATCH: {"schema": list(reference("Event"))},
            "application/json": {"schema": {
                "description": "the data of an event whose attributes are in headers `ce-…`, or what the source's mapping takes",
            }},
        }},
        "responses": responses(),
    });
    json!({"post": post, "options": handshake(source, is_named)})
}

const CHALLENGES: &str =
    "what the source demands: `Basic`, `Bearer`, or for a signature `standard-webhooks` or `hmac`, each with a realm";

fn responses() -> Value {
    use ProblemKind as Kind;
    let taken = json!({"oneOf": [reference("Receipt"), reference("Results")]});
    let unprocessable = [
        Kind::InvalidEvent,
        Kind::Unmappable,
        Kind::EventIdReused,
        Kind::MemberIdIsAddress,
        Kind::ExpiresBeforeEvent,
        Kind::ForeignEmailDomain,
        Kind::GuestAccess,
    ];
    json!({
        "202": json_answer("It is on disk; or, of a batch, what became of each event. Without a body where the source is configured so", taken),
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
    let header = json!({
        "required": false, "schema": {"type": "string"}, "description": "codings that are read, where the body's is none of them",
    });
    with_header(
        problem_answer("Another media type, or packed otherwise than with gzip", &kinds),
        "Accept-Encoding",
        header,
    )
}

/// CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, §4.
fn handshake(mut parameters: Vec<Value>, is_named: bool) -> Value {
    parameters.push(parameter("header", "WebHook-Request-Origin", "who asks"));
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
