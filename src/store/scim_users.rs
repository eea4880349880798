//! Users of SCIM as rows: each with the facts of its member and the events that are under way.
//!
//! Before: [`super::scim_writes`] writes them. After: [`crate::inbound`] shows them, [`crate::admin`] tells who came by them.

use std::collections::{BTreeMap, BTreeSet};

use super::db::{DbFault, Executor, RowStatement, query};
use super::error::Error;
use super::handle::StoreView;
use super::members::MEMBERS_MAX;
use super::transaction::Transaction;
use crate::domain::event::EventState;
use crate::domain::scim::{KnownUser, OpenTeamEvent, ScimRecord, derived_id};
use crate::domain::team::{MEMBER_LANE, MemberId, TeamMember, member_of_lane};

/// Limit of the events under way of all members together that one list reads.
const OPEN_EVENTS_MAX: i64 = 20_000;

/// The end of the lanes of members: the sign behind the tab with which they begin.
const LANES_END: &str = "member\n";

/// Limit of the reads of one answer: a request that is committed between two statements makes another.
const READS_MAX: usize = 5;

/// A row of an event: its state, the reason, and the event.
type OpenRow = (EventState, Option<String>, Option<String>);

impl StoreView {
    /// All users, by the lane of their member.
    pub async fn scim_users(&self) -> Result<Vec<KnownUser>, Error> {
        let mut reads = 0;
        loop {
            reads += 1;
            let before = self.records().await?;
            // Events before facts: an event that ends in between is read twice, which merges to the same, and not missed.
            let open = query(
                "SELECT lane, state, reason, event FROM events WHERE lane > $1 AND lane < $2 \
                 AND state <> 'applied' AND state <> 'superseded' AND state <> 'skipped' AND state <> 'scheduled' LIMIT $3",
            );
            let open = open.with((MEMBER_LANE, LANES_END, OPEN_EVENTS_MAX));
            let open: Vec<(String, EventState, Option<String>, Option<String>)> = open.fetch_all(&self.readers).await?;
            let states = query("SELECT lane, state FROM members ORDER BY lane LIMIT $1").bind(MEMBERS_MAX);
            let states: Vec<(String, String)> = states.fetch_all(&self.readers).await?;
            let records = self.records().await?;
            if before != records && reads < READS_MAX {
                continue;
            }
            let mut users: BTreeMap<String, KnownUser> = BTreeMap::new();
            for (lane, record) in records {
                if let Some(user) = entry(&mut users, lane) {
                    user.record = Some(read(&record)?);
                }
            }
            for (lane, state) in states {
                if let Some(user) = entry(&mut users, lane) {
                    user.state = read(&state)?;
                }
            }
            for (lane, state, reason, event) in open {
                if let Some(user) = entry(&mut users, lane) {
                    user.open.extend(open_event((state, reason, event)));
                }
            }
            return Ok(users.into_values().collect());
        }
    }

    async fn records(&self) -> Result<Vec<(String, String)>, Error> {
        let records = query("SELECT lane, record FROM scim_users ORDER BY lane LIMIT $1").bind(MEMBERS_MAX);
        Ok(records.fetch_all(&self.readers).await?)
    }

    /// The user with this id, shown or not; `None`: no user has it.
    pub async fn scim_user(&self, id: &str) -> Result<Option<KnownUser>, Error> {
        let lane = query("SELECT lane FROM scim_users WHERE id = $1").bind(id);
        let lane: Option<String> = lane.fetch_optional(&self.readers).await?;
        let member = match lane {
            Some(lane) => member_of_lane(&lane).and_then(MemberId::accept),
            None => self.member_of_derived(id).await?,
        };
        let Some(member) = member else { return Ok(None) };
        let mut reads = 0;
        let (record, state, open) = loop {
            reads += 1;
            let before = record_of(&self.readers, &member).await?;
            let (open, state) = (open_of(&self.readers, &member).await?, state_of(&self.readers, &member).await?);
            let record = record_of(&self.readers, &member).await?;
            if before == record || reads >= READS_MAX {
                break (record, state, open);
            }
        };
        let user = put_together(member, record, state, open).map_err(|error| Error::Unreadable(error.to_string()))?;
        Ok(user.filter(|user| user.id() == id))
    }

    /// The member whose user has this `externalId`, or had it when it was deleted: who is made again is the same member.
    pub async fn scim_member(&self, external_id: &str) -> Result<Option<MemberId>, Error> {
        let lane = query("SELECT lane FROM scim_users WHERE external_id = $1").bind(external_id);
        let lane: Option<String> = lane.fetch_optional(&self.readers).await?;
        Ok(lane.and_then(|lane| member_of_lane(&lane).and_then(MemberId::accept)))
    }

    /// The member whose user no request has named, by the id that follows from the member's own.
    async fn member_of_derived(&self, id: &str) -> Result<Option<MemberId>, Error> {
        let named = query("SELECT lane FROM members ORDER BY lane LIMIT $1").bind(MEMBERS_MAX);
        let mut lanes: BTreeSet<String> = named.fetch_all::<String>(&self.readers).await?.into_iter().collect();
        let named = query(
            "SELECT lane FROM events WHERE lane > $1 AND lane < $2 AND state || '' IN ('pending', 'waiting') LIMIT $3",
        );
        let named = named.with((MEMBER_LANE, LANES_END, OPEN_EVENTS_MAX));
        lanes.extend(named.fetch_all::<String>(&self.readers).await?);
        let members = lanes.iter().filter_map(|lane| member_of_lane(lane).and_then(MemberId::accept));
        Ok(members.into_iter().find(|member| derived_id(member) == id))
    }
}

