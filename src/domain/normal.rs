//! The normal forms of texts that people and systems write in more than one way: addresses, ZIP codes, countries, e-mail
//! addresses.
//!
//! One function for each of two strengths. [`is_written_so`] ignores differences that a reader cannot see: the Unicode form, the
//! kind and number of blanks, invisible characters, the format of a country; it decides whether Podero needs a write.
//! [`is_same_place`] ignores spelling as well: case, `ß` and umlauts written out, `Str.`, a ZIP code without its zeros or with
//! its country in front; it decides whether a home is the same one, and a wrong "no" would tear the home down. Neither ever joins
//! two house numbers: a blank between two digits stays. This file does not concern ids: they are compared exactly.
//!
//! Before: [`crate::domain::event`]. After: [`crate::domain::customer`].

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::country;
use super::event::{Field, FieldValue};
use super::text::{half_width, is_blank};

/// Limit of a text that is compared by its form; a longer one is compared letter by letter. Forty times the length of Podero's
/// longest field: only an answer that is not Podero's has a longer text.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

fn is_long(value: &FieldValue) -> bool {
    value.as_text().is_some_and(|text| text.len() > TEXT_BYTES_MAX)
}

/// True if a field that shows one value needs no write to show the other. A number is the text of its digits, and a ZIP code that
/// is shown as a number has lost its leading zeros on the way.
pub fn is_written_so(field: Field, shown: &FieldValue, wanted: &FieldValue) -> bool {
    if shown == wanted || is_long(shown) || is_long(wanted) {
        return shown == wanted;
    }
    match (shown, wanted) {
        (FieldValue::Text(shown), FieldValue::Text(wanted)) => written(field, shown) == written(field, wanted),
        (FieldValue::Number(number), FieldValue::Text(text)) | (FieldValue::Text(text), FieldValue::Number(number)) => {
            let text = written(field, text);
            let digits = if field == Field::ZipCode { without_zeros(&text) } else { &text };
            digits == number.to_string()
        }
        (FieldValue::Flag(_), _) | (_, FieldValue::Flag(_)) | (FieldValue::Number(_), FieldValue::Number(_)) => false,
    }
}

/// True if two values of one part of an address, or the names of two buildings, mean the same place.
pub fn is_same_place(field: Field, one: &FieldValue, other: &FieldValue) -> bool {
    if one == other || is_long(one) || is_long(other) {
        return one == other;
    }
    match (line(one), line(other)) {
        (Some(one), Some(other)) => {
            let (one, other) = (place(field, &one), place(field, &other));
            // A town is compared together with its ZIP code, so its accents may be missing: Malmö, Malmo.
            one == other || (field == Field::Town && without_accents(&one) == without_accents(&other))
        }
        (None, _) | (_, None) => false,
    }
}

/// A town's form without the accents, or without the letters that stand for them.
fn without_accents(place: &str) -> String {
    let plain: String = place.nfd().filter(|letter| letter.is_alphanumeric()).collect();
    plain.replace("ae", "a").replace("oe", "o").replace("ue", "u").replace('ł', "l").replace('ø', "o")
}

fn line(value: &FieldValue) -> Option<Cow<'_, str>> {
    match value {
        FieldValue::Text(text) => Some(Cow::Borrowed(text)),
        FieldValue::Number(number) => Some(Cow::Owned(number.to_string())),
        FieldValue::Flag(_) => None,
    }
}

/// The form in which texts are compared before Podero is written to.
pub fn written(field: Field, text: &str) -> String {
    let text = visible(text);
    match field {
        Field::Country => country(&text),
        Field::ZipCode => without_blanks(&text),
        Field::Email => email(&text),
        Field::FirstName
        | Field::LastName
        | Field::Language
        | Field::StreetAndNumber
        | Field::StreetAddInfo
        | Field::Town
        | Field::Name
        | Field::PropertyType
        | Field::OccupantType
        | Field::SpaceHeating
        | Field::WaterHeating
        | Field::PropertySizeM2
        | Field::PropertyAge
        | Field::NumOccupants
        | Field::Photovoltaic => text,
    }
}

