//! The bridge's knowledge of one member: the facts that upstream sent, and the user that Podero holds.
//!
//! [`MemberFacts`] merge by "newest wins, per fact". A fact becomes ours only once Podero took it, so a refused event changes
//! nothing; one exception: the tombstone of a leave is written before the deletion is asked for.
//!
//! Before: [`super::event`]. After: [`super::plan`] compares the two halves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::customer::Fact;
use super::super::{EventId, Stamp, Timestamp};
use super::call::{Colleague, MemberChanges};
use super::event::{ExpiryChange, MemberField, MemberRole, Profile, TeamEvent, TeamHappening};
use super::unheard::UnheardOfMember;

/// The durable knowledge about one member; kept in the table `members`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TeamMember {
    /// The facts that upstream sent and Podero took.
    pub facts: MemberFacts,
    /// The user that Podero holds, as far as we know.
    pub podero: MemberAtPodero,
    /// Calls that may have changed something unheard, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<UnheardOfMember>,
}

/// The facts about a member upstream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// The newest join.
    #[serde(default)]
    pub joined: Option<Stamp>,
    /// The newest end of the membership: the tombstone that keeps older events from bringing the member back.
    #[serde(default)]
    pub left: Option<Stamp>,
    /// The newest leave by the time at which it was said: it cancels what was announced before it, also for a day after it.
    #[serde(default)]
    pub left_said: Option<Stamp>,
    /// The way in which it ended.
    #[serde(default)]
    pub departure: Option<Departure>,
    /// True from the moment in which the user's deletion was asked for until it is known to be done. Until then the end of the
    /// access stays set, and is carried out when its day comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The role.
    #[serde(default)]
    pub role: Option<RoleFact>,
    /// The person.
    #[serde(default)]
    pub profile: BTreeMap<MemberField, Fact<String>>,
    /// The end of the access; a value of `None` says that there is none.
    #[serde(default)]
    pub expires: Option<Fact<Option<Timestamp>>>,
}

/// The way in which a membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// The member left.
    Left,
    /// The access expired.
    Expired,
}

impl Departure {
    /// Its public name, the `resolution` of the notice.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Expired => "expired",
        }
    }
}

/// A role and the event that set it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoleFact {
    /// The role.
    pub role: MemberRole,
    /// The position of its event.
    pub stamp: Stamp,
    /// True if a join set it: one who has a higher role at Podero keeps that.
    pub is_floor: bool,
}

/// The user that Podero holds of a member, as far as we know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberAtPodero {
    /// The user.
    #[serde(default)]
    pub user: ObservedMember,
    /// The last user that was known.
    #[serde(default)]
    pub departed: Option<Uuid>,
    /// The user without our key whom a join was about to give it, or a leave to remove: a look-up by the key does not find one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopting: Option<Uuid>,
    /// The time at which the user was found to be gone after the membership had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Timestamp>,
    /// The time at which Podero last made the user: a list of the staff that was asked for before cannot show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Timestamp>,
    /// The time until which a change without an answer may be under way: no call about the member is made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<Timestamp>,
    /// The join that invited the user, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invited_by: Option<EventId>,
}

/// Our knowledge of the member's user at Podero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ObservedMember {
    /// Unknown: the next call is a look-up. Every claim begins here.
    #[default]
    Unknown,
    /// A look-up by our key found no user.
    Absent {
        /// True if no user of any role has the e-mail address, by a list read after the look-up; of one who leaves, that no user is
        /// left to be removed.
        is_listed: bool,
        /// True if a create was refused as a duplicate after that.
        is_contested: bool,
    },
    /// The user exists.
    Present(Colleague),
}

/// The result of merging an event's facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergedMember {
    /// The facts after the merge.
    pub facts: MemberFacts,
    /// The number of the event's facts that are the newest.
    pub accepted: usize,
    /// Names of the event's facts that a newer fact had already replaced.
    pub stale: Vec<String>,
    /// The newer facts, each once: a name and an event, never a value.
    pub newer: Vec<String>,
}

impl MemberFacts {
    /// True if the member is active: joined, and not left since.
    pub fn is_active(&self) -> bool {
        self.joined > self.left
    }

