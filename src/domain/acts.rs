//! The rows of the audit log that an event's calls make: one for each change at Podero, through lost answers and crashes.
//!
//! | reply, or finding | row |
//! |---|---|
//! | `Done` | `done` |
//! | `Refused` | `refused`, with the status; of a deletion `done` if the thing is gone already |
//! | `Unknown` | `unknown`; the call stays with the customer as [`Unheard`] |
//! | `Busy`, `Held`, `Unsent` | none: nothing has changed |
//! | a look-up shows the effect of an unheard call | `done`, `found_by_lookup` |
//! | a look-up shows that it had none | `failed`, `not_there`, if the log has a row `unknown` of it |
//!
//! **Invariant.** A row becomes durable in the transaction that makes the customer's state durable which shows the change, or
//! which no longer holds the call as unheard. A crash loses both or neither; what it loses, the look-ups of the next claim find
//! again ([`super::interruption`]).
//!
//! Before: [`crate::domain::unheard`]. After: [`crate::domain::verdict`] judges the reply; [`crate::store`] writes the rows.

use super::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use super::call::{Call, Done, RefusalKind, Reply};
use super::customer::Customer;
use super::event::{BuildingKey, Event, Happening};
use super::identity::Actor;
use super::plan::Work;
use super::unheard::{UNHEARD_MAX, Unheard, UnheardCall, shows};
use super::{EventId, Stamp, Timestamp};

/// Reason of a row about a call whose effect a look-up showed.
pub const FOUND_BY_LOOKUP: &str = AuditReason::FoundByLookup.name();

/// Reason of a row about a call that had no effect, as a look-up showed.
pub const NOT_THERE: &str = AuditReason::NotThere.name();

/// Reason of a row about the deletion of a thing that was gone.
pub const ALREADY_GONE: &str = AuditReason::AlreadyGone.name();

/// Reason of a row about a call that Podero answered with a server error.
pub const SERVER_ERROR: &str = AuditReason::ServerError.name();

/// Reason of a row about a call that Podero did not answer.
pub const NO_ANSWER: &str = AuditReason::NoAnswer.name();

/// Notes the reply to a call that changes something. A repeat of an unheard call takes its place.
pub fn note_reply(work: &mut Work, call: &Call, reply: &Reply, now: Timestamp) {
    let (Some(action), Some(unheard)) = (Action::of_call(call.operation()), UnheardCall::of(call)) else { return };
    let is_gone = matches!((call, reply),
        (Call::DeleteUser { .. } | Call::DeleteBuilding { .. }, Reply::Refused(refusal)) if refusal.kind == RefusalKind::NotFound);
    let found = if is_gone { Some((AuditOutcome::Done, Some(ALREADY_GONE.to_owned()))) } else { outcome_of(reply) };
    let Some((outcome, reason)) = found else { return };
    let event = work.event.id;
    let is_repeated = |known: &Unheard| known.event == event && known.call.is_repeat_of(&unheard);
    work.customer.unheard.retain(|known| !is_repeated(known));
    let is_taken = matches!((call, reply), (Call::CreateUser { .. }, Reply::Refused(refusal)) if refusal.kind == RefusalKind::Duplicate);
    let is_unknown = outcome == AuditOutcome::Unknown;
    let row = MadeFor { event, actor: work.actor.clone() }.row(work, action, outcome, now);
    work.acts.push(AuditEntry { reason, ..row });
    // A create of ours that was answered late may have taken the address: the next look-up shows whose it is.
    if is_unknown || is_taken {
        let actor = work.actor.clone();
        note_unheard(&mut work.customer, Unheard { event, actor, call: unheard, is_recorded: is_unknown, round: 0 });
    }
}

/// The outcome of a call that changes something, and the reason; `None`: nothing has changed.
pub fn outcome_of<A>(reply: &Reply<A>) -> Option<(AuditOutcome, Option<String>)> {
    match reply {
        Reply::Done(_) => Some((AuditOutcome::Done, None)),
        Reply::Refused(refusal) => Some((AuditOutcome::Refused, Some(format!("http_{}", refusal.status)))),
        Reply::Unknown { .. } => {
            let reason = if reply.is_server_error() { SERVER_ERROR } else { NO_ANSWER };
            Some((AuditOutcome::Unknown, Some(reason.to_owned())))
        }
        Reply::Busy { .. } | Reply::Held { .. } | Reply::Unsent { .. } => None,
    }
}

