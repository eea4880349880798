//! A refusal of a request, in the form of SCIM (RFC 7644 §3.12). It never repeats a sent value.
//!
//! Before: every file of [`super`]. After: [`crate::inbound`] answers it.

use serde_json::{Value, json};

use super::super::names::names;

names! {
    /// The kind of an error of status 400 or 409.
    pub enum ScimType {
        InvalidFilter = "invalidFilter",
        InvalidPath = "invalidPath",
        InvalidSyntax = "invalidSyntax",
        InvalidValue = "invalidValue",
        Mutability = "mutability",
        NoTarget = "noTarget",
        Uniqueness = "uniqueness",
    }
}

/// A refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScimError {
    /// The HTTP status.
    pub status: u16,
    /// Its kind, where SCIM has one.
    pub kind: Option<ScimType>,
    /// The fault, and the form wanted.
    pub detail: String,
}

impl ScimError {
    /// A refusal without a kind.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, kind: None, detail: detail.into() }
    }

    /// A request that is wrong in this way.
    pub fn wrong(kind: ScimType, detail: impl Into<String>) -> Self {
        let status = if kind == ScimType::Uniqueness { 409 } else { 400 };
        Self { status, kind: Some(kind), detail: detail.into() }
    }

    /// A value of an attribute that is not allowed.
    pub(super) fn value(attribute: &str, wanted: &str) -> Self {
        Self::wrong(ScimType::InvalidValue, format!("`{attribute}` {wanted}"))
    }

    /// Its body.
    pub fn json(&self) -> Value {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.status.to_string(),
            "detail": self.detail,
        });
        if let Some(kind) = self.kind {
            body["scimType"] = json!(kind.name());
        }
        body
    }
}
