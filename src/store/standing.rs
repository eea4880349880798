//! What replicas tell each other: that they live, how Podero stands, and whether somebody was told that the bridge is
//! blind.
//!
//! Values are merged and judged by the core; here they are rows with a version, written only by whoever read the
//! version before (compare and set). Whoever loses looks again. On SQLite there is one replica, and all this is its
//! memory over a restart.
//!
//! Before: [`crate::replica`]. After: the outbox, for the news of blindness.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::db::{Connection, Db, Executor, Fault, query};
use super::outbox::{self, Target};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::Timestamp;
use crate::domain::alert::{Blindness, SightChange};
use crate::domain::standing::Standing;

/// A replica that has not been seen for so long is dead, and its share of the budget falls to the others. Until then
/// the budget is used less than it could be, never more: a replica that cannot write here cannot claim anything either.
pub const REPLICA_LIFE: Duration = Duration::from_secs(10);

/// How often a replica is written down as living: three chances before it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(3);

/// Rows of the dead are kept for so long, for whoever looks into the table after a crash.
const DEAD_KEPT: Duration = Duration::from_secs(60 * 60);

const STANDING: &str = "standing";
const BLINDNESS: &str = "blindness";

/// What all replicas know.
#[derive(Debug, Clone)]
pub struct Shared {
    /// How Podero stands.
    pub standing: Standing,
    /// How many replicas live, the one that asks among them.
    pub replicas: usize,
    /// The open alert.
    pub told: Told,
}

/// Whether blindness was told and not yet its end.
#[derive(Debug, Clone)]
pub struct Told {
    /// The open alert.
    pub blindness: Option<Blindness>,
    version: i64,
}

impl Store {
    /// Says that `replica` lives and what it knows of Podero; gives back what all know together.
    pub async fn share(&self, replica: Uuid, known: Standing) -> Result<Shared, Error> {
        let now = self.0.clock.now();
        // A store in trouble is tried with each beat, so that its recovery is seen at once.
        let is_in_trouble = self.0.condition.look().trouble.is_some();
        let beaten_before = if is_in_trouble { now } else { now.minus(BEAT_EVERY) };
        Ok(self.write(Share { replica, known, now, beaten_before }).await?.0)
    }

    /// Says that `replica` ends: its share of the budget is free at once.
    pub async fn leave(&self, replica: Uuid) -> Result<(), Error> {
        self.write(Leave { replica }).await
    }

    /// Writes down what was told of blindness, and the notice with it; `false` when another replica was first, and then
    /// nothing is written.
    pub async fn tell(&self, read: &Told, change: SightChange) -> Result<bool, Error> {
        let clock = &self.0.clock;
        let (place, targets) = (clock.fresh_id().to_string(), self.0.targets.clone());
        self.write(Tell { read: read.version, change, place, targets, now: clock.now() }).await
    }
}

/// The open alert that the bridge cannot see.
pub(super) async fn open_blindness(on: impl Executor) -> Result<Option<Blindness>, Fault> {
    let (blindness, _) = read::<Option<Blindness>>(on, BLINDNESS).await?;
    Ok(blindness.flatten())
}

/// Nobody else lives: the file is ours alone.
pub(super) async fn forget_all(connection: &mut Connection) -> Result<(), Fault> {
    query("DELETE FROM replicas").execute(connection).await?;
    Ok(())
}

/// The value of that name and its version; nothing, for one that is not there or that this version cannot read: what
/// is shared here is learnt anew within seconds.
pub(super) async fn read<T: DeserializeOwned>(
    on: impl Executor,
    name: &'static str,
) -> Result<(Option<T>, i64), Fault> {
    let row = query("SELECT value, version FROM shared WHERE name = $1").bind(name).fetch_optional(on).await?;
    let Some(row) = row else { return Ok((None, 0)) };
    let text: String = row.try_get(0)?;
    Ok((serde_json::from_str(&text).ok(), row.try_get(1)?))
}

