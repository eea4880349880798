//! The audit log as it is read: pages of it, and all of it in the order of the chain.
//!
//! Before: [`super::audit`] writes, [`super::audit_seal`] seals. After: [`crate::admin`] and [`crate::cli`] show it,
//! [`super::audit_verify`] verifies it.

use std::ops::Deref;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::audit::{AuditRow, CoveredRow, head_row, no_head};
use super::db::{Cells, DbFault, FromRow, Query, ours, query};
use super::error::Error;
use super::handle::StoreView;
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, TargetKind};
use crate::domain::chain::{ChainHead, ChainedRow};

/// A text that sorts after each id.
pub(super) const AFTER_ALL_IDS: &str = "g";

/// Limit of the rows of one page.
pub const AUDIT_PAGE_MAX: i64 = 1_000;

/// Rows that one page looks through at most, for a filter without an index: then the page has fewer rows, and names the next.
const LOOKED_THROUGH_MAX: i64 = 20_000;

/// Rows of the chain that are read at once.
const CHAIN_READ_AT_ONCE: i64 = 500;

/// Limit of the time between an act and the id of its row, by which filters of time find it: an act is recorded after it was done,
/// late if the store was away, by a clock that may be set in between.
const RECORDED_WITHIN: Duration = Duration::from_hours(1);

/// The columns of a row that its hash does not cover.
pub(super) const UNCOVERED: &str = "target_id, salt, note, number, hash";

/// The condition of a page, whatever index finds its rows: what is not asked for lets every row pass.
const FILTERED: &str = "id < $1 AND id >= $2 AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) \
                        AND ($6 = '' OR target_id = $6) AND at >= $7 AND at < $8 ORDER BY id DESC LIMIT $3";

/// The beginning of the names of sources among actors, whose rows have no index by actor or action: nearly all rows are theirs.
const OF_SOURCES: &str = "source:";

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The columns that its hash covers.
    pub covered: CoveredRow,
    /// The id of the thing that it is about; `None`: erased.
    pub target_id: Option<String>,
    salt: Option<String>,
    /// A person's own words.
    pub note: Option<String>,
    /// The number in the chain; `None`: not sealed yet.
    pub number: Option<u64>,
    /// The hash in the chain.
    pub hash: Option<String>,
}

impl Deref for AuditRecord {
    type Target = CoveredRow;

    fn deref(&self) -> &CoveredRow {
        &self.covered
    }
}

impl FromRow for AuditRecord {
    fn from_row(cells: &mut Cells) -> Result<Self, DbFault> {
        Ok(Self {
            covered: FromRow::from_row(cells)?,
            target_id: FromRow::from_row(cells)?,
            salt: FromRow::from_row(cells)?,
            note: FromRow::from_row(cells)?,
            number: FromRow::from_row(cells)?,
            hash: FromRow::from_row(cells)?,
        })
    }
}

impl AuditRecord {
    /// The stable code of action and outcome; `None` if another version wrote the row.
    pub fn code(&self) -> Option<String> {
        let action = Action::from_name(&self.action)?;
        Some(action.code(AuditOutcome::from_name(&self.outcome)?))
    }

    /// A row that was just written, and is not sealed.
    pub(super) fn of_row(row: &AuditRow) -> Self {
        let AuditEntry { target, note, .. } = row.entry.clone();
        Self { covered: row.covered(), target_id: Some(target.id), salt: None, note, number: None, hash: None }
    }

    /// The row without a person's own words.
    #[must_use]
    pub fn without_note(self) -> Self {
        Self { note: None, ..self }
    }

    /// The row as a verification takes it.
    pub(super) fn chained(&self) -> ChainedRow<'_> {
        ChainedRow {
            number: self.number.unwrap_or_default(),
            hash: self.hash.as_deref().unwrap_or_default(),
            fields: self.covered.fields(),
            // A salt that is no id proves nothing.
            target: (self.target_id.as_deref(), self.salt.as_deref().map(|salt| salt.parse().unwrap_or(Uuid::nil()))),
            note: self.note.as_deref(),
        }
    }
}

