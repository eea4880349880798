//! Members of the team: the one lock under which the store decides, a leave that overtakes, and the whole way through the bridge.

use std::collections::BTreeMap;
use std::time::Duration;

use podero_bridge::domain::event::Transport;
use podero_bridge::domain::plan::Policy;
use podero_bridge::domain::team::{
    Colleague, ExpiryChange, MemberField, MemberId, MemberRole, MemberWork, ObservedMember, PoderoRole, TeamEvent,
    TeamHappening, TeamMember, TeamPolicy,
};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::work::LaneWork;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::store::{Arrival, Claim, Content, Store, TeamAnswer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

const LEASE: Duration = Duration::from_secs(60);

on_both_databases! {
    of_two_removals_at_once_one_keeps_enough_admins
    a_removal_that_is_decided_counts_until_a_list_shows_it
    a_list_that_is_too_old_is_no_answer
    the_brake_admits_as_many_removals_as_may_be
    a_leave_overtakes_an_older_event_in_back_off
    members_and_customers_of_one_id_have_lanes_of_their_own
    a_moved_end_ends_the_one_that_was_scheduled
    members_who_left_long_ago_are_forgotten_but_for_their_ids
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
        let id = EventId(self.0.clock.fresh_id());
        let received_at = self.0.clock.now();
        let event = TeamEvent { id, member: member(name), time, received_at, effective_at: None, happening };
        let arrival = Arrival {
            id,
            origin: "/hr".to_owned(),
            origin_id: id.to_string(),
            source: "hr".to_owned(),
            transport: Transport::Http,
            received_at,
            digest: "d".to_owned(),
            raw: b"{}".as_slice().into(),
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
        let staff = admins.into_iter().map(admin).collect();
        self.0.store.keep_staff(self.0.clock.now(), staff, Vec::new()).await.expect("the store is there");
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

async fn ask(store: &Store, claim: &Claim<MemberWork>, began: Timestamp) -> TeamAnswer {
    use podero_bridge::domain::team::{AccessLoss, LossKind, Proposal};
    let proposal = Proposal {
        member: claim.work.event.member.clone(),
        emails: Vec::new(),
        user: claim.work.member.user_id(),
        role: Some(MemberRole::Admin),
        loss: Some(AccessLoss { kind: LossKind::Leave, at: None }),
        makes_admin: false,
        changes_email: false,
    };
    store.ask_team(claim, proposal, &policy(), began).await.expect("the store is there")
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
    let (first, second) = tokio::join!(ask(&fixture.store, &one, began), ask(&other, &two, began));
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
    let at = fixture.clock.now().plus(Duration::from_secs(600));
    team.ends(&claim, Fate::Retry { at, setback: Setback::ServerError }).await;
    let claim = claimed(&fixture.store).await.expect("the leave is due although the join is in back-off");
    assert_eq!(claim.work.event.id, leave);
    assert_eq!(team.state(join).await, ("superseded".to_owned(), Some("newer".to_owned())));
    team.ends(&claim, Fate::Applied { stale: Vec::new() }).await;
    assert!(claimed(&fixture.store).await.is_none());
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
    fixture.clock.advance(Duration::from_secs(1));
    let erased = erase(true).await.expect("by force");
    assert!(erased.events > 0);
    assert!(fixture.store.members().await.expect("the store is there").is_empty());
    let team = TeamFixture(&fixture);
    team.arrives("M-1", before, joined()).await;
    assert!(claimed(&fixture.store).await.is_none(), "an older event that comes late brings nothing back");
}

/// A bridge that administers the team, with a source for it.
async fn world(database: Database) -> World {
    let toml = "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
                [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n[team]\nenabled = true\n";
    World::start(database, Settings { toml: toml.to_owned(), environment: Vec::new() }).await
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
    world.bridge.stop().await;
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
    let (status, problem) = world.send(&join("e2", "M-2", "staff", "2026-10-01T12:00:00Z")).await;
    assert_eq!((status, &problem["type"]), (403, &problem["type"]), "{problem}");
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
