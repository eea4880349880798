//! Counts the tables for the gauges and for the bounds of the listeners, so that neither a scrape nor a request waits for it.
//!
//! Gauges that could not be counted are absent, since a number would be a guess.
//!
//! Before: [`crate::store`] counts. After: [`crate::metrics`], and the backlog, by [`Counting::counted`].

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::alert::Knowledge;
use crate::domain::brake::Brake;
use crate::domain::team::TeamPolicy;
use crate::metrics::{Metrics, Outcome};
use crate::pump::Step;
use crate::store::{Error, Gauges, Store};

/// Interval of a count that takes no time.
pub const GAUGES_EVERY: Duration = Duration::from_secs(2);

/// Rest after a count, as a multiple of the time that the last two took at least: a backlog of a million must not be counted
/// all the time. Of two, since one may have waited for a database that was away or locked, which is no cost of counting.
const GAUGES_REST: u32 = 50;

/// Limit of the rest after a count.
pub const GAUGES_REST_MAX: Duration = Duration::from_secs(60);

/// Time after the end of an access at which it counts as overdue: a retry or two, and an outage that is told elsewhere.
const OVERDUE_AFTER: Duration = Duration::from_secs(3_600);

/// Everything that counting needs.
pub struct Counting {
    /// The tables.
    pub store: Store,
    /// The gauges.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// `watch.interval`: the promise that the coverage is measured against.
    pub interval: Duration,
    /// The churn brake, where there is one.
    pub brake: Option<Brake>,
    /// The policy of the team, where it is administered.
    pub team: Option<TeamPolicy>,
    /// Receiver of the count, for the bounds of the listeners.
    pub counted: Box<dyn Fn(&Gauges) + Send + Sync>,
    /// Time that the last count took.
    pub last_took: Mutex<Duration>,
}

impl Counting {
    /// Counts, and rests for the longer the longer it took.
    pub async fn step(&self) -> Step {
        let began = Instant::now();
        if !self.count().await {
            return Step::Failed;
        }
        let took = began.elapsed();
        let before = std::mem::replace(&mut *self.last_took.lock().expect("no code panics while it holds this"), took);
        Step::IdleFor((took.min(before) * GAUGES_REST).clamp(GAUGES_EVERY, GAUGES_REST_MAX))
    }

    /// Counts the tables; `false`: they could not be counted. Then the gauges are absent, and the bounds stay as they were
    /// counted last, with the events that were accepted since.
    pub async fn count(&self) -> bool {
        match self.refresh().await {
            Ok(gauges) => (self.counted)(&gauges),
            Err(error) => {
                self.metrics.uncounted();
                tracing::debug!(%error, "the tables could not be counted");
                return false;
            }
        }
        if let Some(brake) = self.brake
            && let Err(error) = self.refresh_brake(brake).await
        {
            self.metrics.uncounted_brake();
            tracing::debug!(%error, "the churns within the brake's window could not be counted");
        }
        if let Some(policy) = &self.team
            && let Err(error) = self.refresh_team(policy).await
        {
            self.metrics.uncounted_team();
            tracing::debug!(%error, "the team could not be counted");
        }
        true
    }

    async fn refresh(&self) -> Result<Gauges, Error> {
        let (now, metrics) = (self.clock.now(), &self.metrics);
        let gauges = self.store.gauges(now.minus(self.interval)).await?;
        let age = |since: Option<Timestamp>| since.map(|since| now.since(since)).unwrap_or_default().as_secs_f64();
        metrics.events_pending.set(real(gauges.pending));
        metrics.events_scheduled.set(real(gauges.scheduled));
        metrics.events_parked.set(real(gauges.parked));
        metrics.churns_braked.set(real(gauges.braked));
        metrics.oldest_pending_age.set(age(gauges.oldest_pending));
        metrics.audit_unsealed.set(real(gauges.audit_unsealed));
        metrics.audit_sealed.set(real(gauges.audit_sealed));
        metrics.outbox_pending.set(real(gauges.outbox_pending));
        metrics.alerts_open.set(real(gauges.alerts_open));
        metrics.outages_open.set(real(gauges.outages_open));
        metrics.poll_coverage.set(gauges.polled_in_time);
        metrics.poll_staleness.set(age(gauges.stalest_poll));
        for name in Knowledge::NAMES {
            let found = gauges.heat_pumps.iter().find(|(state, _)| state == name);
            metrics.heat_pumps.with_label_values(&[name]).set(real(found.map_or(0, |(_, count)| *count)));
        }
        for (kind, count) in self.store.take_replaced() {
            (0..count).for_each(|_| metrics.event_settled(Some(kind), Outcome::Superseded));
        }
        for _ in 0..self.store.take_unreadable() {
            metrics.event_settled(None, Outcome::Parked);
        }
        Ok(gauges)
    }

    async fn refresh_brake(&self, brake: Brake) -> Result<(), Error> {
        let tally = self.store.brake_tally(brake).await?;
        self.metrics.churns_admitted.set(real(tally.admitted));
        self.metrics.churns_admitted_limit.set(real(brake.limit(tally.active)));
        Ok(())
    }
}

impl Counting {
    async fn refresh_team(&self, policy: &TeamPolicy) -> Result<(), Error> {
        let counts = self.store.team_counts(OVERDUE_AFTER).await?;
        let tally = self.store.team_tally(policy).await?;
        let metrics = &self.metrics;
        for (access, count) in [("unlimited", counts.unlimited), ("temporary", counts.temporary)] {
            metrics.team_members.with_label_values(&[access]).set(real(count));
        }
        metrics.team_expiries_overdue.set(real(counts.overdue));
        metrics.team_refused.set(real(counts.refused));
        metrics.team_braked.set(real(counts.braked));
        metrics.team_removals.set(real(tally.admitted));
        metrics.team_removals_limit.set(real(policy.brake.limit(None)));
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}
