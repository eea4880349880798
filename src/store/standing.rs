//! What replicas tell each other: that they live, how Podero stands, and whether somebody was told that the bridge is
//! blind.
//!
//! Values are merged and judged by the core; here they are rows with a version, written only by whoever read the
//! version before (compare and set). Whoever loses looks again. On SQLite there is one replica, and all this is its
//! memory over a restart.
//!
//! Before: [`crate::replica`]. After: the outbox, for the news of blindness.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::closed_sets::Target;
use super::db::{Connection, Db, Executor, Fault, ours, query};
use super::outbox;
use super::writer::Write;
use super::{Error, Store};
use crate::clock::{Clock, Trusted};
use crate::domain::Timestamp;
use crate::domain::alert::{Blindness, VisibilityChange};
use crate::domain::partner_health::PartnerHealth;

/// A replica that has not been seen for so long is dead, and its share of the budget falls to the others. Until then
/// the budget is used less than it could be, never more: a replica that cannot write here cannot claim anything either.
pub const REPLICA_LIFE: Duration = Duration::from_secs(10);

/// How often a replica is written down as living: three chances before it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(3);

/// Rows of the dead are kept for so long, for whoever looks into the table after a crash.
const DEAD_KEPT: Duration = Duration::from_secs(60 * 60);

const STANDING: &str = "standing";
const BLINDNESS: &str = "blindness";

/// The trust in the clock of the replica that wrote it last.
const CLOCK: &str = "clock";

/// What all replicas know.
#[derive(Debug, Clone)]
pub struct Shared {
    /// How Podero stands.
    pub health: PartnerHealth,
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
    pub async fn share(&self, replica: Uuid, known: PartnerHealth) -> Result<Shared, Error> {
        let now = self.0.clock.now();
        // A store in trouble is tried with each beat, so that its recovery is seen at once.
        let is_in_trouble = self.0.condition.look().trouble.is_some();
        let beaten_before = if is_in_trouble { now } else { now.minus(BEAT_EVERY) };
        let (clock, company) = (&self.0.clock, &self.0.company);
        let (trusted, dead) = (clock.trusted(), company.dead(clock.passed()));
        let shared = self.write(Share { replica, known, now, beaten_before, trusted, dead }).await?;
        let replicas = company.look(&shared.seen, &replica.to_string(), now, clock.passed());
        Ok(Shared { health: shared.standing, replicas, told: shared.told })
    }

    /// Says that `replica` ends: its share of the budget is free at once.
    pub async fn leave(&self, replica: Uuid) -> Result<(), Error> {
        self.write(Leave { replica }).await
    }

    /// Writes down what was told of blindness, and the notice with it; `false` when another replica was first, and then
    /// nothing is written.
    pub async fn tell(&self, read: &Told, change: VisibilityChange) -> Result<bool, Error> {
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
    let Some((text, version)): Option<(String, i64)> = row else { return Ok((None, 0)) };
    Ok((serde_json::from_str(&text).ok(), version))
}

/// How Podero stands by what all replicas know, as far as it can be true now.
pub(super) async fn shared_standing(on: impl Executor, now: Timestamp) -> Result<PartnerHealth, Fault> {
    let (known, _) = read::<PartnerHealth>(on, STANDING).await?;
    Ok(known.unwrap_or_default().plausible(now))
}

/// `false`: somebody else has written since.
pub(super) async fn set(
    connection: &mut Connection,
    name: &'static str,
    value: &impl Serialize,
    read: i64,
) -> Result<bool, Fault> {
    let written = query(
        "INSERT INTO shared (name, value, version) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = $2, version = $3 WHERE shared.version = $4",
    )
    .with((name, text_of(value), read + 1, read))
    .execute(connection)
    .await?;
    Ok(written == 1)
}

/// The replicas whose heartbeats this process has seen. Their clocks may differ, so it judges by the time that passed for itself
/// since their rows changed.
#[derive(Debug, Default)]
pub(super) struct Company(Mutex<BTreeMap<String, Sighting>>);

#[derive(Debug, Clone, Copy)]
struct Sighting {
    seen_at: i64,
    /// By the time that passed; further each time that its row has changed.
    lives_until: Duration,
}

impl Company {
    /// Takes in all rows, and counts the replicas that live, `own` among them.
    fn look(&self, rows: &[(String, i64)], own: &str, now: Timestamp, passed: Duration) -> usize {
        let mut known = self.0.lock().expect("no code panics while it holds the replicas");
        let sighting = |(id, seen_at): &(String, i64)| {
            let lives_for = match known.get(id) {
                Some(before) if before.seen_at == *seen_at => return (id.clone(), *before),
                Some(_) => REPLICA_LIFE,
                // Seen for the first time; one in the future has a chance to change.
                None => REPLICA_LIFE.saturating_sub(now.since(Timestamp::from_micros(*seen_at))),
            };
            (id.clone(), Sighting { seen_at: *seen_at, lives_until: passed + lives_for })
        };
        let seen: BTreeMap<String, Sighting> = rows.iter().map(sighting).collect();
        let others = seen.iter().filter(|(id, sighting)| *id != own && passed < sighting.lives_until).count();
        *known = seen;
        others + 1
    }

