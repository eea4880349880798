//! The gauges, counted from the tables.
//!
//! Reads only, outside the writer. Each gauge is a count over a partial index of unsettled rows.
//!
//! Before: the tables. After: [`crate::metrics`].

use super::closed_sets::Target;
use super::db::{ServerGauges, ours, query};
use super::error::Error;
use super::event_rows::UNSETTLED;
use super::handle::StoreView;
use crate::domain::Timestamp;
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;

/// The gauges of the tables at one moment.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named as the metrics of contract §7")]
pub struct Gauges {
    /// The number of pending events, with those that wait for their sign-up.
    pub pending: u64,
    /// The number of these that wait for their sign-up.
    pub waiting: u64,
    pub scheduled: u64,
    pub parked: u64,
    pub parked_unreadable: u64,
    /// The number of churns that the brake has parked.
    pub braked: u64,
    pub oldest_pending: Option<Timestamp>,
    pub outbox_pending: u64,
    /// The number of rows of the audit log that are not sealed yet.
    pub audit_unsealed: u64,
    /// The number of rows of the audit log that were ever sealed.
    pub audit_sealed: u64,
    /// The number of open alerts, with those of outages and of the bridge's own blindness.
    pub alerts_open: u64,
    pub outages_open: u64,
    /// The share of the watched users whose last poll is no older than promised.
    pub polled_in_time: f64,
    pub heat_pumps: Vec<(String, u64)>,
    pub stalest_poll: Option<Timestamp>,
}

/// Unsettled events, counted for the limits of the intake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BacklogCounts {
    /// The number of events that are due as work.
    pub work: u64,
    /// The number of events that become work on a later day, or after a sign-up.
    pub later: u64,
}

impl StoreView {
    /// Counts the unsettled events from an index, which takes a moment with a million of them.
    pub async fn backlog(&self) -> Result<BacklogCounts, Error> {
        let unsettled = query(ours(format!("SELECT state, COUNT(*) FROM events WHERE {UNSETTLED} GROUP BY state")));
        let mut counts = BacklogCounts::default();
        for (state, count) in unsettled.fetch_all::<(EventState, u64)>(&self.readers).await? {
            *(if state == EventState::Pending { &mut counts.work } else { &mut counts.later }) += count;
        }
        Ok(counts)
    }

    /// Reads the gauges. A user who was polled after `polled_since` was polled in time.
    pub async fn gauges(&self, polled_since: Timestamp) -> Result<Gauges, Error> {
        let readers = &self.readers;
        let mut gauges = Gauges::default();
        let unsettled = query(ours(format!(
            "SELECT state, COUNT(*), MIN(tries_from) FROM events \
             WHERE {UNSETTLED} GROUP BY state"
        )));
        for (state, count, oldest) in unsettled.fetch_all::<(EventState, u64, Timestamp)>(readers).await? {
            if state == EventState::Scheduled {
                gauges.scheduled = count;
                continue;
            }
            if state == EventState::Waiting {
                gauges.waiting = count;
            }
            gauges.pending += count;
            gauges.oldest_pending = Some(gauges.oldest_pending.map_or(oldest, |known| known.min(oldest)));
        }
        let parked =
            query("SELECT COUNT(*), COUNT(CASE WHEN reason = $1 THEN 1 END) FROM events WHERE state = 'parked'");
        (gauges.parked, gauges.braked) = parked.bind(Reason::ChurnBrake).fetch_one(readers).await?;
        gauges.parked_unreadable =
            self.count("SELECT COUNT(*) FROM events WHERE lane IS NULL AND state = (SELECT 'parked')").await?;
        gauges.outbox_pending = self.outbox_pending().await?;
        gauges.audit_unsealed = self.audit_unsealed().await?;
        gauges.audit_sealed = match self.audit_head().await {
            // The watch over the chain tells of it.
            Err(Error::Unreadable(_)) => 0,
            head => head?.count,
        };
        gauges.outages_open = u64::try_from(self.open_outages().await?.len()).unwrap_or(u64::MAX);
        gauges.alerts_open = self.count("SELECT COUNT(*) FROM pumps WHERE has_alert = 1").await?
            + gauges.outages_open
            + u64::from(self.open_blindness().await?.is_some());
        let pumps = query("SELECT knowledge, COUNT(*) FROM pumps WHERE is_retired = 0 GROUP BY knowledge");
        gauges.heat_pumps = pumps.fetch_all(readers).await?;
        let polls = query(
            "SELECT MIN(COALESCE(polled_at, since)), COUNT(*), \
             COALESCE(SUM(CASE WHEN COALESCE(polled_at, since) > $1 THEN 1 ELSE 0 END), 0) FROM watched",
        );
        let (stalest, all, in_time) = polls.bind(polled_since).fetch_one(readers).await?;
        gauges.stalest_poll = stalest;
        gauges.polled_in_time = share(in_time, all);
        Ok(gauges)
    }

    /// Reads the state of the database's server; `None` on SQLite, which has none.
    pub async fn server_gauges(&self) -> Result<Option<ServerGauges>, Error> {
        Ok(self.readers.server_gauges().await?)
    }

    /// Counts the notices that are not out yet. Rows of a target that is no longer configured wait for its return and do not
    /// count.
    pub async fn outbox_pending(&self) -> Result<u64, Error> {
        let pending = query("SELECT target, COUNT(*) FROM notices WHERE state = 'pending' GROUP BY target");
        let pending: Vec<(String, u64)> = pending.fetch_all(&self.readers).await?;
        let is_known = |name: &str| Target::from_name(name).is_some_and(|target| self.targets.contains(&target));
        Ok(pending.iter().filter(|(name, _)| is_known(name)).map(|(_, count)| count).sum())
    }

    async fn count(&self, statement: &'static str) -> Result<u64, Error> {
        Ok(query(statement).fetch_one(&self.readers).await?)
    }
}

/// Without users, all are polled in time.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody watches 2^53 users")]
    let share = part as f64 / whole as f64;
    share
}
