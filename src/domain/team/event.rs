//! The events that upstream reports about one member of the team, in this product's own terms.
//!
//! The inbox keeps the serialised form, so fields are only ever added, and readers tolerate missing ones.
//!
//! Before: [`crate::inbound`] makes it. After: [`super::member`] merges it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::event::EventKind;
use super::super::names::names;
use super::super::{EventId, ID_CHARS_MAX, Stamp, Timestamp, text};

/// The beginning of a member's lane. It has a tab, which no id has: no customer's lane begins so.
pub const MEMBER_LANE: &str = "member\t";

/// The type of the bridge's own event: a member's access ends. No sender can name it.
pub const ACCESS_EXPIRED: &str = "team.access_expired";

/// The type of the bridge's own event: a member's access ends soon. No sender can name it.
pub const ACCESS_EXPIRING: &str = "team.access_expiring";

/// The utility's own name for a member of its team; Podero calls it `external_user_id`. 1 to 128 printable characters. One that is
/// an address ([`is_address`]) is refused by the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(String);

impl MemberId {
    /// Accepts 1 to [`ID_CHARS_MAX`] printable characters, in the one form of an id; `None` otherwise.
    pub fn accept(text: &str) -> Option<Self> {
        text::id(text, ID_CHARS_MAX).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The member's lane.
    pub fn lane(&self) -> String {
        format!("{MEMBER_LANE}{}", self.0)
    }
}

impl std::fmt::Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// True if an id looks like an e-mail address: a person's address changes, and would name another person one day.
pub fn is_address(id: &str) -> bool {
    id.contains(['@', '\u{ff20}', '\u{fe6b}'])
}

/// The member whose lane it is; `None`: it is a customer's.
pub fn member_of_lane(lane: &str) -> Option<&str> {
    lane.strip_prefix(MEMBER_LANE)
}

names! {
    /// The role of a member, the lesser first.
    pub enum MemberRole {
        /// Manages end-users and devices.
        Staff = "staff",
        /// Does everything, and alone manages staff and admins.
        Admin = "admin",
    }

    /// A field of a member's person, by its name at Podero and upstream.
    pub enum MemberField {
        Email = "email",
        FirstName = "first_name",
        LastName = "last_name",
    }
}

/// Values by field.
pub type Profile = BTreeMap<MemberField, String>;

/// What an update says of the end of a member's access.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryChange {
    /// Nothing.
    #[default]
    Unsaid,
    /// It has no end.
    Never,
    /// It ends then.
    At(Timestamp),
}

impl ExpiryChange {
    /// The new end, if one was said: `Some(None)` is none.
    pub fn said(self) -> Option<Option<Timestamp>> {
        match self {
            Self::Unsaid => None,
            Self::Never => Some(None),
            Self::At(at) => Some(Some(at)),
        }
    }
}

/// One event in the life of one member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeamEvent {
    /// The bridge's own id; sorts by arrival.
    pub id: EventId,
    /// The member that it concerns. Events of one member share a lane.
    pub member: MemberId,
    /// The time at which it happened, by the sender's clock.
    pub time: Timestamp,
    /// The time at which it arrived.
    pub received_at: Timestamp,
    /// The time at which it takes effect, if the sender announced it in advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_at: Option<Timestamp>,
    /// The content of the event.
    pub happening: TeamHappening,
}

/// The content of an event about a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TeamHappening {
    /// A person joined the team; the profile has an e-mail address always.
    Joined {
        /// The role to begin with. One who has a higher role at Podero keeps it.
        role: MemberRole,
        /// The person.
        profile: Profile,
        /// The end of the access.
        #[serde(default)]
        expires: ExpiryChange,
    },
    /// Something known about the member was corrected.
    Updated {
        /// Fields that were sent.
        #[serde(default)]
        profile: Profile,
        /// The end of the access.
        #[serde(default)]
        expires: ExpiryChange,
    },
    /// The member has another role.
    RoleChanged {
        /// The new role.
        role: MemberRole,
    },
    /// The member left.
    Left,
    /// An announced join, leave or change of role is cancelled. Waits for nothing and makes no calls.
    CalledOff {
        /// The kind under which the change was announced, and is called off.
        sent: SentAs,
    },
    /// The bridge's own event: the access ends at this moment, which is some days ahead.
    AccessExpiring {
        /// The end that was set.
        expires_at: Timestamp,
    },
    /// The bridge's own event: the access has ended at this moment.
    AccessExpired {
        /// The end that was set.
        expires_at: Timestamp,
    },
}

