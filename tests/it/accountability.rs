//! Acts and their rows, from outside: every route, form, command and call that changes something has its row of the audit log, refused
//! access has one, and the log is read and exported over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use podero_bridge::admin::{AccessRefusal, ApiMethod, ApiRoute};
use podero_bridge::app::Limits;
use podero_bridge::clock::Clock;
use podero_bridge::console::ConsoleRoute;
use podero_bridge::domain::audit::{
    Action, AuditEntry, AuditTarget, NOTE_CHARS_MAX, REFUSALS_A_MINUTE_MAX, TargetKind,
};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::event::Happening;
use podero_bridge::domain::identity::{Actor, LOGIN_LINK, Role};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::store::{AuditFilter, Content, Desk, ExportFormat, SessionHolder, StoreView};
use reqwest::Method;
use serde_json::{Value, json};

use crate::console::{House, Page, Visitor};
use crate::kit::{Fixture, StoreFixture};
use crate::operators::add_operator;
use crate::running::{self, Environment, said};
use crate::world::{Database, Extra, Settings, World, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const UNKNOWN: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";
const PASSWORD: &str = "correct horse battery";
const ADMIN: &str = "a-token-of-the-tests-for-admins";
const VIEWER: &str = "a-token-of-the-tests-for-viewers";

/// All rows, oldest first.
async fn rows(world: &World) -> Vec<Value> {
    let request = world.http.get(world.operator("/v1/audit")).bearer_auth(ADMIN);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let mut rows = answer["audit"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    rows.reverse();
    rows
}

/// The actions of an actor's rows beyond the first ones.
fn actions(rows: &[Value], actor: &str, beyond: usize) -> BTreeSet<String> {
    let new = rows.iter().skip(beyond).filter(|row| row["actor"] == actor);
    new.map(|row| row["action"].as_str().expect("an action").to_owned()).collect()
}

fn names(actions: &[Action]) -> BTreeSet<String> {
    actions.iter().map(|action| action.name().to_owned()).collect()
}

/// The ids of things that the routes act on.
struct Things {
    /// Events that are parked.
    parked: Vec<String>,
    /// A heat pump whose authorization has lapsed.
    pump: String,
}

impl Things {
    async fn make(world: &World) -> Self {
        world.apply(&sign_up("e0", "C-0", TIME)).await;
        let state = world.sandbox_state().await;
        let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
        let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
        let (_, made) = world.post(&url, "application/json", json!({"manufacturer": "Vaillant"}).to_string()).await;
        let pump = made["id"].as_str().expect("a heat pump").to_owned();
        until("the watch has seen the heat pump", async || {
            let pumps = world.get(&world.operator("/v1/heat-pumps")).await;
            (pumps["heat_pumps"].as_array().map(Vec::len) == Some(1)).then_some(())
        })
        .await;
        let lapse = world.sandbox(&format!("/heat-pumps/{pump}/lapse"));
        assert_eq!(world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
        world.fault(&json!({"operation": "create_user", "kind": "status", "status": 400})).await;
        let mut parked = Vec::new();
        for number in 1..=4 {
            let event = world.apply(&sign_up(&format!("e{number}"), &format!("C-{number}"), TIME)).await;
            assert_eq!(event["state"], "parked", "{event}");
            parked.push(event["id"].as_str().expect("an id").to_owned());
        }
        Self { parked, pump }
    }

    /// Requests after which each act of a route is in the log. One that only reads is asked for an id that nothing has.
    async fn requests(&self, route: ApiRoute, world: &World) -> Vec<(String, Value)> {
        let path = route.row().path;
        let on = |id: &str, body: Value| (path.replace("{id}", id), body);
        match route {
            ApiRoute::OrderRetry => vec![
                on("", json!({"reason": "refused", "per_second": 1})),
                on("", json!({"reason": "churn_brake", "approve": true})),
            ],
            ApiRoute::StopRetry => {
                let retries = world.get(&world.operator("/v1/parked/retries")).await;
                vec![on(retries["retries"][0]["id"].as_str().expect("one was ordered"), Value::Null)]
            }
            ApiRoute::RetryParked => {
                vec![on(&self.parked[0], Value::Null), on(&self.parked[1], json!({"approve": true}))]
            }
            ApiRoute::SkipParked => vec![on(&self.parked[2], json!({"note": "they rang"}))],
            ApiRoute::ReconnectLink => {
                let [success, cancel] = ["done", "later"].map(|page| format!("https://utility.example/{page}"));
                vec![on(&self.pump, json!({"success_url": success, "cancel_url": cancel}))]
            }
            ApiRoute::RevokeSession => {
                let link =
                    world.bridge.login_link.as_deref().and_then(|link| link.split_once("link=")).expect("a link");
                let request = world.http.post(world.operator("/console/login/link"));
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                let request = request.header("sec-fetch-site", "same-origin").body(format!("link={}", link.1));
                request.send().await.expect("an answer");
                let sessions = world.get(&world.operator("/v1/sessions")).await;
                vec![on(sessions["sessions"][0]["id"].as_str().expect("one was opened"), Value::Null)]
            }
            ApiRoute::Livez
            | ApiRoute::Readyz
            | ApiRoute::Metrics
            | ApiRoute::OpenApi
            | ApiRoute::Overview
            | ApiRoute::History
            | ApiRoute::OpenEvents
            | ApiRoute::Event
            | ApiRoute::Customers
            | ApiRoute::Customer
            | ApiRoute::CustomerTimeline
            | ApiRoute::Team
            | ApiRoute::TeamReview
            | ApiRoute::Member
            | ApiRoute::Parked
            | ApiRoute::ParkedGroups
            | ApiRoute::ParkedPreview
            | ApiRoute::Rehearsal
            | ApiRoute::Retries
            | ApiRoute::Retry
            | ApiRoute::HeatPumps
            | ApiRoute::Fleet
            | ApiRoute::HeatPump
            | ApiRoute::Alerts
            | ApiRoute::Audit
            | ApiRoute::ExportAudit
            | ApiRoute::Operators
            | ApiRoute::Settings
            | ApiRoute::Sessions => vec![on(UNKNOWN, Value::Null)],
        }
    }
}

/// Every route is walked. One that says that it acts has a row for each act, and one that says that it only reads has none.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_acts_leaves_its_rows_and_no_other_leaves_one() {
    let toml = "[watch]\ninterval = \"1s\"\n".to_owned();
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let things = Things::make(&world).await;
    for route in ApiRoute::ALL {
        let row = route.row();
        let before = rows(&world).await.len();
        for (path, body) in things.requests(route, &world).await {
            let method = match row.method {
                ApiMethod::Get => Method::GET,
                ApiMethod::Post => Method::POST,
            };
            let request = world.http.request(method, world.operator(&path));
            let request = if body.is_null() { request } else { request.body(body.to_string()) };
            let answer = request.send().await.expect("an answer");
            assert!(!answer.status().is_server_error(), "{path}: {answer:?}");
            answer.bytes().await.expect("a whole answer");
        }
        let done = actions(&rows(&world).await, "token:none", before);
        assert_eq!(done, names(row.actions), "{} {}: the acts of its row in src/admin/routes.rs", row.method, row.path);
    }
    world.bridge.stop().await;
}

/// A console with operators, and things for its forms.
struct Forms {
    house: House,
    things: Things,
    admin: Visitor,
    /// Another browser of the same operator.
    other: Visitor,
}

impl Forms {
    async fn open() -> Self {
        let toml = "[watch]\ninterval = \"1s\"\n".to_owned();
        let house = House::open(Settings { toml, environment: Vec::new() }).await;
        // From the first operator on the API wants credentials.
        let things = Things::make(&house.world).await;
        house.add_operators();
        let (admin, other) = (house.logged_in("admin").await, house.logged_in("admin").await);
        house.logged_in("viewer").await;
        Self { house, things, admin, other }
    }

    /// The number of rows of each action that were left through the console, by its operators and by the login link.
    async fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let operators = Role::ALL.map(|role| Actor::Operator(role.name().to_owned()));
        for actor in operators.into_iter().chain([Actor::Token(LOGIN_LINK.to_owned())]) {
            for action in self.house.world.rows_by(&actor.to_string()).await {
                *counts.entry(action).or_default() += 1;
            }
        }
        counts
    }

    async fn post(&self, route: ConsoleRoute, id: &str, fields: &[(&str, &str)]) -> Page {
        self.admin.post(&route.row().path.replace("{id}", id), fields).await
    }

    async fn view(&self) -> StoreView {
        StoreView::open(self.house.store_url(), Clock::system()).await.expect("it opens")
    }

    /// Orders an approval of many, which finds none and ends, and then a retry of many, which goes on.
    async fn order_retries(&self) -> Vec<Page> {
        let route = ConsoleRoute::OrderRetry;
        let approval = [("reason", "churn_brake"), ("approve", "true"), ("per_second", "1")];
        let approved = self.post(route, "", &approval).await;
        let view = self.view().await;
        until("the approval has ended", async || {
            let retries = view.bulk_retries().await.expect("the store is there");
            retries.iter().all(|retry| !retry.is_running()).then_some(())
        })
        .await;
        view.close().await;
        vec![approved, self.post(route, "", &[("reason", "refused"), ("per_second", "1")]).await]
    }

    async fn stop_retry(&self) -> Page {
        let view = self.view().await;
        let id = view.bulk_retries().await.expect("the store is there").remove(0).id;
        view.close().await;
        self.post(ConsoleRoute::StopRetry, &id, &[]).await
    }

    async fn revoke_session(&self) -> Page {
        let view = self.view().await;
        let id = view.sessions(Some("viewer")).await.expect("the store is there").remove(0).id;
        view.close().await;
        self.post(ConsoleRoute::RevokeSession, &id.to_string(), &[]).await
    }

    /// Sends a form, so that each of its acts is in the log. Returns the answers; none of a page, which is no form.
    async fn send(&self, route: ConsoleRoute) -> Vec<Page> {
        let Things { parked, pump } = &self.things;
        let landing = [("success_url", "https://utility.example/done"), ("cancel_url", "https://utility.example/no")];
        match route {
            ConsoleRoute::FindCustomers => vec![self.post(route, "", &[("email", "C-0@example.com")]).await],
            ConsoleRoute::RetryEvent => vec![self.post(route, &parked[0], &[]).await],
            ConsoleRoute::ApproveEvent => vec![self.post(route, &parked[1], &[]).await],
            ConsoleRoute::SkipEvent => vec![self.post(route, &parked[2], &[("note", "they rang")]).await],
            ConsoleRoute::MakeLink => vec![self.post(route, pump, &landing).await],
            ConsoleRoute::OrderRetry => self.order_retries().await,
            ConsoleRoute::StopRetry => vec![self.stop_retry().await],
            ConsoleRoute::ExportAudit => vec![self.post(route, "", &[]).await],
            ConsoleRoute::LogOut => vec![self.other.post(route.row().path, &[]).await],
            ConsoleRoute::RevokeSession => vec![self.revoke_session().await],
            ConsoleRoute::LogIn => {
                self.house.logged_in("admin").await;
                Vec::new()
            }
            ConsoleRoute::LogInByLink => {
                let link = self.house.world.bridge.login_link.as_deref().expect("a sandbox runs");
                let (_, secret) = link.split_once("link=").expect("a link");
                vec![self.house.visitor().post(route.row().path, &[("link", secret)]).await]
            }
            ConsoleRoute::Choose => vec![self.post(route, "", &[("theme", "dark")]).await],
            ConsoleRoute::Overview
            | ConsoleRoute::Customers
            | ConsoleRoute::Customer
            | ConsoleRoute::Event
            | ConsoleRoute::Fleet
            | ConsoleRoute::Support
            | ConsoleRoute::HeatPump
            | ConsoleRoute::Parked
            | ConsoleRoute::PreviewRetry
            | ConsoleRoute::Retry
            | ConsoleRoute::Team
            | ConsoleRoute::Audit
            | ConsoleRoute::Settings
            | ConsoleRoute::ShowLogin
            | ConsoleRoute::BeginOidc
            // A page by its method. It wants an identity provider, which the tests of that login have.
            | ConsoleRoute::EndOidc
            | ConsoleRoute::Asset => Vec::new(),
        }
    }
}

/// Every form of the console is sent. It has a row for each of its acts and no other, and all acts of the table are found.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_leaves_the_rows_of_its_acts_and_no_others() {
    let forms = Forms::open().await;
    let mut found: BTreeSet<String> = BTreeSet::new();
    for route in ConsoleRoute::ALL.into_iter().filter(|route| route.row().method == ApiMethod::Post) {
        let (row, before) = (route.row(), forms.counts().await);
        for page in forms.send(route).await {
            assert!(matches!(page.status, 200 | 303 | 409), "{}: {} {}", row.path, page.status, page.text);
            assert!(!page.location().starts_with("/console/login?next"), "{}: it wants a login", row.path);
        }
        let left = forms.counts().await.into_iter().filter(|(action, count)| before.get(action) != Some(count));
        let left: BTreeSet<String> = left.map(|(action, _)| action).collect();
        assert_eq!(left, names(row.actions), "{}: the acts of its row in src/console/table.rs", row.path);
        found.extend(left);
    }
    let of_table: BTreeSet<String> =
        ConsoleRoute::ALL.into_iter().flat_map(|route| names(route.row().actions)).collect();
    assert_eq!(found, of_table);
    forms.house.world.bridge.stop().await;
}

