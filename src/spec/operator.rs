//! OpenAPI 3.1 of the operator's door.
//!
//! Before: [`crate::admin`], which answers so. After: [`crate::spec`].

use serde_json::{Value, json};

use super::{
    SELF, challenge_answer, count, info, itself, json_answer, later_answer, list, moment, moment_or_null, object,
    one_of, problem_answer, text, text_or_null, titled, uuid,
};
use crate::config::Language;
use crate::domain::alert::{Knowledge, Severity};
use crate::domain::event::EventState;
use crate::domain::notice::Topic;
use crate::domain::verdict::Reason;
use crate::problem::ProblemKind as Kind;
use crate::store::{OpenState, PER_SECOND_DEFAULT, PER_SECOND_MAX, ROWS_MAX, WaitsFor};

const DESCRIPTION: &str = "Health, metrics, and what operators and support staff look up and decide. It belongs to the \
    monitoring network; with `admin.token` everything under /v1 wants that token.";

pub(super) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": info("podero-bridge: the operator's door", DESCRIPTION),
        "security": [{"token": []}],
        "paths": {
            "/livez": open("livez", "The process runs", json!({"200": plain("It does")})),
            "/readyz": open("readyz", "A line for each part", json!({
                "200": plain("All are well"), "503": plain("One is not; its line begins with `[-]`"),
            })),
            "/metrics": open("metrics", "For Prometheus", json!({"200": plain("Text format 0.0.4")})),
            SELF: open_document(),
            "/v1/events": get("openEvents", "Events that are not done, those first that wait for longest", &open_query(), &[], open_events()),
            "/v1/events/{id}": get("event", "An event, its calls, its bytes", &[id("id")], &[], event_whole()),
            "/v1/customers/{id}": get("customer", "A customer and all that happened", &[id("id")], &[], customer()),
            "/v1/parked": get("parked", "What needs a person, oldest first", &parked_query(), &[], parked()),
            "/v1/parked/{id}/retry": retry_one(),
            "/v1/parked/{id}/skip": post("skipParked", "Give one up", &[id("id")], &[404, 409], ("200", moved_on())),
            "/v1/parked/retry": order(),
            "/v1/parked/retries": get("retries", "Retries of many, newest first", &[], &[], object(&[("retries", list(retry()))])),
            "/v1/parked/retries/{id}": get("retry", "A retry of many", &[id("id")], &[], retry()),
            "/v1/parked/retries/{id}/stop": post("stopRetry", "Stop a retry of many", &[id("id")], &[404], ("200", retry())),
            "/v1/heat-pumps": get("heatPumps", "Watched heat pumps, by id", &pumps_query(), &[], pumps()),
            "/v1/heat-pumps/{id}/reconnect-link": reconnect_link(),
            "/v1/alerts": get("alerts", "Open alerts, by heat pump", &alerts_query(), &[], alerts()),
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    })
}

fn plain(description: &str) -> Value {
    json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}})
}

/// A path that wants no token.
fn open(operation: &str, summary: &str, responses: Value) -> Value {
    let mut responses = responses;
    responses["403"] = titled(Kind::Forbidden);
    json!({"get": {"operationId": operation, "summary": summary, "security": [], "responses": responses}})
}

fn open_document() -> Value {
    let mut path = itself();
    path["get"]["responses"]["403"] = titled(Kind::Forbidden);
    path
}

fn refusals(statuses: &[u16]) -> Value {
    let mut responses = json!({
        "400": problem_answer("The question makes no sense, or a header is there twice", &[Kind::Malformed]),
        "401": challenge_answer("The token is missing or another", &[Kind::Unauthorized], "`Bearer`, with a realm"),
        "403": titled(Kind::Forbidden),
        "503": later_answer("The store is away", &[Kind::Unavailable]),
    });
    for status in statuses {
        responses[status.to_string()] = match status {
            408 => problem_answer("The body did not come in time", &[Kind::Timeout]),
            404 => problem_answer("Nobody knows it", &[Kind::NotFound]),
            409 => problem_answer("Not in the state for it", &[Kind::NotParked]),
            413 => problem_answer("More than an order has", &[Kind::TooLarge]),
            _ => unreachable!("no route answers {status}"),
        };
    }
    responses
}

