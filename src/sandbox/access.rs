//! Actors and their rights: access tokens and the role matrix.
//!
//! The matrix follows `partner-api/user-journeys/back-office/team-administration`, read narrowly where the pages
//! differ. It must never look at a user, building or heat pump beyond its owner and their role.
//!
//! Before: [`crate::sandbox::model`] asks it; `routes` issues tokens. After: [`crate::sandbox::Variants`].

use std::time::Duration;

use uuid::Uuid;

use super::error::{SandboxError, SandboxResult};
use super::newest::NewestByText;
use super::variants::{StaffRights, Variants};
use crate::domain::Timestamp;
use crate::domain::names::names;

/// Limit of the tokens remembered: a client that asks for a token per request must not grow memory. The oldest goes first.
pub const TOKENS_MAX: usize = 10_000;

names! {
    /// Role of a user (`api-reference/users/list-users-in-the-organization`).
    pub enum UserRole {
        /// Does everything; alone changes roles.
        Admin = "admin",
        /// Manages end users and devices, reads staff and admins.
        Staff = "staff",
        /// An end customer: their own data only.
        User = "user",
        /// Named in schemas, explained nowhere; may do nothing here.
        Guest = "guest",
    }
}

impl UserRole {
    /// Says whether creating such a user sends an invitation (`…/team-administration`: admin and staff).
    pub fn is_invited(self) -> bool {
        matches!(self, Self::Admin | Self::Staff)
    }
}

/// The caller of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxActor {
    /// The client credentials: an organisation administrator (`partner-api/overview/introduction`).
    Client,
    /// A user of the organisation, with the rights of the role they have at the time of the call.
    User(Uuid),
}

/// An actor whose role has been looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The role that they have now.
    pub role: UserRole,
    /// Their own user id; the client credentials have none.
    pub user_id: Option<Uuid>,
}

/// An act that needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See all users of the organisation.
    ListUsers,
    /// Make a user with this role.
    CreateUser(UserRole),
    /// See a user.
    ReadUser(Subject),
    /// Change a user's fields.
    ChangeUser(Subject),
    /// Change a user's role.
    ChangeRole,
    /// Delete a user, soft or hard.
    DeleteUser(Subject),
    /// See a user's buildings, heat pumps, energy contracts and onboarding sessions.
    ReadHome(Subject),
    /// Make or change them.
    ChangeHome(Subject),
    /// Delete one of a user's buildings.
    DeleteBuilding(Subject),
    /// Delete one of a user's heat pumps.
    DeleteHeatPump(Subject),
}

/// The user whom an act concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Their id.
    pub user_id: Uuid,
    /// Their role.
    pub role: UserRole,
}

/// Allows the act, or refuses with [`SandboxError::Forbidden`].
///
/// | | admin | staff | user | guest |
/// |---|---|---|---|---|
/// | list users | yes | yes | no | no |
/// | create, delete user | yes | of role `user` | no | no |
/// | read user, home | yes | yes | themself | no |
/// | change user, home | yes | of role `user` | no | no |
/// | change a role | yes | no | no | no |
/// | delete building | yes | no | no | no |
/// | delete heat pump | yes | of role `user` | no | no |
///
/// Three of the [`Variants`] widen it: `staff_rights`, `users_edit_own_data`, `building_delete_admin_only`.
pub fn permit(who: Standing, act: Act, variants: &Variants) -> SandboxResult<()> {
    let allowed = match who.role {
        UserRole::Admin => true,
        UserRole::Staff => is_open_to_staff(act, variants),
        UserRole::User => is_open_to_user(act, variants, who.user_id),
        UserRole::Guest => false,
    };
    if allowed { Ok(()) } else { Err(SandboxError::Forbidden) }
}

fn is_open_to_staff(act: Act, variants: &Variants) -> bool {
    let manages = |role: UserRole| match variants.staff_rights {
        StaffRights::EndUsers | StaffRights::EditAll => role == UserRole::User,
        StaffRights::EndUsersAndStaff => matches!(role, UserRole::User | UserRole::Staff),
    };
    let edits = |role: UserRole| variants.staff_rights == StaffRights::EditAll || manages(role);
    match act {
        Act::ListUsers | Act::ReadUser(_) | Act::ReadHome(_) => true,
        Act::CreateUser(role) => manages(role),
        Act::ChangeUser(subject) | Act::ChangeHome(subject) => edits(subject.role),
        Act::DeleteUser(subject) | Act::DeleteHeatPump(subject) => manages(subject.role),
        Act::DeleteBuilding(subject) => !variants.building_delete_admin_only && manages(subject.role),
        Act::ChangeRole => false,
    }
}

fn is_open_to_user(act: Act, variants: &Variants, user_id: Option<Uuid>) -> bool {
    let own = |subject: Subject| Some(subject.user_id) == user_id;
    let edits = |subject: Subject| variants.users_edit_own_data && own(subject);
    match act {
        Act::ReadUser(subject) | Act::ReadHome(subject) => own(subject),
        Act::ChangeUser(subject) | Act::ChangeHome(subject) => edits(subject),
        Act::DeleteBuilding(subject) => !variants.building_delete_admin_only && edits(subject),
        Act::ListUsers | Act::CreateUser(_) | Act::ChangeRole | Act::DeleteUser(_) | Act::DeleteHeatPump(_) => false,
    }
}

