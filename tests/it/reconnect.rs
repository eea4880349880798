//! The owner's own way back, over HTTP: the page behind the link of an alert, its button, and what each threat meets.

use std::time::Duration;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::reconnect::{LinkSigner, TokenUse, sign};
use reqwest::header::{ACCEPT_LANGUAGE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::running::{Running, on_file};
use crate::world::{Database, Settings, World, event, sign_up, until};

const SECRET: &str = "a-secret-of-the-tests-that-signs-links";
const OLD_SECRET: &str = "an-older-secret-that-only-verifies-links";
const BASE_URL: &str = "https://heat.utility.example";
const DAY: Duration = Duration::from_hours(24);

const WATCH: &str = r#"
[watch]
interval = "1s"
disconnect_after = "0s"
disconnect_polls = 1
reconnect_after = "0s"
reconnect_polls = 1
heating_season = "none"
"#;

/// A customer whose heat pump has lost its connection, and the pages for them.
struct Lost {
    world: World,
    browser: Client,
    pump: Uuid,
    user: Uuid,
}

/// An answer to a browser that follows no redirect.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, text: answer.text().await.expect("a text") }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }

    /// The title of its page.
    fn title(&self) -> &str {
        let title = self.text.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>"));
        title.unwrap_or_else(|| panic!("{} {}", self.status, self.text)).0
    }
}

fn settings(more: &str) -> Settings {
    let secrets = format!("secrets = [\"{SECRET}\", \"{OLD_SECRET}\"]");
    let toml = format!("{WATCH}[reconnect]\nenabled = true\nbase_url = \"{BASE_URL}\"\n{secrets}\n{more}\n");
    Settings { toml, environment: Vec::new() }
}

impl Lost {
    async fn start() -> Self {
        Self::start_with(settings("")).await
    }

