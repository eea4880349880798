//! `backup FILE`: a consistent, checked copy of the SQLite file, while the bridge runs or not.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use anyhow::anyhow;

use super::actor;
use super::error::CliError;
use super::open::{load_store, open_configured};
use super::output::{say, say_error};
use super::signals::Signals;
use crate::clock::Clock;
use crate::config;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
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
        () = signals.next() => {
            tell(&at, failed(AuditReason::Stopped)).await;
            return Err(anyhow!("there is no backup: it was interrupted").into());
        }
    };
    let head = match copied {
        Ok(head) => head,
        Err(error) => {
            let reason = match error {
                BackupError::NotAFile | BackupError::NoName(_) => return Err(CliError::Usage(error.to_string())),
                BackupError::Exists(_) => AuditReason::Exists,
                BackupError::Failed(_) | BackupError::Store(_) => AuditReason::NotCopied,
            };
            tell(&at, failed(reason)).await;
            return Err(anyhow::Error::new(error).context("there is no backup").into());
        }
    };
    say(&format!("ok      {}", to.display()));
    if let Some(head) = &head {
        say(&format!("        head of the audit log: {head}"));
    }
    tell(&at, AuditEntry { to: head.map(|head| head.to_string()), ..done() }).await;
    Ok(())
}

fn done() -> AuditEntry {
    let target = AuditTarget::new(TargetKind::Store, "backup");
    AuditEntry::done(Clock::system().now(), actor::of_process(), Action::StoreBackup, target)
}

fn failed(reason: AuditReason) -> AuditEntry {
    AuditEntry { outcome: AuditOutcome::Failed, reason: Some(reason.into()), ..done() }
}

/// Records the act. A row that cannot be written changes nothing about the backup.
async fn tell(at: &config::Store, entry: AuditEntry) {
    if let Err(error) = record(at, entry).await {
        say_error(&format!("podero-bridge: the audit log has no row of this backup: {error:#}"));
    }
}

async fn record(at: &config::Store, entry: AuditEntry) -> anyhow::Result<()> {
    let opened = open_configured(at).await?;
    let told = opened.store.record(vec![entry]).await;
    opened.close().await;
    Ok(told?)
}
