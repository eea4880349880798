//! The audit log: rows written with what they describe, and removed when they are old.
//!
//! A row is inserted in the transaction of the act, which costs one statement for a set of rows; [`super::audit_seal`] gives it its
//! place in the chain a little later. The retention removes rows from the beginning of the chain, and keeps the head before the oldest
//! that is left.
//!
//! Before: every file of [`crate::store`] that carries out an act. After: [`super::audit_seal`] seals, [`super::audit_reads`] shows
//! and verifies.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::db::{DbFault, Executor, Query, RowStatement, Rows, ours, query, row};
use super::error::Error;
use super::handle::{Desk, Store, StoreView};
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditTarget, TargetKind};
use crate::domain::chain::{ChainHead, EmptiedRows, SealedFields, hash_of_hex, hex, note_digest, target_digest};
use crate::domain::identity::Actor;
use crate::domain::{EventId, Timestamp};

/// Rows of the log that one statement looks through for those of a customer, or for the first that is not old.
const LOOKED_THROUGH_AT_ONCE: u64 = 10_000;

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

    fn target_digest(&self) -> String {
        target_digest(self.salt, &self.entry.target.id)
    }

    fn note_digest(&self) -> Option<String> {
        self.entry.note.as_ref().map(|note| note_digest(self.salt, note))
    }

    /// The columns that its hash will cover.
    pub(super) fn covered(&self) -> CoveredRow {
        let AuditEntry { at, actor, action, target, outcome, reason, event, from, to, note: _ } = self.entry.clone();
        CoveredRow {
            id: self.id.to_string(),
            at,
            actor: actor.to_string(),
            action: action.name().to_owned(),
            target_kind: target.kind.name().to_owned(),
            target_digest: self.target_digest(),
            outcome: outcome.name().to_owned(),
            reason,
            event_id: event.map(|event| event.to_string()),
            was: from,
            became: to,
            note_digest: self.note_digest(),
        }
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
    tx: &mut Transaction<'_>,
    entries: impl Iterator<Item = &'a AuditRow>,
) -> Result<(), DbFault> {
    statement(entries).execute(tx).await?;
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
        trim_from: Option<String> = "trim_from",
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
pub(super) async fn take_head(tx: &mut Transaction<'_>) -> Result<Option<ChainHeadRow>, DbFault> {
    let head = ours(format!(
        "SELECT {columns} FROM audit_head WHERE one = 1{}",
        tx.db.skip_locked(),
        columns = ChainHeadRow::COLUMNS,
    ));
    query(head).fetch_optional(tx).await
}

/// The head of the chain as it is; `None`: its row is not there.
pub(super) async fn head_row(on: impl Executor) -> Result<Option<ChainHeadRow>, DbFault> {
    head_query().fetch_optional(on).await
}

/// The error of a work that needs the head, where there is none.
pub(super) fn no_head() -> Error {
    Error::Unreadable(
        "the head of the audit log (table `audit_head`) is not there, or is none; see `audit verify`".to_owned(),
    )
}

/// Reads the row of the chain's head.
pub(super) fn head_query<'a>() -> Query<'a> {
    query(ours(format!("SELECT {columns} FROM audit_head WHERE one = 1", columns = ChainHeadRow::COLUMNS)))
}

row! {
    /// The columns of a row that its hash covers.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CoveredRow {
        /// The id, which sorts by time.
        pub id: String = "id",
        /// The time of the act.
        pub at: Timestamp = "at",
        /// The one who acted.
        pub actor: String = "actor",
        /// The act.
        pub action: String = "action",
        /// The kind of the thing that it is about.
        pub target_kind: String = "target_kind",
        /// The digest of the target, which stays when its id is erased.
        pub target_digest: String = "target_digest",
        /// The outcome.
        pub outcome: String = "outcome",
        /// Code of the reason.
        pub reason: Option<String> = "reason",
        /// The event for which it was done.
        pub event_id: Option<String> = "event_id",
        /// Role, state, date or number before.
        pub was: Option<String> = "was",
        /// Role, state, date or number after.
        pub became: Option<String> = "became",
        /// SHA-256 of the salt and the note, which stays when the note is erased.
        pub note_digest: Option<String> = "note_digest",
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
    /// Removes some of the sealed rows that are older than `retention`, whole days of UTC, from the beginning of the chain. `true`:
    /// there may be more. Nothing is removed before a row `audit.trim`, sealed itself, says from which head to which. A clock that
    /// jumped ahead makes nothing old. `None` removes nothing more.
    pub async fn trim_audit(&self, retention: Option<Duration>) -> Result<bool, Error> {
        let Some(retention) = retention else { return Ok(false) };
        let before = Timestamp::from_micros(day_of(self.clock.steady_now().minus(retention)) * DAY);
        let oldest = self.audit_oldest().await?;
        if oldest.is_some_and(|at| at >= before) {
            return Ok(false);
        }
        // Without a head no row seems to be the oldest.
        let first = head_row(&self.readers).await?.and_then(|row| row.first()).ok_or_else(no_head)?;
        if oldest.is_none() {
            return Ok(false);
        }
        let newest = newest_trim(&self.readers).await?;
        let Some(trim) = newest.filter(|trim| trim.is_under_way(first)) else {
            return self.plan_trim(first, before).await;
        };
        if trim.number.is_none() {
            self.seal_apart().await?;
            return Ok(true);
        }
        let to = trim.to().ok_or_else(no_removal)?;
        if hash_at(&self.readers, to.count).await? != Some(to.hash) {
            return Err(no_removal());
        }
        self.write(Trim { to, before }).await
    }

    /// Writes the row of a removal that begins: it names the rows that are to go. Reads outside the writer. `true`: it is written.
    async fn plan_trim(&self, first: ChainHead, before: Timestamp) -> Result<bool, Error> {
        let Some(to) = self.last_old(first, before).await? else { return Ok(false) };
        let target = AuditTarget::new(TargetKind::Store, "audit");
        let entry = AuditEntry::done(self.clock.now(), Actor::Bridge, Action::AuditTrim, target);
        let row = AuditRow::new(entry, &self.clock).with_change(Some(first.to_string()), Some(to.to_string()));
        self.write(PlanTrim { first, row }).await
    }

    /// The head at the last row of the chain before which all rows are old; `None`: the first one is not. In the order of the chain,
    /// so that what is left is a chain.
    async fn last_old(&self, first: ChainHead, before: Timestamp) -> Result<Option<ChainHead>, Error> {
        let sealed = head_row(&self.readers).await?.and_then(|row| row.head()).ok_or_else(no_head)?;
        let (mut from, mut last) = (first.count, sealed.count);
        while from < sealed.count {
            let to = from.saturating_add(LOOKED_THROUGH_AT_ONCE);
            let young = query(
                "SELECT number FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2 AND at >= $3 \
                 ORDER BY number LIMIT 1",
            );
            let young: Option<u64> = young.with((from, to, before)).fetch_optional(&self.readers).await?;
            if let Some(young) = young {
                last = young.saturating_sub(1);
                break;
            }
            from = to;
        }
        if last <= first.count {
            return Ok(None);
        }
        Ok(hash_at(&self.readers, last).await?.map(|hash| ChainHead { count: last, hash }))
    }
}

/// The error of a row about a removal that does not fit the rows that are there.
fn no_removal() -> Error {
    Error::Unreadable(
        "the newest row `audit.trim` does not fit the log, so nothing is removed; see `audit verify`".to_owned(),
    )
}

row! {
    /// The newest row about a removal of the retention.
    pub(super) struct TrimRow {
        pub(super) at: Timestamp = "at",
        became: Option<String> = "became",
        number: Option<u64> = "number",
    }
}

impl TrimRow {
    /// The head at the last row that is to go.
    fn to(&self) -> Option<ChainHead> {
        self.became.as_deref()?.parse().ok()
    }

    /// `true` if rows are left that are to go, or if it does not say which; `first` is the head before the oldest row that is left.
    fn is_under_way(&self, first: ChainHead) -> bool {
        self.to().is_none_or(|to| to.count > first.count)
    }
}

/// The newest row about a removal of the retention, by its place in the chain: a clock that was ahead may have given an older one a
/// higher id. `None`: there is none.
pub(super) async fn newest_trim(on: impl Executor) -> Result<Option<TrimRow>, DbFault> {
    let newest = ours(format!(
        "SELECT {columns} FROM audit WHERE action = $1 AND substr(actor, 1, 7) <> 'source:' \
         ORDER BY number DESC NULLS FIRST, id DESC LIMIT 1",
        columns = TrimRow::COLUMNS
    ));
    query(newest).bind(Action::AuditTrim.name()).fetch_optional(on).await
}

/// Microseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// The number of a moment's day of UTC, since 1970.
pub(super) fn day_of(at: Timestamp) -> i64 {
    at.micros().div_euclid(DAY)
}

/// The time of the row of this number; `None`: there is none.
pub(super) async fn at_of(on: impl Executor, number: u64) -> Result<Option<Timestamp>, DbFault> {
    query("SELECT at FROM audit WHERE number IS NOT NULL AND number = $1").bind(number).fetch_optional(on).await
}

/// The hash of the row of this number; `None`: there is none, or its hash is none.
pub(super) async fn hash_at(on: impl Executor, number: u64) -> Result<Option<[u8; 32]>, DbFault> {
    let hash = query("SELECT hash FROM audit WHERE number IS NOT NULL AND number = $1");
    let hash: Option<Option<String>> = hash.bind(number).fetch_optional(on).await?;
    Ok(hash.flatten().as_deref().and_then(hash_of_hex))
}

struct PlanTrim {
    /// The head before the oldest row, as it was read.
    first: ChainHead,
    row: AuditRow,
}

impl Write for PlanTrim {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let Some(taken) = take_head(tx).await? else { return Ok(true) };
        // Another replica may have begun, or even ended, a removal since.
        let is_begun = newest_trim(&mut *tx).await?.is_some_and(|trim| trim.is_under_way(self.first));
        if taken.first() != Some(self.first) || is_begun {
            return Ok(true);
        }
        record(&mut *tx, [&self.row].into_iter()).await?;
        let begun = query("UPDATE audit_head SET trim_from = $1 WHERE one = 1");
        begun.bind(self.first.to_string()).execute(tx).await?;
        Ok(true)
    }
}

