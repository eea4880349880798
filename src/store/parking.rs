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

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::closed_sets::{RetryState, RowKind};
use super::db::{Cell, Connection, Db, Fault, FromCell, ours, query, row};
use super::lanes::{LaneHold, Urgency, ready_lane};
use super::moments::Ceilings;
use super::timeline::{EventSummary, ROWS_MAX};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::brake::Clearance;
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Events of a bulk retry in one transaction: small enough that doors and appliers do not wait long behind them.
const STEP_MAX: usize = 200;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ParkedGroup {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Of these, those that are events, or whose message was kept whole; the others can only be skipped.
    pub retryable: u64,
    /// How many of each type the events are.
    pub types: BTreeMap<String, u64>,
    /// When the oldest was parked.
    pub oldest_at: Timestamp,
    /// And the newest.
    pub newest_at: Timestamp,
}

/// An order is given again when the retry that was in its way has ended meanwhile: a small one takes milliseconds.
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
        /// When; of an approval, the moment until which its events were parked.
        pub ordered_at: Timestamp = "ordered_at",
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

/// How many events of each kind there are; empty where a version before this one did not write it.
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
    /// Whether it has more to do.
    pub fn is_running(&self) -> bool {
        self.state == RetryState::Running
    }
}

/// Why an event was not taken out of parking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nobody knows it.
    #[error("no event has this id")]
    Unknown,
    /// It is in another state.
    #[error("it is not parked; its state is {0}")]
    NotParked(EventState),
    /// A retry of what is tried just now would be another one at the same time.
    #[error("the bridge works on it at this moment; look again in a minute")]
    InProgress,
    /// A message of which not all is there cannot be read again.
    #[error(
        "it never became an event, and not all of it was kept, so it cannot be read again: have it sent again, and skip this one"
    )]
    NotWhole,
    /// An approval was asked for, and its reason is none that an approval overrides.
    #[error("it is parked as {0}, which no approval overrides: retry it without one")]
    NotApprovable(String),
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
        count: usize,
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
        let page = ours(format!(
            "SELECT {} FROM events WHERE state = 'parked' AND {of_reason} AND id > $2 ORDER BY id LIMIT $3",
            EventSummary::COLUMNS
        ));
        let page = query(page)
            .with((
                reason.unwrap_or_default().to_owned(),
                after.unwrap_or_default().to_owned(),
                limit.clamp(1, ROWS_MAX),
            ))
            .fetch_all(&self.0.readers);
        Ok(page.await?)
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
        for part in rows.into_iter().map(ParkedGroup::of) {
            match groups.last_mut().filter(|group| group.reason == part.reason) {
                Some(group) => group.add(part),
                None => groups.push(part),
            }
        }
        Ok(groups)
    }

    /// Takes a parked event out of parking; its kind. A retry also makes an event due now that waits for its next try or its
    /// sign-up, unless an applier is at work on it. `None`: it does neither, and nothing changed.
    pub async fn unpark(&self, id: EventId, request: RetryRequest) -> Result<Option<RowKind>, Error> {
        self.write(Unpark { id, request, now: self.0.clock.now(), ceilings: self.0.ceilings.get() }).await
    }

    /// Why [`Store::unpark`] has just changed nothing.
    pub async fn why_not_taken(&self, id: EventId, request: RetryRequest) -> Result<NotTaken, Error> {
        let row = query("SELECT state, reason, COUNT(event) FROM events WHERE id = $1 GROUP BY state, reason");
        let row = row.bind(id).fetch_optional(&self.0.readers).await?;
        let Some((state, reason, events)): Option<(EventState, Option<String>, u64)> = row else {
            return Ok(NotTaken::Unknown);
        };
        Ok(match (state, request) {
            (EventState::Parked, RetryRequest::Approve) => NotTaken::NotApprovable(reason.unwrap_or_default()),
            (EventState::Parked, RetryRequest::Retry | RetryRequest::Skip) if events == 0 => NotTaken::NotWhole,
            (EventState::Pending, RetryRequest::Retry) if self.is_at_work_on(id).await? => NotTaken::InProgress,
            (state, _) => NotTaken::NotParked(state),
        })
    }

    async fn is_at_work_on(&self, id: EventId) -> Result<bool, Error> {
        let lane = ours(format!(
            "SELECT {} FROM lanes WHERE lane = (SELECT lane FROM events WHERE events.id = $1)",
            LaneHold::COLUMNS
        ));
        let lane: Option<LaneHold> = query(lane).bind(id).fetch_optional(&self.0.readers).await?;
        let (now, ceilings) = (self.0.clock.now(), self.0.ceilings.get());
        Ok(lane.is_some_and(|lane| lane.is_at_work_on(id, now, ceilings)))
    }

    /// Moves what was parked in the future, by a clock that was ahead, to now: retries of many cover what was parked before
    /// they were ordered.
    async fn date_back_parked(&self) -> Result<(), Error> {
        let now = self.0.clock.now();
        let latest = Timestamp::latest(now, Duration::ZERO);
        let ahead = query("SELECT COUNT(*) FROM events WHERE state = 'parked' AND settled_at > $1");
        if ahead.bind(latest).fetch_one::<u64>(&self.0.readers).await? == 0 {
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
        let types = query(count).with((reason.unwrap_or_default(), until)).fetch_all(&self.0.readers).await?;
        let types = types.into_iter().collect();
        let id = self.0.clock.fresh_id().to_string();
        let per_second = per_second.clamp(1, PER_SECOND_MAX);
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
        Ok(above.bind(bound).finds(&self.0.readers).await?)
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
        let newest = ours(format!("SELECT {} FROM bulk_retries ORDER BY id DESC LIMIT $1", BulkRetry::COLUMNS));
        Ok(query(newest).bind(ROWS_MAX).fetch_all(&self.0.readers).await?)
    }

    /// One bulk retry.
    pub async fn bulk_retry(&self, id: &str) -> Result<Option<BulkRetry>, Error> {
        let one = ours(format!("SELECT {} FROM bulk_retries WHERE id = $1", BulkRetry::COLUMNS));
        Ok(query(one).bind(id).fetch_optional(&self.0.readers).await?)
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
        if running.fetch_one::<u64>(&self.0.readers).await? == 0 {
            return Ok(Stepped::Nothing);
        }
        if self.has_pending_above(backlog_max / 2).await? {
            return Ok(Stepped::Retried { count: 0, pause: ROOM_PAUSE });
        }
        self.write(StepOn { now: self.0.clock.now() }).await
    }
}

