//! The causes of alerts with their texts, and the ways in which the alert of a heat pump ends.
//!
//! Before: [`crate::domain::names`]. After: [`super::severity`] gives each its severity.

use crate::domain::names::names;

names! {
    /// The cause of an alert.
    pub enum Cause {
        /// The customer must reconnect the heat pump at the manufacturer.
        NeedsReauthentication = "needs_reauthentication",
        /// Podero reports an error in the device's life cycle.
        LifecycleError = "lifecycle_error",
        /// The manufacturer's state has been too old for too long.
        DeviceOffline = "device_offline",
        /// The heat pump was lost several times: one alert for all of the losses.
        Unstable = "unstable",
        /// The heat pump was never connected, days after it was made.
        NeverConnected = "never_connected",
        /// Many heat pumps of one manufacturer went at once.
        MakerOutage = "maker_outage",
        /// Many heat pumps of one region went at once.
        RegionOutage = "region_outage",
        /// The bridge cannot see; the reason is a [`super::BlindCause`].
        WatchBlind = "watch_blind",
    }

    /// The reason for which the alert of a heat pump was resolved.
    pub enum Resolution {
        /// The pump is connected again.
        Reconnected = "reconnected",
        /// The pump was connected for the first time.
        Connected = "connected",
        /// Its optimisation was paused: its silence is no longer a loss.
        Paused = "paused",
        /// The pump has not been lost for a whole `watch.flap_window`.
        Stable = "stable",
        /// The pump stopped coming back: an alert of its own follows.
        Lost = "lost",
        /// Many pumps went at once: the fleet's alert replaces this one.
        MergedIntoOutage = "merged_into_outage",
        /// Its owner is no longer a customer.
        Churned = "churned",
        /// Its owner left the home.
        Moved = "moved",
        /// The pump, or its owner, is gone from Podero.
        Removed = "removed",
    }
}

impl Cause {
    /// The causes of one heat pump's loss.
    pub const OF_A_LOSS: [Self; 4] =
        [Self::NeedsReauthentication, Self::LifecycleError, Self::DeviceOffline, Self::Unstable];

    /// The causes of a fleet's outage.
    pub const OF_A_FLEET: [Self; 2] = [Self::MakerOutage, Self::RegionOutage];

    /// The text of an alert: at most 130 characters, also behind "Resolved (…): ".
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
