//! The two groups, and requests about their members. They set the role: in `admin`, an admin; else staff.
//!
//! A removal that names members removes those, in whichever of the two ways the providers name them; one that names none would by the
//! letter remove all, and is refused, as is a replacement by nothing.
//!
//! Before: [`crate::inbound`] reads JSON. After: [`super::change`], for each member that changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::names::names;
use super::document::check_schemas;
use super::error::{ScimError, ScimType};
use super::patch::{PatchKind, PatchOperation};
use super::path::AttributePath;
use super::terms::GROUP_SCHEMA;

/// Limit of the members that one request moves.
pub const GROUP_CHANGES_MAX: usize = 1_000;

/// Limit of the characters of an id.
const ID_CHARS_MAX: usize = 128;

names! {
    /// A group.
    pub enum ScimGroup {
        /// Manages end-users and devices.
        Staff = "staff",
        /// Does everything.
        Admin = "admin",
    }
}

/// A change of a group's members, by their ids as users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// These come in.
    Add(BTreeSet<String>),
    /// These go out.
    Remove(BTreeSet<String>),
    /// Exactly these are in.
    Set(BTreeSet<String>),
}

/// Reads the body of a PUT of a group.
///
/// # Errors
///
/// It is no group, or would rename it.
pub fn read_group_put(body: &Value, group: ScimGroup) -> Result<Vec<GroupChange>, ScimError> {
    let wrong = || ScimError::wrong(ScimType::InvalidSyntax, "the body must be an object: a group");
    let fields = body.as_object().ok_or_else(wrong)?;
    check_schemas(fields, GROUP_SCHEMA)?;
    let mut members = BTreeSet::new();
    for (name, value) in fields {
        match name.to_ascii_lowercase().as_str() {
            "displayname" => check_name(value, group)?,
            "members" => members = ids(value)?,
            _ => {}
        }
    }
    Ok(vec![GroupChange::Set(members)])
}

/// Reads the operations of a PATCH of a group.
///
/// # Errors
///
/// An operation removes without saying whom, or changes what is fixed.
pub fn read_group_patch(operations: &[PatchOperation], group: ScimGroup) -> Result<Vec<GroupChange>, ScimError> {
    let mut changes = Vec::new();
    for PatchOperation { kind, path, value } in operations {
        match path {
            Some(path) => set(&mut changes, *kind, path, value, group)?,
            None if *kind == PatchKind::Remove => {
                return Err(ScimError::wrong(ScimType::NoTarget, "a removal needs a `path`"));
            }
            None => {
                let wrong = || ScimError::wrong(ScimType::InvalidSyntax, "without a `path`, `value` must be an object");
                for (name, value) in value.as_object().ok_or_else(wrong)? {
                    if !["id", "schemas", "meta"].contains(&name.to_ascii_lowercase().as_str()) {
                        set(&mut changes, *kind, name, value, group)?;
                    }
                }
            }
        }
    }
    Ok(changes)
}

fn set(
    changes: &mut Vec<GroupChange>,
    kind: PatchKind,
    path: &str,
    value: &Value,
    group: ScimGroup,
) -> Result<(), ScimError> {
    let path = AttributePath::read(path)?;
    match path.attribute.as_str() {
        "members" => changes.push(members(kind, &path, value)?),
        "displayname" => check_name(value, group)?,
        "id" | "meta" | "schemas" => {
            return Err(ScimError::wrong(ScimType::Mutability, "`path` names an attribute that the bridge writes"));
        }
        _ => {}
    }
    Ok(())
}

fn members(kind: PatchKind, path: &AttributePath, value: &Value) -> Result<GroupChange, ScimError> {
    if path.part.as_deref().is_some_and(|part| part != "value") {
        let wanted = "a member is added or removed as a whole: `members`, or `members[value eq \"…\"]`";
        return Err(ScimError::wrong(ScimType::InvalidPath, wanted));
    }
    let selected = path.selector.as_ref().map(|selector| match (&*selector.part, selector.value.as_str()) {
        ("value", Some(id)) => Ok(BTreeSet::from([id.to_owned()])),
        _ => Err(ScimError::wrong(ScimType::InvalidFilter, "of filters of members the bridge knows `value eq`")),
    });
    let named = match selected.transpose()? {
        Some(selected) => selected,
        None => ids(value)?,
    };
    match kind {
        PatchKind::Add => Ok(GroupChange::Add(named)),
        PatchKind::Replace if path.selector.is_none() => Ok(GroupChange::Set(named)),
        PatchKind::Replace => {
            Err(ScimError::wrong(ScimType::Mutability, "a member is added or removed, and has no parts to replace"))
        }
        PatchKind::Remove if named.is_empty() => {
            let wanted = "a removal must name the members that go, in `value` or as `members[value eq \"…\"]`";
            Err(ScimError::wrong(ScimType::NoTarget, wanted))
        }
        PatchKind::Remove => Ok(GroupChange::Remove(named)),
    }
}

/// The ids of members: objects with `value`, or texts, in a list or alone.
fn ids(value: &Value) -> Result<BTreeSet<String>, ScimError> {
    let values = match value {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Array(values) => &values[..],
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => std::slice::from_ref(value),
    };
    if values.len() > GROUP_CHANGES_MAX {
        return Err(ScimError::value("members", "names at most 1,000 in one request; send several"));
    }
    let id = |value| {
        let wanted = "must be a list of objects whose `value` is the `id` of a user";
        id_of(value).map(str::to_owned).ok_or_else(|| ScimError::value("members", wanted))
    };
    values.iter().map(id).collect()
}

fn id_of(value: &Value) -> Option<&str> {
    let of_object = || value.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case("value"))?.1.as_str();
    value.as_str().or_else(of_object).filter(|id| (1..=ID_CHARS_MAX).contains(&id.chars().count()))
}

/// The name of a group stays. A provider that repeats it changes nothing.
fn check_name(value: &Value, group: ScimGroup) -> Result<(), ScimError> {
    let is_same = value.as_str().is_some_and(|name| name.eq_ignore_ascii_case(group.name()));
    let wrong = || ScimError::wrong(ScimType::Mutability, "the groups are `staff` and `admin`, and keep their names");
    if is_same { Ok(()) } else { Err(wrong()) }
}

/// The members that come in and go out, in this order, by who is in now.
///
/// # Errors
///
/// A replacement by nothing, where somebody is in.
pub fn change_group(
    changes: &[GroupChange],
    now: &BTreeSet<String>,
) -> Result<(BTreeSet<String>, BTreeSet<String>), ScimError> {
    let mut after = now.clone();
    for change in changes {
        match change {
            GroupChange::Add(ids) => after.extend(ids.iter().cloned()),
            GroupChange::Remove(ids) => after.retain(|id| !ids.contains(id)),
            GroupChange::Set(ids) if ids.is_empty() && !after.is_empty() => {
                let wanted = "must not be replaced by nothing: name the members that go in a removal";
                return Err(ScimError::value("members", wanted));
            }
            GroupChange::Set(ids) => after.clone_from(ids),
        }
    }
    let (added, removed): (BTreeSet<String>, BTreeSet<String>) =
        (after.difference(now).cloned().collect(), now.difference(&after).cloned().collect());
    if added.len() + removed.len() > GROUP_CHANGES_MAX {
        return Err(ScimError::value("members", "changes by at most 1,000 in one request; send several"));
    }
    Ok((added, removed))
}
