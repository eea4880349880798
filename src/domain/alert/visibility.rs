//! Can the bridge see at all? A blind bridge is an alert of its own, and says nothing about any heat pump.
//!
//! Before: [`crate::replica`] knows the health of Podero. After: the store, [`crate::outbound`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::cause::Cause;
use super::occurrence::{Occurrence, occurrence_notice, occurrence_of};
use super::severity::Severities;
use super::severity::Severity;

use crate::domain::Timestamp;
use crate::domain::names::names;
use crate::domain::notice::{Notice, Topic};
use crate::domain::partner_health::{CircuitCause, Hold, PartnerHealth};

names! {
    /// The cause for which the bridge cannot see.
    pub enum BlindCause {
        /// Podero refuses the bridge: its credentials, its organisation, its address.
        CredentialsRefused = "credentials_refused",
        /// Podero does not answer, or its answers make no sense.
        PoderoAway = "podero_away",
        /// Podero asks for one pause after another.
        RateLimited = "rate_limited",
    }
}

impl BlindCause {
    fn summary(self) -> &'static str {
        match self {
            Self::CredentialsRefused => "The bridge cannot see: Podero refuses its credentials or its organisation",
            Self::PoderoAway => "The bridge cannot see: Podero does not answer",
            Self::RateLimited => "The bridge cannot see: Podero asks it to pause",
        }
    }

    /// The time that the cause must last. Knowledge older than the interval is worthless; but waiting does not mend a refusal.
    fn patience(self, interval: Duration) -> Duration {
        match self {
            Self::CredentialsRefused => interval.min(REFUSED_PATIENCE_MAX),
            Self::PoderoAway | Self::RateLimited => interval,
        }
    }
}

/// Limit of the wait for a refusal. A deployment may cause one for a moment (a secret that is being rotated).
const REFUSED_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Limit of the time by which a circuit's probe may be overdue. After that, the circuit says nothing about now. A probe takes at
/// most four deadlines.
const EVIDENCE_MAX: Duration = Duration::from_secs(4 * 60);

/// The deduplication key of this alert, for ticketing tools.
pub const BLIND_DEDUP_KEY: &str = "watch/blind";

/// The alert that the bridge cannot see, from its trigger to its resolve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blindness {
    /// Names this one blindness; trigger and resolve share it.
    pub occurrence: Uuid,
    /// The cause when it was published.
    pub cause: BlindCause,
    /// The severity at that time.
    #[serde(default = "severity_of_old")]
    pub severity: Severity,
    /// The moment at which it began.
    pub since: Timestamp,
    /// The moment at which it became an alert.
    pub detected_at: Timestamp,
}

/// The severity of a blindness that was stored before severities were.
fn severity_of_old() -> Severity {
    Severity::Critical
}

/// The row about the bridge's own visibility: the new state and its notice, written both or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct VisibilityChange {
    /// The open alert afterwards.
    pub blindness: Option<Blindness>,
    /// The notice.
    pub notice: Notice,
}

/// Decides whether the bridge has just become blind, or can see again. `told` is the open alert.
///
/// The bridge is blind when no call has gone through for `watch.interval` in which a replica looked, and something still holds
/// every call back. It sees again when a call is answered. Says nothing about any heat pump.
pub fn look(
    told: Option<&Blindness>,
    health: &PartnerHealth,
    now: Timestamp,
    interval: Duration,
    severities: &Severities,
) -> Option<VisibilityChange> {
    if let Some(blindness) = told {
        return health.is_clear(now).then(|| {
            let data = blindness.occurrence().resolve("The bridge sees again: Podero answers", "restored");
            VisibilityChange { blindness: None, notice: blindness.notice(Topic::WatchRestored, now, data) }
        });
    }
    let cause = match health.hold(now)? {
        Hold::Paused { .. } => BlindCause::RateLimited,
        // Left by a process that ended: the next probe shows the present state.
        Hold::Open(opening) if now.since(opening.until) > EVIDENCE_MAX => return None,
        Hold::Open(opening) => match opening.why {
            CircuitCause::Away => BlindCause::PoderoAway,
            CircuitCause::Refused { .. } => BlindCause::CredentialsRefused,
        },
    };
    let since = health.dark_since(now)?;
    if health.dark_for(now)? < cause.patience(interval) {
        return None;
    }
    let (occurrence, severity) = (occurrence_of("blind", since), severities.of(Cause::WatchBlind, now));
    let blindness = Blindness { occurrence, cause, severity, since, detected_at: now };
    let notice = blindness.notice(Topic::WatchBlind, now, blindness.occurrence().trigger(cause.summary()));
    Some(VisibilityChange { blindness: Some(blindness), notice })
}

impl Blindness {
    fn occurrence(&self) -> Occurrence<'static> {
        Occurrence {
            id: self.occurrence,
            dedup_key: BLIND_DEDUP_KEY,
            cause: self.cause.name(),
            severity: self.severity,
            since: self.since,
            detected_at: self.detected_at,
        }
    }

    fn notice(&self, topic: Topic, now: Timestamp, data: Value) -> Notice {
        let name = || "watch".to_owned();
        occurrence_notice(self.occurrence, topic, name(), name(), now, data)
    }
}
