//! The processes that are measured. Each prints its address, and ends with its handle.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::store::Store;

/// A name in the configuration, without its prefix, and its value.
pub(crate) type Key = (&'static str, String);

/// Timeout of a start, longer than any start takes.
const START_MAX: Duration = Duration::from_secs(60);

/// Interval between two looks at a start: the measured times are tens of milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A program of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The one that is measured: this build's, or another, to compare two runs.
    Measured,
    /// The one on SQLite that PostgreSQL is measured against: an older one, or else the measured one.
    BesidePostgres,
    /// A program without the audit log, to show what the log costs.
    WithoutAudit,
}

const BINARY_WITHOUT_AUDIT: &str = "PODERO_BRIDGE_BENCH_BINARY_WITHOUT_AUDIT";

impl Binary {
    /// True unless the environment must name it and does not.
    pub(crate) fn is_named(self) -> bool {
        self != Self::WithoutAudit || std::env::var_os(BINARY_WITHOUT_AUDIT).is_some()
    }

    fn path(self) -> PathBuf {
        let measured = std::env::var_os("PODERO_BRIDGE_BENCH_BINARY");
        let named = match self {
            Self::Measured => measured,
            Self::BesidePostgres => std::env::var_os("PODERO_BRIDGE_BENCH_BINARY_OF_SQLITE").or(measured),
            Self::WithoutAudit => std::env::var_os(BINARY_WITHOUT_AUDIT),
        };
        named.map_or_else(|| env!("CARGO_BIN_EXE_podero-bridge").into(), PathBuf::from)
    }
}

/// A server under load.
pub(crate) struct Process {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
    /// Host and port of the bridge's admin API.
    pub(crate) operator: String,
}

impl Process {
    /// The measured bridge on a store, with these settings and the usual ones.
    pub(crate) fn bridge(store: &Store, keys: &[Key]) -> anyhow::Result<Self> {
        Self::bridge_of(Binary::Measured, store, keys)
    }

    /// The same with another program.
    pub(crate) fn bridge_of(binary: Binary, store: &Store, keys: &[Key]) -> anyhow::Result<Self> {
        let usual = [
            ("HTTP__LISTEN", "127.0.0.1:0"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("STORE__URL", &store.url),
            ("STORE__BACKLOG_MAX", "100000000"),
            // The discard port, on which no process listens.
            ("PODERO__BASE_URL", "http://127.0.0.1:9"),
            ("PODERO__ORG_ID", "5a9db000-0000-4000-8000-000000000001"),
            ("PODERO__CLIENT_ID", "bench"),
            ("PODERO__CLIENT_SECRET", "bench"),
            ("PODERO__REQUESTS_PER_SECOND", "10000"),
            ("WATCH__ENABLED", "false"),
            ("LOG__LEVEL", "error"),
        ];
        let mut command = Command::new(binary.path());
        command.arg("serve").env_clear();
        let all = usual.iter().map(|(key, value)| (*key, (*value).to_owned())).chain(keys.iter().cloned());
        command.envs(all.map(|(key, value)| (format!("PODERO_BRIDGE__{key}"), value)));
        let mut lines = Self::spawn(&mut command)?;
        let door = |line: &str, name: &str| {
            Some(line.strip_prefix(name)?.trim().strip_prefix("http://")?.split('/').next()?.to_owned())
        };
        let address = lines.find(|line| door(line, "webhooks "))?;
        let operator = lines.find(|line| door(line, "operator "))?;
        Ok(Self { child: lines.child, address, operator })
    }

    /// This program in another role.
    pub(crate) fn role(role: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).args(arguments);
        let mut lines = Self::spawn(&mut command)?;
        let address = lines.find(|line| line.strip_prefix("listening ").map(str::to_owned))?;
        Ok(Self { child: lines.child, address, operator: String::new() })
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Lines> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Lines { child, lines })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Stops it in the middle of its work, or lets it go on.
    pub(crate) fn freeze(&self, is_frozen: bool) -> anyhow::Result<()> {
        Ok(kill_process(self.pid(), if is_frozen { Signal::STOP } else { Signal::CONT })?)
    }

