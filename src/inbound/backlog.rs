//! How much accepted work waits, and how much may: what the doors ask before they take more.
//!
//! Counting the tables for each request would cost more than the request, so this is the last count of them and what
//! was accepted since: near enough for a bound that is there to spare the disk. It reads no table.
//!
//! Before: [`crate::app`] sets what was counted. After: the doors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many accepted events wait for their effect, and how many may. Clones share it.
#[derive(Debug, Clone)]
pub struct Backlog {
    waiting: Arc<AtomicU64>,
    max: u64,
}

impl Backlog {
    /// Empty, until it is counted; full at `max` (`store.backlog_max`).
    pub fn new(max: u64) -> Self {
        Self { waiting: Arc::default(), max }
    }

    /// Whether the doors take nothing until some of it is done.
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.max
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The tables were counted.
    pub fn set(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(super) fn grow(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}
