//! The partner client against a mock on a local socket: what is sent, byte for byte where it matters, and what
//! each way of answering (or not) turns into.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use podero_bridge::clock::Clock;
use podero_bridge::domain::call::{Call, Done, Operation, RefusalKind, Reply, UserFound};
use podero_bridge::domain::event::{Field, Record};
use podero_bridge::domain::partner_health::CircuitCause;
use podero_bridge::domain::{CustomerId, Timestamp};
use podero_bridge::podero::{Client, Drift, Error, Observe, Outlook, Partner, STATUSES, Settings, Unfit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub const ORG: Uuid = Uuid::from_u128(0xA);
const USER: Uuid = Uuid::from_u128(0xB);
const TOKEN_PATH: &str = "/oauth2/token/";

/// The mock's treatment of one request.
#[derive(Clone)]
pub enum Act {
    Answer(u16, Vec<(&'static str, String)>, String),
    /// These bytes, then the connection is closed.
    Raw(String),
    /// Reads the request and closes without an answer.
    Cut,
    /// Reads the request and never answers.
    Silence,
    /// Answers 200 with this body once a permit is there.
    Gated(Arc<Semaphore>, String),
}

pub fn answer(status: u16, body: impl ToString) -> Act {
    Act::Answer(status, Vec::new(), body.to_string())
}

/// A request as the mock saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    body: String,
    at: Timestamp,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Script {
    seen: Vec<Seen>,
    acts: VecDeque<Act>,
    tokens: VecDeque<Act>,
    tokens_made: u32,
    in_flight: usize,
    in_flight_max: usize,
}

/// A scripted Podero. Unscripted requests get `[]`, unscripted token requests a fresh token of ten hours.
#[derive(Clone)]
pub struct Mock {
    pub base_url: String,
    script: Arc<Mutex<Script>>,
    came: Arc<Notify>,
    listening: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Mock {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mock = Self {
            base_url: format!("http://{address}"),
            script: Arc::default(),
            came: Arc::default(),
            listening: Arc::default(),
        };
        let serving = mock.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mock = serving.clone();
                tokio::spawn(async move { mock.serve(stream).await });
            }
        });
        *mock.listening.lock().expect("whole") = Some(listening);
        mock
    }

    /// Stops listening; open connections go on.
    async fn close(&self) {
        let listening = self.listening.lock().expect("whole").take().expect("was open");
        listening.abort();
        listening.await.expect_err("aborted");
    }

    pub fn then(&self, act: Act) -> &Self {
        self.script.lock().expect("whole").acts.push_back(act);
        self
    }

    fn token_then(&self, act: Act) -> &Self {
        self.script.lock().expect("whole").tokens.push_back(act);
        self
    }

    /// The API's requests so far, and how many tokens were asked for.
    pub fn seen(&self) -> (Vec<Seen>, usize) {
        let script = self.script.lock().expect("whole");
        let (tokens, calls): (Vec<Seen>, Vec<Seen>) =
            script.seen.iter().cloned().partition(|seen| seen.path == TOKEN_PATH);
        (calls, tokens.len())
    }

    fn token_requests(&self) -> Vec<Seen> {
        let script = self.script.lock().expect("whole");
        script.seen.iter().filter(|seen| seen.path == TOKEN_PATH).cloned().collect()
    }

    pub async fn until_calls(&self, count: usize) {
        loop {
            let came = self.came.notified();
            if self.seen().0.len() >= count {
                return;
            }
            came.await;
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        while let Some(seen) = read_request(&mut stream).await {
            let act = self.take(seen);
            self.came.notify_waiters();
            let goes_on = perform(act, &mut stream).await;
            self.script.lock().expect("whole").in_flight -= 1;
            if !goes_on {
                return;
            }
        }
    }

    fn take(&self, seen: Seen) -> Act {
        let mut script = self.script.lock().expect("whole");
        let is_token = seen.path == TOKEN_PATH;
        script.seen.push(seen);
        script.in_flight += 1;
        script.in_flight_max = script.in_flight_max.max(script.in_flight);
        if !is_token {
            return script.acts.pop_front().unwrap_or_else(|| answer(200, "[]"));
        }
        script.tokens_made += 1;
        let token = json!({"access_token": format!("token-{}", script.tokens_made), "expires_in": 36_000});
        script.tokens.pop_front().unwrap_or_else(|| answer(200, token))
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("an ASCII head");
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a number"));
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        method: first.next()?,
        path: first.next()?,
        headers,
        body: String::from_utf8(bytes[head_end..].to_vec()).expect("text"),
        at: Clock::system().now(),
    })
}

/// Performs an act; says whether the connection goes on.
async fn perform(act: Act, stream: &mut TcpStream) -> bool {
    let (status, headers, body) = match act {
        Act::Answer(status, headers, body) => (status, headers, body),
        Act::Raw(bytes) => {
            stream.write_all(bytes.as_bytes()).await.ok();
            return false;
        }
        Act::Cut => return false,
        Act::Silence => {
            // Until the client hangs up.
            stream.read_u8().await.ok();
            return false;
        }
        Act::Gated(gate, body) => {
            gate.acquire().await.expect("open").forget();
            (200, Vec::new(), body)
        }
    };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await.is_ok()
}

