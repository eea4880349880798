//! A database of one test, and how a scenario runs on it.

use std::path::Path;

use tempfile::TempDir;

use crate::servers;

/// URL of the file `bridge.db` in a folder.
pub fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("bridge.db").display())
}

/// A new, empty database.
pub struct TestDatabase {
    pub url: String,
    /// The folder of the file, if it is one; it goes with the value.
    pub folder: Option<TempDir>,
}

impl TestDatabase {
    /// A file that goes with the value.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { url: sqlite_url(folder.path()), folder: Some(folder) }
    }

    /// One on the shared server.
    pub fn postgres() -> Self {
        Self { url: servers::fresh_database(), folder: None }
    }
}

/// The state with which a scenario begins.
pub trait Fixture: Sized {
    /// Number of runs of each scenario, each time on a new database.
    const RUNS: usize = 1;

    async fn open(database: TestDatabase, run: usize) -> Self;

    async fn on_sqlite() -> Self {
        Self::open(TestDatabase::sqlite(), 0).await
    }
}

/// Runs a scenario.
pub async fn run<F: Fixture>(database: fn() -> TestDatabase, scenario: impl AsyncFn(F)) {
    for run in 0..F::RUNS {
        scenario(F::open(database(), run).await).await;
    }
}
