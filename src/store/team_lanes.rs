//! Lanes of members, where they differ from those of customers: a leave overtakes, and the end of an access is scheduled.
//!
//! Before: [`crate::store::claims`] and [`crate::store::settlement`]. After: the table `events`.

use super::closed_sets::RowKind;
use super::db::{DbFault, query};
use super::transaction::Transaction;
use crate::domain::event::EventKind;
use crate::domain::{EventId, Timestamp};

/// Ends the older events of a lane in which a leave is due, also one that is in back-off: they can only delay it. A call that one of
/// them made without an answer is a doubt of the member's state, which the leave's look-up resolves. Returns the kinds of those events.
pub(super) async fn overtake(tx: &mut Transaction<'_>, lane: &str, now: Timestamp) -> Result<Vec<RowKind>, DbFault> {
    let newest = query(
        "SELECT id, time FROM events WHERE lane = $1 AND state = 'pending' AND type = $2 AND due_at <= $3 \
         ORDER BY time DESC, id DESC LIMIT 1",
    );
    let newest = newest.with((lane, EventKind::MemberLeft.name(), now));
    let Some((leave, time)) = newest.fetch_optional::<(EventId, Timestamp)>(&mut *tx).await? else {
        return Ok(Vec::new());
    };
    let end = query(
        "UPDATE events SET state = 'superseded', reason = 'newer', detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $1 AND (state = 'pending' OR state = 'waiting') AND (time < $4 OR (time = $4 AND id < $5)) \
         RETURNING type",
    );
    end.with((lane, format!("overtaken by the leave (event {leave})"), now, time, leave)).fetch_all(tx).await
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
         WHERE lane = $1 AND state = 'scheduled' AND transport = 'internal'",
    );
    end.with((lane, format!("the end of the access is another since event {by}"), now)).execute(tx).await?;
    Ok(())
}
