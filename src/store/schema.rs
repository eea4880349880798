//! The schema version of a store, and its migration to this program's.
//!
//! A process that works on the events brings the schema up to date, and so does the command `migrate`, for a bridge whose role has
//! no right to. Any other command compares, and leaves it as it is: a command of a new version must not upgrade the store of a
//! bridge of the old one, nor of a backup.
//!
//! Before: the store's `db`. After: [`crate::store::Store::open`].

use super::db::{Connection, Db, NotMigrated, query};
use super::error::OpenError;

/// The schema, numbered, forward only.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// Brings the schema up to date. A store of a newer version is left alone. Returns the newest migration that the store had.
pub(super) async fn upgrade(db: &Db, connection: &mut Connection) -> Result<i64, OpenError> {
    let applied = applied(db, connection).await?;
    refuse_newer(&applied)?;
    let found = newest(applied.iter());
    connection.migrate(&MIGRATIONS).await.map_err(|error| match error {
        NotMigrated::DbFault(fault) if fault.is_denied() => OpenError::Unusable(format!(
            "the store is of schema {found}, this program of schema {}, and the role of store.url may not change it ({fault}); \
             run `podero-bridge migrate` with the URL of the role that owns the tables",
            known()
        )),
        NotMigrated::DbFault(fault) => db.refusal(fault),
        NotMigrated::Schema(error) => OpenError::Unusable(format!("its schema cannot be brought up to date: {error}")),
    })?;
    Ok(found)
}

/// Checks that the store has this program's schema.
pub(super) async fn compare(db: &Db, connection: &mut Connection) -> Result<(), OpenError> {
    let applied = applied(db, connection).await?;
    refuse_newer(&applied)?;
    if MIGRATIONS.iter().all(|migration| applied.contains(&migration.version)) {
        return Ok(());
    }
    Err(OpenError::Older { found: newest(applied.iter()), known: known() })
}

fn refuse_newer(applied: &[i64]) -> Result<(), OpenError> {
    if applied.iter().all(|version| MIGRATIONS.version_exists(*version)) {
        return Ok(());
    }
    Err(OpenError::Newer { found: newest(applied.iter()), known: known() })
}

/// The newest migration that this program knows.
pub(super) fn known() -> i64 {
    newest(MIGRATIONS.iter().map(|migration| &migration.version))
}

fn newest<'a>(versions: impl Iterator<Item = &'a i64>) -> i64 {
    versions.copied().max().unwrap_or(0)
}

/// The versions that the store has; empty if it has no schema yet.
async fn applied(db: &Db, connection: &mut Connection) -> Result<Vec<i64>, OpenError> {
    let applied = async {
        if query(db.has_schema()).fetch_one::<i64>(&mut *connection).await? == 0 {
            return Ok(Vec::new());
        }
        query("SELECT version FROM _sqlx_migrations").fetch_all(connection).await
    };
    applied.await.map_err(|error| db.refusal(error))
}
