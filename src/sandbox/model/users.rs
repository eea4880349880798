//! Acts on users of the organisation.
//!
//! Facts: `api-reference/users/*`, `partner-api/user-journeys/back-office/team-administration`. It must never let a user
//! change organisation.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use std::collections::{HashMap, VecDeque};

use serde_json::Value;
use uuid::Uuid;

use super::fields::FieldValues;
use super::password::PasswordHash;
use super::user::{ChosenPassword, CreateUser, Mail, UpdateUser, User};
use super::world::{MAILBOX_MAX, USERS_MAX, World};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::newest::keep_newest;

impl World {
    /// All users in the order of their creation.
    pub fn users(&self, actor: SandboxActor, include_deleted: bool) -> SandboxResult<Vec<&User>> {
        self.allow(self.standing(actor)?, Act::ListUsers)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        Ok(self.users.iter().filter(|user| include_deleted || !user.deleted).collect())
    }

    /// Makes a user; staff and admins are sent an invitation. Refused creations change nothing.
    pub fn create_user(&mut self, actor: SandboxActor, wanted: CreateUser, now: Timestamp) -> SandboxResult<User> {
        self.allow(self.standing(actor)?, Act::CreateUser(wanted.role))?;
        self.refuse_taken(None, Some(&wanted.email), external_id(&wanted.fields))?;
        if self.users.len() >= USERS_MAX {
            return Err(SandboxError::Full("users"));
        }
        let id = self.fresh_id();
        let mut user = User::new(id, self.org_id, wanted.role, wanted.email);
        user.change(wanted.fields, now);
        self.index(&user);
        self.homes.entry(id).or_default();
        if user.role.is_invited() {
            self.invite(&user, now);
        }
        Ok(self.users.put(id, user).clone())
    }

    /// A user by id. `include_deleted` on this path is undocumented.
    pub fn user(&self, actor: SandboxActor, id: Uuid, include_deleted: bool) -> SandboxResult<&User> {
        let who = self.standing(actor)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        match self.users.get(id).filter(|user| include_deleted || !user.deleted) {
            Some(user) => self.allow(who, Act::ReadUser(user.subject())).map(|()| user),
            None => self.allow(who, Act::ListUsers).and(Err(SandboxError::NotFound)),
        }
    }

    /// A user by the partner's key. If several have it (undocumented): the oldest that is not deleted, else the newest.
    pub fn find_user(&self, actor: SandboxActor, external_id: &str, include_deleted: bool) -> SandboxResult<&User> {
        let who = self.standing(actor)?;
        let include_deleted = include_deleted && !self.variants.include_deleted_ignored;
        let known = self.by_external_id.get(external_id).map_or(&[][..], Vec::as_slice);
        let mut users = known.iter().filter_map(|id| self.users.get(*id));
        let found = match users.clone().find(|user| !user.deleted) {
            None if include_deleted => users.next_back(),
            found => found,
        };
        match found {
            Some(user) => self.allow(who, Act::ReadUser(user.subject())).map(|()| user),
            None => self.allow(who, Act::ListUsers).and(Err(SandboxError::NotFound)),
        }
    }

    /// Changes the named fields; all others stay.
    pub fn update_user(
        &mut self,
        actor: SandboxActor,
        id: Uuid,
        wanted: UpdateUser,
        now: Timestamp,
    ) -> SandboxResult<User> {
        let who = self.standing(actor)?;
        let Ok(old) = self.live_user(id).cloned() else {
            return self.allow(who, Act::ListUsers).and(Err(SandboxError::NotFound));
        };
        self.allow(who, Act::ChangeUser(old.subject()))?;
        if wanted.role.is_some_and(|role| role != old.role) {
            self.allow(who, Act::ChangeRole)?;
        }
        self.refuse_taken(Some(id), wanted.email.as_deref(), external_id(&wanted.fields))?;
        let mut user = old.clone();
        user.email = wanted.email.unwrap_or(user.email);
        user.role = wanted.role.unwrap_or(user.role);
        user.change(wanted.fields, now);
        if (&old.email, old.external_id()) != (&user.email, user.external_id()) {
            self.unindex(&old);
            self.index(&user);
        }
        let slot = self.users.get_mut(id).expect("they were found above");
        slot.clone_from(&user);
        Ok(user)
    }

