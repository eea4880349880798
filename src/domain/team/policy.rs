//! The policy of `[team]`: which change of a member is carried out, which is refused, and for which reason. Pure.
//!
//! | order | reason | refuses |
//! |---|---|---|
//! | 1 | `team_disabled` | everything, while `team.enabled` is off |
//! | 2 | `member_id_is_address` | at the entrance |
//! | 3 | `foreign_email_domain`, `guest_access` | an address outside `team.email_domains`, unless it is a guest's: staff, with an end that is near enough; at the entrance, where the event alone tells it |
//! | 4 | `protected_member` | a demotion, a removal, an end of the access, or another address of one in `team.protected` |
//! | 5 | `admin_not_allowed` | making someone admin, or giving an admin another address, while `team.allow_admins` is off |
//! | 6 | `too_few_admins` | a change that leaves fewer than `team.min_admins` active admins, now or at any end of an access |
//! | 7 | `team_brake` | a removal or demotion beyond `team.removals_max` within `team.removals_window` |
//!
//! [`TeamPolicy::at_entrance`] and `TeamPolicy::entrance` are the third row, [`check`] rows 4 to 6, which need a list of the staff, and the
//! brake is the last.
//!
//! Before: [`super::plan`] makes the proposal. After: [`crate::store`] asks under one lock, and keeps the decision.

use uuid::Uuid;

use super::super::Timestamp;
use super::super::brake::Tally;
use super::super::verdict::Reason;
use super::call::{Colleague, is_same_address};
use super::event::{MemberField, MemberId, MemberRole, TeamEvent, TeamHappening};
use super::member::MemberFacts;
use super::settings::TeamPolicy;
use super::staff_list::StaffList;

/// A refusal of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The reason for which the event is parked.
    pub reason: Reason,
    /// More about it, free of personal data.
    pub detail: String,
}

impl PolicyRefusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// `team.allow_admins` is off, and somebody would become admin.
    pub fn admin_not_allowed() -> Self {
        Self::new(Reason::AdminNotAllowed, "team.allow_admins is off: no event makes anyone admin")
    }
}

/// A change of a member that the policy must allow before it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The member.
    pub member: MemberId,
    /// The e-mail addresses of the member: by the facts before and after, and at Podero.
    pub emails: Vec<String>,
    /// The user at Podero.
    pub user: Option<Uuid>,
    /// The role at Podero.
    pub role: Option<MemberRole>,
    /// The access that the member would lose.
    pub loss: Option<AccessLoss>,
    /// True if the member would become admin.
    pub makes_admin: bool,
    /// True if the member would get another e-mail address at Podero.
    pub changes_email: bool,
}

/// An access that a change takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessLoss {
    /// Its kind.
    pub kind: LossKind,
    /// The moment from which on it is gone; `None`: as soon as it is carried out.
    pub at: Option<Timestamp>,
}

/// The kind of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// The member leaves.
    Leave,
    /// The access of the member has expired.
    Expired,
    /// An admin becomes staff.
    Demotion,
    /// The access of the member gets an end, or another one.
    End,
}

impl LossKind {
    /// True if the brake counts it.
    pub fn is_counted(self) -> bool {
        match self {
            Self::Leave | Self::Demotion => true,
            Self::Expired | Self::End => false,
        }
    }
}

impl Proposal {
    /// True if the policy has nothing to say of it, whatever the staff list says.
    pub fn is_harmless(&self) -> bool {
        self.loss.is_none() && !self.makes_admin && !self.changes_email
    }

    /// True if it may touch one of `team.protected`: something would be taken away.
    fn touches_protected(&self) -> bool {
        self.loss.is_some() || self.changes_email
    }

    /// True if it cannot be judged without a list of the staff that is not too old: the number of admins may fall. Anyone else leaves
    /// although no list can be read.
    pub fn wants_list(&self) -> bool {
        self.loss.is_some() && self.role == Some(MemberRole::Admin)
    }

