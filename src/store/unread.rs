//! Messages that never became events and are read again: after a mistake in a mapping was mended, say.
//!
//! A retry makes the row of such a message pending, with no lane and no event; [`crate::inbound`] reads it as on its arrival,
//! and one transaction ends it. A message that is one event becomes it, under the id that it had. A batch ends superseded by
//! its events. One that is still no event stays parked, with what is wrong now. The transaction asks first whether the row
//! is as it was read, and each event has its sender's identity, so that two replicas, a crash or an erasure in between leave
//! no event twice.
//!
//! Before: [`super::parking`] and [`crate::inbound`]. After: [`super::lanes`].

use super::db::{Connection, Db, Fault, Row, query};
use super::erasure::Key;
use super::inbox::{Accept, Arrival, Ready, Receipt, Urgency};
use super::outbox;
use super::writer::Write;
use super::{Error, Store};
use crate::domain::verdict::{Reason, unreadable_notice};
use crate::domain::{EventId, Timestamp};

/// Limit of events that the end of a batch names: a detail is for a person to read.
const NAMED_MAX: usize = 10;

/// A message that waits to be read again.
#[derive(Debug, Clone)]
pub struct UnreadMessage {
    /// Our id for it.
    pub id: EventId,
    /// The configured source it came by.
    pub source: String,
    /// The door it came by.
    pub door: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Headers and properties that came with them, as JSON.
    pub envelope: String,
    /// Its bytes as the row has them.
    raw: String,
}

/// The result of reading it.
#[derive(Debug, Clone)]
pub struct ReadAgain {
    /// The events that were made of it.
    pub arrivals: Vec<Arrival>,
    /// Why it, or a part of it, is still no event, free of personal data.
    pub problem: Option<(Reason, String)>,
    /// Whether it is one event, and so becomes it.
    pub is_single: bool,
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reread {
    /// The receipt of each event that was made of it, in order.
    pub receipts: Vec<Receipt>,
    /// Whether it is parked again.
    pub is_parked: bool,
}

impl Store {
    /// Messages that wait to be read again, at most `limit`, those that came first before others.
    pub async fn unread(&self, limit: i64) -> Result<Vec<UnreadMessage>, Error> {
        let rows = query(
            "SELECT id, source, door, received_at, raw, raw_encoding, envelope FROM events \
             WHERE lane IS NULL AND state = 'pending' ORDER BY time, id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&self.0.readers)
        .await?;
        Ok(rows.iter().map(message_of).collect::<Result<_, _>>()?)
    }

    /// Ends a message that was read again. `None`: it is not as it was read any more, and nothing changed. After `Ok` it is on
    /// disk.
    pub async fn settle_unread(&self, message: &UnreadMessage, read: ReadAgain) -> Result<Option<Reread>, Error> {
        let now = self.0.clock.now();
        let (targets, key): (_, Key) = (self.0.targets.clone(), self.0.key.clone());
        let place = || self.0.clock.fresh_id().to_string();
        let day = self.0.clock.steady_now();
        let rows =
            read.arrivals.into_iter().map(|arrival| Ready::new(arrival, place(), &key, (now, day, now))).collect();
        let settle = SettleUnread {
            id: message.id,
            raw: message.raw.clone(),
            accept: Accept { rows, urgency: Urgency::Live, targets, key },
            problem: read.problem,
            is_single: read.is_single,
            aside: place(),
            place: place(),
            now,
        };
        let Some((reread, replaced)) = self.write(settle).await? else { return Ok(None) };
        replaced.iter().for_each(|type_name| self.0.replaced.note(type_name));
        Ok(Some(reread))
    }
}

fn message_of(row: &Row) -> Result<UnreadMessage, Fault> {
    use base64::Engine;
    let (id, raw, encoding): (String, String, String) = (row.try_get(0)?, row.try_get(4)?, row.try_get(5)?);
    let body = match encoding.as_str() {
        "base64" => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&raw);
            decoded.map_err(|_| Fault::Unreadable { column: 4 })?
        }
        _ => raw.clone().into_bytes(),
    };
    Ok(UnreadMessage {
        id: EventId(id.parse().map_err(|_| Fault::Unreadable { column: 0 })?),
        source: row.try_get(1)?,
        door: row.try_get(2)?,
        received_at: Timestamp::from_micros(row.try_get(3)?),
        body,
        envelope: row.try_get::<Option<String>>(6)?.unwrap_or_default(),
        raw,
    })
}

