//! The policy of the watch: the section `watch` of the configuration, as the core reads it.
//!
//! Before: [`super::severity`]. After: every question of [`super`].

use std::time::Duration;

use super::severity::Severities;

/// The keys `watch.*` (docs/OPERATIONS.md).
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
