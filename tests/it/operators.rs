//! Operators: kept in the store, managed by commands, and known to the admin API by name and password.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use podero_bridge::domain::identity::{Actor, Role};
use podero_bridge::store::{AuditFilter, Operator, OperatorChange, Removal};
use serde_json::{Value, json};

use crate::file::expect;
use crate::kit::{Fixture, StoreFixture, on_both_databases};
use crate::running::{self, Environment};
use crate::world::{Settings, World, event, sign_up};

const TIME: &str = "2026-10-01T12:00:00Z";
const PASSWORD: &str = "correct horse battery";

/// Adds an operator by the command, with a file for the password in this folder.
pub fn add_operator(folder: &Path, environment: &Environment, name: &str, role: Role, password: &str) {
    let file = folder.join(format!("password-of-{name}"));
    std::fs::write(&file, format!("{password}\n")).expect("written");
    let file = file.display().to_string();
    let arguments = ["operator", "add", name, "--role", role.name(), "--password-file", &file];
    expect(&running::run(&arguments, environment), 0, "was added");
}

on_both_databases! {
    operators_are_rows_that_are_changed_by_name_alone
}

async fn operators_are_rows_that_are_changed_by_name_alone(fixture: StoreFixture) {
    let (store, by) = (&fixture.store, Actor::Cli("tester".to_owned()));
    let operator = |role, hash: &str| Operator { role, password_hash: hash.to_owned() };
    assert!(!store.has_operators().await.expect("the store is there"));
    assert!(store.add_operator("anna", operator(Role::Viewer, "h1"), &by).await.expect("the store is there"));
    assert!(!store.add_operator("anna", operator(Role::Admin, "h2"), &by).await.expect("the store is there"));
    assert!(store.add_operator("bert", operator(Role::Admin, "h3"), &by).await.expect("the store is there"));
    let found = async |name: &str| {
        let found = store.operator(name).await.expect("the store is there");
        found.map(|operator| (operator.role, operator.password_hash))
    };
    assert_eq!(found("anna").await, Some((Role::Viewer, "h1".to_owned())), "the second addition changed nothing");
    fixture.clock.advance(std::time::Duration::from_secs(60));
    let change = |role, hash: Option<&str>| OperatorChange { role, password_hash: hash.map(str::to_owned) };
    let changed = store.change_operator("anna", change(Some(Role::Support), None), &by).await;
    assert_eq!(changed.expect("the store is there"), Some(Role::Viewer));
    assert_eq!(found("anna").await, Some((Role::Support, "h1".to_owned())));
    let changed = store.change_operator("anna", change(None, Some("h4")), &by).await;
    assert_eq!(changed.expect("the store is there"), Some(Role::Support));
    assert_eq!(found("anna").await, Some((Role::Support, "h4".to_owned())));
    let changed = store.change_operator("carl", change(Some(Role::Admin), None), &by).await;
    assert_eq!((changed.expect("the store is there"), found("carl").await), (None, None));
    let listed = store.operators().await.expect("the store is there");
    let listed: Vec<_> =
        listed.iter().map(|one| (one.name.as_str(), one.role, one.changed_at > one.created_at)).collect();
    assert_eq!(listed, [("anna", Role::Support, true), ("bert", Role::Admin, false)]);
    let remove =
        async |name: &str, is_forced| store.remove_operator(name, is_forced, &by).await.expect("the store is there");
    let lacks_admin = async || store.lacks_admin().await.expect("the store is there");
    assert!(!lacks_admin().await);
    assert_eq!(remove("bert", false).await, Removal::Done(Role::Admin));
    assert_eq!(remove("bert", false).await, Removal::Unknown);
    assert!(lacks_admin().await);
    // The last one goes by force, or where a token keeps the admin API closed.
    assert_eq!(remove("anna", false).await, Removal::Last);
    assert!(store.has_operators().await.expect("the store is there"));
    assert_eq!(remove("anna", true).await, Removal::Forced(Role::Support));
    assert!(store.add_operator("anna", operator(Role::Viewer, "h5"), &by).await.expect("the store is there"));
    store.note_tokens([("grafana", Role::Viewer, "secret")]).await.expect("the store is there");
    assert!(lacks_admin().await);
    store.note_tokens([("default", Role::Admin, "secret")]).await.expect("the store is there");
    assert!(!lacks_admin().await);
    assert_eq!(remove("anna", false).await, Removal::Done(Role::Viewer));
}

