//! The rows of a brake: admissions within the window, and the number that they are compared with. One brake is on customers who
//! leave, another on members who are removed.
//!
//! The core decides ([`Brake::admits`]). This file reads its numbers and writes its answer in one transaction, under the lock of
//! one row, so that replicas that ask at the same moment are answered one after the other. Counting costs two look-ups, however
//! full the window is.
//!
//! Before: [`crate::apply`] asks. After: [`crate::store::parking`], the way out for refused churns.

use super::claims::Claim;
use super::db::{DbFault, Executor, ours, query};
use super::error::Error;
use super::handle::{Store, StoreView};
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::brake::{Brake, CLOCK_TOLERANCE, Clearance, Tally};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Limit of the admissions outside the window that one decision removes: more than it adds, so the table shrinks to its window.
const FORGOTTEN_AT_ONCE: i64 = 8;

/// The key of the row of the brake on customers: the name of the reason, since each brake has a row of its own.
const NAME: &str = Reason::ChurnBrake.name();

/// The brake's answer about a claimed churn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The churn is cleared, and that is on disk.
    Cleared,
    /// The churn is one too many. Nothing changed except that the brake is closed.
    Refused {
        /// The numbers behind the decision.
        tally: Tally,
        /// `true` for the first refusal since the last admission.
        has_closed: bool,
    },
    /// A newer claim exists; nothing was decided.
    Fenced,
}

impl Store {
    /// The number of active customers, by a count that is at most [`crate::store::ACTIVE_AGE_MAX`] old.
    pub async fn active_customers(&self) -> Result<u64, Error> {
        let now = self.clock.now();
        if let Some(known) = self.inner.active.known(now) {
            return Ok(known);
        }
        let count = query("SELECT COUNT(*) FROM customers WHERE active = 1").fetch_one(&self.readers).await?;
        self.inner.active.note(now, count);
        Ok(count)
    }

    /// Asks whether a claimed churn may take its customer away. `Cleared` is stored with the event, also for the next claim;
    /// asking again for the same event within the window admits it again and counts nothing more.
    pub async fn ask_brake(&self, claim: &mut Claim, brake: Brake, active: Option<u64>) -> Result<Asked, Error> {
        let row = BrakeRow { name: NAME, event: claim.work.event.id, clock: self.clock.clone() };
        let ask = Ask { row, lane: claim.lane.clone(), fence: claim.fence, brake, active };
        let asked = self.write(ask).await?;
        if asked == Asked::Cleared {
            claim.work.clearance = Clearance::Admitted;
        }
        Ok(asked)
    }

    /// The current numbers of the brake, for the gauges.
    pub async fn brake_tally(&self, brake: Brake) -> Result<Tally, Error> {
        let active = match brake.share {
            Some(_) => Some(self.active_customers().await?),
            None => None,
        };
        Ok(Tally { admitted: self.admitted(NAME, brake).await?, active })
    }
}

impl StoreView {
    /// The number of admissions by a brake within its window.
    pub(super) async fn admitted(&self, name: &str, brake: Brake) -> Result<u64, Error> {
        let newest = query("SELECT newest FROM brakes WHERE name = $1").bind(name);
        let newest = newest.fetch_optional(&self.readers).await?.unwrap_or(0);
        let since = self.clock.now().minus(brake.window);
        Ok(admitted_since(&self.readers, name, since, newest).await?)
    }
}

/// The number of admissions by a brake after a moment, if the latest admission has the number `newest`.
async fn admitted_since(on: impl Executor, name: &str, since: Timestamp, newest: i64) -> Result<u64, DbFault> {
    let first = query(
        "SELECT number FROM admissions WHERE brake = $1 AND admitted_at > $2 ORDER BY admitted_at, number LIMIT 1",
    );
    let first: Option<i64> = first.with((name, since)).fetch_optional(on).await?;
    Ok(first.map_or(0, |first| u64::try_from(newest - first + 1).unwrap_or(0)))
}

struct Ask {
    row: BrakeRow,
    lane: String,
    fence: i64,
    brake: Brake,
    active: Option<u64>,
}

impl Write for Ask {
    type Output = Asked;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Asked, DbFault> {
        if !is_newest_claim(&mut *tx, &self.lane, self.fence).await? {
            return Ok(Asked::Fenced);
        }
        let held = self.row.hold(tx).await?;
        self.row.ask(tx, &held, self.brake, self.active).await
    }
}

/// `true` if no newer claim of the lane exists.
pub(super) async fn is_newest_claim(on: impl Executor, lane: &str, fence: i64) -> Result<bool, DbFault> {
    query("SELECT 1 FROM lanes WHERE lane = $1 AND fence = $2 AND claimed = 1").with((lane, fence)).finds(on).await
}

/// The row of a brake, and the event that asks.
pub(super) struct BrakeRow {
    /// The key of the row.
    pub(super) name: &'static str,
    pub(super) event: EventId,
    pub(super) clock: Clock,
}