struct SettleUnread {
    id: EventId,
    raw: String,
    accept: Accept,
    problem: Option<(Reason, String)>,
    is_single: bool,
    /// The id that the message has while its event has the message's.
    aside: String,
    /// Of the notice, if it is parked again.
    place: String,
    now: Timestamp,
}

impl Write for SettleUnread {
    /// How it ended, and the types of the announced events that were replaced.
    type Output = Option<(Reread, Vec<String>)>;

    fn weight(&self) -> usize {
        self.accept.rows.len().max(1)
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        // The row is ours from here on: the state says so to another replica, the bytes that nothing was cut out of them.
        let taken =
            query("UPDATE events SET id = $2 WHERE id = $1 AND state = 'pending' AND event IS NULL AND raw = $3");
        let taken = taken.bind(self.id.to_string()).bind(&self.aside).bind(&self.raw);
        if taken.execute(&mut *connection).await? == 0 {
            return Ok(None);
        }
        let (mut receipts, mut replaced) = (Vec::with_capacity(self.accept.rows.len()), Vec::new());
        for row in &self.accept.rows {
            receipts.push(self.accept.accept(connection, row, &mut replaced).await?);
        }
        let problem = self.problem_with(&receipts);
        let is_parked = problem.is_some();
        match (problem, receipts.as_slice()) {
            (None, [Receipt::Accepted { .. }]) if self.is_single => {
                query("DELETE FROM events WHERE id = $1").bind(&self.aside).execute(connection).await?;
            }
            (None, receipts) => self.end(connection, ("superseded", None, &ended(receipts))).await?,
            (Some((reason, detail)), _) => {
                self.end(connection, ("parked", Some(reason), &detail)).await?;
                let notice = unreadable_notice(self.id, reason, self.now);
                outbox::insert(connection, &notice, None, &self.accept.targets, &self.place, self.now).await?;
            }
        }
        Ok(Some((Reread { receipts, is_parked }, replaced)))
    }
}

impl SettleUnread {
    /// Why it is parked again: what was wrong with it, or that another event has the identity of one of its own.
    fn problem_with(&self, receipts: &[Receipt]) -> Option<(Reason, String)> {
        let reused = receipts.iter().filter_map(|receipt| match receipt {
            Receipt::Reused { id } => Some(id.as_str()),
            Receipt::Accepted { .. } | Receipt::Duplicate { .. } => None,
        });
        let reused: Vec<&str> = reused.take(NAMED_MAX).collect();
        let told =
            || format!("event-id-reused: the same source and id, and another content, has event {}", reused.join(", "));
        match (&self.problem, reused.is_empty()) {
            (None, true) => None,
            (None, false) => Some((Reason::EventIdReused, told())),
            (Some(problem), true) => Some(problem.clone()),
            (Some((reason, detail)), false) => Some((*reason, format!("{detail}; {}", told()))),
        }
    }

    /// The message has its id again, and its end.
    async fn end(
        &self,
        connection: &mut Connection,
        (state, reason, detail): (&str, Option<Reason>, &str),
    ) -> Result<(), Fault> {
        query("UPDATE events SET id = $2, state = $3, reason = $4, detail = $5, settled_at = $6 WHERE id = $1")
            .bind(&self.aside)
            .bind(self.id.to_string())
            .bind(state)
            .bind(reason.map(Reason::name))
            .bind(detail)
            .bind(self.now.micros())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// The detail of a message that did not become one event.
fn ended(receipts: &[Receipt]) -> String {
    let (mut made, mut known) = (Vec::new(), Vec::new());
    for receipt in receipts {
        match receipt {
            Receipt::Accepted { id, .. } => made.push(id.to_string()),
            Receipt::Duplicate { id, .. } | Receipt::Reused { id } => known.push(id.clone()),
        }
    }
    let named = |ids: &[String]| {
        let more = ids.len().saturating_sub(NAMED_MAX);
        let named = ids.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{named} and {more} more") } else { named }
    };
    match (made.is_empty(), known.is_empty()) {
        (true, true) => "read again: its mapping makes no event of it".to_owned(),
        (false, true) => format!("read again: it became event {}", named(&made)),
        (true, false) => format!("read again: it is event {}, which was here already", named(&known)),
        (false, false) => {
            format!("read again: it became event {}; here already was {}", named(&made), named(&known))
        }
    }
}
