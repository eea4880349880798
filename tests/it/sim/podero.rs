//! The simulation's Podero: the sandbox's own model, asked in the core's words, and noticing when a thing is made twice.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::domain::alert::Observation;
use podero_bridge::domain::call::{
    BuildingFound, Call, Changes, Done, PumpFound, Refusal, RefusalKind, Reply, UserFound,
};
use podero_bridge::domain::event::{BuildingKey, Field, FieldValue, Record};
use podero_bridge::domain::team::{Colleague, MemberCall, MemberDone, MemberField, MemberRole, PoderoRole, Profile};
use podero_bridge::domain::{Stamp, Timestamp};
use podero_bridge::sandbox::access::{SandboxActor, UserRole};
use podero_bridge::sandbox::model::{
    Building, BuildingFields, CreateSession, CreateUser, HeatPump, HeatPumpFields, UpdateUser, User, View, World,
};
use podero_bridge::sandbox::{SandboxError, Variants};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::gates::{Answer, Asked};

const US: SandboxActor = SandboxActor::Client;

pub(super) struct Podero {
    pub(super) world: World,
    /// True if it answers when it is asked for a user's buildings (no page describes the list).
    pub(super) lists_buildings: bool,
    /// Buildings by what they were made for.
    made_for: BTreeMap<(Uuid, BuildingKey, Stamp), Uuid>,
    /// Homes for which a building was made while the one that was made for them before was still there, each with its
    /// user and street. Right only if another home of the same look took the first.
    pub(super) made_again: Vec<(Uuid, String, String)>,
    /// Heat pumps that ever were out of reach: no other may be reported as lost.
    pub(super) lapsed: BTreeSet<Uuid>,
    /// Keys of invitations that were sent.
    invited: BTreeSet<Uuid>,
    /// `team.min_admins`.
    min_admins: u64,
}

type Acted = Result<Answer, SandboxError>;

impl Podero {
    pub(super) fn new(seed: u64) -> Self {
        let world = World::new(Uuid::from_u128(1), Variants::default(), seed);
        Self {
            world,
            lists_buildings: true,
            made_for: BTreeMap::new(),
            made_again: Vec::new(),
            lapsed: BTreeSet::new(),
            invited: BTreeSet::new(),
            min_admins: 0,
        }
    }

    /// Makes the colleagues whom Podero has before the first event: admins, and the last of them has never joined in some runs.
    pub(super) fn found(&mut self, emails: &[String], have_all_joined: bool, min_admins: u64, now: Timestamp) {
        self.min_admins = min_admins;
        for email in emails {
            let body = json!({"email": email, "role": "admin"});
            let wanted = CreateUser::read(&body, &self.world.variants).expect("complete");
            self.world.create_user(US, wanted, now).expect("there is none");
        }
        let joining = if have_all_joined { emails.len() } else { emails.len().saturating_sub(1) };
        for _ in 0..joining {
            self.join(0, now);
        }
    }

    /// The invited persons who have not joined.
    fn invitations(&self) -> Vec<String> {
        let is_open = |user: &User| !user.deleted && user.joined_at.is_none();
        let mails = self.world.mailbox().iter();
        let open = mails.filter(|mail| self.world.all_users().any(|user| user.id == mail.user_id && is_open(user)));
        open.map(|mail| mail.accept_token.clone()).collect()
    }

    /// One of those who were invited joins; `None`: there is no such person.
    pub(super) fn join(&mut self, place: usize, now: Timestamp) -> Option<String> {
        let open = self.invitations();
        let token = open.get(place % open.len().max(1))?;
        let body = json!({"password": "correct horse battery", "terms_accepted": true});
        Some(self.world.accept_invitation(token, &body, now).expect("an open invitation").email.clone())
    }

    /// The admins who can act.
    fn active_admins(&self) -> impl Iterator<Item = &User> {
        let is_active = |user: &&User| user.role == UserRole::Admin && !user.deleted && user.joined_at.is_some();
        self.world.all_users().filter(is_active)
    }

