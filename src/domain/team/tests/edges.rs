//! Where two promises about a member meet: announcements and leaves, ends that pass while an event waits, a leave that overtakes a
//! join, deletions that Podero refuses, and the order of the policy's reasons.

use super::super::super::audit::{Action, AuditOutcome, TargetKind};
use super::super::super::brake::Tally;
use super::super::review::{Finding, MemberState, review};
use super::*;

/// Said at one moment, for a later day.
fn announced(said: i64, for_day: i64, happening: TeamHappening) -> TeamEvent {
    TeamEvent { effective_at: Some(at(for_day)), ..event(said, happening) }
}

fn merged(facts: &MemberFacts, event: &TeamEvent) -> (MemberFacts, usize) {
    let merged = facts.merge(event);
    (merged.facts, merged.accepted)
}

#[test]
fn a_fixed_term_and_the_one_after_it_hold_from_their_days_on() {
    let join = announced(15, 100, joined(Staff));
    let leave = announced(20, 300, TeamHappening::Left);
    let again = announced(110, 400, joined(Staff));
    assert_ne!(join.change(), leave.change(), "neither replaces the other");
    let off = event(21, TeamHappening::CalledOff { sent: SentAs::Joined });
    assert_eq!((off.change() == join.change(), off.change() == leave.change()), (true, false));
    let (facts, _) = merged(&MemberFacts::default(), &join);
    let (left, _) = merged(&facts, &leave);
    assert_eq!((facts.is_active(), left.is_active()), (true, false));
    // Said after the leave was said, though before its day: another membership.
    assert!(merged(&left, &again).0.is_active());
    // Said before it: the leave cancels it.
    let before = announced(18, 400, joined(Staff));
    assert_eq!(merged(&left, &before).1, 0);
    let role = announced(18, 400, role(Admin));
    assert_eq!(merged(&left, &role).1, 0);
}

#[test]
fn an_access_that_ends_by_itself_cancels_no_later_one() {
    let first = announced(15, 100, joined_until(Staff, 300));
    let next = announced(120, 400, joined(Staff));
    let (facts, _) = merged(&MemberFacts::default(), &first);
    let end =
        TeamEvent { effective_at: Some(at(300)), ..event(300, TeamHappening::AccessExpired { expires_at: at(300) }) };
    let (gone, accepted) = merged(&facts, &end);
    assert_eq!((gone.is_active(), accepted), (false, 1));
    assert!(merged(&gone, &next).0.is_active());
}

#[test]
fn an_end_that_passed_while_a_join_waited_is_carried_out() {
    // The answer to the invitation is lost, and the end passes before the next look.
    for trouble in [Trouble::AnswerLost, Trouble::Crash] {
        let mut world = World::new(enabled());
        let mut troubles = [Trouble::None, Trouble::None, trouble].into_iter();
        world.now = 4_930;
        let verdict = world.play_through(&event(10, joined_until(Staff, 4_955)), &mut troubles);
        assert!(world.now > 4_955, "the end has passed");
        assert!(matches!(verdict.fate, Fate::Applied { .. }), "{trouble:?}: {:?}", verdict.fate);
        assert!(world.rows.contains(&(Action::PoderoCreateUser, AuditOutcome::Done)), "{:?}", world.rows);
        world.play(&verdict.follow_ups[0]);
        assert_eq!((world.invitations, world.own().is_some()), (1, false), "{trouble:?}");
    }
    // One who was at Podero before, by id or by address.
    for external_id in [Some("M-1".to_owned()), None] {
        let mut world = World::new(enabled());
        let there = Colleague { external_id, profile: mail("m@example.com"), ..colleague(9, Staff) };
        world.users.insert(there.id, there);
        world.now = 6_000;
        let verdict = world.play(&event(10, joined_until(Staff, 5_000)));
        assert!(matches!(verdict.fate, Fate::Applied { .. }), "{:?}", verdict.fate);
        world.play(&verdict.follow_ups[0]);
        assert!(!world.users.contains_key(&Uuid::from_u128(9)));
    }
    // With no one there, no one is invited, and the domain is of no interest.
    let team = TeamPolicy { email_domains: vec!["utility.example".to_owned()], ..enabled().team };
    let mut world = World::new(Policy { team, ..enabled() });
    world.now = 6_000;
    assert_eq!(world.play(&event(10, joined_until(Staff, 5_000))).fate, Fate::Superseded);
    assert_eq!(world.invitations, 0);
}

