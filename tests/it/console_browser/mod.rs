//! The console in a headless Chromium, on the real program with the sandbox: pages, acts, logins, and what the script of a page adds.

mod acts;
mod login;
mod pages;
mod script;
mod stories;

use std::collections::BTreeMap;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::identity::Role;
use podero_bridge::store::{BUCKET, BucketCounts, Settings as StoreSettings, Store, bucket_of};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};
use uuid::Uuid;

use crate::kit::{Browser, Fixture, TestDatabase};
use crate::operators::add_operator;
use crate::running::{Environment, Running, on_file};
use crate::world::{event, sign_up, until};

const PASSWORD: &str = "correct horse battery";
const TOKEN: &str = "a-token-of-the-tests-for-admins";
const TIME: &str = "2026-10-01T12:00:00Z";
const LATER: &str = "2026-10-02T12:00:00Z";

const TOML: &str = "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\n[podero]\n\
                    requests_per_second = 10000\n[retry]\ninitial = \"100ms\"\nmax = \"1s\"\n[team]\nenabled = true\n\
                    [[source]]\nname = \"default\"\nverify = \"none\"\ntypes = [\"customer.*\", \"team.*\"]\n";

/// The program with an operator of each role, and a store of its own.
pub struct Office {
    pub bridge: Running,
    pub http: reqwest::Client,
    /// Ids of events by the customer or the member whose they are.
    pub events: BTreeMap<&'static str, String>,
    /// Ids of heat pumps by their owner.
    pub pumps: BTreeMap<&'static str, String>,
    pub environment: Environment,
    /// Whether the store is a file.
    pub is_file: bool,
    _folder: tempfile::TempDir,
    _database: TestDatabase,
}

impl Fixture for Office {
    async fn open(database: TestDatabase, _: usize) -> Self {
        Self::open_with(database, "", &[]).await
    }
}

impl Office {
    /// With more configuration.
    pub async fn open_with(database: TestDatabase, toml: &str, keys: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut environment = on_file(folder.path());
        environment[0].1.clone_from(&database.url);
        environment.push(("ADMIN__TOKEN", TOKEN.to_owned()));
        environment.extend(keys.iter().cloned());
        let config = folder.path().join("config.toml");
        std::fs::write(&config, format!("{TOML}{toml}")).expect("written");
        let arguments = ["--sandbox", "--config", config.to_str().expect("text")];
        let bridge = Running::start(folder.path(), &arguments, &environment);
        for role in Role::ALL {
            add_operator(folder.path(), &environment, role.name(), role, PASSWORD);
        }
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let (events, pumps, is_file) = (BTreeMap::new(), BTreeMap::new(), database.folder.is_some());
        Self { bridge, http, events, pumps, environment, is_file, _folder: folder, _database: database }
    }

    /// Address of a page.
    pub fn page(&self, path: &str) -> String {
        format!("{}{path}", self.bridge.operator)
    }

