//! `[[source]]`: who may send, and how a request is proven to come from there.
//!
//! Before: [`crate::config`]'s reader and rules. After: [`crate::config::Config::load`].

use super::codes::{bytes_of_base64, bytes_of_hex};
use super::reader::{Reader, default_text, place, unread};
use super::secret::Secrets;
use super::sections::is_loopback;
use super::{DEFAULT_SOURCE, Http, Map, Source, file, rules};

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
    /// `Authorization: Bearer …`, or the token alone in a header of its own.
    Bearer {
        /// The header with the token alone, in lower case; `None`: `Authorization`.
        header: Option<String>,
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
    /// How a secret becomes a key.
    pub key_encoding: KeyEncoding,
    /// The header with the signature, in lower case.
    pub header: String,
    /// Where the header has several parts, `t=…,v1=…`: the name of those that are signatures. `None`: the header is one
    /// signature.
    pub signature_field: Option<String>,
    /// The hash.
    pub algorithm: HmacAlgorithm,
    /// How the signature is written.
    pub encoding: HmacEncoding,
    /// What stands before it, such as `sha256=`.
    pub prefix: String,
    /// Where the time of signing is. Required by the signed text when it contains `{timestamp}`.
    pub signed_at: Option<SignedAt>,
    /// What is signed.
    pub text: SignedText,
}

impl Hmac {
    /// The keys that hold now.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let key = |secret: &super::Secret| match self.key_encoding {
            KeyEncoding::Text => Some(secret.expose().as_bytes().to_vec()),
            KeyEncoding::Hex => bytes_of_hex(secret.expose()),
            KeyEncoding::Base64 => bytes_of_base64(secret.expose()),
        };
        self.secrets.now().iter().filter_map(key).collect()
    }
}

/// Where a delivery has the time of signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedAt {
    /// In a header of its own, whose name is in lower case.
    Header(String),
    /// In the part of this name of the header with the signature.
    Field(String),
}

/// How the text of a secret becomes the bytes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    /// Its bytes are the key.
    Text,
    /// Hexadecimal digits, in either case.
    Hex,
    /// Base64, in either alphabet, with or without padding.
    Base64,
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
    /// In either alphabet, with or without padding.
    Base64,
}

/// What is signed: the body, with a text before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// Before the body; [`TIMESTAMP`] stands for the time of signing, letter for letter as it was sent.
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
            tells_receipt: true,
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
    let token_header = token_header(r, label, kind);
    let map = map(r, label);
    let types = r.value(&place(label, "types"), &rules::types());
    let tells_receipt = r.value(&place(label, "answer"), &rules::word(ANSWER));
    let verify = match kind? {
        Kind::StandardWebhooks => Verify::StandardWebhooks { secrets: secrets(r, label, rules::verification_key) },
        Kind::Hmac => {
            let key_encoding = r.value(&place(label, "hmac_key_encoding"), &rules::word(KEY_ENCODING));
            let rule = match key_encoding {
                KeyEncoding::Text => rules::hmac_key_text,
                KeyEncoding::Hex => rules::hmac_key_hex,
                KeyEncoding::Base64 => rules::hmac_key_base64,
            };
            Verify::Hmac(Hmac { secrets: secrets(r, label, rule), key_encoding, ..hmac? })
        }
        Kind::Bearer => Verify::Bearer { header: token_header, secrets: secrets(r, label, rules::token) },
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
    Some(Source { name: label.to_owned(), verify, map, types, tells_receipt })
}

const ANSWER: &[(&str, bool)] = &[("receipt", true), ("none", false)];

const KEY_ENCODING: &[(&str, KeyEncoding)] =
    &[("text", KeyEncoding::Text), ("hex", KeyEncoding::Hex), ("base64", KeyEncoding::Base64)];

fn token_header(r: &mut Reader, label: &str, kind: Option<Kind>) -> Option<String> {
    let at = place(label, "token_header");
    let header = r.optional(&at, &rules::header());
    if header.is_some() && kind.is_some_and(|kind| kind != Kind::Bearer) {
        r.refuse(&at, "a value", "it has a meaning with verify = bearer only");
    }
    header
}

fn map(r: &mut Reader, label: &str) -> Option<Map> {
    let at = place(label, "map");
    let path = r.path(&at)?;
    match file::read(&path) {
        Ok(content) => Some(Map { path: path.display().to_string(), code: content.text }),
        Err(error) => {
            r.refuse(&at, format!("{path:?}"), unread(&path, &error));
            None
        }
    }
}

/// The keys of `verify = "hmac"`, without its secrets; with another verify they are mistakes.
fn hmac(r: &mut Reader, label: &str, kind: Option<Kind>) -> Option<Hmac> {
    const KEYS: [&str; 9] = [
        "hmac_header",
        "hmac_signature_field",
        "hmac_timestamp_field",
        "hmac_algorithm",
        "hmac_encoding",
        "hmac_key_encoding",
        "hmac_prefix",
        "hmac_timestamp_header",
        "hmac_text",
    ];
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
    let signature_field = r.optional(&place(label, "hmac_signature_field"), &rules::header_field());
    let signed_at = signed_at(r, label, signature_field.is_some());
    let at = place(label, "hmac_text");
    let text = r.optional(&at, &rules::signed_text());
    let text = text.unwrap_or_else(|| SignedText {
        before: if signed_at.is_some() { format!("{TIMESTAMP}.") } else { String::new() },
        after: String::new(),
    });
    if text.is_timed() != signed_at.is_some() {
        let hint = format!(
            "{TIMESTAMP} in it and hmac_timestamp_header (or hmac_timestamp_field) go together: a time that is not \
             signed proves nothing"
        );
        r.refuse(&at, "one of the two", hint);
    }
    Some(Hmac {
        secrets: Secrets::fixed(Vec::new()),
        key_encoding: KeyEncoding::Text,
        header: header?,
        signature_field,
        algorithm,
        encoding,
        prefix,
        signed_at,
        text,
    })
}

fn signed_at(r: &mut Reader, label: &str, has_fields: bool) -> Option<SignedAt> {
    let header = r.optional(&place(label, "hmac_timestamp_header"), &rules::header());
    let at = place(label, "hmac_timestamp_field");
    let field = r.optional(&at, &rules::header_field());
    if field.is_some() && header.is_some() {
        r.refuse(&at, "also hmac_timestamp_header", "give one of the two");
    }
    if field.is_some() && !has_fields {
        r.refuse(&at, "no hmac_signature_field", "a header of several parts has a name for each of them: give both");
    }
    header.map(SignedAt::Header).or(field.map(SignedAt::Field))
}

fn secrets(r: &mut Reader, label: &str, rule: fn() -> rules::Rule<String>) -> Secrets {
    let at = place(label, "secrets");
    if !r.is_given(&at) {
        r.refuse(&at, "nothing", format!("required with this verify; allowed: {}, or secrets_file", rule().allowed));
    }
    r.secrets(&at, rule)
}
