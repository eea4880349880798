//! Requests as the providers document them, and what becomes of a user and its member.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::event::EventState;
use super::super::fixtures::policy;
use super::super::team::{
    Colleague, ExpiryChange, MemberField, MemberId, MemberRole, ObservedMember, PoderoRole, StaffList, TeamEvent,
    TeamHappening, TeamMember,
};
use super::super::verdict::Reason;
use super::super::{EventId, Timestamp};
use super::*;

const NOW: i64 = 1_800_000_000_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(NOW + second * 1_000_000)
}

fn context(second: i64) -> ScimContext {
    ScimContext { role_from: RoleFrom::Groups, now: at(second) }
}

fn member() -> MemberId {
    MemberId::accept("O-1").expect("valid")
}

/// A user as Entra ID makes one (`externalId` is `objectId`), with attributes that the bridge does not have.
fn entra_user() -> Value {
    json!({
        "schemas": [USER_SCHEMA, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "externalId": "O-1",
        "userName": "Mia@utility.example",
        "active": true,
        "displayName": "Mia Berg",
        "title": "Agent",
        "emails": [{"primary": true, "type": "work", "value": "mia@utility.example"}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Mia Berg", "familyName": "Berg", "givenName": "Mia"},
        "roles": [],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Service", "manager": {"value": "1"}},
    })
}

fn patch(operations: Value) -> ScimWrite {
    let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    ScimWrite::Patch(read_patch(&body).expect("operations"))
}

/// A bridge in small: each event is carried out when it is told to.
struct World {
    known: KnownUser,
    second: i64,
    role_from: RoleFrom,
}

impl World {
    fn new() -> Self {
        Self { known: KnownUser::new(member()), second: 0, role_from: RoleFrom::Groups }
    }

    fn with(user: &Value) -> Self {
        let mut world = Self::new();
        let document = ScimDocument::read(user).expect("a user");
        world.write(&ScimWrite::Create(document)).expect("made");
        world.settle();
        world
    }

    fn context(&self) -> ScimContext {
        ScimContext { role_from: self.role_from, now: at(self.second) }
    }

    fn write(&mut self, write: &ScimWrite) -> Result<Vec<TeamHappening>, ScimError> {
        self.second += 1;
        let change = change_user(&self.known, write, "our-id", self.context())?;
        Ok(self.take(change))
    }

    fn regroup(&mut self, group: ScimGroup, is_in: bool) -> Vec<TeamHappening> {
        self.second += 1;
        let change = regroup(&self.known, group, is_in, self.context());
        self.take(change)
    }

    fn take(&mut self, change: ScimChange) -> Vec<TeamHappening> {
        self.known.record = Some(change.record);
        for happening in &change.happenings {
            self.open(change.time, happening.clone(), EventState::Pending, None);
        }
        change.happenings
    }

    fn open(&mut self, time: Timestamp, happening: TeamHappening, state: EventState, reason: Option<&str>) {
        let id = EventId(Uuid::from_u128(self.known.open.len() as u128 + 1 + (self.second as u128) * 1_000));
        let event =
            TeamEvent { id, member: member(), time, received_at: at(self.second), effective_at: None, happening };
        self.known.open.push(OpenTeamEvent { event, state, reason: reason.map(str::to_owned) });
    }

    /// An event of the HR system, carried out at once.
    fn hears(&mut self, happening: TeamHappening) {
        self.second += 1;
        self.open(at(self.second), happening, EventState::Pending, None);
        self.settle();
    }

    fn settle(&mut self) {
        let facts = self.known.facts();
        self.known.open.retain(|open| open.state == EventState::Parked);
        self.known.state.facts = facts;
    }

    fn parks(&mut self, reason: &str) {
        for open in &mut self.known.open {
            (open.state, open.reason) = (EventState::Parked, Some(reason.to_owned()));
        }
    }

    fn view(&self) -> ScimView {
        self.known.view(self.role_from).expect("there is one")
    }

    fn json(&self) -> Value {
        user_json(&self.view(), &Projection::default())
    }
}

fn joined(role: MemberRole, profile: &[(MemberField, &str)]) -> TeamHappening {
    let profile = profile.iter().map(|(field, text)| (*field, (*text).to_owned())).collect();
    TeamHappening::Joined { role, profile, expires: ExpiryChange::Unsaid }
}

fn updated(profile: &[(MemberField, &str)]) -> TeamHappening {
    let profile = profile.iter().map(|(field, text)| (*field, (*text).to_owned())).collect();
    TeamHappening::Updated { profile, expires: ExpiryChange::Unsaid }
}

#[test]
fn a_user_of_entra_id_becomes_a_join() {
    let mut world = World::new();
    let document = ScimDocument::read(&entra_user()).expect("a user");
    assert_eq!(document.member("our-id").expect("an id").as_str(), "O-1");
    let happened = world.write(&ScimWrite::Create(document)).expect("made");
    let person =
        [(MemberField::Email, "mia@utility.example"), (MemberField::FirstName, "Mia"), (MemberField::LastName, "Berg")];
    assert_eq!(happened, [joined(MemberRole::Staff, &person)]);
    let shown = world.json();
    assert_eq!(shown["id"], "our-id");
    assert_eq!((&shown["externalId"], &shown["userName"]), (&json!("O-1"), &json!("Mia@utility.example")));
    assert_eq!((&shown["active"], &shown[BRIDGE_SCHEMA]["state"]), (&json!(true), &json!("pending")));
    assert_eq!(shown["name"], json!({"givenName": "Mia", "familyName": "Berg"}));
    assert_eq!(shown["groups"][0]["value"], "staff");
    assert!(shown.get("title").is_none() && shown["meta"]["created"].is_string());
    world.settle();
    assert_eq!(world.json()[BRIDGE_SCHEMA], json!({"state": "settled"}));
}

#[test]
fn an_id_of_the_provider_is_no_id_of_ours_and_no_address() {
    let mut user = entra_user();
    user["externalId"] = json!("mia@utility.example");
    let refused = ScimDocument::read(&user).expect("a user").member("x").expect_err("an address");
    assert_eq!((refused.status, refused.kind), (400, Some(ScimType::InvalidValue)));
    user["externalId"] = Value::Null;
    assert_eq!(ScimDocument::read(&user).expect("a user").member("our-id").expect("ours").as_str(), "our-id");
    // One that only events have named has an id that is not the member's.
    let mut known = KnownUser::new(member());
    known.state.facts = {
        let mut world = World::new();
        world.hears(joined(MemberRole::Staff, &[(MemberField::Email, "mia@utility.example")]));
        world.known.state.facts
    };
    let view = known.view(RoleFrom::Groups).expect("an event named it");
    assert_ne!(view.id, "O-1");
    assert_eq!((&*view.document.user_name, view.document.external_id.as_deref()), ("mia@utility.example", Some("O-1")));
}

/// What providers send to take access away, and to give it back.
#[test]
fn active_is_a_leave_and_a_join_in_every_spelling() {
    for operations in [
        json!([{"op": "Replace", "path": "active", "value": "False"}]),
        json!([{"op": "replace", "path": "active", "value": false}]),
        json!([{"op": "replace", "value": {"active": false}}]),
        json!([{"op": "Add", "path": "active", "value": "false"}]),
        json!([{"op": "Replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:active", "value": "False"}]),
        json!([{"op": "REPLACE", "value": {"id": "our-id", "active": false}}]),
    ] {
        let mut world = World::with(&entra_user());
        assert_eq!(world.write(&patch(operations.clone())).expect("taken"), [TeamHappening::Left], "{operations}");
        world.settle();
        assert_eq!(world.json()["active"], json!(false), "it stays readable");
        assert!(world.write(&patch(operations)).expect("taken").is_empty(), "it is not asked for twice");
        let name = json!([{"op": "Replace", "path": "name.givenName", "value": "Maria"}]);
        assert!(world.write(&patch(name)).expect("taken").is_empty(), "one who has left is not corrected");
        let back = world.write(&patch(json!([{"op": "Replace", "path": "active", "value": "True"}]))).expect("taken");
        let person = [
            (MemberField::Email, "mia@utility.example"),
            (MemberField::FirstName, "Maria"),
            (MemberField::LastName, "Berg"),
        ];
        assert_eq!(back, [joined(MemberRole::Staff, &person)]);
    }
}

#[test]
fn corrections_come_one_by_one_or_all_at_once() {
    let several = json!([
        {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "maria@utility.example"},
        {"op": "Add", "path": "name.givenName", "value": "Maria"},
        {"op": "Replace", "path": "displayName", "value": "Maria Berg"},
        {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "7"},
        {"op": "Remove", "path": "phoneNumbers[type eq \"mobile\"].value"},
    ]);
    let dotted = json!([{"op": "Replace", "value": {
        "name.givenName": "Maria",
        "emails[type eq \"work\"].value": "maria@utility.example",
        "displayName": "Maria Berg",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department": "Sales",
    }}]);
    for operations in [several, dotted] {
        let mut world = World::with(&entra_user());
        let expected = updated(&[(MemberField::Email, "maria@utility.example"), (MemberField::FirstName, "Maria")]);
        assert_eq!(world.write(&patch(operations.clone())).expect("taken"), [expected], "{operations}");
        let shown = world.json();
        assert_eq!(shown["emails"], json!([{"value": "maria@utility.example", "type": "work", "primary": true}]));
        assert_eq!((&shown["displayName"], &shown["name"]["givenName"]), (&json!("Maria Berg"), &json!("Maria")));
        world.settle();
        assert!(world.write(&patch(operations)).expect("taken").is_empty(), "the same once more changes nothing");
    }
}

#[test]
fn a_profile_of_okta_is_replaced_by_put() {
    let mut world = World::with(&entra_user());
    let put = json!({
        "schemas": [USER_SCHEMA], "id": "our-id", "externalId": "O-1", "userName": "mia@utility.example", "active": true,
        "name": {"givenName": "Mia", "familyName": "Hill"}, "password": "Secret-1", "groups": [], "locale": "en-US",
        "emails": [{"primary": true, "value": "mia@utility.example", "type": "work", "display": "mia"}],
    });
    let document = ScimDocument::read(&put).expect("a user");
    let happened = world.write(&ScimWrite::Replace(document)).expect("taken");
    assert_eq!(happened, [updated(&[(MemberField::LastName, "Hill")])]);
    let shown = world.json();
    assert!(shown.get("displayName").is_none(), "what a PUT does not say is gone");
    assert!(!shown.to_string().contains("Secret-1"));
    assert!(!serde_json::to_string(&world.known.record).expect("JSON").contains("Secret-1"));
}

#[test]
fn the_address_is_the_primary_one_else_the_only_one_else_the_name() {
    let address = |user_name: &str, emails: Value| {
        let user = json!({"userName": user_name, "emails": emails});
        ScimDocument::read(&user).map(|document| document.address().expect("checked").to_owned())
    };
    let two = json!([{"value": "a@x.example"}, {"value": "b@x.example", "primary": true}]);
    assert_eq!(address("mia", two).as_deref(), Ok("b@x.example"));
    assert_eq!(address("mia", json!([{"value": "a@x.example"}])).as_deref(), Ok("a@x.example"));
    assert_eq!(address("mia@x.example", json!([])).as_deref(), Ok("mia@x.example"));
    let none_counts = json!([{"value": "a@x.example"}, {"value": "b@x.example"}]);
    assert_eq!(address("mia@x.example", none_counts.clone()).as_deref(), Ok("mia@x.example"));
    for (user_name, emails) in
        [("mia", json!([])), ("mia", none_counts), ("mia@x.example", json!([{"value": "nobody"}]))]
    {
        let refused = address(user_name, emails).expect_err("no address");
        assert_eq!((refused.status, refused.kind), (400, Some(ScimType::InvalidValue)));
    }
    let two_primaries = json!([{"value": "a@x.example", "primary": true}, {"value": "b@x.example", "primary": "True"}]);
    assert!(address("mia@x.example", two_primaries).is_err());
}

#[test]
fn a_removal_that_waits_for_an_approval_leaves_the_user_active() {
    let mut world = World::with(&entra_user());
    let off = patch(json!([{"op": "Replace", "path": "active", "value": "False"}]));
    world.write(&off).expect("taken");
    assert_eq!(world.json()["active"], json!(false));
    world.parks("team_brake");
    let shown = world.json();
    assert_eq!(shown["active"], json!(true));
    assert_eq!(shown[BRIDGE_SCHEMA], json!({"state": "needs_approval", "reason": "team_brake"}));
    assert!(world.write(&off).expect("taken").is_empty(), "it is not asked for twice");
    // Approved.
    world.known.open.iter_mut().for_each(|open| open.state = EventState::Pending);
    assert_eq!(world.json()["active"], json!(false));
    world.settle();
    assert_eq!(world.json()[BRIDGE_SCHEMA], json!({"state": "settled"}));
}

#[test]
fn what_podero_refuses_is_shown_and_does_not_count() {
    let mut world = World::new();
    world.write(&ScimWrite::Create(ScimDocument::read(&entra_user()).expect("a user"))).expect("made");
    world.parks("email_taken");
    let shown = world.json();
    assert_eq!(shown[BRIDGE_SCHEMA], json!({"state": "refused", "reason": "email_taken"}));
    assert_eq!((&shown["active"], &shown["userName"]), (&json!(false), &json!("Mia@utility.example")));
    // A later join settles; the old one is nothing any more.
    world.write(&patch(json!([{"op": "replace", "path": "active", "value": true}]))).expect("taken");
    world.settle();
    assert_eq!(world.json()[BRIDGE_SCHEMA], json!({"state": "settled"}));
}

#[test]
fn what_events_say_of_a_user_is_shown_and_the_rest_stays() {
    let mut world = World::with(&entra_user());
    world.hears(updated(&[(MemberField::Email, "m.berg@utility.example"), (MemberField::LastName, "Hill")]));
    let shown = world.json();
    assert_eq!(shown["emails"], json!([{"value": "m.berg@utility.example", "type": "work", "primary": true}]));
    assert_eq!(shown["name"], json!({"givenName": "Mia", "familyName": "Hill"}));
    assert_eq!(shown["userName"], json!("Mia@utility.example"));
    world.hears(TeamHappening::RoleChanged { role: MemberRole::Admin });
    assert_eq!(world.view().groups, [ScimGroup::Admin]);
    // A correction of something else does not take the role back.
    let name = patch(json!([{"op": "Replace", "path": "displayName", "value": "M"}]));
    assert!(world.write(&name).expect("taken").is_empty());
    world.hears(TeamHappening::Left);
    assert_eq!(world.json()["active"], json!(false));
}

#[test]
fn an_event_ahead_of_its_time_does_not_undo_a_request_that_came_after_it() {
    let mut world = World::with(&entra_user());
    world.open(at(200), updated(&[(MemberField::FirstName, "Ahead")]), EventState::Pending, None);
    world.settle();
    let happened = world.write(&patch(json!([{"op": "Replace", "path": "name.givenName", "value": "Maria"}])));
    assert_eq!(happened, Ok(vec![updated(&[(MemberField::FirstName, "Maria")])]));
    assert_eq!(world.json()["name"]["givenName"], "Maria");
}

#[test]
fn groups_set_the_role() {
    let mut world = World::with(&entra_user());
    let to_admin = [TeamHappening::RoleChanged { role: MemberRole::Admin }];
    let to_staff = [TeamHappening::RoleChanged { role: MemberRole::Staff }];
    assert!(world.regroup(ScimGroup::Staff, true).is_empty());
    assert_eq!(world.regroup(ScimGroup::Admin, true), to_admin);
    assert_eq!(world.view().groups, [ScimGroup::Staff, ScimGroup::Admin]);
    world.settle();
    assert!(world.regroup(ScimGroup::Staff, false).is_empty(), "in admin: admin");
    assert_eq!(world.regroup(ScimGroup::Admin, false), to_staff);
    world.parks("team_brake");
    assert_eq!(world.view().groups, [ScimGroup::Admin], "it waits for an approval");
    assert!(world.regroup(ScimGroup::Admin, false).is_empty(), "it is not asked for twice");
    // Leaving both groups removes nobody.
    world.known.open.iter_mut().for_each(|open| open.state = EventState::Pending);
    world.settle();
    assert!(world.view().groups.is_empty() && world.view().document.active);
    // Of one who is not active it is kept, and counts once they join.
    world.write(&patch(json!([{"op": "replace", "path": "active", "value": false}]))).expect("taken");
    world.settle();
    assert!(world.regroup(ScimGroup::Admin, true).is_empty());
    let back = world.write(&patch(json!([{"op": "replace", "path": "active", "value": true}]))).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { role: MemberRole::Admin, .. }]), "{back:?}");
}

