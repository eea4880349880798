//! Podero's language: a [`Call`] becomes a request, an answer becomes a [`Reply`]. Pure functions over values.
//!
//! What is written is built from an allow-list of our own fields; nothing that Podero showed us is ever sent
//! back (it could delete a device). What is read may be of any shape that Podero's pages show, and an answer
//! that makes no sense is `Unknown`, never a fact. A list that is not known to be whole is no list. What is
//! kept of a refusal holds no personal data. This file never sends, waits or logs.
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
//! Before: [`crate::domain::plan`] names the call. After: [`crate::domain::verdict`] judges the reply.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Received;
use crate::domain::Timestamp;
use crate::domain::alert::{ConnectionStatus, Observation};
use crate::domain::customer::{BuildingFound, Changes, PumpFound, UserFound, Zip};
use crate::domain::date::{self, Fault};
use crate::domain::event::{Field, FieldValue, Record};
use crate::domain::plan::{Answer, Call, Cue, Hidden, Reconnection, Refusal, RefusalKind, Repeat, Reply};

const PREFIX: &str = "/api/partners/v2.0";

/// How many more entries are asked for when a list turns out to be cut into pages: the largest `limit` that any
/// page of the API shows.
const PAGE_ENTRIES: usize = 200;

/// The longest kept text of a refusal: a line of a ticket.
const DETAIL_CHARS_MAX: usize = 200;

/// The longest label that is kept: names of manufacturers, models and countries stand in indices. Podero's own text fields
/// have 100 characters.
const LABEL_CHARS_MAX: usize = 100;

/// A refusal larger than this is not looked into: no validation of our small bodies says so much.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Sent values at least this long are hidden wherever they occur, shorter ones only as whole words: hiding
/// every "DE" would leave nothing to read.
const HIDDEN_ANYWHERE_CHARS_MIN: usize = 4;

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

