//! The inbox: an event is inserted unless its identity is known. The dedupe row is the work item itself.
//!
//! A crash before the commit leaves nothing, and the sender, who got no answer, sends again. After the
//! commit the event is ours.
//!
//! Before: [`crate::inbound`]. After: [`crate::store::lanes`].

use bytes::Bytes;

use super::announcements;
use super::closed_sets::{RowKind, Target};
use super::db::{Connection, Db, Fault, query};
use super::erasure::{ERASED, Key};
use super::lanes::{Urgency, ready_lane};
use super::moments;
use super::outbox;
use super::writer::Write;
use super::{Error, Store};
use crate::domain::event::{Event, EventState};
use crate::domain::notice::Notice;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Something that arrived, ready to be kept.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Our id for it.
    pub id: EventId,
    /// The sender's identity of it within its source, first half (CloudEvents `source`).
    pub origin: String,
    /// Second half (CloudEvents `id`).
    pub origin_id: String,
    /// The configured source it came by: two sources may have events of the same identity.
    pub source: String,
    /// The door it came by, for the timeline.
    pub door: &'static str,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Digest of its content.
    pub digest: String,
    /// The original bytes.
    pub raw: Bytes,
    /// What came beside them and says something, as JSON: headers that carry an event's attributes, say.
    pub envelope: Option<String>,
    /// What it is.
    pub content: Content,
}

/// What an arrival turned out to be.
#[derive(Debug, Clone)]
pub enum Content {
    /// An event to be applied.
    Event(Event),
    /// Something that a person must look at; told by the notice.
    Parked {
        /// The class of trouble.
        reason: Reason,
        /// More about it, free of personal data.
        detail: String,
        /// The news of it.
        notice: Notice,
        /// Whether it may be here already: then an equal one is this one. Otherwise equal ones are several.
        may_be_known: bool,
    },
}

impl Content {
    fn kind(&self) -> RowKind {
        match self {
            Self::Event(event) => RowKind::of(&event.happening),
            Self::Parked { .. } => RowKind::Unreadable,
        }
    }
}

/// The answer to an arrival. Whatever it says is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is ours now.
    Accepted {
        /// Our id for it.
        id: EventId,
        /// Pending, scheduled or parked; superseded if its customer was erased since it happened.
        state: EventState,
    },
    /// It was ours already; nothing changed.
    Duplicate {
        /// Our id for the first one.
        id: EventId,
        /// What has become of the first one.
        state: EventState,
    },
    /// Its identity is known, with another content. Nothing was kept.
    Reused {
        /// Our id for the first one.
        id: EventId,
    },
}

/// Of a row whose texts are empty, about.
const ROW_BYTES: usize = 1_024;

pub(super) struct Accept {
    pub(super) rows: Vec<Ready>,
    pub(super) urgency: Urgency,
    pub(super) targets: Vec<Target>,
    pub(super) key: Key,
}

/// From when on an arrival is work, now for what waits for its day, and now.
type Moments = (Timestamp, Timestamp, Timestamp);

/// An arrival as it is written, made by whoever brings it: the writer has enough to do.
pub(super) struct Ready {
    arrival: Arrival,
    columns: Columns,
    /// By which its customer's tombstone would be known; empty where there is no customer.
    tombstone: String,
    /// Of its notice, if it has one.
    place: String,
    /// From when on it is work: when it arrived, or was read again.
    now: Timestamp,
    day: Timestamp,
    /// When it is written, by which a tombstone is judged: a message may have arrived long before.
    written_at: Timestamp,
}

impl Ready {
    /// `day` is now for what waits for its day.
    pub(super) fn new(arrival: Arrival, place: String, key: &Key, (now, day, written_at): Moments) -> Self {
        let tombstone = match &arrival.content {
            Content::Event(event) => key.customer(event.customer.as_str()),
            Content::Parked { .. } => String::new(),
        };
        let columns = Columns::of(&arrival, now, day);
        Self { arrival, columns, tombstone, place, now, day, written_at }
    }

