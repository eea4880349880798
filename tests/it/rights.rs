//! The rights of each caller at each route of the admin API: every cell of the table is tried at a bridge that runs.
//!
//! `UPDATE=1` writes `docs/RIGHTS.md`, which has what was found.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use podero_bridge::admin::{ApiMethod, ApiRoute, RouteRow};
use podero_bridge::domain::audit::Action;
use podero_bridge::domain::identity::Role;
use podero_bridge::spec;
use reqwest::Method;
use serde_json::{Value, json};

use crate::operators::add_operator;
use crate::running::Environment;
use crate::tidy::files;
use crate::world::{Settings, World};

const UNKNOWN: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";
const PASSWORD: &str = "a password of the tests";

const HEAD: &str = "# Rights at the admin API

For an operator who gives out tokens, and for an auditor: what each caller is answered at each route. A test generates this
table: it sends every caller to every route of a running bridge. `UPDATE=1 cargo nextest run docs_has` writes this file.

- 401: the caller is not known; 403: its role is not enough. `yes` is every other answer.
- The columns of the roles hold for tokens (`admin.token` has the role admin) and for operators alike.
- A `viewer` gets an event without `raw`, `raw_encoding` and `envelope`, a customer or a member without `state` and the `data` of
  outgoing events, and rows of the audit log without `note`.
- The last column has the actions by which the audit log names what the route does.
- Where neither a token nor an operator is configured the API is on loopback, and every caller has the role admin.

";

/// A caller, and the role that it has.
struct Caller {
    name: String,
    authorization: Option<String>,
    role: Option<Role>,
}

impl Caller {
    fn bearer(name: &str, token: &str, role: Option<Role>) -> Self {
        Self { name: name.to_owned(), authorization: Some(format!("Bearer {token}")), role }
    }
}

/// A token of each role, an operator of each role, and two strangers.
fn callers() -> Vec<Caller> {
    let nobody = Caller { name: "no credentials".to_owned(), authorization: None, role: None };
    let wrong = Caller::bearer("wrong token", "a-token-that-nobody-has", None);
    let tokens = Role::ALL.map(|role| Caller::bearer(&format!("token {role}"), &token_of(role), Some(role)));
    let operators = Role::ALL.map(|role| {
        let pair = BASE64.encode(format!("{}:{PASSWORD}", operator_of(role)));
        Caller { name: format!("operator {role}"), authorization: Some(format!("Basic {pair}")), role: Some(role) }
    });
    [nobody, wrong].into_iter().chain(tokens).chain(operators).collect()
}

fn token_of(role: Role) -> String {
    format!("a-token-of-a-test-{role}")
}

fn operator_of(role: Role) -> String {
    format!("operator-{role}")
}

async fn start() -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let mut settings = Settings { environment: vec![("ADMIN__TOKEN", token_of(Role::Admin))], ..Settings::default() };
    for role in [Role::Viewer, Role::Support] {
        let token = token_of(role);
        write!(settings.toml, "[[admin.tokens]]\nname = \"{role}\"\nrole = \"{role}\"\ntoken = \"{token}\"\n")
            .expect("written");
    }
    let world = World::start_on(tempfile::tempdir().expect("a folder"), url.clone(), settings).await;
    let environment: Environment = vec![("STORE__URL", url)];
    for role in Role::ALL {
        add_operator(folder.path(), &environment, &operator_of(role), role, PASSWORD);
    }
    (world, folder)
}

