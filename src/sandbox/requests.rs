//! The log of requests to the sandbox, for tests and people to read.
//!
//! It must never hold a body, a query or a token.
//!
//! Before: `routes` writes and reads it. After: nothing.

use serde::Serialize;

use super::endpoint::Endpoint;
use crate::domain::Timestamp;

/// Limit of the requests remembered, a few megabytes. A longer run is read part by part, by their numbers.
pub const REQUESTS_MAX: usize = 10_000;

/// One request to the API or the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedRequest {
    /// Its number, from 1 on, also where older ones were forgotten: a reader who asks in time misses none.
    pub number: usize,
    /// The endpoint; none for a path that the sandbox does not have.
    pub operation: Option<Endpoint>,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status of the answer; none where the connection was cut.
    pub status: Option<u16>,
    /// True if the sandbox did what was asked, whatever became of the answer.
    pub has_acted: bool,
    /// `Idempotency-Key` of the request; Podero documents none.
    pub idempotency_key: Option<String>,
    /// The time of its arrival.
    pub at: Timestamp,
    /// The fault that struck it.
    pub fault: Option<&'static str>,
}
