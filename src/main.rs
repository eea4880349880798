//! Arguments -> telemetry -> configuration -> command -> exit status.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use podero_bridge::cli;

/// An event is a few hundred small pieces of memory that live for a moment (docs/PERFORMANCE.md says what it gives).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // A worker needs no runtime, whose threads would take of the memory that it may have.
    if cli::is_worker() { cli::work() } else { cli::main() }
}
