//! What was announced ahead and is announced anew: the latest word about a change is the one that holds.
//!
//! An event that waits for its day is replaced by one that was said later about the same change ([`Event::change`]); and
//! one that comes after its own replacement is so from the start. What has taken effect is not undone.
//!
//! Before: [`crate::store::inbox`]. After: the customer's timeline.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AnyConnection, Row};

use super::Store;
use crate::domain::Timestamp;
use crate::domain::event::{Event, Happening};

/// Why an event is superseded that waited for its day.
pub const REPLACED: &str = "replaced";

/// Replaced events that nobody has counted yet, by type.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    moves: AtomicU64,
    churns: AtomicU64,
}

const MOVED: &str = "customer.moved";
const CHURNED: &str = "customer.churned";

impl Replaced {
    pub(super) fn note(&self, type_name: &str) {
        let count = if type_name == CHURNED { &self.churns } else { &self.moves };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Announced events that this process has found replaced since it was last asked, by type.
    pub fn take_replaced(&self) -> [(&'static str, u64); 2] {
        let Replaced { moves, churns } = &self.0.replaced;
        [(MOVED, moves.swap(0, Ordering::Relaxed)), (CHURNED, churns.swap(0, Ordering::Relaxed))]
    }
}

/// Settles what an event that has just been inserted means for the announcements around it. The types of the events that
/// were replaced, and the event's own state if it has ended by that.
pub(super) async fn settle(
    connection: &mut AnyConnection,
    event: &Event,
    now: Timestamp,
) -> Result<(Vec<String>, Option<&'static str>), sqlx::Error> {
    let Some(change) = event.change() else { return Ok((Vec::new(), None)) };
    if let Some(newer) = newer_word(connection, event, &change).await? {
        let type_name = event.happening.type_name().to_owned();
        end(connection, event, "superseded", Some((REPLACED, format!("replaced by event {newer}")))).await?;
        return Ok((vec![type_name], Some("superseded")));
    }
    let replaced = replace(connection, (event, &change), now).await?;
    let state = match (&event.happening, replaced.is_empty()) {
        (Happening::CalledOff(_), false) => "applied",
        (Happening::CalledOff(_), true) => "superseded",
        (
            Happening::SignedUp(_)
            | Happening::Moved(_)
            | Happening::Updated(_)
            | Happening::Churned
            | Happening::PurgeDue { .. },
            _,
        ) => return Ok((replaced, None)),
    };
    let nothing = || (REPLACED, "nothing was pending that it could call off".to_owned());
    end(connection, event, state, replaced.is_empty().then(nothing)).await?;
    Ok((replaced, Some(state)))
}

/// A later word about the same change, if the event announces one.
async fn newer_word(
    connection: &mut AnyConnection,
    event: &Event,
    change: &str,
) -> Result<Option<String>, sqlx::Error> {
    if !event.is_announced() {
        return Ok(None);
    }
    let newer =
        sqlx::query("SELECT id FROM events WHERE lane = $1 AND change = $2 AND said_at > $3 ORDER BY id LIMIT 1")
            .bind(event.customer.as_str().to_owned())
            .bind(change.to_owned())
            .bind(event.time.micros())
            .fetch_optional(connection)
            .await?;
    newer.map(|row| row.try_get(0)).transpose()
}

/// The types of what waited and was said before.
async fn replace(
    connection: &mut AnyConnection,
    (event, change): (&Event, &str),
    now: Timestamp,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $4 AND state = 'scheduled' AND change = $5 AND said_at <= $6 AND id <> $7 RETURNING type",
    )
    .bind(REPLACED)
    .bind(format!("replaced by event {}", event.id))
    .bind(now.micros())
    .bind(event.customer.as_str().to_owned())
    .bind(change.to_owned())
    .bind(event.time.micros())
    .bind(event.id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn end(
    connection: &mut AnyConnection,
    event: &Event,
    state: &'static str,
    why: Option<(&'static str, String)>,
) -> Result<(), sqlx::Error> {
    let (reason, detail) = why.unzip();
    sqlx::query("UPDATE events SET state = $2, reason = $3, detail = $4, settled_at = received_at WHERE id = $1")
        .bind(event.id.to_string())
        .bind(state)
        .bind(reason)
        .bind(detail)
        .execute(connection)
        .await?;
    Ok(())
}
