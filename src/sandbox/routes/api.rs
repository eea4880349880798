//! The Partner API: each operation reads its request, asks the model, shows the result.
//!
//! It must never answer anything that the model did not say.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::ApiCall;
use super::figures;
use crate::sandbox::access::SandboxActor;
use crate::sandbox::answer::SandboxAnswer;
use crate::sandbox::embedded::State;
use crate::sandbox::endpoint::Endpoint;
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::model::{
    BuildingFields, ConnectLink, ContractFields, CreateSession, CreateUser, CueKey, CueReport, EnergyContract,
    HeatPumpFields, ReturnUrls, Shown, UpdateUser, World,
};

type Outcome = SandboxResult<SandboxAnswer>;

// The only pagination that any page shows (`api-reference/electric-vehicle-sessions/*`).
const PAGE_ITEMS: usize = 50;
const PAGE_ITEMS_MAX: usize = 200;

/// Answers one operation. It checks the token, then the organisation, then everything else.
pub(super) fn act(state: &mut State, operation: Endpoint, call: &ApiCall<'_>) -> Outcome {
    let world = &mut state.world;
    let actor = call.credentials("bearer").ok_or(SandboxError::Unauthorized);
    let actor = actor.and_then(|token| state.tokens.actor(token, call.now));
    match operation {
        Endpoint::ListUsers => list_users(world, in_org(world, actor, call)?, call),
        Endpoint::CreateUser => create_user(world, in_org(world, actor, call)?, call),
        Endpoint::GetUser => get_user(world, in_org(world, actor, call)?, call),
        Endpoint::FindUser => find_user(world, in_org(world, actor, call)?, call),
        Endpoint::UpdateUser => update_user(world, in_org(world, actor, call)?, call),
        Endpoint::DeleteUser => delete_user(world, in_org(world, actor, call)?, call),
        Endpoint::ListBuildings => list_buildings(world, in_org(world, actor, call)?, call),
        Endpoint::CreateBuilding => create_building(world, in_org(world, actor, call)?, call),
        Endpoint::GetBuilding => get_building(world, in_org(world, actor, call)?, call),
        Endpoint::UpdateBuilding => update_building(world, in_org(world, actor, call)?, call),
        Endpoint::DeleteBuilding => delete_building(world, in_org(world, actor, call)?, call),
        Endpoint::ListHeatPumps => list_heat_pumps(world, in_org(world, actor, call)?, call),
        Endpoint::CreateHeatPump => create_heat_pump(world, in_org(world, actor, call)?, call),
        Endpoint::GetHeatPump => get_heat_pump(world, in_org(world, actor, call)?, call),
        Endpoint::UpdateHeatPump => update_heat_pump(world, in_org(world, actor, call)?, call),
        Endpoint::DeleteHeatPump => delete_heat_pump(world, in_org(world, actor, call)?, call),
        Endpoint::GetHeatPumpData => figures::data(world, in_org(world, actor, call)?, call),
        Endpoint::GetHeatPumpSchedules => figures::schedules(world, in_org(world, actor, call)?, call),
        Endpoint::GetHeatPumpStatistics => figures::statistics(world, in_org(world, actor, call)?, call),
        Endpoint::GetHeatPumpSavings => figures::savings(world, in_org(world, actor, call)?, call),
        Endpoint::GetOrganisationSavings => figures::of_all(world, in_org(world, actor, call)?, call),
        Endpoint::ListEnergyContracts => list_contracts(world, in_org(world, actor, call)?, call),
        Endpoint::CreateEnergyContract => create_contract(world, in_org(world, actor, call)?, call),
        Endpoint::UpdateEnergyContract => update_contract(world, in_org(world, actor, call)?, call),
        Endpoint::AuthSession => auth_session(world, in_org(world, actor, call)?, call),
        Endpoint::CreateOnboardingSession => create_session(world, known(world, actor)?, call),
        Endpoint::GetOnboardingSession => get_session(world, known(world, actor)?, call),
        Endpoint::ResolveCue => resolve_cue(world, known(world, actor)?, call),
        // The page shows these without an Authorization header.
        Endpoint::ReportCue => report_cue(world, call),
        Endpoint::ReadCue => read_cue(world, call),
        Endpoint::Token => Err(SandboxError::NotFound),
    }
}

fn known(world: &World, actor: SandboxResult<SandboxActor>) -> SandboxResult<SandboxActor> {
    let actor = actor?;
    world.standing(actor).map(|_| actor)
}

