//! Events that are not done, each with the reason why it waits and the time of its next try.
//!
//! Reads only, a page at a time by an index: a page of the oldest costs the same whatever the backlog. No content of an event is
//! read.
//!
//! Before: [`crate::store::lanes`] and [`crate::store::parking`] write the rows. After: [`crate::admin`] and [`crate::cli`] show
//! them.

use schemars::JsonSchema;
use serde::Serialize;

use super::closed_sets::{OpenState, RowKind};
use super::db::{ours, query, row};
use super::error::Error;
use super::event_rows::UNSETTLED;
use super::handle::StoreView;
use super::lanes::LaneHold;
use super::moments::Ceilings;
use super::shared_state::shared_standing;
use super::timeline::ROWS_MAX;
use crate::domain::event::EventState;
use crate::domain::names::names;
use crate::domain::partner_health::{Hold, PartnerHealth};
use crate::domain::team::member_of_lane;
use crate::domain::{EventId, Timestamp};

names! {
    /// The reason why an event waits.
    pub enum WaitsFor {
        /// Its next try: the last one failed.
        Retrying = "retrying",
        /// Another event of its customer, which comes first.
        Behind = "behind",
        /// Its customer's sign-up, or its member's join.
        SignUp = "waiting_for_sign_up",
        /// The day on which it takes effect.
        DueLater = "due_later",
        /// The end of the try that is under way.
        InProgress = "in_progress",
        /// Podero: the circuit is open, or Podero asked for a pause.
        Podero = "podero",
        /// Its turn: it is due, and the request budget or the appliers are busy with others.
        Budget = "budget",
        /// A person.
        Person = "person",
    }
}

/// An event that is not done, in a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OpenEvent {
    /// The bridge's own.
    pub id: EventId,
    /// As its sender wrote it.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: RowKind,
    /// The utility's own; null for an event of a member of the team.
    pub customer_id: Option<String>,
    /// The utility's own, of a member of its team.
    pub member_id: Option<String>,
    /// The configured source it came by.
    pub source: String,
    /// As asked for.
    #[schemars(with = "OpenState")]
    pub state: EventState,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Since when it waits; of a scheduled event, the day on which it takes effect.
    pub since: Timestamp,
    /// In a row.
    pub failures: u32,
    /// Why it waits; see The admin API in docs/OPERATIONS.md.
    pub waits_for: WaitsFor,
    /// The customer's event that comes first.
    #[schemars(with = "Option<String>")]
    pub behind: Option<EventId>,
    /// Why the last try failed, or why it is parked.
    pub reason: Option<String>,
    /// The call to Podero that was made last.
    pub operation: Option<String>,
    /// Not before this; null: when what it waits for is over.
    pub next_try: Option<Timestamp>,
}

/// The selection of events in a list.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named for what they narrow")]
pub struct OpenFilter {
    pub state: OpenState,
    pub customer: Option<String>,
    /// The end of the previous page.
    pub after: Option<OpenCursor>,
    /// The limit of rows, at most [`ROWS_MAX`].
    pub limit: i64,
}

/// The position at which a page of open events ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCursor {
    since: i64,
    id: String,
}

impl OpenCursor {
    /// Parses the output of its `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        let (since, id) = text.split_once('.')?;
        Some(Self { since: since.parse().ok()?, id: id.to_owned() })
    }
}

impl std::fmt::Display for OpenCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.since, self.id)
    }
}

/// A page of open events.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct OpenPage {
    pub events: Vec<OpenEvent>,
    /// The beginning of the next page; `None`: there is none.
    pub next: Option<OpenCursor>,
}

row! {
    /// The columns of an open event, of its lane, and of the event that comes before it.
    struct OpenRow {
        id: EventId = "e.id",
        kind: RowKind = "e.type",
        lane: Option<String> = "e.lane",
        source: String = "e.source",
        state: EventState = "e.state",
        received_at: Timestamp = "e.received_at",
        since: Timestamp = "e.tries_from",
        due_at: Timestamp = "e.due_at",
        failures: u32 = "e.failures",
        reason: Option<String> = "e.reason",
        first: Option<EventId> = "(SELECT h.id FROM events AS h WHERE h.lane = e.lane AND h.state = (SELECT 'pending') ORDER BY h.time, h.id LIMIT 1)",
        leave: Option<EventId> = "CASE WHEN l.bulk = 2 THEN (SELECT m.id FROM events AS m WHERE m.lane = e.lane AND m.state = (SELECT 'pending') AND m.type = 'team.member_left' ORDER BY m.time DESC, m.id DESC LIMIT 1) END",
        begun: Option<EventId> = "(SELECT b.id FROM events AS b WHERE b.id = l.begun AND COALESCE(b.state, '') = 'pending')",
        operation: Option<String> = "(SELECT operation FROM calls WHERE event_id = e.id ORDER BY calls.id DESC LIMIT 1)",
        hold: LaneHold = "COALESCE(l.claimed, 0), l.begun, l.ready_at",
    }
}

/// Circumstances on which the reason of waiting depends.
struct Around {
    now: Timestamp,
    standing: PartnerHealth,
    ceilings: Ceilings,
}

