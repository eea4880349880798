//! Why the store did not do it: while it is opened, and while it works.
//!
//! Before: the other files of [`crate::store`]. After: its callers, who match on what they can do next.

/// Why an opened store did not do it; the variants differ by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Try again later: the database is away, full or busy. Nothing, or something harmless to repeat, happened.
    #[error("the store is away: {0}")]
    Away(String),
    /// Try again sooner: too many writes are waiting.
    #[error("the store has more to write than it may keep waiting")]
    Full,
    /// Do not try again: this version cannot read what the store holds.
    #[error("the store holds something that this version cannot read: {0}")]
    Unreadable(String),
    /// Do not try again: the SQLite file is not what was written. It is left as it is.
    #[error("the SQLite file is damaged ({0}); keep it, and start with a backup (`podero-bridge backup` makes them)")]
    Damaged(String),
}

/// Why a store was not opened; the variants differ by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// As while it works.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Do not try again while it is so: another bridge works on this SQLite file.
    #[error("another bridge works on this SQLite file; several replicas need PostgreSQL")]
    InUse,
    /// Do not try again: another key than theirs does not recognise the tombstones of erased customers.
    #[error(
        "this store knows erased customers by another store.erasure_key than the one configured; give back that key"
    )]
    OtherKey,
    /// Do not try again before an operator has made it usable: the database refuses the bridge, or the file is not to be opened.
    #[error("{0}")]
    Unusable(String),
    /// Do not try again before a bridge has made it: a command never does.
    #[error("there is no store at {0}")]
    Missing(String),
    /// Do not try again before a bridge of this version has brought the schema up to date: a command never does.
    #[error(
        "the store is of schema {found}, this program of schema {known}; start `podero-bridge serve` of this version once"
    )]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Older { found: i64, known: i64 },
    /// Do not try again: a newer version has worked on it.
    #[error("the store is of schema {found}, this program knows no more than {known}; run the newer version")]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Newer { found: i64, known: i64 },
}
