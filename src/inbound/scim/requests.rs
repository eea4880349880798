//! Requests of SCIM that were read: what is looked up, what the store is asked, and the answer.
//!
//! Before: [`super::routes`]. After: [`crate::store`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::super::inbox::unavailable;
use super::endpoint::ScimEndpoint;
use crate::domain::event::{EventKind, EventState, Transport};
use crate::domain::scim::{
    self, GroupChange, GroupFilter, KnownUser, Projection, SCIM_PATH, ScimContext, ScimDocument, ScimError, ScimFilter,
    ScimGroup, ScimPage, ScimType, ScimView, ScimWrite, change_user, no_such_user,
};
use crate::domain::team::MemberId;
use crate::store::{self, MEMBERS_MAX, ScimAnswer, ScimAsk, ScimRequest};

/// Timeout of the wait for a new list of the staff: providers wait some 30 seconds for an answer. After it the request is judged
/// without one, and again when it is carried out.
pub const LIST_WAIT_MAX: Duration = Duration::from_secs(10);

/// Part of an attribute's name that says that its value is a password.
const PASSWORD: &str = "password";

/// The one who asks.
pub(super) struct ScimCaller {
    /// The name of the token.
    pub(super) token: String,
}

/// A body that was read.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) value: Value,
    /// The memory of the value.
    pub(super) _budget: OwnedSemaphorePermit,
}

/// The parameters of a query.
pub(super) struct ScimQuery {
    pub(super) users: Option<ScimFilter>,
    pub(super) groups: Option<GroupFilter>,
    pub(super) page: ScimPage,
    pub(super) projection: Projection,
}

/// An answer.
pub(super) struct ScimReply {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Option<Value>,
}

impl ScimReply {
    fn ok(body: Value) -> Self {
        Self { status: 200, location: None, body: Some(body) }
    }
}

impl Body {
    /// The bytes for the timeline. A body with a password is not kept.
    fn kept(&self) -> Vec<u8> {
        if has_password(&self.value) { Vec::new() } else { self.bytes.to_vec() }
    }
}

