//! Random stories: an identity provider and an HR system speak of the same people, in every way that each has. Podero loses answers
//! and refuses, the brake holds removals, people approve, skip and retry, and the bridge is killed again and again. At rest the user of
//! SCIM, the facts of the bridge and Podero agree, nobody was invited twice, and no id of the provider was taken for one of ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::team::{MemberField, MemberRole, TeamMember};
use podero_bridge::sandbox::{self, Sandbox, SandboxAccount};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::servers;
use crate::world::until;

const TOKEN: &str = "a-token-of-entra-id";
const EXTENSION: &str = "urn:podero-bridge:scim:User";

/// People of a story. The first one is protected.
const PEOPLE: usize = 5;

/// Steps of each of the two halves of a story.
const STEPS: usize = 40;

/// Members of the group of many.
const MANY: usize = 30;

/// Removals that the brake lets through.
const REMOVALS_MAX: usize = 4;

/// The database, the seed, and the attribute that sets the role.
macro_rules! stories {
    ($($name:ident $database:ident $seed:literal $role_from:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = $database(folder.path()).await;
                Story::begin($seed, folder.path(), url, $role_from).await.tell().await;
            }
        )*
    };
}

stories! {
    provider_and_hr_agree_at_rest_on_sqlite_1 sqlite 1 "groups"
    provider_and_hr_agree_at_rest_on_sqlite_2 sqlite 2 "groups"
    provider_and_hr_agree_at_rest_on_sqlite_3 sqlite 3 "roles"
    provider_and_hr_agree_at_rest_on_sqlite_4 sqlite 4 "groups"
    provider_and_hr_agree_at_rest_on_postgres_101 postgres 101 "groups"
    provider_and_hr_agree_at_rest_on_postgres_102 postgres 102 "roles"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_request_that_was_cut_off_is_repeated_to_its_end_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = sqlite(folder.path()).await;
    Story::begin(7, folder.path(), url, "groups").await.cut_off().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_request_that_was_cut_off_is_repeated_to_its_end_on_postgres() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = postgres(folder.path()).await;
    Story::begin(8, folder.path(), url, "groups").await.cut_off().await;
}

async fn sqlite(folder: &Path) -> String {
    crate::kit::sqlite_url(folder)
}

async fn postgres(_: &Path) -> String {
    tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database")
}

struct Story {
    dice: StdRng,
    role_from: &'static str,
    config: PathBuf,
    podero: SocketAddr,
    bridge: Bridge,
    http: reqwest::Client,
    events: usize,
    /// The external id by which the provider knows each person.
    keys: Vec<String>,
    /// A user whose external id is the id of another.
    impostor: Option<(String, String)>,
    /// Writes that were accepted and refused, by what they were.
    tally: BTreeMap<String, (usize, usize)>,
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

/// The key of a person: the member's id.
fn key(person: usize) -> String {
    format!("E-{person}")
}

/// The other external id that the provider gives to a person one day. No member has it.
fn other_key(person: usize) -> String {
    format!("X-{person}")
}

fn path_of(user: &Value) -> String {
    format!("/Users/{}", user["id"].as_str().expect("an id"))
}

fn is_admin(all: &Value) -> bool {
    all.as_array().is_some_and(|all| all.iter().any(|one| one["value"] == "admin"))
}

impl Story {
    async fn begin(seed: u64, folder: &Path, url: String, role_from: &'static str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let podero = listener.local_addr().expect("bound");
        let settings = sandbox::SandboxSettings { seed: Some(seed), ..sandbox::SandboxSettings::default() };
        tokio::spawn(sandbox::server(Sandbox::new(settings, Clock::system()), listener).expect("it listens"));
        let account = SandboxAccount::default();
        let config = folder.join("bridge.toml");
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"{url}\"\n\
             [podero]\nbase_url = \"http://{podero}\"\norg_id = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             timeout = \"1s\"\nrequests_per_second = 10000\n[retry]\ninitial = \"50ms\"\nmax = \"500ms\"\ngive_up_after = \"3s\"\n\
             [watch]\nenabled = false\n[log]\nformat = \"json\"\n\
             [team]\nenabled = true\nallow_admins = true\nmin_admins = 1\nremovals_max = {REMOVALS_MAX}\n\
             email_domains = [\"utility.example\"]\nprotected = [\"{}\"]\n\
             [[source]]\nname = \"hr\"\nverify = \"none\"\ntypes = [\"team.*\"]\n\
             [scim]\nrole_from = \"{role_from}\"\n[[scim.token]]\nname = \"entra\"\nsecret = \"{TOKEN}\"\n",
            account.org_id,
            account.client_id,
            account.client_secret,
            key(0),
        );
        std::fs::write(&config, text).expect("written");
        let path = config.clone();
        let bridge = tokio::task::spawn_blocking(move || Bridge::start(&path)).await.expect("it starts");
        let (dice, http) = (StdRng::seed_from_u64(seed), reqwest::Client::new());
        let (keys, told) = ((0..PEOPLE).map(key).collect(), format!("seed {seed}\n"));
        let (tally, impostor) = (BTreeMap::new(), None);
        Self { dice, role_from, config, podero, bridge, http, events: 0, keys, impostor, tally, told }
    }

