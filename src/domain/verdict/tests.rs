//! The table of the judgement, row by row; every refusal; and the records that the end of a claim writes.

use super::super::alert::{DiffContext, Observation, Outages, PumpRecord, WatchPolicy, diff};
use super::super::call::{Changes, Operation, PumpFound, TOKEN_SERVER_ERROR, UserFound};
use super::super::customer::{Leaving, ObservedBuilding};
use super::super::event::Record;
use super::super::fixtures::*;
use super::super::plan::{OldBuilding, next};
use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// An event of a customer whose user 1 and building 2 exist; it has failed five times.
fn work(happening: Happening) -> Work {
    let mut customer = customer_with(&[event(10, signed_up("Home 1"))]);
    customer.podero.user = ObservedUser::Present { id: uuid(1), observed: Record::new() };
    customer.podero.listing = Listing::Complete;
    let there = ObservedBuilding { id: uuid(2), since: stamp(10), observed: Record::new() };
    customer.podero.buildings.insert(key("main"), there);
    let mut work = Work::new(event(20, happening), at(1_000), customer);
    (work.failures, work.failing_since) = (5, Some(at(900)));
    work
}

fn update() -> Happening {
    updated(personal(&PERSON))
}

fn find() -> Call {
    Call::FindUser { external_id: event(1, Happening::Churned).customer }
}

fn create_user() -> Call {
    Call::CreateUser { external_id: event(1, Happening::Churned).customer, record: record(&PERSON) }
}

fn create_building() -> Call {
    Call::CreateBuilding { user: uuid(1), key: key("main"), since: stamp(20), record: Record::new() }
}

fn update_user() -> Call {
    Call::UpdateUser { user: uuid(1), changes: Changes::new() }
}

fn update_building() -> Call {
    let (user, key, building) = (uuid(1), key("main"), uuid(2));
    Call::UpdateBuilding { user, key, building, name: "n".into(), changes: Changes::new() }
}

fn delete_building() -> Call {
    Call::DeleteBuilding { user: uuid(1), building: uuid(6) }
}

fn pause() -> Call {
    Call::PauseHeatPump { user: uuid(1), heat_pump: uuid(3) }
}

fn session() -> Call {
    let (user, since, policy) = (uuid(1), stamp(20), onboarding());
    Call::CreateOnboardingSession { user, key: key("main"), since, building: None, language: "de".to_owned(), policy }
}

fn go_on(save: bool) -> Decision {
    Decision::Continue { save }
}

fn retry_at(seconds: i64, setback: Setback) -> Decision {
    Decision::Settle(Fate::Retry { at: at(seconds), setback })
}

fn judged(work: &mut Work, call: &Call, reply: &Reply) -> Decision {
    judge(work, call, reply.clone(), moment(1_000), &policy())
}

/// Done goes on, and saves results that must not be made or asked for twice, and look-ups that show something new; only a create
/// ends the row of failures.
#[test]
fn done_goes_on_and_saves_what_must_not_be_done_twice() {
    let user = |id| UserFound {
        id: uuid(id),
        is_customer: true,
        external_id: None,
        heat_pumps: None,
        zip: None,
        observed: Record::new(),
    };
    let pump = PumpFound { id: uuid(3), building: Some(uuid(6)), is_steered: true };
    let (main, since, url) = (key("main"), stamp(20), "https://connect.example".to_owned());
    for (call, done, save) in [
        (find(), Done::UserLookedUp(Some(user(1))), false),
        (create_user(), Done::UserCreated { user: uuid(1), record: record(&PERSON) }, true),
        (
            create_building(),
            Done::BuildingCreated { building: uuid(7), key: main.clone(), since, record: Record::new() },
            true,
        ),
        (update_user(), Done::UserUpdated { changes: Changes::new() }, false),
        (update_building(), Done::BuildingUpdated { key: main.clone(), changes: Changes::new() }, false),
        (Call::ListBuildings { user: uuid(1) }, Done::BuildingsListed(Vec::new()), true),
        (Call::ListHeatPumps { user: uuid(1) }, Done::HeatPumpsListed(vec![pump]), true),
        (session(), Done::SessionCreated { key: main, since, url }, false),
    ] {
        let mut work = work(update());
        let mut expected = work.customer.clone();
        expected.absorb(&work.merged.facts, done.clone());
        assert_eq!(judged(&mut work, &call, &Reply::Done(done)), go_on(save), "{call:?}");
        // A step that succeeds before every try must not keep an event that always fails young for ever.
        let is_made = matches!(call, Call::CreateUser { .. } | Call::CreateBuilding { .. });
        let failures = if is_made { (0, None) } else { (5, Some(at(900))) };
        assert_eq!((work.failures, work.failing_since), failures, "{call:?}");
        assert_eq!(work.customer, expected, "{call:?}");
    }
}

