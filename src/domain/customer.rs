//! The bridge's knowledge of one customer: the facts that upstream sent, and the records that Podero holds.
//!
//! [`Facts`] merge by "newest wins, per fact", so the order of arrival does not matter; the order in which things happened does.
//! [`Customer::absorb`] writes out every legal transition of the records that Podero holds; nothing else changes them. A fact
//! becomes ours only once Podero took it: a refused event leaves no wish behind that would block the customer's next event.
//!
//! Before: [`crate::domain::event`]. After: [`crate::domain::plan`] compares the two halves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call::{BuildingFound, Changes, Done, PumpFound};
use super::country;
use super::event::{BuildingKey, Details, Event, Field, FieldValue, Happening, Move, Record};
use super::normal::{is_same_place, is_written_so, written};
use super::unheard::Unheard;
use super::{EventId, Stamp, Timestamp};

/// The durable knowledge about one customer; kept in the table `customers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// The facts that upstream sent and Podero took.
    pub facts: Facts,
    /// The records that Podero holds, as far as we know.
    pub podero: AtPodero,
    /// Calls that may have changed something unheard, in order: the audit log waits for what a look-up shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<Unheard>,
}

/// A value and the event that set it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// The position of its event in the customer's order; a newer one replaces it.
    pub stamp: Stamp,
}

/// The facts about a customer upstream. Merging is commutative except for ties, for a return after a churn, and for a move to the
/// address where the customer already lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The newest sign-up.
    pub signed_up: Option<Stamp>,
    /// The newest churn: the tombstone that keeps older events from resurrecting the customer.
    pub churned: Option<Stamp>,
    /// [`Field::PERSONAL`] fields.
    pub personal: BTreeMap<Field, Fact<FieldValue>>,
    /// The customer's homes.
    pub homes: BTreeMap<BuildingKey, Home>,
}

/// One home of a customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Home {
    /// The move into it, else the oldest event that speaks of it. A building made before it is another home's.
    pub since: Stamp,
    /// True if `since` is a move: then everything older is about the home before.
    #[serde(default)]
    pub is_moved_into: bool,
    /// Its address.
    pub address: Option<Address>,
    /// [`Field::BUILDING`] fields.
    pub attributes: BTreeMap<Field, Fact<FieldValue>>,
}

/// A home's address. Each part is a fact of its own: an update that names one part changes only that part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// The present parts, of [`Field::ADDRESS`].
    pub value: Record,
    /// The stamp of the newest part.
    pub stamp: Stamp,
    /// Stamps of the older parts. A part that is here and has no value was emptied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    earlier: BTreeMap<Field, Stamp>,
}

/// The records that Podero holds of a customer, as far as we know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AtPodero {
    /// The customer's user.
    pub user: ObservedUser,
    /// The completeness of `buildings`.
    pub listing: Listing,
    /// The building of each home.
    pub buildings: BTreeMap<BuildingKey, ObservedBuilding>,
    /// Homes that the customer left and that are still to be freed, oldest first.
    pub leaving: Vec<Leaving>,
    /// Buildings of ours that stay at Podero although they are no one's home: never adopted again.
    pub left: Vec<Uuid>,
    /// Buildings of ours in which no customer ever lived and that stay at Podero: the home for which one was made takes it, or a
    /// home that looks like it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spare: Vec<Spare>,
    /// Buildings that may have been made unseen by an event that was parked before it could look: the next list shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unlived>,
    /// Events for which a person was asked whether a building was made unseen, since Podero does not list buildings. If it is not
    /// empty, there is such a doubt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<EventId>,
    /// The time until which a change without an answer may be under way: no call about the customer is made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<Timestamp>,
    /// Heat pumps of homes that were left, each with its former building: their alerts are to be resolved, and they are no longer
    /// watched.
    pub retired: BTreeMap<Uuid, Uuid>,
    /// The user that was deleted last, or, while it is in doubt whether there is a user, the last one that we knew.
    pub departed: Option<Uuid>,
    /// Heat pumps to be paused before the user is deleted; `None`: not listed yet.
    pub pausing: Option<Vec<Uuid>>,
    /// The onboarding session made for each home.
    pub onboarding: BTreeMap<BuildingKey, Onboarding>,
}

