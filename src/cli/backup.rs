//! `backup FILE`: a consistent, checked copy of the SQLite file, while the bridge runs or not.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use anyhow::Context;

use super::open::open;
use super::say;
use crate::config::Config;
use crate::store::{BackupError, sqlite_file};

/// Why there is no backup.
pub(super) enum Failure {
    /// The command does not fit the configuration.
    Usage(String),
    /// It went wrong.
    Failed(anyhow::Error),
}

/// Copies the store and says where to.
pub(super) async fn run(config: &Config, to: &Path) -> Result<(), Failure> {
    // Said without asking a server that may be away.
    if sqlite_file(config.store.url.expose()).is_none() {
        return Err(Failure::Usage(BackupError::NotAFile.to_string()));
    }
    let opened = open(config).await.map_err(Failure::Failed)?;
    let copied = opened.store.backup(to).await;
    opened.close().await;
    copied.context("there is no backup").map_err(Failure::Failed)?;
    say(&format!("ok      {}", to.display()));
    Ok(())
}
