//! Checks that a delivery comes from the sender it names. Bytes, headers, secrets and the time in; `Verified` out.
//!
//! Pure. Only this file makes a [`Verified`], so no later code can forget to ask. Comparisons take the same time, whichever
//! byte differs.
//!
//! Before: [`crate::inbound::http`]. After: [`crate::inbound::cloudevents`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::hmac::{Algorithm, Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use chrono::DateTime;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};
use subtle::ConstantTimeEq;

use super::cells::is_digits;
use super::delivery::{CONTENT_ENCODING, Delivery};
use crate::config::{
    Hmac, HmacAlgorithm, HmacEncoding, Secret, SignedAt, TIMESTAMP, Verify, bytes_of_base64, bytes_of_hex,
};
use crate::domain::Timestamp;
use crate::problem::{Problem, ProblemKind};

/// Limit of how far a time of signing may be off, in either direction: a recorded request cannot be replayed for longer.
/// Standard Webhooks asks for this value.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Limit of the signatures in one delivery. Senders write one for each key that is being rotated; each costs a computation.
const SIGNATURES_MAX: usize = 16;

/// Limit of a time of signing in seconds: from this number on it is in milliseconds, and from a thousand times this one in
/// microseconds, and so on. As seconds it would be in the year 5138.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// Header of a token or of user and password.
const AUTHORIZATION: &str = "authorization";

/// Header by which a sender names a delivery (the IETF draft of that name).
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Prefix of a secret key (Standard Webhooks, `v1`); it may be left out.
const SECRET_KEY_PREFIX: &str = "whsec_";

/// Prefix of a public key (Standard Webhooks, `v1a`).
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// A delivery whose sender proved to be the configured one.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The delivery without its bytes.
    delivery: Delivery,
    body: Bytes,
    proof: Proof,
}

/// The part of a delivery that its sender proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The whole delivery: the sender itself is proven.
    Sender,
    /// The body, and the header of this name.
    BodyAndId(&'static str),
    /// The body.
    Body,
}

impl Verified {
    fn new(mut delivery: Delivery, proof: Proof) -> Self {
        let body = std::mem::take(&mut delivery.body).into();
        Self { delivery, body, proof }
    }

    /// `true` if a signature was checked, which does not cover most headers: an attacker who has recorded a request may have
    /// changed them.
    pub fn is_signed_in_part(&self) -> bool {
        self.proof != Proof::Sender
    }

    /// The sender's name for the delivery, if there is one and it is proven: the IETF draft "The
    /// Idempotency-Key HTTP Header Field", or Standard Webhooks.
    pub fn name(&self) -> Option<&str> {
        let signed;
        let names: &[&str] = match self.proof {
            Proof::Sender => &[IDEMPOTENCY_KEY, STANDARD.id, SVIX.id],
            Proof::BodyAndId(name) => {
                signed = [name];
                &signed
            }
            Proof::Body => &[],
        };
        names.iter().find_map(|name| self.delivery.headers.get(*name)).map(String::as_str)
    }

    /// The delivery without its bytes.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The bytes, shared by all that is made of them.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same delivery, with its bytes held in another way.
    pub(super) fn with_body(mut self, held: impl FnOnce(Bytes) -> Bytes) -> Self {
        self.body = held(self.body);
        self
    }

    /// The same delivery with its body in another form (see [`super::text`]), which its coding no longer describes.
    pub(super) fn with_plain_body(&self, body: Vec<u8>) -> Self {
        let mut plain = Self { body: body.into(), ..self.clone() };
        plain.delivery.headers.retain(|name, _| !name.eq_ignore_ascii_case(CONTENT_ENCODING));
        plain
    }

    /// A delivery that needs no check: a frame from our own queue, since RabbitMQ has asked its sender for a password; what an
    /// operator imports, who may write into the store anyway; or what an operator tries out, which has no effect.
    pub(super) fn unchecked(delivery: Delivery) -> Self {
        Self::new(delivery, Proof::Sender)
    }
}

/// Headers of a delivery, names in lower case.
type Headers = BTreeMap<String, String>;

/// The reason of a refusal, which the sender gets.
type Refusal = Cow<'static, str>;

/// The value of a header that must be there.
fn given<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, Refusal> {
    headers.get(name).map(String::as_str).ok_or_else(|| format!("the header `{name}` is missing").into())
}

/// The headers by which a source's sender proves something, or that say what is proven. None of them may be there twice: it
/// would be a matter of chance which of two values is checked, and which is believed.
pub fn proofs(demand: &Verify) -> Vec<&str> {
    let mut names = vec![AUTHORIZATION];
    match demand {
        Verify::None | Verify::Basic { .. } | Verify::Bearer { header: None, .. } => {}
        Verify::Bearer { header: Some(header), .. } => names.push(header),
        Verify::StandardWebhooks { .. } => {
            let families = [&STANDARD, &SVIX];
            names.extend(families.into_iter().flat_map(|names| [names.id, names.timestamp, names.signature]));
        }
        Verify::Hmac(demand) => {
            names.push(&demand.header);
            if let Some(SignedAt::Header(header)) = &demand.signed_at {
                names.push(header);
            }
        }
    }
    names
}

/// `true` if the headers that [`admit`] lets pass prove the sender. A signature proves it only with the whole body.
pub fn is_proved_by_headers(demand: &Verify) -> bool {
    match demand {
        Verify::Bearer { .. } | Verify::Basic { .. } => true,
        Verify::None | Verify::StandardWebhooks { .. } | Verify::Hmac(_) => false,
    }
}

