//! Events that were announced ahead and are announced again: the latest event about a change holds.
//!
//! An announced event that was not begun is replaced by a later one about the same change; and one that
//! arrives after its own replacement is superseded at once. Two events that two replicas accept at the same moment do not see
//! each other, so the claim of an announced event checks again. Work that was begun is finished.
//!
//! Before: [`crate::store::inbox`]. After: the customer's timeline.

use std::collections::{BTreeSet, HashSet};

use super::closed_sets::RowKind;
use super::db::{DbFault, RowStatement, query};
use super::transaction::Transaction;
use crate::domain::event::EventState;
use crate::domain::{EventId, Timestamp};

/// Reason for which an announced event is superseded.
pub const REPLACED: &str = "replaced";

/// An event, as far as announcements are concerned.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) lane: &'a str,
    pub(super) id: EventId,
    /// The time at which it was said.
    pub(super) said_at: Timestamp,
    /// The name of the change that it makes; `None`: it replaces nothing.
    pub(super) change: Option<&'a str>,
    pub(super) is_announced: bool,
    /// `true` if it calls an announcement off.
    pub(super) calls_off: bool,
}

/// Settles the effect of an event that has just been inserted on the announcements around it. Returns the kinds of the replaced
/// events, and the event's own state if the event has ended.
pub(super) async fn settle(
    tx: &mut Transaction<'_>,
    event: Said<'_>,
    now: Timestamp,
) -> Result<(Vec<RowKind>, Option<EventState>), DbFault> {
    let Said { lane, id, said_at, change: Some(change), .. } = event else { return Ok((Vec::new(), None)) };
    if event.is_announced
        && let Some(newer) = (Announced { lane, change, id, said_at }).newest(&mut *tx).await?
    {
        end(tx, event.id, EventState::Superseded, Some(replaced_by(newer)), now).await?;
        return Ok((Vec::new(), Some(EventState::Superseded)));
    }
    let mut replaced = match announced(tx, [lane].into()).await?.is_empty() {
        true => Vec::new(),
        false => replace(tx, event, change, now).await?,
    };
    if !event.calls_off {
        return Ok((replaced, None));
    }
    replaced.extend(release(tx, event, change, now).await?);
    let state = if replaced.is_empty() { EventState::Superseded } else { EventState::Applied };
    let nothing = || "nothing that was said before it was pending".to_owned();
    end(tx, event.id, state, replaced.is_empty().then(nothing), now).await?;
    Ok((replaced, Some(state)))
}

static ANNOUNCED: RowStatement = RowStatement::new(
    &["lane"],
    "SELECT {lane} FROM {join}{lateral} (SELECT 1 FROM events WHERE events.lane = {lane} AND time > said_at LIMIT 1) \
     AS announced",
);

/// The customers for whom any event was ever announced ahead. Most have none, and need only this look-up.
pub(super) async fn announced(tx: &mut Transaction<'_>, customers: BTreeSet<&str>) -> Result<HashSet<String>, DbFault> {
    let mut rows = ANNOUNCED.rows(customers.len());
    for customer in customers {
        rows.bind(customer);
    }
    Ok(rows.fetch_all(tx).await?.into_iter().collect())
}

/// An event that was announced, with the facts that tell which of two about one change is newer.
pub(super) struct Announced<'a> {
    pub(super) lane: &'a str,
    pub(super) change: &'a str,
    pub(super) id: EventId,
    pub(super) said_at: Timestamp,
}

impl Announced<'_> {
    /// The newest event about the change that was sent later; of two that were sent at the same moment, the later arrival is the
    /// newer.
    async fn newest(&self, tx: &mut Transaction<'_>) -> Result<Option<EventId>, DbFault> {
        let sql = "SELECT id FROM events WHERE lane = $1 AND change = $2 AND (said_at > $3 OR (said_at = $3 AND id > $4)) \
             ORDER BY said_at DESC, id DESC LIMIT 1";
        query(sql).with((self.lane, self.change, self.said_at, self.id)).fetch_optional(tx).await
    }
}

