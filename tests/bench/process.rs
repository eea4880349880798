//! The processes that are measured. Each prints its address, and ends with its handle.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::load::SECRET;

/// A server under load.
pub(crate) struct Process {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Process {
    /// The bridge on a store of its own, with a Podero that is away: what is accepted waits, and nothing else goes on.
    pub(crate) fn bridge(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let store = format!("sqlite://{}", folder.join("bridge.db").display());
        let settings = [
            ("HTTP__LISTEN", "127.0.0.1:0"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("STORE__URL", &store),
            ("STORE__BACKLOG_MAX", "100000000"),
            // The discard port: nobody listens.
            ("PODERO__BASE_URL", "http://127.0.0.1:9"),
            ("PODERO__ORG_ID", "5a9db000-0000-4000-8000-000000000001"),
            ("PODERO__CLIENT_ID", "bench"),
            ("PODERO__CLIENT_SECRET", "bench"),
            ("WATCH__ENABLED", "false"),
            ("SOURCE__DEFAULT__VERIFY", "standard-webhooks"),
            ("SOURCE__DEFAULT__SECRETS", SECRET),
            ("LOG__LEVEL", "error"),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_podero-bridge"));
        command.arg("serve").env_clear();
        command.envs(settings.map(|(key, value)| (format!("PODERO_BRIDGE__{key}"), value)));
        Self::spawn(command, |line| line.strip_prefix("webhooks ")?.trim().strip_prefix("http://")?.split('/').next())
    }

    /// This program in another role.
    pub(crate) fn limit(role: &str, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).arg(folder);
        Self::spawn(command, |line| line.strip_prefix("listening "))
    }

    fn spawn(mut command: Command, address: impl Fn(&str) -> Option<&str>) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let found = lines.map_while(Result::ok).find_map(|line| address(&line).map(str::to_owned));
        match found {
            Some(address) => Ok(Self { child, address }),
            None => anyhow::bail!("a process ended before it told its address: {:?}", child.wait()?),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
