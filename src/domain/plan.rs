//! What to do next for one event of one customer: `next(&Work) -> Next`.
//!
//! There is no log of steps to replay. `next` compares the facts that are wanted with what Podero holds
//! and names one call; it is asked again after every reply. First run, retry and recovery after a crash
//! are one path, and where anything is in doubt the next call is a look-up.
//!
//! Before: [`crate::domain::customer`]. After: [`crate::domain::verdict`] judges the reply.

use std::time::Duration;

use uuid::Uuid;

use super::alert::{Observation, Seen};
use super::brake::{Brake, Clearance};
use super::customer::{BuildingFound, Changes, Customer, Leaving, Listing, Merged, PumpFound, UserFound, UserThere};
use super::event::{BuildingKey, Event, Field, FieldValue, Happening, Record};
use super::retry::RetrySchedule;
use super::{CustomerId, EventId, NAMESPACE, Stamp, Timestamp};

/// What the operator chose (contract §4); the same for every event.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `retry.*`.
    pub schedule: RetrySchedule,
    /// `podero.timeout`, at least `retry.initial`: a change that nobody heard of may be under way for so long; nothing is
    /// looked up or changed before.
    pub doubt_pause: Duration,
    /// `retry.give_up_after`: an event that fails, or waits for its sign-up, longer than this is parked.
    pub give_up_after: Duration,
    /// `onboarding.*`; `None`: no sessions.
    pub onboarding: Option<OnboardingPolicy>,
    /// `move.old_heat_pumps`.
    pub old_heat_pumps: OldHeatPumps,
    /// `move.old_building`.
    pub old_building: OldBuilding,
    /// `churn.delete`.
    pub churn: ChurnDelete,
    /// `churn.retention`: from a soft deletion to the hard one.
    pub retention: Duration,
    /// `churn.brake_*`; `None`: as many customers may leave at once as are told to.
    pub brake: Option<Brake>,
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

/// Languages of Podero's Connect pages (API page "create a new device onboarding session").
pub const ONBOARDING_LANGUAGES: [&str; 8] = ["sv", "de", "en", "hu", "it", "et", "pl", "ro"];

/// The languages of Podero's pages by the codes of ISO 639-2, which some systems keep.
const THREE_LETTERS: [(&str, &str); 10] = [
    ("swe", "sv"),
    ("deu", "de"),
    ("ger", "de"),
    ("eng", "en"),
    ("hun", "hu"),
    ("ita", "it"),
    ("est", "et"),
    ("pol", "pl"),
    ("ron", "ro"),
    ("rum", "ro"),
];

/// The language of Podero's pages that a customer's language tag means: `de-AT`, `de_CH.UTF-8`, `DE` and `deu` are `de`.
/// Script and region (BCP 47) make no difference to a page. `None`: Podero's pages do not speak it.
pub fn page_language(tag: &str) -> Option<&'static str> {
    let language = tag.trim().split(['-', '_', '.', '@', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    let long = THREE_LETTERS.iter().find(|(code, _)| *code == language).map(|(_, short)| *short);
    ONBOARDING_LANGUAGES.into_iter().find(|known| *known == language).or(long)
}

/// What happens to the heat pumps of a home that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldHeatPumps {
    /// Their optimisation is paused: nobody steers a home the customer has left.
    Pause,
    /// They stay as they are, and stay watched.
    Keep,
}

/// What happens to the building of a home that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldBuilding {
    /// It is deleted at Podero.
    Delete,
    /// It stays at Podero.
    Keep,
}

/// How a churned customer's user is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChurnDelete {
    /// Access revoked, kept for audit (`soft_delete=true`).
    Soft,
    /// Gone for good at once.
    Hard,
    /// Soft now, hard after the retention.
    SoftThenHard,
}

