//! Acts and their rows, from outside: every route, command and call that changes something has its row of the audit log, refused access
//! has one, and the log is read and exported over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
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
use podero_bridge::domain::identity::{Actor, LOGIN_LINK, Role};
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::store::{AuditFilter, Desk, ExportFormat, SessionHolder, StoreView};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Fixture, StoreFixture};
use crate::operators::add_operator;
use crate::running::{self, Environment, said};
use crate::world::{Database, Extra, Settings, World, sign_up, until};

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

/// Commands that act, each with its acts; every other one only reads, or is a bridge or a sandbox of its own.
const ACTS: [(&str, &[Action]); 13] = [
    ("parked retry", &[Action::EventRetry, Action::EventApprove, Action::RetryOrder]),
    ("parked stop", &[Action::RetryStop]),
    ("parked skip", &[Action::EventSkip]),
    ("operator add", &[Action::OperatorAdd]),
    ("operator change", &[Action::OperatorChange]),
    ("operator remove", &[Action::OperatorRemove]),
    ("operator end-session", &[Action::SessionRevoke]),
    ("erase", &[Action::CustomerErase, Action::MemberErase]),
    ("import", &[Action::EventsImport]),
    ("audit export", &[Action::AuditExport]),
    ("backup", &[Action::StoreBackup]),
    ("migrate", &[Action::StoreMigrate]),
    // Its own acts are those of the routes, the calls and the tasks.
    ("serve", &[]),
];

const READS: [&str; 17] = [
    "demo", "sandbox", "check", "explain", "test", "parked list", "parked show", "events list", "events show",
    "customers show", "team list", "team review", "operator list", "operator sessions", "audit list", "audit verify",
    "help",
];

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

/// Files of one run through all commands.
struct Files {
    folder: tempfile::TempDir,
    password: String,
    events: String,
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
        let message = file("message.json", &sign_up("e1", "C-1", TIME).to_string());
        let (copy, exported) = (place("copy.db"), place("audit.jsonl"));
        Self { folder, password, events, message, copy, exported }
    }

    /// The commands to be run, with their arguments; `parked` are events, `session` is one at the console. `RETRY` stands for the retry that was ordered last.
    fn steps<'a>(&'a self, parked: &'a [String], session: &'a str) -> Vec<(&'static str, Vec<&'a str>)> {
        let [password, events, message, copy, exported] =
            [&self.password, &self.events, &self.message, &self.copy, &self.exported].map(String::as_str);
        let (first, second) = (parked[0].as_str(), parked[1].as_str());
        vec![
            ("parked list", vec![]),
            ("parked show", vec![first]),
            ("parked retry", vec![first]),
            ("parked retry", vec!["--approve", second]),
            ("parked retry", vec!["--reason", "refused", "--detach"]),
            ("parked stop", vec!["RETRY"]),
            ("parked skip", vec![second]),
            ("parked skip", vec![UNKNOWN]),
            ("events list", vec![]),
            ("events show", vec![first]),
            ("customers show", vec!["C-1"]),
            ("team list", vec![]),
            ("team review", vec![]),
            ("operator add", vec!["anna", "--role", "viewer", "--password-file", password]),
            ("operator add", vec!["anna", "--role", "viewer", "--password-file", password]),
            ("operator list", vec![]),
            ("operator change", vec!["anna", "--role", "admin"]),
            ("operator change", vec!["anna", "--password-file", password]),
            ("operator change", vec!["bert", "--role", "admin"]),
            ("operator sessions", vec![]),
            ("operator end-session", vec![session]),
            ("operator end-session", vec![session]),
            ("operator remove", vec!["anna"]),
            ("operator remove", vec!["anna", "--force"]),
            ("operator remove", vec!["anna"]),
            ("erase", vec!["C-9"]),
            ("erase", vec!["--member", "M-9"]),
            ("import", vec![events]),
            ("audit list", vec![]),
            ("audit export", vec!["--output", exported]),
            ("audit verify", vec![]),
            ("backup", vec![copy]),
            ("explain", vec![message]),
            ("migrate", vec![]),
        ]
    }
}

/// All rows of a store, oldest first.
async fn rows_of(view: &StoreView) -> Vec<Value> {
    let page = view.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there");
    let rows = serde_json::to_value(page.records).expect("JSON");
    rows.as_array().expect("rows").iter().rev().cloned().collect()
}

/// Every command is run. One that acts has a row for each act, as `cli:USER`; one that reads has none.
#[tokio::test]
async fn every_command_that_acts_leaves_its_rows_and_no_other_leaves_one() {
    let (fixture, files) = (StoreFixture::on_sqlite().await, Files::make());
    let mut parked = Vec::new();
    for customer in ["C-1", "C-2", "C-3", "C-4"] {
        let refused = Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
        parked.push(fixture.ends(customer, refused).await.to_string());
    }
    let environment: Environment = vec![("STORE__URL", fixture.url.clone())];
    // A store that a command makes tells who made it.
    let made: Environment = vec![("STORE__URL", crate::kit::sqlite_url(files.folder.path()))];
    let user = std::process::Command::new("id").arg("-un").output().expect("it runs");
    let actor = Actor::Cli(String::from_utf8_lossy(&user.stdout).trim().to_owned()).to_string();
    let mut done: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (by, holder) = (Actor::Token(LOGIN_LINK.to_owned()), SessionHolder::LoginLink);
    fixture.store.open_session(&holder, &by, Role::Admin, None).await.expect("the store is there");
    let session = fixture.store.sessions(None).await.expect("the store is there").remove(0).id.to_string();
    for (name, mut arguments) in files.steps(&parked, &session) {
        let retries = fixture.store.bulk_retries().await.expect("the store is there");
        let retry = retries.first().map(|retry| retry.id.clone()).unwrap_or_default();
        arguments.iter_mut().filter(|word| **word == "RETRY").for_each(|word| *word = &retry);
        let before = rows_of(&fixture.store).await.len();
        let words: Vec<&str> = name.split(' ').chain(arguments.iter().copied()).collect();
        let output = running::run(&words, if name == "migrate" { &made } else { &environment });
        assert_ne!(output.status.code(), Some(64), "{words:?}: {}", said(&output));
        let acts = if name == "migrate" {
            let listed = running::run(&["audit", "list", "--json"], &made);
            let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
            actions(listed["audit"].as_array().expect("rows"), &actor, 0)
        } else {
            actions(&rows_of(&fixture.store).await, &actor, before)
        };
        // No bridge runs: a command seals what it writes.
        if !acts.is_empty() {
            let url = if name == "migrate" { &made[0].1 } else { &fixture.url };
            let view = StoreView::open(url, Clock::system()).await.expect("it opens");
            assert_eq!(view.audit_unsealed().await.expect("the store is there"), 0, "{words:?}");
            view.close().await;
        }
        done.entry(name).or_default().extend(acts);
    }
    for (name, done) in done {
        let expected = ACTS.into_iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, acts)| acts);
        assert_eq!(done, names(expected), "`{name}` leaves the rows of its acts");
    }
    let rows = rows_of(&fixture.store).await;
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
