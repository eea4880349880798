//! One statement with its values, and the rows that come of it: the same words for both databases.
//!
//! Placeholders are `$1`, `$2` …, columns are TEXT and BIGINT, so two kinds of values are all there is.
//!
//! Before: the files of [`crate::store`]. After: [`super::sqlite`] and [`super::postgres`].

use std::borrow::Cow;

use super::Fault;

/// The text of a statement: a constant of this program, or put together from such by [`ours`]. Nothing that came from outside
/// is ever in it.
pub(in crate::store) struct Sql(pub(super) Cow<'static, str>);

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// A statement put together from our own constants only.
pub(in crate::store) fn ours(text: String) -> Sql {
    Sql(Cow::Owned(text))
}

/// What a placeholder stands for. A missing value has a type too, which PostgreSQL asks for.
#[derive(Debug, Clone)]
pub(in crate::store) enum Argument<'a> {
    Integer(Option<i64>),
    Text(Option<Cow<'a, str>>),
}

impl From<i64> for Argument<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Argument<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(value)))
    }
}

impl From<String> for Argument<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(Cow::Owned(value)))
    }
}

impl<'a> From<&'a String> for Argument<'a> {
    fn from(value: &'a String) -> Self {
        Self::from(value.as_str())
    }
}

impl<'a> From<Option<&'a str>> for Argument<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(Cow::Borrowed))
    }
}

impl<'a> From<&'a Option<String>> for Argument<'a> {
    fn from(value: &'a Option<String>) -> Self {
        Self::from(value.as_deref())
    }
}

impl From<Option<String>> for Argument<'_> {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(Cow::Owned))
    }
}

impl Argument<'_> {
    fn into_owned(self) -> Argument<'static> {
        match self {
            Self::Integer(value) => Argument::Integer(value),
            Self::Text(value) => Argument::Text(value.map(|text| Cow::Owned(text.into_owned()))),
        }
    }
}

/// A statement that has not run yet.
pub(in crate::store) struct Query<'a> {
    pub(super) sql: Sql,
    pub(super) arguments: Vec<Argument<'a>>,
}

/// The statement of this text; its placeholders are bound in their order.
pub(in crate::store) fn query<'a>(sql: impl Into<Sql>) -> Query<'a> {
    Query { sql: sql.into(), arguments: Vec::with_capacity(8) }
}

/// Whatever statements run on.
pub(in crate::store) trait Executor: Send {
    /// All rows that it gives.
    fn rows(self, query: Query<'_>) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send;
    /// How many rows it changed.
    fn changes(self, query: Query<'_>) -> impl Future<Output = Result<u64, Fault>> + Send;
}

impl<'a> Query<'a> {
    /// The next placeholder's value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Argument<'a>>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// Runs it, and says how many rows it changed.
    pub(in crate::store) async fn execute(self, on: impl Executor) -> Result<u64, Fault> {
        on.changes(self).await
    }

    /// All rows.
    pub(in crate::store) async fn fetch_all(self, on: impl Executor) -> Result<Vec<Row>, Fault> {
        on.rows(self).await
    }

    /// The first row, if there is one. What the statement changes it changes whole.
    pub(in crate::store) async fn fetch_optional(self, on: impl Executor) -> Result<Option<Row>, Fault> {
        Ok(on.rows(self).await?.into_iter().next())
    }

    /// The first row, which is there.
    pub(in crate::store) async fn fetch_one(self, on: impl Executor) -> Result<Row, Fault> {
        self.fetch_optional(on).await?.ok_or(Fault::Missing)
    }

    pub(super) fn into_owned(self) -> Query<'static> {
        Query { sql: self.sql, arguments: self.arguments.into_iter().map(Argument::into_owned).collect() }
    }
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Cell {
    Null,
    Integer(i64),
    Text(String),
}

/// One row, read whole.
#[derive(Debug)]
pub(in crate::store) struct Row(pub(super) Vec<Cell>);

impl Row {
    /// The value of a column; [`Fault::Unreadable`] when it is of another kind, or there is no such column.
    pub(in crate::store) fn try_get<T: OfCell>(&self, column: usize) -> Result<T, Fault> {
        self.0.get(column).and_then(T::of).ok_or(Fault::Unreadable { column })
    }
}

/// What a column may be read as.
pub(in crate::store) trait OfCell: Sized {
    fn of(cell: &Cell) -> Option<Self>;
}

impl OfCell for i64 {
    fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Integer(value) => Some(*value),
            Cell::Null | Cell::Text(_) => None,
        }
    }
}

impl OfCell for String {
    fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Text(value) => Some(value.clone()),
            Cell::Null | Cell::Integer(_) => None,
        }
    }
}

impl<T: OfCell> OfCell for Option<T> {
    fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            Cell::Integer(_) | Cell::Text(_) => T::of(cell).map(Some),
        }
    }
}
