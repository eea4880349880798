//! RabbitMQ and PostgreSQL go away and come back, at random moments under load.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use tokio::task::spawn_blocking;

use podero_bridge::pump;

use super::Plan;
use super::disturb::until_progress;
use super::judge::Run;
use super::ledger::{Ledger, integrity};
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use crate::servers::{Broker, Postgres};

/// Limit of the time for which a server stays away: from a quick restart to longer than a first back-off.
const AWAY_MS_MAX: u64 = 3_000;

/// Runs something slow of a server on a thread of its own.
async fn at<T: Send + Sync + 'static>(server: &Arc<T>, act: impl FnOnce(&T) + Send + 'static) {
    let server = server.clone();
    spawn_blocking(move || act(&server)).await.expect("done");
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_stopped_and_killed_under_load_loses_nothing() {
    let plan = Plan::new("database", 1_000, 200, 2);
    let postgres = Arc::new(spawn_blocking(Postgres::start).await.expect("a cluster"));
    let store = postgres.url();
    let world = ChaosWorld::open(&plan, Layout { replicas: 2, store: Some(store.clone()), ..Layout::default() }).await;
    world.trouble(&plan).await;
    let load = Load::new(&plan, false, 0.0);
    let mut dice = plan.dice(2);
    let run = Run::begin(plan, world, load, Ledger::of(&store), None).await;
    for (blow, moment) in run.plan.moments().into_iter().enumerate() {
        until_progress(&run.load, moment, &mut dice).await;
        at(&postgres, if blow % 2 == 0 { Postgres::kill } else { Postgres::stop }).await;
        // Some sender meets the closed store.
        let before = run.load.refused.load(Ordering::Relaxed);
        crate::world::until("a sender is told to come again", async || {
            (run.load.refused.load(Ordering::Relaxed) > before || run.load.is_sent()).then_some(())
        })
        .await;
        pump::sleep(Duration::from_millis(dice.random_range(0..AWAY_MS_MAX))).await;
        at(&postgres, Postgres::start_again).await;
    }
    assert!(run.load.refused.load(Ordering::Relaxed) > 0, "no sender met the closed store");
    run.end().await;
    spawn_blocking(move || drop(postgres)).await.expect("stopped");
}
