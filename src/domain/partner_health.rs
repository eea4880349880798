//! The health of Podero as a whole: pauses, pace and circuit, as one value that replicas share.
//!
//! Every replica learns for itself and merges what the others learnt. [`PartnerHealth::merge`] is commutative, associative
//! and idempotent, so the order and number of exchanges do not matter. A pause only ever grows; of two paces the one that is
//! lower for longer holds; the circuit's state is counted in turns, and the later turn holds, so that one success closes it for
//! all. This file never asks what time it is.
//!
//! Before: [`crate::podero`] learns from replies. After: [`crate::replica`] shares it; [`super::alert`] judges it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::call::RETRY_AFTER_MAX;
use super::retry::RetrySchedule;

/// Delays of the probes while the circuit is open; not the retry policy of events. An immediate probe is pointless, and a minute
/// is as late as the bridge should learn that Podero is back.
const PROBES: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Delay of a probe after a pause. Normally the bridge's own calls show by then that Podero answers again; if none has gone
/// through, there were none, and a probe has to show it.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Length from which a darkness is an outage and does not count towards an event's own retry age. A shorter one counts: otherwise
/// an event's age would never grow with a Podero that fails for a moment now and then.
const OUTAGE_MIN: Duration = Duration::from_secs(60);

/// Limit of the time between two looks at a darkness: replicas look every second, and a slow store delays a look a little. A
/// longer time went without a look, and does not count towards blindness.
const LOOKS_APART_MAX: Duration = Duration::from_secs(30);

/// Interval at which a look at a darkness is written down.
const LOOK_NOTED_EVERY: Duration = Duration::from_secs(2);

/// A whole, in millionths: a pace is a whole number wherever it is kept.
const WHOLE: u32 = 1_000_000;

/// Percentage of the pace that a "slow down" leaves: it takes 30 % (TCP takes half; an API's limit is a number, not a full
/// queue).
const LOWERED_TO_PERCENT: u64 = 70;

/// Interval in which a "slow down" counts once: every call in flight receives the same one.
const LOWERED_EVERY: Duration = Duration::from_secs(1);

/// Rise of the pace for each second without a "slow down": 5 % of the maximum, so full pace again within 20 s.
const RISE_PER_SECOND: u32 = WHOLE / 20;

/// Lower bound of the pace: 2 % of the maximum, and one request a second. A pace that stopped would never learn that it may rise.
const SHARE_MIN: u32 = WHOLE / 50;

/// The pace at which Podero may be asked: falls by a factor, rises by a sum (AIMD), a pure function of time in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The share of the maximum, in millionths, until `rises_from`.
    share: u32,
    rises_from: Timestamp,
    lowered_at: Option<Timestamp>,
}

impl Default for Pace {
    /// The whole budget.
    fn default() -> Self {
        Self { share: WHOLE, rises_from: Timestamp::from_micros(0), lowered_at: None }
    }
}

impl Pace {
    /// The requests a second that may be made now, out of `maximum`; at least one.
    pub fn of(&self, maximum: u32, now: Timestamp) -> u32 {
        let allowed = u64::from(maximum) * u64::from(self.share_at(now)) / u64::from(WHOLE);
        u32::try_from(allowed).unwrap_or(maximum).max(1)
    }

    /// Lowers the pace: Podero asked for a slower one.
    pub fn lower(&mut self, now: Timestamp) {
        let share = self.share_at(now);
        let was_lowered = self.lowered_at.is_some_and(|at| now.since(at) < LOWERED_EVERY);
        if was_lowered {
            self.share = share;
        } else {
            let lowered = u64::from(share) * LOWERED_TO_PERCENT / 100;
            self.share = u32::try_from(lowered).unwrap_or(WHOLE).max(SHARE_MIN);
            self.lowered_at = Some(now);
        }
        self.rises_from = now.plus(LOWERED_EVERY);
    }

    fn share_at(&self, now: Timestamp) -> u32 {
        let risen = now.since(self.rises_from).as_micros() * u128::from(RISE_PER_SECOND) / 1_000_000;
        self.share.saturating_add(u32::try_from(risen).unwrap_or(WHOLE)).min(WHOLE)
    }

