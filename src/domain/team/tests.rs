//! A member's whole life against a Podero in memory: each line of the contract, and every life with a lost answer or a crash at
//! every call.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::super::audit::{Action, AuditOutcome};
use super::super::brake::Clearance;
use super::super::call::{Refusal, RefusalKind, Reply};
use super::super::fixtures::{DAY, at, moment, policy};
use super::super::identity::Actor;
use super::super::notice::Topic;
use super::super::plan::Policy;
use super::super::verdict::{Decision, Fate, Reason, Verdict};
use super::super::work::{ClaimedParts, LaneWork, WorkStep};
use super::super::{EventId, Timestamp};
use super::*;

mod edges;

fn id() -> MemberId {
    MemberId::accept("M-1").expect("valid")
}

fn event(time: i64, happening: TeamHappening) -> TeamEvent {
    TeamEvent {
        id: EventId(Uuid::from_u64_pair(0, u64::try_from(time).expect("tests live after 1970"))),
        member: id(),
        time: at(time),
        received_at: at(time),
        effective_at: None,
        happening,
    }
}

fn mail(address: &str) -> Profile {
    [(MemberField::Email, address.to_owned())].into()
}

fn joined(role: MemberRole) -> TeamHappening {
    TeamHappening::Joined { role, profile: mail("m@example.com"), expires: ExpiryChange::Unsaid }
}

fn joined_until(role: MemberRole, end: i64) -> TeamHappening {
    TeamHappening::Joined { role, profile: mail("m@example.com"), expires: ExpiryChange::At(at(end)) }
}

fn until(expires: ExpiryChange) -> TeamHappening {
    TeamHappening::Updated { profile: Profile::new(), expires }
}

fn named(address: &str) -> TeamHappening {
    TeamHappening::Updated { profile: mail(address), expires: ExpiryChange::Unsaid }
}

fn role(role: MemberRole) -> TeamHappening {
    TeamHappening::RoleChanged { role }
}

use MemberRole::{Admin, Staff};

/// The contract's policy, enabled, with admins allowed.
fn enabled() -> Policy {
    let team = TeamPolicy { is_enabled: true, allows_admins: true, ..TeamPolicy::default() };
    Policy { team, ..policy() }
}

/// A colleague at Podero who has joined.
fn colleague(number: u128, role: MemberRole) -> Colleague {
    Colleague {
        id: Uuid::from_u128(number),
        role: role.into(),
        external_id: Some(format!("A-{number}")),
        profile: mail(&format!("a{number}@example.com")),
        last_login: None,
        has_joined: true,
    }
}

/// The way in which a call is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// It acts, and the answer is lost.
    AnswerLost,
    /// It never arrives, and no one knows.
    Lost,
    /// It acts, and the process dies before it records anything.
    Crash,
}

