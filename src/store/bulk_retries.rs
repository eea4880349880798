//! Retries of many parked events at a pace.
//!
//! A bulk retry is a row, so it survives a restart and has one pace, however many replicas step it. It goes through the parked
//! events once, in the order of arrival, and covers none that was parked after the order: an event that is parked again stays
//! parked.
//!
//! Before: [`crate::admin`] and [`crate::cli`] order. After: [`crate::store::claims`], where the events are claimed.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::audit::{self, AuditRow};
use super::closed_sets::RetryState;
use super::db::{Cell, DbFault, FromCell, Query, ours, query, row};
use super::error::Error;
use super::event_rows::UNSETTLED;
use super::handle::{Desk, StoreView};
use super::lanes::ready_live_lanes;
use super::parked_groups::ParkedFilter;
use super::parking::{RETRYABLE, STEP_MAX, of_reason, put_back};
use super::timeline::ROWS_MAX;
use super::transaction::{Transaction, Write};
use crate::domain::audit::{Action, AuditReason, TargetKind};
use crate::domain::identity::Actor;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, ID_CHARS_MAX, Timestamp};

/// Limit of the time that a bulk retry catches up after a gap in its steps (a restart): the pace is there to spare Podero, and a
/// burst would not.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Interval at which a bulk retry that waits for room in the backlog looks again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Limit of the parked events that one step looks at for those that its order means: the writer has other work, and the next step
/// goes on behind them.
const LOOK_MAX: usize = 2_000;

/// Limit of the pace of a bulk retry, events per second.
pub const PER_SECOND_MAX: u32 = 1_000;

/// Default pace of a bulk retry, events per second: a fifth of the default budget, so that new events go first.
pub const PER_SECOND_DEFAULT: u32 = 10;

/// Limit of the attempts to give an order while the retry in its way ends in the meantime: a small one takes milliseconds.
const ORDERS_MAX: usize = 5;

row! {
    /// A bulk retry and how far it is.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
    pub struct BulkRetry {
        /// Of the retry.
        #[schemars(with = "Uuid")]
        pub id: String = "id",
        /// Which events; null: all.
        pub reason: Option<String> = "reason",
        /// Its pace.
        pub per_second: u32 = "per_second",
        /// When; where the order names a moment until which its events were parked, that one.
        pub ordered_at: Timestamp = "ordered_at",
        /// Only events of this source; null: of any.
        pub source: Option<String> = "source",
        /// Only events that were parked at this moment or later; null: whenever.
        pub since: Option<Timestamp> = "since",
        /// Whether it overrides what parked them.
        pub approve: bool = "approve",
        /// Parked events that it covers.
        pub total: u64 = "total",
        /// How many of each type they are.
        #[schemars(with = "BTreeMap<String, u64>")]
        pub types: KindCounts = "types",
        /// Of these so far.
        pub retried: u64 = "retried",
        /// How it stands.
        pub state: RetryState = "state",
        /// When it ended.
        pub ended_at: Option<Timestamp> = "ended_at",
    }
}

/// The number of events of each kind; empty if an earlier version, which did not count them, wrote the row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KindCounts(pub BTreeMap<String, u64>);

impl FromCell for KindCounts {
    fn from_cell(cell: Cell) -> Option<Self> {
        let text = Option::<String>::from_cell(cell)?;
        Some(Self(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()))
    }
}

impl BulkRetry {
    /// `true` while it has more to do.
    pub fn is_running(&self) -> bool {
        self.state == RetryState::Running
    }
}

/// The result of ordering a bulk retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// The ordered retry runs.
    Running(BulkRetry),
    /// Another retry runs; two would double the pace.
    Occupied(BulkRetry),
}

/// The result of one step of the running bulk retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// No bulk retry runs.
    Nothing,
    /// `count` events went back into their lanes; the next is due after the pause.
    Retried {
        /// The number of events.
        count: usize,
        /// The time until the next step has something to do.
        pause: Duration,
    },
}

impl StoreView {
    /// Bulk retries, newest first.
    pub async fn bulk_retries(&self) -> Result<Vec<BulkRetry>, Error> {
        let newest = ours(format!("SELECT {} FROM bulk_retries ORDER BY id DESC LIMIT $1", BulkRetry::COLUMNS));
        Ok(query(newest).bind(ROWS_MAX).fetch_all(&self.readers).await?)
    }