static KEEP_NOTES: RowStatement = RowStatement::new(
    &["event_id", "lane"],
    "INSERT INTO audit_notes (audit_id, lane) SELECT audit.id, {lane} FROM {join}audit \
     WHERE audit.number IS NOT NULL AND audit.event_id = {event_id} AND audit.note IS NOT NULL ON CONFLICT (audit_id) DO NOTHING",
);

/// Keeps the lanes of events that are removed with the notes about them, by which an erasure finds these notes.
pub(super) async fn keep_notes<'a>(
    tx: &mut Transaction<'_>,
    removed: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), DbFault> {
    let mut rows = KEEP_NOTES.rows(removed.size_hint().0);
    for (event, lane) in removed {
        rows.with((event, lane));
    }
    rows.execute(tx).await?;
    Ok(())
}

static FORGET_NOTE: RowStatement =
    RowStatement::new(&["audit_id"], "DELETE FROM audit_notes {using} WHERE audit_notes.audit_id = {audit_id}");

struct Trim {
    /// The head at the last row that is to go.
    to: ChainHead,
    before: Timestamp,
}

impl Write for Trim {
    type Output = bool;

    fn weight(&self) -> usize {
        TRIMMED_AT_ONCE
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let Some(taken) = take_head(tx).await? else { return Ok(true) };
        let first = taken.first().ok_or(DbFault::Unreadable { column: 3 })?;
        let oldest = query(
            "SELECT number, at, hash FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2 \
             ORDER BY number LIMIT $3",
        );
        let oldest: Vec<(u64, Timestamp, Option<String>)> =
            oldest.with((first.count, self.to.count, TRIMMED_AT_ONCE)).fetch_all(&mut *tx).await?;
        let mut last = first;
        for (number, _, hash) in oldest.iter().take_while(|(_, at, _)| *at < self.before) {
            let hash = hash.as_deref().and_then(hash_of_hex).ok_or(DbFault::Unreadable { column: 2 })?;
            last = ChainHead { count: *number, hash };
        }
        // A removal that would end at another row than its own row says is none.
        if last == first || (last.count == self.to.count && last != self.to) {
            return Ok(false);
        }
        let ids = query(
            "DELETE FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2 \
             RETURNING id, CASE WHEN note_digest IS NULL THEN 0 ELSE 1 END",
        );
        let removed: Vec<(String, bool)> = ids.with((first.count, last.count)).fetch_all(&mut *tx).await?;
        let mut notes = FORGET_NOTE.rows(0);
        for (id, _) in removed.iter().filter(|(_, has_note)| *has_note) {
            notes.bind(id);
        }
        notes.execute(&mut *tx).await?;
        let is_over = last == self.to;
        let from = if is_over { None } else { taken.trim_from };
        query("UPDATE audit_head SET trimmed = $1, trimmed_hash = $2, trim_from = $3 WHERE one = 1")
            .with((last.count, hex(&last.hash), from))
            .execute(tx)
            .await?;
        Ok(!is_over)
    }
}

