//! Tests of every call as a request and every shape of an answer as a reply: tables, and arbitrary bytes.
//!
//! Before: [`super`]. After: nothing.

use super::super::answer::Coding;
use super::super::calls::{GetHeatPump, ListUsers, ObserveHeatPumps};
use super::super::fields::*;
use super::super::moments::*;
use super::*;
use crate::domain::alert::{ConnectionStatus, Observation};
use crate::domain::call::{
    BuildingFound, Call, Changes, Cue, Done, Hidden, OnboardingPolicy, PumpFound, Reconnection, ResolveCue, UserFound,
};
use crate::domain::event::{BuildingKey, Field, Record};
use crate::domain::{CustomerId, EventId, Stamp, date, link};
use proptest::prelude::*;
use serde_json::json;

const ORG: Uuid = Uuid::from_u128(0xA);
const USER: Uuid = Uuid::from_u128(0xB);
const THING: Uuid = Uuid::from_u128(0xC);
const OTHER: Uuid = Uuid::from_u128(0xD);
const NOW: Timestamp = Timestamp::from_micros(784_111_777_000_000);

fn customer(text: &str) -> CustomerId {
    CustomerId::accept(text).expect("valid")
}

fn profile() -> Record {
    [
        (Field::Email, "given@example.com".into()),
        (Field::FirstName, "Given Second".into()),
        (Field::Language, "de".into()),
        (Field::ZipCode, FieldValue::Number(10_115)),
        (Field::Country, "DE".into()),
    ]
    .into()
}

fn house() -> Record {
    [
        (Field::Name, "Street 1".into()),
        (Field::Photovoltaic, FieldValue::Flag(true)),
        (Field::NumOccupants, FieldValue::Number(3)),
        (Field::ZipCode, "01067".into()),
        (Field::Email, "never@example.com".into()),
    ]
    .into()
}

fn find() -> Call {
    Call::FindUser { external_id: customer("C-1") }
}

fn create() -> Call {
    Call::CreateUser { external_id: customer("C-1"), record: profile() }
}

fn since() -> Stamp {
    Stamp { time: NOW, event: EventId(Uuid::nil()) }
}

fn rename(changes: Changes) -> Call {
    Call::UpdateBuilding { user: USER, key: BuildingKey::default(), building: THING, name: "Old".into(), changes }
}

fn session(building: Option<Uuid>) -> Call {
    Call::CreateOnboardingSession {
        user: USER,
        key: BuildingKey::default(),
        since: since(),
        building,
        language: "de".to_owned(),
        policy: OnboardingPolicy {
            language: "en".to_owned(),
            price_zone: "DE".to_owned(),
            success_url: "https://a.example".to_owned(),
            cancel_url: "https://b.example".to_owned(),
        },
    }
}

/// Any call: an event's, or one of the watch's.
#[derive(Debug, Clone)]
enum Any {
    Event(Box<Call>),
    ListUsers,
    ObserveHeatPumps,
    ObserveHeatPump,
}

impl Any {
    fn request(&self) -> RequestParts {
        match self {
            Self::Event(call) => PartnerCall::request(&**call, ORG),
            Self::ListUsers => ListUsers.request(ORG),
            Self::ObserveHeatPumps => watched().request(ORG),
            Self::ObserveHeatPump => GetHeatPump::observe(USER, THING).request(ORG),
        }
        .expect("has an address")
    }

    fn read(&self, received: &Received, notes: &mut DriftNotes) -> Reading<()> {
        fn read_one<R: PartnerCall>(request: &R, received: &Received, notes: &mut DriftNotes) -> Reading<()> {
            read(request, received, &mut R::Pages::default(), NOW, notes).map(drop)
        }
        match self {
            Self::Event(call) => read_one(&**call, received, notes),
            Self::ListUsers => read_one(&ListUsers, received, notes),
            Self::ObserveHeatPumps => read_one(&watched(), received, notes),
            Self::ObserveHeatPump => read_one(&GetHeatPump::observe(USER, THING), received, notes),
        }
    }

    fn reply(&self, status: u16, body: impl ToString) -> Reply<()> {
        whole(self.read(&received(status, None, body), &mut DriftNotes::default()))
    }
}

fn of_event(call: Call) -> Any {
    Any::Event(Box::new(call))
}

fn watched() -> ObserveHeatPumps {
    ObserveHeatPumps { user: USER }
}

fn whole<A: std::fmt::Debug>(reading: Reading<A>) -> Reply<A> {
    match reading {
        Reading::Whole(reply) => reply,
        Reading::Part(entries) => panic!("a part: {entries}"),
    }
}

