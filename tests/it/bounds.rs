//! Every bound of the listeners, over raw TCP as a careless or hostile client meets it; the backlog; a million pending events in
//! bounded memory.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::app::Limits;
use podero_bridge::clock::Clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bus::Bus;
use crate::running::{self, Running};
use crate::servers;
use crate::world::{Database, Extra, Settings, World, sign_up, until, until_within};

const TIME: &str = "2026-10-01T12:00:00Z";
/// Limit of the wait for an answer that a correct bridge gives in milliseconds, or in a second where it times out.
const PATIENCE: Duration = Duration::from_secs(30);

const SIGNING_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn settings() -> Settings {
    Settings {
        toml: "[watch]\nenabled = false\n".into(),
        environment: vec![("HTTP__BODY_MAX", "4KiB".into()), ("HTTP__BATCH_MAX", "3".into())],
    }
}

async fn world(limits: Limits) -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = crate::kit::sqlite_url(folder.path());
    World::start_with(folder, url, settings(), Extra { limits, ..Extra::default() }).await
}

/// Sends bytes and reads until the bridge closes the connection, or has answered and is silent.
async fn raw(door: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(door).await.expect("the door is open");
    // A bridge that has refused may close before all is written.
    let _ = stream.write_all(bytes).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.expect("it answers or closes") {
            // A connection that is reset after the answer is closed as well.
            Ok(0) | Err(_) => return String::from_utf8_lossy(&answer).into_owned(),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
        }
    }
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

