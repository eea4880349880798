//! OpenAPI 3.1 of the sandbox: the Partner API as it is answered here, the token endpoint and the controls.
//!
//! Paths, methods and fields come from the tables by which requests are routed, read and answered. Shapes are those of the
//! switches as they are at the start. It must never name a path that is not mounted.
//!
//! Before: [`crate::sandbox::routes`] serves it, `spec` has a copy. After: [`crate::sandbox::model`].

use serde_json::{Map, Value, json};

use super::control::{CONTROL_PREFIX, CONTROLS};
use super::paths::{API_PATHS, API_PREFIX, OPENAPI_PATH, TOKEN_PATHS};
use super::schemas::{self, body, flag, list, moment, reference, word};
use crate::sandbox::endpoint::Endpoint;
use crate::sandbox::model::{
    BUILDING_FIELDS, CONTRACT_FIELDS, DATA_KEYWORDS, PeriodLength, STATISTICS_KEYWORDS, WRITABLE, WRITABLE_BY_POST,
    WRITABLE_BY_PUT,
};

const DESCRIPTION: &str = "A Podero in memory, to develop and test against. Where Podero's documents contradict each other or are \
    silent, `PATCH /_sandbox/variants` switches; this document describes the switches as they are at the start. The controls under \
    `/_sandbox` are the sandbox's own.";

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, operation: Operation| {
        let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        item[method] = operation.written(path);
    };
    add(TOKEN_PATHS[0], "post", described(Endpoint::Token).named(Endpoint::Token));
    for (path, methods) in API_PATHS {
        for (method, endpoint) in methods {
            add(&format!("{API_PREFIX}{path}"), method.name(), described(*endpoint).named(*endpoint));
        }
    }
    add(&format!("{API_PREFIX}{OPENAPI_PATH}"), "get", open("This document").answers(json!({"type": "object"})));
    for control in CONTROLS {
        let operation = open(control.summary).tagged("control").with_status(control.status);
        add(&format!("{CONTROL_PREFIX}{}", control.path), control.method.name(), operation);
    }
    let licence = json!({"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "podero-bridge: the sandbox", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION,
            "license": licence,
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"}, "client": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

/// One operation as it is being described.
struct Operation {
    id: Option<Endpoint>,
    summary: String,
    tag: &'static str,
    security: Option<Value>,
    parameters: Vec<Value>,
    body: Option<Value>,
    status: u16,
    answer: Option<Value>,
    /// Name of the schema of its refusals.
    refusal: &'static str,
}

fn op(summary: &str) -> Operation {
    Operation {
        id: None,
        summary: summary.to_owned(),
        tag: "partner api",
        security: None,
        parameters: Vec::new(),
        body: None,
        status: 200,
        answer: None,
        refusal: "Refusal",
    }
}

/// An operation that wants no token.
fn open(summary: &str) -> Operation {
    Operation { security: Some(json!([])), ..op(summary) }
}

impl Operation {
    /// Its id is the name by which faults and the log of requests know it.
    fn named(self, id: Endpoint) -> Self {
        Self { id: Some(id), ..self }
    }

    fn query(self, name: &str, schema: Value) -> Self {
        self.parameter("query", name, false, schema)
    }

    fn required(self, name: &str, schema: Value) -> Self {
        self.parameter("query", name, true, schema)
    }

    fn parameter(mut self, place: &str, name: &str, is_required: bool, schema: Value) -> Self {
        self.parameters.push(json!({"name": name, "in": place, "required": is_required, "schema": schema}));
        self
    }

    fn takes(self, schema: Value) -> Self {
        Self { body: Some(schema), ..self }
    }

    fn answers(self, schema: Value) -> Self {
        Self { answer: Some(schema), ..self }
    }

    fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn tagged(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    fn written(self, path: &str) -> Value {
        let in_path = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).map(|name| {
            let is_text = matches!(name, "external_id" | "token");
            let schema = if is_text { json!({"type": "string"}) } else { schemas::uuid() };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        });
        let parameters: Vec<Value> = in_path.chain(self.parameters).collect();
        let content = |schema: &Value| json!({"application/json": {"schema": schema}});
        let mut success = json!({"description": "It was done"});
        if let Some(schema) = &self.answer {
            success["content"] = content(schema);
        } else if self.status != 204 {
            success["content"] = content(&json!({}));
        }
        let refused = json!({"description": "It was refused", "content": content(&reference(self.refusal))});
        let mut operation = json!({
            "summary": self.summary, "tags": [self.tag], "parameters": parameters,
            "responses": {(self.status.to_string()): success, "default": refused},
        });
        if let Some(id) = self.id {
            operation["operationId"] = json!(id);
        }
        if let Some(security) = self.security {
            operation["security"] = security;
        }
        if let Some(schema) = &self.body {
            operation["requestBody"] = json!({"required": true, "content": content(schema)});
        }
        operation
    }
}

/// The part of the document about one endpoint.
#[rustfmt::skip]
fn described(endpoint: Endpoint) -> Operation {
    let deleted = |operation: Operation| operation.query("include_deleted", flag());
    match endpoint {
        Endpoint::Token => token(),
        Endpoint::ListUsers => deleted(op("List the users of the organisation")).answers(list(reference("User"))),
        Endpoint::CreateUser => op("Create a user; staff and admins are invited by mail").takes(schemas::new_user()).answers(reference("User")),
        Endpoint::GetUser => deleted(op("A user")).answers(reference("User")),
        Endpoint::FindUser => deleted(op("A user by the partner's key")).answers(reference("User")),
        Endpoint::UpdateUser => op("Change some fields of a user").takes(schemas::changed_user()).answers(reference("User")),
        Endpoint::DeleteUser => op("Delete a user, for good unless softly").query("soft_delete", flag()).with_status(204),
        Endpoint::ListBuildings => op("List the buildings of a user (undocumented)").answers(list(reference("Building"))),
        Endpoint::CreateBuilding => op("Create a building").takes(named(body(&[&BUILDING_FIELDS]))).answers(reference("Building")),
        Endpoint::GetBuilding => op("A building").answers(reference("Building")),
        Endpoint::UpdateBuilding => op("Change some fields of a building").takes(named(body(&[&BUILDING_FIELDS]))).answers(reference("Building")),
        Endpoint::DeleteBuilding => op("Delete a building (undocumented)").with_status(204),
        Endpoint::ListHeatPumps => deleted(op("List the heat pumps of a user")).answers(list(reference("HeatPump"))),
        Endpoint::CreateHeatPump => op("Create an empty heat pump").takes(body(&[&WRITABLE, &WRITABLE_BY_POST])).answers(reference("HeatPump")),
        Endpoint::GetHeatPump => deleted(op("A heat pump with its actions")).answers(reference("HeatPump")),
        Endpoint::UpdateHeatPump => op("Change some fields of a heat pump").takes(body(&[&WRITABLE, &WRITABLE_BY_PUT])).answers(reference("HeatPump")),
        Endpoint::DeleteHeatPump => op("Delete a heat pump (undocumented)").with_status(204),
        Endpoint::GetHeatPumpData => data(),
        Endpoint::GetHeatPumpSchedules => op("Schedules of a heat pump: none here").answers(list(json!({}))),
        Endpoint::GetHeatPumpStatistics => op("Statistics of a heat pump")
            .query("resolution", words(&PeriodLength::OF_STATISTICS.map(PeriodLength::name)))
            .query("keywords", words(&STATISTICS_KEYWORDS)).answers(reference("Statistics")),
        Endpoint::GetHeatPumpSavings => op("Savings of a heat pump").required("from", moment()).required("to", moment())
            .query("resolution", word(&PeriodLength::OF_STATISTICS.map(PeriodLength::name))).answers(reference("Statistics")),
        Endpoint::ListEnergyContracts => op("List the energy contracts of a user").answers(list(reference("EnergyContract"))),
        Endpoint::CreateEnergyContract => op("Create an energy contract").takes(body(&[&CONTRACT_FIELDS])).answers(reference("EnergyContract")),
        Endpoint::UpdateEnergyContract => op("Change some fields of a contract").takes(body(&[&CONTRACT_FIELDS])).answers(reference("EnergyContract")),
        Endpoint::GetOrganisationSavings => op("Savings of the organisation").required("start_datetime", moment())
            .required("end_datetime", moment()).answers(reference("Savings")),
        Endpoint::CreateOnboardingSession => op("Create an onboarding session").takes(schemas::new_session()).answers(reference("OnboardingSession")),
        Endpoint::GetOnboardingSession => op("An onboarding session").answers(reference("OnboardingSession")),
        Endpoint::ResolveCue => secret(op("Start a pending action")).takes(schemas::return_urls()).answers(schemas::text_of("redirect_url")),
        Endpoint::ReportCue => secret(open("Report the outcome of an action")).takes(schemas::cue_report()).answers(schemas::text_of("action_id")),
        Endpoint::ReadCue => secret(open("Mark a notice as read")).answers(schemas::text_of("action_id")),
        Endpoint::AuthSession => op("Reauthenticate a heat pump (undocumented for heat pumps, and switched off)")
            .takes(schemas::optional_urls()).answers(reference("AuthSession")),
    }
}

fn token() -> Operation {
    let grant = json!({
        "type": "object", "required": ["grant_type"], "properties": {"grant_type": {"const": "client_credentials"}},
    });
    let operation = op("Get an access token").takes(grant).answers(reference("AccessToken"));
    Operation { security: Some(json!([{"client": []}])), refusal: "TokenRefusal", ..operation }
}

fn data() -> Operation {
    op("Measured data of a heat pump; without any it is 400")
        .query("from_datetime", moment())
        .query("to_datetime", moment())
        .query("resolution", word(&PeriodLength::OF_DATA.map(PeriodLength::name)))
        .query("keywords", words(&DATA_KEYWORDS))
        .parameter("header", "fill-missing", false, flag())
        .answers(reference("Data"))
}

fn secret(operation: Operation) -> Operation {
    operation.required("secret", json!({"type": "string"}))
}

/// Words parted by commas.
fn words(allowed: &[&str]) -> Value {
    json!({"type": "string", "description": format!("parted by commas, of: {}", allowed.join(", "))})
}

/// The body of a building, which always has a name.
fn named(mut body: Value) -> Value {
    body["required"] = json!(["name"]);
    body["properties"]["name"] = schemas::building_name();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_to_a_schema_and_no_schema_is_unused() {
        let text = document().to_string();
        let schemas = schemas::all();
        for name in schemas.keys() {
            assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name} is unused");
        }
        for rest in text.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name} is missing");
        }
    }
}
