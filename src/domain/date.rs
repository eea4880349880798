//! Reads a date and time in the forms that senders use, and refuses one that no sender can mean.
//!
//! A date decides when a customer is deleted, so a doubt is an error and never a guess: a year has four digits, a number has
//! one of the lengths below, day and month cannot be taken for each other, and the moment lies between [`EARLIEST`] and
//! [`LATEST`]. This is the one reader for every date that comes in: attributes and fields of events, the mappings'
//! `date_time`, and Podero's answers. The forms are listed for senders in `docs/SENDERS.md`.
//!
//! Before: nothing. After: [`crate::inbound`], [`crate::podero`].

use jiff::civil::{self, DateTime};
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{Offset, TimeZone};

use super::Timestamp;
use super::names::names;
use super::text::trim;

/// Lower bound of every moment, exclusive: 2000-01-02. Earlier ones stand for "not set" (year 1, 1899-12-30, 1900-01-01,
/// 1970-01-01, 1980-01-01; 2000-01-01 is the start of clocks without a battery), and the extra day is for time zones.
pub const EARLIEST: Timestamp = Timestamp::from_micros(946_771_200_000_000);

/// Upper bound of every moment, exclusive: 2200-01-01. Later ones stand for "open end" (2999-12-31, 9999-12-31).
pub const LATEST: Timestamp = Timestamp::from_micros(7_258_118_400_000_000);

/// Limit of a date's characters. The longest form, a browser's with the zone's name, has about 60.
const CHARS_MAX: usize = 80;

/// Minimum of digits of a count of seconds since 1970. Numbers below 10^8 (March 1973) include the serial numbers of
/// spreadsheets.
const SECONDS_DIGITS_MIN: usize = 9;

names! {
    /// The fault of a text that is no possible date. Its name describes the shape of the text, and never repeats it.
    pub enum Fault {
        TwoDigitYear = "a year of two digits; a year has four",
        SmallNumber = "a number below 10^8: an Excel date? Write it as a date",
        OddNumber = "a number that is neither a date of 8 or 14 digits nor seconds, milliseconds, microseconds or \
            nanoseconds since 1970 (10, 13, 16 or 19 digits)",
        LostDigits = "a number in scientific notation, which has lost digits",
        TooEarly = "a moment before 2000-01-02, which cannot be meant: does it stand for \"not set\"?",
        TooLate = "a moment from 2200 on, which is too far ahead: does it stand for \"open end\"?",
        NoOffset = "a date and time without an offset, so it could be of any time zone",
        DayOrMonth = "a date whose day and month could be either way round",
        NoSuchMoment = "a day or an hour that does not exist",
        Number = "a number",
        Unknown = "not a date and time in a form that is known",
    }
}

/// Accepts a moment that a sender can mean: between [`EARLIEST`] and [`LATEST`].
pub fn meant(moment: Timestamp) -> Result<Timestamp, Fault> {
    if moment <= EARLIEST {
        Err(Fault::TooEarly)
    } else if moment >= LATEST {
        Err(Fault::TooLate)
    } else {
        Ok(moment)
    }
}

/// Reads a date and time that says its own offset: RFC 3339, ISO 8601, RFC 2822 and their relatives. Refuses a number: the
/// standards that these fields follow know only texts.
pub fn read_exact(text: &str) -> Result<Timestamp, Fault> {
    let text = trim(text);
    if let Some(moment) = Timestamp::parse(text) {
        return meant(moment);
    }
    match number(text, &TimeZone::UTC) {
        Some(read) => read.and(Err(Fault::Number)),
        None => written(text, None).and_then(|read| read.moment()),
    }
}

/// Reads a date and time in any known form; one without an offset, or a date alone (midnight), on the clocks of `zone`. An hour
/// that these clocks repeat means its first occurrence, one that they skip the hour after. The result is RFC 3339.
pub fn read(text: &str, zone: &TimeZone) -> Result<String, Fault> {
    let text = trim(text);
    // First, as in `read_exact`: two libraries differ over leap seconds.
    if let Some(moment) = Timestamp::parse(text) {
        let moment = jiff::Timestamp::from_microsecond(moment.micros()).map_err(|_| Fault::TooLate)?;
        return Read::Moment(moment).rfc_3339();
    }
    number(text, zone).unwrap_or_else(|| written(text, Some(zone)))?.rfc_3339()
}

