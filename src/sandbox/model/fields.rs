//! Reads a JSON object field by field and collects every problem, as pydantic does.
//!
//! Unknown fields are ignored, as Django Ninja ignores them. It must never stop at the first problem.
//!
//! Before: the other files of [`crate::sandbox::model`], [`crate::sandbox::routes`]. After: nothing.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::refusal::{Problem, Refusal};
use crate::domain::Timestamp;

/// What a partial body says about one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Absent: stays as it is.
    #[default]
    Keep,
    /// `null`: cleared (whether Podero clears is undocumented; pydantic's partial bodies do).
    Clear,
    /// A value.
    Set(T),
}

impl<T> Change<T> {
    /// Puts the change into effect.
    pub fn apply(self, slot: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *slot = None,
            Self::Set(value) => *slot = Some(value),
        }
    }

    /// The value that is set, if one is.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Keep | Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// Whether it changes nothing.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    fn map<U>(self, f: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(f(value)),
        }
    }
}

/// A reader of one JSON object.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// Begins to read; refuses what is not an object.
    pub fn of(body: &'a Value) -> Result<Self, Refusal> {
        let object = body.as_object().ok_or_else(|| {
            Refusal::invalid("model_attributes_type", &["body", "payload"], "Input should be a valid dictionary")
        })?;
        Ok(Self { object, problems: Vec::new() })
    }

    /// Ends reading: every problem that was met, or none.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.problems.is_empty() { Ok(()) } else { Err(Refusal::Invalid(self.problems)) }
    }

    /// Notes a problem of a field.
    pub fn object_to(&mut self, name: &str, kind: &'static str, msg: impl Into<String>) {
        let loc = ["body", "payload", name].map(str::to_owned).to_vec();
        self.problems.push(Problem { kind, loc, msg: msg.into() });
    }

    /// Requires a field to be there and not null; the problem is noted, reading goes on with `None`.
    pub fn required<T>(&mut self, name: &str, change: Change<T>) -> Option<T> {
        match change {
            Change::Set(value) => Some(value),
            // Either absent or null, or wrong, which is noted already.
            Change::Keep if self.object.contains_key(name) => None,
            Change::Keep => {
                self.object_to(name, "missing", "Field required");
                None
            }
            Change::Clear => {
                self.object_to(name, "string_type", "Input should not be null");
                None
            }
        }
    }

    /// A text of at most `chars_max` characters.
    pub fn text(&mut self, name: &str, chars_max: Option<usize>) -> Change<String> {
        let change = self.typed(name, "string_type", "Input should be a valid string", Value::as_str);
        match (change.value(), chars_max) {
            (Some(text), Some(max)) if text.chars().count() > max => {
                self.object_to(name, "string_too_long", format!("String should have at most {max} characters"));
                Change::Keep
            }
            _ => change.map(str::to_owned),
        }
    }

    /// A text, or a whole number where the pages say so (`zip_code`).
    pub fn text_or_integer(&mut self, name: &str, chars_max: Option<usize>) -> Change<String> {
        match self.object.get(name).and_then(Value::as_u64) {
            Some(number) => Change::Set(number.to_string()),
            None => self.text(name, chars_max),
        }
    }

    /// One of the texts that a page lists.
    pub fn one_of(&mut self, name: &str, allowed: &[&str]) -> Change<String> {
        let change = self.text(name, None);
        match change.value() {
            Some(text) if !allowed.contains(&text.as_str()) => {
                let msg = format!("Input should be one of: {}", allowed.join(", "));
                self.object_to(name, "enum", msg);
                Change::Keep
            }
            Some(_) | None => change,
        }
    }

    /// A whole number.
    pub fn integer(&mut self, name: &str) -> Change<i64> {
        self.typed(name, "int_type", "Input should be a valid integer", Value::as_i64)
    }

    /// A number.
    pub fn number(&mut self, name: &str) -> Change<f64> {
        self.typed(name, "float_type", "Input should be a valid number", Value::as_f64)
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> Change<bool> {
        self.typed(name, "bool_type", "Input should be a valid boolean", Value::as_bool)
    }

    /// A UUID.
    pub fn id(&mut self, name: &str) -> Change<Uuid> {
        let read = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        self.typed(name, "uuid_parsing", "Input should be a valid UUID", read)
    }

    /// A date and time.
    pub fn moment(&mut self, name: &str) -> Change<Timestamp> {
        let read = |value: &Value| value.as_str().and_then(Timestamp::parse);
        self.typed(name, "datetime_from_date_parsing", "Input should be a valid datetime", read)
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Change<&'a Map<String, Value>> {
        self.typed(name, "dict_type", "Input should be a valid dictionary", Value::as_object)
    }

    fn typed<T>(
        &mut self,
        name: &str,
        kind: &'static str,
        msg: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Change<T> {
        match self.object.get(name) {
            None => Change::Keep,
            Some(value) if value.is_null() => Change::Clear,
            Some(value) => match read(value) {
                Some(value) => Change::Set(value),
                None => {
                    self.object_to(name, kind, msg);
                    Change::Keep
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_of_a_body_is_told_at_once() {
        let body = json!({"a": 7, "b": "xyz", "c": "nope", "d": null});
        let mut fields = Fields::of(&body).expect("an object");
        let a = fields.text("a", None);
        assert_eq!(fields.required("a", a), None);
        assert_eq!(fields.text("b", Some(2)), Change::Keep);
        assert_eq!(fields.one_of("c", &["yes"]), Change::Keep);
        assert_eq!(fields.integer("d"), Change::Clear);
        let e = fields.id("e");
        assert_eq!(fields.required("e", e), None);
        let Err(Refusal::Invalid(problems)) = fields.finish() else { panic!("it has problems") };
        let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, ["string_type", "string_too_long", "enum", "missing"]);
        assert_eq!(problems[0].loc, ["body", "payload", "a"]);
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        assert_eq!(Fields::of(&json!([])).map(drop).map_err(|refusal| refusal.status()), Err(422));
    }
}
