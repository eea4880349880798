//! A moment in time, as a value: microseconds since 1970 in UTC. Never asks what time it is.
//!
//! Before: nothing. After: [`crate::domain`], [`crate::clock`].

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Margin between the clocks of two replicas, and between a stored moment and the clock that reads it. A moment further ahead was
/// written by a clock that was wrong, and delays nothing.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// Microseconds since the Unix epoch, UTC. Text form is RFC 3339 with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent, extend("format" = "date-time"))]
pub struct Timestamp(#[schemars(with = "String")] i64);

impl Timestamp {
    /// The moment at these microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 (`2026-10-01T12:00:00Z`, any offset); `None` for anything else. Every moment that it reads can be written:
    /// an offset may lead out of the years with four digits, and the stored form could not be read again.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
        (0..=9_999).contains(&moment.year()).then(|| Self(moment.timestamp_micros()))
    }

    /// Parses RFC 3339, or a date: its beginning in UTC.
    pub fn parse_time_or_date(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| Self::parse(&format!("{text}T00:00:00Z")))
    }

    /// The same moment in the library's type.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
    }

    /// Later by `by`; stays at the end of time instead of overflowing.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(by)))
    }

    /// Earlier by `by`; stays at the beginning of time instead of overflowing.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(by)))
    }

    /// The latest moment that a stored one can mean, if it lies at most `ceiling` ahead when it is written.
    #[must_use]
    pub fn latest(now: Self, ceiling: Duration) -> Self {
        now.plus(ceiling.saturating_add(CLOCKS_APART_MAX))
    }

    /// True if a stored due time has come. One that lies further ahead than `ceiling` was written by a clock that was ahead and
    /// was set back since: it has come as well.
    pub fn has_come(self, now: Self, ceiling: Duration) -> bool {
        self <= now || self > Self::latest(now, ceiling)
    }

    /// A stored moment of the past, or now for one further ahead than clocks differ: a clock that was ahead wrote it.
    #[must_use]
    pub fn no_later_than(self, now: Self) -> Self {
        if self > Self::latest(now, Duration::ZERO) { now } else { self }
    }

    /// The time from `earlier` to this; zero if this is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected an RFC 3339 date and time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["2026-10-01T12:00:00Z", "1969-12-31T23:59:59.5Z", "2026-10-01T12:00:00.000001Z"] {
            let moment = Timestamp::parse(text).expect("valid");
            assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment), "{text}");
        }
        assert_eq!(Timestamp::parse("2026-10-01T14:00:00+02:00"), Timestamp::parse("2026-10-01T12:00:00Z"));
        assert_eq!(Timestamp::parse("2026-10-01"), None);
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again() {
        // In UTC these are in the years -1 and 10000, for which RFC 3339 has no form.
        for text in ["0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        for text in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(Timestamp::parse(text).map(|moment| moment.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_due_time_beyond_its_ceiling_has_come() {
        let now = Timestamp::from_micros(1_000_000_000);
        let ceiling = Duration::from_secs(900);
        let ahead = |seconds| now.plus(Duration::from_secs(seconds));
        for (due, expected) in [(0, true), (1, false), (900, false), (960, false), (961, true), (94_608_000, true)] {
            assert_eq!(ahead(due).has_come(now, ceiling), expected, "{due} s ahead");
        }
        assert_eq!(ahead(60).no_later_than(now), ahead(60), "clocks differ a little");
        assert_eq!(ahead(61).no_later_than(now), now);
    }

    #[test]
    fn since_is_never_negative() {
        let (a, b) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
        assert_eq!(a.since(b), Duration::ZERO);
        assert_eq!(b.since(a), Duration::from_micros(4));
    }
}