    async fn post(&self, url: &str, body: &Value) -> Value {
        let request = self.http.post(url).header("content-type", "application/cloudevents+json").body(body.to_string());
        let answer = request.send().await.expect("an answer");
        let (status, body) = (answer.status(), answer.text().await.expect("text"));
        assert!(status.is_success(), "{url}: {status} {body}");
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// An answer of the admin API.
    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(self.page(path)).bearer_auth(TOKEN);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    pub fn sandbox(&self, path: &str) -> String {
        format!("{}/_sandbox{path}", self.bridge.sandbox.as_ref().expect("it runs"))
    }

    /// Sends an event and waits until it is in this state.
    async fn send(&mut self, whose: &'static str, event: &Value, state: &str) {
        let answer = self.post(&format!("{}/v1/events", self.bridge.door), event).await;
        self.events.insert(whose, answer["id"].as_str().expect("an id").to_owned());
        self.reaches(whose, state).await;
    }

    /// Waits until the event of this customer or member is in this state.
    pub async fn reaches(&self, whose: &str, state: &str) {
        let path = format!("/v1/events/{}", self.events[whose]);
        until(&format!("the event of {whose} is {state}"), async || {
            (self.get(&path).await["state"] == state).then_some(())
        })
        .await;
    }

    /// Signs a customer up whose heat pump is of this maker.
    pub async fn with_pump(&mut self, whose: &'static str, maker: &str) {
        self.send(whose, &sign_up(&format!("e-{whose}"), whose, TIME), "applied").await;
        let state: Value =
            self.http.get(self.sandbox("/state")).send().await.expect("there").json().await.expect("JSON");
        let users = state["users"].as_array().expect("users");
        let is_theirs =
            |user: &&Value| user["email"].as_str().is_some_and(|email| email.starts_with(&format!("{whose}@")));
        let user = users.iter().find(is_theirs).expect("a user")["id"].as_str().expect("an id");
        let made =
            self.post(&self.sandbox(&format!("/users/{user}/heat-pumps")), &json!({"manufacturer": maker})).await;
        self.pumps.insert(whose, made["id"].as_str().expect("an id").to_owned());
    }

    /// Waits until the watch has seen a heat pump in this state.
    pub async fn seen(&self, whose: &str, state: &str) {
        let path = format!("/v1/heat-pumps/{}", self.pumps[whose]);
        until(&format!("the heat pump of {whose} is {state}"), async || {
            (self.get(&path).await["state"] == state).then_some(())
        })
        .await;
    }

    /// The heat pump loses its connection.
    pub async fn lapse(&self, whose: &str) {
        self.post(&self.sandbox(&format!("/heat-pumps/{}/lapse", self.pumps[whose])), &json!({})).await;
    }

    /// Parks a sign-up of each of these customers, since Podero refuses it.
    pub async fn refused(&mut self, customers: &[&'static str]) {
        let fault = json!({"operation": "create_user", "kind": "status", "status": 400});
        self.post(&self.sandbox("/faults"), &fault).await;
        for whose in customers {
            self.send(whose, &sign_up(&format!("e-{whose}"), whose, TIME), "parked").await;
        }
        self.http.delete(self.sandbox("/faults")).send().await.expect("an answer");
    }

    /// Parks the churn of each of these customers, since the brake lets none through.
    pub async fn held_by_the_brake(&mut self, customers: &[&'static str]) {
        for whose in customers {
            self.send(whose, &sign_up(&format!("e-{whose}"), whose, TIME), "applied").await;
            let churn = event(&format!("e-churn-{whose}"), "customer.churned", LATER, &json!({"customer_id": whose}));
            self.send(whose, &churn, "parked").await;
        }
    }

    /// A day of a utility: customers with heat pumps of two makers, of which some are lost; events that are parked for several
    /// reasons, that wait and that are announced; colleagues.
    pub async fn with_a_day(mut self) -> Self {
        for (whose, maker) in [("C-1", "Vaillant"), ("C-2", "Nibe"), ("C-3", "Nibe"), ("C-4", "Nibe")] {
            self.with_pump(whose, maker).await;
        }
        for whose in ["C-1", "C-2", "C-3", "C-4"] {
            self.seen(whose, "connected").await;
        }
        for whose in ["C-2", "C-3"] {
            self.lapse(whose).await;
            self.seen(whose, "disconnected").await;
        }
        self.refused(&["C-17", "C-18", "C-19"]).await;
        let taken = json!({"customer_id": "C-20", "email": "C-1@example.com"});
        self.send("C-20", &event("e-C-20", "customer.signed_up", TIME, &taken), "parked").await;
        let moved = json!({"customer_id": "C-21", "address": {"street_and_number": "Neue Gasse 2", "zip_code": "01069",
            "town": "Dresden", "country": "DE"}});
        self.send("C-21", &event("e-C-21", "customer.moved", TIME, &moved), "waiting").await;
        let colleague = json!({"member_id": "M-1", "email": "kollegin@example.com", "role": "staff"});
        self.send("M-1", &event("e-M-1", "team.member_joined", TIME, &colleague), "applied").await;
        let chief = json!({"member_id": "M-2", "email": "chefin@example.com", "role": "admin"});
        self.send("M-2", &event("e-M-2", "team.member_joined", TIME, &chief), "parked").await;
        self
    }

    async fn store(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.environment[0].1).await.expect("the store is there")
    }

    /// Makes an event have been parked earlier by as many microseconds: no test waits for a day.
    pub async fn age(&self, event: &str, micros: i64) {
        let aged = sqlx::query("UPDATE events SET settled_at = settled_at - $1 WHERE id = $2").bind(micros).bind(event);
        assert_eq!(aged.execute(&mut self.store().await).await.expect("it is carried out").rows_affected(), 1);
    }

    /// Makes every session have been used for the last time longer ago by this.
    pub async fn leave_sessions_alone_for(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).expect("minutes");
        let left = sqlx::query("UPDATE sessions SET seen_at = seen_at - $1").bind(micros);
        assert!(left.execute(&mut self.store().await).await.expect("it is carried out").rows_affected() > 0);
    }

    /// The last use of the session that was used last.
    pub async fn session_seen_at(&self) -> i64 {
        let seen = sqlx::query_scalar("SELECT MAX(seen_at) FROM sessions");
        seen.fetch_one(&mut self.store().await).await.expect("the store is there")
    }

    /// Has worked for a day: the numbers of its charts.
    pub async fn keep_history(&self) {
        let clock = Clock::system();
        let settings = StoreSettings { url: self.environment[0].1.clone(), targets: Vec::new(), works: false };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("it opens");
        tokio::spawn(writer.run());
        for number in 1..144_u32 {
            // Quiet at night, most at noon, and an hour in which Podero refuses calls.
            let (hour, is_ill) = (number / 6, (96..102).contains(&number));
            let received = u64::from(3 + 9 * 12_u32.saturating_sub(hour.abs_diff(12)) + number % 5);
            let counts = BucketCounts {
                received,
                settled: if is_ill { received / 3 } else { received },
                calls_refused: if is_ill { 4 } else { 0 },
                pending: Some(if is_ill { received } else { u64::from(number % 3) }),
                parked: Some(if number < 102 { 5 } else { 1 }),
                oldest_age: Some(if is_ill { u64::from(101 - number) * 600 } else { u64::from(number % 3) }),
                alerts_open: Some(u64::from(number < 60) + u64::from(number < 110)),
            };
            let at = bucket_of(clock.now().minus(BUCKET * number));
            store.keep_bucket(Uuid::from_u128(1), at, counts).await.expect("the store is there");
        }
    }

    /// Logs an operator in by the page.
    pub async fn log_in(&self, browser: &Browser, name: &str) {
        browser.open(&self.page("/console/login")).await;
        browser.write("#name", name).await;
        browser.write("#password", PASSWORD).await;
        browser.click("button.main").await;
        assert_eq!(browser.address().await, self.page("/console"), "{name} is logged in");
    }
}

/// Pause between two looks at a page that has no script to show what is new.
const BETWEEN_PAGES: Duration = Duration::from_millis(200);

/// Opens a page again until the element that the selector finds has these words.
async fn reopen_until(browser: &Browser, selector: &str, words: &str) {
    let address = browser.address().await;
    until(&format!("{selector} says {words}"), async || {
        browser.open(&address).await;
        let is_there = browser.count(selector).await > 0 && browser.text(selector).await.contains(words);
        if !is_there {
            podero_bridge::pump::sleep(BETWEEN_PAGES).await;
        }
        is_there.then_some(())
    })
    .await;
}
