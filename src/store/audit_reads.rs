//! The audit log as it is read: pages of it, all of it in the order of the chain, and its verification.
//!
//! Before: [`super::audit`] writes and seals. After: [`crate::admin`] and [`crate::cli`] show it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::audit::{AuditRow, head_row};
use super::db::{DbFault, Query, ours, query, row};
use super::error::Error;
use super::handle::StoreView;
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, TargetKind};
use crate::domain::chain::{Broken, ChainCheck, ChainHead, ChainedRow, SealedFields};

/// Limit of the rows of one page.
pub const AUDIT_PAGE_MAX: i64 = 1_000;

/// Rows that one page looks through at most, for a filter without an index: then the page has fewer rows, and names the next.
const LOOKED_THROUGH_MAX: i64 = 20_000;

/// Rows of the chain that are read at once.
const READ_AT_ONCE: i64 = 500;

/// Limit of the time between an act and the id of its row, by which filters of time find it: an act is recorded after it was done,
/// late if the store was away, by a clock that may be set in between.
const RECORDED_WITHIN: Duration = Duration::from_hours(1);

/// The beginning of the names of sources among actors, whose rows have no index by actor or action: nearly all rows are theirs.
const OF_SOURCES: &str = "source:";

row! {
    /// A row of the audit log.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditRecord {
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
        /// Its id; `None`: erased.
        pub target_id: Option<String> = "target_id",
        salt: Option<String> = "salt",
        target_digest: String = "target_digest",
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
        /// A person's own words.
        pub note: Option<String> = "note",
        note_digest: Option<String> = "note_digest",
        /// The number in the chain; `None`: not sealed yet.
        pub number: Option<u64> = "number",
        /// The hash in the chain.
        pub hash: Option<String> = "hash",
    }
}

impl AuditRecord {
    /// The stable code of action and outcome; `None` if another version wrote the row.
    pub fn code(&self) -> Option<String> {
        let action = Action::from_name(&self.action)?;
        Some(action.code(AuditOutcome::from_name(&self.outcome)?))
    }

    /// The digest of the target, which stays when its id is erased.
    pub fn target_digest(&self) -> &str {
        &self.target_digest
    }

    /// SHA-256 of the salt and the note, which stays when the note is erased.
    pub fn note_digest(&self) -> Option<&str> {
        self.note_digest.as_deref()
    }

    /// A row that was just written, and is not sealed.
    pub(super) fn of_row(row: &AuditRow) -> Self {
        let AuditEntry { at, actor, action, target, outcome, reason, event, from, to, note } = row.entry.clone();
        Self {
            id: row.id.to_string(),
            at,
            actor: actor.to_string(),
            action: action.name().to_owned(),
            target_kind: target.kind.name().to_owned(),
            target_id: Some(target.id),
            salt: None,
            target_digest: row.target_digest(),
            outcome: outcome.name().to_owned(),
            reason,
            event_id: event.map(|event| event.to_string()),
            was: from,
            became: to,
            note,
            note_digest: row.note_digest(),
            number: None,
            hash: None,
        }
    }

    /// The row without a person's own words.
    #[must_use]
    pub fn without_note(self) -> Self {
        Self { note: None, ..self }
    }

