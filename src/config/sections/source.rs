//! `[[source]]`: a sender of events, and how its requests are verified.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::inbound`].

use super::http::Http;
use crate::config::file;
use crate::config::key::{place, section};
use crate::config::reader::{Reader, unread};
use crate::config::rules::{self, Rule, is_loopback};
use crate::config::secret::{Secret, Secrets};
use crate::config::verify::{
    DEFAULT_SOURCE, Hmac, HmacAlgorithm, HmacEncoding, KeyEncoding, SignedAt, SignedText, TIMESTAMP, Types,
    USUAL_TYPES, Verify,
};
use crate::config::words::{AnswerWith, VerifyBy};

section! {
    /// Senders of events, one `[[source]]` table each. Requests over HTTP go to `/v1/events/NAME`; for `default` also to
    /// `/v1/events`.
    SOURCE = "source" {
        /// Name of the source, the last part of `/v1/events/NAME`.
        NAME: String = "name", rules::source_name(), given r#""default""#;
        /// How a request is verified: `standard-webhooks` (signed by that standard), `hmac` (signed in the sender's own way),
        /// `bearer` (a token), `basic` (user and password) or `none` (while `http.listen` is loopback).
        VERIFY: VerifyBy = "verify", rules::one_of(VerifyBy::names(), VerifyBy::from_name), given r#""standard-webhooks""#;
        /// Signing keys, tokens or credentials that are accepted, several at once for rotation. Make a signing key of your own
        /// with `echo "whsec_$(openssl rand -base64 32)"`.
        SECRETS: Secret = "secrets", rules::several(rules::source_secret()),
            given r#"["whsec_ZXhhbXBsZS1zaWduaW5nLWtleS1mb3ItZG9jcw=="]"#;
        /// Types of events that the source may send; those of `team.*` only if written out. An event of another type is answered
        /// 403 `type-not-allowed`, parked as `type_not_allowed` if it came from the queue, and rejected by an import.
        TYPES: Types = "types", rules::types(), default USUAL_TYPES;
        /// Whether `verify = "none"` is accepted although `http.listen` is not loopback. Every program that reaches the
        /// listener can then send events.
        INSECURE: bool = "insecure", rules::flag(), default "false";
        /// Content of the answer to an accepted request: `receipt` (its id and state), or `none` (202 without a body) for
        /// senders that read something else into a body, some of which are in docs/PRESETS.md. With `none` a batch with a
        /// refused event is answered with that problem as a whole; the other events are stored, and their repeats are
        /// duplicates.
        ANSWER: AnswerWith = "answer", rules::one_of(AnswerWith::names(), AnswerWith::from_name), default "receipt";
        /// File of a jq program that makes events of this source's messages that are no CloudEvents; deploy/mappings has some.
        /// It is read and compiled at the start.
        MAP: String = "map", rules::path(), example r#""mappings/crm/map.jq""#;
    }
}

section! {
    /// A sender with its token in a header of its own.
    SOURCE_BEARER = "source" after r#"
name = "sidecar"
verify = "bearer"
secrets = ["a-token-that-the-sidecar-has-as-well"]"# {
        /// Header that has the token alone, with `verify = "bearer"`. Without it the token comes in
        /// `authorization: Bearer TOKEN`.
        TOKEN_HEADER: String = "token_header", rules::header(), example r#""x-api-token""#;
    }
}

