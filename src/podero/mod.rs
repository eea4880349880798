//! The partner: one call over HTTP becomes one [`Reply`](crate::domain::call::Reply), always, within a bound.
//!
//! Every request to Podero goes through one budget; every way in which a request can go wrong is a reply, not an error. The
//! line that matters most runs between `Unsent` (surely not received) and `Unknown` (may have happened): a doubtful case is
//! `Unknown`. This room never repeats a call by itself (but for one that was refused for its token, which surely was not
//! carried out), decides nothing about events, and writes no body, token, name or address into a log. A create whose claim has
//! ended is not written to the wire.
//!
//! Before: [`crate::domain::plan`] names the call; [`crate::apply`] and [`crate::watch`] make it.
//! After: [`crate::domain::verdict`] judges the reply.

mod answer;
mod auth;
mod body;
mod calls;
mod check;
mod client;
mod drift;
mod fields;
mod gate;
mod members;
mod moments;
mod partner;
mod pruned;
mod refusal;
mod rehearsed;
mod settings;
mod turnstile;
mod wire;

pub use check::{Checked, Unfit};
pub use client::{Client, Dispatcher, Outlook, STATUSES};
pub use drift::Drift;
pub use gate::ProbePurpose;
pub use partner::{Observe, Partner};
pub use rehearsed::{Rehearsed, RehearsedCall, rehearsed, rehearsed_of_member};
pub use settings::{Error, Settings};
