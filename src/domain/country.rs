//! The country that a text means: a code of two or three letters, a vehicle plate, or a name in one of the languages that senders
//! use; and the number of digits in its ZIP codes.
//!
//! Before: nothing. After: [`crate::inbound`]'s helpers, and every comparison of addresses.

use celes::Country;
use unicode_normalization::UnicodeNormalization;

/// Names of the countries in which Podero works and of their neighbours, in their own languages, with a `|` between them; English
/// names come with the library.
const LOCAL_NAMES: [(&str, &str); 32] = [
    (
        "DE",
        "deutschland|bundesrepublik deutschland|brd|ger|tyskland|germania|niemcy|saksamaa|saksa|németország|allemagne|\
         alemania|duitsland|německo|nemecko|nemčija|njemačka|vācija|vokietija",
    ),
    (
        "AT",
        "österreich|oesterreich|republik österreich|ausztria|autriche|oostenrijk|österrike|østrig|østerrike|itävalta|\
         rakousko|rakúsko|avstrija|austrija",
    ),
    (
        "CH",
        "schweiz|sui|suisse|svizzera|svizra|svájc|szwajcaria|elveția|elvetia|zwitserland|sveits|sveitsi|šveits|\
         švýcarsko|švajčiarsko|švica|suiza",
    ),
    ("SE", "sverige|schweden|rootsi|svezia|szwecja|svédország|suedia|suède|zweden|ruotsi"),
    ("HU", "magyarország|ungarn|ungern|ungheria|ungaria|węgry|ungari|hongrie|maďarsko|madžarska|mađarska"),
    ("IT", "italia|italien|italie|italië|itaalia|włochy|olaszország|itálie|taliansko|italija"),
    ("EE", "eesti|estland|észtország|igaunija|viro|estonie"),
    ("PL", "polska|polen|lengyelország|polonia|pologne|poola|polsko|poľsko|poljska|puola|lenkija|polija"),
    ("RO", "românia|romania|rumänien|románia|rumunia|roumanie|rumeenia|rumunsko|romunija|rumunjska"),
    ("BE", "belgien|belgië|belgique|belgio|belgia"),
    (
        "GB",
        "great britain|united kingdom|uk|england|scotland|wales|northern ireland|großbritannien|grossbritannien|\
         vereinigtes königreich|royaume-uni|regno unito|storbritannien|suurbritannia",
    ),
    ("LI", "liechtenstein|fürstentum liechtenstein"),
    ("LU", "luxemburg|lëtzebuerg|lussemburgo|luksemburg"),
    (
        "FR",
        "frankreich|frankrike|frankrig|francia|franța|franta|francja|prantsusmaa|frankrijk|francie|francúzsko|francija",
    ),
    (
        "NL",
        "niederlande|nederland|holland|the netherlands|pays-bas|paesi bassi|hollandia|nederländerna|holandia|olanda",
    ),
    ("DK", "dänemark|danmark|dánia|dania|danimarca|danemark|taani|denemarken|danemarca|tanska"),
    ("NO", "norwegen|norge|norvegia|norwegia|norvégia|norvège|norra|noorwegen|norja"),
    ("FI", "finnland|suomi|finlande|finlandia|finnország|soome|finlanda"),
    ("LV", "lettland|latvija|läti|lettország|łotwa"),
    ("LT", "litauen|lietuva|leedu|litvánia|litwa"),
    (
        "CZ",
        "tschechien|tschechische republik|tschechei|czechia|czech republic|česko|česká republika|cesko|čechy|\
         csehország|czechy|tjeckien|cechia|repubblica ceca|cehia",
    ),
    ("SK", "slowakei|slowakische republik|slovensko|slovenská republika|szlovákia|słowacja|slovacchia|slovacia"),
    ("SI", "slowenien|slovenija|szlovénia|słowenia|slovénie"),
    ("HR", "kroatien|hrvatska|horvátország|chorwacja|croazia|croatie"),
    ("RS", "serbien|srbija|szerbia|serbia"),
    ("UA", "ukraina|ukrajna|ucraina|україна"),
    ("ES", "spanien|españa|espana|spagna|espagne|hiszpania|spanyolország|spania"),
    ("PT", "portogallo|portugalia|portugália"),
    ("IE", "irland|éire|irlanda"),
    ("GR", "griechenland|ελλάδα|grecia|grèce|grecja"),
    ("BG", "bulgarien|българия|bulgaria|bułgaria"),
    ("TR", "türkei|türkiye|turchia"),
];