fn calls() -> Vec<Any> {
    let (user, building, heat_pump, key) = (USER, THING, THING, BuildingKey::default());
    let events = vec![
        find(),
        create(),
        Call::UpdateUser { user, changes: [(Field::FirstName, Some("Given".into())), (Field::Town, None)].into() },
        Call::DeleteUser { user, soft: true },
        Call::DeleteUser { user, soft: false },
        Call::ListBuildings { user },
        Call::CreateBuilding { user, key, since: since(), record: house() },
        rename([(Field::Town, Some("Town".into()))].into()),
        Call::DeleteBuilding { user, building },
        Call::ListHeatPumps { user },
        Call::PauseHeatPump { user, heat_pump },
        session(Some(THING)),
    ];
    let events = events.into_iter().map(of_event);
    events.chain([Any::ListUsers, Any::ObserveHeatPumps, Any::ObserveHeatPump]).collect()
}

#[test]
fn every_call_has_its_method_path_and_body() {
    let expected = [
        ("GET", "/by-ext-id/C-1", None),
        (
            "POST",
            "",
            Some(json!({
                "email": "given@example.com", "first_name": "Given Second", "zip_code": "10115", "country": "DE",
                "role": "user", "external_user_id": "C-1",
            })),
        ),
        ("PUT", "/{user}", Some(json!({"first_name": "Given", "town": null}))),
        ("DELETE", "/{user}?soft_delete=true", None),
        ("DELETE", "/{user}", None),
        ("GET", "/{user}/buildings", None),
        (
            "POST",
            "/{user}/buildings",
            Some(json!({"name": "Street 1", "photovoltaic": true, "num_occupants": 3, "zip_code": "01067"})),
        ),
        ("PUT", "/{user}/buildings/{thing}", Some(json!({"name": "Old", "town": "Town"}))),
        ("DELETE", "/{user}/buildings/{thing}", None),
        ("GET", "/{user}/heat-pumps", None),
        ("PUT", "/{user}/heat-pumps/{thing}", Some(json!({"is_smart_optimization_active": false}))),
        (
            "POST",
            "onboarding",
            Some(json!({
                "user_id": USER, "building_id": THING, "language": "de", "price_zone_default": "DE_LU",
                "success_url": "https://a.example", "cancel_url": "https://b.example",
            })),
        ),
        ("GET", "", None),
        ("GET", "/{user}/heat-pumps", None),
        ("GET", "/{user}/heat-pumps/{thing}", None),
    ];
    assert_eq!(calls().len(), expected.len());
    for (call, (method, path, body)) in calls().iter().zip(expected) {
        let outgoing = call.request();
        let path = path.replace("{user}", &USER.to_string());
        let path = path.replace("{thing}", &THING.to_string());
        let path = match path.as_str() {
            "onboarding" => "/api/partners/v2.0/device-onboarding".to_owned(),
            rest => format!("/api/partners/v2.0/org/{ORG}/users{rest}"),
        };
        assert_eq!((outgoing.method.as_str(), outgoing.path), (method, path), "{call:?}");
        assert_eq!(outgoing.body, body, "{call:?}");
    }
}

#[test]
fn a_session_without_a_building_does_not_speak_of_one() {
    let body = PartnerCall::request(&session(None), ORG).expect("has an address").body;
    assert_eq!(body.expect("a body").get("building_id"), None);
}

#[test]
fn a_buildings_name_is_always_written_and_never_cleared() {
    for (changes, expect) in [
        ([].into(), json!({"name": "Old"})),
        ([(Field::Name, Some("New".into()))].into(), json!({"name": "New"})),
        ([(Field::Name, None)].into(), json!({"name": "Old"})),
    ] {
        let outgoing = PartnerCall::request(&rename(changes), ORG).expect("has an address");
        assert_eq!(outgoing.body, Some(expect));
    }
}

#[test]
fn an_external_id_stays_one_segment_whatever_it_holds() {
    for (id, expect) in [
        ("a/b?c#d e", Some("a%2Fb%3Fc%23d%20e")),
        ("ü%", Some("%C3%BC%25")),
        ("...", Some("...")),
        ("~a_b-c.d", Some("~a_b-c.d")),
        (".", None),
        ("..", None),
    ] {
        let call = Call::FindUser { external_id: customer(id) };
        let path = PartnerCall::request(&call, ORG).ok().map(|outgoing| outgoing.path);
        let expect = expect.map(|segment| format!("/api/partners/v2.0/org/{ORG}/users/by-ext-id/{segment}"));
        assert_eq!(path, expect, "{id}");
    }
}

fn received(status: u16, retry_after: Option<&str>, body: impl ToString) -> Received {
    Received { retry_after: retry_after.map(str::to_owned), ..Received::of(status, body.to_string().as_bytes()) }
}

fn reply<R: PartnerCall>(call: &R, status: u16, body: impl ToString) -> Reply<R::Answer>
where
    R::Answer: std::fmt::Debug,
{
    let received = received(status, None, body);
    whole(read(call, &received, &mut R::Pages::default(), NOW, &mut DriftNotes::default()))
}

