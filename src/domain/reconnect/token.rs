//! The token of a reconnection link: a heat pump, its owner and a moment, under a key of the bridge.
//!
//! ```text
//! use (1) | heat pump (16) | moment (8) | mark of the owner (16) | mark of all before (16)     as 76 characters of base64url
//! ```
//!
//! Both marks are HMAC-SHA-256, cut to 128 bits. The last is checked first, without a look into the store: a guess costs nothing.
//! The owner's id is not in the token. A heat pump that has another owner now has another mark, and the link is dead.
//!
//! Before: nothing. After: [`super::standing`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use uuid::Uuid;

use crate::domain::Timestamp;

/// Path of the pages behind links, below which the token stands.
pub const LINK_PATH: &str = "/r";

/// Length of a mark in bytes: 128 bits cannot be guessed, also by one who tries on a machine of their own.
const MARK_BYTES: usize = 16;

/// Length of what the last mark covers, in bytes.
const COVERED_BYTES: usize = 1 + 16 + 8 + MARK_BYTES;

/// Length of a token in bytes: a multiple of three, so that each token has one spelling.
const TOKEN_BYTES: usize = COVERED_BYTES + MARK_BYTES;

/// Length of a token in characters.
pub const TOKEN_CHARS: usize = TOKEN_BYTES / 3 * 4;

/// The purpose of a mark, so that none can stand for another.
const OF_OWNER: &[u8] = b"podero-bridge/reconnect/1/owner";
const OF_TOKEN: &[u8] = b"podero-bridge/reconnect/1/token";

/// The use that a token is made for. Its byte also names the form of the token: another form gets other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// The link of an alert, by which its owner reconnects a heat pump. The moment is that of the loss.
    Link,
    /// The page to which the partner leads the owner back. It shows how it went, and makes nothing. The moment is that of the click.
    Landing,
}

impl TokenUse {
    const fn byte(self) -> u8 {
        match self {
            Self::Link => 0x11,
            Self::Landing => 0x12,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Link, Self::Landing].into_iter().find(|known| known.byte() == byte)
    }
}

/// A token that is ours. Whether its owner is still the owner is asked with [`LinkToken::is_of`].
#[derive(Clone, PartialEq, Eq)]
pub struct LinkToken {
    /// The use that it was made for.
    pub made_for: TokenUse,
    /// Podero's id of the heat pump.
    pub heat_pump: Uuid,
    /// The moment of the loss, or of the click.
    pub since: Timestamp,
    owner_mark: [u8; MARK_BYTES],
    /// The place of the secret that signed it, among those that verify.
    secret: usize,
}

impl std::fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkToken({:?}, {})", self.made_for, self.heat_pump)
    }
}

impl LinkToken {
    /// True if the token was made for a heat pump of this owner. `secrets` are those by which it was verified.
    pub fn is_of(&self, owner: Uuid, secrets: &[&str]) -> bool {
        let Some(secret) = secrets.get(self.secret) else { return false };
        owner_mark(secret, self.heat_pump, owner).ct_eq(&self.owner_mark).into()
    }
}

/// Signs a token.
pub fn sign(secret: &str, made_for: TokenUse, heat_pump: Uuid, owner: Uuid, since: Timestamp) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.push(made_for.byte());
    bytes.extend(heat_pump.as_bytes());
    bytes.extend(since.micros().to_be_bytes());
    bytes.extend(owner_mark(secret, heat_pump, owner));
    let mark = mark(secret, &[OF_TOKEN, &bytes]);
    bytes.extend(mark);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Verifies a token against all secrets, each in the same time. `None`: it is not ours, or its secret was removed.
pub fn verify(token: &str, secrets: &[&str]) -> Option<LinkToken> {
    if token.len() != TOKEN_CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (covered, given) = bytes.split_at_checked(COVERED_BYTES)?;
    let (mut is_ours, mut signed_by) = (Choice::from(0), 0_u64);
    for (place, secret) in (0_u64..).zip(secrets) {
        let is_it = mark(secret, &[OF_TOKEN, covered]).ct_eq(given);
        signed_by.conditional_assign(&place, is_it & !is_ours);
        is_ours |= is_it;
    }
    if !bool::from(is_ours) {
        return None;
    }
    let (made_for, rest) = covered.split_first()?;
    let (heat_pump, rest) = rest.split_at_checked(16)?;
    let (since, owner_mark) = rest.split_at_checked(8)?;
    Some(LinkToken {
        made_for: TokenUse::of(*made_for)?,
        heat_pump: Uuid::from_slice(heat_pump).ok()?,
        since: Timestamp::from_micros(i64::from_be_bytes(since.try_into().ok()?)),
        owner_mark: owner_mark.try_into().ok()?,
        secret: usize::try_from(signed_by).ok()?,
    })
}

fn owner_mark(secret: &str, heat_pump: Uuid, owner: Uuid) -> [u8; MARK_BYTES] {
    mark(secret, &[OF_OWNER, heat_pump.as_bytes(), owner.as_bytes()])
}

/// The parts have fixed lengths, so that their sequence has one meaning.
fn mark(secret: &str, parts: &[&[u8]]) -> [u8; MARK_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    let whole = mac.finalize().into_bytes();
    let mut cut = [0; MARK_BYTES];
    cut.copy_from_slice(&whole[..MARK_BYTES]);
    cut
}

