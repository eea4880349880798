//! What is worth an alert: the words that pumps, fleets and our own blindness share. The questions are asked in the
//! files below this one, each a pure function over what was seen so far.
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
//! What could not be read never reaches these files; what was read but says nothing is [`Knowledge::Unknown`] and moves
//! no counter. Every trigger has one resolve, because both ids derive from the occurrence.
//!
//! Before: [`crate::podero`] observes. After: the store keeps [`PumpRecord`] and the notices in one transaction.

pub mod knowledge;
pub mod missing;
pub mod outage;
pub mod poll_interval;
pub mod pump_record;
pub mod severity;
pub mod visibility;

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

pub use knowledge::{
    CLOCK_AHEAD_MAX, ConnectionStatus, Doubt, Knowledge, Looked, Loss, Observation, is_ahead, knowledge,
};
pub use missing::Shrunk;
pub use outage::{FleetMember, Looks, Outage, Outages, Scope};
pub use pump_record::{DiffContext, OpenAlert, PumpChange, PumpRecord, dedup_key, diff, miss, retire, retire_unseen};
pub use severity::{Season, Severities, Severity};
pub use visibility::{BLIND_DEDUP_KEY, BlindCause, Blindness, VisibilityChange, look};

use super::names::names;
use super::notice::{Notice, Topic, notice_id};
use super::{NAMESPACE, Timestamp};

names! {
    /// Why there is an alert.
    pub enum Cause {
        /// The customer must reconnect the heat pump at the manufacturer.
        NeedsReauthentication = "needs_reauthentication",
        /// Podero reports an error in the device's life cycle.
        LifecycleError = "lifecycle_error",
        /// The manufacturer's state has been too old for too long.
        DeviceOffline = "device_offline",
        /// It was lost again and again: one alert for all of that.
        Unstable = "unstable",
        /// It was never connected, days after it was made.
        NeverConnected = "never_connected",
        /// Many of one manufacturer went at once.
        MakerOutage = "maker_outage",
        /// Many of one region went at once.
        RegionOutage = "region_outage",
        /// The bridge cannot see; the reason is a [`BlindCause`].
        WatchBlind = "watch_blind",
    }

    /// Why the alert of a heat pump was resolved.
    pub enum Resolution {
        /// The pump is connected again.
        Reconnected = "reconnected",
        /// It was connected for the first time.
        Connected = "connected",
        /// Its optimisation was paused: its silence is no loss any more.
        Paused = "paused",
        /// It has not been lost for a whole `watch.flap_window`.
        Stable = "stable",
        /// It stopped coming back: an alert of its own follows.
        Lost = "lost",
        /// Many went at once: the fleet's alert stands for it.
        MergedIntoOutage = "merged_into_outage",
        /// Its owner is no customer any more.
        Churned = "churned",
        /// Its owner left the home.
        Moved = "moved",
        /// It, or its owner, is gone from Podero.
        Removed = "removed",
    }
}

impl Cause {
    /// Those of one heat pump's loss.
    pub const OF_A_LOSS: [Self; 4] =
        [Self::NeedsReauthentication, Self::LifecycleError, Self::DeviceOffline, Self::Unstable];

    /// Those of a fleet's.
    pub const OF_A_FLEET: [Self; 2] = [Self::MakerOutage, Self::RegionOutage];

    /// At most 130 characters, also behind "Resolved (…): ".
    pub fn summary(self) -> &'static str {
        match self {
            Self::NeedsReauthentication => "Heat pump disconnected: the customer must reconnect it at the manufacturer",
            Self::LifecycleError => "Heat pump disconnected: Podero reports an error of the device",
            Self::DeviceOffline => "Heat pump disconnected: no fresh state from the manufacturer",
            Self::Unstable => "Heat pump unstable: its connection comes and goes",
            Self::NeverConnected => "Heat pump never connected: its onboarding is not finished",
            Self::MakerOutage => "Many heat pumps of one manufacturer disconnected at once",
            Self::RegionOutage => "Many heat pumps of one region disconnected at once",
            Self::WatchBlind => "The bridge cannot see",
        }
    }
}

impl From<Loss> for Cause {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::NeedsReauthentication => Self::NeedsReauthentication,
            Loss::LifecycleError => Self::LifecycleError,
            Loss::DeviceOffline => Self::DeviceOffline,
        }
    }
}

