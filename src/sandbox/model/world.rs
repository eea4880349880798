//! One organisation's world: what it holds, and who may touch it.
//!
//! It must never know what a request or an answer looks like.
//!
//! Before: the files of acts in [`crate::sandbox::model`]. After: [`crate::sandbox::access`], [`crate::sandbox::Variants`].

use std::collections::{HashMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::building::Building;
use super::contract::EnergyContract;
use super::cue::PendingCue;
use super::heat_pump::HeatPump;
use super::ordered_map::OrderedMap;
use super::reconnection::BegunReconnection;
use super::session::Session;
use super::user::{Mail, User};
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor, Standing, Subject, UserRole, permit};
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::newest::NewestByText;
use crate::sandbox::variants::Variants;

/// Limit of users, the deleted included: four times the largest fleet that we test with, under a gigabyte.
pub const USERS_MAX: usize = 200_000;
/// Limit of the buildings of one user: enough for a landlord, and a bound for a client that repeats itself.
pub const BUILDINGS_PER_USER_MAX: usize = 1_000;
/// Limit of the heat pumps of one user, the deleted included: a bound for a client that repeats itself.
pub const HEAT_PUMPS_PER_USER_MAX: usize = 1_000;
/// Limit of the onboarding sessions of one user: a bound for a client that repeats itself.
pub const SESSIONS_PER_USER_MAX: usize = 1_000;
/// Limit of the energy contracts of one user: one for every building that they may have.
pub const CONTRACTS_PER_USER_MAX: usize = BUILDINGS_PER_USER_MAX;
/// Limit of onboarding sessions: every user may hold one and have made another.
pub const SESSIONS_MAX: usize = 2 * USERS_MAX;
/// Limit of the pending cues of one user: one for every heat pump that they may have.
pub const CUES_PER_USER_MAX: usize = HEAT_PUMPS_PER_USER_MAX;
/// Limit of pending cues: a lapse of one heat pump of every user fits.
pub const CUES_MAX: usize = USERS_MAX;
/// Limit of the reconnections that were begun: a customer takes minutes, and the oldest goes first.
pub const RECONNECTIONS_MAX: usize = 10_000;
/// Limit of the mails kept in the mailbox: invitations are for staff, of whom there are few. The oldest goes first.
pub const MAILBOX_MAX: usize = 10_000;

/// Context of an answer: the switches, the moment, and the address of the sandbox.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The switches in force.
    pub variants: Variants,
    /// The moment of the answer: freshness and secrets depend on it.
    pub now: Timestamp,
    /// Scheme and host that the caller used, without a slash at the end: links into the API begin with it.
    pub base_url: &'a str,
}

/// One organisation's world.
#[derive(Debug)]
pub struct World {
    /// The only organisation there is.
    pub org_id: Uuid,
    /// The switches; may be changed at any moment.
    pub variants: Variants,
    pub(super) ids: StdRng,
    // Apart from the ids, so that those do not depend on how many tokens were asked for.
    pub(super) secrets: StdRng,
    pub(super) users: OrderedMap<User>,
    // Lower-cased e-mail address and partner's key -> users, the soft-deleted included.
    pub(super) by_email: HashMap<String, Vec<Uuid>>,
    pub(super) by_external_id: HashMap<String, Vec<Uuid>>,
    pub(super) homes: HashMap<Uuid, Belongings>,
    pub(super) buildings: OrderedMap<Building>,
    pub(super) heat_pumps: OrderedMap<HeatPump>,
    pub(super) contracts: OrderedMap<EnergyContract>,
    pub(super) sessions: OrderedMap<Session>,
    pub(super) cues: OrderedMap<PendingCue>,
    pub(super) reconnections: NewestByText<BegunReconnection>,
    pub(super) mailbox: VecDeque<Mail>,
}

/// Belongings of one user, so that no answer about them scans everybody's.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    pub(super) buildings: Vec<Uuid>,
    pub(super) heat_pumps: Vec<Uuid>,
    pub(super) contracts: Vec<Uuid>,
    pub(super) sessions: Vec<Uuid>,
    pub(super) cues: Vec<Uuid>,
}

