//! `serve`: runs the bridge until a signal, then drains.
//!
//! Before: [`crate::cli`]. After: [`crate::app`].

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::output::say_apart;
use super::signals::Signals;
use crate::app::{Bridge, Limits, Options};
use crate::config::{Config, Secret};
use crate::console::LINK_LIFE;
use crate::telemetry;

/// Runs until a signal asks for the end; a second one ends at once.
pub(super) async fn run(mut config: Config, sandbox: bool) -> anyhow::Result<()> {
    telemetry::init(&config.log).context("there is no log")?;
    telemetry::log_panics();
    let mut signals = Signals::new()?;
    if !config.exposed.is_empty() {
        // One line for all paths: the log limits lines of a class to one a second.
        let paths: Vec<String> = config.exposed.iter().map(|path| path.display().to_string()).collect();
        let path = paths.join(", ");
        tracing::warn!(path, "every user of this machine can read or change a file of secrets; take those rights away");
    }
    let limits = limits();
    let scratch = (sandbox && config.store.is_default).then(|| scratch_store(&mut config)).transpose()?;
    let options = Options { sandbox, scratch, limits, worker: None };
    let signal = async {
        signals.next().await;
        signals.begin_end();
    };
    let Some(mut bridge) = Bridge::start_unless(config, options, signal).await? else { return Ok(()) };
    let mut lines = vec![
        format!("webhooks  http://{}/v1/events", bridge.http),
        format!("operator  http://{}/readyz", bridge.admin),
    ];
    lines.extend(bridge.sandbox.map(|sandbox| format!("sandbox   http://{sandbox}/_sandbox/state")));
    lines.extend(bridge.login_link.as_ref().map(|link| {
        let minutes = LINK_LIFE.as_secs() / 60;
        format!("console   {link}\n          (lets you in once, within {minutes} minutes)")
    }));
    say_apart(lines);
    let served = bridge.serve(signals.next()).await;
    signals.begin_end();
    bridge.stop().await;
    served
}

/// Uses a temporary store. The sandbox forgets everything at its end, and a store that remembers more than its Podero
/// would only confuse, so a store that is not configured ends with the sandbox.
fn scratch_store(config: &mut Config) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("podero-bridge-").tempdir().context("no temporary folder")?;
    let path = folder.path().join("podero-bridge.db");
    config.store.url = Secret::new(format!("sqlite://{}", path.display()));
    tracing::info!(store = %path.display(), "the store is temporary, like the sandbox; set store.url to keep one");
    Ok(folder)
}

/// File descriptors for each connection of the webhook listener; half of them are for the rest of the bridge, which could
/// reach neither the store nor Podero without.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// Raises the soft limit of open files, within the hard one (shells and containers often start with 1024), and limits the
/// connections to what it allows.
fn limits() -> Limits {
    let limits = Limits::default();
    let connections_max = u64::try_from(limits.connections_max).unwrap_or(u64::MAX);
    let enough = connections_max.saturating_mul(DESCRIPTORS_PER_CONNECTION);
    let known = getrlimit(Resource::Nofile);
    let wanted = known.maximum.map_or(enough, |hard| hard.min(enough));
    let mut current = known.current.unwrap_or(enough);
    if current < wanted {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: known.maximum });
        current = if raised.is_ok() { wanted } else { current };
    }
    if current >= enough {
        return limits;
    }
    let connections_max =
        usize::try_from(current / DESCRIPTORS_PER_CONNECTION).unwrap_or(limits.connections_max).max(1);
    tracing::warn!(descriptors = current, connections_max, "few files may be open; the door takes fewer connections");
    Limits { connections_max, ..limits }
}
