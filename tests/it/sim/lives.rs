//! The lives of the customers of a run, as upstream sends them; and the oracle: the pure fold of what was sent.
//!
//! The fold is written from the contract's rules (§5: newest wins per fact, a churn buries what is older), apart from
//! the bridge's own code.

use std::collections::BTreeMap;

use podero_bridge::domain::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::time::Duration;

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

/// One event as upstream means it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) customer: String,
    time: Timestamp,
    effective_at: Option<Timestamp>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    SignedUp {
        email: String,
        first_name: Option<String>,
        home: Option<(String, Address)>,
    },
    Moved {
        key: String,
        address: Address,
        size: Option<i64>,
    },
    Named {
        first_name: String,
    },
    Mailed {
        email: String,
    },
    Corrected {
        key: String,
        address: Address,
    },
    Measured {
        key: String,
        size: i64,
    },
    Churned,
    /// The move into a home, or the churn, that was announced.
    CalledOff {
        key: Option<String>,
    },
}

/// Street, ZIP code and town.
type Address = [String; 3];

impl Told {
    /// The CloudEvent.
    pub(super) fn json(&self) -> Value {
        let (type_name, mut data) = match &self.what {
            What::SignedUp { email, first_name, home } => {
                let mut data = json!({"email": email});
                if let Some(first_name) = first_name {
                    data["first_name"] = json!(first_name);
                }
                if let Some((key, address)) = home {
                    data["building_key"] = json!(key);
                    data["address"] = address_json(address);
                }
                ("customer.signed_up", data)
            }
            What::Moved { key, address, size } => {
                let mut data = json!({"building_key": key, "address": address_json(address)});
                if let Some(size) = size {
                    data["building"] = json!({"property_size_m2": size});
                }
                ("customer.moved", data)
            }
            What::Named { first_name } => ("customer.updated", json!({"first_name": first_name})),
            What::Mailed { email } => ("customer.updated", json!({"email": email})),
            What::Corrected { key, address } => {
                ("customer.updated", json!({"building_key": key, "address": address_json(address)}))
            }
            What::Measured { key, size } => {
                ("customer.updated", json!({"building_key": key, "building": {"property_size_m2": size}}))
            }
            What::Churned => ("customer.churned", json!({})),
            What::CalledOff { key: Some(key) } => ("customer.moved", json!({"building_key": key, "cancelled": true})),
            What::CalledOff { key: None } => ("customer.churned", json!({"cancelled": true})),
        };
        data["customer_id"] = json!(self.customer);
        if let Some(at) = self.effective_at {
            data["effective_at"] = json!(at);
        }
        json!({
            "specversion": "1.0", "id": self.id, "source": "/billing", "type": type_name, "time": self.time, "data": data,
        })
    }

    /// Its place in its customer's order; `arrival` sorts by arrival.
    pub(super) fn stamp(&self, arrival: &str) -> Stamp {
        (self.effective_at.map_or(self.time, |at| at.max(self.time)), arrival.to_owned())
    }

    /// The home it speaks of, and the street there.
    pub(super) fn home(&self) -> Option<(&str, &str)> {
        match &self.what {
            What::SignedUp { home: Some((key, address)), .. }
            | What::Moved { key, address, .. }
            | What::Corrected { key, address } => Some((key, &address[0])),
            What::SignedUp { home: None, .. }
            | What::Named { .. }
            | What::Mailed { .. }
            | What::Measured { .. }
            | What::Churned
            | What::CalledOff { .. } => None,
        }
    }

    /// When it was said, and its place among what was said.
    pub(super) fn said(&self, arrival: &str) -> Stamp {
        (self.time, arrival.to_owned())
    }

    /// Says whether it was announced ahead.
    pub(super) fn is_announced(&self) -> bool {
        self.effective_at.is_some_and(|at| at > self.time)
    }

    /// Says whether a later event is about the same change as this.
    pub(super) fn is_about_the_same(&self, other: &Self) -> bool {
        let change = |told: &Self| match &told.what {
            What::SignedUp { .. } | What::Churned | What::CalledOff { key: None } => Some(None),
            What::Moved { key, .. } | What::CalledOff { key: Some(key) } => Some(Some(key.clone())),
            What::Named { .. } | What::Mailed { .. } | What::Corrected { .. } | What::Measured { .. } => None,
        };
        self.customer == other.customer && change(self).is_some() && change(self) == change(other)
    }

    /// Says whether its completion is published.
    pub(super) fn is_news(&self) -> bool {
        matches!(self.what, What::SignedUp { .. } | What::Moved { .. } | What::Churned)
    }
}