/// Ends a head that is about to be begun if a newer event replaces it. Returns `true` if it has ended.
pub(super) async fn is_replaced(
    tx: &mut Transaction<'_>,
    head: &Announced<'_>,
    now: Timestamp,
) -> Result<bool, DbFault> {
    let Some(newer) = head.newest(&mut *tx).await? else { return Ok(false) };
    if was_begun(tx, head.id).await? {
        return Ok(false);
    }
    end(tx, head.id, EventState::Superseded, Some(replaced_by(newer)), now).await?;
    Ok(true)
}

/// `true` if work was begun for an event. An event that was parked in the middle and is retried has left something behind that
/// only it puts right. Looking a user up, or listing the staff, does not count: it makes nothing and changes no known fact.
async fn was_begun(tx: &mut Transaction<'_>, id: EventId) -> Result<bool, DbFault> {
    let call =
        query("SELECT 1 FROM calls WHERE event_id = $1 AND operation NOT IN ('find_user', 'list_users') LIMIT 1");
    call.bind(id).finds(tx).await
}

/// Supersedes the earlier events that are not begun. Returns their types.
async fn replace(
    tx: &mut Transaction<'_>,
    event: Said<'_>,
    change: &str,
    now: Timestamp,
) -> Result<Vec<RowKind>, DbFault> {
    let replace = query(
        "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
         WHERE lane = $4 AND time > said_at AND COALESCE(state, '') IN ('scheduled', 'waiting', 'pending') AND change = $5 \
         AND (said_at < $6 OR (said_at = $6 AND id < $7)) \
         AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.event_id = events.id \
         AND operation NOT IN ('find_user', 'list_users')) \
         AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $4 AND lanes.begun = events.id) RETURNING type",
    );
    replace
        .with((REPLACED, replaced_by(event.id), now, event.lane, change, event.said_at, event.id))
        .fetch_all(tx)
        .await
}

/// Supersedes the earlier events that wait for a person's decision, whether for an approval or since the policy of the team refused
/// them, and are called off now. Returns their types. Announced or not, they have taken nothing away yet, and an operator must not
/// approve or retry one by mistake.
const RELEASE: &str = "UPDATE events SET state = 'superseded', reason = $1, detail = $2, settled_at = $3, due_at = $3 \
    WHERE lane = $4 AND state = (SELECT 'parked') \
    AND reason IN ('churn_brake', 'team_disabled', 'member_id_is_address', 'foreign_email_domain', 'guest_access', \
    'protected_member', 'admin_not_allowed', 'too_few_admins', 'team_brake') \
    AND change = $5 AND (said_at < $6 OR (said_at = $6 AND id < $7)) \
    AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.event_id = events.id \
    AND operation NOT IN ('find_user', 'list_users')) RETURNING type";

async fn release(
    tx: &mut Transaction<'_>,
    event: Said<'_>,
    change: &str,
    now: Timestamp,
) -> Result<Vec<RowKind>, DbFault> {
    query(RELEASE)
        .with((REPLACED, replaced_by(event.id), now, event.lane, change, event.said_at, event.id))
        .fetch_all(tx)
        .await
}

/// The text in the timeline for an event that was replaced.
fn replaced_by(id: EventId) -> String {
    format!("replaced by event {id}")
}

/// Ends an event without a claim. With a detail, an announcement ended it.
async fn end(
    tx: &mut Transaction<'_>,
    id: EventId,
    state: EventState,
    detail: Option<String>,
    now: Timestamp,
) -> Result<(), DbFault> {
    query("UPDATE events SET state = $2, reason = $3, detail = $4, settled_at = $5 WHERE id = $1")
        .with((id, state, detail.as_ref().map(|_| REPLACED), detail, now))
        .execute(tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Reason;

    #[test]
    fn a_cancellation_releases_every_reason_that_waits_for_a_persons_decision() {
        for reason in Reason::APPROVABLE.iter().chain(&Reason::OF_TEAM_POLICY) {
            assert!(RELEASE.contains(&format!("'{reason}'")), "{reason}");
        }
    }
}
