//! The place of a SQLite file: one absolute path for the data, the lock next to it and the URL that opens it.
//!
//! `store.url` is read literally: `%`, `..`, blanks and colons are parts of names. It is resolved once, together with its
//! symlinks, so that two spellings of one file are one path, and one lock.
//!
//! Before: [`crate::config`]. After: the store's `db`.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{Access, StatVfsMountFlags};
use url::Url;

use super::error::{Error, OpenError};

/// The advice in every refusal of the file system.
pub(super) const WHAT_TO_DO: &str = "the user who runs this must be able to read and write the file and its folder";

/// An existing SQLite file.
#[derive(Debug, Clone)]
pub(super) struct DbFile(PathBuf, Arc<OnceLock<FileId>>);

impl DbFile {
    /// Finds the file; makes it, and its folder, if it is missing. Both hold personal data: only their owner can read a new file,
    /// and an existing file keeps its permissions.
    pub(super) fn make(path: &str) -> Result<Self, OpenError> {
        let path = Path::new(path);
        let unusable = |error: std::io::Error| unusable(path, &error);
        if let Some(decoded) = decoded_before(path) {
            return Err(OpenError::Unusable(format!(
                "{}: the path is read as it is written, and versions before this one decoded it: they left the store in {}; \
                 name that, or move it",
                path.display(),
                decoded.display()
            )));
        }
        if !path.exists() {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
                DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
            }
            // Not `create_new`: a symlink may lead to a missing file.
            let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
            file.map_err(unusable)?;
        }
        Self::find_at(path, Access::READ_OK | Access::WRITE_OK)
    }

    /// Finds the file, to read and write it.
    pub(super) fn find(path: &str) -> Result<Self, OpenError> {
        Self::find_at(Path::new(path), Access::READ_OK | Access::WRITE_OK)
    }

    /// Finds the file, to read it only.
    pub(super) fn look(path: &str) -> Result<Self, OpenError> {
        Self::find_at(Path::new(path), Access::READ_OK)
    }

    fn find_at(path: &Path, access: Access) -> Result<Self, OpenError> {
        let resolved = match std::fs::canonicalize(path) {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(OpenError::Missing(path.display().to_string()));
            }
            Err(error) => return Err(unusable(path, &error)),
        };
        let refuse = |why: &str| Err(OpenError::Unusable(format!("{}: {why}", path.display())));
        if !resolved.is_file() {
            return refuse("this is no file; name one, which may lie in a folder");
        }
        if resolved.to_str().is_none() {
            return refuse("its folder's name is not UTF-8, which SQLite needs");
        }
        // Checked beforehand and by name: SQLite opens a file that it may not write to, and reports only a code.
        rustix::fs::access(&resolved, access).map_err(|error| unusable(path, &error.into()))?;
        if let Some(folder) = resolved.parent().filter(|_| access.contains(Access::WRITE_OK)) {
            let access = Access::WRITE_OK | Access::EXEC_OK;
            rustix::fs::access(folder, access).map_err(|error| unusable(folder, &error.into()))?;
        }
        Ok(Self(resolved, Arc::default()))
    }

    /// Any path, for tests.
    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path, Arc::default())
    }

    /// The path, absolute and without symlinks.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// `true` if the file at the path is the one that was locked, or if none was locked.
    pub(super) fn is_the_locked(&self) -> bool {
        self.1.get().is_none_or(|id| FileId::at(&self.0) == Some(*id))
    }

    /// `true` if `bytes` fit on the disk and beyond the end of the larger of the file and its log, so that a limit of a file's
    /// size counts as well. The test file has no name. Also `true` if the test cannot be made.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let Some(folder) = self.0.parent() else { return true };
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let end = length(&self.0).max(length(&self.beside("-wal")));
        let written = tempfile::tempfile_in(folder).and_then(|file| {
            file.write_all_at(&vec![b'x'; bytes], end)?;
            file.sync_data()
        });
        let lacks_room =
            |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
        !written.is_err_and(|error| lacks_room(error.kind()))
    }

    /// The size of the file. The log does not count: it is as large after a crash of a small store as of a large one.
    pub(super) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |found| found.len())
    }

    /// Takes the right to work on the file, for one process at a time.
    ///
    /// There are two locks. One is on `FILE.lock`, where other versions look for it too. The other is on the file itself, so that
    /// it holds through every name of the file (a hard link) and whatever happens to `FILE.lock`. It is `flock`, which SQLite's
    /// own locks (`fcntl`) do not meet on a local file system. Call this before SQLite opens the file.
    pub(super) fn lock(&self) -> Result<FileLock, OpenError> {
        let file = File::options().read(true).write(true).open(&self.0).map_err(|error| unusable(&self.0, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
            // A file system without such locks still has the other one.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "the store's file itself cannot be locked"),
        }
        let found = file.metadata().map_err(|error| unusable(&self.0, &error))?;
        let _ = self.1.set(FileId::of(&found));
        let mut lock = FileLock {
            db_file: self.clone(),
            file: Some(file),
            id: FileId::of(&found),
            log: Mutex::default(),
            lock_file: None,
        };
        lock.lock_file = Some(Mutex::new(self.lock_beside()?));
        Ok(lock)
    }

    fn lock_beside(&self) -> Result<File, OpenError> {
        let path = self.beside(".lock");
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

/// Device and inode: the identity of a file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(found: &std::fs::Metadata) -> Self {
        Self(found.dev(), found.ino())
    }

    /// The file that has this name now.
    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self::of(&found))
    }
}

