//! Rows about refusals, which callers without rights can cause: bounded, and no refusal waits long for its row.
//!
//! A refusal stands also where the store does not answer. Rows that were left out are counted, and the next row tells how many.
//!
//! Before: [`crate::admin`] and [`crate::inbound`] refuse. After: [`crate::store`] writes the rows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::Desk;
use crate::domain::audit::{AuditEntry, RefusalLimit};

/// Timeout of rows about refusals. An answer must not wait for a store that is away.
const ROWS_TIME_MAX: Duration = Duration::from_secs(2);

/// Writes rows about refusals of one kind, as many as one process may.
#[derive(Debug, Default)]
pub struct RefusalRows {
    limit: Mutex<RefusalLimit>,
}

impl RefusalRows {
    /// Writes a row for each of these refusals, as many as may be written now, and counts the rest.
    pub async fn note(&self, store: &Desk, refusals: impl IntoIterator<Item = AuditEntry>, reason: &'static str) {
        let (mut rows, mut counted) = (Vec::new(), 0);
        for refusal in refusals {
            let admitted = self.lock().admit(refusal.at);
            if let Some(left_out) = admitted {
                rows.push(refusal.refused(reason, left_out));
                counted += left_out + 1;
            }
        }
        if rows.is_empty() {
            return;
        }
        let written = tokio::time::timeout(ROWS_TIME_MAX, store.record(rows)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(reason, "the audit log has no row of what was refused; the next row counts it");
            self.lock().leave_out(counted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, RefusalLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit_reads::AuditFilter;
    use super::super::{Settings, Store};
    use super::*;
    use crate::clock::Clock;
    use crate::domain::audit::{Action, AuditTarget, TargetKind};
    use crate::domain::identity::Actor;

    #[tokio::test]
    async fn a_store_that_is_away_holds_no_refusal_up_and_the_next_row_counts_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("bridge.db").display());
        let clock = Clock::system();
        let settings = Settings { url, targets: Vec::new(), works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("a store");
        let target = || AuditTarget::new(TargetKind::Source, "crm");
        let refusal = || AuditEntry::done(clock.now(), Actor::Bridge, Action::EventReceive, target());
        let rows = RefusalRows::default();
        // Nothing is written: the writer does not run.
        let bound = ROWS_TIME_MAX * 5;
        let noted = tokio::time::timeout(bound, rows.note(&store, [refusal(), refusal()], "type_not_allowed"));
        noted.await.expect("it does not wait for the store's own timeout");
        tokio::spawn(writer.run());
        rows.note(&store, [refusal()], "type_not_allowed").await;
        let filter = AuditFilter { action: Some(Action::EventReceive), ..AuditFilter::default() };
        let newest = store.audit_page(&filter, None, 1).await.expect("the store is there").records.remove(0);
        assert_eq!((newest.was.as_deref(), newest.reason.as_deref()), (Some("2"), Some("type_not_allowed")));
    }
}
