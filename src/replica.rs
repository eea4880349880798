//! The work that one replica does for all: it shares Podero's health, takes its turn at probing, and reports when the bridge is
//! blind.
//!
//! On SQLite there is one replica, and it does the same. A store that is away changes nothing here: the health that this
//! process has learnt still holds for itself. Decides nothing: `domain::partner_health` merges, `domain::alert` judges
//! blindness.
//!
//! Before: [`crate::podero`] learns from replies. After: [`crate::store`], and [`crate::outbound`] for the news.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::alert::{self, Severities};
use crate::metrics::Metrics;
use crate::podero::{Client, ProbePurpose};
use crate::pump::{self, Step};
use crate::store::{self, Shared, Store};

/// Name of the probe's duty, which the replicas share.
const PROBE: &str = "probe";

/// Everything the stage needs.
pub struct Replica {
    /// The id of this process among the others; fresh at each start.
    pub id: Uuid,
    /// The tables.
    pub store: Store,
    /// Podero.
    pub client: Client,
    /// Time.
    pub clock: Clock,
    /// Gauges of pace and pause.
    pub metrics: Metrics,
    /// Time without an answer after which the bridge is blind (`watch.interval`).
    pub interval: Duration,
    /// Severity of blindness, among others.
    pub severities: Severities,
    /// Longest time of a probe: if its replica dies meanwhile, another takes the duty after that.
    pub probe_time_max: Duration,
    /// Woken when there is something to publish.
    pub wake_outbound: Arc<Notify>,
}

impl Replica {
    /// Shares what is known of Podero, and reports whether the bridge can see.
    pub async fn sync_step(&self) -> Step {
        let taken = match self.sync().await {
            Ok(()) => Step::Idle,
            Err(error) => {
                tracing::debug!(%error, "what is known of Podero could not be shared");
                Step::Failed
            }
        };
        self.metrics.podero_pace.set(self.client.per_second().0.into());
        self.metrics.podero_paused.set(self.client.health().paused(self.clock.now()).is_some().into());
        taken
    }

    /// Probes Podero when a probe is due: for all, if no other replica does so now, or for a suspicion of its own.
    pub async fn probe_step(&self) -> Step {
        match self.client.purpose() {
            None => return Step::Idle,
            // Without the duty and without the store: no other replica has met these failures, and neither another replica's
            // probe that hangs nor a store that does may delay the look into them. The probe is harmless, and as rare as
            // suspicions are. The next sync shares its result, and an opening asks for that sync at once.
            Some(ProbePurpose::Suspicion) => {
                self.client.probe().await;
                return Step::Idle;
            }
            Some(ProbePurpose::Return) => {}
        }
        let duty = match self.store.take_duty(PROBE, self.probe_time_max).await {
            Ok(Some(duty)) => Some(duty),
            Ok(None) => return Step::Idle,
            Err(error) => {
                tracing::debug!(%error, "the probe could not be claimed; it is made all the same");
                None
            }
        };
        self.client.probe().await;
        // First the news, then the duty: no replica probes again because of what was known before.
        let shared = self.sync().await;
        let freed = self.store.put_duty_off(PROBE, self.clock.now()).await;
        if shared.and(freed).is_err() {
            if let Some(duty) = duty {
                self.store.give_duty_back(duty);
            }
            return Step::Failed;
        }
        Step::Idle
    }

    async fn sync(&self) -> Result<(), store::Error> {
        let Shared { health, replicas, announced } = self.store.share(self.id, self.client.health()).await?;
        self.client.adopt(health, replicas);
        let change = alert::look(
            announced.blindness.as_ref(),
            &self.client.health(),
            self.clock.now(),
            self.interval,
            &self.severities,
        );
        let Some(change) = change else { return Ok(()) };
        let topic = change.notice.topic.name();
        if self.store.announce(&announced, change).await? {
            tracing::warn!(topic, "whether the bridge can see has changed");
            pump::wake_all(&self.wake_outbound);
        }
        Ok(())
    }
}