/// Makes the links of alerts.
#[derive(Clone)]
pub struct LinkSigner {
    /// Scheme and host of the pages, without a slash at the end.
    pub base_url: String,
    /// The secret that signs.
    pub secret: String,
}

impl std::fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkSigner({})", self.base_url)
    }
}

impl LinkSigner {
    /// The link by which the owner of a heat pump reconnects it, the same for one loss.
    pub fn link(&self, heat_pump: Uuid, owner: Uuid, since: Timestamp) -> String {
        self.address(&sign(&self.secret, TokenUse::Link, heat_pump, owner, since))
    }

    /// The beginning of the pages to which the partner leads the owner back.
    pub fn landing(&self, heat_pump: Uuid, owner: Uuid, clicked_at: Timestamp) -> String {
        self.address(&sign(&self.secret, TokenUse::Landing, heat_pump, owner, clicked_at))
    }

    fn address(&self, token: &str) -> String {
        format!("{}{LINK_PATH}/{token}", self.base_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::link::may_go_out;
    use proptest::prelude::*;

    const OLD: &str = "an-old-secret-of-the-tests-0123456789";
    const NEW: &str = "a-new-secret-of-the-tests-9876543210";

    fn pump(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn moment() -> Timestamp {
        Timestamp::from_micros(1_798_761_600_123_456)
    }

    fn token(secret: &str) -> String {
        sign(secret, TokenUse::Link, pump(1), pump(7), moment())
    }

    #[test]
    fn a_token_says_what_was_signed_and_is_the_same_each_time() {
        let signed = token(NEW);
        assert_eq!((signed.len(), &signed), (TOKEN_CHARS, &token(NEW)));
        let read = verify(&signed, &[NEW]).expect("it is ours");
        assert_eq!((read.made_for, read.heat_pump, read.since), (TokenUse::Link, pump(1), moment()));
        assert!(read.is_of(pump(7), &[NEW]) && !read.is_of(pump(8), &[NEW]), "it is bound to its owner");
        let landing = sign(NEW, TokenUse::Landing, pump(1), pump(7), moment());
        assert_eq!(verify(&landing, &[NEW]).map(|read| read.made_for), Some(TokenUse::Landing));
    }

    #[test]
    fn a_token_of_a_rotated_secret_verifies_and_of_a_removed_one_does_not() {
        let signed = token(OLD);
        for (secrets, expected) in
            [(&[OLD][..], true), (&[OLD, NEW], true), (&[NEW, OLD], true), (&[NEW], false), (&[], false)]
        {
            let read = verify(&signed, secrets);
            assert_eq!(read.is_some_and(|read| read.is_of(pump(7), secrets)), expected, "{secrets:?}");
        }
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let signed = token(NEW);
        for place in 0..signed.len() {
            for other in ["A", "z", "-", "=", "+", "/"] {
                let mut changed = signed.clone();
                changed.replace_range(place..=place, other);
                assert!(changed == signed || verify(&changed, &[NEW]).is_none(), "{place} {other}");
            }
        }
        for wrong in [String::new(), signed[1..].to_owned(), format!("{signed}A"), format!("{signed}="), "é".repeat(38)]
        {
            assert!(verify(&wrong, &[NEW]).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_of_an_unknown_use_is_none() {
        let mut bytes = URL_SAFE_NO_PAD.decode(token(NEW)).expect("base64");
        bytes.truncate(COVERED_BYTES);
        bytes[0] = 0x13;
        let mark = mark(NEW, &[OF_TOKEN, &bytes]);
        bytes.extend(mark);
        assert!(verify(&URL_SAFE_NO_PAD.encode(bytes), &[NEW]).is_none());
    }

    #[test]
    fn a_link_may_go_out_and_shows_neither_owner_nor_secret() {
        let signer = LinkSigner { base_url: "https://heat.utility.example".to_owned(), secret: NEW.to_owned() };
        let link = signer.link(pump(1), pump(7), moment());
        assert!(may_go_out(&link) && link.starts_with("https://heat.utility.example/r/"), "{link}");
        let bytes = URL_SAFE_NO_PAD.decode(&link[link.len() - TOKEN_CHARS..]).expect("base64");
        assert!(!bytes.windows(16).any(|window| window == pump(7).as_bytes()), "the owner's id is not in it");
        assert!(!format!("{signer:?}").contains(NEW));
        assert_ne!(link, signer.landing(pump(1), pump(7), moment()));
    }

    proptest! {
        #[test]
        fn no_text_that_was_not_signed_verifies(text in "[A-Za-z0-9_-]{70,80}") {
            prop_assert!(verify(&text, &[OLD, NEW]).is_none());
        }

        #[test]
        fn every_token_is_read_as_it_was_signed(heat_pump in any::<u128>(), owner in any::<u128>(), micros in any::<i64>()) {
            let (heat_pump, owner, since) = (pump(heat_pump), pump(owner), Timestamp::from_micros(micros));
            let read = verify(&sign(NEW, TokenUse::Link, heat_pump, owner, since), &[OLD, NEW]).expect("it is ours");
            prop_assert_eq!((read.heat_pump, read.since, read.is_of(owner, &[OLD, NEW])), (heat_pump, since, true));
        }
    }
}