/// Reason, how many, how many retryable, oldest, newest, kind.
type GroupRow = (Option<String>, u64, u64, Timestamp, Timestamp, String);

impl ParkedGroup {
    fn of((reason, count, retryable, oldest_at, newest_at, kind): GroupRow) -> Self {
        let types = (retryable > 0).then_some((kind, retryable)).into_iter().collect();
        Self { reason: reason.unwrap_or_default(), count, retryable, types, oldest_at, newest_at }
    }

    /// Takes in those of another type.
    fn add(&mut self, part: Self) {
        self.count += part.count;
        self.retryable += part.retryable;
        self.types.extend(part.types);
        self.oldest_at = self.oldest_at.min(part.oldest_at);
        self.newest_at = self.newest_at.max(part.newest_at);
    }
}

struct Unpark {
    id: EventId,
    request: RetryRequest,
    now: Timestamp,
    ceilings: Ceilings,
}

impl Write for Unpark {
    type Output = Option<RowKind>;

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        match self.request {
            RetryRequest::Retry => {
                let parked = retry(connection, self.id, false, self.now).await?;
                if parked.is_some() { Ok(parked) } else { self.hurry(db, connection).await }
            }
            RetryRequest::Approve => retry(connection, self.id, true, self.now).await,
            RetryRequest::Skip => {
                let skip = query(
                    "UPDATE events SET state = 'skipped', settled_at = $2 WHERE id = $1 AND state = 'parked' \
                     RETURNING type",
                );
                skip.with((self.id, self.now)).fetch_optional(connection).await
            }
        }
    }
}

