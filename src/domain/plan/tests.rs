//! Plans played against a Podero that is a few maps: the calls, their order, and the final state.

mod disturbed;
mod partner;

use std::collections::BTreeMap;

use super::super::EventId;
use super::super::audit::Action;
use super::super::call::{BuildingFound, Changes, Done, PumpFound, Refusal, RefusalKind, Reply, UserFound};
use super::super::event::{Change, Details, FieldValue, Move, Record};
use super::super::fixtures::*;
use super::super::notice::Topic;
use super::super::verdict::{Decision, Fate, Moment, Reason, Verdict, final_fate, judge, settle_with};

use super::*;
use partner::Podero;

/// More calls than any event here may take.
const CALLS_MAX: usize = 40;

/// Asks, calls and judges until the fate is known, as `crate::apply` does without a store.
fn drive(work: &mut Work, policy: &Policy, moment: Moment, mut podero: impl FnMut(&Call) -> Reply) -> Fate {
    for _ in 0..CALLS_MAX {
        let step = next(work, policy);
        let Next::Call(call) = step else {
            return final_fate(work, &step, moment, policy).expect("without a call there is a fate");
        };
        let reply = podero(&call);
        if let Decision::Settle(fate) = judge(work, &call, reply, moment, policy) {
            return fate;
        }
    }
    panic!("no end after {CALLS_MAX} calls: {:?}", work.event);
}

/// A customer, Podero, and the operator's policy.
struct World {
    policy: Policy,
    podero: Podero,
    customer: Customer,
    /// The watch's memory; it outlives the things that Podero deletes.
    memory: BTreeMap<Uuid, PumpRecord>,
    now: i64,
    /// The rows of the audit log that are durable.
    rows: Vec<AuditEntry>,
    /// The changes that Podero made: the event, the action, and the key that names the change.
    changes: Vec<(EventId, Action, Uuid)>,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            podero: Podero::default(),
            customer: Customer::default(),
            memory: BTreeMap::new(),
            now: 1_000,
            rows: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Plays one event undisturbed to its fate.
    fn play(&mut self, event: Event) -> Verdict {
        let mut work = self.claim(&event, false);
        let fate = drive(&mut work, &self.policy, moment(self.now), |call| self.podero.answer(call));
        self.settle(work, fate)
    }

    fn claim(&mut self, event: &Event, was_interrupted: bool) -> Work {
        let mut customer = self.customer.clone();
        customer.begin(was_interrupted);
        let mut work = Work::new(event.clone(), at(self.now), customer);
        work.interrupted = was_interrupted.then(|| Box::new(self.customer.clone()));
        for seen in self.podero.seen() {
            self.memory.entry(seen.heat_pump).or_insert(seen);
        }
        work.seen = self.memory.values().filter(|seen| !seen.is_retired).cloned().collect();
        work
    }

    fn settle(&mut self, work: Work, fate: Fate) -> Verdict {
        let verdict = settle_with(&work, fate, at(self.now), &self.policy);
        self.memory.extend(verdict.seen.iter().map(|change| (change.seen.heat_pump, change.seen.clone())));
        self.customer = verdict.state.clone();
        self.rows.extend(verdict.acts.iter().cloned());
        verdict
    }

    /// Plays one event and names the calls that it took.
    fn calls(&mut self, event: Event) -> Vec<&'static str> {
        self.podero.log.clear();
        let verdict = self.play(event);
        assert!(matches!(verdict.fate, Fate::Applied { .. }), "{:?}", verdict.fate);
        self.podero.names()
    }
}

fn applied() -> Fate {
    Fate::Applied { stale: Vec::new() }
}

#[test]
fn a_sign_up_makes_what_was_asked_for() {
    let bare = Happening::SignedUp(personal(&PERSON));
    let with_building = Happening::SignedUp(Details { building: Some(Record::new()), ..personal(&PERSON) });
    let invited = Policy { onboarding: Some(onboarding()), ..policy() };
    for (name, policy, happening, expected) in [
        ("nothing but a person", policy(), bare.clone(), &["find_user", "create_user"][..]),
        ("an address", policy(), signed_up("Home 1"), &["find_user", "create_user", "create_building"]),
        ("a building without one", policy(), with_building, &["find_user", "create_user", "create_building"]),
        (
            "an address, with onboarding",
            invited.clone(),
            signed_up("Home 1"),
            &["find_user", "create_user", "create_building", "create_onboarding_session"],
        ),
        ("a person, with onboarding", invited, bare, &["find_user", "create_user", "create_onboarding_session"]),
    ] {
        let mut world = World::new(policy);
        assert_eq!(world.calls(event(10, happening)), expected, "{name}");
    }
}

