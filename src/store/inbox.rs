//! The inbox: an event is inserted unless its identity is known. The dedupe row is the work item itself.
//!
//! A crash before the commit leaves nothing, and the sender, who got no answer, sends again. After the commit the event is ours.
//!
//! Before: [`crate::inbound`]. After: [`crate::store::lanes`].

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::announcements::{self, Said};
use super::closed_sets::RowKind;
use super::db::{DbFault, RowStatement, query};
use super::error::Error;
use super::event_rows::{self, NewEvent};
use super::handle::Store;
use super::lanes::{self, LaneUrgency, ReadyLane};
use super::moments;
use super::outbox::{self, NewNotice};
use super::tombstones::{ERASED, TombstoneKey};
use super::transaction::{Transaction, Write};
use crate::domain::event::{Event, EventState, Happening, Transport};
use crate::domain::notice::Notice;
use crate::domain::team::{TeamEvent, TeamHappening};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// An arrival that is ready to be stored.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The bridge's id of the arrival.
    pub id: EventId,
    /// The first half of the sender's identity of it within its source (CloudEvents `source`).
    pub origin: String,
    /// The second half (CloudEvents `id`).
    pub origin_id: String,
    /// The configured source that it came from: two sources may have events of the same identity.
    pub source: String,
    /// The transport that it came by, for the timeline.
    pub transport: Transport,
    /// The time of its arrival.
    pub received_at: Timestamp,
    /// The digest of its content.
    pub digest: String,
    /// The original bytes.
    pub raw: Bytes,
    /// The meaningful headers that came with the bytes, as JSON: those that carry an event's attributes, say.
    pub envelope: Option<String>,
    /// Its content.
    pub content: Content,
}

/// The content of an arrival, once it is read.
#[derive(Debug, Clone)]
pub enum Content {
    /// An event of a customer, to be applied.
    Event(Event),
    /// An event of a member of the team, to be applied.
    Team(TeamEvent),
    /// A message that a person must look at; the notice announces it.
    Parked {
        /// The class of trouble.
        reason: Reason,
        /// Details, free of personal data.
        detail: String,
        /// The notice that announces it.
        notice: Notice,
        /// `true` if an equal message is the same one, which may be here already. Otherwise equal messages are several.
        may_be_known: bool,
    },
}

impl Content {
    fn kind(&self) -> RowKind {
        match self {
            Self::Event(event) => RowKind::of(&event.happening),
            Self::Team(event) => RowKind::of_team(&event.happening),
            Self::Parked { .. } => RowKind::Unreadable,
        }
    }

    /// The parts of its event that the inbox needs.
    fn said(&self) -> Option<Saying> {
        match self {
            Self::Event(event) => Some(Saying {
                lane: event.customer.as_str().to_owned(),
                id: event.id,
                said_at: event.time,
                stamp: event.stamp().time,
                effective_at: event.effective_at,
                change: event.change(),
                is_announced: event.is_announced(),
                calls_off: matches!(event.happening, Happening::CalledOff(_)),
                text: serde_json::to_string(event).expect("an event has only serialisable fields"),
            }),
            Self::Team(event) => Some(Saying {
                lane: event.member.lane(),
                id: event.id,
                said_at: event.time,
                stamp: event.stamp().time,
                effective_at: event.effective_at,
                change: event.change().map(str::to_owned),
                is_announced: event.is_announced(),
                calls_off: matches!(event.happening, TeamHappening::CalledOff { .. }),
                text: serde_json::to_string(event).expect("an event has only serialisable fields"),
            }),
            Self::Parked { .. } => None,
        }
    }
}

/// The parts of an event that the inbox needs, whomever it is about.
struct Saying {
    lane: String,
    id: EventId,
    /// The time at which it happened.
    said_at: Timestamp,
    /// The time in the order of its lane.
    stamp: Timestamp,
    effective_at: Option<Timestamp>,
    change: Option<String>,
    is_announced: bool,
    calls_off: bool,
    /// Its stored form.
    text: String,
}

