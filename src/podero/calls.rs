//! Every call in Podero's terms: its request, and the reading of a yes to it. Pure.
//!
//! Before: a [`crate::domain::call`]. After: [`super::wire`] reads the answer's status and lists.

use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::USERS_BYTES_MAX;
use super::drift::DriftNotes;
use super::fields::{
    body_of, building, changed, id_of, is_of_building, is_of_user, is_of_user_line, json_of, observation, pump,
    reconnection, record_of, user, wanted_link,
};
use super::gate::Evidence;
use super::moments::is_set;
use super::wire::{
    ANOTHER_WHY, Entry, Keep, ListBounds, ListItem, ListPart, OF_USERS, PartnerCall, Reading, RequestParts,
    WITHOUT_ID_WHY, list, one, segment, yes,
};
use crate::domain::alert::Observation;
use crate::domain::call::{
    BuildingFound, Call, Done, Operation, PumpFound, Reconnection, Refusal, Repeat, Reply, ResolveCue, UserFound, Zip,
};
use crate::domain::event::{Field, FieldValue, Record};

const PREFIX: &str = "/api/partners/v2.0";

/// The pages of the two lists that an event asks for.
#[derive(Default)]
pub(super) struct EventPages {
    buildings: Option<ListPart<BuildingFound>>,
    heat_pumps: Option<ListPart<PumpFound>>,
}

impl PartnerCall for Call {
    type Answer = Done;
    type Pages = EventPages;

    fn operation(&self) -> Operation {
        self.operation()
    }

    fn reads(&self) -> bool {
        self.reads()
    }

    fn repeat(&self) -> Repeat {
        self.repeat()
    }

    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal> {
        let users = users(org);
        Ok(match self {
            Self::FindUser { external_id } => {
                let key = segment(external_id.as_str())?;
                RequestParts::new(Method::GET, format!("{users}/by-ext-id/{key}"))
            }
            Self::CreateUser { external_id, record } => {
                let mut body = body_of(record, is_of_user);
                body.insert("role".to_owned(), json!("user"));
                body.insert("external_user_id".to_owned(), json!(external_id.as_str()));
                RequestParts::new(Method::POST, users).with(body)
            }
            Self::UpdateUser { user, changes } => {
                RequestParts::new(Method::PUT, format!("{users}/{user}")).with(changed(changes, is_of_user))
            }
            Self::DeleteUser { user, soft } => {
                let query = if *soft { "?soft_delete=true" } else { "" };
                RequestParts::new(Method::DELETE, format!("{users}/{user}{query}"))
            }
            Self::ListBuildings { user } => RequestParts::new(Method::GET, format!("{users}/{user}/buildings")),
            Self::CreateBuilding { user, record, .. } => {
                let body = body_of(record, is_of_building);
                RequestParts::new(Method::POST, format!("{users}/{user}/buildings")).with(body)
            }
            Self::UpdateBuilding { user, building, name, changes, .. } => {
                let mut body = changed(changes, is_of_building);
                // Podero's schema requires the name in every write; a name that is to be cleared stays.
                if body.get("name").is_none_or(Value::is_null) {
                    body.insert("name".to_owned(), json_of(Field::Name, name));
                }
                RequestParts::new(Method::PUT, format!("{users}/{user}/buildings/{building}")).with(body)
            }
            Self::DeleteBuilding { user, building } => {
                RequestParts::new(Method::DELETE, format!("{users}/{user}/buildings/{building}"))
            }
            Self::ListHeatPumps { user } => RequestParts::new(Method::GET, format!("{users}/{user}/heat-pumps")),
            Self::PauseHeatPump { user, heat_pump } => {
                let body = Map::from_iter([("is_smart_optimization_active".to_owned(), json!(false))]);
                RequestParts::new(Method::PUT, format!("{users}/{user}/heat-pumps/{heat_pump}")).with(body)
            }
            Self::CreateOnboardingSession { user, building, language, policy, .. } => {
                // Podero's guides write DE, its schema has only DE_LU (docs of the session's fields).
                let price_zone = if policy.price_zone == "DE" { "DE_LU" } else { &policy.price_zone };
                let mut body = Map::from_iter([
                    ("user_id".to_owned(), json!(user)),
                    ("language".to_owned(), json!(language)),
                    ("price_zone_default".to_owned(), json!(price_zone)),
                    ("success_url".to_owned(), json!(policy.success_url)),
                    ("cancel_url".to_owned(), json!(policy.cancel_url)),
                ]);
                body.extend(building.map(|building| ("building_id".to_owned(), json!(building))));
                RequestParts::new(Method::POST, format!("{PREFIX}/device-onboarding")).with(body)
            }
        })
    }

