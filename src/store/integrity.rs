//! Checks that a SQLite file holds what was written to it.
//!
//! A small file is checked before any work begins, a larger one during the work; and again when a statement meets damage. The
//! bridge repairs nothing.
//!
//! Before: [`crate::store::open`] and [`crate::app`]. After: [`crate::store::condition`].

use std::time::Duration;

use super::condition::SERVER_DAMAGE_AGE_MAX;
use super::db::{Connection, Db, DbFault, Dialect, of_file, query};
use super::error::Error;
use super::handle::Store;

/// Limit of the size of a SQLite file that is checked before any work begins, which takes some tenths of a second. A larger file
/// would delay the start, so it is checked during the work.
const CHECKED_FIRST_BYTES_MAX: u64 = 64 << 20;

/// Interval between checks of a damaged file while a check cannot run: the file is locked, or no descriptor is free.
const CHECK_AGAIN_EVERY: Duration = Duration::from_secs(5);

impl Store {
    /// Checks a SQLite file that was too large to be checked when it was opened; `Ok` at once for any other store. An error is
    /// [`Error::Damaged`], or the file could not be read. Dropping the future ends the check.
    pub async fn examine(&self) -> Result<(), Error> {
        if self.inner.is_unexamined { check_file(self.inner.db.connect().await?).await } else { Ok(()) }
    }

    /// Waits until a statement meets damage, and then checks the whole SQLite file. When the check finds nothing, the store is
    /// well again; an error is [`Error::Damaged`]. The operator of a server checks it for damage: the trouble is over when no
    /// statement has met damage for long.
    pub async fn examine_when_damage_is_seen(&self) -> Result<(), Error> {
        self.condition.until_damage_is_seen().await;
        match self.dialect {
            Dialect::Postgres => self.until_no_damage_is_met().await,
            Dialect::Sqlite => self.check_until_known().await?,
        }
        self.condition.found_whole();
        Ok(())
    }

    async fn until_no_damage_is_met(&self) {
        while let Some(rest) =
            SERVER_DAMAGE_AGE_MAX.checked_sub(self.condition.damage_age()).filter(|rest| !rest.is_zero())
        {
            let _ = tokio::time::timeout(rest, std::future::pending::<()>()).await;
        }
    }

    /// A check that fails for another reason than damage says nothing about the file.
    async fn check_until_known(&self) -> Result<(), Error> {
        loop {
            let checking = async {
                let connection = self.inner.db.connect().await.map_err(of_file)?;
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
}

/// Checks that a SQLite file holds what was written to it. Never repairs: a damaged file is evidence, and a backup is better.
pub(super) async fn check_file(connection: Connection) -> Result<(), Error> {
    check_all(connection, "PRAGMA quick_check(1)").await
}

async fn check_all(connection: Connection, how: &'static str) -> Result<(), Error> {
    let found = connection.rows_apart(query(how)).await.map_err(of_file)?;
    let found: String = found.into_iter().next().ok_or(DbFault::Missing)?.read()?;
    if found == "ok" { Ok(()) } else { Err(Error::Damaged(found.lines().collect::<Vec<_>>().join(" "))) }
}

/// `true` if this store is to be checked during the work.
pub(super) fn is_large(db: &Db) -> bool {
    db.file_bytes().is_some_and(|bytes| bytes > CHECKED_FIRST_BYTES_MAX)
}
