//! The database's server is lost for good under load, and a standby takes its place behind a URL that names both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use sqlx::{Connection, PgConnection};
use tokio::task::spawn_blocking;

use podero_bridge::pump;

use super::Plan;
use super::disturb::{at, until_progress};
use super::faults::{note_recoveries, recovery};
use super::judge::Run;
use super::ledger::Ledger;
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use crate::servers::{self, Postgres};

/// Limit of the time until someone notices that the server is gone, and promotes the standby.
const UNNOTICED_MS_MAX: u64 = 3_000;

/// A server that confirms no commit before its standby has it.
async fn pair() -> [Arc<Postgres>; 2] {
    let pair = spawn_blocking(|| {
        let primary = Postgres::start();
        let standby = Postgres::standby_of(&primary);
        [primary, standby].map(Arc::new)
    });
    let pair = pair.await.expect("two clusters");
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        run(&pair[0], statement).await;
    }
    pair
}

async fn run(server: &Postgres, statement: &'static str) {
    let mut connection = PgConnection::connect(&server.url()).await.expect("it was started");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("it is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_under_load_has_everything() {
    let plan = Plan::new("standby", 1_000, 200, 1);
    let [primary, standby] = pair().await;
    let (url, other) = (primary.url(), standby.url());
    let (server, database) = url.rsplit_once('/').expect("a URL with a database");
    let host = other.split(['@', '/']).nth(3).expect("a URL with a host");
    let both = format!("{server},{host}/{database}?target_session_attrs=read-write");
    let vhost = spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let layout = Layout { replicas: 2, store: Some(both), amqp: Some(vhost.clone()), ..Layout::default() };
    let world = ChaosWorld::open(&plan, layout).await;
    world.trouble(&plan).await;
    let load = Load::new(&plan, true, 0.0);
    let mut dice = plan.dice(2);
    let under_load = Run::begin(plan, world, load, Ledger::of(&url), Some(&vhost)).await;
    until_progress(&under_load.load, under_load.plan.moments()[0], &mut dice).await;
    at(&primary, Postgres::kill).await;
    pump::sleep(Duration::from_millis(dice.random_range(0..UNNOTICED_MS_MAX))).await;
    run(&standby, "SELECT pg_promote()").await;
    under_load.ledger.follow_to(&other);
    let took = recovery(&under_load).await;
    under_load.end().await;
    note_recoveries("standby", &BTreeMap::from([("standby-promoted", vec![took])]));
    spawn_blocking(move || drop([primary, standby])).await.expect("stopped");
}
