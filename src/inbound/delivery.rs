//! A delivery: bytes and headers as one of the transports hands them in, none of them verified yet.
//!
//! Before: [`super::http`], [`super::amqp`], [`super::import`]. After: [`super::signature`].

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::domain::event::Transport;

/// Header, and property of RabbitMQ, that says how a body is packed.
pub(super) const CONTENT_ENCODING: &str = "content-encoding";

/// A webhook, a message from the queue or a line of a file.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The transport by which it came in.
    pub transport: Transport,
    /// The configured source from which it claims to come.
    pub source: String,
    /// The media type, as sent.
    pub content_type: Option<String>,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The bytes.
    pub body: Vec<u8>,
    /// The time at which all bytes were here.
    pub received_at: Timestamp,
}

/// Hexadecimal SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
