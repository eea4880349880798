//! What was announced ahead and is announced anew: the latest word about a change is the one that holds.
//!
//! An announced event that was not begun is replaced by one that was said later about the same change ([`Event::change`]);
//! and one that comes after its own replacement is so from the start. Two that two replicas accept in the same moment do
//! not see each other, so it is asked once more when an announced event is claimed. What was begun is finished.
//!
//! Before: [`crate::store::inbox`]. After: the customer's timeline.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Store;
use super::closed_sets::RowKind;
use super::db::{Connection, Fault, query};
use crate::domain::event::{Event, EventKind, EventState, Happening};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Why an announced event is superseded.
pub const REPLACED: &str = "replaced";

/// Replaced events that the gauges have not counted yet, by kind.
#[derive(Debug, Default)]
pub(super) struct Replaced([AtomicU64; EventKind::ALL.len()]);

impl Replaced {
    pub(super) fn note(&self, kind: RowKind) {
        if let Some(kind) = kind.sent() {
            self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// Announced events that this process has found replaced since it was last asked, by type.
    pub fn take_replaced(&self) -> [(EventKind, u64); EventKind::ALL.len()] {
        EventKind::ALL.map(|kind| (kind, self.0.replaced.0[kind as usize].swap(0, Ordering::Relaxed)))
    }
}

/// Settles what an event that has just been inserted means for the announcements around it. The kinds of the events that
/// were replaced, and the event's own state if it has ended by that.
pub(super) async fn settle(
    connection: &mut Connection,
    event: &Event,
    now: Timestamp,
) -> Result<(Vec<RowKind>, Option<EventState>), Fault> {
    let Some(change) = event.change() else { return Ok((Vec::new(), None)) };
    if let Some(newer) = newer_word(connection, event, &change).await? {
        end(connection, event.id, (EventState::Superseded, Some(replaced_by(newer))), now).await?;
        return Ok((Vec::new(), Some(EventState::Superseded)));
    }
    let mut replaced = match has_announcements(connection, event.customer.as_str()).await? {
        true => replace(connection, (event, &change), now).await?,
        false => Vec::new(),
    };
    if matches!(event.happening, Happening::CalledOff(_)) {
        replaced.extend(release(connection, (event, &change), now).await?);
    }
    let state = match (&event.happening, replaced.is_empty()) {
        (Happening::CalledOff(_), false) => EventState::Applied,
        (Happening::CalledOff(_), true) => EventState::Superseded,
        (
            Happening::SignedUp(_)
            | Happening::Moved(_)
            | Happening::Updated(_)
            | Happening::Churned
            | Happening::PurgeDue { .. },
            _,
        ) => return Ok((replaced, None)),
    };
    let nothing = || "nothing that was said before it was pending".to_owned();
    end(connection, event.id, (state, replaced.is_empty().then(nothing)), now).await?;
    Ok((replaced, Some(state)))
}

/// Whether anything was ever announced ahead for a customer. Most have nothing, and are done with by one look.
async fn has_announcements(connection: &mut Connection, lane: &str) -> Result<bool, Fault> {
    query("SELECT 1 FROM events WHERE lane = $1 AND time > said_at LIMIT 1").bind(lane).finds(connection).await
}

/// A later word about the same change, if the event announces one.
async fn newer_word(connection: &mut Connection, event: &Event, change: &str) -> Result<Option<EventId>, Fault> {
    if !event.is_announced() {
        return Ok(None);
    }
    newest_word(connection, (event.customer.as_str(), change), (event.time, event.id)).await
}

/// The newest word about a change that was said after one; of two that were said in the same moment the later arrival is
/// the newer.
async fn newest_word(
    connection: &mut Connection,
    (lane, change): (&str, &str),
    (said_at, id): (Timestamp, EventId),
) -> Result<Option<EventId>, Fault> {
    query(
        "SELECT id FROM events WHERE lane = $1 AND change = $2 AND (said_at > $3 OR (said_at = $3 AND id > $4)) \
         ORDER BY said_at DESC, id DESC LIMIT 1",
    )
    .with((lane, change, said_at, id))
    .fetch_optional(connection)
    .await
}

/// What of a lane's head tells whether it was announced.
pub(super) struct Head<'a> {
    pub(super) lane: &'a str,
    pub(super) id: EventId,
    pub(super) time: Timestamp,
    pub(super) change: Option<&'a str>,
    pub(super) said_at: Option<Timestamp>,
}

/// Whether a head that is about to be begun was replaced: then it has ended by that.
pub(super) async fn is_replaced(connection: &mut Connection, head: &Head<'_>, now: Timestamp) -> Result<bool, Fault> {
    let (Some(change), Some(said_at)) = (head.change, head.said_at.filter(|said_at| *said_at < head.time)) else {
        return Ok(false);
    };
    let newer = newest_word(connection, (head.lane, change), (said_at, head.id)).await?;
    let Some(newer) = newer else { return Ok(false) };
    if was_begun(connection, head.id).await? {
        return Ok(false);
    }
    end(connection, head.id, (EventState::Superseded, Some(replaced_by(newer))), now).await?;
    Ok(true)
}

/// Whether anything was begun for an event: one that was parked in the middle and is retried has left something behind that
/// only it puts right. Looking a user up makes nothing, and changes nothing of what is known.
async fn was_begun(connection: &mut Connection, id: EventId) -> Result<bool, Fault> {
    let call = query("SELECT 1 FROM calls WHERE event_id = $1 AND operation <> 'find_user' LIMIT 1");
    call.bind(id).finds(connection).await
}

/// The types of what was said before and is not begun.
async fn replace(
    connection: &mut Connection,
    (event, change): (&Event, &str),
    now: Timestamp,
) -> Result<Vec<RowKind>, Fault> {
    let replace = query(
        "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $4 AND time > said_at AND state IN ('scheduled', 'waiting', 'pending') AND change = $5 \
         AND (said_at < $6 OR (said_at = $6 AND id < $7)) \
         AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.event_id = events.id AND operation <> 'find_user') \
         AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $4 AND lanes.begun = events.id) RETURNING type",
    );
    replace
        .with((REPLACED, replaced_by(event.id), now, &event.customer, change, event.time, event.id))
        .fetch_all(connection)
        .await
}

/// The types of what was said before, waits for an approval, and is called off now: announced or not, it has taken nothing
/// away yet, and nobody is to approve it by mistake.
async fn release(
    connection: &mut Connection,
    (event, change): (&Event, &str),
    now: Timestamp,
) -> Result<Vec<RowKind>, Fault> {
    let release = query(
        "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $4 AND state = 'parked' AND reason = $8 AND change = $5 \
         AND (said_at < $6 OR (said_at = $6 AND id < $7)) \
         AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.event_id = events.id AND operation <> 'find_user') \
         RETURNING type",
    );
    release
        .with((
            REPLACED,
            replaced_by(event.id),
            now,
            &event.customer,
            change,
            event.time,
            event.id,
            Reason::ChurnBrake.name(),
        ))
        .fetch_all(connection)
        .await
}

/// What the timeline says of an event that was replaced.
fn replaced_by(id: EventId) -> String {
    format!("replaced by event {id}")
}

/// Ends an event without a claim; with a detail, it is because of an announcement.
async fn end(
    connection: &mut Connection,
    id: EventId,
    (state, detail): (EventState, Option<String>),
    now: Timestamp,
) -> Result<(), Fault> {
    query("UPDATE events SET state = $2, reason = $3, detail = $4, settled_at = $5 WHERE id = $1")
        .with((id, state, detail.as_ref().map(|_| REPLACED), detail, now))
        .execute(connection)
        .await?;
    Ok(())
}
