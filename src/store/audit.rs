//! The audit log: rows written with what they describe, and sealed into a chain later.
//!
//! A row is inserted in the transaction of the act, which costs one statement for a set of rows. Sealing gives it its number and
//! its hash, a little later, in the order of the ids that are there: under a lock on the one row of `audit_head`, so that replicas
//! make one chain. The retention removes rows from the beginning of the chain, and keeps the head before the oldest that is left.
//!
//! Before: every file of [`crate::store`] that carries out an act. After: [`super::audit_reads`] shows and verifies.

use std::time::Duration;

use uuid::Uuid;

use super::db::{DbFault, Executor, Query, RowStatement, Rows, RowsExecutor, ours, query, row};
use super::error::Error;
use super::handle::{Desk, Store, StoreView};
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditTarget, TargetKind};
use crate::domain::chain::{ChainHead, SealedFields, hash_of_hex, hex, note_digest, target_digest};
use crate::domain::identity::Actor;

/// Limit of the rows that one transaction seals: a few milliseconds, for which all other writes wait.
pub const SEALED_AT_ONCE: usize = 256;

/// Rows of the log that are looked through at once, for those of a customer.
const READ_AT_ONCE: u64 = 10_000;

/// Limit of the rows that one transaction removes.
const TRIMMED_AT_ONCE: usize = 200;

/// A row of the audit log that is ready to be written. Written twice, it is one row.
#[derive(Debug, Clone)]
pub(super) struct AuditRow {
    pub(super) id: Uuid,
    salt: Uuid,
    pub(super) entry: AuditEntry,
    /// `true`: the row has the digest of the target alone, as if its id had been erased.
    is_nameless: bool,
}

impl AuditRow {
    /// With an id and a salt of its own.
    pub(super) fn new(entry: AuditEntry, clock: &Clock) -> Self {
        let mut salt = [0; 16];
        salt.copy_from_slice(&clock.fresh_secret()[..16]);
        Self { id: clock.fresh_id(), salt: Uuid::from_bytes(salt), entry, is_nameless: false }
    }

    /// The same row without the id of the target and without the salt by which it could be tried out.
    #[must_use]
    pub(super) fn without_target_id(self) -> Self {
        Self { is_nameless: true, ..self }
    }

    /// The digest of the target.
    pub(super) fn target_digest(&self) -> String {
        target_digest(self.salt, &self.entry.target.id)
    }

    /// The digest of the note.
    pub(super) fn note_digest(&self) -> Option<String> {
        self.entry.note.as_ref().map(|note| note_digest(self.salt, note))
    }

    /// The same act, refused for this reason.
    pub(super) fn refused(&self, reason: impl Into<String>) -> Self {
        let entry = AuditEntry { outcome: AuditOutcome::Refused, reason: Some(reason.into()), ..self.entry.clone() };
        Self { entry, ..self.clone() }
    }

    /// The same act, with the state before and after it.
    pub(super) fn with_change(mut self, from: Option<String>, to: Option<String>) -> Self {
        (self.entry.from, self.entry.to) = (from, to);
        self
    }
}

static RECORD: RowStatement = RowStatement::new(
    &[
        "id", "at", "actor", "action", "target_kind", "target_id", "salt", "target_digest", "outcome", "reason",
        "event_id", "was", "became", "note", "note_digest",
    ],
    "INSERT INTO audit (id, at, actor, action, target_kind, target_id, salt, target_digest, outcome, reason, event_id, was, \
     became, note, note_digest) {rows} ON CONFLICT (id) DO NOTHING",
);

/// Writes rows of the audit log, in the transaction of what they describe.
pub(super) async fn record<'a>(
    on: impl RowsExecutor,
    entries: impl Iterator<Item = &'a AuditRow>,
) -> Result<(), DbFault> {
    statement(entries).execute(on).await?;
    Ok(())
}

