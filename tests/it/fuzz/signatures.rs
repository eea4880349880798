//! Forgers. Each input is a delivery that was really signed, changed somewhere in headers or body, and checked with the
//! right secrets or with changed ones.
//!
//! The rule beside the code, for each kind: it passes if and only if **what is signed** (id, time and body, or the text that
//! contains them) and the **signature** are those of an original, written in any of the ways that mean the same, and the
//! time of signing is near. What means the same: blanks around a header's value, and hexadecimal digits in either case, of an
//! HMAC; a time of Standard Webhooks with a plus or zeros in front of it; the order of its signatures, and others beside the
//! right one; the case of `Bearer` and `Basic`.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use podero_bridge::config::{Hmac, HmacAlgorithm, HmacEncoding, Secret, Secrets, SignedText, Verify};
use podero_bridge::domain::Timestamp;
use podero_bridge::inbound::{Delivery, signature};
use podero_bridge::metrics::Door;
use standardwebhooks::Webhook;

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

const NOW: i64 = 1_790_000_000;
/// Of the bridge: so near a time of signing must be, and so many signatures are looked at.
const TOLERANCE_SECONDS: i64 = 300;
const SIGNATURES_MAX: usize = 16;

const SYMMETRIC: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEY: &str = "the-new-key-of-the-crm";
const TOKEN: &str = "a-token-that-is-long-enough";
const PASSWORD: &str = "crm:pass:word-password";
const BODIES: [&str; 3] = [r#"{"hello":"wörld"}"#, "", r#"{"specversion": "1.0", "id": "e1", "n": 1.5e3}"#];

/// The kinds that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    StandardWebhooks,
    /// The body alone, in hexadecimal behind a prefix.
    Plain(HmacKind),
    /// The time and the body, in Base64.
    Timed(HmacKind),
    Bearer,
    Basic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HmacKind {
    Sha1,
    Sha256,
    Sha512,
}

const KINDS: [Kind; 9] = [
    Kind::StandardWebhooks,
    Kind::Plain(HmacKind::Sha1),
    Kind::Plain(HmacKind::Sha256),
    Kind::Plain(HmacKind::Sha512),
    Kind::Timed(HmacKind::Sha1),
    Kind::Timed(HmacKind::Sha256),
    Kind::Timed(HmacKind::Sha512),
    Kind::Bearer,
    Kind::Basic,
];

/// A delivery, and the secret with which it is checked.
#[derive(Clone, Debug)]
struct Forged {
    kind: Kind,
    secret: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Input for Forged {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut forged = self.clone();
        match mutator.below(16) {
            0 => forged.secret = mutator.text(&self.secret, &other.secret),
            // A body with another's signature, or a signature under another's rule.
            1 => forged.body = other.body.clone(),
            2 => forged.kind = other.kind,
            3 | 4 => forged.body = mutator.body(&self.body, &other.body).into(),
            _ => {}
        }
        for _ in 0..mutator.below(3) {
            let Some((name, own)) = forged.headers.iter().nth(mutator.below(forged.headers.len())) else { break };
            let (name, own) = (name.clone(), own.clone());
            let theirs = other.headers.get(&name).cloned().unwrap_or_default();
            let changed = match mutator.below(12) {
                0 => own.to_uppercase(),
                1 => own.to_lowercase(),
                2 => format!("{}{own}{}", " ".repeat(mutator.below(3)), "\t".repeat(mutator.below(3))),
                3 => format!("{}{own}", mutator.one_of(&["+", "0", "00", "-", "v1,", "v1a,", "v2,", "bearer "])),
                4 => format!("{own} {theirs}"),
                5 => format!("{theirs} {own}"),
                6 => theirs,
                7 => own.parse().map_or(own, |n: i64| (n.saturating_add(mutator.below(700) as i64 - 350)).to_string()),
                8 => format!("{}{own}", format!("{theirs} ").repeat(mutator.below(20))),
                _ => mutator.text(&own, &theirs),
            };
            if mutator.once_in(16) {
                forged.headers.remove(&name);
            } else {
                forged.headers.insert(name, changed);
            }
        }
        forged
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.headers.values().map(String::len).sum::<usize>()
    }
}

/// The sender's own key, of which the bridge has the public half.
fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed")
}

fn public_key() -> String {
    format!("whpk_{}", BASE64.encode(pair().public_key().as_ref()))
}

