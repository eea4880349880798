//! Makes inputs of inputs: bytes that are turned, cut, spliced and repeated; words that parsers care about; and JSON that
//! stays JSON while its values move.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Map, Value};

/// The default of `http.body_max`: more never comes to a parser.
const BYTES_MAX: usize = 1 << 20;

/// Words that parsers trip over.
const WORDS: [&[u8]; 64] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"null",
    b"true",
    b"-",
    b"0",
    b"-0",
    b"1e308",
    b"1e999",
    b"-1e-999",
    b"9223372036854775808",
    b"18446744073709551616",
    b"0.1",
    b"NaN",
    b"Infinity",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\ud83d\\ude00",
    b"\\u00e9",
    b"\0",
    b"\r\n",
    b"\t",
    b" ",
    b"\x7f",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    "\u{202e}".as_bytes(),
    "ß".as_bytes(),
    "İ".as_bytes(),
    "\u{1f600}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"%",
    b"%00",
    b"%ff",
    b"%C3%BC",
    b"=",
    b"==",
    b"#",
    b"/*",
    b"~1",
    b"../",
    b";",
    b"; charset=",
    b"'",
    b"specversion",
    b"1.0",
    b"customer.signed_up",
    b"customer.moved",
    b"customer_id",
    b"0000-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59",
    b"2016-12-31T23:59:60Z",
    b"2026-02-30T00:00:00Z",
    b"2026-10-01t12:00:00.123456789012z",
];

/// Values that mean something to a reader, or nearly so.
const TEXTS: [&str; 33] = [
    "",
    " ",
    "1.0",
    "C-1",
    "a@b",
    "a@b@c",
    "customer.signed_up",
    "customer.moved",
    "customer.updated",
    "customer.churned",
    "2026-10-01T12:00:00Z",
    "0000-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "2016-12-31T23:59:60Z",
    "2026-10-01T12:00:00+24:00",
    "29.03.2026 02:30",
    "25.10.2026 02:30",
    "20261201",
    "1790856000000",
    "-9223372036854775808",
    "9223372036854775807",
    "01067",
    "SW1A 1AA",
    "Deutschland",
    "aut",
    "ß",
    "Europe/Berlin",
    "Detached",
    "Young family",
    "e\u{301}\u{202e}\u{0}",
    "\u{feff}\u{fffd}",
    "-009999-01-01T00:00:00Z",
];

/// Names of fields that a reader knows.
const NAMES: [&str; 28] = [
    "specversion", "id", "source", "type", "subject", "time", "data", "data_base64", "datacontenttype", "dataschema",
    "customer_id", "email", "address", "zip_code", "town", "country", "building", "building_key", "key",
    "property_type", "property_age", "photovoltaic", "effective_at", "account", "changes", "occurred", "zip",
    "messageType",
];

/// A source of mutations; the same dice give the same.
pub struct Mutator {
    dice: StdRng,
}

impl Mutator {
    pub fn new(dice: StdRng) -> Self {
        Self { dice }
    }