/// Commands that act, each with its acts; every other one only reads, or is a bridge or a sandbox of its own.
const ACTS: [(&str, &[Action]); 13] = [
    (
        "parked retry",
        &[
            Action::EventRetry,
            Action::EventApprove,
            Action::RetryOrder,
            Action::RetryApprove,
            Action::RetryStop,
            Action::RetryEnd,
        ],
    ),
    ("parked stop", &[Action::RetryStop]),
    ("parked skip", &[Action::EventSkip]),
    ("operator add", &[Action::OperatorAdd]),
    ("operator change", &[Action::OperatorChange]),
    ("operator remove", &[Action::OperatorRemove]),
    ("operator end-session", &[Action::SessionRevoke]),
    ("erase", &[Action::CustomerErase, Action::MemberErase]),
    ("import", &[Action::EventsImport, Action::EventReceive, Action::TeamChange]),
    ("audit export", &[Action::AuditExport]),
    ("backup", &[Action::StoreBackup]),
    ("migrate", &[Action::StoreMigrate]),
    // Its own acts are those of the routes, the calls and the tasks.
    ("serve", &[]),
];

/// Commands that only read. `check` declares the exchanges and queues of the broker, as each start of `serve` does: they are not in the
/// store, hold nothing of a person, and are the same after each declaration, so that neither has a row.
const READS: [&str; 17] = [
    "demo", "sandbox", "check", "explain", "test", "parked list", "parked show", "events list", "events show",
    "customers show", "team list", "team review", "operator list", "operator sessions", "audit list", "audit verify",
    "help",
];