impl AtPodero {
    /// Takes a building of ours in which no customer ever lived, even if it was to be deleted: the one that was made for this
    /// home, whatever its address has become since, or otherwise one that looks like it.
    fn take_spare(&mut self, key: &BuildingKey, home: &Home) -> Option<Spare> {
        let record = home.record(key);
        let made_for = |unlived: &Unlived| unlived.made_for == (key.clone(), home.since);
        let looks_so = |unlived: &Unlived| looks_like(&unlived.observed, &record);
        self.take_spare_that(made_for).or_else(|| self.take_spare_that(looks_so))
    }

    fn take_spare_that(&mut self, fits: impl Fn(&Unlived) -> bool) -> Option<Spare> {
        if let Some(place) = self.spare.iter().position(|spare| fits(&spare.unlived)) {
            return Some(self.spare.remove(place));
        }
        let place = self.leaving.iter().position(|leaving| leaving.spare.as_ref().is_some_and(&fits))?;
        let Leaving { building, spare, .. } = self.leaving.remove(place);
        spare.map(|unlived| Spare { id: building, unlived })
    }

    /// True if no customer ever lived in the building.
    pub fn is_spare(&self, building: Uuid) -> bool {
        self.leaving.iter().any(|leaving| leaving.building == building && leaving.spare.is_some())
    }

    /// The building that stands for a home; a building made for the home before the move does not.
    pub fn building_of(&self, key: &BuildingKey, home: &Home) -> Option<&ObservedBuilding> {
        self.buildings.get(key).filter(|there| there.since >= home.since)
    }
}

/// Our knowledge of the customer's user at Podero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ObservedUser {
    /// Unknown: the next call is a look-up. Every doubt leads back to here.
    #[default]
    #[serde(rename = "unlooked")]
    Unknown,
    /// A look-up found no user.
    Absent,
    /// A create was refused as a duplicate right after a look-up found no user: look once more.
    #[serde(rename = "contested")]
    Conflict,
    /// The user exists.
    Present {
        /// Podero's id.
        id: Uuid,
        /// The values that Podero holds in the fields we write, by its own last answer or our last successful write.
        #[serde(rename = "written")]
        observed: Record,
    },
}

/// The completeness of our list of the user's buildings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// We made the user or read its list.
    Complete,
    /// The user existed before us: read the list before a building is made.
    #[default]
    Unread,
    /// A create or a change may have happened unseen: without a list no building may be made.
    Doubtful,
}

/// A building at Podero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedBuilding {
    /// Podero's id.
    pub id: Uuid,
    /// The [`Home::since`] for which it was made; see [`AtPodero::building_of`].
    pub since: Stamp,
    /// The values that Podero holds in the fields we write.
    #[serde(rename = "written")]
    pub observed: Record,
}

/// A home being freed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// The old building.
    pub building: Uuid,
    /// Heat pumps in it that are still to be paused; `None`: not listed yet.
    pub to_pause: Option<Vec<Uuid>>,
    /// Set if no customer ever lived there: an event that was parked made it unseen. If it stays at Podero, the event takes it
    /// when it is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<Unlived>,
}

/// A building of ours that is no one's home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spare {
    /// Podero's id.
    pub id: Uuid,
    /// The record of the building and the home for which it was made.
    pub unlived: Unlived,
}

/// A building of ours, seen or not, in which no customer ever lived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unlived {
    /// The values that Podero holds in the fields we write; for an unseen building, those that it would hold.
    #[serde(rename = "written")]
    pub observed: Record,
    /// The home for which it was made, and its [`Home::since`].
    pub made_for: (BuildingKey, Stamp),
}

/// An onboarding session that was made for a home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Onboarding {
    /// The [`Home::since`] (or sign-up) for which it was made; one for the home before the move does not count.
    pub since: Stamp,
    /// The page on which the customer connects the heat pump; lives until the end of the following day.
    pub url: String,
}

/// The result of merging an event's facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// The facts after the merge.
    pub facts: Facts,
    /// The number of the event's facts that are the newest.
    pub accepted: usize,
    /// Names of the event's facts that a newer fact had already replaced.
    pub stale: Vec<String>,
    /// The newer facts, each once: a name and an event, never a value.
    pub newer: Vec<String>,
}

/// The form in which an e-mail address is searched for: people write its letters in any case.
pub fn email_of_search(text: &str) -> String {
    written(Field::Email, text).to_lowercase()
}

impl Facts {
    /// True if the customer is active: signed up, and not churned since.
    pub fn is_active(&self) -> bool {
        self.signed_up > self.churned
    }

