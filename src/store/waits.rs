//! Events that are not done, each with why it waits and when it is tried next.
//!
//! Reads only, a page at a time by an index: a page of the oldest costs the same whatever the backlog. Nothing of an event's
//! content is read.
//!
//! Before: [`crate::store::lanes`] and [`crate::store::parking`] write the rows. After: [`crate::admin`] and [`crate::cli`] show them.

use serde::Serialize;

use super::db::{Row, listed, ours, query};
use super::moments::Ceilings;
use super::parking::is_at_work;
use super::standing::shared_standing;
use super::timeline::{ROWS_MAX, moment};
use super::{Error, Store};
use crate::domain::Timestamp;
use crate::domain::partner_health::{Hold, PartnerHealth};

/// A state of an event that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as under The admin API in docs/OPERATIONS.md")]
pub enum OpenState {
    Pending,
    Waiting,
    Scheduled,
    Parked,
}

impl OpenState {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Waiting, Self::Scheduled, Self::Parked];

    /// The public name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Parked => "parked",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why an event waits: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its next try: the last one failed.
    Retrying,
    /// Another event of its customer, which comes first.
    Behind,
    /// Its customer's sign-up.
    SignUp,
    /// The day on which it takes effect.
    DueLater,
    /// The end of the try that is under way.
    InProgress,
    /// Podero: the circuit is open, or Podero asked for a pause.
    Podero,
    /// Its turn: it is due, and the request budget or the appliers are busy with others.
    Budget,
    /// A person.
    Person,
}

impl WaitsFor {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Retrying,
        Self::Behind,
        Self::SignUp,
        Self::DueLater,
        Self::InProgress,
        Self::Podero,
        Self::Budget,
        Self::Person,
    ];

    /// The public name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retrying => "retrying",
            Self::Behind => "behind",
            Self::SignUp => "waiting_for_sign_up",
            Self::DueLater => "due_later",
            Self::InProgress => "in_progress",
            Self::Podero => "podero",
            Self::Budget => "budget",
            Self::Person => "person",
        }
    }
}

/// An event that is not done, in a list.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct OpenEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub customer_id: Option<String>,
    pub source: String,
    pub state: String,
    pub received_at: Timestamp,
    /// Since when it waits; of a scheduled event, its day.
    pub since: Timestamp,
    /// Failures in a row.
    pub failures: i64,
    pub waits_for: &'static str,
    /// The event that comes first.
    pub behind: Option<String>,
    /// Why the last try failed, or why it is parked.
    pub reason: Option<String>,
    /// The call to Podero that was made last.
    pub operation: Option<String>,
    /// Not before this; `None`: as soon as what it waits for is over.
    pub next_try: Option<Timestamp>,
}

/// Which events a list has.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named for what they narrow")]
pub struct OpenFilter {
    pub state: OpenState,
    pub customer: Option<String>,
    /// Those after the one at which the page before ended.
    pub after: Option<OpenCursor>,
    /// At most [`ROWS_MAX`].
    pub limit: i64,
}

/// Where a page of open events ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCursor {
    since: i64,
    id: String,
}

impl OpenCursor {
    /// Reads what its `Display` writes.
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
    /// Where the next page begins; `None`: there is none.
    pub next: Option<OpenCursor>,
}

/// Circumstances on which the reason of waiting depends.
struct Around {
    now: Timestamp,
    standing: PartnerHealth,
    ceilings: Ceilings,
}

impl Store {
    /// A page of events that are not done, those first that wait for longest; of parked ones, by arrival.
    pub async fn open_events(&self, filter: OpenFilter) -> Result<OpenPage, Error> {
        let limit = filter.limit.clamp(1, ROWS_MAX);
        let page = self.page_of(&filter, limit).await?;
        let is_full = i64::try_from(page.len()).is_ok_and(|count| count == limit);
        let next = page.last().filter(|_| is_full).cloned();
        if page.is_empty() {
            return Ok(OpenPage { events: Vec::new(), next });
        }
        let now = self.0.clock.now();
        let standing = shared_standing(&self.0.readers, now).await?;
        let around = Around { now, standing, ceilings: self.0.ceilings.get() };
        let details = ours(format!(
            "SELECT e.id, e.type, e.lane, e.source, e.state, e.received_at, e.tries_from, e.due_at, e.failures, e.reason, \
             (SELECT h.id FROM events AS h WHERE h.lane = e.lane AND h.state = 'pending' ORDER BY h.time, h.id LIMIT 1), \
             (SELECT b.id FROM events AS b WHERE b.id = l.begun AND b.state = 'pending'), \
             (SELECT operation FROM calls WHERE event_id = e.id ORDER BY calls.id DESC LIMIT 1), \
             l.claimed, l.begun, l.ready_at \
             FROM events AS e LEFT JOIN lanes AS l ON l.lane = e.lane WHERE e.id IN {}",
            listed(1, page.len())
        ));
        let details = page.iter().fold(query(details), |details, cursor| details.bind(cursor.id.clone()));
        let rows = details.fetch_all(&self.0.readers).await?;
        let mut events: Vec<OpenEvent> = rows.iter().map(|row| around.event_of(row)).collect::<Result<_, _>>()?;
        // It may have ended since its page was read.
        events.retain(|event| event.state == filter.state.name());
        let place = |event: &OpenEvent| page.iter().position(|cursor| cursor.id == event.id);
        events.sort_by_cached_key(place);
        Ok(OpenPage { events, next })
    }

