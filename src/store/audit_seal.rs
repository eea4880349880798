//! Sealing: rows of the audit log get their numbers and their hashes, in the order of the ids that are there.
//!
//! Under a lock on the one row of `audit_head`, so that replicas make one chain. Where the database is a server, a bridge seals on a
//! connection for reading, next to the writer, so that no event waits for it.
//!
//! Before: [`super::audit`] writes the rows. After: [`super::audit_verify`] recomputes the chain.

use super::audit::{CoveredRow, head_row, no_head, take_head};
use super::db::{DbFault, Dialect, RowStatement, ours, query};
use super::error::Error;
use super::handle::{Desk, Store, StoreView};
use super::transaction::{Transaction, Write};
use super::writer::TRANSACTION_TIME_MAX;
use crate::domain::chain::hex;

/// Limit of the rows that one transaction seals: a few milliseconds, for which in a SQLite file all other writes wait.
pub const SEALED_AT_ONCE: usize = 256;

impl Desk {
    /// Seals some of the rows that are not sealed yet, and returns their number. After `Ok(0)` none is left that was there before
    /// the call, or another replica seals.
    pub async fn seal_audit(&self) -> Result<usize, Error> {
        if !self.has_unsealed().await? {
            return Ok(0);
        }
        let sealed = self.write(Seal).await?;
        self.unless_headless(sealed).await
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
                if !self.has_unsealed().await? {
                    return Ok(0);
                }
                let sealing = tokio::time::timeout(TRANSACTION_TIME_MAX, self.run_apart()).await;
                match self.readers.noted(sealing.unwrap_or(Err(DbFault::TooLate))) {
                    // A deadlock with an erasure, say: the next turn seals these rows.
                    Err(fault) if fault.is_conflict() => Ok(0),
                    sealed => self.unless_headless(sealed?).await,
                }
            }
        }
    }

    async fn run_apart(&self) -> Result<usize, DbFault> {
        let Some(mut lent) = self.readers.begin().await? else { return Ok(0) };
        let mut tx = Transaction { db: &self.inner.db, targets: &self.targets, connection: &mut lent.connection };
        let sealed = Seal.run(&mut tx).await?;
        self.readers.commit(lent).await?;
        Ok(sealed)
    }
}

impl StoreView {
    /// `true` if rows are not sealed yet. Most of the time there is none, and nothing else is done.
    async fn has_unsealed(&self) -> Result<bool, Error> {
        Ok(query("SELECT 1 FROM audit WHERE number IS NULL LIMIT 1").finds(&self.readers).await?)
    }

    /// The number of rows that were sealed; the error if there were none because there is no head.
    async fn unless_headless(&self, sealed: usize) -> Result<usize, Error> {
        // Another replica has the head, or there is none.
        if sealed == 0 && head_row(&self.readers).await?.is_none() { Err(no_head()) } else { Ok(sealed) }
    }
}

struct Seal;

static SEAL: RowStatement = RowStatement::new(
    &["id", "number", "hash"],
    "UPDATE audit SET number = {number}, hash = {hash} {from} WHERE audit.id = {id}",
);

impl Write for Seal {
    const ONLY_IF_AWAITED: bool = true;
    type Output = usize;

    fn weight(&self) -> usize {
        SEALED_AT_ONCE
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize, DbFault> {
        let Some(taken) = take_head(tx).await? else { return Ok(0) };
        let mut head = taken.head().ok_or(DbFault::Unreadable { column: 1 })?;
        let unsealed = ours(format!(
            "SELECT {columns} FROM audit WHERE number IS NULL ORDER BY id LIMIT $1",
            columns = CoveredRow::COLUMNS
        ));
        let unsealed: Vec<CoveredRow> = query(unsealed).bind(SEALED_AT_ONCE).fetch_all(&mut *tx).await?;
        let mut rows = SEAL.rows(unsealed.len());
        for row in &unsealed {
            head = head.seal(&row.fields());
            rows.with((&row.id, head.count, hex(&head.hash)));
        }
        rows.execute(&mut *tx).await?;
        query("UPDATE audit_head SET sealed = $1, hash = $2 WHERE one = 1")
            .with((head.count, hex(&head.hash)))
            .execute(tx)
            .await?;
        Ok(unsealed.len())
    }
}
