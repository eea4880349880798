//! Users of the organisation, and the mail that inviting them sends.
//!
//! Facts: `api-reference/users/*`, `partner-api/reference/users`,
//! `partner-api/user-journeys/back-office/team-administration`. It must never let a user change organisation.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use std::collections::HashMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::{Change, Fields, MAILBOX_MAX, Refusal, USERS_MAX, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, Actor, Role, Target, permit};
use crate::sandbox::variants::Variants;

/// Longest e-mail address (RFC 5321 §4.5.3.1.3, without the angle brackets); Podero names no limit.
const EMAIL_CHARS_MAX: usize = 254;

/// A user as Podero keeps him.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Podero's id of him.
    pub id: Uuid,
    /// His organisation; never changes.
    pub organization_id: Uuid,
    /// What he may do.
    pub role: Role,
    /// Unique in the organisation, letter case aside.
    pub email: String,
    /// The partner's own key; uniqueness is not documented.
    pub external_user_id: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Meaning not described: here, whether he ever finished an onboarding session.
    pub is_onboarded: Option<bool>,
    /// Street and number.
    pub street_and_number: Option<String>,
    /// Addition to the street.
    pub street_add_info: Option<String>,
    /// ZIP code as it was given.
    pub zip_code: Option<String>,
    /// Town.
    pub town: Option<String>,
    /// Country as it was given.
    pub country: Option<String>,
    /// Latitude.
    pub latitude: Option<f64>,
    /// Longitude.
    pub longitude: Option<f64>,
    /// When he last logged in.
    pub last_login: Option<Timestamp>,
    /// When he accepted his invitation.
    pub joined_at: Option<Timestamp>,
    /// When his address last changed (older shape; system-managed).
    pub location_last_updated: Option<Timestamp>,
    /// His heat pumps that are not deleted.
    pub num_heat_pumps: u32,
    /// Softly deleted; no answer of Podero tells.
    pub deleted: bool,
}

impl User {
    /// He, as the object of an act.
    pub fn target(&self) -> Target {
        Target { user_id: self.id, role: self.role }
    }
}

/// Writable fields that a user may have or not (`partner-api/reference/users`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserFields {
    /// The partner's own key.
    pub external_user_id: Change<String>,
    /// First name.
    pub first_name: Change<String>,
    /// Last name.
    pub last_name: Change<String>,
    /// Street and number.
    pub street_and_number: Change<String>,
    /// Addition to the street.
    pub street_add_info: Change<String>,
    /// ZIP code.
    pub zip_code: Change<String>,
    /// Town.
    pub town: Change<String>,
    /// Country.
    pub country: Change<String>,
    /// Latitude.
    pub latitude: Change<f64>,
    /// Longitude.
    pub longitude: Change<f64>,
}

impl UserFields {
    fn read(fields: &mut Fields<'_>, variants: &Variants) -> Self {
        Self {
            external_user_id: fields.text("external_user_id", None),
            first_name: fields.text("first_name", None),
            last_name: fields.text("last_name", None),
            street_and_number: fields.text("street_and_number", None),
            street_add_info: fields.text("street_add_info", None),
            zip_code: read_zip_code(fields, variants, None),
            town: fields.text("town", None),
            country: fields.text(variants.country_field.name(), None),
            latitude: fields.number("latitude"),
            longitude: fields.number("longitude"),
        }
    }

    fn moves(&self) -> bool {
        let texts = [&self.street_and_number, &self.street_add_info, &self.zip_code, &self.town, &self.country];
        texts.into_iter().any(|text| !text.is_keep()) || !self.latitude.is_keep() || !self.longitude.is_keep()
    }

    fn apply(self, user: &mut User, now: Timestamp) {
        if self.moves() {
            user.location_last_updated = Some(now);
        }
        self.external_user_id.apply(&mut user.external_user_id);
        self.first_name.apply(&mut user.first_name);
        self.last_name.apply(&mut user.last_name);
        self.street_and_number.apply(&mut user.street_and_number);
        self.street_add_info.apply(&mut user.street_add_info);
        self.zip_code.apply(&mut user.zip_code);
        self.town.apply(&mut user.town);
        self.country.apply(&mut user.country);
        self.latitude.apply(&mut user.latitude);
        self.longitude.apply(&mut user.longitude);
    }
}