/// Commands that are a bridge or a sandbox of their own.
const NOT_RUN: [&str; 3] = ["serve", "demo", "sandbox"];

/// Acts of commands whose rows have another actor than the user who calls: the end of a retry is the bridge's also where a command
/// drives it, and an event that is refused is its source's act.
const OF_OTHERS: [(Action, &str); 3] =
    [(Action::RetryEnd, "bridge"), (Action::EventReceive, "source:hr"), (Action::TeamChange, "source:hr")];

/// Every command without a command of its own, as the program's help names them.
fn commands(words: &[&str]) -> BTreeSet<String> {
    let help = said(&running::run(&[words, &["--help"]].concat(), &Vec::new()));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let below: Vec<&str> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help" || words.is_empty())
        .collect();
    match below.is_empty() || words == ["help"] {
        true => BTreeSet::from([words.join(" ")]),
        false => below.into_iter().flat_map(|name| commands(&[words, &[name]].concat())).collect(),
    }
}

#[test]
fn every_command_says_whether_it_acts() {
    let said: BTreeSet<String> = ACTS.map(|(name, _)| name).into_iter().chain(READS).map(str::to_owned).collect();
    assert_eq!(commands(&[]), said, "a new command has its row here: its acts, or that it only reads");
}

/// A command that is run, and the acts of which it leaves rows.
struct CommandStep<'a> {
    name: &'static str,
    arguments: Vec<&'a str>,
    acts: &'static [Action],
}

fn step<'a>(name: &'static str, arguments: &[&'a str], acts: &'static [Action]) -> CommandStep<'a> {
    CommandStep { name, arguments: arguments.to_vec(), acts }
}

/// Examples of a mapping.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/mappings/crm");

/// Files of one run through all commands.
struct Files {
    folder: tempfile::TempDir,
    password: String,
    events: String,
    /// Events that their source may not send, and that the policy of the team refuses.
    refused: String,
    message: String,
    copy: String,
    exported: String,
}

