//! The store, opened for a command: next to a running bridge, or without one.
//!
//! A command does no work of the bridge, so it takes no lock. On SQLite the running bridge notices a command's changes by
//! its timers. A command never creates a store: if there is none, it says so.
//!
//! Before: the commands of [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use anyhow::{Context, bail};
use tokio::task::JoinHandle;

use super::arguments::StoreOptions;
use super::error::CliError;
use super::output::say_error;
use crate::clock::Clock;
use crate::config::{self, Config, Secret, process_environment};
use crate::store::{Desk, OpenError, Settings, Store, StoreView, Writer};

/// A store and the task that writes for it.
pub(super) struct Opened<S> {
    pub(super) store: S,
    desk: Desk,
    writer: JoinHandle<()>,
}

/// Reads the section of the store. The rest of the configuration may have problems.
pub(super) fn load_store(path: Option<&Path>, with_key: bool) -> Result<config::Store, CliError> {
    Config::load_store(path, &process_environment(), with_key).map_err(CliError::configuration)
}

/// Opens the store that the configuration names, to read it.
pub(super) async fn open(options: &StoreOptions) -> Result<StoreView, CliError> {
    let at = load_store(options.config.as_deref(), false)?;
    Ok(there(&at, StoreView::open(at.url.expose(), Clock::system()).await)?)
}

/// Opens it to move parked events.
pub(super) async fn open_desk(options: &StoreOptions) -> Result<Opened<Desk>, CliError> {
    Ok(open_configured(&load_store(options.config.as_deref(), false)?).await?)
}

/// Opens the store of a configuration that was read before, to move parked events.
pub(super) async fn open_configured(at: &config::Store) -> anyhow::Result<Opened<Desk>> {
    let (desk, writer) = there(at, Desk::open(at.url.expose(), Clock::system()).await)?;
    Ok(Opened::of(desk.clone(), desk, writer))
}

/// Opens it with the key of the tombstones, which an erasure writes and an arrival is compared with.
pub(super) async fn open_with_key(at: &config::Store) -> anyhow::Result<Opened<Store>> {
    let settings = Settings { url: at.url.expose().to_owned(), targets: Vec::new(), works: false };
    let key = at.erasure_key.as_ref().map(Secret::expose);
    let (store, writer) = there(at, Store::open_with(settings, key, Clock::system()).await)?;
    Ok(Opened::of(Desk::clone(&store), store, writer))
}

/// Opens it to read; `None`: there is none yet.
pub(super) async fn open_if_there(at: &config::Store) -> anyhow::Result<Option<StoreView>> {
    match StoreView::open(at.url.expose(), Clock::system()).await {
        Err(OpenError::Missing(_)) => Ok(None),
        other => there(at, other).map(Some),
    }
}

fn there<T>(at: &config::Store, opened: Result<T, OpenError>) -> anyhow::Result<T> {
    if let Err(missing @ OpenError::Missing(_)) = &opened
        && at.is_default
    {
        bail!("{missing} (the default; name the bridge's file with --config)");
    }
    opened.context("the store cannot be opened")
}

impl<S> Opened<S> {
    fn of(desk: Desk, store: S, writer: Writer) -> Self {
        Self { store, desk, writer: tokio::spawn(writer.run()) }
    }

    /// Seals the rows of the audit log that the command wrote, as a bridge would, since there may be none. Returns when all writes are
    /// on disk and every connection is closed.
    pub(super) async fn close(self) {
        if let Err(error) = self.desk.seal_all().await {
            say_error(&format!(
                "podero-bridge: rows of the audit log are not sealed yet; the next bridge seals them: {error}"
            ));
        }
        self.desk.close().await;
        let _ = self.writer.await;
    }
}