    /// One bulk retry.
    pub async fn bulk_retry(&self, id: &str) -> Result<Option<BulkRetry>, Error> {
        let one = ours(format!("SELECT {} FROM bulk_retries WHERE id = $1", BulkRetry::COLUMNS));
        Ok(query(one).bind(id).fetch_optional(&self.readers).await?)
    }
}

impl Desk {
    /// Orders a retry of everything that is parked now, matches the filter and can be retried, at a pace of `per_second` events.
    /// After `Running` it goes on by itself, also after a restart, as long as [`Desk::retry_step`] is called.
    pub async fn order_retry(&self, filter: ParkedFilter, per_second: u32, by: &Actor) -> Result<Ordered, Error> {
        let until = self.clock.now();
        self.order(RetryOrder { filter, per_second, approve: false, until }, by).await
    }

    /// As [`Desk::order_retry`], and approves each event of this reason that was parked until `until`: only those that a person
    /// has seen. If no approval overrides the reason, this is a plain retry.
    pub async fn order_approval(
        &self,
        reason: Reason,
        per_second: u32,
        until: Timestamp,
        by: &Actor,
    ) -> Result<Ordered, Error> {
        let until = until.min(self.clock.now());
        let (filter, approve) = (ParkedFilter::of_reason(Some(reason)), reason.is_approvable());
        self.order(RetryOrder { filter, per_second, approve, until }, by).await
    }

    async fn order(&self, mut order: RetryOrder, by: &Actor) -> Result<Ordered, Error> {
        self.date_back_parked().await?;
        // Covers events that were parked before and dated back. An approval covers only the events that a person saw, under their
        // old dates.
        if !order.approve {
            let now = self.clock.now();
            order.until = order.filter.until.map_or(now, |until| until.min(now));
        }
        for _ in 0..ORDERS_MAX {
            if let Some(ordered) = self.order_once(&order, by).await? {
                return Ok(ordered);
            }
        }
        Err(Error::Away("other retries begin and end all the time".to_owned()))
    }

    /// `None`: another retry was in the way, and has ended since.
    async fn order_once(&self, order: &RetryOrder, by: &Actor) -> Result<Option<Ordered>, Error> {
        let RetryOrder { filter, per_second, approve, until } = order;
        let reason = filter.reason;
        // Counts outside the writer: counting a million rows must not hold up all commits.
        let count = ours(format!(
            "SELECT type, COUNT(*) FROM events WHERE state = 'parked' AND {of_reason} AND {RETRYABLE} AND settled_at <= $2 \
             AND settled_at >= $3 AND ($4 = '' OR source = $4) GROUP BY type",
            of_reason = of_reason(reason.is_some()),
        ));
        let count = query(count).with((reason.map_or("", Reason::name), *until, filter.from(), filter.source_or_any()));
        let kinds: Vec<(String, u64)> = count.fetch_all(&self.readers).await?;
        let id = self.clock.fresh_id().to_string();
        let total: u64 = kinds.iter().map(|(_, count)| count).sum();
        let kinds: BTreeMap<String, u64> = kinds.into_iter().collect();
        let kinds = serde_json::to_string(&kinds).expect("names and numbers are serialisable");
        let sql = "INSERT INTO bulk_retries (id, reason, per_second, ordered_at, total, retried, cursor, due_at, state, \
             approve, types, source, since) VALUES ($1, $2, $3, $4, $5, 0, '', $4, 'running', $6, $7, $8, $9) \
             ON CONFLICT DO NOTHING";
        let written = query(sql)
            .with((id.clone(), reason, (*per_second).clamp(1, PER_SECOND_MAX), *until, total, *approve, kinds))
            .with((filter.source.clone(), filter.since));
        let action = if *approve { Action::RetryApprove } else { Action::RetryOrder };
        let mut act = self.act(by, action, TargetKind::Retry, &id).with_change(None, Some(total.to_string()));
        act.entry.reason = reason.map(|reason| reason.name().to_owned());
        if self.write(WriteOrder { order: written, act }).await? {
            let running = self.bulk_retry(&id).await?.map(Ordered::Running);
            return running.map(Some).ok_or_else(|| Error::Away("what was written is not there".to_owned()));
        }
        Ok(self.bulk_retries().await?.into_iter().find(BulkRetry::is_running).map(Ordered::Occupied))
    }