    async fn start_with(settings: Settings) -> Self {
        let world = World::start(Database::Sqlite, settings).await;
        world.ready().await;
        let english = HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static("en-GB,en;q=0.9"))]);
        let browser = Client::builder().redirect(Policy::none()).default_headers(english).build().expect("a client");
        world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
        let state = world.sandbox_state().await;
        let user: Uuid = state["users"][0]["id"].as_str().and_then(|id| id.parse().ok()).expect("a user");
        let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
        let (_, made) = world.post(&url, "application/json", json!({"manufacturer": "Vaillant"}).to_string()).await;
        let pump: Uuid = made["id"].as_str().and_then(|id| id.parse().ok()).expect("a heat pump");
        let lost = Self { world, browser, pump, user };
        lost.seen("connected").await;
        lost.lapse().await;
        lost
    }

    async fn lapse(&self) {
        let lapse = self.world.sandbox(&format!("/heat-pumps/{}/lapse", self.pump));
        assert_eq!(self.world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
        self.seen("disconnected").await;
    }

    async fn detail(&self) -> Value {
        self.world.get(&self.world.operator(&format!("/v1/heat-pumps/{}", self.pump))).await
    }

    /// Waits until the watch has seen the heat pump so.
    async fn seen(&self, state: &str) {
        until("the watch has seen it", async || (self.detail().await["state"] == state).then_some(())).await;
    }

    fn token(&self, secret: &str, since: Timestamp) -> String {
        sign(secret, TokenUse::Link, self.pump, self.user, since)
    }

    /// The token of a loss a moment ago.
    fn fresh(&self) -> String {
        self.token(SECRET, now())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.browser.request(method, self.world.door(path))
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    async fn open(&self, token: &str) -> Answer {
        self.get(&format!("/r/{token}")).await
    }

    async fn click(&self, token: &str) -> Answer {
        Answer::of(self.request(Method::POST, &format!("/r/{token}"))).await
    }

    /// The owner logs in at the manufacturer on the partner's page; the address to which that leads them back.
    async fn log_in(&self, partner: &str) -> String {
        let (address, query) = partner.split_once('?').expect("a query");
        let form = self.browser.post(address).header("content-type", "application/x-www-form-urlencoded");
        Answer::of(form.body(format!("{query}&outcome=connect"))).await.header("location").to_owned()
    }

    /// Calls that the sandbox got, of an operation.
    async fn calls(&self, operation: &str) -> usize {
        let requests = self.world.get(&self.world.sandbox("/requests")).await;
        let requests = requests.as_array().or(requests["requests"].as_array()).cloned().unwrap_or_default();
        requests.iter().filter(|request| request["operation"] == operation).count()
    }

    async fn count(&self, name: &str) -> f64 {
        self.world.metric(&format!("podero_bridge_reconnect_{name}")).await.unwrap_or_else(|| panic!("no {name}"))
    }

    async fn refusals(&self, reason: &str) -> f64 {
        self.count(&format!("refused_total{{reason=\"{reason}\"}}")).await
    }

    async fn uses(&self) -> Vec<String> {
        self.world.audited("link.use").await
    }
}

fn now() -> Timestamp {
    podero_bridge::clock::Clock::system().now()
}

/// Opening the page makes nothing, also for scanners of mails that open links, with GET or HEAD, as often as they like.
#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_that_opens_the_link_changes_nothing() {
    let lost = Lost::start().await;
    let token = lost.fresh();
    for _ in 0..8 {
        assert_eq!(lost.open(&token).await.status, 200);
        let head = Answer::of(lost.request(Method::HEAD, &format!("/r/{token}"))).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    assert_eq!(lost.calls("resolve_cue").await, 0);
    assert_eq!((lost.uses().await, lost.world.audited("podero.resolve_cue").await), (vec![], vec![]));
    assert_eq!((lost.count("opened_total").await, lost.count("used_total").await), (16.0, 0.0));
    assert_eq!(lost.detail().await["close_watch"], Value::Null, "nothing is polled more often");
    lost.world.bridge.stop().await;
}

/// The page has the headers that keep its address to the reader, and nothing that says who the reader is.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_no_personal_data_no_script_and_leaks_no_address() {
    let more = "operator_name = \"Stadtwerke & Söhne\"\ncontact = \"0800 000000\"\nlogo = \"docs/../deploy/../src/console/icon.svg\"";
    let lost = Lost::start_with(settings(more)).await;
    let page = lost.open(&lost.fresh()).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for (name, expected) in [
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-robots-tag", "noindex, nofollow"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(page.header(name), expected, "{name}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("form-action") && !policy.contains("unsafe"), "{policy}");
    for shown in ["Stadtwerke &amp; Söhne", "0800 000000", "data:image/svg+xml;base64,", "<form method=\"post\">"] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    let ids = [lost.pump.to_string(), lost.user.to_string()];
    let secrets = ["C-1", "Anna", "example.com", "Hauptstrasse", "Vaillant", "<script", "http://", "https://"];
    for hidden in ids.iter().map(String::as_str).chain(secrets) {
        assert!(!page.text.contains(hidden), "{hidden}: {}", page.text);
    }
    lost.world.bridge.stop().await;
}