#[test]
fn what_is_not_there_is_looked_for_once_more_and_then_it_is_for_a_person() {
    let gone = || {
        let refusal = Refusal { kind: RefusalKind::NotFound, status: 404, detail: String::new() };
        Reply::Refused(refusal)
    };
    for call in [update_user(), create_building(), update_building(), session()] {
        let mut work = work(update());
        assert_eq!(judged(&mut work, &call, &gone()), go_on(false), "{call:?}");
        let second = judged(&mut work, &call, &gone());
        assert!(
            matches!(second, Decision::Settle(Fate::Parked { reason: Reason::Refused, .. })),
            "{call:?} became {second:?}"
        );
    }
}

#[test]
fn the_tombstone_stands_before_the_deletion_is_asked_for() {
    let list = Call::ListHeatPumps { user: uuid(1) };
    let refused = |kind| Reply::Refused(Refusal { kind, status: 400, detail: String::new() });
    for reply in [Reply::Done(Done::HeatPumpsListed(Vec::new())), refused(RefusalKind::Unsupported)] {
        let mut churn = work(Happening::Churned);
        assert_eq!(judged(&mut churn, &list, &reply), go_on(true), "{reply:?}");
        // The deletion is requested, and its answer lost. An event from before the churn that comes only now finds no active
        // customer; the churn itself goes on.
        let lost = Reply::Unknown { why: "no answer" };
        let delete = Call::DeleteUser { user: uuid(1), soft: true };
        assert!(matches!(judged(&mut churn, &delete, &lost), Decision::Settle(Fate::Retry { .. })));
        let late = Work::new(event(15, update()), at(1_000), churn.customer.clone());
        assert_eq!(next(&late, &policy()), Next::Superseded, "{reply:?}");
        let again = Work::new(churn.event.clone(), at(1_000), churn.customer.clone());
        assert!(matches!(next(&again, &policy()), Next::Call(_)), "{reply:?}");
    }
}

#[test]
fn busy_waits_for_the_longer_of_its_wish_and_the_back_off_and_never_ages() {
    // With a jitter of one half, six failures wait for 16 s.
    for (after, at_seconds) in [
        (None, 1_016),
        (Some(Duration::from_secs(2)), 1_016),
        (Some(Duration::from_secs(90)), 1_090),
        (Some(HOUR), 1_000 + 3_600),
        (Some(RETRY_AFTER_MAX), 1_000 + 24 * 3_600),
        (Some(RETRY_AFTER_MAX + HOUR), 1_000 + 24 * 3_600),
        (Some(Duration::MAX), 1_000 + 24 * 3_600),
    ] {
        let mut work = work(update());
        let before = work.customer.clone();
        let ruling = judged(&mut work, &create_user(), &Reply::Busy { after });
        assert_eq!(ruling, retry_at(at_seconds, Setback::Busy), "{after:?}");
        assert_eq!((work.failures, work.failing_since), (6, Some(at(900))), "{after:?}");
        assert_eq!(work.customer, before);
    }
}

