//! What is parked: groups, pages, and the way out for one event or for many.
//!
//! An event leaves parking by compare-and-set, so that it is not retried twice. A retry of one that waits for its next try
//! makes it due now. A bulk retry is a row, so it survives
//! a restart and its pace is one, however many replicas step it. It goes through the parked events once, in the order
//! of arrival, and covers none that was parked after it was ordered: what is parked again stays parked. A message that never
//! became an event has no lane to go back to: its retry leaves it to be read again.
//!
//! Before: [`crate::admin`] and [`crate::cli`] order. After: [`crate::store::lanes`], where the events are claimed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::db::{Connection, Db, Fault, Row, ours, query};
use super::inbox::{Urgency, ready_lane};
use super::moments::Ceilings;
use super::timeline::{EventSummary, ROWS_MAX, SUMMARY, moment, moment_or_none, summary_of};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::brake::Clearance;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Events of a bulk retry in one transaction: small enough that doors and appliers do not wait long behind them.
const STEP_MAX: i64 = 200;

/// A bulk retry that could not be stepped for longer than this (a restart) does not catch up: the pace is there to
/// spare Podero, and a burst would not.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// How soon a bulk retry that waits for room in the backlog looks again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Fastest pace of a bulk retry, events per second.
pub const PER_SECOND_MAX: u32 = 1_000;

/// Pace of a bulk retry unless another is asked for: a fifth of the default budget, so that new events go first.
pub const PER_SECOND_DEFAULT: u32 = 10;

/// What is to become of a parked event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryRequest {
    /// Put it back into its lane; what never became an event is read again.
    Retry,
    /// Put it back into its lane, and past what an approval overrides ([`Reason::is_approvable`]); nothing else is taken.
    Approve,
    /// Give it up.
    Skip,
}

/// The rows of which a retry makes something: events, and messages that were kept whole with what came beside them. A message
/// that was cut says so in the first key of its envelope, whose keys are sorted.
const RETRYABLE: &str = "(event IS NOT NULL OR (envelope IS NOT NULL AND envelope NOT LIKE '{\"body_bytes\":%'))";

/// Parked events of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct ParkedGroup {
    pub reason: String,
    pub count: i64,
    /// Of these, those that are events, or of whose messages all was kept; the others can only be skipped.
    pub retryable: i64,
    /// How many of each type the events are.
    pub types: BTreeMap<String, i64>,
    pub oldest_at: Timestamp,
    pub newest_at: Timestamp,
}

/// An order is given again when the retry that was in its way has ended meanwhile: a small one takes milliseconds.
const ORDERS_MAX: usize = 5;

/// A bulk retry and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the columns of `bulk_retries`, described in the migration")]
pub struct BulkRetry {
    pub id: String,
    pub reason: Option<String>,
    pub per_second: i64,
    pub ordered_at: Timestamp,
    /// Whether it approves.
    pub approve: bool,
    pub total: i64,
    /// How many of each type `total` has.
    pub types: BTreeMap<String, i64>,
    pub retried: i64,
    pub state: String,
    pub ended_at: Option<Timestamp>,
}

impl BulkRetry {
    /// Whether it has more to do.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

/// What came of ordering a bulk retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It runs.
    Running(BulkRetry),
    /// Another one runs; two would double the pace.
    Occupied(BulkRetry),
}

/// What one step of the running bulk retry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// None runs.
    Nothing,
    /// So many events went back into their lanes; the next is due after the pause.
    Retried {
        /// How many.
        count: i64,
        /// Until the next step has something to do.
        pause: Duration,
    },
}

impl Store {
    /// Parked events, oldest first, of one reason or all: the first page.
    pub async fn parked(&self, reason: Option<&str>) -> Result<Vec<EventSummary>, Error> {
        self.parked_page(reason, None, ROWS_MAX).await
    }

