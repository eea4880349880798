//! Records of heat pumps, a row for each.
//!
//! A row has a version, and is written only by a caller that has read the version before, together with the alert about it.
//!
//! Before: [`crate::store::polls`] and [`crate::store::settlement`]. After: the outbox.

use std::collections::HashMap;

use uuid::Uuid;

use super::db::{DbFault, RowStatement, listed, ours, query};
use super::error::Error;
use super::handle::Store;
use super::outbox::{self, NewNotice};
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::alert::{self, PumpChange, PumpRecord};
use crate::domain::notice::Notice;

impl Store {
    /// The records of these heat pumps, whichever user they belonged to, after all earlier writes.
    pub async fn remembered(&self, heat_pumps: &[Uuid]) -> Result<Vec<PumpRecord>, Error> {
        let found = self.write(Remembered { heat_pumps: heat_pumps.to_vec() }).await?;
        Ok(seen_by(self.clock.now(), &found))
    }
}

/// Skips records that this version cannot read and leaves them in place, so that the other pumps are still polled.
pub(super) fn legible(text: &str) -> Option<PumpRecord> {
    serde_json::from_str(text)
        .inspect_err(|error| tracing::error!(%error, "what is remembered of a heat pump cannot be read"))
        .ok()
}

/// Records, corrected to values that can be true now.
pub(super) fn seen_by(now: Timestamp, texts: &[String]) -> Vec<PumpRecord> {
    texts.iter().filter_map(|text| legible(text)).map(|seen| seen.no_later_than(now)).collect()
}

static SEEN: RowStatement = RowStatement::new(
    &["lane"],
    "SELECT {lane}, record FROM {join}pumps WHERE pumps.customer = {lane} AND pumps.is_retired <> 1",
);

/// The records of the pumps of these customers that are still watched, by customer.
pub(super) async fn seen_of(
    tx: &mut Transaction<'_>,
    customers: Vec<&str>,
) -> Result<HashMap<String, Vec<String>>, DbFault> {
    let mut rows = SEEN.rows(customers.len());
    for customer in customers {
        rows.bind(customer);
    }
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    for (customer, record) in rows.fetch_all(tx).await? {
        seen.entry(customer).or_default().push(record);
    }
    Ok(seen)
}

/// Ends the watch of a pump as `change` says, even if a poll has written the pump since it was read: the end also covers the
/// result of that poll.
pub(super) async fn end(
    tx: &mut Transaction<'_>,
    ended: &PumpChange,
    seq: &str,
    now: Timestamp,
) -> Result<(), DbFault> {
    if change(tx, &ReadyPump::new(ended.clone(), vec![seq.to_owned()]), now, IfNew::Keep).await? {
        return Ok(());
    }
    let text: Option<String> = query("SELECT record FROM pumps WHERE heat_pump = $1")
        .bind(ended.seen.heat_pump.to_string())
        .fetch_optional(&mut *tx)
        .await?;
    let newer = text.and_then(|text| legible(&text)).filter(|seen| !seen.is_retired);
    if let (Some(newer), Some(resolution)) = (newer, ended.ended) {
        let ended = ReadyPump::new(alert::retire(&newer, resolution, now), vec![seq.to_owned()]);
        change(tx, &ended, now, IfNew::Keep).await?;
    }
    Ok(())
}

/// The action for a pump without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfNew {
    /// Store a record.
    Keep,
    /// Store a record if its owner is still watched: a customer who was erased during a poll does not come back.
    KeepIfWatched,
}

/// Writes a known pump that has not changed since it was read and whose indexed columns stay as they are: nearly always. SQLite
/// rewrites each index whose column is set, even to the same value. A value of the condition
/// might imply that of an index of few rows, such as those with an alert: as for `RowStatement`, none may serve but the key.
const QUIET: &str = "UPDATE pumps SET record = $7, version = $8, checked_at = $9 WHERE heat_pump = $1 AND version = $13 AND user_id = $2 \
    AND customer IS NOT DISTINCT FROM CAST($3 AS TEXT) AND knowledge = $4 AND is_retired + 0 = $5 AND has_alert + 0 = $6 \
    AND manufacturer IS NOT DISTINCT FROM CAST($10 AS TEXT) AND region IS NOT DISTINCT FROM CAST($11 AS TEXT) \
    AND lost_at IS NOT DISTINCT FROM CAST($12 AS BIGINT)";

/// Writes a known pump that has not changed since it was read.
const KNOWN: &str = "UPDATE pumps SET user_id = $2, customer = $3, knowledge = $4, is_retired = $5, has_alert = $6, record = $7, \
    version = $8, checked_at = $9, manufacturer = $10, region = $11, lost_at = $12 WHERE heat_pump = $1 AND version = $13";

/// Writes a pump that has no record, if one is to be stored.
const NEW: &str = "INSERT INTO pumps (heat_pump, user_id, customer, knowledge, is_retired, has_alert, record, version, checked_at, \
    manufacturer, region, lost_at) \
    SELECT $1, $2, CAST($3 AS TEXT), $4, $5, $6, $7, $8, $9, CAST($10 AS TEXT), CAST($11 AS TEXT), CAST($12 AS BIGINT) \
    WHERE $14 = 1 OR ($13 = 0 AND EXISTS (SELECT 1 FROM watched WHERE user_id = $2)) ON CONFLICT (heat_pump) DO NOTHING";

/// A record ready to be written. The caller makes it, to keep work off the single writer thread.
pub(super) struct ReadyPump {
    seen: PumpRecord,
    /// The version that it replaces.
    read: i64,
    text: String,
    notices: Vec<Notice>,
    /// The `seq` of each notice.
    seqs: Vec<String>,
}

impl ReadyPump {
    pub(super) fn new(change: PumpChange, seqs: Vec<String>) -> Self {
        let read = change.seen.version;
        let seen = PumpRecord { version: read + 1, ..change.seen };
        let text = serde_json::to_string(&seen).expect("a memory has only serialisable fields");
        Self { seen, read, text, notices: change.notices, seqs }
    }
}

/// Writes one pump with its notices. Returns `false` if another write changed or removed the pump since it was read.
pub(super) async fn change(
    tx: &mut Transaction<'_>,
    ReadyPump { seen, read, text, notices, seqs }: &ReadyPump,
    now: Timestamp,
    if_new: IfNew,
) -> Result<bool, DbFault> {
    let has_alert = seen.alert.is_some();
    let fill = |statement: &'static str| {
        query(statement)
            .with((seen.heat_pump, seen.user, &seen.customer, seen.knowledge.name(), seen.is_retired, has_alert, text))
            .with((seen.version, now, &seen.manufacturer, &seen.region, seen.fell_at, *read))
    };
    let mut written = 0;
    for statement in [QUIET, KNOWN] {
        if written == 0 && *read > 0 {
            written = fill(statement).execute(&mut *tx).await?;
        }
    }
    if written == 0 {
        written = fill(NEW).bind(if_new == IfNew::Keep).execute(&mut *tx).await?;
    }
    if written == 1 {
        for (notice, seq) in notices.iter().zip(seqs) {
            outbox::insert(tx, NewNotice { notice, customer: seen.customer.as_deref(), seq, at: now }).await?;
        }
    }
    Ok(written == 1)
}

struct Remembered {
    heat_pumps: Vec<Uuid>,
}

impl Write for Remembered {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<String>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        let sql = ours(format!("SELECT record FROM pumps WHERE heat_pump IN {}", listed(1, self.heat_pumps.len())));
        query(sql).with_each(self.heat_pumps.iter().copied()).fetch_all(tx).await
    }
}
