//! Members of the team: what is kept of those who left, and how the team is read.
//!
//! Before: [`crate::store::settlement`] keeps a member. After: [`crate::admin`], [`crate::cli`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::db::{DbFault, ours, query};
use super::error::Error;
use super::handle::{Store, StoreView};
use super::team_brake;
use super::timeline::{EventSummary, NoticeView, ROWS_MAX};
use super::transaction::{Transaction, Write};
use crate::domain::scim::{ScimRecord, derived_id};
use crate::domain::team::{KnownMember, MemberId, TeamEvent, TeamMember, member_of_lane};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Limit of the members that one step forgets; the rest follow with the next.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Limit of the events of one member that one step empties; the rest follow with the next.
const EMPTIED_AT_ONCE: usize = 200;

/// Limit of the members of a list: more is no team. Those who have left are left out first.
pub const MEMBERS_MAX: i64 = 10_000;

/// A member with all that happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MemberView {
    /// The utility's own.
    pub member_id: String,
    /// The facts that are known; their form may change. Absent for a viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub state: Option<Value>,
    /// Events, the latest first.
    pub events: Vec<EventSummary>,
    /// Outgoing events, the latest first.
    pub notices: Vec<NoticeView>,
}

impl MemberView {
    /// The view without personal data.
    #[must_use]
    pub fn impersonal(self) -> Self {
        let notices = self.notices.into_iter().map(|notice| NoticeView { data: None, ..notice });
        Self { state: None, notices: notices.collect(), ..self }
    }
}

/// The team in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for the gauges")]
pub struct TeamCounts {
    pub unlimited: u64,
    pub temporary: u64,
    pub overdue: u64,
    pub refused: u64,
    pub braked: u64,
}

/// True if the list has as many members as it may: there may be more.
pub fn is_cut(members: &[KnownMember]) -> bool {
    i64::try_from(members.len()).is_ok_and(|count| count >= MEMBERS_MAX)
}

impl Store {
    /// Removes the person from members who left longer ago than `retention`, and from their events that have ended; the positions of the
    /// events stay, so that no late one brings the member back. Users of SCIM who never became members are removed as long after their
    /// last change. Returns the number of those who were changed.
    pub async fn forget_members(&self, retention: Duration) -> Result<usize, Error> {
        let until = self.clock.now().minus(retention);
        let sql =
            "SELECT lane, state FROM members WHERE left_at IS NOT NULL AND left_at <= $1 ORDER BY left_at LIMIT $2";
        let left: Vec<(String, String)> = query(sql).with((until, FORGOTTEN_AT_ONCE)).fetch_all(&self.readers).await?;
        let left = left.into_iter().map(|(lane, state)| {
            let kept = without_person(&state);
            Forgotten { lane, of: ForgottenOf::Left { state, kept }, events: Vec::new() }
        });
        let mut rows: Vec<Forgotten> = left.chain(self.never_joined(until).await?).collect();
        for row in &mut rows {
            row.events = self.told_of(&row.lane).await?;
        }
        if rows.is_empty() { Ok(0) } else { self.write(Forget { rows }).await }
    }

    /// Users of SCIM whose member has not joined since they were made, of whom nothing is under way, and who were changed last before
    /// `until`. There are few: those who were sent as inactive, or whose join was skipped.
    async fn never_joined(&self, until: Timestamp) -> Result<Vec<Forgotten>, Error> {
        let sql = "SELECT lane, record, (SELECT members.state FROM members WHERE members.lane = scim_users.lane) FROM scim_users \
             WHERE NOT EXISTS (SELECT 1 FROM members WHERE members.lane = scim_users.lane \
             AND (members.active = 1 OR members.left_at IS NOT NULL)) \
             AND NOT EXISTS (SELECT 1 FROM events WHERE events.lane = scim_users.lane \
             AND COALESCE(events.state, '') NOT IN ('applied', 'superseded', 'skipped')) ORDER BY lane LIMIT $1";
        let users: Vec<(String, String, Option<String>)> =
            query(sql).bind(MEMBERS_MAX).fetch_all(&self.readers).await?;
        let is_old =
            |record: &str| serde_json::from_str::<ScimRecord>(record).is_ok_and(|record| record.modified <= until);
        let old = users.into_iter().filter(|(_, record, _)| is_old(record)).take(FORGOTTEN_AT_ONCE);
        let row = |(lane, record, state): (String, String, Option<String>)| {
            let state = state.map(|state| (without_person(&state), state));
            Forgotten { lane, of: ForgottenOf::NeverJoined { record, state }, events: Vec::new() }
        };
        Ok(old.map(row).collect())
    }

