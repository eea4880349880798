//! One small file per command; each a thin caller of the parts below.
//!
//! Exit status: 0 success, 1 failure, 64 bad usage or configuration (`EX_USAGE` of sysexits.h), with every problem
//! named at once; 70 when the end took too long, 128 and the number of the signal that was the second to ask for it.
//!
//! Before: [`crate`]'s `main`. After: [`crate::app`].

mod backup;
mod check;
mod demo;
mod erase;
mod events;
mod explain;
mod import;
mod map;
mod open;
mod parked;
mod sandbox;
mod serve;
mod show;
mod signals;
mod table;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use uuid::Uuid;

use crate::config::{self, Config, DEFAULT_SOURCE, process_environment};
use crate::domain::verdict::Reason;
use crate::domain::{CustomerId, EventId, ID_CHARS_MAX};
use crate::inbound::mapping;
use crate::inbound::mapping::mapper::COMMAND;
use crate::store::{OpenCursor, OpenFilter, OpenState, PER_SECOND_DEFAULT, PER_SECOND_MAX, ROWS_MAX};
use crate::telemetry;

/// Bad usage or configuration.
const EX_USAGE: u8 = 64;

/// Limit of the wait for the log's last lines: a moment for a pipe that is read, and no end to wait for where it is not.
const LAST_LINES_TIME_MAX: Duration = Duration::from_secs(1);

/// Limit of the wait for the runtime's threads, at the end of a command. One may be stuck in a file system that does not
/// answer; its work is of no use any more.
const THREADS_TIME_MAX: Duration = Duration::from_secs(1);

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
    /// Events: those that are not done and why they wait; or one, with its calls and original bytes
    #[command(subcommand)]
    Events(Events),
    /// One customer: what is known, events, outgoing events, heat pumps
    #[command(subcommand)]
    Customers(Customers),
    /// Remove a customer's personal data from every table, leaving a tombstone; Podero is not touched
    Erase {
        /// The utility's own id
        #[arg(value_parser = customer)]
        customer_id: CustomerId,
        /// Also while the customer is active, or has events or outgoing events that are not done
        #[arg(long)]
        force: bool,
        /// Also empty this message, in which the id occurs; may be repeated
        #[arg(long = "message", value_name = "EVENT_ID")]
        messages: Vec<uuid::Uuid>,
        #[command(flatten)]
        at: AtStore,
    },
    /// Show what a message would become: its events, the plan of calls with their bodies. Nothing is sent or kept
    Explain {
        /// The message; `-` for standard input
        file: PathBuf,
        /// The source that it would come by
        #[arg(long, value_name = "NAME", default_value = DEFAULT_SOURCE)]
        source: String,
        /// A header that comes with it, `NAME: VALUE`; may be repeated
        #[arg(long = "header", value_name = "HEADER")]
        headers: Vec<String>,
        /// Explain it as a message from RabbitMQ, with what came with it: routing_key=KEY, exchange=, type=, app_id=,
        /// message_id=, correlation_id=, timestamp=SECONDS; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        amqp: Vec<String>,
        /// Configuration file (TOML), the one of the bridge
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try a mapping on its examples: DIR/map.jq gives DIR/NAME.expected.json for each DIR/NAME.input.json
    Test {
        /// Where they are
        dir: PathBuf,
    },
    /// Feed a file of events (NDJSON or CSV) through the same inbox and keys; the same command again goes on, or changes nothing
    Import {
        /// The file; `-`: standard input
        file: PathBuf,
        /// Whose events they are: what is no CloudEvent is translated by the `map` of this source
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Configuration file (TOML), the one of the bridge
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// `ndjson` or `csv`; by default what the name ends in
        #[arg(long, value_parser = is_csv)]
        format: Option<IsCsv>,
        /// Between the fields of CSV: one character, or `tab`
        #[arg(long, value_name = "C", value_parser = delimiter)]
        delimiter: Option<u8>,
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
        /// Approve them: let churns that the brake has parked (`churn_brake`) take effect. Of a reason, shows first how
        /// many they are, and asks
        #[arg(long, conflicts_with = "all")]
        approve: bool,
        /// With --approve and --reason: do not ask
        #[arg(long, requires = "approve", conflicts_with = "ids")]
        yes: bool,
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
        /// All that are parked now for this reason and never became an event; of `churn_brake` all
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
    /// List events that are not done, those first that wait for longest, with why and until when
    List {
        /// `pending`, `waiting`, `scheduled` or `parked`
        #[arg(long, value_name = "S", value_parser = open_state, default_value = "pending")]
        state: OpenState,
        /// Only this customer's
        #[arg(long, value_name = "ID", value_parser = customer)]
        customer: Option<CustomerId>,
        /// The next page, as the one before it says
        #[arg(long, value_name = "PLACE", value_parser = open_cursor)]
        after: Option<OpenCursor>,
        /// Events of a page
        #[arg(long, value_name = "N", default_value_t = ROWS_MAX, value_parser = clap::value_parser!(i64).range(1..=ROWS_MAX))]
        limit: i64,
        #[command(flatten)]
        at: AtStore,
    },
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
        #[arg(value_parser = customer)]
        customer_id: CustomerId,
        #[command(flatten)]
        at: AtStore,
    },
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_name(text).ok_or_else(|| format!("one of {}", Reason::ALL.map(Reason::name).join(", ")))
}

