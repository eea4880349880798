//! Calls to Podero and what comes of them, in the core's words: calls, answers, refusals, and what they find.
//!
//! [`crate::domain::plan`] decides which call is next and [`crate::domain::verdict`] what a reply means; this file only says
//! what can be asked and answered, and how each call is made safe to repeat (docs/adr/0004).
//!
//! Before: [`crate::domain::event`], [`crate::domain::alert`]. After: [`crate::podero`] makes a call, and its reply.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::alert::Observation;
use super::event::{BuildingKey, Field, FieldValue, Record};
use super::{CustomerId, EventId, NAMESPACE, Stamp};

/// One call to Podero, in the core's words. Together with its [`Repeat`] it says how it is made safe to repeat.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the ids and bodies that the call's name asks for")]
pub enum Call {
    /// Look the customer's user up by our key for it.
    FindUser { external_id: CustomerId },
    /// Make the customer's user.
    CreateUser { external_id: CustomerId, record: Record },
    /// Write changed fields of the user.
    UpdateUser { user: Uuid, changes: Changes },
    /// Delete the user; `soft` keeps it for audit.
    DeleteUser { user: Uuid, soft: bool },
    /// Read the user's buildings.
    ListBuildings { user: Uuid },
    /// Make the building of a home.
    CreateBuilding { user: Uuid, key: BuildingKey, since: Stamp, record: Record },
    /// Write changed fields of a building; the name goes along always, since Podero requires it.
    UpdateBuilding { user: Uuid, key: BuildingKey, building: Uuid, name: FieldValue, changes: Changes },
    /// Delete the building of a home that was left.
    DeleteBuilding { user: Uuid, building: Uuid },
    /// Read the user's heat pumps, to pause some.
    ListHeatPumps { user: Uuid },
    /// Stop optimising a heat pump.
    PauseHeatPump { user: Uuid, heat_pump: Uuid },
    /// Make a link under which the customer connects a heat pump.
    CreateOnboardingSession {
        user: Uuid,
        key: BuildingKey,
        since: Stamp,
        building: Option<Uuid>,
        language: String,
        policy: OnboardingPolicy,
    },
    /// Read all users of the organisation (the watch).
    ListUsers,
    /// Read the connectivity of a user's heat pumps (the watch).
    ObserveHeatPumps { user: Uuid },
    /// Read one heat pump in detail, for its `actions` (the watch).
    ObserveHeatPump { user: Uuid, heat_pump: Uuid },
    /// Read one heat pump in detail, for the way in which its owner can reconnect it (support).
    FindReconnection { user: Uuid, heat_pump: Uuid },
    /// Begin to resolve a pending action: where to send the owner now (support).
    ResolveCue { cue: Cue, success_url: String, cancel_url: String, language: Option<String> },
}

/// How the owner of a heat pump can reconnect it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reconnection {
    /// A pending action that must be begun first ([`Call::ResolveCue`]).
    Cue(Cue),
    /// A page that may be sent to the owner as it is.
    Page(String),
}

/// A pending action of Podero's, and the key to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cue {
    /// Podero's id.
    pub id: Uuid,
    /// Bound to its owner; dies an hour after it was issued (`api-reference/cues/start-a-pending-action`).
    pub secret: Hidden,
    /// What the pages call `required_parameters`: the names under which the two addresses are sent.
    pub parameters: Vec<String>,
}

/// A text that is not shown: it opens something.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// The kind of a call: a closed set, so that it may label metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the call of the same name")]
pub enum Operation {
    FindUser,
    CreateUser,
    UpdateUser,
    DeleteUser,
    ListBuildings,
    CreateBuilding,
    UpdateBuilding,
    DeleteBuilding,
    ListHeatPumps,
    UpdateHeatPump,
    CreateOnboardingSession,
    ListUsers,
    GetHeatPump,
    ResolveCue,
}