    /// Ends it in good order.
    pub(crate) fn terminate(mut self) -> anyhow::Result<()> {
        kill_process(self.pid(), Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// The time until the bridge says that it is ready.
    pub(crate) async fn ready(&self, since: Instant) -> anyhow::Result<Duration> {
        let url = format!("http://{}/readyz", self.operator);
        while since.elapsed() < START_MAX {
            if crate::target::CLIENT.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(since.elapsed());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::bail!("it did not become ready")
    }

    /// One series of the bridge's metrics, all labels together.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = crate::target::CLIENT.get(format!("http://{}/metrics", self.operator)).send().await?.text().await?;
        let of_name =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        Ok(of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Waits until a large file's check is over, which a start makes next to its work.
    pub(crate) async fn examined(&self) -> anyhow::Result<()> {
        while self.cpu()?.iter().any(|(thread, _)| thread == "long-read") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Time on a processor so far, by the names of its threads.
    pub(crate) fn cpu(&self) -> anyhow::Result<Vec<(String, Duration)>> {
        // The kernel counts in hundredths of a second, on every machine that matters.
        const TICK: Duration = Duration::from_millis(10);
        let mut all: Vec<(String, Duration)> = Vec::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // One that has ended meanwhile has no file any more.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            let (Some((_, named)), Some((_, fields))) = (stat.split_once('('), stat.rsplit_once(") ")) else {
                continue;
            };
            let name = named.rsplit_once(')').map_or(named, |(name, _)| name);
            let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>();
            match all.iter_mut().find(|(known, _)| known == name) {
                Some((_, time)) => *time += TICK * ticks,
                None => all.push((name.to_owned(), TICK * ticks)),
            }
        }
        Ok(all)
    }

    /// Time on a processor so far, of all threads.
    pub(crate) fn cpu_in_all(&self) -> anyhow::Result<Duration> {
        Ok(self.cpu()?.iter().map(|(_, time)| *time).sum())
    }

    /// Resident memory, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("Linux says it")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Lines {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Lines {
    fn find(&mut self, wanted: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            if let Some(found) = wanted(line.trim_end()) {
                return Ok(found);
            }
            line.clear();
        }
        anyhow::bail!("a process ended before it told its address: {:?}", self.child.wait()?)
    }
}

/// The project's own RabbitMQ or PostgreSQL, on private ports; gone with its handle.
pub(crate) struct Servers(tempfile::TempDir);

impl Servers {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let servers = Self(tempfile::Builder::new().prefix("podero-bridge-bench.").tempdir()?);
        servers.script("start", &[])?;
        Ok(servers)
    }

    /// The URL of a virtual host of its own.
    pub(crate) fn broker(&self) -> anyhow::Result<String> {
        self.script("vhost", &[])
    }

    /// The URL of an empty database.
    pub(crate) fn database(&self) -> anyhow::Result<String> {
        self.script("database", &[])
    }

    /// The URL of a copy of a database that no process has open.
    pub(crate) fn copy_of_database(&self, name: &str) -> anyhow::Result<String> {
        self.script("database", &["", name])
    }

    /// The URL of a database for questions about the whole server.
    pub(crate) fn postgres(&self) -> anyhow::Result<String> {
        let env = std::fs::read_to_string(self.0.path().join("env"))?;
        let url = env.lines().find_map(|line| line.strip_prefix("POSTGRES_URL="));
        Ok(url.context("PostgreSQL was started")?.to_owned())
    }

    fn script(&self, command: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        let output = Command::new(script).arg(command).arg(self.0.path()).args(arguments).output()?;
        anyhow::ensure!(
            output.status.success(),
            "tests/servers {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Err(error) = self.script("stop", &[]) {
            eprintln!("{error}");
        }
    }
}
