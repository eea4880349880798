//! The servers of a URL: which of them takes writes, and whether a pooler stands in front of it.
//!
//! A URL may name several hosts, of which one takes writes at a time. A connection is tried at each in turn, beginning with the
//! one that was good last; a failover is found by the first connection that breaks.
//!
//! A pooler is recognised by its ignorance: a start parameter with a name of ours becomes a setting of a PostgreSQL session, and
//! a pooler refuses it or leaves it out. No configuration says which it is, so none can be wrong.
//!
//! Before: [`crate::store::open`]. After: [`super::postgres`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, Row as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::fault::DbFault;
use super::pool::{READER_WAIT_MAX, ReaderPool};
use super::postgres::{CommitWait, ServerSession};
use super::query::{Query, Row};

/// Timeout of a connection's first answer: a pooler lets a client in and then makes it wait for a connection to the server.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);

/// Timeout of connecting to one host, after which it counts as away. Above [`ANSWER_TIME_MAX`], which says more.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(6);

/// Limit of the hosts in a URL: a connection may wait for each of them in turn.
const HOSTS_MAX: usize = 8;

/// Time for which a connection for reading is used: after a failover it may be one to a server that is left alone.
const READER_AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Timeout of a read. PostgreSQL ends a longer statement by itself (`statement_timeout`); a host that is gone without a word does not.
const READ_TIME_MAX: Duration = Duration::from_secs(20);

/// Time after an answer in which a connection for reading is taken to be alive. After it the next read asks first, which takes as long as
/// a small read itself.
const READER_FRESH_FOR: Duration = Duration::from_secs(1);

/// Interval at which a read without a connection tries again, unless another read gives one back sooner.
const READER_TRIES_EVERY: Duration = Duration::from_millis(200);

/// Setting that only a session of PostgreSQL's own has.
const MARK: &str = "podero_bridge.is_direct";

/// Asks for the mark, whether a transaction may only read (on a standby, or by a setting), and for what a commit waits.
const ASK: &str = "SELECT current_setting('podero_bridge.is_direct', true), current_setting('transaction_read_only'), \
    current_setting('synchronous_commit')";

/// Message about a URL that cannot be read. Shows no part of it.
const NO_URL: &str = "store.url is no usable URL of PostgreSQL, which has the form \
                      postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, or with HOST:PORT,HOST:PORT for \
                      several hosts; an option of it may be misspelt";

/// Message about a URL with too many hosts.
const TOO_MANY_HOSTS: &str = "store.url names more than 8 hosts";

/// Message about a wish that no bridge can have.
const NO_ATTRIBUTES: &str =
    "target_session_attrs of store.url must be read-write, primary or any: the bridge writes to its store";

/// The hosts of a URL.
pub(super) struct Server {
    hosts: Vec<PgConnectOptions>,
    /// `true` if a host that only reads is passed over.
    must_write: bool,
    /// The number of the host that was good last.
    good: AtomicUsize,
}

impl Server {
    /// Parses `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?OPTIONS`. The error says why not, without a part of the URL.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let urls = Urls::of(url);
        if urls.each.len() > HOSTS_MAX {
            return Err(TOO_MANY_HOSTS);
        }
        let must_write = match urls.attributes.as_deref() {
            None => urls.each.len() > 1,
            Some("any") => false,
            Some("read-write" | "primary") => true,
            Some(_) => return Err(NO_ATTRIBUTES),
        };
        // The library's own words repeat values of the URL, among them the text in the place of a wrong option.
        let parse = |url: &String| url.parse::<PgConnectOptions>().map_err(|_| NO_URL);
        let hosts = urls.each.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        // Poolers know few start parameters; this one is for numbers with a fraction, of which no table has any.
        let hosts = hosts.into_iter().map(|host| host.extra_float_digits(None).disable_statement_logging()).collect();
        Ok(Self { hosts, must_write, good: AtomicUsize::new(0) })
    }

    /// Connects to the first host that is good.
    pub(super) async fn connect(&self) -> Result<ServerSession, DbFault> {
        let first = self.good.load(Ordering::Relaxed);
        let mut met = None;
        for number in (0..self.hosts.len()).map(|step| (first + step) % self.hosts.len()) {
            // Boxed: it is large, and rare.
            let connecting = Box::pin(self.connect_to(&self.hosts[number]));
            let connected = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
            match connected.unwrap_or(Err(DbFault::TooLate)) {
                Ok(session) => {
                    self.good.store(number, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(fault) => met = Some(more_telling(met, fault)),
            }
        }
        Err(met.unwrap_or(DbFault::TooLate))
    }

    async fn connect_to(&self, host: &PgConnectOptions) -> Result<ServerSession, DbFault> {
        let mut connection = match host.clone().options([(MARK, "1")]).connect().await {
            Err(error) if is_of_start_parameter(&error) => host.connect().await?,
            connected => connected?,
        };
        let asking = tokio::time::timeout(ANSWER_TIME_MAX, ask(&mut connection)).await;
        let facts = asking.map_err(|_| DbFault::PoolBusy)??;
        if self.must_write && facts.only_reads {
            return Err(DbFault::OnlyReads);
        }
        ServerSession::new(connection, facts.is_direct, facts.commit).await
    }
}

/// The words of a server, or of a pooler in front of it, about itself.
struct ServerFacts {
    is_direct: bool,
    /// `true` if it takes no writes.
    only_reads: bool,
    /// For what a commit waits.
    commit: CommitWait,
}

/// Asks a server about itself. As one message, since a pooler may stand in between.
async fn ask(connection: &mut PgConnection) -> Result<ServerFacts, sqlx::Error> {
    let row = sqlx::raw_sql(ASK).fetch_one(connection).await?;
    let mark: Option<String> = row.try_get(0)?;
    let (only_reads, commit): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let is_direct = mark.is_some_and(|mark| !mark.is_empty());
    Ok(ServerFacts { is_direct, only_reads: only_reads == "on", commit: CommitWait::by_default(&commit) })
}

/// `true` for a refusal that a start parameter may have caused: of the protocol (08), not supported (0A), or a wrong value (22)
/// or name (42).
fn is_of_start_parameter(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["08", "0A", "22", "42"].iter().any(|class| code.starts_with(class)))
}