/// A world with a user of staff who has no key of ours.
fn with_unnamed(address: &str) -> World {
    let mut world = World::new(enabled());
    let there = Colleague { external_id: None, profile: mail(address), ..colleague(9, Staff) };
    world.users.insert(there.id, there);
    world
}

#[test]
fn a_leave_removes_whom_an_overtaken_join_would_have_adopted() {
    let (join, leave) = (event(10, joined(Staff)), event(20, TeamHappening::Left));
    let user = Uuid::from_u128(9);
    for trouble in [Trouble::None, Trouble::AnswerLost, Trouble::Lost, Trouble::Crash] {
        for place in 0..4 {
            // The join was never worked on.
            let mut world = with_unnamed("m@example.com");
            world.overtaken = vec![join.clone()];
            let mut troubles = vec![Trouble::None; place];
            troubles.push(trouble);
            let verdict = world.play_through(&leave, &mut troubles.into_iter());
            assert!(!world.users.contains_key(&user), "{trouble:?} at {place}");
            assert_eq!(topics(&verdict), [Topic::TeamMemberRemoved]);
            assert_eq!(verdict.notices[0].data["podero_user_id"], user.to_string());
            assert_eq!(changes(&world.rows), [Action::PoderoDeleteUser], "{trouble:?} at {place}: {:?}", world.rows);
        }
    }
    // The join had found the user, and its change did not arrive; it is over, and its address is not asked for any more.
    let mut world = with_unnamed("m@example.com");
    let mut work = world.claim(&join, false);
    let mut troubles = [Trouble::None, Trouble::None, Trouble::Lost].into_iter();
    let fate = world.drive(&mut work, &mut troubles).expect("no crash");
    world.member = work.settle_with(fate, at(world.now), &world.policy).state;
    world.users.get_mut(&user).expect("there").profile = mail("else@example.com");
    world.play(&leave);
    assert!(!world.users.contains_key(&user));
    // No join came: the address is no one's.
    let mut world = with_unnamed("m@example.com");
    let verdict = world.play(&leave);
    assert_eq!((world.users.contains_key(&user), topics(&verdict)), (true, vec![]));
    // A customer, or another member, with the address is not touched.
    for (external_id, role) in [(None, PoderoRole::User), (Some("M-2".to_owned()), PoderoRole::Staff)] {
        let mut world = with_unnamed("m@example.com");
        world.overtaken = vec![join.clone()];
        let there = world.users.get_mut(&user).expect("there");
        (there.external_id, there.role) = (external_id, role);
        world.play(&leave);
        assert!(world.users.contains_key(&user));
    }
}

#[test]
fn a_join_demotes_no_one_although_an_event_before_it_did() {
    let mut world = World::new(enabled());
    world.play(&event(10, joined(Admin)));
    world.play(&event(20, role(Staff)));
    let own = world.own().expect("there").id;
    world.users.get_mut(&own).expect("there").role = PoderoRole::Admin;
    assert_eq!(world.reason(&event(30, joined(Staff))), None);
    assert_eq!(world.own().map(|own| own.role), Some(PoderoRole::Admin), "someone made the member admin by hand");
}

