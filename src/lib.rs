//! The walk: an event arrives ([`inbound`]), is verified, translated and committed ([`store`]); it is applied in
//! order per customer ([`apply`]) by asking the pure core ([`domain`]) what to call and what the answer means, and
//! calling Podero ([`podero`]); meanwhile the connectivity of every heat pump is polled ([`watch`]); what the outside
//! should know is committed beside the effect and published ([`outbound`], [`broker`]). Operators look in through
//! [`admin`]; [`upkeep`] does what has to be done from time to time. Stages meet only in tables. [`app`] puts the parts together, [`cli`] starts them, and the
//! [`sandbox`] stands beside: a Podero in memory.
//!
//! Before: `main`. After: read the modules in the order below; docs/ARCHITECTURE.md draws the picture.

// The core: decisions as values.
pub mod domain;
// Leaves.
pub mod clock;
pub mod config;
pub mod metrics;
pub mod problem;
pub mod telemetry;
pub mod tls;
// Tools.
pub mod broker;
pub mod listener;
pub mod podero;
pub mod pump;
pub mod store;
// Stages, in the order of the walk.
pub mod admin;
pub mod apply;
pub mod inbound;
pub mod outbound;
pub mod replica;
pub mod upkeep;
pub mod watch;
// The composition, and what starts it.
pub mod app;
pub mod cli;
// Beside the house.
pub mod sandbox;
pub mod spec;
