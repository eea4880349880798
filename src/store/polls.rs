//! Polls of heat pumps: the users that are due, and the results of polls.
//!
//! Due times are rows, so a restart in the middle of a sweep forgets nothing. The result of a poll and its alerts are written in
//! one transaction or not at all.
//!
//! Before: [`crate::store::roster`] names the users. After: [`crate::watch`] polls them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::customers;
use super::db::{DbFault, listed, ours, query, row};
use super::error::Error;
use super::give_back::{GiveBack, Leased};
use super::handle::Store;
use super::leases::LeaseGuard;
use super::moments::Reach;
use super::outages::known_outages;
use super::pumps::{IfNew, ReadyPump, change, seen_by};
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::alert::{Outages, PumpChange, PumpRecord};
use crate::domain::customer::Customer;
use crate::domain::event::{EventKind, EventState};

/// Interval before a move or a churn takes effect in which no ticket is wanted: customers unplug their devices from a day before
/// on.
const LEAVING_WINDOW: Duration = Duration::from_hours(24);

/// A user whose poll is due.
#[derive(Debug, Clone)]
pub struct DueUser {
    /// The user's id at Podero.
    pub user: Uuid,
    /// The utility's id, if Podero knows it.
    pub customer: Option<String>,
    /// The user's region, if regions are watched.
    pub region: Option<String>,
    /// `true` if a move or a churn of the customer is under way or about to be, or the customer has left.
    pub is_leaving: bool,
    /// The records of the user's pumps.
    pub seen: Vec<PumpRecord>,
}

/// Users whose polls were taken.
#[derive(Debug, Clone, Default)]
pub struct DuePolls {
    /// The users.
    pub users: Vec<DueUser>,
    /// The suspected and open outages by which their polls are judged; empty if no user is due.
    pub outages: Outages,
}

/// The result of one complete poll of a user.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The user's id at Podero.
    pub user: Uuid,
    /// The changes, pump by pump.
    pub changes: Vec<PumpChange>,
    /// The time of the next poll.
    pub due_at: Timestamp,
}

impl Store {
    /// Takes up to `limit` users whose poll is due; no other caller gets them for `lease`. They stay due until the result is
    /// stored, so a crash in the middle costs no more than the lease.
    pub async fn due_polls(&self, limit: usize, lease: Duration) -> Result<DuePolls, Error> {
        let now = self.clock.now();
        let guard = self.lease_guard(&self.inner.polls);
        let ceiling = self.ceilings.get().poll;
        let take = TakeDue { now, until: now.plus(lease), limit, ceiling, guard: guard.clone() };
        let (due, outages) = self.write_leasing(take, guard).await?;
        let users = due.into_iter().map(|(user, seen)| DueUser { seen: seen_by(now, &seen), ..user }).collect();
        Ok(DuePolls { users, outages })
    }

    /// Makes a user whose poll gave nothing due again at `at`: nothing is concluded from it.
    pub async fn poll_again(&self, user: Uuid, at: Timestamp) -> Result<(), Error> {
        let again = query("UPDATE watched SET due_at = $2, taken_until = 0 WHERE user_id = $1").with((user, at));
        self.change(again).await?;
        self.inner.polls.give_back(&[user]);
        Ok(())
    }

    /// Stores the result of a complete poll, with its notices. A pump that another write changed in the meantime keeps that
    /// change, and its notice is not sent.
    pub async fn observe(&self, observed: Observed) -> Result<(), Error> {
        let clock = &self.clock;
        let Observed { user, changes, due_at } = observed;
        let ready = |change: PumpChange| {
            let seqs = change.notices.iter().map(|_| clock.fresh_id().to_string()).collect();
            ReadyPump::new(change, seqs)
        };
        let changes = changes.into_iter().map(ready).collect();
        self.write(Observe { user, changes, due_at, now: clock.now() }).await?;
        self.inner.polls.give_back(&[user]);
        Ok(())
    }
}

struct TakeDue {
    now: Timestamp,
    until: Timestamp,
    limit: usize,
    ceiling: Duration,
    guard: Option<Arc<LeaseGuard<Uuid>>>,
}

impl Write for TakeDue {
    const ONLY_IF_AWAITED: bool = true;
    /// The users, each with the stored records of their pumps, and the outages.
    type Output = (Vec<(DueUser, Vec<String>)>, Outages);

    fn give_back(&self, (taken, _): &Self::Output) -> Option<GiveBack> {
        let rows = if self.guard.is_none() { taken.as_slice() } else { &[] };
        let users = rows.iter().map(|(due, _)| due.user.to_string()).collect();
        GiveBack::of(Leased::Polls, users, self.now, self.until)
    }

    fn abandon(&self) {
        self.guard.iter().for_each(|guard| guard.undo());
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        let mut due = match &self.guard {
            Some(guard) => self.in_memory(guard, tx).await?,
            None => self.in_rows(tx).await?,
        };
        if due.is_empty() {
            return Ok(Self::Output::default());
        }
        read_leaving_of(tx, &mut due, self.now).await?;
        let (outages, _) = known_outages(&mut *tx, self.now).await?;
        let mut seen = read_seen_of(tx, &due).await?;
        let with_seen = due.into_iter().map(|user| {
            let seen = seen.remove(&user.user).unwrap_or_default();
            (user, seen)
        });
        Ok((with_seen.collect(), outages))
    }
}

