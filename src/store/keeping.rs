//! How long things are kept, and that the file is whole.
//!
//! Retention removes what is settled and old, a little at a time through the writer, so that nobody waits behind it.
//! What has no end yet (pending, waiting, scheduled, parked) and what is known of a customer stay however old they are.
//!
//! Before: [`crate::app`] and [`crate::cli`]. After: the disk.

use std::time::Duration;

use super::condition::SERVER_DAMAGE_AGE_MAX;
use super::db::{Connection, Db, Dialect, Fault, ours, query};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::{EventId, Timestamp};

/// A SQLite file up to here is checked before anything is done with it, which takes some tenths of a second. A larger one
/// would hold the start up, so it is checked beside the work.
const CHECKED_FIRST_BYTES_MAX: u64 = 64 << 20;

/// Interval of the checks of a damaged file, where one could not be made: the file is locked, or no descriptor is free.
const CHECK_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// Limit of the time for which readers are waited for after an erasure. The bridge's own writes wait as well.
const SCRUB_WAIT_MAX: Duration = Duration::from_secs(2);

/// Limit of the same while the bridge works, which tries again and again.
const SCRUB_WAIT_MAX_AT_WORK: Duration = Duration::from_millis(200);

/// The row that says that the log still holds what was erased.
const OWED_SCRUB: &str = "log_holds_erased";

/// Rows of a kind that one transaction forgets: small enough that doors and appliers do not wait long behind it.
const FORGOTTEN_AT_ONCE: usize = 200;

impl Store {
    /// Removes some of what was settled longer than `retention` ago: events (applied, superseded, skipped) with their
    /// calls, outgoing events that are out or had nowhere to go, ended retries of many. `true`: there may be more. A clock that
    /// jumped ahead makes nothing old.
    pub async fn forget(&self, retention: Duration) -> Result<bool, Error> {
        let now = self.0.clock.steady_now().micros();
        let before = now.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
        self.write(Forget { before: Timestamp::from_micros(before) }).await
    }

    /// Checks a SQLite file that was too large to be checked when it was opened; `Ok` at once for any other store. An error
    /// is [`Error::Damaged`], or the file could not be read. Dropping the future ends the check.
    pub async fn examine(&self) -> Result<(), Error> {
        if self.0.is_unexamined { check_file(self.0.db.connect().await?).await } else { Ok(()) }
    }

    /// Waits until a statement meets damage, and then checks all of a SQLite file. When nothing is found the store is well
    /// again; an error is [`Error::Damaged`]. A server's damage is its operator's to check: it is over when no statement has
    /// met it for long.
    pub async fn examine_when_damage_is_seen(&self) -> Result<(), Error> {
        self.0.condition.until_damage_is_seen().await;
        match self.0.dialect {
            Dialect::Postgres => self.until_no_damage_is_met().await,
            Dialect::Sqlite => self.check_until_known().await?,
        }
        self.0.condition.found_whole();
        Ok(())
    }

    async fn until_no_damage_is_met(&self) {
        while let Some(rest) =
            SERVER_DAMAGE_AGE_MAX.checked_sub(self.0.condition.damage_age()).filter(|rest| !rest.is_zero())
        {
            let _ = tokio::time::timeout(rest, std::future::pending::<()>()).await;
        }
    }

    /// A check that fails for another reason than damage says nothing about the file.
    async fn check_until_known(&self) -> Result<(), Error> {
        loop {
            let checking = async {
                let connection = self.0.db.connect().await.map_err(of_file)?;
                check_all(connection, "PRAGMA integrity_check(1)").await
            };
            match checking.await {
                Err(error) if !matches!(error, Error::Damaged(_)) => {
                    tracing::warn!(%error, "the damaged file could not be checked; it is tried again");
                }
                known => return known,
            }
            let _ = tokio::time::timeout(CHECK_AGAIN_EVERY, std::future::pending::<()>()).await;
        }
    }

    /// On SQLite: moves what is in the log next to the file into it and empties the log, so that what was deleted is in
    /// neither. `false`: a reader was in the way; the bridge that works on the file tries again until it is done.
    pub async fn scrub(&self) -> Result<bool, Error> {
        let owed = self.owed_scrub().await?;
        self.scrub_within(owed, SCRUB_WAIT_MAX).await
    }