/// One claimed event with everything that is needed to decide about it.
#[derive(Debug, Clone)]
pub struct Work {
    /// The event at the head of the lane.
    pub event: Event,
    /// When it was accepted, or last retried by hand: waiting for a sign-up counts from here.
    pub tries_from: Timestamp,
    /// Failures in a row that count against it.
    pub failures: u32,
    /// When the present row of failures began.
    pub failing_since: Option<Timestamp>,
    /// The customer as of now.
    pub customer: Customer,
    /// The customer's facts with the event's merged in.
    pub merged: Merged,
    /// Whether something that should be there was not, and was looked for again, in this claim. Once is enough: a
    /// Podero that shows a user and then knows nothing of it is for a person.
    pub has_looked_again: bool,
    /// Of a churn: whether the brake let it through, or a person did.
    pub clearance: Clearance,
    /// What the watch knows of the customer's heat pumps: their alerts end with a move or a churn.
    pub seen: Vec<Seen>,
}

impl Work {
    /// Puts a claimed event and its customer together.
    pub fn new(event: Event, tries_from: Timestamp, mut customer: Customer) -> Self {
        let merged = customer.facts.merge(&event);
        customer.take_spares(&merged.facts);
        Self {
            event,
            tries_from,
            failures: 0,
            failing_since: None,
            customer,
            merged,
            has_looked_again: false,
            clearance: Clearance::Unasked,
            seen: Vec::new(),
        }
    }
}

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

/// The answer of [`next`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one step, and is made for the call in it")]
pub enum Next {
    /// Make this call, then ask again.
    Call(Call),
    /// Ask the brake on mass churn for a clearance, then ask again; without one the event is parked.
    AskBrake,
    /// Everything the event wanted is so.
    Applied,
    /// Something newer had said otherwise already; nothing to do.
    Superseded,
    /// The customer is not one yet: wait for the sign-up.
    WaitsForSignUp,
}

/// The next step towards what the event wants.
pub fn next(work: &Work, policy: &Policy) -> Next {
    if let Happening::PurgeDue { user } = work.event.happening {
        return purge(work, user);
    }
    if work.merged.won == 0 {
        return Next::Superseded;
    }
    if matches!(work.event.happening, Happening::CalledOff(_)) {
        return Next::Applied;
    }
    match (work.merged.facts.is_active(), &work.event.happening) {
        (true, _) => provision(work, policy),
        (false, Happening::Churned) => leave(work, policy),
        (false, _) => Next::WaitsForSignUp,
    }
}

/// Podero holds everything that is wanted, step by step.
fn provision(work: &Work, policy: &Policy) -> Next {
    let (customer, wanted) = (&work.customer, &work.merged.facts);
    let external_id = || work.event.customer.clone();
    let (user, written) = match &customer.podero.user {
        UserThere::Unlooked | UserThere::Contested => {
            return Next::Call(Call::FindUser { external_id: external_id() });
        }
        UserThere::Absent => {
            return Next::Call(Call::CreateUser { external_id: external_id(), record: wanted.profile() });
        }
        UserThere::Present { id, written } => (*id, written),
    };
    if let Some(next) = house(work, user) {
        return next;
    }
    let changes = wanted.profile_changes(written);
    if !changes.is_empty() {
        return Next::Call(Call::UpdateUser { user, changes });
    }
    if let Some(call) = customer.podero.leaving.iter().find_map(|leaving| free(leaving, user, policy)) {
        return Next::Call(call);
    }
    match invite(work, user, policy) {
        Some(call) => Next::Call(call),
        None => Next::Applied,
    }
}

/// Each wanted home has its building, and the building shows what it should.
fn house(work: &Work, user: Uuid) -> Option<Next> {
    let (podero, wanted) = (&work.customer.podero, &work.merged.facts);
    // What Podero shows in a building that we know is in doubt as well as whether there is another.
    if podero.listing == Listing::Doubtful && !wanted.homes.is_empty() {
        return Some(Next::Call(Call::ListBuildings { user }));
    }
    for (key, home) in &wanted.homes {
        match podero.building_of(key, home) {
            None if podero.listing != Listing::Complete => return Some(Next::Call(Call::ListBuildings { user })),
            None => {
                let (key, since, record) = (key.clone(), home.since, home.record(key));
                return Some(Next::Call(Call::CreateBuilding { user, key, since, record }));
            }
            Some(there) => {
                let changes = home.changes(key, &there.written);
                if !changes.is_empty() {
                    let record = home.record(key);
                    let name = record.get(&Field::Name).cloned().unwrap_or_else(|| key.as_str().into());
                    let (key, building) = (key.clone(), there.id);
                    return Some(Next::Call(Call::UpdateBuilding { user, key, building, name, changes }));
                }
            }
        }
    }
    None
}

