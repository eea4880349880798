//! The console over HTTP, as a browser without scripts uses it: logins and sessions, what is refused, and the pages.

use std::time::Duration;

use podero_bridge::admin::ApiMethod;
use podero_bridge::console::ConsoleRoute;
use podero_bridge::domain::identity::{Actor, Role};
use podero_bridge::domain::session::{IDLE_MAX, LIFE_MAX};
use podero_bridge::store::{Operator, OperatorChange, SESSIONS_PER_OPERATOR_MAX, SessionHolder, SessionSecret};
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::json;

use crate::file::expect;
use crate::kit::{StoreFixture, on_both_databases};
use crate::operators::add_operator;
use crate::running::{self, Environment};
use crate::world::{Settings, World, sign_up};

const PASSWORD: &str = "correct horse battery";
const TOKEN: &str = "a-token-of-the-tests-for-admins";

/// A bridge with an operator of each role, and browsers to visit its console with.
pub struct House {
    pub world: World,
    environment: Environment,
    folder: tempfile::TempDir,
}

/// A browser that keeps cookies by hand and follows no redirect.
pub struct Visitor {
    http: Client,
    root: String,
    cookie: Option<String>,
}

pub struct Page {
    pub status: u16,
    headers: HeaderMap,
    pub text: String,
}

impl Page {
    async fn of(answer: Response) -> Self {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, text: answer.text().await.expect("text") }
    }

    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().expect("text"))
    }

    /// The cookie of a session that the answer sets.
    fn session(&self) -> Option<String> {
        let all = self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().expect("text").to_owned());
        all.into_iter().find(|cookie| cookie.contains("podero-bridge-session="))
    }
}

impl House {
    pub async fn open(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        let world = World::start_on(tempfile::tempdir().expect("a folder"), url.clone(), settings).await;
        Self { world, environment: vec![("STORE__URL", url)], folder }
    }

    pub async fn with_operators(mut settings: Settings) -> Self {
        settings.environment.push(("ADMIN__TOKEN", TOKEN.to_owned()));
        let house = Self::open(settings).await;
        house.add_operators();
        house
    }

    /// Adds an operator of each role; from then on the API wants credentials.
    pub fn add_operators(&self) {
        for role in Role::ALL {
            add_operator(self.folder.path(), &self.environment, role.name(), role, PASSWORD);
        }
    }

    /// The address of its store.
    pub fn store_url(&self) -> &str {
        &self.environment[0].1
    }

    pub fn visitor(&self) -> Visitor {
        let http = Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
        Visitor { http, root: self.world.operator(""), cookie: None }
    }

    pub async fn logged_in(&self, name: &str) -> Visitor {
        let mut visitor = self.visitor();
        let page = visitor.log_in(name, PASSWORD).await;
        assert_eq!((page.status, page.location()), (303, "/console"), "{}", page.text);
        visitor
    }
}

impl Visitor {
    async fn send(&self, request: RequestBuilder) -> Page {
        let request = self.cookie.iter().fold(request, |request, cookie| request.header("cookie", cookie));
        Page::of(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.root))).await
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body =
            fields.iter().fold(url::form_urlencoded::Serializer::new(String::new()), |mut all, (name, value)| {
                all.append_pair(name, value);
                all
            });
        let request = self.http.post(format!("{}{path}", self.root)).body({ body }.finish());
        request.header("content-type", "application/x-www-form-urlencoded")
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(self.form(path, fields).header("sec-fetch-site", "same-origin")).await
    }

    async fn log_in(&mut self, name: &str, password: &str) -> Page {
        let page = self.post("/console/login", &[("name", name), ("password", password)]).await;
        if let Some(cookie) = page.session() {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        page
    }
}

on_both_databases! {
    a_session_ends_left_alone_or_old_and_with_its_operator
}

