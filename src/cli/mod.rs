//! One small file per command; each a thin caller of the parts below.
//!
//! Exit status: 0 success, 1 failure, 64 bad usage or configuration (`EX_USAGE` of sysexits.h), with every problem
//! named at once; 70 when the end took too long, 128 plus the number of the signal that was the second to ask for it.
//!
//! Before: [`crate`]'s `main`. After: [`crate::app`].

mod actor;
mod arguments;
mod audit;
mod backup;
mod check;
mod demo;
mod erase;
mod error;
mod events;
mod explain;
mod import;
mod map;
mod migrate;
mod open;
mod operator;
mod output;
mod parked;
mod sandbox;
mod serve;
mod show;
mod signals;
mod table;
mod team;
mod test;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::config::{self, Config, process_environment};
use crate::inbound::mapping;
use crate::inbound::mapping::mapper::COMMAND;
use crate::telemetry;
use arguments::{Command, Customers};
use error::CliError;

/// Limit of the wait for the runtime's threads, at the end of a command. A thread may be stuck in a file system that does not
/// answer; the command needs its work no more.
const THREADS_TIME_MAX: Duration = Duration::from_secs(1);

/// Says whether the arguments are those of a worker for mappings.
pub fn is_worker() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND)
}

/// Runs the command in a runtime of its own. Waits for its threads, but not for long.
pub fn main() -> ExitCode {
    let runtime = match Runtime::new().context("no runtime") {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(error.into())),
    };
    let status = ended(runtime.block_on(run()));
    runtime.shutdown_timeout(THREADS_TIME_MAX);
    telemetry::flush(signals::LAST_LINES_TIME_MAX);
    status
}

