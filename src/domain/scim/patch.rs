//! PATCH of a user: operations on its document, as the providers send them.
//!
//! `op` in any case; several operations on single values; an operation without a path whose value has attributes, also with dots in
//! their names; a value selected in brackets, which is made if it is not there.
//!
//! Before: [`crate::inbound`] reads JSON. After: [`super::change`] compares the document with what is known.

use serde_json::Value;

use super::super::names::names;
use super::document::{ENTRIES_MAX, ScimDocument, ScimEntry, entries, flag, optional_text, text_of};
use super::error::{ScimError, ScimType};
use super::path::{AttributePath, Selector, is_of_bridge};

/// Limit of the operations of one request: Entra ID sends one for each attribute, or for each member of a group.
pub const OPERATIONS_MAX: usize = 1_000;

const PATCH_SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

names! {
    /// The kind of an operation.
    pub enum PatchKind {
        Add = "add",
        Replace = "replace",
        Remove = "remove",
    }
}

/// One operation of PATCH.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchOperation {
    /// Its kind.
    pub kind: PatchKind,
    /// The attribute; without one the value has several.
    pub path: Option<String>,
    /// Its value; null if there is none.
    pub value: Value,
}

/// Reads the operations of a PATCH.
///
/// # Errors
///
/// It is none, or has too many operations.
pub fn read_patch(body: &Value) -> Result<Vec<PatchOperation>, ScimError> {
    let wrong = |detail: &str| ScimError::wrong(ScimType::InvalidSyntax, detail);
    let fields = body.as_object().ok_or_else(|| wrong("the body must be an object with `Operations`"))?;
    super::document::check_schemas(fields, PATCH_SCHEMA)?;
    let given = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("Operations")).map(|(_, given)| given);
    let given = given.and_then(Value::as_array).filter(|given| !given.is_empty());
    let given = given.ok_or_else(|| wrong("`Operations` must be a list of at least one operation"))?;
    if given.len() > OPERATIONS_MAX {
        return Err(ScimError::wrong(ScimType::InvalidValue, "`Operations` has at most 1,000; send several requests"));
    }
    given.iter().map(operation).collect()
}

fn operation(given: &Value) -> Result<PatchOperation, ScimError> {
    let wrong = |detail: &str| ScimError::wrong(ScimType::InvalidSyntax, detail);
    let fields = given.as_object().ok_or_else(|| wrong("an operation must be an object"))?;
    let field = |name: &str| fields.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let kind = field("op").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let kind = kind.as_deref().and_then(PatchKind::from_name);
    let kind = kind.ok_or_else(|| wrong("`op` must be add, replace or remove"))?;
    let path = match field("path") {
        None | Some(Value::Null) => None,
        Some(Value::String(path)) if path.is_empty() => None,
        Some(Value::String(path)) => Some(path.clone()),
        Some(_) => return Err(wrong("`path` must be a text")),
    };
    let value = field("value").cloned().unwrap_or(Value::Null);
    Ok(PatchOperation { kind, path, value })
}

/// The document after the operations.
///
/// # Errors
///
/// The first operation that cannot be carried out; then none is.
pub fn patch_document(document: &ScimDocument, operations: &[PatchOperation]) -> Result<ScimDocument, ScimError> {
    let mut document = document.clone();
    for operation in operations {
        document.patch(operation)?;
    }
    document.check()?;
    Ok(document)
}

/// Attributes that the bridge alone writes.
const READ_ONLY: [&str; 4] = ["id", "meta", "schemas", "groups"];

/// Attributes of one value: nothing can be selected among it.
const SINGLE: [&str; 5] = ["username", "externalid", "displayname", "name", "active"];

