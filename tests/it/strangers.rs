//! Strangers at both listeners: connections and bodies that never end, forged signatures, invented addresses. Each test keeps the
//! attack up while others are served.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::app::Limits;
use podero_bridge::clock::Clock;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{Extra, Settings, World, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const TOKEN: &str = "an-operators-own-token";
/// Timeout for an answer. A listener that is shut out stays so for longer: until the attackers' time is over.
const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses of one machine, as of several.
const ATTACKER: &str = "127.0.0.1";
const SENDER: &str = "127.0.0.2";
const NEWCOMER: &str = "127.0.0.3";

fn settings() -> Settings {
    let source = |name: &str, verify: &str, rest: &str| {
        format!("[[source]]\nname = \"{name}\"\nverify = \"{verify}\"\n{rest}\n")
    };
    let toml = [
        "[watch]\nenabled = false\n".to_owned(),
        source("default", "none", ""),
        source("signed", "standard-webhooks", &format!("secrets = [\"{SECRET}\"]")),
        source("token", "bearer", "secrets = [\"a-token-that-is-long-enough\"]"),
        source("shared", "bearer", "secrets = [\"a-token-that-is-long-enough\"]\ntoken_header = \"x-shared-key\""),
        source("basic", "basic", "secrets = [\"shop:a-password-that-is-long\"]"),
        source(
            "tagged",
            "hmac",
            "secrets = [\"a-key-that-is-long-enough\"]\nhmac_header = \"x-signature\"\nhmac_text = \"{timestamp}.{body}\"\n\
             hmac_timestamp_header = \"x-timestamp\"",
        ),
    ];
    Settings { toml: toml.concat(), environment: Vec::new() }
}

async fn world(settings: Settings, limits: Limits) -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = crate::kit::sqlite_url(folder.path());
    World::start_with(folder, url, settings, Extra { limits, ..Extra::default() }).await
}

/// A connection from one of the machine's own addresses.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from.parse::<IpAddr>().expect("an address"), 0)).expect("loopback is large");
    socket.connect(to).await.expect("the listener is open")
}

/// The answer until the connection is closed; `None`: nothing, for longer than a sender waits.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.ok()? {
            Ok(0) | Err(_) => return Some(String::from_utf8_lossy(&answer).into_owned()),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
        }
    }
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

/// One request from an address over a connection of its own; its status, if it is answered.
async fn ask(from: &str, to: SocketAddr, request: &[u8]) -> Option<u16> {
    let mut stream = connect(from, to).await;
    stream.write_all(request).await.ok()?;
    status(&read(&mut stream).await?)
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes()
}

fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cloudevents+json\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn signed(body: &str) -> String {
    let now = Clock::system().now().micros() / 1_000_000;
    let signature = Webhook::new(SECRET).expect("valid").sign("m1", now, body.as_bytes()).expect("text");
    format!("webhook-id: m1\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n")
}

/// A delivery with a valid signature, of an event of its own.
fn genuine(id: &str) -> Vec<u8> {
    let body = sign_up(id, &format!("C-{id}"), TIME).to_string();
    post("/v1/events/signed", &signed(&body), &body)
}

