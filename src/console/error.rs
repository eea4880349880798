//! The errors of the console: a status, and what the reader is told. The guard makes the page of it.
//!
//! Before: the pages return them by `?`. After: the guard of [`crate::console`], which writes the page and a line of the log.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};

use super::words::{self, Text};
use crate::admin::ApiError;
use crate::store;

/// The answer of a page, or the error that is shown instead.
pub(super) type PageResult = Result<HttpResponse, PageError>;

/// A request that has no page.
#[derive(Debug, Clone, thiserror::Error)]
#[error("status {status}")]
pub(super) struct PageError {
    pub(super) status: StatusCode,
    /// The title of the page.
    pub(super) title: Text,
    /// More about it.
    pub(super) detail: Option<Detail>,
    /// The advice to the reader.
    pub(super) advice: Option<&'static Text>,
}

/// More about an error.
#[derive(Debug, Clone)]
pub(super) enum Detail {
    /// A text of the console, with the values of its places.
    Text(Text, Vec<String>),
    /// The words of the API.
    Api(String),
}

impl PageError {
    pub(super) fn new(status: StatusCode, title: Text) -> Self {
        Self { status, title, detail: None, advice: None }
    }

    pub(super) fn with(self, text: Text, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Self { detail: Some(Detail::Text(text, values)), ..self }
    }

    /// No page has this path, and nothing has this id.
    pub(super) fn unknown() -> Self {
        Self::of(StatusCode::NOT_FOUND)
    }

    /// The page of a status that any part of the server answered.
    pub(super) fn of(status: StatusCode) -> Self {
        let (title, advice) = match status.as_u16() {
            403 => (words::ERROR_ROLE, None),
            404 => (words::ERROR_UNKNOWN, Some(&words::ERROR_UNKNOWN_DETAIL)),
            405 => (words::ERROR_METHOD, Some(&words::ERROR_METHOD_DETAIL)),
            409 => (words::ERROR_CONFLICT, Some(&words::ERROR_CONFLICT_DETAIL)),
            422 => (words::ERROR_UNFIT, Some(&words::ERROR_BAD_DETAIL)),
            429 => (words::ERROR_TOO_MUCH, Some(&words::ERROR_TOO_MUCH_DETAIL)),
            503 => (words::ERROR_AWAY, Some(&words::ERROR_AWAY_DETAIL)),
            400..=499 => (words::ERROR_BAD, Some(&words::ERROR_BAD_DETAIL)),
            _ => (words::ERROR_OWN, Some(&words::ERROR_OWN_DETAIL)),
        };
        Self { advice, ..Self::new(status, title) }
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status)
    }
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self::from(&error)
    }
}

impl From<&ApiError> for PageError {
    fn from(error: &ApiError) -> Self {
        let problem = error.problem();
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { detail: Some(Detail::Api(problem.detail.clone())), ..Self::of(status) }
    }
}

impl From<store::Error> for PageError {
    fn from(error: store::Error) -> Self {
        Self::from(ApiError::from(error))
    }
}
