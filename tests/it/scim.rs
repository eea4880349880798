//! SCIM as identity providers speak it: whole lives through the bridge, refusals, access, and the rows behind it.

use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::domain::plan::Policy;
use podero_bridge::domain::scim::{KnownUser, RoleFrom, ScimDocument, ScimError, ScimGroup, ScimWrite};
use podero_bridge::domain::team::{Colleague, MemberField, MemberId, MemberWork, PoderoRole};
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::domain::work::LaneWork;
use podero_bridge::store::{Claim, RetryRequest, ScimAnswer, ScimAsk, ScimRequest, Store};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::servers;
use crate::world::{Database, Settings, World, event, until};

const LEASE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-entra-id";
const EXTENSION: &str = "urn:podero-bridge:scim:User";

on_both_databases! {
    a_request_and_its_events_are_one_transaction
    two_requests_for_one_name_make_one_user
    an_erased_member_is_no_user_any_more
    a_user_who_left_long_ago_is_forgotten
    of_two_requests_at_once_one_keeps_enough_admins
    a_late_request_changes_no_user_that_was_made_anew
    a_user_who_never_joined_is_forgotten
    an_external_id_leads_to_one_member_also_after_a_deletion
    a_group_of_many_is_stored_as_a_set
}

fn core(toml: &str) -> Policy {
    let toml = format!("[team]\nenabled = true\n{toml}");
    let config = podero_bridge::config::Config::parse(&toml, &std::collections::BTreeMap::new(), true);
    config.expect("the settings are valid").policy
}

fn member(name: &str) -> MemberId {
    MemberId::accept(name).expect("valid")
}

fn person(name: &str) -> ScimDocument {
    let user = json!({"userName": format!("{name}@example.com"), "externalId": name});
    ScimDocument::read(&user).expect("a user")
}

fn request(fixture: &StoreFixture, policy: &Policy, ask: ScimAsk) -> ScimRequest {
    ScimRequest {
        token: "entra".into(),
        ask,
        raw: b"{}".to_vec(),
        policy: policy.clone(),
        role_from: RoleFrom::Groups,
        began: fixture.clock.now(),
        is_final: false,
    }
}

async fn create(fixture: &StoreFixture, store: &Store, name: &str, id: u128) -> ScimAnswer {
    let ask = ScimAsk::User {
        member: member(name),
        id: Uuid::from_u128(id).to_string(),
        write: Box::new(ScimWrite::Create(person(name))),
    };
    store.scim_write(request(fixture, &core(""), ask)).await.expect("the store is there")
}

async fn claimed(store: &Store) -> Option<Claim<MemberWork>> {
    store.claims_of(1, LEASE).await.expect("the store is there").pop()
}

/// Carries the next event out.
async fn apply(fixture: &StoreFixture) {
    let claim = claimed(&fixture.store).await.expect("it is due");
    let verdict = claim.work.settle_with(Fate::Applied { stale: Vec::new() }, fixture.clock.now(), &core(""));
    let state =
        podero_bridge::domain::team::TeamMember { facts: claim.work.merged.facts.clone(), ..verdict.state.clone() };
    let verdict = podero_bridge::domain::verdict::Verdict { state, ..verdict };
    fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    fixture.clock.advance(Duration::from_secs(1));
}

async fn a_request_and_its_events_are_one_transaction(fixture: StoreFixture) {
    let ScimAnswer::Done { users, events } = create(&fixture, &fixture.store, "mia", 1).await else { panic!("done") };
    assert_eq!((users.len(), events.len()), (1, 1));
    let known = fixture.store.scim_user(&Uuid::from_u128(1).to_string()).await.expect("there").expect("known");
    assert_eq!(known, users[0], "what is answered is what is read");
    let claim = claimed(&fixture.store).await.expect("the join is due");
    assert_eq!(claim.work.actor.to_string(), "scim:entra");
    assert_eq!(claim.work.event, known.open[0].event);
    // A policy that refuses leaves nothing behind.
    let ask =
        ScimAsk::User { member: member("eve"), id: "2".into(), write: Box::new(ScimWrite::Create(person("eve"))) };
    let policy = core("email_domains = [\"utility.example\"]");
    let refused = fixture.store.scim_write(request(&fixture, &policy, ask)).await.expect("the store is there");
    let ScimAnswer::Refused(ScimError { status: 403, detail, .. }) = refused else { panic!("{refused:?}") };
    assert!(detail.starts_with("foreign_email_domain"), "{detail}");
    assert_eq!(fixture.store.scim_users().await.expect("there").len(), 1);
    assert!(claimed(&fixture.store).await.is_none());
}