    /// The pages leave open whether a create answers 200 or 201.
    fn is_success(&self, status: u16) -> bool {
        match self {
            Self::FindUser { .. } | Self::ListBuildings { .. } | Self::ListHeatPumps { .. } => status == 200,
            Self::CreateUser { .. } | Self::CreateBuilding { .. } | Self::CreateOnboardingSession { .. } => {
                matches!(status, 200 | 201)
            }
            Self::UpdateUser { .. }
            | Self::DeleteUser { .. }
            | Self::UpdateBuilding { .. }
            | Self::DeleteBuilding { .. }
            | Self::PauseHeatPump { .. } => matches!(status, 200 | 204),
        }
    }

    fn read(&self, body: &[u8], pages: &mut EventPages, notes: &mut DriftNotes) -> Reading<Done> {
        let reply = match self {
            Self::ListBuildings { .. } => return list(body, &mut pages.buildings, notes).map(Done::BuildingsListed),
            Self::ListHeatPumps { .. } => return list(body, &mut pages.heat_pumps, notes).map(Done::HeatPumpsListed),
            Self::FindUser { external_id } => one(body, notes, |item, notes| {
                let user = user_of(item, notes)?;
                if user.external_id.as_deref().is_some_and(|key| key != external_id.as_str()) {
                    // A server that matches loosely must not give this customer another one's user.
                    return Err(Reply::Unknown { why: ANOTHER_WHY });
                }
                Ok(Done::UserLookedUp(Some(user).filter(|_| !item.get("deleted_at").is_some_and(is_set))))
            }),
            Self::CreateUser { record, .. } => one(body, notes, |item, notes| {
                Ok(Done::UserCreated { user: user_of(item, notes)?.id, record: record.clone() })
            }),
            Self::CreateBuilding { key, since, record, .. } => one(body, notes, |item, notes| {
                notes.id(item);
                let building = id_of(item.get("id")).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })?;
                Ok(Done::BuildingCreated { building, key: key.clone(), since: *since, record: record.clone() })
            }),
            Self::CreateOnboardingSession { key, since, .. } => one(body, notes, |item, notes| {
                let url = wanted_link(item, "authentication_url", notes)?;
                Ok(Done::SessionCreated { key: key.clone(), since: *since, url })
            }),
            Self::UpdateUser { user: id, .. }
            | Self::DeleteUser { user: id, .. }
            | Self::UpdateBuilding { building: id, .. }
            | Self::DeleteBuilding { building: id, .. }
            | Self::PauseHeatPump { heat_pump: id, .. } => yes(body, *id, self.done(), notes),
        };
        Reading::Whole(reply)
    }

    fn absent(&self, status: u16) -> Option<Reply> {
        if matches!(self, Self::FindUser { .. }) {
            return Some(Reply::Done(Done::UserLookedUp(None)));
        }
        // Its path names nothing but the organisation.
        matches!(self, Self::CreateUser { .. }).then_some(Reply::Held { status })
    }

    fn values_of_user(&self) -> Option<Vec<FieldValue>> {
        if let Self::CreateUser { record, .. } = self {
            return Some(record.values().cloned().collect());
        }
        if let Self::UpdateUser { changes, .. } = self {
            return Some(changes.values().flatten().cloned().collect());
        }
        None
    }
}

