//! The outbox: every outgoing message is first a row, written together with the change that it reports.
//!
//! One row per notice and target. The id is the notice's own, so the same news written twice is one row, and a crash after
//! publishing but before marking sends it again under the same id (at least once, stable id).
//!
//! Before: [`crate::store::lanes`] and [`crate::store::roster`] write. After: [`crate::outbound`] publishes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::closed_sets::{NoticeState, Target};
use super::db::{DbFault, RowStatement, ours, query, row};
use super::error::Error;
use super::give_back::{GiveBack, Leased};
use super::handle::Store;
use super::leases::LeaseGuard;
use super::moments::Reach;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::notice::Notice;

/// A notice to be published now.
#[derive(Debug, Clone)]
pub struct DueNotice {
    /// The notice.
    pub notice: Notice,
    /// The number of failed attempts.
    pub failures: u32,
}

/// Delay before a notice that this version cannot read is looked at again: another version may have taken over.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(300);

/// The result of one attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The target confirmed it.
    Published,
    /// The target did not confirm it: the next attempt is not before `at`.
    Failed {
        /// The next attempt.
        at: Timestamp,
        /// The reason, for the operator.
        why: &'static str,
    },
}

impl Store {
    /// Takes up to `limit` due notices for `target`, the oldest of each order key, first those that have been due for longest,
    /// and hides them for `lease`. A notice that this version cannot read holds up only its own order key.
    pub async fn due_notices(&self, target: Target, limit: usize, lease: Duration) -> Result<Vec<DueNotice>, Error> {
        let now = self.clock.now();
        let guard = self.lease_guard(&self.inner.notices);
        let ceiling = self.ceilings.get().notice;
        let until = now.plus(lease);
        let take = Take { target, now, until, limit, ceiling, guard: guard.clone() };
        let rows = self.write_leasing(take, guard).await?;
        let (mut due, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
        for TakenNotice { id, body, failures, .. } in rows {
            match serde_json::from_str(&body) {
                Ok(notice) => due.push(DueNotice { notice, failures }),
                Err(error) => {
                    tracing::error!(notice.id = %id, column = error.column(), "an outgoing event cannot be read by this version");
                    let (at, why) = (now.plus(UNREADABLE_PAUSE), "unreadable by this version");
                    unreadable.push((id, PublishOutcome::Failed { at, why }));
                }
            }
        }
        if !unreadable.is_empty()
            && let Err(error) = self.mark(target, unreadable.clone()).await
        {
            let ids = unreadable.iter().map(|(id, _)| id.to_string()).collect();
            self.give_back(GiveBack::of(Leased::Notices(target), ids, now, until));
            self.inner.notices.give_back(&of_target(target, &unreadable));
            // The others are on their way all the same.
            if due.is_empty() {
                return Err(error);
            }
        }
        Ok(due)
    }

    /// Stores the results of attempts. A notice counts as published only after `Ok`.
    pub async fn mark(&self, target: Target, outcomes: Vec<(Uuid, PublishOutcome)>) -> Result<(), Error> {
        let done = of_target(target, &outcomes);
        self.write(Mark { target, outcomes, now: self.clock.now() }).await?;
        self.inner.notices.give_back(&done);
        Ok(())
    }
}

fn of_target(target: Target, outcomes: &[(Uuid, PublishOutcome)]) -> Vec<(Target, Uuid)> {
    outcomes.iter().map(|(id, _)| (target, *id)).collect()
}

/// An outgoing event ready to be written.
pub(super) struct NewNotice<'a> {
    pub(super) notice: &'a Notice,
    pub(super) customer: Option<&'a str>,
    /// The position in the order of its order key, unless a later one exists there.
    pub(super) seq: &'a str,
    /// The present.
    pub(super) at: Timestamp,
}

static INSERT: RowStatement = RowStatement::new(
    &["id", "target", "seq", "topic", "order_key", "customer", "body", "created_at", "due_at", "failures", "state"],
    "INSERT INTO notices (id, target, seq, topic, order_key, customer, body, created_at, due_at, failures, state) {rows} \
     ON CONFLICT (id, target) DO NOTHING",
);

/// As [`insert_all`], for one.
pub(super) async fn insert(tx: &mut Transaction<'_>, new: NewNotice<'_>) -> Result<(), DbFault> {
    insert_all(tx, vec![new]).await
}

