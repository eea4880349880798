//! Incoming JSON: a value in which no object has a name twice; and the memory that such values take.
//!
//! A small text can become a large value: `{"a":0}` takes 80 times its bytes. So its values are counted before it is read
//! ([`VALUES_MAX`]), and readers of all transports share one budget for the trees that they hold ([`TreeBudget`]).
//!
//! RFC 8259 §4 leaves open which of two equal names counts, and programs differ: a proxy that checks the first and a bridge
//! that takes the last would speak of two customers.
//!
//! Before: the bytes of a delivery. After: [`crate::inbound::cloudevents`], [`crate::inbound::mapping`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Problem, ProblemKind};

/// Limit of the values in one JSON text: its texts, numbers, lists, objects and so on. A batch of a thousand events has some
/// 30,000. At the limit the tree takes at most some 40 MiB.
pub(super) const VALUES_MAX: usize = 100_000;
/// Fewest bytes of a text per value, if that allows more values than [`VALUES_MAX`], as a larger `http.body_max` does. Events
/// have 20 to 30.
const BYTES_OF_A_VALUE: usize = 16;

/// Limit of the memory of all trees that are held at once, in bytes as [`Size`] estimates them. A larger tree goes alone. One
/// usual event takes some 10 KiB, a batch of a thousand 10 MiB.
const TREES_BYTES_MAX: usize = 64 << 20;
/// Unit of the budget: a semaphore counts its permits in 32 bits.
const KIB: usize = 1 << 10;
/// Timeout of the wait for a part of the budget, equal to that for a worker of mappings. After it a webhook is answered 503.
const BUDGET_WAIT_MAX: Duration = Duration::from_secs(20);

/// The size of a JSON text as a tree of [`Value`]s, known before the tree is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// The number of its values, the outermost included. Exact for valid JSON.
    pub(super) values: usize,
    /// Estimate of the memory that the tree takes; rather too much than too little.
    pub(super) bytes: usize,
}

impl Size {
    /// Memory of a value in a list that has grown by doubling.
    const VALUE: usize = 64;
    /// Memory of the first room of a list, and of an object's fields.
    const LIST: usize = 128;
    const OBJECT: usize = 640;
    /// Memory of a field: its name and its part of a node that is half full.
    const FIELD: usize = 160;
    /// Fewest bytes of a text that may hold JSON of its own (`data_base64`, or data as a text), which takes
    /// `LONG_TEXT_GROWTH` times its bytes.
    const LONG_TEXT_BYTES: usize = 256;
    const LONG_TEXT_GROWTH: usize = 64;

    /// Measures a text. One pass over the bytes, without memory of its own.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut size = Self { values: 1, bytes: Self::VALUE };
        let mut is_opened = false;
        let mut rest = text.iter();
        while let Some(byte) = rest.next() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'"' => size.add_text(text_bytes(&mut rest)),
                b',' => size.add_value(0),
                b'[' => size.add_value(Self::LIST),
                b'{' => size.add_value(Self::OBJECT),
                b':' => size.bytes += Self::FIELD,
                // An empty list or object has no first value.
                b']' | b'}' if is_opened => size.values -= 1,
                _ => {}
            }
            is_opened = matches!(byte, b'[' | b'{');
        }
        size
    }

    fn add_value(&mut self, more: usize) {
        self.values += 1;
        self.bytes += Self::VALUE + more;
    }

    fn add_text(&mut self, bytes: usize) {
        let growth = if bytes >= Self::LONG_TEXT_BYTES { Self::LONG_TEXT_GROWTH } else { 1 };
        self.bytes += bytes * growth + size_of::<Value>();
    }
}

/// The bytes of a text up to its closing quote, which is passed.
fn text_bytes(rest: &mut std::slice::Iter<'_, u8>) -> usize {
    let before = rest.len();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => break,
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
    before - rest.len()
}

/// `true` if there are more values than are read of a text of `text_bytes` bytes.
pub(super) fn is_too_large(values: usize, text_bytes: usize) -> bool {
    values > values_max(text_bytes)
}

fn values_max(text_bytes: usize) -> usize {
    VALUES_MAX.max(text_bytes / BYTES_OF_A_VALUE)
}

/// The size of a text; a text that would become more values than are read is refused.
pub(super) fn check_size(text: &[u8]) -> Result<Size, Problem> {
    let size = Size::of(text);
    if is_too_large(size.values, text.len()) {
        let max = values_max(text.len());
        let detail = format!("more than {max} JSON values (texts, numbers, lists, objects); send smaller batches");
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    Ok(size)
}

/// The memory of all trees that are held while their bodies become events; cheap to clone.
#[derive(Debug, Clone)]
pub struct TreeBudget(Arc<Semaphore>);

impl Default for TreeBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TREES_BYTES_MAX / KIB)))
    }
}

