//! Forgers. Each input is a delivery that was really signed, changed somewhere in headers or body, and checked with the
//! right secrets or with changed ones.
//!
//! The rule next to the code, for each kind: it passes if and only if **what is signed** (id, time and body, or the text that
//! contains them, letter for letter) and the **signature** are those of an original, written in any of the ways that mean the
//! same, and the time of signing is near. These mean the same: blanks around a header's value, and after a prefix; hexadecimal
//! digits in either case; Base64 in either alphabet, with or without padding; the order of signatures, and others next to the
//! right one; the case of `Bearer` and `Basic`. The three headers of Standard Webhooks are of one family.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use podero_bridge::config::{
    Hmac, HmacAlgorithm, HmacEncoding, KeyEncoding, Secret, Secrets, SignedAt, SignedText, Verify,
};
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::event::Transport;
use podero_bridge::inbound::{Delivery, signature};
use standardwebhooks::Webhook;

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

const NOW: i64 = 1_790_000_000;
/// Tolerance for a time of signing, and limit of the signatures that the bridge looks at.
const TOLERANCE_SECONDS: i64 = 300;
const SIGNATURES_MAX: usize = 16;

const SYMMETRIC: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEY: &str = "the-new-key-of-the-crm";
/// [`KEY`], as a source writes it whose keys are in Base64.
const CODED_KEY: &str = "dGhlLW5ldy1rZXktb2YtdGhlLWNybQ==";
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
    /// The time and signatures in one header, with a key in Base64.
    Listed,
    Bearer,
    Basic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HmacKind {
    Sha1,
    Sha256,
    Sha512,
}

