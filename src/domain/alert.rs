//! When is a heat pump's silence news, and when is our own? Hysteresis as pure functions over what was seen so far.
//!
//! What could not be read never reaches this file; what was read but says nothing is
//! [`Knowledge::Unknown`] and moves no counter. Every trigger has one resolve, because both ids derive
//! from the occurrence.
//!
//! Before: [`crate::podero`] observes. After: the store keeps [`Seen`] and the notices in one transaction.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::notice::{Notice, Topic, notice_id};
use super::standing::{Hold, Standing, Why};
use super::{NAMESPACE, Timestamp};

/// What one answer of Podero says about one heat pump; everything may be missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Podero's id.
    pub heat_pump: Uuid,
    /// The building it stands in.
    pub building: Option<Uuid>,
    /// `device_model.manufacturer`.
    pub manufacturer: Option<String>,
    /// `device_model.model`.
    pub model: Option<String>,
    /// `is_authenticated`: the manufacturer's connection stands.
    pub is_authenticated: Option<bool>,
    /// An action `reauthenticate` is open.
    pub wants_reauthentication: bool,
    /// The list said that something is the matter, but only the detail says what.
    pub wants_detail: bool,
    /// `lifecycle_state` is `error`.
    pub has_lifecycle_error: bool,
    /// `current_state_last_updated_at`, unless it is the year-1 sentinel.
    pub updated_at: Option<Timestamp>,
    /// `deleted_at` is set.
    pub is_deleted: bool,
    /// `authorization_url`: a link that may be sent to the customer as it is.
    pub reconnect_url: Option<String>,
}

/// What an observation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// It is connected and its state is fresh.
    Connected,
    /// It is not, and why.
    Disconnected(Cause),
    /// It was never connected: an onboarding that is not finished is no loss.
    NeverConnected,
    /// Nothing can be said.
    Unknown,
    /// Deleted at Podero.
    Gone,
}

impl Knowledge {
    /// The state's name in metrics and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected(_) => "disconnected",
            Self::NeverConnected => "never_connected",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        }
    }

    /// Every state's name, for gauges that start at zero.
    pub const NAMES: [&'static str; 5] = ["connected", "disconnected", "never_connected", "unknown", "gone"];
}

/// Why a heat pump is disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The customer must reconnect at the manufacturer.
    NeedsReauthentication,
    /// Podero reports an error in the device's life cycle.
    LifecycleError,
    /// The manufacturer's state has been too old for too long.
    DeviceOffline,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::NeedsReauthentication, Self::LifecycleError, Self::DeviceOffline];

    /// The fixed public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeedsReauthentication => "needs_reauthentication",
            Self::LifecycleError => "lifecycle_error",
            Self::DeviceOffline => "device_offline",
        }
    }

    fn severity(self) -> &'static str {
        match self {
            Self::NeedsReauthentication | Self::LifecycleError => "error",
            // Often passes by itself: a router, a power cut, the manufacturer's cloud.
            Self::DeviceOffline => "warning",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::NeedsReauthentication => "Heat pump disconnected: the customer must reconnect it at the manufacturer",
            Self::LifecycleError => "Heat pump disconnected: Podero reports an error of the device",
            Self::DeviceOffline => "Heat pump disconnected: no fresh state from the manufacturer",
        }
    }
}

/// `watch.*` bounds of the hysteresis (contract §4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchPolicy {
    /// A loss must last at least this long…
    pub disconnect_after: Duration,
    /// …and be seen by this many polls in a row.
    pub disconnect_polls: u32,
    /// A return must be seen by this many polls in a row.
    pub reconnect_polls: u32,
    /// State older than this is no state. Podero refreshes every 5 to 15 minutes.
    pub stale_after: Duration,
}

