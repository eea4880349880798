//! Secrets follow their files: a changed file is read again while the bridge runs.
//!
//! The files are read on a thread of their own, since a file system may not answer. A file that cannot be used changes nothing.
//!
//! Before: an operator replaces a file. After: [`crate::config`] holds the secret, by which deliveries are verified, or callers
//! of the admin API known.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::{Config, Reloaded, Secrets};
use crate::pump::Step;

/// Limit of the wait for the files: a local file takes a millisecond. A file system that does not answer must not hold up
/// the end of the process.
const READ_TIME_MAX: Duration = Duration::from_secs(2);

/// The sources and tokens whose secrets may be in files.
pub struct SecretFiles {
    owners: Vec<Owner>,
    /// The read under way, at most one: a file system that does not answer holds one thread.
    under_way: Mutex<Option<JoinHandle<()>>>,
}

/// The holder of secrets, as a line of the log names it.
#[derive(Clone)]
struct Owner {
    kind: &'static str,
    name: String,
    secrets: Secrets,
}

impl SecretFiles {
    /// Reads for the sources and tokens of this configuration, which share their secrets with the listeners'.
    pub fn new(config: &Config) -> Self {
        let sources = config.sources.iter().filter_map(|source| {
            let secrets = source.verify.secrets()?.clone();
            Some(Owner { kind: "source", name: source.name.clone(), secrets })
        });
        let tokens = config.admin.tokens.iter();
        let tokens =
            tokens.map(|token| Owner { kind: "token", name: token.name.clone(), secrets: token.secrets.clone() });
        Self { owners: sources.chain(tokens).collect(), under_way: Mutex::default() }
    }

    /// Reads all files.
    pub async fn read(&self) -> Step {
        let mut under_way = self.under_way.lock().await;
        let reading = under_way.get_or_insert_with(|| {
            let owners = self.owners.clone();
            tokio::task::spawn_blocking(move || owners.iter().for_each(reload))
        });
        match tokio::time::timeout(READ_TIME_MAX, reading).await {
            // One that panicked is begun again.
            Ok(_) => *under_way = None,
            Err(_) => tracing::warn!("the files of secrets do not answer; the secrets stay as they were"),
        }
        Step::Idle
    }
}

fn reload(owner: &Owner) {
    let Owner { kind, name, secrets } = owner;
    match secrets.reload() {
        Reloaded::Same => {}
        Reloaded::Changed => tracing::info!(kind, name, "its secrets were read again"),
        Reloaded::Refused(why) => {
            tracing::warn!(kind, name, why, "its secrets stay as they were: the file cannot be used");
        }
    }
}
