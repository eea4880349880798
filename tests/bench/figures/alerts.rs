//! Alerts out: rows that wait, published with confirms and marked, next to a publisher that has no rows.

use std::time::{Duration, Instant};

use super::{Aim, Bench, Figure};
use crate::bus::Bus;
use crate::process::{Key, Process};
use crate::seed;

/// Number of notices in a turn.
const NOTICES: u64 = 20_000;
const ROUNDS: u64 = 5;
/// Limit of unconfirmed notices at once, as the bridge has it.
const UNCONFIRMED: usize = 256;
const QUEUE: &str = "bench.alerts";
const EXCHANGE: &str = "podero.bridge";
const KEY: &str = "heat_pump.disconnected";

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let file = folder.path().join("bridge.db");
    let broker = bench.servers.broker()?;
    let bus = Bus::connect(&broker).await?;
    bus.quorum_queue(QUEUE).await?;
    bus.bind(QUEUE, EXCHANGE, KEY).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([("AMQP__URL", broker)]).collect();
    // Makes the store.
    Process::bridge(&seed::sqlite(&file), &keys)?.terminate()?;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let numbers = round * NOTICES..(round + 1) * NOTICES;
        seed::add_notices(&file, numbers.clone())?;
        let bridge = Process::bridge(&seed::sqlite(&file), &keys)?;
        let ours = loop {
            if let Some(rate) = seed::published_per_second(&file, numbers.clone())? {
                break rate;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        bridge.terminate()?;
        let bodies: Vec<Vec<u8>> = numbers.map(|number| podero_bridge::outbound::body(&seed::notice(number))).collect();
        let began = Instant::now();
        bus.publish((EXCHANGE, KEY), bodies.into_iter(), UNCONFIRMED).await?;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let limit = NOTICES as f64 / began.elapsed().as_secs_f64();
        rates.push((ours, limit));
        bus.purge(QUEUE).await?;
    }
    Ok(vec![Figure::of_turns("alerts out, with confirms", "notices/s", &rates, Some(Aim::AtLeast(0.7)))])
}
