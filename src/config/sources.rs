//! `[[source]]`: who may send, and how a request is proven to come from there.
//!
//! Before: [`crate::config`]'s reader and rules. After: [`crate::config::Config::load`].

use super::reader::{Reader, default_text, place};
use super::secret::Secrets;
use super::sections::is_loopback;
use super::{DEFAULT_SOURCE, Http, Map, Source, rules};

/// How a request is proven to come from its source.
#[derive(Debug, Clone)]
pub enum Verify {
    /// Signed as Standard Webhooks describes.
    StandardWebhooks {
        /// `whsec_…` (symmetric, `v1`) and `whpk_…` (a public ed25519 key, `v1a`).
        secrets: Secrets,
    },
    /// Signed in the sender's own way, with a symmetric key.
    Hmac(Hmac),
    /// `Authorization: Bearer …`.
    Bearer {
        /// Tokens of at least [`rules::TOKEN_CHARS_MIN`] characters.
        secrets: Secrets,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// `user:password` each.
        secrets: Secrets,
    },
    /// Not at all: the door is on loopback, or `insecure = true` was written out.
    None,
}

impl Verify {
    /// What it compares with; `None` where it compares nothing.
    pub fn secrets(&self) -> Option<&Secrets> {
        match self {
            Self::StandardWebhooks { secrets } | Self::Bearer { secrets } | Self::Basic { secrets } => Some(secrets),
            Self::Hmac(hmac) => Some(&hmac.secrets),
            Self::None => None,
        }
    }
}

/// A signature in a header: an HMAC over the body, or over a text that contains it.
#[derive(Debug, Clone)]
pub struct Hmac {
    /// Keys, as they are.
    pub secrets: Secrets,
    /// The header with the signature, in lower case.
    pub header: String,
    /// The hash.
    pub algorithm: HmacAlgorithm,
    /// How the signature is written.
    pub encoding: HmacEncoding,
    /// What stands before it, such as `sha256=`.
    pub prefix: String,
    /// The header with the time of signing, in lower case: seconds or milliseconds since 1970. Required by the signed
    /// text when it contains `{timestamp}`.
    pub timestamp_header: Option<String>,
    /// What is signed.
    pub text: SignedText,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HmacAlgorithm {
    /// For senders that know nothing better: as an HMAC it is not broken (RFC 6151 says the same of MD5's cousin).
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the bytes of a signature become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HmacEncoding {
    /// Two digits a byte, in either case.
    Hex,
    /// The standard alphabet, with padding.
    Base64,
}

/// What is signed: the body, with a text before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// Before the body; [`TIMESTAMP`] stands for the value of the timestamp header.
    pub before: String,
    /// After it; the same.
    pub after: String,
}

/// Where a [`SignedText`] has the time of signing.
pub const TIMESTAMP: &str = "{timestamp}";
/// Where `source.hmac_text` has the body.
const BODY: &str = "{body}";

impl SignedText {
    /// Reads `source.hmac_text`: it has the body once.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once(BODY)?;
        (!after.contains(BODY)).then(|| Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// Whether the time of signing is signed.
    pub fn is_timed(&self) -> bool {
        self.before.contains(TIMESTAMP) || self.after.contains(TIMESTAMP)
    }
}

/// The types of events that a source may send, as patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types(pub(super) Vec<String>);

impl Default for Types {
    /// Those about customers; those about the team have to be written out.
    fn default() -> Self {
        Self(vec![default_text("source.types").to_owned()])
    }
}

impl Types {
    /// Whether a type is one of them.
    pub fn allow(&self, type_name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(family) => type_name.starts_with(family),
            None => type_name == pattern,
        })
    }