    /// Parked events, oldest first, of one reason or all: those that arrived after the event `after`, at most
    /// `limit` and [`ROWS_MAX`].
    pub async fn parked_page(
        &self,
        reason: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<EventSummary>, Error> {
        let of_reason = if reason.is_some() { "reason = $1" } else { "$1 = ''" };
        let sql = ours(format!("{SUMMARY} WHERE state = 'parked' AND {of_reason} AND id > $2 ORDER BY id LIMIT $3"));
        let rows = query(sql)
            .bind(reason.unwrap_or_default().to_owned())
            .bind(after.unwrap_or_default().to_owned())
            .bind(limit.clamp(1, ROWS_MAX))
            .fetch_all(&self.0.readers)
            .await?;
        rows.iter().map(summary_of).collect()
    }

    /// Parked events by reason: how many, and since when.
    pub async fn parked_groups(&self) -> Result<Vec<ParkedGroup>, Error> {
        // Of what never became an event the type is unknown.
        let rows = query(ours(format!(
            "SELECT reason, COUNT(*), COUNT(CASE WHEN {RETRYABLE} THEN 1 END), MIN(settled_at), MAX(settled_at), \
             CASE WHEN event IS NULL THEN '' ELSE type END AS of_type FROM events \
             WHERE state = 'parked' GROUP BY reason, of_type ORDER BY reason, of_type"
        )))
        .fetch_all(&self.0.readers)
        .await?;
        let mut groups: Vec<ParkedGroup> = Vec::new();
        for row in &rows {
            let part = part_of(row)?;
            match groups.last_mut().filter(|group| group.reason == part.reason) {
                Some(group) => group.add(part),
                None => groups.push(part),
            }
        }
        Ok(groups)
    }

    /// Takes a parked event out of parking; its type. A retry also makes an event due now that waits for its next try or its
    /// sign-up, unless an applier is at work on it. `None`: it does neither, and nothing changed.
    pub async fn unpark(&self, id: EventId, request: RetryRequest) -> Result<Option<String>, Error> {
        self.write(Unpark { id, request, now: self.0.clock.now(), ceilings: self.0.ceilings.get() }).await
    }

    /// Moves what was parked in the future, by a clock that was ahead, to now: retries of many cover what was parked before
    /// they were ordered.
    async fn date_back_parked(&self) -> Result<(), Error> {
        let now = self.0.clock.now();
        let latest = Timestamp::latest(now, Duration::ZERO);
        let ahead = query("SELECT COUNT(*) FROM events WHERE state = 'parked' AND settled_at > $1");
        let ahead = ahead.bind(latest.micros()).fetch_one(&self.0.readers).await?;
        if ahead.try_get::<i64>(0)? == 0 {
            return Ok(());
        }
        while self.write(DateBack { now, latest }).await? {}
        Ok(())
    }

    /// Orders a retry of everything that is parked now and can be retried, of one reason or all, at a pace of
    /// `per_second` events. After `Running` it goes on by itself, also after a restart, as [`Store::retry_step`] is
    /// called.
    pub async fn order_retry(&self, reason: Option<Reason>, per_second: u32) -> Result<Ordered, Error> {
        self.order(reason, per_second, (false, self.0.clock.now())).await
    }

    /// As [`Store::order_retry`], and approves each event of this reason that was parked until `until`: no more than what
    /// a person has seen. An approval of what no approval overrides is none.
    pub async fn order_approval(&self, reason: Reason, per_second: u32, until: Timestamp) -> Result<Ordered, Error> {
        let until = until.min(self.0.clock.now());
        self.order(Some(reason), per_second, (reason.is_approvable(), until)).await
    }

    async fn order(
        &self,
        reason: Option<Reason>,
        per_second: u32,
        (approve, until): (bool, Timestamp),
    ) -> Result<Ordered, Error> {
        self.date_back_parked().await?;
        // Events that were parked before, and dated back, are covered. An approval is of those that were seen, under other dates.
        let until = if approve { until } else { self.0.clock.now() };
        for _ in 0..ORDERS_MAX {
            if let Some(ordered) = self.order_once(reason, per_second, (approve, until)).await? {
                return Ok(ordered);
            }
        }
        Err(Error::Away("other retries begin and end all the time".to_owned()))
    }

    /// `None`: another one was in the way, and has ended since.
    async fn order_once(
        &self,
        reason: Option<Reason>,
        per_second: u32,
        (approve, until): (bool, Timestamp),
    ) -> Result<Option<Ordered>, Error> {
        let reason = reason.map(Reason::name);
        let of_reason = if reason.is_some() { "reason = $1" } else { "$1 = ''" };
        // Beside the writer: counting a million rows must not hold everybody's commits.
        let count = ours(format!(
            "SELECT type, COUNT(*) FROM events WHERE state = 'parked' AND {of_reason} AND {RETRYABLE} AND settled_at <= $2 \
             GROUP BY type"
        ));
        let count = query(count).bind(reason.unwrap_or_default()).bind(until.micros());
        let rows = count.fetch_all(&self.0.readers).await?;
        let types = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Fault>>()?;
        let id = self.0.clock.fresh_id().to_string();
        let per_second = i64::from(per_second.clamp(1, PER_SECOND_MAX));
        if self.write(Order { id: id.clone(), reason, per_second, approve, types, until }).await? {
            let ordered = self.bulk_retry(&id).await?;
            return ordered
                .map(|retry| Some(Ordered::Running(retry)))
                .ok_or_else(|| Error::Away("what was written is not there".to_owned()));
        }
        Ok(self.bulk_retries().await?.into_iter().find(BulkRetry::is_running).map(Ordered::Occupied))
    }

    async fn has_pending_above(&self, bound: u64) -> Result<bool, Error> {
        let above = query(
            "SELECT 1 FROM events WHERE (state = 'pending' OR state = 'waiting' OR state = 'scheduled') AND state = 'pending' \
             LIMIT 1 OFFSET $1",
        );
        let above = above.bind(i64::try_from(bound).unwrap_or(i64::MAX)).fetch_optional(&self.0.readers).await?;
        Ok(above.is_some())
    }

    /// Gives up whatever is parked now, of one reason or all, and never became an event. Of a reason that waits for an
    /// approval, everything: to refuse the approval is to skip. How many they were. Stopped in the middle, it has skipped some.
    pub async fn skip_unreadable(&self, reason: Option<Reason>) -> Result<u64, Error> {
        self.date_back_parked().await?;
        let (reason, now) = (reason.map(Reason::name), self.0.clock.now());
        let mut skipped = 0;
        loop {
            let some = self.write(SkipSome { reason, now }).await?;
            skipped += some;
            if some == 0 {
                return Ok(skipped);
            }
        }
    }

    /// Bulk retries, newest first.
    pub async fn bulk_retries(&self) -> Result<Vec<BulkRetry>, Error> {
        let sql = ours(format!("{BULK_RETRY} ORDER BY id DESC LIMIT $1"));
        let rows = query(sql).bind(ROWS_MAX).fetch_all(&self.0.readers).await?;
        rows.iter().map(bulk_retry_of).collect()
    }

    /// One bulk retry.
    pub async fn bulk_retry(&self, id: &str) -> Result<Option<BulkRetry>, Error> {
        let sql = ours(format!("{BULK_RETRY} WHERE id = $1"));
        let row = query(sql).bind(id).fetch_optional(&self.0.readers).await?;
        row.as_ref().map(bulk_retry_of).transpose()
    }

    /// Stops a bulk retry; what it has retried stays retried. One that has ended stays as it ended. `None`: there is
    /// no such one.
    pub async fn stop_retry(&self, id: &str) -> Result<Option<BulkRetry>, Error> {
        self.write(Stop { id: id.to_owned(), now: self.0.clock.now() }).await?;
        self.bulk_retry(id).await
    }

    /// Retries what is due of the running bulk retry, for all replicas: whoever steps moves the one row on. It waits
    /// while more than half of `backlog_max` events are pending: the other half is for new ones.
    pub async fn retry_step(&self, backlog_max: u64) -> Result<Stepped, Error> {
        // Most of the time none runs, and the writer need not be bothered.
        let running = query("SELECT COUNT(*) FROM bulk_retries WHERE state = 'running'");
        if running.fetch_one(&self.0.readers).await?.try_get::<i64>(0)? == 0 {
            return Ok(Stepped::Nothing);
        }
        if self.has_pending_above(backlog_max / 2).await? {
            return Ok(Stepped::Retried { count: 0, pause: ROOM_PAUSE });
        }
        self.write(StepOn { now: self.0.clock.now() }).await
    }
}

const BULK_RETRY: &str = "SELECT id, reason, per_second, ordered_at, total, retried, state, ended_at, approve, types \
                          FROM bulk_retries";

fn part_of(row: &Row) -> Result<ParkedGroup, Error> {
    let (retryable, type_name): (i64, String) = (row.try_get(2)?, row.try_get(5)?);
    Ok(ParkedGroup {
        reason: row.try_get::<Option<String>>(0)?.unwrap_or_default(),
        count: row.try_get(1)?,
        retryable,
        types: if retryable == 0 { BTreeMap::new() } else { BTreeMap::from([(type_name, retryable)]) },
        oldest_at: moment(row, 3)?,
        newest_at: moment(row, 4)?,
    })
}

impl ParkedGroup {
    /// Takes in those of another type.
    fn add(&mut self, part: Self) {
        self.count += part.count;
        self.retryable += part.retryable;
        self.types.extend(part.types);
        self.oldest_at = self.oldest_at.min(part.oldest_at);
        self.newest_at = self.newest_at.max(part.newest_at);
    }
}

fn bulk_retry_of(row: &Row) -> Result<BulkRetry, Error> {
    Ok(BulkRetry {
        id: row.try_get(0)?,
        reason: row.try_get(1)?,
        per_second: row.try_get(2)?,
        ordered_at: moment(row, 3)?,
        approve: row.try_get::<i64>(8)? == 1,
        total: row.try_get(4)?,
        // One that was ordered by a version before this has none.
        types: row.try_get::<Option<String>>(9)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        retried: row.try_get(5)?,
        state: row.try_get(6)?,
        ended_at: moment_or_none(row, 7)?,
    })
}

struct Unpark {
    id: EventId,
    request: RetryRequest,
    now: Timestamp,
    ceilings: Ceilings,
}

impl Write for Unpark {
    type Output = Option<String>;

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        match self.request {
            RetryRequest::Retry => {
                let parked = retry(connection, &self.id.to_string(), false, self.now).await?;
                if parked.is_some() { Ok(parked) } else { self.hurry(db, connection).await }
            }
            RetryRequest::Approve => retry(connection, &self.id.to_string(), true, self.now).await,
            RetryRequest::Skip => {
                let row = query(
                    "UPDATE events SET state = 'skipped', settled_at = $2 WHERE id = $1 AND state = 'parked' \
                     RETURNING type",
                )
                .bind(self.id.to_string())
                .bind(self.now.micros())
                .fetch_optional(connection)
                .await?;
                row.map(|row| row.try_get(0)).transpose()
            }
        }
    }
}

