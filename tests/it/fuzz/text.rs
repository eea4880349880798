//! Bytes with what is said of them: packed or not, in a charset or none. The result is UTF-8 within its bound, or a problem that
//! names the form; and bytes that are UTF-8 already are never changed.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use podero_bridge::domain::utf8;
use podero_bridge::inbound::text::{plain_body, utf8 as text};

use super::door::place_of;
use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

/// `http.body_max` of this target.
const BYTES_MAX: usize = 64 << 10;

const CODINGS: [&str; 14] = [
    "gzip", "x-gzip", "GZIP", "identity", "gzip:UTF-8", "gzip, utf-8", "utf-8", "iso-8859-1", "br", "deflate", "zstd",
    "gzip, gzip", "", ";",
];

const MEDIA_TYPES: [&str; 10] = [
    "application/json",
    "application/json; charset=utf-8",
    "application/json; charset=iso-8859-1",
    "application/json;charset=\"windows-1252\"",
    "application/json; charset=us-ascii",
    "application/json; charset=utf-16",
    "application/json; charset=shift_jis",
    "application/json; charset=iso-2022-jp",
    "application/json; charset",
    "; charset==",
];

/// A body and what its headers say.
#[derive(Clone, Debug)]
struct Sent {
    coding: Option<String>,
    media_type: Option<String>,
    body: Bytes,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

impl Input for Sent {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut sent = self.clone();
        sent.coding = said(&self.coding, &CODINGS, mutator);
        sent.media_type = said(&self.media_type, &MEDIA_TYPES, mutator);
        if mutator.once_in(8) {
            // Packed rightly; mostly it is turned afterwards.
            let bytes = mutator.body(&self.body, &other.body);
            sent.body = gzip(&bytes).into();
        } else {
            sent.body = mutator.body(&self.body, &other.body).into();
        }
        sent
    }

    fn bytes(&self) -> usize {
        self.body.len()
    }
}

/// A header's value: mostly as it was.
fn said(own: &Option<String>, known: &[&str], mutator: &mut Mutator) -> Option<String> {
    match mutator.below(16) {
        0 => None,
        1 => Some(mutator.one_of(known).to_owned()),
        2 => Some(mutator.text(own.as_deref().unwrap_or_default(), known[0])),
        _ => own.clone(),
    }
}

fn read(sent: &Sent) -> Outcome {
    let plain = match plain_body(&sent.body, sent.coding.as_deref(), sent.media_type.as_deref(), BYTES_MAX) {
        Ok(plain) => plain,
        Err(problem) => return Outcome::refused(place_of(&problem)),
    };
    let is_changed = plain.is_some();
    let bytes = plain.as_deref().unwrap_or(&sent.body);
    assert!(!is_changed || bytes.len() <= BYTES_MAX.max(sent.body.len()), "{} bytes", bytes.len());
    let is_packed = sent.coding.as_deref().is_some_and(|coding| coding.to_ascii_lowercase().contains("gzip"));
    if let (false, Ok(own)) = (is_packed, utf8::text(&sent.body)) {
        assert_eq!(bytes, own.as_bytes(), "what is UTF-8 stays, but for its mark");
    }
    match text(bytes) {
        Ok(text) => {
            let text = std::str::from_utf8(text).expect("it was looked at");
            Outcome::accepted(format!("{is_changed} {} {}", sent.coding.is_some(), text.is_ascii()))
        }
        Err(problem) => {
            assert!(problem.line().len() < 200, "{}", problem.line());
            Outcome::refused(format!("{is_changed} {}", problem.detail.chars().take(8).collect::<String>()))
        }
    }
}

/// All bytes become text within a bound or are reported.
#[test]
fn fuzz_text_any_bytes_become_bounded_text_or_are_refused() {
    let event = "{\"specversion\":\"1.0\",\"id\":\"e1\",\"data\":{\"customer_id\":\"Kü1\"}}";
    let json = Some("application/json".to_owned());
    let latin = Some("application/json; charset=iso-8859-1".to_owned());
    let mut corpus: Vec<Sent> = Vec::new();
    for (coding, media_type, body) in [
        (None, json.clone(), event.as_bytes().to_vec()),
        (None, json.clone(), [b"\xef\xbb\xbf", event.as_bytes()].concat()),
        (Some("gzip"), json.clone(), gzip(event.as_bytes())),
        (Some("gzip:UTF-8"), json.clone(), [gzip(b"{}"), gzip(b" ")].concat()),
        (Some("gzip"), latin.clone(), gzip(b"{\"id\":\"K\xfc1\"}")),
        (Some("gzip"), json.clone(), gzip(&vec![b' '; 8 << 20])),
        (None, latin, b"{\"id\":\"K\xfc1\"}".to_vec()),
        (None, json.clone(), gzip(event.as_bytes())),
        (None, json.clone(), b"\xff\xfe{\0}\0".to_vec()),
        (Some("br"), json, event.as_bytes().to_vec()),
    ] {
        corpus.push(Sent { coding: coding.map(str::to_owned), media_type, body: body.into() });
    }
    Target::new("text", STACK_BYTES).run(corpus, read);
}
