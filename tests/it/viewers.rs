//! Answers to viewers: over a store full of personal data, each route that they may read tells nothing of a person.

use std::time::Duration;

use podero_bridge::admin::{ApiMethod, ApiRoute};
use podero_bridge::clock::Clock;
use podero_bridge::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use podero_bridge::domain::identity::{Actor, Role};
use podero_bridge::store::Desk;
use reqwest::Method;
use serde_json::json;

use crate::operators::add_operator;
use crate::running::Environment;
use crate::stories::PERSONAL;
use crate::world::{Settings, World, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const LATER: &str = "2026-10-02T12:00:00Z";
const UNKNOWN: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";
const PASSWORD: &str = "correct horse battery";

/// A person's name that only the note of an operator has.
const NOTED: &str = "Schmidt";

/// A name that only a member of the team has.
const COLLEAGUE: &str = "Kollegin";

/// A store in which everything is that a route can show.
struct Filled {
    world: World,
    url: String,
    folder: tempfile::TempDir,
    events: Vec<String>,
    pump: String,
    retry: String,
}

impl Filled {
    async fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        let map = folder.path().join("map.jq");
        std::fs::write(&map, "range(1e6)").expect("written");
        let map = map.display();
        let toml = format!(
            "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\n\
             [[source]]\nname = \"legacy\"\nverify = \"none\"\nmap = \"{map}\"\n\
             [[source]]\nname = \"default\"\nverify = \"none\"\ntypes = [\"customer.*\", \"team.*\"]\n[team]\nenabled = true\n"
        );
        let settings = Settings { toml, environment: Vec::new() };
        let world = World::start_on(tempfile::tempdir().expect("a folder"), url.clone(), settings).await;
        let mut filled = Self { world, url, folder, events: Vec::new(), pump: String::new(), retry: String::new() };
        filled.send_events().await;
        filled.lose_pump().await;
        filled.order_retry().await;
        filled.note().await;
        filled
    }

    /// Events that are applied, parked, announced and waiting, and a message that is none.
    async fn send_events(&mut self) {
        let world = &self.world;
        let moved = |customer: &str, at: Option<String>| {
            let address =
                json!({"street_and_number": "Neugasse 2", "zip_code": "01067", "town": "Dresden", "country": "DE"});
            let mut data = json!({"customer_id": customer, "address": address});
            data["effective_at"] = json!(at);
            data
        };
        let ahead = Clock::system().now().plus(Duration::from_hours(720)).to_string();
        let renamed = json!({"customer_id": "C-1", "first_name": "Berta", "last_name": "Berichtigt"});
        let mut taken = sign_up("e3", "C-3", TIME);
        taken["data"]["email"] = json!("C-1@example.com");
        let colleague = json!({
            "member_id": "M-1", "email": format!("{COLLEAGUE}@example.com"), "role": "staff", "last_name": COLLEAGUE
        });
        for (event, expected) in [
            (sign_up("e1", "C-1", TIME), "applied"),
            (event("e2", "customer.updated", LATER, &renamed), "applied"),
            (taken, "parked"),
            (event("e4", "customer.moved", LATER, &moved("C-1", Some(ahead))), "scheduled"),
            (event("e5", "customer.updated", LATER, &json!({"customer_id": "C-9", "first_name": "Anna"})), "waiting"),
            (event("e6", "team.member_joined", TIME, &colleague), "applied"),
        ] {
            let (status, answer) = world.send(&event).await;
            assert_eq!(status, 202, "{answer}");
            let id = answer["id"].as_str().expect("an id").to_owned();
            let state = world.settled(&id).await["state"].clone();
            assert_eq!(state, expected, "{event}");
            self.events.push(id);
        }
        let body = json!({"name": "Anna Berichtigt", "mail": "anna@example.com"}).to_string();
        let (status, answer) = world.post(&world.door("/v1/events/legacy"), "application/json", body).await;
        assert_eq!((status, &answer["state"]), (202, &json!("parked")), "{answer}");
        self.events.push(answer["id"].as_str().expect("an id").to_owned());
    }

    /// A heat pump with an open alert.
    async fn lose_pump(&mut self) {
        let world = &self.world;
        let state = world.sandbox_state().await;
        let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
        let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
        let (_, made) = world.post(&url, "application/json", json!({"manufacturer": "Vaillant"}).to_string()).await;
        self.pump = made["id"].as_str().expect("a heat pump").to_owned();
        let shown = async |path: &str, list: &str| {
            let page = world.get(&world.operator(path)).await;
            (page[list].as_array().map(Vec::len) == Some(1)).then_some(())
        };
        until("the watch has seen it", async || shown("/v1/heat-pumps?state=connected", "heat_pumps").await).await;
        world.patch_pump(&self.pump, &json!({"is_authenticated": false})).await;
        until("the alert is open", async || shown("/v1/alerts", "alerts").await).await;
    }

    async fn order_retry(&mut self) {
        let order = json!({"reason": "mapping_failed", "per_second": 1}).to_string();
        let (status, retry) =
            self.world.post(&self.world.operator("/v1/parked/retry"), "application/json", order).await;
        assert!(status < 300, "{status} {retry}");
        self.retry = retry["id"].as_str().expect("an id").to_owned();
    }

    /// A person's words in the audit log.
    async fn note(&self) {
        let (desk, writer) = Desk::open(&self.url, Clock::system()).await.expect("it opens");
        tokio::spawn(writer.run());
        let target = AuditTarget::new(TargetKind::Event, UNKNOWN);
        let skip = AuditEntry::done(Clock::system().now(), Actor::Cli("tester".to_owned()), Action::EventSkip, target);
        let note = Some(format!("Ms {NOTED} rang"));
        desk.record(vec![AuditEntry { note, ..skip }]).await.expect("the store is there");
    }

    /// The paths of a route: for each thing that it can show, for one that is not there, and one that makes no sense.
    fn paths(&self, route: ApiRoute) -> Vec<String> {
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        let ids = match route {
            ApiRoute::Event | ApiRoute::Rehearsal | ApiRoute::RetryParked | ApiRoute::SkipParked => events,
            ApiRoute::Customer | ApiRoute::CustomerTimeline => vec!["C-1", "C-3", "C-9"],
            ApiRoute::Member => vec!["M-1"],
            ApiRoute::Retry | ApiRoute::StopRetry => vec![&*self.retry],
            ApiRoute::HeatPump | ApiRoute::ReconnectLink => vec![&*self.pump],
            ApiRoute::Customers => return vec!["/v1/customers?email=C-1%40example.com".to_owned()],
            ApiRoute::RevokeSession => Vec::new(),
            ApiRoute::OpenEvents => {
                return ["pending", "scheduled", "waiting", "parked"]
                    .map(|state| format!("/v1/events?state={state}"))
                    .to_vec();
            }
            ApiRoute::Livez
            | ApiRoute::Readyz
            | ApiRoute::Metrics
            | ApiRoute::OpenApi
            | ApiRoute::Overview
            | ApiRoute::History
            | ApiRoute::Team
            | ApiRoute::TeamReview
            | ApiRoute::Parked
            | ApiRoute::ParkedGroups
            | ApiRoute::ParkedPreview
            | ApiRoute::OrderRetry
            | ApiRoute::Retries
            | ApiRoute::HeatPumps
            | ApiRoute::Fleet
            | ApiRoute::Alerts
            | ApiRoute::Audit
            | ApiRoute::ExportAudit
            | ApiRoute::Operators
            | ApiRoute::Settings
            | ApiRoute::Sessions => {
                let path = route.row().path;
                return vec![path.to_owned(), format!("{path}?limit=x")];
            }
        };
        ids.into_iter().chain([UNKNOWN]).map(|id| route.row().path.replace("{id}", id)).collect()
    }

    /// All answers to an operator of this role, of the routes that a viewer may read; a viewer asks all others as well.
    async fn answers(&self, role: Role) -> String {
        let mut text = String::new();
        for route in ApiRoute::ALL {
            let row = route.row();
            let is_read = row.method == ApiMethod::Get && row.role == Some(Role::Viewer);
            // The document of the API has examples, and is the same for everyone.
            if route == ApiRoute::OpenApi || !(is_read || role == Role::Viewer) {
                continue;
            }
            for path in self.paths(route) {
                let method = if row.method == ApiMethod::Get { Method::GET } else { Method::POST };
                let request = self.world.http.request(method, self.world.operator(&path));
                let request = request.basic_auth(role.name(), Some(PASSWORD));
                let answer = request.send().await.expect("an answer");
                let (status, body) = (answer.status().as_u16(), answer.text().await.expect("a whole answer"));
                assert!(status < 500, "{path}: {status} {body}");
                assert_eq!(row.role > Some(role), status == 403, "{path}: {status} {body}");
                text.push_str(&format!("{path} {status}\n{body}\n"));
            }
        }
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_tells_a_viewer_anything_of_a_person() {
    let filled = Filled::make().await;
    let environment: Environment = vec![("STORE__URL", filled.url.clone())];
    for role in [Role::Viewer, Role::Support] {
        add_operator(filled.folder.path(), &environment, role.name(), role, PASSWORD);
    }
    let (shown, viewed) = (filled.answers(Role::Support).await, filled.answers(Role::Viewer).await);
    for word in PERSONAL.into_iter().chain([NOTED, COLLEAGUE]) {
        assert!(shown.contains(word), "the store has {word}, and the role support sees it");
        let seen: Vec<_> = viewed.lines().filter(|line| line.contains(word)).collect();
        assert!(seen.is_empty(), "a viewer sees {word}: {seen:?}");
    }
    filled.world.bridge.stop().await;
}
