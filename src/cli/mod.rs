//! One small file per command; each a thin caller of the parts below.
//!
//! Exit status: 0 success, 1 failure, 64 bad usage or configuration (`EX_USAGE` of sysexits.h), with every problem
//! named at once.
//!
//! Before: [`crate`]'s `main`. After: [`crate::app`].

mod check;
mod demo;
mod sandbox;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, process_environment};

/// Bad usage or configuration.
const EX_USAGE: u8 = 64;

/// Runs between a utility's own systems and the Podero Partner API.
#[derive(Debug, Parser)]
#[command(name = "podero-bridge", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge
    Serve {
        /// Configuration file (TOML); every key may also come from the environment
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also run the embedded Podero sandbox and use it: no account is needed
        #[arg(long)]
        sandbox: bool,
    },
    /// Play a whole story through the real bridge and an embedded sandbox, and show it
    Demo,
    /// Run the Podero sandbox alone
    Sandbox {
        /// Where it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8085")]
        listen: std::net::SocketAddr,
        /// Makes its ids repeatable
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Validate the configuration, then connect to everything it names; a line each
    Check {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Do not connect
        #[arg(long)]
        offline: bool,
    },
}

/// Reads the arguments and runs the command.
pub async fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Serve { config, sandbox } => match load(config, sandbox) {
            Ok(config) => serve::run(config, sandbox).await,
            Err(status) => return status,
        },
        Command::Demo => demo::run().await,
        Command::Sandbox { listen, seed } => sandbox::run(listen, seed).await,
        Command::Check { config, offline } => match load(config, false) {
            Ok(config) => check::run(config, offline).await,
            Err(status) => return status,
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&format!("podero-bridge: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn load(path: Option<PathBuf>, sandbox: bool) -> Result<Config, ExitCode> {
    Config::load(path.as_deref(), &process_environment(), sandbox).map_err(|problems| {
        say_error(&format!("podero-bridge: the configuration has problems:\n{problems}"));
        ExitCode::from(EX_USAGE)
    })
}

/// A line for the person at the terminal. What nobody reads any more (a closed pipe) is nobody's failure.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn say_error(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
