//! `[retry]`: the schedule of retries.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::retry`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX, Rule};
use crate::domain::retry::RetrySchedule;

section! {
    /// Retries of an event: exponential back-off with full jitter.
    RETRY = "retry" {
        /// Delay before the first retry, at most `retry.max`. It doubles with each further retry.
        INITIAL: Duration = "initial", delay(), default "1s";
        /// Longest delay between two attempts.
        MAX: Duration = "max", delay(), default "15m";
        /// Time after which an event that still fails is parked.
        GIVE_UP_AFTER: Duration = "give_up_after", delay(), default "72h";
    }
}

fn delay() -> Rule<Duration> {
    rules::duration(Duration::from_millis(1), DURATION_MAX)
}

/// Reads the delays. The first is not above the longest.
pub(in crate::config) fn schedule(r: &mut Reader) -> RetrySchedule {
    let retry = RetrySchedule { initial: r.value(&INITIAL), max: r.value(&MAX) };
    if r.is_sound(&INITIAL) && r.is_sound(&MAX) && retry.initial > retry.max {
        let found = humantime::format_duration(retry.initial).to_string();
        let max = humantime::format_duration(retry.max);
        r.refuse(&INITIAL, found, format!("allowed: at most retry.max, which is {max}"));
    }
    retry
}
