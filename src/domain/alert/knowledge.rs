//! The meaning of the signals of one answer about one heat pump. One table, one match.
//!
//! Before: [`crate::podero`] reads the answer. After: [`super::pump_record`] decides whether it is news.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cause::Cause;
use super::policy::WatchPolicy;
use crate::domain::Timestamp;
use crate::domain::names::names;

/// Limit of the time that a partner's clock may be ahead of ours. Clocks kept by NTP differ by less than a second, and an
/// answer travels for seconds; a clock in another time zone differs by at least fifteen minutes.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_mins(5);

/// The facts that one answer of Podero gives about one heat pump; each may be missing.
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
    /// `is_authenticated`: the connection at the manufacturer is valid.
    pub is_authenticated: Option<bool>,
    /// An action `reauthenticate` is open.
    pub wants_reauthentication: bool,
    /// The list said that something is the matter, but only the detail names it.
    pub wants_detail: bool,
    /// `connection_status`, whose values no page explains.
    pub connection: Option<ConnectionStatus>,
    /// `lifecycle_state` is `error`.
    pub has_lifecycle_error: bool,
    /// `is_smart_optimization_active` is false: a deliberate pause.
    pub is_paused: bool,
    /// `current_state_last_updated_at`, unless it is the year-1 sentinel.
    pub updated_at: Option<Timestamp>,
    /// `deleted_at` is set.
    pub is_deleted: bool,
    /// `authorization_url`: a link that may be sent to the customer as it is.
    pub reconnect_url: Option<String>,
}

impl Observation {
    /// True if Podero asks the owner to log in again at the manufacturer, or shows a page for that: the owner can mend it.
    pub fn asks_owner(&self) -> bool {
        self.is_authenticated == Some(false) || self.wants_reauthentication || self.reconnect_url.is_some()
    }
}

/// The values of `connection_status`; another value counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Podero's words; no page explains them")]
pub enum ConnectionStatus {
    Ok,
    Warning,
    Error,
    Unknown,
}

/// The meaning of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// It is connected and its state is fresh.
    Connected,
    /// It is connected, and its optimisation was paused on purpose: the age of its state does not matter.
    Paused,
    /// The pump is not connected, for this reason.
    Disconnected(Loss),
    /// It was never connected: an onboarding that is not finished is no loss.
    NeverConnected,
    /// Nothing can be said, for this reason.
    Unknown(Doubt),
    /// Deleted at Podero.
    Gone,
}

impl Default for Knowledge {
    /// Of a pump that no poll has seen.
    fn default() -> Self {
        Self::Unknown(Doubt::NotWatched)
    }
}

impl Knowledge {
    /// The state's name in metrics and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Paused => "paused",
            Self::Disconnected(_) => "disconnected",
            Self::NeverConnected => "never_connected",
            Self::Unknown(_) => "unknown",
            Self::Gone => "gone",
        }
    }

    /// Every state's name, for gauges that start at zero.
    pub const NAMES: [&'static str; 6] = ["connected", "paused", "disconnected", "never_connected", "unknown", "gone"];

    /// The reason, for the states that have one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Disconnected(loss) => Some(Cause::from(loss).name()),
            Self::Unknown(doubt) => Some(doubt.name()),
            Self::Connected | Self::Paused | Self::NeverConnected | Self::Gone => None,
        }
    }

    /// True if the connection at the manufacturer is valid.
    pub fn is_up(self) -> bool {
        match self {
            Self::Connected | Self::Paused => true,
            Self::Disconnected(_) | Self::NeverConnected | Self::Unknown(_) | Self::Gone => false,
        }
    }
}

/// The reason for which a heat pump is disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The customer must reconnect at the manufacturer.
    NeedsReauthentication,
    /// Podero reports an error in the device's life cycle.
    LifecycleError,
    /// The manufacturer's state has been too old for too long.
    DeviceOffline,
}

