//! Is a delivery from whom it says it is? Bytes, headers, secrets and the time in; `Verified` out.
//!
//! Pure. [`Verified`] has no other way to come into being, so nothing past this file can forget to ask.
//! Comparisons take the same time wherever they differ.
//!
//! Before: [`crate::inbound::http`]. After: [`crate::inbound::cloudevents`].

use std::collections::BTreeMap;

use aws_lc_rs::hmac::{Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use subtle::ConstantTimeEq;

use super::Delivery;
use super::problem::{Problem, ProblemKind};
use crate::config::{Hmac, HmacAlgorithm, HmacEncoding, Secret, TIMESTAMP, Verify};
use crate::domain::Timestamp;

/// Standard Webhooks asks receivers to refuse what is older or newer than this: a recorded request cannot be
/// played back for longer.
pub const TOLERANCE_SECONDS: i64 = 5 * 60;

/// Senders write one signature for each key that is being rotated; each costs a computation.
const SIGNATURES_MAX: usize = 16;

/// A time of signing from this number on is one of milliseconds: as seconds it would be in the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Standard Webhooks: a public key for `v1a`.
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// A delivery whose sender proved to be the configured one.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Without its bytes.
    delivery: Delivery,
    body: Bytes,
    proof: Proof,
}

/// What its sender proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// That he is who he is: all of it is his.
    Sender,
    /// That the body is his, and the header `webhook-id`.
    BodyAndId,
    /// That the body is his.
    Body,
}

impl Verified {
    fn new(mut delivery: Delivery, proof: Proof) -> Self {
        let body = std::mem::take(&mut delivery.body).into();
        Self { delivery, body, proof }
    }

    /// Whether a signature was checked, which most headers are no part of: whoever has recorded a request may have written
    /// them anew.
    pub fn is_signed_in_part(&self) -> bool {
        self.proof != Proof::Sender
    }

    /// How the sender of a webhook names the delivery, if he does and it is proven that he does: the IETF draft "The
    /// Idempotency-Key HTTP Header Field", or Standard Webhooks.
    pub fn name(&self) -> Option<&str> {
        let names: &[&str] = match self.proof {
            Proof::Sender => &["idempotency-key", HEADER_WEBHOOK_ID],
            Proof::BodyAndId => &[HEADER_WEBHOOK_ID],
            Proof::Body => &[],
        };
        names.iter().find_map(|name| self.delivery.headers.get(*name)).map(String::as_str)
    }

    /// What was delivered, but for its bytes.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The bytes, shared by all that is made of them.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same delivery with its body in another form (see [`super::text`]), which its coding no longer describes.
    pub(super) fn with_plain_body(&self, body: Vec<u8>) -> Self {
        let mut plain = Self { body: body.into(), ..self.clone() };
        plain.delivery.headers.retain(|name, _| !name.eq_ignore_ascii_case(super::text::CONTENT_ENCODING));
        plain
    }

    /// A message that somebody tries out at a terminal; nothing is done about it.
    pub(super) fn unproven(delivery: Delivery) -> Self {
        Self::new(delivery, Proof::Sender)
    }

    /// A line of a file that the operator imports: whoever may do that may write into the store.
    pub(super) fn by_operator(delivery: Delivery) -> Self {
        Self::new(delivery, Proof::Sender)
    }

    /// A frame from our own queue: RabbitMQ has asked the sender for its password.
    pub(super) fn by_broker(delivery: Delivery) -> Self {
        Self::new(delivery, Proof::Sender)
    }
}

/// What a delivery's headers are: names in lower case.
type Headers = BTreeMap<String, String>;

/// What a refused sender is told.
type Refusal = &'static str;

/// Checks what can be told before the body is there: a token or a password; of a signature, that there is one and that it
/// is not too old. Who passes by a signature's look may still be anybody.
pub fn admit(demand: &Verify, headers: &Headers, now: Timestamp) -> Result<(), Problem> {
    let is_admitted = match demand {
        Verify::None => Ok(()),
        Verify::Bearer { secrets } => bearer(&secrets.now(), headers),
        Verify::Basic { secrets } => basic(&secrets.now(), headers),
        Verify::StandardWebhooks { .. } => Stamped::read(headers, now).map(drop),
        Verify::Hmac(demand) => Tagged::read(demand, headers, now).map(drop),
    };
    is_admitted.map_err(refused)
}