impl Unpark {
    /// Makes an event due now that waits for its next try or its sign-up; its type. `None`: it does not wait, or an applier is
    /// at work on it.
    async fn hurry(&self, db: &Db, connection: &mut Connection) -> Result<Option<String>, Fault> {
        let id = self.id.to_string();
        let lane = query("SELECT lane FROM events WHERE id = $1 AND (state = 'pending' OR state = 'waiting')");
        let Some(lane) = lane.bind(&id).fetch_optional(&mut *connection).await? else { return Ok(None) };
        let lane: Option<String> = lane.try_get(0)?;
        if let Some(lane) = &lane {
            // Held until the end of the transaction, so that no claim of it begins or ends meanwhile.
            let held = ours(format!("SELECT claimed, begun, ready_at FROM lanes WHERE lane = $1{}", db.for_update()));
            let held = query(held).bind(lane).fetch_optional(&mut *connection).await?;
            if let Some(held) = &held
                && is_at_work((held, 0), &id, self.now, self.ceilings)?
            {
                return Ok(None);
            }
        }
        let due = query(
            "UPDATE events SET state = 'pending', due_at = $2 WHERE id = $1 \
             AND ((state = 'pending' AND due_at > $2) OR state = 'waiting') RETURNING type",
        );
        let due = due.bind(&id).bind(self.now.micros()).fetch_optional(&mut *connection).await?;
        let Some(due) = due else { return Ok(None) };
        if let Some(lane) = &lane {
            ready_lane(connection, lane, Urgency::Live, self.now).await?;
        }
        Ok(Some(due.try_get(0)?))
    }
}

