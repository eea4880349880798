//! Moves SQLite's write-ahead log into its file, apart from the writer.
//!
//! A commit appends to the log, which is one flush of few pages. Moving thousands of pages from there to their places all over
//! the file takes some tenths of a second, and a caller that commits at that time would wait for it. So a separate thread moves
//! and flushes until little is left; the writer moves the rest between two groups, and then the whole log is in the file and
//! begins again.
//!
//! While another process reads for long (a backup, the check of a large file) the log cannot begin again, and grows.
//!
//! Before: [`crate::store::writer`] has committed. After: the file.

use std::cell::Cell;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;

use super::sqlite;
use crate::store::db_file::{DbFile, free_bytes};

/// Limit of the pages (of 4 KiB) in the log at which it is moved: a page that is written again and again goes into the file once.
/// With a quarter of it, a fifth fewer events are taken in. The log takes that much of the disk, and after a crash that much is
/// read again.
const MOVED_AT_PAGES: u64 = 16_000;

/// Interval, in pages of growth, at which the free disk is checked: the log never takes more of the disk than is left free, since
/// all of it may have to be moved into the file.
const LOOK_EVERY_PAGES: u64 = 1_000;

/// The bytes of a page.
const PAGE: u64 = 4_096;

/// Limit of the pages that the writer moves by itself at the end: some milliseconds.
const END_PAGES_MAX: u64 = 250;

/// Limit of the moves in a row, each of the pages written during the one before. If the disk is slower than the writer, none of
/// them is the last.
const MOVES_MAX: u32 = 4;

/// Delay, in pages of growth, after a move that did not reach the end because a reader was in the way.
const AGAIN_AFTER_PAGES: u64 = 1_000;

/// The value of `moved` while the thread is at work.
const AT_WORK: u64 = u64::MAX;

thread_local! {
    /// Pages in the log after this thread's last commit.
    static LOGGED: Cell<u64> = const { Cell::new(0) };
}

/// The writer's side.
pub(in crate::store) struct LogMover {
    file: DbFile,
    thread: Option<Thread>,
    /// The number of moves ordered since the log was last at its end; 0: none.
    moves: u32,
    next_at: u64,
    /// The number of pages in the log at the last check for room to move them.
    looked_at: u64,
    /// The number of transactions in a row that found no room.
    failures: u64,
}

struct Thread {
    /// The channel of orders; `None` once the thread is to end.
    orders: Option<SyncSender<()>>,
    handle: Option<JoinHandle<()>>,
    /// The number of pages of the log that are in the file, or [`AT_WORK`].
    moved: Arc<AtomicU64>,
}

/// Counts the pages in the log at each commit; from then on only a [`LogMover`] moves them.
pub(super) fn count_pages(connection: &rusqlite::Connection) {
    connection.wal_hook(Some(|_, pages| {
        LOGGED.set(u64::try_from(pages).unwrap_or(0));
        Ok(())
    }));
}

impl LogMover {
    pub(super) fn new(file: DbFile) -> Self {
        Self { file, thread: None, moves: 0, next_at: MOVED_AT_PAGES, looked_at: 0, failures: 0 }
    }

    /// Orders a move when it is time for one, and completes one that is done. Call it between two transactions.
    pub(super) fn look(&mut self, connection: &rusqlite::Connection) {
        let pages = LOGGED.get();
        if self.moves == 0 {
            if !self.is_time(pages, free_bytes) {
                return;
            }
        } else {
            let moved = self.thread.as_ref().map_or(pages, |thread| thread.moved.load(Ordering::Acquire));
            if moved == AT_WORK {
                return;
            }
            if pages.saturating_sub(moved) <= END_PAGES_MAX || self.moves >= MOVES_MAX {
                return self.make_an_end(connection, pages);
            }
        }
        self.moves += 1;
        if !self.order() {
            self.make_an_end(connection, pages);
        }
    }

    fn is_time(&mut self, pages: u64, free_bytes: impl FnOnce(&Path) -> Option<u64>) -> bool {
        if pages < MOVED_AT_PAGES {
            self.next_at = MOVED_AT_PAGES;
        }
        // The log has begun again.
        self.looked_at = if pages < self.looked_at { 0 } else { self.looked_at };
        if pages >= self.next_at {
            return true;
        }
        if pages < self.looked_at + LOOK_EVERY_PAGES {
            return false;
        }
        self.looked_at = pages;
        free_bytes(self.file.path()).is_some_and(|free| free < pages * PAGE)
    }

    /// Notes whether there was room for the last transaction. Call it after each transaction. If there was no room for a longer
    /// log, the log is moved into the file, and may begin again in its present room. That may fail for the same reason and costs
    /// more than the transaction, so it is tried after the first, second, fourth, eighth … failure in a row.
    pub(super) fn note(&mut self, had_room: bool, connection: &rusqlite::Connection) {
        self.failures = if had_room { 0 } else { self.failures.saturating_add(1) };
        let is_at_work = self.thread.as_ref().is_some_and(|thread| thread.moved.load(Ordering::Acquire) == AT_WORK);
        if self.failures.is_power_of_two() && !is_at_work {
            self.make_an_end(connection, LOGGED.get());
        }
    }

