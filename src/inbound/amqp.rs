//! The queue's door: a frame from RabbitMQ becomes a delivery, and is acknowledged once it is on disk.
//!
//! The sender behind a queue cannot be told what is wrong, so what is no event is parked with its bytes and
//! acknowledged: a poisoned frame blocks nobody. While the store is away nothing is acknowledged and nothing is
//! thrown back; the frames wait here, bounded by the prefetch.
//!
//! Before: [`crate::broker`]. After: [`crate::inbound`].

use super::signature::Verified;
use super::{Delivery, Inbox};
use crate::broker::{Frame, Intake, Taken};
use crate::metrics::Door;

/// Takes frames into the inbox.
pub struct Frames {
    /// The path behind the door.
    pub inbox: Inbox,
    /// `amqp.source`.
    pub source: String,
}

impl Intake for Frames {
    async fn take(&self, frame: Frame) -> Taken {
        let delivery = Delivery {
            door: Door::Amqp,
            source: self.source.clone(),
            content_type: frame.content_type,
            headers: frame.headers,
            body: frame.body,
            received_at: self.inbox.clock.now(),
        };
        match self.inbox.accept_or_park(Verified::by_broker(delivery)).await {
            Ok(()) => Taken::Stored,
            Err(error) => {
                tracing::debug!(%error, "a frame waits: the store did not take it");
                Taken::NotNow
            }
        }
    }
}
