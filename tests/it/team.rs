//! Members of the team: the one lock under which the store decides, a leave that overtakes, and the whole way through the bridge.

use std::collections::BTreeMap;
use std::time::Duration;

use podero_bridge::domain::brake::{Brake, CLOCK_TOLERANCE};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::event::Transport;
use podero_bridge::domain::plan::Policy;
use podero_bridge::domain::team::{
    AccessLoss, Colleague, ExpiryChange, LossKind, MemberField, MemberId, MemberRole, MemberWork, ObservedMember,
    PoderoRole, Proposal, SentAs, TeamEvent, TeamHappening, TeamMember, TeamPolicy,
};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict, unreadable_notice};
use podero_bridge::domain::work::LaneWork;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::store::{
    Arrival, CallMade, Claim, Content, OpenFilter, OpenState, RetryRequest, STAFF_DUTY, Store, TeamAnswer, WaitsFor,
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::kit::{BY, Fixture, StoreFixture, on_both_databases};
use crate::running;
use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

const LEASE: Duration = Duration::from_secs(60);

on_both_databases! {
    of_two_removals_at_once_one_keeps_enough_admins
    a_removal_that_is_decided_counts_until_a_list_shows_it
    a_list_that_is_too_old_is_no_answer
    the_brake_admits_as_many_removals_as_may_be
    a_list_that_was_asked_for_earlier_does_not_replace_a_later_one
    bindings_of_protected_members_outlast_an_erasure
    staff_leave_although_no_list_can_be_read
    an_end_that_was_refused_counts_no_more
    an_announced_join_and_leave_hold_side_by_side
    a_parked_leave_that_is_called_off_is_over
    a_leave_overtakes_an_older_event_in_back_off
    of_two_leaves_of_one_time_the_later_arrival_is_due
    a_leave_is_due_at_once_when_a_newer_one_is_void
    a_leave_that_is_refused_ends_no_older_event
    members_and_customers_of_one_id_have_lanes_of_their_own
    a_moved_end_ends_the_one_that_was_scheduled
    members_who_left_long_ago_are_forgotten_but_for_their_ids
    a_member_whose_lane_is_busy_is_forgotten_later
    the_list_of_the_staff_goes_when_the_team_is_given_up
    erasures_of_a_customer_and_of_a_member_of_one_id_stay_apart
    an_erased_member_leaves_a_tombstone
}

fn policy() -> TeamPolicy {
    TeamPolicy { is_enabled: true, allows_admins: true, ..TeamPolicy::default() }
}

fn member(name: &str) -> MemberId {
    MemberId::accept(name).expect("valid")
}

/// An admin at Podero who can act; the user's id is the number.
fn admin(number: u128) -> Colleague {
    Colleague {
        id: Uuid::from_u128(number),
        role: PoderoRole::Admin,
        external_id: Some(format!("M-{number}")),
        profile: BTreeMap::from([(MemberField::Email, format!("m{number}@example.com"))]),
        last_login: None,
        has_joined: true,
    }
}

struct TeamFixture<'a>(&'a StoreFixture);

impl TeamFixture<'_> {
    async fn arrives(&self, name: &str, time: Timestamp, happening: TeamHappening) -> EventId {
        self.is_announced(name, time, None, happening).await
    }

    async fn is_announced(
        &self,
        name: &str,
        time: Timestamp,
        effective_at: Option<Timestamp>,
        happening: TeamHappening,
    ) -> EventId {
        let id = EventId(self.0.clock.fresh_id());
        let received_at = self.0.clock.now();
        let event = TeamEvent { id, member: member(name), time, received_at, effective_at, happening };
        let arrival = Arrival {
            id,
            origin: "/hr".to_owned(),
            origin_id: id.to_string(),
            source: "hr".to_owned(),
            transport: Transport::Http,
            received_at,
            digest: "d".to_owned(),
            raw: b"{\"first_name\": \"Mia\"}".as_slice().into(),
            envelope: None,
            content: Content::Team(event),
        };
        self.0.store.accept(vec![arrival]).await.expect("the store is there");
        id
    }

    async fn leaves(&self, number: u128) -> Claim<MemberWork> {
        self.arrives(&format!("M-{number}"), self.0.clock.now(), TeamHappening::Left).await;
        let mut claim = claimed(&self.0.store).await.expect("it is due");
        claim.work.member.podero.user = ObservedMember::Present(admin(number));
        claim
    }

    async fn lists(&self, admins: impl IntoIterator<Item = u128>) {
        self.lists_of(self.0.clock.now(), admins).await;
    }

    /// A list that was asked for then arrives.
    async fn lists_of(&self, asked_at: Timestamp, admins: impl IntoIterator<Item = u128>) {
        let staff = admins.into_iter().map(admin).collect();
        self.0.store.keep_staff(asked_at, staff, Vec::new()).await.expect("the store is there");
    }

    async fn ends(&self, claim: &Claim<MemberWork>, fate: Fate) {
        let verdict = claim.work.settle_with(fate, self.0.clock.now(), &core());
        self.0.store.settle(claim, verdict, Vec::new()).await.expect("the store is there");
    }

    async fn state(&self, id: EventId) -> (String, Option<String>) {
        let event = self.0.store.event(id).await.expect("the store is there").expect("it is known").event;
        (event.state.to_string(), event.reason)
    }
}

/// The core's policy; only that of the team is of interest here.
fn core() -> Policy {
    let environment = std::collections::BTreeMap::new();
    let config =
        podero_bridge::config::Config::parse("[team]\nenabled = true\nallow_admins = true", &environment, true);
    config.expect("the settings are valid").policy
}

async fn claimed(store: &Store) -> Option<Claim<MemberWork>> {
    store.claims_of(1, LEASE).await.expect("the store is there").pop()
}

fn removal_by(claim: &Claim<MemberWork>, role: MemberRole) -> Proposal {
    Proposal {
        member: claim.work.event.member.clone(),
        emails: Vec::new(),
        user: claim.work.member.user_id(),
        role: Some(role),
        loss: Some(AccessLoss { kind: LossKind::Leave, at: None }),
        makes_admin: false,
        changes_email: false,
    }
}

