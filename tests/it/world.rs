//! A whole bridge inside a test: the real composition on free ports, with the sandbox as its Podero.
//!
//! Tests look at it as outsiders do: by HTTP at its listeners and at the sandbox, by AMQP at its broker. A wait looks again until
//! it is so, with a deadline that only a hang reaches.

use std::net::SocketAddr;
use std::time::Duration;

use podero_bridge::app::{Bridge, Limits, Options};
use podero_bridge::config::{Config, Strings};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};

/// Timeout of a wait: a busy two-core machine is slow; a hang is slower.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Every test's settings begin with these: free ports, a budget that is not what is tested.
const BASE: &str = r#"
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[sandbox]
listen = "127.0.0.1:0"
seed = 1
[podero]
requests_per_second = 10000
timeout = "3s"
[retry]
initial = "100ms"
max = "1s"
"#;

/// A bridge that runs, and a client to look at it with.
pub struct World {
    pub bridge: Bridge,
    pub http: reqwest::Client,
    /// Address of its Podero's controls.
    controls: SocketAddr,
    /// URL of its store.
    store: String,
    /// `admin.token`, where it is configured.
    token: Option<String>,
    _folder: tempfile::TempDir,
}

/// The place of the store.
pub enum Database {
    Sqlite,
    Postgres(String),
}

/// Differences from [`BASE`].
#[derive(Default)]
pub struct Settings {
    /// More TOML; sections that [`BASE`] does not have.
    pub toml: String,
    /// More keys, as environment variables without their prefix: `("AMQP__URL", …)`.
    pub environment: Vec<(&'static str, String)>,
}

impl Settings {
    /// The sandbox's account, at this address, and a source like that of `--sandbox`.
    fn of_account(&mut self, podero: SocketAddr) {
        let account = podero_bridge::sandbox::SandboxAccount::default();
        self.environment.extend([
            ("PODERO__BASE_URL", format!("http://{podero}")),
            ("PODERO__ORG_ID", account.org_id.to_string()),
            ("PODERO__CLIENT_ID", account.client_id),
            ("PODERO__CLIENT_SECRET", account.client_secret),
        ]);
        self.toml.push_str("[[source]]\nname = \"default\"\nverify = \"none\"\n");
    }
}

/// Options that no configuration has.
#[derive(Default)]
pub struct Extra {
    /// Bounds of the webhook listener.
    pub limits: Limits,
    /// The sandbox that is Podero, if it does not run inside the bridge.
    pub controls: Option<SocketAddr>,
}

impl World {
    pub async fn start(database: Database, settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = match database {
            Database::Sqlite => crate::kit::sqlite_url(folder.path()),
            Database::Postgres(url) => url,
        };
        Self::start_on(folder, url, settings).await
    }

    /// Against a Podero that does not run inside the bridge: `front` is its way there, `controls` the sandbox behind it.
    pub async fn start_against(front: SocketAddr, controls: SocketAddr, mut settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = crate::kit::sqlite_url(folder.path());
        settings.of_account(front);
        Self::start_with(folder, url, settings, Extra { controls: Some(controls), ..Extra::default() }).await
    }

    /// On a store and a Podero (a sandbox without anything in between) that outlive the bridge.
    pub async fn start_beside(podero: SocketAddr, url: &str, mut settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        settings.of_account(podero);
        Self::start_with(folder, url.to_owned(), settings, Extra { controls: Some(podero), ..Extra::default() }).await
    }

    /// On a store that outlives the bridge.
    pub async fn start_on(folder: tempfile::TempDir, url: String, settings: Settings) -> Self {
        Self::start_with(folder, url, settings, Extra::default()).await
    }

    /// With bounds of the webhook listener, or a Podero, of the test's own.
    pub async fn start_with(folder: tempfile::TempDir, url: String, settings: Settings, extra: Extra) -> Self {
        let Extra { limits, controls } = extra;
        let mut environment = Strings::new();
        environment.insert("PODERO_BRIDGE__STORE__URL".into(), url.clone());
        let token = settings.environment.iter().find(|(key, _)| *key == "ADMIN__TOKEN").map(|(_, token)| token.clone());
        for (key, value) in settings.environment {
            environment.insert(format!("PODERO_BRIDGE__{key}"), value);
        }
        let toml = format!("{BASE}{}", settings.toml);
        let config = Config::parse(&toml, &environment, controls.is_none()).expect("the test's settings are valid");
        let worker = Some(env!("CARGO_BIN_EXE_podero-bridge").into());
        let options = Options { sandbox: controls.is_none(), limits, worker, ..Options::default() };
        let bridge = Bridge::start(config, options).await.expect("the bridge starts");
        let controls = controls.or(bridge.sandbox).expect("a Podero runs");
        Self { bridge, http: reqwest::Client::new(), controls, store: url, token, _folder: folder }
    }

