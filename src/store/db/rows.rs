//! One statement for a set of rows: SQLite runs it for each row, PostgreSQL once for all of them.
//!
//! In this process a statement costs microseconds, over a connection it costs a round trip. So each statement of a
//! group is declared once, as a [`RowStatement`]: a text with marks where the two databases differ. SQLite loops the prepared
//! statement over the rows; PostgreSQL gets an array for each column, which `unnest` makes a table named `given`.
//!
//! | mark | SQLite | PostgreSQL |
//! |---|---|---|
//! | `{column}` | `$1` | `given.column` |
//! | `{rows}`, after `INSERT INTO t (…)` | `VALUES ($1, $2)` | `SELECT * FROM unnest(…) AS given(…)` |
//! | `{from}` | | `FROM unnest(…) AS given(…)` |
//! | `{using}`, of a `DELETE` | | `USING unnest(…) AS given(…)` |
//! | `{join}`, after `FROM` | | `unnest(…) AS given(…), ` |
//! | `{lateral}`, before a subquery of a `FROM` | | `LATERAL` |
//! | `{written t.key}` | | `RETURNING t.key` |
//! | `{lock t}`, after a `SELECT` | | `FOR UPDATE OF t` |
//!
//! PostgreSQL plans a statement once for all sets, often while its tables are empty, and keeps the plan. So a condition is written
//! such that the index that finds the row is the only one that can serve it: one that implies the condition of a partial index,
//! `state = 'pending'` say, invites a walk through all of that index instead, and `COALESCE(state, '')` does not. Nor does
//! `state = (SELECT 'pending')`, by which an index of lanes and states finds a lane's pending events: statistics that were taken
//! while nothing was pending say that the partial index is empty. The writer's connection joins by loops over indexes alone
//! (`db/postgres.rs`, `PLANS_OF_WRITER`), and rows to be taken are found before they are changed ([`super::Dialect::chosen`]).
//!
//! A caller gives the rows in the order of their keys, so that two replicas that change the same rows wait for each other in
//! turn, and each key once: a statement of PostgreSQL changes no row twice.
//!
//! Before: the files of [`crate::store`]. After: [`super::sqlite`] and [`super::postgres`].

use std::sync::OnceLock;

use super::fault::DbFault;
use super::query::{Argument, FromRow, Row, ToArgument, Values};

/// The columns of a set of rows, and the statement that takes them.
pub(in crate::store) struct RowStatement {
    columns: &'static [&'static str],
    selected: &'static str,
    marked: &'static str,
    for_each: OnceLock<&'static str>,
    for_all: OnceLock<&'static str>,
}

/// Rows for a statement, of which none has run yet.
pub(in crate::store) struct Rows<'a> {
    pub(super) statement: &'static RowStatement,
    /// The values, row after row.
    arguments: Vec<Argument<'a>>,
}

/// A place where a statement runs for a set of rows.
pub(in crate::store) trait RowsExecutor: Send {
    /// All rows that it found.
    fn found(self, rows: &Rows<'_>) -> impl Future<Output = Result<Vec<Row>, DbFault>> + Send;
    /// The number of rows that it changed.
    fn changed(self, rows: &Rows<'_>) -> impl Future<Output = Result<u64, DbFault>> + Send;
    /// For each row of the set, whether it changed anything.
    fn written(self, rows: &Rows<'_>) -> impl Future<Output = Result<Vec<bool>, DbFault>> + Send;
}

/// The values of one column.
pub(super) enum Column<'r> {
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<&'r str>>),
}

impl RowStatement {
    /// The marked text of a statement on rows of these columns. The first column is the key.
    pub(in crate::store) const fn new(columns: &'static [&'static str], marked: &'static str) -> Self {
        Self::selecting(columns, "", marked)
    }

    /// As [`RowStatement::new`], where `{selected}` stands for the columns that are read.
    pub(in crate::store) const fn selecting(
        columns: &'static [&'static str],
        selected: &'static str,
        marked: &'static str,
    ) -> Self {
        Self { columns, selected, marked, for_each: OnceLock::new(), for_all: OnceLock::new() }
    }

    /// No rows yet; most sets have fewer than `capacity`.
    pub(in crate::store) fn rows<'a>(&'static self, capacity: usize) -> Rows<'a> {
        Rows { statement: self, arguments: Vec::with_capacity(capacity * self.columns.len()) }
    }

    /// The text for one row.
    pub(super) fn for_each(&self) -> &'static str {
        self.for_each.get_or_init(|| {
            let places: Vec<String> = (1..=self.columns.len()).map(|number| format!("${number}")).collect();
            let values = format!("VALUES ({})", places.join(", "));
            let marks =
                [("{rows}", values.as_str()), ("{from}", ""), ("{using}", ""), ("{join}", ""), ("{lateral}", "")];
            kept(self.filled(&marks, |place| places[place].clone(), [None, None]))
        })
    }

    /// The text for all rows, whose columns are of these kinds.
    pub(super) fn for_all(&self, kinds: &[Column<'_>]) -> &'static str {
        self.for_all.get_or_init(|| {
            let array = |(place, kind): (usize, &Column<'_>)| match kind {
                Column::Integers(_) => format!("${}::bigint[]", place + 1),
                Column::Texts(_) => format!("${}::text[]", place + 1),
            };
            let arrays: Vec<String> = kinds.iter().enumerate().map(array).collect();
            let given = format!("unnest({}) AS given({})", arrays.join(", "), self.columns.join(", "));
            let from = format!("FROM {given}");
            let rows = format!("SELECT * {from}");
            let (using, join) = (format!("USING {given}"), format!("{given}, "));
            let marks = [
                ("{rows}", rows.as_str()),
                ("{from}", &from),
                ("{using}", &using),
                ("{join}", &join),
                ("{lateral}", "LATERAL"),
            ];
            let column = |place: usize| format!("given.{}", self.columns[place]);
            kept(self.filled(&marks, column, [Some("RETURNING"), Some("FOR UPDATE OF")]))
        })
    }

    fn filled(&self, marks: &[(&str, &str)], column: impl Fn(usize) -> String, clauses: [Option<&str>; 2]) -> String {
        let filled = marks
            .iter()
            .fold(self.marked.replace("{selected}", self.selected), |text, (mark, with)| text.replace(mark, with));
        let columns = self.columns.iter().enumerate();
        let filled = columns.fold(filled, |text, (place, name)| text.replace(&format!("{{{name}}}"), &column(place)));
        let clauses = ["{written ", "{lock "].into_iter().zip(clauses);
        clauses.fold(filled, |text, (mark, clause)| {
            let Some((before, rest)) = text.split_once(mark) else { return text };
            let (name, after) = rest.split_once('}').expect("a mark has an end");
            let clause = clause.map_or_else(String::new, |words| format!("{words} {name}"));
            format!("{before}{clause}{after}")
        })
    }
}

/// Keeps the text of a statement for ever: there is one of each kind for each [`RowStatement`], which is a constant of the program.
fn kept(text: String) -> &'static str {
    text.leak()
}

