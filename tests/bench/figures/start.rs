//! From the start of the process to `/readyz`, with much to do.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Aim, Figure, median};
use crate::process::{Key, Process};
use crate::seed::{self, CHANGES};
use crate::target::Control;

const KILLED: u64 = 100_000;
const ROUNDS: usize = 3;

pub(crate) async fn measure(
    many: &Path,
    killed: &Path,
    (template, target): (&Path, &Control),
) -> anyhow::Result<Vec<Figure>> {
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(target)]).collect();
    let mut calm = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let bridge = Process::bridge(&seed::sqlite(many), &keys)?;
        calm.push(bridge.ready(began).await?);
        bridge.terminate()?;
    }
    seed::grow(template, killed, KILLED / CHANGES, true)?;
    let mut after = Vec::new();
    for _ in 0..ROUNDS {
        let bridge = Process::bridge(&seed::sqlite(killed), &keys)?;
        bridge.ready(Instant::now()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Its handle kills it, in the middle of its work.
        drop(bridge);
        let began = Instant::now();
        let bridge = Process::bridge(&seed::sqlite(killed), &keys)?;
        after.push(bridge.ready(began).await?);
        bridge.terminate()?;
    }
    let seconds = |times: Vec<Duration>| median(times.iter().map(Duration::as_secs_f64));
    Ok(vec![
        Figure::alone("start to ready, 1,000,000 rows", "s", seconds(calm), Some(Aim::AtMost(0.5))),
        Figure::alone("start to ready, kill -9, 100,000 pending", "s", seconds(after), Some(Aim::AtMost(1.0))),
    ])
}

/// Resident memory without work: the listeners, the broker and the watch are on.
pub(crate) async fn idle(folder: &Path, broker: &str) -> anyhow::Result<Figure> {
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let mut keys: Vec<Key> = seed::source().into_iter().collect();
    keys.extend([seed::podero(&target), ("AMQP__URL", broker.to_owned()), ("WATCH__ENABLED", "true".to_owned())]);
    let bridge = Process::bridge(&seed::sqlite(&folder.join("idle-memory.db")), &keys)?;
    bridge.ready(Instant::now()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(Figure::alone("memory, idle", "MiB", bridge.memory()?, Some(Aim::AtMost(40.0))))
}
