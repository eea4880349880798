//! The error that says why the broker cannot be used.
//!
//! Before: [`super::link`] meets it. After: the operator reads it.

/// Why the broker cannot be used as configured; the caller shows it to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BrokerError {
    /// Names the address and the object, and what to do about it; no credentials.
    pub why: String,
}
