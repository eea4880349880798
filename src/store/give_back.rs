//! Claims that reached no claimer: given back, so that they are taken up again at once and not when their leases end.
//!
//! A claim may be on disk although its claimer never learnt of it: the connection broke over the answer to a COMMIT, or the claimer
//! gave up waiting. The writer keeps such a claim in memory, and ends it as soon as a transaction goes through again.
//!
//! A claim is known by its rows and by the end of its lease, so that one which another replica has made of a row meanwhile stands. A
//! row that another transaction has locked is passed over and tried again: that transaction may be the claim itself, whose COMMIT
//! the server has still before it.
//!
//! Before: [`crate::store::writer`] finds that a claim reached no claimer. After: the rows are due again.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::closed_sets::Target;
use super::db::{Connection, Db, DbFault, RowStatement, listed, ours, query};
use crate::domain::Timestamp;

/// Limit of the claims that are kept to be given back. There is one for each transaction whose COMMIT was not answered, and it ends
/// with its lease: more than this are of an outage that lasts, and come back by their leases.
const UNCLAIMED_MAX: usize = 256;

/// Interval at which claims that could not be given back are tried again: their rows are locked, and each try is a transaction.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(500);

/// The rows that a claim leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    /// Lanes, by their names.
    Lanes,
    /// Notices for a target, by their ids.
    Notices(Target),
    /// Polls, by the ids of the users.
    Polls,
    /// Duties, by their names.
    Duties,
}

/// A claim that is to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GiveBack {
    leased: Leased,
    keys: Vec<String>,
    /// The moment of the claim, from which on its rows are due again.
    from: Timestamp,
    /// The end of the lease, by which the claim is known.
    until: Timestamp,
    /// The same by this process's elapsed time: the rows are due by themselves then.
    expires: Instant,
}

static LANES: RowStatement = RowStatement::new(
    &["lane", "due_from", "leased_until"],
    "UPDATE lanes SET claimed = 0, ready_at = {due_from} {from} \
     WHERE lanes.lane = {lane} AND lanes.claimed = 1 AND COALESCE(lanes.ready_at, 0) = {leased_until}",
);

static NOTICES: RowStatement = RowStatement::new(
    &["id", "target", "due_from", "leased_until"],
    "UPDATE notices SET due_at = {due_from} {from} \
     WHERE notices.id = {id} AND notices.target = {target} AND COALESCE(notices.due_at, 0) = {leased_until}",
);

static POLLS: RowStatement = RowStatement::new(
    &["user_id", "leased_until"],
    "UPDATE watched SET taken_until = 0 {from} \
     WHERE watched.user_id = {user_id} AND watched.taken_until = {leased_until}",
);

static DUTIES: RowStatement = RowStatement::new(
    &["name", "due_from", "leased_until"],
    "UPDATE duties SET due_at = {due_from} {from} WHERE duties.name = {name} AND duties.due_at = {leased_until}",
);

impl GiveBack {
    /// A claim that was made at `from` and is leased until `until`; `None` if it took nothing.
    pub(super) fn of(leased: Leased, mut keys: Vec<String>, from: Timestamp, until: Timestamp) -> Option<Self> {
        keys.sort_unstable();
        let expires = Instant::now() + until.since(from);
        (!keys.is_empty()).then_some(Self { leased, keys, from, until, expires })
    }

    /// `true` if the lease has ended.
    pub(super) fn is_over(&self) -> bool {
        self.expires <= Instant::now()
    }

    /// Makes those rows due again that the claim still holds. Returns `false` if another transaction has locked some of them.
    pub(super) async fn make(&self, db: &Db, on: &mut Connection) -> Result<bool, DbFault> {
        let Self { leased, from, until, .. } = *self;
        let free = self.lock(db, on).await?;
        // The next statement sees the work of transactions that held the locks before.
        let mut rows = match leased {
            Leased::Lanes => LANES.rows(free.len()),
            Leased::Notices(_) => NOTICES.rows(free.len()),
            Leased::Polls => POLLS.rows(free.len()),
            Leased::Duties => DUTIES.rows(free.len()),
        };
        for key in &free {
            match leased {
                Leased::Lanes | Leased::Duties => rows.with((key, from, until)),
                Leased::Notices(target) => rows.with((key, target, from, until)),
                Leased::Polls => rows.with((key, until)),
            };
        }
        rows.execute(on).await?;
        Ok(free.len() == self.keys.len())
    }