async fn a_session_ends_left_alone_or_old_and_with_its_operator(fixture: StoreFixture) {
    let (store, by) = (&fixture.store, Actor::Operator("anna".to_owned()));
    let operator = Operator { role: Role::Admin, password_hash: "h".to_owned() };
    assert!(store.add_operator("anna", operator, &by).await.expect("the store is there"));
    let holder = SessionHolder::Operator("anna".to_owned());
    let open = async |before: Option<&SessionSecret>| {
        store.open_session(&holder, &by, Role::Admin, before).await.expect("the store is there")
    };
    let known = async |secret: &SessionSecret| store.session(secret).await.expect("the store is there");
    let first = open(None).await;
    let session = known(&first).await.expect("it goes on");
    assert_eq!((session.role, &session.holder), (Some(Role::Admin), &holder));
    assert!(known(&SessionSecret::given("")).await.is_none());
    assert!(known(&SessionSecret::given(&session.id.to_string())).await.is_none(), "the id of lists opens nothing");
    // The rights are those of the operator now; a demotion ends it.
    let change = |role| OperatorChange { role: Some(role), password_hash: None };
    store.change_operator("anna", change(Role::Support), &by).await.expect("the store is there");
    assert!(known(&first).await.is_none(), "demoted");
    let second = open(None).await;
    store.change_operator("anna", change(Role::Admin), &by).await.expect("the store is there");
    assert_eq!(known(&second).await.expect("promoted").role, Some(Role::Admin));
    let rotated = OperatorChange { role: None, password_hash: Some("other".to_owned()) };
    store.change_operator("anna", rotated, &by).await.expect("the store is there");
    assert!(known(&second).await.is_none(), "another password");
    // Left alone, and used until it is old.
    let third = open(None).await;
    fixture.clock.advance(IDLE_MAX - Duration::from_secs(1));
    let session = known(&third).await.expect("it goes on");
    store.note_session(&session).await.expect("the store is there");
    fixture.clock.advance(IDLE_MAX - Duration::from_secs(1));
    assert!(known(&third).await.is_some(), "it was used");
    fixture.clock.advance(Duration::from_secs(1));
    assert!(known(&third).await.is_none(), "left alone");
    let fourth = open(None).await;
    let mut lived = Duration::ZERO;
    while lived + IDLE_MAX / 2 < LIFE_MAX {
        fixture.clock.advance(IDLE_MAX / 2);
        lived += IDLE_MAX / 2;
        let session = known(&fourth).await.expect("it goes on");
        store.note_session(&session).await.expect("the store is there");
    }
    fixture.clock.advance(LIFE_MAX - lived);
    assert!(known(&fourth).await.is_none(), "old");
    // A login ends the session that the browser had, and the oldest beyond the limit.
    let fifth = open(None).await;
    let sixth = open(Some(&fifth)).await;
    assert!(known(&fifth).await.is_none() && known(&sixth).await.is_some());
    for _ in 0..SESSIONS_PER_OPERATOR_MAX {
        open(None).await;
    }
    assert!(known(&sixth).await.is_none(), "the oldest");
    assert_eq!(store.sessions(None).await.expect("the store is there").len(), SESSIONS_PER_OPERATOR_MAX);
    assert!(store.sessions(Some("bert")).await.expect("the store is there").is_empty());
    let listed = store.sessions(Some("anna")).await.expect("the store is there").remove(0);
    assert!(store.revoke_session(listed.id, &by).await.expect("the store is there"));
    assert!(!store.revoke_session(listed.id, &by).await.expect("the store is there"), "it is over");
    store.remove_operator("anna", true, &by).await.expect("the store is there");
    assert!(store.sessions(None).await.expect("the store is there").is_empty(), "removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_operators_the_login_says_how_to_add_one_and_no_page_is_shown() {
    let house = House::open(Settings::default()).await;
    let visitor = house.visitor();
    let page = visitor.get("/console/login").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("podero-bridge operator add NAME --role admin"), "{}", page.text);
    // The API is open on loopback; the console never is.
    for path in ["/console", "/console/anything", "/console/assets"] {
        let page = visitor.get(path).await;
        assert_eq!(page.status, 303, "{path}");
        assert!(page.location().starts_with("/console/login"), "{path}");
    }
    house.world.bridge.stop().await;
}

