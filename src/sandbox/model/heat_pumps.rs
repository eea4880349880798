//! Heat pumps of a user: documented fields, and any mix of them that a test asks for.
//!
//! Facts: `api-reference/user-heat-pumps/*`, `partner-api/reference/heat-pumps/*`. No page promises that the fields
//! that tell of connectivity agree, so they are kept as they were set. It must never show a pump under another user.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`], [`crate::sandbox::model::Refusal`].

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Change, Fields, HEAT_PUMPS_PER_USER_MAX, Refusal, View, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, Actor};

/// How often a healthy pump's manufacturer refreshes (`partner-api/reference/heat-pumps/state`: every 5 to 15 min).
pub const REFRESH_STEP: Duration = Duration::from_mins(5);

const FRESHNESS: &str = "current_state_last_updated_at";
const COMMENT_CHARS_MAX: usize = 300;
const LIFECYCLE_STATE_CHARS_MAX: usize = 20;

/// Price zones (`api-reference/user-heat-pumps/get-details-about-a-users-specific-heat-pump`).
pub(super) const PRICE_ZONES: [&str; 21] = [
    "AT",
    "AT_HOURLY",
    "BE",
    "CH",
    "EE",
    "DE_LU",
    "HU",
    "IT_CNOR",
    "IT_CSUD",
    "IT_NORD",
    "IT_PUN",
    "IT_SARD",
    "IT_SICI",
    "IT_SUD",
    "PT",
    "RO",
    "SE_1",
    "SE_2",
    "SE_3",
    "SE_4",
    "UK",
];

/// A heat pump as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatPump {
    /// Podero's id of it.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    // What differs from `UNTOUCHED`, so that fifty thousand pumps stay small; control may set any response field.
    fields: Map<String, Value>,
    freshness: Freshness,
}

/// Where `current_state_last_updated_at` comes from.
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
    /// Whether the manufacturer lets Podero in.
    pub fn is_authenticated(&self) -> bool {
        self.field("is_authenticated").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it counts as deleted.
    pub fn is_deleted(&self) -> bool {
        self.field("deleted_at").is_some_and(|at| !at.is_null())
    }

    /// A response field; `id`, `owner` and a freshness that follows the time are not among them.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).or_else(|| UNTOUCHED.get(name))
    }

    /// The building where it stands.
    pub fn building(&self) -> Option<Uuid> {
        self.field("building").and_then(Value::as_str).and_then(|text| Uuid::try_parse(text).ok())
    }

    /// When manufacturer's data arrived last, as far as no test has pinned it.
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
    fn merge(&mut self, patch: Map<String, Value>, now: Timestamp) {
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

fn merge_value(slot: &mut Value, value: Value) {
    match (slot.as_object_mut(), value) {
        (Some(old), Value::Object(new)) => {
            for (name, value) in new {
                merge_value(old.entry(name).or_insert(Value::Null), value);
            }
        }
        (_, value) => *slot = value,
    }
}

/// Type of a writable field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Flag,
    Number,
    Text(Option<usize>),
    Moment,
    PriceZone,
    Object,
}

/// What POST and PUT take beside `building_id`. The cooling flag is inferred ("heating/cooling").
const WRITABLE: [(&str, Kind); 28] = [
    ("is_pause_power_active", Kind::Flag),
    ("is_smart_optimization_active", Kind::Flag),
    ("device_model", Kind::Object),
    ("price_zone", Kind::PriceZone),
    ("pause_power_until", Kind::Moment),
    ("comment", Kind::Text(Some(COMMENT_CHARS_MAX))),
    ("last_monitoring_executed_at", Kind::Moment),
    ("is_inverter_forced_mode_enabled", Kind::Flag),
    ("is_trading_enabled", Kind::Flag),
    ("actual_steering_state", Kind::Text(None)),
    ("indoor_target_temperature_offset", Kind::Number),
    ("dhw_standard_temperature", Kind::Number),
    ("is_hot_water_heating_enabled", Kind::Flag),
    ("is_space_heating_enabled", Kind::Flag),
    ("is_space_cooling_enabled", Kind::Flag),
    ("is_pool_heating_enabled", Kind::Flag),
    ("heating_policy_name", Kind::Text(None)),
    ("maximum_temperature_limit", Kind::Number),
    ("minimum_temperature_limit", Kind::Number),
    ("minimum_dhw_temperature_limit", Kind::Number),
    ("is_heating_policy_enabled", Kind::Flag),
    ("away_mode_start", Kind::Moment),
    ("away_mode_end", Kind::Moment),
    ("is_away_mode_enabled", Kind::Flag),
    ("away_mode_minimum_temperature_limit", Kind::Number),
    // Guide: Low, Mid, Max; an example has "mid": any text is taken.
    ("optimization_level", Kind::Text(None)),
    ("is_forecasting_enabled", Kind::Flag),
    ("optimization_score", Kind::Number),
];