    /// Deletes a user: for good with all that is theirs, or softly (`…/team-administration`, newer copy).
    ///
    /// Softly: invisible without `include_deleted`, their tokens die, their data stays. That a softly deleted user can
    /// still be deleted for good is undocumented.
    pub fn delete_user(&mut self, actor: SandboxActor, id: Uuid, soft: bool) -> SandboxResult<()> {
        let who = self.standing(actor)?;
        let soft = soft && !self.variants.soft_delete_ignored;
        let Some(user) = self.users.get(id).filter(|user| !(soft && user.deleted)) else {
            return self.allow(who, Act::ListUsers).and(Err(SandboxError::NotFound));
        };
        self.allow(who, Act::DeleteUser(user.subject()))?;
        if soft {
            self.users.get_mut(id).expect("they were found above").deleted = true;
            return Ok(());
        }
        let user = self.users.take(id).expect("they were found above");
        self.unindex(&user);
        let home = self.homes.remove(&id).unwrap_or_default();
        self.buildings.take_all(home.buildings);
        self.heat_pumps.take_all(home.heat_pumps);
        self.contracts.take_all(home.contracts);
        self.sessions.take_all(home.sessions);
        self.cues.take_all(home.cues);
        self.mailbox.retain(|mail| mail.user_id != id);
        Ok(())
    }

    /// The mails that were sent, oldest first.
    pub fn mailbox(&self) -> &VecDeque<Mail> {
        &self.mailbox
    }

    /// Accepts an invitation with a password and the terms: the person has joined. A token serves once.
    pub fn accept_invitation(&mut self, accept_token: &str, body: &Value, now: Timestamp) -> SandboxResult<&User> {
        let mail = self.mailbox.iter().find(|mail| mail.accept_token == accept_token).ok_or(SandboxError::NotFound)?;
        let id = mail.user_id;
        let user = self.live_user(id)?;
        if user.joined_at.is_some() {
            return Err(SandboxError::Untimely("This invitation was accepted already."));
        }
        let ChosenPassword(password) = ChosenPassword::read(body, user)?;
        let password = PasswordHash::of(&password, self.fresh_token());
        let user = self.users.get_mut(id).expect("they were found above");
        user.password = Some(password);
        user.joined_at = Some(now);
        Ok(user)
    }

    /// Logs a person in: their `last_login` is now. [`SandboxError::Unauthorized`] does not say whether the address or the
    /// password was wrong.
    pub fn log_in(&mut self, email: &str, password: &str, now: Timestamp) -> SandboxResult<&User> {
        let ids = self.by_email.get(&email.to_lowercase()).map_or(&[][..], Vec::as_slice);
        let mut users = ids.iter().filter_map(|id| self.users.get(*id)).filter(|user| !user.deleted);
        let knows = |user: &&User| user.password.as_ref().is_some_and(|known| known.fits(password));
        let id = users.find(knows).map(|user| user.id).ok_or(SandboxError::Unauthorized)?;
        let user = self.users.get_mut(id).expect("they were found above");
        user.last_login = Some(now);
        Ok(user)
    }

    /// Every user, the softly deleted included.
    pub fn all_users(&self) -> impl Iterator<Item = &User> {
        self.users.iter()
    }

    fn invite(&mut self, user: &User, now: Timestamp) {
        let accept_token = self.fresh_token();
        let mail = Mail { to: user.email.clone(), kind: "invitation", user_id: user.id, accept_token, at: now };
        keep_newest(&mut self.mailbox, mail, MAILBOX_MAX);
    }

    fn refuse_taken(&self, of: Option<Uuid>, email: Option<&str>, external_id: Option<&str>) -> SandboxResult<()> {
        let status = self.variants.duplicate_status;
        let other = |ids: Option<&Vec<Uuid>>, deleted_count: bool| {
            let mut ids = ids.into_iter().flatten().filter(|id| Some(**id) != of);
            ids.any(|id| self.users.get(*id).is_some_and(|user| deleted_count || !user.deleted))
        };
        let taken = email.and_then(|email| self.by_email.get(&email.to_lowercase()));
        if other(taken, self.variants.soft_deleted_holds_email) {
            return Err(SandboxError::Duplicate { status, detail: "A user with this email already exists." });
        }
        let taken = external_id.and_then(|id| self.by_external_id.get(id));
        if self.variants.external_user_id_unique && other(taken, false) {
            return Err(SandboxError::Duplicate {
                status,
                detail: "A user with this external_user_id already exists.",
            });
        }
        Ok(())
    }

    fn index(&mut self, user: &User) {
        self.by_email.entry(user.email.to_lowercase()).or_default().push(user.id);
        if let Some(external_id) = user.external_id() {
            self.by_external_id.entry(external_id.to_owned()).or_default().push(user.id);
        }
    }

    fn unindex(&mut self, user: &User) {
        unlist(&mut self.by_email, &user.email.to_lowercase(), user.id);
        if let Some(external_id) = user.external_id() {
            unlist(&mut self.by_external_id, external_id, user.id);
        }
    }
}

/// The partner's key that a body gives.
fn external_id(fields: &FieldValues) -> Option<&str> {
    fields.get("external_user_id").and_then(Value::as_str)
}

fn unlist(index: &mut HashMap<String, Vec<Uuid>>, key: &str, id: Uuid) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