pub(super) fn read_zip_code(fields: &mut Fields<'_>, variants: &Variants, chars_max: Option<usize>) -> Change<String> {
    if variants.zip_code_as_integer {
        fields.text_or_integer("zip_code", chars_max)
    } else {
        fields.text("zip_code", chars_max)
    }
}

/// Body of POST `/org/{org_id}/users` (`partner-api/getting-started/create-user`).
#[derive(Debug, Clone, PartialEq)]
pub struct CreateUser {
    /// Required.
    pub email: String,
    /// Required.
    pub role: Role,
    /// The rest.
    pub fields: UserFields,
}

impl CreateUser {
    /// Reads and validates the body.
    pub fn read(body: &Value, variants: &Variants) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = read_email(&mut fields);
        let email = fields.required("email", email);
        let role = read_role(&mut fields);
        let role = fields.required("role", role);
        let rest = UserFields::read(&mut fields, variants);
        fields.finish()?;
        let (Some(email), Some(role)) = (email, role) else {
            unreachable!("what is missing is a problem, and there was none");
        };
        Ok(Self { email, role, fields: rest })
    }
}

/// Body of PUT `/org/{org_id}/users/{user_id}`: partial (`partner-api/getting-started/add-building`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdateUser {
    /// The e-mail address, if it is to change.
    pub email: Option<String>,
    /// The role, if it is named; naming the present one is no change.
    pub role: Option<Role>,
    /// The rest.
    pub fields: UserFields,
}

impl UpdateUser {
    /// Reads and validates the body.
    pub fn read(body: &Value, variants: &Variants) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = match read_email(&mut fields) {
            Change::Keep => None,
            change @ (Change::Clear | Change::Set(_)) => fields.required("email", change),
        };
        let role = match read_role(&mut fields) {
            Change::Keep => None,
            change @ (Change::Clear | Change::Set(_)) => fields.required("role", change),
        };
        let rest = UserFields::read(&mut fields, variants);
        fields.finish()?;
        Ok(Self { email, role, fields: rest })
    }
}

fn read_email(fields: &mut Fields<'_>) -> Change<String> {
    let change = fields.text("email", Some(EMAIL_CHARS_MAX));
    let is_address = |text: &String| {
        text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && host.contains('.') && !host.contains('@'))
            && !text.contains(char::is_whitespace)
    };
    if change.value().is_none_or(is_address) {
        return change;
    }
    fields.object_to("email", "value_error", "value is not a valid email address");
    Change::Keep
}

fn read_role(fields: &mut Fields<'_>) -> Change<Role> {
    let names = Role::NAMES.map(|(name, _)| name);
    match fields.one_of("role", &names) {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::Set(text) => match Role::NAMES.into_iter().find(|(name, _)| *name == text) {
            Some((_, role)) => Change::Set(role),
            None => Change::Keep,
        },
    }
}

/// An e-mail that Podero would have sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The address.
    pub to: String,
    /// Always `invitation`.
    pub kind: &'static str,
    /// Whom it invites.
    pub user_id: Uuid,
    /// Accepts the invitation, once.
    pub accept_token: String,
    /// When it was sent.
    pub at: Timestamp,
}

/// A user as answers show him.
#[derive(Debug, Clone, Copy)]
pub struct UserView<'a> {
    /// Whom.
    pub user: &'a User,
    /// In which of the contradicting shapes.
    pub variants: &'a Variants,
    /// Whether to tell that he is deleted: `/_sandbox/state` does, Podero does not.
    pub with_deleted: bool,
}

impl Serialize for UserView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.user;
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
        map.serialize_entry("external_user_id", &user.external_user_id)?;
        map.serialize_entry("first_name", &user.first_name)?;
        map.serialize_entry("last_name", &user.last_name)?;
        map.serialize_entry("is_onboarded", &user.is_onboarded)?;
        map.serialize_entry("street_and_number", &user.street_and_number)?;
        map.serialize_entry("street_add_info", &user.street_add_info)?;
        map.serialize_entry("zip_code", &zip_code_value(user.zip_code.as_deref(), self.variants))?;
        map.serialize_entry("town", &user.town)?;
        map.serialize_entry(self.variants.country_field.name(), &user.country)?;
        map.serialize_entry("latitude", &user.latitude)?;
        map.serialize_entry("longitude", &user.longitude)?;
        map.serialize_entry("last_login", &user.last_login)?;
        map.serialize_entry("joined_at", &user.joined_at)?;
        if self.with_deleted {
            map.serialize_entry("deleted", &user.deleted)?;
        }
        map.end()
    }
}

