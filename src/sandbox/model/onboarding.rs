//! Acts on onboarding sessions, and the customer who finishes one.
//!
//! Facts: `api-reference/device-onboarding-sessions/*`, `partner-api/getting-started/connect-heat-pump`. It must never
//! make a link that leads to Podero's own page.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::heat_pump::HeatPump;
use super::session::{CreateSession, Session};
use super::world::{SESSIONS_MAX, SESSIONS_PER_USER_MAX, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

impl World {
    /// Makes a session; a repeat makes another one.
    pub fn create_session(
        &mut self,
        actor: SandboxActor,
        wanted: CreateSession,
        now: Timestamp,
    ) -> SandboxResult<&Session> {
        self.permit_home(actor, wanted.user_id, Act::ChangeHome)?;
        self.refuse_foreign_building(wanted.user_id, wanted.building_id)?;
        let id = self.fresh_id();
        let home = self.homes.entry(wanted.user_id).or_default();
        if home.sessions.len() >= SESSIONS_PER_USER_MAX || self.sessions.len() >= SESSIONS_MAX {
            return Err(SandboxError::Full("onboarding sessions"));
        }
        home.sessions.push(id);
        let session = Session {
            id,
            wanted,
            expiration_date: now.plus(Duration::from_hours(24)).to_chrono().date_naive(),
            object_id: None,
            external_metadata: Map::new(),
        };
        Ok(self.sessions.put(id, session))
    }

    /// A session by id, expired or not (what an expired one answers is not documented).
    pub fn session(&self, actor: SandboxActor, id: Uuid) -> SandboxResult<&Session> {
        self.standing(actor)?;
        let session = self.sessions.get(id).ok_or(SandboxError::NotFound)?;
        self.permit_home(actor, session.wanted.user_id, Act::ReadHome)?;
        Ok(session)
    }

    /// Control: the customer finishes in Connect UI; their heat pump is there, authenticated, in the session's building.
    pub fn complete_session(
        &mut self,
        id: Uuid,
        mut wanted: Map<String, Value>,
        now: Timestamp,
    ) -> SandboxResult<&HeatPump> {
        let session = self.open_session(id, now)?;
        let user_id = session.wanted.user_id;
        let defaults = [
            ("building_id", session.wanted.building_id.map(|id| json!(id))),
            ("price_zone", Some(json!(session.wanted.price_zone_default))),
            ("is_smart_optimization_active", session.wanted.is_smart_optimization_active_default.map(|on| json!(on))),
        ];
        for (name, value) in defaults {
            if let Some(value) = value {
                wanted.entry(name).or_insert(value);
            }
        }
        let heat_pump = self.connect_heat_pump(user_id, wanted, now)?.id;
        self.sessions.get_mut(id).expect("it was found above").object_id = Some(heat_pump);
        if let Some(user) = self.users.get_mut(user_id) {
            user.row.insert("is_onboarded", json!(true));
        }
        self.any_heat_pump(heat_pump)
    }

    /// A session that the customer may still finish.
    pub(super) fn open_session(&self, id: Uuid, now: Timestamp) -> SandboxResult<&Session> {
        let session = self.sessions.get(id).ok_or(SandboxError::NotFound)?;
        self.live_user(session.wanted.user_id)?;
        if session.object_id.is_some() {
            return Err(SandboxError::Untimely("This session was completed already."));
        }
        if now.to_chrono().date_naive() > session.expiration_date {
            return Err(SandboxError::Untimely("This session has expired."));
        }
        Ok(session)
    }

    /// Every session.
    pub fn all_sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }
}
