//! The webhook door: `POST /v1/events` and `POST /v1/events/{source}`.
//!
//! The only public door, and the only place where the door's problems become HTTP. Everything has a bound: the
//! body, the time it may take, the items of a batch, the connections. It answers 202 only for what the store has.
//!
//! Before: the sender. After: [`crate::inbound`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use futures_util::StreamExt;
use http_api_problem::HttpApiProblem;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::patience::Connection;
use super::problem::{Problem, ProblemKind};
use super::refusals::Refusals;
use super::signature::Verified;
use super::{Answer, Answers, Delivery, Inbox, cloudevents, signature, text};
use crate::config::{DEFAULT_SOURCE, Source};
use crate::metrics::Door;
use crate::store::{self, Receipt};

/// A body that takes longer than this holds a connection for nothing: at 1 MiB that is a line of 280 kbit/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of bodies in memory at once, of all connections together: a body must be whole before its signature can be
/// checked, so anybody may send some. It is used up by what has come, not by what is announced.
pub const BODIES_BYTES_MAX: usize = 32 << 20;

/// The budget is counted in these, so that a connection with nothing but the beginning of a body costs little.
const PAGE: usize = 4 << 10;

/// What is set aside at once for a body whose length is announced: whoever announces much and sends nothing must not
/// cost much.
const CAPACITY_MAX: usize = 16 << 10;

/// What a sender is asked to wait when the store is away: long enough for a restart, short enough to stay current.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Media type of problem details (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The door's own knowledge; shared by its workers.
pub struct Webhooks {
    /// The path behind the door.
    pub inbox: Inbox,
    /// `[[source]]`.
    pub sources: Vec<Source>,
    /// `http.body_max`, bytes.
    pub body_bytes_max: usize,
    /// [`BODY_TIME_MAX`], but for tests.
    pub body_time_max: Duration,
    /// What is left of [`BODIES_BYTES_MAX`].
    pub room: Room,
    /// Counts and tells what is refused.
    pub refusals: Refusals,
    /// OpenAPI of this door, as JSON.
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
        if problem.kind == ProblemKind::Unauthorized
            && let Some(challenge) = source.and_then(|source| signature::challenge(&source.verify))
        {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Room for bodies, shared by all connections.
pub struct Room {
    pages: Semaphore,
    pages_max: usize,
}

impl Room {
    /// For so many bytes; at least for a page.
    pub fn new(bytes_max: usize) -> Self {
        let pages_max = bytes_max.div_ceil(PAGE).max(1);
        Self { pages: Semaphore::new(pages_max), pages_max }
    }

    /// Room for so many bytes, or for all where they are more than all; `None`: there is none now.
    fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let pages = bytes.div_ceil(PAGE).min(self.pages_max);
        self.pages.try_acquire_many(u32::try_from(pages).unwrap_or(u32::MAX)).ok()
    }
}

/// A body and the room that it takes until it is dropped.
struct Body<'a> {
    bytes: Vec<u8>,
    pages: Option<SemaphorePermit<'a>>,
}

impl<'a> Body<'a> {
    /// Adds what has come; `false`: there is no room for it. One body that is larger than all the room has it alone.
    fn add(&mut self, chunk: &[u8], room: &'a Room) -> bool {
        let wanted = (self.bytes.len() + chunk.len()).div_ceil(PAGE).min(room.pages_max);
        let had = self.pages.as_ref().map_or(0, SemaphorePermit::num_permits);
        if wanted > had {
            let more = u32::try_from(wanted - had).unwrap_or(u32::MAX);
            let Ok(more) = room.pages.try_acquire_many(more) else { return false };
            match &mut self.pages {
                Some(pages) => pages.merge(more),
                None => self.pages = Some(more),
            }
        }
        self.bytes.extend_from_slice(chunk);
        true
    }
}

/// Tells a connection when a request of it begins and ends; see [`crate::inbound::patience`].
pub async fn note_request<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let connection = request.request().conn_data::<Arc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.begins();
    }
    let answer = next.call(request).await;
    if let Some(connection) = &connection {
        connection.ends();
    }
    answer
}

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, webhooks: Arc<Webhooks>) {
    config
        .app_data(web::Data::from(webhooks))
        .service(source("/v1/events", web::post().to(default_source)))
        .service(source("/v1/events/{source}", web::post().to(named)))
        .service(
            web::resource("/openapi.json")
                .route(web::get().to(openapi))
                .default_service(web::to(|| wrong_method("use GET", "GET"))),
        );
}

