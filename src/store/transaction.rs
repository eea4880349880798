//! A write: one change that is made whole or not at all, and what it is made on.
//!
//! Before: the files of [`crate::store`] that write. After: [`crate::store::writer`] runs it.

use super::closed_sets::Target;
use super::db::{Connection, Db, Executor, Fault, Query, Row};

/// What a write runs on: a transaction that is open.
pub(super) struct Transaction<'a> {
    pub(super) db: &'a Db,
    /// Where outgoing events go.
    pub(super) targets: &'a [Target],
    pub(super) connection: &'a mut Connection,
}

impl Executor for &mut Transaction<'_> {
    fn rows(self, query: Query<'_>) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send {
        (&mut *self.connection).rows(query)
    }

    fn changes(self, query: Query<'_>) -> impl Future<Output = Result<u64, Fault>> + Send {
        (&mut *self.connection).changes(query)
    }
}

/// One change that is made whole or not at all.
pub(super) trait Write: Send + Sync + 'static {
    /// The caller's answer once it is on disk.
    type Output: Send + 'static;

    /// Whether it is pointless once its caller has gone: a claim of something, or an arrival whose sender was
    /// told to come again.
    const ONLY_IF_AWAITED: bool = false;

    /// Whether it takes something new into the store on the strength of which the sender forgets it. It is refused at once
    /// while the store is known to take no writes.
    const IS_ARRIVAL: bool = false;

    /// Whether its failure alone says something about the whole store: it meets what every other write meets, and nothing else.
    const IS_BEAT: bool = false;

    /// Rows that it writes, about.
    fn weight(&self) -> usize {
        1
    }

    /// Bytes of the texts that it holds, about.
    fn bytes(&self) -> usize {
        0
    }

    /// Whether its success proves that the store takes arrivals: it has changed rows, and has met every lock on the tables.
    fn proves_writing(&self, _: &Self::Output) -> bool {
        false
    }

    /// Makes the change. May be run again after a rollback, so it holds no state of its own.
    fn run(&self, tx: &mut Transaction<'_>) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// A statement by itself, whose answer is how many rows it changed.
pub(super) struct Statement(pub(super) Query<'static>);

impl Write for Statement {
    type Output = u64;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<u64, Fault> {
        self.0.clone().execute(tx).await
    }
}