/// Works until standard input ends.
pub fn work() -> ExitCode {
    map::run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Prints the error, if there is one; the exit status.
fn ended(result: Result<(), CliError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    error.print();
    error.status()
}

/// Reads the arguments and runs the command.
async fn run() -> Result<(), CliError> {
    match arguments::read()? {
        Command::Serve { config, sandbox } => serve::run(load(config.as_deref(), sandbox)?, sandbox).await?,
        Command::Demo => demo::run().await?,
        Command::Sandbox { listen, seed } => sandbox::run(listen, seed).await?,
        Command::Check { config, offline } => check::run(load(config.as_deref(), false)?, offline).await?,
        Command::Parked(command) => parked::run(command).await?,
        Command::Events(command) => events::run(command).await?,
        Command::Customers(Customers::Show { customer_id, at }) => show::customer(&at, &customer_id).await?,
        Command::Operator(command) => operator::run(command).await?,
        Command::Team(command) => team::run(command).await?,
        Command::Erase(erase) => erase::run(erase).await?,
        // As with --sandbox: no account is needed, since nothing is sent.
        Command::Explain(explain) => explain::run(load(explain.config.as_deref(), true)?, explain).await?,
        Command::Test { dir } => test::run(&dir).await?,
        Command::Import(import) => import::run(&load_import(import.config.as_deref())?, import).await?,
        Command::Audit(command) => audit::run(command).await?,
        Command::Migrate { config } => migrate::run(config.as_deref()).await?,
        Command::Backup { file, config } => backup::run(config.as_deref(), &file).await?,
    }
    Ok(output::check_written()?)
}

fn load_import(path: Option<&Path>) -> Result<config::Import, CliError> {
    let config = Config::load_import(path, &process_environment()).map_err(CliError::configuration)?;
    check_mappings(&config.sources)?;
    Ok(config)
}

fn load(path: Option<&Path>, sandbox: bool) -> Result<Config, CliError> {
    let config = Config::load(path, &process_environment(), sandbox).map_err(CliError::configuration)?;
    check_mappings(&config.sources)?;
    Ok(config)
}

/// Fails unless every mapping can be compiled.
fn check_mappings(sources: &[config::Source]) -> Result<(), CliError> {
    let faults = mapping::check(sources);
    if faults.is_empty() { Ok(()) } else { Err(CliError::configuration(faults.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::arguments::{AuditCommand, OperatorCommand, Parked};
    use super::*;
    use crate::domain::audit::Action;
    use crate::domain::call::Operation;

    /// The acts that a command may carry out, each of which leaves a row of the audit log. A new command says its own here; that
    /// it leaves them is held by `tests/it/accountability.rs`.
    fn acts(command: &Command) -> &'static [Action] {
        match command {
            Command::Demo
            | Command::Sandbox { .. }
            | Command::Check { .. }
            | Command::Events(_)
            | Command::Customers(_)
            | Command::Team(_)
            | Command::Explain(_)
            | Command::Test { .. }
            | Command::Parked(Parked::List { .. } | Parked::Show { .. })
            | Command::Operator(OperatorCommand::List { .. } | OperatorCommand::Sessions { .. })
            | Command::Audit(AuditCommand::List { .. } | AuditCommand::Verify { .. }) => &[],
            Command::Serve { .. } => &[
                Action::StoreMigrate,
                Action::EventReceive,
                Action::TeamChange,
                Action::ScimChange,
                Action::RetryEnd,
                Action::AuditTrim,
                Action::TokenAdd,
                Action::TokenChange,
                Action::TokenRemove,
            ],
            Command::Parked(Parked::Retry(_)) => &[
                Action::EventRetry,
                Action::EventApprove,
                Action::RetryOrder,
                Action::RetryApprove,
                Action::RetryStop,
                Action::RetryEnd,
            ],
            Command::Parked(Parked::Stop { .. }) => &[Action::RetryStop],
            Command::Parked(Parked::Skip { .. }) => &[Action::EventSkip],
            Command::Operator(OperatorCommand::Add { .. }) => &[Action::OperatorAdd],
            Command::Operator(OperatorCommand::Change { .. }) => &[Action::OperatorChange],
            Command::Operator(OperatorCommand::Remove { .. }) => &[Action::OperatorRemove],
            Command::Operator(OperatorCommand::EndSession { .. }) => &[Action::SessionRevoke],
            Command::Erase(_) => &[Action::CustomerErase, Action::MemberErase],
            Command::Import(_) => &[Action::EventsImport, Action::EventReceive, Action::TeamChange],
            Command::Audit(AuditCommand::Export(_)) => &[Action::AuditExport],
            Command::Migrate { .. } => &[Action::StoreMigrate],
            Command::Backup { .. } => &[Action::StoreBackup],
        }
    }

    /// The acts that only the admin API, the console and the pages for owners of heat pumps carry out.
    const OF_ROUTES: [Action; 5] =
        [Action::LinkCreate, Action::LinkUse, Action::AccessUse, Action::SessionOpen, Action::SessionClose];

    #[test]
    fn every_action_is_of_a_command_a_route_or_a_call() {
        let words: [&[&str]; 19] = [
            &["serve"],
            &["check"],
            &["parked", "list"],
            &["parked", "retry", "--all"],
            &["parked", "stop", "01a208c1-30eb-77e5-80f8-81194b0303c0"],
            &["parked", "skip", "--all"],
            &["operator", "list"],
            &["operator", "add", "anna", "--role", "viewer"],
            &["operator", "change", "anna", "--role", "viewer"],
            &["operator", "remove", "anna"],
            &["operator", "end-session", "01a208c1-30eb-77e5-80f8-81194b0303c0"],
            &["erase", "C-1"],
            &["explain", "-"],
            &["import", "-"],
            &["audit", "list"],
            &["audit", "export"],
            &["audit", "verify"],
            &["migrate"],
            &["backup", "FILE"],
        ];
        let of_commands = words.iter().flat_map(|words| acts(&arguments::of(&[&["podero-bridge"], *words].concat())));
        let of_calls = Operation::ALL.into_iter().filter_map(Action::of_call);
        let known: BTreeSet<Action> = of_commands.copied().chain(of_calls).chain(OF_ROUTES).collect();
        assert_eq!(known, BTreeSet::from(Action::ALL));
    }
}
