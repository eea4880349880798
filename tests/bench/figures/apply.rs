//! Work that has piled up: the pace with a million pending events beside that with ten thousand, memory meanwhile, the start, and
//! the way of a single event through an idle bridge.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Aim, Bench, Figure};
use crate::limits;
use crate::load::{self, Sender};
use crate::process::{Key, Process};
use crate::seed::{self, CHANGES};
use crate::target::Control;

const MANY: u64 = 1_000_000;
const FEW: u64 = 10_000;
/// Of a turn: less than there is of the few.
const APPLIED: u64 = 8_000;
const ROUNDS: usize = 3;

/// Single events, one at a time.
const SINGLES: u64 = 300;

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
        let bridge = Process::bridge(&seed::sqlite(&many), &keys)?;
        let ours = pace(&bridge, &target).await?;
        memory = memory.max(bridge.memory()?);
        bridge.terminate()?;
        let few = folder.path().join(format!("few-{round}.db"));
        seed::grow(&template, &few, FEW / CHANGES, true)?;
        let bridge = Process::bridge(&seed::sqlite(&few), &keys)?;
        rates.push((ours, pace(&bridge, &target).await?));
    }
    let mut figures = vec![
        Figure::of_turns("work with 1,000,000 pending, beside 10,000", "events/s", &rates, Some(Aim::AtLeast(0.9))),
        Figure::alone("memory with 1,000,000 pending", "MiB", memory, Some(Aim::AtMost(100.0))),
    ];
    figures.extend(super::start::measure(&many, &folder.path().join("killed.db"), (&template, &target)).await?);
    figures.push(single(folder.path(), (&template, &target), &keys).await?);
    Ok(figures)
}

async fn pace(bridge: &Process, target: &Control) -> anyhow::Result<f64> {
    bridge.ready(Instant::now()).await?;
    target.forget().await?;
    Ok(target.wait_for(APPLIED).await?.per_second())
}

/// From a webhook's first byte to its call's arrival, beside two flushes: one for "accepted", one for "begun".
async fn single(folder: &Path, (template, target): (&Path, &Control), keys: &[Key]) -> anyhow::Result<Figure> {
    let file = folder.join("idle.db");
    seed::grow(template, &file, SINGLES, false)?;
    let bridge = Process::bridge(&seed::sqlite(&file), keys)?;
    bridge.ready(Instant::now()).await?;
    let mut sender = Sender::connect(&bridge.address).await?;
    let mut turns = Vec::new();
    for customer in 1..=SINGLES {
        // Idle again: the last one is settled.
        tokio::time::sleep(Duration::from_millis(10)).await;
        target.forget().await?;
        let flushes = limits::flushes(folder, 2)?.iter().sum::<Duration>();
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        sender.send(&load::change(customer, 1)).await?;
        let arrived = Duration::from_micros(target.wait_for(1).await?.last_at);
        turns.push((arrived.saturating_sub(began).as_secs_f64() * 1e3, flushes.as_secs_f64() * 1e3));
    }
    Ok(Figure::of_turns("idle: a webhook's arrival to its call", "ms", &turns, Some(Aim::AtMost(1.5))))
}
