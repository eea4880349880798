//! The state that both connections share: their status, and the handle by which notices go out.
//!
//! Before: [`super::settings`]. After: [`super::supervisor`] keeps it.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::handle::PublishHandle;
use super::settings::BrokerSettings;
use crate::clock::Clock;

/// The direction that a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkRole {
    Publisher,
    Consumer,
}

impl LinkRole {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Consumer => "consumer",
        }
    }
}

/// State of the two connections, for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The connection on which notices go out.
    pub publisher: LinkState,
    /// The connection on which events come in.
    pub consumer: LinkState,
}

impl Status {
    /// `true` if a publish has a chance now.
    pub fn connected(&self) -> bool {
        self.publisher == LinkState::Connected
    }

    /// `true` if the inbound queue is being consumed now.
    pub fn consuming(&self) -> bool {
        self.consumer == LinkState::Connected
    }
}

/// One of the two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Set up and serving.
    Connected,
    /// Not serving, or a fault of the topology keeps events or notices away; tried again by itself.
    Disconnected {
        /// The last reason, for an operator: names the broker's address and the object in question, no credentials.
        why: String,
    },
}

/// The state of a broker and its settings.
pub(super) struct BrokerShared {
    pub(super) settings: BrokerSettings,
    pub(super) clock: Clock,
    /// Interval between two checks of exchanges, queues and bindings.
    pub(super) tend_every: Duration,
    pub(super) status: Mutex<Status>,
    /// The handle, while there is a connection that takes publishes.
    pub(super) handle: Mutex<Option<PublishHandle>>,
}

impl BrokerShared {
    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no code panics while it holds the status")
    }

    pub(super) fn handle(&self) -> MutexGuard<'_, Option<PublishHandle>> {
        self.handle.lock().expect("no code panics while it holds the handle")
    }

    /// Notes the state of a connection, and returns the one before.
    pub(super) fn note(&self, role: LinkRole, state: LinkState) -> LinkState {
        let mut status = self.status();
        let noted = match role {
            LinkRole::Publisher => &mut status.publisher,
            LinkRole::Consumer => &mut status.consumer,
        };
        std::mem::replace(noted, state)
    }
}
