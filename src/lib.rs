//! The walk: an event arrives ([`inbound`], which verifies its signature and bounds its body), is translated and committed
//! ([`store`]). It is applied in order per customer ([`apply`]): the pure core ([`domain`]) decides which call comes next, the
//! meaning of an answer, the delay of a retry and the text of an alert; [`podero`] makes the call. Meanwhile the
//! connectivity of every heat pump is polled ([`watch`]). Outgoing events are committed together with the effect, and
//! published after it ([`outbound`], [`broker`]). Operators look in through [`admin`], and with a browser through [`console`]; owners of heat pumps bring them back through [`reconnect`]; [`upkeep`] does the periodic work.
//! Stages meet only in tables: all SQL is in [`store`]. [`app`] puts the parts together, [`cli`] starts them. The
//! [`sandbox`] is a Podero in memory.
//!
//! Before: `main`. After: read the modules floor by floor, as they stand below, and the stages in the order of the walk above; docs/ARCHITECTURE.md draws the picture, and its section 5 says
//! in which file each thing lives.

// The core: decisions as values.
pub mod domain;
// Leaves.
pub mod clock;
pub mod config;
pub mod metrics;
pub mod password;
pub mod permits;
pub mod problem;
pub mod telemetry;
pub mod tls;
// Tools.
pub mod broker;
pub mod listener;
pub mod podero;
pub mod pump;
pub mod store;
// Of two tools, for two stages.
pub mod link_maker;
// Stages.
pub mod admin;
pub mod apply;
pub mod console;
pub mod inbound;
pub mod outbound;
pub mod reconnect;
pub mod replica;
pub mod staff;
pub mod upkeep;
pub mod watch;
// The composition, and what starts it.
pub mod app;
pub mod cli;
// Outside of the bridge: a partner to try against, and its documents for machines.
pub mod sandbox;
pub mod spec;