impl<'a> Rows<'a> {
    /// The next values of the current row; those of a new row once it is complete.
    pub(in crate::store) fn with(&mut self, values: impl Values<'a>) -> &mut Self {
        values.push_to(&mut self.arguments);
        self
    }

    /// As [`Rows::with`], for one value.
    pub(in crate::store) fn bind(&mut self, value: impl ToArgument<'a>) -> &mut Self {
        self.arguments.push(value.argument());
        self
    }

    /// `true` if there is no row.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    /// Runs it, and returns the number of rows that it changed.
    pub(in crate::store) async fn execute(self, on: impl RowsExecutor) -> Result<u64, DbFault> {
        Ok(if self.is_empty() { 0 } else { on.changed(&self).await? })
    }

    /// Runs it, and returns all rows that it found or returned: one row of the set may have several, or none.
    pub(in crate::store) async fn fetch_all<T: FromRow>(self, on: impl RowsExecutor) -> Result<Vec<T>, DbFault> {
        let found = if self.is_empty() { Vec::new() } else { on.found(&self).await? };
        found.into_iter().map(Row::read).collect()
    }

    /// Runs it, and tells of each row of the set whether it changed anything. The statement has the mark `written` and names the
    /// key of the set, a text that no other row has.
    pub(in crate::store) async fn written(self, on: impl RowsExecutor) -> Result<Vec<bool>, DbFault> {
        Ok(if self.is_empty() { Vec::new() } else { on.written(&self).await? })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &[Argument<'a>]> {
        self.arguments.chunks(self.statement.columns.len())
    }

    /// The key of each row, if it is a text.
    pub(super) fn keys(&self) -> impl Iterator<Item = Option<&str>> {
        self.each().map(|row| row[0].text())
    }

    pub(super) fn columns(&self) -> Vec<Column<'_>> {
        let column = |place: usize| match self.arguments[place] {
            Argument::Integer(_) => Column::Integers(self.each().map(|row| row[place].integer()).collect()),
            Argument::Text(_) => Column::Texts(self.each().map(|row| row[place].text()).collect()),
        };
        (0..self.statement.columns.len()).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static UPDATE: RowStatement = RowStatement::new(
        &["id", "state"],
        "UPDATE events SET state = {state} {from} WHERE events.id = {id} {written events.id}",
    );
    static INSERT: RowStatement = RowStatement::new(&["id", "at"], "INSERT INTO calls (id, at) {rows}");
    static HEADS: RowStatement = RowStatement::new(
        &["lane"],
        "SELECT {lane}, head.id FROM {join}{lateral} (SELECT id FROM events WHERE lane = {lane} LIMIT 1) AS head",
    );

    #[test]
    fn a_text_has_a_form_for_each_row_and_one_for_all() {
        let kinds = |statement: &'static RowStatement, rows: &mut Rows<'_>| {
            assert_eq!(rows.columns().len(), statement.columns.len());
            (statement.for_each(), statement.for_all(&rows.columns()))
        };
        let mut rows = UPDATE.rows(2);
        rows.with(("1", "pending")).with(("2", None::<&str>));
        assert_eq!(rows.keys().collect::<Vec<_>>(), [Some("1"), Some("2")]);
        let (each, all) = kinds(&UPDATE, &mut rows);
        assert_eq!(each, "UPDATE events SET state = $2  WHERE events.id = $1 ");
        assert_eq!(
            all,
            "UPDATE events SET state = given.state FROM unnest($1::text[], $2::text[]) AS given(id, state) \
             WHERE events.id = given.id RETURNING events.id"
        );
        let mut rows = INSERT.rows(1);
        rows.with(("1", 5_i64));
        let (each, all) = kinds(&INSERT, &mut rows);
        assert_eq!(each, "INSERT INTO calls (id, at) VALUES ($1, $2)");
        assert_eq!(all, "INSERT INTO calls (id, at) SELECT * FROM unnest($1::text[], $2::bigint[]) AS given(id, at)");
        let mut rows = HEADS.rows(1);
        rows.bind("a");
        let (each, all) = kinds(&HEADS, &mut rows);
        assert_eq!(each, "SELECT $1, head.id FROM  (SELECT id FROM events WHERE lane = $1 LIMIT 1) AS head");
        assert_eq!(
            all,
            "SELECT given.lane, head.id FROM unnest($1::text[]) AS given(lane), LATERAL (SELECT id FROM events \
             WHERE lane = given.lane LIMIT 1) AS head"
        );
    }
}