/// Reads a date and time in the form that `form` describes (`strftime`, such as `%m/%d/%Y`), which settles what the text
/// alone leaves in doubt. Without an offset in the form: on the clocks of `zone`.
pub fn read_as(text: &str, form: &str, zone: &TimeZone) -> Result<String, Fault> {
    let text = trim(text);
    if text.chars().count() > CHARS_MAX || form.len() > CHARS_MAX {
        return Err(Fault::Unknown);
    }
    let broken = strtime::parse(form, text).map_err(|_| Fault::Unknown)?;
    let local = local_of(&broken)?;
    let zone = match broken.offset() {
        Some(offset) => TimeZone::fixed(offset_of(offset.seconds()).ok_or(Fault::NoSuchMoment)?),
        None => zone.clone(),
    };
    Read::Local(local, zone).rfc_3339()
}

/// Smallest count since 1970 that is one of milliseconds: as seconds it would be in the year 5138.
const MILLIS_FROM: u64 = 100_000_000_000;

/// Reads a number of seconds since 1970, or of milliseconds, by its size.
pub fn since_1970(count: u64) -> Result<Timestamp, Fault> {
    let micros_each = if count >= MILLIS_FROM { 1_000 } else { 1_000_000 };
    let micros = i64::try_from(count).ok().and_then(|count| count.checked_mul(micros_each));
    meant(Timestamp::from_micros(micros.ok_or(Fault::TooLate)?))
}

/// The meaning of a text.
enum Read {
    Moment(jiff::Timestamp),
    Local(DateTime, TimeZone),
}

impl Read {
    /// The moment, if a sender can mean it.
    fn moment(&self) -> Result<Timestamp, Fault> {
        let moment = match self {
            Self::Moment(moment) => *moment,
            // The calendar ends where offsets lead out of it, long after any possible moment.
            Self::Local(local, _) if local.year() > 2200 => return Err(Fault::TooLate),
            Self::Local(local, _) if local.year() < 1999 => return Err(Fault::TooEarly),
            Self::Local(local, zone) => {
                zone.to_ambiguous_timestamp(*local).compatible().map_err(|_| Fault::NoSuchMoment)?
            }
        };
        meant(Timestamp::from_micros(moment.as_microsecond()))
    }

    fn rfc_3339(&self) -> Result<String, Fault> {
        self.moment()?;
        match self {
            Self::Moment(moment) => Ok(moment.to_string()),
            Self::Local(local, zone) => {
                let zoned = local.to_zoned(zone.clone()).map_err(|_| Fault::NoSuchMoment)?;
                Ok(zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string())
            }
        }
    }
}

/// The date, at midnight if there is no time.
fn local_of(broken: &BrokenDownTime) -> Result<DateTime, Fault> {
    let date = broken.to_date().map_err(|_| Fault::NoSuchMoment)?;
    Ok(date.to_datetime(broken.to_time().unwrap_or(civil::Time::midnight())))
}

/// Reads a number, also one within `/Date(…)/` (OData: milliseconds, whatever its length); the digits of a date are on the
/// clocks of `zone`. `None`: the text is no number.
fn number(text: &str, zone: &TimeZone) -> Option<Result<Read, Fault>> {
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        // The offset behind the number is for people; the number is UTC.
        let sign = inner.get(1..).and_then(|rest| rest.find(['+', '-'])).map_or(inner.len(), |at| at + 1);
        let digits = inner.get(..sign).unwrap_or(inner);
        let millis = digits.parse().ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        return Some(millis.map(Read::Moment).ok_or(Fault::Unknown));
    }
    let digits_of = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some((mantissa, exponent)) = unsigned.split_once(['e', 'E']) {
        let plain: String = mantissa.chars().filter(|letter| !matches!(letter, '.' | ',')).collect();
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        let is_number = !plain.is_empty() && !exponent.is_empty() && digits_of(&plain) && digits_of(exponent);
        return is_number.then_some(Err(Fault::LostDigits));
    }
    let (whole, fraction) =
        unsigned.split_once(['.', ',']).map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    if whole.is_empty()
        || !digits_of(whole)
        || fraction.is_some_and(|fraction| fraction.is_empty() || !digits_of(fraction))
    {
        return None;
    }
    let is_negative = text.starts_with('-');
    Some(if is_negative { Err(Fault::TooEarly) } else { number_of(whole, fraction, zone) })
}

