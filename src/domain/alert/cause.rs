//! The causes of alerts with their texts, and the ways in which the alert of a heat pump ends.
//!
//! Before: [`crate::domain::names`]. After: [`super::severity`] says how bad each is.

use crate::domain::names::names;

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
        /// The bridge cannot see; the reason is a [`super::BlindCause`].
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
