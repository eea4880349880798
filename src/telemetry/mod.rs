//! Sets up logging once for the process. Knows no other part.
//!
//! **Logging never waits.** A line goes into a bounded buffer, and one thread writes it to standard error
//! (`telemetry/outlet.rs`): a pipe that no process reads stops no work. Lines that repeat are limited to one a second of each
//! class (`telemetry/limit.rs`). Both count what they leave out ([`lines`]), and say so in the log.
//!
//! **Secrets and personal data never reach the log.** This file cannot check that; two things elsewhere do.
//! Secrets are [`crate::config::Secret`], which prints `[redacted]`. Personal data (names, e-mail and postal
//! addresses, bodies) is logged by no call site: a log line carries ids only, in dotted fields such as
//! `event.id`, `customer.id`, `lane.seq` and `attempt`. So no value is filtered here, since a filter that
//! guesses what looks like a name is wrong in both directions. A panic is the exception: its message may quote the value
//! it is about, so only a constant one is shown.
//!
//! Before: [`crate::config`]. After: every place that logs.

mod limit;
mod outlet;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::limit::Limit;
use self::outlet::{Blocked, Outlet};
use crate::clock::Clock;
use crate::config::{Log, LogFormat};

/// Libraries that are silenced, since they log what was sent or configured: lapin prints returned notices with their bytes, sqlx
/// an option of `store.url` that it does not know, with its value. Our own events report both.
const SILENCED: [&str; 2] = ["lapin", "sqlx_postgres::options"];

/// Directive that leaves out the start and end of each HTTP worker, which is of no use to an operator. `log.level` may name the
/// library, and then this is not added.
const CHATTY: &str = "actix_server=warn,";

/// The log of this process, once it is set up.
static LOG: OnceLock<Set> = OnceLock::new();

struct Set {
    outlet: Outlet,
    limit: Limit,
}

/// Lines that are not in the log, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines that found no room, or that could not be written.
    pub dropped: u64,
    /// Lines that repeated others of the same second.
    pub limited: u64,
    /// True if dropped lines are not reported yet: standard error takes fewer lines than come.
    pub is_short: bool,
    /// Lines that wait for standard error.
    pub blocked: Blocked,
}

/// Writes logs to standard error from now on: one line per event, times in UTC as RFC 3339, as text or as JSON
/// with the event's fields at the top level. `Auto` is text when standard error is a terminal.
///
/// A second call changes nothing: the first subscriber stays. Directives of the level that do not parse are left
/// out (a checked configuration has none).
///
/// # Errors
///
/// There is no thread or descriptor for it: nothing else of the process would work either.
pub fn init(log: &Log) -> std::io::Result<()> {
    let mut is_first = false;
    let set = LOG.get_or_init(|| {
        is_first = true;
        let clock = Clock::system();
        Set { outlet: Outlet::new(clock.clone()), limit: Limit::new(clock) }
    });
    if !is_first {
        tracing::debug!("logging was set up already; the first set-up stays");
        return Ok(());
    }
    set.outlet.start(outlet::standard_error()?, |untold| {
        if untold > 0 {
            tracing::warn!(lines = untold, "log lines were dropped: standard error took fewer than came");
        }
        set.limit.report(false);
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let is_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| set.outlet.clone());
    let registry = tracing_subscriber::registry().with(filter(log)).with(&set.limit);
    let outcome = if is_json {
        // The list of all enclosing spans would repeat what the current one says already.
        registry.with(lines.json().flatten_event(true).with_span_list(false)).try_init()
    } else {
        registry.with(lines.with_ansi(is_terminal)).try_init()
    };
    if outcome.is_err() {
        tracing::debug!("logging was set up by another part of the process, which stays");
    }
    Ok(())
}

/// Makes a line of the log of each panic from now on.
pub fn log_panics() {
    std::panic::set_hook(Box::new(note_panic));
}

fn filter(log: &Log) -> EnvFilter {
    let chatty = if log.level.contains("actix_server") { "" } else { CHATTY };
    let filter = EnvFilter::builder().parse_lossy(format!("{chatty}{}", log.level));
    SILENCED.iter().fold(filter, |filter, target| {
        filter.add_directive(format!("{target}=off").parse().expect("a target and a level"))
    })
}

/// Logs a panic. The library's own hook prints to standard error and waits for it. The message of a panic may quote a value
/// (a text that is cut in the middle of a character is quoted whole), so that only a constant one is shown.
fn note_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let says = panic.payload().downcast_ref::<&str>().copied().unwrap_or("a message that may quote a value");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, at, says, %backtrace, "a thread panicked");
    } else {
        tracing::error!(thread, at, says, "a thread panicked");
    }
}

/// Says whether there is a log.
pub fn is_set() -> bool {
    LOG.get().is_some()
}

/// Puts a line of the command itself behind the log's lines, so that the command does not wait. Returns whether there is a log.
pub fn tell(line: &str) -> bool {
    let Some(set) = LOG.get() else { return false };
    set.outlet.push(format!("{line}\n").as_bytes());
    true
}

/// Waits until every line is written, for at most `within`: the end of a process does not wait for a blocked log.
pub fn flush(within: Duration) {
    let Some(set) = LOG.get() else { return };
    set.limit.report(true);
    set.outlet.flush(within);
}

/// Lines that are not in the log.
pub fn lines() -> Lines {
    let Some(set) = LOG.get() else { return Lines::default() };
    let (dropped, is_short) = set.outlet.dropped();
    Lines { dropped, limited: set.limit.left_out(), is_short, blocked: set.outlet.blocked() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set in the process that the test starts.
    const CHILD: &str = "PODERO_BRIDGE_TEST_PANICS";

    #[test]
    fn a_panic_is_a_line_of_the_log_that_quotes_no_value() {
        if std::env::var_os(CHILD).is_some() {
            init(&Log { format: LogFormat::Json, level: "info".to_owned() }).expect("a thread");
            log_panics();
            let panicked = |panic: fn()| std::thread::spawn(panic).join().expect_err("it panics");
            panicked(|| panic!("a constant"));
            panicked(|| panic!("of {}", std::hint::black_box("Anna")));
            return flush(Duration::from_secs(20));
        }
        let name = "telemetry::tests::a_panic_is_a_line_of_the_log_that_quotes_no_value";
        let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().expect("it runs");
        let log = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("a thread panicked")).collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains(r#""says":"a constant""#) && lines[0].contains("src/telemetry/mod.rs:"), "{log}");
        assert!(lines[1].contains("may quote a value") && !log.contains("Anna"), "{log}");
    }

    #[test]
    fn a_second_set_up_does_not_panic() {
        for format in [LogFormat::Auto, LogFormat::Json, LogFormat::Text] {
            init(&Log { format, level: "warn,podero_bridge=debug".to_owned() }).expect("a thread");
        }
    }
}