fn why<A>(reply: &Reply<A>) -> &'static str {
    match reply {
        Reply::Unknown { why } => why,
        Reply::Done(_) => "done",
        Reply::Refused(refusal) => match refusal.kind {
            RefusalKind::NotFound => "not found",
            RefusalKind::Unsupported => "unsupported",
            RefusalKind::Duplicate => "duplicate",
            RefusalKind::Invalid => "invalid",
        },
        Reply::Busy { .. } => "busy",
        Reply::Held { .. } => "held",
        Reply::Unsent { .. } => "unsent",
    }
}

#[test]
fn each_status_means_what_the_table_says() {
    let delete = of_event(Call::DeleteUser { user: USER, soft: true });
    let pause = of_event(Call::PauseHeatPump { user: USER, heat_pump: THING });
    let (find, create, list) = (of_event(find()), of_event(create()), Any::ListUsers);
    for (call, status, expect) in [
        (&delete, 200, "done"),
        (&delete, 204, "done"),
        (&delete, 202, "unexpected status"),
        (&create, 204, "unexpected status"),
        (&find, 201, "unexpected status"),
        (&find, 302, "held"),
        (&create, 302, "redirect"),
        (&delete, 301, "held"),
        (&find, 401, "held"),
        (&find, 403, "held"),
        (&find, 404, "done"),
        (&find, 410, "done"),
        (&list, 404, "held"),
        (&create, 404, "held"),
        (&delete, 404, "not found"),
        (&delete, 410, "not found"),
        (&pause, 405, "unsupported"),
        (&pause, 501, "unsupported"),
        (&pause, 408, "busy"),
        (&pause, 425, "busy"),
        (&pause, 429, "busy"),
        (&create, 409, "duplicate"),
        (&pause, 409, "invalid"),
        (&create, 400, "invalid"),
        (&create, 422, "invalid"),
        (&create, 418, "invalid"),
        (&find, 500, "server error (500)"),
        (&create, 502, "server error (502)"),
        (&create, 503, "server error (503)"),
        (&create, 599, "server error"),
        (&create, 999, "unexpected status"),
    ] {
        assert_eq!(why(&call.reply(status, "")), expect, "{call:?} {status}");
    }
}

#[test]
fn a_gateways_page_is_no_word_of_the_api() {
    for call in calls() {
        for status in [404, 410] {
            let reply = call.reply(status, " <!doctype html><title>Not Found</title>");
            assert_eq!(why(&reply), "a page instead of an answer", "{call:?}");
        }
    }
}

#[test]
fn a_success_that_does_not_say_what_was_asked_is_unknown() {
    for call in calls() {
        for (body, expected) in [
            ("<html>", "answer makes no sense: a page"),
            ("{\"id\": ", "answer makes no sense: cut off"),
            ("not json", "answer makes no sense: not JSON"),
            (" \n", "answer makes no sense: empty"),
        ] {
            assert_eq!(why(&call.reply(200, body)), expected, "{call:?} {body}");
        }
        let latin = Received::of(200, b"{\"id\": \"\xfc\"}");
        let reply = whole(call.read(&latin, &mut DriftNotes::default()));
        assert_eq!(why(&reply), "answer makes no sense: not UTF-8", "{call:?}");
    }
    let id = json!({"id": OTHER});
    let delete = Call::DeleteUser { user: USER, soft: true };
    for (call, body, expect) in [
        (of_event(create()), json!({}), "answer without id"),
        (of_event(create()), json!({"id": "7"}), "answer without id"),
        (of_event(create()), json!([]), "answer makes no sense: another shape"),
        (of_event(find()), json!(null), "answer makes no sense: another shape"),
        (of_event(find()), json!({"id": USER, "external_user_id": "c-1"}), "answer about something else"),
        (of_event(session(None)), json!({"id": USER}), "answer without link"),
        (of_event(session(None)), json!({"authentication_url": "javascript:x"}), "answer without link"),
        (of_event(delete), id.clone(), "answer about something else"),
        (Any::ObserveHeatPump, id, "answer about something else"),
        (Any::ListUsers, json!({}), "answer makes no sense: another shape"),
        (Any::ListUsers, json!({"items": []}), "list without total"),
    ] {
        assert_eq!(why(&call.reply(200, &body)), expect, "{call:?} {body}");
    }
}

#[test]
fn an_answer_in_a_coding_says_so_and_is_no_word_about_anything() {
    let coded = |status: u16, body: &[u8]| Received { coding: Some(Coding::Gzip), ..Received::of(status, body) };
    for call in calls() {
        for status in [200, 404, 410] {
            let reply = whole(call.read(&coded(status, b"\x1f\x8b\x08"), &mut DriftNotes::default()));
            assert!(why(&reply).starts_with("the answer is coded as gzip"), "{call:?} {status}: {reply:?}");
        }
        for (status, expected) in [(401, Reply::Held { status: 401 }), (429, Reply::Busy { after: None })] {
            let reading = call.read(&coded(status, b"\x1f\x8b\x08"), &mut DriftNotes::default());
            assert_eq!(reading, Reading::Whole(expected), "{call:?} {status}");
        }
    }
    // The body may say that such a user is there already.
    let read = |call| whole(of_event(call).read(&coded(422, b"\x1f"), &mut DriftNotes::default()));
    assert!(matches!(read(create()), Reply::Unknown { .. }));
    let Reply::Refused(refusal) = read(rename([].into())) else { panic!("refused") };
    assert!(refusal.detail.contains("gzip"));
}