    fn make_an_end(&mut self, connection: &rusqlite::Connection, pages: u64) {
        // An error here also meets the next commit, which reports it.
        let _ = move_log(connection);
        (self.moves, self.next_at) = (0, pages.saturating_add(AGAIN_AFTER_PAGES));
    }

    /// Orders a move. Returns `false` if no thread can do it, and the writer does it all.
    fn order(&mut self) -> bool {
        if self.thread.is_none() {
            self.thread = Thread::start(self.file.clone());
        }
        let Some(thread) = &self.thread else { return false };
        thread.moved.store(AT_WORK, Ordering::Release);
        // The thread has done its previous order, so there is room.
        thread.orders.as_ref().is_some_and(|orders| orders.try_send(()).is_ok())
    }
}

impl Thread {
    fn start(file: DbFile) -> Option<Self> {
        let (orders, told) = sync_channel(1);
        let moved = Arc::new(AtomicU64::new(0));
        let says = moved.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        let handle = thread.spawn(move || work(&file, &told, &says)).ok()?;
        Some(Self { orders: Some(orders), handle: Some(handle), moved })
    }
}

impl Drop for Thread {
    /// Returns when the thread's connection is closed.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(handle) = self.handle.take() {
            // A thread that panicked has ended as well.
            let _ = handle.join();
        }
    }
}

/// The thread's work, which ends with the writer.
fn work(db_file: &DbFile, told: &Receiver<()>, says: &AtomicU64) {
    // SQLite flushes the file only if nothing was committed meanwhile, and would leave that to the writer. The file is never
    // closed: closing a file releases all locks that the process has on it (fcntl, POSIX), SQLite's among them.
    let file = File::open(db_file.path()).map(ManuallyDrop::new);
    while told.recv().is_ok() {
        let moved = sqlite::open_at(db_file, true).and_then(|connection| {
            sqlite::prepare(&connection)?;
            move_log(&connection)
        });
        if let Ok(file) = &file {
            // If this fails, the writer's own flush has more to do; it reports the problem.
            let _ = file.sync_data();
        }
        let moved = moved.unwrap_or_else(|error| {
            tracing::debug!(%error, "the log beside the store's file could not be moved into it; the writer tries");
            0
        });
        says.store(moved, Ordering::Release);
    }
}

/// Moves the part of the log that no reader needs, without waiting; returns the number of its pages that are in the file.
fn move_log(connection: &rusqlite::Connection) -> rusqlite::Result<u64> {
    let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2))?;
    Ok(u64::try_from(moved).unwrap_or(0))
}

/// Moves the whole log into the file and truncates the log, so that a copy of the file alone is whole and deleted data is in
/// neither. `false`: a reader was in the way for `wait_max`. No write runs meanwhile.
pub(super) fn empty(connection: &rusqlite::Connection, wait_max: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(wait_max)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Makes the end of this connection move nothing, and leave the log as it is.
pub(super) fn leave(connection: &rusqlite::Connection) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
        tracing::warn!(%error, "the log of a damaged file is moved into it at the end");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The log is moved when it is long or when there is hardly room for its content.
    #[test]
    fn the_log_is_moved_when_it_is_long_or_room_is_short() {
        let mut log = LogMover::new(DbFile::at(PathBuf::from("/nowhere")));
        let mut asked = 0;
        let mut is_time = |pages, free_pages: Option<u64>| {
            log.is_time(pages, |_| {
                asked += 1;
                free_pages.map(|pages| pages * PAGE)
            })
        };
        for (pages, free, expected) in [
            (999, Some(0), false),
            (1_000, Some(1_000), false),
            (1_999, Some(0), false),
            (2_000, Some(1_999), true),
            (2_500, Some(0), false),
            (3_000, None, false),
            // The log has begun again.
            (10, Some(0), false),
            (1_000, Some(999), true),
            (MOVED_AT_PAGES, None, true),
        ] {
            assert_eq!(is_time(pages, free), expected, "{pages} pages, {free:?} free");
        }
        assert_eq!(asked, 4, "not for every transaction");
    }

    #[test]
    fn a_log_for_which_there_may_be_no_room_is_moved_before_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("some.db");
        let connection = rusqlite::Connection::open(&path).expect("a file");
        sqlite::prepare_writer(&connection).expect("as the bridge has it");
        count_pages(&connection);
        connection.execute_batch("CREATE TABLE some (bytes BLOB)").expect("a table");
        let in_the_file = || std::fs::metadata(&path).expect("a file").len();
        let add = || connection.execute_batch("INSERT INTO some VALUES (randomblob(100000))").expect("a row");
        let mut log = LogMover::new(DbFile::at(path.clone()));
        let mut moved_after = |had_room| {
            add();
            let before = in_the_file();
            log.note(had_room, &connection);
            log.look(&connection);
            in_the_file() > before
        };
        assert!(!moved_after(true), "there is little in it");
        let moved: Vec<bool> = (1..=8).map(|_| moved_after(false)).collect();
        assert_eq!(moved, [true, true, false, true, false, false, false, true]);
        assert!(!moved_after(true));
        assert!(moved_after(false), "the first of another row");
    }
}
