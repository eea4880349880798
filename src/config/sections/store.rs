//! `[store]`: the database.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::store`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX};
use crate::config::secret::Secret;

/// Limit of `store.backlog_max`: a larger backlog does not fit one machine's disk.
const BACKLOG_MAX_MAX: u64 = 100_000_000;

section! {
    /// The database: SQLite for one process, PostgreSQL for several replicas.
    STORE = "store" {
        /// URL of the database: `sqlite://FILE` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with
        /// `HOST:PORT,HOST:PORT` for several hosts, of which the bridge takes the one that writes. A pooler is recognised. The path of a SQLite file is read
        /// literally, so `%` and blanks are parts of its name. The bridge creates a missing file with mode 0600, and a
        /// missing folder with mode 0700.
        URL: Secret = "url", rules::store_url(), default "sqlite://podero-bridge.db";
        /// Limit of events that wait for their effect. At the limit webhooks are answered 503, and the queue keeps its
        /// messages. A million events are a store of 2 to 3 GB and hours of work within Podero's limits; a larger backlog
        /// is a fault that more room does not mend.
        BACKLOG_MAX: u64 = "backlog_max", rules::whole(1, BACKLOG_MAX_MAX), default "1000000";
        /// Time for which settled events and published notices are kept. `0s` keeps them for ever.
        RETENTION: Duration = "retention", rules::duration(Duration::ZERO, DURATION_MAX), default "90d";
        /// Key that hashes the ids of erased customers (`podero-bridge erase`). It must not change once a customer was erased.
        /// Without it the store makes and keeps a key of its own.
        ERASURE_KEY: Secret = "erasure_key", rules::token(), example r#""example-erasure-key""#;
    }
}

/// Section `[store]`.
#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:…`, `postgres:…` or `postgresql:…`.
    pub url: Secret,
    /// True if the URL is the default, so that a caller may say where the file is.
    pub is_default: bool,
    /// Pending events at which the listeners accept no more.
    pub backlog_max: u64,
    /// Time for which settled rows are kept, `None`: for ever.
    pub retention: Option<Duration>,
    /// Hashes the ids of erased customers; `None`: a key that the store keeps itself.
    pub erasure_key: Option<Secret>,
}

/// Reads the section, and the erasure key only with `with_key`.
pub(in crate::config) fn read(r: &mut Reader, with_key: bool) -> Store {
    let url = r.secret(&URL);
    Store {
        is_default: url.is_none(),
        url: url.unwrap_or_else(|| Secret::new(URL.default_text())),
        backlog_max: r.value(&BACKLOG_MAX),
        retention: Some(r.value(&RETENTION)).filter(|retention| !retention.is_zero()),
        erasure_key: with_key.then(|| r.secret(&ERASURE_KEY)).flatten(),
    }
}