/// Held parks nothing however long it lasts and is tried less and less often.
#[test]
fn held_parks_nothing_and_is_tried_ever_less_often() {
    let mut work = work(update());
    work.failing_since = Some(at(-1_000_000));
    // The sixth failure waits for 16 s at this jitter, the seventh for 32 s.
    for (failures, at_seconds) in [(6, 1_016), (7, 1_032)] {
        let ruling = judged(&mut work, &create_user(), &Reply::Held { status: 403 });
        assert_eq!(ruling, retry_at(at_seconds, Setback::Held));
        assert_eq!((work.failures, work.failing_since), (failures, Some(at(-1_000_000))));
    }
}

#[test]
fn unsent_is_a_failure_that_leaves_no_doubt() {
    for call in [create_user(), create_building(), update_user()] {
        let mut work = work(update());
        let before = work.customer.clone();
        let ruling = judged(&mut work, &call, &Reply::Unsent { why: "no connection" });
        assert_eq!(ruling, retry_at(1_016, Setback::Unsent), "{call:?}");
        assert_eq!((work.failures, &work.customer), (6, &before), "{call:?}");
    }
}

/// Unknown is a failure and makes the bridge look before it makes or believes anything again.
#[test]
fn unknown_is_a_failure_after_which_the_next_step_looks() {
    let present = ObservedUser::Present { id: uuid(1), observed: Record::new() };
    for (call, user, listing) in [
        (create_user(), ObservedUser::Unknown, Listing::Complete),
        (create_building(), ObservedUser::Unknown, Listing::Doubtful),
        (update_user(), ObservedUser::Unknown, Listing::Complete),
        (update_building(), present.clone(), Listing::Doubtful),
        (delete_building(), present.clone(), Listing::Complete),
        (Call::DeleteUser { user: uuid(1), soft: true }, ObservedUser::Unknown, Listing::Complete),
        (Call::DeleteUser { user: uuid(9), soft: false }, present.clone(), Listing::Complete),
        (session(), present, Listing::Complete),
    ] {
        let mut work = work(update());
        let ruling = judged(&mut work, &call, &Reply::Unknown { why: "no answer" });
        assert_eq!(ruling, retry_at(1_016, Setback::Unknown), "{call:?}");
        assert_eq!((work.failures, work.failing_since), (6, Some(at(900))), "{call:?}");
        assert_eq!((&work.customer.podero.user, work.customer.podero.listing), (&user, listing), "{call:?}");
    }
}

#[test]
fn podero_that_fails_is_a_reason_of_its_own_and_a_silent_one_is_not() {
    for (reply, setback) in [
        (Reply::server_error(500), Setback::ServerError),
        (Reply::server_error(599), Setback::ServerError),
        (Reply::Unsent { why: TOKEN_SERVER_ERROR }, Setback::ServerError),
        (Reply::Unknown { why: "no answer in time" }, Setback::Unknown),
        (Reply::Unsent { why: "no connection" }, Setback::Unsent),
    ] {
        let mut work = work(update());
        assert_eq!(judged(&mut work, &find(), &reply), retry_at(1_016, setback), "{reply:?}");
        assert_eq!((work.failures, work.failing_since), (6, Some(at(900))), "{reply:?}");
    }
}

#[test]
fn nothing_overtakes_a_change_that_nobody_heard_of() {
    for (call, waits) in [(create_user(), 10), (create_building(), 10), (update_user(), 10), (pause(), 10), (find(), 0)]
    {
        let mut work = work(update());
        (work.failures, work.failing_since) = (0, None);
        let at_once = Moment { now: at(1_000), jitter: 0.0 };
        let ruling = judge(&mut work, &call, Reply::Unknown { why: "no answer" }, at_once, &policy());
        assert_eq!(ruling, retry_at(1_000 + waits, Setback::Unknown), "{call:?}");
        // The event after it does not either, if this one is parked, nor a retry by hand.
        let other = Work::new(event(30, update()), at(1_000), work.customer.clone());
        let until = at(1_000 + waits);
        let quiet = (waits > 0).then_some(Fate::Retry { at: until, setback: Setback::Unknown });
        assert_eq!(too_soon(&other, at(1_000), &policy()), quiet, "{call:?}");
        assert_eq!(too_soon(&other, until, &policy()), None, "{call:?}");
        assert_eq!(too_soon(&other, at(500), &policy()), None, "a clock that was set back holds nobody up for long");
    }
}

