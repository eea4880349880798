//! Time zones: how a moment is shown to a person. Every stored and sent moment is in UTC.
//!
//! Before: nothing. After: [`crate::config`] accepts a zone, [`crate::console`] shows moments in it.

use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Timestamp;

/// A time zone of the IANA database, which is part of the program.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone of this name, such as `Europe/Berlin`.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Its name, as the database writes it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// A moment as date and time to the second, with the abbreviation of the zone: `2026-10-01 14:00:00 CEST`.
    pub fn show(&self, moment: Timestamp) -> String {
        let Ok(moment) = jiff::Timestamp::from_microsecond(moment.micros()) else { return moment.to_string() };
        moment.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// A moment as date and time of the zone, as a form's field has it: `2026-10-01T14:00:00`.
    pub fn local(&self, moment: Timestamp) -> String {
        let Ok(moment) = jiff::Timestamp::from_microsecond(moment.micros()) else { return String::new() };
        moment.to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    }

    /// The moment that a person has typed: RFC 3339 as it is, a date and time without an offset in this zone, and a date as its
    /// beginning.
    pub fn moment(&self, text: &str) -> Option<Timestamp> {
        if let Some(moment) = Timestamp::parse(text) {
            return Some(moment);
        }
        let begun = format!("{text}T00:00");
        let texts = [(text, "%Y-%m-%dT%H:%M:%S"), (text, "%Y-%m-%dT%H:%M"), (begun.as_str(), "%Y-%m-%dT%H:%M")];
        self.begin(texts.into_iter().find_map(|(text, form)| DateTime::strptime(form, text).ok())?)
    }

    /// The beginning of the day that was this many days before that of a moment.
    pub fn day_begin(&self, moment: Timestamp, days_before: i64) -> Option<Timestamp> {
        let zoned = jiff::Timestamp::from_microsecond(moment.micros()).ok()?.to_zoned(self.0.clone());
        let day = zoned.date().checked_sub(days_before.days()).ok()?;
        self.begin(day.at(0, 0, 0, 0))
    }

    /// A date and time of the zone; of two in the hour that comes twice the first, and in the hour that is left out the one behind it.
    fn begin(&self, civil: DateTime) -> Option<Timestamp> {
        let zoned = civil.to_zoned(self.0.clone()).ok()?;
        Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_its_zone_also_when_the_clocks_change() {
        let at = |text: &str| Timestamp::parse(text).expect("a moment");
        for (zone, moment, expected) in [
            ("Europe/Berlin", "2026-10-01T12:00:00Z", "2026-10-01 14:00:00 CEST"),
            ("Europe/Berlin", "2026-12-01T12:00:00Z", "2026-12-01 13:00:00 CET"),
            ("europe/berlin", "2026-10-25T01:30:00Z", "2026-10-25 02:30:00 CET"),
            ("UTC", "2026-10-01T12:00:00.9Z", "2026-10-01 12:00:00 UTC"),
        ] {
            assert_eq!(Zone::named(zone).expect("a zone").show(at(moment)), expected);
        }
        assert_eq!(Zone::UTC.show(Timestamp::from_micros(0)), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn a_typed_moment_is_one_of_the_zone_unless_it_says_otherwise() {
        let zone = Zone::named("Europe/Berlin").expect("a zone");
        for (typed, expected) in [
            ("2026-10-01T14:00:00", Some("2026-10-01T12:00:00Z")),
            ("2026-10-01T14:00", Some("2026-10-01T12:00:00Z")),
            ("2026-10-01", Some("2026-09-30T22:00:00Z")),
            ("2026-10-01T14:00:00Z", Some("2026-10-01T14:00:00Z")),
            ("2026-10-01T14:00:00-05:00", Some("2026-10-01T19:00:00Z")),
            // Twice, and never.
            ("2026-10-25T02:30", Some("2026-10-25T00:30:00Z")),
            ("2026-03-29T02:30", Some("2026-03-29T01:30:00Z")),
            ("2026-10-01T14:00+02", None),
            ("2026-02-30", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(zone.moment(typed), expected.and_then(Timestamp::parse), "{typed}");
        }
        let moment = zone.moment("2026-10-01T14:00:05").expect("a moment");
        assert_eq!(zone.local(moment), "2026-10-01T14:00:05");
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone_also_when_it_has_25_hours() {
        let at = |text: &str| Timestamp::parse(text).expect("a moment");
        let zone = Zone::named("Europe/Berlin").expect("a zone");
        let now = at("2026-10-25T23:30:00Z");
        assert_eq!(zone.day_begin(now, 0), Some(at("2026-10-25T23:00:00Z")), "it is the 26th there");
        assert_eq!(zone.day_begin(now, 1), Some(at("2026-10-24T22:00:00Z")));
        assert_eq!(Zone::UTC.day_begin(now, 1), Some(at("2026-10-24T00:00:00Z")));
    }

    #[test]
    fn a_zone_has_the_name_of_the_database() {
        assert_eq!(Zone::named("europe/berlin").expect("a zone").name(), "Europe/Berlin");
        assert_eq!(Zone::UTC.name(), "UTC");
        for name in ["", "Berlin", "Europe/Atlantis", "../etc/passwd"] {
            assert!(Zone::named(name).is_none(), "{name}");
        }
    }
}
