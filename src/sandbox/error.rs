//! Refusals of the model, in the form of Django Ninja.
//!
//! Podero documents no general error body; its operation ids have the form that Django Ninja makes, so its
//! defaults are used: `{"detail": "..."}`, and 422 with a list for validation. All of it is undocumented. It must
//! never carry a value that the caller sent.
//!
//! Before: [`crate::sandbox::model`], [`crate::sandbox::routes`]. After: nothing.

use serde::Serialize;
use serde_json::{Value, json};

/// Result of a call to the sandbox.
pub type SandboxResult<T> = Result<T, SandboxError>;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// The body is not JSON: 400.
    #[error("the body is not JSON")]
    Unreadable,
    /// A question about a time for which there is no data: 400.
    #[error("no data")]
    NoData,
    /// No token, or one that is unknown or expired, or whose user is gone: 401.
    #[error("unauthorized")]
    Unauthorized,
    /// The actor's role does not allow it: 403.
    #[error("forbidden")]
    Forbidden,
    /// Unknown, deleted, of another user or another organisation: 404.
    #[error("not found")]
    NotFound,
    /// The path exists, not with this method: 405.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// Not in this state: 409. Control routes and the Connect page alone.
    #[error("not possible now: {0}")]
    Untimely(&'static str),
    /// Another user has it already.
    #[error("duplicate: {detail}")]
    Duplicate {
        /// The status, as switched: [`crate::sandbox::variants::Variants::duplicate_status`].
        status: u16,
        /// The taken value.
        detail: &'static str,
    },
    /// Not a valid request, with every problem at once: 422.
    #[error("invalid")]
    Invalid(Vec<FieldProblem>),
    /// A bound of the sandbox is reached: 507.
    #[error("the sandbox is full: {0}")]
    Full(&'static str),
}

/// One problem of an invalid request, in Django Ninja's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// pydantic's name of the kind of problem.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The place of the problem: `body`, `path` or `query`, then names.
    pub loc: Vec<String>,
    /// The problem in words.
    pub msg: String,
}

impl SandboxError {
    /// A refusal for one problem.
    pub fn invalid(kind: &'static str, loc: &[&str], msg: &str) -> Self {
        let loc = loc.iter().map(|part| (*part).to_owned()).collect();
        Self::Invalid(vec![FieldProblem { kind, loc, msg: msg.to_owned() }])
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unreadable | Self::NoData => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Untimely(_) => 409,
            Self::Duplicate { status, .. } => *status,
            Self::Invalid(_) => 422,
            Self::Full(_) => 507,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Value {
        match self {
            Self::Unreadable => json!({"detail": "Cannot parse request body"}),
            Self::NoData => json!({"detail": "No data available"}),
            Self::Unauthorized => json!({"detail": "Unauthorized"}),
            Self::Forbidden => json!({"detail": "Forbidden"}),
            Self::NotFound => json!({"detail": "Not Found"}),
            Self::MethodNotAllowed => json!({"detail": "Method Not Allowed"}),
            Self::Untimely(detail) | Self::Duplicate { detail, .. } | Self::Full(detail) => json!({"detail": detail}),
            Self::Invalid(problems) => json!({"detail": problems}),
        }
    }
}