fn source(path: &str, post: Route) -> Resource {
    web::resource(path).route(post).route(web::method(Method::OPTIONS).to(handshake)).default_service(web::to(not_post))
}

async fn openapi(webhooks: web::Data<Webhooks>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(webhooks.openapi.clone())
}

/// What every path answers that is not mounted.
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

/// A sender asks whether it may deliver here ("HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, §4). It may, at any rate:
/// that it is who it says is proven by each delivery, and a bound that is reached is told by its status. The callback
/// address that it may name is not called: an answer is all it needs, and a stranger must not choose whom we call.
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

async fn default_source(request: HttpRequest, body: Payload, webhooks: web::Data<Webhooks>) -> HttpResponse {
    receive(&request, body, &webhooks, DEFAULT_SOURCE).await
}

async fn named(
    request: HttpRequest,
    body: Payload,
    name: web::Path<String>,
    webhooks: web::Data<Webhooks>,
) -> HttpResponse {
    receive(&request, body, &webhooks, &name).await
}

async fn receive(request: &HttpRequest, body: Payload, webhooks: &Webhooks, name: &str) -> HttpResponse {
    let Some(source) = webhooks.source(name) else { return webhooks.refuse(None, &unknown_source()) };
    match take(request, body, webhooks, source).await {
        Ok(Answers::One(Answer::Rejected(problem))) | Err(problem) => webhooks.refuse(Some(source), &problem),
        Ok(answers) => {
            let (rejected, is_whole) = rejected(&answers);
            let (told, untold) = match rejected.split_first() {
                // Its sender reads no body, and would take 202 for the whole. A repeat of the others is safe.
                Some((first, others)) if !source.tells_receipt => (Some(first), others),
                Some(_) | None => (None, &*rejected),
            };
            for problem in untold {
                webhooks.refusals.note(Some(&source.name), problem);
            }
            if let Some(problem) = told {
                return webhooks.refuse(Some(source), problem);
            }
            if !is_whole {
                webhooks.inbox.metrics.webhook_accepted(&source.name);
            }
            if source.tells_receipt { accepted(&answers) } else { HttpResponse::Accepted().finish() }
        }
    }
}

/// The refused events of a delivery, and whether they are all of it.
fn rejected(answers: &Answers) -> (Vec<&Problem>, bool) {
    let answers = match answers {
        Answers::One(answer) => std::slice::from_ref(answer),
        Answers::Batch(answers) => answers,
    };
    let rejected: Vec<&Problem> = answers.iter().filter_map(problem_of).collect();
    let is_whole = !answers.is_empty() && rejected.len() == answers.len();
    (rejected, is_whole)
}

fn problem_of(answer: &Answer) -> Option<&Problem> {
    match answer {
        Answer::Kept(_) => None,
        Answer::Rejected(problem) => Some(problem),
    }
}

async fn take(request: &HttpRequest, body: Payload, webhooks: &Webhooks, source: &Source) -> Result<Answers, Problem> {
    let bytes_max = webhooks.body_bytes_max;
    if content_length(request).is_some_and(|length| length > bytes_max) {
        return Err(Problem::too_large(bytes_max));
    }
    let late = || {
        let within = webhooks.body_time_max.as_secs();
        Problem::new(ProblemKind::Timeout, format!("send the whole body within {within} seconds"))
    };
    let headers = headers_of(request, webhooks.inbox.mapper.has(&source.name))?;
    // A stranger's body is not read where its headers tell already.
    signature::admit(&source.verify, &headers, webhooks.inbox.clock.now())?;
    let read = read(body, content_length(request).unwrap_or_default(), webhooks);
    let Body { bytes: body, pages: _pages } =
        tokio::time::timeout(webhooks.body_time_max, read).await.map_err(|_| late())??;
    let now = webhooks.inbox.clock.now();
    let delivery = Delivery {
        door: Door::Webhook,
        source: source.name.clone(),
        content_type: headers.get(CONTENT_TYPE.as_str()).cloned(),
        headers,
        body,
        received_at: now,
    };
    let verified = signature::verify(&source.verify, delivery, now)?;
    let (verified, _plain_pages) = plain(verified, webhooks)?;
    if webhooks.inbox.backlog.is_full() {
        return Err(Problem::new(ProblemKind::Unavailable, "the backlog is full; accepted events are worked on first"));
    }
    webhooks.inbox.accept(verified).await.unwrap_or_else(|error| {
        let detail = match error {
            store::Error::Full => "more is waiting to be written than may wait",
            store::Error::Away(_)
            | store::Error::Unreadable(_)
            | store::Error::Taken
            | store::Error::Damaged(_)
            | store::Error::OtherKey
            | store::Error::Unusable(_)
            | store::Error::Missing(_)
            | store::Error::Older { .. }
            | store::Error::Newer { .. } => "the store is away",
        };
        Err(Problem::new(ProblemKind::Unavailable, detail))
    })
}