    async fn tell(mut self) {
        for _ in 0..STEPS {
            self.step().await;
        }
        self.agree("in the middle").await;
        for _ in 0..STEPS {
            self.step().await;
        }
        self.crash().await;
        self.agree("at the end").await;
        let all = self.tally.values().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert!(all.0 > all.1 && all.1 > 0, "{:?}\n{}", self.tally, self.told);
        for kind in ["POST", "PUT", "PATCH", "DELETE", "group", "hr"] {
            assert!(self.tally.get(kind).is_some_and(|(accepted, _)| *accepted > 0), "{kind}: {:?}", self.tally);
        }
    }

    /// The bridge is killed over requests about a group of many. Of each either all is there or nothing, and a repeat brings it to its
    /// end; nobody is moved twice.
    async fn cut_off(mut self) {
        let mut ids = Vec::new();
        for number in 0..MANY {
            let name = format!("m{number}@utility.example");
            let made =
                self.ask("POST", "/Users", Some(json!({"userName": name, "externalId": format!("M-{number}")}))).await;
            ids.push(json!({"value": made.expect("an answer").1["id"]}));
        }
        for (round, wait) in [0, 4, 8, 16, 30].into_iter().enumerate() {
            let op = if round % 2 == 0 { "Add" } else { "Remove" };
            let body = json!({"Operations": [{"op": op, "path": "members", "value": ids}]});
            let request =
                self.http.patch(format!("http://{}/scim/v2/Groups/admin", self.bridge.door)).bearer_auth(TOKEN);
            let request = request.header("content-type", "application/scim+json").body(body.to_string());
            let under_way = tokio::spawn(request.send());
            podero_bridge::pump::sleep(Duration::from_millis(wait)).await;
            self.bridge.kill();
            let is_answered = under_way.await.expect("it ends").is_ok();
            self.restart().await;
            let moved = self.moved().await;
            assert!(moved == [round] || moved == [round + 1], "all or nothing, in round {round}: {moved:?}");
            assert!(!is_answered || moved == [round + 1], "an answer is for good");
            for _ in 0..2 {
                let answer = self.ask("PATCH", "/Groups/admin", Some(body.clone())).await.expect("an answer");
                assert_eq!(answer.0, 200, "{}", self.told);
                assert_eq!(self.moved().await, [round + 1], "a repeat changes nothing more");
            }
        }
    }

    /// The numbers of changes of role that members have, each number once.
    async fn moved(&self) -> Vec<usize> {
        let mut counts = std::collections::BTreeSet::new();
        for number in 0..MANY {
            let timeline = self.get(format!("http://{}/v1/team/M-{number}", self.bridge.operator)).await;
            let events = timeline["events"].as_array().cloned().unwrap_or_default();
            counts.insert(events.iter().filter(|event| event["type"] == "team.member_role_changed").count());
        }
        counts.into_iter().collect()
    }