impl Saying {
    fn said(&self) -> Said<'_> {
        Said {
            lane: &self.lane,
            id: self.id,
            said_at: self.said_at,
            change: self.change.as_deref(),
            is_announced: self.is_announced,
            calls_off: self.calls_off,
        }
    }
}

/// The answer to an arrival. Its content is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The arrival is ours now.
    Accepted {
        /// The bridge's id of it.
        id: EventId,
        /// Pending, scheduled or parked; superseded if its customer was erased since it happened.
        state: EventState,
    },
    /// The arrival was ours already; nothing changed.
    Duplicate {
        /// The bridge's id of the first one.
        id: EventId,
        /// The state of the first one.
        state: EventState,
    },
    /// The identity is known, with another content. Nothing was stored.
    Reused {
        /// The bridge's id of the first one.
        id: EventId,
    },
}

/// The approximate bytes of a row whose texts are empty.
const ROW_BYTES: usize = 1_024;

pub(super) struct Accept {
    pub(super) rows: Vec<ReadyArrival>,
    pub(super) urgency: LaneUrgency,
    pub(super) key: TombstoneKey,
}

/// The times by which an arrival is judged.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    /// The time from which on it is work: its arrival, or when it was read again.
    pub(super) work_from: Timestamp,
    /// The present, for an event that waits for its day.
    pub(super) day: Timestamp,
    /// The present, by which a tombstone is judged: a message may have arrived long before.
    pub(super) written_at: Timestamp,
}

/// A row ready to insert. The caller makes it, to keep work off the single writer thread.
pub(super) struct ReadyArrival {
    arrival: Arrival,
    /// Its event; `None`: it is none.
    event: Option<Saying>,
    columns: Columns,
    /// The name that its customer's tombstone would have; empty if there is no customer.
    tombstone: String,
    /// The `seq` of its notice, if it has one.
    seq: String,
    moments: Moments,
}

impl ReadyArrival {
    pub(super) fn new(arrival: Arrival, seq: String, key: &TombstoneKey, moments: Moments) -> Self {
        let event = arrival.content.said();
        let tombstone = event.as_ref().map_or_else(String::new, |event| key.customer(&event.lane));
        Self { columns: Columns::of(&arrival, event.as_ref(), moments), arrival, event, tombstone, seq, moments }
    }

    fn lane(&self) -> Option<&str> {
        self.event.as_ref().map(|event| event.lane.as_str())
    }

    /// The bytes of its texts: the original bytes, which are held twice, and the texts read from them.
    fn bytes(&self) -> usize {
        let event = self.event.as_ref().map(|event| &event.text);
        let read = [event, self.arrival.envelope.as_ref(), self.columns.detail.as_ref()];
        let read: usize = read.into_iter().flatten().map(String::len).sum();
        ROW_BYTES + self.arrival.raw.len() + self.columns.raw.len() + 2 * read
    }
}

impl Store {
    /// Stores arrivals, all in one transaction; a receipt for each, in order. After `Ok` they are on disk.
    pub async fn accept(&self, arrivals: Vec<Arrival>) -> Result<Vec<Receipt>, Error> {
        self.accept_as(arrivals, LaneUrgency::Live).await
    }

    /// As [`Store::accept`], for imported events: they are worked on when nothing else is due.
    pub async fn accept_in_bulk(&self, arrivals: Vec<Arrival>) -> Result<Vec<Receipt>, Error> {
        self.accept_as(arrivals, LaneUrgency::Bulk).await
    }

    async fn accept_as(&self, arrivals: Vec<Arrival>, urgency: LaneUrgency) -> Result<Vec<Receipt>, Error> {
        let key = self.inner.key.clone();
        let (day, written_at) = (self.clock.steady_now(), self.clock.now());
        let ready = |arrival: Arrival| {
            let moments = Moments { work_from: arrival.received_at, day, written_at };
            ReadyArrival::new(arrival, self.clock.fresh_id().to_string(), &key, moments)
        };
        let rows = arrivals.into_iter().map(ready).collect();
        let (receipts, replaced) = self.write(Accept { rows, urgency, key }).await?;
        self.inner.uncounted.note_replaced(&replaced);
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
        self.rows.iter().map(ReadyArrival::bytes).sum()
    }