/// The statement that writes rows of the audit log.
pub(super) fn statement<'a>(entries: impl Iterator<Item = &'a AuditRow>) -> Rows<'a> {
    let mut rows = RECORD.rows(entries.size_hint().0);
    for row in entries {
        let AuditRow { id, salt, entry, is_nameless } = row;
        let AuditEntry { at, actor, action, target, outcome, reason, event, from, to, note } = entry;
        let (target_id, salt) = (!is_nameless).then_some((&target.id, *salt)).unzip();
        rows.with((*id, *at, actor.to_string(), action.name(), target.kind.name(), target_id, salt))
            .with((row.target_digest(), outcome.name(), reason, *event, from, to, note))
            .bind(row.note_digest());
    }
    rows
}

impl Desk {
    /// A row about an act that this desk carries out now.
    pub(super) fn act(&self, by: &Actor, action: Action, kind: TargetKind, id: impl Into<String>) -> AuditRow {
        let entry = AuditEntry::done(self.clock.now(), by.clone(), action, AuditTarget::new(kind, id));
        AuditRow::new(entry, &self.clock)
    }

    /// Makes rows of these entries.
    pub(super) fn audit_rows(&self, entries: impl IntoIterator<Item = AuditEntry>) -> Vec<AuditRow> {
        entries.into_iter().map(|entry| AuditRow::new(entry, &self.clock)).collect()
    }

    /// Records acts that change nothing in the store, or that were carried out elsewhere.
    pub async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), Error> {
        self.record_rows(self.audit_rows(entries)).await
    }

    /// Records these rows.
    pub(super) async fn record_rows(&self, rows: Vec<AuditRow>) -> Result<(), Error> {
        if rows.is_empty() { Ok(()) } else { self.write(Record { rows }).await }
    }
}

struct Record {
    rows: Vec<AuditRow>,
}

impl Write for Record {
    type Output = ();

    fn weight(&self) -> usize {
        self.rows.len()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        record(tx, self.rows.iter()).await
    }
}

row! {
    /// The row of the chain's head.
    pub(super) struct ChainHeadRow {
        sealed: u64 = "sealed",
        hash: String = "hash",
        trimmed: u64 = "trimmed",
        trimmed_hash: String = "trimmed_hash",
        pub(super) trim_from: Option<String> = "trim_from",
    }
}

impl ChainHeadRow {
    /// The head of the chain; `None`: its hash is none.
    pub(super) fn head(&self) -> Option<ChainHead> {
        Some(ChainHead { count: self.sealed, hash: hash_of_hex(&self.hash)? })
    }

    /// The head before the oldest row that is left.
    pub(super) fn first(&self) -> Option<ChainHead> {
        Some(ChainHead { count: self.trimmed, hash: hash_of_hex(&self.trimmed_hash)? })
    }
}

/// The head of the chain, for this transaction alone; `None`: another one has it.
async fn take_head(tx: &mut Transaction<'_>) -> Result<Option<ChainHeadRow>, DbFault> {
    let head = ours(format!(
        "SELECT {columns} FROM audit_head WHERE one = 1{}",
        tx.db.skip_locked(),
        columns = ChainHeadRow::COLUMNS,
    ));
    query(head).fetch_optional(tx).await
}

/// The head of the chain as it is.
pub(super) async fn head_row(on: impl Executor) -> Result<ChainHeadRow, DbFault> {
    head_query().fetch_one(on).await
}

/// Reads the row of the chain's head.
pub(super) fn head_query<'a>() -> Query<'a> {
    query(ours(format!("SELECT {columns} FROM audit_head WHERE one = 1", columns = ChainHeadRow::COLUMNS)))
}

row! {
    /// The columns of a row that its hash covers.
    pub(super) struct CoveredRow {
        pub(super) id: String = "id",
        pub(super) at: Timestamp = "at",
        pub(super) actor: String = "actor",
        pub(super) action: String = "action",
        pub(super) target_kind: String = "target_kind",
        pub(super) target_digest: String = "target_digest",
        pub(super) outcome: String = "outcome",
        pub(super) reason: Option<String> = "reason",
        pub(super) event_id: Option<String> = "event_id",
        pub(super) was: Option<String> = "was",
        pub(super) became: Option<String> = "became",
        pub(super) note_digest: Option<String> = "note_digest",
    }
}