    /// As they are written.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}

pub(super) fn read(r: &mut Reader, http: &Http, is_sandbox: bool) -> Vec<Source> {
    let labels = r.labels().to_vec();
    let mut sources: Vec<Source> = labels.iter().filter_map(|label| source(r, label, http)).collect();
    let is_configured = labels.iter().any(|label| label == DEFAULT_SOURCE);
    if is_sandbox && !is_configured && is_loopback(http.listen) {
        sources.push(Source {
            name: DEFAULT_SOURCE.to_owned(),
            verify: Verify::None,
            map: None,
            types: Types::default(),
        });
    }
    sources
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StandardWebhooks,
    Hmac,
    Bearer,
    Basic,
    None,
}

fn source(r: &mut Reader, label: &str, http: &Http) -> Option<Source> {
    const VERIFY: &[(&str, Kind)] = &[
        ("standard-webhooks", Kind::StandardWebhooks),
        ("hmac", Kind::Hmac),
        ("bearer", Kind::Bearer),
        ("basic", Kind::Basic),
        ("none", Kind::None),
    ];
    let kind = r.required(&place(label, "verify"), &rules::word(VERIFY), "for every source");
    let insecure = r.value(&place(label, "insecure"), &rules::flag());
    let hmac = hmac(r, label, kind);
    let map = map(r, label);
    let types = r.value(&place(label, "types"), &rules::types());
    let verify = match kind? {
        Kind::StandardWebhooks => Verify::StandardWebhooks { secrets: secrets(r, label, rules::verification_key) },
        Kind::Hmac => Verify::Hmac(Hmac { secrets: secrets(r, label, rules::token), ..hmac? }),
        Kind::Bearer => Verify::Bearer { secrets: secrets(r, label, rules::token) },
        Kind::Basic => Verify::Basic { secrets: secrets(r, label, rules::credentials) },
        Kind::None => {
            if r.is_given(&place(label, "secrets")) {
                let hint = "verify = none checks nothing: remove the secrets, or choose another verify";
                r.refuse(&place(label, "secrets"), "secrets", hint);
            }
            if !insecure && !is_loopback(http.listen) {
                let hint = "allowed only while http.listen is loopback, or with insecure = true";
                r.refuse(&place(label, "verify"), "\"none\"", hint);
            }
            Verify::None
        }
    };
    Some(Source { name: label.to_owned(), verify, map, types })
}

fn map(r: &mut Reader, label: &str) -> Option<Map> {
    let at = place(label, "map");
    let path = r.optional(&at, &rules::filled())?;
    match super::secret::read(std::path::Path::new(&path)) {
        Ok(code) => Some(Map { path, code }),
        Err(error) => {
            r.refuse(&at, format!("{path:?}"), format!("the file cannot be read: {error}"));
            None
        }
    }
}

/// The keys of `verify = "hmac"`, without its secrets; with another verify they are mistakes.
fn hmac(r: &mut Reader, label: &str, kind: Option<Kind>) -> Option<Hmac> {
    const KEYS: [&str; 6] =
        ["hmac_header", "hmac_algorithm", "hmac_encoding", "hmac_prefix", "hmac_timestamp_header", "hmac_text"];
    const ALGORITHM: &[(&str, HmacAlgorithm)] =
        &[("sha256", HmacAlgorithm::Sha256), ("sha512", HmacAlgorithm::Sha512), ("sha1", HmacAlgorithm::Sha1)];
    const ENCODING: &[(&str, HmacEncoding)] = &[("hex", HmacEncoding::Hex), ("base64", HmacEncoding::Base64)];
    if kind != Some(Kind::Hmac) {
        for key in KEYS.iter().map(|key| place(label, key)).filter(|_| kind.is_some()) {
            if r.is_given(&key) {
                r.refuse(&key, "a value", "it has a meaning with verify = hmac only");
            }
        }
        return None;
    }
    let header = r.required(&place(label, "hmac_header"), &rules::header(), "with verify = hmac");
    let algorithm = r.value(&place(label, "hmac_algorithm"), &rules::word(ALGORITHM));
    let encoding = r.value(&place(label, "hmac_encoding"), &rules::word(ENCODING));
    let prefix = r.value(&place(label, "hmac_prefix"), &rules::text());
    let timestamp_header = r.optional(&place(label, "hmac_timestamp_header"), &rules::header());
    let at = place(label, "hmac_text");
    let text = r.optional(&at, &rules::signed_text());
    let text = text.unwrap_or_else(|| SignedText {
        before: if timestamp_header.is_some() { format!("{TIMESTAMP}.") } else { String::new() },
        after: String::new(),
    });
    if text.is_timed() != timestamp_header.is_some() {
        let hint = format!(
            "{TIMESTAMP} in it and hmac_timestamp_header go together: a time that is not signed proves nothing"
        );
        r.refuse(&at, "one of the two", hint);
    }
    Some(Hmac {
        secrets: Secrets::fixed(Vec::new()),
        header: header?,
        algorithm,
        encoding,
        prefix,
        timestamp_header,
        text,
    })
}

fn secrets(r: &mut Reader, label: &str, rule: fn() -> rules::Rule<String>) -> Secrets {
    let at = place(label, "secrets");
    if !r.is_given(&at) {
        r.refuse(&at, "nothing", format!("required with this verify; allowed: {}, or secrets_file", rule().allowed));
    }
    r.secrets(&at, rule)
}
