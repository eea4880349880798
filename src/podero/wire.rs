//! Podero's language: a [`Call`] becomes a request, an answer becomes a [`Reply`]. Pure functions over values.
//!
//! What is written is built from an allow-list of our own fields; nothing that Podero showed us is ever sent
//! back (it could delete a device). What is read may be of any shape that Podero's pages show, and an answer
//! that makes no sense is `Unknown`, never a fact. A list that is not known to be whole is no list. What is
//! kept of a refusal holds no personal data ([`super::refusal`]). A list is read entry by entry into small records within
//! bounds. This file never sends, waits or logs.
//!
//! | status | means |
//! |---|---|
//! | allow-listed, with what the call asks for in it | `Done` |
//! | 2xx otherwise | `Unknown` |
//! | 3xx | `Held`: the address is wrong, not the event; `Unknown` where a second try would make a second thing |
//! | 401, 403, 407; 404 and 410 of a path that names the organisation alone | `Held` |
//! | 404, 410 | nobody, for a look-up; else `Refused`: not found; `Unknown` when a gateway's page says so |
//! | 405, 501 | `Refused`: unsupported |
//! | 408, 425, 429; 503 with `Retry-After` | `Busy` |
//! | 409, or 400 and 422 that speak of a duplicate, when a user is written | `Refused`: duplicate |
//! | 4xx otherwise | `Refused`: invalid |
//! | 5xx otherwise, anything else | `Unknown` |
//!
//! Before: a [`crate::domain::call`]. After: [`crate::domain::verdict`] judges the reply.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::{Method, Url};
use serde_json::error::Category;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::Received;
use super::drift::{Drift, Found};
use super::pruned::{self, Keep, Stopped};
pub(super) use super::refusal::REFUSAL_BYTES_MAX;
use super::refusal::{detail, speaks_of_duplicate};
use crate::domain::alert::{ConnectionStatus, Observation};
use crate::domain::call::{
    Answer, BuildingFound, Call, Changes, Cue, Hidden, PumpFound, Reconnection, Refusal, RefusalKind, Repeat, Reply,
    UserFound, Zip,
};
use crate::domain::date::{self, Fault};
use crate::domain::event::{Field, FieldValue, Record};
use crate::domain::{Timestamp, link};

const PREFIX: &str = "/api/partners/v2.0";

/// How many more entries are asked for when a list turns out to be cut into pages: the largest `limit` that any
/// page of the API shows.
const PAGE_ENTRIES: usize = 200;

/// The longest label that is kept: names of manufacturers, models and countries stand in indices. Podero's own text fields
/// have 100 characters.
const LABEL_CHARS_MAX: usize = 100;

/// Bounds of the list of all users: four times the largest fleet that is planned for. Its records are smaller than the
/// list itself.
const OF_USERS: Left = Left { records: 200_000, unusable: 1_000, bytes: 48 * 1024 * 1024 };

/// Bounds of a list about one user: no user has a hundred heat pumps or homes, and 64 such lists are read at once.
const OF_ONE_USER: Left = Left { records: 1_000, unusable: 1_000, bytes: 1024 * 1024 };

const ANOTHER_SHAPE: Reply = Reply::Unknown { why: "answer makes no sense: another shape" };
const WITHOUT_ID: Reply = Reply::Unknown { why: "answer without id" };
const ANOTHER: Reply = Reply::Unknown { why: "answer about something else" };

/// A request, ready but for host and credentials.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

/// What an answer gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// The call is over.
    Whole(Reply),
    /// A list that goes on.
    Part(Part),
}

/// The first pages of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    answer: Answer,
    /// Entries read so far, those without an id among them.
    entries: usize,
    total: usize,
    /// Bounds that are left for the next pages.
    left: Left,
}

/// Bounds that are left for a list: an answer of some megabytes must not become many more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Records that are kept.
    records: usize,
    /// Entries that cannot be used.
    unusable: usize,
    /// Bytes of the records, the texts in them included.
    bytes: usize,
}

impl Left {
    fn take(&mut self, bytes: usize, is_usable: bool) -> Result<(), &'static str> {
        let spend = |left: &mut usize, amount: usize, why: &'static str| -> Result<(), &'static str> {
            *left = left.checked_sub(amount).ok_or(why)?;
            Ok(())
        };
        if !is_usable {
            spend(&mut self.unusable, 1, "list of too many entries that cannot be used")?;
        }
        if bytes > 0 {
            spend(&mut self.records, 1, "list of too many entries")?;
            spend(&mut self.bytes, bytes, "list of too large entries")?;
        }
        Ok(())
    }
}

/// Something of which a list holds many.
trait Held {
    /// Whether a list of which no entry can be used is none: an empty one would end what is known of all.
    const ONE_MUST_DO: bool = false;

    /// Bytes that it takes in memory, about.
    fn bytes(&self) -> usize;
}