#[test]
fn the_attribute_roles_sets_the_role_where_it_counts() {
    let mut world = World::with(&entra_user());
    let admin = patch(json!([{"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "Admin"}]));
    assert!(world.write(&admin).expect("kept").is_empty(), "it does not count");
    assert_eq!(world.json()["roles"], json!([{"value": "Admin", "primary": true}]));
    // From the next request on it does.
    world.role_from = RoleFrom::Roles;
    let name = patch(json!([{"op": "Replace", "path": "displayName", "value": "M"}]));
    let to_admin = [TeamHappening::RoleChanged { role: MemberRole::Admin }];
    assert_eq!(world.write(&name).expect("taken"), to_admin);
    world.settle();
    assert!(world.write(&name).expect("taken").is_empty());
    assert!(world.regroup(ScimGroup::Admin, false).is_empty(), "the groups do not count");
    let refused = world.write(&patch(json!([{"op": "Replace", "path": "roles", "value": [{"value": "boss"}]}])));
    assert_eq!(refused.expect_err("no role").kind, Some(ScimType::InvalidValue));
    let gone = world.write(&patch(json!([{"op": "Remove", "path": "roles"}]))).expect("taken");
    assert_eq!(gone, [TeamHappening::RoleChanged { role: MemberRole::Staff }]);
}

#[test]
fn a_higher_role_at_podero_is_kept_by_a_join_and_shown() {
    let mut world = World::with(&entra_user());
    world.known.state.podero.user = ObservedMember::Present(Colleague {
        id: Uuid::from_u128(1),
        role: PoderoRole::Admin,
        external_id: Some("O-1".into()),
        profile: BTreeMap::new(),
        last_login: None,
        has_joined: true,
    });
    assert_eq!(world.view().groups, [ScimGroup::Admin]);
    let name = patch(json!([{"op": "Replace", "path": "displayName", "value": "M"}]));
    assert!(world.write(&name).expect("taken").is_empty());

    // Known before the request: the join names no role, the user at Podero is admin all the same.
    let mut by_roles = World::new();
    by_roles.role_from = RoleFrom::Roles;
    by_roles.known.state.podero = world.known.state.podero.clone();
    by_roles.write(&ScimWrite::Create(ScimDocument::read(&entra_user()).expect("a user"))).expect("made");
    by_roles.settle();
    assert_eq!(by_roles.json()["roles"], json!([{"value": "admin"}]));
    assert!(by_roles.write(&name).expect("taken").is_empty());
    let staff = patch(json!([{"op": "Replace", "path": "roles", "value": [{"value": "staff"}]}]));
    assert_eq!(by_roles.write(&staff), Ok(vec![TeamHappening::RoleChanged { role: MemberRole::Staff }]));
    by_roles.parks("team_brake");
    assert!(by_roles.write(&staff).expect("taken").is_empty(), "it is not asked for twice");
    assert_eq!(by_roles.json()["roles"], json!([{"value": "admin"}]), "it waits for an approval");
}

#[test]
fn a_deleted_user_is_gone_until_the_member_joins_again() {
    let mut world = World::with(&entra_user());
    world.second += 1;
    let change = delete_user(&world.known, world.context()).expect("there is one");
    assert_eq!(change.happenings, [TeamHappening::Left]);
    assert!(change.record.user_name_key().is_none(), "its name is free");
    assert!(!serde_json::to_string(&change.record).expect("JSON").contains("utility.example"));
    world.take(change);
    assert!(world.known.view(RoleFrom::Groups).is_none());
    world.settle();
    assert!(world.known.view(RoleFrom::Groups).is_none());
    assert_eq!(delete_user(&world.known, world.context()).expect_err("gone").status, 404);
    world.hears(joined(MemberRole::Staff, &[(MemberField::Email, "mia@utility.example")]));
    assert_eq!(world.view().document.user_name, "mia@utility.example");
    // A removal that waits for an approval does not bring it back either.
    let mut world = World::with(&entra_user());
    world.second += 1;
    let change = delete_user(&world.known, world.context()).expect("there is one");
    world.take(change);
    world.parks("team_brake");
    assert!(world.known.view(RoleFrom::Groups).is_none());
}

#[test]
fn what_is_no_request_is_refused_in_the_form_of_scim() {
    for (body, kind) in [
        (json!([]), ScimType::InvalidSyntax),
        (json!({"not": "a scim resource"}), ScimType::InvalidValue),
        (json!({"schemas": [USER_SCHEMA]}), ScimType::InvalidValue),
        (json!({"schemas": [GROUP_SCHEMA], "userName": "a@x.example"}), ScimType::InvalidSyntax),
        (json!({"userName": "a@x.example", "active": "maybe"}), ScimType::InvalidValue),
        (json!({"userName": "a@x.example", "name": "Mia"}), ScimType::InvalidValue),
        (json!({"userName": "a@x.example", "emails": [7]}), ScimType::InvalidValue),
        (json!({"userName": "a@x.example", "emails": [{"type": "work"}]}), ScimType::InvalidValue),
        (json!({"userName": "x".repeat(255)}), ScimType::InvalidValue),
        (
            json!({"userName": "a@x.example", "emails": vec![json!({"value": "a@x.example"}); 21]}),
            ScimType::InvalidValue,
        ),
    ] {
        let refused = ScimDocument::read(&body).expect_err("no user");
        assert_eq!((refused.status, refused.kind), (400, Some(kind)), "{body}");
        let shown = refused.json();
        assert_eq!((&shown["status"], &shown["scimType"]), (&json!("400"), &json!(kind.name())));
        assert!(!shown.to_string().contains("x.example"), "no value is repeated");
    }
}

#[test]
fn operations_that_cannot_be_carried_out_are_refused() {
    let read = |operations: Value| {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
        let operations = read_patch(&body)?;
        patch_document(&World::with(&entra_user()).view().document, &operations)
    };
    for (operations, kind) in [
        (json!([]), ScimType::InvalidSyntax),
        (json!([{"op": "move", "path": "userName", "value": "x"}]), ScimType::InvalidSyntax),
        (json!([{"op": "replace", "value": 7}]), ScimType::InvalidSyntax),
        (json!([{"op": "remove"}]), ScimType::NoTarget),
        (json!([{"op": "replace", "path": "id", "value": "x"}]), ScimType::Mutability),
        (json!([{"op": "replace", "path": "meta.created", "value": "x"}]), ScimType::Mutability),
        (json!([{"op": "replace", "path": "groups", "value": []}]), ScimType::Mutability),
        (json!([{"op": "replace", "path": "urn:podero-bridge:scim:User:state", "value": "x"}]), ScimType::Mutability),
        (json!([{"op": "replace", "path": "emails[", "value": "x"}]), ScimType::InvalidPath),
        (json!([{"op": "replace", "path": "a b", "value": "x"}]), ScimType::InvalidPath),
        (json!([{"op": "replace", "path": "x".repeat(513), "value": "x"}]), ScimType::InvalidPath),
        (json!([{"op": "replace", "path": "emails[type co \"work\"].value", "value": "x"}]), ScimType::InvalidFilter),
        (json!([{"op": "remove", "path": "userName"}]), ScimType::InvalidValue),
        (json!([{"op": "remove", "path": "active"}]), ScimType::InvalidValue),
        (json!([{"op": "replace", "path": "active", "value": 0}]), ScimType::InvalidValue),
        (json!(vec![json!({"op": "add", "path": "title", "value": "x"}); 1_001]), ScimType::InvalidValue),
    ] {
        let refused = read(operations.clone()).expect_err("refused");
        assert_eq!((refused.status, refused.kind), (400, Some(kind)), "{operations}");
    }
    assert!(read(json!(vec![json!({"op": "add", "path": "title", "value": "x"}); 1_000])).is_ok());
    // Without a path, what the bridge writes is passed over.
    assert!(read(json!([{"op": "replace", "value": {"id": "x", "schemas": [], "displayName": "M"}}])).is_ok());
}

#[test]
fn a_group_loses_those_that_are_named_and_no_others() {
    let now: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    let after = |operations: Value| {
        let body = json!({"Operations": operations});
        let changes = read_group_patch(&read_patch(&body)?, ScimGroup::Staff)?;
        change_group(&changes, &now)
    };
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<String>>();
    for (operations, added, removed) in [
        (json!([{"op": "Remove", "path": "members", "value": [{"value": "b"}]}]), &[][..], &["b"][..]),
        (json!([{"op": "remove", "path": "members[value eq \"b\"]"}]), &[], &["b"]),
        (json!([{"op": "remove", "path": "members", "value": [{"value": "unknown"}]}]), &[], &[]),
        (json!([{"op": "Add", "path": "members", "value": [{"$ref": null, "value": "d"}]}]), &["d"], &[]),
        (json!([{"op": "add", "path": "members", "value": [{"value": "a"}]}]), &[], &[]),
        (json!([{"op": "replace", "path": "members", "value": [{"value": "a"}, {"value": "d"}]}]), &["d"], &["b", "c"]),
        (json!([{"op": "replace", "value": {"id": "staff", "displayName": "Staff"}}]), &[], &[]),
        (json!([{"op": "Replace", "path": "externalId", "value": "7"}]), &[], &[]),
    ] {
        assert_eq!(after(operations.clone()), Ok((set(added), set(removed))), "{operations}");
    }
    for (operations, kind) in [
        (json!([{"op": "Remove", "path": "members"}]), ScimType::NoTarget),
        (json!([{"op": "Remove", "path": "members", "value": []}]), ScimType::NoTarget),
        (json!([{"op": "remove", "path": "members[type eq \"User\"]"}]), ScimType::InvalidFilter),
        (json!([{"op": "replace", "path": "members", "value": []}]), ScimType::InvalidValue),
        (json!([{"op": "replace", "path": "displayName", "value": "others"}]), ScimType::Mutability),
        (json!([{"op": "replace", "path": "id", "value": "x"}]), ScimType::Mutability),
        (json!([{"op": "add", "path": "members", "value": [7]}]), ScimType::InvalidValue),
    ] {
        let refused = after(operations.clone()).expect_err("refused");
        assert_eq!((refused.status, refused.kind), (400, Some(kind)), "{operations}");
    }
    let put = |body: Value| change_group(&read_group_put(&body, ScimGroup::Staff)?, &now);
    assert_eq!(put(json!({"displayName": "staff", "members": [{"value": "a"}]})), Ok((set(&[]), set(&["b", "c"]))));
    assert!(put(json!({"displayName": "staff"})).is_err(), "a replacement by nothing");
    let many: Vec<Value> = (0..1_001).map(|number| json!({"value": format!("{number}")})).collect();
    assert!(put(json!({"members": many})).is_err());
}

#[test]
fn filters_are_one_comparison() {
    let world = World::with(&entra_user());
    for (filter, expected) in [
        ("userName eq \"mia@UTILITY.example\"", Some(true)),
        ("USERNAME EQ \"mia@utility.example\"", Some(true)),
        ("urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"mia@utility.example\"", Some(true)),
        ("userName eq \"mia\"", Some(false)),
        ("externalId eq \"O-1\"", Some(true)),
        ("externalId eq \"o-1\"", Some(false)),
        ("id eq \"our-id\"", Some(true)),
        ("id eq \"O-1\"", Some(false)),
        ("externalId eq \"our-id\"", Some(false)),
        ("userName sw \"mia\"", None),
        ("userName pr", None),
        ("emails.value eq \"mia@utility.example\"", None),
        ("userName eq \"a\" or userName eq \"b\"", None),
        ("userName eq mia", None),
        ("userName eq 7", None),
        ("(userName eq \"a\")", None),
    ] {
        let read = ScimFilter::read(filter);
        match expected {
            Some(expected) => assert_eq!(read.expect(filter).admits(&world.view()), expected, "{filter}"),
            None => assert_eq!(read.expect_err(filter).kind, Some(ScimType::InvalidFilter), "{filter}"),
        }
    }
    let longest = format!("userName eq \"{}\"", "x".repeat(FILTER_BYTES_MAX - 14));
    assert!(ScimFilter::read(&longest).is_ok());
    assert!(ScimFilter::read(&format!("{longest} ")).is_err());
    assert!(GroupFilter::read("displayName eq \"Admin\"").expect("known").admits("admin"));
    assert!(GroupFilter::read("members eq \"a\"").is_err());
}

#[test]
fn pages_are_numbers_and_have_a_limit() {
    let items: Vec<usize> = (1..=500).collect();
    for (start, count, expected) in [
        (None, None, (1, 200)),
        (Some("1"), Some("10"), (1, 10)),
        (Some("0"), Some("5"), (1, 5)),
        (Some("-3"), Some("1000"), (1, 200)),
        (Some("499"), Some("10"), (499, 2)),
        (Some("501"), None, (501, 0)),
        (None, Some("0"), (1, 0)),
        (None, Some("-1"), (1, 0)),
    ] {
        let page = ScimPage::read(start, count).expect("numbers");
        assert_eq!((page.start, page.of(&items).len()), expected, "{start:?} {count:?}");
    }
    assert!(ScimPage::read(Some("first"), None).is_err() && ScimPage::read(None, Some("1.5")).is_err());
    let list = list_json(500, 2, vec![json!({})]);
    assert!(list["totalResults"].is_u64() && list["startIndex"].is_u64() && list["itemsPerPage"].is_u64());
}

#[test]
fn attributes_are_chosen_and_left_out() {
    let view = World::with(&entra_user()).view();
    let shown = |only: Option<&str>, without: Option<&str>| {
        let projection = Projection::read(only, without).expect("one of them");
        user_json(&view, &projection).as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(shown(Some("userName"), None), ["id", "schemas", "userName"]);
    assert_eq!(shown(Some("USERNAME, name.givenName"), None), ["id", "name", "schemas", "userName"]);
    assert!(!shown(None, Some("emails,name")).iter().any(|name| name == "emails" || name == "name"));
    assert!(shown(None, Some("id,schemas")).iter().any(|name| name == "id"), "some are always there");
    assert!(shown(None, Some("emails.type")).iter().any(|name| name == "emails"));
    let projection = Projection::read(None, Some("members")).expect("one of them");
    assert!(!projection.wants("members") && projection.wants("displayName"));
    assert!(Projection::read(Some("a"), Some("b")).is_err());
    assert!(Projection::read(Some(&"a,".repeat(101)), None).is_err());
}

#[test]
fn what_is_published_speaks_of_each_attribute_that_is_answered() {
    let user = World::with(&entra_user()).json();
    let published = schema(USER_SCHEMA).expect("there is one");
    let names: BTreeSet<&str> =
        published["attributes"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    for name in user.as_object().expect("an object").keys() {
        let is_common = ["schemas", "id", "externalId", "meta", BRIDGE_SCHEMA].contains(&name.as_str());
        assert!(is_common || names.contains(name.as_str()), "{name}");
    }
    assert_eq!(schemas()["totalResults"], 3);
    assert!(schema("urn:none").is_none() && resource_type("user").is_none());
}

/// A request in a random story.
#[derive(Debug, Clone)]
enum Told {
    Write(Value),
    Group(ScimGroup, bool),
    Hr(u8),
    Settle,
    Park,
    Skip,
}

fn told() -> impl Strategy<Value = Told> {
    let operation = prop_oneof![
        any::<bool>().prop_map(
            |active| json!({"op": "Replace", "path": "active", "value": if active { "True" } else { "False" }})
        ),
        (0..3_u8).prop_map(|name| json!({"op": "replace", "path": "name.givenName", "value": format!("N{name}")})),
        Just(json!({"op": "remove", "path": "name.familyName"})),
        (0..3_u8).prop_map(
            |name| json!({"op": "Add", "path": "emails[type eq \"work\"].value", "value": format!("m{name}@x.example")})
        ),
        (0..3_u8).prop_map(|name| json!({"op": "replace", "value": {"displayName": format!("D{name}")}})),
    ];
    prop_oneof![
        4 => operation.prop_map(Told::Write),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(is_admin, is_in)| Told::Group(if is_admin { ScimGroup::Admin } else { ScimGroup::Staff }, is_in)),
        2 => (0..6_u8).prop_map(Told::Hr),
        2 => Just(Told::Settle),
        1 => Just(Told::Park),
        1 => Just(Told::Skip),
    ]
}

proptest! {
    /// Whatever requests and events are told: what a request asked for is shown right after it, the same request again changes
    /// nothing, and of an active user the facts and what is shown agree.
    #[test]
    fn a_request_is_shown_and_repeats_to_nothing(story in proptest::collection::vec(told(), 1..30)) {
        let mut world = World::with(&entra_user());
        for told in story {
            match told {
                Told::Write(operation) => {
                    let write = patch(json!([operation]));
                    let ScimWrite::Patch(operations) = &write else { unreachable!() };
                    let wanted = patch_document(&world.view().document, operations).expect("a document");
                    let wanted = ScimDocument { says_active: false, says_roles: false, ..wanted };
                    let facts = world.known.facts();
                    let waits = world.known.awaits_removal(&facts) && !wanted.active;
                    world.write(&write).expect("taken");
                    if !waits {
                        prop_assert_eq!(&world.view().document, &wanted);
                        prop_assert!(world.write(&write).expect("taken").is_empty());
                    }
                }
                Told::Group(group, is_in) => {
                    world.regroup(group, is_in);
                    prop_assert!(world.regroup(group, is_in).is_empty());
                }
                Told::Hr(0) => world.hears(TeamHappening::Left),
                Told::Hr(1) => world.hears(joined(MemberRole::Staff, &[(MemberField::Email, "hr@x.example")])),
                Told::Hr(2) => world.hears(TeamHappening::RoleChanged { role: MemberRole::Admin }),
                Told::Hr(3) => world.hears(TeamHappening::RoleChanged { role: MemberRole::Staff }),
                Told::Hr(_) => world.hears(updated(&[(MemberField::FirstName, "Hr")])),
                Told::Settle => world.settle(),
                Told::Park => world.parks("team_brake"),
                Told::Skip => world.known.open.retain(|open| open.state != EventState::Parked),
            }
            let (facts, view) = (world.known.facts(), world.view());
            prop_assert_eq!(view.document.active, facts.is_active());
            if facts.is_active() {
                prop_assert_eq!(view.document.address().ok(), facts.text(MemberField::Email));
                let is_admin = facts.role.is_some_and(|fact| fact.role == MemberRole::Admin);
                prop_assert_eq!(view.groups.contains(&ScimGroup::Admin), is_admin);
            }
            prop_assert_eq!(&view.id, "our-id");
        }
    }
}

#[test]
fn a_request_is_later_than_what_is_known_but_not_by_much() {
    let mut world = World::with(&entra_user());
    world.open(at(86_400), TeamHappening::Left, EventState::Pending, None);
    let change = change_user(
        &world.known,
        &patch(json!([{"op": "replace", "path": "active", "value": true}])),
        "our-id",
        context(5),
    );
    assert_eq!(change.expect("taken").time, at(5), "an event a day ahead stands");
}

fn set_active(active: bool) -> ScimWrite {
    patch(json!([{"op": "replace", "path": "active", "value": active}]))
}

#[test]
fn access_is_taken_away_also_from_one_whose_join_lies_ahead() {
    let mut world = World::with(&entra_user());
    world.open(at(3_600), joined(MemberRole::Staff, &[]), EventState::Pending, None);
    world.settle();
    assert_eq!(world.write(&set_active(false)), Ok(vec![TeamHappening::Left]));
    world.settle();
    assert!(!world.view().document.active);
}

#[test]
fn one_who_is_put_back_is_not_removed_by_a_later_approval() {
    let mut world = World::with(&entra_user());
    world.write(&set_active(false)).expect("taken");
    world.parks("team_brake");
    let rename = patch(json!([{"op": "replace", "path": "displayName", "value": "M"}]));
    assert_eq!(world.write(&rename), Ok(Vec::new()), "a name says nothing of access");
    let back = world.write(&set_active(true)).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { .. }]), "{back:?}");
    world.known.open.iter_mut().for_each(|open| open.state = EventState::Pending);
    world.settle();
    assert!(world.view().document.active, "the approved removal is outdated");
    // The same of a demotion.
    world.regroup(ScimGroup::Admin, true);
    world.settle();
    world.regroup(ScimGroup::Admin, false);
    world.parks("team_brake");
    assert!(!world.view().is_in_for_good(ScimGroup::Admin), "so that an addition is one");
    assert_eq!(world.regroup(ScimGroup::Admin, true), [TeamHappening::RoleChanged { role: MemberRole::Admin }]);
    world.known.open.iter_mut().for_each(|open| open.state = EventState::Pending);
    world.settle();
    assert!(world.view().groups.contains(&ScimGroup::Admin));
}

#[test]
fn a_join_that_waits_for_a_person_is_called_off_by_a_deactivation() {
    let parked = || {
        let mut world = World::new();
        let document = ScimDocument::read(&entra_user()).expect("a user");
        world.write(&ScimWrite::Create(document)).expect("made");
        world.parks("email_taken");
        world
    };
    let mut world = parked();
    let rename = patch(json!([{"op": "replace", "path": "displayName", "value": "M"}]));
    assert_eq!(world.write(&rename), Ok(Vec::new()));
    assert_eq!(world.write(&set_active(false)), Ok(vec![TeamHappening::Left]));
    assert_eq!(world.write(&set_active(false)), Ok(Vec::new()));
    world.known.open.iter_mut().for_each(|open| open.state = EventState::Pending);
    world.settle();
    assert!(!world.view().document.active, "a retry of the join gives no access");
    let change = delete_user(&parked().known, context(9)).expect("there is one");
    assert_eq!(change.happenings, [TeamHappening::Left]);
}

#[test]
fn what_a_replacement_leaves_out_changes_no_access() {
    let mut world = World::with(&entra_user());
    world.role_from = RoleFrom::Roles;
    let admin = json!([{"op": "replace", "path": "roles", "value": [{"value": "admin"}]}]);
    world.write(&patch(admin)).expect("taken");
    world.settle();
    let without = |names: &[&str]| {
        let mut user = entra_user();
        names.iter().for_each(|name| drop(user.as_object_mut().expect("an object").remove(*name)));
        ScimWrite::Replace(ScimDocument::read(&user).expect("a user"))
    };
    assert_eq!(world.write(&without(&["roles"])), Ok(Vec::new()), "no demotion");
    world.write(&set_active(false)).expect("taken");
    world.settle();
    assert_eq!(world.write(&without(&["active", "roles"])), Ok(Vec::new()), "no invitation");
    let back = world.write(&without(&["roles"])).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { .. }]), "{back:?}");
}

