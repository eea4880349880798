//! Calls to Podero about a member, and their answers, in the core's terms.
//!
//! Before: [`super::plan`] decides which comes next. After: [`crate::podero`] makes it; [`super::verdict`] judges the reply.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::call::Operation;
use super::super::names::names;
use super::super::{EventId, NAMESPACE, Timestamp};
use super::event::{MemberField, MemberId, MemberRole, Profile};

/// One call to Podero for an event of a member.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the ids and bodies that the call's name asks for")]
pub enum MemberCall {
    /// Look the member's user up by our key for it.
    FindMember { member: MemberId },
    /// Read all users: the staff and admins among them, and whoever holds the e-mail address.
    ListStaff { email: Option<String> },
    /// Make the member's user; Podero sends an invitation.
    CreateMember { member: MemberId, role: MemberRole, profile: Profile },
    /// Write changed fields of the user.
    UpdateMember { user: Uuid, changes: MemberChanges },
    /// Delete the user; `soft` keeps it for audit.
    DeleteMember { user: Uuid, soft: bool },
}

/// Fields of a member's user to be written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberChanges {
    /// Fields of the person.
    pub profile: Profile,
    /// The role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Our key, of a user that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<MemberId>,
}

impl MemberChanges {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.profile.is_empty() && self.role.is_none() && self.external_id.is_none()
    }
}

names! {
    /// The role of a user at Podero.
    pub enum PoderoRole {
        Admin = "admin",
        Staff = "staff",
        /// An end-user: a customer.
        User = "user",
        /// Any other role, such as `guest`.
        Other = "other",
    }
}

impl PoderoRole {
    /// The role of a member; `None`: such a user is none.
    pub fn of_member(self) -> Option<MemberRole> {
        match self {
            Self::Admin => Some(MemberRole::Admin),
            Self::Staff => Some(MemberRole::Staff),
            Self::User | Self::Other => None,
        }
    }
}

impl From<MemberRole> for PoderoRole {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Staff => Self::Staff,
            MemberRole::Admin => Self::Admin,
        }
    }
}

/// A user that Podero showed us, in the terms of a team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Colleague {
    /// Podero's id.
    pub id: Uuid,
    /// The role.
    pub role: PoderoRole,
    /// The partner's own key for it.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The person.
    #[serde(default)]
    pub profile: Profile,
    /// The last login.
    #[serde(default)]
    pub last_login: Option<Timestamp>,
    /// True if the invitation was accepted or the user has ever logged in.
    #[serde(default)]
    pub has_joined: bool,
}

impl Colleague {
    /// The e-mail address.
    pub fn email(&self) -> Option<&str> {
        self.profile.get(&MemberField::Email).map(String::as_str)
    }

    /// True if this is its e-mail address; the case of letters makes no difference.
    pub fn has_address(&self, email: &str) -> bool {
        self.email().is_some_and(|own| is_same_address(own, email))
    }

    /// True if it is an admin who can act: one who never joined cannot let anyone else in.
    pub fn is_active_admin(&self) -> bool {
        self.role == PoderoRole::Admin && self.has_joined
    }
}

/// The answer to a [`MemberCall`] that Podero carried out.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the call, and the ids that Podero gave")]
pub enum MemberDone {
    /// The member's user, or the fact that there is none.
    LookedUp(Option<Colleague>),
    /// All staff and admins, and the user of any role with the e-mail address that was asked for.
    StaffListed { staff: Vec<Colleague>, holder: Option<Colleague> },
    /// The user is made.
    Created { user: Uuid },
    /// The user shows the changes.
    Updated,
    /// The user is gone.
    Deleted,
}

impl MemberCall {
    /// The kind of call.
    pub fn operation(&self) -> Operation {
        match self {
            Self::FindMember { .. } => Operation::FindUser,
            Self::ListStaff { .. } => Operation::ListUsers,
            Self::CreateMember { .. } => Operation::CreateUser,
            Self::UpdateMember { .. } => Operation::UpdateUser,
            Self::DeleteMember { .. } => Operation::DeleteUser,
        }
    }

    /// True if it changes nothing at Podero.
    pub fn reads(&self) -> bool {
        self.step().is_none()
    }

    /// The `Idempotency-Key` of a mutating call, the same on every repeat; `None` for a call that only reads.
    pub fn idempotency_key(&self, event: EventId) -> Option<Uuid> {
        self.step().map(|step| Uuid::new_v5(&NAMESPACE, format!("step/{event}/{step}").as_bytes()))
    }

    fn step(&self) -> Option<String> {
        match self {
            Self::FindMember { .. } | Self::ListStaff { .. } => None,
            Self::CreateMember { .. } => Some("member".to_owned()),
            Self::UpdateMember { .. } => Some("member/fields".to_owned()),
            Self::DeleteMember { user, soft } => Some(format!("member/{user}/delete/{soft}")),
        }
    }
}

/// True if two e-mail addresses are the same but for the case of letters.
pub(super) fn is_same_address(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
