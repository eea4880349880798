//! A heat pump of a user: documented fields, and any mix of them that a test asks for.
//!
//! Facts: `api-reference/user-heat-pumps/*`, `partner-api/reference/heat-pumps/*`. No page promises that the fields
//! about connectivity agree, so they are kept as they were set. It must never know another heat pump.
//!
//! Before: [`crate::sandbox::model::World`]. After: [`crate::sandbox::Variants`].

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::{FieldKind, FieldValues, Fields, id_of};
use crate::domain::Timestamp;
use crate::sandbox::error::SandboxResult;
use crate::sandbox::variants::Variants;

/// Interval at which a healthy pump's manufacturer refreshes (`partner-api/reference/heat-pumps/state`: every 5 to 15 min).
pub const REFRESH_STEP: Duration = Duration::from_mins(5);

const FRESHNESS: &str = "current_state_last_updated_at";
const COMMENT_CHARS_MAX: usize = 300;
const LIFECYCLE_STATE_CHARS_MAX: usize = 20;

/// Price zones (`api-reference/user-heat-pumps/get-details-about-a-users-specific-heat-pump`).
#[rustfmt::skip]
pub(in crate::sandbox) const PRICE_ZONES: [&str; 21] = [
    "AT", "AT_HOURLY", "BE", "CH", "EE", "DE_LU", "HU", "IT_CNOR", "IT_CSUD", "IT_NORD", "IT_PUN", "IT_SARD", "IT_SICI",
    "IT_SUD", "PT", "RO", "SE_1", "SE_2", "SE_3", "SE_4", "UK",
];

/// A heat pump as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatPump {
    /// Podero's id of it.
    pub id: Uuid,
    /// Its user.
    pub user_id: Uuid,
    /// The time of its creation.
    pub created_at: Timestamp,
    // Differences from `UNTOUCHED`, so that fifty thousand pumps stay small; control may set any response field.
    fields: Map<String, Value>,
    freshness: Freshness,
}

/// Source of `current_state_last_updated_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// Follows the time in steps: the manufacturer delivers.
    Follows,
    /// Stands still since the pump lost its authentication or was deleted; none when it never had any.
    Halted(Option<Timestamp>),
    /// Set by a test: the field itself counts.
    Pinned,
}

impl HeatPump {
    pub(super) fn new(id: Uuid, user_id: Uuid, now: Timestamp) -> Self {
        Self { id, user_id, created_at: now, fields: Map::new(), freshness: Freshness::Halted(None) }
    }

    /// Says whether the manufacturer lets Podero in.
    pub fn is_authenticated(&self) -> bool {
        self.field("is_authenticated").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Says whether it counts as deleted.
    pub fn is_deleted(&self) -> bool {
        self.field("deleted_at").is_some_and(|at| !at.is_null())
    }

    /// A response field; `id`, `owner` and a freshness that follows the time are not among them.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).or_else(|| UNTOUCHED.get(name))
    }

    /// The building where it stands.
    pub fn building(&self) -> Option<Uuid> {
        self.field("building").and_then(id_of)
    }