#[test]
fn a_role_that_is_none_takes_nobodys_access_and_keeps_nobodys() {
    let mut user = entra_user();
    user["roles"] = json!([{"value": "User"}]);
    let mut world = World::with(&user);
    world.role_from = RoleFrom::Roles;
    assert!(world.write(&patch(json!([{"op": "add", "path": "roles", "value": [{"value": "x"}]}]))).is_err());
    assert_eq!(world.write(&set_active(false)), Ok(vec![TeamHappening::Left]));
}

#[test]
fn operations_mean_what_they_name() {
    let mut user = entra_user();
    user["emails"] =
        json!([{"value": "a@x.example", "type": "home", "primary": true}, {"value": "b@x.example", "type": "work"}]);
    let document = ScimDocument::read(&user).expect("a user");
    let after = |operations: Value| {
        let ScimWrite::Patch(operations) = patch(operations) else { unreachable!() };
        patch_document(&document, &operations)
    };
    let removed = after(json!([{"op": "Remove", "path": "emails", "value": [{"value": "a@x.example"}]}]));
    assert_eq!(removed.expect("taken").address(), Ok("b@x.example"));
    let moved = after(json!([{"op": "replace", "path": "emails[type eq \"work\"].primary", "value": true}]));
    assert_eq!(moved.expect("taken").address(), Ok("b@x.example"), "the old primary one is none any more");
    let wrong = after(json!([{"op": "replace", "path": "active[type eq \"x\"]", "value": false}]));
    assert_eq!(wrong.map_err(|error| error.kind), Err(Some(ScimType::InvalidPath)));
    let foreign = after(json!([{"op": "replace", "path": "phoneNumbers[type eq \"work\"].value", "value": "1"}]));
    assert!(foreign.is_ok(), "an attribute that the bridge does not have is passed over");
    let ScimWrite::Patch(part) = patch(json!([{"op": "remove", "path": "members[value eq \"u\"].display"}])) else {
        unreachable!()
    };
    let refused = read_group_patch(&part, ScimGroup::Admin);
    assert_eq!(refused.map_err(|error| error.kind), Err(Some(ScimType::InvalidPath)));
}

