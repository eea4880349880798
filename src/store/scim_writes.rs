//! A request of SCIM as one transaction: the user's row, the events by which it differs, and the rows of the audit log.
//!
//! It holds the lock of the team's brake, under which all decisions that span members are made, so requests go one after the other,
//! also of several replicas. What the policy refuses leaves a row of the audit log and nothing else; the brake is asked when the event
//! is carried out.
//!
//! Before: [`crate::inbound`] reads the request. After: [`super::inbox`] accepts the events.

use std::collections::BTreeMap;

use super::audit::{self, AuditRow};
use super::closed_sets::RowKind;
use super::db::{DbFault, RowStatement, query};
use super::error::Error;
use super::handle::Store;
use super::inbox::{Accept, Arrival, Content, Moments, ReadyArrival, Receipt};
use super::lanes::LaneUrgency;
use super::scim_users::{holder_of, users_in};
use super::team_brake::{self, TeamLock};
use super::tombstones::TombstoneKey;
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::event::{EventKind, EventState, Transport};
use crate::domain::identity::Actor;
use crate::domain::plan::Policy;
use crate::domain::scim::{
    KnownUser, OpenTeamEvent, Permission, PolicyAtHand, RoleFrom, ScimChange, ScimContext, ScimError, ScimGroup,
    ScimRecord, ScimType, ScimWrite, change_user, delete_user, no_such_user, permission, regroup,
};
use crate::domain::team::{AccessEnd, MemberId, PolicyRefusal, StaffList, TeamEvent};
use crate::domain::{EventId, Timestamp};

/// The approximate bytes of a user's rows.
const ROW_BYTES: usize = 4_096;

/// A request of SCIM that changes something.
#[derive(Debug, Clone)]
pub struct ScimRequest {
    /// The name of the token.
    pub token: String,
    /// What it asks for.
    pub ask: ScimAsk,
    /// The body, for the timeline; empty where it must not be kept.
    pub raw: Vec<u8>,
    /// The operator's choices.
    pub policy: Policy,
    /// `scim.role_from`.
    pub role_from: RoleFrom,
    /// The time at which it came.
    pub began: Timestamp,
    /// `true` if a newer list of the staff is not to be had.
    pub is_final: bool,
}

/// The content of a request.
#[derive(Debug, Clone)]
pub enum ScimAsk {
    /// POST, PUT or PATCH of a user.
    User {
        /// The member that the user is.
        member: MemberId,
        /// The bridge's id of the user: of one that is made, or of the one that is meant.
        id: String,
        /// The attributes.
        write: Box<ScimWrite>,
    },
    /// DELETE of a user.
    Delete {
        /// The member that the user is.
        member: MemberId,
        /// The bridge's id of the user: one that was made anew meanwhile is another.
        id: String,
    },
    /// A change of a group's members.
    Group {
        /// The group.
        group: ScimGroup,
        /// Each member that changes, and whether they are in it from now on.
        members: BTreeMap<MemberId, bool>,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum ScimAnswer {
    /// It is on disk.
    Done {
        /// The users that it names, after it.
        users: Vec<KnownUser>,
        /// The events that it became, and their states.
        events: Vec<(EventKind, EventState)>,
    },
    /// It is refused, and nothing changed.
    Refused(ScimError),
    /// It cannot be judged without a list of the staff that is newer.
    WantsList,
}

impl ScimAsk {
    fn members(&self) -> Vec<&MemberId> {
        match self {
            Self::User { member, .. } | Self::Delete { member, .. } => vec![member],
            Self::Group { members, .. } => members.keys().collect(),
        }
    }

    /// The word for it in the audit log.
    fn word(&self) -> &'static str {
        match self {
            Self::User { write, .. } => match **write {
                ScimWrite::Create(_) => "create",
                ScimWrite::Replace(_) => "replace",
                ScimWrite::Patch(_) => "patch",
            },
            Self::Delete { .. } => "delete",
            Self::Group { group: ScimGroup::Staff, .. } => "group_staff",
            Self::Group { group: ScimGroup::Admin, .. } => "group_admin",
        }
    }
}

impl Store {
    /// Carries out a request of SCIM. After `Done` it is on disk, with its events.
    pub async fn scim_write(&self, request: ScimRequest) -> Result<ScimAnswer, Error> {
        let lanes = request.ask.members().into_iter().map(MemberId::lane).collect();
        let (key, clock) = (self.inner.key.clone(), self.clock.clone());
        let (answer, replaced) = self.write(WriteScim { request, lanes, key, clock }).await?;
        self.inner.uncounted.note_replaced(&replaced);
        Ok(answer)
    }
}

struct WriteScim {
    request: ScimRequest,
    lanes: Vec<String>,
    key: TombstoneKey,
    clock: Clock,
}

/// A user, and what becomes of it.
struct Step {
    known: KnownUser,
    change: ScimChange,
    events: Vec<TeamEvent>,
}

impl Write for WriteScim {
    /// The answer, and the kinds of the announced events that were replaced.
    type Output = (ScimAnswer, Vec<RowKind>);
    const ONLY_IF_AWAITED: bool = true;
    const IS_ARRIVAL: bool = true;

