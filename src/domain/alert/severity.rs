//! The severity of an alert: a table by cause, one step worse in the heating season.
//!
//! Before: `watch.severity` and `watch.heating_season`. After: every alert.

use super::cause::Cause;
use crate::domain::Timestamp;
use crate::domain::names::names;
use chrono::Datelike;

names! {
    /// The severity of an alert, in PagerDuty's terms.
    pub enum Severity {
        /// Worth knowing.
        Info = "info",
        /// May pass by itself.
        Warning = "warning",
        /// An operator must act.
        Error = "error",
        /// An operator must act now.
        Critical = "critical",
    }
}

impl Severity {
    /// One step worse; the worst stays.
    fn raised(self) -> Self {
        match self {
            Self::Info => Self::Warning,
            Self::Warning => Self::Error,
            Self::Error | Self::Critical => Self::Critical,
        }
    }
}

/// The days of a year on which homes are heated, both ends included. If the first day is later than the last, the season goes
/// over New Year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Season {
    from: (u32, u32),
    to: (u32, u32),
}

impl Season {
    /// Reads `MM-DD..MM-DD`; `None` for days that no year has.
    pub fn parse(text: &str) -> Option<Self> {
        let day = |text: &str| {
            let (month, day) = text.split_once('-')?;
            let is_two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let (month, day) =
                (is_two(month).then_some(month)?.parse().ok()?, is_two(day).then_some(day)?.parse().ok()?);
            // A leap year has every day that any year has.
            chrono::NaiveDate::from_ymd_opt(2024, month, day).map(|_| (month, day))
        };
        let (from, to) = text.split_once("..")?;
        Some(Self { from: day(from)?, to: day(to)? })
    }

    /// True if the day in UTC lies within the season.
    pub fn is_on(self, now: Timestamp) -> bool {
        let date = now.to_chrono();
        let day = (date.month(), date.day());
        if self.from <= self.to { (self.from..=self.to).contains(&day) } else { day >= self.from || day <= self.to }
    }
}

/// The severity of an alert unless `watch.severity` names another.
const fn usual(cause: Cause) -> Severity {
    match cause {
        Cause::NeedsReauthentication | Cause::LifecycleError | Cause::MakerOutage | Cause::RegionOutage => {
            Severity::Error
        }
        // Often passes by itself: a router, a power cut, the manufacturer's cloud.
        Cause::DeviceOffline | Cause::Unstable => Severity::Warning,
        Cause::NeverConnected => Severity::Info,
        // A blind bridge can do none of its other work either.
        Cause::WatchBlind => Severity::Critical,
    }
}

/// `watch.severity`, and the season in which severities are raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severities {
    /// By cause, in the order of [`Cause::ALL`].
    by_cause: [Severity; Cause::ALL.len()],
    /// `watch.heating_season`.
    season: Option<Season>,
}

impl Severities {
    /// The defaults, without a season.
    pub const DEFAULT: Self = {
        let mut by_cause = [Severity::Info; Cause::ALL.len()];
        let mut at = 0;
        while at < by_cause.len() {
            by_cause[at] = usual(Cause::ALL[at]);
            at += 1;
        }
        Self { by_cause, season: None }
    };

    /// The same severities, raised in this season.
    #[must_use]
    pub fn in_season(mut self, season: Option<Season>) -> Self {
        self.season = season;
        self
    }

    /// The same severities, with another one for one cause.
    #[must_use]
    pub fn with(mut self, cause: Cause, severity: Severity) -> Self {
        self.by_cause[cause as usize] = severity;
        self
    }

    /// The severity of an alert that opens now. A pump that never ran, and the bridge's own visibility, are no worse in winter.
    pub fn of(&self, cause: Cause, now: Timestamp) -> Severity {
        let severity = self.by_cause[cause as usize];
        let is_raised = match cause {
            Cause::NeverConnected | Cause::WatchBlind => false,
            Cause::NeedsReauthentication
            | Cause::LifecycleError
            | Cause::DeviceOffline
            | Cause::Unstable
            | Cause::MakerOutage
            | Cause::RegionOutage => self.season.is_some_and(|season| season.is_on(now)),
        };
        if is_raised { severity.raised() } else { severity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(day: &str) -> Timestamp {
        Timestamp::parse(&format!("{day}T12:00:00Z")).expect("a day")
    }

    #[test]
    fn a_season_may_go_over_new_year() {
        for (season, day, expected) in [
            ("10-01..04-30", "2026-10-01", true),
            ("10-01..04-30", "2026-12-31", true),
            ("10-01..04-30", "2027-04-30", true),
            ("10-01..04-30", "2027-05-01", false),
            ("10-01..04-30", "2026-09-30", false),
            ("05-15..08-31", "2026-05-15", true),
            ("05-15..08-31", "2026-09-01", false),
            ("02-29..02-29", "2028-02-29", true),
        ] {
            assert_eq!(Season::parse(season).expect("a season").is_on(on(day)), expected, "{season} {day}");
        }
        for wrong in
            ["", "10-01", "10-01..", "13-01..04-30", "02-30..03-01", "1-1..2-2", "10-01..04-30..05-01", "+1-01..02-02"]
        {
            assert_eq!(Season::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_heating_season_makes_losses_one_step_worse_and_nothing_else() {
        let winter = Severities::DEFAULT.in_season(Season::parse("10-01..04-30"));
        for (cause, summer, raised) in [
            (Cause::NeedsReauthentication, "error", "critical"),
            (Cause::LifecycleError, "error", "critical"),
            (Cause::DeviceOffline, "warning", "error"),
            (Cause::Unstable, "warning", "error"),
            (Cause::NeverConnected, "info", "info"),
            (Cause::MakerOutage, "error", "critical"),
            (Cause::RegionOutage, "error", "critical"),
            (Cause::WatchBlind, "critical", "critical"),
        ] {
            assert_eq!(winter.of(cause, on("2026-07-01")).name(), summer, "{cause:?}");
            assert_eq!(winter.of(cause, on("2026-12-01")).name(), raised, "{cause:?}");
            let mild = winter.with(cause, Severity::Info);
            assert_eq!(mild.of(cause, on("2026-07-01")), Severity::Info, "{cause:?}");
        }
    }
}
