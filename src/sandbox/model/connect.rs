//! Acts of a customer on the Connect page: they bring a heat pump, bring it back, or give up.
//!
//! The page itself is Podero's and not documented beyond its two ends: the customer returns to the success or the cancel page.
//! It must never ask who the customer is: the link is all that they have.
//!
//! Before: [`crate::sandbox::routes`]. After: the other files of [`crate::sandbox::model`].

use serde_json::{Map, Value};
use uuid::Uuid;

use super::heat_pump::HeatPump;
use super::link::ConnectLink;
use super::reconnection::{BegunReconnection, ReturnUrls};
use super::world::{RECONNECTIONS_MAX, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

/// The state of the page behind a link.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectVisit {
    /// Manufacturer and model of the heat pump that is to come back; of a new one nothing is known.
    pub known: Option<(String, String)>,
    /// The pages to which the customer returns.
    pub urls: ReturnUrls,
}

impl World {
    /// The page behind a link; [`SandboxError::Untimely`] if there is nothing left to do.
    pub fn visit(&self, link: ConnectLink, now: Timestamp) -> SandboxResult<ConnectVisit> {
        let (heat_pump_id, urls) = match link {
            ConnectLink::Onboarding(id) => {
                let wanted = &self.open_session(id, now)?.wanted;
                let (success, cancel) = (wanted.success_url.clone(), wanted.cancel_url.clone());
                let urls = ReturnUrls { success: Some(success), cancel: Some(cancel) };
                return Ok(ConnectVisit { known: None, urls });
            }
            ConnectLink::Reconnection(id) => {
                let reconnection = self.reconnection(id)?;
                let is_done = reconnection.cue_id.is_some_and(|cue| self.cues.get(cue).is_none());
                self.living_pump(reconnection.heat_pump_id)?;
                if is_done {
                    return Err(SandboxError::Untimely("There is nothing left to do."));
                }
                (reconnection.heat_pump_id, reconnection.urls.clone())
            }
            ConnectLink::Authorization(id) => {
                if self.living_pump(id)?.is_authenticated() {
                    return Err(SandboxError::Untimely("This heat pump is connected already."));
                }
                (id, ReturnUrls::default())
            }
        };
        let model = self.living_pump(heat_pump_id)?.field("device_model");
        let text =
            |name: &str| model.and_then(|model| model.get(name)).and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(ConnectVisit { known: Some((text("manufacturer"), text("model"))), urls })
    }

    /// The customer logs in at the manufacturer: the heat pump is there, or there again. `wanted` says more about a new one.
    pub fn finish_visit(
        &mut self,
        link: ConnectLink,
        wanted: Map<String, Value>,
        now: Timestamp,
    ) -> SandboxResult<ReturnUrls> {
        let urls = self.visit(link, now)?.urls;
        match link {
            ConnectLink::Onboarding(id) => {
                self.complete_session(id, wanted, now)?;
            }
            ConnectLink::Reconnection(id) => {
                let BegunReconnection { heat_pump_id, cue_id, .. } = self.reconnection(id)?.clone();
                match cue_id {
                    Some(cue) => self.finish_cue(cue, now),
                    None => self.authenticate_heat_pump(heat_pump_id, now),
                }
            }
            ConnectLink::Authorization(id) => self.authenticate_heat_pump(id, now),
        }
        Ok(urls)
    }

    /// A link to reauthenticate this heat pump, and the id of its session. Undocumented for heat pumps.
    pub fn open_auth_session(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        urls: ReturnUrls,
    ) -> SandboxResult<Uuid> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.heat_pump(actor, user_id, id, false)?;
        Ok(self.begin_reconnection(id, None, urls))
    }

    pub(super) fn begin_reconnection(&mut self, heat_pump_id: Uuid, cue_id: Option<Uuid>, urls: ReturnUrls) -> Uuid {
        let id = self.fresh_id();
        self.reconnections.keep(id.to_string(), BegunReconnection { heat_pump_id, cue_id, urls }, RECONNECTIONS_MAX);
        id
    }

    fn reconnection(&self, id: Uuid) -> SandboxResult<&BegunReconnection> {
        self.reconnections.get(&id.to_string()).ok_or(SandboxError::NotFound)
    }

    fn living_pump(&self, id: Uuid) -> SandboxResult<&HeatPump> {
        let heat_pump = self.heat_pumps.get(id).filter(|heat_pump| !heat_pump.is_deleted());
        let heat_pump = heat_pump.ok_or(SandboxError::NotFound)?;
        self.live_user(heat_pump.user_id).map(|_| heat_pump)
    }
}
