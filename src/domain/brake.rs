//! The brake on mass churn: the number of customers that may be removed within a window before a person must approve.
//!
//! Pure numbers: [`Brake::limit`] gives the limit, [`Brake::admits`] says whether one more may go. A store counts under one lock
//! and asks here, so that several replicas together admit no more than one would. An admitted churn stays admitted; each further
//! one is parked and waits for an approval.
//!
//! Before: [`crate::domain::plan`] decides when to ask. After: [`crate::store`] counts and makes the answer durable.

use std::fmt;
use std::time::Duration;

/// A whole, in millionths.
const WHOLE: u64 = 1_000_000;

/// Tolerance for a moment that another replica wrote down, or this one before its clock was set back: up to here it is believed.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The operator's choice (`churn.brake_*`). With neither of the two limits there is no brake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// Limit as a number of customers.
    pub count: Option<u64>,
    /// Limit as a share of the active customers.
    pub share: Option<Share>,
    /// The time in which they are counted.
    pub window: Duration,
}

/// A share of a whole. Kept in millionths, so that no limit depends on how a fraction is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// The share for a number from 0 to 1, to the nearest millionth; one above 0 stays above 0.
    pub fn of(part: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a million is exact")]
        let whole = WHOLE as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the clamp")]
        let millionths = (part.clamp(0.0, 1.0) * whole).round() as u64;
        Self(if part > 0.0 { millionths.max(1) } else { 0 })
    }

    /// The whole number of things that are no more than this share of `all`.
    fn within(self, all: u64) -> u64 {
        let part = u128::from(all) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 { write!(f, "{whole} %") } else { write!(f, "{whole}.{rest:04} %") }
    }
}

/// The state of a churn's clearance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clearance {
    /// The brake was not asked, or refused: it is asked before anything is taken away.
    #[default]
    Unasked,
    /// The brake admitted it and counts it. Holds until the churn has ended or is parked.
    Admitted,
    /// A person approved it. The brake does not count it. Holds until the churn has ended or is parked.
    Approved,
}

impl Clearance {
    /// The stored form; `None` for a churn that was not cleared.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unasked => None,
            Self::Admitted => Some("admitted"),
            Self::Approved => Some("approved"),
        }
    }

    /// Reads the stored form. A name that this version does not know clears nothing.
    pub fn from_name(name: Option<&str>) -> Self {
        [Self::Admitted, Self::Approved].into_iter().find(|known| known.name() == name).unwrap_or_default()
    }
}

/// The numbers of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Churns admitted within the window, without the approved ones.
    pub admitted: u64,
    /// Customers who are active now; `None` if unknown.
    pub active: Option<u64>,
}

impl Brake {
    /// The most that may be admitted within a window: the larger of the two limits. A share of an unknown number is none,
    /// so that the count alone decides then.
    pub fn limit(&self, active: Option<u64>) -> u64 {
        let of_share = self.share.zip(active).map_or(0, |(share, active)| share.within(active));
        self.count.unwrap_or(0).max(of_share)
    }

    /// True if one more churn is admitted.
    pub fn admits(&self, tally: Tally) -> bool {
        tally.admitted < self.limit(tally.active)
    }

    /// The reason for which the next one is not: for the timeline and the log.
    pub fn refusal(&self, tally: Tally) -> String {
        let count = self.count.map(|count| format!("churn.brake_count {count}"));
        let share = self.share.map(|share| match tally.active {
            Some(active) => format!("churn.brake_share {share} of {active} active customers"),
            None => format!("churn.brake_share {share} of an unknown number of active customers"),
        });
        let limits: Vec<String> = count.into_iter().chain(share).collect();
        format!(
            "{} customers were removed within {}, and the limit is {} ({}); see who they are, then approve or skip",
            tally.admitted,
            Span(self.window),
            self.limit(tally.active),
            limits.join(", ")
        )
    }
}