/// The cookie is out of reach for scripts, each login has a session of its own, and a logout ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_opens_a_session_of_its_own_and_a_logout_ends_it() {
    let house = House::with_operators(Settings::default()).await;
    let mut visitor = house.visitor();
    // A secret that someone has put there before the login is not taken over.
    visitor.cookie = Some("podero-bridge-session=chosen-by-another".to_owned());
    let page = visitor.log_in("viewer", PASSWORD).await;
    let cookie = page.session().expect("a cookie");
    assert!(!cookie.contains("chosen-by-another"), "{cookie}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("__Host-") && !cookie.contains("Max-Age"), "{cookie}");
    let first = visitor.cookie.clone().expect("a cookie");
    assert_eq!(visitor.get("/console").await.status, 200);
    visitor.log_in("viewer", PASSWORD).await;
    let second = visitor.cookie.clone().expect("a cookie");
    assert_ne!(first, second, "a new one at each login");
    let before = Visitor { cookie: Some(first), ..house.visitor() };
    assert_eq!(before.get("/console").await.status, 303, "the one before has ended");
    let page = visitor.post("/console/logout", &[]).await;
    assert_eq!((page.status, page.location()), (303, "/console/login?ended=1"));
    assert!(page.session().expect("a removal").contains("Max-Age=0"));
    assert_eq!(visitor.get("/console").await.status, 303, "the secret of an ended session opens nothing");
    let opened = house.world.audited("session.open").await;
    assert_eq!(opened, ["operator:viewer session done - viewer"; 2]);
    assert_eq!(house.world.audited("session.close").await, ["operator:viewer session done - -"]);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_limited_and_written_down() {
    let house = House::with_operators(Settings::default()).await;
    let mut visitor = house.visitor();
    for (name, password) in [("viewer", "another horse battery"), ("nobody", PASSWORD), ("", "")] {
        let page = visitor.log_in(name, password).await;
        assert_eq!((page.status, page.session()), (401, None), "{name}");
        assert!(page.text.contains("do not belong together"), "{}", page.text);
        assert!(!page.text.contains(password) || password.is_empty(), "a password is never shown again");
    }
    for _ in 3..10 {
        visitor.log_in("viewer", "another horse battery").await;
    }
    let page = visitor.log_in("viewer", PASSWORD).await;
    assert_eq!(page.status, 429, "the right one, too late");
    assert!(page.headers.contains_key("retry-after") && visitor.cookie.is_none());
    let rows = house.world.audited("session.open").await;
    assert_eq!(rows.first().map(String::as_str), Some("operator:viewer route refused wrong_password -"));
    assert_eq!(
        rows.get(1).map(String::as_str),
        Some("bridge route refused wrong_password -"),
        "no name is written down"
    );
    assert_eq!(rows.last().map(String::as_str), Some("bridge route refused too_many_attempts -"));
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_returns_to_the_page_that_was_asked_for_and_to_no_other_site() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.visitor();
    let page = visitor.get("/console/events/a%22b?x=<1>").await;
    assert_eq!(page.status, 303);
    assert!(page.location().starts_with("/console/login?next=%2Fconsole%2Fevents%2F"), "{}", page.location());
    for (next, expected) in [
        ("/console/parked?reason=refused", "/console/parked?reason=refused"),
        ("https://evil.example/", "/console"),
        ("//evil.example", "/console"),
        ("/console//evil.example", "/console"),
        ("/\\evil.example", "/console"),
        ("/v1/audit", "/console"),
        ("javascript:alert(1)", "/console"),
    ] {
        let fields = [("name", "viewer"), ("password", PASSWORD), ("next", next)];
        let page = visitor.post("/console/login", &fields).await;
        assert_eq!((page.status, page.location()), (303, expected), "{next}");
        let page = visitor.get(&format!("/console/login?next={}", next.replace('&', "%26"))).await;
        let field = format!("action=\"/console/login\"><input type=\"hidden\" name=\"next\" value=\"{expected}\"");
        assert!(page.text.contains(&field), "{next}: {}", page.text);
    }
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_does_nothing() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.logged_in("admin").await;
    let host = visitor.root.trim_start_matches("http://").to_owned();
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("origin", visitor.root.as_str())],
    ] {
        for path in ["/console/logout", "/console/login", "/console/view"] {
            let request = visitor.form(path, &[("name", "viewer"), ("password", PASSWORD)]);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let page = visitor.send(request).await;
            assert_eq!((page.status, page.session()), (403, None), "{path} {headers:?}");
        }
    }
    assert_eq!(visitor.get("/console").await.status, 200, "the session goes on");
    let request = visitor.form("/console/logout", &[]).header("origin", format!("http://{host}"));
    assert_eq!(visitor.send(request).await.status, 303, "an old browser names the origin");
    // A name that resolves to this machine is none of its own.
    let request = visitor.http.get(format!("{}/console/login", visitor.root)).header("host", "rebound.example");
    assert_eq!(visitor.send(request).await.status, 403);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_keep_a_browser_from_harm() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.logged_in("viewer").await;
    let style = {
        let page = visitor.get("/console").await;
        let (_, rest) = page.text.split_once("rel=\"stylesheet\" href=\"").expect("a stylesheet");
        rest.split('"').next().expect("a path").to_owned()
    };
    for (path, status) in
        [("/console", 200), ("/console/login", 303), ("/console/nothing", 404), ("/console/logout", 405), (&style, 200)]
    {
        let page = visitor.get(path).await;
        assert_eq!(page.status, status, "{path}");
        let header = |name: &str| page.headers.get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
        assert_eq!(header("content-security-policy"), policy, "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        let kept = if path == style { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(header("cache-control"), kept, "{path}");
        for bad in [" style=\"", "javascript:", "onclick", "<script>", "http://", "https://"] {
            let text = page.text.replace("http://127.0.0.1:9090", "").replace("http://www.w3.org", "");
            assert!(!text.contains(bad), "{path} has {bad}");
        }
    }
    assert!(visitor.get("/console/assets/console-0000000000000000.css").await.status == 404);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_has_its_status_and_an_id_to_look_for() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.logged_in("viewer").await;
    let page = visitor.get("/console/%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(page.status, 404);
    assert!(
        page.text.contains("The log of the bridge has a line with this id") && !page.text.contains("<script>alert"),
        "{}",
        page.text
    );
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_chooses_language_theme_and_zone_and_keeps_them() {
    let house = House::with_operators(Settings::default()).await;
    let mut visitor = house.visitor();
    let german =
        visitor.http.get(format!("{}/console/login", visitor.root)).header("accept-language", "de-AT,en;q=0.5");
    let page = visitor.send(german).await;
    assert!(page.text.contains("<html lang=\"de\"") && page.text.contains("Anmelden"), "{}", page.text);
    let mut cookie = String::new();
    for (name, value) in [("language", "de"), ("theme", "dark"), ("zone", "Europe/Berlin")] {
        let page = visitor.post("/console/view", &[(name, value), ("next", "/console/login")]).await;
        assert_eq!((page.status, page.location()), (303, "/console/login"), "{name}");
        let set = page.headers.get(SET_COOKIE).expect("a cookie").to_str().expect("text");
        cookie = set.split(';').next().expect("a value").to_owned();
        visitor.cookie = Some(cookie.clone());
    }
    assert_eq!(cookie, "podero-bridge-view=de.dark.Europe/Berlin");
    let page = visitor.get("/console/login").await;
    assert!(page.text.contains("lang=\"de\" data-theme=\"dark\"") && page.text.contains("data-zone=\"Europe/Berlin\""));
    for (name, value) in [("language", "fr"), ("theme", "\"><script>"), ("zone", "Mars/Base")] {
        assert_eq!(visitor.post("/console/view", &[(name, value)]).await.status, 400, "{name}");
    }
    house.world.bridge.stop().await;
}

/// Behind a proxy with TLS the cookie goes over TLS alone, to this host alone.
#[tokio::test(flavor = "multi_thread")]
async fn with_https_the_cookie_is_secure_and_of_this_host() {
    let toml = "[console]\nbase_url = \"https://bridge.utility.example\"\n".to_owned();
    let house = House::with_operators(Settings { toml, environment: Vec::new() }).await;
    let visitor = house.visitor();
    let request = visitor.form("/console/login", &[("name", "viewer"), ("password", PASSWORD)]);
    let request = request.header("host", "bridge.utility.example").header("origin", "https://bridge.utility.example");
    let page = visitor.send(request).await;
    let cookie = page.session().expect("a cookie");
    assert!(cookie.starts_with("__Host-podero-bridge-session=") && cookie.contains("; Secure"), "{cookie}");
    assert!(cookie.contains("Path=/") && !cookie.contains("Domain"), "{cookie}");
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_that_is_off_is_not_there() {
    let house =
        House::open(Settings { toml: "[console]\nenabled = false\n".to_owned(), environment: Vec::new() }).await;
    let page = house.visitor().get("/console/login").await;
    assert_eq!(page.status, 404);
    house.world.bridge.stop().await;
}

/// A session is ended by another: at once, and its row says by whom. A viewer sees no session but their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_listed_and_ended_by_the_api_and_by_the_command() {
    let house = House::with_operators(Settings::default()).await;
    let (first, second) = (house.logged_in("viewer").await, house.logged_in("support").await);
    let list = async |name: &str| {
        let request = house.world.http.get(house.world.operator("/v1/sessions")).basic_auth(name, Some(PASSWORD));
        let answer: serde_json::Value = request.send().await.expect("an answer").json().await.expect("JSON");
        answer["sessions"].as_array().expect("a list").clone()
    };
    let sessions = list("admin").await;
    let operators: Vec<_> = sessions.iter().map(|session| session["operator"].as_str().expect("a name")).collect();
    assert_eq!(operators, ["support", "viewer"]);
    assert_eq!(list("viewer").await, sessions[1..]);
    let [of_support, of_viewer] = [0, 1].map(|at| sessions[at]["id"].as_str().expect("an id").to_owned());
    let revoke = async |name: &str, id: &str| {
        let url = house.world.operator(&format!("/v1/sessions/{id}/revoke"));
        let request = house.world.http.post(url).basic_auth(name, Some(PASSWORD));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(revoke("support", &of_viewer).await, 403);
    assert_eq!(revoke("admin", &of_viewer).await, 200);
    assert_eq!(revoke("admin", &of_viewer).await, 404);
    assert_eq!(first.get("/console").await.status, 303, "ended");
    assert_eq!(second.get("/console").await.status, 200);
    let run = |arguments: &[&str]| running::run(&[&["operator"], arguments].concat(), &house.environment);
    expect(&run(&["sessions"]), 0, &of_support);
    expect(&run(&["end-session", &of_support]), 0, "was ended");
    expect(&run(&["end-session", &of_support]), 1, "no session that goes on has the id");
    expect(&run(&["sessions"]), 0, "no operator is logged in");
    assert_eq!(second.get("/console").await.status, 303, "ended");
    let rows = house.world.audited("session.revoke").await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[..2], ["operator:admin session done - -", "operator:admin session refused unknown_session -"]);
    assert!(
        rows[2].ends_with("session done - -") && rows[3].ends_with("session refused unknown_session -"),
        "{rows:?}"
    );
    house.world.bridge.stop().await;
}

/// The one who starts a sandbox gets in by a link: once, not by opening it alone, and with the rights of the machine's user.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_lets_the_one_who_started_a_sandbox_in_once() {
    let house = House::open(Settings::default()).await;
    let link = house.world.bridge.login_link.clone().expect("a sandbox runs");
    let (root, secret) = link.split_once("/console/login?link=").expect("a link");
    let mut visitor = house.visitor();
    assert_eq!(root, visitor.root);
    for _ in 0..2 {
        let page = visitor.get(&format!("/console/login?link={secret}")).await;
        assert_eq!(page.status, 200, "opening it uses nothing up");
        assert!(page.text.contains(secret) && page.session().is_none());
    }
    assert_eq!(visitor.post("/console/login/link", &[("link", "00")]).await.status, 410);
    let page = visitor.post("/console/login/link", &[("link", secret)]).await;
    assert_eq!((page.status, page.location()), (303, "/console"));
    visitor.cookie = page.session().expect("a cookie").split(';').next().map(str::to_owned);
    assert_eq!(visitor.get("/console").await.status, 200);
    assert_eq!(house.visitor().post("/console/login/link", &[("link", secret)]).await.status, 410, "once");
    assert_eq!(house.visitor().get(&format!("/console/login?link={secret}")).await.status, 410);
    let rows = house.world.audited("session.open").await;
    assert_eq!(rows[1], "token:login-link session done - admin");
    house.world.bridge.stop().await;
}

const TIME: &str = "2026-10-01T12:00:00Z";
const UNKNOWN: &str = "01a208c1-30eb-77e5-80f8-81194b0303c0";
/// An id and names as someone might send who hopes for a page that does not escape them.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

impl House {
    /// Parks a sign-up of each of these customers; the ids of the events.
    async fn park(&self, customers: &[&str]) -> Vec<String> {
        self.world.fault(&json!({"operation": "create_user", "kind": "status", "status": 400})).await;
        let mut parked = Vec::new();
        for customer in customers {
            let event = self.world.apply(&sign_up(&format!("e-{customer}"), customer, TIME)).await;
            assert_eq!(event["state"], "parked", "{event}");
            parked.push(event["id"].as_str().expect("an id").to_owned());
        }
        self.world.no_faults().await;
        parked
    }
}

/// Every page of the table is asked for by each role, and by one who is not logged in. Reading leaves no row.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_for_its_role_and_no_page_that_reads_leaves_a_row() {
    let house = House::with_operators(Settings::default()).await;
    let parked = house.park(&["C-1"]).await;
    for role in Role::ALL {
        let (visitor, stranger) = (house.logged_in(role.name()).await, house.visitor());
        for route in ConsoleRoute::ALL {
            let row = route.row();
            let known = [(ConsoleRoute::Customer, "C-1"), (ConsoleRoute::Event, &*parked[0])];
            let id = known.into_iter().find(|(of, _)| *of == route).map_or(UNKNOWN, |(_, id)| id);
            let path = row.path.replace("{id}", id);
            let Some(needed) = row.role else { continue };
            let is_read = row.method == ApiMethod::Get;
            let page = if is_read { stranger.get(&path).await } else { stranger.post(&path, &[]).await };
            assert_eq!(page.status, 303, "{path}");
            assert!(page.location().starts_with("/console/login"), "{path}: {}", page.location());
            if needed > role {
                let page = if is_read { visitor.get(&path).await } else { visitor.post(&path, &[]).await };
                assert_eq!(page.status, 403, "{path} for {role}");
                assert!(page.text.contains(needed.name()), "{path}: {}", page.text);
            } else if is_read {
                let page = visitor.get(&path).await;
                let others = [(ConsoleRoute::Retry, 404), (ConsoleRoute::HeatPump, 404)];
                let expected = others.into_iter().find(|(of, _)| *of == route).map_or(200, |(_, status)| status);
                assert_eq!(page.status, expected, "{path} for {role}: {}", page.text);
                let is_shown = page.text.contains("Anna") || page.text.contains("C-1@example.com");
                assert!(!is_shown || role >= Role::Support, "{path} shows a person to {role}");
            }
        }
    }
    let rows = house.world.rows_by("operator:admin").await;
    assert_eq!(rows, ["session.open"], "an admin has read everything");
    house.world.bridge.stop().await;
}

