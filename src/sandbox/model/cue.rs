//! A cue: an action that waits for the customer, and the secrets that open it.
//!
//! Facts: `api-reference/cues/*`. It must never keep a secret: one is signed when a pump is shown, and says itself
//! when it dies.
//!
//! Before: [`crate::sandbox::model::World`]. After: nothing.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::fields::{FieldKind, Fields};
use crate::domain::Timestamp;
use crate::sandbox::error::SandboxResult;

/// Lifetime of a secret after it was shown (`api-reference/cues/start-a-pending-action`).
pub const CUE_SECRET_LIFETIME: Duration = Duration::from_hours(1);

/// Code of an action that is a notice and needs no act.
pub(super) const INFORMATION: &str = "information";

/// A pending cue; one that is done is gone, so that it answers 404.
///
/// | state | resolve | report success | report fail | read (information) |
/// |---|---|---|---|---|
/// | pending | redirect, stays pending | done | stays pending | done |
/// | done | 404 | 404 | 404 | 404 |
#[derive(Debug)]
pub(super) struct PendingCue {
    pub(super) user_id: Uuid,
    pub(super) heat_pump_id: Uuid,
    pub(super) action_id: Uuid,
    pub(super) code: String,
    // Signs this cue's secrets; never leaves.
    pub(super) key: String,
}

/// A cue and the secret that is to open it, as a link carries them.
#[derive(Debug, Clone, Copy)]
pub struct CueKey<'a> {
    /// The cue.
    pub id: Uuid,
    /// The secret.
    pub secret: &'a str,
}

/// Outcome of an action: body of POST `/cues/{cue_id}/state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CueReport {
    /// The customer did it.
    Success,
    /// They did not; the action stays.
    Fail,
}

impl CueReport {
    /// Reads and validates the body; `payload`, `location`, `client_info` are taken and not kept.
    pub fn read(body: &Value) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let state = fields.required("state", FieldKind::OneOf(&["success", "fail"]));
        fields.finish()?;
        Ok(if state == "success" { Self::Success } else { Self::Fail })
    }
}

impl PendingCue {
    /// A secret that says when it was made and for whom, so that nothing has to be kept.
    pub(super) fn sign(&self, id: Uuid, made_at: Timestamp) -> String {
        let mut secret = made_at.micros().to_be_bytes().to_vec();
        secret.extend(self.seal(id, made_at));
        URL_SAFE_NO_PAD.encode(secret)
    }

    pub(super) fn opens(&self, id: Uuid, secret: &str, now: Timestamp) -> bool {
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
