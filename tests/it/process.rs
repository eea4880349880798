//! The program as a process: its commands, exit statuses and signals, as a script or systemd sees them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::world::{sign_up, until};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podero-bridge"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn the_demonstration_tells_its_story_and_ends_well() {
    let output = program(&["demo"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for chapter in [
        "signs up",
        "connects",
        "moves",
        "lapses",
        "resolved",
        "leaves",
        "superseded",
        "invitation",
        "admin_not_allowed",
        "team.member_removed",
    ] {
        assert!(told.contains(chapter), "{chapter} is missing in\n{told}");
    }
}

#[test]
fn bad_usage_and_bad_configuration_end_with_64_and_name_every_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[http]\nlisten = \"here\"\n[podero]\ntimeout = \"soon\"\nbase_ulr = \"x\"\n")
        .expect("written");
    let output = program(&["serve", "--config", file.to_str().expect("text")]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for key in ["http.listen", "podero.timeout", "podero.base_ulr", "podero.org_id", "podero.client_id"] {
        assert!(said.contains(key), "{key} is missing in\n{said}");
    }
    for arguments in [&["fly"][..], &[], &["serve", "--nonsense"]] {
        let output = program(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let output = program(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn check_offline_accepts_the_example_configuration_as_it_is() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config.example.toml");
    let output = program(&["check", "--offline", "--config", example]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// `serve --sandbox` with nothing configured but free ports.
struct Served {
    child: Child,
    door: String,
    operator: String,
    sandbox: String,
}

impl Served {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these variables of the environment, too.
    fn start_with(variables: &[(&str, &str)]) -> Self {
        let mut child = program(&["serve", "--sandbox"])
            .envs(variables.iter().copied())
            .env("PODERO_BRIDGE__HTTP__LISTEN", "127.0.0.1:0")
            .env("PODERO_BRIDGE__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PODERO_BRIDGE__SANDBOX__LISTEN", "127.0.0.1:0")
            .env("PODERO_BRIDGE__LOG__FORMAT", "json")
            .env("PODERO_BRIDGE__LOG__LEVEL", "debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = |name: &str| {
            let line = lines.next().expect("a line").expect("text");
            let url = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} does not begin with {name}"));
            url.trim().to_owned()
        };
        let door = next("webhooks");
        let operator = next("operator");
        let sandbox = next("sandbox");
        Self { child, door, operator, sandbox }
    }

    /// Ends it as systemd would; its exit status and its log.
    fn terminate(self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let output = self.child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_webhook_on_a_fresh_machine() {
    let served = Served::start();
    let http = reqwest::Client::new();
    let event = sign_up("evt-1", "C-4711", "2026-10-01T12:00:00Z");
    let send = async || {
        let request = http.post(&served.door).header("content-type", "application/cloudevents+json");
        let answer = request.body(event.to_string()).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = send().await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("accepted")));
    let state =
        async || -> Value { http.get(&served.sandbox).send().await.expect("an answer").json().await.expect("JSON") };
    let made = until("one user and one building are there", async || {
        let state = state().await;
        (state["buildings"].as_array().map(Vec::len) == Some(1)).then_some(state)
    })
    .await;
    assert_eq!(made["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(made["users"][0]["external_user_id"], "C-4711");
    assert_eq!(made["buildings"][0]["zip_code"], "01067");
    let (status, again) = send().await;
    assert_eq!((status, again["status"].as_str()), (202, Some("duplicate")));
    assert_eq!(state().await, made, "the same again changes nothing");

    let (code, log) = tokio::task::spawn_blocking(move || served.terminate()).await.expect("it ends");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    // P10: at the loudest level that is ours, ids only.
    for personal in ["C-4711@example.com", "Anna", "Hauptstrasse", "sandbox-secret"] {
        assert!(!log.contains(personal), "the log says {personal}");
    }
    assert!(log.contains("C-4711"), "and the customer's id is there");
}

/// A refused webhook leaves a line a second without its values and the rest is counted.
#[tokio::test(flavor = "multi_thread")]
async fn refused_webhooks_leave_a_line_a_second_without_values() {
    let served = Served::start();
    let http = reqwest::Client::new();
    let send = async |path: &str, body: String| {
        let request =
            http.post(format!("{}{path}", served.door)).header("content-type", "application/cloudevents+json");
        request.body(body).send().await.expect("an answer").status().as_u16()
    };
    let mut wrong = sign_up("evt-1", "C-4711", "2026-10-01T12:00:00Z");
    wrong["data"]["email"] = "Anna Hauptstrasse".into();
    wrong["data"]["address"]["zip_code"] = 1067.into();
    for _ in 0..50 {
        assert_eq!(send("", wrong.to_string()).await, 422);
        assert_eq!(send("/Anna-Hauptstrasse", wrong.to_string()).await, 404);
    }
    assert_eq!(send("", "no JSON".to_owned()).await, 400);
    let (code, log) = tokio::task::spawn_blocking(move || served.terminate()).await.expect("it ends");
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = |source: &str, problem: &str| {
        let is_of = |line: &&Value| line["source"] == source && line["problem"] == problem;
        let told: Vec<Value> = lines.iter().filter(is_of).cloned().collect();
        let class = format!("source={source} problem={problem}");
        let of_class = lines.iter().filter(|line| line["like"].as_str().is_some_and(|like| like.ends_with(&class)));
        let left_out: u64 = of_class.filter_map(|line| line["repeated"].as_u64()).sum();
        (told.len() as u64 + left_out, told)
    };
    let (count, invalid) = told("default", "invalid-event");
    assert_eq!(count, 50, "each is shown or counted\n{log}");
    assert!(invalid.len() < 50, "{log}");
    for (field, expected) in [
        ("status", Value::from(422)),
        ("level", "WARN".into()),
        ("pointers", "/data/email /data/address/zip_code".into()),
    ] {
        assert_eq!(invalid[0][field], expected, "{field}: {}", invalid[0]);
    }
    let (count, unknown) = told("_unknown", "unknown-source");
    assert_eq!((count, unknown[0]["level"].as_str(), unknown.len() < 50), (50, Some("INFO"), true), "{log}");
    assert_eq!(told("default", "malformed").1.len(), 1, "another problem has a line of its own\n{log}");
    for personal in ["Anna", "Hauptstrasse", "C-4711"] {
        assert!(!log.contains(personal), "the log says {personal}");
    }
}

/// A port that answers each connection with these bytes and closes it.
fn port_that_says(greeting: &'static [u8]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut asked = [0; 8];
            // The end is the other side's matter.
            let _ = stream.read(&mut asked).and_then(|_| stream.write_all(greeting));
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    port
}

/// RabbitMQ's answer to what is no AMQP.
const AMQP_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// An alert of TLS: an unexpected message.
const TLS_ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x0a";

#[test]
fn check_says_that_a_port_does_not_speak_what_its_address_says() {
    let plain = port_that_says(AMQP_HEADER);
    let sealed = port_that_says(TLS_ALERT);
    let web = port_that_says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::kit::sqlite_url(folder.path());
    for (url, expected) in [
        (format!("amqps://guest:p%23ss@localhost:{plain}/%2f"), "does not speak TLS"),
        (format!("amqp://guest:p%23ss@localhost:{sealed}/%2f"), "if it speaks TLS, write amqps://"),
    ] {
        let output = program(&["check"])
            .env("PODERO_BRIDGE__AMQP__URL", &url)
            .env("PODERO_BRIDGE__STORE__URL", &store)
            .env("PODERO_BRIDGE__PODERO__BASE_URL", format!("https://localhost:{web}"))
            .env("PODERO_BRIDGE__PODERO__ORG_ID", "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b")
            .env("PODERO_BRIDGE__PODERO__CLIENT_ID", "bridge")
            .env("PODERO_BRIDGE__PODERO__CLIENT_SECRET", "secret")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let line = |part: &str| {
            let begin = format!("failed  {part}:");
            said.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("{part}: {said}"))
        };
        assert!(line("broker").contains(expected), "{said}");
        assert!(line("podero").contains("does not speak TLS"), "{said}");
        assert!(!said.contains("p%23ss") && !said.contains("InvalidContentType"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_that_the_brokers_port_does_not_speak_tls() {
    let url = format!("amqps://guest:guest@localhost:{}/%2f", port_that_says(AMQP_HEADER));
    let served = Served::start_with(&[("PODERO_BRIDGE__AMQP__URL", &url)]);
    let http = reqwest::Client::new();
    let ready = served.operator.clone();
    until("the broker's line says why", async || {
        let answer = http.get(&ready).send().await.ok()?;
        answer.text().await.ok()?.contains("does not speak TLS").then_some(())
    })
    .await;
    let (_, log) = tokio::task::spawn_blocking(move || served.terminate()).await.expect("it ends");
    let line = log.lines().find(|line| line.contains("broker not usable")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("that port does not speak TLS") && !line.contains("InvalidContentType"), "{line}");
}

#[test]
fn two_signals_end_it_at_once() {
    let mut served = Served::start();
    let pid = served.child.id().to_string();
    for _ in 0..2 {
        let _ = Command::new("kill").args(["-INT", &pid]).status();
    }
    let ended = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        served.child.try_wait().expect("it can be asked").is_some()
    });
    assert!(ended, "it still runs");
}
