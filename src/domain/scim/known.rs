//! A user as it is shown: the record, and the facts of its member with all that is under way.
//!
//! What waits for a person does not count: a removal that needs an approval leaves the user active, and a join that was refused does
//! not make it so. The bridge's own attributes say what is the matter.
//!
//! Before: [`crate::store`] reads record, facts and events. After: [`super::reply`] shows it, [`super::change`] compares with it.

use uuid::Uuid;

use super::super::event::EventState;
use super::super::names::names;
use super::super::team::{
    MemberFacts, MemberField, MemberId, MemberRole, RoleFact, TeamEvent, TeamHappening, TeamMember,
};
use super::super::verdict::Reason;
use super::super::{EventId, Timestamp};
use super::document::{ScimDocument, ScimEntry};
use super::group::ScimGroup;
use super::record::{ScimRecord, SeenFacts, derived_id};
use super::terms::RoleFrom;

/// All that the bridge knows of one user.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownUser {
    /// The member that the user is.
    pub member: MemberId,
    /// The stored part; `None`: no request has named the user.
    pub record: Option<ScimRecord>,
    /// The knowledge about the member.
    pub state: TeamMember,
    /// Events that have not ended well.
    pub open: Vec<OpenTeamEvent>,
}

/// An event of a member that is under way, or waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenTeamEvent {
    /// The event.
    pub event: TeamEvent,
    /// Pending, waiting or parked.
    pub state: EventState,
    /// The reason for which it is parked.
    pub reason: Option<String>,
}

names! {
    /// The state of a user (`state` among the bridge's own attributes).
    pub enum ScimState {
        /// Podero holds what the user shows.
        Settled = "settled",
        /// It is being carried out.
        Pending = "pending",
        /// A removal or demotion waits for an approval.
        NeedsApproval = "needs_approval",
        /// An event was refused, and waits for a person.
        Refused = "refused",
    }
}

/// A user as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ScimView {
    /// The bridge's id.
    pub id: String,
    /// The attributes.
    pub document: ScimDocument,
    /// The groups.
    pub groups: Vec<ScimGroup>,
    /// True if a demotion waits for an approval: the user is in `admin` until then.
    pub awaits_demotion: bool,
    /// The state.
    pub state: ScimState,
    /// The reason for which the newest event waits for a person.
    pub reason: Option<String>,
    /// The time of its making.
    pub created: Timestamp,
    /// The time of the last change, by whomever.
    pub modified: Timestamp,
}

impl ScimView {
    /// True if the user is in the group and nothing waits by which it would leave.
    pub fn is_in_for_good(&self, group: ScimGroup) -> bool {
        self.groups.contains(&group) && !(group == ScimGroup::Admin && self.awaits_demotion)
    }
}

impl KnownUser {
    /// A user of whom nothing is known yet.
    pub fn new(member: MemberId) -> Self {
        Self { member, record: None, state: TeamMember::default(), open: Vec::new() }
    }

    /// The bridge's id.
    pub fn id(&self) -> String {
        self.record.as_ref().map_or_else(|| derived_id(&self.member), |record| record.id.clone())
    }

    /// The facts with all that is under way.
    pub fn facts(&self) -> MemberFacts {
        let mut under_way: Vec<&OpenTeamEvent> =
            self.open.iter().filter(|open| open.state != EventState::Parked).collect();
        under_way.sort_by_key(|open| open.event.stamp());
        under_way.iter().fold(self.state.facts.clone(), |facts, open| facts.merge(&open.event).facts)
    }

    /// The role of the member's user at Podero, as far as it is known.
    pub(super) fn observed(&self) -> Option<MemberRole> {
        self.state.observed_role()
    }

    /// The parked events that would still change something.
    fn parked(&self, facts: &MemberFacts) -> Vec<&OpenTeamEvent> {
        let counts = |open: &&OpenTeamEvent| {
            open.state == EventState::Parked && {
                let merged = facts.merge(&open.event);
                merged.accepted > 0 && merged.facts != *facts
            }
        };
        self.open.iter().filter(counts).collect()
    }

