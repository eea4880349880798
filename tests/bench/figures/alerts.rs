//! Alerts out: rows that wait, published with confirms and marked, next to a publisher that has no rows.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::bus::Bus;
use crate::process::{Key, Process};
use crate::seed;
use crate::store::Kept;

/// Number of notices in a turn.
const NOTICES: u64 = 20_000;
const ROUNDS: u64 = 5;
/// Limit of unconfirmed notices at once, as the bridge has it.
const UNCONFIRMED: usize = 256;
const QUEUE: &str = "bench.alerts";
const EXCHANGE: &str = "podero.bridge";
const KEY: &str = "heat_pump.disconnected";

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let store = kept.empty(bench, "alerts.db")?;
    let broker = bench.servers.broker()?;
    let bus = Bus::connect(&broker).await?;
    bus.quorum_queue(QUEUE).await?;
    bus.bind(QUEUE, EXCHANGE, KEY).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([("AMQP__URL", broker)]).collect();
    // Makes the tables.
    Process::bridge(&store, &keys)?.terminate()?;
    let mut rates = Vec::new();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let all = NOTICES as f64;
    for round in 0..ROUNDS {
        let numbers = round * NOTICES..(round + 1) * NOTICES;
        seed::add_notices(&store, numbers.clone()).await?;
        let bridge = Process::bridge(&store, &keys)?;
        let ours = loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Rows are counted in the end only: a look at them is no part of the work.
            if bridge.metric("podero_bridge_notices_published_total").await? >= all
                && let Some(rate) = seed::published_per_second(&store, numbers.clone()).await?
            {
                break rate;
            }
        };
        bridge.terminate()?;
        let bodies: Vec<Vec<u8>> = numbers.map(|number| podero_bridge::outbound::body(&seed::notice(number))).collect();
        let began = Instant::now();
        bus.publish((EXCHANGE, KEY), bodies.into_iter(), UNCONFIRMED).await?;
        rates.push((ours, all / began.elapsed().as_secs_f64()));
        bus.purge(QUEUE).await?;
    }
    let name = kept.named("alerts out, with confirms");
    Ok(vec![Figure::of_turns(&name, "notices/s", &rates, Some(Aim::AtLeast(0.7)))])
}