/// The click makes the partner's link and leads there; the way back says that it worked, and the alert is resolved.
#[tokio::test(flavor = "multi_thread")]
async fn the_button_leads_to_the_partners_page_and_back() {
    let lost = Lost::start().await;
    let token = lost.fresh();
    assert_eq!(lost.open(&token).await.title(), "Connect your heat pump again");
    let answer = lost.click(&token).await;
    let partner = answer.header("location").to_owned();
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert!(partner.contains("/connect?reconnection_id=") && !partner.contains("secret"), "{partner}");
    assert_eq!((answer.header("referrer-policy"), answer.header("cache-control")), ("no-referrer", "no-store"));
    assert_eq!(lost.uses().await, ["bridge heat_pump done - -"]);
    assert_eq!(
        lost.world.audited("podero.resolve_cue").await,
        ["unknown begun", "done -"].map(|told| format!("bridge heat_pump {told} -"))
    );
    assert!(lost.world.audited("link.create").await.is_empty(), "no agent has made one");
    assert!(lost.detail().await["close_watch"]["until"].is_string(), "it is polled often");
    let landing = lost.log_in(&partner).await.strip_prefix(BASE_URL).expect("our own page").to_owned();
    assert!(landing.starts_with("/r/") && landing.ends_with("/done?lang=en") && !landing.contains(&token), "{landing}");
    until("the page says that it worked", async || {
        let page = lost.get(&landing).await;
        let is_waiting = page.title() == "Almost done";
        assert_eq!((page.status, page.header("refresh") == "10"), (200, is_waiting), "{}", page.text);
        (!is_waiting).then(|| assert_eq!(page.title(), "It worked: your heat pump is connected again"))
    })
    .await;
    until("the alert is resolved", async || lost.detail().await["alert"].is_null().then_some(())).await;
    until("it is counted", async || (lost.count("succeeded_total").await == 1.0).then_some(())).await;
    let stopped = lost.get(&landing.replace("/done", "/stopped")).await;
    assert_eq!((stopped.status, stopped.title()), (200, "Nothing was changed"));
    // The same link says that there is nothing to do, and makes nothing.
    let (opened, clicked) = (lost.open(&token).await, lost.click(&token).await);
    assert_eq!([opened.status, clicked.status], [200, 200]);
    assert_eq!([opened.title(), clicked.title()], ["Your heat pump is connected"; 2]);
    assert_eq!((lost.calls("resolve_cue").await, lost.refusals("connected").await), (1, 1.0));
    assert_eq!(lost.uses().await[1], "bridge heat_pump refused connected -");
    lost.world.bridge.stop().await;
}

/// The alert carries a link that is the same for one occurrence, and no agent's link is changed by that.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_carries_the_link_of_its_loss() {
    let lost = Lost::start().await;
    let alert = lost.detail().await["alert"].clone();
    let since = alert["since"].as_str().and_then(Timestamp::parse).expect("a moment");
    let signer = LinkSigner { base_url: BASE_URL.to_owned(), secret: SECRET.to_owned() };
    let customer = lost.world.get(&lost.world.operator("/v1/customers/C-1")).await;
    let link = signer.link(lost.pump, lost.user, since);
    let mut notices = customer["notices"].as_array().expect("a list").iter();
    let sent = notices.find(|notice| notice["type"] == "heat_pump.disconnected").expect("the alert");
    assert_eq!(sent["data"]["reconnect_url"], json!(link));
    let token = link.rsplit('/').next().expect("a token");
    assert_eq!(lost.open(token).await.title(), "Connect your heat pump again");
    lost.world.bridge.stop().await;
}

/// The link that an agent makes needs no landing page of the utility's: its customer comes back to the bridge's.
#[tokio::test(flavor = "multi_thread")]
async fn an_agents_link_leads_back_to_the_bridges_page() {
    let lost = Lost::start().await;
    let path = lost.world.operator(&format!("/v1/heat-pumps/{}/reconnect-link", lost.pump));
    let (status, link) = lost.world.post(&path, "application/json", String::new()).await;
    assert_eq!(status, 200, "{link}");
    let back = lost.log_in(link["url"].as_str().expect("a link")).await;
    let landing = back.strip_prefix(BASE_URL).expect("our own page");
    assert_eq!(lost.get(landing).await.status, 200, "{landing}");
    assert_eq!((lost.world.audited("link.create").await.len(), lost.uses().await), (1, vec![]));
    lost.world.bridge.stop().await;
}

