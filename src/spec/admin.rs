//! OpenAPI 3.1 of the admin API.
//!
//! The schemas of queries, bodies and answers are derived from the types that are read and written.
//!
//! Before: [`crate::admin`], which answers so. After: [`crate::spec`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::answers::{challenge_answer, info, itself, json_answer, later_answer, problem_answer, titled};
use super::schemas::{list, object, one_of, request, schema, text, text_or_null, with};
use crate::admin::{
    AlertsQuery, ApiRoute, AuditQuery, CustomersQuery, ExportQuery, HistoryView, LinkRequest, OpenQuery, OverviewView,
    PageQuery, ParkedFilterQuery, ParkedQuery, PumpsQuery, ReconnectLink, RehearsalView, RetryOne, ReviewQuery,
    SettingsView, SkipOne, TeamPage, TeamReview,
};
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::problem::ProblemKind as Kind;
use crate::store::{
    AlertView, AuditRecord, BulkRetry, CustomerView, EventSummary, EventView, ExportFormat, FleetSummary,
    FoundCustomers, MemberView, OpenEvent, OperatorView, OutageView, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedGroup,
    ParkedPreview, PumpDetail, PumpView, SessionView, TimelineEntry,
};

const DESCRIPTION: &str = "Health, metrics, and what operators and support staff look up and decide. It belongs to the \
    monitoring network. Everything under /v1 wants a token (`admin.token`, `[[admin.tokens]]`) or the password of an operator, and \
    a role, which each operation names: `viewer` sees ids and states; `support` also sees personal data and original bytes, and \
    makes links; `admin` also retries, skips, approves and exports. On loopback, where neither a token nor an operator is configured, every \
    caller has the role admin.";

/// OpenAPI 3.1 of the admin API.
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ApiRoute::ALL {
        let row = route.row();
        paths.entry(row.path).or_default().insert(row.method.name().to_ascii_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": info("podero-bridge: the operator's door", DESCRIPTION),
        "security": [{"token": []}, {"password": []}],
        "paths": paths,
        "components": {"securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "password": {"type": "http", "scheme": "basic"},
        }},
    })
}

