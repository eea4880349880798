//! The error of a command: it knows its message and the exit status that it ends with.
//!
//! Before: the commands of [`crate::cli`]. After: [`crate::cli::main`].

use std::fmt::Display;
use std::process::ExitCode;

use super::output::say_error;

/// Exit status of bad usage or a bad configuration (sysexits.h).
const EX_USAGE: u8 = 64;

/// Reason for which a command did not do what was asked.
pub(super) enum CliError {
    /// Arguments that clap refuses; also its help and version, which are a success.
    Arguments(clap::Error),
    /// Every problem of the configuration.
    Configuration(String),
    /// Arguments that do not fit the configuration or what is in the store.
    Usage(String),
    /// The command itself failed.
    Failed(anyhow::Error),
}

/// Anything else that goes wrong is a failure.
impl<E: Into<anyhow::Error>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl CliError {
    /// Problems of the configuration, a line each.
    pub(super) fn configuration(problems: impl Display) -> Self {
        Self::Configuration(problems.to_string())
    }

    /// Prints the message.
    pub(super) fn print(&self) {
        match self {
            Self::Arguments(error) => drop(error.print()),
            Self::Configuration(problems) => {
                say_error(&format!("podero-bridge: the configuration has problems:\n{problems}"));
            }
            Self::Usage(why) => say_error(&format!("podero-bridge: {why}")),
            Self::Failed(error) => say_error(&format!("podero-bridge: {error:#}")),
        }
    }

    /// Exit status that tells a script which kind it was.
    pub(super) fn status(&self) -> ExitCode {
        match self {
            Self::Arguments(error) if !error.use_stderr() => ExitCode::SUCCESS,
            Self::Arguments(_) | Self::Configuration(_) | Self::Usage(_) => ExitCode::from(EX_USAGE),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}