    /// The end of the access, if it has one.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires.as_ref().filter(|_| self.is_active() || self.leaving).and_then(|fact| fact.value)
    }

    /// A field's text.
    pub fn text(&self, field: MemberField) -> Option<&str> {
        self.profile.get(&field).map(|fact| fact.value.as_str())
    }

    /// The person.
    pub fn profile(&self) -> Profile {
        self.profile.iter().map(|(field, fact)| (*field, fact.value.clone())).collect()
    }

    /// The role that a user who has `observed` at Podero should have.
    pub fn role_over(&self, observed: Option<MemberRole>) -> Option<MemberRole> {
        let fact = self.role?;
        Some(if fact.is_floor { observed.map_or(fact.role, |observed| observed.max(fact.role)) } else { fact.role })
    }

    /// Merges an event in. The same event twice merges to the same (ties win).
    pub fn merge(&self, event: &TeamEvent) -> MergedMember {
        let stamp = event.stamp();
        let mut merged = MergedMember { facts: self.clone(), ..MergedMember::default() };
        // A leave cancels everything that was announced before it was said, even for a day after it. Something that was announced
        // later, such as the join after a fixed term, is of another membership.
        let is_ahead = event.is_announced() && !event.happening.is_removal();
        let is_cancelled = is_ahead && self.left_said.is_some_and(|said| said > event.said());
        let buried_by = self.left.filter(|left| *left > stamp || is_cancelled);
        match &event.happening {
            _ if buried_by.is_some() => merged.count("membership", buried_by.map(|by| set_at("the leave", by))),
            TeamHappening::Joined { role, profile, expires } => {
                let newer = self.joined.filter(|known| *known > stamp);
                if newer.is_none() {
                    merged.join(*role, *expires, stamp);
                }
                merged.count("membership", newer.map(|by| set_at("the join", by)));
                merged.person(profile, stamp);
                merged.expiry(*expires, stamp);
            }
            TeamHappening::Updated { profile, expires } => {
                merged.person(profile, stamp);
                merged.expiry(*expires, stamp);
                if profile.is_empty() && *expires == ExpiryChange::Unsaid {
                    merged.accepted = 1;
                }
            }
            TeamHappening::RoleChanged { role } => {
                let newer = self.role.filter(|known| known.stamp > stamp);
                if newer.is_none() {
                    merged.facts.role = Some(RoleFact { role: *role, stamp, is_floor: false });
                }
                merged.count("role", newer.map(|by| set_at("role", by.stamp)));
            }
            TeamHappening::Left => {
                merged.leave(Departure::Left, stamp);
                merged.facts.left_said = self.left_said.max(Some(event.said()));
            }
            // A try before this one may have written the tombstone.
            TeamHappening::AccessExpired { expires_at }
                if self.expires_at() == Some(*expires_at) || self.left == Some(stamp) =>
            {
                merged.leave(Departure::Expired, stamp);
            }
            TeamHappening::AccessExpiring { expires_at } if self.expires_at() == Some(*expires_at) => {
                merged.accepted = 1;
            }
            // A later event has moved or removed the end, or the member has left.
            TeamHappening::AccessExpired { .. } | TeamHappening::AccessExpiring { .. } => {
                let newer = self.expires.as_ref().map(|fact| set_at("expires_at", fact.stamp));
                merged.count("expires_at", Some(newer.unwrap_or_else(|| "no end is set".to_owned())));
            }
            TeamHappening::CalledOff { .. } => merged.accepted = 1,
        }
        merged
    }
}

impl MergedMember {
    /// Counts a fact of the event's; `newer` names the fact that had already replaced it.
    fn count(&mut self, name: &str, newer: Option<String>) {
        match newer {
            None => self.accepted += 1,
            Some(newer) => {
                self.stale.push(name.to_owned());
                if !self.newer.contains(&newer) {
                    self.newer.push(newer);
                }
            }
        }
    }