/// Podero, and the lane of one member.
struct World {
    policy: Policy,
    users: BTreeMap<Uuid, Colleague>,
    member: TeamMember,
    /// Ends of other members' access.
    ends: Vec<AccessEnd>,
    /// The list that was kept last.
    known: Option<StaffList>,
    /// Joins that wait before a leave.
    overtaken: Vec<TeamEvent>,
    /// Podero refuses to delete anyone.
    refuses_deletions: bool,
    invitations: u32,
    /// True if an invitation is accepted as soon as it is sent.
    joins_at_once: bool,
    next_id: u128,
    now: i64,
    rows: Vec<(Action, AuditOutcome)>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let admins = [colleague(1, Admin), colleague(2, Admin), colleague(3, Admin)];
        Self {
            policy,
            users: admins.into_iter().map(|admin| (admin.id, admin)).collect(),
            member: TeamMember::default(),
            ends: Vec::new(),
            known: None,
            overtaken: Vec::new(),
            refuses_deletions: false,
            invitations: 0,
            joins_at_once: false,
            next_id: 100,
            now: 1_000,
            rows: Vec::new(),
        }
    }

    fn own(&self) -> Option<&Colleague> {
        self.users.values().find(|user| user.external_id.as_deref() == Some("M-1"))
    }

    fn list(&self) -> StaffList {
        let staff = self.users.values().filter(|user| user.role.of_member().is_some()).cloned().collect();
        StaffList::renewed(self.known.as_ref(), at(self.now), staff, &self.policy.team.protected)
    }

    /// The list is read and kept.
    fn see_list(&mut self) {
        self.known = Some(self.list());
    }

    /// The ends that a decision meets: those of others, and the member's own.
    fn all_ends(&self) -> Vec<AccessEnd> {
        let member = MemberWork::columns(&self.member).member;
        let own = member.and_then(|member| Some(AccessEnd { user: member.user?, at: member.expires_at? }));
        self.ends.iter().copied().chain(own).collect()
    }

    /// Podero's answer.
    fn answer(&mut self, call: &MemberCall) -> Reply<MemberDone> {
        let duplicate = || Reply::Refused(Refusal { kind: RefusalKind::Duplicate, status: 409, detail: String::new() });
        Reply::Done(match call {
            MemberCall::FindMember { member } => {
                let is_it = |user: &&Colleague| user.external_id.as_deref() == Some(member.as_str());
                MemberDone::LookedUp(self.users.values().find(is_it).cloned())
            }
            MemberCall::ListStaff { email } => {
                let is_it = |user: &&Colleague| email.as_deref().is_some_and(|email| user.has_address(email));
                let holder = self.users.values().find(is_it).cloned();
                MemberDone::StaffListed { staff: self.list().staff, holder }
            }
            MemberCall::CreateMember { member, role, profile } => {
                if self.users.values().any(|user| user.has_address(&profile[&MemberField::Email])) {
                    return duplicate();
                }
                self.invitations += 1;
                self.next_id += 1;
                let user = Uuid::from_u128(self.next_id);
                let (external_id, profile) = (Some(member.as_str().to_owned()), profile.clone());
                let made = Colleague {
                    id: user,
                    role: (*role).into(),
                    external_id,
                    profile,
                    last_login: None,
                    has_joined: self.joins_at_once,
                };
                self.users.insert(user, made);
                MemberDone::Created { user }
            }
            MemberCall::UpdateMember { user, changes } => {
                let Some(there) = self.users.get_mut(user) else {
                    return Reply::Refused(Refusal { kind: RefusalKind::NotFound, status: 404, detail: String::new() });
                };
                there.profile.extend(changes.profile.clone());
                if let Some(role) = changes.role {
                    there.role = role.into();
                }
                if let Some(id) = &changes.external_id {
                    there.external_id = Some(id.as_str().to_owned());
                }
                MemberDone::Updated
            }
            MemberCall::DeleteMember { .. } if self.refuses_deletions => {
                return Reply::Refused(Refusal { kind: RefusalKind::Invalid, status: 405, detail: String::new() });
            }
            MemberCall::DeleteMember { user, .. } => match self.users.remove(user) {
                Some(_) => MemberDone::Deleted,
                None => {
                    return Reply::Refused(Refusal { kind: RefusalKind::NotFound, status: 404, detail: String::new() });
                }
            },
        })
    }

    fn claim(&self, event: &TeamEvent, was_interrupted: bool) -> MemberWork {
        let claimed = ClaimedParts {
            tries_from: at(self.now),
            failures: 0,
            failing_since: None,
            clearance: Clearance::Unasked,
            actor: Actor::Source("hr".to_owned()),
            was_interrupted,
            seen: Vec::new(),
            overtaken: self.overtaken.clone(),
        };
        MemberWork::begin(event.clone(), self.member.clone(), claimed)
    }

    /// Works on an event until it ends; each call meets the next trouble.
    fn play_through(
        &mut self,
        event: &TeamEvent,
        troubles: &mut impl Iterator<Item = Trouble>,
    ) -> Verdict<TeamMember, TeamEvent> {
        let mut was_interrupted = false;
        for _ in 0..40 {
            self.now += 20;
            let mut work = self.claim(event, was_interrupted);
            was_interrupted = false;
            let Some(fate) = self.drive(&mut work, troubles) else {
                was_interrupted = true;
                self.now += 60;
                continue;
            };
            let verdict = work.settle_with(fate, at(self.now), &self.policy);
            self.member = verdict.state.clone();
            self.rows.extend(verdict.acts.iter().map(|act| (act.action, act.outcome)));
            if !matches!(verdict.fate, Fate::Retry { .. }) {
                return verdict;
            }
        }
        panic!("it does not end: {event:?}");
    }

    /// One claim; `None`: the process died.
    fn drive(&mut self, work: &mut MemberWork, troubles: &mut impl Iterator<Item = Trouble>) -> Option<Fate> {
        work.resume(at(self.now), &self.policy);
        if let Some(fate) = work.too_soon(at(self.now), &self.policy) {
            return Some(fate);
        }
        for _ in 0..20 {
            let call = match work.step(moment(self.now), &self.policy) {
                WorkStep::Call(call) => call,
                WorkStep::Ask(proposal) => {
                    self.see_list();
                    match check(&self.policy.team, &proposal, &self.list(), &self.all_ends(), at(self.now)) {
                        Ok(()) => work.clear(),
                        Err(PolicyRefusal { reason, detail }) => return Some(Fate::Parked { reason, detail }),
                    }
                    continue;
                }
                WorkStep::End(fate) => return Some(fate),
            };
            let trouble = troubles.next().unwrap_or(Trouble::None);
            let reply = match trouble {
                Trouble::None => self.answer(&call),
                Trouble::AnswerLost => {
                    self.answer(&call);
                    Reply::Unknown { why: "cut" }
                }
                Trouble::Lost => Reply::Unknown { why: "cut" },
                Trouble::Crash => {
                    self.answer(&call);
                    return None;
                }
            };
            match work.judge(&call, reply, moment(self.now), &self.policy) {
                Decision::Settle(fate) => return Some(fate),
                Decision::Continue { save: true } => {
                    self.member = work.member.clone();
                    let acts = std::mem::take(&mut work.acts);
                    self.rows.extend(acts.iter().map(|act| (act.action, act.outcome)));
                }
                Decision::Continue { save: false } => {}
            }
        }
        panic!("a claim does not end");
    }

    fn play(&mut self, event: &TeamEvent) -> Verdict<TeamMember, TeamEvent> {
        self.play_through(event, &mut std::iter::empty())
    }

    fn reason(&mut self, event: &TeamEvent) -> Option<Reason> {
        match self.play(event).fate {
            Fate::Parked { reason, .. } => Some(reason),
            Fate::Applied { .. } => None,
            other @ (Fate::Superseded | Fate::Waiting { .. } | Fate::Retry { .. }) => panic!("{other:?}"),
        }
    }
}