/// Whether an applier has this event, by the columns `claimed`, `begun` and `ready_at` of its lane, the first of them given: a
/// lease that has lapsed, or lies beyond its ceiling, does not count.
pub(super) fn is_at_work(
    (lane, first): (&Row, usize),
    id: &str,
    now: Timestamp,
    ceilings: Ceilings,
) -> Result<bool, Fault> {
    let (claimed, begun): (i64, Option<String>) = (lane.try_get(first)?, lane.try_get(first + 1)?);
    let lease_until = moment_or_none(lane, first + 2)?;
    Ok(claimed == 1
        && begun.as_deref() == Some(id)
        && lease_until.is_some_and(|until| !until.has_come(now, ceilings.work)))
}

struct DateBack {
    now: Timestamp,
    latest: Timestamp,
}

impl Write for DateBack {
    type Output = bool;

    fn weight(&self) -> usize {
        usize::try_from(STEP_MAX).unwrap_or(1)
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let date_back = query(
            "UPDATE events SET settled_at = $1 WHERE id IN \
             (SELECT id FROM events WHERE state = 'parked' AND settled_at > $2 ORDER BY id LIMIT $3)",
        );
        let date_back = date_back.bind(self.now.micros()).bind(self.latest.micros()).bind(STEP_MAX);
        Ok(date_back.execute(connection).await? > 0)
    }
}

