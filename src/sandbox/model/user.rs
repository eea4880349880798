//! A user of the organisation: fields, request bodies, and the mail that inviting them sends.
//!
//! Facts: `api-reference/users/*`, `partner-api/reference/users`. It must never know another user.
//!
//! Before: [`crate::sandbox::model::World`]. After: [`crate::sandbox::access`].

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::fields::{FieldKind, FieldValues, Fields, Shown, text_of, write_row};
use super::password::{PasswordHash, flaws};
use crate::domain::Timestamp;
use crate::sandbox::access::{Subject, UserRole};
use crate::sandbox::error::SandboxResult;
use crate::sandbox::variants::Variants;

/// Limit of an e-mail address in characters (RFC 5321 §4.5.3.1.3, without the angle brackets); Podero names no limit.
pub(in crate::sandbox) const EMAIL_CHARS_MAX: usize = 254;

/// Fields other than role and e-mail address (`partner-api/reference/users`).
pub(in crate::sandbox) const USER_FIELDS: [(&str, FieldKind); 11] = [
    // The partner's own key; uniqueness is not documented.
    ("external_user_id", FieldKind::Text(None)),
    ("first_name", FieldKind::Text(None)),
    ("last_name", FieldKind::Text(None)),
    // Meaning not described: here, whether they ever finished an onboarding session.
    ("is_onboarded", FieldKind::ReadOnly),
    ("street_and_number", FieldKind::Text(None)),
    ("street_add_info", FieldKind::Text(None)),
    ("zip_code", FieldKind::ZipCode(usize::MAX)),
    ("town", FieldKind::Text(None)),
    ("country", FieldKind::Country),
    ("latitude", FieldKind::Number),
    ("longitude", FieldKind::Number),
];

/// Fields that move a user.
const LOCATION: [&str; 7] =
    ["street_and_number", "street_add_info", "zip_code", "town", "country", "latitude", "longitude"];

/// A user as Podero keeps them.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Podero's id of them.
    pub id: Uuid,
    /// Their organisation; never changes.
    pub organization_id: Uuid,
    /// The role, which decides on their rights.
    pub role: UserRole,
    /// Unique in the organisation, letter case aside.
    pub email: String,
    /// The time of their last login.
    pub last_login: Option<Timestamp>,
    /// The time at which they accepted their invitation.
    pub joined_at: Option<Timestamp>,
    /// The time at which their address last changed (older shape; system-managed).
    pub location_last_updated: Option<Timestamp>,
    /// Their heat pumps that are not deleted.
    pub num_heat_pumps: u32,
    /// True if softly deleted; no answer of Podero says so.
    pub deleted: bool,
    /// Set with the invitation; who was never invited cannot log in.
    pub(super) password: Option<PasswordHash>,
    pub(super) row: FieldValues,
}

impl User {
    /// A new user without any of the fields that they may have or not.
    pub(super) fn new(id: Uuid, organization_id: Uuid, role: UserRole, email: String) -> Self {
        Self {
            id,
            organization_id,
            role,
            email,
            last_login: None,
            joined_at: None,
            location_last_updated: None,
            num_heat_pumps: 0,
            deleted: false,
            password: None,
            row: FieldValues::from([("is_onboarded", Value::Bool(false))]),
        }
    }

    /// The user as the object of an act.
    pub fn subject(&self) -> Subject {
        Subject { user_id: self.id, role: self.role }
    }

    /// The text of a field, such as `town`. The names of `country` and `zip_code` are these under every variant.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.row.get(name).and_then(Value::as_str)
    }

    /// The partner's own key.
    pub fn external_id(&self) -> Option<&str> {
        self.text("external_user_id")
    }

    pub(super) fn change(&mut self, fields: FieldValues, now: Timestamp) {
        if fields.keys().any(|name| LOCATION.contains(name)) {
            self.location_last_updated = Some(now);
        }
        self.row.extend(fields);
    }
}