    /// The e-mail address, in the form in which it is searched for; `None`: none is known.
    pub fn email(&self) -> Option<String> {
        let email = self.personal.get(&Field::Email)?;
        match &email.value {
            FieldValue::Text(text) => Some(email_of_search(text)),
            FieldValue::Flag(_) | FieldValue::Number(_) => None,
        }
    }

    /// Merges an event in. The same event twice merges to the same (ties win).
    pub fn merge(&self, event: &Event) -> Merged {
        let stamp = event.stamp();
        let mut merged = Merged { facts: self.clone(), ..Merged::default() };
        // A churn cancels everything that was announced before it, even for a day after it.
        let said = Stamp { time: event.time, event: event.id };
        let buried_from =
            if event.is_announced() && !matches!(event.happening, Happening::Churned) { said } else { stamp };
        let is_buried = self.churned.is_some_and(|churned| churned > buried_from);
        match &event.happening {
            _ if is_buried => merged.count("existence", self.churned.map(|by| set_at("the churn", by))),
            Happening::SignedUp(details) => {
                let newer = merged.facts.signed_up.filter(|known| *known > stamp);
                if newer.is_none() {
                    merged.facts.signed_up = Some(stamp);
                }
                merged.count("existence", newer.map(|by| set_at("the sign-up", by)));
                merged.details(details, stamp);
            }
            Happening::Updated(details) => merged.details(details, stamp),
            Happening::Moved(moved) => merged.relocate(moved, stamp),
            Happening::Churned => {
                let newer = self.signed_up.filter(|known| *known > stamp);
                if newer.is_none() {
                    merged.facts = Self { churned: Some(stamp), signed_up: self.signed_up, ..Self::default() };
                }
                merged.count("existence", newer.map(|by| set_at("the sign-up", by)));
            }
            Happening::CalledOff(_) | Happening::PurgeDue { .. } => merged.accepted = 1,
        }
        merged
    }

    /// Everything Podero's user should show: the person, and the address of `main` (else of the newest home).
    pub fn profile(&self) -> Record {
        self.profile_fields().map(|(field, value)| (field, value.clone())).collect()
    }

    fn profile_fields(&self) -> impl Iterator<Item = (Field, &FieldValue)> {
        let personal = self.personal.iter().filter(|(field, _)| **field != Field::Language);
        let address = self.profile_home().and_then(|home| home.address.as_ref()).map(|address| &address.value);
        personal.map(|(field, fact)| (*field, &fact.value)).chain(fields(address))
    }

    /// The home whose address Podero's user shows.
    fn profile_home(&self) -> Option<&Home> {
        let main = self.homes.iter().find(|(key, home)| key.is_main() && home.address.is_some()).map(|(_, home)| home);
        let newest = || {
            let told = self.homes.values().filter_map(|home| Some((home.address.as_ref()?.stamp, home)));
            told.max_by_key(|(stamp, _)| *stamp).map(|(_, home)| home)
        };
        main.or_else(newest)
    }

    /// The fields that must be written so that Podero's user, which shows `observed`, shows the [`Facts::profile`].
    pub fn profile_changes(&self, observed: &Record) -> Changes {
        let emptied = self.profile_home().into_iter().flat_map(Home::emptied);
        changes(observed, self.profile_fields(), emptied)
    }

    /// The code of the country (ISO 3166-1 alpha-2) of the home whose address Podero's user shows.
    pub fn country(&self) -> Option<&'static str> {
        let (_, value) = self.profile_fields().find(|(field, _)| *field == Field::Country)?;
        country::code(value.as_text()?)
    }

    /// A personal field's text.
    pub fn personal_text(&self, field: Field) -> Option<&str> {
        self.personal.get(&field).and_then(|fact| fact.value.as_text())
    }
}

impl Merged {
    /// Counts a fact of the event's; `newer` names the fact that had already replaced it.
    fn count(&mut self, name: &str, newer: Option<String>) {
        match newer {
            None => self.accepted += 1,
            Some(newer) => {
                self.stale.push(name.to_owned());
                if !self.newer.contains(&newer) {
                    self.newer.push(newer);
                }
            }
        }
    }