#[test]
fn a_moment_that_cannot_be_meant_is_not_known() {
    let noon = Timestamp::parse("2026-10-01T12:00:00Z").expect("valid");
    for (value, expected) in [
        (json!(null), ReadMoment::Never),
        (json!(""), ReadMoment::Never),
        (json!("0001-01-01T00:00:00Z"), ReadMoment::Never),
        (json!("1970-01-01T00:00:00Z"), ReadMoment::Implausible),
        (json!("1999-12-31T23:59:59Z"), ReadMoment::Implausible),
        (json!("2000-01-01T00:00:00Z"), ReadMoment::Implausible),
        (json!("2026-10-01T12:00:00"), ReadMoment::At(noon)),
        (json!("2026-10-01T14:00:00+02:00"), ReadMoment::At(noon)),
        // The future proves nothing; the watch deals with it.
        (json!("2100-01-01T00:00:00Z"), ReadMoment::At(Timestamp::parse("2100-01-01T00:00:00Z").expect("valid"))),
        (json!("9999-12-31T23:59:59Z"), ReadMoment::At(date::LATEST)),
        (json!("2026-10-01"), ReadMoment::At(Timestamp::parse("2026-10-01T00:00:00Z").expect("valid"))),
        (json!("soon"), ReadMoment::Implausible),
        (json!(1_790_856_000), ReadMoment::Implausible),
    ] {
        assert_eq!(told(&value), expected, "{value}");
    }
    for (mark, expected) in [
        (json!(null), false),
        (json!(false), false),
        (json!(true), true),
        (json!(""), false),
        (json!("0001-01-01T00:00:00Z"), false),
        (json!("1970-01-01T00:00:00Z"), false),
        (json!("9999-12-31T23:59:59Z"), false),
        (json!("2026-10-01T12:00:00Z"), true),
        (json!("2026-10-01"), true),
        (json!("yes"), true),
    ] {
        assert_eq!(is_set(&mark), expected, "{mark}");
    }
}

#[test]
fn a_user_is_read_in_every_shape_that_the_pages_show() {
    let found = |body: Value| {
        let Reply::Done(Done::UserLookedUp(found)) = reply(&find(), 200, &body) else {
            panic!("no user: {body}");
        };
        found
    };
    let schema = found(json!({
        "id": USER, "organization_id": ORG, "role": "user", "email": "a@example.com", "num_heat_pumps": 2,
        "external_user_id": "C-1", "first_name": null, "town": "", "zip_code": 10115, "country_iso2": "DEU",
        "latitude": 1.5, "name": "not a user's field",
    }))
    .expect("found");
    let observed: Record = [
        (Field::Email, "a@example.com".into()),
        (Field::ZipCode, FieldValue::Number(10_115)),
        (Field::Country, "DEU".into()),
    ]
    .into();
    assert_eq!(
        schema,
        UserFound {
            id: USER,
            is_customer: true,
            external_id: Some("C-1".to_owned()),
            heat_pumps: Some(2),
            zip: None,
            observed
        }
    );
    let bare = found(json!({"id": USER})).expect("found");
    assert_eq!((bare.is_customer, bare.heat_pumps, bare.external_id), (false, None, None));
    for role in ["admin", "staff", "guest", "something new"] {
        assert!(!found(json!({"id": USER, "role": role})).expect("found").is_customer, "{role}");
    }
    assert_eq!(found(json!({"id": USER, "deleted_at": "2026-01-01T00:00:00Z"})), None);
}

#[test]
fn lists_pass_over_what_is_no_entry() {
    let odd = json!([{"id": THING}, {"id": null}, {}, null, 7, "x", {"id": "short"}, [], {"id": OTHER}]);
    let Reply::Done(Done::BuildingsListed(found)) = reply(&Call::ListBuildings { user: USER }, 200, &odd) else {
        panic!("a list")
    };
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [THING, OTHER]);
    let Reply::Done(Done::HeatPumpsListed(found)) = reply(&Call::ListHeatPumps { user: USER }, 200, &odd) else {
        panic!("a list")
    };
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [THING, OTHER]);
    let Reply::Done(users) = reply(&ListUsers, 200, &odd) else { panic!("a list") };
    assert_eq!(users.iter().map(|user| user.id).collect::<Vec<_>>(), [THING, OTHER]);
}