fn topics(verdict: &Verdict<TeamMember, TeamEvent>) -> Vec<Topic> {
    verdict.notices.iter().map(|notice| notice.topic).collect()
}

#[test]
fn a_life_from_join_to_leave() {
    let mut world = World::new(enabled());
    assert_eq!(topics(&world.play(&event(10, joined(Staff)))), [Topic::TeamMemberAdded]);
    assert_eq!((world.invitations, world.own().map(|own| own.role)), (1, Some(PoderoRole::Staff)));
    assert_eq!(topics(&world.play(&event(20, named("new@example.com")))), [Topic::TeamMemberChanged]);
    assert!(world.own().is_some_and(|own| own.has_address("new@example.com")));
    world.play(&event(30, role(Admin)));
    assert_eq!(world.own().map(|own| own.role), Some(PoderoRole::Admin));
    let left = world.play(&event(40, TeamHappening::Left));
    assert_eq!((topics(&left), world.own().is_some()), (vec![Topic::TeamMemberRemoved], false));
    assert_eq!(left.notices[0].data["resolution"], "left");
    // An older event brings no one back; a later join does, with a new invitation.
    assert_eq!(world.play(&event(35, joined(Staff))).fate, Fate::Superseded);
    world.play(&event(50, joined(Staff)));
    assert_eq!((world.invitations, world.own().is_some()), (2, true));
}

