//! Facts merge in any order of arrival; the records that Podero holds change only by Podero's answers.

use proptest::prelude::*;

use super::super::call::UserFound;
use super::super::fixtures::*;
use super::*;

fn merge_all(events: &[Event]) -> Facts {
    customer_with(events).facts
}

fn home(facts: &Facts) -> &Home {
    facts.homes.get(&BuildingKey::default()).expect("the customer has a home")
}

fn with_building(details: Details, fields: &[(Field, &str)]) -> Details {
    Details { building: Some(record(fields)), ..details }
}

fn at_home(street: &str) -> Details {
    Details { address: Some(address(street)), ..Details::default() }
}

/// One building attribute of the home; tests use the type's and the heating's.
fn attribute(facts: &Facts, field: Field) -> Option<&str> {
    home(facts).attributes.get(&field).and_then(|fact| fact.value.as_text())
}

fn street(facts: &Facts) -> Option<&str> {
    home(facts).address.as_ref().and_then(|fact| fact.value.get(&Field::StreetAndNumber)?.as_text())
}

#[test]
fn the_newest_word_about_each_personal_field_wins() {
    let facts = merge_all(&[
        event(10, Happening::SignedUp(personal(&PERSON))),
        event(30, updated(personal(&[(Field::FirstName, "newest")]))),
    ]);
    let late = personal(&[(Field::FirstName, "late"), (Field::LastName, "late")]);
    let merged = facts.merge(&event(20, updated(late)));
    assert_eq!(merged.facts.personal_text(Field::FirstName), Some("newest"));
    assert_eq!(merged.facts.personal_text(Field::LastName), Some("late"));
    assert_eq!(merged.facts.personal_text(Field::Email), Some("c1@example.com"));
    assert_eq!((merged.accepted, merged.stale), (1, vec!["first_name".to_owned()]));
    assert_eq!(merged.newer, [format!("a newer first_name (event {})", stamp(30).event)]);
}

/// A late older update still corrects the name but not the home that was left.
#[test]
fn a_late_update_corrects_the_name_but_not_the_home() {
    let facts = merge_all(&[event(10, signed_up("Old 1")), event(30, moved("New 2"))]);
    let late = Details { personal: record(&[(Field::FirstName, "corrected")]), ..at_home("Old 1a") };
    let merged = facts.merge(&event(20, updated(late)));
    assert_eq!(merged.facts.personal_text(Field::FirstName), Some("corrected"));
    assert_eq!(merged.facts.homes, facts.homes);
    assert_eq!((merged.accepted, merged.stale), (1, vec!["home/main".to_owned()]));
    assert_eq!(merged.newer, [format!("the move into home/main at {} (event {})", at(30), stamp(30).event)]);
}

#[test]
fn a_move_replaces_the_home_and_drops_what_described_the_old_one() {
    let sign_up = Happening::SignedUp(with_building(at_home("Old 1"), &[(Field::PropertyType, "old")]));
    let into = Move {
        building_key: key("main"),
        address: address("New 2"),
        building: record(&[(Field::SpaceHeating, "new")]),
    };
    let facts = merge_all(&[event(10, sign_up), event(20, Happening::Moved(into))]);
    assert_eq!((home(&facts).since, street(&facts)), (stamp(20), Some("New 2")));
    assert_eq!((attribute(&facts, Field::PropertyType), attribute(&facts, Field::SpaceHeating)), (None, Some("new")));
}

#[test]
fn what_was_said_of_the_new_home_outlives_a_move_that_arrives_late() {
    let correction = updated(with_building(at_home("New 3a"), &[(Field::PropertyType, "new")]));
    let facts = merge_all(&[
        event(10, signed_up("Old 1")),
        event(20, moved("Between 2")),
        event(25, updated(with_building(Details::default(), &[(Field::SpaceHeating, "between")]))),
        event(40, correction),
        event(30, moved("New 3")),
    ]);
    assert_eq!((home(&facts).since, street(&facts)), (stamp(30), Some("New 3a")));
    assert_eq!((attribute(&facts, Field::PropertyType), attribute(&facts, Field::SpaceHeating)), (Some("new"), None));
}

#[test]
fn two_updates_of_a_home_that_arrive_swapped_are_both_kept() {
    let events = [
        event(10, Happening::SignedUp(personal(&PERSON))),
        event(30, updated(at_home("Home 1"))),
        event(20, updated(with_building(Details::default(), &[(Field::PropertyType, "house")]))),
    ];
    let facts = merge_all(&events);
    assert_eq!((street(&facts), attribute(&facts, Field::PropertyType)), (Some("Home 1"), Some("house")));
}

#[test]
fn a_churn_buries_everything_that_happened_before_it() {
    let facts = merge_all(&[event(10, signed_up("Old 1")), event(50, Happening::Churned)]);
    assert!(!facts.is_active() && facts.personal.is_empty() && facts.homes.is_empty());
    for buried in [signed_up("Old 1"), moved("New 2"), updated(personal(&PERSON)), Happening::Churned] {
        let merged = facts.merge(&event(20, buried.clone()));
        assert_eq!(merged.facts, facts, "{buried:?}");
        assert_eq!((merged.accepted, merged.stale), (0, vec!["existence".to_owned()]), "{buried:?}");
        assert_eq!(merged.newer, [format!("the churn at {} (event {})", at(50), stamp(50).event)]);
    }
}

