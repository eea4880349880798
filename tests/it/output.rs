//! The bridge as a process whose output no process reads, whose files are replaced by pipes, and that is asked to end:
//! nothing of that stops its work, and the end comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::running::{Environment, command, on_file, run, said};
use crate::world::{sign_up, until};

/// The bytes that a pipe of Linux holds.
const PIPE_BYTES: usize = 64 << 10;

/// Longest wait for an end that the process has a bound of its own for, on a machine that is busy with other things.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped.
struct Process {
    child: Child,
    door: String,
    operator: String,
    sandbox: String,
}

impl Process {
    /// `serve --sandbox` with its log in `stderr`.
    fn serve(folder: &Path, more: Environment, stderr: impl Into<Stdio>) -> Self {
        let mut environment = on_file(folder);
        environment.extend(more);
        let mut serve = command(&["serve", "--sandbox"], &environment);
        let mut child = serve.stdout(Stdio::piped()).stderr(stderr).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = |name: &str| {
            let line = lines.next().expect("a line").expect("text");
            let url = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} does not begin with {name}"));
            url.trim().split('/').take(3).collect::<Vec<_>>().join("/")
        };
        let (door, operator, sandbox) = (next("webhooks"), next("operator"), next("sandbox"));
        Self { child, door, operator, sandbox }
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The exit status.
    fn ended(&mut self) -> Option<i32> {
        ended(&mut self.child)
    }

    async fn get(&self, url: &str) -> String {
        reqwest::get(url).await.expect("an answer").text().await.expect("a text")
    }

    /// The value of a series in the metrics.
    async fn metric(&self, series: &str) -> Option<u64> {
        let metrics = self.get(&format!("{}/metrics", self.operator)).await;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(&format!("podero_bridge_{series} "))).map(str::to_owned);
        line?.parse().ok()
    }

    async fn sign_up(&self, count: usize) {
        let http = reqwest::Client::new();
        for number in 0..count {
            let event = sign_up(&format!("evt-{number}"), &format!("C-{number}"), "2026-10-01T12:00:00Z");
            let request = http.post(format!("{}/v1/events", self.door)).body(event.to_string());
            let answer =
                request.header("content-type", "application/cloudevents+json").send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 202);
        }
    }

    async fn applied(&self, count: u64) {
        until("all are applied", async || {
            let applied = self.metric(r#"events_settled_total{outcome="applied",type="customer.signed_up"}"#).await;
            (applied == Some(count)).then_some(())
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[expect(clippy::disallowed_methods, reason = "a bound on a real process")]
fn ended(child: &mut Child) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it can be asked") {
            return status.code();
        }
        assert!(began.elapsed() < END_PATIENCE, "it still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A pipe that takes nothing more, and its end, which is not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&vec![b'\n'; PIPE_BYTES]).expect("as much as it holds");
    (reader, writer)
}

/// A log without a reader stops no work and says afterwards what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_no_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let (reader, writer) = full_pipe();
    // As loud as it gets: more than may wait.
    let loud = vec![("LOG__LEVEL", "trace".to_owned())];
    let process = Process::serve(folder.path(), loud, writer);
    process.sign_up(600).await;
    process.applied(600).await;
    until("lines are dropped and counted", async || {
        process.metric("log_lines_dropped_total").await.filter(|dropped| *dropped > 0)
    })
    .await;
    let ready = process.get(&format!("{}/readyz", process.operator)).await;
    let line = ready.lines().find(|line| line.starts_with("[+] log: ")).unwrap_or_else(|| panic!("{ready}"));
    assert!(line.ends_with("lines dropped; standard error takes fewer than come"), "{line}");

    let (found, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if line.contains("log lines were dropped") {
                let line: Value = serde_json::from_str(&line).expect("JSON, whole");
                let _ = found.send(line["lines"].as_u64().expect("how many"));
            }
        }
    });
    let told = tokio::task::spawn_blocking(move || told.recv_timeout(END_PATIENCE)).await.expect("no panic");
    assert!(told.expect("a line says it once somebody reads") > 0);
}