    fn details(&mut self, details: &Details, stamp: Stamp) {
        for (field, value) in &details.personal {
            let newer = match set_if_newer(&mut self.facts.personal, *field, value, stamp) {
                true => None,
                false => self.facts.personal.get(field).map(|fact| set_by(field.name(), fact.stamp)),
            };
            self.count(field.name(), newer);
        }
        if details.address.is_none() && details.building.is_none() {
            // An update may contain nothing that we keep; that does not make it stale.
            self.accepted += usize::from(details.personal.is_empty());
            return;
        }
        let name = home_name(&details.building_key);
        let home = self.facts.homes.entry(details.building_key.clone()).or_insert_with(|| Home::new(stamp));
        let mut newer = home.moved_into_after(&name, stamp);
        if newer.is_none() {
            home.since = if home.is_moved_into { home.since } else { home.since.min(stamp) };
            let won = home.address_if_newer(details.address.as_ref(), stamp)
                | home.attributes_if_newer(details.building.as_ref(), stamp);
            newer = (!won).then(|| home.newest(&name, stamp));
        }
        self.count(&name, newer);
    }

    fn relocate(&mut self, moved: &Move, stamp: Stamp) {
        let name = home_name(&moved.building_key);
        let home = self.facts.homes.entry(moved.building_key.clone()).or_insert_with(|| Home::new(stamp));
        let newer = home.moved_into_after(&name, stamp);
        if newer.is_none() {
            // A move to the address where the customer already lives (sent twice under two ids, or spelt differently) must not
            // tear down the home: it corrects it.
            if !home.address.as_ref().is_some_and(|known| known.is_home(&moved.address, stamp)) {
                (home.since, home.is_moved_into) = (stamp, true);
                home.attributes.retain(|_, fact| fact.stamp >= stamp);
                home.address = home.address.take().and_then(|address| address.said_since(stamp));
            }
            home.address_if_newer(Some(&moved.address), stamp);
            home.attributes_if_newer(Some(&moved.building), stamp);
        }
        self.count(&name, newer);
    }
}

fn home_name(key: &BuildingKey) -> String {
    format!("home/{}", key.as_str())
}

/// "the churn at TIME (event ID)".
fn set_at(what: &str, by: Stamp) -> String {
    format!("{what} at {} (event {})", by.time, by.event)
}

/// "a newer NAME (event ID)".
fn set_by(name: &str, by: Stamp) -> String {
    format!("a newer {name} (event {})", by.event)
}

impl Address {
    /// An address without parts.
    fn unsaid(stamp: Stamp) -> Self {
        Self { value: Record::new(), stamp, earlier: BTreeMap::new() }
    }

    /// Street, ZIP code and town together are a whole address: without an addition among them, it has none.
    fn is_whole(said: &Record) -> bool {
        [Field::StreetAndNumber, Field::ZipCode, Field::Town].iter().all(|field| said.contains_key(field))
    }

    /// The time at which a part was set, or emptied by a whole address without it.
    fn said_at(&self, field: Field) -> Option<Stamp> {
        let is_latest = |field: &Field| self.value.contains_key(field) && !self.earlier.contains_key(field);
        let is_emptied = field == Field::StreetAddInfo
            && [Field::StreetAndNumber, Field::ZipCode, Field::Town].iter().all(is_latest);
        let latest = (is_latest(&field) || is_emptied).then_some(self.stamp);
        self.earlier.get(&field).copied().or(latest)
    }

    fn stamps(&self) -> BTreeMap<Field, Stamp> {
        Field::ADDRESS.iter().filter_map(|field| Some((*field, self.said_at(*field)?))).collect()
    }

    fn set_stamps(&mut self, mut stamps: BTreeMap<Field, Stamp>) {
        self.stamp = stamps.values().max().copied().unwrap_or(self.stamp);
        stamps.retain(|_, stamp| *stamp != self.stamp);
        self.earlier = stamps;
    }

    /// Takes each part that no newer fact has set, and returns whether there was one.
    fn take(&mut self, said: &Record, stamp: Stamp) -> bool {
        let mut stamps = self.stamps();
        let mut any = false;
        for field in Field::ADDRESS {
            let value = said.get(&field);
            let is_said = value.is_some() || (field == Field::StreetAddInfo && Self::is_whole(said));
            if is_said && stamps.get(&field).is_none_or(|known| *known <= stamp) {
                stamps.insert(field, stamp);
                match value {
                    Some(value) => self.value.insert(field, value.clone()),
                    None => self.value.remove(&field),
                };
                any = true;
            }
        }
        self.set_stamps(stamps);
        any
    }

