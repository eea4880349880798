//! The settings of the console, which its pages share next to the state of the admin API; and the login link of a sandbox.
//!
//! Before: [`crate::app`] makes it. After: the pages in this folder.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::provider::IdentityProvider;
use crate::domain::Timestamp;
use crate::domain::zone::Zone;

/// Name of the cookie that holds the secret of a session. A browser takes the second one over TLS alone, for this host and all paths.
const COOKIES: [&str; 2] = ["podero-bridge-session", "__Host-podero-bridge-session"];

/// Life of a login link: it is printed for a person who looks at the terminal.
pub const LINK_LIFE: Duration = Duration::from_mins(15);

/// The console; shared by its workers.
pub struct Console {
    base_url: Option<String>,
    pub(super) time_zone: Zone,
    link: Option<LoginLink>,
    provider: Option<IdentityProvider>,
}

/// The link by which the one who started a sandbox logs in, once.
struct LoginLink {
    digest: [u8; 32],
    made_at: Timestamp,
    is_used: AtomicBool,
}

impl LoginLink {
    fn is_good(&self, secret: &str, now: Timestamp) -> bool {
        let is_right = bool::from(Sha256::digest(secret).ct_eq(&self.digest));
        is_right && !self.made_at.plus(LINK_LIFE).has_come(now, LINK_LIFE)
    }
}

impl Console {
    /// Under this address, with times in this zone.
    pub fn new(base_url: Option<String>, time_zone: Zone) -> Self {
        Self { base_url, time_zone, link: None, provider: None }
    }

    /// With the login by OpenID Connect.
    #[must_use]
    pub fn with_provider(self, provider: IdentityProvider) -> Self {
        Self { provider: Some(provider), ..self }
    }

    /// The identity provider; `None`: operators log in by password alone.
    pub(super) fn provider(&self) -> Option<&IdentityProvider> {
        self.provider.as_ref()
    }

    /// With a login link of this secret.
    #[must_use]
    pub fn with_link(self, secret: &str, now: Timestamp) -> Self {
        let digest = Sha256::digest(secret).into();
        Self { link: Some(LoginLink { digest, made_at: now, is_used: AtomicBool::new(false) }), ..self }
    }

    /// `true` if a session that a login link opened is worth something: the sandbox runs.
    pub(super) fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// `true` if this is the secret of the login link, which was not used yet.
    pub(super) fn offers(&self, secret: &str, now: Timestamp) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_good(secret, now) && !link.is_used.load(Ordering::Acquire))
    }

    /// As [`Console::offers`], and uses it.
    pub(super) fn redeem(&self, secret: &str, now: Timestamp) -> bool {
        let used_before = |link: &LoginLink| link.is_used.swap(true, Ordering::AcqRel);
        self.link.as_ref().is_some_and(|link| link.is_good(secret, now) && !used_before(link))
    }

    /// Scheme and host by which browsers reach it; `None`: by the names of this machine.
    pub(super) fn base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// `true` if browsers reach it over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.base_url().is_some_and(|url| url.starts_with("https://"))
    }

    /// Name of the cookie of a session.
    pub(super) fn cookie(&self) -> &'static str {
        COOKIES[usize::from(self.is_secure())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_link_works_once_and_not_for_long() {
        let now = Timestamp::from_micros(0).plus(Duration::from_hours(1));
        let console = || Console::new(None, Zone::UTC).with_link("secret", now);
        let late = now.plus(LINK_LIFE);
        assert!(
            !console().redeem("other", now) && !console().redeem("secret", late) && !console().offers("secret", late)
        );
        let console = console();
        assert!(console.offers("secret", now) && console.redeem("secret", now));
        assert!(!console.offers("secret", now) && !console.redeem("secret", now), "once");
        assert!(!Console::new(None, Zone::UTC).redeem("secret", now), "there is none");
    }
}