/// Writes notices for every target. The same id again changes nothing. A notice goes out after all committed ones of its order
/// key that still wait, even if their writer's clock was ahead of this one's: an alert's end must not overtake its beginning,
/// which another replica may have written after this one had drawn its `seq`.
pub(super) async fn insert_all(tx: &mut Transaction<'_>, new: Vec<NewNotice<'_>>) -> Result<(), DbFault> {
    let state = if tx.targets.is_empty() { NoticeState::Kept } else { NoticeState::Pending };
    let bodies: Vec<String> = new
        .iter()
        .map(|new| serde_json::to_string(new.notice).expect("a notice has only serialisable fields"))
        .collect();
    for name in Target::names_of(tx.targets) {
        // Without targets none waits.
        let mut last = if tx.targets.is_empty() { HashMap::new() } else { last_waiting(tx, name, &new).await? };
        let in_order = new.iter().zip(&bodies).map(|(new, body)| {
            let last = last.entry(&new.notice.order_key).or_default();
            *last = seq_after(last, new.seq);
            (new, body, last.clone())
        });
        let mut by_id: Vec<(&NewNotice<'_>, &String, String)> = in_order.collect();
        by_id.sort_by_key(|(new, ..)| new.notice.id);
        let mut rows = INSERT.rows(new.len());
        for (NewNotice { notice, customer, at, .. }, body, seq) in &by_id {
            rows.with((notice.id, name, seq, notice.topic.name(), &notice.order_key, *customer, *body))
                .with((*at, *at, 0_u32, state));
        }
        rows.execute(&mut *tx).await?;
    }
    Ok(())
}

// Waiting notices of one order key are looked for by a condition that does not imply that of `notices_due`: PostgreSQL might look
// through all that wait in it, since it seems empty by statistics that were taken while none did.
static LAST: RowStatement = RowStatement::new(
    &["order_key", "target"],
    "SELECT {order_key}, (SELECT MAX(seq) FROM notices WHERE notices.target = {target} AND notices.order_key = {order_key} \
     AND published_at IS NULL AND state = (SELECT 'pending')) {from}",
);

/// The `seq`s of the last waiting notices of the order keys of new ones.
async fn last_waiting<'a>(
    tx: &mut Transaction<'_>,
    target: &str,
    new: &[NewNotice<'a>],
) -> Result<HashMap<&'a str, String>, DbFault> {
    let keys: BTreeSet<&'a str> = new.iter().map(|new| new.notice.order_key.as_str()).collect();
    let mut rows = LAST.rows(keys.len());
    for key in &keys {
        rows.with((*key, target));
    }
    let found: Vec<(String, Option<String>)> = rows.fetch_all(tx).await?;
    let known = |(key, last): (String, Option<String>)| Some((*keys.get(key.as_str())?, last?));
    Ok(found.into_iter().filter_map(known).collect())
}

/// `seq`, or the next one after the last waiting notice of the order key.
fn seq_after(last: &str, seq: &str) -> String {
    let last = Some(last).filter(|last| *last >= seq).and_then(|last| last.parse::<Uuid>().ok());
    let next = last.map(|last| Uuid::from_u128(last.as_u128().saturating_add(1)).to_string());
    next.unwrap_or_else(|| seq.to_owned())
}

row! {
    /// A notice that was taken to be published.
    struct TakenNotice {
        seq: String = "seq",
        id: Uuid = "id",
        body: String = "body",
        failures: u32 = "failures",
    }
}

struct Take {
    target: Target,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
    ceiling: Duration,
    guard: Option<Arc<LeaseGuard<(Target, Uuid)>>>,
}

impl Write for Take {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<TakenNotice>;

    fn give_back(&self, taken: &Self::Output) -> Option<GiveBack> {
        let rows = if self.guard.is_none() { taken.as_slice() } else { &[] };
        let ids = rows.iter().map(|notice| notice.id.to_string()).collect();
        GiveBack::of(Leased::Notices(self.target), ids, self.now, self.until)
    }

    fn abandon(&self) {
        self.guard.iter().for_each(|guard| guard.undo());
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        match &self.guard {
            Some(guard) => self.in_memory(guard, tx).await,
            None => self.in_rows(tx).await,
        }
    }
}