impl CoveredRow {
    pub(super) fn fields(&self) -> SealedFields<'_> {
        SealedFields {
            id: &self.id,
            at: self.at,
            actor: &self.actor,
            action: &self.action,
            target_kind: &self.target_kind,
            target_digest: &self.target_digest,
            outcome: &self.outcome,
            reason: self.reason.as_deref(),
            event_id: self.event_id.as_deref(),
            was: self.was.as_deref(),
            became: self.became.as_deref(),
            note_digest: self.note_digest.as_deref(),
        }
    }
}

impl Store {
    /// Seals some of the rows that are not sealed yet, and returns their number. After `Ok(0)` none is left that was there before
    /// the call, or another replica seals.
    pub async fn seal_audit(&self) -> Result<usize, Error> {
        // Most of the time there is nothing, and the writer has nothing to do.
        let unsealed = query("SELECT 1 FROM audit WHERE number IS NULL LIMIT 1");
        if unsealed.finds(&self.readers).await? { self.write(Seal).await } else { Ok(0) }
    }

    /// Removes some of the sealed rows that are older than `retention`, whole days of UTC, from the beginning of the chain. `true`:
    /// there may be more. After the last of them a row `audit.trim` tells of it. A clock that jumped ahead makes nothing old. `None`
    /// removes nothing more, but the removal that was under way gets its row.
    pub async fn trim_audit(&self, retention: Option<Duration>) -> Result<bool, Error> {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let day_of = |at: Timestamp| Timestamp::from_micros(at.micros().div_euclid(DAY) * DAY);
        let before = match retention {
            Some(retention) => day_of(self.clock.steady_now().minus(retention)),
            None => Timestamp::from_micros(i64::MIN),
        };
        let is_under_way = head_row(&self.readers).await?.trim_from.is_some();
        let is_due = async || Ok::<_, Error>(self.audit_oldest().await?.is_some_and(|at| at < before));
        if !is_under_way && !is_due().await? {
            return Ok(false);
        }
        let target = AuditTarget::new(TargetKind::Store, "audit");
        let entry = AuditEntry::done(self.clock.now(), Actor::Bridge, Action::AuditTrim, target);
        self.write(Trim { before, row: AuditRow::new(entry, &self.clock) }).await
    }
}

struct Seal;

static SEAL: RowStatement = RowStatement::new(
    &["id", "number", "hash"],
    "UPDATE audit SET number = {number}, hash = {hash} {from} WHERE audit.id = {id}",
);

impl Write for Seal {
    const ONLY_IF_AWAITED: bool = true;
    type Output = usize;

    fn weight(&self) -> usize {
        SEALED_AT_ONCE
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize, DbFault> {
        let Some(taken) = take_head(tx).await? else { return Ok(0) };
        let mut head = taken.head().ok_or(DbFault::Unreadable { column: 1 })?;
        let unsealed = ours(format!(
            "SELECT {columns} FROM audit WHERE number IS NULL ORDER BY id LIMIT $1",
            columns = CoveredRow::COLUMNS
        ));
        let unsealed: Vec<CoveredRow> = query(unsealed).bind(SEALED_AT_ONCE).fetch_all(&mut *tx).await?;
        let mut rows = SEAL.rows(unsealed.len());
        for row in &unsealed {
            head = head.seal(&row.fields());
            rows.with((&row.id, head.count, hex(&head.hash)));
        }
        rows.execute(&mut *tx).await?;
        query("UPDATE audit_head SET sealed = $1, hash = $2 WHERE one = 1")
            .with((head.count, hex(&head.hash)))
            .execute(tx)
            .await?;
        Ok(unsealed.len())
    }
}

struct Trim {
    before: Timestamp,
    /// The row that tells of it.
    row: AuditRow,
}

impl Write for Trim {
    type Output = bool;

