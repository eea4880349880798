//! Events whose day has come, or whose wait is over, become claimable.
//!
//! A purge is the bridge's own announced event: it removes a user for good, a while after the churn. The store keeps the distance
//! between its arrival and its day, so an arrival in the future shows that the clock was ahead. Then the while begins now. Its
//! own day stays in `time` and comes back if the clock that judged so turns out to have been behind: never early.
//!
//! Before: [`crate::store::inbox`] and [`crate::store::settlement`] schedule them. After: [`crate::store::claims`].

use std::time::Duration;

use super::db::{DbFault, RowStatement, ours, query};
use super::error::Error;
use super::event_rows::UNSETTLED;
use super::handle::Store;
use super::lanes::{self, ready_live_lanes};
use super::moments::{Ceilings, Reach};
use super::transaction::{Statements, Transaction, Write};
use crate::domain::{EventId, Timestamp};

/// Limit of the events that become due in one step; the rest follow at the next step.
const PROMOTED_MAX: usize = 500;

impl Store {
    /// Makes events whose day has come, or whose wait is over, claimable. Returns how many.
    pub async fn promote(&self) -> Result<usize, Error> {
        let clock = &self.clock;
        self.write(Promote { now: clock.now(), day: clock.steady_now(), ceilings: self.ceilings.get() }).await
    }
}

struct Promote {
    now: Timestamp,
    /// The present for events that take effect on their day: a churn that comes too early takes its customer away.
    day: Timestamp,
    ceilings: Ceilings,
}

impl Write for Promote {
    type Output = usize;

    fn weight(&self) -> usize {
        PROMOTED_MAX
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize, DbFault> {
        // A purge that was dated back still waits for its own day, if the clock that set it turns out to be right.
        let latest = Timestamp::latest(self.now, Duration::ZERO);
        let due = query(
            "SELECT id, lane FROM events WHERE state IN ('scheduled', 'waiting') AND due_at <= $1 \
             AND (transport <> 'internal' OR time <= $1 OR (received_at > $3 AND type = 'customer.purge_due')) \
             ORDER BY due_at LIMIT $2",
        );
        let due: Vec<(EventId, String)> = due.with((self.day, PROMOTED_MAX, latest)).fetch_all(&mut *tx).await?;
        let mut lanes = promote(tx, due).await?;
        // The sender sets the day on which an event takes effect; the bridge sets the end of a wait, which cannot lie this far
        // ahead. The wait begins again, by a clock that is right.
        let chosen = tx.db.chosen(&format!(
            "SELECT id FROM events WHERE state = 'waiting' AND state IN ('scheduled', 'waiting') AND due_at > $1 \
             ORDER BY due_at LIMIT $2{}",
            tx.db.skip_locked()
        ));
        let waits_too_long = ours(format!(
            "UPDATE events SET state = 'pending', due_at = $3, tries_from = $3 WHERE id {chosen} RETURNING lane"
        ));
        let latest = Reach::Beyond.bound(self.now, self.ceilings.sign_up);
        let again = query(waits_too_long).with((latest, PROMOTED_MAX, self.now));
        lanes.extend(again.fetch_all::<String>(&mut *tx).await?);
        self.date_back(tx).await?;
        ready_live_lanes(tx, &lanes, self.now).await?;
        Ok(lanes.len())
    }
}

static PROMOTE: RowStatement = RowStatement::new(
    &["id"],
    "UPDATE events SET state = 'pending' {from} WHERE events.id = {id} \
     AND COALESCE(events.state, '') IN ('scheduled', 'waiting') {written events.id}",
);

/// Makes those events claimable that still wait, and returns their lanes. The lanes are locked first: the end of a claim holds one
/// when it wakes the events that wait in it.
async fn promote(tx: &mut Transaction<'_>, mut due: Vec<(EventId, String)>) -> Result<Vec<String>, DbFault> {
    lanes::lock(tx, due.iter().map(|(_, lane)| lane.as_str()).collect()).await?;
    due.sort_unstable();
    let mut rows = PROMOTE.rows(due.len());
    for (id, _) in &due {
        rows.bind(*id);
    }
    let is_promoted = rows.written(tx).await?;
    Ok(due.into_iter().zip(is_promoted).filter(|(_, is_promoted)| *is_promoted).map(|((_, lane), _)| lane).collect())
}

impl Promote {
    /// Dates arrivals in the future, from a clock that was ahead, back to now, the best known begin of their wait: otherwise they
    /// would have no age.
    async fn date_back(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let chosen = tx.db.chosen(&format!(
            "SELECT id FROM events WHERE {UNSETTLED} AND state = 'pending' AND tries_from > $1 ORDER BY tries_from LIMIT $2{}",
            tx.db.skip_locked()
        ));
        let date_back = ours(format!("UPDATE events SET tries_from = $3 WHERE id {chosen}"));
        let latest = Timestamp::latest(self.now, Duration::ZERO);
        let date_back = query(date_back).with((latest, PROMOTED_MAX, self.now));
        date_back.execute(tx).await?;
        Ok(())
    }
}

/// Limit of the purges that one step looks at; the rest follow with the next.
const PURGES_AT_ONCE: usize = 200;

impl Store {
    /// Dates back some purges that a clock ahead has put off; `true`: there may be more.
    pub async fn date_purges(&self) -> Result<bool, Error> {
        let now = self.clock.now();
        let latest = Timestamp::latest(now, Duration::ZERO);
        // Outside the writer: this reads past all announced events. It skips purges that are not due before their own day.
        let wrong = query(
            "SELECT id FROM events WHERE state IN ('scheduled', 'waiting') AND state = 'scheduled' AND transport = 'internal' \
             AND type = 'customer.purge_due' AND ((received_at > $1 AND due_at = time) \
             OR (received_at <= $1 AND due_at < time)) LIMIT $2",
        );
        let ids: Vec<EventId> = wrong.with((latest, PURGES_AT_ONCE)).fetch_all(&self.readers).await?;
        let may_be_more = ids.len() == PURGES_AT_ONCE;
        let date = |id| {
            let sql = "UPDATE events SET due_at = CASE WHEN received_at > $2 THEN $3 + (time - received_at) ELSE time END \
                 WHERE id = $1 AND COALESCE(state, '') = 'scheduled'";
            query(sql).with((id, latest, now))
        };
        if !ids.is_empty() {
            self.write(Statements { weight: ids.len(), all: ids.into_iter().map(date).collect() }).await?;
        }
        Ok(may_be_more)
    }
}