/// A log without a reader is reported while there is still room for its lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_log_is_told_while_there_is_room_for_its_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut reader, writer) = full_pipe();
    let process = Process::serve(folder.path(), Vec::new(), writer);
    let blocked = async || {
        let metrics = process.get(&format!("{}/metrics", process.operator)).await;
        let value = metrics.lines().find_map(|line| line.strip_prefix("podero_bridge_log_blocked_seconds "));
        value.expect("it is always there").parse::<f64>().expect("a number")
    };
    let ready = async || process.get(&format!("{}/readyz", process.operator)).await;
    let line = until("it is told", async || {
        ready().await.lines().find(|line| line.starts_with("[+] log: ")).map(str::to_owned)
    })
    .await;
    let rest = line.strip_prefix("[+] log: nothing was taken for ").unwrap_or_else(|| panic!("{line}"));
    let (seconds, lines) = rest.split_once(" s; ").unwrap_or_else(|| panic!("{line}"));
    let lines: u64 = lines.strip_suffix(" lines wait").and_then(|lines| lines.parse().ok()).expect("how many");
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0) && lines > 0, "{line}");
    assert!(blocked().await > 0.0);
    assert_eq!(process.metric("log_lines_dropped_total").await, Some(0), "nothing is lost yet");
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    until("it is over", async || (blocked().await == 0.0 && !ready().await.contains("log: ")).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_secrets_that_all_can_read_are_named_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut environment = Environment::new();
    let files = ["one", "two", "three"].map(|name| folder.path().join(name));
    for (file, [verify, secrets]) in files.iter().zip([
        ["SOURCE__ONE__VERIFY", "SOURCE__ONE__SECRETS_FILE"],
        ["SOURCE__TWO__VERIFY", "SOURCE__TWO__SECRETS_FILE"],
        ["SOURCE__THREE__VERIFY", "SOURCE__THREE__SECRETS_FILE"],
    ]) {
        std::fs::write(file, "0123456789abcdef\n").expect("written");
        environment.push((verify, "bearer".to_owned()));
        environment.push((secrets, file.display().to_string()));
    }
    let written = std::fs::File::create(&log).expect("a log");
    let _process = Process::serve(folder.path(), environment, written);
    let log = std::fs::read_to_string(&log).expect("a log");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a file of secrets")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(files.iter().all(|file| line.contains(&file.display().to_string())), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_log_that_nobody_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_reader, writer) = full_pipe();
    let mut process = Process::serve(folder.path(), Vec::new(), writer);
    process.sign_up(5).await;
    process.applied(5).await;
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_output_that_nobody_reads_stops_nothing_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_reader, writer) = full_pipe();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one").port();
    let mut environment = on_file(folder.path());
    environment.push(("ADMIN__LISTEN", format!("127.0.0.1:{port}")));
    let mut serve = command(&["serve", "--sandbox"], &environment);
    let stderr = writer.try_clone().expect("another end");
    let mut child = serve.stdout(writer).stderr(stderr).spawn().expect("it starts");
    until("it lives", async || reqwest::get(format!("http://127.0.0.1:{port}/livez")).await.ok()).await;
    signal(&child, "TERM");
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn a_second_signal_ends_a_command_that_is_stuck() {
    let (reader, writer) = full_pipe();
    let mut sandbox = command(&["sandbox", "--listen", "127.0.0.1:0"], &Environment::new());
    let mut child = sandbox.stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
    // It hangs in its first line, for good.
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    for _ in 0..1_000 {
        if catches_hang_up(&child) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "HUP");
    stderr.read_line(&mut line).expect("a line");
    assert_eq!(line, "podero-bridge: SIGHUP was passed over\n");
    // Two that come at once are one.
    while child.try_wait().expect("it can be asked").is_none() {
        signal(&child, "TERM");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ended(&mut child), Some(128 + 15));
    drop(reader);
}

/// Says whether SIGHUP no longer ends the process: the lowest bit of the signals that it catches.
fn catches_hang_up(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux shows it").trim();
    u64::from_str_radix(caught, 16).expect("a number") & 1 == 1
}