fn hmac_demand(kind: HmacKind, is_timed: bool, secret: &str) -> Hmac {
    Hmac {
        secrets: secrets(&["another-secret-of-it", secret]),
        header: "x-signature".into(),
        algorithm: match kind {
            HmacKind::Sha1 => HmacAlgorithm::Sha1,
            HmacKind::Sha256 => HmacAlgorithm::Sha256,
            HmacKind::Sha512 => HmacAlgorithm::Sha512,
        },
        encoding: if is_timed { HmacEncoding::Base64 } else { HmacEncoding::Hex },
        prefix: if is_timed { String::new() } else { "sha=".into() },
        timestamp_header: is_timed.then(|| "x-timestamp".into()),
        text: SignedText {
            before: if is_timed { "v0:{timestamp}:".into() } else { String::new() },
            after: String::new(),
        },
    }
}

fn secrets(texts: &[&str]) -> Secrets {
    Secrets::fixed(texts.iter().map(|text| Secret::new(*text)).collect())
}

fn demand(forged: &Forged) -> Verify {
    let secret = forged.secret.as_str();
    match forged.kind {
        Kind::StandardWebhooks => Verify::StandardWebhooks { secrets: secrets(&[secret, &public_key()]) },
        Kind::Plain(kind) => Verify::Hmac(hmac_demand(kind, false, secret)),
        Kind::Timed(kind) => Verify::Hmac(hmac_demand(kind, true, secret)),
        Kind::Bearer => Verify::Bearer { secrets: secrets(&["another-token-of-it", secret]) },
        Kind::Basic => Verify::Basic { secrets: secrets(&["other:another-password", secret]) },
    }
}

fn tag(kind: HmacKind, text: &[u8]) -> Vec<u8> {
    let algorithm = match kind {
        HmacKind::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HmacKind::Sha256 => hmac::HMAC_SHA256,
        HmacKind::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, KEY.as_bytes()), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of the rule beside the code: what is signed, and how its signature is written.
type Originals = BTreeMap<(Kind, Vec<u8>), Vec<String>>;

fn corpus() -> (Vec<Forged>, Originals) {
    let mut corpus = Vec::new();
    let mut originals = Originals::new();
    let mut add = |kind: Kind, secret: &str, headers: &[(&str, String)], body: &str| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        corpus.push(Forged { kind, secret: secret.to_owned(), headers, body: body.to_owned().into() });
    };
    for body in BODIES {
        for (id, timestamp) in
            [("msg_1", NOW), ("msg_2", NOW - TOLERANCE_SECONDS), ("msg_3", NOW - TOLERANCE_SECONDS - 1)]
        {
            let signed = format!("{id}.{timestamp}.{body}");
            let with_ours = Webhook::new(SYMMETRIC).expect("valid").sign(id, timestamp, body.as_bytes()).expect("text");
            let with_theirs = format!("v1a,{}", BASE64.encode(pair().sign(signed.as_bytes()).as_ref()));
            for signature in [&with_ours, &with_theirs, &format!("v1,AAAA {with_theirs} {with_ours}")] {
                let headers = [
                    ("webhook-id", id.to_owned()),
                    ("webhook-timestamp", timestamp.to_string()),
                    ("webhook-signature", signature.clone()),
                ];
                add(Kind::StandardWebhooks, SYMMETRIC, &headers, body);
            }
            originals.insert((Kind::StandardWebhooks, signed.into_bytes()), vec![with_ours, with_theirs]);
        }
        for kind in [HmacKind::Sha1, HmacKind::Sha256, HmacKind::Sha512] {
            let plain = hex(&tag(kind, body.as_bytes()));
            add(Kind::Plain(kind), KEY, &[("x-signature", format!("sha={plain}"))], body);
            originals.insert((Kind::Plain(kind), body.as_bytes().to_vec()), vec![plain]);
            for timestamp in [NOW, (NOW + TOLERANCE_SECONDS) * 1_000, NOW + TOLERANCE_SECONDS + 1] {
                let signed = format!("v0:{timestamp}:{body}");
                let timed = BASE64.encode(tag(kind, signed.as_bytes()));
                let headers = [("x-signature", timed.clone()), ("x-timestamp", timestamp.to_string())];
                add(Kind::Timed(kind), KEY, &headers, body);
                originals.insert((Kind::Timed(kind), signed.into_bytes()), vec![timed]);
            }
        }
        add(Kind::Bearer, TOKEN, &[("authorization", format!("Bearer {TOKEN}"))], body);
        add(Kind::Basic, PASSWORD, &[("authorization", format!("Basic {}", BASE64.encode(PASSWORD)))], body);
    }
    (corpus, originals)
}

fn is_near(seconds: i64) -> bool {
    (NOW - TOLERANCE_SECONDS..=NOW + TOLERANCE_SECONDS).contains(&seconds)
}