/// How Podero stands by what all replicas know, as far as it can be true now.
pub(super) async fn shared_standing(on: impl Executor, now: Timestamp) -> Result<Standing, Fault> {
    let (known, _) = read::<Standing>(on, STANDING).await?;
    Ok(known.unwrap_or_default().plausible(now))
}

/// `false`: somebody else has written since.
pub(super) async fn set(
    connection: &mut Connection,
    name: &'static str,
    value: &impl Serialize,
    read: i64,
) -> Result<bool, Fault> {
    let text = serde_json::to_string(value).expect("what is shared has only serialisable fields");
    let written = query(
        "INSERT INTO shared (name, value, version) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = $2, version = $3 WHERE shared.version = $4",
    )
    .bind(name)
    .bind(text)
    .bind(read + 1)
    .bind(read)
    .execute(connection)
    .await?;
    Ok(written == 1)
}

struct Share {
    replica: Uuid,
    known: Standing,
    now: Timestamp,
    /// A beat is written when the last one is no younger.
    beaten_before: Timestamp,
}

impl Write for Share {
    /// Whether a beat was written, too.
    type Output = (Shared, bool);
    const IS_BEAT: bool = true;

    fn proves_writing(&self, (_, has_beaten): &Self::Output) -> bool {
        *has_beaten
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        // One in the future is from before the clock was set back.
        let beats = query(
            "INSERT INTO replicas (id, seen_at) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET seen_at = $2 WHERE replicas.seen_at <= $3 OR replicas.seen_at > $2",
        )
        .bind(self.replica.to_string())
        .bind(self.now.micros())
        .bind(self.beaten_before.micros())
        .execute(&mut *connection)
        .await?;
        if beats > 0
            && let Some(tables) = db.try_tables()
        {
            connection.batch(tables).await?;
        }
        // A replica seen in the future died before the clock was set back, or its own clock is ahead: then it is no company.
        let latest = Timestamp::latest(self.now, Duration::ZERO).micros();
        query("DELETE FROM replicas WHERE seen_at < $1 OR seen_at > $2")
            .bind(self.now.minus(DEAD_KEPT).micros())
            .bind(latest)
            .execute(&mut *connection)
            .await?;
        let row = query("SELECT COUNT(*) FROM replicas WHERE seen_at > $1 AND seen_at <= $2")
            .bind(self.now.minus(REPLICA_LIFE).micros())
            .bind(latest)
            .fetch_one(&mut *connection)
            .await?;
        let replicas: i64 = row.try_get(0)?;
        let (known, version) = read::<Standing>(&mut *connection, STANDING).await?;
        let standing =
            known.unwrap_or_default().plausible(self.now).merge(self.known.plausible(self.now)).looked(self.now);
        if known != Some(standing) {
            // Lost to another replica, it is merged again with the next beat.
            set(connection, STANDING, &standing, version).await?;
        }
        let (blindness, version) = read::<Option<Blindness>>(connection, BLINDNESS).await?;
        let told = Told { blindness: blindness.flatten(), version };
        let replicas = usize::try_from(replicas).unwrap_or(1).max(1);
        Ok((Shared { standing, replicas, told }, beats > 0))
    }
}

struct Leave {
    replica: Uuid,
}

impl Write for Leave {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("DELETE FROM replicas WHERE id = $1").bind(self.replica.to_string()).execute(connection).await?;
        Ok(())
    }
}

struct Tell {
    read: i64,
    change: SightChange,
    place: String,
    targets: Vec<Target>,
    now: Timestamp,
}

impl Write for Tell {
    type Output = bool;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let is_first = set(connection, BLINDNESS, &self.change.blindness, self.read).await?;
        if is_first {
            outbox::insert(connection, &self.change.notice, None, &self.targets, &self.place, self.now).await?;
        }
        Ok(is_first)
    }
}
