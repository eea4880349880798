//! `[watch]` and `[severity]`: when the bridge reports a lost heat pump, and how bad that is.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::alert`] and [`crate::watch`].

use std::time::Duration;

use crate::config::key::{Key, section};
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX, Rule};
use crate::domain::alert::{Cause, Season, Severities, Severity, WatchPolicy};

/// Limit of `watch.region_chars`. A region is no address: the shortest ZIP codes have four characters.
const REGION_CHARS_MAX: u32 = 3;

/// Limit of `watch.flap_losses`. Each loss is remembered for each heat pump, and one that is lost more often within a window is
/// unstable without a doubt.
const FLAP_LOSSES_MAX: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// The watch over the connectivity of every heat pump; see docs/WATCH.md.
    WATCH = "watch" {
        /// Whether connectivity is watched.
        ENABLED: bool = "enabled", rules::flag(), default "true";
        /// Longest interval between two polls of a heat pump.
        INTERVAL: Duration = "interval", rules::duration(SECOND, DAY), default "10m";
        /// Time for which a heat pump must be unreachable before an alert. An alert needs `watch.disconnect_polls` as well.
        DISCONNECT_AFTER: Duration = "disconnect_after", rules::duration(Duration::ZERO, DURATION_MAX), default "15m";
        /// Polls in a row that must find a heat pump unreachable before an alert. An alert needs `watch.disconnect_after` as
        /// well.
        DISCONNECT_POLLS: u32 = "disconnect_polls", rules::whole(1, 1_000), default "3";
        /// Time for which a heat pump must be reachable again before its alert is resolved. That needs `watch.reconnect_polls` as
        /// well.
        RECONNECT_AFTER: Duration = "reconnect_after", rules::duration(Duration::ZERO, DURATION_MAX), default "5m";
        /// Polls in a row that must find a heat pump reachable again before its alert is resolved. That needs
        /// `watch.reconnect_after` as well.
        RECONNECT_POLLS: u32 = "reconnect_polls", rules::whole(1, 1_000), default "2";
        /// Age above which a reading does not count as fresh.
        STALE_AFTER: Duration = "stale_after", rules::duration(SECOND, DURATION_MAX), default "2h";
        /// Time for which old readings are forgiven after a heat pump was not watched.
        WARM_UP: Duration = "warm_up", rules::duration(Duration::ZERO, DURATION_MAX), default "30m";
        /// Time after which a heat pump that was never connected is a notice. It counts from the first poll that saw the heat pump.
        NEVER_CONNECTED_AFTER: Duration = "never_connected_after", rules::duration(Duration::ZERO, DURATION_MAX),
            default "7d";
        /// Losses of connection within `watch.flap_window` that make one *unstable* alert.
        FLAP_LOSSES: u32 = "flap_losses", rules::whole(2, FLAP_LOSSES_MAX), default "4";
        /// Time in which `watch.flap_losses` are counted.
        FLAP_WINDOW: Duration = "flap_window", rules::duration(SECOND, DURATION_MAX), default "6h";
        /// Share of a manufacturer's or a region's heat pumps that must be lost at once for one outage alert instead of many
        /// alerts. An outage needs `watch.outage_min` as well.
        OUTAGE_SHARE: f64 = "outage_share", rules::share(), default "0.3";
        /// Fewest heat pumps that must be lost at once for one outage alert. An outage needs `watch.outage_share` as well.
        OUTAGE_MIN: u32 = "outage_min", rules::whole(1, u32::MAX), default "20";
        /// Leading characters of a ZIP code that make a region, within a country. Regions are watched for outages as
        /// manufacturers are. With 0 they are not.
        REGION_CHARS: u32 = "region_chars", rules::whole(0, REGION_CHARS_MAX), default "0";
        /// Days on which a loss is one severity worse, both included.
        HEATING_SEASON: Option<Season> = "heating_season", rules::season(), default "10-01..04-30";
    }
}

section! {
    /// Severity of each alert.
    SEVERITY = "severity" {
        /// Severity of the alert that a customer must reconnect the heat pump.
        NEEDS_REAUTHENTICATION: Severity = "needs_reauthentication", severity(), default "error";
        /// Severity of the alert that Podero reports an error of the device.
        LIFECYCLE_ERROR: Severity = "lifecycle_error", severity(), default "error";
        /// Severity of the alert that there is no fresh state from the manufacturer.
        DEVICE_OFFLINE: Severity = "device_offline", severity(), default "warning";
        /// Severity of the alert that a connection comes and goes.
        UNSTABLE: Severity = "unstable", severity(), default "warning";
        /// Severity of the notice that an onboarding is not finished.
        NEVER_CONNECTED: Severity = "never_connected", severity(), default "info";
        /// Severity of the alert that many heat pumps of one manufacturer were lost at once.
        MAKER_OUTAGE: Severity = "maker_outage", severity(), default "error";
        /// Severity of the alert that many heat pumps of one region were lost at once.
        REGION_OUTAGE: Severity = "region_outage", severity(), default "error";
        /// Severity of the alert that the bridge cannot watch the heat pumps.
        WATCH_BLIND: Severity = "watch_blind", severity(), default "critical";
    }
}

fn severity() -> Rule<Severity> {
    rules::one_of(Severity::names(), Severity::from_name)
}

fn severity_key(cause: Cause) -> Key<Severity> {
    match cause {
        Cause::NeedsReauthentication => NEEDS_REAUTHENTICATION,
        Cause::LifecycleError => LIFECYCLE_ERROR,
        Cause::DeviceOffline => DEVICE_OFFLINE,
        Cause::Unstable => UNSTABLE,
        Cause::NeverConnected => NEVER_CONNECTED,
        Cause::MakerOutage => MAKER_OUTAGE,
        Cause::RegionOutage => REGION_OUTAGE,
        Cause::WatchBlind => WATCH_BLIND,
    }
}

/// Section `[watch]`.
#[derive(Debug, Clone)]
pub struct Watch {
    /// True if heat pumps are watched at all.
    pub enabled: bool,
    /// Thresholds and severities of the watch; section `[severity]` and `watch.heating_season` are in it.
    pub policy: WatchPolicy,
    /// Characters of a ZIP code that make a region; 0: regions are not watched.
    pub region_chars: u32,
}

pub(in crate::config) fn read(r: &mut Reader) -> Watch {
    let enabled = r.value(&ENABLED);
    let policy = WatchPolicy {
        interval: r.value(&INTERVAL),
        disconnect_after: r.value(&DISCONNECT_AFTER),
        disconnect_polls: r.value(&DISCONNECT_POLLS),
        reconnect_after: r.value(&RECONNECT_AFTER),
        reconnect_polls: r.value(&RECONNECT_POLLS),
        stale_after: r.value(&STALE_AFTER),
        warm_up: r.value(&WARM_UP),
        never_connected_after: r.value(&NEVER_CONNECTED_AFTER),
        flap_losses: r.value(&FLAP_LOSSES),
        flap_window: r.value(&FLAP_WINDOW),
        outage_share: r.value(&OUTAGE_SHARE),
        outage_min: r.value(&OUTAGE_MIN),
        severities: severities(r),
    };
    Watch { enabled, policy, region_chars: r.value(&REGION_CHARS) }
}

fn severities(r: &mut Reader) -> Severities {
    let season = r.value(&HEATING_SEASON);
    let usual = Severities::DEFAULT.in_season(season);
    Cause::ALL.into_iter().fold(usual, |severities, cause| severities.with(cause, r.value(&severity_key(cause))))
}
