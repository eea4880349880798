//! Permits for work that may be under way at once: a semaphore whose limit may move while permits are out.
//!
//! A permit that is dropped comes back. More may be out than a lowered limit allows; then none is given until enough have come
//! back. [`Permits::is_saturated`] tells a stage that brings work to leave the machine to the work under way. This file does
//! not know what the permits are for.
//!
//! Before: nothing. After: [`crate::apply`], [`crate::watch`], the budget of [`crate::podero`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// Divisor of the limit that gives the low-water mark. A freed permit is usually taken again at once, so saturation ends
/// only when an eighth of them are free.
const LOW_WATER_DIVISOR: usize = 8;

/// A number of permits. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Permits(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: Mutex<Count>,
    is_saturated: AtomicBool,
    /// Notified when a permit comes back after one was refused.
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Count {
    in_use: usize,
    limit: usize,
    /// The number of permits in use below which the saturation ends.
    low_water: usize,
    was_refused: bool,
}

/// One permit; it comes back when it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Shared>);

impl Permits {
    /// No permits yet. `freed` is notified when one comes free after one was refused.
    pub fn waking(freed: Arc<Notify>) -> Self {
        Self(Arc::new(Shared { freed, ..Shared::default() }))
    }

    /// This number of permits.
    pub fn new(limit: usize) -> Self {
        let permits = Self::default();
        permits.set_limit(limit);
        permits
    }

    /// Moves the limit.
    pub fn set_limit(&self, limit: usize) {
        let mut count = self.0.count();
        let is_raised = limit > count.limit;
        count.limit = limit;
        count.low_water = limit - limit / LOW_WATER_DIVISOR;
        if is_raised && std::mem::take(&mut count.was_refused) {
            self.0.freed.notify_one();
        }
    }

    /// The number of permits that may be out.
    pub fn limit(&self) -> usize {
        self.0.count().limit
    }

    /// Takes as many permits as are free, at most `wanted`. None at all is a refusal.
    pub fn acquire_up_to(&self, wanted: usize) -> Vec<Permit> {
        let mut count = self.0.count();
        let free = count.limit.saturating_sub(count.in_use).min(wanted);
        count.was_refused |= free == 0;
        count.in_use += free;
        (0..free).map(|_| Permit(self.0.clone())).collect()
    }

    /// A permit, if one is free.
    pub fn try_acquire(&self) -> Option<Permit> {
        self.acquire_up_to(1).pop()
    }

    /// Waits until a permit is free, and takes it. For one task that waits: of several, one could miss its permit.
    pub async fn acquire(&self) -> Permit {
        loop {
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            self.wait_for(1).await;
        }
    }

    /// Waits until this many permits are free at once. For one task that waits.
    pub async fn wait_for(&self, wanted: usize) {
        // A permit that comes free between the look and the wait leaves its notification behind.
        while !self.has_free(wanted) {
            self.0.freed.notified().await;
        }
    }

    fn has_free(&self, wanted: usize) -> bool {
        let mut count = self.0.count();
        let has_free = count.limit.saturating_sub(count.in_use) >= wanted;
        count.was_refused |= !has_free;
        has_free
    }

    /// Marks the saturation. Call it once it is known which permits stay out: a permit that was only reserved is no work.
    pub fn note_saturation(&self) {
        let count = self.0.count();
        if count.in_use >= count.limit {
            self.0.is_saturated.store(true, Ordering::Relaxed);
        }
    }

    /// `true` when all permits were out at the last mark, and hardly any has come back since.
    pub fn is_saturated(&self) -> bool {
        self.0.is_saturated.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().expect("no code panics while it counts")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.0.count();
        count.in_use -= 1;
        if count.in_use < count.low_water {
            self.0.is_saturated.store(false, Ordering::Relaxed);
        }
        if count.in_use < count.limit && std::mem::take(&mut count.was_refused) {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn saturation_begins_when_all_are_out_and_ends_once_an_eighth_is_free() {
        let permits = Permits::new(16);
        let acquire = |wanted| {
            let acquired = permits.acquire_up_to(wanted);
            permits.note_saturation();
            acquired
        };
        drop(permits.acquire_up_to(64));
        assert!(!permits.is_saturated(), "a permit that is only reserved is no work");
        let mut out = acquire(15);
        assert!(!permits.is_saturated(), "one is left");
        out.extend(acquire(64));
        assert_eq!(out.len(), 16);
        assert!(permits.is_saturated());
        assert!(permits.try_acquire().is_none());
        out.truncate(14);
        assert!(permits.is_saturated(), "two come back and are taken again all the time");
        out.truncate(13);
        assert!(!permits.is_saturated());
        // A single permit is an eighth, and all of them.
        out.clear();
        permits.set_limit(1);
        let only = acquire(64);
        assert!(permits.is_saturated());
        drop(only);
        assert!(!permits.is_saturated());
    }

    #[test]
    fn a_lowered_limit_waits_for_permits_and_a_raised_one_is_told() {
        let permits = Permits::new(4);
        let mut out = permits.acquire_up_to(4);
        permits.set_limit(2);
        assert!(permits.acquire().now_or_never().is_none());
        out.truncate(2);
        assert!(permits.try_acquire().is_none(), "as many are out as may be");
        out.truncate(1);
        assert!(permits.acquire().now_or_never().is_some());
        permits.set_limit(0);
        let mut waits = Box::pin(permits.acquire());
        assert!((&mut waits).now_or_never().is_none());
        permits.set_limit(3);
        assert!(waits.now_or_never().is_some(), "the raise is told");
    }

    #[test]
    fn a_wait_for_several_ends_once_they_are_free_at_the_same_time() {
        let permits = Permits::new(4);
        let mut out = permits.acquire_up_to(4);
        let mut waits = Box::pin(permits.wait_for(3));
        for left in [3, 2] {
            assert!((&mut waits).now_or_never().is_none());
            out.truncate(left);
        }
        assert!((&mut waits).now_or_never().is_none(), "two are free");
        out.truncate(1);
        assert!(waits.now_or_never().is_some(), "each permit that comes back is told");
    }
}