impl Unpark {
    /// Makes an event due now that waits for its next try or its sign-up; its kind. `None`: it does not wait, or an applier is
    /// at work on it.
    async fn hurry(&self, db: &Db, connection: &mut Connection) -> Result<Option<RowKind>, Fault> {
        let lane = query("SELECT lane FROM events WHERE id = $1 AND (state = 'pending' OR state = 'waiting')");
        let lane: Option<Option<String>> = lane.bind(self.id).fetch_optional(&mut *connection).await?;
        let Some(lane) = lane else { return Ok(None) };
        if let Some(lane) = &lane {
            // Held until the end of the transaction, so that no claim of it begins or ends meanwhile.
            let hold = ours(format!(
                "SELECT {columns} FROM lanes WHERE lane = $1{}",
                db.for_update(),
                columns = LaneHold::COLUMNS,
            ));
            let hold: Option<LaneHold> = query(hold).bind(lane).fetch_optional(&mut *connection).await?;
            if hold.is_some_and(|hold| hold.is_at_work_on(self.id, self.now, self.ceilings)) {
                return Ok(None);
            }
        }
        let due = query(
            "UPDATE events SET state = 'pending', due_at = $2 WHERE id = $1 \
             AND ((state = 'pending' AND due_at > $2) OR state = 'waiting') RETURNING type",
        );
        let due = due.with((self.id, self.now)).fetch_optional(&mut *connection).await?;
        if let (Some(_), Some(lane)) = (&due, &lane) {
            ready_lane(connection, lane, Urgency::Live, self.now).await?;
        }
        Ok(due)
    }
}

struct DateBack {
    now: Timestamp,
    latest: Timestamp,
}

impl Write for DateBack {
    type Output = bool;

    fn weight(&self) -> usize {
        STEP_MAX
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let date_back = query(
            "UPDATE events SET settled_at = $1 WHERE id IN \
             (SELECT id FROM events WHERE state = 'parked' AND settled_at > $2 ORDER BY id LIMIT $3)",
        );
        let date_back = date_back.with((self.now, self.latest, STEP_MAX));
        Ok(date_back.execute(connection).await? > 0)
    }
}