/// A row of the audit log as it is shown: in lists, answers and exports.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownRecord<'a> {
    /// The id, which sorts by time.
    #[schemars(with = "Uuid")]
    id: &'a str,
    /// The time of the act.
    at: Timestamp,
    /// The one who acted: `source:NAME`, `token:NAME`, `operator:NAME`, `cli:USER`, `scim:NAME`, `oidc:NAME`, `bridge`.
    actor: &'a str,
    /// The act.
    #[schemars(with = "Action")]
    action: &'a str,
    /// The code of action and outcome, which never changes.
    code: Option<String>,
    /// The thing that it is about.
    target: ShownTarget<'a>,
    /// The outcome.
    #[schemars(with = "AuditOutcome")]
    outcome: &'a str,
    /// Code of the reason.
    reason: Option<&'a str>,
    /// The event for which it was done.
    #[schemars(with = "Option<Uuid>")]
    event_id: Option<&'a str>,
    /// Role, state, date or number before.
    from: Option<&'a str>,
    /// Role, state, date or number after.
    to: Option<&'a str>,
    /// A person's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    /// SHA-256 of the salt and the note, which the chain covers.
    note_digest: Option<&'a str>,
    /// The number in the chain; null: not sealed yet.
    number: Option<u64>,
    /// The hash in the chain.
    hash: Option<&'a str>,
}

/// The thing that an act is about.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownTarget<'a> {
    /// Its kind.
    #[schemars(with = "TargetKind")]
    kind: &'a str,
    /// Its id; null: erased.
    id: Option<&'a str>,
    /// SHA-256 of its salt and its id, which the chain covers.
    digest: &'a str,
}

impl Serialize for AuditRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let target =
            ShownTarget { kind: &self.target_kind, id: self.target_id.as_deref(), digest: &self.target_digest };
        let shown = ShownRecord {
            id: &self.id,
            at: self.at,
            actor: &self.actor,
            action: &self.action,
            code: self.code(),
            target,
            outcome: &self.outcome,
            reason: self.reason.as_deref(),
            event_id: self.event_id.as_deref(),
            from: self.was.as_deref(),
            to: self.became.as_deref(),
            note: self.note.as_deref(),
            note_digest: self.note_digest.as_deref(),
            number: self.number,
            hash: self.hash.as_deref(),
        };
        shown.serialize(serializer)
    }
}

impl JsonSchema for AuditRecord {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuditRecord".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ShownRecord::json_schema(generator)
    }
}

/// The rows to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this act.
    pub action: Option<Action>,
    /// About the thing of this id. A page has of the rows of sources about it those that are not sealed, and those about a customer
    /// for as long as the event is kept.
    pub target: Option<String>,
    /// Of acts from this time on.
    pub since: Option<Timestamp>,
    /// Of acts before this time.
    pub until: Option<Timestamp>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The rows.
    pub records: Vec<AuditRecord>,
    /// `after` of the next page; `None`: there are no more.
    pub next: Option<String>,
}

impl StoreView {
    /// The head of the chain.
    pub async fn audit_head(&self) -> Result<ChainHead, Error> {
        head_row(&self.readers).await?.and_then(|row| row.head()).ok_or_else(no_head)
    }

    /// The number of rows that are not sealed yet.
    pub async fn audit_unsealed(&self) -> Result<u64, Error> {
        let unsealed = query("SELECT COUNT(*) FROM audit WHERE number IS NULL");
        Ok(unsealed.fetch_one(&self.readers).await?)
    }

    /// A page of rows, newest first: those before the row `after`, at most `limit` and [`AUDIT_PAGE_MAX`]. A page may have fewer
    /// rows than there are more, and names the next all the same.
    pub async fn audit_page(&self, filter: &AuditFilter, after: Option<&str>, limit: i64) -> Result<AuditPage, Error> {
        let limit = limit.clamp(1, AUDIT_PAGE_MAX);
        let until = filter
            .until
            .map(|until| first_id_at(until.plus(RECORDED_WITHIN)))
            .unwrap_or_else(|| AFTER_ALL_IDS.to_owned());
        let before = after.map_or(until.clone(), |after| until.min(after.to_owned()));
        let (statement, is_indexed) = filter.statement();
        let bound = if is_indexed { None } else { self.looked_through(&before).await? };
        let since = filter.since.map(|since| first_id_at(since.minus(RECORDED_WITHIN))).unwrap_or_default();
        let from = bound.clone().map_or(since.clone(), |bound| bound.max(since.clone()));
        let mut records: Vec<AuditRecord> = statement
            .with((&before, &from, limit + 1))
            .with((
                filter.actor.as_deref().unwrap_or_default(),
                filter.action.map_or("", Action::name),
                filter.target.as_deref().unwrap_or_default(),
            ))
            .with((
                filter.since.unwrap_or(Timestamp::from_micros(i64::MIN)),
                filter.until.unwrap_or(Timestamp::from_micros(i64::MAX)),
            ))
            .fetch_all(&self.readers)
            .await?;
        let is_full = records.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        let next = if is_full {
            records.pop();
            records.last().map(|last| last.id.clone())
        } else {
            bound.filter(|bound| *bound > since)
        };
        Ok(AuditPage { records, next })
    }