    /// The time at which the whole budget is allowed again. All paces rise alike, so the one that is back last is the lower one.
    fn whole_from(&self) -> Timestamp {
        let missing = u64::from(WHOLE.saturating_sub(self.share)) * 1_000_000 / u64::from(RISE_PER_SECOND);
        self.rises_from.plus(Duration::from_micros(missing))
    }

    fn merge(self, other: Self) -> Self {
        let rank = |pace: &Self| (pace.whole_from(), pace.rises_from, pace.lowered_at, pace.share);
        if rank(&other) > rank(&self) { other } else { self }
    }
}

/// The cause for which the circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitCause {
    /// Podero does not answer, or its answers make no sense.
    Away,
    /// Podero refuses the bridge itself: its credentials, its organisation, its address.
    Refused {
        /// The status that said so.
        status: u16,
    },
}

/// A circuit that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opening {
    /// Openings in a row: each probe that fails adds one.
    pub openings: u32,
    /// The earliest time of the next probe.
    pub until: Timestamp,
    /// The time of the first opening.
    pub since: Timestamp,
    /// The cause of the last opening.
    pub why: CircuitCause,
}

/// The visibility of Podero: whether calls go through at all. The order is that of the turns; the other fields make the order
/// total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Visibility {
    /// Grows with each change. In the same turn an open circuit outranks a closed one: a probe puts that right.
    turn: u64,
    opening: Option<Opening>,
    /// The time since which no call was answered, as far as is known: that of the pause or the opening that began it.
    dark_since: Option<Timestamp>,
    /// The time at which the last outage ended.
    back_since: Option<Timestamp>,
}

/// The time for which a darkness was looked at. The order is that of the times, the darkness first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Vigil {
    /// The darkness that this is about, by its beginning.
    dark_since: Timestamp,
    /// The beginning of the darkness, moved later by the time without a look.
    from: Timestamp,
    /// The time of the last look.
    looked_at: Timestamp,
}

/// The bridge's knowledge of Podero as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerHealth {
    paused_until: Option<Timestamp>,
    /// The time at which Podero asked for that pause; unknown for a pause from before this was stored.
    paused_at: Option<Timestamp>,
    pace: Pace,
    #[serde(rename = "sight")]
    visibility: Visibility,
    vigil: Option<Vigil>,
}

/// The condition that holds every call back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Podero asked for a pause.
    Paused {
        /// Its end.
        until: Timestamp,
    },
    /// The circuit is open until a probe succeeds.
    Open(Opening),
}

