//! Parked events: pages, and the way out for one event.
//!
//! An event leaves parking by compare-and-set, so that it is not retried twice. A retry of an event that waits for its next try
//! makes it due now. A message that never became an event has no lane to go back to: its retry makes it due to be read again.
//!
//! Before: [`crate::admin`] and [`crate::cli`] order. After: [`crate::store::claims`], where the events are claimed.

use std::time::Duration;

use super::audit::{self, AuditRow};
use super::closed_sets::RowKind;
use super::db::{DbFault, Query, ours, query};
use super::error::Error;
use super::handle::{Desk, StoreView};
use super::lanes::{LaneHold, ready_live_lanes};
use super::moments::Ceilings;
use super::timeline::{EventSummary, ROWS_MAX};
use super::transaction::{Transaction, Write};
use crate::domain::audit::{Action, AuditReason, TargetKind};
use crate::domain::brake::Clearance;
use crate::domain::event::EventState;
use crate::domain::identity::Actor;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Limit of the parked events in one transaction, so that listeners and appliers do not wait long behind it.
pub(super) const STEP_MAX: usize = 200;

/// The way out of parking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRequest {
    /// Put it back into its lane; a message that never became an event is read again.
    Retry,
    /// Put it back into its lane, and past the check that an approval overrides ([`Reason::is_approvable`]); no other reason is
    /// accepted.
    Approve,
    /// Give it up.
    Skip,
}

impl RetryRequest {
    /// The action of the audit log, and the state of the event after it.
    fn act(self) -> (Action, EventState) {
        match self {
            Self::Retry => (Action::EventRetry, EventState::Pending),
            Self::Approve => (Action::EventApprove, EventState::Pending),
            Self::Skip => (Action::EventSkip, EventState::Skipped),
        }
    }
}

/// The rows that a retry can turn into work: events, and messages that were kept whole with their headers. A message that was cut
/// says so in the first key of its envelope, whose keys are sorted.
pub(super) const RETRYABLE: &str =
    "(event IS NOT NULL OR (envelope IS NOT NULL AND envelope NOT LIKE '{\"body_bytes\":%'))";

/// The reason why an event was not taken out of parking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// No event has this id.
    #[error("no event has this id")]
    Unknown,
    /// The event is in another state.
    #[error("it is not parked; its state is {0}")]
    NotParked(EventState),
    /// An applier works on the event, so a retry would be a second try at the same time.
    #[error("the bridge works on it at this moment; look again in a minute")]
    InProgress,
    /// The message was not kept whole, so it cannot be read again.
    #[error(
        "it never became an event, and not all of it was kept, so it cannot be read again: have it sent again, and skip this one"
    )]
    NotWhole,
    /// An approval was requested, and no approval overrides the event's reason.
    #[error("it is parked as {0}, which no approval overrides: retry it without one")]
    NotApprovable(String),
}

impl NotTaken {
    /// The reason of a refusal in the audit log.
    fn code(&self) -> AuditReason {
        match self {
            Self::Unknown => AuditReason::UnknownEvent,
            Self::NotParked(_) => AuditReason::NotParked,
            Self::InProgress => AuditReason::InProgress,
            Self::NotWhole => AuditReason::NotWhole,
            Self::NotApprovable(_) => AuditReason::NotApprovable,
        }
    }

    /// Of an event in this state, which has this reason and so many events in it.
    fn of(row: Option<StateRow>, request: RetryRequest, is_at_work: bool) -> Self {
        let Some((state, reason, events)) = row else { return Self::Unknown };
        match (state, request) {
            (EventState::Parked, RetryRequest::Approve) => Self::NotApprovable(reason.unwrap_or_default()),
            (EventState::Parked, RetryRequest::Retry | RetryRequest::Skip) if events == 0 => Self::NotWhole,
            (EventState::Pending, RetryRequest::Retry) if is_at_work => Self::InProgress,
            (state, _) => Self::NotParked(state),
        }
    }
}

/// State and reason of an event, and whether it is one.
type StateRow = (EventState, Option<String>, u64);

fn state_of<'a>(id: EventId) -> Query<'a> {
    query("SELECT state, reason, COUNT(event) FROM events WHERE id = $1 GROUP BY state, reason").bind(id)
}

