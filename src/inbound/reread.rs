//! Reads unreadable messages again: with the mapping, the sources and the bounds of now, as on their arrival.
//!
//! A retry leaves only the store's rows: the caller has gone, and may have been a command without a bridge. A message counts
//! from its arrival, which orders an event that has no time of its own. Headers that may hold secrets were not kept, and are
//! not needed: the sender was proven then.
//!
//! Before: [`crate::store`] has the messages. After: [`crate::store`] has the events, or the problems of now.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::Value;

use super::cloudevents::Items;
use super::delivery::Delivery;
use super::held::{HeldMessage, Ids, ParkCause};
use super::inbox::{Inbox, Rejected, kind_of};
use super::signature::Verified;
use crate::broker::Properties;
use crate::domain::event::Transport;
use crate::metrics::Outcome;
use crate::problem::ProblemKind;
use crate::pump::{Step, failed};
use crate::store::{self, Arrival, ReadAgain, Receipt, UnreadMessage};

/// Limit of the messages that are loaded at once: each has as many bytes as a body may have.
const AT_ONCE: i64 = 8;

/// The envelope of a message as [`HeldMessage::parked`] keeps it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Beside {
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
    message_id: Option<String>,
    routing_key: Option<String>,
    properties: Kept,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kept {
    exchange: Option<String>,
    #[serde(flatten)]
    properties: Properties,
}

impl Inbox {
    /// Reads some of the messages that wait to be read again, by the same path as new ones.
    pub async fn reread_step(&self) -> Step {
        match self.reread().await {
            Ok(true) => Step::Busy,
            Ok(false) => Step::Idle,
            Err(error) => failed!(error, "parked messages could not be read again"),
        }
    }

    /// Reads some of the messages that wait to be read again; `true` if any came to an end. A message that cannot be read for
    /// now, since no worker for its mapping starts, waits. An error is one of the store; other messages have had their turn.
    pub async fn reread(&self) -> Result<bool, store::Error> {
        let mut failed = None;
        let mut has_ended = false;
        for message in self.store.unread(AT_ONCE).await? {
            match self.reread_one(&message).await {
                Ok(ended) => has_ended |= ended,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(has_ended), Err)
    }

    async fn reread_one(&self, message: &UnreadMessage) -> Result<bool, store::Error> {
        let held = held(message);
        let read = AssertUnwindSafe(self.judge_again(&held)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(event.id = %message.id, "the bridge failed over a message that it read again; it is parked");
            Some(read_again(Items::batch(Vec::new()), Some(ParkCause::panicked())))
        });
        let Some(read) = read else { return Ok(false) };
        let kinds: Vec<_> = read.arrivals.iter().map(kind_of).collect();
        let Some(reread) = self.store.settle_unread(message, read).await? else { return Ok(false) };
        for (receipt, kind) in reread.receipts.iter().zip(kinds) {
            self.count(held.verified.delivery(), kind, receipt);
        }
        if reread.is_parked {
            self.metrics.event_settled(None, Outcome::Parked);
            self.backlog.parked();
        }
        let made = reread.receipts.iter().filter(|receipt| matches!(receipt, Receipt::Accepted { .. })).count();
        tracing::info!(event = %message.id, made, is_parked = reread.is_parked, "a parked message was read again");
        Ok(true)
    }

    /// Judges a message; `None`: not now.
    async fn judge_again(&self, held: &HeldMessage) -> Option<ReadAgain> {
        match self.judge(held).await {
            Ok(items) => Some(read_again(items, None)),
            Err(Rejected::Refused(problem)) if problem.kind == ProblemKind::Unavailable => None,
            Err(rejected) => Some(read_again(Items::batch(Vec::new()), Some(rejected.into()))),
        }
    }
}

/// The result of reading a message: its items, or the reason why it has none.
fn read_again(items: Items<Arrival>, cause: Option<ParkCause>) -> ReadAgain {
    let is_single = !items.is_batch;
    let (mut arrivals, mut problems) = (Vec::new(), Vec::new());
    for item in items.items {
        match item {
            Ok(arrival) => arrivals.push(arrival),
            Err(problem) => problems.push(problem),
        }
    }
    let cause = cause.or_else(|| (!problems.is_empty()).then(|| ParkCause::of(&problems)));
    ReadAgain { arrivals, problem: cause.map(|ParkCause { reason, detail }| (reason, detail)), is_single }
}

/// The message as it was held when it came.
fn held(message: &UnreadMessage) -> HeldMessage {
    // An empty envelope, or one by another version, is read without the missing parts.
    let beside: Value = serde_json::from_str(&message.envelope).unwrap_or_default();
    let beside: Beside = serde_json::from_value(beside).unwrap_or_default();
    let transport = if message.transport == Transport::Amqp.name() { Transport::Amqp } else { Transport::Http };
    let delivery = Delivery {
        transport,
        source: message.source.clone(),
        content_type: beside.content_type,
        headers: beside.headers,
        body: message.body.clone(),
        received_at: message.received_at,
    };
    HeldMessage {
        verified: Verified::unchecked(delivery),
        ids: Ids::of_known(message.id),
        message_id: beside.message_id,
        exchange: beside.properties.exchange.unwrap_or_default(),
        routing_key: beside.routing_key.unwrap_or_default(),
        properties: beside.properties.properties,
        is_redelivered: true,
    }
}
