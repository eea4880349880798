//! Rows of the inbox: their inserts, and their possible states.
//!
//! Before: [`crate::store::inbox`] and [`crate::store::settlement`]. After: the table `events`.

use super::closed_sets::RowKind;
use super::db::{DbFault, query};
use super::transaction::Transaction;
use crate::domain::event::EventState;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// The condition of the partial index of events without an end, except parked ones.
pub(super) const UNSETTLED: &str = "(state = 'pending' OR state = 'waiting' OR state = 'scheduled')";

/// A row to be inserted into the inbox.
pub(super) struct NewEvent<'a> {
    pub(super) id: EventId,
    pub(super) lane: Option<&'a str>,
    pub(super) origin: &'a str,
    pub(super) origin_id: &'a str,
    pub(super) source: &'a str,
    pub(super) door: &'a str,
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
            door: "",
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
        // Not `INSERT … SELECT`: SQLite would keep a copy of each page that it touches, to undo the statement alone.
        let insert = query(
            "INSERT INTO events (id, lane, origin, origin_id, source, door, type, time, received_at, tries_from, due_at, state, \
             failures, reason, detail, digest, event, raw, raw_encoding, settled_at, envelope, change, said_at, scope) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, 0, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $5) \
             ON CONFLICT (origin, origin_id, scope) DO NOTHING",
        );
        let insert = insert
            .with((self.id, self.lane, self.origin, self.origin_id, self.source, self.door, self.kind))
            .with((self.time, self.received_at, self.due_at, self.state, self.reason, self.detail, self.digest))
            .with((self.event, self.raw, self.raw_encoding, self.settled_at, self.envelope, self.change, self.said_at));
        Ok(insert.execute(tx).await? == 1)
    }
}
