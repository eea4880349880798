//! The reasons why a statement did not run, by the codes of each database.
//!
//! Before: [`super::sqlite`] and [`super::postgres`]. After: [`crate::store::condition`], and the errors of the store.

use sqlx::migrate::MigrateError;

use crate::store::condition::Trouble;

/// SQLite's own code (`SQLITE_READONLY_DBMOVED`) for a file that was removed or replaced while it was open.
pub(super) const MOVED: i32 = 1_032;

/// PostgreSQL's SQLSTATE `too_many_connections`: of the server, of the database or of the role.
const NO_CONNECTION: &str = "53300";

/// The reason why a statement did not run, or why its result makes no sense.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum DbFault {
    /// SQLite's own error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// An error of PostgreSQL, or of the connection.
    #[error("{}", words(.0))]
    Postgres(#[from] sqlx::Error),
    /// The answer did not come in time.
    #[error("it did not answer in time")]
    TooLate,
    /// The other end took the connection and then made it wait: a pooler without a free connection to the server.
    #[error(
        "it is connected, but gets no answer in time: if that is a pooler, its pool is too small or has lost PostgreSQL"
    )]
    PoolBusy,
    /// All hosts that answer only read, and the bridge needs one that writes.
    #[error("no host of store.url takes writes (target_session_attrs): all that answer are standbys or read-only")]
    OnlyReads,
    /// The process is about to end.
    #[error("the bridge is ending")]
    Ended,
    /// An expected row is missing.
    #[error("no rows returned by a query that expected to return at least one row")]
    Missing,
    /// Another version wrote the row, or it is damaged.
    #[error("column {column} is not what this version writes there")]
    Unreadable { column: usize },
}

/// The reason why the schema is not this program's.
pub(in crate::store) enum NotMigrated {
    /// A statement did not run.
    DbFault(DbFault),
    /// This program does not know the schema.
    Schema(MigrateError),
}

impl DbFault {
    /// SQLite's primary code, without the extension.
    pub(in crate::store) fn sqlite_code(&self) -> Option<i32> {
        let Self::Sqlite(error) = self else { return None };
        error.sqlite_error().map(|error| error.extended_code & 0xff)
    }

    /// `true` if SQLite found no room for a write: `SQLITE_FULL`; under a quota `SQLITE_IOERR_WRITE`, or `SQLITE_IOERR_SHMSIZE`.
    pub(in crate::store) fn is_for_want_of_room(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        error.sqlite_error().is_some_and(|error| matches!(error.extended_code, 13 | 778 | 4_874))
    }

    /// The trouble of the whole store that the fault stands for, if any.
    pub(in crate::store) fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Sqlite(error) => sqlite_trouble(error.sqlite_error()?.extended_code),
            Self::Postgres(error) => match self.sql_state() {
                Some(_) if reason_of_pooler(error).is_some_and(|reason| !reason.passes) => Some(Trouble::AccessDenied),
                Some(code) => server_trouble(&code),
                None => connection_trouble(error),
            },
            Self::TooLate | Self::PoolBusy => Some(Trouble::Silent),
            Self::OnlyReads => Some(Trouble::ReadOnly),
            Self::Ended | Self::Missing | Self::Unreadable { .. } => None,
        }
    }

    /// PostgreSQL's SQLSTATE.
    fn sql_state(&self) -> Option<String> {
        let Self::Postgres(error) = self else { return None };
        Some(error.as_database_error()?.code()?.into_owned())
    }

    /// `true` for PostgreSQL's `serialization_failure` and `deadlock_detected` (SQLSTATE class 40).
    pub(in crate::store) fn is_conflict(&self) -> bool {
        self.sql_state().is_some_and(|code| code == "40001" || code == "40P01")
    }

    /// `true` if the role lacks the right for the statement (`insufficient_privilege`).
    pub(in crate::store) fn is_denied(&self) -> bool {
        self.sql_state().is_some_and(|code| code == "42501")
    }

    /// `true` if PostgreSQL may let us in a little later by itself: it cannot be reached, starts or stops (57P01 to 57P03), has
    /// no connection to spare (53300), the connection broke (08) or is to be to another host.
    pub(super) fn is_away(&self) -> bool {
        if let Self::Postgres(error) = self
            && let Some(reason) = reason_of_pooler(error)
        {
            return reason.passes;
        }
        match self.sql_state() {
            Some(code) => code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P03" | NO_CONNECTION),
            None => {
                matches!(self, Self::TooLate | Self::PoolBusy | Self::OnlyReads | Self::Postgres(sqlx::Error::Io(_)))
            }
        }
    }

    /// `true` if the connection is gone, and another one may work.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Postgres(_)) && self.is_away()
    }

    /// `true` if PostgreSQL, or the pooler in front of it, has no connection to spare: it has as soon as another client goes.
    pub(super) fn lacks_connection(&self) -> bool {
        if let Self::Postgres(error) = self
            && let Some(reason) = reason_of_pooler(error)
        {
            return reason.text == NO_PLACE;
        }
        self.sql_state().is_some_and(|code| code == NO_CONNECTION)
    }

    /// `true` for `SQLITE_PERM`, `SQLITE_READONLY`, `SQLITE_CANTOPEN`, also in their extended forms.
    pub(super) fn is_refused_by_files(&self) -> bool {
        self.sqlite_code().is_some_and(|code| matches!(code, 3 | 8 | 14))
    }

    /// `true` for `SQLITE_CORRUPT`, `SQLITE_NOTADB`.
    pub(super) fn is_of_damaged_file(&self) -> bool {
        self.sqlite_code().is_some_and(|code| matches!(code, 11 | 26))
    }
}

