//! One occurrence of trouble: its id, and the fields of its trigger and its resolve.
//!
//! Before: [`super::severity`]. After: [`super::pump_record`], [`super::outage`] and [`super::visibility`] fill in the rest.

use serde_json::{Value, json};
use uuid::Uuid;

use super::severity::Severity;
use crate::domain::notice::{Notice, Topic, notice_id};
use crate::domain::{NAMESPACE, Timestamp};

/// One occurrence of trouble, from its trigger to its resolve. Both carry all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occurrence<'a> {
    pub(super) id: Uuid,
    pub(super) dedup_key: &'a str,
    pub(super) cause: &'a str,
    pub(super) severity: Severity,
    pub(super) since: Timestamp,
    pub(super) detected_at: Timestamp,
}

impl Occurrence<'_> {
    /// The fields that all alerts have; the caller adds those about a heat pump.
    pub(super) fn trigger(self, summary: &str) -> Value {
        self.told("trigger", summary, Value::Null)
    }

    pub(super) fn resolve(self, summary: &str, resolution: &str) -> Value {
        self.told("resolve", &format!("Resolved ({resolution}): {summary}"), json!(resolution))
    }

    fn told(self, action: &str, summary: &str, resolution: Value) -> Value {
        json!({
            "action": action,
            "dedup_key": self.dedup_key,
            "occurrence_id": self.id,
            "severity": self.severity.name(),
            "cause": self.cause,
            "summary": summary,
            "customer_id": Value::Null,
            "podero_user_id": Value::Null,
            "building_id": Value::Null,
            "heat_pump_id": Value::Null,
            "manufacturer": Value::Null,
            "model": Value::Null,
            "since": self.since,
            "detected_at": self.detected_at,
            "reconnect_url": Value::Null,
            "resolution": resolution,
        })
    }
}

/// A notice about an occurrence; `order_key` keeps trigger and resolve in order.
pub(super) fn occurrence_notice(
    occurrence: Uuid,
    topic: Topic,
    order_key: String,
    subject: String,
    now: Timestamp,
    data: Value,
) -> Notice {
    Notice { id: notice_id(&occurrence.to_string(), topic), topic, order_key, subject, time: now, data }
}

/// The id of one occurrence: the same trouble of the same thing since the same moment has the same id.
pub(super) fn occurrence_of(thing: &str, since: Timestamp) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{thing}/{}", since.micros()).as_bytes())
}