fn get(operation: &str, summary: &str, parameters: &[Value], statuses: &[u16], schema: Value) -> Value {
    let names_one = parameters.iter().any(|parameter| parameter["in"] == "path");
    let of_path: &[u16] = if names_one { &[404] } else { &[] };
    let mut responses = refusals(&[statuses, of_path].concat());
    responses["200"] = json_answer("As it is now", &schema);
    json!({"get": {"operationId": operation, "summary": summary, "parameters": parameters, "responses": responses}})
}

fn post(operation: &str, summary: &str, parameters: &[Value], statuses: &[u16], done: (&str, Value)) -> Value {
    let mut responses = refusals(statuses);
    responses[done.0] = json_answer("Done", &done.1);
    json!({"post": {"operationId": operation, "summary": summary, "parameters": parameters, "responses": responses}})
}

fn id(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn parked_query() -> Vec<Value> {
    let mut wanted =
        vec![query("reason", "only those", json!({"type": "string", "enum": Reason::ALL.map(Reason::name)}))];
    wanted.extend(page());
    wanted
}

fn page() -> [Value; 2] {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": ROWS_MAX, "default": ROWS_MAX});
    [
        query("after", "the next page: `next` of the one before", json!({"type": "string"})),
        query("limit", "entries of a page", limit),
    ]
}

fn pumps_query() -> Vec<Value> {
    let mut wanted = vec![
        query("state", "only those", json!({"type": "string", "enum": Knowledge::NAMES})),
        query("manufacturer", "only its", json!({"type": "string"})),
        query("region", "only those of it", json!({"type": "string"})),
    ];
    wanted.extend(page());
    wanted
}

fn alerts_query() -> Vec<Value> {
    let about = "only `true`: resolved ones are in the customers' timelines";
    let mut wanted = vec![query("open", about, json!({"type": "boolean"}))];
    wanted.extend(page());
    wanted
}

fn open_query() -> Vec<Value> {
    let states =
        json!({"type": "string", "enum": OpenState::ALL.map(OpenState::name), "default": OpenState::Pending.name()});
    let mut wanted = vec![
        query("state", "only those", states),
        query("customer_id", "only this customer's", json!({"type": "string"})),
    ];
    wanted.extend(page());
    wanted
}

fn open_events() -> Value {
    let event = object(&[
        ("id", uuid("the bridge's own")),
        ("type", text("as its sender wrote it")),
        ("customer_id", text_or_null("the utility's own")),
        ("source", text("the configured source it came by")),
        ("state", one_of(&OpenState::ALL.map(OpenState::name), "as asked for")),
        ("received_at", moment("when it arrived")),
        ("since", moment("since when it waits; of a scheduled event, the day on which it takes effect")),
        ("failures", count("in a row")),
        (
            "waits_for",
            one_of(&WaitsFor::ALL.map(WaitsFor::name), "why it waits; see The admin API in docs/OPERATIONS.md"),
        ),
        ("behind", text_or_null("the customer's event that comes first")),
        ("reason", text_or_null("why the last try failed, or why it is parked")),
        ("operation", text_or_null("the call to Podero that was made last")),
        ("next_try", moment_or_null("not before this; null: when what it waits for is over")),
    ]);
    object(&[("events", list(event)), ("next", text_or_null("the next page's `after`"))])
}

/// Fields of one event in a list.
fn summary() -> Vec<(&'static str, Value)> {
    vec![
        ("id", uuid("the bridge's own")),
        ("customer_id", text_or_null("the utility's own")),
        ("source", text("the configured source it came by")),
        ("origin", text("its identity, first half: CloudEvents `source`")),
        ("origin_id", text("second half: CloudEvents `id`")),
        ("door", text("webhook, amqp, import or internal")),
        ("type", text("as its sender wrote it")),
        ("time", moment("its place in the customer's order: when it happened, or takes effect")),
        ("received_at", moment("when it arrived")),
        ("state", one_of(&EventState::names(), "see The admin API in docs/OPERATIONS.md")),
        ("due_at", moment("when it is worked on next")),
        ("failures", count("in a row")),
        ("reason", text_or_null("why it is parked, tried again, or superseded")),
        ("detail", text_or_null("more about it, without personal data")),
        ("settled_at", moment_or_null("when it reached its end")),
    ]
}

fn event_whole() -> Value {
    let call = object(&[
        ("at", moment("when")),
        ("operation", text("which")),
        ("outcome", text("what Podero answered, in a few words")),
        ("took_ms", count("milliseconds")),
        ("idempotency_key", text_or_null("the same on every repeat")),
    ]);
    let mut fields = summary();
    fields.extend([
        ("calls", list(call)),
        ("envelope", json!({"type": ["object", "null"], "description": "what came beside its bytes", "additionalProperties": true})),
        ("raw", text("its bytes")),
        ("raw_encoding", one_of(&["utf8", "base64"], "of `raw`")),
    ]);
    object(&fields)
}

fn customer() -> Value {
    let notice = object(&[
        ("id", uuid("the same each time it is sent")),
        ("type", one_of(&Topic::ALL.map(Topic::name), "which")),
        ("target", text("amqp or webhook")),
        ("state", text("pending or published")),
        ("created_at", moment("when")),
        ("failures", count("in a row")),
        ("outcome", text_or_null("why it is not out yet")),
        ("published_at", moment_or_null("when its receiver confirmed it")),
        ("data", json!({"type": "object", "additionalProperties": true})),
    ]);
    object(&[
        ("customer_id", text("the utility's own")),
        (
            "state",
            json!({"type": ["object", "null"], "description": "what is known; its form may change", "additionalProperties": true}),
        ),
        ("events", list(object(&summary()))),
        ("notices", list(notice)),
        ("heat_pumps", list(pump())),
    ])
}

fn parked() -> Value {
    let group = object(&[
        ("reason", text("why")),
        ("count", count("how many")),
        ("retryable", count("of these, those that are events")),
        ("types", types("how many of each type the events are")),
        ("oldest_at", moment("when the oldest was parked")),
        ("newest_at", moment("and the newest")),
    ]);
    let groups = json!({"type": ["array", "null"], "items": group, "description": "of all; with the first page only"});
    object(&[
        ("groups", groups),
        ("parked", list(object(&summary()))),
        ("next", text_or_null("the next page's `after`")),
    ])
}

fn types(about: &str) -> Value {
    json!({"type": "object", "description": about, "additionalProperties": {"type": "integer", "minimum": 0}})
}

fn approve() -> Value {
    let about = "overrides the reason for which it is parked, and no other";
    json!({"type": "boolean", "default": false, "description": about})
}

fn retry_one() -> Value {
    let mut path = post(
        "retryParked",
        "Put one back to work, or try one that is pending now",
        &[id("id")],
        &[404, 408, 409, 413],
        ("200", moved_on()),
    );
    let post = &mut path["post"];
    post["responses"]["409"] = problem_answer(
        "Nothing of it can be tried again, the bridge tries it at this moment, or it is parked for a reason that no approval overrides",
        &[Kind::NotParked, Kind::InProgress, Kind::NotApprovable],
    );
    let wanted = json!({"type": "object", "additionalProperties": false, "properties": {"approve": approve()}});
    post["requestBody"] = json!({"required": false, "content": {"application/json": {"schema": wanted}}});
    path
}

fn moved_on() -> Value {
    object(&[("id", text("of the event")), ("state", one_of(&["pending", "skipped"], "its state now"))])
}

fn retry() -> Value {
    object(&[
        ("id", uuid("of the retry")),
        ("reason", text_or_null("which events; null: all")),
        ("per_second", count("its pace")),
        ("ordered_at", moment("when; of an approval, until when what it covers was parked")),
        ("approve", json!({"type": "boolean", "description": "whether it overrides what parked them"})),
        ("total", count("parked events that it covers")),
        ("types", types("how many of each type they are")),
        ("retried", count("of these so far")),
        ("state", one_of(&["running", "done", "stopped"], "how it stands")),
        ("ended_at", moment_or_null("when it ended")),
    ])
}

fn order() -> Value {
    let per_second =
        json!({"type": ["integer", "null"], "minimum": 1, "maximum": PER_SECOND_MAX, "default": PER_SECOND_DEFAULT});
    let reason = json!({"type": "string", "enum": Reason::ALL.map(Reason::name)});
    let approvable = json!({"type": "string", "enum": Reason::APPROVABLE.map(Reason::name)});
    let mut path =
        post("orderRetry", "Retry all that are parked now, of one reason or all", &[], &[408, 413], ("202", retry()));
    let post = &mut path["post"];
    post["responses"]["409"] = titled(Kind::RetryRunning);
    let of = |which: Value, name: &str| {
        json!({"type": "object", "required": [name], "additionalProperties": false,
               "properties": {name: which, "per_second": per_second}})
    };
    let mut approval = of(approvable, "reason");
    approval["required"] = json!(["reason", "approve"]);
    approval["properties"]["approve"] = json!({"const": true, "description": approve()["description"]});
    approval["properties"]["until"] =
        moment("approve only what was parked until then, such as a group's `newest_at`; without it, until now");
    let ways = json!({"oneOf": [of(reason, "reason"), of(json!({"const": true}), "all"), approval]});
    post["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": ways}}});
    path
}

