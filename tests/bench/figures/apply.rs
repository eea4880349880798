//! Work that has piled up: the pace with a million pending events next to that with ten thousand, memory meanwhile, the start.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::process::{Key, Process};
use crate::seed::{self, CHANGES};
use crate::target::Control;

const MANY: u64 = 1_000_000;
const FEW: u64 = 10_000;
/// Number of events in a turn: less than there is of the few.
const APPLIED: u64 = 6_000;
const ROUNDS: usize = 5;

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let template = seed::template(folder.path(), &target).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(&target)]).collect();
    let many = folder.path().join("many.db");
    seed::grow(&template, &many, MANY / CHANGES, true)?;
    let (mut rates, mut memory): (Vec<(f64, f64)>, f64) = (Vec::new(), 0.0);
    for round in 0..ROUNDS {
        target.answer_after(HELD_BACK_MS).await?;
        let bridge = Process::bridge(&seed::sqlite(&many), &keys)?;
        let ours = pace(&bridge, &target, HELD_BACK_MS).await?;
        memory = memory.max(bridge.memory()?);
        bridge.terminate()?;
        let few = folder.path().join(format!("few-{round}.db"));
        seed::grow(&template, &few, FEW / CHANGES, true)?;
        target.answer_after(FEW_HELD_BACK_MS).await?;
        let bridge = Process::bridge(&seed::sqlite(&few), &keys)?;
        rates.push((ours, pace(&bridge, &target, FEW_HELD_BACK_MS).await?));
    }
    let mut figures = vec![
        Figure::of_turns("work with 1,000,000 pending, beside 10,000", "events/s", &rates, Some(Aim::AtLeast(0.9))),
        Figure::alone("memory with 1,000,000 pending", "MiB", memory, Some(Aim::AtMost(100.0))),
    ];
    figures.extend(super::start::measure(&many, &folder.path().join("killed.db"), (&template, &target)).await?);
    Ok(figures)
}

/// Latency of the target, so that events stay pending while a large file is checked.
const HELD_BACK_MS: u64 = 1_000;

/// The same for a small file, which is checked before the start. Events that end while the last one that was held back is still
/// under way are missing from the few.
const FEW_HELD_BACK_MS: u64 = 20;

async fn pace(bridge: &Process, target: &Control, held_back_ms: u64) -> anyhow::Result<f64> {
    bridge.ready(Instant::now()).await?;
    bridge.examined().await?;
    target.answer_after(0).await?;
    tokio::time::sleep(Duration::from_millis(held_back_ms)).await;
    target.forget().await?;
    Ok(target.wait_for(APPLIED).await?.per_second())
}