    pub fn door(&self, path: &str) -> String {
        format!("http://{}{path}", self.bridge.http)
    }

    pub fn operator(&self, path: &str) -> String {
        format!("http://{}{path}", self.bridge.admin)
    }

    pub fn sandbox(&self, path: &str) -> String {
        format!("http://{}/_sandbox{path}", self.controls)
    }

    /// Sends one event to the webhook endpoint; the answer's status and body.
    pub async fn send(&self, event: &Value) -> (u16, Value) {
        self.post(&self.door("/v1/events"), "application/cloudevents+json", event.to_string()).await
    }

    pub async fn post(&self, url: &str, content_type: &str, body: String) -> (u16, Value) {
        let request = self.http.post(url).header("content-type", content_type).body(body);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub async fn get(&self, url: &str) -> Value {
        let answer = self.http.get(url).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    pub async fn get_text(&self, url: &str) -> (u16, String) {
        let answer = self.http.get(url).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    pub async fn patch_pump(&self, pump: &str, fields: &Value) {
        let request = self.http.patch(self.sandbox(&format!("/heat-pumps/{pump}")));
        let answer = request.header("content-type", "application/json").body(fields.to_string()).send().await;
        assert!(answer.expect("an answer").status().is_success());
    }

    pub async fn fault(&self, rule: &Value) {
        let (status, body) = self.post(&self.sandbox("/faults"), "application/json", rule.to_string()).await;
        assert_eq!(status, 201, "{body}");
    }

    pub async fn no_faults(&self) {
        self.http.delete(self.sandbox("/faults")).send().await.expect("an answer");
    }

    pub async fn sandbox_state(&self) -> Value {
        self.get(&self.sandbox("/state")).await
    }

    /// The rows of the audit log of an action, in order: actor, kind of the target, outcome, reason, and state after it.
    pub async fn audited(&self, action: &str) -> Vec<String> {
        sqlx::any::install_default_drivers();
        let mut store = AnyConnection::connect(&self.store).await.expect("the store is there");
        let rows = "SELECT actor || ' ' || target_kind || ' ' || outcome || ' ' || COALESCE(reason, '-') || ' ' || \
                    COALESCE(became, '-') FROM audit WHERE action = $1 ORDER BY id";
        sqlx::query_scalar(rows).bind(action).fetch_all(&mut store).await.expect("the audit log")
    }

    /// The actions of an actor's rows of the audit log that were done or refused by a rule, in order; without refused access.
    pub async fn rows_by(&self, actor: &str) -> Vec<String> {
        sqlx::any::install_default_drivers();
        let mut store = AnyConnection::connect(&self.store).await.expect("the store is there");
        let rows = "SELECT action FROM audit WHERE actor = $1 AND action <> 'access.use' ORDER BY id";
        sqlx::query_scalar(rows).bind(actor).fetch_all(&mut store).await.expect("the audit log")
    }

    /// Waits until every part says that it is well.
    pub async fn ready(&self) {
        until("the bridge is ready", async || {
            let (status, _) = self.get_text(&self.operator("/readyz")).await;
            (status == 200).then_some(())
        })
        .await;
    }

    /// The value of one series.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get_text(&self.operator("/metrics")).await;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Waits until an event has left the states in which the bridge still works on it.
    pub async fn settled(&self, id: &str) -> Value {
        until("the event is settled", async || {
            let request = self.http.get(self.operator(&format!("/v1/events/{id}")));
            let request = self.token.iter().fold(request, |request, token| request.bearer_auth(token));
            let event: Value = request.send().await.expect("an answer").json().await.expect("JSON");
            let state = event["state"].as_str().unwrap_or_else(|| panic!("no event: {event}"));
            (state != "pending").then_some(event)
        })
        .await
    }

    /// Sends an event, expects it to be taken, and waits for its end.
    pub async fn apply(&self, event: &Value) -> Value {
        let (status, answer) = self.send(event).await;
        assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
        self.settled(answer["id"].as_str().expect("an id")).await
    }
}

/// Looks until there is something, or [`PATIENCE`] is over.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

/// Looks until there is something, or `patience` is over.
pub async fn until_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(patience, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            podero_bridge::pump::sleep(LOOK_EVERY).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited {patience:?} in vain until {what}"))
}

/// A CloudEvent of the billing system.
pub fn event(id: &str, type_name: &str, time: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/billing", "type": type_name, "time": time, "data": data,
    })
}

/// A sign-up with an address.
pub fn sign_up(id: &str, customer: &str, time: &str) -> Value {
    event(
        id,
        "customer.signed_up",
        time,
        &json!({
            "customer_id": customer,
            "email": format!("{customer}@example.com"),
            "first_name": "Anna",
            "address": {"street_and_number": "Hauptstrasse 1", "zip_code": "01067", "town": "Dresden", "country": "DE"},
        }),
    )
}
