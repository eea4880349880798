//! Acts on cues, from the lapse of an authentication to its restoration.
//!
//! Facts: `api-reference/cues/*`. It must never open a cue by the secret of another.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use serde_json::{Value, json};
use uuid::Uuid;

use super::cue::{CueReport, INFORMATION, PendingCue};
use super::fields::id_of;
use super::heat_pump::HeatPump;
use super::world::{CUES_MAX, CUES_PER_USER_MAX, View, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

// RFC 2606: never resolves.
const CONNECT_URL: &str = "https://connect.podero.invalid";
const REAUTHENTICATE: &str = "reauthenticate";

impl World {
    /// Control: the realistic lapse of an authentication: the pump is locked out and the customer must act.
    pub fn lapse_heat_pump(&mut self, id: Uuid, now: Timestamp) -> SandboxResult<&HeatPump> {
        self.raise_action(id, REAUTHENTICATE, now)?;
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(SandboxError::NotFound)?;
        heat_pump.set("is_authenticated", json!(false));
        heat_pump.set("action_needed", json!(true));
        heat_pump.set("authorization_url", json!(format!("{CONNECT_URL}/authorize?heat_pump_id={id}")));
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

    /// Begins to resolve: where to send the customer. Answers to a wrong or dead secret (403) are undocumented.
    pub fn resolve_cue(&self, actor: SandboxActor, id: Uuid, secret: &str, now: Timestamp) -> SandboxResult<String> {
        let cue = self.pending_cue(id, secret, now)?;
        self.permit_home(actor, cue.user_id, Act::ChangeHome)?;
        Ok(format!("{CONNECT_URL}/cues/{id}"))
    }

    /// Ends an action, or leaves it as it was. Success takes the action away, `action_needed` with the last one, and
    /// (inferred) restores the authentication. The page shows the call without a token, so there is no actor.
    pub fn report_cue(&mut self, id: Uuid, secret: &str, report: CueReport, now: Timestamp) -> SandboxResult<Uuid> {
        let action_id = self.pending_cue(id, secret, now)?.action_id;
        match report {
            CueReport::Success => self.finish_cue(id, now),
            CueReport::Fail => {}
        }
        Ok(action_id)
    }

    /// Marks a notice as read; 404 for anything but a notice.
    pub fn read_cue(&mut self, id: Uuid, secret: &str, now: Timestamp) -> SandboxResult<Uuid> {
        let cue = self.pending_cue(id, secret, now)?;
        if cue.code != INFORMATION {
            return Err(SandboxError::NotFound);
        }
        let action_id = cue.action_id;
        self.finish_cue(id, now);
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

    fn pending_cue(&self, id: Uuid, secret: &str, now: Timestamp) -> SandboxResult<&PendingCue> {
        let cue = self.cues.get(id).ok_or(SandboxError::NotFound)?;
        if cue.opens(id, secret, now) { Ok(cue) } else { Err(SandboxError::Forbidden) }
    }

    fn finish_cue(&mut self, id: Uuid, now: Timestamp) {
        let Some(cue) = self.cues.take(id) else { return };
        if let Some(home) = self.homes.get_mut(&cue.user_id) {
            home.cues.retain(|pending| *pending != id);
        }
        let action_id = json!(cue.action_id);
        let Some(heat_pump) = self.heat_pumps.get_mut(cue.heat_pump_id) else { return };
        let actions = heat_pump.actions_mut();
        actions.retain(|action| action.get("id") != Some(&action_id));
        let still_needed = actions.iter().any(|action| action.get("code") != Some(&json!(INFORMATION)));
        heat_pump.set("action_needed", json!(still_needed));
        if cue.code == REAUTHENTICATE {
            heat_pump.set("is_authenticated", json!(true));
            heat_pump.set("authorization_url", Value::Null);
            heat_pump.set("lifecycle_state", json!("authenticated"));
            heat_pump.set("lifecycle_error", Value::Null);
        }
        heat_pump.settle(now);
    }
}