    /// Of its texts: the original bytes, which are held twice, and what was read in them.
    fn bytes(&self) -> usize {
        let read = [&self.columns.event, &self.columns.envelope, &self.arrival.envelope, &self.columns.detail];
        let read: usize = read.into_iter().flatten().map(String::len).sum();
        ROW_BYTES + self.arrival.raw.len() + self.columns.raw.len() + 2 * read
    }
}

impl Store {
    /// Keeps arrivals, all in one transaction; a receipt for each, in order. After `Ok` they are on disk.
    pub async fn accept(&self, arrivals: Vec<Arrival>) -> Result<Vec<Receipt>, Error> {
        self.accept_as(arrivals, Urgency::Live).await
    }

    /// As [`Store::accept`], of imported events: they are worked on when nothing else is due.
    pub async fn accept_in_bulk(&self, arrivals: Vec<Arrival>) -> Result<Vec<Receipt>, Error> {
        self.accept_as(arrivals, Urgency::Bulk).await
    }

    async fn accept_as(&self, arrivals: Vec<Arrival>, urgency: Urgency) -> Result<Vec<Receipt>, Error> {
        let (targets, key) = (self.0.targets.clone(), self.0.key.clone());
        let place = || self.0.clock.fresh_id().to_string();
        let (day, written_at) = (self.0.clock.steady_now(), self.0.clock.now());
        let ready = |arrival: Arrival| {
            let now = arrival.received_at;
            Ready::new(arrival, place(), &key, (now, day, written_at))
        };
        let rows = arrivals.into_iter().map(ready).collect();
        let (receipts, replaced) = self.write(Accept { rows, urgency, targets, key }).await?;
        replaced.into_iter().for_each(|kind| self.0.replaced.note(kind));
        Ok(receipts)
    }
}

impl Write for Accept {
    /// The receipts, and the kinds of the announced events that were replaced.
    type Output = (Vec<Receipt>, Vec<RowKind>);
    const ONLY_IF_AWAITED: bool = true;
    const IS_ARRIVAL: bool = true;

    fn weight(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.rows.iter().map(Ready::bytes).sum()
    }

    fn proves_writing(&self, (receipts, _): &Self::Output) -> bool {
        receipts.iter().any(|receipt| matches!(receipt, Receipt::Accepted { .. }))
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        let (mut receipts, mut replaced) = (Vec::with_capacity(self.rows.len()), Vec::new());
        for row in &self.rows {
            receipts.push(self.accept(connection, row, &mut replaced).await?);
        }
        Ok((receipts, replaced))
    }
}

impl Accept {
    pub(super) async fn accept(
        &self,
        connection: &mut Connection,
        row: &Ready,
        replaced: &mut Vec<RowKind>,
    ) -> Result<Receipt, Fault> {
        let arrival = &row.arrival;
        // A message that was emptied names no customer any more whose tombstone would keep it away.
        if matches!(arrival.content, Content::Parked { .. })
            && let Some(emptied) = self.known_erased(connection, arrival).await?
        {
            return Ok(emptied);
        }
        if !row.insert(connection).await? {
            let receipt = self.not_new(connection, arrival).await?;
            let Some(twin) = twin(arrival, &receipt) else { return Ok(receipt) };
            let twin = Ready::new(twin, row.place.clone(), &self.key, (row.now, row.day, row.written_at));
            if !twin.insert(connection).await? {
                return self.not_new(connection, &twin.arrival).await;
            }
        }
        if let Content::Event(event) = &arrival.content {
            let (kinds, ended) = announcements::settle(connection, event, row.now).await?;
            replaced.extend(kinds);
            if let Some(state) = ended {
                return Ok(Receipt::Accepted { id: arrival.id, state });
            }
        }
        match &arrival.content {
            Content::Event(event) if row.columns.state == EventState::Pending => {
                ready_lane(connection, event.customer.as_str(), self.urgency, row.now).await?;
            }
            Content::Event(_) => {}
            Content::Parked { notice, .. } => {
                outbox::insert(connection, notice, None, &self.targets, &row.place, row.now).await?;
            }
        }
        Ok(Receipt::Accepted { id: arrival.id, state: row.columns.state })
    }

