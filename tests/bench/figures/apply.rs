//! Work that has piled up: the pace with a million pending events next to that with ten thousand, memory meanwhile, the start.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::process::{Key, Process};
use crate::seed::{self, CHANGES};
use crate::store::Kept;
use crate::target::Control;

const MANY: u64 = 1_000_000;
const FEW: u64 = 10_000;
/// Number of events in a turn: less than there is of the few.
const APPLIED: u64 = 6_000;
const ROUNDS: usize = 5;

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let template = kept.empty(bench, "template.db")?;
    seed::template(&template, &target).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(&target)]).collect();
    let many = template.copy(bench.servers, "many.db")?;
    seed::add_pending(&many, MANY / CHANGES).await?;
    let (mut rates, mut memory): (Vec<(f64, f64)>, f64) = (Vec::new(), 0.0);
    for round in 0..ROUNDS {
        target.answer_after(HELD_BACK_MS).await?;
        let bridge = Process::bridge(&many, &keys)?;
        let ours = pace(&bridge, &target, HELD_BACK_MS).await?;
        memory = memory.max(bridge.memory()?);
        bridge.terminate()?;
        let few = template.copy(bench.servers, &format!("few-{round}.db"))?;
        seed::add_pending(&few, FEW / CHANGES).await?;
        target.answer_after(FEW_HELD_BACK_MS).await?;
        let bridge = Process::bridge(&few, &keys)?;
        rates.push((ours, pace(&bridge, &target, FEW_HELD_BACK_MS).await?));
    }
    let (work, resident) =
        (kept.named("work with 1,000,000 pending, next to 10,000"), kept.named("memory with 1,000,000 pending"));
    let mut figures = vec![
        Figure::of_turns(&work, "events/s", &rates, Some(Aim::AtLeast(0.9))),
        Figure::alone(&resident, "MiB", memory, Some(Aim::AtMost(100.0))),
    ];
    let killed = template.copy(bench.servers, "killed.db")?;
    figures.extend(super::start::measure(&many, &killed, &target).await?);
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
