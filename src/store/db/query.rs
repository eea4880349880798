//! One statement with its values, and the rows that it returns: the same words for both databases.
//!
//! Placeholders are `$1`, `$2` …, columns are TEXT and BIGINT, so there are only two kinds of values; `values.rs` maps types to
//! them. Columns are read in their order: into tuples, or into a [`row!`] that declares them once.
//!
//! Before: the files of [`crate::store`]. After: [`super::sqlite`] and [`super::postgres`].

use std::borrow::Cow;

use super::fault::DbFault;

/// The text of a statement: a constant of this program, or put together from constants by [`ours`]. Outside input is never in it.
#[derive(Clone)]
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

/// The value of a placeholder. A missing value has a type too, which PostgreSQL needs.
#[derive(Debug, Clone)]
pub(in crate::store) enum Argument<'a> {
    Integer(Option<i64>),
    Text(Option<Cow<'a, str>>),
}

impl Argument<'_> {
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => *value,
            Self::Text(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => value.as_deref(),
            Self::Integer(_) => None,
        }
    }

    fn into_owned(self) -> Argument<'static> {
        match self {
            Self::Integer(value) => Argument::Integer(value),
            Self::Text(value) => Argument::Text(value.map(|text| Cow::Owned(text.into_owned()))),
        }
    }
}

/// A type that a placeholder takes.
pub(in crate::store) trait ToArgument<'a> {
    /// The missing value of this type.
    const NULL: Argument<'static>;

    fn argument(self) -> Argument<'a>;
}

impl<'a, T: ToArgument<'a>> ToArgument<'a> for Option<T> {
    const NULL: Argument<'static> = T::NULL;

    fn argument(self) -> Argument<'a> {
        self.map_or(T::NULL, T::argument)
    }
}

impl<'a> ToArgument<'a> for &'a Option<String> {
    const NULL: Argument<'static> = Argument::Text(None);

    fn argument(self) -> Argument<'a> {
        self.as_deref().argument()
    }
}

/// Values of consecutive placeholders.
pub(in crate::store) trait Values<'a> {
    fn push_to(self, arguments: &mut Vec<Argument<'a>>);
}

/// A statement that has not run yet.
#[derive(Clone)]
pub(in crate::store) struct Query<'a> {
    pub(super) sql: Sql,
    pub(super) arguments: Vec<Argument<'a>>,
}

/// A statement with this text; its placeholders are bound in their order.
pub(in crate::store) fn query<'a>(sql: impl Into<Sql>) -> Query<'a> {
    Query { sql: sql.into(), arguments: Vec::with_capacity(8) }
}