#[test]
fn a_failure_begins_a_row_and_a_row_that_is_too_long_is_given_up() {
    for (failing_since, expected_since, gives_up) in [
        (None, 1_000, false),
        (Some(at(999)), 999, false),
        (Some(at(1_000).minus(3 * DAY).plus(Duration::from_micros(1))), 0, false),
        (Some(at(1_000).minus(3 * DAY)), 0, true),
        (Some(at(1_000).minus(4 * DAY)), 0, true),
    ] {
        let mut work = work(update());
        work.failing_since = failing_since;
        let fate = fail(&mut work, Setback::Unsent, "no connection", moment(1_000), &policy());
        let given_up =
            matches!(&fate, Fate::Parked { reason: Reason::GaveUp, detail } if detail.contains("no connection"));
        assert_eq!(given_up, gives_up, "{failing_since:?} {fate:?}");
        assert_eq!(work.failing_since, failing_since.or(Some(at(expected_since))));
    }
}

#[test]
fn a_person_is_asked_where_podero_shows_a_user_that_is_not_the_customers() {
    let stranger = |is_customer| UserFound {
        id: uuid(9),
        is_customer,
        external_id: None,
        heat_pumps: None,
        zip: None,
        observed: record(&PERSON),
    };
    for (name, user, found, expected) in [
        ("staff under the customer's key", ObservedUser::Unknown, Some(stranger(false)), Some(Reason::NotACustomer)),
        ("nobody, and yet a duplicate", ObservedUser::Conflict, None, Some(Reason::EmailTaken)),
        ("nobody", ObservedUser::Unknown, None, None),
        ("the customer after all", ObservedUser::Conflict, Some(stranger(true)), None),
    ] {
        let mut work = work(update());
        work.customer.podero.user = user;
        let ruling = judged(&mut work, &find(), &Reply::Done(Done::UserLookedUp(found)));
        match expected {
            None => assert_eq!(ruling, go_on(true), "{name}"),
            Some(expected) => {
                let Decision::Settle(Fate::Parked { reason, detail }) = ruling else { panic!("{name}: {ruling:?}") };
                assert_eq!(reason, expected, "{name}");
                assert!(PERSON.iter().all(|(_, text)| !detail.contains(text)), "{name}: {detail}");
            }
        }
    }
}

/// The result of a refusal.
#[derive(Debug, PartialEq)]
enum Led {
    OnAndSaved(bool),
    ToPark(Reason),
}

fn refuse(work: &mut Work, call: &Call, kind: RefusalKind) -> Led {
    let refusal = Refusal { kind, status: 422, detail: "said no".to_owned() };
    match judged(work, call, &Reply::Refused(refusal)) {
        Decision::Continue { save } => Led::OnAndSaved(save),
        Decision::Settle(Fate::Parked { reason, .. }) => Led::ToPark(reason),
        Decision::Settle(fate) => panic!("a refusal is final: {fate:?}"),
    }
}