#[test]
fn a_demonstration_that_is_interrupted_ends_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = command(&["demo"], &Environment::new());
    let demo = demo.env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = demo.spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    signal(&child, "INT");
    assert_eq!(ended(&mut child), Some(1), "{line}");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(said, "podero-bridge: the demonstration was interrupted\n");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_file_that_a_library_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("ca.pem");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    // It says that it speaks TLS; then the bridge reads the certificate, for ever.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("it has one").port();
    let (asked, is_asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 8]).and_then(|_| stream.write_all(b"S"));
            let _ = asked.send(());
            std::mem::forget(stream);
        }
    });
    let mut environment = on_file(folder.path());
    let url = format!("postgres://u:p@127.0.0.1:{port}/d?sslmode=verify-ca&sslrootcert={}", pipe.display());
    environment.push(("STORE__URL", url));
    let mut child = command(&["serve", "--sandbox"], &environment).stderr(Stdio::null()).spawn().expect("it starts");
    is_asked.recv_timeout(END_PATIENCE).expect("it connects");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "TERM");
    assert_eq!(ended(&mut child), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_ask_for_no_end_are_passed_over_and_sigquit_ends_it_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let written = std::fs::File::create(&log).expect("a log");
    let mut process = Process::serve(folder.path(), Vec::new(), written);
    let read = || std::fs::read_to_string(&log).expect("a log");
    for name in ["HUP", "USR1", "USR2"] {
        process.signal(name);
        until("it says so", async || {
            let is_told =
                |line: &str| line.contains("a signal was passed over") && line.contains(&format!("SIG{name}"));
            read().lines().any(is_told).then_some(())
        })
        .await;
    }
    process.sign_up(1).await;
    process.applied(1).await;
    process.signal("QUIT");
    assert_eq!(process.ended(), Some(0));
    let log = read();
    assert!(log.contains(r#""message":"stopped""#) && log.contains("SIGQUIT"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_make_a_line_a_second_and_the_rest_is_counted() {
    const EACH: usize = 250;
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let written = std::fs::File::create(&log).expect("a log");
    let process = Process::serve(folder.path(), Vec::new(), written);
    let address = process.door.trim_start_matches("http://").to_owned();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    let mut stream = TcpStream::connect(&address).expect("it listens");
                    stream.write_all(b"X\r\n\r\n").expect("it takes it");
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    let (shown, left_out) = until("every one is shown or counted", async || {
        let lines: Vec<Value> = std::fs::read_to_string(&log)
            .expect("a log")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_default())
            .collect();
        let is_servers = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("actix_http"));
        let shown = lines.iter().filter(|line| is_servers(&line["target"])).count();
        let left_out: u64 =
            lines.iter().filter(|line| is_servers(&line["of"])).filter_map(|line| line["repeated"].as_u64()).sum();
        (shown as u64 + left_out >= 8 * EACH as u64).then_some((shown as u64, left_out))
    })
    .await;
    assert!(shown < left_out / 4, "{shown} are shown, {left_out} left out");
    assert_eq!(process.metric("log_lines_limited_total").await, Some(left_out));
}

/// A pipe in the place of a file of secrets stops nothing and changes none.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_secrets_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = folder.path().join("secrets");
    std::fs::write(&secrets, "0123456789abcdef\n").expect("written");
    let log = folder.path().join("log");
    let written = std::fs::File::create(&log).expect("a log");
    let source = vec![
        ("SOURCE__BILLING__VERIFY", "bearer".to_owned()),
        ("SOURCE__BILLING__SECRETS_FILE", secrets.display().to_string()),
    ];
    let mut process = Process::serve(folder.path(), source, written);
    assert!(std::fs::read_to_string(&log).expect("a log").contains("can read or change a file of secrets"));
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    std::fs::rename(&pipe, &secrets).expect("it takes its place");
    until("the log says so", async || {
        let log = std::fs::read_to_string(&log).expect("a log");
        let is_told =
            |line: &str| line.contains("its secrets stay as they were") && line.contains("it is a named pipe");
        log.lines().any(is_told).then_some(())
    })
    .await;
    let event = sign_up("evt-1", "C-1", "2026-10-01T12:00:00Z").to_string();
    let http = reqwest::Client::new();
    let request = http.post(format!("{}/v1/events/billing", process.door)).body(event).bearer_auth("0123456789abcdef");
    let answer = request.header("content-type", "application/cloudevents+json").send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 202, "what held before still does");
    let state = process.get(&format!("{}/_sandbox/state", process.sandbox)).await;
    assert!(state.contains("users"), "{state}");
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn a_url_that_cannot_be_read_is_not_repeated() {
    let secret = "hunter2OfTheUtility";
    for url in [
        format!("postgres://u@h/d?sslmode={secret}"),
        format!("postgres://u:p@h:{secret}/d"),
        format!("postgresql://u:{secret}@[h/d"),
        format!("postgres://u:p@h/d?port={secret}"),
    ] {
        let environment = vec![("STORE__URL", url.clone()), ("SANDBOX__LISTEN", "127.0.0.1:0".into())];
        for arguments in [&["serve", "--sandbox"][..], &["parked", "list"], &["erase", "C-1"]] {
            let output = run(arguments, &environment);
            let said = said(&output);
            assert!(!said.contains(secret), "{url}: {said}");
            assert!(said.contains("store.url") && output.status.code().is_some_and(|code| code != 0), "{url}: {said}");
        }
    }
}

#[test]
fn a_configuration_may_come_through_a_pipe_and_ends_somewhere() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config.example.toml");
    let check = |config: &str| {
        let script = format!("exec {} check --offline --config {config}", env!("CARGO_BIN_EXE_podero-bridge"));
        Command::new("bash").args(["-c", &script]).output().expect("it runs")
    };
    for config in [format!("<(cat {example})"), format!("/dev/stdin < {example}")] {
        let output = check(&config);
        assert_eq!(output.status.code(), Some(0), "{config}: {}", said(&output));
    }
    let output = check("/dev/zero");
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("it has more than 1048576 bytes"), "{}", said(&output));
}