#[test]
fn one_who_becomes_a_guest_is_measured_by_the_end_that_stands() {
    let team =
        TeamPolicy { email_domains: vec!["example.com".to_owned()], guest_access_max: Some(DAY), ..enabled().team };
    let far = 1_000 + 700 * 86_400;
    let mut world = World::new(Policy { team, ..enabled() });
    assert_eq!(world.reason(&event(10, joined_until(Staff, far))), None, "ours, without a bound");
    assert_eq!(world.reason(&event(20, named("m@partner.example"))), Some(Reason::GuestAccess));
    let profile = mail("m@partner.example");
    let again = TeamHappening::Joined { role: Staff, profile, expires: ExpiryChange::Unsaid };
    assert_eq!(world.reason(&event(30, again)), Some(Reason::GuestAccess));
    assert_eq!(world.reason(&event(40, until(ExpiryChange::At(at(50_000))))), None);
    assert_eq!(world.reason(&event(50, named("m@partner.example"))), None, "with a near end");
}

#[test]
fn a_removal_that_podero_refuses_keeps_the_end_and_is_shown() {
    let mut world = World::new(enabled());
    let joined = world.play(&event(10, joined_until(Staff, 900_000)));
    let end = joined.follow_ups.last().expect("the end").clone();
    world.refuses_deletions = true;
    let parked = world.play(&event(20, TeamHappening::Left));
    assert!(matches!(parked.fate, Fate::Parked { reason: Reason::Refused, .. }), "{:?}", parked.fate);
    assert!(!parked.ends_scheduled && parked.overtakes, "the end stays scheduled; older events are over");
    assert_eq!((world.member.facts.is_active(), world.member.facts.expires_at()), (false, Some(at(900_000))));
    let columns = MemberWork::columns(&world.member).member.expect("a member's");
    assert_eq!(columns.expires_at, Some(at(900_000)), "the gauge of ends that are overdue counts it");
    let reviewed = |world: &World| {
        let known = KnownMember { id: "M-1".to_owned(), member: world.member.clone(), parked: 0, is_of_scim: false };
        let found = review(&[known], Some(&world.list()), &world.policy.team, DAY, at(world.now));
        found.iter().filter(|row| row.finding == Finding::StillAtPodero).count()
    };
    assert_eq!(reviewed(&world), 1);
    // An older update that comes late finds no member.
    assert!(matches!(world.play(&event(15, named("n@example.com"))).fate, Fate::Superseded));
    world.refuses_deletions = false;
    world.now = 900_000;
    assert_eq!(world.reason(&end), None);
    assert!(world.own().is_none() && world.member.facts.expires_at().is_none());
    // A list that was read before the removal shows nothing that a person should do.
    let known = KnownMember { id: "M-1".to_owned(), member: world.member.clone(), parked: 0, is_of_scim: false };
    let there = Colleague { external_id: Some("M-1".to_owned()), ..colleague(101, Staff) };
    let of = |asked_at| StaffList { asked_at, staff: vec![there.clone()], bound: BTreeMap::new() };
    let found = |list: &StaffList| {
        let found = review(std::slice::from_ref(&known), Some(list), &world.policy.team, DAY, at(world.now));
        found.iter().any(|row| row.finding == Finding::StillAtPodero)
    };
    assert_eq!((found(&of(at(899_000))), found(&of(at(990_000)))), (false, true), "made again by hand");
}

#[test]
fn only_a_loss_of_an_admin_waits_for_a_list() {
    let loss = AccessLoss { kind: LossKind::Leave, at: None };
    for (role, wants) in [(Admin, true), (Staff, false)] {
        let proposal = Proposal { role: Some(role), ..removal(1, loss) };
        assert_eq!(proposal.wants_list(), wants, "{role}");
    }
    // By an old list the member is one of two admins; a look-up has just shown otherwise.
    let list =
        StaffList { asked_at: at(0), staff: vec![colleague(1, Admin), colleague(2, Admin)], bound: BTreeMap::new() };
    let staff = Proposal { role: Some(Staff), ..removal(1, loss) };
    assert!(check(&enabled().team, &staff, &list, &[], at(100)).is_ok());
}