fn alert() -> Vec<(&'static str, Value)> {
    vec![
        ("dedup_key", text("a ticket's key")),
        ("occurrence_id", uuid("names this one occurrence")),
        ("cause", text("what is the matter")),
        ("severity", one_of(&Severity::ALL.map(Severity::name), "how urgent it was when it was triggered")),
        ("since", moment("when it was first seen")),
        ("detected_at", moment("when it became an alert")),
    ]
}

fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn pump() -> Value {
    object(&[
        ("heat_pump_id", uuid("Podero's")),
        ("podero_user_id", uuid("Podero's id of the owner")),
        ("customer_id", text_or_null("the utility's own id")),
        ("building_id", text_or_null("Podero's")),
        ("manufacturer", text_or_null("as Podero writes it")),
        ("model", text_or_null("as Podero writes it")),
        ("region", text_or_null("country and beginning of the ZIP code, if regions are watched")),
        ("state", one_of(&Knowledge::NAMES, "what is believed")),
        ("reason", text_or_null("why it is disconnected, or why nothing can be said")),
        ("is_retired", json!({"type": "boolean", "description": "watched no more"})),
        ("outage_id", text_or_null("the outage that it is lost in")),
        ("bad_since", moment_or_null("since when it is seen disconnected")),
        ("checked_at", moment("when it was looked at last")),
        ("alert", or_null(object(&alert()))),
    ])
}

