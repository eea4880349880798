//! Faults of a PostgreSQL installation with two replicas, one after the other under load, and the time until all is well again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::spawn_blocking;

use podero_bridge::clock::Clock;
use podero_bridge::pump;

use super::disturb::{at, until_progress, until_refused};
use super::judge::Run;
use super::ledger::Ledger;
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use super::{Plan, note};
use crate::servers::{self, Postgres};
use crate::world::{until, until_within};

/// Number of bridges on the database.
const REPLICAS: usize = 2;

/// Limit of the server's connections, so that all of them are soon taken.
const CONNECTIONS_MAX: usize = 40;

/// PostgreSQL's default of `superuser_reserved_connections`.
const RESERVED: usize = 3;

/// Limit of the time from the end of a fault until everything is well.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// Limit of the time for which connections stay taken once senders have noticed: shorter than a read waits for one.
const TAKEN_MS_MAX: u64 = 2_000;

/// Limit of the time for which a killed replica stays down.
const DOWN_MS_MAX: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    ReplicaKilled,
    ServerRestarted,
    SessionsTerminated,
    ConnectionsExhausted,
}

impl Fault {
    // A killed replica's work waits for its lease, so it comes first.
    const ALL: [Self; 4] =
        [Self::ReplicaKilled, Self::ServerRestarted, Self::SessionsTerminated, Self::ConnectionsExhausted];

    fn name(self) -> &'static str {
        match self {
            Self::ReplicaKilled => "replica-killed",
            Self::ServerRestarted => "server-restarted",
            Self::SessionsTerminated => "sessions-terminated",
            Self::ConnectionsExhausted => "connections-exhausted",
        }
    }
}

/// A server that the bridges use as an ordinary role, so that the reserved connections are left to the test.
struct Site {
    postgres: Arc<Postgres>,
    /// The database as the bridges reach it.
    store: String,
}

impl Site {
    async fn open() -> Self {
        let postgres = Arc::new(spawn_blocking(Postgres::start).await.expect("a cluster"));
        let store = postgres.url().replace("postgres@", "bridge@");
        let site = Self { postgres, store };
        let mut admin = site.admin().await;
        let limit = format!("ALTER SYSTEM SET max_connections = {CONNECTIONS_MAX}");
        for statement in
            ["CREATE ROLE bridge LOGIN", "CREATE ROLE hog LOGIN", "ALTER DATABASE bridge_test OWNER TO bridge", &limit]
        {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.expect("it is ours");
        }
        at(&site.postgres, Postgres::stop).await;
        at(&site.postgres, Postgres::start_again).await;
        site
    }

    /// A connection of the superuser, of which only three are reserved: one that has just ended may still hold its place.
    async fn admin(&self) -> PgConnection {
        let url = self.postgres.url();
        until("a reserved connection is free", async || PgConnection::connect(&url).await.ok()).await
    }

    /// Takes every connection that is not reserved, those of the bridges as well; they are free again when the value is dropped.
    async fn take_all_connections(&self) -> Vec<PgConnection> {
        let hog = self.postgres.url().replace("postgres@", "hog@");
        // The bridges get none meanwhile: they would race for each that is free for a moment.
        let mut admin = self.admin().await;
        limit_bridges(&mut admin, 0).await;
        let mut taken = vec![admin];
        until("all connections are taken", async || {
            terminate_sessions(&mut taken[0]).await;
            while taken.len() < CONNECTIONS_MAX - RESERVED {
                taken.push(PgConnection::connect(&hog).await.ok()?);
            }
            Some(())
        })
        .await;
        limit_bridges(&mut taken[0], -1).await;
        taken
    }