    fn chained(&self) -> ChainedRow<'_> {
        let fields = SealedFields {
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
        };
        ChainedRow {
            number: self.number.unwrap_or_default(),
            hash: self.hash.as_deref().unwrap_or_default(),
            fields,
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
    /// The one who acted: `source:NAME`, `token:NAME`, `operator:NAME`, `cli:USER`, `scim:NAME`, `bridge`.
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

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditCheck {
    /// The head before the oldest row that is left.
    pub first: ChainHead,
    /// The head that was reached.
    pub head: ChainHead,
    /// The time of the oldest row that is left; `None`: there is no sealed row.
    pub oldest: Option<Timestamp>,
    /// The time of the newest row that says that the retention removed rows; `None`: there is none.
    pub trimmed_at: Option<Timestamp>,
    /// `true` if the retention removed the row of the head that was given: that head proves nothing any more.
    pub is_head_trimmed: bool,
    /// Rows that are not sealed yet.
    pub unsealed: u64,
    /// The first place at which the chain is broken; `None`: it is whole.
    pub broken: Option<Broken>,
}

impl StoreView {
    /// The head of the chain.
    pub async fn audit_head(&self) -> Result<ChainHead, Error> {
        Ok(head_row(&self.readers).await?.head().ok_or(DbFault::Unreadable { column: 1 })?)
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
        let until =
            filter.until.map(|until| first_id_at(until.plus(RECORDED_WITHIN))).unwrap_or_else(|| "g".to_owned());
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
            "SELECT {columns} FROM audit WHERE number IS NOT NULL AND number > $1 ORDER BY number LIMIT $2",
            columns = AuditRecord::COLUMNS
        ));
        Ok(query(chain).with((after, READ_AT_ONCE)).fetch_all(&self.readers).await?)
    }

    /// The number behind which all rows of a filter come, in the order of the chain.
    pub async fn audit_begin(&self, filter: &AuditFilter) -> Result<u64, Error> {
        // A row is sealed in the order of its id, but for replicas whose clocks differ, and rows that came while one was late.
        let Some(since) = filter.since.map(|since| first_id_at(since.minus(RECORDED_WITHIN))) else { return Ok(0) };
        let first = query("SELECT number FROM audit WHERE id >= $1 AND number IS NOT NULL ORDER BY id LIMIT 1");
        let first: Option<u64> = first.bind(since).fetch_optional(&self.readers).await?;
        Ok(match first {
            Some(first) => first.saturating_sub(1),
            None => head_row(&self.readers).await?.head().map_or(0, |head| head.count),
        })
    }

    /// Recomputes the chain, and compares it with a head that was kept elsewhere. A retention that removes rows meanwhile moves
    /// the beginning.
    pub async fn verify_audit(&self, kept: Option<ChainHead>) -> Result<AuditCheck, Error> {
        let row = head_row(&self.readers).await?;
        let unreadable = || DbFault::Unreadable { column: 1 };
        let (first, sealed) = (row.first().ok_or_else(unreadable)?, row.head().ok_or_else(unreadable)?);
        let checked = self.check_chain(first, sealed, kept).await?;
        let (head, mut broken) = match checked {
            Ok(head) => (head, None),
            Err((head, broken)) => (head, Some(broken)),
        };
        let now = head_row(&self.readers).await?;
        if now.first() != Some(first) && broken.is_some() {
            // Rows were removed under the check: it begins where they end.
            return Box::pin(self.verify_audit(kept)).await;
        }
        let trim = self.newest_trim().await?;
        // Nothing is missing before the first row, or the newest row of the retention says that it removed up to there.
        let is_told = first == ChainHead::EMPTY
            || trim.as_ref().is_some_and(|(_, to)| to.as_deref() == Some(first.to_string().as_str()));
        if broken.is_none() && row.trim_from.is_none() && !is_told {
            broken = Some(Broken::NoTrim { count: first.count });
        }
        Ok(AuditCheck {
            first,
            head,
            oldest: self.audit_oldest().await?,
            trimmed_at: trim.map(|(at, _)| at),
            is_head_trimmed: kept.is_some_and(|kept| kept.count < first.count),
            unsealed: self.audit_unsealed().await?,
            broken,
        })
    }