pub fn settings(base_url: &str) -> Settings {
    Settings {
        base_url: base_url.to_owned(),
        org_id: ORG,
        client_id: "the-id".to_owned(),
        client_secret: "the-secret".to_owned(),
        proxy: None,
        timeout: Duration::from_secs(10),
        max_in_flight: 64,
        requests_per_second: 10_000,
    }
}

/// A client with its dispatcher, which ends with the test.
struct World {
    mock: Mock,
    client: Client,
    clock: Clock,
    ledger: Ledger,
    _stop: oneshot::Sender<()>,
}

/// The reports of the client to its observer.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<(Vec<String>, Vec<bool>)>>, Arc<Mutex<Vec<(Operation, Drift)>>>);

impl Observe for Ledger {
    fn drift(&self, operation: Operation, drift: Drift) {
        self.1.lock().expect("whole").push((operation, drift));
    }

    fn request(&self, operation: Operation, status: &'static str, _: Duration) {
        assert!(STATUSES.contains(&status));
        self.0.lock().expect("whole").0.push(format!("{} {status}", operation.name()));
    }

    fn circuit(&self, is_open: bool) {
        self.0.lock().expect("whole").1.push(is_open);
    }
}

impl Ledger {
    fn requests(&self) -> Vec<String> {
        self.0.lock().expect("whole").0.clone()
    }

    fn circuit_changes(&self) -> Vec<bool> {
        self.0.lock().expect("whole").1.clone()
    }
}

/// An urgent call of a claim that never ends.
pub const EVENT: Timestamp = Timestamp::from_micros(i64::MAX);

async fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mock = Mock::start().await;
    world_of(mock, change)
}

fn world_of(mock: Mock, change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings(&mock.base_url);
    change(&mut settings);
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("valid"), 1);
    let ledger = Ledger::default();
    let (client, dispatcher) = Client::new(settings, clock.clone(), ledger.clone()).expect("good settings");
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(dispatcher.run(async move {
        stopped.await.ok();
    }));
    World { mock, client, clock, ledger, _stop: stop }
}

impl World {
    async fn ask(&self, call: &Call) -> Reply {
        self.client.call(call, None, EVENT).await
    }

    async fn poll(&self) -> Reply<Vec<UserFound>> {
        self.client.list_users().await
    }
}

fn find(id: &str) -> Call {
    Call::FindUser { external_id: CustomerId::accept(id).expect("valid") }
}

pub fn create() -> Call {
    let record: Record = [(Field::Email, "a@example.com".into()), (Field::ZipCode, "01067".into())].into();
    Call::CreateUser { external_id: CustomerId::accept("C-1").expect("valid"), record }
}

pub fn delete() -> Call {
    Call::DeleteUser { user: USER, soft: true }
}

/// The meaning of a yes to [`delete`].
pub fn deleted() -> Done {
    Done::UserDeleted { user: USER }
}

fn unsent(why: &'static str) -> Reply {
    Reply::Unsent { why }
}

fn unknown(why: &'static str) -> Reply {
    Reply::Unknown { why }
}

/// Deadlines are for the program; a test that hangs should say so.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    let bound = Duration::from_secs(20);
    tokio::time::timeout(bound, work).await.expect("ends in time")
}

#[tokio::test]
async fn a_create_is_sent_with_token_key_and_allow_listed_body() {
    let w = world(|_| {}).await;
    w.mock.then(answer(201, json!({"id": USER, "role": "user"})));
    let key = Uuid::from_u128(42);
    let reply = within(w.client.call(&create(), Some(key), EVENT)).await;
    assert!(matches!(&reply, Reply::Done(Done::UserCreated { user: USER, .. })), "{reply:?}");

    let token = &w.mock.token_requests()[0];
    assert_eq!((token.method.as_str(), token.path.as_str()), ("POST", TOKEN_PATH));
    assert_eq!(token.header("authorization"), Some("Basic dGhlLWlkOnRoZS1zZWNyZXQ="));
    assert_eq!(token.header("cache-control"), Some("no-cache"));
    assert_eq!(token.header("content-type"), Some("application/json"));
    assert_eq!(token.body, r#"{"grant_type":"client_credentials"}"#);

    let seen = &w.mock.seen().0[0];
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.path, format!("/api/partners/v2.0/org/{ORG}/users"));
    assert_eq!(seen.header("authorization"), Some("Bearer token-1"));
    assert_eq!(seen.header("idempotency-key"), Some(key.to_string().as_str()));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("podero-bridge/")));
    let body: Value = serde_json::from_str(&seen.body).expect("JSON");
    let expect = json!({"role": "user", "email": "a@example.com", "zip_code": "01067", "external_user_id": "C-1"});
    assert_eq!(body, expect);
    assert_eq!(w.ledger.requests(), ["create_user 201"]);
}

