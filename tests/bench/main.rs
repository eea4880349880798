//! The speed of the bridge, each figure next to its own limit, measured in the same run: a machine's absolute numbers say little,
//! the ratio of two programs on it says more. `cargo bench` runs it; docs/PERFORMANCE.md says what each figure means.
//!
//! Every part is a process of its own: the bridge, the limits and the target (this program in other roles), RabbitMQ and
//! PostgreSQL; the load is here. Compared figures are measured in turn, several times, and the median counts.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures time, for a person")]

mod bus;
mod cost;
mod figures;
mod limits;
mod load;
mod process;
mod seed;
mod store;
mod target;

use cost::Meter;
use figures::{Bench, Figure};
use process::Servers;
use store::Kept;

/// The limits have what the bridge has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Everything that is measured, in this order.
const PARTS: [&str; 15] = [
    "webhook", "bus", "alerts", "sweep", "apply", "idle", "memory", "pages", "audit", "webhook-postgres",
    "bus-postgres", "alerts-postgres", "apply-postgres", "memory-postgres", "pages-postgres",
];

/// Stands for all parts whose names end so.
const POSTGRES: &str = "postgres";

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
    let is_part = |argument: &str| argument == POSTGRES || PARTS.contains(&argument);
    if let Some(unknown) = arguments.iter().find(|argument| !is_part(argument)) {
        let parts = PARTS.join(", ");
        anyhow::bail!(
            "there is no part `{unknown}`; there are {parts}; `{POSTGRES}` is all of PostgreSQL; without any, all of them run"
        );
    }
    let is_named = |part: &str| {
        arguments.iter().any(|argument| argument == part || (argument == POSTGRES && part.ends_with(POSTGRES)))
    };
    let parts: Vec<&str> = PARTS.into_iter().filter(|part| arguments.is_empty() || is_named(part)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&parts))
}

async fn measure(parts: &[&str]) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("bench.").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let servers = Servers::start()?;
    Meter::switch_on(&servers).await?;
    println!("{:<64} {:>10} {:>10} {:>7}  {:<9} {:<8} unit", "figure", "bridge", "limit", "ratio", "aim", "");
    let mut all = Vec::new();
    for part in parts {
        // A part's files go with it.
        let folder = tempfile::tempdir_in(folder.path())?;
        let bench = Bench { folder: folder.path(), servers: &servers };
        let measured = match *part {
            "webhook" => figures::webhook::measure(&bench, Kept::Sqlite).await?,
            "bus" => figures::bus::measure(&bench).await?,
            "alerts" => figures::alerts::measure(&bench, Kept::Sqlite).await?,
            "sweep" => figures::sweep::measure(&bench).await?,
            "apply" => figures::apply::measure(&bench, Kept::Sqlite).await?,
            "idle" => figures::idle::measure(&bench).await?,
            "memory" => figures::start::idle(&bench, Kept::Sqlite).await?,
            "pages" => figures::pages::measure(&bench, Kept::Sqlite).await?,
            "audit" => figures::audit::measure(&bench).await?,
            "webhook-postgres" => figures::webhook::measure(&bench, Kept::Postgres).await?,
            "bus-postgres" => figures::replicas::measure(&bench).await?,
            "alerts-postgres" => figures::alerts::measure(&bench, Kept::Postgres).await?,
            "apply-postgres" => figures::apply::measure(&bench, Kept::Postgres).await?,
            "memory-postgres" => figures::start::idle(&bench, Kept::Postgres).await?,
            "pages-postgres" => figures::pages::measure(&bench, Kept::Postgres).await?,
            other => unreachable!("{other} is a part"),
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
        value.map_or(String::new(), |value| match value {
            100.0.. => format!("{value:.0}"),
            1.0.. => format!("{value:.2}"),
            _ => format!("{value:.3}"),
        })
    };
    let ratio = figure.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let met = figure.is_met().map_or("", |is_met| if is_met { "met" } else { "NOT MET" });
    let aim = figure.aim.map_or(String::new(), |aim| aim.to_string());
    let (name, unit) = (&figure.name, figure.unit);
    println!(
        "{name:<64} {:>10} {:>10} {ratio:>7}  {aim:<9} {met:<8} {unit}",
        number(Some(figure.ours)),
        number(figure.limit)
    );
}
