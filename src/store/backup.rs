//! A copy of the SQLite file, while a bridge works on it or not.
//!
//! The backup only reads the store, whatever its schema and its key. The copy grows in a private folder next to its final path
//! and gets its name when it is whole and on disk, so that under that name there is a backup or nothing.
//!
//! Before: [`crate::cli`]. After: the disk.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::audit::{ChainHeadRow, head_query};
use super::db::{Aim, Db, Dialect, Row, query};
use super::error::{Error, OpenError};
use crate::domain::chain::ChainHead;

/// The reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store is on a database server, whose own tools make the copy.
    #[error("this is PostgreSQL; back it up with its own tools, for instance: pg_dump")]
    NotAFile,
    /// No file can have this name, or SQLite cannot write it.
    #[error("{0}: a backup's name is that of a file, in UTF-8")]
    NoName(String),
    /// A file with this name exists; nothing is overwritten.
    #[error("{0}: there is something already")]
    Exists(String),
    /// The copy cannot be made or read.
    #[error("{0}")]
    Failed(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Copies the store of a URL: consistent, checked, and readable by its owner only. After `Ok` the copy is on disk; after an
/// error, or when the future is dropped, there is none. Returns the head of the audit log in the copy; `None`: it is of a version
/// without one.
pub async fn back_up(url: &str, to: &Path) -> Result<Option<ChainHead>, BackupError> {
    let db = Db::new(url, Aim::Look)?;
    match db.dialect {
        Dialect::Postgres => return Err(BackupError::NotAFile),
        Dialect::Sqlite => {}
    }
    let failed =
        |what: &str, error: &dyn std::fmt::Display| BackupError::Failed(format!("{}: {what}: {error}", to.display()));
    let no_name = || BackupError::NoName(to.display().to_string());
    let exists = || BackupError::Exists(to.display().to_string());
    let name = to.file_name().filter(|name| name.to_str().is_some()).ok_or_else(no_name)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder).map_err(|error| failed("its folder", &error))?;
    let target = folder.join(name);
    if target.to_str().is_none() {
        return Err(no_name());
    }
    if target.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let workshop = tempfile::Builder::new().prefix(".podero-bridge-backup-").tempdir_in(&folder);
    let workshop = workshop.map_err(|error| failed("cannot be made", &error))?;
    let copy = workshop.path().join("copy.db");
    // Created here to set its permissions; SQLite accepts an empty file.
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
    made.map_err(|error| failed("cannot be made", &error))?;
    copy_into(&db, &copy).await.map_err(|error| failed("cannot be copied", &error))?;
    let head = check(&copy).await.map_err(|error| failed("the copy is damaged", &error))?;
    let not_on_disk = |error: std::io::Error| failed("is not on disk", &error);
    File::open(&copy).and_then(|file| file.sync_all()).map_err(not_on_disk)?;
    put(copy, &target).map_err(|error| {
        let is_taken = error.kind() == std::io::ErrorKind::AlreadyExists;
        if is_taken { exists() } else { failed("cannot get its name", &error) }
    })?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(not_on_disk)?;
    Ok(head)
}

async fn copy_into(db: &Db, copy: &Path) -> Result<(), OpenError> {
    let connection = db.connect_plain().await.map_err(|error| db.refusal(error))?;
    // An absolute path, so that SQLite does not read it as a URI.
    let copied = connection.rows_apart(query("VACUUM INTO $1").bind(copy.display().to_string())).await;
    copied.map(|_| ()).map_err(|error| db.refusal(error))
}

/// Checks a copy, and returns the head of its audit log.
async fn check(copy: &Path) -> Result<Option<ChainHead>, OpenError> {
    let db = Db::new(&format!("sqlite://{}", copy.display()), Aim::Look)?;
    let found = db.connect_plain().await?.rows_apart(query("PRAGMA integrity_check(1)")).await?;
    match found.into_iter().next().map(Row::read::<String>).transpose()? {
        Some(found) if found == "ok" => {}
        found => return Err(Error::Damaged(found.unwrap_or_default()).into()),
    }
    // A store of an earlier version has no such table.
    let head = db.connect_plain().await?.rows_apart(head_query()).await.unwrap_or_default();
    Ok(head.into_iter().next().and_then(|row| row.read::<ChainHeadRow>().ok()).and_then(|row| row.head()))
}

/// Moves the copy to its name, never over a file that appeared there meanwhile.
fn put(copy: PathBuf, target: &Path) -> std::io::Result<()> {
    Ok(TempPath::try_from_path(copy)?.persist_noclobber(target)?)
}
