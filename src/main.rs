//! Arguments -> telemetry -> configuration -> command -> exit status.

use std::process::ExitCode;

use podero_bridge::cli;

fn main() -> ExitCode {
    // A worker needs no runtime, whose threads would take of the memory that it may have.
    if cli::is_worker() { cli::work() } else { run() }
}

#[tokio::main]
async fn run() -> ExitCode {
    cli::run().await
}