    /// No call for a member may invite twice, or leave too few admins.
    fn refuse_broken(&mut self, call: &MemberCall, key: Option<Uuid>) -> Result<(), String> {
        let loser = match call {
            MemberCall::CreateMember { member, .. } => {
                if let Some(there) = self.living(member.as_str()).next() {
                    return Err(format!("team: a second invitation of {member} is asked for beside {}", there.id));
                }
                if key.is_some_and(|key| self.invited.contains(&key)) {
                    return Err(format!("team: a second invitation of {member} is asked for by one event"));
                }
                return Ok(());
            }
            MemberCall::DeleteMember { user, .. } => *user,
            MemberCall::UpdateMember { user, changes } if changes.role == Some(MemberRole::Staff) => *user,
            MemberCall::UpdateMember { .. } | MemberCall::FindMember { .. } | MemberCall::ListStaff { .. } => {
                return Ok(());
            }
        };
        let admins: Vec<Uuid> = self.active_admins().map(|admin| admin.id).collect();
        let left = admins.iter().filter(|admin| **admin != loser).count() as u64;
        if left < self.min_admins && admins.contains(&loser) {
            let least = self.min_admins;
            return Err(format!("team: {call:?} leaves {left} active admins, and there must be {least}"));
        }
        Ok(())
    }

    /// Does what the call says; the error is a broken promise of the bridge's, not Podero's no.
    pub(super) fn act(&mut self, call: &Asked, now: Timestamp) -> Result<Reply<Answer>, String> {
        if let Asked::Event(Call::CreateUser { external_id, .. }) = call {
            let there = self.living(external_id.as_str()).next().map(|user| user.id);
            if let Some(there) = there {
                return Err(format!("a second user of {external_id} is asked for beside {there}"));
            }
        }
        if let Asked::Member(call, key) = call {
            self.refuse_broken(call, *key)?;
        }
        let acted = match call {
            Asked::Member(call, key) => self.perform_for_member(call, *key, now).map(Answer::Member),
            Asked::Event(call) => self.perform(call, now).map(Answer::Event),
            Asked::ListUsers => self.list_users(),
            Asked::ObserveHeatPumps { user } => self.observe(*user, now),
        };
        if let (Asked::Event(Call::CreateBuilding { user, .. }), Ok(Answer::Event(made))) = (call, &acted)
            && let Done::BuildingCreated { building, key, since, record } = made
            && let Some(first) = self.made_for.insert((*user, key.clone(), *since), *building)
            && self.world.building(US, *user, first).is_ok()
        {
            let street = record.get(&Field::StreetAndNumber).and_then(FieldValue::as_text).unwrap_or_default();
            self.made_again.push((*user, key.as_str().to_owned(), street.to_owned()));
        }
        Ok(match acted {
            Ok(answer) => Reply::Done(answer),
            Err(SandboxError::NotFound) if matches!(call, Asked::Event(Call::FindUser { .. })) => {
                Reply::Done(Answer::Event(Done::UserLookedUp(None)))
            }
            Err(SandboxError::NotFound) if matches!(call, Asked::Member(MemberCall::FindMember { .. }, _)) => {
                Reply::Done(Answer::Member(MemberDone::LookedUp(None)))
            }
            Err(refusal) => Reply::Refused(refused(&refusal)?),
        })
    }

    fn list_users(&self) -> Acted {
        Ok(Answer::Users(self.world.users(US, false)?.into_iter().map(shown).collect()))
    }

    fn observe(&self, user: Uuid, now: Timestamp) -> Acted {
        let pumps = self.world.heat_pumps(US, user, false)?.into_iter();
        Ok(Answer::HeatPumps(pumps.map(|pump| self.observation(pump, now)).collect()))
    }