    /// [`Store::scrub`] if an erasure still wants it; the writer waits for a moment only. `None`: none does.
    pub async fn scrub_if_owed(&self) -> Result<Option<bool>, Error> {
        match self.owed_scrub().await? {
            None => Ok(None),
            owed => Ok(Some(self.scrub_within(owed, SCRUB_WAIT_MAX_AT_WORK).await?)),
        }
    }

    /// The version of the row that says so.
    async fn owed_scrub(&self) -> Result<Option<i64>, Error> {
        let version = query("SELECT version FROM shared WHERE name = $1").bind(OWED_SCRUB);
        Ok(version.fetch_optional(&self.0.readers).await?)
    }

    async fn scrub_within(&self, owed: Option<i64>, wait_max: Duration) -> Result<bool, Error> {
        let is_clean = self.0.db.scrub(wait_max).await?;
        if let (true, Some(version)) = (is_clean, owed) {
            self.write(Scrubbed { version }).await?;
        }
        Ok(is_clean)
    }
}

/// Whether a SQLite file is what it was written as. Never repairs: what is there is evidence, and a backup is better.
pub(super) async fn check_file(connection: Connection) -> Result<(), Error> {
    check_all(connection, "PRAGMA quick_check(1)").await
}

async fn check_all(connection: Connection, how: &'static str) -> Result<(), Error> {
    let found = connection.rows_apart(query(how)).await.map_err(of_file)?;
    let found: String = found.into_iter().next().ok_or(Fault::Missing)?.read()?;
    if found == "ok" { Ok(()) } else { Err(Error::Damaged(found.lines().collect::<Vec<_>>().join(" "))) }
}

/// Whether the check of this store is to be made beside the work.
pub(super) fn is_large(db: &Db) -> bool {
    db.file_bytes().is_some_and(|bytes| bytes > CHECKED_FIRST_BYTES_MAX)
}

/// An error while a SQLite file is opened: damaged, or another.
pub(super) fn of_file(fault: Fault) -> Error {
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    if fault.sqlite_code().is_some_and(|code| matches!(code, 11 | 26)) {
        Error::Damaged(fault.to_string())
    } else {
        fault.into()
    }
}

/// Says that the log is to be emptied; in the transaction of the erasure, since its process may be gone before it is done.
pub(super) async fn owe_scrub(db: &Db, connection: &mut Connection) -> Result<(), Fault> {
    match db.dialect {
        Dialect::Postgres => {}
        Dialect::Sqlite => {
            query(
                "INSERT INTO shared (name, value, version) VALUES ($1, 'true', 1) \
                 ON CONFLICT (name) DO UPDATE SET version = shared.version + 1",
            )
            .bind(OWED_SCRUB)
            .execute(connection)
            .await?;
        }
    }
    Ok(())
}

struct Scrubbed {
    version: i64,
}

impl Write for Scrubbed {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        // Of another version: another erasure has come since.
        let done = query("DELETE FROM shared WHERE name = $1 AND version = $2").with((OWED_SCRUB, self.version));
        done.execute(connection).await?;
        Ok(())
    }
}

struct Forget {
    before: Timestamp,
}

impl Write for Forget {
    type Output = bool;

    fn weight(&self) -> usize {
        2 * FORGOTTEN_AT_ONCE
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let events = ours(format!(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE (state = 'applied' OR state = 'superseded' OR state = 'skipped') \
             AND settled_at < $1 ORDER BY settled_at LIMIT $2{}) RETURNING id",
            db.skip_locked()
        ));
        let events = query(events).with((self.before, FORGOTTEN_AT_ONCE));
        let events: Vec<EventId> = events.fetch_all(&mut *connection).await?;
        for id in &events {
            query("DELETE FROM calls WHERE event_id = $1").bind(*id).execute(&mut *connection).await?;
        }
        let notices = ours(format!(
            "DELETE FROM notices WHERE (id, target) IN (SELECT id, target FROM notices \
             WHERE state IN ('published', 'kept') AND created_at < $1 AND COALESCE(published_at, created_at) < $1 \
             ORDER BY created_at LIMIT $2{})",
            db.skip_locked()
        ));
        let notices = query(notices).with((self.before, FORGOTTEN_AT_ONCE));
        let notices = notices.execute(&mut *connection).await?;
        query("DELETE FROM bulk_retries WHERE state <> 'running' AND ended_at < $1")
            .bind(self.before)
            .execute(connection)
            .await?;
        Ok(events.len() == FORGOTTEN_AT_ONCE || usize::try_from(notices).unwrap_or(0) == FORGOTTEN_AT_ONCE)
    }
}
