//! Parked events by reason, and a preview of those that a retry would cover: by the filter of the order.
//!
//! Reads only, outside the writer. Of each reason no more than [`COUNT_MAX`] events are looked at: a count says where it ends there.
//!
//! Before: [`crate::store::parking`]. After: [`crate::admin`] and [`crate::cli`] show them; [`crate::store::bulk_retries`] orders by the
//! same filter.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::db::{ours, query};
use super::error::Error;
use super::handle::StoreView;
use super::parking::RETRYABLE;
use super::timeline::EventSummary;
use crate::domain::Timestamp;
use crate::domain::verdict::Reason;

/// Limit of the rows that are counted for a person: counting a million takes a second or more, and "10,000 or more" says enough.
pub const COUNT_MAX: u64 = 10_000;

/// Limit of the events that a preview shows.
const SAMPLE_MAX: usize = 20;

/// A selection of parked events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    /// Only events that are parked for this reason.
    pub reason: Option<Reason>,
    /// Only events of this source.
    pub source: Option<String>,
    /// Only events that were parked at this moment or later.
    pub since: Option<Timestamp>,
    /// Only events that were parked until this moment.
    pub until: Option<Timestamp>,
}

impl ParkedFilter {
    /// Selects the events of one reason, or all.
    pub fn of_reason(reason: Option<Reason>) -> Self {
        Self { reason, ..Self::default() }
    }

    /// The beginning of the time of parking.
    pub(super) fn from(&self) -> Timestamp {
        self.since.unwrap_or(Timestamp::from_micros(i64::MIN))
    }

    fn to(&self) -> Timestamp {
        self.until.unwrap_or(Timestamp::from_micros(i64::MAX))
    }

    /// The source, or nothing for any.
    pub(super) fn source_or_any(&self) -> &str {
        self.source.as_deref().unwrap_or_default()
    }
}

/// Parked events of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ParkedGroup {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// True if there are more, or may be: only some of a large group are counted.
    pub is_capped: bool,
    /// Of these, those that are events, or whose message was kept whole; the others can only be skipped.
    pub retryable: u64,
    /// How many of each type the events are.
    pub types: BTreeMap<String, u64>,
    /// When the oldest was parked.
    pub oldest_at: Timestamp,
    /// And the newest.
    pub newest_at: Timestamp,
}

/// The events that a retry would cover.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ParkedPreview {
    /// How many are parked.
    pub count: u64,
    /// How many of these a retry can put back to work.
    pub retryable: u64,
    /// True if there are more, or may be: only some of a large group are counted.
    pub is_capped: bool,
    /// By reason.
    pub groups: Vec<ParkedGroup>,
    /// Some of them, the longest parked of each reason first.
    pub sample: Vec<EventSummary>,
}

/// A part of a group: type (empty: messages that never became an event), matching events, all that were looked at, oldest, newest.
type PartRow = (String, u64, u64, Option<Timestamp>, Option<Timestamp>);

/// A group, and whether it was looked at as a whole.
struct Counted {
    group: Option<ParkedGroup>,
    is_capped: bool,
}

impl StoreView {
    /// Parked events by reason.
    pub async fn parked_groups(&self, filter: &ParkedFilter) -> Result<Vec<ParkedGroup>, Error> {
        let mut groups = Vec::new();
        for reason in self.reasons_of(filter).await? {
            groups.extend(self.count_reason(reason, filter).await?.group);
        }
        Ok(groups)
    }

    /// The parked events that a retry by this filter would cover: their number, and some of them.
    pub async fn parked_preview(&self, filter: &ParkedFilter) -> Result<ParkedPreview, Error> {
        let (mut groups, mut sample, mut is_capped) = (Vec::<ParkedGroup>::new(), Vec::new(), false);
        for reason in self.reasons_of(filter).await? {
            let left = SAMPLE_MAX.saturating_sub(sample.len());
            let some = self.sample_of(&reason, filter, left);
            let (counted, some) = tokio::try_join!(self.count_reason(reason.clone(), filter), some)?;
            is_capped |= counted.is_capped;
            groups.extend(counted.group);
            sample.extend(some);
        }
        let (count, retryable) =
            groups.iter().fold((0, 0), |(count, retryable), group| (count + group.count, retryable + group.retryable));
        Ok(ParkedPreview { count, retryable, is_capped, groups, sample })
    }

    /// The reasons for which anything is parked: one look into the index for each.
    async fn reasons_of(&self, filter: &ParkedFilter) -> Result<Vec<String>, Error> {
        if let Some(reason) = filter.reason {
            return Ok(vec![reason.name().to_owned()]);
        }
        let mut reasons: Vec<String> = Vec::new();
        loop {
            let last = reasons.last().map(String::as_str).unwrap_or_default();
            let next = query(
                "SELECT COALESCE(reason, '') FROM events WHERE state = 'parked' AND COALESCE(reason, '') > $1 \
                 ORDER BY COALESCE(reason, '') LIMIT 1",
            );
            match next.bind(last).fetch_optional::<String>(&self.readers).await? {
                Some(reason) => reasons.push(reason),
                None => return Ok(reasons),
            }
        }
    }

