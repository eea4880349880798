//! The sandbox over HTTP: every call to Podero goes through one function, which lets faults strike and keeps the log.
//!
//! It must never decide what Podero would decide: that is the model's.
//!
//! Before: [`crate::sandbox`]. After: [`crate::sandbox::model`], [`crate::sandbox::faults`].

mod answer;
mod api;
mod call;
mod control;
mod token;

use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Bytes, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, rt};

use super::faults::{Kind, Strike};
use super::model::Refusal;
use super::requests::Request;
use super::{BODY_BYTES_MAX, Operation, Sandbox, State};
use crate::domain::Timestamp;
use crate::pump;
use answer::RetryAfter;
use call::Call;

pub(super) use answer::Answer;

/// What a path and method stand for.
#[derive(Clone, Copy)]
enum Asked {
    Known(Operation),
    NoSuchPath,
    NoSuchMethod,
}

/// The documented paths below the API's prefix, and what each method does there.
fn api_paths() -> [(&'static str, Vec<(Method, Operation)>); 12] {
    use Operation as Op;
    let (get, post, put, delete) = (|| Method::GET, || Method::POST, || Method::PUT, || Method::DELETE);
    [
        ("/org/{org_id}/users", vec![(get(), Op::ListUsers), (post(), Op::CreateUser)]),
        ("/org/{org_id}/users/by-ext-id/{external_id}", vec![(get(), Op::FindUser)]),
        (
            "/org/{org_id}/users/{user_id}",
            vec![(get(), Op::GetUser), (put(), Op::UpdateUser), (delete(), Op::DeleteUser)],
        ),
        ("/org/{org_id}/users/{user_id}/buildings", vec![(get(), Op::ListBuildings), (post(), Op::CreateBuilding)]),
        (
            "/org/{org_id}/users/{user_id}/buildings/{building_id}",
            vec![(get(), Op::GetBuilding), (put(), Op::UpdateBuilding), (delete(), Op::DeleteBuilding)],
        ),
        ("/org/{org_id}/users/{user_id}/heat-pumps", vec![(get(), Op::ListHeatPumps), (post(), Op::CreateHeatPump)]),
        (
            "/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}",
            vec![(get(), Op::GetHeatPump), (put(), Op::UpdateHeatPump), (delete(), Op::DeleteHeatPump)],
        ),
        ("/org/{org_id}/users/{user_id}/heat-pumps/{heat_pump_id}/auth_session", vec![(post(), Op::AuthSession)]),
        ("/device-onboarding", vec![(post(), Op::CreateOnboardingSession)]),
        ("/device-onboarding/{session_id}", vec![(get(), Op::GetOnboardingSession)]),
        ("/cues/{cue_id}/resolve", vec![(post(), Op::ResolveCue)]),
        ("/cues/{cue_id}/state", vec![(post(), Op::ReportCue)]),
    ]
}

pub(super) fn mount(sandbox: &Sandbox, cfg: &mut ServiceConfig) {
    let token = web::resource(["/oauth2/token/", "/oauth2/token"])
        .app_data(PayloadConfig::new(BODY_BYTES_MAX))
        .route(asked(sandbox, web::post(), Asked::Known(Operation::Token)))
        .default_service(asked(sandbox, web::route(), Asked::NoSuchMethod));
    let mut api = web::scope("/api/partners/v2.0").app_data(PayloadConfig::new(BODY_BYTES_MAX));
    for (path, operations) in api_paths() {
        api = api.service(resource(sandbox, path, operations));
    }
    let read_cue = vec![(Method::POST, Operation::ReadCue)];
    let api = api.service(resource(sandbox, "/cues/{cue_id}/information/resolve", read_cue)).default_service(asked(
        sandbox,
        web::route(),
        Asked::NoSuchPath,
    ));
    cfg.service(token).service(api).service(control::scope(sandbox));
}

fn resource(sandbox: &Sandbox, path: &str, operations: Vec<(Method, Operation)>) -> Resource {
    let mut resource = web::resource(path);
    for (method, operation) in operations {
        resource = resource.route(asked(sandbox, web::method(method), Asked::Known(operation)));
    }
    resource.default_service(asked(sandbox, web::route(), Asked::NoSuchMethod))
}

fn asked(sandbox: &Sandbox, route: Route, asked: Asked) -> Route {
    let sandbox = sandbox.clone();
    route.to(move |request: HttpRequest, body: Bytes| {
        let sandbox = sandbox.clone();
        // Podero does not stop because nobody listens any more.
        async move {
            let exchange = rt::spawn(async move { exchange(&sandbox, asked, &request, &body).await });
            exchange.await.unwrap_or_else(|_| HttpResponse::InternalServerError().finish())
        }
    })
}

/// One call to Podero: a fault may strike, the model acts, the log is written, the answer goes out.
async fn exchange(sandbox: &Sandbox, asked: Asked, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let operation = match asked {
        Asked::Known(operation) => Some(operation),
        Asked::NoSuchPath | Asked::NoSuchMethod => None,
    };
    let mentions =
        |text: &str| request.path().contains(text) || body.windows(text.len()).any(|part| part == text.as_bytes());
    let strike = sandbox.lock().faults.strike(operation, mentions, || sandbox.0.clock.jitter());
    let acts_late = strike.filter(|strike| strike.kind == Kind::Slow);
    if let Some(strike) = acts_late {
        wait(strike.delay).await;
    }
    let call = Call::new(request, body, sandbox.0.clock.now());
    let answer = {
        let mut state = sandbox.lock();
        let answer = match strike.map(|strike| strike.kind) {
            Some(Kind::Status | Kind::DropBefore) => None,
            None | Some(Kind::Latency | Kind::Slow | Kind::DropAfter | Kind::Garbage | Kind::Half | Kind::Cut) => {
                Some(perform(sandbox, &mut state, asked, &call))
            }
        };
        let status = status_on_the_wire(strike, answer.as_ref());
        state.requests.add(Request {
            operation,
            method: request.method().to_string(),
            path: request.path().to_owned(),
            status,
            idempotency_key: call.header("idempotency-key").map(str::to_owned),
            at: call.now,
            fault: strike.map(|strike| strike.kind.name()),
        });
        answer
    };
    if let (Some(strike), None) = (strike, acts_late) {
        wait(strike.delay).await;
    }
    match (strike, answer) {
        (Some(Strike { kind: Kind::DropBefore | Kind::DropAfter, .. }), _) => answer::cut(),
        (Some(Strike { kind: Kind::Garbage, .. }), _) => answer::garbage(),
        (Some(Strike { kind: Kind::Half, .. }), Some(answer)) => answer.half(),
        (Some(Strike { kind: Kind::Cut, .. }), Some(answer)) => answer.cut_short(),
        (Some(strike), None) => answer::refused(strike.status, retry_after(&strike, sandbox.0.clock.now())),
        (_, Some(answer)) => answer.into_response(),
        (None, None) => unreachable!("only a strike keeps the model from answering"),
    }
}

fn status_on_the_wire(strike: Option<Strike>, answer: Option<&Answer>) -> Option<u16> {
    match strike.map(|strike| (strike.kind, strike.status)) {
        Some((Kind::DropBefore | Kind::DropAfter, _)) => None,
        Some((Kind::Garbage | Kind::Half, _)) => Some(200),
        Some((Kind::Status, status)) => Some(status),
        Some((Kind::Latency | Kind::Slow | Kind::Cut, _)) | None => answer.map(|answer| answer.status),
    }
}

/// `Retry-After` of a strike that has one.
fn retry_after(strike: &Strike, now: Timestamp) -> Option<RetryAfter> {
    let seconds = strike.retry_after?;
    // A date has whole seconds; rounded up, nobody comes too early.
    let at = now.plus(Duration::from_secs(seconds)).plus(Duration::from_micros(999_999));
    Some(if strike.retry_after_date { RetryAfter::At(at) } else { RetryAfter::Seconds(seconds) })
}

/// An ordered latency is real time on purpose: it is there to outlast a client's patience.
async fn wait(delay: Duration) {
    if !delay.is_zero() {
        pump::sleep(delay).await;
    }
}

fn perform(sandbox: &Sandbox, state: &mut State, asked: Asked, call: &Call<'_>) -> Answer {
    let operation = match asked {
        Asked::Known(Operation::Token) => return token::issue(sandbox, state, call),
        Asked::Known(operation) => operation,
        Asked::NoSuchPath => return Answer::refusal(&Refusal::NotFound),
        Asked::NoSuchMethod => return Answer::refusal(&Refusal::MethodNotAllowed),
    };
    let key = call
        .header("idempotency-key")
        .filter(|_| operation.creates() && state.world.variants.honour_idempotency_keys)
        .map(|key| format!("{} {key}", call.path()));
    if let Some(known) = key.as_ref().and_then(|key| state.replies.get(key)) {
        return known;
    }
    match api::act(state, operation, call) {
        Ok(answer) => {
            if let Some(key) = key {
                state.replies.keep(key, answer.clone());
            }
            answer
        }
        Err(refusal) => Answer::refusal(&refusal),
    }
}