    /// The parts that were set from a moment on.
    fn said_since(mut self, since: Stamp) -> Option<Self> {
        let mut stamps = self.stamps();
        stamps.retain(|_, stamp| *stamp >= since);
        self.value.retain(|field, _| stamps.contains_key(field));
        let is_any = !stamps.is_empty();
        self.set_stamps(stamps);
        is_any.then_some(self)
    }

    /// True if a customer who moves to an address already lives there. In doubt they do, since a home that is torn down without
    /// reason loses its heat pump: a part that one of the two leaves out does not contradict, nor one that was corrected later.
    fn is_home(&self, moved: &Record, stamp: Stamp) -> bool {
        if self.value == *moved {
            return true;
        }
        let is_same = |field: Field| match (self.value.get(&field), moved.get(&field)) {
            (Some(known), Some(told)) => Some(is_same_place(field, known, told)),
            (None, _) | (_, None) => None,
        };
        let agrees = |field| is_same(field) == Some(true);
        let contradicts = |field| is_same(field) == Some(false) && self.said_at(field) <= Some(stamp);
        let (zip, town) = (agrees(Field::ZipCode), agrees(Field::Town));
        let is_elsewhere = [Field::StreetAddInfo, Field::ZipCode, Field::Town].into_iter().any(contradicts)
            // The same street, ZIP code and town in another country is a correction of the country.
            || (contradicts(Field::Country) && !(zip && town));
        agrees(Field::StreetAndNumber) && (zip || town) && !is_elsewhere
    }
}

impl Home {
    fn new(since: Stamp) -> Self {
        Self { since, is_moved_into: false, address: None, attributes: BTreeMap::new() }
    }

    /// Names the move into this home, if the event is older and so is about the home before.
    fn moved_into_after(&self, name: &str, stamp: Stamp) -> Option<String> {
        (self.is_moved_into && self.since > stamp).then(|| set_at(&format!("the move into {name}"), self.since))
    }

    /// Names the newest fact of the home, for an event that came too late to change anything.
    fn newest(&self, name: &str, stamp: Stamp) -> String {
        let address = self.address.iter().map(|address| (format!("address of {name}"), address.stamp));
        let attributes =
            self.attributes.iter().map(|(field, fact)| (format!("{} of {name}", field.name()), fact.stamp));
        let newest = address.chain(attributes).max_by_key(|(_, stamp)| *stamp);
        let (what, by) = newest.unwrap_or_else(|| (name.to_owned(), stamp));
        set_by(&what, by)
    }

    fn address_if_newer(&mut self, address: Option<&Record>, stamp: Stamp) -> bool {
        let Some(said) = address.filter(|said| !said.is_empty()) else { return false };
        self.address.get_or_insert_with(|| Address::unsaid(stamp)).take(said, stamp)
    }

    /// Parts of an address that Podero must not show: those that a move left behind, and an addition that a whole address does
    /// not have. Parts that upstream never named stay as they are at Podero.
    fn emptied(&self) -> impl Iterator<Item = Field> {
        let address = self.address.as_ref();
        let is_emptied = move |field: &Field| {
            address.is_some_and(|address| {
                let is_of_old =
                    self.is_moved_into || (*field == Field::StreetAddInfo && Address::is_whole(&address.value));
                is_of_old && !address.value.contains_key(field)
            })
        };
        Field::ADDRESS.into_iter().filter(is_emptied)
    }

    fn attributes_if_newer(&mut self, attributes: Option<&Record>, stamp: Stamp) -> bool {
        let Some(attributes) = attributes else { return false };
        let mut any = attributes.is_empty();
        for (field, value) in attributes {
            any |= set_if_newer(&mut self.attributes, *field, value, stamp);
        }
        any
    }

    /// Everything Podero's building should show. `name` is always there: Podero requires it in every write.
    pub fn record(&self, key: &BuildingKey) -> Record {
        let mut record: Record = self.said().map(|(field, value)| (field, value.clone())).collect();
        record.entry(Field::Name).or_insert_with(|| FieldValue::from(self.default_name(key)));
        record
    }

    fn said(&self) -> impl Iterator<Item = (Field, &FieldValue)> {
        let attributes = self.attributes.iter().map(|(field, fact)| (*field, &fact.value));
        attributes.chain(fields(self.address.as_ref().map(|address| &address.value)))
    }

    /// The fields that must be written so that Podero's building, which shows `observed`, shows the [`Home::record`].
    pub fn changes(&self, key: &BuildingKey, observed: &Record) -> Changes {
        let is_named = self.attributes.contains_key(&Field::Name);
        let default_name = (!is_named).then(|| FieldValue::from(self.default_name(key)));
        let name = default_name.as_ref().map(|name| (Field::Name, name));
        changes(observed, self.said().chain(name), self.emptied())
    }