async fn ask(store: &Store, claim: &Claim<MemberWork>, began: Timestamp) -> TeamAnswer {
    let proposal = removal_by(claim, MemberRole::Admin);
    store.ask_team(claim, proposal, &policy(), began).await.expect("the store is there")
}

/// A decision of a third replica that is under way; on SQLite, where one process has the file, there is none.
struct Lock(Option<PgConnection>);

impl Lock {
    async fn take(fixture: &StoreFixture) -> Self {
        if !fixture.url.starts_with("postgres") {
            return Self(None);
        }
        let mut connection = PgConnection::connect(&fixture.url).await.expect("the database is there");
        let lock = "BEGIN; SELECT 1 FROM brakes WHERE name = 'team_brake' FOR UPDATE";
        sqlx::raw_sql(lock).execute(&mut connection).await.expect("it is ours");
        Self(Some(connection))
    }

    /// Waits until two others wait for it.
    async fn give_back(self) {
        let Some(mut connection) = self.0 else { return };
        until("both wait for the lock", async || {
            // Within a transaction the server shows the same moment until it is told otherwise.
            let clear = sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut connection).await;
            clear.expect("it is cleared");
            let waiting = sqlx::query_scalar::<_, i64>(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
            );
            (waiting.fetch_one(&mut connection).await.expect("it is counted") == 2).then_some(())
        })
        .await;
        sqlx::raw_sql("COMMIT").execute(&mut connection).await.expect("it is ours");
    }
}

fn reason(answer: &TeamAnswer) -> Option<Reason> {
    match answer {
        TeamAnswer::Refused(refused) => Some(refused.reason),
        TeamAnswer::Allowed | TeamAnswer::WantsList | TeamAnswer::Fenced => None,
    }
}

async fn of_two_removals_at_once_one_keeps_enough_admins(fixture: StoreFixture) {
    let other = fixture.beside().await;
    let team = TeamFixture(&fixture);
    let began = fixture.clock.now();
    team.lists(1..=3).await;
    let (one, two) = (team.leaves(1).await, team.leaves(2).await);
    // Both begin while a third decision is under way: one that reads before it has the lock reads what the other changes.
    let lock = Lock::take(&fixture).await;
    let asked = async { tokio::join!(ask(&fixture.store, &one, began), ask(&other, &two, began)) };
    let ((first, second), ()) = tokio::join!(asked, lock.give_back());
    let allowed = [&first, &second].into_iter().filter(|answer| **answer == TeamAnswer::Allowed).count();
    let refused = [&first, &second].into_iter().filter(|answer| reason(answer) == Some(Reason::TooFewAdmins)).count();
    assert_eq!((allowed, refused), (1, 1), "{first:?} {second:?}");
}

async fn a_removal_that_is_decided_counts_until_a_list_shows_it(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let began = fixture.clock.now();
    team.lists(1..=3).await;
    let one = team.leaves(1).await;
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::Allowed);
    // The answer was lost, and is the same.
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::Allowed);
    let two = team.leaves(2).await;
    assert_eq!(reason(&ask(&fixture.store, &two, began).await), Some(Reason::TooFewAdmins));
    fixture.clock.advance(Duration::from_secs(1));
    team.ends(&one, Fate::Applied { stale: Vec::new() }).await;
    assert_eq!(reason(&ask(&fixture.store, &two, began).await), Some(Reason::TooFewAdmins), "the list is older");
    fixture.clock.advance(Duration::from_secs(1));
    team.lists(1..=3).await;
    let answer = ask(&fixture.store, &two, began).await;
    assert_eq!(reason(&answer), Some(Reason::TooFewAdmins), "clocks differ: the list may be older than the removal");
    fixture.clock.advance(CLOCK_TOLERANCE);
    team.lists([2, 3, 4]).await;
    assert_eq!(ask(&fixture.store, &two, began).await, TeamAnswer::Allowed, "the list has another admin");
    assert_eq!(fixture.store.team_tally(&policy()).await.expect("the store is there").admitted, 2);
}

async fn a_list_that_is_too_old_is_no_answer(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let one = team.leaves(1).await;
    let began = fixture.clock.now();
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::WantsList, "there is none");
    team.lists(1..=3).await;
    fixture.clock.advance(policy().list_max_age + Duration::from_secs(1));
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::WantsList);
    team.lists(1..=2).await;
    let later = fixture.clock.now().plus(Duration::from_secs(1));
    assert_eq!(ask(&fixture.store, &one, later).await, TeamAnswer::WantsList, "before it refuses it wants a new one");
    assert_eq!(reason(&ask(&fixture.store, &one, began).await), Some(Reason::TooFewAdmins));
    team.lists([2]).await;
    let now = fixture.clock.now().plus(Duration::from_secs(1));
    assert_eq!(ask(&fixture.store, &one, now).await, TeamAnswer::WantsList, "it lacks the admin, who came later");
    // By the clock of another replica the list may seem to be the newer one.
    let answer = ask(&fixture.store, &one, began).await;
    assert_eq!(reason(&answer), Some(Reason::TooFewAdmins), "of two admins one would be left");
    team.lists([2, 3]).await;
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::Allowed);
}

async fn the_brake_admits_as_many_removals_as_may_be(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let began = fixture.clock.now();
    team.lists(1..=20).await;
    let mut answers = Vec::new();
    for number in 1..=7 {
        let claim = team.leaves(number).await;
        answers.push(ask(&fixture.store, &claim, began).await);
    }
    let allowed = answers.iter().filter(|answer| **answer == TeamAnswer::Allowed).count();
    assert_eq!(allowed, 5, "{answers:?}");
    assert!(answers[5..].iter().all(|answer| reason(answer) == Some(Reason::TeamBrake)), "{answers:?}");
    // One that the brake would refuse too.
    fixture.clock.advance(CLOCK_TOLERANCE * 2);
    team.lists([10, 11]).await;
    let claim = team.leaves(10).await;
    assert_eq!(reason(&ask(&fixture.store, &claim, began).await), Some(Reason::TooFewAdmins));
}

