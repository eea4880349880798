//! The permission matrix: every act on everyone, tried by every kind of caller, under each switch that moves a right.
//!
//! The table in `docs/SANDBOX.md` is what the cells answered; `UPDATE=1` writes it again. A refused act must have changed
//! nothing, so the sandbox's whole state is compared around it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::{SandboxWorld, answer, text, world};

/// Kinds of callers: the columns.
const CALLERS: [&str; 6] = ["server-to-server", "admin", "staff", "user", "guest", "no token"];

/// Switches that move rights, each with a value that is not the one at the start, as JSON.
const SWITCHES: [(&str, &str); 4] = [
    ("staff_rights", "\"end_users_and_staff\""),
    ("staff_rights", "\"edit_all\""),
    ("users_edit_own_data", "true"),
    ("building_delete_admin_only", "false"),
];

/// The one whom an act concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Nobody,
    EndUser,
    Staff,
    Admin,
    Themself,
}

impl Whom {
    fn words(self) -> &'static str {
        match self {
            Self::Nobody => "the organisation",
            Self::EndUser => "an end user",
            Self::Staff => "staff",
            Self::Admin => "an admin",
            Self::Themself => "themself",
        }
    }
}

/// Acts on the organisation as a whole.
const OF_ALL: [&str; 5] = ["list users", "create an end user", "create staff", "create an admin", "see all savings"];
/// Acts on a person.
const OF_PEOPLE: [&str; 7] = [
    "see", "find by key", "change a name", "change the address", "change the role", "delete softly", "delete for good",
];
/// Acts on a person's belongings.
const OF_HOMES: [&str; 19] = [
    "list buildings",
    "see a building",
    "create a building",
    "change a building",
    "delete a building",
    "list heat pumps",
    "see a heat pump",
    "see its data",
    "see its statistics",
    "create a heat pump",
    "change a heat pump",
    "delete a heat pump",
    "list energy contracts",
    "create an energy contract",
    "change an energy contract",
    "create an onboarding session",
    "see an onboarding session",
    "reauthenticate a heat pump",
    "resolve a cue",
];

