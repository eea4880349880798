//! Whether all is well, in numbers: what waits, what is parked, which alerts are open, and which replicas are there.
//!
//! Reads only. Each number is counted by an index and up to a limit, so that a look costs the same whatever the backlog.
//!
//! Before: the tables. After: [`crate::admin`] shows it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::closed_sets::Target;
use super::db::{ours, query, row};
use super::error::Error;
use super::event_rows::UNSETTLED;
use super::handle::StoreView;
use super::memory::REPLICA_LIFE;
use super::parked_groups::COUNT_MAX;
use super::pumps::legible;
use super::schema;
use super::timeline::ROWS_MAX;
use crate::domain::Timestamp;
use crate::domain::event::EventState;

/// A count that ends at a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CappedCount {
    /// How many.
    pub count: u64,
    /// True if there are more, or may be.
    pub is_capped: bool,
}

impl CappedCount {
    /// A count that was ended at [`COUNT_MAX`].
    pub(super) fn of(count: u64) -> Self {
        Self { count, is_capped: count >= COUNT_MAX }
    }

    fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, is_capped: self.is_capped || other.is_capped }
    }
}

/// The work that is not done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct WorkView {
    /// Events that are due, with those that wait for their sign-up.
    pub pending: CappedCount,
    /// Of these, those that wait for their sign-up.
    pub waiting: CappedCount,
    /// Events that take effect on a later day.
    pub scheduled: CappedCount,
    /// Since when the oldest pending event waits; null: none is pending.
    pub oldest_pending_at: Option<Timestamp>,
    /// Events that need a person.
    pub parked: CappedCount,
    /// Outgoing events that are not out yet.
    pub outbox: CappedCount,
}

/// The open alerts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OpenAlertsView {
    /// Heat pumps with one.
    pub heat_pumps: CappedCount,
    /// Heat pumps by the cause of theirs, of the first thousand.
    pub by_cause: BTreeMap<String, u64>,
    /// Outages.
    pub outages: u64,
    /// True while the bridge cannot see how heat pumps are.
    pub is_blind: bool,
}

row! {
    /// A replica.
    #[derive(Debug, Clone, Serialize, JsonSchema)]
    pub struct ReplicaView {
        /// Drawn at its start.
        pub id: Uuid = "id",
        /// Its last sign of life.
        pub seen_at: Timestamp = "seen_at",
    }
}

/// The schema of the store.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct SchemaView {
    /// Its newest migration.
    pub version: i64,
    /// The newest migration that this version has.
    pub known: i64,
    /// The newest migration of the oldest program that it serves.
    pub floor: i64,
}

impl StoreView {
    /// The work that is not done.
    pub async fn work(&self) -> Result<WorkView, Error> {
        let waiting = self.unsettled(EventState::Waiting).await?;
        let (pending, scheduled) =
            (self.unsettled(EventState::Pending).await?, self.unsettled(EventState::Scheduled).await?);
        let parked = query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE state = 'parked' AND id > '' ORDER BY id LIMIT $1) AS counted",
        );
        let parked = parked.bind(COUNT_MAX).fetch_one(&self.readers).await?;
        let mut oldest_pending_at: Option<Timestamp> = None;
        for state in [EventState::Pending, EventState::Waiting] {
            let oldest = self.oldest(state).await?;
            oldest_pending_at = [oldest_pending_at, oldest].into_iter().flatten().min();
        }
        Ok(WorkView {
            pending: pending.plus(waiting),
            waiting,
            scheduled,
            oldest_pending_at,
            parked: CappedCount::of(parked),
            outbox: self.unpublished().await?,
        })
    }

    async fn unsettled(&self, state: EventState) -> Result<CappedCount, Error> {
        let counted = ours(format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE {UNSETTLED} AND state = $1 ORDER BY tries_from \
             LIMIT $2) AS counted"
        ));
        Ok(CappedCount::of(query(counted).with((state, COUNT_MAX)).fetch_one(&self.readers).await?))
    }

    async fn oldest(&self, state: EventState) -> Result<Option<Timestamp>, Error> {
        let oldest =
            ours(format!("SELECT tries_from FROM events WHERE {UNSETTLED} AND state = $1 ORDER BY tries_from LIMIT 1"));
        Ok(query(oldest).bind(state).fetch_optional(&self.readers).await?)
    }

    /// Notices that are not out yet, of the targets that are configured.
    async fn unpublished(&self) -> Result<CappedCount, Error> {
        let mut unpublished = CappedCount::of(0);
        for target in self.targets.iter() {
            let counted = query(
                "SELECT COUNT(*) FROM (SELECT 1 FROM notices WHERE state = 'pending' AND target = $1 ORDER BY due_at \
                 LIMIT $2) AS counted",
            );
            let count = counted.with((Target::name(*target), COUNT_MAX)).fetch_one(&self.readers).await?;
            unpublished = unpublished.plus(CappedCount::of(count));
        }
        Ok(unpublished)
    }

    /// The open alerts, by cause.
    pub async fn alert_counts(&self) -> Result<OpenAlertsView, Error> {
        let counted = query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM pumps WHERE has_alert <> 0 AND heat_pump > '' \
             ORDER BY heat_pump LIMIT $1) AS counted",
        );
        let heat_pumps = CappedCount::of(counted.bind(COUNT_MAX).fetch_one(&self.readers).await?);
        let records = query(
            "SELECT record FROM pumps WHERE has_alert <> 0 AND heat_pump > '' \
             ORDER BY heat_pump LIMIT $1",
        )
        .bind(ROWS_MAX);
        let records: Vec<String> = records.fetch_all(&self.readers).await?;
        let mut by_cause = BTreeMap::new();
        for alert in records.iter().filter_map(|record| legible(record)?.alert) {
            *by_cause.entry(alert.cause.name().to_owned()).or_insert(0) += 1;
        }
        let outages = u64::try_from(self.open_outages().await?.len()).unwrap_or(u64::MAX);
        Ok(OpenAlertsView { heat_pumps, by_cause, outages, is_blind: self.open_blindness().await?.is_some() })
    }

    /// The replicas that live, by id.
    pub async fn replicas(&self) -> Result<Vec<ReplicaView>, Error> {
        let all = ours(format!("SELECT {} FROM replicas ORDER BY id LIMIT $1", ReplicaView::COLUMNS));
        let all: Vec<ReplicaView> = query(all).bind(ROWS_MAX).fetch_all(&self.readers).await?;
        let now = self.clock.now();
        Ok(all.into_iter().filter(|replica| now.since(replica.seen_at) <= REPLICA_LIFE).collect())
    }

    /// The schema of the store.
    pub async fn schema(&self) -> Result<SchemaView, Error> {
        let version = query("SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 1");
        let floor = query("SELECT MAX(version) FROM schema_floor");
        let (version, floor): (i64, Option<i64>) =
            tokio::try_join!(version.fetch_one(&self.readers), floor.fetch_one(&self.readers))?;
        let known = schema::known_of(self.dialect);
        Ok(SchemaView { version, known, floor: floor.unwrap_or(0) })
    }
}
