//! Limits of requests by link and by address, in windows of time. Pure, and bounded: the key that was seen first is forgotten first.
//!
//! Each replica counts for itself: of two replicas a link gets twice as many.
//!
//! Before: nothing. After: [`super::routes`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Timestamp;

/// Limit of the keys that are remembered: some megabytes. A stranger who fills it from as many addresses makes others' windows begin
/// again, no more.
const KEYS_MAX: usize = 20_000;

/// A limit of the requests of each key within a window.
pub(super) struct WindowLimit<K> {
    requests_max: u32,
    window: Duration,
    keys: Mutex<BTreeMap<K, Window>>,
}

#[derive(Clone, Copy)]
struct Window {
    from: Timestamp,
    requests: u32,
}

impl<K: Ord + Copy> WindowLimit<K> {
    pub(super) fn new(requests_max: u32, window: Duration) -> Self {
        Self { requests_max, window, keys: Mutex::default() }
    }

    /// Counts a request; `false`: its key has had as many as it may in this window.
    pub(super) fn admit(&self, key: K, now: Timestamp) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| window.from > now || now.since(window.from) >= self.window;
        if keys.len() >= KEYS_MAX && !keys.contains_key(&key) {
            keys.retain(|_, window| !is_over(window));
            let oldest = keys.iter().min_by_key(|(_, window)| window.from).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| keys.len() >= KEYS_MAX) {
                keys.remove(&oldest);
            }
        }
        let window = keys.entry(key).or_insert(Window { from: now, requests: 0 });
        if is_over(window) {
            *window = Window { from: now, requests: 0 };
        }
        let is_admitted = window.requests < self.requests_max;
        window.requests = window.requests.saturating_add(u32::from(is_admitted));
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_798_761_600_000_000 + second * 1_000_000)
    }

    #[test]
    fn each_key_has_a_number_of_requests_in_a_window() {
        let limit = WindowLimit::new(3, Duration::from_secs(60));
        let admitted = |key: u32, now| (0..5).filter(|_| limit.admit(key, now)).count();
        assert_eq!((admitted(1, at(0)), admitted(1, at(59)), admitted(2, at(59))), (3, 0, 3));
        assert_eq!(admitted(1, at(60)), 3, "another window");
        assert_eq!(admitted(1, at(0)), 3, "a clock that was set back holds nobody up");
    }

    #[test]
    fn the_memory_of_keys_is_bounded() {
        let limit = WindowLimit::new(1, Duration::from_secs(60));
        let count = u32::try_from(KEYS_MAX).expect("small");
        for key in 0..count {
            assert!(limit.admit(key, at(i64::from(key) / 1_000)));
        }
        assert!(limit.admit(count, at(30)) && !limit.admit(count, at(31)));
        assert_eq!(limit.keys.lock().expect("whole").len(), KEYS_MAX);
        assert!(limit.admit(0, at(31)), "the first one was forgotten");
        assert!(limit.admit(count + 1, at(90)), "windows that are over make room");
        assert!(limit.keys.lock().expect("whole").len() < 100);
    }
}