fn entry(users: &mut BTreeMap<String, KnownUser>, lane: String) -> Option<&mut KnownUser> {
    let member = member_of_lane(&lane).and_then(MemberId::accept)?;
    Some(users.entry(lane).or_insert_with(|| KnownUser::new(member)))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))
}

/// An event that this version cannot read is shown by the timeline alone.
fn open_event((state, reason, event): OpenRow) -> Option<OpenTeamEvent> {
    let event = serde_json::from_str(&event?).ok()?;
    Some(OpenTeamEvent { event, state, reason })
}

static OPEN: RowStatement = RowStatement::new(
    &["lane"],
    "SELECT events.lane, events.state, events.reason, events.event FROM {join}events WHERE events.lane = {lane} \
     AND events.state <> 'applied' AND events.state <> 'superseded' AND events.state <> 'skipped' AND events.state <> 'scheduled'",
);

static STATES: RowStatement =
    RowStatement::new(&["lane"], "SELECT members.lane, members.state FROM {join}members WHERE members.lane = {lane}");

static RECORDS: RowStatement = RowStatement::new(
    &["lane"],
    "SELECT scim_users.lane, scim_users.record FROM {join}scim_users WHERE scim_users.lane = {lane}",
);

/// These users, in a transaction that holds the lock, each with its lane; nothing is known of a new one. Three statements, however
/// many they are.
pub(super) async fn users_in(
    tx: &mut Transaction<'_>,
    members: &[&MemberId],
) -> Result<BTreeMap<MemberId, KnownUser>, DbFault> {
    let lanes: BTreeMap<String, &MemberId> = members.iter().map(|member| (member.lane(), *member)).collect();
    let of = |statement: &'static RowStatement| {
        let mut rows = statement.rows(lanes.len());
        for lane in lanes.keys() {
            rows.bind(lane);
        }
        rows
    };
    let mut open: BTreeMap<String, Vec<OpenRow>> = BTreeMap::new();
    for (lane, state, reason, event) in of(&OPEN).fetch_all::<(String, _, _, _)>(&mut *tx).await? {
        open.entry(lane).or_default().push((state, reason, event));
    }
    let mut states: BTreeMap<String, String> = of(&STATES).fetch_all(&mut *tx).await?.into_iter().collect();
    let mut records: BTreeMap<String, String> = of(&RECORDS).fetch_all(&mut *tx).await?.into_iter().collect();
    let user = |(lane, member): (&String, &&MemberId)| {
        let (record, state) = (records.remove(lane), states.remove(lane));
        let known = put_together((*member).clone(), record, state, open.remove(lane).unwrap_or_default());
        let known = known.map_err(|_| DbFault::Unreadable { column: 1 })?;
        Ok(((*member).clone(), known.unwrap_or_else(|| KnownUser::new((*member).clone()))))
    };
    lanes.iter().map(user).collect()
}

/// The record of another member's user that has this `externalId`, deleted or not.
pub(super) async fn holder_of(
    tx: &mut Transaction<'_>,
    external_id: &str,
    member: &MemberId,
) -> Result<Option<(MemberId, ScimRecord)>, DbFault> {
    let holder = query("SELECT lane, record FROM scim_users WHERE external_id = $1 AND lane <> $2");
    let holder: Option<(String, String)> = holder.with((external_id, member.lane())).fetch_optional(tx).await?;
    let Some((lane, record)) = holder else { return Ok(None) };
    let record = serde_json::from_str(&record).map_err(|_| DbFault::Unreadable { column: 1 })?;
    Ok(member_of_lane(&lane).and_then(MemberId::accept).map(|member| (member, record)))
}

fn put_together(
    member: MemberId,
    record: Option<String>,
    state: Option<String>,
    open: Vec<OpenRow>,
) -> Result<Option<KnownUser>, serde_json::Error> {
    if record.is_none() && state.is_none() && open.is_empty() {
        return Ok(None);
    }
    let record = record.as_deref().map(serde_json::from_str).transpose()?;
    let state: Option<TeamMember> = state.as_deref().map(serde_json::from_str).transpose()?;
    let open = open.into_iter().filter_map(open_event).collect();
    Ok(Some(KnownUser { member, record, state: state.unwrap_or_default(), open }))
}

async fn record_of(on: impl Executor, member: &MemberId) -> Result<Option<String>, DbFault> {
    query("SELECT record FROM scim_users WHERE lane = $1").bind(member.lane()).fetch_optional(on).await
}

async fn state_of(on: impl Executor, member: &MemberId) -> Result<Option<String>, DbFault> {
    query("SELECT state FROM members WHERE lane = $1").bind(member.lane()).fetch_optional(on).await
}

async fn open_of(on: impl Executor, member: &MemberId) -> Result<Vec<OpenRow>, DbFault> {
    let open = query(
        "SELECT state, reason, event FROM events WHERE lane = $1 AND state <> 'applied' AND state <> 'superseded' AND state <> 'skipped' AND state <> 'scheduled' LIMIT $2",
    );
    open.with((member.lane(), OPEN_EVENTS_MAX)).fetch_all(on).await
}
