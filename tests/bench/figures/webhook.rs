//! Durable accept by webhook: verified, validated, deduplicated and on disk before the answer. Podero is away, so that nothing else
//! goes on.

use std::time::Duration;

use super::{Aim, Bench, Figure};
use crate::load::{Load, Outcome, Shape};
use crate::process::Process;
use crate::seed;

/// Keep-alive connections, one request in flight on each.
const CONNECTIONS: usize = 64;
/// Events of a batch.
const BATCH: usize = 100;
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_secs(3);
/// Before a turn counts: caches, connections, the pace of the writer.
const WARM_UP: Duration = Duration::from_millis(500);

/// Where both keep what they accept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Sqlite,
    Postgres,
}

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let on = if kept == Kept::Postgres { " (PostgreSQL)" } else { "" };
    let aims = [Aim::AtLeast(0.7), Aim::AtLeast(0.6)];
    for (shape, aim) in [Shape::Single, Shape::Batch(BATCH)].into_iter().zip(aims) {
        let folder = tempfile::tempdir_in(bench.folder)?;
        let (bridge, durable) = match kept {
            Kept::Sqlite => (
                Process::bridge(&seed::sqlite(&folder.path().join("bridge.db")), &seed::source())?,
                Process::role("limit-durable", &[&folder.path().display().to_string()])?,
            ),
            Kept::Postgres => (
                Process::bridge(&bench.servers.database()?, &seed::source())?,
                Process::role("limit-durable-postgres", &[&bench.servers.database()?])?,
            ),
        };
        let empty = Process::role("limit-empty", &[])?;
        let load = Load::new(shape);
        let (mut pairs, mut nothing): (Vec<(Outcome, Outcome)>, Vec<f64>) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ours = load.run(&bridge.address, CONNECTIONS, WARM_UP, TURN).await?;
            pairs.push((ours, load.run(&durable.address, CONNECTIONS, WARM_UP, TURN).await?));
            if matches!((shape, kept), (Shape::Single, Kept::Sqlite)) {
                nothing.push(load.run(&empty.address, CONNECTIONS, WARM_UP, TURN).await?.per_second);
            }
        }
        let rates: Vec<(f64, f64)> = pairs.iter().map(|(ours, limit)| (ours.per_second, limit.per_second)).collect();
        let millis = |outcome: &Outcome| outcome.p99.as_secs_f64() * 1e3;
        let times: Vec<(f64, f64)> = pairs.iter().map(|(ours, limit)| (millis(ours), millis(limit))).collect();
        match shape {
            Shape::Single => {
                figures.push(Figure::of_turns(
                    &format!("durable accept by webhook{on}"),
                    "events/s",
                    &rates,
                    Some(aim),
                ));
                let p99 = format!("its slowest hundredth (p99){on}");
                figures.push(Figure::of_turns(&p99, "ms", &times, Some(Aim::AtMost(1.3))));
            }
            Shape::Batch(events) => {
                let name = format!("the same in batches of {events}{on}");
                figures.push(Figure::of_turns(&name, "events/s", &rates, Some(aim)));
            }
        }
        if !nothing.is_empty() {
            let beside: Vec<(f64, f64)> =
                rates.iter().zip(&nothing).map(|((ours, _), nothing)| (*ours, *nothing)).collect();
            figures.push(Figure::of_turns("the same beside a server that stores nothing", "events/s", &beside, None));
        }
    }
    Ok(figures)
}