    /// True if a removal waits for an approval.
    pub(super) fn awaits_removal(&self, facts: &MemberFacts) -> bool {
        self.parked(facts).iter().any(|open| is_braked(open) && open.event.happening == TeamHappening::Left)
    }

    /// True if a join is parked: a retry would let the user in.
    pub(super) fn has_parked_join(&self, facts: &MemberFacts) -> bool {
        self.parked(facts).iter().any(|open| matches!(open.event.happening, TeamHappening::Joined { .. }))
    }

    /// True if a demotion waits for an approval.
    pub(super) fn awaits_demotion(&self, facts: &MemberFacts) -> bool {
        let is_demotion = |open: &&&OpenTeamEvent| {
            is_braked(open) && open.event.happening == TeamHappening::RoleChanged { role: MemberRole::Staff }
        };
        self.parked(facts).iter().any(|open| is_demotion(&open))
    }

    /// The newest moment that anything known of the member stands at.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        let facts = &self.state.facts;
        let of_facts = [facts.joined, facts.left, facts.role.map(|fact| fact.stamp)];
        let of_facts = of_facts.into_iter().flatten().chain(facts.profile.values().map(|fact| fact.stamp));
        let of_facts = of_facts.chain(facts.expires.as_ref().map(|fact| fact.stamp)).map(|stamp| stamp.time);
        let of_events = self.open.iter().map(|open| open.event.stamp().time);
        of_facts.chain(of_events).max()
    }

    /// The facts once these events have happened too.
    pub(super) fn facts_after(&self, happenings: &[TeamHappening], time: Timestamp) -> MemberFacts {
        let after = |facts: MemberFacts, happening: &TeamHappening| {
            let event = TeamEvent {
                // Later than any other of its time.
                id: EventId(Uuid::max()),
                member: self.member.clone(),
                time,
                received_at: time,
                effective_at: None,
                happening: happening.clone(),
            };
            facts.merge(&event).facts
        };
        happenings.iter().fold(self.facts(), after)
    }

    /// The record, unless it is deleted.
    pub(super) fn live(&self) -> Option<&ScimRecord> {
        self.record.as_ref().filter(|record| record.deleted.is_none())
    }

    /// The user as it is shown; `None`: there is none.
    pub fn view(&self, role_from: RoleFrom) -> Option<ScimView> {
        let facts = self.facts();
        let mut document = self.document(&facts)?;
        document.active = facts.is_active();
        let seen = SeenFacts::of(&facts, self.observed());
        if role_from == RoleFrom::Roles && self.shows_role_of_facts(&document, &facts, &seen) {
            let value = seen.role.map(MemberRole::name).unwrap_or_default().to_owned();
            document.roles = vec![ScimEntry { value, ..ScimEntry::default() }];
        }
        let is_in = |group: &ScimGroup| self.is_in(*group, &facts, role_from);
        let groups = ScimGroup::ALL.into_iter().filter(is_in).collect();
        let (state, reason) = self.condition(&facts);
        let newest = self.newest();
        let (created, modified) = match &self.record {
            Some(record) => (record.created, newest.map_or(record.modified, |at| at.max(record.modified))),
            None => {
                let joined = facts.joined.map(|stamp| stamp.time).or(newest);
                let created = joined.unwrap_or(Timestamp::from_micros(0));
                (created, newest.map_or(created, |at| at.max(created)))
            }
        };
        let awaits_demotion = self.awaits_demotion(&facts);
        Some(ScimView { id: self.id(), document, groups, awaits_demotion, state, reason, created, modified })
    }

    /// True if the facts say the role, and not the attribute `roles` as it was written.
    fn shows_role_of_facts(&self, document: &ScimDocument, facts: &MemberFacts, seen: &SeenFacts) -> bool {
        match (self.live(), document.active) {
            // A join keeps a higher role that somebody already has at Podero, whatever the request said.
            (Some(record), true) if record.role_from == RoleFrom::Roles => {
                seen.role.is_some() && document.role(RoleFrom::Roles).ok() != seen.role
            }
            (Some(record), true) => record.seen.as_ref().is_none_or(|known| known.role != seen.role),
            (Some(record), false) => {
                is_demoted(record, facts, RoleFrom::Roles) && document.role(RoleFrom::Roles) == Ok(MemberRole::Admin)
            }
            (None, is_active) => is_active && seen.role.is_some(),
        }
    }

    /// The attributes as they were written, with what was changed by something else since; `None`: there is no user.
    fn document(&self, facts: &MemberFacts) -> Option<ScimDocument> {
        let seen = SeenFacts::of(facts, None);
        let Some(record) = self.live() else {
            // Of one who was deleted the facts decide, unless the deletion is what waits for an approval.
            let is_shown = self.record.is_none() || (facts.is_active() && !self.awaits_removal(facts));
            let email = seen.email.filter(|_| is_shown)?;
            let linked = self.record.as_ref().and_then(ScimRecord::external_id);
            return Some(ScimDocument {
                user_name: email.clone(),
                external_id: Some(linked.unwrap_or(self.member.as_str()).to_owned()),
                given_name: seen.given_name,
                family_name: seen.family_name,
                emails: vec![ScimEntry::work(email)],
                ..ScimDocument::default()
            });
        };
        let mut document = record.document.clone();
        for field in MemberField::ALL {
            if is_overruled(record, facts, field) {
                document.take_fact(field, facts.text(field));
            }
        }
        Some(document)
    }

    /// True if the provider's word puts the user into `admin`, and no newer fact has made them staff.
    pub(super) fn is_admin_by_word(record: &ScimRecord, facts: &MemberFacts, role_from: RoleFrom) -> bool {
        record.in_admin == Some(true) && !(role_from == RoleFrom::Groups && is_demoted(record, facts, role_from))
    }

    /// True if the user is in a group.
    pub(super) fn is_in(&self, group: ScimGroup, facts: &MemberFacts, role_from: RoleFrom) -> bool {
        let role = facts.role_over(self.observed()).filter(|_| facts.is_active());
        let record = self.live();
        match group {
            ScimGroup::Admin if role_from == RoleFrom::Groups && facts.is_active() => role == Some(MemberRole::Admin),
            ScimGroup::Admin => record.is_some_and(|record| Self::is_admin_by_word(record, facts, role_from)),
            ScimGroup::Staff => {
                let said = record.and_then(|record| record.in_staff);
                said.unwrap_or(role == Some(MemberRole::Staff) && role_from == RoleFrom::Groups)
            }
        }
    }

    fn condition(&self, facts: &MemberFacts) -> (ScimState, Option<String>) {
        let parked = self.parked(facts);
        let newest = parked.iter().max_by_key(|open| open.event.stamp());
        let reason = newest.and_then(|open| open.reason.clone());
        let state = match newest {
            _ if self.open.iter().any(|open| open.state != EventState::Parked) => ScimState::Pending,
            Some(open) if is_braked(open) => ScimState::NeedsApproval,
            Some(_) => ScimState::Refused,
            None => ScimState::Settled,
        };
        (state, reason)
    }

    /// The e-mail address of the facts, for comparison with a `userName`.
    pub fn email(&self) -> Option<String> {
        self.facts().text(MemberField::Email).map(str::to_owned)
    }
}

/// True if a fact counts instead of what the record holds of a field: it is newer, or it is not what it was to become by the record.
fn is_overruled(record: &ScimRecord, facts: &MemberFacts, field: MemberField) -> bool {
    let is_newer = facts.profile.get(&field).is_some_and(|fact| fact.stamp.time > record.said_at(field));
    let is_as_seen = || record.seen.as_ref().is_some_and(|seen| seen.text(field) == facts.text(field));
    is_newer || (facts.is_active() && !is_as_seen())
}

/// True if a fact that is newer than the record's word says that the member is staff. The other way round no fact gives a role to
/// a member that is not active. A record that was written while the other attribute counted is not judged by it.
fn is_demoted(record: &ScimRecord, facts: &MemberFacts, role_from: RoleFrom) -> bool {
    let is_newer = |fact: RoleFact| fact.role == MemberRole::Staff && fact.stamp.time > record.role_said_at();
    record.role_from == role_from && facts.role.is_some_and(is_newer)
}

fn is_braked(open: &OpenTeamEvent) -> bool {
    open.reason.as_deref() == Some(Reason::TeamBrake.name())
}