#[test]
fn an_event_before_its_join_waits_and_a_leave_does_not() {
    let mut world = World::new(enabled());
    for happening in [named("x@example.com"), role(Admin), until(ExpiryChange::Never)] {
        assert!(matches!(world.play(&event(20, happening)).fate, Fate::Waiting { .. }));
    }
    assert!(matches!(world.play(&event(30, TeamHappening::Left)).fate, Fate::Applied { .. }));
    assert_eq!(world.play(&event(10, joined(Staff))).fate, Fate::Superseded);
    assert_eq!(world.invitations, 0);
}

#[test]
fn one_who_is_at_podero_is_adopted_and_never_invited_or_demoted() {
    for external_id in [None, Some("M-1".to_owned())] {
        let mut world = World::new(enabled());
        let there = Colleague { external_id, profile: mail("M@Example.com"), ..colleague(9, Admin) };
        world.users.insert(there.id, there);
        assert_eq!(topics(&world.play(&event(10, joined(Staff)))), [Topic::TeamMemberAdded]);
        let own = world.own().expect("adopted");
        assert_eq!((own.role, own.id, world.invitations), (PoderoRole::Admin, Uuid::from_u128(9), 0));
    }
}

#[test]
fn a_user_who_is_no_member_is_never_touched() {
    for (external_id, address) in [(Some("M-1"), "other@example.com"), (Some("C-7"), "m@example.com")] {
        let mut world = World::new(enabled());
        let (external_id, role) = (external_id.map(str::to_owned), PoderoRole::User);
        let customer = Colleague { external_id, role, profile: mail(address), ..colleague(9, Staff) };
        world.users.insert(customer.id, customer.clone());
        assert_eq!(world.reason(&event(10, joined(Staff))), Some(Reason::NotATeamMember));
        assert_eq!((world.users[&customer.id].clone(), world.invitations), (customer, 0));
    }
    let mut world = World::new(enabled());
    world.users.insert(Uuid::from_u128(9), Colleague { profile: mail("m@example.com"), ..colleague(9, Staff) });
    assert_eq!(world.reason(&event(10, joined(Staff))), Some(Reason::EmailTaken), "another member's address");
}

#[test]
fn only_a_join_invites() {
    let mut world = World::new(enabled());
    world.play(&event(10, joined(Staff)));
    let own = world.own().expect("there").id;
    world.users.remove(&own);
    assert_eq!(world.reason(&event(20, named("n@example.com"))), Some(Reason::MemberMissing));
    assert_eq!(world.reason(&event(30, joined(Staff))), None);
    assert_eq!(world.invitations, 2);
}

#[test]
fn the_policy_has_a_reason_for_each_line_and_an_order() {
    let team = || enabled().team;
    let guests = |max| TeamPolicy { email_domains: vec!["example.org".to_owned()], guest_access_max: max, ..team() };
    let closed = TeamPolicy { allows_admins: false, ..team() };
    let protected = |name: &str| TeamPolicy { protected: vec![name.to_owned()], allows_admins: false, ..team() };
    let end = |seconds| ExpiryChange::At(at(seconds));
    let two = |happening: TeamHappening| vec![joined(Staff), happening];
    for (name, team, story, expected) in [
        ("off", TeamPolicy { is_enabled: false, ..guests(None) }, vec![joined(Admin)], Reason::TeamDisabled),
        ("domain", guests(None), vec![joined(Admin)], Reason::ForeignEmailDomain),
        ("guest without end", guests(Some(DAY)), vec![joined(Staff)], Reason::GuestAccess),
        ("guest as admin", guests(Some(DAY)), vec![joined_until(Admin, 2_000)], Reason::GuestAccess),
        ("guest too long", guests(Some(DAY)), vec![joined_until(Staff, 100_000)], Reason::GuestAccess),
        (
            "guest for ever",
            guests(Some(DAY)),
            vec![joined_until(Staff, 50_000), until(ExpiryChange::Never)],
            Reason::GuestAccess,
        ),
        (
            "guest moved too far",
            guests(Some(DAY)),
            vec![joined_until(Staff, 50_000), until(end(200_000))],
            Reason::GuestAccess,
        ),
        ("guest promoted", guests(Some(DAY)), vec![joined_until(Staff, 50_000), role(Admin)], Reason::GuestAccess),
        ("protected leaves", protected("M-1"), two(TeamHappening::Left), Reason::ProtectedMember),
        ("protected by address", protected("M@example.com"), two(named("n@example.com")), Reason::ProtectedMember),
        ("protected ends", protected("M-1"), two(until(end(9_000))), Reason::ProtectedMember),
        ("protected joins with an end", protected("M-1"), vec![joined_until(Staff, 9_000)], Reason::ProtectedMember),
        ("no admin joins", closed.clone(), vec![joined(Admin)], Reason::AdminNotAllowed),
        ("no admin is made", closed, two(role(Admin)), Reason::AdminNotAllowed),
    ] {
        let mut world = World::new(Policy { team, ..enabled() });
        let last = story.len() - 1;
        for (number, happening) in story.into_iter().enumerate() {
            let time = i64::try_from(number).expect("few") * 10 + 10;
            let reason = world.reason(&event(time, happening));
            assert_eq!(reason, (number == last).then_some(expected), "{name}, event {number}");
        }
        let refusals = world.rows.iter().filter(|row| **row == (Action::TeamChange, AuditOutcome::Refused)).count();
        assert_eq!(refusals, 1, "{name}: a refusal is in the audit log");
    }
}

