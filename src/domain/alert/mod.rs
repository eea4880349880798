//! The alerts: the types that pumps, fleets and the bridge's own visibility share. Each file below this one answers one question,
//! as a pure function over what was observed so far.
//!
//! | file | asks |
//! |---|---|
//! | [`mod@knowledge`] | what do the signals of one answer mean? |
//! | [`missing`] | when does it count as gone? |
//! | [`pump_record`] | is that news about this heat pump? hysteresis, flapping, resolve |
//! | [`outage`] | did many go at once? |
//! | [`visibility`] | can we see at all? |
//! | [`poll_interval`] | when is it looked at next? |
//!
//! An answer that could not be read never reaches these files; one that was read but says nothing is [`Knowledge::Unknown`] and
//! moves no counter. Every trigger has one resolve, because both ids derive from the occurrence.
//!
//! Before: [`crate::podero`] observes. After: the store keeps [`PumpRecord`] and the notices in one transaction.

mod cause;
pub mod knowledge;
pub mod missing;
mod occurrence;
pub mod outage;
mod policy;
pub mod poll_interval;
pub mod pump_record;
pub mod severity;
pub mod visibility;

pub use cause::{Cause, Resolution};
pub use knowledge::{
    CLOCK_AHEAD_MAX, ConnectionStatus, Doubt, Knowledge, Looked, Loss, Observation, is_ahead, knowledge,
};
pub use missing::Shrunk;
pub use outage::{FleetMember, Looks, Outage, Outages, Scope};
pub use policy::WatchPolicy;
pub use pump_record::{DiffContext, OpenAlert, PumpChange, PumpRecord, dedup_key, diff, miss, retire, retire_unseen};
pub use severity::{Season, Severities, Severity};
pub use visibility::{BLIND_DEDUP_KEY, BlindCause, Blindness, VisibilityChange, look};

#[cfg(test)]
mod tests;