pub(super) fn users(org: Uuid) -> String {
    format!("{PREFIX}/org/{org}/users")
}

fn user_of<A>(item: &Map<String, Value>, notes: &mut DriftNotes) -> Result<UserFound, Reply<A>> {
    notes.user_of(item);
    let user = user(item, record_of(item, is_of_user)).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })?;
    Ok(UserFound { zip: None, ..user })
}

/// Reads all users of the organisation.
#[derive(Debug)]
pub(super) struct ListUsers;

impl PartnerCall for ListUsers {
    type Answer = Vec<UserFound>;
    type Pages = Option<ListPart<UserFound>>;
    const BYTES_MAX: usize = USERS_BYTES_MAX;
    const EVIDENCE: Evidence = Evidence::Podero;

    fn operation(&self) -> Operation {
        Operation::ListUsers
    }

    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal> {
        Ok(RequestParts::new(Method::GET, users(org)))
    }

    fn read(&self, body: &[u8], pages: &mut Self::Pages, notes: &mut DriftNotes) -> Reading<Self::Answer> {
        list(body, pages, notes)
    }

    fn absent(&self, status: u16) -> Option<Reply<Self::Answer>> {
        Some(Reply::Held { status })
    }
}

/// Reads the connectivity of a user's heat pumps. An entry that could not be read stands in the answer with the nil id: it may
/// be any heat pump that the answer does not name.
#[derive(Debug)]
pub(super) struct ObserveHeatPumps {
    pub(super) user: Uuid,
}

impl PartnerCall for ObserveHeatPumps {
    type Answer = Vec<Observation>;
    type Pages = Option<ListPart<Observation>>;

    fn operation(&self) -> Operation {
        Operation::ListHeatPumps
    }

    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal> {
        Ok(RequestParts::new(Method::GET, format!("{}/{}/heat-pumps", users(org), self.user)))
    }

    fn read(&self, body: &[u8], pages: &mut Self::Pages, notes: &mut DriftNotes) -> Reading<Self::Answer> {
        list(body, pages, notes)
    }
}

/// Reads one heat pump in detail, as `A`: for the watch an [`Observation`], for support how its owner can reconnect it.
#[derive(Debug)]
pub(super) struct GetHeatPump<A> {
    pub(super) user: Uuid,
    pub(super) heat_pump: Uuid,
    pub(super) detail: fn(&Map<String, Value>, &mut DriftNotes) -> Option<A>,
}

impl GetHeatPump<Observation> {
    pub(super) fn observe(user: Uuid, heat_pump: Uuid) -> Self {
        let detail = |item: &Map<String, Value>, notes: &mut DriftNotes| {
            // This is the detail: no further call shows more.
            Some(Observation { wants_detail: false, ..observation(item, notes)? })
        };
        Self { user, heat_pump, detail }
    }
}

impl GetHeatPump<Option<Reconnection>> {
    pub(super) fn reconnection(user: Uuid, heat_pump: Uuid) -> Self {
        Self { user, heat_pump, detail: |item, notes| Some(reconnection(item, notes)) }
    }
}

impl<A: std::fmt::Debug + Send> PartnerCall for GetHeatPump<A> {
    type Answer = A;
    type Pages = ();

    fn operation(&self) -> Operation {
        Operation::GetHeatPump
    }

    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal> {
        Ok(RequestParts::new(Method::GET, format!("{}/{}/heat-pumps/{}", users(org), self.user, self.heat_pump)))
    }

    fn read(&self, body: &[u8], _: &mut (), notes: &mut DriftNotes) -> Reading<A> {
        Reading::Whole(one(body, notes, |item, notes| {
            notes.pump_of(item);
            if id_of(item.get("id")).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })? != self.heat_pump {
                return Err(Reply::Unknown { why: ANOTHER_WHY });
            }
            (self.detail)(item, notes).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })
        }))
    }
}