/// The one of two hosts' faults that tells an operator more: one that waiting does not mend, then that the host has no connection
/// to spare, so that it may be the one that writes, then that all that answer only read.
fn more_telling(met: Option<DbFault>, next: DbFault) -> DbFault {
    let rank = |fault: &DbFault| (!fault.is_away(), fault.lacks_connection(), matches!(fault, DbFault::OnlyReads));
    match met {
        Some(met) if rank(&met) >= rank(&next) => met,
        Some(_) | None => next,
    }
}

/// A URL of several hosts as one URL for each, since the driver knows one host.
struct Urls {
    each: Vec<String>,
    /// The value of `target_session_attrs`, which the driver does not know.
    attributes: Option<String>,
}

impl Urls {
    fn of(url: &str) -> Self {
        let (before, options) = url.split_once('?').unwrap_or((url, ""));
        let attributes = options.split('&').find_map(|option| option.strip_prefix("target_session_attrs="));
        let attributes = attributes.map(str::to_owned);
        let Some((scheme, behind)) = before.split_once("://") else {
            return Self { each: vec![url.to_owned()], attributes };
        };
        let (authority, path) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
        let (user, hosts) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
        let options = url.strip_prefix(before).unwrap_or_default();
        let each = hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}{options}")).collect();
        Self { each, attributes }
    }
}

/// Connections for reading, opened when first needed.
#[derive(Clone)]
pub(in crate::store) struct ServerReaders {
    server: Arc<Server>,
    pool: Arc<ReaderPool<Reader>>,
}

/// A connection that a read has for itself.
struct Reader {
    session: ServerSession,
    opened_at: Instant,
    answered_at: Instant,
}