/// Puts one parked event back into its lane; its type, or `None` if it is not parked. With `approve` it is also `None` for a
/// reason that no approval overrides.
async fn retry(connection: &mut Connection, id: &str, approve: bool, now: Timestamp) -> Result<Option<String>, Fault> {
    if !approve {
        return put_back(connection, id, None, now).await;
    }
    for reason in Reason::APPROVABLE {
        if let Some(type_name) = put_back(connection, id, Some(reason), now).await? {
            return Ok(Some(type_name));
        }
    }
    Ok(None)
}

/// Puts one parked event back into its lane, approved if it is parked for the reason that
/// is approved. A message that never became an event has no lane, and waits to be read again.
async fn put_back(
    connection: &mut Connection,
    id: &str,
    approved: Option<Reason>,
    now: Timestamp,
) -> Result<Option<String>, Fault> {
    let row = query(ours(format!(
        "UPDATE events SET state = 'pending', due_at = $2, tries_from = $2, failures = 0, failing_since = NULL, \
         reason = NULL, detail = NULL, settled_at = NULL, clearance = $3 \
         WHERE id = $1 AND state = 'parked' AND ($4 = '' OR reason = $4) AND {RETRYABLE} RETURNING lane, type"
    )))
    .bind(id)
    .bind(now.micros())
    .bind(approved.and_then(|_| Clearance::Approved.name()))
    .bind(approved.map_or("", Reason::name))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if let Some(lane) = row.try_get::<Option<String>>(0)? {
        ready_lane(connection, &lane, Urgency::Live, now).await?;
    }
    Ok(Some(row.try_get(1)?))
}

struct SkipSome {
    reason: Option<&'static str>,
    now: Timestamp,
}

impl Write for SkipSome {
    type Output = u64;

    fn weight(&self) -> usize {
        usize::try_from(STEP_MAX).unwrap_or(1)
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<u64, Fault> {
        let of_reason = if self.reason.is_some() { "reason = $1" } else { "$1 = ''" };
        let refused = self.reason.and_then(Reason::from_name).filter(|reason| reason.is_approvable());
        let skip = ours(format!(
            "UPDATE events SET state = 'skipped', settled_at = $2 WHERE state = 'parked' AND id IN \
             (SELECT id FROM events WHERE state = 'parked' AND (lane IS NULL OR reason = $4) AND {of_reason} AND settled_at <= $2 \
             ORDER BY id LIMIT $3)"
        ));
        let skip = query(skip).bind(self.reason.unwrap_or_default()).bind(self.now.micros()).bind(STEP_MAX);
        let skip = skip.bind(refused.map_or("", Reason::name));
        skip.execute(connection).await
    }
}

struct Order {
    id: String,
    reason: Option<&'static str>,
    per_second: i64,
    approve: bool,
    types: BTreeMap<String, i64>,
    until: Timestamp,
}

impl Write for Order {
    type Output = bool;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let ordered = query(
            "INSERT INTO bulk_retries (id, reason, per_second, ordered_at, total, retried, place, due_at, state, approve, types) \
             VALUES ($1, $2, $3, $4, $5, 0, '', $4, 'running', $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(&self.id)
        .bind(self.reason)
        .bind(self.per_second)
        .bind(self.until.micros())
        .bind(self.types.values().sum::<i64>())
        .bind(i64::from(self.approve))
        .bind(serde_json::to_string(&self.types).expect("names and numbers are serialisable"))
        .execute(connection)
        .await?;
        Ok(ordered == 1)
    }
}

struct Stop {
    id: String,
    now: Timestamp,
}

impl Write for Stop {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("UPDATE bulk_retries SET state = 'stopped', ended_at = $2 WHERE id = $1 AND state = 'running'")
            .bind(&self.id)
            .bind(self.now.micros())
            .execute(connection)
            .await?;
        Ok(())
    }
}