fn pumps() -> Value {
    object(&[("heat_pumps", list(pump())), ("next", text_or_null("`after` of the next page"))])
}

fn alerts() -> Value {
    let mut outage = alert();
    outage.extend([
        ("scope", object(&[("kind", text("manufacturer or region")), ("name", text("which one"))])),
        ("affected", count("heat pumps that were away at once, at most")),
        ("watched", count("heat pumps of the scope that something is known of")),
        ("heat_pumps", text("where they are listed")),
    ]);
    object(&[
        ("alerts", list(pump())),
        ("next", text_or_null("`after` of the next page")),
        ("outages", list(object(&outage))),
        ("watch", or_null(object(&alert()))),
    ])
}

fn reconnect_link() -> Value {
    let link = object(&[
        ("heat_pump_id", uuid("Podero's")),
        ("url", text("for this heat pump's owner, and nobody else")),
        ("expires_at", moment_or_null("what opens it dies then")),
    ]);
    let summary = "Make a link under which a heat pump's owner reconnects it";
    let mut path = post("reconnectLink", summary, &[id("id")], &[404, 408, 413], ("200", link));
    let post = &mut path["post"];
    post["responses"]["409"] = titled(Kind::NoReconnection);
    post["responses"]["422"] = titled(Kind::LandingRequired);
    post["responses"]["503"] = later_answer("The store is away, or Podero made no link", &[Kind::Unavailable]);
    let url = json!({"type": "string", "maxLength": 8000, "pattern": "^https?://"});
    let language = json!({"type": "string", "enum": Language::names()});
    let wanted = json!({"type": "object", "additionalProperties": false,
                        "properties": {"success_url": url, "cancel_url": url, "language": language}});
    post["requestBody"] = json!({"required": false, "content": {"application/json": {"schema": wanted}}});
    path
}