/// Checks a delivery as its source demands.
pub fn verify(demand: &Verify, delivery: Delivery, now: Timestamp) -> Result<Verified, Problem> {
    let is_genuine = match demand {
        Verify::None => Ok(()),
        Verify::Bearer { secrets } => bearer(&secrets.now(), &delivery.headers),
        Verify::Basic { secrets } => basic(&secrets.now(), &delivery.headers),
        Verify::StandardWebhooks { secrets } => standard_webhooks(&secrets.now(), &delivery, now),
        Verify::Hmac(demand) => hmac(demand, &delivery, now),
    };
    let proof = match demand {
        Verify::None | Verify::Bearer { .. } | Verify::Basic { .. } => Proof::Sender,
        Verify::StandardWebhooks { .. } => Proof::BodyAndId,
        Verify::Hmac(_) => Proof::Body,
    };
    is_genuine.map(|()| Verified::new(delivery, proof)).map_err(refused)
}

fn refused(why: Refusal) -> Problem {
    Problem::new(ProblemKind::Unauthorized, why)
}

fn bearer(secrets: &[Secret], headers: &Headers) -> Result<(), Refusal> {
    let token = authorization(headers, "Bearer", "the header `authorization` is not `Bearer <token>`")?;
    if is_one_of(secrets, token) { Ok(()) } else { Err("the token is not known") }
}

/// RFC 7617.
fn basic(secrets: &[Secret], headers: &Headers) -> Result<(), Refusal> {
    const FORM: Refusal = "the header `authorization` is not `Basic <base64 of user:password>`";
    let coded = authorization(headers, "Basic", FORM)?;
    let credentials = BASE64.decode(coded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(FORM)?;
    if is_one_of(secrets, &credentials) { Ok(()) } else { Err("user and password are not known") }
}

fn authorization<'a>(headers: &'a Headers, scheme: &str, otherwise: Refusal) -> Result<&'a str, Refusal> {
    let header = headers.get("authorization").ok_or("the header `authorization` is missing")?;
    let (found, rest) = header.split_once(' ').ok_or(otherwise)?;
    if found.eq_ignore_ascii_case(scheme) { Ok(rest.trim()) } else { Err(otherwise) }
}

/// Every secret is looked at, so that the time does not tell which one is close.
fn is_one_of(secrets: &[Secret], presented: &str) -> bool {
    secrets.iter().fold(false, |found, secret| found | same(secret.expose(), presented))
}

/// A time of signing must be near: what somebody has recorded cannot be played back for long.
fn is_near(signed_at_seconds: i64, now: Timestamp) -> bool {
    (now.micros() / 1_000_000).saturating_sub(signed_at_seconds).saturating_abs() <= TOLERANCE_SECONDS
}

/// What the headers of a Standard Webhooks delivery say.
struct Stamped<'a> {
    id: &'a str,
    timestamp: i64,
    signatures: &'a str,
}

impl<'a> Stamped<'a> {
    fn read(headers: &'a Headers, now: Timestamp) -> Result<Self, Refusal> {
        let header = |name: &str| headers.get(name).map(String::as_str);
        let id = header(HEADER_WEBHOOK_ID).ok_or("the header `webhook-id` is missing")?;
        let timestamp = header(HEADER_WEBHOOK_TIMESTAMP).ok_or("the header `webhook-timestamp` is missing")?;
        let signatures = header(HEADER_WEBHOOK_SIGNATURE).ok_or("the header `webhook-signature` is missing")?;
        let timestamp = timestamp.parse().map_err(|_| "the header `webhook-timestamp` is not a whole number")?;
        if !is_near(timestamp, now) {
            return Err("`webhook-timestamp` is more than five minutes off; is the sender's clock right?");
        }
        if signatures.split(' ').count() > SIGNATURES_MAX {
            return Err("there are more signatures in `webhook-signature` than are looked at");
        }
        Ok(Self { id, timestamp, signatures })
    }
}

