//! Sealing: rows of the audit log get their numbers and their hashes, in the order of the ids that are there.
//!
//! The head and the unsealed rows are read by one statement and hashed without a lock. The write then moves the head, the one row of
//! `audit_head`, only if the head has not changed since: of two replicas that read the same rows one seals them. Where the database is a
//! server, a bridge seals on a connection for reading, next to the writer, so that no event waits for it.
//!
//! Before: [`super::audit`] writes the rows. After: [`super::audit_verify`] recomputes the chain.

use super::audit::{CoveredRow, no_head};
use super::db::{DbFault, Dialect, RowStatement, ours, query};
use super::error::Error;
use super::handle::{Desk, Store, StoreView};
use super::transaction::{Transaction, Write};
use super::writer::TRANSACTION_TIME_MAX;
use crate::domain::chain::{ChainHead, hash_of_hex, hex};

/// Limit of the rows that one transaction seals: a few milliseconds, for which in a SQLite file all other writes wait.
pub const SEALED_AT_ONCE: usize = 256;

impl Desk {
    /// Seals some of the rows that are not sealed yet, and returns their number. After `Ok(0)` none is left that was there before
    /// the call, or another replica seals.
    pub async fn seal_audit(&self) -> Result<usize, Error> {
        match self.to_be_sealed().await? {
            Some(seal) => self.write(seal).await,
            None => Ok(0),
        }
    }

    /// Seals all rows that were there before the call, for a process that ends. Another one that seals at the same time is not waited
    /// for.
    pub async fn seal_all(&self) -> Result<(), Error> {
        while self.seal_audit().await? == SEALED_AT_ONCE {}
        Ok(())
    }
}

impl Store {
    /// As [`Desk::seal_audit`]; on a server next to the writer.
    pub async fn seal_apart(&self) -> Result<usize, Error> {
        match self.dialect {
            Dialect::Sqlite => self.seal_audit().await,
            Dialect::Postgres => {
                let Some(seal) = self.to_be_sealed().await? else { return Ok(0) };
                let sealing = tokio::time::timeout(TRANSACTION_TIME_MAX, self.run_apart(&seal));
                match self.readers.noted(sealing.await.unwrap_or(Err(DbFault::TooLate))) {
                    // A deadlock with an erasure, say: the next turn seals these rows.
                    Err(fault) if fault.is_conflict() => Ok(0),
                    sealed => Ok(sealed?),
                }
            }
        }
    }

    async fn run_apart(&self, seal: &Seal) -> Result<usize, DbFault> {
        let Some(mut lent) = self.readers.begin().await? else { return Ok(0) };
        let mut tx = Transaction { db: &self.inner.db, targets: &self.targets, connection: &mut lent.connection };
        let sealed = seal.run(&mut tx).await?;
        self.readers.commit(lent).await?;
        Ok(sealed)
    }
}

impl StoreView {
    /// The next rows of the chain; `None`: there are none.
    async fn to_be_sealed(&self) -> Result<Option<Seal>, Error> {
        let unsealed = ours(format!(
            "SELECT {columns}, audit_head.sealed, audit_head.hash FROM audit LEFT JOIN audit_head ON audit_head.one = 1 \
             WHERE number IS NULL ORDER BY id LIMIT $1",
            columns = CoveredRow::COLUMNS
        ));
        let unsealed: Vec<(CoveredRow, Option<u64>, Option<String>)> =
            query(unsealed).bind(SEALED_AT_ONCE).fetch_all(&self.readers).await?;
        let Some((_, count, hash)) = unsealed.first() else { return Ok(None) };
        let head = count.zip(hash.as_deref().and_then(hash_of_hex)).map(|(count, hash)| ChainHead { count, hash });
        let before = head.ok_or_else(no_head)?;
        let mut after = before;
        let mut seal = |(row, ..): (CoveredRow, Option<u64>, Option<String>)| {
            after = after.seal(&row.fields());
            (row.id, after)
        };
        let rows = unsealed.into_iter().map(&mut seal).collect();
        Ok(Some(Seal { before, after, rows }))
    }
}

/// The next rows of the chain, by their ids, each with the head that it makes.
struct Seal {
    before: ChainHead,
    after: ChainHead,
    rows: Vec<(String, ChainHead)>,
}

static SEAL: RowStatement = RowStatement::new(
    &["id", "number", "hash"],
    "UPDATE audit SET number = {number}, hash = {hash} {from} WHERE audit.id = {id} AND COALESCE(audit.number, 0) = 0",
);

impl Write for Seal {
    const ONLY_IF_AWAITED: bool = true;
    type Output = usize;

    fn weight(&self) -> usize {
        self.rows.len()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize, DbFault> {
        // Another replica seals now, or has sealed since the head was read.
        let head = ours(format!(
            "UPDATE audit_head SET sealed = $1, hash = $2 \
             WHERE one = (SELECT one FROM audit_head WHERE one = 1 AND sealed = $3 AND hash = $4{})",
            tx.db.skip_locked(),
        ));
        let (after, before) = ((self.after.count, hex(&self.after.hash)), (self.before.count, hex(&self.before.hash)));
        if query(head).with(after).with(before).execute(&mut *tx).await? == 0 {
            return Ok(0);
        }
        let mut rows = SEAL.rows(self.rows.len());
        for (id, head) in &self.rows {
            rows.with((id, head.count, hex(&head.hash)));
        }
        // Under a head that has not moved, rows differ only where a server lost what it had not yet given to its standby.
        if rows.execute(tx).await? == self.rows.len() as u64 { Ok(self.rows.len()) } else { Err(DbFault::NotAsRead) }
    }
}
