//! What was announced ahead and is announced anew: the latest word about a change is the one that holds.
//!
//! An announced event that was not begun is replaced by one that was said later about the same change ([`Event::change`]);
//! and one that comes after its own replacement is so from the start. Two that two replicas accept in the same moment do
//! not see each other, so it is asked once more when an announced event is claimed. What was begun is finished.
//!
//! Before: [`crate::store::inbox`]. After: the customer's timeline.

use super::closed_sets::RowKind;
use super::db::{Fault, query};
use super::transaction::Transaction;
use crate::domain::event::{Event, EventState, Happening};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Why an announced event is superseded.
pub const REPLACED: &str = "replaced";

/// Settles what an event that has just been inserted means for the announcements around it. The kinds of the events that
/// were replaced, and the event's own state if it has ended by that.
pub(super) async fn settle(
    tx: &mut Transaction<'_>,
    event: &Event,
    now: Timestamp,
) -> Result<(Vec<RowKind>, Option<EventState>), Fault> {
    let Some(change) = event.change() else { return Ok((Vec::new(), None)) };
    let (lane, id, said_at) = (event.customer.as_str(), event.id, event.time);
    if event.is_announced()
        && let Some(newer) = (Announced { lane, change: &change, id, said_at }).newest(&mut *tx).await?
    {
        end(tx, event.id, EventState::Superseded, Some(replaced_by(newer)), now).await?;
        return Ok((Vec::new(), Some(EventState::Superseded)));
    }
    let mut replaced = match has_announcements(tx, event.customer.as_str()).await? {
        true => replace(tx, event, &change, now).await?,
        false => Vec::new(),
    };
    if matches!(event.happening, Happening::CalledOff(_)) {
        replaced.extend(release(tx, event, &change, now).await?);
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
    end(tx, event.id, state, replaced.is_empty().then(nothing), now).await?;
    Ok((replaced, Some(state)))
}

/// Whether anything was ever announced ahead for a customer. Most have nothing, and are done with by one look.
async fn has_announcements(tx: &mut Transaction<'_>, lane: &str) -> Result<bool, Fault> {
    query("SELECT 1 FROM events WHERE lane = $1 AND time > said_at LIMIT 1").bind(lane).finds(tx).await
}

/// An event that was announced, with what tells which of two about one change is newer.
pub(super) struct Announced<'a> {
    pub(super) lane: &'a str,
    pub(super) change: &'a str,
    pub(super) id: EventId,
    pub(super) said_at: Timestamp,
}

impl Announced<'_> {
    /// The newest event about the change that was sent later; of two that were sent in the same moment the later arrival is
    /// the newer.
    async fn newest(&self, tx: &mut Transaction<'_>) -> Result<Option<EventId>, Fault> {
        let sql = "SELECT id FROM events WHERE lane = $1 AND change = $2 AND (said_at > $3 OR (said_at = $3 AND id > $4)) \
             ORDER BY said_at DESC, id DESC LIMIT 1";
        query(sql).with((self.lane, self.change, self.said_at, self.id)).fetch_optional(tx).await
    }
}

/// Whether a head that is about to be begun was replaced: then it has ended by that.
pub(super) async fn is_replaced(tx: &mut Transaction<'_>, head: &Announced<'_>, now: Timestamp) -> Result<bool, Fault> {
    let Some(newer) = head.newest(&mut *tx).await? else { return Ok(false) };
    if was_begun(tx, head.id).await? {
        return Ok(false);
    }
    end(tx, head.id, EventState::Superseded, Some(replaced_by(newer)), now).await?;
    Ok(true)
}

/// Whether anything was begun for an event: one that was parked in the middle and is retried has left something behind that
/// only it puts right. Looking a user up makes nothing, and changes nothing of what is known.
async fn was_begun(tx: &mut Transaction<'_>, id: EventId) -> Result<bool, Fault> {
    let call = query("SELECT 1 FROM calls WHERE event_id = $1 AND operation <> 'find_user' LIMIT 1");
    call.bind(id).finds(tx).await
}

/// The types of what was said before and is not begun.
async fn replace(tx: &mut Transaction<'_>, event: &Event, change: &str, now: Timestamp) -> Result<Vec<RowKind>, Fault> {
    let replace = query(
        "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $4 AND time > said_at AND state IN ('scheduled', 'waiting', 'pending') AND change = $5 \
         AND (said_at < $6 OR (said_at = $6 AND id < $7)) \
         AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.event_id = events.id AND operation <> 'find_user') \
         AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $4 AND lanes.begun = events.id) RETURNING type",
    );
    replace
        .with((REPLACED, replaced_by(event.id), now, &event.customer, change, event.time, event.id))
        .fetch_all(tx)
        .await
}

/// The types of what was said before, waits for an approval, and is called off now: announced or not, it has taken nothing
/// away yet, and an operator must not approve it by mistake.
async fn release(tx: &mut Transaction<'_>, event: &Event, change: &str, now: Timestamp) -> Result<Vec<RowKind>, Fault> {
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
        .fetch_all(tx)
        .await
}

/// The timeline's words for an event that was replaced.
fn replaced_by(id: EventId) -> String {
    format!("replaced by event {id}")
}

/// Ends an event without a claim; with a detail, it is because of an announcement.
async fn end(
    tx: &mut Transaction<'_>,
    id: EventId,
    state: EventState,
    detail: Option<String>,
    now: Timestamp,
) -> Result<(), Fault> {
    query("UPDATE events SET state = $2, reason = $3, detail = $4, settled_at = $5 WHERE id = $1")
        .with((id, state, detail.as_ref().map(|_| REPLACED), detail, now))
        .execute(tx)
        .await?;
    Ok(())
}
