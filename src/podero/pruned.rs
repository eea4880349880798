//! Reads JSON without keeping more of it than the bridge reads: an answer of some megabytes must not become gigabytes.
//!
//! A list is read entry by entry; no more than one entry is held. Of an entry only the fields that are asked for are kept, at
//! most [`VALUES_MAX`] values in it, and the beginning of a long text. All other values are passed over without being stored.
//! Pure; it knows no field and no call.
//!
//! Before: an answer's bytes. After: [`super::wire`] makes a record of each entry.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Limit of the values that are kept of one entry, nested ones included: an entry has a few dozen.
const VALUES_MAX: u32 = 1_000;

/// Limit of the levels of nesting that are kept, the entry itself included: `actions`, one of them, its link, its parameters
/// and a name.
const LEVELS_MAX: u32 = 6;

/// Limit of a text in bytes; of a longer one the beginning is kept, which is too long for any field.
pub(super) const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The test that picks the fields to read by their names.
pub(super) type Keep = fn(&str) -> bool;

/// The reasons why a list could not be read.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It is no JSON, or no list.
    Json(serde_json::Error),
    /// The list's reader stopped, for this reason.
    Enough(&'static str),
}

/// The part of a list that is not its entries.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The number of entries of any kind.
    pub(super) entries: usize,
    /// The whole number of entries, as an envelope says it. `None`: the list is bare.
    pub(super) total: Option<Value>,
}

/// Reads a whole answer that is one thing.
pub(super) fn one(body: &[u8], keep: Keep) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Pruned { keep, left: &Cell::new(VALUES_MAX), level: 0 }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// Hands over the entries of a list, one by one: of a bare array, or of `items` in a `{total, items}`.
pub(super) fn list(
    body: &[u8],
    keep: Keep,
    entry: &mut dyn FnMut(&Value) -> Result<(), &'static str>,
) -> Result<Listed, Stopped> {
    let mut enough = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_any(ListVisitor(Entries { keep, entry, enough: &mut enough }));
    let read = read.and_then(|listed| json.end().map(|()| listed));
    read.map_err(|error| enough.map_or(Stopped::Json(error), Stopped::Enough))
}

struct Entries<'a> {
    keep: Keep,
    entry: &'a mut dyn FnMut(&Value) -> Result<(), &'static str>,
    enough: &'a mut Option<&'static str>,
}

/// Reads the array itself; returns the number of its entries.
impl<'de> DeserializeSeed<'de> for &mut Entries<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Entries<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
        let mut count = 0;
        loop {
            let left = Cell::new(VALUES_MAX);
            let Some(value) = list.next_element_seed(Pruned { keep: self.keep, left: &left, level: 0 })? else {
                return Ok(count);
            };
            count += 1;
            (self.entry)(&value).map_err(|why| {
                *self.enough = Some(why);
                A::Error::custom(why)
            })?;
        }
    }
}

struct ListVisitor<'a>(Entries<'a>);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or a page of one")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, list: A) -> Result<Listed, A::Error> {
        Ok(Listed { entries: self.0.visit_seq(list)?, total: None })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut page: A) -> Result<Listed, A::Error> {
        let is_part: Keep = |name| matches!(name, "items" | "total");
        let (mut entries, mut total) = (None, Value::Null);
        while let Some(name) = page.next_key_seed(Name(is_part))? {
            match name.as_deref() {
                Some("items") if entries.is_some() => return Err(A::Error::custom("two lists")),
                Some("items") => entries = Some(page.next_value_seed(&mut self.0)?),
                Some(_) => {
                    let left = Cell::new(VALUES_MAX);
                    total = page.next_value_seed(Pruned { keep: |_| false, left: &left, level: 0 })?;
                }
                None => drop(page.next_value::<IgnoredAny>()?),
            }
        }
        let entries = entries.ok_or_else(|| A::Error::custom("no list"))?;
        Ok(Listed { entries, total: Some(total) })
    }
}

/// The reader of a field's name, if that is kept.
struct Name(Keep);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<String>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<String>, E> {
        Ok(self.0(name).then(|| name.to_owned()))
    }
}

