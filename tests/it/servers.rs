//! Real servers for tests: one RabbitMQ and one PostgreSQL that all tests of a run share, and private ones (also PgBouncer) for a
//! test that stops, kills or restarts its own.
//!
//! All knowledge of how a server is started is in the script `tests/servers`; this file only calls it. `tests/run`
//! starts the shared ones, names them in the environment and stops them at the end. Without it (a bare
//! `cargo nextest run`) the first test that needs one starts them below `target/test-servers`; they stay up for
//! the next run until `tests/servers stop target/test-servers`. nextest runs each test in a process of its own, so
//! what makes them one is a file lock, which the script holds while it starts something.
//!
//! Tests that share a server must not collide: take a [`fresh_vhost`] or a [`fresh_database`] each.
//!
//! It must never use a server that the machine happens to run on the well-known ports.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// URL of the shared broker's default virtual host; for what needs no isolation. See [`fresh_vhost`].
pub fn amqp_url() -> String {
    environment("PODERO_BRIDGE_TEST_AMQP_URL").unwrap_or_else(|| url_in(shared(), "AMQP_URL"))
}

/// URL of the shared PostgreSQL's database `bridge_test`; for what needs no isolation. See [`fresh_database`].
pub fn postgres_url() -> String {
    environment("PODERO_BRIDGE_TEST_POSTGRES_URL").unwrap_or_else(|| url_in(shared(), "POSTGRES_URL"))
}

/// URL of a new virtual host on the shared broker: no exchange, queue or policy of another test is in it. Takes
/// about a second, and is removed only with the whole server.
pub fn fresh_vhost() -> String {
    script("vhost", shared(), &[])
}

/// URL of a new, empty database on the shared PostgreSQL; removed only with the whole server.
pub fn fresh_database() -> String {
    script("database", shared(), &[])
}

/// A RabbitMQ node of one test, to be stopped and killed at will. Its port and its data survive both; dropping it
/// ends it and removes all it wrote. Starting takes five to ten seconds.
pub struct Broker(Private);

impl Broker {
    /// Returns when the new node answers.
    pub fn start() -> Self {
        Self(Private::start("rabbit"))
    }

    /// The same for the whole life of the value, whether the node is up or not.
    pub fn url(&self) -> String {
        self.0.url("AMQP_URL")
    }

    /// `rabbitmqctl` against this node; what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        script("ctl", self.0.directory.path(), arguments)
    }

    /// Orderly end: connections are closed with a reason. Returns when the node is gone. Does nothing if it is down.
    pub fn stop(&self) {
        self.0.run("rabbit-stop");
    }

    /// SIGKILL: connections break without a farewell. Returns when the node is gone. A quorum queue that was declared in the last
    /// three seconds delays the kill until it is that old, since RabbitMQ 3.10 would lose it.
    pub fn kill(&self) {
        self.0.run("rabbit-kill");
    }

    /// Returns when the node answers again, on the same port and with its durable queues and messages. The queues
    /// themselves may need some tenths of a second more to elect a leader. Does nothing if it is up.
    pub fn start_again(&self) {
        self.0.run("rabbit-start");
    }
}

/// A PostgreSQL cluster of one test, with an empty database; otherwise as [`Broker`]. Starting takes two seconds.
pub struct Postgres(Private);

impl Postgres {
    /// Returns when the new cluster answers.
    pub fn start() -> Self {
        Self(Private::start("postgres"))
    }

    /// As [`Postgres::start`], as a standby of another cluster, which it follows until it is promoted (`pg_promote()`).
    pub fn standby_of(primary: &Self) -> Self {
        Self(Private::run_new("standby", &[&port_of(&primary.url())]))
    }

    /// The same for the whole life of the value, whether the cluster is up or not.
    pub fn url(&self) -> String {
        self.0.url("POSTGRES_URL")
    }

    /// Orderly end ("fast": open transactions are rolled back). Returns when it is gone. Does nothing if it is down.
    pub fn stop(&self) {
        self.0.run("pg-stop");
    }

    /// SIGKILL to every process of it. Returns when all are gone.
    pub fn kill(&self) {
        self.0.run("pg-kill");
    }

