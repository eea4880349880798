//! Every call about a member of the team in Podero's terms: its request, and the reading of a yes to it. Pure.
//!
//! Before: a [`MemberCall`]. After: [`super::wire`] reads the answer's status and lists.

use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::USERS_BYTES_MAX;
use super::calls::users;
use super::drift::DriftNotes;
use super::fields::{id_of, is_of_user_line, text_of};
use super::moments::{is_set, moment};
use super::wire::{
    ANOTHER_WHY, Entry, Keep, ListBounds, ListItem, ListPart, OF_USERS, PartnerCall, Reading, RequestParts,
    WITHOUT_ID_WHY, list, one, segment, yes,
};
use crate::domain::call::{Look, Operation, Refusal, Repeat, Reply};
use crate::domain::event::FieldValue;
use crate::domain::team::{
    Colleague, MemberCall, MemberChanges, MemberDone, MemberField, PoderoRole, Profile, STAFF_MAX,
};

impl PartnerCall for MemberCall {
    type Answer = MemberDone;
    type Pages = Option<ListPart<Colleague>>;
    const BYTES_MAX: usize = USERS_BYTES_MAX;

    fn operation(&self) -> Operation {
        self.operation()
    }

    fn reads(&self) -> bool {
        self.reads()
    }

    fn repeat(&self) -> Repeat {
        match self {
            Self::CreateMember { .. } => Repeat::LookFirst(Look::User),
            Self::FindMember { .. }
            | Self::ListStaff { .. }
            | Self::UpdateMember { .. }
            | Self::DeleteMember { .. } => Repeat::Harmless,
        }
    }

    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal> {
        let users = users(org);
        Ok(match self {
            Self::FindMember { member } => {
                let key = segment(member.as_str())?;
                RequestParts::new(Method::GET, format!("{users}/by-ext-id/{key}"))
            }
            Self::ListStaff { .. } => RequestParts::new(Method::GET, users),
            Self::CreateMember { member, role, profile } => {
                let mut body = body_of(profile);
                body.insert("role".to_owned(), json!(role.name()));
                body.insert("external_user_id".to_owned(), json!(member.as_str()));
                RequestParts::new(Method::POST, users).with(body)
            }
            Self::UpdateMember { user, changes: MemberChanges { profile, role, external_id } } => {
                let mut body = body_of(profile);
                body.extend(role.map(|role| ("role".to_owned(), json!(role.name()))));
                body.extend(external_id.as_ref().map(|id| ("external_user_id".to_owned(), json!(id.as_str()))));
                RequestParts::new(Method::PUT, format!("{users}/{user}")).with(body)
            }
            Self::DeleteMember { user, soft } => {
                let query = if *soft { "?soft_delete=true" } else { "" };
                RequestParts::new(Method::DELETE, format!("{users}/{user}{query}"))
            }
        })
    }

    fn is_success(&self, status: u16) -> bool {
        match self {
            Self::FindMember { .. } | Self::ListStaff { .. } => status == 200,
            Self::CreateMember { .. } => matches!(status, 200 | 201),
            Self::UpdateMember { .. } | Self::DeleteMember { .. } => matches!(status, 200 | 204),
        }
    }

    fn read(&self, body: &[u8], pages: &mut Self::Pages, notes: &mut DriftNotes) -> Reading<MemberDone> {
        let reply = match self {
            Self::ListStaff { email } => return staff(list(body, pages, notes), email.as_deref()),
            Self::FindMember { member } => one(body, notes, |item, notes| {
                notes.user_of(item);
                let found = colleague(item).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })?;
                if found.external_id.as_deref().is_some_and(|key| key != member.as_str()) {
                    // A server that matches loosely must not give this member another one's user.
                    return Err(Reply::Unknown { why: ANOTHER_WHY });
                }
                let is_gone = item.get("deleted_at").is_some_and(is_set);
                Ok(MemberDone::LookedUp(Some(found).filter(|_| !is_gone)))
            }),
            Self::CreateMember { .. } => one(body, notes, |item, notes| {
                notes.user_of(item);
                let user = id_of(item.get("id")).ok_or(Reply::Unknown { why: WITHOUT_ID_WHY })?;
                Ok(MemberDone::Created { user })
            }),
            Self::UpdateMember { user, .. } => yes(body, *user, Some(MemberDone::Updated), notes),
            Self::DeleteMember { user, .. } => yes(body, *user, Some(MemberDone::Deleted), notes),
        };
        Reading::Whole(reply)
    }

    fn absent(&self, status: u16) -> Option<Reply<MemberDone>> {
        match self {
            Self::FindMember { .. } => Some(Reply::Done(MemberDone::LookedUp(None))),
            // Their paths name nothing but the organisation.
            Self::CreateMember { .. } | Self::ListStaff { .. } => Some(Reply::Held { status }),
            Self::UpdateMember { .. } | Self::DeleteMember { .. } => None,
        }
    }

    fn values_of_user(&self) -> Option<Vec<FieldValue>> {
        let values = |profile: &Profile| profile.values().map(|text| FieldValue::from(text.as_str())).collect();
        match self {
            Self::CreateMember { profile, .. } => Some(values(profile)),
            Self::UpdateMember { changes, .. } => Some(values(&changes.profile)),
            Self::FindMember { .. } | Self::ListStaff { .. } | Self::DeleteMember { .. } => None,
        }
    }
}

