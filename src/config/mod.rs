//! Every key, default, bound and cross-check, as plain values for the rest of the program.
//!
//! Parsed from a TOML text and a map of environment variables, never from global state, so that a test needs
//! no process environment; only [`process_environment`] asks the process. Relative paths of files to read count from the
//! folder of the configuration file where they stand in it, else from the working directory. It opens no connection and
//! never shows a secret.
//!
//! All problems are reported at once. That is why the sections are not read by serde, which stops at the first
//! error: the text becomes a plain TOML table, and a reader takes each key with its rule and writes down what is
//! wrong. Only a syntax error ends the reading early, since nothing after it can be trusted.
//!
//! ```text
//! keys      the table of all keys        rules     what a value may be       words     closed vocabularies
//! codes     Base64 and hexadecimal     networks  addresses and networks       file      reads them, bounded
//! reader    file + environment -> value  sections  values -> Config          problems  what is wrong
//! ```
//!
//! Precedence: environment, then file, then default. `PODERO_BRIDGE__SECTION__KEY` overrides `section.key`;
//! `PODERO_BRIDGE__SOURCE__NAME__KEY` overrides a key of the source of that name (written with `_` for `-`), or
//! adds such a source. A secret in the environment replaces one in the file also where one of them is given as
//! `…_file`; both forms in the same place are a problem.
//!
//! Before: [`crate::domain`]. After: everything that has a setting.

mod codes;
mod file;
mod keys;
mod networks;
mod problems;
mod reader;
mod rules;
mod secret;
mod sections;
mod sources;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::alert::WatchPolicy;
use crate::domain::brake::Brake;
use crate::domain::plan::{ChurnDelete, OldBuilding, OldHeatPumps};

pub use codes::{bytes_of_base64, bytes_of_hex};
pub use keys::{KEYS, Key, default_of};
pub use networks::Networks;
pub use problems::{Problem, Problems};
pub use rules::{AMQP_NAME_BYTES_MAX, TOKEN_CHARS_MIN, WEBHOOK_KEY_BYTES_MIN};
pub use secret::{Reloaded, Secret, Secrets};
pub use sections::is_loopback;
pub use sources::{Hmac, HmacAlgorithm, HmacEncoding, KeyEncoding, SignedAt, SignedText, TIMESTAMP, Types, Verify};
pub use words::{Language, LogFormat, PriceZone};

/// Environment variables by name.
pub type Strings = BTreeMap<String, String>;

/// Begins the name of every environment variable that is meant for us. Two underscores: a container platform
/// makes variables such as `PODERO_BRIDGE_PORT` from a service's name, and those are not ours.
pub const ENVIRONMENT_PREFIX: &str = "PODERO_BRIDGE__";

/// Longest deadline of a call to Podero. The lease of a claim must outlive the calls made under it, and is
/// calculated from this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Shortest deadline of a call to Podero: below this every call across the internet would be given up.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Largest request body that can be allowed: bodies are held in memory, and stored as a row.
pub const BODY_BYTES_MAX: u64 = 64 << 20;

/// The source of `POST /v1/events`, and of deliveries on the queue.
pub const DEFAULT_SOURCE: &str = "default";

/// All settings, complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The public door.
    pub http: Http,
    /// The operator's door.
    pub admin: Admin,
    /// The database.
    pub store: Store,
    /// RabbitMQ; `None`: AMQP is off.
    pub amqp: Option<Amqp>,
    /// The partner and the budget of calls to it.
    pub podero: Podero,
    /// The schedule of repeats.
    pub retry: Retry,
    /// Onboarding sessions after sign-up and move; `None`: none are made (the default).
    pub onboarding: Option<Onboarding>,
    /// Section `[move]`: what happens to a home the customer left.
    pub moving: Move,
    /// What happens to a customer who left.
    pub churn: Churn,
    /// Watching the connectivity of heat pumps.
    pub watch: Watch,
    /// Who may send events over HTTP; names are unique.
    pub sources: Vec<Source>,
    /// The embedded Podero sandbox.
    pub sandbox: Sandbox,
    /// Outgoing events besides AMQP.
    pub outbound: Outbound,
    /// What is logged, and how.
    pub log: Log,
    /// Files with secrets that every user of this machine may read or change.
    pub exposed: Vec<PathBuf>,
}

