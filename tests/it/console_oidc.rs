//! The login at the console by OpenID Connect, over HTTP: against a provider that others wrote (`tests/oidc-provider`), and against one of
//! our own that signs what the first never would.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use podero_bridge::clock::Clock;
use podero_bridge::config::Config;
use podero_bridge::domain::identity::Role;
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::operators::add_operator;
use crate::running::Environment;
use crate::world::{Settings, World};

const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "/console/login/oidc/callback";
const SESSION: &str = "__Host-podero-bridge-session";
const LOGIN: &str = "__Secure-podero-bridge-login";
/// Where browsers reach the console. No browser of these tests goes there: it comes back to the same path of the bridge itself.
const BASE_URL: &str = "https://bridge.utility.example";

fn toml(issuer: &str) -> String {
    format!(
        "[console]\nbase_url = \"{BASE_URL}\"\n[console.oidc]\nissuer = \"{issuer}\"\nname = \"Utility SSO\"\nclient_id = \"bridge\"\n\
         client_secret = \"the-secret-of-the-bridge\"\nroles_claim = \"groups\"\n[console.oidc.roles]\n\"/staff/readers\" = \"viewer\"\n\
         \"c0ffee00-0000-4000-8000-000000000001\" = \"support\"\n\"bridge admins\" = \"admin\"\n"
    )
}

async fn bridge(issuer: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    World::start_on(folder, url, Settings { toml: toml(issuer), environment: Vec::new() }).await
}

/// A browser that follows no redirect.
struct Browser {
    http: Client,
    root: String,
    cookies: BTreeMap<String, String>,
}

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().expect("text"))
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let all = self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().expect("text"));
        all.into_iter().find(|cookie| cookie.starts_with(&format!("{name}=")))
    }
}

impl Browser {
    fn of(world: &World) -> Self {
        let http = Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
        Self { http, root: world.operator(""), cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: RequestBuilder) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { status, headers, text: answer.text().await.expect("text") }
    }

    async fn get(&mut self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.root))).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.http.post(format!("{}{path}", self.root)).body(form(fields));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request.header("sec-fetch-site", "same-origin")).await
    }

    /// Goes to the provider; returns the address there.
    async fn begin(&mut self, next: &str) -> String {
        let page = self.get(&format!("/console/login/oidc?next={next}")).await;
        assert_eq!(page.status, 303, "{}", page.text);
        page.location().to_owned()
    }

    /// Comes back from the provider to this address of the console.
    async fn come_back(&mut self, address: &str) -> Page {
        self.get(address.strip_prefix(BASE_URL).expect("an address of the console")).await
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    body.finish()
}

fn query(address: &str) -> BTreeMap<String, String> {
    Url::parse(address).expect("an address").query_pairs().into_owned().collect()
}

/// The provider that others wrote.
pub struct Provider {
    child: Child,
    pub issuer: String,
    http: Client,
    // It dies of its next line if nobody takes it.
    _output: BufReader<ChildStderr>,
}

