//! The rows of the store, read past the bridge: read-only, by short-lived connections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::chain::SealedFields;
use serde_json::Value;
use sqlx::{AnyConnection, Connection, Row, SqliteConnection};

/// Place to look at.
pub struct Ledger {
    url: Mutex<String>,
    /// Makes the copy that is looked at, where the original is out of reach.
    renew: Option<Box<dyn Fn() -> PathBuf + Send + Sync>>,
    /// Held while it looks. The test takes it before it kills a process, so that the killed one is the last that had the SQLite
    /// file open, as in real life.
    pub looking: tokio::sync::Mutex<()>,
}

/// One event.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: String,
    pub origin_id: String,
    pub type_name: String,
    pub state: String,
    pub reason: Option<String>,
    pub received_at: i64,
    pub settled_at: Option<i64>,
}

/// One outgoing event.
#[derive(Debug, Clone)]
pub struct NoticeRow {
    pub id: String,
    pub topic: String,
    /// The event that it reports.
    pub event: String,
    pub state: String,
}

/// A row of the audit log, with all that its hash covers.
#[derive(Debug, Clone)]
pub struct AuditRow {
    pub number: Option<i64>,
    pub hash: Option<String>,
    pub at: i64,
    /// In the order of [`AUDITED`].
    pub texts: Vec<Option<String>>,
}

/// The columns of a row's texts.
const AUDITED: &str =
    "id, actor, action, target_kind, target_digest, outcome, reason, event_id, was, became, note_digest";

impl AuditRow {
    fn text(&self, place: usize) -> &str {
        self.texts[place].as_deref().unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.text(0)
    }

    pub fn action(&self) -> &str {
        self.text(2)
    }

    pub fn outcome(&self) -> &str {
        self.text(5)
    }

    pub fn reason(&self) -> &str {
        self.text(6)
    }

    pub fn event(&self) -> &str {
        self.text(7)
    }

    /// As the chain has it.
    pub fn fields(&self) -> SealedFields<'_> {
        SealedFields {
            id: self.text(0),
            at: Timestamp::from_micros(self.at),
            actor: self.text(1),
            action: self.text(2),
            target_kind: self.text(3),
            target_digest: self.text(4),
            outcome: self.text(5),
            reason: self.texts[6].as_deref(),
            event_id: self.texts[7].as_deref(),
            was: self.texts[8].as_deref(),
            became: self.texts[9].as_deref(),
            note_digest: self.texts[10].as_deref(),
        }
    }
}

/// Progress of the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Events that came to an end, or wait for another one.
    pub done: usize,
    /// Due, and not settled.
    pub pending: usize,
    /// Wait for their sign-up.
    pub waiting: usize,
    /// Notices that are not published.
    pub unpublished: usize,
}

impl Ledger {
    pub fn of(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let url = if url.starts_with("sqlite:") { format!("{url}?mode=ro") } else { url.to_owned() };
        Self { url: Mutex::new(url), renew: None, looking: tokio::sync::Mutex::default() }
    }