/// Keeps an unheard call with its customer. One that is known may have been made again, by the later claim.
pub fn note_unheard(customer: &mut Customer, unheard: Unheard) {
    let known = &mut customer.unheard;
    match known.iter_mut().find(|known| known.event == unheard.event && known.call.is_repeat_of(&unheard.call)) {
        Some(known) => known.round = unheard.round,
        None => known.push(unheard),
    }
    known.drain(..known.len().saturating_sub(UNHEARD_MAX));
}

/// The answer that may show the effect of unheard calls; `None`: there are none, or it shows nothing of the kind.
pub fn shown_by(work: &Work, reply: &Reply) -> Option<Done> {
    match reply {
        Reply::Done(done @ (Done::UserLookedUp(_) | Done::BuildingsListed(_) | Done::HeatPumpsListed(_)))
            if !work.customer.unheard.is_empty() =>
        {
            Some(done.clone())
        }
        Reply::Done(_)
        | Reply::Refused(_)
        | Reply::Busy { .. }
        | Reply::Held { .. }
        | Reply::Unsent { .. }
        | Reply::Unknown { .. } => None,
    }
}

/// Notes the effects of unheard calls that a look-up showed; the customer has absorbed it.
pub fn note_findings(work: &mut Work, shown: &Done, now: Timestamp) {
    let customer = &work.customer;
    let mut findings: Vec<Option<bool>> =
        customer.unheard.iter().map(|unheard| took_effect(customer, &unheard.call, shown)).collect();
    // The calls of a claim are made in order: if a home or a user is gone, its heat pumps were paused before, and no list shows them
    // any more. Everything else has a look-up of its own.
    let mut made_by = Vec::new();
    for (unheard, finding) in customer.unheard.iter().zip(&mut findings).rev() {
        let claim = (unheard.event, unheard.round);
        let is_pause = matches!(unheard.call, UnheardCall::PauseHeatPump { .. });
        if is_pause && made_by.contains(&claim) {
            *finding = Some(true);
        } else if *finding == Some(true) && !unheard.is_recorded {
            made_by.push(claim);
        }
    }
    let unheard = std::mem::take(&mut work.customer.unheard);
    for (unheard, finding) in unheard.into_iter().zip(findings) {
        let (outcome, reason) = match finding {
            None => {
                work.customer.unheard.push(unheard);
                continue;
            }
            Some(true) => (AuditOutcome::Done, FOUND_BY_LOOKUP),
            Some(false) if unheard.is_recorded => (AuditOutcome::Failed, NOT_THERE),
            Some(false) => continue,
        };
        let Some(action) = unheard.call.action() else { continue };
        let row = MadeFor { event: unheard.event, actor: unheard.actor }.row(work, action, outcome, now);
        work.acts.push(AuditEntry { reason: Some(reason.to_owned()), ..row });
    }
}

/// Forgets the unheard calls of an event that was applied: each was made again, or found. After a churn nothing is left to look
/// for, and nothing of the customer may stay.
pub fn forget_heard(customer: &mut Customer, event: &Event) {
    let is_churn = event.happening == Happening::Churned;
    customer.unheard.retain(|unheard| !is_churn && unheard.event != event.id);
}

/// True if the answer of a look-up shows that the call took effect, false if it shows that it did not, `None` if it shows neither.
fn took_effect(customer: &Customer, call: &UnheardCall, shown: &Done) -> Option<bool> {
    match (shown, call) {
        (Done::UserLookedUp(Some(found)), _) if !found.is_customer => None,
        // A user that was known before the doubt was made before the call.
        (Done::UserLookedUp(Some(found)), UnheardCall::CreateUser) => Some(customer.podero.departed != Some(found.id)),
        (Done::UserLookedUp(Some(found)), UnheardCall::UpdateUser { user, changes }) => {
            Some(found.id == *user && shows(&found.observed, changes))
        }
        (Done::UserLookedUp(Some(found)), UnheardCall::DeleteUser { user }) => Some(found.id != *user),
        (Done::UserLookedUp(None), UnheardCall::DeleteUser { .. }) => Some(true),
        (Done::UserLookedUp(None), UnheardCall::CreateUser) => Some(false),
        (Done::BuildingsListed(_), UnheardCall::CreateBuilding { key, since }) => {
            Some(has_building(customer, key, *since))
        }
        (Done::BuildingsListed(listed), UnheardCall::UpdateBuilding { building, changes }) => {
            let there = listed.iter().find(|there| there.id == *building);
            Some(there.is_some_and(|there| shows(&there.observed, changes)))
        }
        (Done::BuildingsListed(listed), UnheardCall::DeleteBuilding { building }) => {
            Some(!listed.iter().any(|there| there.id == *building))
        }
        (Done::HeatPumpsListed(pumps), UnheardCall::PauseHeatPump { heat_pump }) => {
            Some(!pumps.iter().any(|pump| pump.id == *heat_pump && pump.is_steered))
        }
        (_, _) => None,
    }
}