impl Files {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name).display().to_string();
        let file = |name: &str, text: &str| {
            std::fs::write(place(name), text).expect("written");
            place(name)
        };
        let (password, events) = (file("password", PASSWORD), file("events.ndjson", ""));
        let colleague = json!({"member_id": "mia@example.com", "email": "mia@example.com", "role": "staff"});
        let joined = event("e2", "team.member_joined", TIME, &colleague);
        let refused = file("refused.ndjson", &format!("{}\n{joined}\n", sign_up("e1", "C-1", TIME)));
        let message = file("message.json", &sign_up("e1", "C-1", TIME).to_string());
        let (copy, exported) = (place("copy.db"), place("audit.jsonl"));
        Self { folder, password, events, refused, message, copy, exported }
    }

    /// The commands about events. `refused` are parked, and can be retried. `RETRY` stands for the retry that was ordered last.
    fn on_events<'a>(&'a self, refused: &'a [String]) -> Vec<CommandStep<'a>> {
        let (first, second) = (refused[0].as_str(), refused[1].as_str());
        let of_brake = ["--reason", "churn_brake", "--approve", "--yes", "--per-second", "1000"];
        vec![
            step("parked list", &[], &[]),
            step("parked show", &[first], &[]),
            step("parked retry", &[first], &[Action::EventRetry]),
            step("parked retry", &["--approve", second], &[Action::EventApprove]),
            step("parked retry", &["--reason", "refused", "--detach"], &[Action::RetryOrder]),
            step("parked stop", &["RETRY"], &[Action::RetryStop]),
            step("parked retry", &of_brake, &[Action::RetryApprove, Action::RetryEnd]),
            step("parked skip", &[second], &[Action::EventSkip]),
            step("parked skip", &["--all"], &[Action::EventSkip]),
            step("parked skip", &[UNKNOWN], &[Action::EventSkip]),
            step("events list", &[], &[]),
            step("events show", &[first], &[]),
            step("customers show", &["C-1"], &[]),
            step("team list", &[], &[]),
            step("team review", &[], &[]),
            step("import", &[&self.events], &[Action::EventsImport]),
            step(
                "import",
                &["--source", "hr", &self.refused],
                &[Action::EventsImport, Action::EventReceive, Action::TeamChange],
            ),
            step("explain", &[&self.message], &[]),
            step("test", &[EXAMPLES], &[]),
        ]
    }

    /// The other commands. `session` is one at the console.
    fn on_the_rest<'a>(&'a self, session: &'a str) -> Vec<CommandStep<'a>> {
        let password = self.password.as_str();
        let add = ["anna", "--role", "viewer", "--password-file", password];
        vec![
            step("operator add", &add, &[Action::OperatorAdd]),
            step("operator add", &add, &[Action::OperatorAdd]),
            step("operator list", &[], &[]),
            step("operator change", &["anna", "--role", "admin"], &[Action::OperatorChange]),
            step("operator change", &["anna", "--password-file", password], &[Action::OperatorChange]),
            step("operator change", &["bert", "--role", "admin"], &[Action::OperatorChange]),
            step("operator sessions", &[], &[]),
            step("operator end-session", &[session], &[Action::SessionRevoke]),
            step("operator end-session", &[session], &[Action::SessionRevoke]),
            step("operator remove", &["anna"], &[Action::OperatorRemove]),
            step("operator remove", &["anna", "--force"], &[Action::OperatorRemove]),
            step("operator remove", &["anna"], &[Action::OperatorRemove]),
            step("erase", &["C-0"], &[Action::CustomerErase]),
            step("erase", &["--member", "M-9"], &[Action::MemberErase]),
            step("audit list", &[], &[]),
            step("audit export", &["--output", &self.exported], &[Action::AuditExport]),
            // Its file is there now.
            step("audit export", &["--output", &self.exported], &[Action::AuditExport]),
            step("audit verify", &[], &[]),
            step("backup", &[&self.copy], &[Action::StoreBackup]),
            step("check", &[], &[]),
            step("migrate", &[], &[Action::StoreMigrate]),
            step("help", &[], &[]),
        ]
    }
}

/// All rows of a store, oldest first.
async fn rows_of(view: &StoreView) -> Vec<Value> {
    let page = view.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there");
    let rows = serde_json::to_value(page.records).expect("JSON");
    rows.as_array().expect("rows").iter().rev().cloned().collect()
}

/// A store on which commands are run, and who runs them.
struct Commands {
    fixture: StoreFixture,
    environment: Environment,
    /// The settings of `migrate`, which makes a store of its own.
    made: Environment,
    /// The user who runs this test.
    actor: String,
}

impl Commands {
    fn on(fixture: StoreFixture, files: &Files) -> Self {
        let settings = [
            ("HTTP__LISTEN", "127.0.0.1:0"),
            // Nothing listens there: `check` says so.
            ("PODERO__BASE_URL", "http://127.0.0.1:1"),
            ("PODERO__ORG_ID", "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"),
            ("PODERO__CLIENT_ID", "bridge"),
            ("PODERO__CLIENT_SECRET", "secret"),
            ("SOURCE__HR__VERIFY", "none"),
            ("SOURCE__HR__TYPES", "team.*"),
            ("TEAM__ENABLED", "true"),
        ];
        let mut environment: Environment = vec![("STORE__URL", fixture.url.clone())];
        environment.extend(settings.map(|(key, value)| (key, value.to_owned())));
        let made = vec![("STORE__URL", crate::kit::sqlite_url(files.folder.path()))];
        let user = Command::new("id").arg("-un").output().expect("it runs");
        let actor = Actor::Cli(String::from_utf8_lossy(&user.stdout).trim().to_owned()).to_string();
        Self { fixture, environment, made, actor }
    }

