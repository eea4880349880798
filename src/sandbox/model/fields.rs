//! Fields of users, buildings and heat pumps: each is declared once, in a table, and read and shown by that.
//!
//! A JSON object is read field by field, and every problem is collected, as pydantic does. Unknown fields are ignored, as
//! Django Ninja ignores them. It must never stop at the first problem.
//!
//! Before: the other files of [`crate::sandbox::model`], [`crate::sandbox::routes`]. After: [`crate::sandbox::Variants`].

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::access::UserRole;
use crate::sandbox::error::{FieldProblem, SandboxError, SandboxResult};
use crate::sandbox::variants::Variants;

/// Values of fields by name. A field that is not there is null.
pub type FieldValues = BTreeMap<&'static str, Value>;

/// Type of a field in requests and answers. A number is a limit of characters.
#[derive(Debug, Clone, Copy)]
pub enum FieldKind {
    /// True or false.
    Flag,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text(Option<usize>),
    /// One of the texts that a page lists.
    OneOf(&'static [&'static str]),
    /// An e-mail address.
    Email(usize),
    /// The name of a role.
    Role,
    /// A UUID.
    Id,
    /// A date and time.
    Moment,
    /// An object.
    Object,
    /// A list of objects.
    List,
    /// A text; under a variant a whole number as well, as some pages say.
    ZipCode(usize),
    /// A text whose name is a variant.
    Country,
    /// Shown, and ignored in requests.
    ReadOnly,
}