fn in_org(world: &World, actor: SandboxResult<SandboxActor>, call: &ApiCall<'_>) -> SandboxResult<SandboxActor> {
    let actor = known(world, actor)?;
    if call.path_id("org_id")? == world.org_id { Ok(actor) } else { Err(SandboxError::NotFound) }
}

/// A bare array, or as switched `{total, items}` with one page of it.
fn list<T: Serialize>(world: &World, call: &ApiCall<'_>, items: Vec<T>) -> Outcome {
    if !world.variants.list_envelope {
        return Ok(SandboxAnswer::ok(&items));
    }
    let limit = call.query_number("limit", PAGE_ITEMS, PAGE_ITEMS_MAX)?;
    let offset = call.query_number("offset", 0, usize::MAX)?;
    let total = items.len();
    let items: Vec<T> = items.into_iter().skip(offset).take(limit).collect();
    Ok(SandboxAnswer::ok(&json!({"total": total, "items": items})))
}

fn answer<T>(world: &World, status: u16, thing: &T) -> SandboxAnswer
where
    for<'a> Shown<'a, T>: Serialize,
{
    SandboxAnswer::json(status, &Shown { thing, variants: &world.variants, is_whole: false })
}

fn list_of<T>(world: &World, call: &ApiCall<'_>, things: Vec<&T>) -> Outcome
where
    for<'a> Shown<'a, T>: Serialize,
{
    let variants = &world.variants;
    list(world, call, things.into_iter().map(|thing| Shown { thing, variants, is_whole: false }).collect())
}

fn list_users(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    list_of(world, call, world.users(actor, call.query_flag("include_deleted")?)?)
}

fn create_user(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let wanted = CreateUser::read(&call.json()?, &world.variants)?;
    let user = world.create_user(actor, wanted, call.now)?;
    Ok(answer(world, world.variants.created_status, &user))
}

fn get_user(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let include_deleted = call.query_flag("include_deleted")?;
    Ok(answer(world, 200, world.user(actor, call.path_id("user_id")?, include_deleted)?))
}

fn find_user(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let include_deleted = call.query_flag("include_deleted")?;
    Ok(answer(world, 200, world.find_user(actor, &call.external_id()?, include_deleted)?))
}

fn update_user(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let id = call.path_id("user_id")?;
    let wanted = UpdateUser::read(&call.json()?, &world.variants)?;
    let user = world.update_user(actor, id, wanted, call.now)?;
    Ok(answer(world, 200, &user))
}

fn delete_user(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    world.delete_user(actor, call.path_id("user_id")?, call.query_flag("soft_delete")?)?;
    Ok(SandboxAnswer::no_content())
}

fn list_buildings(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    list_of(world, call, world.buildings(actor, call.path_id("user_id")?)?)
}

fn create_building(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let user_id = call.path_id("user_id")?;
    let wanted = BuildingFields::read_new(&call.json()?, &world.variants)?;
    let building = world.create_building(actor, user_id, wanted)?.clone();
    Ok(answer(world, world.variants.created_status, &building))
}

fn building_ids(call: &ApiCall<'_>) -> SandboxResult<(Uuid, Uuid)> {
    Ok((call.path_id("user_id")?, call.path_id("building_id")?))
}

fn get_building(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = building_ids(call)?;
    Ok(answer(world, 200, world.building(actor, user_id, id)?))
}

fn update_building(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = building_ids(call)?;
    let wanted = BuildingFields::read_changes(&call.json()?, &world.variants)?;
    let building = world.update_building(actor, user_id, id, wanted)?.clone();
    Ok(answer(world, 200, &building))
}

fn delete_building(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = building_ids(call)?;
    world.delete_building(actor, user_id, id)?;
    Ok(SandboxAnswer::no_content())
}

fn heat_pump_ids(call: &ApiCall<'_>) -> SandboxResult<(Uuid, Uuid)> {
    Ok((call.path_id("user_id")?, call.path_id("heat_pump_id")?))
}

/// A heat pump with its actions.
pub(super) fn heat_pump_answer(world: &World, status: u16, id: Uuid, call: &ApiCall<'_>) -> Outcome {
    let heat_pump = world.any_heat_pump(id)?;
    Ok(SandboxAnswer::json(status, &world.heat_pump_json(heat_pump, true, call.view(world.variants))))
}

fn list_heat_pumps(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let heat_pumps = world.heat_pumps(actor, call.path_id("user_id")?, call.query_flag("include_deleted")?)?;
    let (view, with_actions) = (call.view(world.variants), world.variants.actions_in_list);
    let shown = heat_pumps.into_iter().map(|heat_pump| world.heat_pump_json(heat_pump, with_actions, view));
    list(world, call, shown.collect())
}

fn create_heat_pump(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let user_id = call.path_id("user_id")?;
    let wanted = HeatPumpFields::read_new(&call.json_or_empty()?)?;
    let id = world.create_heat_pump(actor, user_id, wanted, call.now)?.id;
    heat_pump_answer(world, world.variants.created_status, id, call)
}

fn get_heat_pump(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = heat_pump_ids(call)?;
    world.heat_pump(actor, user_id, id, call.query_flag("include_deleted")?)?;
    heat_pump_answer(world, 200, id, call)
}

fn update_heat_pump(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = heat_pump_ids(call)?;
    let wanted = HeatPumpFields::read_changes(&call.json()?)?;
    world.update_heat_pump(actor, user_id, id, wanted, call.now)?;
    heat_pump_answer(world, 200, id, call)
}

fn delete_heat_pump(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = heat_pump_ids(call)?;
    world.delete_heat_pump(actor, user_id, id, call.now)?;
    Ok(SandboxAnswer::no_content())
}

fn list_contracts(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let contracts = world.energy_contracts(actor, call.path_id("user_id")?)?;
    list(world, call, contracts.into_iter().map(EnergyContract::json).collect())
}

fn create_contract(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, wanted) = (call.path_id("user_id")?, ContractFields::read(&call.json()?)?);
    Ok(SandboxAnswer::ok(&world.create_energy_contract(actor, user_id, wanted)?.json()))
}