/// Bytes of the texts and of the tree in a record.
fn bytes_of(record: &Record) -> usize {
    let text = |value: &FieldValue| match value {
        FieldValue::Text(text) => text.len(),
        FieldValue::Number(_) | FieldValue::Flag(_) => 0,
    };
    record.values().map(|value| text(value) + size_of::<(Field, FieldValue)>()).sum()
}

fn length_of(text: Option<&String>) -> usize {
    text.map_or(0, String::capacity)
}

impl Held for UserFound {
    const ONE_MUST_DO: bool = true;

    fn bytes(&self) -> usize {
        let zip =
            self.zip.as_ref().map_or(0, |zip| size_of::<Zip>() + zip.code.capacity() + length_of(zip.country.as_ref()));
        size_of::<Self>() + length_of(self.external_id.as_ref()) + zip + bytes_of(&self.observed)
    }
}

impl Held for BuildingFound {
    fn bytes(&self) -> usize {
        size_of::<Self>() + bytes_of(&self.observed)
    }
}

impl Held for PumpFound {
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Held for Observation {
    fn bytes(&self) -> usize {
        let texts = [&self.manufacturer, &self.model, &self.reconnect_url];
        size_of::<Self>() + texts.into_iter().map(|text| length_of(text.as_ref())).sum::<usize>()
    }
}

/// The request of a call; with `so_far`, of the list's next page. The error is final: no address can name it.
pub(super) fn request(call: &Call, org: Uuid, so_far: Option<&Part>) -> Result<Outgoing, Refusal> {
    let users = format!("{PREFIX}/org/{org}/users");
    let (method, mut path, body) = match call {
        Call::FindUser { external_id } => {
            let key = segment(external_id.as_str())?;
            (Method::GET, format!("{users}/by-ext-id/{key}"), None)
        }
        Call::CreateUser { external_id, record } => {
            let mut body = body_of(record, is_of_user);
            body.insert("role".to_owned(), json!("user"));
            body.insert("external_user_id".to_owned(), json!(external_id.as_str()));
            (Method::POST, users, Some(body))
        }
        Call::UpdateUser { user, changes } => {
            (Method::PUT, format!("{users}/{user}"), Some(changed(changes, is_of_user)))
        }
        Call::DeleteUser { user, soft: true } => (Method::DELETE, format!("{users}/{user}?soft_delete=true"), None),
        Call::DeleteUser { user, soft: false } => (Method::DELETE, format!("{users}/{user}"), None),
        Call::ListBuildings { user } => (Method::GET, format!("{users}/{user}/buildings"), None),
        Call::CreateBuilding { user, record, .. } => {
            let body = body_of(record, is_of_building);
            (Method::POST, format!("{users}/{user}/buildings"), Some(body))
        }
        Call::UpdateBuilding { user, building, name, changes, .. } => {
            let mut body = changed(changes, is_of_building);
            // Podero's schema requires the name in every write; one that is to be cleared stays.
            if body.get("name").is_none_or(Value::is_null) {
                body.insert("name".to_owned(), json_of(Field::Name, name));
            }
            (Method::PUT, format!("{users}/{user}/buildings/{building}"), Some(body))
        }
        Call::DeleteBuilding { user, building } => {
            (Method::DELETE, format!("{users}/{user}/buildings/{building}"), None)
        }
        Call::ListHeatPumps { user } | Call::ObserveHeatPumps { user } => {
            (Method::GET, format!("{users}/{user}/heat-pumps"), None)
        }
        Call::PauseHeatPump { user, heat_pump } => {
            let body = Map::from_iter([("is_smart_optimization_active".to_owned(), json!(false))]);
            (Method::PUT, format!("{users}/{user}/heat-pumps/{heat_pump}"), Some(body))
        }
        Call::ObserveHeatPump { user, heat_pump } => {
            (Method::GET, format!("{users}/{user}/heat-pumps/{heat_pump}"), None)
        }
        Call::FindReconnection { user, heat_pump } => {
            (Method::GET, format!("{users}/{user}/heat-pumps/{heat_pump}"), None)
        }
        Call::ResolveCue { cue, .. } => {
            let secret = segment(&cue.secret.0)?;
            let path = format!("{PREFIX}/cues/{}/resolve?cue_id={}&secret={secret}", cue.id, cue.id);
            (Method::POST, path, redirect_wanted(call))
        }
        Call::CreateOnboardingSession { .. } => {
            (Method::POST, format!("{PREFIX}/device-onboarding"), session_wanted(call))
        }
        Call::ListUsers => (Method::GET, users, None),
    };
    if let Some(part) = so_far {
        path.push_str(&format!("?limit={PAGE_ENTRIES}&offset={}", part.entries));
    }
    let body = body.map(Value::Object);
    Ok(Outgoing { method, path, body })
}

/// Any text as one segment of a path (RFC 3986 §2.3). The two segments that mean "here" and "above" cannot be
/// written so that every server keeps them, and would address something else.
fn segment(text: &str) -> Result<String, Refusal> {
    if text == "." || text == ".." {
        return Err(Refusal {
            kind: RefusalKind::Invalid,
            status: 400,
            detail: "this customer id cannot be part of an address; nothing was sent".to_owned(),
        });
    }
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(char::from(byte)),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(segment)
}

fn is_of_user(field: Field) -> bool {
    field != Field::Language && (Field::PERSONAL.contains(&field) || Field::ADDRESS.contains(&field))
}

fn is_of_building(field: Field) -> bool {
    Field::BUILDING.contains(&field) || Field::ADDRESS.contains(&field)
}

/// Fields that Podero counts or switches; every other one is text.
fn is_text(field: Field) -> bool {
    !matches!(field, Field::PropertySizeM2 | Field::PropertyAge | Field::NumOccupants | Field::Photovoltaic)
}

fn json_of(field: Field, value: &FieldValue) -> Value {
    match value {
        FieldValue::Text(text) => json!(**text),
        // A ZIP code that arrived as a number is text all the same.
        FieldValue::Number(number) if is_text(field) => json!(number.to_string()),
        FieldValue::Number(number) => json!(number),
        FieldValue::Flag(flag) => json!(flag),
    }
}

fn body_of(record: &Record, is_allowed: fn(Field) -> bool) -> Map<String, Value> {
    let allowed = record.iter().filter(|(field, _)| is_allowed(**field));
    allowed.map(|(field, value)| (field.name().to_owned(), json_of(*field, value))).collect()
}

fn changed(changes: &Changes, is_allowed: fn(Field) -> bool) -> Map<String, Value> {
    let allowed = changes.iter().filter(|(field, _)| is_allowed(**field));
    allowed
        .map(|(field, value)| {
            let value = value.as_ref().map_or(Value::Null, |value| json_of(*field, value));
            (field.name().to_owned(), value)
        })
        .collect()
}

fn session_wanted(call: &Call) -> Option<Map<String, Value>> {
    let Call::CreateOnboardingSession { user, building, language, policy, .. } = call else {
        return None;
    };
    // Podero's guides write DE, its schema has only DE_LU (docs of the session's fields).
    let price_zone = if policy.price_zone == "DE" { "DE_LU" } else { &policy.price_zone };
    let mut body = Map::from_iter([
        ("user_id".to_owned(), json!(user)),
        ("language".to_owned(), json!(language)),
        ("price_zone_default".to_owned(), json!(price_zone)),
        ("success_url".to_owned(), json!(policy.success_url)),
        ("cancel_url".to_owned(), json!(policy.cancel_url)),
    ]);
    if let Some(building) = building {
        body.insert("building_id".to_owned(), json!(building));
    }
    Some(body)
}

/// Reads an answer to a call. `so_far` is taken when the answer goes on with a list; differences from Podero's pages are
/// noted in `found`.
pub(super) fn read(
    call: &Call,
    received: &Received,
    so_far: &mut Option<Part>,
    now: Timestamp,
    found: &mut Found,
) -> Reading {
    if let Some(coding) = received.coding.filter(|_| is_told_by_body(call, received.status)) {
        return unknown(coding.why());
    }
    if !is_success(call, received.status) {
        return Reading::Whole(failure(call, received, now));
    }
    let body = received.body();
    match call {
        Call::ListUsers => list(body, (so_far, OF_USERS), is_of_user_line, Answer::Users, found, |item, found| {
            found.user(item);
            let line = item.as_object();
            let user = line.and_then(|item| user(item, Record::new()));
            let is_usable = user.is_some();
            let is_there = !line.and_then(|item| item.get("deleted_at")).is_some_and(is_set);
            Entry { record: user.filter(|_| is_there), is_usable }
        }),
        Call::ListBuildings { .. } => {
            list(body, (so_far, OF_ONE_USER), is_read, Answer::Buildings, found, |item, found| {
                found.home(item);
                Entry::of(item.as_object().and_then(building))
            })
        }
        Call::ListHeatPumps { .. } => {
            list(body, (so_far, OF_ONE_USER), is_read, Answer::HeatPumps, found, |item, found| {
                found.pump(item);
                Entry::of(item.as_object().and_then(pump))
            })
        }
        Call::ObserveHeatPumps { .. } => {
            list(body, (so_far, OF_ONE_USER), is_read, Answer::Observations, found, |item, found| {
                found.pump(item);
                let seen = item.as_object().and_then(|item| observation(item, found));
                Entry { is_usable: seen.is_some(), record: Some(seen.unwrap_or_default()) }
            })
        }
        Call::FindUser { .. }
        | Call::CreateUser { .. }
        | Call::UpdateUser { .. }
        | Call::DeleteUser { .. }
        | Call::CreateBuilding { .. }
        | Call::UpdateBuilding { .. }
        | Call::DeleteBuilding { .. }
        | Call::PauseHeatPump { .. }
        | Call::CreateOnboardingSession { .. }
        | Call::ObserveHeatPump { .. }
        | Call::FindReconnection { .. }
        | Call::ResolveCue { .. } => Reading::Whole(done(call, body, found)),
    }
}

/// The fields of a user in the list of all that are read; no other is kept.
fn is_of_user_line(name: &str) -> bool {
    matches!(
        name,
        "id" | "role" | "external_user_id" | "num_heat_pumps" | "deleted_at" | "zip_code" | "country" | "country_iso2"
    )
}

/// Every field that is read of any answer about one thing.
fn is_read(name: &str) -> bool {
    let is_own = |fields: &[Field]| fields.iter().any(|field| field.name() == name);
    matches!(
        name,
        "is_smart_optimization_active"
            | "building"
            | "building_id"
            | "is_authenticated"
            | "device_model"
            | "manufacturer"
            | "model"
            | "actions"
            | "code"
            | "action_needed"
            | "connection_status"
            | "lifecycle_state"
            | "current_state_last_updated_at"
            | "authorization_url"
            | "authentication_url"
            | "redirect_url"
            | "resolution_link"
            | "url"
            | "required_parameters"
    ) || is_of_user_line(name)
        || is_own(&Field::PERSONAL)
        || is_own(&Field::ADDRESS)
        || is_own(&Field::BUILDING)
}

/// Whether the body alone tells the meaning of an answer: a yes; a "not there", which may be a gateway's page; a no to a user,
/// which may be a duplicate.
fn is_told_by_body(call: &Call, status: u16) -> bool {
    let writes_user = matches!(call, Call::CreateUser { .. } | Call::UpdateUser { .. });
    is_success(call, status) || matches!(status, 404 | 410) || (writes_user && matches!(status, 400 | 422))
}

/// The statuses with which Podero may say yes. The pages leave open whether a create answers 200 or 201.
fn is_success(call: &Call, status: u16) -> bool {
    match call {
        Call::FindUser { .. }
        | Call::ListBuildings { .. }
        | Call::ListHeatPumps { .. }
        | Call::ListUsers
        | Call::ObserveHeatPumps { .. }
        | Call::ObserveHeatPump { .. }
        | Call::FindReconnection { .. }
        | Call::ResolveCue { .. } => status == 200,
        Call::CreateUser { .. } | Call::CreateBuilding { .. } | Call::CreateOnboardingSession { .. } => {
            matches!(status, 200 | 201)
        }
        Call::UpdateUser { .. }
        | Call::DeleteUser { .. }
        | Call::UpdateBuilding { .. }
        | Call::DeleteBuilding { .. }
        | Call::PauseHeatPump { .. } => matches!(status, 200 | 204),
    }
}

/// A yes to a call that is about one thing.
fn done(call: &Call, body: &[u8], found: &mut Found) -> Reply {
    let item = match pruned::one(body, is_read) {
        Ok(Value::Object(item)) => Some(item),
        Ok(_) => None,
        // A yes that need not say anything.
        Err(_) if body.is_empty() && may_be_empty(call) => return Reply::Done(Answer::Nothing),
        Err(error) => {
            found.unreadable(body);
            return garbage(body, &error);
        }
    };
    let Some(item) = item else {
        // Such a yes need not be about anything either.
        return if may_be_empty(call) {
            Reply::Done(Answer::Nothing)
        } else {
            found.note(Drift::UnexpectedShape);
            ANOTHER_SHAPE
        };
    };
    told_by(call, &item, found).map_or_else(|unclear| unclear, Reply::Done)
}

/// Calls whose yes may have no body.
fn may_be_empty(call: &Call) -> bool {
    matches!(
        call,
        Call::UpdateUser { .. }
            | Call::DeleteUser { .. }
            | Call::UpdateBuilding { .. }
            | Call::DeleteBuilding { .. }
            | Call::PauseHeatPump { .. }
    )
}

/// Reads the one object of an answer.
fn told_by(call: &Call, item: &Map<String, Value>, found: &mut Found) -> Result<Answer, Reply> {
    match call {
        Call::FindUser { external_id } => {
            found.user_of(item);
            let user = user(item, record_of(item, is_of_user)).ok_or(WITHOUT_ID)?;
            if user.external_id.as_deref().is_some_and(|key| key != external_id.as_str()) {
                // A server that matches loosely must not lend us another customer's user.
                return Err(ANOTHER);
            }
            let user = UserFound { zip: None, ..user };
            Ok(Answer::User(Some(user).filter(|_| !item.get("deleted_at").is_some_and(is_set))))
        }
        Call::CreateUser { .. } => {
            found.user_of(item);
            let user = user(item, record_of(item, is_of_user)).ok_or(WITHOUT_ID)?;
            Ok(Answer::User(Some(UserFound { zip: None, ..user })))
        }
        Call::CreateBuilding { .. } => {
            found.id(item);
            let id = id_of(item.get("id")).ok_or(WITHOUT_ID)?;
            Ok(Answer::Building { id })
        }
        Call::CreateOnboardingSession { .. } => {
            Ok(Answer::Session { url: wanted_link(item, "authentication_url", found)? })
        }
        Call::ObserveHeatPump { heat_pump, .. } => {
            found.pump_of(item);
            let mut observation = observation(item, found).ok_or(WITHOUT_ID)?;
            if observation.heat_pump != *heat_pump {
                return Err(ANOTHER);
            }
            // This is the detail: there is nothing more to ask for.
            observation.wants_detail = false;
            Ok(Answer::Observations(vec![observation]))
        }
        Call::FindReconnection { heat_pump, .. } => {
            found.pump_of(item);
            if id_of(item.get("id")).ok_or(WITHOUT_ID)? != *heat_pump {
                return Err(ANOTHER);
            }
            Ok(Answer::Reconnection(reconnection(item, found)))
        }
        Call::ResolveCue { .. } => Ok(Answer::Link { url: wanted_link(item, "redirect_url", found)? }),
        Call::UpdateUser { user: id, .. }
        | Call::DeleteUser { user: id, .. }
        | Call::UpdateBuilding { building: id, .. }
        | Call::DeleteBuilding { building: id, .. }
        | Call::PauseHeatPump { heat_pump: id, .. } => match id_of(item.get("id")) {
            Some(other) if other != *id => Err(ANOTHER),
            Some(_) | None => Ok(Answer::Nothing),
        },
        Call::ListBuildings { .. } | Call::ListHeatPumps { .. } | Call::ListUsers | Call::ObserveHeatPumps { .. } => {
            Err(ANOTHER_SHAPE)
        }
    }
}

/// Why an answer cannot be read, without a word of what it says.
fn garbage(body: &[u8], error: &serde_json::Error) -> Reply {
    let is_page = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<');
    let why = match error.classify() {
        _ if body.trim_ascii().is_empty() => "answer makes no sense: empty",
        _ if is_page => "answer makes no sense: a page",
        _ if std::str::from_utf8(body).is_err() => "answer makes no sense: not UTF-8",
        Category::Eof => "answer makes no sense: cut off",
        Category::Syntax | Category::Io => "answer makes no sense: not JSON",
        Category::Data => return ANOTHER_SHAPE,
    };
    Reply::Unknown { why }
}

/// An entry of a list, as far as it is kept.
struct Entry<T> {
    record: Option<T>,
    /// Whether it can be used. An entry that cannot is passed over: one odd device must not blind the watch.
    is_usable: bool,
}

impl<T> Entry<T> {
    fn of(record: Option<T>) -> Self {
        Self { is_usable: record.is_some(), record }
    }
}

/// Reads a bare array, or a page of `{total, items}`, entry by entry. A list is whole when the array is bare or the pages hold
/// `total`.
fn list<T: Held>(
    body: &[u8],
    (so_far, mut left): (&mut Option<Part>, Left),
    keep: Keep,
    answer: fn(Vec<T>) -> Answer,
    found: &mut Found,
    entry: fn(&Value, &mut Found) -> Entry<T>,
) -> Reading {
    if let Some(part) = &*so_far {
        left = part.left;
    }
    let (mut records, unusable) = (Vec::new(), left.unusable);
    let read = pruned::list(body, keep, &mut |item| {
        let Entry { record, is_usable } = entry(item, found);
        left.take(record.as_ref().map_or(0, T::bytes), is_usable)?;
        records.extend(record);
        Ok(())
    });
    let listed = match read {
        Ok(listed) => listed,
        Err(Stopped::Enough(why)) => return unknown(why),
        Err(Stopped::Json(error)) => {
            found.unreadable(body);
            return Reading::Whole(garbage(body, &error));
        }
    };
    if T::ONE_MUST_DO && listed.entries > 0 && unusable - left.unusable == listed.entries {
        return unknown("list of which no entry can be used");
    }
    let total = match listed.total.as_ref().map(count) {
        Some(None) => return unknown("list without total"),
        total => total.flatten(),
    };
    gather(so_far.take(), Part { answer: answer(records), entries: listed.entries, total: 0, left }, total)
}

/// Joins a page to what is known of the list already. Anything that could hide an entry makes the list unknown:
/// a list that is read short would make the watch think that heat pumps are gone.
fn gather(so_far: Option<Part>, page: Part, total: Option<usize>) -> Reading {
    let part = match (so_far, total) {
        (None, None) => return Reading::Whole(Reply::Done(page.answer)),
        (None, Some(total)) => Part { total, ..page },
        (Some(_), None) => return unknown("list changed its shape"),
        (Some(part), Some(total)) if part.total != total => return unknown("list changed while it was read"),
        (Some(part), Some(total)) => {
            let known: HashSet<Uuid> = ids(&part.answer).into_iter().collect();
            if page.entries == 0 || ids(&page.answer).iter().any(|id| known.contains(id)) {
                // Short, or a server that does not know `offset` and shows the same page again.
                return unknown("list does not go on");
            }
            let (answer, entries) = (joined(part.answer, page.answer), part.entries + page.entries);
            Part { answer, entries, total, left: page.left }
        }
    };
    match part.entries >= part.total {
        true => Reading::Whole(Reply::Done(part.answer)),
        false if part.entries == 0 => unknown("list does not go on"),
        false => Reading::Part(part),
    }
}

fn unknown(why: &'static str) -> Reading {
    Reading::Whole(Reply::Unknown { why })
}

fn ids(answer: &Answer) -> Vec<Uuid> {
    match answer {
        Answer::Users(found) => found.iter().map(|user| user.id).collect(),
        Answer::Buildings(found) => found.iter().map(|building| building.id).collect(),
        Answer::HeatPumps(found) => found.iter().map(|pump| pump.id).collect(),
        // What could not be read has no id that could come again.
        Answer::Observations(found) => found.iter().map(|seen| seen.heat_pump).filter(|id| !id.is_nil()).collect(),
        Answer::Nothing
        | Answer::User(_)
        | Answer::Building { .. }
        | Answer::Session { .. }
        | Answer::Reconnection(_)
        | Answer::Link { .. } => Vec::new(),
    }
}

fn joined(mut answer: Answer, more: Answer) -> Answer {
    match (&mut answer, more) {
        (Answer::Users(known), Answer::Users(more)) => known.extend(more),
        (Answer::Buildings(known), Answer::Buildings(more)) => known.extend(more),
        (Answer::HeatPumps(known), Answer::HeatPumps(more)) => known.extend(more),
        (Answer::Observations(known), Answer::Observations(more)) => known.extend(more),
        (
            Answer::Nothing
            | Answer::User(_)
            | Answer::Users(_)
            | Answer::Building { .. }
            | Answer::Buildings(_)
            | Answer::HeatPumps(_)
            | Answer::Observations(_)
            | Answer::Session { .. }
            | Answer::Reconnection(_)
            | Answer::Link { .. },
            _,
        ) => {}
    }
    answer
}

fn user(item: &Map<String, Value>, observed: Record) -> Option<UserFound> {
    let field = |name: &str| item.get(name).and_then(label);
    Some(UserFound {
        id: id_of(item.get("id"))?,
        is_customer: item.get("role").and_then(Value::as_str).is_some_and(|role| role.eq_ignore_ascii_case("user")),
        external_id: item.get("external_user_id").and_then(text_of).filter(|id| is_key(id)),
        heat_pumps: item.get("num_heat_pumps").and_then(count).and_then(|count| u64::try_from(count).ok()),
        zip: field("zip_code").map(|code| {
            let country = field("country").or_else(|| field("country_iso2"));
            Box::new(Zip { country, code })
        }),
        observed,
    })
}

fn building(item: &Map<String, Value>) -> Option<BuildingFound> {
    Some(BuildingFound { id: id_of(item.get("id"))?, observed: record_of(item, is_of_building) })
}

fn pump(item: &Map<String, Value>) -> Option<PumpFound> {
    let is_paused = item.get("is_smart_optimization_active") == Some(&Value::Bool(false));
    Some(PumpFound {
        id: id_of(item.get("id"))?,
        building: building_of(item),
        is_steered: !is_paused && !item.get("deleted_at").is_some_and(is_set),
    })
}

fn observation(item: &Map<String, Value>, found: &mut Found) -> Option<Observation> {
    let flag = |name: &str| item.get(name).and_then(Value::as_bool);
    let model = |name: &str| item.get("device_model").and_then(|model| model.get(name)).and_then(label);
    let actions = item.get("actions").and_then(Value::as_array);
    let is_authenticated = flag("is_authenticated");
    let lifecycle = item.get("lifecycle_state").and_then(Value::as_str);
    Some(Observation {
        heat_pump: id_of(item.get("id"))?,
        building: building_of(item),
        manufacturer: model("manufacturer"),
        model: model("model"),
        is_authenticated,
        wants_reauthentication: actions.is_some_and(|actions| actions.iter().any(is_reauthentication)),
        wants_detail: actions.is_none() && (flag("action_needed") == Some(true) || is_authenticated == Some(false)),
        connection: item.get("connection_status").and_then(Value::as_str).and_then(connection_status),
        has_lifecycle_error: lifecycle.is_some_and(|state| state.eq_ignore_ascii_case("error")),
        is_paused: flag("is_smart_optimization_active") == Some(false),
        updated_at: item.get("current_state_last_updated_at").and_then(moment),
        is_deleted: item.get("deleted_at").is_some_and(is_set),
        // Never `actions[].resolution_link`: it carries a secret, lives an hour and is no page for a customer.
        reconnect_url: link(item.get("authorization_url"), found),
    })
}

fn connection_status(word: &str) -> Option<ConnectionStatus> {
    match word.to_ascii_lowercase().as_str() {
        "ok" => Some(ConnectionStatus::Ok),
        "warning" => Some(ConnectionStatus::Warning),
        "error" => Some(ConnectionStatus::Error),
        "unknown" => Some(ConnectionStatus::Unknown),
        _ => None,
    }
}

/// The newer way first: a cue of an action `reauthenticate`; else `authorization_url`. Either may be missing.
fn reconnection(item: &Map<String, Value>, found: &mut Found) -> Option<Reconnection> {
    let actions = item.get("actions").and_then(Value::as_array);
    let cue = actions.into_iter().flatten().filter(|action| is_reauthentication(action)).find_map(cue);
    let page = || link(item.get("authorization_url"), found).map(Reconnection::Page);
    cue.map(Reconnection::Cue).or_else(page)
}

/// `resolution_link` is an object with `url` and `required_parameters`, or the address alone: the pages show both. Of
/// the address only the cue's id and its secret are taken: where to send them is ours to know.
fn cue(action: &Value) -> Option<Cue> {
    let told = action.get("resolution_link")?;
    let address = told.as_str().or_else(|| told.get("url")?.as_str())?;
    // Of a longer one only the beginning is here, and the secret may be cut.
    let url = Url::parse(address).ok().filter(|_| address.len() < pruned::TEXT_BYTES_MAX)?;
    let asked = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let in_path = || url.path_segments()?.skip_while(|part| *part != "cues").nth(1).map(str::to_owned);
    let id = asked("cue_id").or_else(in_path).and_then(|id| Uuid::parse_str(&id).ok())?;
    let secret = Hidden(asked("secret").filter(|secret| !secret.is_empty())?);
    let parameters = told.get("required_parameters").and_then(Value::as_array).into_iter().flatten();
    let parameters = parameters.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    Some(Cue { id, secret, parameters })
}

/// Body of POST `/cues/{cue_id}/resolve`. Its page writes `successUrl` where all others write `success_url`; what the
/// action itself asks for goes before that.
fn redirect_wanted(call: &Call) -> Option<Map<String, Value>> {
    let Call::ResolveCue { cue, success_url, cancel_url, language } = call else { return None };
    let name = |wanted: &str, usual: &str| {
        let is_it = |name: &&String| name.replace('_', "").eq_ignore_ascii_case(wanted);
        cue.parameters.iter().find(is_it).map_or_else(|| usual.to_owned(), Clone::clone)
    };
    let mut body = Map::from_iter([
        (name("successurl", "successUrl"), json!(success_url)),
        (name("cancelurl", "cancelUrl"), json!(cancel_url)),
    ]);
    body.extend(language.as_ref().map(|language| ("language".to_owned(), json!(language))));
    Some(body)
}

fn is_reauthentication(action: &Value) -> bool {
    let code = action.get("code").and_then(Value::as_str);
    code.is_some_and(|code| code.eq_ignore_ascii_case("reauthenticate"))
}

/// `building` in answers, `building_id` in requests; the pages mix them up.
fn building_of(item: &Map<String, Value>) -> Option<Uuid> {
    id_of(item.get("building")).or_else(|| id_of(item.get("building_id")))
}

fn record_of(item: &Map<String, Value>, is_allowed: fn(Field) -> bool) -> Record {
    let fields = [&Field::PERSONAL[..], &Field::ADDRESS, &Field::BUILDING];
    let allowed = fields.into_iter().flatten().filter(|field| is_allowed(**field));
    allowed
        .filter_map(|field| {
            let value = item.get(field.name()).and_then(|value| value_of(*field, value));
            let other_name = || item.get("country_iso2").and_then(|value| value_of(*field, value));
            let value = match field == &Field::Country {
                true => value.or_else(other_name),
                false => value,
            };
            Some((*field, value?))
        })
        .collect()
}

/// A field's value in whatever type it came; nothing and an empty text are the same nothing.
fn value_of(field: Field, value: &Value) -> Option<FieldValue> {
    if let (Field::ZipCode, Some(number)) = (field, value.as_i64()) {
        // One page shows it so. It stays a number, which tells that its leading zeros may be gone.
        return Some(FieldValue::Number(number));
    }
    if is_text(field) {
        return text_of(value).map(FieldValue::from);
    }
    match value {
        Value::Bool(flag) => Some(FieldValue::Flag(*flag)),
        Value::Number(number) => whole(number).map(FieldValue::Number),
        Value::String(text) => match text.parse() {
            Ok(number) => Some(FieldValue::Number(number)),
            Err(_) => text_of(value).map(FieldValue::from),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    /// Beyond 2^53 a float no longer tells one whole number from the next.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then(|| format!("{float:.0}").parse().ok())?
    })
}

/// Whether it can be one of our customers' ids; anything else is nobody's that we know.
fn is_key(id: &str) -> bool {
    crate::domain::CustomerId::accept(id).is_some()
}

/// A short text that things are grouped by: no control characters, and no longer than Podero's own fields.
fn label(value: &Value) -> Option<String> {
    let text: String = text_of(value)?.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// Text, or a number written as text (a ZIP code, a key): Podero's pages show both.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn count(value: &Value) -> Option<usize> {
    let number = match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_u64(),
    };
    number.and_then(|number: u64| usize::try_from(number).ok())
}