/// True if the list showed a building that was made for this home: it is the home's, or ours to free.
fn has_building(customer: &Customer, key: &BuildingKey, since: Stamp) -> bool {
    let podero = &customer.podero;
    let is_spare = || {
        let leaving = podero.leaving.iter().filter_map(|leaving| leaving.spare.as_ref());
        let mut unlived = leaving.chain(podero.spare.iter().map(|spare| &spare.unlived));
        unlived.any(|unlived| unlived.made_for == (key.clone(), since))
    };
    podero.buildings.get(key).is_some_and(|there| there.since >= since) || is_spare()
}

/// The event for which a call was made, and the actor behind it.
struct MadeFor {
    event: EventId,
    actor: Actor,
}

impl MadeFor {
    /// A row about the call, whose target is the customer.
    fn row(self, work: &Work, action: Action, outcome: AuditOutcome, now: Timestamp) -> AuditEntry {
        let target = AuditTarget::new(TargetKind::Customer, work.event.customer.as_str());
        AuditEntry { outcome, event: Some(self.event), ..AuditEntry::done(now, self.actor, action, target) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::{PumpFound, Refusal, UserFound};
    use super::super::event::{Field, Record};
    use super::super::fixtures::*;
    use super::*;

    fn work() -> Work {
        let mut work = Work::new(event(20, moved("New 2")), at(1_000), customer_with(&[event(10, signed_up("Old 1"))]));
        work.actor = Actor::Source("crm".to_owned());
        work
    }

    fn create_user() -> Call {
        Call::CreateUser { external_id: event(1, moved("New 2")).customer, record: record(&PERSON) }
    }

    fn email() -> super::super::call::Changes {
        [(Field::Email, Some("new@example.com".into()))].into()
    }

    fn update_user() -> Call {
        Call::UpdateUser { user: uuid(1), changes: email() }
    }

    fn refused(kind: RefusalKind, status: u16) -> Reply {
        Reply::Refused(Refusal { kind, status, detail: String::new() })
    }

    fn user(observed: Record) -> Done {
        let (is_customer, external_id, heat_pumps, zip) = (true, None, None, None);
        Done::UserLookedUp(Some(UserFound { id: uuid(1), is_customer, external_id, heat_pumps, zip, observed }))
    }

    fn rows(work: &Work) -> Vec<(Action, AuditOutcome, Option<&str>)> {
        work.acts.iter().map(|act| (act.action, act.outcome, act.reason.as_deref())).collect()
    }

    #[test]
    fn a_reply_makes_a_row_if_something_may_have_changed() {
        use AuditOutcome::{Done as Did, Refused, Unknown};
        let delete = || Call::DeleteBuilding { user: uuid(1), building: uuid(2) };
        let bare = |call: &Call| Reply::Done(call.done().expect("a bare yes"));
        let (busy, held) = (Reply::Busy { after: None }, Reply::Held { status: 403 });
        for (call, reply, expected, unheard) in [
            (update_user(), bare(&update_user()), Some((Did, None)), 0),
            (update_user(), refused(RefusalKind::Invalid, 422), Some((Refused, Some("http_422"))), 0),
            (delete(), refused(RefusalKind::NotFound, 404), Some((Did, Some(ALREADY_GONE))), 0),
            (create_user(), refused(RefusalKind::Duplicate, 409), Some((Refused, Some("http_409"))), 1),
            (update_user(), Reply::Unknown { why: "cut" }, Some((Unknown, Some(NO_ANSWER))), 1),
            (update_user(), Reply::server_error(502), Some((Unknown, Some(SERVER_ERROR))), 1),
            (update_user(), busy, None, 0),
            (update_user(), held, None, 0),
            (update_user(), Reply::Unsent { why: "no connection" }, None, 0),
            (Call::ListBuildings { user: uuid(1) }, Reply::Unknown { why: "cut" }, None, 0),
        ] {
            let mut work = work();
            note_reply(&mut work, &call, &reply, at(7));
            let action = Action::of_call(call.operation());
            let expected: Vec<_> =
                expected.into_iter().filter_map(|(outcome, reason)| Some((action?, outcome, reason))).collect();
            assert_eq!(rows(&work), expected, "{call:?} {reply:?}");
            assert_eq!(work.customer.unheard.len(), unheard, "{call:?} {reply:?}");
            for act in &work.acts {
                assert_eq!((act.at, act.event), (at(7), Some(work.event.id)));
                assert_eq!((act.actor.to_string(), act.target.id.as_str()), ("source:crm".to_owned(), "C-1"));
            }
        }
    }

    #[test]
    fn a_look_up_ends_the_doubt_once() {
        let shown = record(&[(Field::Email, "new@example.com")]);
        let pump = |is_steered| PumpFound { id: uuid(3), building: None, is_steered };
        let pause = Call::PauseHeatPump { user: uuid(1), heat_pump: uuid(3) };
        for (call, done, took_effect) in [
            (create_user(), user(Record::new()), true),
            (create_user(), Done::UserLookedUp(None), false),
            (update_user(), user(shown), true),
            (update_user(), user(record(&PERSON)), false),
            (Call::DeleteUser { user: uuid(1), soft: true }, Done::UserLookedUp(None), true),
            (Call::DeleteUser { user: uuid(1), soft: true }, user(Record::new()), false),
            (Call::DeleteBuilding { user: uuid(1), building: uuid(2) }, Done::BuildingsListed(Vec::new()), true),
            (pause.clone(), Done::HeatPumpsListed(vec![pump(false)]), true),
            (pause, Done::HeatPumpsListed(vec![pump(true)]), false),
        ] {
            let mut work = work();
            note_reply(&mut work, &call, &Reply::Unknown { why: "cut" }, at(7));
            assert!(shown_by(&work, &Reply::Unknown { why: "cut" }).is_none());
            let shown = shown_by(&work, &Reply::Done(done)).expect("there is a doubt");
            note_findings(&mut work, &shown, at(8));
            let expected = if took_effect {
                (AuditOutcome::Done, Some(FOUND_BY_LOOKUP))
            } else {
                (AuditOutcome::Failed, Some(NOT_THERE))
            };
            let found = rows(&work);
            assert_eq!((found.len(), (found[1].1, found[1].2)), (2, expected), "{call:?}");
            assert!(work.customer.unheard.is_empty() && shown_by(&work, &Reply::Done(shown)).is_none(), "{call:?}");
        }
    }

    #[test]
    fn an_unrecorded_call_has_a_row_only_where_it_took_effect() {
        let unrecorded = |call: &Call| Unheard {
            event: event(20, moved("New 2")).id,
            actor: Actor::Source("crm".to_owned()),
            call: UnheardCall::of(call).expect("it changes something"),
            is_recorded: false,
            round: 1,
        };
        let pause = Call::PauseHeatPump { user: uuid(1), heat_pump: uuid(3) };
        let delete = Call::DeleteUser { user: uuid(1), soft: true };
        for (done, expected) in [(user(Record::new()), 0), (Done::UserLookedUp(None), 2)] {
            let mut work = work();
            note_unheard(&mut work.customer, unrecorded(&pause));
            note_unheard(&mut work.customer, unrecorded(&delete));
            note_unheard(&mut work.customer, unrecorded(&delete));
            note_findings(&mut work, &done, at(8));
            assert_eq!(work.acts.len(), expected, "{done:?}");
            assert!(work.acts.iter().all(|act| act.outcome == AuditOutcome::Done));
        }
    }

    #[test]
    fn a_repeat_takes_the_place_of_a_doubt_and_doubts_have_a_limit() {
        let mut work = work();
        note_reply(&mut work, &update_user(), &Reply::Unknown { why: "cut" }, at(7));
        note_reply(&mut work, &update_user(), &Reply::Done(update_user().done().expect("a bare yes")), at(8));
        assert!(work.customer.unheard.is_empty());
        for number in 0..200 {
            let pause = Call::PauseHeatPump { user: uuid(1), heat_pump: uuid(number) };
            note_reply(&mut work, &pause, &Reply::Unknown { why: "cut" }, at(9));
        }
        assert_eq!(work.customer.unheard.len(), UNHEARD_MAX);
        let event = work.event.clone();
        forget_heard(&mut work.customer, &event);
        assert!(work.customer.unheard.is_empty());
    }
}
