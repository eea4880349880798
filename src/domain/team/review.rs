//! The team as a person reviews it: what the bridge knows, next to what Podero has. Pure.
//!
//! Before: [`super::member`], [`super::staff_list`]. After: `team list`, `team review` and the admin API show it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::super::names::names;
use super::super::{NAMESPACE, Timestamp};
use super::call::Colleague;
use super::event::{MemberField, MemberRole, is_address};
use super::member::{Departure, TeamMember};
use super::settings::TeamPolicy;
use super::staff_list::StaffList;

names! {
    /// The way by which the bridge came to know a member.
    pub enum MemberOrigin {
        /// An event named the member.
        Event = "event",
        /// An identity provider made the member.
        Scim = "scim",
        /// Podero has the user, and nothing named it.
        FoundAtPodero = "podero",
    }

    /// The state of a member.
    pub enum MemberState {
        /// At Podero, and has accepted the invitation or logged in.
        Active = "active",
        /// At Podero, and has not accepted the invitation.
        Invited = "invited",
        /// Should be at Podero, and is not.
        Missing = "missing",
        /// Has left.
        Left = "left",
        /// The access has expired.
        Expired = "expired",
        /// Has not joined yet.
        Announced = "announced",
        /// Should be at Podero; there is no list to compare with.
        Unlisted = "unlisted",
    }

    /// The kind of a finding of a review.
    pub enum Finding {
        /// The end of the access has passed, and the user is at Podero.
        Expired = "expired",
        /// No login for the number of days that was asked for.
        Inactive = "inactive",
        /// At Podero, and no event named the user.
        UnknownToBridge = "unknown_to_bridge",
        /// An event named the member, and Podero has no such user.
        MissingAtPodero = "missing_at_podero",
        /// Has left, or has not joined yet, and Podero has the user.
        StillAtPodero = "still_at_podero",
        /// Is admin although the policy lets no event make one: `team.allow_admins` is off, or the address is of another domain.
        AdminBeyondPolicy = "admin_beyond_policy",
        /// Fewer active admins than `team.min_admins`.
        TooFewAdmins = "too_few_admins",
    }
}

/// A line of the team's list. Ids and states, no names and no addresses.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TeamRow {
    /// The utility's own id; null for a user at Podero without one, and for an id that is an e-mail address.
    pub member_id: Option<String>,
    /// Podero's id of the user, if it is known.
    pub podero_user_id: Option<Uuid>,
    /// The role at Podero, or the one that it should have there.
    pub role: Option<MemberRole>,
    /// How the bridge came to know the member.
    pub origin: MemberOrigin,
    /// The last login at Podero.
    pub last_login: Option<Timestamp>,
    /// The end of the access.
    pub expires_at: Option<Timestamp>,
    /// The state.
    pub state: MemberState,
    /// Events that wait for a person.
    pub parked: u64,
    /// The row's key in the order of the list, by which a page goes on.
    #[serde(skip)]
    pub position: String,
}

/// The parts of the team's list, in their order; each is in the order of its ids.
#[derive(Clone, Copy)]
enum ListPart {
    /// Members whom events named.
    Named,
    /// Users whom only Podero has.
    OnlyAtPodero,
    /// Those who have left.
    Gone,
}

impl ListPart {
    /// The position of a row. An id that is an address is personal data, and gives way to a digest of it.
    fn position(self, id: &str) -> String {
        let part = match self {
            Self::Named => "1",
            Self::OnlyAtPodero => "2",
            Self::Gone => "3",
        };
        match is_address(id) {
            true => format!("{part}.{}", Uuid::new_v5(&NAMESPACE, id.as_bytes())),
            false => format!("{part}.{id}"),
        }
    }
}

/// True for the position of a row.
pub fn is_position(text: &str) -> bool {
    ["1.", "2.", "3."].iter().any(|part| text.starts_with(part))
}

/// The id as it is shown: one that is an address is personal data.
fn shown(id: &str) -> Option<String> {
    (!is_address(id)).then(|| id.to_owned())
}