names! {
    /// The reason for which nothing can be said about a heat pump.
    pub enum Doubt {
        /// The answer does not say whether it is authenticated.
        NotSaid = "not_said",
        /// Authenticated, and no state has ever come.
        NoStateYet = "no_state_yet",
        /// Its state is old, but the bridge has not looked for long enough.
        WarmingUp = "warming_up",
        /// Podero calls the connection bad, but fresh state comes over it.
        Contradictory = "contradictory",
        /// The pump is no longer watched, or not yet.
        NotWatched = "not_watched",
        /// Its state is from the future, so its age is unknown.
        ClockAhead = "clock_ahead",
    }
}

/// The results of earlier looks at a heat pump.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// The moment since which it has been looked at without a break.
    pub since: Timestamp,
    /// The newest state that was ever shown, including this one.
    pub state_at: Option<Timestamp>,
}

/// The age of a pump's state, in classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// No state was ever shown.
    Never,
    /// Younger than `stale_after`.
    Fresh,
    /// Older, and there was time to see a new one.
    Stale,
    /// Older, but the bridge has not looked for long enough to say that no new one came.
    Unproven,
    /// Not shown any more, and the last one shown is older.
    Hidden,
    /// The state is from the future.
    Ahead,
}

/// Gives the meaning of all signals together (Podero API, connectivity; the strongest documented signal first).
///
/// | deleted | authenticated | re-authenticate action | life cycle error | paused | `connection_status` | state | → |
/// |---|---|---|---|---|---|---|---|
/// | yes | | | | | | | gone |
/// | | no, or | yes | | | | | disconnected: needs re-authentication |
/// | | | | yes | | | | disconnected: life cycle error |
/// | | not said | | | | | | unknown: not said |
/// | | yes | | | yes | | | paused |
/// | | yes | | | | | more than [`CLOCK_AHEAD_MAX`] ahead | unknown: clock ahead |
/// | | yes | | | | | stale | disconnected: device offline |
/// | | yes | | | | | stale, and not watched for `warm_up` | unknown: warming up |
/// | | yes | | | | | not shown any more, the last one stale | unknown: not said |
/// | | yes | | | | error | fresh | unknown: contradictory |
/// | | yes | | | | error, unknown | never any | unknown: no state yet |
/// | | yes | | | | ok, warning, none | never any | connected |
/// | | yes | | | | ok, warning, unknown, none | fresh | connected |
///
/// A lapse of the authentication counts in a pause as well: when the pause ends, nothing could be steered. No page
/// explains `connection_status`, so it never makes a loss by itself: an `error` with fresh state is a contradiction, and an
/// `error` without state means the same as `unknown`.
pub fn knowledge(observation: &Observation, looked: Looked, now: Timestamp, policy: &WatchPolicy) -> Knowledge {
    use ConnectionStatus as Status;
    let state = freshness(observation.updated_at, looked, now, policy);
    match (observation, observation.connection, state) {
        (Observation { is_deleted: true, .. }, _, _) => Knowledge::Gone,
        (
            Observation { is_authenticated: Some(false), .. } | Observation { wants_reauthentication: true, .. },
            _,
            _,
        ) => Knowledge::Disconnected(Loss::NeedsReauthentication),
        (Observation { has_lifecycle_error: true, .. }, _, _) => Knowledge::Disconnected(Loss::LifecycleError),
        (Observation { is_authenticated: None, .. }, _, _) => Knowledge::Unknown(Doubt::NotSaid),
        (Observation { is_paused: true, .. }, _, _) => Knowledge::Paused,
        (_, _, Freshness::Ahead) => Knowledge::Unknown(Doubt::ClockAhead),
        (_, _, Freshness::Stale) => Knowledge::Disconnected(Loss::DeviceOffline),
        (_, _, Freshness::Unproven) => Knowledge::Unknown(Doubt::WarmingUp),
        (_, _, Freshness::Hidden) => Knowledge::Unknown(Doubt::NotSaid),
        (_, Some(Status::Error), Freshness::Fresh) => Knowledge::Unknown(Doubt::Contradictory),
        (_, Some(Status::Error | Status::Unknown), Freshness::Never) => Knowledge::Unknown(Doubt::NoStateYet),
        (_, Some(Status::Ok | Status::Warning) | None, Freshness::Never) => Knowledge::Connected,
        (_, Some(Status::Ok | Status::Warning | Status::Unknown) | None, Freshness::Fresh) => Knowledge::Connected,
    }
}