    /// "Street 1, 01067 Town", from the parts that exist; the key if there is no address.
    fn default_name(&self, key: &BuildingKey) -> String {
        let address = self.address.as_ref().map(|address| &address.value);
        let text = |field| address.and_then(|address| address.get(&field)?.as_text()).unwrap_or_default();
        let place = format!("{} {}", text(Field::ZipCode), text(Field::Town));
        let parts = [text(Field::StreetAndNumber), place.trim()];
        let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let name = if name.is_empty() { key.as_str() } else { &name };
        name.chars().take(BUILDING_NAME_CHARS_MAX).collect()
    }
}

fn fields(record: Option<&Record>) -> impl Iterator<Item = (Field, &FieldValue)> {
    record.into_iter().flatten().map(|(field, value)| (*field, value))
}

/// Limit of one customer's parked events that may each have made a building unseen: more than a handful is a case for a person.
const UNSEEN_MAX: usize = 32;

/// Limit of a building's name at Podero, in characters.
pub const BUILDING_NAME_CHARS_MAX: usize = 100;

fn set_if_newer(facts: &mut BTreeMap<Field, Fact<FieldValue>>, field: Field, value: &FieldValue, stamp: Stamp) -> bool {
    let newer = facts.get(&field).is_none_or(|known| known.stamp <= stamp);
    if newer {
        facts.insert(field, Fact { value: value.clone(), stamp });
    }
    newer
}

impl Customer {
    /// Prepares for a new claim. After an interrupted one (a crash, a lapsed lease) a create may have happened unseen, so the
    /// bridge forgets everything that a look-up can show.
    pub fn begin(&mut self, was_interrupted: bool) {
        let present = matches!(self.podero.user, ObservedUser::Present { .. });
        if was_interrupted || !present {
            self.doubt_user();
        }
        if was_interrupted {
            self.doubt_buildings();
        }
        self.podero.pausing = None;
    }

    /// The user may exist unseen, or be gone: look up before anything else.
    pub fn doubt_user(&mut self) {
        self.podero.departed = self.user_id().or(self.podero.departed);
        self.podero.user = ObservedUser::Unknown;
    }

    /// A building may exist unseen, or show other values than we know: read the list before one is made or changed.
    pub fn doubt_buildings(&mut self) {
        self.podero.listing = Listing::Doubtful;
    }

    /// Podero does not list buildings: our buildings are written again as a whole, which changes no correct value.
    pub fn forget_written(&mut self) {
        self.podero.buildings.values_mut().for_each(|there| there.observed.clear());
    }

    /// A person has to look for a building that this event cannot see.
    pub fn ask(&mut self, event: EventId) {
        let asked = &mut self.podero.asked;
        asked.push(event);
        // If an event is forgotten, a person is asked for it again.
        asked.drain(..asked.len().saturating_sub(UNSEEN_MAX));
    }

    /// Keeps the buildings that an event may have made unseen, if the event is put aside before it looked. The events after it
    /// want other homes, and would take a strange building for another customer's.
    pub fn remember_unseen(&mut self, desired: &Facts) {
        if self.podero.listing != Listing::Doubtful {
            return;
        }
        for (key, home) in &desired.homes {
            let unlived = Unlived { observed: home.record(key), made_for: (key.clone(), home.since) };
            if self.podero.building_of(key, home).is_none() && !self.podero.unseen.contains(&unlived) {
                self.podero.unseen.push(unlived);
            }
        }
        let excess = self.podero.unseen.len().saturating_sub(UNSEEN_MAX);
        self.podero.unseen.drain(..excess);
    }

    /// Podero's id of the customer's user, if known.
    pub fn user_id(&self) -> Option<Uuid> {
        match &self.podero.user {
            ObservedUser::Present { id, .. } => Some(*id),
            ObservedUser::Unknown | ObservedUser::Absent | ObservedUser::Conflict => None,
        }
    }