#[test]
fn what_podero_holds_after_a_sign_up_is_what_was_said() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Home 1")));
    let mut person = record(&PERSON);
    person.extend(address("Home 1"));
    let mut building = address("Home 1");
    building.insert(Field::Name, "Home 1, 01067 Dresden".into());
    assert_eq!(world.podero.records(), (vec![person], vec![building]));
}

#[test]
fn a_second_sign_up_with_the_same_words_makes_nothing() {
    let mut world = World::new(Policy { onboarding: Some(onboarding()), ..policy() });
    world.play(event(10, signed_up("Home 1")));
    let before = world.podero.records();
    assert_eq!(world.calls(event(20, signed_up("Home 1"))), <[&str; 0]>::default());
    assert_eq!(world.podero.records(), before);
}

#[test]
fn a_user_and_a_building_that_were_there_before_us_are_adopted() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Home 1")));
    world.customer = Customer::default();
    let before = world.podero.records();
    assert_eq!(world.calls(event(10, signed_up("Home 1"))), ["find_user", "list_buildings"]);
    assert_eq!(world.podero.records(), before);
}

#[test]
fn a_move_takes_exactly_the_calls_that_the_operator_chose() {
    for (old_heat_pumps, old_building, expected) in [
        (
            OldHeatPumps::Pause,
            OldBuilding::Delete,
            &["create_building", "update_user", "list_heat_pumps", "update_heat_pump", "delete_building"][..],
        ),
        (
            OldHeatPumps::Pause,
            OldBuilding::Keep,
            &["create_building", "update_user", "list_heat_pumps", "update_heat_pump"],
        ),
        (OldHeatPumps::Keep, OldBuilding::Delete, &["create_building", "update_user", "delete_building"]),
        (OldHeatPumps::Keep, OldBuilding::Keep, &["create_building", "update_user"]),
    ] {
        let mut world = World::new(Policy { old_heat_pumps, old_building, ..policy() });
        world.play(event(10, signed_up("Old 1")));
        let old = world.podero.buildings_now()[0];
        assert_eq!(world.calls(event(20, moved("New 2"))), expected, "{old_heat_pumps:?} {old_building:?}");
        let remains = world.podero.buildings_now().contains(&old);
        assert_eq!(remains, old_building == OldBuilding::Keep);
        let steered = world.podero.steered_pumps_of(old);
        assert_eq!(steered, usize::from(old_heat_pumps == OldHeatPumps::Keep));
        let left = if remains { vec![old] } else { Vec::new() };
        assert_eq!((&world.customer.podero.left, world.customer.podero.leaving.len()), (&left, 0));
    }
}

#[test]
fn a_move_back_into_a_kept_building_makes_a_new_one() {
    let mut world = World::new(Policy { old_building: OldBuilding::Keep, ..policy() });
    world.play(event(10, signed_up("Old 1")));
    world.play(event(20, moved("New 2")));
    world.play(event(30, moved("Old 1")));
    assert_eq!(world.podero.buildings_now().len(), 3, "what was left is never adopted again");
}

#[test]
fn a_move_of_one_home_leaves_the_customers_other_homes_alone() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Main 1")));
    let second = Details { building_key: key("second"), address: Some(address("Second 1")), ..Details::default() };
    assert_eq!(world.calls(event(20, updated(second))), ["create_building"]);
    let into = Move { building_key: key("second"), address: address("Second 2"), building: Record::new() };
    let expected = ["create_building", "list_heat_pumps", "update_heat_pump", "delete_building"];
    assert_eq!(world.calls(event(30, Happening::Moved(into))), expected);
    let (users, buildings) = world.podero.records();
    assert_eq!(users[0][&Field::StreetAndNumber], "Main 1".into());
    let mut streets: Vec<&str> = buildings.iter().filter_map(|b| b[&Field::StreetAndNumber].as_text()).collect();
    streets.sort_unstable();
    assert_eq!(streets, ["Main 1", "Second 2"]);
}

