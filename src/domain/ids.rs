//! Ids of customers and events, and the position of an event in its customer's order.
//!
//! Before: nothing. After: every file of the core.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;
use super::text;

/// Namespace of every id that is derived rather than drawn (UUIDv5, RFC 9562 §5.5), so that a repeat
/// makes the same id. Itself the UUIDv5 of `podero-bridge` in the DNS namespace.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x2672_9f5d_ea59_5d1b_a7d0_5d46_c4cc_ba58);

/// Limit of an id from outside, in characters: Podero's own id fields show no limit, our index keys do.
pub const ID_CHARS_MAX: usize = 128;

/// The utility's own name for a customer; Podero calls it `external_user_id`. 1 to 128 printable characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomerId(String);

impl CustomerId {
    /// Accepts 1 to [`ID_CHARS_MAX`] printable characters, in the one form of an id (see [`text::id`]); `None` otherwise.
    pub fn accept(text: &str) -> Option<Self> {
        text::id(text, ID_CHARS_MAX).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CustomerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// True if a text may be the id of an event: 1 to [`ID_CHARS_MAX`] characters, none of them invisible. It is stored unchanged:
/// CloudEvents 1.0 compares ids character by character.
pub fn is_printable_id(text: &str) -> bool {
    let count = text.chars().count();
    (1..=ID_CHARS_MAX).contains(&count) && !text.chars().any(text::is_invisible)
}

/// Our own id of an accepted event (UUIDv7: sorts by arrival).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of an event in its customer's order: when it happened, then when it arrived.
///
/// The derived order *is* the contract's rule ("order is by `time`, then arrival").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The time at which it happened (for a future-dated event: at which it takes effect).
    pub time: Timestamp,
    /// Arrival order; also names the event that set a fact.
    pub event: EventId,
}