impl Provider {
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc-provider");
        let mut child = Command::new(script).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut output = BufReader::new(child.stderr.take().expect("it is piped"));
        let issuer = loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("text");
            assert!(read > 0, "the provider did not start; pip and the network are needed once");
            if let Some((_, rest)) = line.split_once("running on ") {
                break rest.split_whitespace().next().expect("an address").to_owned();
            }
        };
        let http = Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
        Self { child, issuer, http, _output: output }
    }

    pub async fn has(&self, subject: &str, claims: &Value) {
        let address = format!("{}/users/{subject}", self.issuer);
        let answer = self.http.put(address).json(claims).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// A person logs in there; returns the address to which the provider leads back.
    async fn log_in(&self, address: &str, subject: &str) -> String {
        let request = self.http.post(address).body(form(&[("sub", subject)]));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 302);
        answer.headers().get(LOCATION).expect("a way back").to_str().expect("text").to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everyone has the highest of their roles, under a session like that of an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_of_the_provider_has_their_highest_mapped_role() {
    let provider = Provider::start();
    let world = bridge(&provider.issuer).await;
    let login = Browser::of(&world).get("/console/login?next=/console/parked").await;
    assert!(login.text.contains("Log in with Utility SSO"), "{}", login.text);
    assert!(login.text.contains("/console/login/oidc?next=%2Fconsole%2Fparked"), "{}", login.text);
    let support = "c0ffee00-0000-4000-8000-000000000001";
    let mut rows = Vec::new();
    for (subject, groups, role) in [
        ("anna", json!(["/staff/readers", "other"]), Role::Viewer),
        ("bert", json!([support, "/staff/readers"]), Role::Support),
        ("cleo", json!(["/staff/readers", "bridge admins", support]), Role::Admin),
        ("dora", json!("bridge admins"), Role::Admin),
    ] {
        provider.has(subject, &json!({"groups": groups, "preferred_username": "never shown"})).await;
        let mut browser = Browser::of(&world);
        browser.cookies.insert(SESSION.to_owned(), "chosen-by-another".to_owned());
        let address = browser.begin("%2Fconsole%3Fx%3D1").await;
        let back = provider.log_in(&address, subject).await;
        let page = browser.come_back(&back).await;
        assert_eq!((page.status, page.location()), (303, "/console?x=1"), "{subject}: {}", page.text);
        let cookie = page.cookie(SESSION).expect("a session");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Secure"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("chosen-by-another") && !browser.cookies.contains_key(LOGIN));
        let page = browser.get("/console").await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains(&format!("oidc:{subject}")) && page.text.contains(role.name()), "{}", page.text);
        assert!(!page.text.contains("never shown"));
        rows.push(format!("oidc:{subject} session done - {role}"));
        if subject == "anna" {
            assert_eq!(browser.post("/console/logout", &[]).await.status, 303);
            assert_eq!(browser.get("/console").await.status, 303, "it is over");
        }
    }
    assert_eq!(world.audited("session.open").await, rows);
    assert_eq!(world.audited("session.close").await, ["oidc:anna session done - -"]);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_a_mapped_role_is_refused_and_written_down() {
    let provider = Provider::start();
    let world = bridge(&provider.issuer).await;
    for (subject, claims) in [
        ("none", json!({})),
        ("other", json!({"groups": ["bridge", "Bridge Admins", "/staff"]})),
        ("elsewhere", json!({"roles": ["bridge admins"], "groups": []})),
    ] {
        provider.has(subject, &claims).await;
        let mut browser = Browser::of(&world);
        let back = provider.log_in(&browser.begin("").await, subject).await;
        let page = browser.come_back(&back).await;
        assert_eq!((page.status, page.cookie(SESSION)), (403, None), "{subject}");
        assert!(page.text.contains("You have no role here"), "{}", page.text);
        let code = query(&back).remove("code").expect("a code");
        assert!(!page.text.contains(&code), "the code is never shown again");
        assert_eq!(browser.get("/console").await.status, 303);
    }
    let refused =
        ["none", "other", "elsewhere"].map(|subject| format!("oidc:{subject} route refused no_mapped_role -"));
    assert_eq!(world.audited("session.open").await, refused);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_one_login_of_the_browser_that_began_it() {
    let provider = Provider::start();
    let world = bridge(&provider.issuer).await;
    provider.has("anna", &json!({"groups": ["/staff/readers"]})).await;
    let mut browser = Browser::of(&world);
    let address = browser.begin("").await;
    let asked = query(&address);
    assert_eq!((asked["code_challenge_method"].as_str(), asked["response_type"].as_str()), ("S256", "code"));
    assert_eq!(asked["redirect_uri"], format!("{BASE_URL}{CALLBACK}"));
    assert!(asked["state"].len() >= 43 && asked["nonce"].len() >= 43 && asked["state"] != asked["nonce"]);
    let sealed = browser.cookies[LOGIN].clone();
    for name in ["state", "nonce", "code_challenge"] {
        assert!(!sealed.contains(&asked[name]), "{name} is not in the cookie");
    }
    let back = provider.log_in(&address, "anna").await;
    let code = query(&back).remove("code").expect("a code");
    // Another browser: without the cookie, and with that of a login of its own.
    let mut stranger = Browser::of(&world);
    assert_eq!(stranger.come_back(&back).await.status, 400, "no cookie");
    stranger.begin("").await;
    assert_eq!(stranger.come_back(&back).await.status, 400, "the cookie of another login");
    let wrong = [
        format!("{CALLBACK}?code={code}&state={}", asked["nonce"]),
        format!("{CALLBACK}?code={code}&state="),
        format!("{CALLBACK}?code={code}"),
        format!("{CALLBACK}?error=access_denied"),
        format!("{CALLBACK}?state={}", asked["state"]),
        CALLBACK.to_owned(),
    ];
    for address in &wrong {
        let page = browser.get(address).await;
        assert_eq!((page.status, page.cookie(SESSION)), (400, None), "{address}");
    }
    let mut forger = Browser::of(&world);
    let first = if sealed.starts_with('0') { "1" } else { "0" };
    forger.cookies.insert(LOGIN.to_owned(), format!("{first}{}", &sealed[1..]));
    assert_eq!(forger.come_back(&back).await.status, 400, "a changed cookie");
    // The login goes on in spite of the others, and ends once.
    let page = browser.come_back(&back).await;
    assert_eq!((page.status, page.location()), (303, "/console"), "{}", page.text);
    assert!(page.cookie(LOGIN).expect("a removal").contains(&format!("Path={CALLBACK}")));
    let mut again = Browser::of(&world);
    assert_eq!(again.come_back(&back).await.status, 400, "the cookie has gone");
    again.cookies.insert(LOGIN.to_owned(), sealed);
    let page = again.come_back(&back).await;
    assert_eq!((page.status, page.cookie(SESSION)), (400, None), "the code was used");
    let rows = world.audited("session.open").await;
    assert!(rows.contains(&"bridge route refused wrong_login_state -".to_owned()), "{rows:?}");
    assert!(rows.contains(&"bridge route refused provider_refused -".to_owned()), "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.contains("session done")).count(), 1, "{rows:?}");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_provider_has_a_page_with_its_status() {
    let provider = Provider::start();
    let world = bridge(&provider.issuer).await;
    for (error, status) in [
        ("access_denied", 403),
        ("temporarily_unavailable", 503),
        ("server_error", 503),
        ("invalid_scope", 502),
        ("%3Cscript%3E", 502),
    ] {
        let mut browser = Browser::of(&world);
        let state = query(&browser.begin("").await).remove("state").expect("a state");
        let page = browser.get(&format!("{CALLBACK}?error={error}&error_description=x&state={state}")).await;
        assert_eq!((page.status, page.cookie(SESSION)), (status, None), "{error}");
        assert!(!page.text.contains("<script>") && !page.text.contains(&state), "{}", page.text);
    }
    assert_eq!(world.audited("session.open").await, ["bridge route refused provider_refused -"; 5]);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_the_provider_returns_to_this_console_alone() {
    let provider = Provider::start();
    let world = bridge(&provider.issuer).await;
    provider.has("anna", &json!({"groups": ["/staff/readers"]})).await;
    for (next, expected) in [
        ("%2Fconsole%2Fparked%3Freason%3Drefused%26x%3D1", "/console/parked?reason=refused&x=1"),
        ("https%3A%2F%2Fevil.example%2F", "/console"),
        ("%2F%2Fevil.example", "/console"),
        ("%2Fconsole%2F%2Fevil.example", "/console"),
        ("%2F%5Cevil.example", "/console"),
        ("javascript%3Aalert(1)", "/console"),
    ] {
        let mut browser = Browser::of(&world);
        let back = provider.log_in(&browser.begin(next).await, "anna").await;
        let page = browser.come_back(&back).await;
        assert_eq!((page.status, page.location()), (303, expected), "{next}");
    }
    world.bridge.stop().await;
}

/// The bridge starts without its provider, and operators with a password log in.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_provider_operators_log_in_by_password() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let environment: Environment = vec![("STORE__URL", url.clone())];
    let settings = Settings { toml: toml(&format!("http://{closed}")), environment: Vec::new() };
    let world = World::start_on(tempfile::tempdir().expect("a folder"), url, settings).await;
    add_operator(folder.path(), &environment, "anna", Role::Admin, PASSWORD);
    let mut browser = Browser::of(&world);
    for _ in 0..2 {
        let page = browser.get("/console/login/oidc").await;
        assert_eq!(page.status, 503, "{}", page.text);
        assert!(page.text.contains("The identity provider does not answer"), "{}", page.text);
    }
    assert_eq!(browser.get("/console/login").await.status, 200);
    let page = browser.post("/console/login", &[("name", "anna"), ("password", PASSWORD)]).await;
    assert_eq!((page.status, page.location()), (303, "/console"), "{}", page.text);
    assert_eq!(browser.get("/console").await.status, 200);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_openid_connect_its_paths_are_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let world = World::start_on(folder, url, Settings::default()).await;
    let mut browser = Browser::of(&world);
    for path in ["/console/login/oidc", CALLBACK] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    assert!(!browser.get("/console/login").await.text.contains("/console/login/oidc"));
    world.bridge.stop().await;
}

/// A provider of our own: it answers each code with the token that the test has made.
struct OwnProvider {
    issuer: String,
    key: EcdsaKeyPair,
    answer: Mutex<(u16, Value)>,
    /// The fields of the last request for a token.
    asked: Mutex<BTreeMap<String, String>>,
}

impl OwnProvider {
    async fn start() -> Arc<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let provider = Self { issuer, key, answer: Mutex::new((500, Value::Null)), asked: Mutex::default() };
        let provider = Arc::new(provider);
        let shared = web::Data::from(provider.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/.well-known/openid-configuration", web::get().to(metadata))
                .route("/keys", web::get().to(keys))
                .route("/token", web::post().to(token))
        });
        let server = server.workers(1).disable_signals().listen(listener).expect("a server").run();
        tokio::spawn(server);
        provider
    }

    fn claims(&self, nonce: &str) -> Map<String, Value> {
        let now = now();
        let claims = json!({
            "iss": self.issuer, "aud": "bridge", "sub": "anna", "nonce": nonce, "iat": now, "exp": now + 300,
            "groups": ["/staff/readers"],
        });
        claims.as_object().expect("an object").clone()
    }

    fn signed(&self, header: &Value, claims: &Map<String, Value>, key: &EcdsaKeyPair) -> String {
        let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(json!(claims).to_string()));
        let signature = key.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        format!("{text}.{}", BASE64.encode(signature.as_ref()))
    }

    fn answers(&self, status: u16, answer: Value) {
        *self.answer.lock().expect("no code panics while it holds this") = (status, answer);
    }
}