fn address_json([street, zip, town]: &Address) -> Value {
    json!({"street_and_number": street, "zip_code": zip, "town": town, "country": "DE"})
}

/// The life of one customer, in the order in which it happened.
pub(super) fn life(number: usize, start: Timestamp, dice: &mut StdRng) -> Vec<Told> {
    let customer = format!("C-{number}");
    let mut time = start;
    let events = dice.random_range(3..=10);
    let mut told = Vec::new();
    for place in 0..events {
        // Now and then two things happen in the same moment: then arrival decides.
        if dice.random_range(0..12) > 0 {
            time = time.plus(Duration::from_secs(dice.random_range(1..120) * MINUTE));
        }
        let announced = told.last().filter(|last: &&Told| last.is_announced());
        let what = match announced {
            Some(last) if dice.random_range(0..2) == 0 => on_second_thoughts(last, dice),
            Some(_) | None if place == 0 && dice.random_range(0..10) > 0 => signed_up(number, place, dice),
            Some(_) | None => happening(number, place, dice),
        };
        let may_be_ahead = matches!(what, What::Moved { .. } | What::Churned) && dice.random_range(0..5) == 0;
        let effective_at =
            may_be_ahead.then(|| time.plus(Duration::from_secs(dice.random_range(1..3 * DAY / MINUTE) * MINUTE)));
        told.push(Told { id: format!("e-{number}-{place}"), customer: customer.clone(), time, effective_at, what });
    }
    told
}

fn signed_up(number: usize, place: usize, dice: &mut StdRng) -> What {
    What::SignedUp {
        email: format!("c{number}.{place}@example.com"),
        first_name: (dice.random_range(0..2) == 0).then(|| format!("Anna {place}")),
        home: (dice.random_range(0..4) > 0).then(|| ("main".to_owned(), address(dice))),
    }
}

/// A later event about an announced one: it is off, or comes another day or to another place.
fn on_second_thoughts(announced: &Told, dice: &mut StdRng) -> What {
    let is_off = dice.random_range(0..2) == 0;
    match (&announced.what, is_off) {
        (What::Moved { key, .. }, true) => What::CalledOff { key: Some(key.clone()) },
        (What::Moved { key, .. }, false) => What::Moved { key: key.clone(), address: address(dice), size: None },
        (_, true) => What::CalledOff { key: None },
        (_, false) => What::Churned,
    }
}

fn happening(number: usize, place: usize, dice: &mut StdRng) -> What {
    let key = if dice.random_range(0..5) == 0 { "cabin" } else { "main" }.to_owned();
    match dice.random_range(0..21) {
        0..=5 => {
            let size = (dice.random_range(0..3) == 0).then(|| dice.random_range(40..300));
            What::Moved { key, address: address(dice), size }
        }
        6..=8 => What::Named { first_name: format!("Berta {place}") },
        9 | 10 => What::Mailed { email: format!("c{number}.{place}@example.net") },
        11..=13 => What::Corrected { key, address: address(dice) },
        14 | 15 => What::Measured { key, size: dice.random_range(40..300) },
        16..=18 => What::Churned,
        // Back, and sometimes nothing is new about them.
        _ => signed_up(number, if dice.random_range(0..2) == 0 { 0 } else { place }, dice),
    }
}

/// Few enough that customers move back to where they were.
fn address(dice: &mut StdRng) -> Address {
    let number = dice.random_range(1..6);
    [format!("Street {number}"), format!("0{number}067"), format!("Town {number}")]
}

/// Place of an event in its customer's order: when it happened or takes effect, then arrival.
pub(super) type Stamp = (Timestamp, String);

/// The state that one customer must have in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct End {
    signed_up: Option<Stamp>,
    churned: Option<Stamp>,
    email: Option<(Stamp, String)>,
    first_name: Option<(Stamp, String)>,
    homes: BTreeMap<String, Home>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Home {
    moved: Option<Stamp>,
    address: Option<(Stamp, Address)>,
    size: Option<(Stamp, i64)>,
}

impl Home {
    fn is_of(&self, stamp: &Stamp) -> bool {
        self.moved.as_ref().is_none_or(|moved| moved <= stamp)
    }

    fn at(&mut self, address: &Address, stamp: &Stamp) {
        if self.is_of(stamp) {
            newest(&mut self.address, address, stamp);
        }
    }

    fn of_size(&mut self, size: i64, stamp: &Stamp) {
        if self.is_of(stamp) {
            newest(&mut self.size, &size, stamp);
        }
    }
}

