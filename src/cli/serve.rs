//! `serve`: runs the bridge until a signal, then drains. The one owner of signals.
//!
//! Before: [`crate::cli`]. After: [`crate::app`].

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::say;
use crate::app::{Bridge, Options};
use crate::config::{Config, Secret};
use crate::telemetry;

/// Runs until SIGTERM or SIGINT; a second one ends at once.
pub(super) async fn run(mut config: Config, sandbox: bool) -> anyhow::Result<()> {
    telemetry::init(&config.log);
    let mut signals = Signals::new()?;
    raise_descriptors();
    let scratch = (sandbox && config.store.is_default).then(|| scratch_store(&mut config)).transpose()?;
    let mut bridge = tokio::select! {
        bridge = Bridge::start(config, Options { sandbox, scratch, ..Options::default() }) => bridge?,
        // It may wait for its store for minutes.
        () = signals.next() => return Ok(()),
    };
    say(&format!("webhooks  http://{}/v1/events", bridge.http));
    say(&format!("operator  http://{}/readyz", bridge.admin));
    if let Some(sandbox) = bridge.sandbox {
        say(&format!("sandbox   http://{sandbox}/_sandbox/state"));
    }
    let served = bridge.serve(signals.next()).await;
    tokio::select! {
        () = bridge.stop() => {}
        () = signals.next() => tracing::warn!("a second signal: ending at once"),
    }
    served
}

/// The sandbox forgets everything when it ends. A store that remembered more than Podero does would only confuse,
/// so where none is configured it lives and ends with the sandbox.
fn scratch_store(config: &mut Config) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("podero-bridge-").tempdir().context("no temporary folder")?;
    let path = folder.path().join("podero-bridge.db");
    config.store.url = Secret::new(format!("sqlite://{}", path.display()));
    tracing::info!(store = %path.display(), "the store is temporary, like the sandbox; set store.url to keep one");
    Ok(folder)
}

/// Descriptors that are enough: two for each connection of the door, and the rest of the house.
const DESCRIPTORS: u64 = 16_384;

/// Raises the soft limit of open files as far as the hard one allows: shells and containers often start with 1024,
/// which is less than the door's own bound of connections.
fn raise_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.map_or(DESCRIPTORS, |hard| hard.min(DESCRIPTORS));
    if limits.current.is_some_and(|soft| soft < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limits.maximum });
        tracing::debug!(wanted, is_raised = raised.is_ok(), "the limit of open files");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
