//! The handles to an open store, by their rights: read, move parked events, or everything.
//!
//! Each handle contains the one before and does all that it does. A [`StoreView`] has no method that writes. A [`Desk`] has no
//! key for the tombstones of erased customers, so it neither accepts nor erases.
//!
//! Before: [`crate::store::open`] makes them. After: the other files of [`crate::store`] add their methods.

use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

use super::closed_sets::Target;
use super::condition::{Condition, Trouble, Writability};
use super::db::{Db, DbFault, Dialect, Query, Readers, query};
use super::db_file::FileLock;
use super::email_key::EmailKey;
use super::error::Error;
use super::give_back::{GiveBack, Unclaimed};
use super::leases::{InMemoryLeases, LeaseGuard};
use super::memory::{ActiveCount, Company, Uncounted};
use super::moments::{Ceilings, KnownCeilings};
use super::tombstones::TombstoneKey;
use super::transaction::{Statements, Write};
use super::writer::{Pending, QUEUE_BYTES_MAX};
use crate::clock::Clock;
use crate::domain::event::EventKind;

/// Timeout of a write. A sender has a deadline of its own; after this it gets the answer that the store is away.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Timeout of the reads under way when the store is closed.
const READS_END_MAX: Duration = Duration::from_secs(2);

/// Timeout of the read behind `/readyz`, whose callers have deadlines of a few seconds.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);

/// Interval at which a waiting arrival checks whether the store has come into trouble meanwhile.
const WRITE_LOOK_EVERY: Duration = Duration::from_millis(500);

/// A store that only reads; cheap to clone.
#[derive(Clone)]
pub struct StoreView {
    pub(super) readers: Readers,
    pub(super) dialect: Dialect,
    pub(super) clock: Clock,
    /// The targets of outgoing events.
    pub(super) targets: Arc<[Target]>,
    /// The limits of how far ahead due times can lie.
    pub(super) ceilings: Arc<KnownCeilings>,
}

/// A store in which a person moves parked events; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    pub(super) view: StoreView,
    pub(super) queue: mpsc::Sender<Pending>,
    /// Permits for the bytes of the writes in the queue.
    pub(super) bytes: Arc<Semaphore>,
    pub(super) closing: Arc<watch::Sender<bool>>,
    pub(super) condition: Arc<Condition>,
    /// Claims that the writer is to give back.
    pub(super) unclaimed: Arc<Unclaimed>,
    /// `true` if this process works on the events.
    pub(super) works: bool,
}

/// A store that accepts events, and can do everything; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) desk: Desk,
    pub(super) inner: Arc<StoreParts>,
}

/// The parts that the handles of a [`Store`] share in addition to the tables.
pub(super) struct StoreParts {
    pub(super) key: TombstoneKey,
    /// The key of the hashes of e-mail addresses.
    pub(super) emails: EmailKey,
    /// The database, for code that opens a connection of its own.
    pub(super) db: Db,
    /// The lock, held for as long as this process works on a SQLite file.
    pub(super) lock: Option<Arc<FileLock>>,
    /// `true` if a SQLite file is to be checked during the work.
    pub(super) is_unexamined: bool,
    pub(super) polls: Arc<InMemoryLeases<Uuid>>,
    pub(super) notices: Arc<InMemoryLeases<(Target, Uuid)>>,
    pub(super) uncounted: Uncounted,
    pub(super) active: ActiveCount,
    pub(super) company: Company,
}

impl Deref for Desk {
    type Target = StoreView;

    fn deref(&self) -> &StoreView {
        &self.view
    }
}

impl Deref for Store {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.dialect)
    }
}

impl StoreView {
    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Sets the limits, from the settings, of how far ahead due times can lie. Call it before any claim.
    pub fn expect_waits(&self, ceilings: Ceilings) {
        self.ceilings.set(ceilings);
    }

    /// Checks that the database answers: a read, since a full disk still reads.
    pub async fn check(&self) -> Result<(), Error> {
        let read = query("SELECT 1").execute(&self.readers);
        tokio::time::timeout(CHECK_TIME_MAX, read).await.unwrap_or(Err(DbFault::TooLate))?;
        Ok(())
    }

    /// Ends all reading: waits for the reads under way, and lets no other begin.
    pub async fn close(&self) {
        // A read that hangs must not keep the process from ending.
        let _ = tokio::time::timeout(READS_END_MAX, self.readers.close()).await;
    }
}

