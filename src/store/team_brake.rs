//! The one lock for decisions that span members, and the rows behind them: the list of the staff, the ends of access that are known,
//! the decisions themselves, and the admissions of the brake.
//!
//! The core decides ([`team::check`], [`crate::domain::brake::Brake::admits`]). This file reads its numbers and writes its answer in one
//! transaction, under the lock of the brake's row, so that two replicas that ask at the same moment are answered one after the other.
//!
//! Before: [`crate::apply`] asks. After: [`crate::store::parking`], the way out for what the brake refused.

use std::collections::BTreeMap;

use super::brake::{Asked, BrakeRow, HeldBrake, is_newest_claim};
use super::claims::Claim;
use super::db::{DbFault, Executor, RowStatement, query};
use super::error::Error;
use super::handle::{Store, StoreView};
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::brake::{CLOCK_TOLERANCE, Tally};
use crate::domain::team::{
    self, AccessEnd, AccessLoss, Colleague, MemberRole, MemberWork, PolicyRefusal, Proposal, StaffList, TeamPolicy,
};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// The key of the brake's row: the name of the reason.
const NAME: &str = Reason::TeamBrake.name();

/// The key of the list of the staff.
const STAFF: &str = "staff";

/// The key of a list without staff: after an erasure it keeps the users to whom entries of `team.protected` are bound.
const BOUND: &str = "bound";

/// Limit of the ends of access that one decision reads, of each kind: more is no team.
const ENDS_MAX: i64 = 5_000;

/// The answer about a proposal.
#[derive(Debug, Clone, PartialEq)]
pub enum TeamAnswer {
    /// It may be done, and that is on disk.
    Allowed,
    /// It may not be done; nothing changed.
    Refused(PolicyRefusal),
    /// The list of the staff is too old, or there is none: read one, and ask again.
    WantsList,
    /// A newer claim exists; nothing was decided.
    Fenced,
}

impl Store {
    /// Asks whether a change of a member may be made. `Allowed` is stored: a loss of access counts as done for the next one who asks.
    /// It is refused for too few admins only by a list that was asked for since `began`.
    pub async fn ask_team(
        &self,
        claim: &Claim<MemberWork>,
        proposal: Proposal,
        policy: &TeamPolicy,
        began: Timestamp,
    ) -> Result<TeamAnswer, Error> {
        let row = BrakeRow { name: NAME, event: claim.work.event.id, clock: self.clock.clone() };
        let (lane, fence, policy) = (claim.lane.clone(), claim.fence, policy.clone());
        let admin = claim.work.member.observed().filter(|found| found.is_active_admin()).cloned();
        self.write(AskTeam { row, lane, fence, proposal, admin, policy, began }).await
    }

    /// Keeps a list of the staff that was asked for at `asked_at`, unless a newer one is there: a list may take long, and be overtaken.
    /// Decisions that it shows are forgotten.
    pub async fn keep_staff(
        &self,
        asked_at: Timestamp,
        staff: Vec<Colleague>,
        protected: Vec<String>,
    ) -> Result<(), Error> {
        self.write(KeepStaff { asked_at, staff, protected, clock: self.clock.clone() }).await
    }
}

impl StoreView {
    /// The list of the staff that was read last.
    pub async fn staff(&self) -> Result<Option<StaffList>, Error> {
        Ok(list_of(STAFF, &self.readers).await?)
    }

    /// Removals and demotions that the brake has admitted within its window.
    pub async fn team_tally(&self, policy: &TeamPolicy) -> Result<Tally, Error> {
        Ok(Tally { admitted: self.admitted(NAME, policy.brake).await?, active: None })
    }
}