    fn perform_for_member(
        &mut self,
        call: &MemberCall,
        key: Option<Uuid>,
        now: Timestamp,
    ) -> Result<MemberDone, SandboxError> {
        let variants = self.world.variants;
        match call {
            MemberCall::FindMember { member } => {
                let found = self.world.find_user(US, member.as_str(), false)?;
                Ok(MemberDone::LookedUp(Some(colleague(found))))
            }
            MemberCall::ListStaff { email } => {
                let listed: Vec<Colleague> = self.world.users(US, false)?.into_iter().map(colleague).collect();
                let is_it = |one: &&Colleague| email.as_deref().is_some_and(|email| one.has_address(email));
                let holder = listed.iter().find(is_it).cloned();
                let staff = listed.into_iter().filter(|one| one.role.of_member().is_some()).collect();
                Ok(MemberDone::StaffListed { staff, holder })
            }
            MemberCall::CreateMember { member, role, profile } => {
                let mut body = body_of_member(profile);
                body.insert("role".into(), json!(role.name()));
                body.insert("external_user_id".into(), json!(member.as_str()));
                let wanted = CreateUser::read(&Value::Object(body), &variants)?;
                let user = self.world.create_user(US, wanted, now)?.id;
                self.invited.extend(key);
                Ok(MemberDone::Created { user })
            }
            MemberCall::UpdateMember { user, changes } => {
                let mut body = body_of_member(&changes.profile);
                body.extend(changes.role.map(|role| ("role".to_owned(), json!(role.name()))));
                let id = changes.external_id.as_ref();
                body.extend(id.map(|id| ("external_user_id".to_owned(), json!(id.as_str()))));
                let wanted = UpdateUser::read(&Value::Object(body), &variants)?;
                self.world.update_user(US, *user, wanted, now).map(|_| MemberDone::Updated)
            }
            MemberCall::DeleteMember { user, soft } => {
                self.world.delete_user(US, *user, *soft).map(|()| MemberDone::Deleted)
            }
        }
    }

    fn perform(&mut self, call: &Call, now: Timestamp) -> Result<Done, SandboxError> {
        let variants = self.world.variants;
        let done = || call.done().expect("a call whose yes need not say anything");
        match call {
            Call::FindUser { external_id } => {
                self.world.find_user(US, external_id.as_str(), false).map(|user| Done::UserLookedUp(Some(shown(user))))
            }
            Call::CreateUser { external_id, record } => {
                let mut body = body_of(record);
                body.insert("role".into(), json!("user"));
                body.insert("external_user_id".into(), json!(external_id.as_str()));
                let wanted = CreateUser::read(&Value::Object(body), &variants)?;
                let user = self.world.create_user(US, wanted, now)?;
                Ok(Done::UserCreated { user: user.id, record: record.clone() })
            }
            Call::UpdateUser { user, changes } => {
                let wanted = UpdateUser::read(&Value::Object(changed(changes)), &variants)?;
                self.world.update_user(US, *user, wanted, now).map(|_| done())
            }
            Call::DeleteUser { user, soft } => self.world.delete_user(US, *user, *soft).map(|()| done()),
            Call::ListBuildings { .. } if !self.lists_buildings => Err(SandboxError::MethodNotAllowed),
            Call::ListBuildings { user } => {
                let found = self.world.buildings(US, *user)?.into_iter();
                let found = found.map(|there| BuildingFound { id: there.id, observed: building_record(there) });
                Ok(Done::BuildingsListed(found.collect()))
            }
            Call::CreateBuilding { user, key, since, record } => {
                let wanted = BuildingFields::read_new(&Value::Object(body_of(record)), &variants)?;
                let building = self.world.create_building(US, *user, wanted)?.id;
                Ok(Done::BuildingCreated { building, key: key.clone(), since: *since, record: record.clone() })
            }
            Call::UpdateBuilding { user, building, name, changes, .. } => {
                let mut body = changed(changes);
                body.entry("name").or_insert_with(|| json!(name));
                let wanted = BuildingFields::read_changes(&Value::Object(body), &variants)?;
                self.world.update_building(US, *user, *building, wanted).map(|_| done())
            }
            Call::DeleteBuilding { user, building } => {
                self.world.delete_building(US, *user, *building).map(|()| done())
            }
            Call::ListHeatPumps { user } => {
                let pumps = self.world.heat_pumps(US, *user, false)?.into_iter();
                let found = |pump: &HeatPump| PumpFound {
                    id: pump.id,
                    building: pump.building(),
                    is_steered: pump.field("is_smart_optimization_active") == Some(&json!(true)),
                };
                Ok(Done::HeatPumpsListed(pumps.map(found).collect()))
            }
            Call::PauseHeatPump { user, heat_pump } => {
                let wanted = HeatPumpFields::read_changes(&json!({"is_smart_optimization_active": false}))?;
                self.world.update_heat_pump(US, *user, *heat_pump, wanted, now).map(|_| done())
            }
            Call::CreateOnboardingSession { .. } => self.invite(call, now),
        }
    }