/// Each act of the pages is carried out with the caller's rights, and has its row.
#[tokio::test(flavor = "multi_thread")]
async fn parked_events_leave_by_the_pages_and_each_act_has_its_row() {
    let house = House::with_operators(Settings::default()).await;
    let parked = house.park(&["C-1", "C-2", "C-3", "C-4"]).await;
    let visitor = house.logged_in("admin").await;
    let page = visitor.get("/console/parked").await;
    assert!(page.text.contains("refused") && page.text.contains("Podero refuses it"), "{}", page.text);
    let path = |event: &str, act: &str| format!("/console/events/{event}/{act}");
    let page = visitor.post(&path(&parked[0], "skip"), &[("note", HOSTILE)]).await;
    assert_eq!((page.status, page.location()), (303, &*format!("/console/events/{}?done=1", parked[0])));
    assert_eq!(visitor.post(&path(&parked[0], "skip"), &[]).await.status, 409, "it is not parked any more");
    assert_eq!(visitor.post(&path(&parked[1], "approve"), &[]).await.status, 409, "no approval overrides that reason");
    assert_eq!(visitor.post(&path(&parked[1], "retry"), &[]).await.status, 303);
    assert_eq!(visitor.post(&path(UNKNOWN, "retry"), &[]).await.status, 404);
    assert_eq!(visitor.post(&path(&parked[2], "skip"), &[("note", &"x".repeat(501))]).await.status, 400);
    let page = visitor.get(&format!("/console/events/{}", parked[0])).await;
    assert!(page.text.contains("skipped") && page.text.contains("&lt;img src=x") && !page.text.contains("<img"));
    let page = visitor.get("/console/parked/retry?reason=refused").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains(&parked[2]) && page.text.contains(&parked[3]), "{}", page.text);
    let until = page.text.split("name=\"until\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let order = [("reason", "refused"), ("per_second", "1"), ("until", until.expect("the moment of the preview"))];
    let page = visitor.post("/console/parked/retry", &order).await;
    assert_eq!(page.status, 303, "{}", page.text);
    let retry = page.location().to_owned();
    let page = visitor.get(&retry).await;
    assert!(page.status == 200 && page.text.contains("operator:admin"), "who ordered it: {}", page.text);
    assert_eq!(visitor.post(&format!("{retry}/stop"), &[]).await.status, 303);
    // An approval of many, which finds none, has a row of its own kind.
    let approval = [("reason", "churn_brake"), ("approve", "true"), ("per_second", "1")];
    let page = visitor.post("/console/parked/retry", &approval).await;
    assert_eq!(page.status, 303, "{}", page.text);
    let rows = house.world.rows_by("operator:admin").await;
    for action in ["event.skip", "event.retry", "event.approve", "retry.order", "retry.stop", "retry.approve"] {
        assert!(rows.iter().any(|row| row == action), "{action}: {rows:?}");
    }
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_from_outside_is_shown_as_text() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.logged_in("admin").await;
    let mut event = sign_up(HOSTILE, HOSTILE, TIME);
    event["data"]["email"] = json!("anna@example.com");
    event["data"]["first_name"] = json!(HOSTILE);
    event["source"] = json!("/billing?<script>alert(1)</script>");
    house.world.fault(&json!({"operation": "create_user", "kind": "status", "status": 400})).await;
    let (status, answer) = house.world.send(&event).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["id"].as_str().expect("an id").to_owned();
    house.world.settled(&id).await;
    let customer = percent(HOSTILE);
    let search = format!("/console/customers?id={customer}");
    assert_eq!(visitor.get(&search).await.location(), format!("/console/customers/{customer}"));
    let found = visitor.post("/console/customers/find", &[("email", "Anna@Example.com")]).await;
    let mut pages = vec![("find", found.text)];
    let paths = [
        format!("/console/customers/{customer}"),
        "/console/customers?state=parked".to_owned(),
        format!("/console/events/{id}"),
        "/console/parked".to_owned(),
        "/console/parked?reason=refused".to_owned(),
        "/console/parked/retry?reason=refused".to_owned(),
        format!("/console/audit?target={customer}&actor=&action="),
        format!("/console/login?next={customer}"),
    ];
    for path in &paths {
        let page = visitor.get(path).await;
        assert!(matches!(page.status, 200 | 303), "{path}: {} {}", page.status, page.text);
        pages.push((path, page.text));
    }
    for (path, text) in &pages {
        assert!(!text.contains("<img") && !text.contains("<script>alert"), "{path}: {text}");
    }
    let shown = pages.iter().filter(|(_, text)| text.contains("&lt;img src=x")).count();
    assert!(shown >= 5, "{shown} of the pages show it as text");
    house.world.bridge.stop().await;
}

