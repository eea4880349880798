//! Addresses in every spelling: the form in which they are compared is its own form, loses no number, and tears down no home
//! for a difference that cannot be seen.

use podero_bridge::domain::customer::Facts;
use podero_bridge::domain::event::{BuildingKey, Details, Event, Field, FieldValue, Happening, Move, Record};
use podero_bridge::domain::{CustomerId, EventId, Timestamp, normal};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

/// Limit of a form's growth, for each byte of its text: no letter has more accents and capitals than that.
const GROWTH_MAX: usize = 18;

/// Limit of a part: five times what a field holds, so that most inputs are short.
const PART_BYTES_MAX: usize = 512;

/// Two addresses, part by part; an empty text says nothing.
#[derive(Clone, Debug)]
struct Spelt {
    before: [String; 5],
    after: [String; 5],
}

const PIECES: [&str; 16] = [
    "Königstraße", "Ko\u{308}nigstr.", "KÖNIGSTRASSE", " 5a", "\u{a0}5 A", "1-3", "1–3", "13", "3/4", ", Top 3",
    "01067", "D-01067", "70 173", "Österreich", "AUT", "\u{feff}\u{200b}",
];

impl Input for Spelt {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut spelt = self.clone();
        let part = mutator.below(5);
        let (own, theirs) = (spelt.after[part].clone(), other.before[part].clone());
        spelt.after[part] = match mutator.below(8) {
            0 => own.nfd().collect(),
            1 => own.to_uppercase(),
            2 => own.replace(' ', "\u{2009} "),
            3 => format!("{own}{}", mutator.one_of(&PIECES)),
            4 => spelt.before[part].clone(),
            5 => own.chars().filter(|letter| *letter != ' ').collect(),
            _ => mutator.text(&own, &theirs),
        };
        if mutator.once_in(4) {
            spelt.before[part] = mutator.text(&spelt.before[part], &own);
        }
        for text in spelt.before.iter_mut().chain(&mut spelt.after) {
            text.truncate(text.floor_char_boundary(PART_BYTES_MAX));
        }
        spelt
    }

    fn bytes(&self) -> usize {
        self.before.iter().chain(&self.after).map(String::len).sum()
    }
}

fn corpus() -> Vec<Spelt> {
    let address = |parts: [&str; 5]| parts.map(str::to_owned);
    let home = || address(["Königstraße 5", "Top 3", "70173", "Stuttgart", "DE"]);
    let others = [
        ["Ko\u{308}nigstr. 5", "top 3", "70 173", "STUTTGART", "Deutschland"],
        ["Königstraße 5a", "Top 3", "70173", "Stuttgart", "DE"],
        ["Ring 1-3", "", "01067", "Dresden", "DEU"],
        ["Ring 13", "3/5", "1067", "Dresden", ""],
    ];
    others.into_iter().map(|after| Spelt { before: home(), after: address(after) }).collect()
}

/// The numbers in a text, each with its place among the others.
fn numbers(text: &str) -> Vec<&str> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect()
}

fn record(parts: &[String; 5]) -> Record {
    let said = Field::ADDRESS.into_iter().zip(parts).filter(|(_, text)| !text.is_empty());
    said.map(|(field, text)| (field, FieldValue::from(text.as_str()))).collect()
}

fn event(second: i64, happening: Happening) -> Event {
    Event {
        id: EventId(Uuid::from_u128(u128::from(second.unsigned_abs()))),
        customer: CustomerId::accept("C-1").expect("a printable id"),
        time: Timestamp::from_micros(second),
        effective_at: None,
        happening,
    }
}

/// Checks the forms of one text.
fn check_forms(field: Field, text: &str) {
    for form in [normal::written, normal::place] {
        let once = form(field, text);
        assert_eq!(form(field, &once), once, "{field:?} {text:?}");
        assert!(once.len() <= text.len() * GROWTH_MAX + GROWTH_MAX, "{field:?} {text:?}");
        let decomposed: String = text.nfd().collect();
        assert_eq!(form(field, &decomposed), once, "{field:?} {text:?}");
    }
    if field == Field::StreetAndNumber {
        let (written, place) = (normal::written(field, text), normal::place(field, text));
        assert_eq!(numbers(&place), numbers(&written), "{text:?}");
    }
}

fn compare(spelt: &Spelt) -> Outcome {
    let mut agree = Vec::new();
    for (field, (before, after)) in Field::ADDRESS.into_iter().zip(spelt.before.iter().zip(&spelt.after)) {
        check_forms(field, before);
        check_forms(field, after);
        let (before, after) = (FieldValue::from(before.as_str()), FieldValue::from(after.as_str()));
        let is_same = normal::is_same_place(field, &before, &after);
        assert_eq!(is_same, normal::is_same_place(field, &after, &before));
        assert!(is_same || !normal::is_written_so(field, &before, &after), "{field:?} {before:?} {after:?}");
        agree.push(is_same);
    }
    let details = Details { address: Some(record(&spelt.before)), ..Details::default() };
    let signed_up = event(10, Happening::SignedUp(details));
    let key = BuildingKey::default();
    let moved = Move { building_key: key.clone(), address: record(&spelt.after), building: Record::new() };
    let facts = Facts::default().merge(&signed_up).facts.merge(&event(20, Happening::Moved(moved))).facts;
    let stored = serde_json::to_string(&facts).expect("facts are JSON");
    assert_eq!(serde_json::from_str::<Facts>(&stored).expect("they read back"), facts);
    let is_torn_down = facts.homes.get(&key).is_some_and(|home| home.is_moved_into);
    let [street, _, zip, town, _] =
        [0, 1, 2, 3, 4].map(|part: usize| !spelt.before[part].is_empty() && !spelt.after[part].is_empty());
    let is_one = agree.iter().all(|agrees| *agrees);
    assert!(!(is_torn_down && is_one && street && (zip || town)), "one home was torn down");
    let numbers_differ = {
        let [before, after] =
            [&spelt.before[0], &spelt.after[0]].map(|text| normal::written(Field::StreetAndNumber, text));
        numbers(&before) != numbers(&after)
    };
    assert!(is_torn_down || !numbers_differ, "another house was taken for the same one");
    let place = format!("{is_torn_down} {agree:?} {street} {zip} {town} {numbers_differ}");
    if is_torn_down { Outcome::refused(place) } else { Outcome::accepted(place) }
}

#[test]
fn fuzz_addresses_one_home_stays_and_another_house_is_another() {
    Target::new("addresses", STACK_BYTES).run(corpus(), compare);
}