/// Checks what is known before the body is there: a token or a password; of a signature, that there is one and that it is not
/// too old. A signature's presence proves nothing yet.
pub fn admit(demand: &Verify, headers: &Headers, now: Timestamp) -> Result<(), Problem> {
    let is_admitted = match demand {
        Verify::None => Ok(()),
        Verify::Bearer { header, secrets } => bearer(&secrets.now(), header.as_deref(), headers),
        Verify::Basic { secrets } => basic(&secrets.now(), headers),
        Verify::StandardWebhooks { .. } => Stamped::read(headers, now).map(drop),
        Verify::Hmac(demand) => Tagged::read(demand, headers, now).map(drop),
    };
    is_admitted.map_err(refused)
}

/// Checks a delivery as its source demands.
pub fn verify(demand: &Verify, mut delivery: Delivery, now: Timestamp) -> Result<Verified, Problem> {
    let proof = match demand {
        Verify::None | Verify::Bearer { .. } | Verify::Basic { .. } => {
            admit(demand, &delivery.headers, now)?;
            Ok(Proof::Sender)
        }
        Verify::StandardWebhooks { secrets } => {
            standard_webhooks(&secrets.now(), &delivery, now).map(|names| Proof::BodyAndId(names.id))
        }
        Verify::Hmac(demand) => hmac(demand, &delivery, now).map(|()| Proof::Body),
    };
    let proof = proof.map_err(refused)?;
    if let Verify::Bearer { header: Some(header), .. } = demand {
        // By its name alone, later code could not know that it holds a secret.
        delivery.headers.remove(header);
    }
    Ok(Verified::new(delivery, proof))
}

/// The challenge of a refusal (RFC 9110, §11.6.1): clients that have a password wait for it before they send one. For a
/// signature the scheme has the name of `source.verify`; `None`: nothing is demanded.
pub fn challenge(demand: &Verify) -> Option<&'static str> {
    match demand {
        Verify::None => None,
        Verify::Bearer { .. } => Some(r#"Bearer realm="podero-bridge""#),
        Verify::Basic { .. } => Some(r#"Basic realm="podero-bridge", charset="UTF-8""#),
        Verify::StandardWebhooks { .. } => Some(r#"standard-webhooks realm="podero-bridge""#),
        Verify::Hmac(_) => Some(r#"hmac realm="podero-bridge""#),
    }
}

fn refused(why: Refusal) -> Problem {
    Problem::new(ProblemKind::Unauthorized, why)
}

fn bearer(secrets: &[Secret], header: Option<&str>, headers: &Headers) -> Result<(), Refusal> {
    let token = match header {
        None => authorization(headers, "Bearer", "the header `authorization` is not `Bearer <token>`")?,
        Some(header) => given(headers, header)?.trim(),
    };
    if is_one_of(secrets, token) { Ok(()) } else { Err("the token is not known".into()) }
}

/// Checks user and password (RFC 7617).
fn basic(secrets: &[Secret], headers: &Headers) -> Result<(), Refusal> {
    const FORM: &str = "the header `authorization` is not `Basic <base64 of user:password>`";
    let coded = authorization(headers, "Basic", FORM)?;
    let credentials = bytes_of_base64(coded).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(FORM)?;
    if is_one_of(secrets, &credentials) { Ok(()) } else { Err("user and password are not known".into()) }
}

fn authorization<'a>(headers: &'a Headers, scheme: &str, otherwise: &'static str) -> Result<&'a str, Refusal> {
    let (found, rest) = given(headers, AUTHORIZATION)?.split_once(' ').ok_or(otherwise)?;
    if found.eq_ignore_ascii_case(scheme) { Ok(rest.trim()) } else { Err(otherwise.into()) }
}

/// Compares with every secret, so that the time does not show which one is close.
fn is_one_of(secrets: &[Secret], presented: &str) -> bool {
    secrets.iter().fold(false, |found, secret| found | same(secret.expose().as_bytes(), presented.as_bytes()))
}

/// Checks that a time of signing, which stands in this header, is near.
fn check_time(header: &str, text: &str, now: Timestamp) -> Result<(), Refusal> {
    let wrong = |fault: &str| Refusal::from(format!("the time of signing in `{header}` is {fault}"));
    let no_time =
        "neither a number (seconds or milliseconds since 1970) nor ISO 8601 with a zone, such as 2026-10-01T12:00:00Z";
    let signed_at = moment(text).ok_or_else(|| wrong(no_time))?;
    let is_near = now.since(signed_at).max(signed_at.since(now)) <= TOLERANCE;
    if is_near { Ok(()) } else { Err(wrong("more than five minutes off; is the sender's clock right?")) }
}

/// Reads a time of signing: ISO 8601 with a zone, the date of HTTP, or a number since 1970 whose size shows its unit.
fn moment(text: &str) -> Option<Timestamp> {
    const FORMS: [&str; 3] = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y%m%dT%H%M%S%.f%#z"];
    if let Some(number) = number(text) {
        return Some(number);
    }
    let zoned = || {
        let text = text.replacen(' ', "T", 1).replace(' ', "").replace(',', ".").to_ascii_uppercase();
        let read = |form: &&str| DateTime::parse_from_str(&text, form).ok();
        FORMS.iter().find_map(read)
    };
    let read = DateTime::parse_from_rfc2822(text).ok().or_else(zoned)?;
    Some(Timestamp::from_micros(read.timestamp_micros()))
}

fn number(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let (mut micros, mut below) = (1_000_000, SECONDS_BELOW);
    while whole >= below && micros > 1 {
        (micros, below) = (micros / 1_000, below.saturating_mul(1_000));
    }
    if whole >= below {
        return Some(Timestamp::from_micros(whole / 1_000));
    }
    let millionths: i64 =
        fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    Some(Timestamp::from_micros(whole.checked_mul(micros)?.checked_add(millionths * micros / 1_000_000)?))
}

/// Names of the three headers of Standard Webhooks.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    id: &'static str,
    timestamp: &'static str,
    signature: &'static str,
}

const STANDARD: Names =
    Names { id: HEADER_WEBHOOK_ID, timestamp: HEADER_WEBHOOK_TIMESTAMP, signature: HEADER_WEBHOOK_SIGNATURE };

/// The names from before the standard. Senders that are hosted at Svix still use them.
const SVIX: Names = Names { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };

impl Names {
    /// The names that a delivery uses: all three of one family, never some of each.
    fn of(headers: &Headers) -> &'static Self {
        let has_any =
            |names: &Self| [names.id, names.timestamp, names.signature].iter().any(|name| headers.contains_key(*name));
        if !has_any(&STANDARD) && has_any(&SVIX) { &SVIX } else { &STANDARD }
    }
}

/// The headers of a Standard Webhooks delivery.
struct Stamped<'a> {
    names: &'static Names,
    id: &'a str,
    /// The time as it was sent, which is what is signed.
    timestamp: &'a str,
    signatures: &'a str,
}

