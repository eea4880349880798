//! News for the outside: the body and identity of an outgoing event.
//!
//! A notice carries ids only, never a name or an e-mail address (contract, promise P10), and its id is
//! derived from its cause, so that a repeat of the cause makes the same notice.
//!
//! Before: [`crate::domain::verdict`], [`crate::domain::alert`]. After: the outbox, then [`crate::outbound`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::names::names;
use super::{NAMESPACE, Timestamp};

names! {
    /// The type of an outgoing event; its name is the routing key.
    pub enum Topic {
        /// User and building exist at Podero.
        CustomerProvisioned = "customer.provisioned",
        /// The move is complete at Podero.
        CustomerRelocated = "customer.relocated",
        /// The customer is gone from Podero.
        CustomerOffboarded = "customer.offboarded",
        /// A member of the team has a user at Podero.
        TeamMemberAdded = "team.member_added",
        /// A member's user at Podero shows what an event said.
        TeamMemberChanged = "team.member_changed",
        /// A member's user at Podero is gone.
        TeamMemberRemoved = "team.member_removed",
        /// A member's access ends soon.
        TeamAccessExpiring = "team.access_expiring",
        /// A person is needed.
        EventParked = "event.parked",
        /// An alert was triggered for a heat pump.
        HeatPumpDisconnected = "heat_pump.disconnected",
        /// A heat pump was not connected for days after it was made.
        HeatPumpNeverConnected = "heat_pump.never_connected",
        /// An alert of a heat pump was resolved.
        HeatPumpReconnected = "heat_pump.reconnected",
        /// Many heat pumps of one manufacturer or region went at once.
        FleetOutageStarted = "fleet.outage_started",
        /// Most of an outage's heat pumps are back.
        FleetOutageEnded = "fleet.outage_ended",
        /// The bridge cannot see: Podero is away, slows it down to nothing, or refuses it.
        WatchBlind = "watch.blind",
        /// The bridge can see again.
        WatchRestored = "watch.restored",
    }
}

/// One outgoing event before it is a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable across every re-publishing; derived from the cause.
    pub id: Uuid,
    /// The kind of news.
    pub topic: Topic,
    /// Ordering key: notices of the same key, a customer or a pump, are published in the order in which they were written.
    /// Stored as `line`.
    #[serde(rename = "line")]
    pub order_key: String,
    /// The thing it is about (CloudEvents `subject`): a customer id or a heat pump id.
    pub subject: String,
    /// The moment at which it became true.
    pub time: Timestamp,
    /// The `data` of the outgoing event.
    pub data: Value,
}

/// The id of a notice: the same cause and topic give the same id.
pub fn notice_id(cause: &str, topic: Topic) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("notice/{cause}/{}", topic.name()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back_from_its_name_and_serialises_as_it() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_name(topic.name()), Some(topic));
            assert_eq!(serde_json::to_value(topic).expect("serialises"), topic.name());
        }
    }

    #[test]
    fn the_same_cause_makes_the_same_id_and_another_topic_another() {
        let id = notice_id("e1", Topic::EventParked);
        assert_eq!(id, notice_id("e1", Topic::EventParked));
        assert_ne!(id, notice_id("e1", Topic::CustomerProvisioned));
        assert_ne!(id, notice_id("e2", Topic::EventParked));
    }

    /// The row of a notice has this form: versions of the bridge that run side by side read each other's.
    #[test]
    fn a_stored_notice_keeps_its_form() {
        let stored = serde_json::json!({
            "id": "018f6d0e-0000-7000-8000-000000000001",
            "topic": "watch.blind",
            "line": "watch",
            "subject": "watch",
            "time": "2026-01-02T03:04:05Z",
            "data": {"cause": "podero_away"},
        });
        let notice: Notice = serde_json::from_value(stored.clone()).expect("it is read");
        assert_eq!(notice.order_key, "watch");
        assert_eq!(serde_json::to_value(&notice).expect("serialises"), stored);
    }
}