/// Text as it was given; under the variant, a number where it is one (leading zeros are lost, as they would be).
pub(super) fn zip_code_value(zip_code: Option<&str>, variants: &Variants) -> Value {
    match zip_code {
        None => Value::Null,
        Some(text) if variants.zip_code_as_integer => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Some(text) => text.into(),
    }
}

impl World {
    /// All users in the order of their creation.
    pub fn users(&self, actor: Actor, include_deleted: bool) -> Result<Vec<&User>, Refusal> {
        permit(self.standing(actor)?, Act::ListUsers)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        Ok(self.users.iter().filter(|user| include_deleted || !user.deleted).collect())
    }

    /// Makes a user; staff and admins are sent an invitation. Refused creations change nothing.
    pub fn create_user(&mut self, actor: Actor, wanted: CreateUser, now: Timestamp) -> Result<User, Refusal> {
        permit(self.standing(actor)?, Act::CreateUser(wanted.role))?;
        self.refuse_taken(None, Some(&wanted.email), wanted.fields.external_user_id.value())?;
        if self.users.len() >= USERS_MAX {
            return Err(Refusal::Full("users"));
        }
        let id = self.fresh_id();
        let mut user = User {
            id,
            organization_id: self.org_id,
            role: wanted.role,
            email: wanted.email,
            external_user_id: None,
            first_name: None,
            last_name: None,
            is_onboarded: Some(false),
            street_and_number: None,
            street_add_info: None,
            zip_code: None,
            town: None,
            country: None,
            latitude: None,
            longitude: None,
            last_login: None,
            joined_at: None,
            location_last_updated: None,
            num_heat_pumps: 0,
            deleted: false,
        };
        wanted.fields.apply(&mut user, now);
        self.index(&user);
        self.homes.entry(id).or_default();
        if user.role.is_invited() {
            self.invite(&user, now);
        }
        Ok(self.users.put(id, user).clone())
    }

    /// A user by id. `include_deleted` on this path is undocumented.
    pub fn user(&self, actor: Actor, id: Uuid, include_deleted: bool) -> Result<&User, Refusal> {
        let who = self.standing(actor)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        match self.users.get(id).filter(|user| include_deleted || !user.deleted) {
            Some(user) => permit(who, Act::ReadUser(user.target())).map(|()| user),
            None => permit(who, Act::ListUsers).and(Err(Refusal::NotFound)),
        }
    }

    /// A user by the partner's key. Where several have it (undocumented): the oldest who is not deleted, else the
    /// one who was made last.
    pub fn find_user(&self, actor: Actor, external_id: &str, include_deleted: bool) -> Result<&User, Refusal> {
        let who = self.standing(actor)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let known = self.by_external_id.get(external_id).map_or(&[][..], Vec::as_slice);
        let mut users = known.iter().filter_map(|id| self.users.get(*id));
        let found = match users.clone().find(|user| !user.deleted) {
            None if include_deleted => users.next_back(),
            found => found,
        };
        match found {
            Some(user) => permit(who, Act::ReadUser(user.target())).map(|()| user),
            None => permit(who, Act::ListUsers).and(Err(Refusal::NotFound)),
        }
    }

    /// Changes the named fields; all others stay.
    pub fn update_user(&mut self, actor: Actor, id: Uuid, wanted: UpdateUser, now: Timestamp) -> Result<User, Refusal> {
        let who = self.standing(actor)?;
        let Ok(old) = self.live_user(id).cloned() else {
            return permit(who, Act::ListUsers).and(Err(Refusal::NotFound));
        };
        permit(who, Act::ChangeUser(old.target()))?;
        if wanted.role.is_some_and(|role| role != old.role) {
            permit(who, Act::ChangeRole)?;
        }
        self.refuse_taken(Some(id), wanted.email.as_ref(), wanted.fields.external_user_id.value())?;
        let mut user = old.clone();
        user.email = wanted.email.unwrap_or(user.email);
        user.role = wanted.role.unwrap_or(user.role);
        wanted.fields.apply(&mut user, now);
        if (&old.email, &old.external_user_id) != (&user.email, &user.external_user_id) {
            self.unindex(&old);
            self.index(&user);
        }
        let slot = self.users.get_mut(id).expect("he was found above");
        slot.clone_from(&user);
        Ok(user)
    }