/// A move gets an onboarding link for its new building and a correction gets none.
#[test]
fn a_move_gets_an_onboarding_link_and_a_correction_none() {
    let mut world = World::new(Policy { onboarding: Some(onboarding()), ..policy() });
    world.play(event(10, signed_up("Old 1")));
    assert!(world.calls(event(20, moved("New 2"))).contains(&"create_onboarding_session"));
    let here = world.customer.podero.buildings[&key("main")].id;
    let invited = world.podero.log.iter().find_map(|call| {
        let Call::CreateOnboardingSession { building, language, .. } = call else { return None };
        Some((*building, language.clone()))
    });
    assert_eq!(invited, Some((Some(here), "de".to_owned())));
    let correction = Details { address: Some(address("New 2a")), ..Details::default() };
    assert_eq!(world.calls(event(30, updated(correction))), ["update_building", "update_user"]);
}

#[test]
fn the_link_speaks_the_customers_language_where_podero_does() {
    for (spoken, expected) in [
        ("sv", "sv"),
        ("sv-SE", "sv"),
        ("SV", "sv"),
        ("sv_FI.UTF-8", "sv"),
        (" sv-Latn-SE ", "sv"),
        ("swe", "sv"),
        ("rum", "ro"),
        ("en-GB", "en"),
        ("fr", "de"),
        ("fr-CH", "de"),
        ("svx", "de"),
    ] {
        let mut world = World::new(Policy { onboarding: Some(onboarding()), ..policy() });
        let sign_up = personal(&[PERSON[0], (Field::Language, spoken)]);
        let verdict = world.play(event(10, Happening::SignedUp(sign_up)));
        assert_eq!(verdict.remark.is_some(), expected == "de", "another language is remarked: {spoken}");
        let Some(Call::CreateOnboardingSession { language, .. }) = world.podero.log.last() else { panic!("a link") };
        assert_eq!(language, expected, "{spoken}");
    }
}

#[test]
fn an_update_writes_what_changed_and_nothing_else() {
    let corrected = Details { address: Some(address("Home 1a")), ..Details::default() };
    for (name, details, expected) in [
        ("the e-mail address", personal(&[(Field::Email, "new@example.com")]), &["update_user"][..]),
        ("nothing new", personal(&PERSON), &[]),
        ("the language, which is ours alone", personal(&[(Field::Language, "sv")]), &[]),
        ("the address, in place", corrected, &["update_building", "update_user"]),
    ] {
        let mut world = World::new(policy());
        world.play(event(10, signed_up("Home 1")));
        assert_eq!(world.calls(event(20, updated(details))), expected, "{name}");
        assert_eq!(world.podero.buildings_now().len(), 1, "{name}");
    }
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Home 1")));
    world.play(event(20, updated(personal(&[(Field::Email, "new@example.com")]))));
    let Some(Call::UpdateUser { changes, .. }) = world.podero.log.last() else { panic!("an update") };
    assert_eq!(changes, &[(Field::Email, Some("new@example.com".into()))].into());
}

#[test]
fn an_address_of_a_building_written_in_place_keeps_the_buildings_name() {
    let mut world = World::new(policy());
    let named = Details {
        address: Some(address("Home 1")),
        building: Some(record(&[(Field::Name, "Cottage")])),
        ..personal(&PERSON)
    };
    world.play(event(10, Happening::SignedUp(named)));
    let correction = Details { address: Some(address("Home 1a")), ..Details::default() };
    world.play(event(20, updated(correction)));
    let observed = world.podero.log.iter().find_map(|call| {
        let Call::UpdateBuilding { name, changes, .. } = call else { return None };
        Some((name.clone(), changes.clone()))
    });
    let expected = (FieldValue::from("Cottage"), [(Field::StreetAndNumber, Some("Home 1a".into()))].into());
    assert_eq!(observed, Some(expected));
}

