//! A reconnection that was begun, and the pages to which its customer returns.
//!
//! Facts: `api-reference/cues/*`, `api-reference/user-solar-inverters/reauthenticate-a-users-inverter`. It must never know
//! whether it was finished: the heat pump does.
//!
//! Before: [`crate::sandbox::model::World`]. After: nothing.

use serde_json::Value;
use uuid::Uuid;

use super::fields::{FieldKind, Fields, text_of};
use crate::sandbox::error::SandboxResult;

/// A reconnection that was begun by a cue or an authentication session.
#[derive(Debug, Clone)]
pub(super) struct BegunReconnection {
    pub(super) heat_pump_id: Uuid,
    /// The cue that it does; an authentication session has none.
    pub(super) cue_id: Option<Uuid>,
    pub(super) urls: ReturnUrls,
}

/// The pages to which a customer returns from the Connect page; without one they stay there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReturnUrls {
    /// After success.
    pub success: Option<String>,
    /// After giving up.
    pub cancel: Option<String>,
}

impl ReturnUrls {
    /// Reads the body of POST `/cues/{cue_id}/resolve`: `successUrl` and `cancelUrl` are required, in this spelling; `language`,
    /// `location` and `clientInfo` are taken and not kept.
    pub fn read_required(body: &Value) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let [success, cancel] = ["successUrl", "cancelUrl"].map(|name| fields.required(name, FieldKind::Text(None)));
        fields.finish()?;
        Ok(Self { success: Some(text_of(&success)), cancel: Some(text_of(&cancel)) })
    }

    /// Reads the body of POST `…/auth_session`: both may be left out or null.
    pub fn read_optional(body: &Value) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let [success, cancel] = ["success_url", "cancel_url"].map(|name| fields.value(name, FieldKind::Text(None)));
        fields.finish()?;
        let text = |value: Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        Ok(Self { success: text(success), cancel: text(cancel) })
    }
}
