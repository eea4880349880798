//! One file for each section of the configuration: its keys, its values, and which of them fit together.
//!
//! Each reads its keys from [`crate::config`]'s reader; a section that is `None` is off, or a problem was noted.
//!
//! Before: [`crate::config`]'s keys, rules and reader. After: [`crate::config::Config`].

pub(super) mod admin;
pub(super) mod amqp;
pub(super) mod audit;
pub(super) mod churn;
pub(super) mod console;
pub(super) mod http;
pub(super) mod log;
pub(super) mod moving;
pub(super) mod onboarding;
pub(super) mod outbound;
pub(super) mod podero;
pub(super) mod reconnect;
pub(super) mod retry;
pub(super) mod sandbox;
pub(super) mod scim;
pub(super) mod source;
pub(super) mod store;
pub(super) mod team;
pub(super) mod watch;
