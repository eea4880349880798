//! The cost of events at their store: statements, commits, bytes of the log and flushes, from the outside. A store in a process
//! tells of its statements to nobody; its log (`FILE-wal`) tells of commits and bytes, each page by itself.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection as _, PgConnection};

use crate::figures::{Aim, Figure};
use crate::process::Servers;
use crate::store::Store;

/// Limits of an event's cost under load, on PostgreSQL.
pub(crate) const STATEMENTS_MAX: f64 = 0.6;
pub(crate) const LOG_BYTES_MAX: f64 = 3_000.0;

/// Interval between two looks at a growing log: short enough that it does not grow, move and begin again in between.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Time until a session of a server has told of its flushes: at the end of its first transaction a second after the last time. A
/// bridge's heartbeat, every three seconds, is one.
const TELLING: Duration = Duration::from_millis(3_500);

/// A count under way.
pub(crate) enum Meter {
    File { is_over: Arc<AtomicBool>, counting: JoinHandle<anyhow::Result<Totals>> },
    Server { connection: PgConnection, database: String, before: Totals },
}

/// Sums, as far as the store tells.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    statements: Option<i64>,
    commits: i64,
    log_bytes: i64,
    /// The bytes of the log that are images of whole pages: the first change of a page after a checkpoint has one.
    image_bytes: Option<i64>,
    flushes: Option<i64>,
}

impl Meter {
    /// Lets the run's server count statements from now on.
    pub(crate) async fn switch_on(servers: &Servers) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&servers.postgres()?).await?;
        for statement in [
            "CREATE EXTENSION pg_stat_statements",
            "CREATE EXTENSION pg_walinspect",
            "ALTER SYSTEM SET pg_stat_statements.track = 'top'",
            "SELECT pg_reload_conf()",
        ] {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        Ok(())
    }

    /// Waits, before the load of a count, until the flushes of an earlier load have been told of.
    pub(crate) async fn rest(store: &Store) {
        if store.file().is_none() {
            tokio::time::sleep(TELLING).await;
        }
    }

    /// Begins to count what is done to a store, by whichever process. Of a server all that its transactions write is counted, so
    /// that only one store may be worked on.
    pub(crate) async fn begin(store: &Store, servers: &Servers) -> anyhow::Result<Self> {
        let Some(file) = store.file() else {
            // Of another database, so that the driver's own statements are not counted.
            let mut connection = PgConnection::connect(&servers.postgres()?).await?;
            let database = store.database()?.to_owned();
            let before = of_server(&mut connection, &database).await?;
            return Ok(Self::Server { connection, database, before });
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let mut log = Log::open(&file)?;
        let told = is_over.clone();
        let counting = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                log.look()?;
                std::thread::sleep(LOOK_EVERY);
            }
            log.look()?;
            Ok(log.totals)
        });
        Ok(Self::File { is_over, counting })
    }

    pub(crate) async fn end(self) -> anyhow::Result<Totals> {
        match self {
            Self::File { is_over, counting } => {
                is_over.store(true, Ordering::Relaxed);
                counting.join().ok().context("it does not panic")?
            }
            Self::Server { mut connection, database, before } => {
                let after = of_server(&mut connection, &database).await?;
                let image_bytes = images(&mut connection, before.log_bytes, after.log_bytes).await?;
                tokio::time::sleep(TELLING).await;
                let flushes = flushes(&mut connection).await?;
                let statements = after.statements.zip(before.statements).map(|(after, before)| after - before);
                Ok(Totals {
                    statements,
                    commits: after.commits - before.commits,
                    log_bytes: after.log_bytes - before.log_bytes,
                    image_bytes: Some(image_bytes),
                    flushes: before.flushes.map(|before| flushes - before),
                })
            }
        }
    }
}