#[test]
fn a_guest_within_the_bound_is_let_in_and_may_be_moved_within_it() {
    let team = TeamPolicy {
        email_domains: vec!["example.org".to_owned(), "*.example.com".to_owned()],
        guest_access_max: Some(DAY),
        ..enabled().team
    };
    let mut world = World::new(Policy { team, ..enabled() });
    assert_eq!(world.reason(&event(10, joined_until(Staff, 50_000))), None);
    assert_eq!(world.reason(&event(20, until(ExpiryChange::At(at(80_000))))), None);
    let named = |address: &str| named(address);
    assert_eq!(world.reason(&event(30, named("m@mail.example.com"))), None, "a subdomain");
    assert_eq!(world.reason(&event(40, until(ExpiryChange::Never))), None, "no guest any more");
    assert_eq!(world.reason(&event(50, named("m@example.com"))), Some(Reason::GuestAccess), "not the domain itself");
    assert_eq!(world.reason(&event(60, named("m@evilexample.com"))), Some(Reason::GuestAccess));
}

#[test]
fn an_admin_keeps_the_address_while_events_make_no_admins() {
    let team = TeamPolicy { allows_admins: false, ..enabled().team };
    let mut world = World::new(Policy { team, ..enabled() });
    let there =
        Colleague { external_id: Some("M-1".to_owned()), profile: mail("m@example.com"), ..colleague(9, Admin) };
    world.users.insert(there.id, there);
    assert_eq!(world.reason(&event(10, joined(Admin))), None, "one who is admin already");
    assert_eq!(world.reason(&event(20, named("n@example.com"))), Some(Reason::AdminNotAllowed));
    assert_eq!(world.reason(&event(30, role(Staff))), None, "a demotion makes no admin");
}

#[test]
fn protection_is_bound_to_the_user_once_seen() {
    let team = TeamPolicy { protected: vec!["a1@example.com".to_owned()], ..enabled().team };
    let seen = StaffList::renewed(None, at(1), vec![colleague(1, Staff)], &team.protected);
    let renamed = Colleague { profile: mail("else@example.com"), ..colleague(1, Staff) };
    let list = StaffList::renewed(Some(&seen), at(2), vec![renamed], &team.protected);
    let proposal = Proposal {
        member: id(),
        emails: vec!["else@example.com".to_owned()],
        user: Some(Uuid::from_u128(1)),
        role: Some(Staff),
        loss: Some(AccessLoss { kind: LossKind::Leave, at: None }),
        makes_admin: false,
        changes_email: false,
    };
    let refused = check(&team, &proposal, &list, &[], at(3)).expect_err("protected");
    assert_eq!(refused.reason, Reason::ProtectedMember);
    let other = Proposal { user: Some(Uuid::from_u128(2)), ..proposal };
    assert!(check(&team, &other, &list, &[], at(3)).is_ok());
}

