//! Empties SQLite's log after an erasure, so that deleted data is in neither the file nor its log.
//!
//! Before: [`crate::store::erasure`] requests it. After: the disk.

use std::time::Duration;

use super::db::{DbFault, Dialect, query};
use super::error::Error;
use super::handle::Store;
use super::transaction::Transaction;

/// Timeout of the wait for readers after an erasure. The bridge's own writes wait as well.
const SCRUB_WAIT_MAX: Duration = Duration::from_secs(2);

/// Timeout of the wait for readers while the bridge works, which tries again and again.
const SCRUB_WAIT_MAX_AT_WORK: Duration = Duration::from_millis(200);

/// The key of the row that says that the log still holds erased data.
const OWED_SCRUB: &str = "log_holds_erased";

impl Store {
    /// On SQLite: moves the log into the file next to it and empties the log, so that deleted data is in neither. `false`: a
    /// reader was in the way; the bridge that works on the file tries again until it is done.
    pub async fn scrub(&self) -> Result<bool, Error> {
        let owed = self.owed_scrub().await?;
        self.scrub_within(owed, SCRUB_WAIT_MAX).await
    }

    /// Runs [`Store::scrub`] if an erasure still needs it; the writer waits only briefly. `None`: no erasure does.
    pub async fn scrub_if_owed(&self) -> Result<Option<bool>, Error> {
        match self.owed_scrub().await? {
            None => Ok(None),
            owed => Ok(Some(self.scrub_within(owed, SCRUB_WAIT_MAX_AT_WORK).await?)),
        }
    }

    /// The version of the row that requests a scrub.
    async fn owed_scrub(&self) -> Result<Option<i64>, Error> {
        let version = query("SELECT version FROM shared WHERE name = $1").bind(OWED_SCRUB);
        Ok(version.fetch_optional(&self.readers).await?)
    }

    async fn scrub_within(&self, owed: Option<i64>, wait_max: Duration) -> Result<bool, Error> {
        let is_clean = self.inner.db.scrub(wait_max).await?;
        if let (true, Some(version)) = (is_clean, owed) {
            // If the version differs, another erasure has come since.
            let done = query("DELETE FROM shared WHERE name = $1 AND version = $2").with((OWED_SCRUB, version));
            self.change(done).await?;
        }
        Ok(is_clean)
    }
}

/// Requests that the log be emptied. Part of the erasure's transaction, since its process may end before the log is empty.
pub(super) async fn owe(tx: &mut Transaction<'_>) -> Result<(), DbFault> {
    match tx.db.dialect {
        Dialect::Postgres => {}
        Dialect::Sqlite => {
            let sql = "INSERT INTO shared (name, value, version) VALUES ($1, 'true', 1) \
                 ON CONFLICT (name) DO UPDATE SET version = shared.version + 1";
            query(sql).bind(OWED_SCRUB).execute(tx).await?;
        }
    }
    Ok(())
}