impl Totals {
    /// A line of the table for each of them. `of` ends their names.
    pub(crate) fn figures(self, of: &str, events: f64, is_aimed_at: bool) -> Vec<Figure> {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand millions")]
        let each = |sum: i64| sum as f64 / events;
        let aim = |bound: f64| is_aimed_at.then_some(Aim::AtMost(bound));
        let line = |name: &str, sum, aim| Figure::alone(&format!("{name} an event, {of}"), "", each(sum), aim);
        let statements = self.statements.map(|sum| line("statements", sum, aim(STATEMENTS_MAX)));
        let others =
            [line("commits", self.commits, None), line("bytes of the log", self.log_bytes, aim(LOG_BYTES_MAX))];
        let images = self.image_bytes.map(|sum| line("of them images of whole pages", sum, None));
        let flushes = self.flushes.map(|sum| line("flushes", sum, None));
        statements.into_iter().chain(others).chain(images).chain(flushes).collect()
    }
}

async fn of_server(connection: &mut PgConnection, database: &str) -> anyhow::Result<Totals> {
    // Of a prepared statement that begins or ends a transaction, PostgreSQL 15 counts a session's first run alone.
    let within = sqlx::query_scalar::<_, i64>(
        "SELECT COALESCE(SUM(calls), 0)::bigint FROM pg_stat_statements WHERE query !~* '^(begin|commit|rollback)' \
         AND dbid = (SELECT oid FROM pg_database WHERE datname = $1)",
    );
    let within = within.bind(database).fetch_one(&mut *connection).await?;
    let numbered = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    let commits: i64 = numbered.fetch_one(&mut *connection).await?;
    let written = sqlx::query_scalar("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint");
    let log_bytes = written.fetch_one(&mut *connection).await?;
    let flushes = Some(flushes(connection).await?);
    Ok(Totals { statements: Some(within + 2 * commits), commits, log_bytes, image_bytes: None, flushes })
}

/// The bytes of images of whole pages between two places of the server's log.
async fn images(connection: &mut PgConnection, from: i64, to: i64) -> anyhow::Result<i64> {
    // The end may not be flushed yet, and cannot be read then.
    let images = sqlx::query_scalar(
        "SELECT COALESCE(SUM(fpi_size), 0)::bigint FROM pg_get_wal_stats(\
         '0/0'::pg_lsn + $1::bigint, LEAST('0/0'::pg_lsn + $2::bigint, pg_current_wal_flush_lsn()), false)",
    );
    Ok(images.bind(from).bind(to).fetch_one(connection).await?)
}

/// Flushes of the server's log that its sessions have told of.
async fn flushes(connection: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("SELECT wal_sync FROM pg_stat_wal").fetch_one(connection).await?)
}

/// Sizes in SQLite's log, by the description of its format (sqlite.org/fileformat2.html#walformat).
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The log of a SQLite file that a process writes meanwhile: frames, each a page, of which a transaction's last one says so. It
/// begins again, under new salts, once it was moved into the file.
struct Log {
    file: File,
    salts: Vec<u8>,
    page_bytes: u64,
    frames: u64,
    totals: Totals,
}

impl Log {
    /// From its end on.
    fn open(store: &Path) -> anyhow::Result<Self> {
        let file = File::open(format!("{}-wal", store.display())).context("a bridge has the file open")?;
        let mut log = Self { file, salts: Vec::new(), page_bytes: 0, frames: 0, totals: Totals::default() };
        log.look()?;
        log.totals = Totals::default();
        Ok(log)
    }

    /// Counts the frames since the last look.
    fn look(&mut self) -> anyhow::Result<()> {
        let mut header = [0; LOG_HEADER];
        if self.file.read_exact_at(&mut header, 0).is_err() {
            // Empty: it was moved whole.
            return Ok(());
        }
        if self.salts != header[16..24] {
            self.salts = header[16..24].to_vec();
            self.page_bytes = u64::from(u32::from_be_bytes(header[8..12].try_into()?));
            self.frames = 0;
        }
        let frame_bytes = FRAME_HEADER as u64 + self.page_bytes;
        let mut frame = [0; FRAME_HEADER];
        loop {
            let at = LOG_HEADER as u64 + self.frames * frame_bytes;
            let is_there = self.file.read_exact_at(&mut frame, at).is_ok();
            if !is_there || self.salts != frame[8..16] {
                return Ok(());
            }
            self.frames += 1;
            self.totals.log_bytes += i64::try_from(frame_bytes)?;
            // The size of the file after a commit, 0 in all other frames.
            self.totals.commits += i64::from(frame[4..8] != [0; 4]);
        }
    }
}
