//! Dates: all that is read lies within the bounds, and its year stands in the text; nothing is read twice in two ways.

use jiff::tz::TimeZone;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::date::{self, EARLIEST, Fault, LATEST};

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "Europe/Warsaw", "Europe/Tallinn", "America/New_York", "Pacific/Kiritimati"];

const FORMS: [&str; 6] = ["", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%Y-%m-%d %H:%M %z", "%Q%d%"];

/// Texts to begin with, next to those of the senders' page.
const TEXTS: [&str; 14] = [
    "2026-12-31T23:59:59.999999999Z",
    "20261231T235959+0100",
    "Thu Dec 31 2026 00:00:00 GMT+0100 (Central European Standard Time)",
    "December 31, 2026 11:59 PM",
    "2026-12-31 00:00:00 CEST",
    "31. 12. 2026",
    "1798675200000000000",
    "639345312000000000",
    "/Date(-62135596800000+0060)/",
    "-1798675200",
    "1e400",
    "\u{feff}31.12.2026\u{a0}",
    "24:00 31.12.2026",
    "2026-02-29",
];

#[derive(Clone, Debug)]
struct Date {
    text: String,
    zone: usize,
    form: usize,
}

impl Input for Date {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut date = self.clone();
        if mutator.once_in(4) {
            date.zone = mutator.below(ZONES.len());
        }
        if mutator.once_in(8) {
            date.form = mutator.below(FORMS.len());
        }
        // A digit for a digit keeps the form, and is what senders get wrong.
        let digits: Vec<usize> =
            date.text.match_indices(|letter: char| letter.is_ascii_digit()).map(|(at, _)| at).collect();
        if !digits.is_empty() && !mutator.once_in(3) {
            let at = digits[mutator.below(digits.len())];
            date.text.replace_range(at..=at, mutator.one_of(&["0", "1", "2", "3", "5", "9", "", "00", " ", "."]));
        } else {
            date.text = mutator.text(&self.text, &other.text);
        }
        date
    }

    fn bytes(&self) -> usize {
        self.text.len()
    }
}

fn is_within(moment: Timestamp) -> bool {
    moment > EARLIEST && moment < LATEST
}

/// Says whether the text has the year of the result, or one next to it (offsets). A number since 1970 has at least nine digits.
fn says_its_year(text: &str, read: &str) -> bool {
    let year: i32 = read[..4].parse().expect("RFC 3339");
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    [year - 1, year, year + 1].iter().any(|year| text.contains(&year.to_string())) || digits >= 9
}

fn check(date: &Date) -> Outcome {
    let zone = TimeZone::get(ZONES[date.zone]).expect("it is bundled");
    let exact = date::read_exact(&date.text);
    if let Ok(moment) = exact {
        assert!(is_within(moment) && says_its_year(&date.text, &moment.to_string()), "{moment}");
    }
    let form = FORMS[date.form];
    let read = if form.is_empty() { date::read(&date.text, &zone) } else { date::read_as(&date.text, form, &zone) };
    let place = |fault: Fault| format!("{fault:?} {}", date.form);
    match read {
        Ok(read) => {
            let moment = Timestamp::parse(&read).unwrap_or_else(|| panic!("{read} is no RFC 3339"));
            assert!(is_within(moment), "{read}");
            if form.is_empty() {
                assert!(says_its_year(&date.text, &read), "{read}");
                assert!(exact.is_err() || exact == Ok(moment), "read in two ways: {read}");
                assert_eq!(date::read(&read, &zone).map(|again| Timestamp::parse(&again)), Ok(Some(moment)));
            }
            Outcome::accepted(format!("{} {} {}", date.form, exact.is_ok(), shape(&date.text)))
        }
        Err(fault) => Outcome::refused(place(fault)),
    }
}

/// The form of a text: digits and letters are alike.
fn shape(text: &str) -> String {
    let kind = |letter: char| match letter {
        '0'..='9' => '9',
        letter if letter.is_alphabetic() => 'a',
        letter => letter,
    };
    let mut shape: Vec<char> = text.chars().map(kind).collect();
    shape.dedup();
    shape.into_iter().take(24).collect()
}

#[test]
fn fuzz_dates_what_is_read_was_meant() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SENDERS.md")).expect("text");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let texts = rows.map(|(text, _)| text).chain(TEXTS);
    let corpus: Vec<Date> = texts.map(|text| Date { text: text.to_owned(), zone: 1, form: 0 }).collect();
    let read = corpus.iter().filter(|date| check(date).is_accepted).count();
    assert!(read >= 20 && read < corpus.len(), "some are read, and some are not: {read}");
    Target::new("dates", STACK_BYTES).run(corpus, check);
}