/// The form in which places are compared.
pub fn place(field: Field, text: &str) -> String {
    let text = visible(text);
    match field {
        Field::Country => country(&text),
        Field::ZipCode => zip(&text),
        Field::Email
        | Field::FirstName
        | Field::LastName
        | Field::Language
        | Field::StreetAndNumber
        | Field::StreetAddInfo
        | Field::Town
        | Field::Name
        | Field::PropertyType
        | Field::OccupantType
        | Field::SpaceHeating
        | Field::WaterHeating
        | Field::PropertySizeM2
        | Field::PropertyAge
        | Field::NumOccupants
        | Field::Photovoltaic => spoken(&text),
    }
}

/// The text that a reader sees: composed letters, single blanks, none at the ends.
fn visible(text: &str) -> String {
    let shown: String = half_width(text).nfc().filter(|letter| letter.is_whitespace() || !is_blank(*letter)).collect();
    // Composed again: a character between a letter and its accent may be gone.
    let composed: String = shown.nfc().collect();
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Limit of a text that is looked up as a country: no country's name is longer, and a look-up takes time.
const COUNTRY_BYTES_MAX: usize = 128;

/// The country's code, from any known format; otherwise the text in one case. Podero's pages show codes of two and three letters
/// and names.
fn country(text: &str) -> String {
    let folded = folded(text);
    if folded.len() > COUNTRY_BYTES_MAX {
        return folded;
    }
    country::code(text).or_else(|| country::code(&folded)).map_or(folded, str::to_lowercase)
}

/// The host is case-insensitive (RFC 5321 §2.4). The part before the `@` may not be, and no page says whether Podero
/// distinguishes case: a correction of the case must reach it.
fn email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((local, host)) => format!("{local}@{}", host.to_lowercase()),
        None => text.to_owned(),
    }
}

/// Letters and digits alone, without the mark of a country in front (`D-70173`) and without leading zeros.
fn zip(text: &str) -> String {
    let text = folded(&without_blanks(text));
    let code: String = text.chars().filter(|letter| letter.is_alphanumeric()).collect();
    let mut code = code.as_str();
    // Zeros may stand before a mark as well as behind it.
    loop {
        let bare = without_mark(without_zeros(code));
        if bare == code {
            return bare.to_owned();
        }
        code = bare;
    }
}

fn without_mark(code: &str) -> &str {
    let digits = code.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let mark = &code[..code.len() - digits.len()];
    let has_digits_alone = digits.len() >= MARKED_DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_digit());
    if has_digits_alone && is_mark(mark) { digits } else { code }
}

/// Composed again, since an accent may have stood behind a blank.
fn without_blanks(text: &str) -> String {
    text.chars().filter(|letter| *letter != ' ').nfc().collect()
}

/// Minimum of a ZIP code's digits behind a country's mark: `SW1` is no code of a country SW.
const MARKED_DIGITS_MIN: usize = 3;

/// The mark of a country on a letter: a plate or a code.
fn is_mark(text: &str) -> bool {
    (1..=3).contains(&text.len()) && country::code(text).is_some()
}

fn without_zeros(code: &str) -> &str {
    code.trim_start_matches('0')
}

