//! The trace of a refused webhook: a count, and a line in the log that names the fault and shows no value.
//!
//! The sender knows its answer, but its operator is seldom the bridge's. Strangers can cause refusals: the log has one line a
//! second of each source and problem, and counts the rest (`telemetry/limit.rs`).
//!
//! Before: [`crate::inbound::http`]. After: [`crate::metrics`], and the log.

use crate::metrics::Metrics;
use crate::problem::Problem;

/// Label of a refused webhook that names no configured source. No source can have this name.
pub const UNKNOWN_SOURCE: &str = "_unknown";

/// Limit of the pointers in a line.
const POINTERS_MAX: usize = 5;

/// Limit of a pointer's part in characters: the longest name of a field has fewer.
const PART_CHARS_MAX: usize = 40;

/// Limit of the digits of a number in a pointer: batches have at most 10,000 items, and a longer number may be a customer's.
const DIGITS_MAX: usize = 5;

/// Limit of the digits in a name: `data_base64` has two, and a name with more may be a customer's.
const NAME_DIGITS_MAX: usize = 2;

/// Counts and logs refused webhooks; shared by all workers of the listener.
pub struct Refusals {
    metrics: Metrics,
}

impl Refusals {
    /// A trace without refusals yet.
    pub fn new(metrics: Metrics) -> Self {
        metrics.expect_refusals(UNKNOWN_SOURCE);
        Self { metrics }
    }

    /// Counts a refusal and logs it. `source` is the name of a configured source; `None`: none was named.
    pub fn note(&self, source: Option<&str>, problem: &Problem) {
        let (name, status) = (source.unwrap_or(UNKNOWN_SOURCE), problem.kind.status());
        self.metrics.webhooks_refused.with_label_values(&[name, &status.to_string()]).inc();
        let (kind, pointers) = (problem.kind.name(), pointers(problem));
        let detail = &problem.detail;
        match source {
            Some(_) => {
                tracing::warn!(source = name, status, problem = kind, pointers, %detail, "a webhook was refused")
            }
            // Every stranger who reaches the port can cause it.
            None => {
                let class = "of no source";
                tracing::info!(class, source = name, status, problem = kind, pointers, %detail, "a webhook was refused");
            }
        }
    }
}

/// The places of the faults. Names of fields are shown; the sender has chosen the other parts of a pointer.
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
    use super::*;
    use crate::problem::{FieldError, ProblemKind};

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
            let problem = Problem::of_field(pointer, "wrong");
            assert_eq!(pointers(&problem), expected, "{pointer}");
        }
        let error = FieldError::new("/data/email", "wrong");
        let many = Problem::invalid(vec![error; POINTERS_MAX + 2]);
        assert!(pointers(&many).ends_with("/data/email and 2 more"), "{}", pointers(&many));
    }

    #[test]
    fn each_refusal_is_counted_also_without_a_line() {
        let metrics = Metrics::new();
        let refusals = Refusals::new(metrics.clone());
        for _ in 0..20 {
            refusals.note(Some("billing"), &Problem::new(ProblemKind::Unauthorized, "no"));
        }
        refusals.note(None, &Problem::new(ProblemKind::UnknownSource, "no"));
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