#[test]
fn a_churn_pauses_every_pump_and_deletes_as_the_operator_chose() {
    for (churn, soft, purges) in
        [(ChurnDelete::Soft, true, false), (ChurnDelete::Hard, false, false), (ChurnDelete::SoftThenHard, true, true)]
    {
        let mut world = World::new(Policy { churn, ..policy() });
        world.play(event(10, signed_up("Home 1")));
        let user = world.customer.user_id().expect("signed up");
        world.podero.log.clear();
        let verdict = world.play(event(20, Happening::Churned));
        assert_eq!(world.podero.names(), ["list_heat_pumps", "update_heat_pump", "delete_user"], "{churn:?}");
        assert_eq!(world.podero.log.last(), Some(&Call::DeleteUser { user, soft }), "{churn:?}");
        assert_eq!(verdict.fate, applied());
        assert_eq!(verdict.notices[0].data["podero_user_id"], user.to_string());
        assert!(world.podero.buildings_now().is_empty() || soft);
        let Some(purge) = verdict.follow_ups.into_iter().next() else {
            assert!(!purges, "{churn:?}");
            continue;
        };
        assert!(purges, "{churn:?}");
        assert_eq!(purge.happening, Happening::PurgeDue { user });
        assert_eq!(purge.stamp().time, at(world.now).plus(30 * DAY));
        assert_eq!(purge.customer, event(20, Happening::Churned).customer);
    }
}

#[test]
fn a_churn_asks_the_brake_before_it_takes_anything_away_and_only_then() {
    let brake = Some(Brake { count: Some(1), share: None, window: DAY });
    let braked = || World::new(Policy { brake, ..policy() });
    let churn = event(20, Happening::Churned);
    let asks = |work: &Work, world: &World| next(work, &world.policy) == Next::AskBrake;
    // For a customer whom we know: before the first call.
    let mut world = braked();
    world.play(event(10, signed_up("Home 1")));
    let mut work = world.claim(&churn, false);
    assert!(asks(&work, &world));
    assert_eq!(final_fate(&work, &Next::AskBrake, moment(world.now), &world.policy), None, "it is no end");
    for clearance in [Clearance::Admitted, Clearance::Approved] {
        work.clearance = clearance;
        assert!(matches!(next(&work, &world.policy), Next::Call(Call::ListHeatPumps { .. })), "{clearance:?}");
    }
    // After a crash the user is looked up first; a clearance is not asked for again.
    let mut work = world.claim(&churn, true);
    assert!(matches!(next(&work, &world.policy), Next::Call(Call::FindUser { .. })));
    work.clearance = Clearance::Admitted;
    let fate = drive(&mut work, &world.policy, moment(world.now), |call| world.podero.answer(call));
    assert_eq!(fate, applied());
    // A customer who left already, an unknown one, one who came back since, and a cancelled churn: the brake is not asked.
    world.settle(work, fate);
    for event in [event(30, Happening::Churned), event(40, Happening::CalledOff(Change::Existence))] {
        assert!(!asks(&world.claim(&event, false), &world));
        assert_eq!(world.play(event).fate, applied());
    }
    world.play(event(50, signed_up("Home 1")));
    assert_eq!(next(&world.claim(&event(45, Happening::Churned), false), &world.policy), Next::Superseded);
    let mut world = braked();
    assert_eq!(world.play(churn.clone()).fate, applied(), "of nobody");
    // A customer whom only Podero knows, and one whom only we know: both have something to lose.
    let mut world = braked();
    world.play(event(10, signed_up("Home 1")));
    let facts = std::mem::take(&mut world.customer.facts);
    let stop = |world: &mut World| {
        let mut work = world.claim(&churn, true);
        let Next::Call(call) = next(&work, &world.policy) else { panic!("it is looked up first") };
        let reply = world.podero.answer(&call);
        let _ = judge(&mut work, &call, reply, moment(world.now), &world.policy);
        next(&work, &world.policy)
    };
    assert_eq!(stop(&mut world), Next::AskBrake);
    let mut world = braked();
    world.customer.facts = facts;
    assert_eq!(stop(&mut world), Next::AskBrake);
}

/// A world in which the customer left and the retention has passed, and the event that says so.
fn after_the_retention() -> (World, Event, Uuid) {
    let mut world = World::new(Policy { churn: ChurnDelete::SoftThenHard, ..policy() });
    world.play(event(10, signed_up("Home 1")));
    let user = world.customer.user_id().expect("signed up");
    let purge = world.play(event(20, Happening::Churned)).follow_ups.remove(0);
    world.now += 31 * 24 * 3_600;
    world.podero.log.clear();
    (world, purge, user)
}

