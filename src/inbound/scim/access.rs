//! The callers of SCIM: tokens, several while one is replaced, and how many requests each may make.
//!
//! Before: [`super::routes`] asks. After: the audit log tells of strangers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::clock::Clock;
use crate::config::ScimToken;
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::identity::Actor;
use crate::domain::scim::SCIM_PATH;
use crate::store::{Desk, RefusalRows};

/// Requests a second of one token, on average: Entra ID sends at most some 25.
const REQUESTS_PER_SECOND: u32 = 50;

/// Requests of one token that may come at once.
const BURST: u32 = 500;

/// The knowledge of who may call.
pub struct ScimAccess {
    tokens: Vec<ScimToken>,
    clock: Clock,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    strangers: RefusalRows,
}

/// The requests that a token has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    since: Timestamp,
}

impl ScimAccess {
    /// Knows these tokens.
    pub fn new(tokens: Vec<ScimToken>, clock: Clock) -> Self {
        Self { tokens, clock, buckets: Mutex::default(), strangers: RefusalRows::default() }
    }

    /// The name of the token in the value of `Authorization`. It is compared with all of them, as digests, so that the time tells
    /// nothing.
    pub(super) fn caller(&self, authorization: Option<&str>) -> Option<String> {
        let (scheme, given) = authorization?.split_once(' ')?;
        let given = Sha256::digest(given.trim());
        let mut found: Option<&ScimToken> = None;
        for token in &self.tokens {
            let mut is_same = Choice::from(0);
            for secret in token.secrets.now().iter() {
                is_same |= Sha256::digest(secret.expose()).ct_eq(&given);
            }
            if bool::from(is_same) {
                found = found.or(Some(token));
            }
        }
        found.filter(|_| scheme.eq_ignore_ascii_case("bearer")).map(|token| token.name.clone())
    }

    /// Takes one request from what a token has left; `false`: there is none.
    pub(super) fn admit(&self, token: &str) -> bool {
        let now = self.clock.now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(token.to_owned()).or_insert(Bucket { left: BURST, since: now });
        let each = Duration::from_secs(1) / REQUESTS_PER_SECOND;
        let earned = u32::try_from(now.since(bucket.since).as_micros() / each.as_micros()).unwrap_or(BURST).min(BURST);
        if earned > 0 || bucket.since > now {
            *bucket = Bucket { left: bucket.left.saturating_add(earned).min(BURST), since: now };
        }
        let is_left = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        is_left
    }

    /// Writes down that a stranger was refused.
    pub(super) async fn note_stranger(&self, store: &Desk, has_credentials: bool) {
        let why = if has_credentials { "wrong_token" } else { "no_credentials" };
        let target = AuditTarget::new(TargetKind::Route, SCIM_PATH);
        // The bridge acts: it refuses a caller whom it does not know.
        let row = AuditEntry::done(self.clock.now(), Actor::Bridge, Action::AccessUse, target);
        self.strangers.note(store, [row], why).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Secrets};

    fn access(clock: &Clock) -> ScimAccess {
        let token = |name: &str, secrets: &[&str]| ScimToken {
            name: name.to_owned(),
            secrets: Secrets::fixed(secrets.iter().map(|text| Secret::new(*text)).collect()),
        };
        ScimAccess::new(vec![token("entra", &["old-token", "new-token"]), token("okta", &["other"])], clock.clone())
    }

    #[test]
    fn a_token_names_its_caller_also_while_it_is_replaced() {
        let access = access(&Clock::manual(Timestamp::from_micros(0), 1));
        for (given, expected) in [
            (Some("Bearer old-token"), Some("entra")),
            (Some("bearer new-token"), Some("entra")),
            (Some("Bearer other"), Some("okta")),
            (Some("Bearer othe"), None),
            (Some("Basic other"), None),
            (Some("other"), None),
            (Some("Bearer "), None),
            (None, None),
        ] {
            assert_eq!(access.caller(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_token_that_asks_too_much_waits_and_no_other_does() {
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000), 1);
        let access = access(&clock);
        let admitted = |token: &str| (0..BURST * 2).filter(|_| access.admit(token)).count();
        assert_eq!(admitted("entra"), usize::try_from(BURST).expect("small"));
        assert!(access.admit("okta"), "another token has its own");
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted("entra"), usize::try_from(REQUESTS_PER_SECOND).expect("small"));
    }
}