#[test]
fn a_filter_finds_what_is_kept() {
    let mut user = entra_user();
    user["userName"] = json!("mu\u{308}ller@utility.example ");
    let view = World::with(&user).view();
    for text in ["mu\u{308}ller@utility.example", " M\u{fc}ller@utility.example "] {
        let filter = ScimFilter::read(&format!("userName eq \"{text}\"")).expect("a filter");
        assert!(filter.admits(&view), "{text}");
    }
}

/// An event of now, for which the policy is asked.
fn event_at_hand(happening: TeamHappening) -> TeamEvent {
    TeamEvent {
        id: EventId(Uuid::from_u128(99)),
        member: member(),
        time: at(9),
        received_at: at(9),
        effective_at: None,
        happening,
    }
}

#[test]
fn nobody_is_made_admin_while_the_join_is_under_way() {
    let mut world = World::new();
    world.write(&ScimWrite::Create(ScimDocument::read(&entra_user()).expect("a user"))).expect("made");
    let facts = world.known.facts();
    let [happening] = &world.regroup(ScimGroup::Admin, true)[..] else { panic!("one event") };
    let event = event_at_hand(happening.clone());
    for (allows_admins, is_refused) in [(false, true), (true, false)] {
        let mut policy = policy();
        (policy.team.is_enabled, policy.team.allows_admins) = (true, allows_admins);
        let at_hand = PolicyAtHand {
            policy: &policy,
            ends: &[],
            now: at(9),
            list: None,
            is_fresh: false,
            is_of_now: false,
            is_final: true,
        };
        let answer = permission(&event, &world.known.state, &facts, at_hand);
        let reason = match &answer {
            Permission::Refused(refused) => Some(refused.reason),
            Permission::Granted { .. } | Permission::WantsList => None,
        };
        assert_eq!(reason, is_refused.then_some(Reason::AdminNotAllowed), "{answer:?}");
    }
}

