//! JSON as it comes in: a value, in which no object says a name twice.
//!
//! RFC 8259 §4 leaves open which of two equal names counts, and programs differ: a proxy that checks the first and a bridge
//! that takes the last would speak of two customers.
//!
//! Before: the bytes of a delivery. After: [`crate::inbound::cloudevents`], [`crate::inbound::mapping`].

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{Problem, ProblemKind};

/// Reads one value. What is wrong is told by its place: the parser's own words could quote the text.
pub(super) fn read(text: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice::<Unique>(super::text::utf8(text)?).map(|unique| unique.0).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        // The visitor below takes every value there is.
        let detail = if error.is_data() {
            format!("an object has the same name twice, at {place}")
        } else {
            format!("not valid JSON at {place}")
        };
        Problem::new(ProblemKind::Malformed, detail)
    })
}

/// A value in which each object says each name once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

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
    }
}