async fn a_list_that_was_asked_for_earlier_does_not_replace_a_later_one(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let began = fixture.clock.now();
    team.lists(1..=3).await;
    let (one, two) = (team.leaves(1).await, team.leaves(2).await);
    assert_eq!(ask(&fixture.store, &one, began).await, TeamAnswer::Allowed);
    fixture.clock.advance(Duration::from_secs(1));
    team.ends(&one, Fate::Applied { stale: Vec::new() }).await;
    fixture.clock.advance(CLOCK_TOLERANCE * 2);
    team.lists([2, 3]).await;
    // Asked for before the removal, and slow.
    team.lists_of(began, 1..=3).await;
    assert_eq!(reason(&ask(&fixture.store, &two, began).await), Some(Reason::TooFewAdmins));
    // One of a clock that was years ahead gives way.
    team.lists_of(fixture.clock.now().plus(Duration::from_secs(86_400 * 365)), 1..=9).await;
    team.lists([2, 3]).await;
    assert_eq!(reason(&ask(&fixture.store, &two, began).await), Some(Reason::TooFewAdmins));
}

async fn bindings_of_protected_members_outlast_an_erasure(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let protected = vec!["m1@example.com".to_owned()];
    let keep = async |staff: Vec<Colleague>| {
        fixture.store.keep_staff(fixture.clock.now(), staff, protected.clone()).await.expect("the store is there");
    };
    keep((1..=4).map(admin).collect()).await;
    applied(&fixture, joined()).await;
    applied(&fixture, TeamHappening::Left).await;
    let erased = fixture.store.erase_member(&member("M-1"), &[], true, BY).await.expect("the store is there");
    erased.expect("nothing is in the way");
    assert_eq!(fixture.store.staff().await.expect("the store is there"), None, "names and addresses are gone");
    let renamed = Colleague { profile: BTreeMap::new(), ..admin(1) };
    fixture.clock.advance(Duration::from_secs(1));
    keep([renamed].into_iter().chain((2..=4).map(admin)).collect()).await;
    let claim = team.leaves(1).await;
    let proposal = Proposal { emails: Vec::new(), ..removal_by(&claim, MemberRole::Admin) };
    let policy = TeamPolicy { protected, ..policy() };
    let answer = fixture.store.ask_team(&claim, proposal, &policy, fixture.clock.now()).await;
    assert_eq!(reason(&answer.expect("the store is there")), Some(Reason::ProtectedMember));
}

async fn staff_leave_although_no_list_can_be_read(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let began = fixture.clock.now();
    let ask_as = async |number, role| {
        let claim = team.leaves(number).await;
        let asked = fixture.store.ask_team(&claim, removal_by(&claim, role), &policy(), began).await;
        asked.expect("the store is there")
    };
    assert_eq!(ask_as(1, MemberRole::Staff).await, TeamAnswer::Allowed);
    assert_eq!(ask_as(2, MemberRole::Admin).await, TeamAnswer::WantsList);
    // An old list still says whom a protection is bound to.
    let protected = vec!["m3@example.com".to_owned()];
    fixture.store.keep_staff(began, vec![admin(3)], protected.clone()).await.expect("the store is there");
    fixture.clock.advance(policy().list_max_age * 2);
    let claim = team.leaves(3).await;
    let policy = TeamPolicy { protected, ..policy() };
    let asked = fixture.store.ask_team(&claim, removal_by(&claim, MemberRole::Staff), &policy, began).await;
    assert_eq!(reason(&asked.expect("the store is there")), Some(Reason::ProtectedMember));
}

async fn an_end_that_was_refused_counts_no_more(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let end = fixture.clock.now().plus(Duration::from_secs(3_600));
    team.arrives("M-1", fixture.clock.now(), joined_until(end)).await;
    let mut claim = claimed(&fixture.store).await.expect("it is due");
    claim.work.member.podero.user = ObservedMember::Present(admin(1));
    team.ends(&claim, Fate::Applied { stale: Vec::new() }).await;
    fixture.clock.advance(Duration::from_secs(3_601));
    fixture.store.promote().await.expect("the store is there");
    team.lists(1..=3).await;
    let expired = claimed(&fixture.store).await.expect("the end is due");
    assert_eq!(expired.work.event.happening.type_name(), "team.access_expired");
    let other = team.leaves(3).await;
    let asked = async |other: &Claim<MemberWork>| reason(&ask(&fixture.store, other, fixture.clock.now()).await);
    assert_eq!(asked(&other).await, Some(Reason::TooFewAdmins), "the end is being carried out");
    let refused = Fate::Parked { reason: Reason::ProtectedMember, detail: String::new() };
    team.ends(&expired, refused).await;
    assert_eq!(asked(&other).await, None, "that admin stays");
}

async fn an_announced_join_and_leave_hold_side_by_side(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let now = fixture.clock.now();
    let day = Duration::from_secs(86_400);
    let join = team.is_announced("M-1", now, Some(now.plus(day * 10)), joined()).await;
    fixture.clock.advance(Duration::from_secs(1));
    let leave = team.is_announced("M-1", fixture.clock.now(), Some(now.plus(day * 90)), TeamHappening::Left).await;
    for id in [join, leave] {
        assert_eq!(team.state(id).await.0, "scheduled");
    }
    fixture.clock.advance(Duration::from_secs(1));
    // The same event again replaces its own kind.
    let later = team.is_announced("M-1", fixture.clock.now(), Some(now.plus(day * 80)), TeamHappening::Left).await;
    assert_eq!(team.state(leave).await, ("superseded".to_owned(), Some("replaced".to_owned())));
    fixture.clock.advance(Duration::from_secs(1));
    let off = TeamHappening::CalledOff { sent: SentAs::Joined };
    let off = team.arrives("M-1", fixture.clock.now(), off).await;
    let states = [team.state(join).await.0, team.state(later).await.0, team.state(off).await.0];
    assert_eq!(states, ["superseded", "scheduled", "applied"], "one is called off, and the other is not");
}