/// A refusal goes on where no is as good as yes and parks where a person is needed.
#[test]
fn a_refusal_parks_only_where_a_person_is_needed() {
    use RefusalKind::{Duplicate, Invalid, NotFound, Unsupported};
    const ALL: [RefusalKind; 4] = [NotFound, Unsupported, Duplicate, Invalid];
    let delete = Call::DeleteUser { user: uuid(1), soft: true };
    let (list, list_pumps) = (Call::ListBuildings { user: uuid(1) }, Call::ListHeatPumps { user: uuid(1) });
    for (call, happening, goes_on) in [
        (find(), update(), &[][..]),
        (create_user(), update(), &[Duplicate]),
        (update_user(), update(), &[NotFound]),
        (delete.clone(), Happening::Churned, &[NotFound]),
        (list, update(), &[NotFound, Unsupported]),
        (create_building(), update(), &[NotFound]),
        (update_building(), update(), &[NotFound]),
        (delete_building(), update(), &ALL),
        (list_pumps.clone(), update(), &[NotFound]),
        (list_pumps, Happening::Churned, &[NotFound, Unsupported, Invalid]),
        (pause(), update(), &[NotFound]),
        (pause(), Happening::Churned, &ALL),
        (session(), update(), &[NotFound]),
    ] {
        for kind in ALL {
            let led = refuse(&mut work(happening.clone()), &call, kind);
            let reason = match (&call, kind) {
                (Call::UpdateUser { .. }, Duplicate) => Reason::EmailTaken,
                _ => Reason::Refused,
            };
            // A churn that goes on without the list has put up its tombstone.
            let buries = happening == Happening::Churned
                && matches!(call, Call::ListHeatPumps { .. })
                && matches!(kind, Unsupported | Invalid);
            let expected = if goes_on.contains(&kind) { Led::OnAndSaved(buries) } else { Led::ToPark(reason) };
            assert_eq!(led, expected, "{call:?} {kind:?}");
        }
    }
}

#[test]
fn what_a_refusal_taught_is_remembered() {
    use RefusalKind::{Duplicate, Invalid, NotFound, Unsupported};
    let freed = |work: &Work| work.customer.podero.leaving.is_empty();
    type Check = fn(&Work) -> bool;
    let mut leaving = work(update());
    leaving.customer.podero.leaving.push(Leaving {
        building: uuid(6),
        to_pause: Some(vec![uuid(3), uuid(4)]),
        spare: None,
    });
    let mut churn = work(Happening::Churned);
    churn.customer.podero.pausing = Some(vec![uuid(3), uuid(4)]);
    let podero_kept_it: Check = |work| work.customer.podero.left == [uuid(6)];
    for (name, start, call, kind, check) in [
        (
            "look once more",
            &leaving,
            create_user(),
            Duplicate,
            (|work| work.customer.podero.user == ObservedUser::Conflict) as Check,
        ),
        ("the user is gone", &leaving, update_user(), NotFound, |work| {
            work.customer.podero.user == ObservedUser::Unknown
        }),
        ("the building is gone", &leaving, update_building(), NotFound, |work| {
            work.customer.podero.buildings.is_empty()
        }),
        ("the old building is gone", &leaving, delete_building(), NotFound, |work| {
            work.customer.podero.left.is_empty()
        }),
        ("the old building stays", &leaving, delete_building(), Invalid, podero_kept_it),
        ("the old building cannot be deleted", &leaving, delete_building(), Unsupported, podero_kept_it),
        ("the old home's pump is gone", &leaving, pause(), NotFound, |work| {
            work.customer.podero.leaving[0].to_pause == Some(vec![uuid(4)])
        }),
        ("a churn passes over a pump", &churn, pause(), Invalid, |work| {
            work.customer.podero.pausing == Some(vec![uuid(4)])
        }),
        ("a churn passes over the list", &churn, Call::ListHeatPumps { user: uuid(1) }, Unsupported, |work| {
            work.customer.podero.pausing == Some(Vec::new())
        }),
        ("the churned user is gone", &churn, Call::DeleteUser { user: uuid(1), soft: true }, NotFound, |work| {
            work.customer.podero.user == ObservedUser::Absent && work.customer.podero.departed == Some(uuid(1))
        }),
    ] {
        let mut work = start.clone();
        let buries = matches!(call, Call::ListHeatPumps { .. });
        assert_eq!(refuse(&mut work, &call, kind), Led::OnAndSaved(buries), "{name}");
        assert!(check(&work), "{name}: {:?}", work.customer.podero);
        if matches!(call, Call::DeleteBuilding { .. }) {
            assert!(freed(&work), "{name}");
        }
    }
}

