//! Moments as Podero writes them. Pure.
//!
//! Before: a value of an answer. After: [`super::fields`], [`super::drift`].

use serde_json::Value;

use crate::domain::Timestamp;
use crate::domain::date::{self, Fault};

/// A moment as an answer writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadMoment {
    /// No moment, or one that never was: the year 1 is Podero's way to say so.
    Never,
    /// A moment that cannot be meant, or a value that cannot be read as one.
    Implausible,
    /// A moment, which may lie in the future.
    At(Timestamp),
}

/// Reads a moment with `Z`, an offset or neither (UTC).
pub(super) fn told(value: &Value) -> ReadMoment {
    let text = match value {
        Value::Null => return ReadMoment::Never,
        Value::String(text) if text.is_empty() || text.starts_with(YEAR_ONE) => return ReadMoment::Never,
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return ReadMoment::Implausible,
    };
    match read_moment(text) {
        Ok(at) => ReadMoment::At(at),
        // It says no more about freshness than any other moment ahead.
        Err(Fault::TooLate) => ReadMoment::At(date::LATEST),
        Err(_) => ReadMoment::Implausible,
    }
}

/// Reads a moment; a date alone is its midnight in UTC.
fn read_moment(text: &str) -> Result<Timestamp, Fault> {
    match date::read_exact(text) {
        Err(Fault::NoOffset) => date::read_exact(&format!("{text}Z")),
        read => read,
    }
}

const YEAR_ONE: &str = "0001-";

pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    match told(value) {
        ReadMoment::At(at) => Some(at),
        ReadMoment::Never | ReadMoment::Implausible => None,
    }
}

/// `true` if a mark such as `deleted_at` is set: any value but nothing, "never", "no", and a moment that cannot be meant.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::String(text) => !text.is_empty() && !matches!(read_moment(text), Err(Fault::TooEarly | Fault::TooLate)),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    }
}