    /// The events of a lane that have ended and have their original bytes, each without the person.
    async fn told_of(&self, lane: &str) -> Result<Vec<(EventId, Option<String>)>, Error> {
        let sql = "SELECT id, event FROM events WHERE lane = $1 AND COALESCE(state, '') IN ('applied', 'superseded', 'skipped') \
             AND raw <> '' LIMIT $2";
        let events: Vec<(EventId, Option<String>)> =
            query(sql).with((lane, EMPTIED_AT_ONCE)).fetch_all(&self.readers).await?;
        let without_person = |text: String| {
            let event = serde_json::from_str::<TeamEvent>(&text).ok()?;
            Some(serde_json::to_string(&event.without_person()).expect("an event has only serialisable fields"))
        };
        // One that this version cannot read has nothing that the bridge could use again.
        Ok(events.into_iter().map(|(id, text)| (id, text.and_then(without_person))).collect())
    }

    /// Removes the list of the staff, which holds names and addresses: for a bridge that does not administer the team any more.
    pub async fn forget_staff(&self) -> Result<(), Error> {
        let staff = query("SELECT 1 FROM staff_lists WHERE name = 'staff'");
        if staff.finds(&self.readers).await? { self.write(ForgetStaff).await } else { Ok(()) }
    }
}

struct ForgetStaff;

impl Write for ForgetStaff {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        team_brake::forget_staff(tx).await
    }
}

/// The state of a member without the person.
fn without_person(state: &str) -> String {
    serde_json::from_str::<TeamMember>(state).map_or_else(
        |_| state.to_owned(),
        |member| serde_json::to_string(&member.without_person()).expect("a member has only serialisable fields"),
    )
}

struct Forgotten {
    lane: String,
    of: ForgottenOf,
    /// Events of the lane, without the person.
    events: Vec<(EventId, Option<String>)>,
}

/// The knowledge of one who is forgotten, as it was read: a row that has changed since is left to the next step.
enum ForgottenOf {
    /// A member who left; `kept` is the state without the person.
    Left { state: String, kept: String },
    /// A user of SCIM who never became a member, and the state of the member if there is one: without the person, and as it was.
    NeverJoined { record: String, state: Option<(String, String)> },
}

impl Forgotten {
    /// True if the lane may have more events with the person: the rest is left to the next step.
    fn may_have_more(&self) -> bool {
        self.events.len() >= EMPTIED_AT_ONCE
    }

    /// Removes the person from what is known. `false`: it has changed since it was read.
    async fn forget(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let lane = &self.lane;
        match &self.of {
            ForgottenOf::Left { state, kept } => {
                let forget = query(
                    "UPDATE members SET state = $3, left_at = CASE WHEN $4 = 1 THEN left_at END WHERE lane = $1 AND state = $2 \
                     AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $1 AND lanes.claimed = 1)",
                );
                // One who comes back at this moment is left to the next step.
                if forget.with((lane, state, kept, self.may_have_more())).execute(&mut *tx).await? == 0 {
                    return Ok(false);
                }
                query("DELETE FROM scim_users WHERE lane = $1").bind(lane).execute(tx).await?;
            }
            ForgottenOf::NeverJoined { record, state } => {
                let forget = query(
                    "DELETE FROM scim_users WHERE lane = $1 AND record = $2 AND NOT EXISTS (SELECT 1 FROM members \
                     WHERE members.lane = $1 AND (members.active = 1 OR members.left_at IS NOT NULL)) \
                     AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $1 AND lanes.claimed = 1)",
                );
                if !self.may_have_more() && forget.with((lane, record)).execute(&mut *tx).await? == 0 {
                    return Ok(false);
                }
                if let Some((kept, state)) = state {
                    let forget = query("UPDATE members SET state = $3 WHERE lane = $1 AND state = $2");
                    forget.with((lane, state, kept)).execute(tx).await?;
                }
            }
        }
        Ok(true)
    }
}

struct Forget {
    rows: Vec<Forgotten>,
}

impl Write for Forget {
    type Output = usize;

