//! Generated input that knows its own end: the events of many customers, their arrival, and the records that Podero must hold
//! when all have taken effect.
//!
//! The stories themselves say the ends, not the bridge's rules: this is the oracle of every test that lets much happen at once.
//! It must never import a rule of the bridge.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::world::event;

/// Pieces of every personal value that a story uses: none of them may be seen in a log.
pub const PERSONAL: [&str; 6] = ["@example.com", "Anna", "Berta", "Hauptstrasse", "Neugasse", "Berichtigt"];

/// The records that Podero must hold of one customer in the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    pub is_customer: bool,
    /// The number of times the customer came back after a churn, each time as a new user.
    pub returns: usize,
    pub email: String,
    pub first_name: String,
    pub street: String,
    pub zip: String,
    pub town: String,
}

/// Events in the order in which they happened, and how it ends for each customer.
pub struct Stories {
    pub events: Vec<Value>,
    pub ends: BTreeMap<String, Expected>,
}

impl Stories {
    /// `events` of `customers`, the same number for each; from three on, some leave, and some come back.
    pub fn tell(customers: usize, events: usize, dice: &mut StdRng) -> Self {
        let mut told = Self { events: Vec::new(), ends: BTreeMap::new() };
        for number in 0..customers {
            let mut story = Story::begin(number, &mut told.events, dice);
            story.sign_up();
            let steps = events / customers;
            for step in 1..steps {
                story.step(step, steps);
            }
            let Story { customer, end, .. } = story;
            told.ends.insert(customer, end);
        }
        told.events.sort_by(|a, b| a["time"].as_str().cmp(&b["time"].as_str()));
        told
    }
}

/// One customer's story while it is written.
struct Story<'a> {
    number: usize,
    customer: String,
    minute: usize,
    end: Expected,
    events: &'a mut Vec<Value>,
    dice: &'a mut StdRng,
}

impl<'a> Story<'a> {
    fn begin(number: usize, events: &'a mut Vec<Value>, dice: &'a mut StdRng) -> Self {
        let end = Expected {
            is_customer: true,
            returns: 0,
            email: format!("c{number}@example.com"),
            first_name: "Anna".into(),
            street: format!("Hauptstrasse {number}"),
            zip: format!("{:05}", 10_000 + number),
            town: "Wien".into(),
        };
        Self { number, customer: format!("C-{number:04}"), minute: number, end, events, dice }
    }

    fn tell(&mut self, type_name: &str, data: &Value) {
        self.minute += 1 + self.dice.random_range(0..50);
        let (number, minute) = (self.number, self.minute);
        let time = format!("2026-09-{:02}T{:02}:{:02}:00Z", 1 + minute / 1_440, minute / 60 % 24, minute % 60);
        self.events.push(event(&format!("e-{number}-{minute}"), type_name, &time, data));
    }

    fn address(&self) -> Value {
        let end = &self.end;
        json!({"street_and_number": end.street, "zip_code": end.zip, "town": end.town, "country": "AT"})
    }

    fn sign_up(&mut self) {
        let data = json!({
            "customer_id": self.customer, "email": self.end.email, "first_name": self.end.first_name,
            "address": self.address(),
        });
        self.tell("customer.signed_up", &data);
    }

    fn step(&mut self, step: usize, steps: usize) {
        let (number, is_last) = (self.number, step + 1 == steps);
        let customer = self.customer.clone();
        if !self.end.is_customer {
            self.end.is_customer = true;
            self.end.returns += 1;
            self.sign_up();
            return;
        }
        match (number + step * 3) % 10 {
            0..=3 => {
                self.end.street = format!("Neugasse {number}/{step}");
                // A tenth of the moves goes to where ZIP codes begin with a zero.
                self.end.zip = if number % 10 == 0 {
                    format!("0{:04}", 1_000 + number)
                } else {
                    format!("{:05}", 20_000 + number)
                };
                self.end.town = "Dresden".into();
                self.tell("customer.moved", &json!({"customer_id": customer, "address": self.address()}));
            }
            4..=6 => {
                self.end.first_name = format!("Berta {step}");
                let data = json!({"customer_id": customer, "first_name": self.end.first_name});
                self.tell("customer.updated", &data);
            }
            7 => {
                self.end.email = format!("c{number}.{step}@example.com");
                self.tell("customer.updated", &json!({"customer_id": customer, "email": self.end.email}));
            }
            // The last word, or the one before the last: then the customer comes back.
            _ if is_last || (step + 2 == steps && number % 2 == 0) => {
                self.end.is_customer = false;
                self.tell("customer.churned", &json!({"customer_id": customer}));
            }
            _ => {
                self.end.street = format!("Berichtigt {number}/{step}");
                self.tell("customer.updated", &json!({"customer_id": customer, "address": self.address()}));
            }
        }
    }
}

/// As it arrives: a tenth comes twice, a tenth comes much too early or too late.
pub fn as_delivered(mut events: Vec<Value>, dice: &mut StdRng) -> Vec<Value> {
    let twice: Vec<Value> = events.iter().filter(|_| dice.random_range(0..10) == 0).cloned().collect();
    let displaced = events.len() / 10;
    for _ in 0..displaced / 2 {
        let (a, b) = (dice.random_range(0..events.len()), dice.random_range(0..events.len()));
        events.swap(a, b);
    }
    for again in twice {
        let place = dice.random_range(0..=events.len());
        events.insert(place, again);
    }
    events
}

/// Differences between what Podero holds and what the stories end with.
#[derive(Debug, Default)]
pub struct Differences {
    /// Customers with two living users, or with more users than they had reasons to be made.
    pub doubled_users: Vec<String>,
    /// Living users with more than one building.
    pub doubled_buildings: Vec<String>,
    /// Everything else.
    pub others: Vec<String>,
}