/// `true` if an attribute, or the path of an operation, is named like a password.
fn has_password(value: &Value) -> bool {
    let is_it = |text: &str| text.to_ascii_lowercase().contains(PASSWORD);
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let is_path = name.eq_ignore_ascii_case("path") && value.as_str().is_some_and(is_it);
            is_it(name) || is_path || has_password(value)
        }),
        Value::Array(values) => values.iter().any(has_password),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl ScimEndpoint {
    pub(super) async fn user(&self, id: &str, projection: &Projection) -> Result<ScimReply, ScimError> {
        let known = self.known(id).await?;
        let view = known.view(self.role_from).ok_or_else(no_such_user)?;
        Ok(ScimReply::ok(scim::user_json(&view, projection)))
    }

    pub(super) async fn list_users(&self, query: &ScimQuery) -> Result<ScimReply, ScimError> {
        let views = self.views().await?;
        let is_found =
            |(_, view): &&(MemberId, ScimView)| query.users.as_ref().is_none_or(|filter| filter.admits(view));
        let found: Vec<&ScimView> = views.iter().filter(is_found).map(|(_, view)| view).collect();
        let shown = query.page.of(&found).into_iter().map(|view| scim::user_json(view, &query.projection)).collect();
        Ok(ScimReply::ok(scim::list_json(found.len(), query.page.start, shown)))
    }

    pub(super) async fn create_user(
        &self,
        caller: &ScimCaller,
        document: ScimDocument,
        body: Body,
        projection: &Projection,
    ) -> Result<ScimReply, ScimError> {
        let id = self.inbox.clock.fresh_id().to_string();
        let linked = match &document.external_id {
            Some(external_id) => self.inbox.store.scim_member(external_id).await.map_err(|error| away(&error))?,
            None => None,
        };
        let member = linked.map_or_else(|| document.member(&id), Ok)?;
        let views = self.views().await?;
        if views.len() >= usize::try_from(MEMBERS_MAX).unwrap_or(usize::MAX) {
            return Err(ScimError::new(403, "there are as many users as a team may have"));
        }
        refuse_double(&views, &document, &member)?;
        let ask = ScimAsk::User { member, id, write: Box::new(ScimWrite::Create(document)) };
        let user = self.write(caller, ask, body.kept()).await?.pop().ok_or_else(no_such_user)?;
        let view = user.view(self.role_from).ok_or_else(no_such_user)?;
        let location = Some(format!("{SCIM_PATH}/Users/{}", view.id));
        Ok(ScimReply { status: 201, location, body: Some(scim::user_json(&view, projection)) })
    }

    pub(super) async fn write_user(
        &self,
        caller: &ScimCaller,
        id: &str,
        write: ScimWrite,
        body: Body,
        projection: &Projection,
    ) -> Result<ScimReply, ScimError> {
        let known = self.known(id).await?;
        let context = ScimContext { role_from: self.role_from, now: self.inbox.clock.now() };
        let change = change_user(&known, &write, id, context)?;
        let before = known.view(self.role_from).map(|view| view.document).unwrap_or_default();
        let after = &change.record.document;
        if before.user_name != after.user_name || before.external_id != after.external_id {
            refuse_double(&self.views().await?, after, &known.member)?;
        }
        let ask = ScimAsk::User { member: known.member, id: id.to_owned(), write: Box::new(write) };
        let user = self.write(caller, ask, body.kept()).await?.pop().ok_or_else(no_such_user)?;
        let view = user.view(self.role_from).ok_or_else(no_such_user)?;
        Ok(ScimReply::ok(scim::user_json(&view, projection)))
    }

    pub(super) async fn delete_user(&self, caller: &ScimCaller, id: &str) -> Result<ScimReply, ScimError> {
        let known = self.known(id).await?;
        self.write(caller, ScimAsk::Delete { member: known.member, id: id.to_owned() }, Vec::new()).await?;
        Ok(ScimReply { status: 204, location: None, body: None })
    }

    pub(super) async fn group(&self, group: ScimGroup, projection: &Projection) -> Result<ScimReply, ScimError> {
        let members = self.members_shown(projection).await?;
        Ok(ScimReply::ok(self.group_json(group, members.as_deref(), projection)))
    }

    pub(super) async fn list_groups(&self, query: &ScimQuery) -> Result<ScimReply, ScimError> {
        let members = self.members_shown(&query.projection).await?;
        let is_found = |group: &ScimGroup| query.groups.as_ref().is_none_or(|filter| filter.admits(group.name()));
        let found: Vec<ScimGroup> = ScimGroup::ALL.into_iter().filter(is_found).collect();
        let shown = query.page.of(found.iter().copied());
        let shown = shown.into_iter().map(|group| self.group_json(group, members.as_deref(), &query.projection));
        Ok(ScimReply::ok(scim::list_json(found.len(), query.page.start, shown.collect())))
    }

    pub(super) async fn change_group(
        &self,
        caller: &ScimCaller,
        group: ScimGroup,
        changes: &[GroupChange],
        projection: &Projection,
    ) -> Result<ScimReply, ScimError> {
        let views = self.views().await?;
        let by_id: BTreeMap<&str, &(MemberId, ScimView)> = views.iter().map(|known| (&*known.1.id, known)).collect();
        let now: BTreeSet<String> =
            views.iter().filter(|(_, view)| view.is_in_for_good(group)).map(|(_, view)| view.id.clone()).collect();
        let (added, removed) = scim::change_group(changes, &now)?;
        let mut members = BTreeMap::new();
        for (ids, is_in) in [(added, true), (removed, false)] {
            for id in ids {
                let wanted = "`members` must be ids of users";
                let known = by_id.get(&*id).ok_or_else(|| ScimError::wrong(ScimType::InvalidValue, wanted))?;
                members.insert(known.0.clone(), is_in);
            }
        }
        if !members.is_empty() {
            self.write(caller, ScimAsk::Group { group, members }, Vec::new()).await?;
        }
        self.group(group, projection).await
    }

    fn group_json(&self, group: ScimGroup, views: Option<&[(MemberId, ScimView)]>, projection: &Projection) -> Value {
        let of_group = |views: &[(MemberId, ScimView)]| -> Vec<(String, String)> {
            let members = views.iter().filter(|(_, view)| view.groups.contains(&group));
            members.map(|(_, view)| (view.id.clone(), view.document.user_name.clone())).collect()
        };
        scim::group_json(group, views.map(of_group).as_deref(), projection)
    }

    /// All users, if members of groups are to be shown.
    async fn members_shown(&self, projection: &Projection) -> Result<Option<Vec<(MemberId, ScimView)>>, ScimError> {
        if projection.wants("members") { Ok(Some(self.views().await?)) } else { Ok(None) }
    }

    async fn known(&self, id: &str) -> Result<KnownUser, ScimError> {
        self.inbox.store.scim_user(id).await.map_err(|error| away(&error))?.ok_or_else(no_such_user)
    }

    /// All users that are shown, each with its member.
    async fn views(&self) -> Result<Vec<(MemberId, ScimView)>, ScimError> {
        let known = self.inbox.store.scim_users().await.map_err(|error| away(&error))?;
        Ok(known.into_iter().filter_map(|user| user.view(self.role_from).map(|view| (user.member, view))).collect())
    }

    /// Has the store carry a request out, with a new list of the staff if it wants one.
    async fn write(&self, caller: &ScimCaller, ask: ScimAsk, raw: Vec<u8>) -> Result<Vec<KnownUser>, ScimError> {
        if self.inbox.backlog.is_full() {
            return Err(ScimError::new(503, "the backlog is full; accepted events are worked on first"));
        }
        let mut request = ScimRequest {
            token: caller.token.clone(),
            ask,
            raw,
            policy: self.policy.clone(),
            role_from: self.role_from,
            began: self.inbox.clock.now(),
            is_final: false,
        };
        loop {
            match self.inbox.store.scim_write(request.clone()).await.map_err(|error| away(&error))? {
                ScimAnswer::Done { users, events } => {
                    events.into_iter().for_each(|(kind, state)| self.count(caller, kind, state));
                    return Ok(users);
                }
                ScimAnswer::Refused(refused) => return Err(refused),
                ScimAnswer::WantsList if request.is_final => {
                    return Err(ScimError::new(503, "try the same again later"));
                }
                ScimAnswer::WantsList => {
                    if tokio::time::timeout(LIST_WAIT_MAX, (self.list_staff)()).await.is_err() {
                        tracing::warn!("no list of the staff came in time; a request of SCIM is judged without one");
                    }
                    request.is_final = true;
                }
            }
        }
    }

    fn count(&self, caller: &ScimCaller, kind: EventKind, state: EventState) {
        self.inbox.count_accepted(&caller.token, Transport::Scim, Some(kind), state);
    }
}

