//! The language of a page for a customer: one of those that the partner's Connect pages have.
//!
//! The customer's own word goes first, then what the browser asks for, then the country of the home. A page in a language that the
//! reader did not want has links to the others.
//!
//! Before: nothing. After: [`super::texts`].

use crate::domain::plan::page_language;

/// Languages of the pages, each with its own name, in the order of the links between them. They are those of the partner's pages.
pub const PAGE_LANGUAGES: [(&str, &str); 8] = [
    ("de", "Deutsch"),
    ("en", "English"),
    ("et", "Eesti"),
    ("hu", "Magyar"),
    ("it", "Italiano"),
    ("pl", "Polski"),
    ("ro", "Română"),
    ("sv", "Svenska"),
];

/// Limit of the ranges that are read of `Accept-Language`: browsers send a handful.
const RANGES_MAX: usize = 20;

/// The language that a browser prefers among those of the pages, by the value of `Accept-Language` (RFC 9110, 12.5.4).
pub fn accepted_language(header: &str) -> Option<&'static str> {
    let mut found: Option<(u32, &'static str)> = None;
    for range in header.split(',').take(RANGES_MAX) {
        let mut parts = range.split(';').map(str::trim);
        let Some(language) = parts.next().filter(|tag| *tag != "*").and_then(page_language) else { continue };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1_000), thousandths);
        // Of two that weigh the same the browser names the preferred one first.
        if let Some(weight) = weight.filter(|weight| *weight > found.map_or(0, |(known, _)| known)) {
            found = Some((weight, language));
        }
    }
    found.map(|(_, language)| language)
}

/// A weight such as `0.8`, in thousandths; `None`: it is none.
fn thousandths(weight: &str) -> Option<u32> {
    let weight = weight.trim();
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let is_part = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = [("0", 0), ("1", 1_000)].into_iter().find(|(text, _)| *text == whole)?.1;
    let part: u32 = format!("{part:0<3}").parse().ok().filter(|_| is_part)?;
    Some(whole + part).filter(|weight| *weight <= 1_000)
}

/// The language of a country (ISO 3166-1 alpha-2) in which nearly all customers read it; `None`: there is none, or several.
pub fn language_of_country(country: &str) -> Option<&'static str> {
    match country {
        "AT" | "DE" | "LI" => Some("de"),
        "EE" => Some("et"),
        "HU" => Some("hu"),
        "IT" => Some("it"),
        "PL" => Some("pl"),
        "RO" => Some("ro"),
        "SE" => Some("sv"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::plan::ONBOARDING_LANGUAGES;

    #[test]
    fn the_pages_have_the_languages_of_the_partners_pages() {
        let ours: BTreeSet<&str> = PAGE_LANGUAGES.iter().map(|(code, _)| *code).collect();
        assert_eq!(ours, ONBOARDING_LANGUAGES.into_iter().collect());
    }

    #[test]
    fn the_browser_gets_the_language_that_it_prefers_of_those_there_are() {
        for (header, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some("de")),
            ("fr,en-GB;q=0.7,de;q=0.8", Some("de")),
            ("en;q=0.5, hu", Some("hu")),
            ("pl;q=0.8,sv;q=0.8", Some("pl")),
            ("de;q=0", None),
            ("de;q=0,en;q=0.1", Some("en")),
            ("de;q=2,en;q=0.1", Some("en")),
            ("de;q=x", None),
            ("de;level=1;q=0.3,et;q=0.4", Some("et")),
            ("*", None),
            ("fr,*;q=0.5", None),
            ("", None),
            (",;q=1", None),
            ("<script>", None),
        ] {
            assert_eq!(accepted_language(header), expected, "{header}");
        }
        let long = "fr,".repeat(RANGES_MAX) + "de";
        assert_eq!(accepted_language(&long), None, "only the beginning of a long header is read");
    }

    #[test]
    fn a_country_with_one_language_says_which() {
        assert_eq!([language_of_country("AT"), language_of_country("SE")], [Some("de"), Some("sv")]);
        assert_eq!([language_of_country("CH"), language_of_country("de"), language_of_country("")], [None; 3]);
    }
}
