//! Looks at the tables from outside, on a connection of its own: what must hold at every moment, and what is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::brake::Brake;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use super::replica::REQUEST_TIME_MAX;
use super::team::MemberRow;

/// Limit of the time in which a lane may stay closed to a leave after the last call for the member: as long as that call, without an
/// answer, may be under way; and the clock is set back at times.
const LEAVE_WAITS_MAX: Duration = Duration::from_secs(2 * REQUEST_TIME_MAX.as_secs());

/// The reasons for which the policy of the team parks an event.
pub(super) const REFUSALS: [&str; 4] = ["team_brake", "too_few_admins", "admin_not_allowed", "protected_member"];

pub(super) struct Observer {
    connection: SqliteConnection,
    /// Events that were pending when the tables were looked at last.
    pending: BTreeSet<String>,
    /// The event that was begun in each lane, and its fence.
    begun: BTreeMap<String, (String, i64)>,
    /// The end of each event, in the order of ending; an event that is retried may end again.
    pub(super) ended: Vec<(String, String)>,
    known_ends: BTreeMap<String, (String, i64)>,
    /// Churns that the brake has parked once.
    pub(super) braked: BTreeSet<String>,
    /// Events of members that the policy of the team has parked once.
    pub(super) refused_members: BTreeSet<String>,
    /// Leaves that are due and have not been begun, each since the look that showed it first.
    leaves: BTreeMap<String, Leave>,
    /// The last look that showed a lane as claimed.
    claimed_at: BTreeMap<String, Timestamp>,
    /// Events that have been begun, each with the number of events that had ended by then.
    ever_begun: BTreeMap<String, usize>,
    /// Clearances, as they were looked at last.
    clearances: BTreeMap<String, Option<String>>,
    /// Churns that were admitted, with the moment; none is older than the one before.
    admitted: Vec<(String, Timestamp)>,
}

/// A leave that is due.
#[derive(Clone)]
struct Leave {
    lane: String,
    time: i64,
    since: Timestamp,
}

/// An event's row at the end.
pub(super) struct EventRow {
    /// Sorts by arrival.
    pub(super) id: String,
    pub(super) origin_id: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
}

/// An outgoing event's row at the end.
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) state: String,
    /// Notices of one order key go out in order.
    pub(super) line: String,
}

impl Observer {
    pub(super) async fn open(file: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(file);
        let connection = SqliteConnection::connect_with(&options).await.expect("the file is there");
        Self {
            connection,
            pending: BTreeSet::new(),
            begun: BTreeMap::new(),
            ended: Vec::new(),
            known_ends: BTreeMap::new(),
            braked: BTreeSet::new(),
            refused_members: BTreeSet::new(),
            leaves: BTreeMap::new(),
            claimed_at: BTreeMap::new(),
            ever_begun: BTreeMap::new(),
            clearances: BTreeMap::new(),
            admitted: Vec::new(),
        }
    }

    /// Looks at what was committed since the last look. The error is a broken promise.
    pub(super) async fn look(&mut self, now: Timestamp) -> Result<Vec<String>, String> {
        let mut news = Vec::new();
        self.claims(&mut news, now).await?;
        self.ends(&mut news).await?;
        self.leaves(now).await?;
        let pending = sqlx::query("SELECT id FROM events WHERE state = 'pending'").fetch_all(&mut self.connection);
        self.pending = pending.await.expect("readable").iter().map(|row| row.get(0)).collect();
        Ok(news)
    }

    /// True if an event had been begun before the event of this place among the ended ones had ended.
    pub(super) fn had_begun(&self, event: &str, place: usize) -> bool {
        self.ever_begun.get(event).is_some_and(|ended| *ended <= place)
    }