impl StoreView {
    /// A page of events that are not done, those first that wait for longest; parked ones by arrival.
    pub async fn open_events(&self, filter: OpenFilter) -> Result<OpenPage, Error> {
        let limit = filter.limit.clamp(1, ROWS_MAX);
        let now = self.clock.now();
        let (rows, standing) = tokio::join!(self.open_rows(&filter, limit), shared_standing(&self.readers, now));
        let around = Around { now, standing: standing?, ceilings: self.ceilings.get() };
        let events: Vec<OpenEvent> = rows?.into_iter().map(|row| around.event_of(row)).collect();
        let is_full = i64::try_from(events.len()).is_ok_and(|count| count == limit);
        let end = |event: &OpenEvent| OpenCursor { since: event.since.micros(), id: event.id.to_string() };
        let next = events.last().filter(|_| is_full).map(end);
        Ok(OpenPage { events, next })
    }

    /// The events of a page, each read once, with their lanes.
    async fn open_rows(&self, filter: &OpenFilter, limit: i64) -> Result<Vec<OpenRow>, Error> {
        let after = filter.after.clone().unwrap_or(OpenCursor { since: i64::MIN, id: String::new() });
        // The limit is part of the text: a plan for any limit of PostgreSQL's would expect a tenth of the rows, and sort all of them.
        let page = match (&filter.customer, filter.state) {
            (Some(customer), state) => query(ours(format!(
                "SELECT {columns} FROM (SELECT * FROM events WHERE lane = $1 AND state = (SELECT CAST($2 AS TEXT)) AND tries_from >= $3 \
                 AND (tries_from > $3 OR id > $4) ORDER BY tries_from, id LIMIT {limit}) AS e \
                 LEFT JOIN lanes AS l ON l.lane = e.lane ORDER BY e.tries_from, e.id",
                columns = OpenRow::COLUMNS,
            )))
            .with((customer, state.name(), after.since, after.id)),
            (None, OpenState::Parked) => query(ours(format!(
                "SELECT {columns} FROM (SELECT * FROM events WHERE state = 'parked' AND id > $1 ORDER BY id LIMIT {limit}) AS e \
                 LEFT JOIN lanes AS l ON l.lane = e.lane ORDER BY e.id",
                columns = OpenRow::COLUMNS,
            )))
            .bind(after.id),
            (None, state @ (OpenState::Pending | OpenState::Waiting | OpenState::Scheduled)) => query(ours(format!(
                "SELECT {columns} FROM (SELECT * FROM events WHERE {UNSETTLED} AND state = $1 AND tries_from >= $2 \
                 AND (tries_from > $2 OR id > $3) ORDER BY tries_from, id LIMIT {limit}) AS e \
                 LEFT JOIN lanes AS l ON l.lane = e.lane ORDER BY e.tries_from, e.id",
                columns = OpenRow::COLUMNS,
            )))
            .with((state.name(), after.since, after.id)),
        };
        Ok(page.fetch_all(&self.readers).await?)
    }
}

impl Around {
    fn event_of(&self, row: OpenRow) -> OpenEvent {
        let OpenRow { id, state, due_at, .. } = row;
        let is_at_work = row.hold.is_at_work_on(id, self.now, self.ceilings);
        // As a claim takes them: the event that is worked on is finished; a member's newest leave comes before one that was begun, and
        // this before all others.
        let at_work = row.begun.filter(|begun| row.hold.is_at_work_on(*begun, self.now, self.ceilings));
        let behind = at_work
            .or(row.leave)
            .or(row.begun)
            .or(row.first)
            .filter(|head| *head != id && state == EventState::Pending);
        let is_later = !due_at.has_come(self.now, self.ceilings.work.max(self.pause()));
        let waits_for = match state {
            EventState::Waiting => WaitsFor::SignUp,
            EventState::Scheduled => WaitsFor::DueLater,
            EventState::Pending if is_at_work => WaitsFor::InProgress,
            EventState::Pending if behind.is_some() => WaitsFor::Behind,
            EventState::Pending if self.standing.hold(self.now).is_some() => WaitsFor::Podero,
            EventState::Pending if is_later => WaitsFor::Retrying,
            EventState::Pending => WaitsFor::Budget,
            EventState::Parked | EventState::Applied | EventState::Superseded | EventState::Skipped => WaitsFor::Person,
        };
        let next_try = match waits_for {
            WaitsFor::SignUp | WaitsFor::DueLater => Some(due_at),
            WaitsFor::Retrying | WaitsFor::Podero => Some(due_at).filter(|_| is_later),
            WaitsFor::Behind | WaitsFor::InProgress | WaitsFor::Budget | WaitsFor::Person => None,
        };
        let member_id = row.lane.as_deref().and_then(member_of_lane).map(str::to_owned);
        OpenEvent {
            id,
            kind: row.kind,
            customer_id: row.lane.filter(|_| member_id.is_none()),
            member_id,
            source: row.source,
            state,
            received_at: row.received_at,
            since: row.since,
            failures: row.failures,
            waits_for,
            behind,
            reason: row.reason,
            operation: row.operation,
            next_try,
        }
    }

    /// The rest of the pause that Podero asked for.
    fn pause(&self) -> std::time::Duration {
        match self.standing.hold(self.now) {
            Some(Hold::Paused { until }) => until.since(self.now),
            Some(Hold::Open(_)) | None => std::time::Duration::ZERO,
        }
    }
}
