//! A text as a table or a form has it: blanks of every kind around it, no content, or damage by a spreadsheet.
//!
//! Pure. A text that a spreadsheet has damaged is refused, since the original cannot be known. An error here names the kind of
//! damage and never the text.
//!
//! Before: nothing. After: [`super::lines`] for the cells of a table, [`super::mapping`] for its helpers.

use crate::domain::text::trim;

/// The reasons why a text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// A formula that failed.
    #[error("a spreadsheet's error, such as #N/A or #REF!")]
    Failed,
    /// A number or date in a column that was too narrow for it.
    #[error("number signs, which a spreadsheet shows in a column that is too narrow")]
    Narrow,
    /// A long number.
    #[error("a number that a spreadsheet has shortened, such as 4.71E+11")]
    Shortened,
}

impl Damage {
    /// All kinds of damage.
    pub(super) const ALL: [Self; 3] = [Self::Failed, Self::Narrow, Self::Shortened];
}

/// Errors of Excel and LibreOffice that end neither in `!` nor in `?`, in the languages of Podero's countries.
const ERRORS: [&str; 9] = ["#N/A", "#NV", "#N/D", "#N/B", "#I/T", "#HIÁNYZIK", "#SAKNAS", "#PUUDUB", "#GETTING_DATA"];

/// Fewest number signs that a spreadsheet shows in a column that is too narrow.
const SIGNS_MIN: usize = 3;

/// The text without the blanks around it; `None`: nothing is left.
pub(super) fn trimmed(text: &str) -> Option<&str> {
    let text = trim(text);
    (!text.is_empty()).then_some(text)
}

/// The meaning of a cell's text. `None`: nothing. Excel's way to keep zeros (`="01067"`) means the text in it.
pub(super) fn read(text: &str) -> Result<Option<&str>, Damage> {
    let Some(text) = trimmed(text) else { return Ok(None) };
    match damage(text) {
        Some(damage) => Err(damage),
        None => Ok(kept_as_text(text).map_or(Some(text), trimmed)),
    }
}

/// The text in `="…"`, the formula that keeps a spreadsheet from taking it for a number; or the digits behind the apostrophe
/// that does the same. (Before letters it is one: 's-Hertogenbosch.)
pub(super) fn kept_as_text(text: &str) -> Option<&str> {
    if let Some(digits) = text.strip_prefix('\'') {
        return is_digits(digits).then_some(digits);
    }
    let inner = text.strip_prefix("=\"")?.strip_suffix('"')?;
    (!inner.contains('"')).then_some(inner)
}

/// The damage that a spreadsheet has done to a text without blanks around it.
pub(super) fn damage(text: &str) -> Option<Damage> {
    if let Some(rest) = text.strip_prefix('#') {
        let is_narrow = text.len() >= SIGNS_MIN && rest.chars().all(|letter| letter == '#');
        let is_word = |letter: char| letter.is_uppercase() || matches!(letter, '/' | '_' | '0' | '¡' | '¿');
        let is_error = rest.strip_suffix(['!', '?']).is_some_and(|word| !word.is_empty() && word.chars().all(is_word));
        return if is_narrow {
            Some(Damage::Narrow)
        } else if is_error || ERRORS.contains(&text) {
            Some(Damage::Failed)
        } else {
            None
        };
    }
    if text.strip_prefix("Err:").is_some_and(|number| number.len() == 3 && is_digits(number)) {
        return Some(Damage::Failed);
    }
    is_shortened(text).then_some(Damage::Shortened)
}

/// `4,71E+11`: one digit, perhaps more behind a point or comma, and a signed exponent of at least two digits.
fn is_shortened(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once('E') else { return false };
    let number = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    let has_exponent =
        exponent.strip_prefix(['+', '-']).is_some_and(|digits| (2..=3).contains(&digits.len()) && is_digits(digits));
    whole.len() == 1 && is_digits(whole) && is_digits(fraction) && has_exponent
}

/// `true` if there are digits and nothing else.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_its_text_nothing_or_damaged() {
        for (text, expected) in [
            ("", Ok(None)),
            (" \t\r\n", Ok(None)),
            ("\u{a0}\u{200b}\u{feff}", Ok(None)),
            ("\u{1a}", Ok(None)),
            ("=\"\"", Ok(None)),
            ("=\" \"", Ok(None)),
            (" a b\u{a0}", Ok(Some("a b"))),
            ("=\"01067\"", Ok(Some("01067"))),
            (" =\" 01067 \" ", Ok(Some("01067"))),
            ("'01067", Ok(Some("01067"))),
            ("'s-Hertogenbosch", Ok(Some("'s-Hertogenbosch"))),
            ("Weg 1\nHinterhaus", Ok(Some("Weg 1\nHinterhaus"))),
            // These only look like damage.
            ("#", Ok(Some("#"))),
            ("##", Ok(Some("##"))),
            ("#12", Ok(Some("#12"))),
            ("#hashtag", Ok(Some("#hashtag"))),
            ("# 4!", Ok(Some("# 4!"))),
            ("=1+1", Ok(Some("=1+1"))),
            ("4E12", Ok(Some("4E12"))),
            ("E+11", Ok(Some("E+11"))),
            ("12E+11", Ok(Some("12E+11"))),
            ("1E+1", Ok(Some("1E+1"))),
            ("Err:none", Ok(Some("Err:none"))),
            ("#NV", Err(Damage::Failed)),
            (" #N/A ", Err(Damage::Failed)),
            ("#REF!", Err(Damage::Failed)),
            ("#BEZUG!", Err(Damage::Failed)),
            ("#ÉRTÉK!", Err(Damage::Failed)),
            ("#NAME?", Err(Damage::Failed)),
            ("#DIV/0!", Err(Damage::Failed)),
            ("#¡VALOR!", Err(Damage::Failed)),
            ("Err:502", Err(Damage::Failed)),
            ("########", Err(Damage::Narrow)),
            ("4,71E+11", Err(Damage::Shortened)),
            ("4.71E+11", Err(Damage::Shortened)),
            ("5E-05", Err(Damage::Shortened)),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
