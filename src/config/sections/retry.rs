//! `[retry]`: the schedule of retries.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::retry`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX, Rule};

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

/// Section `[retry]`: exponential with full jitter.
#[derive(Debug, Clone)]
pub struct Retry {
    /// First delay, not above `max`.
    pub initial: Duration,
    /// Longest delay between two attempts.
    pub max: Duration,
    /// Time after which a failing event is parked.
    pub give_up_after: Duration,
}

pub(in crate::config) fn read(r: &mut Reader) -> Retry {
    let retry = Retry { initial: r.value(&INITIAL), max: r.value(&MAX), give_up_after: r.value(&GIVE_UP_AFTER) };
    if r.is_sound(&INITIAL) && r.is_sound(&MAX) && retry.initial > retry.max {
        let found = humantime::format_duration(retry.initial).to_string();
        let max = humantime::format_duration(retry.max);
        r.refuse(&INITIAL, found, format!("allowed: at most retry.max, which is {max}"));
    }
    retry
}
