//! Arguments: what each command takes, with the help that clap prints.
//!
//! Before: [`crate::cli`]. After: the commands, each of which gets its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use super::error::CliError;
use crate::config::DEFAULT_SOURCE;
use crate::domain::audit::{Action, NOTE_CHARS_MAX, accept_note};
use crate::domain::chain::ChainHead;
use crate::domain::identity::{ACTOR_FORMS, Actor, NAME_CHARS_MAX, Role, is_operator_name};
use crate::domain::team::MemberId;
use crate::domain::verdict::Reason;
use crate::domain::{CustomerId, ID_CHARS_MAX, Timestamp};
use crate::store::{
    AUDIT_PAGE_MAX, ExportFormat, OpenCursor, OpenState, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedFilter, ROWS_MAX,
};

/// Runs between a utility's own systems and the Podero Partner API.
#[derive(Debug, Parser)]
#[command(name = "podero-bridge", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the bridge
    Serve {
        /// Configuration file (TOML); every key may also come from the environment
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also run the embedded Podero sandbox and use it: no account is needed
        #[arg(long)]
        sandbox: bool,
    },
    /// Play a customer's story through the real bridge and an embedded sandbox, and print it
    Demo,
    /// Run the Podero sandbox alone
    Sandbox {
        /// Address on which it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8085")]
        listen: SocketAddr,
        /// Seed of its ids, which makes them repeatable
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Validate the configuration and connect to everything that it names; prints a line for each part
    Check {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Do not connect
        #[arg(long)]
        offline: bool,
    },
    /// List, show, retry or skip events that need a person
    #[command(subcommand)]
    Parked(Parked),
    /// List events that are not done, with why they wait; or show one, with its calls and original bytes
    #[command(subcommand)]
    Events(Events),
    /// Show one customer: state, events, outgoing events, heat pumps
    #[command(subcommand)]
    Customers(Customers),
    /// Add, list, change or remove operators: people with a role and a password of their own at the admin API
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// List or review the utility's own team: members, roles, logins, ends of access
    #[command(subcommand)]
    Team(TeamCommand),
    /// Remove a customer's, or a member's, personal data from every table and leave a tombstone; Podero is not touched
    Erase(EraseArguments),
    /// Show the events of a message and the calls that it would cause, with their bodies. Nothing is sent or stored
    Explain(ExplainArguments),
    /// Try a mapping on its examples: DIR/map.jq gives DIR/NAME.expected.json for each DIR/NAME.input.json
    Test {
        /// Folder of the mapping and its examples
        dir: PathBuf,
    },
    /// Import a file of events (NDJSON or CSV). The same command again resumes the import, or changes nothing
    Import(ImportArguments),
    /// List, export or verify the audit log: who did what
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make the tables of the store, or bring them up to date, for a bridge whose own role may not. `serve` does it by itself
    Migrate {
        /// Configuration file (TOML) whose `store.url` names a role that owns the tables
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Copy the SQLite file, consistent and checked, while the bridge runs
    Backup {
        /// File of the copy; an existing file is never overwritten
        file: PathBuf,
        /// Configuration file (TOML) of the bridge
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Parked events that a command is about; without ids and reason all of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Ids of the events
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<Uuid>,
    /// All events that are parked now for this reason
    #[arg(long, value_name = "R", value_parser = reason)]
    pub(super) reason: Option<Reason>,
    /// All events that are parked now
    #[arg(long)]
    all: bool,
}

/// Configuration that names the store, and the form of the output.
#[derive(Debug, Args)]
pub(super) struct StoreOptions {
    /// Configuration file (TOML) of the bridge
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Parked {
    /// List parked events, oldest first
    List {
        /// Only events of this reason
        #[arg(long, value_name = "R", value_parser = reason)]
        reason: Option<Reason>,
        /// Only events that arrived after this one: the next page
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Show one event, with its original bytes
    Show {
        id: Uuid,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Put events back to work
    Retry(RetryArguments),
    /// Stop a bulk retry
    Stop {
        /// Id of the retry, as `parked retry` printed it
        id: Uuid,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Give events up; they stay visible as skipped. --reason and --all skip messages that never became an event; --reason
    /// churn_brake or team_brake skips all of that reason
    Skip {
        #[command(flatten)]
        which: Which,
        /// Why, in your own words, for the audit log: no names and no addresses
        #[arg(long, value_name = "TEXT", value_parser = note)]
        note: Option<String>,
        #[command(flatten)]
        at: StoreOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// List events that are not done, the longest-waiting first, with why and until when they wait
    List {
        /// State: `pending`, `waiting`, `scheduled` or `parked`
        #[arg(long, value_name = "S", value_parser = open_state, default_value = "pending")]
        state: OpenState,
        /// Only events of this customer
        #[arg(long, value_name = "ID", value_parser = customer)]
        customer: Option<CustomerId>,
        /// Start of the next page, as the page before printed it
        #[arg(long, value_name = "PLACE", value_parser = open_cursor)]
        after: Option<OpenCursor>,
        /// Number of events on a page
        #[arg(long, value_name = "N", default_value_t = ROWS_MAX, value_parser = clap::value_parser!(i64).range(1..=ROWS_MAX))]
        limit: i64,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Show one event
    Show {
        id: Uuid,
        #[command(flatten)]
        at: StoreOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Customers {
    /// Show one customer
    Show {
        /// The utility's own id
        #[arg(value_parser = customer)]
        customer_id: CustomerId,
        #[command(flatten)]
        at: StoreOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TeamCommand {
    /// List members: those whom events named, and those whom only Podero has
    List {
        #[command(flatten)]
        at: StoreOptions,
    },
    /// List what a person should look at: ends of access that have passed, members without a login for a time, users whom no event
    /// named, members whom Podero lacks, admins beyond the policy
    Review {
        /// Days without a login after which a member counts as inactive
        #[arg(long, value_name = "N", default_value_t = 90)]
        inactive_days: u32,
        #[command(flatten)]
        at: StoreOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List rows, newest first
    List {
        #[command(flatten)]
        filter: AuditFilterArguments,
        /// Id of the row after which the next page begins, as the page before printed it
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        /// Number of rows on a page
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=AUDIT_PAGE_MAX))]
        limit: i64,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Write sealed rows in the order of the chain, and the head of the chain on standard error. The export has a row of its own
    Export(AuditExportArguments),
    /// Recompute the chain of hashes; exit status 1 where a row was changed, removed or moved
    Verify {
        /// Head that was kept elsewhere, COUNT:HASH, as exports, backups and the log have it
        #[arg(long, value_name = "HEAD", value_parser = chain_head)]
        head: Option<ChainHead>,
        #[command(flatten)]
        at: StoreOptions,
    },
}

/// Rows of the audit log that a command is about.
#[derive(Debug, Args)]
pub(super) struct AuditFilterArguments {
    /// Only of this actor: `source:NAME`, `token:NAME`, `operator:NAME`, `cli:USER`, `scim:NAME`, `oidc:NAME` or `bridge`
    #[arg(long, value_name = "ACTOR", value_parser = acting)]
    pub(super) actor: Option<String>,
    /// Only of this action, such as `event.skip`
    #[arg(long, value_name = "ACTION", value_parser = action)]
    pub(super) action: Option<Action>,
    /// Only about the thing of this id: a customer, an event, an operator. A customer's rows are listed for as long as their events
    /// are kept, and exported always
    #[arg(long, value_name = "ID")]
    pub(super) target: Option<String>,
    /// Only from this time on: a date, or a time of RFC 3339
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) until: Option<Timestamp>,
}

/// Export of the audit log.
#[derive(Debug, Args)]
pub(super) struct AuditExportArguments {
    /// Format: `jsonl`, `csv` or `ocsf`
    #[arg(long, value_name = "FORMAT", value_parser = export_format, default_value = "jsonl")]
    pub(super) format: ExportFormat,
    /// File to write, which must not exist; by default standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) filter: AuditFilterArguments,
    #[command(flatten)]
    pub(super) at: StoreOptions,
}

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// Add an operator. The password is typed twice, unless it is in a file
    Add {
        /// Name, without an address: it stands in logs
        #[arg(value_parser = operator_name)]
        name: String,
        /// Rights: `viewer`, `support` or `admin`
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// File with the password; `-`: standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// List the operators
    List {
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Give an operator another role or password
    Change {
        /// Name of the operator
        name: String,
        #[command(flatten)]
        what: OperatorParts,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// Remove an operator, who is refused from the next request on
    Remove {
        /// Name of the operator
        name: String,
        /// Remove also the last one where there is no token: then everything under /v1 is open again
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: StoreOptions,
    },
    /// List the sessions at the console that go on
    Sessions {
        #[command(flatten)]
        at: StoreOptions,
    },
    /// End a session at the console
    EndSession {
        /// Id of the session
        id: Uuid,
        #[command(flatten)]
        at: StoreOptions,
    },
}

/// Parts of an operator that are changed; at least one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct OperatorParts {
    /// New rights: `viewer`, `support` or `admin`
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub(super) role: Option<Role>,
    /// Type a new password, twice
    #[arg(long, conflicts_with = "password_file")]
    pub(super) password: bool,
    /// File with a new password; `-`: standard input
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
}

/// Command of these words, the program's name first.
#[cfg(test)]
pub(super) fn of(words: &[&str]) -> Command {
    Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{words:?}: {error}")).command
}

/// Command of this process's arguments.
pub(super) fn read() -> Result<Command, CliError> {
    Arguments::try_parse().map(|arguments| arguments.command).map_err(CliError::Arguments)
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_name(text).ok_or_else(|| format!("one of {}", Reason::ALL.map(Reason::name).join(", ")))
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| format!("one of {}", Role::names().join(", ")))
}

fn operator_name(text: &str) -> Result<String, String> {
    let form = || format!("1 to {NAME_CHARS_MAX} of the characters a-z, 0-9, `.`, `_` and `-`");
    is_operator_name(text).then(|| text.to_owned()).ok_or_else(form)
}

fn open_state(text: &str) -> Result<OpenState, String> {
    OpenState::from_name(text).ok_or_else(|| format!("one of {}", OpenState::ALL.map(OpenState::name).join(", ")))
}

fn open_cursor(text: &str) -> Result<OpenCursor, String> {
    OpenCursor::parse(text).ok_or_else(|| "as the page before says: `there are more: --after …`".to_owned())
}

fn action(text: &str) -> Result<Action, String> {
    Action::from_name(text).ok_or_else(|| format!("one of {}", Action::ALL.map(Action::name).join(", ")))
}

fn note(text: &str) -> Result<String, String> {
    accept_note(text).ok_or_else(|| format!("a note has 1 to {NOTE_CHARS_MAX} characters, on one line"))
}

fn acting(text: &str) -> Result<String, String> {
    Actor::parse(text).map(|_| text.to_owned()).ok_or_else(|| format!("an actor is {ACTOR_FORMS}"))
}

fn export_format(text: &str) -> Result<ExportFormat, String> {
    ExportFormat::from_name(text)
        .ok_or_else(|| format!("one of {}", ExportFormat::ALL.map(ExportFormat::name).join(", ")))
}

fn chain_head(text: &str) -> Result<ChainHead, String> {
    text.parse().map_err(str::to_owned)
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_time_or_date(text).ok_or_else(|| "a date, such as 2026-10-01, or a time of RFC 3339".to_owned())
}

fn customer(text: &str) -> Result<CustomerId, String> {
    CustomerId::accept(text).ok_or_else(|| format!("a customer's id has 1 to {ID_CHARS_MAX} printable characters"))
}

fn member(text: &str) -> Result<MemberId, String> {
    MemberId::accept(text).ok_or_else(|| format!("a member's id has 1 to {ID_CHARS_MAX} printable characters"))
}

/// Says whether `--format` is `csv`.
fn is_csv(text: &str) -> Result<bool, String> {
    match text {
        "csv" => Ok(true),
        "ndjson" => Ok(false),
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

/// Customer to erase, and messages that mention them.
#[derive(Debug, Args)]
pub(super) struct EraseArguments {
    /// The utility's own id of the customer
    #[arg(value_parser = customer, required_unless_present = "member", conflicts_with = "member")]
    pub(super) customer_id: Option<CustomerId>,
    /// The utility's own id of a member of its team, instead of a customer
    #[arg(long, value_name = "MEMBER_ID", value_parser = member)]
    pub(super) member: Option<MemberId>,
    /// Erase the person even if active, or with events or outgoing events that are not done
    #[arg(long)]
    pub(super) force: bool,
    /// Also empty this message, which mentions the id; may be repeated
    #[arg(long = "message", value_name = "EVENT_ID")]
    pub(super) messages: Vec<Uuid>,
    #[command(flatten)]
    pub(super) at: StoreOptions,
}

/// Message to explain.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// File of the message; `-`: standard input
    pub(super) file: PathBuf,
    /// Source by which the message would come
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SOURCE)]
    pub(super) source: String,
    /// Header of the message, `NAME: VALUE`; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    pub(super) headers: Vec<String>,
    /// Explain it as a message from RabbitMQ with these properties: routing_key=KEY, exchange=, type=, app_id=,
    /// message_id=, correlation_id=, timestamp=SECONDS; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) amqp: Vec<String>,
    /// Configuration file (TOML) of the bridge
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// File to import.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// File to import; `-`: standard input
    pub(super) file: PathBuf,
    /// Source of the events; its `map` translates lines that are no CloudEvents
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Configuration file (TOML) of the bridge
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Format: `ndjson` or `csv`; by default the ending of the file's name
    #[arg(long = "format", value_name = "FORMAT", value_parser = is_csv)]
    pub(super) is_csv: Option<bool>,
    /// Delimiter between the fields of CSV: one character, or `tab`
    #[arg(long, value_name = "C", value_parser = delimiter)]
    pub(super) delimiter: Option<u8>,
}

/// Parked events to retry, and how.
#[derive(Debug, Args)]
pub(super) struct RetryArguments {
    #[command(flatten)]
    pub(super) which: Which,
    /// Only events of this source, with --reason or --all
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ids", "approve"])]
    source: Option<String>,
    /// Only events that were parked at this moment or later (RFC 3339, or a date), with --reason or --all
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["ids", "approve"])]
    since: Option<Timestamp>,
    /// Only events that were parked until this moment, with --reason or --all
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["ids", "approve"])]
    until: Option<Timestamp>,
    /// Events per second, with --reason or --all
    #[arg(long, value_name = "N", default_value_t = PER_SECOND_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(PER_SECOND_MAX)), conflicts_with = "ids")]
    pub(super) per_second: u32,
    /// Do not wait for the end, with --reason or --all; the running bridge continues the retry
    #[arg(long, conflicts_with = "ids")]
    pub(super) detach: bool,
    /// Approve events that a brake has parked (`churn_brake`, `team_brake`), so that they take effect. With --reason, prints their
    /// number first, and asks
    #[arg(long, conflicts_with = "all")]
    pub(super) approve: bool,
    /// Do not ask, with --approve and --reason
    #[arg(long, requires = "approve", conflicts_with = "ids")]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) at: StoreOptions,
}

impl RetryArguments {
    /// The events that it is about, where it names none by their ids.
    pub(super) fn filter(&self) -> ParkedFilter {
        ParkedFilter { reason: self.which.reason, source: self.source.clone(), since: self.since, until: self.until }
    }
}