impl ScimDocument {
    fn patch(&mut self, operation: &PatchOperation) -> Result<(), ScimError> {
        let PatchOperation { kind, path, value } = operation;
        if let Some(path) = path {
            let read = AttributePath::read(path)?;
            if is_of_bridge(path) || READ_ONLY.contains(&read.attribute.as_str()) {
                return Err(ScimError::wrong(ScimType::Mutability, "`path` names an attribute that the bridge writes"));
            }
            return self.set(*kind, &read, value);
        }
        if *kind == PatchKind::Remove {
            return Err(ScimError::wrong(ScimType::NoTarget, "a removal needs a `path`"));
        }
        let values = value.as_object();
        let wrong = || ScimError::wrong(ScimType::InvalidSyntax, "without a `path`, `value` must be an object");
        for (name, value) in values.ok_or_else(wrong)? {
            let path = AttributePath::read(name)?;
            if !READ_ONLY.contains(&path.attribute.as_str()) {
                self.set(*kind, &path, value)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, kind: PatchKind, path: &AttributePath, value: &Value) -> Result<(), ScimError> {
        // A removal of a single value has none, and null says the same.
        let named = value;
        let value = if kind == PatchKind::Remove { &Value::Null } else { value };
        if path.selector.is_some() && SINGLE.contains(&path.attribute.as_str()) {
            return Err(ScimError::wrong(ScimType::InvalidPath, "brackets select among several values: this has one"));
        }
        match (path.attribute.as_str(), path.part.as_deref()) {
            ("username", None) => self.user_name = text_of("userName", value)?,
            ("externalid", None) => self.external_id = optional_text("externalId", value)?,
            ("displayname", None) => self.display_name = optional_text("displayName", value)?,
            ("name", Some("givenname")) => self.given_name = optional_text("name.givenName", value)?,
            ("name", Some("familyname")) => self.family_name = optional_text("name.familyName", value)?,
            ("name", None) if value.is_null() => (self.given_name, self.family_name) = (None, None),
            ("name", None) => self.take_name(value)?,
            ("active", None) => (self.active, self.says_active) = (flag("active", value)?, true),
            ("emails", part) => set_entries("emails", &mut self.emails, kind, path, part, named)?,
            ("roles", part) => set_entries("roles", &mut self.roles, kind, path, part, named)?,
            _ => {}
        }
        Ok(())
    }
}

fn set_entries(
    attribute: &str,
    all: &mut Vec<ScimEntry>,
    kind: PatchKind,
    path: &AttributePath,
    part: Option<&str>,
    value: &Value,
) -> Result<(), ScimError> {
    match (&path.selector, part, kind) {
        // As the providers remove members of a group: those that are named go.
        (None, None | Some("value"), PatchKind::Remove) if !value.is_null() => {
            let named = entries(attribute, value)?;
            all.retain(|entry| named.iter().all(|named| named.value != entry.value));
        }
        (None, None, PatchKind::Remove) => all.clear(),
        (None, None, PatchKind::Replace) => *all = entries(attribute, value)?,
        (None, None, PatchKind::Add) => add(all, entries(attribute, value)?),
        (Some(selector), None | Some("value"), PatchKind::Remove) => all.retain(|entry| !entry.is_selected(selector)),
        (None, Some("value"), PatchKind::Remove) => all.clear(),
        (selector, part, _) => {
            let value = if kind == PatchKind::Remove { &Value::Null } else { value };
            let is_meant = |entry: &ScimEntry| selector.as_ref().is_none_or(|selector| entry.is_selected(selector));
            if !all.iter().any(is_meant) && kind != PatchKind::Remove {
                all.push(selector.as_ref().map(ScimEntry::selected).unwrap_or_default());
            }
            // A new primary value takes the place of the old (RFC 7644 §3.5.2).
            let is_primary = if part == Some("primary") { Some(value) } else { value.get("primary") };
            if is_primary.is_some_and(|value| flag("primary", value) == Ok(true)) {
                let others = all.iter_mut().filter(|entry| !is_meant(entry) && entry.primary == Some(true));
                others.for_each(|entry| entry.primary = Some(false));
            }
            for entry in all.iter_mut().filter(|entry| is_meant(entry)) {
                match part {
                    Some(part) => entry.take(attribute, part, value)?,
                    None => {
                        let parts = value.as_object();
                        let wanted = "must be an object for a value that is selected in brackets";
                        for (part, value) in parts.ok_or_else(|| ScimError::value(attribute, wanted))? {
                            entry.take(attribute, part, value)?;
                        }
                    }
                }
            }
        }
    }
    if all.len() > ENTRIES_MAX {
        return Err(ScimError::value(attribute, "must have at most 20 values"));
    }
    Ok(())
}

/// Adds values. One that is there with the same value is replaced; a new primary one takes the place of the old.
fn add(all: &mut Vec<ScimEntry>, new: Vec<ScimEntry>) {
    for entry in new {
        if entry.primary == Some(true) {
            all.iter_mut().filter(|known| known.primary == Some(true)).for_each(|known| known.primary = Some(false));
        }
        match all.iter_mut().find(|known| known.value == entry.value) {
            Some(known) => *known = entry,
            None => all.push(entry),
        }
    }
}

impl ScimEntry {
    fn is_selected(&self, by: &Selector) -> bool {
        match by.part.as_str() {
            "type" => by.is_text(self.kind.as_deref()),
            "value" => by.is_text(Some(&self.value)),
            "display" => by.is_text(self.display.as_deref()),
            "primary" => by.flag() == Some(self.primary == Some(true)),
            _ => false,
        }
    }

    /// A new value that the selector selects.
    fn selected(by: &Selector) -> Self {
        let text = by.value.as_str().map(str::to_owned);
        let mut entry = Self::default();
        match by.part.as_str() {
            "type" => entry.kind = text,
            "value" => entry.value = text.unwrap_or_default(),
            "display" => entry.display = text,
            "primary" => entry.primary = by.flag(),
            _ => {}
        }
        entry
    }
}