fn deleted(world: &mut World) {
    world.second += 1;
    let change = delete_user(&world.known, world.context()).expect("there is one");
    world.take(change);
}

#[test]
fn one_who_was_deleted_and_has_access_all_the_same_is_shown() {
    // A removal that the brake held, and that a person skipped.
    let mut world = World::with(&entra_user());
    deleted(&mut world);
    world.parks("team_brake");
    assert!(world.known.view(RoleFrom::Groups).is_none(), "it waits for an approval");
    world.known.open.clear();
    let shown = world.json();
    assert_eq!((&shown["active"], &shown["externalId"]), (&json!(true), &json!("O-1")));
    assert_eq!((&shown["id"], &shown["userName"]), (&json!("our-id"), &json!("mia@utility.example")));
    // One that was refused when it was carried out.
    let mut world = World::with(&entra_user());
    deleted(&mut world);
    world.parks("protected_member");
    assert_eq!(world.json()[BRIDGE_SCHEMA], json!({"state": "refused", "reason": "protected_member"}));
    // A join that is stamped before the deletion, of one who was not active then.
    let mut world = World::with(&entra_user());
    world.hears(TeamHappening::Left);
    let before_deletion = at(world.second);
    world.second += 5;
    deleted(&mut world);
    assert!(world.known.view(RoleFrom::Groups).is_none());
    world.open(
        before_deletion,
        joined(MemberRole::Staff, &[(MemberField::Email, "hr@x.example")]),
        EventState::Pending,
        None,
    );
    world.settle();
    assert_eq!(world.view().document.address(), Ok("hr@x.example"));
    assert_eq!(world.known.view(RoleFrom::Roles).expect("there").document.roles[0].value, "staff");
    // The provider takes the access away as of any other user.
    assert_eq!(world.write(&set_active(false)), Ok(vec![TeamHappening::Left]));
}