/// What only PUT takes (newer copy): a client that echoes a fetched pump deletes it or overwrites its state.
const WRITABLE_BY_PUT: [(&str, Kind); 3] = [
    ("deleted_at", Kind::Moment),
    ("lifecycle_state", Kind::Text(Some(LIFECYCLE_STATE_CHARS_MAX))),
    ("lifecycle_error", Kind::Text(None)),
];

/// Body of POST and PUT: the documented writable fields; every other is ignored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeatPumpFields {
    /// In as `building_id`, out as `building`.
    pub building_id: Change<Uuid>,
    set: Map<String, Value>,
}

impl HeatPumpFields {
    /// Reads the body of POST; nothing is required (`notion:User-Journeys`).
    pub fn read_new(body: &Value) -> Result<Self, Refusal> {
        Self::read(body, &[])
    }

    /// Reads the body of PUT: partial (`partner-api/user-journeys/end-user/setting-preferences`).
    pub fn read_changes(body: &Value) -> Result<Self, Refusal> {
        Self::read(body, &WRITABLE_BY_PUT)
    }

    fn read(body: &Value, more: &[(&str, Kind)]) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let mut set = Map::new();
        let building_id = fields.id("building_id");
        for (name, kind) in WRITABLE.iter().chain(more) {
            let read = match kind {
                Kind::Flag => into_value(fields.flag(name)),
                Kind::Number => into_value(fields.number(name)),
                Kind::Text(chars_max) => into_value(fields.text(name, *chars_max)),
                Kind::Moment => into_value(fields.moment(name)),
                Kind::PriceZone => into_value(fields.one_of(name, &PRICE_ZONES)),
                Kind::Object => into_value(fields.object(name)),
            };
            if let Some(value) = read {
                set.insert((*name).to_owned(), value);
            }
        }
        fields.finish()?;
        Ok(Self { building_id, set })
    }

    fn patch(mut self) -> Map<String, Value> {
        if let Some(building) = into_value(self.building_id) {
            self.set.insert("building".to_owned(), building);
        }
        self.set
    }
}

fn into_value<T: serde::Serialize>(change: Change<T>) -> Option<Value> {
    match change {
        Change::Keep => None,
        Change::Clear => Some(Value::Null),
        Change::Set(value) => Some(json!(value)),
    }
}

