//! Reasons for which lines were rejected, counted for the summary: the problem and its first line, never a value, since
//! bystanders and logs see a terminal. The file of rejected lines has every detail.
//!
//! Before: [`super`]. After: standard output.

use crate::problem::Problem;

/// Limit of the kinds that are counted: each line of a file may be wrong in its own way.
const KINDS_MAX: usize = 64;

/// Limit of the kinds that are printed, the most frequent first. More would hide the summary.
const PRINTED_MAX: usize = 8;

/// Limit of the characters of a kind: a mapping may make many events of a line, each with its problems.
const CHARS_MAX: usize = 300;

/// A problem, and the lines that have it.
struct RejectionKind {
    what: String,
    lines: u64,
    first_line: u64,
}

/// Problems of the rejected lines of this run.
#[derive(Default)]
pub(super) struct Reasons {
    kinds: Vec<RejectionKind>,
    /// Lines beyond [`KINDS_MAX`].
    others: u64,
}

impl Reasons {
    /// Counts a line.
    pub(super) fn add(&mut self, line: u64, problems: &[Problem]) {
        let what = problems.iter().map(Problem::line).collect::<Vec<_>>().join("; ");
        let what: String = what.chars().take(CHARS_MAX).collect();
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.what == what) {
            kind.lines += 1;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.push(RejectionKind { what, lines: 1, first_line: line });
        } else {
            self.others += 1;
        }
    }

    /// The most frequent first, then in the order of the file.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut kinds: Vec<&RejectionKind> = self.kinds.iter().collect();
        kinds.sort_by_key(|kind| (std::cmp::Reverse(kind.lines), kind.first_line));
        let told = kinds.iter().take(PRINTED_MAX).map(|kind| match kind.lines {
            1 => format!("rejected line {}: {}", kind.first_line, kind.what),
            lines => format!("rejected {lines} lines, the first is {}: {}", kind.first_line, kind.what),
        });
        let untold: u64 = kinds.iter().skip(PRINTED_MAX).map(|kind| kind.lines).sum::<u64>() + self.others;
        let rest = (untold > 0).then(|| format!("rejected {untold} lines for other reasons"));
        told.chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    #[test]
    fn the_commonest_reasons_are_told_first_and_the_rest_is_counted() {
        let mut reasons = Reasons::default();
        assert!(reasons.lines().is_empty());
        let problem = |what: &str| [Problem::new(ProblemKind::Malformed, what)];
        reasons.add(2, &problem("a"));
        reasons.add(3, &problem("b"));
        reasons.add(4, &problem("b"));
        assert_eq!(
            reasons.lines(),
            ["rejected 2 lines, the first is 3: malformed: b", "rejected line 2: malformed: a"]
        );
        for line in 5..205 {
            reasons.add(line, &problem(&format!("{line} {}", "x".repeat(1_000))));
        }
        let lines = reasons.lines();
        assert_eq!(lines.len(), PRINTED_MAX + 1);
        assert_eq!(lines[PRINTED_MAX], format!("rejected {} lines for other reasons", 203 - 3 - (PRINTED_MAX - 2)));
        assert!(lines.iter().all(|line| line.len() < CHARS_MAX + 100));
    }
}
