//! Messages from RabbitMQ: each frame becomes a delivery, and is acknowledged once it is on disk.
//!
//! No answer reaches the sender behind a queue, so an unreadable message is parked with its bytes and acknowledged: it does not
//! block those behind it. While the store is away nothing is acknowledged and nothing is thrown back; the frames wait here,
//! bounded by the prefetch.
//!
//! Before: [`crate::broker`]. After: [`crate::inbound`].

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::delivery::{CONTENT_ENCODING, Delivery};
use super::held::{HeldMessage, Ids};
use super::inbox::Inbox;
use super::signature::Verified;
use super::text;
use crate::broker::{Frame, Intake, IntakeResult};
use crate::domain::event::Transport;
use crate::permits::Permits;

/// Takes frames into the inbox.
pub struct Frames {
    /// Accepts or parks the messages.
    pub inbox: Inbox,
    /// `amqp.source`.
    pub source: String,
    /// The permits of the applier: while they are saturated the broker keeps its messages for a moment.
    pub appliers: Permits,
}

impl Intake for Frames {
    type Held = HeldMessage;

    /// Sets time and ids here, once: events without a `time` keep the order in which they came, however often and in whatever
    /// order they are offered.
    fn hold(&self, frame: Frame) -> HeldMessage {
        let clock = &self.inbox.clock;
        let ids = Ids::default();
        ids.of_item(0, clock);
        let mut headers = frame.headers;
        if let Some(coding) = frame.content_encoding {
            headers.retain(|name, _| !name.eq_ignore_ascii_case(CONTENT_ENCODING));
            headers.insert(CONTENT_ENCODING.to_owned(), coding);
        }
        let verified = Verified::unchecked(Delivery {
            transport: Transport::Amqp,
            source: self.source.clone(),
            content_type: frame.content_type,
            headers,
            body: frame.body,
            received_at: clock.now(),
        });
        // Also for a message that is parked: an operator reads its text, and an erasure finds a customer in it. Bytes that
        // cannot be unpacked stay as they came, and their reader gives the reason.
        let plain = text::plain(&verified, self.inbox.body_bytes_max).ok().flatten();
        let verified = plain.unwrap_or(verified);
        let Frame { message_id, exchange, routing_key, properties, .. } = frame;
        HeldMessage { verified, ids, message_id, exchange, routing_key, properties, is_redelivered: frame.redelivered }
    }

    fn is_saturated(&self) -> bool {
        self.appliers.is_saturated()
    }

    async fn offer(&self, held: &HeldMessage) -> IntakeResult {
        // A failure even over parking it must not end the process: the broker keeps the message.
        let Ok(taken) = AssertUnwindSafe(self.inbox.accept_or_park(held)).catch_unwind().await else {
            tracing::error!("the bridge failed over parking a message from the queue; it stays there");
            return IntakeResult::NotNow;
        };
        match taken {
            Ok(()) => IntakeResult::Stored,
            Err(error) => {
                tracing::debug!(%error, "a frame waits: the store did not take it");
                IntakeResult::NotNow
            }
        }
    }
}
