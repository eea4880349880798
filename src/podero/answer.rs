//! Reads one answer off the wire, within its bound and within the memory that all answers share.
//!
//! A small answer takes no room from [`Pool`]. A larger one first takes room for its whole bound, so that calls which wait for
//! room never hold some of it; it gives the room back once it has been read into records. Of an answer that is no yes only the
//! part that is looked into is kept. This file never looks at what an answer says.
//!
//! Before: [`crate::podero`] builds the request. After: [`super::wire`] reads the answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::call::Reply;
use crate::tls;

/// Limit of the list of all users: one of 50,000 is about 30 MB.
pub(super) const USERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Limit of every other answer, which is about one user.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Limit of a refusal in bytes that is looked into: no validation of our small bodies says so much.
pub(super) const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Coding that is asked for. A server that is asked for none may choose any (RFC 9110 §12.5.3), and gateways choose gzip.
pub(super) const UNCODED: &str = "identity";

/// Limit of an answer that needs no room from the pool: nearly every answer about one customer is smaller. There are at most as
/// many at once as calls may be in flight.
pub(super) const SMALL_BYTES_MAX: usize = 64 * 1024;

/// Limit of all larger answers in memory together: the largest list of users, and four of the largest others. It bounds
/// the memory that 64 polls hold at once.
pub(super) const POOL_BYTES: usize = 80 * 1024 * 1024;

/// Unit in which room is counted.
const PAGE_BYTES: usize = 64 * 1024;

/// Timeout of the wait for room: shorter than the default deadline of a call, so that a busy pool is not taken for a Podero
/// that does not answer.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Limit of a `Retry-After` that is kept, in characters: a date has 29.
const RETRY_AFTER_CHARS_MAX: usize = 64;

/// The memory that all larger answers share. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PAGE_BYTES)))
    }

    /// Takes room for this number of bytes, in the order of asking; `None` when none comes free in time.
    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).ok()?;
        let room = tokio::time::timeout(ROOM_WAIT_MAX, self.0.clone().acquire_many_owned(pages)).await;
        room.ok()?.ok()
    }
}

/// Bounds within which an answer is read.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    /// Limit of the body of a yes.
    pub(super) bytes_max: usize,
    /// The pool that gives room for a larger answer; `None`: no answer is larger than [`SMALL_BYTES_MAX`].
    pub(super) pool: Option<&'a Pool>,
}

/// An answer as it came off the wire: whole if it says yes.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    /// The coding of its body, although none was asked for.
    pub(super) coding: Option<Coding>,
    pub(super) body: Vec<u8>,
    /// Room in the pool, held until the answer has been read.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// An answer that takes no room.
    #[cfg(test)]
    pub(super) fn of(status: u16, body: &[u8]) -> Self {
        Self { status, retry_after: None, coding: None, body: body.to_vec(), _room: None }
    }

    /// The body, without a byte order mark in front.
    pub(super) fn body(&self) -> &[u8] {
        self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.body)
    }
}

/// A content coding, in which an answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    Other,
}

impl Coding {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Gzip => "the answer is coded as gzip; it was asked for without a coding",
            Self::Deflate => "the answer is coded as deflate; it was asked for without a coding",
            Self::Brotli => "the answer is coded as br; it was asked for without a coding",
            Self::Zstd => "the answer is coded as zstd; it was asked for without a coding",
            Self::Other => "the answer is in a coding that is not known; it was asked for without one",
        }
    }
}

/// The coding that an answer names, or that its first bytes show.
pub(super) fn coding_of(headers: &HeaderMap, body: &[u8]) -> Option<Coding> {
    let named = headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let named = named.map(|name| name.trim().to_ascii_lowercase());
    let mut coding = named.filter(|name| !name.is_empty() && name != UNCODED).map(|name| match name.as_str() {
        "gzip" | "x-gzip" => Coding::Gzip,
        "deflate" => Coding::Deflate,
        "br" => Coding::Brotli,
        "zstd" => Coding::Zstd,
        _ => Coding::Other,
    });
    // JSON begins with neither.
    let shown = match body {
        [0x1f, 0x8b, ..] => Some(Coding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Coding::Zstd),
        _ => None,
    };
    coding.next_back().or(shown)
}

/// Byte order mark that some servers put in front of a text; RFC 8259 §8.1 allows a reader to pass over it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The reasons why there is no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// No connection came about: nothing was sent.
    Connect,
    /// TLS was spoken to a port that does not speak it: nothing was sent.
    PlainPort,
    /// The request could not even be built.
    Unwritable,
    /// The deadline passed after sending began.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// The answer is larger than any that makes sense.
    TooLarge,
    /// Other answers took all the memory for answers.
    NoRoom,
}