fn number_of(whole: &str, fraction: Option<&str>, zone: &TimeZone) -> Result<Read, Fault> {
    let plain = fraction.is_none_or(|fraction| fraction.bytes().all(|digit| digit == b'0'));
    let since = |per_second: i64| -> Result<Read, Fault> {
        let count: i64 = whole.parse().map_err(|_| Fault::OddNumber)?;
        let nanos = i128::from(count) * i128::from(1_000_000_000 / per_second) + fraction_nanos(fraction, per_second);
        jiff::Timestamp::from_nanosecond(nanos).map(Read::Moment).map_err(|_| Fault::OddNumber)
    };
    let digits = |form: &str, text: &str| {
        let broken = strtime::parse(form, text).map_err(|_| Fault::NoSuchMoment)?;
        Ok(Read::Local(local_of(&broken)?, zone.clone()))
    };
    match whole.len() {
        // Forms write only nines for "open end".
        8.. if whole.bytes().all(|digit| digit == b'9') => Err(Fault::TooLate),
        10.. if whole.starts_with('0') => Err(Fault::SmallNumber),
        8 if whole.starts_with('0') => Err(Fault::SmallNumber),
        8 if plain => digits("%Y%m%d", whole),
        14 => digits("%Y%m%d%H%M%S%.f", &fraction.map_or_else(|| whole.to_owned(), |rest| format!("{whole}.{rest}"))),
        // A number of milliseconds of this length lies before September 2001.
        12 if plain && ("2000".."2200").contains(&&whole[..4]) => digits("%Y%m%d%H%M", whole),
        17 if plain && ("2000".."2200").contains(&&whole[..4]) => {
            digits("%Y%m%d%H%M%S.%f", &format!("{}.{}", &whole[..14], &whole[14..]))
        }
        length if length < SECONDS_DIGITS_MIN => Err(Fault::SmallNumber),
        9 if whole.starts_with('0') => Err(Fault::SmallNumber),
        // Such a number lies before September 2001, when no system that sends events had its customers on this service.
        9 | 12 => Err(Fault::TooEarly),
        10 => since(1),
        13 => since(1_000),
        16 if plain => since(1_000_000),
        19 if plain => since(1_000_000_000),
        _ => Err(Fault::OddNumber),
    }
}

/// The nanoseconds that a decimal fraction of a unit has.
fn fraction_nanos(fraction: Option<&str>, per_second: i64) -> i128 {
    let digits: String = fraction.unwrap_or_default().chars().chain("000000000".chars()).take(9).collect();
    digits.parse().unwrap_or(0_i128) / i128::from(per_second)
}