/// The operation of a route.
fn operation(route: ApiRoute) -> Value {
    let op = |summary| Operation::new(route, summary);
    match route {
        ApiRoute::Livez => probe(route, "The process runs", &[("200", "It does")]),
        ApiRoute::Readyz => {
            let answers = [("200", "All are well"), ("503", "One is not; its line begins with `[-]`")];
            probe(route, "A line for each part", &answers)
        }
        ApiRoute::Metrics => probe(route, "For Prometheus", &[("200", "Text format 0.0.4")]),
        ApiRoute::OpenApi => {
            let mut itself = itself()["get"].take();
            itself["responses"]["403"] = titled(Kind::Forbidden);
            itself
        }
        ApiRoute::Overview => op("Whether the bridge is well, at a look").get(schema::<OverviewView>()),
        ApiRoute::History => op("The last day, in buckets of ten minutes").get(schema::<HistoryView>()),
        ApiRoute::OpenEvents => {
            let events = op("Events that are not done, those first that wait for longest").query::<OpenQuery>();
            events.page(page::<OpenEvent>("events"))
        }
        ApiRoute::Event => {
            let less = "A viewer gets it without `raw`, `raw_encoding` and `envelope`.";
            op("An event, its calls, its bytes").says(less).one().get(schema::<EventView>())
        }
        ApiRoute::Customers => customers(op("Customers with exactly this e-mail address")),
        ApiRoute::Customer => history_of::<CustomerView>(op("A customer and all that happened")),
        ApiRoute::CustomerTimeline => timeline(op("What happened to a customer, the newest first")),
        ApiRoute::Team => {
            let team = op("The members of the team: those whom events named, and those whom only Podero has");
            team.page(schema::<TeamPage>())
        }
        ApiRoute::TeamReview => review(op("Findings about the team, for a person to look at")),
        ApiRoute::Member => history_of::<MemberView>(op("A member and all that happened")),
        ApiRoute::Parked => op("What needs a person, oldest first").query::<ParkedQuery>().page(parked()),
        ApiRoute::ParkedGroups => groups(op("Parked events by reason")),
        ApiRoute::ParkedPreview => preview(op("The parked events that a retry by this filter would cover")),
        ApiRoute::Rehearsal => rehearsal(op("The calls that a retry of one would make; nothing is sent")),
        ApiRoute::RetryParked => retry(op("Put one back to work, or try one that is pending now")),
        ApiRoute::SkipParked => skip(op("Give one up")),
        ApiRoute::OrderRetry => order(op("Retry all that are parked now, by a filter or all")),
        ApiRoute::Retries => {
            op("Retries of many, newest first").get(object(&[("retries", list(schema::<BulkRetry>()))]))
        }
        ApiRoute::Retry => op("A retry of many").one().get(schema::<BulkRetry>()),
        ApiRoute::StopRetry => op("Stop a retry of many").one().done("200", schema::<BulkRetry>()),
        ApiRoute::HeatPumps => {
            op("Watched heat pumps, by id").query::<PumpsQuery>().page(page::<PumpView>("heat_pumps"))
        }
        ApiRoute::Fleet => op("Watched heat pumps in numbers").get(schema::<FleetSummary>()),
        ApiRoute::HeatPump => op("A heat pump and all that is known of it").one().get(schema::<PumpDetail>()),
        ApiRoute::ReconnectLink => link(op("Make a link under which a heat pump's owner reconnects it")),
        ApiRoute::Alerts => op("Open alerts, by heat pump").query::<AlertsQuery>().page(alerts()),
        ApiRoute::Audit => {
            let less = "A viewer gets rows without `note`.";
            let rows = op("The audit log, newest first").says(less).query::<AuditQuery>();
            rows.page(page::<AuditRecord>("audit"))
        }
        ApiRoute::Operators => op("Operators, by name").get(object(&[("operators", list(schema::<OperatorView>()))])),
        ApiRoute::Settings => {
            let about = "Values are those of the replica that answers. No secret is in them.";
            op("The settings in effect, and where each comes from").says(about).get(schema::<SettingsView>())
        }
        ApiRoute::ExportAudit => export(op("Export the audit log")),
        ApiRoute::Sessions => sessions(op("Sessions at the console, those first that began last")),
        ApiRoute::RevokeSession => op("End a session at the console").one().done("200", session_ended()),
    }
}

fn history_of<T: JsonSchema>(operation: Operation) -> Value {
    let less = "A viewer gets it without `state`, and outgoing events without `data`.";
    operation.says(less).one().get(schema::<T>())
}

fn timeline(operation: Operation) -> Value {
    let less = "A viewer gets outgoing events without `data`, and acts without `note`.";
    operation.says(less).one().page(page::<TimelineEntry>("timeline"))
}

fn sessions(operation: Operation) -> Value {
    let less = "A caller without the role `admin` gets their own.";
    operation.says(less).get(object(&[("sessions", list(schema::<SessionView>()))]))
}

fn session_ended() -> Value {
    object(&[("id", text("of the session")), ("state", json!({"const": "ended"}))])
}

/// An export of the audit log, in each of its formats.
fn exported() -> Value {
    let head = json!({"description": "The head of the chain at its beginning, as `audit verify --head` takes it",
                      "schema": {"type": "string", "pattern": "^[0-9]+:[0-9a-f]{64}$"}});
    let content: Map<String, Value> = ExportFormat::ALL
        .into_iter()
        .filter_map(|format| format.media_type().split(';').next())
        .map(|media_type| (media_type.to_owned(), json!({"schema": {"type": "string"}})))
        .collect();
    json!({"description": "One row a line; whole if the connection is not cut", "headers": {"audit-head": head},
           "content": content})
}

/// A path that wants no token and answers plain text.
fn probe(route: ApiRoute, summary: &str, answers: &[(&str, &str)]) -> Value {
    let plain =
        |description| json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}});
    let mut responses: Map<String, Value> =
        answers.iter().map(|(status, description)| ((*status).to_owned(), plain(description))).collect();
    responses.insert("403".to_owned(), titled(Kind::Forbidden));
    json!({"operationId": route.name(), "summary": summary, "security": [], "responses": responses})
}

