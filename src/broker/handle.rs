//! The handle by which notices are handed to the publishing connection.
//!
//! Before: [`super::outgoing`]. After: [`super::publisher`] sends them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::outgoing::{OutgoingNotice, Published};

/// Timeout from handing a notice in to its confirm. A quorum queue confirms in milliseconds, a loaded cluster in a second or
/// two; after the timeout the connection counts as dead and is made again.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// The way to the publisher, while one connection takes publishes.
#[derive(Clone)]
pub(super) struct PublishHandle {
    pub(super) requests: mpsc::Sender<Request>,
    /// Notified by a caller that waited too long.
    pub(super) overdue: Arc<Notify>,
}

/// A notice that is handed in, and the channel for its result.
pub(super) struct Request {
    pub(super) notice: OutgoingNotice,
    pub(super) answer: oneshot::Sender<Published>,
}

impl PublishHandle {
    pub(super) async fn publish(&self, notice: &OutgoingNotice) -> Published {
        let (answer, published) = oneshot::channel();
        let request = Request { notice: notice.clone(), answer };
        let asked = async {
            // Either end is gone exactly when the connection is.
            self.requests.send(request).await.ok()?;
            published.await.ok()
        };
        match timeout(CONFIRM_WITHIN, asked).await {
            Ok(published) => published.unwrap_or(Published::Lost),
            Err(_) => {
                self.overdue.notify_one();
                Published::Lost
            }
        }
    }
}