#[test]
fn a_churn_that_is_older_than_the_sign_up_changes_nothing() {
    let facts = merge_all(&[event(20, signed_up("Home 1"))]);
    let merged = facts.merge(&event(10, Happening::Churned));
    assert_eq!(merged.newer, [format!("the sign-up at {} (event {})", at(20), stamp(20).event)]);
    assert_eq!((merged.facts, merged.accepted, merged.stale), (facts, 0, vec!["existence".to_owned()]));
}

#[test]
fn a_sign_up_after_a_churn_starts_anew_without_the_old_facts() {
    let facts = merge_all(&[
        event(10, signed_up("Old 1")),
        event(20, Happening::Churned),
        event(30, Happening::SignedUp(personal(&[(Field::Email, "new@example.com")]))),
    ]);
    assert!(facts.is_active() && facts.homes.is_empty());
    assert_eq!(facts.personal_text(Field::Email), Some("new@example.com"));
    assert_eq!(facts.personal_text(Field::FirstName), None);
}

#[test]
fn a_move_to_the_address_where_one_lives_is_no_move() {
    let sign_up = Happening::SignedUp(with_building(at_home("Home 1"), &[(Field::PropertyType, "house")]));
    let facts = merge_all(&[event(10, sign_up), event(20, moved("Home 1"))]);
    assert_eq!((home(&facts).since, attribute(&facts, Field::PropertyType)), (stamp(10), Some("house")));
    let older = facts.merge(&event(15, updated(at_home("Home 1a"))));
    assert_eq!(street(&older.facts), Some("Home 1"), "the move confirmed the address at its own time");
}

/// A home in 70173 Stuttgart with a building attribute, then an event about it.
fn in_stuttgart(more: &[(Field, &str)], then: Happening) -> Facts {
    let stuttgart = [
        (Field::StreetAndNumber, "Königstraße 5"),
        (Field::ZipCode, "70173"),
        (Field::Town, "Stuttgart"),
        (Field::Country, "DE"),
    ];
    let address: Record = record(&stuttgart).into_iter().chain(record(more)).collect();
    let details =
        with_building(Details { address: Some(address), ..personal(&PERSON) }, &[(Field::PropertyType, "house")]);
    merge_all(&[event(10, Happening::SignedUp(details)), event(20, then)])
}

fn moves_to(fields: &[(Field, &str)]) -> Happening {
    Happening::Moved(Move { building_key: key("main"), address: record(fields), building: Record::new() })
}

fn parts(facts: &Facts) -> Vec<(Field, &str)> {
    let address = home(facts).address.as_ref().expect("an address");
    address.value.iter().map(|(field, value)| (*field, value.as_text().expect("a text"))).collect()
}

#[test]
fn a_move_to_the_same_address_in_another_spelling_is_no_move() {
    use Field::{Country, StreetAddInfo, StreetAndNumber, Town, ZipCode};
    let told =
        |street, zip, town, country| vec![(StreetAndNumber, street), (ZipCode, zip), (Town, town), (Country, country)];
    for address in [
        told("Ko\u{308}nigstraße 5", "70173", "Stuttgart", "DE"),
        told("Königstraße  5", "70173", " Stuttgart", "DE"),
        told("Königstraße\u{a0}5", "70\u{a0}173", "Stuttgart", "DE"),
        told("KÖNIGSTRASSE 5", "70173", "STUTTGART", "DE"),
        told("Koenigstr. 5", "70 173", "Stuttgart", "de"),
        told("Königstraße 5", "D-70173", "Stuttgart", "DEU"),
        told("Königstraße 5", "70173", "Stuttgart", "Deutschland"),
        told("Königstraße 5", "70173", "Stuttgart", "AT"),
        vec![(StreetAndNumber, "Königstraße 5"), (ZipCode, "70173"), (Town, "Stuttgart")],
        vec![(StreetAndNumber, "Königstraße 5"), (ZipCode, "70173")],
        vec![(StreetAndNumber, "Königstraße 5"), (Town, "Stuttgart"), (Country, "DE")],
    ] {
        let facts = in_stuttgart(&[], moves_to(&address));
        assert_eq!(
            (home(&facts).since, attribute(&facts, Field::PropertyType)),
            (stamp(10), Some("house")),
            "{address:?}"
        );
        let shown = parts(&facts);
        assert!(address.iter().all(|part| shown.contains(part)), "it is corrected: {address:?} {shown:?}");
        assert_eq!(shown.len(), 4, "and what was not said stays: {shown:?}");
        // The next event about it may be spelt like the first.
        let again = facts.merge(&event(30, moves_to(&told("Königstraße 5", "70173", "Stuttgart", "DE"))));
        assert_eq!((home(&again.facts).since, again.accepted), (stamp(10), 1), "{address:?}");
    }
    let flat = |flat| [&told("Königstraße 5", "70173", "Stuttgart", "DE")[..], &[(StreetAddInfo, flat)]].concat();
    for (before, after) in [("Top 3", Some("top 3")), ("Top 3", None)] {
        let address = after.map_or_else(|| told("Königstraße 5", "70173", "Stuttgart", "DE"), flat);
        let facts = in_stuttgart(&[(StreetAddInfo, before)], moves_to(&address));
        assert_eq!(home(&facts).since, stamp(10), "{before} {after:?}");
    }
}

