//! The next step for one event of one customer: `next(&Work) -> Next`.
//!
//! There is no log of steps to replay. `next` compares the desired facts with the ones that Podero holds and names one call; it
//! is asked again after every reply. First run, retry and recovery after a crash are one path, and if anything is in doubt the
//! next call is a look-up.
//!
//! Before: [`crate::domain::customer`]. After: [`crate::domain::verdict`] judges the reply.

use std::time::Duration;

use uuid::Uuid;

use super::Timestamp;
use super::alert::PumpRecord;
use super::audit::AuditEntry;
use super::brake::{Brake, Clearance};
use super::call::{Call, OnboardingPolicy};
use super::customer::{Customer, Leaving, Listing, Merged, ObservedUser};
use super::event::{Event, Field, Happening};
use super::identity::Actor;
use super::names::names;
use super::retry::RetrySchedule;
use super::team::TeamPolicy;

/// The operator's choices (contract §4); the same for every event.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `retry.*`.
    pub schedule: RetrySchedule,
    /// `podero.timeout`, at least `retry.initial`: the time for which a change without an answer may still be under way. Nothing
    /// is looked up or changed before it is over.
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
    /// `churn.brake_*`; `None`: no limit to the customers who may leave at once.
    pub brake: Option<Brake>,
    /// `team.*`.
    pub team: TeamPolicy,
}

/// Languages of Podero's Connect pages (API page "create a new device onboarding session").
pub const ONBOARDING_LANGUAGES: [&str; 8] = ["sv", "de", "en", "hu", "it", "et", "pl", "ro"];

/// The languages of Podero's pages by the codes of ISO 639-2, which some systems keep.
#[rustfmt::skip]
const THREE_LETTERS: [(&str, &str); 10] = [
    ("swe", "sv"), ("deu", "de"), ("ger", "de"), ("eng", "en"), ("hun", "hu"),
    ("ita", "it"), ("est", "et"), ("pol", "pl"), ("ron", "ro"), ("rum", "ro"),
];

/// The language of Podero's pages that a customer's language tag means: `de-AT`, `de_CH.UTF-8`, `DE` and `deu` are `de`. Script
/// and region (BCP 47) make no difference to a page. `None`: Podero's pages do not have it.
pub fn page_language(tag: &str) -> Option<&'static str> {
    let language = tag.trim().split(['-', '_', '.', '@', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    let long = THREE_LETTERS.iter().find(|(code, _)| *code == language).map(|(_, short)| *short);
    ONBOARDING_LANGUAGES.into_iter().find(|known| *known == language).or(long)
}

names! {
    /// The treatment of the heat pumps of a home that was left.
    pub enum OldHeatPumps {
        /// Their optimisation is paused: Podero must not steer a home that the customer has left.
        Pause = "pause",
        /// They stay as they are, and stay watched.
        Keep = "keep",
    }

    /// The treatment of the building of a home that was left.
    pub enum OldBuilding {
        /// It is deleted at Podero.
        Delete = "delete",
        /// It stays at Podero.
        Keep = "keep",
    }

    /// The way in which a churned customer's user is deleted.
    pub enum ChurnDelete {
        /// Access revoked, kept for audit (`soft_delete=true`).
        Soft = "soft",
        /// Gone for good at once.
        Hard = "hard",
        /// Soft now, hard after the retention.
        SoftThenHard = "soft-then-hard",
    }
}

/// One claimed event with everything that is needed to decide about it.
#[derive(Debug, Clone)]
pub struct Work {
    /// The event at the head of the lane.
    pub event: Event,
    /// The time at which it was accepted, or last retried by hand: waiting for a sign-up counts from here.
    pub tries_from: Timestamp,
    /// Failures in a row that count against it.
    pub failures: u32,
    /// The time at which the present row of failures began.
    pub failing_since: Option<Timestamp>,
    /// The customer as of now.
    pub customer: Customer,
    /// The customer's facts with the event's merged in.
    pub merged: Merged,
    /// True if a missing thing was already looked for again in this claim. Once is enough: a Podero that shows a user and then
    /// knows nothing about it is a case for a person.
    pub has_looked_again: bool,
    /// For a churn: whether the brake or a person cleared it.
    pub clearance: Clearance,
    /// The watch's memory of the customer's heat pumps: their alerts end with a move or a churn.
    pub seen: Vec<PumpRecord>,
    /// The actor behind the event.
    pub actor: Actor,
    /// Rows of the audit log that are not durable yet.
    pub acts: Vec<AuditEntry>,
    /// The customer as the interrupted claim before had it; `None`: no claim was interrupted.
    pub interrupted: Option<Box<Customer>>,
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
            actor: Actor::Bridge,
            acts: Vec::new(),
            interrupted: None,
        }
    }
}

/// The answer of [`next`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one step, and is made for the call in it")]
pub enum Next {
    /// Make this call, then ask again.
    Call(Call),
    /// Ask the brake on mass churn for a clearance, then ask again; without one the event is parked.
    AskBrake,
    /// Podero holds everything that the event wanted.
    Applied,
    /// A newer event had already said otherwise; nothing to do.
    Superseded,
    /// The customer has not signed up yet: wait for the sign-up.
    WaitsForSignUp,
}

/// The next step towards the event's facts.
pub fn next(work: &Work, policy: &Policy) -> Next {
    if let Happening::PurgeDue { user } = work.event.happening {
        return purge(work, user);
    }
    if work.merged.accepted == 0 {
        return Next::Superseded;
    }
    if matches!(work.event.happening, Happening::CalledOff(_)) {
        return Next::Applied;
    }
    match (work.merged.facts.is_active(), &work.event.happening) {
        (true, _) => provision(work, policy),
        (false, Happening::Churned) => offboard(work, policy),
        (false, _) => Next::WaitsForSignUp,
    }
}