/// True if a moment that the partner names is later than its clock can be.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now.plus(CLOCK_AHEAD_MAX)
}

fn freshness(updated_at: Option<Timestamp>, looked: Looked, now: Timestamp, policy: &WatchPolicy) -> Freshness {
    let is_fresh = |at: Timestamp| now.since(at) <= policy.stale_after;
    match (updated_at, looked.state_at) {
        (Some(at), _) if is_ahead(at, now) => Freshness::Ahead,
        (None, None) => Freshness::Never,
        (Some(at), _) | (None, Some(at)) if is_fresh(at) => Freshness::Fresh,
        (None, Some(_)) => Freshness::Hidden,
        (Some(_), _) if now.since(looked.since) < policy.warm_up => Freshness::Unproven,
        (Some(_), _) => Freshness::Stale,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::fixtures::{DAY, at};
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    /// A pump that has been watched for long, is connected, and has fresh state.
    fn fine() -> Observation {
        Observation { is_authenticated: Some(true), updated_at: Some(now()), ..Observation::default() }
    }

    fn now() -> Timestamp {
        at(1_000_000)
    }

    fn check(row: &str, change: impl FnOnce(&mut Observation), expected: Knowledge) {
        let mut observation = fine();
        change(&mut observation);
        let looked = Looked { since: now().minus(DAY), state_at: observation.updated_at };
        assert_eq!(knowledge(&observation, looked, now(), &WatchPolicy::DEFAULT), expected, "{row}");
    }

    fn stale(observation: &mut Observation) {
        observation.updated_at = Some(now().minus(WatchPolicy::DEFAULT.stale_after).minus(MICRO));
    }

    #[test]
    fn deleted_is_gone_whatever_else() {
        check("deleted", |seen| seen.is_deleted = true, Knowledge::Gone);
        check(
            "and not authenticated",
            |seen| (seen.is_deleted, seen.is_authenticated) = (true, Some(false)),
            Knowledge::Gone,
        );
    }

    #[test]
    fn not_authenticated_or_asked_to_be_needs_the_customer() {
        let expected = Knowledge::Disconnected(Loss::NeedsReauthentication);
        check("not authenticated", |seen| seen.is_authenticated = Some(false), expected);
        check("asked to be", |seen| seen.wants_reauthentication = true, expected);
        check(
            "asked, and the rest is not said",
            |seen| (seen.wants_reauthentication, seen.is_authenticated) = (true, None),
            expected,
        );
        check(
            "stronger than an error",
            |seen| (seen.is_authenticated, seen.has_lifecycle_error) = (Some(false), true),
            expected,
        );
        check("also in a pause", |seen| (seen.is_authenticated, seen.is_paused) = (Some(false), true), expected);
    }

    #[test]
    fn an_error_of_the_life_cycle_is_a_loss() {
        let expected = Knowledge::Disconnected(Loss::LifecycleError);
        check("an error", |seen| seen.has_lifecycle_error = true, expected);
        check("also in a pause", |seen| (seen.has_lifecycle_error, seen.is_paused) = (true, true), expected);
        check(
            "the rest is not said",
            |seen| (seen.has_lifecycle_error, seen.is_authenticated) = (true, None),
            expected,
        );
    }

    #[test]
    fn not_said_is_not_known() {
        check("not said", |seen| seen.is_authenticated = None, Knowledge::Unknown(Doubt::NotSaid));
        check(
            "not said, paused and stale",
            |seen| {
                (seen.is_authenticated, seen.is_paused) = (None, true);
                stale(seen);
            },
            Knowledge::Unknown(Doubt::NotSaid),
        );
        check("nothing at all", |seen| *seen = Observation::default(), Knowledge::Unknown(Doubt::NotSaid));
    }

    #[test]
    fn a_pause_is_no_disconnection() {
        check("paused", |seen| seen.is_paused = true, Knowledge::Paused);
        check(
            "paused and stale",
            |seen| {
                seen.is_paused = true;
                stale(seen);
            },
            Knowledge::Paused,
        );
        check(
            "paused, status error",
            |seen| (seen.is_paused, seen.connection) = (true, Some(ConnectionStatus::Error)),
            Knowledge::Paused,
        );
    }

    #[test]
    fn state_that_is_too_old_is_offline() {
        check(
            "just fresh",
            |seen| seen.updated_at = Some(now().minus(WatchPolicy::DEFAULT.stale_after)),
            Knowledge::Connected,
        );
        check("just stale", stale, Knowledge::Disconnected(Loss::DeviceOffline));
        check(
            "stale, status ok",
            |seen| {
                seen.connection = Some(ConnectionStatus::Ok);
                stale(seen);
            },
            Knowledge::Disconnected(Loss::DeviceOffline),
        );
    }

    #[test]
    fn state_from_the_future_tells_nothing_of_how_old_it_is() {
        let ahead = Knowledge::Unknown(Doubt::ClockAhead);
        let at = |by: Duration| move |seen: &mut Observation| seen.updated_at = Some(now().plus(by));
        check("clocks differ a little", at(CLOCK_AHEAD_MAX), Knowledge::Connected);
        check("by more than that", at(CLOCK_AHEAD_MAX + MICRO), ahead);
        check("by an hour of summer time", at(Duration::from_hours(1)), ahead);
        check("by years", at(DAY * 365 * 70), ahead);
        check(
            "whatever its status",
            |seen| (seen.updated_at, seen.connection) = (Some(now().plus(DAY)), Some(ConnectionStatus::Error)),
            ahead,
        );
        check(
            "a lapse is a lapse all the same",
            |seen| (seen.updated_at, seen.is_authenticated) = (Some(now().plus(DAY)), Some(false)),
            Knowledge::Disconnected(Loss::NeedsReauthentication),
        );
        check(
            "a pause is a pause",
            |seen| (seen.updated_at, seen.is_paused) = (Some(now().plus(DAY)), true),
            Knowledge::Paused,
        );
    }

    #[test]
    fn old_state_is_forgiven_until_somebody_has_looked_for_long_enough() {
        let mut observation = fine();
        stale(&mut observation);
        let policy = WatchPolicy::DEFAULT;
        for (watched_for, expected) in [
            (Duration::ZERO, Knowledge::Unknown(Doubt::WarmingUp)),
            (policy.warm_up - MICRO, Knowledge::Unknown(Doubt::WarmingUp)),
            (policy.warm_up, Knowledge::Disconnected(Loss::DeviceOffline)),
        ] {
            let looked = Looked { since: now().minus(watched_for), state_at: observation.updated_at };
            let told = knowledge(&observation, looked, now(), &policy);
            assert_eq!(told, expected, "{watched_for:?}");
        }
    }

    #[test]
    fn state_that_is_not_shown_any_more_is_judged_by_the_last_that_was() {
        let observation = Observation { updated_at: None, ..fine() };
        for (age, expected) in
            [(Duration::from_hours(1), Knowledge::Connected), (DAY, Knowledge::Unknown(Doubt::NotSaid))]
        {
            let looked = Looked { since: now().minus(DAY), state_at: Some(now().minus(age)) };
            assert_eq!(knowledge(&observation, looked, now(), &WatchPolicy::DEFAULT), expected, "{age:?}");
        }
    }

    #[test]
    fn a_status_that_no_page_explains_makes_no_loss() {
        use ConnectionStatus::{Error, Ok, Unknown, Warning};
        for (status, fresh, never) in [
            (None, Knowledge::Connected, Knowledge::Connected),
            (Some(Ok), Knowledge::Connected, Knowledge::Connected),
            (Some(Warning), Knowledge::Connected, Knowledge::Connected),
            (Some(Unknown), Knowledge::Connected, Knowledge::Unknown(Doubt::NoStateYet)),
            (Some(Error), Knowledge::Unknown(Doubt::Contradictory), Knowledge::Unknown(Doubt::NoStateYet)),
        ] {
            check("fresh", |seen| seen.connection = status, fresh);
            check("never any", |seen| (seen.connection, seen.updated_at) = (status, None), never);
        }
    }
}
