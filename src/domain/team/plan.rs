//! The next step for one event of one member: `next(&MemberWork) -> MemberNext`.
//!
//! As for customers there is no log of steps: `next` compares the desired facts with the user that Podero holds and names one
//! call; it is asked again after every reply, and if anything is in doubt the next call is a look-up. Only a join creates.
//!
//! Before: [`super::member`]. After: [`super::verdict`] judges the reply, [`super::policy`] the proposal.

use super::super::Timestamp;
use super::super::audit::AuditEntry;
use super::super::brake::Clearance;
use super::super::identity::Actor;
use super::super::plan::Policy;
use super::super::verdict::Reason;
use super::call::{Colleague, MemberCall, MemberChanges, is_same_address};
use super::event::{MemberField, MemberId, MemberRole, Profile, TeamEvent, TeamHappening, is_address};
use super::member::{MergedMember, ObservedMember, TeamMember};
use super::policy::{AccessLoss, LossKind, PolicyRefusal, Proposal};

/// One claimed event of a member with everything that is needed to decide about it.
#[derive(Debug, Clone)]
pub struct MemberWork {
    /// The event at the head of the lane.
    pub event: TeamEvent,
    /// The time at which it was accepted, or last retried by hand: waiting for a join counts from here.
    pub tries_from: Timestamp,
    /// Failures in a row that count against it.
    pub failures: u32,
    /// The time at which the present row of failures began.
    pub failing_since: Option<Timestamp>,
    /// The member as of now.
    pub member: TeamMember,
    /// The member's facts with the event's merged in.
    pub merged: MergedMember,
    /// Whether the policy, or a person, cleared it.
    pub clearance: Clearance,
    /// True if the policy has allowed the proposal of this claim.
    pub is_allowed: bool,
    /// True if a list read in this claim showed who holds the e-mail address.
    pub has_listed: bool,
    /// The role in which the member was seen at Podero in this claim.
    pub role_seen: Option<MemberRole>,
    /// Of a leave: the e-mail addresses of the joins that it overtakes, in order. One of them may have been about to adopt a user.
    pub overtaken: Vec<String>,
    /// The actor behind the event.
    pub actor: Actor,
    /// Rows of the audit log that are not durable yet.
    pub acts: Vec<AuditEntry>,
    /// True if the claim before this one was interrupted.
    pub was_interrupted: bool,
}

impl MemberWork {
    /// Puts a claimed event and its member together.
    pub fn new(event: TeamEvent, tries_from: Timestamp, member: TeamMember) -> Self {
        let merged = member.facts.merge(&event);
        Self {
            event,
            tries_from,
            failures: 0,
            failing_since: None,
            member,
            merged,
            clearance: Clearance::Unasked,
            is_allowed: false,
            has_listed: false,
            role_seen: None,
            overtaken: Vec::new(),
            actor: Actor::Bridge,
            acts: Vec::new(),
            was_interrupted: false,
        }
    }

    /// The member's id.
    pub fn id(&self) -> &MemberId {
        &self.event.member
    }

    /// The user whom a leave removes although a look-up by our key does not find one: a join that came before it was about to adopt
    /// that user. Of users without a key, the one whom the join had found, else the one with the join's address.
    pub(super) fn adopted<'a>(&self, staff: &'a [Colleague]) -> Option<&'a Colleague> {
        let own = self.id().as_str();
        let free = || staff.iter().filter(|one| one.external_id.as_deref().is_none_or(|key| key == own));
        let known = self.member.podero.adopting.and_then(|user| free().find(|one| one.id == user));
        known.or_else(|| self.overtaken.iter().find_map(|email| free().find(|one| one.has_address(email))))
    }

    /// True if a leave has to look for such a user.
    pub(super) fn may_be_adopted(&self) -> bool {
        self.event.happening.is_removal() && (self.member.podero.adopting.is_some() || !self.overtaken.is_empty())
    }
}

/// The answer of [`next`].
#[derive(Debug, Clone, PartialEq)]
pub enum MemberNext {
    /// Make this call, then ask again.
    Call(MemberCall),
    /// Ask the policy whether this may be done, then ask again; if not, the event is parked.
    Ask(Proposal),
    /// There is nothing more to do.
    End(MemberEnd),
}