#[test]
fn a_building_keeps_its_odd_values() {
    let body = json!([{
        "id": THING, "name": "N", "property_size_m2": 120.0, "property_age": "1990-2000", "num_occupants": "3",
        "photovoltaic": false, "zip_code": "01067", "country": null, "country_iso2": "AT", "space_heating": null,
    }]);
    let Reply::Done(Done::BuildingsListed(found)) = reply(&Call::ListBuildings { user: USER }, 200, body) else {
        panic!("not a list");
    };
    let observed: Record = [
        (Field::Name, "N".into()),
        (Field::PropertySizeM2, FieldValue::Number(120)),
        (Field::PropertyAge, "1990-2000".into()),
        (Field::NumOccupants, FieldValue::Number(3)),
        (Field::Photovoltaic, FieldValue::Flag(false)),
        (Field::ZipCode, "01067".into()),
        (Field::Country, "AT".into()),
    ]
    .into();
    assert_eq!(found, [BuildingFound { id: THING, observed }]);
}

#[test]
fn a_pump_is_steered_unless_paused_or_deleted() {
    for (more, is_steered) in [
        (json!({}), true),
        (json!({"is_smart_optimization_active": null}), true),
        (json!({"is_smart_optimization_active": false}), false),
        (json!({"deleted_at": "2026-01-01T00:00:00Z"}), false),
        (json!({"deleted_at": "0001-01-01T00:00:00Z"}), true),
    ] {
        let mut item = json!({"id": THING, "building": OTHER});
        item.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let found = pump(item.as_object().expect("an object"));
        let expect = PumpFound { id: THING, building: Some(OTHER), is_steered };
        assert_eq!(found, Some(expect), "{more}");
    }
}

/// A heat pump that says nothing about itself.
fn silent() -> Observation {
    Observation { heat_pump: THING, ..Observation::default() }
}

fn check_observation(more: Value, change: impl FnOnce(&mut Observation)) {
    let mut item = Map::from_iter([("id".to_owned(), json!(THING))]);
    item.extend(more.as_object().expect("an object").clone());
    let mut expect = silent();
    change(&mut expect);
    assert_eq!(observation(&item, &mut DriftNotes::default()), Some(expect), "{more}");
}

#[test]
fn an_observation_reads_each_signal() {
    check_observation(json!({"is_authenticated": null, "actions": null, "device_model": null}), |_| {});
    for text in ["2026-10-01T12:00:00Z", "2026-10-01T14:00:00+02:00", "2026-10-01T12:00:00"] {
        let at = Timestamp::parse("2026-10-01T12:00:00Z");
        check_observation(json!({"current_state_last_updated_at": text}), |seen| seen.updated_at = at);
    }
    check_observation(json!({"current_state_last_updated_at": "0001-01-01T00:00:00Z"}), |_| {});
    check_observation(json!({"lifecycle_state": "Error"}), |seen| seen.has_lifecycle_error = true);
    for (word, status) in [
        ("ok", Some(ConnectionStatus::Ok)),
        ("Warning", Some(ConnectionStatus::Warning)),
        ("ERROR", Some(ConnectionStatus::Error)),
        ("unknown", Some(ConnectionStatus::Unknown)),
        ("meh", None),
    ] {
        check_observation(json!({"connection_status": word}), |seen| seen.connection = status);
    }
    check_observation(json!({"is_smart_optimization_active": false}), |seen| seen.is_paused = true);
    check_observation(json!({"is_smart_optimization_active": true}), |_| {});
    let long = format!("{}\u{0}\n{}", "M".repeat(60), "x".repeat(1_000));
    check_observation(json!({"device_model": {"manufacturer": long, "model": "\u{7}"}}), |seen| {
        seen.manufacturer = Some(format!("{}{}", "M".repeat(60), "x".repeat(40)));
    });
    check_observation(json!({"deleted_at": "2026-01-01T00:00:00+00:00"}), |seen| seen.is_deleted = true);
    check_observation(json!({"authorization_url": "https://connect.example"}), |seen| {
        seen.reconnect_url = Some("https://connect.example".to_owned());
    });
    let body = json!({
        "device_model": {"manufacturer": "Maker", "model": 7}, "building_id": OTHER, "is_authenticated": true,
    });
    check_observation(body, |seen| {
        seen.manufacturer = Some("Maker".to_owned());
        seen.model = Some("7".to_owned());
        seen.building = Some(OTHER);
        seen.is_authenticated = Some(true);
    });
}

/// An entry of the watch's list that cannot be read stands there without an id.
#[test]
fn an_unreadable_entry_of_the_list_has_no_id() {
    let odd = json!([{"id": THING}, {"id": null}, null, 7, {"id": "short"}]);
    let Reply::Done(seen) = reply(&watched(), 200, &odd) else { panic!("a list") };
    let ids: Vec<bool> = seen.iter().map(|seen| seen.heat_pump.is_nil()).collect();
    assert_eq!(ids, [false, true, true, true, true]);
}