/// Begins to resolve an action. It stays pending until its owner has done it: a second link is as good as the first, so a
/// repeat is harmless.
impl PartnerCall for ResolveCue {
    type Answer = String;
    type Pages = ();

    fn operation(&self) -> Operation {
        Operation::ResolveCue
    }

    fn reads(&self) -> bool {
        false
    }

    /// Its page writes `successUrl`, all others write `success_url`; the name that the action itself asks for takes precedence.
    fn request(&self, _: Uuid) -> Result<RequestParts, Refusal> {
        let Self { cue, success_url, cancel_url, language } = self;
        let secret = segment(&cue.secret.0)?;
        let name = |wanted: &str, usual: &str| {
            let is_it = |name: &&String| name.replace('_', "").eq_ignore_ascii_case(wanted);
            cue.parameters.iter().find(is_it).map_or_else(|| usual.to_owned(), Clone::clone)
        };
        let mut body = Map::from_iter([
            (name("successurl", "successUrl"), json!(success_url)),
            (name("cancelurl", "cancelUrl"), json!(cancel_url)),
        ]);
        body.extend(language.as_ref().map(|language| ("language".to_owned(), json!(language))));
        let path = format!("{PREFIX}/cues/{}/resolve?cue_id={}&secret={secret}", cue.id, cue.id);
        Ok(RequestParts::new(Method::POST, path).with(body))
    }

    fn read(&self, body: &[u8], _: &mut (), notes: &mut DriftNotes) -> Reading<String> {
        Reading::Whole(one(body, notes, |item, notes| wanted_link(item, "redirect_url", notes)))
    }
}

fn length_of(text: Option<&String>) -> usize {
    text.map_or(0, String::capacity)
}

/// Bytes of the texts and of the tree in a record.
fn bytes_of(record: &Record) -> usize {
    let text = |value: &FieldValue| match value {
        FieldValue::Text(text) => text.len(),
        FieldValue::Number(_) | FieldValue::Flag(_) => 0,
    };
    record.values().map(|value| text(value) + size_of::<(Field, FieldValue)>()).sum()
}

impl ListItem for UserFound {
    const BOUNDS: ListBounds = OF_USERS;
    const ONE_MUST_DO: bool = true;
    const KEEP: Keep = is_of_user_line;

    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self> {
        notes.user(item);
        let line = item.as_object();
        let user = line.and_then(|item| user(item, Record::new()));
        let is_usable = user.is_some();
        let is_there = !line.and_then(|item| item.get("deleted_at")).is_some_and(is_set);
        Entry { record: user.filter(|_| is_there), is_usable }
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn bytes(&self) -> usize {
        let zip =
            self.zip.as_ref().map_or(0, |zip| size_of::<Zip>() + zip.code.capacity() + length_of(zip.country.as_ref()));
        size_of::<Self>() + length_of(self.external_id.as_ref()) + zip + bytes_of(&self.observed)
    }
}

impl ListItem for BuildingFound {
    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self> {
        notes.home(item);
        Entry::of(item.as_object().and_then(building))
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + bytes_of(&self.observed)
    }
}

impl ListItem for PumpFound {
    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self> {
        notes.pump(item);
        Entry::of(item.as_object().and_then(pump))
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl ListItem for Observation {
    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self> {
        notes.pump(item);
        let shown = item.as_object().and_then(|item| observation(item, notes));
        Entry { is_usable: shown.is_some(), record: Some(shown.unwrap_or_default()) }
    }

    fn id(&self) -> Uuid {
        self.heat_pump
    }

    fn bytes(&self) -> usize {
        let texts = [&self.manufacturer, &self.model, &self.reconnect_url];
        size_of::<Self>() + texts.into_iter().map(|text| length_of(text.as_ref())).sum::<usize>()
    }
}