fn id_of(value: Option<&Value>) -> Option<Uuid> {
    value.and_then(Value::as_str).and_then(|text| Uuid::parse_str(text).ok())
}

/// An address that may go out ([`link::may_go_out`]); one that may not is told to operators, and left out.
fn link(value: Option<&Value>, found: &mut Found) -> Option<String> {
    let address = value.and_then(Value::as_str).filter(|address| !address.is_empty())?;
    if !link::may_go_out(address) {
        found.note(Drift::UnusableLink);
        return None;
    }
    Some(address.to_owned())
}

/// The address that an answer is all about.
fn wanted_link(item: &Map<String, Value>, name: &str, found: &mut Found) -> Result<String, Reply> {
    if !item.get(name).is_some_and(Value::is_string) {
        found.note(Drift::MissingLink);
    }
    link(item.get(name), found).ok_or(Reply::Unknown { why: "answer without link" })
}

/// A moment as an answer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing, or that it never was: the year 1 is Podero's way to say so.
    Never,
    /// A moment that cannot be meant, or nothing that can be read as one.
    Implausible,
    /// This one; it may lie in the future.
    At(Timestamp),
}

/// A moment with `Z`, an offset or neither (UTC).
pub(super) fn told(value: &Value) -> Told {
    let text = match value {
        Value::Null => return Told::Never,
        Value::String(text) if text.is_empty() || text.starts_with(YEAR_ONE) => return Told::Never,
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return Told::Implausible,
    };
    match read_moment(text) {
        Ok(at) => Told::At(at),
        // It says no more of freshness than any other moment ahead.
        Err(Fault::TooLate) => Told::At(date::LATEST),
        Err(_) => Told::Implausible,
    }
}

