//! How long things are kept, and that the file is whole.
//!
//! Retention removes what is settled and old, a little at a time through the writer, so that nobody waits behind it.
//! What has no end yet (pending, waiting, scheduled, parked) and what is known of a customer stay however old they are.
//!
//! Before: [`crate::app`] and [`crate::cli`]. After: the disk.

use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::db::{Db, Dialect, ours};
use super::writer::Write;
use super::{Error, Store};
use crate::domain::Timestamp;

/// Rows of a kind that one transaction forgets: small enough that doors and appliers do not wait long behind it.
const FORGOTTEN_AT_ONCE: i64 = 200;

impl Store {
    /// Removes some of what was settled longer than `retention` ago: events (applied, superseded, skipped) with their
    /// calls, outgoing events that are out or had nowhere to go, ended retries of many. `true`: there may be more.
    pub async fn forget(&self, retention: Duration) -> Result<bool, Error> {
        let now = self.0.clock.now().micros();
        let before = now.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
        self.write(Forget { before: Timestamp::from_micros(before) }).await
    }

    /// On SQLite: moves what is in the log beside the file into it and empties the log, so that what was deleted is in
    /// neither. `false`: somebody was reading; the log is overwritten later, as the bridge goes on.
    pub async fn scrub(&self) -> Result<bool, Error> {
        match self.0.dialect {
            Dialect::Postgres => Ok(true),
            Dialect::Sqlite => {
                let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.0.readers).await?;
                Ok(row.try_get::<i64, _>(0)? == 0)
            }
        }
    }
}

/// Whether a SQLite file is what it was written as. Never repairs: what is there is evidence, and a backup is better.
pub(super) async fn check_file(db: &Db, connection: &mut AnyConnection) -> Result<(), Error> {
    match db.dialect {
        Dialect::Postgres => Ok(()),
        Dialect::Sqlite => {
            let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(connection).await.map_err(of_file)?;
            let found: String = row.try_get(0)?;
            if found == "ok" { Ok(()) } else { Err(Error::Damaged(found.lines().collect::<Vec<_>>().join(" "))) }
        }
    }
}

/// An error while a SQLite file is opened: damaged, or another.
pub(super) fn of_file(error: sqlx::Error) -> Error {
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    if sqlite_code(&error).is_some_and(|code| matches!(code, 11 | 26)) {
        Error::Damaged(error.to_string())
    } else {
        error.into()
    }
}

/// SQLite's code, without what its extended forms add.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    Some(error.as_database_error()?.code()?.parse::<i32>().ok()? & 0xff)
}

struct Forget {
    before: Timestamp,
}

impl Write for Forget {
    type Output = bool;

    fn weight(&self) -> usize {
        2 * usize::try_from(FORGOTTEN_AT_ONCE).unwrap_or(usize::MAX)
    }

    async fn run(&self, db: &Db, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        let events = ours(format!(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE state IN ('applied', 'superseded', 'skipped') \
             AND settled_at < $1 ORDER BY settled_at LIMIT $2{}) RETURNING id",
            db.skip_locked()
        ));
        let events = sqlx::query(events).bind(self.before.micros()).bind(FORGOTTEN_AT_ONCE);
        let events = events.fetch_all(&mut *connection).await?;
        for row in &events {
            let id: String = row.try_get(0)?;
            sqlx::query("DELETE FROM calls WHERE event_id = $1").bind(id).execute(&mut *connection).await?;
        }
        let notices = ours(format!(
            "DELETE FROM notices WHERE (id, target) IN (SELECT id, target FROM notices \
             WHERE state IN ('published', 'kept') AND created_at < $1 AND COALESCE(published_at, created_at) < $1 \
             ORDER BY created_at LIMIT $2{})",
            db.skip_locked()
        ));
        let notices = sqlx::query(notices).bind(self.before.micros()).bind(FORGOTTEN_AT_ONCE);
        let notices = notices.execute(&mut *connection).await?.rows_affected();
        sqlx::query("DELETE FROM bulk_retries WHERE state <> 'running' AND ended_at < $1")
            .bind(self.before.micros())
            .execute(connection)
            .await?;
        let full = usize::try_from(FORGOTTEN_AT_ONCE).unwrap_or(usize::MAX);
        Ok(events.len() == full || usize::try_from(notices).unwrap_or(0) == full)
    }
}