    fn invite(&mut self, call: &Call, now: Timestamp) -> Result<Done, SandboxError> {
        let Call::CreateOnboardingSession { user, key, since, building, language, policy } = call else {
            panic!("asked for nothing else");
        };
        let mut body = json!({
            "user_id": user, "language": language, "price_zone_default": policy.price_zone,
            "success_url": policy.success_url, "cancel_url": policy.cancel_url,
        });
        if let Some(building) = building {
            body["building_id"] = json!(building);
        }
        let session = self.world.create_session(US, CreateSession::read(&body)?, now)?;
        let shown = session.json("https://podero.invalid");
        let url = shown["authentication_url"].as_str().unwrap_or_default().to_owned();
        Ok(Done::SessionCreated { key: key.clone(), since: *since, url })
    }

    fn observation(&self, pump: &HeatPump, now: Timestamp) -> Observation {
        let view = View { variants: self.world.variants, now, base_url: "http://podero" };
        let shown = self.world.heat_pump_json(pump, true, view);
        let moment = |value: &Value| value.as_str().and_then(Timestamp::parse);
        Observation {
            heat_pump: pump.id,
            building: pump.building(),
            is_authenticated: shown["is_authenticated"].as_bool(),
            updated_at: moment(&shown["current_state_last_updated_at"]),
            ..Observation::default()
        }
    }

    /// The users of a customer that are not deleted.
    pub(super) fn living(&self, customer: &str) -> impl Iterator<Item = &User> {
        let is_his = move |user: &&User| !user.deleted && user.external_id() == Some(customer);
        self.world.all_users().filter(is_his)
    }

    /// The users of all customers that are not deleted.
    pub(super) fn customers(&self) -> impl Iterator<Item = Uuid> {
        let is_one = |user: &&User| !user.deleted && user.role == UserRole::User;
        self.world.all_users().filter(is_one).map(|user| user.id)
    }

    /// The buildings of a user.
    pub(super) fn buildings(&self, user: Uuid) -> Vec<(Uuid, Record)> {
        let mine = self.world.all_buildings().filter(|there| there.user_id == user);
        mine.map(|there| (there.id, building_record(there))).collect()
    }

    /// A user deletes the buildings of a customer that the bridge knows nothing of.
    pub(super) fn delete_unknown(&mut self, customer: &str, is_known: impl Fn(Uuid) -> bool) {
        let users: Vec<Uuid> = self.living(customer).map(|user| user.id).collect();
        for user in users {
            for (building, _) in self.buildings(user) {
                if !is_known(building) {
                    self.world.delete_building(US, user, building).expect("it was just there");
                }
            }
        }
    }

    /// A customer connects a heat pump in the newest home.
    pub(super) fn connect(&mut self, user: Uuid, now: Timestamp) {
        let made = self.world.connect_heat_pump(user, Map::new(), now);
        assert!(made.is_ok() || matches!(made, Err(SandboxError::NotFound)), "{made:?}");
    }

    /// Says whether the heat pump is there, and its owner as well.
    pub(super) fn is_in_service(&self, pump: Uuid) -> bool {
        let owner = self.world.all_heat_pumps().find(|known| known.id == pump).map(|known| known.user_id);
        owner.is_some_and(|owner| self.world.all_users().any(|user| user.id == owner && !user.deleted))
    }