/// The right to use a connection for reading, which ends when it is dropped.
pub(super) struct ReaderLease {
    opened_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl ServerReaders {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, pool: Arc::default() }
    }

    /// Reads. A connection that turns out to be gone is replaced once.
    pub(super) async fn rows(&self, query: Query<'_>) -> Result<Vec<Row>, DbFault> {
        let _permit = self.pool.permit().await?;
        let (mut reader, is_sure) = self.reader(false).await?;
        let mut found = in_time(reader.session.rows(query.clone())).await;
        if !is_sure && found.as_ref().is_err_and(DbFault::is_lost_connection) {
            (reader, _) = self.reader(true).await?;
            found = in_time(reader.session.rows(query)).await;
        }
        self.give_back(reader, found)
    }

    /// Reads, and returns the number of rows.
    pub(super) async fn changes(&self, query: Query<'_>) -> Result<u64, DbFault> {
        Ok(u64::try_from(self.rows(query).await?.len()).unwrap_or(u64::MAX))
    }

    /// A connection for a transaction.
    pub(super) async fn lend(&self) -> Result<(ServerSession, ReaderLease), DbFault> {
        let permit = self.pool.permit().await?;
        let (Reader { session, opened_at, .. }, _) = self.reader(true).await?;
        Ok((session, ReaderLease { opened_at, _permit: permit }))
    }

    /// Keeps a connection that was lent, and on which no transaction is open.
    pub(super) fn take_back(&self, session: ServerSession, lease: ReaderLease) {
        let _ =
            self.pool.give_back(Reader { session, opened_at: lease.opened_at, answered_at: Instant::now() }, Ok(()));
    }

    fn give_back<T>(&self, reader: Reader, result: Result<T, DbFault>) -> Result<T, DbFault> {
        self.pool.give_back(Reader { answered_at: Instant::now(), ..reader }, result)
    }

    /// Lets no read begin any more, waits for those under way, and closes every connection.
    pub(super) async fn close(&self) {
        for reader in self.pool.close().await {
            // The other end may have gone before.
            let _ = reader.session.close().await;
        }
    }

    /// An idle connection that still answers, or a new one; and whether that is sure. One that answered a moment ago is taken unasked,
    /// unless it `must_answer`. While the server has none to spare, the read waits, no longer than for its turn: other clients, and other
    /// reads of this process, need theirs for a moment only.
    async fn reader(&self, must_answer: bool) -> Result<(Reader, bool), DbFault> {
        let deadline = Instant::now() + READER_WAIT_MAX;
        loop {
            while let Some(mut reader) = self.pool.take() {
                if reader.opened_at.elapsed() >= READER_AGE_MAX {
                    continue;
                }
                if !must_answer && reader.answered_at.elapsed() < READER_FRESH_FOR {
                    return Ok((reader, false));
                }
                if matches!(tokio::time::timeout(READER_WAIT_MAX, reader.session.ping()).await, Ok(Ok(()))) {
                    return Ok((reader, true));
                }
            }
            match self.server.connect().await {
                Ok(session) => {
                    let now = Instant::now();
                    return Ok((Reader { session, opened_at: now, answered_at: now }, true));
                }
                Err(fault) if fault.lacks_connection() && Instant::now() < deadline => {
                    // Both ends of this wait mean the same.
                    let _ = tokio::time::timeout(READER_TRIES_EVERY, self.pool.given_back()).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, DbFault>>) -> Result<T, DbFault> {
    tokio::time::timeout(READ_TIME_MAX, read).await.unwrap_or(Err(DbFault::TooLate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        let server = Server::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
        server.hosts.iter().map(|host| (host.get_host().to_owned(), host.get_port())).collect()
    }

    #[test]
    fn a_url_names_one_host_or_several() {
        let host = |name: &str, port| (name.to_owned(), port);
        for (url, expected) in [
            ("postgres://u:p@h/d", vec![host("h", 5432)]),
            ("postgres://u:p,@a:1,b,[::1]:3/d?sslmode=require", vec![host("a", 1), host("b", 5432), host("[::1]", 3)]),
            ("postgresql://a:1,b:2?target_session_attrs=any", vec![host("a", 1), host("b", 2)]),
            ("postgres:///d?host=h&port=7", vec![host("h", 7)]),
        ] {
            assert_eq!(hosts(url), expected, "{url}");
        }
        let two = Server::parse("postgres://u:p%2C@a:1,b:2/d?application_name=x").expect("a URL");
        for host in &two.hosts {
            let found = (host.get_username(), host.get_database(), host.get_application_name());
            assert_eq!(found, ("u", Some("d"), Some("x")));
        }
    }

    #[test]
    fn of_several_hosts_one_that_writes_is_wanted_unless_told_otherwise() {
        for (url, expected) in [
            ("postgres://a/d", Ok(false)),
            ("postgres://a,b/d", Ok(true)),
            ("postgres://a/d?target_session_attrs=read-write", Ok(true)),
            ("postgres://a,b/d?sslmode=require&target_session_attrs=primary", Ok(true)),
            ("postgres://a,b/d?target_session_attrs=any", Ok(false)),
            ("postgres://a,b/d?target_session_attrs=standby", Err(NO_ATTRIBUTES)),
            ("postgres://a:b:c/d", Err(NO_URL)),
            ("postgres://a,b,c,d,e,f,g,h,i/d", Err(TOO_MANY_HOSTS)),
        ] {
            assert_eq!(Server::parse(url).map(|server| server.must_write), expected, "{url}");
        }
    }

    #[test]
    fn the_fault_that_a_person_must_mend_is_told() {
        let wrong = || DbFault::Unreadable { column: 1 };
        let told = |faults: Vec<DbFault>| faults.into_iter().fold(None, |met, next| Some(more_telling(met, next)));
        assert!(matches!(told(vec![DbFault::TooLate, wrong(), DbFault::OnlyReads]), Some(DbFault::Unreadable { .. })));
        assert!(matches!(told(vec![DbFault::TooLate, DbFault::OnlyReads, DbFault::TooLate]), Some(DbFault::OnlyReads)));
        let full = || super::super::fault::tests::answer("53300", "sorry, too many clients already");
        for faults in [vec![DbFault::OnlyReads, full()], vec![full(), DbFault::TooLate, DbFault::OnlyReads]] {
            assert!(told(faults).is_some_and(|fault| fault.lacks_connection()), "it may be the one that writes");
        }
    }
}
