//! Pages: every list of `/v1` is asked for, and answered, a page at a time. A value that cannot be taken as it is written is refused,
//! and never replaced by another.
//!
//! Before: the queries of [`crate::admin`]'s lists. After: [`crate::store`] reads the rows of a page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::ApiError;
use crate::store::ROWS_MAX;

/// The part of a list's query that says which page is wanted.
#[derive(Deserialize, JsonSchema)]
pub struct PageQuery {
    /// The next page: `next` of the one before.
    after: Option<String>,
    /// Entries of a page.
    #[schemars(range(min = 1, max = ROWS_MAX), extend("default" = ROWS_MAX))]
    limit: Option<i64>,
}

impl PageQuery {
    /// A page of this many entries, after the place that the one before named.
    pub fn of(after: Option<String>, limit: i64) -> Self {
        Self { after, limit: Some(limit) }
    }

    /// Rows of the page.
    pub(super) fn limit(&self) -> Result<i64, ApiError> {
        let limit = self.limit.unwrap_or(ROWS_MAX);
        let is_limit = (1..=ROWS_MAX).contains(&limit);
        if is_limit { Ok(limit) } else { Err(ApiError::malformed(format!("`limit` is from 1 to {ROWS_MAX}"))) }
    }

    /// The place after which the page begins, as `read` takes it.
    pub(super) fn after<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        let unread = || ApiError::malformed("`after` is the `next` of the page before");
        self.after.as_deref().map(|after| read(after).ok_or_else(unread)).transpose()
    }

    /// The place of a list whose rows have the bridge's own ids.
    pub(super) fn after_id(&self) -> Result<Option<String>, ApiError> {
        self.after(|after| Uuid::parse_str(after).ok().map(|id| id.to_string()))
    }
}

/// The place after which the page behind these rows begins: if a page is full, another may follow.
pub fn next_of<T>(rows: &[T], limit: i64, id: impl Fn(&T) -> String) -> Option<String> {
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    rows.last().filter(|_| is_full).map(id)
}

/// A page of a list; its `next`, if there is more, is the next page's `after`.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<String>,
}

impl<T: Serialize> Page<T> {
    /// A page of rows in the order of their ids. If it is full, another may follow.
    pub(super) fn by_id(rows: Vec<T>, limit: i64, id: impl Fn(&T) -> String) -> Self {
        let next = next_of(&rows, limit, id);
        Self { rows, next }
    }

    /// The answer, with the rows under the list's name.
    pub(super) fn named(self, list: &str) -> Value {
        json!({ (list): self.rows, "next": self.next })
    }
}