impl TreeBudget {
    /// Waits for the part of the budget that a body takes, first come, first served. Dropping the permit gives it back. A body
    /// of too many values is refused at once.
    pub(super) async fn reserve(&self, body: &[u8]) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = check_size(body)?.bytes.div_ceil(KIB).min(TREES_BYTES_MAX / KIB);
        let kib = u32::try_from(kib).expect("the budget is far below 4 TiB");
        let permit = Arc::clone(&self.0).acquire_many_owned(kib);
        match tokio::time::timeout(BUDGET_WAIT_MAX, permit).await {
            Ok(permit) => Ok(permit.expect("the budget is never closed")),
            Err(_) => {
                Err(Problem::new(ProblemKind::Unavailable, "other large bodies are being read; send it again later"))
            }
        }
    }
}

/// Reads one value.
pub(super) fn read(text: &[u8]) -> Result<Value, Problem> {
    // The visitor below takes every kind of value.
    parse(text, "an object has the same name twice, at").map(|Unique(value)| value)
}

/// Reads a text of a certain form. `other_form` is the fault of JSON in another form; the place of the error stands behind it,
/// and nothing of the parser's own text, which could quote the input.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8], other_form: &str) -> Result<T, Problem> {
    check_size(text)?;
    serde_json::from_slice(super::text::utf8(text)?).map_err(|error| {
        let fault = if error.is_data() { other_form } else { "not valid JSON at" };
        let detail = format!("{fault} line {}, column {}", error.line(), error.column());
        Problem::new(ProblemKind::Malformed, detail)
    })
}

/// A value in which each object has each name once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

/// The visits of values without parts.
macro_rules! scalars {
    ($($visit:ident: $scalar:ty),*) => {
        $(fn $visit<E>(self, scalar: $scalar) -> Result<Value, E> {
            Ok(scalar.into())
        })*
    };
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    scalars! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str, visit_string: String }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let Unique(value) = fields.next_value()?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a name twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_twice_in_one_object_is_refused_at_every_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"a":null}}]"#, r#"{"a":1,"\u0061":2}"#] {
            let problem = read(text.as_bytes()).expect_err(text);
            assert!(problem.detail.contains("twice"), "{text}: {}", problem.detail);
        }
        for text in [r#"{"a":{"a":1},"A":2}"#, r#"[{"a":1},{"a":1}]"#] {
            assert!(read(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_by_its_place() {
        for text in [&b""[..], b"{", b"\"\\ud800\"", b"1 2", b"NaN"] {
            let problem = read(text).expect_err("no JSON");
            assert!(problem.detail.starts_with("not valid JSON at line"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_text_of_more_values_than_are_read_is_refused_whatever_they_are() {
        let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        for (item, values) in [("0", 1), (r#"{"a":0}"#, 2), ("[]", 1), ("[[0]]", 3), (r#""\",[{""#, 1)] {
            // The list itself is one value.
            let most = (VALUES_MAX - 1) / values;
            assert!(read(list(item, most).as_bytes()).is_ok(), "{item}");
            let problem = read(list(item, most + 1).as_bytes()).expect_err(item);
            assert_eq!(problem.kind, ProblemKind::TooLarge, "{item}");
            assert!(problem.detail.starts_with("more than 100000 JSON values"), "{}", problem.detail);
        }
        // A larger text may have more of them in proportion.
        let item = format!("\"{}\"", "x".repeat(BYTES_OF_A_VALUE));
        assert!(read(list(&item, 2 * VALUES_MAX).as_bytes()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_shared_first_come_first_served_and_given_back() {
        let budget = TreeBudget::default();
        let large = format!("[{}]", vec![r#"{"a":0}"#; VALUES_MAX / 2 - 1].join(","));
        let event = br#"{"id":"e1","data":{"customer_id":"C-1"}}"#;
        let first = budget.reserve(large.as_bytes()).await.expect("there is room for one");
        drop(budget.reserve(event).await.expect("and for an event next to it"));
        let refused = budget.reserve(large.as_bytes()).await.expect_err("there is no room for two");
        assert_eq!(refused.kind, ProblemKind::Unavailable);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(large.as_bytes()).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.expect("no panic"), "it has its part once the first is done");
    }

    fn values_of(value: &Value) -> usize {
        1 + match value {
            Value::Array(list) => list.iter().map(values_of).sum(),
            Value::Object(fields) => fields.values().map(values_of).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0_usize,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..5).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_is_read_as_the_library_reads_it(value in any_value()) {
            let text = value.to_string();
            let expected: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(read(text.as_bytes()).expect("JSON"), expected);
        }

        #[test]
        fn values_are_counted_before_they_are_read(value in any_value()) {
            let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
            prop_assert_eq!(Size::of(&pretty).values, values_of(&value));
            prop_assert_eq!(Size::of(value.to_string().as_bytes()).values, values_of(&value));
        }
    }
}