#[test]
fn a_building_in_doubt_that_cannot_be_listed_needs_a_person_once() {
    let list = Call::ListBuildings { user: uuid(1) };
    let look = |work: &mut Work| refuse(work, &list, RefusalKind::Unsupported);
    let in_doubt = Led::ToPark(Reason::BuildingInDoubt);
    let mut first = work(moved("New 2"));
    first.customer.podero.listing = Listing::Unread;
    assert_eq!(look(&mut first), Led::OnAndSaved(false), "nothing was made unseen");
    assert_eq!(first.customer.podero.listing, Listing::Complete);

    first.customer.podero.listing = Listing::Doubtful;
    assert_eq!(look(&mut first), in_doubt);
    // An event that needs no new building goes through, and does not end the doubt.
    let mut other = Work::new(event(30, update()), at(1_000), first.customer.clone());
    assert_eq!(look(&mut other), Led::OnAndSaved(false));
    assert_eq!(other.customer.podero.listing, Listing::Unread);
    // An event that needs a new one is for a person as well: no person has looked for it.
    let mut later = Work::new(event(40, moved("Newer 3")), at(1_000), other.customer.clone());
    assert_eq!(look(&mut later), in_doubt);
    // A person has looked: the retry makes its building, and a crash in that is a new doubt.
    let mut retried = Work::new(first.event.clone(), at(1_000), later.customer.clone());
    assert_eq!(look(&mut retried), Led::OnAndSaved(true));
    assert_eq!((retried.customer.podero.listing, retried.customer.podero.asked.len()), (Listing::Complete, 0));
    retried.customer.begin(true);
    assert_eq!(look(&mut retried), in_doubt);
}

/// A doubt that a parked event left concerns each event that needs a new building.
#[test]
fn a_doubt_is_one_to_each_event_that_needs_a_building() {
    let list = Call::ListBuildings { user: uuid(1) };
    let look = |work: &mut Work| refuse(work, &list, RefusalKind::Unsupported);
    // Its create got no answer, and it was given up before it could look.
    let mut given_up = work(moved("New 2"));
    given_up.customer.doubt_buildings();
    let unheard = Fate::Parked { reason: Reason::GaveUp, detail: String::new() };
    let customer = settle_with(&given_up, unheard, at(1_000), &policy()).state;
    let mut other = Work::new(event(30, update()), at(1_000), customer);
    assert_eq!(look(&mut other), Led::OnAndSaved(false));
    let mut retried = Work::new(given_up.event.clone(), at(1_000), other.customer.clone());
    assert_eq!(
        look(&mut retried),
        Led::ToPark(Reason::BuildingInDoubt),
        "a retry by hand says that somebody looked only if asked to"
    );
    let mut again = Work::new(given_up.event, at(1_000), retried.customer);
    assert_eq!(look(&mut again), Led::OnAndSaved(true));
    assert!(again.customer.podero.unseen.is_empty());
}

#[test]
fn a_panic_is_a_doubt_as_after_a_crash() {
    let mut work = work(update());
    let fate = interrupted(&mut work, at(1_000), &policy());
    assert!(matches!(fate, Fate::Parked { reason: Reason::Panicked, .. }));
    assert_eq!((&work.customer.podero.user, work.customer.podero.listing), (&ObservedUser::Unknown, Listing::Doubtful));
    assert!(too_soon(&work, at(1_009), &policy()).is_some() && too_soon(&work, at(1_010), &policy()).is_none());
}

#[test]
fn whoever_was_asked_is_forgotten_in_the_end_and_asked_again() {
    let mut customer = work(update()).customer;
    let ids: Vec<EventId> = (0..40).map(|number| EventId(uuid(number))).collect();
    ids.iter().for_each(|id| customer.ask(*id));
    assert_eq!(customer.podero.asked, ids[8..]);
}

