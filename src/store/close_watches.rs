//! Heat pumps whose owner has just got a link: polled every few seconds for a while, to see them come back.
//!
//! A row is due every few seconds; the replica that takes it makes its user due for a poll, before all that are only due. So a close
//! watch survives replicas, and its polls are polls like any other, within the budget of requests.
//!
//! Before: [`crate::admin`] has made a link. After: [`crate::store::polls`], where the user is due.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::db::{DbFault, ours, query, row};
use super::error::Error;
use super::handle::{Store, StoreView};
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;

/// Length of a close watch: a customer who reconnects a heat pump while an agent waits is done within minutes.
pub const CLOSE_WATCH_TIME: Duration = Duration::from_mins(15);

/// Interval of the polls of a close watch: an agent on the telephone waits for the next one.
pub const CLOSE_POLL_EVERY: Duration = Duration::from_secs(5);

/// Limit of the close watches at once: four polls a second, of a budget of tens.
pub const CLOSE_WATCHES_MAX: u64 = 20;

/// Time for which the row of a close watch is kept after its end, for a person who looks how it went.
const KEPT: Duration = Duration::from_hours(24);

/// Time by which a user of a close watch is due before others.
const FIRST: Duration = Duration::from_hours(1);

/// The row that new close watches lock, so that no two replicas begin the last one that may be.
const LOCK: &str = "close_watches";

row! {
    /// A close watch over a heat pump.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
    pub struct CloseWatchView {
        /// When the link was made.
        pub made_at: Timestamp = "made_at",
        /// Until when it is polled often; it ends earlier when it is seen connected.
        pub until: Timestamp = "until",
        /// When a poll saw it connected again; null: none has yet.
        pub connected_at: Option<Timestamp> = "connected_at",
    }
}

/// The one who was given the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedFor {
    /// An agent, who waits for the heat pump.
    Agent,
    /// The owner, on a page of the bridge.
    Owner,
}

/// The outcome of a look at the close watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseLook {
    /// Users who were made due.
    pub due: usize,
    /// Heat pumps that are connected again after their owner asked for the link.
    pub back_by_owner: usize,
}

impl StoreView {
    /// The close watch over a heat pump, for a day after its end.
    pub async fn close_watch(&self, heat_pump: &str) -> Result<Option<CloseWatchView>, Error> {
        let one = ours(format!("SELECT {} FROM close_watches WHERE heat_pump = $1", CloseWatchView::COLUMNS));
        Ok(query(one).bind(heat_pump.to_ascii_lowercase()).fetch_optional(&self.readers).await?)
    }
}

impl Store {
    /// Begins a close watch over a heat pump, whose owner has just got a link, or begins it again. Returns its end; `None`: as many
    /// run as may.
    pub async fn watch_closely(
        &self,
        heat_pump: Uuid,
        user: Uuid,
        watched_for: WatchedFor,
    ) -> Result<Option<Timestamp>, Error> {
        let now = self.clock.now();
        self.write(Begin { heat_pump, user, watched_for, now }).await
    }

    /// Makes the users of close watches due whose next poll has come, and ends the watches that are over.
    pub async fn take_close_watches(&self) -> Result<CloseLook, Error> {
        let now = self.clock.now();
        let due =
            query("SELECT 1 FROM close_watches WHERE (due_at <= $1 OR due_at > $2) AND due_at IS NOT NULL LIMIT 1");
        if !due.with((now, latest_due(now))).finds(&self.readers).await? {
            return Ok(CloseLook::default());
        }
        self.write(TakeDue { now }).await
    }
}

/// The latest moment at which a close poll can be due; one that a clock ahead has written is due now.
fn latest_due(now: Timestamp) -> Timestamp {
    Timestamp::latest(now, CLOSE_POLL_EVERY)
}

struct Begin {
    heat_pump: Uuid,
    user: Uuid,
    watched_for: WatchedFor,
    now: Timestamp,
}

impl Write for Begin {
    type Output = Option<Timestamp>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        let lock =
            "INSERT INTO duties (name, due_at) VALUES ($1, 0) ON CONFLICT (name) DO UPDATE SET due_at = duties.due_at";
        query(lock).bind(LOCK).execute(&mut *tx).await?;
        query("DELETE FROM close_watches WHERE until <= $1").bind(self.now.minus(KEPT)).execute(&mut *tx).await?;
        let others =
            query("SELECT COUNT(*) FROM close_watches WHERE due_at IS NOT NULL AND until > $1 AND heat_pump <> $2");
        let others: u64 = others.with((self.now, self.heat_pump)).fetch_one(&mut *tx).await?;
        if others >= CLOSE_WATCHES_MAX {
            return Ok(None);
        }
        let until = self.now.plus(CLOSE_WATCH_TIME);
        let by_owner = i64::from(self.watched_for == WatchedFor::Owner);
        query(
            "INSERT INTO close_watches (heat_pump, user_id, made_at, until, due_at, connected_at, by_owner) \
             VALUES ($1, $2, $3, $4, $5, NULL, $6) ON CONFLICT (heat_pump) DO UPDATE \
             SET user_id = $2, made_at = $3, until = $4, due_at = $5, connected_at = NULL, by_owner = $6",
        )
        .with((self.heat_pump, self.user, self.now, until, self.now.plus(CLOSE_POLL_EVERY), by_owner))
        .execute(tx)
        .await?;
        Ok(Some(until))
    }
}

struct TakeDue {
    now: Timestamp,
}

impl Write for TakeDue {
    const ONLY_IF_AWAITED: bool = true;
    type Output = CloseLook;

    fn weight(&self) -> usize {
        usize::try_from(CLOSE_WATCHES_MAX).unwrap_or(usize::MAX)
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<CloseLook, DbFault> {
        let (now, latest) = (self.now, latest_due(self.now));
        let back = query(
            "UPDATE close_watches SET due_at = NULL, connected_at = $1 WHERE due_at IS NOT NULL AND made_at < COALESCE(\
             (SELECT checked_at FROM pumps WHERE pumps.heat_pump = close_watches.heat_pump AND knowledge = 'connected'), 0) \
             RETURNING by_owner",
        );
        let back: Vec<i64> = back.bind(now).fetch_all(&mut *tx).await?;
        query("UPDATE close_watches SET due_at = NULL WHERE due_at IS NOT NULL AND (until <= $1 OR until > $2)")
            .with((now, Timestamp::latest(now, CLOSE_WATCH_TIME)))
            .execute(&mut *tx)
            .await?;
        let take = query(
            "UPDATE close_watches SET due_at = $3 WHERE (due_at <= $1 OR due_at > $2) AND due_at IS NOT NULL RETURNING user_id",
        );
        let users: Vec<String> = take.with((now, latest, now.plus(CLOSE_POLL_EVERY))).fetch_all(&mut *tx).await?;
        for user in &users {
            query("UPDATE watched SET due_at = $2 WHERE user_id = $1 AND due_at > $2")
                .with((user, now.minus(FIRST)))
                .execute(&mut *tx)
                .await?;
        }
        Ok(CloseLook { due: users.len(), back_by_owner: back.into_iter().filter(|by_owner| *by_owner != 0).count() })
    }
}
