//! The way of a single event through an idle bridge, one at a time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Aim, Bench, Figure, median};
use crate::limits;
use crate::load::{self, Sender};
use crate::process::{Binary, Key, Process};
use crate::seed;
use crate::store::Kept;
use crate::target::Control;

const EVENTS: u64 = 500;

/// From a webhook's first byte to its call's arrival, next to two flushes: one for "accepted", one for "begun".
pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let store = Kept::Sqlite.empty(bench, "idle.db")?;
    seed::sign_up(Binary::Measured, &store, &target).await?;
    seed::add_customers(&store, EVENTS).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(&target)]).collect();
    let bridge = Process::bridge(&store, &keys)?;
    bridge.ready(Instant::now()).await?;
    let mut sender = Sender::connect(&bridge.address).await?;
    let (mut turns, mut answers) = (Vec::new(), Vec::new());
    for customer in 1..=EVENTS {
        // Idle again: the last one is settled.
        tokio::time::sleep(Duration::from_millis(10)).await;
        target.forget().await?;
        let flushes = limits::flushes(bench.folder, 2)?.iter().sum::<Duration>();
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        sender.send(&load::change(customer, 1)).await?;
        answers.push(SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(began).as_secs_f64() * 1e3);
        // Nothing else runs meanwhile.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let arrived = Duration::from_micros(target.wait_for(1).await?.last_at);
        turns.push((arrived.saturating_sub(began).as_secs_f64() * 1e3, flushes.as_secs_f64() * 1e3));
    }
    Ok(vec![
        Figure::of_turns("idle: a webhook's arrival to its call", "ms", &turns, Some(Aim::AtMost(1.5))),
        Figure::alone("of it, until the webhook was answered", "ms", median(answers.into_iter()), None),
    ])
}