    /// The id up to which a page without an index looks; `None`: to the beginning.
    async fn looked_through(&self, before: &str) -> Result<Option<String>, Error> {
        let bound = query("SELECT id FROM audit WHERE id < $1 ORDER BY id DESC LIMIT 1 OFFSET $2");
        Ok(bound.with((before, LOOKED_THROUGH_MAX)).fetch_optional(&self.readers).await?)
    }

    /// Sealed rows in the order of the chain, behind the number `after`; empty at its end.
    pub async fn audit_chain(&self, after: u64) -> Result<Vec<AuditRecord>, Error> {
        let chain = ours(format!(
            "SELECT {columns}, {UNCOVERED} FROM audit WHERE number IS NOT NULL AND number > $1 ORDER BY number LIMIT $2",
            columns = CoveredRow::COLUMNS
        ));
        Ok(query(chain).with((after, CHAIN_READ_AT_ONCE)).fetch_all(&self.readers).await?)
    }

    /// The number behind which all rows of a filter come, in the order of the chain.
    pub async fn audit_begin(&self, filter: &AuditFilter) -> Result<u64, Error> {
        // A row is sealed in the order of its id, but for replicas whose clocks differ, and rows that came while one was late.
        let Some(since) = filter.since.map(|since| first_id_at(since.minus(RECORDED_WITHIN))) else {
            return Ok(head_row(&self.readers).await?.and_then(|row| row.first()).map_or(0, |first| first.count));
        };
        let first = query("SELECT number FROM audit WHERE id >= $1 AND number IS NOT NULL ORDER BY id LIMIT 1");
        let first: Option<u64> = first.bind(since).fetch_optional(&self.readers).await?;
        Ok(match first {
            Some(first) => first.saturating_sub(1),
            None => self.audit_head().await?.count,
        })
    }

    /// The time of the oldest sealed row. One that was added before the beginning does not count: it would keep the retention from
    /// removing any.
    pub(super) async fn audit_oldest(&self) -> Result<Option<Timestamp>, Error> {
        let oldest = query(
            "SELECT at FROM audit WHERE number IS NOT NULL AND number > (SELECT trimmed FROM audit_head WHERE one = 1) \
             ORDER BY number LIMIT 1",
        );
        Ok(oldest.fetch_optional(&self.readers).await?)
    }
}

impl AuditFilter {
    /// `true` if the row is one of them.
    pub fn covers(&self, record: &AuditRecord) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.actor, Some(&record.actor))
            && self.action.is_none_or(|action| action.name() == record.action)
            && is(&self.target, record.target_id.as_deref())
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }

    /// The statement that finds the rows, and whether an index does. Its placeholders: the id before which and the one from which,
    /// the limit, actor, action, target, and the times from which on and before which the act was done.
    fn statement<'a>(&self) -> (Query<'a>, bool) {
        let is_of_source = self.actor.as_deref().is_some_and(|actor| actor.starts_with(OF_SOURCES));
        let (page, is_indexed) = if self.target.is_some() {
            // Of a customer, or of a member of the team: the rows of their events, too.
            let by_target = format!(
                "SELECT {columns}, {UNCOVERED} FROM audit WHERE id IN (\
                 SELECT id FROM audit WHERE target_id = $6 AND substr(actor, 1, 7) <> 'source:' UNION \
                 SELECT id FROM audit WHERE number IS NULL AND target_id = $6 UNION \
                 SELECT id FROM audit WHERE number IS NOT NULL AND event_id IN (SELECT id FROM events WHERE lane IN ($6, 'member\t' || $6))) \
                 AND {FILTERED}",
                columns = CoveredRow::COLUMNS
            );
            (by_target, true)
        } else if self.actor.is_some() && !is_of_source {
            let by_actor = format!(
                "SELECT {columns}, {UNCOVERED} FROM audit WHERE substr(actor, 1, 7) <> 'source:' AND actor = $4 AND {FILTERED}",
                columns = CoveredRow::COLUMNS
            );
            (by_actor, true)
        } else if !is_of_source && self.action.is_some_and(|action| !action.is_of_sources()) {
            let by_action = format!(
                "SELECT {columns}, {UNCOVERED} FROM audit WHERE substr(actor, 1, 7) <> 'source:' AND action = $5 AND {FILTERED}",
                columns = CoveredRow::COLUMNS
            );
            (by_action, true)
        } else {
            let by_time =
                format!("SELECT {columns}, {UNCOVERED} FROM audit WHERE {FILTERED}", columns = CoveredRow::COLUMNS);
            (by_time, *self == Self::default())
        };
        (query(ours(page)), is_indexed)
    }
}

/// The smallest id of a row that was made at this time, or later.
fn first_id_at(time: Timestamp) -> String {
    let millis = u64::try_from(time.micros().div_euclid(1_000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid().to_string()
}