/// A removal of the admin with this number.
fn removal(number: u128, loss: AccessLoss) -> Proposal {
    Proposal {
        member: id(),
        emails: Vec::new(),
        user: Some(Uuid::from_u128(number)),
        role: Some(Admin),
        loss: Some(loss),
        makes_admin: false,
        changes_email: false,
    }
}

#[test]
fn admins_never_run_out_now_or_later() {
    let policy = enabled().team;
    let list = |staff: Vec<Colleague>| StaffList { asked_at: at(0), staff, bound: BTreeMap::new() };
    let admins = |count: u128| list((1..=count).map(|number| colleague(number, Admin)).collect());
    let leave = AccessLoss { kind: LossKind::Leave, at: None };
    let end = |seconds| AccessLoss { kind: LossKind::End, at: Some(at(seconds)) };
    let asked = |list: &StaffList, loss: AccessLoss, ends: &[AccessEnd]| {
        check(&policy, &removal(1, loss), list, ends, at(100)).map_err(|refused| refused.reason)
    };
    let too_few = Err(Reason::TooFewAdmins);
    let ends = |number: u128, seconds: i64| AccessEnd { user: Uuid::from_u128(number), at: at(seconds) };
    assert_eq!(asked(&admins(3), leave, &[]), Ok(()));
    assert_eq!(asked(&admins(2), leave, &[]), too_few);
    assert_eq!(asked(&admins(2), AccessLoss { kind: LossKind::Demotion, at: None }, &[]), too_few);
    assert_eq!(asked(&admins(3), leave, &[ends(2, 500)]), too_few, "the other ends later");
    assert_eq!(asked(&admins(3), leave, &[ends(2, 50)]), too_few, "a removal that is decided counts as done");
    assert_eq!(asked(&admins(3), leave, &[ends(7, 50)]), Ok(()), "a member's end is no admin's");
    assert_eq!(asked(&admins(2), end(500), &[]), too_few, "an end lowers the number at that moment");
    assert_eq!(asked(&admins(3), end(500), &[]), Ok(()));
    assert_eq!(asked(&admins(4), end(500), &[ends(2, 400), ends(3, 600)]), too_few);
    assert_eq!(asked(&admins(2), AccessLoss { kind: LossKind::Expired, at: None }, &[ends(1, 90)]), too_few);
    assert_eq!(asked(&admins(3), AccessLoss { kind: LossKind::Expired, at: None }, &[ends(1, 90)]), Ok(()));
    // One who never joined cannot let anyone else in.
    let mut with_invited = admins(3);
    with_invited.staff[2].has_joined = false;
    assert_eq!(asked(&with_invited, leave, &[]), too_few);
    let mut never_joined = admins(3);
    never_joined.staff[0].has_joined = false;
    assert_eq!(asked(&never_joined, leave, &[]), Ok(()), "the number does not fall");
    assert_eq!(asked(&admins(2), leave, &[ends(1, 50)]), too_few, "it is there still, whatever was decided");
}

#[test]
fn temporary_access_ends_by_itself() {
    let mut world = World::new(enabled());
    let end = 1_000 + 10 * 86_400;
    let verdict = world.play(&event(10, joined_until(Staff, end)));
    let kinds: Vec<_> = verdict.follow_ups.iter().map(|event| (event.happening.type_name(), event.time)).collect();
    let notice = at(end).minus(enabled().team.expiry_notice);
    assert_eq!(kinds, [(ACCESS_EXPIRING, notice), (ACCESS_EXPIRED, at(end))]);
    let [ahead, expired] = &verdict.follow_ups[..] else { panic!("two") };
    assert_eq!(topics(&world.play(ahead)), [Topic::TeamAccessExpiring]);
    // A later event moves the end: the old one changes nothing.
    let moved = world.play(&event(20, until(ExpiryChange::At(at(end + 86_400)))));
    assert!(moved.ends_scheduled && moved.follow_ups.len() == 2);
    assert_eq!((world.play(expired).fate, world.own().is_some()), (Fate::Superseded, true));
    world.now = end + 86_400;
    let gone = world.play(&moved.follow_ups[1]);
    assert_eq!((topics(&gone), world.own().is_some()), (vec![Topic::TeamMemberRemoved], false));
    assert_eq!(gone.notices[0].data["resolution"], "expired");
}

