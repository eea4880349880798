//! SQLite's write-ahead log is moved into its file beside the work.
//!
//! A commit appends to the log, which is one flush of few pages. Moving thousands of pages from there to their places all over
//! the file takes a tenth of a second, and whoever commits just then would wait for it. So a thread of its own moves and
//! flushes, until little is left; that the writer moves between two groups, and then the whole log is in the file and begins
//! anew.
//!
//! While somebody reads for long (a backup, the check of a large file) the log cannot begin anew, and grows.
//!
//! Before: [`crate::store::writer`] has committed. After: the file.

use std::cell::Cell;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::sqlite;

/// Pages (of 4 KiB) in the log at which it is moved: a page that is written again and again goes into the file once. With a
/// quarter of it a fifth fewer events are taken in. It is that much of the disk, and after a crash so much is read again.
const MOVED_AT_PAGES: u64 = 16_000;

/// What the writer moves by itself at the end: some milliseconds.
const END_PAGES_MAX: u64 = 250;

/// Moves of what was written during the one before. Where the disk is slower than the writer, none of them is the last.
const MOVES_MAX: u32 = 4;

/// So many pages more after a move that did not reach the end, because somebody was reading.
const AGAIN_AFTER_PAGES: u64 = 1_000;

/// What a thread says while it is at work.
const AT_WORK: u64 = u64::MAX;

thread_local! {
    /// Pages in the log after this thread's last commit.
    static LOGGED: Cell<u64> = const { Cell::new(0) };
}

/// The writer's side.
pub(in crate::store) struct LogMover {
    path: PathBuf,
    thread: Option<Thread>,
    /// Moves that were ordered since the log was last at its end; 0: none.
    moves: u32,
    next_at: u64,
    /// Transactions in a row that did not go through.
    failures: u64,
}

struct Thread {
    orders: SyncSender<()>,
    /// Pages of the log that are in the file, or [`AT_WORK`].
    moved: Arc<AtomicU64>,
}

/// Has the pages in the log counted at each commit, which are then moved by nobody but a [`LogMover`].
pub(super) fn count_pages(connection: &rusqlite::Connection) {
    connection.wal_hook(Some(|_, pages| {
        LOGGED.set(u64::try_from(pages).unwrap_or(0));
        Ok(())
    }));
}

impl LogMover {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, thread: None, moves: 0, next_at: MOVED_AT_PAGES, failures: 0 }
    }

    /// To be called between two transactions: orders a move when it is time for one, and makes an end of one that is done.
    pub(super) fn look(&mut self, connection: &rusqlite::Connection) {
        let pages = LOGGED.get();
        if self.moves == 0 {
            if pages < MOVED_AT_PAGES {
                self.next_at = MOVED_AT_PAGES;
            }
            if pages < self.next_at {
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

    /// To be called after a transaction: whether it went through. One that did not may have found no room for a longer log; then
    /// the log is moved into the file, and may begin anew in the room that it has. That may fail for the same reason and costs
    /// more than the transaction, so it is tried after the first, second, fourth, eighth … in a row.
    pub(super) fn note(&mut self, went_through: bool, connection: &rusqlite::Connection) {
        self.failures = if went_through { 0 } else { self.failures.saturating_add(1) };
        let is_at_work = self.thread.as_ref().is_some_and(|thread| thread.moved.load(Ordering::Acquire) == AT_WORK);
        if self.failures.is_power_of_two() && !is_at_work {
            self.make_an_end(connection, LOGGED.get());
        }
    }

    fn make_an_end(&mut self, connection: &rusqlite::Connection, pages: u64) {
        // What goes wrong here goes wrong for the next commit as well, and is told there.
        let _ = move_log(connection);
        (self.moves, self.next_at) = (0, pages.saturating_add(AGAIN_AFTER_PAGES));
    }

    /// `false`: there is no thread that could, and the writer does it all.
    fn order(&mut self) -> bool {
        if self.thread.is_none() {
            self.thread = Thread::start(self.path.clone());
        }
        let Some(thread) = &self.thread else { return false };
        thread.moved.store(AT_WORK, Ordering::Release);
        // It has done what it was told before, so there is room.
        thread.orders.try_send(()).is_ok()
    }
}

impl Thread {
    fn start(path: PathBuf) -> Option<Self> {
        let (orders, told) = sync_channel(1);
        let moved = Arc::new(AtomicU64::new(0));
        let says = moved.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || work(&path, &told, &says)).ok()?;
        Some(Self { orders, moved })
    }
}

/// Ends with the writer.
fn work(path: &std::path::Path, told: &Receiver<()>, says: &AtomicU64) {
    // SQLite flushes the file only when nobody has committed meanwhile, and would leave that to the writer. Never closed, since
    // whoever closes a file lets go of all locks that his process has on it (fcntl, POSIX), SQLite's among them.
    let file = File::open(path).map(ManuallyDrop::new);
    while told.recv().is_ok() {
        let moved = sqlite::open(path, true).and_then(|connection| {
            sqlite::prepare(&connection)?;
            move_log(&connection)
        });
        if let Ok(file) = &file {
            // Without it the writer's own flush has more to do; that one tells what is wrong.
            let _ = file.sync_data();
        }
        let moved = moved.unwrap_or_else(|error| {
            tracing::debug!(%error, "the log beside the store's file could not be moved into it; the writer tries");
            0
        });
        says.store(moved, Ordering::Release);
    }
}

/// Moves as much of the log as nobody reads from, and waits for nobody: pages of it that are in the file.
fn move_log(connection: &rusqlite::Connection) -> rusqlite::Result<u64> {
    let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2))?;
    Ok(u64::try_from(moved).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_for_which_there_may_be_no_room_is_moved_before_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("some.db");
        let connection = rusqlite::Connection::open(&path).expect("a file");
        sqlite::prepare_writer(&connection).expect("as the bridge has it");
        connection.execute_batch("CREATE TABLE some (bytes BLOB)").expect("a table");
        let in_the_file = || std::fs::metadata(&path).expect("a file").len();
        let add = || connection.execute_batch("INSERT INTO some VALUES (randomblob(100000))").expect("a row");
        let mut log = LogMover::new(path.clone());
        let mut moved_after = |went_through| {
            add();
            let before = in_the_file();
            log.note(went_through, &connection);
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