/// An id with every letter escaped that a path may not have.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_show_no_secret_and_a_session_is_ended_there() {
    let house = House::with_operators(Settings::default()).await;
    let (admin, viewer) = (house.logged_in("admin").await, house.logged_in("viewer").await);
    let page = admin.get("/console/settings").await;
    assert!(page.text.contains("retry.initial") && page.text.contains("100ms"), "{}", page.text);
    assert!(!page.text.contains(TOKEN), "a secret is not shown");
    let of_viewer = viewer.get("/console/settings").await;
    assert!(!of_viewer.text.contains("retry.initial") && !of_viewer.text.contains("operator-"), "{}", of_viewer.text);
    let (_, rest) = page.text.split_once("action=\"/console/sessions/").expect("the other session has a button");
    let path = format!("/console/sessions/{}", rest.split('"').next().expect("a path"));
    assert_eq!(admin.post(&path, &[]).await.status, 303);
    assert_eq!(viewer.get("/console/settings").await.status, 303, "ended");
    assert_eq!(admin.get("/console/settings").await.status, 200);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_filtered_and_exported_on_its_page() {
    let house = House::with_operators(Settings::default()).await;
    let visitor = house.logged_in("admin").await;
    let page = visitor.get("/console/audit?action=session.open&actor=&target=&since=&until=").await;
    assert!(page.text.contains("operator:admin") && !page.text.contains("<code>operator.add</code>"), "{}", page.text);
    assert_eq!(visitor.get("/console/audit?since=yesterday").await.status, 400);
    // Dates are days of the chosen zone: on the island of Kiritimati the day begins fourteen hours before UTC's.
    let mut islander = house.logged_in("admin").await;
    let page = islander.post("/console/view", &[("zone", "Pacific/Kiritimati")]).await;
    let chosen = page.headers.get(SET_COOKIE).expect("a cookie").to_str().expect("text");
    let session = islander.cookie.clone().expect("a session");
    islander.cookie = Some(format!("{session}; {}", chosen.split(';').next().expect("a value")));
    let page = islander.get("/console/audit?since=2026-10-02").await;
    assert!(page.text.contains("From, in Pacific/Kiritimati"), "{}", page.text);
    assert!(page.text.contains("since=2026-10-01T10%3A00%3A00"), "the export has the same times: {}", page.text);
    let page = visitor.post("/console/audit/export?format=csv", &[]).await;
    assert_eq!((page.status, page.headers.get("content-disposition").is_some()), (200, true));
    assert_eq!(house.world.audited("audit.export").await.len(), 1);
    assert_eq!(visitor.get("/console/audit/export").await.status, 405, "a link exports nothing");
    house.world.bridge.stop().await;
}
