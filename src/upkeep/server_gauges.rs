//! Measures the server of a store on PostgreSQL for the gauges: what an operator must see before it slows the store down.
//!
//! Apart from the count of the tables, which bounds the listeners and must not wait for the server's statistics. A gauge that could
//! not be measured, or that the server hides from the bridge's role, is absent.
//!
//! Before: [`crate::store`] reads the server's statistics. After: [`crate::metrics`].

use std::time::Duration;

use crate::metrics::Metrics;
use crate::pump::Step;
use crate::store::{ServerGauges, Store};

/// Interval of the looks into the server's statistics: what they show grows within minutes, and a look costs the server four
/// small statements.
pub const SERVER_GAUGES_EVERY: Duration = Duration::from_secs(15);

/// Everything that measuring needs.
pub struct Measuring {
    /// The store, whose server it is.
    pub store: Store,
    /// The gauges.
    pub metrics: Metrics,
}

impl Measuring {
    /// Measures. Idle after a failure too: a server in trouble is asked no more often.
    pub async fn step(&self) -> Step {
        let gauges = self.store.server_gauges().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the database's server could not be measured");
            None
        });
        self.show(&gauges.unwrap_or_default());
        Step::Idle
    }

    fn show(&self, gauges: &ServerGauges) {
        let metrics = &self.metrics;
        if gauges.tables.is_empty() {
            metrics.store_live_rows.reset();
            metrics.store_dead_rows.reset();
        }
        for rows in &gauges.tables {
            metrics.store_live_rows.with_label_values(&[&rows.table]).set(real(rows.live));
            metrics.store_dead_rows.with_label_values(&[&rows.table]).set(real(rows.dead));
        }
        for (gauge, value) in [
            (&metrics.store_oldest_transaction_age, gauges.oldest_transaction.map(|age| age.as_secs_f64())),
            (&metrics.store_xmin_age, gauges.xmin_age.map(real)),
            (&metrics.store_standbys, gauges.standbys.map(real)),
            (&metrics.store_replay_lag, gauges.replay_lag_bytes.map(real)),
            (&metrics.store_slot_wal, gauges.slot_wal_bytes.map(real)),
        ] {
            gauge.set(value.unwrap_or(f64::NAN));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of rows and bytes are far below 2^53")]
fn real(number: u64) -> f64 {
    number as f64
}
