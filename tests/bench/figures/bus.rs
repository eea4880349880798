//! From RabbitMQ to Podero: one call for each event, every customer known.

use std::time::{Duration, Instant};

use super::webhook::Kept;
use super::{Aim, Bench, Figure, median};
use crate::bus::Bus;
use crate::load;
use crate::process::{Key, Process};
use crate::seed;
use crate::target::Control;

/// Customers, each with one event in a turn.
const CUSTOMERS: u64 = 20_000;
/// Events of a turn where Podero takes its time.
const SLOW_EVENTS: u64 = 6_000;
const ROUNDS: u64 = 5;
const SLOW_ROUNDS: u64 = 3;

/// Latency of the slow Podero, and the limit of calls under way (the default of `podero.max_in_flight`).
const LATENCY_MS: u64 = 50;
const MAX_IN_FLIGHT: u64 = 64;

/// Queue of the null bridge.
const QUEUE: &str = "bench.null";
/// Exchange and routing key of the bridge.
const INBOUND: (&str, &str) = ("customer.lifecycle", "customer.updated");

/// A broker, a target, the bridges and the null bridge, all of which rest.
struct Track {
    bus: Bus,
    target: Control,
    _target: Process,
    bridges: Vec<Process>,
    null: Process,
    /// Turns so far: each changes its customers again.
    turns: u64,
}

impl Track {
    async fn lay(bench: &Bench<'_>, kept: Kept, replicas: usize, keys: &[Key]) -> anyhow::Result<Self> {
        let process = Process::role("target", &["0"])?;
        let target = Control(process.address.clone());
        let store = match kept {
            Kept::Sqlite => {
                let folder = tempfile::tempdir_in(bench.folder)?.keep();
                let template = seed::template(&folder, &target).await?;
                seed::grow(&template, &folder.join("bridge.db"), CUSTOMERS, false)?;
                seed::sqlite(&folder.join("bridge.db"))
            }
            Kept::Postgres => {
                let url = bench.servers.database()?;
                seed::sign_up(&url, &target).await?;
                seed::grow_postgres(&url, CUSTOMERS).await?;
                url
            }
        };
        let broker = bench.servers.broker()?;
        let bus = Bus::connect(&broker).await?;
        bus.quorum_queue(QUEUE).await?;
        let mut all: Vec<Key> = seed::source().into_iter().collect();
        all.extend([seed::podero(&target), ("AMQP__URL", broker.clone())]);
        all.extend(keys.iter().cloned());
        let mut bridges = Vec::new();
        for _ in 0..replicas {
            let bridge = Process::bridge(&store, &all)?;
            bridge.ready(Instant::now()).await?;
            bridges.push(bridge);
        }
        let null = Process::role("limit-null-bridge", &[&broker, QUEUE, &target.0])?;
        Ok(Self { bus, target, _target: process, bridges, null, turns: 0 })
    }

    fn changes(&self, events: u64) -> impl Iterator<Item = Vec<u8>> + use<> {
        let turn = self.turns;
        (1..=events).map(move |customer| load::change(customer, turn).into_bytes())
    }

    /// Calls a second, and the bridges' time on a processor for 1,000 of them.
    async fn ours(&mut self, events: u64) -> anyhow::Result<(f64, f64)> {
        self.turns += 1;
        self.bridges.iter().try_for_each(|bridge| bridge.freeze(true))?;
        self.bus.fill(INBOUND, self.changes(events)).await?;
        self.target.forget().await?;
        let before = cpu(&self.bridges)?;
        self.bridges.iter().try_for_each(|bridge| bridge.freeze(false))?;
        let seen = self.target.wait_for(events).await?;
        // An event that is settled after its call belongs to the work.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok((seen.per_second(), per_thousand(cpu(&self.bridges)? - before, events)))
    }