#[test]
fn the_way_to_reconnect_is_the_cue_of_an_action_or_else_the_older_address() {
    let call = GetHeatPump::reconnection(USER, THING);
    let cue = |parameters: &[&str]| {
        let parameters = parameters.iter().map(|name| (*name).to_owned()).collect();
        Some(Reconnection::Cue(Cue { id: OTHER, secret: Hidden("s+1".to_owned()), parameters }))
    };
    let page = || Some(Reconnection::Page("https://connect.example/old".to_owned()));
    let url = format!("https://podero.example/api/partners/v2.0/cues/{OTHER}/resolve?secret=s%2B1");
    let action = |link: Value| json!([{"code": "information"}, {"code": "reauthenticate", "resolution_link": link}]);
    for (more, expected) in [
        (json!({}), None),
        (json!({"authorization_url": "https://connect.example/old"}), page()),
        (json!({"actions": action(json!(url))}), cue(&[])),
        (
            json!({"actions": action(json!({"url": url, "required_parameters": ["success_url", "x"]}))}),
            cue(&["success_url", "x"]),
        ),
        (json!({"actions": action(json!(format!("https://p.example/go?cue_id={OTHER}&secret=s%2B1")))}), cue(&[])),
        // A link without the cue or its secret opens nothing.
        (
            json!({"actions": action(json!("https://p.example/cues/short/resolve?secret=s")), "authorization_url": "https://connect.example/old"}),
            page(),
        ),
        (json!({"actions": action(json!(format!("https://p.example/cues/{OTHER}/resolve")))}), None),
        (json!({"actions": action(json!(null))}), None),
    ] {
        let mut item = json!({"id": THING});
        item.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(reply(&call, 200, &item), Reply::Done(expected), "{more}");
    }
    assert!(!format!("{:?}", cue(&[])).contains("s+1"), "what opens it is not shown");
}

#[test]
fn a_cue_is_begun_with_the_names_that_it_asks_for() {
    for (parameters, names) in [
        (vec![], ["successUrl", "cancelUrl"]),
        (vec!["success_url".to_owned(), "cancel_url".to_owned()], ["success_url", "cancel_url"]),
    ] {
        let cue = Cue { id: THING, secret: Hidden("a/b+c".to_owned()), parameters };
        let (success_url, cancel_url) = ("https://u.example/1".to_owned(), "https://u.example/2".to_owned());
        let call = ResolveCue { cue, success_url, cancel_url, language: Some("de".to_owned()) };
        let sent = PartnerCall::request(&call, ORG).expect("it can be sent");
        assert_eq!(sent.path, format!("/api/partners/v2.0/cues/{THING}/resolve?cue_id={THING}&secret=a%2Fb%2Bc"));
        let wanted = json!({names[0]: "https://u.example/1", names[1]: "https://u.example/2", "language": "de"});
        assert_eq!(sent.body, Some(wanted));
        let link = || Reply::Done("https://connect.example/1".to_owned());
        assert_eq!(reply(&call, 200, json!({"redirect_url": "https://connect.example/1"})), link());
        for wrong in [json!({}), json!({"redirect_url": null}), json!({"redirect_url": "javascript:x"})] {
            assert!(matches!(reply(&call, 200, &wrong), Reply::Unknown { .. }), "{wrong}");
        }
        assert!(!format!("{call:?}").contains("a/b"), "nor here");
    }
}

#[test]
fn what_needs_the_customer_is_told_by_the_actions_or_asked_for_in_detail() {
    check_observation(json!({"action_needed": true}), |seen| seen.wants_detail = true);
    check_observation(json!({"action_needed": true, "actions": []}), |_| {});
    check_observation(json!({"is_authenticated": false}), |seen| {
        seen.is_authenticated = Some(false);
        seen.wants_detail = true;
    });
    let link = json!({"url": "https://secret.example", "required_parameters": []});
    for resolution_link in [link, json!("https://secret.example")] {
        let actions = json!([{"code": "ReAuthenticate", "resolution_link": resolution_link}]);
        let body = json!({"actions": actions, "action_needed": true});
        check_observation(body, |seen| seen.wants_reauthentication = true);
    }
    check_observation(json!({"actions": [{"code": "information"}, 7, null]}), |_| {});
}

#[test]
fn the_detail_has_nothing_more_to_ask_for() {
    let call = GetHeatPump::observe(USER, THING);
    let Reply::Done(seen) = reply(&call, 200, json!({"id": THING, "action_needed": true})) else {
        panic!("not an observation");
    };
    assert!(!seen.wants_detail);
}

/// Feeds pages one after the other: the path of each further request, and the result.
fn pages(bodies: &[Value]) -> (Vec<String>, &'static str, usize) {
    let (mut pages, mut paths) = (None, Vec::new());
    for body in bodies {
        match read(&ListUsers, &received(200, None, body), &mut pages, NOW, &mut DriftNotes::default()) {
            Reading::Whole(Reply::Done(users)) => return (paths, "done", users.len()),
            Reading::Whole(reply) => return (paths, why(&reply), 0),
            Reading::Part(entries) => {
                let path = ListUsers.request(ORG).expect("has an address").page_from(entries).path;
                paths.push(path.split_once('?').expect("has a query").1.to_owned());
            }
        }
    }
    (paths, "goes on", 0)
}