impl Desk {
    /// Ends all work on the store: no read or write begins any more. Waits for the reads under way; the writer writes the waiting
    /// writes, empties the log of a SQLite file and ends. Await the writer for that.
    pub async fn close(&self) {
        self.view.close().await;
        self.closing.send_replace(true);
    }

    /// The store's readiness for writes, as its own writer has found it.
    pub fn writability(&self) -> Writability {
        self.condition.look()
    }

    /// Hands a change to the writer, and waits until it is on disk.
    pub(super) async fn write<W: Write>(&self, write: W) -> Result<W::Output, Error> {
        if W::IS_ARRIVAL {
            self.refuse(self.condition.refuses_new_arrival())?;
        }
        // A write that is larger than the limit goes when it is alone.
        let bytes = match u32::try_from(write.bytes().min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX) {
            0 => None,
            bytes => Some(self.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| Error::Full)?),
        };
        let (pending, answer) = Pending::new(write, bytes);
        self.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => writer_has_ended(),
        })?;
        let waiting = async {
            if W::IS_ARRIVAL {
                self.answer_unless_in_trouble(answer).await
            } else {
                answer.await.unwrap_or_else(|_| Err(writer_has_ended()))
            }
        };
        // The write may still take place; a repeat is safe.
        let late = |_| Err(Error::Away("it did not answer in time".to_owned()));
        tokio::time::timeout(WRITE_WAIT_MAX, waiting).await.unwrap_or_else(late)
    }

    /// Runs a write of one statement. Returns the number of rows that it changed.
    pub(super) async fn change(&self, statement: Query<'static>) -> Result<u64, Error> {
        self.change_some(statement, 1).await
    }

    /// Runs a write of one statement that changes some rows, at most `rows` or about as many. Returns their number.
    pub(super) async fn change_some(&self, statement: Query<'static>, rows: usize) -> Result<u64, Error> {
        self.write(Statements { all: vec![statement], weight: rows }).await
    }

    /// Refuses an arrival at once, instead of after its sender's own deadline, while the store takes no writes. A command waits:
    /// it has no heartbeat that finds the store well again.
    fn refuse(&self, refused: Option<Trouble>) -> Result<(), Error> {
        match refused.filter(|_| self.works) {
            Some(trouble) => Err(Error::Away(trouble.words().to_owned())),
            None => Ok(()),
        }
    }

    /// Waits for an arrival's answer for as long as the store is well.
    async fn answer_unless_in_trouble<T>(&self, mut answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        loop {
            match tokio::time::timeout(WRITE_LOOK_EVERY, &mut answer).await {
                Ok(answer) => return answer.unwrap_or_else(|_| Err(writer_has_ended())),
                Err(_) => self.refuse(self.condition.refuses_waiting_arrival())?,
            }
        }
    }
}

fn writer_has_ended() -> Error {
    Error::Away("the writer has ended".to_owned())
}

impl Store {
    /// Gives a claim back after the next write that goes through, and does not wait for it.
    pub(super) fn give_back(&self, claim: Option<GiveBack>) {
        self.unclaimed.add(claim);
    }

    /// The number of events that this process has parked as unreadable since the last call. No other place counts them.
    pub fn take_unreadable(&self) -> u64 {
        self.inner.uncounted.take_unreadable()
    }

    /// The number of announced events that this process has found replaced since the last call, by kind.
    pub fn take_replaced(&self) -> [(EventKind, u64); EventKind::ALL.len()] {
        self.inner.uncounted.take_replaced()
    }

    /// A guard for leases in memory; `None` if other processes may claim as well, so that a lease is a row.
    pub(super) fn lease_guard<K: Eq + Hash + Copy>(
        &self,
        leases: &Arc<InMemoryLeases<K>>,
    ) -> Option<Arc<LeaseGuard<K>>> {
        self.inner.lock.is_some().then(|| LeaseGuard::of(leases))
    }

    /// Runs a write that leases; if it fails, gives its leases back.
    pub(super) async fn write_leasing<W: Write, K: Eq + Hash + Copy>(
        &self,
        write: W,
        guard: Option<Arc<LeaseGuard<K>>>,
    ) -> Result<W::Output, Error> {
        let result = self.write(write).await;
        if let (Err(_), Some(guard)) = (&result, guard) {
            guard.undo();
        }
        result
    }
}