    /// I2 and the order of a lane: what is begun is the oldest that was there, or what was begun before.
    async fn claims(&mut self, news: &mut Vec<String>, now: Timestamp) -> Result<(), String> {
        let rows = sqlx::query("SELECT lane, begun, fence FROM lanes WHERE claimed = 1 AND begun IS NOT NULL");
        for row in rows.fetch_all(&mut self.connection).await.expect("readable") {
            let (lane, begun, fence): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            self.claimed_at.insert(lane.clone(), now);
            self.ever_begun.entry(begun.clone()).or_insert(self.ended.len());
            let before = self.begun.insert(lane.clone(), (begun.clone(), fence));
            if before.as_ref() == Some(&(begun.clone(), fence)) {
                continue;
            }
            news.push(format!("{lane} is claimed for {begun} under {fence}"));
            self.overtakes(&lane, &begun).await?;
            let last = before.map(|(known, _)| known);
            let was_begun = last.as_ref() == Some(&begun);
            let older = sqlx::query(
                "SELECT older.id, older.failures FROM events AS older JOIN events AS mine ON mine.id = $1 \
                 WHERE older.lane = mine.lane AND older.state = 'pending' AND (older.time, older.id) < (mine.time, mine.id)",
            );
            let older = older.bind(&begun).fetch_all(&mut self.connection).await.expect("readable");
            // One that was in hand until this commit may have begun to wait in it for a sign-up, which holds no other, and its
            // time to wait may have ended in it as well.
            let may_have_waited = |id: &String, failures: i64| last.as_ref() == Some(id) && failures == 0;
            let known = older.iter().map(|row| (row.get::<String, _>(0), row.get::<i64, _>(1)));
            let mut known = known.filter(|(id, failures)| !may_have_waited(id, *failures)).map(|(id, _)| id);
            let overtaken = known.find(|id| self.pending.contains(id));
            let is_leave = sqlx::query("SELECT 1 FROM events WHERE id = $1 AND type = 'team.member_left'").bind(&begun);
            let is_leave = is_leave.fetch_optional(&mut self.connection).await.expect("readable").is_some();
            if let (false, Some(older)) = (was_begun || is_leave, overtaken) {
                return Err(format!("order: {begun} of {lane} is begun before the older {older}, which was there"));
            }
        }
        Ok(())
    }

    /// A leave that was due goes before all older events of its member.
    async fn overtakes(&mut self, lane: &str, begun: &str) -> Result<(), String> {
        let row = sqlx::query("SELECT time, type FROM events WHERE id = $1").bind(begun);
        let row = row.fetch_one(&mut self.connection).await.expect("readable");
        let (time, type_name): (i64, String) = (row.get(0), row.get(1));
        let mine = (time, begun);
        let passed = self.leaves.iter().find(|(id, leave)| leave.lane == lane && (leave.time, id.as_str()) > mine);
        let passed = passed.map(|(id, _)| id.clone());
        match passed {
            // It was due at the look before, and an event that called it off came since: after that the older one is the head.
            Some(leave) if self.was_called_off(&leave).await => Ok(()),
            // Of two leaves either takes the member out.
            Some(_) if type_name == "team.member_left" => Ok(()),
            Some(leave) => {
                Err(format!("team: {begun} ({type_name}) of {lane} is begun before the leave {leave}, which was due"))
            }
            None => Ok(()),
        }
    }

    /// True if a later event about the same change has ended this one before it was begun.
    async fn was_called_off(&mut self, event: &str) -> bool {
        let ended = sqlx::query("SELECT 1 FROM events WHERE id = $1 AND state = 'superseded' AND reason = 'replaced'");
        ended.bind(event).fetch_optional(&mut self.connection).await.expect("readable").is_some()
    }