    /// Deletes a user: for good with all that is his, or softly (`…/team-administration`, newer copy).
    ///
    /// Softly: invisible without `include_deleted`, his tokens die, his data stays. That a softly deleted user can
    /// still be deleted for good is undocumented.
    pub fn delete_user(&mut self, actor: Actor, id: Uuid, soft: bool) -> Result<(), Refusal> {
        let who = self.standing(actor)?;
        let soft = soft && !self.variants.soft_delete_ignored;
        let Some(user) = self.users.get(id).filter(|user| !(soft && user.deleted)) else {
            return permit(who, Act::ListUsers).and(Err(Refusal::NotFound));
        };
        permit(who, Act::DeleteUser(user.target()))?;
        if soft {
            self.users.get_mut(id).expect("he was found above").deleted = true;
            return Ok(());
        }
        let user = self.users.take(id).expect("he was found above");
        self.unindex(&user);
        let home = self.homes.remove(&id).unwrap_or_default();
        for building in home.buildings {
            self.buildings.take(building);
        }
        for heat_pump in home.heat_pumps {
            self.heat_pumps.take(heat_pump);
        }
        for session in home.sessions {
            self.sessions.take(session);
        }
        for cue in home.cues {
            self.cues.take(cue);
        }
        self.mailbox.retain(|mail| mail.user_id != id);
        Ok(())
    }

    /// The mails that were sent, oldest first.
    pub fn mailbox(&self) -> impl Iterator<Item = &Mail> {
        self.mailbox.iter()
    }

    /// Accepts an invitation: the person has joined and is logged in. A token serves once.
    pub fn accept_invitation(&mut self, accept_token: &str, now: Timestamp) -> Result<&User, Refusal> {
        let mail = self.mailbox.iter().find(|mail| mail.accept_token == accept_token).ok_or(Refusal::NotFound)?;
        let user = self.users.get_mut(mail.user_id).filter(|user| !user.deleted).ok_or(Refusal::NotFound)?;
        if user.joined_at.is_some() {
            return Err(Refusal::Untimely("This invitation was accepted already."));
        }
        user.joined_at = Some(now);
        user.last_login = Some(now);
        Ok(user)
    }

    /// Every user, the softly deleted included.
    pub fn all_users(&self) -> impl Iterator<Item = &User> {
        self.users.iter()
    }

    fn invite(&mut self, user: &User, now: Timestamp) {
        if self.mailbox.len() >= MAILBOX_MAX {
            self.mailbox.pop_front();
        }
        let accept_token = self.fresh_token();
        let mail = Mail { to: user.email.clone(), kind: "invitation", user_id: user.id, accept_token, at: now };
        self.mailbox.push_back(mail);
    }

    fn refuse_taken(
        &self,
        of: Option<Uuid>,
        email: Option<&String>,
        external_id: Option<&String>,
    ) -> Result<(), Refusal> {
        let status = self.variants.duplicate_status;
        let other = |ids: Option<&Vec<Uuid>>, deleted_count: bool| {
            let mut ids = ids.into_iter().flatten().filter(|id| Some(**id) != of);
            ids.any(|id| self.users.get(*id).is_some_and(|user| deleted_count || !user.deleted))
        };
        let taken = email.and_then(|email| self.by_email.get(&email.to_lowercase()));
        if other(taken, self.variants.soft_deleted_holds_email) {
            return Err(Refusal::Duplicate { status, detail: "A user with this email already exists." });
        }
        let taken = external_id.and_then(|id| self.by_external_id.get(id));
        if self.variants.external_user_id_unique && other(taken, false) {
            return Err(Refusal::Duplicate { status, detail: "A user with this external_user_id already exists." });
        }
        Ok(())
    }

    fn index(&mut self, user: &User) {
        self.by_email.entry(user.email.to_lowercase()).or_default().push(user.id);
        if let Some(external_id) = &user.external_user_id {
            self.by_external_id.entry(external_id.clone()).or_default().push(user.id);
        }
    }

    fn unindex(&mut self, user: &User) {
        unlist(&mut self.by_email, &user.email.to_lowercase(), user.id);
        if let Some(external_id) = &user.external_user_id {
            unlist(&mut self.by_external_id, external_id, user.id);
        }
    }
}

fn unlist(index: &mut HashMap<String, Vec<Uuid>>, key: &str, id: Uuid) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
