//! The path of an operation of PATCH (RFC 7644 §3.5.2): `attribute`, `attribute.part`, `attribute[filter]`, `attribute[filter].part`,
//! each with or without the schema in front.
//!
//! Before: [`super::patch`]. After: the document.

use serde_json::Value;

use super::error::{ScimError, ScimType};
use super::terms::{BRIDGE_SCHEMA, GROUP_SCHEMA, USER_SCHEMA};

/// Limit of a path in bytes: the longest of a provider has some 150.
pub(super) const PATH_BYTES_MAX: usize = 512;

/// A path that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AttributePath {
    /// The attribute in lower case; empty for one of another schema, which the bridge does not have.
    pub(super) attribute: String,
    /// The value that is meant, among several.
    pub(super) selector: Option<Selector>,
    /// The part of it, in lower case.
    pub(super) part: Option<String>,
}

/// A comparison that selects some of several values: `part eq value`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selector {
    pub(super) part: String,
    pub(super) value: Value,
}

impl AttributePath {
    pub(super) fn read(text: &str) -> Result<Self, ScimError> {
        let wrong = |detail: &str| ScimError::wrong(ScimType::InvalidPath, detail);
        if text.is_empty() || text.len() > PATH_BYTES_MAX {
            return Err(wrong("`path` must be an attribute, of at most 512 bytes"));
        }
        let Some(rest) = without_schema(text.trim()) else {
            return Ok(Self { attribute: String::new(), selector: None, part: None });
        };
        let (head, selector, tail) = match rest.split_once('[') {
            None => (rest, None, ""),
            Some((head, behind)) => {
                let (filter, tail) =
                    behind.rsplit_once(']').ok_or_else(|| wrong("`path` has a bracket that is not closed"))?;
                (head, Some(Selector::read(filter)?), tail)
            }
        };
        let (attribute, part) = match (head.split_once('.'), tail.strip_prefix('.')) {
            (None, None) if tail.is_empty() => (head, None),
            (None, Some(part)) => (head, Some(part)),
            (Some((attribute, part)), None) if tail.is_empty() => (attribute, Some(part)),
            _ => return Err(wrong("`path` must be `attribute`, `attribute.part` or `attribute[filter].part`")),
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$'))
        };
        if !is_name(attribute) || part.is_some_and(|part| !is_name(part)) {
            return Err(wrong("`path` must be made of names of attributes"));
        }
        Ok(Self { attribute: attribute.to_ascii_lowercase(), selector, part: part.map(str::to_ascii_lowercase) })
    }
}

/// The path without the schema of users or groups; `None`: it is of another schema.
fn without_schema(text: &str) -> Option<&str> {
    for schema in [USER_SCHEMA, GROUP_SCHEMA] {
        let is_it = text.get(..schema.len()).is_some_and(|start| start.eq_ignore_ascii_case(schema));
        if is_it && let Some(rest) = text[schema.len()..].strip_prefix(':') {
            return Some(rest);
        }
    }
    (!text.to_ascii_lowercase().starts_with("urn:")).then_some(text)
}

/// `true` if a path names the bridge's own attributes, which no client writes.
pub(super) fn is_of_bridge(text: &str) -> bool {
    text.get(..BRIDGE_SCHEMA.len()).is_some_and(|start| start.eq_ignore_ascii_case(BRIDGE_SCHEMA))
}

impl Selector {
    fn read(text: &str) -> Result<Self, ScimError> {
        let wrong = || ScimError::wrong(ScimType::InvalidFilter, "in brackets stands one comparison: `part eq value`");
        let mut words = text.trim().splitn(3, ' ');
        let (Some(part), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
            return Err(wrong());
        };
        if !operator.eq_ignore_ascii_case("eq") {
            return Err(wrong());
        }
        let value = serde_json::from_str(value.trim()).map_err(|_| wrong())?;
        Ok(Self { part: part.to_ascii_lowercase(), value })
    }

    /// `true` if a text is the one that is looked for; case makes no difference.
    pub(super) fn is_text(&self, text: Option<&str>) -> bool {
        self.value.as_str().zip(text).is_some_and(|(wanted, text)| wanted.to_lowercase() == text.to_lowercase())
    }

    /// The truth value that is looked for, also as a text: Entra ID writes `primary eq "True"`.
    pub(super) fn flag(&self) -> Option<bool> {
        super::document::flag(&self.part, &self.value).ok()
    }
}
