//! Upstream's terms: from a CloudEvent to an [`Event`]. No code past this file knows them.
//!
//! Pure. All errors are named at once, each with its JSON pointer, what was found and what is allowed; the values themselves
//! are not repeated. Fields that the bridge does not know are passed over: a sender may add some any day.
//!
//! Before: [`crate::inbound::cloudevents`]. After: [`crate::store`] keeps the event.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cloudevents::{Envelope, must_be, start_of};
use super::control::{self, BUILDING_KEY, CANCELLED, CONTROLS, EFFECTIVE_AT};
use crate::domain::event::{
    BuildingKey, Change, Details, Event, EventKind, Field, FieldValue, Happening, Move, Record,
};
use crate::domain::text::{is_invisible, looks_like_email, trim};
use crate::domain::{CustomerId, EventId, ID_CHARS_MAX, Timestamp, date};
use crate::problem::{FieldError, Problem};

/// Limit of names and e-mail addresses. Podero shows none; RFC 5321 allows an address 254 octets.
pub(super) const PERSONAL_CHARS_MAX: usize = 254;
/// Limit of Podero for street, addition, town and a building's name.
const TEXT_CHARS_MAX: usize = 100;
/// Limit of Podero for a building's `zip_code`.
const ZIP_CHARS_MAX: usize = 20;
/// Limit of Podero for heating and other texts of a building.
const KIND_CHARS_MAX: usize = 50;
/// Limit of a whole number: Podero counts in 32 bits.
pub const WHOLE_MAX: i64 = i32::MAX as i64;

/// Limit of how far ahead of its arrival an event may say that it happened: a sender's clock may be wrong, and a date may stand
/// for the end of its day. A later time would win over everything true until then.
pub(super) const TIME_AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Limit of how far ahead an event may be announced. A date in the far future is a typing error, and its event would wait for ever.
pub(super) const EFFECTIVE_AHEAD_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The values that a field may have.
#[derive(Debug, Clone, Copy)]
pub enum FieldForm {
    /// A text of at most this number of characters.
    Text(usize),
    /// One of these words, in any case of its letters.
    OneOf(&'static [&'static str]),
    /// A whole number, not negative.
    Whole,
    /// True or false.
    Flag,
}

/// The values that this field may have.
pub fn form(field: Field) -> FieldForm {
    match field {
        Field::Email | Field::FirstName | Field::LastName | Field::Language => FieldForm::Text(PERSONAL_CHARS_MAX),
        Field::StreetAndNumber | Field::StreetAddInfo | Field::Town | Field::Country | Field::Name => {
            FieldForm::Text(TEXT_CHARS_MAX)
        }
        Field::ZipCode => FieldForm::Text(ZIP_CHARS_MAX),
        Field::SpaceHeating | Field::WaterHeating => FieldForm::Text(KIND_CHARS_MAX),
        Field::PropertyType => FieldForm::OneOf(&PROPERTY_TYPES),
        Field::OccupantType => FieldForm::OneOf(&OCCUPANT_TYPES),
        Field::PropertySizeM2 | Field::PropertyAge | Field::NumOccupants => FieldForm::Whole,
        Field::Photovoltaic => FieldForm::Flag,
    }
}

/// Podero's values of `property_type` (API page "update details of a building").
const PROPERTY_TYPES: [&str; 6] = ["Detached", "Semi-detached", "Bungalow", "Terraced", "End-terrace", "Flat"];
/// Podero's values of `occupant_type`.
const OCCUPANT_TYPES: [&str; 6] =
    ["Students", "Working adults", "At home adults", "Young family", "Older family", "Retirees"];

const CUSTOMER_ID: &str = "customer_id";

/// The other names in `data`: none of them is a slip of another.
const FIELDS: [&str; 8] =
    [CUSTOMER_ID, "address", "building", "email", "first_name", "last_name", "language", "reason"];

/// Limit of near misses in one refusal: a sender with more has made one mistake in all of them.
const NEAR_MISSES_TOLD_MAX: usize = 16;

/// The time at which something happened when only its arrival is known. `trusted` is now without a jump of the clock: an event
/// stamped years ahead would win over all that is said of the customer until then. A jump below `TIME_AHEAD_MAX` is accepted,
/// as a sender's wrong clock is.
pub fn happened_by(received_at: Timestamp, trusted: Timestamp) -> Timestamp {
    if received_at > trusted.plus(TIME_AHEAD_MAX) { trusted } else { received_at }
}

/// Translates one event. `id` becomes its own id; a missing `time` is the moment of its arrival.
pub fn event(envelope: &Envelope, id: EventId, received_at: Timestamp) -> Result<Event, Problem> {
    let mut errors = Vec::new();
    let event = read(envelope, id, received_at, &mut errors);
    match event {
        Some(event) if errors.is_empty() => Ok(event),
        Some(_) | None => Err(Problem::invalid(errors)),
    }
}