    async fn has_pending_above(&self, bound: u64) -> Result<bool, Error> {
        let above =
            query(ours(format!("SELECT 1 FROM events WHERE {UNSETTLED} AND state = 'pending' LIMIT 1 OFFSET $1")));
        Ok(above.bind(bound).finds(&self.readers).await?)
    }

    /// Stops a bulk retry; the events that it has retried stay retried. A retry that has ended keeps its state. `None`: no retry
    /// has this id.
    pub async fn stop_retry(&self, id: &str, by: &Actor) -> Result<Option<BulkRetry>, Error> {
        // An id that is none may have any length.
        let act = self.act(by, Action::RetryStop, TargetKind::Retry, id.chars().take(ID_CHARS_MAX).collect::<String>());
        self.write(StopRetry { id: id.to_owned(), act, now: self.clock.now() }).await?;
        self.bulk_retry(id).await
    }

    /// Retries the due events of the running bulk retry, for all replicas: the replica that steps advances the one row. It waits
    /// while more than half of `backlog_max` events are pending: the other half is for new ones.
    pub async fn retry_step(&self, backlog_max: u64) -> Result<Stepped, Error> {
        // Most of the time no retry runs, and the writer has nothing to do.
        let running = query("SELECT COUNT(*) FROM bulk_retries WHERE state = 'running'");
        if running.fetch_one::<u64>(&self.readers).await? == 0 {
            return Ok(Stepped::Nothing);
        }
        if self.has_pending_above(backlog_max / 2).await? {
            return Ok(Stepped::Retried { count: 0, pause: ROOM_PAUSE });
        }
        let act = self.act(&Actor::Bridge, Action::RetryEnd, TargetKind::Retry, "");
        self.write(StepOn { now: self.clock.now(), act }).await
    }
}

/// The insert of an order, which another one may be in the way of.
struct WriteOrder {
    order: Query<'static>,
    act: AuditRow,
}

impl Write for WriteOrder {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let is_given = self.order.clone().execute(&mut *tx).await? == 1;
        let act = if is_given { self.act.clone() } else { self.act.refused(AuditReason::Occupied) };
        audit::record(tx, [&act].into_iter()).await?;
        Ok(is_given)
    }
}

struct StopRetry {
    id: String,
    act: AuditRow,
    now: Timestamp,
}

impl Write for StopRetry {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let stop = query(
            "UPDATE bulk_retries SET state = 'stopped', ended_at = $2 WHERE id = $1 AND state = 'running' RETURNING retried",
        );
        let retried: Option<u64> = stop.with((&self.id, self.now)).fetch_optional(&mut *tx).await?;
        let act = match retried {
            Some(retried) => self.act.clone().with_change(None, Some(retried.to_string())),
            None => self.act.refused(AuditReason::NotRunning),
        };
        audit::record(tx, [&act].into_iter()).await
    }
}

/// An order: the events to be retried, and the pace.
struct RetryOrder {
    filter: ParkedFilter,
    per_second: u32,
    approve: bool,
    /// The limit of the time of parking: later ones are left out.
    until: Timestamp,
}

struct StepOn {
    now: Timestamp,
    /// The row that tells of the end, without its retry.
    act: AuditRow,
}

row! {
    /// The row of the running bulk retry, held until the transaction ends.
    struct Running {
        id: String = "id",
        reason: Option<String> = "reason",
        per_second: i64 = "per_second",
        ordered_at: Timestamp = "ordered_at",
        /// The last event that the retry has passed.
        cursor: String = "cursor",
        due_at: Timestamp = "due_at",
        approve: bool = "approve",
        retried: u64 = "retried",
        source: Option<String> = "source",
        since: Option<Timestamp> = "since",
    }
}

impl Write for StepOn {
    type Output = Stepped;

