//! Cues: what waits for the customer, from the lapse of an authentication to its restoration.
//!
//! Facts: `api-reference/cues/*`. It must never keep a secret: one is signed when a pump is shown, and says itself
//! when it dies.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model::HeatPump`].

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{CUES_MAX, CUES_PER_USER_MAX, Fields, HeatPump, Refusal, View, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, Actor};

/// How long a secret serves after it was shown (`api-reference/cues/start-a-pending-action`).
pub const CUE_SECRET_LIFETIME: Duration = Duration::from_hours(1);

// RFC 2606: never resolves.
const CONNECT_URL: &str = "https://connect.podero.invalid";
const REAUTHENTICATE: &str = "reauthenticate";
const INFORMATION: &str = "information";

/// A pending cue; one that is done is gone, so that it answers 404.
///
/// | state | resolve | report success | report fail | read (information) |
/// |---|---|---|---|---|
/// | pending | redirect, stays pending | done | stays pending | done |
/// | done | 404 | 404 | 404 | 404 |
#[derive(Debug)]
pub(super) struct Cue {
    pub(super) user_id: Uuid,
    heat_pump_id: Uuid,
    action_id: Uuid,
    code: String,
    // Signs this cue's secrets; never leaves.
    key: String,
}

/// What became of an action: body of POST `/cues/{cue_id}/state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CueReport {
    /// The customer did it.
    Success,
    /// He did not; the action stays.
    Fail,
}

impl CueReport {
    /// Reads and validates the body; `payload`, `location`, `client_info` are taken and not kept.
    pub fn read(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let state = fields.one_of("state", &["success", "fail"]);
        let state = fields.required("state", state);
        fields.finish()?;
        Ok(if state.as_deref() == Some("success") { Self::Success } else { Self::Fail })
    }
}

/// Validates the body of POST `/cues/{cue_id}/resolve`: `successUrl` and `cancelUrl` are required, in this spelling.
pub fn read_redirect_request(body: &Value) -> Result<(), Refusal> {
    let mut fields = Fields::of(body)?;
    for name in ["successUrl", "cancelUrl"] {
        let url = fields.text(name, None);
        fields.required(name, url);
    }
    fields.finish()
}

impl World {
    /// Control: the realistic lapse of an authentication: the pump is locked out and the customer must act.
    pub fn lapse_heat_pump(&mut self, id: Uuid, now: Timestamp) -> Result<&HeatPump, Refusal> {
        self.raise_action(id, REAUTHENTICATE, now)?;
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(Refusal::NotFound)?;
        heat_pump.set("is_authenticated", json!(false));
        heat_pump.set("action_needed", json!(true));
        heat_pump.set("authorization_url", json!(format!("{CONNECT_URL}/authorize?heat_pump_id={id}")));
        heat_pump.settle(now);
        Ok(heat_pump)
    }

    /// Control: adds an action of any code to a heat pump. `information` is a notice and needs no act.
    pub fn raise_action(&mut self, id: Uuid, code: &str, now: Timestamp) -> Result<&HeatPump, Refusal> {
        let (cue_id, action_id, key) = (self.fresh_id(), self.fresh_id(), self.fresh_token());
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(Refusal::NotFound)?;
        let user_id = heat_pump.user_id;
        let home = self.homes.entry(user_id).or_default();
        if home.cues.len() >= CUES_PER_USER_MAX || self.cues.len() >= CUES_MAX {
            return Err(Refusal::Full("pending cues"));
        }
        home.cues.push(cue_id);
        // The cue's id is completed to a link when the pump is shown, for only then the secret's hour begins.
        heat_pump.actions_mut().push(json!({"id": action_id, "code": code, "resolution_link": cue_id}));
        if code != INFORMATION {
            heat_pump.set("action_needed", json!(true));
        }
        heat_pump.settle(now);
        self.cues.put(cue_id, Cue { user_id, heat_pump_id: id, action_id, code: code.to_owned(), key });
        self.any_heat_pump(id)
    }

    /// Begins to resolve: where to send the customer. Answers to a wrong or dead secret (403) are undocumented.
    pub fn resolve_cue(&self, actor: Actor, id: Uuid, secret: &str, now: Timestamp) -> Result<String, Refusal> {
        let cue = self.pending_cue(id, secret, now)?;
        self.permit_home(actor, cue.user_id, Act::ChangeHome)?;
        Ok(format!("{CONNECT_URL}/cues/{id}"))
    }

    /// Ends an action, or leaves it as it was. Success takes the action away, `action_needed` with the last one, and
    /// (inferred) restores the authentication. The page shows the call without a token, so there is no actor.
    pub fn report_cue(&mut self, id: Uuid, secret: &str, report: CueReport, now: Timestamp) -> Result<Uuid, Refusal> {
        let action_id = self.pending_cue(id, secret, now)?.action_id;
        match report {
            CueReport::Success => self.finish_cue(id, now),
            CueReport::Fail => {}
        }
        Ok(action_id)
    }

    /// Marks a notice as read; 404 for anything but a notice.
    pub fn read_cue(&mut self, id: Uuid, secret: &str, now: Timestamp) -> Result<Uuid, Refusal> {
        let cue = self.pending_cue(id, secret, now)?;
        if cue.code != INFORMATION {
            return Err(Refusal::NotFound);
        }
        let action_id = cue.action_id;
        self.finish_cue(id, now);
        Ok(action_id)
    }

    /// Completes the link of an action that a cue stands behind; others stay as they were set.
    pub(super) fn sign_action(&self, action: &mut Value, view: View<'_>) {
        let cue_id = action.get("resolution_link").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
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

    fn pending_cue(&self, id: Uuid, secret: &str, now: Timestamp) -> Result<&Cue, Refusal> {
        let cue = self.cues.get(id).ok_or(Refusal::NotFound)?;
        if cue.opens(id, secret, now) { Ok(cue) } else { Err(Refusal::Forbidden) }
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

impl Cue {
    /// A secret that says when it was made and for whom, so that nothing has to be kept.
    fn sign(&self, id: Uuid, made_at: Timestamp) -> String {
        let mut secret = made_at.micros().to_be_bytes().to_vec();
        secret.extend(self.seal(id, made_at));
        URL_SAFE_NO_PAD.encode(secret)
    }

    fn opens(&self, id: Uuid, secret: &str, now: Timestamp) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(secret) else { return false };
        let Some((made_at, seal)) = bytes.split_first_chunk::<8>() else { return false };
        let made_at = Timestamp::from_micros(i64::from_be_bytes(*made_at));
        seal == self.seal(id, made_at) && now.since(made_at) < CUE_SECRET_LIFETIME
    }

    fn seal(&self, id: Uuid, made_at: Timestamp) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.key.as_bytes());
        hash.update(id.as_bytes());
        hash.update(self.user_id.as_bytes());
        hash.update(made_at.micros().to_be_bytes());
        hash.finalize().to_vec()
    }
}
