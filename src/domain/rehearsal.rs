//! The calls for an event, if Podero said yes to everything. The same decisions as in earnest; nothing is sent.
//!
//! Before: [`crate::domain::plan`] and [`crate::domain::verdict`] decide. After: a person reads it.

use uuid::Uuid;

use super::brake::Clearance;
use super::call::{BuildingFound, Call, Done, Reply};
use super::event::Record;
use super::notice::Topic;
use super::plan::{Next, Policy, Work, next};
use super::verdict::{Decision, Fate, Moment, final_fate, judge, settle_with};
use super::{NAMESPACE, Timestamp};

/// Limit of calls. A sign-up takes five, a move a few dozen if there are many heat pumps, and none are listed here.
const CALLS_MAX: usize = 50;

/// The result of a rehearsal.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// The end of the event; `None`: it does not end within the limit.
    pub fate: Option<Fate>,
    /// The topics of the notices that would be published.
    pub topics: Vec<Topic>,
}

/// Plays an event through to its end. Podero holds the things that `work` knows, and nothing else; new things get ids from
/// [`placeholder`].
pub fn rehearse(mut work: Work, now: Timestamp, policy: &Policy) -> Rehearsal {
    let moment = Moment { now, jitter: 0.0 };
    let mut calls = Vec::new();
    let fate = loop {
        let step = next(&work, policy);
        let call = match step {
            Next::Call(call) => call,
            // The number of customers who leave at the same time does not concern a single message.
            Next::AskBrake => {
                work.clearance = Clearance::Admitted;
                continue;
            }
            Next::Applied | Next::Superseded | Next::WaitsForSignUp => break final_fate(&work, &step, moment, policy),
        };
        if calls.len() == CALLS_MAX {
            break None;
        }
        let Some(done) = yes(&call, &work) else { break None };
        let ruling = judge(&mut work, &call, Reply::Done(done), moment, policy);
        calls.push(call);
        if let Decision::Settle(fate) = ruling {
            break Some(fate);
        }
    };
    let told = fate.clone().map(|fate| settle_with(&work, fate, now, policy).notices).unwrap_or_default();
    Rehearsal { calls, fate, topics: told.iter().map(|notice| notice.topic).collect() }
}

/// An id that stands for one of Podero's.
pub fn placeholder(what: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("rehearsal/{what}").as_bytes())
}

/// The answer of a Podero that says yes.
fn yes(call: &Call, work: &Work) -> Option<Done> {
    Some(match call {
        Call::FindUser { .. } => Done::UserLookedUp(None),
        Call::CreateUser { record, .. } => Done::UserCreated { user: placeholder("user"), record: record.clone() },
        Call::ListBuildings { .. } => {
            let podero = &work.customer.podero;
            let homes = podero.buildings.values().map(|there| (there.id, there.observed.clone()));
            // Those that no one lives in any more are there too, whatever they show.
            let leaving = podero.leaving.iter().map(|leaving| (leaving.building, Record::new()));
            let spare = podero.spare.iter().map(|spare| (spare.id, spare.unlived.observed.clone()));
            let found = homes.chain(leaving).chain(spare).map(|(id, observed)| BuildingFound { id, observed });
            Done::BuildingsListed(found.collect())
        }
        Call::CreateBuilding { key, since, record, .. } => Done::BuildingCreated {
            building: placeholder("building"),
            key: key.clone(),
            since: *since,
            record: record.clone(),
        },
        Call::ListHeatPumps { .. } => Done::HeatPumpsListed(Vec::new()),
        Call::CreateOnboardingSession { key, since, .. } => {
            Done::SessionCreated { key: key.clone(), since: *since, url: "https://podero.example/connect".to_owned() }
        }
        Call::UpdateUser { .. }
        | Call::DeleteUser { .. }
        | Call::UpdateBuilding { .. }
        | Call::DeleteBuilding { .. }
        | Call::PauseHeatPump { .. } => return call.done(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::customer::Customer;
    use crate::domain::event::Happening;
    use crate::domain::fixtures::{at, event, moved, policy, signed_up};

    fn operations(rehearsal: &Rehearsal) -> Vec<&'static str> {
        rehearsal.calls.iter().map(|call| call.operation().name()).collect()
    }

    #[test]
    fn a_rehearsal_of_a_churn_does_not_stop_at_the_brake() {
        use crate::domain::brake::Brake;
        let brake = Some(Brake { count: Some(0), share: None, window: std::time::Duration::from_secs(1) });
        let policy = Policy { brake, ..policy() };
        let customer = crate::domain::fixtures::customer_with(&[event(10, signed_up("Gasse 1"))]);
        let now = at(1_000);
        let rehearsal = rehearse(Work::new(event(20, Happening::Churned), now, customer), now, &policy);
        assert_eq!(rehearsal.topics, [Topic::CustomerOffboarded], "{rehearsal:?}");
    }

    #[test]
    fn a_sign_up_of_somebody_new_and_a_churn_of_nobody() {
        let now = at(1_000);
        let rehearsal = rehearse(Work::new(event(10, signed_up("Gasse 1")), now, Customer::default()), now, &policy());
        assert_eq!(operations(&rehearsal), ["find_user", "create_user", "create_building"]);
        assert_eq!(rehearsal.topics, [Topic::CustomerProvisioned]);
        let rehearsal = rehearse(Work::new(event(10, Happening::Churned), now, Customer::default()), now, &policy());
        assert_eq!((operations(&rehearsal), rehearsal.topics), (vec!["find_user"], vec![Topic::CustomerOffboarded]));
        let rehearsal = rehearse(Work::new(event(10, moved("Gasse 2")), now, Customer::default()), now, &policy());
        assert!(rehearsal.calls.is_empty() && matches!(rehearsal.fate, Some(Fate::Waiting { .. })), "{rehearsal:?}");
    }
}