/// Everything the watch remembers of a heat pump; durable, so that a restart forgets no count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Podero's id.
    pub heat_pump: Uuid,
    /// Podero's id of its owner.
    pub user: Uuid,
    /// The utility's id of the owner, where Podero knows it.
    pub customer: Option<String>,
    /// The building it stands in.
    pub building: Option<Uuid>,
    /// Manufacturer, as Podero writes it.
    pub manufacturer: Option<String>,
    /// Model, as Podero writes it.
    pub model: Option<String>,
    /// What the last observation told.
    pub knowledge: Knowledge,
    /// Whether it was ever connected.
    pub was_connected: bool,
    /// Polls in a row that saw it disconnected.
    pub bad_polls: u32,
    /// When the first of them was.
    pub bad_since: Option<Timestamp>,
    /// Polls in a row whose answer did not name it.
    #[serde(default)]
    pub missing_polls: u32,
    /// When the newest answer that named it was asked for.
    #[serde(default)]
    pub named_at: Option<Timestamp>,
    /// Polls in a row that saw it connected while an alert is open.
    pub good_polls: u32,
    /// The open alert.
    pub alert: Option<OpenAlert>,
    /// Watched no more: its home was left, its owner churned, or it is gone. It comes back if Podero shows it
    /// elsewhere, or shows it at all after it was gone.
    pub is_retired: bool,
    /// How often it was written; guards against two writers.
    pub version: i64,
}

/// An alert that was triggered and not yet resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// Names this one loss; trigger and resolve share it.
    pub occurrence: Uuid,
    /// Why.
    pub cause: Cause,
    /// When the loss was first seen.
    pub since: Timestamp,
    /// When it became an alert.
    pub detected_at: Timestamp,
}

/// Why an alert was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The pump is connected again.
    Reconnected,
    /// Its owner is no customer any more.
    Churned,
    /// Its owner left the home.
    Moved,
    /// It, or its owner, is gone from Podero.
    Removed,
}

impl Resolution {
    /// Every resolution.
    pub const ALL: [Self; 4] = [Self::Reconnected, Self::Churned, Self::Moved, Self::Removed];

    /// The public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconnected => "reconnected",
            Self::Churned => "churned",
            Self::Moved => "moved",
            Self::Removed => "removed",
        }
    }
}

/// What the store writes about one heat pump: the new memory and, with it or not at all, its notice.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenChange {
    /// The memory afterwards; `version` is the one it replaces, 0 for a pump seen first.
    pub seen: Seen,
    /// The news, if it is some.
    pub notice: Option<Notice>,
    /// Why the pump is watched no more, if that is what changes. It holds for whatever was seen of it meanwhile.
    pub ended: Option<Resolution>,
}

/// What the signals mean together (Podero API, connectivity; the strongest documented signal first).
///
/// | deleted | authenticated | re-authenticate action | life cycle error | state | → |
/// |---|---|---|---|---|---|
/// | yes | | | | | gone |
/// | | no, or | yes | | | disconnected: needs re-authentication |
/// | | | | yes | | disconnected: life cycle error |
/// | | yes | | | older than `stale_after` | disconnected: device offline |
/// | | yes | | | fresh, or never any | connected |
/// | | not said | | | | unknown |
///
/// A pause of the optimisation (`is_smart_optimization_active`) is not among them: it is no disconnection.
pub fn knowledge(observation: &Observation, now: Timestamp, policy: &WatchPolicy) -> Knowledge {
    let is_stale = observation.updated_at.is_some_and(|at| now.since(at) > policy.stale_after);
    match observation {
        Observation { is_deleted: true, .. } => Knowledge::Gone,
        Observation { is_authenticated: Some(false), .. } | Observation { wants_reauthentication: true, .. } => {
            Knowledge::Disconnected(Cause::NeedsReauthentication)
        }
        Observation { has_lifecycle_error: true, .. } => Knowledge::Disconnected(Cause::LifecycleError),
        Observation { is_authenticated: Some(true), .. } if is_stale => Knowledge::Disconnected(Cause::DeviceOffline),
        Observation { is_authenticated: Some(true), .. } => Knowledge::Connected,
        Observation { is_authenticated: None, .. } => Knowledge::Unknown,
    }
}

