//! Sets up logging once for the process. Knows no metric and no other part.
//!
//! **Secrets and personal data never reach the log.** This file cannot check that; two things elsewhere do.
//! Secrets are [`crate::config::Secret`], which prints `[redacted]`. Personal data (names, e-mail and postal
//! addresses, bodies) is logged by no call site: a log line carries ids only, in dotted fields such as
//! `event.id`, `customer.id`, `lane.seq` and `attempt`. So no value is filtered here, since a filter that
//! guesses what looks like a name is wrong in both directions.
//!
//! Before: [`crate::config`]. After: every place that logs.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Libraries that log what was sent: lapin prints returned notices with their bytes. Our own events tell of both.
const SILENCED: [&str; 1] = ["lapin"];

/// Its workers' coming and going is of no use to an operator, who may ask for it by naming it in `log.level`.
const CHATTY: &str = "actix_server=warn,";

/// Writes logs to standard error from now on: one line per event, times in UTC as RFC 3339, as text or as JSON
/// with the event's fields at the top level. `Auto` is text when standard error is a terminal.
///
/// A second call changes nothing: the first subscriber stays. Directives of the level that do not parse are left
/// out (a checked configuration has none).
pub fn init(log: &Log) {
    let is_terminal = std::io::stderr().is_terminal();
    let is_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    let chatty = if log.level.contains("actix_server") { "" } else { CHATTY };
    let filter = EnvFilter::builder().parse_lossy(format!("{chatty}{}", log.level));
    let filter = SILENCED.iter().fold(filter, |filter, target| {
        filter.add_directive(format!("{target}=off").parse().expect("a target and a level"))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = if is_json {
        // The list of all enclosing spans would repeat what the current one says already.
        registry.with(lines.json().flatten_event(true).with_span_list(false)).try_init()
    } else {
        registry.with(lines.with_ansi(is_terminal)).try_init()
    };
    if outcome.is_err() {
        tracing::debug!("logging was set up already; the first set-up stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_set_up_does_not_panic() {
        for format in [LogFormat::Auto, LogFormat::Json, LogFormat::Text] {
            init(&Log { format, level: "warn,podero_bridge=debug".to_owned() });
        }
    }
}
