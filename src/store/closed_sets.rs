//! The closed sets that are stored in columns, in addition to those of the domain.
//!
//! Before: [`crate::domain`]. After: every statement that writes or reads one.

use serde::{Serialize, Serializer};

use crate::domain::event::{EventKind, EventState, Happening, PURGE_DUE, UNKNOWN};
use crate::domain::names::names;
use crate::domain::team::{ACCESS_EXPIRED, ACCESS_EXPIRING, TeamHappening};

/// The kind of a row of the inbox, as its public type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKind {
    /// An event that a sender sent.
    Sent(EventKind),
    /// An event of the bridge's own: the removal of a soft-deleted user is due.
    PurgeDue,
    /// An event of the bridge's own: a member's access ends soon.
    AccessExpiring,
    /// An event of the bridge's own: a member's access has ended.
    AccessExpired,
    /// A message that did not become an event.
    Unreadable,
}

impl RowKind {
    /// The kind of a row with this event of a customer.
    pub fn of(happening: &Happening) -> Self {
        happening.kind().map_or(Self::PurgeDue, Self::Sent)
    }

    /// The kind of a row with this event of a member.
    pub fn of_team(happening: &TeamHappening) -> Self {
        Self::from_name(happening.type_name())
    }

    /// The kind that the sender gave it, if it is a sender's event.
    pub fn sent(self) -> Option<EventKind> {
        match self {
            Self::Sent(kind) => Some(kind),
            Self::PurgeDue | Self::AccessExpiring | Self::AccessExpired | Self::Unreadable => None,
        }
    }

    /// The public name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent(kind) => kind.name(),
            Self::PurgeDue => PURGE_DUE,
            Self::AccessExpiring => ACCESS_EXPIRING,
            Self::AccessExpired => ACCESS_EXPIRED,
            Self::Unreadable => UNKNOWN,
        }
    }

    /// The kind with this public name; any other name belongs to an unreadable message.
    pub fn from_name(name: &str) -> Self {
        match EventKind::from_name(name) {
            Some(kind) => Self::Sent(kind),
            None if name == PURGE_DUE => Self::PurgeDue,
            None if name == ACCESS_EXPIRING => Self::AccessExpiring,
            None if name == ACCESS_EXPIRED => Self::AccessExpired,
            None => Self::Unreadable,
        }
    }
}

impl std::fmt::Display for RowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for RowKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

names! {
    /// The states of events that are not done.
    pub enum OpenState {
        /// Due now or after a back-off.
        Pending = "pending",
        /// A move or an update whose sign-up has not come yet.
        Waiting = "waiting",
        /// Takes effect on its day.
        Scheduled = "scheduled",
        /// A person is needed.
        Parked = "parked",
    }

    /// The state of an outgoing event.
    pub enum NoticeState {
        /// Not confirmed yet.
        Pending = "pending",
        /// Confirmed.
        Published = "published",
        /// No target is configured.
        Kept = "kept",
    }

    /// The state of a bulk retry.
    pub enum RetryState {
        /// It has more to do.
        Running = "running",
        /// It has come to its end.
        Done = "done",
        /// An operator stopped it.
        Stopped = "stopped",
    }

    /// The target of outgoing events.
    pub enum Target {
        /// The outbound exchange.
        Amqp = "amqp",
        /// The signed webhook.
        Webhook = "webhook",
    }
}

impl From<OpenState> for EventState {
    fn from(state: OpenState) -> Self {
        match state {
            OpenState::Pending => Self::Pending,
            OpenState::Waiting => Self::Waiting,
            OpenState::Scheduled => Self::Scheduled,
            OpenState::Parked => Self::Parked,
        }
    }
}

impl Target {
    /// The targets, as the column of outgoing events names them. Without a target, outgoing events are kept under a name that
    /// stands for none.
    pub(super) fn names_of(targets: &[Self]) -> Vec<&'static str> {
        match targets {
            [] => vec!["none"],
            targets => targets.iter().map(|target| target.name()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of earlier versions have these names, and indexes name some of them: a name that changes needs a migration.
    #[test]
    fn the_names_in_columns_stay() {
        assert_eq!(
            EventState::names(),
            ["pending", "scheduled", "waiting", "applied", "superseded", "parked", "skipped"]
        );
        assert_eq!(
            EventKind::names(),
            [
                "customer.signed_up",
                "customer.moved",
                "customer.updated",
                "customer.churned",
                "team.member_joined",
                "team.member_updated",
                "team.member_role_changed",
                "team.member_left"
            ]
        );
        assert_eq!(NoticeState::names(), ["pending", "published", "kept"]);
        assert_eq!(RetryState::names(), ["running", "done", "stopped"]);
        assert_eq!(Target::names(), ["amqp", "webhook"]);
        assert_eq!((PURGE_DUE, UNKNOWN), ("customer.purge_due", "unknown"));
        assert_eq!((ACCESS_EXPIRING, ACCESS_EXPIRED), ("team.access_expiring", "team.access_expired"));
    }
}
