//! The attributes of a user that a client writes, as one document: what POST and PUT send, and what PATCH changes.
//!
//! Names of attributes are compared without regard to case (RFC 7643 §2.1). Attributes that the bridge does not have (`title`, the
//! enterprise extension with `manager`, and so on) are passed over; a password is passed over and kept nowhere.
//!
//! Before: [`crate::inbound`] reads JSON. After: [`super::change`] compares it with what is known.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::team::{MemberField, MemberId, MemberRole, is_address};
use super::super::text;
use super::error::{ScimError, ScimType};
use super::terms::{RoleFrom, USER_SCHEMA};

/// Limit of a text in characters: that of an e-mail address.
pub(super) const TEXT_CHARS_MAX: usize = 254;

/// Limit of the values of one attribute: a person has a few addresses.
pub(super) const ENTRIES_MAX: usize = 20;

/// A value of an attribute that has several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScimEntry {
    /// The value.
    pub value: String,
    /// Its kind, such as `work`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// True for the one that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
}

/// The attributes of a user that a client writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScimDocument {
    /// `userName`.
    pub user_name: String,
    /// `externalId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// `displayName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// `name.givenName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    /// `name.familyName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
    /// `emails`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<ScimEntry>,
    /// `roles`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<ScimEntry>,
    /// `active`; not part of what is kept.
    #[serde(skip)]
    pub active: bool,
    /// True if the request itself says something of `active`; not part of what is kept.
    #[serde(skip)]
    pub says_active: bool,
    /// True if the request itself says something of `roles`; not part of what is kept.
    #[serde(skip)]
    pub says_roles: bool,
}

impl ScimDocument {
    /// Reads the body of a POST or PUT.
    ///
    /// # Errors
    ///
    /// It is no user, or an attribute has no allowed value.
    pub fn read(body: &Value) -> Result<Self, ScimError> {
        let fields = body
            .as_object()
            .ok_or_else(|| ScimError::wrong(ScimType::InvalidSyntax, "the body must be an object: a user"))?;
        check_schemas(fields, USER_SCHEMA)?;
        let mut document = Self { active: true, ..Self::default() };
        for (name, value) in fields {
            document.take(name, value)?;
        }
        document.check()?;
        Ok(document)
    }

    /// Takes one attribute of a whole document; null is as good as absent.
    fn take(&mut self, name: &str, value: &Value) -> Result<(), ScimError> {
        let lower = name.to_ascii_lowercase();
        let lower = lower.strip_prefix(&format!("{}:", USER_SCHEMA.to_ascii_lowercase())).unwrap_or(&lower).to_owned();
        if value.is_null() {
            return Ok(());
        }
        match lower.as_str() {
            "username" => self.user_name = text_of("userName", value)?,
            "externalid" => self.external_id = Some(text_of("externalId", value)?),
            "displayname" => self.display_name = optional_text("displayName", value)?,
            "name" => self.take_name(value)?,
            "emails" => self.emails = entries("emails", value)?,
            "roles" => (self.roles, self.says_roles) = (entries("roles", value)?, true),
            "active" => (self.active, self.says_active) = (flag("active", value)?, true),
            _ => {}
        }
        Ok(())
    }

    /// This document in the place of `before`. Access is not changed by what is left out: without `active` and `roles` both stay, and so
    /// does `externalId`, by which the provider finds the user again.
    pub(super) fn in_place_of(&self, before: &Self) -> Self {
        let mut document = self.clone();
        if !self.says_active {
            document.active = before.active;
        }
        if !self.says_roles {
            document.roles.clone_from(&before.roles);
        }
        document.external_id = document.external_id.or_else(|| before.external_id.clone());
        document
    }

    /// As it is kept: whether the user is active is a fact, and what a request said is over with it.
    pub(super) fn kept(mut self) -> Self {
        (self.active, self.says_active, self.says_roles) = (false, false, false);
        self
    }

