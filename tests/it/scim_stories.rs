//! Random stories: an identity provider and an HR system speak of the same people, Podero loses answers, and the bridge is killed
//! again and again. At rest the user of SCIM, the facts of the bridge and Podero agree, and nobody was invited twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use podero_bridge::clock::Clock;
use podero_bridge::sandbox::{self, Sandbox, SandboxAccount};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::servers;
use crate::world::until;

const TOKEN: &str = "a-token-of-entra-id";
const EXTENSION: &str = "urn:podero-bridge:scim:User";

/// People of a story.
const PEOPLE: usize = 4;

/// Steps of a story.
const STEPS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn provider_and_hr_agree_with_podero_at_rest_on_sqlite() {
    for seed in 1..=3 {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        Story::begin(seed, folder.path(), url).await.tell().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_and_hr_agree_with_podero_at_rest_on_postgres() {
    on_postgres(101).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_and_hr_agree_with_podero_at_rest_on_postgres_again() {
    on_postgres(102).await;
}

async fn on_postgres(seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    Story::begin(seed, folder.path(), url).await.tell().await;
}

struct Story {
    dice: StdRng,
    config: PathBuf,
    podero: SocketAddr,
    bridge: Bridge,
    http: reqwest::Client,
    events: usize,
    told: String,
}

struct Bridge {
    child: Child,
    door: String,
    operator: String,
}

impl Bridge {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_podero-bridge"))
            .args(["serve", "--config", config.to_str().expect("text")])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let opened = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let entry: Value = serde_json::from_str(&line).ok()?;
            let fields = if entry["fields"].is_object() { entry["fields"].clone() } else { entry };
            (fields["message"] == "the doors are open").then_some(fields)
        });
        let opened = opened.expect("the doors open");
        // The pipe is read to its end, so that it does not fill.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| opened[name].as_str().expect("an address").to_owned();
        Self { child, door: address("http"), operator: address("admin") }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Story {
    async fn begin(seed: u64, folder: &Path, url: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let podero = listener.local_addr().expect("bound");
        let settings = sandbox::SandboxSettings { seed: Some(seed), ..sandbox::SandboxSettings::default() };
        tokio::spawn(sandbox::server(Sandbox::new(settings, Clock::system()), listener).expect("it listens"));
        let account = SandboxAccount::default();
        let config = folder.join("bridge.toml");
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"{url}\"\n\
             [podero]\nbase_url = \"http://{podero}\"\norg_id = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             timeout = \"1s\"\nrequests_per_second = 10000\n[retry]\ninitial = \"50ms\"\nmax = \"500ms\"\n\
             [watch]\nenabled = false\n[log]\nformat = \"json\"\n\
             [team]\nenabled = true\nallow_admins = true\nmin_admins = 1\nremovals_max = 10000\n\
             [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n\
             [[scim.token]]\nname = \"entra\"\nsecret = \"{TOKEN}\"\n",
            account.org_id, account.client_id, account.client_secret
        );
        std::fs::write(&config, text).expect("written");
        let path = config.clone();
        let bridge = tokio::task::spawn_blocking(move || Bridge::start(&path)).await.expect("it starts");
        let (dice, http) = (StdRng::seed_from_u64(seed), reqwest::Client::new());
        Self { dice, config, podero, bridge, http, events: 0, told: format!("seed {seed}\n") }
    }

    async fn tell(mut self) {
        for _ in 0..STEPS {
            let person = self.dice.random_range(0..PEOPLE);
            match self.dice.random_range(0..14) {
                0..=2 => self.provision(person).await,
                3 | 4 => self.correct(person).await,
                5 | 6 => self.deactivate(person).await,
                7 => self.delete(person).await,
                8 => self.group(person).await,
                9..=11 => self.hr(person).await,
                12 => self.disturb().await,
                _ => self.crash().await,
            }
        }
        self.clear().await;
        for person in 0..PEOPLE {
            self.provision(person).await;
        }
        self.agree("all are there").await;
        for person in 0..PEOPLE / 2 {
            self.deactivate(person).await;
        }
        self.crash().await;
        self.agree("half have left").await;
    }

    fn note(&mut self, line: &str) {
        let _ = writeln!(self.told, "{line}");
    }

    /// Asks; `None`: no answer came, as of a bridge that was killed.
    async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let url = format!("http://{}/scim/v2{path}", self.bridge.door);
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method.clone(), url).bearer_auth(TOKEN);
        if let Some(body) = &body {
            request = request.header("content-type", "application/scim+json").body(body.to_string());
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let shown: Value = answer.json().await.unwrap_or(Value::Null);
        self.note(&format!("{method} {path} {} -> {status}", body.map(|body| body.to_string()).unwrap_or_default()));
        assert!(status < 500, "{status} {shown}\n{}", self.told);
        Some((status, shown))
    }

    async fn find(&mut self, person: usize) -> Option<Value> {
        let (_, found) = self.ask("GET", &format!("/Users?filter=externalId%20eq%20%22E-{person}%22"), None).await?;
        found["Resources"].get(0).cloned()
    }

    async fn patch(&mut self, path: &str, operations: Value) {
        self.ask("PATCH", path, Some(json!({"Operations": operations}))).await;
    }

    async fn provision(&mut self, person: usize) {
        match self.find(person).await {
            Some(user) => {
                let path = format!("/Users/{}", user["id"].as_str().expect("an id"));
                self.patch(&path, json!([{"op": "Replace", "path": "active", "value": "True"}])).await;
            }
            None => {
                let user = json!({
                    "externalId": format!("E-{person}"), "userName": format!("user-{person}"), "active": true,
                    "emails": [{"type": "work", "value": format!("p{person}@utility.example"), "primary": true}],
                    "name": {"givenName": "Given"},
                });
                let made = self.ask("POST", "/Users", Some(user)).await;
                if let Some((status, user)) = made {
                    assert!(status == 201, "{status} {user}\n{}", self.told);
                    assert_ne!(user["id"], json!(format!("E-{person}")));
                }
            }
        }
    }

    async fn correct(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let path = format!("/Users/{}", user["id"].as_str().expect("an id"));
        let number = self.dice.random_range(0..3);
        let operation = match self.dice.random_range(0..3) {
            0 => json!({"op": "Replace", "path": "name.givenName", "value": format!("Given-{number}")}),
            1 => json!({"op": "Replace", "path": "emails[type eq \"work\"].value",
                        "value": format!("p{person}-{number}@utility.example")}),
            _ => json!({"op": "replace", "value": {"displayName": format!("Name {number}")}}),
        };
        self.patch(&path, json!([operation])).await;
    }

    async fn deactivate(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let path = format!("/Users/{}", user["id"].as_str().expect("an id"));
        self.patch(&path, json!([{"op": "Replace", "path": "active", "value": "False"}])).await;
    }

    async fn delete(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let path = format!("/Users/{}", user["id"].as_str().expect("an id"));
        if let Some((status, _)) = self.ask("DELETE", &path, None).await {
            assert_eq!(status, 204, "{}", self.told);
            let gone = self.ask("GET", &path, None).await.map(|(status, _)| status);
            assert!(gone.is_none_or(|status| status == 404), "{}", self.told);
        }
    }

    async fn group(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let op = if self.dice.random_bool(0.6) { "Add" } else { "Remove" };
        let operation = json!([{"op": op, "path": "members", "value": [{"value": user["id"]}]}]);
        self.patch("/Groups/admin", operation).await;
    }

    /// An event of the HR system, of one whom it may speak of.
    async fn hr(&mut self, person: usize) {
        let active = self.find(person).await.is_some_and(|user| user["active"] == json!(true));
        let (email, number) = (format!("p{person}-hr@utility.example"), self.dice.random_range(0..4));
        let (type_name, mut data) = match (active, number) {
            (false, _) => ("team.member_joined", json!({"email": email, "role": "staff", "first_name": "Hr"})),
            (true, 0) => ("team.member_left", json!({})),
            (true, 1) => ("team.member_role_changed", json!({"role": "admin"})),
            (true, 2) => ("team.member_updated", json!({"email": email})),
            (true, _) => ("team.member_updated", json!({"last_name": format!("Hr-{number}")})),
        };
        data["member_id"] = json!(format!("E-{person}"));
        self.events += 1;
        let event = json!({
            "specversion": "1.0", "id": format!("hr-{}", self.events), "source": "/hr", "type": type_name,
            "time": Clock::system().now().to_string(), "data": data,
        });
        let url = format!("http://{}/v1/events/hr", self.bridge.door);
        let request = self.http.post(url).header("content-type", "application/cloudevents+json");
        let status = request.body(event.to_string()).send().await.map(|answer| answer.status().as_u16());
        self.note(&format!("hr {event} -> {status:?}"));
    }

    /// Podero loses an answer, or is in trouble for a moment.
    async fn disturb(&mut self) {
        let operations = ["create_user", "update_user", "delete_user", "find_user", "list_users"];
        let operation = operations[self.dice.random_range(0..operations.len())];
        let rule = match self.dice.random_range(0..3) {
            0 => json!({"operation": operation, "kind": "drop_after", "times": 1}),
            1 => json!({"operation": operation, "kind": "drop_before", "times": 2}),
            _ => json!({"operation": operation, "kind": "status", "status": 500, "times": 2}),
        };
        let url = format!("http://{}/_sandbox/faults", self.podero);
        let request = self.http.post(url).header("content-type", "application/json").body(rule.to_string());
        request.send().await.expect("the sandbox is there");
        self.note(&format!("fault {rule}"));
    }

    async fn clear(&mut self) {
        self.http.delete(format!("http://{}/_sandbox/faults", self.podero)).send().await.expect("it is there");
    }

    /// Kills the bridge while a request is under way, and starts it again.
    async fn crash(&mut self) {
        let person = self.dice.random_range(0..PEOPLE);
        let wait = std::time::Duration::from_millis(self.dice.random_range(0..30));
        let user = json!({
            "externalId": format!("E-{person}"), "userName": format!("user-{person}"),
            "emails": [{"value": format!("p{person}@utility.example"), "type": "work", "primary": true}],
        });
        let request = self.http.post(format!("http://{}/scim/v2/Users", self.bridge.door)).bearer_auth(TOKEN);
        let request = request.header("content-type", "application/scim+json").body(user.to_string());
        let under_way = tokio::spawn(request.send());
        podero_bridge::pump::sleep(wait).await;
        self.bridge.kill();
        let answer = under_way.await.expect("it ends").map(|answer| answer.status().as_u16());
        self.note(&format!("killed {wait:?} into a POST of {person} -> {answer:?}"));
        let config = self.config.clone();
        self.bridge = tokio::task::spawn_blocking(move || Bridge::start(&config)).await.expect("it starts");
        if matches!(answer, Ok(201)) {
            assert!(self.find(person).await.is_some(), "what was answered is there\n{}", self.told);
        }
    }

    /// Waits until nothing is under way, and compares.
    async fn agree(&mut self, when: &str) {
        self.note(when);
        let mut last = Value::Null;
        let (http, door) = (self.http.clone(), self.bridge.door.clone());
        let users = until("nothing is under way", async || {
            let request = http.get(format!("http://{door}/scim/v2/Users")).bearer_auth(TOKEN);
            let list: Value = request.send().await.ok()?.json().await.ok()?;
            let users = list["Resources"].as_array()?.clone();
            last = list;
            users.iter().all(|user| user[EXTENSION]["state"] != "pending").then_some(users)
        })
        .await;
        let by_key: BTreeMap<String, &Value> =
            users.iter().filter_map(|user| Some((user["externalId"].as_str()?.to_owned(), user))).collect();
        let state: Value = self.get(format!("http://{}/_sandbox/state", self.podero)).await;
        let at_podero = state["users"].as_array().cloned().unwrap_or_default();
        let mails = self.get(format!("http://{}/_sandbox/mailbox", self.podero)).await;
        assert_eq!(mails.as_array().map(Vec::len), Some(at_podero.len()), "an invitation each\n{}", self.told);
        for person in 0..PEOPLE {
            let key = format!("E-{person}");
            let there: Vec<&Value> = at_podero
                .iter()
                .filter(|user| user["external_user_id"] == json!(key) && user["deleted"] != json!(true))
                .collect();
            let facts = self.get(format!("http://{}/v1/team/{key}", self.bridge.operator)).await;
            let user = by_key.get(&key);
            let is_active = user.is_some_and(|user| user["active"] == json!(true));
            let context = format!("{when}, {key}: {user:?}\n{there:?}\n{facts}\n{}", self.told);
            assert!(user.is_none_or(|user| user[EXTENSION] == json!({"state": "settled"})), "{context}");
            assert_eq!(there.len(), usize::from(is_active), "{context}");
            let (Some(user), Some(there)) = (user.filter(|_| is_active), there.first()) else { continue };
            assert_eq!(user["emails"][0]["value"], there["email"], "{context}");
            let is_admin = user["groups"].as_array().is_some_and(|all| all.iter().any(|one| one["value"] == "admin"));
            assert_eq!(is_admin, there["role"] == "admin", "{context}");
            let known = &facts["state"]["facts"]["profile"];
            assert_eq!(known["email"]["value"], there["email"], "{context}");
            if !user["name"]["givenName"].is_null() {
                assert_eq!(user["name"]["givenName"], there["first_name"], "{context}");
            }
        }
    }

    async fn get(&self, url: String) -> Value {
        self.http.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }
}
