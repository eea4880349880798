//! How fast the bridge is, each figure beside its own limit, measured in the same run: a machine's absolute numbers say little,
//! the ratio of two programs on it does. `cargo bench` runs it; docs/PERFORMANCE.md says what each figure means.
//!
//! Every part is a process of its own: the bridge, the limits (this program in another role), and the load, which is here.
//! What is compared is measured in turn, several times, and the median counts.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures time, for a person")]

mod limits;
mod load;
mod process;

use std::time::Duration;

use serde_json::json;

use load::{Load, Outcome, Shape};
use process::Process;

/// Turns of each pair, and how long each takes: together about two minutes.
const ROUNDS: usize = 7;
const TURN: Duration = Duration::from_secs(4);
/// Before a turn counts: caches, connections, the pace of the writer.
const WARM_UP: Duration = Duration::from_millis(500);

/// Keep-alive connections, one request in flight on each.
const CONNECTIONS: usize = 64;
/// Events of a batch.
const BATCH: usize = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((role, rest)) = arguments.split_first().filter(|(role, _)| role.starts_with("limit-")) {
        return limits::run(role, rest);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("bench.").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut rows = Vec::new();
    for (figure, shape, aim) in [
        ("durable accept by webhook, signed", Shape::Single, 0.7),
        ("the same in batches of 100 events", Shape::Batch(BATCH), 0.6),
    ] {
        let bridge = Process::bridge(&folder.path().join(figure.replace(' ', "-")))?;
        let durable =
            Process::limit("limit-durable", &folder.path().join(format!("{}-limit", figure.replace(' ', "-"))))?;
        let empty = Process::limit("limit-empty", folder.path())?;
        let load = Load::new(shape);
        let [mut ours, mut limit, mut nothing] = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            ours.push(load.run(&bridge.address, CONNECTIONS, WARM_UP, TURN).await?);
            limit.push(load.run(&durable.address, CONNECTIONS, WARM_UP, TURN).await?);
            nothing.push(load.run(&empty.address, CONNECTIONS, WARM_UP, TURN).await?);
        }
        rows.push(row(figure, aim, (&ours, &limit, &nothing)));
    }
    println!(
        "\n{:<40} {:>12} {:>12} {:>7} {:>6} {:>9} {:>9} {:>7} {:>12}",
        "figure", "bridge/s", "limit/s", "ratio", "aim", "p99 ms", "limit's", "ratio", "nothing/s"
    );
    for row in &rows {
        println!(
            "{:<40} {:>12} {:>12} {:>7} {:>6} {:>9} {:>9} {:>7} {:>12}",
            row["figure"].as_str().unwrap_or_default(),
            row["bridge_per_s"],
            row["limit_per_s"],
            row["ratio"],
            row["aim"],
            row["bridge_p99_ms"],
            row["limit_p99_ms"],
            row["p99_ratio"],
            row["nothing_stored_per_s"],
        );
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json!({ "rounds": ROUNDS, "figures": rows }))?)?;
    println!("\nas JSON: {}", path.display());
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn row(figure: &str, aim: f64, (ours, limit, nothing): (&[Outcome], &[Outcome], &[Outcome])) -> serde_json::Value {
    let rate = |outcomes: &[Outcome]| median(outcomes.iter().map(|outcome| outcome.per_second).collect());
    let p99 = |outcomes: &[Outcome]| median(outcomes.iter().map(|outcome| outcome.p99.as_secs_f64() * 1e3).collect());
    // Turn by turn, so that what the machine does meanwhile falls on both.
    let pairs = || ours.iter().zip(limit);
    let ratio = median(pairs().map(|(ours, limit)| ours.per_second / limit.per_second).collect());
    let p99_ratio = median(pairs().map(|(ours, limit)| ours.p99.as_secs_f64() / limit.p99.as_secs_f64()).collect());
    json!({
        "figure": figure, "aim": aim,
        "bridge_per_s": rounded(rate(ours), 0), "limit_per_s": rounded(rate(limit), 0), "ratio": rounded(ratio, 2),
        "bridge_p99_ms": rounded(p99(ours), 1), "limit_p99_ms": rounded(p99(limit), 1), "p99_ratio": rounded(p99_ratio, 2),
        "nothing_stored_per_s": rounded(rate(nothing), 0),
    })
}
