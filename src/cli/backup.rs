//! `backup FILE`: a consistent, checked copy of the SQLite file, while the bridge runs or not.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use super::say;
use super::signals::Signals;
use crate::config;
use crate::store::{BackupError, back_up, is_sqlite};

/// Why there is no backup.
pub(super) enum Failure {
    /// The command does not fit the configuration, or names no file.
    Usage(String),
    /// It went wrong.
    Failed(anyhow::Error),
}

/// Copies the store and says where to. A signal ends it, and leaves nothing behind.
pub(super) async fn run(at: &config::Store, to: &Path) -> Result<(), Failure> {
    let url = at.url.expose();
    // Said without asking a server that may be away.
    if !is_sqlite(url) {
        return Err(Failure::Usage(BackupError::NotAFile.to_string()));
    }
    let mut signals = Signals::new().map_err(Failure::Failed)?;
    let copied = tokio::select! {
        copied = back_up(url, to) => copied,
        () = signals.next() => return Err(Failure::Failed(anyhow::anyhow!("there is no backup: it was interrupted"))),
    };
    match copied {
        Ok(()) => {}
        Err(error @ (BackupError::NotAFile | BackupError::NoName(_))) => return Err(Failure::Usage(error.to_string())),
        Err(error @ (BackupError::Exists(_) | BackupError::Failed(_) | BackupError::Store(_))) => {
            return Err(Failure::Failed(anyhow::Error::new(error).context("there is no backup")));
        }
    }
    say(&format!("ok      {}", to.display()));
    Ok(())
}