fn away(error: &store::Error) -> ScimError {
    ScimError::new(503, unavailable(error).detail)
}

/// Refuses a `userName` or `externalId` that another user has, also one whom only events have named.
fn refuse_double(views: &[(MemberId, ScimView)], document: &ScimDocument, member: &MemberId) -> Result<(), ScimError> {
    let wanted = document.user_name.to_lowercase();
    let others = || views.iter().filter(|(other, _)| other != member).map(|(_, view)| &view.document);
    let attribute = if others().any(|other| other.user_name.to_lowercase() == wanted) {
        "userName"
    } else if document.external_id.is_some() && others().any(|other| other.external_id == document.external_id) {
        "externalId"
    } else {
        return Ok(());
    };
    Err(ScimError::wrong(ScimType::Uniqueness, format!("another user has this `{attribute}`")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_password_is_found_wherever_it_stands() {
        for (body, expected) in [
            (json!({"userName": "a", "password": "x"}), true),
            (json!({"urn:ietf:params:scim:schemas:core:2.0:User:PassWord": "x"}), true),
            (json!({"Operations": [{"op": "replace", "value": {"Password": "x"}}]}), true),
            (json!({"Operations": [{"op": "replace", "path": "password", "value": "x"}]}), true),
            (json!({"Operations": [{"op": "replace", "path": "displayName", "value": "x"}]}), false),
            (json!({"userName": "password"}), false),
        ] {
            assert_eq!(has_password(&body), expected, "{body}");
        }
    }
}
