//! Reads the whole configuration, or the part that a command needs, from a file and the environment.
//!
//! All problems are reported at once. That is why the sections are not read by serde, which stops at the first error: the text
//! becomes a plain TOML table, and a reader takes each key with its rule and notes each problem. Only a syntax error ends the
//! reading early, since nothing after it can be trusted.
//!
//! Before: [`crate::config`]'s sections. After: [`crate::app`] and the commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file;
use super::key::{Key, Keys, REPEATED};
use super::problems::{ConfigProblem, Problems};
use super::reader::{ENVIRONMENT_PREFIX, Reader, Strings};
use super::rules::is_loopback;
use super::secret::Secret;
use super::sections::{
    admin, amqp, audit, churn, console, http, log, moving, onboarding, outbound, podero, reconnect, retry, sandbox,
    scim, source, store, team, watch,
};
use super::settings::Setting;
use crate::domain::plan::Policy;
use crate::domain::team::TeamPolicy;

/// Every section with its keys, in the order of the documents.
pub const KEYS: Keys = Keys {
    sections: &[
        http::HTTP,
        admin::ADMIN,
        admin::ADMIN_TOKENS,
        console::CONSOLE,
        console::OIDC,
        store::STORE,
        amqp::AMQP,
        podero::PODERO,
        retry::RETRY,
        onboarding::ONBOARDING,
        moving::MOVE,
        churn::CHURN,
        team::TEAM,
        scim::SCIM,
        scim::SCIM_TOKEN,
        watch::WATCH,
        watch::SEVERITY,
        reconnect::RECONNECT,
        audit::AUDIT,
        source::SOURCE,
        source::SOURCE_BEARER,
        source::SOURCE_HMAC,
        source::SOURCE_PARTS,
        sandbox::SANDBOX,
        outbound::OUTBOUND,
        log::LOG,
    ],
};

/// The names of the tables of each section of several, and what one is called, in the order of [`REPEATED`].
const TABLES: [(Key<String>, &str); REPEATED.len()] =
    [(source::NAME, "source"), (admin::TOKEN_NAME, "token"), (scim::SCIM_TOKEN_NAME, "token")];

/// The default of a key that has one, as the environment would give it. Panics for any other name: constants ask.
pub fn default_of(name: &str) -> &'static str {
    KEYS.find(name).and_then(|key| key.default_text).expect("only asked for keys that have a default")
}

/// All settings, complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The webhook listener.
    pub http: http::Http,
    /// The admin listener.
    pub admin: admin::Admin,
    /// The console; `None`: there is none.
    pub console: Option<console::ConsoleSection>,
    /// The database.
    pub store: store::Store,
    /// RabbitMQ; `None`: AMQP is off.
    pub amqp: Option<amqp::Amqp>,
    /// The partner, and the limits of calls to it.
    pub podero: podero::Podero,
    /// The core's policy: sections `[retry]`, `[onboarding]`, `[move]`, `[churn]` and `[team]`.
    pub policy: Policy,
    /// SCIM 2.0, by which an identity provider provisions the team.
    pub scim: scim::Scim,
    /// The watch over the connectivity of heat pumps.
    pub watch: watch::Watch,
    /// Links by which customers reconnect their heat pumps; `None`: there are none.
    pub reconnect: Option<reconnect::ReconnectSection>,
    /// The audit log.
    pub audit: audit::Audit,
    /// Senders of events; names are unique.
    pub sources: Vec<source::Source>,
    /// The embedded Podero sandbox.
    pub sandbox: sandbox::Sandbox,
    /// Outgoing events besides AMQP.
    pub outbound: outbound::Outbound,
    /// Log lines.
    pub log: log::Log,
    /// Files with secrets that every user of this machine may read or change.
    pub exposed: Vec<PathBuf>,
    /// Every key with its value, as a person may read it.
    pub settings: Vec<Setting>,
}