    /// Returns when it answers again, after recovery, with all that was committed. Does nothing if it is up.
    pub fn start_again(&self) {
        self.0.run("pg-start");
    }
}

/// The number of connections to the server that a [`Pooler`] opens for each database and user, unless a test says otherwise.
pub const POOL_SIZE: u32 = 20;

/// A PgBouncer of one test, in front of a PostgreSQL; otherwise as [`Broker`]. Starting takes some tenths of a second.
pub struct Pooler(Private);

impl Pooler {
    /// Returns when it listens. `mode` is PgBouncer's `pool_mode`; it lets in `postgres`, `bridge` and `bridge_owner`.
    pub fn start(mode: &str, postgres_url: &str, size: u32) -> Self {
        Self::that_ignores("", mode, postgres_url, size)
    }

    /// As [`Pooler::start`], with start parameters that it drops instead of refusing them.
    pub fn that_ignores(parameters: &str, mode: &str, postgres_url: &str, size: u32) -> Self {
        Self(Private::run_new("pooler", &[&port_of(postgres_url), mode, &size.to_string(), parameters]))
    }

    /// The URL by which a client gets through the pooler to the database of this URL.
    pub fn url_of(&self, postgres_url: &str) -> String {
        let port = |url: &str| format!(":{}/", port_of(url));
        postgres_url.replace(&port(postgres_url), &port(&self.0.url("POOLER_URL")))
    }

    /// Its end by SIGTERM, PgBouncer's immediate one: no transaction is waited for. Returns when it is gone.
    pub fn stop(&self) {
        self.0.run("pooler-stop");
    }

    /// SIGKILL. Returns when it is gone.
    pub fn kill(&self) {
        self.0.run("pooler-kill");
    }

    /// Returns when it listens again, on the same port.
    pub fn start_again(&self) {
        self.0.run("pooler-start");
    }
}

/// A reader of a [`Postgres`]'s log that is no standby, until it is dropped.
pub struct LogReader {
    /// Ends it.
    _private: Private,
}

impl LogReader {
    /// Starts a logical subscriber of the server's database. Its `wal_level` is to be `logical`.
    pub fn logical(postgres: &Postgres) -> Self {
        Self::start(postgres, "logical")
    }

    /// Starts an archiver, which receives the log and replays nothing.
    pub fn archive(postgres: &Postgres) -> Self {
        Self::start(postgres, "archive")
    }

    fn start(postgres: &Postgres, kind: &str) -> Self {
        Self { _private: Private::run_new("reader", &[&port_of(&postgres.url()), kind]) }
    }
}

/// The port of a URL.
fn port_of(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    url.port().expect("tests have ports of their own").to_string()
}

/// One directory of the script with one server in it.
struct Private {
    directory: TempDir,
}

impl Private {
    fn start(which: &str) -> Self {
        Self::run_new("start", &[which])
    }

    /// Runs a command that starts a server in a new directory.
    fn run_new(command: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("podero-bridge-own.")
            .tempdir()
            .expect("the machine has a writable temporary directory");
        // Made first, so that a start that fails half-way is cleaned up like any other.
        let private = Self { directory };
        script(command, private.directory.path(), arguments);
        private
    }

    fn url(&self, name: &str) -> String {
        url_in(self.directory.path(), name)
    }

    fn run(&self, command: &str) {
        script(command, self.directory.path(), &[]);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Not `script`: its panic inside a panicking test would abort and hide the test's own words.
        let stopped = command("stop", self.directory.path(), &[]).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("a test server in {} did not stop", self.directory.path().display());
        }
    }
}

/// Directory of the servers that all tests share, which are up when this returns.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Some(directory) = environment("PODERO_BRIDGE_TEST_SERVERS_DIR") {
            return PathBuf::from(directory);
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers");
        // Idempotent, and exclusive between processes: the second one finds them up.
        script("start", &directory, &[]);
        directory
    })
}

