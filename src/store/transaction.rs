//! A write: one change that is made whole or not at all, and the transaction that it runs on.
//!
//! Before: the files of [`crate::store`] that write. After: [`crate::store::writer`] runs it.

use super::closed_sets::Target;
use super::db::{Connection, Db, DbFault, Executor, Query, Row, Rows, RowsExecutor};
use super::give_back::GiveBack;

/// An open transaction, which a write runs on.
pub(super) struct Transaction<'a> {
    pub(super) db: &'a Db,
    /// The targets of outgoing events.
    pub(super) targets: &'a [Target],
    pub(super) connection: &'a mut Connection,
}

impl Executor for &mut Transaction<'_> {
    fn rows(self, query: Query<'_>) -> impl Future<Output = Result<Vec<Row>, DbFault>> + Send {
        (&mut *self.connection).rows(query)
    }

    fn changes(self, query: Query<'_>) -> impl Future<Output = Result<u64, DbFault>> + Send {
        (&mut *self.connection).changes(query)
    }
}

impl RowsExecutor for &mut Transaction<'_> {
    fn found(self, rows: &Rows<'_>) -> impl Future<Output = Result<Vec<Row>, DbFault>> + Send {
        (&mut *self.connection).found(rows)
    }

    fn changed(self, rows: &Rows<'_>) -> impl Future<Output = Result<u64, DbFault>> + Send {
        (&mut *self.connection).changed(rows)
    }

    fn written(self, rows: &Rows<'_>) -> impl Future<Output = Result<Vec<bool>, DbFault>> + Send {
        (&mut *self.connection).written(rows)
    }
}

/// One change that is made whole or not at all.
pub(super) trait Write: Send + Sync + 'static {
    /// The caller's answer once the change is on disk.
    type Output: Send + 'static;

    /// `true` if the write is pointless once its caller has gone: a claim, or an arrival whose sender was asked to come again.
    const ONLY_IF_AWAITED: bool = false;

    /// `true` if it stores something new, after which the sender forgets it. It is refused at once while the store is known to
    /// take no writes.
    const IS_ARRIVAL: bool = false;

    /// `true` if its failure alone says something about the whole store: it meets only obstacles that every other write meets.
    const IS_BEAT: bool = false;

    /// The approximate number of rows that it writes.
    fn weight(&self) -> usize {
        1
    }

    /// The approximate bytes of the texts that it holds.
    fn bytes(&self) -> usize {
        0
    }

    /// `true` if its success proves that the store takes arrivals: it has changed rows, and has met every lock on the tables.
    fn proves_writing(&self, _: &Self::Output) -> bool {
        false
    }

    /// The claim that it makes, to be given back if it does not reach its caller: the connection broke over the COMMIT, or the
    /// caller has gone. `None`: the write leases no row.
    fn give_back(&self, _: &Self::Output) -> Option<GiveBack> {
        None
    }

    /// Gives back leases in memory, since the caller has gone.
    fn abandon(&self) {}

    /// The lanes that it changes. A group locks all of them in one order before anything else, so that two replicas which change
    /// the same lanes wait for each other in turn.
    fn lanes(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Makes the change. The writer may run it again after a rollback, so it holds no state of its own.
    fn run(&self, tx: &mut Transaction<'_>) -> impl Future<Output = Result<Self::Output, DbFault>> + Send;

    /// Makes the changes of several writes, and returns their outputs in order. None of their callers has waited for another, so
    /// the writes are free to choose an order among them.
    fn run_all(
        writes: &[&Self],
        tx: &mut Transaction<'_>,
    ) -> impl Future<Output = Result<Vec<Self::Output>, DbFault>> + Send {
        async move {
            let mut outputs = Vec::with_capacity(writes.len());
            for write in writes {
                outputs.push(write.run(tx).await?);
            }
            Ok(outputs)
        }
    }
}

/// Statements that are made together. Returns the number of rows that they changed.
pub(super) struct Statements {
    pub(super) all: Vec<Query<'static>>,
    /// The approximate number of rows that they change.
    pub(super) weight: usize,
}

impl Write for Statements {
    type Output = u64;

    fn weight(&self) -> usize {
        self.weight
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<u64, DbFault> {
        let mut changed = 0;
        for statement in &self.all {
            changed += statement.clone().execute(&mut *tx).await?;
        }
        Ok(changed)
    }
}

impl Write for GiveBack {
    /// `true` if it is done.
    type Output = bool;

    fn give_back(&self, is_done: &bool) -> Option<GiveBack> {
        (!is_done).then(|| self.clone())
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        self.make(tx.db, tx.connection).await
    }
}