    fn proves_writing(&self, output: &Self::Output) -> bool {
        output.0.iter().any(|receipt| matches!(receipt, Receipt::Accepted { .. }))
    }

    fn lanes(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(ReadyArrival::lane)
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        Ok(Self::run_all(&[self], tx).await?.remove(0))
    }

    async fn run_all(writes: &[&Self], tx: &mut Transaction<'_>) -> Result<Vec<Self::Output>, DbFault> {
        let all: Vec<Row<'_>> =
            writes.iter().flat_map(|accept| accept.rows.iter().map(|row| Row { accept, row })).collect();
        let mut plain = accept_plain(tx, &all).await?.into_iter();
        let mut outputs = Vec::with_capacity(writes.len());
        let mut rows = all.iter();
        for accept in writes {
            let mut output = (Vec::with_capacity(accept.rows.len()), Vec::new());
            for (row, accepted) in rows.by_ref().zip(plain.by_ref()).take(accept.rows.len()) {
                let receipt = match accepted {
                    Some((receipt, replaced)) => {
                        output.1.extend(replaced);
                        receipt
                    }
                    None => accept.accept(tx, row.row, &mut output.1).await?,
                };
                output.0.push(receipt);
            }
            outputs.push(output);
        }
        Ok(outputs)
    }
}

/// A row with its write.
struct Row<'a> {
    accept: &'a Accept,
    row: &'a ReadyArrival,
}

impl<'a> Row<'a> {
    fn identity(&self) -> (&'a str, &'a str, &'a str) {
        let Arrival { origin, origin_id, source, .. } = &self.row.arrival;
        (origin, origin_id, source)
    }

    /// The lane that gets work by it.
    fn ready_lane(&self) -> Option<ReadyLane<'a>> {
        let lane = self.row.lane().filter(|_| self.row.columns.state == EventState::Pending)?;
        Some(ReadyLane { lane, urgency: self.accept.urgency, from: self.row.moments.work_from })
    }

    /// `true` if it is an event that holds as it is, whatever else was said about its customer.
    fn is_plain(&self) -> bool {
        self.row.event.as_ref().is_some_and(|event| !event.is_announced && !event.calls_off)
    }
}

/// The rows that are accepted as a set: those that are plain and alone with their identity, and whose customer has no event in the
/// group that is not plain. Nearly always these are all of them.
fn plain_rows(all: &[Row<'_>]) -> Vec<usize> {
    let mut by_identity: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, row) in all.iter().enumerate() {
        by_identity.entry(row.identity()).or_default().push(place);
    }
    let special = all.iter().filter(|row| !row.is_plain());
    let special: HashSet<&str> = special.filter_map(|row| row.row.lane()).collect();
    let is_alone = |row: &Row<'_>| row.row.lane().is_some_and(|lane| !special.contains(lane));
    let single = by_identity.into_values().filter_map(|places| <[usize; 1]>::try_from(places).ok());
    single.flatten().filter(|place| is_alone(&all[*place])).collect()
}

