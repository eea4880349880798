//! Leases in memory: polls, and outgoing events that are being published.
//!
//! With SQLite there is one process, so its leases live in memory. After a crash they are gone and the work is due again, as
//! intended. A row for each would be written and flushed only to be written again a moment later. Replicas on PostgreSQL must
//! know of each other, and keep their leases in rows.
//!
//! Before: [`crate::store::polls`] and [`crate::store::outbox`] lease. After: they give back what is done.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::Timestamp;

/// Leased keys, each with the end of its lease.
#[derive(Debug)]
pub(super) struct InMemoryLeases<K>(Mutex<HashMap<K, Timestamp>>);

impl<K> Default for InMemoryLeases<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> InMemoryLeases<K> {
    /// Ends leases whose work is done and on disk: each is due again when its row says so.
    pub(super) fn give_back<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let mut all = self.lock();
        for key in keys {
            all.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Timestamp>> {
        self.0.lock().expect("no code panics while it holds this")
    }
}

/// The leases of one write. The writer may run it again after a rollback: then it leases the same keys again. The leases of a
/// write that finally fails must be undone.
#[derive(Debug)]
pub(super) struct LeaseGuard<K> {
    all: Arc<InMemoryLeases<K>>,
    mine: Mutex<Vec<K>>,
}

impl<K: Eq + Hash + Copy> LeaseGuard<K> {
    pub(super) fn of(all: &Arc<InMemoryLeases<K>>) -> Arc<Self> {
        Arc::new(Self { all: all.clone(), mine: Mutex::default() })
    }

    /// Gives back all leases of a write that failed.
    pub(super) fn undo(&self) {
        self.all.give_back(self.mine().drain(..).as_slice());
    }

    /// Returns the number of keys that other writes hold: a caller that looks for ten looks at that many more.
    pub(super) fn begin(&self, now: Timestamp) -> usize {
        self.undo();
        let mut all = self.all.lock();
        all.retain(|_, until| *until > now);
        all.len()
    }

    /// Leases a key. Returns `false` if another write holds it.
    pub(super) fn take(&self, key: K, until: Timestamp) -> bool {
        let mut all = self.all.lock();
        let is_free = !all.contains_key(&key);
        if is_free {
            all.insert(key, until);
            self.mine().push(key);
        }
        is_free
    }

    fn mine(&self) -> MutexGuard<'_, Vec<K>> {
        self.mine.lock().expect("no code panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease belongs to one write until it is given back or expires.
    #[test]
    fn a_lease_lasts_until_it_is_given_back_or_expires() {
        let at = Timestamp::from_micros;
        let all = Arc::<InMemoryLeases<u8>>::default();
        let (one, other) = (LeaseGuard::of(&all), LeaseGuard::of(&all));
        assert_eq!(one.begin(at(0)), 0);
        assert!(one.take(1, at(10)) && one.take(2, at(10)) && !one.take(2, at(10)));
        assert_eq!(other.begin(at(0)), 2);
        assert!(!other.take(1, at(20)) && other.take(3, at(20)));
        // A rollback: the write leases the same keys again, and not those of the other write.
        assert_eq!(one.begin(at(0)), 1);
        assert!(one.take(1, at(10)) && one.take(2, at(10)) && !one.take(3, at(10)));
        let failed = LeaseGuard::of(&all);
        assert!(failed.take(4, at(20)));
        failed.undo();
        assert!(other.take(4, at(20)), "what failed has taken nothing");
        all.give_back(&[1, 4]);
        let third = LeaseGuard::of(&all);
        assert_eq!(third.begin(at(10)), 1, "2 has lapsed");
        assert!(third.take(1, at(30)) && third.take(2, at(30)) && !third.take(3, at(30)));
    }
}
