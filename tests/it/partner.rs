//! Every way in which Podero, or the way there, can go wrong, through the whole bridge and over real HTTP: no matter what happens
//! to a call, each customer has exactly one living user and one building in the end, and each event the fate that the contract
//! gives it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::sandbox::{self, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bus::Bus;
use crate::servers;
use crate::world::{Database, Settings, World, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const LATER: &str = "2026-10-02T12:00:00Z";

/// Timeout of a call: far beyond what the sandbox takes, and short enough to wait for.
const DEADLINE: &str = "500ms";
const PATIENCE: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        toml: "[watch]\nenabled = false\n".to_owned(),
        environment: vec![("PODERO__TIMEOUT", DEADLINE.to_owned())],
    }
}

async fn world() -> World {
    let world = World::start(Database::Sqlite, settings()).await;
    world.ready().await;
    world
}

impl World {
    /// Sends an event that is taken; its id.
    async fn take(&self, event: &Value) -> String {
        let (status, answer) = self.send(event).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    async fn event_of(&self, id: &str) -> Value {
        self.get(&self.operator(&format!("/v1/events/{id}"))).await
    }

    async fn parked(&self) -> Vec<Value> {
        self.get(&self.operator("/v1/parked")).await["parked"].as_array().expect("a list").clone()
    }

    async fn revoke_tokens(&self) {
        let answer = self.http.delete(self.sandbox("/tokens")).send().await.expect("an answer");
        assert_eq!(answer.status(), 204);
    }

    async fn switch(&self, variants: &Value) {
        let request = self.http.patch(self.sandbox("/variants")).header("content-type", "application/json");
        let answer = request.body(variants.to_string()).send().await.expect("an answer");
        assert!(answer.status().is_success());
    }

    /// Podero's living users with this key, and the living buildings of the first of them.
    async fn holds(&self, customer: &str) -> (Vec<Value>, Vec<Value>) {
        let state = self.sandbox_state().await;
        let of = |list: &str| state[list].as_array().expect("a list").clone();
        let is_alive = |item: &Value| item["deleted"] != json!(true) && item["deleted_at"].is_null();
        let users: Vec<Value> = of("users")
            .into_iter()
            .filter(|user| user["external_user_id"] == json!(customer) && is_alive(user))
            .collect();
        let owner = users.first().map(|user| user["id"].clone());
        let buildings = of("buildings")
            .into_iter()
            .filter(|building| Some(&building["user_id"]) == owner.as_ref() && is_alive(building))
            .collect();
        (users, buildings)
    }

    async fn has_one_of_each(&self, customer: &str, what: &str) {
        let (users, buildings) = self.holds(customer).await;
        assert_eq!((users.len(), buildings.len()), (1, 1), "{what}: {users:?} {buildings:?}");
    }

    /// The ordered faults have struck; else a test would say nothing.
    async fn has_no_faults_left(&self, what: &str) {
        assert_eq!(self.get(&self.sandbox("/faults")).await, json!([]), "{what} did not strike");
    }

    /// A call in the name of the organisation, past the bridge.
    async fn by_hand(&self, method: reqwest::Method, path: &str) -> u16 {
        let account = sandbox::SandboxAccount::default();
        let base = self.sandbox("").replace("/_sandbox", "");
        let grant = self.http.post(format!("{base}/oauth2/token/"));
        let grant = grant.basic_auth(&account.client_id, Some(&account.client_secret));
        let grant = grant.header("content-type", "application/json").body(r#"{"grant_type":"client_credentials"}"#);
        let token: Value = grant.send().await.expect("an answer").json().await.expect("JSON");
        let url = format!("{base}/api/partners/v2.0/org/{}{path}", account.org_id);
        let request = self.http.request(method, url).bearer_auth(token["access_token"].as_str().expect("a token"));
        request.send().await.expect("an answer").status().as_u16()
    }
}

/// A fault that passes: the event is applied in the end, and this shows in its calls.
struct Passing {
    fault: Value,
    shows: &'static str,
}

fn passing() -> Vec<Passing> {
    let fault = |fault: Value, shows| Passing { fault, shows };
    let status = |status: u16, shows| fault(json!({"kind": "status", "status": status}), shows);
    vec![
        fault(json!({"kind": "drop_before"}), "unknown: connection cut"),
        fault(json!({"kind": "drop_after"}), "unknown: connection cut"),
        fault(json!({"kind": "cut"}), "unknown: connection cut"),
        fault(json!({"kind": "half"}), "unknown: answer makes no sense"),
        fault(json!({"kind": "garbage"}), "unknown: answer makes no sense"),
        fault(json!({"kind": "latency", "latency_ms": 2_000}), "unknown: no answer in time"),
        // It is carried out between the deadline and the next look at it.
        fault(json!({"kind": "slow", "latency_ms": 800}), "unknown: no answer in time"),
        status(408, "busy"),
        status(425, "busy"),
        status(429, "busy"),
        fault(json!({"kind": "status", "status": 429, "retry_after": 1}), "busy"),
        fault(json!({"kind": "status", "status": 503, "retry_after": 1, "retry_after_date": true}), "busy"),
        status(500, "unknown: server error"),
        status(502, "unknown: server error"),
        status(503, "unknown: server error"),
        status(504, "unknown: server error"),
        status(403, "held 403"),
        // Once it is the token that ran out early; twice, with a fresh one, it is the bridge that is refused.
        fault(json!({"kind": "status", "status": 401}), "done"),
        fault(json!({"kind": "status", "status": 401, "times": 2}), "held 401"),
    ]
}

async fn strikes_each_call_of(operation: &str, also: Vec<Passing>) {
    let world = world().await;
    for (number, Passing { fault, shows }) in passing().into_iter().chain(also).enumerate() {
        let what = format!("{operation} {fault}");
        let mut rule = fault;
        rule["operation"] = json!(operation);
        if rule["times"].is_null() {
            rule["times"] = json!(1);
        }
        world.fault(&rule).await;
        let customer = format!("C-{number}");
        let id = world.take(&sign_up(&format!("e-{number}"), &customer, TIME)).await;
        let settled = world.settled(&id).await;
        assert_eq!(settled["state"], "applied", "{what}: {settled}");
        assert!(settled["calls"].to_string().contains(shows), "{what}: {}", settled["calls"]);
        world.has_no_faults_left(&what).await;
        world.has_one_of_each(&customer, &what).await;
    }
    assert_eq!(world.parked().await, Vec::<Value>::new());
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_goes_wrong_in_passing_changes_nothing_in_the_end() {
    let redirect = Passing { fault: json!({"kind": "status", "status": 302}), shows: "held 302" };
    strikes_each_call_of("find_user", vec![redirect]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_of_a_user_that_goes_wrong_in_passing_makes_one() {
    let also = vec![
        // A form that has done it and shows where: look before doing it again.
        Passing { fault: json!({"kind": "status", "status": 302}), shows: "unknown: redirect" },
        // The path names nothing but the organisation.
        Passing { fault: json!({"kind": "status", "status": 404}), shows: "held 404" },
    ];
    strikes_each_call_of("create_user", also).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_of_a_building_that_goes_wrong_in_passing_makes_one() {
    let also = vec![
        Passing { fault: json!({"kind": "status", "status": 302}), shows: "unknown: redirect" },
        // The user that was there a moment ago is looked for once more.
        Passing { fault: json!({"kind": "status", "status": 404}), shows: "refused 404" },
    ];
    strikes_each_call_of("create_building", also).await;
}

/// An event that Podero refuses is parked with its reason, and a retry by hand makes it good.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_parked_and_a_retry_makes_it_good() {
    let world = world().await;
    let mut number = 0;
    for operation in ["find_user", "create_user", "create_building"] {
        for status in [400, 405, 409, 422] {
            number += 1;
            let what = format!("{operation} {status}");
            // The status says that an address is taken; the look-up that follows finds no user who has it.
            let reason = if what == "create_user 409" { "email_taken" } else { "refused" };
            let (id, customer) = (format!("e-{number}"), format!("C-{number}"));
            world.fault(&json!({"operation": operation, "kind": "status", "status": status, "times": 1})).await;
            let parked = world.apply(&sign_up(&id, &customer, TIME)).await;
            assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!(reason)), "{what}: {parked}");
            world.has_no_faults_left(&what).await;
            let id = parked["id"].as_str().expect("an id");
            let retry = world.operator(&format!("/v1/parked/{id}/retry"));
            assert_eq!(world.post(&retry, "application/json", String::new()).await.0, 200, "{what}");
            let settled = world.settled(id).await;
            assert_eq!(settled["state"], "applied", "{what}: {settled}");
            world.has_one_of_each(&customer, &what).await;
        }
    }
    assert_eq!(world.metric("podero_bridge_circuit_open").await, Some(0.0), "no refusal of one is everybody's");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_podero_asks_for_holds_events_and_polls_in_full() {
    for (status, is_date) in [(429, false), (503, true)] {
        let polling = Settings { toml: "[watch]\ninterval = \"1s\"\n".to_owned(), ..Settings::default() };
        let world = World::start(Database::Sqlite, polling).await;
        world.ready().await;
        let rule = json!({"operation": "create_user", "kind": "status", "status": status, "times": 1,
            "retry_after": 3, "retry_after_date": is_date});
        world.fault(&rule).await;
        let mut ids = vec![world.take(&sign_up("e-0", "C-0", TIME)).await];
        until("the pause is known", async || {
            (world.metric("podero_bridge_podero_paused").await == Some(1.0)).then_some(())
        })
        .await;
        let (_, ready) = world.get_text(&world.operator("/readyz")).await;
        assert!(ready.contains("podero: paused until") || ready.contains("paused until"), "{ready}");
        for number in 1..4 {
            ids.push(world.take(&sign_up(&format!("e-{number}"), &format!("C-{number}"), TIME)).await);
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(world.settled(id).await["state"], "applied");
            world.has_one_of_each(&format!("C-{number}"), "after the pause").await;
        }
        let requests = world.get(&world.sandbox("/requests")).await;
        let requests: Vec<(Timestamp, bool)> = requests
            .as_array()
            .expect("a list")
            .iter()
            .map(|request| {
                let at = Timestamp::parse(request["at"].as_str().expect("a time")).expect("RFC 3339");
                (at, request["fault"] == "status")
            })
            .collect();
        let struck_at = requests.iter().find(|(_, is_struck)| *is_struck).expect("it struck").0;
        // Calls that began before the answer came do not count.
        let begun = struck_at.plus(Duration::from_millis(300));
        let ended = struck_at.plus(Duration::from_secs(3));
        let in_pause = requests.iter().filter(|(at, _)| *at > begun && *at < ended).count();
        assert_eq!(in_pause, 0, "{status} {requests:?}");
        assert!(requests.iter().any(|(at, _)| *at >= ended));
        world.bridge.stop().await;
    }
}

/// A token that ends early costs nothing and one that cannot be had only time.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_early_costs_nothing() {
    let world = world().await;
    world.revoke_tokens().await;
    let settled = world.apply(&sign_up("e-1", "C-1", TIME)).await;
    assert_eq!(settled["state"], "applied");
    assert!(!settled["calls"].to_string().contains("held"), "a fresh one was taken: {}", settled["calls"]);

    for (number, fault, shows) in [
        (2, json!({"kind": "status", "status": 500}), "unsent: server error at the token endpoint"),
        (3, json!({"kind": "drop_before"}), "unsent: no token"),
        (4, json!({"kind": "garbage"}), "unsent: token answer is garbage"),
        (5, json!({"kind": "latency", "latency_ms": 2_000}), "unsent: no token in time"),
        (6, json!({"kind": "status", "status": 429, "retry_after": 1}), "busy"),
    ] {
        let mut rule = fault;
        rule["operation"] = json!("token");
        world.fault(&rule).await;
        world.revoke_tokens().await;
        let id = world.take(&sign_up(&format!("e-{number}"), &format!("C-{number}"), TIME)).await;
        until("it was tried", async || world.event_of(&id).await["calls"].to_string().contains(shows).then_some(()))
            .await;
        world.no_faults().await;
        assert_eq!(world.settled(&id).await["state"], "applied", "{rule}");
        world.has_one_of_each(&format!("C-{number}"), &rule.to_string()).await;
    }
    world.bridge.stop().await;
}

/// A bridge that gives an event up after two seconds of failures, with a listener to all its notices.
async fn impatient(front: Option<(SocketAddr, SocketAddr)>) -> (World, Bus, crate::bus::Listener) {
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let settings = Settings {
        toml: "[watch]\ninterval = \"1s\"\n".to_owned(),
        environment: vec![
            ("AMQP__URL", vhost.clone()),
            ("PODERO__TIMEOUT", DEADLINE.to_owned()),
            ("RETRY__GIVE_UP_AFTER", "2s".to_owned()),
        ],
    };
    let world = match front {
        Some((front, controls)) => World::start_against(front, controls, settings).await,
        None => World::start(Database::Sqlite, settings).await,
    };
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let listener = bus.listen(&["#"]).await;
    (world, bus, listener)
}

/// Podero is out of reach from here on: events wait without ageing, the watch says that it is blind; then all is well.
async fn waits_out(
    (world, _bus, mut listener): (World, Bus, crate::bus::Listener),
    cause: &str,
    mend: impl AsyncFnOnce(&World),
) {
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(world.take(&sign_up(&format!("e-{number}"), &format!("C-{number}"), TIME)).await);
    }
    let blind = listener.next(PATIENCE).await.expect("the watch says that it is blind");
    assert_eq!((blind.routing_key.as_str(), &blind.event["data"]["cause"]), ("watch.blind", &json!(cause)));
    assert_eq!(blind.event["data"]["severity"], "critical");
    let open = world.get(&world.operator("/v1/alerts?open=true")).await;
    let told = &blind.event["data"];
    for field in ["dedup_key", "occurrence_id", "cause", "since", "detected_at"] {
        assert_eq!(open["watch"][field], told[field], "{field} of {open}");
    }
    until("it is counted", async || (world.metric("podero_bridge_alerts_open").await == Some(1.0)).then_some(())).await;
    assert_eq!(world.metric("podero_bridge_circuit_open").await, Some(1.0));
    let (status, ready) = world.get_text(&world.operator("/readyz")).await;
    assert_eq!((status, ready.contains("circuit open since")), (503, true), "{ready}");
    // Longer than an event may fail.
    let (clock, began) = (Clock::system(), Clock::system().now());
    until("it has lasted", async || (clock.now().since(began) > Duration::from_secs(4)).then_some(())).await;
    assert_eq!(world.parked().await, Vec::<Value>::new());
    for id in &ids {
        assert_eq!(world.event_of(id).await["state"], "pending");
    }
    mend(&world).await;
    for (number, id) in ids.iter().enumerate() {
        let settled = world.settled(id).await;
        assert_eq!(settled["state"], "applied", "{settled}");
        world.has_one_of_each(&format!("C-{number}"), cause).await;
    }
    world.ready().await;
    let mut said = Vec::new();
    let restored = loop {
        let heard = listener.next(PATIENCE).await.expect("the watch says that it sees again");
        said.push(heard.routing_key.clone());
        if heard.routing_key == "watch.restored" {
            break heard;
        }
    };
    let open = world.get(&world.operator("/v1/alerts?open=true")).await;
    assert_eq!(open, json!({"alerts": [], "next": null, "outages": [], "watch": null}));
    let (begin, end) = (&blind.event["data"], &restored.event["data"]);
    assert_eq!((&end["occurrence_id"], &end["dedup_key"]), (&begin["occurrence_id"], &begin["dedup_key"]));
    assert_eq!((&end["action"], &end["resolution"]), (&json!("resolve"), &json!("restored")));
    let is_fine = |topic: &String| topic == "watch.restored" || topic == "customer.provisioned";
    assert!(said.iter().all(is_fine), "no alert about a heat pump, no second one about the watch: {said:?}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_hold_everything_are_told_and_park_nothing() {
    let house = impatient(None).await;
    house.0.fault(&json!({"operation": "token", "kind": "status", "status": 401})).await;
    house.0.revoke_tokens().await;
    waits_out(house, "credentials_refused", async |world| world.no_faults().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_organisation_holds_everything_is_told_and_parks_nothing() {
    let house = impatient(None).await;
    house.0.fault(&json!({"operation": "*", "kind": "status", "status": 403})).await;
    waits_out(house, "credentials_refused", async |world| world.no_faults().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_podero_that_is_away_is_waited_out_is_told_and_parks_nothing() {
    let front = Front::open().await;
    let house = impatient(Some((front.address, front.controls))).await;
    front.close().await;
    waits_out(house, "podero_away", async |_| front.open_again().await).await;
}

/// A connection that is refused or reset at any moment makes nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_reset_at_any_moment_makes_nothing_twice() {
    let front = Front::open().await;
    let world = World::start_against(front.address, front.controls, settings()).await;
    world.ready().await;
    for (number, way, shows) in [
        (0, Way::ResetAtOnce, "unknown: connection cut"),
        (1, Way::ResetBeforePodero, "unknown: connection cut"),
        (2, Way::ResetAfterPodero, "unknown: connection cut"),
        (3, Way::ResetAtOnce, "unknown: connection cut"),
    ] {
        // Each call of the sign-up is struck in turn: the connections that are let through in between are counted.
        for let_through in 0..4 {
            let customer = format!("C-{number}-{let_through}");
            front.next(let_through, way);
            let settled = world.apply(&sign_up(&format!("e-{number}-{let_through}"), &customer, TIME)).await;
            assert_eq!(settled["state"], "applied", "{way:?} {let_through}: {settled}");
            if let_through < 2 {
                assert!(settled["calls"].to_string().contains(shows), "{way:?}: {}", settled["calls"]);
            }
            front.next(0, Way::Through);
            world.has_one_of_each(&customer, &format!("{way:?} {let_through}")).await;
        }
    }
    front.close().await;
    let id = world.take(&sign_up("e-last", "C-last", TIME)).await;
    until("it was tried", async || {
        world.event_of(&id).await["calls"].to_string().contains("unsent: no connection").then_some(())
    })
    .await;
    front.open_again().await;
    assert_eq!(world.settled(&id).await["state"], "applied");
    world.has_one_of_each("C-last", "refused").await;
    world.bridge.stop().await;
}

/// A user deleted behind our back is made again, and one that is gone needs no deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_deleted_behind_our_back_is_made_again() {
    let world = world().await;
    for (number, path) in [(1, "?soft_delete=true"), (2, "")] {
        let customer = format!("C-{number}");
        world.apply(&sign_up(&format!("e-{number}"), &customer, TIME)).await;
        let user = world.holds(&customer).await.0[0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(world.by_hand(reqwest::Method::DELETE, &format!("/users/{user}{path}")).await, 204);
        let address =
            json!({"street_and_number": "Neugasse 2", "zip_code": "04109", "town": "Leipzig", "country": "DE"});
        let moved = json!({"customer_id": customer, "address": address});
        let settled = world.apply(&event(&format!("m-{number}"), "customer.moved", LATER, &moved)).await;
        assert_eq!(settled["state"], "applied", "{settled}");
        world.has_one_of_each(&customer, "made anew").await;
        let (users, _) = world.holds(&customer).await;
        assert_ne!(users[0]["id"], json!(user));
        assert_eq!(users[0]["first_name"], "Anna", "all that is known, not only what changed");

        // And once more, before the customer leaves.
        let user = users[0]["id"].as_str().expect("an id");
        assert_eq!(world.by_hand(reqwest::Method::DELETE, &format!("/users/{user}{path}")).await, 204);
        let churned = event(
            &format!("c-{number}"),
            "customer.churned",
            "2026-10-03T12:00:00Z",
            &json!({"customer_id": customer}),
        );
        assert_eq!(world.apply(&churned).await["state"], "applied");
        assert_eq!(world.holds(&customer).await.0, Vec::<Value>::new());
    }
    // Podero says "not there" to the deletion itself.
    world.apply(&sign_up("e-3", "C-3", TIME)).await;
    world.fault(&json!({"operation": "delete_user", "kind": "drop_after", "times": 1})).await;
    let churned = world.apply(&event("c-3", "customer.churned", LATER, &json!({"customer_id": "C-3"}))).await;
    assert_eq!(churned["state"], "applied", "{churned}");
    world.has_no_faults_left("the deletion").await;
    assert_eq!(world.holds("C-3").await.0, Vec::<Value>::new());
    world.bridge.stop().await;
}

/// Without a list of buildings none is made twice and one in doubt waits for a person.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_of_buildings_none_is_made_twice() {
    let world = world().await;
    world.switch(&json!({"building_list_supported": false})).await;
    assert_eq!(world.apply(&sign_up("e-1", "C-1", TIME)).await["state"], "applied");
    world.has_one_of_each("C-1", "no list").await;
    for (number, status) in [(2, 404), (3, 405)] {
        let customer = format!("C-{number}");
        world.fault(&json!({"operation": "create_building", "kind": "drop_after", "times": 1})).await;
        world.fault(&json!({"operation": "list_buildings", "kind": "status", "status": status})).await;
        let parked = world.apply(&sign_up(&format!("e-{number}"), &customer, TIME)).await;
        let expected = (&json!("parked"), &json!("building_in_doubt"));
        assert_eq!((&parked["state"], &parked["reason"]), expected, "{parked}");
        world.has_one_of_each(&customer, "in doubt").await;
        world.no_faults().await;
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_total_and_items_is_read_and_what_is_on_it_adopted() {
    let world = world().await;
    world.switch(&json!({"list_envelope": true})).await;
    for kind in ["drop_after", "cut", "half", "garbage"] {
        let customer = format!("C-{kind}");
        world.fault(&json!({"operation": "create_building", "kind": kind, "times": 1})).await;
        let settled = world.apply(&sign_up(&format!("e-{kind}"), &customer, TIME)).await;
        assert_eq!(settled["state"], "applied", "{kind}: {settled}");
        assert!(settled["calls"].to_string().contains("list_buildings"), "{kind}: {}", settled["calls"]);
        world.has_no_faults_left(kind).await;
        world.has_one_of_each(&customer, kind).await;
    }
    world.bridge.stop().await;
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It reaches Podero.
    Through,
    /// Reset while the request is being sent; no reader gets it.
    ResetAtOnce,
    /// Reset once a request was read; Podero never sees it.
    ResetBeforePodero,
    /// Podero's answer is there, and the connection is reset instead of giving it.
    ResetAfterPodero,
}

/// A way to a sandbox that can be cut, in all the ways in which TCP can.
struct Front {
    address: SocketAddr,
    controls: SocketAddr,
    plan: Arc<Mutex<(usize, Way)>>,
    listening: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Front {
    async fn open() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let controls = listener.local_addr().expect("bound");
        let settings = sandbox::SandboxSettings { seed: Some(1), ..sandbox::SandboxSettings::default() };
        let sandbox = Sandbox::new(settings, Clock::system());
        tokio::spawn(sandbox::server(sandbox, listener).expect("listens"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let plan = Arc::new(Mutex::new((0, Way::Through)));
        let front = Self { address, controls, plan, listening: Mutex::default() };
        front.listen(listener);
        front
    }

    fn listen(&self, listener: TcpListener) {
        let (plan, podero) = (self.plan.clone(), self.controls);
        let listening = tokio::spawn(async move {
            // Dropped with this task: then every connection ends.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let plan = plan.clone();
                connections.spawn(async move { carry(stream, podero, &plan).await });
            }
        });
        *self.listening.lock().expect("whole") = Some(listening);
    }

    /// After this number of requests that reach Podero, the next one goes this way; those behind it reach Podero again.
    fn next(&self, let_through: usize, way: Way) {
        *self.plan.lock().expect("whole") = (let_through, way);
    }

    /// Stops listening.
    async fn close(&self) {
        let listening = self.listening.lock().expect("whole").take().expect("was open");
        listening.abort();
        listening.await.expect_err("aborted");
    }

    async fn open_again(&self) {
        self.listen(TcpListener::bind(self.address).await.expect("the same port"));
    }
}

/// The next request's way.
fn taken(plan: &Mutex<(usize, Way)>) -> Way {
    let mut plan = plan.lock().expect("whole");
    match *plan {
        (0, way) => {
            *plan = (0, Way::Through);
            way
        }
        (left, way) => {
            *plan = (left - 1, way);
            Way::Through
        }
    }
}

/// One connection: its requests come one after the other.
async fn carry(mut client: TcpStream, podero: SocketAddr, plan: &Mutex<(usize, Way)>) {
    let Ok(mut server) = TcpStream::connect(podero).await else { return };
    let mut answer = Vec::new();
    loop {
        let mut first = [0];
        tokio::select! {
            came = client.peek(&mut first) => {
                if !came.is_ok_and(|count| count > 0) {
                    return;
                }
                let way = taken(plan);
                let request = match way {
                    Way::ResetAtOnce => None,
                    Way::Through | Way::ResetBeforePodero | Way::ResetAfterPodero => read_request(&mut client).await,
                };
                if way == Way::ResetAfterPodero && let Some(request) = &request {
                    server.write_all(request).await.ok();
                    server.read_buf(&mut answer).await.ok();
                }
                let Some(request) = request.filter(|_| way == Way::Through) else {
                    client.set_zero_linger().ok();
                    return;
                };
                if server.write_all(&request).await.is_err() {
                    return;
                }
            }
            read = server.read_buf(&mut answer) => {
                if !read.is_ok_and(|count| count > 0) || client.write_all(&answer).await.is_err() {
                    return;
                }
                answer.clear();
            }
        }
    }
}

async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if client.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}

fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    request.len() >= head + 4 + length.unwrap_or(0)
}