#[test]
fn an_enveloped_list_is_read_to_its_end_or_not_at_all() {
    let item = |n: u128| json!({"id": Uuid::from_u128(n)});
    let page = |total: usize, items: &[u128]| {
        let items: Vec<Value> = items.iter().map(|n| item(*n)).collect();
        json!({"total": total, "items": items})
    };
    let next = |offset: usize| format!("limit=200&offset={offset}");
    assert_eq!(pages(&[page(2, &[1, 2])]), (vec![], "done", 2));
    assert_eq!(pages(&[page(0, &[])]), (vec![], "done", 0));
    let whole = [page(5, &[1, 2]), page(5, &[3, 4]), page(5, &[5])];
    assert_eq!(pages(&whole), (vec![next(2), next(4)], "done", 5));
    let ghosts = [json!({"total": "3", "items": [item(1), null]}), page(3, &[2])];
    assert_eq!(pages(&ghosts), (vec![next(2)], "done", 2));
    for (second, expect) in [
        (page(5, &[]), "list does not go on"),
        (page(5, &[1, 2]), "list does not go on"),
        (page(4, &[3, 4]), "list changed while it was read"),
        (json!([item(3)]), "list changed its shape"),
        (json!(null), "answer makes no sense: another shape"),
    ] {
        assert_eq!(pages(&[page(5, &[1, 2]), second]), (vec![next(2)], expect, 0));
    }
    assert_eq!(pages(&[page(5, &[])]), (vec![], "list does not go on", 0));
}

#[test]
fn retry_after_is_seconds_or_a_date_and_never_negative() {
    // NOW is Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    for (text, expect) in [
        ("0", Some(0)),
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("-5", Some(0)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
        ("", None),
        ("soon", None),
        ("1.5", None),
    ] {
        assert_eq!(retry_after(text, NOW).map(|wait| wait.as_secs()), expect, "{text}");
    }
    let read =
        |retry_after| whole(of_event(find()).read(&received(503, Some(retry_after), ""), &mut DriftNotes::default()));
    assert_eq!(read("9"), Reply::Busy { after: Some(Duration::from_secs(9)) });
    assert_eq!(why(&read("soon")), "server error (503)");
}

#[test]
fn a_duplicate_is_told_by_its_words_and_only_where_a_user_is_written() {
    let update = Call::UpdateUser { user: USER, changes: [(Field::Email, Some("taken@example.com".into()))].into() };
    let building = rename([].into());
    for (call, body, expect) in [
        (create(), json!({"detail": "User with this Email ALREADY exists."}), "duplicate"),
        (create(), json!({"email": ["This value must be unique"]}), "duplicate"),
        (create(), json!({"detail": [{"loc": ["body"], "msg": "is taken", "type": "x"}]}), "duplicate"),
        (update.clone(), json!({"detail": "e-mail in use"}), "duplicate"),
        // Our own value, repeated by Podero, is no statement of Podero's.
        (update, json!({"detail": "taken@example.com is not valid"}), "invalid"),
        (create(), json!({"detail": "price zone does not exist already"}), "invalid"),
        (building, json!({"detail": "already exists"}), "invalid"),
    ] {
        for status in [400, 422] {
            assert_eq!(why(&reply(&call, status, &body)), expect, "{call:?} {body}");
        }
    }
}