type Row = (Whom, &'static str);

fn rows() -> Vec<Row> {
    let of_all = OF_ALL.iter().map(|act| (Whom::Nobody, *act));
    let people = [Whom::EndUser, Whom::Staff, Whom::Admin, Whom::Themself];
    let of_people = people.into_iter().flat_map(|whom| OF_PEOPLE.iter().map(move |act| (whom, *act)));
    let of_homes = people.into_iter().flat_map(|whom| OF_HOMES.iter().map(move |act| (whom, *act)));
    of_all.chain(of_people).chain(of_homes).collect()
}

/// A person, made by the client credentials; for an act on belongings with a home, else without.
#[derive(Default)]
struct Person {
    id: String,
    role: &'static str,
    key: String,
    building: String,
    pump: String,
    contract: String,
    session: String,
}

async fn person(world: &SandboxWorld, role: &'static str, number: usize) -> Person {
    let key = format!("K-{number}");
    let body = json!({"role": role, "email": format!("{number}@example.org"), "external_user_id": key});
    let (status, user) = world.send(Method::POST, "/users", body).await;
    assert_eq!(status, 200, "{user}");
    Person { id: text(&user["id"]), role, key, ..Person::default() }
}

/// Gives a person a building, a heat pump whose authentication has lapsed, a contract and a session.
async fn furnish(world: &SandboxWorld, person: &mut Person) {
    let id = &person.id;
    person.building = world.building(id, "home").await;
    person.pump = world.heat_pump(id).await;
    world.control(Method::POST, &format!("/heat-pumps/{}/lapse", person.pump), json!({})).await;
    person.contract =
        text(&world.send(Method::POST, &format!("/users/{id}/energy-contracts"), json!({})).await.1["id"]);
    let made = world.send_as(&world.token, Method::POST, "/device-onboarding", session_of(id)).await;
    person.session = text(&made.1["id"]);
}

fn session_of(user: &str) -> Value {
    json!({"user_id": user, "language": "de", "price_zone_default": "AT", "success_url": "https://utility.example/done",
        "cancel_url": "https://utility.example/later"})
}

/// Method, path below the API, and body of an act.
async fn request(world: &SandboxWorld, act: &str, of: Option<&Person>, number: usize) -> (Method, String, Value) {
    let Some(person) = of else {
        let new = |role: &str| json!({"role": role, "email": format!("new-{number}@example.org")});
        let range = "start_datetime=2026-10-01T00:00:00Z&end_datetime=2026-10-02T00:00:00Z";
        let (method, path, body) = match act {
            "list users" => (Method::GET, "/users".to_owned(), Value::Null),
            "create an end user" => (Method::POST, "/users".to_owned(), new("user")),
            "create staff" => (Method::POST, "/users".to_owned(), new("staff")),
            "create an admin" => (Method::POST, "/users".to_owned(), new("admin")),
            "see all savings" => (Method::GET, format!("/devices/savings?{range}"), Value::Null),
            act => panic!("{act}"),
        };
        return (method, world.org(&path), body);
    };
    let user = format!("/users/{}", person.id);
    let building = format!("{user}/buildings/{}", person.building);
    let pump = format!("{user}/heat-pumps/{}", person.pump);
    let contracts = format!("{user}/energy-contracts");
    let other_role = if person.role == "staff" { "user" } else { "staff" };
    let (method, path, body) = match act {
        "see" => (Method::GET, user, Value::Null),
        "find by key" => (Method::GET, format!("/users/by-ext-id/{}", person.key), Value::Null),
        "change a name" => (Method::PUT, user, json!({"first_name": "Ann"})),
        "change the address" => (Method::PUT, user, json!({"email": format!("other-{number}@example.org")})),
        "change the role" => (Method::PUT, user, json!({"role": other_role})),
        "delete softly" => (Method::DELETE, format!("{user}?soft_delete=true"), Value::Null),
        "delete for good" => (Method::DELETE, user, Value::Null),
        "list buildings" => (Method::GET, format!("{user}/buildings"), Value::Null),
        "see a building" => (Method::GET, building, Value::Null),
        "create a building" => (Method::POST, format!("{user}/buildings"), json!({"name": "second"})),
        "change a building" => (Method::PUT, building, json!({"name": "house"})),
        "delete a building" => (Method::DELETE, building, Value::Null),
        "list heat pumps" => (Method::GET, format!("{user}/heat-pumps"), Value::Null),
        "see a heat pump" => (Method::GET, pump, Value::Null),
        "see its data" => (Method::GET, format!("{pump}/data?resolution=1DAY"), Value::Null),
        "see its statistics" => (Method::GET, format!("{pump}/statistics"), Value::Null),
        "create a heat pump" => (Method::POST, format!("{user}/heat-pumps"), json!({})),
        "change a heat pump" => (Method::PUT, pump, json!({"comment": "mine"})),
        "delete a heat pump" => (Method::DELETE, pump, Value::Null),
        "list energy contracts" => (Method::GET, contracts, Value::Null),
        "create an energy contract" => (Method::POST, contracts, json!({})),
        "change an energy contract" => {
            (Method::PUT, format!("{contracts}/{}", person.contract), json!({"supplier": "x"}))
        }
        "reauthenticate a heat pump" => (Method::POST, format!("{pump}/auth_session"), json!({})),
        "create an onboarding session" => {
            return (Method::POST, "/device-onboarding".to_owned(), session_of(&person.id));
        }
        "see an onboarding session" => {
            return (Method::GET, format!("/device-onboarding/{}", person.session), Value::Null);
        }
        "resolve a cue" => {
            let shown = world.get(&pump).await.1;
            let link = text(&shown["actions"][0]["resolution_link"]["url"]);
            let (_, path) = link.split_once("/api/partners/v2.0").expect("a link into the API");
            let urls =
                json!({"successUrl": "https://utility.example/done", "cancelUrl": "https://utility.example/later"});
            return (Method::POST, path.to_owned(), urls);
        }
        act => panic!("{act}"),
    };
    (method, world.org(&path), body)
}

/// One cell: `yes`, the status of the refusal, or `–` where the act makes no sense.
async fn attempt(world: &SandboxWorld, caller: &'static str, (whom, act): Row, number: usize) -> String {
    let role = CALLERS[1..5].iter().find(|role| **role == caller).copied();
    let mut people = Vec::new();
    if let Some(role) = role {
        people.push(person(world, role, 2 * number).await);
    }
    let other = match whom {
        Whom::EndUser => Some("user"),
        Whom::Staff => Some("staff"),
        Whom::Admin => Some("admin"),
        Whom::Nobody | Whom::Themself => None,
    };
    if let Some(other) = other {
        people.push(person(world, other, 2 * number + 1).await);
    }
    if OF_HOMES.contains(&act)
        && let Some(person) = people.last_mut()
    {
        furnish(world, person).await;
    }
    let token = match (role, caller) {
        (Some(_), _) => world.token_of(&people[0].id).await,
        (None, "no token") => String::new(),
        (None, _) => world.token.clone(),
    };
    let cell = match (whom, people.last()) {
        (Whom::Themself, _) if role.is_none() => "–".to_owned(),
        (Whom::Nobody, _) => answered(world, &token, request(world, act, None, number).await).await,
        (_, of) => answered(world, &token, request(world, act, of, number).await).await,
    };
    for person in people {
        // Whether it is still there or not.
        world.send(Method::DELETE, &format!("/users/{}", person.id), json!({})).await;
    }
    cell
}

/// The answer to a request, after a look at whether a refused one has changed nothing.
async fn answered(world: &SandboxWorld, token: &str, (method, path, body): (Method, String, Value)) -> String {
    let before = world.control(Method::GET, "/state", json!({})).await.1;
    let what = format!("{method} {path} {body}");
    // The heat pumps here have no data, which would be a refusal of another kind.
    let request =
        world.http.request(method, format!("{}/api/partners/v2.0{path}", world.base)).header("fill-missing", "true");
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    let request = if body.is_null() { request } else { request.json(&body) };
    let (status, answer) = answer(request.send().await.expect("an answer")).await;
    if (200..300).contains(&status) {
        return "yes".to_owned();
    }
    assert!(matches!(status, 401 | 403), "{what}: {status} {answer}");
    let after = world.control(Method::GET, "/state", json!({})).await.1;
    assert_eq!(before, after, "{what}: refused, and yet something changed");
    status.to_string()
}

/// Every cell under the switches as they are.
async fn matrix(switch: Option<Value>) -> BTreeMap<Row, Vec<String>> {
    let mut cells: BTreeMap<Row, Vec<String>> = BTreeMap::new();
    for caller in CALLERS {
        let world = world().await;
        world.switch(json!({"auth_session_supported": true})).await;
        if let Some(switch) = &switch {
            world.switch(switch.clone()).await;
        }
        for (number, row) in rows().into_iter().enumerate() {
            cells.entry(row).or_default().push(attempt(&world, caller, row, number).await);
        }
    }
    cells
}

fn table(rows: impl Iterator<Item = Row>, cells: &BTreeMap<Row, Vec<String>>) -> String {
    let mut table = format!("| on | act | {} |\n|---|---|{}\n", CALLERS.join(" | "), "---|".repeat(CALLERS.len()));
    for row in rows {
        writeln!(table, "| {} | {} | {} |", row.0.words(), row.1, cells[&row].join(" | ")).expect("a text takes it");
    }
    table
}

const BEGIN: &str = "<!-- permissions, as tests/it/sandbox/permissions.rs found them; UPDATE=1 writes them -->\n";
const END: &str = "<!-- end of permissions -->\n";

#[tokio::test]
async fn docs_has_the_permission_matrix_as_every_cell_was_tried() {
    let as_it_is = matrix(None).await;
    assert_pages_hold(&as_it_is);
    let mut text = format!("\n{}", table(rows().into_iter(), &as_it_is));
    for (name, value) in SWITCHES {
        let title = format!("`{name}`: `{}`", value.trim_matches('"'));
        let switched = matrix(Some(json!({(name): serde_json::from_str::<Value>(value).expect("JSON")}))).await;
        let changed: Vec<Row> = rows().into_iter().filter(|row| switched[row] != as_it_is[row]).collect();
        assert!(!changed.is_empty(), "{title} changes nothing");
        write!(text, "\nWith {title} these rows differ:\n\n{}", table(changed.into_iter(), &switched)).expect("a text");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SANDBOX.md");
    let page = std::fs::read_to_string(&path).expect("the page of the sandbox");
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the table begins");
    let (kept, after) = rest.split_once(END).expect("the mark where it ends");
    if crate::servers::environment("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{text}\n{END}{after}")).expect("it can be written");
    } else {
        assert!(kept == format!("{text}\n"), "docs/SANDBOX.md is not what the cells answered: UPDATE=1 writes it");
    }
}