#[test]
fn facts_that_changed_while_a_user_was_not_active_are_shown_and_sent() {
    let mut world = World::with(&entra_user());
    world.hears(updated(&[(MemberField::Email, "hr@x.example"), (MemberField::LastName, "Hill")]));
    world.hears(TeamHappening::Left);
    let shown = world.json();
    assert_eq!((&shown["active"], &shown["emails"][0]["value"]), (&json!(false), &json!("hr@x.example")));
    // The newest word counts, per field: of the provider too.
    let first = patch(json!([{"op": "Replace", "path": "name.givenName", "value": "Maria"}]));
    assert_eq!(world.write(&first), Ok(Vec::new()));
    // A correction that waits for a join of one who has left.
    world.second += 1;
    world.open(at(world.second), updated(&[(MemberField::LastName, "Wood")]), EventState::Waiting, None);
    // One from before the provider's word, which came late.
    world.open(at(world.second - 2), updated(&[(MemberField::FirstName, "Old")]), EventState::Waiting, None);
    assert_eq!(world.json()["name"], json!({"givenName": "Maria", "familyName": "Wood"}));
    let back = world.write(&set_active(true)).expect("taken");
    let person =
        [(MemberField::Email, "hr@x.example"), (MemberField::FirstName, "Maria"), (MemberField::LastName, "Wood")];
    assert_eq!(back, [joined(MemberRole::Staff, &person)]);
    world.settle();
    assert_eq!(world.known.facts().text(MemberField::LastName), Some("Wood"));
}