#[test]
fn what_a_known_building_shows_is_written_anew_where_it_cannot_be_read() {
    let list = Call::ListBuildings { user: uuid(1) };
    let mut work = work(update());
    let there = work.customer.podero.buildings.get_mut(&key("main")).expect("the fixture has one");
    there.observed = record(&[(crate::domain::event::Field::Name, "as far as we knew")]);
    work.customer.podero.listing = Listing::Doubtful;
    assert_eq!(refuse(&mut work, &list, RefusalKind::Unsupported), Led::OnAndSaved(false));
    assert_eq!(work.customer.podero.buildings[&key("main")].observed, Record::new());
}

#[test]
fn the_detail_of_a_parked_event_names_the_call_and_what_podero_said() {
    let refusal = Refusal { kind: RefusalKind::Invalid, status: 422, detail: "zip_code: too long".to_owned() };
    let ruling = judged(&mut work(update()), &create_building(), &Reply::Refused(refusal));
    let Decision::Settle(Fate::Parked { detail, .. }) = ruling else { panic!("{ruling:?}") };
    assert_eq!(detail, format!("{} answered 422: zip_code: too long", Operation::CreateBuilding.name()));
}

/// A remembered pump in a building, with an open alert.
fn alerted(pump: u128, building: u128) -> PumpRecord {
    let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let lost = Observation {
        heat_pump: uuid(pump),
        building: Some(uuid(building)),
        is_authenticated: Some(false),
        updated_at: Some(at(1)),
        ..Observation::default()
    };
    let change = diff(None, &lost, &DiffContext::plain(uuid(1), Some("C-1"), &Outages::default()), at(500), &policy);
    assert_eq!(change.notices.len(), 1);
    change.seen
}

#[test]
fn alerts_end_with_the_home_or_the_customer_that_they_belong_to() {
    let keep = Policy { old_heat_pumps: OldHeatPumps::Keep, old_building: OldBuilding::Keep, ..policy() };
    for (name, policy, happening, expected) in [
        ("a move ends the old home's", policy(), moved("New 2"), &[(3, "moved")][..]),
        ("a move that keeps watching", keep, moved("New 2"), &[]),
        ("a churn ends all", policy(), Happening::Churned, &[(3, "churned"), (5, "churned")]),
        ("an update ends none", policy(), update(), &[]),
    ] {
        let is_move = matches!(happening, Happening::Moved(_));
        let mut work = work(happening);
        work.seen = vec![alerted(3, 6), alerted(5, 2), alert::retire(&alerted(8, 6), Resolution::Moved, at(600)).seen];
        if is_move {
            work.customer.podero.retired = [(uuid(3), uuid(2)), (uuid(8), uuid(2))].into();
        }
        let verdict = settle_with(&work, Fate::Applied { stale: Vec::new() }, at(1_000), &policy);
        let told: Vec<(Uuid, &str)> = verdict
            .seen
            .iter()
            .map(|change| {
                assert!(change.seen.is_retired && change.seen.alert.is_none());
                let notice = change.notices.first().expect("an open alert is resolved");
                assert_eq!(notice.topic, Topic::HeatPumpReconnected);
                (change.seen.heat_pump, notice.data["resolution"].as_str().expect("says why"))
            })
            .collect();
        let expected: Vec<(Uuid, &str)> = expected.iter().map(|(pump, why)| (uuid(*pump), *why)).collect();
        assert_eq!(told, expected, "{name}");
        assert!(verdict.state.podero.retired.is_empty(), "{name}");
    }
}

