//! The inbox: an event is inserted unless its identity is known. The dedupe row is the work item itself.
//!
//! A crash before the commit leaves nothing, and the sender, who got no answer, sends again. After the
//! commit the event is ours.
//!
//! Before: [`crate::inbound`]. After: [`crate::store::lanes`].

use bytes::Bytes;

use super::announcements;
use super::db::{Connection, Db, Fault, query};
use super::erasure::{ERASED, Key};
use super::outbox::{self, Target};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::event::Event;
use crate::domain::notice::Notice;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Something that arrived, ready to be kept.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Our id for it.
    pub id: EventId,
    /// The sender's identity of it, first half (CloudEvents `source`).
    pub origin: String,
    /// Second half (CloudEvents `id`).
    pub origin_id: String,
    /// The configured source it came by.
    pub source: String,
    /// The door it came by, for the timeline.
    pub door: &'static str,
    /// The type as the sender wrote it.
    pub type_name: String,
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

/// The answer to an arrival. Whatever it says is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is ours now.
    Accepted {
        /// Our id for it.
        id: EventId,
        /// `pending`, `scheduled` or `parked`; `superseded` if its customer was erased since it happened.
        state: String,
    },
    /// It was ours already; nothing changed.
    Duplicate {
        /// Our id for the first one.
        id: String,
        /// What has become of the first one.
        state: String,
    },
    /// Its identity is known, with another content. Nothing was kept.
    Reused {
        /// Our id for the first one.
        id: String,
    },
}

/// Whether somebody waits for the effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It comes as it happens.
    Live,
    /// It is one of many that were imported, and yields.
    Bulk,
}

impl Urgency {
    /// As `lanes.bulk` has it.
    pub(super) fn bulk(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::Bulk => 1,
        }
    }
}

struct Accept {
    arrivals: Vec<Arrival>,
    urgency: Urgency,
    targets: Vec<Target>,
    places: Vec<String>,
    key: Key,
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
        let places = arrivals.iter().map(|_| self.0.clock.fresh_id().to_string()).collect();
        let (targets, key) = (self.0.targets.clone(), self.0.key.clone());
        let (receipts, replaced) = self.write(Accept { arrivals, urgency, targets, places, key }).await?;
        replaced.iter().for_each(|type_name| self.0.replaced.note(type_name));
        Ok(receipts)
    }

    /// How many events are work that is not done, and how many will be work later: they wait for their day, or for
    /// their sign-up. Reads an index, which takes a moment with a million of them.
    pub async fn backlog(&self) -> Result<(u64, u64), Error> {
        let rows = query(
            "SELECT state, COUNT(*) FROM events WHERE state IN ('pending', 'waiting', 'scheduled') GROUP BY state",
        )
        .fetch_all(&self.0.readers)
        .await?;
        let (mut work, mut later) = (0, 0);
        for row in rows {
            let count = u64::try_from(row.try_get::<i64>(1)?).unwrap_or(0);
            *(if row.try_get::<String>(0)? == "pending" { &mut work } else { &mut later }) += count;
        }
        Ok((work, later))
    }
}

impl Write for Accept {
    /// The receipts, and the types of the announced events that were replaced.
    type Output = (Vec<Receipt>, Vec<String>);

    fn weight(&self) -> usize {
        self.arrivals.len()
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        let (mut receipts, mut replaced) = (Vec::with_capacity(self.arrivals.len()), Vec::new());
        for (arrival, place) in self.arrivals.iter().zip(&self.places) {
            receipts.push(self.accept(connection, (arrival, place), &mut replaced).await?);
        }
        Ok((receipts, replaced))
    }
}