/// Stores the plain rows that are new, as sets. For each row its receipt and the kinds of the announced events that it replaced;
/// `None`: the row is left to be accepted alone.
async fn accept_plain(
    tx: &mut Transaction<'_>,
    all: &[Row<'_>],
) -> Result<Vec<Option<(Receipt, Vec<RowKind>)>>, DbFault> {
    let plain = plain_rows(all);
    let is_new = event_rows::insert_all(tx, plain.iter().map(|place| all[*place].row.new_event()).collect()).await?;
    let new = plain.into_iter().zip(is_new).filter(|(_, is_new)| *is_new).map(|(place, _)| place);
    let mut new: Vec<usize> = new.collect();
    new.sort_unstable();
    let taken_back = take_back(tx, new.iter().map(|place| all[*place].row).collect()).await?;
    new.retain(|place| !taken_back.contains(&all[*place].row.arrival.id));
    let changing = new.iter().filter(|place| all[**place].row.change().is_some());
    let changing = changing.filter_map(|place| all[*place].row.lane()).collect();
    let announced = announcements::announced(tx, changing).await?;
    let mut receipts = vec![None; all.len()];
    for place in &new {
        let ReadyArrival { arrival, event, columns, moments, .. } = all[*place].row;
        let mut replaced = Vec::new();
        if let Some(event) = event
            && announced.contains(&event.lane)
        {
            // A plain event goes on, whatever it replaced.
            (replaced, _) = announcements::settle(tx, event.said(), moments.work_from).await?;
        }
        receipts[*place] = Some((Receipt::Accepted { id: arrival.id, state: columns.state }, replaced));
    }
    lanes::ready_lanes(tx, new.iter().filter_map(|place| all[*place].ready_lane()).collect()).await?;
    Ok(receipts)
}

impl Accept {
    pub(super) async fn accept(
        &self,
        tx: &mut Transaction<'_>,
        row: &ReadyArrival,
        replaced: &mut Vec<RowKind>,
    ) -> Result<Receipt, DbFault> {
        let arrival = &row.arrival;
        // A message that an erasure emptied no longer names a customer whose tombstone would keep it away.
        if matches!(arrival.content, Content::Parked { .. })
            && let Some(emptied) = self.known_erased(tx, arrival).await?
        {
            return Ok(emptied);
        }
        if !row.insert(tx).await? {
            let receipt = self.not_new(tx, arrival).await?;
            let Some(twin) = twin(arrival, &receipt) else { return Ok(receipt) };
            let twin = ReadyArrival::new(twin, row.seq.clone(), &self.key, row.moments);
            if !twin.insert(tx).await? {
                return self.not_new(tx, &twin.arrival).await;
            }
        }
        if let Some(event) = &row.event {
            let (kinds, ended) = announcements::settle(tx, event.said(), row.moments.work_from).await?;
            replaced.extend(kinds);
            if let Some(state) = ended {
                return Ok(Receipt::Accepted { id: arrival.id, state });
            }
        }
        if let Content::Parked { notice, .. } = &arrival.content {
            let new = NewNotice { notice, customer: None, seq: &row.seq, at: row.moments.work_from };
            outbox::insert(tx, new).await?;
        }
        lanes::ready_lanes(tx, Row { accept: self, row }.ready_lane().into_iter().collect()).await?;
        Ok(Receipt::Accepted { id: arrival.id, state: row.columns.state })
    }

    /// The reason why an arrival was not inserted: its identity is known, or its customer was erased after it happened.
    async fn not_new(&self, tx: &mut Transaction<'_>, arrival: &Arrival) -> Result<Receipt, DbFault> {
        let Arrival { source, origin, origin_id, digest, .. } = arrival;
        if let Some(receipt) = (Identity { source, origin, origin_id, digest }).known(tx).await? {
            return Ok(receipt);
        }
        let left = self.left_of(arrival);
        // Checked before the insert, which does not see rows from before identities had a source.
        if let Some(receipt) = left.identity(source).known(tx).await? {
            return Ok(receipt);
        }
        if left.insert(tx, arrival).await? {
            return Ok(Receipt::Accepted { id: arrival.id, state: EventState::Superseded });
        }
        // Neither known nor new: it was removed in between, and the sender must send it again.
        left.identity(source).known(tx).await?.ok_or(DbFault::Missing)
    }

    async fn known_erased(&self, tx: &mut Transaction<'_>, arrival: &Arrival) -> Result<Option<Receipt>, DbFault> {
        self.left_of(arrival).identity(&arrival.source).known(tx).await
    }

    fn left_of(&self, arrival: &Arrival) -> LeftOver {
        let origin_id = self.key.identity(&arrival.origin, &arrival.origin_id);
        LeftOver { origin_id, digest: self.key.digest(&arrival.digest) }
    }
}

/// The identity of an arrival, and the digest that tells if two of one identity are the same.
struct Identity<'a> {
    source: &'a str,
    origin: &'a str,
    origin_id: &'a str,
    digest: &'a str,
}