impl<'a> Stamped<'a> {
    fn read(headers: &'a Headers, now: Timestamp) -> Result<Self, Refusal> {
        let names = Names::of(headers);
        let (id, timestamp) = (given(headers, names.id)?, given(headers, names.timestamp)?.trim());
        let signatures = given(headers, names.signature)?;
        check_time(names.timestamp, timestamp, now)?;
        if signatures.split_whitespace().count() > SIGNATURES_MAX {
            return Err(format!("there are more signatures in `{}` than are looked at", names.signature).into());
        }
        Ok(Self { names, id, timestamp, signatures })
    }

    /// The signatures of a version, as bytes.
    fn of_version(&self, version: &str) -> Vec<Vec<u8>> {
        let versions = self.signatures.split_whitespace().filter_map(|signature| signature.split_once(','));
        versions.filter(|(found, _)| *found == version).filter_map(|(_, coded)| bytes_of_base64(coded)).collect()
    }
}

/// Checks <https://www.standardwebhooks.com/> version 1: `v1` (HMAC-SHA256) with a key of ours, `v1a` (ed25519) with the
/// sender's public one. The published library would ask the machine for the time, and sign texts only, with a time that it has
/// written itself; the tests compare this code with it.
fn standard_webhooks(secrets: &[Secret], delivery: &Delivery, now: Timestamp) -> Result<&'static Names, Refusal> {
    let stamped = Stamped::read(&delivery.headers, now)?;
    let before = format!("{}.{}.", stamped.id, stamped.timestamp);
    let (symmetric, public) = (stamped.of_version("v1"), stamped.of_version("v1a"));
    let mut found = false;
    for secret in secrets {
        if let Some(key) = secret.expose().strip_prefix(PUBLIC_KEY_PREFIX) {
            let key = bytes_of_base64(key).ok_or("the configured key is not valid")?;
            let signed = [before.as_bytes(), &delivery.body].concat();
            let key = UnparsedPublicKey::new(&ED25519, key);
            found |= public.iter().fold(false, |found, given| found | key.verify(&signed, given).is_ok());
        } else {
            let key = secret.expose().strip_prefix(SECRET_KEY_PREFIX).unwrap_or(secret.expose());
            let key = bytes_of_base64(key).ok_or("the configured secret is not valid")?;
            found |= is_tag(HMAC_SHA256, &key, [before.as_bytes(), &delivery.body, b""], &symmetric);
        }
    }
    if found {
        return Ok(stamped.names);
    }
    Err(format!("no signature in `{}` fits body, id, timestamp and a known secret", stamped.names.signature).into())
}

/// `true` if one of the signatures is that of the text with the key. Each is compared.
fn is_tag(algorithm: Algorithm, key: &[u8], text: [&[u8]; 3], given: &[Vec<u8>]) -> bool {
    let mut context = Context::with_key(&Key::new(algorithm, key));
    text.iter().for_each(|part| context.update(part));
    let tag = context.sign();
    given.iter().fold(false, |found, given| found | same(tag.as_ref(), given))
}

/// The headers of a delivery with a generic HMAC.
struct Tagged<'a> {
    signatures: Vec<Vec<u8>>,
    /// The time as it was sent, which is what is signed.
    timestamp: &'a str,
}

