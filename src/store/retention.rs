//! The retention of rows.
//!
//! Retention removes old settled rows, a little at a time through the writer, so that other writes do not wait behind it.
//! Events without an end (pending, waiting, scheduled, parked) and the state of a customer stay however old they are.
//!
//! Before: [`crate::app`]. After: the disk.

use std::time::Duration;

use super::audit;
use super::db::{DbFault, ours, query};
use super::error::Error;
use super::handle::Store;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;

/// Limit of the rows of a kind that one transaction removes: small enough that listeners and appliers do not wait long behind it.
const FORGOTTEN_AT_ONCE: usize = 200;

impl Store {
    /// Removes some of the rows that were settled longer than `retention` ago: events (applied, superseded, skipped) with their
    /// calls, outgoing events that are out or had no target, ended bulk retries. `true`: there may be more. A clock that jumped
    /// ahead makes nothing old.
    pub async fn forget(&self, retention: Duration) -> Result<bool, Error> {
        let now = self.clock.steady_now().micros();
        let before = now.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
        self.write(Forget { before: Timestamp::from_micros(before) }).await
    }
}

struct Forget {
    before: Timestamp,
}

impl Write for Forget {
    type Output = bool;

    fn weight(&self) -> usize {
        2 * FORGOTTEN_AT_ONCE
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        // The limit is part of the text: a plan for any limit of PostgreSQL's would expect a tenth of the table, and read all of it.
        let chosen = tx.db.chosen(&format!(
            "SELECT id FROM events WHERE (state = 'applied' OR state = 'superseded' OR state = 'skipped') \
             AND settled_at < $1 ORDER BY settled_at LIMIT {FORGOTTEN_AT_ONCE}{}",
            tx.db.skip_locked()
        ));
        let events = ours(format!("DELETE FROM events WHERE id {chosen} RETURNING id, lane"));
        let events = query(events).bind(self.before);
        // As texts: an id that this version cannot read must not keep everything else.
        let events: Vec<(String, Option<String>)> = events.fetch_all(&mut *tx).await?;
        let of_lanes = events.iter().filter_map(|(id, lane)| Some((id.as_str(), lane.as_deref()?)));
        audit::keep_notes(&mut *tx, of_lanes.collect::<Vec<_>>().into_iter()).await?;
        for (id, _) in &events {
            query("DELETE FROM calls WHERE event_id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        }
        // By the whole key: two replicas that deleted an id's rows for all targets could wait for each other.
        let notices = ours(format!(
            "DELETE FROM notices WHERE (id, target) IN (SELECT id, target FROM notices \
             WHERE state IN ('published', 'kept') AND created_at < $1 AND COALESCE(published_at, created_at) < $1 \
             ORDER BY created_at LIMIT {FORGOTTEN_AT_ONCE}{})",
            tx.db.skip_locked()
        ));
        let notices = query(notices).bind(self.before);
        let notices = notices.execute(&mut *tx).await?;
        query("DELETE FROM bulk_retries WHERE state <> 'running' AND ended_at < $1")
            .bind(self.before)
            .execute(tx)
            .await?;
        Ok(events.len() == FORGOTTEN_AT_ONCE || usize::try_from(notices).unwrap_or(0) == FORGOTTEN_AT_ONCE)
    }
}
