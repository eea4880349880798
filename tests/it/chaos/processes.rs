//! `kill -9` and SIGSTOP, at random moments under load.

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
use crate::servers;

/// A lease of this world's settings (50 s and five times `podero.timeout`), and some more.
const BEYOND_A_LEASE: Duration = Duration::from_secs(57);
/// A pause that a lease outlasts.
const WITHIN_A_LEASE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_and_makes_nothing_twice() {
    let plan = Plan::new("kill", 1_000, 200, 3);
    let world = ChaosWorld::open(&plan, Layout { replicas: 1, ..Layout::default() }).await;
    world.trouble(&plan).await;
    let file = world.folder.path().join("bridge.db");
    let load = Load::new(&plan, false, 0.0);
    let mut dice = plan.dice(2);
    let mut run = Run::begin(plan, world, load, Ledger::of_file(&file), None).await;
    for moment in run.plan.moments() {
        until_progress(&run.load, moment, &mut dice).await;
        {
            let _nobody_else_looks = run.ledger.looking.lock().await;
            tokio::task::block_in_place(|| run.world.kill(0));
            let said = integrity(&file, run.world.folder.path()).await;
            if said != "ok" {
                run.wrong.push(format!("after a kill at {moment:.2}: {said}"));
            }
            run.world.start(0);
        }
        run.world.ready(0).await;
    }
    run.end().await;
}

/// Replicas that are killed under load lose nothing and make nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_lose_nothing_and_make_nothing_twice() {
    let plan = Plan::new("replicas", 1_000, 200, 2);
    let replicas = if plan.events > 5_000 { 3 } else { 2 };
    let store = spawn_blocking(servers::fresh_database).await.expect("a database");
    let vhost = spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let layout = Layout { replicas, store: Some(store.clone()), amqp: Some(vhost.clone()), ..Layout::default() };
    let world = ChaosWorld::open(&plan, layout).await;
    world.trouble(&plan).await;
    let load = Load::new(&plan, true, 0.0);
    let mut dice = plan.dice(2);
    let run = Run::begin(plan, world, load, Ledger::of(&store), Some(&vhost)).await;
    for moment in run.plan.moments() {
        until_progress(&run.load, moment, &mut dice).await;
        let victim = dice.random_range(0..replicas);
        tokio::task::block_in_place(|| run.world.kill(victim));
        pump::sleep(Duration::from_millis(dice.random_range(0..3_000))).await;
        run.world.start(victim);
        run.world.ready(victim).await;
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_frozen_beyond_its_lease_and_wakes_up_changes_nothing() {
    let plan = Plan::new("paused", 600, 120, 1);
    let store = spawn_blocking(servers::fresh_database).await.expect("a database");
    let world = ChaosWorld::open(&plan, Layout { replicas: 2, store: Some(store.clone()), ..Layout::default() }).await;
    world.trouble(&plan).await;
    // A third of the events comes only when the sleeper is awake again.
    let load = Load::new(&plan, false, 0.33);
    let mut dice = plan.dice(2);
    let run = Run::begin(plan, world, load, Ledger::of(&store), None).await;
    for blow in 0..run.plan.blows {
        for (share, pause) in [(0.1, WITHIN_A_LEASE), (0.3, BEYOND_A_LEASE)] {
            let share = (share + blow as f64) / run.plan.blows as f64 * 0.6;
            until_progress(&run.load, share, &mut dice).await;
            let sleeper = dice.random_range(0..2);
            run.world.freeze(sleeper, true);
            pump::sleep(pause).await;
            run.world.freeze(sleeper, false);
        }
    }
    run.end().await;
}