impl PartnerHealth {
    /// The combined knowledge of two replicas.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let pause = |of: &Self| (of.paused_until, of.paused_at);
        let (paused_until, paused_at) = pause(&self).max(pause(&other));
        Self {
            paused_until,
            paused_at,
            pace: self.pace.merge(other.pace),
            visibility: self.visibility.max(other.visibility),
            vigil: self.vigil.max(other.vigil),
        }
    }

    /// Records that a replica looks now. Time in which no replica looks counts for no darkness.
    #[must_use]
    pub fn looked(mut self, now: Timestamp) -> Self {
        let Some(dark_since) = self.dark_since(now) else { return self };
        let Some(known) = self.vigil.filter(|vigil| vigil.dark_since == dark_since) else {
            self.vigil = Some(Vigil { dark_since, from: dark_since, looked_at: now });
            return self;
        };
        let gap = now.since(known.looked_at);
        if gap > LOOKS_APART_MAX {
            self.vigil = Some(Vigil { from: known.from.plus(gap).min(now), looked_at: now, ..known });
        } else if gap >= LOOK_NOTED_EVERY {
            self.vigil = Some(Vigil { looked_at: now, ..known });
        }
        self
    }

    /// The time for which no call has gone through while a replica looked.
    pub fn dark_for(&self, now: Timestamp) -> Option<Duration> {
        let dark_since = self.dark_since(now)?;
        let vigil = self.vigil.filter(|vigil| vigil.dark_since == dark_since);
        Some(now.since(vigil.map_or(dark_since, |vigil| vigil.from)))
    }

    /// The part of this that can be true now. A replica whose clock is ahead may have written it, or this process before its
    /// clock was set back. A pause lasts as long as Podero asked for, from now. An opening counts, and is due for a probe, so
    /// that it ends as soon as Podero answers.
    #[must_use]
    pub fn plausible(mut self, now: Timestamp) -> Self {
        let can_be = |at: &Timestamp, ahead: Duration| *at <= Timestamp::latest(now, ahead);
        if let (Some(until), Some(at)) = (self.paused_until, self.paused_at.filter(|at| !can_be(at, Duration::ZERO))) {
            (self.paused_until, self.paused_at) = (Some(now.plus(until.since(at))), Some(now));
        }
        self.paused_until = self.paused_until.filter(|until| can_be(until, RETRY_AFTER_MAX));
        self.visibility.dark_since = self.visibility.dark_since.filter(|since| can_be(since, Duration::ZERO));
        self.vigil = self.vigil.filter(|vigil| can_be(&vigil.looked_at, Duration::ZERO));
        self.visibility.back_since = self.visibility.back_since.filter(|since| can_be(since, Duration::ZERO));
        let is_ahead =
            |opening: &Opening| !can_be(&opening.until, PROBES.max) || !can_be(&opening.since, Duration::ZERO);
        if let Some(opening) = self.visibility.opening.as_mut().filter(|opening| is_ahead(opening)) {
            (opening.until, opening.since) = (now, opening.since.min(now));
        }
        if !can_be(&self.pace.rises_from, LOWERED_EVERY) {
            self.pace = Pace::default();
        }
        self
    }

    /// The condition that holds calls back now. A pause that Podero asked for comes first: it lasts longer.
    pub fn hold(&self, now: Timestamp) -> Option<Hold> {
        match self.paused(now) {
            Some(until) => Some(Hold::Paused { until }),
            None => self.visibility.opening.map(Hold::Open),
        }
    }

    /// The end of the pause that Podero asked for, while it lasts.
    pub fn paused(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| *until > now)
    }

    /// The circuit, while it is open.
    pub fn opening(&self) -> Option<Opening> {
        self.visibility.opening
    }

    /// The pace at which Podero may be asked.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The time since which no call goes through, while something holds calls back; `None` while calls may be made.
    pub fn dark_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.hold(now).and(self.visibility.dark_since)
    }

    /// The time at which the last outage ended; `None` if none is known.
    pub fn back_since(&self) -> Option<Timestamp> {
        self.visibility.back_since
    }

    /// True if calls are known to go through: nothing holds them back, and one was answered since something last did.
    pub fn is_clear(&self, now: Timestamp) -> bool {
        self.hold(now).is_none() && self.visibility.dark_since.is_none()
    }

    /// True if a probe is due: the circuit has been open for long enough, or a pause is over and no call was made since. Never
    /// within a pause.
    pub fn is_probe_due(&self, now: Timestamp) -> bool {
        match (self.paused(now), self.visibility.opening) {
            (Some(_), _) => false,
            (None, Some(opening)) => now >= opening.until,
            (None, None) => {
                let quiet_since = self.paused_until.max(self.visibility.dark_since);
                self.visibility.dark_since.is_some() && quiet_since.is_some_and(|at| now >= at.plus(SILENCE_MAX))
            }
        }
    }

    /// Lowers the pace: Podero asked for a slower one.
    pub fn slow(&mut self, now: Timestamp) {
        self.pace.lower(now);
    }

    /// Begins a pause that Podero asked for. A shorter one never shortens the present one. `true` if it is news.
    pub fn pause(&mut self, now: Timestamp, until: Timestamp) -> bool {
        if until <= now || self.paused_until.is_some_and(|health| health >= until) {
            return false;
        }
        (self.paused_until, self.paused_at) = (Some(until), Some(now));
        if self.visibility.dark_since.is_none() {
            self.turn(Visibility { dark_since: Some(now), ..self.visibility });
        }
        true
    }

    /// Opens the circuit, for longer if it is open already (a probe failed).
    pub fn open(&mut self, now: Timestamp, why: CircuitCause) {
        let before = self.visibility.opening;
        let openings = before.map_or(0, |opening| opening.openings).saturating_add(1);
        let since = before.map_or(now, |opening| opening.since);
        let opening = Opening { openings, until: now.plus(PROBES.ceiling(openings)), since, why };
        let dark_since = self.visibility.dark_since.or(Some(now));
        self.turn(Visibility { opening: Some(opening), dark_since, ..self.visibility });
    }

    /// Records an answered call. Calls that were under way when all were held say nothing about now.
    pub fn answered(&mut self, now: Timestamp) {
        if self.hold(now).is_none()
            && let Some(dark_since) = self.visibility.dark_since
        {
            let was_outage = now.since(dark_since) >= OUTAGE_MIN;
            let back_since = if was_outage { Some(now) } else { self.visibility.back_since };
            self.turn(Visibility { dark_since: None, back_since, ..self.visibility });
        }
    }

    /// Makes a probe due now, if the circuit is open and there is no pause.
    pub fn ask_soon(&mut self, now: Timestamp) {
        if let Some(opening) = &mut self.visibility.opening {
            opening.until = opening.until.min(now);
        }
    }

    /// Closes the circuit: a probe was answered.
    pub fn close(&mut self, now: Timestamp) {
        if self.visibility.opening.is_some() {
            self.turn(Visibility { opening: None, ..self.visibility });
        }
        self.answered(now);
    }

    fn turn(&mut self, visibility: Visibility) {
        self.visibility = Visibility { turn: self.visibility.turn.saturating_add(1), ..visibility };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    #[test]
    fn the_pace_falls_by_a_factor_once_a_second_and_rises_by_a_sum() {
        let mut pace = Pace::default();
        assert_eq!(pace.of(100, at(0)), 100);
        pace.lower(at(0));
        for millis in [1, 500, 999] {
            pace.lower(at(millis));
        }
        assert_eq!(pace.of(100, at(999)), 70, "one storm counts once");
        pace.lower(at(1_000));
        assert_eq!(pace.of(100, at(1_000)), 49);
        // A second without, then 5 % of the maximum each second.
        assert_eq!(pace.of(100, at(2_000)), 49);
        assert_eq!(pace.of(100, at(3_000)), 54);
        assert_eq!(pace.of(100, at(12_200)), 100);
        assert_eq!(pace.of(100, at(1_000_000)), 100);
    }

    #[test]
    fn the_pace_never_stops() {
        let mut pace = Pace::default();
        for second in 0..100 {
            pace.lower(at(second * 1_000));
        }
        let now = at(99_000);
        assert_eq!([1_000, 100, 50, 10, 1].map(|maximum| pace.of(maximum, now)), [20, 2, 1, 1, 1]);
    }

    /// The circuit stays open longer with each failed probe and closes for all.
    #[test]
    fn each_failed_probe_keeps_the_circuit_open_longer() {
        let (mut mine, mut now) = (PartnerHealth::default(), at(0));
        mine.open(now, CircuitCause::Away);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let opening = mine.opening().expect("open");
            assert_eq!(opening.until.since(now).as_secs(), expected);
            assert!(!mine.is_probe_due(now));
            now = opening.until;
            assert!(mine.is_probe_due(now));
            mine.open(now, CircuitCause::Refused { status: 401 });
        }
        assert_eq!(mine.opening().map(|opening| (opening.since, opening.openings)), Some((at(0), 9)));
        let theirs = PartnerHealth::default().merge(mine);
        assert_eq!(theirs, mine, "one that knows nothing learns it");
        mine.close(now);
        assert!(theirs.merge(mine).is_clear(now), "and its end");
    }

    #[test]
    fn a_replica_whose_clock_is_ahead_holds_nobody_up() {
        let hour = |hours: i64| at(hours * 3_600_000);
        let mut ahead = PartnerHealth::default();
        ahead.pace.lower(hour(10));
        ahead.open(hour(10), CircuitCause::Away);
        ahead.pause(hour(10), hour(10 + 24));
        let now = hour(0);
        let known = ahead.plausible(now);
        assert_eq!(known.pace(), Pace::default());
        assert_eq!(known.paused(now), Some(hour(24)), "a pause is as long as Podero asked for, from now");
        assert!(known.opening().is_some_and(|opening| opening.since == now));
        assert!(known.is_probe_due(hour(24)));
        let near = hour(10).minus(Duration::from_secs(59));
        assert_eq!(ahead.plausible(near), ahead, "clocks that differ a little are believed");
    }

    #[test]
    fn a_pause_grows_and_no_probe_falls_into_it() {
        let mut health = PartnerHealth::default();
        assert!(health.pause(at(0), at(60_000)));
        assert!(!health.pause(at(0), at(1_000)), "a shorter wish is no news");
        health.open(at(0), CircuitCause::Away);
        assert_eq!(health.hold(at(59_999)), Some(Hold::Paused { until: at(60_000) }));
        assert!(!health.is_probe_due(at(59_999)));
        assert!(health.is_probe_due(at(60_000)));
    }

    #[test]
    fn it_is_dark_from_the_first_hold_until_a_call_is_answered() {
        let mut health = PartnerHealth::default();
        health.pause(at(1_000), at(2_000));
        health.answered(at(1_500));
        assert_eq!(health.dark_since(at(1_500)), Some(at(1_000)), "it was on its way before");
        assert_eq!((health.dark_since(at(2_000)), health.is_clear(at(2_000))), (None, false));
        health.pause(at(2_001), at(9_000));
        assert_eq!(health.dark_since(at(2_001)), Some(at(1_000)), "pause after pause is one darkness");
        assert!(!health.is_probe_due(at(13_999)));
        assert!(health.is_probe_due(at(14_000)), "nobody has called since");
        health.answered(at(14_000));
        assert!(health.is_clear(at(14_000)) && !health.is_probe_due(at(99_000)));
    }

    #[test]
    fn a_long_darkness_is_an_outage_and_a_blink_is_none() {
        let mut health = PartnerHealth::default();
        for (opened, closed, expected) in
            [(0, 59_999, None), (60_000, 120_000, Some(120_000)), (130_000, 131_000, Some(120_000))]
        {
            health.open(at(opened), CircuitCause::Away);
            health.close(at(closed));
            assert_eq!(health.back_since(), expected.map(at), "{opened}");
        }
    }

    #[test]
    fn time_in_which_no_replica_looked_counts_for_no_darkness() {
        let mut health = PartnerHealth::default();
        health.open(at(0), CircuitCause::Away);
        for second in 0..=100 {
            health = health.looked(at(second * 1_000));
        }
        assert_eq!(health.dark_for(at(100_000)), Some(Duration::from_secs(100)));
        // No replica for an hour; then a replica that reads the stored state, and one that has slept.
        let back = 3_700_000;
        let both = PartnerHealth::default().merge(health).looked(at(back)).merge(health);
        assert_eq!(both.dark_for(at(back)), Some(Duration::from_secs(100)));
        assert_eq!(both.dark_since(at(back)), Some(at(0)), "and it is dark since when it was");
        assert_eq!(both.looked(at(back + 5_000)).dark_for(at(back + 5_000)), Some(Duration::from_secs(105)));
        // The next darkness is another.
        let mut health = both;
        health.close(at(back + 6_000));
        assert_eq!(health.dark_for(at(back + 6_000)), None);
        health.open(at(back + 9_000), CircuitCause::Away);
        let health = health.looked(at(back + 10_000));
        assert_eq!(health.dark_for(at(back + 10_000)), Some(Duration::from_secs(1)));
    }

    /// Any health that a few steps can lead to.
    fn lives() -> impl Strategy<Value = PartnerHealth> {
        prop::collection::vec((0i64..5_000, 0u8..7), 0..12).prop_map(|steps| {
            let (mut health, mut now) = (PartnerHealth::default(), 0);
            for (pause, step) in steps {
                now += pause;
                match step {
                    0 => health.slow(at(now)),
                    1 => drop(health.pause(at(now), at(now + 3_000))),
                    2 => health.open(at(now), CircuitCause::Away),
                    3 => health.open(at(now), CircuitCause::Refused { status: 403 }),
                    4 => health.close(at(now)),
                    5 => health = health.looked(at(now)),
                    _ => health.answered(at(now)),
                }
            }
            health
        })
    }

    proptest! {
        #[test]
        fn it_does_not_matter_who_tells_whom_first_or_how_often(a in lives(), b in lives(), c in lives()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
        }

        #[test]
        fn a_merged_pace_is_never_faster_than_either(a in lives(), b in lives(), second in 0i64..60) {
            let now = at(60_000 + second * 1_000);
            let [one, other, both] = [a, b, a.merge(b)].map(|health| health.pace().of(1_000, now));
            // A step of rounding, since each is counted in whole millionths.
            prop_assert!(both <= one.min(other) + 1, "{} {} {}", one, other, both);
        }

        #[test]
        fn it_reads_back_as_it_was_written(a in lives()) {
            let text = serde_json::to_string(&a).expect("writes");
            prop_assert_eq!(serde_json::from_str::<PartnerHealth>(&text).expect("reads"), a);
        }
    }
}
