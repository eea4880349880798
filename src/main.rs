//! Arguments -> telemetry -> configuration -> command -> exit status.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use podero_bridge::cli;

/// Faster for an event's few hundred short-lived allocations (docs/PERFORMANCE.md has the figures).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // A worker has little memory and needs no runtime, whose threads would take some of it.
    if cli::is_worker() { cli::work() } else { cli::main() }
}
