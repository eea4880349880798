//! The sandbox over HTTP: every call to Podero goes through one function, which lets faults strike and keeps the log.
//!
//! It must never decide what Podero would decide: that is the model's.
//!
//! Before: [`crate::sandbox`]. After: [`crate::sandbox::model`], [`crate::sandbox::faults`].

mod api;
mod call;
mod connect;
mod control;
mod figures;
mod openapi;
mod page;
mod paths;
mod schemas;
mod token;

use std::net::TcpListener;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::HttpDate;
use actix_web::web::{self, Bytes, PayloadConfig, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, Route, rt};

use super::answer::{self, SandboxAnswer};
use super::embedded::{BODY_BYTES_MAX, REPLIES_MAX, Sandbox, State};
use super::endpoint::Endpoint;
use super::error::SandboxError;
use super::faults::{FaultKind, FaultRule};
use super::newest::keep_newest;
use super::requests::{LoggedRequest, REQUESTS_MAX};
use crate::domain::Timestamp;
use crate::pump;
use call::ApiCall;
use paths::{API_PATHS, API_PREFIX, Method, OPENAPI_PATH, TOKEN_PATHS};

pub use openapi::document as openapi;

/// Time for which a stopping server waits for answers that a latency fault holds back.
const SHUTDOWN_SECONDS: u64 = 1;

/// A server of this sandbox alone, on a socket that is bound already. Await it to run it; signals are the caller's.
pub fn server(sandbox: Sandbox, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(move || App::new().configure(|cfg| sandbox.configure(cfg)))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .listen(listener)?;
    Ok(server.run())
}

/// The meaning of a path and method.
#[derive(Clone, Copy)]
enum Asked {
    Known(Endpoint),
    NoSuchPath,
    NoSuchMethod,
}

impl Sandbox {
    /// Mounts `/oauth2/token/`, `/api/partners/v2.0`, the Connect page and `/_sandbox`.
    pub fn configure(&self, cfg: &mut ServiceConfig) {
        let token = web::resource(TOKEN_PATHS).app_data(PayloadConfig::new(BODY_BYTES_MAX));
        let token = with_routes(self, token, &[(Method::Post, Endpoint::Token)]);
        let mut api = web::scope(API_PREFIX).app_data(PayloadConfig::new(BODY_BYTES_MAX));
        api = api.route(OPENAPI_PATH, web::get().to(itself));
        for (path, methods) in API_PATHS {
            api = api.service(with_routes(self, web::resource(path), methods));
        }
        let api = api.default_service(asked(self, web::route(), Asked::NoSuchPath));
        cfg.service(token).service(api).service(control::scope(self));
        connect::configure(self, cfg);
    }
}

/// The sandbox's OpenAPI document, where Podero serves its own.
async fn itself() -> HttpResponse {
    HttpResponse::Ok().json(openapi::document())
}

fn with_routes(sandbox: &Sandbox, mut resource: Resource, methods: &[(Method, Endpoint)]) -> Resource {
    for (method, operation) in methods {
        resource = resource.route(asked(sandbox, method.route(), Asked::Known(*operation)));
    }
    resource.default_service(asked(sandbox, web::route(), Asked::NoSuchMethod))
}