/// The way in which an event of a member ends.
#[derive(Debug, Clone, PartialEq)]
pub enum MemberEnd {
    /// Podero holds everything that the event wanted.
    Applied,
    /// A newer event had already said otherwise, or there is nothing to do.
    Superseded,
    /// The member has not joined yet: wait for the join.
    WaitsForJoin,
    /// A person is needed.
    Refused(PolicyRefusal),
}

/// The next step towards the event's facts.
pub fn next(work: &MemberWork, policy: &Policy, now: Timestamp) -> MemberNext {
    if !policy.team.is_enabled {
        let detail = "team.enabled is off; enable it, then retry";
        return MemberNext::End(MemberEnd::Refused(PolicyRefusal::new(Reason::TeamDisabled, detail)));
    }
    if is_address(work.id().as_str()) {
        let detail = "the id is an e-mail address, which changes, and names another person one day";
        return MemberNext::End(MemberEnd::Refused(PolicyRefusal::new(Reason::MemberIdIsAddress, detail)));
    }
    if work.merged.accepted == 0 {
        return MemberNext::End(MemberEnd::Superseded);
    }
    match &work.event.happening {
        TeamHappening::CalledOff { .. } | TeamHappening::AccessExpiring { .. } => MemberNext::End(MemberEnd::Applied),
        happening if happening.is_removal() => remove(work, policy),
        _ if !work.merged.facts.is_active() => MemberNext::End(MemberEnd::WaitsForJoin),
        TeamHappening::Joined { .. }
        | TeamHappening::Updated { .. }
        | TeamHappening::RoleChanged { .. }
        | TeamHappening::Left
        | TeamHappening::AccessExpired { .. } => provide(work, policy, now),
    }
}

/// Brings Podero to hold what the event says of the member.
fn provide(work: &MemberWork, policy: &Policy, now: Timestamp) -> MemberNext {
    let facts = &work.merged.facts;
    let is_join = matches!(work.event.happening, TeamHappening::Joined { .. });
    // One whom a try before has invited, or who is at Podero anyway, is let in until the end, which follows at once.
    let is_over = is_join && facts.expires_at().is_some_and(|at| at <= now);
    let is_there = work.member.observed().is_some();
    if (is_there || !is_over)
        && let Err(refused) = policy.team.entrance(&work.event, facts)
    {
        return MemberNext::End(MemberEnd::Refused(refused));
    }
    let email = facts.text(MemberField::Email).map(str::to_owned);
    match &work.member.podero.user {
        ObservedMember::Unknown => find(work),
        // Only a join invites: one whom a person removed at Podero is not invited again by a correction.
        ObservedMember::Absent { .. } if !is_join => {
            let detail = "Podero has no user with this member's id; a later join invites the member again";
            MemberNext::End(MemberEnd::Refused(PolicyRefusal::new(Reason::MemberMissing, detail)))
        }
        ObservedMember::Absent { is_listed: false, .. } => MemberNext::Call(MemberCall::ListStaff { email }),
        ObservedMember::Absent { .. } if is_over => MemberNext::End(MemberEnd::Superseded),
        ObservedMember::Absent { is_contested: true, .. } => {
            let detail = "Podero keeps the e-mail address taken although it lists no user with it";
            MemberNext::End(MemberEnd::Refused(PolicyRefusal::new(Reason::EmailTaken, detail)))
        }
        ObservedMember::Absent { .. } => create(work),
        ObservedMember::Present(observed) => change(work, observed),
    }
}

fn find(work: &MemberWork) -> MemberNext {
    MemberNext::Call(MemberCall::FindMember { member: work.id().clone() })
}

fn create(work: &MemberWork) -> MemberNext {
    let facts = &work.merged.facts;
    let role = facts.role_over(None).unwrap_or(MemberRole::Staff);
    let loss = facts.expires_at().map(|at| AccessLoss { kind: LossKind::End, at: Some(at) });
    let proposal = Proposal { loss, makes_admin: role == MemberRole::Admin, ..proposal(work) };
    let create = MemberCall::CreateMember { member: work.id().clone(), role, profile: facts.profile() };
    ask_or(work, proposal, create)
}

