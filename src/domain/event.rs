//! The events that upstream reports about one customer, in this product's own terms.
//!
//! Source-neutral: this file knows no CloudEvents, no queue and no sender's field names. The inbox keeps the serialised form, so
//! fields are only ever added, and readers tolerate missing ones.
//!
//! Before: [`crate::inbound`] makes it. After: [`crate::domain::customer`] absorbs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::names::names;
use super::{CustomerId, EventId, Stamp, Timestamp};

/// One event in the life of one customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The bridge's own id; sorts by arrival.
    pub id: EventId,
    /// The customer that it concerns. Events of one customer share a lane.
    pub customer: CustomerId,
    /// The time at which it happened, by the sender's clock.
    pub time: Timestamp,
    /// The time at which it takes effect, if the sender announced it in advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_at: Option<Timestamp>,
    /// The content of the event.
    pub happening: Happening,
}

impl Event {
    /// The event's position in its customer's order. An event announced in advance counts from the day on which it takes effect:
    /// a correction made in between is about the home in which the customer still lives.
    pub fn stamp(&self) -> Stamp {
        Stamp { time: self.effective_at.map_or(self.time, |at| at.max(self.time)), event: self.id }
    }

    /// True if it was sent before the day on which it takes effect.
    pub fn is_announced(&self) -> bool {
        self.effective_at.is_some_and(|at| at > self.time)
    }

    /// The name of the change: of two events about the same change, the later one replaces the other while that waits for its
    /// day. A customer's existence is one change (sign-up, churn), the move into each home another. `None`: a correction replaces
    /// nothing.
    pub fn change(&self) -> Option<String> {
        match &self.happening {
            Happening::SignedUp(_) | Happening::Churned | Happening::CalledOff(Change::Existence) => {
                Some("existence".to_owned())
            }
            Happening::Moved(Move { building_key: key, .. }) | Happening::CalledOff(Change::Home { key }) => {
                Some(format!("home/{}", key.as_str()))
            }
            Happening::Updated(_) | Happening::PurgeDue { .. } => None,
        }
    }
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// A person became a customer; `details.email` is always there.
    SignedUp(Details),
    /// The customer left one home for another.
    Moved(Move),
    /// Something known about the customer was corrected.
    Updated(Details),
    /// The customer left.
    Churned,
    /// An announced churn, or an announced move into a home, is cancelled. Waits for nothing and makes no calls.
    CalledOff(Change),
    /// The bridge's own event: the retention after a soft deletion has passed.
    PurgeDue {
        /// The soft-deleted user to be removed for good.
        user: Uuid,
    },
}

impl Happening {
    /// The kind under which a sender sends it; `None`: it is the bridge's own, and no sender can send it.
    pub fn kind(&self) -> Option<EventKind> {
        match self {
            Self::SignedUp(_) => Some(EventKind::SignedUp),
            Self::Moved(_) | Self::CalledOff(Change::Home { .. }) => Some(EventKind::Moved),
            Self::Updated(_) => Some(EventKind::Updated),
            Self::Churned | Self::CalledOff(Change::Existence) => Some(EventKind::Churned),
            Self::PurgeDue { .. } => None,
        }
    }

    /// The home into which a sign-up or a move brings the customer.
    pub fn new_home(&self) -> Option<&BuildingKey> {
        match self {
            Self::SignedUp(details) => Some(&details.building_key),
            Self::Moved(moved) => Some(&moved.building_key),
            Self::Updated(_) | Self::Churned | Self::CalledOff(_) | Self::PurgeDue { .. } => None,
        }
    }

    /// The fixed public name of this type of event.
    pub fn type_name(&self) -> &'static str {
        self.kind().map_or(PURGE_DUE, EventKind::name)
    }
}