/// What is new about a pump and worth telling. `before` is `None` for a pump that was never seen.
pub fn diff(
    before: Option<&Seen>,
    owner: (Uuid, Option<&str>),
    observation: &Observation,
    now: Timestamp,
    policy: &WatchPolicy,
) -> SeenChange {
    let mut seen = before.cloned().unwrap_or_else(|| Seen::first(observation.heat_pump, owner));
    (seen.user, seen.customer) = (owner.0, owner.1.map(str::to_owned));
    let told = knowledge(observation, now, policy);
    // A pump that turns up in another home than the one that was left is somebody's again; and one that was gone from
    // an answer or two, and is shown again, was never gone.
    let is_elsewhere = observation.building.is_some() && observation.building != seen.building;
    let is_back = seen.knowledge == Knowledge::Gone && told != Knowledge::Gone;
    if seen.is_retired && (is_elsewhere || is_back) {
        seen = Seen { version: seen.version, ..Seen::first(observation.heat_pump, owner) };
    }
    if observation.building.is_some() {
        seen.building = observation.building;
    }
    seen.missing_polls = 0;
    seen.named_at = seen.named_at.max(Some(now));
    seen.manufacturer = observation.manufacturer.clone().or(seen.manufacturer);
    seen.model = observation.model.clone().or(seen.model);
    if seen.is_retired {
        return SeenChange { seen, notice: None, ended: None };
    }
    // State that once arrived is proof of a connection, also from before this bridge was installed.
    seen.was_connected |= told == Knowledge::Connected || observation.updated_at.is_some();
    match told {
        Knowledge::Connected => see_connected(seen, now, policy),
        Knowledge::Disconnected(_) if !seen.was_connected => {
            seen.knowledge = Knowledge::NeverConnected;
            SeenChange { seen, notice: None, ended: None }
        }
        Knowledge::Disconnected(cause) => see_disconnected(seen, cause, observation, now, policy),
        Knowledge::Gone => retire(&seen, Resolution::Removed, now),
        Knowledge::NeverConnected | Knowledge::Unknown => {
            seen.knowledge = Knowledge::Unknown;
            SeenChange { seen, notice: None, ended: None }
        }
    }
}

/// Ends the watch of a pump before it began: it was found in a home that was left, and no poll has seen it yet.
pub fn retire_unseen((heat_pump, building): (Uuid, Uuid), owner: (Uuid, Option<&str>), now: Timestamp) -> SeenChange {
    let seen = Seen { building: Some(building), ..Seen::first(heat_pump, owner) };
    retire(&seen, Resolution::Moved, now)
}

/// A complete answer did not name the pump, or its owner. One odd answer is no removal: as many in a row as make a
/// loss are. `None`: a newer answer has named it since this one was asked for, so this one tells nothing.
pub fn miss(seen: &Seen, asked_at: Timestamp, policy: &WatchPolicy) -> Option<SeenChange> {
    if seen.named_at >= Some(asked_at) {
        return None;
    }
    let missing_polls = seen.missing_polls.saturating_add(1);
    if missing_polls >= policy.disconnect_polls {
        return Some(retire(seen, Resolution::Removed, asked_at));
    }
    Some(SeenChange { seen: Seen { missing_polls, ..seen.clone() }, notice: None, ended: None })
}

/// Ends the watch of a pump; an open alert is resolved.
pub fn retire(seen: &Seen, resolution: Resolution, now: Timestamp) -> SeenChange {
    let mut seen = seen.clone();
    let notice = seen.alert.take().map(|alert| resolve(&seen, &alert, resolution, now));
    seen.is_retired = true;
    seen.knowledge = match resolution {
        Resolution::Removed => Knowledge::Gone,
        // It may be there still, but it is nobody's that we watch for.
        Resolution::Churned | Resolution::Moved | Resolution::Reconnected => Knowledge::Unknown,
    };
    (seen.bad_polls, seen.bad_since, seen.good_polls, seen.missing_polls) = (0, None, 0, 0);
    SeenChange { seen, notice, ended: Some(resolution) }
}

fn see_connected(mut seen: Seen, now: Timestamp, policy: &WatchPolicy) -> SeenChange {
    seen.knowledge = Knowledge::Connected;
    (seen.bad_polls, seen.bad_since) = (0, None);
    let mut notice = None;
    if let Some(alert) = seen.alert.clone() {
        seen.good_polls = seen.good_polls.saturating_add(1);
        if seen.good_polls >= policy.reconnect_polls {
            notice = Some(resolve(&seen, &alert, Resolution::Reconnected, now));
            (seen.alert, seen.good_polls) = (None, 0);
        }
    }
    SeenChange { seen, notice, ended: None }
}

