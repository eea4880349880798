//! Messages that never became events and are read again: after a mapping was corrected, say.
//!
//! A retry makes the row of such a message pending, with no lane and no event; [`crate::inbound`] reads it as on its arrival, and
//! one transaction ends it. A message that is one event becomes that event, under the id that it had. A batch ends superseded by
//! its events. A message that is still no event stays parked, with its present problem. The transaction first checks that the row
//! is unchanged since it was read, and each event has its sender's identity, so that two replicas, a crash or an erasure in
//! between leave no event twice.
//!
//! Before: [`super::parking`] and [`crate::inbound`]. After: [`super::lanes`].

use super::closed_sets::RowKind;
use super::db::{DbFault, ours, query, row};
use super::error::Error;
use super::handle::Store;
use super::inbox::{Accept, Arrival, Moments, ReadyArrival, Receipt};
use super::lanes::LaneUrgency;
use super::outbox::{self, NewNotice};
use super::transaction::{Transaction, Write};
use crate::domain::event::EventState;
use crate::domain::verdict::{Reason, unreadable_notice};
use crate::domain::{EventId, Timestamp};

/// Limit of the events that the end of a batch names: a person reads the detail.
const NAMED_MAX: usize = 10;

/// A message that waits to be read again.
#[derive(Debug, Clone)]
pub struct UnreadMessage {
    /// The bridge's id of the message.
    pub id: EventId,
    /// The configured source that it came from.
    pub source: String,
    /// The transport that it came by.
    pub transport: String,
    /// The time of its arrival.
    pub received_at: Timestamp,
    /// Its bytes.
    pub body: Vec<u8>,
    /// The headers and properties that came with them, as JSON.
    pub envelope: String,
    /// Its bytes in the encoding of the row.
    raw: String,
}

/// The result of reading a message again.
#[derive(Debug, Clone)]
pub struct ReadAgain {
    /// The events that were made of it.
    pub arrivals: Vec<Arrival>,
    /// The reason why it, or a part of it, is still no event, free of personal data.
    pub problem: Option<(Reason, String)>,
    /// `true` if the message is one event, and so becomes it.
    pub is_single: bool,
}

/// The end of a message that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reread {
    /// The receipt of each event that was made of it, in order.
    pub receipts: Vec<Receipt>,
    /// `true` if the message is parked again.
    pub is_parked: bool,
}

impl Store {
    /// Messages that wait to be read again, at most `limit`, in the order of arrival.
    pub async fn unread(&self, limit: i64) -> Result<Vec<UnreadMessage>, Error> {
        let rows = query(ours(format!(
            "SELECT {} FROM events WHERE lane IS NULL AND state = (SELECT 'pending') ORDER BY time, id LIMIT $1",
            UnreadRow::COLUMNS
        )));
        let rows: Vec<UnreadRow> = rows.bind(limit).fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(UnreadRow::into_message).collect::<Result<_, _>>()?)
    }

    /// Ends a message that was read again. `None`: the row has changed since it was read, so nothing happened. After `Ok` the end
    /// is on disk.
    pub async fn settle_unread(&self, message: &UnreadMessage, read: ReadAgain) -> Result<Option<Reread>, Error> {
        let now = self.clock.now();
        let key = self.inner.key.clone();
        let seq = || self.clock.fresh_id().to_string();
        let moments = Moments { work_from: now, day: self.clock.steady_now(), written_at: now };
        let ready = |arrival| ReadyArrival::new(arrival, seq(), &key, moments);
        let rows = read.arrivals.into_iter().map(ready).collect();
        let settle = SettleUnread {
            id: message.id,
            raw: message.raw.clone(),
            accept: Accept { rows, urgency: LaneUrgency::Live, key },
            problem: read.problem,
            is_single: read.is_single,
            aside: seq(),
            seq: seq(),
            now,
        };
        let Some((reread, replaced)) = self.write(settle).await? else { return Ok(None) };
        self.inner.uncounted.note_replaced(&replaced);
        Ok(Some(reread))
    }
}

row! {
    struct UnreadRow {
        id: EventId = "id",
        source: String = "source",
        transport: String = "transport",
        received_at: Timestamp = "received_at",
        raw: String = "raw",
        encoding: String = "raw_encoding",
        envelope: Option<String> = "envelope",
    }
}

