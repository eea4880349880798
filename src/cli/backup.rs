//! `backup FILE`: a consistent, checked copy of the SQLite file, while the bridge runs or not.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use anyhow::anyhow;

use super::error::CliError;
use super::open::load_store;
use super::output::say;
use super::signals::Signals;
use crate::store::{BackupError, back_up, is_sqlite};

/// Copies the store and says where to. A signal ends it, and leaves nothing behind.
pub(super) async fn run(config: Option<&Path>, to: &Path) -> Result<(), CliError> {
    let at = load_store(config, false)?;
    let url = at.url.expose();
    // The refusal needs no server, which may be away.
    if !is_sqlite(url) {
        return Err(CliError::Usage(BackupError::NotAFile.to_string()));
    }
    let mut signals = Signals::new()?;
    let copied = tokio::select! {
        copied = back_up(url, to) => copied,
        () = signals.next() => return Err(anyhow!("there is no backup: it was interrupted").into()),
    };
    copied.map_err(|error| match error {
        BackupError::NotAFile | BackupError::NoName(_) => CliError::Usage(error.to_string()),
        BackupError::Exists(_) | BackupError::Failed(_) | BackupError::Store(_) => {
            anyhow::Error::new(error).context("there is no backup").into()
        }
    })?;
    say(&format!("ok      {}", to.display()));
    Ok(())
}
