//! Many heat pumps on one process: their cost, and that a restart in the middle of a round skips no user.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use podero_bridge::clock::Clock;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use super::world::{ChaosWorld, Layout};
use super::{Plan, note, say};
use crate::servers::environment;
use crate::world::until_within;

/// Number of heat pumps of each user.
const PUMPS: usize = 2;

/// Timeout that is longer than a start and a round of the largest fleet take.
const PATIENCE: Duration = Duration::from_mins(40);

/// Limit of a busy machine's delay: the promise is that no user is skipped for a round.
const LATE_MAX: Duration = Duration::from_secs(20);

fn number(name: &str, usual: usize) -> usize {
    environment(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Resident memory of a process now, and at most so far, in MiB.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Polls that were written down after a moment, of how many users.
async fn polled_since(world: &ChaosWorld, micros: i64) -> (i64, i64) {
    let file = world.folder.path().join("bridge.db");
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the file is there");
    let query = "SELECT COALESCE(SUM(CASE WHEN polled_at >= $1 THEN 1 ELSE 0 END), 0), COUNT(*) FROM watched";
    let row = sqlx::query(query).bind(micros).fetch_one(&mut connection).await.expect("readable");
    (row.get(0), row.get(1))
}

/// A large fleet is watched within bounds and a restart in the middle of a round skips no user.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_is_watched_within_bounds_across_a_restart() {
    let users = number("PODERO_BRIDGE_TEST_USERS", 200);
    let interval = Duration::from_secs(u64::try_from(number("PODERO_BRIDGE_TEST_INTERVAL", 10)).expect("small"));
    let plan = Plan::new("large-fleet", 0, users, 1);
    let keys = vec![
        ("WATCH__ENABLED", "true".to_owned()),
        ("WATCH__INTERVAL", format!("{}s", interval.as_secs())),
        ("PODERO__REQUESTS_PER_SECOND", "10000".to_owned()),
        ("PODERO__TIMEOUT", "10s".to_owned()),
        ("LOG__LEVEL", "info".to_owned()),
    ];
    let world = ChaosWorld::open(&plan, Layout { replicas: 1, keys, ..Layout::default() }).await;
    let clock = Clock::system();
    let (idle, _) = memory(world.pid(0));
    populate(&world, users).await;
    let all = users * PUMPS;
    let seen = async || world.metric(0, "podero_bridge_heat_pumps{state=\"connected\"}").await;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let wanted = all as f64;
    until_within(PATIENCE, "every heat pump was seen", async || (seen().await >= wanted).then_some(())).await;

    // A whole round at its own pace.
    let requests = async || world.metric(0, "podero_bridge_podero_requests_total").await;
    let (before, began) = (requests().await, clock.now());
    until_within(PATIENCE, "a round", async || (clock.now().since(began) >= interval).then_some(())).await;
    let per_pump = (requests().await - before) / wanted;
    let coverage = world.metric(0, "podero_bridge_poll_coverage_ratio").await;
    assert!(coverage > 0.98, "{coverage} of the users were seen in time");
    let (resident, peak) = memory(world.pid(0));

    // In the middle of the next one.
    until_within(PATIENCE, "half a round", async || (clock.now().since(began) >= interval * 3 / 2).then_some(())).await;
    let killed_at = clock.now();
    world.kill(0);
    world.start(0);
    world.ready(0).await;
    let down = clock.now().since(killed_at);
    let mut stalest = Duration::ZERO;
    let (polled, watched) = until_within(PATIENCE, "everybody was polled after the restart", async || {
        stalest = stalest.max(Duration::from_secs_f64(world.metric(0, "podero_bridge_poll_staleness_seconds").await));
        let (polled, watched) = polled_since(&world, killed_at.micros()).await;
        (polled == watched).then_some((polled, watched))
    })
    .await;
    let took = clock.now().since(killed_at);
    assert_eq!((polled, watched), (i64::try_from(users).expect("small"), i64::try_from(users).expect("small")));
    assert!(stalest <= interval + down + LATE_MAX, "somebody was not seen for {stalest:?}, {down:?} of it down");
    assert!(took <= interval + down + LATE_MAX, "the round took {took:?}");
    assert_eq!(world.metric(0, "podero_bridge_alerts_open").await, 0.0);
    say(&format!(
        "{all} heat pumps of {users} users: idle {idle} MiB, {resident} MiB resident, {peak} MiB at most; {per_pump:.2} \
         requests for each in {} s; down {} ms, the stalest {:.1} s",
        interval.as_secs(),
        down.as_millis(),
        stalest.as_secs_f64(),
    ));
    let (seed, seconds) = (plan.seed, took.as_secs());
    note(&format!("large-fleet {seed} 0 {users} 1 0 0 0 0 0 {seconds}"));
    assert_eq!(world.terminate().await, Vec::<String>::new());
}

/// Users with heat pumps that are connected, made by Podero's own calls.
async fn populate(world: &Arc<ChaosWorld>, users: usize) {
    let token = world.token().await;
    let made = stream::iter(0..users).map(|number| {
        let (world, token) = (world.clone(), token.clone());
        async move {
            let record = json!({"role": "user", "email": format!("c{number}@utility.example"),
                                "external_user_id": format!("C-{number}"), "zip_code": "01067", "country": "DE"});
            let user: Value = world.create_user(&token, &record).await;
            for _ in 0..PUMPS {
                world.connect_heat_pump(user["id"].as_str().expect("an id")).await;
            }
        }
    });
    made.buffer_unordered(16).collect::<Vec<()>>().await;
    world.forget_requests().await;
}