const KINDS: [Kind; 10] = [
    Kind::StandardWebhooks,
    Kind::Plain(HmacKind::Sha1),
    Kind::Plain(HmacKind::Sha256),
    Kind::Plain(HmacKind::Sha512),
    Kind::Timed(HmacKind::Sha1),
    Kind::Timed(HmacKind::Sha256),
    Kind::Timed(HmacKind::Sha512),
    Kind::Listed,
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
        // A header of another family, or one that nothing asks for.
        if mutator.once_in(8)
            && let Some((name, theirs)) = other.headers.iter().nth(mutator.below(other.headers.len()))
        {
            forged.headers.insert(name.clone(), theirs.clone());
        }
        for _ in 0..mutator.below(3) {
            let Some((name, own)) = forged.headers.iter().nth(mutator.below(forged.headers.len())) else { break };
            let (name, own) = (name.clone(), own.clone());
            let theirs = other.headers.get(&name).cloned().unwrap_or_default();
            let changed = match mutator.below(16) {
                0 => own.to_uppercase(),
                1 => own.to_lowercase(),
                2 => format!("{}{own}{}", " ".repeat(mutator.below(3)), "\t".repeat(mutator.below(3))),
                3 => format!(
                    "{}{own}",
                    mutator.one_of(&["+", "0", "00", "-", "v1,", "v1a,", "v2,", "bearer ", "t=1,", "v1=00,"])
                ),
                4 => format!("{own} {theirs}"),
                5 => format!("{theirs} {own}"),
                6 => theirs,
                7 => own.parse().map_or(own, |n: i64| (n.saturating_add(mutator.below(700) as i64 - 350)).to_string()),
                8 => format!("{}{own}", format!("{theirs} ").repeat(mutator.below(20))),
                9 => own.replace('+', "-").replace('/', "_"),
                10 => own.trim_end_matches('=').to_owned(),
                11 => own.replace('=', "= ").replace(',', mutator.one_of(&[", ", ";", " ,"])),
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
        key_encoding: KeyEncoding::Text,
        header: "x-signature".into(),
        signature_field: None,
        algorithm: match kind {
            HmacKind::Sha1 => HmacAlgorithm::Sha1,
            HmacKind::Sha256 => HmacAlgorithm::Sha256,
            HmacKind::Sha512 => HmacAlgorithm::Sha512,
        },
        encoding: if is_timed { HmacEncoding::Base64 } else { HmacEncoding::Hex },
        prefix: if is_timed { String::new() } else { "sha=".into() },
        signed_at: is_timed.then(|| SignedAt::Header("x-timestamp".into())),
        text: SignedText {
            before: if is_timed { "v0:{timestamp}:".into() } else { String::new() },
            after: String::new(),
        },
    }
}

fn listed_demand(secret: &str) -> Hmac {
    Hmac {
        secrets: secrets(&["YW5vdGhlci1zZWNyZXQtb2YtaXQ=", secret]),
        key_encoding: KeyEncoding::Base64,
        signature_field: Some("v1".into()),
        prefix: String::new(),
        signed_at: Some(SignedAt::Field("t".into())),
        text: SignedText { before: "{timestamp}.".into(), after: String::new() },
        ..hmac_demand(HmacKind::Sha256, false, secret)
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
        Kind::Listed => Verify::Hmac(listed_demand(secret)),
        Kind::Bearer => Verify::Bearer { header: None, secrets: secrets(&["another-token-of-it", secret]) },
        Kind::Basic => Verify::Basic { secrets: secrets(&["other:another-password", secret]) },
    }
}

fn tag_of(kind: HmacKind, text: &[u8]) -> Vec<u8> {
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

/// Originals of the rule: what is signed, how its signature is written, and when it was signed, if that is said.
type Originals = BTreeMap<(Kind, Vec<u8>), (Vec<String>, Option<i64>)>;

/// A time of signing in one of the forms of senders.
fn written(seconds: i64, form: usize) -> String {
    match form {
        0 => seconds.to_string(),
        1 => (seconds * 1_000).to_string(),
        2 => format!("{seconds}.000"),
        _ => Timestamp::from_micros(seconds * 1_000_000).to_string(),
    }
}

fn corpus() -> (Vec<Forged>, Originals) {
    let mut corpus = Vec::new();
    let mut originals = Originals::new();
    let mut add = |kind: Kind, secret: &str, headers: &[(&str, String)], body: &str| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        corpus.push(Forged { kind, secret: secret.to_owned(), headers, body: body.to_owned().into() });
    };
    for body in BODIES {
        for (number, seconds) in [NOW, NOW - TOLERANCE_SECONDS, NOW - TOLERANCE_SECONDS - 1].into_iter().enumerate() {
            let (id, timestamp) = (format!("msg_{number}"), written(seconds, number));
            let signed = format!("{id}.{timestamp}.{body}");
            let key = BASE64.decode(&SYMMETRIC["whsec_".len()..]).expect("Base64");
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
            let with_ours = format!("v1,{}", BASE64.encode(tag.as_ref()));
            if number == 0 {
                let published = Webhook::new(SYMMETRIC).expect("valid").sign(&id, seconds, body.as_bytes());
                assert_eq!(published.expect("text"), with_ours, "the published library signs so");
            }
            let with_theirs = format!("v1a,{}", BASE64.encode(pair().sign(signed.as_bytes()).as_ref()));
            for signature in [&with_ours, &with_theirs, &format!("v1,AAAA {with_theirs} {with_ours}")] {
                for family in ["webhook", "svix"] {
                    let [id_name, time_name, signature_name] =
                        ["id", "timestamp", "signature"].map(|name| format!("{family}-{name}"));
                    let headers = [
                        (&*id_name, id.clone()),
                        (&*time_name, timestamp.clone()),
                        (&*signature_name, signature.clone()),
                    ];
                    add(Kind::StandardWebhooks, SYMMETRIC, &headers, body);
                }
            }
            originals
                .insert((Kind::StandardWebhooks, signed.into_bytes()), (vec![with_ours, with_theirs], Some(seconds)));

            let timestamp = written(seconds, number + 1);
            let signed = format!("{timestamp}.{body}");
            let listed = hex(&tag_of(HmacKind::Sha256, signed.as_bytes()));
            for header in [format!("t={timestamp},v1={listed}"), format!("t={timestamp},v1=00,v0=aa,v1={listed}")] {
                add(Kind::Listed, CODED_KEY, &[("x-signature", header)], body);
            }
            originals.insert((Kind::Listed, signed.into_bytes()), (vec![listed], Some(seconds)));
        }
        for kind in [HmacKind::Sha1, HmacKind::Sha256, HmacKind::Sha512] {
            let plain = hex(&tag_of(kind, body.as_bytes()));
            add(Kind::Plain(kind), KEY, &[("x-signature", format!("sha={plain}"))], body);
            originals.insert((Kind::Plain(kind), body.as_bytes().to_vec()), (vec![plain], None));
            for (form, seconds) in [NOW, NOW + TOLERANCE_SECONDS, NOW + TOLERANCE_SECONDS + 1].into_iter().enumerate() {
                let timestamp = written(seconds, form);
                let signed = format!("v0:{timestamp}:{body}");
                let timed = BASE64.encode(tag_of(kind, signed.as_bytes()));
                let headers = [("x-signature", timed.clone()), ("x-timestamp", timestamp)];
                add(Kind::Timed(kind), KEY, &headers, body);
                originals.insert((Kind::Timed(kind), signed.into_bytes()), (vec![timed], Some(seconds)));
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

/// Base64 in the standard alphabet without padding; `None`: there is more of it than can be.
fn unpadded(coded: &str) -> Option<String> {
    let bare = coded.trim_end_matches('=');
    let padding_max = (4 - bare.len() % 4) % 4;
    (coded.len() - bare.len() <= padding_max).then(|| bare.replace('-', "+").replace('_', "/"))
}

/// Says whether it must pass, with the right secrets. `None`: a header is missing or unreadable.
fn must_pass(forged: &Forged, originals: &Originals) -> Option<bool> {
    let header = |name: &str| forged.headers.get(name).map(String::as_str);
    let original_of = |signed: Vec<u8>| originals.get(&(forged.kind, signed));
    let is_in_time = |seconds: &Option<i64>| seconds.is_none_or(is_near);
    Some(match forged.kind {
        Kind::StandardWebhooks => {
            let is_newer = forged.headers.keys().any(|name| name.starts_with("webhook-"));
            let family = if is_newer { "webhook" } else { "svix" };
            let [id, time, signature] =
                ["id", "timestamp", "signature"].map(|name| header(&format!("{family}-{name}")));
            let given: Vec<&str> = signature?.split_whitespace().collect();
            let (right, seconds) =
                original_of([format!("{}.{}.", id?, time?.trim()).as_bytes(), &forged.body].concat())?;
            let same = |given: &str, right: &str| {
                let (given, right) = (given.split_once(',')?, right.split_once(',')?);
                Some(given.0 == right.0 && unpadded(given.1)? == unpadded(right.1)?)
            };
            let fits = given.iter().any(|given| right.iter().any(|right| same(given, right) == Some(true)));
            fits && is_in_time(seconds) && given.len() <= SIGNATURES_MAX
        }
        Kind::Plain(_) => {
            let given = header("x-signature")?.trim().strip_prefix("sha=")?.trim_start().to_ascii_lowercase();
            original_of(forged.body.to_vec())?.0.contains(&given)
        }
        Kind::Timed(_) => {
            let timestamp = header("x-timestamp")?.trim();
            let (right, seconds) = original_of([format!("v0:{timestamp}:").as_bytes(), &forged.body].concat())?;
            let given = unpadded(header("x-signature")?.trim())?;
            is_in_time(seconds) && unpadded(&right[0])? == given
        }
        Kind::Listed => {
            let values = |name: &str| {
                let parts = header("x-signature").unwrap_or_default().split([',', ';']);
                let parts = parts.filter_map(|part| part.split_once('=')).filter(|(found, _)| found.trim() == name);
                parts.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
            };
            let [timestamp] = &values("t")[..] else { return None };
            let given = values("v1");
            let (right, seconds) = original_of([format!("{timestamp}.").as_bytes(), &forged.body].concat())?;
            let fits = given.iter().any(|given| given.to_ascii_lowercase() == right[0]);
            fits && is_in_time(seconds) && given.len() <= SIGNATURES_MAX
        }
        Kind::Bearer => {
            let (scheme, token) = header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer") && [TOKEN, "another-token-of-it"].contains(&token.trim())
        }
        Kind::Basic => {
            let (scheme, coded) = header("authorization")?.split_once(' ')?;
            let known = [PASSWORD, "other:another-password"].map(|known| BASE64.encode(known));
            scheme.eq_ignore_ascii_case("basic") && known.iter().any(|known| unpadded(known) == unpadded(coded.trim()))
        }
    })
}

/// Says whether the secret is the right one. An HMAC knows no difference between keys that differ in zero bytes at their end (RFC
/// 2104); a key of ours may be written without its prefix.
fn is_right_secret(forged: &Forged) -> bool {
    let without_zeros = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].to_vec()
    };
    let key_of = |text: &str| {
        let text = unpadded(text.strip_prefix("whsec_").unwrap_or(text))?;
        base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).ok()
    };
    match forged.kind {
        Kind::StandardWebhooks => {
            key_of(&forged.secret).map(|key| without_zeros(&key)) == key_of(SYMMETRIC).map(|key| without_zeros(&key))
        }
        Kind::Plain(_) | Kind::Timed(_) => without_zeros(forged.secret.as_bytes()) == without_zeros(KEY.as_bytes()),
        Kind::Listed => key_of(&forged.secret).map(|key| without_zeros(&key)) == Some(without_zeros(KEY.as_bytes())),
        Kind::Bearer => forged.secret == TOKEN,
        Kind::Basic => forged.secret == PASSWORD,
    }
}

fn check(forged: &Forged, originals: &Originals) -> Outcome {
    let now = Timestamp::from_micros(NOW * 1_000_000);
    let demand = demand(forged);
    let delivery = Delivery {
        transport: Transport::Http,
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
        assert_eq!(passes, must, "whether it passes, and whether it must");
    } else if matches!(forged.kind, Kind::Plain(_) | Kind::Timed(_) | Kind::Listed) {
        assert!(!passes, "it passes with another key");
    } else {
        // The credentials that fit the other key, token or password of the demand, or the secret as it is now.
        let given = forged.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let is_given = given.split_once(' ').is_some_and(|(_, rest)| {
            rest.trim() == forged.secret || unpadded(rest.trim()) == unpadded(&BASE64.encode(&forged.secret))
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
