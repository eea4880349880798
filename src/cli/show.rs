//! `events show` and `customers show`: the timeline with every detail. Only these commands print personal data.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use anyhow::Context;
use uuid::Uuid;

use super::arguments::StoreOptions;
use super::error::CliError;
use super::open::open;
use super::output::{print_json, say};
use super::table::{self, or_dash};
use crate::domain::{CustomerId, EventId, Timestamp};
use crate::store::{CustomerView, EventSummary, EventView, NoticeView, OriginalBytes, PumpView};

/// Prints one event with its calls and original bytes.
pub(super) async fn event(at: &StoreOptions, id: Uuid) -> Result<(), CliError> {
    let view = open(at).await?;
    let event = view.event(EventId(id)).await;
    view.close().await;
    let event = event?.with_context(|| format!("no event has the id {id}"))?;
    if at.json {
        return Ok(print_json(&event)?);
    }
    describe(&event);
    Ok(())
}

/// Prints one customer with all that happened.
pub(super) async fn customer(at: &StoreOptions, id: &CustomerId) -> Result<(), CliError> {
    let view = open(at).await?;
    let customer = view.customer(id.as_str()).await;
    view.close().await;
    let customer = customer?.context("nothing was ever heard of this customer")?;
    if at.json {
        return Ok(print_json(&customer)?);
    }
    narrate(&customer);
    Ok(())
}

fn describe(view: &EventView) {
    let event = &view.event;
    let or_none = |moment: Option<Timestamp>| or_dash(moment.map(|moment| moment.to_string()).as_ref());
    let lines = [
        ("id", event.id.to_string()),
        match &event.member_id {
            Some(member) => ("member", member.clone()),
            None => ("customer", or_dash(event.customer_id.as_ref())),
        },
        ("type", event.kind.to_string()),
        ("state", event.state.to_string()),
        ("reason", or_dash(event.reason.as_ref())),
        ("detail", or_dash(event.detail.as_ref())),
        ("happened", event.time.to_string()),
        ("received", format!("{} by {} from source {}", event.received_at, event.transport, event.source)),
        ("identity", format!("{} {}", event.origin, event.origin_id)),
        ("due", event.due_at.to_string()),
        ("settled", or_none(event.settled_at)),
        ("failures", event.failures.to_string()),
    ];
    for (name, value) in lines {
        say(&format!("{name:<9} {}", table::plain(&value)));
    }
    say("");
    let rows: Vec<[String; 4]> = view
        .calls
        .iter()
        .map(|call| [call.at.to_string(), call.operation.clone(), call.outcome.clone(), format!("{} ms", call.took_ms)])
        .collect();
    table::print(["call", "operation", "outcome", "took"], &rows);
    say("");
    let Some(OriginalBytes { envelope, raw, raw_encoding }) = &view.original else { return };
    if let Some(envelope) = envelope {
        say("envelope:");
        say(&table::plain(&serde_json::to_string_pretty(envelope).unwrap_or_default()));
        say("");
    }
    say(&format!("original bytes ({raw_encoding}):"));
    say(&table::plain(raw));
}

fn narrate(customer: &CustomerView) {
    say(&format!("customer {}", table::plain(&customer.card.customer_id)));
    say(&table::plain(&serde_json::to_string_pretty(&customer.card.state).unwrap_or_default()));
    say("");
    let events: Vec<[String; 5]> = customer.events.iter().map(event_row).collect();
    table::print(["happened", "event", "type", "state", "reason"], &events);
    say("");
    let notices: Vec<[String; 5]> = customer.notices.iter().map(notice_row).collect();
    table::print(["created", "outgoing event", "type", "target", "state"], &notices);
    say("");
    let pumps: Vec<[String; 5]> = customer.card.heat_pumps.iter().map(pump_row).collect();
    table::print(["heat pump", "building", "state", "checked", "alert since"], &pumps);
}

fn event_row(event: &EventSummary) -> [String; 5] {
    let (id, kind, state) = (event.id.to_string(), event.kind.to_string(), event.state.to_string());
    [event.time.to_string(), id, kind, state, or_dash(event.reason.as_ref())]
}

fn notice_row(notice: &NoticeView) -> [String; 5] {
    let (topic, target) = (notice.topic.clone(), notice.target.clone());
    [notice.created_at.to_string(), notice.id.to_string(), topic, target, notice.state.to_string()]
}

fn pump_row(pump: &PumpView) -> [String; 5] {
    let alert = pump.alert.as_ref().map_or_else(|| "-".to_owned(), |alert| alert.since.to_string());
    let building = or_dash(pump.building_id.as_ref());
    [pump.heat_pump_id.clone(), building, pump.state.clone(), pump.checked_at.to_string(), alert]
}