/// A guess costs no look into the store and no call; a token of one page is none of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_guessed_or_made_for_another_page_does_not_work() {
    let lost = Lost::start().await;
    let of_another = sign("another-secret-that-this-bridge-has-not", TokenUse::Link, lost.pump, lost.user, now());
    let landing = sign(SECRET, TokenUse::Landing, lost.pump, lost.user, now());
    let changed = format!("{}A", &lost.fresh()[..lost.fresh().len() - 1]);
    for wrong in [of_another.as_str(), &landing, &changed, "x", "%00", &"A".repeat(76), &"A".repeat(5_000)] {
        let (opened, clicked) = (lost.open(wrong).await, lost.click(wrong).await);
        assert_eq!((opened.status, clicked.status), (404, 404), "{wrong}");
        assert_eq!(opened.title(), "This link does not work");
        let is_repeated = wrong.len() > 3 && opened.text.contains(wrong);
        assert!(!opened.text.contains("<form") && !is_repeated, "{}", opened.text);
    }
    let link = lost.fresh();
    assert_eq!(lost.get(&format!("/r/{link}/done")).await.status, 404, "the link of an alert is no landing page");
    let waiting = lost.get(&format!("/r/{landing}/done")).await;
    assert_eq!((waiting.status, waiting.title()), (200, "Almost done"));
    assert_eq!(lost.refusals("forged").await, 15.0);
    assert_eq!(lost.calls("resolve_cue").await, 0);
    let uses = lost.uses().await;
    // The one of the landing page is ours, and names its heat pump.
    let strangers = uses.iter().filter(|row| *row == "bridge route refused forged -").count();
    assert_eq!((strangers, uses.len()), (6, 7), "{uses:?}");
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = Answer::of(lost.request(method, &format!("/r/{link}"))).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, POST"));
    }
    lost.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_dead_when_its_time_is_over() {
    let lost = Lost::start().await;
    let old = lost.token(SECRET, now().minus(DAY * 30));
    for answer in [lost.open(&old).await, lost.click(&old).await] {
        assert_eq!((answer.status, answer.title()), (410, "This link has expired"));
        assert!(!answer.text.contains("<form"), "{}", answer.text);
    }
    let young = lost.token(SECRET, now().minus(DAY * 30 - Duration::from_mins(5)));
    assert_eq!(lost.open(&young).await.status, 200);
    assert_eq!(lost.uses().await, ["bridge heat_pump refused expired -"]);
    lost.world.bridge.stop().await;
}

/// A forwarded link is the owner's alone: it shows nothing about them, and is dead with a change of owner and with a churn.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_dead_after_a_change_of_owner_and_after_a_churn() {
    let lost = Lost::start().await;
    let link = lost.fresh();
    let of_the_owner_before = sign(SECRET, TokenUse::Link, lost.pump, Uuid::from_u128(1), now());
    for answer in [lost.open(&of_the_owner_before).await, lost.click(&of_the_owner_before).await] {
        assert_eq!((answer.status, answer.title()), (404, "This link does not work"));
    }
    assert_eq!(lost.open(&link).await.status, 200);
    let churn = event("e2", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-1"}));
    lost.world.apply(&churn).await;
    for answer in [lost.open(&link).await, lost.click(&link).await] {
        assert_eq!((answer.status, answer.title()), (404, "This link does not work"));
    }
    let rows = ["other_owner", "ended"].map(|reason| format!("bridge heat_pump refused {reason} -"));
    assert_eq!(lost.uses().await, rows);
    assert_eq!((lost.refusals("other_owner").await, lost.refusals("ended").await), (2.0, 2.0));
    assert_eq!(lost.calls("resolve_cue").await, 0);
    lost.world.bridge.stop().await;
}