/// A place where statements run.
pub(in crate::store) trait Executor: Send {
    /// Runs a statement and returns all its rows.
    fn rows(self, query: Query<'_>) -> impl Future<Output = Result<Vec<Row>, DbFault>> + Send;
    /// Runs a statement and returns the number of rows that it changed.
    fn changes(self, query: Query<'_>) -> impl Future<Output = Result<u64, DbFault>> + Send;
}

impl<'a> Query<'a> {
    /// Binds the value of the next placeholder.
    pub(in crate::store) fn bind(mut self, value: impl ToArgument<'a>) -> Self {
        self.arguments.push(value.argument());
        self
    }

    /// Binds the values of the next placeholders.
    pub(in crate::store) fn with(mut self, values: impl Values<'a>) -> Self {
        values.push_to(&mut self.arguments);
        self
    }

    /// Binds one placeholder to each value.
    pub(in crate::store) fn with_each<T: ToArgument<'a>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(values.into_iter().map(T::argument));
        self
    }

    /// Runs it, and returns the number of rows that it changed.
    pub(in crate::store) async fn execute(self, on: impl Executor) -> Result<u64, DbFault> {
        on.changes(self).await
    }

    /// Runs it, and returns all rows.
    pub(in crate::store) async fn fetch_all<T: FromRow>(self, on: impl Executor) -> Result<Vec<T>, DbFault> {
        on.rows(self).await?.into_iter().map(Row::read).collect()
    }

    /// The first row, if there is one. A statement that changes rows makes all its changes.
    pub(in crate::store) async fn fetch_optional<T: FromRow>(self, on: impl Executor) -> Result<Option<T>, DbFault> {
        on.rows(self).await?.into_iter().next().map(Row::read).transpose()
    }

    /// The first row, which must exist.
    pub(in crate::store) async fn fetch_one<T: FromRow>(self, on: impl Executor) -> Result<T, DbFault> {
        self.fetch_optional(on).await?.ok_or(DbFault::Missing)
    }

    /// `true` if it returns a row.
    pub(in crate::store) async fn finds(self, on: impl Executor) -> Result<bool, DbFault> {
        Ok(!on.rows(self).await?.is_empty())
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
    /// The row as a value; [`DbFault::Unreadable`] if a column is of another kind, or missing.
    pub(in crate::store) fn read<T: FromRow>(self) -> Result<T, DbFault> {
        T::from_row(&mut Cells { column: 0, cells: self.0.into_iter() })
    }
}

/// The cells of a row that are not read yet.
pub(in crate::store) struct Cells {
    column: usize,
    cells: std::vec::IntoIter<Cell>,
}

/// A type that the next columns of a row are read as.
pub(in crate::store) trait FromRow: Sized {
    fn from_row(cells: &mut Cells) -> Result<Self, DbFault>;
}

/// A type that one column is read as; `None`: the column holds something else.
pub(in crate::store) trait FromCell: Sized {
    fn from_cell(cell: Cell) -> Option<Self>;
}

impl<T: FromCell> FromRow for T {
    fn from_row(cells: &mut Cells) -> Result<Self, DbFault> {
        let column = cells.column;
        cells.column += 1;
        cells.cells.next().and_then(T::from_cell).ok_or(DbFault::Unreadable { column })
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            Cell::Integer(_) | Cell::Text(_) => T::from_cell(cell).map(Some),
        }
    }
}

/// Tuples are bound, and read, value by value.
macro_rules! tuples {
    ($(($($name:ident)+))+) => { $(
        impl<'a, $($name: ToArgument<'a>),+> Values<'a> for ($($name,)+) {
            fn push_to(self, arguments: &mut Vec<Argument<'a>>) {
                #[expect(non_snake_case, reason = "named as their types")]
                let ($($name,)+) = self;
                arguments.extend([$($name.argument()),+]);
            }
        }

        impl<$($name: FromRow),+> FromRow for ($($name,)+) {
            fn from_row(cells: &mut Cells) -> Result<Self, DbFault> {
                Ok(($($name::from_row(cells)?,)+))
            }
        }
    )+ };
}

tuples! {
    (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K L)
}

/// Declares a kind of row: a structure whose fields are columns, in `COLUMNS` for a statement that selects them.
macro_rules! row {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident {
            $(#[$first_meta:meta])* $first_vis:vis $first:ident: $first_type:ty = $first_column:literal
            $(, $(#[$meta:meta])* $field_vis:vis $field:ident: $type:ty = $column:literal)* $(,)?
        }
    ) => {
        $(#[$outer])*
        $vis struct $name {
            $(#[$first_meta])* $first_vis $first: $first_type,
            $($(#[$meta])* $field_vis $field: $type,)*
        }

        impl $name {
            /// The columns of its fields, in their order.
            pub(in crate::store) const COLUMNS: &'static str = concat!($first_column $(, ", ", $column)*);
        }

        impl $crate::store::db::FromRow for $name {
            fn from_row(cells: &mut $crate::store::db::Cells) -> Result<Self, $crate::store::db::DbFault> {
                use $crate::store::db::FromRow as Read;
                Ok(Self { $first: Read::from_row(cells)?, $($field: Read::from_row(cells)?),* })
            }
        }
    };
}

pub(in crate::store) use row;