impl Lost {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        // A time-out while connecting is both; it counts that nothing was sent.
        if error.is_connect() {
            if tls::is_plain_port(error) { Self::PlainPort } else { Self::Connect }
        } else if error.is_builder() {
            Self::Unwritable
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Cut
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::PlainPort => tls::PLAIN_PORT,
            Self::Unwritable => "request cannot be written",
            Self::Timeout => "no answer in time",
            Self::Cut => "connection cut",
            Self::TooLarge => "answer too large",
            Self::NoRoom => "no memory for the answer: many large ones at once",
        }
    }

    pub(super) fn status_text(self) -> &'static str {
        match self {
            Self::Connect | Self::PlainPort => "connect",
            Self::Unwritable => "other",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::TooLarge => "garbage",
            Self::NoRoom => "no_room",
        }
    }

    /// The reply to a call that changes nothing (`reads`), or that may.
    pub(super) fn reply<A>(self, reads: bool) -> Reply<A> {
        let why = self.text();
        match self {
            // A reading call is repeated as it is; there is no doubt to clear.
            Self::NoRoom if reads => Reply::Busy { after: None },
            Self::NoRoom => Reply::Unknown { why },
            Self::Connect | Self::PlainPort | Self::Unwritable => Reply::Unsent { why },
            Self::Timeout | Self::Cut | Self::TooLarge => Reply::Unknown { why },
        }
    }

    /// The reason when the request for a token was lost: the call itself was not sent.
    pub(super) fn while_authenticating(self) -> &'static str {
        match self {
            Self::Connect => "no connection for a token",
            Self::PlainPort => tls::PLAIN_PORT,
            Self::Timeout => "no token in time",
            Self::Unwritable | Self::Cut | Self::TooLarge | Self::NoRoom => "no token",
        }
    }
}

/// Sends a request and reads the whole answer, within the client's deadline and its bound.
pub(super) async fn fetch(request: reqwest::RequestBuilder, bound: Bound<'_>) -> Result<Received, Lost> {
    let mut answer = request.send().await.map_err(|error| Lost::of(&error))?;
    let retry_after = answer.headers().get(RETRY_AFTER).filter(|value| value.len() <= RETRY_AFTER_CHARS_MAX);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let (body, room) = if (200..300).contains(&status) {
        whole(&mut answer, bound).await?
    } else {
        (beginning(&mut answer).await?, None)
    };
    // An empty body has no coding.
    let coding = if body.is_empty() { None } else { coding_of(answer.headers(), &body) };
    Ok(Received { status, retry_after, coding, body, _room: room })
}

/// Reads the whole body of a yes, with the room that it takes.
async fn whole(
    answer: &mut reqwest::Response,
    bound: Bound<'_>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Lost> {
    let told = answer.content_length().map(|told| usize::try_from(told).unwrap_or(usize::MAX));
    if told.is_some_and(|told| told > bound.bytes_max) {
        return Err(Lost::TooLarge);
    }
    let told = told.unwrap_or(bound.bytes_max);
    let (mut body, mut room, mut has_waited) = (Vec::new(), None, false);
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok((body, room)),
            // The bridge itself did not read on.
            Err(error) if has_waited && error.is_timeout() => return Err(Lost::NoRoom),
            Err(error) => return Err(Lost::of(&error)),
        };
        if body.len() + chunk.len() > bound.bytes_max {
            return Err(Lost::TooLarge);
        }
        if body.len() + chunk.len() > SMALL_BYTES_MAX && room.is_none() {
            let Some(pool) = bound.pool else { return Err(Lost::TooLarge) };
            has_waited = pool.0.available_permits() < told.div_ceil(PAGE_BYTES);
            room = Some(pool.room(told).await.ok_or(Lost::NoRoom)?);
            // Reserved once for the whole body: a body that grows is copied, and is there twice meanwhile.
            body.reserve_exact(told.saturating_sub(body.len()));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Reads the beginning of a body that is no yes: the part that is looked into. The rest is never read.
async fn beginning(answer: &mut reqwest::Response) -> Result<Vec<u8>, Lost> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Lost::of(&error))? {
        let left = REFUSAL_BYTES_MAX.saturating_sub(body.len());
        body.extend(chunk.iter().take(left));
        if chunk.len() > left {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn a_coding_is_told_by_its_name_or_by_the_first_bytes() {
        for (name, body, expected) in [
            (None, &b"[]"[..], None),
            (Some("identity"), b"[]", None),
            (Some(""), b"[]", None),
            (Some("gzip"), b"x", Some(Coding::Gzip)),
            (Some("X-GZIP"), b"x", Some(Coding::Gzip)),
            (Some("identity, br"), b"x", Some(Coding::Brotli)),
            (Some("deflate"), b"x", Some(Coding::Deflate)),
            (Some("zstd"), b"x", Some(Coding::Zstd)),
            (Some("secret"), b"x", Some(Coding::Other)),
            (None, b"\x1f\x8b\x08", Some(Coding::Gzip)),
            (None, b"\x28\xb5\x2f\xfd", Some(Coding::Zstd)),
        ] {
            let named = name.map(|name| (CONTENT_ENCODING, HeaderValue::from_static(name)));
            let coding = coding_of(&HeaderMap::from_iter(named), body);
            assert_eq!(coding, expected, "{name:?}");
            assert!(!coding.is_some_and(|coding| coding.why().contains("secret")), "no value is repeated");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_given_whole_in_turn_and_comes_back() {
        let pool = Pool::new(4 * PAGE_BYTES);
        let first = pool.room(3 * PAGE_BYTES).await.expect("there is room");
        assert!(pool.room(2 * PAGE_BYTES).await.is_none(), "not within the time");
        let second = pool.room(1).await.expect("a page is left");
        drop((first, second));
        assert!(pool.room(4 * PAGE_BYTES).await.is_some());
        assert!(Pool::new(POOL_BYTES).room(USERS_BYTES_MAX).await.is_some(), "the largest list fits");
    }
}
