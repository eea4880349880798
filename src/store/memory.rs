//! The shared memory of the handles of one process, which no table has.
//!
//! Before: [`crate::store::handle`] holds it. After: the files that note something, and the gauges that count it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::closed_sets::RowKind;
use crate::domain::Timestamp;
use crate::domain::event::EventKind;

/// Limit of the time after its last heartbeat for which a replica counts as alive; then its share of the budget falls to the
/// others. Until then the budget is used less than it could be, never more: a replica that cannot write here cannot claim
/// anything either.
pub const REPLICA_LIFE: Duration = Duration::from_secs(10);

/// Limit of the time for which rows of dead replicas are kept, for a person who looks into the table after a crash.
const DEAD_KEPT: Duration = Duration::from_secs(60 * 60);

/// Limit of the age of the number of active customers before they are counted again. A count reads an index entry of each
/// customer, and a share that is five minutes old is as good as a new one.
pub const ACTIVE_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Ends of events that the gauges have not counted yet, since the store itself ended the events.
#[derive(Debug, Default)]
pub(super) struct Uncounted {
    /// The number of events that were parked because they could not be read.
    unreadable: AtomicU64,
    /// The number of announced events that were replaced, by kind.
    replaced: [AtomicU64; EventKind::ALL.len()],
}

impl Uncounted {
    pub(super) fn note_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_replaced(&self, kinds: &[RowKind]) {
        for kind in kinds.iter().filter_map(|kind| kind.sent()) {
            self.replaced[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn take_unreadable(&self) -> u64 {
        self.unreadable.swap(0, Ordering::Relaxed)
    }

    pub(super) fn take_replaced(&self) -> [(EventKind, u64); EventKind::ALL.len()] {
        EventKind::ALL.map(|kind| (kind, self.replaced[kind as usize].swap(0, Ordering::Relaxed)))
    }
}

/// The number of active customers, and when it was counted.
#[derive(Debug, Default)]
pub(super) struct ActiveCount(Mutex<Option<(Timestamp, u64)>>);

impl ActiveCount {
    /// The known number, if it is young enough. A clock that was set back keeps no number young for ever.
    pub(super) fn known(&self, now: Timestamp) -> Option<u64> {
        let (at, count) = (*self.0.lock().expect("no code panics while it looks at a number"))?;
        (at <= now && now.since(at) < ACTIVE_AGE_MAX).then_some(count)
    }

    pub(super) fn note(&self, now: Timestamp, count: u64) {
        *self.0.lock().expect("no code panics while it looks at a number") = Some((now, count));
    }
}

/// A replica's row: its id, and its last heartbeat.
pub(super) type Beat = (String, Timestamp);

/// The replicas whose heartbeats this process has seen. Their clocks may differ, so it judges by its own elapsed time since their
/// rows changed.
#[derive(Debug, Default)]
pub(super) struct Company(Mutex<BTreeMap<String, Sighting>>);

#[derive(Debug, Clone, Copy)]
struct Sighting {
    seen_at: Timestamp,
    /// The end of its life by this process's elapsed time; each change of its row extends it.
    lives_until: Duration,
}

impl Company {
    /// Takes in all rows, and counts the living replicas, `own` among them.
    pub(super) fn look(&self, rows: &[Beat], own: &str, now: Timestamp, passed: Duration) -> usize {
        let mut known = self.0.lock().expect("no code panics while it holds the replicas");
        let sighting = |(id, seen_at): &Beat| {
            let lives_for = match known.get(id) {
                Some(before) if before.seen_at == *seen_at => return (id.clone(), *before),
                Some(_) => REPLICA_LIFE,
                // First seen now; a row dated in the future has a chance to change.
                None => REPLICA_LIFE.saturating_sub(now.since(*seen_at)),
            };
            (id.clone(), Sighting { seen_at: *seen_at, lives_until: passed + lives_for })
        };
        let seen: BTreeMap<String, Sighting> = rows.iter().map(sighting).collect();
        let others = seen.iter().filter(|(id, sighting)| *id != own && passed < sighting.lives_until).count();
        *known = seen;
        others + 1
    }

    /// The rows of replicas that have been dead for long.
    pub(super) fn dead(&self, passed: Duration) -> Vec<Beat> {
        let known = self.0.lock().expect("no code panics while it holds the replicas");
        let dead = known.iter().filter(|(_, sighting)| passed >= sighting.lives_until + DEAD_KEPT);
        dead.map(|(id, sighting)| (id.clone(), sighting.seen_at)).collect()
    }
}