/// Dates in which the place of the year is certain; `%b` also reads a full name.
const DATES: [&str; 15] = [
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y. %m. %d.", "%d.%m.%Y", "%d. %m. %Y", "%Y%m%d", "%d %b %Y", "%d-%b-%Y",
    "%d. %b %Y", "%d %B %Y", "%B %d %Y", "%b %d %Y", "%a %b %d %Y", "%a %d %b %Y",
];
/// Dates in which only the numbers show the day.
const DAY_FIRST: [&str; 2] = ["%d/%m/%Y", "%d-%m-%Y"];
const MONTH_FIRST: [&str; 2] = ["%m/%d/%Y", "%m-%d-%Y"];
/// Times after a date, as [`written`] leaves them.
const TIMES: [&str; 7] = ["", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", " %H%M%S", " %H%M"];

/// Zones that are written as letters and mean the same offset everywhere.
#[rustfmt::skip]
const LETTERS: [(&str, i8); 14] = [
    ("utc", 0), ("ut", 0), ("gmt", 0), ("z", 0), ("wet", 0), ("west", 1), ("cet", 1), ("mez", 1),
    ("cest", 2), ("mesz", 2), ("eet", 2), ("oez", 2), ("eest", 3), ("oesz", 3),
];

/// Reads a date that is no number. `zone`: the clocks for a date that names no offset; `None`: such a date is refused.
fn written(text: &str, zone: Option<&TimeZone>) -> Result<Read, Fault> {
    if text.chars().count() > CHARS_MAX {
        return Err(Fault::Unknown);
    }
    let text = year_first(text);
    let text = text.as_str();
    let has_long_year = has_long_year(text)?;
    if has_long_year && let Ok(moment) = text.parse::<jiff::Timestamp>() {
        // The library accepts offsets that no clock has.
        let written = text.split_once('[').map_or(text, |(written, _)| written);
        return split_offset(&plain(written)).1.map(|_| Read::Moment(moment)).ok_or(Fault::NoSuchMoment);
    }
    // A browser writes the zone's name after the date, Java its identifier.
    let text = text.split_once(" (").filter(|(_, name)| name.ends_with(')')).map_or(text, |(rest, _)| rest);
    let text = plain(text);
    let (local, offset) = split_offset(&text);
    let local = read_local(local.trim_end())?;
    match (offset, zone) {
        (Some(offset), _) => Ok(Read::Local(local, TimeZone::fixed(offset))),
        (None, Some(zone)) => Ok(Read::Local(local, zone.clone())),
        (None, None) => Err(Fault::NoOffset),
    }
}

/// Java and Unix write the year last, after the time and its zone: `Thu Dec 31 00:00:00 CET 2026`.
fn year_first(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    match *words.as_slice() {
        [_, month, day, time, year] if is_year(year) && time.contains(':') => format!("{day} {month} {year} {time}"),
        [_, month, day, time, zone, year] if is_year(year) && time.contains(':') => {
            format!("{day} {month} {year} {time} {zone}")
        }
        _ => text.to_owned(),
    }
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True if the year, which is one of the first three numbers, has its four digits, or all of the date's eight. `Err`: the three
/// have at most two digits each.
fn has_long_year(text: &str) -> Result<bool, Fault> {
    let numbers: Vec<usize> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::len)
        .filter(|length| *length > 0)
        .take(3)
        .collect();
    let has_month_name = text.split(|letter: char| !letter.is_ascii_alphabetic()).any(|word| {
        let word = word.to_ascii_lowercase();
        word.len() >= 3 && MONTHS.iter().any(|month| word.starts_with(month))
    });
    let of_date = &numbers[..numbers.len().min(if has_month_name { 2 } else { 3 })];
    if of_date.iter().any(|length| matches!(length, 4 | 8)) {
        return Ok(true);
    }
    let is_short = of_date.len() >= 2 && of_date.iter().all(|length| *length <= 2);
    if is_short { Err(Fault::TwoDigitYear) } else { Err(Fault::Unknown) }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Normalises blanks: one where a form has several, a comma or the `T` of ISO 8601; a point before fractions of a second.
fn plain(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut plain = String::with_capacity(text.len());
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied().unwrap_or(' ');
        let after = letters.get(at + 1).copied().unwrap_or(' ');
        let between_digits = before.is_ascii_digit() && after.is_ascii_digit();
        match letter {
            'T' | 't' if between_digits => plain.push(' '),
            ',' if between_digits => plain.push('.'),
            ',' => plain.push(' '),
            letter if letter.is_whitespace() => plain.push(' '),
            letter => plain.push(*letter),
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The offset at the end of a date with a time.
fn split_offset(text: &str) -> (&str, Option<Offset>) {
    let rest = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let letters = &text[rest.len()..];
    let named = LETTERS.iter().find(|(name, _)| letters.eq_ignore_ascii_case(name)).map(|(_, hours)| *hours);
    if let Some(offset) = named.and_then(|hours| Offset::from_hours(hours).ok()) {
        return (rest, Some(offset));
    }
    let Some(sign) = text.rfind(['+', '-', '\u{2212}']) else { return (text, None) };
    let (rest, signed) = text.split_at(sign);
    // A date alone ends in a minus and digits as well.
    if !rest.contains(':') && !rest.contains(' ') {
        return (text, None);
    }
    let digits: String = signed.chars().skip(1).filter(|letter| *letter != ':').collect();
    let is_offset = matches!(digits.len(), 2 | 4) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = || {
        let hours: i32 = digits.get(..2)?.parse().ok()?;
        let minutes: i32 = digits.get(2..).filter(|rest| !rest.is_empty()).map_or(Ok(0), str::parse).ok()?;
        let seconds = hours * 3_600 + minutes * 60;
        let sign = if signed.starts_with('+') { 1 } else { -1 };
        (minutes < 60).then_some(sign * seconds)
    };
    match is_offset.then(seconds).flatten().and_then(offset_of) {
        // "GMT+0100", as browsers write it.
        Some(offset) => (rest.trim_end().trim_end_matches("GMT").trim_end_matches("UTC"), Some(offset)),
        None => (text, None),
    }
}

/// Limit of an offset from UTC: no clock on Earth is 15 hours away from it.
const OFFSET_SECONDS_MAX: u32 = 15 * 3_600;

fn offset_of(seconds: i32) -> Option<Offset> {
    let is_one = seconds.unsigned_abs() <= OFFSET_SECONDS_MAX && seconds % 60 == 0;
    is_one.then(|| Offset::from_seconds(seconds).ok()).flatten()
}

fn read_local(text: &str) -> Result<DateTime, Fault> {
    let with = |dates: &[&str]| {
        let forms = dates.iter().flat_map(|date| TIMES.iter().map(move |time| format!("{date}{time}")));
        forms.into_iter().find_map(|form| strtime::parse(&form, text).ok().map(|broken| local_of(&broken)))
    };
    if let Some(read) = with(&DATES) {
        return read;
    }
    let (day_first, month_first) = (with(&DAY_FIRST), with(&MONTH_FIRST));
    match (day_first.and_then(Result::ok), month_first.and_then(Result::ok)) {
        (Some(one), Some(other)) if one != other => Err(Fault::DayOrMonth),
        (Some(read), _) | (None, Some(read)) => Ok(read),
        (None, None) => Err(Fault::Unknown),
    }
}

#[cfg(test)]
mod tests;