/// The rows of a customer, as far as they were sealed when they were looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditOf {
    sealed: Vec<(u64, String)>,
    /// The number up to which they were looked for.
    up_to: u64,
}

/// Finds the sealed rows of a customer. Reads all of the log, outside the writer: an index by target would cost each event more
/// than a rare erasure does.
pub(super) async fn rows_of(view: &StoreView, kind: TargetKind, id: &str) -> Result<AuditOf, Error> {
    let head = head_row(&view.readers).await?.ok_or_else(no_head)?;
    let (mut from, mut found) = (head.trimmed, Vec::new());
    while from < head.sealed {
        let some = query(
            "SELECT number, id FROM audit WHERE number IS NOT NULL AND number > $1 AND number <= $2 AND target_id = $3 \
             AND target_kind = $4",
        );
        let to = from.saturating_add(LOOKED_THROUGH_AT_ONCE);
        found.extend(some.with((from, to, id, kind.name())).fetch_all::<(u64, String)>(&view.readers).await?);
        from = to;
    }
    Ok(AuditOf { sealed: found, up_to: head.sealed })
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

static EMPTY_NOTE: RowStatement =
    RowStatement::new(&["id"], "UPDATE audit SET note = NULL {from} WHERE audit.id = {id}");

/// Empties the columns of a person's rows that may hold personal data, and writes the row of the erasure, which names the emptied
/// ones. Their digests stay, and with them the chain. Call it before the events of their lane are removed. `messages` are in no lane.
pub(super) async fn erase(
    tx: &mut Transaction<'_>,
    person: &Person,
    messages: impl Iterator<Item = &EventId>,
    found: &AuditOf,
    act: &AuditRow,
) -> Result<(), DbFault> {
    let (kind, id) = (person.kind.name(), &person.id);
    // Unsealed rows first: one that another replica seals in between is found by the statement after it.
    let unsealed = query("SELECT id FROM audit WHERE number IS NULL AND target_id = $1 AND target_kind = $2");
    let mut of_person = RowsFound::default();
    of_person.add_unsealed(unsealed.with((id, kind)).fetch_all(&mut *tx).await?);
    let sealed_since = query(
        "SELECT number, id FROM audit WHERE number IS NOT NULL AND number > $2 AND target_id = $1 \
         AND target_kind = $3",
    );
    of_person.add_sealed(sealed_since.with((id, found.up_to, kind)).fetch_all(&mut *tx).await?);
    of_person.add_sealed(found.sealed.clone());
    let noted = noted(tx, &person.lane, messages).await?;
    let mut emptied = EmptiedRows::default();
    for (id, number) in of_person.0.iter().chain(&noted.0) {
        emptied.add(*number, id);
    }
    for (statement, RowsFound(ids)) in [(&EMPTY, &of_person), (&EMPTY_NOTE, &noted)] {
        let mut rows = statement.rows(ids.len());
        for id in ids.keys() {
            rows.bind(id);
        }
        rows.execute(&mut *tx).await?;
    }
    let emptied = emptied.to_string();
    let act = act.clone().without_target_id().with_change(None, Some(emptied).filter(|emptied| !emptied.is_empty()));
    record(tx, [&act].into_iter()).await
}

impl AuditOf {
    /// `true` if a row of the log names the person, or has a note about an event of theirs.
    pub(super) async fn names(&self, tx: &mut Transaction<'_>, person: &Person) -> Result<bool, DbFault> {
        if !self.sealed.is_empty() {
            return Ok(true);
        }
        let unsealed =
            query("SELECT 1 FROM audit WHERE number IS NULL AND target_id = $1 AND target_kind = $2 LIMIT 1");
        if unsealed.with((&person.id, person.kind.name())).finds(&mut *tx).await? {
            return Ok(true);
        }
        let sealed_since = query(
            "SELECT 1 FROM audit WHERE number IS NOT NULL AND number > $2 AND target_id = $1 AND target_kind = $3 LIMIT 1",
        );
        if sealed_since.with((&person.id, self.up_to, person.kind.name())).finds(&mut *tx).await? {
            return Ok(true);
        }
        query("SELECT 1 FROM audit_notes WHERE lane = $1 LIMIT 1").bind(&person.lane).finds(tx).await
    }
}

/// The rows with a note about an event of a lane, also one that is no longer kept, or about one of these messages.
async fn noted(
    tx: &mut Transaction<'_>,
    lane: &str,
    messages: impl Iterator<Item = &EventId>,
) -> Result<RowsFound, DbFault> {
    let mut found = RowsFound::default();
    let of_lane = query(
        "SELECT audit.id, audit.number FROM audit_notes JOIN audit ON audit.id = audit_notes.audit_id \
         WHERE audit_notes.lane = $1 AND audit.note IS NOT NULL",
    );
    found.0.extend(of_lane.bind(lane).fetch_all::<(String, Option<u64>)>(&mut *tx).await?);
    let unsealed = query(
        "SELECT id FROM audit WHERE number IS NULL AND note IS NOT NULL \
         AND event_id IN (SELECT id FROM events WHERE lane = $1)",
    );
    found.add_unsealed(unsealed.bind(lane).fetch_all(&mut *tx).await?);
    let sealed = query(
        "SELECT number, id FROM audit WHERE number IS NOT NULL AND note IS NOT NULL \
         AND event_id IN (SELECT id FROM events WHERE lane = $1)",
    );
    found.add_sealed(sealed.bind(lane).fetch_all(&mut *tx).await?);
    for message in messages {
        let unsealed = query("SELECT id FROM audit WHERE number IS NULL AND note IS NOT NULL AND event_id = $1");
        found.add_unsealed(unsealed.bind(*message).fetch_all(&mut *tx).await?);
        let sealed =
            query("SELECT number, id FROM audit WHERE number IS NOT NULL AND note IS NOT NULL AND event_id = $1");
        found.add_sealed(sealed.bind(*message).fetch_all(&mut *tx).await?);
    }
    Ok(found)
}

/// Rows by their ids, in order; those that are sealed with their numbers.
#[derive(Default)]
struct RowsFound(BTreeMap<String, Option<u64>>);

impl RowsFound {
    fn add_unsealed(&mut self, ids: Vec<String>) {
        self.0.extend(ids.into_iter().map(|id| (id, None)));
    }

    fn add_sealed(&mut self, rows: Vec<(u64, String)>) {
        self.0.extend(rows.into_iter().map(|(number, id)| (id, Some(number))));
    }
}