/// The log of a SQLite file and its index.
type LogIds = (FileId, FileId);

/// The right to work on a SQLite file.
pub(super) struct FileLock {
    db_file: DbFile,
    /// The locked file, open for as long as the process lives: see [`FileLock::close`].
    file: Option<File>,
    id: FileId,
    /// `FILE-wal` and `FILE-shm`, which exist while SQLite has the file open; `None` until first seen.
    log: Mutex<Option<LogIds>>,
    /// `FILE.lock`; set as soon as it is locked.
    lock_file: Option<Mutex<File>>,
}

impl FileLock {
    /// `true` if the names still lead to the files that this process has open: the file, its log and `FILE.lock`. Costs three
    /// look-ups of names. A removed `FILE.lock` is made and locked again; one that another bridge has locked is a loss.
    pub(super) fn holds(&self) -> bool {
        if FileId::at(self.db_file.path()) != Some(self.id) {
            return false;
        }
        // Another process that makes a new index of the log overwrites the content of the log.
        let id = |suffix| FileId::at(&self.db_file.beside(suffix));
        let at = id("-wal").zip(id("-shm"));
        let mut log = self.log.lock().expect("no code panics while it holds this");
        if log.is_some() && *log != at {
            return false;
        }
        *log = at;
        drop(log);
        self.holds_lock_file()
    }

    /// Gives the lock back. SQLite must have no connection to the file in this process: closing any descriptor of a file releases
    /// all `fcntl` locks of the process, SQLite's among them.
    pub(super) fn close(mut self) {
        self.file = None;
    }

    /// Expects the log to be replaced by another one.
    pub(super) fn forget_log(&self) {
        *self.log.lock().expect("no code panics while it holds this") = None;
    }

    fn holds_lock_file(&self) -> bool {
        let Some(lock) = &self.lock_file else { return true };
        let mut lock = lock.lock().expect("no code panics while it holds this");
        let held = lock.metadata().ok().map(|found| FileId::of(&found));
        if held.is_some() && held == FileId::at(&self.db_file.beside(".lock")) {
            return true;
        }
        match self.db_file.lock_beside() {
            Ok(file) => {
                tracing::warn!("the lock file next to the store (FILE.lock) was removed; it is there again");
                *lock = file;
                true
            }
            Err(OpenError::InUse) => false,
            // The lock on the file itself still holds.
            Err(_) => true,
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The descriptor stays.
            let file = ManuallyDrop::new(file);
            let _ = file.unlock();
        }
    }
}

impl std::fmt::Display for DbFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Free bytes of the disk that holds a file; `None` if the system does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// `true` if the file system that holds a file takes no writes at present.
pub(super) fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn unusable(path: &Path, error: &std::io::Error) -> OpenError {
    // Other processes or people make room, so waiting is worthwhile.
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return Error::Away(format!("{}: {error}", path.display())).into();
    }
    OpenError::Unusable(format!("{}: {error}; {WHAT_TO_DO}", path.display()))
}

/// The path in a SQLite URL, taken literally; `None` for another database.
pub(super) fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// `true` if the database is a file.
pub fn is_sqlite(url: &str) -> bool {
    sqlite_path(url).is_some()
}

/// The path at which an earlier version, which decoded the path as a part of a URL, has put the store, if the proper path holds
/// nothing.
fn decoded_before(path: &Path) -> Option<PathBuf> {
    let is_empty = std::fs::metadata(path).map_or(true, |found| found.len() == 0);
    let text = path.to_str().filter(|text| is_empty && text.contains('%'))?;
    let path = std::path::absolute(text).ok()?;
    let decoded = Url::parse(&format!("file://{}", path.display())).ok()?.to_file_path().ok()?;
    let holds_something = std::fs::metadata(&decoded).is_ok_and(|found| found.len() > 0);
    (decoded != path && holds_something).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_sqlite_url_is_what_stands_there() {
        for (url, path) in [
            ("sqlite://podero-bridge.db", Some("podero-bridge.db")),
            ("sqlite:///var/lib/x.db", Some("/var/lib/x.db")),
            ("sqlite:a%20b/../x?.db", Some("a%20b/../x?.db")),
            ("postgres://localhost/x", None),
        ] {
            assert_eq!(sqlite_path(url), path, "{url}");
        }
    }
}
