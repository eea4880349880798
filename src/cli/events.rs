//! `events list`: events that are not done, with why each waits and when it is tried next. Prints no personal data.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use serde_json::json;

use super::arguments::{Events, StoreOptions};
use super::error::CliError;
use super::open::open;
use super::output::{print_json, say};
use super::show;
use super::table;
use crate::domain::Timestamp;
use crate::store::{OpenEvent, OpenFilter};

/// Runs a command about events.
pub(super) async fn run(command: Events) -> Result<(), CliError> {
    match command {
        Events::List { state, customer, after, limit, at } => {
            let customer = customer.map(|customer| customer.as_str().to_owned());
            list(&at, OpenFilter { state, customer, after, limit }).await
        }
        Events::Show { id, at } => show::event(&at, id).await,
    }
}

/// Lists a page of events that are not done, the longest-waiting first.
async fn list(at: &StoreOptions, filter: OpenFilter) -> Result<(), CliError> {
    let state = filter.state.name();
    let view = open(at).await?;
    let page = view.open_events(filter).await;
    view.close().await;
    let page = page?;
    let next = page.next.map(|next| next.to_string());
    if at.json {
        return Ok(print_json(&json!({ "events": page.events, "next": next }))?);
    }
    if page.events.is_empty() {
        say(&format!("no event is {state}"));
        return Ok(());
    }
    let rows: Vec<[String; 8]> = page.events.into_iter().map(row).collect();
    table::print(["event", "customer or member", "type", "since", "failures", "waits for", "why", "next try"], &rows);
    if let Some(next) = next {
        say(&format!("there are more: --after {next}"));
    }
    Ok(())
}

fn row(event: OpenEvent) -> [String; 8] {
    let person = table::person(event.customer_id.as_ref(), event.member_id.as_ref());
    let why = match (event.behind, event.reason, event.operation) {
        (Some(behind), _, _) => behind.to_string(),
        (None, Some(reason), Some(operation)) => format!("{reason}: {operation}"),
        (None, Some(reason), None) => reason,
        (None, None, _) => "-".to_owned(),
    };
    let next_try = event.next_try.map_or_else(|| "-".to_owned(), |at: Timestamp| at.to_string());
    let (since, failures) = (event.since.to_string(), event.failures.to_string());
    let (id, kind, waits_for) = (event.id.to_string(), event.kind.to_string(), event.waits_for.to_string());
    [id, person, kind, since, failures, waits_for, why, next_try]
}