/// Letters of vehicle plates that are no codes of ISO 3166-1. The letters of other countries are one of its codes and mean the
/// same (CH, PL, EST), or are left out because they could be taken for another country's.
#[rustfmt::skip]
const PLATES: [(&str, &str); 14] = [
    ("a", "AT"), ("b", "BE"), ("d", "DE"), ("e", "ES"), ("f", "FR"), ("fin", "FI"), ("fl", "LI"),
    ("h", "HU"), ("i", "IT"), ("l", "LU"), ("n", "NO"), ("p", "PT"), ("s", "SE"), ("slo", "SI"),
];

/// Number of digits of ZIP codes that are numbers of one length in a country: shorter ones are padded to it.
const ZIP_DIGITS: [(usize, &[&str]); 3] = [
    (4, &["AT", "BE", "BG", "CH", "CY", "DK", "HU", "LI", "LU", "NO", "SI"]),
    (5, &["DE", "EE", "ES", "FI", "FR", "GR", "HR", "IT", "LT", "PL", "SE", "CZ", "SK", "TR", "UA", "RS"]),
    (6, &["RO"]),
];

/// The ISO 3166-1 alpha-2 code of a country, from alpha-2, alpha-3, the letters of its plates or a name.
pub fn code(text: &str) -> Option<&'static str> {
    let name = text.nfc().collect::<String>().to_lowercase();
    let is_named = |(_, names): &&(&str, &str)| names.split('|').any(|known| known == name);
    let local = LOCAL_NAMES.iter().find(is_named).map(|(code, _)| *code);
    let plate = || PLATES.iter().find(|(letters, _)| *letters == name).map(|(_, code)| *code);
    if let Some(code) = local.or_else(plate) {
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

/// The number of digits in a country's ZIP codes; `None` if they have letters or differ in length.
pub fn zip_digits(code: &str) -> Option<usize> {
    ZIP_DIGITS.iter().find(|(_, codes)| codes.contains(&code)).map(|(digits, _)| *digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_known_by_code_plate_and_name() {
        for (text, expected) in [
            ("de", Some("DE")),
            ("DEU", Some("DE")),
            ("D", Some("DE")),
            ("Deutschland", Some("DE")),
            ("Germany", Some("DE")),
            ("GER", Some("DE")),
            ("A", Some("AT")),
            ("ÖSTERREICH", Some("AT")),
            ("CH", Some("CH")),
            ("CHE", Some("CH")),
            ("I", Some("IT")),
            ("H", Some("HU")),
            ("S", Some("SE")),
            ("PL", Some("PL")),
            ("FL", Some("LI")),
            ("SLO", Some("SI")),
            ("FIN", Some("FI")),
            ("EST", Some("EE")),
            ("Tschechien", Some("CZ")),
            ("Lengyelország", Some("PL")),
            ("The Netherlands", Some("NL")),
            ("United Kingdom", Some("GB")),
            ("", None),
            ("X", None),
            ("Q", None),
            ("Atlantis", None),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn no_name_means_two_countries_and_no_plate_is_another_countrys_code() {
        let mut names: Vec<&str> = LOCAL_NAMES.iter().flat_map(|(_, names)| names.split('|')).collect();
        names.extend(PLATES.map(|(letters, _)| letters));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for (letters, own) in PLATES {
            let by_iso = Country::from_alpha2(letters).or_else(|_| Country::from_alpha3(letters));
            assert!(by_iso.is_err() || by_iso.is_ok_and(|country| country.alpha2 == own), "{letters}");
        }
        let codes = LOCAL_NAMES.iter().map(|(code, _)| *code).chain(PLATES.map(|(_, code)| code));
        for known in codes.chain(ZIP_DIGITS.iter().flat_map(|(_, codes)| codes.iter().copied())) {
            assert_eq!(code(known), Some(known), "an ISO code means itself");
        }
    }
}
