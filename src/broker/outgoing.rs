//! One notice as it goes out, and the result of its publish.
//!
//! Before: [`crate::outbound`]. After: [`super::publisher`] sends it.

/// One notice as it goes onto the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingNotice {
    /// The `message_id`: the same on every repetition.
    pub id: String,
    /// The notice's topic.
    pub routing_key: String,
    /// Property `content_type`.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
}

/// The result of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The broker has it on every queue to which it was routed, and there was at least one.
    Confirmed,
    /// No queue is bound for it: the broker returned it.
    Returned,
    /// The broker refused it (a full queue that rejects publishes, an internal error).
    Nacked,
    /// There was no connection, or it was lost before the confirm: the notice may or may not be on the broker.
    Lost,
}

/// Sends notices.
pub trait Publish: Send + Sync {
    /// `true` if there is a connection to publish on. A hint: it may be gone a moment later.
    fn is_open(&self) -> bool {
        true
    }

    /// Publishes once, and answers within a bounded time. Repeating is the caller's decision. Dropping the future does
    /// not take the publish back.
    fn publish(&self, notice: &OutgoingNotice) -> impl Future<Output = Published> + Send;
}
