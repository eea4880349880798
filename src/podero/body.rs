//! A request's body that is not written once its claim's time is over.
//!
//! The client checks the time before a call; but a process may be stopped between that check and the write (SIGSTOP, a machine
//! that is frozen or moved). It may go on when another replica has the claim, has looked, and is about to make the same thing.
//! So the time is checked once more when the connection asks for the bytes, immediately before it writes them. Without its body
//! a server cannot carry a create out. This file never sends anything.
//!
//! Before: [`crate::podero`] builds the request. After: the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::clock::Clock;
use crate::domain::Timestamp;

/// The time until which one call may leave; it knows whether it kept a body back, and so do its clones.
#[derive(Clone)]
pub(super) struct Deadline {
    until: Timestamp,
    clock: Clock,
    has_struck: Arc<AtomicBool>,
}

impl Deadline {
    pub(super) fn new(until: Timestamp, clock: Clock) -> Self {
        Self { until, clock, has_struck: Arc::default() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.clock.now() >= self.until
    }

    /// `true` when a guarded body was kept back: its request was not carried out.
    pub(super) fn struck(&self) -> bool {
        self.has_struck.load(Ordering::Acquire)
    }

    /// A body that is written whole and in time, or not at all. Its length is known in advance.
    pub(super) fn guard(&self, text: String) -> reqwest::Body {
        reqwest::Body::wrap(Guarded { deadline: self.clone(), left: Some(Bytes::from(text)) })
    }
}

struct Guarded {
    deadline: Deadline,
    left: Option<Bytes>,
}

/// The error of a body that is kept back.
#[derive(Debug, thiserror::Error)]
#[error("the claim's time was over")]
struct Over;

impl Body for Guarded {
    type Data = Bytes;
    type Error = Over;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        if self.left.is_some() && self.deadline.is_over() {
            self.deadline.has_struck.store(true, Ordering::Release);
            return Poll::Ready(Some(Err(Over)));
        }
        Poll::Ready(self.left.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.left.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Posts a guarded request to a server that answers at once: the text that it received, and whether the client had an
    /// answer.
    async fn post(deadline: &Deadline) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut received = Vec::new();
            while !received.ends_with(b"{\"a\":1}") && stream.read_buf(&mut received).await.is_ok_and(|count| count > 0)
            {
            }
            stream.write_all(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n").await.ok();
            String::from_utf8(received).expect("text")
        });
        let request = reqwest::Client::new().post(url).body(deadline.guard("{\"a\":1}".to_owned()));
        let is_answered = request.send().await.is_ok();
        (server.await.expect("ran"), is_answered)
    }

    #[tokio::test]
    async fn in_time_it_is_written_whole_with_its_length() {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let deadline = Deadline::new(Timestamp::from_micros(1), clock);
        let (received, is_answered) = post(&deadline).await;
        assert!(is_answered && !deadline.struck());
        assert!(received.ends_with("\r\n\r\n{\"a\":1}"), "{received}");
        assert!(received.contains("content-length: 7") && !received.contains("chunked"), "{received}");
    }

    #[tokio::test]
    async fn once_the_time_is_over_no_byte_of_it_is_written() {
        let clock = Clock::manual(Timestamp::from_micros(0), 1);
        let deadline = Deadline::new(Timestamp::from_micros(1_000_000), clock.clone());
        // Stands for a process that was stopped after its last look at the time.
        clock.advance(Duration::from_secs(1));
        let (received, is_answered) = post(&deadline).await;
        assert!(!is_answered && deadline.struck());
        assert!(!received.contains("{\"a\""), "{received}");
    }
}