/// The answer of a route to a caller: its status, and the end of its problem's type.
async fn ask(world: &World, row: RouteRow, caller: &Caller) -> (u16, String) {
    let url = world.operator(&row.path.replace("{id}", UNKNOWN));
    let method = match row.method {
        ApiMethod::Get => Method::GET,
        ApiMethod::Post => Method::POST,
    };
    let is_order = row.actions.contains(&Action::RetryOrder);
    let mut request = world.http.request(method, url);
    request = caller.authorization.iter().fold(request, |request, value| request.header("authorization", value));
    if is_order {
        request = request.body(json!({"all": true}).to_string());
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    let problem = body["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
    (status, problem.to_owned())
}

/// The cell of a caller whose answer was this, which has to be what the table says.
fn cell(row: RouteRow, caller: &Caller, answer: (u16, &str)) -> &'static str {
    let about = format!("{} {} for {}: {answer:?}", row.method, row.path, caller.name);
    match (row.role, caller.role) {
        (None, _) => {
            assert!(!matches!(answer.0, 401 | 403), "{about}");
            "yes"
        }
        (Some(_), None) => {
            assert_eq!(answer, (401, "unauthorized"), "{about}");
            "401"
        }
        (Some(needed), Some(role)) if role < needed => {
            assert_eq!(answer, (403, "role-required"), "{about}");
            "403"
        }
        (Some(_), Some(_)) => {
            assert!(!matches!(answer.0, 401 | 403 | 429 | 500..), "{about}");
            "yes"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docs_has_the_rights_of_every_caller_at_every_route() {
    let (world, _folder) = start().await;
    let callers = callers();
    let mut text = HEAD.to_owned();
    let roles = Role::ALL.map(|role| format!("`{role}`")).join(" | ");
    writeln!(text, "| route | no or wrong credentials | {roles} | acts |\n|---|---|---|---|---|---|").expect("written");
    for route in ApiRoute::ALL {
        let row = route.row();
        let mut cells = Vec::new();
        for caller in &callers {
            let (status, problem) = ask(&world, row, caller).await;
            cells.push((caller.role, cell(row, caller, (status, &problem))));
        }
        let mut columns = Vec::new();
        for role in [None].into_iter().chain(Role::ALL.map(Some)) {
            let mut alike: Vec<_> = cells.iter().filter(|(of, _)| *of == role).map(|(_, cell)| *cell).collect();
            alike.dedup();
            assert_eq!(alike.len(), 1, "{}: both callers of {role:?} are answered alike", row.path);
            columns.extend(alike);
        }
        let acts: Vec<String> = row.actions.iter().map(|action| format!("`{action}`")).collect();
        let (method, path) = (row.method, row.path);
        writeln!(text, "| `{method} {path}` | {} | {} |", columns.join(" | "), acts.join(", ")).expect("written");
    }
    world.bridge.stop().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RIGHTS.md");
    if crate::servers::environment("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("it can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/RIGHTS.md is not what was found: UPDATE=1 writes it");
}

/// Another method is refused by its name, whatever the caller's role, and a path that is not there only to callers that are known.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_not_there() {
    let (world, _folder) = start().await;
    let admin = format!("Bearer {}", token_of(Role::Admin));
    let viewer = format!("Bearer {}", token_of(Role::Viewer));
    for (method, path, authorization, expected) in [
        (Method::GET, "/v1/nothing", None, 401),
        (Method::GET, "/v1/nothing", Some(&admin), 404),
        (Method::GET, "/v1", None, 401),
        (Method::GET, "/v1", Some(&admin), 404),
        (Method::GET, "/nothing", None, 404),
        (Method::POST, "/livez", None, 405),
        (Method::DELETE, "/v1/events", None, 401),
        (Method::DELETE, "/v1/events", Some(&viewer), 405),
        (Method::GET, "/v1/parked/retry", Some(&viewer), 405),
    ] {
        let request = world.http.request(method.clone(), world.operator(path));
        let request = authorization.iter().fold(request, |request, value| request.header("authorization", *value));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{method} {path}");
        if expected == 405 {
            let allowed = answer.headers().get("allow").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let is_post = path.ends_with("retry");
            assert_eq!(allowed.as_deref(), Some(if is_post { "POST" } else { "GET" }), "{path}");
        }
    }
    world.bridge.stop().await;
}

#[test]
fn routes_are_mounted_from_the_table_alone() {
    for (path, text) in files("src/admin", &["rs"]) {
        let mounts = ["web::resource(", "web::scope(", ".route(", ".service(", ".default_service("];
        let found: Vec<_> = mounts.into_iter().filter(|mount| text.contains(mount)).collect();
        let is_home = path.ends_with("/routes.rs");
        // Requests that no route takes are answered in the other file.
        let is_rest = path.ends_with("/mod.rs") && found == [".default_service("];
        assert!(
            found.is_empty() || is_home || is_rest,
            "{path} mounts by {found:?}; src/admin/routes.rs has the table"
        );
        assert!(!is_home || text.matches("web::resource(").count() == 1, "one place makes the routes of the table");
    }
}

#[test]
fn every_route_is_documented_with_its_role() {
    let document = spec::admin();
    let mut count = 0;
    for route in ApiRoute::ALL {
        let RouteRow { method, path, role, .. } = route.row();
        let operation = &document["paths"][path][method.name().to_lowercase()];
        assert_eq!(operation["operationId"], route.name(), "{method} {path}");
        assert_eq!(operation["x-role"], json!(role), "{path}");
        if let Some(role) = role {
            let description = operation["description"].as_str().expect("a description");
            assert!(description.contains(&format!("the role `{role}`")), "{path}: {description}");
            let refusals = operation["responses"]["403"].to_string();
            assert!(refusals.contains("urn:podero-bridge:problem:role-required"), "{path}");
        }
        count += 1;
    }
    let paths = document["paths"].as_object().expect("paths").values();
    let documented: usize = paths.map(|item| item.as_object().expect("methods").len()).sum();
    assert_eq!(documented, count, "nothing else is documented");
}

/// The parameters that a route takes are those of its document.
#[test]
fn a_route_takes_the_parameters_of_its_document() {
    let document = spec::admin();
    for route in ApiRoute::ALL {
        let row = route.row();
        let method = row.method.name().to_lowercase();
        let parameters =
            document["paths"][row.path][method.as_str()]["parameters"].as_array().cloned().unwrap_or_default();
        let mut named: Vec<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let mut taken = route.query().to_vec();
        named.sort_unstable();
        taken.sort_unstable();
        assert_eq!(taken, named, "{}", row.path);
    }
}