/// Puts one parked event back into its lane; its kind, or `None` if it is not parked. With `approve` it is also `None` for a
/// reason that no approval overrides.
async fn retry(
    connection: &mut Connection,
    id: EventId,
    approve: bool,
    now: Timestamp,
) -> Result<Option<RowKind>, Fault> {
    if !approve {
        return put_back(connection, id, None, now).await;
    }
    for reason in Reason::APPROVABLE {
        if let Some(kind) = put_back(connection, id, Some(reason), now).await? {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// Puts one parked event back into its lane, approved if it is parked for the reason that
/// is approved. A message that never became an event has no lane, and waits to be read again.
async fn put_back(
    connection: &mut Connection,
    id: EventId,
    approved: Option<Reason>,
    now: Timestamp,
) -> Result<Option<RowKind>, Fault> {
    let row: Option<(Option<String>, RowKind)> = query(ours(format!(
        "UPDATE events SET state = 'pending', due_at = $2, tries_from = $2, failures = 0, failing_since = NULL, \
         reason = NULL, detail = NULL, settled_at = NULL, clearance = $3 \
         WHERE id = $1 AND state = 'parked' AND ($4 = '' OR reason = $4) AND {RETRYABLE} RETURNING lane, type"
    )))
    .with((id, now, approved.and_then(|_| Clearance::Approved.name()), approved.map_or("", Reason::name)))
    .fetch_optional(&mut *connection)
    .await?;
    let Some((lane, kind)) = row else { return Ok(None) };
    if let Some(lane) = lane {
        ready_lane(connection, &lane, Urgency::Live, now).await?;
    }
    Ok(Some(kind))
}

struct SkipSome {
    reason: Option<&'static str>,
    now: Timestamp,
}

impl Write for SkipSome {
    type Output = u64;

    fn weight(&self) -> usize {
        STEP_MAX
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<u64, Fault> {
        let of_reason = if self.reason.is_some() { "reason = $1" } else { "$1 = ''" };
        let refused = self.reason.and_then(Reason::from_name).filter(|reason| reason.is_approvable());
        let skip = ours(format!(
            "UPDATE events SET state = 'skipped', settled_at = $2 WHERE state = 'parked' AND id IN \
             (SELECT id FROM events WHERE state = 'parked' AND (lane IS NULL OR reason = $4) AND {of_reason} AND settled_at <= $2 \
             ORDER BY id LIMIT $3)"
        ));
        let skip = query(skip).with((self.reason.unwrap_or_default(), self.now, STEP_MAX));
        let skip = skip.bind(refused.map_or("", Reason::name));
        skip.execute(connection).await
    }
}

struct Order {
    id: String,
    reason: Option<&'static str>,
    per_second: u32,
    approve: bool,
    types: BTreeMap<String, u64>,
    until: Timestamp,
}

impl Write for Order {
    type Output = bool;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let ordered = query(
            "INSERT INTO bulk_retries (id, reason, per_second, ordered_at, total, retried, place, due_at, state, approve, types) \
             VALUES ($1, $2, $3, $4, $5, 0, '', $4, 'running', $6, $7) ON CONFLICT DO NOTHING",
        )
        .with((&self.id, self.reason, self.per_second, self.until, self.types.values().sum::<u64>(), self.approve, serde_json::to_string(&self.types).expect("names and numbers are serialisable")))
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
            .with((&self.id, self.now))
            .execute(connection)
            .await?;
        Ok(())
    }
}

struct StepOn {
    now: Timestamp,
}

row! {
    /// The row of the running bulk retry, held until the transaction ends.
    struct Running {
        id: String = "id",
        reason: Option<String> = "reason",
        per_second: i64 = "per_second",
        ordered_at: Timestamp = "ordered_at",
        /// The event that it came to last.
        cursor: String = "place",
        due_at: Timestamp = "due_at",
        approve: bool = "approve",
    }
}

impl Write for StepOn {
    type Output = Stepped;

    fn weight(&self) -> usize {
        STEP_MAX
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Stepped, Fault> {
        let Some(running) = self.take(db, connection).await? else { return Ok(Stepped::Nothing) };
        let now = self.now.micros();
        let interval = 1_000_000 / running.per_second.max(1);
        // It is put off by one interval at most; further ahead it was put off by a clock that was ahead.
        let due = running.due_at;
        let due = if due.has_come(self.now, micros(interval)) { due.min(self.now) } else { due };
        let due_from = due.max(self.now.minus(CATCH_UP_MAX)).micros();
        if due_from > now {
            return Ok(Stepped::Retried { count: 0, pause: micros(due_from - now) });
        }
        let passed = usize::try_from((now - due_from) / interval).unwrap_or(STEP_MAX);
        let wanted = passed.saturating_add(1).min(STEP_MAX);
        let ids = candidates(connection, &running, wanted).await?;
        let mut count = 0;
        for id in &ids {
            count += usize::from(retry(connection, *id, running.approve, self.now).await?.is_some());
        }
        let is_over = ids.len() < wanted;
        let due_at = due_from + interval * i64::try_from(wanted).unwrap_or(i64::MAX);
        query(
            "UPDATE bulk_retries SET retried = retried + $2, place = $3, due_at = $4, state = $5, ended_at = $6 \
             WHERE id = $1",
        )
        .with((
            running.id,
            count,
            ids.last().map_or(running.cursor, EventId::to_string),
            due_at,
            if is_over { RetryState::Done } else { RetryState::Running },
            is_over.then_some(now),
        ))
        .execute(connection)
        .await?;
        Ok(Stepped::Retried { count, pause: micros(due_at - now) })
    }
}

impl StepOn {
    async fn take(&self, db: &Db, connection: &mut Connection) -> Result<Option<Running>, Fault> {
        let take = ours(format!(
            "SELECT {columns} FROM bulk_retries WHERE state = 'running'{}",
            db.skip_locked(),
            columns = Running::COLUMNS,
        ));
        query(take).fetch_optional(connection).await
    }
}

/// The next events in the order of arrival. The place is what keeps it from a loop also when the replicas' clocks
/// differ: an event that it has passed is behind it for good.
async fn candidates(connection: &mut Connection, running: &Running, wanted: usize) -> Result<Vec<EventId>, Fault> {
    let of_reason = if running.reason.is_some() { "reason = $1" } else { "$1 = ''" };
    let sql = ours(format!(
        "SELECT id FROM events WHERE state = 'parked' AND {of_reason} AND id > $2 AND {RETRYABLE} \
         AND settled_at <= $3 ORDER BY id LIMIT $4"
    ));
    query(sql)
        .with((running.reason.clone().unwrap_or_default(), &running.cursor, running.ordered_at, wanted))
        .fetch_all(connection)
        .await
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