    /// The time at which the manufacturer's data arrived last, as far as no test has pinned it.
    fn refreshed_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.freshness {
            Freshness::Follows => {
                let step = REFRESH_STEP.as_micros();
                let steps = now.since(self.created_at).as_micros() / step;
                let since_creation = u64::try_from(steps * step).unwrap_or(u64::MAX);
                Some(self.created_at.plus(Duration::from_micros(since_creation)))
            }
            Freshness::Halted(at) => at,
            Freshness::Pinned => None,
        }
    }

    /// The time at which the manufacturer's data arrived last; none if it never did.
    pub(super) fn delivered_until(&self, now: Timestamp) -> Option<Timestamp> {
        let pinned = self.fields.get(FRESHNESS).and_then(Value::as_str).and_then(Timestamp::parse);
        self.refreshed_at(now).or(pinned)
    }

    /// Every response field but its owner, without secrets in its actions.
    pub(super) fn shown(&self, now: Timestamp) -> Map<String, Value> {
        let mut out = UNTOUCHED.clone();
        out.insert("created_at".to_owned(), json!(self.created_at));
        out.insert("id".to_owned(), json!(self.id));
        out.insert(FRESHNESS.to_owned(), json!(self.refreshed_at(now)));
        out.extend(self.fields.clone());
        out
    }

    pub(super) fn leave_building(&mut self, id: Uuid) {
        if self.building() == Some(id) {
            self.set("building", Value::Null);
        }
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    pub(super) fn actions_mut(&mut self) -> &mut Vec<Value> {
        let actions = self.fields.entry("actions").or_insert_with(|| json!([]));
        if !actions.is_array() {
            *actions = json!([]);
        }
        actions.as_array_mut().expect("it was made an array above")
    }

    /// Notes that something changed: the time of it, and whether data still arrives.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.set("updated_at", json!(now));
        let delivers = self.is_authenticated() && !self.is_deleted();
        self.freshness = match (self.freshness, delivers) {
            (Freshness::Pinned, _) => Freshness::Pinned,
            (Freshness::Follows | Freshness::Halted(_), true) => Freshness::Follows,
            (Freshness::Follows, false) => Freshness::Halted(self.refreshed_at(now)),
            (Freshness::Halted(at), false) => Freshness::Halted(at),
        };
    }

    /// Sets any response fields: objects merge, everything else replaces, null included.
    pub(super) fn merge(&mut self, patch: Map<String, Value>, now: Timestamp) {
        let freshness = patch.get(FRESHNESS).cloned();
        for (name, value) in patch {
            let untouched = UNTOUCHED.get(&name).cloned().unwrap_or_default();
            merge_value(self.fields.entry(name).or_insert(untouched), value);
        }
        match freshness {
            None => {}
            Some(value) if value.as_str() == Some("auto") => {
                self.fields.remove(FRESHNESS);
                self.freshness = Freshness::Follows;
            }
            Some(_) => self.freshness = Freshness::Pinned,
        }
        self.settle(now);
    }
}

pub(super) fn merge_value(slot: &mut Value, value: Value) {
    match (slot.as_object_mut(), value) {
        (Some(old), Value::Object(new)) => {
            for (name, value) in new {
                merge_value(old.entry(name).or_insert(Value::Null), value);
            }
        }
        (_, value) => *slot = value,
    }
}

/// Fields that POST and PUT take. The cooling flag is inferred ("heating/cooling").
pub(in crate::sandbox) const WRITABLE: [(&str, FieldKind); 27] = [
    // Out as `building`.
    ("building_id", FieldKind::Id),
    ("is_pause_power_active", FieldKind::Flag),
    ("is_smart_optimization_active", FieldKind::Flag),
    ("device_model", FieldKind::Object),
    ("price_zone", FieldKind::OneOf(&PRICE_ZONES)),
    ("pause_power_until", FieldKind::Moment),
    ("comment", FieldKind::Text(Some(COMMENT_CHARS_MAX))),
    ("last_monitoring_executed_at", FieldKind::Moment),
    ("is_inverter_forced_mode_enabled", FieldKind::Flag),
    ("is_trading_enabled", FieldKind::Flag),
    ("actual_steering_state", FieldKind::Text(None)),
    ("indoor_target_temperature_offset", FieldKind::Number),
    ("dhw_standard_temperature", FieldKind::Number),
    ("is_hot_water_heating_enabled", FieldKind::Flag),
    ("is_space_heating_enabled", FieldKind::Flag),
    ("is_space_cooling_enabled", FieldKind::Flag),
    ("is_pool_heating_enabled", FieldKind::Flag),
    ("heating_policy_name", FieldKind::Text(None)),
    ("maximum_temperature_limit", FieldKind::Number),
    ("minimum_temperature_limit", FieldKind::Number),
    ("minimum_dhw_temperature_limit", FieldKind::Number),
    ("is_heating_policy_enabled", FieldKind::Flag),
    ("away_mode_start", FieldKind::Moment),
    ("away_mode_end", FieldKind::Moment),
    ("is_away_mode_enabled", FieldKind::Flag),
    ("away_mode_minimum_temperature_limit", FieldKind::Number),
    // Guide: Low, Mid, Max; an example has "mid": any text is taken.
    ("optimization_level", FieldKind::Text(None)),
];