impl Identity<'_> {
    /// The receipt of an arrival whose identity has a row. A row with no scope is from before identities had a source, and counts
    /// for each source. The statement avoids OR: SQLite would make a list of it, and of the list a table in memory.
    async fn known(&self, tx: &mut Transaction<'_>) -> Result<Option<Receipt>, DbFault> {
        let sql = "SELECT id, state, digest FROM events WHERE origin = $1 AND origin_id = $2 AND COALESCE(NULLIF(scope, ''), $3) = $3";
        let known: Option<(EventId, EventState, String)> =
            query(sql).with((self.origin, self.origin_id, self.source)).fetch_optional(tx).await?;
        Ok(known.map(|(id, state, digest)| match digest == self.digest {
            true => Receipt::Duplicate { id, state },
            false => Receipt::Reused { id },
        }))
    }
}

/// The remains of an arrival's identity and digest after an erasure.
struct LeftOver {
    origin_id: String,
    digest: String,
}

impl LeftOver {
    fn identity<'a>(&'a self, source: &'a str) -> Identity<'a> {
        Identity { source, origin: ERASED, origin_id: &self.origin_id, digest: &self.digest }
    }

    /// Records that an event of an erased customer came, but not its content. Returns `false` if that was recorded before.
    async fn insert(&self, tx: &mut Transaction<'_>, arrival: &Arrival) -> Result<bool, DbFault> {
        let (kind, received_at) = (arrival.content.kind(), arrival.received_at);
        let new = NewEvent {
            origin: ERASED,
            origin_id: &self.origin_id,
            source: &arrival.source,
            transport: arrival.transport.name(),
            time: arrival.content.said().map_or(received_at, |event| event.stamp),
            detail: Some("of a customer who was erased after it happened"),
            digest: &self.digest,
            settled_at: Some(received_at),
            ..NewEvent::bare(arrival.id, kind, EventState::Superseded, received_at)
        };
        new.insert(tx).await
    }
}

/// The second of two equal messages that never became events, under an identity of its own: as far as is known, its sender meant
/// both. `None`: it is the one that is there.
fn twin(arrival: &Arrival, known: &Receipt) -> Option<Arrival> {
    let Receipt::Duplicate { id, .. } = known else { return None };
    let is_another = matches!(arrival.content, Content::Parked { may_be_known: false, .. }) && *id != arrival.id;
    is_another.then(|| Arrival { origin_id: format!("{}/{}", arrival.origin_id, arrival.id), ..arrival.clone() })
}

/// The columns of an arrival that depend on its content.
struct Columns {
    happened: Timestamp,
    due_at: Timestamp,
    state: EventState,
    reason: Option<Reason>,
    detail: Option<String>,
    raw: String,
    raw_encoding: &'static str,
}

impl Columns {
    fn of(arrival: &Arrival, event: Option<&Saying>, moments: Moments) -> Self {
        let (raw, raw_encoding) = keep_bytes(&arrival.raw);
        let now = moments.work_from;
        let bare = Self {
            happened: arrival.received_at,
            due_at: now,
            state: EventState::Parked,
            reason: None,
            detail: None,
            raw,
            raw_encoding,
        };
        match (event, &arrival.content) {
            (Some(event), _) => {
                // By a clock that jumped ahead, an announced event would seem to take effect already. An event that is sent as it
                // takes effect does not wait.
                let is_later = |at: &Timestamp| *at > now || (*at > moments.day && event.is_announced);
                let later = event.effective_at.filter(is_later);
                Self {
                    happened: event.said_at,
                    due_at: later.unwrap_or(now),
                    state: if later.is_some() { EventState::Scheduled } else { EventState::Pending },
                    ..bare
                }
            }
            (None, Content::Parked { reason, detail, .. }) => {
                Self { reason: Some(*reason), detail: Some(detail.clone()), ..bare }
            }
            (None, Content::Event(_) | Content::Team(_)) => bare,
        }
    }
}

