//! The webhook endpoint: `POST /v1/events` and `POST /v1/events/{source}`.
//!
//! The only public listener. Everything has a bound: the body, the time it may take, the items of a batch, the connections. It
//! answers 202 only for an event that the store has.
//!
//! Before: the sender. After: [`crate::inbound`].

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::bodies::{BodyBudget, BodyPermit, BudgetExceeded, IncomingBody, Sender};
use super::delivery::Delivery;
use super::inbox::{Answers, Inbox, unavailable};
use super::refusals::Refusals;
use super::signature::Verified;
use super::{cloudevents, signature, text};
use crate::config::{DEFAULT_SOURCE, Source, Verify};
use crate::domain::event::Transport;
use crate::listener::connections::ProvedPeers;
use crate::listener::{details, is_late, peer_of, respond};
use crate::problem::{Problem, ProblemKind};
use crate::store::{self, Receipt};

/// State of the webhook endpoint; its workers share it.
pub struct Webhooks {
    /// Accepts deliveries.
    pub inbox: Inbox,
    /// `[[source]]`.
    pub sources: Vec<Source>,
    /// `http.body_max`, bytes.
    pub body_bytes_max: usize,
    /// The memory for bodies.
    pub bodies: BodyBudget,
    /// Peers that delivered something with a valid proof.
    pub proved: ProvedPeers,
    /// Counts and logs refusals.
    pub refusals: Refusals,
    /// OpenAPI of this listener, as JSON.
    pub openapi: String,
}