#[tokio::test]
async fn commands_about_operators_say_what_they_did_and_what_they_could_not() {
    let (fixture, folder) = (StoreFixture::on_sqlite().await, tempfile::tempdir().expect("a folder"));
    let environment: Environment = vec![("STORE__URL", fixture.url.clone())];
    let run = |arguments: &[&str]| running::run(&[&["operator"], arguments].concat(), &environment);
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (good, other) = (file("good", "correct horse battery\n"), file("other", "another horse battery"));
    let (short, lines) = (file("short", "short\n"), file("lines", "correct horse\nbattery staple\n"));
    expect(&run(&["list"]), 0, "there are no operators");
    for (arguments, words) in [
        (&["add", "Anna", "--role", "viewer", "--password-file", &good][..], "characters a-z"),
        (&["add", "anna", "--role", "owner", "--password-file", &good], "one of viewer, support, admin"),
        (&["add", "anna", "--password-file", &good], "--role"),
        (&["add", "anna", "--role", "viewer", "--password-file", &short], "at least 12 characters"),
        (&["add", "anna", "--role", "viewer", "--password-file", &lines], "one line"),
        (&["change", "anna"], "--role"),
        (&["change", "anna", "--password", "--password-file", &good], "cannot be used with"),
    ] {
        expect(&run(arguments), 64, words);
    }
    expect(&run(&["add", "anna", "--role", "viewer", "--password-file", "/none"]), 1, "/none cannot be read");
    for arguments in [&["change", "anna", "--role", "admin"][..], &["remove", "anna"]] {
        expect(&run(arguments), 1, "no operator has the name anna");
    }
    expect(&run(&["list"]), 0, "there are no operators");
    let added = run(&["add", "anna", "--role", "viewer", "--password-file", &good]);
    expect(&added, 0, "operator anna was added, with the role viewer");
    expect(&added, 0, "from now on");
    expect(&run(&["add", "anna", "--role", "admin", "--password-file", &good]), 1, "there is an operator anna already");
    let before = fixture.store.operator("anna").await.expect("the store is there").expect("it is there");
    assert!(before.password_hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", before.password_hash);
    expect(&run(&["change", "anna", "--role", "admin"]), 0, "operator anna has the role admin, before viewer");
    let changed = fixture.store.operator("anna").await.expect("the store is there").expect("it is there");
    assert_eq!((changed.role, &changed.password_hash), (Role::Admin, &before.password_hash));
    expect(&run(&["change", "anna", "--password-file", &other]), 0, "with another password");
    let changed = fixture.store.operator("anna").await.expect("the store is there").expect("it is there");
    assert!(changed.role == Role::Admin && changed.password_hash != before.password_hash);
    let listed: Value = serde_json::from_slice(&run(&["list", "--json"]).stdout).expect("JSON");
    assert_eq!((&listed["operators"][0]["name"], &listed["operators"][0]["role"]), (&json!("anna"), &json!("admin")));
    assert!(!listed.to_string().contains("argon2"), "{listed}");
    expect(&run(&["add", "bert", "--role", "viewer", "--password-file", &good]), 0, "operator bert was added");
    expect(&run(&["change", "anna", "--role", "support"]), 0, "no admin is left");
    expect(&run(&["change", "anna", "--role", "admin"]), 0, "operator anna has the role admin");
    let removed = run(&["remove", "anna"]);
    expect(&removed, 0, "operator anna was removed, with the role admin");
    expect(&removed, 0, "no admin is left");
    let refused = run(&["remove", "bert"]);
    expect(&refused, 1, "bert is the last operator");
    expect(&refused, 1, "/v1 is open again");
    expect(&run(&["list"]), 0, "bert");
    let removed = run(&["remove", "bert", "--force"]);
    expect(&removed, 0, "operator bert was removed, with the role viewer");
    expect(&removed, 0, "no operator is left, and no bridge was started with a token");
    // With a token nothing opens, and nothing is said about it.
    expect(&run(&["add", "bert", "--role", "viewer", "--password-file", &good]), 0, "operator bert was added");
    fixture.store.note_tokens([("default", Role::Admin, "secret")]).await.expect("the store is there");
    let removed = run(&["remove", "bert", "--force"]);
    expect(&removed, 0, "operator bert was removed, with the role viewer");
    assert!(!running::said(&removed).contains("open"), "{}", running::said(&removed));
    let page = fixture.store.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there");
    let removals = page.records.iter().filter(|row| row.action == "operator.remove" && row.outcome == "done");
    let reasons: Vec<_> = removals.map(|row| row.reason.as_deref()).collect();
    assert_eq!(reasons, [None, Some("forced"), None], "newest first");
}

/// Where there is no terminal a password comes on standard input, and one that others may read is no secret.
#[tokio::test]
async fn a_password_comes_on_standard_input_and_an_exposed_file_is_told_of() {
    let (fixture, folder) = (StoreFixture::on_sqlite().await, tempfile::tempdir().expect("a folder"));
    let environment: Environment = vec![("STORE__URL", fixture.url.clone())];
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    let mode = |mode: u32| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    let path = file.display().to_string();
    for (arguments, status, words) in [
        (["add", "anna", "--role", "viewer", "--password-file", "-"], 0, "operator anna was added"),
        (["add", "bert", "--role", "viewer", "--password-file", "-"], 64, "at least 12 characters"),
    ] {
        let arguments = [&["operator"][..], &arguments].concat();
        let stdin = if status == 0 { std::fs::File::open(&file).expect("it is there").into() } else { Stdio::null() };
        let output = running::command(&arguments, &environment).stdin(stdin).output().expect("it runs");
        expect(&output, status, words);
    }
    let anna = fixture.store.operator("anna").await.expect("the store is there").expect("it is there");
    assert!(podero_bridge::password::is_right(PASSWORD, Some(&anna.password_hash)));
    for (bits, is_exposed) in [(0o600, false), (0o640, false), (0o604, true), (0o602, true)] {
        mode(bits);
        let output = running::run(&["operator", "change", "anna", "--password-file", &path], &environment);
        expect(&output, 0, "with another password");
        let said = running::said(&output);
        assert_eq!(said.contains("every user of the machine may read or change it"), is_exposed, "{bits:o}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

/// A bridge without a token, on a store that commands reach; a folder for passwords.
async fn start(settings: Settings) -> (World, Environment, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let world = World::start_on(tempfile::tempdir().expect("a folder"), url.clone(), settings).await;
    (world, vec![("STORE__URL", url)], folder)
}

async fn status(world: &World, path: &str, credentials: Option<(&str, &str)>) -> u16 {
    let mut request = world.http.get(world.operator(path));
    if let Some((name, password)) = credentials {
        request = request.basic_auth(name, Some(password));
    }
    request.send().await.expect("an answer").status().as_u16()
}

/// The first operator closes the admin API, the last one who is removed opens it again, and each change counts at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_known_by_name_and_password_from_one_request_to_the_next() {
    let (world, environment, folder) = start(Settings::default()).await;
    let run = |arguments: &[&str]| running::run(&[&["operator"], arguments].concat(), &environment);
    assert_eq!(status(&world, "/v1/parked", None).await, 200, "neither a token nor an operator");
    add_operator(folder.path(), &environment, "anna", Role::Viewer, PASSWORD);
    for (credentials, expected) in [
        (None, 401),
        (Some(("anna", PASSWORD)), 200),
        (Some(("anna", "correct horse batter")), 401),
        (Some(("bert", PASSWORD)), 401),
        (Some(("", PASSWORD)), 401),
    ] {
        assert_eq!(status(&world, "/v1/parked", credentials).await, expected, "{credentials:?}");
    }
    let skip = async || {
        let url = world.operator("/v1/parked/none/skip");
        world.http.post(url).basic_auth("anna", Some(PASSWORD)).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(skip().await, 403);
    expect(&run(&["change", "anna", "--role", "admin"]), 0, "admin");
    assert_eq!(skip().await, 404);
    // A browser that knows the password must not lend it to the page of another site.
    for (name, value, expected) in [
        ("origin", "https://elsewhere.example", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 200),
    ] {
        let request = world.http.get(world.operator("/v1/parked")).basic_auth("anna", Some(PASSWORD));
        let answer = request.header(name, value).send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{name}: {value}");
    }
    expect(&run(&["remove", "anna"]), 1, "is the last operator");
    assert_eq!(status(&world, "/v1/parked", None).await, 401);
    expect(&run(&["remove", "anna", "--force"]), 0, "no operator is left");
    assert_eq!(status(&world, "/v1/parked", None).await, 200, "as before");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_ids_and_states_and_no_personal_data() {
    let (world, environment, folder) = start(Settings::default()).await;
    let done = world.apply(&sign_up("e1", "C-1", TIME)).await;
    let update = event("e2", "customer.updated", TIME, &json!({"customer_id": "C-1", "first_name": "Berta"}));
    world.apply(&update).await;
    for role in Role::ALL {
        add_operator(folder.path(), &environment, role.name(), role, PASSWORD);
    }
    for role in Role::ALL {
        let get = async |path: &str| {
            let request = world.http.get(world.operator(path)).basic_auth(role.name(), Some(PASSWORD));
            request.send().await.expect("an answer").json::<Value>().await.expect("JSON")
        };
        let event = get(&format!("/v1/events/{}", done["id"].as_str().expect("an id"))).await;
        let customer = get("/v1/customers/C-1").await;
        let is_shown = role > Role::Viewer;
        for (answer, names) in [(&event, &["raw", "raw_encoding", "envelope"][..]), (&customer, &["state"])] {
            for name in names {
                assert_eq!(answer.get(name).is_some(), is_shown, "{role}: {name}");
            }
        }
        assert_eq!(customer["notices"][0].get("data").is_some(), is_shown, "{role}");
        assert_eq!((&event["state"], &event["customer_id"]), (&json!("applied"), &json!("C-1")));
        assert!(!customer["events"].as_array().expect("events").is_empty());
        let text = format!("{event}{customer}{}", get("/v1/events?customer_id=C-1").await);
        for personal in ["Anna", "Berta", "example.com", "Hauptstrasse", "01067", "Dresden"] {
            assert!(is_shown || !text.contains(personal), "{role} sees {personal}: {text}");
        }
        assert_eq!(text.contains("Anna"), is_shown, "{role}");
    }
    world.bridge.stop().await;
}

/// Beyond the limit neither that name nor that address is looked at, the right password included; tokens go on.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_wrong_passwords_are_not_looked_at() {
    let token = "a-token-that-is-long-enough";
    let settings = Settings { environment: vec![("ADMIN__TOKEN", token.to_owned())], ..Settings::default() };
    let (world, environment, folder) = start(settings).await;
    add_operator(folder.path(), &environment, "anna", Role::Admin, PASSWORD);
    // Many at the same time are no guesses: none is locked out, and one for which there is no room comes again in a moment.
    let ask = async || {
        let request = world.http.get(world.operator("/v1/parked")).basic_auth("anna", Some(PASSWORD));
        request.send().await.expect("an answer")
    };
    for answer in futures_util::future::join_all((0..14).map(|_| ask())).await {
        let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        match answer.status().as_u16() {
            200 => assert_eq!(wait, None),
            status => assert_eq!((status, wait), (503, Some("5"))),
        }
    }
    assert_eq!(ask().await.status(), 200);
    assert_eq!(world.audited("access.use").await, Vec::<String>::new());
    let guesses: Vec<u16> = futures_util::future::join_all(
        (0..14).map(|_| status(&world, "/v1/parked", Some(("anna", "a wrong password")))),
    )
    .await;
    let count = |wanted: u16| guesses.iter().filter(|status| **status == wanted).count();
    // The last ones may find the others still under way.
    assert_eq!((count(401), count(429) + count(503)), (10, 4), "{guesses:?}");
    let answer = ask().await;
    assert_eq!(answer.status(), 429, "the right one");
    let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| (1..=301).contains(&seconds)), "{wait:?}");
    assert_eq!(answer.json::<Value>().await.expect("JSON")["type"], "urn:podero-bridge:problem:too-many-attempts");
    let request = world.http.get(world.operator("/v1/parked")).bearer_auth(token);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    world.bridge.stop().await;
}
