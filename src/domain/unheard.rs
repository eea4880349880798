//! Calls that may have changed something at Podero, and of which the bridge does not know whether they did.
//!
//! There are two ways to such a call: no answer came, or the process that made it may have ended before it recorded anything. It
//! stays with its customer until a look-up shows its effect, or it is made again, so that the audit log gets one row for each
//! change, also for those that no process has heard of (docs/AUDIT.md).
//!
//! Before: [`crate::domain::call`]. After: [`crate::domain::customer`] keeps them; [`crate::domain::acts`] resolves them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::EventId;
use super::audit::Action;
use super::call::{Call, Changes, Operation};
use super::event::{BuildingKey, Record};
use super::identity::Actor;
use super::normal::is_written_so;
use super::{Stamp, event};

/// Limit of the calls that are kept for one customer; beyond it the oldest are forgotten.
pub const UNHEARD_MAX: usize = 64;

/// A call that may have changed something, and of which the bridge does not know whether it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unheard {
    /// The event for which it was made.
    pub event: EventId,
    /// The actor behind the event.
    pub actor: Actor,
    /// The call.
    pub call: UnheardCall,
    /// True if the audit log has a row `unknown` of it. False: the process that may have made it recorded nothing.
    pub is_recorded: bool,
    /// The interrupted claim that may have made it, by a number of the customer's: one claim makes its calls in order.
    #[serde(default)]
    pub round: u32,
}

/// The part of a call by which a look-up shows whether it took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the call")]
pub enum UnheardCall {
    CreateUser,
    UpdateUser { user: Uuid, changes: Changes },
    DeleteUser { user: Uuid },
    CreateBuilding { key: BuildingKey, since: Stamp },
    UpdateBuilding { building: Uuid, changes: Changes },
    DeleteBuilding { building: Uuid },
    PauseHeatPump { heat_pump: Uuid },
    CreateOnboardingSession { key: BuildingKey },
}

impl UnheardCall {
    /// Of a call that changes something; `None`: it only reads.
    pub fn of(call: &Call) -> Option<Self> {
        Some(match call {
            Call::CreateUser { .. } => Self::CreateUser,
            Call::UpdateUser { user, changes } => Self::UpdateUser { user: *user, changes: changes.clone() },
            Call::DeleteUser { user, .. } => Self::DeleteUser { user: *user },
            Call::CreateBuilding { key, since, .. } => Self::CreateBuilding { key: key.clone(), since: *since },
            Call::UpdateBuilding { building, changes, .. } => {
                Self::UpdateBuilding { building: *building, changes: changes.clone() }
            }
            Call::DeleteBuilding { building, .. } => Self::DeleteBuilding { building: *building },
            Call::PauseHeatPump { heat_pump, .. } => Self::PauseHeatPump { heat_pump: *heat_pump },
            Call::CreateOnboardingSession { key, .. } => Self::CreateOnboardingSession { key: key.clone() },
            Call::FindUser { .. } | Call::ListBuildings { .. } | Call::ListHeatPumps { .. } => return None,
        })
    }

    /// The kind of the call.
    pub fn operation(&self) -> Operation {
        match self {
            Self::CreateUser => Operation::CreateUser,
            Self::UpdateUser { .. } => Operation::UpdateUser,
            Self::DeleteUser { .. } => Operation::DeleteUser,
            Self::CreateBuilding { .. } => Operation::CreateBuilding,
            Self::UpdateBuilding { .. } => Operation::UpdateBuilding,
            Self::DeleteBuilding { .. } => Operation::DeleteBuilding,
            Self::PauseHeatPump { .. } => Operation::UpdateHeatPump,
            Self::CreateOnboardingSession { .. } => Operation::CreateOnboardingSession,
        }
    }

    /// The action of the audit log.
    pub fn action(&self) -> Option<Action> {
        Action::of_call(self.operation())
    }

    /// True if both change the same thing in the same way, whatever the values: a repeat of one is a repeat of the other.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        self.operation() == other.operation() && self.thing() == other.thing()
    }

    fn thing(&self) -> (Option<Uuid>, Option<&BuildingKey>) {
        match self {
            Self::CreateUser => (None, None),
            Self::UpdateUser { user: id, .. }
            | Self::DeleteUser { user: id }
            | Self::UpdateBuilding { building: id, .. }
            | Self::DeleteBuilding { building: id }
            | Self::PauseHeatPump { heat_pump: id } => (Some(*id), None),
            Self::CreateBuilding { key, .. } | Self::CreateOnboardingSession { key } => (None, Some(key)),
        }
    }
}

/// True if a record of Podero's shows all of these changes.
pub fn shows(observed: &Record, changes: &Changes) -> bool {
    let is_shown = |(field, value): (&event::Field, &Option<event::FieldValue>)| match (observed.get(field), value) {
        (Some(shown), Some(wanted)) => is_written_so(*field, shown, wanted),
        (shown, wanted) => shown.is_none() && wanted.is_none(),
    };
    changes.iter().all(is_shown)
}