fn open_state(text: &str) -> Result<OpenState, String> {
    OpenState::from_name(text).ok_or_else(|| format!("one of {}", OpenState::ALL.map(OpenState::name).join(", ")))
}

fn open_cursor(text: &str) -> Result<OpenCursor, String> {
    OpenCursor::parse(text).ok_or_else(|| "as the page before says: `there are more: --after …`".to_owned())
}

fn customer(text: &str) -> Result<CustomerId, String> {
    CustomerId::accept(text).ok_or_else(|| format!("a customer's id has 1 to {ID_CHARS_MAX} printable characters"))
}

/// Whether `--format` is `csv`.
#[derive(Debug, Clone, Copy)]
struct IsCsv(bool);

fn is_csv(text: &str) -> Result<IsCsv, String> {
    match text {
        "csv" => Ok(IsCsv(true)),
        "ndjson" => Ok(IsCsv(false)),
        _ => Err("ndjson or csv".to_owned()),
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err("one character of ASCII, no quote, or `tab`".to_owned()),
    }
}

/// Whether the arguments are those of a worker for mappings.
pub fn is_worker() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND)
}

/// Runs what was asked for, in a runtime of its own. The runtime's threads are waited for, but not for long.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say_error(&format!("podero-bridge: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(run());
    runtime.shutdown_timeout(THREADS_TIME_MAX);
    telemetry::flush(LAST_LINES_TIME_MAX);
    status
}

/// Works until standard input ends.
pub fn work() -> ExitCode {
    map::run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// What was asked for; else the status, after a word about it.
fn arguments() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
    })
}

/// Runs a command about events; the error is the status, after a word about it.
async fn run_events(command: Events) -> Result<anyhow::Result<()>, ExitCode> {
    match command {
        Events::List { state, customer, after, limit, at } => {
            let store = load_store(at.config.as_deref(), false)?;
            let customer = customer.map(|customer| customer.as_str().to_owned());
            Ok(events::list(&store, OpenFilter { state, customer, after, limit }, at.json).await)
        }
        Events::Show { id, at } => {
            let store = load_store(at.config.as_deref(), false)?;
            Ok(show::event(&store, id, at.json).await)
        }
    }
}

