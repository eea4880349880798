//! A text that must not be shown: it has no `Serialize`, and `Debug` and `Display` hide it.
//!
//! Before: nothing. After: [`crate::config`], and whoever authenticates with one.

use std::fmt;

/// A password, token, key, or a URL that contains one. Prints as `[redacted]`.
///
/// It has no `PartialEq`: comparing what a caller presented with a secret is the job of a comparison in
/// constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