#[test]
fn an_end_that_is_near_or_past_is_told_or_carried_out_at_once() {
    let mut world = World::new(enabled());
    let near = world.play(&event(10, joined_until(Staff, 5_000)));
    assert_eq!(topics(&near), [Topic::TeamMemberAdded, Topic::TeamAccessExpiring]);
    assert_eq!((near.follow_ups.len(), &near.notices[1].data["role"]), (1, &"staff".into()));
    world.now = 6_000;
    let past = world.play(&event(20, until(ExpiryChange::At(at(5_500)))));
    assert_eq!(past.follow_ups[0].happening, TeamHappening::AccessExpired { expires_at: at(5_500) });
    world.play(&past.follow_ups[0]);
    assert!(world.own().is_none(), "the access that passed while the event waited is removed");
    // A join whose access has passed invites no one.
    assert_eq!(world.play(&event(6_000, joined_until(Staff, 5_900))).fate, Fate::Superseded);
    assert_eq!(world.invitations, 1);
}

#[test]
fn a_join_is_not_refused_for_the_end_of_the_access_that_it_gave() {
    for trouble in [Trouble::AnswerLost, Trouble::Crash] {
        let mut world = World::new(enabled());
        world.joins_at_once = true;
        for gone in [1, 2] {
            world.users.remove(&Uuid::from_u128(gone));
        }
        let mut troubles = [Trouble::None, Trouble::None, trouble].into_iter();
        let joined = world.play_through(&event(10, joined_until(Admin, 900_000)), &mut troubles);
        assert!(matches!(joined.fate, Fate::Applied { .. }), "{:?}", joined.fate);
        assert_eq!((world.invitations, joined.follow_ups.len()), (1, 2));
    }
}

#[test]
fn an_expiry_that_leaves_too_few_admins_is_parked_and_goes_through_later() {
    let mut world = World::new(enabled());
    let verdict = world.play(&event(10, joined_until(Admin, 5_000)));
    let own = world.own().expect("invited").id;
    world.users.get_mut(&own).expect("there").has_joined = true;
    for gone in [1, 2] {
        world.users.remove(&Uuid::from_u128(gone));
    }
    world.now = 6_000;
    assert_eq!(world.reason(&verdict.follow_ups[0]), Some(Reason::TooFewAdmins));
    assert!(world.own().is_some());
    world.users.insert(Uuid::from_u128(4), colleague(4, Admin));
    assert_eq!((world.reason(&verdict.follow_ups[0]), world.own().is_some()), (None, false));
}

/// Lives that are played with a trouble at every call.
fn lives() -> Vec<Vec<TeamEvent>> {
    vec![
        vec![event(10, joined(Staff)), event(20, role(Admin)), event(30, TeamHappening::Left)],
        vec![event(10, joined(Staff)), event(20, named("n@example.com")), event(30, TeamHappening::Left)],
        vec![event(10, joined(Admin)), event(20, TeamHappening::Left), event(30, joined(Staff))],
    ]
}

fn changes(rows: &[(Action, AuditOutcome)]) -> Vec<Action> {
    rows.iter().filter(|(_, outcome)| *outcome == AuditOutcome::Done).map(|(action, _)| *action).collect()
}

/// The same end as without trouble, one invitation for each membership, and one row `done` of the audit log for each change.
fn play_with(troubles: &[Trouble], life: &[TeamEvent]) {
    let (mut calm, mut world) = (World::new(enabled()), World::new(enabled()));
    let mut troubles = troubles.iter().copied();
    for event in life {
        calm.play(event);
        let verdict = world.play_through(event, &mut troubles);
        assert!(matches!(verdict.fate, Fate::Applied { .. }), "{event:?}: {:?}", verdict.fate);
    }
    assert_eq!(world.invitations, calm.invitations, "no second invitation");
    let shown = |world: &World| world.own().map(|own| (own.role, own.profile.clone()));
    assert_eq!(shown(&world), shown(&calm));
    let mut expected = changes(&calm.rows);
    let mut found = changes(&world.rows);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected, "one row for each change");
}

