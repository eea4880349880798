//! The handling of every request that both HTTP listeners share: watched connections, timed bodies, answered problems.
//!
//! The webhook endpoint is open to strangers and the admin API to a monitoring network; the same code bounds slow and greedy
//! clients at both.
//!
//! Before: [`crate::app`] wraps [`note_request`] around the routes of both. After: [`crate::inbound::http`],
//! [`crate::admin`].

pub mod connections;
pub mod peers;

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_api_problem::HttpApiProblem;

use crate::problem::{Problem, ProblemKind};
use connections::{ClientConnection, Demand};
use peers::{FORWARDED_FOR, Peer};

/// Paths that answer without the store and the partner, so that a probe finds out whether the process lives.
const LIGHT_PATHS: [&str; 2] = ["/livez", "/metrics"];

/// Value of `Retry-After` when the store is away: long enough for a restart, short enough to stay current.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Media type of problem details (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Middleware that notes when a request on a connection begins, is whole, and ends (see [`connections`]), bounds the time of
/// the request's body, and notes which peer sent it.
pub async fn note_request<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let Some(connection) = request.request().conn_data::<Arc<ClientConnection>>().cloned() else {
        return Ok(next.call(request).await?.map_into_left_body());
    };
    let payload = request.take_payload();
    let owes_body = !matches!(payload, Payload::None);
    let begun = {
        let forwarded: Vec<&[u8]> = request.headers().get_all(FORWARDED_FOR).map(HeaderValue::as_bytes).collect();
        let demand = match owes_body {
            true => Demand::Body,
            false if LIGHT_PATHS.contains(&request.path()) => Demand::Light,
            false => Demand::Work,
        };
        connection.begin(forwarded.into_iter(), demand)
    };
    let Some(peer) = begun else {
        let problem = Problem::new(ProblemKind::Unavailable, "this address has as many requests under way as it may");
        let (class, status, detail) = (connection.listener().name(), problem.kind.status(), &problem.detail);
        // Every client that reaches the port can cause it.
        tracing::info!(class, status, problem = problem.kind.name(), %detail, "a request was refused");
        return Ok(request.into_response(respond(&problem)).map_into_right_body());
    };
    request.extensions_mut().insert(peer);
    if owes_body {
        request.set_payload(Payload::Stream { payload: Box::pin(timed(payload, connection.clone())) });
    }
    let answer = next.call(request).await;
    let is_stream = answer.as_ref().is_ok_and(|answer| answer.response().body().size() == BodySize::Stream);
    if !is_stream {
        connection.end();
    }
    let mut answer = answer?;
    if connection.note_answer(peer, answer.status().is_client_error()) {
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    if is_stream {
        let streamed = |body| EitherBody::right(BoxBody::new(StreamedBody { body: Box::pin(body), connection }));
        return Ok(answer.map_body(|_, body| streamed(body)));
    }
    Ok(answer.map_into_left_body())
}

/// The body of an answer that is made while it is sent. Its request is under way until the body's end; the one that makes it bounds
/// the time of a client that does not read.
struct StreamedBody<B> {
    body: Pin<Box<B>>,
    connection: Arc<ClientConnection>,
}

impl<B: MessageBody> MessageBody for StreamedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_mut().poll_next(context)
    }
}

impl<B> Drop for StreamedBody<B> {
    fn drop(&mut self) {
        self.connection.end();
    }
}

/// A body that ends with [`std::io::ErrorKind::TimedOut`] when it takes longer than it may.
fn timed(payload: Payload, connection: Arc<ClientConnection>) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let began = tokio::time::Instant::now();
    stream::unfold(Some((payload, 0)), move |coming| {
        let connection = connection.clone();
        async move {
            let (mut payload, received) = coming?;
            let until = began + connection.body_time(received);
            match tokio::time::timeout_at(until, payload.next()).await {
                Ok(Some(Ok(chunk))) => {
                    let received = received + chunk.len();
                    Some((Ok(chunk), Some((payload, received))))
                }
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => {
                    connection.work();
                    None
                }
                Err(_) => Some((Err(PayloadError::Io(std::io::ErrorKind::TimedOut.into())), None)),
            }
        }
    })
}

/// `true` if a body ended because it took longer than it may.
pub fn is_late(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// The peer that a request comes from.
pub fn peer_of(request: &HttpRequest) -> Peer {
    let noted = request.extensions().get::<Peer>().copied();
    // All requests without a known connection are of one peer.
    noted.unwrap_or_else(|| Peer::of(request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())))
}

/// The body of an answer: RFC 9457 problem details.
pub fn details(problem: &Problem) -> HttpApiProblem {
    let mut details = HttpApiProblem::try_new(problem.kind.status())
        .unwrap_or_else(|_| HttpApiProblem::empty())
        .type_url(problem.kind.type_uri())
        .title(problem.kind.title())
        .detail(problem.detail.clone());
    if !problem.errors.is_empty() {
        details.set_value("errors", &problem.errors);
    }
    details
}

/// A problem as an answer (RFC 9457).
pub fn respond(problem: &Problem) -> HttpResponse {
    answer(problem.kind, &details(problem))
}

/// An answer without the title of its kind: the admin API's problems have none.
pub fn respond_untitled(problem: &Problem) -> HttpResponse {
    let mut untitled = details(problem);
    untitled.title = None;
    answer(problem.kind, &untitled)
}

fn answer(kind: ProblemKind, details: &HttpApiProblem) -> HttpResponse {
    let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response.content_type(PROBLEM_JSON);
    if kind == ProblemKind::Unavailable {
        response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS.to_string()));
    }
    response.body(details.json_bytes())
}