fn fates() -> [(Fate, &'static [Topic], bool); 5] {
    let parked = Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
    [
        (Fate::Applied { stale: Vec::new() }, &[Topic::CustomerProvisioned], true),
        (Fate::Superseded, &[], true),
        (Fate::Waiting { until: at(2_000) }, &[], false),
        (Fate::Retry { at: at(2_000), setback: Setback::Busy }, &[], false),
        (parked, &[Topic::EventParked], true),
    ]
}

#[test]
fn the_end_of_a_claim_tells_what_is_news_and_wakes_who_waits() {
    for (fate, topics, ends) in fates() {
        for (happening, about_existence) in [(signed_up("Home 1"), true), (update(), false)] {
            let work = work(happening);
            let verdict = settle_with(&work, fate.clone(), at(1_000), &policy());
            assert_eq!(verdict.wakes_waiting, ends && about_existence, "{fate:?}");
            assert_eq!((verdict.failures, verdict.failing_since), (5, Some(at(900))), "{fate:?}");
            let told: Vec<Topic> = verdict.notices.iter().map(|notice| notice.topic).collect();
            let is_parked = matches!(fate, Fate::Parked { .. });
            assert_eq!(told, if about_existence || is_parked { topics } else { &[] }, "{fate:?}");
            let takes_facts = matches!(fate, Fate::Applied { .. });
            let facts = if takes_facts { &work.merged.facts } else { &work.customer.facts };
            assert_eq!(&verdict.state.facts, facts, "{fate:?}: only what Podero took becomes ours");
        }
    }
}

/// Homes still to be freed are left when the event is applied and kept in mind when not.
#[test]
fn homes_to_be_freed_are_kept_until_the_event_is_applied() {
    for (fate, _, _) in fates() {
        let mut work = work(moved("New 2"));
        work.customer.podero.leaving.push(Leaving { building: uuid(6), to_pause: None, spare: None });
        work.customer.podero.pausing = Some(vec![uuid(3)]);
        let is_applied = matches!(fate, Fate::Applied { .. });
        let podero = settle_with(&work, fate, at(1_000), &policy()).state.podero;
        assert_eq!((podero.leaving.len(), podero.left.len()), if is_applied { (0, 1) } else { (1, 0) });
        assert_eq!(podero.pausing, None);
    }
}

#[test]
fn a_notice_is_the_same_for_the_same_cause_and_shows_ids_only() {
    let parked = |reason| Fate::Parked { reason, detail: "c1@example.com is taken".to_owned() };
    for happening in [signed_up("Home 1"), moved("New 2"), Happening::Churned] {
        for fate in [Fate::Applied { stale: Vec::new() }, parked(Reason::EmailTaken)] {
            let conclude_at =
                |seconds| settle_with(&work(happening.clone()), fate.clone(), at(seconds), &policy()).notices.remove(0);
            let notice = conclude_at(1_000);
            assert_eq!(notice, conclude_at(1_000));
            let is_parked = matches!(fate, Fate::Parked { .. });
            // Each parking is a notice of its own, an effect is published once.
            assert_eq!(conclude_at(1_001).id != notice.id, is_parked);
            assert_eq!((notice.subject.as_str(), notice.order_key.as_str()), ("C-1", "customer/C-1"));
            assert_eq!(notice.data["customer_id"], "C-1");
            let text = serde_json::to_string(&notice).expect("serialises");
            for secret in ["c1@example.com", "Firstname", "Home 1", "New 2", "Dresden", "01067"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

#[test]
fn what_never_became_an_event_is_told_by_its_own_id() {
    let id = EventId(uuid(77));
    let notice = unreadable_notice(id, Reason::Untranslatable, at(1_000));
    assert_eq!((notice.topic, notice.subject), (Topic::EventParked, id.to_string()));
    assert_eq!(notice.data["reason"], "untranslatable");
    assert!(notice.data["customer_id"].is_null());
}

#[test]
fn a_follow_up_is_the_same_event_on_every_repeat() {
    let policy = Policy { churn: ChurnDelete::SoftThenHard, ..policy() };
    let purge_of = |happening| {
        let mut work = work(happening);
        work.customer.podero.departed = Some(uuid(1));
        settle_with(&work, Fate::Applied { stale: Vec::new() }, at(1_000), &policy).follow_ups.into_iter().next()
    };
    let purge = purge_of(Happening::Churned).expect("soft, then hard");
    assert_eq!(purge_of(Happening::Churned), Some(purge));
    assert_eq!(purge_of(update()), None);
}

#[test]
fn every_reason_and_setback_has_a_public_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    let names: std::collections::BTreeSet<&str> = Setback::ALL.iter().map(|setback| setback.name()).collect();
    assert_eq!(names.len(), Setback::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).expect("serialises"), reason.name());
    }
}