impl Operation {
    /// Every operation, for metrics that start at zero.
    pub const ALL: [Self; 14] = [
        Self::FindUser,
        Self::CreateUser,
        Self::UpdateUser,
        Self::DeleteUser,
        Self::ListBuildings,
        Self::CreateBuilding,
        Self::UpdateBuilding,
        Self::DeleteBuilding,
        Self::ListHeatPumps,
        Self::UpdateHeatPump,
        Self::CreateOnboardingSession,
        Self::ListUsers,
        Self::GetHeatPump,
        Self::ResolveCue,
    ];

    /// The name in metrics, logs and timelines; the sandbox's fault rules use the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::FindUser => "find_user",
            Self::CreateUser => "create_user",
            Self::UpdateUser => "update_user",
            Self::DeleteUser => "delete_user",
            Self::ListBuildings => "list_buildings",
            Self::CreateBuilding => "create_building",
            Self::UpdateBuilding => "update_building",
            Self::DeleteBuilding => "delete_building",
            Self::ListHeatPumps => "list_heat_pumps",
            Self::UpdateHeatPump => "update_heat_pump",
            Self::CreateOnboardingSession => "create_onboarding_session",
            Self::ListUsers => "list_users",
            Self::GetHeatPump => "get_heat_pump",
            Self::ResolveCue => "resolve_cue",
        }
    }
}

/// How a repeat of a call is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Doing it again changes nothing more.
    Harmless,
    /// A second one would make a second thing: look first.
    LookFirst(Look),
}

/// Which look-up settles a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By external id.
    User,
    /// By the user's list of buildings.
    Buildings,
}

impl Call {
    /// The kind of call.
    pub fn operation(&self) -> Operation {
        match self {
            Self::FindUser { .. } => Operation::FindUser,
            Self::CreateUser { .. } => Operation::CreateUser,
            Self::UpdateUser { .. } => Operation::UpdateUser,
            Self::DeleteUser { .. } => Operation::DeleteUser,
            Self::ListBuildings { .. } => Operation::ListBuildings,
            Self::CreateBuilding { .. } => Operation::CreateBuilding,
            Self::UpdateBuilding { .. } => Operation::UpdateBuilding,
            Self::DeleteBuilding { .. } => Operation::DeleteBuilding,
            Self::ListHeatPumps { .. } | Self::ObserveHeatPumps { .. } => Operation::ListHeatPumps,
            Self::PauseHeatPump { .. } => Operation::UpdateHeatPump,
            Self::CreateOnboardingSession { .. } => Operation::CreateOnboardingSession,
            Self::ListUsers => Operation::ListUsers,
            Self::ObserveHeatPump { .. } | Self::FindReconnection { .. } => Operation::GetHeatPump,
            Self::ResolveCue { .. } => Operation::ResolveCue,
        }
    }

    /// Whether it changes nothing at Podero.
    pub fn reads(&self) -> bool {
        match self {
            Self::FindUser { .. }
            | Self::ListBuildings { .. }
            | Self::ListHeatPumps { .. }
            | Self::ListUsers
            | Self::ObserveHeatPumps { .. }
            | Self::ObserveHeatPump { .. }
            | Self::FindReconnection { .. } => true,
            Self::CreateUser { .. }
            | Self::UpdateUser { .. }
            | Self::DeleteUser { .. }
            | Self::CreateBuilding { .. }
            | Self::UpdateBuilding { .. }
            | Self::DeleteBuilding { .. }
            | Self::PauseHeatPump { .. }
            | Self::CreateOnboardingSession { .. }
            | Self::ResolveCue { .. } => false,
        }
    }

