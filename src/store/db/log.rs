//! SQLite's write-ahead log is moved into its file beside the work.
//!
//! A commit appends to the log, which is one flush of few pages. Moving thousands of pages from there to their places all over
//! the file takes a tenth of a second, and whoever commits just then would wait for it. So a thread of its own moves the bulk,
//! and the writer no more than what it wrote meanwhile: then the whole log is in the file, and begins anew.
//!
//! Before: [`crate::store::writer`] has committed. After: the file.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::sqlite;

/// Pages (of 4 KiB) in the log at which it is moved: a page that is written again and again goes into the file once. After a
/// crash so much is read again.
const MOVED_AT_PAGES: u32 = 4_000;

/// So many more after a move that did not reach the end, because somebody was reading.
const AGAIN_AFTER_PAGES: u32 = 1_000;

/// The writer moves a log of so many pages by itself, however long it takes: the disk is not to fill with it.
const PAGES_MAX: u32 = 16_000;

thread_local! {
    /// Pages in the log after this thread's last commit.
    static LOGGED: Cell<u32> = const { Cell::new(0) };
}

/// The writer's side.
pub(in crate::store) struct LogMover {
    path: PathBuf,
    thread: Option<Thread>,
    is_ordered: bool,
    next_at: u32,
}

struct Thread {
    orders: SyncSender<()>,
    is_done: Arc<AtomicBool>,
}

/// Has the pages in the log counted at each commit, which are then moved by nobody but a [`LogMover`].
pub(super) fn count_pages(connection: &rusqlite::Connection) {
    connection.wal_hook(Some(|_, pages| {
        LOGGED.set(u32::try_from(pages).unwrap_or(0));
        Ok(())
    }));
}

impl LogMover {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, thread: None, is_ordered: false, next_at: MOVED_AT_PAGES }
    }

    /// To be called between two transactions: orders a move when it is time for one, and makes an end of one that is done.
    pub(super) fn look(&mut self, connection: &rusqlite::Connection) {
        let pages = LOGGED.get();
        if pages < MOVED_AT_PAGES {
            self.next_at = MOVED_AT_PAGES;
        }
        let is_done = self.thread.as_ref().is_none_or(|thread| thread.is_done.load(Ordering::Acquire));
        if pages >= PAGES_MAX.max(self.next_at) || (self.is_ordered && is_done) {
            // What goes wrong here goes wrong for the next commit as well, and is told there.
            let _ = move_log(connection);
            (self.is_ordered, self.next_at) = (false, pages.saturating_add(AGAIN_AFTER_PAGES));
        } else if pages >= self.next_at && !self.is_ordered {
            self.is_ordered = true;
            if self.thread.is_none() {
                self.thread = Thread::start(self.path.clone());
            }
            if let Some(thread) = &self.thread {
                thread.is_done.store(false, Ordering::Release);
                // It has done what it was told before, so there is room.
                let _ = thread.orders.try_send(());
            }
        }
    }
}

impl Thread {
    /// `None`: then the writer does it all.
    fn start(path: PathBuf) -> Option<Self> {
        let (orders, told) = sync_channel(1);
        let is_done = Arc::new(AtomicBool::new(true));
        let done = is_done.clone();
        let work = move || {
            // Ends with the writer.
            while told.recv().is_ok() {
                let moved = sqlite::open(&path, true).and_then(|connection| {
                    sqlite::prepare(&connection)?;
                    move_log(&connection)
                });
                if let Err(error) = moved {
                    tracing::debug!(%error, "the log beside the store's file could not be moved into it; the writer does it");
                }
                done.store(true, Ordering::Release);
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(work).ok()?;
        Some(Self { orders, is_done })
    }
}

/// As much of the log as nobody reads from; waits for nobody.
fn move_log(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
