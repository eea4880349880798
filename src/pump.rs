//! The only loop that sleeps: it calls `step` until idle, then waits for a wake-up, a timer or the end.
//!
//! A stage is a step that does one thing and says whether there may be more; tests call the step, this file calls it for ever.
//! First run, wake-up and recovery after a crash are one path: look in the table. A wake-up carries nothing and may be lost;
//! the timer finds what it missed.
//!
//! Before: [`crate::app`] starts one task loop for each row of its table. After: the stages' steps.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::domain::Timestamp;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be more: step again at once.
    Busy,
    /// Nothing to do before a wake-up or the loop's own timer.
    Idle,
    /// Nothing to do before this much time has passed (or the loop's timer, or a wake-up).
    IdleFor(Duration),
    /// The step failed: wait a moment, however often it is woken.
    Failed,
}

/// The result of a step that failed, after a line in the log that names the failed work.
macro_rules! failed {
    ($error:expr, $what:literal) => {{
        tracing::warn!(error = %$error, $what);
        $crate::pump::Step::Failed
    }};
}

pub(crate) use failed;

/// Delay after a failure: long enough not to spin, short enough to recover at once when the cause is gone.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// The times at which a step is made, and the end.
pub struct Schedule {
    /// The loop's name in logs.
    pub name: &'static str,
    /// Interval of the timer; `None`: the step is made only when woken.
    pub every: Option<Duration>,
    /// Wakes the loop before its timer.
    pub wake: Arc<Notify>,
    /// Ends the loop between two steps once it holds `true`.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs `step` until shutdown. A step that panics is logged and counts as failed; its claims come back when their leases lapse.
pub async fn run<F, S>(mut schedule: Schedule, mut step: S)
where
    S: FnMut() -> F,
    F: Future<Output = Step>,
{
    while !*schedule.shutdown.borrow() {
        // Registered before the table is looked at, so that no wake-up falls in between.
        let wake = schedule.wake.clone();
        let notified = wake.notified();
        let taken = AssertUnwindSafe(step()).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(pump = schedule.name, "a step panicked");
            Step::Failed
        });
        let pause = match taken {
            Step::Busy => continue,
            Step::Idle => schedule.every,
            Step::IdleFor(pause) => Some(schedule.every.map_or(pause, |every| every.min(pause))),
            Step::Failed => {
                rest(FAILURE_PAUSE, &mut schedule.shutdown).await;
                continue;
            }
        };
        let timer = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = notified => {}
            () = timer => {}
            () = ended(&mut schedule.shutdown) => {}
        }
    }
}

/// Delay before a result is offered again to a store that did not take it.
const OFFER_PAUSE: Duration = Duration::from_millis(500);

/// Offers the result of claimed work to the store, again after each failure for as long as the claim's lease lasts: to give up sooner
/// would leave the work undone for the rest of the lease. `write` may have taken effect although it failed, so a repeat must be safe.
pub async fn offer<R, T, E>(
    clock: &Clock,
    lease_until: Timestamp,
    mut result: R,
    write: impl for<'a> Fn(&'a mut R) -> BoxFuture<'a, Result<T, E>>,
) -> Result<T, E> {
    loop {
        match write(&mut result).await {
            Err(_) if lease_until.since(clock.now()) > OFFER_PAUSE => sleep(OFFER_PAUSE).await,
            done => return done,
        }
    }
}

/// Wakes every loop that waits for this wake-up, and one that is about to.
pub fn wake_all(wake: &Notify) {
    wake.notify_waiters();
    wake.notify_one();
}

/// Waits, but not past shutdown.
pub async fn rest(pause: Duration, shutdown: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = sleep(pause) => {}
        () = ended(shutdown) => {}
    }
}

/// Resolves at shutdown.
pub async fn ended(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as one that sent `true`.
    let _ = shutdown.wait_for(|ended| *ended).await;
}

/// Sleeps. All other code sleeps by this function.
#[expect(clippy::disallowed_methods, reason = "this file is the one place that may sleep")]
pub async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn schedule(every: Option<Duration>) -> (Schedule, watch::Sender<bool>, Arc<Notify>) {
        let (end, shutdown) = watch::channel(false);
        let wake = Arc::new(Notify::new());
        (Schedule { name: "test", every, wake: wake.clone(), shutdown }, end, wake)
    }

    #[tokio::test(start_paused = true)]
    async fn it_steps_until_idle_then_waits_for_a_wake_up() {
        let (schedule, end, wake) = schedule(None);
        let steps = AtomicUsize::new(0);
        let task_loop = run(schedule, || async {
            match steps.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Step::Busy,
                2 => Step::Idle,
                3 => panic!("a step that panics"),
                _ => {
                    end.send_replace(true);
                    Step::Idle
                }
            }
        });
        let waker = async {
            tokio::task::yield_now().await;
            wake.notify_one();
        };
        tokio::join!(task_loop, waker);
        assert_eq!(steps.load(Ordering::SeqCst), 5, "the panic did not end the loop");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_wake_up_it_looks_by_its_timer() {
        let (schedule, end, _) = schedule(Some(Duration::from_secs(1)));
        let steps = AtomicUsize::new(0);
        run(schedule, || async {
            if steps.fetch_add(1, Ordering::SeqCst) == 3 {
                end.send_replace(true);
            }
            Step::Idle
        })
        .await;
        assert_eq!(steps.load(Ordering::SeqCst), 4);
    }
}