/// The value that `tests/servers start` wrote for `name`.
fn url_in(directory: &Path, name: &str) -> String {
    let env = std::fs::read_to_string(directory.join("env")).expect("`start` writes the file before it returns");
    env.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in {}: that server was not started", directory.display()))
        .to_owned()
}

/// Runs `tests/servers command directory arguments…` to its end and returns what it printed, without the line's end.
fn script(name: &str, directory: &Path, arguments: &[&str]) -> String {
    let output =
        command(name, directory, arguments).output().expect("tests/servers is executable and bash is installed");
    assert!(
        output.status.success(),
        "tests/servers {name} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn command(name: &str, directory: &Path, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
    let mut command = Command::new(script);
    command.args([OsStr::new(name), directory.as_os_str()]).args(arguments).stdin(Stdio::null());
    command
}

/// A variable of the tests' own.
#[expect(clippy::disallowed_methods, reason = "how scripts tell tests where and how large; no key of the program")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

mod tests {
    use super::*;
    use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
    use sqlx::postgres::PgConnection;
    use sqlx::{Connection as _, Executor as _};

    async fn channel(url: &str) -> lapin::Result<(Connection, Channel)> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    async fn declare(channel: &Channel, passive: bool) -> lapin::Result<lapin::Queue> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
        channel.queue_declare("kept".into(), options, arguments).await
    }

    #[tokio::test]
    async fn a_queue_of_one_fresh_vhost_is_unknown_in_the_next() {
        let (_one, in_one) = channel(&fresh_vhost()).await.expect("the vhost is there and guest may use it");
        declare(&in_one, false).await.expect("guest may declare");
        declare(&in_one, true).await.expect("it was declared");
        let (_two, in_two) = channel(&fresh_vhost()).await.expect("the vhost is there and guest may use it");
        assert!(declare(&in_two, true).await.is_err());
        channel(&amqp_url()).await.expect("the default vhost answers too");
    }

    #[tokio::test]
    async fn a_table_of_one_fresh_database_is_unknown_in_the_next() {
        let mut one = PgConnection::connect(&fresh_database()).await.expect("the database is there");
        one.execute("CREATE TABLE kept (x INT)").await.expect("the database is ours");
        let mut two = PgConnection::connect(&fresh_database()).await.expect("the database is there");
        assert!(two.execute("SELECT * FROM kept").await.is_err());
        PgConnection::connect(&postgres_url()).await.expect("the shared database answers too");
    }

    #[tokio::test]
    async fn an_own_broker_keeps_port_and_messages_over_a_kill_and_a_stop() {
        let broker = Broker::start();
        let url = broker.url();
        let (_connection, open) = channel(&url).await.expect("it was started");
        declare(&open, false).await.expect("guest may declare");
        open.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms are on");
        let persistent = BasicProperties::default().with_delivery_mode(2);
        open.basic_publish("".into(), "kept".into(), BasicPublishOptions::default(), b"body", persistent)
            .await
            .expect("it is sent")
            .await
            .expect("it is confirmed");
        for end in [Broker::kill, Broker::stop] {
            end(&broker);
            assert!(channel(&url).await.is_err());
            broker.start_again();
            assert_eq!(broker.url(), url);
            let (_connection, open) = channel(&url).await.expect("it was started again");
            let got = open.basic_get("kept".into(), BasicGetOptions::default()).await.expect("the queue is there");
            // Not acknowledged, so it is there for the next round.
            assert_eq!(got.expect("the message is there").delivery.data, b"body");
        }
    }

    #[tokio::test]
    async fn an_own_postgres_keeps_port_and_rows_over_a_kill_and_a_stop() {
        let postgres = Postgres::start();
        let url = postgres.url();
        let mut open = PgConnection::connect(&url).await.expect("it was started");
        open.execute("CREATE TABLE kept (x INT)").await.expect("the database is ours");
        for end in [Postgres::kill, Postgres::stop] {
            end(&postgres);
            assert!(PgConnection::connect(&url).await.is_err());
            postgres.start_again();
            let mut open = PgConnection::connect(&url).await.expect("it was started again");
            open.execute("INSERT INTO kept VALUES (1)").await.expect("the table is there");
        }
    }
}