/// The part of the configuration that an import needs.
#[derive(Debug, Clone)]
pub struct Import {
    /// The database.
    pub store: store::Store,
    /// Limits: a line has at most as many bytes as a body, and becomes at most as many events as a batch has.
    pub http: http::Http,
    /// Senders of the events.
    pub sources: Vec<source::Source>,
    /// The policy of the team, which refuses some events at once.
    pub team: TeamPolicy,
}

impl Config {
    /// Reads and checks everything: the file (`None`: defaults and environment alone), the variables of `environment` that
    /// begin with [`ENVIRONMENT_PREFIX`], and the files that hold secrets.
    ///
    /// With `sandbox` no account is required, and a source `default` that verifies nothing exists unless one is configured or
    /// `http.listen` is not loopback.
    ///
    /// # Errors
    ///
    /// Every problem there is, each with its key.
    pub fn load(path: Option<&Path>, environment: &Strings, sandbox: bool) -> Result<Self, Problems> {
        read_file(path, environment, |r| all(r, sandbox))
    }

    /// Reads and checks as [`Config::load`] does, but only `[store]`, and its erasure key only with `with_key`: a command that
    /// looks into the store need not be able to read the bridge's other secrets. Syntax and names of keys must be right
    /// everywhere.
    ///
    /// # Errors
    ///
    /// Every problem of these.
    pub fn load_store(path: Option<&Path>, environment: &Strings, with_key: bool) -> Result<store::Store, Problems> {
        read_file(path, environment, |r| Some(store::read(r, with_key)))
    }

    /// As [`Config::load`], but only `[team]` is read and checked.
    ///
    /// # Errors
    ///
    /// Every problem of it.
    pub fn load_team(path: Option<&Path>, environment: &Strings) -> Result<TeamPolicy, Problems> {
        read_file(path, environment, |r| Some(team::read(r)))
    }

    /// As [`Config::load`], but only `[store]` with its key, `[http]`, `[team]` and the sources are read and checked.
    ///
    /// # Errors
    ///
    /// Every problem of these.
    pub fn load_import(path: Option<&Path>, environment: &Strings) -> Result<Import, Problems> {
        read_file(path, environment, |r| {
            let http = http::read(r);
            let store = store::read(r, true);
            let sources = source::read(r, &http, false);
            Some(Import { store, http, sources, team: team::read(r) })
        })
    }

    /// As [`Config::load`], from the text of a file that lies in the working directory.
    ///
    /// # Errors
    ///
    /// Every problem there is, each with its key.
    pub fn parse(text: &str, environment: &Strings, sandbox: bool) -> Result<Self, Problems> {
        let given = Given { text, folder: Path::new(""), exposed: None };
        read_text(&given, environment, |r| all(r, sandbox))
    }
}

/// Reads all sections before the first missing one ends it, so that it finds all problems.
fn all(r: &mut Reader, is_sandbox: bool) -> Option<Config> {
    let http = http::read(r);
    let admin = admin::read(r, &http);
    let console = console::read(r, &admin);
    let store = store::read(r, true);
    let podero = podero::read(r, is_sandbox);
    let timeout = podero.as_ref().map_or(Duration::ZERO, |podero| podero.timeout);
    let (policy, watch) = (policy(r, timeout), watch::read(r));
    let reconnect = reconnect::read(r, &watch);
    let scim = scim::read(r, policy.team.is_enabled);
    let sources = source::read(r, &http, is_sandbox);
    let amqp = amqp::read(r, &sources);
    refuse_deaf(r, &http, &sources);
    let (audit, sandbox, outbound, log) = (audit::read(r), sandbox::read(r), outbound::read(r), log::read(r));
    let (podero, exposed, settings) = (podero?, r.exposed(), r.settings());
    #[rustfmt::skip]
    let config = Config {
        http, admin, console, store, amqp, podero, policy, scim, watch, reconnect, audit, sources, sandbox, outbound, log, exposed,
        settings,
    };
    Some(config)
}

