//! Looks at the tables from outside, on a connection of its own: what must hold at every moment, and what is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::brake::Brake;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

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
    /// Clearances, as they were looked at last.
    clearances: BTreeMap<String, Option<String>>,
    /// Churns that were admitted, with the moment; none is older than the one before.
    admitted: Vec<(String, Timestamp)>,
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
            clearances: BTreeMap::new(),
            admitted: Vec::new(),
        }
    }

    /// Looks at what was committed since the last look. The error is a broken promise.
    pub(super) async fn look(&mut self) -> Result<Vec<String>, String> {
        let mut news = Vec::new();
        self.claims(&mut news).await?;
        self.ends(&mut news).await?;
        let pending = sqlx::query("SELECT id FROM events WHERE state = 'pending'").fetch_all(&mut self.connection);
        self.pending = pending.await.expect("readable").iter().map(|row| row.get(0)).collect();
        Ok(news)
    }

    /// I2 and the order of a lane: what is begun is the oldest that was there, or what was begun before.
    async fn claims(&mut self, news: &mut Vec<String>) -> Result<(), String> {
        let rows = sqlx::query("SELECT lane, begun, fence FROM lanes WHERE claimed = 1 AND begun IS NOT NULL");
        for row in rows.fetch_all(&mut self.connection).await.expect("readable") {
            let (lane, begun, fence): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            let before = self.begun.insert(lane.clone(), (begun.clone(), fence));
            if before.as_ref() == Some(&(begun.clone(), fence)) {
                continue;
            }
            news.push(format!("{lane} is claimed for {begun} under {fence}"));
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
            if let (false, Some(older)) = (was_begun, overtaken) {
                return Err(format!("order: {begun} of {lane} is begun before the older {older}, which was there"));
            }
        }
        Ok(())
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
