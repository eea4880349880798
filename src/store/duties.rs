//! Recurring duties: work that one replica does for all, when it is due.
//!
//! Before: [`crate::replica`], [`crate::watch`] and [`crate::app`] take one. After: its row holds its next due time.

use std::time::Duration;

use super::db::{DbFault, query};
use super::error::Error;
use super::give_back::{GiveBack, Leased};
use super::handle::Store;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;

/// The name of the duty that reads the list of the staff.
pub const STAFF_DUTY: &str = "staff";

/// A duty that was taken, for all replicas.
#[derive(Debug, Clone, Copy)]
pub struct Duty {
    name: &'static str,
    taken_at: Timestamp,
    next: Timestamp,
}

impl Store {
    /// Takes a recurring duty if it is due, for all replicas: one gets it, and it is due again after `every`.
    pub async fn take_duty(&self, name: &'static str, every: Duration) -> Result<Option<Duty>, Error> {
        let taken_at = self.clock.now();
        let duty = Duty { name, taken_at, next: taken_at.plus(every) };
        Ok(self.write(TakeDuty(duty)).await?.then_some(duty))
    }

    /// Sets the time at which a duty is due again.
    pub async fn put_duty_off(&self, name: &'static str, at: Timestamp) -> Result<(), Error> {
        self.change(query("UPDATE duties SET due_at = $2 WHERE name = $1").with((name, at))).await?;
        Ok(())
    }

    /// Makes a duty that could not be done due again, as soon as the store takes writes. Does not wait for that.
    pub fn give_duty_back(&self, duty: Duty) {
        self.give_back(duty.give_back());
    }
}

/// Makes a duty due now.
pub(super) async fn make_due(name: &'static str, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
    query("UPDATE duties SET due_at = 0 WHERE name = $1").bind(name).execute(tx).await?;
    Ok(())
}

impl Duty {
    fn give_back(self) -> Option<GiveBack> {
        GiveBack::of(Leased::Duties, vec![self.name.to_owned()], self.taken_at, self.next)
    }
}

struct TakeDuty(Duty);

impl Write for TakeDuty {
    const ONLY_IF_AWAITED: bool = true;
    /// `true` if it was due.
    type Output = bool;

    fn give_back(&self, was_due: &bool) -> Option<GiveBack> {
        was_due.then(|| self.0.give_back()).flatten()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let Duty { name, taken_at, next } = self.0;
        let taken = query(
            "INSERT INTO duties (name, due_at) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET due_at = $2 WHERE duties.due_at <= $3 OR duties.due_at > $4",
        )
        .with((name, next, taken_at))
        // No duty is put off for longer than one interval.
        .bind(Timestamp::latest(next, Duration::ZERO))
        .execute(tx)
        .await?;
        Ok(taken == 1)
    }
}
