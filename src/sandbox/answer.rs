//! An answer over HTTP: the model's own, or the one that a fault makes of it.
//!
//! It must never look at the content of an answer.
//!
//! Before: [`crate::sandbox::routes`]. After: nothing.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use serde::Serialize;
use serde_json::json;

use super::error::SandboxError;

/// A status and a JSON body, or none.
#[derive(Debug, Clone)]
pub(super) struct SandboxAnswer {
    pub(super) status: u16,
    body: Option<Bytes>,
}

impl SandboxAnswer {
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("maps with text keys are always JSON");
        Self { status, body: Some(Bytes::from(body)) }
    }

    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::json(200, body)
    }

    pub(super) fn no_content() -> Self {
        Self { status: 204, body: None }
    }

    pub(super) fn refusal(refusal: &SandboxError) -> Self {
        Self::json(refusal.status(), &refusal.body())
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::build(code(self.status));
        match self.body {
            Some(body) => response.content_type("application/json").body(body),
            None => response.finish(),
        }
    }

    /// 200 with the first half of the body; of no body, nothing.
    pub(super) fn half(self) -> HttpResponse {
        let body = self.body.unwrap_or_default();
        HttpResponse::Ok().content_type("application/json").body(body.slice(..body.len() / 2))
    }

    /// The status, and the connection ends in the middle of the body; or at once, where there is none.
    pub(super) fn cut_short(self) -> HttpResponse {
        let body = self.body.unwrap_or_default();
        let half = body.slice(..body.len() / 2);
        CutShort { whole: body.len(), half: Some(half), is_flushed: false }.under(self.status)
    }
}

/// The answer of a status fault.
pub(super) fn refused(status: u16, retry_after: Option<String>) -> HttpResponse {
    let mut response = HttpResponse::build(code(status));
    if let Some(retry_after) = retry_after {
        response.insert_header((header::RETRY_AFTER, retry_after));
    }
    response.json(json!({"detail": code(status).canonical_reason().unwrap_or("Refused")}))
}

/// The page of a confused proxy in front of an API.
pub(super) fn garbage() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body("<!DOCTYPE html><html><head><title>Please wait</title></head><body>One moment.</body></html>")
}

/// No answer at all: the connection is closed before a byte of it is sent.
pub(super) fn cut() -> HttpResponse {
    // The body fails when it is first asked for. The server then gives the connection up while the head still lies in its write
    // buffer (actix-http writes the buffer only after polling the body), so the client sees a closed connection.
    CutShort { whole: 0, half: None, is_flushed: true }.under(200)
}

/// A body that fails after its first half. In between it waits once, so that the server writes what it has.
struct CutShort {
    whole: usize,
    half: Option<Bytes>,
    is_flushed: bool,
}

impl CutShort {
    fn under(self, status: u16) -> HttpResponse {
        let response = HttpResponse::build(code(status)).content_type("application/json").message_body(self);
        response.map_or_else(|error| error.error_response(), HttpResponse::map_into_boxed_body)
    }
}

impl MessageBody for CutShort {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        // At least one byte is promised and never sent: had the head gone out, the answer would still be incomplete.
        BodySize::Sized(u64::try_from(self.whole).unwrap_or(u64::MAX).max(1))
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(half) = self.half.take().filter(|half| !half.is_empty()) {
            return Poll::Ready(Some(Ok(half)));
        }
        if !self.is_flushed {
            self.is_flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionAborted.into())))
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("every status here is between 200 and 599")
}