fn hold_of<'a>(id: EventId) -> Query<'a> {
    let lane = ours(format!(
        "SELECT {columns} FROM lanes WHERE lane = (SELECT lane FROM events WHERE events.id = $1)",
        columns = LaneHold::COLUMNS
    ));
    query(lane).bind(id)
}

/// The condition on the reason, which is the placeholder `$1`: one reason, or any.
pub(super) fn of_reason(has_reason: bool) -> &'static str {
    if has_reason { "reason = $1" } else { "$1 = ''" }
}

impl StoreView {
    /// Parked events, oldest first, of one reason or all: the first page.
    pub async fn parked(&self, reason: Option<&str>) -> Result<Vec<EventSummary>, Error> {
        self.parked_page(reason, None, ROWS_MAX).await
    }

    /// Parked events, oldest first, of one reason or all: those that arrived after the event `after`, at most
    /// `limit` and [`ROWS_MAX`].
    pub async fn parked_page(
        &self,
        reason: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<EventSummary>, Error> {
        let page = ours(format!(
            "SELECT {columns} FROM events WHERE state = 'parked' AND {of_reason} AND id > $2 ORDER BY id LIMIT $3",
            columns = EventSummary::COLUMNS,
            of_reason = of_reason(reason.is_some()),
        ));
        let page = query(page).with((reason.unwrap_or_default(), after.unwrap_or_default(), limit.clamp(1, ROWS_MAX)));
        Ok(page.fetch_all(&self.readers).await?)
    }

    /// The reason why [`Desk::unpark`] has just changed nothing.
    pub async fn why_not_taken(&self, id: EventId, request: RetryRequest) -> Result<NotTaken, Error> {
        let row = state_of(id).fetch_optional(&self.readers).await?;
        let hold: Option<LaneHold> = hold_of(id).fetch_optional(&self.readers).await?;
        let (now, ceilings) = (self.clock.now(), self.ceilings.get());
        Ok(NotTaken::of(row, request, hold.is_some_and(|hold| hold.is_at_work_on(id, now, ceilings))))
    }
}

impl Desk {
    /// Takes a parked event out of parking, and returns its kind. A retry also makes an event due now that waits for its next try
    /// or its sign-up, unless an applier works on it. `None`: neither applied, and nothing changed. Either is in the audit log.
    pub async fn unpark(&self, id: EventId, request: RetryRequest, by: &Actor) -> Result<Option<RowKind>, Error> {
        self.unpark_with_note(id, request, None, by).await
    }

    /// [`Desk::unpark`], with a person's own words about it in the audit log.
    pub async fn unpark_with_note(
        &self,
        id: EventId,
        request: RetryRequest,
        note: Option<String>,
        by: &Actor,
    ) -> Result<Option<RowKind>, Error> {
        let (action, state) = request.act();
        let mut act =
            self.act(by, action, TargetKind::Event, id.to_string()).with_change(None, Some(state.to_string()));
        (act.entry.event, act.entry.note) = (Some(id), note);
        self.write(Unpark { id, request, act, now: self.clock.now(), ceilings: self.ceilings.get() }).await
    }

    /// Dates back to now the events that a clock that was ahead parked in the future: bulk retries cover the events that were
    /// parked before their order.
    pub(super) async fn date_back_parked(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let latest = Timestamp::latest(now, Duration::ZERO);
        let ahead = query("SELECT COUNT(*) FROM events WHERE state = 'parked' AND settled_at > $1");
        if ahead.bind(latest).fetch_one::<u64>(&self.readers).await? == 0 {
            return Ok(());
        }
        let chosen = self
            .dialect()
            .chosen("SELECT id FROM events WHERE state = 'parked' AND settled_at > $2 ORDER BY id LIMIT $3");
        let date_back = query(ours(format!("UPDATE events SET settled_at = $1 WHERE id {chosen}")));
        let date_back = date_back.with((now, latest, STEP_MAX));
        while self.change_some(date_back.clone(), STEP_MAX).await? > 0 {}
        Ok(())
    }

