//! Reads a date and time from any form that senders use.
//!
//! Before: nothing. After: [`crate::inbound`].

use jiff::civil;
use jiff::tz::TimeZone;

/// Epoch numbers from this one on are milliseconds: as seconds it would be in the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// Dates, and times after a blank; `T` is read as one.
const DATES: [&str; 4] = ["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%Y%m%d"];
const TIMES: [&str; 3] = [" %H:%M:%S%.f", " %H:%M", ""];

/// RFC 3339: from RFC 3339; from a number of seconds or milliseconds since 1970; or from a date, with a time or midnight,
/// on the clocks of `zone`. An hour that clocks repeat is its first, one that they skip is the one after.
pub fn read(text: &str, zone: &TimeZone) -> Option<String> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.to_string());
    }
    let is_date = text.len() == 8;
    if let (Ok(number), false) = (text.parse::<i64>(), is_date) {
        let millis = if number.unsigned_abs() >= MILLISECONDS_FROM { number } else { number.checked_mul(1_000)? };
        return jiff::Timestamp::from_millisecond(millis).ok().map(|timestamp| timestamp.to_string());
    }
    let text = text.replace('T', " ");
    let forms = DATES.iter().flat_map(|date| TIMES.iter().map(move |time| format!("{date}{time}")));
    let read = |form: String| {
        let broken = jiff::fmt::strtime::parse(&form, &text).ok()?;
        let time = broken.to_time().unwrap_or(civil::Time::midnight());
        Some(broken.to_date().ok()?.to_datetime(time))
    };
    let local = forms.into_iter().find_map(read)?;
    let zoned = local.to_zoned(zone.clone()).ok()?;
    Some(zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string())
}
