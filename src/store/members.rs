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
use super::timeline::{EventSummary, NoticeView, ROWS_MAX};
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::team::{KnownMember, MemberId, TeamMember, member_of_lane};
use crate::domain::verdict::Reason;

/// Limit of the members that one step forgets; the rest follow with the next.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Limit of the members of a list: more is no team.
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

impl Store {
    /// Removes the person from members who left longer ago than `retention`; the positions of their events stay, so that no late event
    /// brings one back. Returns their number.
    pub async fn forget_members(&self, retention: Duration) -> Result<usize, Error> {
        let left_until = self.clock.now().minus(retention);
        let sql =
            "SELECT lane, state FROM members WHERE left_at IS NOT NULL AND left_at <= $1 ORDER BY left_at LIMIT $2";
        let left: Vec<(String, String)> =
            query(sql).with((left_until, FORGOTTEN_AT_ONCE)).fetch_all(&self.readers).await?;
        let rows = left.into_iter().map(|(lane, state)| {
            let kept = serde_json::from_str::<TeamMember>(&state).map_or_else(
                |_| state.clone(),
                |member| {
                    serde_json::to_string(&member.without_person()).expect("a member has only serialisable fields")
                },
            );
            Forgotten { lane, state, kept }
        });
        let rows: Vec<Forgotten> = rows.collect();
        let count = rows.len();
        if count > 0 {
            self.write(Forget { rows }).await?;
        }
        Ok(count)
    }
}

struct Forgotten {
    lane: String,
    /// As it was read: a row that has changed since is left to the next step.
    state: String,
    kept: String,
}

struct Forget {
    rows: Vec<Forgotten>,
}

impl Write for Forget {
    type Output = ();

    fn weight(&self) -> usize {
        self.rows.len()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        for Forgotten { lane, state, kept } in &self.rows {
            let forget = query(
                "UPDATE members SET state = $3, left_at = NULL WHERE lane = $1 AND state = $2 \
                 AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $1 AND lanes.claimed = 1)",
            );
            forget.with((lane, state, kept)).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

impl StoreView {
    /// All members that an event named, by id.
    pub async fn members(&self) -> Result<Vec<KnownMember>, Error> {
        let rows: Vec<(String, String, u64)> = query(
            "SELECT lane, state, (SELECT COUNT(*) FROM events WHERE events.lane = members.lane AND events.state = 'parked') \
             FROM members ORDER BY lane LIMIT $1",
        )
        .bind(MEMBERS_MAX)
        .fetch_all(&self.readers)
        .await?;
        let known = |(lane, state, parked): (String, String, u64)| {
            let member = serde_json::from_str(&state).map_err(|error| Error::Unreadable(error.to_string()))?;
            Ok(KnownMember { id: member_of_lane(&lane).unwrap_or(&lane).to_owned(), member, parked })
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
        let pending = query("SELECT COUNT(*) FROM events WHERE lane = $1 AND state = 'pending'");
        Ok((known, pending.bind(lane).fetch_one(&self.readers).await?))
    }

    /// Counts the team for the gauges. An end of an access that has passed for `grace` is overdue.
    pub async fn team_counts(&self, grace: Duration) -> Result<TeamCounts, Error> {
        let until: Timestamp = self.clock.now().minus(grace);
        let members = query(
            "SELECT COUNT(*), COUNT(expires_at), COALESCE(SUM(CASE WHEN expires_at <= $1 THEN 1 ELSE 0 END), 0) \
             FROM members WHERE active = 1",
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
