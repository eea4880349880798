//! The schema version of a store, and its migration to this program's.
//!
//! A process that works on the events brings the schema up to date, and so does the command `migrate`, for a bridge whose role has
//! no right to. Any other command compares, and leaves it as it is: a command of a new version must not upgrade the store of a
//! bridge of the old one, nor of a backup.
//!
//! A schema that is newer only by additions serves this program as well: replicas of two versions work side by side. The store's
//! floor tells which programs it serves (docs/adr/0028).
//!
//! Before: the store's `db`. After: [`crate::store::Store::open`].

use std::sync::LazyLock;

use sqlx::migrate::Migrator;

use super::audit::{self, AuditRow};
use super::db::{Connection, Db, Dialect, NotMigrated, query};
use super::error::OpenError;
use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::identity::Actor;

/// The schema of both databases, numbered, forward only.
static SHARED: Migrator = sqlx::migrate!("src/store/migrations");

/// The parts for PostgreSQL alone, numbered in the same sequence.
static OF_POSTGRES: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// The schema of PostgreSQL.
static POSTGRES: LazyLock<Migrator> =
    LazyLock::new(|| Migrator::with_migrations(SHARED.iter().chain(OF_POSTGRES.iter()).cloned().collect()));

/// The migration that made the store's floor.
const FLOOR_SINCE: i64 = 18;

/// The migrations that a store of each kind has.
fn migrations(dialect: Dialect) -> &'static Migrator {
    match dialect {
        Dialect::Sqlite => &SHARED,
        Dialect::Postgres => &POSTGRES,
    }
}

/// The migrations that a store has, and its floor.
struct Schema {
    applied: Vec<i64>,
    /// The newest migration of the oldest program that may work on it; `None` if it is from before there were floors.
    floor: Option<i64>,
}

/// Brings the schema up to date. A store that has outgrown this program is left alone. Returns the newest migration that the store
/// had. The transaction of the newest migration has a row of the audit log, by this actor.
pub(super) async fn upgrade(db: &Db, connection: &mut Connection, by: &Actor, clock: &Clock) -> Result<i64, OpenError> {
    let schema = Schema::read(db, connection).await?;
    schema.refuse_newer()?;
    let found = schema.newest();
    let target = AuditTarget::new(TargetKind::Store, "schema");
    let entry = AuditEntry::done(clock.now(), by.clone(), Action::StoreMigrate, target);
    let row = AuditRow::new(entry, clock).with_change(Some(found.to_string()), Some(known_of(db.dialect).to_string()));
    let told = audit::statement([&row].into_iter());
    connection.migrate(migrations(db.dialect), &told).await.map_err(|error| match error {
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

/// Checks that the store's schema serves this program.
pub(super) async fn compare(db: &Db, connection: &mut Connection) -> Result<(), OpenError> {
    let schema = Schema::read(db, connection).await?;
    schema.refuse_newer()?;
    if migrations(db.dialect).iter().all(|migration| schema.applied.contains(&migration.version)) {
        return Ok(());
    }
    Err(OpenError::Older { found: schema.newest(), known: known() })
}

/// The newest migration of this program, for whichever database.
pub(super) fn known() -> i64 {
    newest(POSTGRES.iter().map(|migration| &migration.version))
}

/// The newest migration that a store of this kind has once it is up to date.
pub(super) fn known_of(dialect: Dialect) -> i64 {
    newest(migrations(dialect).iter().map(|migration| &migration.version))
}

fn newest<'a>(versions: impl Iterator<Item = &'a i64>) -> i64 {
    versions.copied().max().unwrap_or(0)
}

impl Schema {
    async fn read(db: &Db, connection: &mut Connection) -> Result<Self, OpenError> {
        let applied = applied(db, connection).await?;
        let floor = match applied.contains(&FLOOR_SINCE) {
            true => query("SELECT MAX(version) FROM schema_floor").fetch_one(connection).await,
            false => Ok(None),
        };
        Ok(Self { floor: floor.map_err(|error| db.refusal(error))?, applied })
    }

    /// A newer schema that only adds serves this program: its floor is not above it.
    fn refuse_newer(&self) -> Result<(), OpenError> {
        let is_known = self.applied.iter().all(|version| POSTGRES.version_exists(*version));
        if is_known || self.floor.is_some_and(|floor| floor <= known()) {
            return Ok(());
        }
        Err(OpenError::Newer { found: self.newest(), known: known() })
    }

    fn newest(&self) -> i64 {
        newest(self.applied.iter())
    }
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
