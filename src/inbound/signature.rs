//! Is a delivery from whom it says it is? Bytes, headers, secrets and the time in; `Verified` out.
//!
//! Pure. [`Verified`] has no other way to come into being, so nothing past this file can forget to ask.
//! Comparisons take the same time wherever they differ.
//!
//! Before: [`crate::inbound::http`]. After: [`crate::inbound::cloudevents`].

use std::collections::BTreeMap;

use bytes::Bytes;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use subtle::ConstantTimeEq;

use super::Delivery;
use super::problem::{Problem, ProblemKind};
use crate::config::{Secret, Verify};
use crate::domain::Timestamp;

/// Standard Webhooks asks receivers to refuse what is older or newer than this: a recorded request cannot be
/// played back for longer.
pub const TOLERANCE_SECONDS: i64 = 5 * 60;

/// A delivery whose sender proved to be the configured one.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Without its bytes.
    delivery: Delivery,
    body: Bytes,
}

impl Verified {
    fn new(mut delivery: Delivery) -> Self {
        let body = std::mem::take(&mut delivery.body).into();
        Self { delivery, body }
    }

    /// What was delivered, but for its bytes.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The bytes, shared by all that is made of them.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// A frame from our own queue: RabbitMQ has asked the sender for its password.
    pub(super) fn by_broker(delivery: Delivery) -> Self {
        Self::new(delivery)
    }
}

/// What a delivery's headers are: names in lower case.
type Headers = BTreeMap<String, String>;

/// Checks what can be told before the body is there: a token; of a signature, that there is one and that it is not too
/// old. Whoever passes may still be anybody, but for a bearer.
pub fn admit(demand: &Verify, headers: &Headers, now: Timestamp) -> Result<(), Problem> {
    let is_admitted = match demand {
        Verify::None => Ok(()),
        Verify::Bearer { secrets } => bearer(secrets, headers),
        Verify::StandardWebhooks { .. } => Stamped::read(headers, now).map(drop),
    };
    is_admitted.map_err(refused)
}

/// Checks a delivery as its source demands.
pub fn verify(demand: &Verify, delivery: Delivery, now: Timestamp) -> Result<Verified, Problem> {
    let is_genuine = match demand {
        Verify::None => Ok(()),
        Verify::Bearer { secrets } => bearer(secrets, &delivery.headers),
        Verify::StandardWebhooks { secrets } => standard_webhooks(secrets, &delivery, now),
    };
    is_genuine.map(|()| Verified::new(delivery)).map_err(refused)
}

fn refused(why: &'static str) -> Problem {
    Problem::new(ProblemKind::Unauthorized, why)
}

fn bearer(secrets: &[Secret], headers: &Headers) -> Result<(), &'static str> {
    let header = headers.get("authorization").ok_or("the header `authorization` is missing")?;
    let (scheme, token) = header.split_once(' ').ok_or("the header `authorization` is not `Bearer <token>`")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("the header `authorization` is not `Bearer <token>`");
    }
    // Every secret is looked at, so that the time does not tell which one is close.
    let found = secrets.iter().fold(false, |found, secret| found | same(secret.expose(), token.trim()));
    if found { Ok(()) } else { Err("the token is not known") }
}

/// What the headers of a signed delivery say.
struct Stamped<'a> {
    id: &'a str,
    timestamp: i64,
    signatures: &'a str,
}

impl<'a> Stamped<'a> {
    fn read(headers: &'a Headers, now: Timestamp) -> Result<Self, &'static str> {
        let header = |name: &str| headers.get(name).map(String::as_str);
        let id = header(HEADER_WEBHOOK_ID).ok_or("the header `webhook-id` is missing")?;
        let timestamp = header(HEADER_WEBHOOK_TIMESTAMP).ok_or("the header `webhook-timestamp` is missing")?;
        let signatures = header(HEADER_WEBHOOK_SIGNATURE).ok_or("the header `webhook-signature` is missing")?;
        let timestamp = timestamp.parse().map_err(|_| "the header `webhook-timestamp` is not a whole number")?;
        let age = (now.micros() / 1_000_000).saturating_sub(timestamp);
        if age.saturating_abs() > TOLERANCE_SECONDS {
            return Err("`webhook-timestamp` is more than five minutes off; is the sender's clock right?");
        }
        Ok(Self { id, timestamp, signatures })
    }
}

/// <https://www.standardwebhooks.com/> version 1, `v1` (HMAC-SHA256). The library signs; the time and the
/// comparison are ours, because it would ask the machine for the time by itself.
fn standard_webhooks(secrets: &[Secret], delivery: &Delivery, now: Timestamp) -> Result<(), &'static str> {
    let Stamped { id, timestamp, signatures } = Stamped::read(&delivery.headers, now)?;
    let mut found = false;
    for secret in secrets {
        let webhook = Webhook::new(secret.expose()).map_err(|_| "the configured secret is not valid")?;
        let expected = webhook.sign(id, timestamp, &delivery.body).map_err(|_| "the body is not UTF-8")?;
        found |= signatures.split(' ').fold(false, |found, signature| found | same(&expected, signature));
    }
    if found { Ok(()) } else { Err("no signature in `webhook-signature` fits body, id, timestamp and a known secret") }
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Door;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"hello":"world"}"#;
    const NOW: i64 = 1_700_000_000;

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
        let demand = Verify::StandardWebhooks { secrets: vec![Secret::new(OTHER), Secret::new(SECRET)] };
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
        let demand =
            Verify::Bearer { secrets: vec![Secret::new("old-token-old-token"), Secret::new("new-token-new-token")] };
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
}