struct StepOn {
    now: Timestamp,
}

/// The row of the running bulk retry, held until the transaction ends.
struct Running {
    id: String,
    reason: Option<String>,
    per_second: i64,
    ordered_at: i64,
    place: String,
    due_at: i64,
    approve: bool,
}

impl Write for StepOn {
    type Output = Stepped;

    fn weight(&self) -> usize {
        usize::try_from(STEP_MAX).unwrap_or(1)
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Stepped, Fault> {
        let Some(running) = self.take(db, connection).await? else { return Ok(Stepped::Nothing) };
        let now = self.now.micros();
        let interval = 1_000_000 / running.per_second.max(1);
        let catch_up = i64::try_from(CATCH_UP_MAX.as_micros()).unwrap_or(i64::MAX);
        // It is put off by one interval at most; further ahead it was put off by a clock that was ahead.
        let due = Timestamp::from_micros(running.due_at);
        let latest = Duration::from_micros(u64::try_from(interval).unwrap_or(0));
        let due = if due.has_come(self.now, latest) { due.min(self.now) } else { due };
        let due_from = due.micros().max(now - catch_up);
        if due_from > now {
            return Ok(Stepped::Retried { count: 0, pause: micros(due_from - now) });
        }
        let wanted = ((now - due_from) / interval + 1).min(STEP_MAX);
        let ids = candidates(connection, &running, wanted).await?;
        let mut count = 0;
        for id in &ids {
            count += i64::from(retry(connection, id, running.approve, self.now).await?.is_some());
        }
        let is_over = i64::try_from(ids.len()).unwrap_or(i64::MAX) < wanted;
        let due_at = due_from + interval * wanted;
        query(
            "UPDATE bulk_retries SET retried = retried + $2, place = $3, due_at = $4, state = $5, ended_at = $6 \
             WHERE id = $1",
        )
        .bind(running.id)
        .bind(count)
        .bind(ids.last().cloned().unwrap_or(running.place))
        .bind(due_at)
        .bind(if is_over { "done" } else { "running" })
        .bind(is_over.then_some(now))
        .execute(connection)
        .await?;
        Ok(Stepped::Retried { count, pause: micros(due_at - now) })
    }
}

impl StepOn {
    async fn take(&self, db: &Db, connection: &mut Connection) -> Result<Option<Running>, Fault> {
        let take = ours(format!(
            "SELECT id, reason, per_second, ordered_at, place, due_at, approve FROM bulk_retries WHERE state = 'running'{}",
            db.skip_locked()
        ));
        let row = query(take).fetch_optional(connection).await?;
        row.map(|row| {
            Ok(Running {
                id: row.try_get(0)?,
                reason: row.try_get(1)?,
                per_second: row.try_get(2)?,
                ordered_at: row.try_get(3)?,
                place: row.try_get(4)?,
                due_at: row.try_get(5)?,
                approve: row.try_get::<i64>(6)? == 1,
            })
        })
        .transpose()
    }
}

/// The next events in the order of arrival. The place is what keeps it from a loop also when the replicas' clocks
/// differ: an event that it has passed is behind it for good.
async fn candidates(connection: &mut Connection, running: &Running, wanted: i64) -> Result<Vec<String>, Fault> {
    let of_reason = if running.reason.is_some() { "reason = $1" } else { "$1 = ''" };
    let sql = ours(format!(
        "SELECT id FROM events WHERE state = 'parked' AND {of_reason} AND id > $2 AND {RETRYABLE} \
         AND settled_at <= $3 ORDER BY id LIMIT $4"
    ));
    let rows = query(sql)
        .bind(running.reason.clone().unwrap_or_default())
        .bind(&running.place)
        .bind(running.ordered_at)
        .bind(wanted)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