/// Reads the policy by which the core decides; `timeout` is that of a call to Podero.
fn policy(r: &mut Reader, timeout: Duration) -> Policy {
    let schedule = retry::schedule(r);
    Policy {
        schedule,
        doubt_pause: timeout.max(schedule.initial),
        give_up_after: r.value(&retry::GIVE_UP_AFTER),
        onboarding: onboarding::read(r),
        old_heat_pumps: r.value(&moving::OLD_HEAT_PUMPS),
        old_building: r.value(&moving::OLD_BUILDING),
        churn: r.value(&churn::DELETE),
        retention: r.value(&churn::RETENTION),
        brake: churn::brake(r),
        team: team::read(r),
    }
}

/// A bridge on which nothing can arrive is a mistake, not a configuration.
fn refuse_deaf(r: &mut Reader, http: &http::Http, sources: &[source::Source]) {
    let has_scim = !r.labels(scim::SCIM_TOKEN.name).is_empty();
    if sources.is_empty()
        && r.labels("source").is_empty()
        && !has_scim
        && !r.is_given(&amqp::URL)
        && r.is_sound("source")
    {
        let door = if is_loopback(http.listen) { "" } else { " (--sandbox adds one on loopback only)" };
        let hint = format!("nothing can arrive: configure a [[source]]{door} or amqp.url");
        r.refuse("source", "none, and no amqp.url", hint);
    }
}

/// Reads the text of a jq program, in the way of `source.map`.
///
/// # Errors
///
/// There is no such file, it is too large, or it is no text.
pub fn read_map(path: &Path) -> std::io::Result<String> {
    Ok(file::read(path)?.text)
}

/// Reads a password, without the line's end, from a file that a command names. The second value is `true` if every user of the machine
/// may read or change the file.
///
/// # Errors
///
/// There is no such file, it is too large, or it is no text.
pub fn read_password(path: &Path) -> std::io::Result<(Secret, bool)> {
    let content = file::read(path)?;
    Ok((Secret::new(content.text.trim_end_matches(['\r', '\n'])), content.is_exposed))
}

/// Content of the file; without a file it is empty.
fn content_of(path: Option<&Path>) -> Result<file::FileContent, Problems> {
    let Some(path) = path else { return Ok(file::FileContent { text: String::new(), is_exposed: false }) };
    file::read_config(path).map_err(|error| {
        let key = path.display().to_string();
        let hint = "name an existing file with --config".to_owned();
        Problems::new(vec![ConfigProblem { key, found: format!("no readable file ({error})"), hint }])
    })
}

/// The result of `take` over file and environment, if nothing is wrong.
fn read_file<T>(
    path: Option<&Path>,
    environment: &Strings,
    take: impl FnOnce(&mut Reader) -> Option<T>,
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
    take: impl FnOnce(&mut Reader) -> Option<T>,
) -> Result<T, Problems> {
    let table = given.text.parse::<toml::Table>().map_err(|error| syntax_problem(given.text, &error))?;
    let mut reader = Reader::new(&KEYS, TABLES, table, given.folder);
    reader.take_environment(environment);
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

/// The problem with line and column. The library's own drawing quotes the line, and a line may hold a secret.
fn syntax_problem(text: &str, error: &toml::de::Error) -> Problems {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let key = format!("line {line}, column {column}");
    let hint = format!("this is not TOML: {}", error.message());
    Problems::new(vec![ConfigProblem { key, found: "a syntax error".to_owned(), hint }])
}

/// The user who called `sudo`, where this process was started by it.
pub fn sudo_user() -> Option<String> {
    std::env::var_os("SUDO_USER").map(|name| name.to_string_lossy().into_owned())
}

/// The variables of this process that are meant for the bridge. Text that is not UTF-8 is kept in a form that [`Config::load`]
/// refuses.
pub fn process_environment() -> Strings {
    std::env::vars_os()
        .map(|(name, text)| (name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}