impl ReadyArrival {
    /// Inserts the row. Returns `false` if the identity is known to its source, or to a row from before identities had a source,
    /// or if a tombstone says that its customer was erased after the event happened.
    async fn insert(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        Ok(self.new_event().insert(tx).await? && take_back(tx, vec![self]).await?.is_empty())
    }

    fn change(&self) -> Option<&str> {
        self.event.as_ref().and_then(|event| event.change.as_deref())
    }

    fn new_event(&self) -> NewEvent<'_> {
        let (arrival, columns) = (&self.arrival, &self.columns);
        NewEvent {
            id: arrival.id,
            lane: self.lane(),
            origin: &arrival.origin,
            origin_id: &arrival.origin_id,
            source: &arrival.source,
            transport: arrival.transport.name(),
            kind: arrival.content.kind(),
            time: self.event.as_ref().map_or(arrival.received_at, |event| event.stamp),
            received_at: arrival.received_at,
            due_at: columns.due_at,
            state: columns.state,
            reason: columns.reason,
            detail: columns.detail.as_deref(),
            digest: &arrival.digest,
            event: self.event.as_ref().map(|event| event.text.as_str()),
            raw: &columns.raw,
            raw_encoding: columns.raw_encoding,
            settled_at: columns.reason.map(|_| arrival.received_at),
            envelope: arrival.envelope.as_deref(),
            change: self.change(),
            said_at: self.change().map(|_| columns.happened),
        }
    }
}

static OBSTACLES: RowStatement = RowStatement::new(
    &["id", "tombstone", "happened", "origin", "origin_id", "ceiling", "doubted"],
    "SELECT {id} FROM {join}{lateral} (SELECT 1 FROM tombstones WHERE customer = {tombstone} AND erased_at >= {happened} \
     AND (erased_at <= {ceiling} OR {happened} <= {doubted}) \
     UNION ALL SELECT 1 FROM events WHERE events.origin = {origin} AND events.origin_id = {origin_id} AND scope = '' \
     LIMIT 1) AS obstacle",
);

/// Checks for obstacles once rows are there, and removes the rows that have one. An erasure lets no row in until it has ended, so
/// its tombstone is visible by then. The same query finds a row of the same identity from before identities had a source
/// (scope ''); no row of that kind is ever added, so it cannot come in between.
async fn take_back(tx: &mut Transaction<'_>, inserted: Vec<&ReadyArrival>) -> Result<HashSet<EventId>, DbFault> {
    let mut rows = OBSTACLES.rows(1);
    for ReadyArrival { arrival, columns, tombstone, moments, .. } in inserted {
        let ceiling = moments::tombstone_ceiling(moments.written_at);
        let doubted = moments::doubted_tombstone(moments.written_at);
        rows.with((arrival.id, tombstone, columns.happened, &arrival.origin, &arrival.origin_id, ceiling, doubted));
    }
    let obstructed: HashSet<EventId> = rows.fetch_all(&mut *tx).await?.into_iter().collect();
    for id in &obstructed {
        query("DELETE FROM events WHERE id = $1").bind(*id).execute(&mut *tx).await?;
    }
    Ok(obstructed)
}

/// Bytes as text if they are text. PostgreSQL's TEXT takes no NUL, so bytes with one become base64 too.
fn keep_bytes(raw: &[u8]) -> (String, &'static str) {
    use base64::Engine;
    match std::str::from_utf8(raw) {
        Ok(text) if !text.contains('\0') => (text.to_owned(), "utf8"),
        Ok(_) | Err(_) => (base64::engine::general_purpose::STANDARD.encode(raw), "base64"),
    }
}