/// Reads the arguments and runs the command.
async fn run() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let result = match arguments.command {
        Command::Serve { config, sandbox } => match load(config, sandbox) {
            Ok(config) => serve::run(config, sandbox).await,
            Err(status) => return status,
        },
        Command::Demo => demo::run().await,
        Command::Test { dir } => test::run(&dir).await,
        // As with --sandbox: an account is not needed, since nothing is sent.
        Command::Explain { file, source, headers, amqp, config, json } => match load(config, true) {
            Ok(config) => explain::run(config, explain::Request { file, source, headers, amqp, is_json: json }).await,
            Err(status) => return status,
        },
        Command::Sandbox { listen, seed } => sandbox::run(listen, seed).await,
        Command::Check { config, offline } => match load(config, false) {
            Ok(config) => check::run(config, offline).await,
            Err(status) => return status,
        },
        Command::Parked(command) => match run_parked(command).await {
            Ok(result) => result,
            Err(status) => return status,
        },
        Command::Events(command) => match run_events(command).await {
            Ok(result) => result,
            Err(status) => return status,
        },
        Command::Erase { customer_id, force, messages, at } => match load_store(at.config.as_deref(), true) {
            Ok(store) => {
                let messages: Vec<_> = messages.into_iter().map(EventId).collect();
                erase::run(&store, &customer_id, &messages, (force, at.json)).await
            }
            Err(status) => return status,
        },
        Command::Import { file, source, config, format, delimiter } => match load_import(config.as_deref()) {
            Ok(config) => {
                let is_csv = format.map(|IsCsv(is_csv)| is_csv);
                match import::run(&config, import::Request { file, source, is_csv, delimiter }).await {
                    Err(import::Failure::Usage(why)) => return misused(&why),
                    Err(import::Failure::Failed(error)) => Err(error),
                    Ok(()) => Ok(()),
                }
            }
            Err(status) => return status,
        },
        Command::Backup { file, config } => match load_store(config.as_deref(), false) {
            Ok(store) => match backup::run(&store, &file).await {
                Err(backup::Failure::Usage(why)) => return misused(&why),
                Err(backup::Failure::Failed(error)) => Err(error),
                Ok(()) => Ok(()),
            },
            Err(status) => return status,
        },
        Command::Customers(Customers::Show { customer_id, at }) => match load_store(at.config.as_deref(), false) {
            Ok(store) => show::customer(&store, &customer_id, at.json).await,
            Err(status) => return status,
        },
    };
    let unsaid = || UNSAID.get().map_or(Ok(()), |error| Err(anyhow::anyhow!("standard output: {error}")));
    match result.and_then(|()| unsaid()) {
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

/// The error is the status, after a word about it.
async fn run_parked(command: Parked) -> Result<anyhow::Result<()>, ExitCode> {
    let store = load_store(command.at().config.as_deref(), false)?;
    match do_parked(command, &store).await {
        Err(parked::Failure::Usage(why)) => Err(misused(&why)),
        Err(parked::Failure::Failed(error)) => Ok(Err(error)),
        Ok(()) => Ok(Ok(())),
    }
}

async fn do_parked(command: Parked, store: &config::Store) -> Result<(), parked::Failure> {
    match command {
        Parked::List { reason, after, at } => parked::list(store, reason, after, at.json).await?,
        Parked::Show { id, at } => show::event(store, id, at.json).await?,
        Parked::Retry { ids, reason, per_second, detach, approve, yes, at, .. } if ids.is_empty() => {
            let approval = approve.then_some(parked::Approval { is_confirmed: yes });
            parked::retry_many(store, reason, parked::Pace { per_second, detach }, approval, at.json).await?;
        }
        Parked::Retry { ids, approve, at, .. } => parked::retry_each(store, &ids, approve, at.json).await?,
        Parked::Stop { id, at } => parked::stop(store, id, at.json).await?,
        Parked::Skip { ids, reason, at, .. } if ids.is_empty() => parked::skip_many(store, reason, at.json).await?,
        Parked::Skip { ids, at, .. } => parked::skip_each(store, &ids, at.json).await?,
    }
    Ok(())
}

/// For a command that only opens the store: the rest of the configuration is none of its business.
fn load_store(path: Option<&Path>, with_key: bool) -> Result<config::Store, ExitCode> {
    Config::load_store(path, &process_environment(), with_key).map_err(|problems| refuse(&problems))
}

fn load_import(path: Option<&Path>) -> Result<config::Import, ExitCode> {
    let config = Config::load_import(path, &process_environment()).map_err(|problems| refuse(&problems))?;
    sound(&config.sources)?;
    Ok(config)
}

fn load(path: Option<PathBuf>, sandbox: bool) -> Result<Config, ExitCode> {
    let config = Config::load(path.as_deref(), &process_environment(), sandbox);
    let config = config.map_err(|problems| refuse(&problems))?;
    sound(&config.sources)?;
    Ok(config)
}

/// Whether every mapping can be compiled.
fn sound(sources: &[config::Source]) -> Result<(), ExitCode> {
    let faults = mapping::check(sources);
    if faults.is_empty() { Ok(()) } else { Err(refuse(&faults.join("\n"))) }
}

fn misused(why: &str) -> ExitCode {
    say_error(&format!("podero-bridge: {why}"));
    ExitCode::from(EX_USAGE)
}

fn refuse(problems: &impl std::fmt::Display) -> ExitCode {
    say_error(&format!("podero-bridge: the configuration has problems:\n{problems}"));
    ExitCode::from(EX_USAGE)
}

/// The first thing that went wrong with standard output: what a command was asked to do goes on, and at the end its
/// status says that not all of it could be told.
static UNSAID: OnceLock<std::io::Error> = OnceLock::new();

/// A line for the person at the terminal. What nobody reads any more (a closed pipe) is nobody's failure.
fn say(line: &str) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout(), "{line}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNSAID.set(error);
    }
}

/// Lines for the person at the terminal, of a command that must not wait until they are read.
fn say_apart(lines: Vec<String>) {
    // Without a thread they are not told: the log says the same.
    let _ = std::thread::Builder::new().spawn(move || lines.iter().for_each(|line| say(line)));
}

/// A line on standard error; of a command with a log it waits for nothing.
fn say_error(line: &str) {
    use std::io::Write;
    if !telemetry::tell(line) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