/// A line of an address as people say it: `Königstraße 5 a`, `KOENIGSTR. 5A` and `Königstrasse 5a,` are the same.
fn spoken(text: &str) -> String {
    let text = parted(&text.replace([',', ';', '(', ')'], " "));
    let text = text.trim_end_matches(|letter: char| letter == '.' || letter.is_whitespace());
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        // `1 3` is a staircase and a door, `13` a house.
        let digits_meet =
            joined.ends_with(|last: char| last.is_numeric()) && word.starts_with(|first: char| first.is_numeric());
        if digits_meet {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    streets_in_full(&folded(&joined))
}

/// A hyphen between two letters and a dot that is none of a number part words, as a blank does. The dot of `Str.` stays, since it
/// stands for letters.
fn parted(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    // Blanks, dots and accents between them count for nothing, since the words are joined afterwards.
    let is_nothing = |letter: &&char| letter.is_whitespace() || **letter == '.' || is_combining_mark(**letter);
    let nearest = |found: Option<&char>| found.copied().unwrap_or(' ');
    let is_of_street = |end: usize| {
        let word: String = letters[end.saturating_sub(3)..end].iter().collect();
        word.eq_ignore_ascii_case("str")
    };
    let part = |(place, letter): (usize, &char)| {
        let before = nearest(letters[..place].iter().rev().find(|letter| !is_nothing(letter)));
        let after = nearest(letters[place + 1..].iter().find(|letter| !is_nothing(letter)));
        let is_parting = match letter {
            '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => before.is_alphabetic() && after.is_alphabetic(),
            '.' => !(is_of_street(place) || (before.is_numeric() && after.is_numeric())),
            _ => false,
        };
        if is_parting { ' ' } else { *letter }
    };
    letters.iter().enumerate().map(part).collect()
}

/// `str` and `str.` at the end of a word are `strasse`.
fn streets_in_full(text: &str) -> String {
    let mut rest = text;
    let mut full = String::with_capacity(text.len());
    while let Some(at) = rest.find("str") {
        let (before, after) = (&rest[..at], &rest[at + "str".len()..]);
        full.push_str(before);
        if after.starts_with(char::is_alphabetic) {
            full.push_str("str");
            rest = after;
        } else {
            full.push_str("strasse");
            rest = after.strip_prefix('.').unwrap_or(after);
        }
    }
    full.push_str(rest);
    full
}

/// One case, `ß` as `ss`, umlauts written out, one kind of hyphen and apostrophe.
fn folded(text: &str) -> String {
    // By way of the upper case, which writes `ß` and the ligatures out; but the capital `ẞ` is its own.
    let one_case = text.nfd().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let mut folded = String::with_capacity(text.len());
    for letter in one_case.nfd() {
        let last = folded.chars().next_back();
        match (last, letter) {
            (Some('a' | 'o' | 'u'), '\u{308}') => folded.push('e'),
            // Romanian letters are written with a cedilla where a comma is meant.
            (_, '\u{327}') => folded.push('\u{326}'),
            (_, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}') => folded.push('-'),
            (_, '\u{2018}' | '\u{2019}' | '\u{b4}' | '`') => folded.push('\''),
            (_, letter) => folded.push(letter),
        }
    }
    folded.nfd().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: [Field; 4] = [Field::StreetAndNumber, Field::StreetAddInfo, Field::Town, Field::Name];

    fn same(field: Field, one: &str, other: &str) -> bool {
        let same = is_same_place(field, &one.into(), &other.into());
        assert_eq!(same, is_same_place(field, &other.into(), &one.into()), "{one} {other}");
        same
    }

    #[test]
    fn one_place_in_many_spellings() {
        let street = "Königstraße 5a";
        for other in [
            "Ko\u{308}nigstraße 5a",
            "Königstraße  5a ",
            "Königstraße\u{a0}5a",
            "Königstraße\u{2009}\t5a",
            "Königstraße\n5a",
            "\u{feff}König\u{200b}straße 5a",
            "KÖNIGSTRASSE 5A",
            "königstraße 5 A",
            "KÖNIGSTRAẞE 5a",
            "Koenigstrasse 5a",
            "Königstr. 5a",
            "Königstr 5a",
            "Königstr.5a",
            "Königstraße 5a,",
        ] {
            assert!(same(Field::StreetAndNumber, street, other), "{other}");
        }
        for (field, one, other) in [
            (Field::StreetAndNumber, "Straße des 17. Juni 5", "Str. des 17.Juni 5"),
            (Field::StreetAndNumber, "Ring 1-3", "Ring 1 – 3"),
            (Field::StreetAndNumber, "Ring 9/3/4", "Ring 9 / 3 / 4"),
            (Field::StreetAndNumber, "Kossuth utca 5", "Kossuth utca 5."),
            (Field::StreetAndNumber, "Strada Ştefan 5", "Strada Ștefan 5"),
            (Field::StreetAndNumber, "O'Connell 5", "O’Connell 5"),
            (Field::StreetAddInfo, "Top 3, Stiege 2", "top 3 stiege 2"),
            (Field::Town, "MÜNCHEN", "Muenchen"),
            (Field::ZipCode, "70173", "70 173"),
            (Field::ZipCode, "70173", "70\u{202f}173"),
            (Field::ZipCode, "70173", "D-70173"),
            (Field::ZipCode, "70173", "D 70173"),
            (Field::ZipCode, "70173", "DE70173"),
            (Field::ZipCode, "70173", "\u{ff17}\u{ff10}173"),
            (Field::StreetAndNumber, "Heinrich-Heine-Straße 5", "Heinrich Heine Straße \u{ff15}"),
            (Field::StreetAndNumber, "Dr.-Müller-Str. 5", "Dr. Müller Str. 5"),
            (Field::StreetAndNumber, "St. Anna Weg 5", "St Anna Weg 5"),
            (Field::StreetAndNumber, "Platz der 17. Juni 5 (Hinterhaus)", "Platz der 17 Juni 5 Hinterhaus"),
            (Field::Town, "Villingen-Schwenningen", "Villingen Schwenningen"),
            (Field::Town, "Malmö", "Malmo"),
            (Field::Town, "București", "Bucuresti"),
            (Field::Town, "Łódź", "Lodz"),
            (Field::ZipCode, "01067", "1067"),
            (Field::ZipCode, "111 22", "SE-11122"),
            (Field::ZipCode, "1012 AB", "1012ab"),
            (Field::Country, "DE", "de"),
            (Field::Country, "DE", "DEU"),
            (Field::Country, "Deutschland", "de"),
            (Field::Country, "O\u{308}sterreich", "AUT"),
            (Field::Country, "Nowhere", " NOWHERE"),
        ] {
            assert!(same(field, one, other), "{one} {other}");
        }
        assert!(is_same_place(Field::ZipCode, &FieldValue::Number(1_067), &"01067".into()));
    }

    #[test]
    fn places_that_differ() {
        for (field, one, other) in [
            (Field::StreetAndNumber, "Königstraße 5", "Königstraße 5a"),
            (Field::StreetAndNumber, "Königstraße 3/4", "Königstraße 3/5"),
            (Field::StreetAndNumber, "Königstraße 1-3", "Königstraße 13"),
            (Field::StreetAndNumber, "Königstraße 1/3", "Königstraße 13"),
            (Field::StreetAndNumber, "Königstraße 1 3", "Königstraße 13"),
            (Field::StreetAndNumber, "Königstraße 1, 3", "Königstraße 13"),
            (Field::StreetAndNumber, "Königstraße 1.3", "Königstraße 13"),
            (Field::StreetAndNumber, "Königstraße 1–3", "Königstraße 1/3"),
            (Field::StreetAndNumber, "Königstraße 5", "Königsplatz 5"),
            (Field::StreetAndNumber, "Mühlweg 5", "Muhlweg 5"),
            (Field::StreetAddInfo, "Top 3", "Top 4"),
            (Field::ZipCode, "70173", "70174"),
            (Field::ZipCode, "SW1", "NW1"),
            (Field::ZipCode, "A 1010", "A 1020"),
            (Field::StreetAndNumber, "Weg 5-7", "Weg 57"),
            (Field::StreetAndNumber, "Weg 5 (3)", "Weg 53"),
            (Field::Town, "Wien", "Linz"),
            (Field::ZipCode, "1010", "10100"),
            (Field::ZipCode, "1012 AB", "1012 AC"),
            (Field::Town, "Frankfurt", "Frankfurt am Main"),
            (Field::Country, "DE", "AT"),
            (Field::Country, "DE", "AUT"),
            (Field::Country, "Deutschland", "AT"),
            (Field::Country, "Nowhere", "Elsewhere"),
            (Field::Country, "Nowhere", "DE"),
        ] {
            assert!(!same(field, one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_no_reader_sees_needs_no_write_and_a_correction_does() {
        let text = |text: &str| FieldValue::from(text);
        for (field, shown, wanted, expected) in [
            (Field::StreetAndNumber, text("Königstraße 5"), text("Ko\u{308}nigstraße  5"), true),
            (Field::StreetAndNumber, text("KÖNIGSTRASSE 5"), text("Königstraße 5"), false),
            (Field::StreetAndNumber, text("Königstr. 5"), text("Königstraße 5"), false),
            (Field::FirstName, text("anna"), text("Anna"), false),
            (Field::FirstName, text("Anna\u{a0}Maria"), text("Anna Maria"), true),
            (Field::ZipCode, text("111 22"), text("11122"), true),
            (Field::ZipCode, text("1067"), text("01067"), false),
            (Field::ZipCode, FieldValue::Number(1_067), text("01067"), true),
            (Field::ZipCode, FieldValue::Number(1_068), text("01067"), false),
            (Field::Country, text("Germany"), text("DE"), true),
            (Field::Country, text("DE"), text("DEU"), true),
            (Field::Country, text("DE"), text("AUT"), false),
            (Field::Email, text("Anna@Example.COM"), text("Anna@example.com"), true),
            (Field::Email, text("Anna@example.com"), text("anna@example.com"), false),
            (Field::NumOccupants, FieldValue::Number(3), FieldValue::Number(4), false),
            (Field::NumOccupants, FieldValue::Number(3), text("3"), true),
            (Field::Photovoltaic, FieldValue::Flag(true), text("true"), false),
        ] {
            assert_eq!(is_written_so(field, &shown, &wanted), expected, "{shown:?} {wanted:?}");
        }
    }

    /// Blanks, letters with their accents apart, and letters of several scripts and cases.
    fn lines() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("Königstraße".to_owned()),
            Just("str.".to_owned()),
            Just("STR".to_owned()),
            "[ \u{a0}\u{2003}\u{200b}]{0,3}",
            "[0-9]{1,3}[a-c]?",
            "[-/,.–]",
            "\\PC{0,6}",
            "[aous\u{308}\u{327}\u{326}\u{304}ßıŠ]{0,4}",
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in lines()) {
            for field in LINES.into_iter().chain([Field::ZipCode, Field::Country, Field::Email]) {
                for form in [written, place] {
                    let once = form(field, &text);
                    prop_assert_eq!(form(field, &once), once, "{:?} {:?}", field, text);
                }
            }
        }

        #[test]
        fn the_unicode_form_and_the_blanks_make_no_difference(text in lines()) {
            let decomposed: String = text.nfd().collect();
            let composed: String = text.nfc().collect();
            let spaced = format!("\u{a0} {}\u{2009}\n", text.replace(' ', " \u{202f} "));
            for field in LINES.into_iter().chain([Field::ZipCode, Field::Country]) {
                for other in [&decomposed, &composed, &spaced] {
                    prop_assert_eq!(written(field, &text), written(field, other));
                    prop_assert_eq!(place(field, &text), place(field, other));
                }
            }
        }

        #[test]
        fn the_case_makes_no_difference_to_a_place(text in "([A-Za-z0-9 .,/\\-]|[äöüßÄÖÜẞéáíőűåšžõăâîșțłęąńŐŰÅŠŽÕ]|str\\.?){0,30}") {
            for field in LINES.into_iter().chain([Field::ZipCode]) {
                prop_assert_eq!(place(field, &text), place(field, &text.to_uppercase()), "{:?}", text);
                prop_assert_eq!(place(field, &text), place(field, &text.to_lowercase()), "{:?}", text);
            }
        }

        #[test]
        fn house_numbers_that_differ_stay_different(
            (one, other) in ("[1-9][0-9]{0,2}([a-f]|[-/ ][1-9][0-9]?)?", "[1-9][0-9]{0,2}([a-f]|[-/ ][1-9][0-9]?)?"),
        ) {
            let street = |number: &str| FieldValue::from(format!("Königstr. {number}"));
            let same = is_same_place(Field::StreetAndNumber, &street(&one), &street(&other));
            prop_assert_eq!(same, one == other, "{} {}", one, other);
        }
    }
}
