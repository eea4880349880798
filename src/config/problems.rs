//! The problems of a configuration, all at once. Never shows the value of a secret.
//!
//! Before: nothing. After: [`crate::config`], and the commands, which print them before exit status 64.

/// One thing to correct: the place, the value that was found there, and the right values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}; {hint}")]
pub struct ConfigProblem {
    /// The key (`podero.timeout`), the environment variable, or the file that is meant.
    pub key: String,
    /// The present value; of a secret only that it is wrong.
    pub found: String,
    /// The allowed values, or the way to mend it.
    pub hint: String,
}

/// Every problem of a configuration: unknown keys first, then section by section. Never empty;
/// displays one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(Vec<ConfigProblem>);

impl Problems {
    /// Wraps the problems that a reading found.
    pub(super) fn new(found: Vec<ConfigProblem>) -> Self {
        assert!(!found.is_empty(), "a configuration is refused for a reason");
        Self(found)
    }

    /// The problems one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigProblem> {
        self.0.iter()
    }
}