    fn weight(&self) -> usize {
        4 * self.lanes.len().max(1)
    }

    fn bytes(&self) -> usize {
        self.lanes.len() * ROW_BYTES + 2 * self.request.raw.len()
    }

    fn lanes(&self) -> impl Iterator<Item = &str> {
        self.lanes.iter().map(String::as_str)
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        let lock = TeamLock::take(tx, &self.clock).await?;
        let mut steps = Vec::new();
        for (member, known) in users_in(&mut *tx, &self.request.ask.members()).await? {
            match self.change(tx, &member, &known, lock.now).await? {
                Ok(change) => steps.push(self.step(known, change, lock.now)),
                Err(refused) => return Ok((ScimAnswer::Refused(refused), Vec::new())),
            }
        }
        let decided = match self.judge(tx, &lock, &steps).await? {
            Judged::Granted(decided) => decided,
            Judged::Refused(event, refused) => return self.refuse(tx, &event, &refused, lock.now).await,
            Judged::WantsList => return Ok((ScimAnswer::WantsList, Vec::new())),
        };
        let kept = self.keep(tx, steps, lock.now).await?;
        team_brake::keep_decisions(tx, &decided, lock.now).await?;
        Ok(kept)
    }
}

/// The policy's answer to all events of a request.
enum Judged {
    Granted(Vec<team_brake::LossDecision>),
    Refused(TeamEvent, PolicyRefusal),
    WantsList,
}

impl WriteScim {
    async fn change(
        &self,
        tx: &mut Transaction<'_>,
        member: &MemberId,
        known: &KnownUser,
        now: Timestamp,
    ) -> Result<Result<ScimChange, ScimError>, DbFault> {
        let context = ScimContext { role_from: self.request.role_from, now };
        Ok(match &self.request.ask {
            ScimAsk::User { id, write, .. } => {
                let is_there = known.view(context.role_from).is_some();
                match (&**write, is_there) {
                    (ScimWrite::Create(_), true) => return Ok(Err(taken("externalId"))),
                    (ScimWrite::Replace(_) | ScimWrite::Patch(_), true) if known.id() != *id => {
                        return Ok(Err(no_such_user()));
                    }
                    (ScimWrite::Create(_) | ScimWrite::Replace(_) | ScimWrite::Patch(_), true | false) => {}
                }
                let change = match change_user(known, write, id, context) {
                    Ok(change) => change,
                    Err(refused) => return Ok(Err(refused)),
                };
                let is_new = matches!(**write, ScimWrite::Create(_));
                match double(tx, member, &change.record, is_new).await? {
                    Some(attribute) => Err(taken(attribute)),
                    None => Ok(change),
                }
            }
            ScimAsk::Delete { id, .. } if known.id() != *id => Err(no_such_user()),
            ScimAsk::Delete { .. } => delete_user(known, context),
            // Deleted since the group was read: the request would make it again, with nothing in it.
            ScimAsk::Group { .. } if known.view(context.role_from).is_none() => {
                Err(ScimError::wrong(ScimType::InvalidValue, "`members` must be ids of users"))
            }
            ScimAsk::Group { group, members } => {
                let is_in = members.get(member).copied().unwrap_or_default();
                Ok(regroup(known, *group, is_in, context))
            }
        })
    }

    fn step(&self, known: KnownUser, change: ScimChange, now: Timestamp) -> Step {
        let event = |happening: &_| TeamEvent {
            id: EventId(self.clock.fresh_id()),
            member: known.member.clone(),
            time: change.time,
            received_at: now,
            effective_at: None,
            happening: Clone::clone(happening),
        };
        let events = change.happenings.iter().map(event).collect();
        Step { known, change, events }
    }

