//! `team list` and `team review`: the utility's own team, as the bridge knows it and as Podero has it. Prints ids and states, no names
//! and no addresses.
//!
//! Both read the store alone: the list of the staff at Podero is the one that the running bridge read last.
//!
//! Before: [`crate::cli`]. After: [`crate::domain::team`], by [`crate::store`].

use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;

use super::arguments::{StoreOptions, TeamCommand};
use super::error::CliError;
use super::open::open;
use super::output::{print_json, say};
use super::table::{self, or_dash};
use crate::clock::Clock;
use crate::config::{Config, process_environment};
use crate::domain::Timestamp;
use crate::domain::team::{KnownMember, ReviewRow, StaffList, TeamRow, review, team_rows};
use crate::store::is_cut;

/// Runs a command about the team.
pub(super) async fn run(command: TeamCommand) -> Result<(), CliError> {
    match command {
        TeamCommand::List { at } => list(&at).await,
        TeamCommand::Review { inactive_days, at } => reviewed(&at, inactive_days).await,
    }
}

async fn read(at: &StoreOptions) -> Result<(Vec<KnownMember>, Option<StaffList>), CliError> {
    let view = open(at).await?;
    let (known, list) = (view.members().await, view.staff().await);
    view.close().await;
    Ok((known?, list?))
}

async fn list(at: &StoreOptions) -> Result<(), CliError> {
    let (known, staff) = read(at).await?;
    let rows = team_rows(&known, staff.as_ref());
    if at.json {
        let listed_at = asked_at(staff.as_ref());
        return Ok(print_json(&json!({ "listed_at": listed_at, "members": rows, "is_cut": is_cut(&known) }))?);
    }
    let rows: Vec<[String; 8]> = rows.iter().map(row).collect();
    table::print(["member", "Podero user", "role", "origin", "state", "last login", "expires", "parked"], &rows);
    say_cut(&known);
    say_age(staff.as_ref());
    Ok(())
}

async fn reviewed(at: &StoreOptions, inactive_days: u32) -> Result<(), CliError> {
    let policy = Config::load_team(at.config.as_deref(), &process_environment()).map_err(CliError::configuration)?;
    let (known, staff) = read(at).await?;
    let inactive_after = Duration::from_secs(u64::from(inactive_days) * 86_400);
    let found = review(&known, staff.as_ref(), &policy, inactive_after, Clock::system().now());
    if at.json {
        let listed_at = asked_at(staff.as_ref());
        print_json(&json!({ "listed_at": listed_at, "findings": found, "is_cut": is_cut(&known) }))?;
        return compared(staff.as_ref());
    }
    if !found.is_empty() {
        let rows: Vec<[String; 4]> = found.iter().map(finding).collect();
        table::print(["finding", "member", "Podero user", "detail"], &rows);
    } else if staff.is_some() {
        say("nothing was found");
    }
    say_cut(&known);
    say_age(staff.as_ref());
    compared(staff.as_ref())
}

/// A review without a list of the staff is none.
fn compared(staff: Option<&StaffList>) -> Result<(), CliError> {
    match staff {
        Some(_) => Ok(()),
        None => Err(anyhow!("the team was not compared with Podero: there is no list of its staff").into()),
    }
}

fn asked_at(staff: Option<&StaffList>) -> Option<Timestamp> {
    staff.map(|list| list.asked_at)
}

fn say_cut(known: &[KnownMember]) {
    if is_cut(known) {
        say("the store has more members than are looked at: those beyond may be shown as unknown to the bridge");
    }
}

fn say_age(staff: Option<&StaffList>) {
    match staff {
        Some(list) => say(&format!("Podero's list of the staff is of {}", list.asked_at)),
        None => say(
            "there is no list of Podero's staff: a running bridge reads one while team.enabled is on, also after an erasure",
        ),
    }
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

fn row(row: &TeamRow) -> [String; 8] {
    [
        or_dash(row.member_id.as_ref()),
        or_dash(row.podero_user_id.map(|id| id.to_string()).as_ref()),
        or_dash(row.role.map(|role| role.to_string()).as_ref()),
        row.origin.to_string(),
        row.state.to_string(),
        moment(row.last_login),
        moment(row.expires_at),
        row.parked.to_string(),
    ]
}

fn finding(row: &ReviewRow) -> [String; 4] {
    let user = or_dash(row.podero_user_id.map(|id| id.to_string()).as_ref());
    [row.finding.to_string(), or_dash(row.member_id.as_ref()), user, row.detail.clone()]
}
