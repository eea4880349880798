//! `erase CUSTOMER_ID`, or `erase --member MEMBER_ID`: removes a person's data from every table, leaving a tombstone.
//!
//! It prints what prevents the erasure and how to resolve it, and never the erased data. It does not touch Podero: a
//! customer who is active there must be churned first.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use anyhow::anyhow;
use serde_json::json;

use super::actor;
use super::arguments::EraseArguments;
use super::error::CliError;
use super::open::{load_store, open_with_key};
use super::output::{print_json, say, say_error};
use crate::domain::EventId;
use crate::domain::event::EventState;
use crate::store::InTheWay;

/// Erases one customer, and the messages that mention them.
pub(super) async fn run(erase: EraseArguments) -> Result<(), CliError> {
    let opened = open_with_key(&load_store(erase.at.config.as_deref(), true)?).await?;
    let messages: Vec<_> = erase.messages.into_iter().map(EventId).collect();
    let by = actor::of_process();
    let result = match (&erase.customer_id, &erase.member) {
        (_, Some(member)) => opened.store.erase_member(member, &messages, erase.force, &by).await,
        (Some(customer), None) => opened.store.erase(customer.as_str(), &messages, erase.force, &by).await,
        (None, None) => return Err(CliError::Usage("name a customer, or a member by --member".to_owned())),
    };
    // The erasure is committed; a failure from here on does not undo it.
    let scrubbed = if matches!(result, Ok(Ok(_))) { opened.store.scrub().await } else { Ok(true) };
    opened.close().await;
    let erased = match result? {
        Ok(erased) => erased,
        Err(found) => return Err(anyhow!("nothing was erased:\n{}", what_to_do(&found)).into()),
    };
    let is_clean = matches!(scrubbed, Ok(true));
    if let Err(error) = scrubbed {
        say_error(&format!("podero-bridge: the store's log (FILE-wal) could not be emptied: {error}"));
    }
    if erase.at.json {
        return Ok(print_json(&json!({ "erased": erased, "is_log_clean": is_clean }))?);
    }
    say(&format!(
        "erased: {} events, {} messages, {} outgoing events, {} heat pumps; a tombstone stays",
        erased.events, erased.messages, erased.notices, erased.heat_pumps
    ));
    for id in &erased.mentions {
        say(&format!(
            "message {id} has the id in it and was not touched: look at it (`events show {id}`), and if it is about the \
             customer, erase again with --message {id}"
        ));
    }
    say("not touched: Podero, backups, logs, and what was published; see docs/OPERATIONS.md, Personal data");
    if !is_clean {
        say(
            "the erasure stands, but the store's log (FILE-wal) still holds old pages, since another process reads it; the \
             running bridge empties it as soon as it can, and a stop of the bridge does",
        );
    }
    Ok(())
}

fn what_to_do(found: &InTheWay) -> String {
    let mut lines = Vec::new();
    if found.is_claimed {
        lines.push(
            "- the bridge is working on an event of this person (or died over it): try again in a minute, with the bridge running; \
             --force does not help"
                .to_owned(),
        );
    }
    if found.is_unknown {
        lines.push("- nothing is known of this id: is it right? --force leaves a tombstone all the same".to_owned());
    }
    for id in &found.no_messages {
        lines.push(format!("- {id} is no message that never became an event. With --force it is left out"));
    }
    if found.is_active {
        lines.push(
            "- the person is active at Podero: send customer.churned, or team.member_left, first. With --force Podero keeps the user, and the \
             watch will come across it again"
                .to_owned(),
        );
    }
    for (state, count) in &found.unsettled {
        let advice = match state {
            EventState::Parked => "retry or skip them (`parked list`). With --force they are gone",
            EventState::Scheduled => {
                "they take effect later, such as the final deletion after churn.retention. With --force it never happens"
            }
            EventState::Pending
            | EventState::Waiting
            | EventState::Applied
            | EventState::Superseded
            | EventState::Skipped => "wait for their end. With --force they are gone without effect",
        };
        lines.push(format!("- {count} {state} events: {advice}"));
    }
    if found.unpublished > 0 {
        let count = found.unpublished;
        lines.push(format!(
            "- {count} outgoing events are not out: wait for them, unless where they go is no longer configured. With \
             --force nobody gets them"
        ));
    }
    if found.open_alerts > 0 {
        let count = found.open_alerts;
        lines.push(format!(
            "- {count} open alerts: they end with customer.churned. With --force nobody hears of their end"
        ));
    }
    lines.join("\n")
}
