//! Device-onboarding sessions, and the customer who finishes one in Connect UI.
//!
//! Facts: `api-reference/device-onboarding-sessions/*`, `partner-api/getting-started/connect-heat-pump`. It must never
//! make a link that leads to the real Connect UI.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`], [`crate::sandbox::model::HeatPump`].

use std::time::Duration;

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::heat_pumps::PRICE_ZONES;
use super::{Change, Fields, HeatPump, Refusal, SESSIONS_MAX, SESSIONS_PER_USER_MAX, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, Actor};

// RFC 2606: never resolves. Podero's own is https://connect.podero.com.
const CONNECT_URL: &str = "https://connect.podero.invalid";
const RETURN_URL_CHARS_MAX: usize = 8_000;
const LANGUAGES: [&str; 8] = ["sv", "de", "en", "hu", "it", "et", "pl", "ro"];

/// A session as Podero keeps it, and shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    /// Podero's id of it.
    pub id: Uuid,
    /// Whose device is to be onboarded.
    pub user: Uuid,
    /// Where the customer goes.
    pub authentication_url: String,
    /// Where he comes back to.
    pub success_url: String,
    /// Where he comes back to when he gives up.
    pub cancel_url: String,
    /// The last day on which it can be used: the day after it was made (UTC; the zone is not documented).
    pub expiration_date: NaiveDate,
    /// The device that came of it.
    pub object_id: Option<Uuid>,
    /// Empty; never described.
    pub external_metadata: Map<String, Value>,
    #[serde(skip)]
    building_id: Option<Uuid>,
    #[serde(skip)]
    price_zone_default: String,
    #[serde(skip)]
    is_smart_optimization_active_default: Option<bool>,
}

/// Body of POST `/device-onboarding`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSession {
    /// Whose device.
    pub user_id: Uuid,
    /// One of the schema's eight.
    pub language: String,
    /// One of the price zones.
    pub price_zone_default: String,
    /// At most 8000 characters.
    pub success_url: String,
    /// At most 8000 characters.
    pub cancel_url: String,
    /// Whether the device is optimised from the start.
    pub is_smart_optimization_active_default: Option<bool>,
    /// Where the device will stand.
    pub building_id: Option<Uuid>,
}

impl CreateSession {
    /// Reads and validates the body.
    pub fn read(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let user_id = fields.id("user_id");
        let user_id = fields.required("user_id", user_id);
        let language = fields.one_of("language", &LANGUAGES);
        let language = fields.required("language", language);
        let zone = fields.one_of("price_zone_default", &PRICE_ZONES);
        let zone = fields.required("price_zone_default", zone);
        let success_url = fields.text("success_url", Some(RETURN_URL_CHARS_MAX));
        let success_url = fields.required("success_url", success_url);
        let cancel_url = fields.text("cancel_url", Some(RETURN_URL_CHARS_MAX));
        let cancel_url = fields.required("cancel_url", cancel_url);
        let optimize = fields.flag("is_smart_optimization_active_default");
        let building_id = fields.id("building_id");
        fields.finish()?;
        let missing = "a required field that is missing is a problem, and there was none";
        Ok(Self {
            user_id: user_id.expect(missing),
            language: language.expect(missing),
            price_zone_default: zone.expect(missing),
            success_url: success_url.expect(missing),
            cancel_url: cancel_url.expect(missing),
            is_smart_optimization_active_default: value_of(optimize),
            building_id: value_of(building_id),
        })
    }
}

fn value_of<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Keep | Change::Clear => None,
        Change::Set(value) => Some(value),
    }
}

impl World {
    /// Makes a session; a repeat makes another one.
    pub fn create_session(&mut self, actor: Actor, wanted: CreateSession, now: Timestamp) -> Result<&Session, Refusal> {
        self.permit_home(actor, wanted.user_id, Act::ChangeHome)?;
        if wanted.building_id.is_some_and(|id| !self.owns_building(wanted.user_id, id)) {
            return Err(Refusal::NotFound);
        }
        let id = self.fresh_id();
        let home = self.homes.entry(wanted.user_id).or_default();
        if home.sessions.len() >= SESSIONS_PER_USER_MAX || self.sessions.len() >= SESSIONS_MAX {
            return Err(Refusal::Full("onboarding sessions"));
        }
        home.sessions.push(id);
        let session = Session {
            id,
            user: wanted.user_id,
            authentication_url: format!("{CONNECT_URL}?onboarding_session_id={id}"),
            success_url: wanted.success_url,
            cancel_url: wanted.cancel_url,
            expiration_date: now.plus(Duration::from_hours(24)).to_chrono().date_naive(),
            object_id: None,
            external_metadata: Map::new(),
            building_id: wanted.building_id,
            price_zone_default: wanted.price_zone_default,
            is_smart_optimization_active_default: wanted.is_smart_optimization_active_default,
        };
        Ok(self.sessions.put(id, session))
    }

    /// A session by id, expired or not (what an expired one answers is not documented).
    pub fn session(&self, actor: Actor, id: Uuid) -> Result<&Session, Refusal> {
        self.standing(actor)?;
        let session = self.sessions.get(id).ok_or(Refusal::NotFound)?;
        self.permit_home(actor, session.user, Act::ReadHome)?;
        Ok(session)
    }

    /// Control: the customer finishes in Connect UI; his heat pump is there, authenticated, in the session's building.
    pub fn complete_session(
        &mut self,
        id: Uuid,
        mut wanted: Map<String, Value>,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        let session = self.sessions.get(id).ok_or(Refusal::NotFound)?;
        if session.object_id.is_some() {
            return Err(Refusal::Untimely("This session was completed already."));
        }
        if now.to_chrono().date_naive() > session.expiration_date {
            return Err(Refusal::Untimely("This session has expired."));
        }
        let user_id = session.user;
        let defaults = [
            ("building_id", session.building_id.map(|id| json!(id))),
            ("price_zone", Some(json!(session.price_zone_default))),
            ("is_smart_optimization_active", session.is_smart_optimization_active_default.map(|on| json!(on))),
        ];
        for (name, value) in defaults {
            if let Some(value) = value {
                wanted.entry(name).or_insert(value);
            }
        }
        let heat_pump = self.connect_heat_pump(user_id, wanted, now)?.id;
        self.sessions.get_mut(id).expect("it was found above").object_id = Some(heat_pump);
        if let Some(user) = self.users.get_mut(user_id) {
            user.is_onboarded = Some(true);
        }
        self.any_heat_pump(heat_pump)
    }

    /// A link to reauthenticate this heat pump, and the id of its session. Undocumented for heat pumps.
    pub fn open_auth_session(&mut self, actor: Actor, user_id: Uuid, id: Uuid) -> Result<(String, Uuid), Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.heat_pump(actor, user_id, id, false)?;
        let session_id = self.fresh_id();
        Ok((format!("{CONNECT_URL}/reauthenticate?session_id={session_id}"), session_id))
    }

    /// Every session.
    pub fn all_sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }
}
