//! Answers that Podero may give, seen from outside of a bridge that is a process: how much memory they take, how much is
//! kept and shown of them, the words of `check` about them, and that no proxy hears of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::running::{Environment, Running, on_file, run, said};
use crate::servers;
use crate::world::{event, sign_up, until};

const ORG: &str = "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b";
const TIME: &str = "2026-10-01T12:00:00Z";

/// Limit of memory: far above what a bridge takes that keeps its bounds, and far below what it took without them.
const MEMORY_MAX: u64 = 256 << 20;

/// Status and body.
type Said = (u16, Vec<u8>);

/// A request: method and path.
type Answering = dyn Fn(&str, &str) -> Said + Send + Sync;

/// A Podero with these answers, over real HTTP; its address. It gives tokens by itself.
fn podero(answering: impl Fn(&str, &str) -> Said + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let answering: Arc<Answering> = Arc::new(answering);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answering = answering.clone();
            std::thread::spawn(move || serve(stream, &*answering));
        }
    });
    format!("http://{address}")
}

/// Answers until the other side has gone.
fn serve(stream: TcpStream, answering: &Answering) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut writer = stream;
    while let Some((first, length)) = head(&mut reader) {
        if reader.by_ref().take(length).read_to_end(&mut Vec::new()).is_err() {
            return;
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match path {
            "/oauth2/token/" => (200, br#"{"access_token": "token", "expires_in": 36000}"#.to_vec()),
            path => answering(method, path),
        };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
            return;
        }
    }
}

/// The first line of a request, and the length of its body.
fn head(reader: &mut impl BufRead) -> Option<(String, u64)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first, length));
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().ok()?;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        }
    }
}

/// The settings of a bridge with this Podero.
fn settings(folder: &Path, podero: &str) -> Environment {
    let mut environment = on_file(folder);
    environment.extend([
        ("PODERO__BASE_URL", podero.to_owned()),
        ("PODERO__ORG_ID", ORG.to_owned()),
        ("PODERO__CLIENT_ID", "bridge".to_owned()),
        ("PODERO__CLIENT_SECRET", "secret".to_owned()),
        ("PODERO__REQUESTS_PER_SECOND", "1000".to_owned()),
        ("SOURCE__DEFAULT__VERIFY", "none".to_owned()),
        ("WATCH__INTERVAL", "1s".to_owned()),
    ]);
    environment
}

fn users() -> String {
    format!("/api/partners/v2.0/org/{ORG}/users")
}

/// Answers of a Podero without users to the calls of a sign-up.
fn sign_up_answer(method: &str, path: &str) -> Said {
    let id = Uuid::from_u128(0xB);
    match method {
        "POST" => (201, json!({"id": id, "role": "user"}).to_string().into_bytes()),
        _ if path.contains("/by-ext-id/") => (404, b"{}".to_vec()),
        _ => (200, b"[]".to_vec()),
    }
}

async fn get(url: String) -> String {
    reqwest::get(url).await.expect("an answer").text().await.expect("text")
}

/// Sends an event that is taken, and waits until it has this state.
async fn becomes(bridge: &Running, event: &Value, state: &str) -> Value {
    let http = reqwest::Client::new();
    let request = http.post(format!("{}/v1/events/default", bridge.door));
    let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let id = answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    until(&format!("the event is {state}"), async || {
        let event: Value = serde_json::from_str(&get(format!("{}/v1/events/{id}", bridge.operator)).await).ok()?;
        (event["state"] == state).then_some(event)
    })
    .await
}