    /// Skips all parked messages that never became an event, of one reason or all. For a reason that waits for an approval, skips
    /// everything: to refuse the approval is to skip. Returns their number. If stopped in the middle, it has skipped some. Each has
    /// a row of the audit log.
    pub async fn skip_unreadable(
        &self,
        reason: Option<Reason>,
        note: Option<String>,
        by: &Actor,
    ) -> Result<u64, Error> {
        self.date_back_parked().await?;
        let name = |reason: Option<Reason>| reason.map_or("", Reason::name);
        let refused = reason.filter(|reason| reason.is_approvable());
        let chosen = self.dialect().chosen(&format!(
            "SELECT id FROM events WHERE state = 'parked' AND (lane IS NULL OR reason = $4) AND {of_reason} AND settled_at <= $2 \
             ORDER BY id LIMIT $3",
            of_reason = of_reason(reason.is_some()),
        ));
        let skip = ours(format!(
            "UPDATE events SET state = 'skipped', settled_at = $2 WHERE COALESCE(state, '') = 'parked' AND id {chosen} RETURNING id"
        ));
        let skip = query(skip).with((name(reason), self.clock.now(), STEP_MAX, name(refused)));
        let mut skipped = 0;
        loop {
            // An id for each event that may be among them.
            let acts = (0..STEP_MAX).map(|_| {
                let mut act = self
                    .act(by, Action::EventSkip, TargetKind::Event, "")
                    .with_change(Some(EventState::Parked.to_string()), Some(EventState::Skipped.to_string()));
                act.entry.note.clone_from(&note);
                act
            });
            let some = self.write(SkipSome { skip: skip.clone(), acts: acts.collect() }).await?;
            skipped += some;
            if some == 0 {
                return Ok(skipped);
            }
        }
    }
}

/// Skips some events, as a statement says, which returns their ids.
struct SkipSome {
    skip: Query<'static>,
    /// A row for each, without its event.
    acts: Vec<AuditRow>,
}

impl Write for SkipSome {
    type Output = u64;

    fn weight(&self) -> usize {
        2 * STEP_MAX
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<u64, DbFault> {
        let ids: Vec<EventId> = self.skip.clone().fetch_all(&mut *tx).await?;
        let acts = self.acts.iter().zip(&ids).map(|(act, id)| {
            let mut act = act.clone();
            (act.entry.target.id, act.entry.event) = (id.to_string(), Some(*id));
            act
        });
        let acts: Vec<AuditRow> = acts.collect();
        audit::record(tx, acts.iter()).await?;
        Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }
}

struct Unpark {
    id: EventId,
    request: RetryRequest,
    act: AuditRow,
    now: Timestamp,
    ceilings: Ceilings,
}

impl Write for Unpark {
    type Output = Option<RowKind>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        Ok(Self::run_all(&[self], tx).await?.remove(0))
    }

    async fn run_all(writes: &[&Self], tx: &mut Transaction<'_>) -> Result<Vec<Self::Output>, DbFault> {
        let (mut taken, mut acts) = (Vec::with_capacity(writes.len()), Vec::with_capacity(writes.len()));
        for write in writes {
            let before: Option<StateRow> = state_of(write.id).fetch_optional(&mut *tx).await?;
            let out = write.take(tx).await?;
            acts.push(write.act_of(before, out.is_some(), tx).await?);
            taken.push(out);
        }
        audit::record(&mut *tx, acts.iter()).await?;
        // Lanes come last and all at once, in the order of their names, in which other replicas lock them.
        if let Some(now) = writes.iter().map(|write| write.now).max() {
            ready_live_lanes(tx, taken.iter().flatten().filter_map(|(lane, _)| lane.as_ref()), now).await?;
        }
        Ok(taken.into_iter().map(|taken| taken.map(|(_, kind)| kind)).collect())
    }
}

impl Unpark {
    /// The row of the audit log, by the state before and whether the event was taken out.
    async fn act_of(
        &self,
        before: Option<StateRow>,
        is_taken: bool,
        tx: &mut Transaction<'_>,
    ) -> Result<AuditRow, DbFault> {
        if is_taken {
            let from = before.map(|(state, ..)| state.to_string());
            return Ok(self.act.clone().with_change(from, self.act.entry.to.clone()));
        }
        let hold: Option<LaneHold> = hold_of(self.id).fetch_optional(tx).await?;
        let is_at_work = hold.is_some_and(|hold| hold.is_at_work_on(self.id, self.now, self.ceilings));
        Ok(self.act.refused(NotTaken::of(before, self.request, is_at_work).code()))
    }