    fn settings_of(&self, name: &str) -> &Environment {
        if name == "migrate" { &self.made } else { &self.environment }
    }

    /// The rows of the store of a command; none where it has yet to make it.
    async fn rows(&self, name: &str) -> Vec<Value> {
        let url = &self.settings_of(name)[0].1;
        let Ok(view) = StoreView::open(url, Clock::system()).await else { return Vec::new() };
        let rows = rows_of(&view).await;
        view.close().await;
        rows
    }

    /// Runs a command to its end. Returns the acts of its rows.
    async fn run(&self, name: &str, arguments: &[&str]) -> BTreeSet<String> {
        let before = self.rows(name).await;
        let words: Vec<&str> = name.split(' ').chain(arguments.iter().copied()).collect();
        let output = running::run(&words, self.settings_of(name));
        assert_ne!(output.status.code(), Some(64), "{words:?}: {}", said(&output));
        self.acts_since(&before, name).await
    }

    /// Runs a retry of many that Ctrl-C ends. Returns the acts of its rows.
    async fn interrupt_retry(&self) -> BTreeSet<String> {
        let before = self.rows("parked retry").await;
        let mut retry = running::command(&["parked", "retry", "--all", "--per-second", "1"], &self.environment);
        let mut child = retry.stdout(Stdio::null()).spawn().expect("it starts");
        until("it has retried some", async || {
            let retries = self.fixture.store.bulk_retries().await.expect("the store is there");
            retries.first().is_some_and(|retry| retry.is_running() && retry.retried >= 2).then_some(())
        })
        .await;
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        self.acts_since(&before, "parked retry").await
    }

    /// The acts of the rows that were not there before. Each has its actor and is sealed: no bridge runs that would do it.
    async fn acts_since(&self, before: &[Value], name: &str) -> BTreeSet<String> {
        let is_new = |row: &&Value| before.iter().all(|known| known["id"] != row["id"]);
        let mut acts = BTreeSet::new();
        for row in self.rows(name).await.iter().filter(is_new) {
            let other = OF_OTHERS.into_iter().find(|(action, _)| row["action"] == action.name());
            let actor = other.map_or(self.actor.as_str(), |(_, actor)| actor);
            assert!(row["actor"] == actor && row["number"].is_number(), "`{name}`: {row}");
            acts.insert(row["action"].as_str().expect("an action").to_owned());
        }
        acts
    }
}

/// Parks events that can be retried, events that wait for an approval, and a message that never became an event. Returns the first ones.
async fn park_all(fixture: &StoreFixture) -> Vec<String> {
    let mut refused = Vec::new();
    for number in 1..=60 {
        let fate = Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
        refused.push(fixture.ends(&format!("C-{number}"), fate).await.to_string());
    }
    for customer in ["C-101", "C-102"] {
        fixture.ends(customer, Fate::Parked { reason: Reason::ChurnBrake, detail: "the limit is 0".to_owned() }).await;
    }
    let mut message = fixture.arrival("C-103", Happening::Churned);
    let notice = Notice {
        id: notice_id("message", Topic::EventParked),
        topic: Topic::EventParked,
        order_key: "C-103".to_owned(),
        subject: message.id.to_string(),
        time: message.received_at,
        data: Value::Null,
    };
    let (reason, detail) = (Reason::Untranslatable, "no".to_owned());
    message.content = Content::Parked { reason, detail, notice, may_be_known: false };
    fixture.store.accept(vec![message]).await.expect("the store is there");
    refused
}

/// Every command is run that is no bridge or sandbox of its own. One that acts has a row for each act, as `cli:USER` but for the acts of
/// others; one that reads has none.
#[tokio::test]
async fn every_command_that_acts_leaves_its_rows_and_no_other_leaves_one() {
    let (fixture, files) = (StoreFixture::on_sqlite().await, Files::make());
    let refused = park_all(&fixture).await;
    let (by, holder) = (Actor::Token(LOGIN_LINK.to_owned()), SessionHolder::LoginLink);
    fixture.store.open_session(&holder, &by, Role::Admin, None).await.expect("the store is there");
    let session = fixture.store.sessions(None).await.expect("the store is there").remove(0).id.to_string();
    let commands = Commands::on(fixture, &files);
    let store = &commands.fixture.store;
    let mut done: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for CommandStep { name, mut arguments, acts } in
        files.on_events(&refused).into_iter().chain(files.on_the_rest(&session))
    {
        let retries = store.bulk_retries().await.expect("the store is there");
        let retry = retries.first().map(|retry| retry.id.clone()).unwrap_or_default();
        arguments.iter_mut().filter(|word| **word == "RETRY").for_each(|word| *word = &retry);
        let left = commands.run(name, &arguments).await;
        assert_eq!(left, names(acts), "`{name}` {arguments:?}");
        done.entry(name).or_default().extend(left);
    }
    let left = commands.interrupt_retry().await;
    assert_eq!(left, names(&[Action::RetryOrder, Action::RetryStop]), "a retry of many that Ctrl-C ends");
    done.entry("parked retry").or_default().extend(left);
    let of_all = ACTS.into_iter().chain(READS.map(|name| (name, &[] as &[Action])));
    let expected: BTreeMap<&str, BTreeSet<String>> =
        of_all.filter(|(name, _)| !NOT_RUN.contains(name)).map(|(name, acts)| (name, names(acts))).collect();
    assert_eq!(done, expected, "each command is run, and leaves the rows of its acts");
    let rows = rows_of(store).await;
    let of_operators = rows.iter().filter(|row| row["target"]["kind"] == "operator");
    let shown = |row: &Value| {
        ["action", "outcome", "reason", "from", "to"].map(|name| row[name].as_str().unwrap_or("-")).join(" ")
    };
    assert_eq!(
        of_operators.map(shown).collect::<Vec<_>>(),
        [
            "operator.add done - - viewer",
            "operator.add refused operator_exists - -",
            "operator.change done - viewer admin",
            "operator.change done rotated admin admin",
            "operator.change refused unknown_operator - admin",
            "operator.remove refused last_operator - -",
            "operator.remove done forced admin -",
            "operator.remove refused unknown_operator - -",
        ]
    );
}

