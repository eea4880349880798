//! How long things are kept, and that the file is whole.
//!
//! Retention removes what is settled and old, a little at a time through the writer, so that nobody waits behind it.
//! What has no end yet (pending, waiting, scheduled, parked) and what is known of a customer stay however old they are.
//!
//! Before: [`crate::app`] and [`crate::cli`]. After: the disk.

use std::time::Duration;

use super::db::{Connection, Db, Dialect, Fault, ours, query};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::Timestamp;

/// A SQLite file up to here is checked before anything is done with it, which takes some tenths of a second. A larger one
/// would hold the start up, so it is checked beside the work.
const CHECKED_FIRST_BYTES_MAX: u64 = 64 << 20;

/// Rows of a kind that one transaction forgets: small enough that doors and appliers do not wait long behind it.
const FORGOTTEN_AT_ONCE: i64 = 200;

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
        match &self.0.unexamined {
            Some(db) => check_file(db.connect().await?).await,
            None => Ok(()),
        }
    }

    /// On SQLite: moves what is in the log beside the file into it and empties the log, so that what was deleted is in
    /// neither. `false`: somebody was reading; the log is overwritten later, as the bridge goes on.
    pub async fn scrub(&self) -> Result<bool, Error> {
        match self.0.dialect {
            Dialect::Postgres => Ok(true),
            Dialect::Sqlite => {
                let row = query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.0.readers).await?;
                Ok(row.try_get::<i64>(0)? == 0)
            }
        }
    }
}

/// Whether a SQLite file is what it was written as. Never repairs: what is there is evidence, and a backup is better.
pub(super) async fn check_file(connection: Connection) -> Result<(), Error> {
    let found = connection.rows_apart(query("PRAGMA quick_check(1)")).await.map_err(of_file)?;
    let found: String = found.first().ok_or(Fault::Missing)?.try_get(0)?;
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

struct Forget {
    before: Timestamp,
}

impl Write for Forget {
    type Output = bool;

    fn weight(&self) -> usize {
        2 * usize::try_from(FORGOTTEN_AT_ONCE).unwrap_or(usize::MAX)
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<bool, Fault> {
        let events = ours(format!(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE (state = 'applied' OR state = 'superseded' OR state = 'skipped') \
             AND settled_at < $1 ORDER BY settled_at LIMIT $2{}) RETURNING id",
            db.skip_locked()
        ));
        let events = query(events).bind(self.before.micros()).bind(FORGOTTEN_AT_ONCE);
        let events = events.fetch_all(&mut *connection).await?;
        for row in &events {
            let id: String = row.try_get(0)?;
            query("DELETE FROM calls WHERE event_id = $1").bind(id).execute(&mut *connection).await?;
        }
        let notices = ours(format!(
            "DELETE FROM notices WHERE (id, target) IN (SELECT id, target FROM notices \
             WHERE state IN ('published', 'kept') AND created_at < $1 AND COALESCE(published_at, created_at) < $1 \
             ORDER BY created_at LIMIT $2{})",
            db.skip_locked()
        ));
        let notices = query(notices).bind(self.before.micros()).bind(FORGOTTEN_AT_ONCE);
        let notices = notices.execute(&mut *connection).await?;
        query("DELETE FROM bulk_retries WHERE state <> 'running' AND ended_at < $1")
            .bind(self.before.micros())
            .execute(connection)
            .await?;
        let full = usize::try_from(FORGOTTEN_AT_ONCE).unwrap_or(usize::MAX);
        Ok(events.len() == full || usize::try_from(notices).unwrap_or(0) == full)
    }
}