names! {
    /// The kinds of events that an upstream system may send; the name is the CloudEvents `type`.
    pub enum EventKind {
        /// A person became a customer.
        SignedUp = "customer.signed_up",
        /// The customer left one home for another.
        Moved = "customer.moved",
        /// Something known about the customer was corrected.
        Updated = "customer.updated",
        /// The customer left.
        Churned = "customer.churned",
        /// A person joined the utility's team.
        MemberJoined = "team.member_joined",
        /// Something known about a member of the team was corrected.
        MemberUpdated = "team.member_updated",
        /// A member of the team has another role.
        MemberRoleChanged = "team.member_role_changed",
        /// A member of the team left.
        MemberLeft = "team.member_left",
    }

    /// The state of an accepted event.
    pub enum EventState {
        /// Due now or after a back-off, at the head of its lane or behind another.
        Pending = "pending",
        /// Announced; takes effect on its day.
        Scheduled = "scheduled",
        /// A move or an update whose sign-up has not come yet.
        Waiting = "waiting",
        /// Podero holds its content.
        Applied = "applied",
        /// A newer event says otherwise.
        Superseded = "superseded",
        /// A person is needed.
        Parked = "parked",
        /// An operator passed over it.
        Skipped = "skipped",
    }

    /// The transport by which an event arrived; its name is the one that is stored and shown as its `door`.
    pub enum Transport {
        /// A webhook.
        Http = "webhook",
        /// A message from RabbitMQ.
        Amqp = "amqp",
        /// A line of a file that an operator imported.
        Import = "import",
        /// A request of an identity provider.
        Scim = "scim",
    }
}

impl EventKind {
    /// True if it is about a member of the team, and not about a customer.
    pub fn is_of_team(self) -> bool {
        match self {
            Self::SignedUp | Self::Moved | Self::Updated | Self::Churned => false,
            Self::MemberJoined | Self::MemberUpdated | Self::MemberRoleChanged | Self::MemberLeft => true,
        }
    }
}

impl Transport {
    /// Value of the metrics' label `transport`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Amqp | Self::Import | Self::Scim => self.name(),
        }
    }
}

/// The type that stands for a message which could not be read as an event.
pub const UNKNOWN: &str = "unknown";

/// The type of the bridge's own event, the removal of a soft-deleted user after its retention. No sender can name it.
pub const PURGE_DUE: &str = "customer.purge_due";

/// A change that is announced in advance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The customer leaves.
    Existence,
    /// The move into a home.
    Home {
        /// The home, among the customer's homes.
        key: BuildingKey,
    },
}

/// The content of a sign-up or an update; a field that is `None` was not sent and stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// [`Field::PERSONAL`] fields, each a fact of its own.
    #[serde(default)]
    pub personal: Record,
    /// The home that `address` and `building` are about.
    #[serde(default)]
    pub building_key: BuildingKey,
    /// [`Field::ADDRESS`] fields, each a fact of its own: parts that are not named stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Record>,
    /// [`Field::BUILDING`] fields. `Some`, even if empty, means that the sender mentioned a building: one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Record>,
}

/// A move into another home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The home that changes, among the customer's homes.
    #[serde(default)]
    pub building_key: BuildingKey,
    /// [`Field::ADDRESS`] fields of the new home.
    pub address: Record,
    /// [`Field::BUILDING`] fields of the new home; the old one's do not carry over.
    #[serde(default)]
    pub building: Record,
}

/// The utility's own name for one of a customer's homes; `main` unless it has several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildingKey(String);

impl BuildingKey {
    /// Accepts a valid id; `None` otherwise.
    pub fn accept(text: &str) -> Option<Self> {
        super::text::id(text, super::ID_CHARS_MAX).map(Self)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if it is the key that stands for a missing one.
    pub fn is_main(&self) -> bool {
        self.0 == MAIN
    }
}

const MAIN: &str = "main";

impl Default for BuildingKey {
    fn default() -> Self {
        Self(MAIN.to_owned())
    }
}

/// Values by field: a profile, an address, a building's attributes.
pub type Record = BTreeMap<Field, FieldValue>;

names! {
    /// One describable thing about a customer or a home. Each has the name of the field in the Podero API, and upstream the same;
    /// the groups below say where it belongs.
    pub enum Field {
        Email = "email",
        FirstName = "first_name",
        LastName = "last_name",
        Language = "language",
        StreetAndNumber = "street_and_number",
        StreetAddInfo = "street_add_info",
        ZipCode = "zip_code",
        Town = "town",
        Country = "country",
        Name = "name",
        PropertyType = "property_type",
        OccupantType = "occupant_type",
        SpaceHeating = "space_heating",
        WaterHeating = "water_heating",
        PropertySizeM2 = "property_size_m2",
        PropertyAge = "property_age",
        NumOccupants = "num_occupants",
        Photovoltaic = "photovoltaic",
    }
}

impl Field {
    /// Fields of the person. `Language` is the bridge's alone: Podero wants it per onboarding session.
    pub const PERSONAL: [Self; 4] = [Self::Email, Self::FirstName, Self::LastName, Self::Language];

