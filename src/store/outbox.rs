//! The outbox: every message out is a row first, written with the effect it tells of.
//!
//! One row per notice and target. The id is the notice's own, so the same news written twice is one row, and
//! a crash after publishing but before marking sends it again under the same id (at least once, stable id).
//!
//! Before: [`crate::store::lanes`] and [`crate::store::roster`] write. After: [`crate::outbound`] publishes.

use std::sync::Arc;
use std::time::Duration;

use super::closed_sets::{NoticeState, Target};
use super::db::{Connection, Db, Fault, ours, query, row};
use super::moments::Reach;
use super::taken::Taking;
use super::writer::Write;
use super::{Error, Store};
use crate::domain::Timestamp;
use crate::domain::notice::Notice;

/// A notice to be published now.
#[derive(Debug, Clone)]
pub struct DueNotice {
    /// What to tell.
    pub notice: Notice,
    /// How often it failed.
    pub failures: u32,
}

/// What this version cannot read is looked at again after so long: another one may have taken over.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(300);

/// What came of one attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Confirmed: done.
    Published,
    /// Not confirmed: again, not before `at`.
    Failed {
        /// The next attempt.
        at: Timestamp,
        /// Why, for the operator.
        why: &'static str,
    },
}

impl Store {
    /// Takes up to `limit` due notices for `target`, of each line the oldest, first those that have been due for longest, and
    /// hides them for `lease`. One that this version cannot read holds up nobody but its own line.
    pub async fn due_notices(&self, target: Target, limit: usize, lease: Duration) -> Result<Vec<DueNotice>, Error> {
        let now = self.0.clock.now();
        let taking = self.taking(&self.0.notices);
        let ceiling = self.0.ceilings.get().notice;
        let take = Take { target, now, until: now.plus(lease), limit, ceiling, taking: taking.clone() };
        let rows = self.write_taking(take, taking).await?;
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
        if !unreadable.is_empty() {
            self.mark(target, unreadable).await?;
        }
        Ok(due)
    }

    /// Writes down what came of attempts. Only after `Ok` a notice counts as published.
    pub async fn mark(&self, target: Target, outcomes: Vec<(uuid::Uuid, PublishOutcome)>) -> Result<(), Error> {
        let done: Vec<_> = outcomes.iter().map(|(id, _)| (target, *id)).collect();
        self.write(Mark { target, outcomes, now: self.0.clock.now() }).await?;
        self.0.notices.give_back(&done);
        Ok(())
    }
}