#[test]
fn a_refusal_names_our_fields_and_known_codes_and_counts_the_rest() {
    let check = |body: &str, expect: &str| {
        let Reply::Refused(refusal) = reply(&create(), 418, body) else { panic!("{body}") };
        assert_eq!(refusal.detail, expect, "{body}");
    };
    for silent in
        ["", "given@example.com is odd", r#"{"detail": 7}"#, r#"{"detail": "User Jane at 1 High Street"}"#, "7"]
    {
        check(silent, "");
    }
    let input = r#"[{"type": "value_error", "loc": ["body", "email"], "msg": "given", "input": {"Jane": 1}},
        {"loc": ["body", 3, "Given Second!"]}, {"type": "missing"}, {"type": "jane@example.com"}, {}]"#;
    check(&format!(r#"{{"detail": {input}}}"#), "email; an unknown field; missing, value_error; an unknown code");
    check(r#"{"zip_code": ["This field is for Jane."], "Jane": 1, "Doe": 2}"#, "zip_code; 2 unknown fields");
    check(r#"{"code": "email_taken", "message": "Jane has it"}"#, "email_taken");
    check(&format!(r#"{{"email": "{}"}}"#, "x".repeat(super::super::answer::REFUSAL_BYTES_MAX)), "");
}

#[test]
fn a_link_that_must_not_go_out_is_left_out_and_told() {
    let long = format!("https://a.example/{}", "x".repeat(link::CHARS_MAX));
    for bad in ["https://a.example/\r\nBcc: x", "javascript:x", "https://u:p@a.example/", &long] {
        let body = json!([{"id": THING, "is_authenticated": false, "authorization_url": bad}]);
        let mut notes = DriftNotes::default();
        let reading = read(&watched(), &received(200, None, body), &mut None, NOW, &mut notes);
        let Reading::Whole(Reply::Done(seen)) = reading else { panic!("{bad:?}") };
        assert_eq!((seen[0].reconnect_url.as_deref(), seen[0].is_authenticated), (None, Some(false)), "{bad:?}");
        assert_eq!(notes.drifts(), [Drift::UnusableLink], "{bad:?}");
        let call = GetHeatPump::reconnection(USER, THING);
        let page = json!({"id": THING, "authorization_url": bad});
        assert_eq!(reply(&call, 200, page), Reply::Done(None), "{bad:?}");
        assert_eq!(why(&reply(&session(None), 200, json!({"authentication_url": bad}))), "answer without link");
    }
}

#[test]
fn a_list_is_unknown_once_it_holds_more_than_makes_sense() {
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    let buildings = of_event(Call::ListBuildings { user: USER });
    let (watched, users) = (Any::ObserveHeatPumps, Any::ListUsers);
    let pump = format!(r#"{{"id": "{THING}", "x": [0, 0, 0]}}"#);
    let wordy = format!(r#"{{"id": "{THING}", "authorization_url": "https://a.example/{}"}}"#, "x".repeat(2_000));
    for (call, body, expect) in [
        (&watched, list("0", 1_000), "done"),
        (&watched, list("0", 1_001), "list of too many entries that cannot be used"),
        (&watched, list("{}", 1_000_000), "list of too many entries that cannot be used"),
        (&watched, list(&pump, 1_000), "done"),
        (&watched, list(&pump, 1_001), "list of too many entries"),
        (&watched, list(&wordy, 999), "list of too large entries"),
        (&buildings, list("[]", 1_001), "list of too many entries that cannot be used"),
        (&users, list("0", 1_001), "list of too many entries that cannot be used"),
        (&users, list("0", 3), "list of which no entry can be used"),
        (&users, list(&pump, 1_001), "done"),
    ] {
        assert_eq!(why(&call.reply(200, body)), expect, "{call:?}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics_and_no_garbage_is_a_yes_with_an_id(
        index in 0usize..15,
        status in 100u16..1000,
        retry_after in proptest::option::of("\\PC{0,40}"),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let call = &calls()[index];
        let received = Received { retry_after, ..Received::of(status, &body) };
        let made = match call {
            Any::Event(call) => matches!(
                read(&**call, &received, &mut Default::default(), NOW, &mut DriftNotes::default()),
                Reading::Whole(Reply::Done(Done::BuildingCreated { .. } | Done::SessionCreated { .. }))
            ),
            Any::ListUsers | Any::ObserveHeatPumps | Any::ObserveHeatPump => false,
        };
        prop_assert!(!made);
    }

    #[test]
    fn reading_never_panics_on_json_of_any_shape(index in 0usize..15, status in 200u16..500, body in shape()) {
        drop(calls()[index].read(&received(status, None, body), &mut DriftNotes::default()));
    }

    #[test]
    fn no_text_of_podero_shows_in_a_reply_that_is_no_yes(index in 0usize..15, status in 300u16..600, body in marked()) {
        let mut notes = DriftNotes::default();
        let reading = calls()[index].read(&received(status, None, &body), &mut notes);
        let told = format!("{reading:?} {:?}", notes.drifts());
        prop_assert!(!told.to_lowercase().contains(MARK), "{told}");
    }
}

/// A mark in every text of an answer that must not be repeated.
const MARK: &str = "zzmark";

/// JSON of any shape whose texts, also the names of its fields, contain [`MARK`].
fn marked() -> impl Strategy<Value = Value> {
    let text = || "\\PC{0,8}".prop_map(|text| format!("{text} ZzMark {text}"));
    let leaf = prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null)];
    let names = move || {
        prop_oneof![
            text(),
            Just("detail".to_owned()),
            Just("loc".to_owned()),
            Just("type".to_owned()),
            Just("code".to_owned()),
            Just("email".to_owned()),
            Just("errors".to_owned()),
        ]
    };
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(names(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON built of the names that the API uses, with values of every type in every place.
fn shape() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(USER)),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("id"),
        Just("role"),
        Just("items"),
        Just("total"),
        Just("actions"),
        Just("code"),
        Just("detail"),
        Just("loc"),
        Just("type"),
        Just("zip_code"),
        Just("property_age"),
        Just("device_model"),
        Just("deleted_at"),
        Just("current_state_last_updated_at"),
        Just("num_heat_pumps"),
        Just("authentication_url"),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
