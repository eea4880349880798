//! The error that says why the broker cannot be used.
//!
//! Before: [`super::link`] meets it. After: the operator reads it.

/// The reason why the broker cannot be used as configured; the caller shows it to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BrokerError {
    /// The address, the object and the remedy; no credentials.
    pub why: String,
}

impl BrokerError {
    /// The error with this reason.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}