/// An operation under `/v1`, with the answers that all of them have.
struct Operation(Map<String, Value>);

impl Operation {
    fn new(route: ApiRoute, summary: &str) -> Self {
        let schemes = "`Bearer` and `Basic`, each with a realm";
        let mut operation = json!({"operationId": route.name(), "summary": summary, "parameters": [], "responses": {
            "400": problem_answer("The question makes no sense, or a header is there twice", &[Kind::Malformed]),
            "401": challenge_answer("The token or the password is missing or another", &[Kind::Unauthorized], schemes),
            "403": problem_answer("The role is not enough, or a web page asks", &[Kind::RoleRequired, Kind::Forbidden]),
            "429": later_answer(Kind::TooManyAttempts.title(), &[Kind::TooManyAttempts]),
            "503": later_answer("The store is away, or busy with passwords", &[Kind::Unavailable]),
        }});
        if let Some(role) = route.row().role {
            operation["x-role"] = json!(role);
            operation["description"] = json!(format!("Needs the role `{role}`."));
        }
        Self(operation.as_object().cloned().unwrap_or_default())
    }

    /// Adds a sentence to its description.
    fn says(mut self, sentence: &str) -> Self {
        let before = self.0.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = format!("{before} {sentence}");
        self.0.insert("description".to_owned(), json!(description.trim_start()));
        self
    }

    fn parameter(mut self, parameter: Value) -> Self {
        self.0["parameters"].as_array_mut().into_iter().for_each(|all| all.push(parameter.clone()));
        self
    }

    /// Its path names one thing by its id.
    fn one(self) -> Self {
        self.parameter(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}))
            .refuses("Nothing has this id", &[Kind::NotFound])
    }

    fn query<T: JsonSchema>(mut self) -> Self {
        let query = request::<T>();
        let is_required = |name: &str| query["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let parameter = json!({"name": name, "in": "query", "required": is_required(name), "description": about, "schema": schema});
            self = self.parameter(parameter);
        }
        self
    }

    /// It may have a body that is read into this type.
    fn takes<T: JsonSchema>(self) -> Self {
        self.body(false, request::<T>())
    }

    fn body(mut self, is_required: bool, schema: Value) -> Self {
        let content = json!({"application/json": {"schema": schema}});
        self.0.insert("requestBody".to_owned(), json!({"required": is_required, "content": content}));
        self.refuses("The body did not come in time", &[Kind::Timeout])
            .refuses("More than an order has", &[Kind::TooLarge])
    }

    fn refuses_one(self, kind: Kind) -> Self {
        self.refuses(kind.title(), &[kind])
    }

    /// The kinds have one status.
    fn refuses(self, description: &str, kinds: &[Kind]) -> Self {
        let status = kinds.first().map(|kind| kind.status().to_string()).unwrap_or_default();
        self.answers(&status, problem_answer(description, kinds))
    }

    fn answers(mut self, status: &str, answer: Value) -> Self {
        self.0["responses"][status] = answer;
        self
    }

    fn get(self, answer: Value) -> Value {
        self.answers("200", json_answer("As it is now", answer)).0.into()
    }

    /// A list, a page at a time.
    fn page(self, page: Value) -> Value {
        self.query::<PageQuery>().get(page)
    }

    fn done(self, status: &str, answer: Value) -> Value {
        self.answers(status, json_answer("Done", answer)).0.into()
    }
}

/// The search for customers.
fn customers(operation: Operation) -> Value {
    let found = operation.query::<CustomersQuery>();
    found.get(schema::<FoundCustomers>())
}

/// The retry of one parked event.
fn retry(operation: Operation) -> Value {
    let no_retry = "Nothing of it can be tried again, the bridge tries it at this moment, or it is parked for a reason \
        that no approval overrides";
    let retry = operation.one().takes::<RetryOne>();
    let retry = retry.refuses(no_retry, &[Kind::NotParked, Kind::InProgress, Kind::NotApprovable]);
    retry.done("200", moved_on())
}