async fn two_requests_for_one_name_make_one_user(fixture: StoreFixture) {
    let other = fixture.beside().await;
    let (first, second) = tokio::join!(create(&fixture, &fixture.store, "mia", 1), create(&fixture, &other, "mia", 2));
    let made = [&first, &second].into_iter().filter(|answer| matches!(answer, ScimAnswer::Done { .. })).count();
    let is_double = |answer: &&ScimAnswer| matches!(answer, ScimAnswer::Refused(ScimError { status: 409, .. }));
    let refused = [&first, &second].into_iter().filter(is_double).count();
    assert_eq!((made, refused), (1, 1), "{first:?} {second:?}");
    // The name of one may not be that of another either.
    let ask = ScimAsk::User {
        member: member("other"),
        id: "3".into(),
        write: Box::new(ScimWrite::Create(ScimDocument { external_id: Some("other".into()), ..person("MIA") })),
    };
    let answer = fixture.store.scim_write(request(&fixture, &core(""), ask)).await.expect("the store is there");
    assert!(matches!(answer, ScimAnswer::Refused(ScimError { status: 409, .. })), "{answer:?}");
}

async fn an_erased_member_is_no_user_any_more(fixture: StoreFixture) {
    create(&fixture, &fixture.store, "mia", 1).await;
    apply(&fixture).await;
    let erased = fixture.store.erase_member(&member("mia"), &[], true, BY).await.expect("there");
    assert!(erased.is_ok(), "{erased:?}");
    assert!(fixture.store.scim_users().await.expect("there").is_empty());
    assert!(fixture.store.scim_user(&Uuid::from_u128(1).to_string()).await.expect("there").is_none());
    // A user without any event is a person, too.
    let inactive = ScimDocument { active: false, says_active: true, ..person("eve") };
    let ask = ScimAsk::User { member: member("eve"), id: "2".into(), write: Box::new(ScimWrite::Create(inactive)) };
    fixture.store.scim_write(request(&fixture, &core(""), ask)).await.expect("the store is there");
    let erased = fixture.store.erase_member(&member("eve"), &[], false, BY).await.expect("there");
    assert!(erased.is_ok(), "{erased:?}");
    assert!(fixture.store.scim_users().await.expect("there").is_empty());
}

async fn a_user_who_left_long_ago_is_forgotten(fixture: StoreFixture) {
    create(&fixture, &fixture.store, "mia", 1).await;
    apply(&fixture).await;
    let left = ScimDocument { active: false, says_active: true, ..person("mia") };
    let id = Uuid::from_u128(1).to_string();
    let ask = ScimAsk::User { member: member("mia"), id, write: Box::new(ScimWrite::Replace(left)) };
    // Podero could not be asked for a list.
    let request = ScimRequest { is_final: true, ..request(&fixture, &core(""), ask) };
    fixture.store.scim_write(request).await.expect("the store is there");
    apply(&fixture).await;
    let day = Duration::from_secs(86_400);
    assert_eq!(fixture.store.forget_members(day).await.expect("there"), 0);
    assert_eq!(fixture.store.scim_users().await.expect("there").len(), 1, "it stays readable");
    fixture.clock.advance(day);
    assert_eq!(fixture.store.forget_members(day).await.expect("there"), 1);
    let known = fixture.store.scim_users().await.expect("there").remove(0);
    assert!(known.record.is_none() && known.view(RoleFrom::Groups).is_none(), "{known:?}");
}