    /// Why an arrival was not inserted: its identity is known, or its customer was erased after it happened.
    async fn not_new(&self, connection: &mut Connection, arrival: &Arrival) -> Result<Receipt, Fault> {
        let identity = (&*arrival.source, &*arrival.origin, &*arrival.origin_id);
        if let Some(receipt) = known(connection, identity, &arrival.digest).await? {
            return Ok(receipt);
        }
        let (identity, digest) = self.left_of(arrival);
        let left = (&*arrival.source, ERASED, &*identity);
        // Before the insert, which meets no row from before identities had a source.
        if let Some(receipt) = known(connection, left, &digest).await? {
            return Ok(receipt);
        }
        if bury(connection, arrival, &identity, &digest).await? {
            return Ok(Receipt::Accepted { id: arrival.id, state: EventState::Superseded });
        }
        let known = known(connection, left, &digest).await?;
        // Neither there nor new: it was removed in between, and the sender is to send it again.
        known.ok_or_else(|| Fault::Missing)
    }

    async fn known_erased(&self, connection: &mut Connection, arrival: &Arrival) -> Result<Option<Receipt>, Fault> {
        let (identity, digest) = self.left_of(arrival);
        known(connection, (&arrival.source, ERASED, &identity), &digest).await
    }

    /// What an erasure leaves of an arrival's identity and digest.
    fn left_of(&self, arrival: &Arrival) -> (String, String) {
        (self.key.identity(&arrival.origin, &arrival.origin_id), self.key.digest(&arrival.digest))
    }
}

/// The second of two equal ones that never became events, under an identity of its own: for all that is known its sender
/// meant both. `None`: it is the one that is there.
fn twin(arrival: &Arrival, known: &Receipt) -> Option<Arrival> {
    let Receipt::Duplicate { id, .. } = known else { return None };
    let is_another = matches!(arrival.content, Content::Parked { may_be_known: false, .. }) && *id != arrival.id;
    is_another.then(|| Arrival { origin_id: format!("{}/{}", arrival.origin_id, arrival.id), ..arrival.clone() })
}

/// Keeps an event of an erased customer: that it came, and not what it said. `false`: it was kept so before.
async fn bury(connection: &mut Connection, arrival: &Arrival, identity: &str, digest: &str) -> Result<bool, Fault> {
    let time = Columns::of(arrival, arrival.received_at, arrival.received_at).time;
    let inserted = query(
        "INSERT INTO events (id, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
         failures, detail, digest, raw, raw_encoding, settled_at, scope) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, \
         'superseded', 0, 'of a customer who was erased after it happened', $9, '', 'utf8', $8, $4) \
         ON CONFLICT (origin, origin_id, scope) DO NOTHING",
    )
    .with((arrival.id, ERASED, identity, &arrival.source, arrival.door, arrival.content.kind(), time, arrival.received_at, digest))
    .execute(connection)
    .await?;
    Ok(inserted == 1)
}

/// The columns of an arrival that depend on what it turned out to be.
struct Columns {
    lane: Option<String>,
    time: Timestamp,
    happened: Timestamp,
    due_at: Timestamp,
    state: EventState,
    change: Option<String>,
    event: Option<String>,
    reason: Option<Reason>,
    detail: Option<String>,
    envelope: Option<String>,
    raw: String,
    raw_encoding: &'static str,
}

impl Columns {
    fn of(arrival: &Arrival, now: Timestamp, day: Timestamp) -> Self {
        let (raw, raw_encoding) = keep_bytes(&arrival.raw);
        let bare = Self {
            lane: None,
            time: arrival.received_at,
            happened: arrival.received_at,
            due_at: now,
            state: EventState::Parked,
            change: None,
            event: None,
            reason: None,
            detail: None,
            envelope: arrival.envelope.clone(),
            raw,
            raw_encoding,
        };
        match &arrival.content {
            Content::Event(event) => {
                // By a clock that jumped ahead, an announced event would seem to take effect already. One that is told as it
                // takes effect waits for nothing.
                let is_later = |at: &Timestamp| *at > now || (*at > day && event.is_announced());
                let later = event.effective_at.filter(is_later);
                Self {
                    lane: Some(event.customer.as_str().to_owned()),
                    time: event.stamp().time,
                    happened: event.time,
                    change: event.change(),
                    due_at: later.unwrap_or(now),
                    state: if later.is_some() { EventState::Scheduled } else { EventState::Pending },
                    event: Some(serde_json::to_string(event).expect("an event has only serialisable fields")),
                    ..bare
                }
            }
            Content::Parked { reason, detail, .. } => {
                Self { reason: Some(*reason), detail: Some(detail.clone()), ..bare }
            }
        }
    }
}