/// `watch.*` (contract §4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchPolicy {
    /// How old the knowledge of a pump may get.
    pub interval: Duration,
    /// A loss must last at least this long…
    pub disconnect_after: Duration,
    /// …and be seen by this many polls in a row.
    pub disconnect_polls: u32,
    /// A return must last at least this long…
    pub reconnect_after: Duration,
    /// …and be seen by this many polls in a row.
    pub reconnect_polls: u32,
    /// State older than this is no state. Podero refreshes every 5 to 15 minutes.
    pub stale_after: Duration,
    /// Old state is forgiven for this long after a pump was not watched: the manufacturer's state must have had the
    /// time to come.
    pub warm_up: Duration,
    /// A pump that was not connected for so long after it was seen first is a notice of its own.
    pub never_connected_after: Duration,
    /// As many losses…
    pub flap_losses: u32,
    /// …within this time are one alert that the pump is unstable.
    pub flap_window: Duration,
    /// This share of a manufacturer's (or region's) pumps…
    pub outage_share: f64,
    /// …and at least so many that go at once are one outage.
    pub outage_min: u32,
    /// How bad each cause is.
    pub severities: Severities,
}

impl WatchPolicy {
    /// The defaults of contract §4, without a heating season.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_mins(10),
        disconnect_after: Duration::from_mins(15),
        disconnect_polls: 3,
        reconnect_after: Duration::from_mins(5),
        reconnect_polls: 2,
        stale_after: Duration::from_hours(2),
        warm_up: Duration::from_mins(30),
        never_connected_after: Duration::from_hours(7 * 24),
        flap_losses: 4,
        flap_window: Duration::from_hours(6),
        outage_share: 0.3,
        outage_min: 20,
        severities: Severities::DEFAULT,
    };

    /// A longer time between two looks at a pump is a break: what was counted before it says nothing about after it.
    /// Two intervals, since polls are spread and one may fail, or twice the `usual` time where the budget is too small
    /// for the interval; no less than a minute, which is a slow answer and no blindness.
    pub fn break_after(&self, usual: Duration) -> Duration {
        (self.interval.max(usual) * 2).max(Duration::from_mins(1))
    }
}

/// One occurrence of trouble, from its trigger to its resolve. Both carry all of it.
#[derive(Debug, Clone, Copy)]
struct Occurrence<'a> {
    id: Uuid,
    dedup_key: &'a str,
    cause: &'a str,
    severity: Severity,
    since: Timestamp,
    detected_at: Timestamp,
}

impl Occurrence<'_> {
    /// The fields that all alerts have; what is about a heat pump is filled in by whoever knows one.
    fn trigger(self, summary: &str) -> Value {
        self.told("trigger", summary, Value::Null)
    }

    fn resolve(self, summary: &str, resolution: &str) -> Value {
        self.told("resolve", &format!("Resolved ({resolution}): {summary}"), json!(resolution))
    }

    fn told(self, action: &str, summary: &str, resolution: Value) -> Value {
        json!({
            "action": action,
            "dedup_key": self.dedup_key,
            "occurrence_id": self.id,
            "severity": self.severity.name(),
            "cause": self.cause,
            "summary": summary,
            "customer_id": Value::Null,
            "podero_user_id": Value::Null,
            "building_id": Value::Null,
            "heat_pump_id": Value::Null,
            "manufacturer": Value::Null,
            "model": Value::Null,
            "since": self.since,
            "detected_at": self.detected_at,
            "reconnect_url": Value::Null,
            "resolution": resolution,
        })
    }
}

/// A notice about an occurrence; `order_key` keeps trigger and resolve in order.
fn occurrence_notice(
    occurrence: Uuid,
    topic: Topic,
    order_key: String,
    subject: String,
    now: Timestamp,
    data: Value,
) -> Notice {
    Notice { id: notice_id(&occurrence.to_string(), topic), topic, order_key, subject, time: now, data }
}

/// Names one occurrence: the same trouble of the same thing since the same moment is the same occurrence.
fn occurrence_of(thing: &str, since: Timestamp) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{thing}/{}", since.micros()).as_bytes())
}

#[cfg(test)]
mod tests;