/// Health and metrics answer while every connection of the same address owes a body.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_answer_while_connections_owe_bodies() {
    let world = world(settings(), Limits::default()).await;
    let admin = world.bridge.admin;
    let owing = async || {
        let mut stream = connect(ATTACKER, admin).await;
        let request = b"POST /v1/parked/retry HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
        stream.write_all(request).await.expect("written");
        stream
    };
    let mut attack = join_all((0..256).map(|_| owing())).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        for from in [ATTACKER, SENDER] {
            assert_eq!(ask(from, admin, &get(path)).await, Some(200), "{path} from {from}");
            // The attacker goes on.
            attack.extend(join_all((0..16).map(|_| owing())).await);
        }
    }
    let shown = world.metric(r#"podero_bridge_connections_closed_total{listener="admin",reason="peer_share"}"#).await;
    assert!(shown >= Some(128.0), "the attacker's own gave way: {shown:?}");
    // Bodies have a time of their own.
    let mut last = attack.pop().expect("many");
    let answer = read(&mut last).await.expect("it is told, or cut off");
    assert!(matches!(status(&answer), None | Some(408)), "{answer}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_signatures_and_bodies_without_end_shut_no_sender_out() {
    const BODY_BYTES: usize = 1 << 20;
    let world = world(settings(), Limits::default()).await;
    let door = world.bridge.http;
    assert_eq!(ask(SENDER, door, &genuine("e0")).await, Some(202));
    let forged = async || {
        let now = Clock::system().now().micros() / 1_000_000;
        let head = format!(
            "POST /v1/events/signed HTTP/1.1\r\nhost: x\r\nwebhook-id: x\r\nwebhook-timestamp: {now}\r\n\
             webhook-signature: v1,AAAA\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
        );
        let mut stream = connect(ATTACKER, door).await;
        // One that is refused may be closed before all is written.
        let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; BODY_BYTES - 1]].concat()).await;
        stream
    };
    let attack = join_all((0..34).map(|_| forged())).await;
    let refused = r#"podero_bridge_webhooks_refused_total{source="signed",status="503"}"#;
    until("all room for strangers is taken", async || world.metric(refused).await.filter(|count| *count >= 1.0)).await;
    for number in 1..6 {
        assert_eq!(ask(SENDER, door, &genuine(&format!("e{number}"))).await, Some(202), "it has proved itself");
    }
    assert_eq!(ask(NEWCOMER, door, &genuine("new")).await, Some(202), "the attacker has more than its share");
    let displaced = world.metric(r#"podero_bridge_bodies_displaced_total{proved="false"}"#).await;
    assert!(displaced >= Some(1.0), "{displaced:?}");
    // A sender at the attacker's own address waits until the forged bodies have taken their time.
    until("the address is served", async || (ask(ATTACKER, door, &genuine("same")).await == Some(202)).then_some(()))
        .await;
    drop(attack);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_shut_no_other_out() {
    // The listener's own timer would free them after a minute.
    let limits = Limits { headers_time_max: Duration::from_secs(60), connections_max: 256, ..Limits::default() };
    let world = world(settings(), limits).await;
    let door = world.bridge.http;
    let silent = join_all((0..512).map(|_| connect(ATTACKER, door))).await;
    for from in [SENDER, ATTACKER] {
        assert_eq!(ask(from, door, &genuine(&format!("e{from}"))).await, Some(202), "{from}");
    }
    let closed = async |reason: &str, least: f64| {
        let series = format!("podero_bridge_connections_closed_total{{listener=\"http\",reason=\"{reason}\"}}");
        until("it is counted", async || world.metric(&series).await.filter(|count| *count >= least)).await;
    };
    closed("peer_share", 1.0).await;
    // Nor do those of many addresses, once they have owed a request for a while.
    let addresses: Vec<String> = (0..300).map(|number| format!("127.1.{}.{}", number / 64, number % 64 + 1)).collect();
    let others = join_all(addresses.iter().map(|address| connect(address, door))).await;
    assert_eq!(ask(NEWCOMER, door, &genuine("e2")).await, Some(202));
    closed("crowded", 1.0).await;
    drop((silent, others));
    world.bridge.stop().await;
}

/// A request on a connection of its own whose head has come and whose body is not whole, and the rest of it.
async fn unfinished(from: &str, to: SocketAddr, forwarded: &str, id: &str) -> (TcpStream, Vec<u8>) {
    let body = sign_up(id, &format!("C-{id}"), TIME).to_string();
    let request = post("/v1/events", &format!("x-forwarded-for: {forwarded}\r\nexpect: 100-continue\r\n"), &body);
    let (first, rest) = request.split_at(request.len() - 10);
    let mut stream = connect(from, to).await;
    stream.write_all(first).await.expect("written");
    // Said once the head has come.
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).await.expect("it may go on");
    (stream, rest.to_vec())
}

async fn finish((mut stream, rest): (TcpStream, Vec<u8>)) -> Option<u16> {
    let _ = stream.write_all(&rest).await;
    status(&read(&mut stream).await.expect("it is answered, or closed"))
}