/// The reader of any value, of which no more is kept than the bounds say.
#[derive(Clone, Copy)]
struct Pruned<'a> {
    keep: Keep,
    /// The number of values that may still be kept of this entry.
    left: &'a Cell<u32>,
    level: u32,
}

impl Pruned<'_> {
    fn within(self) -> Self {
        Self { level: self.level + 1, ..self }
    }

    fn takes_no_more(self) -> bool {
        self.left.get() == 0
    }
}

impl<'de> DeserializeSeed<'de> for Pruned<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        if self.takes_no_more() {
            IgnoredAny::deserialize(json)?;
            return Ok(Value::Null);
        }
        self.left.set(self.left.get() - 1);
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pruned<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while self.level < LEVELS_MAX && !self.takes_no_more() {
            match list.next_element_seed(self.within())? {
                Some(value) => kept.push(value),
                None => return Ok(Value::Array(kept)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(kept))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = object.next_key_seed(Name(self.keep))? {
            match name {
                Some(name) if self.level < LEVELS_MAX && !self.takes_no_more() => {
                    let value = object.next_value_seed(self.within())?;
                    kept.insert(name, value);
                }
                Some(_) | None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keep(name: &str) -> bool {
        matches!(name, "id" | "list" | "more")
    }

    fn kept(text: &str) -> Value {
        one(text.as_bytes(), keep).expect("JSON")
    }

    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(fields) => fields.values().map(count).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    #[test]
    fn of_an_entry_no_more_is_kept_than_is_read() {
        for (text, expected) in [
            (r#"{"id": 1, "name": "x", "more": {"id": -2.5, "x": []}}"#, json!({"id": 1, "more": {"id": -2.5}})),
            (r#"{"id": 1, "id": 2, "list": [null, true, "a\n"]}"#, json!({"id": 2, "list": [null, true, "a\n"]})),
            ("[[[[[[[[1]]]]]]]]", json!([[[[[[[]]]]]]])),
            ("7", json!(7)),
        ] {
            assert_eq!(kept(text), expected, "{text}");
        }
        let long = kept(&json!({"id": "ü".repeat(TEXT_BYTES_MAX)}).to_string());
        assert_eq!(long["id"].as_str().map(str::len), Some(TEXT_BYTES_MAX));
        for wide in [json!(vec![0; 100_000]), json!(vec![json!({"id": [0, 0]}); 100_000])] {
            let kept = kept(&wide.to_string());
            assert!(count(&kept) <= VALUES_MAX as usize + 1, "{}", count(&kept));
        }
        for wrong in ["", "[1", "{\"id\"", "1 2", "{\"x\": }"] {
            assert!(one(wrong.as_bytes(), keep).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_is_handed_over_entry_by_entry_until_its_reader_has_enough() {
        let read = |text: &str, most: usize| {
            let mut seen = Vec::new();
            let listed = list(text.as_bytes(), keep, &mut |entry| {
                seen.push(entry.clone());
                if seen.len() > most { Err("enough") } else { Ok(()) }
            });
            (listed.map(|listed| (listed.entries, listed.total)), seen)
        };
        let (listed, seen) = read(r#"[{"id": 1, "x": [1]}, 7, null]"#, 9);
        assert_eq!(listed.ok(), Some((3, None)));
        assert_eq!(seen, [json!({"id": 1}), json!(7), json!(null)]);
        let (listed, seen) = read(r#"{"x": [0], "items": [{"id": 1}], "total": "3"}"#, 9);
        assert_eq!((listed.ok(), seen.len()), (Some((1, Some(json!("3")))), 1));
        let (listed, seen) = read(&json!(vec![0; 1_000]).to_string(), 2);
        assert!(matches!(listed, Err(Stopped::Enough("enough"))), "{listed:?}");
        assert_eq!(seen.len(), 3);
        for wrong in ["", "7", "{}", r#"{"items": 7}"#, r#"{"items": [], "items": []}"#, "[1", "[] x"] {
            assert!(matches!(read(wrong, 9).0, Err(Stopped::Json(_))), "{wrong}");
        }
    }
}
