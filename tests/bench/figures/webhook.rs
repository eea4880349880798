//! Durable accept by webhook: verified, validated, deduplicated and on disk before the answer. Podero is away, so that nothing
//! else goes on.

use std::path::Path;
use std::time::Duration;

use super::{Aim, Bench, Figure};
use crate::load::{Load, Outcome, Shape};
use crate::process::Process;
use crate::seed;

/// Keep-alive connections, one request in flight on each.
const CONNECTIONS: usize = 64;
/// Connections that send batches: as many as of the others would wait for seconds where each event is several round trips.
const BATCH_CONNECTIONS: usize = 16;
/// Events of a batch.
const BATCH: usize = 100;
const ROUNDS: usize = 4;
const TURN: Duration = Duration::from_secs(3);
/// Time before a turn counts: caches, connections, the pace of the writer.
const WARM_UP: Duration = Duration::from_millis(500);

/// The store in which both keep what they accept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Sqlite,
    Postgres,
}

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let mut figures = singles(bench, kept).await?;
    figures.extend(batches(bench, kept).await?);
    Ok(figures)
}

impl Kept {
    /// The bridge, and a server that keeps each event's body and no more.
    fn start(self, bench: &Bench<'_>, folder: &Path) -> anyhow::Result<[Process; 2]> {
        Ok(match self {
            Self::Sqlite => [
                Process::bridge(&seed::sqlite(&folder.join("bridge.db")), &seed::source())?,
                Process::role("limit-durable", &[&folder.display().to_string()])?,
            ],
            Self::Postgres => [
                Process::bridge(&bench.servers.database()?, &seed::source())?,
                Process::role("limit-durable-postgres", &[&bench.servers.database()?])?,
            ],
        })
    }

    fn named(self, name: &str) -> String {
        format!("{name}{}", if self == Self::Postgres { " (PostgreSQL)" } else { "" })
    }
}

async fn singles(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let [bridge, durable] = kept.start(bench, folder.path())?;
    let empty = Process::role("limit-empty", &[])?;
    let load = Load::new(Shape::Single);
    let (mut rates, mut times, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [ours, limit, nothing] = outcomes((&load, CONNECTIONS), [&bridge, &durable, &empty]).await?;
        rates.push((ours.per_second, limit.per_second));
        times.push((ours.p99.as_secs_f64() * 1e3, limit.p99.as_secs_f64() * 1e3));
        beside.push((ours.per_second, nothing.per_second));
    }
    let (rate, time) = (Some(Aim::AtLeast(0.7)), Some(Aim::AtMost(1.3)));
    Ok(vec![
        Figure::of_turns(&kept.named("durable accept by webhook"), "events/s", &rates, rate),
        Figure::of_turns(&kept.named("its slowest hundredth (p99)"), "ms", &times, time),
        Figure::of_turns(&kept.named("beside a server that stores nothing"), "events/s", &beside, None),
    ])
}

async fn batches(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let [bridge, bodies] = kept.start(bench, folder.path())?;
    let load = Load::new(Shape::Batch(BATCH));
    let name = kept.named(&format!("the same in batches of {BATCH}"));
    let (mut rates, mut beside) = (Vec::new(), Vec::new());
    if kept == Kept::Postgres {
        for _ in 0..ROUNDS {
            let [ours, bodies] = outcomes((&load, BATCH_CONNECTIONS), [&bridge, &bodies]).await?;
            beside.push((ours.per_second, bodies.per_second));
        }
        return Ok(vec![Figure::of_turns(&format!("{name}, beside bodies alone"), "events/s", &beside, None)]);
    }
    let file = folder.path().join("same-rows.db");
    Process::bridge(&seed::sqlite(&file), &seed::source())?.terminate()?;
    let same = Process::role("limit-same-rows", &[&file.display().to_string()])?;
    for _ in 0..ROUNDS {
        let [ours, same, bodies] = outcomes((&load, BATCH_CONNECTIONS), [&bridge, &same, &bodies]).await?;
        rates.push((ours.per_second, same.per_second));
        beside.push((ours.per_second, bodies.per_second));
    }
    Ok(vec![
        Figure::of_turns(&name, "events/s", &rates, Some(Aim::AtLeast(0.6))),
        Figure::of_turns(&format!("{name}, beside bodies alone"), "events/s", &beside, None),
    ])
}

/// One turn of each.
async fn outcomes<const N: usize>(
    (load, connections): (&Load, usize),
    servers: [&Process; N],
) -> anyhow::Result<[Outcome; N]> {
    let mut outcomes = Vec::with_capacity(N);
    for server in servers {
        outcomes.push(load.run(&server.address, connections, WARM_UP, TURN).await?);
    }
    Ok(outcomes.try_into().unwrap_or_else(|_| unreachable!("as many as servers")))
}
