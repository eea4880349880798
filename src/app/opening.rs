//! The store's start and end: it is waited for, checked next to the work, and closed last of all.
//!
//! Before: [`super`]. After: [`crate::store`], whose writer runs apart.

use std::time::Duration;

use tokio::time::Instant;

use super::running::{Stage, Tasks};
use super::settings;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::store::{Error, OpenError, Settings, Store};
use crate::{pump, upkeep};

/// Limit of the time for which a start waits for its store: a PostgreSQL that does not answer, a SQLite file that another process
/// has locked, a disk without room. After it the operator must know. A bridge that has started waits for ever.
const STORE_WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// Interval at which a start tries to open its store.
const STORE_TRY_EVERY: Duration = Duration::from_secs(1);

/// Interval at which a start that waits says so again.
const STORE_WAIT_TELL_EVERY: Duration = Duration::from_secs(30);

/// Timeout of the store's own end, added to [`super::GRACE`]: waiting writes are done and a SQLite file's log emptied. Together
/// they are below Kubernetes' 30 s.
pub const STORE_GRACE: Duration = Duration::from_secs(4);

/// Opens the store, and starts its writer and the check of its file.
pub(super) async fn open(config: &Config, clock: &Clock, tasks: &mut Tasks) -> Result<Store, OpenError> {
    let url = config.store.url.expose().to_owned();
    let settings = Settings { url, targets: settings::targets(config), works: true };
    let key = config.store.erasure_key.as_ref().map(Secret::expose);
    let (store, writer) = wait_for(|| Store::open_with(settings.clone(), key, clock.clone())).await?;
    tasks.spawn(Stage::Writer, writer.run_apart());
    tasks.spawn(Stage::Examination, upkeep::examine(store.clone()));
    Ok(store)
}

/// Tries until it is done, for [`STORE_WAIT_MAX`]: a server may be started together with the bridge, a file be locked or a disk
/// have no room. A fault that an operator must mend first is not tried again.
pub(super) async fn wait_for<T>(mut attempt: impl AsyncFnMut() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let started = Instant::now();
    let mut told: Option<(String, Instant)> = None;
    loop {
        match attempt().await {
            Err(OpenError::Failed(Error::Away(why))) if started.elapsed() < STORE_WAIT_MAX => {
                let is_told =
                    told.as_ref().is_some_and(|(told, at)| *told == why && at.elapsed() < STORE_WAIT_TELL_EVERY);
                if !is_told {
                    tracing::warn!(why, "the store is not there yet; the start waits for it");
                    told = Some((why, Instant::now()));
                }
                pump::sleep(STORE_TRY_EVERY).await;
            }
            done => return done,
        }
    }
}

/// Ends the store, last of all: waiting writes are done, and a SQLite file is whole without its log.
pub(super) async fn close(store: &Store, tasks: &mut Tasks) {
    let ending = async {
        store.close().await;
        tasks.wait_for(Stage::Writer).await;
    };
    if tokio::time::timeout(STORE_GRACE, ending).await.is_err() {
        tracing::warn!("the store did not end in time; what is on disk is whole together with FILE-wal");
    }
}
