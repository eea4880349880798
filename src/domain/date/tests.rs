//! The forms that are read, with their meanings; the forms that are refused, with their faults.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("it is bundled")
}

fn berlin(text: &str) -> Result<String, Fault> {
    read(text, &zone("Europe/Berlin"))
}

#[test]
fn forms_that_senders_use_are_read_as_what_they_say() {
    for (text, expected) in [
        ("2026-12-31T23:59:59Z", "2026-12-31T23:59:59Z"),
        ("2026-12-31T23:59:59.250+01:00", "2026-12-31T22:59:59.25Z"),
        ("2026-12-31T23:59:59+0100", "2026-12-31T22:59:59Z"),
        ("2026-12-31T00:00:00+01:00[Europe/Berlin]", "2026-12-30T23:00:00Z"),
        ("20261231T235959Z", "2026-12-31T23:59:59Z"),
        ("2026-12-31", "2026-12-31T00:00:00+01:00"),
        ("31.12.2026", "2026-12-31T00:00:00+01:00"),
        ("1.7.2026", "2026-07-01T00:00:00+02:00"),
        (" 31.12.2026\u{a0}", "2026-12-31T00:00:00+01:00"),
        ("31. 12. 2026", "2026-12-31T00:00:00+01:00"),
        ("2026. 12. 31.", "2026-12-31T00:00:00+01:00"),
        ("2026/12/31", "2026-12-31T00:00:00+01:00"),
        ("2026.12.31", "2026-12-31T00:00:00+01:00"),
        ("31/12/2026", "2026-12-31T00:00:00+01:00"),
        ("12/31/2026", "2026-12-31T00:00:00+01:00"),
        ("31-12-2026 08:30", "2026-12-31T08:30:00+01:00"),
        ("12/12/2026", "2026-12-12T00:00:00+01:00"),
        ("20261231", "2026-12-31T00:00:00+01:00"),
        ("31.12.2026, 23:59:59", "2026-12-31T23:59:59+01:00"),
        ("2026-12-31 08:30", "2026-12-31T08:30:00+01:00"),
        ("2026-12-31T08:30:15,250", "2026-12-31T08:30:15.25+01:00"),
        ("31 Dec 2026", "2026-12-31T00:00:00+01:00"),
        ("31-DEC-2026", "2026-12-31T00:00:00+01:00"),
        ("December 31, 2026", "2026-12-31T00:00:00+01:00"),
        ("12/31/2026 11:59:58 PM", "2026-12-31T23:59:58+01:00"),
        ("2026-12-31 00:00:00 +0100", "2026-12-31T00:00:00+01:00"),
        ("2026-12-31 00:00:00 UTC", "2026-12-31T00:00:00+00:00"),
        ("2026-12-31 00:00:00 CET", "2026-12-31T00:00:00+01:00"),
        ("Thu, 31 Dec 2026 23:59:59 +0100", "2026-12-31T23:59:59+01:00"),
        ("Thu, 31 Dec 2026 23:59:59 GMT", "2026-12-31T23:59:59+00:00"),
        ("Thu Dec 31 2026 00:00:00 GMT+0100 (Central European Standard Time)", "2026-12-31T00:00:00+01:00"),
        ("Thu Dec 31 00:00:00 CET 2026", "2026-12-31T00:00:00+01:00"),
        ("Thu Dec 31 00:00:00 2026", "2026-12-31T00:00:00+01:00"),
        ("/Date(1798675200000-0500)/", "2026-12-31T00:00:00Z"),
        // SAP: TIMESTAMP and TIMESTAMPL; OData.
        ("20261231235959", "2026-12-31T23:59:59+01:00"),
        ("20261231235959.1230000", "2026-12-31T23:59:59.123+01:00"),
        ("202612312359", "2026-12-31T23:59:00+01:00"),
        ("20261231235959123", "2026-12-31T23:59:59.123+01:00"),
        ("/Date(1798675200000)/", "2026-12-31T00:00:00Z"),
        ("/Date(1798675200000+0060)/", "2026-12-31T00:00:00Z"),
        ("1798675200", "2026-12-31T00:00:00Z"),
        ("1798675200.0", "2026-12-31T00:00:00Z"),
        ("1798675200.5", "2026-12-31T00:00:00.5Z"),
        ("1798675200000", "2026-12-31T00:00:00Z"),
        ("1798675200000000", "2026-12-31T00:00:00Z"),
        ("1798675200000000000", "2026-12-31T00:00:00Z"),
        // The clocks skip 02:30 on the one day, and repeat it on the other.
        ("29.03.2026 02:30", "2026-03-29T03:30:00+02:00"),
        ("25.10.2026 02:30", "2026-10-25T02:30:00+02:00"),
    ] {
        assert_eq!(berlin(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn a_date_that_cannot_be_meant_is_refused_in_every_zone() {
    for (text, fault) in [
        ("31.12.26", Fault::TwoDigitYear),
        ("26-12-31", Fault::TwoDigitYear),
        ("12/31/26", Fault::TwoDigitYear),
        ("31.12.26 23:59", Fault::TwoDigitYear),
        ("31-DEC-26", Fault::TwoDigitYear),
        ("31 Dec 26 10:00:00 +0100", Fault::TwoDigitYear),
        ("0026-12-31", Fault::TooEarly),
        ("46387", Fault::SmallNumber),
        ("46387.75", Fault::SmallNumber),
        ("46387,75", Fault::SmallNumber),
        ("0", Fault::SmallNumber),
        ("0000000000", Fault::SmallNumber),
        ("00000000", Fault::SmallNumber),
        ("-1", Fault::TooEarly),
        ("99999999", Fault::TooLate),
        ("123456789", Fault::TooEarly),
        ("999999998", Fault::TooEarly),
        ("946771200000", Fault::TooEarly),
        ("99999999999", Fault::TooLate),
        ("999999999", Fault::TooLate),
        ("0999999999", Fault::SmallNumber),
        ("2026-10-01T12:00:00+25:00", Fault::NoSuchMoment),
        ("17986752000", Fault::OddNumber),
        ("179867520000000", Fault::OddNumber),
        ("639345312000000000", Fault::OddNumber),
        ("99999999999999999999999999", Fault::TooLate),
        ("1.79868E+12", Fault::LostDigits),
        ("1,8e9", Fault::LostDigits),
        ("0001-01-01T00:00:00Z", Fault::TooEarly),
        ("0001-01-01", Fault::TooEarly),
        ("30.12.1899", Fault::TooEarly),
        ("1900-01-01T00:00:00Z", Fault::TooEarly),
        ("1970-01-01T00:00:00Z", Fault::TooEarly),
        ("01.01.1970", Fault::TooEarly),
        ("1980-01-01", Fault::TooEarly),
        ("2000-01-01", Fault::TooEarly),
        ("/Date(0)/", Fault::TooEarly),
        ("/Date(-62135596800000)/", Fault::TooEarly),
        ("9999-12-31", Fault::TooLate),
        ("9999-12-31T23:59:59Z", Fault::TooLate),
        ("99991231", Fault::TooLate),
        ("31.12.2999", Fault::TooLate),
        ("20261331", Fault::NoSuchMoment),
        ("31.02.2026", Fault::NoSuchMoment),
        ("01/02/2026", Fault::DayOrMonth),
        ("03-04-2026 10:00", Fault::DayOrMonth),
        ("yesterday", Fault::Unknown),
        ("2026", Fault::SmallNumber),
        ("", Fault::Unknown),
        ("2026-12-31T25:00:00Z", Fault::Unknown),
        ("2026-W53-4", Fault::Unknown),
        ("10:30", Fault::TwoDigitYear),
        ("12345-12-31", Fault::Unknown),
    ] {
        for zone_name in
            ["UTC", "Europe/Berlin", "Europe/Warsaw", "Europe/Tallinn", "Europe/London", "America/New_York"]
        {
            let found = read(text, &zone(zone_name));
            assert_eq!(found, Err(fault), "{text} in {zone_name}");
        }
        assert!(read_exact(text).is_err(), "{text}");
    }
}

/// The rows of the table of the senders' page behind the comment that has `words`.
fn documented(words: &str) -> Vec<(String, String)> {
    let page = include_str!("../../../docs/SENDERS.md");
    let table = page.split(words).nth(1).expect("the page has the comment").split("\n\n").nth(1).expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        let (text, meaning) = row.trim_matches(['|', ' ']).split_once(" | ").expect("two cells");
        (text.trim_matches('`').to_owned(), meaning.trim_matches('`').to_owned())
    };
    rows.map(cells).collect()
}

#[test]
fn the_senders_page_says_what_is_read_and_what_is_refused() {
    let read_rows = documented("each text is read as what stands beside it");
    let refused_rows = documented("each text is refused with these words");
    assert!(read_rows.len() >= 20 && refused_rows.len() >= 10, "the tables are there");
    for (text, expected) in read_rows {
        assert_eq!(berlin(&text), Ok(expected), "{text}");
    }
    for (text, words) in refused_rows {
        for zone_name in ["UTC", "Europe/Berlin", "Europe/Tallinn"] {
            assert_eq!(read(&text, &zone(zone_name)).map_err(|fault| fault.to_string()), Err(words.clone()), "{text}");
        }
    }
}

#[test]
fn a_field_of_a_standard_says_its_own_offset() {
    let noon = Timestamp::parse("2026-10-01T12:00:00Z").expect("valid");
    for text in [
        "2026-10-01T12:00:00Z",
        "2026-10-01t12:00:00z",
        "2026-10-01 12:00:00Z",
        "2026-10-01T14:00:00+02:00",
        "2026-10-01T14:00:00.000000000+02:00",
        "2026-10-01T14:00:00+0200",
        "2026-10-01T14:00+02:00",
        "2026-10-01 14:00:00 +0200",
        "20261001T120000Z",
        "Thu, 01 Oct 2026 12:00:00 GMT",
    ] {
        assert_eq!(read_exact(text), Ok(noon), "{text}");
    }
    for (text, fault) in [
        ("2026-10-01", Fault::NoOffset),
        ("2026-10-01T12:00:00", Fault::NoOffset),
        ("01.10.2026", Fault::NoOffset),
        ("1790856000", Fault::Number),
        ("20261001", Fault::Number),
        ("soon", Fault::Unknown),
        ("31.12.26", Fault::TwoDigitYear),
    ] {
        assert_eq!(read_exact(text), Err(fault), "{text}");
    }
}

#[test]
fn a_form_that_is_given_settles_the_doubt() {
    let as_form = |text, form| read_as(text, form, &zone("UTC"));
    assert_eq!(as_form("01/02/2026", "%d/%m/%Y").as_deref(), Ok("2026-02-01T00:00:00+00:00"));
    assert_eq!(as_form("01/02/2026", "%m/%d/%Y").as_deref(), Ok("2026-01-02T00:00:00+00:00"));
    assert_eq!(as_form("31.12.26", "%d.%m.%y").as_deref(), Ok("2026-12-31T00:00:00+00:00"));
    assert_eq!(as_form("2026-01-02 03:04 +0100", "%Y-%m-%d %H:%M %z").as_deref(), Ok("2026-01-02T03:04:00+01:00"));
    assert_eq!(as_form("31.12.26", "%d.%m.%Y"), Err(Fault::TooEarly));
    assert_eq!(as_form("2026-01-02", "%d.%m.%Y"), Err(Fault::Unknown));
}

#[test]
fn a_fault_is_told_without_the_text() {
    for fault in Fault::ALL {
        assert!(!fault.to_string().is_empty(), "{fault:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_within_the_bounds(text in ".{0,40}", digits in "[0-9./: T+-]{0,24}") {
        for text in [text, digits] {
            if let Ok(moment) = read_exact(&text) {
                prop_assert!(moment > EARLIEST && moment < LATEST, "{text}");
            }
            if let Ok(read) = berlin(&text) {
                let moment = Timestamp::parse(&read);
                prop_assert!(moment.is_some_and(|moment| moment > EARLIEST && moment < LATEST), "{text}: {read}");
            }
        }
    }

    #[test]
    fn every_day_is_read_back_in_every_form(days in 1_i64..70_000, form in 0_usize..DATES.len()) {
        let date = civil::date(2000, 1, 3).checked_add(jiff::Span::new().days(days)).expect("before 2200");
        let text = date.strftime(DATES[form]).to_string();
        let expected = date.strftime("%Y-%m-%dT00:00:00+00:00").to_string();
        prop_assert_eq!(read(&text, &TimeZone::UTC), Ok(expected), "{}", text);
    }
}
