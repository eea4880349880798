//! The connection to RabbitMQ: events in, notices out, whatever the broker does in between.
//!
//! Two connections, one for each direction, each kept by a supervisor of its own. So notices still
//! go out while the inbound queue is missing or declared with other arguments, and events still come in while the broker, short
//! of memory or disk, blocks publishers (it blocks the whole connection, acks included). lapin's own recovery is off: a
//! connection that breaks is dropped, and connection, topology, channel, consumer and publisher are made again with back-off,
//! for as long as it takes.
//!
//! In: a delivery is acked after [`Intake::offer`] said [`IntakeResult::Stored`], never before; one that could not be stored
//! stays un-acked and is offered again. Out: [`Publish::publish`] says [`Published::Confirmed`] only for a persistent,
//! mandatory publish that the broker has confirmed and not returned.
//!
//! Operators of RabbitMQ 4 should set `delivery-limit` to -1 on the inbound queue by a policy: a lost connection counts
//! as a delivery there, and the default limit of 20 would drop what twenty broken connections left un-acked. It is not
//! an argument of our declaration because 3.x refuses the value.
//!
//! It must never spawn (lapin runs its own input and output), decide what a delivery means, drop or reject one, or
//! show a URL with its credentials.
//!
//! Before: [`crate::domain::retry`], [`crate::clock`]. After: [`crate::inbound`] and [`crate::outbound`], by [`Intake`] and
//! [`Publish`].

mod client;
mod consumer;
mod delivery;
mod error;
mod handle;
mod link;
mod outgoing;
mod publisher;
mod settings;
mod state;
mod supervisor;
mod tending;
mod topology;

pub use client::Broker;
pub use delivery::{Frame, Intake, IntakeResult, Properties};
pub use error::BrokerError;
pub use link::shown;
pub use outgoing::{OutgoingNotice, Publish, Published};
pub use settings::BrokerSettings;
pub use state::{LinkState, Status};