    /// Locks the rows that no other transaction has locked, and returns their keys.
    async fn lock(&self, db: &Db, on: &mut Connection) -> Result<Vec<String>, DbFault> {
        let (skip, count) = (db.skip_locked(), self.keys.len());
        let lock = match self.leased {
            Leased::Lanes => query(ours(format!("SELECT lane FROM lanes WHERE lane IN {}{}", listed(1, count), skip))),
            Leased::Notices(target) => {
                let of_target =
                    format!("SELECT id FROM notices WHERE target = $1 AND id IN {}{}", listed(2, count), skip);
                query(ours(of_target)).bind(target)
            }
            Leased::Polls => {
                query(ours(format!("SELECT user_id FROM watched WHERE user_id IN {}{}", listed(1, count), skip)))
            }
            Leased::Duties => {
                query(ours(format!("SELECT name FROM duties WHERE name IN {}{}", listed(1, count), skip)))
            }
        };
        lock.with_each(&self.keys).fetch_all(on).await
    }
}

/// The claims of this process that reached no claimer.
#[derive(Debug, Default)]
pub(super) struct Unclaimed(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    claims: Vec<GiveBack>,
    /// The last attempt to give some back.
    tried_at: Option<Instant>,
}

impl Unclaimed {
    /// Keeps claims until they are given back.
    pub(super) fn add(&self, claims: impl IntoIterator<Item = GiveBack>) {
        let mut waiting = self.lock();
        for claim in claims {
            if waiting.claims.len() < UNCLAIMED_MAX && !waiting.claims.contains(&claim) {
                waiting.claims.push(claim);
            }
        }
    }

    /// Takes the claims that are to be given back now.
    pub(super) fn take(&self) -> Vec<GiveBack> {
        let mut waiting = self.lock();
        waiting.claims.retain(|claim| !claim.is_over());
        if waiting.claims.is_empty() || waiting.tried_at.is_some_and(|at| at.elapsed() < GIVE_BACK_EVERY) {
            return Vec::new();
        }
        waiting.tried_at = Some(Instant::now());
        std::mem::take(&mut waiting.claims)
    }

    /// Keeps the rows of a claim that reached its claimer: an earlier claim of them is over. If the clock stands still, or the same
    /// write was tried twice, both have one end of their leases.
    pub(super) fn keep(&self, reached: &GiveBack) {
        let mut waiting = self.lock();
        for claim in waiting.claims.iter_mut().filter(|claim| claim.leased == reached.leased) {
            claim.keys.retain(|key| reached.keys.binary_search(key).is_err());
        }
        waiting.claims.retain(|claim| !claim.keys.is_empty());
    }

    /// `true` if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().claims.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no code panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(leased: Leased, keys: &[&str], until: i64) -> GiveBack {
        let at = Timestamp::from_micros;
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        GiveBack::of(leased, keys, at(0), at(until)).expect("it took something")
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_given_back_while_its_lease_lasts_and_no_later_one_began() {
        let unclaimed = Unclaimed::default();
        assert!(
            GiveBack::of(Leased::Lanes, Vec::new(), Timestamp::from_micros(0), Timestamp::from_micros(9)).is_none()
        );
        let first = claim(Leased::Lanes, &["c", "a", "b"], 10_000_000);
        unclaimed.add([first.clone(), first, claim(Leased::Polls, &["a"], 10_000_000)]);
        unclaimed.keep(&claim(Leased::Lanes, &["b", "a"], 20_000_000));
        let taken = unclaimed.take();
        let keys: Vec<_> = taken.iter().map(|claim| (claim.leased, claim.keys.join(" "))).collect();
        assert_eq!(keys, [(Leased::Lanes, "c".to_owned()), (Leased::Polls, "a".to_owned())]);
        // Not at once again, and not after the lease.
        unclaimed.add(taken.clone());
        assert!(unclaimed.take().is_empty() && !unclaimed.is_empty());
        tokio::time::advance(GIVE_BACK_EVERY).await;
        assert_eq!(unclaimed.take(), taken);
        unclaimed.add(taken);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(unclaimed.take().is_empty() && unclaimed.is_empty());
    }
}