/// The event's `data`, which an event that says everything in `subject` need not have; `None` if it is no object. A time ahead, and
/// an attribute of the event whose name means one of `controls`, are told.
pub(super) fn data_of<'a>(
    envelope: &'a Envelope,
    controls: &[&'static str],
    received_at: Timestamp,
    errors: &mut Vec<FieldError>,
) -> Option<Cow<'a, Map<String, Value>>> {
    let data = match (&envelope.data, envelope.data.as_object()) {
        (_, Some(data)) => Cow::Borrowed(data),
        (data, None) if data.is_null() => Cow::Owned(Map::new()),
        (data, None) => {
            errors.push(FieldError::new("/data", must_be("an object", data)));
            return None;
        }
    };
    if envelope.time.is_some_and(|time| time > received_at.plus(TIME_AHEAD_MAX)) {
        let reason = "must not be in the future: it is when it happened; `data.effective_at` announces ahead";
        errors.push(FieldError::new("/time", reason));
    }
    errors.extend(envelope.astray.iter().filter(|(_, meant)| controls.contains(meant)).map(|(name, meant)| {
        let reason = format!("`{meant}` belongs into `data`; as an attribute of the event it has no meaning");
        FieldError::new(format!("/{name}"), reason)
    }));
    Some(data)
}

fn read(envelope: &Envelope, id: EventId, received_at: Timestamp, errors: &mut Vec<FieldError>) -> Option<Event> {
    let kind = EventKind::from_name(&envelope.type_name).filter(|kind| !kind.is_of_team());
    let Some(kind) = kind else {
        let known = EventKind::names().join(", ");
        errors.push(FieldError::new("/type", format!("not a known type; one of {known}")));
        return None;
    };
    let controls = controls_of(kind);
    let data = data_of(envelope, controls, received_at, errors)?;
    let mut data = FieldReader { fields: &data, pointer: "/data".to_owned(), errors };
    let customer = data.subject_id(CUSTOMER_ID, envelope.subject.as_deref(), CustomerId::accept);
    if !controls.is_empty() {
        data.near_misses(controls, customer.as_ref());
    }
    let effective_at = data.moment(EFFECTIVE_AT);
    if effective_at.is_some_and(|at| at > received_at.plus(EFFECTIVE_AHEAD_MAX)) {
        data.wrong(EFFECTIVE_AT, "must be at most ten years ahead");
    }
    let is_off = !controls.is_empty() && data.flag(CANCELLED) == Some(true);
    let happening = match kind {
        EventKind::Moved if is_off => Happening::CalledOff(Change::Home { key: data.home().0 }),
        EventKind::Churned if is_off => Happening::CalledOff(Change::Existence),
        EventKind::SignedUp => Happening::SignedUp(data.details(true)),
        EventKind::Moved => Happening::Moved(data.relocation()?),
        EventKind::Updated => Happening::Updated(data.details(false)),
        EventKind::Churned => Happening::Churned,
        EventKind::MemberJoined | EventKind::MemberUpdated | EventKind::MemberRoleChanged | EventKind::MemberLeft => {
            return None;
        }
    };
    let may_be_ahead = matches!(happening, Happening::Moved(_) | Happening::Churned);
    Some(Event {
        id,
        customer: customer?,
        time: envelope.time.unwrap_or(received_at),
        effective_at: effective_at.filter(|_| may_be_ahead),
        happening,
    })
}

/// The control fields of an event that can take data away; none of one that cannot. `building_key` says nothing about a churn,
/// which is of the whole customer.
fn controls_of(kind: EventKind) -> &'static [&'static str] {
    match kind {
        EventKind::Moved => &CONTROLS,
        EventKind::Churned => &[CANCELLED, EFFECTIVE_AT],
        EventKind::SignedUp
        | EventKind::Updated
        | EventKind::MemberJoined
        | EventKind::MemberUpdated
        | EventKind::MemberRoleChanged
        | EventKind::MemberLeft => &[],
    }
}

/// Limit of the levels below `data` that are searched for a control field.
const DEPTH_LOOKED_AT_MAX: usize = 8;