    /// True if the brake counts it.
    pub fn is_counted(&self) -> bool {
        self.loss.is_some_and(|loss| loss.kind.is_counted())
    }
}

impl TeamPolicy {
    /// Row 3: the address's domain. An event that says nothing of address, role or end of the access is not about it.
    pub(super) fn entrance(&self, event: &TeamEvent, facts: &MemberFacts) -> Result<(), PolicyRefusal> {
        let is_about_it = match &event.happening {
            TeamHappening::Joined { .. } => true,
            TeamHappening::Updated { profile, expires } => {
                profile.contains_key(&MemberField::Email) || expires.said().is_some()
            }
            TeamHappening::RoleChanged { role } => *role == MemberRole::Admin,
            TeamHappening::Left
            | TeamHappening::CalledOff { .. }
            | TeamHappening::AccessExpiring { .. }
            | TeamHappening::AccessExpired { .. } => false,
        };
        let email = facts.text(MemberField::Email).unwrap_or_default();
        if !is_about_it || self.is_of_our_domain(email) {
            return Ok(());
        }
        // An address of another domain may make a guest of a member whose end was never measured.
        let says_address = facts.profile.get(&MemberField::Email).is_some_and(|email| email.stamp == event.stamp());
        let is_measured = says_address || event.happening.expiry_said().is_some();
        let Some(longest) = self.guest_access_max else {
            let detail = "the domain of the e-mail address is not in team.email_domains";
            return Err(PolicyRefusal::new(Reason::ForeignEmailDomain, detail));
        };
        let refused = |detail: &str| Err(PolicyRefusal::new(Reason::GuestAccess, detail));
        let latest = event.time.min(event.received_at).plus(longest);
        match facts.expires_at() {
            _ if facts.role.is_some_and(|fact| fact.role == MemberRole::Admin) => {
                refused("someone of another domain is let in as staff only")
            }
            None => refused("someone of another domain needs an expires_at"),
            // What an earlier event set for the same address was measured by that event.
            Some(at) if at > latest && is_measured => refused("expires_at is further ahead than team.guest_access_max"),
            Some(_) => Ok(()),
        }
    }

    /// The part of row 3 that the event tells by itself, so that its sender can be told at once: of a join everything, of an update
    /// all that does not depend on the end of the access that the member has already.
    pub fn at_entrance(&self, event: &TeamEvent) -> Result<(), PolicyRefusal> {
        let is_known = match &event.happening {
            TeamHappening::Joined { .. } => true,
            TeamHappening::Updated { profile, expires } => {
                profile.contains_key(&MemberField::Email)
                    && (self.guest_access_max.is_none() || expires.said().is_some())
            }
            TeamHappening::RoleChanged { .. }
            | TeamHappening::Left
            | TeamHappening::CalledOff { .. }
            | TeamHappening::AccessExpiring { .. }
            | TeamHappening::AccessExpired { .. } => false,
        };
        if !is_known {
            return Ok(());
        }
        let member = MemberFacts { joined: Some(event.stamp()), ..MemberFacts::default() };
        self.entrance(event, &member.merge(event).facts)
    }

    /// The refusal by the brake, with the numbers behind it.
    pub fn braked(&self, tally: Tally) -> PolicyRefusal {
        let detail = format!(
            "{} members were removed or demoted within team.removals_window, and team.removals_max is {}; see who they are, then \
             approve or skip",
            tally.admitted,
            self.brake.limit(None)
        );
        PolicyRefusal::new(Reason::TeamBrake, detail)
    }

    pub(super) fn is_of_our_domain(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain).to_lowercase();
        let is_in = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(parent) => domain
                .strip_suffix(parent)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|name| !name.is_empty() && !name.starts_with('.')),
            None => domain == *allowed,
        };
        self.email_domains.is_empty() || self.email_domains.iter().any(is_in)
    }

    fn is_protected(&self, proposal: &Proposal, list: &StaffList) -> bool {
        let is_named = |entry: &String| {
            *entry == proposal.member.as_str() || proposal.emails.iter().any(|email| is_same_address(email, entry))
        };
        self.protected.iter().any(is_named) || proposal.user.is_some_and(|user| list.is_bound(user))
    }
}