/// What an answer means for its call. `so_far` is taken when the answer goes on with a list.
pub(super) fn read(call: &Call, received: &Received, so_far: &mut Option<Part>, now: Timestamp) -> Reading {
    if let Some(coding) = received.coding.filter(|_| is_told_by_body(call, received.status)) {
        return unknown(coding.why());
    }
    if !is_success(call, received.status) {
        return Reading::Whole(failure(call, received, now));
    }
    let body = &received.body[..];
    match call {
        Call::ListUsers => list(body, so_far, |lines: Vec<UserLine>| {
            let found = lines.iter().filter(|line| !is_set(&line.deleted_at));
            Answer::Users(found.filter_map(|line| line.found(Record::new())).collect())
        }),
        Call::ListBuildings { .. } => list(body, so_far, |items: Vec<Map<String, Value>>| {
            Answer::Buildings(items.iter().filter_map(building).collect())
        }),
        Call::ListHeatPumps { .. } => list(body, so_far, |items: Vec<Map<String, Value>>| {
            Answer::HeatPumps(items.iter().filter_map(pump).collect())
        }),
        Call::ObserveHeatPumps { .. } => list(body, so_far, |items: Vec<Value>| {
            let seen = items.iter().map(|item| item.as_object().and_then(observation));
            Answer::Observations(seen.map(Option::unwrap_or_default).collect())
        }),
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
        | Call::ResolveCue { .. } => Reading::Whole(done(call, body)),
    }
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
fn done(call: &Call, body: &[u8]) -> Reply {
    let reply = match call {
        Call::FindUser { external_id } => object(body).and_then(|item| {
            let line = UserLine::of(&item);
            let found = line.found(record_of(&item, is_of_user)).ok_or(WITHOUT_ID)?;
            if found.external_id.as_deref().is_some_and(|key| key != external_id.as_str()) {
                // A server that matches loosely must not lend us another customer's user.
                return Err(ANOTHER);
            }
            Ok(Answer::User(Some(found).filter(|_| !is_set(&line.deleted_at))))
        }),
        Call::CreateUser { .. } => object(body).and_then(|item| {
            let found = UserLine::of(&item).found(record_of(&item, is_of_user));
            Ok(Answer::User(Some(found.ok_or(WITHOUT_ID)?)))
        }),
        Call::CreateBuilding { .. } => object(body).and_then(|item| {
            let id = id_of(item.get("id")).ok_or(WITHOUT_ID)?;
            Ok(Answer::Building { id })
        }),
        Call::CreateOnboardingSession { .. } => object(body).and_then(|item| {
            let why = "answer without link";
            let url = link(item.get("authentication_url")).ok_or(Reply::Unknown { why })?;
            Ok(Answer::Session { url })
        }),
        Call::ObserveHeatPump { heat_pump, .. } => object(body).and_then(|item| {
            let mut observation = observation(&item).ok_or(WITHOUT_ID)?;
            if observation.heat_pump != *heat_pump {
                return Err(ANOTHER);
            }
            // This is the detail: there is nothing more to ask for.
            observation.wants_detail = false;
            Ok(Answer::Observations(vec![observation]))
        }),
        Call::FindReconnection { heat_pump, .. } => object(body).and_then(|item| {
            if id_of(item.get("id")).ok_or(WITHOUT_ID)? != *heat_pump {
                return Err(ANOTHER);
            }
            Ok(Answer::Reconnection(reconnection(&item)))
        }),
        Call::ResolveCue { .. } => object(body).and_then(|item| {
            let why = "answer without link";
            let url = link(item.get("redirect_url")).ok_or(Reply::Unknown { why })?;
            Ok(Answer::Link { url })
        }),
        Call::UpdateUser { user, .. } | Call::DeleteUser { user, .. } => acknowledged(*user, body),
        Call::UpdateBuilding { building, .. } | Call::DeleteBuilding { building, .. } => acknowledged(*building, body),
        Call::PauseHeatPump { heat_pump, .. } => acknowledged(*heat_pump, body),
        Call::ListBuildings { .. } | Call::ListHeatPumps { .. } | Call::ListUsers | Call::ObserveHeatPumps { .. } => {
            Err(ANOTHER_SHAPE)
        }
    };
    reply.map_or_else(|unclear| unclear, Reply::Done)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    serde_json::from_slice(body).map_err(|error| garbage(body, &error))
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

/// A yes that need not say anything; what it does say must be JSON and about the thing we meant.
fn acknowledged(id: Uuid, body: &[u8]) -> Result<Answer, Reply> {
    if body.is_empty() {
        return Ok(Answer::Nothing);
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| garbage(body, &error))?;
    match id_of(answer.get("id")) {
        Some(other) if other != id => Err(ANOTHER),
        Some(_) | None => Ok(Answer::Nothing),
    }
}

/// An entry of a list, or something that is none: it is passed over, since one odd device must not blind the watch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Item(T),
    Ghost(IgnoredAny),
}

#[derive(Deserialize)]
struct Envelope<T> {
    items: Vec<Entry<T>>,
    #[serde(default)]
    total: Value,
}

/// Reads a bare array, or a page of `{total, items}`. A list is whole when the array is bare or the pages hold `total`.
fn list<T: DeserializeOwned>(body: &[u8], so_far: &mut Option<Part>, answer: impl Fn(Vec<T>) -> Answer) -> Reading {
    let is_bare = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let (entries, total) = if is_bare {
        (serde_json::from_slice(body), None)
    } else {
        match serde_json::from_slice::<Envelope<T>>(body) {
            Ok(envelope) => match count(&envelope.total) {
                Some(total) => (Ok(envelope.items), Some(total)),
                None => return unknown("list without total"),
            },
            Err(error) => (Err(error), None),
        }
    };
    let entries: Vec<Entry<T>> = match entries {
        Ok(entries) => entries,
        Err(error) => return Reading::Whole(garbage(body, &error)),
    };
    let count = entries.len();
    let items = entries.into_iter().filter_map(|entry| match entry {
        Entry::Item(item) => Some(item),
        Entry::Ghost(_) => None,
    });
    gather(so_far.take(), answer(items.collect()), count, total)
}

/// Joins a page to what is known of the list already. Anything that could hide an entry makes the list unknown:
/// a list that is read short would make the watch think that heat pumps are gone.
fn gather(so_far: Option<Part>, answer: Answer, entries: usize, total: Option<usize>) -> Reading {
    let part = match (so_far, total) {
        (None, None) => return Reading::Whole(Reply::Done(answer)),
        (None, Some(total)) => Part { answer, entries, total },
        (Some(_), None) => return unknown("list changed its shape"),
        (Some(part), Some(total)) if part.total != total => return unknown("list changed while it was read"),
        (Some(part), Some(total)) => {
            let known: HashSet<Uuid> = ids(&part.answer).into_iter().collect();
            if entries == 0 || ids(&answer).iter().any(|id| known.contains(id)) {
                // Short, or a server that does not know `offset` and shows the same page again.
                return unknown("list does not go on");
            }
            Part { answer: joined(part.answer, answer), entries: part.entries + entries, total }
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

/// The parts of a user that say who it is. Typed, so that a list of 50,000 does not keep what nobody reads.
#[derive(Deserialize, Default)]
#[serde(default)]
struct UserLine {
    id: Value,
    role: Value,
    external_user_id: Value,
    num_heat_pumps: Value,
    deleted_at: Value,
    zip_code: Value,
    country: Value,
    country_iso2: Value,
}

impl UserLine {
    fn of(item: &Map<String, Value>) -> Self {
        let field = |name: &str| item.get(name).cloned().unwrap_or_default();
        Self {
            id: field("id"),
            role: field("role"),
            external_user_id: field("external_user_id"),
            num_heat_pumps: field("num_heat_pumps"),
            deleted_at: field("deleted_at"),
            ..Self::default()
        }
    }

    fn found(&self, written: Record) -> Option<UserFound> {
        Some(UserFound {
            id: id_of(Some(&self.id))?,
            is_customer: self.role.as_str().is_some_and(|role| role.eq_ignore_ascii_case("user")),
            external_id: text_of(&self.external_user_id).filter(|id| is_key(id)),
            heat_pumps: count(&self.num_heat_pumps).and_then(|count| u64::try_from(count).ok()),
            zip: label(&self.zip_code).map(|code| {
                let country = label(&self.country).or_else(|| label(&self.country_iso2));
                Box::new(Zip { country, code })
            }),
            written,
        })
    }
}

fn building(item: &Map<String, Value>) -> Option<BuildingFound> {
    Some(BuildingFound { id: id_of(item.get("id"))?, written: record_of(item, is_of_building) })
}

fn pump(item: &Map<String, Value>) -> Option<PumpFound> {
    let is_paused = item.get("is_smart_optimization_active") == Some(&Value::Bool(false));
    Some(PumpFound {
        id: id_of(item.get("id"))?,
        building: building_of(item),
        is_steered: !is_paused && !item.get("deleted_at").is_some_and(is_set),
    })
}

fn observation(item: &Map<String, Value>) -> Option<Observation> {
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
        reconnect_url: link(item.get("authorization_url")),
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
fn reconnection(item: &Map<String, Value>) -> Option<Reconnection> {
    let actions = item.get("actions").and_then(Value::as_array);
    let cue = actions.into_iter().flatten().filter(|action| is_reauthentication(action)).find_map(cue);
    let page = || link(item.get("authorization_url")).map(Reconnection::Page);
    cue.map(Reconnection::Cue).or_else(page)
}

/// `resolution_link` is an object with `url` and `required_parameters`, or the address alone: the pages show both. Of
/// the address only the cue's id and its secret are taken: where to send them is ours to know.
fn cue(action: &Value) -> Option<Cue> {
    let told = action.get("resolution_link")?;
    let url = Url::parse(told.as_str().or_else(|| told.get("url")?.as_str())?).ok()?;
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

/// An address that a browser can open.
fn link(value: Option<&Value>) -> Option<String> {
    let text = value.and_then(Value::as_str)?;
    (text.starts_with("https://") || text.starts_with("http://")).then(|| text.to_owned())
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
    let refused = |kind| Reply::Refused(Refusal { kind, status, detail: detail(call, received) });
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
        400 | 422 if writes_user && speaks_of_duplicate(call, &received.body) => refused(RefusalKind::Duplicate),
        400..=499 => refused(RefusalKind::Invalid),
        500..=599 => Reply::Unknown { why: "server error" },
        _ => Reply::Unknown { why: "unexpected status" },
    }
}

/// "Not there" about what? A page is a gateway's word and no fact: a churn must not count as done for it. A path
/// that names nothing but the organisation can only miss that.
fn absent(call: &Call, received: &Received, refused: Reply) -> Reply {
    let is_page = received.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<');
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

/// What Podero said about a refusal, without a word about the customer: of structured problems only where and
/// which kind, of a sentence what is left when e-mail addresses and everything we sent are hidden.
fn detail(call: &Call, received: &Received) -> String {
    if let Some(coding) = received.coding {
        return coding.why().to_owned();
    }
    let text = match refusal(&received.body).and_then(|body| body.get("detail").cloned()) {
        Some(Value::String(text)) => scrub(&text, &sent(call)),
        Some(Value::Array(problems)) => {
            let problems: Vec<String> = problems.iter().filter_map(problem).collect();
            problems.join("; ")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    };
    // Control characters would forge lines of a log, or colours of a terminal.
    text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect()
}

fn refusal(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(|_| body.len() <= REFUSAL_BYTES_MAX)
}

/// `body.email: value_error` of `{"loc": ["body", "email"], "type": "value_error", …}`. Parts that are not plain
/// names are left out: they could be anything.
fn problem(problem: &Value) -> Option<String> {
    let plain = |text: &&str| {
        text.len() <= 64
            && !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let place = problem.get("loc").and_then(Value::as_array);
    let place: Vec<&str> = place.into_iter().flatten().filter_map(Value::as_str).filter(plain).collect();
    let kind = problem.get("type").and_then(Value::as_str).filter(plain);
    match (place.is_empty(), kind) {
        (true, None) => None,
        (true, Some(kind)) => Some(kind.to_owned()),
        (false, None) => Some(place.join(".")),
        (false, Some(kind)) => Some(format!("{}: {kind}", place.join("."))),
    }
}

/// Whether a refusal says that something is there already. No page shows the words, so a few are tried.
fn speaks_of_duplicate(call: &Call, body: &[u8]) -> bool {
    let Some(body) = refusal(body) else { return false };
    let mut texts = Vec::new();
    collect_texts(&body, &mut texts);
    let sent = sent(call);
    texts.into_iter().any(|text| {
        let text = scrub(text, &sent).to_lowercase();
        let words = ["already", "exists", "unique", "taken", "duplicate", "in use"];
        !text.contains("not exist") && words.iter().any(|word| text.contains(word))
    })
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(items) => items.values().for_each(|item| collect_texts(item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every value about the customer that the call's body carries, and the words in them, longest first.
fn sent(call: &Call) -> Vec<String> {
    let mut values: Vec<&FieldValue> = match call {
        Call::CreateUser { record, .. } | Call::CreateBuilding { record, .. } => record.values().collect(),
        Call::UpdateUser { changes, .. } => changes.values().flatten().collect(),
        Call::UpdateBuilding { changes, .. } => changes.values().flatten().collect(),
        Call::FindUser { .. }
        | Call::DeleteUser { .. }
        | Call::ListBuildings { .. }
        | Call::DeleteBuilding { .. }
        | Call::ListHeatPumps { .. }
        | Call::PauseHeatPump { .. }
        | Call::CreateOnboardingSession { .. }
        | Call::ListUsers
        | Call::ObserveHeatPumps { .. }
        | Call::ObserveHeatPump { .. }
        | Call::FindReconnection { .. }
        | Call::ResolveCue { .. } => Vec::new(),
    };
    if let Call::UpdateBuilding { name, .. } = call {
        values.push(name);
    }
    let mut sent = HashSet::new();
    for value in values {
        let text = match value {
            FieldValue::Text(text) => text.to_string(),
            FieldValue::Number(number) => number.to_string(),
            FieldValue::Flag(_) => continue,
        };
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        sent.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        sent.insert(text);
    }
    let mut sent: Vec<String> = sent.into_iter().filter(|text| !text.is_empty()).collect();
    sent.sort_by_key(|text| std::cmp::Reverse(text.len()));
    sent
}

fn scrub(text: &str, sent: &[String]) -> String {
    let without_addresses: Vec<&str> =
        text.split_whitespace().map(|word| if word.contains('@') { "…" } else { word }).collect();
    // Whole values first: once the words of one are hidden, the value itself can no longer be found.
    sent.iter().fold(without_addresses.join(" "), |text, secret| hide(&text, secret))
}

fn hide(text: &str, secret: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let secret: Vec<char> = secret.chars().collect();
    let is_inside = |at: usize| text.get(at).is_some_and(|letter| letter.is_alphanumeric());
    let is_hit = |at: usize| {
        let end = at + secret.len();
        let same = |(a, b): (&char, &char)| a == b || a.to_lowercase().eq(b.to_lowercase());
        let matches = text.get(at..end).is_some_and(|part| part.iter().zip(&secret).all(same));
        let is_word = !is_inside(end) && !at.checked_sub(1).is_some_and(is_inside);
        matches && (is_word || secret.len() >= HIDDEN_ANYWHERE_CHARS_MIN)
    };
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(letter) = text.get(at) {
        if is_hit(at) {
            shown.push('…');
            at += secret.len();
        } else {
            shown.push(*letter);
            at += 1;
        }
    }
    shown
}

#[cfg(test)]
mod tests;
