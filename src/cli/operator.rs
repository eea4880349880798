//! `operator …`: people who use the admin API under a name and a password of their own, and their sessions at the console.
//!
//! A running bridge asks the store with each request, so each command counts at once. A password is read from a file, or typed
//! twice at the terminal, or comes on standard input; it is neither an argument nor a variable, which others could see.
//!
//! Before: [`crate::cli`]. After: [`crate::store`] keeps operators, with hashes by [`crate::password`].

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde_json::json;
use uuid::Uuid;

use super::actor;
use super::arguments::{OperatorCommand, StoreOptions};
use super::error::CliError;
use super::open::{open, open_desk};
use super::output::{print_json, say, say_error};
use super::table;
use crate::clock::Clock;
use crate::config::{Secret, read_password};
use crate::domain::identity::{LOGIN_LINK, Role};
use crate::password::{self, SALT_BYTES};
use crate::store::{Operator, OperatorChange, Removal};

/// The name of standard input among files.
const STDIN: &str = "-";

/// Limit of the bytes that are read from standard input: more than a password has.
const PASSWORD_BYTES_MAX: usize = 64 * 1024;

/// Runs a command about operators.
pub(super) async fn run(command: OperatorCommand) -> Result<(), CliError> {
    match command {
        OperatorCommand::Add { name, role, password_file, at } => add(&at, &name, role, password_file.as_deref()).await,
        OperatorCommand::List { at } => list(&at).await,
        OperatorCommand::Change { name, what, at } => {
            let hash = match what.password || what.password_file.is_some() {
                true => Some(new_hash(what.password_file.as_deref()).await?),
                false => None,
            };
            change(&at, &name, OperatorChange { role: what.role, password_hash: hash }).await
        }
        OperatorCommand::Remove { name, force, at } => remove(&at, &name, force).await,
        OperatorCommand::Sessions { at } => sessions(&at).await,
        OperatorCommand::EndSession { id, at } => end_session(&at, id).await,
    }
}

async fn add(at: &StoreOptions, name: &str, role: Role, file: Option<&Path>) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let added = async {
        let is_first = !opened.store.has_operators().await?;
        let taken = || anyhow!("there is an operator {name} already; `operator change` gives a role or a password");
        // Before a password is typed in vain.
        if opened.store.operator(name).await?.is_some() {
            opened.store.refuse_operator(name, &actor::of_process()).await?;
            return Err(taken().into());
        }
        let operator = Operator { role, password_hash: new_hash(file).await? };
        if !opened.store.add_operator(name, operator, &actor::of_process()).await? {
            return Err(taken().into());
        }
        Ok::<bool, CliError>(is_first)
    }
    .await;
    opened.close().await;
    let is_first = added?;
    if at.json {
        return Ok(print_json(&json!({ "name": name, "role": role }))?);
    }
    say(&format!("operator {name} was added, with the role {role}"));
    if is_first {
        say("from now on everything under /v1 wants a token or an operator's password");
    }
    Ok(())
}

async fn list(at: &StoreOptions) -> Result<(), CliError> {
    let view = open(at).await?;
    let operators = view.operators().await;
    view.close().await;
    let operators = operators?;
    if at.json {
        return Ok(print_json(&json!({ "operators": operators }))?);
    }
    if operators.is_empty() {
        say("there are no operators");
        return Ok(());
    }
    let rows: Vec<[String; 4]> = operators
        .into_iter()
        .map(|operator| {
            let (created, changed) = (operator.created_at.to_string(), operator.changed_at.to_string());
            [operator.name, operator.role.to_string(), created, changed]
        })
        .collect();
    table::print(["operator", "role", "added", "changed"], &rows);
    Ok(())
}

async fn change(at: &StoreOptions, name: &str, change: OperatorChange) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let (role, has_password) = (change.role, change.password_hash.is_some());
    let before = opened.store.change_operator(name, change, &actor::of_process()).await;
    let lacks_admin = opened.store.lacks_admin().await;
    opened.close().await;
    let before = before?.with_context(|| unknown(name))?;
    if before == Role::Admin && lacks_admin? {
        say_error(NO_ADMIN);
    }
    let role = role.unwrap_or(before);
    if at.json {
        return Ok(print_json(&json!({ "name": name, "role": role, "role_before": before }))?);
    }
    let with_password = if has_password { ", with another password" } else { "" };
    say(&format!("operator {name} has the role {role}, before {before}{with_password}"));
    Ok(())
}