    async fn restart(&mut self) {
        let config = self.config.clone();
        self.bridge = tokio::task::spawn_blocking(move || Bridge::start(&config)).await.expect("it starts");
    }

    async fn step(&mut self) {
        let person = self.dice.random_range(0..PEOPLE);
        match self.dice.random_range(0..26) {
            0..=2 => self.provision(person).await,
            3..=6 => self.correct(person).await,
            7 | 8 => self.replace(person).await,
            9 | 10 => self.set_active(person).await,
            11 | 12 => self.delete(person).await,
            13..=15 => self.group(person).await,
            16..=19 => self.hr(person).await,
            20 => self.link(person).await,
            21 => self.mistake(person).await,
            22 => self.vanish(person).await,
            23 => drop(self.decide(person, false).await),
            24 => self.disturb().await,
            _ => self.crash().await,
        }
    }

    fn note(&mut self, line: &str) {
        let _ = writeln!(self.told, "{line}");
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.dice.random_bool(probability)
    }

    /// Asks; `None`: no answer came.
    async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let url = format!("http://{}/scim/v2{path}", self.bridge.door);
        let verb = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(verb, url).bearer_auth(TOKEN);
        if let Some(body) = &body {
            request = request.header("content-type", "application/scim+json").body(body.to_string());
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let shown: Value = answer.json().await.unwrap_or(Value::Null);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.note(&format!(
            "{method} {path} {body} -> {status} {}",
            if status < 300 { "" } else { shown["detail"].as_str().unwrap_or("") }
        ));
        assert!([200, 201, 204, 400, 403, 404, 409].contains(&status), "{status} {shown}\n{}", self.told);
        if method != "GET" {
            let kind = if path.starts_with("/Groups") { "group" } else { method };
            self.count(kind, status < 300);
        }
        Some((status, shown))
    }

    fn count(&mut self, kind: &str, is_accepted: bool) {
        let (accepted, refused) = self.tally.entry(kind.to_owned()).or_default();
        *if is_accepted { accepted } else { refused } += 1;
    }

    /// Looks for the person's user: by the external id that the provider knows, else by the one of the HR system.
    async fn find(&mut self, person: usize) -> Option<Value> {
        for external_id in [self.keys[person].clone(), key(person)] {
            let filter = format!("/Users?filter=externalId%20eq%20%22{external_id}%22");
            let (_, found) = self.ask("GET", &filter, None).await?;
            let all = found["Resources"].as_array().cloned().unwrap_or_default();
            assert!(all.len() <= 1, "one person, one user: {found}\n{}", self.told);
            if let Some(user) = all.into_iter().next() {
                self.keys[person] = external_id;
                return Some(user);
            }
        }
        None
    }

    async fn patch(&mut self, path: &str, operations: Value) -> Option<(u16, Value)> {
        self.ask("PATCH", path, Some(json!({"Operations": operations}))).await
    }

    /// A person as the provider has them now.
    fn document(&mut self, person: usize) -> Value {
        let number = self.dice.random_range(0..3);
        let mut user = json!({
            "externalId": self.keys[person], "userName": format!("user-{person}-{number}"),
            "emails": [{"type": "work", "value": format!("p{person}-{number}@utility.example"), "primary": true}],
        });
        if self.chance(0.7) {
            user["name"] = json!({"givenName": format!("Given-{number}"), "familyName": format!("Family-{number}")});
        }
        if self.chance(0.3) {
            user["roles"] = json!([{"value": if self.chance(0.5) { "admin" } else { "staff" }}]);
        }
        if self.chance(0.3) {
            user["active"] = json!(self.chance(0.6));
        }
        user
    }

    async fn provision(&mut self, person: usize) {
        if let Some(user) = self.find(person).await {
            self.patch(&path_of(&user), json!([{"op": "Replace", "path": "active", "value": "True"}])).await;
            return;
        }
        let user = self.document(person);
        if let Some((201, made)) = self.ask("POST", "/Users", Some(user)).await {
            assert_ne!(made["id"], json!(self.keys[person]));
            assert_eq!(made["externalId"], json!(self.keys[person]), "{}", self.told);
        }
    }

