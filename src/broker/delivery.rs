//! One delivery of the inbound queue, and the place where deliveries go.
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
    /// Headers as texts: strings and byte arrays as UTF-8, numbers and booleans in decimal and words, timestamps as
    /// RFC 3339. Empty values are left out, and so are tables and arrays of the broker's own (`x-…`). A value that has
    /// no text form, or is not UTF-8, has a [`char::REPLACEMENT_CHARACTER`] in its text: it was said, and cannot be read.
    pub headers: BTreeMap<String, String>,
    /// Property `message_id`.
    pub message_id: Option<String>,
    /// The exchange it was published to.
    pub exchange: String,
    /// The key it was published with.
    pub routing_key: String,
    /// Properties that say something of what it is.
    pub properties: Properties,
    /// Whether the broker may have delivered it before.
    pub redelivered: bool,
}

/// Properties of a message by which its sender may say what it is.
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
    /// As it was sent. AMQP says seconds since 1970.
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

/// Where deliveries go.
pub trait Intake: Send + Sync + 'static {
    /// A delivery in our hands, with all that is decided about it once, however often it is offered: when it came, say.
    type Held: Send + Sync;

    /// Takes a delivery into our hands. Called in the order of arrival.
    fn hold(&self, frame: Frame) -> Self::Held;

    /// Whether the appliers are saturated: they need the machine rather than more events.
    fn is_saturated(&self) -> bool {
        false
    }

    /// Makes one delivery durable. Called for up to [`super::BrokerSettings::prefetch`] deliveries at once, first in the order of
    /// arrival. May be dropped at any await point (shutdown, a lost connection); the delivery then comes again.
    fn offer(&self, held: &Self::Held) -> impl Future<Output = IntakeResult> + Send;

    /// Holds a delivery and offers it once.
    fn take(&self, frame: Frame) -> impl Future<Output = IntakeResult> + Send {
        async {
            let held = self.hold(frame);
            self.offer(&held).await
        }
    }
}
