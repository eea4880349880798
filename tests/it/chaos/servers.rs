//! RabbitMQ, PostgreSQL and a pooler in front of it go away and come back, at random moments under load.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::task::spawn_blocking;

use podero_bridge::pump;

use super::Plan;
use super::disturb::{at, until_progress, until_refused};
use super::judge::Run;
use super::ledger::{Ledger, integrity};
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use crate::servers::{Broker, Pooler, Postgres, fresh_database};

/// Limit of the time for which a server stays away: from a quick restart to longer than a first back-off.
const AWAY_MS_MAX: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_stopped_and_killed_under_load_loses_nothing() {
    let plan = Plan::new("broker", 1_000, 200, 2);
    let broker = Arc::new(spawn_blocking(Broker::start).await.expect("a broker"));
    let url = broker.url();
    let world = ChaosWorld::open(&plan, Layout { replicas: 1, amqp: Some(url.clone()), ..Layout::default() }).await;
    world.trouble(&plan).await;
    let file = world.folder.path().join("bridge.db");
    let load = Load::new(&plan, true, 0.0);
    let mut dice = plan.dice(2);
    let mut run = Run::begin(plan, world, load, Ledger::of_file(&file), Some(&url)).await;
    for (blow, moment) in run.plan.moments().into_iter().enumerate() {
        until_progress(&run.load, moment, &mut dice).await;
        at(&broker, if blow % 2 == 0 { Broker::kill } else { Broker::stop }).await;
        pump::sleep(Duration::from_millis(dice.random_range(0..AWAY_MS_MAX))).await;
        at(&broker, Broker::start_again).await;
    }
    {
        // Frozen, so that file and log belong together.
        let _nobody_else_looks = run.ledger.looking.lock().await;
        run.world.freeze(0, true);
        let said = integrity(&file, run.world.folder.path()).await;
        run.world.freeze(0, false);
        if said != "ok" {
            run.wrong.push(said);
        }
    }
    run.end().await;
    spawn_blocking(move || drop(broker)).await.expect("stopped");
}

/// A server that two replicas have their store at, and its ends.
struct Blows<T> {
    scenario: &'static str,
    server: T,
    /// The URL of the store, by way of this server; and past it.
    store: String,
    past: String,
    ends: [fn(&T); 2],
    start_again: fn(&T),
}

impl<T: Send + Sync + 'static> Blows<T> {
    async fn lose_nothing(self) {
        let Self { scenario, server, store, past, ends, start_again } = self;
        let (plan, server) = (Plan::new(scenario, 1_000, 200, 2), Arc::new(server));
        let world = ChaosWorld::open(&plan, Layout { replicas: 2, store: Some(store), ..Layout::default() }).await;
        world.trouble(&plan).await;
        let load = Load::new(&plan, false, 0.0);
        let mut dice = plan.dice(2);
        let run = Run::begin(plan, world, load, Ledger::of(&past), None).await;
        for (blow, moment) in run.plan.moments().into_iter().enumerate() {
            until_progress(&run.load, moment, &mut dice).await;
            at(&server, ends[blow % ends.len()]).await;
            until_refused(&run.load, &run.world).await;
            pump::sleep(Duration::from_millis(dice.random_range(0..AWAY_MS_MAX))).await;
            at(&server, start_again).await;
        }
        run.end().await;
        spawn_blocking(move || drop(server)).await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_stopped_and_killed_under_load_loses_nothing() {
    let server = spawn_blocking(Postgres::start).await.expect("a cluster");
    let (store, past) = (server.url(), server.url());
    let ends = [Postgres::kill, Postgres::stop];
    Blows { scenario: "database", server, store, past, ends, start_again: Postgres::start_again }.lose_nothing().await;
}

/// PgBouncer in this pool mode, with this many connections to the server for two replicas together, is stopped and killed under load.
async fn a_pooler_loses_nothing(scenario: &'static str, mode: &'static str, size: u32) {
    let past = spawn_blocking(fresh_database).await.expect("a database");
    let behind = past.clone();
    let server = spawn_blocking(move || Pooler::start(mode, &behind, size)).await.expect("a pooler");
    let store = server.url_of(&past);
    let ends = [Pooler::kill, Pooler::stop];
    Blows { scenario, server, store, past, ends, start_again: Pooler::start_again }.lose_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_of_sessions_that_restarts_under_load_loses_nothing() {
    // Each replica has a connection to write and four to read.
    a_pooler_loses_nothing("pooler-session", "session", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_of_transactions_that_restarts_under_load_loses_nothing() {
    a_pooler_loses_nothing("pooler-transaction", "transaction", 3).await;
}