/// A link for a customer.
fn link(operation: Operation) -> Value {
    let no_link = later_answer("The store is away, or Podero made no link", &[Kind::Unavailable]);
    let link = operation.one().takes::<LinkRequest>();
    let link = link.refuses_one(Kind::NoReconnection).refuses_one(Kind::LandingRequired);
    link.answers("503", no_link).done("200", schema::<ReconnectLink>())
}

/// An export of the audit log.
fn export(operation: Operation) -> Value {
    let order = "Sealed rows in the order of the chain. The export has a row of its own.";
    let busy = later_answer("The store is away, or other exports are under way", &[Kind::Unavailable]);
    let export = operation.says(order).query::<AuditQuery>().query::<ExportQuery>();
    export.answers("503", busy).answers("200", exported()).0.into()
}

/// The groups of parked events.
fn groups(operation: Operation) -> Value {
    operation.query::<ParkedFilterQuery>().get(object(&[("groups", list(schema::<ParkedGroup>()))]))
}

/// A review of the team.
fn review(operation: Operation) -> Value {
    operation.query::<ReviewQuery>().get(schema::<TeamReview>())
}

/// The preview of a bulk retry.
fn preview(operation: Operation) -> Value {
    let preview = operation.query::<ParkedFilterQuery>();
    preview.get(schema::<ParkedPreview>())
}

/// The rehearsal of a retry.
fn rehearsal(operation: Operation) -> Value {
    let calls = operation.one();
    calls.refuses_one(Kind::NotParked).get(schema::<RehearsalView>())
}

/// A page of a list of this name.
fn page<T: JsonSchema>(name: &str) -> Value {
    object(&[(name, list(schema::<T>())), ("next", text_or_null("the next page's `after`"))])
}

fn parked() -> Value {
    let mut groups = schema::<Option<Vec<ParkedGroup>>>();
    groups["description"] = json!("of all; with the first page only");
    with(page::<EventSummary>("parked"), "groups", groups)
}

fn alerts() -> Value {
    let alerts = with(page::<PumpView>("alerts"), "outages", list(schema::<OutageView>()));
    with(alerts, "watch", schema::<Option<AlertView>>())
}

fn moved_on() -> Value {
    let states = [EventState::Pending, EventState::Skipped].map(EventState::name);
    object(&[("id", text("of the event")), ("state", one_of(&states, "its state now"))])
}

fn skip(operation: Operation) -> Value {
    operation.one().takes::<SkipOne>().refuses_one(Kind::NotParked).done("200", moved_on())
}

/// The order of a bulk retry: by a filter or of all, or an approval.
fn order(operation: Operation) -> Value {
    let approve = request::<RetryOne>()["properties"]["approve"]["description"].take();
    let until = "approve only what was parked until then, such as a group's `newest_at`; without it, until now";
    let per_second =
        json!({"type": ["integer", "null"], "minimum": 1, "maximum": PER_SECOND_MAX, "default": PER_SECOND_DEFAULT});
    let filter = request::<ParkedFilterQuery>()["properties"].take();
    let ways = |names: &[&str]| -> Vec<Value> { names.iter().map(|name| json!({"required": [name]})).collect() };
    let mut by_filter = json!({"type": "object", "additionalProperties": false, "properties": filter,
                               "anyOf": ways(&["reason", "source", "since", "until"])});
    by_filter["properties"]["per_second"] = per_second.clone();
    let all = json!({"type": "object", "required": ["all"], "additionalProperties": false,
                     "properties": {"all": {"const": true}, "per_second": per_second}});
    let approvable = json!({"type": "string", "enum": Reason::APPROVABLE.map(Reason::name)});
    let approval = json!({"type": "object", "required": ["reason", "approve"], "additionalProperties": false, "properties": {
        "reason": approvable, "approve": {"const": true, "description": approve}, "per_second": per_second,
        "until": {"type": "string", "format": "date-time", "description": until},
    }});
    let order = json!({ "oneOf": [by_filter, all, approval] });
    operation.body(true, order).refuses_one(Kind::RetryRunning).done("202", schema::<BulkRetry>())
}