/// The response fields of an empty, unauthenticated pump, without those that are its own.
static UNTOUCHED: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let fields = json!({
        "connection_status": "unknown",
        "monitoring_status": "unknown",
        "steering_status": "unknown",
        "is_authenticated": false,
        "action_needed": false,
        "actions": [],
        "authorization_url": null,
        "deleted_at": null,
        "lifecycle_state": "created",
        "lifecycle_error": null,
        "building": null,
        "device_model": {
            "device_type": {"short_name": "hp_atw", "long_name": "Heat pump (air to water)"},
            "manufacturer": null, "model": null, "year": null, "cloud_service": null,
            "cloud_service_instructions": null, "cloud_service_signup_link": null,
        },
        "external_device_id": "",
        "last_monitoring_executed_at": null,
        "is_smart_optimization_active": true,
        "current_mode": "mid",
        "optimization_level": "Mid",
        "is_pause_power_active": false,
        "pause_power_until": null,
        "actual_steering_state": "unknown",
        "inverter_forced_mode_since": "0001-01-01T00:00:00Z",
        "is_inverter_forced_mode_enabled": false,
        "is_inverter_forced_mode_active": false,
        "is_trading_enabled": false,
        "is_hot_water_heating_enabled": true,
        "is_space_heating_enabled": true,
        "is_pool_heating_enabled": false,
        "optimization_score": null,
        "price_zone": null,
        "comment": null,
        "current_power_consumption_w": null,
        "outdoor_temperature": null,
        "indoor_actual_temperature": null,
        "indoor_target_temperature": null,
        "indoor_target_temperature_offset": null,
        "inlet_temperature": null,
        "outlet_temperature": null,
        "dhw_temperature": null,
    });
    match fields {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
});

