//! Pages: every list of `/v1` is asked for, and answered, a page at a time.
//!
//! Before: the queries of [`crate::admin`]'s lists. After: [`crate::store`] reads the rows of a page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::ROWS_MAX;

/// The part of a list's query that says which page is wanted.
#[derive(Deserialize, JsonSchema)]
pub struct PageQuery {
    /// The next page: `next` of the one before.
    pub(super) after: Option<String>,
    /// Entries of a page.
    #[schemars(range(min = 1, max = ROWS_MAX), extend("default" = ROWS_MAX))]
    limit: Option<i64>,
}

impl PageQuery {
    /// Rows of the page.
    pub(super) fn limit(&self) -> i64 {
        self.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX)
    }
}

/// A page of a list; its `next`, if there is more, is the next page's `after`.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<String>,
}

impl<T: Serialize> Page<T> {
    /// A page of rows in the order of their ids. If it is full, another may follow.
    pub(super) fn by_id(rows: Vec<T>, limit: i64, id: impl Fn(&T) -> String) -> Self {
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
        let next = rows.last().filter(|_| is_full).map(id);
        Self { rows, next }
    }

    /// The answer, with the rows under the list's name.
    pub(super) fn named(self, list: &str) -> Value {
        json!({ (list): self.rows, "next": self.next })
    }
}
