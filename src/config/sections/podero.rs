//! `[podero]`: the account at Podero, and the limits of calls to it.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::podero`].

use std::time::Duration;

use uuid::Uuid;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::secret::Secret;

/// Limit of the timeout of a call to Podero. The lease of a claim must outlive the calls made under it, and is calculated from
/// this limit.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Minimum timeout of a call to Podero: with a shorter one the bridge would give up every call across the internet.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);

section! {
    /// Your account at Podero, and the limits of calls to it.
    PODERO = "podero" {
        /// Scheme and host of your environment at Podero. The paths are the API's own.
        BASE_URL: String = "base_url", rules::base_url(), default "https://app.podero.com";
        /// Id of your organisation at Podero. Required without `--sandbox`.
        ORG_ID: Uuid = "org_id", rules::uuid(), given r#""00000000-0000-4000-8000-000000000000""#;
        /// Id of your OAuth2 client. Required without `--sandbox`.
        CLIENT_ID: String = "client_id", rules::client_id(), given r#""example-client-id""#;
        /// Secret of your OAuth2 client. Required without `--sandbox`.
        CLIENT_SECRET: Secret = "client_secret", rules::any_secret(), given r#""example-client-secret""#;
        /// Forward proxy for all calls to Podero. The variables `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` are ignored.
        PROXY: Secret = "proxy", rules::proxy_url(), example r#""http://user:password@proxy.utility.example:3128""#;
        /// Timeout of one call to Podero.
        TIMEOUT: Duration = "timeout", rules::duration(TIMEOUT_MIN, TIMEOUT_MAX), default "10s";
        /// Limit of concurrent calls of all replicas together, for events and polling.
        MAX_IN_FLIGHT: usize = "max_in_flight", rules::whole(1, 4_096), default "64";
        /// Limit of calls per second of all replicas together, for events and polling. Events go first.
        REQUESTS_PER_SECOND: u32 = "requests_per_second", rules::whole(1, 10_000), default "50";
    }
}

/// Section `[podero]`.
#[derive(Debug, Clone)]
pub struct Podero {
    /// The account that is used.
    pub account: Account,
    /// URL of a forward proxy for all calls. Not for the embedded sandbox.
    pub proxy: Option<Secret>,
    /// Timeout of one call, from [`TIMEOUT_MIN`] to [`TIMEOUT_MAX`].
    pub timeout: Duration,
    /// Limit of calls at the same time, events and polling together.
    pub max_in_flight: usize,
    /// Limit of calls per second, events and polling together.
    pub requests_per_second: u32,
}

/// The account at Podero.
#[derive(Debug, Clone)]
pub enum Account {
    /// The embedded sandbox. The program that starts it knows its address and credentials. An account in the configuration is
    /// checked, and not used.
    Sandbox,
    /// The partner.
    Podero {
        /// Scheme and host, without a slash at the end.
        base_url: String,
        /// The utility's organisation.
        org_id: Uuid,
        /// OAuth2 client; never contains a colon.
        client_id: String,
        /// The client's secret.
        client_secret: Secret,
    },
}

pub(in crate::config) fn read(r: &mut Reader, is_sandbox: bool) -> Option<Podero> {
    // One file serves both ways of starting, so an account is checked for the sandbox too, and left alone.
    let when = (!is_sandbox).then_some("without --sandbox");
    let base_url = r.value(&BASE_URL);
    let org_id = r.required(&ORG_ID, when);
    let client_id = r.required(&CLIENT_ID, when);
    let client_secret = r.required_secret(&CLIENT_SECRET, when);
    let proxy = r.secret(&PROXY);
    let timeout = r.value(&TIMEOUT);
    let max_in_flight = r.value(&MAX_IN_FLIGHT);
    let requests_per_second = r.value(&REQUESTS_PER_SECOND);
    let account = if is_sandbox {
        Account::Sandbox
    } else {
        Account::Podero { base_url, org_id: org_id?, client_id: client_id?, client_secret: client_secret? }
    };
    Some(Podero { account, proxy, timeout, max_in_flight, requests_per_second })
}