    /// Takes the parts of a name that are there.
    pub(super) fn take_name(&mut self, value: &Value) -> Result<(), ScimError> {
        let parts = value.as_object().ok_or_else(|| ScimError::value("name", "must be an object"))?;
        for (part, value) in parts {
            match part.to_ascii_lowercase().as_str() {
                "givenname" => self.given_name = optional_text("name.givenName", value)?,
                "familyname" => self.family_name = optional_text("name.familyName", value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks what concerns the document as a whole.
    pub(super) fn check(&self) -> Result<(), ScimError> {
        if self.user_name.is_empty() {
            return Err(ScimError::value("userName", "is required"));
        }
        if self.emails.iter().chain(&self.roles).any(|entry| entry.value.is_empty()) {
            return Err(ScimError::value("value", "is required in each of `emails` and `roles`"));
        }
        let primary = |entries: &[ScimEntry]| entries.iter().filter(|entry| entry.primary == Some(true)).count() > 1;
        if primary(&self.emails) || primary(&self.roles) {
            return Err(ScimError::value("primary", "may be true in one of several values"));
        }
        self.address().map(drop)
    }

    /// The e-mail address: the primary one of `emails`, else the only one, else `userName` if it is one.
    ///
    /// # Errors
    ///
    /// There is none, or it is none.
    pub fn address(&self) -> Result<&str, ScimError> {
        let address = match self.chosen() {
            Some(index) => &self.emails[index].value,
            None => &self.user_name,
        };
        if text::looks_like_email(address) {
            return Ok(address);
        }
        let wanted =
            "must have an e-mail address: the primary one counts, else the only one, else `userName` if it is one";
        Err(ScimError::value("emails", wanted))
    }

    /// The text of a field of the person.
    pub(super) fn text(&self, field: MemberField) -> Option<&str> {
        match field {
            MemberField::Email => self.address().ok(),
            MemberField::FirstName => self.given_name.as_deref(),
            MemberField::LastName => self.family_name.as_deref(),
        }
    }

    /// Takes the text of a field of the person over from a fact. No address is none: it stays.
    pub(super) fn take_fact(&mut self, field: MemberField, text: Option<&str>) {
        let text = text.map(str::to_owned);
        match (field, text) {
            (MemberField::FirstName, text) => self.given_name = text,
            (MemberField::LastName, text) => self.family_name = text,
            (MemberField::Email, None) => {}
            (MemberField::Email, Some(email)) => match self.chosen() {
                Some(index) => self.emails[index].value = email,
                None => self.emails.push(ScimEntry::work(email)),
            },
        }
    }

    /// The place in `emails` of the address that counts.
    pub(super) fn chosen(&self) -> Option<usize> {
        let primary = self.emails.iter().position(|entry| entry.primary == Some(true));
        primary.or((self.emails.len() == 1).then_some(0))
    }

    /// The role that the attribute `roles` names.
    ///
    /// # Errors
    ///
    /// It names something else, and counts.
    pub fn role(&self, role_from: RoleFrom) -> Result<MemberRole, ScimError> {
        let known = |entry: &ScimEntry| MemberRole::from_name(&entry.value.to_ascii_lowercase());
        if role_from == RoleFrom::Roles && self.roles.iter().any(|entry| known(entry).is_none()) {
            return Err(ScimError::value("roles", "must be `staff` or `admin`: scim.role_from is `roles`"));
        }
        Ok(self.roles.iter().filter_map(known).max().unwrap_or(MemberRole::Staff))
    }
}

/// Refuses a body that says that it is something else. One that says nothing is tolerated if it looks like the thing.
pub(super) fn check_schemas(fields: &Map<String, Value>, wanted: &str) -> Result<(), ScimError> {
    let Some(schemas) = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("schemas")) else { return Ok(()) };
    let named = schemas.1.as_array().map(Vec::as_slice).unwrap_or_default();
    if named.iter().filter_map(Value::as_str).any(|schema| schema.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    Err(ScimError::wrong(ScimType::InvalidSyntax, format!("`schemas` must name {wanted}")))
}

/// A text of 1 to [`TEXT_CHARS_MAX`] printable characters.
pub(super) fn text_of(attribute: &str, value: &Value) -> Result<String, ScimError> {
    let text = value.as_str().and_then(|text| text::id(text, TEXT_CHARS_MAX));
    text.ok_or_else(|| ScimError::value(attribute, "must be a text of 1 to 254 printable characters"))
}

/// As [`text_of`]; an empty text, or null, is none.
pub(super) fn optional_text(attribute: &str, value: &Value) -> Result<Option<String>, ScimError> {
    let is_nothing = value.is_null() || value.as_str().is_some_and(|text| text::trim(text).is_empty());
    if is_nothing { Ok(None) } else { text_of(attribute, value).map(Some) }
}

/// A truth value, also as a text: Entra ID sends `"False"`.
pub(super) fn flag(attribute: &str, value: &Value) -> Result<bool, ScimError> {
    let of_text = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    let flag = value.as_bool().or_else(|| value.as_str().and_then(of_text));
    flag.ok_or_else(|| ScimError::value(attribute, "must be true or false"))
}

/// The values of an attribute that has several. A single one may stand without a list, and a text for its value.
pub(super) fn entries(attribute: &str, value: &Value) -> Result<Vec<ScimEntry>, ScimError> {
    let values = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => &values[..],
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => std::slice::from_ref(value),
    };
    if values.len() > ENTRIES_MAX {
        return Err(ScimError::value(attribute, "must have at most 20 values"));
    }
    values.iter().map(|value| entry(attribute, value)).collect()
}

fn entry(attribute: &str, value: &Value) -> Result<ScimEntry, ScimError> {
    let mut entry = ScimEntry::default();
    match value {
        Value::String(_) => entry.value = text_of(attribute, value)?,
        Value::Object(parts) => {
            for (part, value) in parts {
                entry.take(attribute, part, value)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(ScimError::value(attribute, "must be a list of objects with `value`"));
        }
    }
    Ok(entry)
}

impl ScimEntry {
    /// The address of a member, under the type by which Entra ID changes it.
    pub(super) fn work(value: String) -> Self {
        Self { value, kind: Some("work".to_owned()), primary: Some(true), display: None }
    }

    /// Takes one part of it; null removes the part.
    pub(super) fn take(&mut self, attribute: &str, part: &str, value: &Value) -> Result<(), ScimError> {
        match part.to_ascii_lowercase().as_str() {
            "value" => self.value = text_of(&format!("{attribute}.value"), value)?,
            "type" => self.kind = optional_text(&format!("{attribute}.type"), value)?,
            "display" => self.display = optional_text(&format!("{attribute}.display"), value)?,
            "primary" if value.is_null() => self.primary = None,
            "primary" => self.primary = Some(flag(&format!("{attribute}.primary"), value)?),
            _ => {}
        }
        Ok(())
    }
}

impl ScimDocument {
    /// The member that a new user is: by `externalId`, else by the bridge's own `id`.
    ///
    /// # Errors
    ///
    /// `externalId` cannot be the id of a member.
    pub fn member(&self, id: &str) -> Result<MemberId, ScimError> {
        let key = self.external_id.as_deref().unwrap_or(id);
        if is_address(key) {
            let wanted = "must be an id that stays with the person, and no e-mail address (member_id_is_address)";
            return Err(ScimError::value("externalId", wanted));
        }
        MemberId::accept(key).ok_or_else(|| ScimError::value("externalId", "must be 1 to 128 printable characters"))
    }
}