#[test]
fn one_whom_hr_made_staff_since_does_not_come_back_as_admin() {
    let mut world = World::with(&entra_user());
    world.regroup(ScimGroup::Admin, true);
    world.settle();
    world.hears(TeamHappening::RoleChanged { role: MemberRole::Staff });
    world.hears(TeamHappening::Left);
    assert!(!world.view().groups.contains(&ScimGroup::Admin));
    let back = world.write(&set_active(true)).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { role: MemberRole::Staff, .. }]), "{back:?}");
    // The provider's word that is newer makes them admin.
    world.settle();
    world.write(&set_active(false)).expect("taken");
    world.settle();
    world.regroup(ScimGroup::Admin, true);
    let back = world.write(&set_active(true)).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { role: MemberRole::Admin, .. }]), "{back:?}");
    // The same where the attribute `roles` counts.
    let mut world = World::with(&entra_user());
    world.role_from = RoleFrom::Roles;
    world.write(&patch(json!([{"op": "add", "path": "roles", "value": [{"value": "admin"}]}]))).expect("taken");
    world.settle();
    world.hears(TeamHappening::RoleChanged { role: MemberRole::Staff });
    world.hears(TeamHappening::Left);
    assert_eq!(world.json()["roles"], json!([{"value": "staff"}]));
    let back = world.write(&set_active(true)).expect("taken");
    assert!(matches!(&back[..], [TeamHappening::Joined { role: MemberRole::Staff, .. }]), "{back:?}");
}

