//! `[move]`: the home that a customer moved out of.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::plan`].

use crate::config::key::section;
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
