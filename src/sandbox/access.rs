//! Who acts, and what he may do: access tokens and the role matrix.
//!
//! The matrix follows `partner-api/user-journeys/back-office/team-administration`, read narrowly where the pages
//! differ. It must never look at what is in a user, building or heat pump beyond its owner and his role.
//!
//! Before: [`crate::sandbox::model`] asks it; `routes` issues tokens. After: nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::Refusal;
use crate::domain::Timestamp;

/// Most tokens remembered: a client that asks for a token per request must not grow memory; the oldest goes first.
pub const TOKENS_MAX: usize = 10_000;

/// Role of a user (`api-reference/users/list-users-in-the-organization`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Does everything; alone changes roles.
    Admin,
    /// Manages end users and devices, reads staff and admins.
    Staff,
    /// An end customer: his own data only.
    User,
    /// Named in schemas, explained nowhere; may do nothing here.
    Guest,
}

impl Role {
    /// Every role by its name on the wire.
    pub const NAMES: [(&'static str, Self); 4] =
        [("admin", Self::Admin), ("staff", Self::Staff), ("user", Self::User), ("guest", Self::Guest)];

    /// Whether creating such a user sends an invitation (`…/team-administration`: admin and staff).
    pub fn is_invited(self) -> bool {
        matches!(self, Self::Admin | Self::Staff)
    }
}

/// In whose name a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The client credentials: an organisation administrator (`partner-api/overview/introduction`).
    Client,
    /// A user of the organisation, with the rights of the role he has at the time of the call.
    User(Uuid),
}

/// An actor whose role has been looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The role that he has now.
    pub role: Role,
    /// His own user id; the client credentials have none.
    pub user_id: Option<Uuid>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See all users of the organisation.
    ListUsers,
    /// Make a user with this role.
    CreateUser(Role),
    /// See a user.
    ReadUser(Target),
    /// Change a user's fields.
    ChangeUser(Target),
    /// Change a user's role.
    ChangeRole,
    /// Delete a user, soft or hard.
    DeleteUser(Target),
    /// See a user's buildings, heat pumps and onboarding sessions.
    ReadHome(Target),
    /// Make, change or delete them.
    ChangeHome(Target),
}

/// The user whom an act concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// His id.
    pub user_id: Uuid,
    /// His role.
    pub role: Role,
}

/// Allows the act, or refuses with [`Refusal::Forbidden`].
///
/// | | admin | staff | user | guest |
/// |---|---|---|---|---|
/// | list users | yes | yes | no | no |
/// | create user | yes | role `user` | no | no |
/// | read user, home | yes | yes | himself | no |
/// | change user, home | yes | of role `user` | himself | no |
/// | change a role | yes | no | no | no |
/// | delete user | yes | of role `user` | no | no |
pub fn permit(who: Standing, act: Act) -> Result<(), Refusal> {
    let own = |target: Target| Some(target.user_id) == who.user_id;
    let allowed = match who.role {
        Role::Admin => true,
        Role::Staff => match act {
            Act::ListUsers | Act::ReadUser(_) | Act::ReadHome(_) => true,
            Act::CreateUser(role) => role == Role::User,
            Act::ChangeUser(target) | Act::DeleteUser(target) | Act::ChangeHome(target) => target.role == Role::User,
            Act::ChangeRole => false,
        },
        Role::User => match act {
            Act::ReadUser(target) | Act::ChangeUser(target) | Act::ReadHome(target) | Act::ChangeHome(target) => {
                own(target)
            }
            Act::ListUsers | Act::CreateUser(_) | Act::ChangeRole | Act::DeleteUser(_) => false,
        },
        Role::Guest => false,
    };
    if allowed { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// The access tokens that were issued and have not been forgotten.
#[derive(Debug, Default)]
pub struct Tokens {
    by_text: HashMap<String, (Actor, Timestamp)>,
    in_order: VecDeque<String>,
}

impl Tokens {
    /// Remembers a token until `now + lifetime`.
    pub fn issue(&mut self, text: String, actor: Actor, now: Timestamp, lifetime: Duration) {
        while self.in_order.len() >= TOKENS_MAX {
            if let Some(oldest) = self.in_order.pop_front() {
                self.by_text.remove(&oldest);
            }
        }
        self.in_order.push_back(text.clone());
        self.by_text.insert(text, (actor, now.plus(lifetime)));
    }

    /// Forgets all: every token in use is refused from now on, long before its end.
    pub fn revoke_all(&mut self) {
        self.by_text.clear();
        self.in_order.clear();
    }

    /// Who acts by this token; unknown and expired ones are [`Refusal::Unauthorized`].
    pub fn actor(&self, text: &str, now: Timestamp) -> Result<Actor, Refusal> {
        match self.by_text.get(text) {
            Some((actor, expires)) if now < *expires => Ok(*actor),
            Some(_) | None => Err(Refusal::Unauthorized),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[test]
    fn the_matrix_holds_for_every_role() {
        let target = |role| Target { user_id: OTHER, role };
        let myself = |role| Target { user_id: ME, role };
        let cases = [
            // act, [admin, staff, user, guest]
            (Act::ListUsers, [true, true, false, false]),
            (Act::CreateUser(Role::User), [true, true, false, false]),
            (Act::CreateUser(Role::Staff), [true, false, false, false]),
            (Act::CreateUser(Role::Guest), [true, false, false, false]),
            (Act::ReadUser(target(Role::Admin)), [true, true, false, false]),
            (Act::ChangeUser(target(Role::User)), [true, true, false, false]),
            (Act::ChangeUser(target(Role::Staff)), [true, false, false, false]),
            (Act::ChangeRole, [true, false, false, false]),
            (Act::DeleteUser(target(Role::User)), [true, true, false, false]),
            (Act::DeleteUser(target(Role::Admin)), [true, false, false, false]),
            (Act::DeleteUser(myself(Role::User)), [true, true, false, false]),
            (Act::ReadHome(myself(Role::User)), [true, true, true, false]),
            (Act::ChangeHome(target(Role::User)), [true, true, false, false]),
            (Act::ChangeHome(myself(Role::User)), [true, true, true, false]),
        ];
        for (act, expected) in cases {
            for ((name, role), allowed) in Role::NAMES.into_iter().zip(expected) {
                let who = Standing { role, user_id: Some(ME) };
                assert_eq!(permit(who, act).is_ok(), allowed, "{name} {act:?}");
            }
        }
    }

    #[test]
    fn a_token_dies_at_its_hour_and_the_oldest_is_forgotten_at_the_bound() {
        let mut tokens = Tokens::default();
        let now = Timestamp::from_micros(0);
        let hour = Duration::from_secs(3_600);
        tokens.issue("first".to_owned(), Actor::Client, now, hour);
        assert_eq!(tokens.actor("first", now), Ok(Actor::Client));
        assert_eq!(tokens.actor("first", now.plus(hour)), Err(Refusal::Unauthorized));
        for i in 0..TOKENS_MAX {
            tokens.issue(i.to_string(), Actor::Client, now, hour);
        }
        assert_eq!(tokens.actor("first", now), Err(Refusal::Unauthorized));
        assert_eq!(tokens.actor("0", now), Ok(Actor::Client));
    }
}
