//! The store, opened for a command: beside a running bridge, or without one.
//!
//! It works on nothing by itself, so it takes no lock; on SQLite the running bridge finds what a command changed by
//! its timers. It never makes a store: a command that finds none says so.
//!
//! Before: the commands of [`crate::cli`]. After: [`crate::store`].

use anyhow::{Context, bail};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::store::{Error, Settings, Store};

/// A store and the task that writes for it.
pub(super) struct Opened {
    pub(super) store: Store,
    writer: JoinHandle<()>,
}

/// Opens the store that the configuration names.
pub(super) async fn open(config: &Config) -> anyhow::Result<Opened> {
    let url = config.store.url.expose().to_owned();
    let key = config.store.erasure_key.as_ref().map(Secret::expose);
    let settings = Settings { url, targets: Vec::new(), works: false };
    let opened = Store::open_with(settings, key, Clock::system()).await;
    if let Err(missing @ Error::Missing(_)) = &opened
        && config.store.is_default
    {
        bail!("{missing} (the default; name the bridge's file with --config)");
    }
    let (store, writer) = opened.context("the store cannot be opened")?;
    Ok(Opened { store, writer: tokio::spawn(writer.run()) })
}

impl Opened {
    /// Returns when the writer has closed its connection.
    pub(super) async fn close(self) {
        drop(self.store);
        let _ = self.writer.await;
    }
}
