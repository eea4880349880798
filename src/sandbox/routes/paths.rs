//! The paths of the sandbox and their methods: what is mounted is what the OpenAPI document names.
//!
//! It must never know what a path does.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::Endpoint`].

use actix_web::{Route, web};

use crate::sandbox::endpoint::Endpoint;

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// A route of this method.
    pub(super) fn route(self) -> Route {
        match self {
            Self::Get => web::get(),
            Self::Post => web::post(),
            Self::Put => web::put(),
            Self::Patch => web::patch(),
            Self::Delete => web::delete(),
        }
    }

    /// Its name in an OpenAPI document.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// Paths of the token endpoint; the first is the documented one.
pub(super) const TOKEN_PATHS: [&str; 2] = ["/oauth2/token/", "/oauth2/token"];

/// Prefix of the Partner API.
pub(super) const API_PREFIX: &str = "/api/partners/v2.0";

/// Path of the OpenAPI document, below [`API_PREFIX`].
pub(super) const OPENAPI_PATH: &str = "/openapi.json";

/// The action of each method on a path.
type Methods = [(Method, Endpoint)];

/// The paths below [`API_PREFIX`].
#[rustfmt::skip]
pub(super) const API_PATHS: [(&str, &Methods); 20] = [
    ("/org/{org_id}/users", &[(Method::Get, Endpoint::ListUsers), (Method::Post, Endpoint::CreateUser)]),
    ("/org/{org_id}/users/by-ext-id/{external_id}", &[(Method::Get, Endpoint::FindUser)]),
    (
        "/org/{org_id}/users/{user_id}",
        &[(Method::Get, Endpoint::GetUser), (Method::Put, Endpoint::UpdateUser), (Method::Delete, Endpoint::DeleteUser)],
    ),
    (
        "/org/{org_id}/users/{user_id}/buildings",
        &[(Method::Get, Endpoint::ListBuildings), (Method::Post, Endpoint::CreateBuilding)],
    ),
    (
        "/org/{org_id}/users/{user_id}/buildings/{building_id}",
        &[
            (Method::Get, Endpoint::GetBuilding),
            (Method::Put, Endpoint::UpdateBuilding),
            (Method::Delete, Endpoint::DeleteBuilding),
        ],
    ),
    (
        "/org/{org_id}/users/{user_id}/heat-pumps",
        &[(Method::Get, Endpoint::ListHeatPumps), (Method::Post, Endpoint::CreateHeatPump)],
    ),
    (
        "/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}",
        &[
            (Method::Get, Endpoint::GetHeatPump),
            (Method::Put, Endpoint::UpdateHeatPump),
            (Method::Delete, Endpoint::DeleteHeatPump),
        ],
    ),
    ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/auth_session", &[(Method::Post, Endpoint::AuthSession)]),
    ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/data", &[(Method::Get, Endpoint::GetHeatPumpData)]),
    ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/schedules", &[(Method::Get, Endpoint::GetHeatPumpSchedules)]),
    ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/statistics", &[(Method::Get, Endpoint::GetHeatPumpStatistics)]),
    ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/savings", &[(Method::Get, Endpoint::GetHeatPumpSavings)]),
    (
        "/org/{org_id}/users/{user_id}/energy-contracts",
        &[(Method::Get, Endpoint::ListEnergyContracts), (Method::Post, Endpoint::CreateEnergyContract)],
    ),
    ("/org/{org_id}/users/{user_id}/energy-contracts/{energy_contract_id}", &[(Method::Put, Endpoint::UpdateEnergyContract)]),
    ("/org/{org_id}/devices/savings", &[(Method::Get, Endpoint::GetOrganisationSavings)]),
    ("/device-onboarding", &[(Method::Post, Endpoint::CreateOnboardingSession)]),
    ("/device-onboarding/{session_id}", &[(Method::Get, Endpoint::GetOnboardingSession)]),
    ("/cues/{cue_id}/resolve", &[(Method::Post, Endpoint::ResolveCue)]),
    ("/cues/{cue_id}/state", &[(Method::Post, Endpoint::ReportCue)]),
    ("/cues/{cue_id}/information/resolve", &[(Method::Post, Endpoint::ReadCue)]),
];