/// Body of POST `/org/{org_id}/users` (`partner-api/getting-started/create-user`).
#[derive(Debug, Clone, PartialEq)]
pub struct CreateUser {
    /// Required.
    pub email: String,
    /// Required.
    pub role: UserRole,
    /// The rest.
    pub fields: FieldValues,
}

impl CreateUser {
    /// Reads and validates the body.
    pub fn read(body: &Value, variants: &Variants) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let email = text_of(&fields.required("email", FieldKind::Email(EMAIL_CHARS_MAX)));
        let role = role_of(&fields.required("role", FieldKind::Role));
        let rest = fields.row(&USER_FIELDS, variants);
        fields.finish()?;
        Ok(Self { email, role: role.expect("without a role there was a problem"), fields: rest })
    }
}

fn role_of(value: &Value) -> Option<UserRole> {
    value.as_str().and_then(UserRole::from_name)
}

/// Body of PUT `/org/{org_id}/users/{user_id}`: partial (`partner-api/getting-started/add-building`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdateUser {
    /// The e-mail address, if it is to change.
    pub email: Option<String>,
    /// The role, if it is named; naming the present one is no change.
    pub role: Option<UserRole>,
    /// The rest.
    pub fields: FieldValues,
}

impl UpdateUser {
    /// Reads and validates the body.
    pub fn read(body: &Value, variants: &Variants) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let email = fields.not_null("email", FieldKind::Email(EMAIL_CHARS_MAX)).as_ref().map(text_of);
        let role = fields.not_null("role", FieldKind::Role).as_ref().and_then(role_of);
        let rest = fields.row(&USER_FIELDS, variants);
        fields.finish()?;
        Ok(Self { email, role, fields: rest })
    }
}

/// The password of an invited person who accepts; read and judged, and never shown again.
pub(super) struct ChosenPassword(pub(super) String);

impl ChosenPassword {
    /// Reads and validates the body: a password that is strong enough for this person, and terms that they accept.
    pub(super) fn read(body: &Value, of: &User) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let password = fields.required("password", FieldKind::Text(None));
        let about = [Some(of.email.as_str()), of.text("first_name"), of.text("last_name")];
        for (kind, msg) in password.as_str().map(|text| flaws(text, about.into_iter().flatten())).into_iter().flatten()
        {
            fields.object_to("password", kind, msg);
        }
        if fields.required("terms_accepted", FieldKind::Flag) == Value::Bool(false) {
            fields.object_to("terms_accepted", "value_error", "The terms must be accepted.");
        }
        fields.finish()?;
        Ok(Self(text_of(&password)))
    }
}

/// An e-mail that Podero would have sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The address.
    pub to: String,
    /// Always `invitation`.
    pub kind: &'static str,
    /// The invited user.
    pub user_id: Uuid,
    /// The token that accepts the invitation, once.
    pub accept_token: String,
    /// The time of sending.
    pub at: Timestamp,
}

impl Serialize for Shown<'_, User> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.thing;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &user.id)?;
        map.serialize_entry("role", &user.role)?;
        map.serialize_entry("email", &user.email)?;
        if self.variants.older_user_shape {
            map.serialize_entry("location_last_updated", &user.location_last_updated)?;
        } else {
            map.serialize_entry("organization_id", &user.organization_id)?;
            map.serialize_entry("num_heat_pumps", &user.num_heat_pumps)?;
            for name in ["num_inverters", "num_electric_vehicles", "num_wallboxes"] {
                map.serialize_entry(name, &0)?;
            }
        }
        write_row(&mut map, &USER_FIELDS, &user.row, self.variants)?;
        map.serialize_entry("last_login", &user.last_login)?;
        map.serialize_entry("joined_at", &user.joined_at)?;
        if self.is_whole {
            map.serialize_entry("deleted", &user.deleted)?;
        }
        map.end()
    }
}
