//! Stage 1: a delivery arrives, is verified, translated, and committed. One path behind all transports.
//!
//! `Delivery` -> [`signature`] -> `Verified` -> [`reader`] ([`cloudevents`], [`mapping`]) -> [`wire`] -> `Arrival` -> [`inbox`].
//!
//! Before: [`http`], [`amqp`] and [`import`]. After: [`crate::store`].

pub mod amqp;
mod backlog;
pub mod bodies;
mod cells;
pub mod cloudevents;
mod control;
mod delivery;
pub mod explain;
mod held;
pub mod http;
pub mod import;
pub mod inbox;
mod json;
pub mod lines;
pub mod mapping;
pub mod reader;
pub mod refusals;
mod reread;
pub mod scim;
mod sent;
pub mod signature;
pub mod team_wire;
pub mod text;
mod types;
pub mod wire;

pub use backlog::{Backlog, SCHEDULED_MAX, UNREADABLE_MAX};
pub use delivery::Delivery;
pub use held::HeldMessage;
pub use inbox::{Answers, Inbox};
pub use json::TreeBudget;
pub use reader::{MessageReader, Unreadable};
pub use types::AllowedTypes;
