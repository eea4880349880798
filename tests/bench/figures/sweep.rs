//! The sweep of polls: a large fleet, and a Podero that answers at once.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::process::{Key, Process};
use crate::seed;
use crate::target::{Control, PUMPS};

const USERS: u64 = 50_000;
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_secs(4);

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let process = Process::role("target", &[&USERS.to_string()])?;
    let target = Control(process.address.clone());
    let mut keys: Vec<Key> = seed::source().into_iter().collect();
    // So short that it never catches up: what is measured is how fast it can.
    keys.extend([seed::podero(&target), ("WATCH__ENABLED", "true".to_owned()), ("WATCH__INTERVAL", "2s".to_owned())]);
    let bridge = Process::bridge(&seed::sqlite(&folder.path().join("bridge.db")), &keys)?;
    bridge.ready(Instant::now()).await?;
    // Everybody was seen once.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let all = (USERS * PUMPS) as f64;
    while bridge.metric("podero_bridge_heat_pumps").await? < all {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = bridge.memory()?;
    bridge.freeze(true)?;
    let client = Process::role("limit-polls", &[&target.0, &USERS.to_string()])?;
    client.freeze(true)?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let mut turn = [0.0; 2];
        for (rate, process) in turn.iter_mut().zip([&bridge, &client]) {
            process.freeze(false)?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            target.forget().await?;
            tokio::time::sleep(TURN).await;
            *rate = target.seen().await?.per_second();
            process.freeze(true)?;
        }
        rates.push((turn[0], turn[1]));
    }
    bridge.freeze(false)?;
    let name = format!("sweep of polls, {} heat pumps of {USERS} users", USERS * PUMPS);
    Ok(vec![
        Figure::of_turns(&name, "polls/s", &rates, Some(Aim::AtLeast(0.8))),
        Figure::alone("memory meanwhile", "MiB", memory, Some(Aim::AtMost(150.0))),
    ])
}
