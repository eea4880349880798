//! One delivery of the inbound queue, and the intake that takes deliveries.
//!
//! Before: [`super::consumer`]. After: [`crate::inbound`] takes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One delivery from the inbound queue, free of lapin's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// Property `content_type`.
    pub content_type: Option<String>,
    /// Property `content_encoding`.
    pub content_encoding: Option<String>,
    /// Headers as texts: strings and byte arrays as UTF-8, numbers and booleans in decimal and words, timestamps as RFC 3339.
    /// Empty values are left out, and so are tables and arrays of the broker's own (`x-…`). A value that has no text form, or
    /// is not UTF-8, has a [`char::REPLACEMENT_CHARACTER`] in its text: it is there, but unreadable.
    pub headers: BTreeMap<String, String>,
    /// Property `message_id`.
    pub message_id: Option<String>,
    /// The exchange to which it was published.
    pub exchange: String,
    /// The key with which it was published.
    pub routing_key: String,
    /// The properties by which its sender may describe it.
    pub properties: Properties,
    /// `true` if the broker may have delivered it before.
    pub redelivered: bool,
}

/// Properties by which the sender of a message may describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the properties of AMQP 0-9-1 of the same names")]
pub struct Properties {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The number as it was sent. AMQP says seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// The result of offering a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeResult {
    /// A row is committed: the delivery is acked.
    Stored,
    /// The store is away: the delivery stays un-acked and is offered again, with back-off.
    NotNow,
}

/// The receiver of deliveries.
pub trait Intake: Send + Sync + 'static {
    /// A delivery that is held, with all that is decided about it once, however often it is offered: its time of arrival, for
    /// example.
    type Held: Send + Sync;

    /// Holds a delivery. Called in the order of arrival.
    fn hold(&self, frame: Frame) -> Self::Held;

    /// `true` if the appliers are saturated: they need the machine rather than more events.
    fn is_saturated(&self) -> bool {
        false
    }

    /// Makes one delivery durable. Called for up to [`super::BrokerSettings::prefetch`] deliveries at once, first in the order
    /// of arrival. May be dropped at any await point (shutdown, a lost connection); the delivery then comes again.
    fn offer(&self, held: &Self::Held) -> impl Future<Output = IntakeResult> + Send;

    /// Holds a delivery and offers it once.
    fn take(&self, frame: Frame) -> impl Future<Output = IntakeResult> + Send {
        async {
            let held = self.hold(frame);
            self.offer(&held).await
        }
    }
}