async fn remove(at: &StoreOptions, name: &str, is_forced: bool) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let removed = opened.store.remove_operator(name, is_forced, &actor::of_process()).await;
    let lacks_admin = opened.store.lacks_admin().await;
    opened.close().await;
    let role = match removed? {
        Removal::Done(role) => {
            if role == Role::Admin && lacks_admin? {
                say_error(NO_ADMIN);
            }
            role
        }
        Removal::Forced(role) => {
            say_error(
                "no operator is left, and no bridge was started with a token: /v1 is open on loopback, to every program on the \
                 machine, with the role admin",
            );
            role
        }
        Removal::Unknown => return Err(anyhow!(unknown(name)).into()),
        Removal::Last => {
            let why = "is the last operator, and no bridge was started with a token: without them /v1 is open again on \
                       loopback, to every program on the machine, with the role admin; --force removes them all the same";
            return Err(anyhow!("{name} {why}").into());
        }
    };
    if at.json {
        return Ok(print_json(&json!({ "name": name, "role_before": role }))?);
    }
    say(&format!("operator {name} was removed, with the role {role}"));
    Ok(())
}

async fn sessions(at: &StoreOptions) -> Result<(), CliError> {
    let view = open(at).await?;
    let sessions = view.sessions(None).await;
    view.close().await;
    let sessions = sessions?;
    if at.json {
        return Ok(print_json(&json!({ "sessions": sessions }))?);
    }
    if sessions.is_empty() {
        say("no operator is logged in at the console");
        return Ok(());
    }
    let rows: Vec<[String; 5]> = sessions
        .into_iter()
        .map(|session| {
            let operator = session.operator.unwrap_or_else(|| format!("({LOGIN_LINK})"));
            let times = [session.created_at, session.seen_at, session.ends_at].map(|time| time.to_string());
            let [created, seen, ends] = times;
            [session.id.to_string(), operator, created, seen, ends]
        })
        .collect();
    table::print(["session", "operator", "login", "last seen", "ends at the latest"], &rows);
    Ok(())
}

async fn end_session(at: &StoreOptions, id: Uuid) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let ended = opened.store.revoke_session(id, &actor::of_process()).await;
    opened.close().await;
    if !ended? {
        return Err(anyhow!("no session that goes on has the id {id}; `operator sessions` has all").into());
    }
    if at.json {
        return Ok(print_json(&json!({ "id": id, "state": "ended" }))?);
    }
    say(&format!("session {id} was ended"));
    Ok(())
}

/// Said when the last caller with the role admin has lost it.
const NO_ADMIN: &str = "no admin is left, neither an operator nor a token that a bridge was started with: nobody retries or skips \
                        parked events at /v1 until `operator add` or `operator change --role admin`";

fn unknown(name: &str) -> String {
    format!("no operator has the name {name}; `operator list` has all")
}

/// The hash of a new password, which is read from a file or typed.
async fn new_hash(file: Option<&Path>) -> Result<String, CliError> {
    let password = match file {
        Some(path) if path == Path::new(STDIN) => blocking(from_stdin).await?,
        Some(path) => {
            let (password, is_exposed) =
                read_password(path).with_context(|| format!("{} cannot be read", path.display()))?;
            if is_exposed {
                let why =
                    "every user of the machine may read or change it; run `chmod o= FILE`, and choose another password";
                say_error(&format!("podero-bridge: {}: {why}", path.display()));
            }
            password
        }
        None => blocking(typed_twice).await?,
    };
    if let Some(flaw) = password::flaw(password.expose()) {
        return Err(CliError::Usage(flaw));
    }
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&Clock::system().fresh_secret()[..SALT_BYTES]);
    Ok(blocking(move || Ok(password::hash(password.expose(), salt)?)).await?)
}

/// The password on standard input, to its end.
fn from_stdin() -> anyhow::Result<Secret> {
    let mut text = String::new();
    let bytes_max = u64::try_from(PASSWORD_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::stdin().take(bytes_max).read_to_string(&mut text).context("standard input cannot be read")?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

fn typed_twice() -> anyhow::Result<Secret> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .context("no terminal to type a password; give it on standard input, with --password-file -")
    };
    let first = Secret::new(ask("Password: ")?);
    let again = Secret::new(ask("The same again: ")?);
    ensure!(first.expose() == again.expose(), "the two passwords differ; nothing was changed");
    Ok(first)
}

/// Runs what takes a while, apart from the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work broke off")?
}
