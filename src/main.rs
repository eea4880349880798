//! Arguments -> telemetry -> configuration -> command -> exit status.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    podero_bridge::cli::run().await
}