impl UnreadRow {
    fn into_message(self) -> Result<UnreadMessage, DbFault> {
        use base64::Engine;
        let Self { id, source, transport, received_at, raw, encoding, envelope } = self;
        let body = match encoding.as_str() {
            "base64" => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(&raw);
                decoded.map_err(|_| DbFault::Unreadable { column: 4 })?
            }
            _ => raw.clone().into_bytes(),
        };
        Ok(UnreadMessage { id, source, transport, received_at, body, envelope: envelope.unwrap_or_default(), raw })
    }
}

struct SettleUnread {
    id: EventId,
    raw: String,
    accept: Accept,
    problem: Option<(Reason, String)>,
    is_single: bool,
    /// The temporary id of the message while its event holds the message's id.
    aside: String,
    /// The `seq` of the notice, if the message is parked again.
    seq: String,
    now: Timestamp,
}

impl Write for SettleUnread {
    /// The end of the message, and the kinds of the announced events that were replaced.
    type Output = Option<(Reread, Vec<RowKind>)>;

    fn weight(&self) -> usize {
        self.accept.rows.len().max(1)
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        // The row is ours from here on: the state tells another replica, and the equal bytes prove that no part was cut out.
        let taken = query(
            "UPDATE events SET id = $2 WHERE id = $1 AND COALESCE(state, '') = 'pending' AND event IS NULL AND raw = $3",
        );
        let taken = taken.with((self.id, &self.aside, &self.raw));
        if taken.execute(&mut *tx).await? == 0 {
            return Ok(None);
        }
        let (mut receipts, mut replaced) = (Vec::with_capacity(self.accept.rows.len()), Vec::new());
        for row in &self.accept.rows {
            receipts.push(self.accept.accept(tx, row, &mut replaced).await?);
        }
        let problem = self.problem_with(&receipts);
        let is_parked = problem.is_some();
        match (problem, receipts.as_slice()) {
            (None, [Receipt::Accepted { .. }]) if self.is_single => {
                query("DELETE FROM events WHERE id = $1").bind(&self.aside).execute(tx).await?;
            }
            (None, receipts) => self.end(tx, EventState::Superseded, None, &ended(receipts)).await?,
            (Some((reason, detail)), _) => {
                self.end(tx, EventState::Parked, Some(reason), &detail).await?;
                let notice = unreadable_notice(self.id, reason, self.now);
                outbox::insert(tx, NewNotice { notice: &notice, customer: None, seq: &self.seq, at: self.now }).await?;
            }
        }
        Ok(Some((Reread { receipts, is_parked }, replaced)))
    }
}

impl SettleUnread {
    /// The reason why it is parked again: its own problem, or another event that has the identity of one of its events.
    fn problem_with(&self, receipts: &[Receipt]) -> Option<(Reason, String)> {
        let reused = receipts.iter().filter_map(|receipt| match receipt {
            Receipt::Reused { id } => Some(id.to_string()),
            Receipt::Accepted { .. } | Receipt::Duplicate { .. } => None,
        });
        let reused: Vec<String> = reused.take(NAMED_MAX).collect();
        let told =
            || format!("event-id-reused: the same source and id, and another content, has event {}", reused.join(", "));
        match (&self.problem, reused.is_empty()) {
            (None, true) => None,
            (None, false) => Some((Reason::EventIdReused, told())),
            (Some(problem), true) => Some(problem.clone()),
            (Some((reason, detail)), false) => Some((*reason, format!("{detail}; {}", told()))),
        }
    }

    /// Gives the message its id back, and its end.
    async fn end(
        &self,
        tx: &mut Transaction<'_>,
        state: EventState,
        reason: Option<Reason>,
        detail: &str,
    ) -> Result<(), DbFault> {
        query("UPDATE events SET id = $2, state = $3, reason = $4, detail = $5, settled_at = $6 WHERE id = $1")
            .with((&self.aside, self.id, state, reason, detail, self.now))
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// The detail of a message that did not become one event.
fn ended(receipts: &[Receipt]) -> String {
    let (mut made, mut known) = (Vec::new(), Vec::new());
    for receipt in receipts {
        match receipt {
            Receipt::Accepted { id, .. } => made.push(*id),
            Receipt::Duplicate { id, .. } | Receipt::Reused { id } => known.push(*id),
        }
    }
    let named = |ids: &[EventId]| {
        let more = ids.len().saturating_sub(NAMED_MAX);
        let named = ids.iter().take(NAMED_MAX).map(EventId::to_string).collect::<Vec<_>>().join(", ");
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
