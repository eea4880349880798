//! PostgreSQL, by sqlx.
//!
//! Before: [`mod@super::query`]. After: the server.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, Column, Executor, PgExecutor, Postgres, Row as _, TypeInfo, ValueRef};

use super::fault::DbFault;
use super::query::{Argument, Cell, Query, Row};
use super::rows::{Column as RowColumn, Rows};

pub(super) async fn rows(on: impl PgExecutor<'_>, query: Query<'_>) -> Result<Vec<Row>, DbFault> {
    let rows = statement(query).fetch_all(on).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn changes(on: impl PgExecutor<'_>, query: Query<'_>) -> Result<u64, DbFault> {
    Ok(statement(query).execute(on).await?.rows_affected())
}

/// Runs a statement once for a set of rows, and returns all that it found.
pub(super) async fn rows_of(on: impl PgExecutor<'_>, rows: &Rows<'_>) -> Result<Vec<Row>, DbFault> {
    statement_of(rows).fetch_all(on).await?.iter().map(read).collect()
}

/// Runs a statement once for a set of rows, and returns the number of rows that it changed.
pub(super) async fn changes_of(on: impl PgExecutor<'_>, rows: &Rows<'_>) -> Result<u64, DbFault> {
    Ok(statement_of(rows).execute(on).await?.rows_affected())
}

/// Runs several statements without values.
pub(super) async fn batch(on: impl Executor<'_, Database = Postgres>, sql: String) -> Result<(), DbFault> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(on).await?;
    Ok(())
}

fn statement(query: Query<'_>) -> sqlx::query::Query<'_, Postgres, PgArguments> {
    let statement = match query.sql.0 {
        std::borrow::Cow::Borrowed(text) => sqlx::query(text),
        std::borrow::Cow::Owned(text) => sqlx::query(AssertSqlSafe(text)),
    };
    query.arguments.into_iter().fold(statement, |statement, argument| match argument {
        Argument::Integer(value) => statement.bind(value),
        Argument::Text(value) => statement.bind(value),
    })
}

fn statement_of<'q>(rows: &Rows<'_>) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    let columns = rows.columns();
    let statement = sqlx::query(rows.statement.for_all(&columns));
    columns.into_iter().fold(statement, |statement, column| match column {
        RowColumn::Integers(values) => statement.bind(values),
        RowColumn::Texts(values) => statement.bind(values),
    })
}

fn read(row: &PgRow) -> Result<Row, DbFault> {
    let cells = row.columns().iter().map(|column| {
        let place = column.ordinal();
        if row.try_get_raw(place)?.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match column.type_info().name() {
            "INT8" => Cell::Integer(row.try_get(place)?),
            "INT4" => Cell::Integer(row.try_get::<i32, _>(place)?.into()),
            "TEXT" | "VARCHAR" | "NAME" => Cell::Text(row.try_get(place)?),
            _ => return Err(DbFault::Unreadable { column: place }),
        })
    });
    Ok(Row(cells.collect::<Result<_, _>>()?))
}