impl Accept {
    async fn accept(
        &self,
        connection: &mut Connection,
        (arrival, place): (&Arrival, &str),
        replaced: &mut Vec<String>,
    ) -> Result<Receipt, Fault> {
        let row = Columns::of(arrival);
        let tombstone = match &arrival.content {
            Content::Event(event) => self.key.customer(event.customer.as_str()),
            Content::Parked { .. } => {
                // A message that was emptied names no customer any more whose tombstone would keep it away.
                if let Some(emptied) = self.known_erased(connection, arrival).await? {
                    return Ok(emptied);
                }
                String::new()
            }
        };
        if !row.insert(connection, arrival, &tombstone).await? {
            let receipt = self.not_new(connection, arrival).await?;
            let Some(twin) = twin(arrival, &receipt) else { return Ok(receipt) };
            if !row.insert(connection, &twin, &tombstone).await? {
                return self.not_new(connection, &twin).await;
            }
        }
        if let Content::Event(event) = &arrival.content {
            let (types, ended) = announcements::settle(connection, event, arrival.received_at).await?;
            replaced.extend(types);
            if let Some(state) = ended {
                return Ok(Receipt::Accepted { id: arrival.id, state: state.to_owned() });
            }
        }
        match &arrival.content {
            Content::Event(event) if row.state == "pending" => {
                ready_lane(connection, event.customer.as_str(), self.urgency, arrival.received_at).await?;
            }
            Content::Event(_) => {}
            Content::Parked { notice, .. } => {
                outbox::insert(connection, notice, None, &self.targets, place, arrival.received_at).await?;
            }
        }
        Ok(Receipt::Accepted { id: arrival.id, state: row.state.to_owned() })
    }

    /// Why an arrival was not inserted: its identity is known, or its customer was erased after it happened.
    async fn not_new(&self, connection: &mut Connection, arrival: &Arrival) -> Result<Receipt, Fault> {
        if let Some(receipt) = known(connection, (&arrival.origin, &arrival.origin_id), &arrival.digest).await? {
            return Ok(receipt);
        }
        let (identity, digest) = self.left_of(arrival);
        if bury(connection, arrival, &identity, &digest).await? {
            return Ok(Receipt::Accepted { id: arrival.id, state: "superseded".to_owned() });
        }
        let known = known(connection, (ERASED, &identity), &digest).await?;
        // Neither there nor new: it was removed in between, and the sender is to send it again.
        known.ok_or_else(|| Fault::Missing)
    }

    async fn known_erased(&self, connection: &mut Connection, arrival: &Arrival) -> Result<Option<Receipt>, Fault> {
        let (identity, digest) = self.left_of(arrival);
        known(connection, (ERASED, &identity), &digest).await
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
    let is_another =
        matches!(arrival.content, Content::Parked { may_be_known: false, .. }) && *id != arrival.id.to_string();
    is_another.then(|| Arrival { origin_id: format!("{}/{}", arrival.origin_id, arrival.id), ..arrival.clone() })
}

/// Keeps an event of an erased customer: that it came, and not what it said. `false`: it was kept so before.
async fn bury(connection: &mut Connection, arrival: &Arrival, identity: &str, digest: &str) -> Result<bool, Fault> {
    let time = Columns::of(arrival).time;
    let inserted = query(
        "INSERT INTO events (id, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
         failures, detail, digest, raw, raw_encoding, settled_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, \
         'superseded', 0, 'of a customer who was erased after it happened', $9, '', 'utf8', $8) \
         ON CONFLICT (origin, origin_id) DO NOTHING",
    )
    .bind(arrival.id.to_string())
    .bind(ERASED)
    .bind(identity.to_owned())
    .bind(arrival.source.clone())
    .bind(arrival.door)
    .bind(arrival.type_name.clone())
    .bind(time.micros())
    .bind(arrival.received_at.micros())
    .bind(digest.to_owned())
    .execute(connection)
    .await?;
    Ok(inserted == 1)
}

/// The columns of an arrival that depend on what it turned out to be.
struct Columns {
    lane: Option<String>,
    time: Timestamp,
    due_at: Timestamp,
    state: &'static str,
    event: Option<String>,
    reason: Option<&'static str>,
    detail: Option<String>,
    envelope: Option<String>,
    raw: String,
    raw_encoding: &'static str,
}

impl Columns {
    fn of(arrival: &Arrival) -> Self {
        let (raw, raw_encoding) = keep_bytes(&arrival.raw);
        let now = arrival.received_at;
        let bare = Self {
            lane: None,
            time: now,
            due_at: now,
            state: "parked",
            event: None,
            reason: None,
            detail: None,
            envelope: arrival.envelope.clone(),
            raw,
            raw_encoding,
        };
        match &arrival.content {
            Content::Event(event) => {
                let later = event.effective_at.filter(|at| *at > now);
                Self {
                    lane: Some(event.customer.as_str().to_owned()),
                    time: event.stamp().time,
                    due_at: later.unwrap_or(now),
                    state: if later.is_some() { "scheduled" } else { "pending" },
                    event: Some(serde_json::to_string(event).expect("an event has only serialisable fields")),
                    ..bare
                }
            }
            Content::Parked { reason, detail, .. } => {
                Self { reason: Some(reason.name()), detail: Some(detail.clone()), ..bare }
            }
        }
    }