impl World {
    /// The user's heat pumps that are not deleted, oldest first.
    pub fn heat_pumps(&self, actor: Actor, user_id: Uuid, include_deleted: bool) -> Result<Vec<&HeatPump>, Refusal> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.heat_pumps);
        let heat_pumps = ids.iter().filter_map(|id| self.heat_pumps.get(*id));
        Ok(heat_pumps.filter(|heat_pump| include_deleted || !heat_pump.is_deleted()).collect())
    }

    /// Makes an empty, unauthenticated heat pump (`notion:User-Journeys`).
    pub fn create_heat_pump(
        &mut self,
        actor: Actor,
        user_id: Uuid,
        wanted: HeatPumpFields,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.refuse_foreign_building(user_id, wanted.building_id)?;
        self.put_heat_pump(user_id, wanted.patch(), now)
    }

    /// A heat pump of this user; a deleted one only with `include_deleted` (name of the parameter inferred).
    pub fn heat_pump(
        &self,
        actor: Actor,
        user_id: Uuid,
        id: Uuid,
        include_deleted: bool,
    ) -> Result<&HeatPump, Refusal> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let found = self.heat_pumps.get(id).filter(|heat_pump| heat_pump.user_id == user_id);
        found.filter(|heat_pump| include_deleted || !heat_pump.is_deleted()).ok_or(Refusal::NotFound)
    }

    /// Changes the named fields; all others stay.
    pub fn update_heat_pump(
        &mut self,
        actor: Actor,
        (user_id, id): (Uuid, Uuid),
        wanted: HeatPumpFields,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.heat_pump(actor, user_id, id, false)?;
        self.refuse_foreign_building(user_id, wanted.building_id)?;
        self.patch_heat_pump(id, wanted.patch(), now)
    }

    /// Marks a heat pump as deleted. Undocumented.
    pub fn delete_heat_pump(&mut self, actor: Actor, user_id: Uuid, id: Uuid, now: Timestamp) -> Result<(), Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.heat_pump(actor, user_id, id, false)?;
        self.patch_heat_pump(id, Map::from_iter([("deleted_at".to_owned(), json!(now))]), now)?;
        Ok(())
    }

    /// Control: a connected, healthy pump in the user's newest building, then `wanted` on top: `manufacturer`,
    /// `model`, `building_id`, or any response field.
    pub fn connect_heat_pump(
        &mut self,
        user_id: Uuid,
        mut wanted: Map<String, Value>,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        self.live_user(user_id)?;
        let newest = self.homes.get(&user_id).and_then(|home| home.buildings.last()).copied();
        let building = wanted.remove("building_id").unwrap_or_else(|| json!(newest));
        let manufacturer = wanted.remove("manufacturer").unwrap_or_else(|| json!("Sandbox"));
        let model = wanted.remove("model").unwrap_or_else(|| json!("SB-1"));
        let mut patch = Map::from_iter([
            ("is_authenticated".to_owned(), json!(true)),
            ("lifecycle_state".to_owned(), json!("authenticated")),
            ("connection_status".to_owned(), json!("ok")),
            ("monitoring_status".to_owned(), json!("ok")),
            ("steering_status".to_owned(), json!("ok")),
            ("building".to_owned(), building),
            ("device_model".to_owned(), json!({"manufacturer": manufacturer, "model": model})),
        ]);
        for (name, value) in wanted {
            merge_value(patch.entry(name).or_insert(Value::Null), value);
        }
        self.put_heat_pump(user_id, patch, now)
    }

    /// Control: sets any response field. `current_state_last_updated_at` is frozen by a value and set free by `"auto"`.
    pub fn patch_heat_pump(
        &mut self,
        id: Uuid,
        patch: Map<String, Value>,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(Refusal::NotFound)?;
        heat_pump.merge(patch, now);
        let user_id = heat_pump.user_id;
        self.recount_heat_pumps(user_id);
        self.heat_pumps.get(id).ok_or(Refusal::NotFound)
    }

    /// Every heat pump, the deleted included.
    pub fn all_heat_pumps(&self) -> impl Iterator<Item = &HeatPump> {
        self.heat_pumps.iter()
    }

    /// A heat pump by its id alone: control and cues know no user.
    pub fn any_heat_pump(&self, id: Uuid) -> Result<&HeatPump, Refusal> {
        self.heat_pumps.get(id).ok_or(Refusal::NotFound)
    }

    /// A heat pump as answers show it; `actions` are part of the detail answer (and of the list when switched).
    pub fn heat_pump_json(&self, heat_pump: &HeatPump, with_actions: bool, view: View<'_>) -> Value {
        let mut out = UNTOUCHED.clone();
        out.insert("created_at".to_owned(), json!(heat_pump.created_at));
        out.insert("id".to_owned(), json!(heat_pump.id));
        out.insert("owner".to_owned(), self.owner_json(heat_pump.user_id));
        out.insert(FRESHNESS.to_owned(), json!(heat_pump.refreshed_at(view.now)));
        out.extend(heat_pump.fields.clone());
        if !with_actions {
            out.remove("actions");
        } else if let Some(Value::Array(actions)) = out.get_mut("actions") {
            for action in actions {
                self.sign_action(action, view);
            }
        }
        Value::Object(out)
    }

    fn owner_json(&self, user_id: Uuid) -> Value {
        self.users.get(user_id).map_or(Value::Null, |user| {
            json!({
                "id": user.id,
                "email": user.email,
                "first_name": user.first_name,
                "last_name": user.last_name,
                "external_id": user.external_user_id,
            })
        })
    }

    fn put_heat_pump(
        &mut self,
        user_id: Uuid,
        patch: Map<String, Value>,
        now: Timestamp,
    ) -> Result<&HeatPump, Refusal> {
        let id = self.fresh_id();
        let home = self.homes.entry(user_id).or_default();
        if home.heat_pumps.len() >= HEAT_PUMPS_PER_USER_MAX {
            return Err(Refusal::Full("heat pumps of this user"));
        }
        home.heat_pumps.push(id);
        let freshness = Freshness::Halted(None);
        self.heat_pumps.put(id, HeatPump { id, user_id, created_at: now, fields: Map::new(), freshness });
        self.patch_heat_pump(id, patch, now)
    }

    fn refuse_foreign_building(&self, user_id: Uuid, building: Change<Uuid>) -> Result<(), Refusal> {
        match building.value() {
            Some(id) if !self.owns_building(user_id, *id) => Err(Refusal::NotFound),
            Some(_) | None => Ok(()),
        }
    }

    fn recount_heat_pumps(&mut self, user_id: Uuid) {
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.heat_pumps);
        let live = ids.iter().filter(|id| self.heat_pumps.get(**id).is_some_and(|heat_pump| !heat_pump.is_deleted()));
        let live = u32::try_from(live.count()).expect("HEAT_PUMPS_PER_USER_MAX is below that");
        if let Some(user) = self.users.get_mut(user_id) {
            user.num_heat_pumps = live;
        }
    }
}