#[test]
fn after_the_retention_the_user_is_deleted_for_good() {
    let (mut world, purge, user) = after_the_retention();
    let verdict = world.play(purge.clone());
    assert_eq!(world.podero.log, [Call::DeleteUser { user, soft: false }]);
    assert_eq!((verdict.fate, verdict.notices.len(), verdict.follow_ups), (applied(), 0, Vec::new()));
    assert!(world.podero.users.is_empty());
    assert_eq!(world.play(purge).fate, applied(), "gone already is as good");
}

/// The retention of an old user does not touch the one the customer returned with.
#[test]
fn retention_of_an_old_user_spares_the_new_one() {
    let (mut world, purge, user) = after_the_retention();
    world.play(event(30, signed_up("Home 1")));
    let back = world.customer.user_id().expect("signed up again");
    assert_ne!(back, user);
    world.play(purge);
    assert_eq!(world.podero.users.keys().copied().collect::<Vec<_>>(), [back]);
    assert_eq!(world.customer.user_id(), Some(back));
}

#[test]
fn a_purge_spares_a_customer_who_came_back_under_the_same_user() {
    for was_interrupted in [false, true] {
        let (mut world, purge, user) = after_the_retention();
        // A person at Podero restored the old user.
        world.podero.users.get_mut(&user).expect("soft-deleted").is_deleted = false;
        world.play(event(30, signed_up("Home 1")));
        assert_eq!(world.customer.user_id(), Some(user));
        // After an interruption nothing is certain: the user must be looked for before it is spared.
        world.customer.begin(was_interrupted);
        let verdict = world.play(purge);
        assert_eq!(verdict.fate, Fate::Superseded, "interrupted: {was_interrupted}");
        assert!(world.podero.users.contains_key(&user), "interrupted: {was_interrupted}");
        assert!(verdict.state.facts.is_active());
    }
}

#[test]
fn a_churn_of_a_customer_we_never_heard_of_is_remembered() {
    let mut world = World::new(policy());
    assert_eq!(world.calls(event(20, Happening::Churned)), ["find_user"]);
    assert_eq!(world.play(event(10, signed_up("Home 1"))).fate, Fate::Superseded);
    assert!(world.podero.users.is_empty());
}

#[test]
fn a_churn_of_a_customer_whom_only_podero_knows_removes_the_user() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Home 1")));
    world.customer = Customer::default();
    let expected = ["find_user", "list_heat_pumps", "update_heat_pump", "delete_user"];
    assert_eq!(world.calls(event(20, Happening::Churned)), expected);
    assert!(world.podero.users.values().all(|user| user.is_deleted));
}

#[test]
fn a_return_after_a_churn_makes_a_new_user() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Home 1")));
    world.play(event(20, Happening::Churned));
    let expected = ["find_user", "create_user", "create_building"];
    assert_eq!(world.calls(event(30, signed_up("Home 1"))), expected);
    assert_eq!(world.podero.users.values().filter(|user| !user.is_deleted).count(), 1);
}

#[test]
fn what_is_older_than_all_we_know_is_superseded_without_a_call() {
    for (name, late) in [
        ("a sign-up before a churn", event(5, signed_up("Home 1"))),
        ("a move before a churn", event(6, moved("New 2"))),
        ("an older churn", event(7, Happening::Churned)),
    ] {
        let mut world = World::new(policy());
        world.play(event(10, Happening::Churned));
        world.podero.log.clear();
        let before = world.customer.clone();
        let verdict = world.play(late);
        assert_eq!((verdict.fate, world.podero.log.len()), (Fate::Superseded, 0), "{name}");
        assert_eq!(verdict.state.facts, before.facts, "{name}");
        assert!(verdict.notices.is_empty(), "{name}");
    }
}

#[test]
fn an_event_that_lost_in_part_is_applied_and_says_what_was_lost() {
    let mut world = World::new(policy());
    world.play(event(10, signed_up("Old 1")));
    world.play(event(30, moved("New 2")));
    let late = Details { address: Some(address("Old 1a")), ..personal(&[(Field::FirstName, "corrected")]) };
    let verdict = world.play(event(20, updated(late)));
    assert_eq!(verdict.fate, Fate::Applied { stale: vec!["home/main".to_owned()] });
    let (users, buildings) = world.podero.records();
    assert_eq!(users[0][&Field::FirstName], "corrected".into());
    assert_eq!((buildings.len(), &buildings[0][&Field::StreetAndNumber]), (1, &"New 2".into()));
}

