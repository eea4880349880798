//! The program as a process: its commands, exit statuses and signals, as a script or systemd sees them.

use std::io::{BufRead, BufReader};
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
    for chapter in ["signs up", "connects", "moves", "lapses", "resolved", "leaves", "superseded"] {
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
    sandbox: String,
}

impl Served {
    fn start() -> Self {
        let mut child = program(&["serve", "--sandbox"])
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
        next("operator");
        let sandbox = next("sandbox");
        Self { child, door, sandbox }
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
