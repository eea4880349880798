//! The timeline of one customer, page by page: events with their calls and the acts on them, outgoing events, and acts of persons on
//! the customer, the newest first.
//!
//! Each of the three has an order and an index of its own. A page reads of each as many rows as it may show at most, and its cursor
//! names the row of each that comes next: what arrives meanwhile moves no page.
//!
//! Reads only.
//!
//! Before: the tables. After: [`crate::admin`] shows it.

use std::collections::{HashMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::audit::CoveredRow;
use super::audit_reads::{AFTER_ALL_IDS, AuditRecord, UNCOVERED};
use super::db::{listed, ours, query};
use super::error::Error;
use super::handle::StoreView;
use super::timeline::{CallView, EventSummary, NoticeView, ROWS_MAX};
use crate::domain::Timestamp;

/// Rows of a source that a page reads beyond those that it shows: the next one, and another of the same outgoing event, which has a
/// row for each of at most two targets.
const SPARE: i64 = 2;

/// The rows of the calls, and of the acts, that a page shows at most, next to its events.
const BESIDE_MAX: i64 = ROWS_MAX;

/// Mark of a source of which nothing is left.
const DONE: &str = "-";

/// An entry of a customer's timeline.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TimelineEntry {
    /// An event of the customer.
    Event(Box<TimelineEvent>),
    /// An outgoing event about the customer, to one target.
    Notice(Box<NoticeView>),
    /// An act of a person or a token on the customer.
    Act(Box<AuditRecord>),
}

/// An event with all that came of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TimelineEvent {
    /// The event.
    #[serde(flatten)]
    pub event: EventSummary,
    /// Calls to Podero that were made for it.
    pub calls: Vec<CallView>,
    /// Acts of persons and tokens on it.
    pub acts: Vec<AuditRecord>,
}

/// A page of a customer's timeline.
#[derive(Debug, Clone)]
pub struct TimelinePage {
    /// Its entries, the newest first.
    pub entries: Vec<TimelineEntry>,
    /// The beginning of the next page; `None`: there is none.
    pub next: Option<TimelineCursor>,
}

/// The row of each source with which a page begins; `None`: nothing is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineCursor([Option<String>; 3]);

impl TimelineCursor {
    /// The newest page.
    fn newest() -> Self {
        Self(std::array::from_fn(|_| Some(AFTER_ALL_IDS.to_owned())))
    }

    /// Parses the output of its `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        let read = |key: &str| match key {
            DONE => Some(None),
            id => Some(Some(Uuid::parse_str(id).ok()?.to_string())),
        };
        let keys = text.split('.').map(read).collect::<Option<Vec<_>>>()?;
        Some(Self(keys.try_into().ok()?))
    }
}

impl std::fmt::Display for TimelineCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [events, notices, acts] = self.0.each_ref().map(|key| key.as_deref().unwrap_or(DONE));
        write!(f, "{events}.{notices}.{acts}")
    }
}

impl TimelineEntry {
    /// The entry without a person's own words, and without the data of an outgoing event, which may hold its owner's links.
    #[must_use]
    pub fn impersonal(self) -> Self {
        let without_notes = |acts: Vec<AuditRecord>| acts.into_iter().map(AuditRecord::without_note).collect();
        match self {
            Self::Event(event) => {
                let acts = without_notes(event.acts);
                Self::Event(Box::new(TimelineEvent { acts, ..*event }))
            }
            Self::Notice(notice) => Self::Notice(Box::new(NoticeView { data: None, ..*notice })),
            Self::Act(act) => Self::Act(Box::new(act.without_note())),
        }
    }

    /// The moment by which the sources are merged.
    fn at(&self) -> Timestamp {
        match self {
            Self::Event(event) => event.event.received_at,
            Self::Notice(notice) => notice.created_at,
            Self::Act(act) => act.at,
        }
    }
}

/// Rows of one source, each with its key.
type SourceRows = VecDeque<(String, TimelineEntry)>;

impl StoreView {
    /// A page of a customer's timeline.
    pub async fn timeline(
        &self,
        customer: &str,
        from: Option<TimelineCursor>,
        limit: i64,
    ) -> Result<TimelinePage, Error> {
        let limit = limit.clamp(1, ROWS_MAX);
        let TimelineCursor([events, notices, acts]) = from.unwrap_or_else(TimelineCursor::newest);
        let (events, notices, acts) = tokio::try_join!(
            self.events_from(customer, events, limit),
            self.notices_from(customer, notices, limit),
            self.acts_from(customer, acts, limit),
        )?;
        let mut page = merged([events, notices, acts], usize::try_from(limit).unwrap_or_default());
        self.complete(&mut page.entries).await?;
        Ok(page)
    }

    async fn events_from(&self, customer: &str, from: Option<String>, limit: i64) -> Result<SourceRows, Error> {
        let Some(from) = from else { return Ok(SourceRows::new()) };
        let events = ours(format!(
            "SELECT {} FROM events WHERE lane = $1 AND id <= $2 ORDER BY id DESC LIMIT $3",
            EventSummary::COLUMNS
        ));
        let events: Vec<EventSummary> =
            query(events).with((customer, from, limit + SPARE)).fetch_all(&self.readers).await?;
        let entry = |event: EventSummary| {
            let key = event.id.to_string();
            (key, TimelineEntry::Event(Box::new(TimelineEvent { event, calls: Vec::new(), acts: Vec::new() })))
        };
        Ok(events.into_iter().map(entry).collect())
    }