async fn a_parked_leave_that_is_called_off_is_over(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    for (number, why) in [(1, Reason::TeamBrake), (2, Reason::TooFewAdmins), (3, Reason::ProtectedMember)] {
        let claim = team.leaves(number).await;
        let leave = claim.work.event.id;
        let verdict =
            claim.work.settle_with(Fate::Parked { reason: why, detail: String::new() }, fixture.clock.now(), &core());
        let call = |operation| CallMade {
            id: fixture.clock.fresh_id(),
            at: fixture.clock.now(),
            operation,
            outcome: "done".to_owned(),
            took: Duration::ZERO,
            idempotency_key: None,
        };
        let calls = vec![call(Operation::FindUser), call(Operation::ListUsers)];
        fixture.store.settle(&claim, verdict, calls).await.expect("the store is there");
        fixture.clock.advance(Duration::from_secs(1));
        let name = format!("M-{number}");
        let off = TeamHappening::CalledOff { sent: SentAs::Joined };
        team.arrives(&name, fixture.clock.now(), off).await;
        assert_eq!(team.state(leave).await.0, "parked", "a join that is called off is no leave");
        let off = TeamHappening::CalledOff { sent: SentAs::Left };
        team.arrives(&name, fixture.clock.now(), off).await;
        assert_eq!(team.state(leave).await.0, "superseded", "{why}");
    }
}

fn joined_until(end: Timestamp) -> TeamHappening {
    let profile = BTreeMap::from([(MemberField::Email, "m@example.com".to_owned())]);
    TeamHappening::Joined { role: MemberRole::Admin, profile, expires: ExpiryChange::At(end) }
}

fn joined() -> TeamHappening {
    let profile = BTreeMap::from([(MemberField::Email, "m@example.com".to_owned())]);
    TeamHappening::Joined { role: MemberRole::Staff, profile, expires: ExpiryChange::Unsaid }
}

