//! The state of a login between its begin here and its end at the callback, while the browser is at the identity provider.
//!
//! The browser keeps it in a cookie of its own: a random value, the moment, the page that was asked for, and a seal over them. State,
//! nonce and PKCE verifier are derived from the random value and the seal's key, so that the cookie and the address of a request tell
//! none of the others, and any replica can end the login that another one began.
//!
//! Before: `oidc.rs` begins a login. After: `provider.rs` asks with the three derived values.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::domain::Timestamp;
use crate::domain::chain::hex;

/// Life of a login that was begun: the time for a password and a second factor at the provider.
pub(super) const LOGIN_LIFE: Duration = Duration::from_mins(10);

/// Limit of the page that was asked for, in bytes: a cookie has 4096 at most. A longer one leads to the overview.
const NEXT_BYTES_MAX: usize = 1024;

/// The key of the seal. It is derived from the client's secret, which all replicas have, and which ends with it.
pub(super) struct Seal([u8; 32]);

impl Seal {
    /// The key that belongs to this secret.
    pub(super) fn of(secret: &str) -> Self {
        Self(mac(secret.as_bytes(), "podero-bridge login state", ""))
    }

    fn derived(&self, purpose: &str, text: &str) -> String {
        hex(&mac(&self.0, purpose, text))
    }
}

fn mac(key: &[u8], purpose: &str, text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [purpose, "\0", text] {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// A login that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoginState {
    random: String,
    began_at: Timestamp,
    /// The page that was asked for.
    pub(super) next: String,
}

impl LoginState {
    /// A login that begins now.
    pub(super) fn begun(random: &[u8; 32], now: Timestamp, next: &str) -> Self {
        let next = if next.len() <= NEXT_BYTES_MAX { next.to_owned() } else { String::new() };
        Self { random: hex(random), began_at: now, next }
    }

    /// The value of the cookie.
    pub(super) fn sealed(&self, seal: &Seal) -> String {
        let text = format!("{}.{}.{}", self.random, self.began_at.micros(), BASE64.encode(&self.next));
        let proof = seal.derived("cookie", &text);
        format!("{text}.{proof}")
    }

    /// The login of a cookie; `None`: the bridge did not make it, or it is too old.
    pub(super) fn opened(cookie: &str, seal: &Seal, now: Timestamp) -> Option<Self> {
        let (text, proof) = cookie.rsplit_once('.')?;
        if !is_same(proof, &seal.derived("cookie", text)) {
            return None;
        }
        let mut parts = text.split('.');
        let (random, began_at, next) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?);
        let next = String::from_utf8(BASE64.decode(next).ok()?).ok()?;
        let began_at = Timestamp::from_micros(began_at);
        let is_over = began_at.plus(LOGIN_LIFE).has_come(now, LOGIN_LIFE);
        (!is_over).then_some(Self { random, began_at, next })
    }

    /// The value by which the provider's answer is known to belong to this browser.
    pub(super) fn state(&self, seal: &Seal) -> String {
        seal.derived("state", &self.random)
    }

    /// `true` if the provider's answer belongs to this login.
    pub(super) fn is_answered_by(&self, state: &str, seal: &Seal) -> bool {
        is_same(state, &self.state(seal))
    }

    /// The value by which a token is known to be made for this login.
    pub(super) fn nonce(&self, seal: &Seal) -> String {
        seal.derived("nonce", &self.random)
    }

    /// The secret of PKCE, which proves that the one who began the login ends it.
    pub(super) fn verifier(&self, seal: &Seal) -> String {
        seal.derived("verifier", &self.random)
    }
}

fn is_same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_ended_within_ten_minutes_by_the_browser_that_began_it() {
        let (seal, now) = (Seal::of("secret"), Timestamp::from_micros(0).plus(Duration::from_hours(1)));
        let login = LoginState::begun(&[7; 32], now, "/console/parked?reason=refused&x=1");
        let cookie = login.sealed(&seal);
        assert_eq!(LoginState::opened(&cookie, &seal, now), Some(login.clone()));
        let last = now.plus(LOGIN_LIFE - Duration::from_secs(1));
        assert!(LoginState::opened(&cookie, &seal, last).is_some());
        assert!(LoginState::opened(&cookie, &seal, now.plus(LOGIN_LIFE)).is_none(), "expired");
        assert!(LoginState::opened(&cookie, &Seal::of("other"), now).is_none(), "another client's");
        assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)), "{cookie}");
        let evil = LoginState { next: "//evil.example".to_owned(), ..login.clone() }.sealed(&Seal::of("guessed"));
        for forged in ["", ".", "a.b.c.d", &cookie[1..], &cookie.replacen('.', ".1", 1), &evil] {
            assert!(LoginState::opened(forged, &seal, now).is_none(), "{forged}");
        }
        let values = [login.state(&seal), login.nonce(&seal), login.verifier(&seal), hex(&[7; 32])];
        for (place, value) in values.iter().enumerate() {
            assert!(values[..place].iter().all(|other| other != value), "each is another one");
            assert!((43..=128).contains(&value.len()), "a verifier of PKCE has 43 to 128 characters");
        }
        assert!(login.is_answered_by(&values[0], &seal) && !login.is_answered_by(&values[1], &seal));
        assert!(!login.is_answered_by("", &seal));
    }

    #[test]
    fn a_page_that_is_too_long_for_a_cookie_is_forgotten() {
        let login = LoginState::begun(&[7; 32], Timestamp::from_micros(0), &"/console".repeat(200));
        assert_eq!(login.next, "");
    }
}