section! {
    /// A sender that signs in its own way; docs/PRESETS.md has the settings for some. Keys that begin with `hmac_` need
    /// `verify = "hmac"`.
    SOURCE_HMAC = "source" after r#"
name = "crm"
verify = "hmac"
secrets = ["a-secret-that-the-crm-has-as-well"]"# {
        /// Header with the signature. Required with `verify = "hmac"`.
        HMAC_HEADER: String = "hmac_header", rules::header(), example r#""x-signature""#;
        /// Hash of the signature.
        HMAC_ALGORITHM: HmacAlgorithm = "hmac_algorithm", rules::one_of(HmacAlgorithm::names(), HmacAlgorithm::from_name),
            default "sha256";
        /// Encoding of the signature: `hex` in either case, or `base64` in either alphabet, with or without padding.
        HMAC_ENCODING: HmacEncoding = "hmac_encoding", rules::one_of(HmacEncoding::names(), HmacEncoding::from_name),
            default "hex";
        /// Encoding of the keys in `source.secrets`: `text` (as they are), `hex` or `base64`.
        HMAC_KEY_ENCODING: KeyEncoding = "hmac_key_encoding", rules::one_of(KeyEncoding::names(), KeyEncoding::from_name),
            default "text";
        /// Text before the signature in its header, such as `sha256=`. A blank after it is ignored.
        HMAC_PREFIX: String = "hmac_prefix", rules::text(), default "";
        /// Header with the time of signing, if that is signed too: seconds or milliseconds since 1970, or ISO 8601. A delivery
        /// that was signed more than five minutes ago is refused.
        HMAC_TIMESTAMP_HEADER: String = "hmac_timestamp_header", rules::header(), example r#""x-timestamp""#;
        /// The text that is signed. Without it that is `{timestamp}.{body}` if there is a time of signing, else `{body}`.
        HMAC_TEXT: SignedText = "hmac_text", rules::signed_text(), example r#""{timestamp}.{body}""#;
    }
}

section! {
    /// A sender with time and signatures in one header of several parts, such as `t=1790000000,v1=…,v1=…`.
    SOURCE_PARTS = "source" after r#"
name = "payments"
verify = "hmac"
secrets = ["a-secret-that-the-sender-has-as-well"]
hmac_header = "payments-signature""# {
        /// Name of the signatures in a header of several parts. There may be several while a key is rotated.
        HMAC_SIGNATURE_FIELD: String = "hmac_signature_field", rules::header_field(), example r#""v1""#;
        /// Name of the time of signing in a header of several parts, if that is signed too.
        HMAC_TIMESTAMP_FIELD: String = "hmac_timestamp_field", rules::header_field(), example r#""t""#;
    }
}

/// One `[[source]]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// Last part of `/v1/events/{source}`: 1 to 64 of `a-z`, `0-9` and `-`. Unique.
    pub name: String,
    /// Proof that its requests carry.
    pub verify: Verify,
    /// Translates its messages that are no events.
    pub map: Option<Map>,
    /// Types of events that it may send.
    pub types: Types,
    /// True if an accepted request is answered with its receipt; else with a status and no body.
    pub tells_receipt: bool,
}

/// A jq program.
#[derive(Debug, Clone)]
pub struct Map {
    /// Path from which it was read.
    pub path: String,
    /// Text of the program, not compiled yet.
    pub code: String,
}

