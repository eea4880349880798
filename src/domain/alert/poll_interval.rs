//! When is a user's next poll? Spread and jittered, never later than promised, sooner for a suspect.
//!
//! Each user has a fixed place in the round, the same after every restart; ids are random, so the places are even. A round is
//! shorter than `watch.interval` by the time that jitter and a queue may take, so that the knowledge of a healthy pump is never
//! older than the interval.
//!
//! Before: a poll ended. After: the store keeps the due time.

use std::time::Duration;

use uuid::Uuid;

use super::policy::WatchPolicy;
use crate::domain::{NAMESPACE, Timestamp};

/// Length of a round, in tenths of the interval.
const ROUND_TENTHS: u32 = 9;
/// Divisor: the jitter delays a poll by up to this part of a round, so that no user's polls keep time with Podero's own rounds.
const JITTER_PART: u32 = 20;
/// Divisor: the shortest delay of a suspect's poll is this part of the interval, however soon it should be seen again.
const SUSPECT_PART_MAX: u32 = 10;
/// Divisor: the delay after a failed poll is this part of the interval. Sooner than the next round, and yet no storm.
const RETRY_PART: u32 = 4;

/// The next poll of a user whose poll has just ended. `jitter` is from 0 to 1.
pub fn next_poll(user: Uuid, is_suspect: bool, now: Timestamp, jitter: f64, policy: &WatchPolicy) -> Timestamp {
    let round = round(policy);
    let place = place(user, round);
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).max(1);
    let rounds = (now.micros() - micros(place)).div_euclid(micros(round));
    let slot = Timestamp::from_micros(micros(place).saturating_add(micros(round).saturating_mul(rounds + 1)));
    let regular = slot.plus(part(round / JITTER_PART, jitter));
    if is_suspect { regular.min(now.plus(suspect_after(policy, jitter))) } else { regular }
}

/// The next try of a poll without a result.
pub fn retry_poll(now: Timestamp, jitter: f64, policy: &WatchPolicy) -> Timestamp {
    let pause = policy.interval / RETRY_PART;
    now.plus(pause - part(pause / RETRY_PART, jitter))
}

/// The delay of a suspect's poll: the polls that must see a loss fit into the time that it must last.
fn suspect_after(policy: &WatchPolicy, jitter: f64) -> Duration {
    let wanted = policy.disconnect_after / policy.disconnect_polls.max(1);
    let pause = wanted.clamp(policy.interval / SUSPECT_PART_MAX, round(policy));
    pause - part(pause / JITTER_PART, jitter)
}

fn round(policy: &WatchPolicy) -> Duration {
    policy.interval * ROUND_TENTHS / 10
}

fn place(user: Uuid, round: Duration) -> Duration {
    let micros = u64::try_from(round.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(Uuid::new_v5(&NAMESPACE, user.as_bytes()).as_u64_pair().0 % micros)
}

fn part(of: Duration, jitter: f64) -> Duration {
    of.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{at, uuid};
    use super::*;
    use proptest::prelude::*;

    const POLICY: WatchPolicy = WatchPolicy::DEFAULT;

    #[test]
    fn polls_are_spread_evenly_over_a_round() {
        let (now, round) = (at(1_000_000), round(&POLICY));
        let mut quarters = [0; 4];
        for number in 0..10_000u128 {
            let due = next_poll(Uuid::from_u128(number), false, now, 0.0, &POLICY).since(now);
            quarters[usize::try_from((due.as_micros() * 4 / round.as_micros()).min(3)).expect("small")] += 1;
        }
        assert!(quarters.iter().all(|count| (2_300..2_700).contains(count)), "{quarters:?}");
    }

    proptest! {
        #[test]
        fn nobody_is_polled_later_than_the_promise_nor_for_ever(
            user in any::<u128>(), start in 0..10_000_000i64, jitter in proptest::collection::vec(0.0..1.0f64, 2..50),
        ) {
            let user = Uuid::from_u128(user);
            let mut now = at(start);
            let mut polls = Vec::new();
            for jitter in &jitter {
                now = next_poll(user, false, now, *jitter, &POLICY);
                polls.push(now);
            }
            for pair in polls.windows(2) {
                let pause = pair[1].since(pair[0]);
                prop_assert!(pause <= POLICY.interval * 19 / 20, "{pause:?}");
                prop_assert!(pause >= POLICY.interval * 8 / 10, "{pause:?}");
            }
        }

        /// A suspect is seen sooner and a failed poll tried again within a quarter.
        #[test]
        fn a_suspect_is_polled_sooner_and_a_failed_poll_repeated_soon(
            start in 0..10_000_000i64, jitter in 0.0..1.0f64,
        ) {
            let now = at(start);
            let pause = next_poll(uuid(1), true, now, jitter, &POLICY).since(now);
            prop_assert!(pause <= Duration::from_mins(5), "{pause:?}");
            let pause = retry_poll(now, jitter, &POLICY).since(now);
            prop_assert!((Duration::from_secs(110)..=Duration::from_secs(150)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn a_suspect_is_asked_for_no_more_often_than_the_bound() {
        let eager = WatchPolicy { disconnect_after: Duration::ZERO, ..POLICY };
        let now = at(0);
        // The user's own place may come sooner; a user that has just been polled waits for the bound.
        let user = (0..100).map(Uuid::from_u128).find(|user| place(*user, round(&POLICY)) > Duration::from_mins(2));
        let due = next_poll(user.expect("one of them"), true, now, 0.0, &eager).since(now);
        assert_eq!(due, Duration::from_mins(1));
    }
}
