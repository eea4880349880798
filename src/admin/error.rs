//! The errors of the admin API: a problem, or a store that does not answer.
//!
//! Before: the handlers of [`crate::admin`] return them by `?`. After: [`crate::listener`] makes the answer.

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::{Error, HttpResponse, ResponseError, web};

use crate::listener::{is_late, respond_untitled};
use crate::problem::{Problem, ProblemKind};
use crate::store;

/// The answer of a route, or the problem that it answers instead.
pub(super) type ApiResult = Result<HttpResponse, ApiError>;

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.line())]
pub struct ApiError(Problem);

impl ApiError {
    /// The problem.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Problem::new(kind, detail))
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Malformed, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, detail)
    }
}

impl ResponseError for ApiError {
    fn error_response(&self) -> HttpResponse {
        respond_untitled(&self.0)
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "the store did not answer the admin API");
        Self::new(ProblemKind::Unavailable, "the store does not answer; try again")
    }
}

/// The whole body of a request.
pub(super) fn whole(body: Result<web::Bytes, Error>) -> Result<web::Bytes, ApiError> {
    body.map_err(|error| {
        if error.as_error::<PayloadError>().is_some_and(is_late) {
            return ApiError::new(ProblemKind::Timeout, "send the whole body at once");
        }
        match error.as_response_error().status_code() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(ProblemKind::TooLarge, "an order has a few dozen bytes"),
            _ => ApiError::malformed("the body ended early"),
        }
    })
}
