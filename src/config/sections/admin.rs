//! `[admin]`: the listener for operators.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::admin`].

use std::net::SocketAddr;

use super::http::{self, Http};
use crate::config::key::section;
use crate::config::networks::Networks;
use crate::config::reader::Reader;
use crate::config::rules::{self, is_loopback};
use crate::config::secret::Secret;

section! {
    /// Health, metrics and the admin API. The public must not reach this listener.
    ADMIN = "admin" {
        /// Address of the admin listener. It must differ from `http.listen`.
        LISTEN: SocketAddr = "listen", rules::address(), default "127.0.0.1:9090";
        /// Bearer token of the admin API. Required unless `admin.listen` is loopback.
        TOKEN: Secret = "token", rules::token(), example r#""example-operator-token""#;
        /// Proxies in front of the admin listener. `X-Forwarded-For` is read from these alone.
        TRUSTED_PROXIES: Networks = "trusted_proxies", rules::networks(), default "";
    }
}

/// Section `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of health, metrics and the admin API.
    pub listen: SocketAddr,
    /// Bearer token of the admin API; always there when `listen` is not loopback.
    pub token: Option<Secret>,
    /// Proxies whose `X-Forwarded-For` is read.
    pub trusted_proxies: Networks,
}

pub(in crate::config) fn read(r: &mut Reader, http: &Http) -> Admin {
    let listen = r.value(&LISTEN);
    let when = (!is_loopback(listen)).then_some("because admin.listen is not loopback");
    let token = r.required_secret(&TOKEN, when);
    let is_comparable = r.is_sound(&http::LISTEN) && r.is_sound(&LISTEN);
    if is_comparable && listen == http.listen && listen.port() != 0 {
        let hint = "the operator's door needs an address of its own: this one is http.listen";
        r.refuse(&LISTEN, listen.to_string(), hint);
    }
    Admin { listen, token, trusted_proxies: r.value(&TRUSTED_PROXIES) }
}