#[test]
fn whole_lives_with_a_trouble_at_every_call() {
    for life in lives() {
        for trouble in [Trouble::AnswerLost, Trouble::Lost, Trouble::Crash] {
            for place in 0..14 {
                let mut troubles = vec![Trouble::None; place];
                troubles.push(trouble);
                play_with(&troubles, &life);
            }
        }
    }
}

proptest! {
    #[test]
    fn whole_lives_with_any_troubles(
        troubles in prop::collection::vec(
            prop_oneof![
                4 => Just(Trouble::None),
                1 => Just(Trouble::AnswerLost),
                1 => Just(Trouble::Lost),
            ],
            0..24,
        ),
        life in 0..3_usize,
    ) {
        play_with(&troubles, &lives()[life]);
    }

    /// Whatever is decided one after the other, the active admins never fall below the minimum, now or at any end.
    #[test]
    fn decisions_one_after_the_other_keep_enough_admins(
        admins in 2..6_u128,
        asked in prop::collection::vec((1..6_u128, prop::option::of(200..900_i64)), 1..12),
    ) {
        let policy = enabled().team;
        let staff: Vec<Colleague> = (1..=admins).map(|number| colleague(number, Admin)).collect();
        let list = StaffList { asked_at: at(0), staff, bound: BTreeMap::new() };
        let mut ends: Vec<AccessEnd> = Vec::new();
        for (number, end) in asked {
            let loss = match end {
                None => AccessLoss { kind: LossKind::Leave, at: None },
                Some(seconds) => AccessLoss { kind: LossKind::End, at: Some(at(seconds)) },
            };
            if check(&policy, &removal(number, loss), &list, &ends, at(100)).is_ok() {
                ends.push(AccessEnd { user: Uuid::from_u128(number), at: loss.at.unwrap_or(at(100)) });
            }
        }
        let left = |moment: Timestamp| {
            let is_gone = |number: u128| {
                ends.iter().any(|end| end.user == Uuid::from_u128(number) && end.at <= moment)
            };
            (1..=admins).filter(|number| !is_gone(*number)).count()
        };
        for moment in ends.iter().map(|end| end.at).chain([at(100)]) {
            prop_assert!(left(moment) >= 2, "{ends:?}");
        }
    }

    /// Facts merge to the same in any order, but for ties and a return after a leave.
    #[test]
    fn facts_merge_in_any_order(order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let events = [
            event(10, joined(Staff)),
            event(20, named("a@example.com")),
            event(30, role(Admin)),
            event(40, until(ExpiryChange::At(at(9_000)))),
            event(50, named("b@example.com")),
        ];
        let merge = |order: &[usize]| {
            order.iter().fold(MemberFacts::default(), |facts, place| facts.merge(&events[*place]).facts)
        };
        let (one, other) = (merge(&[0, 1, 2, 3, 4]), merge(&order));
        prop_assert_eq!(one.text(MemberField::Email), other.text(MemberField::Email));
        prop_assert_eq!(one.role.map(|fact| fact.role), other.role.map(|fact| fact.role));
        prop_assert_eq!(one.expires_at(), other.expires_at());
    }
}

#[test]
fn an_id_that_is_an_address_is_refused() {
    for address in ["mia@example.com", "mia\u{ff20}example.com"] {
        let member = MemberId::accept(address).expect("printable");
        let mut world = World::new(enabled());
        let event = TeamEvent { member, ..event(10, joined(Staff)) };
        assert_eq!(world.reason(&event), Some(Reason::MemberIdIsAddress));
    }
    assert_eq!(member_of_lane(&id().lane()), Some("M-1"));
    assert_eq!(member_of_lane("member M-1"), None);
}
