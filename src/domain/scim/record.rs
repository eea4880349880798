//! The stored part of a user: what the provider said that no fact of a member holds.
//!
//! Before: [`super::change`]. After: [`super::known`] puts it together with the facts; [`crate::store`] keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::team::{MemberFacts, MemberField, MemberId, MemberRole};
use super::super::{NAMESPACE, Timestamp};
use super::document::ScimDocument;
use super::terms::RoleFrom;

/// The stored part of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScimRecord {
    /// The bridge's id.
    pub id: String,
    /// The attributes as they were written.
    #[serde(default)]
    pub document: ScimDocument,
    /// Whether the provider put the user into the group `staff`; `None`: it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_staff: Option<bool>,
    /// As `in_staff`, of the group `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_admin: Option<bool>,
    /// The facts as they are with what was written: one that differs was changed by something else since. `None`: it was written while
    /// the member was not active, and no fact holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenFacts>,
    /// The time of the word that the document holds of each field of the person: the provider's, or that of a fact that it took over.
    /// A fact that is newer counts instead. A record of an older version has none, and counts from its last change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<MemberField, Timestamp>,
    /// As `said`, of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_said: Option<Timestamp>,
    /// The attribute that set the role when it was written.
    pub role_from: RoleFrom,
    /// The time of its making.
    pub created: Timestamp,
    /// The time of the last change by a request.
    pub modified: Timestamp,
    /// The time of its deletion. A deleted one has lost its attributes except `externalId`, which tells whose user the provider makes
    /// again. It is shown again once the member is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
}

/// The facts of a member that a user shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFacts {
    #[serde(default)]
    pub(super) email: Option<String>,
    #[serde(default)]
    pub(super) given_name: Option<String>,
    #[serde(default)]
    pub(super) family_name: Option<String>,
    #[serde(default)]
    pub(super) role: Option<MemberRole>,
}

impl SeenFacts {
    /// A field of the person.
    pub(super) fn text(&self, field: MemberField) -> Option<&str> {
        let text = match field {
            MemberField::Email => &self.email,
            MemberField::FirstName => &self.given_name,
            MemberField::LastName => &self.family_name,
        };
        text.as_deref()
    }

    /// The facts of a member; `observed` is the role at Podero.
    pub(super) fn of(facts: &MemberFacts, observed: Option<MemberRole>) -> Self {
        let text = |field| facts.text(field).map(str::to_owned);
        Self {
            email: text(MemberField::Email),
            given_name: text(MemberField::FirstName),
            family_name: text(MemberField::LastName),
            role: facts.role_over(observed),
        }
    }
}

impl ScimRecord {
    /// The record without its attributes, once the user is deleted. `externalId` stays: one who is made again is the same member.
    #[must_use]
    pub fn emptied(&self, at: Timestamp) -> Self {
        let external_id = self.document.external_id.clone();
        Self {
            document: ScimDocument { external_id, ..ScimDocument::default() },
            in_staff: None,
            in_admin: None,
            seen: None,
            said: BTreeMap::new(),
            role_said: None,
            modified: at,
            deleted: Some(at),
            ..self.clone()
        }
    }

    /// The `userName` in the form by which it is unique; `None`: a deleted one's is free.
    pub fn user_name_key(&self) -> Option<String> {
        self.deleted.is_none().then(|| self.document.user_name.to_lowercase())
    }

    /// The `externalId`, also of one that is deleted.
    pub fn external_id(&self) -> Option<&str> {
        self.document.external_id.as_deref()
    }

    /// The record of a deleted one whose `externalId` was given to another user.
    #[must_use]
    pub fn unlinked(&self) -> Self {
        let document = ScimDocument { external_id: None, ..self.document.clone() };
        Self { document, ..self.clone() }
    }

    /// The time of the word that the record holds of a field.
    pub(super) fn said_at(&self, field: MemberField) -> Timestamp {
        self.said.get(&field).copied().unwrap_or(self.modified)
    }

    /// The time of the word that the record holds of the role.
    pub(super) fn role_said_at(&self) -> Timestamp {
        self.role_said.unwrap_or(self.modified)
    }
}

/// The id of a user whom no request made: the same at each look, and not the member's own.
pub fn derived_id(member: &MemberId) -> String {
    Uuid::new_v5(&NAMESPACE, format!("scim/{member}").as_bytes()).to_string()
}