impl<'a> Tagged<'a> {
    fn read(demand: &Hmac, headers: &'a Headers, now: Timestamp) -> Result<Self, Refusal> {
        let header = given(headers, &demand.header)?.trim();
        let parts = match &demand.signature_field {
            None => vec![header],
            Some(name) => values(header, name),
        };
        if parts.is_empty() {
            return Err(format!("the header `{}` has no part of the configured name", demand.header).into());
        }
        if parts.len() > SIGNATURES_MAX {
            return Err(format!("there are more signatures in `{}` than are looked at", demand.header).into());
        }
        let (place, timestamp) = match &demand.signed_at {
            None => (None, ""),
            Some(SignedAt::Header(name)) => (Some(name), given(headers, name)?.trim()),
            Some(SignedAt::Field(name)) => {
                let [timestamp] = values(header, name)[..] else {
                    return Err(format!("the header `{}` has not exactly one time of signing", demand.header).into());
                };
                (Some(&demand.header), timestamp)
            }
        };
        if let Some(place) = place {
            check_time(place, timestamp, now)?;
        }
        let coded: Vec<&str> = parts.into_iter().filter_map(|part| part.strip_prefix(&demand.prefix)).collect();
        if coded.is_empty() {
            return Err("the signature lacks its prefix".into());
        }
        let read = coded.into_iter().filter_map(|coded| match demand.encoding {
            HmacEncoding::Hex => bytes_of_hex(coded.trim_start()),
            HmacEncoding::Base64 => bytes_of_base64(coded.trim_start()),
        });
        let signatures: Vec<Vec<u8>> = read.collect();
        if signatures.is_empty() {
            return Err("the signature is not written in the agreed encoding".into());
        }
        Ok(Self { signatures, timestamp })
    }
}

/// The values of a name in a header of several parts, `t=…,v1=…`. Senders write commas or semicolons between parts, and some a
/// blank after them.
fn values<'a>(header: &'a str, name: &str) -> Vec<&'a str> {
    let parts = header.split([',', ';']).filter_map(|part| part.split_once('='));
    parts.filter(|(found, _)| found.trim() == name).map(|(_, value)| value.trim()).collect()
}

