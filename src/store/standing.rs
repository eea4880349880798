//! Heartbeats of replicas, and the state that they share: Podero's health, and the announced blindness of the bridge.
//!
//! The core merges and judges the values; here they become shared rows. On SQLite there is one replica, and these rows are its
//! memory over a restart.
//!
//! Before: [`crate::replica`]. After: the outbox, for the news of blindness.

use std::time::Duration;

use uuid::Uuid;

use super::db::{Connection, DbFault, Executor, ours, query};
use super::error::Error;
use super::handle::Store;
use super::memory::Beat;
use super::outbox::{self, NewNotice};
use super::shared_state::{STANDING, read, set, text_of};
use super::transaction::{Transaction, Write};
use crate::clock::{Clock, Trusted};
use crate::domain::Timestamp;
use crate::domain::alert::{Blindness, VisibilityChange};
use crate::domain::partner_health::PartnerHealth;

/// Interval of a replica's heartbeats in the store: three chances before it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(3);

const BLINDNESS: &str = "blindness";

/// The key of the trust in the clock of the replica that wrote it last.
const CLOCK: &str = "clock";

/// The shared knowledge of all replicas.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Podero's health.
    pub health: PartnerHealth,
    /// The number of living replicas, including the caller.
    pub replicas: usize,
    /// The announced blindness.
    pub announced: KnownBlindness,
}

/// The blindness whose beginning was announced and whose end was not.
#[derive(Debug, Clone)]
pub struct KnownBlindness {
    /// The open alert.
    pub blindness: Option<Blindness>,
    version: i64,
}

impl Store {
    /// Records that `replica` lives, and its knowledge of Podero; returns the shared knowledge of all.
    pub async fn share(&self, replica: Uuid, known: PartnerHealth) -> Result<Shared, Error> {
        let now = self.clock.now();
        // Every beat tries a store in trouble, so that its recovery is seen at once.
        let is_in_trouble = self.condition.look().trouble.is_some();
        let beaten_before = if is_in_trouble { now } else { now.minus(BEAT_EVERY) };
        let (clock, company) = (&self.clock, &self.inner.company);
        let (trusted, dead) = (clock.trusted(), company.dead(clock.passed()));
        let shared = self.write(Share { replica, known, now, beaten_before, trusted, dead }).await?;
        let replicas = company.look(&shared.seen, &replica.to_string(), now, clock.passed());
        Ok(Shared { health: shared.standing, replicas, announced: shared.announced })
    }

    /// Records that `replica` ends: its share of the budget is free at once.
    pub async fn leave(&self, replica: Uuid) -> Result<(), Error> {
        self.change(query("DELETE FROM replicas WHERE id = $1").bind(replica)).await?;
        Ok(())
    }

    /// Stores the announcement about blindness together with its notice. Returns `false` when another replica was first, and then
    /// nothing is written.
    pub async fn announce(&self, read: &KnownBlindness, change: VisibilityChange) -> Result<bool, Error> {
        let seq = self.clock.fresh_id().to_string();
        self.write(Announce { read: read.version, change, seq, now: self.clock.now() }).await
    }
}

/// The open alert that the bridge has lost its visibility.
pub(super) async fn open_blindness(on: impl Executor) -> Result<Option<Blindness>, DbFault> {
    let (blindness, _) = read::<Option<Blindness>>(on, BLINDNESS).await?;
    Ok(blindness.flatten())
}

/// Forgets all replicas: a SQLite file has one process, and it is this one.
pub(super) async fn forget_all(connection: &mut Connection) -> Result<(), DbFault> {
    query("DELETE FROM replicas").execute(connection).await?;
    Ok(())
}

/// Continues the clock with the trust of the last heartbeat. The row is made at a start, so that heartbeats only change it.
pub(super) async fn resume_clock(connection: &mut Connection, clock: &Clock, works: bool) -> Result<(), DbFault> {
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

/// Stores the clock's trust. Skips a row that another replica is writing: a heartbeat waits for no other.
async fn keep_clock(tx: &mut Transaction<'_>, trusted: &Trusted) -> Result<(), DbFault> {
    let keep = ours(format!(
        "UPDATE shared SET value = $2, version = version + 1 WHERE name IN (SELECT name FROM shared WHERE name = $1{})",
        tx.db.skip_locked()
    ));
    query(keep).with((CLOCK, text_of(trusted))).execute(tx).await?;
    Ok(())
}

struct Share {
    replica: Uuid,
    known: PartnerHealth,
    now: Timestamp,
    /// The time limit of the last beat: an older one is renewed.
    beaten_before: Timestamp,
    trusted: Trusted,
    /// Rows to remove, unless they have changed.
    dead: Vec<Beat>,
}

/// The content of the store after a heartbeat.
struct Beaten {
    standing: PartnerHealth,
    announced: KnownBlindness,
    /// The heartbeats of all replicas.
    seen: Vec<Beat>,
    /// `true` if a beat was written, too.
    has_beaten: bool,
}

impl Write for Share {
    type Output = Beaten;
    const IS_BEAT: bool = true;

    fn proves_writing(&self, beaten: &Self::Output) -> bool {
        beaten.has_beaten
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        // A beat in the future is from before the clock was set back.
        let sql = "INSERT INTO replicas (id, seen_at) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET seen_at = $2 WHERE replicas.seen_at <= $3 OR replicas.seen_at > $2";
        let beats = query(sql).with((self.replica, self.now, self.beaten_before)).execute(&mut *tx).await?;
        if beats > 0 {
            keep_clock(tx, &self.trusted).await?;
            if let Some(tables) = tx.db.try_tables() {
                tx.connection.batch(tables).await?;
            }
        }
        for (id, seen_at) in &self.dead {
            let remove = query("DELETE FROM replicas WHERE id = $1 AND seen_at = $2").with((id, *seen_at));
            remove.execute(&mut *tx).await?;
        }
        let seen = query("SELECT id, seen_at FROM replicas").fetch_all(&mut *tx).await?;
        let (known, version) = read::<PartnerHealth>(&mut *tx, STANDING).await?;
        let standing =
            known.unwrap_or_default().plausible(self.now).merge(self.known.plausible(self.now)).looked(self.now);
        if known != Some(standing) {
            // If another replica wins, the next beat merges it again.
            set(&mut *tx, STANDING, &standing, version).await?;
        }
        let (blindness, version) = read::<Option<Blindness>>(tx, BLINDNESS).await?;
        let announced = KnownBlindness { blindness: blindness.flatten(), version };
        Ok(Beaten { standing, announced, seen, has_beaten: beats > 0 })
    }
}

struct Announce {
    read: i64,
    change: VisibilityChange,
    seq: String,
    now: Timestamp,
}

impl Write for Announce {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let is_first = set(&mut *tx, BLINDNESS, &self.change.blindness, self.read).await?;
        if is_first {
            let new = NewNotice { notice: &self.change.notice, customer: None, seq: &self.seq, at: self.now };
            outbox::insert(tx, new).await?;
        }
        Ok(is_first)
    }
}