/// An end of a member's access that is known: scheduled, or decided and not carried out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEnd {
    /// The user at Podero.
    pub user: Uuid,
    /// The moment from which on the access is gone.
    pub at: Timestamp,
}

/// Rows 4 to 6: whether a change may be made, by a list of the staff and all known ends of an access. `now` is the moment at
/// which the lock was taken.
pub fn check(
    policy: &TeamPolicy,
    proposal: &Proposal,
    list: &StaffList,
    ends: &[AccessEnd],
    now: Timestamp,
) -> Result<(), PolicyRefusal> {
    if proposal.touches_protected() && policy.is_protected(proposal, list) {
        let detail = "team.protected names this member: nothing is taken away, and the e-mail address stays";
        return Err(PolicyRefusal::new(Reason::ProtectedMember, detail));
    }
    let is_admin = proposal.role == Some(MemberRole::Admin);
    if !policy.allows_admins && ((proposal.makes_admin && !is_admin) || (proposal.changes_email && is_admin)) {
        if proposal.makes_admin {
            return Err(PolicyRefusal::admin_not_allowed());
        }
        let detail = "team.allow_admins is off: no event changes the e-mail address of an admin";
        return Err(PolicyRefusal::new(Reason::AdminNotAllowed, detail));
    }
    match (proposal.loss, proposal.user) {
        // By the role that a look-up has just shown: of one who is no admin the list may be old.
        (Some(loss), Some(user)) if is_admin => enough_admins(policy, Change { user, loss }, list, ends, now),
        (Some(_) | None, _) => Ok(()),
    }
}

/// A change of one user.
#[derive(Clone, Copy)]
struct Change {
    user: Uuid,
    loss: AccessLoss,
}

/// Compares the number of active admins with the change and without it, at each moment at which it may fall.
fn enough_admins(
    policy: &TeamPolicy,
    change: Change,
    list: &StaffList,
    ends: &[AccessEnd],
    now: Timestamp,
) -> Result<(), PolicyRefusal> {
    let Change { user, loss } = change;
    let gone_at = loss.at.unwrap_or(now).max(now);
    let end_of = |admin: &Colleague| {
        let known = ends.iter().filter(|end| end.user == admin.id).map(|end| end.at.max(now));
        known.min()
    };
    let admins: Vec<(&Colleague, Option<Timestamp>)> =
        list.staff.iter().filter(|colleague| colleague.is_active_admin()).map(|admin| (admin, end_of(admin))).collect();
    let count_at = |moment: Timestamp, end: &dyn Fn(&Colleague, Option<Timestamp>) -> Option<Timestamp>| {
        let is_there =
            |(admin, known): &&(&Colleague, Option<Timestamp>)| end(admin, *known).is_none_or(|at| at > moment);
        u64::try_from(admins.iter().filter(is_there).count()).unwrap_or(u64::MAX)
    };
    // A look-up has just shown that the user is there still: an end that has passed was refused, or is what this change carries out.
    let before = |admin: &Colleague, known: Option<Timestamp>| known.filter(|at| admin.id != user || *at > now);
    let after = |admin: &Colleague, known: Option<Timestamp>| {
        if admin.id == user { Some(gone_at) } else { known }
    };
    let moments = admins.iter().filter_map(|(_, end)| *end).chain([now, gone_at]);
    for moment in moments {
        let (left, unchanged) = (count_at(moment, &after), count_at(moment, &before));
        if left < policy.min_admins && left < unchanged {
            let when = if moment == now { "now".to_owned() } else { format!("from {moment} on") };
            let detail =
                format!("{left} active admins would be left {when}, and team.min_admins is {}", policy.min_admins);
            return Err(PolicyRefusal::new(Reason::TooFewAdmins, detail));
        }
    }
    Ok(())
}