    /// `false` when the identity is known, or a tombstone says that its customer was erased after it happened.
    async fn insert(&self, connection: &mut Connection, arrival: &Arrival, tombstone: &str) -> Result<bool, Fault> {
        let (happened, change) = match &arrival.content {
            Content::Event(event) => (event.time, event.change()),
            Content::Parked { .. } => (arrival.received_at, None),
        };
        let said_at = change.as_ref().map(|_| happened.micros());
        let settled_at = self.reason.map(|_| arrival.received_at.micros());
        let inserted = query(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, reason, detail, digest, event, raw, raw_encoding, settled_at, envelope, change, said_at) \
             SELECT $1, CAST($2 AS TEXT), $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, 0, CAST($12 AS TEXT), \
             CAST($13 AS TEXT), $14, CAST($15 AS TEXT), $16, $17, CAST($18 AS BIGINT), CAST($21 AS TEXT), \
             CAST($22 AS TEXT), CAST($23 AS BIGINT) \
             WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE customer = $19 AND erased_at >= $20) \
             ON CONFLICT (origin, origin_id) DO NOTHING",
        )
        .bind(arrival.id.to_string())
        .bind(self.lane.clone())
        .bind(arrival.origin.clone())
        .bind(arrival.origin_id.clone())
        .bind(arrival.source.clone())
        .bind(arrival.door)
        .bind(arrival.type_name.clone())
        .bind(self.time.micros())
        .bind(arrival.received_at.micros())
        .bind(self.due_at.micros())
        .bind(self.state)
        .bind(self.reason)
        .bind(self.detail.clone())
        .bind(arrival.digest.clone())
        .bind(self.event.clone())
        .bind(self.raw.clone())
        .bind(self.raw_encoding)
        .bind(settled_at)
        .bind(tombstone.to_owned())
        .bind(happened.micros())
        .bind(self.envelope.clone())
        .bind(change)
        .bind(said_at)
        .execute(connection)
        .await?;
        Ok(inserted == 1)
    }
}

async fn known(
    connection: &mut Connection,
    (origin, origin_id): (&str, &str),
    digest: &str,
) -> Result<Option<Receipt>, Fault> {
    let row = query("SELECT id, state, digest FROM events WHERE origin = $1 AND origin_id = $2")
        .bind(origin.to_owned())
        .bind(origin_id.to_owned())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get(0)?;
    let is_same = row.try_get::<String>(2)? == digest;
    Ok(Some(if is_same { Receipt::Duplicate { id, state: row.try_get(1)? } } else { Receipt::Reused { id } }))
}

/// Makes a lane claimable now, unless somebody works on it: then its settling looks for the next head. A new lane's
/// fence begins at the moment, so that none repeats that a lane of the same name had before its customer was erased.
///
/// What is live makes the lane live, with all that is in it: one customer's events keep their order. What is imported
/// makes a lane yield only where nothing else is due in it.
pub(super) async fn ready_lane(
    connection: &mut Connection,
    lane: &str,
    urgency: Urgency,
    now: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO lanes (lane, customer, fence, claimed, interrupted, ready_at, bulk) \
         VALUES ($1, '', $2, 0, 0, $2, $3) ON CONFLICT (lane) DO UPDATE SET ready_at = CASE \
         WHEN lanes.claimed = 1 THEN lanes.ready_at \
         WHEN lanes.ready_at IS NOT NULL AND lanes.ready_at < $2 THEN lanes.ready_at \
         ELSE $2 END, bulk = CASE \
         WHEN $3 = 0 THEN 0 \
         WHEN lanes.ready_at IS NULL AND lanes.claimed = 0 THEN 1 \
         ELSE lanes.bulk END",
    )
    .bind(lane.to_owned())
    .bind(now.micros())
    .bind(urgency.bulk())
    .execute(connection)
    .await?;
    Ok(())
}

/// Bytes as text where they are text. PostgreSQL's TEXT takes no NUL, so that goes as base64 too.
fn keep_bytes(raw: &[u8]) -> (String, &'static str) {
    use base64::Engine;
    match std::str::from_utf8(raw) {
        Ok(text) if !text.contains('\0') => (text.to_owned(), "utf8"),
        Ok(_) | Err(_) => (base64::engine::general_purpose::STANDARD.encode(raw), "base64"),
    }
}
