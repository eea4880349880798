//! `[admin]` and `[[admin.tokens]]`: the listener for operators, and the tokens that it knows.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::admin`].

use std::net::SocketAddr;

use super::http::{self, Http};
use crate::config::key::section;
use crate::config::networks::Networks;
use crate::config::reader::Reader;
use crate::config::rules::{self, is_loopback};
use crate::config::secret::{Secret, Secrets};
use crate::domain::identity::{DEFAULT_TOKEN, Role};

section! {
    /// Health, metrics and the admin API. The public must not reach this listener.
    ADMIN = "admin" {
        /// Address of the admin listener. It must differ from `http.listen`.
        LISTEN: SocketAddr = "listen", rules::address(), default "127.0.0.1:9090";
        /// Bearer token of the admin API with the role `admin`, named `default`. A file may have several, one a line, for
        /// rotation, and is read again when it changes. Required unless `admin.listen` is loopback or there is an
        /// `[[admin.tokens]]`.
        TOKEN: Secret = "token", rules::token(), example r#""example-operator-token""#;
        /// Proxies in front of the admin listener. `X-Forwarded-For` is read from these alone.
        TRUSTED_PROXIES: Networks = "trusted_proxies", rules::networks(), default "";
    }
}

section! {
    /// Named tokens of the admin API, one `[[admin.tokens]]` table each: each caller has a name, and no more rights than it needs.
    ADMIN_TOKENS = "admin.tokens" {
        /// Name of the token. The log and the audit log show it as `token:NAME`.
        TOKEN_NAME: String = "name", rules::token_name(), example r#""ticketing""#;
        /// Rights of the token: `viewer` sees ids and states, `support` also personal data and original bytes and makes links,
        /// `admin` does everything.
        ROLE: Role = "role", rules::one_of(Role::names(), Role::from_name), example r#""viewer""#;
        /// The bearer token, unlike every other. A file may have several, one a line, for rotation, and is read again when it
        /// changes.
        NAMED_TOKEN: Secret = "token", rules::token(), example r#""example-token-for-ticketing""#;
    }
}

/// Section `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of health, metrics and the admin API.
    pub listen: SocketAddr,
    /// Tokens of the admin API; always some when `listen` is not loopback.
    pub tokens: Vec<AdminToken>,
    /// Proxies whose `X-Forwarded-For` is read.
    pub trusted_proxies: Networks,
}

/// A token of the admin API: `admin.token`, or one of `[[admin.tokens]]`.
#[derive(Debug, Clone)]
pub struct AdminToken {
    /// Name of its holder; unique.
    pub name: String,
    /// Rights of its holder.
    pub role: Role,
    /// The token; several while it is rotated.
    pub secrets: Secrets,
}

pub(in crate::config) fn read(r: &mut Reader, http: &Http) -> Admin {
    let listen = r.value(&LISTEN);
    let labels = r.labels(ADMIN_TOKENS.name).to_vec();
    let when = (!is_loopback(listen) && labels.is_empty()).then_some("because admin.listen is not loopback");
    let default = (DEFAULT_TOKEN.to_owned(), Role::Admin, r.rotating_secret(&TOKEN, when), TOKEN.place.into_owned());
    let mut given = vec![default];
    for label in labels {
        let role = r.required(&ROLE.of(&label), Some("for every token"));
        let key = NAMED_TOKEN.of(&label);
        let secrets = r.rotating_secret(&key, Some("for every token"));
        given.extend(role.map(|role| (label, role, secrets, key.place.into_owned())));
    }
    refuse_equal(r, &given);
    let tokens = given.into_iter().map(|(name, role, secrets, _)| AdminToken { name, role, secrets });
    let tokens = tokens.filter(|token| !token.secrets.now().is_empty()).collect();
    let is_comparable = r.is_sound(&http::LISTEN) && r.is_sound(&LISTEN);
    if is_comparable && listen == http.listen && listen.port() != 0 {
        let hint = "the operator's door needs an address of its own: this one is http.listen";
        r.refuse(&LISTEN, listen.to_string(), hint);
    }
    Admin { listen, tokens, trusted_proxies: r.value(&TRUSTED_PROXIES) }
}

/// A token that two callers have would name neither.
fn refuse_equal(r: &mut Reader, given: &[(String, Role, Secrets, String)]) {
    for (index, (_, _, secrets, place)) in given.iter().enumerate() {
        let secrets = secrets.now();
        let is_one_of = |others: &Secrets| {
            others.now().iter().any(|other| secrets.iter().any(|secret| secret.expose() == other.expose()))
        };
        if let Some((.., other)) = given[..index].iter().find(|(_, _, others, _)| is_one_of(others)) {
            r.refuse(place, "a value that is not shown", format!("{other} is the same; allowed: a token of its own"));
        }
    }
}