    fn weight(&self) -> usize {
        TRIMMED_AT_ONCE
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let Some(taken) = take_head(tx).await? else { return Ok(true) };
        let first = taken.first().ok_or(DbFault::Unreadable { column: 3 })?;
        let from = taken.trim_from.clone().unwrap_or_else(|| first.to_string());
        // In the order of the chain, up to the first row that is not old: what is left is a chain.
        let oldest = query(
            "SELECT number, at, hash FROM audit WHERE number IS NOT NULL AND number > $1 ORDER BY number LIMIT $2",
        );
        let oldest: Vec<(u64, Timestamp, Option<String>)> =
            oldest.with((first.count, TRIMMED_AT_ONCE)).fetch_all(&mut *tx).await?;
        let mut last = first;
        for (number, _, hash) in oldest.iter().take_while(|(_, at, _)| *at < self.before) {
            let hash = hash.as_deref().and_then(hash_of_hex).ok_or(DbFault::Unreadable { column: 2 })?;
            last = ChainHead { count: *number, hash };
        }
        let is_over = oldest.last().is_none_or(|(number, ..)| *number > last.count || oldest.len() < TRIMMED_AT_ONCE);
        query("DELETE FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2")
            .with((first.count, last.count))
            .execute(&mut *tx)
            .await?;
        query("UPDATE audit_head SET trimmed = $1, trimmed_hash = $2, trim_from = $3 WHERE one = 1")
            .with((last.count, hex(&last.hash), (!is_over).then_some(&from)))
            .execute(&mut *tx)
            .await?;
        if is_over && last.to_string() != from {
            let row = self.row.clone().with_change(Some(from), Some(last.to_string()));
            record(tx, [&row].into_iter()).await?;
        }
        Ok(!is_over)
    }
}

/// The rows of a customer, as far as they were sealed when they were looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditOf {
    ids: Vec<String>,
    /// The number up to which they were looked for.
    up_to: u64,
}

/// Finds the sealed rows of a customer. Reads all of the log, outside the writer: an index by target would cost each event more
/// than a rare erasure does.
pub(super) async fn rows_of(view: &StoreView, kind: TargetKind, id: &str) -> Result<AuditOf, Error> {
    let head = head_row(&view.readers).await?;
    let (mut from, mut ids) = (head.trimmed, Vec::new());
    while from < head.sealed {
        let some = query(
            "SELECT id FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2 AND target_id = $3 \
             AND target_kind = $4",
        );
        let to = from.saturating_add(READ_AT_ONCE);
        ids.extend(some.with((from, to, id, kind.name())).fetch_all::<String>(&view.readers).await?);
        from = to;
    }
    Ok(AuditOf { ids, up_to: head.sealed })
}

/// A customer or a member whose data is erased.
pub(super) struct Person {
    pub(super) kind: TargetKind,
    /// The utility's own id.
    pub(super) id: String,
    pub(super) lane: String,
}

static EMPTY: RowStatement = RowStatement::new(
    &["id"],
    "UPDATE audit SET target_id = NULL, salt = NULL, note = NULL {from} WHERE audit.id = {id}",
);

/// Empties the columns of a person's rows that may hold personal data. Their digests stay, and with them the chain. Call it
/// before the events of their lane are removed.
pub(super) async fn erase(tx: &mut Transaction<'_>, person: &Person, found: &AuditOf) -> Result<(), DbFault> {
    let (kind, id, lane) = (person.kind.name(), &person.id, &person.lane);
    let sealed_since =
        query("SELECT id FROM audit WHERE number IS NOT NULL AND number > $2 AND target_id = $1 AND target_kind = $3");
    let sealed_since: Vec<String> = sealed_since.with((id, found.up_to, kind)).fetch_all(&mut *tx).await?;
    let unsealed = query("SELECT id FROM audit WHERE number IS NULL AND target_id = $1 AND target_kind = $2");
    let unsealed: Vec<String> = unsealed.with((id, kind)).fetch_all(&mut *tx).await?;
    let mut ids: Vec<&String> = found.ids.iter().chain(&sealed_since).chain(&unsealed).collect();
    ids.sort_unstable();
    let mut rows = EMPTY.rows(ids.len());
    for id in ids {
        rows.bind(id);
    }
    rows.execute(&mut *tx).await?;
    let sealed = "UPDATE audit SET note = NULL WHERE number IS NOT NULL AND note IS NOT NULL \
                  AND event_id IN (SELECT id FROM events WHERE lane = $1)";
    let unsealed = "UPDATE audit SET note = NULL WHERE number IS NULL AND note IS NOT NULL \
                    AND event_id IN (SELECT id FROM events WHERE lane = $1)";
    for notes in [sealed, unsealed] {
        query(notes).bind(lane).execute(&mut *tx).await?;
    }
    Ok(())
}