fn update_contract(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = (call.path_id("user_id")?, call.path_id("energy_contract_id")?);
    let wanted = ContractFields::read(&call.json()?)?;
    Ok(SandboxAnswer::ok(&world.update_energy_contract(actor, user_id, id, wanted)?.json()))
}

/// Undocumented for heat pumps; the answer is that of the other device types.
fn auth_session(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (user_id, id) = heat_pump_ids(call)?;
    if !world.variants.auth_session_supported {
        return Err(SandboxError::NotFound);
    }
    let urls = ReturnUrls::read_optional(&call.json_or_empty()?)?;
    let session_id = world.open_auth_session(actor, user_id, id, urls)?;
    let url = ConnectLink::Reconnection(session_id).url(call.base_url());
    Ok(SandboxAnswer::ok(&json!({"authentication_url": url, "device_id": id, "session_id": session_id})))
}

fn create_session(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let wanted = CreateSession::read(&call.json()?)?;
    Ok(SandboxAnswer::ok(&world.create_session(actor, wanted, call.now)?.json(call.base_url())))
}

fn get_session(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    Ok(SandboxAnswer::ok(&world.session(actor, call.path_id("session_id")?)?.json(call.base_url())))
}

/// The cue of a request, with the secret of its query.
struct OpenedCue {
    id: Uuid,
    secret: String,
}

impl OpenedCue {
    fn of(call: &ApiCall<'_>) -> SandboxResult<Self> {
        let missing = || SandboxError::invalid("missing", &["query", "secret"], "Field required");
        Ok(Self { id: call.path_id("cue_id")?, secret: call.query("secret").ok_or_else(missing)? })
    }

    fn key(&self) -> CueKey<'_> {
        CueKey { id: self.id, secret: &self.secret }
    }
}

fn resolve_cue(world: &mut World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let opened = OpenedCue::of(call)?;
    let urls = ReturnUrls::read_required(&call.json()?)?;
    let link = world.resolve_cue(actor, opened.key(), urls, call.now)?;
    Ok(SandboxAnswer::ok(&json!({"redirect_url": link.url(call.base_url())})))
}

fn report_cue(world: &mut World, call: &ApiCall<'_>) -> Outcome {
    let opened = OpenedCue::of(call)?;
    let report = CueReport::read(&call.json()?)?;
    Ok(action(world.report_cue(opened.key(), report, call.now)?))
}

fn read_cue(world: &mut World, call: &ApiCall<'_>) -> Outcome {
    Ok(action(world.read_cue(OpenedCue::of(call)?.key(), call.now)?))
}

fn action(id: Uuid) -> SandboxAnswer {
    SandboxAnswer::ok(&Value::from_iter([("action_id", id.to_string())]))
}
