//! Keeps one connection up: connects, serves until it is lost, waits, connects again.
//!
//! ```text
//! disconnected --connect, set up--> connected --lost--> disconnected
//!      |  ^  \--failed, back-off--/                          (next URL)
//!      +--+----------------- stop ----------------> ended
//! ```
//!
//! It must never give up, and never log the same failure of the same broker twice in a row.
//!
//! Before: [`crate::domain::retry`]. After: [`crate::broker`].

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::error::BrokerError;
use super::link::{self, Link};
use super::state::{BrokerShared, LinkRole, LinkState};
use crate::domain::retry::RetrySchedule;
use crate::pump;

/// Back-off of the connections to the broker; not the retry policy of events. The first wait is short because most losses are a
/// broker that restarts; half a minute keeps a long outage cheap, and is soon enough once the broker is back.
const RECONNECT: RetrySchedule = RetrySchedule { initial: Duration::from_millis(500), max: Duration::from_secs(30) };
/// Age from which a connection counts as sound, and the back-off begins again at its first wait. With less, a connection that
/// breaks at the first publish would be made twice a second.
const SOUND_AFTER: Duration = Duration::from_secs(10);
/// Timeout of declaring, verifying and opening channels. A cluster that elects a leader for a new quorum queue takes some seconds.
pub(super) const SET_UP_WITHIN: Duration = Duration::from_secs(30);

/// The reason why serving ended.
pub(super) enum Ended {
    /// The stop was asked for.
    Stopped,
    /// The connection was lost; it is made again after a while.
    Lost(BrokerError),
}

/// The request to end, shared by all tasks that serve.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<()>);

impl Stop {
    /// Runs work that is asked to end once `shutdown` resolves.
    pub(super) async fn at<F: Future<Output = ()>>(shutdown: impl Future<Output = ()>, work: impl FnOnce(Self) -> F) {
        let (ask, stop) = watch::channel(());
        let asked = async move {
            shutdown.await;
            drop(ask);
        };
        tokio::join!(asked, work(Self(stop)));
    }

    /// Resolves once the end is asked for; at once if it was asked for before.
    pub(super) async fn asked(&mut self) {
        // The asking side sends nothing: its end is the request.
        while self.0.changed().await.is_ok() {}
    }
}

/// Keeps one connection for `role` until `stop`; `serve` sets it up, uses it, and says why it ended.
pub(super) async fn keep<S, F>(inner: &BrokerShared, role: LinkRole, mut stop: Stop, serve: S)
where
    S: Fn(Link, Stop) -> F,
    F: Future<Output = Ended>,
{
    let urls = &inner.settings.urls;
    let mut told: Vec<Option<BrokerError>> = vec![None; urls.len()];
    let mut failures: u32 = 0;
    for at in (0..urls.len()).cycle() {
        let began = inner.clock.now();
        let name = format!("podero-bridge {}", role.name());
        let connecting = link::connect(&urls[at], &name);
        let connected = tokio::select! {
            () = stop.asked() => break,
            connected = connecting => connected,
        };
        let ended = match connected {
            Ok(link) => serve(link, stop.clone()).await,
            Err(error) => Ended::Lost(error),
        };
        let error = match ended {
            Ended::Stopped => break,
            Ended::Lost(error) => error,
        };
        let was_up = down(inner, role, &error);
        if was_up && inner.clock.now().since(began) >= SOUND_AFTER {
            failures = 0;
        }
        if was_up {
            told.fill(None);
            tracing::warn!(broker.role = role.name(), reason = %error, "connection to the broker lost");
        } else if told[at].as_ref() != Some(&error) {
            tracing::warn!(broker.role = role.name(), reason = %error, "broker not usable, trying again until it is");
        }
        told[at] = Some(error);
        failures = failures.saturating_add(1);
        // A round over all URLs is one failure: the second of three nodes is not to blame for the first.
        let rounds = failures.div_ceil(u32::try_from(urls.len()).unwrap_or(u32::MAX));
        let wait = RECONNECT.delay(rounds, inner.clock.jitter());
        tokio::select! {
            () = stop.asked() => break,
            () = pump::sleep(wait) => {}
        }
    }
    down(inner, role, &BrokerError::new("stopped"));
}

/// Marks `role` as serving.
pub(super) fn up(inner: &BrokerShared, role: LinkRole, link: &Link) {
    inner.note(role, LinkState::Connected);
    tracing::info!(broker.role = role.name(), broker.address = link.address(), "connected to the broker");
}

/// Marks `role` as not serving; says whether it was serving until now.
pub(super) fn down(inner: &BrokerShared, role: LinkRole, error: &BrokerError) -> bool {
    inner.note(role, LinkState::Disconnected { why: error.why.clone() }) == LinkState::Connected
}

/// Runs the steps of setting up within their timeout.
pub(super) async fn set_up<T>(steps: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    timeout(SET_UP_WITHIN, steps).await.unwrap_or_else(|_| {
        let within = SET_UP_WITHIN.as_secs();
        Err(BrokerError::new(format!("the broker did not answer within {within} s while being set up")))
    })
}

/// Runs the steps of setting up within their timeout, unless `stop` ends them.
pub(super) async fn set_up_unless<T>(
    stop: &mut Stop,
    steps: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, Ended> {
    tokio::select! {
        () = stop.asked() => Err(Ended::Stopped),
        done = set_up(steps) => done.map_err(Ended::Lost),
    }
}
