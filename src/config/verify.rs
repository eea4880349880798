//! The proofs that a request comes from its source, as plain types. Never reads or judges a configuration.
//!
//! Before: [`crate::config::Secrets`]. After: [`crate::config`]'s rules, and [`crate::inbound`], which checks signatures.

use super::codes::{bytes_of_base64, bytes_of_hex};
use super::secret::{Secret, Secrets};
use crate::domain::names::names;

/// The proof that a request comes from its source.
#[derive(Debug, Clone)]
pub enum Verify {
    /// A signature as Standard Webhooks describes it.
    StandardWebhooks {
        /// `whsec_…` (symmetric, `v1`) and `whpk_…` (a public ed25519 key, `v1a`).
        secrets: Secrets,
    },
    /// A signature in the sender's own way, with a symmetric key.
    Hmac(Hmac),
    /// `Authorization: Bearer …`, or the token alone in a header of its own.
    Bearer {
        /// The header with the token alone, in lower case; `None`: `Authorization`.
        header: Option<String>,
        /// Tokens of at least [`crate::config::TOKEN_CHARS_MIN`] characters.
        secrets: Secrets,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// `user:password` each.
        secrets: Secrets,
    },
    /// No proof: the listener is on loopback, or `insecure = true` was written out.
    None,
}

impl Verify {
    /// The secrets that it compares with; `None` where it compares nothing.
    pub fn secrets(&self) -> Option<&Secrets> {
        match self {
            Self::StandardWebhooks { secrets } | Self::Bearer { secrets, .. } | Self::Basic { secrets } => {
                Some(secrets)
            }
            Self::Hmac(hmac) => Some(&hmac.secrets),
            Self::None => None,
        }
    }
}

/// A signature in a header: an HMAC over the body, or over a text that contains it.
#[derive(Debug, Clone)]
pub struct Hmac {
    /// Keys, as [`Hmac::key_encoding`] says.
    pub secrets: Secrets,
    /// Encoding of the key in the text of a secret.
    pub key_encoding: KeyEncoding,
    /// The header with the signature, in lower case.
    pub header: String,
    /// Name of the parts that are signatures, in a header of several parts, `t=…,v1=…`. `None`: the header is one signature.
    pub signature_field: Option<String>,
    /// The hash.
    pub algorithm: HmacAlgorithm,
    /// Encoding of the signature.
    pub encoding: HmacEncoding,
    /// Text before the signature, such as `sha256=`.
    pub prefix: String,
    /// Place of the time of signing. Required by the signed text when it contains `{timestamp}`.
    pub signed_at: Option<SignedAt>,
    /// The text that is signed.
    pub text: SignedText,
}

impl Hmac {
    /// The keys that hold now.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let key = |secret: &Secret| self.key_encoding.bytes_of(secret.expose());
        self.secrets.now().iter().filter_map(key).collect()
    }
}

/// Place of the time of signing in a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedAt {
    /// In a header of its own, whose name is in lower case.
    Header(String),
    /// In the part of this name of the header with the signature.
    Field(String),
}

names! {
    /// Encoding of a key in the text of a secret.
    pub enum KeyEncoding {
        /// Its bytes are the key.
        Text = "text",
        /// Hexadecimal digits, in either case.
        Hex = "hex",
        /// Base64, in either alphabet, with or without padding.
        Base64 = "base64",
    }

    /// The hash of an HMAC.
    pub enum HmacAlgorithm {
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-512.
        Sha512 = "sha512",
        /// For old senders: broken as a hash, but not as an HMAC (compare RFC 6151 on MD5).
        Sha1 = "sha1",
    }

    /// Encoding of a signature.
    pub enum HmacEncoding {
        /// Two digits a byte, in either case.
        Hex = "hex",
        /// In either alphabet, with or without padding.
        Base64 = "base64",
    }
}

impl KeyEncoding {
    /// The key that a text in this encoding means.
    pub(super) fn bytes_of(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex => bytes_of_hex(text),
            Self::Base64 => bytes_of_base64(text),
        }
    }
}

/// The text that is signed: the body, with a text before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// Before the body; [`TIMESTAMP`] stands for the time of signing, letter for letter as it was sent.
    pub before: String,
    /// After the body; [`TIMESTAMP`] stands for the time of signing here too.
    pub after: String,
}

/// Place of the time of signing in a [`SignedText`].
pub const TIMESTAMP: &str = "{timestamp}";
/// Place of the body in `source.hmac_text`.
const BODY: &str = "{body}";

impl SignedText {
    /// Reads `source.hmac_text`: it has the body once.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once(BODY)?;
        (!after.contains(BODY)).then(|| Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// Says whether the time of signing is signed.
    pub fn is_timed(&self) -> bool {
        self.before.contains(TIMESTAMP) || self.after.contains(TIMESTAMP)
    }
}

/// The source of `POST /v1/events`, and of deliveries on the queue unless `amqp.source` names another.
pub const DEFAULT_SOURCE: &str = "default";

/// Default of `source.types`.
pub(super) const USUAL_TYPES: &str = "customer.*";

/// The types of events that a source may send, as patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types(pub(super) Vec<String>);

impl Default for Types {
    /// The types about customers. Those about the team have to be written out.
    fn default() -> Self {
        Self(vec![USUAL_TYPES.to_owned()])
    }
}

impl Types {
    /// Says whether a type is one of them.
    pub fn allow(&self, type_name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(family) => type_name.starts_with(family),
            None => type_name == pattern,
        })
    }

    /// The patterns, as they are written.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}
