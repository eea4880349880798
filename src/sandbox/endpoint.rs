//! The closed list of Podero's endpoints: one name per documented call.
//!
//! Fault rules and the request log speak in these names. It must never name a control route: those are
//! ours, not Podero's.
//!
//! Before: nothing. After: [`crate::sandbox::faults`], [`crate::sandbox::requests`], [`crate::sandbox::routes`].

use serde::{Deserialize, Serialize};

/// One call of the Partner API (or of its token endpoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// GET `/org/{org_id}/users`.
    ListUsers,
    /// POST `/org/{org_id}/users`.
    CreateUser,
    /// GET `/org/{org_id}/users/{user_id}`.
    GetUser,
    /// GET `/org/{org_id}/users/by-ext-id/{external_id}`.
    FindUser,
    /// PUT `/org/{org_id}/users/{user_id}`.
    UpdateUser,
    /// DELETE `/org/{org_id}/users/{user_id}`.
    DeleteUser,
    /// GET `…/buildings` (undocumented).
    ListBuildings,
    /// POST `…/buildings`.
    CreateBuilding,
    /// GET `…/buildings/{building_id}`.
    GetBuilding,
    /// PUT `…/buildings/{building_id}`.
    UpdateBuilding,
    /// DELETE `…/buildings/{building_id}` (undocumented).
    DeleteBuilding,
    /// GET `…/heat-pumps`.
    ListHeatPumps,
    /// POST `…/heat-pumps`.
    CreateHeatPump,
    /// GET `…/heat-pumps/{heat_pump_id}`.
    GetHeatPump,
    /// PUT `…/heat-pumps/{heat_pump_id}`.
    UpdateHeatPump,
    /// DELETE `…/heat-pumps/{heat_pump_id}` (undocumented).
    DeleteHeatPump,
    /// GET `…/heat-pumps/{heat_pump_id}/data`.
    GetHeatPumpData,
    /// GET `…/heat-pumps/{heat_pump_id}/schedules` (beta).
    GetHeatPumpSchedules,
    /// GET `…/heat-pumps/{heat_pump_id}/statistics`.
    GetHeatPumpStatistics,
    /// GET `…/heat-pumps/{heat_pump_id}/savings`.
    GetHeatPumpSavings,
    /// GET `…/energy-contracts`.
    ListEnergyContracts,
    /// POST `…/energy-contracts`.
    CreateEnergyContract,
    /// PUT `…/energy-contracts/{energy_contract_id}`.
    UpdateEnergyContract,
    /// GET `/org/{org_id}/devices/savings`.
    GetOrganisationSavings,
    /// POST `/device-onboarding`.
    CreateOnboardingSession,
    /// GET `/device-onboarding/{onboarding_session_id}`.
    GetOnboardingSession,
    /// POST `/cues/{cue_id}/resolve`.
    ResolveCue,
    /// POST `/cues/{cue_id}/state`.
    ReportCue,
    /// POST `/cues/{cue_id}/information/resolve`.
    ReadCue,
    /// POST `…/heat-pumps/{heat_pump_id}/auth_session` (undocumented for heat pumps).
    AuthSession,
    /// POST `/oauth2/token/`.
    Token,
}

impl Endpoint {
    /// Says whether it makes a new user, building, heat pump, contract or session, so that an idempotency key would protect it.
    pub fn creates(self) -> bool {
        matches!(
            self,
            Self::CreateUser
                | Self::CreateBuilding
                | Self::CreateHeatPump
                | Self::CreateEnergyContract
                | Self::CreateOnboardingSession
        )
    }
}