impl TakeDue {
    async fn in_memory(&self, guard: &LeaseGuard<Uuid>, tx: &mut Transaction<'_>) -> Result<Vec<DueUser>, DbFault> {
        let looked_at = self.limit + guard.begin(self.now);
        let mut due: Vec<DueUser> = Vec::with_capacity(self.limit);
        for reach in Reach::BOTH {
            if due.len() == self.limit {
                break;
            }
            let look = ours(format!(
                "SELECT {columns} FROM watched WHERE due_at {compares} $1 ORDER BY due_at LIMIT $2",
                columns = WatchedRow::COLUMNS,
                compares = reach.compares(),
            ));
            let look = query(look).with((reach.bound(self.now, self.ceiling), looked_at));
            for row in look.fetch_all::<WatchedRow>(&mut *tx).await? {
                let user = DueUser::from(row);
                if due.len() < self.limit && guard.take(user.user, self.until) {
                    due.push(user);
                }
            }
        }
        Ok(due)
    }

    async fn in_rows(&self, tx: &mut Transaction<'_>) -> Result<Vec<DueUser>, DbFault> {
        let mut due = Vec::new();
        // No lease is longer than this one, which ends at `until`.
        let lease_ends_by = Timestamp::latest(self.until, Duration::ZERO);
        for reach in Reach::BOTH {
            if due.len() == self.limit {
                break;
            }
            let chosen = tx.db.chosen(&format!(
                "SELECT user_id FROM watched WHERE due_at {compares} $2 AND (taken_until <= $4 OR taken_until > $5) \
                 ORDER BY due_at LIMIT $3{}",
                tx.db.skip_locked(),
                compares = reach.compares(),
            ));
            let take = ours(format!(
                "UPDATE watched SET taken_until = $1 WHERE user_id {chosen} RETURNING {columns}",
                columns = WatchedRow::COLUMNS,
            ));
            let take = query(take).with((
                self.until,
                reach.bound(self.now, self.ceiling),
                self.limit - due.len(),
                self.now,
                lease_ends_by,
            ));
            due.extend(take.fetch_all::<WatchedRow>(&mut *tx).await?.into_iter().map(DueUser::from));
        }
        Ok(due)
    }
}

row! {
    /// A watched user whose poll is due.
    struct WatchedRow {
        user: Uuid = "user_id",
        customer: Option<String> = "customer",
        region: Option<String> = "region",
    }
}

impl From<WatchedRow> for DueUser {
    fn from(WatchedRow { user, customer, region }: WatchedRow) -> Self {
        Self { user, customer, region, is_leaving: false, seen: Vec::new() }
    }
}

async fn read_seen_of(tx: &mut Transaction<'_>, due: &[DueUser]) -> Result<HashMap<Uuid, Vec<String>>, DbFault> {
    let sql = ours(format!("SELECT user_id, record FROM pumps WHERE user_id IN {}", listed(1, due.len())));
    let query = query(sql).with_each(due.iter().map(|user| user.user));
    let mut seen = HashMap::<Uuid, Vec<String>>::with_capacity(due.len());
    for (user, text) in query.fetch_all(tx).await? {
        seen.entry(user).or_default().push(text);
    }
    Ok(seen)
}

/// Marks the users that are moving or leaving, or have left although Podero did not let them go (their churn is parked).
async fn read_leaving_of(tx: &mut Transaction<'_>, due: &mut [DueUser], now: Timestamp) -> Result<(), DbFault> {
    let customers: Vec<String> = due.iter().filter_map(|user| user.customer.clone()).collect();
    if customers.is_empty() {
        return Ok(());
    }
    let sql = ours(format!(
        "SELECT lane, state, MAX(time) FROM events WHERE lane IN {} AND (\
         (type IN ('{moved}', '{churned}') \
         AND (COALESCE(state, '') = 'pending' OR (COALESCE(state, '') = 'scheduled' AND due_at <= $1))) \
         OR (type = '{churned}' AND COALESCE(state, '') = 'parked')) GROUP BY lane, state",
        listed(2, customers.len()),
        moved = EventKind::Moved,
        churned = EventKind::Churned,
    ));
    let leaving = query(sql).bind(now.plus(LEAVING_WINDOW)).with_each(&customers);
    let leaving: Vec<(String, EventState, Timestamp)> = leaving.fetch_all(&mut *tx).await?;
    for (leaving, state, churned_at) in leaving {
        if state == EventState::Parked && has_come_back(tx, &leaving, churned_at).await? {
            continue;
        }
        due.iter_mut().filter(|due| due.customer.as_ref() == Some(&leaving)).for_each(|due| due.is_leaving = true);
    }
    Ok(())
}

/// `true` if the customer has signed up again since. The sign-up itself may be removed by now, but not the customer's state.
async fn has_come_back(tx: &mut Transaction<'_>, customer: &str, churned_at: Timestamp) -> Result<bool, DbFault> {
    let known = customers::state_of(tx, customer).await?;
    let known = known.and_then(|text| serde_json::from_str::<Customer>(&text).ok());
    let signed_up = known.and_then(|customer| customer.facts.signed_up);
    Ok(signed_up.is_some_and(|signed_up| signed_up.time > churned_at))
}

struct Observe {
    user: Uuid,
    changes: Vec<ReadyPump>,
    due_at: Timestamp,
    now: Timestamp,
}

impl Write for Observe {
    type Output = ();

    fn weight(&self) -> usize {
        1 + self.changes.len()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        query("UPDATE watched SET polled_at = $2, due_at = $3, taken_until = 0 WHERE user_id = $1")
            .with((self.user, self.now, self.due_at))
            .execute(&mut *tx)
            .await?;
        for seen in &self.changes {
            change(tx, seen, self.now, IfNew::KeepIfWatched).await?;
        }
        Ok(())
    }
}