pub(in crate::config) fn read(r: &mut Reader, http: &Http, is_sandbox: bool) -> Vec<Source> {
    let labels = r.labels("source").to_vec();
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

fn source(r: &mut Reader, label: &str, http: &Http) -> Option<Source> {
    let by = r.required(&VERIFY.of(label), Some("for every source"));
    let insecure = r.value(&INSECURE.of(label));
    let hmac = hmac(r, label, by);
    let token_header = token_header(r, label, by);
    let map = map(r, label);
    let types = r.value(&TYPES.of(label));
    let tells_receipt = r.value(&ANSWER.of(label)) == AnswerWith::Receipt;
    let verify = match by? {
        VerifyBy::StandardWebhooks => Verify::StandardWebhooks { secrets: secrets(r, label, rules::verification_key) },
        VerifyBy::Hmac => {
            let key_encoding = r.value(&HMAC_KEY_ENCODING.of(label));
            let rule = move || rules::hmac_key(key_encoding);
            Verify::Hmac(Hmac { secrets: secrets(r, label, rule), key_encoding, ..hmac? })
        }
        VerifyBy::Bearer => Verify::Bearer { header: token_header, secrets: secrets(r, label, rules::token) },
        VerifyBy::Basic => Verify::Basic { secrets: secrets(r, label, rules::credentials) },
        VerifyBy::None => {
            if r.is_given(SECRETS.of(label)) {
                let hint = "verify = none checks nothing: remove the secrets, or choose another verify";
                r.refuse(SECRETS.of(label), "secrets", hint);
            }
            if !insecure && !is_loopback(http.listen) {
                let hint = "allowed only while http.listen is loopback, or with insecure = true";
                r.refuse(VERIFY.of(label), "\"none\"", hint);
            }
            Verify::None
        }
    };
    Some(Source { name: label.to_owned(), verify, map, types, tells_receipt })
}

fn token_header(r: &mut Reader, label: &str, by: Option<VerifyBy>) -> Option<String> {
    let key = TOKEN_HEADER.of(label);
    let header = r.optional(&key);
    if header.is_some() && by.is_some_and(|by| by != VerifyBy::Bearer) {
        r.refuse(&key, "a value", "it has a meaning with verify = bearer only");
    }
    header
}

fn map(r: &mut Reader, label: &str) -> Option<Map> {
    let key = MAP.of(label);
    let path = r.path(&key)?;
    match file::read(&path) {
        Ok(content) => Some(Map { path: path.display().to_string(), code: content.text }),
        Err(error) => {
            r.refuse(&key, format!("{path:?}"), unread(&path, &error));
            None
        }
    }
}

/// The keys of `verify = "hmac"`, without its secrets; with another verify they are mistakes.
fn hmac(r: &mut Reader, label: &str, by: Option<VerifyBy>) -> Option<Hmac> {
    if by != Some(VerifyBy::Hmac) {
        let names = SOURCE_HMAC.keys.iter().chain(SOURCE_PARTS.keys).filter_map(|key| key.name.strip_prefix("source."));
        for place in names.map(|name| place("source", label, name)).filter(|_| by.is_some()) {
            if r.is_given(&place) {
                r.refuse(&place, "a value", "it has a meaning with verify = hmac only");
            }
        }
        return None;
    }
    let header = r.required(&HMAC_HEADER.of(label), Some("with verify = hmac"));
    let algorithm = r.value(&HMAC_ALGORITHM.of(label));
    let encoding = r.value(&HMAC_ENCODING.of(label));
    let prefix = r.value(&HMAC_PREFIX.of(label));
    let signature_field = r.optional(&HMAC_SIGNATURE_FIELD.of(label));
    let signed_at = signed_at(r, label, signature_field.is_some());
    let text_key = HMAC_TEXT.of(label);
    let text = r.optional(&text_key).unwrap_or_else(|| SignedText {
        before: if signed_at.is_some() { format!("{TIMESTAMP}.") } else { String::new() },
        after: String::new(),
    });
    if text.is_timed() != signed_at.is_some() {
        let hint = format!(
            "{TIMESTAMP} in it and hmac_timestamp_header (or hmac_timestamp_field) go together: a time that is not \
             signed proves nothing"
        );
        r.refuse(&text_key, "one of the two", hint);
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
    let header = r.optional(&HMAC_TIMESTAMP_HEADER.of(label));
    let field_key = HMAC_TIMESTAMP_FIELD.of(label);
    let field = r.optional(&field_key);
    if field.is_some() && header.is_some() {
        r.refuse(&field_key, "also hmac_timestamp_header", "give one of the two");
    }
    if field.is_some() && !has_fields {
        let hint = "a header of several parts has a name for each of them: give both";
        r.refuse(&field_key, "no hmac_signature_field", hint);
    }
    header.map(SignedAt::Header).or(field.map(SignedAt::Field))
}

fn secrets(r: &mut Reader, label: &str, rule: impl Fn() -> Rule<Secret> + Send + Sync + 'static) -> Secrets {
    let key = SECRETS.of(label);
    if !r.is_given(&key) {
        let hint = format!("required with this verify; allowed: {}, or secrets_file", rule().allowed);
        r.refuse(&key, "nothing", hint);
    }
    r.secrets(&key, rule)
}
