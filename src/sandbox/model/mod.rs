//! What Podero knows, as a pure state machine: users, buildings, heat pumps, onboarding sessions, cues, mail.
//!
//! Time and the actor are arguments, ids come from a seeded generator, so that a simulation can drive a [`World`]
//! without HTTP. It must never sleep, ask for the time, or know what a socket is.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`], [`crate::sandbox::variants`].

mod buildings;
mod cues;
mod fields;
mod heat_pumps;
mod onboarding;
mod refusal;
mod shelf;
mod users;

use std::collections::{HashMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::access::{Act, Actor, Role, Standing, Target, permit};
use super::variants::Variants;
use crate::domain::Timestamp;
use cues::Cue;
use shelf::Shelf;

pub use buildings::{Building, BuildingFields, BuildingView};
pub use cues::{CUE_SECRET_LIFETIME, CueReport, read_redirect_request};
pub use fields::{Change, Fields};
pub use heat_pumps::{HeatPump, HeatPumpFields, REFRESH_STEP};
pub use onboarding::{CreateSession, Session};
pub use refusal::{Problem, Refusal};
pub use users::{CreateUser, Mail, UpdateUser, User, UserFields, UserView};

/// Most users, the deleted included: four times the largest fleet that we test with, under a gigabyte.
pub const USERS_MAX: usize = 200_000;
/// Most buildings of one user: a landlord's, and a bound on what a client that repeats itself can fill.
pub const BUILDINGS_PER_USER_MAX: usize = 1_000;
/// Most heat pumps of one user, the deleted included; the same reason.
pub const HEAT_PUMPS_PER_USER_MAX: usize = 1_000;
/// Most onboarding sessions: every user may hold one and have made another; the oldest goes first.
pub const SESSIONS_MAX: usize = 2 * USERS_MAX;
/// Most cues: a fleet-wide lapse of [`USERS_MAX`] pumps fits; the oldest goes first.
pub const CUES_MAX: usize = USERS_MAX;
/// Most mails kept in the mailbox: invitations are for staff, of whom there are few; the oldest goes first.
pub const MAILBOX_MAX: usize = 10_000;

/// How an answer is to be written: the switches, the moment, and where the sandbox is reached.
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
    ids: StdRng,
    // Apart from the ids, so that those do not depend on how many tokens were asked for.
    secrets: StdRng,
    users: Shelf<User>,
    // Lower-cased e-mail address and partner's key -> users, the soft-deleted included.
    by_email: HashMap<String, Vec<Uuid>>,
    by_external_id: HashMap<String, Vec<Uuid>>,
    homes: HashMap<Uuid, Home>,
    buildings: Shelf<Building>,
    heat_pumps: Shelf<HeatPump>,
    sessions: Shelf<Session>,
    cues: Shelf<Cue>,
    mailbox: VecDeque<Mail>,
}

/// What belongs to one user, so that no answer about him scans everybody's.
#[derive(Debug, Default)]
struct Home {
    buildings: Vec<Uuid>,
    heat_pumps: Vec<Uuid>,
}

impl World {
    /// An empty organisation whose ids repeat with `seed`.
    pub fn new(org_id: Uuid, variants: Variants, seed: u64) -> Self {
        Self {
            org_id,
            variants,
            ids: StdRng::seed_from_u64(seed),
            secrets: StdRng::seed_from_u64(!seed),
            users: Shelf::default(),
            by_email: HashMap::new(),
            by_external_id: HashMap::new(),
            homes: HashMap::new(),
            buildings: Shelf::default(),
            heat_pumps: Shelf::default(),
            sessions: Shelf::default(),
            cues: Shelf::default(),
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

    /// The role that an actor has now; [`Refusal::Unauthorized`] once his user is deleted, softly or not.
    pub fn standing(&self, actor: Actor) -> Result<Standing, Refusal> {
        match actor {
            Actor::Client => Ok(Standing { role: Role::Admin, user_id: None }),
            Actor::User(id) => {
                let user = self.users.get(id).filter(|user| !user.deleted).ok_or(Refusal::Unauthorized)?;
                Ok(Standing { role: user.role, user_id: Some(id) })
            }
        }
    }

    /// The user if he is not deleted.
    fn live_user(&self, id: Uuid) -> Result<&User, Refusal> {
        self.users.get(id).filter(|user| !user.deleted).ok_or(Refusal::NotFound)
    }

    /// Allows an act on what belongs to a user who is not deleted.
    fn permit_home(&self, actor: Actor, user_id: Uuid, act: fn(Target) -> Act) -> Result<(), Refusal> {
        let who = self.standing(actor)?;
        let user = self.live_user(user_id).map(User::target);
        // Who may see nobody else learns nothing about who exists.
        let target = match user {
            Ok(target) => target,
            Err(refusal) => return permit(who, Act::ListUsers).and(Err(refusal)),
        };
        permit(who, act(target))
    }
}
