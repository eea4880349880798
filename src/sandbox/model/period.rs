//! The periods by which figures of heat pumps are summed up: from a quarter of an hour to a year, in UTC.
//!
//! Podero does not say in which time zone a day begins. It must never know a heat pump.
//!
//! Before: [`crate::sandbox::model::World`]. After: [`crate::domain::Timestamp`].

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::domain::Timestamp;
use crate::domain::names::names;

names! {
    /// Length of a period in requests and answers.
    pub enum PeriodLength {
        QuarterHour = "15MIN",
        Hour = "1HOUR",
        Day = "1DAY",
        Week = "1WEEK",
        Month = "1MONTH",
        Quarter = "1QUARTER",
        Year = "1YEAR",
    }
}

impl PeriodLength {
    /// Those of measured data (`api-reference/user-heat-pumps/get-heat-pump-data`).
    pub const OF_DATA: [Self; 5] = [Self::QuarterHour, Self::Hour, Self::Day, Self::Week, Self::Month];
    /// Those of statistics and savings.
    pub const OF_STATISTICS: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

    /// Beginning of the period in which a moment lies. Weeks begin on Monday.
    pub fn begin(self, at: Timestamp) -> Timestamp {
        let at = at.to_chrono();
        let day = at.date_naive();
        let month = |month: u32| NaiveDate::from_ymd_opt(day.year(), month, 1).unwrap_or(day);
        let minutes = |step: i64| {
            let past = at.timestamp_micros().rem_euclid(step * 60_000_000);
            at - TimeDelta::microseconds(past)
        };
        let begin = match self {
            Self::QuarterHour => minutes(15),
            Self::Hour => minutes(60),
            Self::Day => midnight(day),
            Self::Week => midnight(day - Days::new(u64::from(day.weekday().num_days_from_monday()))),
            Self::Month => midnight(month(day.month())),
            Self::Quarter => midnight(month(day.month0() / 3 * 3 + 1)),
            Self::Year => midnight(month(1)),
        };
        Timestamp::from_micros(begin.timestamp_micros())
    }

    /// End of the period that begins at this moment, which is the beginning of the next one.
    pub fn end(self, begin: Timestamp) -> Timestamp {
        let begin = begin.to_chrono();
        let end = match self {
            Self::QuarterHour => begin + TimeDelta::minutes(15),
            Self::Hour => begin + TimeDelta::hours(1),
            Self::Day => begin + TimeDelta::days(1),
            Self::Week => begin + TimeDelta::weeks(1),
            Self::Month => begin + Months::new(1),
            Self::Quarter => begin + Months::new(3),
            Self::Year => begin + Months::new(12),
        };
        Timestamp::from_micros(end.timestamp_micros())
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_and_end_with_the_calendar() {
        let at = Timestamp::parse("2028-02-29T13:37:05Z").expect("valid");
        let cases = [
            (PeriodLength::QuarterHour, "2028-02-29T13:30:00Z", "2028-02-29T13:45:00Z"),
            (PeriodLength::Hour, "2028-02-29T13:00:00Z", "2028-02-29T14:00:00Z"),
            (PeriodLength::Day, "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
            (PeriodLength::Week, "2028-02-28T00:00:00Z", "2028-03-06T00:00:00Z"),
            (PeriodLength::Month, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (PeriodLength::Quarter, "2028-01-01T00:00:00Z", "2028-04-01T00:00:00Z"),
            (PeriodLength::Year, "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"),
        ];
        for (resolution, begin, end) in cases {
            let found = resolution.begin(at);
            assert_eq!((found.to_string().as_str(), resolution.end(found).to_string().as_str()), (begin, end));
            assert_eq!(resolution.begin(found), found);
        }
    }
}