    async fn notices_from(&self, customer: &str, from: Option<String>, limit: i64) -> Result<SourceRows, Error> {
        let Some(from) = from else { return Ok(SourceRows::new()) };
        let notices = ours(format!(
            "SELECT {}, seq FROM notices WHERE customer = $1 AND seq <= $2 ORDER BY seq DESC LIMIT $3",
            NoticeView::COLUMNS
        ));
        let notices: Vec<(NoticeView, String)> =
            query(notices).with((customer, from, limit + SPARE)).fetch_all(&self.readers).await?;
        Ok(notices.into_iter().map(|(notice, seq)| (seq, TimelineEntry::Notice(Box::new(notice)))).collect())
    }

    async fn acts_from(&self, customer: &str, from: Option<String>, limit: i64) -> Result<SourceRows, Error> {
        let Some(from) = from else { return Ok(SourceRows::new()) };
        let acts = self.acts_before(customer, &from, limit + SPARE).await?;
        Ok(acts.into_iter().map(|act| (act.id.clone(), TimelineEntry::Act(Box::new(act)))).collect())
    }

    /// The acts of persons and tokens on the thing of this id, the newest first, from an id on.
    async fn acts_before(&self, target: &str, from: &str, limit: i64) -> Result<Vec<AuditRecord>, Error> {
        let acts = ours(format!(
            "SELECT {columns}, {UNCOVERED} FROM audit WHERE substr(actor, 1, 7) <> 'source:' AND target_id = $1 AND id <= $2 \
             AND actor <> 'bridge' ORDER BY id DESC LIMIT $3",
            columns = CoveredRow::COLUMNS
        ));
        Ok(query(acts).with((target, from, limit)).fetch_all(&self.readers).await?)
    }

    /// The newest acts of persons and tokens on the thing of this id.
    pub async fn acts_on(&self, target: &str, limit: i64) -> Result<Vec<AuditRecord>, Error> {
        self.acts_before(target, AFTER_ALL_IDS, limit.clamp(1, ROWS_MAX)).await
    }

    /// Reads the calls and the acts of the events of a page.
    async fn complete(&self, entries: &mut [TimelineEntry]) -> Result<(), Error> {
        let mut events: HashMap<String, &mut TimelineEvent> = HashMap::new();
        for entry in entries {
            if let TimelineEntry::Event(event) = entry {
                events.insert(event.event.id.to_string(), event);
            }
        }
        if events.is_empty() {
            return Ok(());
        }
        let mut ids: Vec<String> = events.keys().cloned().collect();
        // Few lengths, so that the texts of the statements are few: a connection keeps a prepared statement for each.
        let filler = ids[0].clone();
        ids.resize(ids.len().next_power_of_two(), filler);
        let (calls, acts) = tokio::try_join!(self.calls_of(&ids), self.acts_on_each(&ids))?;
        for (event, call) in calls {
            events.entry(event).and_modify(|event| event.calls.push(call));
        }
        for act in acts {
            let event = act.target_id.clone().unwrap_or_default();
            events.entry(event).and_modify(|event| event.acts.push(act));
        }
        Ok(())
    }

    async fn calls_of(&self, events: &[String]) -> Result<Vec<(String, CallView)>, Error> {
        let calls = ours(format!(
            "SELECT event_id, {columns} FROM calls WHERE event_id IN {} ORDER BY event_id, id LIMIT {BESIDE_MAX}",
            listed(1, events.len()),
            columns = CallView::COLUMNS
        ));
        Ok(query(calls).with_each(events).fetch_all(&self.readers).await?)
    }

    async fn acts_on_each(&self, events: &[String]) -> Result<Vec<AuditRecord>, Error> {
        let acts = ours(format!(
            "SELECT {columns}, {UNCOVERED} FROM audit WHERE substr(actor, 1, 7) <> 'source:' AND actor <> 'bridge' \
             AND target_id IN {} ORDER BY target_id, id LIMIT {BESIDE_MAX}",
            listed(1, events.len()),
            columns = CoveredRow::COLUMNS
        ));
        Ok(query(acts).with_each(events).fetch_all(&self.readers).await?)
    }
}

/// The newest entries of all sources. Each source keeps its own order, also where a clock was set back.
fn merged(mut sources: [SourceRows; 3], limit: usize) -> TimelinePage {
    let mut entries = Vec::new();
    let mut last = (0, String::new());
    loop {
        let heads = sources.iter().enumerate().filter_map(|(place, rows)| Some((rows.front()?.1.at(), place)));
        // Of one moment, the first of the sources.
        let next = heads.max_by_key(|(at, place)| (*at, std::cmp::Reverse(*place))).map(|(_, place)| place);
        // The rows of one key stay together: the cursor names keys.
        let again = sources[last.0].front().is_some_and(|(key, _)| !entries.is_empty() && *key == last.1);
        let place = if again { Some(last.0) } else { next.filter(|_| entries.len() < limit) };
        let Some((place, (key, entry))) = place.and_then(|place| Some((place, sources[place].pop_front()?))) else {
            break;
        };
        entries.push(entry);
        last = (place, key);
    }
    let next = sources.map(|rows| rows.front().map(|(key, _)| key.clone()));
    let next = next.iter().any(Option::is_some).then_some(TimelineCursor(next));
    TimelinePage { entries, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let id = "01900000-0000-7000-8000-000000000001";
        let cursor = TimelineCursor([Some(id.to_owned()), None, Some(id.to_owned())]);
        assert_eq!(TimelineCursor::parse(&cursor.to_string()), Some(cursor));
        for text in ["", "-.-", "-.-.-.-", "1.2.3", "-.-.' OR 1"] {
            assert_eq!(TimelineCursor::parse(text), None, "{text}");
        }
    }
}