    /// Parts of an address. Every part is text, a ZIP code too ("01067").
    pub const ADDRESS: [Self; 5] =
        [Self::StreetAndNumber, Self::StreetAddInfo, Self::ZipCode, Self::Town, Self::Country];

    /// Fields that describe a building apart from its address.
    pub const BUILDING: [Self; 9] = [
        Self::Name,
        Self::PropertyType,
        Self::OccupantType,
        Self::SpaceHeating,
        Self::WaterHeating,
        Self::PropertySizeM2,
        Self::PropertyAge,
        Self::NumOccupants,
        Self::Photovoltaic,
    ];
}

/// The value of a [`Field`]; its JSON form is the bare value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// A flag.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text. Shared, since the wanted, the known and Podero's text are the same most of the time, and are copied and compared
    /// for each event.
    Text(Arc<str>),
}

impl FieldValue {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) | Self::Number(_) => None,
        }
    }
}

impl Serialize for FieldValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// By way of a JSON value: the derived one tries each form in turn and makes an error for every one that does not fit. A customer
/// has a dozen of these values, and is read for each event.
impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("expected a flag, a whole number or a text");
        match Value::deserialize(deserializer)? {
            Value::Bool(flag) => Ok(Self::Flag(flag)),
            Value::Number(number) => number.as_i64().map(Self::Number).ok_or_else(wrong),
            Value::String(text) => Ok(text.into()),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong()),
        }
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_reads_back_as_the_same_event() {
        let event = Event {
            id: EventId(Uuid::from_u128(7)),
            customer: CustomerId::accept("C-1").expect("valid"),
            time: Timestamp::from_micros(1_000_000),
            effective_at: None,
            happening: Happening::SignedUp(Details {
                personal: [(Field::Email, "a@example.com".into())].into(),
                address: Some([(Field::ZipCode, "01067".into())].into()),
                building: Some([(Field::Photovoltaic, FieldValue::Flag(true))].into()),
                ..Details::default()
            }),
        };
        let stored = serde_json::to_string(&event).expect("serialises");
        assert_eq!(serde_json::from_str::<Event>(&stored).expect("reads"), event);
        assert!(stored.contains("\"01067\""));
    }

    #[test]
    fn a_value_is_read_as_what_it_is() {
        let read = |text: &str| serde_json::from_str::<FieldValue>(text);
        assert_eq!(read("true").expect("a flag"), FieldValue::Flag(true));
        for number in [0, -3, i64::MIN, i64::MAX] {
            assert_eq!(read(&number.to_string()).expect("a number"), FieldValue::Number(number));
        }
        for text in ["", "01067", "true", "ä \"quoted\" \n"] {
            assert_eq!(read(&serde_json::to_string(text).expect("text")).expect("a text"), text.into());
        }
        for wrong in ["null", "1.5", "9223372036854775808", "[]", "{}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fields_stored_name_is_its_public_name() {
        for field in [&Field::PERSONAL[..], &Field::ADDRESS, &Field::BUILDING].concat() {
            assert_eq!(serde_json::to_value(field).expect("serialises"), field.name());
        }
    }

    #[test]
    fn an_event_announced_ahead_counts_from_the_day_it_takes_effect() {
        let at = Timestamp::from_micros;
        let event = |effective_at| Event {
            id: EventId(Uuid::nil()),
            customer: CustomerId::accept("C").expect("valid"),
            time: at(10),
            effective_at,
            happening: Happening::Churned,
        };
        for (effective_at, expected) in [(None, 10), (Some(at(20)), 20), (Some(at(5)), 10)] {
            assert_eq!(event(effective_at).stamp().time, at(expected));
        }
    }
}
