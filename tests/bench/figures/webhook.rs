//! Durable accept by webhook: verified, validated, deduplicated and on disk before the answer. Podero is away, so that nothing
//! else goes on.

use std::path::Path;
use std::time::Duration;

use super::replicas::AIM_NEXT_TO_SQLITE;
use super::{Aim, Bench, Figure};
use crate::cost::Meter;
use crate::load::{Load, Outcome, Shape};
use crate::process::{Binary, Process};
use crate::seed;
use crate::store::{Kept, Store};

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

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let mut figures = singles(bench, kept).await?;
    figures.extend(batches(bench, kept).await?);
    Ok(figures)
}

/// The bridge on a store, and a server that keeps each event's body and no more.
fn start(bench: &Bench<'_>, store: &Store, folder: &Path) -> anyhow::Result<[Process; 2]> {
    let bridge = Process::bridge(store, &seed::source())?;
    let limit = match store.kept() {
        Kept::Sqlite => Process::role("limit-durable", &[&folder.display().to_string()])?,
        Kept::Postgres => Process::role("limit-durable-postgres", &[&bench.servers.database()?])?,
    };
    Ok([bridge, limit])
}

async fn singles(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let store = kept.empty(bench, "singles.db")?;
    let [bridge, durable] = start(bench, &store, folder.path())?;
    let empty = Process::role("limit-empty", &[])?;
    let on_file = match kept {
        Kept::Sqlite => None,
        Kept::Postgres => {
            let store = Kept::Sqlite.empty(bench, "next-to.db")?;
            Some(Process::bridge_of(Binary::BesidePostgres, &store, &seed::source())?)
        }
    };
    let load = Load::new(Shape::Single);
    let (mut rates, mut times, mut beside, mut next_to_file) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [ours, limit, nothing] = outcomes((&load, CONNECTIONS), [&bridge, &durable, &empty]).await?;
        rates.push((ours.per_second, limit.per_second));
        times.push((ours.p99.as_secs_f64() * 1e3, limit.p99.as_secs_f64() * 1e3));
        beside.push((ours.per_second, nothing.per_second));
        if let Some(bridge) = &on_file {
            let [on_file] = outcomes((&load, CONNECTIONS), [bridge]).await?;
            next_to_file.push((ours.per_second, on_file.per_second));
        }
    }
    let (rate, time) = match kept {
        Kept::Sqlite => (Some(Aim::AtLeast(0.7)), Some(Aim::AtMost(1.3))),
        Kept::Postgres => (Some(Aim::AtLeast(0.6)), Some(Aim::AtMost(2.0))),
    };
    let mut figures = vec![
        Figure::of_turns(&kept.named("durable accept by webhook"), "events/s", &rates, rate),
        Figure::of_turns(&kept.named("its slowest hundredth (p99)"), "ms", &times, time),
        Figure::of_turns(&kept.named("next to a server that stores nothing"), "events/s", &beside, None),
    ];
    if on_file.is_some() {
        let name = kept.named("durable accept by webhook, next to SQLite");
        figures.push(Figure::of_turns(&name, "events/s", &next_to_file, Some(AIM_NEXT_TO_SQLITE)));
    }
    figures.extend(cost(bench, &store, (&bridge, &load)).await?);
    Ok(figures)
}

/// The cost of an event at the store, in a turn of its own: to count it takes time as well. The turn before it has written all pages
/// since the last checkpoint.
async fn cost(bench: &Bench<'_>, store: &Store, (bridge, load): (&Process, &Load)) -> anyhow::Result<Vec<Figure>> {
    let received = async || bridge.metric("podero_bridge_events_received_total").await;
    store.checkpoint().await?;
    load.run(&bridge.address, CONNECTIONS, WARM_UP, TURN).await?;
    Meter::rest(store).await;
    let before = received().await?;
    let meter = Meter::begin(store, bench.servers).await?;
    load.run(&bridge.address, CONNECTIONS, WARM_UP, TURN).await?;
    let totals = meter.end().await?;
    let events = received().await? - before;
    Ok(totals.figures(&store.kept().named("accepted by webhook"), events, false))
}

async fn batches(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(bench.folder)?;
    let store = kept.empty(bench, "batches.db")?;
    let [bridge, bodies] = start(bench, &store, folder.path())?;
    let load = Load::new(Shape::Batch(BATCH));
    let name = kept.named(&format!("the same in batches of {BATCH}"));
    let (mut rates, mut beside) = (Vec::new(), Vec::new());
    let same_rows = kept.empty(bench, "same-rows.db")?;
    Process::bridge(&same_rows, &seed::source())?.terminate()?;
    let same = match same_rows.file() {
        Some(file) => Process::role("limit-same-rows", &[&file.display().to_string()])?,
        None => Process::role("limit-same-rows-postgres", &[&same_rows.url])?,
    };
    for _ in 0..ROUNDS {
        let [ours, same, bodies] = outcomes((&load, BATCH_CONNECTIONS), [&bridge, &same, &bodies]).await?;
        rates.push((ours.per_second, same.per_second));
        beside.push((ours.per_second, bodies.per_second));
    }
    Ok(vec![
        Figure::of_turns(&name, "events/s", &rates, Some(Aim::AtLeast(0.6))),
        Figure::of_turns(&format!("{name}, next to bodies alone"), "events/s", &beside, None),
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