impl Webhooks {
    fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Answers a problem, and leaves a trace of it. `source` is the one that the request names, if it is configured.
    fn refuse(&self, source: Option<&Source>, problem: &Problem) -> HttpResponse {
        self.refusals.note(source.map(|source| source.name.as_str()), problem);
        let mut response = respond(problem);
        if problem.kind == ProblemKind::UnsupportedContentEncoding {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(text::ACCEPTED_CODINGS));
        }
        if problem.kind == ProblemKind::Unauthorized
            && let Some(challenge) = source.and_then(|source| signature::challenge(&source.verify))
        {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, webhooks: Arc<Webhooks>) {
    config
        .app_data(web::Data::from(webhooks))
        .service(source("/v1/events"))
        .service(source("/v1/events/{source}"))
        .service(
            web::resource("/openapi.json")
                .route(web::get().to(openapi))
                .default_service(web::to(|| wrong_method("use GET", "GET"))),
        );
}

fn source(path: &str) -> Resource {
    let (post, options) = (web::post().to(receive), web::method(Method::OPTIONS).to(handshake));
    web::resource(path).route(post).route(options).default_service(web::to(not_post))
}

async fn openapi(webhooks: web::Data<Webhooks>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(webhooks.openapi.clone())
}

/// The answer of every path that is not mounted.
pub async fn nothing_here(webhooks: web::Data<Webhooks>) -> HttpResponse {
    let detail = "events go to `POST /v1/events` or `POST /v1/events/{source}`";
    webhooks.refuse(None, &Problem::new(ProblemKind::NotFound, detail))
}

async fn not_post(request: HttpRequest, webhooks: web::Data<Webhooks>) -> HttpResponse {
    let problem = Problem::new(ProblemKind::MethodNotAllowed, "use POST");
    let mut response = webhooks.refuse(webhooks.source(source_of(&request)), &problem);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The source that the path names.
fn source_of(request: &HttpRequest) -> &str {
    request.match_info().get("source").unwrap_or(DEFAULT_SOURCE)
}

async fn wrong_method(detail: &str, methods: &'static str) -> HttpResponse {
    let mut response = respond(&Problem::new(ProblemKind::MethodNotAllowed, detail));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// Answers a sender that asks whether it may deliver here ("HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, §4). It may, at any
/// rate: each delivery proves its sender's identity, and the status reports a limit that is reached. The callback address that
/// it may name is not called: an answer is all it needs, and a stranger must not choose whom we call.
async fn handshake(request: HttpRequest, webhooks: web::Data<Webhooks>) -> HttpResponse {
    if webhooks.source(source_of(&request)).is_none() {
        return webhooks.refuse(None, &unknown_source());
    }
    let mut response = HttpResponse::Ok().finish();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    if let Some(origin) = request.headers().get(REQUEST_ORIGIN) {
        headers.insert(HeaderName::from_static(ALLOWED_ORIGIN), origin.clone());
        headers.insert(HeaderName::from_static(ALLOWED_RATE), HeaderValue::from_static("*"));
    }
    response
}

const METHODS: &str = "POST, OPTIONS";
const REQUEST_ORIGIN: &str = "webhook-request-origin";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

fn unknown_source() -> Problem {
    Problem::new(ProblemKind::UnknownSource, "see `[[source]]` in the bridge's configuration")
}

async fn receive(request: HttpRequest, body: Payload, webhooks: web::Data<Webhooks>) -> HttpResponse {
    let Some(source) = webhooks.source(source_of(&request)) else { return webhooks.refuse(None, &unknown_source()) };
    let answers = match take(&request, body, &webhooks, source).await {
        Ok(answers) => answers,
        Err(problem) => return webhooks.refuse(Some(source), &problem),
    };
    let rejected: Vec<&Problem> = answers.items.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let (told, untold) = match rejected.split_first() {
        // The sender of a batch that reads no body would take 202 for the whole. Repeating the other items is safe.
        Some((first, others)) if !answers.is_batch || !source.tells_receipt => (Some(first), others),
        Some(_) | None => (None, &*rejected),
    };
    for problem in untold {
        webhooks.refusals.note(Some(&source.name), problem);
    }
    if let Some(problem) = told {
        return webhooks.refuse(Some(source), problem);
    }
    if answers.items.is_empty() || rejected.len() < answers.items.len() {
        webhooks.inbox.metrics.webhooks_accepted.with_label_values(&[&source.name]).inc();
    }
    if source.tells_receipt { accepted(&answers) } else { HttpResponse::Accepted().finish() }
}

async fn take(request: &HttpRequest, body: Payload, webhooks: &Webhooks, source: &Source) -> Result<Answers, Problem> {
    let bytes_max = webhooks.body_bytes_max;
    let length = content_length(request);
    if length.is_some_and(|length| length > bytes_max) {
        return Err(Problem::too_large(bytes_max));
    }
    let headers = headers_of(request, &signature::proofs(&source.verify), webhooks.inbox.mapper.has(&source.name))?;
    // A stranger's body is not read if its headers already fail the check.
    signature::admit(&source.verify, &headers, webhooks.inbox.clock.now())?;
    let peer = peer_of(request);
    let is_proved = signature::is_proved_by_headers(&source.verify) || webhooks.proved.knows(peer);
    let sender = Sender { peer, source: source.name.clone(), is_proved };
    let incoming = webhooks.bodies.begin(sender, length.unwrap_or_default());
    let (body, permit) = read(body, incoming, bytes_max).await?;
    let now = webhooks.inbox.clock.now();
    let delivery = Delivery {
        transport: Transport::Http,
        source: source.name.clone(),
        content_type: headers.get(CONTENT_TYPE.as_str()).cloned(),
        headers,
        body,
        received_at: now,
    };
    let verified = signature::verify(&source.verify, delivery, now)?;
    match source.verify {
        // Without a check the sender is not proven.
        Verify::None => {}
        Verify::StandardWebhooks { .. } | Verify::Hmac(_) | Verify::Bearer { .. } | Verify::Basic { .. } => {
            webhooks.proved.note(peer);
        }
    }
    let verified = plain(verified.with_body(|bytes| permit.with(bytes)), webhooks)?;
    if webhooks.inbox.backlog.is_full() {
        return Err(Problem::new(ProblemKind::Unavailable, "the backlog is full; accepted events are worked on first"));
    }
    accept(webhooks.inbox.clone(), verified).await
}

/// Accepts in a task of its own: if the client goes away, the writer keeps the events that it has in hand, and the room of
/// their body until it is done.
async fn accept(inbox: Inbox, verified: Verified) -> Result<Answers, Problem> {
    match tokio::spawn(async move { inbox.accept(verified).await }).await {
        Ok(accepted) => accepted,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The worker is shutting down.
            Err(_) => Err(unavailable(&store::Error::Full)),
        },
    }
}

/// The delivery in plain text, whose room is taken in addition to that of the sent body. Only one body for each of actix's
/// workers is without room meanwhile.
fn plain(verified: Verified, webhooks: &Webhooks) -> Result<Verified, Problem> {
    let Some(plain) = text::plain(&verified, webhooks.body_bytes_max)? else { return Ok(verified) };
    let permit = webhooks.bodies.take(plain.body().len()).map_err(|BudgetExceeded| no_room())?;
    Ok(plain.with_body(|bytes| permit.with(bytes)))
}

fn no_room() -> Problem {
    Problem::new(ProblemKind::Unavailable, "more is being sent at once than there is room for")
}

/// The length that the sender announces. It may be wrong, so the bytes are counted as well.
pub(super) fn content_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) async fn read(
    mut payload: Payload,
    mut incoming: IncomingBody,
    bytes_max: usize,
) -> Result<(Vec<u8>, BodyPermit), Problem> {
    loop {
        let chunk = tokio::select! {
            biased;
            () = incoming.displaced() => return Err(no_room()),
            chunk = payload.next() => chunk,
        };
        let Some(chunk) = chunk else { return incoming.whole().map_err(|BudgetExceeded| no_room()) };
        let chunk = chunk.map_err(|error| {
            let (kind, detail) = if is_late(&error) {
                (ProblemKind::Timeout, "send the whole body at once, and not slower than 32 KiB a second")
            } else {
                (ProblemKind::Malformed, "the body ended early")
            };
            Problem::new(kind, detail)
        })?;
        if incoming.received() + chunk.len() > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        incoming.add(&chunk).map_err(|BudgetExceeded| no_room())?;
    }
}

/// The headers as texts, with names in lower case. A header that proves something (`proofs`) is refused when it is there twice.
/// An attribute of an event that is unreadable, or there twice, is refused: passed over, it would count as not given. So is any
/// other unreadable header for a source with a mapping (`is_mapped`), whose program may read it.
fn headers_of(request: &HttpRequest, proofs: &[&str], is_mapped: bool) -> Result<BTreeMap<String, String>, Problem> {
    let mut headers = BTreeMap::new();
    let wrong = |name: &str, why: &str| Problem::new(ProblemKind::Malformed, format!("the header `{name}` {why}"));
    if let Some(name) = proofs.iter().find(|name| request.headers().get_all(**name).count() > 1) {
        return Err(wrong(name, "is there twice; send it once"));
    }
    for (name, value) in request.headers() {
        let name = name.as_str();
        let is_attribute = name.starts_with(cloudevents::HTTP_PREFIX);
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => {
                let other = headers.insert(name.to_owned(), text.to_owned());
                let names_the_event = is_attribute || name == signature::IDEMPOTENCY_KEY;
                if names_the_event && other.is_some_and(|other| other != text) {
                    return Err(wrong(name, "is there twice, with two values"));
                }
            }
            Err(_) if is_attribute || is_mapped => {
                return Err(wrong(name, "is not UTF-8: percent-encode it (CloudEvents HTTP binding, 3.1.3.2)"));
            }
            Err(_) => {}
        }
    }
    Ok(headers)
}

fn accepted(answers: &Answers) -> HttpResponse {
    let shown = |answer: &Result<Receipt, Problem>| match answer {
        Ok(receipt) => receipt_json(receipt),
        Err(problem) => json!({"status": "rejected", "problem": details(problem)}),
    };
    let mut results = answers.items.iter().map(shown);
    HttpResponse::Accepted().json(match results.next() {
        Some(only) if !answers.is_batch => only,
        first => json!({ "results": first.into_iter().chain(results).collect::<Vec<_>>() }),
    })
}

fn receipt_json(receipt: &Receipt) -> Value {
    match receipt {
        Receipt::Accepted { id, state } => json!({"id": id, "status": "accepted", "state": state}),
        Receipt::Duplicate { id, state } => json!({"id": id, "status": "duplicate", "state": state}),
        Receipt::Reused { id } => json!({"id": id, "status": "rejected"}),
    }
}
