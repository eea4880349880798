//! The control API under `/_sandbox`: ours, not Podero's; no token needed, no fault strikes, nothing is logged.
//!
//! It must never be mounted where others than developers and tests can reach it.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`], [`crate::sandbox::faults`].

use actix_web::web::{self, Bytes, PayloadConfig};
use actix_web::{HttpRequest, Route, Scope};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::Answer;
use super::call::Call;
use super::token;
use crate::sandbox::access::Actor;
use crate::sandbox::faults::Rule;
use crate::sandbox::model::{BuildingView, Fields, Refusal, Session, UserView};
use crate::sandbox::variants::Variants;
use crate::sandbox::{BODY_BYTES_MAX, Sandbox, State};

type Outcome = Result<Answer, Refusal>;
type Act = fn(&Sandbox, &mut State, &Call<'_>) -> Outcome;

// As any sign-up form has it; Podero names no rule.
const PASSWORD_CHARS_MIN: usize = 8;

pub(super) fn scope(sandbox: &Sandbox) -> Scope {
    let on = |route: Route, act: Act| {
        let sandbox = sandbox.clone();
        route.to(move |request: HttpRequest, body: Bytes| {
            let call = Call::new(&request, &body, sandbox.0.clock.now());
            let outcome = act(&sandbox, &mut sandbox.lock(), &call);
            std::future::ready(outcome.unwrap_or_else(|refusal| Answer::refusal(&refusal)).into_response())
        })
    };
    web::scope("/_sandbox")
        .app_data(PayloadConfig::new(BODY_BYTES_MAX))
        .route("/state", on(web::get(), show_state))
        .route("/requests", on(web::get(), show_requests))
        .route("/requests", on(web::delete(), forget_requests))
        .route("/faults", on(web::get(), show_faults))
        .route("/faults", on(web::post(), order_fault))
        .route("/faults", on(web::delete(), clear_faults))
        .route("/variants", on(web::get(), show_variants))
        .route("/variants", on(web::patch(), switch_variants))
        .route("/tokens", on(web::post(), issue_token))
        .route("/tokens", on(web::delete(), revoke_tokens))
        .route("/mailbox", on(web::get(), show_mailbox))
        .route("/invitations/{token}/accept", on(web::post(), accept_invitation))
        .route("/users/{user_id}/heat-pumps", on(web::post(), connect_heat_pump))
        .route("/heat-pumps/{heat_pump_id}", on(web::patch(), patch_heat_pump))
        .route("/heat-pumps/{heat_pump_id}/lapse", on(web::post(), lapse_heat_pump))
        .route("/heat-pumps/{heat_pump_id}/actions", on(web::post(), raise_action))
        .route("/onboarding/{session_id}/complete", on(web::post(), complete_session))
        .default_service(on(web::route(), |_, _, _| Err(Refusal::NotFound)))
}

fn show_state(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let world = &state.world;
    let (view, variants) = (call.view(world.variants), &world.variants);
    let users: Vec<_> = world.all_users().map(|user| UserView { user, variants, with_deleted: true }).collect();
    let buildings: Vec<_> =
        world.all_buildings().map(|building| BuildingView { building, variants, with_user: true }).collect();
    let heat_pumps: Vec<_> = world.all_heat_pumps().map(|pump| world.heat_pump_json(pump, true, view)).collect();
    let sessions: Vec<&Session> = world.all_sessions().collect();
    Ok(Answer::ok(&json!({"users": users, "buildings": buildings, "heat_pumps": heat_pumps, "sessions": sessions})))
}

fn show_requests(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    Ok(Answer::ok(state.requests.all()))
}

fn forget_requests(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    state.requests.clear();
    Ok(Answer::no_content())
}

fn show_faults(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    Ok(Answer::ok(&state.faults.rules()))
}

fn order_fault(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let rule: Rule = serde_json::from_value(call.json()?).map_err(|error| unfit(&error))?;
    let ordered = state.faults.order(rule);
    ordered
        .map(|rule| Answer::json(201, rule))
        .map_err(|objection| Refusal::invalid("value_error", &["body"], objection))
}

fn clear_faults(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    state.faults.clear();
    Ok(Answer::no_content())
}

fn show_variants(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    Ok(Answer::ok(&state.world.variants))
}

fn switch_variants(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let mut switched = json!(state.world.variants);
    for (name, value) in object(call.json()?)? {
        switched[name] = value;
    }
    let variants: Variants = serde_json::from_value(switched).map_err(|error| unfit(&error))?;
    if !variants.are_valid() {
        let msg = "created_status is 200 or 201, duplicate_status 400, 409 or 422";
        return Err(Refusal::invalid("value_error", &["body"], msg));
    }
    state.world.variants = variants;
    Ok(Answer::ok(&variants))
}

fn issue_token(sandbox: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let user_id = fields.id("user_id");
    let user_id = fields.required("user_id", user_id);
    fields.finish()?;
    let actor = Actor::User(user_id.ok_or(Refusal::NotFound)?);
    state.world.standing(actor).map_err(|_| Refusal::NotFound)?;
    Ok(Answer::json(201, &token::grant(sandbox, state, actor, call)))
}

fn revoke_tokens(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    state.tokens.revoke_all();
    Ok(Answer::no_content())
}

fn show_mailbox(_: &Sandbox, state: &mut State, _: &Call<'_>) -> Outcome {
    Ok(Answer::ok(&state.world.mailbox().collect::<Vec<_>>()))
}

fn accept_invitation(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let password = fields.text("password", None);
    let password = fields.required("password", password);
    if password.is_some_and(|password| password.chars().count() < PASSWORD_CHARS_MIN) {
        fields.object_to("password", "string_too_short", "String should have at least 8 characters");
    }
    fields.finish()?;
    let variants = state.world.variants;
    let user = state.world.accept_invitation(call.path_text("token"), call.now)?;
    Ok(Answer::ok(&UserView { user, variants: &variants, with_deleted: false }))
}

fn connect_heat_pump(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let wanted = free_fields(call.json_or_empty()?)?;
    let id = state.world.connect_heat_pump(call.path_id("user_id")?, wanted, call.now)?.id;
    heat_pump(state, 201, id, call)
}

fn patch_heat_pump(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    state.world.patch_heat_pump(id, free_fields(call.json()?)?, call.now)?;
    heat_pump(state, 200, id, call)
}

fn lapse_heat_pump(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    state.world.lapse_heat_pump(id, call.now)?;
    heat_pump(state, 200, id, call)
}

fn raise_action(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let code = fields.text("code", None);
    let code = fields.required("code", code);
    fields.finish()?;
    state.world.raise_action(id, &code.unwrap_or_default(), call.now)?;
    heat_pump(state, 201, id, call)
}

fn complete_session(_: &Sandbox, state: &mut State, call: &Call<'_>) -> Outcome {
    let wanted = free_fields(call.json_or_empty()?)?;
    let id = state.world.complete_session(call.path_id("session_id")?, wanted, call.now)?.id;
    heat_pump(state, 201, id, call)
}

fn heat_pump(state: &State, status: u16, id: Uuid, call: &Call<'_>) -> Outcome {
    let world = &state.world;
    Ok(Answer::json(status, &world.heat_pump_json(world.any_heat_pump(id)?, true, call.view(world.variants))))
}

fn object(value: Value) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_value(value).map_err(|error| unfit(&error))
}

/// Response fields to set: any but `id`, by which the pump is found.
fn free_fields(value: Value) -> Result<Map<String, Value>, Refusal> {
    let fields = object(value)?;
    if fields.contains_key("id") {
        return Err(Refusal::invalid("value_error", &["body", "id"], "id cannot be set"));
    }
    Ok(fields)
}

fn unfit(error: &serde_json::Error) -> Refusal {
    Refusal::invalid("value_error", &["body"], &error.to_string())
}
