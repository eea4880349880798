//! The policy of the watch: the section `watch` of the configuration, as the core reads it.
//!
//! Before: [`super::severity`]. After: every question of [`super`].

use std::time::Duration;

use super::severity::Severities;

/// The keys `watch.*` (docs/OPERATIONS.md).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchPolicy {
    /// Longest age of the knowledge of a pump.
    pub interval: Duration,
    /// Time that a loss must last.
    pub disconnect_after: Duration,
    /// Number of polls in a row that must see a loss.
    pub disconnect_polls: u32,
    /// Time that a return must last.
    pub reconnect_after: Duration,
    /// Number of polls in a row that must see a return.
    pub reconnect_polls: u32,
    /// Age beyond which a pump's state is stale. Podero refreshes every 5 to 15 minutes.
    pub stale_after: Duration,
    /// Time after a break in which stale state is forgiven: the manufacturer's state must have had the time to come.
    pub warm_up: Duration,
    /// Time after which a pump that was seen but never connected is a notice of its own.
    pub never_connected_after: Duration,
    /// Number of losses within `flap_window` that make one alert that the pump is unstable.
    pub flap_losses: u32,
    /// Time within which `flap_losses` are counted.
    pub flap_window: Duration,
    /// Share of a manufacturer's (or region's) pumps that must go at once for an outage.
    pub outage_share: f64,
    /// Number of pumps that must go at once for an outage.
    pub outage_min: u32,
    /// Severity of each cause.
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

    /// The longest time between two looks at a pump that is no break; counts from before a break say nothing about after it. Two
    /// intervals, since polls are spread and one may fail, or twice the `usual` time where the budget is too small for the
    /// interval; at least a minute, which is a slow answer and no blindness.
    pub fn break_after(&self, usual: Duration) -> Duration {
        (self.interval.max(usual) * 2).max(Duration::from_mins(1))
    }
}