    fn weight(&self) -> usize {
        self.rows.iter().map(|row| 1 + row.events.len()).sum()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize, DbFault> {
        let mut count = 0;
        for row in &self.rows {
            if !row.forget(&mut *tx).await? {
                continue;
            }
            count += 1;
            for (id, event) in &row.events {
                let empty = query(
                    "UPDATE events SET event = $2, raw = '', raw_encoding = 'utf8', envelope = NULL WHERE id = $1 \
                     AND COALESCE(state, '') IN ('applied', 'superseded', 'skipped')",
                );
                empty.with((*id, event)).execute(&mut *tx).await?;
            }
        }
        Ok(count)
    }
}

impl StoreView {
    /// All members that an event named, those first who are members now; at most [`MEMBERS_MAX`].
    pub async fn members(&self) -> Result<Vec<KnownMember>, Error> {
        let rows: Vec<(String, String, u64, Option<String>)> = query(
            // Conditions that imply those of no index of few rows, as in the outbox.
            "SELECT lane, state, \
             (SELECT COUNT(*) FROM events WHERE events.lane = members.lane AND events.state = (SELECT 'parked')), \
             (SELECT scim_users.id FROM scim_users WHERE scim_users.lane = members.lane AND COALESCE(user_name, '') <> '') \
             FROM members ORDER BY active DESC, lane LIMIT $1",
        )
        .bind(MEMBERS_MAX)
        .fetch_all(&self.readers)
        .await?;
        let known = |(lane, state, parked, user): (String, String, u64, Option<String>)| {
            let member = serde_json::from_str(&state).map_err(|error| Error::Unreadable(error.to_string()))?;
            let id = member_of_lane(&lane).unwrap_or(&lane).to_owned();
            // The id of a user whom an event named first follows from the member's.
            let is_made = |user: String| MemberId::accept(&id).is_some_and(|member| user != derived_id(&member));
            Ok(KnownMember { is_of_scim: user.is_some_and(is_made), id, member, parked })
        };
        rows.into_iter().map(known).collect()
    }

    /// One member with events and notices, newest first; `None` if the store has never heard of them.
    pub async fn member(&self, member: &MemberId) -> Result<Option<MemberView>, Error> {
        let lane = member.lane();
        let events =
            ours(format!("SELECT {} FROM events WHERE lane = $1 ORDER BY id DESC LIMIT $2", EventSummary::COLUMNS));
        let events: Vec<_> = query(events).with((&lane, ROWS_MAX)).fetch_all(&self.readers).await?;
        let state = query("SELECT state FROM members WHERE lane = $1").bind(&lane);
        let state: Option<String> = state.fetch_optional(&self.readers).await?;
        if events.is_empty() && state.is_none() {
            return Ok(None);
        }
        let notices =
            ours(format!("SELECT {} FROM notices WHERE customer = $1 ORDER BY seq DESC LIMIT $2", NoticeView::COLUMNS));
        let notices = query(notices).with((&lane, ROWS_MAX)).fetch_all(&self.readers).await?;
        let state = Some(state.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null));
        Ok(Some(MemberView { member_id: member.as_str().to_owned(), state, events, notices }))
    }

    /// The state of a member, and the number of their events that go before one that arrives now.
    pub async fn knowledge_of_member(&self, lane: &str) -> Result<(TeamMember, u64), Error> {
        let state: Option<String> =
            query("SELECT state FROM members WHERE lane = $1").bind(lane).fetch_optional(&self.readers).await?;
        let known = match state.as_deref() {
            None => TeamMember::default(),
            Some(text) => serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))?,
        };
        let pending = query("SELECT COUNT(*) FROM events WHERE lane = $1 AND state = (SELECT 'pending')");
        Ok((known, pending.bind(lane).fetch_one(&self.readers).await?))
    }

    /// Counts the team for the gauges. An end of an access that has passed for `grace` is overdue.
    pub async fn team_counts(&self, grace: Duration) -> Result<TeamCounts, Error> {
        let until: Timestamp = self.clock.now().minus(grace);
        // One whose removal is not done has left, and may be past the end of the access.
        let members = query(
            "SELECT COUNT(CASE WHEN active = 1 THEN 1 END), COUNT(CASE WHEN active = 1 THEN expires_at END), \
             COUNT(CASE WHEN expires_at <= $1 THEN 1 END) FROM members",
        );
        let (active, temporary, overdue): (u64, u64, u64) = members.bind(until).fetch_one(&self.readers).await?;
        let parked = query("SELECT reason, COUNT(*) FROM events WHERE state = 'parked' GROUP BY reason");
        let parked: Vec<(Option<String>, u64)> = parked.fetch_all(&self.readers).await?;
        let of = |is_meant: fn(Reason) -> bool| {
            let reason = |name: &Option<String>| name.as_deref().and_then(Reason::from_name);
            parked.iter().filter(|(name, _)| reason(name).is_some_and(is_meant)).map(|(_, count)| count).sum()
        };
        Ok(TeamCounts {
            unlimited: active - temporary,
            temporary,
            overdue,
            refused: of(|reason| reason.is_of_team_policy() && !reason.is_approvable()),
            braked: of(|reason| reason == Reason::TeamBrake),
        })
    }
}