#[test]
fn a_move_next_door_is_a_move() {
    use Field::{Country, StreetAddInfo, StreetAndNumber, Town, ZipCode};
    let told =
        |street, zip, town, country| vec![(StreetAndNumber, street), (ZipCode, zip), (Town, town), (Country, country)];
    for (before, address) in [
        (vec![], told("Königstraße 5a", "70173", "Stuttgart", "DE")),
        (vec![], told("Königstraße 6", "70173", "Stuttgart", "DE")),
        (vec![], told("Königstraße 5", "70174", "Stuttgart", "DE")),
        (vec![], told("Königstraße 5", "70173", "Esslingen", "DE")),
        (vec![], vec![(StreetAndNumber, "Königstraße 5"), (ZipCode, "70173"), (Town, "Esslingen")]),
        (vec![(StreetAndNumber, "Ring 9 3/4")], told("Ring 9 3/5", "70173", "Stuttgart", "DE")),
        (vec![(StreetAndNumber, "Ring 1-3")], told("Ring 13", "70173", "Stuttgart", "DE")),
        (vec![(StreetAndNumber, "Ring 1 3")], told("Ring 13", "70173", "Stuttgart", "DE")),
        (
            vec![(StreetAddInfo, "Top 3/4")],
            [&told("Königstraße 5", "70173", "Stuttgart", "DE")[..], &[(StreetAddInfo, "Top 3/5")]].concat(),
        ),
        // No town shows that the two countries are the same place.
        (vec![(Town, "")], vec![(StreetAndNumber, "Königstraße 5"), (ZipCode, "70173"), (Country, "AT")]),
    ] {
        let facts = in_stuttgart(&before, moves_to(&address));
        assert_eq!((home(&facts).since, attribute(&facts, Field::PropertyType)), (stamp(20), None), "{address:?}");
        assert_eq!(parts(&facts), address.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_update_that_names_a_part_of_an_address_changes_that_part() {
    use Field::{Country, StreetAddInfo, StreetAndNumber, Town, ZipCode};
    let of = |fields: &[(Field, &str)]| updated(Details { address: Some(record(fields)), ..Details::default() });
    let all = |street, addition, zip| {
        vec![(StreetAndNumber, street), (StreetAddInfo, addition), (ZipCode, zip), (Town, "Stuttgart"), (Country, "DE")]
    };
    let before = [(StreetAddInfo, "Top 3")];
    for (said, expected) in [
        (vec![(ZipCode, "70174")], all("Königstraße 5", "Top 3", "70174")),
        (vec![(StreetAndNumber, "Königstraße 5a")], all("Königstraße 5a", "Top 3", "70173")),
        (vec![(StreetAddInfo, "Top 4")], all("Königstraße 5", "Top 4", "70173")),
        (vec![(StreetAndNumber, "Ring 9"), (ZipCode, "70174")], all("Ring 9", "Top 3", "70174")),
        // The whole address, and so one without an addition.
        (
            vec![(StreetAndNumber, "Ring 9"), (ZipCode, "70174"), (Town, "Stuttgart")],
            all("Ring 9", "Top 3", "70174").into_iter().filter(|(field, _)| *field != StreetAddInfo).collect(),
        ),
    ] {
        let facts = in_stuttgart(&before, of(&said));
        assert_eq!(parts(&facts), expected, "{said:?}");
        assert_eq!(home(&facts).since, stamp(10), "nothing is torn down: {said:?}");
        // At Podero only that part is written.
        let known = in_stuttgart(&before, updated(Details::default()));
        let changes = facts.profile_changes(&known.profile());
        let parted: Vec<Field> = changes.keys().copied().collect();
        let differs = |field: &Field| facts.profile().get(field) != known.profile().get(field);
        assert_eq!(parted, Field::ADDRESS.into_iter().filter(differs).collect::<Vec<_>>(), "{said:?}");
    }
}

#[test]
fn what_was_never_said_of_an_address_is_not_emptied_at_podero() {
    let signed_up = event(10, Happening::SignedUp(personal(&PERSON)));
    let said = updated(Details { address: Some(record(&[(Field::ZipCode, "70174")])), ..Details::default() });
    let facts = merge_all(&[signed_up, event(20, said)]);
    let shown: Record = address("Home 1").into_iter().chain(record(&PERSON)).collect();
    let changes = facts.profile_changes(&shown);
    assert_eq!(changes, [(Field::ZipCode, Some("70174".into()))].into());
    let mut after = shown;
    apply_changes(&mut after, changes);
    assert_eq!(facts.profile_changes(&after), Changes::new());
    // But a move leaves the whole old address behind.
    let moved = facts.merge(&event(30, moves_to(&[(Field::StreetAndNumber, "New 2"), (Field::Town, "Ulm")]))).facts;
    let changes = moved.profile_changes(&after);
    assert_eq!((changes.get(&Field::ZipCode), changes.get(&Field::Country)), (Some(&None), Some(&None)));
}

#[test]
fn an_address_of_an_older_version_reads_and_a_part_of_it_can_be_corrected() {
    let facts = in_stuttgart(&[], updated(Details::default()));
    let mut stored = serde_json::to_value(home(&facts)).expect("serialises");
    let fields: Vec<&String> = stored["address"].as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["stamp", "value"], "as it was ever observed");
    let read: Home = serde_json::from_value(stored.clone()).expect("reads");
    assert_eq!(&read, home(&facts));
    let part = updated(Details { address: Some(record(&[(Field::ZipCode, "70174")])), ..Details::default() });
    let merged = facts.merge(&event(30, part)).facts;
    stored = serde_json::to_value(home(&merged)).expect("serialises");
    assert_eq!(&serde_json::from_value::<Home>(stored).expect("reads"), home(&merged));
}

#[test]
fn a_listed_building_is_adopted_however_it_is_spelt() {
    let desired = in_stuttgart(&[], updated(Details::default()));
    let record_of = |street: &str, zip: FieldValue, name: &str| {
        Record::from([(Field::StreetAndNumber, street.into()), (Field::ZipCode, zip), (Field::Name, name.into())])
    };
    let name = "Königstraße 5, 70173 Stuttgart";
    for (observed, expected) in [
        (record_of("Königstraße 5", "70173".into(), name), true),
        (record_of("Ko\u{308}nigstraße  5", "70 173".into(), "KÖNIGSTRASSE 5, 70173 STUTTGART"), true),
        (record_of("Königstraße 5", FieldValue::Number(70_173), name), true),
        (record_of("Königstraße 5a", "70173".into(), name), false),
        (record_of("Königstraße 5", "70174".into(), name), false),
        (record_of("Königstraße 5", "70173".into(), "Cottage"), false),
    ] {
        let (mut customer, _) = unread();
        list(&mut customer, &desired, &[BuildingFound { id: uuid(7), observed: observed.clone() }]);
        assert_eq!(customer.podero.buildings.contains_key(&key("main")), expected, "{observed:?}");
    }
}

#[test]
fn an_update_that_says_nothing_we_keep_is_not_stale() {
    let facts = merge_all(&[event(10, signed_up("Home 1"))]);
    let merged = facts.merge(&event(5, updated(Details::default())));
    assert_eq!((merged.facts, merged.accepted, merged.stale), (facts, 1, Vec::new()));
}

/// The profile shows the main home or else the newest and never the language.
#[test]
fn the_profile_shows_the_main_or_newest_home() {
    let at_key = |name: &str, street: &str| Details { building_key: key(name), ..at_home(street) };
    let sign_up = event(10, Happening::SignedUp(personal(&[PERSON[0], (Field::Language, "de")])));
    let elsewhere = [event(20, updated(at_key("b", "B 1"))), event(30, updated(at_key("a", "A 1")))];
    let in_main = event(15, updated(at_key("main", "Main 1")));
    for (events, expected) in [
        (vec![], None),
        (elsewhere.to_vec(), Some("A 1")),
        ([elsewhere.to_vec(), vec![in_main]].concat(), Some("Main 1")),
    ] {
        let profile = merge_all(&[vec![sign_up.clone()], events].concat()).profile();
        assert_eq!(profile.get(&Field::StreetAndNumber).and_then(FieldValue::as_text), expected);
        assert_eq!(profile.get(&Field::Email).and_then(FieldValue::as_text), Some("c1@example.com"));
        assert_eq!(profile.get(&Field::Language), None);
    }
}

#[test]
fn a_building_without_a_name_is_named_after_its_address_or_its_key() {
    let long = "x".repeat(150);
    let umlauts = "ü".repeat(128);
    let hundred = "x".repeat(100);
    let name = |value: &str| with_building(at_home("Street 1"), &[(Field::Name, value)]);
    for (details, key_name, expected) in [
        (at_home("Street 1"), "main", "Street 1, 01067 Dresden"),
        (at_home(&long), "main", hundred.as_str()),
        (Details { address: Some(record(&[(Field::Town, "Dresden")])), ..Details::default() }, "main", "Dresden"),
        (with_building(Details::default(), &[]), "cottage", "cottage"),
        (with_building(Details::default(), &[]), umlauts.as_str(), &"ü".repeat(100)),
        (name("Cottage"), "main", "Cottage"),
    ] {
        let details = Details { building_key: key(key_name), ..details };
        let facts = merge_all(&[event(10, Happening::SignedUp(details))]);
        let record = facts.homes[&key(key_name)].record(&key(key_name));
        assert_eq!(record.get(&Field::Name).and_then(FieldValue::as_text), Some(expected), "{key_name}");
    }
}

#[test]
fn changes_are_what_must_be_written_and_nothing_more() {
    use Field::{Country, Email, LastName, Name, StreetAddInfo, StreetAndNumber};
    let set = |field: Field, text: &str| (field, Some(FieldValue::from(text)));
    let full = [(StreetAndNumber, "A 1"), (StreetAddInfo, "left"), (Country, "DE")];
    for (name, observed, desired, expected) in [
        ("nothing to do", record(&full), record(&full), vec![]),
        ("nothing there", record(&[]), record(&[(Email, "a")]), vec![set(Email, "a")]),
        ("an unknown field stays", record(&[(LastName, "l"), (Email, "a")]), record(&[(Email, "a")]), vec![]),
        ("a name alone clears no address", record(&full), record(&[(Name, "n")]), vec![set(Name, "n")]),
        (
            "a part of an address empties no other",
            record(&full),
            record(&[(StreetAndNumber, "B 2"), (Country, "DE")]),
            vec![set(StreetAndNumber, "B 2")],
        ),
        ("alpha-2 for alpha-3", record(&[(Country, "DEU")]), record(&[(Country, "DE")]), vec![]),
        ("a name for alpha-2", record(&[(Country, "DE")]), record(&[(Country, "Germany")]), vec![]),
        ("upper for lower case", record(&[(Country, "de")]), record(&[(Country, "DE")]), vec![]),
        ("another country", record(&[(Country, "AT")]), record(&[(Country, "DE")]), vec![set(Country, "DE")]),
        ("a country where none was", record(&[]), record(&[(Country, "DE")]), vec![set(Country, "DE")]),
        (
            "an address that changes takes its country along",
            record(&[(StreetAndNumber, "A 1"), (Country, "DEU")]),
            record(&[(StreetAndNumber, "B 2"), (Country, "DE")]),
            vec![set(StreetAndNumber, "B 2"), set(Country, "DE")],
        ),
    ] {
        check_changes(name, observed, &desired, expected);
    }
}

#[test]
fn a_difference_that_cannot_be_seen_is_not_written_and_a_correction_is() {
    use Field::{Country, StreetAndNumber, ZipCode};
    let set = |field: Field, text: &str| (field, Some(FieldValue::from(text)));
    let number = |number: i64| Record::from([(ZipCode, FieldValue::Number(number))]);
    for (name, observed, desired, expected) in [
        (
            "another country in another format",
            record(&[(Country, "DE")]),
            record(&[(Country, "AUT")]),
            vec![set(Country, "AUT")],
        ),
        (
            "and by its name",
            record(&[(Country, "DEU")]),
            record(&[(Country, "Österreich")]),
            vec![set(Country, "Österreich")],
        ),
        ("from a name", record(&[(Country, "Deutschland")]), record(&[(Country, "AT")]), vec![set(Country, "AT")]),
        (
            "two that are not known",
            record(&[(Country, "Here")]),
            record(&[(Country, "There")]),
            vec![set(Country, "There")],
        ),
        ("one that is not known", record(&[(Country, "Here")]), record(&[(Country, "HERE")]), vec![]),
        (
            "another Unicode form",
            record(&[(StreetAndNumber, "Ö 1")]),
            record(&[(StreetAndNumber, "O\u{308} 1")]),
            vec![],
        ),
        (
            "another spelling",
            record(&[(StreetAndNumber, "A STR. 1")]),
            record(&[(StreetAndNumber, "A Str. 1")]),
            vec![set(StreetAndNumber, "A Str. 1")],
        ),
        ("a ZIP code that is shown as a number", number(1_067), record(&[(ZipCode, "01067")]), vec![]),
        (
            "a ZIP code that had lost its zero",
            record(&[(ZipCode, "1067")]),
            record(&[(ZipCode, "01067")]),
            vec![set(ZipCode, "01067")],
        ),
    ] {
        check_changes(name, observed, &desired, expected);
    }
}

fn check_changes(name: &str, observed: Record, desired: &Record, expected: Vec<(Field, Option<FieldValue>)>) {
    let needed = |observed: &Record| changes(observed, fields(Some(desired)), std::iter::empty());
    let changes = needed(&observed);
    assert_eq!(changes, expected.into_iter().collect(), "{name}");
    let mut after = observed;
    apply_changes(&mut after, changes);
    assert_eq!(needed(&after), Changes::new(), "nothing is left to write: {name}");
}

#[test]
fn what_was_written_needs_no_change_any_more() {
    let desired = address("B 2");
    let mut observed = record(&[(Field::StreetAndNumber, "A 1"), (Field::StreetAddInfo, "left")]);
    let emptied = || [Field::StreetAddInfo].into_iter();
    let first = changes(&observed, fields(Some(&desired)), emptied());
    apply_changes(&mut observed, first);
    assert_eq!((observed.clone(), changes(&observed, fields(Some(&desired)), emptied())), (desired, Changes::new()));
}

/// A customer whose user 1 is there and whose buildings are to be read, wanting one home.
fn unread() -> (Customer, Facts) {
    let facts = merge_all(&[event(10, signed_up("Home 1"))]);
    let mut customer = Customer::default();
    customer.podero.user = ObservedUser::Present { id: uuid(1), observed: Record::new() };
    (customer, facts)
}

fn list(customer: &mut Customer, desired: &Facts, found: &[BuildingFound]) {
    customer.absorb(desired, Done::BuildingsListed(found.to_vec()));
    assert_eq!(customer.podero.listing, Listing::Complete);
}

#[test]
fn a_listed_building_that_looks_like_a_wanted_home_is_adopted() {
    let looks = |street: &str, name: &str| {
        let mut observed = address(street);
        observed.insert(Field::Name, name.into());
        BuildingFound { id: uuid(7), observed }
    };
    let named = "Home 1, 01067 Dresden";
    let foreign_zip = {
        let mut found = looks("Home 1", named);
        found.observed.insert(Field::ZipCode, "99999".into());
        found
    };
    let left = |customer: &mut Customer| customer.podero.left.push(uuid(7));
    let leaving = |customer: &mut Customer| {
        customer.podero.leaving.push(Leaving { building: uuid(7), to_pause: None, spare: None });
    };
    let taken = |customer: &mut Customer| {
        let there = ObservedBuilding { id: uuid(7), since: stamp(5), observed: Record::new() };
        customer.podero.buildings.insert(key("main"), there);
    };
    let nothing = |_: &mut Customer| {};
    type Before<'a> = &'a dyn Fn(&mut Customer);
    for (name, found, before, expected) in [
        ("the same name and place", looks("Home 1", named), &nothing as Before, true),
        ("another street", looks("Home 2", named), &nothing, false),
        ("another name", looks("Home 1", "Cottage"), &nothing, false),
        ("another ZIP code", foreign_zip, &nothing, false),
        ("one that was left for good", looks("Home 1", named), &left, false),
        ("one that is being left", looks("Home 1", named), &leaving, false),
        ("the one that stands for the home before", looks("Home 1", named), &taken, false),
    ] {
        let (mut customer, desired) = unread();
        before(&mut customer);
        list(&mut customer, &desired, std::slice::from_ref(&found));
        let adopted = customer.podero.buildings.get(&key("main")).filter(|there| there.since == stamp(10));
        assert_eq!(adopted.map(|there| there.id), expected.then(|| uuid(7)), "{name}");
    }
}

#[test]
fn a_building_that_is_listed_no_more_is_ours_no_more() {
    let (mut customer, desired) = unread();
    let there = ObservedBuilding { id: uuid(7), since: stamp(10), observed: Record::new() };
    customer.podero.buildings.insert(key("main"), there);
    customer.podero.leaving.push(Leaving { building: uuid(8), to_pause: None, spare: None });
    list(&mut customer, &desired, &[]);
    assert!(customer.podero.buildings.is_empty() && customer.podero.leaving.is_empty());
}

#[test]
fn the_building_of_the_home_before_is_left_when_the_new_one_is_adopted() {
    let (mut customer, desired) = unread();
    let old = ObservedBuilding { id: uuid(6), since: stamp(5), observed: Record::new() };
    customer.podero.buildings.insert(key("main"), old);
    let mut observed = address("Home 1");
    observed.insert(Field::Name, "Home 1, 01067 Dresden".into());
    let found = [BuildingFound { id: uuid(6), observed: Record::new() }, BuildingFound { id: uuid(7), observed }];
    list(&mut customer, &desired, &found);
    assert_eq!(customer.podero.buildings[&key("main")].id, uuid(7));
    assert_eq!(customer.podero.leaving, [Leaving { building: uuid(6), to_pause: None, spare: None }]);
}

#[test]
fn a_fresh_claim_trusts_what_is_there_unless_the_last_one_was_interrupted() {
    let present = ObservedUser::Present { id: uuid(1), observed: Record::new() };
    for (user, was_interrupted, expected_user, expected_listing) in [
        (present.clone(), false, present.clone(), Listing::Complete),
        (present, true, ObservedUser::Unknown, Listing::Doubtful),
        (ObservedUser::Absent, false, ObservedUser::Unknown, Listing::Complete),
        (ObservedUser::Conflict, false, ObservedUser::Unknown, Listing::Complete),
    ] {
        let mut customer = Customer::default();
        customer.podero.user = user;
        customer.podero.listing = Listing::Complete;
        customer.podero.pausing = Some(vec![uuid(3)]);
        customer.begin(was_interrupted);
        assert_eq!((customer.podero.user, customer.podero.listing), (expected_user, expected_listing));
        assert_eq!(customer.podero.pausing, None);
    }
}

#[test]
fn a_deletion_that_was_cut_off_still_tells_whom_it_was_about() {
    let (mut customer, desired) = unread();
    customer.begin(true);
    customer.absorb(&desired, Done::UserLookedUp(None));
    assert_eq!((customer.podero.user, customer.podero.departed), (ObservedUser::Absent, Some(uuid(1))));
}

/// An event of an active customer after the sign-up; every address is different, since a move to the customer's own address is no
/// move, whichever of the two events about that address comes first.
fn happening(time: i64) -> impl Strategy<Value = Happening> {
    let field = prop_oneof![Just(Field::Email), Just(Field::FirstName), Just(Field::LastName)];
    let about = prop_oneof![Just(Field::PropertyType), Just(Field::SpaceHeating)];
    let building = proptest::collection::vec(about, 0..3);
    let details = (proptest::collection::vec(field, 0..3), any::<bool>(), proptest::option::of(building.clone()));
    let keys = prop_oneof![3 => Just("main"), 1 => Just("second")];
    // A whole address with or without its addition, or some of its parts.
    let parts = prop_oneof![
        Just(Field::ADDRESS.to_vec()),
        Just(vec![Field::StreetAndNumber, Field::ZipCode, Field::Town]),
        proptest::sample::subsequence(Field::ADDRESS.to_vec(), 0..=5),
    ];
    let told = (0..3u8, keys, details, building, parts);
    told.prop_map(move |(kind, key_name, (fields, has_address, about), into, has_parts)| {
        let value = format!("at {time}");
        let say = |fields: Vec<Field>| fields.into_iter().map(|field| (field, value.as_str().into())).collect();
        let mut address = address(&format!("Street {time}"));
        address.insert(Field::StreetAddInfo, format!("Top {time}").as_str().into());
        address.retain(|field, _| kind == 0 || has_parts.contains(field));
        if kind == 0 {
            return Happening::Moved(Move { building_key: key(key_name), address, building: say(into) });
        }
        let details = Details {
            personal: say(fields),
            building_key: key(key_name),
            address: (has_address && !address.is_empty()).then_some(address),
            building: about.map(say),
        };
        if kind == 1 { Happening::SignedUp(details) } else { updated(details) }
    })
}

/// A sign-up and the events after it, in the order in which they happened.
fn lives() -> impl Strategy<Value = Vec<Event>> {
    (happening(10), happening(20), happening(30), happening(40), happening(50), any::<bool>()).prop_map(
        |(a, b, c, d, e, has_home)| {
            let sign_up = if has_home { signed_up("Street 1") } else { Happening::SignedUp(personal(&PERSON)) };
            let rest = [(10, a), (20, b), (30, c), (40, d), (50, e)];
            let rest = rest.into_iter().map(|(time, happening)| event(time, happening));
            std::iter::once(event(1, sign_up)).chain(rest).collect()
        },
    )
}

/// A life, and the same in the order of arrival; the sign-up arrives first, since the others wait for it.
fn arrivals() -> impl Strategy<Value = (Vec<Event>, Vec<Event>)> {
    lives().prop_flat_map(|life| {
        let (first, rest) = (life[0].clone(), life[1..].to_vec());
        Just(rest)
            .prop_shuffle()
            .prop_map(move |rest| (life.clone(), std::iter::once(first.clone()).chain(rest).collect()))
    })
}

/// The facts without [`Home::since`], which an event may date back although it adds nothing.
fn said(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    for home in facts.homes.values_mut() {
        home.since = stamp(0);
    }
    facts
}

proptest! {
    #[test]
    fn any_order_of_arrival_merges_to_the_same_facts((happened, arrived) in arrivals()) {
        prop_assert_eq!(merge_all(&happened), merge_all(&arrived));
    }

    #[test]
    fn an_event_that_is_merged_again_at_any_time_changes_nothing((_, arrived) in arrivals()) {
        let facts = merge_all(&arrived);
        for event in &arrived {
            prop_assert_eq!(&facts.merge(event).facts, &facts);
        }
    }

    #[test]
    fn every_fact_of_an_event_either_wins_or_is_named_as_lost((_, arrived) in arrivals()) {
        let mut facts = Facts::default();
        for event in &arrived {
            let merged = facts.merge(event);
            prop_assert!(merged.accepted + merged.stale.len() > 0);
            prop_assert!(merged.accepted > 0 || said(&merged.facts) == said(&facts), "what is lost changes no fact");
            facts = merged.facts;
        }
    }
}

/// Everything that a call can make true, about a few ids.
fn effects() -> impl Strategy<Value = Done> {
    (0..12u8, 1..4u128, any::<bool>()).prop_map(|(kind, id, flag)| {
        let id = uuid(id);
        let since = stamp(i64::try_from(id.as_u128()).unwrap_or(1));
        let changes: Changes = [(Field::FirstName, flag.then(|| "x".into()))].into();
        let mut observed = address("Home 1");
        observed.insert(Field::Name, "Home 1, 01067 Dresden".into());
        match kind {
            0 => Done::UserLookedUp(None),
            1 => Done::UserLookedUp(Some(UserFound {
                id,
                is_customer: flag,
                external_id: None,
                heat_pumps: None,
                zip: None,
                observed: record(&PERSON),
            })),
            2 => Done::UserCreated { user: id, record: record(&PERSON) },
            3 => Done::UserUpdated { changes },
            4 => Done::UserDeleted { user: id },
            5 => Done::BuildingsListed(vec![BuildingFound { id, observed }]),
            6 => Done::BuildingCreated { building: id, key: key("main"), since, record: address("Home 1") },
            7 => Done::BuildingUpdated { key: key("main"), changes },
            8 => Done::BuildingDeleted { building: id },
            9 => Done::HeatPumpsListed(vec![PumpFound { id, building: Some(id), is_steered: flag }]),
            10 => Done::HeatPumpPaused { heat_pump: id },
            _ => Done::SessionCreated { key: key("main"), since, url: "https://connect.example".to_owned() },
        }
    })
}

proptest! {
    #[test]
    fn a_customer_that_absorbed_anything_is_stored_and_read_back(
        steps in proptest::collection::vec(effects(), 1..30),
    ) {
        let desired = merge_all(&[event(2, signed_up("Home 1"))]);
        let mut customer = Customer::default();
        for done in steps {
            customer.absorb(&desired, done);
            let stored = serde_json::to_string(&customer).expect("serialises");
            prop_assert_eq!(&serde_json::from_str::<Customer>(&stored).expect("reads back"), &customer);
        }
    }

    #[test]
    fn buildings_never_belong_to_two_homes(steps in proptest::collection::vec(effects(), 1..30)) {
        let desired = merge_all(&[
            event(2, signed_up("Home 1")),
            event(3, updated(Details { building_key: key("second"), ..at_home("Home 1") })),
        ]);
        let mut customer = Customer::default();
        for done in steps.into_iter().filter(|done| matches!(done, Done::BuildingsListed(_))) {
            customer.absorb(&desired, done);
            let mut ids: Vec<Uuid> = customer.podero.buildings.values().map(|there| there.id).collect();
            ids.extend(customer.podero.leaving.iter().map(|leaving| leaving.building));
            let count = ids.len();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), count);
        }
    }
}