    /// The newest leave of a member that is due waits for nothing but a call that is under way, or may be; one that is older than a join
    /// that was begun is no news any more.
    async fn leaves(&mut self, now: Timestamp) -> Result<(), String> {
        let rows = sqlx::query(
            "SELECT events.id, events.lane, events.time, events.due_at, lanes.claimed, lanes.ready_at FROM events \
             JOIN lanes ON lanes.lane = events.lane WHERE events.type = 'team.member_left' AND events.state = 'pending' \
             AND NOT EXISTS (SELECT 1 FROM events AS newer WHERE newer.lane = events.lane AND newer.type = events.type \
             AND newer.state = 'pending' AND (newer.time, newer.id) > (events.time, events.id)) \
             AND NOT EXISTS (SELECT 1 FROM events AS begun WHERE begun.id = lanes.begun \
             AND begun.state = 'pending' AND (begun.time, begun.id) > (events.time, events.id))",
        );
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        let mut leaves = BTreeMap::new();
        for row in rows {
            let (id, lane, time, due_at): (String, String, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
            if self.ever_begun.contains_key(&id) {
                continue;
            }
            let since = self.leaves.get(&id).map_or(now, |leave| leave.since);
            let last = self.claimed_at.get(&lane).copied().map_or(since, |at| at.max(since));
            let latest = last.plus(LEAVE_WAITS_MAX).micros();
            let (is_claimed, ready_at): (bool, Option<i64>) = (row.get(4), row.get(5));
            if !is_claimed && ready_at.is_none_or(|at| at.max(due_at) > latest) {
                let (due, ready) = (Timestamp::from_micros(due_at), ready_at.map(Timestamp::from_micros));
                return Err(format!(
                    "team: the leave {id}, seen at {since}, is due at {due}, and {lane} is ready at {ready:?}"
                ));
            }
            leaves.insert(id, Leave { lane, time, since });
        }
        self.leaves = leaves;
        Ok(())
    }

    /// The events that take a member's access away and have not ended, each with the moment before which it may not.
    pub(super) async fn removals(&mut self) -> Vec<(String, Timestamp)> {
        let rows = sqlx::query(
            "SELECT id, CASE WHEN type = 'team.access_expired' THEN time ELSE 0 END FROM events \
             WHERE type IN ('team.member_left', 'team.access_expired') AND state = 'pending' ORDER BY id",
        );
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        rows.iter().map(|row| (row.get(0), Timestamp::from_micros(row.get(1)))).collect()
    }

    /// All events of members, the bridge's own among them.
    pub(super) async fn member_events(&mut self) -> Vec<MemberRow> {
        let rows = sqlx::query(
            "SELECT id, lane, type, time, CASE WHEN origin = '/hr' THEN origin_id END, state, reason, settled_at FROM events \
             WHERE type LIKE 'team.%' ORDER BY id",
        );
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        let row = |row: &sqlx::sqlite::SqliteRow| MemberRow {
            id: row.get(0),
            lane: row.get(1),
            type_name: row.get(2),
            time: Timestamp::from_micros(row.get(3)),
            origin_id: row.get(4),
            state: row.get(5),
            reason: row.get(6),
            settled_at: row.get::<Option<i64>, _>(7).map(Timestamp::from_micros),
        };
        rows.iter().map(row).collect()
    }

    /// Plants a mistake.
    pub(super) async fn plant(&mut self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.connection).await.expect("it is planted");
    }

    async fn ends(&mut self, news: &mut Vec<String>) -> Result<(), String> {
        let rows =
            sqlx::query("SELECT id, state, settled_at, reason FROM events WHERE settled_at IS NOT NULL ORDER BY id");
        for row in rows.fetch_all(&mut self.connection).await.expect("readable") {
            let (id, state, at): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            let end = (state.clone(), at);
            let before = self.known_ends.insert(id.clone(), end.clone());
            if before.as_ref() == Some(&end) {
                continue;
            }
            if let Some((was, _)) = before.filter(|(was, _)| was != "parked") {
                return Err(format!("{id} had ended as {was} and ends again as {state}"));
            }
            let reason = row.get::<Option<String>, _>(3).unwrap_or_default();
            news.push(format!("{id} is {state} {reason}"));
            if REFUSALS.contains(&&*reason) {
                self.refused_members.insert(id.clone());
            }
            // A churn that the brake has parked has had no effect, not even in part.
            self.ended.push((id, if reason == "churn_brake" { "braked".to_owned() } else { state }));
        }
        Ok(())
    }