/// The brake's row, held until the transaction ends.
pub(super) struct HeldBrake {
    /// The time at which the row was locked.
    pub(super) now: Timestamp,
    newest: i64,
    admitted_at: Timestamp,
    is_closed: bool,
}

impl HeldBrake {
    /// Locks the row of the brake with this name, whatever event it is for.
    pub(super) async fn take(name: &str, clock: &Clock, tx: &mut Transaction<'_>) -> Result<Self, DbFault> {
        let row = query(
            "INSERT INTO brakes (name, newest, admitted_at) VALUES ($1, 0, 0) \
             ON CONFLICT (name) DO UPDATE SET newest = brakes.newest RETURNING newest, admitted_at, closed_at",
        );
        let (newest, admitted_at, closed_at): (_, _, Option<Timestamp>) = row.bind(name).fetch_one(&mut *tx).await?;
        let now = clock.now();
        let mut held = Self { now, newest, admitted_at, is_closed: closed_at.is_some() };
        if held.admitted_at > now.plus(CLOCK_TOLERANCE) {
            // The clock was far ahead and was set back: an admission in the future would stay in the window for that time.
            let ahead = query("UPDATE admissions SET admitted_at = $2 WHERE brake = $1 AND admitted_at > $2");
            ahead.with((name, now)).execute(tx).await?;
            held.admitted_at = now;
        }
        Ok(held)
    }
}

impl BrakeRow {
    /// Waits for the replica that is deciding now, and makes the other replicas wait. Reads the clock after the row is locked: a
    /// writer may have waited for long, and an earlier time would give an outdated window.
    pub(super) async fn hold(&self, tx: &mut Transaction<'_>) -> Result<HeldBrake, DbFault> {
        HeldBrake::take(self.name, &self.clock, tx).await
    }

    /// Lets the core decide whether the event is admitted, and stores the answer.
    pub(super) async fn ask(
        &self,
        tx: &mut Transaction<'_>,
        held: &HeldBrake,
        brake: Brake,
        active: Option<u64>,
    ) -> Result<Asked, DbFault> {
        let since = held.now.minus(brake.window);
        if self.is_cleared(tx, since).await? {
            return Ok(Asked::Cleared);
        }
        let admitted = admitted_since(&mut *tx, self.name, since, held.newest).await?;
        let tally = Tally { admitted, active };
        if brake.admits(tally) {
            self.admit(tx, held).await?;
            self.forget(tx, since).await?;
            return Ok(Asked::Cleared);
        }
        if !held.is_closed {
            let close = query("UPDATE brakes SET closed_at = $2 WHERE name = $1").with((self.name, held.now));
            close.execute(tx).await?;
        }
        Ok(Asked::Refused { tally, has_closed: !held.is_closed })
    }

    /// `true` if the event was cleared before: its answer was lost, or it was admitted within the window, parked for another
    /// reason and retried. It counts once.
    async fn is_cleared(&self, tx: &mut Transaction<'_>, since: Timestamp) -> Result<bool, DbFault> {
        let known = query("SELECT 1 FROM events WHERE id = $1 AND clearance IS NOT NULL").bind(self.event);
        if known.finds(&mut *tx).await? {
            return Ok(true);
        }
        let counted = query("SELECT 1 FROM admissions WHERE event_id = $1 AND admitted_at > $2");
        let counted = counted.with((self.event, since)).finds(&mut *tx).await?;
        if counted {
            self.clear(tx).await?;
        }
        Ok(counted)
    }

    async fn admit(&self, tx: &mut Transaction<'_>, held: &HeldBrake) -> Result<(), DbFault> {
        let (number, at) = (held.newest + 1, held.now.max(held.admitted_at));
        // An admission from a window that is over.
        query("DELETE FROM admissions WHERE event_id = $1").bind(self.event).execute(&mut *tx).await?;
        query("INSERT INTO admissions (brake, number, event_id, admitted_at) VALUES ($1, $2, $3, $4)")
            .with((self.name, number, self.event, at))
            .execute(&mut *tx)
            .await?;
        query("UPDATE brakes SET newest = $2, admitted_at = $3, closed_at = NULL WHERE name = $1")
            .with((self.name, number, at))
            .execute(&mut *tx)
            .await?;
        self.clear(tx).await
    }

    async fn clear(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        query("UPDATE events SET clearance = $2 WHERE id = $1")
            .with((self.event, Clearance::Admitted.name()))
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn forget(&self, tx: &mut Transaction<'_>, since: Timestamp) -> Result<(), DbFault> {
        let forget = ours(format!(
            "DELETE FROM admissions WHERE brake = $1 AND number IN (SELECT number FROM admissions \
             WHERE brake = $1 AND admitted_at <= $2 ORDER BY admitted_at, number LIMIT {FORGOTTEN_AT_ONCE})"
        ));
        query(forget).with((self.name, since)).execute(tx).await?;
        Ok(())
    }
}