    /// The manufacturer's connection lapses, or comes back.
    pub(super) fn authenticate(&mut self, pump: Uuid, is: bool, now: Timestamp) {
        let patch = Map::from_iter([("is_authenticated".to_owned(), json!(is))]);
        if self.world.patch_heat_pump(pump, patch, now).is_ok() && !is {
            self.lapsed.insert(pump);
        }
    }
}

/// A refusal that the bridge's bodies never deserve is a broken promise.
fn refused(refusal: &SandboxError) -> Result<Refusal, String> {
    let kind = match refusal {
        SandboxError::NotFound => RefusalKind::NotFound,
        SandboxError::MethodNotAllowed => RefusalKind::Unsupported,
        SandboxError::Duplicate { .. } => RefusalKind::Duplicate,
        SandboxError::Unreadable
        | SandboxError::Unauthorized
        | SandboxError::Forbidden
        | SandboxError::Untimely(_)
        | SandboxError::Invalid(_)
        | SandboxError::NoData
        | SandboxError::Full(_) => return Err(format!("Podero is asked for what it must refuse: {refusal:?}")),
    };
    Ok(Refusal { kind, status: refusal.status(), detail: refusal.to_string() })
}

fn body_of_member(profile: &Profile) -> Map<String, Value> {
    profile.iter().map(|(field, text)| (field.name().to_owned(), json!(text))).collect()
}

fn colleague(user: &User) -> Colleague {
    let text = |field: MemberField| match field {
        MemberField::Email => Some(user.email.clone()),
        MemberField::FirstName | MemberField::LastName => user.text(field.name()).map(str::to_owned),
    };
    Colleague {
        id: user.id,
        role: match user.role {
            UserRole::Admin => PoderoRole::Admin,
            UserRole::Staff => PoderoRole::Staff,
            UserRole::User => PoderoRole::User,
            UserRole::Guest => PoderoRole::Other,
        },
        external_id: user.external_id().map(str::to_owned),
        profile: MemberField::ALL.into_iter().filter_map(|field| Some((field, text(field)?))).collect(),
        last_login: user.last_login,
        has_joined: user.joined_at.is_some() || user.last_login.is_some(),
    }
}

fn body_of(record: &Record) -> Map<String, Value> {
    record.iter().map(|(field, value)| (field.name().to_owned(), json!(value))).collect()
}

fn changed(changes: &Changes) -> Map<String, Value> {
    changes.iter().map(|(field, value)| (field.name().to_owned(), json!(value))).collect()
}

fn shown(user: &User) -> UserFound {
    UserFound {
        id: user.id,
        is_customer: user.role == UserRole::User,
        external_id: user.external_id().map(str::to_owned),
        heat_pumps: Some(u64::from(user.num_heat_pumps)),
        zip: None,
        observed: user_record(user),
    }
}

/// The fields of Podero's user that the bridge writes.
pub(super) fn user_record(user: &User) -> Record {
    let fields = [
        Field::FirstName,
        Field::LastName,
        Field::StreetAndNumber,
        Field::StreetAddInfo,
        Field::ZipCode,
        Field::Town,
        Field::Country,
    ];
    let mut record = texts(&fields, |name| user.text(name));
    record.insert(Field::Email, FieldValue::from(user.email.clone()));
    record
}

fn building_record(building: &Building) -> Record {
    let fields = [
        Field::PropertyType,
        Field::StreetAndNumber,
        Field::StreetAddInfo,
        Field::ZipCode,
        Field::Town,
        Field::Country,
    ];
    let mut record = texts(&fields, |name| building.field(name).as_str());
    record.insert(Field::Name, FieldValue::from(building.name.clone()));
    if let Some(size) = building.field(Field::PropertySizeM2.name()).as_i64() {
        record.insert(Field::PropertySizeM2, FieldValue::Number(size));
    }
    record
}

fn texts<'a>(fields: &[Field], shown: impl Fn(&str) -> Option<&'a str>) -> Record {
    fields.iter().filter_map(|field| Some((*field, FieldValue::from(shown(field.name())?.to_owned())))).collect()
}
