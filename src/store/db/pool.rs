//! Connections for reading: a limited number, each used by one read at a time, and kept for the next one.
//!
//! Before: [`super::sqlite`] and [`super::server`] open them when no idle one is left. After: they read.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::fault::DbFault;

/// Limit of the connections for reading: timelines, gauges, and on a server the sealing of the audit log. Few, because
/// each PostgreSQL connection costs the server memory.
const READERS_MAX: u32 = 4;

/// Timeout of a reader's wait for a free connection, after which it reports the store as away.
pub(super) const READER_WAIT_MAX: Duration = Duration::from_secs(5);

/// The idle connections, and the right to use one more.
pub(super) struct ReaderPool<C> {
    idle: Mutex<Vec<C>>,
    free: Arc<Semaphore>,
    /// Wakes a read that has no connection when another one gives its own back.
    given_back: Notify,
}

impl<C> Default for ReaderPool<C> {
    fn default() -> Self {
        Self { idle: Mutex::default(), free: Arc::new(Semaphore::new(READERS_MAX as usize)), given_back: Notify::new() }
    }
}

impl<C> ReaderPool<C> {
    /// Waits for the right to use a connection, which ends with the permit.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, DbFault> {
        let free = tokio::time::timeout(READER_WAIT_MAX, self.free.clone().acquire_owned()).await;
        // The semaphore is closed together with the store.
        free.map_err(|_| DbFault::TooLate)?.map_err(|_| DbFault::Ended)
    }

    /// An idle connection. The caller has a permit.
    pub(super) fn take(&self) -> Option<C> {
        self.idle().pop()
    }

    /// Keeps the connection of a read for the next one. A connection whose read failed may be of no more use, and is closed.
    pub(super) fn give_back<T>(&self, connection: C, result: Result<T, DbFault>) -> Result<T, DbFault> {
        if result.is_ok() && !self.free.is_closed() {
            self.idle().push(connection);
            self.given_back.notify_one();
        }
        result
    }

    /// Returns when a read has given its connection back, or had since the last call.
    pub(super) async fn given_back(&self) {
        self.given_back.notified().await;
    }

    /// Lets no read begin any more, waits for those under way, and returns every connection, to be closed.
    pub(super) async fn close(&self) -> Vec<C> {
        // This fails only if it was closed before.
        let last = tokio::time::timeout(READER_WAIT_MAX, self.free.acquire_many(READERS_MAX)).await;
        self.free.close();
        drop(last);
        std::mem::take(&mut *self.idle())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<C>> {
        self.idle.lock().expect("no code panics while it holds this")
    }
}
