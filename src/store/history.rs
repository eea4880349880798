//! The last day in buckets of ten minutes: what each replica counted, put together.
//!
//! A replica writes the row of its bucket again and again, with all that it has counted in it so far: a write that runs twice counts
//! nothing twice. A crash loses what was counted since the last write, about a minute.
//!
//! Before: [`crate::upkeep`] counts. After: [`crate::admin`] shows it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::db::{ours, query, row};
use super::error::Error;
use super::handle::{Store, StoreView};
use crate::domain::Timestamp;

/// Length of a bucket: 144 points for a day, as many as a small chart can show.
pub const BUCKET: Duration = Duration::from_mins(10);

/// Time that a history shows.
const SHOWN: Duration = Duration::from_hours(24);

/// Time for which buckets are kept: twice what is shown, so that a bridge that was away for a night has its evening.
const KEPT: Duration = Duration::from_hours(48);

/// The counts of one replica in a bucket so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the fields of a bucket")]
pub struct BucketCounts {
    pub received: u64,
    pub settled: u64,
    pub calls_refused: u64,
    pub pending: Option<u64>,
    pub parked: Option<u64>,
    pub oldest_age: Option<u64>,
    pub alerts_open: Option<u64>,
}

row! {
    /// Ten minutes.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
    pub struct BucketView {
        /// When it began.
        pub at: Timestamp = "at",
        /// Events that arrived.
        pub received: u64 = "CAST(SUM(received) AS BIGINT)",
        /// Events that reached their end and were not parked.
        pub settled: u64 = "CAST(SUM(settled) AS BIGINT)",
        /// Calls to Podero that were refused, or got no answer; a 404 answers a look-up and is none.
        pub calls_refused: u64 = "CAST(SUM(calls_refused) AS BIGINT)",
        /// Pending events, at most; null: they were not counted.
        pub pending: Option<u64> = "MAX(pending)",
        /// Parked events, at most.
        pub parked: Option<u64> = "MAX(parked)",
        /// Age of the oldest pending event in seconds, at most.
        pub oldest_age: Option<u64> = "MAX(oldest_age)",
        /// Open alerts, at most.
        pub alerts_open: Option<u64> = "MAX(alerts_open)",
    }
}

/// The beginning of the bucket that a moment is in.
pub fn bucket_of(at: Timestamp) -> Timestamp {
    let micros = i64::try_from(BUCKET.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().div_euclid(micros) * micros)
}

impl StoreView {
    /// The buckets of the last day, oldest first. One in which no bridge ran is not there.
    pub async fn history(&self) -> Result<Vec<BucketView>, Error> {
        let (since, until) = (self.clock.now().minus(SHOWN), self.clock.now());
        let buckets = ours(format!(
            "SELECT {} FROM history WHERE at > $1 AND at <= $2 GROUP BY at ORDER BY at",
            BucketView::COLUMNS
        ));
        Ok(query(buckets).with((bucket_of(since), until)).fetch_all(&self.readers).await?)
    }
}

impl Store {
    /// Writes what a replica has counted so far in the bucket that began at `at`.
    pub async fn keep_bucket(&self, replica: Uuid, at: Timestamp, counts: BucketCounts) -> Result<(), Error> {
        let BucketCounts { received, settled, calls_refused, pending, parked, oldest_age, alerts_open } = counts;
        let keep = query(
            "INSERT INTO history (at, replica, received, settled, calls_refused, pending, parked, oldest_age, alerts_open) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (at, replica) DO UPDATE SET received = $3, settled = $4, \
             calls_refused = $5, pending = $6, parked = $7, oldest_age = $8, alerts_open = $9",
        );
        let keep = keep.with((at, replica, received, settled, calls_refused));
        self.change(keep.with((pending, parked, oldest_age, alerts_open))).await?;
        Ok(())
    }

    /// Removes old buckets, and those of a clock that was ahead.
    pub async fn forget_buckets(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let forget = query("DELETE FROM history WHERE at < $1 OR at > $2");
        let forget = forget.with((now.minus(KEPT), Timestamp::latest(now, Duration::ZERO)));
        self.change_some(forget, 2 * usize::try_from(KEPT.as_secs() / BUCKET.as_secs()).unwrap_or(1)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_at_a_full_ten_minutes() {
        for (at, expected) in [
            ("2026-10-01T12:00:00Z", "2026-10-01T12:00:00Z"),
            ("2026-10-01T12:09:59.999999Z", "2026-10-01T12:00:00Z"),
            ("2026-10-01T12:10:00Z", "2026-10-01T12:10:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:50:00Z"),
        ] {
            let at = Timestamp::parse(at).expect("a time");
            assert_eq!(bucket_of(at).to_string(), expected, "{at}");
        }
    }
}