    /// The rows of those who have been dead for long.
    fn dead(&self, passed: Duration) -> Vec<(String, i64)> {
        let known = self.0.lock().expect("no code panics while it holds the replicas");
        let dead = known.iter().filter(|(_, sighting)| passed >= sighting.lives_until + DEAD_KEPT);
        dead.map(|(id, sighting)| (id.clone(), sighting.seen_at)).collect()
    }
}

/// Lets the clock go on with the trust of the last heartbeat. The row is made at a start, so that heartbeats only change it.
pub(super) async fn resume_clock(connection: &mut Connection, clock: &Clock, works: bool) -> Result<(), Fault> {
    if let (Some(saved), _) = read::<Trusted>(&mut *connection, CLOCK).await? {
        clock.resume(saved);
    }
    if works {
        query("INSERT INTO shared (name, value, version) VALUES ($1, $2, 1) ON CONFLICT (name) DO NOTHING")
            .with((CLOCK, text_of(&clock.trusted())))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Passes over a row that another replica writes at this moment: a heartbeat waits for nobody's.
async fn keep_clock(db: &Db, connection: &mut Connection, trusted: &Trusted) -> Result<(), Fault> {
    let keep = ours(format!(
        "UPDATE shared SET value = $2, version = version + 1 WHERE name IN (SELECT name FROM shared WHERE name = $1{})",
        db.skip_locked()
    ));
    query(keep).with((CLOCK, text_of(trusted))).execute(connection).await?;
    Ok(())
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is shared has only serialisable fields")
}

struct Share {
    replica: Uuid,
    known: PartnerHealth,
    now: Timestamp,
    /// A beat is written when the last one is no younger.
    beaten_before: Timestamp,
    trusted: Trusted,
    /// Rows to remove, unless they have changed.
    dead: Vec<(String, i64)>,
}

/// Content of the store after a heartbeat.
struct Beaten {
    standing: PartnerHealth,
    told: Told,
    /// The heartbeats of all replicas.
    seen: Vec<(String, i64)>,
    /// Whether a beat was written, too.
    has_beaten: bool,
}

impl Write for Share {
    type Output = Beaten;
    const IS_BEAT: bool = true;

    fn proves_writing(&self, beaten: &Self::Output) -> bool {
        beaten.has_beaten
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        // One in the future is from before the clock was set back.
        let beats = query(
            "INSERT INTO replicas (id, seen_at) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET seen_at = $2 WHERE replicas.seen_at <= $3 OR replicas.seen_at > $2",
        )
        .with((self.replica, self.now, self.beaten_before))
        .execute(&mut *connection)
        .await?;
        if beats > 0 {
            keep_clock(db, connection, &self.trusted).await?;
            if let Some(tables) = db.try_tables() {
                connection.batch(tables).await?;
            }
        }
        for (id, seen_at) in &self.dead {
            let remove = query("DELETE FROM replicas WHERE id = $1 AND seen_at = $2").with((id, *seen_at));
            remove.execute(&mut *connection).await?;
        }
        let seen = query("SELECT id, seen_at FROM replicas").fetch_all(&mut *connection).await?;
        let (known, version) = read::<PartnerHealth>(&mut *connection, STANDING).await?;
        let standing =
            known.unwrap_or_default().plausible(self.now).merge(self.known.plausible(self.now)).looked(self.now);
        if known != Some(standing) {
            // Lost to another replica, it is merged again with the next beat.
            set(connection, STANDING, &standing, version).await?;
        }
        let (blindness, version) = read::<Option<Blindness>>(connection, BLINDNESS).await?;
        let told = Told { blindness: blindness.flatten(), version };
        Ok(Beaten { standing, told, seen, has_beaten: beats > 0 })
    }
}

struct Leave {
    replica: Uuid,
}

impl Write for Leave {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("DELETE FROM replicas WHERE id = $1").bind(self.replica).execute(connection).await?;
        Ok(())
    }
}

struct Tell {
    read: i64,
    change: VisibilityChange,
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
