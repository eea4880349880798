//! Lives with lost answers, refusals to answer and crashes end as the undisturbed ones do.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::super::acts::ALREADY_GONE;
use super::super::super::audit::AuditOutcome;
use super::super::super::interruption;

use super::*;

/// A disturbance around one call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Disturbance {
    /// Nothing.
    Calm,
    /// Podero acted, and its answer was lost.
    ActedUnheard,
    /// The call did not arrive, but the bridge cannot know.
    Lost,
    /// Surely not received.
    Unsent,
    /// Not now.
    Busy,
    /// The bridge died after Podero had acted.
    CrashAfter,
    /// The bridge died before.
    CrashBefore,
}

use Disturbance::{ActedUnheard, Busy, Calm, CrashAfter, CrashBefore, Lost, Unsent};

const ALL: [Disturbance; 7] = [Calm, ActedUnheard, Lost, Unsent, Busy, CrashAfter, CrashBefore];

/// The end of one claim.
enum Ended {
    Settled(Fate),
    Died,
}

impl World {
    /// Plays one event to its end, whatever happens around each call, as lanes and appliers do: saved state survives a crash, and
    /// the claim after one knows of it.
    fn play_through(&mut self, event: &Event, around: &mut impl Iterator<Item = Disturbance>) -> Verdict {
        let mut was_interrupted = false;
        for _ in 0..100 {
            let mut work = self.claim(event, was_interrupted);
            match self.work_on(&mut work, around) {
                Ended::Died => was_interrupted = true,
                Ended::Settled(fate) => {
                    let verdict = self.settle(work, fate);
                    was_interrupted = false;
                    if !matches!(verdict.fate, Fate::Retry { .. }) {
                        return verdict;
                    }
                }
            }
        }
        panic!("the disturbances end, the event does not: {event:?}");
    }

    fn work_on(&mut self, work: &mut Work, around: &mut impl Iterator<Item = Disturbance>) -> Ended {
        interruption::resume(work, at(self.now), &self.policy);
        for _ in 0..CALLS_MAX {
            let step = next(work, &self.policy);
            let Next::Call(call) = step else {
                let fate = final_fate(work, &step, moment(self.now), &self.policy);
                return Ended::Settled(fate.expect("without a call there is a fate"));
            };
            let disturbance = around.next().unwrap_or(Calm);
            let reply = match disturbance {
                Calm | ActedUnheard | CrashAfter => self.acted(work.event.id, &call),
                Lost | Unsent | Busy | CrashBefore => Reply::Busy { after: None },
            };
            let reply = match disturbance {
                Calm | Busy => reply,
                ActedUnheard | Lost => Reply::Unknown { why: "no answer" },
                Unsent => Reply::Unsent { why: "no connection" },
                CrashAfter | CrashBefore => return Ended::Died,
            };
            match judge(work, &call, reply, moment(self.now), &self.policy) {
                Decision::Settle(fate) => return Ended::Settled(fate),
                Decision::Continue { save: true } => {
                    self.customer = work.customer.clone();
                    self.rows.append(&mut work.acts);
                }
                Decision::Continue { save: false } => {}
            }
        }
        panic!("no end after {CALLS_MAX} calls: {:?}", work.event);
    }
}

impl World {
    /// Podero's answer; the change that it made is noted.
    fn acted(&mut self, event: EventId, call: &Call) -> Reply {
        let reply = self.podero.answer(call);
        let change = Action::of_call(call.operation()).zip(call.idempotency_key(event));
        if let (Reply::Done(_), Some((action, key))) = (&reply, change) {
            self.changes.push((event, action, key));
        }
        reply
    }

    /// Each change that Podero made has its row, and no more rows tell of changes than were made.
    fn check_rows(&self) {
        let kinds: BTreeSet<(EventId, Action)> = self
            .changes
            .iter()
            .map(|(event, action, _)| (*event, *action))
            .chain(self.rows.iter().filter_map(|row| Some((row.event?, row.action))))
            .collect();
        for (event, action) in kinds {
            let made = self.changes.iter().filter(|change| (change.0, change.1) == (event, action));
            let keys: BTreeSet<Uuid> = made.clone().map(|change| change.2).collect();
            let done = self
                .rows
                .iter()
                .filter(|row| (row.event, row.action, row.outcome) == (Some(event), action, AuditOutcome::Done));
            let gone = done.clone().filter(|row| row.reason.as_deref() == Some(ALREADY_GONE)).count();
            let (made, done) = (made.count(), done.count());
            let is_told_once = keys.len() <= done && done <= made + gone;
            assert!(is_told_once, "{action} for {event}: {} changes by {made} calls, {done} rows", keys.len());
        }
    }
}

fn play_all(policy: Policy, events: &[Event], around: &[Disturbance]) -> (Vec<String>, Vec<Fate>, Vec<Verdict>) {
    let mut world = World::new(policy);
    let mut around = around.iter().copied();
    let verdicts: Vec<Verdict> = events.iter().map(|event| world.play_through(event, &mut around)).collect();
    world.check_rows();
    let fates = verdicts.iter().map(|verdict| verdict.fate.clone()).collect();
    (world.podero.end(), fates, verdicts)
}