fn now() -> i64 {
    Clock::system().now().micros() / 1_000_000
}

async fn metadata(provider: web::Data<OwnProvider>) -> HttpResponse {
    let issuer = &provider.issuer;
    HttpResponse::Ok().json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn keys(provider: web::Data<OwnProvider>) -> HttpResponse {
    let point = provider.key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    HttpResponse::Ok().json(
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256", "x": x, "y": y}]}),
    )
}

async fn token(provider: web::Data<OwnProvider>, body: String) -> HttpResponse {
    let asked = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    *provider.asked.lock().expect("no code panics while it holds this") = asked;
    let (status, answer) = provider.answer.lock().expect("no code panics while it holds this").clone();
    let status = actix_web::http::StatusCode::from_u16(status).expect("a status");
    let mut response = HttpResponse::build(status);
    if status.is_redirection() {
        response.insert_header(("location", format!("{}/keys", provider.issuer)));
    }
    response.json(answer)
}

/// Each flaw of a token, and of the answer that brings it, opens no session.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_for_this_login_opens_no_session() {
    let provider = OwnProvider::start().await;
    let world = bridge(&provider.issuer).await;
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let header = json!({"alg": "ES256", "kid": "1", "typ": "JWT"});
    let none = json!({"alg": "none"});
    let (time, long) = (now(), "x".repeat(2 * 1024 * 1024));
    for (name, claim, value, status) in [
        ("good", "", json!(null), 303),
        ("its end is within the tolerance", "exp", json!(time - 30), 303),
        ("its issue is within the tolerance", "iat", json!(time + 30), 303),
        ("a wrong nonce", "nonce", json!("other"), 502),
        ("a nonce of another form", "nonce", json!(null), 502),
        ("a foreign issuer", "iss", json!("https://evil.example"), 502),
        ("a foreign audience", "aud", json!("another-client"), 502),
        ("a further audience", "aud", json!(["bridge", "another-client"]), 502),
        ("expired", "exp", json!(time - 120), 502),
        ("of the future", "iat", json!(time + 120), 502),
        ("a foreign key", "key", json!(null), 502),
        ("no signature", "alg", json!(null), 502),
        ("no name", "sub", json!(""), 502),
        ("a long answer", "long", json!(null), 503),
        ("no token", "token", json!(null), 502),
        ("a redirect", "redirect", json!(null), 503),
        ("an error", "error", json!(null), 503),
        ("a refusal", "grant", json!(null), 400),
    ] {
        let mut browser = Browser::of(&world);
        let asked = query(&browser.begin("").await);
        let mut claims = provider.claims(&asked["nonce"]);
        if claims.contains_key(claim) {
            claims.insert(claim.to_owned(), value);
        }
        let token = match claim {
            "key" => provider.signed(&header, &claims, &other),
            "alg" => {
                let token = provider.signed(&none, &claims, &provider.key);
                format!("{}.", token.rsplit_once('.').expect("a signature").0)
            }
            _ => provider.signed(&header, &claims, &provider.key),
        };
        let answer =
            json!({"access_token": "access-token", "token_type": "Bearer", "expires_in": 300, "id_token": token});
        match claim {
            "token" => provider.answers(200, json!({"access_token": "access-token", "token_type": "Bearer"})),
            "long" => provider.answers(200, json!({"access_token": long})),
            "redirect" => provider.answers(302, answer),
            "error" => provider.answers(500, json!({"error": "server_error"})),
            "grant" => provider.answers(400, json!({"error": "invalid_grant"})),
            _ => provider.answers(200, answer),
        }
        let page = browser.get(&format!("{CALLBACK}?code=the-code&state={}", asked["state"])).await;
        assert_eq!(page.status, status, "{name}: {}", page.text);
        assert_eq!(page.cookie(SESSION).is_some(), status == 303, "{name}");
        assert!(!page.text.contains("the-code") && !page.text.contains("access-token"), "{name}: {}", page.text);
        let exchange = provider.asked.lock().expect("no code panics while it holds this").clone();
        let challenge = BASE64.encode(Sha256::digest(&exchange["code_verifier"]));
        assert_eq!((exchange["code"].as_str(), &challenge), ("the-code", &asked["code_challenge"]), "{name}");
    }
    let rows = world.audited("session.open").await;
    let count = |part: &str| rows.iter().filter(|row| row.contains(part)).count();
    assert_eq!((count("session done"), count("wrong_id_token"), count("provider_refused")), (3, 11, 1), "{rows:?}");
    world.bridge.stop().await;
}

