//! The reasons why the store did not do something: while it is opened, and while it works.
//!
//! Before: the other files of [`crate::store`]. After: its callers, who match on their possible next steps.

/// The reason why an opened store did not do something; the variants differ by the caller's next step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Try again later: the database is away, full or busy. Nothing happened, or something that is harmless to repeat.
    #[error("the store is away: {0}")]
    Away(String),
    /// Try again sooner: too many writes are waiting.
    #[error("the store has more to write than it may keep waiting")]
    Full,
    /// Do not try again: this version cannot read the content of the store.
    #[error("the store holds something that this version cannot read: {0}")]
    Unreadable(String),
    /// Do not try again: the SQLite file is damaged. It is left as it is.
    #[error("the SQLite file is damaged ({0}); keep it, and start with a backup (`podero-bridge backup` makes them)")]
    Damaged(String),
}

/// The reason why a store was not opened; the variants differ by the caller's next step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// An error as while the store works.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Do not try again while another bridge works on this SQLite file.
    #[error("another bridge works on this SQLite file; several replicas need PostgreSQL")]
    InUse,
    /// Do not try again: the tombstones of erased customers were made with another key, so this key does not recognise them.
    #[error(
        "this store knows erased customers by another store.erasure_key than the one configured; give back that key"
    )]
    OtherKey,
    /// Do not try again before an operator has made it usable: the database refuses the bridge, or the file must not be opened.
    #[error("{0}")]
    Unusable(String),
    /// Do not try again before a bridge has made the store: a command never does.
    #[error("there is no store at {0}")]
    Missing(String),
    /// Do not try again before a bridge of this version has brought the schema up to date: a command never does.
    #[error(
        "the store is of schema {found}, this program of schema {known}; start `podero-bridge serve` of this version once, or \
         run `podero-bridge migrate`"
    )]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Older { found: i64, known: i64 },
    /// Do not try again: a newer version has worked on the store.
    #[error("the store is of schema {found}, this program knows no more than {known}; run the newer version")]
    #[expect(missing_docs, reason = "the newest migrations of the store and of the program")]
    Newer { found: i64, known: i64 },
}
