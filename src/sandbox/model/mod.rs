//! Podero's knowledge as a pure state machine: users, buildings, heat pumps, onboarding sessions, cues, mail.
//!
//! Time and the actor are arguments, ids come from a seeded generator, so that a simulation can drive a [`World`]
//! without HTTP. It must never sleep, ask for the time, or know what a socket is. A file in the singular (`user`) says what a
//! thing is; the one in the plural (`users`) has the acts of the world on it.
//!
//! Before: `routes`. After: [`crate::sandbox::access`], [`crate::sandbox::Variants`].

mod building;
mod buildings;
mod connect;
mod contract;
mod contracts;
mod cue;
mod cues;
mod fields;
mod figures;
mod heat_pump;
mod heat_pumps;
mod link;
mod onboarding;
mod ordered_map;
mod password;
mod period;
mod reconnection;
mod session;
mod user;
mod users;
mod world;

pub(super) use building::{BUILDING_FIELDS, NAME_CHARS_MAX};
pub use building::{Building, BuildingFields};
pub use connect::ConnectVisit;
pub(super) use contract::CONTRACT_FIELDS;
pub use contract::{ContractFields, EnergyContract};
pub use cue::{CUE_SECRET_LIFETIME, CueKey, CueReport};
pub(super) use fields::Table;
pub use fields::{FieldKind, FieldValues, Fields, Shown, id_of, text_of};
pub use figures::{DATA_KEYWORDS, FigureQuery, FigureRange, PERIODS_MAX, PumpPath, STATISTICS_KEYWORDS};
pub use heat_pump::{HeatPump, HeatPumpFields, REFRESH_STEP};
pub(super) use heat_pump::{PRICE_ZONES, WRITABLE, WRITABLE_BY_POST, WRITABLE_BY_PUT, untouched_heat_pump};
pub use link::{CONNECT_PATH, ConnectLink};
pub use period::PeriodLength;
pub use reconnection::ReturnUrls;
pub use session::{CreateSession, Session};
pub(super) use session::{LANGUAGES, RETURN_URL_CHARS_MAX};
pub use user::{CreateUser, Mail, UpdateUser, User};
pub(super) use user::{EMAIL_CHARS_MAX, USER_FIELDS};
pub use world::{
    BUILDINGS_PER_USER_MAX, CONTRACTS_PER_USER_MAX, CUES_MAX, CUES_PER_USER_MAX, HEAT_PUMPS_PER_USER_MAX, MAILBOX_MAX,
    RECONNECTIONS_MAX, SESSIONS_MAX, SESSIONS_PER_USER_MAX, USERS_MAX, View, World,
};
