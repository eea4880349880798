//! Calls about a member that may have changed something, and of which the bridge does not know whether they did.
//!
//! Before: [`super::call`]. After: [`super::member`] keeps them; [`super::acts`] resolves them.

use serde::{Deserialize, Serialize};

use super::super::EventId;
use super::super::audit::Action;
use super::super::identity::Actor;
use super::call::{MemberCall, MemberChanges};
use super::event::MemberRole;

/// Limit of the calls that are kept for one member; beyond it the oldest are forgotten.
pub(super) const UNHEARD_MAX: usize = 16;

/// A call about a member that may have changed something, and of which the bridge does not know whether it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnheardOfMember {
    /// The event for which it was made.
    pub event: EventId,
    /// The actor behind the event.
    pub actor: Actor,
    /// The call.
    pub call: UnheardMemberCall,
    /// True if the audit log has a row `unknown` of it.
    pub is_recorded: bool,
}

/// The part of a call by which a look-up shows whether it took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the call")]
pub enum UnheardMemberCall {
    Create { role: MemberRole },
    Update { changes: MemberChanges, from: Option<MemberRole> },
    Delete { from: Option<MemberRole> },
}

impl UnheardMemberCall {
    /// Of a call that changes something for a member whose role at Podero is `from`; `None`: it only reads.
    pub(super) fn of(call: &MemberCall, from: Option<MemberRole>) -> Option<Self> {
        match call {
            MemberCall::CreateMember { role, .. } => Some(Self::Create { role: *role }),
            MemberCall::UpdateMember { changes, .. } => Some(Self::Update { changes: changes.clone(), from }),
            MemberCall::DeleteMember { .. } => Some(Self::Delete { from }),
            MemberCall::FindMember { .. } | MemberCall::ListStaff { .. } => None,
        }
    }

    pub(super) fn action(&self) -> Action {
        match self {
            Self::Create { .. } => Action::PoderoCreateUser,
            Self::Update { .. } => Action::PoderoUpdateUser,
            Self::Delete { .. } => Action::PoderoDeleteUser,
        }
    }

    /// The roles before and after.
    pub(super) fn roles(&self) -> (Option<MemberRole>, Option<MemberRole>) {
        match self {
            Self::Create { role } => (None, Some(*role)),
            Self::Update { changes, from } => (changes.role.and(*from), changes.role),
            Self::Delete { from } => (*from, None),
        }
    }
}