/// Whether it must pass, with the right secrets. `None`: a header is missing or illegible.
fn must_pass(forged: &Forged, originals: &Originals) -> Option<bool> {
    let header = |name: &str| forged.headers.get(name).map(String::as_str);
    let signatures_of = |signed: Vec<u8>| originals.get(&(forged.kind, signed));
    Some(match forged.kind {
        Kind::StandardWebhooks => {
            let timestamp: i64 = header("webhook-timestamp")?.parse().ok()?;
            let given: Vec<&str> = header("webhook-signature")?.split(' ').collect();
            let signed = [format!("{}.{timestamp}.", header("webhook-id")?).as_bytes(), &forged.body].concat();
            let right = signatures_of(signed)?;
            let fits = given.iter().any(|given| right.iter().any(|right| right == given));
            fits && is_near(timestamp) && given.len() <= SIGNATURES_MAX
        }
        Kind::Plain(_) => {
            let given = header("x-signature")?.trim().strip_prefix("sha=")?.to_ascii_lowercase();
            signatures_of(forged.body.to_vec())?.contains(&given)
        }
        Kind::Timed(_) => {
            let timestamp = header("x-timestamp")?.trim();
            let number: i64 = timestamp.parse().ok()?;
            let seconds = if number >= 100_000_000_000 { number / 1_000 } else { number };
            let signed = [format!("v0:{timestamp}:").as_bytes(), &forged.body].concat();
            is_near(seconds) && signatures_of(signed)?.contains(&header("x-signature")?.trim().to_owned())
        }
        Kind::Bearer => {
            let (scheme, token) = header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer") && [TOKEN, "another-token-of-it"].contains(&token.trim())
        }
        Kind::Basic => {
            let (scheme, coded) = header("authorization")?.split_once(' ')?;
            let known = [PASSWORD, "other:another-password"].map(|known| BASE64.encode(known));
            scheme.eq_ignore_ascii_case("basic") && known.iter().any(|known| known == coded.trim())
        }
    })
}

/// Whether the secret is the right one. An HMAC knows no difference between keys that differ in zero bytes at their end
/// (RFC 2104); a key of ours may be written without its prefix.
fn is_right_secret(forged: &Forged) -> bool {
    let without_zeros = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].to_vec()
    };
    let key_of = |text: &str| BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok();
    match forged.kind {
        Kind::StandardWebhooks => {
            key_of(&forged.secret).map(|key| without_zeros(&key)) == key_of(SYMMETRIC).map(|key| without_zeros(&key))
        }
        Kind::Plain(_) | Kind::Timed(_) => without_zeros(forged.secret.as_bytes()) == without_zeros(KEY.as_bytes()),
        Kind::Bearer => forged.secret == TOKEN,
        Kind::Basic => forged.secret == PASSWORD,
    }
}

fn check(forged: &Forged, originals: &Originals) -> Outcome {
    let now = Timestamp::from_micros(NOW * 1_000_000);
    let demand = demand(forged);
    let delivery = Delivery {
        door: Door::Webhook,
        source: "default".into(),
        content_type: None,
        headers: forged.headers.clone(),
        body: forged.body.to_vec(),
        received_at: now,
    };
    let admitted = signature::admit(&demand, &forged.headers, now);
    let verified = signature::verify(&demand, delivery, now);
    let (passes, must) = (verified.is_ok(), must_pass(forged, originals) == Some(true));
    if is_right_secret(forged) {
        // A signature by the library stands for a text.
        let is_text = forged.kind != Kind::StandardWebhooks || std::str::from_utf8(&forged.body).is_ok();
        assert!(passes == must || !is_text && !passes, "it must pass: {must}; it passes: {passes}");
    } else if matches!(forged.kind, Kind::Plain(_) | Kind::Timed(_)) {
        assert!(!passes, "it passes with another key");
    } else {
        // What fits the other key, token or password of the demand, or the secret as it is now.
        let given = forged.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let is_given = given.split_once(' ').is_some_and(|(_, rest)| {
            rest.trim() == forged.secret
                || BASE64.decode(rest.trim()).is_ok_and(|text| text == forged.secret.as_bytes())
        });
        assert!(!passes || must || is_given, "it passes with another secret");
    }
    assert!(!passes || admitted.is_ok(), "it is refused before its body comes, and would pass");
    match verified {
        Ok(verified) => {
            assert_eq!(verified.body(), &forged.body);
            Outcome::accepted(format!("{:?} {}", forged.kind, verified.name().is_some()))
        }
        Err(problem) => Outcome::refused(format!("{:?} {}", forged.kind, problem.detail)),
    }
}

#[test]
fn fuzz_signatures_nothing_passes_but_what_was_signed() {
    let (corpus, originals) = corpus();
    assert!(KINDS.iter().all(|kind| corpus.iter().any(|forged| forged.kind == *kind)));
    let near = corpus.iter().filter(|forged| check(forged, &originals).is_accepted).count();
    assert!(near > corpus.len() / 2 && near < corpus.len(), "some are too old, and most are not: {near}");
    Target::new("signatures", STACK_BYTES).run(corpus, move |forged| check(forged, &originals));
}