    /// Asks the policy for each event, in order; what one takes away counts for the next.
    async fn judge(&self, tx: &mut Transaction<'_>, lock: &TeamLock, steps: &[Step]) -> Result<Judged, DbFault> {
        if steps.iter().all(|step| step.events.is_empty()) {
            return Ok(Judged::Granted(Vec::new()));
        }
        let policy = &self.request.policy;
        let list = lock.staff(&mut *tx).await?;
        let listed_at = list.as_ref().map_or(lock.now, |list: &StaffList| list.asked_at);
        let mut ends = lock.ends(tx, None, listed_at).await?;
        let at_hand = PolicyAtHand {
            policy,
            ends: &[],
            now: lock.now,
            list: list.as_ref(),
            is_fresh: list.as_ref().is_some_and(|list| lock.is_fresh(list, &policy.team)),
            is_of_now: list.as_ref().is_some_and(|list| list.asked_at >= self.request.began),
            is_final: self.request.is_final,
        };
        let mut decided = Vec::new();
        for step in steps {
            let mut facts = step.known.facts();
            for event in &step.events {
                let at_hand = PolicyAtHand { ends: &ends, ..at_hand };
                match permission(event, &step.known.state, &facts, at_hand) {
                    Permission::Granted { loss } => {
                        if let Some((user, loss)) = loss {
                            ends.push(AccessEnd { user, at: loss.at.unwrap_or(lock.now) });
                            decided.push(team_brake::LossDecision { event: event.id, user, loss });
                        }
                    }
                    Permission::Refused(refused) => return Ok(Judged::Refused(event.clone(), refused)),
                    Permission::WantsList => return Ok(Judged::WantsList),
                }
                facts = facts.merge(event).facts;
            }
        }
        Ok(Judged::Granted(decided))
    }

    async fn refuse(
        &self,
        tx: &mut Transaction<'_>,
        event: &TeamEvent,
        refused: &PolicyRefusal,
        now: Timestamp,
    ) -> Result<<Self as Write>::Output, DbFault> {
        let row = self.row(Action::TeamChange, &event.member, now).refused(refused.reason.name());
        let row = row.with_change(None, Some(event.happening.type_name().to_owned()));
        audit::record(tx, [&row].into_iter()).await?;
        let detail = format!("{}: {}", refused.reason.name(), refused.detail);
        Ok((ScimAnswer::Refused(ScimError::new(403, detail)), Vec::new()))
    }

    fn row(&self, action: Action, member: &MemberId, now: Timestamp) -> AuditRow {
        let actor = Actor::Scim(self.request.token.clone());
        let target = AuditTarget::new(TargetKind::Member, member.as_str());
        AuditRow::new(AuditEntry::done(now, actor, action, target), &self.clock)
    }

    /// Writes the users down, and returns them as they are from now on with their events. Each kind of row is one statement.
    async fn keep(
        &self,
        tx: &mut Transaction<'_>,
        mut steps: Vec<Step>,
        now: Timestamp,
    ) -> Result<<Self as Write>::Output, DbFault> {
        let news = || steps.iter().filter(|step| step.change.is_news);
        let arrivals =
            news().flat_map(|step| step.events.iter().map(|event| self.arrival(&step.change.record, event, now)));
        let rows = arrivals.collect();
        let (receipts, replaced) = Accept { rows, urgency: LaneUrgency::Live, key: self.key.clone() }.run(tx).await?;
        let rows: Vec<AuditRow> = news().map(|step| self.row_of_change(step, now)).collect();
        audit::record(&mut *tx, rows.iter()).await?;
        let mut states = receipts.into_iter().map(|receipt| match receipt {
            Receipt::Accepted { state, .. } | Receipt::Duplicate { state, .. } => state,
            Receipt::Reused { .. } => EventState::Superseded,
        });
        let mut events = Vec::new();
        for step in steps.iter_mut().filter(|step| step.change.is_news) {
            for event in std::mem::take(&mut step.events) {
                let state = states.next().ok_or(DbFault::Missing)?;
                events.extend(event.happening.kind().map(|kind| (kind, state)));
                if state == EventState::Pending {
                    step.known.open.push(OpenTeamEvent { event, state, reason: None });
                }
            }
        }
        // One whose external id is not the member's own is remembered: who is made again with it is the same member.
        let is_linked =
            |step: &&Step| step.change.record.external_id().is_some_and(|id| id != step.known.member.as_str());
        let is_nothing = |step: &&Step| {
            let is_deleted = step.change.record.deleted.is_some() && !is_linked(step);
            is_deleted && step.known.open.is_empty() && step.known.state == Default::default()
        };
        let (gone, kept): (Vec<&Step>, Vec<&Step>) =
            steps.iter().filter(|step| step.change.is_news).partition(is_nothing);
        for step in gone {
            query("DELETE FROM scim_users WHERE lane = $1").bind(step.known.member.lane()).execute(&mut *tx).await?;
        }
        keep_records(tx, kept.into_iter().map(|step| (&step.known.member, &step.change.record))).await?;
        let users = steps.into_iter().map(|Step { known, change, .. }| {
            if change.is_news { KnownUser { record: Some(change.record), ..known } } else { known }
        });
        Ok((ScimAnswer::Done { users: users.collect(), events }, replaced))
    }

