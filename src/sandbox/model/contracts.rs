//! Acts on energy contracts of a user.
//!
//! Facts: `api-reference/user-energy-contracts/*`. It must never show a contract under another user.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use uuid::Uuid;

use super::contract::{ContractFields, EnergyContract};
use super::world::{CONTRACTS_PER_USER_MAX, World};
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

impl World {
    /// The user's energy contracts, oldest first.
    pub fn energy_contracts(&self, actor: SandboxActor, user_id: Uuid) -> SandboxResult<Vec<&EnergyContract>> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.contracts);
        Ok(ids.iter().filter_map(|id| self.contracts.get(*id)).collect())
    }

    /// Makes a contract; a repeat makes another one.
    pub fn create_energy_contract(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        wanted: ContractFields,
    ) -> SandboxResult<&EnergyContract> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.refuse_foreign_building(user_id, wanted.building())?;
        let id = self.fresh_id();
        let home = self.homes.entry(user_id).or_default();
        if home.contracts.len() >= CONTRACTS_PER_USER_MAX {
            return Err(SandboxError::Full("energy contracts of this user"));
        }
        home.contracts.push(id);
        let mut contract = EnergyContract::new(id, user_id);
        contract.change(wanted);
        Ok(self.contracts.put(id, contract))
    }

    /// Changes the named fields; all others stay.
    pub fn update_energy_contract(
        &mut self,
        actor: SandboxActor,
        user_id: Uuid,
        id: Uuid,
        wanted: ContractFields,
    ) -> SandboxResult<&EnergyContract> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        self.refuse_foreign_building(user_id, wanted.building())?;
        let found = self.contracts.get_mut(id).filter(|contract| contract.user_id == user_id);
        let contract = found.ok_or(SandboxError::NotFound)?;
        contract.change(wanted);
        Ok(contract)
    }
}
