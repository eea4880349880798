//! `[log]`: log lines.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::telemetry`].

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::words::LogFormat;

section! {
    /// Log lines, on standard error.
    LOG = "log" {
        /// Format of log lines. `auto` is `text` on a terminal, else `json`.
        FORMAT: LogFormat = "format", rules::one_of(LogFormat::names(), LogFormat::from_name), default "auto";
        /// Level of log lines, or directives for single modules.
        LEVEL: String = "level", rules::log_level(), default "info";
    }
}

/// Section `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Look of a line.
    pub format: LogFormat,
    /// Level or directives that a `tracing` filter accepts.
    pub level: String,
}

pub(in crate::config) fn read(r: &mut Reader) -> Log {
    Log { format: r.value(&FORMAT), level: r.value(&LEVEL) }
}
