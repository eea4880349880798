//! Calls to Podero and their results, in the core's terms: calls, answers, refusals, and the things they find.
//!
//! [`crate::domain::plan`] decides which call is next and [`crate::domain::verdict`] judges the reply; this file only defines the
//! possible calls and answers, and how each call is made safe to repeat (docs/adr/0004).
//!
//! Before: [`crate::domain::event`]. After: [`crate::podero`] makes a call, and its reply.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use uuid::Uuid;

use super::event::{BuildingKey, Field, FieldValue, Record};
use super::names::names;
use super::{CustomerId, EventId, NAMESPACE, Stamp};

/// One call to Podero for an event. Its [`Repeat`] says how it is made safe to repeat. The watch and the support staff use
/// methods of their own ([`crate::podero::Partner`]).
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
}

/// The way in which the owner of a heat pump can reconnect it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reconnection {
    /// A pending action that must be begun first ([`ResolveCue`]).
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
    /// The page's `required_parameters`: the names under which the two addresses are sent.
    pub parameters: Vec<String>,
}

/// The call that begins to resolve a pending action: Podero answers with the page for the owner.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolveCue {
    /// The action.
    pub cue: Cue,
    /// The page to which the owner returns.
    pub success_url: String,
    /// The page to which the owner returns after giving up.
    pub cancel_url: String,
    /// Language of the page; `None`: Podero's choice.
    pub language: Option<String>,
}

/// A text that opens something, and so is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

names! {
    /// The kind of a call: the name in metrics, logs and timelines, and in the sandbox's fault rules.
    pub enum Operation {
        FindUser = "find_user",
        CreateUser = "create_user",
        UpdateUser = "update_user",
        DeleteUser = "delete_user",
        ListBuildings = "list_buildings",
        CreateBuilding = "create_building",
        UpdateBuilding = "update_building",
        DeleteBuilding = "delete_building",
        ListHeatPumps = "list_heat_pumps",
        UpdateHeatPump = "update_heat_pump",
        CreateOnboardingSession = "create_onboarding_session",
        ListUsers = "list_users",
        GetHeatPump = "get_heat_pump",
        ResolveCue = "resolve_cue",
    }
}

/// The way in which a repeat of a call is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Doing it again changes nothing more.
    Harmless,
    /// A second one would make a second thing: look first.
    LookFirst(Look),
}

/// The look-up that settles a doubt.
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
            Self::ListHeatPumps { .. } => Operation::ListHeatPumps,
            Self::PauseHeatPump { .. } => Operation::UpdateHeatPump,
            Self::CreateOnboardingSession { .. } => Operation::CreateOnboardingSession,
        }
    }

    /// True if it changes nothing at Podero.
    pub fn reads(&self) -> bool {
        self.step().is_none()
    }

    /// The way in which a repeat is made safe (docs/adr/0004).
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
            | Self::PauseHeatPump { .. } => Repeat::Harmless,
        }
    }

    /// The `Idempotency-Key` of a mutating call: UUIDv5 of the event and the step, the same on every
    /// repeat. `None` for a call that only reads.
    pub fn idempotency_key(&self, event: EventId) -> Option<Uuid> {
        self.step().map(|step| Uuid::new_v5(&NAMESPACE, format!("step/{event}/{step}").as_bytes()))
    }

    /// Names the change at Podero among those of one event; `None` for a call that only reads.
    fn step(&self) -> Option<String> {
        Some(match self {
            Self::CreateUser { .. } => "user".to_owned(),
            Self::UpdateUser { .. } => "user/fields".to_owned(),
            Self::DeleteUser { user, soft } => format!("user/{user}/delete/{soft}"),
            Self::CreateBuilding { key, .. } => format!("building/{}", key.as_str()),
            Self::UpdateBuilding { building, .. } => format!("building/{building}/fields"),
            Self::DeleteBuilding { building, .. } => format!("building/{building}/delete"),
            Self::PauseHeatPump { heat_pump, .. } => format!("heat-pump/{heat_pump}/pause"),
            Self::CreateOnboardingSession { key, .. } => format!("onboarding/{}", key.as_str()),
            Self::FindUser { .. } | Self::ListBuildings { .. } | Self::ListHeatPumps { .. } => return None,
        })
    }

    /// The meaning of a bare yes; `None` for a call whose answer must have content.
    pub fn done(&self) -> Option<Done> {
        Some(match self {
            Self::UpdateUser { changes, .. } => Done::UserUpdated { changes: changes.clone() },
            Self::DeleteUser { user, .. } => Done::UserDeleted { user: *user },
            Self::UpdateBuilding { key, changes, .. } => {
                Done::BuildingUpdated { key: key.clone(), changes: changes.clone() }
            }
            Self::DeleteBuilding { building, .. } => Done::BuildingDeleted { building: *building },
            Self::PauseHeatPump { heat_pump, .. } => Done::HeatPumpPaused { heat_pump: *heat_pump },
            Self::FindUser { .. }
            | Self::CreateUser { .. }
            | Self::ListBuildings { .. }
            | Self::CreateBuilding { .. }
            | Self::ListHeatPumps { .. }
            | Self::CreateOnboardingSession { .. } => return None,
        })
    }
}