/// A control field, or nearly one, within a value; the key of a home is looked for elsewhere.
fn deeper<'a>(value: &'a Value, controls: &[&'static str], depth: usize) -> Option<(&'a str, &'static str)> {
    if depth == 0 {
        return None;
    }
    match value {
        Value::Object(fields) => fields.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| {
            let named = controls.iter().copied().filter(|control| *control != BUILDING_KEY);
            let controls: Vec<&'static str> = named.collect();
            let is_one = || controls.iter().copied().find(|control| control == name);
            let meant = is_one().or_else(|| control::meant(name, &controls, &[]));
            meant.map(|meant| (name.as_str(), meant)).or_else(|| deeper(value, &controls, depth - 1))
        }),
        Value::Array(items) => items.iter().find_map(|item| deeper(item, controls, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Texts that programs write for nothing: as an id they would make one customer of many.
pub const NOTHING: [&str; 6] = ["null", "(null)", "nil", "none", "undefined", "nan"];

/// Reads one JSON object and notes everything that is wrong in it.
pub(super) struct FieldReader<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) pointer: String,
    pub(super) errors: &'a mut Vec<FieldError>,
}

impl<'a> FieldReader<'a> {
    pub(super) fn wrong(&mut self, name: &str, reason: impl Into<String>) {
        // RFC 6901: `~` and `/` are escaped.
        let name = name.replace('~', "~0").replace('/', "~1");
        self.errors.push(FieldError::new(format!("{}/{name}", self.pointer), reason));
    }

    /// A field that is there and not null.
    fn given(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A text without blanks and invisible characters around it, in one line; an empty one counts as not given.
    pub(super) fn text(&mut self, name: &str, chars_max: usize) -> Option<Cow<'a, str>> {
        let text = trim(self.raw_text(name)?);
        let is_street = [Field::StreetAndNumber, Field::StreetAddInfo].iter().any(|field| field.name() == name);
        let text = if is_street { one_line(text) } else { Cow::Borrowed(text) };
        let text = plain_blanks(text);
        let count = text.chars().count();
        if count > chars_max {
            self.wrong(name, format!("must have at most {chars_max} characters, found {count}"));
            return None;
        }
        // Persian and Indian names have joiners between letters.
        let is_name = [Field::FirstName, Field::LastName].iter().any(|field| field.name() == name);
        let is_joiner = |letter| is_name && matches!(letter, '\u{200c}' | '\u{200d}');
        if text.chars().any(|letter| is_invisible(letter) && !is_joiner(letter)) {
            self.wrong(name, "must not contain control characters, line ends or invisible characters");
            return None;
        }
        (!text.is_empty()).then_some(text)
    }

    fn raw_text(&mut self, name: &str) -> Option<&'a str> {
        let value = self.given(name)?;
        let text = value.as_str();
        if text.is_none() {
            let loses_zeros = value.is_number() && name == Field::ZipCode.name();
            let why = if loses_zeros { ": a number loses its leading zeros" } else { "" };
            self.wrong(name, must_be("a text", value) + why);
        }
        text
    }

    pub(super) fn moment(&mut self, name: &str) -> Option<Timestamp> {
        let read = date::read_exact(&self.text(name, TEXT_CHARS_MAX)?);
        if let Err(fault) = read {
            let form = "must be an RFC 3339 date and time, like 2026-10-01T00:00:00+02:00";
            self.wrong(name, format!("{form}; this is {fault}"));
        }
        read.ok()
    }

    /// An id; an empty one counts as not given.
    fn id<T>(&mut self, name: &str, accept: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = trim(self.raw_text(name)?);
        if text.is_empty() {
            return None;
        }
        if NOTHING.iter().any(|nothing| text.eq_ignore_ascii_case(nothing)) {
            self.wrong(name, "is a word for nothing, and no id");
            return None;
        }
        let accepted = accept(text);
        if accepted.is_none() {
            self.wrong(name, format!("must have 1 to {ID_CHARS_MAX} characters, none of them invisible"));
        }
        accepted
    }

    /// Refuses names in `data` that are nearly a control field's, since passing them over might take away what should stay.
    /// Refuses also a control field that stands deeper than it belongs.
    fn near_misses(&mut self, controls: &[&'static str], customer: Option<&CustomerId>) {
        let mut near = Vec::new();
        for (name, value) in self.fields.iter().filter(|(_, value)| !value.is_null()) {
            let is_customer = || customer.is_some() && value.as_str().and_then(CustomerId::accept).as_ref() == customer;
            let others = [&FIELDS[..], &CONTROLS].concat();
            let slip = |name: &str| control::is_slip_of(name, CUSTOMER_ID).then_some(CUSTOMER_ID);
            match control::meant(name, controls, &others).or_else(|| slip(name)) {
                // Some senders name the customer twice, in their own way too.
                Some(CUSTOMER_ID) if is_customer() => {}
                Some(meant) => near.push((start_of(name), format!("is not a field; did you mean `{meant}`?"))),
                None if name == "specversion" => near.push((
                    start_of(name),
                    "is an attribute of an event: send the event once, in the body or in headers".to_owned(),
                )),
                None => {}
            }
            if let Some((inner, meant)) = deeper(value, controls, DEPTH_LOOKED_AT_MAX) {
                let reason = format!("has `{}` in it, which is looked at in `data` alone (`{meant}`)", start_of(inner));
                near.push((start_of(name), reason));
            }
        }
        near.truncate(NEAR_MISSES_TOLD_MAX);
        for (name, reason) in near {
            self.wrong(&name, reason);
        }
        self.inside("building", |reader| {
            let is_key = |name: &str| {
                let is_other = name == BUILDING_KEY || name == "keys";
                is_other || control::meant(name, &["key", BUILDING_KEY], &[]).is_some()
            };
            let near: Vec<String> = reader.fields.keys().filter(|name| is_key(name)).cloned().collect();
            for name in near.iter().take(NEAR_MISSES_TOLD_MAX) {
                reader.wrong(
                    &start_of(name),
                    "is not a field here; did you mean `key`, or `building_key` beside `building`?",
                );
            }
        });
    }

    /// `subject` or the field of this name in `data`; when both are given they must agree.
    pub(super) fn subject_id<T: PartialEq>(
        &mut self,
        name: &str,
        subject: Option<&str>,
        accept: fn(&str) -> Option<T>,
    ) -> Option<T> {
        let is_blank = |value: &&Value| value.as_str().is_some_and(|text| trim(text).is_empty());
        let given = self.given(name).filter(|value| !is_blank(value)).is_some();
        let own = self.id(name, accept);
        // A blank one names no one, as an empty one does.
        match (subject.filter(|text| !trim(text).is_empty()), own) {
            (Some(subject), Some(own)) if accept(subject).as_ref() != Some(&own) => {
                self.wrong(name, "must be the same as `subject`");
                None
            }
            (_, Some(own)) => Some(own),
            (Some(subject), None) if !given => {
                let id = accept(subject);
                if id.is_none() {
                    let reason = format!("must have 1 to {ID_CHARS_MAX} characters, none of them invisible");
                    self.errors.push(FieldError::new("/subject", reason));
                }
                id
            }
            (None, None) if !given => {
                self.wrong(name, "is required (here or as `subject`)");
                None
            }
            (Some(_), None) | (None, None) => None,
        }
    }

    fn details(&mut self, is_sign_up: bool) -> Details {
        let personal = self.record(&Field::PERSONAL);
        match personal.get(&Field::Email).and_then(FieldValue::as_text) {
            Some(email) if !looks_like_email(email) => self.wrong("email", "must be an e-mail address"),
            None if is_sign_up && !self.errors.iter().any(|error| error.pointer == "/data/email") => {
                self.wrong("email", "is required");
            }
            Some(_) | None => {}
        }
        let address = self.address();
        let (building_key, building) = self.home();
        Details { personal, address, building_key, building }
    }

    fn relocation(&mut self) -> Option<Move> {
        let address = self.address();
        if address.is_none() && self.given("address").is_none() {
            self.wrong("address", "is required");
        }
        self.must_be_whole(address.as_ref());
        let (building_key, building) = self.home();
        Some(Move { building_key, address: address?, building: building.unwrap_or_default() })
    }

    /// A move builds a home at its address and tears the old one down: a part of an address is no place to move to.
    fn must_be_whole(&mut self, address: Option<&Record>) {
        let pointer = format!("{}/address", self.pointer);
        let Some(address) = address.filter(|_| !self.errors.iter().any(|error| error.pointer.starts_with(&pointer)))
        else {
            return;
        };
        let mut wrong = |field: Field, reason: &str| {
            self.errors.push(FieldError::new(format!("{pointer}/{}", field.name()), reason));
        };
        if !address.contains_key(&Field::StreetAndNumber) {
            wrong(
                Field::StreetAndNumber,
                "is required in a move, which names the whole new address; `customer.updated` corrects a part of one",
            );
        }
        if !address.contains_key(&Field::ZipCode) && !address.contains_key(&Field::Town) {
            wrong(Field::ZipCode, "is required in a move, or `town` instead");
        }
    }

    /// The key of the home, and the values of its building.
    fn home(&mut self) -> (BuildingKey, Option<Record>) {
        let found =
            self.inside("building", |reader| (reader.id("key", BuildingKey::accept), reader.record(&Field::BUILDING)));
        let (key, building) = found.unzip();
        let key = key.flatten();
        let own = self.id(BUILDING_KEY, BuildingKey::accept);
        if own.is_some() && key.is_some() && own != key {
            self.wrong(BUILDING_KEY, "must be the same as `key` in `building`");
        }
        (own.or(key).unwrap_or_default(), building)
    }

    fn address(&mut self) -> Option<Record> {
        let address = self.inside("address", |reader| {
            let address = reader.record(&Field::ADDRESS);
            let said_nothing = address.is_empty() && reader.errors.is_empty();
            if said_nothing {
                let reason = "must say at least one of street_and_number, street_add_info, zip_code, town, country";
                reader.errors.push(FieldError::new(reader.pointer.clone(), reason));
            }
            address
        })?;
        (!address.is_empty()).then_some(address)
    }

    /// The values of those fields that are given.
    fn record(&mut self, fields: &[Field]) -> Record {
        fields.iter().filter_map(|field| Some((*field, self.value(*field)?))).collect()
    }

    fn value(&mut self, field: Field) -> Option<FieldValue> {
        let name = field.name();
        match form(field) {
            FieldForm::Text(chars_max) => self.text(name, chars_max).map(|text| FieldValue::from(&*text)),
            FieldForm::OneOf(words) => self.one_of(name, words),
            FieldForm::Flag => self.flag(name).map(FieldValue::Flag),
            FieldForm::Whole => {
                let number = whole(self.given(name)?).filter(|number| (0..=WHOLE_MAX).contains(number));
                if number.is_none() {
                    self.wrong(name, "must be a whole number that is not negative");
                }
                number.map(FieldValue::Number)
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = self.given(name)?.as_bool();
        if flag.is_none() {
            self.wrong(name, "must be true or false");
        }
        flag
    }

    fn one_of(&mut self, name: &str, allowed: &[&str]) -> Option<FieldValue> {
        let text = self.text(name, KIND_CHARS_MAX)?;
        let known = allowed.iter().find(|value| value.eq_ignore_ascii_case(&text));
        if known.is_none() {
            self.wrong(name, format!("must be one of {}", allowed.join(", ")));
        }
        known.map(|value| FieldValue::from(*value))
    }

    /// Reads the object under `name`; `None` if there is none.
    fn inside<T>(&mut self, name: &str, read: impl FnOnce(&mut FieldReader<'_>) -> T) -> Option<T> {
        let value = self.given(name)?;
        let Some(fields) = value.as_object() else {
            self.wrong(name, must_be("an object", value));
            return None;
        };
        let pointer = format!("{}/{name}", self.pointer);
        let mut errors = Vec::new();
        let found = read(&mut FieldReader { fields, pointer, errors: &mut errors });
        self.errors.append(&mut errors);
        Some(found)
    }
}

/// A whole number, even if it is written as `120.0`: JSON knows no other kind.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= WHOLE_MAX as f64)?;
        format!("{float:.0}").parse().ok()
    })
}

/// A street's lines as one: many customer systems show its field as a box.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_line_end) {
        return Cow::Borrowed(text);
    }
    let lines = text.split(is_line_end).map(|line| trim(line).trim_end_matches(','));
    Cow::Owned(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", "))
}

fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Shows tabs, no-break spaces and their relatives as plain blanks.
fn plain_blanks(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_odd = |letter: char| letter.is_whitespace() && letter != ' ' && !is_line_end(letter);
    if text.contains(is_odd) { Cow::Owned(text.replace(is_odd, " ")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

    fn envelope(type_name: &str, subject: Option<&str>, data: Value) -> Envelope {
        Envelope {
            source: "/billing".into(),
            id: "e1".into(),
            type_name: type_name.into(),
            subject: subject.map(str::to_owned),
            time: Timestamp::parse("2026-10-01T12:00:00Z"),
            data,
            raw: bytes::Bytes::new(),
            beside: None,
            of_message: None,
            astray: Vec::new(),
        }
    }

    fn translate(type_name: &str, subject: Option<&str>, data: Value) -> Result<Event, Problem> {
        let received_at = Timestamp::parse("2026-10-01T12:00:01Z").expect("valid");
        event(&envelope(type_name, subject, data), EventId(Uuid::nil()), received_at)
    }

    #[test]
    fn what_came_by_a_clock_years_ahead_happened_now() {
        let now = Timestamp::parse("2026-10-01T12:00:00Z").expect("valid");
        let day = TIME_AHEAD_MAX;
        assert_eq!(happened_by(now.plus(day), now), now.plus(day));
        assert_eq!(happened_by(now.plus(1_000 * day), now), now);
        assert_eq!(happened_by(now.minus(day), now), now.minus(day));
    }

    #[test]
    fn a_full_sign_up() {
        let event = translate(
            "customer.signed_up",
            Some("C-1"),
            json!({
                "customer_id": "C-1", "email": " anna@example.com ", "first_name": "Anna", "language": "de",
                "address": {"street_and_number": "Gasse 1", "zip_code": "01067", "town": "Dresden", "country": "DE"},
                "building": {"key": "cabin", "property_type": "detached", "photovoltaic": true, "num_occupants": 3},
                "loyalty_points": 7,
            }),
        )
        .expect("valid");
        let Happening::SignedUp(details) = event.happening else { panic!("a sign-up") };
        assert_eq!(details.personal[&Field::Email], "anna@example.com".into());
        assert_eq!(details.address.expect("given")[&Field::ZipCode], "01067".into());
        assert_eq!(details.building_key.as_str(), "cabin");
        let building = details.building.expect("given");
        assert_eq!(building[&Field::PropertyType], "Detached".into());
        assert_eq!(building[&Field::NumOccupants], FieldValue::Number(3));
    }

    #[test]
    fn what_claims_to_have_happened_in_the_future_is_refused() {
        let envelope = envelope("customer.churned", Some("C"), Value::Null);
        for (received_at, is_taken) in [("2026-09-30T12:00:01Z", true), ("2026-09-30T11:59:59Z", false)] {
            let received_at = Timestamp::parse(received_at).expect("valid");
            let result = event(&envelope, EventId(Uuid::nil()), received_at);
            assert_eq!(result.is_ok(), is_taken, "{received_at}");
        }
    }

    #[test]
    fn a_churn_may_say_all_in_its_subject() {
        let event = translate("customer.churned", Some("C-1"), Value::Null).expect("valid");
        assert_eq!((event.customer.as_str(), event.happening), ("C-1", Happening::Churned));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (type_name, data, pointers) in [
            ("customer.arrived", json!({"customer_id": "C"}), vec!["/type"]),
            ("customer.churned", json!([]), vec!["/data"]),
            ("customer.churned", json!({}), vec!["/data/customer_id"]),
            ("customer.churned", json!({"customer_id": 7}), vec!["/data/customer_id"]),
            ("customer.churned", json!({"customer_id": "C", "effective_at": "soon"}), vec!["/data/effective_at"]),
            (
                "customer.churned",
                json!({"customer_id": "C", "effective_at": "2126-10-01T00:00:00Z"}),
                vec!["/data/effective_at"],
            ),
            ("customer.signed_up", json!({"customer_id": "C"}), vec!["/data/email"]),
            ("customer.signed_up", json!({"customer_id": "C", "email": "nobody"}), vec!["/data/email"]),
            (
                "customer.signed_up",
                json!({"customer_id": "C", "email": 1, "address": {"zip_code": 1067, "town": 5}, "building": []}),
                vec!["/data/email", "/data/address/zip_code", "/data/address/town", "/data/building"],
            ),
            ("customer.moved", json!({"customer_id": "C"}), vec!["/data/address"]),
            ("customer.moved", json!({"customer_id": "C", "address": {}}), vec!["/data/address"]),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"zip_code": "70174", "street_and_number": ""}}),
                vec!["/data/address/street_and_number"],
            ),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"street_and_number": "Neugasse 2", "country": "DE"}}),
                vec!["/data/address/zip_code"],
            ),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"country": "DE"}}),
                vec!["/data/address/street_and_number", "/data/address/zip_code"],
            ),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"zip_code": 1067, "town": "Dresden"}}),
                vec!["/data/address/zip_code"],
            ),
            (
                "customer.updated",
                json!({"customer_id": "C", "building": {"property_type": "Castle", "photovoltaic": "yes",
                       "num_occupants": -1, "name": "n".repeat(101)}}),
                vec![
                    "/data/building/name",
                    "/data/building/property_type",
                    "/data/building/num_occupants",
                    "/data/building/photovoltaic",
                ],
            ),
        ] {
            let problem = translate(type_name, None, data).expect_err(type_name);
            let found: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{type_name}");
        }
        let problem = translate("customer.churned", Some("D"), json!({"customer_id": "C"})).expect_err("differ");
        assert_eq!(problem.errors[0].pointer, "/data/customer_id");
    }

    #[test]
    fn an_update_may_name_one_part_of_an_address_and_a_move_must_name_a_place() {
        for (type_name, address) in [
            ("customer.updated", json!({"zip_code": "70174"})),
            ("customer.updated", json!({"street_add_info": "Top 3"})),
            ("customer.moved", json!({"street_and_number": "Neugasse 2", "town": "Stuttgart"})),
            ("customer.moved", json!({"street_and_number": "Neugasse 2", "zip_code": "70174"})),
        ] {
            let event = translate(type_name, None, json!({"customer_id": "C", "address": address}));
            assert!(event.is_ok(), "{type_name} {address}: {event:?}");
        }
    }

    #[test]
    fn values_are_never_repeated() {
        let secret = "Jane.Doe";
        let data = json!({"customer_id": "C", "email": secret, "building": {"property_type": secret}});
        let problem = translate("customer.signed_up", None, data).expect_err("invalid");
        assert!(!problem.line().contains(secret), "{}", problem.line());
    }

    /// The errors of a churn with this data; none: it is accepted.
    fn churn_errors(subject: Option<&str>, data: Value) -> Vec<String> {
        let read = translate("customer.churned", subject, data);
        read.map_or_else(|problem| problem.errors.into_iter().map(|error| error.pointer).collect(), |_| Vec::new())
    }

    #[test]
    fn a_date_that_cannot_be_meant_is_refused_with_what_is_wrong_with_it() {
        for (text, word) in [
            ("0001-01-01T00:00:00Z", "2000-01-02"),
            ("1900-01-01T00:00:00+01:00", "2000-01-02"),
            ("1970-01-01T00:00:00Z", "2000-01-02"),
            ("9999-12-31T00:00:00Z", "too far ahead"),
            ("2612-01-01T00:00:00Z", "too far ahead"),
            ("31.12.26", "two digits"),
            ("46387", "10^8"),
            ("0", "10^8"),
            ("2026-12-31", "without an offset"),
            ("1798675200", "a number"),
        ] {
            let problem = translate("customer.churned", Some("C"), json!({ "effective_at": text })).expect_err(text);
            let line = problem.line();
            assert!(line.contains("/data/effective_at") && line.contains(word), "{line}");
            assert!(text.len() < 2 || !line.contains(text), "{line}");
        }
        for text in ["2026-09-30T12:00:00Z", "2021-10-01T12:00:00Z", "2027-06-01T00:00:00+0200", "", " "] {
            assert_eq!(churn_errors(Some("C"), json!({ "effective_at": text })), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_decides_about_a_home_is_named_where_it_is_in_doubt() {
        for (type_name, data, pointers) in [
            ("customer.churned", json!({"customer_id": "C", "effective_at": 46387}), vec!["/data/effective_at"]),
            ("customer.churned", json!({"customer_id": "C", "canceled": true}), vec!["/data/canceled"]),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"street_and_number": "W 1", "town": "D"}, "buildingKey": "cabin", "effective-date": "x",
                       "building_key": "a", "building": {"key": "b"}}),
                vec!["/data/buildingKey", "/data/effective-date", "/data/building_key"],
            ),
            (
                "customer.moved",
                json!({"customer_id": "C", "address": {"street_and_number": "W 1", "town": "D"}, "building": {"Key": "b", "building_key": "c"}}),
                vec!["/data/building/Key", "/data/building/building_key"],
            ),
        ] {
            let problem = translate(type_name, None, data).expect_err(type_name);
            let found: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{type_name}");
        }
    }

    /// A near miss of a control field is refused if it could take data away.
    #[test]
    fn a_near_miss_of_a_control_field_is_refused() {
        for name in ["canceled", "Cancelled", "isCancelled", "effectiveAt", "effective-date", "effective_ta"] {
            let data = json!({"customer_id": "C", name: true});
            assert_eq!(churn_errors(None, data.clone()), [format!("/data/{name}")], "{name}");
            assert!(translate("customer.updated", None, data).is_ok(), "{name} takes nothing away there");
        }
        for (data, pointer) in [
            (json!({"data": {"effective_at": "2027-06-01T00:00:00Z"}}), "/data/data"),
            (json!({"contract": {"dates": [{"effectiveDate": "2027-06-01"}]}}), "/data/contract"),
            (json!({"address": {"town": "D", "cancelled": true}}), "/data/address"),
            (json!({"specversion": "1.0"}), "/data/specversion"),
        ] {
            assert_eq!(churn_errors(Some("C"), data.clone()), [pointer], "{data}");
        }
        let others = json!({"customer_id": "C", "reason": "r", "contract": {"id": 7, "dates": ["2027-06-01"]}, "note": "n", "contract_id": "V-1", "canceled": null,
                            "tags": ["a"], "cancellation_reason": "price", "building_key": "cabin"});
        assert_eq!(churn_errors(None, others), [""; 0]);
    }

    #[test]
    fn a_customer_who_is_named_twice_is_one() {
        for (subject, data, expected) in [
            (Some("C-1"), json!({"customerId": "C-1"}), vec![]),
            (Some("C-1"), json!({"customerId": "C-2"}), vec!["/data/customerId"]),
            (Some("C-1"), json!({"Customer_ID": 1}), vec!["/data/Customer_ID"]),
            (Some("C-1 "), json!({"customer_id": "\u{feff}C-1"}), vec![]),
            (Some(""), json!({"customer_id": "C-1"}), vec![]),
            (Some("\u{a0}"), json!({"customer_id": "C-1"}), vec![]),
            (Some(""), json!({}), vec!["/data/customer_id"]),
            (Some("C-1"), json!({"customer_id": ""}), vec![]),
            (None, json!({"customer_id": " "}), vec!["/data/customer_id"]),
            (None, json!({"customer_id": "null"}), vec!["/data/customer_id"]),
            (Some("C-1"), json!({"custom_id": 7, "was_customer": true}), vec![]),
            (Some("C\u{200b}1"), json!({}), vec!["/subject"]),
            (Some("C-1"), json!({"customer_id": "C\u{200b}-1"}), vec!["/data/customer_id"]),
        ] {
            assert_eq!(churn_errors(subject, data.clone()), expected, "{subject:?} {data}");
        }
        let id = |text: &str| translate("customer.churned", Some(text), Value::Null).expect("valid").customer;
        assert_eq!(id("CUST "), id("CUST"));
        assert_eq!(id("Mu\u{308}ller"), id("M\u{fc}ller"));
    }

    #[test]
    fn what_stands_at_the_event_instead_of_in_its_data_is_told() {
        let mut envelope = envelope("customer.churned", Some("C"), Value::Null);
        envelope.astray = vec![("effectiveat".to_owned(), EFFECTIVE_AT), ("buildingkey".to_owned(), BUILDING_KEY)];
        let received_at = Timestamp::parse("2026-10-01T12:00:01Z").expect("valid");
        let problem = event(&envelope, EventId(Uuid::nil()), received_at).expect_err("in doubt");
        assert_eq!(problem.errors.len(), 1);
        assert_eq!(problem.errors[0].pointer, "/effectiveat");
        envelope.type_name = "customer.updated".to_owned();
        assert!(event(&envelope, EventId(Uuid::nil()), received_at).is_ok());
    }

    #[test]
    fn an_address_of_a_mailbox_is_no_more_than_that() {
        let read = |email: &str| translate("customer.signed_up", None, json!({"customer_id": "C", "email": email}));
        for email in [
            "mailto:anna@example.com",
            "<anna@example.com>",
            "Anna <anna@example.com>",
            "anna@example.com, bert@example.com",
            "anna@example.com;bert@example.com",
            "an\u{200b}na@example.com",
            "anna@exam\u{ad}ple.com",
            "anna@",
            "anna@@example.com",
        ] {
            assert_eq!(read(email).expect_err(email).errors[0].pointer, "/data/email");
        }
        for email in
            ["anna+pump@example.com", "o'neill@example.com", "anna@müller.example", "a_b-c.d@sub.example.co.uk"]
        {
            let Happening::SignedUp(details) = read(&format!("\u{feff} {email}\u{200b}")).expect(email).happening
            else {
                panic!("a sign-up")
            };
            assert_eq!(details.personal[&Field::Email], email.into());
        }
    }

    #[test]
    fn a_street_may_have_lines_and_no_other_field() {
        let read = |field: &str, text: &str| {
            let event = translate("customer.updated", Some("C"), json!({"address": {field: text}}))?;
            let Happening::Updated(details) = event.happening else { panic!("an update") };
            let address = details.address.expect("given");
            Ok::<_, Problem>(address.values().next().and_then(FieldValue::as_text).expect("a text").to_owned())
        };
        for (text, expected) in [
            ("Weg 1\nHinterhaus", "Weg 1, Hinterhaus"),
            ("Weg 1,\r\n Hinterhaus\r\n", "Weg 1, Hinterhaus"),
            ("\u{feff}Weg\u{a0}1\u{2028}\n2. Stock", "Weg 1, 2. Stock"),
            ("Weg\t1", "Weg 1"),
        ] {
            assert_eq!(read("street_and_number", text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["Dres\nden", "Dres\u{ad}den", "Dres\u{202e}den", "Dres\u{fffd}den", "Dres\u{7}den"] {
            assert_eq!(read("town", text).expect_err(text).errors[0].pointer, "/data/address/town");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            Just("customer_id".to_owned()),
            Just("email".to_owned()),
            Just("address".to_owned()),
            Just("building".to_owned()),
            Just("zip_code".to_owned()),
            Just("effective_at".to_owned()),
            ".{0,6}",
        ];
        leaf.prop_recursive(3, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone(), inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_data_is_an_event_or_a_problem_with_at_least_one_error(data in any_json(), kind in 0..EventKind::ALL.len()) {
            if let Err(problem) = translate(EventKind::ALL[kind].name(), Some("C"), data) {
                prop_assert!(!problem.errors.is_empty());
            }
        }
    }
}