/// The kind of an event that may be announced. Each is a change of its own: an announced leave replaces no announced join, since a
/// fixed term has both, and the cancellation of one does not call the other off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named for the kinds")]
pub enum SentAs {
    Joined,
    RoleChanged,
    Left,
}

impl SentAs {
    fn kind(self) -> EventKind {
        match self {
            Self::Joined => EventKind::MemberJoined,
            Self::RoleChanged => EventKind::MemberRoleChanged,
            Self::Left => EventKind::MemberLeft,
        }
    }

    fn change(self) -> &'static str {
        match self {
            Self::Joined => "join",
            Self::RoleChanged => "role",
            Self::Left => "leave",
        }
    }
}

impl TeamEvent {
    /// The event's position in its member's order. An event announced in advance counts from the day on which it takes effect.
    pub fn stamp(&self) -> Stamp {
        Stamp { time: self.effective_at.map_or(self.time, |at| at.max(self.time)), event: self.id }
    }

    /// The position in its member's order of what it says: an announced event was said before its day.
    pub fn said(&self) -> Stamp {
        Stamp { time: self.time, event: self.id }
    }

    /// Removes the person; ids, positions and what happened stay.
    #[must_use]
    pub fn without_person(mut self) -> Self {
        match &mut self.happening {
            TeamHappening::Joined { profile, .. } | TeamHappening::Updated { profile, .. } => profile.clear(),
            TeamHappening::RoleChanged { .. }
            | TeamHappening::Left
            | TeamHappening::CalledOff { .. }
            | TeamHappening::AccessExpiring { .. }
            | TeamHappening::AccessExpired { .. } => {}
        }
        self
    }

    /// True if it was sent before the day on which it takes effect.
    pub fn is_announced(&self) -> bool {
        self.effective_at.is_some_and(|at| at > self.time)
    }

    /// The name of the change: of two events about the same change, the later one replaces the other while that waits for its
    /// day. `None`: it replaces nothing.
    pub fn change(&self) -> Option<&'static str> {
        match &self.happening {
            TeamHappening::Joined { .. } => Some(SentAs::Joined.change()),
            TeamHappening::RoleChanged { .. } => Some(SentAs::RoleChanged.change()),
            TeamHappening::Left => Some(SentAs::Left.change()),
            TeamHappening::CalledOff { sent } => Some(sent.change()),
            TeamHappening::Updated { .. }
            | TeamHappening::AccessExpiring { .. }
            | TeamHappening::AccessExpired { .. } => None,
        }
    }
}

impl TeamHappening {
    /// The kind under which a sender sends it; `None`: it is the bridge's own, and no sender can send it.
    pub fn kind(&self) -> Option<EventKind> {
        match self {
            Self::Joined { .. } => Some(EventKind::MemberJoined),
            Self::Updated { .. } => Some(EventKind::MemberUpdated),
            Self::RoleChanged { .. } => Some(EventKind::MemberRoleChanged),
            Self::Left => Some(EventKind::MemberLeft),
            Self::CalledOff { sent } => Some(sent.kind()),
            Self::AccessExpiring { .. } | Self::AccessExpired { .. } => None,
        }
    }

    /// The fixed public name of this type of event.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Joined { .. }
            | Self::Updated { .. }
            | Self::RoleChanged { .. }
            | Self::Left
            | Self::CalledOff { .. } => self.kind().map_or("", EventKind::name),
            Self::AccessExpiring { .. } => ACCESS_EXPIRING,
            Self::AccessExpired { .. } => ACCESS_EXPIRED,
        }
    }

    /// True if it takes the member's access away.
    pub fn is_removal(&self) -> bool {
        matches!(self, Self::Left | Self::AccessExpired { .. })
    }

    /// The end of the access that it sets; `Some(None)`: it removes the end.
    pub fn expiry_said(&self) -> Option<Option<Timestamp>> {
        match self {
            Self::Joined { expires, .. } | Self::Updated { expires, .. } => expires.said(),
            Self::RoleChanged { .. }
            | Self::Left
            | Self::CalledOff { .. }
            | Self::AccessExpiring { .. }
            | Self::AccessExpired { .. } => None,
        }
    }
}
