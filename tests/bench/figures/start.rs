//! From the start of the process to `/readyz`, with much to do.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure, median};
use crate::process::{Key, Process};
use crate::seed::{self, CHANGES};
use crate::store::{Kept, Store};
use crate::target::Control;

const KILLED: u64 = 100_000;
const ROUNDS: usize = 3;

/// Starts on a store with a million rows, and on a copy of the template.
pub(crate) async fn measure(many: &Store, killed: &Store, target: &Control) -> anyhow::Result<Vec<Figure>> {
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(target)]).collect();
    let mut calm = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let bridge = Process::bridge(many, &keys)?;
        calm.push(bridge.ready(began).await?);
        bridge.terminate()?;
    }
    seed::add_pending(killed, KILLED / CHANGES).await?;
    let mut after = Vec::new();
    for _ in 0..ROUNDS {
        let bridge = Process::bridge(killed, &keys)?;
        bridge.ready(Instant::now()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Its handle kills it, in the middle of its work.
        drop(bridge);
        let began = Instant::now();
        let bridge = Process::bridge(killed, &keys)?;
        after.push(bridge.ready(began).await?);
        bridge.terminate()?;
    }
    let seconds = |times: Vec<Duration>| median(times.iter().map(Duration::as_secs_f64));
    let named = |name| many.kept().named(name);
    Ok(vec![
        Figure::alone(&named("start to ready, 1,000,000 rows"), "s", seconds(calm), Some(Aim::AtMost(0.5))),
        Figure::alone(&named("start to ready, kill -9, 100,000 pending"), "s", seconds(after), Some(Aim::AtMost(1.0))),
    ])
}

/// Resident memory without work: the listeners, the broker and the watch are on.
pub(crate) async fn idle(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let mut keys: Vec<Key> = seed::source().into_iter().collect();
    keys.extend([seed::podero(&target), ("AMQP__URL", bench.servers.broker()?), ("WATCH__ENABLED", "true".to_owned())]);
    let bridge = Process::bridge(&kept.empty(bench, "idle-memory.db")?, &keys)?;
    bridge.ready(Instant::now()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(vec![Figure::alone(&kept.named("memory, idle"), "MiB", bridge.memory()?, Some(Aim::AtMost(40.0)))])
}