#[test]
fn a_move_or_an_update_before_the_sign_up_waits_for_it_and_not_for_ever() {
    for early in [moved("New 2"), updated(personal(&PERSON))] {
        let mut world = World::new(policy());
        let tries_from = at(world.now);
        let verdict = world.play(event(20, early.clone()));
        assert_eq!(verdict.fate, Fate::Waiting { until: tries_from.plus(3 * DAY) }, "{early:?}");
        assert!(world.podero.log.is_empty() && verdict.notices.is_empty());
        assert_eq!(verdict.state.facts, Customer::default().facts, "a waiting event leaves no wish behind");
        for (elapsed, is_parked) in [(3 * 24 * 3_600 - 1, false), (3 * 24 * 3_600, true)] {
            let work = Work::new(event(20, early.clone()), tries_from, Customer::default());
            let fate = final_fate(&work, &next(&work, &policy()), moment(world.now + elapsed), &policy());
            let parked = matches!(fate, Some(Fate::Parked { reason: Reason::NoSignUp, .. }));
            assert_eq!(parked, is_parked, "{elapsed}");
        }
    }
}

#[test]
fn news_is_told_of_every_effect_that_is_complete() {
    let mut world = World::new(Policy { onboarding: Some(onboarding()), ..policy() });
    let told = |verdict: &Verdict| verdict.notices.iter().map(|notice| notice.topic).collect::<Vec<_>>();
    let provisioned = world.play(event(10, signed_up("Home 1")));
    assert_eq!(told(&provisioned), [Topic::CustomerProvisioned]);
    let data = &provisioned.notices[0].data;
    let there = &world.customer.podero.buildings[&key("main")];
    assert_eq!(data["building_id"], there.id.to_string());
    assert!(data["onboarding_url"].as_str().is_some_and(|url| url.starts_with("https://")));
    assert_eq!(told(&world.play(event(20, moved("New 2")))), [Topic::CustomerRelocated]);
    assert_eq!(told(&world.play(event(30, updated(personal(&[(Field::FirstName, "x")]))))), []);
    assert_eq!(told(&world.play(event(40, Happening::Churned))), [Topic::CustomerOffboarded]);
}

/// An idempotency key is the same on a repeat and another for every step and event.
#[test]
fn an_idempotency_key_is_of_one_step_of_one_event() {
    let user = uuid(1);
    let since = stamp(1);
    let create = |name: &str| Call::CreateBuilding { user, key: key(name), since, record: Record::new() };
    let session = |name: &str| Call::CreateOnboardingSession {
        user,
        key: key(name),
        since,
        building: None,
        language: "de".to_owned(),
        policy: onboarding(),
    };
    let external_id = event(1, Happening::Churned).customer;
    let writes = [
        Call::CreateUser { external_id: external_id.clone(), record: Record::new() },
        Call::UpdateUser { user, changes: Changes::new() },
        Call::DeleteUser { user, soft: true },
        Call::DeleteUser { user, soft: false },
        create("main"),
        create("second"),
        Call::UpdateBuilding { user, key: key("main"), building: uuid(2), name: "n".into(), changes: Changes::new() },
        Call::UpdateBuilding { user, key: key("main"), building: uuid(3), name: "n".into(), changes: Changes::new() },
        Call::DeleteBuilding { user, building: uuid(2) },
        Call::PauseHeatPump { user, heat_pump: uuid(4) },
        Call::PauseHeatPump { user, heat_pump: uuid(5) },
        session("main"),
        session("second"),
    ];
    let mut keys = std::collections::BTreeSet::new();
    for number in [1, 2] {
        for call in &writes {
            let event = EventId(uuid(number));
            let first = call.idempotency_key(event).expect("a write has a key");
            assert_eq!(call.clone().idempotency_key(event), Some(first));
            assert!(keys.insert(first), "{call:?}");
        }
    }
    for call in [Call::FindUser { external_id }, Call::ListBuildings { user }, Call::ListHeatPumps { user }] {
        assert_eq!(call.idempotency_key(EventId(uuid(1))), None, "{call:?}");
    }
}
