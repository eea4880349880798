//! Recurring duties: work that one replica does for all, when it is due.
//!
//! Before: [`crate::replica`], [`crate::watch`] and [`crate::app`] take one. After: its row holds its next due time.

use std::time::Duration;

use super::db::{DbFault, query};
use super::error::Error;
use super::handle::Store;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;

impl Store {
    /// Takes a recurring duty if it is due, for all replicas: one gets `true`, and it is due again after `every`.
    pub async fn take_duty(&self, name: &'static str, every: Duration) -> Result<bool, Error> {
        let now = self.clock.now();
        self.write(TakeDuty { name, now, next: now.plus(every) }).await
    }

    /// Sets the time at which a duty is due again.
    pub async fn put_duty_off(&self, name: &'static str, at: Timestamp) -> Result<(), Error> {
        self.change(query("UPDATE duties SET due_at = $2 WHERE name = $1").with((name, at))).await?;
        Ok(())
    }
}

struct TakeDuty {
    name: &'static str,
    now: Timestamp,
    next: Timestamp,
}

impl Write for TakeDuty {
    const ONLY_IF_AWAITED: bool = true;
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let taken = query(
            "INSERT INTO duties (name, due_at) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET due_at = $2 WHERE duties.due_at <= $3 OR duties.due_at > $4",
        )
        .with((self.name, self.next, self.now))
        // No duty is put off for longer than one interval.
        .bind(Timestamp::latest(self.next, Duration::ZERO))
        .execute(tx)
        .await?;
        Ok(taken == 1)
    }
}