/// The next step of freeing a home that was left; `None` when the building stays and nothing in it is steered.
fn free(leaving: &Leaving, user: Uuid, policy: &Policy) -> Option<Call> {
    let building = leaving.building;
    match (policy.old_heat_pumps, &leaving.to_pause) {
        (OldHeatPumps::Pause, None) => return Some(Call::ListHeatPumps { user }),
        (OldHeatPumps::Pause, Some(pumps)) => {
            if let Some(heat_pump) = pumps.first() {
                return Some(Call::PauseHeatPump { user, heat_pump: *heat_pump });
            }
        }
        (OldHeatPumps::Keep, _) => {}
    }
    match policy.old_building {
        OldBuilding::Delete => Some(Call::DeleteBuilding { user, building }),
        OldBuilding::Keep => None,
    }
}

/// An onboarding link for the home of a sign-up or a move, once per home.
fn invite(work: &Work, user: Uuid, policy: &Policy) -> Option<Call> {
    let onboarding = policy.onboarding.as_ref()?;
    let key = match &work.event.happening {
        Happening::SignedUp(details) => &details.building_key,
        Happening::Moved(moved) => &moved.building_key,
        Happening::Updated(_) | Happening::Churned | Happening::CalledOff(_) | Happening::PurgeDue { .. } => {
            return None;
        }
    };
    let (podero, wanted) = (&work.customer.podero, &work.merged.facts);
    let since = wanted.homes.get(key).map(|home| home.since).or(wanted.signed_up)?;
    if podero.onboarding.get(key).is_some_and(|made| made.since >= since) {
        return None;
    }
    let spoken = wanted.personal_text(Field::Language).and_then(page_language);
    Some(Call::CreateOnboardingSession {
        user,
        key: key.clone(),
        since,
        building: podero.buildings.get(key).map(|there| there.id),
        language: spoken.unwrap_or(&onboarding.language).to_owned(),
        policy: onboarding.clone(),
    })
}

/// The customer is gone from Podero: nothing steers the heat pumps any more, then the user is deleted.
/// (No page says whether a deletion stops the steering, so it is stopped before.)
///
/// The brake is asked once it is known that there is something to take away, and before anything is: a user at Podero, or
/// a customer who is active by what we know. A churn of nobody is not counted.
fn leave(work: &Work, policy: &Policy) -> Next {
    let podero = &work.customer.podero;
    let must_ask = policy.brake.is_some() && work.clearance == Clearance::Unasked;
    let user = match &podero.user {
        UserThere::Unlooked | UserThere::Contested => {
            return Next::Call(Call::FindUser { external_id: work.event.customer.clone() });
        }
        UserThere::Absent if work.customer.facts.is_active() && must_ask => return Next::AskBrake,
        UserThere::Absent => return Next::Applied,
        UserThere::Present { .. } if must_ask => return Next::AskBrake,
        UserThere::Present { id, .. } => *id,
    };
    match &podero.pausing {
        None => Next::Call(Call::ListHeatPumps { user }),
        Some(pumps) => match pumps.first() {
            Some(heat_pump) => Next::Call(Call::PauseHeatPump { user, heat_pump: *heat_pump }),
            None => Next::Call(Call::DeleteUser { user, soft: policy.churn != ChurnDelete::Hard }),
        },
    }
}

/// The retention after a soft deletion has passed. A user that the customer lives under again is not touched.
fn purge(work: &Work, user: Uuid) -> Next {
    if work.customer.facts.is_active() {
        match &work.customer.podero.user {
            // Not to be guessed: the deletion cannot be undone.
            UserThere::Unlooked | UserThere::Contested => {
                return Next::Call(Call::FindUser { external_id: work.event.customer.clone() });
            }
            UserThere::Present { id, .. } if *id == user => return Next::Superseded,
            UserThere::Present { .. } | UserThere::Absent => {}
        }
    }
    Next::Call(Call::DeleteUser { user, soft: false })
}

#[cfg(test)]
mod tests;