    fn weight(&self) -> usize {
        STEP_MAX
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Stepped, DbFault> {
        let Some(running) = self.take(tx).await? else { return Ok(Stepped::Nothing) };
        let now = self.now.micros();
        let interval = 1_000_000 / running.per_second.max(1);
        // A step is put off by one interval at most; a clock that was ahead has put off one that lies further ahead.
        let due = running.due_at;
        let due = if due.has_come(self.now, micros(interval)) { due.min(self.now) } else { due };
        let due_from = due.max(self.now.minus(CATCH_UP_MAX)).micros();
        if due_from > now {
            return Ok(Stepped::Retried { count: 0, pause: micros(due_from - now) });
        }
        let passed = usize::try_from((now - due_from) / interval).unwrap_or(STEP_MAX);
        let wanted = passed.saturating_add(1).min(STEP_MAX);
        let Candidates { ids, looked_until } = candidates(tx, &running, wanted).await?;
        let mut retried = Vec::with_capacity(ids.len());
        for id in &ids {
            retried.extend(put_back(tx, *id, running.approve, self.now).await?);
        }
        let count = retried.len();
        // All at once, in one order: of two transactions that change the same lanes neither waits for the other's second one.
        ready_live_lanes(tx, retried.iter().filter_map(|(lane, _)| lane.as_ref()), self.now).await?;
        let is_over = ids.len() < wanted && looked_until.is_none();
        let cursor = looked_until.or(ids.last().copied()).map_or(running.cursor.clone(), |id| id.to_string());
        let due_at = due_from + interval * i64::try_from(wanted).unwrap_or(i64::MAX);
        query(
            "UPDATE bulk_retries SET retried = retried + $2, cursor = $3, due_at = $4, state = $5, ended_at = $6 \
        WHERE id = $1",
        )
        .with((
            &running.id,
            count,
            cursor,
            due_at,
            if is_over { RetryState::Done } else { RetryState::Running },
            is_over.then_some(now),
        ))
        .execute(&mut *tx)
        .await?;
        if is_over {
            let retried = running.retried + u64::try_from(count).unwrap_or(u64::MAX);
            let mut act = self.act.clone().with_change(None, Some(retried.to_string()));
            act.entry.target.id = running.id;
            audit::record(tx, [&act].into_iter()).await?;
        }
        Ok(Stepped::Retried { count, pause: micros(due_at - now) })
    }
}

impl StepOn {
    async fn take(&self, tx: &mut Transaction<'_>) -> Result<Option<Running>, DbFault> {
        let take = ours(format!(
            "SELECT {columns} FROM bulk_retries WHERE state = 'running'{}",
            tx.db.skip_locked(),
            columns = Running::COLUMNS,
        ));
        query(take).fetch_optional(tx).await
    }
}

/// The events of a step.
struct Candidates {
    ids: Vec<EventId>,
    /// The last event that was looked at, where fewer than wanted were found among all that a step looks at.
    looked_until: Option<EventId>,
}

/// The next events in the order of arrival. The cursor prevents a loop even when the replicas' clocks differ: an event that it
/// has passed is behind it for good.
async fn candidates(tx: &mut Transaction<'_>, running: &Running, wanted: usize) -> Result<Candidates, DbFault> {
    let of_reason = of_reason(running.reason.is_some());
    let reason = running.reason.as_deref().unwrap_or_default();
    let meant = ours(format!(
        "SELECT id FROM (SELECT id, CASE WHEN {RETRYABLE} AND settled_at <= $3 AND settled_at >= $4 \
         AND ($5 = '' OR source = $5) THEN 1 ELSE 0 END AS is_meant FROM events \
         WHERE state = 'parked' AND {of_reason} AND id > $2 ORDER BY id LIMIT $6) AS looked WHERE is_meant = 1 LIMIT $7"
    ));
    let since = running.since.unwrap_or(Timestamp::from_micros(i64::MIN));
    let meant = query(meant).with((reason, &running.cursor, running.ordered_at, since)).with((
        running.source.as_deref().unwrap_or_default(),
        LOOK_MAX,
        wanted,
    ));
    let mut ids: Vec<EventId> = meant.fetch_all(&mut *tx).await?;
    ids.sort_unstable();
    if ids.len() == wanted {
        return Ok(Candidates { ids, looked_until: None });
    }
    let last = ours(format!(
        "SELECT id FROM events WHERE state = 'parked' AND {of_reason} AND id > $2 ORDER BY id LIMIT 1 OFFSET $3"
    ));
    let last = query(last).with((reason, &running.cursor, LOOK_MAX - 1));
    Ok(Candidates { ids, looked_until: last.fetch_optional(tx).await? })
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