async fn still_serves(world: &World, id: &str) {
    let (status, answer) = world.send(&sign_up(id, &format!("C-{id}"), TIME)).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_its_bound_is_refused_however_its_length_is_told() {
    let world = world(Limits::default()).await;
    let door = world.bridge.http;
    let large = "x".repeat(5_000);
    let told = raw(door, &post("content-length: 5000\r\nconnection: close\r\n", &large)).await;
    assert_eq!(status(&told), 413, "{told}");
    // Refused by what it says, before a byte of it has come.
    let announced = raw(door, &post("content-length: 999999999999\r\nconnection: close\r\n", "")).await;
    assert_eq!(status(&announced), 413, "{announced}");
    let chunk = format!("1388\r\n{large}\r\n0\r\n\r\n");
    let chunked = raw(door, &post("transfer-encoding: chunked\r\nconnection: close\r\n", &chunk)).await;
    assert_eq!(status(&chunked), 413, "{chunked}");
    assert!(chunked.contains("urn:podero-bridge:problem:too-large"), "{chunked}");
    // The length says less than was sent: the rest is no request.
    let good = sign_up("e0", "C-0", TIME).to_string();
    let lying =
        raw(door, &post(&format!("content-length: {}\r\n", good.len()), &format!("{good}{large}\r\n\r\n"))).await;
    let statuses: Vec<u16> = lying.split("HTTP/1.1").skip(1).map(|part| status(&format!("HTTP/1.1{part}"))).collect();
    assert_eq!(statuses, [202, 400], "{lying}");
    // Both lengths: the classic of request smuggling.
    let both = raw(door, &post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")).await;
    assert_eq!(status(&both), 400, "{both}");
    let negative = raw(door, &post("content-length: -1\r\n", "")).await;
    assert_eq!(status(&negative), 400, "{negative}");
    still_serves(&world, "after").await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_headers_without_end_are_refused_and_cut_off() {
    let world = world(Limits::default()).await;
    let door = world.bridge.http;
    let header = format!("x-filler: {}\r\n", "h".repeat(200_000));
    let large = raw(door, &post(&header, "")).await;
    assert!((400..500).contains(&status(&large)), "{large}");
    let many: String = (0..2_000).map(|number| format!("x-{number}: v\r\n")).collect();
    let many = raw(door, &post(&many, "")).await;
    assert!((400..500).contains(&status(&many)), "{many}");
    let pipelined = [post("content-length: 2\r\n", "{}"), b"\x00\xff\x16\x03\x01 garbage\r\n\r\n".to_vec()].concat();
    let pipelined = raw(door, &pipelined).await;
    let statuses: Vec<u16> =
        pipelined.split("HTTP/1.1").skip(1).map(|part| status(&format!("HTTP/1.1{part}"))).collect();
    assert_eq!(statuses, [422, 400], "{pipelined}");
    let tls = raw(door, &[&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc][..], &[7; 400]].concat()).await;
    assert_eq!(status(&tls), 400, "a TLS hello: {tls}");
    still_serves(&world, "after").await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_cut_off() {
    let limits = Limits {
        headers_time_max: Duration::from_millis(700),
        body_time_max: Duration::from_millis(700),
        keep_alive: Duration::from_millis(1_400),
        ..Limits::default()
    };
    let world = world(limits).await;
    let door = world.bridge.http;
    let clock = Clock::system();
    let began = clock.now();
    let headers = raw(door, b"POST /v1/events HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert_eq!(status(&headers), 408, "{headers}");
    let body = raw(door, &post("content-length: 100\r\n", "{\"half\":")).await;
    assert_eq!(status(&body), 408, "{body}");
    assert!(body.contains("urn:podero-bridge:problem:timeout"), "{body}");
    // Nor does a good request before the slow one.
    let second = [post("content-length: 2\r\n", "{}"), b"POST /v1/events HTTP/1.1\r\nhost: x\r\nx-slow: ".to_vec()];
    let second = raw(door, &second.concat()).await;
    assert_eq!(status(&second), 422, "and then it was cut off: {second}");
    // The admin API is no more patient.
    let look = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    let second = [look.clone(), b"\r\n".to_vec(), look].concat();
    let second = raw(world.bridge.admin, &second).await;
    assert_eq!(status(&second), 200, "and then it was cut off: {second}");
    // One byte now and then does not buy more time.
    let mut dripping = TcpStream::connect(door).await.expect("the door is open");
    let dripped = until("the dripping client is cut off", async || {
        let mut answer = [0; 1_024];
        if dripping.write_all(b"P").await.is_err() {
            return Some(String::new());
        }
        match tokio::time::timeout(Duration::from_millis(50), dripping.read(&mut answer)).await {
            Ok(Ok(count)) => Some(String::from_utf8_lossy(&answer[..count]).into_owned()),
            Ok(Err(_)) => Some(String::new()),
            Err(_) => None,
        }
    })
    .await;
    assert!(dripped.is_empty() || (400..500).contains(&status(&dripped)), "{dripped}");
    assert!(clock.now().since(began) < PATIENCE, "by the bound that was set, not the default");
    still_serves(&world, "after").await;
    world.bridge.stop().await;
}

/// A body is not waited for if the headers show that its sender is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_an_unknown_sender_is_not_waited_for() {
    let mut settings = settings();
    for (name, verify, secret) in
        [("token", "bearer", "a-token-that-is-long-enough"), ("signed", "standard-webhooks", SIGNING_KEY)]
    {
        let source = format!("[[source]]\nname = \"{name}\"\nverify = \"{verify}\"\nsecrets = [\"{secret}\"]\n");
        settings.toml.push_str(&source);
    }
    let world = World::start(Database::Sqlite, settings).await;
    for source in ["token", "signed"] {
        let request = format!(
            "POST /v1/events/{source} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer guessed\r\ncontent-length: 4000\r\n\
             connection: close\r\n\r\n"
        );
        let began = Clock::system().now();
        let answer = raw(world.bridge.http, request.as_bytes()).await;
        assert_eq!(status(&answer), 401, "{answer}");
        let took = Clock::system().now().since(began);
        assert!(took < PATIENCE / 2, "{took:?}: not after the time for a body");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_so_much_room_and_whoever_finds_none_is_told_to_come_again() {
    let world = world(Limits { bodies_bytes_max: 8 << 10, ..Limits::default() }).await;
    let door = world.bridge.http;
    // Announced events take no room; due ones do.
    let mut announcing = TcpStream::connect(door).await.expect("the door is open");
    announcing.write_all(&post("content-length: 4000\r\n", "")).await.expect("written");
    still_serves(&world, "meanwhile").await;
    let body = sign_up("e1", "C-1", TIME).to_string();
    let request = post(&format!("content-length: {}\r\nconnection: close\r\n", body.len()), &body);
    // Two of them take all the room; but one that comes in while a whole request has half of it is the one refused,
    // so each look brings another.
    let mut slow = Vec::new();
    let refused = until("there is no room left", async || {
        for _ in 0..2 {
            let mut stream = TcpStream::connect(door).await.ok()?;
            stream.write_all(&post("content-length: 4000\r\n", &"x".repeat(2_000))).await.ok()?;
            slow.push(stream);
        }
        let answer = raw(door, &request).await;
        (status(&answer) == 503).then_some(answer)
    })
    .await;
    assert!(
        refused.contains("retry-after: ") && refused.contains("urn:podero-bridge:problem:unavailable"),
        "{refused}"
    );
    drop(slow);
    until("it is given back", async || (status(&raw(door, &request).await) == 202).then_some(())).await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_are_served_at_once_wait_and_are_all_served() {
    let limits = Limits {
        headers_time_max: Duration::from_millis(700),
        connections_max: 8,
        // All of them are of one address.
        connections_per_peer_max: Some(usize::MAX),
        ..Limits::default()
    };
    let world = world(limits).await;
    let door = world.bridge.http;
    // Silent ones take every place, until they are cut off.
    let silent = join_all((0..16).map(|_| TcpStream::connect(door))).await;
    let answers = join_all((0..200).map(|number| {
        let body = sign_up(&format!("e{number}"), &format!("C-{number}"), TIME).to_string();
        let headers = format!("content-length: {}\r\nconnection: close\r\n", body.len());
        async move { raw(door, &post(&headers, &body)).await }
    }))
    .await;
    for answer in &answers {
        assert_eq!(status(answer), 202, "{answer}");
    }
    drop(silent);
    world.bridge.stop().await;
}

/// Settings of a process whose Podero is away: nothing listens on the discard port.
fn away(folder: &std::path::Path) -> running::Environment {
    let mut environment = running::on_file(folder);
    environment.extend([
        ("PODERO__BASE_URL", "http://127.0.0.1:9".to_owned()),
        ("PODERO__ORG_ID", "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b".to_owned()),
        ("PODERO__CLIENT_ID", "bridge".to_owned()),
        ("PODERO__CLIENT_SECRET", "a-secret".to_owned()),
        ("SOURCE__DEFAULT__VERIFY", "none".to_owned()),
    ]);
    environment
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_file_descriptors_connections_wait_and_the_process_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = away(folder.path());
    let bridge = Running::start_limited(folder.path(), "ulimit -n 128", &environment);
    let door: SocketAddr = bridge.door.trim_start_matches("http://").parse().expect("an address");
    let silent = join_all((0..300).map(|_| TcpStream::connect(door))).await;
    let (silent, failed): (Vec<_>, Vec<_>) = silent.into_iter().partition(Result::is_ok);
    assert!(silent.len() > 128, "the kernel takes more than the process may hold: {failed:?}\n{}", bridge.log());
    drop(silent);
    let body = sign_up("e1", "C-1", TIME).to_string();
    let request = post(&format!("content-length: {}\r\nconnection: close\r\n", body.len()), &body);
    until("it takes events again", async || {
        let mut stream = TcpStream::connect(door).await.ok()?;
        stream.write_all(&request).await.ok()?;
        // A connection that the kernel took among the silent ones may end without an answer.
        read(&mut stream).await.starts_with("HTTP/1.1 202 ").then_some(())
    })
    .await;
    assert!(!bridge.log().contains("Too many open files"), "the door leaves some for the rest of the house");
    assert_eq!(bridge.terminate(), Some(0));
}

/// A log that has no room to grow is moved and the webhook endpoint takes events again. The log is moved into the file at 64 MiB.
/// A disk without room for that has it moved when no room is left, and it begins again; no operator has to make room.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_longer_log_it_is_moved() {
    const LIMIT_BYTES: u64 = 8 << 20;
    const EVENTS: usize = 700;
    let folder = tempfile::tempdir().expect("a folder");
    let environment = away(folder.path());
    // No file may grow beyond it (`EFBIG`, and SIGXFSZ).
    let limits = format!("ulimit -f {}", LIMIT_BYTES / 512);
    let bridge = Running::start_limited(folder.path(), &limits, &environment);
    let http = reqwest::Client::new();
    let structured = "application/cloudevents+json";
    let mut refused = 0;
    for number in 0..EVENTS {
        let body = sign_up(&format!("e{number}"), &format!("C-{number}"), TIME).to_string();
        until("it is taken", async || {
            let request = http.post(format!("{}/v1/events", bridge.door)).header("content-type", structured);
            let answer = request.body(body.clone()).send().await.expect("an answer");
            refused += usize::from(answer.status() == 503);
            answer.status().is_success().then_some(())
        })
        .await;
    }
    let log = std::fs::metadata(folder.path().join("bridge.db-wal")).expect("a log").len();
    assert!(log > LIMIT_BYTES / 2 && log <= LIMIT_BYTES, "{log} bytes");
    assert!((1..EVENTS / 4).contains(&refused), "there was no room for it {refused} times");
    assert_eq!(bridge.terminate(), Some(0));
}

/// A full backlog is reported to webhooks and left in the queue until there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_refuses_webhooks_and_leaves_the_queue() {
    let vhost = servers::fresh_vhost();
    let settings = Settings {
        toml: "[watch]\nenabled = false\n".into(),
        environment: vec![("AMQP__URL", vhost.clone()), ("STORE__BACKLOG_MAX", "3".into())],
    };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    // Podero is away for all.
    world.fault(&json!({"operation": "*", "kind": "status", "status": 503, "probability": 1.0})).await;
    for number in 0..3 {
        still_serves(&world, &format!("e{number}")).await;
    }
    let request = world.http.post(world.door("/v1/events")).header("content-type", "application/cloudevents+json");
    let answer = request.body(sign_up("e4", "C-4", TIME).to_string()).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    let text = answer.text().await.expect("text");
    assert!(text.contains("urn:podero-bridge:problem:unavailable") && text.contains("backlog"), "{text}");
    let bus = Bus::connect(&vhost).await;
    bus.publish_event(&sign_up("q1", "C-Q", TIME)).await;
    until("it is shown", async || (world.metric("podero_bridge_backlog_full").await == Some(1.0)).then_some(())).await;
    let (_, ready) = world.get_text(&world.operator("/readyz")).await;
    assert!(ready.contains("[+] backlog: full, 3 events wait"), "{ready}");
    assert_eq!(world.get_text(&world.operator("/v1/customers/C-Q")).await.0, 404, "the queue keeps its message");
    world.no_faults().await;
    until("the door is open again", async || (world.send(&sign_up("e4", "C-4", TIME)).await.0 == 202).then_some(()))
        .await;
    until("everybody is a customer, also whose message waited in the queue", async || {
        let users = world.sandbox_state().await["users"].as_array().map(Vec::len);
        (users == Some(5)).then_some(())
    })
    .await;
    until("it is shown no more", async || {
        (world.metric("podero_bridge_backlog_full").await == Some(0.0)).then_some(())
    })
    .await;
    world.bridge.stop().await;
}

/// Pending events of the next test: a few in the suite, a million by hand.
const PENDING: &str = "PODERO_BRIDGE_TEST_PENDING";
const PENDING_DEFAULT: u64 = 20_000;

/// Limit of a process's growth over one without pending events, for any number of them: page caches of the store's five
/// connections (10 MB), one waiting event for each of 64 appliers, and what the allocator keeps.
const GROWTH_MAX: f64 = 64.0 * 1_048_576.0;

/// Writes pending sign-ups of as many customers straight into the tables.
async fn fill(url: &str, count: u64) {
    use sqlx::Connection;
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.expect("the file is there");
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)";
    let stored = r#"'{"id":"' || id || '","customer":"' || lane || '","time":"2026-10-01T12:00:00Z","happening":{"kind":"signed_up","personal":{"email":"' || lane || '@example.com","first_name":"Anna"},"address":{"street_and_number":"Hauptstrasse 1","zip_code":"01067","town":"Dresden","country":"DE"},"building_key":"main"}}'"#;
    let events = format!(
        "{numbers}, e(id, lane) AS (SELECT printf('01900000-0000-7000-8000-%012x', i), printf('C-%07d', i) FROM n) \
         INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, state, \
         failures, digest, event, raw, raw_encoding) SELECT id, lane, '/billing', id, 'default', 'webhook', \
         'customer.signed_up', 1, 1, 1, 1, 'pending', 0, 'd', {stored}, {stored}, 'utf8' FROM e"
    );
    let lanes = format!(
        "{numbers} INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at) \
         SELECT printf('C-%07d', i), 0, 0, 0, 1 FROM n"
    );
    let count = i64::try_from(count).expect("a count");
    for statement in [events, lanes] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(count).execute(&mut connection).await.expect("written");
    }
    connection.close().await.expect("closed");
}

struct Measured {
    resident: f64,
    answered_within: Duration,
}

/// Starts a bridge, uses it for a while, and measures it at the end.
async fn measure(folder: &std::path::Path, environment: &running::Environment, pending: u64) -> Measured {
    let bridge = Running::start(folder, &[], environment);
    let http = reqwest::Client::new();
    let metric = async |name: &str| -> Option<f64> {
        let text = http.get(format!("{}/metrics", bridge.operator)).send().await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let clock = Clock::system();
    let mut slowest = Duration::ZERO;
    let mut peak: f64 = 0.0;
    // Some rounds of everything that looks at the tables: counts, lists, listeners; and appliers that try.
    for round in 0..20 {
        let sent = clock.now();
        let event = sign_up(&format!("m{round}"), &format!("M-{round}"), TIME);
        let request =
            http.post(format!("{}/v1/events", bridge.door)).header("content-type", "application/cloudevents+json");
        let status = request.body(event.to_string()).send().await.expect("an answer").status();
        assert_eq!(status, 202);
        slowest = slowest.max(clock.now().since(sent));
        for path in ["/v1/parked", "/v1/heat-pumps", "/v1/customers/C-0000001", "/readyz"] {
            http.get(format!("{}{path}", bridge.operator)).send().await.expect("an answer");
        }
        peak = peak.max(metric("process_resident_memory_bytes").await.unwrap_or_default());
        podero_bridge::pump::sleep(Duration::from_millis(200)).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let expected = pending as f64;
    until_within(Duration::from_secs(120), "all pending events are counted", async || {
        metric("podero_bridge_events_pending").await.filter(|counted| *counted >= expected).map(drop)
    })
    .await;
    peak = peak.max(metric("process_resident_memory_bytes").await.expect("Linux tells it"));
    assert_eq!(bridge.terminate(), Some(0));
    Measured { resident: peak, answered_within: slowest }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_number_of_pending_events() {
    let pending = servers::environment(PENDING).map_or(PENDING_DEFAULT, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = away(folder.path());
    environment.push(("STORE__BACKLOG_MAX", (pending + 1_000_000).to_string()));
    let empty = measure(folder.path(), &environment, 20).await;
    let url = environment.iter().find(|(key, _)| *key == "STORE__URL").expect("a store").1.clone();
    let clock = Clock::system();
    let began = clock.now();
    fill(&url, pending).await;
    let filled = clock.now().since(began);
    let full = measure(folder.path(), &environment, pending).await;
    let mib = |bytes: f64| bytes / 1_048_576.0;
    let file = std::fs::metadata(folder.path().join("bridge.db")).expect("a file").len();
    eprintln!(
        "pending events {pending}: resident {:.1} MiB with none, {:.1} MiB with all; slowest webhook {:?} and {:?}; \
         file {} MiB, written in {filled:?}",
        mib(empty.resident),
        mib(full.resident),
        empty.answered_within,
        full.answered_within,
        file >> 20,
    );
    let growth = full.resident - empty.resident;
    assert!(growth < GROWTH_MAX, "{:.1} MiB more", mib(growth));
    assert!(full.answered_within < Duration::from_secs(10), "{:?}", full.answered_within);
}