#[test]
fn a_request_about_a_group_asks_for_the_role_that_a_switch_gives() {
    let mut world = World::with(&entra_user());
    // Both were said; the groups counted.
    world.write(&patch(json!([{"op": "add", "path": "roles", "value": [{"value": "admin"}]}]))).expect("kept");
    world.regroup(ScimGroup::Staff, true);
    world.role_from = RoleFrom::Roles;
    let to_admin = [TeamHappening::RoleChanged { role: MemberRole::Admin }];
    assert_eq!(world.regroup(ScimGroup::Staff, false), to_admin, "the roles count from this request on");
    world.settle();
    assert!(
        world.write(&patch(json!([{"op": "replace", "path": "displayName", "value": "M"}]))).expect("taken").is_empty()
    );
    // And back: the group `admin` was left while it did not count.
    world.regroup(ScimGroup::Admin, false);
    world.role_from = RoleFrom::Groups;
    assert_eq!(world.regroup(ScimGroup::Staff, true), [TeamHappening::RoleChanged { role: MemberRole::Staff }]);
    world.settle();
    assert!(world.regroup(ScimGroup::Staff, true).is_empty());
    // Where the groups said nothing, an addition to `staff` takes no role away.
    let mut world = World::with(&entra_user());
    world.role_from = RoleFrom::Roles;
    world.write(&patch(json!([{"op": "add", "path": "roles", "value": [{"value": "admin"}]}]))).expect("taken");
    world.settle();
    world.role_from = RoleFrom::Groups;
    assert!(world.regroup(ScimGroup::Staff, true).is_empty());
    assert!(world.view().groups.contains(&ScimGroup::Admin));
    // Roles that are none are told in a request about the user, and nothing is switched until then.
    let mut world = World::with(&entra_user());
    world.write(&patch(json!([{"op": "add", "path": "roles", "value": [{"value": "boss"}]}]))).expect("kept");
    world.role_from = RoleFrom::Roles;
    assert!(world.regroup(ScimGroup::Staff, true).is_empty());
    assert_eq!(world.known.record.as_ref().map(|record| record.role_from), Some(RoleFrom::Groups));
}

#[test]
fn who_is_made_again_keeps_the_external_id_by_which_they_were_linked() {
    let mut world = World::with(&entra_user());
    world.write(&patch(json!([{"op": "Replace", "path": "externalId", "value": "O-2"}]))).expect("taken");
    let mut put = entra_user();
    put.as_object_mut().expect("an object").remove("externalId");
    world.write(&ScimWrite::Replace(ScimDocument::read(&put).expect("a user"))).expect("taken");
    assert_eq!(world.json()["externalId"], "O-2", "a replacement without it does not lose it");
    deleted(&mut world);
    world.settle();
    let record = world.known.record.clone().expect("kept");
    assert_eq!((record.external_id(), record.user_name_key()), (Some("O-2"), None));
    world.hears(joined(MemberRole::Staff, &[(MemberField::Email, "mia@utility.example")]));
    assert_eq!(world.json()["externalId"], "O-2", "the provider finds whom it had linked");
}

#[test]
fn an_admin_without_an_external_id_is_made_admin_by_no_one() {
    let mut user = entra_user();
    user["roles"] = json!([{"value": "admin"}]);
    let mut world = World::new();
    world.role_from = RoleFrom::Roles;
    let document = ScimDocument::read(&user).expect("a user");
    let [join] = &world.write(&ScimWrite::Create(document)).expect("made")[..] else { panic!("one event") };
    let event = |happening: &TeamHappening| event_at_hand(happening.clone());
    let colleague = |address: &str, external_id: Option<&str>| Colleague {
        id: Uuid::from_u128(1),
        role: PoderoRole::Admin,
        external_id: external_id.map(str::to_owned),
        profile: BTreeMap::from([(MemberField::Email, address.to_owned())]),
        last_login: None,
        has_joined: true,
    };
    let mut policy = policy();
    policy.team.is_enabled = true;
    for (there, is_granted) in [
        (colleague("Mia@utility.example", None), true),
        (colleague("eve@utility.example", None), false),
        (colleague("mia@utility.example", Some("other")), false),
    ] {
        let list = StaffList { asked_at: at(8), staff: vec![there], bound: BTreeMap::new() };
        let at_hand = PolicyAtHand {
            policy: &policy,
            ends: &[],
            now: at(9),
            list: Some(&list),
            is_fresh: true,
            is_of_now: true,
            is_final: false,
        };
        let none = TeamMember::default();
        let answer = permission(&event(join), &none, &none.facts, at_hand);
        assert_eq!(matches!(answer, Permission::Granted { loss: None }), is_granted, "{answer:?}");
        // An addition to the group, while the join is under way.
        let to_admin = event(&TeamHappening::RoleChanged { role: MemberRole::Admin });
        let answer = permission(&to_admin, &none, &world.known.facts(), at_hand);
        assert_eq!(matches!(answer, Permission::Granted { loss: None }), is_granted, "{answer:?}");
        let unread = PolicyAtHand { list: None, is_fresh: false, ..at_hand };
        assert_eq!(permission(&event(join), &none, &none.facts, unread), Permission::WantsList);
    }
}

#[test]
fn an_admin_is_not_taken_away_by_a_list_from_before_they_were_one() {
    let mut world = World::with(&entra_user());
    let colleague = |id: usize, role: PoderoRole| Colleague {
        id: Uuid::from_u128(id as u128),
        role,
        external_id: Some(format!("O-{id}")),
        profile: BTreeMap::from([(
            MemberField::Email,
            ["mia@utility.example", "eve@utility.example"][id - 1].to_owned(),
        )]),
        last_login: None,
        has_joined: true,
    };
    world.known.state.podero.user = ObservedMember::Present(colleague(1, PoderoRole::Admin));
    let mut policy = policy();
    (policy.team.is_enabled, policy.team.min_admins) = (true, 2);
    let facts = world.known.facts();
    let other = colleague(2, PoderoRole::Admin);
    let staff_before = vec![colleague(1, PoderoRole::Staff), other.clone()];
    for happening in [TeamHappening::Left, TeamHappening::RoleChanged { role: MemberRole::Staff }] {
        let event = event_at_hand(happening);
        for staff in [staff_before.clone(), vec![other.clone()]] {
            let list = StaffList { asked_at: at(8), staff, bound: BTreeMap::new() };
            let old = PolicyAtHand {
                policy: &policy,
                ends: &[],
                now: at(9),
                list: Some(&list),
                is_fresh: true,
                is_of_now: false,
                is_final: false,
            };
            let ask = |at_hand| permission(&event, &world.known.state, &facts, at_hand);
            assert_eq!(ask(old), Permission::WantsList, "{list:?}");
            let is_granted = |at_hand| matches!(ask(at_hand), Permission::Granted { .. });
            let now = PolicyAtHand { is_of_now: true, ..old };
            assert!(is_granted(now), "another admin took the role away: {:?}", ask(now));
            assert!(is_granted(PolicyAtHand { is_final: true, ..old }), "it is judged when it is carried out");
        }
    }
}