/// Podero's answer in the core's terms: facts, not errors. `A` is the answer of the call that was made.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<A = Done> {
    /// Podero did it.
    Done(A),
    /// Podero never will.
    Refused(Refusal),
    /// Podero is healthy and asks for a slower pace (429, 503 with `Retry-After`).
    Busy {
        /// The wait that it asked for.
        after: Option<Duration>,
    },
    /// The bridge itself is refused: wrong credentials, foreign organisation.
    Held {
        /// The HTTP status that said so.
        status: u16,
    },
    /// Podero surely did not receive it.
    Unsent {
        /// The cause, for the timeline.
        why: &'static str,
    },
    /// It may have happened: no answer, half an answer, or one that makes no sense.
    Unknown {
        /// The cause, for the timeline.
        why: &'static str,
    },
}

/// Limit of a pause that Podero may ask for: honoured in full up to here; beyond it the answer is taken for a mistake.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A server error of the token endpoint: the call itself was not sent.
pub const TOKEN_SERVER_ERROR: &str = "server error at the token endpoint";

/// Server errors by their status, each in the timeline's words.
const SERVER_ERRORS: [(u16, &str); 5] = [
    (500, "server error (500)"),
    (502, "server error (502)"),
    (503, "server error (503)"),
    (504, "server error (504)"),
    (0, "server error"),
];

impl<A> Reply<A> {
    /// The reply to a call that was answered with a status of 5xx.
    pub fn server_error(status: u16) -> Self {
        let known = SERVER_ERRORS.into_iter().find(|(known, _)| [status, 0].contains(known));
        Self::Unknown { why: known.map_or("server error", |(_, why)| why) }
    }

    /// True if Podero answered with a status of 5xx: the trouble is at Podero, not on the way.
    pub fn is_server_error(&self) -> bool {
        match self {
            Self::Unknown { why } => SERVER_ERRORS.iter().any(|(_, known)| known == why),
            Self::Unsent { why } => *why == TOKEN_SERVER_ERROR,
            Self::Done(_) | Self::Refused(_) | Self::Busy { .. } | Self::Held { .. } => false,
        }
    }

    /// The same reply without its answer.
    pub fn bare(&self) -> Reply<()> {
        match self {
            Self::Done(_) => Reply::Done(()),
            Self::Refused(refusal) => Reply::Refused(refusal.clone()),
            Self::Busy { after } => Reply::Busy { after: *after },
            Self::Held { status } => Reply::Held { status: *status },
            Self::Unsent { why } => Reply::Unsent { why },
            Self::Unknown { why } => Reply::Unknown { why },
        }
    }

