//! Whether the policy of the team lets an event through, asked before it is accepted: its sender gets the answer, and nothing is parked.
//!
//! The same rows as when it is carried out ([`super::super::team::check`]), but for the brake, whose answer is an approval. They are
//! asked again then: an answer of now may be outdated.
//!
//! Before: [`super::change`]. After: [`crate::store`], under the lock of the team's brake.

use super::super::Timestamp;
use super::super::plan::Policy;
use super::super::team::{
    self, AccessEnd, AccessLoss, Colleague, MemberEnd, MemberFacts, MemberField, MemberNext, MemberRole, MemberWork,
    ObservedMember, PoderoRole, PolicyRefusal, StaffList, TeamEvent, TeamHappening, TeamMember,
};
use super::super::verdict::Reason;
use uuid::Uuid;

/// The answer of the policy.
#[derive(Debug, Clone, PartialEq)]
pub enum Permission {
    /// It may be accepted.
    Granted {
        /// The access that it takes away, and from which user.
        loss: Option<(Uuid, AccessLoss)>,
    },
    /// It may not, for this reason.
    Refused(PolicyRefusal),
    /// It takes something away, which cannot be judged without a list of the staff that is new enough.
    WantsList,
}

/// All that the policy is asked with, apart from the event.
#[derive(Debug, Clone, Copy)]
pub struct PolicyAtHand<'a> {
    /// The operator's choices.
    pub policy: &'a Policy,
    /// The ends of access that are known.
    pub ends: &'a [AccessEnd],
    /// The time at which the lock was taken.
    pub now: Timestamp,
    /// The list of the staff.
    pub list: Option<&'a StaffList>,
    /// True if it is new enough.
    pub is_fresh: bool,
    /// True if it was asked for since the request came.
    pub is_of_now: bool,
    /// True if a new one is not to be had: what cannot be judged is accepted, and judged when it is carried out.
    pub is_final: bool,
}

/// Asks for one event. `facts` are those before it.
pub fn permission(event: &TeamEvent, state: &TeamMember, facts: &MemberFacts, at_hand: PolicyAtHand<'_>) -> Permission {
    let PolicyAtHand { policy, ends, now, .. } = at_hand;
    let is_usable = at_hand.is_fresh && at_hand.list.is_some();
    let is_behind = !at_hand.is_of_now && at_hand.list.is_some_and(|list| lacks_admin(list, state));
    if takes_away(&event.happening) && (!is_usable || is_behind) && !at_hand.is_final {
        return Permission::WantsList;
    }
    let member = TeamMember { facts: facts.clone(), ..state.clone() };
    let mut work = MemberWork::new(event.clone(), now, member);
    work.member.podero.user = observed(event, state, work.merged.facts.text(MemberField::Email), at_hand.list);
    work.has_listed = true;
    // Also of one whose join is under way: the list cannot name them yet, and the answer would be the same when it does.
    let is_admin =
        matches!(&work.member.podero.user, ObservedMember::Present(there) if there.role == PoderoRole::Admin);
    let raises = !is_admin && !policy.team.allows_admins;
    if raises && asks_for_admin(&event.happening) && !is_usable && !at_hand.is_final {
        // A list would show one who is admin already.
        return Permission::WantsList;
    }
    if raises && event.happening == (TeamHappening::RoleChanged { role: MemberRole::Admin }) {
        return Permission::Refused(PolicyRefusal::admin_not_allowed());
    }
    let proposal = match team::next(&work, policy, now) {
        MemberNext::End(MemberEnd::Refused(refused)) if refused.reason.is_of_team_policy() => {
            return Permission::Refused(refused);
        }
        MemberNext::Ask(proposal) => proposal,
        MemberNext::Call(_) | MemberNext::End(_) => return Permission::Granted { loss: None },
    };
    if proposal.wants_list() && !is_usable && !at_hand.is_final {
        return Permission::WantsList;
    }
    // The bindings of `team.protected` do not age.
    let bound = at_hand.list.map(|list| list.bound.clone()).unwrap_or_default();
    let empty = StaffList { asked_at: now, staff: Vec::new(), bound };
    let list = at_hand.list.filter(|_| is_usable).unwrap_or(&empty);
    match team::check(&policy.team, &proposal, list, ends, now) {
        Ok(()) => Permission::Granted { loss: proposal.user.zip(proposal.loss) },
        Err(refused) if refused.reason == Reason::TooFewAdmins && !at_hand.is_of_now && !at_hand.is_final => {
            Permission::WantsList
        }
        Err(refused) => Permission::Refused(refused),
    }
}

/// True if an event asks for the role admin.
fn asks_for_admin(happening: &TeamHappening) -> bool {
    match happening {
        TeamHappening::Joined { role, .. } | TeamHappening::RoleChanged { role } => *role == MemberRole::Admin,
        TeamHappening::Updated { .. }
        | TeamHappening::Left
        | TeamHappening::CalledOff { .. }
        | TeamHappening::AccessExpiring { .. }
        | TeamHappening::AccessExpired { .. } => false,
    }
}

/// True if an event may take something away from one who is at Podero already, which a list of the staff would show.
fn takes_away(happening: &TeamHappening) -> bool {
    match happening {
        TeamHappening::Left | TeamHappening::RoleChanged { role: MemberRole::Staff } => true,
        TeamHappening::Updated { profile, .. } => profile.contains_key(&MemberField::Email),
        TeamHappening::Joined { .. }
        | TeamHappening::RoleChanged { role: MemberRole::Admin }
        | TeamHappening::CalledOff { .. }
        | TeamHappening::AccessExpiring { .. }
        | TeamHappening::AccessExpired { .. } => false,
    }
}

/// True if the member was an admin when the bridge looked last, and is none by the list. The list may be older than that look, and what
/// takes an admin away would seem to take none.
fn lacks_admin(list: &StaffList, state: &TeamMember) -> bool {
    let known = state.observed().filter(|known| known.is_active_admin());
    known.is_some_and(|known| !list.staff.iter().any(|one| one.id == known.id && one.is_active_admin()))
}

/// The member's user: by the list of the staff, else as it was seen last, else the one without a key of ours who has the member's
/// address, whom the join adopts.
fn observed(event: &TeamEvent, state: &TeamMember, email: Option<&str>, list: Option<&StaffList>) -> ObservedMember {
    let staff = list.map(|list| &list.staff[..]).unwrap_or_default();
    let by_key = staff.iter().find(|there| there.external_id.as_deref() == Some(event.member.as_str()));
    let known = state.observed();
    let by_id = || staff.iter().find(|there| known.is_some_and(|known| known.id == there.id));
    let is_adopted =
        |there: &&Colleague| there.external_id.is_none() && email.is_some_and(|email| there.has_address(email));
    let by_address = || staff.iter().find(is_adopted);
    let there = by_key.or_else(by_id).or(known).or_else(by_address);
    there.cloned().map_or(ObservedMember::Absent { is_listed: true, is_contested: false }, ObservedMember::Present)
}