    async fn page_of(&self, filter: &OpenFilter, limit: i64) -> Result<Vec<OpenCursor>, Error> {
        let after = filter.after.clone().unwrap_or(OpenCursor { since: i64::MIN, id: String::new() });
        let page = match (&filter.customer, filter.state) {
            (Some(customer), state) => query(
                "SELECT id, tries_from FROM events WHERE lane = $1 AND state = $2 AND tries_from >= $3 \
                 AND (tries_from > $3 OR id > $4) ORDER BY tries_from, id LIMIT $5",
            )
            .bind(customer.clone())
            .bind(state.name())
            .bind(after.since)
            .bind(after.id),
            (None, OpenState::Parked) => {
                query("SELECT id, tries_from FROM events WHERE state = 'parked' AND id > $1 ORDER BY id LIMIT $2").bind(after.id)
            }
            (None, state @ (OpenState::Pending | OpenState::Waiting | OpenState::Scheduled)) => query(
                "SELECT id, tries_from FROM events WHERE (state = 'pending' OR state = 'waiting' OR state = 'scheduled') \
                 AND state = $1 AND tries_from >= $2 AND (tries_from > $2 OR id > $3) ORDER BY tries_from, id LIMIT $4",
            )
            .bind(state.name())
            .bind(after.since)
            .bind(after.id),
        };
        let rows = page.bind(limit).fetch_all(&self.0.readers).await?;
        rows.iter().map(|row| Ok(OpenCursor { id: row.try_get(0)?, since: row.try_get(1)? })).collect()
    }
}

impl Around {
    fn event_of(&self, row: &Row) -> Result<OpenEvent, Error> {
        let (id, state): (String, String) = (row.try_get(0)?, row.try_get(4)?);
        let first: Option<String> = row.try_get(10)?;
        let head = row.try_get::<Option<String>>(11)?.or(first);
        let (reason, due_at): (Option<String>, _) = (row.try_get(9)?, moment(row, 7)?);
        let is_at_work = match row.try_get::<Option<i64>>(13)? {
            Some(_) => is_at_work((row, 13), &id, self.now, self.ceilings)?,
            None => false,
        };
        let behind = head.filter(|head| *head != id && state == OpenState::Pending.name());
        let is_later = !due_at.has_come(self.now, self.ceilings.work.max(self.pause()));
        let waits_for = match OpenState::from_name(&state) {
            Some(OpenState::Waiting) => WaitsFor::SignUp,
            Some(OpenState::Scheduled) => WaitsFor::DueLater,
            Some(OpenState::Pending) if is_at_work => WaitsFor::InProgress,
            Some(OpenState::Pending) if behind.is_some() => WaitsFor::Behind,
            Some(OpenState::Pending) if self.standing.hold(self.now).is_some() => WaitsFor::Podero,
            Some(OpenState::Pending) if is_later => WaitsFor::Retrying,
            Some(OpenState::Pending) => WaitsFor::Budget,
            Some(OpenState::Parked) | None => WaitsFor::Person,
        };
        let next_try = match waits_for {
            WaitsFor::SignUp | WaitsFor::DueLater => Some(due_at),
            WaitsFor::Retrying | WaitsFor::Podero => Some(due_at).filter(|_| is_later),
            WaitsFor::Behind | WaitsFor::InProgress | WaitsFor::Budget | WaitsFor::Person => None,
        };
        Ok(OpenEvent {
            id,
            type_name: row.try_get(1)?,
            customer_id: row.try_get(2)?,
            source: row.try_get(3)?,
            state,
            received_at: moment(row, 5)?,
            since: moment(row, 6)?,
            failures: row.try_get(8)?,
            waits_for: waits_for.name(),
            behind,
            reason,
            operation: row.try_get(12)?,
            next_try,
        })
    }

    /// Rest of the pause that Podero asked for.
    fn pause(&self) -> std::time::Duration {
        match self.standing.hold(self.now) {
            Some(Hold::Paused { until }) => until.since(self.now),
            Some(Hold::Open(_)) | None => std::time::Duration::ZERO,
        }
    }
}