impl Differences {
    pub fn are_none(&self) -> bool {
        self.doubled_users.is_empty() && self.doubled_buildings.is_empty() && self.others.is_empty()
    }
}

/// Compares the sandbox's state with the ends.
pub fn differences(state: &Value, ends: &BTreeMap<String, Expected>) -> Differences {
    let mut found = Differences::default();
    let mut users: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for user in state["users"].as_array().expect("users") {
        match user["external_user_id"].as_str() {
            Some(customer) if ends.contains_key(customer) => users.entry(customer).or_default().push(user),
            stranger => found.others.push(format!("{stranger:?} is nobody of the stories")),
        }
    }
    let mut buildings: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for building in state["buildings"].as_array().expect("buildings") {
        buildings.entry(building["user_id"].as_str().expect("an owner")).or_default().push(building);
    }
    for (customer, end) in ends {
        let own = users.get(customer.as_str()).map_or(&[][..], Vec::as_slice);
        let living: Vec<&Value> = own.iter().copied().filter(|user| user["deleted"] == json!(false)).collect();
        // A churn that arrives after the return that followed it never deletes anybody, so fewer are fine.
        if living.len() > 1 || own.len() > 1 + end.returns {
            found.doubled_users.push(format!("{customer} has {} users, {} of them living", own.len(), living.len()));
        }
        match (end.is_customer, living.first()) {
            (false, None) => {}
            (false, Some(_)) => found.others.push(format!("{customer} is there although churned")),
            (true, None) => found.others.push(format!("{customer} has no user")),
            (true, Some(user)) => {
                let homes = buildings.get(user["id"].as_str().expect("an id")).map_or(&[][..], Vec::as_slice);
                compare_one(customer, end, (user, homes), &mut found);
            }
        }
    }
    found
}

fn compare_one(customer: &str, end: &Expected, (user, homes): (&Value, &[&Value]), found: &mut Differences) {
    let fields = [
        ("email", &end.email),
        ("first_name", &end.first_name),
        ("street_and_number", &end.street),
        ("zip_code", &end.zip),
        ("town", &end.town),
    ];
    for (field, expected) in fields {
        if user[field] != json!(expected) {
            found.others.push(format!("{customer}: {field} is {}, not {expected:?}", user[field]));
        }
    }
    match homes {
        [] => found.others.push(format!("{customer} has no building")),
        [home] => {
            for (field, expected) in [("street_and_number", &end.street), ("zip_code", &end.zip)] {
                if home[field] != json!(expected) {
                    found
                        .others
                        .push(format!("{customer}: the building's {field} is {}, not {expected:?}", home[field]));
                }
            }
        }
        more => found.doubled_buildings.push(format!("{customer} has {} buildings", more.len())),
    }
}

/// The queue may deliver in any order; chance must not decide the result.
#[test]
fn the_generated_input_is_what_it_claims_to_be() {
    const EVENTS: usize = 5_000;
    let mut dice = StdRng::seed_from_u64(1);
    let Stories { events, ends } = Stories::tell(1_000, EVENTS, &mut dice);
    assert_eq!((events.len(), ends.len()), (EVENTS, 1_000));
    let mut shuffled = events.clone();
    shuffled.shuffle(&mut dice);
    assert_ne!(events, shuffled);
    let delivered = as_delivered(events, &mut dice);
    let extra = delivered.len() - EVENTS;
    assert!((EVENTS * 8 / 100..EVENTS * 12 / 100).contains(&extra), "{extra} come twice");
    let early_or_late = delivered.windows(2).filter(|pair| pair[0]["time"].as_str() > pair[1]["time"].as_str()).count();
    assert!(early_or_late > EVENTS / 10, "{early_or_late} come before something older");
    let churned = ends.values().filter(|end| !end.is_customer).count();
    let returned = ends.values().filter(|end| end.returns > 0).count();
    let zeros = ends.values().filter(|end| end.is_customer && end.zip.starts_with('0')).count();
    assert!(churned > 50 && returned > 20 && zeros > 20, "{churned} leave, {returned} return, {zeros} zeros");
}

#[test]
fn the_oracle_sees_each_kind_of_difference() {
    let mut dice = StdRng::seed_from_u64(1);
    let Stories { ends, .. } = Stories::tell(1, 1, &mut dice);
    let end = &ends["C-0000"];
    let user = json!({
        "id": "u", "external_user_id": "C-0000", "deleted": false, "email": end.email, "first_name": end.first_name,
        "street_and_number": end.street, "zip_code": end.zip, "town": end.town,
    });
    let home = json!({"user_id": "u", "street_and_number": end.street, "zip_code": end.zip});
    let compared =
        |users: &[&Value], homes: &[&Value]| differences(&json!({"users": users, "buildings": homes}), &ends);
    assert!(compared(&[&user], &[&home]).are_none());
    assert_eq!(compared(&[&user, &user], &[&home]).doubled_users.len(), 1);
    let mut gone = user.clone();
    gone["deleted"] = json!(true);
    assert_eq!(compared(&[&gone, &user], &[&home]).doubled_users.len(), 1, "made twice, deleted once");
    assert_eq!(compared(&[&user], &[&home, &home]).doubled_buildings.len(), 1);
    assert_eq!(compared(&[], &[]).others.len(), 1);
    let mut moved = home.clone();
    moved["street_and_number"] = json!("elsewhere");
    assert_eq!(compared(&[&user], &[&moved]).others.len(), 1);
}