/// The delivery in plain text, and the room that its body takes beside the one that was sent. Only one body for each of
/// actix's workers is without room meanwhile.
fn plain(verified: Verified, webhooks: &Webhooks) -> Result<(Verified, Option<SemaphorePermit<'_>>), Problem> {
    let Some(plain) = text::plain(&verified, webhooks.body_bytes_max)? else { return Ok((verified, None)) };
    let pages = webhooks.room.take(plain.body().len()).ok_or_else(no_room)?;
    Ok((plain, Some(pages)))
}

fn no_room() -> Problem {
    Problem::new(ProblemKind::Unavailable, "more is being sent at once than there is room for")
}

/// What the sender says; it may lie, so the bytes are counted as well.
fn content_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(mut payload: Payload, announced: usize, webhooks: &Webhooks) -> Result<Body<'_>, Problem> {
    let bytes_max = webhooks.body_bytes_max;
    let mut body = Body { bytes: Vec::with_capacity(announced.min(CAPACITY_MAX)), pages: None };
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::new(ProblemKind::Malformed, "the body ended early"))?;
        if body.bytes.len() + chunk.len() > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        if !body.add(&chunk, &webhooks.room) {
            return Err(no_room());
        }
    }
    Ok(body)
}

/// Headers as texts, names in lower case. An attribute of an event that cannot be read, or is there twice, is refused: what is
/// passed over would count as not said. So is any other for a source with a mapping (`is_mapped`), whose program may read it.
fn headers_of(request: &HttpRequest, is_mapped: bool) -> Result<BTreeMap<String, String>, Problem> {
    let mut headers = BTreeMap::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        let is_attribute = name.starts_with(cloudevents::HTTP_PREFIX);
        let wrong = |why: &str| Err(Problem::new(ProblemKind::Malformed, format!("the header `{name}` {why}")));
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => {
                let other = headers.insert(name.to_owned(), text.to_owned());
                if is_attribute && other.is_some_and(|other| other != text) {
                    return wrong("is there twice, with two values");
                }
            }
            Err(_) if is_attribute || is_mapped => {
                return wrong("is not UTF-8: percent-encode it (CloudEvents HTTP binding, 3.1.3.2)");
            }
            Err(_) => {}
        }
    }
    Ok(headers)
}

fn accepted(answers: &Answers) -> HttpResponse {
    match answers {
        Answers::One(Answer::Kept(receipt)) => HttpResponse::Accepted().json(receipt_json(receipt)),
        Answers::One(Answer::Rejected(problem)) => respond(problem),
        Answers::Batch(answers) => {
            let results: Vec<Value> = answers
                .iter()
                .map(|answer| match answer {
                    Answer::Kept(receipt) => receipt_json(receipt),
                    Answer::Rejected(problem) => json!({"status": "rejected", "problem": details(problem)}),
                })
                .collect();
            HttpResponse::Accepted().json(json!({ "results": results }))
        }
    }
}

fn receipt_json(receipt: &Receipt) -> Value {
    match receipt {
        Receipt::Accepted { id, state } => json!({"id": id, "status": "accepted", "state": state}),
        Receipt::Duplicate { id, state } => json!({"id": id, "status": "duplicate", "state": state}),
        Receipt::Reused { id } => json!({"id": id, "status": "rejected"}),
    }
}

fn details(problem: &Problem) -> HttpApiProblem {
    let mut details = HttpApiProblem::try_new(problem.kind.status())
        .unwrap_or_else(|_| HttpApiProblem::empty())
        .type_url(problem.type_uri())
        .title(problem.kind.title())
        .detail(problem.detail.clone());
    if !problem.errors.is_empty() {
        details.set_value("errors", &problem.errors);
    }
    details
}

/// A problem as an answer (RFC 9457).
pub fn respond(problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response.content_type(PROBLEM_JSON);
    if problem.kind == ProblemKind::Unavailable {
        response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS.to_string()));
    }
    if problem.kind == ProblemKind::UnsupportedContentEncoding {
        response.insert_header((ACCEPT_ENCODING, text::ACCEPTED_CODINGS));
    }
    response.body(details(problem).json_bytes())
}