    /// How a repeat is made safe (docs/adr/0004).
    pub fn repeat(&self) -> Repeat {
        match self {
            Self::CreateUser { .. } => Repeat::LookFirst(Look::User),
            Self::CreateBuilding { .. } => Repeat::LookFirst(Look::Buildings),
            // A second session is a second link to the same page: the customer gets the last one.
            Self::CreateOnboardingSession { .. }
            | Self::FindUser { .. }
            | Self::UpdateUser { .. }
            | Self::DeleteUser { .. }
            | Self::ListBuildings { .. }
            | Self::UpdateBuilding { .. }
            | Self::DeleteBuilding { .. }
            | Self::ListHeatPumps { .. }
            | Self::PauseHeatPump { .. }
            | Self::ListUsers
            | Self::ObserveHeatPumps { .. }
            | Self::ObserveHeatPump { .. }
            | Self::FindReconnection { .. }
            // It stays pending until its owner has done it: a second link is as good as the first.
            | Self::ResolveCue { .. } => Repeat::Harmless,
        }
    }

    /// The `Idempotency-Key` of a mutating call: UUIDv5 of the event and the step, the same on every
    /// repeat. `None` for a call that only reads.
    pub fn idempotency_key(&self, event: EventId) -> Option<Uuid> {
        let step = match self {
            Self::CreateUser { .. } => "user".to_owned(),
            Self::UpdateUser { .. } => "user/fields".to_owned(),
            Self::DeleteUser { user, soft } => format!("user/{user}/delete/{soft}"),
            Self::CreateBuilding { key, .. } => format!("building/{}", key.as_str()),
            Self::UpdateBuilding { building, .. } => format!("building/{building}/fields"),
            Self::DeleteBuilding { building, .. } => format!("building/{building}/delete"),
            Self::PauseHeatPump { heat_pump, .. } => format!("heat-pump/{heat_pump}/pause"),
            Self::CreateOnboardingSession { key, .. } => format!("onboarding/{}", key.as_str()),
            Self::FindUser { .. }
            | Self::ListBuildings { .. }
            | Self::ListHeatPumps { .. }
            | Self::ListUsers
            | Self::ObserveHeatPumps { .. }
            | Self::ObserveHeatPump { .. }
            | Self::FindReconnection { .. }
            | Self::ResolveCue { .. } => return None,
        };
        Some(Uuid::new_v5(&NAMESPACE, format!("step/{event}/{step}").as_bytes()))
    }
}

/// What Podero answered, in the core's words: facts, not errors.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It did it.
    Done(Answer),
    /// It never will.
    Refused(Refusal),
    /// It is well and asks for a slower pace (429, 503 with `Retry-After`).
    Busy {
        /// How long it asked us to wait.
        after: Option<Duration>,
    },
    /// The bridge itself is refused: wrong credentials, foreign organisation.
    Held {
        /// The HTTP status that said so.
        status: u16,
    },
    /// Surely not received.
    Unsent {
        /// What went wrong, for the timeline.
        why: &'static str,
    },
    /// May have happened: no answer, half an answer, an answer that makes no sense.
    Unknown {
        /// What went wrong, for the timeline.
        why: &'static str,
    },
}

/// A server error of the token endpoint: the call itself was not sent.
pub const TOKEN_SERVER_ERROR: &str = "server error at the token endpoint";

/// Server errors by their status, each in the words of a timeline.
const SERVER_ERRORS: [(u16, &str); 5] = [
    (500, "server error (500)"),
    (502, "server error (502)"),
    (503, "server error (503)"),
    (504, "server error (504)"),
    (0, "server error"),
];

impl Reply {
    /// The reply to a call that was answered with a status of 5xx.
    pub fn server_error(status: u16) -> Self {
        let known = SERVER_ERRORS.into_iter().find(|(known, _)| [status, 0].contains(known));
        Self::Unknown { why: known.map_or("server error", |(_, why)| why) }
    }

    /// Whether Podero answered, with a status of 5xx: the trouble is at Podero, not on the way.
    pub fn is_server_error(&self) -> bool {
        match self {
            Self::Unknown { why } => SERVER_ERRORS.iter().any(|(_, known)| known == why),
            Self::Unsent { why } => *why == TOKEN_SERVER_ERROR,
            Self::Done(_) | Self::Refused(_) | Self::Busy { .. } | Self::Held { .. } => false,
        }
    }
}

