//! Acts on cues, from the lapse of an authentication to its restoration.
//!
//! Facts: `api-reference/cues/*`. It must never open a cue by the secret of another.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use serde_json::{Value, json};
use uuid::Uuid;

use super::cue::{CueKey, CueReport, INFORMATION, PendingCue};
use super::fields::id_of;
use super::heat_pump::HeatPump;
use super::link::ConnectLink;
use super::reconnection::ReturnUrls;
use super::world::{CUES_MAX, CUES_PER_USER_MAX, View, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

const REAUTHENTICATE: &str = "reauthenticate";

impl World {
    /// Control: the realistic lapse of an authentication: the pump is locked out and the customer must act. The address for
    /// that is at `base_url`.
    pub fn lapse_heat_pump(&mut self, id: Uuid, base_url: &str, now: Timestamp) -> SandboxResult<&HeatPump> {
        self.raise_action(id, REAUTHENTICATE, now)?;
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(SandboxError::NotFound)?;
        heat_pump.set("is_authenticated", json!(false));
        heat_pump.set("action_needed", json!(true));
        heat_pump.set("authorization_url", json!(ConnectLink::Authorization(id).url(base_url)));
        heat_pump.settle(now);
        Ok(heat_pump)
    }

    /// Control: adds an action of any code to a heat pump. `information` is a notice and needs no act.
    pub fn raise_action(&mut self, id: Uuid, code: &str, now: Timestamp) -> SandboxResult<&HeatPump> {
        let (cue_id, action_id, key) = (self.fresh_id(), self.fresh_id(), self.fresh_token());
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(SandboxError::NotFound)?;
        let user_id = heat_pump.user_id;
        let home = self.homes.entry(user_id).or_default();
        if home.cues.len() >= CUES_PER_USER_MAX || self.cues.len() >= CUES_MAX {
            return Err(SandboxError::Full("pending cues"));
        }
        home.cues.push(cue_id);
        // The cue's id is completed to a link when the pump is shown, for only then the secret's hour begins.
        heat_pump.actions_mut().push(json!({"id": action_id, "code": code, "resolution_link": cue_id}));
        if code != INFORMATION {
            heat_pump.set("action_needed", json!(true));
        }
        heat_pump.settle(now);
        self.cues.put(cue_id, PendingCue { user_id, heat_pump_id: id, action_id, code: code.to_owned(), key });
        self.any_heat_pump(id)
    }

    /// Begins to resolve: the link under which the customer acts. Answers to a wrong or dead secret (403) are undocumented.
    pub fn resolve_cue(
        &mut self,
        actor: SandboxActor,
        opened: CueKey<'_>,
        urls: ReturnUrls,
        now: Timestamp,
    ) -> SandboxResult<ConnectLink> {
        let cue = self.pending_cue(opened, now)?;
        let (user_id, heat_pump_id) = (cue.user_id, cue.heat_pump_id);
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        Ok(ConnectLink::Reconnection(self.begin_reconnection(heat_pump_id, Some(opened.id), urls)))
    }

    /// Ends an action, or leaves it as it was. Success takes the action away, `action_needed` with the last one, and
    /// (inferred) restores the authentication. The page shows the call without a token, so there is no actor.
    pub fn report_cue(&mut self, opened: CueKey<'_>, report: CueReport, now: Timestamp) -> SandboxResult<Uuid> {
        let action_id = self.pending_cue(opened, now)?.action_id;
        match report {
            CueReport::Success => self.finish_cue(opened.id, now),
            CueReport::Fail => {}
        }
        Ok(action_id)
    }

    /// Marks a notice as read; 404 for anything but a notice.
    pub fn read_cue(&mut self, opened: CueKey<'_>, now: Timestamp) -> SandboxResult<Uuid> {
        let cue = self.pending_cue(opened, now)?;
        if cue.code != INFORMATION {
            return Err(SandboxError::NotFound);
        }
        let action_id = cue.action_id;
        self.finish_cue(opened.id, now);
        Ok(action_id)
    }

    /// Completes the link of an action that a cue stands behind; others stay as they were set.
    pub(super) fn sign_action(&self, action: &mut Value, view: View<'_>) {
        let cue_id = action.get("resolution_link").and_then(id_of);
        let Some((cue_id, cue)) = cue_id.and_then(|id| self.cues.get(id).map(|cue| (id, cue))) else {
            return;
        };
        let path = if cue.code == INFORMATION { "information/resolve" } else { "resolve" };
        let secret = cue.sign(cue_id, view.now);
        let url = format!("{}/api/partners/v2.0/cues/{cue_id}/{path}?cue_id={cue_id}&secret={secret}", view.base_url);
        let parameters: &[&str] = if cue.code == INFORMATION { &[] } else { &["successUrl", "cancelUrl"] };
        let link = if view.variants.resolution_link_as_text {
            json!(url)
        } else {
            json!({"url": url, "required_parameters": parameters})
        };
        if let Some(slot) = action.get_mut("resolution_link") {
            *slot = link;
        }
    }

    fn pending_cue(&self, opened: CueKey<'_>, now: Timestamp) -> SandboxResult<&PendingCue> {
        let cue = self.cues.get(opened.id).ok_or(SandboxError::NotFound)?;
        if cue.opens(opened.id, opened.secret, now) { Ok(cue) } else { Err(SandboxError::Forbidden) }
    }

    /// The customer has done what a cue asked for.
    pub(super) fn finish_cue(&mut self, id: Uuid, now: Timestamp) {
        let Some(cue) = self.drop_cue(id) else { return };
        if cue.code == REAUTHENTICATE {
            return self.authenticate_heat_pump(cue.heat_pump_id, now);
        }
        if let Some(heat_pump) = self.heat_pumps.get_mut(cue.heat_pump_id) {
            heat_pump.settle(now);
        }
    }

    /// The manufacturer lets Podero in again: every action that asked for it is done.
    pub(super) fn authenticate_heat_pump(&mut self, id: Uuid, now: Timestamp) {
        let asks = |cue: &PendingCue| cue.heat_pump_id == id && cue.code == REAUTHENTICATE;
        let user_id = self.heat_pumps.get(id).map(|heat_pump| heat_pump.user_id);
        let cues = user_id.and_then(|user_id| self.homes.get(&user_id)).map_or(&[][..], |home| &home.cues);
        let done: Vec<Uuid> = cues.iter().copied().filter(|cue| self.cues.get(*cue).is_some_and(asks)).collect();
        for cue in done {
            self.drop_cue(cue);
        }
        let Some(heat_pump) = self.heat_pumps.get_mut(id) else { return };
        heat_pump.set("is_authenticated", json!(true));
        heat_pump.set("authorization_url", Value::Null);
        heat_pump.set("lifecycle_state", json!("authenticated"));
        heat_pump.set("lifecycle_error", Value::Null);
        heat_pump.settle(now);
    }

    /// Takes a cue and its action away, and `action_needed` with the last action.
    fn drop_cue(&mut self, id: Uuid) -> Option<PendingCue> {
        let cue = self.cues.take(id)?;
        if let Some(home) = self.homes.get_mut(&cue.user_id) {
            home.cues.retain(|pending| *pending != id);
        }
        let action_id = json!(cue.action_id);
        if let Some(heat_pump) = self.heat_pumps.get_mut(cue.heat_pump_id) {
            let actions = heat_pump.actions_mut();
            actions.retain(|action| action.get("id") != Some(&action_id));
            let still_needed = actions.iter().any(|action| action.get("code") != Some(&json!(INFORMATION)));
            heat_pump.set("action_needed", json!(still_needed));
        }
        Some(cue)
    }
}