async fn a_user_who_never_joined_is_forgotten(fixture: StoreFixture) {
    let day = Duration::from_secs(86_400);
    let make = async |name: &str, id: u128, active: bool| {
        let document = ScimDocument { active, says_active: true, ..person(name) };
        let (id, write) = (Uuid::from_u128(id).to_string(), Box::new(ScimWrite::Create(document)));
        let ask = ScimAsk::User { member: member(name), id, write };
        fixture.store.scim_write(request(&fixture, &core(""), ask)).await.expect("the store is there");
    };
    make("mia", 1, false).await;
    // A join that a person skips.
    make("eve", 2, true).await;
    let claim = claimed(&fixture.store).await.expect("it is due");
    let refused = Fate::Parked { reason: Reason::EmailTaken, detail: "taken".to_owned() };
    let verdict = claim.work.settle_with(refused, fixture.clock.now(), &core(""));
    fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    // One who is a member, and one of whom something is under way.
    make("ida", 3, true).await;
    apply(&fixture).await;
    make("ben", 4, true).await;
    fixture.clock.advance(day);
    // Later than the others, by a moment.
    make("tom", 5, false).await;
    let names = async || {
        let users = fixture.store.scim_users().await.expect("there");
        users.into_iter().filter(|user| user.record.is_some()).map(|user| user.member.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(fixture.store.forget_members(day).await.expect("there"), 1);
    assert_eq!(names().await, ["ben", "eve", "ida", "tom"], "a parked join waits for a person");
    fixture.store.unpark(claim.work.event.id, RetryRequest::Skip, BY).await.expect("there").expect("it is parked");
    assert_eq!(fixture.store.forget_members(day).await.expect("there"), 1);
    assert_eq!(names().await, ["ben", "ida", "tom"]);
    let timeline = fixture.store.member(&member("eve")).await.expect("there").expect("its event is kept");
    assert_eq!(timeline.events.len(), 1, "what happened stays, without the person");
    assert_eq!(fixture.store.forget_members(day).await.expect("there"), 0);
}

async fn an_external_id_leads_to_one_member_also_after_a_deletion(fixture: StoreFixture) {
    let ask = async |ask: ScimAsk| {
        let request = ScimRequest { is_final: true, ..request(&fixture, &core(""), ask) };
        fixture.store.scim_write(request).await.expect("the store is there")
    };
    let id = |number: u128| Uuid::from_u128(number).to_string();
    let linked = async |name: &str, number: u128, external_id: &str| {
        let document = ScimDocument { external_id: Some(external_id.to_owned()), ..person(name) };
        let write = Box::new(ScimWrite::Replace(document));
        ask(ScimAsk::User { member: member(name), id: id(number), write }).await
    };
    create(&fixture, &fixture.store, "mia", 1).await;
    apply(&fixture).await;
    assert!(matches!(linked("mia", 1, "O-1").await, ScimAnswer::Done { .. }));
    assert_eq!(fixture.store.scim_member("O-1").await.expect("there"), Some(member("mia")));
    ask(ScimAsk::Delete { member: member("mia"), id: id(1) }).await;
    apply(&fixture).await;
    assert_eq!(fixture.store.scim_member("O-1").await.expect("there"), Some(member("mia")), "it is the same person");
    // A request that did not know it makes no second member.
    let document = ScimDocument { external_id: Some("O-1".to_owned()), ..person("eve") };
    let write = Box::new(ScimWrite::Create(document));
    let answer = ask(ScimAsk::User { member: member("O-1"), id: id(2), write }).await;
    assert!(matches!(answer, ScimAnswer::Refused(ScimError { status: 409, .. })), "{answer:?}");
    // One who is there and gets the id of one who is gone has it from then on.
    create(&fixture, &fixture.store, "ida", 3).await;
    apply(&fixture).await;
    assert!(matches!(linked("ida", 3, "O-1").await, ScimAnswer::Done { .. }));
    assert_eq!(fixture.store.scim_member("O-1").await.expect("there"), Some(member("ida")));
    create(&fixture, &fixture.store, "tom", 4).await;
    let double = linked("tom", 4, "O-1").await;
    assert!(matches!(double, ScimAnswer::Refused(ScimError { status: 409, .. })), "{double:?}");
}

async fn a_group_of_many_is_stored_as_a_set(fixture: StoreFixture) {
    const MANY: u128 = 40;
    let name = |number: u128| format!("M-{number:03}");
    for number in 1..=MANY {
        create(&fixture, &fixture.store, &name(number), number).await;
    }
    while let Some(claim) = claimed(&fixture.store).await {
        let verdict = claim.work.settle_with(Fate::Applied { stale: Vec::new() }, fixture.clock.now(), &core(""));
        fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    }
    fixture.clock.advance(Duration::from_secs(1));
    let policy = core("allow_admins = true");
    let add = || ScimAsk::Group {
        group: ScimGroup::Admin,
        members: (1..=MANY).map(|number| (member(&name(number)), true)).collect(),
    };
    let asked = async || fixture.store.scim_write(request(&fixture, &policy, add())).await.expect("there");
    let ScimAnswer::Done { users, events } = asked().await else { panic!("done") };
    assert_eq!((users.len(), events.len()), (40, 40));
    let is_in =
        |user: &KnownUser| user.view(RoleFrom::Groups).is_some_and(|view| view.groups.contains(&ScimGroup::Admin));
    assert!(users.iter().all(is_in));
    assert_eq!(fixture.store.scim_users().await.expect("there"), users, "what is answered is what is read");
    // The same again makes nothing: each has one event that is under way.
    let ScimAnswer::Done { events, .. } = asked().await else { panic!("done") };
    assert!(events.is_empty(), "{events:?}");
    assert!(fixture.store.scim_users().await.expect("there").iter().all(|user| user.open.len() == 1));
}

async fn a_late_request_changes_no_user_that_was_made_anew(fixture: StoreFixture) {
    let ask = async |ask: ScimAsk| {
        let request = ScimRequest { is_final: true, ..request(&fixture, &core(""), ask) };
        fixture.store.scim_write(request).await.expect("the store is there")
    };
    let id = |number: u128| Uuid::from_u128(number).to_string();
    let delete = |number: u128| ScimAsk::Delete { member: member("mia"), id: id(number) };
    let join = || ScimAsk::Group { group: ScimGroup::Staff, members: [(member("mia"), true)].into() };
    create(&fixture, &fixture.store, "mia", 1).await;
    apply(&fixture).await;
    assert!(matches!(ask(delete(1)).await, ScimAnswer::Done { .. }));
    // A request about a group that was read before.
    let blank = ask(join()).await;
    assert!(matches!(blank, ScimAnswer::Refused(ScimError { status: 400, .. })), "{blank:?}");
    apply(&fixture).await;
    assert!(matches!(create(&fixture, &fixture.store, "mia", 2).await, ScimAnswer::Done { .. }));
    let replace = ScimWrite::Replace(ScimDocument { display_name: Some("M".into()), ..person("mia") });
    let late = [delete(1), ScimAsk::User { member: member("mia"), id: id(1), write: Box::new(replace) }];
    for late in late {
        let answer = ask(late).await;
        assert!(matches!(answer, ScimAnswer::Refused(ScimError { status: 404, .. })), "{answer:?}");
    }
    let known = fixture.store.scim_users().await.expect("there").remove(0);
    let view = known.view(RoleFrom::Groups).expect("there");
    assert_eq!((view.id, view.document.active, view.document.display_name), (id(2), true, None));
}

async fn of_two_requests_at_once_one_keeps_enough_admins(fixture: StoreFixture) {
    let policy = core("allow_admins = true\nmin_admins = 2");
    let admin = |number: u128| Colleague {
        id: Uuid::from_u128(number),
        role: PoderoRole::Admin,
        external_id: Some(format!("M-{number}")),
        profile: std::collections::BTreeMap::from([(MemberField::Email, format!("M-{number}@example.com"))]),
        last_login: None,
        has_joined: true,
    };
    for number in 1..=3 {
        create(&fixture, &fixture.store, &format!("M-{number}"), number).await;
        apply(&fixture).await;
    }
    let leave = async |store: &Store, number: u128| {
        let left = ScimDocument { active: false, says_active: true, ..person(&format!("M-{number}")) };
        let ask = ScimAsk::User {
            member: member(&format!("M-{number}")),
            id: Uuid::from_u128(number).to_string(),
            write: Box::new(ScimWrite::Replace(left)),
        };
        store.scim_write(request(&fixture, &policy, ask)).await.expect("the store is there")
    };
    assert_eq!(leave(&fixture.store, 1).await, ScimAnswer::WantsList, "there is none");
    fixture.store.keep_staff(fixture.clock.now(), (1..=3).map(admin).collect(), Vec::new()).await.expect("there");
    let other = fixture.beside().await;
    let (first, second) = tokio::join!(leave(&fixture.store, 1), leave(&other, 2));
    let done = [&first, &second].into_iter().filter(|answer| matches!(answer, ScimAnswer::Done { .. })).count();
    let is_refused = |answer: &&ScimAnswer| matches!(answer, ScimAnswer::Refused(ScimError { status: 403, detail, .. }) if detail.starts_with("too_few_admins"));
    let refused = [&first, &second].into_iter().filter(is_refused).count();
    assert_eq!((done, refused), (1, 1), "{first:?} {second:?}");
}

/// A bridge with an identity provider.
async fn world(database: Database, team: &str) -> World {
    world_with(database, team, "").await
}

async fn world_with(database: Database, team: &str, more: &str) -> World {
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n[team]\nenabled = true\n{team}\n\
         [[scim.token]]\nname = \"entra\"\nsecret = \"{TOKEN}\"\n{more}\n"
    );
    World::start(database, Settings { toml, environment: Vec::new() }).await
}

async fn postgres() -> Database {
    Database::Postgres(tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database"))
}

/// Asks as a provider does.
async fn ask(world: &World, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = world.http.request(method, world.door(&format!("/scim/v2{path}"))).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.header("content-type", "application/scim+json").body(body.to_string());
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn patch(world: &World, path: &str, operations: Value) -> (u16, Value) {
    let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    ask(world, "PATCH", path, Some(body)).await
}

/// Waits until a user shows this state.
async fn shows(world: &World, id: &str, state: &str) -> Value {
    until(&format!("the user is {state}"), async || {
        let (_, user) = ask(world, "GET", &format!("/Users/{id}"), None).await;
        (user[EXTENSION]["state"] == state).then_some(user)
    })
    .await
}

async fn user_at_podero(world: &World, member: &str) -> Option<Value> {
    let state = world.sandbox_state().await;
    let users = state["users"].as_array().cloned().unwrap_or_default();
    users.into_iter().find(|user| user["external_user_id"] == member && user["deleted"] != true)
}

async fn invitations(world: &World) -> usize {
    world.get(&world.sandbox("/mailbox")).await.as_array().map_or(0, Vec::len)
}

fn entra_user(name: &str, object_id: &str) -> Value {
    json!({
        "schemas": [
            "urn:ietf:params:scim:schemas:core:2.0:User",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
        ],
        "externalId": object_id,
        "userName": format!("{name}@utility.example"),
        "active": true,
        "displayName": name,
        "emails": [{"primary": true, "type": "work", "value": format!("{name}@utility.example")}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": name, "familyName": "Berg", "givenName": name},
        "roles": [],
    })
}

/// Makes a user, and waits until Podero has it.
async fn provisioned(world: &World, name: &str, object_id: &str) -> String {
    let (status, user) = ask(world, "POST", "/Users", Some(entra_user(name, object_id))).await;
    assert_eq!(status, 201, "{user}");
    let id = user["id"].as_str().expect("an id").to_owned();
    shows(world, &id, "settled").await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_id_provisions_a_colleague_on_sqlite() {
    whole_life(world(Database::Sqlite, "email_domains = [\"utility.example\"]").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_id_provisions_a_colleague_on_postgres() {
    whole_life(world(postgres().await, "email_domains = [\"utility.example\"]").await).await;
}

async fn whole_life(world: World) {
    let find = "/Users?filter=userName%20eq%20%22mia%40utility.example%22&startIndex=1&count=1";
    let (status, none) = ask(&world, "GET", find, None).await;
    assert_eq!((status, &none["totalResults"], &none["Resources"]), (200, &json!(0), &json!([])));
    let id = provisioned(&world, "mia", "O-1").await;
    let (_, found) = ask(&world, "GET", find, None).await;
    assert_eq!((&found["totalResults"], &found["Resources"][0]["id"]), (&json!(1), &json!(id)));
    let path = format!("/Users/{id}");
    assert_eq!(ask(&world, "GET", "/Users/O-1", None).await.0, 404, "an external id is no id");
    let (status, double) = ask(&world, "POST", "/Users", Some(entra_user("mia", "O-2"))).await;
    assert_eq!((status, &double["scimType"]), (409, &json!("uniqueness")), "{double}");
    let there = user_at_podero(&world, "O-1").await.expect("invited");
    assert_eq!((&there["role"], &there["email"]), (&json!("staff"), &json!("mia@utility.example")));
    let (status, _) = patch(
        &world,
        &path,
        json!([
            {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "m.hill@utility.example"},
            {"op": "Replace", "path": "name.familyName", "value": "Hill"},
        ]),
    )
    .await;
    assert_eq!(status, 200);
    shows(&world, &id, "settled").await;
    let there = user_at_podero(&world, "O-1").await.expect("there");
    assert_eq!((&there["last_name"], &there["email"]), (&json!("Hill"), &json!("m.hill@utility.example")));
    let (status, off) = patch(&world, &path, json!([{"op": "Replace", "path": "active", "value": "False"}])).await;
    assert_eq!((status, &off["active"]), (200, &json!(false)), "{off}");
    let off = shows(&world, &id, "settled").await;
    assert_eq!(off["active"], json!(false), "it stays readable");
    assert!(user_at_podero(&world, "O-1").await.is_none());
    patch(&world, &path, json!([{"op": "Replace", "path": "active", "value": "True"}])).await;
    shows(&world, &id, "settled").await;
    assert!(user_at_podero(&world, "O-1").await.is_some());
    assert_eq!(invitations(&world).await, 2, "one for each time they joined");
    let row = world.get(&world.operator("/v1/team")).await["members"][0].clone();
    assert_eq!((&row["member_id"], &row["origin"]), (&json!("O-1"), &json!("scim")), "{row}");
    let timeline = world.get(&world.operator("/v1/team/O-1")).await;
    assert!(timeline["events"][0]["door"] == "scim" && timeline["events"][0]["source"] == "entra", "{timeline}");
    assert_eq!(ask(&world, "DELETE", &path, None).await.0, 204);
    assert_eq!(ask(&world, "GET", &path, None).await.0, 404);
    until("Podero has forgotten", async || user_at_podero(&world, "O-1").await.is_none().then_some(())).await;
    let again = provisioned(&world, "mia", "O-1").await;
    assert_ne!(again, id, "the name is free again, the id is not");
    let kinds: Vec<String> = world.audited("scim.change").await;
    assert!(kinds.iter().all(|row| row.starts_with("scim:entra member done - ")), "{kinds:?}");
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let made = world.audited("podero.create_user").await;
    assert!(made.len() == 3 && made.iter().all(|row| row.starts_with("scim:entra member done")), "{made:?}");
    let joins = "podero_bridge_events_received_total{source=\"entra\",transport=\"scim\",type=\"team.member_joined\"}";
    assert_eq!(world.metric(joins).await, Some(3.0));
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_set_roles_and_name_whom_they_lose() {
    let world = world(Database::Sqlite, "allow_admins = true").await;
    let (mia, eve) = (provisioned(&world, "mia", "O-1").await, provisioned(&world, "eve", "O-2").await);
    let (status, found) =
        ask(&world, "GET", "/Groups?excludedAttributes=members&filter=displayName%20eq%20%22Admin%22", None).await;
    assert_eq!((status, &found["totalResults"]), (200, &json!(1)));
    assert!(found["Resources"][0].get("members").is_none(), "{found}");
    let both = json!([{"op": "Add", "path": "members", "value": [{"value": mia}, {"value": eve}]}]);
    let (status, group) = patch(&world, "/Groups/admin", both).await;
    assert_eq!((status, group["members"].as_array().map(Vec::len)), (200, Some(2)), "{group}");
    for (id, object) in [(&mia, "O-1"), (&eve, "O-2")] {
        shows(&world, id, "settled").await;
        assert_eq!(user_at_podero(&world, object).await.expect("there")["role"], "admin");
    }
    // By the letter of the standard this would remove all.
    let one = json!([{"op": "Remove", "path": "members", "value": [{"value": eve}]}]);
    let (status, group) = patch(&world, "/Groups/admin", one).await;
    assert_eq!((status, &group["members"][0]["value"]), (200, &json!(mia)), "{group}");
    shows(&world, &eve, "settled").await;
    assert_eq!(user_at_podero(&world, "O-2").await.expect("there")["role"], "staff");
    assert_eq!(user_at_podero(&world, "O-1").await.expect("there")["role"], "admin");
    for (method, path, body, status) in [
        ("PATCH", "/Groups/admin", json!({"Operations": [{"op": "Remove", "path": "members"}]}), 400),
        ("PUT", "/Groups/admin", json!({"displayName": "admin", "members": []}), 400),
        ("PUT", "/Groups/admin", json!({"displayName": "admin", "members": [{"value": "O-1"}]}), 400),
        ("POST", "/Groups", json!({"displayName": "boss"}), 403),
        ("DELETE", "/Groups/admin", Value::Null, 403),
        ("GET", "/Groups/boss", Value::Null, 404),
    ] {
        let answer = ask(&world, method, path, Some(body).filter(|body| !body.is_null())).await;
        assert_eq!(answer.0, status, "{method} {path}: {answer:?}");
    }
    assert_eq!(user_at_podero(&world, "O-1").await.expect("there")["role"], "admin", "nothing has changed");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_removal_too_many_waits_for_an_approval_and_shows_it() {
    let world = world(Database::Sqlite, "removals_max = 1").await;
    let (mia, eve) = (provisioned(&world, "mia", "O-1").await, provisioned(&world, "eve", "O-2").await);
    let off = json!([{"op": "Replace", "path": "active", "value": "False"}]);
    patch(&world, &format!("/Users/{mia}"), off.clone()).await;
    shows(&world, &mia, "settled").await;
    assert_eq!(patch(&world, &format!("/Users/{eve}"), off.clone()).await.0, 200);
    let waits = shows(&world, &eve, "needs_approval").await;
    assert_eq!((&waits["active"], &waits[EXTENSION]["reason"]), (&json!(true), &json!("team_brake")), "{waits}");
    patch(&world, &format!("/Users/{eve}"), off).await;
    let parked = world.get(&world.operator("/v1/parked?reason=team_brake")).await;
    assert_eq!(
        parked["events"].as_array().or(parked["parked"].as_array()).map(Vec::len),
        Some(1),
        "asked for twice, parked once: {parked}"
    );
    let id = world.get(&world.operator("/v1/team/O-2")).await["events"][0]["id"].as_str().expect("an id").to_owned();
    let retry = world.operator(&format!("/v1/parked/{id}/retry"));
    let (status, answer) = world.post(&retry, "application/json", json!({"approve": true}).to_string()).await;
    assert!(status < 300, "{status} {answer}");
    let gone = shows(&world, &eve, "settled").await;
    assert_eq!(gone["active"], json!(false));
    assert!(user_at_podero(&world, "O-2").await.is_none());
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_refuses_is_answered_at_once_and_changes_nothing() {
    let team = "email_domains = [\"utility.example\"]\nprotected = [\"O-9\"]";
    let world = world(Database::Sqlite, team).await;
    let mia = provisioned(&world, "mia", "O-1").await;
    let head = provisioned(&world, "head", "O-9").await;
    let mut stranger = entra_user("eve", "O-2");
    stranger["emails"][0]["value"] = json!("eve@elsewhere.example");
    let to_admin = json!({"Operations": [{"op": "add", "path": "members", "value": [{"value": mia}]}]});
    let off = json!({"Operations": [{"op": "replace", "path": "active", "value": false}]});
    let away = json!({"Operations": [
        {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "mia@elsewhere.example"}]});
    let mut address = entra_user("ida", "O-3");
    address["externalId"] = json!("ida@utility.example");
    for (method, path, body, status, reason) in [
        ("POST", "/Users".to_owned(), stranger, 403, "foreign_email_domain"),
        ("PATCH", format!("/Users/{mia}"), away, 403, "foreign_email_domain"),
        ("PATCH", "/Groups/admin".to_owned(), to_admin, 403, "admin_not_allowed"),
        ("PATCH", format!("/Users/{head}"), off, 403, "protected_member"),
        ("POST", "/Users".to_owned(), address, 400, "member_id_is_address"),
    ] {
        let (found, error) = ask(&world, method, &path, Some(body)).await;
        assert_eq!(found, status, "{error}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(reason)), "{error}");
        assert!(!error.to_string().contains("elsewhere.example"), "no value is repeated: {error}");
    }
    let rows = world.audited("team.change").await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().all(|row| row.starts_with("scim:entra member refused ")), "{rows:?}");
    let (_, list) = ask(&world, "GET", "/Users", None).await;
    assert_eq!(list["totalResults"], json!(2), "{list}");
    assert!(world.get(&world.operator("/v1/parked")).await.to_string().matches("O-").count() == 0);
    for id in [mia, head] {
        let (_, user) = ask(&world, "GET", &format!("/Users/{id}"), None).await;
        assert_eq!((&user["active"], &user[EXTENSION]["state"]), (&json!(true), &json!("settled")));
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_whom_events_named_are_found_and_taken_over() {
    let world = world(Database::Sqlite, "").await;
    let data = json!({"member_id": "M-1", "email": "mia@utility.example", "role": "staff", "first_name": "Mia"});
    let join = event("e1", "team.member_joined", "2026-10-01T12:00:00Z", &data);
    let (status, _) = world.post(&world.door("/v1/events/hr"), "application/cloudevents+json", join.to_string()).await;
    assert_eq!(status, 202);
    until("the member is there", async || user_at_podero(&world, "M-1").await).await;
    let (_, found) = ask(&world, "GET", "/Users?filter=userName%20eq%20%22MIA%40utility.example%22", None).await;
    let user = &found["Resources"][0];
    let id = user["id"].as_str().expect("an id").to_owned();
    assert_eq!((&user["externalId"], user["id"] == "M-1"), (&json!("M-1"), false), "{user}");
    let (status, _) = ask(&world, "POST", "/Users", Some(entra_user("mia", "O-1"))).await;
    assert_eq!(status, 409, "the name is taken by one whom only events have named");
    let link = json!([{"op": "Add", "path": "externalId", "value": "O-1"}, {"op": "Replace", "path": "name.givenName", "value": "Maria"}]);
    let (status, user) = patch(&world, &format!("/Users/{id}"), link).await;
    assert_eq!((status, &user["externalId"], &user["id"]), (200, &json!("O-1"), &json!(id)), "{user}");
    shows(&world, &id, "settled").await;
    assert_eq!(user_at_podero(&world, "M-1").await.expect("the same member")["first_name"], "Maria");
    let row = world.get(&world.operator("/v1/team")).await["members"][0].clone();
    assert_eq!(
        (&row["member_id"], &row["origin"]),
        (&json!("M-1"), &json!("event")),
        "an event named them first: {row}"
    );
    // Deleted and made again by the id that the provider has for them: the same member.
    assert_eq!(ask(&world, "DELETE", &format!("/Users/{id}"), None).await.0, 204);
    until("Podero has removed them", async || user_at_podero(&world, "M-1").await.is_none().then_some(())).await;
    let id = provisioned(&world, "mia", "O-1").await;
    assert!(user_at_podero(&world, "O-1").await.is_none());
    assert_eq!(user_at_podero(&world, "M-1").await.expect("the same member")["first_name"], "mia");
    // The word of HR counts, and is shown.
    let now = podero_bridge::clock::Clock::system().now().to_string();
    let left = event("e2", "team.member_left", &now, &json!({"member_id": "M-1"}));
    let (status, answer) =
        world.post(&world.door("/v1/events/hr"), "application/cloudevents+json", left.to_string()).await;
    assert_eq!(status, 202, "{answer}");
    until("the user is not active", async || {
        let (_, user) = ask(&world, "GET", &format!("/Users/{id}"), None).await;
        (user["active"] == json!(false)).then_some(())
    })
    .await;
    assert_eq!(invitations(&world).await, 2, "one for each time they joined");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_door_and_is_replaced_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("okta");
    std::fs::write(&file, "first-token-of-okta\n").expect("written");
    let more = format!("[[scim.token]]\nname = \"okta\"\nsecret_file = \"{}\"", file.display());
    let world = world_with(Database::Sqlite, "", &more).await;
    let users = world.door("/scim/v2/Users");
    let status = async |token: Option<&str>| {
        let request = world.http.get(&users);
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.expect("an answer");
        let is_challenged = answer.headers().contains_key("www-authenticate");
        let (status, body) = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert_eq!(status == 401, is_challenged);
        assert!(status == 200 || body.contains("urn:ietf:params:scim:api:messages:2.0:Error"), "{body}");
        status
    };
    assert_eq!((status(None).await, status(Some("wrong-token-of-okta")).await), (401, 401));
    assert_eq!((status(Some(TOKEN)).await, status(Some("first-token-of-okta")).await), (200, 200));
    std::fs::write(&file, "second-token-of-okta\nfirst-token-of-okta\n").expect("written");
    until("both are known", async || (status(Some("second-token-of-okta")).await == 200).then_some(())).await;
    assert_eq!(status(Some("first-token-of-okta")).await, 200);
    std::fs::write(&file, "second-token-of-okta\n").expect("written");
    until("the old one is refused", async || (status(Some("first-token-of-okta")).await == 401).then_some(())).await;
    assert_eq!(status(Some("second-token-of-okta")).await, 200);
    let refused = world.audited("access.use").await;
    assert!(refused.iter().any(|row| row == "bridge route refused no_credentials -"), "{refused:?}");
    assert!(refused.iter().any(|row| row == "bridge route refused wrong_token -"), "{refused:?}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_their_bounds() {
    let world = world(Database::Sqlite, "").await;
    let quoted = |length: usize| format!("/Users?filter=userName%20eq%20%22{}%22", "x".repeat(length));
    assert_eq!(ask(&world, "GET", &quoted(1_024 - 14), None).await.0, 200);
    let (status, error) = ask(&world, "GET", &quoted(1_025 - 14), None).await;
    assert_eq!((status, &error["scimType"]), (400, &json!("invalidFilter")));
    assert_eq!(ask(&world, "GET", &quoted(5_000), None).await.0, 400, "the whole query has a limit too");
    let (status, error) = ask(&world, "GET", "/Users?filter=emails%20co%20%22x%22", None).await;
    assert_eq!((status, &error["scimType"]), (400, &json!("invalidFilter")));
    let large = json!({"userName": "a@example.com", "title": "x".repeat(1 << 20)});
    assert_eq!(ask(&world, "POST", "/Users", Some(large)).await.0, 413);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let post = world.http.post(world.door("/scim/v2/Users")).bearer_auth(TOKEN);
    let answer = post.header("content-type", "application/json").body(deep).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 400);
    let post = world.http.post(world.door("/scim/v2/Users")).bearer_auth(TOKEN);
    let answer = post.header("content-type", "text/plain").body("{}").send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 415);
    let twice = r#"{"userName":"a@example.com","userName":"b@example.com"}"#;
    let post = world.http.post(world.door("/scim/v2/Users")).bearer_auth(TOKEN);
    let answer = post.header("content-type", "application/scim+json").body(twice).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 400);
    for (method, path, status) in [
        ("PUT", "/Users", 405),
        ("POST", "/Schemas", 405),
        ("GET", "/Nothing", 404),
        ("GET", "/Users/unknown", 404),
        ("GET", "", 404),
        ("POST", "/Bulk", 501),
        ("POST", "/.search", 501),
        ("POST", "/Users/.search", 501),
        ("GET", "/Me", 501),
        ("GET", "/ServiceProviderConfig", 200),
        ("GET", "/ResourceTypes/User", 200),
        ("GET", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User", 200),
    ] {
        let (found, body) = ask(&world, method, path, None).await;
        assert_eq!(found, status, "{method} {path}: {body}");
        assert!(body["schemas"].is_array(), "{method} {path}: {body}");
    }
    // Many at once, until one is slowed: a busy machine answers few a second, and each second gives back some.
    let one = || async {
        let request = world.http.get(world.door("/scim/v2/ServiceProviderConfig")).bearer_auth(TOKEN);
        request.send().await.expect("an answer")
    };
    let mut slowed = None;
    for _ in 0..200 {
        let answers = join_all((0..50).map(|_| one())).await;
        slowed = answers.into_iter().find(|answer| answer.status().as_u16() == 429);
        if slowed.is_some() {
            break;
        }
    }
    let slowed = slowed.expect("a burst beyond the rate is slowed");
    assert!(slowed.headers().contains_key("retry-after"), "{slowed:?}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_stored_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let path = folder.path().to_owned();
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n[team]\nenabled = true\n\
         [[scim.token]]\nname = \"okta\"\nsecret = \"{TOKEN}\"\n"
    );
    let world = World::start_on(folder, url, Settings { toml, environment: Vec::new() }).await;
    let mut user = entra_user("mia", "O-1");
    user["password"] = json!("hunter2-hunter2");
    let (status, shown) = ask(&world, "POST", "/Users", Some(user)).await;
    assert!(status == 201 && !shown.to_string().contains("hunter2"), "{shown}");
    let id = shown["id"].as_str().expect("an id").to_owned();
    let operations = json!([
        {"op": "replace", "path": "password", "value": "hunter2-hunter2"},
        {"op": "replace", "path": "name.givenName", "value": "Maria"},
    ]);
    assert_eq!(patch(&world, &format!("/Users/{id}"), operations).await.0, 200);
    shows(&world, &id, "settled").await;
    for entry in std::fs::read_dir(&path).expect("the folder") {
        let file = entry.expect("an entry").path();
        let Ok(bytes) = std::fs::read(&file) else { continue };
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{}", file.display());
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_podero_is_away_requests_are_taken_and_carried_out_later() {
    let world = world(Database::Sqlite, "").await;
    world.fault(&json!({"operation": "create_user", "kind": "status", "status": 500, "times": 1000})).await;
    let (status, user) = ask(&world, "POST", "/Users", Some(entra_user("mia", "O-1"))).await;
    assert_eq!((status, &user[EXTENSION]["state"]), (201, &json!("pending")), "{user}");
    let id = user["id"].as_str().expect("an id").to_owned();
    assert_eq!(shows(&world, &id, "pending").await["active"], json!(true));
    world.no_faults().await;
    shows(&world, &id, "settled").await;
    assert!(user_at_podero(&world, "O-1").await.is_some());
    assert_eq!(invitations(&world).await, 1);
    world.bridge.stop().await;
}

#[test]
fn a_token_without_a_team_is_a_mistake() {
    let parse = |toml: &str| podero_bridge::config::Config::parse(toml, &std::collections::BTreeMap::new(), true);
    let token = "[[scim.token]]\nname = \"entra\"\nsecret = \"a-token-of-entra-id\"\n";
    let problems = parse(token).expect_err("no team").to_string();
    assert!(problems.contains("scim.token") && problems.contains("team.enabled"), "{problems}");
    assert!(parse(&format!("[team]\nenabled = true\n{token}")).is_ok());
    let twice =
        format!("[team]\nenabled = true\n{token}[[scim.token]]\nname = \"okta\"\nsecret = \"a-token-of-entra-id\"\n");
    let problems = parse(&twice).expect_err("the same token").to_string();
    assert!(problems.contains("scim.token.okta") && !problems.contains("a-token-of-entra-id"), "{problems}");
    let config = parse("[scim]\nrole_from = \"roles\"").expect("valid");
    assert_eq!(config.scim.role_from, RoleFrom::Roles);
}