/// What a successful call gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Nothing to keep.
    Nothing,
    /// A user, or that there is none.
    User(Option<UserFound>),
    /// All users.
    Users(Vec<UserFound>),
    /// The id of a building that was made.
    Building {
        /// Podero's id.
        id: Uuid,
    },
    /// All buildings of a user.
    Buildings(Vec<BuildingFound>),
    /// All heat pumps of a user, for pausing.
    HeatPumps(Vec<PumpFound>),
    /// Connectivity of heat pumps, for the watch. An entry that could not be read stands there with the nil id: what
    /// is not named may be hidden behind it.
    Observations(Vec<Observation>),
    /// How the owner of a heat pump can reconnect it, if there is a way.
    Reconnection(Option<Reconnection>),
    /// Where to send the owner of a heat pump.
    Link {
        /// For one customer, and for now.
        url: String,
    },
    /// The link of an onboarding session.
    Session {
        /// Where the customer connects the heat pump.
        url: String,
    },
}

/// Why Podero will not do a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// The HTTP status.
    pub status: u16,
    /// More about it in our own words, names of our own fields and codes of a closed list; often nothing. No text of
    /// Podero's.
    pub detail: String,
}

/// Kinds of refusals that call for different steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What the call is about is not there (404, 410).
    NotFound,
    /// Podero has no such call (405, 501).
    Unsupported,
    /// The e-mail address or the key is taken.
    Duplicate,
    /// Anything else that will not get better by itself.
    Invalid,
}

/// What an onboarding session needs beside the customer.
#[derive(Debug, Clone, PartialEq)]
pub struct OnboardingPolicy {
    /// Language where the customer's own is not known or not spoken by Podero's pages.
    pub language: String,
    /// Podero's price zone for new devices.
    pub price_zone: String,
    /// Where the customer lands after connecting.
    pub success_url: String,
    /// Where the customer lands after giving up.
    pub cancel_url: String,
}

/// A ZIP code and its country, as Podero writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zip {
    /// The country, if it is said.
    pub country: Option<String>,
    /// The code.
    pub code: String,
}

impl Zip {
    /// The region of all who share the country and the first `chars` of the code: `DE-10`. `None` for no characters.
    pub fn region(&self, chars: u32) -> Option<String> {
        let chars = usize::try_from(chars).unwrap_or(usize::MAX);
        let start: String = self.code.chars().filter(|c| !c.is_whitespace()).take(chars).collect();
        let country = self.country.as_ref().map(|country| format!("{country}-")).unwrap_or_default();
        (!start.is_empty()).then(|| format!("{country}{start}"))
    }
}

/// A user that Podero showed us.
#[derive(Debug, Clone, PartialEq)]
pub struct UserFound {
    /// Podero's id.
    pub id: Uuid,
    /// Whether its role is `user`: nobody else is a customer.
    pub is_customer: bool,
    /// The partner's own key for it.
    pub external_id: Option<String>,
    /// How many heat pumps it has; `None` where the answer does not say (older shape).
    pub heat_pumps: Option<u64>,
    /// Where it lives, in a list of users; a single user's is in `observed`.
    pub zip: Option<Box<Zip>>,
    /// The fields we write.
    pub observed: Record,
}

/// A building that Podero showed us.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildingFound {
    /// Podero's id.
    pub id: Uuid,
    /// The fields we write.
    pub observed: Record,
}

/// What a plan needs to know of a heat pump.
#[derive(Debug, Clone, PartialEq)]
pub struct PumpFound {
    /// Podero's id.
    pub id: Uuid,
    /// The building it stands in.
    pub building: Option<Uuid>,
    /// Whether Podero optimises it now.
    pub is_steered: bool,
}

/// Fields to write: `None` clears one.
pub type Changes = BTreeMap<Field, Option<FieldValue>>;
