//! `audit list|export|verify`: the audit log for a person, for other systems, and its proof.
//!
//! An export writes a row of its own before it writes the first line. It is sealed with the end of the command.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::actor;
use super::arguments::{AuditCommand, AuditExportArguments, AuditFilterArguments, StoreOptions};
use super::error::CliError;
use super::open::{open, open_desk};
use super::output::{print_json, say, say_error};
use super::table::{self, or_dash};
use crate::domain::Timestamp;
use crate::domain::audit::AuditReason;
use crate::domain::chain::ChainHead;
use crate::store::{AuditFilter, AuditRecord, Desk, StoreView};

/// Limit of the characters of a change in a table.
const CHANGE_CHARS_MAX: usize = 180;

/// Runs a command about the audit log.
pub(super) async fn run(command: AuditCommand) -> Result<(), CliError> {
    match command {
        AuditCommand::List { filter, after, limit, at } => {
            list(&at, &filter.into(), after.map(|id| id.to_string()).as_deref(), limit).await
        }
        AuditCommand::Export(export) => run_export(export).await,
        AuditCommand::Verify { head, at } => verify(&at, head).await,
    }
}

impl From<AuditFilterArguments> for AuditFilter {
    fn from(filter: AuditFilterArguments) -> Self {
        let AuditFilterArguments { actor, action, target, since, until } = filter;
        Self { actor, action, target, since, until }
    }
}

async fn list(at: &StoreOptions, filter: &AuditFilter, after: Option<&str>, limit: i64) -> Result<(), CliError> {
    let view = open(at).await?;
    let page = view.audit_page(filter, after, limit).await;
    view.close().await;
    let page = page?;
    if at.json {
        return Ok(print_json(&json!({ "audit": page.records, "next": page.next }))?);
    }
    let rows: Vec<[String; 8]> = page.records.iter().map(row).collect();
    table::print(["at", "actor", "action", "target", "outcome", "reason", "change", "id"], &rows);
    if let Some(next) = page.next {
        say(&format!("there are more: --after {next}"));
    }
    Ok(())
}

fn row(record: &AuditRecord) -> [String; 8] {
    let target = record.target_id.as_deref().unwrap_or("(erased)");
    let change = match (&record.was, &record.became) {
        (None, None) => "-".to_owned(),
        (from, to) => shortened(format!("{} -> {}", or_dash(from.as_ref()), or_dash(to.as_ref()))),
    };
    [
        record.at.to_string(),
        record.actor.clone(),
        record.action.clone(),
        format!("{} {target}", record.target_kind),
        record.outcome.clone(),
        or_dash(record.reason.as_ref()),
        change,
        record.id.clone(),
    ]
}

/// Two heads have room; the rows that an erasure emptied may be many. `--json` has them all.
fn shortened(change: String) -> String {
    match change.char_indices().nth(CHANGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &change[..end]),
        None => change,
    }
}

async fn run_export(request: AuditExportArguments) -> Result<(), CliError> {
    let opened = open_desk(&request.at).await?;
    let exported = export(&opened.store, request).await;
    opened.close().await;
    let (count, head, unsealed) = exported?;
    say_error(&format!("{count} rows; head {head}"));
    if unsealed > 0 {
        say_error(&format!("{unsealed} rows are not sealed yet, and not among them"));
    }
    Ok(())
}

/// Writes the sealed rows of a filter. Returns their number, the head of the chain, and the number of rows that are not sealed.
async fn export(store: &Desk, request: AuditExportArguments) -> anyhow::Result<(u64, ChainHead, u64)> {
    let AuditExportArguments { format, output, filter, at: _ } = request;
    let mut out: Box<dyn Write + Send> = match &output {
        None => Box::new(std::io::stdout()),
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            if file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
                let told = store.refuse_export(&actor::of_process(), AuditReason::Exists).await;
                told.unwrap_or_else(|error| say_error(&format!("the refusal has no row in the audit log: {error}")));
            }
            Box::new(BufWriter::new(file.with_context(|| path.display().to_string())?))
        }
    };
    let export = store.export_audit(filter.into(), &actor::of_process()).await;
    let mut export = export.context("nothing was exported")?;
    let mut write = |text: String| out.write_all(text.as_bytes()).context("the export cannot be written");
    write(format.opening())?;
    let mut count = 0;
    while let Some(rows) = export.next().await? {
        for row in &rows {
            write(format.line(row, env!("CARGO_PKG_VERSION")))?;
            count += 1;
        }
    }
    write(format.closing(&export, env!("CARGO_PKG_VERSION")))?;
    out.flush().context("the export cannot be written")?;
    Ok((count, export.head(), store.audit_unsealed().await?))
}

async fn verify(at: &StoreOptions, head: Option<ChainHead>) -> Result<(), CliError> {
    let view: StoreView = open(at).await?;
    let check = view.verify_audit(head).await;
    view.close().await;
    let check = check?;
    let why = check.broken.as_ref().map(ToString::to_string);
    if at.json {
        print_json(&json!({ "check": check, "why": why }))?;
    } else if why.is_none() {
        let or_none = |at: Option<Timestamp>| at.map_or("none".to_owned(), |at| at.to_string());
        say(&format!("ok      {} rows, head {}", check.head.count - check.first.count, check.head));
        say(&format!("        the oldest row: {}", or_none(check.oldest)));
        if check.first.count > 0 {
            say(&format!(
                "        the {} rows before it were removed by audit.retention, whose newest row is of {}",
                check.first.count,
                or_none(check.trimmed_at)
            ));
        }
        match head {
            None => say("        without --head, a chain that was cut off or made again as a whole does not show"),
            Some(head) if check.is_head_trimmed => say(&format!(
                "        the head that was given proves nothing any more: audit.retention removed its row, number {}",
                head.count
            )),
            Some(_) => {}
        }
    }
    if !at.json && check.unsealed > 0 {
        say(&format!("        {} rows are not sealed yet, and not proven", check.unsealed));
    }
    why.map_or(Ok(()), |why| Err(anyhow!("the audit log is not as it was sealed: {why}").into()))
}
