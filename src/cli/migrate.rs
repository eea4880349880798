//! `migrate`: makes the tables of the store, or brings them up to date.
//!
//! For a bridge whose role of PostgreSQL has no right to change tables: another role owns them and runs this before the first
//! start, and before the first start of a new version.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::path::Path;

use anyhow::Context;

use super::actor;
use super::error::CliError;
use super::open::{load_store, open_configured};
use super::output::say;
use crate::clock::Clock;
use crate::store::{Migrated, migrate};

/// Brings the schema up to date and says from where to where.
pub(super) async fn run(config: Option<&Path>) -> Result<(), CliError> {
    let at = load_store(config, false)?;
    let (by, clock) = (actor::of_process(), Clock::system());
    let migrated = migrate(at.url.expose(), &by, &clock).await;
    let Migrated { found, known } = migrated.context("the schema was not brought up to date")?;
    if found != known {
        // The migration has a row of the audit log, which is sealed with the end of the command.
        open_configured(&at).await?.close().await;
    }
    say(&match found {
        0 => format!("ok      schema {known}, made"),
        found if found == known => format!("ok      schema {known}, as before"),
        found => format!("ok      schema {known}, from {found}"),
    });
    Ok(())
}