#[tokio::test]
async fn a_soft_deletion_says_so_and_a_look_up_carries_neither_key_nor_body() {
    let w = world(|_| {}).await;
    w.mock.then(answer(204, "")).then(answer(404, r#"{"detail": "Not Found"}"#));
    assert_eq!(within(w.ask(&delete())).await, Reply::Done(deleted()));
    assert_eq!(within(w.ask(&find("a/b c"))).await, Reply::Done(Done::UserLookedUp(None)));
    let (seen, _) = w.mock.seen();
    let users = format!("/api/partners/v2.0/org/{ORG}/users");
    assert_eq!((seen[0].method.as_str(), &seen[0].path), ("DELETE", &format!("{users}/{USER}?soft_delete=true")));
    assert_eq!((seen[1].method.as_str(), &seen[1].path), ("GET", &format!("{users}/by-ext-id/a%2Fb%20c")));
    assert_eq!((seen[1].header("idempotency-key"), seen[1].body.as_str()), (None, ""));
}

#[tokio::test]
async fn an_id_that_no_address_can_name_is_refused_without_asking() {
    let w = world(|_| {}).await;
    let reply = within(w.ask(&find(".."))).await;
    assert!(matches!(&reply, Reply::Refused(refusal) if refusal.kind == RefusalKind::Invalid));
    assert!(w.mock.seen().0.is_empty());
}

#[tokio::test]
async fn the_line_between_unsent_and_unknown_is_the_first_byte_sent() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\": ";
    let chunked_half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n";
    for (act, expect, status) in [
        (Act::Cut, unknown("connection cut"), "cut"),
        (Act::Raw(half.to_owned()), unknown("connection cut"), "cut"),
        (Act::Raw(chunked_half.to_owned()), unknown("connection cut"), "cut"),
        (Act::Raw("SSH-2.0\r\n".to_owned()), unknown("connection cut"), "cut"),
        (Act::Silence, unknown("no answer in time"), "timeout"),
        (answer(200, "<html>hello</html>"), unknown("answer makes no sense: a page"), "garbage"),
        (answer(201, "{}"), unknown("answer without id"), "garbage"),
        (answer(500, ""), unknown("server error (500)"), "500"),
        (answer(503, ""), unknown("server error (503)"), "503"),
    ] {
        let w = world(|settings| settings.timeout = Duration::from_millis(500)).await;
        w.mock.then(act);
        assert_eq!(within(w.ask(&create())).await, expect, "{status}");
        assert_eq!(w.mock.seen().0.len(), 1, "never repeated: {status}");
        assert_eq!(w.ledger.requests(), [format!("create_user {status}")]);
    }
}

#[tokio::test]
async fn a_refused_connection_is_unsent() {
    let w = world(|_| {}).await;
    let token = r#"{"access_token": "one", "expires_in": 60}"#;
    let length = token.len();
    let last_words = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{token}");
    w.mock.token_then(Act::Raw(last_words)).then(Act::Cut);
    assert_eq!(within(w.ask(&create())).await, unknown("connection cut"));
    // The token is at hand, no connection is left, and now the mock listens no more.
    w.mock.close().await;
    assert_eq!(within(w.ask(&create())).await, unsent("no connection"));
    assert_eq!(w.ledger.requests(), ["create_user cut", "create_user connect"]);

    let late = world_of(w.mock.clone(), |_| {});
    assert_eq!(within(late.ask(&create())).await, unsent("no connection for a token"));
    assert!(!late.client.has_token());
    let expect = Err(Unfit::Away("no connection for a token"));
    assert_eq!(within(late.client.check(|_| {})).await, expect);
}

#[tokio::test]
async fn a_chunked_answer_is_read_whole() {
    let w = world(|_| {}).await;
    let (first, second) = (format!("[{{\"id\": \"{USER}\","), "\"role\": \"user\"}]");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let text =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(&first), chunk(second));
    w.mock.then(Act::Raw(text));
    let reply = within(w.poll()).await;
    assert!(matches!(&reply, Reply::Done(found) if found.len() == 1 && found[0].is_customer), "{reply:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let w = world(|_| {}).await;
    w.mock.then(answer(200, "x".repeat(5 * 1024 * 1024)));
    assert_eq!(within(w.ask(&find("C-1"))).await, unknown("answer too large"));
}

#[tokio::test]
async fn every_request_asks_for_no_coding_and_an_answer_in_one_says_so() {
    let w = world(|_| {}).await;
    let coded =
        |coding: &str| Act::Answer(200, vec![("content-encoding", coding.to_owned())], "\u{1f}packed".to_owned());
    let why = "the answer is coded as gzip; it was asked for without a coding";
    w.mock.then(coded("gzip"));
    assert_eq!(within(w.ask(&create())).await, unknown(why));
    assert_eq!(w.client.unreadable(), Some((Operation::CreateUser, why)), "an operator is told");
    assert_eq!(w.ledger.requests(), ["create_user garbage"]);
    let made = json!({"id": USER, "role": "user", "external_user_id": "C-1"});
    w.mock.then(answer(201, format!("\u{feff}{made}")));
    let reply = within(w.ask(&create())).await;
    assert!(matches!(&reply, Reply::Done(Done::UserCreated { .. })), "a byte order mark is passed over: {reply:?}");
    assert_eq!(w.client.unreadable(), None);
    // A gateway's page that cannot be read is no answer of the API either.
    w.mock.then(Act::Answer(404, vec![("content-encoding", "br".to_owned())], "packed".to_owned()));
    let reply = within(w.ask(&find("C-1"))).await;
    assert!(matches!(&reply, Reply::Unknown { why } if why.contains("br")), "{reply:?}");
    let (calls, _) = w.mock.seen();
    let asked = calls.iter().chain(&w.mock.token_requests()).cloned().collect::<Vec<_>>();
    assert!(
        asked.len() > 3 && asked.iter().all(|seen| seen.header("accept-encoding") == Some("identity")),
        "{asked:?}"
    );

    let w = world(|_| {}).await;
    w.mock.token_then(coded("gzip"));
    let why = "token answer is coded; it was asked for without a coding";
    assert_eq!(within(w.ask(&create())).await, unsent(why));
    assert_eq!(w.client.token_trouble(), Some(why));
}

#[tokio::test]
async fn a_list_in_pages_is_read_to_its_end() {
    let w = world(|_| {}).await;
    let page = |ids: &[u128]| {
        let items: Vec<Value> = ids.iter().map(|id| json!({"id": Uuid::from_u128(*id)})).collect();
        answer(200, json!({"total": 3, "items": items}))
    };
    w.mock.then(page(&[1, 2])).then(page(&[3]));
    let reply = within(w.poll()).await;
    assert!(matches!(&reply, Reply::Done(found) if found.len() == 3), "{reply:?}");
    let queries: Vec<Option<String>> =
        w.mock.seen().0.iter().map(|seen| seen.path.split_once('?').map(|(_, query)| query.to_owned())).collect();
    assert_eq!(queries, [None, Some("limit=200&offset=2".to_owned())]);
}

#[tokio::test]
async fn what_no_page_shows_is_told_by_call_and_kind() {
    let w = world(|_| {}).await;
    let someone = |role: &str| json!({"id": USER, "role": role, "external_user_id": "C-1"}).to_string();
    w.mock.then(answer(200, someone("user"))).then(answer(200, someone("landlord"))).then(answer(418, "<html>"));
    let replies = [within(w.ask(&find("C-1"))).await, within(w.ask(&find("C-1"))).await];
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Done(Done::UserLookedUp(Some(_))))), "{replies:?}");
    within(w.ask(&delete())).await;
    let told = w.ledger.1.lock().expect("whole").clone();
    assert_eq!(told, [(Operation::FindUser, Drift::UnknownRole), (Operation::DeleteUser, Drift::NewStatus)]);
}