    /// Changes the event. `None`: nothing has changed.
    async fn take(&self, tx: &mut Transaction<'_>) -> Result<Option<TakenOut>, DbFault> {
        match self.request {
            RetryRequest::Retry => {
                let parked = put_back(tx, self.id, false, self.now).await?;
                if parked.is_some() { Ok(parked) } else { self.hurry(tx).await }
            }
            RetryRequest::Approve => put_back(tx, self.id, true, self.now).await,
            RetryRequest::Skip => {
                let skip = query(
                    "UPDATE events SET state = 'skipped', settled_at = $2 WHERE id = $1 \
                     AND COALESCE(state, '') = 'parked' RETURNING type",
                );
                let kind = skip.with((self.id, self.now)).fetch_optional(tx).await?;
                Ok(kind.map(|kind| (None, kind)))
            }
        }
    }

    /// Makes an event due now that waits for its next try or its sign-up. `None`: the event does not wait, or an applier works on it.
    async fn hurry(&self, tx: &mut Transaction<'_>) -> Result<Option<TakenOut>, DbFault> {
        let lane = query("SELECT lane FROM events WHERE id = $1 AND COALESCE(state, '') IN ('pending', 'waiting')");
        let lane: Option<Option<String>> = lane.bind(self.id).fetch_optional(&mut *tx).await?;
        let Some(lane) = lane else { return Ok(None) };
        if let Some(lane) = &lane {
            // Locked until the end of the transaction, so that no claim of the lane begins or ends meanwhile.
            let hold = ours(format!(
                "SELECT {columns} FROM lanes WHERE lane = $1{}",
                tx.db.for_update(),
                columns = LaneHold::COLUMNS,
            ));
            let hold: Option<LaneHold> = query(hold).bind(lane).fetch_optional(&mut *tx).await?;
            if hold.is_some_and(|hold| hold.is_at_work_on(self.id, self.now, self.ceilings)) {
                return Ok(None);
            }
        }
        let due = query(
            "UPDATE events SET state = 'pending', due_at = $2 WHERE id = $1 \
             AND ((COALESCE(state, '') = 'pending' AND due_at > $2) OR COALESCE(state, '') = 'waiting') RETURNING type",
        );
        let kind = due.with((self.id, self.now)).fetch_optional(tx).await?;
        Ok(kind.map(|kind| (lane, kind)))
    }
}

/// The lane that gets work by an event, and the event's kind.
type TakenOut = (Option<String>, RowKind);

/// Takes one parked event out of parking, `None` if it is not parked. The caller makes its lane ready. With `approve` it also
/// returns `None` for a reason that no approval overrides.
pub(super) async fn put_back(
    tx: &mut Transaction<'_>,
    id: EventId,
    approve: bool,
    now: Timestamp,
) -> Result<Option<TakenOut>, DbFault> {
    if !approve {
        return put_back_as(tx, id, None, now).await;
    }
    for reason in Reason::APPROVABLE {
        if let Some(put_back) = put_back_as(tx, id, Some(reason), now).await? {
            return Ok(Some(put_back));
        }
    }
    Ok(None)
}

/// As [`put_back`], approved if the event is parked for the approved reason. A message that never became an event has no lane, and
/// waits to be read again.
async fn put_back_as(
    tx: &mut Transaction<'_>,
    id: EventId,
    approved: Option<Reason>,
    now: Timestamp,
) -> Result<Option<TakenOut>, DbFault> {
    query(ours(format!(
        "UPDATE events SET state = 'pending', due_at = $2, tries_from = $2, failures = 0, failing_since = NULL, \
         reason = NULL, detail = NULL, settled_at = NULL, clearance = $3 \
         WHERE id = $1 AND COALESCE(state, '') = 'parked' AND ($4 = '' OR reason = $4) AND {RETRYABLE} RETURNING lane, type"
    )))
    .with((id, now, approved.and_then(|_| Clearance::Approved.name()), approved.map_or("", Reason::name)))
    .fetch_optional(tx)
    .await
}
