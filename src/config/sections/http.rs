//! `[http]`: the webhook listener.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::inbound`].

use std::net::SocketAddr;

use crate::config::key::section;
use crate::config::networks::Networks;
use crate::config::reader::Reader;
use crate::config::rules;

/// Limit of `http.body_max`: bodies are held in memory, and stored as a row.
pub const BODY_BYTES_MAX: u64 = 64 << 20;

section! {
    /// The webhook listener, the only public one. Loopback by default, since TLS belongs to the proxy in front of it.
    HTTP = "http" {
        /// Address of the webhook listener.
        LISTEN: SocketAddr = "listen", rules::address(), default "127.0.0.1:8080";
        /// Limit of a request body. The sender of a larger one is answered 413.
        BODY_MAX: usize = "body_max", rules::size(1_024, BODY_BYTES_MAX), default "1MiB";
        /// Limit of events in one batch. The sender of a larger one is answered 413.
        BATCH_MAX: usize = "batch_max", rules::whole(1, 10_000), default "1000";
        /// Proxies in front of the webhook listener. `X-Forwarded-For` is read from these alone, from the right up to the
        /// first address that is no trusted proxy; limits and shares per address count for that one. Without it all
        /// requests of a proxy share the limits of one address. `Forwarded` is not read.
        TRUSTED_PROXIES: Networks = "trusted_proxies", rules::networks(), default "";
    }
}

/// Section `[http]`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address of the webhooks.
    pub listen: SocketAddr,
    /// Limit of a body in bytes, at most [`BODY_BYTES_MAX`].
    pub body_max: usize,
    /// Limit of events in one batch.
    pub batch_max: usize,
    /// Proxies whose `X-Forwarded-For` is read.
    pub trusted_proxies: Networks,
}

pub(in crate::config) fn read(r: &mut Reader) -> Http {
    Http {
        listen: r.value(&LISTEN),
        body_max: r.value(&BODY_MAX),
        batch_max: r.value(&BATCH_MAX),
        trusted_proxies: r.value(&TRUSTED_PROXIES),
    }
}