async fn a_leave_overtakes_an_older_event_in_back_off(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let early = fixture.clock.now();
    let join = team.arrives("M-1", early, joined()).await;
    let claim = claimed(&fixture.store).await.expect("it is due");
    fixture.clock.advance(Duration::from_secs(1));
    let leave = team.arrives("M-1", fixture.clock.now(), TeamHappening::Left).await;
    assert!(claimed(&fixture.store).await.is_none(), "the join is worked on");
    let listed = async || {
        let filter = OpenFilter { state: OpenState::Pending, customer: None, after: None, limit: 10 };
        let page = fixture.store.open_events(filter).await.expect("the store is there");
        page.events.iter().map(|row| (row.id, row.waits_for, row.behind)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [(join, WaitsFor::InProgress, None), (leave, WaitsFor::Behind, Some(join))]);
    let at = fixture.clock.now().plus(Duration::from_secs(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    assert_eq!(listed().await, [(join, WaitsFor::Behind, Some(leave)), (leave, WaitsFor::Budget, None)]);
    let claim = claimed(&fixture.store).await.expect("the leave is due although the join is in back-off");
    assert_eq!(claim.work.event.id, leave);
    assert_eq!(claim.work.overtaken, ["m@example.com"], "the join may have been about to adopt someone");
    let soon = fixture.clock.now().plus(Duration::from_secs(5));
    team.ends(&claim, Fate::Retry { at: soon, setback: Setback::ServerError }).await;
    fixture.clock.advance(Duration::from_secs(600));
    let claim = claimed(&fixture.store).await.expect("the leave is tried again");
    assert_eq!(claim.work.event.id, leave, "and no older event in between, although it is due");
    team.ends(&claim, Fate::Applied { stale: Vec::new() }).await;
    assert_eq!(team.state(join).await, ("superseded".to_owned(), Some("newer".to_owned())));
    assert!(claimed(&fixture.store).await.is_none());
}

async fn of_two_leaves_of_one_time_the_later_arrival_is_due(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let time = fixture.clock.now();
    let first = team.arrives("M-1", time, TeamHappening::Left).await;
    let claim = claimed(&fixture.store).await.expect("it is due");
    let at = fixture.clock.now().plus(Duration::from_secs(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    let second = team.arrives("M-1", time, TeamHappening::Left).await;
    let claim = claimed(&fixture.store).await.expect("it does not wait for the one in back-off");
    assert_eq!(claim.work.event.id, second);
    team.ends(&claim, Fate::Applied { stale: Vec::new() }).await;
    assert_eq!(team.state(first).await, ("superseded".to_owned(), Some("newer".to_owned())));
}

async fn a_leave_is_due_at_once_when_a_newer_one_is_void(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let early = fixture.clock.now();
    let seconds = Duration::from_secs;
    // Announced, refused when its day has come, and replaced meanwhile by what was said later.
    let void = team.is_announced("M-1", early, Some(early.plus(seconds(10))), TeamHappening::Left).await;
    fixture.clock.advance(seconds(11));
    fixture.store.promote().await.expect("the store is there");
    let claim = claimed(&fixture.store).await.expect("its day has come");
    team.ends(&claim, Fate::Parked { reason: Reason::TeamBrake, detail: String::new() }).await;
    let join = team.arrives("M-1", early, joined()).await;
    let claim = claimed(&fixture.store).await.expect("the join is due");
    assert_eq!(claim.work.event.id, join);
    let at = fixture.clock.now().plus(seconds(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    let leave = team.arrives("M-1", early.plus(seconds(5)), TeamHappening::Left).await;
    let taken = fixture.store.unpark(void, RetryRequest::Approve, BY).await.expect("the store is there");
    assert!(taken.is_some());
    let claim = claimed(&fixture.store).await.expect("the leave does not wait for the join");
    assert_eq!(claim.work.event.id, leave);
    assert_eq!(team.state(void).await, ("superseded".to_owned(), Some("replaced".to_owned())));
}

async fn a_leave_that_is_refused_ends_no_older_event(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let update = team.arrives("M-1", fixture.clock.now(), joined()).await;
    let claim = claimed(&fixture.store).await.expect("it is due");
    let at = fixture.clock.now().plus(Duration::from_secs(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    fixture.clock.advance(Duration::from_secs(1));
    let leave = team.arrives("M-1", fixture.clock.now(), TeamHappening::Left).await;
    let claim = claimed(&fixture.store).await.expect("the leave is due");
    assert_eq!(claim.work.event.id, leave);
    team.ends(&claim, Fate::Parked { reason: Reason::TeamBrake, detail: String::new() }).await;
    assert_eq!(team.state(update).await.0, "pending");
    assert!(claimed(&fixture.store).await.is_none(), "its time has not come");
    fixture.clock.advance(Duration::from_secs(600));
    let claim = claimed(&fixture.store).await.expect("it goes on");
    assert_eq!(claim.work.event.id, update);
    // The leave is approved meanwhile, and is carried out before the older one is tried again.
    let at = fixture.clock.now().plus(Duration::from_secs(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    let taken = fixture.store.unpark(leave, RetryRequest::Approve, BY).await.expect("the store is there");
    assert!(taken.is_some());
    let mut claim = claimed(&fixture.store).await.expect("the leave is due");
    claim.work.member.podero.user = ObservedMember::Present(admin(1));
    team.lists(1..=3).await;
    let none = TeamPolicy { brake: Brake { count: Some(0), ..policy().brake }, ..policy() };
    let asked = fixture.store.ask_team(&claim, removal_by(&claim, MemberRole::Admin), &none, fixture.clock.now());
    assert_eq!(asked.await.expect("the store is there"), TeamAnswer::Allowed, "no brake stops what was approved");
    team.ends(&claim, Fate::Applied { stale: Vec::new() }).await;
    assert_eq!(team.state(update).await.0, "superseded");
}

async fn members_and_customers_of_one_id_have_lanes_of_their_own(fixture: StoreFixture) {
    use podero_bridge::domain::event::Happening;
    let team = TeamFixture(&fixture);
    let of_member = team.arrives("C-1", fixture.clock.now(), TeamHappening::Left).await;
    let of_customer = fixture.arrival("C-1", Happening::Churned);
    let id = of_customer.id;
    fixture.store.accept(vec![of_customer]).await.expect("the store is there");
    let customer = fixture.store.claim(LEASE).await.expect("the store is there").expect("the customer's is due");
    let member = claimed(&fixture.store).await.expect("the member's is due");
    assert_eq!((customer.work.event.id, member.work.event.id), (id, of_member));
    assert!(fixture.store.claim(LEASE).await.expect("the store is there").is_none());
    let view = fixture.store.event(of_member).await.expect("the store is there").expect("known").event;
    assert_eq!((view.customer_id, view.member_id), (None, Some("C-1".to_owned())));
    let view = fixture.store.event(id).await.expect("the store is there").expect("known").event;
    assert_eq!((view.customer_id, view.member_id), (Some("C-1".to_owned()), None));
}

async fn a_moved_end_ends_the_one_that_was_scheduled(fixture: StoreFixture) {
    let team = TeamFixture(&fixture);
    let now = fixture.clock.now();
    let day = Duration::from_secs(86_400);
    let until = |days: u32| TeamHappening::Joined {
        role: MemberRole::Staff,
        profile: BTreeMap::from([(MemberField::Email, "m@example.com".to_owned())]),
        expires: ExpiryChange::At(now.plus(day * days)),
    };
    let mut scheduled = Vec::new();
    for days in [30, 60] {
        team.arrives("M-1", fixture.clock.now(), until(days)).await;
        let claim = claimed(&fixture.store).await.expect("it is due");
        let verdict = claim.work.settle_with(Fate::Applied { stale: Vec::new() }, fixture.clock.now(), &core());
        scheduled.push(verdict.follow_ups.iter().map(|event| event.id).collect::<Vec<_>>());
        fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
        fixture.clock.advance(Duration::from_secs(1));
    }
    for id in &scheduled[0] {
        assert_eq!(team.state(*id).await.0, "superseded");
    }
    assert_eq!((scheduled[0].len(), scheduled[1].len()), (2, 2), "the notice ahead, and the end");
    for id in &scheduled[1] {
        assert_eq!(team.state(*id).await.0, "scheduled");
    }
    // The bridge was away for months: the end comes due all the same.
    fixture.clock.advance(day * 90);
    fixture.store.promote().await.expect("the store is there");
    let ahead = claimed(&fixture.store).await.expect("the notice is due");
    assert_eq!(ahead.work.event.happening.type_name(), "team.access_expiring");
    team.ends(&ahead, Fate::Applied { stale: Vec::new() }).await;
    let end = claimed(&fixture.store).await.expect("the end is due");
    assert_eq!(end.work.event.happening.type_name(), "team.access_expired");
}

async fn applied(fixture: &StoreFixture, happening: TeamHappening) {
    let team = TeamFixture(fixture);
    team.arrives("M-1", fixture.clock.now(), happening).await;
    let claim = claimed(&fixture.store).await.expect("it is due");
    let verdict = claim.work.settle_with(Fate::Applied { stale: Vec::new() }, fixture.clock.now(), &core());
    let state = TeamMember { facts: claim.work.merged.facts.clone(), ..verdict.state.clone() };
    fixture.store.settle(&claim, Verdict { state, ..verdict }, Vec::new()).await.expect("the store is there");
    fixture.clock.advance(Duration::from_secs(1));
}

async fn members_who_left_long_ago_are_forgotten_but_for_their_ids(fixture: StoreFixture) {
    applied(&fixture, joined()).await;
    applied(&fixture, TeamHappening::Left).await;
    let retention = Duration::from_secs(86_400);
    assert_eq!(fixture.store.forget_members(retention).await.expect("the store is there"), 0, "too early");
    fixture.clock.advance(retention);
    assert_eq!(fixture.store.forget_members(retention).await.expect("the store is there"), 1);
    assert_eq!(fixture.store.forget_members(retention).await.expect("the store is there"), 0);
    let known = fixture.store.members().await.expect("the store is there").remove(0);
    assert!(known.member.facts.profile.is_empty() && known.member.facts.left.is_some(), "{known:?}");
    let events = fixture.store.member(&member("M-1")).await.expect("the store is there").expect("known").events;
    assert_eq!(events.len(), 2, "what happened stays");
    for event in events {
        let view = fixture.store.event(event.id).await.expect("the store is there").expect("known");
        let text = serde_json::to_string(&view).expect("it is a view");
        assert!(!text.contains("Mia") && !text.contains("m@example.com"), "{text}");
    }
}

async fn a_member_whose_lane_is_busy_is_forgotten_later(fixture: StoreFixture) {
    applied(&fixture, joined()).await;
    applied(&fixture, TeamHappening::Left).await;
    let retention = Duration::from_secs(86_400);
    fixture.clock.advance(retention);
    let team = TeamFixture(&fixture);
    team.arrives("M-1", fixture.clock.now(), joined()).await;
    let claim = claimed(&fixture.store).await.expect("the member comes back");
    let forgotten = fixture.store.forget_members(retention).await.expect("the store is there");
    assert_eq!(forgotten, 0, "no step is busy over one that it could not change");
    team.ends(&claim, Fate::Superseded).await;
    assert_eq!(fixture.store.forget_members(retention).await.expect("the store is there"), 1);
}

async fn the_list_of_the_staff_goes_when_the_team_is_given_up(fixture: StoreFixture) {
    let protected = vec!["m1@example.com".to_owned()];
    let keep = fixture.store.keep_staff(fixture.clock.now(), vec![admin(1)], protected);
    keep.await.expect("the store is there");
    for _ in 0..2 {
        fixture.store.forget_staff().await.expect("the store is there");
        assert_eq!(fixture.store.staff().await.expect("the store is there"), None);
    }
}

async fn erasures_of_a_customer_and_of_a_member_of_one_id_stay_apart(fixture: StoreFixture) {
    let store = &fixture.store;
    let parked = async |raw: &str| {
        let id = EventId(fixture.clock.fresh_id());
        let arrival = Arrival {
            id,
            origin: "untranslatable/hr".to_owned(),
            origin_id: id.to_string(),
            source: "hr".to_owned(),
            transport: Transport::Amqp,
            received_at: fixture.clock.now(),
            digest: id.to_string(),
            raw: raw.to_owned().into(),
            envelope: None,
            content: Content::Parked {
                reason: Reason::TypeNotAllowed,
                detail: String::new(),
                notice: unreadable_notice(id, Reason::TypeNotAllowed, fixture.clock.now()),
                may_be_known: false,
            },
        };
        store.accept(vec![arrival]).await.expect("the store is there");
        id
    };
    let of_member = parked(r#"{"type":"team.member_left","subject":"X-1"}"#).await;
    let of_customer = parked(r#"{"type":"customer.churned","subject":"X-1"}"#).await;
    let erased = store.erase("X-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    assert_eq!((erased.messages, erased.mentions), (1, vec![of_member]), "a member's message is left to a person");
    assert_eq!((fixture.state(of_member).await, fixture.state(of_customer).await), ("parked".into(), "skipped".into()));
    let erased = store.erase_member(&member("X-1"), &[], true, BY).await.expect("the store is there");
    assert_eq!(erased.expect("nothing is in the way").messages, 1);
    assert_eq!(fixture.state(of_member).await, "skipped");
}

async fn an_erased_member_leaves_a_tombstone(fixture: StoreFixture) {
    applied(&fixture, joined()).await;
    let before = fixture.clock.now();
    let erase = async |force| {
        let erased = fixture.store.erase_member(&member("M-1"), &[], force, BY).await;
        erased.expect("the store is there")
    };
    let in_the_way = erase(false).await.expect_err("an active member");
    assert!(in_the_way.is_active);
    let list_is_due = async || {
        let duty = fixture.store.take_duty(STAFF_DUTY, Duration::from_secs(3_600)).await;
        duty.expect("the store is there").is_some()
    };
    assert_eq!((list_is_due().await, list_is_due().await), (true, false));
    fixture.clock.advance(Duration::from_secs(1));
    let erased = erase(true).await.expect("by force");
    assert!(erased.events > 0);
    assert!(list_is_due().await, "the list of the staff went with the member, and is read again at once");
    assert!(fixture.store.members().await.expect("the store is there").is_empty());
    let team = TeamFixture(&fixture);
    team.arrives("M-1", before, joined()).await;
    assert!(claimed(&fixture.store).await.is_none(), "an older event that comes late brings nothing back");
}

/// The commands name a member, and a review that compared with no list of the staff says so.
#[tokio::test]
async fn commands_show_members_and_a_review_needs_a_list() {
    let fixture = StoreFixture::on_sqlite().await;
    let team = TeamFixture(&fixture);
    team.arrives("M-1", fixture.clock.now(), joined()).await;
    let refused = Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
    let claim = claimed(&fixture.store).await.expect("the event");
    team.ends(&claim, refused).await;
    let environment = vec![("STORE__URL", fixture.url.clone())];
    let listed = running::said(&running::run(&["parked", "list"], &environment));
    assert!(listed.contains("member M-1"), "{listed}");
    let reviewed = running::run(&["team", "review"], &environment);
    let said = running::said(&reviewed);
    assert_eq!((reviewed.status.code(), said.contains("nothing was found")), (Some(1), false), "{said}");
    team.lists([1, 2]).await;
    let reviewed = running::run(&["team", "review"], &environment);
    assert_eq!(reviewed.status.code(), Some(0), "{}", running::said(&reviewed));
}

/// A bridge that administers the team, with a source for it.
async fn world(database: Database) -> World {
    world_of(database, "").await
}

/// As [`world`], with more keys of `[team]`.
async fn world_of(database: Database, keys: &str) -> World {
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n[team]\nenabled = true\n{keys}\n"
    );
    World::start(database, Settings { toml, environment: Vec::new() }).await
}

async fn postgres() -> Database {
    Database::Postgres(tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database"))
}

async fn tell(world: &World, event: &Value) -> (u16, Value) {
    world.post(&world.door("/v1/events/hr"), "application/cloudevents+json", event.to_string()).await
}

/// Sends an event of HR, and waits for its end.
async fn apply(world: &World, event: &Value) -> Value {
    let (status, answer) = tell(world, event).await;
    assert_eq!(status, 202, "{answer}");
    world.settled(answer["id"].as_str().expect("an id")).await
}

fn join(id: &str, member: &str, role: &str, time: &str) -> Value {
    let email = format!("{}@example.com", member.to_lowercase().replace('@', "-at-"));
    event(id, "team.member_joined", time, &json!({"member_id": member, "email": email, "role": role}))
}

async fn users(world: &World) -> Vec<Value> {
    world.sandbox_state().await["users"].as_array().cloned().unwrap_or_default()
}

async fn user_of(world: &World, member: &str) -> Option<Value> {
    let is_it = |user: &Value| user["external_user_id"] == member && user["deleted"] != true;
    users(world).await.into_iter().find(is_it)
}

async fn invitations(world: &World) -> usize {
    world.get(&world.sandbox("/mailbox")).await.as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_joins_changes_and_leaves_on_sqlite() {
    whole_life(world(Database::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_joins_changes_and_leaves_on_postgres() {
    whole_life(world(postgres().await).await).await;
}

async fn whole_life(world: World) {
    let joined = apply(&world, &join("e1", "M-1", "staff", "2026-10-01T12:00:00Z")).await;
    assert_eq!(joined["state"], "applied", "{joined}");
    assert_eq!(user_of(&world, "M-1").await.expect("invited")["role"], "staff");
    let named =
        event("e2", "team.member_updated", "2026-10-02T12:00:00Z", &json!({"member_id": "M-1", "first_name": "Mia"}));
    assert_eq!(apply(&world, &named).await["state"], "applied");
    assert_eq!(user_of(&world, "M-1").await.expect("there")["first_name"], "Mia");
    let promoted =
        event("e3", "team.member_role_changed", "2026-10-03T12:00:00Z", &json!({"member_id": "M-1", "role": "admin"}));
    let parked = apply(&world, &promoted).await;
    assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!("admin_not_allowed")), "{parked}");
    let customer = world.apply(&sign_up("c1", "M-1", "2026-10-03T13:00:00Z")).await;
    assert_eq!(customer["reason"], "not_a_customer", "a customer of the same id never touches the member: {customer}");
    let left =
        apply(&world, &event("e4", "team.member_left", "2026-10-04T12:00:00Z", &json!({"member_id": "M-1"}))).await;
    assert_eq!(left["state"], "applied", "{left}");
    assert!(user_of(&world, "M-1").await.is_none(), "{:?}", users(&world).await);
    assert_eq!(invitations(&world).await, 1);
    let view = world.get(&world.operator("/v1/team/M-1")).await;
    assert_eq!(view["events"].as_array().map(Vec::len), Some(4), "the customer's event is not the member's: {view}");
    let topics: Vec<_> =
        view["notices"].as_array().expect("notices").iter().map(|notice| notice["type"].clone()).collect();
    assert_eq!(topics, ["team.member_removed", "event.parked", "team.member_changed", "team.member_added"]);
    let row = world.get(&world.operator("/v1/team")).await["members"][0].clone();
    assert_eq!((&row["member_id"], &row["state"], &row["parked"]), (&json!("M-1"), &json!("left"), &json!(1)), "{row}");
    pages_and_audit(&world).await;
    world.bridge.stop().await;
}

/// The list goes on by key, a lane is no customer, and the audit log is found by member and by action once it is sealed.
async fn pages_and_audit(world: &World) {
    apply(world, &join("e5", "M-2", "staff", "2026-10-05T12:00:00Z")).await;
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.get(&world.operator(&format!("/v1/team?limit=1{after}"))).await;
        ids.extend(page["members"].as_array().expect("members").iter().map(|row| row["member_id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(ids, [json!("M-2"), json!("M-1")], "those who left come last");
    let lane = world.get(&world.operator("/v1/customers/member%09M-1")).await;
    assert_eq!(lane["status"], 404, "{lane}");
    let lane = world.get(&world.operator("/v1/events?customer_id=member%09M-1")).await;
    assert_eq!(lane["status"], 400, "{lane}");
    for (query, expected) in [
        ("target=M-1&action=podero.create_user", json!(["podero.create_user", "done", null])),
        ("target=M-1&action=podero.delete_user", json!(["podero.delete_user", "done", null])),
        ("action=team.change", json!(["team.change", "refused", "admin_not_allowed"])),
    ] {
        let row = until("the row is sealed", async || {
            let page = world.get(&world.operator(&format!("/v1/audit?{query}"))).await;
            page["audit"]
                .as_array()?
                .iter()
                .find(|row| row["target"]["kind"] == "member" && !row["number"].is_null())
                .cloned()
        });
        let row = row.await;
        assert_eq!(json!([row["action"], row["outcome"], row["reason"]]), expected, "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_whose_answer_was_lost_goes_out_once_on_sqlite() {
    lost_invitation(world(Database::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_whose_answer_was_lost_goes_out_once_on_postgres() {
    lost_invitation(world(postgres().await).await).await;
}

async fn lost_invitation(world: World) {
    world.fault(&json!({"operation": "create_user", "kind": "drop_after", "times": 1})).await;
    let joined = apply(&world, &join("e1", "M-1", "staff", "2026-10-01T12:00:00Z")).await;
    assert_eq!(joined["state"], "applied", "{joined}");
    assert_eq!((invitations(&world).await, users(&world).await.len()), (1, 1));
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_goes_through_while_an_older_event_fails_on_sqlite() {
    leave_beside_trouble(world(Database::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_goes_through_while_an_older_event_fails_on_postgres() {
    leave_beside_trouble(world(postgres().await).await).await;
}

async fn leave_beside_trouble(world: World) {
    apply(&world, &join("e1", "M-1", "staff", "2026-10-01T12:00:00Z")).await;
    world.fault(&json!({"operation": "update_user", "kind": "status", "status": 500, "times": 1000})).await;
    let named =
        event("e2", "team.member_updated", "2026-10-02T12:00:00Z", &json!({"member_id": "M-1", "first_name": "Mia"}));
    let (_, answer) = tell(&world, &named).await;
    let older = answer["id"].as_str().expect("an id").to_owned();
    until("the update fails", async || {
        let event = world.get(&world.operator(&format!("/v1/events/{older}"))).await;
        event["failures"].as_u64().is_some_and(|failures| failures > 0).then_some(())
    })
    .await;
    let left =
        apply(&world, &event("e3", "team.member_left", "2026-10-03T12:00:00Z", &json!({"member_id": "M-1"}))).await;
    assert_eq!(left["state"], "applied", "{left}");
    assert!(user_of(&world, "M-1").await.is_none());
    assert_eq!(world.settled(&older).await["state"], "superseded");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_team_is_off_its_events_are_kept_by_a_source_that_may() {
    let toml = "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
                [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n";
    let world = World::start(Database::Sqlite, Settings { toml: toml.to_owned(), environment: Vec::new() }).await;
    let joined = join("e1", "mia@example.com", "staff", "2026-10-01T12:00:00Z");
    let parked = apply(&world, &joined).await;
    assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!("team_disabled")), "{parked}");
    assert!(users(&world).await.is_empty());
    let event = world.get(&world.operator(&format!("/v1/events/{}", parked["id"].as_str().expect("an id")))).await;
    assert!(!event["notices"].to_string().contains("mia@"), "{event}");
    let row = world.get(&world.operator("/v1/team")).await["members"][0].clone();
    assert_eq!((&row["member_id"], &row["parked"]), (&Value::Null, &json!(1)), "{row}");
    let (status, problem) = world.send(&join("e2", "M-2", "staff", "2026-10-01T12:00:00Z")).await;
    assert_eq!(status, 403, "{problem}");
    assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("type-not-allowed")), "{problem}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_no_id_and_access_ends_by_itself_on_sqlite() {
    temporary_access(world(Database::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_no_id_and_access_ends_by_itself_on_postgres() {
    temporary_access(world(postgres().await).await).await;
}

async fn temporary_access(world: World) {
    let (status, problem) = tell(&world, &join("e1", "mia@example.com", "staff", "2026-10-01T12:00:00Z")).await;
    assert!(
        status == 422 && problem["type"].as_str().is_some_and(|kind| kind.ends_with("member-id-is-address")),
        "{problem}"
    );
    let refused = world.get(&world.operator("/v1/audit?action=team.change")).await["audit"][0].clone();
    let row = json!([refused["reason"], refused["to"], refused["target"]["kind"], refused["target"]["id"]]);
    assert_eq!(row, json!(["member_id_is_address", "team.member_joined", "source", "hr"]), "{refused}");
    let now = podero_bridge::clock::Clock::system().now();
    let mut temporary = join("e2", "M-1", "staff", &now.to_string());
    temporary["data"]["expires_at"] = json!(now.plus(Duration::from_secs(3)).to_string());
    assert_eq!(apply(&world, &temporary).await["state"], "applied");
    let row = world.get(&world.operator("/v1/team")).await["members"][0].clone();
    assert!(row["expires_at"].is_string() && row["origin"] == "event", "{row}");
    until("the access has ended", async || user_of(&world, "M-1").await.is_none().then_some(())).await;
    let view = world.get(&world.operator("/v1/team/M-1")).await;
    let expired =
        view["events"].as_array().expect("events").iter().find(|event| event["type"] == "team.access_expired");
    assert!(expired.is_some(), "it is in the timeline: {view}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_beyond_the_limit_waits_for_one_approval_on_sqlite() {
    removals_beyond_the_limit(world_of(Database::Sqlite, "removals_max = 1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_beyond_the_limit_waits_for_one_approval_on_postgres() {
    removals_beyond_the_limit(world_of(postgres().await, "removals_max = 1").await).await;
}

async fn removals_beyond_the_limit(world: World) {
    let members = ["M-1", "M-2", "M-3"];
    for (number, member) in members.iter().enumerate() {
        apply(&world, &join(&format!("j{number}"), member, "staff", "2026-10-01T12:00:00Z")).await;
    }
    let mut ids = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let leave =
            event(&format!("l{number}"), "team.member_left", "2026-10-02T12:00:00Z", &json!({"member_id": member}));
        let left = apply(&world, &leave).await;
        let expected = if number == 0 { json!(["applied", null]) } else { json!(["parked", "team_brake"]) };
        assert_eq!(json!([left["state"], left["reason"]]), expected, "{left}");
        ids.push(left["id"].as_str().expect("an id").to_owned());
    }
    let retried = async |id: &str, body: Value| {
        let url = world.operator(&format!("/v1/parked/{id}/retry"));
        let (status, answer) = world.post(&url, "application/json", body.to_string()).await;
        assert!(status < 300, "{status} {answer}");
        let event = world.settled(id).await;
        json!([event["state"], event["reason"]])
    };
    let braked = json!(["parked", "team_brake"]);
    assert_eq!(retried(&ids[1], json!({})).await, braked, "a retry without an approval meets the brake again");
    assert!(user_of(&world, "M-2").await.is_some());
    assert_eq!(retried(&ids[1], json!({"approve": true})).await, json!(["applied", null]));
    assert!(user_of(&world, "M-2").await.is_none());
    // The approval was for that one.
    assert_eq!(retried(&ids[2], json!({})).await, braked);
    assert!(user_of(&world, "M-3").await.is_some());
    let again = world.operator(&format!("/v1/parked/{}/retry", ids[1]));
    let (status, answer) = world.post(&again, "application/json", json!({"approve": true}).to_string()).await;
    assert!((400..500).contains(&status), "it is released once: {status} {answer}");
    world.bridge.stop().await;
}