/// The trouble for SQLite's extended code: see <https://sqlite.org/rescode.html>.
fn sqlite_trouble(code: i32) -> Option<Trouble> {
    match (code, code & 0xff) {
        // `SQLITE_IOERR_WRITE` and `SQLITE_IOERR_SHMSIZE`, under a quota.
        (778 | 4_874, _) | (_, 13) => Some(Trouble::NoRoom),
        (MOVED, _) => Some(Trouble::Replaced),
        // `SQLITE_PERM`, `SQLITE_READONLY`, `SQLITE_CANTOPEN`.
        (_, 3 | 8 | 14) => Some(Trouble::ReadOnly),
        // `SQLITE_BUSY`, `SQLITE_LOCKED`, `SQLITE_PROTOCOL`.
        (_, 5 | 6 | 15) => Some(Trouble::Locked),
        // `SQLITE_CORRUPT`, `SQLITE_NOTADB`.
        (_, 11 | 26) => Some(Trouble::Damaged),
        // `SQLITE_IOERR`.
        (_, 10) => Some(Trouble::DiskFails),
        (_, _) => None,
    }
}

/// The trouble for PostgreSQL's SQLSTATE.
fn server_trouble(code: &str) -> Option<Trouble> {
    match code {
        "53100" => Some(Trouble::NoRoom),
        "25006" => Some(Trouble::ReadOnly),
        "55P03" => Some(Trouble::Locked),
        "XX001" | "XX002" => Some(Trouble::Damaged),
        "58030" => Some(Trouble::DiskFails),
        // A statement, or a whole transaction, that took too long; a server that starts, stops or has no room for us.
        "57014" | "25P03" | "57P01" | "57P02" | "57P03" | "53200" | NO_CONNECTION => Some(Trouble::Silent),
        "42501" | "42P01" | "3D000" => Some(Trouble::AccessDenied),
        _ if code.starts_with("28") => Some(Trouble::AccessDenied),
        _ if code.starts_with("08") => Some(Trouble::Silent),
        _ => None,
    }
}

/// The trouble for the way in which the connection to PostgreSQL ended.
fn connection_trouble(error: &sqlx::Error) -> Option<Trouble> {
    let sqlx::Error::Io(error) = error else { return None };
    let is_refused = matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound);
    Some(if is_refused { Trouble::ConnectionRefused } else { Trouble::Silent })
}

impl<E: Into<DbFault>> From<E> for NotMigrated {
    fn from(error: E) -> Self {
        Self::DbFault(error.into())
    }
}

/// A reason of PgBouncer, which has one SQLSTATE for all of its own.
struct PoolerReason {
    /// A part of its text.
    text: &'static str,
    /// `true` if waiting may help.
    passes: bool,
    words: &'static str,
}

const NOT_LET_IN: &str = "it knows no such user, or the password is wrong";
const NO_PLACE: &str = "no more connections allowed";
const NO_SERVER: &str = "it cannot reach PostgreSQL";