#[test]
fn the_keys_of_openid_connect_need_each_other() {
    let problems = |toml: &str| {
        let text = format!("[http]\nlisten = \"127.0.0.1:0\"\n[[source]]\nname = \"a\"\nverify = \"none\"\n{toml}");
        let found = Config::parse(&text, &BTreeMap::new(), true);
        found.err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    assert_eq!(problems(&toml("https://login.utility.example")), "");
    for (toml, expected) in [
        ("[console.oidc]\nissuer = \"https://a.example\"\n".to_owned(), "console.base_url"),
        ("[console.oidc]\nissuer = \"https://a.example\"\n".to_owned(), "console.oidc.client_secret"),
        ("[console.oidc]\nissuer = \"https://a.example\"\n".to_owned(), "console.oidc.roles"),
        ("[console.oidc]\nclient_id = \"a\"\n".to_owned(), "console.oidc.issuer"),
        (toml("http://login.utility.example"), "console.oidc.issuer"),
        (toml("https://a.example/?x=1"), "console.oidc.issuer"),
        (toml("https://a.example").replace("\"admin\"", "\"owner\""), "console.oidc.roles"),
        (toml("https://a.example").replace("\"bridge admins\"", "\"a, b\""), "console.oidc.roles"),
        ("[console]\noidc = 1\n".to_owned(), "allowed: a table, [console.oidc]"),
    ] {
        assert!(problems(&toml).contains(expected), "{expected} in {}", problems(&toml));
    }
}
