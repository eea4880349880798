//! The processes of a run: one sandbox as Podero, one or more bridges, each with its log in a file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Plan;
use crate::servers::environment;
use crate::world::{until, until_within};

/// Timeout of a sender for one answer: longer than a healthy bridge needs, shorter than a frozen one.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// `podero.timeout` of the bridges: far beyond what the sandbox takes, unless a fault delays it.
const TIMEOUT_MS: u64 = 1_000;
/// Delay of a late act: longer than `podero.timeout`, so that its client has given up; sooner than any replica may look again.
const ACTS_LATE_MS: u64 = 1_600;
/// Timeout of a start: a bridge may find its database in recovery, or a two-core machine busy with other tests.
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// Differences between runs.
#[derive(Default)]
pub struct Layout {
    pub replicas: usize,
    /// `None`: a SQLite file in the own folder of this world.
    pub store: Option<String>,
    pub amqp: Option<String>,
    /// More keys, as environment variables without their prefix.
    pub keys: Vec<(&'static str, String)>,
    /// Program and first arguments that start the bridge, instead of a plain exec.
    pub through: Vec<String>,
}

/// Addresses that a bridge printed.
#[derive(Debug, Clone)]
pub struct Doors {
    pub webhooks: String,
    pub operator: String,
}

/// One bridge, whether it runs or not.
struct Replica {
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    // Filled by a thread once the process prints them.
    doors: Arc<Mutex<Option<Doors>>>,
    is_frozen: bool,
}

/// The whole of it. Dropping it ends every process.
pub struct ChaosWorld {
    pub folder: tempfile::TempDir,
    pub http: reqwest::Client,
    podero: Child,
    podero_url: String,
    settings: Vec<(String, String)>,
    through: Vec<String>,
    replicas: Vec<Replica>,
    turn: AtomicUsize,
    ends_seen: Mutex<Vec<String>>,
}

impl ChaosWorld {
    /// Starts Podero and every replica, and waits until all of them are ready.
    pub async fn open(plan: &Plan, layout: Layout) -> Arc<Self> {
        let folder = tempfile::Builder::new().prefix("podero-bridge-world.").tempdir().expect("a folder");
        let (podero, account) = tokio::task::block_in_place(|| start_podero(folder.path(), plan.seed));
        let value = |key: &str| account.iter().find(|(name, _)| name == key).expect("the sandbox says it").1.clone();
        let podero_url = value("podero.base_url");
        let store = layout.store.unwrap_or_else(|| crate::kit::sqlite_url(folder.path()));
        let mut settings: Vec<(String, String)> = [
            ("HTTP__LISTEN", "127.0.0.1:0".to_owned()),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("SOURCE__DEFAULT__VERIFY", "none".to_owned()),
            ("STORE__URL", store),
            ("PODERO__BASE_URL", podero_url.clone()),
            ("PODERO__ORG_ID", value("podero.org_id")),
            ("PODERO__CLIENT_ID", value("podero.client_id")),
            ("PODERO__CLIENT_SECRET", value("podero.client_secret")),
            // A lease is 50 s and five times this: work that a killed replica held waits for that time.
            ("PODERO__TIMEOUT", format!("{TIMEOUT_MS}ms")),
            ("PODERO__REQUESTS_PER_SECOND", "2000".to_owned()),
            ("RETRY__INITIAL", "100ms".to_owned()),
            ("RETRY__MAX", "2s".to_owned()),
            ("WATCH__ENABLED", "false".to_owned()),
            ("LOG__FORMAT", "json".to_owned()),
            ("LOG__LEVEL", "info,podero_bridge=debug".to_owned()),
        ]
        .map(|(key, value)| (format!("PODERO_BRIDGE__{key}"), value))
        .into();
        settings.extend(layout.amqp.map(|url| ("PODERO_BRIDGE__AMQP__URL".to_owned(), url)));
        settings.extend(layout.keys.into_iter().map(|(key, value)| (format!("PODERO_BRIDGE__{key}"), value)));
        let replicas = (0..layout.replicas.max(1))
            .map(|number| Replica {
                log: folder.path().join(format!("bridge-{number}.log")),
                running: Mutex::new(None),
            })
            .collect();
        let http = reqwest::Client::builder().timeout(ANSWER_TIME_MAX).build().expect("a client");
        let world = Arc::new(Self {
            folder,
            http,
            podero,
            podero_url,
            settings,
            through: layout.through,
            replicas,
            turn: AtomicUsize::new(0),
            ends_seen: Mutex::default(),
        });
        for number in 0..world.replicas() {
            world.start(number);
            world.ready(number).await;
        }
        world
    }

    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// Starts one; returns at once. See [`ChaosWorld::ready`].
    pub fn start(&self, number: usize) {
        let replica = &self.replicas[number];
        let log = File::options().create(true).append(true).open(&replica.log).expect("a log");
        let mut words = self.through.clone();
        words.extend([binary(), "serve".to_owned()]);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.settings.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A pipe and not the file: a bound on the size of files must not reach the log.
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let doors = Arc::new(Mutex::new(None));
        let (stdout, told) = (child.stdout.take().expect("piped"), doors.clone());
        std::thread::spawn(move || read_doors(stdout, &told));
        let (mut stderr, mut log) = (child.stderr.take().expect("piped"), log);
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut log));
        *replica.running.lock().expect("not poisoned") = Some(Running { child, doors, is_frozen: false });
    }

    /// Waits until a replica that was started says that every part of it is well.
    pub async fn ready(&self, number: usize) {
        until_within(START_TIME_MAX, &format!("bridge {number} is ready"), async || {
            self.watch_for_ends();
            let (status, _) = self.look(number, "/readyz").await?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// A replica's listeners; `None` while it is down or has not opened them yet.
    pub fn doors(&self, number: usize) -> Option<Doors> {
        self.replicas[number]
            .running
            .lock()
            .expect("not poisoned")
            .as_ref()?
            .doors
            .lock()
            .expect("not poisoned")
            .clone()
    }

    /// The listener to which a load balancer would send the next request.
    pub fn next_door(&self) -> Option<String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Some(self.doors(turn % self.replicas())?.webhooks)
    }

    /// The answer of a replica's admin API; `None` when there is none.
    pub async fn look(&self, number: usize, path: &str) -> Option<(u16, String)> {
        let doors = self.doors(number)?;
        let answer = self.http.get(format!("{}{path}", doors.operator)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The sum of a replica's series that begin so.
    pub async fn metric(&self, number: usize, series: &str) -> f64 {
        let (_, text) = self.look(number, "/metrics").await.expect("it answers");
        let lines = text.lines().filter_map(|line| line.strip_prefix(series)?.rsplit(' ').next()?.parse::<f64>().ok());
        lines.sum()
    }

    pub fn pid(&self, number: usize) -> u32 {
        self.replicas[number].running.lock().expect("not poisoned").as_ref().expect("it runs").child.id()
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(&self, number: usize) {
        let running = self.replicas[number].running.lock().expect("not poisoned").take();
        let mut running = running.expect("it runs");
        // One that had ended by itself was noticed before, or is now.
        self.note_end(number, &mut running);
        running.child.kill().expect("it is ours");
        running.child.wait().expect("it ends");
    }

    /// SIGSTOP or SIGCONT. Returns when every thread stands still: until then one of them may be writing.
    pub fn freeze(&self, number: usize, is_frozen: bool) {
        let mut running = self.replicas[number].running.lock().expect("not poisoned");
        let running = running.as_mut().expect("it runs");
        signal(&running.child, if is_frozen { "STOP" } else { "CONT" });
        running.is_frozen = is_frozen;
        while is_frozen && !stands_still(running.child.id()) {
            std::thread::yield_now();
        }
    }

    /// No fault strikes any more, and every replica runs.
    pub async fn calm(&self) {
        self.no_faults().await;
        for number in 0..self.replicas() {
            let (is_running, is_frozen) = {
                let running = self.replicas[number].running.lock().expect("not poisoned");
                (running.is_some(), running.as_ref().is_some_and(|running| running.is_frozen))
            };
            if is_frozen {
                self.freeze(number, false);
            }
            if !is_running {
                self.start(number);
            }
        }
        for number in 0..self.replicas() {
            self.ready(number).await;
        }
    }

    /// Ends every bridge as systemd would; replicas whose exit status was not 0.
    pub async fn terminate(&self) -> Vec<String> {
        for replica in &self.replicas {
            if let Some(running) = replica.running.lock().expect("not poisoned").as_ref() {
                signal(&running.child, "TERM");
            }
        }
        let mut bad = Vec::new();
        for (number, replica) in self.replicas.iter().enumerate() {
            let Some(mut running) = replica.running.lock().expect("not poisoned").take() else { continue };
            let status = until("it ends", async || running.child.try_wait().expect("it can be asked")).await;
            if !status.success() {
                bad.push(format!("bridge {number} ended with {status} when it was told to stop"));
            }
        }
        bad
    }

    /// Ends that no test asked for.
    pub fn unasked_ends(&self) -> Vec<String> {
        self.watch_for_ends();
        self.ends_seen.lock().expect("not poisoned").clone()
    }

    fn watch_for_ends(&self) {
        for (number, replica) in self.replicas.iter().enumerate() {
            if let Some(running) = replica.running.lock().expect("not poisoned").as_mut() {
                self.note_end(number, running);
            }
        }
    }

    fn note_end(&self, number: usize, running: &mut Running) {
        if let Some(status) = running.child.try_wait().expect("it can be asked") {
            let line = format!("bridge {number} (process {}) ended by itself with {status}", running.child.id());
            let mut seen = self.ends_seen.lock().expect("not poisoned");
            if !seen.contains(&line) {
                seen.push(line);
            }
        }
    }

    /// The logs of everything that ran.
    pub fn logs(&self) -> String {
        let own = self.replicas.iter().map(|replica| replica.log.clone());
        let all = own.chain([self.folder.path().join("podero.log")]);
        all.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()).collect()
    }

    // --- Podero ---

    /// Faults as the plan has them.
    pub async fn trouble(&self, plan: &Plan) {
        self.fault(&json!({"operation": "*", "kind": "drop_after", "probability": plan.trouble})).await;
        // The caller listens no more when Podero acts, and perhaps lives no more.
        let late = json!({"operation": "*", "kind": "slow", "latency_ms": ACTS_LATE_MS, "probability": plan.trouble});
        self.fault(&late).await;
        self.fault(&json!({"operation": "*", "kind": "status", "status": 500, "probability": plan.trouble})).await;
        self.fault(&json!({"operation": "*", "kind": "status", "status": 429, "probability": plan.busy})).await;
    }

    pub async fn fault(&self, rule: &Value) {
        let request = self.http.post(self.control("/faults")).header("content-type", "application/json");
        let answer = request.body(rule.to_string()).send().await.expect("the sandbox answers");
        assert_eq!(answer.status(), 201, "{rule}");
    }

    /// The number of strikes of the rules in force.
    pub async fn struck(&self) -> u64 {
        let rules = self.get("/faults").await;
        rules.as_array().expect("rules").iter().filter_map(|rule| rule["struck"].as_u64()).sum()
    }

    pub async fn no_faults(&self) {
        self.http.delete(self.control("/faults")).send().await.expect("the sandbox answers");
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.control(path)).send().await.expect("the sandbox answers");
        answer.json().await.expect("JSON")
    }

    /// A token of Podero's, for calls past the bridge.
    pub async fn token(&self) -> String {
        let [id, secret] = ["CLIENT_ID", "CLIENT_SECRET"].map(|key| self.account(key));
        let request = self.http.post(format!("{}/oauth2/token/", self.podero_url)).basic_auth(id, Some(secret));
        let answer = request.json(&json!({"grant_type": "client_credentials"})).send().await.expect("it answers");
        let token: Value = answer.json().await.expect("JSON");
        token["access_token"].as_str().expect("a token").to_owned()
    }

    /// Makes a user past the bridge.
    pub async fn create_user(&self, token: &str, record: &Value) -> Value {
        let url = format!("{}/api/partners/v2.0/org/{}/users", self.podero_url, self.account("ORG_ID"));
        let answer = self.http.post(url).bearer_auth(token).json(record).send().await.expect("it answers");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.expect("JSON")
    }

    fn account(&self, key: &str) -> &str {
        let name = format!("PODERO_BRIDGE__PODERO__{key}");
        &self.settings.iter().find(|(known, _)| *known == name).expect("it is set").1
    }

    /// A customer connects a heat pump.
    pub async fn connect_heat_pump(&self, user: &str) {
        let request = self.http.post(self.control(&format!("/users/{user}/heat-pumps")));
        let answer = request.send().await.expect("the sandbox answers");
        assert_eq!(answer.status(), 201);
    }

    pub async fn forget_requests(&self) {
        self.http.delete(self.control("/requests")).send().await.expect("the sandbox answers");
    }

    fn control(&self, path: &str) -> String {
        format!("{}/_sandbox{path}", self.podero_url)
    }
}

impl Drop for ChaosWorld {
    fn drop(&mut self) {
        for replica in &self.replicas {
            if let Ok(mut running) = replica.running.lock()
                && let Some(running) = running.as_mut()
            {
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
        let _ = self.podero.kill();
        let _ = self.podero.wait();
        if std::thread::panicking() {
            let tail: Vec<String> = self.logs().lines().rev().take(30).map(str::to_owned).collect();
            eprintln!("the last lines of the logs, newest first:\n{}", tail.join("\n"));
        }
    }
}

/// The program under test.
pub fn binary() -> String {
    environment("PODERO_BRIDGE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_podero-bridge").to_owned())
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success(), "no process {}", child.id());
}

/// Starts the sandbox alone and reads what it says of itself.
fn start_podero(folder: &Path, seed: u64) -> (Child, Vec<(String, String)>) {
    let log = File::create(folder.join("podero.log")).expect("a log");
    let mut child = Command::new(binary())
        .args(["sandbox", "--listen", "127.0.0.1:0", "--seed", &seed.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let account = lines
        .take(5)
        .map(|line| {
            let line = line.expect("text");
            let (name, value) = line.split_once(' ').expect("a name and a value");
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    (child, account)
}

fn read_doors(stdout: ChildStdout, told: &Mutex<Option<Doors>>) {
    let mut webhooks = None;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Some((name, url)) = line.split_once(' ') else { continue };
        let url = url.trim();
        match name {
            "webhooks" => webhooks = Some(url.to_owned()),
            "operator" => {
                let operator = url.trim_end_matches("/readyz").to_owned();
                let webhooks = webhooks.take().expect("it was printed before");
                *told.lock().expect("not poisoned") = Some(Doors { webhooks, operator });
            }
            _ => {}
        }
    }
}

/// Says whether every thread of a process is stopped, or gone (proc(5): the state follows the bracketed name).
fn stands_still(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).all(|stat| {
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        matches!(state, Some('T' | 't' | 'Z' | 'X'))
    })
}
