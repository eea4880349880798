//! The days of purges that were set by a clock that was ahead.
//!
//! A purge is the bridge's own announced event: it removes a user for good, a while after the churn. Its day lies as far
//! after its arrival as it did when it was made, so an arrival in the future shows that the clock was ahead. Then the while
//! begins now. Its own day stays in `time` and comes back should the clock that judged so have been behind: never early.
//!
//! Before: [`crate::store::lanes`]. After: [`crate::apply`].

use std::time::Duration;

use super::db::{Fault, query};
use super::error::Error;
use super::handle::Store;
use super::transaction::{Transaction, Write};
use crate::domain::{EventId, Timestamp};

/// Purges that one step looks at; the rest follow with the next.
const AT_ONCE: usize = 200;

impl Store {
    /// Dates some purges back that a clock ahead has put off; `true`: there may be more.
    pub async fn date_purges(&self) -> Result<bool, Error> {
        let now = self.clock.now();
        let latest = Timestamp::latest(now, Duration::ZERO);
        // Not by the writer: it reads past all that is announced. A purge that is not due before its own day is none of these.
        let wrong = query(
            "SELECT id FROM events WHERE state IN ('scheduled', 'waiting') AND state = 'scheduled' AND door = 'internal' \
             AND ((received_at > $1 AND due_at = time) \
             OR (received_at <= $1 AND due_at < time)) LIMIT $2",
        );
        let ids: Vec<EventId> = wrong.with((latest, AT_ONCE)).fetch_all(&self.readers).await?;
        let may_be_more = ids.len() == AT_ONCE;
        if !ids.is_empty() {
            self.write(DatePurges { ids, now, latest }).await?;
        }
        Ok(may_be_more)
    }
}

struct DatePurges {
    ids: Vec<EventId>,
    now: Timestamp,
    latest: Timestamp,
}

impl Write for DatePurges {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), Fault> {
        for id in &self.ids {
            let sql = "UPDATE events SET due_at = CASE WHEN received_at > $2 THEN $3 + (time - received_at) ELSE time END \
                 WHERE id = $1 AND state = 'scheduled'";
            query(sql).with((*id, self.latest, self.now)).execute(&mut *tx).await?;
        }
        Ok(())
    }
}