/// pydantic's name of a problem, and its sentence.
type Flaw = (&'static str, String);

impl FieldKind {
    fn name_in_json(self, name: &'static str, variants: &Variants) -> &'static str {
        if matches!(self, Self::Country) { variants.country_field.name() } else { name }
    }

    /// The value as it is kept.
    fn read(self, value: &Value) -> Result<Value, Flaw> {
        let text = || value.as_str().ok_or_else(|| ("string_type", "Input should be a valid string".to_owned()));
        let valid = |read: Option<Value>, kind: &'static str, what: &str| {
            read.ok_or_else(|| (kind, format!("Input should be a valid {what}")))
        };
        match self {
            Self::Flag => valid(value.as_bool().map(Value::from), "bool_type", "boolean"),
            Self::Integer => valid(value.as_i64().map(Value::from), "int_type", "integer"),
            Self::Number => valid(value.as_f64().map(Value::from), "float_type", "number"),
            Self::Id => valid(id_of(value).map(|id| json!(id)), "uuid_parsing", "UUID"),
            Self::Moment => {
                let moment = value.as_str().and_then(Timestamp::parse);
                valid(moment.map(|moment| json!(moment)), "datetime_from_date_parsing", "datetime")
            }
            Self::Object => valid(value.as_object().map(|_| value.clone()), "dict_type", "dictionary"),
            Self::List => {
                let objects = value.as_array().filter(|all| all.iter().all(Value::is_object));
                valid(objects.map(|_| value.clone()), "list_type", "list")
            }
            Self::OneOf(allowed) => one_of(text()?, allowed),
            Self::Role => one_of(text()?, &UserRole::names()),
            Self::Text(Some(max)) if text()?.chars().count() > max => {
                Err(("string_too_long", format!("String should have at most {max} characters")))
            }
            Self::Email(max) => {
                let text = Self::Text(Some(max)).read(value)?;
                let is_address = text.as_str().is_some_and(is_address);
                is_address
                    .then_some(text)
                    .ok_or_else(|| ("value_error", "value is not a valid email address".to_owned()))
            }
            Self::ZipCode(max) => match value.as_u64() {
                Some(number) => Ok(number.to_string().into()),
                None => Self::Text(Some(max)).read(value),
            },
            Self::Text(_) | Self::Country | Self::ReadOnly => Ok(text()?.into()),
        }
    }
}

fn one_of(text: &str, allowed: &[&str]) -> Result<Value, Flaw> {
    let flaw = || ("enum", format!("Input should be one of: {}", allowed.join(", ")));
    allowed.contains(&text).then(|| text.into()).ok_or_else(flaw)
}

fn is_address(text: &str) -> bool {
    let is_whole = |(local, host): (&str, &str)| !local.is_empty() && host.contains('.') && !host.contains('@');
    text.split_once('@').is_some_and(is_whole) && !text.contains(char::is_whitespace)
}

/// The UUID that a value is.
pub fn id_of(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}

/// The text of a field that is required; empty after a problem was noted.
pub fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Fields in the order in which they are read and shown.
pub(in crate::sandbox) type Table = [(&'static str, FieldKind)];

/// Something of the model as answers show it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a, T> {
    /// The thing itself.
    pub thing: &'a T,
    /// The switches, which choose among the contradicting shapes.
    pub variants: &'a Variants,
    /// True if `/_sandbox/state` shows it, which shows more than Podero does.
    pub is_whole: bool,
}

/// Writes the fields of a table into an answer.
pub(super) fn write_row<M: SerializeMap>(
    map: &mut M,
    table: &Table,
    row: &FieldValues,
    variants: &Variants,
) -> Result<(), M::Error> {
    for (name, kind) in table {
        let value = row.get(name).unwrap_or(&Value::Null);
        let name = kind.name_in_json(name, variants);
        // A number loses its leading zeros.
        let is_number = matches!(kind, FieldKind::ZipCode(_)) && variants.zip_code_as_integer;
        match value.as_str().filter(|_| is_number).and_then(|text| text.parse::<u64>().ok()) {
            Some(number) => map.serialize_entry(name, &number)?,
            None => map.serialize_entry(name, value)?,
        }
    }
    Ok(())
}

/// A reader of one JSON object.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<FieldProblem>,
}

impl<'a> Fields<'a> {
    /// Begins to read; refuses what is not an object.
    pub fn of(body: &'a Value) -> SandboxResult<Self> {
        let object = body.as_object().ok_or_else(|| {
            SandboxError::invalid("model_attributes_type", &["body", "payload"], "Input should be a valid dictionary")
        })?;
        Ok(Self { object, problems: Vec::new() })
    }

    /// Ends reading: every problem that was met, or none.
    pub fn finish(self) -> SandboxResult<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(SandboxError::Invalid(self.problems)) }
    }

    /// Notes a problem of a field.
    pub fn object_to(&mut self, name: &str, kind: &'static str, msg: impl Into<String>) {
        let loc = ["body", "payload", name].map(str::to_owned).to_vec();
        self.problems.push(FieldProblem { kind, loc, msg: msg.into() });
    }

    /// The field as it is kept; null clears it (whether Podero clears is undocumented; pydantic's partial bodies do). `None`:
    /// it is left out, or a problem was noted.
    pub fn value(&mut self, name: &str, kind: FieldKind) -> Option<Value> {
        let value = self.object.get(name)?;
        if value.is_null() {
            return Some(Value::Null);
        }
        kind.read(value).map_err(|(kind, msg)| self.object_to(name, kind, msg)).ok()
    }

    /// The field if the body has it; null is a problem.
    pub fn not_null(&mut self, name: &str, kind: FieldKind) -> Option<Value> {
        let value = self.value(name, kind)?;
        if value.is_null() {
            self.object_to(name, "string_type", "Input should not be null");
            return None;
        }
        Some(value)
    }

    /// The field; a field that is left out or null is a problem. After a problem it is null.
    pub fn required(&mut self, name: &str, kind: FieldKind) -> Value {
        if !self.object.contains_key(name) {
            self.object_to(name, "missing", "Field required");
        }
        self.not_null(name, kind).unwrap_or_default()
    }

    /// The fields of a table that the body has.
    pub(super) fn row(&mut self, table: &Table, variants: &Variants) -> FieldValues {
        let mut row = FieldValues::new();
        for (name, kind) in table.iter().filter(|(_, kind)| !matches!(kind, FieldKind::ReadOnly)) {
            let read_as = if let FieldKind::ZipCode(max) = *kind
                && !variants.zip_code_as_integer
            {
                FieldKind::Text(Some(max))
            } else {
                *kind
            };
            let read = self.value(kind.name_in_json(name, variants), read_as);
            row.extend(read.map(|value| (*name, value)));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_body_is_told_at_once() {
        let body = json!({"a": 7, "b": "xyz", "c": "nope", "d": null});
        let mut fields = Fields::of(&body).expect("an object");
        assert_eq!(fields.required("a", FieldKind::Text(None)), Value::Null);
        assert_eq!(fields.value("b", FieldKind::Text(Some(2))), None);
        assert_eq!(fields.value("c", FieldKind::OneOf(&["yes"])), None);
        assert_eq!(fields.value("d", FieldKind::Integer), Some(Value::Null));
        assert_eq!(fields.required("e", FieldKind::Id), Value::Null);
        let Err(SandboxError::Invalid(problems)) = fields.finish() else { panic!("it has problems") };
        let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, ["string_type", "string_too_long", "enum", "missing"]);
        assert_eq!(problems[0].loc, ["body", "payload", "a"]);
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        assert_eq!(Fields::of(&json!([])).map(drop).map_err(|refusal| refusal.status()), Err(422));
    }
}