    async fn check_chain(
        &self,
        first: ChainHead,
        sealed: ChainHead,
        kept: Option<ChainHead>,
    ) -> Result<Result<ChainHead, (ChainHead, Broken)>, Error> {
        let mut check = match ChainCheck::new(first, kept) {
            Ok(check) => check,
            Err(broken) => return Ok(Err((first, broken))),
        };
        let mut page = self.audit_chain(first.count).await?;
        while let Some(last) = page.last().and_then(|last| last.number) {
            // The next page too: the last rows of this one are looked at with some that follow.
            let next = self.audit_chain(last).await?;
            let rows: Vec<ChainedRow<'_>> = page.iter().chain(&next).map(AuditRecord::chained).collect();
            for place in 0..page.len() {
                if let Err(broken) = check.next(&rows[place], &rows[place + 1..]) {
                    return Ok(Err((check.reached(), broken)));
                }
            }
            drop(rows);
            page = next;
        }
        Ok(check.end(sealed).map(|()| check.reached()).map_err(|broken| (check.reached(), broken)))
    }

    /// Time and `became` of the newest row of the retention.
    async fn newest_trim(&self) -> Result<Option<(Timestamp, Option<String>)>, Error> {
        let newest = query(
            "SELECT at, became FROM audit WHERE action = $1 AND substr(actor, 1, 7) <> 'source:' ORDER BY id DESC LIMIT 1",
        );
        Ok(newest.bind(Action::AuditTrim.name()).fetch_optional(&self.readers).await?)
    }

    /// The time of the oldest sealed row.
    pub(super) async fn audit_oldest(&self) -> Result<Option<Timestamp>, Error> {
        let oldest = query("SELECT at FROM audit WHERE number IS NOT NULL ORDER BY number LIMIT 1");
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
        if self.target.is_some() {
            // Of a customer: the rows of their events, too.
            let by_target = ours(format!(
                "SELECT {columns} FROM audit WHERE id IN (\
                 SELECT id FROM audit WHERE target_id = $6 AND substr(actor, 1, 7) <> 'source:' UNION \
                 SELECT id FROM audit WHERE number IS NULL AND target_id = $6 UNION \
                 SELECT id FROM audit WHERE number IS NOT NULL AND event_id IN (SELECT id FROM events WHERE lane = $6)) \
                 AND target_id = $6 AND id < $1 AND id >= $2 AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) \
                 AND at >= $7 AND at < $8 ORDER BY id DESC LIMIT $3",
                columns = AuditRecord::COLUMNS
            ));
            return (query(by_target), true);
        }
        if self.actor.is_some() && !is_of_source {
            let by_actor = ours(format!(
                "SELECT {columns} FROM audit WHERE actor = $4 AND substr(actor, 1, 7) <> 'source:' AND id < $1 AND id >= $2 \
                 AND ($5 = '' OR action = $5) AND ($6 = '' OR target_id = $6) AND at >= $7 AND at < $8 \
                 ORDER BY id DESC LIMIT $3",
                columns = AuditRecord::COLUMNS
            ));
            return (query(by_actor), true);
        }
        if !is_of_source && self.action.is_some_and(|action| !action.is_of_sources()) {
            let by_action = ours(format!(
                "SELECT {columns} FROM audit WHERE action = $5 AND substr(actor, 1, 7) <> 'source:' AND id < $1 AND id >= $2 \
                 AND ($4 = '' OR actor = $4) AND ($6 = '' OR target_id = $6) AND at >= $7 AND at < $8 \
                 ORDER BY id DESC LIMIT $3",
                columns = AuditRecord::COLUMNS
            ));
            return (query(by_action), true);
        }
        let by_time = ours(format!(
            "SELECT {columns} FROM audit WHERE id < $1 AND id >= $2 AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) \
             AND ($6 = '' OR target_id = $6) AND at >= $7 AND at < $8 ORDER BY id DESC LIMIT $3",
            columns = AuditRecord::COLUMNS
        ));
        (query(by_time), *self == Self::default())
    }
}

/// The smallest id of a row that was made at this time, or later.
fn first_id_at(time: Timestamp) -> String {
    let millis = u64::try_from(time.micros().div_euclid(1_000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid().to_string()
}