fn hmac(demand: &Hmac, delivery: &Delivery, now: Timestamp) -> Result<(), Refusal> {
    let Tagged { signatures, timestamp } = Tagged::read(demand, &delivery.headers, now)?;
    let algorithm = match demand.algorithm {
        HmacAlgorithm::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HmacAlgorithm::Sha256 => HMAC_SHA256,
        HmacAlgorithm::Sha512 => HMAC_SHA512,
    };
    let [before, after] = [&demand.text.before, &demand.text.after].map(|text| text.replace(TIMESTAMP, timestamp));
    let text = [before.as_bytes(), &delivery.body, after.as_bytes()];
    let found = demand.keys().iter().fold(false, |found, key| found | is_tag(algorithm, key, text, &signatures));
    if found { Ok(()) } else { Err("the signature does not fit the body and a known secret".into()) }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use standardwebhooks::Webhook;

    use super::*;
    use crate::config::{KeyEncoding, Secrets, SignedText};
    use crate::domain::event::Transport;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"hello":"world"}"#;
    const NOW: i64 = 1_700_000_000;

    fn secrets(texts: &[&str]) -> Secrets {
        Secrets::fixed(texts.iter().map(|text| Secret::new(*text)).collect())
    }

    fn delivery(headers: &[(&str, String)], body: &[u8]) -> Delivery {
        Delivery {
            transport: Transport::Http,
            source: "default".into(),
            content_type: None,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            body: body.to_vec(),
            received_at: at(NOW),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn signed(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Vec<(&'static str, String)> {
        let signature = Webhook::new(secret).expect("valid").sign(id, timestamp, body).expect("text");
        vec![
            (HEADER_WEBHOOK_ID, id.to_owned()),
            (HEADER_WEBHOOK_TIMESTAMP, timestamp.to_string()),
            (HEADER_WEBHOOK_SIGNATURE, signature),
        ]
    }

    #[test]
    fn standard_webhooks_table() {
        let demand = Verify::StandardWebhooks { secrets: secrets(&[OTHER, SECRET]) };
        let good = signed(SECRET, "m1", NOW, BODY);
        let with = |index: usize, value: &str| {
            let mut headers = good.clone();
            headers[index].1 = value.to_owned();
            headers
        };
        let several = with(2, &format!("v1,AAAA v1a,BBBB {}", good[2].1));
        for (name, headers, body, passes) in [
            ("signed by the second secret", good.clone(), BODY, true),
            ("one good signature among several", several, BODY, true),
            ("another body", good.clone(), &b"{}"[..], false),
            ("another id", with(0, "m2"), BODY, false),
            ("another timestamp", with(1, &(NOW + 1).to_string()), BODY, false),
            ("a wrong secret", signed("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "m1", NOW, BODY), BODY, false),
            ("another version", with(2, &good[2].1.replace("v1,", "v2,")), BODY, false),
            ("a part of the signature", with(2, &good[2].1[..10]), BODY, false),
            ("nothing signed", with(2, ""), BODY, false),
            ("not a number", with(1, "yesterday"), BODY, false),
            ("no headers", vec![], BODY, false),
            ("at the edge of the past", signed(SECRET, "m1", NOW - 300, BODY), BODY, true),
            ("too old", signed(SECRET, "m1", NOW - 301, BODY), BODY, false),
            ("too new", signed(SECRET, "m1", NOW + 301, BODY), BODY, false),
        ] {
            let result = verify(&demand, delivery(&headers, body), at(NOW));
            assert_eq!(result.is_ok(), passes, "{name}");
            if let Err(problem) = result {
                assert_eq!(problem.kind, ProblemKind::Unauthorized, "{name}");
            }
        }
    }

    #[test]
    fn bearer_table() {
        let demand = Verify::Bearer { header: None, secrets: secrets(&["old-token-old-token", "new-token-new-token"]) };
        for (header, passes) in [
            (Some("Bearer new-token-new-token"), true),
            (Some("bearer old-token-old-token"), true),
            (Some("Bearer new-token-new-toke"), false),
            (Some("Basic new-token-new-token"), false),
            (Some("new-token-new-token"), false),
            (Some("Bearer "), false),
            (None, false),
        ] {
            let headers: Vec<_> = header.map(|value| ("authorization", value.to_owned())).into_iter().collect();
            assert_eq!(verify(&demand, delivery(&headers, BODY), at(NOW)).is_ok(), passes, "{header:?}");
        }
    }

    #[test]
    fn basic_table() {
        let demand = Verify::Basic { secrets: secrets(&["old:password-password", "crm:pass:word-password"]) };
        let coded = |credentials: &str| Some(format!("Basic {}", BASE64.encode(credentials)));
        for (header, passes) in [
            (coded("crm:pass:word-password"), true),
            (coded("old:password-password"), true),
            (coded("crm:password-password"), false),
            (coded("crm"), false),
            (Some("Basic crm:pass:word-password".to_owned()), false),
            (Some(format!("Bearer {}", BASE64.encode("crm:pass:word-password"))), false),
            (None, false),
        ] {
            let headers: Vec<_> = header.iter().map(|value| ("authorization", value.clone())).collect();
            assert_eq!(verify(&demand, delivery(&headers, BODY), at(NOW)).is_ok(), passes, "{header:?}");
            let headers = delivery(&headers, BODY).headers;
            assert_eq!(admit(&demand, &headers, at(NOW)).is_ok(), passes, "before the body: {header:?}");
        }
    }

    fn signed_in_hex(algorithm: HmacAlgorithm, prefix: &str) -> Hmac {
        Hmac {
            secrets: secrets(&["another-secret-of-it", "Jefe-Jefe-Jefe-Jefe"]),
            key_encoding: KeyEncoding::Text,
            header: "x-signature".into(),
            signature_field: None,
            algorithm,
            encoding: HmacEncoding::Hex,
            prefix: prefix.into(),
            signed_at: None,
            text: SignedText { before: String::new(), after: String::new() },
        }
    }

    /// The signatures were made with Python's `hmac`: `hmac.new(b"Jefe-Jefe-Jefe-Jefe", text, "sha1").hexdigest()`.
    #[test]
    fn hmac_table() {
        let plain = |algorithm| signed_in_hex(algorithm, "");
        let prefixed = signed_in_hex(HmacAlgorithm::Sha256, "sha256=");
        let timed = Hmac {
            encoding: HmacEncoding::Base64,
            signed_at: Some(SignedAt::Header("x-timestamp".into())),
            text: SignedText { before: "v0:{timestamp}:".into(), after: String::new() },
            ..signed_in_hex(HmacAlgorithm::Sha256, "v0=")
        };
        let of_body = "803ea5e9382fcf39122859bd39ed36357accaad2f947c1802b4abff04865f2b3";
        let in_capitals = of_body.to_uppercase();
        let of_timed = "v0=9QNkfrsD0+VLlLA1Kae5YFpIyM882AlPG8a1de5lfC8=";
        let now = NOW.to_string();
        for (name, demand, signature, timestamp, passes) in [
            ("sha1", &plain(HmacAlgorithm::Sha1), "65eade34bafc1e22fb61155e2cd79cb4be4b8557", None, true),
            ("sha256", &plain(HmacAlgorithm::Sha256), of_body, None, true),
            (
                "sha512",
                &plain(HmacAlgorithm::Sha512),
                "65a6ad140a9bc4c29acef8386fccb8b96df3109582b051c5ba197769d1c2d320b3c6616e819ac2a181c8efe70e6d78258eaf2f27076f1d35e3b58f4f9ef7b61d",
                None,
                true,
            ),
            ("in capitals", &plain(HmacAlgorithm::Sha256), &in_capitals, None, true),
            ("another hash", &plain(HmacAlgorithm::Sha1), of_body, None, false),
            ("a part of it", &plain(HmacAlgorithm::Sha256), &of_body[..32], None, false),
            ("half a byte", &plain(HmacAlgorithm::Sha256), &of_body[..63], None, false),
            ("nothing", &plain(HmacAlgorithm::Sha256), "", None, false),
            ("its prefix", &prefixed, &format!("sha256={of_body}"), None, true),
            ("no prefix", &prefixed, of_body, None, false),
            ("a signed time", &timed, of_timed, Some(now.clone()), true),
            ("a time that was not signed", &timed, of_timed, Some((NOW + 1).to_string()), false),
            ("no time", &timed, of_timed, None, false),
            ("an old time", &timed, of_timed, Some((NOW - 301).to_string()), false),
            ("no number", &timed, of_timed, Some("yesterday".to_owned()), false),
            ("milliseconds, near and not signed", &timed, of_timed, Some((NOW * 1_000).to_string()), false),
        ] {
            let mut headers = vec![("x-signature", signature.to_owned())];
            headers.extend(timestamp.map(|timestamp| ("x-timestamp", timestamp)));
            let result = verify(&Verify::Hmac(demand.clone()), delivery(&headers, BODY), at(NOW));
            assert_eq!(result.is_ok(), passes, "{name}: {:?}", result.err());
        }
    }

    #[test]
    fn a_signature_with_the_senders_own_key_passes_beside_the_other_kind() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
        let public = format!("whpk_{}", BASE64.encode(pair.public_key().as_ref()));
        let demand = Verify::StandardWebhooks { secrets: secrets(&[SECRET, &public]) };
        let made = |text: &str| format!("v1a,{}", BASE64.encode(pair.sign(text.as_bytes()).as_ref()));
        let good = made(&format!("m1.{NOW}.{}", String::from_utf8_lossy(BODY)));
        for (name, signature, body, passes) in [
            ("signed", good.clone(), BODY, true),
            ("after one that does not fit", format!("v1,AAAA {good}"), BODY, true),
            ("another body", good.clone(), &b"{}"[..], false),
            ("another id", made(&format!("m2.{NOW}.{}", String::from_utf8_lossy(BODY))), BODY, false),
            ("under the other version", good.replace("v1a,", "v1,"), BODY, false),
            ("a part of it", good[..20].to_owned(), BODY, false),
        ] {
            let mut headers = signed(SECRET, "m1", NOW, BODY);
            headers[2].1 = signature;
            assert_eq!(verify(&demand, delivery(&headers, body), at(NOW)).is_ok(), passes, "{name}");
        }
    }

    #[test]
    fn a_delivery_has_the_name_that_its_sender_has_proven() {
        let mut headers = signed(SECRET, "m1", NOW, BODY);
        headers.push(("idempotency-key", "k1".to_owned()));
        let name = |demand: &Verify| {
            verify(demand, delivery(&headers, BODY), at(NOW)).map(|verified| verified.name().map(str::to_owned))
        };
        assert_eq!(name(&Verify::None), Ok(Some("k1".to_owned())));
        let demand = Verify::StandardWebhooks { secrets: secrets(&[SECRET]) };
        assert_eq!(name(&demand), Ok(Some("m1".to_owned())), "the other header is not signed");
    }

    #[test]
    fn more_signatures_than_a_sender_has_keys_are_not_computed() {
        let demand = Verify::StandardWebhooks { secrets: secrets(&[SECRET]) };
        let mut headers = signed(SECRET, "m1", NOW, BODY);
        headers[2].1 = format!("{}{}", "v1,AAAA ".repeat(SIGNATURES_MAX), headers[2].1);
        assert!(verify(&demand, delivery(&headers, BODY), at(NOW)).is_err());
    }

    #[test]
    fn times_of_signing_are_read_in_every_form_that_senders_use() {
        let soon = Timestamp::parse("2026-11-28T18:00:00Z").expect("a time");
        let later = |millis: u64| soon.plus(Duration::from_millis(millis));
        for (text, expected) in [
            ("1795888800", soon),
            ("1795888800.0", soon),
            ("1795888800.25", later(250)),
            ("1795888800000", soon),
            ("1795888800250", later(250)),
            ("1795888800250.5", later(250).plus(Duration::from_micros(500))),
            ("1795888800250000", later(250)),
            ("1795888800250000000", later(250)),
            ("2026-11-28T18:00:00Z", soon),
            ("2026-11-28t18:00:00z", soon),
            ("2026-11-28T18:00:00.250Z", later(250)),
            ("2026-11-28T18:00:00,250Z", later(250)),
            ("2026-11-28T19:00:00+01:00", soon),
            ("2026-11-28T19:00:00+0100", soon),
            ("2026-11-28T19:00:00+01", soon),
            ("2026-11-28T08:00:00.250-10:00", later(250)),
            ("2026-11-28 18:00:00Z", soon),
            ("2026-11-28 18:00:00 +00:00", soon),
            ("2026-11-28T18:00Z", soon),
            ("20261128T180000Z", soon),
            ("Sat, 28 Nov 2026 18:00:00 GMT", soon),
        ] {
            assert_eq!(moment(text), Some(expected), "{text}");
        }
        // Without a zone it would be another moment in each.
        for text in [
            "",
            "yesterday",
            "-1",
            "+1795888800",
            "1e9",
            "1795888800.",
            ".5",
            "0x6b",
            "2026-11-28T18:00:00",
            "2026-11-28",
            "28.11.2026 18:00",
            "1795888800,5",
            "99999999999999999999",
            "1795888800 ",
            "NaN",
            "Infinity",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    /// Signs as a sender does: the time is a part of the text, letter for letter.
    fn tagged(timestamp: &str, body: &[u8]) -> Vec<u8> {
        let key = Key::new(HMAC_SHA256, b"Jefe-Jefe-Jefe-Jefe");
        aws_lc_rs::hmac::sign(&key, &[timestamp.as_bytes(), b".", body].concat()).as_ref().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_recorded_delivery_is_refused_in_every_form_of_time() {
        let demand = Verify::Hmac(Hmac {
            signed_at: Some(SignedAt::Header("x-timestamp".into())),
            text: SignedText { before: "{timestamp}.".into(), after: String::new() },
            ..signed_in_hex(HmacAlgorithm::Sha256, "")
        });
        // 1_700_000_000 is 2023-11-14T22:13:20Z.
        for (timestamp, passes) in [
            ("1699999700", true),
            ("1699999699", false),
            ("1699999700.0", true),
            ("1699999699.9", false),
            ("1699999700000", true),
            ("1699999699999", false),
            ("1700000300", true),
            ("1700000300001", false),
            ("2023-11-14T22:08:20Z", true),
            ("2023-11-14T22:08:19.999Z", false),
            ("2023-11-14T23:08:20+01:00", true),
            ("2023-11-14T23:08:19+01:00", false),
            ("2023-11-14T22:13:20", false),
        ] {
            let tag = tagged(timestamp, BODY);
            let headers = [("x-signature", hex(&tag)), ("x-timestamp", timestamp.to_owned())];
            let verified = verify(&demand, delivery(&headers, BODY), at(NOW));
            assert_eq!(verified.is_ok(), passes, "{timestamp}: {:?}", verified.err());
        }
        // The same moment in other letters was not signed.
        let headers = [("x-signature", hex(&tagged("1700000000", BODY))), ("x-timestamp", "1700000000.0".to_owned())];
        assert!(verify(&demand, delivery(&headers, BODY), at(NOW)).is_err());
    }

    #[test]
    fn one_header_may_have_the_time_and_several_signatures() {
        let with = |field: Option<&str>| Hmac {
            signature_field: Some("v1".into()),
            signed_at: field.map(|field| SignedAt::Field(field.into())),
            text: SignedText {
                before: if field.is_some() { "{timestamp}.".into() } else { String::new() },
                after: String::new(),
            },
            ..signed_in_hex(HmacAlgorithm::Sha256, "")
        };
        let (timed, untimed) = (with(Some("t")), with(None));
        let good = hex(&tagged("1700000000", BODY));
        let of_body = "803ea5e9382fcf39122859bd39ed36357accaad2f947c1802b4abff04865f2b3";
        let many = format!("t=1700000000{},v1={good}", ",v1=00".repeat(SIGNATURES_MAX));
        for (name, demand, header, passes) in [
            ("the usual form", &timed, format!("t=1700000000,v1={good}"), true),
            ("another order", &timed, format!("v1={good},t=1700000000"), true),
            ("blanks", &timed, format!(" t = 1700000000 , v1= {good} "), true),
            ("semicolons", &timed, format!("t=1700000000;v1={good}"), true),
            ("other versions", &timed, format!("t=1700000000,v0={},v1={good},v2=x", &good[..8]), true),
            ("the second of several", &timed, format!("t=1700000000,v1=00,v1={good}"), true),
            ("one that is no hexadecimal", &timed, format!("t=1700000000,v1=zz,v1={good}"), true),
            ("under another version alone", &timed, format!("t=1700000000,v0={good}"), false),
            ("no time", &timed, format!("v1={good}"), false),
            ("two times", &timed, format!("t=1700000000,t=1700000001,v1={good}"), false),
            ("another time", &timed, format!("t=1700000001,v1={good}"), false),
            ("a name in capitals", &timed, format!("T=1700000000,v1={good}"), false),
            ("an old time", &timed, format!("t=1699999699,v1={}", hex(&tagged("1699999699", BODY))), false),
            ("the signature alone", &timed, good.clone(), false),
            ("nothing", &timed, String::new(), false),
            ("more than are looked at", &timed, many, false),
            ("without a time", &untimed, format!("v1=00,v1={of_body}"), true),
            ("without a time, wrong", &untimed, "v1=00,v1=0000".to_owned(), false),
        ] {
            let headers = [("x-signature", header)];
            let verified = verify(&Verify::Hmac(demand.clone()), delivery(&headers, BODY), at(NOW));
            assert_eq!(verified.is_ok(), passes, "{name}: {:?}", verified.err());
        }
    }

    #[test]
    fn blanks_paddings_and_alphabets_make_no_difference() {
        let hexadecimal = signed_in_hex(HmacAlgorithm::Sha256, "sha256=");
        let of_body = "803ea5e9382fcf39122859bd39ed36357accaad2f947c1802b4abff04865f2b3";
        let coded = Hmac { encoding: HmacEncoding::Base64, ..signed_in_hex(HmacAlgorithm::Sha256, "") };
        let tag = bytes_of_hex(of_body).expect("hexadecimal");
        for (name, demand, signature, passes) in [
            ("a blank after the prefix", &hexadecimal, format!("sha256= {of_body}"), true),
            ("blanks around it", &hexadecimal, format!(" sha256=\t{of_body} "), true),
            ("a blank before the end of the prefix", &hexadecimal, format!("sha256 ={of_body}"), false),
            ("a blank within", &hexadecimal, format!("sha256={} {}", &of_body[..10], &of_body[10..]), false),
            ("padded", &coded, BASE64.encode(&tag), true),
            ("not padded", &coded, STANDARD_NO_PAD.encode(&tag), true),
            ("url-safe", &coded, URL_SAFE.encode(&tag), true),
            ("url-safe, not padded", &coded, URL_SAFE_NO_PAD.encode(&tag), true),
            ("cut", &coded, STANDARD_NO_PAD.encode(&tag[..31]), false),
            ("hexadecimal where base64 is agreed", &coded, of_body.to_owned(), false),
        ] {
            let headers = [("x-signature", signature)];
            let verified = verify(&Verify::Hmac(demand.clone()), delivery(&headers, BODY), at(NOW));
            assert_eq!(verified.is_ok(), passes, "{name}: {:?}", verified.err());
        }
    }

    #[test]
    fn a_key_may_be_written_in_hexadecimal_or_base64() {
        let key: Vec<u8> = (0xe0..=0xff).collect();
        let tag = aws_lc_rs::hmac::sign(&Key::new(HMAC_SHA256, &key), BODY);
        let headers = [("x-signature", hex(tag.as_ref()))];
        for (encoding, secret, passes) in [
            (KeyEncoding::Hex, hex(&key), true),
            (KeyEncoding::Hex, hex(&key).to_uppercase(), true),
            (KeyEncoding::Base64, BASE64.encode(&key), true),
            (KeyEncoding::Base64, URL_SAFE_NO_PAD.encode(&key), true),
            (KeyEncoding::Text, hex(&key), false),
            (KeyEncoding::Text, BASE64.encode(&key), false),
            (KeyEncoding::Base64, hex(&key), false),
        ] {
            let demand = Hmac {
                secrets: secrets(&[&secret]),
                key_encoding: encoding,
                ..signed_in_hex(HmacAlgorithm::Sha256, "")
            };
            let verified = verify(&Verify::Hmac(demand), delivery(&headers, BODY), at(NOW));
            assert_eq!(verified.is_ok(), passes, "{encoding:?}");
        }
    }

    #[test]
    fn a_signature_covers_bytes_that_are_no_text() {
        let body = b"{\"name\":\"M\xfcller\"}\x1f\x8b\x00";
        let key = "Jefe-Jefe-Jefe-Jefe";
        let tag = aws_lc_rs::hmac::sign(&Key::new(HMAC_SHA256, key.as_bytes()), body);
        let headers = [("x-signature", hex(tag.as_ref()))];
        let demand = Verify::Hmac(signed_in_hex(HmacAlgorithm::Sha256, ""));
        assert!(verify(&demand, delivery(&headers, body), at(NOW)).is_ok());
        assert!(verify(&demand, delivery(&headers, &body[1..]), at(NOW)).is_err());

        let signed = [format!("m1.{NOW}.").as_bytes(), body].concat();
        let secret = BASE64.decode(&SECRET["whsec_".len()..]).expect("Base64");
        let tag = BASE64.encode(aws_lc_rs::hmac::sign(&Key::new(HMAC_SHA256, &secret), &signed));
        let headers = [
            ("webhook-id", "m1".to_owned()),
            ("webhook-timestamp", NOW.to_string()),
            ("webhook-signature", format!("v1,{tag}")),
        ];
        let demand = Verify::StandardWebhooks { secrets: secrets(&[SECRET]) };
        assert!(verify(&demand, delivery(&headers, body), at(NOW)).is_ok());
    }

    #[test]
    fn the_older_header_names_are_read_where_no_newer_one_is_there() {
        let demand = Verify::StandardWebhooks { secrets: secrets(&[SECRET]) };
        let good = signed(SECRET, "m1", NOW, BODY);
        let older = |index: usize| (["svix-id", "svix-timestamp", "svix-signature"][index], good[index].1.clone());
        let newer = |index: usize| good[index].clone();
        let another = |index: usize| signed(SECRET, "m2", NOW, BODY)[index].clone();
        let check = |name: &str, headers: Vec<(&'static str, String)>, expected: Option<&str>| {
            let verified = verify(&demand, delivery(&headers, BODY), at(NOW));
            let name_of = verified.as_ref().ok().and_then(|verified| verified.name().map(str::to_owned));
            assert_eq!(name_of.as_deref(), expected, "{name}: {:?}", verified.as_ref().err());
            let admitted = admit(&demand, &delivery(&headers, BODY).headers, at(NOW));
            assert!(verified.is_err() || admitted.is_ok(), "{name}");
        };
        check("the older ones", vec![older(0), older(1), older(2)], Some("m1"));
        check("both, the newer good", vec![newer(0), newer(1), newer(2), older(0)], Some("m1"));
        check("two older, one newer", vec![newer(0), older(1), older(2)], None);
        check("two newer, one older", vec![older(0), newer(1), newer(2)], None);
        check("an older id that is not signed", vec![another(0), newer(1), newer(2), older(0)], None);
        check("one is missing", vec![older(0), older(2)], None);
    }

    #[test]
    fn a_token_may_stand_in_a_header_of_its_own_and_goes_no_further() {
        let demand =
            Verify::Bearer { header: Some("x-shared-key".into()), secrets: secrets(&["a-token-that-is-long-enough"]) };
        for (header, value, passes) in [
            ("x-shared-key", "a-token-that-is-long-enough", true),
            ("x-shared-key", " a-token-that-is-long-enough ", true),
            ("x-shared-key", "a-token-that-is-long-enougH", false),
            ("authorization", "Bearer a-token-that-is-long-enough", false),
        ] {
            let verified = verify(&demand, delivery(&[(header, value.to_owned())], BODY), at(NOW));
            assert_eq!(verified.is_ok(), passes, "{header}");
            assert!(verified.is_ok_and(|verified| verified.delivery().headers.is_empty()) || !passes);
        }
    }

    #[test]
    fn basic_credentials_are_read_without_padding_and_in_the_other_alphabet() {
        let demand = Verify::Basic { secrets: secrets(&["crm:pä??wörd~~~>>>-password"]) };
        let text = "crm:pä??wörd~~~>>>-password";
        for coded in
            [BASE64.encode(text), STANDARD_NO_PAD.encode(text), URL_SAFE.encode(text), URL_SAFE_NO_PAD.encode(text)]
        {
            let headers = [("authorization", format!("Basic {coded}"))];
            assert!(verify(&demand, delivery(&headers, BODY), at(NOW)).is_ok(), "{coded}");
        }
    }

    #[test]
    fn every_demand_that_can_be_refused_has_a_challenge() {
        let demands = [
            Verify::Bearer { header: None, secrets: secrets(&[]) },
            Verify::Basic { secrets: secrets(&[]) },
            Verify::StandardWebhooks { secrets: secrets(&[]) },
            Verify::Hmac(signed_in_hex(HmacAlgorithm::Sha256, "")),
        ];
        for demand in demands {
            assert!(verify(&demand, delivery(&[], BODY), at(NOW)).is_err(), "{demand:?}");
            let challenge = challenge(&demand).expect("there is one");
            assert!(challenge.contains(" realm=\""), "{challenge}");
        }
        assert_eq!(challenge(&Verify::None), None);
    }
}