/// The change that the event asks for, in one write. Only a join and a change of role touch the role.
fn change(work: &MemberWork, observed: &Colleague) -> MemberNext {
    let facts = &work.merged.facts;
    let observed_role = observed.role.of_member();
    let role = facts.role_over(observed_role).filter(|role| match &work.event.happening {
        // A join demotes no one, whatever an event before it has set.
        TeamHappening::Joined { .. } => Some(*role) > observed_role,
        TeamHappening::RoleChanged { .. } => Some(*role) != observed_role,
        TeamHappening::Updated { .. }
        | TeamHappening::Left
        | TeamHappening::CalledOff { .. }
        | TeamHappening::AccessExpiring { .. }
        | TeamHappening::AccessExpired { .. } => false,
    });
    let profile: Profile = facts
        .profile()
        .into_iter()
        .filter(|(field, value)| !observed.profile.get(field).is_some_and(|shown| is_shown_so(*field, shown, value)))
        .collect();
    let external_id = observed.external_id.is_none().then(|| work.id().clone());
    let changes_email = profile.contains_key(&MemberField::Email);
    let changes = MemberChanges { profile, role, external_id };
    let end = work.event.happening.expiry_said().is_some().then(|| facts.expires_at()).flatten();
    // Of a user whom this join invited, the policy has allowed it with the invitation.
    let is_invited_so = work.member.podero.invited_by == Some(work.event.id);
    let is_new_end = end.is_some() && end != work.member.facts.expires_at() && !is_invited_so;
    let loss = match (role, end.filter(|_| is_new_end)) {
        (Some(MemberRole::Staff), _) => Some(AccessLoss { kind: LossKind::Demotion, at: None }),
        (Some(MemberRole::Admin) | None, Some(at)) => Some(AccessLoss { kind: LossKind::End, at: Some(at) }),
        (Some(MemberRole::Admin) | None, None) => None,
    };
    let proposal = Proposal { loss, makes_admin: role == Some(MemberRole::Admin), changes_email, ..proposal(work) };
    if changes.is_empty() && proposal.is_harmless() {
        return MemberNext::End(MemberEnd::Applied);
    }
    if changes_email && !work.has_listed {
        return MemberNext::Call(MemberCall::ListStaff { email: changes.profile.get(&MemberField::Email).cloned() });
    }
    if !work.is_allowed && !proposal.is_harmless() {
        return MemberNext::Ask(proposal);
    }
    if changes.is_empty() {
        return MemberNext::End(MemberEnd::Applied);
    }
    MemberNext::Call(MemberCall::UpdateMember { user: observed.id, changes })
}

/// True if a shown value is the desired one. Of an e-mail address the case makes no difference, also to Podero.
pub(super) fn is_shown_so(field: MemberField, shown: &str, desired: &str) -> bool {
    match field {
        MemberField::Email => is_same_address(shown, desired),
        MemberField::FirstName | MemberField::LastName => shown == desired,
    }
}

/// Takes the member's access away.
fn remove(work: &MemberWork, policy: &Policy) -> MemberNext {
    match &work.member.podero.user {
        ObservedMember::Unknown => find(work),
        ObservedMember::Absent { is_listed: false, .. } if work.may_be_adopted() => {
            MemberNext::Call(MemberCall::ListStaff { email: None })
        }
        ObservedMember::Absent { .. } => MemberNext::End(MemberEnd::Applied),
        ObservedMember::Present(observed) => {
            let is_expiry = matches!(work.event.happening, TeamHappening::AccessExpired { .. });
            let kind = if is_expiry { LossKind::Expired } else { LossKind::Leave };
            let proposal = Proposal { loss: Some(AccessLoss { kind, at: None }), ..proposal(work) };
            let delete = MemberCall::DeleteMember { user: observed.id, soft: policy.team.deletes_softly };
            ask_or(work, proposal, delete)
        }
    }
}

fn ask_or(work: &MemberWork, proposal: Proposal, call: MemberCall) -> MemberNext {
    if work.is_allowed || proposal.is_harmless() { MemberNext::Call(call) } else { MemberNext::Ask(proposal) }
}

/// The member as the policy sees it, without a change.
fn proposal(work: &MemberWork) -> Proposal {
    let observed = work.member.observed();
    let known = [&work.member.facts, &work.merged.facts].map(|facts| facts.text(MemberField::Email));
    let emails = known.into_iter().chain([observed.and_then(Colleague::email)]);
    Proposal {
        member: work.id().clone(),
        emails: emails.flatten().map(str::to_owned).collect(),
        user: observed.map(|observed| observed.id),
        role: work.member.observed_role(),
        loss: None,
        makes_admin: false,
        changes_email: false,
    }
}
