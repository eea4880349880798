//! Podero's knowledge as a pure state machine: users, buildings, heat pumps, onboarding sessions, cues, mail.
//!
//! Time and the actor are arguments, ids come from a seeded generator, so that a simulation can drive a [`World`]
//! without HTTP. It must never sleep, ask for the time, or know what a socket is. A file in the singular (`user`) says what a
//! thing is; the one in the plural (`users`) has the acts of the world on it.
//!
//! Before: `routes`. After: [`crate::sandbox::access`], [`crate::sandbox::Variants`].

mod building;
mod buildings;
mod cue;
mod cues;
mod fields;
mod heat_pump;
mod heat_pumps;
mod onboarding;
mod ordered_map;
mod session;
mod user;
mod users;
mod world;

pub use building::{Building, BuildingFields};
pub use cue::{CUE_SECRET_LIFETIME, CueReport, read_redirect_request};
pub use fields::{FieldKind, FieldValues, Fields, Shown, id_of, text_of};
pub use heat_pump::{HeatPump, HeatPumpFields, REFRESH_STEP};
pub use session::{CreateSession, Session};
pub use user::{CreateUser, Mail, UpdateUser, User};
pub use world::{
    BUILDINGS_PER_USER_MAX, CUES_MAX, CUES_PER_USER_MAX, HEAT_PUMPS_PER_USER_MAX, MAILBOX_MAX, SESSIONS_MAX,
    SESSIONS_PER_USER_MAX, USERS_MAX, View, World,
};
