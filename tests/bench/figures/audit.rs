//! The cost of the audit log: the measured bridge next to a program without the log, in turns.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use sqlx::Row as _;

use super::bus::{CUSTOMERS, Track};
use super::{Aim, Bench, Figure};
use crate::load::{self, Sender};
use crate::process::Binary;
use crate::store::{Kept, Store};

const ROUNDS: u64 = 5;

/// Pairs of paced turns. The slowest hundredth of a turn is a matter of chance: it may be half as long again in the next one.
const PACED_ROUNDS: u64 = 21;

/// Connections of the paced load, and the interval between two events of one: a thousand events a second, which leaves both programs
/// time to rest, so that a slow event is the program's own and not the queue's.
const CONNECTIONS: u64 = 8;
const EVERY: Duration = Duration::from_millis(8);
/// Events of a connection in a turn.
const EACH: u64 = 500;

/// Share of the pace that the log may not go below, and so the factor that the slowest hundredth may take.
const SHARE: f64 = 0.95;

/// Timeout of the sealing after a turn.
const SEALED_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    if !Binary::WithoutAudit.is_named() {
        println!("the cost of the audit log: left out, PODERO_BRIDGE_BENCH_BINARY_WITHOUT_AUDIT names no program");
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for kept in [Kept::Sqlite, Kept::Postgres] {
        figures.extend(measure_on(bench, kept).await?);
    }
    Ok(figures)
}

async fn measure_on(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let mut with = Track::lay(bench, (kept, "with-audit.db"), (Binary::Measured, 1)).await?;
    let mut without = Track::lay(bench, (kept, "without-audit.db"), (Binary::WithoutAudit, 1)).await?;
    let (mut rates, mut times, mut slowest, mut answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each is first as often as the other, but for one round.
        let (ours, limit) = if round % 2 == 0 {
            let ours = full(&mut with, true).await?;
            (ours, full(&mut without, false).await?)
        } else {
            let limit = full(&mut without, false).await?;
            (full(&mut with, true).await?, limit)
        };
        rates.push((ours.0, limit.0));
        times.push((ours.1, limit.1));
    }
    for round in 0..PACED_ROUNDS {
        let (ours, limit) = if round % 2 == 0 {
            let ours = paced(&mut with, true).await?;
            (ours, paced(&mut without, false).await?)
        } else {
            let limit = paced(&mut without, false).await?;
            (paced(&mut with, true).await?, limit)
        };
        slowest.push((ours.settled, limit.settled));
        answers.push((ours.answered, limit.answered));
    }
    let (pace, time) = (Some(Aim::AtLeast(SHARE)), Some(Aim::AtMost(1.0 / SHARE)));
    let of = |name: &str| kept.named(&format!("{name}, next to one without the audit log"));
    Ok(vec![
        Figure::of_turns(&of("RabbitMQ to Podero"), "events/s", &rates, pace),
        Figure::of_turns(&of("processor time for 1,000 of them"), "ms", &times, None),
        Figure::of_turns(&of("from a webhook to its settlement (p99)"), "ms", &slowest, time),
        Figure::of_turns(&of("the webhook's answer meanwhile (p99)"), "ms", &answers, None),
    ])
}

/// A turn as fast as it goes.
async fn full(track: &mut Track, has_audit: bool) -> anyhow::Result<(f64, f64)> {
    let outcome = track.ours(CUSTOMERS).await?;
    rest(track, has_audit).await?;
    Ok(outcome)
}

/// The rows of a turn are sealed before the neighbour's turn, on whose time it would go.
async fn rest(track: &Track, has_audit: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while has_audit && !is_sealed(&track.store).await? {
        anyhow::ensure!(began.elapsed() < SEALED_MAX, "the rows of the audit log are not sealed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn is_sealed(store: &Store) -> anyhow::Result<bool> {
    let mut connection = store.connect().await?;
    let unsealed = sqlx::query("SELECT 1 FROM audit WHERE number IS NULL LIMIT 1");
    Ok(unsealed.fetch_optional(&mut connection).await?.is_none())
}

/// The slowest hundredths of a paced turn, in milliseconds.
struct Slowest {
    /// From the receipt to the settlement, by the store's own times.
    settled: f64,
    /// Of the webhook's answer.
    answered: f64,
}

async fn paced(track: &mut Track, has_audit: bool) -> anyhow::Result<Slowest> {
    let number = track.next_turn();
    track.target.forget().await?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let address = track.address().to_owned();
    let senders = (0..CONNECTIONS).map(|place| {
        let address = address.clone();
        async move {
            let mut sender = Sender::connect(&address).await?;
            let mut tick = tokio::time::interval(EVERY);
            let mut times = Vec::new();
            for event in 0..EACH {
                tick.tick().await;
                let sent = Instant::now();
                sender.send(&load::change(1 + place * EACH + event, number)).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        }
    });
    let mut answered = futures_util::future::try_join_all(senders).await?.concat();
    answered.sort_unstable();
    track.target.wait_for(CONNECTIONS * EACH).await?;
    let settled = slowest(&track.store, i64::try_from(began.as_micros())?).await?;
    rest(track, has_audit).await?;
    let answered = answered[answered.len() * 99 / 100].as_secs_f64() * 1e3;
    Ok(Slowest { settled, answered })
}

/// The slowest hundredth of the events that were received since then, once all of them are settled.
async fn slowest(store: &Store, since: i64) -> anyhow::Result<f64> {
    let all = i64::try_from(CONNECTIONS * EACH)?;
    let mut connection = store.connect().await?;
    let began = Instant::now();
    loop {
        let settled =
            sqlx::query("SELECT COUNT(*) FROM events WHERE received_at >= $1 AND settled_at IS NOT NULL").bind(since);
        let settled: i64 = settled.fetch_one(&mut connection).await?.try_get(0)?;
        if settled >= all {
            break;
        }
        anyhow::ensure!(began.elapsed() < SEALED_MAX, "{settled} of {all} events are settled");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = sqlx::query(
        "SELECT settled_at - received_at FROM events WHERE received_at >= $1 AND settled_at IS NOT NULL ORDER BY 1 DESC \
         LIMIT 1 OFFSET $2",
    );
    let took = took.bind(since).bind(all / 100).fetch_optional(&mut connection).await?;
    let micros: i64 = took.context("more than a hundred")?.try_get(0)?;
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let millis = micros as f64 / 1e3;
    Ok(millis)
}
