//! `[move]`: the home that a customer moved out of.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::plan`].

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::domain::plan::{OldBuilding, OldHeatPumps};

section! {
    /// The home that a customer moved out of.
    MOVE = "move" {
        /// Optimisation of the old home's heat pumps: paused or kept. Kept heat pumps also stay watched.
        OLD_HEAT_PUMPS: OldHeatPumps = "old_heat_pumps", rules::one_of(OldHeatPumps::names(), OldHeatPumps::from_name),
            default "pause";
        /// The old home's building at Podero: deleted or kept.
        OLD_BUILDING: OldBuilding = "old_building", rules::one_of(OldBuilding::names(), OldBuilding::from_name),
            default "delete";
    }
}

/// Section `[move]`.
#[derive(Debug, Clone)]
pub struct Move {
    /// The optimisation in the home the customer left.
    pub old_heat_pumps: OldHeatPumps,
    /// The building the customer left.
    pub old_building: OldBuilding,
}

pub(in crate::config) fn read(r: &mut Reader) -> Move {
    Move { old_heat_pumps: r.value(&OLD_HEAT_PUMPS), old_building: r.value(&OLD_BUILDING) }
}