/// Writes a notice for every target. The same id again changes nothing. It goes out after everything of its line that is
/// committed and still waits, also where the writer of that was ahead of this one's clock: an alert's end must not
/// overtake its beginning, which another replica may have written after this one had taken its `place`.
pub(super) async fn insert(
    connection: &mut Connection,
    notice: &Notice,
    customer: Option<&str>,
    targets: &[Target],
    place: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let body = serde_json::to_string(notice).expect("a notice has only serialisable fields");
    let state = if targets.is_empty() { NoticeState::Kept } else { NoticeState::Pending };
    for name in Target::names_of(targets) {
        let place = after_its_line(connection, (name, &notice.order_key), place).await?;
        query(
            "INSERT INTO notices (id, target, place, topic, line, customer, body, created_at, due_at, failures, \
             state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 0, $9) ON CONFLICT (id, target) DO NOTHING",
        )
        .with((notice.id, name, place, notice.topic.name(), &notice.order_key, customer, &body, now, state))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// `place`, or the next one after the last of the line that waits.
async fn after_its_line(
    connection: &mut Connection,
    (target, line): (&str, &str),
    place: &str,
) -> Result<String, Fault> {
    let last = "SELECT MAX(place) FROM notices WHERE target = $1 AND line = $2 AND state = 'pending'";
    let last: Option<String> = query(last).with((target, line)).fetch_one(connection).await?;
    let last = last.filter(|last| last.as_str() >= place).and_then(|last| last.parse::<uuid::Uuid>().ok());
    let next = last.map(|last| uuid::Uuid::from_u128(last.as_u128().saturating_add(1)).to_string());
    Ok(next.unwrap_or_else(|| place.to_owned()))
}

row! {
    /// A notice that was taken to be published.
    struct TakenNotice {
        seq: String = "place",
        id: uuid::Uuid = "id",
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
    taking: Option<Arc<Taking<(Target, uuid::Uuid)>>>,
}

impl Write for Take {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<TakenNotice>;

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        match &self.taking {
            Some(taking) => self.in_memory(taking, connection).await,
            None => self.in_rows(db, connection).await,
        }
    }
}

impl Take {
    async fn in_memory(
        &self,
        taking: &Taking<(Target, uuid::Uuid)>,
        connection: &mut Connection,
    ) -> Result<Vec<TakenNotice>, Fault> {
        let looked_at = self.limit + taking.begin(self.now);
        let mut taken = Vec::with_capacity(self.limit);
        for reach in Reach::BOTH {
            if taken.len() == self.limit {
                break;
            }
            let due = ours(format!(
                "SELECT {columns} FROM notices AS mine WHERE target = $1 AND state = 'pending' AND due_at {compares} $2 \
                 AND NOT EXISTS (SELECT 1 FROM notices AS older WHERE older.target = $1 AND older.state = 'pending' \
                 AND older.line = mine.line AND older.place < mine.place) ORDER BY due_at LIMIT $3",
                columns = TakenNotice::COLUMNS,
                compares = reach.compares(),
            ));
            let due = query(due).with((self.target, reach.bound(self.now, self.ceiling)));
            let due = due.bind(looked_at);
            for notice in due.fetch_all::<TakenNotice>(&mut *connection).await? {
                if taken.len() < self.limit && taking.take((self.target, notice.id), self.until) {
                    taken.push(notice);
                }
            }
        }
        Ok(in_order(taken))
    }

    async fn in_rows(&self, db: &Db, connection: &mut Connection) -> Result<Vec<TakenNotice>, Fault> {
        let mut taken = Vec::new();
        for reach in Reach::BOTH {
            if taken.len() == self.limit {
                break;
            }
            let take = ours(format!(
                "UPDATE notices SET due_at = $1 WHERE target = $2 AND id IN (\
                 SELECT id FROM notices AS mine WHERE target = $2 AND state = 'pending' AND due_at {compares} $3 \
                 AND NOT EXISTS (SELECT 1 FROM notices AS older WHERE older.target = $2 AND older.state = 'pending' \
                 AND older.line = mine.line AND older.place < mine.place) \
                 ORDER BY due_at LIMIT $4{}) RETURNING {columns}",
                db.skip_locked(),
                columns = TakenNotice::COLUMNS,
                compares = reach.compares(),
            ));
            let take = query(take).with((
                self.until,
                self.target,
                reach.bound(self.now, self.ceiling),
                self.limit - taken.len(),
            ));
            taken.extend(take.fetch_all::<TakenNotice>(&mut *connection).await?);
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
    outcomes: Vec<(uuid::Uuid, PublishOutcome)>,
    now: Timestamp,
}

impl Write for Mark {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        for (id, outcome) in &self.outcomes {
            let (state, due_at, failed, why, published_at) = match outcome {
                PublishOutcome::Published => (NoticeState::Published, self.now, false, "confirmed", Some(self.now)),
                PublishOutcome::Failed { at, why } => (NoticeState::Pending, *at, true, *why, None),
            };
            query(
                "UPDATE notices SET state = $3, due_at = $4, failures = failures + $5, outcome = $6, \
                 published_at = $7 WHERE id = $1 AND target = $2 AND state = 'pending'",
            )
            .with((*id, self.target, state, due_at, failed, why, published_at))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}