    /// A number from 0 to less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.dice.random_range(0..end) }
    }

    /// True once in this number of times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// A body: as JSON where it is some, mostly; of bytes otherwise, or on top of it.
    pub fn body(&mut self, one: &[u8], other: &[u8]) -> Vec<u8> {
        let json = if self.once_in(3) { None } else { self.json(one, other) };
        match json {
            Some(json) if !self.once_in(8) => json,
            Some(json) => self.bytes(&json, other, &WORDS),
            None => self.bytes(one, other, &WORDS),
        }
    }

    /// A text, such as a header's value.
    pub fn text(&mut self, one: &str, other: &str) -> String {
        if self.once_in(8) {
            return self.one_of(&TEXTS).to_owned();
        }
        String::from_utf8_lossy(&self.bytes(one.as_bytes(), other.as_bytes(), &WORDS)).into_owned()
    }

    /// Bytes that are turned, cut, spliced and repeated.
    pub fn bytes(&mut self, one: &[u8], other: &[u8], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = one.to_vec();
        let changes = if self.once_in(2) { 1 } else { 1 + self.below(4) };
        for _ in 0..changes {
            let at = self.below(bytes.len() + 1);
            let end = at + self.below((bytes.len() - at).min(64) + 1);
            match self.below(12) {
                0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => bytes[at] = self.dice.random(),
                3 => drop(bytes.drain(at..end)),
                4 => bytes.truncate(at),
                5 | 6 => drop(bytes.splice(at..at, self.one_of(words).iter().copied())),
                7 => drop(bytes.splice(at..end, self.one_of(words).iter().copied())),
                8 => {
                    let part = bytes[at..end].to_vec();
                    let times = self.count();
                    bytes.splice(at..at, part.repeat(times));
                }
                9 => {
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                10 => {
                    let (times, word) = (self.count(), self.one_of(words));
                    bytes.splice(at..at, word.repeat(times));
                }
                _ => {
                    let from = self.below(other.len() + 1);
                    let part = &other[from..from + self.below((other.len() - from).min(64) + 1)];
                    bytes.splice(at..end, part.iter().copied());
                }
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    /// Number of repeats: mostly a few, seldom the bound.
    fn count(&mut self) -> usize {
        match self.below(512) {
            0 => self.below(BYTES_MAX / 4),
            1..=32 => self.below(2_000),
            _ => self.below(8),
        }
    }

    /// JSON that stays JSON.
    fn json(&mut self, one: &[u8], other: &[u8]) -> Option<Vec<u8>> {
        let mut value: Value = serde_json::from_slice(one).ok()?;
        let other = serde_json::from_slice(other).unwrap_or(Value::Null);
        for _ in 0..=self.below(3) {
            self.change(&mut value, &other);
        }
        let mut bytes = value.to_string().into_bytes();
        if self.once_in(64) {
            // Deeper than a value can be made by a parser that has a bound.
            let depth = self.count();
            bytes = [b"[".repeat(depth), bytes, b"]".repeat(depth)].concat();
        }
        bytes.truncate(BYTES_MAX);
        Some(bytes)
    }

    fn change(&mut self, value: &mut Value, other: &Value) {
        let goes_down = !self.once_in(4);
        match value {
            Value::Object(fields) if goes_down && !fields.is_empty() => {
                let name = fields.keys().nth(self.below(fields.len())).cloned().expect("it has so many");
                match self.below(8) {
                    0 => drop(fields.remove(&name)),
                    1 => {
                        let moved = fields.remove(&name).unwrap_or_default();
                        fields.insert(self.one_of(&NAMES).to_owned(), moved);
                    }
                    2 => drop(fields.insert(self.one_of(&NAMES).to_owned(), self.value(other))),
                    _ => self.change(fields.get_mut(&name).expect("it is there"), other),
                }
            }
            Value::Array(items) if goes_down && !items.is_empty() => {
                let place = self.below(items.len());
                match self.below(6) {
                    0 => drop(items.remove(place)),
                    1 => {
                        let item = items[place].clone();
                        // All of it together has no more bytes than are kept in the end.
                        let times = self.count().min(2_000).min(BYTES_MAX / item.to_string().len());
                        items.extend(std::iter::repeat_n(item, times));
                    }
                    _ => self.change(&mut items[place], other),
                }
            }
            Value::String(text) if self.once_in(2) => *text = self.text(text, other.as_str().unwrap_or_default()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                *value = self.value(other);
            }
        }
    }

    fn value(&mut self, other: &Value) -> Value {
        match self.below(12) {
            0 => Value::Null,
            1 => Value::Bool(self.once_in(2)),
            2 => Value::from(self.dice.random::<i64>()),
            3 => Value::from(self.below(10)),
            4 => Value::from(self.dice.random::<f64>() * 1e300),
            5 => Value::Array(vec![other.clone(); self.below(4)]),
            6 => Value::Object(Map::from_iter([(self.one_of(&NAMES).to_owned(), other.clone())])),
            7 => Value::String("x".repeat(self.count())),
            8 | 9 => Value::String(self.one_of(&TEXTS).to_owned()),
            10 => self.part_of(other),
            _ => other.clone(),
        }
    }

    fn part_of(&mut self, other: &Value) -> Value {
        let mut part = other;
        while let Some(inner) = match part {
            Value::Object(fields) => fields.values().nth(self.below(fields.len())),
            Value::Array(items) => items.get(self.below(items.len())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        } {
            part = inner;
            if self.once_in(3) {
                break;
            }
        }
        part.clone()
    }
}
