//! Acts on heat pumps of a user.
//!
//! Facts: `api-reference/user-heat-pumps/*`. It must never show a pump under another user.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::heat_pump::{HeatPump, HeatPumpFields, merge_value};
use super::world::{HEAT_PUMPS_PER_USER_MAX, View, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

impl World {
    /// The user's heat pumps that are not deleted, oldest first.
    pub fn heat_pumps(
        &self,
        actor: SandboxActor,
        user_id: Uuid,
        include_deleted: bool,
    ) -> SandboxResult<Vec<&HeatPump>> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.heat_pumps);
        let heat_pumps = ids.iter().filter_map(|id| self.heat_pumps.get(*id));
        Ok(heat_pumps.filter(|heat_pump| include_deleted || !heat_pump.is_deleted()).collect())
    }

    /// Makes an empty, unauthenticated heat pump (`notion:User-Journeys`).
    pub fn create_heat_pump(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        wanted: HeatPumpFields,
        now: Timestamp,
    ) -> SandboxResult<&HeatPump> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.refuse_foreign_building(user_id, wanted.building())?;
        self.put_heat_pump(user_id, wanted.patch(), now)
    }

    /// A heat pump of this user; a deleted one only with `include_deleted` (name of the parameter inferred).
    pub fn heat_pump(
        &self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        include_deleted: bool,
    ) -> SandboxResult<&HeatPump> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let found = self.heat_pumps.get(id).filter(|heat_pump| heat_pump.user_id == user_id);
        found.filter(|heat_pump| include_deleted || !heat_pump.is_deleted()).ok_or(SandboxError::NotFound)
    }

    /// Changes the named fields; all others stay.
    pub fn update_heat_pump(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        wanted: HeatPumpFields,
        now: Timestamp,
    ) -> SandboxResult<&HeatPump> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.heat_pump(actor, user_id, id, false)?;
        self.refuse_foreign_building(user_id, wanted.building())?;
        self.patch_heat_pump(id, wanted.patch(), now)
    }

    /// Marks a heat pump as deleted. Undocumented.
    pub fn delete_heat_pump(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        now: Timestamp,
    ) -> SandboxResult<()> {
        self.permit_home(actor, user_id, Act::DeleteHeatPump)?;
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
    ) -> SandboxResult<&HeatPump> {
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
    pub fn patch_heat_pump(&mut self, id: Uuid, patch: Map<String, Value>, now: Timestamp) -> SandboxResult<&HeatPump> {
        let heat_pump = self.heat_pumps.get_mut(id).ok_or(SandboxError::NotFound)?;
        heat_pump.merge(patch, now);
        let user_id = heat_pump.user_id;
        self.recount_heat_pumps(user_id);
        self.heat_pumps.get(id).ok_or(SandboxError::NotFound)
    }

    /// Every heat pump, the deleted included.
    pub fn all_heat_pumps(&self) -> impl Iterator<Item = &HeatPump> {
        self.heat_pumps.iter()
    }

    /// A heat pump by its id alone: control and cues know no user.
    pub fn any_heat_pump(&self, id: Uuid) -> SandboxResult<&HeatPump> {
        self.heat_pumps.get(id).ok_or(SandboxError::NotFound)
    }

    /// A heat pump as answers show it; `actions` are part of the detail answer (and of the list when switched).
    pub fn heat_pump_json(&self, heat_pump: &HeatPump, with_actions: bool, view: View<'_>) -> Value {
        let mut out = heat_pump.shown(view.now);
        // A test may have set it.
        out.entry("owner").or_insert_with(|| self.owner_json(heat_pump.user_id));
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
                "first_name": user.text("first_name"),
                "last_name": user.text("last_name"),
                "external_id": user.external_id(),
            })
        })
    }

    fn put_heat_pump(&mut self, user_id: Uuid, patch: Map<String, Value>, now: Timestamp) -> SandboxResult<&HeatPump> {
        let id = self.fresh_id();
        let home = self.homes.entry(user_id).or_default();
        if home.heat_pumps.len() >= HEAT_PUMPS_PER_USER_MAX {
            return Err(SandboxError::Full("heat pumps of this user"));
        }
        home.heat_pumps.push(id);
        self.heat_pumps.put(id, HeatPump::new(id, user_id, now));
        self.patch_heat_pump(id, patch, now)
    }

    pub(super) fn refuse_foreign_building(&self, user_id: Uuid, building: Option<Uuid>) -> SandboxResult<()> {
        let is_foreign = building.is_some_and(|id| !self.owns_building(user_id, id));
        if is_foreign { Err(SandboxError::NotFound) } else { Ok(()) }
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