    /// The same reply with another answer.
    pub fn map<B>(self, answer: impl FnOnce(A) -> B) -> Reply<B> {
        match self {
            Self::Done(done) => Reply::Done(answer(done)),
            Self::Refused(refusal) => Reply::Refused(refusal),
            Self::Busy { after } => Reply::Busy { after },
            Self::Held { status } => Reply::Held { status },
            Self::Unsent { why } => Reply::Unsent { why },
            Self::Unknown { why } => Reply::Unknown { why },
        }
    }
}

/// The reply to a call that was not made: it has no answer.
pub type Instead = Reply<Infallible>;

impl Instead {
    /// The reply to any call.
    pub fn of_call<A>(self) -> Reply<A> {
        self.map(|never| match never {})
    }
}

/// The answer to a [`Call`] that Podero carried out, with the facts that the call made true. The type excludes an answer that
/// belongs to another call.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the call, and the ids and addresses that Podero gave")]
pub enum Done {
    /// The customer's user, or the fact that there is none.
    UserLookedUp(Option<UserFound>),
    /// The user is made, and shows the record.
    UserCreated { user: Uuid, record: Record },
    /// The user shows the changes.
    UserUpdated { changes: Changes },
    /// The user is gone.
    UserDeleted { user: Uuid },
    /// All buildings of the user.
    BuildingsListed(Vec<BuildingFound>),
    /// The building of a home is made, and shows the record.
    BuildingCreated { building: Uuid, key: BuildingKey, since: Stamp, record: Record },
    /// The building of a home shows the changes.
    BuildingUpdated { key: BuildingKey, changes: Changes },
    /// The building is gone.
    BuildingDeleted { building: Uuid },
    /// All heat pumps of the user, to pause some.
    HeatPumpsListed(Vec<PumpFound>),
    /// The heat pump is no longer optimised.
    HeatPumpPaused { heat_pump: Uuid },
    /// A link for a home, under which the customer connects a heat pump.
    SessionCreated { key: BuildingKey, since: Stamp, url: String },
}

/// The refusal of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The kind of refusal.
    pub kind: RefusalKind,
    /// The HTTP status.
    pub status: u16,
    /// More about it in our own words, names of our own fields and codes of a closed list; often nothing. No text of Podero's.
    pub detail: String,
}

/// Kinds of refusals that call for different steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The thing that the call is about does not exist (404, 410).
    NotFound,
    /// Podero has no such call (405, 501).
    Unsupported,
    /// The e-mail address or the key is taken.
    Duplicate,
    /// Any other refusal that will not get better by itself.
    Invalid,
}

/// The settings of an onboarding session, apart from the customer.
#[derive(Debug, Clone, PartialEq)]
pub struct OnboardingPolicy {
    /// Language if the customer's own is unknown or Podero's pages do not have it.
    pub language: String,
    /// Podero's price zone for new devices.
    pub price_zone: String,
    /// The page to which the customer returns after connecting.
    pub success_url: String,
    /// The page to which the customer returns after giving up.
    pub cancel_url: String,
}

/// A ZIP code and its country, as Podero writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zip {
    /// The country, if it is given.
    pub country: Option<String>,
    /// The code.
    pub code: String,
}

impl Zip {
    /// The region of all customers with the same country and the same first `chars` of the code: `DE-10`. `None` for no
    /// characters.
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
    /// True if its role is `user`: only such a user is a customer.
    pub is_customer: bool,
    /// The partner's own key for it.
    pub external_id: Option<String>,
    /// The number of its heat pumps; `None` if the answer does not say (older shape).
    pub heat_pumps: Option<u64>,
    /// Its ZIP code, in a list of users; a single user's is in `observed`.
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

/// The facts about a heat pump that a plan needs.
#[derive(Debug, Clone, PartialEq)]
pub struct PumpFound {
    /// Podero's id.
    pub id: Uuid,
    /// The building it stands in.
    pub building: Option<Uuid>,
    /// True if Podero optimises it now.
    pub is_steered: bool,
}

/// Fields to write: `None` clears one.
pub type Changes = BTreeMap<Field, Option<FieldValue>>;