fn see_disconnected(
    mut seen: Seen,
    cause: Cause,
    observation: &Observation,
    now: Timestamp,
    policy: &WatchPolicy,
) -> SeenChange {
    seen.knowledge = Knowledge::Disconnected(cause);
    seen.good_polls = 0;
    seen.bad_polls = seen.bad_polls.saturating_add(1);
    let since = *seen.bad_since.get_or_insert(now);
    let lasted = now.since(since) >= policy.disconnect_after && seen.bad_polls >= policy.disconnect_polls;
    if seen.alert.is_some() || !lasted {
        return SeenChange { seen, notice: None, ended: None };
    }
    let occurrence = Uuid::new_v5(&NAMESPACE, format!("occurrence/{}/{}", seen.heat_pump, since.micros()).as_bytes());
    let alert = OpenAlert { occurrence, cause, since, detected_at: now };
    let mut data = alert_data(&seen, &alert, "trigger");
    data["reconnect_url"] = json!(observation.reconnect_url);
    seen.alert = Some(alert);
    let notice = alert_notice(&seen, occurrence, Topic::HeatPumpDisconnected, now, data);
    SeenChange { seen, notice: Some(notice), ended: None }
}

fn resolve(seen: &Seen, alert: &OpenAlert, resolution: Resolution, now: Timestamp) -> Notice {
    let mut data = alert_data(seen, alert, "resolve");
    data["resolution"] = json!(resolution.name());
    data["summary"] = json!(format!("Resolved ({}): {}", resolution.name(), alert.cause.summary()));
    alert_notice(seen, alert.occurrence, Topic::HeatPumpReconnected, now, data)
}

/// Stable per pump and cause, at most 100 characters (ServiceNow's limit is the narrowest).
pub fn dedup_key(heat_pump: Uuid, cause: Cause) -> String {
    format!("heat-pump/{heat_pump}/{}", cause.name())
}

fn alert_data(seen: &Seen, alert: &OpenAlert, action: &str) -> Value {
    json!({
        "action": action,
        "dedup_key": dedup_key(seen.heat_pump, alert.cause),
        "occurrence_id": alert.occurrence,
        "severity": alert.cause.severity(),
        "cause": alert.cause.name(),
        "summary": alert.cause.summary(),
        "customer_id": seen.customer,
        "podero_user_id": seen.user,
        "building_id": seen.building,
        "heat_pump_id": seen.heat_pump,
        "manufacturer": seen.manufacturer,
        "model": seen.model,
        "since": alert.since,
        "detected_at": alert.detected_at,
        "reconnect_url": Value::Null,
        "resolution": Value::Null,
    })
}

fn alert_notice(seen: &Seen, occurrence: Uuid, topic: Topic, now: Timestamp, data: Value) -> Notice {
    Notice {
        id: notice_id(&occurrence.to_string(), topic),
        topic,
        line: format!("heat-pump/{}", seen.heat_pump),
        subject: seen.heat_pump.to_string(),
        time: now,
        data,
    }
}

/// Why the bridge cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindCause {
    /// Podero refuses the bridge: its credentials, its organisation, its address.
    CredentialsRefused,
    /// Podero does not answer, or not with sense.
    PoderoAway,
    /// Podero asks for a pause, and again.
    RateLimited,
}

impl BlindCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::CredentialsRefused, Self::PoderoAway, Self::RateLimited];

    /// The fixed public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CredentialsRefused => "credentials_refused",
            Self::PoderoAway => "podero_away",
            Self::RateLimited => "rate_limited",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::CredentialsRefused => "The bridge cannot see: Podero refuses its credentials or its organisation",
            Self::PoderoAway => "The bridge cannot see: Podero does not answer",
            Self::RateLimited => "The bridge cannot see: Podero asks it to pause",
        }
    }

    /// How long it must last. What is older than the interval is not known any more; but no waiting mends a refusal.
    fn patience(self, interval: Duration) -> Duration {
        match self {
            Self::CredentialsRefused => interval.min(REFUSED_PATIENCE_MAX),
            Self::PoderoAway | Self::RateLimited => interval,
        }
    }
}

/// A refusal that a deployment causes for a moment (a secret that is being rotated) is over by then.
const REFUSED_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// A circuit whose probe has been due for so long says nothing about now. A probe takes at most four deadlines.
const EVIDENCE_MAX: Duration = Duration::from_secs(4 * 60);