#[tokio::test]
async fn a_redirect_is_followed_nowhere() {
    let w = world(|_| {}).await;
    let elsewhere = || Act::Answer(302, vec![("location", format!("{}/elsewhere", w.mock.base_url))], String::new());
    w.mock.then(elsewhere()).then(elsewhere());
    assert_eq!(within(w.ask(&create())).await, unknown("redirect"));
    assert_eq!(within(w.ask(&find("C-1"))).await, Reply::Held { status: 302 });
    assert_eq!(w.mock.seen().0.len(), 2);
}

#[tokio::test]
async fn fifty_calls_at_once_ask_for_one_token() {
    let w = world(|_| {}).await;
    let delete = delete();
    w.mock.token_then(Act::Gated(
        Arc::new(Semaphore::new(1)),
        json!({"access_token": "one", "expires_in": 60}).to_string(),
    ));
    let calls = (0..50).map(|_| w.ask(&delete));
    let replies = within(join_all(calls)).await;
    assert!(replies.iter().all(|reply| *reply == Reply::Done(deleted())), "{replies:?}");
    let (calls, tokens) = w.mock.seen();
    assert_eq!((calls.len(), tokens), (50, 1));
    assert!(w.client.has_token());
}

#[tokio::test]
async fn fifty_calls_at_once_share_one_failed_token_request() {
    let w = world(|_| {}).await;
    w.mock.token_then(answer(500, "")).token_then(answer(500, ""));
    let delete = delete();
    let replies = within(join_all((0..50).map(|_| w.ask(&delete)))).await;
    let failed = replies.iter().filter(|reply| **reply == unsent("server error at the token endpoint")).count();
    let (_, tokens) = w.mock.seen();
    assert!(failed > 0 && tokens <= 3, "{failed} failed, {tokens} token requests");
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once_and_the_call_repeated_once() {
    let w = world(|_| {}).await;
    w.mock.then(answer(401, "")).then(answer(204, ""));
    let key = Uuid::from_u128(7);
    let reply = within(w.client.call(&delete(), Some(key), EVENT)).await;
    assert_eq!(reply, Reply::Done(deleted()));
    let (seen, tokens) = w.mock.seen();
    let tokens_used: Vec<_> = seen.iter().filter_map(|seen| seen.header("authorization")).collect();
    assert_eq!((tokens_used, tokens), (vec!["Bearer token-1", "Bearer token-2"], 2));
    assert!(seen.iter().all(|seen| seen.header("idempotency-key") == Some(key.to_string().as_str())));
    assert_eq!(w.ledger.requests(), ["delete_user 401", "delete_user 204"]);

    w.mock.then(answer(401, "")).then(answer(401, ""));
    assert_eq!(within(w.ask(&delete())).await, Reply::Held { status: 401 });
    assert_eq!(w.mock.seen().0.len(), 4, "no third time");
}

#[tokio::test]
async fn a_call_that_cannot_get_a_token_is_never_sent() {
    for (act, expect) in [
        (answer(401, ""), Reply::Held { status: 401 }),
        (answer(400, ""), Reply::Held { status: 400 }),
        (answer(403, ""), Reply::Held { status: 403 }),
        (answer(500, ""), unsent("server error at the token endpoint")),
        (answer(200, "garbage"), unsent("token answer is garbage")),
        (Act::Cut, unsent("no token")),
        (
            Act::Answer(429, vec![("retry-after", "5".to_owned())], String::new()),
            Reply::Busy { after: Some(Duration::from_secs(5)) },
        ),
    ] {
        let w = world(|_| {}).await;
        // One for the dispatcher, which keeps a token at hand, and one for the call.
        w.mock.token_then(act.clone()).token_then(act);
        assert_eq!(within(w.ask(&create())).await, expect);
        assert!(w.mock.seen().0.is_empty());
        assert!(!w.client.has_token());
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_outlives_a_failed_renewal() {
    let w = world(|_| {}).await;
    within(w.ask(&delete())).await;
    // Ten hours less five minutes and a second.
    w.clock.advance(Duration::from_secs(36_000 - 301));
    within(w.ask(&delete())).await;
    assert_eq!(w.mock.seen().1, 1);
    w.clock.advance(Duration::from_secs(2));
    w.mock.token_then(answer(500, ""));
    within(w.ask(&delete())).await;
    let (seen, tokens) = w.mock.seen();
    assert_eq!((seen[2].header("authorization"), tokens), (Some("Bearer token-1"), 2));
    // The next attempt waits a little.
    within(w.ask(&delete())).await;
    assert_eq!(w.mock.seen().1, 2);
    w.clock.advance(Duration::from_secs(11));
    within(w.ask(&delete())).await;
    let (seen, tokens) = w.mock.seen();
    assert_eq!((seen[4].header("authorization"), tokens), (Some("Bearer token-3"), 3));
}

#[tokio::test]
async fn a_pause_that_the_token_endpoint_asks_for_is_kept_by_all_who_want_one() {
    let w = world(|_| {}).await;
    w.mock.token_then(Act::Answer(429, vec![("retry-after", "60".to_owned())], String::new()));
    for left in [60, 59] {
        assert_eq!(within(w.ask(&delete())).await, busy_for(left));
        assert_eq!(within(w.poll()).await, busy_for(left));
        assert!(
            matches!(within(w.client.check(|_| {})).await, Err(Unfit::Away(_))),
            "nor does anyone beside the budget"
        );
        w.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(w.mock.token_requests().len(), 1);
    w.clock.advance(Duration::from_secs(58));
    assert_eq!(within(w.ask(&delete())).await, Reply::Done(deleted()));
    assert_eq!(w.mock.token_requests().len(), 2);
}

#[tokio::test]
async fn a_pause_is_honoured_by_everyone_for_as_long_as_podero_says() {
    let in_a_minute = "Thu, 01 Oct 2026 12:01:00 GMT";
    for (status, wish) in [(429, "60"), (503, "60"), (429, in_a_minute)] {
        let w = world(|_| {}).await;
        let minute = Reply::Busy { after: Some(Duration::from_secs(60)) };
        w.mock.then(Act::Answer(status, vec![("retry-after", wish.to_owned())], String::new()));
        assert_eq!(within(w.ask(&delete())).await, minute);
        assert_eq!(w.client.paused_until(), Some(w.clock.now().plus(Duration::from_secs(60))));
        w.clock.advance(Duration::from_secs(59));
        let second = Reply::Busy { after: Some(Duration::from_secs(1)) };
        assert_eq!(within(w.poll()).await.bare(), second);
        assert_eq!(within(w.ask(&delete())).await.bare(), second);
        assert_eq!(w.mock.seen().0.len(), 1, "nobody asked in the pause");
        w.clock.advance(Duration::from_secs(1));
        assert_eq!(w.client.paused_until(), None);
        assert_eq!(within(w.ask(&delete())).await, Reply::Done(deleted()));
        assert!(w.ledger.circuit_changes().is_empty());
    }
}

#[tokio::test]
async fn who_waits_when_a_pause_begins_is_told_at_once() {
    let w = world(|settings| settings.max_in_flight = 1).await;
    w.mock.then(Act::Answer(429, vec![("retry-after", "3600".to_owned())], String::new()));
    let delete = delete();
    let replies = within(join_all((0..10).map(|_| w.ask(&delete)))).await;
    let hour = Reply::Busy { after: Some(Duration::from_secs(3600)) };
    assert!(replies.iter().all(|reply| *reply == hour), "{replies:?}");
    assert_eq!(w.mock.seen().0.len(), 1);
}

pub fn busy_for<A>(seconds: u64) -> Reply<A> {
    Reply::Busy { after: Some(Duration::from_secs(seconds)) }
}

/// The circuit opens for every call and closes on probes of the client's own.
#[tokio::test]
async fn the_circuit_closes_on_probes_of_the_clients_own() {
    let w = world(|_| {}).await;
    for _ in 0..10 {
        w.mock.then(answer(500, ""));
        assert!(!within(w.client.probe()).await, "no suspicion yet");
        assert_eq!(within(w.ask(&delete())).await, unknown("server error (500)"));
    }
    within(w.client.suspected().notified()).await;
    assert_eq!(w.client.paused_until(), None, "a suspicion holds nobody");
    w.mock.then(answer(500, ""));
    assert!(within(w.client.probe()).await);
    assert_eq!(w.client.paused_until(), Some(w.clock.now().plus(Duration::from_secs(1))));
    assert_eq!(within(w.ask(&delete())).await, busy_for(1), "no failure of the event that asks");
    assert_eq!(within(w.poll()).await, busy_for(1));
    assert!(!within(w.client.probe()).await, "it is not time");

    w.clock.advance(Duration::from_secs(1));
    let gate = Arc::new(Semaphore::new(0));
    w.mock.then(Act::Gated(gate.clone(), json!({"detail": "an answer"}).to_string())).then(answer(404, ""));
    let mut probe = Box::pin(w.client.probe());
    assert!((&mut probe).now_or_never().is_none());
    assert_eq!(within(w.ask(&delete())).await, busy_for(1), "no event is a probe");
    assert!(!within(w.client.probe()).await, "one probe at a time");
    gate.add_permits(1);
    assert!(within(probe).await);
    assert!(matches!(w.client.outlook(), Outlook::Open { why: CircuitCause::Away, .. }), "an answer without sense");
    w.clock.advance(Duration::from_secs(1));
    assert!(!within(w.client.probe()).await, "two seconds now");
    w.clock.advance(Duration::from_secs(1));
    assert!(within(w.client.probe()).await);
    assert_eq!((w.client.paused_until(), w.client.outlook()), (None, Outlook::Clear));
    assert_eq!(w.ledger.circuit_changes(), [true, false]);
    let (seen, _) = w.mock.seen();
    assert_eq!(seen.len(), 13);
    let path = format!("/api/partners/v2.0/org/{ORG}/users/by-ext-id/podero-bridge-probe");
    assert!(seen[10..].iter().all(|seen| (seen.method.as_str(), &seen.path) == ("GET", &path)));
}

/// A customer whose calls fail for ever holds no other customer while a probe is answered.
#[tokio::test]
async fn a_customer_whose_calls_fail_for_ever_holds_no_other() {
    for (status, row) in [(500, 10), (403, 3)] {
        let w = world(|_| {}).await;
        for _ in 0..3 {
            for _ in 0..row {
                w.mock.then(answer(status, ""));
                within(w.ask(&delete())).await;
            }
            let gate = Arc::new(Semaphore::new(0));
            w.mock.then(Act::Gated(gate.clone(), "{}".to_owned())).then(answer(status, "")).then(answer(204, ""));
            let mut probe = Box::pin(w.client.probe());
            let came = w.mock.until_calls(w.mock.seen().0.len() + 1);
            within(async {
                tokio::select! { _ = &mut probe => panic!("answered"), () = came => {} }
            })
            .await;
            assert_ne!(within(w.ask(&delete())).await, Reply::Done(deleted()), "one more failure");
            assert_eq!(within(w.ask(&delete())).await, Reply::Done(deleted()), "and another customer's call");
            gate.add_permits(1);
            assert!(within(probe).await);
            w.clock.advance(Duration::from_secs(1));
        }
        assert!(w.ledger.circuit_changes().is_empty(), "{status}");
    }
}

/// A bridge that is refused holds everything and one customer that is holds no other.
#[tokio::test]
async fn a_refused_bridge_holds_everything_a_refused_customer_not() {
    let w = world(|_| {}).await;
    let forbidden = Reply::Held { status: 403 };
    for _ in 0..3 {
        w.mock.then(answer(403, "")).then(answer(403, "")).then(answer(204, ""));
    }
    for _ in 0..3 {
        assert_eq!(within(w.ask(&find("C-1"))).await, forbidden);
        assert_eq!(within(w.ask(&find("C-1"))).await, forbidden);
        assert_eq!(within(w.ask(&delete())).await, Reply::Done(deleted()));
    }
    for _ in 0..3 {
        w.mock.then(answer(403, ""));
        assert_eq!(within(w.ask(&delete())).await, forbidden);
    }
    assert_eq!(w.client.paused_until(), None, "it may still be one customer's");
    w.mock.then(answer(403, ""));
    assert!(within(w.client.probe()).await);
    assert_eq!(within(w.ask(&create())).await, forbidden);
    assert_eq!(w.mock.seen().0.len(), 13, "the last one was not sent");
    assert_eq!(w.ledger.circuit_changes(), [true]);

    // About the organisation there is nothing to wait for.
    for (status, calls) in [(403, 1), (404, 1), (302, 1), (401, 2)] {
        let w = world(|_| {}).await;
        for _ in 0..calls {
            w.mock.then(answer(status, ""));
        }
        assert_eq!(within(w.poll()).await, Reply::Held { status });
        assert_eq!(w.ledger.circuit_changes(), [true], "{status}");
    }
}

#[tokio::test]
async fn an_organisation_that_was_not_there_is_what_the_probe_looks_for() {
    let w = world(|_| {}).await;
    w.mock.then(answer(404, "{}"));
    assert_eq!(within(w.ask(&create())).await, Reply::Held { status: 404 });
    // The id is unknown in an organisation that is there, and in one that is not.
    for (status, is_open) in [(404, true), (200, false)] {
        w.clock.advance(Duration::from_secs(60));
        w.mock.then(answer(status, "[]"));
        assert!(within(w.client.probe()).await);
        assert_eq!(matches!(w.client.outlook(), Outlook::Open { .. }), is_open);
    }
}

/// No probe falls into a pause and after one that no answer ended it shows the end.
#[tokio::test]
async fn no_probe_falls_into_a_pause() {
    let w = world(|_| {}).await;
    w.mock.then(Act::Answer(429, vec![("retry-after", "600".to_owned())], String::new())).then(answer(404, ""));
    within(w.ask(&delete())).await;
    for seconds in [0, 599, 1] {
        w.clock.advance(Duration::from_secs(seconds));
        assert!(!within(w.client.probe()).await);
    }
    assert!(!w.client.health().is_clear(w.clock.now()), "nobody has seen it yet");
    w.clock.advance(Duration::from_secs(5));
    assert!(within(w.client.probe()).await);
    assert!(w.client.health().is_clear(w.clock.now()));
}

#[tokio::test]
async fn a_slower_pace_is_kept_and_told_and_passes() {
    let w = world(|settings| settings.requests_per_second = 100).await;
    w.mock.then(answer(429, ""));
    assert_eq!(within(w.ask(&delete())).await, Reply::Busy { after: None });
    assert_eq!(w.client.paused_until(), None, "slower is not paused");
    assert_eq!(w.client.outlook(), Outlook::Slowed { per_second: 70, of: 100 });
    let delete = delete();
    within(join_all((0..15).map(|_| w.ask(&delete)))).await;
    let (seen, _) = w.mock.seen();
    // 14 gaps at 70 a second, whatever the machine does in between.
    let took = seen[15].at.since(seen[1].at);
    assert!(took >= Duration::from_millis(14 * 1_000 / 70 - 30), "{took:?}");
    w.clock.advance(Duration::from_secs(7));
    assert_eq!(w.client.outlook(), Outlook::Clear);
}

#[tokio::test]
async fn a_full_budget_is_no_failure_of_the_event_that_waited() {
    let w = world(|settings| {
        settings.max_in_flight = 1;
        settings.timeout = Duration::from_secs(300);
    })
    .await;
    let gate = Arc::new(Semaphore::new(0));
    w.mock.then(Act::Gated(gate.clone(), String::new()));
    let delete = delete();
    let mut first = Box::pin(w.ask(&delete));
    let came = w.mock.until_calls(1);
    within(async {
        tokio::select! { _ = &mut first => panic!("answered"), () = came => {} }
    })
    .await;
    tokio::time::pause();
    let reply = tokio::time::timeout(Duration::from_secs(60), w.ask(&delete)).await.expect("in time");
    assert_eq!(reply, Reply::Busy { after: None });
    tokio::time::resume();
    gate.add_permits(1);
    assert_eq!(within(first).await, Reply::Done(deleted()));
}

#[tokio::test]
async fn a_call_whose_claim_has_ended_is_not_sent_and_says_nothing_about_podero() {
    let w = world(|_| {}).await;
    let over = w.clock.now();
    for _ in 0..20 {
        let reply = within(w.client.call(&create(), None, over)).await;
        assert_eq!(reply, unsent("the claim's time was over"));
    }
    assert!(w.mock.seen().0.is_empty() && w.ledger.circuit_changes().is_empty());
}

#[tokio::test]
async fn events_overtake_polls_that_came_before_them() {
    let w = world(|settings| settings.max_in_flight = 1).await;
    let gate = Arc::new(Semaphore::new(0));
    w.mock.then(Act::Gated(gate.clone(), String::new()));
    let delete = delete();
    let first = tokio::spawn({
        let (client, delete) = (w.client.clone(), delete.clone());
        async move { client.call(&delete, None, EVENT).await }
    });
    within(w.mock.until_calls(1)).await;
    let mut polls: Vec<_> = (0..3).map(|_| Box::pin(w.client.list_users())).collect();
    let mut events: Vec<_> = (0..3).map(|_| Box::pin(w.ask(&delete))).collect();
    // Each takes its place in the queue when it is first polled: the polls first.
    assert!(polls.iter_mut().all(|poll| poll.now_or_never().is_none()));
    assert!(events.iter_mut().all(|event| event.now_or_never().is_none()));
    gate.add_permits(1);
    within(async { tokio::join!(join_all(polls), join_all(events), first) }).await.2.expect("ran");
    let methods: Vec<String> = w.mock.seen().0.into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["DELETE", "DELETE", "DELETE", "DELETE", "GET", "GET", "GET"]);
}

#[tokio::test]
async fn polls_keep_a_share_under_a_long_row_of_events() {
    let w = world(|settings| settings.max_in_flight = 1).await;
    let delete = delete();
    let mut poll = Box::pin(w.client.list_users());
    let events: Vec<_> = (0..60).map(|_| w.ask(&delete)).collect();
    let mut events = Box::pin(join_all(events));
    assert!((&mut events).now_or_never().is_none());
    assert!((&mut poll).now_or_never().is_none());
    within(async { tokio::join!(events, poll) }).await;
    let (seen, _) = w.mock.seen();
    let place = seen.iter().position(|seen| seen.method == "GET");
    assert!(place.is_some_and(|place| place < 40), "{place:?}");
}

#[tokio::test]
async fn the_budget_is_never_exceeded() {
    let w = world(|settings| {
        settings.max_in_flight = 3;
        settings.requests_per_second = 20;
    })
    .await;
    let delete = delete();
    within(w.ask(&delete)).await;
    let events = join_all((0..8).map(|_| w.ask(&delete)));
    let polls = join_all((0..8).map(|_| w.client.list_users()));
    within(async { tokio::join!(events, polls) }).await;
    let (seen, _) = w.mock.seen();
    // 17 requests at 20 a second: 16 gaps of 50 ms, whatever the machine does in between.
    let took = seen[16].at.since(seen[0].at);
    assert!(took >= Duration::from_millis(16 * 50 - 60), "{took:?}");
    assert!(w.mock.script.lock().expect("whole").in_flight_max <= 3);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back() {
    let w = world(|settings| settings.max_in_flight = 1).await;
    w.mock.then(Act::Silence);
    let delete = delete();
    let mut dropped = Box::pin(w.ask(&delete));
    let came = w.mock.until_calls(1);
    within(async {
        tokio::select! { _ = &mut dropped => panic!("answered"), () = came => {} }
    })
    .await;
    drop(dropped);
    assert_eq!(within(w.ask(&delete)).await, Reply::Done(deleted()));
}

#[tokio::test]
async fn without_its_dispatcher_a_call_is_unsent() {
    let mock = Mock::start().await;
    let (client, dispatcher) = Client::new(settings(&mock.base_url), Clock::system(), ()).expect("good settings");
    drop(dispatcher);
    let reply = within(client.call(&delete(), None, EVENT)).await;
    assert!(matches!(reply, Reply::Unsent { .. }), "{reply:?}");
}

#[tokio::test]
async fn check_says_what_is_wrong() {
    let refused = |status| Err(Unfit::Organisation(status));
    for (token, call, expect) in [
        (None, answer(200, "[]"), Ok(())),
        (None, answer(403, ""), refused(403)),
        (None, answer(404, ""), refused(404)),
        (None, answer(401, ""), refused(401)),
        (None, answer(302, ""), Err(Unfit::Away("it redirects; check podero.base_url"))),
        (None, answer(500, ""), Err(Unfit::Failing(500))),
        (None, answer(418, ""), Err(Unfit::Status(418))),
        (None, Act::Cut, Err(Unfit::Away("connection cut"))),
        (Some(answer(401, "")), answer(200, "[]"), Err(Unfit::Credentials(401))),
    ] {
        let mock = Mock::start().await;
        if let Some(token) = token {
            mock.token_then(token);
        }
        mock.then(call);
        let (client, _dispatcher) = Client::new(settings(&mock.base_url), Clock::system(), ()).expect("good settings");
        mock.then(answer(404, ""));
        let mut steps = Vec::new();
        assert_eq!(within(client.check(|checked| steps.push((checked.step, checked.outcome)))).await, expect);
        if expect.is_ok() {
            assert_eq!(steps, [("token", Ok(200)), ("organisation", Ok(200)), ("find_user", Ok(404))]);
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused_and_the_secret_is_never_shown() {
    let attempt = |change: fn(&mut Settings)| {
        let mut settings = settings("https://podero.example");
        change(&mut settings);
        assert!(!format!("{settings:?}").contains("the-secret"));
        Client::new(settings, Clock::system(), ()).err()
    };
    assert!(attempt(|_| {}).is_none());
    assert!(matches!(attempt(|s| s.base_url = "podero.example".to_owned()), Some(Error::BaseUrl)));
    assert!(matches!(attempt(|s| s.max_in_flight = 0), Some(Error::NoBudget(_))));
    assert!(matches!(attempt(|s| s.requests_per_second = 0), Some(Error::NoBudget(_))));
    assert!(matches!(attempt(|s| s.client_id = "a:b".to_owned()), Some(Error::Credentials)));
    assert!(matches!(attempt(|s| s.client_secret = String::new()), Some(Error::Credentials)));
}