fn newest<T: Clone>(slot: &mut Option<(Stamp, T)>, value: &T, stamp: &Stamp) {
    if slot.as_ref().is_none_or(|(known, _)| known <= stamp) {
        *slot = Some((stamp.clone(), value.clone()));
    }
}

impl End {
    /// Takes the next event in the order in which they took effect. `arrival` sorts by arrival.
    pub(super) fn fold(&mut self, told: &Told, arrival: &str) {
        let stamp = told.stamp(arrival);
        // A change that was announced before the churn is off with it.
        let is_off = told.is_announced() && !matches!(told.what, What::Churned);
        let buried_from = if is_off { told.said(arrival) } else { stamp.clone() };
        if self.churned.as_ref().is_some_and(|churned| *churned > buried_from) {
            return;
        }
        match &told.what {
            What::SignedUp { email, first_name, home } => {
                if self.signed_up.as_ref().is_none_or(|known| *known <= stamp) {
                    self.signed_up = Some(stamp.clone());
                }
                newest(&mut self.email, email, &stamp);
                if let Some(first_name) = first_name {
                    newest(&mut self.first_name, first_name, &stamp);
                }
                if let Some((key, address)) = home {
                    self.homes.entry(key.clone()).or_default().at(address, &stamp);
                }
            }
            What::Moved { key, address, size } => {
                let home = self.homes.entry(key.clone()).or_default();
                let lives_there = home.address.as_ref().is_some_and(|(_, known)| known == address);
                if home.is_of(&stamp) {
                    if !lives_there {
                        home.moved = Some(stamp.clone());
                        home.size = home.size.take().filter(|(known, _)| *known >= stamp);
                    }
                    home.at(address, &stamp);
                    if let Some(size) = size {
                        home.of_size(*size, &stamp);
                    }
                }
            }
            What::Named { first_name } => newest(&mut self.first_name, first_name, &stamp),
            What::Mailed { email } => newest(&mut self.email, email, &stamp),
            What::Corrected { key, address } => self.homes.entry(key.clone()).or_default().at(address, &stamp),
            What::Measured { key, size } => self.homes.entry(key.clone()).or_default().of_size(*size, &stamp),
            What::CalledOff { .. } => {}
            What::Churned => {
                if self.signed_up.as_ref().is_none_or(|known| *known <= stamp) {
                    *self = Self { churned: Some(stamp), signed_up: self.signed_up.take(), ..Self::default() };
                }
            }
        }
    }

    /// Says whether the customer is one in the end.
    pub(super) fn is_active(&self) -> bool {
        self.signed_up > self.churned
    }

    /// The fields that Podero's user must show.
    pub(super) fn user(&self) -> Vec<(&'static str, String)> {
        let mut shown = Vec::new();
        shown.extend(self.email.iter().map(|(_, email)| ("email", email.clone())));
        shown.extend(self.first_name.iter().map(|(_, name)| ("first_name", name.clone())));
        let main = self.homes.get("main").and_then(|home| home.address.as_ref());
        let newest = || self.homes.values().filter_map(|home| home.address.as_ref()).max_by_key(|(stamp, _)| stamp);
        shown.extend(main.or_else(newest).into_iter().flat_map(|(_, address)| shown_address(address)));
        shown
    }

    /// The fields that the building of each home must show; and whether it may show an older size as well: a move that comes
    /// later than what was sent after it takes nothing away at Podero. Nor does a home of the same address as another: it may have
    /// found the building that a lost answer left for that one.
    pub(super) fn homes(&self) -> Vec<(Vec<(&'static str, String)>, bool)> {
        let of = |home: &Home| {
            let mut shown = Vec::new();
            shown.extend(home.address.iter().flat_map(|(_, address)| shown_address(address)));
            shown.extend(home.size.iter().map(|(_, size)| ("property_size_m2", size.to_string())));
            let moved_late =
                home.address.as_ref().is_some_and(|(told, _)| home.moved.as_ref().is_some_and(|at| at < told));
            let has_same = |other: &&Home| other.address.iter().zip(&home.address).any(|(other, its)| other.1 == its.1);
            let has_twin = self.homes.values().filter(has_same).count() > 1;
            (shown, moved_late || has_twin)
        };
        self.homes.values().map(of).collect()
    }
}

fn shown_address([street, zip, town]: &Address) -> Vec<(&'static str, String)> {
    vec![("street_and_number", street.clone()), ("zip_code", zip.clone()), ("town", town.clone())]
}