/// The access tokens that were issued and have not been forgotten.
#[derive(Debug, Default)]
pub struct AccessTokens(NewestByText<(SandboxActor, Timestamp)>);

impl AccessTokens {
    /// Remembers a token until `now + lifetime`.
    pub fn issue(&mut self, text: String, actor: SandboxActor, now: Timestamp, lifetime: Duration) {
        self.0.keep(text, (actor, now.plus(lifetime)), TOKENS_MAX);
    }

    /// Forgets all: every token in use is refused from now on, long before its end.
    pub fn revoke_all(&mut self) {
        *self = Self::default();
    }

    /// The actor of this token; unknown and expired ones are [`SandboxError::Unauthorized`].
    pub fn actor(&self, text: &str, now: Timestamp) -> SandboxResult<SandboxActor> {
        match self.0.get(text) {
            Some((actor, expires)) if now < *expires => Ok(*actor),
            Some(_) | None => Err(SandboxError::Unauthorized),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn target(role: UserRole) -> Subject {
        Subject { user_id: OTHER, role }
    }

    fn myself(role: UserRole) -> Subject {
        Subject { user_id: ME, role }
    }

    fn holds(variants: &Variants, cases: &[(Act, [bool; 4])]) {
        for (act, expected) in cases {
            for (role, allowed) in UserRole::ALL.into_iter().zip(expected) {
                let who = Standing { role, user_id: Some(ME) };
                assert_eq!(permit(who, *act, variants).is_ok(), *allowed, "{role} {act:?} {variants:?}");
            }
        }
    }

    #[test]
    fn the_matrix_holds_for_every_role() {
        // act, [admin, staff, user, guest]
        let cases = [
            (Act::ListUsers, [true, true, false, false]),
            (Act::CreateUser(UserRole::User), [true, true, false, false]),
            (Act::CreateUser(UserRole::Staff), [true, false, false, false]),
            (Act::CreateUser(UserRole::Guest), [true, false, false, false]),
            (Act::ReadUser(target(UserRole::Admin)), [true, true, false, false]),
            (Act::ChangeUser(target(UserRole::User)), [true, true, false, false]),
            (Act::ChangeUser(target(UserRole::Staff)), [true, false, false, false]),
            (Act::ChangeRole, [true, false, false, false]),
            (Act::DeleteUser(target(UserRole::User)), [true, true, false, false]),
            (Act::DeleteUser(target(UserRole::Admin)), [true, false, false, false]),
            (Act::DeleteUser(myself(UserRole::User)), [true, true, false, false]),
            (Act::ReadHome(myself(UserRole::User)), [true, true, true, false]),
            (Act::ChangeHome(target(UserRole::User)), [true, true, false, false]),
            (Act::ChangeHome(myself(UserRole::User)), [true, true, false, false]),
            (Act::DeleteBuilding(target(UserRole::User)), [true, false, false, false]),
            (Act::DeleteHeatPump(target(UserRole::User)), [true, true, false, false]),
            (Act::DeleteHeatPump(target(UserRole::Staff)), [true, false, false, false]),
        ];
        holds(&Variants::default(), &cases);
    }

    #[test]
    fn three_switches_widen_the_matrix() {
        let of_staff = |staff_rights| Variants { staff_rights, ..Variants::default() };
        let manages_staff = [
            (Act::CreateUser(UserRole::Staff), [true, true, false, false]),
            (Act::DeleteUser(target(UserRole::Staff)), [true, true, false, false]),
            (Act::ChangeUser(target(UserRole::Admin)), [true, false, false, false]),
            (Act::ChangeRole, [true, false, false, false]),
        ];
        holds(&of_staff(StaffRights::EndUsersAndStaff), &manages_staff);
        let edits_all = [
            (Act::ChangeUser(target(UserRole::Admin)), [true, true, false, false]),
            (Act::CreateUser(UserRole::Staff), [true, false, false, false]),
            (Act::DeleteUser(target(UserRole::Admin)), [true, false, false, false]),
        ];
        holds(&of_staff(StaffRights::EditAll), &edits_all);
        let wide = Variants { users_edit_own_data: true, building_delete_admin_only: false, ..Variants::default() };
        let own = [
            (Act::ChangeHome(myself(UserRole::User)), [true, true, true, false]),
            (Act::ChangeUser(target(UserRole::User)), [true, true, false, false]),
            (Act::DeleteBuilding(myself(UserRole::User)), [true, true, true, false]),
            (Act::DeleteHeatPump(myself(UserRole::User)), [true, true, false, false]),
        ];
        holds(&wide, &own);
    }

    #[test]
    fn a_token_dies_at_its_hour_and_the_oldest_is_forgotten_at_the_bound() {
        let mut tokens = AccessTokens::default();
        let now = Timestamp::from_micros(0);
        let hour = Duration::from_secs(3_600);
        tokens.issue("first".to_owned(), SandboxActor::Client, now, hour);
        assert_eq!(tokens.actor("first", now), Ok(SandboxActor::Client));
        assert_eq!(tokens.actor("first", now.plus(hour)), Err(SandboxError::Unauthorized));
        for i in 0..TOKENS_MAX {
            tokens.issue(i.to_string(), SandboxActor::Client, now, hour);
        }
        assert_eq!(tokens.actor("first", now), Err(SandboxError::Unauthorized));
        assert_eq!(tokens.actor("0", now), Ok(SandboxActor::Client));
    }
}
