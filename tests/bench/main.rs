//! The speed of the bridge, each figure next to its own limit, measured in the same run: a machine's absolute numbers say little,
//! the ratio of two programs on it says more. `cargo bench` runs it; docs/PERFORMANCE.md says what each figure means.
//!
//! Every part is a process of its own: the bridge, the limits and the target (this program in other roles), RabbitMQ and
//! PostgreSQL; the load is here. Compared figures are measured in turn, several times, and the median counts.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures time, for a person")]

mod bus;
mod figures;
mod limits;
mod load;
mod process;
mod seed;
mod target;

use figures::webhook::Kept;
use figures::{Bench, Figure};
use process::Servers;

/// The limits have what the bridge has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTS: [&str; 8] = ["webhook", "bus", "alerts", "sweep", "apply", "idle", "memory", "postgres"];

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((role, rest)) = arguments.split_first() {
        if role == "target" {
            return target::run(rest);
        }
        if role.starts_with("limit-") {
            return limits::run(role, rest);
        }
    }
    if let Some(unknown) = arguments.iter().find(|argument| !PARTS.contains(&argument.as_str())) {
        anyhow::bail!("there is no part `{unknown}`; there are {}; without any, all of them are run", PARTS.join(", "));
    }
    let parts = if arguments.is_empty() { PARTS.map(str::to_owned).to_vec() } else { arguments };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&parts))
}

async fn measure(parts: &[String]) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("bench.").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let servers = Servers::start()?;
    let bench = Bench { folder: folder.path(), servers: &servers };
    println!("{:<52} {:>10} {:>10} {:>7}  {:<9} {:<8} unit", "figure", "bridge", "limit", "ratio", "aim", "");
    let mut all = Vec::new();
    for part in parts {
        let measured = match part.as_str() {
            "webhook" => figures::webhook::measure(&bench, Kept::Sqlite).await?,
            "bus" => figures::bus::measure(&bench).await?,
            "alerts" => figures::alerts::measure(&bench).await?,
            "sweep" => figures::sweep::measure(&bench).await?,
            "apply" => figures::apply::measure(&bench).await?,
            "idle" => figures::idle::measure(&bench).await?,
            "memory" => vec![figures::start::idle(folder.path(), &servers.broker()?).await?],
            _ => {
                let mut measured = figures::webhook::measure(&bench, Kept::Postgres).await?;
                measured.extend(figures::bus::measure_replicas(&bench).await?);
                measured
            }
        };
        measured.iter().for_each(show);
        all.extend(measured);
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.json");
    std::fs::write(&path, serde_json::to_string_pretty(&all)?)?;
    println!("\nas JSON: {}", path.display());
    Ok(())
}

fn show(figure: &Figure) {
    let number = |value: Option<f64>| {
        value.map_or(String::new(), |value| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") })
    };
    let ratio = figure.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let met = figure.is_met().map_or("", |is_met| if is_met { "met" } else { "NOT MET" });
    let aim = figure.aim.map_or(String::new(), |aim| aim.to_string());
    let (name, unit) = (&figure.name, figure.unit);
    println!(
        "{name:<52} {:>10} {:>10} {ratio:>7}  {aim:<9} {met:<8} {unit}",
        number(Some(figure.ours)),
        number(figure.limit)
    );
}