/// A line of a review.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReviewRow {
    /// The findings.
    pub finding: Finding,
    /// The utility's own id of the member; null where there is none.
    pub member_id: Option<String>,
    /// Podero's id of the user.
    pub podero_user_id: Option<Uuid>,
    /// More about it.
    pub detail: String,
}

/// A member as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownMember {
    /// The utility's own id.
    pub id: String,
    /// All that is known.
    pub member: TeamMember,
    /// The number of parked events.
    pub parked: u64,
    /// True if an identity provider made the member; one whom an event named first, and who is its user since, is the event's.
    pub is_of_scim: bool,
}

/// All members: those whom events named, by id, then those whom only Podero has, then those who have left. One of whom a leave was the
/// only word, and who was never there, is none.
pub fn team_rows(known: &[KnownMember], list: Option<&StaffList>) -> Vec<TeamRow> {
    let staff = list.map(|list| &list.staff[..]).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut rows: Vec<TeamRow> = known
        .iter()
        .filter_map(|known| {
            let there = colleague_of(known, staff);
            let was_never_there = known.member.facts.left.is_some() && !known.member.was_ever_there();
            if was_never_there && there.is_none() && known.parked == 0 {
                return None;
            }
            seen.extend(there.map(|there| there.id));
            Some(known_row(known, there, list))
        })
        .collect();
    rows.extend(staff.iter().filter(|there| !seen.contains(&there.id)).map(|there| TeamRow {
        member_id: there.external_id.as_deref().and_then(shown),
        podero_user_id: Some(there.id),
        role: there.role.of_member(),
        origin: MemberOrigin::FoundAtPodero,
        last_login: there.last_login,
        expires_at: None,
        state: if there.has_joined { MemberState::Active } else { MemberState::Invited },
        parked: 0,
        position: ListPart::OnlyAtPodero.position(&there.id.to_string()),
    }));
    rows.sort_by(|one, other| one.position.cmp(&other.position));
    rows
}

/// The member's user: the one with our key, else the one whom the bridge knew last, if that one has no key.
fn colleague_of<'a>(known: &KnownMember, staff: &'a [Colleague]) -> Option<&'a Colleague> {
    let by_key = |there: &&Colleague| there.external_id.as_deref() == Some(known.id.as_str());
    let podero = &known.member.podero;
    let user = known.member.user_id().or(podero.adopting).or(podero.departed);
    let by_user = |there: &&Colleague| there.external_id.is_none() && Some(there.id) == user;
    staff.iter().find(by_key).or_else(|| staff.iter().find(by_user))
}

fn known_row(known: &KnownMember, there: Option<&Colleague>, list: Option<&StaffList>) -> TeamRow {
    let facts = &known.member.facts;
    // A user who was made after the list was asked for cannot be in it.
    let was_made_since = list.is_some_and(|list| known.member.podero.made_at.is_some_and(|made| made >= list.asked_at));
    let state = match (facts.is_active(), there) {
        (true, Some(there)) if there.has_joined => MemberState::Active,
        (true, Some(_)) => MemberState::Invited,
        (true, None) if was_made_since => MemberState::Invited,
        (true, None) if list.is_some() => MemberState::Missing,
        (true, None) => MemberState::Unlisted,
        (false, _) if facts.left.is_none() => MemberState::Announced,
        (false, _) if facts.departure == Some(Departure::Expired) => MemberState::Expired,
        (false, _) => MemberState::Left,
    };
    let user = there.map(|there| there.id).or(known.member.user_id()).or(known.member.podero.departed);
    let part = match state {
        MemberState::Active
        | MemberState::Invited
        | MemberState::Missing
        | MemberState::Announced
        | MemberState::Unlisted => ListPart::Named,
        MemberState::Left | MemberState::Expired => ListPart::Gone,
    };
    TeamRow {
        member_id: shown(&known.id),
        podero_user_id: user,
        role: there.and_then(|there| there.role.of_member()).or(facts.role.map(|fact| fact.role)),
        origin: if known.is_of_scim { MemberOrigin::Scim } else { MemberOrigin::Event },
        last_login: there.and_then(|there| there.last_login),
        expires_at: facts.expires_at(),
        state,
        parked: known.parked,
        position: part.position(&known.id),
    }
}