/// Neither the host of a request nor an address in it chooses where the owner is led; the partner's page needs TLS.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_chooses_where_it_leads() {
    let lost = Lost::start().await;
    let link = lost.fresh();
    let path = format!("/r/{link}?success_url=https://evil.example&next=//evil.example&lang=//evil.example");
    let request = lost.request(Method::POST, &path).header("host", "evil.example");
    let request = request.header("x-forwarded-host", "evil.example").header("forwarded", "host=evil.example");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body("url=https://evil.example");
    let answer = Answer::of(request).await;
    assert!(answer.status == 303 && !answer.header("location").contains("evil"), "{}", answer.header("location"));
    let back = lost.log_in(answer.header("location")).await;
    assert!(back.starts_with(&format!("{BASE_URL}/r/")) && !back.contains("evil"), "{back}");
    lost.seen("connected").await;
    lost.lapse().await;
    // A page of Podero's that is no page for a customer.
    for address in
        ["http://connect.podero.invalid/a", "javascript:alert(1)", "https://user:word@connect.podero.invalid/"]
    {
        lost.world.patch_pump(&lost.pump.to_string(), &json!({"actions": [], "authorization_url": address})).await;
        let answer = lost.click(&lost.fresh()).await;
        assert!(answer.headers.get(LOCATION).is_none() && answer.status != 303, "{address}");
    }
    let address = "https://connect.podero.invalid/authorize";
    lost.world.patch_pump(&lost.pump.to_string(), &json!({"actions": [], "authorization_url": address})).await;
    let answer = lost.click(&lost.fresh()).await;
    assert_eq!((answer.status, answer.header("location")), (303, address), "the older way");
    lost.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_link_and_each_address_has_its_limit() {
    let lost = Lost::start().await;
    let link = lost.fresh();
    for _ in 0..5 {
        assert_eq!(lost.click(&link).await.status, 303);
    }
    let answer = lost.click(&link).await;
    assert_eq!((answer.status, answer.title(), answer.header("retry-after")), (429, "Too many tries", "900"));
    assert_eq!(lost.uses().await.pop(), Some("bridge route refused limited -".to_owned()));
    // Another link of the same heat pump has a limit of its own: one who holds a dead one locks nobody out.
    assert_eq!(lost.click(&lost.token(SECRET, now().minus(DAY))).await.status, 303);
    assert_eq!(lost.calls("resolve_cue").await, 6);
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(lost.click("guess").await.status);
    }
    // With the seven before it are thirty.
    assert_eq!(
        (statuses[..23].iter().all(|status| *status == 404), statuses[23..].iter().all(|status| *status == 429)),
        (true, true)
    );
    assert_eq!(lost.open(&lost.fresh()).await.status, 200, "reading has a limit of its own");
    lost.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_podero_is_away_or_asks_nothing_the_page_says_what_to_do() {
    let lost = Lost::start().await;
    for (operation, row) in [("get_heat_pump", "failed no_link"), ("resolve_cue", "failed no_link")] {
        lost.world.fault(&json!({"operation": operation, "kind": "status", "status": 500})).await;
        let answer = lost.click(&lost.fresh()).await;
        assert_eq!((answer.status, answer.title()), (503, "This does not work at the moment"), "{operation}");
        assert_eq!(answer.header("retry-after"), "60");
        assert_eq!(lost.uses().await.pop(), Some(format!("bridge heat_pump {row} -")));
        lost.world.no_faults().await;
    }
    let nothing = json!({"actions": [], "action_needed": false, "authorization_url": null});
    lost.world.patch_pump(&lost.pump.to_string(), &nothing).await;
    let answer = lost.click(&lost.fresh()).await;
    assert_eq!((answer.status, answer.title()), (200, "No new login is needed"), "{}", answer.text);
    assert_eq!(lost.uses().await.pop(), Some("bridge heat_pump refused no_reconnection -".to_owned()));
    assert!(lost.detail().await["close_watch"]["until"].is_string(), "it is looked at soon");
    lost.world.bridge.stop().await;
}

/// The customer's own language goes first, then the browser's, then that of the country; a link at the foot chooses another.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_speaks_the_language_of_its_reader() {
    let lost = Lost::start().await;
    let link = lost.fresh();
    let title = async |query: &str, accepted: Option<&str>| {
        let request = Client::new().get(lost.world.door(&format!("/r/{link}{query}")));
        let request = accepted.iter().fold(request, |request, accepted| request.header("accept-language", *accepted));
        let page = Answer::of(request).await;
        let language = page.text.split("<html lang=\"").nth(1).and_then(|rest| rest.split('"').next());
        (language.expect("a language").to_owned(), page.title().to_owned())
    };
    let of = |language: &str, title: &str| (language.to_owned(), title.to_owned());
    let german = of("de", "Verbinden Sie Ihre Wärmepumpe wieder");
    assert_eq!(title("", None).await, german, "the home is in Germany");
    assert_eq!(title("", Some("fr")).await, german);
    assert_eq!(title("", Some("hu-HU,hu;q=0.9,en;q=0.8")).await.0, "hu");
    assert_eq!(title("?lang=et", Some("hu")).await, of("et", "Ühendage oma soojuspump uuesti"));
    assert_eq!(title("?lang=fr", Some("hu")).await.0, "hu");
    let update = json!({"customer_id": "C-1", "language": "sv-SE"});
    lost.world.apply(&event("e2", "customer.updated", "2026-10-02T12:00:00Z", &update)).await;
    assert_eq!(title("", Some("hu")).await.0, "sv", "the customer has said it");
    assert_eq!(title("?lang=pl", Some("hu")).await.0, "pl");
    // The chosen language goes along to the partner's page and back.
    let answer = Answer::of(lost.request(Method::POST, &format!("/r/{link}?lang=pl"))).await;
    assert_eq!(answer.status, 303);
    let back = lost.log_in(answer.header("location")).await;
    assert!(back.ends_with("/done?lang=pl"), "{back}");
    // A stranger with a dead link does not learn which language the owner reads.
    let dead = lost.token(SECRET, now().minus(DAY * 31));
    let page = Client::new().get(lost.world.door(&format!("/r/{dead}"))).header("accept-language", "it");
    let page = Answer::of(page).await;
    assert_eq!(page.title(), "Questo link è scaduto");
    lost.world.bridge.stop().await;
}