    /// Counts the events of one reason, the longest parked first, until the limit. By the index alone, but for messages that never
    /// became an event.
    async fn count_reason(&self, reason: String, filter: &ParkedFilter) -> Result<Counted, Error> {
        let parts = query(
            "SELECT of_type, COALESCE(SUM(is_meant), 0), COUNT(*), \
             MIN(CASE WHEN is_meant = 1 THEN settled_at END), MAX(CASE WHEN is_meant = 1 THEN settled_at END) FROM \
             (SELECT CASE WHEN lane IS NULL THEN '' ELSE type END AS of_type, \
             CASE WHEN $5 = '' OR source = $5 THEN 1 ELSE 0 END AS is_meant, settled_at FROM events WHERE state = 'parked' \
             AND COALESCE(reason, '') = $1 AND settled_at >= $2 AND settled_at <= $3 ORDER BY settled_at LIMIT $4) AS looked \
             GROUP BY of_type ORDER BY of_type",
        );
        let parts = parts.with((&reason, filter.from(), filter.to(), COUNT_MAX, filter.source_or_any()));
        let parts: Vec<PartRow> = parts.fetch_all(&self.readers).await?;
        let is_capped = parts.iter().map(|(_, _, looked, ..)| looked).sum::<u64>() >= COUNT_MAX;
        let has_messages = parts.iter().any(|(of_type, meant, ..)| of_type.is_empty() && *meant > 0);
        let cut = if has_messages { self.count_cut_messages(&reason, filter).await? } else { 0 };
        let mut group = group_of(reason, is_capped, parts, cut);
        if let Some(group) = group.as_mut().filter(|_| is_capped) {
            group.newest_at = self.newest_of(&group.reason, filter).await?.unwrap_or(group.newest_at);
        }
        Ok(Counted { group, is_capped })
    }

    /// Counts the messages that were not kept whole, of those events that [`Self::count_reason`] looks at.
    async fn count_cut_messages(&self, reason: &str, filter: &ParkedFilter) -> Result<u64, Error> {
        let cut = query(ours(format!(
            "SELECT COUNT(*) FROM (SELECT lane, event, envelope, source FROM events WHERE state = 'parked' \
             AND COALESCE(reason, '') = $1 AND settled_at >= $2 AND settled_at <= $3 ORDER BY settled_at LIMIT $4) AS looked \
             WHERE lane IS NULL AND ($5 = '' OR source = $5) AND NOT {RETRYABLE}"
        )));
        let cut = cut.with((reason, filter.from(), filter.to(), COUNT_MAX, filter.source_or_any()));
        Ok(cut.fetch_one(&self.readers).await?)
    }

    /// When the newest of a large group was parked, of as many of its newest as are counted.
    async fn newest_of(&self, reason: &str, filter: &ParkedFilter) -> Result<Option<Timestamp>, Error> {
        let newest = query(
            "SELECT settled_at FROM (SELECT settled_at, source FROM events WHERE state = 'parked' AND COALESCE(reason, '') = $1 \
             AND settled_at >= $2 AND settled_at <= $3 ORDER BY settled_at DESC LIMIT $4) AS looked \
             WHERE $5 = '' OR source = $5 LIMIT 1",
        );
        let newest = newest.with((reason, filter.from(), filter.to(), COUNT_MAX, filter.source_or_any()));
        Ok(newest.fetch_optional(&self.readers).await?)
    }

    async fn sample_of(&self, reason: &str, filter: &ParkedFilter, limit: usize) -> Result<Vec<EventSummary>, Error> {
        let some = ours(format!(
            "SELECT {columns} FROM (SELECT * FROM events WHERE state = 'parked' AND COALESCE(reason, '') = $1 \
             AND settled_at >= $2 AND settled_at <= $3 ORDER BY settled_at LIMIT $4) AS looked \
             WHERE $5 = '' OR source = $5 LIMIT $6",
            columns = EventSummary::COLUMNS,
        ));
        let some = query(some).with((reason, filter.from(), filter.to(), COUNT_MAX, filter.source_or_any()));
        Ok(some.bind(limit).fetch_all(&self.readers).await?)
    }
}

/// The group of these parts, of whose messages so many were `cut`; `None`: no part has an event that is meant.
fn group_of(reason: String, is_capped: bool, parts: Vec<PartRow>, cut: u64) -> Option<ParkedGroup> {
    let mut group: Option<ParkedGroup> = None;
    for (of_type, meant, _, oldest, newest) in parts {
        let (Some(oldest_at), Some(newest_at)) = (oldest, newest) else { continue };
        let retryable = if of_type.is_empty() { meant.saturating_sub(cut) } else { meant };
        let types = (retryable > 0).then_some((of_type, retryable));
        match &mut group {
            Some(group) => {
                group.count += meant;
                group.retryable += retryable;
                group.types.extend(types);
                group.oldest_at = group.oldest_at.min(oldest_at);
                group.newest_at = group.newest_at.max(newest_at);
            }
            None => {
                let types = types.into_iter().collect();
                let reason = reason.clone();
                group = Some(ParkedGroup { reason, count: meant, is_capped, retryable, types, oldest_at, newest_at });
            }
        }
    }
    group
}