/// <https://www.standardwebhooks.com/> version 1: `v1` (HMAC-SHA256) with a key of ours, `v1a` (ed25519) with the sender's
/// public one. For `v1` the library signs; the time and the comparison are ours, because it would ask the machine for
/// the time by itself.
fn standard_webhooks(secrets: &[Secret], delivery: &Delivery, now: Timestamp) -> Result<(), Refusal> {
    let Stamped { id, timestamp, signatures } = Stamped::read(&delivery.headers, now)?;
    let mut found = false;
    for secret in secrets {
        if let Some(public) = secret.expose().strip_prefix(PUBLIC_KEY_PREFIX) {
            let key = BASE64.decode(public).map_err(|_| "the configured key is not valid")?;
            let signed = [format!("{id}.{timestamp}.").as_bytes(), &delivery.body].concat();
            let coded = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1a,"));
            found |= coded.fold(false, |found, coded| found | is_signed_by(&key, &signed, coded));
        } else {
            let webhook = Webhook::new(secret.expose()).map_err(|_| "the configured secret is not valid")?;
            let expected = webhook.sign(id, timestamp, &delivery.body).map_err(|_| "the body is not UTF-8")?;
            found |= signatures.split(' ').fold(false, |found, signature| found | same(&expected, signature));
        }
    }
    if found { Ok(()) } else { Err("no signature in `webhook-signature` fits body, id, timestamp and a known secret") }
}

fn is_signed_by(key: &[u8], signed: &[u8], coded: &str) -> bool {
    let Ok(signature) = BASE64.decode(coded) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(signed, &signature).is_ok()
}

/// What the headers of a delivery with a generic HMAC say.
struct Tagged<'a> {
    signature: Vec<u8>,
    timestamp: &'a str,
}

impl<'a> Tagged<'a> {
    fn read(demand: &Hmac, headers: &'a Headers, now: Timestamp) -> Result<Self, Refusal> {
        let header = headers.get(&demand.header).ok_or("the header with the signature is missing")?;
        let coded = header.trim().strip_prefix(&demand.prefix).ok_or("the signature lacks its prefix")?;
        let signature = match demand.encoding {
            HmacEncoding::Hex => bytes_of_hex(coded),
            HmacEncoding::Base64 => BASE64.decode(coded).ok(),
        };
        let signature = signature.ok_or("the signature is not written in the agreed encoding")?;
        let Some(name) = &demand.timestamp_header else { return Ok(Self { signature, timestamp: "" }) };
        let timestamp = headers.get(name).ok_or("the header with the time of signing is missing")?.trim();
        let number: i64 = timestamp.parse().map_err(|_| "the time of signing is not a whole number")?;
        let seconds = if number >= MILLISECONDS_FROM { number / 1_000 } else { number };
        if !is_near(seconds, now) {
            return Err("the time of signing is more than five minutes off; is the sender's clock right?");
        }
        Ok(Self { signature, timestamp })
    }
}

fn hmac(demand: &Hmac, delivery: &Delivery, now: Timestamp) -> Result<(), Refusal> {
    let Tagged { signature, timestamp } = Tagged::read(demand, &delivery.headers, now)?;
    let algorithm = match demand.algorithm {
        HmacAlgorithm::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HmacAlgorithm::Sha256 => HMAC_SHA256,
        HmacAlgorithm::Sha512 => HMAC_SHA512,
    };
    let [before, after] = [&demand.text.before, &demand.text.after].map(|text| text.replace(TIMESTAMP, timestamp));
    let found = demand.secrets.now().iter().fold(false, |found, secret| {
        let mut context = Context::with_key(&Key::new(algorithm, secret.expose().as_bytes()));
        context.update(before.as_bytes());
        context.update(&delivery.body);
        context.update(after.as_bytes());
        found | bool::from(context.sign().as_ref().ct_eq(&signature))
    });
    if found { Ok(()) } else { Err("the signature does not fit the body and a known secret") }
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = *pair { Some(digit(high)? << 4 | digit(low)?) } else { None }).collect()
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::config::{Secrets, SignedText};
    use crate::metrics::Door;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"hello":"world"}"#;
    const NOW: i64 = 1_700_000_000;

    fn secrets(texts: &[&str]) -> Secrets {
        Secrets::fixed(texts.iter().map(|text| Secret::new(*text)).collect())
    }

    fn delivery(headers: &[(&str, String)], body: &[u8]) -> Delivery {
        Delivery {
            door: Door::Webhook,
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
        let demand = Verify::Bearer { secrets: secrets(&["old-token-old-token", "new-token-new-token"]) };
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
            header: "x-signature".into(),
            algorithm,
            encoding: HmacEncoding::Hex,
            prefix: prefix.into(),
            timestamp_header: None,
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
            timestamp_header: Some("x-timestamp".into()),
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
}
