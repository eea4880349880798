//! A Podero of a few maps: it does what a call says, and notices when something is made twice.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::super::alert::{DiffContext, Observation, Outages, WatchPolicy, diff};
use super::super::super::event::{BuildingKey, Record};
use super::super::super::{CustomerId, Stamp};
use super::super::*;
use super::{BuildingFound, Changes, Done, PumpFound, Refusal, RefusalKind, Reply, UserFound};

#[derive(Clone, Default)]
pub(super) struct Podero {
    pub(super) users: BTreeMap<Uuid, User>,
    buildings: BTreeMap<Uuid, Building>,
    pumps: BTreeMap<Uuid, Pump>,
    /// Every call that arrived.
    pub(super) log: Vec<Call>,
    made_for: BTreeSet<(Uuid, BuildingKey, Stamp)>,
    ids: u128,
}

#[derive(Clone)]
pub(super) struct User {
    external_id: CustomerId,
    record: Record,
    pub(super) is_deleted: bool,
}

#[derive(Clone)]
struct Building {
    user: Uuid,
    record: Record,
}

/// Every building gets one pump, which is steered until it is paused, and which outlives the building.
#[derive(Clone)]
struct Pump {
    user: Uuid,
    building: Uuid,
    is_steered: bool,
}

impl Podero {
    /// Does the call and answers.
    pub(super) fn answer(&mut self, call: &Call) -> Reply {
        self.log.push(call.clone());
        match call {
            Call::FindUser { external_id } => {
                let mut found = self.users.iter().filter(|(_, user)| !user.is_deleted);
                let found = found.find(|(_, user)| user.external_id == *external_id);
                Reply::Done(Done::UserLookedUp(found.map(|(id, user)| shown(*id, user))))
            }
            Call::CreateUser { external_id, record } => self.create_user(external_id, record),
            Call::UpdateUser { user, changes } => {
                let Some(user) = self.living(*user) else { return refused(RefusalKind::NotFound) };
                write(&mut user.record, changes);
                done(call)
            }
            Call::DeleteUser { user, soft } => self.delete_user(*user, *soft),
            Call::ListBuildings { user } => {
                let mine = self.buildings.iter().filter(|(_, building)| building.user == *user);
                let found = mine.map(|(id, building)| BuildingFound { id: *id, observed: building.record.clone() });
                Reply::Done(Done::BuildingsListed(found.collect()))
            }
            Call::CreateBuilding { user, key, since, record } => {
                if self.living(*user).is_none() {
                    return refused(RefusalKind::NotFound);
                }
                assert!(self.made_for.insert((*user, key.clone(), *since)), "a second building for {key:?}");
                let id = self.fresh();
                self.buildings.insert(id, Building { user: *user, record: record.clone() });
                let pump = self.fresh();
                self.pumps.insert(pump, Pump { user: *user, building: id, is_steered: true });
                let (key, since, record) = (key.clone(), *since, record.clone());
                Reply::Done(Done::BuildingCreated { building: id, key, since, record })
            }
            Call::UpdateBuilding { building, name, changes, .. } => {
                let Some(building) = self.buildings.get_mut(building) else { return refused(RefusalKind::NotFound) };
                building.record.insert(Field::Name, name.clone());
                write(&mut building.record, changes);
                done(call)
            }
            Call::DeleteBuilding { building, .. } => match self.buildings.remove(building) {
                Some(_) => done(call),
                None => refused(RefusalKind::NotFound),
            },
            Call::ListHeatPumps { user } => {
                let mine = self.pumps.iter().filter(|(_, pump)| pump.user == *user);
                let found = mine.map(|(id, pump)| PumpFound {
                    id: *id,
                    building: self.buildings.contains_key(&pump.building).then_some(pump.building),
                    is_steered: pump.is_steered,
                });
                Reply::Done(Done::HeatPumpsListed(found.collect()))
            }
            Call::PauseHeatPump { heat_pump, .. } => {
                let Some(pump) = self.pumps.get_mut(heat_pump) else { return refused(RefusalKind::NotFound) };
                pump.is_steered = false;
                done(call)
            }
            Call::CreateOnboardingSession { key, since, .. } => {
                let url = format!("https://connect.example/{}", self.fresh());
                Reply::Done(Done::SessionCreated { key: key.clone(), since: *since, url })
            }
        }
    }