    /// A new membership begins with nothing of the one before; a join of one who is a member lowers no role.
    fn join(&mut self, role: MemberRole, expires: ExpiryChange, stamp: Stamp) {
        let facts = &mut self.facts;
        if !facts.is_active() {
            let fits = |known: Stamp| facts.left.is_none_or(|left| known > left);
            facts.profile.retain(|_, fact| fits(fact.stamp));
            facts.role = facts.role.filter(|known| fits(known.stamp));
            facts.expires = facts.expires.take().filter(|known| fits(known.stamp));
            if expires == ExpiryChange::Unsaid && facts.expires.is_none() {
                facts.expires = Some(Fact { value: None, stamp });
            }
        }
        facts.joined = Some(stamp);
        facts.departure = None;
        facts.leaving = false;
        let known = facts.role.filter(|known| known.stamp > stamp || known.role >= role);
        facts.role = known.or(Some(RoleFact { role, stamp, is_floor: true }));
    }

    fn person(&mut self, profile: &Profile, stamp: Stamp) {
        for (field, value) in profile {
            let newer = self.facts.profile.get(field).map(|known| known.stamp).filter(|known| *known > stamp);
            if newer.is_none() {
                self.facts.profile.insert(*field, Fact { value: value.clone(), stamp });
            }
            self.count(field.name(), newer.map(|by| set_at(field.name(), by)));
        }
    }

    fn expiry(&mut self, expires: ExpiryChange, stamp: Stamp) {
        let Some(value) = expires.said() else { return };
        let newer = self.facts.expires.as_ref().map(|known| known.stamp).filter(|known| *known > stamp);
        if newer.is_none() {
            self.facts.expires = Some(Fact { value, stamp });
        }
        self.count("expires_at", newer.map(|by| set_at("expires_at", by)));
    }

    /// The membership ends; a later join begins another.
    fn leave(&mut self, departure: Departure, stamp: Stamp) {
        let newer = self.facts.joined.filter(|known| *known > stamp);
        if newer.is_none() {
            self.facts.left = Some(stamp);
            self.facts.departure = Some(departure);
            self.facts.expires = None;
            self.facts.leaving = false;
        }
        self.count("membership", newer.map(|by| set_at("the join", by)));
    }
}

fn set_at(name: &str, by: Stamp) -> String {
    format!("{name} at {} (event {})", by.time, by.event)
}

impl TeamMember {
    /// Prepares for a new claim: each begins with a look-up. A team is small, its events are few, and people change it by hand.
    pub fn begin(&mut self) {
        self.doubt();
    }

    /// The user may exist unseen, or be gone: look up before anything else.
    pub fn doubt(&mut self) {
        self.podero.departed = self.user_id().or(self.podero.departed);
        self.podero.user = ObservedMember::Unknown;
    }

    /// True if the member has ever joined, or had a user at Podero that the bridge knew.
    pub fn was_ever_there(&self) -> bool {
        self.facts.joined.is_some() || self.podero.departed.is_some() || self.user_id().is_some()
    }

    /// Podero's id of the member's user, if known.
    pub fn user_id(&self) -> Option<Uuid> {
        self.observed().map(|observed| observed.id)
    }

    /// The member's user, if it is known to exist.
    pub fn observed(&self) -> Option<&Colleague> {
        match &self.podero.user {
            ObservedMember::Present(observed) => Some(observed),
            ObservedMember::Unknown | ObservedMember::Absent { .. } => None,
        }
    }

    /// The role of the member at Podero, if it is known.
    pub fn observed_role(&self) -> Option<MemberRole> {
        self.observed().and_then(|observed| observed.role.of_member())
    }

    /// The user shows the changes.
    pub fn show(&mut self, changes: &MemberChanges) {
        if let ObservedMember::Present(observed) = &mut self.podero.user {
            observed.profile.extend(changes.profile.clone());
            if let Some(role) = changes.role {
                observed.role = role.into();
            }
            if let Some(id) = &changes.external_id {
                observed.external_id = Some(id.as_str().to_owned());
            }
        }
    }

    /// Removes the person from a member who has left; ids and positions stay.
    #[must_use]
    pub fn without_person(&self) -> Self {
        let facts = MemberFacts { profile: BTreeMap::new(), ..self.facts.clone() };
        let MemberAtPodero { departed, gone_at, .. } = self.podero;
        let podero = MemberAtPodero { departed, gone_at, ..MemberAtPodero::default() };
        Self { facts, podero, unheard: Vec::new() }
    }
}