/// One life in which every kind of event happens; short, so that each call of it can be disturbed in turn.
fn whole_life() -> Vec<Event> {
    let details = Details { address: Some(address("New 2a")), ..personal(&[(Field::Email, "new@example.com")]) };
    vec![
        event(10, signed_up("Old 1")),
        event(20, moved("New 2")),
        event(30, updated(details)),
        event(40, Happening::Churned),
        event(50, signed_up("Old 1")),
    ]
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for old_heat_pumps in [OldHeatPumps::Pause, OldHeatPumps::Keep] {
        for old_building in [OldBuilding::Delete, OldBuilding::Keep] {
            for churn in [ChurnDelete::Soft, ChurnDelete::Hard, ChurnDelete::SoftThenHard] {
                let onboarding = (churn == ChurnDelete::Hard).then(onboarding);
                policies.push(Policy { old_heat_pumps, old_building, churn, onboarding, ..policy() });
            }
        }
    }
    policies
}

#[test]
fn one_disturbance_of_any_kind_at_any_call_changes_nothing_in_the_end() {
    for policy in policies() {
        let (expected, fates, calm) = play_all(policy.clone(), &whole_life(), &[]);
        assert!(fates.iter().all(|fate| *fate == applied()), "{fates:?}");
        for place in 0..30 {
            for disturbance in ALL {
                let mut around = vec![Calm; place];
                around.push(disturbance);
                let (end, fates, verdicts) = play_all(policy.clone(), &whole_life(), &around);
                assert_eq!(end, expected, "{disturbance:?} at call {place}");
                assert!(fates.iter().all(|fate| *fate == applied()), "{disturbance:?} at call {place}: {fates:?}");
                for (disturbed, calm) in verdicts.iter().zip(&calm) {
                    let ids = |verdict: &Verdict| verdict.notices.iter().map(|notice| notice.id).collect::<Vec<_>>();
                    assert_eq!(ids(disturbed), ids(calm), "{disturbance:?} at call {place}");
                    let retired = |verdict: &Verdict| verdict.seen.len();
                    assert_eq!(retired(disturbed), retired(calm), "{disturbance:?} at call {place}");
                    let purges = |verdict: &Verdict| !verdict.follow_ups.is_empty();
                    assert_eq!(purges(disturbed), purges(calm), "{disturbance:?} at call {place}");
                }
            }
        }
    }
}

/// A heat pump that was paused without an answer, and again by a claim that then freed its home and died: no list shows it any more,
/// and it has its row all the same.
#[test]
fn a_pause_that_was_repeated_before_a_crash_has_its_row() {
    let events = [event(10, signed_up("Street 1")), event(20, moved("Street 2"))];
    let policy =
        Policy { old_heat_pumps: OldHeatPumps::Pause, old_building: OldBuilding::Delete, ..policies().remove(1) };
    for (first, second, third) in [(9, 12, 14), (9, 11, 13), (8, 11, 13), (8, 12, 15), (9, 12, 15)] {
        let mut around = vec![Calm; 16];
        (around[5], around[first], around[second], around[third]) = (Lost, CrashAfter, ActedUnheard, CrashAfter);
        play_all(policy.clone(), &events, &around);
    }
}

/// Events that may happen to a customer, in any order: an event that makes no sense waits or is superseded.
fn happenings() -> impl Strategy<Value = Happening> {
    let street = (1..6u8).prop_map(|number| format!("Street {number}"));
    let street_again = street.clone();
    prop_oneof![
        3 => street.clone().prop_map(|street| signed_up(&street)),
        3 => street.prop_map(|street| moved(&street)),
        2 => (street_again, any::<bool>()).prop_map(|(street, has_address)| {
            let name = personal(&[(Field::FirstName, street.as_str())]);
            updated(Details { address: has_address.then(|| address(&street)), ..name })
        }),
        1 => Just(Happening::Churned),
    ]
}

/// A life in the order in which it happened, or with two neighbours swapped on the way.
fn lives() -> impl Strategy<Value = Vec<Event>> {
    (proptest::collection::vec(happenings(), 1..6), proptest::option::of(0..5usize)).prop_map(|(life, swapped)| {
        let times = (10..).step_by(10);
        let mut events: Vec<Event> = times.zip(life).map(|(time, happening)| event(time, happening)).collect();
        if let Some(first) = swapped.filter(|first| first + 1 < events.len()) {
            events.swap(first, first + 1);
        }
        events
    })
}

fn disturbances() -> impl Strategy<Value = Vec<Disturbance>> {
    let one = prop_oneof![2 => Just(Calm), 3 => proptest::sample::select(&ALL[..])];
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// The in-test Podero itself refuses a second user and asserts that no building is made twice for one home.
    #[test]
    fn a_life_full_of_disturbances_ends_as_the_calm_one(
        events in lives(),
        around in disturbances(),
        policy in proptest::sample::select(policies()),
    ) {
        let (expected, calm, _) = play_all(policy.clone(), &events, &[]);
        let (end, fates, _) = play_all(policy, &events, &around);
        prop_assert_eq!(end, expected);
        prop_assert_eq!(fates, calm);
    }
}