/// The sentences of the pages about roles, as far as they agree with each other.
fn assert_pages_hold(cells: &BTreeMap<Row, Vec<String>>) {
    let is_read = |act: &str| ["see", "find", "list"].iter().any(|word| act.starts_with(word));
    for ((whom, act), answers) in cells {
        let of = |caller: &str| answers[CALLERS.iter().position(|name| *name == caller).expect("a caller")].as_str();
        let row = format!("{act} {whom:?}");
        assert!(answers.iter().any(|answer| answer == "yes"), "{row}: somebody may do it");
        assert!(matches!(of("server-to-server"), "yes" | "–"), "{row}: client credentials act as an administrator");
        assert_eq!(of("admin"), "yes", "{row}: an admin does everything");
        if matches!(whom, Whom::Staff | Whom::Admin) {
            let expected = if is_read(act) { "yes" } else { "403" };
            assert_eq!(of("staff"), expected, "{row}: staff only read staff and admins");
        }
        if *whom == Whom::EndUser && *act != "change the role" && *act != "delete a building" {
            assert_eq!(of("staff"), "yes", "{row}: staff fully manage end users and devices");
        }
        let is_own_data = *whom == Whom::Themself && is_read(act);
        assert_eq!(of("user"), if is_own_data { "yes" } else { "403" }, "{row}: a user sees own data");
        assert_eq!(of("guest"), "403", "{row}: no page gives a guest a right");
        assert!(matches!(of("no token"), "401" | "–"), "{row}");
    }
}
