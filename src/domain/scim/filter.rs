//! The filters of lists: one comparison for equality, which is what the providers send.
//!
//! `userName` and `displayName` are compared without regard to case, ids exactly.
//!
//! Before: [`crate::inbound`] reads the query. After: [`super::reply`].

use super::super::text;
use super::document::TEXT_CHARS_MAX;
use super::error::{ScimError, ScimType};
use super::known::ScimView;
use super::terms::{GROUP_SCHEMA, USER_SCHEMA};

/// Limit of a filter in bytes: an attribute, and a text of a user.
pub const FILTER_BYTES_MAX: usize = 1_024;

/// A filter of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScimFilter {
    /// `userName eq "…"`, in lower case.
    UserName(String),
    /// `externalId eq "…"`.
    ExternalId(String),
    /// `id eq "…"`.
    Id(String),
}

/// A filter of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupFilter {
    /// `displayName eq "…"`, in lower case.
    DisplayName(String),
    /// `id eq "…"`.
    Id(String),
}

impl ScimFilter {
    /// Reads a filter of users.
    ///
    /// # Errors
    ///
    /// It is none that the bridge knows.
    pub fn read(text: &str) -> Result<Self, ScimError> {
        let (attribute, value) = comparison(text, USER_SCHEMA)?;
        match attribute.as_str() {
            "username" => Ok(Self::UserName(as_kept(value).to_lowercase())),
            "externalid" => Ok(Self::ExternalId(as_kept(value))),
            "id" => Ok(Self::Id(value)),
            _ => Err(unknown("`userName eq`, `externalId eq` and `id eq`")),
        }
    }

    /// `true` if it lets this user through.
    pub fn admits(&self, view: &ScimView) -> bool {
        match self {
            Self::UserName(name) => view.document.user_name.to_lowercase() == *name,
            Self::ExternalId(id) => view.document.external_id.as_ref() == Some(id),
            Self::Id(id) => view.id == *id,
        }
    }
}

/// The text in the form in which a document has it; one that no document can have finds nobody.
fn as_kept(value: String) -> String {
    text::id(&value, TEXT_CHARS_MAX).unwrap_or(value)
}

impl GroupFilter {
    /// Reads a filter of groups.
    ///
    /// # Errors
    ///
    /// It is none that the bridge knows.
    pub fn read(text: &str) -> Result<Self, ScimError> {
        let (attribute, value) = comparison(text, GROUP_SCHEMA)?;
        match attribute.as_str() {
            "displayname" => Ok(Self::DisplayName(value.to_lowercase())),
            "id" => Ok(Self::Id(value)),
            _ => Err(unknown("`displayName eq` and `id eq`")),
        }
    }

    /// `true` if it lets the group of this name through.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            Self::DisplayName(wanted) => wanted == name,
            Self::Id(id) => id == name,
        }
    }
}

fn unknown(known: &str) -> ScimError {
    ScimError::wrong(ScimType::InvalidFilter, format!("of filters the bridge knows {known}, each alone"))
}

/// Reads `attribute eq "text"`: the attribute in lower case and without its schema, and the text.
fn comparison(text: &str, schema: &str) -> Result<(String, String), ScimError> {
    let wrong = |detail: &str| ScimError::wrong(ScimType::InvalidFilter, detail);
    if text.len() > FILTER_BYTES_MAX {
        return Err(wrong("a filter has at most 1,024 bytes"));
    }
    let mut words = text.trim().splitn(3, ' ');
    let (Some(attribute), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
        return Err(wrong("a filter is `attribute eq \"text\"`"));
    };
    if !operator.eq_ignore_ascii_case("eq") {
        return Err(wrong("of comparisons the bridge knows `eq`"));
    }
    let value: String = serde_json::from_str(value.trim())
        .map_err(|_| wrong("behind `eq` stands one text in double quotes, and nothing behind it"))?;
    let attribute = attribute.to_ascii_lowercase();
    let attribute = attribute.strip_prefix(&format!("{}:", schema.to_ascii_lowercase())).unwrap_or(&attribute);
    Ok((attribute.to_owned(), value))
}
