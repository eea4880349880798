//! The sweep of polls: a large fleet, and a Podero that answers at once.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::process::{Key, Process};
use crate::seed;
use crate::store::{Kept, Store};
use crate::target::{Control, PUMPS};

const USERS: u64 = 50_000;
/// Users of a sweep that are counted: its first may have begun before the target was reset.
const COUNTED: u64 = USERS / 10 * 9;
const ROUNDS: usize = 3;
/// Duration of the client's turn.
const TURN: Duration = Duration::from_secs(3);

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let store = Kept::Sqlite.empty(bench, "sweep.db")?;
    let process = Process::role("target", &[&USERS.to_string()])?;
    let target = Control(process.address.clone());
    let memory = see_all(&store, &target).await?;
    // All users are due since the first run; the file is checked next to that.
    target.forget().await?;
    let bridge = watching(&store, &target, "10m")?;
    target.wait_for(USERS).await?;
    tokio::time::sleep(TURN).await;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        seed::make_polls_due(&store).await?;
        target.forget().await?;
        let ours = target.wait_for(COUNTED).await?.per_second();
        bridge.freeze(true)?;
        let client = Process::role("limit-polls", &[&target.0, &USERS.to_string()])?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        target.forget().await?;
        tokio::time::sleep(TURN).await;
        rates.push((ours, target.seen().await?.per_second()));
        drop(client);
        bridge.freeze(false)?;
    }
    let name = format!("sweep of polls, {} heat pumps of {USERS} users", USERS * PUMPS);
    Ok(vec![
        Figure::of_turns(&name, "polls/s", &rates, Some(Aim::AtLeast(0.8))),
        Figure::alone("memory meanwhile", "MiB", memory, Some(Aim::AtMost(150.0))),
    ])
}

fn watching(store: &Store, target: &Control, interval: &str) -> anyhow::Result<Process> {
    let mut keys: Vec<Key> = seed::source().into_iter().collect();
    keys.extend([
        seed::podero(target),
        ("WATCH__ENABLED", "true".to_owned()),
        ("WATCH__INTERVAL", interval.to_owned()),
    ]);
    Process::bridge(store, &keys)
}

/// Waits until every user was seen once, at an interval that is over before all have been; the resident memory then, in MiB.
async fn see_all(store: &Store, target: &Control) -> anyhow::Result<f64> {
    let bridge = watching(store, target, "2s")?;
    bridge.ready(Instant::now()).await?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let all = (USERS * PUMPS) as f64;
    while bridge.metric("podero_bridge_heat_pumps").await? < all {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = bridge.memory()?;
    bridge.terminate()?;
    Ok(memory)
}