async fn metric(bridge: &Running, series: &str) -> f64 {
    let all = get(format!("{}/metrics", bridge.operator)).await;
    let line = all.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_users_costs_its_own_bytes_and_no_multiple_of_them() {
    // Sixty MiB, and at the next interval ten.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let url = podero(move |method, path| {
        if (method, path) != ("GET", users().as_str()) {
            return sign_up_answer(method, path);
        }
        let size = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 60 << 20 } else { 10 << 20 };
        (200, format!("[{}0]", "0,".repeat(size / 2 - 2)).into_bytes())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = Running::start(folder.path(), &[], &settings(folder.path(), &url));
    until("both lists were asked for, and read", async || {
        let told =
            metric(&bridge, r#"podero_bridge_contract_drift_total{kind="unexpected_shape",operation="list_users"}"#);
        let peak = bridge.memory_peak();
        assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
        (told.await >= 2.0 && asked.load(Ordering::SeqCst) >= 2).then_some(())
    })
    .await;
    becomes(&bridge, &sign_up("e1", "C-1", TIME), "applied").await;
    let peak = bridge.memory_peak();
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
    assert_eq!(bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_lists_of_many_polls_share_one_memory() {
    const USERS: u128 = 64;
    let polled = Arc::new(AtomicUsize::new(0));
    let counted = polled.clone();
    let zeros = format!("[{}0]", "0,".repeat((2 << 20) - 2)).into_bytes();
    let pump = json!([{"id": Uuid::from_u128(7), "is_authenticated": true, "x": "x".repeat((4 << 20) - 200)}]);
    let pump = pump.to_string().into_bytes();
    let url = podero(move |method, path| {
        if (method, path) == ("GET", users().as_str()) {
            let user = |n| json!({"id": Uuid::from_u128(n), "role": "user", "num_heat_pumps": 1});
            return (200, json!((1..=USERS).map(user).collect::<Vec<_>>()).to_string().into_bytes());
        }
        if method == "GET" && path.ends_with("/heat-pumps") {
            let is_even = counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            return (200, if is_even { zeros.clone() } else { pump.clone() });
        }
        sign_up_answer(method, path)
    });
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = Running::start(folder.path(), &[], &settings(folder.path(), &url));
    until("every user was polled, and some lists were read", async || {
        let good = metric(&bridge, r#"podero_bridge_podero_requests_total{operation="list_heat_pumps",status="200"}"#);
        (polled.load(Ordering::SeqCst) >= 2 * 64 && good.await >= 10.0).then_some(())
    })
    .await;
    becomes(&bridge, &sign_up("e1", "C-1", TIME), "applied").await;
    let drift = r#"podero_bridge_contract_drift_total{kind="unexpected_shape",operation="list_heat_pumps"}"#;
    let peak = bridge.memory_peak();
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
    assert!(metric(&bridge, drift).await > 0.0);
    assert_eq!(bridge.terminate(), Some(0));
}

/// A refusal that names people, in texts and in names of fields.
fn telling() -> Vec<u8> {
    let person = "Mark Wordsworth, 1 Wordsworth Street, +49 555 0100";
    json!({
        "detail": format!("User {person} is locked"), person: person, "code": person,
        "errors": [{"loc": ["body", person], "msg": person, "type": person, "input": {person: 1}}],
        "email": [format!("{person} has it")],
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_podero_is_kept_or_shown_of_a_refusal() {
    let living = |path: &str| {
        json!({"id": Uuid::from_u128(0xB), "role": "user", "external_user_id": path.rsplit('/').next()})
            .to_string()
            .into_bytes()
    };
    let url = podero(move |method, path| match method {
        "GET" if path.contains("/by-ext-id/C-1") => (400, telling()),
        "GET" if path.contains("/by-ext-id/C-2") => (404, telling()),
        "GET" if path.contains("/by-ext-id/") => (200, living(path)),
        "POST" if path.ends_with("/buildings") => (201, living(path)),
        "POST" => (422, telling()),
        "DELETE" => (409, telling()),
        _ => (200, b"[]".to_vec()),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = settings(folder.path(), &url);
    environment.push(("LOG__LEVEL", "trace".to_owned()));
    let bridge = Running::start(folder.path(), &[], &environment);
    becomes(&bridge, &sign_up("e0", "C-3", TIME), "applied").await;
    let mut shown = Vec::new();
    for (id, body, expected) in [
        ("e1", sign_up("e1", "C-1", TIME), "find_user answered 400: email; an unknown field; an unknown code"),
        ("e2", sign_up("e2", "C-2", TIME), "create_user answered 422: email; an unknown field; an unknown code"),
        (
            "e3",
            event("e3", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-3"})),
            "delete_user answered 409: email; an unknown field; an unknown code",
        ),
    ] {
        let event = becomes(&bridge, &body, "parked").await;
        assert_eq!(event["detail"], expected, "{id}");
        shown.push(event.to_string());
    }
    for path in ["/v1/parked", "/v1/customers/C-1", "/v1/customers/C-2", "/v1/customers/C-3", "/metrics", "/readyz"] {
        shown.push(get(format!("{}{path}", bridge.operator)).await);
    }
    let listed = run(&["parked", "list"], &environment);
    shown.push(said(&listed));
    shown.push(bridge.log());
    assert_eq!(bridge.terminate(), Some(0));
    for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
        let bytes = std::fs::read(file.path()).expect("a file");
        shown.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for text in &shown {
        for mark in ["Wordsworth", "555 0100"] {
            assert!(!text.contains(mark), "{mark}: {}", &text[text.find(mark).unwrap_or(0).saturating_sub(99)..]);
        }
    }
}

#[test]
fn check_makes_the_calls_of_the_probe_and_says_how_each_was_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    for (status, is_well, expected) in [
        (404, true, "ok      podero: token 200, organisation 200, find_user 404"),
        (
            500,
            false,
            "failed  podero: Podero was reached and fails (status 500): the trouble is at Podero, not on the way to it (token 200, organisation 200, find_user failed)",
        ),
        (
            418,
            false,
            "failed  podero: Podero answers with an unexpected status (418) (token 200, organisation 200, find_user failed)",
        ),
    ] {
        let url =
            podero(move |_, path| if path.contains("/by-ext-id/") { (status, vec![]) } else { (200, b"[]".to_vec()) });
        let output = run(&["check"], &settings(folder.path(), &url));
        assert_eq!(output.status.success(), is_well, "{}", said(&output));
        assert!(said(&output).lines().any(|line| line == expected), "{}", said(&output));
    }
}

/// The names under which programs look for a proxy.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// A proxy that answers each request as Podero would; its address, and how many it had.
fn proxy() -> (String, Arc<AtomicUsize>) {
    let had = Arc::new(AtomicUsize::new(0));
    let counted = had.clone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://user:pass-word@{}", listener.local_addr().expect("it has one"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let answering = |_: &str, path: &str| {
                assert!(path.starts_with("http://"), "a proxy is told the whole address: {path}");
                let token = br#"{"access_token": "token", "expires_in": 36000}"#;
                if path.ends_with("/oauth2/token/") { (200, token.to_vec()) } else { sign_up_answer("GET", path) }
            };
            std::thread::spawn(move || serve(stream, &answering));
        }
    });
    (url, had)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_of_the_environment_is_used_and_a_configured_one_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (elsewhere, had) = proxy();
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let url = podero(move |method, path| {
        if path == "/receiver" {
            counted.fetch_add(1, Ordering::SeqCst);
            return (204, Vec::new());
        }
        sign_up_answer(method, path)
    });
    let mut environment = settings(folder.path(), &url);
    environment.extend(PROXY_VARIABLES.map(|name| (name, elsewhere.clone())));
    environment.extend([
        ("OUTBOUND__WEBHOOK_URL", format!("{url}/receiver")),
        ("OUTBOUND__WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()),
    ]);
    let bridge = Running::start(folder.path(), &[], &environment);
    becomes(&bridge, &sign_up("e1", "C-1", TIME), "applied").await;
    until("the receiver was told", async || (told.load(Ordering::SeqCst) > 0).then_some(())).await;
    assert_eq!(bridge.terminate(), Some(0));
    let output = run(&["check"], &environment);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(had.load(Ordering::SeqCst), 0, "nothing of the bridge's goes to a proxy that it was not told");

    let (chosen, had) = proxy();
    environment.push(("PODERO__PROXY", chosen.clone()));
    let output = run(&["check"], &environment);
    assert!(output.status.success(), "{}", said(&output));
    assert!(had.load(Ordering::SeqCst) > 0, "what is configured is used");
    environment.push(("OUTBOUND__PROXY", format!("{chosen}/path")));
    let output = run(&["check", "--offline"], &environment);
    assert!(!output.status.success() && said(&output).contains("outbound.proxy"), "{}", said(&output));
    assert!(!said(&output).contains("pass-word"), "{}", said(&output));
}

/// Statements that take a store back to a version that kept what Podero said.
const BACK: [&str; 3] = [
    "UPDATE events SET state = 'parked', reason = 'refused', detail = 'find_user answered 400: Mark Wordsworth' \
     WHERE origin_id = 'e1'",
    "UPDATE events SET state = 'parked', reason = 'email_taken', detail = 'Mark Wordsworth has it' \
     WHERE origin_id = 'e2'",
    "DELETE FROM _sqlx_migrations WHERE version = 15",
];

async fn what_former_versions_kept_goes_with_the_upgrade(folder: &Path, store: String) {
    let url = podero(sign_up_answer);
    let mut environment = settings(folder, &url);
    environment.push(("STORE__URL", store.clone()));
    let bridge = Running::start(folder, &[], &environment);
    let ids = [
        becomes(&bridge, &sign_up("e1", "C-1", TIME), "applied").await["id"].clone(),
        becomes(&bridge, &sign_up("e2", "C-2", TIME), "applied").await["id"].clone(),
    ];
    assert_eq!(bridge.terminate(), Some(0));
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&store).await.expect("the database is there");
    for statement in BACK {
        sqlx::query(statement).execute(&mut connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.expect("closed");

    let bridge = Running::start(folder, &[], &environment);
    for (id, expected) in ids
        .iter()
        .zip(["Podero refused it; what it said is not kept", "Podero has another user with this e-mail address"])
    {
        let id = id.as_str().expect("an id");
        let event: Value =
            serde_json::from_str(&get(format!("{}/v1/events/{id}", bridge.operator)).await).expect("JSON");
        assert_eq!(event["detail"], expected, "{event}");
    }
    assert!(!get(format!("{}/v1/parked", bridge.operator)).await.contains("Wordsworth"));
    assert_eq!(bridge.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_former_versions_kept_goes_with_the_upgrade_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::kit::sqlite_url(folder.path());
    what_former_versions_kept_goes_with_the_upgrade(folder.path(), store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_former_versions_kept_goes_with_the_upgrade_on_postgresql() {
    let folder = tempfile::tempdir().expect("a folder");
    what_former_versions_kept_goes_with_the_upgrade(folder.path(), servers::fresh_database()).await;
}
