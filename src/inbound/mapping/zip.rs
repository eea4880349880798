//! A ZIP code as text, read from the forms that spreadsheets and forms give it.
//!
//! Pure. It restores zeros that a number has lost, up to the digits that the caller or the country says; any other fault is
//! refused, since another ZIP code would be another address. Nothing here repeats a ZIP code.
//!
//! Before: [`super::program`], whose helper `zip_code` it is. After: nothing.

use crate::domain::text::is_blank;
use crate::inbound::cells::is_digits;

/// Limit of the digits of a ZIP code: no country's has more. (Podero takes at most twenty characters.)
pub(super) const DIGITS_MAX: usize = 10;

/// Fewest digits of a number that is filled up: a ZIP code that became a shorter one would have lost nearly all of it.
const DIGITS_MIN: usize = 2;

const FRACTION: &str = "a number with a fraction is no ZIP code";
const NEGATIVE: &str = "a number below zero is no ZIP code";
const ZEROS: &str = "zeros alone are no ZIP code";
const FORMULA: &str = "a formula is no ZIP code";
const ONE_DIGIT: &str = "one digit is no ZIP code";

/// All errors of [`read`].
pub(super) const WORDS: [&str; 5] = [FRACTION, NEGATIVE, ZEROS, ONE_DIGIT, FORMULA];

/// The ZIP code in a text that is not blank. A code of digits alone gets zeros in front, up to `digits`; a code with letters,
/// blanks or dashes in it stays, with one plain blank for each gap.
pub(super) fn read(text: &str, digits: Option<usize>) -> Result<String, &'static str> {
    let parts = text.split(is_blank).filter(|part| !part.is_empty());
    let text = parts.collect::<Vec<_>>().join(" ");
    if text.starts_with(['=', '+', '@']) {
        return Err(FORMULA);
    }
    let whole = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|byte| byte == b'0'));
    let text = whole.map_or(text.as_str(), |(whole, _)| whole);
    if let Some((whole, fraction)) = text.split_once(['.', ','])
        && is_digits(whole)
        && (is_digits(fraction) || fraction.is_empty())
    {
        return Err(FRACTION);
    }
    if text.strip_prefix('-').is_some_and(is_digits) {
        return Err(NEGATIVE);
    }
    // `NULL`, `n/a`, `-`: the ZIP codes of every country have a digit.
    if !text.contains(char::is_numeric) {
        return Err("a text without a digit is no ZIP code");
    }
    if !is_digits(text) {
        return Ok(text.to_owned());
    }
    if text.bytes().all(|byte| byte == b'0') {
        return Err(ZEROS);
    }
    let missing = digits.unwrap_or_default().saturating_sub(text.len());
    if missing > 0 && text.len() < DIGITS_MIN {
        return Err(ONE_DIGIT);
    }
    Ok("0".repeat(missing) + text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_come_back_and_what_is_no_zip_code_is_refused() {
        for (text, digits, expected) in [
            ("1067", Some(5), Ok("01067")),
            ("01067", Some(5), Ok("01067")),
            ("1067.0", Some(5), Ok("01067")),
            ("1067.00", Some(5), Ok("01067")),
            ("1067", None, Ok("1067")),
            ("1010", Some(4), Ok("1010")),
            ("118", Some(5), Ok("00118")),
            ("10011", Some(6), Ok("010011")),
            ("012345", Some(5), Ok("012345")),
            ("SW1A\u{a0} 1AA", Some(5), Ok("SW1A 1AA")),
            ("111 23", Some(5), Ok("111 23")),
            ("00-950", Some(5), Ok("00-950")),
            ("D-01067", Some(5), Ok("D-01067")),
            ("=01067", Some(5), Err("formula")),
            ("+01067", Some(5), Err("formula")),
            ("1067,0", Some(5), Err("fraction")),
            ("1067.5", Some(5), Err("fraction")),
            ("1.067", Some(5), Err("fraction")),
            ("1067,", Some(5), Err("fraction")),
            ("NULL", Some(5), Err("without a digit")),
            ("-", None, Err("without a digit")),
            ("-1067", Some(5), Err("below zero")),
            ("0", Some(5), Err("zeros")),
            ("00000", None, Err("zeros")),
            ("7", Some(5), Err("one digit")),
        ] {
            let read = read(text, digits);
            match (&read, expected) {
                (Ok(zip), Ok(expected)) => assert_eq!(zip, expected, "{text}"),
                (Err(why), Err(word)) => assert!(why.contains(word) && !why.contains("1067"), "{text}: {why}"),
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{text}: {read:?}"),
            }
        }
    }
}