    fn row_of_change(&self, step: &Step, now: Timestamp) -> AuditRow {
        let mut row = self.row(Action::ScimChange, &step.known.member, now);
        row = row.with_change(None, Some(self.request.ask.word().to_owned()));
        row.entry.event = step.events.first().map(|event| event.id);
        row
    }

    fn arrival(&self, record: &ScimRecord, event: &TeamEvent, now: Timestamp) -> ReadyArrival {
        let arrival = Arrival {
            id: event.id,
            origin: format!("{}/Users/{}", crate::domain::scim::SCIM_PATH, record.id),
            origin_id: event.id.to_string(),
            source: self.request.token.clone(),
            transport: Transport::Scim,
            received_at: now,
            digest: event.id.to_string(),
            raw: self.raw_of(record).into(),
            envelope: None,
            content: Content::Team(event.clone()),
        };
        let moments = Moments { work_from: now, day: self.clock.steady_now(), written_at: now };
        ReadyArrival::new(arrival, self.clock.fresh_id().to_string(), &self.key, moments)
    }

    /// The bytes for the timeline; of a request about a group the part about this user, since it may name a thousand.
    fn raw_of(&self, record: &ScimRecord) -> Vec<u8> {
        match &self.request.ask {
            ScimAsk::User { .. } | ScimAsk::Delete { .. } => self.request.raw.clone(),
            ScimAsk::Group { group, .. } => serde_json::json!({"group": group, "member": record.id}).to_string().into(),
        }
    }
}

fn taken(attribute: &str) -> ScimError {
    let detail = format!("another user has this `{attribute}`");
    ScimError::wrong(ScimType::Uniqueness, detail)
}

/// The attribute by which a user would be another's double; `None`: there is none. An existing user may take the `externalId` of a
/// deleted one; a new user with it would be the deleted one.
async fn double(
    tx: &mut Transaction<'_>,
    member: &MemberId,
    record: &ScimRecord,
    is_new: bool,
) -> Result<Option<&'static str>, DbFault> {
    let named = query("SELECT 1 FROM scim_users WHERE user_name = $1 AND lane <> $2");
    if named.with((record.user_name_key(), member.lane())).finds(&mut *tx).await? {
        return Ok(Some("userName"));
    }
    let Some(external_id) = record.external_id() else { return Ok(None) };
    match holder_of(&mut *tx, external_id, member).await? {
        Some((_, holder)) if is_new || holder.deleted.is_none() => Ok(Some("externalId")),
        Some((other, holder)) => {
            keep_records(tx, [(&other, &holder.unlinked())].into_iter()).await?;
            Ok(None)
        }
        None => Ok(None),
    }
}

static KEEP: RowStatement = RowStatement::new(
    &["lane", "id", "user_name", "external_id", "record"],
    "INSERT INTO scim_users (lane, id, user_name, external_id, record) {rows} \
     ON CONFLICT (lane) DO UPDATE SET id = excluded.id, user_name = excluded.user_name, \
     external_id = excluded.external_id, record = excluded.record",
);

async fn keep_records<'a>(
    tx: &mut Transaction<'_>,
    records: impl Iterator<Item = (&'a MemberId, &'a ScimRecord)>,
) -> Result<(), DbFault> {
    let mut rows = KEEP.rows(records.size_hint().0);
    for (member, record) in records {
        let text = serde_json::to_string(record).expect("a record has only serialisable fields");
        rows.with((member.lane(), &record.id, record.user_name_key(), record.external_id(), text));
    }
    rows.execute(tx).await?;
    Ok(())
}