/// The reasons of PgBouncer 1.18 and later (its sources `client.c`, `objects.c`, `janitor.c`).
const POOLER_REASONS: &[PoolerReason] = &[
    PoolerReason {
        text: "unsupported startup parameter",
        passes: false,
        words: "it takes no `options` of store.url; give the role these settings, or see its ignore_startup_parameters",
    },
    PoolerReason {
        text: "transaction blocks not allowed in statement pooling mode",
        passes: false,
        words: "pool_mode = statement does not fit; session and transaction do",
    },
    PoolerReason { text: "no such database", passes: false, words: "it knows no such database" },
    PoolerReason { text: "no such user", passes: false, words: NOT_LET_IN },
    PoolerReason { text: "authentication failed", passes: false, words: NOT_LET_IN },
    PoolerReason { text: "login rejected", passes: false, words: NOT_LET_IN },
    PoolerReason { text: "TLS connection required", passes: false, words: "it takes TLS only; see sslmode" },
    PoolerReason { text: "SSL required", passes: false, words: "it takes TLS only; see sslmode" },
    PoolerReason { text: NO_PLACE, passes: true, words: "it has no place left (max_client_conn)" },
    PoolerReason {
        text: "query_wait_timeout",
        passes: true,
        words: "its pool was busy for too long (query_wait_timeout)",
    },
    PoolerReason { text: "server login has been failing", passes: true, words: NO_SERVER },
    PoolerReason { text: "client_login_timeout (server down)", passes: true, words: NO_SERVER },
    PoolerReason { text: "server conn crashed", passes: true, words: "its connection to PostgreSQL broke" },
];

fn reason_of_pooler(error: &sqlx::Error) -> Option<&'static PoolerReason> {
    let refusal = error.as_database_error().filter(|refusal| refusal.code().is_some_and(|code| code == "08P01"))?;
    POOLER_REASONS.iter().find(|reason| refusal.message().contains(reason.text))
}

/// An error in words that quote nothing: the server's own words repeat values, such as the name of a database or of a role, and
/// the content of a row. For an error of the server, the SQLSTATE is kept (PostgreSQL, appendix A).
fn words(error: &sqlx::Error) -> String {
    let Some(refusal) = error.as_database_error() else { return error.to_string() };
    let code = refusal.code().unwrap_or_default();
    if let Some(reason) = reason_of_pooler(error) {
        return format!("the pooler in front of PostgreSQL answers SQLSTATE {code}: {}", reason.words);
    }
    let meaning = match &*code {
        "28P01" => "the password or the user is wrong",
        "28000" => "the user may not connect; see pg_hba.conf",
        "3D000" => "the database does not exist",
        "42501" => "the user lacks a right",
        "25006" => "it is read-only",
        "53100" => "no room on its disk",
        "53200" => "it has no memory left",
        NO_CONNECTION => "it has no connection left",
        "55P03" => "locked by another session",
        "57014" => "the statement took too long",
        "57P01" | "57P02" | "57P03" => "it starts or stops",
        "XX001" | "XX002" => "damaged",
        _ => "its log has the message",
    };
    format!("PostgreSQL answers SQLSTATE {code}: {meaning}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer of a server, or of a pooler, that ends an attempt.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct ServerAnswer {
        code: &'static str,
        text: &'static str,
    }

    impl sqlx::error::DatabaseError for ServerAnswer {
        fn message(&self) -> &str {
            self.text
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.code.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    pub(in crate::store::db) fn answer(code: &'static str, text: &'static str) -> DbFault {
        DbFault::Postgres(sqlx::Error::Database(Box::new(ServerAnswer { code, text })))
    }

    #[test]
    fn only_a_server_that_answers_lacks_a_connection() {
        for (fault, lacks) in [
            (answer("53300", "sorry, too many clients already"), true),
            (answer("08P01", "no more connections allowed (max_client_conn)"), true),
            (answer("08P01", "server login has been failing"), false),
            (answer("57P03", "the database system is starting up"), false),
            (DbFault::TooLate, false),
        ] {
            assert_eq!(fault.lacks_connection(), lacks, "{fault:?}");
            assert!(fault.is_away(), "{fault:?}");
        }
    }
}
