//! Replicas do each thing once, and together.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::spawn_blocking;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;

use super::judge::Run;
use super::ledger::Ledger;
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use super::{Plan, say};
use crate::servers;
use crate::world::until_within;

/// `watch.interval` of this run.
const INTERVAL: Duration = Duration::from_secs(2);
/// Polls of each user while they are counted.
const POLLS: usize = 4;
/// Timeout of the polls, which may lag on a busy machine. The test forbids only that every replica polls every user.
const PATIENCE: Duration = Duration::from_secs(90);

/// Polls of each user, and the seconds between the first and the last of all.
async fn polls(world: &ChaosWorld) -> (BTreeMap<String, usize>, f64) {
    let requests = world.get("/requests").await;
    let mut by_user = BTreeMap::new();
    let mut times = Vec::new();
    for request in requests.as_array().expect("requests") {
        if request["operation"] == "list_heat_pumps" {
            let path = request["path"].as_str().expect("a path").to_owned();
            *by_user.entry(path).or_default() += 1;
            let at = request["at"].as_str().and_then(Timestamp::parse);
            times.push(at.expect("a moment").micros());
        }
    }
    let span = times.iter().max().zip(times.iter().min()).map_or(0, |(last, first)| last - first);
    (by_user, span as f64 / 1e6)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_work_and_do_nothing_twice() {
    let plan = Plan { trouble: 0.0, ..Plan::new("sharing", 300, 60, 0) };
    let replicas = 3;
    let store = spawn_blocking(servers::fresh_database).await.expect("a database");
    let vhost = spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let keys = vec![("WATCH__ENABLED", "true".to_owned()), ("WATCH__INTERVAL", "2s".to_owned())];
    let layout = Layout { replicas, store: Some(store.clone()), amqp: Some(vhost.clone()), keys, ..Layout::default() };
    let world = ChaosWorld::open(&plan, layout).await;
    let load = Load::new(&plan, true, 0.0);
    let mut run = Run::begin(plan, world.clone(), load, Ledger::of(&store), Some(&vhost)).await;
    run.arrive().await;

    let state = world.get("/state").await;
    let users = state["users"].as_array().expect("users").iter().filter(|user| user["deleted"] == false);
    let users: Vec<&str> = users.map(|user| user["id"].as_str().expect("an id")).collect();
    for user in &users {
        world.connect_heat_pump(user).await;
    }
    // Counted from now on, when nothing else lists heat pumps.
    world.forget_requests().await;
    let began = Clock::system().now();
    let (polled, span) = until_within(PATIENCE, "every user was polled a few times", async || {
        let (by_user, span) = polls(&world).await;
        let often = by_user.values().filter(|count| **count >= POLLS).count();
        (often >= users.len()).then_some((by_user, span))
    })
    .await;
    let waited = Clock::system().now().since(began).as_secs_f64();
    let total: usize = polled.values().sum();
    let each = total as f64 / polled.len() as f64 / (span / INTERVAL.as_secs_f64());
    say(&format!(
        "sharing: {total} polls of {} users in {span:.1} s (waited {waited:.1} s): {each:.2} per user and interval",
        polled.len()
    ));
    // One poll more than intervals between them, and a little for the machine: each replica for itself would be 3.
    let most = span / INTERVAL.as_secs_f64() + 2.0;
    assert!(polled.values().all(|count| (*count as f64) <= most), "at most {most:.1} each: {polled:?}");

    let mut settled = Vec::new();
    let mut published = 0.0;
    for number in 0..replicas {
        settled.push(world.metric(number, "podero_bridge_events_settled_total{outcome=\"applied\"").await);
        published += world.metric(number, "podero_bridge_notices_published_total").await;
    }
    say(&format!("sharing: settled by each {settled:?}, published by all {published}"));
    assert!(settled.iter().all(|count| *count > 0.0), "one replica did nothing: {settled:?}");
    let notices = run.ledger.notices().await.len();
    assert!((published - notices as f64).abs() < 0.5, "{notices} notices were published {published} times");
    let figures = run.end().await;
    assert_eq!(figures.repeats_on_the_bus, 0, "nothing was killed, so nothing goes out twice");
}
