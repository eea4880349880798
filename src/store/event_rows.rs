//! Rows of the inbox: their inserts, and their possible states.
//!
//! Before: [`crate::store::inbox`] and [`crate::store::settlement`]. After: the table `events`.

use super::closed_sets::RowKind;
use super::db::{DbFault, RowStatement};
use super::transaction::Transaction;
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// The condition of the partial index of events without an end, except parked ones.
pub(super) const UNSETTLED: &str = "(state = 'pending' OR state = 'waiting' OR state = 'scheduled')";

/// The transport of an event of the bridge's own.
pub(super) const INTERNAL: &str = "internal";

/// A row to be inserted into the inbox.
pub(super) struct NewEvent<'a> {
    pub(super) id: EventId,
    pub(super) lane: Option<&'a str>,
    pub(super) origin: &'a str,
    pub(super) origin_id: &'a str,
    pub(super) source: &'a str,
    pub(super) transport: &'a str,
    pub(super) kind: RowKind,
    pub(super) time: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) due_at: Timestamp,
    pub(super) state: EventState,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<&'a str>,
    pub(super) digest: &'a str,
    pub(super) event: Option<&'a str>,
    pub(super) raw: &'a str,
    pub(super) raw_encoding: &'a str,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) envelope: Option<&'a str>,
    pub(super) change: Option<&'a str>,
    pub(super) said_at: Option<Timestamp>,
}

impl NewEvent<'_> {
    /// A row that arrived and is due at the same moment, without a sender and without content.
    pub(super) fn bare(id: EventId, kind: RowKind, state: EventState, at: Timestamp) -> Self {
        Self {
            id,
            lane: None,
            origin: "",
            origin_id: "",
            source: "",
            transport: "",
            kind,
            time: at,
            received_at: at,
            due_at: at,
            state,
            reason: None,
            detail: None,
            digest: "",
            event: None,
            raw: "",
            raw_encoding: "utf8",
            settled_at: None,
            envelope: None,
            change: None,
            said_at: None,
        }
    }

    /// Returns `false` if the source already knows the identity.
    pub(super) async fn insert(self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        Ok(insert_all(tx, vec![self]).await? == [true])
    }
}

// Not `INSERT … SELECT` on SQLite, which would keep a copy of each page that it touches, to undo the statement alone.
static INSERT: RowStatement = RowStatement::new(
    &[
        "id", "lane", "origin", "origin_id", "source", "transport", "type", "time", "received_at", "tries_from",
        "due_at", "state", "failures", "reason", "detail", "digest", "event", "raw", "raw_encoding", "settled_at",
        "envelope", "change", "said_at", "scope",
    ],
    "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, state, \
     failures, reason, detail, digest, event, raw, raw_encoding, settled_at, envelope, change, said_at, scope) {rows} \
     ON CONFLICT (origin, origin_id, scope) DO NOTHING {written events.id}",
);

/// Inserts rows, and returns for each `false` if its source already knows the identity.
pub(super) async fn insert_all(tx: &mut Transaction<'_>, new: Vec<NewEvent<'_>>) -> Result<Vec<bool>, DbFault> {
    let mut rows = INSERT.rows(new.len());
    for new in new {
        rows.with((new.id, new.lane, new.origin, new.origin_id, new.source, new.transport, new.kind))
            .with((new.time, new.received_at, new.due_at, new.due_at, new.state, 0_u32, new.reason, new.detail))
            .with((new.digest, new.event, new.raw, new.raw_encoding, new.settled_at, new.envelope))
            .with((new.change, new.said_at, new.source));
    }
    rows.written(tx).await
}