/// The users in the list whom no facts of ours leave there: the list was read after the user was last found to be gone.
fn still_there(known: &[KnownMember], list: &StaffList) -> BTreeMap<Uuid, &'static str> {
    let is_gone = |known: &&KnownMember| {
        !known.member.facts.is_active() && known.member.podero.gone_at.is_none_or(|gone| gone < list.asked_at)
    };
    let found = known.iter().filter(is_gone).filter_map(|known| {
        let there = colleague_of(known, &list.staff)?;
        let why = match known.member.facts.left {
            Some(_) => "has left by our facts: the removal is not done, or the user was made again",
            None => "has not joined by our facts",
        };
        Some((there.id, why))
    });
    found.collect()
}

/// The findings of a review, by their kind. Without a list only those that need none.
pub fn review(
    known: &[KnownMember],
    list: Option<&StaffList>,
    policy: &TeamPolicy,
    inactive_after: Duration,
    now: Timestamp,
) -> Vec<ReviewRow> {
    let staff = list.map(|list| &list.staff[..]).unwrap_or_default();
    let still_there = list.map(|list| still_there(known, list)).unwrap_or_default();
    let mut found: Vec<ReviewRow> = Vec::new();
    for row in team_rows(known, list) {
        let is_there = matches!(row.state, MemberState::Active | MemberState::Invited);
        let mut note = |finding, detail: String| {
            let (member_id, podero_user_id) = (row.member_id.clone(), row.podero_user_id);
            found.push(ReviewRow { finding, member_id, podero_user_id, detail });
        };
        if let Some(at) = row.expires_at.filter(|at| *at <= now && row.state != MemberState::Missing) {
            note(Finding::Expired, format!("since {at}"));
        }
        match row.last_login {
            Some(at) if is_there && now.since(at) >= inactive_after => {
                note(Finding::Inactive, format!("last login {at}"));
            }
            None if row.state == MemberState::Active => note(Finding::Inactive, "no login is known".to_owned()),
            Some(_) | None => {}
        }
        if row.origin == MemberOrigin::FoundAtPodero {
            note(Finding::UnknownToBridge, "no event named this user".to_owned());
        }
        if row.state == MemberState::Missing {
            note(Finding::MissingAtPodero, "no user has this member's id".to_owned());
        }
        if let Some(why) = row.podero_user_id.and_then(|user| still_there.get(&user)) {
            note(Finding::StillAtPodero, (*why).to_owned());
        }
        let there = staff.iter().find(|there| Some(there.id) == row.podero_user_id);
        if let Some(why) = there.and_then(|there| beyond_policy(there, list, policy)) {
            note(Finding::AdminBeyondPolicy, why.to_owned());
        }
    }
    let active = u64::try_from(staff.iter().filter(|there| there.is_active_admin()).count()).unwrap_or(u64::MAX);
    if list.is_some() && active < policy.min_admins {
        let detail = format!("{active} active admins, and team.min_admins is {}", policy.min_admins);
        found.push(ReviewRow { finding: Finding::TooFewAdmins, member_id: None, podero_user_id: None, detail });
    }
    found.sort_by_key(|row| row.finding);
    found
}

/// The reason for which the policy would make no one like this admin; `None`: it would, or this one is protected.
fn beyond_policy(there: &Colleague, list: Option<&StaffList>, policy: &TeamPolicy) -> Option<&'static str> {
    let is_protected = list.is_some_and(|list| list.is_bound(there.id));
    there.role.of_member().filter(|role| *role == MemberRole::Admin && !is_protected)?;
    let address = there.profile.get(&MemberField::Email).map(String::as_str).unwrap_or_default();
    if !policy.is_of_our_domain(address) {
        return Some("the domain of the e-mail address is not in team.email_domains");
    }
    (!policy.allows_admins).then_some("team.allow_admins is off, and team.protected does not name this admin")
}
