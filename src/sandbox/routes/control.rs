//! The control API under `/_sandbox`: ours, not Podero's; no token needed, no fault strikes, nothing is logged.
//!
//! It must never be mounted where others than developers and tests can reach it.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`], [`crate::sandbox::faults`].

use actix_web::web::{self, Bytes, PayloadConfig};
use actix_web::{HttpRequest, Route, Scope};
use serde_json::{Map, Value, json};

use super::api::heat_pump_answer;
use super::call::ApiCall;
use super::paths::Method;
use super::token;
use crate::sandbox::access::SandboxActor;
use crate::sandbox::answer::SandboxAnswer;
use crate::sandbox::embedded::{BODY_BYTES_MAX, Sandbox, State};
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::faults::FaultRule;
use crate::sandbox::model::{FieldKind, Fields, Shown, id_of, text_of};
use crate::sandbox::variants::Variants;

type Outcome = SandboxResult<SandboxAnswer>;
type ControlAct = fn(&Sandbox, &mut State, &ApiCall<'_>) -> Outcome;

/// A control route.
pub(super) struct Control {
    pub(super) method: Method,
    /// Its path below [`CONTROL_PREFIX`].
    pub(super) path: &'static str,
    /// Status of its answer when it did what it was asked.
    pub(super) status: u16,
    /// Its effect, in a few words.
    pub(super) summary: &'static str,
    act: ControlAct,
}

const fn control(method: Method, path: &'static str, status: u16, summary: &'static str, act: ControlAct) -> Control {
    Control { method, path, status, summary, act }
}

/// Prefix of every control route.
pub(super) const CONTROL_PREFIX: &str = "/_sandbox";

/// All control routes.
#[rustfmt::skip]
pub(super) const CONTROLS: [Control; 18] = [
    control(Method::Get, "/state", 200, "Everything that the sandbox holds", show_state),
    control(Method::Get, "/requests", 200, "The requests that it got, newest last", show_requests),
    control(Method::Delete, "/requests", 204, "Forget the requests", forget_requests),
    control(Method::Get, "/faults", 200, "The faults in force", |_, state, _| Ok(SandboxAnswer::ok(&state.faults.rules()))),
    control(Method::Post, "/faults", 201, "Put a fault in force", order_fault),
    control(Method::Delete, "/faults", 204, "Take all faults out of force", clear_faults),
    control(Method::Get, "/variants", 200, "The switches", |_, state, _| Ok(SandboxAnswer::ok(&state.world.variants))),
    control(Method::Patch, "/variants", 200, "Set some of the switches", switch_variants),
    control(Method::Post, "/tokens", 201, "A token that acts as the user `user_id`", issue_token),
    control(Method::Delete, "/tokens", 204, "Refuse every token in use from now on", revoke_tokens),
    control(Method::Get, "/mailbox", 200, "The mails that were sent: invitations", |_, state, _| Ok(SandboxAnswer::ok(state.world.mailbox()))),
    control(Method::Post, "/invitations/{token}/accept", 200, "Accept an invitation with `password` and `terms_accepted`", accept_invitation),
    control(Method::Post, "/login", 200, "Log in with `email` and `password`: a token", log_in),
    control(Method::Post, "/users/{user_id}/heat-pumps", 201, "Connect a heat pump", connect_heat_pump),
    control(Method::Patch, "/heat-pumps/{heat_pump_id}", 200, "Set any fields of a heat pump", patch_heat_pump),
    control(Method::Post, "/heat-pumps/{heat_pump_id}/lapse", 200, "Let the authentication of a heat pump lapse", lapse_heat_pump),
    control(Method::Post, "/heat-pumps/{heat_pump_id}/actions", 201, "Raise an action with this `code`", raise_action),
    control(Method::Post, "/onboarding/{session_id}/complete", 201, "Finish an onboarding session, as its customer would", complete_session),
];

pub(super) fn scope(sandbox: &Sandbox) -> Scope {
    let on = |route: Route, act: ControlAct| {
        let sandbox = sandbox.clone();
        route.to(move |request: HttpRequest, body: Bytes| {
            let call = ApiCall::new(&request, &body, sandbox.clock().now());
            let outcome = act(&sandbox, &mut sandbox.lock(), &call);
            std::future::ready(outcome.unwrap_or_else(|refusal| SandboxAnswer::refusal(&refusal)).into_response())
        })
    };
    let mut scope = web::scope(CONTROL_PREFIX).app_data(PayloadConfig::new(BODY_BYTES_MAX));
    for control in CONTROLS {
        scope = scope.route(control.path, on(control.method.route(), control.act));
    }
    scope.default_service(on(web::route(), |_, _, _| Err(SandboxError::NotFound)))
}

fn show_state(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let world = &state.world;
    let (view, variants) = (call.view(world.variants), &world.variants);
    let users: Vec<_> = world.all_users().map(|user| Shown { thing: user, variants, is_whole: true }).collect();
    let buildings: Vec<_> =
        world.all_buildings().map(|building| Shown { thing: building, variants, is_whole: true }).collect();
    let heat_pumps: Vec<_> = world.all_heat_pumps().map(|pump| world.heat_pump_json(pump, true, view)).collect();
    let sessions: Vec<Value> = world.all_sessions().map(|session| session.json(call.base_url())).collect();
    Ok(SandboxAnswer::ok(
        &json!({"users": users, "buildings": buildings, "heat_pumps": heat_pumps, "sessions": sessions}),
    ))
}

/// The requests, or those after the number `after`.
fn show_requests(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let after = call.query_number("after", 0, usize::MAX)?;
    Ok(SandboxAnswer::ok(&state.requests.iter().filter(|request| request.number > after).collect::<Vec<_>>()))
}

fn forget_requests(_: &Sandbox, state: &mut State, _: &ApiCall<'_>) -> Outcome {
    state.requests.clear();
    Ok(SandboxAnswer::no_content())
}

fn order_fault(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let rule: FaultRule = serde_json::from_value(call.json()?).map_err(|error| unfit(&error))?;
    let ordered = state.faults.order(rule);
    ordered
        .map(|rule| SandboxAnswer::json(201, rule))
        .map_err(|objection| SandboxError::invalid("value_error", &["body"], objection))
}

fn clear_faults(_: &Sandbox, state: &mut State, _: &ApiCall<'_>) -> Outcome {
    state.faults.clear();
    Ok(SandboxAnswer::no_content())
}

fn switch_variants(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let mut switched = json!(state.world.variants);
    for (name, value) in object(call.json()?)? {
        switched[name] = value;
    }
    let variants: Variants = serde_json::from_value(switched).map_err(|error| unfit(&error))?;
    if !variants.are_valid() {
        let msg = "created_status is 200 or 201, duplicate_status 400, 409 or 422";
        return Err(SandboxError::invalid("value_error", &["body"], msg));
    }
    state.world.variants = variants;
    Ok(SandboxAnswer::ok(&variants))
}

fn issue_token(sandbox: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let user_id = fields.required("user_id", FieldKind::Id);
    fields.finish()?;
    let actor = SandboxActor::User(id_of(&user_id).ok_or(SandboxError::NotFound)?);
    state.world.standing(actor).map_err(|_| SandboxError::NotFound)?;
    Ok(SandboxAnswer::json(201, &token::grant(sandbox, state, actor, call)))
}

fn revoke_tokens(_: &Sandbox, state: &mut State, _: &ApiCall<'_>) -> Outcome {
    state.tokens.revoke_all();
    Ok(SandboxAnswer::no_content())
}

fn accept_invitation(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let variants = state.world.variants;
    let user = state.world.accept_invitation(call.path_text("token"), &call.json()?, call.now)?;
    Ok(SandboxAnswer::ok(&Shown { thing: user, variants: &variants, is_whole: false }))
}

/// A token that acts as the person who logs in.
fn log_in(sandbox: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let [email, password] = ["email", "password"].map(|name| text_of(&fields.required(name, FieldKind::Text(None))));
    fields.finish()?;
    let actor = SandboxActor::User(state.world.log_in(&email, &password, call.now)?.id);
    Ok(SandboxAnswer::ok(&token::grant(sandbox, state, actor, call)))
}

fn connect_heat_pump(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let wanted = free_fields(call.json_or_empty()?)?;
    let id = state.world.connect_heat_pump(call.path_id("user_id")?, wanted, call.now)?.id;
    heat_pump_answer(&state.world, 201, id, call)
}

fn patch_heat_pump(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    state.world.patch_heat_pump(id, free_fields(call.json()?)?, call.now)?;
    heat_pump_answer(&state.world, 200, id, call)
}

fn lapse_heat_pump(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    state.world.lapse_heat_pump(id, call.base_url(), call.now)?;
    heat_pump_answer(&state.world, 200, id, call)
}

fn raise_action(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let id = call.path_id("heat_pump_id")?;
    let body = call.json()?;
    let mut fields = Fields::of(&body)?;
    let code = fields.required("code", FieldKind::Text(None));
    fields.finish()?;
    state.world.raise_action(id, &text_of(&code), call.now)?;
    heat_pump_answer(&state.world, 201, id, call)
}

fn complete_session(_: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> Outcome {
    let wanted = free_fields(call.json_or_empty()?)?;
    let id = state.world.complete_session(call.path_id("session_id")?, wanted, call.now)?.id;
    heat_pump_answer(&state.world, 201, id, call)
}

fn object(value: Value) -> SandboxResult<Map<String, Value>> {
    serde_json::from_value(value).map_err(|error| unfit(&error))
}

/// Response fields to set: any but `id`, by which the pump is found.
fn free_fields(value: Value) -> SandboxResult<Map<String, Value>> {
    let fields = object(value)?;
    if fields.contains_key("id") {
        return Err(SandboxError::invalid("value_error", &["body", "id"], "id cannot be set"));
    }
    Ok(fields)
}

fn unfit(error: &serde_json::Error) -> SandboxError {
    SandboxError::invalid("value_error", &["body"], &error.to_string())
}