/// The ticket's key of blindness.
pub const BLIND_DEDUP_KEY: &str = "watch/blind";

/// The alert that the bridge cannot see, from its trigger to its resolve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blindness {
    /// Names this one blindness; trigger and resolve share it.
    pub occurrence: Uuid,
    /// Why, when it was told.
    pub cause: BlindCause,
    /// When it began.
    pub since: Timestamp,
    /// When it became an alert.
    pub detected_at: Timestamp,
}

/// What is written about the bridge's own sight: the new memory and, with it or not at all, its notice.
#[derive(Debug, Clone, PartialEq)]
pub struct SightChange {
    /// The open alert afterwards.
    pub blindness: Option<Blindness>,
    /// The news.
    pub notice: Notice,
}

/// Whether it is news that the bridge cannot see, or that it can again. `told` is the alert that is open.
///
/// It is blind when nothing has gone through for `watch.interval` and still something keeps every call back; it sees
/// again when a call was answered. Says nothing about any heat pump.
pub fn look(told: Option<&Blindness>, standing: &Standing, now: Timestamp, interval: Duration) -> Option<SightChange> {
    if let Some(blindness) = told {
        return standing.is_clear(now).then(|| {
            let mut alert = blind_data(blindness, "resolve");
            alert["resolution"] = json!("restored");
            alert["summary"] = json!("The bridge sees again: Podero answers");
            SightChange { blindness: None, notice: blind_notice(blindness, Topic::WatchRestored, now, alert) }
        });
    }
    let cause = match standing.hold(now)? {
        Hold::Paused { .. } => BlindCause::RateLimited,
        // Left behind by a bridge that ended: the next probe tells how it stands now.
        Hold::Open(opening) if now.since(opening.until) > EVIDENCE_MAX => return None,
        Hold::Open(opening) => match opening.why {
            Why::Away => BlindCause::PoderoAway,
            Why::Refused { .. } => BlindCause::CredentialsRefused,
        },
    };
    let since = standing.dark_since(now)?;
    if now.since(since) < cause.patience(interval) {
        return None;
    }
    let occurrence = Uuid::new_v5(&NAMESPACE, format!("blind/{}", since.micros()).as_bytes());
    let blindness = Blindness { occurrence, cause, since, detected_at: now };
    let alert = blind_data(&blindness, "trigger");
    let notice = blind_notice(&blindness, Topic::WatchBlind, now, alert);
    Some(SightChange { blindness: Some(blindness), notice })
}

fn blind_data(blindness: &Blindness, action: &str) -> Value {
    json!({
        "action": action,
        "dedup_key": BLIND_DEDUP_KEY,
        "occurrence_id": blindness.occurrence,
        // Nothing else of the bridge's work can be done either.
        "severity": "critical",
        "cause": blindness.cause.name(),
        "summary": blindness.cause.summary(),
        "customer_id": Value::Null,
        "podero_user_id": Value::Null,
        "building_id": Value::Null,
        "heat_pump_id": Value::Null,
        "manufacturer": Value::Null,
        "model": Value::Null,
        "since": blindness.since,
        "detected_at": blindness.detected_at,
        "reconnect_url": Value::Null,
        "resolution": Value::Null,
    })
}

fn blind_notice(blindness: &Blindness, topic: Topic, now: Timestamp, data: Value) -> Notice {
    Notice {
        id: notice_id(&blindness.occurrence.to_string(), topic),
        topic,
        line: "watch".to_owned(),
        subject: "watch".to_owned(),
        time: now,
        data,
    }
}

impl Seen {
    fn first(heat_pump: Uuid, owner: (Uuid, Option<&str>)) -> Self {
        Self {
            heat_pump,
            user: owner.0,
            customer: owner.1.map(str::to_owned),
            building: None,
            manufacturer: None,
            model: None,
            knowledge: Knowledge::Unknown,
            was_connected: false,
            bad_polls: 0,
            bad_since: None,
            missing_polls: 0,
            named_at: None,
            good_polls: 0,
            alert: None,
            is_retired: false,
            version: 0,
        }
    }
}

#[cfg(test)]
mod tests;