#[test]
fn an_id_that_is_an_address_leaves_no_trace_outside_the_store() {
    for policy in [policy(), enabled()] {
        let member = MemberId::accept("mia@example.com").expect("printable");
        let mut world = World::new(policy);
        let event = TeamEvent { member, ..event(10, joined(Staff)) };
        let verdict = world.play(&event);
        assert!(matches!(verdict.fate, Fate::Parked { .. }));
        let [notice] = &verdict.notices[..] else { panic!("{:?}", verdict.notices) };
        assert!(!format!("{notice:?}").contains("mia@"), "{notice:?}");
        assert_eq!((notice.data["member_id"].is_null(), notice.subject.clone()), (true, event.id.to_string()));
        let [act] = &verdict.acts[..] else { panic!("{:?}", verdict.acts) };
        assert_eq!((act.target.kind, act.target.id.clone()), (TargetKind::Event, event.id.to_string()));
        let known = KnownMember {
            id: "mia@example.com".to_owned(),
            member: TeamMember::default(),
            parked: 1,
            is_of_scim: false,
        };
        let there = Colleague { external_id: Some("max@example.com".to_owned()), ..colleague(9, Staff) };
        let list = StaffList { asked_at: at(0), staff: vec![there], bound: BTreeMap::new() };
        let rows = team_rows(&[known], Some(&list));
        assert_eq!(rows.len(), 2);
        assert!(!format!("{rows:?}").contains('@'), "{rows:?}");
    }
}

#[test]
fn a_leave_of_one_who_was_never_there_is_told_to_no_one() {
    let mut world = World::new(enabled());
    let verdict = world.play(&event(10, TeamHappening::Left));
    assert!(matches!(verdict.fate, Fate::Applied { .. }));
    assert!(verdict.notices.is_empty(), "{:?}", verdict.notices);
    let known = |member: &TeamMember, parked| KnownMember {
        id: "M-1".to_owned(),
        member: member.clone(),
        parked,
        is_of_scim: false,
    };
    assert!(team_rows(&[known(&world.member, 0)], None).is_empty());
    assert_eq!(team_rows(&[known(&world.member, 1)], None).len(), 1, "an event waits for a person");
    world.play(&event(20, joined(Staff)));
    assert_eq!(topics(&world.play(&event(30, TeamHappening::Left))), [Topic::TeamMemberRemoved]);
    assert_eq!(team_rows(&[known(&world.member, 0)], None).len(), 1);
}

#[test]
fn one_who_was_invited_after_the_list_was_asked_for_is_not_missing() {
    let mut world = World::new(enabled());
    world.play(&event(10, joined(Staff)));
    let known = [KnownMember { id: "M-1".to_owned(), member: world.member.clone(), parked: 0, is_of_scim: false }];
    let state = |asked_at: Timestamp| {
        let list = StaffList { asked_at, staff: vec![colleague(7, Staff)], bound: BTreeMap::new() };
        let found = review(&known, Some(&list), &world.policy.team, DAY, at(world.now));
        let is_found = found.iter().any(|row| row.finding == Finding::MissingAtPodero);
        (team_rows(&known, Some(&list))[0].state, is_found)
    };
    assert_eq!(state(at(world.now - 1)), (MemberState::Invited, false));
    assert_eq!(state(at(world.now + 1)), (MemberState::Missing, true));
}