    /// Brings a fault about, and returns when its cause is gone.
    async fn strike(&self, fault: Fault, run: &Run, dice: &mut StdRng) {
        match fault {
            Fault::ReplicaKilled => {
                let victim = dice.random_range(0..REPLICAS);
                tokio::task::block_in_place(|| run.world.kill(victim));
                pump::sleep(Duration::from_millis(dice.random_range(0..DOWN_MS_MAX))).await;
                run.world.start(victim);
            }
            Fault::ServerRestarted => {
                at(&self.postgres, Postgres::stop).await;
                at(&self.postgres, Postgres::start_again).await;
            }
            Fault::SessionsTerminated => {
                let ended = terminate_sessions(&mut self.admin().await).await;
                assert!(ended > 0, "the bridges have sessions");
            }
            Fault::ConnectionsExhausted => {
                let taken = self.take_all_connections().await;
                until_refused(&run.load, &run.world).await;
                let pause = Duration::from_millis(dice.random_range(0..TAKEN_MS_MAX));
                let release = async {
                    pump::sleep(pause).await;
                    drop(taken);
                };
                let reader = dice.random_range(0..REPLICAS);
                let (read, ()) = tokio::join!(run.world.look(reader, "/v1/parked"), release);
                let (status, text) = read.expect("it answers");
                assert_eq!(status, 200, "a read waits for a connection: {text}");
            }
        }
    }
}

/// Ends every session of the bridges; the number that there were.
async fn terminate_sessions(admin: &mut PgConnection) -> usize {
    let ended = sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bridge'");
    ended.fetch_all(admin).await.expect("it is ours").len()
}

/// Limits the number of the bridges' sessions; -1: no limit but the server's.
async fn limit_bridges(admin: &mut PgConnection, sessions: i32) {
    let limit = format!("ALTER ROLE bridge CONNECTION LIMIT {sessions}");
    sqlx::raw_sql(AssertSqlSafe(limit)).execute(admin).await.expect("it is ours");
}

/// The time until every bridge is ready and an event has come to an end.
pub async fn recovery(run: &Run) -> Duration {
    let clock = Clock::system();
    let began = clock.now();
    let progress = || run.ledger.progress();
    let before = progress().await.map_or(0, |progress| progress.done);
    until_within(RECOVERY_MAX, "all is well again", async || {
        for number in 0..run.world.replicas() {
            let (status, _) = run.world.look(number, "/readyz").await?;
            (status == 200).then_some(())?;
        }
        let done = progress().await?.done;
        (done > before || done == run.load.ids.len()).then_some(())
    })
    .await;
    clock.now().since(began)
}

/// A line of the second table of `tests/reliability` for each fault.
pub fn note_recoveries(scenario: &str, recoveries: &BTreeMap<&str, Vec<Duration>>) {
    for (fault, times) in recoveries {
        let mut times = times.clone();
        times.sort_unstable();
        let [median, slowest] = [times[times.len() / 2], times[times.len() - 1]].map(|time| time.as_secs_f64());
        note(&format!("recovery {scenario} {fault} {} {median:.2} {slowest:.2}", times.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_postgres_under_load_lose_nothing_and_pass() {
    let plan = Plan::new("faults", 1_000, 200, 4);
    let site = Site::open().await;
    let vhost = spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let layout =
        Layout { replicas: REPLICAS, store: Some(site.store.clone()), amqp: Some(vhost.clone()), ..Layout::default() };
    let world = ChaosWorld::open(&plan, layout).await;
    world.trouble(&plan).await;
    let load = Load::new(&plan, true, 0.0);
    let mut dice = plan.dice(2);
    let run = Run::begin(plan, world, load, Ledger::of(&site.postgres.url()), Some(&vhost)).await;
    let mut recoveries: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (moment, fault) in run.plan.moments().into_iter().zip(Fault::ALL.into_iter().cycle()) {
        until_progress(&run.load, moment, &mut dice).await;
        site.strike(fault, &run, &mut dice).await;
        recoveries.entry(fault.name()).or_default().push(recovery(&run).await);
    }
    run.end().await;
    note_recoveries("faults", &recoveries);
    spawn_blocking(move || drop(site)).await.expect("stopped");
}