/// A building that a parked event may have made unseen is freed when it is found.
#[test]
fn a_building_that_a_parked_event_made_is_freed_when_found() {
    let desired = merge_all(&[event(10, signed_up("Old 1"))]);
    let mut customer = Customer::default();
    let user = Uuid::from_u128(7);
    customer.podero.user = ObservedUser::Present { id: user, observed: Record::new() };
    customer.remember_unseen(&desired);
    assert_eq!(customer.podero.unseen, [], "nothing was in doubt");
    customer.doubt_buildings();
    customer.remember_unseen(&desired);
    customer.remember_unseen(&desired);
    assert_eq!(customer.podero.unseen.len(), 1, "and the same doubt is one");

    let moved = desired.merge(&event(20, moved("New 2"))).facts;
    let left = BuildingFound { id: Uuid::from_u128(8), observed: home(&desired).record(&BuildingKey::default()) };
    let stranger = BuildingFound { id: Uuid::from_u128(9), observed: record(&[(Field::Name, "somebody else's")]) };
    customer.absorb(&moved, Done::BuildingsListed(vec![left.clone(), stranger]));
    let freed: Vec<Uuid> = customer.podero.leaving.iter().map(|leaving| leaving.building).collect();
    assert_eq!((freed, customer.podero.unseen.len()), (vec![left.id], 0));

    // Retried before the building is deleted, the event takes it back instead of making another.
    let mut retried = customer.clone();
    retried.take_spares(&desired);
    assert_eq!((retried.podero.buildings[&BuildingKey::default()].id, retried.podero.leaving.len()), (left.id, 0));
    // If old buildings stay, it is no one's home, and the event takes it when it is retried after all.
    customer.home_freed(left.id, true);
    assert!(customer.podero.left.is_empty());
    customer.take_spares(&moved);
    assert_eq!(customer.podero.spare.len(), 1, "it is not what the move wants");
    // Even if its address was corrected meanwhile: it was made for this home.
    let corrected = desired
        .merge(&event(30, updated(Details { address: Some(address("Corrected 3")), ..Details::default() })))
        .facts;
    let mut later = customer.clone();
    later.take_spares(&corrected);
    assert_eq!(later.podero.buildings[&BuildingKey::default()].id, left.id);
    customer.take_spares(&desired);
    assert_eq!(customer.podero.buildings[&BuildingKey::default()].id, left.id);
}