    /// Looks at another server from now on, which has taken the place of the first.
    pub fn follow_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().expect("not poisoned"));
    }

    pub fn of_file(path: &Path) -> Self {
        Self::of(&format!("sqlite://{}", path.display()))
    }

    /// Looks at a copy, which `renew` makes again for every look.
    pub fn of_copy(renew: impl Fn() -> PathBuf + Send + Sync + 'static) -> Self {
        sqlx::any::install_default_drivers();
        Self { url: Mutex::default(), renew: Some(Box::new(renew)), looking: tokio::sync::Mutex::default() }
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        match &self.renew {
            None => {
                let url = self.url.lock().expect("not poisoned").clone();
                AnyConnection::connect(&url).await
            }
            Some(renew) => {
                let copy = tokio::task::block_in_place(renew);
                AnyConnection::connect(&format!("sqlite://{}?mode=rw", copy.display())).await
            }
        }
    }

    /// The health of Podero, as the replicas share it.
    pub async fn standing(&self) -> Value {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let row = sqlx::query("SELECT value FROM shared WHERE name = 'standing'").fetch_one(&mut connection).await;
        let text: String = row.and_then(|row| row.try_get(0)).expect("it is shared from the start");
        serde_json::from_str(&text).expect("JSON")
    }

    /// `None` while the store cannot be read.
    pub async fn progress(&self) -> Option<Progress> {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.ok()?;
        let states = sqlx::query("SELECT state, COUNT(*) FROM events GROUP BY state").fetch_all(&mut connection).await;
        let mut progress = Progress::default();
        for row in states.ok()? {
            let count = usize::try_from(row.get::<i64, _>(1)).expect("a count");
            match row.get::<String, _>(0).as_str() {
                "pending" => progress.pending += count,
                "waiting" => {
                    progress.waiting += count;
                    progress.done += count;
                }
                _ => progress.done += count,
            }
        }
        let notices = sqlx::query("SELECT COUNT(*) FROM notices WHERE state = 'pending'");
        let unpublished = notices.fetch_one(&mut connection).await.ok()?.get::<i64, _>(0);
        progress.unpublished = usize::try_from(unpublished).expect("a count");
        let _ = connection.close().await;
        Some(progress)
    }

    pub async fn events(&self) -> Vec<EventRow> {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let query = "SELECT id, origin_id, type, state, reason, received_at, settled_at FROM events ORDER BY id";
        let rows = sqlx::query(query).fetch_all(&mut connection).await.expect("events");
        let event = |row: &sqlx::any::AnyRow| EventRow {
            id: row.get(0),
            origin_id: row.get(1),
            type_name: row.get(2),
            state: row.get(3),
            reason: row.get(4),
            received_at: row.get(5),
            settled_at: row.get(6),
        };
        rows.iter().map(event).collect()
    }

    /// The audit log in the order of its chain; rows that are not sealed come last.
    pub async fn audit(&self) -> Vec<AuditRow> {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let query = format!("SELECT number, hash, at, {AUDITED} FROM audit ORDER BY number IS NULL, number, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.expect("the audit log");
        let row = |row: &sqlx::any::AnyRow| AuditRow {
            number: row.get(0),
            hash: row.get(1),
            at: row.get(2),
            texts: (3..14).map(|place| row.get(place)).collect(),
        };
        rows.iter().map(row).collect()
    }

    /// The events whose calls were recorded with an idempotency key, by that key.
    pub async fn events_by_key(&self) -> BTreeMap<String, String> {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let query = "SELECT idempotency_key, event_id FROM calls WHERE idempotency_key IS NOT NULL";
        let rows = sqlx::query_as(query).fetch_all(&mut connection).await.expect("calls");
        rows.into_iter().collect()
    }

    /// The head of the audit log's chain, as the store has it: the number of rows, and the last hash.
    pub async fn audit_head(&self) -> (i64, String) {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let head = sqlx::query_as("SELECT sealed, hash FROM audit_head").fetch_one(&mut connection).await;
        head.expect("the audit log")
    }

    /// `PRAGMA integrity_check` of a SQLite store that is looked at by a copy.
    pub async fn integrity(&self) -> String {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let lines = sqlx::query_scalar::<_, String>("PRAGMA integrity_check").fetch_all(&mut connection).await;
        lines.map_or_else(|error| error.to_string(), |lines| lines.join("; "))
    }

    pub async fn notices(&self) -> Vec<NoticeRow> {
        let _looking = self.looking.lock().await;
        let mut connection = self.connect().await.expect("the store can be read");
        let query = "SELECT id, topic, body, state FROM notices ORDER BY seq";
        let rows = sqlx::query(query).fetch_all(&mut connection).await.expect("notices");
        let notice = |row: &sqlx::any::AnyRow| {
            let body: Value = serde_json::from_str(row.get(2)).expect("a notice");
            let event = body["data"]["event_id"].as_str().unwrap_or_default().to_owned();
            NoticeRow { id: row.get(0), topic: row.get(1), event, state: row.get(3) }
        };
        rows.iter().map(notice).collect()
    }
}

/// The answer of `PRAGMA integrity_check` about a SQLite file whose process is dead or frozen: of a copy, whose write-ahead log
/// it takes up as the next start would, so that the original stays as the crash left it.
pub async fn integrity(file: &Path, scratch: &Path) -> String {
    let copy = copy_of(file, scratch);
    let url = format!("sqlite://{}?mode=rw", copy.display());
    let mut connection = match SqliteConnection::connect(&url).await {
        Ok(connection) => connection,
        Err(error) => return error.to_string(),
    };
    let lines = sqlx::query_scalar::<_, String>("PRAGMA integrity_check").fetch_all(&mut connection).await;
    lines.map_or_else(|error| error.to_string(), |lines| lines.join("; "))
}

/// Copies the file and its write-ahead log. Under a new name each time: a connection to the last copy may still be
/// closing, and takes the log of that name away with it.
pub fn copy_of(file: &Path, scratch: &Path) -> PathBuf {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    for old in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("copy-")) {
        let _ = std::fs::remove_file(old.path());
    }
    let copy = scratch.join(format!("copy-{number}.db"));
    for ending in ["", "-wal"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        if beside(file).exists() {
            std::fs::copy(beside(file), beside(&copy)).expect("a copy");
        }
    }
    copy
}