    async fn limit(&mut self, events: u64) -> anyhow::Result<(f64, f64)> {
        self.null.freeze(true)?;
        self.bus.fill(("", QUEUE), self.changes(events)).await?;
        self.target.forget().await?;
        let before = self.null.cpu_in_all()?;
        self.null.freeze(false)?;
        let seen = self.target.wait_for(events).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok((seen.per_second(), per_thousand(self.null.cpu_in_all()? - before, events)))
    }
}

fn cpu(bridges: &[Process]) -> anyhow::Result<Duration> {
    bridges.iter().map(Process::cpu_in_all).sum()
}

/// Milliseconds.
fn per_thousand(time: Duration, events: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let millis = time.as_secs_f64() * 1e6 / events as f64;
    millis
}

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut track = Track::lay(bench, Kept::Sqlite, 1, &[]).await?;
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (ours, limit) = (track.ours(CUSTOMERS).await?, track.limit(CUSTOMERS).await?);
        rates.push((ours.0, limit.0));
        times.push((ours.1, limit.1));
    }
    let mut figures = vec![
        Figure::of_turns("RabbitMQ to Podero, one call each", "events/s", &rates, Some(Aim::AtLeast(0.6))),
        Figure::of_turns("processor time for 1,000 of them", "ms", &times, Some(Aim::AtMost(2.5))),
    ];
    figures.extend(stages(&mut track).await?);
    track.target.answer_after(LATENCY_MS).await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let most = (MAX_IN_FLIGHT * 1_000) as f64 / LATENCY_MS as f64;
        slow.push((track.ours(SLOW_EVENTS).await?.0, most));
    }
    let name = format!("RabbitMQ to Podero that takes {LATENCY_MS} ms, {MAX_IN_FLIGHT} at once");
    figures.push(Figure::of_turns(&name, "events/s", &slow, Some(Aim::AtLeast(0.95))));
    Ok(figures)
}

/// The threads' shares of the time: the stages share the runtime's, the store and each connection to the broker have their own.
async fn stages(track: &mut Track) -> anyhow::Result<Vec<Figure>> {
    let bridge = track.bridges.first().expect("there is one");
    let before = bridge.cpu()?;
    let mut ours = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        track.turns += 1;
        track.bridges[0].freeze(true)?;
        track.bus.fill(INBOUND, track.changes(CUSTOMERS)).await?;
        track.target.forget().await?;
        track.bridges[0].freeze(false)?;
        track.target.wait_for(CUSTOMERS).await?;
    }
    let after = track.bridges[0].cpu()?;
    for (name, time) in after {
        let earlier = before.iter().find(|(known, _)| *known == name).map_or(Duration::ZERO, |(_, time)| *time);
        let millis = per_thousand(time.saturating_sub(earlier), CUSTOMERS * SLOW_ROUNDS);
        if millis >= 0.5 {
            let what = match name.as_str() {
                "writer" => "the store's writer",
                "tokio-rt-worker" => "taking, deciding, calling",
                "lapin-io-loop" => "the broker's connections",
                other => other,
            };
            ours.push(Figure::alone(&format!("of it, {what}"), "ms", millis, None));
        }
    }
    Ok(ours)
}

pub(crate) async fn measure_replicas(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut one = f64::NAN;
    for replicas in 1..=3 {
        let mut track = Track::lay(bench, Kept::Postgres, replicas, &[]).await?;
        let mut rates = Vec::new();
        for _ in 0..SLOW_ROUNDS {
            rates.push((track.ours(CUSTOMERS).await?.0, track.limit(CUSTOMERS).await?.0));
        }
        if replicas == 1 {
            one = median(rates.iter().map(|(ours, _)| *ours));
        }
        let plural = if replicas == 1 { "" } else { "s" };
        let name = format!("RabbitMQ to Podero (PostgreSQL, {replicas} replica{plural})");
        let figure = Figure::of_turns(&name, "events/s", &rates, None);
        let share = figure.ours / one;
        figures.push(figure);
        if replicas > 1 {
            figures.push(Figure::alone("as a share of one replica", "", share, None));
        }
    }
    Ok(figures)
}
