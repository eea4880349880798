//! One small file per command; each a thin caller of the parts below.
//!
//! Exit status: 0 success, 1 failure, 64 bad usage or configuration (`EX_USAGE` of sysexits.h), with every problem
//! named at once.
//!
//! Before: [`crate`]'s `main`. After: [`crate::app`].

mod backup;
mod check;
mod demo;
mod erase;
mod open;
mod parked;
mod sandbox;
mod serve;
mod show;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Parser, Subcommand};
use uuid::Uuid;

use crate::config::{Config, process_environment};
use crate::domain::verdict::Reason;
use crate::store::{PER_SECOND_DEFAULT, PER_SECOND_MAX};

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
    /// What needs a person: look at it, try it again, or give it up
    #[command(subcommand)]
    Parked(Parked),
    /// One event: its state, the calls that were made, its original bytes
    #[command(subcommand)]
    Events(Events),
    /// One customer: what is known, events, outgoing events, heat pumps
    #[command(subcommand)]
    Customers(Customers),
    /// Remove a customer's personal data from every table, leaving a tombstone; Podero is not touched
    Erase {
        /// The utility's own id
        customer_id: String,
        /// Also while the customer is active, or has events or outgoing events that are not done
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: AtStore,
    },
    /// Copy the SQLite file, consistent and checked, while the bridge runs
    Backup {
        /// Where to; nothing is overwritten
        file: PathBuf,
        /// Configuration file (TOML), the one of the bridge
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Where the store is, and how to show what is in it.
#[derive(Debug, Args)]
struct AtStore {
    /// Configuration file (TOML), the one of the bridge
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Parked {
    /// List parked events, oldest first
    List {
        /// Only those of this reason
        #[arg(long, value_name = "R", value_parser = reason)]
        reason: Option<Reason>,
        /// Only those that arrived after this event: the next page
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        #[command(flatten)]
        at: AtStore,
    },
    /// Show one event, with its original bytes
    Show {
        id: Uuid,
        #[command(flatten)]
        at: AtStore,
    },
    /// Put events back to work
    #[command(group(ArgGroup::new("which").required(true).args(["ids", "reason", "all"])))]
    Retry {
        /// These
        #[arg(value_name = "ID")]
        ids: Vec<Uuid>,
        /// All that are parked now for this reason
        #[arg(long, value_name = "R", value_parser = reason)]
        reason: Option<Reason>,
        /// All that are parked now
        #[arg(long)]
        all: bool,
        /// With --reason or --all: events per second
        #[arg(long, value_name = "N", default_value_t = PER_SECOND_DEFAULT,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PER_SECOND_MAX)), conflicts_with = "ids")]
        per_second: u32,
        /// With --reason or --all: do not wait for the end; the running bridge goes on with it
        #[arg(long, conflicts_with = "ids")]
        detach: bool,
        #[command(flatten)]
        at: AtStore,
    },
    /// Stop a retry of many
    Stop {
        /// The retry's id, as `parked retry` printed it
        id: Uuid,
        #[command(flatten)]
        at: AtStore,
    },
    /// Give events up; they stay visible as skipped
    #[command(group(ArgGroup::new("which").required(true).args(["ids", "reason", "all"])))]
    Skip {
        /// These
        #[arg(value_name = "ID")]
        ids: Vec<Uuid>,
        /// All that are parked now for this reason and never became an event
        #[arg(long, value_name = "R", value_parser = reason)]
        reason: Option<Reason>,
        /// All that are parked now and never became an event
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        at: AtStore,
    },
}

#[derive(Debug, Subcommand)]
enum Events {
    /// Show one event
    Show {
        id: Uuid,
        #[command(flatten)]
        at: AtStore,
    },
}

#[derive(Debug, Subcommand)]
enum Customers {
    /// Show one customer
    Show {
        /// The utility's own id
        customer_id: String,
        #[command(flatten)]
        at: AtStore,
    },
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_name(text).ok_or_else(|| format!("one of {}", Reason::ALL.map(Reason::name).join(", ")))
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
        Command::Parked(command) => match load_for_store(command.at()) {
            Ok(config) => run_parked(command, config).await,
            Err(status) => return status,
        },
        Command::Events(Events::Show { id, at }) => match load_for_store(&at) {
            Ok(config) => show::event(&config, id, at.json).await,
            Err(status) => return status,
        },
        Command::Erase { customer_id, force, at } => match load_for_store(&at) {
            Ok(config) => erase::run(&config, &customer_id, force, at.json).await,
            Err(status) => return status,
        },
        Command::Backup { file, config } => match load(config, true) {
            Ok(config) => match backup::run(&config, &file).await {
                Err(backup::Failure::Usage(why)) => {
                    say_error(&format!("podero-bridge: {why}"));
                    return ExitCode::from(EX_USAGE);
                }
                Err(backup::Failure::Failed(error)) => Err(error),
                Ok(()) => Ok(()),
            },
            Err(status) => return status,
        },
        Command::Customers(Customers::Show { customer_id, at }) => match load_for_store(&at) {
            Ok(config) => show::customer(&config, &customer_id, at.json).await,
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

impl Parked {
    fn at(&self) -> &AtStore {
        match self {
            Self::List { at, .. }
            | Self::Show { at, .. }
            | Self::Retry { at, .. }
            | Self::Stop { at, .. }
            | Self::Skip { at, .. } => at,
        }
    }
}

async fn run_parked(command: Parked, config: Config) -> anyhow::Result<()> {
    match command {
        Parked::List { reason, after, at } => parked::list(&config, reason, after, at.json).await,
        Parked::Show { id, at } => show::event(&config, id, at.json).await,
        Parked::Retry { ids, reason, per_second, detach, at, .. } if ids.is_empty() => {
            parked::retry_many(&config, reason, parked::Pace { per_second, detach }, at.json).await
        }
        Parked::Retry { ids, at, .. } => parked::retry_each(&config, &ids, at.json).await,
        Parked::Stop { id, at } => parked::stop(&config, id, at.json).await,
        Parked::Skip { ids, reason, at, .. } if ids.is_empty() => parked::skip_many(&config, reason, at.json).await,
        Parked::Skip { ids, at, .. } => parked::skip_each(&config, &ids, at.json).await,
    }
}

/// For a command that only opens the store: a bridge that runs with the sandbox has no account to be configured.
fn load_for_store(at: &AtStore) -> Result<Config, ExitCode> {
    load(at.config.clone(), true)
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