/// The staff and admins of the list of all users, and the user with the e-mail address.
fn staff(read: Reading<Vec<Colleague>>, email: Option<&str>) -> Reading<MemberDone> {
    let listed = match read {
        Reading::Whole(Reply::Done(listed)) => listed,
        other @ (Reading::Whole(_) | Reading::Part(_)) => {
            return other.map(|_| MemberDone::StaffListed { staff: Vec::new(), holder: None });
        }
    };
    let is_it = |one: &&Colleague| email.is_some_and(|email| one.has_address(email));
    let holder = listed.iter().find(is_it).cloned();
    let staff: Vec<Colleague> = listed.into_iter().filter(|one| one.role.of_member().is_some()).collect();
    Reading::Whole(if staff.len() > STAFF_MAX {
        Reply::Unknown { why: "list of too many staff" }
    } else {
        Reply::Done(MemberDone::StaffListed { staff, holder })
    })
}

fn body_of(profile: &Profile) -> Map<String, Value> {
    profile.iter().map(|(field, text)| (field.name().to_owned(), json!(text))).collect()
}

fn colleague(item: &Map<String, Value>) -> Option<Colleague> {
    let field = |field: MemberField| Some((field, item.get(field.name()).and_then(text_of)?));
    let last_login = item.get("last_login").and_then(moment);
    let role = item.get("role").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    Some(Colleague {
        id: id_of(item.get("id"))?,
        role: PoderoRole::from_name(&role).unwrap_or(PoderoRole::Other),
        external_id: item.get("external_user_id").and_then(text_of),
        profile: MemberField::ALL.into_iter().filter_map(field).collect(),
        last_login,
        has_joined: last_login.is_some() || item.get("joined_at").and_then(moment).is_some(),
    })
}

/// The fields that are read of a user in the list of all, for the team.
fn is_of_colleague(name: &str) -> bool {
    let is_personal = MemberField::ALL.iter().any(|field| field.name() == name);
    is_personal || is_of_user_line(name) || matches!(name, "last_login" | "joined_at")
}

impl ListItem for Colleague {
    const BOUNDS: ListBounds = OF_USERS;
    const ONE_MUST_DO: bool = true;
    const KEEP: Keep = is_of_colleague;

    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self> {
        notes.user(item);
        let line = item.as_object();
        let is_there = !line.and_then(|item| item.get("deleted_at")).is_some_and(is_set);
        let mut user = line.and_then(colleague);
        let is_usable = user.is_some();
        if let Some(user) = user.as_mut().filter(|user| user.role.of_member().is_none()) {
            // Of a customer the address alone is needed: is it a member's?
            user.profile.retain(|field, _| *field == MemberField::Email);
        }
        Entry { record: user.filter(|_| is_there), is_usable }
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn bytes(&self) -> usize {
        let texts: usize = self.profile.values().map(String::capacity).sum();
        size_of::<Self>() + texts + self.external_id.as_ref().map_or(0, String::capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::team::MemberId;

    #[test]
    fn a_list_shows_the_staff_and_whoever_holds_an_address() {
        let id = |number: u128| Uuid::from_u128(number);
        let body = json!([
            {"id": id(1), "role": "admin", "email": "anna@example.com", "joined_at": "2026-01-01T00:00:00Z"},
            {"id": id(2), "role": "STAFF", "email": "bert@example.com", "external_user_id": "M-2", "last_login": null},
            {"id": id(3), "role": "user", "email": "Cora@example.com", "external_user_id": "C-3"},
            {"id": id(4), "role": "admin", "email": "gone@example.com", "deleted_at": "2026-01-01T00:00:00Z"},
        ]);
        let call = MemberCall::ListStaff { email: Some("cora@example.com".to_owned()) };
        let read = call.read(body.to_string().as_bytes(), &mut None, &mut DriftNotes::default());
        let Reading::Whole(Reply::Done(MemberDone::StaffListed { staff, holder })) = read else { panic!("{read:?}") };
        let shown: Vec<_> = staff.iter().map(|one| (one.id, one.role, one.has_joined)).collect();
        assert_eq!(shown, [(id(1), PoderoRole::Admin, true), (id(2), PoderoRole::Staff, false)]);
        assert_eq!(holder.map(|one| (one.id, one.role)), Some((id(3), PoderoRole::User)));
    }

    #[test]
    fn a_create_names_role_and_key_and_an_update_what_changes() {
        let member = MemberId::accept("M-1").expect("valid");
        let profile: Profile = [(MemberField::Email, "m@example.com".to_owned())].into();
        let role = crate::domain::team::MemberRole::Staff;
        let create = MemberCall::CreateMember { member: member.clone(), role, profile };
        let parts = PartnerCall::request(&create, Uuid::nil()).expect("an address");
        let body = json!({"email": "m@example.com", "role": "staff", "external_user_id": "M-1"});
        assert_eq!((parts.method, parts.body), (Method::POST, Some(body)));
        let changes = MemberChanges { role: Some(role), external_id: Some(member), ..MemberChanges::default() };
        let update = MemberCall::UpdateMember { user: Uuid::nil(), changes };
        let parts = PartnerCall::request(&update, Uuid::nil()).expect("an address");
        assert_eq!(parts.body, Some(json!({"role": "staff", "external_user_id": "M-1"})));
        let delete = MemberCall::DeleteMember { user: Uuid::nil(), soft: true };
        assert!(PartnerCall::request(&delete, Uuid::nil()).expect("an address").path.ends_with("?soft_delete=true"));
    }
}
