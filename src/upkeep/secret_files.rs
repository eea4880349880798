//! Secrets follow their files: a changed file is read again while the bridge runs.
//!
//! The files are read on a thread of their own, since a file system may not answer. A file that cannot be used changes nothing.
//!
//! Before: an operator replaces a file. After: [`crate::config`] holds the secret, by which deliveries are verified.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::{Reloaded, Secrets, Source};
use crate::pump::Step;

/// Limit of the wait for the files: a local file takes a millisecond. A file system that does not answer must not hold up
/// the end of the process.
const READ_TIME_MAX: Duration = Duration::from_secs(2);

/// The sources whose secrets may be in files.
pub struct SecretFiles {
    sources: Vec<Source>,
    /// The read under way, at most one: a file system that does not answer holds one thread.
    under_way: Mutex<Option<JoinHandle<()>>>,
}

impl SecretFiles {
    /// Reads for these sources, which share their secrets with the listener's.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources, under_way: Mutex::default() }
    }

    /// Reads all files.
    pub async fn read(&self) -> Step {
        let mut under_way = self.under_way.lock().await;
        let reading = under_way.get_or_insert_with(|| {
            let sources = self.sources.clone();
            tokio::task::spawn_blocking(move || sources.iter().for_each(reload))
        });
        match tokio::time::timeout(READ_TIME_MAX, reading).await {
            // One that panicked is begun again.
            Ok(_) => *under_way = None,
            Err(_) => tracing::warn!("the files of secrets do not answer; the secrets stay as they were"),
        }
        Step::Idle
    }
}

fn reload(source: &Source) {
    match source.verify.secrets().map_or(Reloaded::Same, Secrets::reload) {
        Reloaded::Same => {}
        Reloaded::Changed => tracing::info!(source = source.name, "its secrets were read again"),
        Reloaded::Refused(why) => {
            tracing::warn!(source = source.name, why, "its secrets stay as they were: the file cannot be used");
        }
    }
}
