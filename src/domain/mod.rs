//! The pure core and its vocabulary: no async, no I/O, no clock, no randomness, no foreign words.
//!
//! Upstream's terms end in [`crate::inbound`], the partner's in [`crate::podero`]; this module has only the nouns of this
//! product. Every decision of the bridge is a function in this module that a test can call with plain values.
//!
//! Before: nothing. After: every other module.

pub mod acts;
pub mod alert;
pub mod audit;
pub mod brake;
pub mod call;
pub mod chain;
pub mod country;
pub mod customer;
pub mod date;
pub mod event;
#[cfg(test)]
mod fixtures;
pub mod identity;
mod ids;
pub mod interruption;
pub mod link;
pub mod names;
pub mod normal;
pub mod notice;
pub mod partner_health;
pub mod plan;
pub mod reconnect;
pub mod rehearsal;
pub mod retry;
pub mod scim;
pub mod session;
pub mod team;
pub mod text;
mod timestamp;
pub mod unheard;
pub mod utf8;
pub mod verdict;
pub mod work;
pub mod zone;

pub use ids::{CustomerId, EventId, ID_CHARS_MAX, NAMESPACE, Stamp, is_printable_id};
pub use timestamp::Timestamp;