impl Take {
    async fn in_memory(
        &self,
        guard: &LeaseGuard<(Target, Uuid)>,
        tx: &mut Transaction<'_>,
    ) -> Result<Vec<TakenNotice>, DbFault> {
        let looked_at = self.limit + guard.begin(self.now);
        let mut taken = Vec::with_capacity(self.limit);
        for reach in Reach::BOTH {
            if taken.len() == self.limit {
                break;
            }
            let due = ours(format!(
                "SELECT {columns} FROM notices AS mine WHERE target = $1 AND state = 'pending' AND due_at {compares} $2 \
                 AND NOT EXISTS (SELECT 1 FROM notices AS older WHERE older.target = $1 AND older.published_at IS NULL \
                 AND older.state = (SELECT 'pending') AND older.order_key = mine.order_key AND older.seq < mine.seq) \
                 ORDER BY due_at LIMIT $3",
                columns = TakenNotice::COLUMNS,
                compares = reach.compares(),
            ));
            let due = query(due).with((self.target, reach.bound(self.now, self.ceiling)));
            let due = due.bind(looked_at);
            for notice in due.fetch_all::<TakenNotice>(&mut *tx).await? {
                if taken.len() < self.limit && guard.take((self.target, notice.id), self.until) {
                    taken.push(notice);
                }
            }
        }
        Ok(in_order(taken))
    }

    async fn in_rows(&self, tx: &mut Transaction<'_>) -> Result<Vec<TakenNotice>, DbFault> {
        let mut taken = Vec::new();
        for reach in Reach::BOTH {
            if taken.len() == self.limit {
                break;
            }
            // Not by `NOT EXISTS`, which PostgreSQL makes a join over all that wait, planned while nothing did. As for `LAST`.
            let chosen = tx.db.chosen(&format!(
                "SELECT id FROM notices AS mine WHERE target = $2 AND state = 'pending' AND due_at {compares} $3 \
                 AND seq = (SELECT MIN(older.seq) FROM notices AS older WHERE older.target = $2 AND older.published_at IS NULL \
                 AND older.state = (SELECT 'pending') AND older.order_key = mine.order_key) ORDER BY due_at LIMIT $4{}",
                tx.db.skip_locked(),
                compares = reach.compares(),
            ));
            let take = ours(format!(
                "UPDATE notices SET due_at = $1 WHERE target = $2 AND id {chosen} RETURNING {columns}",
                columns = TakenNotice::COLUMNS,
            ));
            let take = query(take).with((
                self.until,
                self.target,
                reach.bound(self.now, self.ceiling),
                self.limit - taken.len(),
            ));
            taken.extend(take.fetch_all::<TakenNotice>(&mut *tx).await?);
        }
        Ok(in_order(taken))
    }
}

fn in_order(mut taken: Vec<TakenNotice>) -> Vec<TakenNotice> {
    taken.sort_by(|one, other| one.seq.cmp(&other.seq));
    taken
}

struct Mark {
    target: Target,
    outcomes: Vec<(Uuid, PublishOutcome)>,
    now: Timestamp,
}

static MARK: RowStatement = RowStatement::new(
    &["id", "target", "state", "due_at", "failed", "outcome", "published_at"],
    "UPDATE notices SET state = {state}, due_at = {due_at}, failures = notices.failures + {failed}, outcome = {outcome}, \
     published_at = {published_at} {from} WHERE notices.id = {id} AND notices.target = {target} \
     AND COALESCE(notices.state, '') = 'pending'",
);

impl Write for Mark {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let outcomes: BTreeMap<Uuid, PublishOutcome> = self.outcomes.iter().copied().collect();
        let mut rows = MARK.rows(outcomes.len());
        for (id, outcome) in outcomes {
            let (state, due_at, failed, why, published_at) = match outcome {
                PublishOutcome::Published => (NoticeState::Published, self.now, false, "confirmed", Some(self.now)),
                PublishOutcome::Failed { at, why } => (NoticeState::Pending, at, true, why, None),
            };
            rows.with((id, self.target, state, due_at, failed, why, published_at));
        }
        rows.execute(tx).await?;
        Ok(())
    }
}
