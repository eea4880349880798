//! The trace of a refused webhook: a count, and a line in the log that says what was wrong and shows no value.
//!
//! The sender knows what it was told, but its operator is seldom the one who runs the bridge. Strangers can cause refusals,
//! so the lines are bounded.
//!
//! Before: [`crate::inbound::http`]. After: [`crate::metrics`], and the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::problem::Problem;
use crate::domain::Timestamp;
use crate::metrics::Metrics;

/// Label of a refused webhook that names no configured source. No source can have this name.
pub const UNKNOWN_SOURCE: &str = "_unknown";

/// Limit of the lines per source and minute. Some of them show the cause; a sender that repeats a whole night's work must
/// not fill the disk with them.
pub const LINES_PER_MINUTE: u32 = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// Limit of the pointers in a line.
const POINTERS_MAX: usize = 5;

/// Limit of a pointer's part in characters: the longest name of a field has fewer.
const PART_CHARS_MAX: usize = 40;

/// Limit of a number in a pointer in digits: batches have at most 10,000 items, and what is longer may be a customer's.
const DIGITS_MAX: usize = 5;

/// Limit of the digits in a name: `data_base64` has two, and what has more may be a customer's.
const NAME_DIGITS_MAX: usize = 2;

/// Counts and tells refused webhooks; shared by all workers of the listener.
pub struct Refusals {
    metrics: Metrics,
    /// By source: as many as are configured, and one for all others.
    minutes: Mutex<BTreeMap<String, Minute>>,
}

/// The lines of one source in a minute.
struct Minute {
    began: Timestamp,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    /// Nothing was refused yet.
    pub fn new(metrics: Metrics) -> Self {
        metrics.expect_refusals(UNKNOWN_SOURCE);
        Self { metrics, minutes: Mutex::default() }
    }

    /// Counts a refusal and tells it in the log, unless this minute has enough lines of the source. `source` is the name of
    /// a configured source; `None`: none was named.
    pub fn note(&self, source: Option<&str>, problem: &Problem, now: Timestamp) {
        let (name, status) = (source.unwrap_or(UNKNOWN_SOURCE), problem.kind.status());
        self.metrics.webhook_refused(name, status);
        let Some(left_out) = self.admit(name, now) else { return };
        let (kind, pointers) = (problem.kind.slug(), pointers(problem));
        let detail = &problem.detail;
        match source {
            Some(_) => {
                tracing::warn!(source = name, status, problem = kind, pointers, %detail, left_out, "a webhook was refused");
            }
            // Every stranger who reaches the port can cause it.
            None => {
                tracing::info!(source = name, status, problem = kind, pointers, %detail, left_out, "a webhook was refused");
            }
        }
    }

    /// Whether there may be another line; with it the number of refusals before it that had none.
    fn admit(&self, source: &str, now: Timestamp) -> Option<u64> {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Minute { began: now, lines: 0, left_out: 0 };
        let minute = minutes.entry(source.to_owned()).or_insert(fresh);
        if now.since(minute.began) >= MINUTE || now < minute.began {
            (minute.began, minute.lines) = (now, 0);
        }
        if minute.lines == LINES_PER_MINUTE {
            minute.left_out += 1;
            return None;
        }
        minute.lines += 1;
        Some(std::mem::take(&mut minute.left_out))
    }
}

/// Where something is wrong. Names of fields are shown; what else a pointer may have in it the sender has chosen.
fn pointers(problem: &Problem) -> String {
    let shown = |pointer: &str| pointer.split('/').map(part).collect::<Vec<_>>().join("/");
    let first = problem.errors.iter().take(POINTERS_MAX).map(|error| shown(&error.pointer));
    let mut shown: Vec<String> = first.collect();
    if problem.errors.len() > POINTERS_MAX {
        shown.push(format!("and {} more", problem.errors.len() - POINTERS_MAX));
    }
    shown.join(" ")
}

fn part(part: &str) -> &str {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let is_plain =
        part.len() <= PART_CHARS_MAX && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_index = digits == part.len() && digits <= DIGITS_MAX;
    if is_plain && (digits <= NAME_DIGITS_MAX || is_index) { part } else { "…" }
}

#[cfg(test)]
mod tests {
    use super::super::problem::{FieldError, ProblemKind};
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_minute_has_so_many_lines_of_a_source_and_the_next_one_counts_the_rest() {
        let refusals = Refusals::new(Metrics::new());
        let lines = |source: &str, second: i64, count: u32| {
            (0..count).filter_map(|_| refusals.admit(source, at(second))).collect::<Vec<_>>()
        };
        assert_eq!(lines("billing", 100, 3), [0; 3]);
        assert_eq!(lines("billing", 159, 9), [0; 7], "of the same minute");
        assert_eq!(lines("crm", 159, 1), [0], "another source has lines of its own");
        assert_eq!(lines("billing", 160, 2), [2, 0], "two had none");
        assert_eq!(lines("billing", 150, 1), [0], "a clock that was set back begins another minute");
    }

    #[test]
    fn a_pointer_shows_names_of_fields_and_nothing_that_the_sender_chose() {
        for (pointer, expected) in [
            ("/data/address/zip_code", "/data/address/zip_code"),
            ("/3/data/email", "/3/data/email"),
            ("/9999/data_base64", "/9999/data_base64"),
            ("/data/building/property_size_m2", "/data/building/property_size_m2"),
            ("/data/C4711/x", "/data/…/x"),
            ("", ""),
            ("/data/anna@example.com", "/data/…"),
            ("/data/C-4711/x", "/data/…/x"),
            ("/data/123456", "/data/…"),
            ("/data/Müller", "/data/…"),
            ("/data/a b\nc", "/data/…"),
        ] {
            let problem =
                Problem::invalid(vec![FieldError { pointer: pointer.to_owned(), reason: "wrong".to_owned() }]);
            assert_eq!(pointers(&problem), expected, "{pointer}");
        }
        let error = FieldError { pointer: "/data/email".to_owned(), reason: "wrong".to_owned() };
        let many = Problem::invalid(vec![error; POINTERS_MAX + 2]);
        assert!(pointers(&many).ends_with("/data/email and 2 more"), "{}", pointers(&many));
    }

    #[test]
    fn each_refusal_is_counted_also_without_a_line() {
        let metrics = Metrics::new();
        let refusals = Refusals::new(metrics.clone());
        for _ in 0..20 {
            refusals.note(Some("billing"), &Problem::new(ProblemKind::Unauthorized, "no"), at(100));
        }
        refusals.note(None, &Problem::new(ProblemKind::UnknownSource, "no"), at(100));
        let text = metrics.encode();
        for line in [
            r#"podero_bridge_webhooks_refused_total{source="billing",status="401"} 20"#,
            r#"podero_bridge_webhooks_refused_total{source="_unknown",status="404"} 1"#,
            r#"podero_bridge_webhooks_refused_total{source="_unknown",status="405"} 0"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