impl World {
    /// An empty organisation whose ids repeat with `seed`.
    pub fn new(org_id: Uuid, variants: Variants, seed: u64) -> Self {
        Self {
            org_id,
            variants,
            ids: StdRng::seed_from_u64(seed),
            secrets: StdRng::seed_from_u64(!seed),
            users: OrderedMap::default(),
            by_email: HashMap::new(),
            by_external_id: HashMap::new(),
            homes: HashMap::new(),
            buildings: OrderedMap::default(),
            heat_pumps: OrderedMap::default(),
            contracts: OrderedMap::default(),
            sessions: OrderedMap::default(),
            cues: OrderedMap::default(),
            reconnections: NewestByText::default(),
            mailbox: VecDeque::new(),
        }
    }

    /// The next id of the seeded sequence, in the form of a UUIDv4.
    pub fn fresh_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.ids.random::<[u8; 16]>()).into_uuid()
    }

    /// An opaque token of 32 hexadecimal digits, from a seeded sequence of its own.
    pub fn fresh_token(&mut self) -> String {
        format!("{:032x}", self.secrets.random::<u128>())
    }

    /// The role that an actor has now; [`SandboxError::Unauthorized`] once their user is deleted, softly or not.
    pub fn standing(&self, actor: SandboxActor) -> SandboxResult<Standing> {
        match actor {
            SandboxActor::Client => Ok(Standing { role: UserRole::Admin, user_id: None }),
            SandboxActor::User(id) => {
                let user = self.users.get(id).filter(|user| !user.deleted).ok_or(SandboxError::Unauthorized)?;
                Ok(Standing { role: user.role, user_id: Some(id) })
            }
        }
    }

    /// Allows an act under the switches in force, or refuses it.
    pub(super) fn allow(&self, who: Standing, act: Act) -> SandboxResult<()> {
        permit(who, act, &self.variants)
    }

    /// The user if they are not deleted.
    pub(super) fn live_user(&self, id: Uuid) -> SandboxResult<&User> {
        self.users.get(id).filter(|user| !user.deleted).ok_or(SandboxError::NotFound)
    }

    /// Allows an act on the belongings of a user who is not deleted.
    pub(super) fn permit_home(&self, actor: SandboxActor, user_id: Uuid, act: fn(Subject) -> Act) -> SandboxResult<()> {
        let who = self.standing(actor)?;
        match self.live_user(user_id) {
            Ok(user) => self.allow(who, act(user.subject())),
            // An actor who may see no other user learns nothing about which users exist.
            Err(refusal) => self.allow(who, Act::ListUsers).and(Err(refusal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BuildingFields, CreateUser, CueKey, CueReport, FieldValues, ReturnUrls};
    use super::*;
    use serde_json::{Map, json};

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn world() -> World {
        World::new(Uuid::from_u128(1), Variants::default(), 7)
    }

    fn wanted(email: &str) -> CreateUser {
        CreateUser { email: email.to_owned(), role: UserRole::User, fields: FieldValues::new() }
    }

    #[test]
    fn the_count_of_heat_pumps_follows_every_change() {
        let mut world = world();
        let user = world.create_user(SandboxActor::Client, wanted("ann@example.org"), NOW).expect("made").id;
        let count = |world: &World| world.user(SandboxActor::Client, user, false).expect("there").num_heat_pumps;
        let first = world.connect_heat_pump(user, Map::new(), NOW).expect("made").id;
        let second = world.connect_heat_pump(user, Map::new(), NOW).expect("made").id;
        assert_eq!(count(&world), 2);
        world.delete_heat_pump(SandboxActor::Client, user, first, NOW).expect("deleted");
        assert_eq!(count(&world), 1);
        for (deleted_at, expected) in [(json!("2026-01-01T00:00:00Z"), 0), (json!(null), 1)] {
            let patch = Map::from_iter([("deleted_at".to_owned(), deleted_at)]);
            world.patch_heat_pump(second, patch, NOW).expect("patched");
            assert_eq!(count(&world), expected);
        }
    }

    #[test]
    fn deleting_a_user_for_good_leaves_nothing_of_them() {
        let mut world = world();
        let user = world.create_user(SandboxActor::Client, wanted("ann@example.org"), NOW).expect("made").id;
        let name = BuildingFields { name: Some("home".to_owned()), ..BuildingFields::default() };
        world.create_building(SandboxActor::Client, user, name).expect("made");
        let heat_pump = world.connect_heat_pump(user, Map::new(), NOW).expect("made").id;
        world.lapse_heat_pump(heat_pump, "http://sandbox", NOW).expect("lapsed");
        world.delete_user(SandboxActor::Client, user, false).expect("deleted");
        assert_eq!((world.users.len(), world.buildings.len(), world.heat_pumps.len(), world.cues.len()), (0, 0, 0, 0));
        assert!(world.by_email.is_empty() && world.homes.is_empty());
    }

    #[test]
    fn of_several_users_with_one_key_the_oldest_who_is_not_deleted_is_found() {
        let mut world = world();
        let make = |world: &mut World, email: &str| {
            let mut wanted = wanted(email);
            wanted.fields.insert("external_user_id", json!("C-1"));
            world.create_user(SandboxActor::Client, wanted, NOW).expect("made").id
        };
        let (first, second) = (make(&mut world, "a@example.org"), make(&mut world, "b@example.org"));
        let found = |world: &World, deleted| world.find_user(SandboxActor::Client, "C-1", deleted).map(|user| user.id);
        assert_eq!(found(&world, false), Ok(first));
        world.delete_user(SandboxActor::Client, first, true).expect("deleted");
        assert_eq!(found(&world, true), Ok(second));
        world.delete_user(SandboxActor::Client, second, true).expect("deleted");
        assert_eq!((found(&world, false), found(&world, true)), (Err(SandboxError::NotFound), Ok(second)));
    }

    #[test]
    fn who_may_see_nobody_does_not_learn_who_exists() {
        let mut world = world();
        let me = world.create_user(SandboxActor::Client, wanted("ann@example.org"), NOW).expect("made").id;
        let unknown = Uuid::from_u128(9);
        assert_eq!(world.user(SandboxActor::User(me), unknown, false).map(drop), Err(SandboxError::Forbidden));
        assert_eq!(world.buildings(SandboxActor::User(me), unknown).map(drop), Err(SandboxError::Forbidden));
        assert_eq!(world.user(SandboxActor::Client, unknown, false).map(drop), Err(SandboxError::NotFound));
    }

    #[test]
    fn a_secret_opens_its_own_cue_alone() {
        let mut world = world();
        let user = world.create_user(SandboxActor::Client, wanted("ann@example.org"), NOW).expect("made").id;
        let heat_pump = world.connect_heat_pump(user, Map::new(), NOW).expect("made").id;
        world.lapse_heat_pump(heat_pump, "http://sandbox", NOW).expect("lapsed");
        world.lapse_heat_pump(heat_pump, "http://sandbox", NOW).expect("lapsed");
        world.raise_action(heat_pump, "call_the_installer", NOW).expect("raised");
        let view = View { variants: world.variants, now: NOW, base_url: "http://sandbox" };
        let shown = world.heat_pump_json(world.any_heat_pump(heat_pump).expect("there"), true, view);
        let part = |action: usize, name: &str| {
            let url = shown["actions"][action]["resolution_link"]["url"].as_str().expect("a link");
            let (_, value) = url.split_once(&format!("{name}=")).expect("it is there");
            value.split('&').next().unwrap_or_default().to_owned()
        };
        let cue = Uuid::try_parse(&part(0, "cue_id")).expect("an id");
        let urls = ReturnUrls::default;
        let resolve = |world: &mut World, secret: &str| {
            world.resolve_cue(SandboxActor::Client, CueKey { id: cue, secret }, urls(), NOW)
        };
        assert!(resolve(&mut world, &part(0, "secret")).is_ok());
        for secret in [part(1, "secret").as_str(), "", "AAAA"] {
            assert_eq!(resolve(&mut world, secret), Err(SandboxError::Forbidden));
        }
        world.report_cue(CueKey { id: cue, secret: &part(0, "secret") }, CueReport::Success, NOW).expect("reported");
        let shown = world.any_heat_pump(heat_pump).expect("there");
        assert_eq!(shown.field("action_needed"), Some(&json!(true)), "the third action is still there");
        assert_eq!(shown.field("actions").and_then(|all| all.as_array()).map(Vec::len), Some(1), "one act does both");
    }
}