/// Section `[http]`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address of the webhooks; default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Largest body in bytes, at most [`BODY_BYTES_MAX`]; default 1 MiB.
    pub body_max: usize,
    /// Most events in one batch; default 1000.
    pub batch_max: usize,
    /// Proxies whose `X-Forwarded-For` is read; default none.
    pub trusted_proxies: Networks,
}

/// Section `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of health, metrics and the operator's API; default `127.0.0.1:9090`.
    pub listen: SocketAddr,
    /// Bearer token of the operator's API; always there when `listen` is not loopback.
    pub token: Option<Secret>,
    /// Proxies whose `X-Forwarded-For` is read; default none.
    pub trusted_proxies: Networks,
}

/// Section `[store]`.
#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:…`, `postgres:…` or `postgresql:…`; default `sqlite://podero-bridge.db`.
    pub url: Secret,
    /// Whether nobody chose the URL, so that the caller may say where the file went.
    pub is_default: bool,
    /// Pending events at which the doors take no more; default 1,000,000, a file of some gigabytes.
    pub backlog_max: u64,
    /// How long what is settled is kept, `None`: for ever; default 90 d.
    pub retention: Option<Duration>,
    /// Hashes the ids of erased customers; `None`: a key that the store keeps itself.
    pub erasure_key: Option<Secret>,
}

/// Section `[amqp]`.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// At least one; tried in turn.
    pub urls: Vec<Secret>,
    /// Topic exchange on which events arrive; default `customer.lifecycle`. Never the outbound one.
    pub inbound_exchange: String,
    /// Quorum queue that is consumed; default `podero-bridge.inbound`.
    pub inbound_queue: String,
    /// Topic exchange for outgoing events; default `podero.bridge`.
    pub outbound_exchange: String,
    /// Keys by which the queue is bound, where the topology is ours; default `customer.#`.
    pub bindings: Vec<String>,
    /// Whether the topology is ours to declare; default true.
    pub declare: bool,
    /// Deliveries held unacknowledged at once; default 512.
    pub prefetch: u16,
    /// Source of deliveries that are not CloudEvents; default [`DEFAULT_SOURCE`]. When it was written out, a
    /// source of this name is configured.
    pub source: String,
}

/// Section `[podero]`.
#[derive(Debug, Clone)]
pub struct Podero {
    /// Whose Podero is called.
    pub account: Account,
    /// URL of a forward proxy for all calls; default none. Not for the embedded sandbox.
    pub proxy: Option<Secret>,
    /// Deadline of one call, from [`TIMEOUT_MIN`] to [`TIMEOUT_MAX`]; default 10 s.
    pub timeout: Duration,
    /// Calls at the same time, events and polling together; default 64.
    pub max_in_flight: usize,
    /// Calls per second, events and polling together; default 50.
    pub requests_per_second: u32,
}

/// Whose Podero is called.
#[derive(Debug, Clone)]
pub enum Account {
    /// The embedded sandbox: whoever starts it knows its address and credentials. An account in the
    /// configuration is checked, and not used.
    Sandbox,
    /// The partner.
    Podero {
        /// Scheme and host, without a slash at the end; default `https://app.podero.com`.
        base_url: String,
        /// The utility's organisation.
        org_id: Uuid,
        /// OAuth2 client; never contains a colon.
        client_id: String,
        /// The client's secret.
        client_secret: Secret,
    },
}

/// Section `[retry]`: exponential with full jitter.
#[derive(Debug, Clone)]
pub struct Retry {
    /// First wait, not above `max`; default 1 s.
    pub initial: Duration,
    /// Longest wait between two attempts; default 15 min.
    pub max: Duration,
    /// After this long an event is parked; default 72 h.
    pub give_up_after: Duration,
}