/// Brings Podero to hold all desired facts, step by step.
fn provision(work: &Work, policy: &Policy) -> Next {
    let (customer, desired) = (&work.customer, &work.merged.facts);
    let (user, observed) = match &customer.podero.user {
        ObservedUser::Unknown | ObservedUser::Conflict => return find_user(work),
        ObservedUser::Absent => {
            let external_id = work.event.customer.clone();
            return Next::Call(Call::CreateUser { external_id, record: desired.profile() });
        }
        ObservedUser::Present { id, observed } => (*id, observed),
    };
    let update_user = || {
        let changes = desired.profile_changes(observed);
        (!changes.is_empty()).then_some(Call::UpdateUser { user, changes })
    };
    let release = || customer.podero.leaving.iter().find_map(|leaving| release_building(leaving, user, policy));
    let call = ensure_building(work, user).or_else(update_user).or_else(release);
    call.or_else(|| ensure_onboarding(work, user, policy)).map_or(Next::Applied, Next::Call)
}

fn find_user(work: &Work) -> Next {
    Next::Call(Call::FindUser { external_id: work.event.customer.clone() })
}

/// Gives each desired home its building, and makes the building show the home's record.
fn ensure_building(work: &Work, user: Uuid) -> Option<Call> {
    let (podero, desired) = (&work.customer.podero, &work.merged.facts);
    // Two things are in doubt: the fields of the buildings that we know, and whether there is another.
    if podero.listing == Listing::Doubtful && !desired.homes.is_empty() {
        return Some(Call::ListBuildings { user });
    }
    for (key, home) in &desired.homes {
        match podero.building_of(key, home) {
            None if podero.listing != Listing::Complete => return Some(Call::ListBuildings { user }),
            None => {
                let (key, since, record) = (key.clone(), home.since, home.record(key));
                return Some(Call::CreateBuilding { user, key, since, record });
            }
            Some(there) => {
                let changes = home.changes(key, &there.observed);
                if !changes.is_empty() {
                    let record = home.record(key);
                    let name = record.get(&Field::Name).cloned().unwrap_or_else(|| key.as_str().into());
                    let (key, building) = (key.clone(), there.id);
                    return Some(Call::UpdateBuilding { user, key, building, name, changes });
                }
            }
        }
    }
    None
}

/// The next step of freeing a home that was left; `None` if the building stays and Podero steers no pump in it.
fn release_building(leaving: &Leaving, user: Uuid, policy: &Policy) -> Option<Call> {
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
fn ensure_onboarding(work: &Work, user: Uuid, policy: &Policy) -> Option<Call> {
    let onboarding = policy.onboarding.as_ref()?;
    let key = work.event.happening.new_home()?;
    let (podero, desired) = (&work.customer.podero, &work.merged.facts);
    let since = desired.homes.get(key).map(|home| home.since).or(desired.signed_up)?;
    if podero.onboarding.get(key).is_some_and(|made| made.since >= since) {
        return None;
    }
    let spoken = desired.personal_text(Field::Language).and_then(page_language);
    Some(Call::CreateOnboardingSession {
        user,
        key: key.clone(),
        since,
        building: podero.buildings.get(key).map(|there| there.id),
        language: spoken.unwrap_or(&onboarding.language).to_owned(),
        policy: onboarding.clone(),
    })
}

/// Removes the customer from Podero: first every heat pump is paused, then the user is deleted. (No page says whether a deletion
/// stops the steering, so it is stopped before.)
///
/// The brake is asked once there is known to be something to take away, and before anything is: a user at Podero, or a customer
/// who is active by our facts. A churn of an unknown customer is not counted.
fn offboard(work: &Work, policy: &Policy) -> Next {
    let podero = &work.customer.podero;
    let must_ask = policy.brake.is_some() && work.clearance == Clearance::Unasked;
    let user = match &podero.user {
        ObservedUser::Unknown | ObservedUser::Conflict => return find_user(work),
        ObservedUser::Absent if work.customer.facts.is_active() && must_ask => return Next::AskBrake,
        ObservedUser::Absent => return Next::Applied,
        ObservedUser::Present { .. } if must_ask => return Next::AskBrake,
        ObservedUser::Present { id, .. } => *id,
    };
    match &podero.pausing {
        None => Next::Call(Call::ListHeatPumps { user }),
        Some(pumps) => match pumps.first() {
            Some(heat_pump) => Next::Call(Call::PauseHeatPump { user, heat_pump: *heat_pump }),
            None => Next::Call(Call::DeleteUser { user, soft: policy.churn != ChurnDelete::Hard }),
        },
    }
}

/// Deletes the user for good after the retention of a soft deletion. A user under which the customer lives again is not touched.
fn purge(work: &Work, user: Uuid) -> Next {
    if work.customer.facts.is_active() {
        match &work.customer.podero.user {
            // No guess is allowed: the deletion cannot be undone.
            ObservedUser::Unknown | ObservedUser::Conflict => return find_user(work),
            ObservedUser::Present { id, .. } if *id == user => return Next::Superseded,
            ObservedUser::Present { .. } | ObservedUser::Absent => {}
        }
    }
    Next::Call(Call::DeleteUser { user, soft: false })
}

#[cfg(test)]
mod tests;