#[test]
fn those_who_left_come_last_and_a_page_goes_on_by_key() {
    let joined = MemberFacts::default().merge(&event(10, joined(Staff))).facts;
    let left = joined.merge(&event(20, TeamHappening::Left)).facts;
    let known = |id: &str, facts: &MemberFacts| {
        let member = TeamMember { facts: facts.clone(), ..TeamMember::default() };
        KnownMember { id: id.to_owned(), member, parked: 0, is_of_scim: false }
    };
    let list = StaffList { asked_at: at(0), staff: vec![colleague(7, Staff)], bound: BTreeMap::new() };
    let rows = |known: &[KnownMember]| team_rows(known, Some(&list));
    let ids = |rows: &[TeamRow]| rows.iter().map(|row| row.member_id.clone().unwrap_or_default()).collect::<Vec<_>>();
    let before = rows(&[known("A", &left), known("B", &joined), known("D", &joined)]);
    assert_eq!(ids(&before), ["B", "D", "A-7", "A"]);
    assert!(before.iter().all(|row| is_position(&row.position)));
    // One who joins between two pages moves no other.
    let after = rows(&[known("A", &left), known("AA", &joined), known("B", &joined), known("D", &joined)]);
    let rest: Vec<TeamRow> = after.into_iter().filter(|row| row.position > before[0].position).collect();
    assert_eq!(ids(&rest), ["D", "A-7", "A"]);
}

#[test]
fn where_several_reasons_apply_the_first_of_the_table_is_told() {
    let closed = TeamPolicy { allows_admins: false, ..enabled().team };
    let list = |count: u128| StaffList {
        asked_at: at(0),
        staff: (1..=count).map(|number| colleague(number, Admin)).collect(),
        bound: BTreeMap::new(),
    };
    let leave = AccessLoss { kind: LossKind::Leave, at: None };
    let renamed = Proposal { loss: None, changes_email: true, ..removal(1, leave) };
    let reason = |team: &TeamPolicy, proposal: &Proposal, list: &StaffList| {
        check(team, proposal, list, &[], at(100)).map_err(|refused| refused.reason)
    };
    let protected = TeamPolicy { protected: vec!["M-1".to_owned()], ..closed.clone() };
    assert_eq!(reason(&protected, &renamed, &list(3)), Err(Reason::ProtectedMember), "and not admin_not_allowed");
    assert_eq!(
        reason(&protected, &removal(1, leave), &list(2)),
        Err(Reason::ProtectedMember),
        "and not too_few_admins"
    );
    // One who is made admin with an end, and the end leaves too few.
    let both = Proposal { changes_email: true, ..removal(1, leave) };
    assert_eq!(reason(&closed, &both, &list(2)), Err(Reason::AdminNotAllowed), "and not too_few_admins");
    assert_eq!(reason(&closed, &removal(1, leave), &list(2)), Err(Reason::TooFewAdmins));
    let tally = Tally { admitted: 5, active: None };
    assert!(!closed.brake.admits(tally) && closed.braked(tally).reason == Reason::TeamBrake);
}

#[test]
fn a_life_meets_scheduled_ends_and_bindings() {
    // Of three admins one's access ends: another one may not leave, the one whose access ends may.
    let mut world = World::new(enabled());
    world.ends.push(AccessEnd { user: Uuid::from_u128(1), at: at(500_000) });
    let own = Colleague { external_id: Some("M-1".to_owned()), ..colleague(2, Admin) };
    world.users.insert(own.id, own);
    assert_eq!(world.reason(&event(10, TeamHappening::Left)), Some(Reason::TooFewAdmins));
    world.ends.clear();
    assert_eq!(world.reason(&event(10, TeamHappening::Left)), None);
    // Seen under the protected address once, the user stays protected under another.
    let team = TeamPolicy { protected: vec!["boss@example.com".to_owned()], ..enabled().team };
    let mut world = World::new(Policy { team, ..enabled() });
    let boss =
        Colleague { external_id: Some("M-1".to_owned()), profile: mail("boss@example.com"), ..colleague(9, Staff) };
    world.users.insert(boss.id, boss);
    world.see_list();
    world.users.get_mut(&Uuid::from_u128(9)).expect("there").profile = mail("else@example.com");
    assert_eq!(world.reason(&event(10, TeamHappening::Left)), Some(Reason::ProtectedMember));
}