    /// Every churn, with its clearance.
    pub(super) async fn churns(&mut self) -> Vec<(String, Option<String>)> {
        let rows = sqlx::query("SELECT id, clearance FROM events WHERE type = 'customer.churned' ORDER BY id");
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Checks that no more churns are admitted within any window than may be, and that none is parked before as many were.
    /// Returns how many were admitted and parked since the last look.
    pub(super) async fn look_at_brake(&mut self, brake: Brake, now: Timestamp) -> Result<(usize, usize), String> {
        let limit = usize::try_from(brake.limit(None)).expect("few");
        let mut news = (0, 0);
        for (id, clearance) in self.churns().await {
            let before = self.clearances.insert(id.clone(), clearance.clone()).flatten();
            if before == clearance || clearance.as_deref() != Some("admitted") {
                continue;
            }
            let is_within = |at: Timestamp| at > now.minus(brake.window);
            // Parked for another reason and tried again, it counts once in a window.
            if self.admitted.iter().any(|(known, at)| *known == id && is_within(*at)) {
                continue;
            }
            self.admitted.retain(|(known, _)| *known != id);
            let within = self.admitted.iter().filter(|(_, at)| is_within(*at)).count();
            if within >= limit {
                return Err(format!(
                    "brake: {id} is admitted after {within} others within the window, of at most {limit}"
                ));
            }
            let last = self.admitted.last().map_or(now, |(_, at)| *at);
            self.admitted.push((id, now.max(last)));
            news.0 += 1;
        }
        for (id, _) in self.parked().await.into_iter().filter(|(_, reason)| reason == "churn_brake") {
            if self.braked.insert(id.clone()) {
                news.1 += 1;
                if self.admitted.len() < limit {
                    return Err(format!("brake: {id} is parked, and fewer than {limit} were ever admitted"));
                }
            }
        }
        Ok(news)
    }

    pub(super) async fn has_notice(&mut self, id: &str) -> bool {
        let row = sqlx::query("SELECT 1 FROM notices WHERE id = $1").bind(id);
        row.fetch_optional(&mut self.connection).await.expect("readable").is_some()
    }

    /// Parked events, with their reasons.
    pub(super) async fn parked(&mut self) -> Vec<(String, String)> {
        let rows = sqlx::query("SELECT id, reason FROM events WHERE state = 'parked' ORDER BY id");
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The customer of an event and all that is known of them, unless an applier works on them.
    pub(super) async fn customer_of(&mut self, event: &str) -> Option<(String, String)> {
        let row = sqlx::query(
            "SELECT lanes.lane, COALESCE(customers.state, '') FROM lanes LEFT JOIN customers ON customers.lane = lanes.lane \
             WHERE lanes.claimed = 0 AND lanes.lane = (SELECT lane FROM events WHERE id = $1)",
        );
        let row = row.bind(event).fetch_optional(&mut self.connection).await.expect("readable")?;
        Some((row.get(0), row.get(1)))
    }

    /// The time after `now` at which the next work becomes due that does not come round for ever. Work that is due already and
    /// was not done waits behind something else. Polls count while an alert is open.
    pub(super) async fn next_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let row = sqlx::query(
            "SELECT MIN(due) FROM (\
             SELECT ready_at AS due FROM lanes \
             UNION ALL SELECT due_at FROM events WHERE state IN ('scheduled', 'waiting') \
             UNION ALL SELECT due_at FROM notices WHERE state = 'pending' \
             UNION ALL SELECT due_at FROM watched WHERE EXISTS (SELECT 1 FROM pumps WHERE has_alert = 1) \
             UNION ALL SELECT due_at FROM duties WHERE name = 'roster' \
               AND EXISTS (SELECT 1 FROM pumps WHERE has_alert = 1)) WHERE due > $1",
        );
        let row = row.bind(now.micros()).fetch_one(&mut self.connection).await.expect("readable");
        row.get::<Option<i64>, _>(0).map(Timestamp::from_micros)
    }

    /// The reason for which the tables are not at rest; empty when they are.
    pub(super) async fn unrest(&mut self) -> String {
        let mut told = Vec::new();
        for query in [
            "SELECT state || ' ' || id || ' ' || COALESCE(reason, '') || ' due ' || due_at FROM events \
             WHERE state IN ('pending', 'scheduled', 'waiting')",
            "SELECT 'lane ' || lane || ' claimed ' || claimed || ' ready ' || COALESCE(ready_at, '-') FROM lanes \
             WHERE ready_at IS NOT NULL OR claimed = 1",
            "SELECT 'notice ' || id || ' ' || COALESCE(outcome, '') || ' due ' || due_at FROM notices WHERE state = 'pending'",
            "SELECT 'alert ' || heat_pump FROM pumps WHERE has_alert = 1",
        ] {
            let rows = sqlx::query(query).fetch_all(&mut self.connection).await.expect("readable");
            told.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        told.join("; ")
    }

    pub(super) async fn events(&mut self) -> Vec<EventRow> {
        let rows = sqlx::query("SELECT id, origin_id, state, reason FROM events WHERE origin = '/billing' ORDER BY id");
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        let row = |row: &sqlx::sqlite::SqliteRow| EventRow {
            id: row.get(0),
            origin_id: row.get(1),
            state: row.get(2),
            reason: row.get(3),
        };
        rows.iter().map(row).collect()
    }

    /// All outgoing events, in the order in which they were written.
    pub(super) async fn notices(&mut self) -> Vec<Sent> {
        let rows = sqlx::query("SELECT id, state, order_key FROM notices ORDER BY seq");
        let rows = rows.fetch_all(&mut self.connection).await.expect("readable");
        rows.iter().map(|row| Sent { id: row.get(0), state: row.get(1), line: row.get(2) }).collect()
    }
}