/// A date alone is its midnight in UTC.
fn read_moment(text: &str) -> Result<Timestamp, Fault> {
    match date::read_exact(text) {
        Err(Fault::NoOffset) => date::read_exact(&format!("{text}Z")),
        read => read,
    }
}

const YEAR_ONE: &str = "0001-";

fn moment(value: &Value) -> Option<Timestamp> {
    match told(value) {
        Told::At(at) => Some(at),
        Told::Never | Told::Implausible => None,
    }
}

/// Whether a mark such as `deleted_at` is there: anything but nothing, "never", "no", and a moment that cannot be meant.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::String(text) => !text.is_empty() && !matches!(read_moment(text), Err(Fault::TooEarly | Fault::TooLate)),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    }
}

/// Any status but a yes.
fn failure(call: &Call, received: &Received, now: Timestamp) -> Reply {
    let status = received.status;
    let after = received.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let refused = |kind| Reply::Refused(Refusal { kind, status, detail: detail(received) });
    let writes_user = matches!(call, Call::CreateUser { .. } | Call::UpdateUser { .. });
    match status {
        // Also the answer of a form that has done it and shows where; so look before doing it again.
        300..=399 if call.repeat() != Repeat::Harmless => Reply::Unknown { why: "redirect" },
        300..=399 | 401 | 403 | 407 => Reply::Held { status },
        404 | 410 => absent(call, received, refused(RefusalKind::NotFound)),
        405 | 501 => refused(RefusalKind::Unsupported),
        408 | 425 | 429 => Reply::Busy { after },
        503 if after.is_some() => Reply::Busy { after },
        409 if writes_user => refused(RefusalKind::Duplicate),
        400 | 422 if writes_user && speaks_of_duplicate(call, received.body()) => refused(RefusalKind::Duplicate),
        400..=499 => refused(RefusalKind::Invalid),
        500..=599 => Reply::server_error(status),
        _ => Reply::Unknown { why: "unexpected status" },
    }
}

