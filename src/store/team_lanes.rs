//! Lanes of members, where they differ from those of customers: a leave overtakes, and the end of an access is scheduled.
//!
//! Before: [`crate::store::claims`] and [`crate::store::settlement`]. After: the table `events`.

use super::closed_sets::RowKind;
use super::db::{DbFault, query};
use super::transaction::Transaction;
use crate::domain::event::EventKind;
use crate::domain::{EventId, Stamp, Timestamp};

/// Limit of the joins that a leave may overtake and whose users it looks for: a member has one or two.
const OVERTAKEN_MAX: i64 = 16;

/// The joins that wait in a lane before a leave which is about to be worked on, in their order.
pub(super) async fn waiting_joins(tx: &mut Transaction<'_>, lane: &str, leave: Stamp) -> Result<Vec<String>, DbFault> {
    let joins = query(
        "SELECT event FROM events WHERE lane = $1 AND COALESCE(state, '') IN ('pending', 'waiting') AND type = $2 \
         AND (time < $3 OR (time = $3 AND id < $4)) ORDER BY time, id LIMIT $5",
    );
    let joins = joins.with((lane, EventKind::MemberJoined.name(), leave.time, leave.event, OVERTAKEN_MAX));
    Ok(joins.fetch_all::<Option<String>>(tx).await?.into_iter().flatten().collect())
}

/// Ends the older events of a lane whose leave is carried out, also one that is in back-off: they have nothing to say any more. A call
/// that one of them made without an answer is a doubt of the member's state, which the leave's look-up resolves. Returns the kinds of
/// those events.
pub(super) async fn overtake(
    tx: &mut Transaction<'_>,
    lane: &str,
    leave: Stamp,
    now: Timestamp,
) -> Result<Vec<RowKind>, DbFault> {
    let end = query(
        "UPDATE events SET state = 'superseded', reason = 'newer', detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $1 AND COALESCE(state, '') IN ('pending', 'waiting') AND (time < $4 OR (time = $4 AND id < $5)) \
         RETURNING type",
    );
    let detail = format!("overtaken by the leave (event {})", leave.event);
    end.with((lane, detail, now, leave.time, leave.event)).fetch_all(tx).await
}

/// Ends the bridge's own events about an end of the access that an event has moved or removed.
pub(super) async fn end_scheduled(
    tx: &mut Transaction<'_>,
    lane: &str,
    by: EventId,
    now: Timestamp,
) -> Result<(), DbFault> {
    let end = query(
        "UPDATE events SET state = 'superseded', reason = 'newer', detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $1 AND state = (SELECT 'scheduled') AND transport = 'internal'",
    );
    end.with((lane, format!("the end of the access is another since event {by}"), now)).execute(tx).await?;
    Ok(())
}