/// No action is without somebody who carries it out, and no call that changes something without an action.
#[test]
fn every_action_is_of_a_call_a_route_a_command_or_the_bridge() {
    let of_bridge = [
        Action::EventReceive,
        Action::TeamChange,
        Action::ScimChange,
        // On the page of an owner's link.
        Action::LinkUse,
        Action::RetryEnd,
        Action::AuditTrim,
        Action::TokenAdd,
        Action::TokenChange,
        Action::TokenRemove,
        Action::AccessUse,
    ];
    let of_calls = Operation::ALL.into_iter().filter_map(Action::of_call);
    let of_routes = ApiRoute::ALL.into_iter().flat_map(|route| route.row().actions.iter().copied());
    let of_pages = ConsoleRoute::ALL.into_iter().flat_map(|route| route.row().actions.iter().copied());
    let of_commands = ACTS.into_iter().flat_map(|(_, acts)| acts.iter().copied());
    let of_callers = of_calls.chain(of_routes).chain(of_pages).chain(of_commands);
    let known: BTreeSet<Action> = of_bridge.into_iter().chain(of_callers).collect();
    assert_eq!(known, BTreeSet::from(Action::ALL));
}

/// A bridge with a token for admins and one for viewers, on a store that commands reach.
async fn start(extra: Extra) -> (World, Environment, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let toml = format!("[[admin.tokens]]\nname = \"grafana\"\nrole = \"viewer\"\ntoken = \"{VIEWER}\"\n");
    let settings = Settings { toml, environment: vec![("ADMIN__TOKEN", ADMIN.to_owned())] };
    let world = World::start_with(tempfile::tempdir().expect("a folder"), url.clone(), settings, extra).await;
    (world, vec![("STORE__URL", url)], folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_access_has_a_row_that_repeats_nothing_of_a_stranger() {
    let (world, environment, folder) = start(Extra::default()).await;
    add_operator(folder.path(), &environment, "anna", Role::Support, PASSWORD);
    let get = |path: &str| world.http.get(world.operator(path));
    let skip = || world.http.post(world.operator(&format!("/v1/parked/{UNKNOWN}/skip")));
    let (missing, wrong) =
        ("wants the header `authorization`", "the token, or the name with its password, is not accepted");
    for (request, status, words) in [
        (get("/v1/parked"), 401, missing),
        (get("/v1/parked").bearer_auth("a-token-that-nobody-has"), 401, wrong),
        (get("/v1/customers/C-1").basic_auth("anna", Some("not hers at all")), 401, wrong),
        (get("/v1/customers/C-1").basic_auth("berta@example.com", Some(PASSWORD)), 401, wrong),
        (get("/v1/berta@example.com"), 401, missing),
        (get("/v1/parked").basic_auth("anna", Some(PASSWORD)).header("origin", "https://a.example"), 403, "a web page"),
        (skip().bearer_auth(VIEWER), 403, "takes the role admin"),
        (skip().basic_auth("anna", Some(PASSWORD)), 403, "takes the role admin"),
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{answer:?}");
        let text = answer.text().await.expect("text");
        assert!(text.contains(words), "{words}: {text}");
    }
    let rows = rows(&world).await;
    let told: Vec<String> = rows
        .iter()
        .filter(|row| row["action"] == Action::AccessUse.name())
        .map(|row| {
            let target = row["target"]["id"].as_str().expect("a route");
            let [actor, outcome, reason, to] =
                ["actor", "outcome", "reason", "to"].map(|name| row[name].as_str().unwrap_or("-"));
            format!("{actor} {target} {outcome} {reason} {to}")
        })
        .collect();
    assert_eq!(
        told,
        [
            "bridge GET /v1/parked refused no_credentials -",
            "bridge GET /v1/parked refused wrong_token -",
            "operator:anna GET /v1/customers/{id} refused wrong_password -",
            "bridge GET /v1/customers/{id} refused wrong_password -",
            "bridge /v1 refused no_credentials -",
            "bridge GET /v1/parked refused web_page -",
            "token:grafana POST /v1/parked/{id}/skip refused role_required admin",
            "operator:anna POST /v1/parked/{id}/skip refused role_required admin",
        ]
    );
    assert!(!format!("{rows:?}").contains("example"), "{rows:?}");
    // A crowd of strangers: bounded rows, and those about known callers go on.
    let before = rows.len();
    let strangers = (0..4 * REFUSALS_A_MINUTE_MAX).map(|_| get("/v1/parked").send());
    let answers: Vec<_> = stream::iter(strangers).buffer_unordered(8).collect().await;
    // Beyond a number a second the listener closes the connection of one who is refused.
    assert!(answers.into_iter().flatten().all(|answer| answer.status() == 401));
    assert_eq!(skip().bearer_auth(VIEWER).send().await.expect("an answer").status(), 403);
    let rows = self::rows(&world).await;
    let new = rows.len() - before;
    // It may have taken two minutes of the clock.
    assert!(new <= 2 * REFUSALS_A_MINUTE_MAX as usize + 1, "{new} rows");
    assert_eq!(rows.last().expect("a row")["actor"], "token:grafana");
    world.bridge.stop().await;
}

#[test]
fn the_document_has_every_reason_of_refused_access() {
    let document = include_str!("../../docs/AUDIT.md");
    for reason in AccessRefusal::ALL {
        assert!(document.contains(&format!("`{reason}`")), "docs/AUDIT.md lacks {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_a_page_at_a_time_and_exported_by_admins() {
    let (world, environment, folder) = start(Extra::default()).await;
    add_operator(folder.path(), &environment, "anna", Role::Viewer, PASSWORD);
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    let ask = async |path: &str, token: &str| {
        let answer = world.http.get(world.operator(path)).bearer_auth(token).send().await.expect("an answer");
        (answer.status().as_u16(), answer)
    };
    let read = async |path: &str, token: &str| {
        let (status, answer) = ask(path, token).await;
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    until("all rows are sealed", async || {
        let rows = rows(&world).await;
        rows.iter().all(|row| row["number"].is_number()).then_some(())
    })
    .await;
    let (mut found, mut path) = (Vec::new(), "/v1/audit?limit=2".to_owned());
    loop {
        let page = read(&path, VIEWER).await;
        let rows = page["audit"].as_array().expect("rows").clone();
        assert!(rows.len() <= 2, "{page}");
        found.extend(rows);
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/audit?limit=2&after={next}"),
            None => break,
        }
    }
    found.reverse();
    assert_eq!(found, rows(&world).await, "all pages are all rows");
    for (query, expected) in [
        ("action=operator.add", 1),
        ("actor=source:default&action=podero.create_user", 1),
        ("actor=token:grafana", 0),
        ("target=anna", 1),
        ("until=2026-01-01", 0),
    ] {
        let page = read(&format!("/v1/audit?{query}"), VIEWER).await;
        assert_eq!(page["audit"].as_array().map(Vec::len), Some(expected), "{query}: {page}");
    }
    for query in ["actor=anna", "action=add", "since=soon"] {
        assert_eq!(ask(&format!("/v1/audit?{query}"), VIEWER).await.0, 400, "{query}");
    }
    assert_eq!(ask("/v1/audit/export", VIEWER).await.0, 403);
    assert_eq!(ask("/v1/audit/export?format=xml", ADMIN).await.0, 400);
    for format in ExportFormat::ALL {
        let (status, answer) = ask(&format!("/v1/audit/export?format={format}&action=operator.add"), ADMIN).await;
        assert_eq!(status, 200);
        let head = answer.headers().get("audit-head").and_then(|head| head.to_str().ok()).expect("a head").to_owned();
        let media_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
        assert_eq!(media_type, format.media_type());
        let text = answer.text().await.expect("a whole export");
        assert!(text.contains("operator.add"), "{text}");
        let extra = 1 + usize::from(format == ExportFormat::Csv);
        assert_eq!(text.lines().count(), 1 + extra, "{format}: one row, a head, and names in CSV: {text}");
        let last = text.lines().last().expect("a head");
        assert!(last.contains(&head) && (format == ExportFormat::Jsonl || last.contains("audit.export")), "{last}");
        let verified = running::run(&["audit", "verify", "--head", &head], &environment);
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    }
    let exports = read("/v1/audit?action=audit.export", VIEWER).await;
    assert_eq!(exports["audit"].as_array().map(Vec::len), Some(3), "each export has its row");
    assert_eq!(exports["audit"][0]["actor"], "token:default");
    world.bridge.stop().await;
}

/// A skip has the words of the one who skips, in its row alone; words that would be none are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_skip_has_a_note() {
    let (world, _, _folder) = start(Extra::default()).await;
    let skip = async |body: String| {
        let request = world.http.post(world.operator(&format!("/v1/parked/{UNKNOWN}/skip"))).bearer_auth(ADMIN);
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let long = "x".repeat(NOTE_CHARS_MAX + 1);
    for body in
        ["[]", r#"{"note": 1}"#, r#"{"note": " "}"#, r#"{"note": "a\nb"}"#, &json!({ "note": long }).to_string()]
    {
        let (status, text) = skip(body.to_owned()).await;
        assert!(status == 400 && text.contains("`{\\\"note\\\": TEXT}`"), "{body}: {text}");
    }
    assert_eq!(skip(json!({"note": " sent again by hand "}).to_string()).await.0, 404);
    let rows = rows(&world).await;
    let row = rows.last().expect("a row");
    assert_eq!((&row["action"], &row["note"]), (&"event.skip".into(), &"sent again by hand".into()));
    world.bridge.stop().await;
}

/// A bridge that stops seals its last rows, however long it may wait for that while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_stops_seals_its_last_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let toml = format!("[[admin.tokens]]\nname = \"grafana\"\nrole = \"viewer\"\ntoken = \"{VIEWER}\"\n");
    let environment = vec![("ADMIN__TOKEN", ADMIN.to_owned()), ("AUDIT__SEAL_WITHIN", "60s".to_owned())];
    let settings = Settings { toml, environment };
    let parts = tempfile::tempdir().expect("a folder");
    let world = World::start_with(parts, url.clone(), settings, Extra::default()).await;
    let view = StoreView::open(&url, Clock::system()).await.expect("it opens");
    let unsealed = async || view.audit_unsealed().await.expect("the store is there");
    // The first seal comes with the start, the next one a minute later.
    until("the rows of the start are sealed", async || (unsealed().await == 0).then_some(())).await;
    assert_eq!(world.http.get(world.operator("/v1/parked")).send().await.expect("an answer").status(), 401);
    assert_eq!(unsealed().await, 1, "the row of the refused access");
    world.bridge.stop().await;
    assert_eq!(unsealed().await, 0);
    view.close().await;
}

/// A viewer is shown no words of a person.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_for_those_who_see_personal_data() {
    let (world, environment, _folder) = start(Extra::default()).await;
    let note = Some("Ms Smith rang".to_owned());
    desk(&environment).await.record(vec![AuditEntry { note, ..skip() }]).await.expect("the store is there");
    for (token, is_shown) in [(VIEWER, false), (ADMIN, true)] {
        let request = world.http.get(world.operator("/v1/audit?action=event.skip")).bearer_auth(token);
        let text = request.send().await.expect("an answer").text().await.expect("text");
        assert!(text.contains("event.skip") && text.contains("Smith") == is_shown, "{token}: {text}");
    }
    world.bridge.stop().await;
}

/// The store of a bridge, as a command opens it.
async fn desk(environment: &Environment) -> Desk {
    let (desk, writer) = Desk::open(&environment[0].1, Clock::system()).await.expect("it opens");
    tokio::spawn(writer.run());
    desk
}

fn skip() -> AuditEntry {
    let target = AuditTarget::new(TargetKind::Event, UNKNOWN);
    AuditEntry::done(Clock::system().now(), Actor::Cli("tester".to_owned()), Action::EventSkip, target)
}

/// A client that reads an export slowly is no idle one; one that does not read is not let in a third time; and a whole export has
/// every row.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_export_is_bounded_and_whole() {
    const ROWS: usize = 60_000;
    // Long enough for a loaded machine to read a request in.
    const KEEP_ALIVE: Duration = Duration::from_secs(5);
    let limits = Limits { keep_alive: KEEP_ALIVE, ..Limits::default() };
    let (world, environment, _folder) = start(Extra { limits, ..Extra::default() }).await;
    let store = desk(&environment).await;
    for _ in 0..ROWS / 1_000 {
        store.record(vec![skip(); 1_000]).await.expect("the store is there");
    }
    until("all rows are sealed", async || {
        (store.audit_unsealed().await.expect("the store is there") == 0).then_some(())
    })
    .await;
    let head = store.audit_head().await.expect("the store is there");
    let open = |query: &str| {
        let mut stream = TcpStream::connect(world.bridge.admin).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        let head = format!(
            "GET /v1/audit/export?{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        stream
    };
    let status = |stream: &mut TcpStream| {
        let mut line = [0; 12];
        stream.read_exact(&mut line).expect("an answer");
        String::from_utf8_lossy(&line).into_owned()
    };
    let (mut slow, mut other) = (open("format=jsonl"), open("format=ocsf"));
    assert_eq!((status(&mut slow), status(&mut other)), ("HTTP/1.1 200".to_owned(), "HTTP/1.1 200".to_owned()));
    assert_eq!(status(&mut open("format=csv")), "HTTP/1.1 503", "two are under way");
    let exports = world.audited("audit.export").await;
    assert_eq!(exports.iter().filter(|row| row.contains("refused occupied")).count(), 1, "{exports:?}");
    // A connection without a request is cut after this time, and so would be a stream that counted as one.
    let mut idle = TcpStream::connect(world.bridge.admin).expect("it listens");
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it is sent");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).expect("it is closed");
    drop(other);
    let mut text = Vec::new();
    let mut part = vec![0; 1 << 16];
    while !text.ends_with(b"0\r\n\r\n") {
        let count = slow.read(&mut part).expect("it goes on");
        assert!(count > 0, "it broke off after {} bytes", text.len());
        text.extend_from_slice(&part[..count]);
    }
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text.matches("\"action\":\"event.skip\"").count(), ROWS);
    assert!(text.contains(&format!("{{\"head\":\"{head}\"}}")), "the last line is the head");
    until("the other's place is free", async || (status(&mut open("format=csv")) == "HTTP/1.1 200").then_some(()))
        .await;
    world.bridge.stop().await;
}

/// Tokens are configuration: a start, and a file that changes, are compared with those seen last.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_new_changed_or_gone_has_a_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{ADMIN}\n")).expect("written");
    let run = async |toml: &str| {
        let file = file.display().to_string();
        let settings = Settings { toml: toml.to_owned(), environment: vec![("ADMIN__TOKEN_FILE", file)] };
        World::start_on(tempfile::tempdir().expect("a folder"), url.clone(), settings).await
    };
    let told = |rows: &[Value]| -> Vec<String> {
        let of_tokens = rows.iter().filter(|row| row["target"]["kind"] == "token");
        let shown = |row: &Value| {
            let [action, reason, from, to] =
                ["action", "reason", "from", "to"].map(|name| row[name].as_str().unwrap_or("-"));
            format!("{action} {} {reason} {from} {to}", row["target"]["id"].as_str().expect("a name"))
        };
        of_tokens.map(shown).collect()
    };
    let named = |role: &str| format!("[[admin.tokens]]\nname = \"grafana\"\nrole = \"{role}\"\ntoken = \"{VIEWER}\"\n");
    for toml in [named("viewer"), named("viewer"), named("support"), String::new()] {
        run(&toml).await.bridge.stop().await;
    }
    let world = run("").await;
    let mut expected = vec![
        "token.add default - - admin",
        "token.add grafana - - viewer",
        "token.change grafana - viewer support",
        "token.remove grafana - support -",
    ];
    assert_eq!(told(&rows(&world).await), expected);
    // Both are good while it is rotated.
    std::fs::write(&file, format!("{ADMIN}\nanother-token-of-the-tests\n")).expect("written");
    expected.push("token.change default rotated admin admin");
    until("the new token has a row", async || (told(&rows(&world).await) == expected).then_some(())).await;
    assert!(rows(&world).await.iter().all(|row| !row.to_string().contains("of-the-tests")), "no row has a token");
    world.bridge.stop().await;
}