/// Section `[onboarding]` when it is enabled.
#[derive(Debug, Clone)]
pub struct Onboarding {
    /// Language of the session.
    pub language: Language,
    /// Price zone of the heat pumps that are connected.
    pub price_zone: PriceZone,
    /// Where the customer lands afterwards; absolute.
    pub success_url: String,
    /// Where the customer lands after giving up; absolute.
    pub cancel_url: String,
}

/// Section `[move]`.
#[derive(Debug, Clone)]
pub struct Move {
    /// The optimisation in the home the customer left; default pause.
    pub old_heat_pumps: OldHeatPumps,
    /// The building the customer left; default delete.
    pub old_building: OldBuilding,
}

/// Section `[churn]`.
#[derive(Debug, Clone)]
pub struct Churn {
    /// How a customer who left is deleted; default soft.
    pub delete: ChurnDelete,
    /// Time between soft and hard deletion, for soft-then-hard; default 30 d.
    pub retention: Duration,
    /// How many may leave within a time before a person is asked; default `None`, without a limit.
    pub brake: Option<Brake>,
}

/// Section `[watch]`.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Whether heat pumps are watched at all; default true.
    pub enabled: bool,
    /// When what is told, and how bad it is; section `[severity]` and `watch.heating_season` are in it.
    pub policy: WatchPolicy,
    /// Characters of a ZIP code that make a region, at most 3; default 0: regions are not watched.
    pub region_chars: u32,
}

/// One `[[source]]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// Last part of `/v1/events/{source}`: 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// How its requests are proven to be its own.
    pub verify: Verify,
    /// What makes events of its messages that are none.
    pub map: Option<Map>,
    /// Types of events that it may send.
    pub types: Types,
    /// Whether what was accepted is answered with its receipt; else with a status and no body.
    pub tells_receipt: bool,
}

/// A jq program.
#[derive(Debug, Clone)]
pub struct Map {
    /// Where it was read from.
    pub path: String,
    /// Its text, not compiled yet.
    pub code: String,
}

/// What an import needs of the configuration.
#[derive(Debug, Clone)]
pub struct Import {
    /// The database.
    pub store: Store,
    /// A line has at most as many bytes as a body, and becomes at most as many events as a batch has.
    pub http: Http,
    /// Whose events they may be.
    pub sources: Vec<Source>,
}

/// Section `[sandbox]`.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Address of the sandbox; default `127.0.0.1:8085`.
    pub listen: SocketAddr,
    /// Makes its ids repeat.
    pub seed: Option<u64>,
}

/// Section `[outbound]`.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Where outgoing events go as signed webhooks; `None`: nowhere.
    pub webhook: Option<Webhook>,
}

/// A receiver of signed webhooks.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Absolute `http:` or `https:` URL.
    pub url: String,
    /// `whsec_…` text that `standardwebhooks::Webhook::new` accepts.
    pub secret: Secret,
    /// URL of a forward proxy; default none.
    pub proxy: Option<Secret>,
}

/// Section `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Look of a line; default auto.
    pub format: LogFormat,
    /// Level or directives that a `tracing` filter accepts; default `info`.
    pub level: String,
}

impl Config {
    /// Reads and checks everything: the file (`None`: defaults and environment alone), the variables of
    /// `environment` that begin with [`ENVIRONMENT_PREFIX`], and the files that hold secrets.
    ///
    /// With `sandbox` no account is required, and a source [`DEFAULT_SOURCE`] that verifies nothing exists
    /// unless one is configured or `http.listen` is not loopback.
    ///
    /// # Errors
    ///
    /// Every problem there is, each with its key.
    pub fn load(path: Option<&Path>, environment: &Strings, sandbox: bool) -> Result<Self, Problems> {
        read(path, environment, |reader| sections::read(reader, sandbox))
    }