    /// Records the facts that a call made true at Podero. `desired` are the facts that the call served: those that it realised
    /// become ours.
    pub fn absorb(&mut self, desired: &Facts, done: Done) {
        match done {
            Done::UserLookedUp(None) => self.forget_user(),
            Done::UserLookedUp(Some(found)) => {
                if self.podero.listing == Listing::Complete {
                    self.podero.listing = Listing::Unread;
                }
                self.podero.user = ObservedUser::Present { id: found.id, observed: found.observed };
            }
            Done::UserCreated { user, record } => {
                self.forget_user();
                self.podero.user = ObservedUser::Present { id: user, observed: record };
                self.podero.listing = Listing::Complete;
                self.realise_person(desired);
            }
            Done::UserUpdated { changes } => {
                if let ObservedUser::Present { observed, .. } = &mut self.podero.user {
                    apply_changes(observed, changes);
                }
                self.realise_person(desired);
            }
            Done::UserDeleted { user } if self.user_id().is_none_or(|known| known == user) => {
                self.forget_user();
                self.podero.departed = Some(user);
                self.facts = desired.clone();
            }
            // A user under which the customer no longer lives: the present one stays as it is.
            Done::UserDeleted { .. } => {}
            Done::BuildingsListed(found) => self.adopt_buildings(desired, &found),
            Done::BuildingCreated { building, key, since, record } => {
                self.settle_into(&key, ObservedBuilding { id: building, since, observed: record });
                self.realise_home(desired, &key);
            }
            Done::BuildingUpdated { key, changes } => {
                if let Some(there) = self.podero.buildings.get_mut(&key) {
                    apply_changes(&mut there.observed, changes);
                }
                self.realise_home(desired, &key);
            }
            Done::BuildingDeleted { building } => self.home_freed(building, false),
            Done::HeatPumpsListed(pumps) => self.note_pumps(&pumps),
            Done::HeatPumpPaused { heat_pump } => self.pump_paused(heat_pump),
            Done::SessionCreated { key, since, url } => {
                self.podero.onboarding.insert(key, Onboarding { since, url });
            }
        }
    }

    /// The old building is no longer a home; `stays` if it remains at Podero.
    pub fn home_freed(&mut self, building: Uuid, stays: bool) {
        let (freed, others) = self.podero.leaving.drain(..).partition(|leaving| leaving.building == building);
        self.podero.leaving = others;
        if stays {
            self.stay(freed);
        }
    }

    /// Buildings that were freed and stay at Podero.
    pub fn stay(&mut self, freed: Vec<Leaving>) {
        for leaving in freed {
            match leaving.spare {
                Some(unlived) => self.podero.spare.push(Spare { id: leaving.building, unlived }),
                None => self.podero.left.push(leaving.building),
            }
        }
    }

    /// Gives a building of ours in which no customer ever lived to the home for which it was made, or to one that looks like it,
    /// instead of making another.
    pub fn take_spares(&mut self, desired: &Facts) {
        for (key, home) in &desired.homes {
            if self.podero.building_of(key, home).is_none()
                && let Some(Spare { id, unlived }) = self.podero.take_spare(key, home)
            {
                self.settle_into(key, ObservedBuilding { id, since: home.since, observed: unlived.observed });
            }
        }
    }

    /// The pump is paused, or gone: Podero no longer steers it.
    pub fn pump_paused(&mut self, heat_pump: Uuid) {
        if let Some(pumps) = &mut self.podero.pausing {
            pumps.retain(|pump| *pump != heat_pump);
        }
        for leaving in &mut self.podero.leaving {
            if let Some(pumps) = &mut leaving.to_pause {
                pumps.retain(|pump| *pump != heat_pump);
            }
        }
    }

    /// The user does not exist: nothing that depended on it does either.
    fn forget_user(&mut self) {
        let departed = self.podero.departed;
        self.podero = AtPodero { user: ObservedUser::Absent, departed, ..AtPodero::default() };
    }

    fn realise_person(&mut self, desired: &Facts) {
        self.facts.signed_up = desired.signed_up;
        self.facts.churned = desired.churned;
        self.facts.personal = desired.personal.clone();
    }

    fn realise_home(&mut self, desired: &Facts, key: &BuildingKey) {
        if let Some(home) = desired.homes.get(key) {
            self.facts.homes.insert(key.clone(), home.clone());
        }
    }

    fn settle_into(&mut self, key: &BuildingKey, there: ObservedBuilding) {
        if let Some(old) = self.podero.buildings.insert(key.clone(), there) {
            self.podero.leaving.push(Leaving { building: old.id, to_pause: None, spare: None });
        }
    }

