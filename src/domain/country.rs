//! Which country a text means: a code of two or three letters, or a name in one of the languages that senders use.
//!
//! Before: nothing. After: [`crate::inbound`]'s helpers, and whatever compares addresses.

use celes::Country;

/// What the countries in which Podero works call themselves and their neighbours; English names come with the library.
const LOCAL_NAMES: [(&str, &str); 40] = [
    ("deutschland", "DE"),
    ("bundesrepublik deutschland", "DE"),
    ("brd", "DE"),
    ("tyskland", "DE"),
    ("germania", "DE"),
    ("niemcy", "DE"),
    ("saksamaa", "DE"),
    ("németország", "DE"),
    ("österreich", "AT"),
    ("oesterreich", "AT"),
    ("ausztria", "AT"),
    ("schweiz", "CH"),
    ("suisse", "CH"),
    ("svizzera", "CH"),
    ("svizra", "CH"),
    ("sverige", "SE"),
    ("schweden", "SE"),
    ("rootsi", "SE"),
    ("magyarország", "HU"),
    ("ungarn", "HU"),
    ("italia", "IT"),
    ("italien", "IT"),
    ("eesti", "EE"),
    ("estland", "EE"),
    ("polska", "PL"),
    ("polen", "PL"),
    ("românia", "RO"),
    ("romania", "RO"),
    ("rumänien", "RO"),
    ("belgien", "BE"),
    ("belgië", "BE"),
    ("belgique", "BE"),
    ("great britain", "GB"),
    ("united kingdom", "GB"),
    ("uk", "GB"),
    ("liechtenstein", "LI"),
    ("luxemburg", "LU"),
    ("frankreich", "FR"),
    ("niederlande", "NL"),
    ("nederland", "NL"),
];

/// The ISO 3166-1 alpha-2 code of a country, from alpha-2, alpha-3 or a name.
pub fn code(text: &str) -> Option<&'static str> {
    let name = text.to_lowercase();
    if let Some((_, code)) = LOCAL_NAMES.iter().find(|(known, _)| *known == name) {
        return Some(code);
    }
    // The library's names have no blanks.
    let joined: String = name.chars().filter(|letter| letter.is_alphanumeric()).collect();
    let found = match name.chars().count() {
        2 => Country::from_alpha2(&name),
        3 => Country::from_alpha3(&name).or_else(|_| Country::from_alias(&joined)),
        _ => Country::from_name(&joined).or_else(|_| Country::from_alias(&joined)),
    };
    found.ok().map(|country| country.alpha2)
}
