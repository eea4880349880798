//! Resources as JSON: the attributes that were asked for, pages of lists, and the bridge's own attributes.
//!
//! Before: [`super::known`]. After: [`crate::inbound`] answers it.

use serde_json::{Map, Value, json};

use super::document::{ScimDocument, ScimEntry};
use super::error::{ScimError, ScimType};
use super::group::ScimGroup;
use super::known::ScimView;
use super::terms::{BRIDGE_SCHEMA, GROUP_SCHEMA, SCIM_PATH, USER_SCHEMA};

/// Limit of the resources of a page.
pub const PAGE_MAX: usize = 200;

/// Limit of the attributes that one request names.
const ATTRIBUTES_MAX: usize = 100;

/// The attributes that are answered, by `attributes` or `excludedAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    only: Option<Vec<String>>,
    without: Vec<String>,
}

/// Attributes that are always answered.
const ALWAYS: [&str; 2] = ["schemas", "id"];

impl Projection {
    /// Reads the two parameters, lists with commas.
    ///
    /// # Errors
    ///
    /// There are both, or too many names.
    pub fn read(only: Option<&str>, without: Option<&str>) -> Result<Self, ScimError> {
        let wrong = |detail: &str| ScimError::wrong(ScimType::InvalidValue, detail);
        if only.is_some() && without.is_some() {
            return Err(wrong("`attributes` and `excludedAttributes` exclude each other"));
        }
        let names = |text: &str| -> Vec<String> {
            text.split(',').map(|name| plain(name.trim())).filter(|name| !name.is_empty()).collect()
        };
        let projection = Self { only: only.map(names), without: without.map(names).unwrap_or_default() };
        let count = projection.only.as_ref().map_or(projection.without.len(), Vec::len);
        if count > ATTRIBUTES_MAX { Err(wrong("at most 100 attributes may be named")) } else { Ok(projection) }
    }

    /// True if an attribute is answered.
    pub fn wants(&self, attribute: &str) -> bool {
        let attribute = attribute.to_ascii_lowercase();
        match &self.only {
            Some(only) => only.iter().any(|name| name.split('.').next() == Some(&attribute)),
            None => !self.without.contains(&attribute),
        }
    }

    fn apply(&self, resource: Value) -> Value {
        let Value::Object(fields) = resource else { return resource };
        let kept = fields.into_iter().filter_map(|(name, value)| {
            if ALWAYS.contains(&name.as_str()) {
                return Some((name, value));
            }
            let key = plain(&name);
            let value = match &self.only {
                Some(only) if only.contains(&key) => value,
                Some(only) => part_of(value, |part| only.contains(&format!("{key}.{part}")))?,
                None if self.without.contains(&key) => return None,
                None => part_of(value, |part| !self.without.contains(&format!("{key}.{part}")))?,
            };
            Some((name, value))
        });
        Value::Object(kept.collect())
    }
}

/// The name of an attribute in lower case, without the schema of users or groups.
fn plain(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let of_schema = [USER_SCHEMA, GROUP_SCHEMA]
        .iter()
        .find_map(|schema| lower.strip_prefix(&format!("{}:", schema.to_ascii_lowercase())).map(str::to_owned));
    of_schema.unwrap_or(lower)
}

/// The parts of a complex attribute that are meant; `None`: none is. A simple attribute has none.
fn part_of(value: Value, is_meant: impl Fn(&str) -> bool + Copy) -> Option<Value> {
    match value {
        Value::Object(parts) => {
            let kept: Map<String, Value> =
                parts.into_iter().filter(|(part, _)| is_meant(&part.to_ascii_lowercase())).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(values) => {
            let kept: Vec<Value> = values.into_iter().filter_map(|value| part_of(value, is_meant)).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        // Nothing is a part of it: with `excludedAttributes` it stays, with `attributes` it was not named.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => is_meant("").then_some(value),
    }
}

/// A user.
pub fn user_json(view: &ScimView, projection: &Projection) -> Value {
    let ScimDocument {
        user_name,
        external_id,
        display_name,
        given_name,
        family_name,
        emails,
        roles,
        active,
        says_active: _,
        says_roles: _,
    } = &view.document;
    let mut user = json!({
        "schemas": [USER_SCHEMA, BRIDGE_SCHEMA],
        "id": view.id,
        "userName": user_name,
        "active": active,
        "meta": meta("User", &format!("Users/{}", view.id)),
        BRIDGE_SCHEMA: {"state": view.state.name()},
    });
    user["meta"]["created"] = json!(view.created);
    user["meta"]["lastModified"] = json!(view.modified);
    if let Some(reason) = &view.reason {
        user[BRIDGE_SCHEMA]["reason"] = json!(reason);
    }
    for (name, text) in [("externalId", external_id), ("displayName", display_name)] {
        if let Some(text) = text {
            user[name] = json!(text);
        }
    }
    for (part, text) in [("givenName", given_name), ("familyName", family_name)] {
        if let Some(text) = text {
            user["name"][part] = json!(text);
        }
    }
    for (name, entries) in [("emails", emails), ("roles", roles)] {
        if !entries.is_empty() {
            user[name] = entries.iter().map(entry).collect();
        }
    }
    if !view.groups.is_empty() {
        let group = |group: &ScimGroup| json!({"value": group.name(), "display": group.name(), "$ref": format!("{SCIM_PATH}/Groups/{group}")});
        user["groups"] = view.groups.iter().map(group).collect();
    }
    projection.apply(user)
}

fn entry(entry: &ScimEntry) -> Value {
    json!(entry)
}

/// A group with its members, as pairs of id and `userName`; `None`: they were not asked for.
pub fn group_json(group: ScimGroup, members: Option<&[(String, String)]>, projection: &Projection) -> Value {
    let mut shown = json!({
        "schemas": [GROUP_SCHEMA],
        "id": group.name(),
        "displayName": group.name(),
        "meta": meta("Group", &format!("Groups/{group}")),
    });
    if let Some(members) = members {
        let member = |(id, name): &(String, String)| json!({"value": id, "display": name, "type": "User", "$ref": format!("{SCIM_PATH}/Users/{id}")});
        shown["members"] = members.iter().map(member).collect();
    }
    projection.apply(shown)
}

fn meta(resource_type: &str, path: &str) -> Value {
    json!({"resourceType": resource_type, "location": format!("{SCIM_PATH}/{path}")})
}

/// The part of a list that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScimPage {
    /// The first one, from 1 on.
    pub start: usize,
    /// The number of them.
    pub count: usize,
}

impl ScimPage {
    /// Reads `startIndex` and `count`: what is less than allowed counts as the least, and what is more as the most.
    ///
    /// # Errors
    ///
    /// One is no number.
    pub fn read(start: Option<&str>, count: Option<&str>) -> Result<Self, ScimError> {
        let number = |name: &str, text: Option<&str>, default: i64| match text {
            None => Ok(default),
            Some(text) => text.trim().parse::<i64>().map_err(|_| ScimError::value(name, "must be a whole number")),
        };
        let start = number("startIndex", start, 1)?.max(1);
        let count = number("count", count, i64::try_from(PAGE_MAX).unwrap_or(i64::MAX))?.max(0);
        Ok(Self {
            start: usize::try_from(start).unwrap_or(usize::MAX),
            count: usize::try_from(count).unwrap_or(usize::MAX).min(PAGE_MAX),
        })
    }

    /// The items of the page.
    pub fn of<T>(self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        items.into_iter().skip(self.start - 1).take(self.count).collect()
    }
}

/// A list; `resources` are those of the page.
pub fn list_json(total: usize, start: usize, resources: Vec<Value>) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}