/// "Not there" about what? A page is a gateway's word and no fact: a churn must not count as done for it. A path
/// that names nothing but the organisation can only miss that.
fn absent(call: &Call, received: &Received, refused: Reply) -> Reply {
    let is_page = received.body().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<');
    if is_page {
        return Reply::Unknown { why: "a page instead of an answer" };
    }
    match call {
        Call::FindUser { .. } => Reply::Done(Answer::User(None)),
        Call::ListUsers | Call::CreateUser { .. } => Reply::Held { status: received.status },
        Call::UpdateUser { .. }
        | Call::DeleteUser { .. }
        | Call::ListBuildings { .. }
        | Call::CreateBuilding { .. }
        | Call::UpdateBuilding { .. }
        | Call::DeleteBuilding { .. }
        | Call::ListHeatPumps { .. }
        | Call::PauseHeatPump { .. }
        | Call::CreateOnboardingSession { .. }
        | Call::ObserveHeatPumps { .. }
        | Call::ObserveHeatPump { .. }
        | Call::FindReconnection { .. }
        | Call::ResolveCue { .. } => refused,
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 §10.2.3); what lies in the past is now. `None`: not readable.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = if text.starts_with('-') { 0 } else { digits.parse().unwrap_or(u64::MAX) };
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp::from_micros(0).plus(at).since(now))
}

#[cfg(test)]
mod tests;