    fn create_user(&mut self, external_id: &CustomerId, record: &Record) -> Reply {
        let is_taken = |user: &User| {
            user.external_id == *external_id || user.record.get(&Field::Email) == record.get(&Field::Email)
        };
        if self.users.values().any(|user| !user.is_deleted && is_taken(user)) {
            return refused(RefusalKind::Duplicate);
        }
        let id = self.fresh();
        let user = User { external_id: external_id.clone(), record: record.clone(), is_deleted: false };
        self.users.insert(id, user);
        Reply::Done(Done::UserCreated { user: id, record: record.clone() })
    }

    fn delete_user(&mut self, id: Uuid, soft: bool) -> Reply {
        let Some(user) = self.users.get_mut(&id).filter(|user| !(soft && user.is_deleted)) else {
            return refused(RefusalKind::NotFound);
        };
        user.is_deleted = true;
        if !soft {
            self.users.remove(&id);
            self.buildings.retain(|_, building| building.user != id);
            self.pumps.retain(|_, pump| pump.user != id);
        }
        Reply::Done(Done::UserDeleted { user: id })
    }

    fn living(&mut self, id: Uuid) -> Option<&mut User> {
        self.users.get_mut(&id).filter(|user| !user.is_deleted)
    }

    fn fresh(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(0xF00D_0000 + self.ids)
    }

    /// The names of the calls that arrived.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.log.iter().map(|call| call.operation().name()).collect()
    }

    pub(super) fn buildings_now(&self) -> Vec<Uuid> {
        self.buildings.keys().copied().collect()
    }

    pub(super) fn steered_pumps_of(&self, building: Uuid) -> usize {
        self.pumps.values().filter(|pump| pump.building == building && pump.is_steered).count()
    }

    /// The watch's memory of each pump.
    pub(super) fn seen(&self) -> Vec<PumpRecord> {
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let watch = WatchPolicy { disconnect_after: day, stale_after: day, ..WatchPolicy::DEFAULT };
        let of = |(id, pump): (&Uuid, &Pump)| {
            let observation = Observation { heat_pump: *id, building: Some(pump.building), ..Observation::default() };
            diff(
                None,
                &observation,
                &DiffContext::plain(pump.user, None, &Outages::default()),
                Timestamp::from_micros(0),
                &watch,
            )
            .seen
        };
        self.pumps.iter().map(of).collect()
    }

    /// The records that the living users and their buildings show.
    pub(super) fn records(&self) -> (Vec<Record>, Vec<Record>) {
        let living = |id: &Uuid| self.users.get(id).is_some_and(|user| !user.is_deleted);
        let users = self.users.values().filter(|user| !user.is_deleted).map(|user| user.record.clone());
        let buildings = self.buildings.values().filter(|building| living(&building.user));
        (users.collect(), buildings.map(|building| building.record.clone()).collect())
    }

    /// Everything that matters in the end, without the ids: users (deleted ones too), buildings, and pumps by whether they are
    /// steered.
    pub(super) fn end(&self) -> Vec<String> {
        let users = self.users.values().map(|user| format!("user {} {:?}", user.is_deleted, user.record));
        let buildings = self.buildings.values().map(|building| format!("building {:?}", building.record));
        let pumps = self.pumps.values().map(|pump| format!("pump {}", pump.is_steered));
        let mut end: Vec<String> = users.chain(buildings).chain(pumps).collect();
        end.sort();
        end
    }
}

/// A bare yes.
fn done(call: &Call) -> Reply {
    Reply::Done(call.done().expect("it need not say anything"))
}

fn shown(id: Uuid, user: &User) -> UserFound {
    UserFound {
        id,
        is_customer: true,
        external_id: Some(user.external_id.as_str().to_owned()),
        heat_pumps: None,
        zip: None,
        observed: user.record.clone(),
    }
}

fn write(record: &mut Record, changes: &Changes) {
    for (field, value) in changes {
        match value {
            Some(value) => record.insert(*field, value.clone()),
            None => record.remove(field),
        };
    }
}

fn refused(kind: RefusalKind) -> Reply {
    Reply::Refused(Refusal { kind, status: 400, detail: "refused".to_owned() })
}
