//! Memory with a bound: beyond it, the oldest thing goes.
//!
//! It must never know what it keeps.
//!
//! Before: the other files of [`crate::sandbox`]. After: nothing.

use std::collections::{HashMap, VecDeque};

/// Values by text, of which the newest are kept.
#[derive(Debug)]
pub(super) struct NewestByText<T> {
    by_text: HashMap<String, T>,
    in_order: VecDeque<String>,
}

impl<T> Default for NewestByText<T> {
    fn default() -> Self {
        Self { by_text: HashMap::new(), in_order: VecDeque::new() }
    }
}

impl<T> NewestByText<T> {
    /// Keeps a value under a text that has none yet; beyond `max` values the oldest goes.
    pub(super) fn keep(&mut self, text: String, value: T, max: usize) {
        if let Some(oldest) = keep_newest(&mut self.in_order, text.clone(), max) {
            self.by_text.remove(&oldest);
        }
        self.by_text.insert(text, value);
    }

    pub(super) fn get(&self, text: &str) -> Option<&T> {
        self.by_text.get(text)
    }
}

/// Adds a thing behind the others; beyond `max` things it returns the oldest, which goes.
pub(super) fn keep_newest<T>(things: &mut VecDeque<T>, thing: T, max: usize) -> Option<T> {
    let oldest = if things.len() >= max { things.pop_front() } else { None };
    things.push_back(thing);
    oldest
}