/// While secrets are rotated both verify; links of one that is removed are dead, without a restart where the secrets are in a file.
#[tokio::test(flavor = "multi_thread")]
async fn links_of_a_rotated_secret_work_and_of_a_removed_one_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secrets");
    std::fs::write(&file, format!("{SECRET}\n{OLD_SECRET}\n")).expect("written");
    let toml = format!(
        "{WATCH}[reconnect]\nenabled = true\nbase_url = \"{BASE_URL}\"\nsecrets_file = \"{}\"\n",
        file.display()
    );
    let lost = Lost::start_with(Settings { toml, environment: Vec::new() }).await;
    let (old, new) = (lost.token(OLD_SECRET, now()), lost.fresh());
    assert_eq!((lost.open(&old).await.status, lost.open(&new).await.status), (200, 200));
    assert_eq!(lost.click(&old).await.status, 303, "and its button");
    std::fs::write(&file, format!("{SECRET}\n")).expect("written");
    until("the file is read again", async || (lost.open(&old).await.status == 404).then_some(())).await;
    assert_eq!((lost.click(&old).await.status, lost.open(&new).await.status), (404, 200));
    lost.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_section_there_are_no_pages_and_no_links() {
    let lost = Lost::start_with(Settings { toml: WATCH.to_owned(), environment: Vec::new() }).await;
    for answer in [lost.open(&lost.fresh()).await, lost.click(&lost.fresh()).await] {
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"));
    }
    lost.world.bridge.stop().await;
}

/// The token stands nowhere but in the address: not in the log at its finest level, not in a metric, not in a row.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_in_the_log_a_metric_or_a_row_of_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = on_file(folder.path());
    environment.extend([
        ("RECONNECT__ENABLED", "true".to_owned()),
        ("RECONNECT__BASE_URL", BASE_URL.to_owned()),
        ("RECONNECT__SECRETS", SECRET.to_owned()),
        ("LOG__LEVEL", "trace".to_owned()),
    ]);
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = Client::new();
    let token = sign(SECRET, TokenUse::Link, Uuid::from_u128(1), Uuid::from_u128(2), now());
    let forged = sign(OLD_SECRET, TokenUse::Link, Uuid::from_u128(1), Uuid::from_u128(2), now());
    for path in [format!("/r/{token}"), format!("/r/{forged}"), format!("/r/{token}/done"), format!("/r/{token}/x")] {
        let url = format!("{}{path}", bridge.door);
        assert_eq!(http.get(&url).send().await.expect("an answer").status(), 404);
        http.post(&url).send().await.expect("an answer");
    }
    let admin = |path: &str| http.get(format!("{}{path}", bridge.operator)).send();
    let metrics = admin("/metrics").await.expect("an answer").text().await.expect("a text");
    let audit = admin("/v1/audit").await.expect("an answer").text().await.expect("a text");
    let log = bridge.log();
    assert!(metrics.contains("reconnect_refused_total{reason=\"forged\"} "), "{metrics}");
    assert!(audit.contains("link.use") && audit.contains("/r/{token}"), "{audit}");
    for (name, text) in [("the log", &log), ("the metrics", &metrics), ("the audit log", &audit)] {
        for part in [&token[..40], &token[40..], &forged[..40], SECRET] {
            assert!(!text.contains(part), "{name} shows a token or a secret");
        }
    }
}