async fn list_of(name: &str, on: impl Executor) -> Result<Option<StaffList>, DbFault> {
    let list = query("SELECT list FROM staff_lists WHERE name = $1").bind(name);
    let list: Option<String> = list.fetch_optional(on).await?;
    // Another version wrote it: a new one is read.
    Ok(list.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The newest list, or what an erasure has left of it.
async fn known_list(tx: &mut Transaction<'_>) -> Result<Option<StaffList>, DbFault> {
    match list_of(STAFF, &mut *tx).await? {
        Some(list) => Ok(Some(list)),
        None => list_of(BOUND, tx).await,
    }
}

/// Removes the staff from the list, which holds their names and addresses. The bindings of `team.protected` stay: entries of the
/// configuration, and users' ids.
pub(super) async fn forget_staff(tx: &mut Transaction<'_>) -> Result<(), DbFault> {
    let Some(list) = known_list(&mut *tx).await? else { return Ok(()) };
    let left = StaffList { staff: Vec::new(), ..list };
    query("DELETE FROM staff_lists").execute(&mut *tx).await?;
    if !left.bound.is_empty() {
        keep(BOUND, &left, tx).await?;
    }
    Ok(())
}

async fn keep(name: &str, list: &StaffList, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
    let text = serde_json::to_string(list).expect("a list has only serialisable fields");
    query(
        "INSERT INTO staff_lists (name, asked_at, list) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET asked_at = excluded.asked_at, list = excluded.list",
    )
    .with((name, list.asked_at, text))
    .execute(tx)
    .await?;
    Ok(())
}

/// `true` for a moment of the past, as far as clocks may differ. A list from further ahead was read by a clock that was wrong.
fn is_past(at: Timestamp, now: Timestamp) -> bool {
    at <= Timestamp::latest(now, std::time::Duration::ZERO)
}

/// The time since which a decision that has ended may be missing in a list: the clock that settled it and the one that asked for the
/// list may be of two replicas.
fn unseen_since(asked_at: Timestamp) -> Timestamp {
    asked_at.minus(CLOCK_TOLERANCE)
}

struct AskTeam {
    row: BrakeRow,
    lane: String,
    fence: i64,
    proposal: Proposal,
    /// The member, if the look-up showed an active admin.
    admin: Option<Colleague>,
    policy: TeamPolicy,
    began: Timestamp,
}

impl Write for AskTeam {
    type Output = TeamAnswer;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<TeamAnswer, DbFault> {
        if !is_newest_claim(&mut *tx, &self.lane, self.fence).await? {
            return Ok(TeamAnswer::Fenced);
        }
        let held = self.row.hold(tx).await?;
        let lock = TeamLock { now: held.now };
        let list = match lock.staff(&mut *tx).await? {
            Some(list) if lock.is_fresh(&list, &self.policy) => list,
            _ if self.proposal.wants_list() => return Ok(TeamAnswer::WantsList),
            // Of one who is no admin the list says only whom `team.protected` is bound to, which does not age.
            Some(list) => list,
            None => StaffList { asked_at: held.now, staff: Vec::new(), bound: BTreeMap::new() },
        };
        if self.is_behind(&list) {
            return Ok(TeamAnswer::WantsList);
        }
        let list = self.with_admin(list);
        let ends = lock.ends(tx, Some(self.row.event), list.asked_at).await?;
        if let Err(refused) = team::check(&self.policy, &self.proposal, &list, &ends, held.now) {
            let is_of_the_past = refused.reason == Reason::TooFewAdmins && list.asked_at < self.began;
            return Ok(if is_of_the_past { TeamAnswer::WantsList } else { TeamAnswer::Refused(refused) });
        }
        if self.proposal.is_counted() {
            match self.row.ask(tx, &held, self.policy.brake, None).await? {
                Asked::Cleared => {}
                Asked::Refused { tally, .. } => return Ok(TeamAnswer::Refused(self.policy.braked(tally))),
                Asked::Fenced => return Ok(TeamAnswer::Fenced),
            }
        }
        if let (Some(loss), Some(user)) = (self.proposal.loss, self.proposal.user) {
            keep_decisions(tx, &[LossDecision { event: self.row.event, user, loss }], held.now).await?;
        }
        Ok(TeamAnswer::Allowed)
    }
}

impl AskTeam {
    /// True if the list is older than the look-up that showed the member as an admin, whom it lacks: how many there are besides is not
    /// told by it.
    fn is_behind(&self, list: &StaffList) -> bool {
        let Some(user) = self.proposal.user.filter(|_| self.proposal.role == Some(MemberRole::Admin)) else {
            return false;
        };
        let has = list.staff.iter().any(|one| one.id == user && one.is_active_admin());
        self.proposal.wants_list() && !has && list.asked_at < self.began
    }

    /// The list with the member as the look-up showed them: the list's own word may be older although its time is later, since clocks of
    /// replicas differ. Without them the change would seem to take no admin away, as many before it as after. A member whom somebody
    /// else removed in between counts once too often, so that their leave may be refused until it is retried.
    fn with_admin(&self, mut list: StaffList) -> StaffList {
        if let Some(admin) = &self.admin {
            list.staff.retain(|one| one.id != admin.id);
            list.staff.push(admin.clone());
        }
        list
    }
}

/// The lock of the team's brake, held until the transaction ends: decisions that span members are made one after the other.
pub(super) struct TeamLock {
    /// The time at which it was taken.
    pub(super) now: Timestamp,
}

impl TeamLock {
    pub(super) async fn take(tx: &mut Transaction<'_>, clock: &Clock) -> Result<Self, DbFault> {
        Ok(Self { now: HeldBrake::take(NAME, clock, tx).await?.now })
    }

    /// The newest list of the staff, or what an erasure has left of it.
    pub(super) async fn staff(&self, tx: &mut Transaction<'_>) -> Result<Option<StaffList>, DbFault> {
        known_list(tx).await
    }

    /// True if admins may be counted by a list. One without staff shows no admins.
    pub(super) fn is_fresh(&self, list: &StaffList, policy: &TeamPolicy) -> bool {
        let age = self.now.since(list.asked_at);
        is_past(list.asked_at, self.now) && age <= policy.list_max_age && !list.staff.is_empty()
    }

    /// The ends of access that are scheduled, and those that were decided and that a list of this time cannot show yet; of the event
    /// that asks, none.
    ///
    /// The decided ones are read first: what is settled in between is in the other table then. An end that was settled while it was
    /// ahead is in that table alone, where a later event may move or remove it.
    pub(super) async fn ends(
        &self,
        tx: &mut Transaction<'_>,
        asks: Option<EventId>,
        listed_at: Timestamp,
    ) -> Result<Vec<AccessEnd>, DbFault> {
        // A look by the key for each decision: a join would read all events while there are few of them.
        let decided = query(
            "SELECT team_decisions.user_id, team_decisions.gone_at FROM team_decisions \
             WHERE team_decisions.event_id <> $1 AND (SELECT CASE WHEN events.settled_at IS NULL \
             OR (events.settled_at >= $2 AND team_decisions.gone_at <= team_decisions.decided_at) \
             THEN 1 ELSE 0 END FROM events WHERE events.id = team_decisions.event_id) = 1 LIMIT $3",
        );
        let asks = asks.unwrap_or(EventId(uuid::Uuid::nil()));
        let decided = decided.with((asks, unseen_since(listed_at), ENDS_MAX));
        let decided: Vec<(uuid::Uuid, Timestamp)> = decided.fetch_all(&mut *tx).await?;
        // An end whose day has come and that was refused, or given up by a person, is no decision: that admin stays.
        let scheduled = query(
            "SELECT user_id, expires_at FROM members WHERE expires_at IS NOT NULL AND user_id IS NOT NULL \
             AND (expires_at > $2 OR NOT EXISTS (SELECT 1 FROM events WHERE events.lane = members.lane \
             AND (events.state = 'parked' OR events.state = 'skipped') AND events.time = members.expires_at \
             AND events.type = 'team.access_expired')) ORDER BY expires_at LIMIT $1",
        );
        let scheduled: Vec<(uuid::Uuid, Timestamp)> = scheduled.with((ENDS_MAX, self.now)).fetch_all(tx).await?;
        Ok(scheduled.into_iter().chain(decided).map(|(user, at)| AccessEnd { user, at }).collect())
    }
}

/// A decision about a loss of access. It counts as done until a list shows it.
pub(super) struct LossDecision {
    pub(super) event: EventId,
    pub(super) user: uuid::Uuid,
    pub(super) loss: AccessLoss,
}

static DECIDE: RowStatement = RowStatement::new(
    &["event_id", "user_id", "gone_at", "decided_at"],
    "INSERT INTO team_decisions (event_id, user_id, gone_at, decided_at) {rows} \
     ON CONFLICT (event_id) DO UPDATE SET user_id = excluded.user_id, gone_at = excluded.gone_at, \
     decided_at = excluded.decided_at",
);

/// Keeps decisions.
pub(super) async fn keep_decisions(
    tx: &mut Transaction<'_>,
    decisions: &[LossDecision],
    now: Timestamp,
) -> Result<(), DbFault> {
    let mut rows = DECIDE.rows(decisions.len());
    for LossDecision { event, user, loss } in decisions {
        rows.with((*event, *user, loss.at.unwrap_or(now), now));
    }
    rows.execute(tx).await?;
    Ok(())
}

struct KeepStaff {
    asked_at: Timestamp,
    staff: Vec<Colleague>,
    protected: Vec<String>,
    clock: Clock,
}

impl Write for KeepStaff {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        // No decision is made by one list while another takes its place.
        let held = HeldBrake::take(NAME, &self.clock, &mut *tx).await?;
        let known = known_list(&mut *tx).await?;
        let is_newer = |list: &StaffList| list.asked_at > self.asked_at && is_past(list.asked_at, held.now);
        if known.as_ref().is_some_and(is_newer) {
            return Ok(());
        }
        let list = StaffList::renewed(known.as_ref(), self.asked_at, self.staff.clone(), &self.protected);
        keep(STAFF, &list, &mut *tx).await?;
        // The list shows what was carried out before it was asked for. A decision whose event is gone is nobody's.
        query(
            "DELETE FROM team_decisions WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.id = team_decisions.event_id \
             AND (events.settled_at IS NULL OR events.settled_at >= $1))",
        )
        .bind(unseen_since(self.asked_at))
        .execute(tx)
        .await?;
        Ok(())
    }
}