    /// As [`Config::load`], but of all sections only `[store]` is read and checked, and its erasure key only when
    /// `with_key`: whoever looks into the store need not be able to read the bridge's other secrets. Syntax and names of
    /// keys must be right everywhere.
    ///
    /// # Errors
    ///
    /// Every problem of these.
    pub fn load_store(path: Option<&Path>, environment: &Strings, with_key: bool) -> Result<Store, Problems> {
        read(path, environment, |reader| Some(sections::store(reader, with_key)))
    }

    /// As [`Config::load`], but only `[store]` with its key, `[http]` and the sources are read and checked.
    ///
    /// # Errors
    ///
    /// Every problem of these.
    pub fn load_import(path: Option<&Path>, environment: &Strings) -> Result<Import, Problems> {
        read(path, environment, |reader| Some(sections::import(reader)))
    }

    /// As [`Config::load`], from the text of a file that lies in the working directory.
    ///
    /// # Errors
    ///
    /// Every problem there is, each with its key.
    pub fn parse(text: &str, environment: &Strings, sandbox: bool) -> Result<Self, Problems> {
        let given = Given { text, folder: Path::new(""), exposed: None };
        read_text(&given, environment, |reader| sections::read(reader, sandbox))
    }
}

/// Reads the text of a jq program, as that of a source is read.
///
/// # Errors
///
/// The file is none, is too large or is no text.
pub fn read_map(path: &Path) -> std::io::Result<String> {
    Ok(file::read(path)?.text)
}

/// Content of the file; without a file it is empty.
fn content_of(path: Option<&Path>) -> Result<file::Content, Problems> {
    let Some(path) = path else { return Ok(file::Content { text: String::new(), is_exposed: false }) };
    file::read_config(path).map_err(|error| {
        let key = path.display().to_string();
        let hint = "name an existing file with --config".to_owned();
        Problems::new(vec![Problem { key, found: format!("no readable file ({error})"), hint }])
    })
}

/// The result of `take` over file and environment, if nothing is wrong.
fn read<T>(
    path: Option<&Path>,
    environment: &Strings,
    take: impl FnOnce(&mut reader::Reader) -> Option<T>,
) -> Result<T, Problems> {
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let content = content_of(path)?;
    let exposed = path.filter(|_| content.is_exposed);
    read_text(&Given { text: &content.text, folder, exposed }, environment, take)
}

/// The text of a file in `folder`; `exposed` is its path where every user of the machine may read or change it.
struct Given<'a> {
    text: &'a str,
    folder: &'a Path,
    exposed: Option<&'a Path>,
}

/// The result of `take` over the text of a file and the environment, if nothing is wrong.
fn read_text<T>(
    given: &Given<'_>,
    environment: &Strings,
    take: impl FnOnce(&mut reader::Reader) -> Option<T>,
) -> Result<T, Problems> {
    let table = given.text.parse::<toml::Table>().map_err(|error| syntax_problem(given.text, &error))?;
    let mut reader = reader::Reader::new(table, given.folder, environment);
    if let Some(path) = given.exposed {
        reader.note_exposed(path);
    }
    let taken = take(&mut reader);
    let problems = reader.into_problems();
    match taken {
        Some(taken) if problems.is_empty() => Ok(taken),
        Some(_) | None => Err(Problems::new(problems)),
    }
}

/// Line and column instead of the library's own drawing, which quotes the line, and a line may hold a secret.
fn syntax_problem(text: &str, error: &toml::de::Error) -> Problems {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let key = format!("line {line}, column {column}");
    let hint = format!("this is not TOML: {}", error.message());
    Problems::new(vec![Problem { key, found: "a syntax error".to_owned(), hint }])
}

/// The variables of this process that are meant for us. Text that is not UTF-8 is kept in a form that
/// [`Config::load`] refuses.
pub fn process_environment() -> Strings {
    std::env::vars_os()
        .map(|(name, text)| (name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}
