//! Progress of an import on standard error: a bar on a terminal, otherwise a plain line now and then. Both show the same.
//!
//! Before: [`super`]. After: standard error.

use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount, HumanDuration, ProgressStyle};

use crate::cli::output::say_error;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::inbound::lines::Position;

/// Interval of the plain lines: often enough to show that the import is alive, and too seldom to fill a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Interval of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Shows progress.
pub(super) struct ProgressBar {
    bar: Option<indicatif::ProgressBar>,
    clock: Clock,
    began_at: Timestamp,
    shown_at: Timestamp,
    began: Position,
    /// `None`: the length of the input is unknown.
    bytes_all: Option<u64>,
}

impl ProgressBar {
    /// Begins at this position; `is_terminal` is about standard error.
    pub(super) fn new(clock: Clock, began: Position, bytes_all: Option<u64>, is_terminal: bool) -> Self {
        let bar = is_terminal.then(|| {
            let bar = bytes_all.map_or_else(indicatif::ProgressBar::no_length, indicatif::ProgressBar::new);
            let template = if bytes_all.is_some() { "[{wide_bar}] {msg}" } else { "{spinner} {msg}" };
            ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style))
        });
        let now = clock.now();
        Self { bar, clock, began_at: now, shown_at: now, began, bytes_all }
    }

    /// Shows the position, unless it was shown a moment ago.
    pub(super) fn show(&mut self, place: Position) {
        let now = self.clock.now();
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if now.since(self.shown_at) < every {
            return;
        }
        self.shown_at = now;
        let facts = facts(self.began, place, self.bytes_all, now.since(self.began_at));
        match &self.bar {
            Some(bar) => {
                bar.set_message(facts);
                bar.set_position(place.offset);
            }
            None => say_error(&facts),
        }
    }

    /// Prints a message above the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say_error(text)),
            None => say_error(text),
        }
    }

    /// Removes the bar; returns the duration.
    pub(super) fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.clock.now().since(self.began_at)
    }
}

/// Rate and remaining time of this run alone: an earlier run may have been yesterday.
fn facts(began: Position, place: Position, bytes_all: Option<u64>, took: Duration) -> String {
    let (bytes, lines) = (place.offset - began.offset, place.line - began.line);
    let (seconds, all_lines) = (took.as_secs_f64().max(0.001), HumanCount(place.line - 1));
    let rate = HumanCount(rounded(lines as f64 / seconds));
    let Some(all) = bytes_all.filter(|all| *all > 0) else {
        return format!("{}, {all_lines} lines, {rate} lines/s", BinaryBytes(place.offset));
    };
    let percent = place.offset.saturating_mul(100) / all;
    let left = all.saturating_sub(place.offset) as f64 * seconds / bytes.max(1) as f64;
    let left = HumanDuration(Duration::from_secs(rounded(left)));
    format!("{percent} % of {}, {all_lines} lines, {rate} lines/s, {left} left", BinaryBytes(all))
}

/// Rounds to a whole number.
fn rounded(value: f64) -> u64 {
    // A cast of a float stops at the bounds of the type.
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_remaining_time_are_of_this_run() {
        let (began, place) = (Position { offset: 1_000, line: 11 }, Position { offset: 3_000, line: 31 });
        let ten = Duration::from_secs(10);
        assert_eq!(facts(began, place, Some(12_000), ten), "25 % of 11.72 KiB, 30 lines, 2 lines/s, 45 seconds left");
        assert_eq!(facts(began, place, None, ten), "2.93 KiB, 30 lines, 2 lines/s");
        assert!(facts(began, began, Some(12_000), Duration::ZERO).starts_with("8 % of"), "nothing is divided by zero");
    }
}
