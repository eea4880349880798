//! Lines for the person at the terminal, on standard output and standard error.
//!
//! Before: the commands of [`crate::cli`]. After: a person, or a script.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::telemetry;

/// First failure of standard output. The command goes on with its work, and its exit status says at the end that some
/// output is missing.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Prints a line. A closed pipe is not an error.
pub(super) fn say(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error);
    }
}

/// Prints lines for a command that must not wait until they are read.
pub(super) fn say_apart(lines: Vec<String>) {
    // Without a thread they are not printed: the log says the same.
    let _ = std::thread::Builder::new().spawn(move || lines.iter().for_each(|line| say(line)));
}

/// Prints a line on standard error. A command with a log waits for nothing here.
pub(super) fn say_error(line: &str) {
    if !telemetry::tell(line) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Prints a value as JSON.
pub(super) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Fails if some output could not be written.
pub(super) fn check_written() -> anyhow::Result<()> {
    UNWRITTEN.get().map_or(Ok(()), |error| Err(anyhow::anyhow!("standard output: {error}")))
}
