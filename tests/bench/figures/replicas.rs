//! The same way from RabbitMQ to Podero on PostgreSQL: next to SQLite, and with two and three replicas next to one, in the same
//! minutes.

use super::bus::{CUSTOMERS, LATENCY_MS, SLOW_EVENTS, Track, number, slow_limit};
use super::{Aim, Bench, Figure};
use crate::process::Binary;
use crate::store::Kept;

const ROUNDS: u64 = 3;

/// Aim of one replica next to a file.
pub(super) const AIM_NEXT_TO_SQLITE: Aim = Aim::AtLeast(0.5);
/// Aim of several replicas next to one.
const AIM_NEXT_TO_ONE: Aim = Aim::AtLeast(0.97);
/// The same where one would wait for Podero.
const AIM_NEXT_TO_ONE_WITH_LATENCY: Aim = Aim::AtLeast(1.2);

/// Numbers of replicas, in words of the table.
const REPLICAS: [&str; 3] = ["1 replica", "2 replicas", "3 replicas"];

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut sqlite = Track::lay(bench, (Kept::Sqlite, "beside.db"), (Binary::BesidePostgres, 1)).await?;
    let mut tracks = Vec::new();
    for replicas in 1..=REPLICAS.len() {
        tracks.push(Track::lay(bench, (Kept::Postgres, ""), (Binary::Measured, replicas)).await?);
    }
    let (mut beside_null, mut beside_sqlite) = (Vec::new(), Vec::new());
    let mut turns = Vec::new();
    for _ in 0..ROUNDS {
        let rates = rates(&mut tracks, CUSTOMERS).await?;
        beside_null.push((rates[0], tracks[0].limit(CUSTOMERS).await?.0));
        beside_sqlite.push((rates[0], sqlite.ours(CUSTOMERS).await?.0));
        turns.push(rates);
    }
    let name = "RabbitMQ to Podero (PostgreSQL, 1 replica)";
    let mut figures = vec![
        Figure::of_turns(name, "events/s", &beside_null, None),
        Figure::of_turns(&format!("{name}, next to SQLite"), "events/s", &beside_sqlite, Some(AIM_NEXT_TO_SQLITE)),
    ];
    figures.extend(beside_one("RabbitMQ to Podero", &turns, AIM_NEXT_TO_ONE));
    for (track, replicas) in tracks.iter_mut().zip(REPLICAS) {
        let cost = track.cost(bench.servers, CUSTOMERS).await?;
        let of = format!("RabbitMQ to Podero (PostgreSQL, {replicas})");
        figures.extend(cost.figures(&of, number(CUSTOMERS), true));
    }
    figures.extend(with_latency(&mut tracks).await?);
    Ok(figures)
}

/// The same with a Podero that takes its time. All replicas together make as many calls at once as one.
async fn with_latency(tracks: &mut [Track]) -> anyhow::Result<Vec<Figure>> {
    for track in &*tracks {
        track.target.answer_after(LATENCY_MS).await?;
    }
    let (mut beside_limit, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let rates = rates(tracks, SLOW_EVENTS).await?;
        beside_limit.push((rates[0], slow_limit()));
        turns.push(rates);
    }
    let way = format!("RabbitMQ to Podero that takes {LATENCY_MS} ms");
    let mut figures =
        vec![Figure::of_turns(&format!("{way} (PostgreSQL, 1 replica)"), "events/s", &beside_limit, None)];
    figures.extend(beside_one(&way, &turns, AIM_NEXT_TO_ONE_WITH_LATENCY));
    Ok(figures)
}

/// One turn of each.
async fn rates(tracks: &mut [Track], events: u64) -> anyhow::Result<Vec<f64>> {
    let mut rates = Vec::new();
    for track in tracks {
        rates.push(track.ours(events).await?.0);
    }
    Ok(rates)
}

/// Lines for two replicas and more, each with its share of the pace of one.
fn beside_one(way: &str, turns: &[Vec<f64>], aim: Aim) -> Vec<Figure> {
    let several = REPLICAS.iter().enumerate().skip(1);
    let line = |(place, replicas): (usize, &&str)| {
        let pairs: Vec<(f64, f64)> = turns.iter().map(|rates| (rates[place], rates[0])).collect();
        Figure::of_turns(&format!("{way} (PostgreSQL, {replicas}), next to one"), "events/s", &pairs, Some(aim))
    };
    several.map(line).collect()
}