/// Any of these fields, each with one of few values, so that two records often agree.
fn any_of(fields: &'static [Field]) -> impl Strategy<Value = Record> {
    let value = prop::sample::select(vec!["DE", "DEU", "Home 1", "Home 1, 01067 Dresden"]);
    prop::collection::btree_map(prop::sample::select(fields), value.prop_map(FieldValue::from), 0..=fields.len())
}

/// The values that a person or a home already shows, or nearly.
fn nearly(shown: &Record, other: Record, keep: bool) -> Record {
    if keep { shown.clone().into_iter().chain(other).collect() } else { other }
}

proptest! {
    /// The fields that must be written are those of the whole record, though no record is made to find them.
    #[test]
    fn the_short_comparison_agrees_with_the_long_one(
        personal in any_of(&Field::PERSONAL),
        address in prop::option::of(any_of(&Field::ADDRESS)),
        building in any_of(&Field::BUILDING),
        others in (any_of(&Field::PERSONAL), any_of(&Field::ADDRESS), any_of(&Field::BUILDING)),
        keep in any::<bool>(),
    ) {
        let details = Details { personal, address, building: Some(building), ..Details::default() };
        let facts = merge_all(&[event(10, Happening::SignedUp(details))]);
        let (key, (personal, address, building)) = (BuildingKey::default(), others);
        let observed = nearly(&facts.profile(), personal.into_iter().chain(address.clone()).collect(), keep);
        let profile = facts.profile();
        let expected = changes(&observed, fields(Some(&profile)), home(&facts).emptied());
        prop_assert_eq!(facts.profile_changes(&observed), expected);
        let record = home(&facts).record(&key);
        let observed = nearly(&record, address.into_iter().chain(building).collect(), keep);
        let expected = changes(&observed, fields(Some(&record)), home(&facts).emptied());
        prop_assert_eq!(home(&facts).changes(&key, &observed), expected);
    }
}
