//! From RabbitMQ to Podero: one call for each event, every customer known.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::bus::Bus;
use crate::cost::{Meter, Totals};
use crate::load;
use crate::process::{Binary, Key, Process, Servers};
use crate::seed;
use crate::store::{Kept, Store};
use crate::target::Control;

/// Customers, each with one event in a turn.
pub(crate) const CUSTOMERS: u64 = 20_000;
/// Events of a turn where Podero takes its time.
pub(crate) const SLOW_EVENTS: u64 = 6_000;
const ROUNDS: u64 = 5;
const SLOW_ROUNDS: u64 = 3;

/// Latency of the slow Podero, and the limit of calls under way (the default of `podero.max_in_flight`).
pub(crate) const LATENCY_MS: u64 = 50;
const MAX_IN_FLIGHT: u64 = 64;

/// Time until the last events are settled after their calls, which belongs to the work.
const SETTLING: Duration = Duration::from_millis(300);

/// Queue of the null bridge.
const QUEUE: &str = "bench.null";
/// Exchange and routing key of the bridge.
const INBOUND: (&str, &str) = ("customer.lifecycle", "customer.updated");

/// A broker, a target, the bridges and the null bridge, all of which rest.
pub(crate) struct Track {
    bus: Bus,
    pub(crate) target: Control,
    _target: Process,
    pub(crate) store: Store,
    bridges: Vec<Process>,
    null: Process,
    /// Turns so far: each changes its customers again.
    turns: u64,
}

impl Track {
    /// With one bridge or several on a store of its own, whose name it is.
    pub(crate) async fn lay(
        bench: &Bench<'_>,
        (kept, name): (Kept, &str),
        (binary, replicas): (Binary, usize),
    ) -> anyhow::Result<Self> {
        let process = Process::role("target", &["0"])?;
        let target = Control(process.address.clone());
        let store = kept.empty(bench, name)?;
        seed::sign_up(binary, &store, &target).await?;
        seed::add_customers(&store, CUSTOMERS).await?;
        let broker = bench.servers.broker()?;
        let bus = Bus::connect(&broker).await?;
        bus.quorum_queue(QUEUE).await?;
        let mut keys: Vec<Key> = seed::source().into_iter().collect();
        keys.extend([seed::podero(&target), ("AMQP__URL", broker.clone())]);
        let mut bridges = Vec::new();
        for _ in 0..replicas {
            let bridge = Process::bridge_of(binary, &store, &keys)?;
            bridge.ready(Instant::now()).await?;
            bridges.push(bridge);
        }
        let null = Process::role("limit-null-bridge", &[&broker, QUEUE, &target.0])?;
        Ok(Self { bus, target, _target: process, store, bridges, null, turns: 0 })
    }

    fn changes(&self, events: u64) -> impl Iterator<Item = Vec<u8>> + use<> {
        let turn = self.turns;
        (1..=events).map(move |customer| load::change(customer, turn).into_bytes())
    }

    /// Begins another turn, whose number its changes have.
    pub(crate) fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Host and port of the first bridge's webhooks.
    pub(crate) fn address(&self) -> &str {
        &self.bridges[0].address
    }

    /// Fills the queue while the bridges rest.
    async fn fill(&mut self, events: u64) -> anyhow::Result<()> {
        self.next_turn();
        self.bridges.iter().try_for_each(|bridge| bridge.freeze(true))?;
        self.bus.fill(INBOUND, self.changes(events)).await?;
        self.target.forget().await
    }

    fn go(&self) -> anyhow::Result<()> {
        self.bridges.iter().try_for_each(|bridge| bridge.freeze(false))
    }

    /// Calls a second, and the bridges' time on a processor for 1,000 of them.
    pub(crate) async fn ours(&mut self, events: u64) -> anyhow::Result<(f64, f64)> {
        self.fill(events).await?;
        let before = cpu(&self.bridges)?;
        self.go()?;
        let seen = self.target.wait_for(events).await?;
        tokio::time::sleep(SETTLING).await;
        Ok((seen.per_second(), per_thousand(cpu(&self.bridges)? - before, events)))
    }

    /// The cost of the same at the store, in a turn of its own: to count it takes time as well. The turn before it has written
    /// all pages since the last checkpoint.
    pub(crate) async fn cost(&mut self, servers: &Servers, events: u64) -> anyhow::Result<Totals> {
        self.store.checkpoint().await?;
        self.ours(events).await?;
        Meter::rest(&self.store).await;
        self.fill(events).await?;
        let meter = Meter::begin(&self.store, servers).await?;
        self.go()?;
        self.target.wait_for(events).await?;
        tokio::time::sleep(SETTLING).await;
        meter.end().await
    }

    pub(crate) async fn limit(&mut self, events: u64) -> anyhow::Result<(f64, f64)> {
        self.null.freeze(true)?;
        self.bus.fill(("", QUEUE), self.changes(events)).await?;
        self.target.forget().await?;
        let before = self.null.cpu_in_all()?;
        self.null.freeze(false)?;
        let seen = self.target.wait_for(events).await?;
        tokio::time::sleep(SETTLING).await;
        Ok((seen.per_second(), per_thousand(self.null.cpu_in_all()? - before, events)))
    }
}

fn cpu(bridges: &[Process]) -> anyhow::Result<Duration> {
    bridges.iter().map(Process::cpu_in_all).sum()
}

/// Milliseconds.
fn per_thousand(time: Duration, events: u64) -> f64 {
    time.as_secs_f64() * 1e6 / number(events)
}

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut track = Track::lay(bench, (Kept::Sqlite, "bus.db"), (Binary::Measured, 1)).await?;
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
    let cost = track.cost(bench.servers, CUSTOMERS).await?;
    figures.extend(cost.figures("RabbitMQ to Podero", number(CUSTOMERS), false));
    track.target.answer_after(LATENCY_MS).await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        slow.push((track.ours(SLOW_EVENTS).await?.0, slow_limit()));
    }
    let name = format!("RabbitMQ to Podero that takes {LATENCY_MS} ms, {MAX_IN_FLIGHT} at once");
    figures.push(Figure::of_turns(&name, "events/s", &slow, Some(Aim::AtLeast(0.95))));
    Ok(figures)
}

/// The most calls a second that one bridge can make to the slow Podero.
pub(crate) fn slow_limit() -> f64 {
    number(MAX_IN_FLIGHT) * 1_000.0 / number(LATENCY_MS)
}

pub(crate) fn number(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let number = count as f64;
    number
}

/// The threads' shares of the time: the stages share the runtime's, the store and each connection to the broker have their own.
async fn stages(track: &mut Track) -> anyhow::Result<Vec<Figure>> {
    let bridge = track.bridges.first().expect("there is one");
    let before = bridge.cpu()?;
    let mut ours = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        track.fill(CUSTOMERS).await?;
        track.go()?;
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
