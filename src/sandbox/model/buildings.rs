//! Acts on buildings of a user.
//!
//! Facts: `api-reference/user-buildings/*`, `partner-api/user-journeys/end-user/managing-buildings`. List and delete
//! have no page. It must never show a building under another user.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use uuid::Uuid;

use super::building::{Building, BuildingFields};
use super::world::{BUILDINGS_PER_USER_MAX, World};
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

impl World {
    /// The user's buildings, oldest first. Undocumented, and refused when switched off.
    pub fn buildings(&self, actor: SandboxActor, user_id: Uuid) -> SandboxResult<Vec<&Building>> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        if !self.variants.building_list_supported {
            return Err(SandboxError::MethodNotAllowed);
        }
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.buildings);
        Ok(ids.iter().filter_map(|id| self.buildings.get(*id)).collect())
    }

    /// Makes a building; a repeat makes another one.
    pub fn create_building(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        wanted: BuildingFields,
    ) -> SandboxResult<&Building> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        let id = self.fresh_id();
        let home = self.homes.entry(user_id).or_default();
        if home.buildings.len() >= BUILDINGS_PER_USER_MAX {
            return Err(SandboxError::Full("buildings of this user"));
        }
        home.buildings.push(id);
        let mut building = Building::new(id, user_id);
        building.change(wanted);
        Ok(self.buildings.put(id, building))
    }

    /// A building of this user.
    pub fn building(&self, actor: SandboxActor, user_id: Uuid, id: Uuid) -> SandboxResult<&Building> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        self.buildings.get(id).filter(|building| building.user_id == user_id).ok_or(SandboxError::NotFound)
    }

    /// Changes the named fields; all others stay (whether they do is not documented for buildings).
    pub fn update_building(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        wanted: BuildingFields,
    ) -> SandboxResult<&Building> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        let found = self.buildings.get_mut(id).filter(|building| building.user_id == user_id);
        let building = found.ok_or(SandboxError::NotFound)?;
        building.change(wanted);
        Ok(building)
    }

    /// Deletes a building for good; its heat pumps stay, without one. Undocumented, and refused when switched off.
    pub fn delete_building(&mut self, actor: SandboxActor, user_id: Uuid, id: Uuid) -> SandboxResult<()> {
        self.permit_home(actor, user_id, Act::DeleteBuilding)?;
        if !self.variants.building_delete_supported {
            return Err(SandboxError::MethodNotAllowed);
        }
        if !self.owns_building(user_id, id) {
            return Err(SandboxError::NotFound);
        }
        self.buildings.take(id);
        let home = self.homes.entry(user_id).or_default();
        home.buildings.retain(|building| *building != id);
        for contract in &home.contracts {
            if let Some(contract) = self.contracts.get_mut(*contract) {
                contract.leave_building(id);
            }
        }
        for heat_pump in &home.heat_pumps {
            if let Some(heat_pump) = self.heat_pumps.get_mut(*heat_pump) {
                heat_pump.leave_building(id);
            }
        }
        Ok(())
    }

    /// Every building.
    pub fn all_buildings(&self) -> impl Iterator<Item = &Building> {
        self.buildings.iter()
    }

    pub(super) fn owns_building(&self, user_id: Uuid, id: Uuid) -> bool {
        self.buildings.get(id).is_some_and(|building| building.user_id == user_id)
    }
}