/// A duration as it is written in the configuration.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % 3_600, seconds % 60) {
            (0, _) if seconds > 0 => write!(f, "{}h", seconds / 3_600),
            (_, 0) if seconds > 0 => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn brake(count: Option<u64>, share: Option<f64>) -> Brake {
        Brake { count, share: share.map(Share::of), window: HOUR }
    }

    #[test]
    fn the_limit_is_the_larger_of_the_count_and_the_share() {
        type Row = (Option<u64>, Option<f64>, Option<u64>, u64);
        let table: [Row; 17] = [
            (Some(50), Some(0.02), Some(1_000), 50),
            (Some(50), Some(0.02), Some(2_500), 50),
            (Some(50), Some(0.02), Some(2_549), 50),
            (Some(50), Some(0.02), Some(2_550), 51),
            (Some(50), Some(0.02), Some(100_000), 2_000),
            // A limit without the other decides by itself.
            (Some(50), None, Some(1_000_000), 50),
            (None, Some(0.02), Some(1_000), 20),
            // A part of a customer does not count: 21 of 1,025 are more than 2 %.
            (None, Some(0.02), Some(1_025), 20),
            (None, Some(0.07), Some(100), 7),
            (None, Some(0.29), Some(100), 29),
            (None, Some(0.02), Some(10), 0),
            (None, Some(1.0), Some(10), 10),
            // The number of customers is unknown.
            (Some(50), Some(0.02), None, 50),
            (None, Some(0.02), None, 0),
            // Each churn asks a person.
            (Some(0), None, Some(10), 0),
            (Some(0), Some(0.5), Some(10), 5),
            (None, Some(1.0), Some(u64::MAX), u64::MAX),
        ];
        for (count, share, active, expected) in table {
            assert_eq!(brake(count, share).limit(active), expected, "{count:?} {share:?} of {active:?}");
        }
    }

    #[test]
    fn those_before_the_limit_are_admitted_and_none_after_it() {
        let brake = brake(Some(3), Some(0.1));
        for active in [None, Some(0), Some(20), Some(39)] {
            let admits = |admitted| brake.admits(Tally { admitted, active });
            assert_eq!([0, 1, 2, 3, 4, u64::MAX].map(admits), [true, true, true, false, false, false], "{active:?}");
        }
        assert!(brake.admits(Tally { admitted: 3, active: Some(40) }), "a tenth of 40 is 4");
        assert!(!brake.admits(Tally { admitted: 4, active: Some(40) }));
    }

    #[test]
    fn a_share_is_the_nearest_millionth_and_never_nothing() {
        let table =
            [(0.0, 0), (-1.0, 0), (1e-9, 1), (0.02, 20_000), (0.3, 300_000), (1.0, 1_000_000), (7.0, 1_000_000)];
        for (part, millionths) in table {
            assert_eq!(Share::of(part), Share(millionths), "{part}");
        }
        assert_eq!(
            [0.02, 0.5, 1.0, 0.005].map(|part| Share::of(part).to_string()),
            ["2 %", "50 %", "100 %", "0.5000 %"]
        );
    }

    /// A clearance is read as it was written and an unknown name clears nothing.
    #[test]
    fn a_clearance_is_read_as_it_was_written() {
        for clearance in [Clearance::Unasked, Clearance::Admitted, Clearance::Approved] {
            assert_eq!(Clearance::from_name(clearance.name()), clearance);
        }
        assert_eq!(Clearance::from_name(Some("Approved")), Clearance::Unasked);
        assert_eq!(Clearance::from_name(Some("")), Clearance::Unasked);
    }

    #[test]
    fn a_refusal_says_how_many_how_long_and_by_which_limit() {
        let tally = Tally { admitted: 50, active: Some(1_000) };
        let both = brake(Some(50), Some(0.02)).refusal(tally);
        assert_eq!(
            both,
            "50 customers were removed within 1h, and the limit is 50 (churn.brake_count 50, churn.brake_share 2 % of 1000 \
             active customers); see who they are, then approve or skip"
        );
        let spans = [(5_400, "90m"), (90, "90s"), (0, "0s"), (86_400, "24h")];
        for (seconds, shown) in spans {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), shown);
        }
        let unknown = brake(None, Some(0.02)).refusal(Tally { admitted: 0, active: None });
        assert!(unknown.contains("the limit is 0") && unknown.contains("an unknown number"), "{unknown}");
    }
}