/// Shares go by the address that a trusted proxy names and by nothing that a stranger says.
#[tokio::test(flavor = "multi_thread")]
async fn shares_go_by_the_address_that_a_trusted_proxy_names() {
    let mut settings = settings();
    settings.environment.push(("HTTP__TRUSTED_PROXIES", format!("{SENDER}, 10.0.0.0/8")));
    let limits = Limits { connections_per_peer_max: Some(2), ..Limits::default() };
    let world = world(settings, limits).await;
    let door = world.bridge.http;
    let closed = r#"podero_bridge_connections_closed_total{listener="http",reason="peer_share"}"#;
    let closed = async |expected: f64| {
        until("it is counted", async || world.metric(closed).await.filter(|count| *count >= expected)).await
    };

    // Three clients behind the proxy; the last of two trusted proxies, and what the client itself says, make no difference.
    let mut under_way = Vec::new();
    for (forwarded, id) in [
        ("203.0.113.1", "a1"),
        ("203.0.113.2", "b1"),
        ("1.1.1.1, 203.0.113.1", "a2"),
        ("203.0.113.3", "c1"),
        ("203.0.113.1, 10.0.0.9", "a3"),
    ] {
        under_way.push(unfinished(SENDER, door, forwarded, id).await);
    }
    assert_eq!(closed(1.0).await, 1.0, "one client has three");
    let mut answers = Vec::new();
    for request in under_way {
        answers.push(finish(request).await);
    }
    assert_eq!(answers, [None, Some(202), Some(202), Some(202), Some(202)], "its first gave way");

    // A stranger invents an address for each.
    let mut under_way = Vec::new();
    for number in 1..4 {
        let forwarded = format!("203.0.113.{number}");
        under_way.push(unfinished(ATTACKER, door, &forwarded, &format!("d{number}")).await);
    }
    assert_eq!(closed(2.0).await, 2.0, "they are of one address");
    let mut answers = Vec::new();
    for request in under_way {
        answers.push(finish(request).await);
    }
    assert_eq!(answers, [None, Some(202), Some(202)]);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_proves_something_is_refused_when_it_is_there_twice() {
    let mut settings = settings();
    settings.environment.push(("ADMIN__TOKEN", TOKEN.into()));
    let world = world(settings, Limits::default()).await;
    let (door, admin) = (world.bridge.http, world.bridge.admin);
    let body = sign_up("e1", "C-1", TIME).to_string();
    let genuine = signed(&body);
    let bearer = "authorization: Bearer a-token-that-is-long-enough\r\n".to_owned();
    let basic = "authorization: Basic c2hvcDphLXBhc3N3b3JkLXRoYXQtaXMtbG9uZw==\r\n".to_owned();
    let shared = "x-shared-key: a-token-that-is-long-enough\r\n".to_owned();
    let line = |index: usize| format!("{}\r\n", genuine.lines().nth(index).expect("three lines"));
    for (path, good, twice) in [
        ("/v1/events/token", &bearer, "authorization: Bearer another\r\n"),
        ("/v1/events/token", &bearer, &bearer),
        ("/v1/events/basic", &basic, "Authorization: Bearer another\r\n"),
        ("/v1/events/shared", &shared, "x-shared-key: another\r\n"),
        ("/v1/events/signed", &genuine, &line(0)),
        ("/v1/events/signed", &genuine, "webhook-id: m2\r\n"),
        ("/v1/events/signed", &genuine, "webhook-timestamp: 1\r\n"),
        ("/v1/events/signed", &genuine, "webhook-signature: v1,AAAA\r\n"),
        ("/v1/events/signed", &genuine, "authorization: Bearer x\r\nauthorization: Bearer y\r\n"),
    ] {
        for headers in [format!("{good}{twice}"), format!("{twice}{good}")] {
            assert_eq!(ask(SENDER, door, &post(path, &headers, &body)).await, Some(400), "{path} {headers}");
        }
        assert_eq!(ask(SENDER, door, &post(path, good, &body)).await, Some(202), "{path}");
    }
    for twice in ["x-signature: 00\r\nx-signature: 01\r\n", "x-timestamp: 1\r\nx-timestamp: 2\r\n"] {
        assert_eq!(ask(SENDER, door, &post("/v1/events/tagged", twice, &body)).await, Some(400), "{twice}");
    }
    let named = "idempotency-key: a\r\nidempotency-key: b\r\n";
    assert_eq!(ask(SENDER, door, &post("/v1/events/token", &format!("{bearer}{named}"), &body)).await, Some(400));

    let good = format!("authorization: Bearer {TOKEN}\r\n");
    for (headers, expected) in [
        (good.clone(), 200),
        (format!("{good}authorization: Bearer another\r\n"), 400),
        (format!("authorization: Bearer another\r\n{good}"), 400),
        (format!("{good}{good}"), 400),
    ] {
        let request = format!("GET /v1/parked HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        assert_eq!(ask(SENDER, admin, request.as_bytes()).await, Some(expected), "{headers}");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_stored_on_its_way() {
    let world = world(settings(), Limits::default()).await;
    let (_, answer) = world.send(&sign_up("e1", "C-1", TIME)).await;
    let id = answer["id"].as_str().expect("an id").to_owned();
    let get = |url: String| world.http.get(url);
    for (name, request, expected) in [
        ("a timeline", get(world.operator("/v1/customers/C-1")), 200),
        ("an event", get(world.operator(&format!("/v1/events/{id}"))), 200),
        ("parked", get(world.operator("/v1/parked")), 200),
        ("a wrong query", get(world.operator("/v1/parked?reason=none")), 400),
        ("a wrong method", get(world.operator("/v1/parked/retry")), 405),
        ("an order", world.http.post(world.operator("/v1/parked/retry")).body("{}"), 400),
        ("no such event", get(world.operator("/v1/events/none")), 404),
        ("no such path", get(world.operator("/v1/none")), 404),
        ("a web page's request", get(world.operator("/v1/parked")).header("origin", "https://x.example"), 403),
        ("health", get(world.operator("/livez")), 200),
        ("a refused webhook", world.http.post(world.door("/v1/events/none")), 404),
        ("an accepted webhook", repeated(&world), 202),
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{name}");
        assert_eq!(
            answer.headers().get("cache-control").map(|value| value.as_bytes()),
            Some(&b"no-store"[..]),
            "{name}"
        );
    }
    world.bridge.stop().await;
}

fn repeated(world: &World) -> reqwest::RequestBuilder {
    let event: Value = sign_up("e1", "C-1", TIME);
    let request = world.http.post(world.door("/v1/events")).header("content-type", "application/cloudevents+json");
    request.body(event.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_closes_its_connection_and_is_counted() {
    let world = world(settings(), Limits::default()).await;
    for (listener, to) in [("http", world.bridge.http), ("admin", world.bridge.admin)] {
        for _ in 0..20 {
            assert_eq!(ask(ATTACKER, to, b"X\r\n\r\n").await, Some(400), "{listener}");
        }
        let series = format!("podero_bridge_connections_closed_total{{listener=\"{listener}\",reason=\"no_request\"}}");
        until("each is counted", async || world.metric(&series).await.filter(|count| *count >= 20.0)).await;
    }
    world.bridge.stop().await;
}

/// One that waits for its answers is never in such a hurry.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_sends_requests_without_waiting_is_cut_off() {
    const REQUESTS: usize = 2_000;
    let world = world(settings(), Limits::default()).await;
    for (listener, to) in [("http", world.bridge.http), ("admin", world.bridge.admin)] {
        let mut stream = connect(ATTACKER, to).await;
        // All of them in one buffer, so that the sender is ahead of the listener on a slow machine too.
        let requests = format!("GET /nothing HTTP/1.1\r\nhost: {to}\r\n\r\n").repeat(REQUESTS);
        let (mut from, mut into) = stream.split();
        let sending = async {
            // It may be closed before it has sent all.
            let _ = into.write_all(requests.as_bytes()).await;
        };
        let reading = async {
            let mut answers = Vec::new();
            let mut some = [0; 4_096];
            while let Ok(count @ 1..) = from.read(&mut some).await {
                answers.extend_from_slice(&some[..count]);
            }
            String::from_utf8_lossy(&answers).matches("HTTP/1.1 404").count()
        };
        let (answers, ()) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(reading, sending) }).await.expect("it is closed");
        assert!(answers < REQUESTS / 4, "{listener}: {answers} answers");
        let series = format!("podero_bridge_connections_closed_total{{listener=\"{listener}\",reason=\"hasty\"}}");
        until("it is counted", async || world.metric(&series).await.filter(|count| *count >= 1.0)).await;
    }
    world.bridge.stop().await;
}