    /// Adopts each listed building that looks like a desired home without one.
    fn adopt_buildings(&mut self, desired: &Facts, found: &[BuildingFound]) {
        self.podero.listing = Listing::Complete;
        self.podero.asked.clear();
        let listed = |id: Uuid| found.iter().any(|building| building.id == id);
        self.podero.buildings.retain(|_, there| listed(there.id));
        for there in self.podero.buildings.values_mut() {
            if let Some(building) = found.iter().find(|building| building.id == there.id) {
                there.observed = building.observed.clone();
            }
        }
        self.podero.leaving.retain(|leaving| listed(leaving.building));
        self.podero.spare.retain(|spare| listed(spare.id));
        self.take_spares(desired);
        for (key, home) in &desired.homes {
            if self.podero.building_of(key, home).is_some() {
                continue;
            }
            let record = home.record(key);
            if let Some(building) = found.iter().find(|building| self.may_adopt(building, &record)) {
                let there =
                    ObservedBuilding { id: building.id, since: home.since, observed: building.observed.clone() };
                self.settle_into(key, there);
            }
        }
        for unseen in std::mem::take(&mut self.podero.unseen) {
            // The building is no longer a home, and ours to free.
            if let Some(building) = found.iter().find(|building| self.may_adopt(building, &unseen.observed)) {
                let unlived = Unlived { observed: building.observed.clone(), ..unseen };
                self.podero.leaving.push(Leaving { building: building.id, to_pause: None, spare: Some(unlived) });
            }
        }
    }

    fn may_adopt(&self, building: &BuildingFound, record: &Record) -> bool {
        let podero = &self.podero;
        let is_ours = podero.buildings.values().any(|there| there.id == building.id)
            || podero.leaving.iter().any(|leaving| leaving.building == building.id)
            || podero.spare.iter().any(|spare| spare.id == building.id)
            || podero.left.contains(&building.id);
        !is_ours && looks_like(&building.observed, record)
    }

    fn note_pumps(&mut self, pumps: &[PumpFound]) {
        let steered = |pump: &&PumpFound| pump.is_steered;
        for leaving in self.podero.leaving.iter_mut().filter(|leaving| leaving.to_pause.is_none()) {
            let inside: Vec<&PumpFound> = pumps.iter().filter(|p| p.building == Some(leaving.building)).collect();
            leaving.to_pause = Some(inside.iter().copied().filter(steered).map(|pump| pump.id).collect());
            self.podero.retired.extend(inside.iter().map(|pump| (pump.id, leaving.building)));
        }
        self.podero.pausing = Some(pumps.iter().filter(steered).map(|pump| pump.id).collect());
    }
}

/// True if Podero's record is the building of this record, in any spelling. One of Podero's pages shows a ZIP code as a number,
/// without its leading zeros.
fn looks_like(observed: &Record, record: &Record) -> bool {
    [Field::ZipCode, Field::Name, Field::StreetAndNumber].into_iter().all(|field| {
        match (observed.get(&field), record.get(&field)) {
            (Some(shown), Some(desired)) => is_same_place(field, shown, desired),
            (shown, desired) => shown == desired,
        }
    })
}

/// The changes after which `observed` shows `desired` and nothing in the `emptied` fields. Fields that the facts do not name stay
/// untouched. A difference that no reader sees, such as the format of a country (Podero's pages use alpha-2, alpha-3 and names),
/// is none; but an address that changes always takes its country along.
fn changes<'a>(
    observed: &Record,
    desired: impl Iterator<Item = (Field, &'a FieldValue)>,
    emptied: impl Iterator<Item = Field>,
) -> Changes {
    let mut changes = Changes::new();
    let mut desired_country = None;
    for (field, value) in desired {
        if !observed.get(&field).is_some_and(|shown| is_written_so(field, shown, value)) {
            changes.insert(field, Some(value.clone()));
        }
        if field == Field::Country {
            desired_country = Some(value);
        }
    }
    changes.extend(emptied.filter(|field| observed.contains_key(field)).map(|field| (field, None)));
    let address_changes = Field::ADDRESS.iter().any(|field| changes.contains_key(field));
    if address_changes && observed.get(&Field::Country) != desired_country {
        changes.extend(desired_country.map(|country| (Field::Country, Some(country.clone()))));
    }
    changes
}

fn apply_changes(observed: &mut Record, changes: Changes) {
    for (field, value) in changes {
        match value {
            Some(value) => observed.insert(field, value),
            None => observed.remove(&field),
        };
    }
}

#[cfg(test)]
mod tests;