impl Ready {
    /// `false` when the identity is known to its source, or to a row from before identities had a source; or a tombstone
    /// says that its customer was erased after it happened.
    async fn insert(&self, connection: &mut Connection) -> Result<bool, Fault> {
        let (arrival, columns) = (&self.arrival, &self.columns);
        let settled_at = columns.reason.map(|_| arrival.received_at);
        // Not `INSERT … SELECT`: SQLite would keep a copy of each page that it touches, to undo the statement alone.
        let inserted = query(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, reason, detail, digest, event, raw, raw_encoding, settled_at, envelope, change, said_at, scope) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, 0, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $5) \
             ON CONFLICT (origin, origin_id, scope) DO NOTHING",
        )
        .with((arrival.id, &columns.lane, &arrival.origin, &arrival.origin_id, &arrival.source, arrival.door, arrival.content.kind(), columns.time, arrival.received_at, columns.due_at, columns.state, columns.reason))
        .with((&columns.detail, &arrival.digest, &columns.event, &columns.raw, columns.raw_encoding, settled_at, &columns.envelope, &columns.change, columns.change.as_ref().map(|_| columns.happened.micros())))
        .execute(&mut *connection)
        .await?;
        Ok(inserted == 1 && !self.is_taken_back(connection).await?)
    }

    /// Asked once the row is there, and takes it back: an erasure lets no row in until it has ended, so the tombstone shows
    /// afterwards. The same look finds a row of the same identity from before identities had a source (scope ''); no row of
    /// that kind is ever added, so it cannot come in between.
    async fn is_taken_back(&self, connection: &mut Connection) -> Result<bool, Fault> {
        let obstacle = query(
            "SELECT 1 FROM tombstones WHERE customer = $1 AND erased_at >= $2 AND (erased_at <= $5 OR $2 <= $6) \
             UNION ALL SELECT 1 FROM events WHERE origin = $3 AND origin_id = $4 AND scope = ''",
        )
        .with((
            &self.tombstone,
            self.columns.happened,
            &self.arrival.origin,
            &self.arrival.origin_id,
            moments::tombstone_ceiling(self.written_at),
            moments::doubted_tombstone(self.written_at),
        ));
        let is_taken_back = obstacle.finds(&mut *connection).await?;
        if is_taken_back {
            query("DELETE FROM events WHERE id = $1").bind(self.arrival.id).execute(connection).await?;
        }
        Ok(is_taken_back)
    }
}

/// A row with no scope is from before identities had a source, and counts for each. Not by OR, of which SQLite makes a list, and
/// of the list a table in memory.
async fn known(
    connection: &mut Connection,
    (source, origin, origin_id): (&str, &str, &str),
    digest: &str,
) -> Result<Option<Receipt>, Fault> {
    let known: Option<(EventId, EventState, String)> = query(
        "SELECT id, state, digest FROM events WHERE origin = $1 AND origin_id = $2 AND COALESCE(NULLIF(scope, ''), $3) = $3",
    )
    .with((origin, origin_id, source))
    .fetch_optional(connection)
    .await?;
    Ok(known.map(|(id, state, known)| match known == digest {
        true => Receipt::Duplicate { id, state },
        false => Receipt::Reused { id },
    }))
}

/// Bytes as text where they are text. PostgreSQL's TEXT takes no NUL, so that goes as base64 too.
fn keep_bytes(raw: &[u8]) -> (String, &'static str) {
    use base64::Engine;
    match std::str::from_utf8(raw) {
        Ok(text) if !text.contains('\0') => (text.to_owned(), "utf8"),
        Ok(_) | Err(_) => (base64::engine::general_purpose::STANDARD.encode(raw), "base64"),
    }
}
