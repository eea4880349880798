//! Secrets follow their files: a changed file is read again while the bridge runs.
//!
//! The files are read on a thread of their own, since a file system may not answer. A file that cannot be used changes nothing.
//! A token that was replaced has a row of the audit log.
//!
//! Before: an operator replaces a file. After: [`crate::config`] holds the secret, by which deliveries are verified, or callers
//! of the admin API known; [`crate::store`] notes the tokens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::{AdminToken, Config, Reloaded, ScimToken, Secret, Secrets};
use crate::pump::{Step, failed};
use crate::store::{Error, Store};

/// Limit of the wait for the files: a local file takes a millisecond. A file system that does not answer must not hold up
/// the end of the process.
const READ_TIME_MAX: Duration = Duration::from_secs(2);

/// The sources, tokens and links whose secrets may be in files.
pub struct SecretFiles {
    owners: Vec<Owner>,
    /// The read under way, at most one: a file system that does not answer holds one thread. It says whether a token changed.
    under_way: Mutex<Option<JoinHandle<bool>>>,
    store: Store,
    tokens: Vec<AdminToken>,
    of_scim: Vec<ScimToken>,
    /// `false`: a token changed, and the store does not know it yet.
    is_noted: AtomicBool,
}

/// The holder of secrets, as a line of the log names it.
#[derive(Clone)]
struct Owner {
    kind: &'static str,
    name: String,
    secrets: Secrets,
}

/// The kind of an owner that is a token of the admin API.
const TOKEN: &str = "token";

/// The kind of an owner that is a token of an identity provider.
const SCIM: &str = "scim";

/// The kind, and the name, of the secrets that sign reconnection links.
const LINKS: &str = "reconnect";

/// Compares the tokens with those that the store has seen last, and records what is new.
pub async fn note_tokens(store: &Store, tokens: &[AdminToken], of_scim: &[ScimToken]) -> Result<(), Error> {
    let secrets: Vec<String> = tokens.iter().map(|token| all_of(&token.secrets)).collect();
    let tokens = tokens.iter().zip(&secrets);
    store.note_tokens(tokens.map(|(token, secrets)| (token.name.as_str(), token.role, secrets.as_str()))).await?;
    let secrets: Vec<String> = of_scim.iter().map(|token| all_of(&token.secrets)).collect();
    let of_scim = of_scim.iter().zip(&secrets);
    store.note_scim_tokens(of_scim.map(|(token, secrets)| (token.name.as_str(), secrets.as_str()))).await
}

/// The secrets of a token as one text: while it is rotated it has several.
fn all_of(secrets: &Secrets) -> String {
    secrets.now().iter().map(Secret::expose).collect::<Vec<_>>().join("\n")
}

impl SecretFiles {
    /// Reads for the sources and tokens of this configuration, which share their secrets with the listeners'. The store knows the
    /// tokens as they are.
    pub fn new(config: &Config, store: Store) -> Self {
        let sources = config.sources.iter().filter_map(|source| {
            let secrets = source.verify.secrets()?.clone();
            Some(Owner { kind: "source", name: source.name.clone(), secrets })
        });
        let tokens = config.admin.tokens.clone();
        let of_tokens =
            tokens.iter().map(|token| Owner { kind: TOKEN, name: token.name.clone(), secrets: token.secrets.clone() });
        let of_scim = config.scim.tokens.clone();
        let owners_of_scim =
            of_scim.iter().map(|token| Owner { kind: SCIM, name: token.name.clone(), secrets: token.secrets.clone() });
        let of_links = config.reconnect.iter().map(|links| Owner {
            kind: LINKS,
            name: LINKS.to_owned(),
            secrets: links.secrets.clone(),
        });
        let owners = sources.chain(of_tokens).chain(owners_of_scim).chain(of_links).collect();
        Self { owners, under_way: Mutex::default(), store, tokens, of_scim, is_noted: AtomicBool::new(true) }
    }

    /// Reads all files, and records which tokens were replaced.
    pub async fn read(&self) -> Step {
        let mut under_way = self.under_way.lock().await;
        let reading = under_way.get_or_insert_with(|| {
            let owners = self.owners.clone();
            tokio::task::spawn_blocking(move || {
                let changed: Vec<&Owner> = owners.iter().filter(|owner| reload(owner)).collect();
                changed.iter().any(|owner| [TOKEN, SCIM].contains(&owner.kind))
            })
        });
        match tokio::time::timeout(READ_TIME_MAX, reading).await {
            Ok(Ok(has_new_token)) => {
                *under_way = None;
                self.is_noted.fetch_and(!has_new_token, Ordering::Relaxed);
            }
            // One that panicked is begun again.
            Ok(Err(_)) => *under_way = None,
            Err(_) => tracing::warn!("the files of secrets do not answer; the secrets stay as they were"),
        }
        drop(under_way);
        if !self.is_noted.load(Ordering::Relaxed) {
            if let Err(error) = note_tokens(&self.store, &self.tokens, &self.of_scim).await {
                return failed!(error, "the audit log has no row of a token that was replaced");
            }
            self.is_noted.store(true, Ordering::Relaxed);
        }
        Step::Idle
    }
}

/// Reads one owner's file. `true`: the secrets are others now.
fn reload(owner: &Owner) -> bool {
    let Owner { kind, name, secrets } = owner;
    match secrets.reload() {
        Reloaded::Same => false,
        Reloaded::Changed => {
            tracing::info!(kind, name, "its secrets were read again");
            true
        }
        Reloaded::Refused(why) => {
            tracing::warn!(kind, name, why, "its secrets stay as they were: the file cannot be used");
            false
        }
    }
}
