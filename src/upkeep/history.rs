//! Keeps the history of this replica: once a minute, what its instruments have counted in the present ten minutes.
//!
//! Before: [`crate::metrics`]. After: [`crate::store`], a small table.

use std::sync::Mutex;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::metrics::{Metrics, MetricsTally};
use crate::pump::{Step, failed};
use crate::store::{BucketCounts, Store, bucket_of};

/// Interval of the writes: a chart is a minute behind at most, and a crash loses no more.
pub const HISTORY_EVERY: Duration = Duration::from_secs(60);

/// Keeps the history.
pub struct Recorder {
    store: Store,
    metrics: Metrics,
    clock: Clock,
    replica: Uuid,
    bucket: Mutex<Bucket>,
}

/// The present bucket.
#[derive(Clone, Copy)]
struct Bucket {
    at: Timestamp,
    /// The counters when it began.
    before: MetricsTally,
    counts: BucketCounts,
}

impl Recorder {
    /// Keeps the history of this replica from now on.
    pub fn new(store: Store, metrics: Metrics, clock: Clock, replica: Uuid) -> Self {
        let (at, before) = (bucket_of(clock.now()), metrics.tally());
        let bucket = Mutex::new(Bucket { at, before, counts: BucketCounts::default() });
        Self { store, metrics, clock, replica, bucket }
    }

    /// Writes what was counted so far, and removes what is old when a new bucket begins.
    pub async fn step(&self) -> Step {
        let (Bucket { at, counts, .. }, is_new) = self.count();
        if let Err(error) = self.store.keep_bucket(self.replica, at, counts).await {
            return failed!(error, "the history could not be kept");
        }
        if is_new && let Err(error) = self.store.forget_buckets().await {
            return failed!(error, "old history could not be removed");
        }
        Step::Idle
    }

    /// The bucket with all that was counted in it, and whether the next one begins. What was counted since the last step counts for
    /// the bucket in which most of the time was.
    fn count(&self) -> (Bucket, bool) {
        let (tally, now) = (self.metrics.tally(), bucket_of(self.clock.now()));
        let mut bucket = self.bucket.lock().expect("no code panics while it holds this");
        let is_new = bucket.at != now;
        let counted = bucket.counted(tally);
        if is_new {
            *bucket = Bucket { at: now, before: tally, counts: BucketCounts::default() };
        } else {
            bucket.counts = counted.counts;
        }
        (counted, is_new)
    }
}

impl Bucket {
    fn counted(self, tally: MetricsTally) -> Self {
        let MetricsTally { received, settled, calls_refused, pending, parked, oldest_age, alerts_open } = tally;
        let counts = BucketCounts {
            received: received.saturating_sub(self.before.received),
            settled: settled.saturating_sub(self.before.settled),
            calls_refused: calls_refused.saturating_sub(self.before.calls_refused),
            pending: pending.max(self.counts.pending),
            parked: parked.max(self.counts.parked),
            oldest_age: oldest_age.max(self.counts.oldest_age),
            alerts_open: alerts_open.max(self.counts.alerts_open),
        };
        Self { counts, ..self }
    }
}
