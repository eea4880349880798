//! A device-onboarding session: fields and request body.
//!
//! Facts: `api-reference/device-onboarding-sessions/*`. It must never know another session.
//!
//! Before: [`crate::sandbox::model::World`]. After: [`crate::sandbox::model::ConnectLink`].

use chrono::NaiveDate;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::{FieldKind, Fields, id_of, text_of};
use super::heat_pump::PRICE_ZONES;
use super::link::ConnectLink;
use crate::sandbox::error::SandboxResult;

pub(in crate::sandbox) const RETURN_URL_CHARS_MAX: usize = 8_000;
pub(in crate::sandbox) const LANGUAGES: [&str; 8] = ["sv", "de", "en", "hu", "it", "et", "pl", "ro"];

/// A session as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Podero's id of it.
    pub id: Uuid,
    /// The request that made it.
    pub(super) wanted: CreateSession,
    /// The last day on which it can be used: the day after it was made (UTC; the zone is not documented).
    pub expiration_date: NaiveDate,
    /// The device that came of it.
    pub object_id: Option<Uuid>,
    /// Empty; never described.
    pub external_metadata: Map<String, Value>,
}

impl Session {
    /// The session as answers show it. The customer goes to `authentication_url`, a page of this sandbox.
    pub fn json(&self, base_url: &str) -> Value {
        json!({
            "id": self.id,
            "user": self.wanted.user_id,
            "authentication_url": ConnectLink::Onboarding(self.id).url(base_url),
            "success_url": self.wanted.success_url,
            "cancel_url": self.wanted.cancel_url,
            "expiration_date": self.expiration_date,
            "object_id": self.object_id,
            "external_metadata": self.external_metadata,
        })
    }
}

/// Body of POST `/device-onboarding`; of it, the session shows the user and the pages.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSession {
    /// The user whose device is to be onboarded.
    pub user_id: Uuid,
    /// One of the price zones.
    pub price_zone_default: String,
    /// Page after success: at most 8000 characters.
    pub success_url: String,
    /// Page after giving up: at most 8000 characters.
    pub cancel_url: String,
    /// The choice whether the device is optimised from the start.
    pub is_smart_optimization_active_default: Option<bool>,
    /// The building where the device will stand.
    pub building_id: Option<Uuid>,
}

impl CreateSession {
    /// Reads and validates the body.
    pub fn read(body: &Value) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let user_id = fields.required("user_id", FieldKind::Id);
        fields.required("language", FieldKind::OneOf(&LANGUAGES));
        let price_zone_default = text_of(&fields.required("price_zone_default", FieldKind::OneOf(&PRICE_ZONES)));
        let success_url = text_of(&fields.required("success_url", FieldKind::Text(Some(RETURN_URL_CHARS_MAX))));
        let cancel_url = text_of(&fields.required("cancel_url", FieldKind::Text(Some(RETURN_URL_CHARS_MAX))));
        let optimize = fields.value("is_smart_optimization_active_default", FieldKind::Flag);
        let building_id = fields.value("building_id", FieldKind::Id);
        fields.finish()?;
        Ok(Self {
            user_id: id_of(&user_id).unwrap_or_default(),
            price_zone_default,
            success_url,
            cancel_url,
            is_smart_optimization_active_default: optimize.and_then(|flag| flag.as_bool()),
            building_id: building_id.as_ref().and_then(id_of),
        })
    }
}