    async fn correct(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let mut operations = Vec::new();
        for _ in 0..self.dice.random_range(1..3) {
            let number = self.dice.random_range(0..4);
            operations.push(match self.dice.random_range(0..11) {
                0 => json!({"op": "Replace", "path": "name.givenName", "value": format!("Given-{number}")}),
                1 => json!({"op": "Remove", "path": "name.givenName"}),
                2 => json!({"op": "Add", "path": "name.familyName", "value": format!("Family-{number}")}),
                3 => json!({"op": "replace", "value": {"name": {"givenName": "Both", "familyName": format!("Both-{number}")}}}),
                4 => json!({"op": "Replace", "path": "emails[type eq \"work\"].value",
                            "value": format!("p{person}-{number}@utility.example")}),
                5 => json!({"op": "replace", "path": "emails",
                            "value": [{"value": format!("p{person}-{number}@utility.example"), "primary": true}]}),
                6 => json!({"op": "replace", "value": {"displayName": format!("Name {number}")}}),
                7 => json!({"op": "replace", "path": "userName", "value": format!("user-{person}-{number}")}),
                8 => json!({"op": "replace", "path": "roles", "value": [{"value": if number > 1 { "admin" } else { "staff" }}]}),
                9 => json!({"op": "Remove", "path": "roles"}),
                _ => json!({"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "p@elsewhere.example"}),
            });
        }
        self.patch(&path_of(&user), Value::Array(operations)).await;
    }

    async fn replace(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let mut document = self.document(person);
        if self.chance(0.3) {
            document.as_object_mut().expect("an object").remove("externalId");
        }
        self.ask("PUT", &path_of(&user), Some(document)).await;
    }

    async fn set_active(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let active = if self.chance(0.35) { "True" } else { "False" };
        self.patch(&path_of(&user), json!([{"op": "Replace", "path": "active", "value": active}])).await;
    }

    async fn delete(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let path = path_of(&user);
        if let Some((204, _)) = self.ask("DELETE", &path, None).await {
            // One who could not be removed is shown again.
            let after = self.ask("GET", &path, None).await;
            let is_gone = |(status, user): (u16, Value)| status == 404 || user[EXTENSION]["state"] == "refused";
            assert!(after.is_none_or(is_gone), "{}", self.told);
        }
    }

    async fn group(&mut self, person: usize) {
        let mut members = Vec::new();
        for person in [person, (person + 1) % PEOPLE] {
            members.extend(self.find(person).await.map(|user| json!({"value": user["id"]})));
        }
        if members.is_empty() {
            return;
        }
        let path = if self.chance(0.75) { "/Groups/admin" } else { "/Groups/staff" };
        let operation = match self.dice.random_range(0..6) {
            0..=2 => json!({"op": "Add", "path": "members", "value": members}),
            3 | 4 => json!({"op": "Remove", "path": "members", "value": members}),
            _ => {
                self.ask("PUT", path, Some(json!({"members": members}))).await;
                return;
            }
        };
        self.patch(path, json!([operation])).await;
    }

    /// The provider gives a person another external id, or the old one again.
    async fn link(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let next = if self.keys[person] == key(person) { other_key(person) } else { key(person) };
        let operation = json!([{"op": "Replace", "path": "externalId", "value": next}]);
        if let Some((200, _)) = self.patch(&path_of(&user), operation).await {
            self.keys[person] = next;
        }
    }

    /// Requests that take an external id for an id, or another's name or id for one's own.
    async fn mistake(&mut self, person: usize) {
        let external_id = self.keys[person].clone();
        let user = self.find(person).await;
        for (method, body) in [
            ("GET", None),
            ("PATCH", Some(json!({"Operations": [{"op": "replace", "path": "active", "value": false}]}))),
        ] {
            let answer = self.ask(method, &format!("/Users/{external_id}"), body).await;
            assert!(answer.is_none_or(|(status, _)| status == 404), "{}", self.told);
        }
        let unknown = json!([{"op": "Add", "path": "members", "value": [{"value": external_id}]}]);
        let answer = self.patch("/Groups/admin", unknown).await;
        assert!(answer.is_none_or(|(status, _)| status == 400), "{}", self.told);
        let Some(user) = user else { return };
        let double =
            json!({"userName": user["userName"], "externalId": "E-99", "emails": [{"value": "p99@utility.example"}]});
        let answer = self.ask("POST", "/Users", Some(double)).await;
        assert!(answer.is_none_or(|(status, _)| status == 409), "{}", self.told);
        if self.impostor.is_none() {
            let id = user["id"].as_str().expect("an id").to_owned();
            let impostor =
                json!({"userName": "impostor", "externalId": id, "emails": [{"value": "impostor@utility.example"}]});
            if let Some((201, made)) = self.ask("POST", "/Users", Some(impostor)).await {
                assert_ne!(made["id"], json!(id));
                self.impostor = Some((made["id"].as_str().expect("an id").to_owned(), id));
            }
        }
    }

    /// An event of the HR system; some are stamped before what others have said since.
    async fn hr(&mut self, person: usize) {
        let number = self.dice.random_range(0..4);
        let email = format!("p{person}-hr-{number}@utility.example");
        let role = if self.chance(0.3) { "admin" } else { "staff" };
        let (type_name, mut data) = match self.dice.random_range(0..9) {
            0..=2 => {
                ("team.member_joined", json!({"email": email, "role": role, "first_name": format!("Hr-{number}")}))
            }
            3 => ("team.member_left", json!({})),
            4 | 5 => ("team.member_role_changed", json!({"role": role})),
            6 => ("team.member_updated", json!({"email": email})),
            _ => ("team.member_updated", json!({"last_name": format!("Hr-{number}")})),
        };
        data["member_id"] = json!(key(person));
        self.events += 1;
        let ago = if self.chance(0.3) { self.dice.random_range(0..3_000) } else { 0 };
        let event = json!({
            "specversion": "1.0", "id": format!("hr-{}", self.events), "source": "/hr", "type": type_name,
            "time": Clock::system().now().minus(Duration::from_millis(ago)).to_string(), "data": data,
        });
        let url = format!("http://{}/v1/events/hr", self.bridge.door);
        let request = self.http.post(url).header("content-type", "application/cloudevents+json");
        let status = request.body(event.to_string()).send().await.map(|answer| answer.status().as_u16());
        self.note(&format!("hr {event} -> {status:?}"));
        self.count("hr", matches!(status, Ok(202)));
    }

    /// Podero loses an answer, is in trouble for a moment, or refuses.
    async fn disturb(&mut self) {
        let operations = ["create_user", "update_user", "delete_user", "find_user", "list_users"];
        let operation = operations[self.dice.random_range(0..operations.len())];
        let rule = match self.dice.random_range(0..4) {
            0 => json!({"operation": operation, "kind": "drop_after", "times": 1}),
            1 => json!({"operation": operation, "kind": "drop_before", "times": 2}),
            2 => json!({"operation": operation, "kind": "status", "status": 500, "times": 2}),
            _ => json!({"operation": "update_user", "kind": "status", "status": 422, "times": 1}),
        };
        let url = format!("http://{}/_sandbox/faults", self.podero);
        let request = self.http.post(url).header("content-type", "application/json").body(rule.to_string());
        request.send().await.expect("the sandbox is there");
        self.note(&format!("fault {rule}"));
    }

    /// A person decides about a member's parked events. Returns whether anything is under way, or was parked.
    async fn decide(&mut self, person: usize, is_last: bool) -> bool {
        let timeline = self.get(format!("http://{}/v1/team/{}", self.bridge.operator, key(person))).await;
        let events = timeline["events"].as_array().cloned().unwrap_or_default();
        let mut is_open = false;
        for event in events {
            let state = event["state"].as_str().unwrap_or_default();
            is_open |= ["pending", "waiting", "scheduled", "parked"].contains(&state);
            if state != "parked" {
                continue;
            }
            let (id, reason) = (event["id"].as_str().expect("an id"), event["reason"].as_str().unwrap_or_default());
            let act = match reason {
                "team_brake" if self.chance(0.5) => "approve",
                "team_brake" | "protected_member" | "no_join" | "foreign_email_domain" => "skip",
                // It was refused by a fault, which may have come after an effect: it is carried through.
                _ if is_last || self.chance(0.5) => "retry",
                _ => continue,
            };
            let (path, body) = match act {
                "approve" => ("retry", json!({"approve": true})),
                act => (act, json!({})),
            };
            let url = format!("http://{}/v1/parked/{id}/{path}", self.bridge.operator);
            let request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
            let status = request.send().await.map(|answer| answer.status().as_u16());
            self.note(&format!("{act} {} of {person}, parked for {reason} -> {status:?}", event["type"]));
        }
        is_open
    }

    /// The provider goes away before the answer.
    async fn vanish(&mut self, person: usize) {
        let Some(user) = self.find(person).await else { return };
        let wait = Duration::from_millis(self.dice.random_range(1..20));
        let active = self.chance(0.5);
        let body = json!({"Operations": [{"op": "replace", "path": "active", "value": active}]});
        let request =
            self.http.patch(format!("http://{}/scim/v2{}", self.bridge.door, path_of(&user))).bearer_auth(TOKEN);
        let request = request.header("content-type", "application/scim+json").body(body.to_string()).timeout(wait);
        let answer = request.send().await.map(|answer| answer.status().as_u16()).ok();
        self.note(&format!("gone {wait:?} into {body} of {person} -> {answer:?}"));
    }

    /// Kills the bridge while requests are under way, and starts it again.
    async fn crash(&mut self) {
        let person = self.dice.random_range(0..PEOPLE);
        let wait = Duration::from_millis(self.dice.random_range(0..30));
        let user = self.document(person);
        let mut members = Vec::new();
        for person in 0..PEOPLE {
            members.extend(self.find(person).await.map(|user| json!({"value": user["id"]})));
        }
        let is_new = self.find(person).await.is_none();
        let send = |method: Method, path: &str, body: Value| {
            let request =
                self.http.request(method, format!("http://{}/scim/v2{path}", self.bridge.door)).bearer_auth(TOKEN);
            tokio::spawn(request.header("content-type", "application/scim+json").body(body.to_string()).send())
        };
        let post = send(Method::POST, "/Users", user);
        let add = json!({"Operations": [{"op": "Add", "path": "members", "value": members}]});
        let group = send(Method::PATCH, "/Groups/admin", add);
        podero_bridge::pump::sleep(wait).await;
        self.bridge.kill();
        let mut answers = Vec::new();
        for under_way in [post, group] {
            answers.push(under_way.await.expect("it ends").map(|answer| answer.status().as_u16()).ok());
        }
        self.note(&format!("killed {wait:?} into a POST of {person} and an addition of all -> {answers:?}"));
        self.restart().await;
        if answers[0] == Some(201) {
            assert!(is_new && self.find(person).await.is_some(), "what was answered is there\n{}", self.told);
        }
    }

    /// Waits until nothing is under way and nothing waits for a person.
    async fn rest(&mut self) {
        self.http.delete(format!("http://{}/_sandbox/faults", self.podero)).send().await.expect("it is there");
        for _ in 0..1_000 {
            let mut is_open = false;
            for person in 0..PEOPLE {
                is_open |= self.decide(person, true).await;
            }
            if !is_open {
                return;
            }
            podero_bridge::pump::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not come to rest\n{}", self.told);
    }

    /// Comes to rest, and compares.
    async fn agree(&mut self, when: &str) {
        self.note(when);
        self.rest().await;
        let (http, door) = (self.http.clone(), self.bridge.door.clone());
        let users = until("nothing is under way", async || {
            podero_bridge::pump::sleep(Duration::from_millis(50)).await;
            let request = http.get(format!("http://{door}/scim/v2/Users")).bearer_auth(TOKEN);
            let list: Value = request.send().await.ok()?.json().await.ok()?;
            let users = list["Resources"].as_array()?.clone();
            users.iter().all(|user| user[EXTENSION]["state"] != "pending").then_some(users)
        })
        .await;
        let state = self.get(format!("http://{}/_sandbox/state", self.podero)).await;
        let at_podero = state["users"].as_array().cloned().unwrap_or_default();
        let mails = self.get(format!("http://{}/_sandbox/mailbox", self.podero)).await;
        assert_eq!(mails.as_array().map(Vec::len), Some(at_podero.len()), "an invitation each\n{}", self.told);
        let is_of = |user: &Value, person: usize| {
            [key(person), other_key(person)].iter().any(|id| user["externalId"] == json!(id))
        };
        for person in 0..PEOPLE {
            let of_person: Vec<&Value> = users.iter().filter(|user| is_of(user, person)).collect();
            assert!(of_person.len() <= 1, "one person, one user: {of_person:?}\n{}", self.told);
            self.compare(person, of_person.first().copied(), &at_podero, when).await;
        }
        if let Some((id, key)) = self.impostor.clone() {
            let (_, impostor) = self.ask("GET", &format!("/Users/{id}"), None).await.expect("an answer");
            assert_eq!(impostor["externalId"], json!(key), "{}", self.told);
            assert!(
                at_podero.iter().any(|user| user["external_user_id"] == json!(key)),
                "a member of its own\n{}",
                self.told
            );
        }
    }

    /// The user of SCIM, the facts of the bridge and Podero say the same of a person.
    async fn compare(&mut self, person: usize, user: Option<&Value>, at_podero: &[Value], when: &str) {
        let key = key(person);
        let of_podero = |key: &str| -> Vec<&Value> {
            let is_there = |user: &&Value| user["external_user_id"] == json!(key) && user["deleted"] != json!(true);
            at_podero.iter().filter(is_there).collect()
        };
        let there = of_podero(&key);
        let timeline = self.get(format!("http://{}/v1/team/{key}", self.bridge.operator)).await;
        let member: TeamMember = serde_json::from_value(timeline["state"].clone()).unwrap_or_default();
        let (facts, observed) = (&member.facts, member.observed_role());
        let context = format!("{when}, {key}: {user:?}\n{there:?}\n{timeline}\n{}", self.told);
        assert!(
            of_podero(&other_key(person)).is_empty(),
            "an external id that was given later makes no member\n{context}"
        );
        assert!(user.is_none_or(|user| user[EXTENSION] == json!({"state": "settled"})), "{context}");
        assert_eq!(there.len(), usize::from(facts.is_active()), "{context}");
        assert_eq!(user.is_some_and(|user| user["active"] == json!(true)), facts.is_active(), "{context}");
        let (Some(user), Some(there)) = (user.filter(|_| facts.is_active()), there.first()) else { return };
        let email = facts.text(MemberField::Email).map(str::to_owned);
        assert_eq!((&json!(email), &user["emails"][0]["value"]), (&there["email"], &there["email"]), "{context}");
        for (part, field, name) in
            [("givenName", MemberField::FirstName, "first_name"), ("familyName", MemberField::LastName, "last_name")]
        {
            let fact = facts.text(field);
            assert!(fact.is_none_or(|fact| there[name] == json!(fact)), "{context}");
            // One that the provider removed is not taken away.
            assert!(user["name"][part].is_null() || user["name"][part] == there[name], "{context}");
        }
        let is_admin_there = there["role"] == "admin";
        assert_eq!(facts.role_over(observed) == Some(MemberRole::Admin), is_admin_there, "{context}");
        let shown = if self.role_from == "groups" { &user["groups"] } else { &user["roles"] };
        assert_eq!(is_admin(shown), is_admin_there, "{context}");
    }

    async fn get(&self, url: String) -> Value {
        self.http.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }
}