/// A field that only POST takes (older copy).
pub(in crate::sandbox) const WRITABLE_BY_POST: [(&str, FieldKind); 1] = [("is_forecasting_enabled", FieldKind::Flag)];

/// Fields that only PUT takes (newer copy): a client that echoes a fetched pump deletes it or overwrites its state.
pub(in crate::sandbox) const WRITABLE_BY_PUT: [(&str, FieldKind); 4] = [
    ("deleted_at", FieldKind::Moment),
    ("lifecycle_state", FieldKind::Text(Some(LIFECYCLE_STATE_CHARS_MAX))),
    ("lifecycle_error", FieldKind::Text(None)),
    ("optimization_score", FieldKind::Number),
];

/// Body of POST and PUT: the documented writable fields; every other is ignored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeatPumpFields(FieldValues);

impl HeatPumpFields {
    /// Reads the body of POST; nothing is required (`notion:User-Journeys`).
    pub fn read_new(body: &Value) -> SandboxResult<Self> {
        Self::read(body, &WRITABLE_BY_POST)
    }

    /// Reads the body of PUT: partial (`partner-api/user-journeys/end-user/setting-preferences`).
    pub fn read_changes(body: &Value) -> SandboxResult<Self> {
        Self::read(body, &WRITABLE_BY_PUT)
    }

    fn read(body: &Value, more: &[(&'static str, FieldKind)]) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        // No field of a heat pump has variants.
        let mut row = fields.row(&WRITABLE, &Variants::default());
        row.extend(fields.row(more, &Variants::default()));
        fields.finish()?;
        Ok(Self(row))
    }

    /// The building where it is to stand.
    pub(super) fn building(&self) -> Option<Uuid> {
        self.0.get("building_id").and_then(id_of)
    }

    pub(super) fn patch(mut self) -> Map<String, Value> {
        let building = self.0.remove("building_id").map(|id| ("building", id));
        self.0.into_iter().chain(building).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The response fields of an empty, unauthenticated heat pump.
pub(in crate::sandbox) fn untouched_heat_pump() -> &'static Map<String, Value> {
    &UNTOUCHED
}

/// The response fields of an empty, unauthenticated pump, without those that are its own.
static UNTOUCHED: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let fields = json!({
        "connection_status": "unknown", "monitoring_status": "unknown", "steering_status": "unknown",
        "is_authenticated": false, "action_needed": false, "actions": [], "authorization_url": null,
        "deleted_at": null, "lifecycle_state": "created", "lifecycle_error": null,
        "building": null,
        "device_model": {
            "device_type": {"short_name": "hp_atw", "long_name": "Heat pump (air to water)"},
            "manufacturer": null, "model": null, "year": null, "cloud_service": null,
            "cloud_service_instructions": null, "cloud_service_signup_link": null,
        },
        "external_device_id": "", "comment": null, "price_zone": null,
        "last_monitoring_executed_at": null,
        "is_smart_optimization_active": true, "current_mode": "mid", "optimization_level": "Mid",
        "optimization_score": null, "is_trading_enabled": false,
        "is_pause_power_active": false, "pause_power_until": null, "actual_steering_state": "unknown",
        "inverter_forced_mode_since": "0001-01-01T00:00:00Z",
        "is_inverter_forced_mode_enabled": false, "is_inverter_forced_mode_active": false,
        "is_hot_water_heating_enabled": true, "is_space_heating_enabled": true, "is_pool_heating_enabled": false,
        "current_power_consumption_w": null, "outdoor_temperature": null, "indoor_actual_temperature": null,
        "indoor_target_temperature": null, "indoor_target_temperature_offset": null,
        "inlet_temperature": null, "outlet_temperature": null, "dhw_temperature": null,
    });
    serde_json::from_value(fields).expect("it is an object")
});