fn asked(sandbox: &Sandbox, route: Route, asked: Asked) -> Route {
    let sandbox = sandbox.clone();
    route.to(move |request: HttpRequest, body: Bytes| {
        let sandbox = sandbox.clone();
        // Podero finishes a call whose client has gone.
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
    let strike = sandbox.lock().faults.strike(operation, mentions, || sandbox.clock().jitter());
    let kind = strike.as_ref().map(|rule| rule.kind);
    let delay = strike.as_ref().map_or(Duration::ZERO, FaultRule::delay);
    let acts_late = kind == Some(FaultKind::Slow);
    if acts_late {
        wait(delay).await;
    }
    let call = ApiCall::new(request, body, sandbox.clock().now());
    let answer = {
        let mut state = sandbox.lock();
        let is_kept_from_acting = matches!(kind, Some(FaultKind::Status | FaultKind::DropBefore));
        let answer = (!is_kept_from_acting).then(|| perform(sandbox, &mut state, asked, &call));
        let status = status_on_the_wire(strike.as_ref(), answer.as_ref());
        state.last_request += 1;
        let logged = LoggedRequest {
            number: state.last_request,
            operation,
            method: request.method().to_string(),
            path: request.path().to_owned(),
            status,
            has_acted: answer.as_ref().is_some_and(|answer| (200..300).contains(&answer.status)),
            idempotency_key: call.header("idempotency-key").map(str::to_owned),
            at: call.now,
            fault: kind.map(FaultKind::name),
        };
        keep_newest(&mut state.requests, logged, REQUESTS_MAX);
        answer
    };
    if !acts_late {
        wait(delay).await;
    }
    match (kind, answer) {
        (Some(FaultKind::DropBefore | FaultKind::DropAfter), _) => answer::cut(),
        (Some(FaultKind::Garbage), _) => answer::garbage(),
        (Some(FaultKind::Half), Some(answer)) => answer.half(),
        (Some(FaultKind::Cut), Some(answer)) => answer.cut_short(),
        (_, Some(answer)) => answer.into_response(),
        (_, None) => {
            let rule = strike.expect("only a strike keeps the model from answering");
            let status = rule.status.expect("a rule that answers a status has one");
            answer::refused(status, retry_after(&rule, sandbox.clock().now()))
        }
    }
}

fn status_on_the_wire(strike: Option<&FaultRule>, answer: Option<&SandboxAnswer>) -> Option<u16> {
    match strike.map(|rule| (rule.kind, rule.status)) {
        Some((FaultKind::DropBefore | FaultKind::DropAfter, _)) => None,
        Some((FaultKind::Garbage | FaultKind::Half, _)) => Some(200),
        Some((FaultKind::Status, status)) => status,
        Some((FaultKind::Latency | FaultKind::Slow | FaultKind::Cut, _)) | None => answer.map(|answer| answer.status),
    }
}

/// `Retry-After` of a strike that has one.
fn retry_after(strike: &FaultRule, now: Timestamp) -> Option<String> {
    let seconds = strike.retry_after?;
    if !strike.retry_after_date {
        return Some(seconds.to_string());
    }
    // A date has whole seconds; rounded up, no client comes too early.
    let at = now.plus(Duration::from_secs(seconds)).plus(Duration::from_micros(999_999));
    Some(HttpDate::from(UNIX_EPOCH + at.since(Timestamp::from_micros(0))).to_string())
}

/// An ordered latency is real time on purpose: it is there to outlast a client's timeout.
async fn wait(delay: Duration) {
    if !delay.is_zero() {
        pump::sleep(delay).await;
    }
}

fn perform(sandbox: &Sandbox, state: &mut State, asked: Asked, call: &ApiCall<'_>) -> SandboxAnswer {
    let operation = match asked {
        Asked::Known(Endpoint::Token) => return token::issue(sandbox, state, call),
        Asked::Known(operation) => operation,
        Asked::NoSuchPath => return SandboxAnswer::refusal(&SandboxError::NotFound),
        Asked::NoSuchMethod => return SandboxAnswer::refusal(&SandboxError::MethodNotAllowed),
    };
    let key = call
        .header("idempotency-key")
        .filter(|_| operation.creates() && state.world.variants.honour_idempotency_keys)
        .map(|key| format!("{} {key}", call.path()));
    if let Some(known) = key.as_ref().and_then(|key| state.replies.get(key)) {
        return known.clone();
    }
    match api::act(state, operation, call) {
        Ok(answer) => {
            if let Some(key) = key {
                state.replies.keep(key, answer.clone(), REPLIES_MAX);
            }
            answer
        }
        Err(refusal) => SandboxAnswer::refusal(&refusal),
    }
}
