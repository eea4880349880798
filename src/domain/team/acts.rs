//! The rows of the audit log that the calls for a member make: one for each change at Podero, through lost answers and crashes.
//!
//! As for customers ([`crate::domain::acts`]): a call without an answer is kept with the member until a look-up shows its effect. Each
//! claim of a member begins with a look-up, so that the calls of an interrupted claim are found by what the event wants.
//!
//! Before: [`super::plan`]. After: [`super::verdict`]; [`crate::store`] writes the rows.

use super::super::acts::{ALREADY_GONE, FOUND_BY_LOOKUP, NOT_THERE, outcome_of};
use super::super::audit::{Action, AuditEntry, AuditOutcome, AuditTarget, TargetKind};
use super::super::call::{RefusalKind, Reply};
use super::super::identity::Actor;
use super::super::verdict::Reason;
use super::super::{EventId, Timestamp};
use super::call::{Colleague, MemberCall, MemberDone};
use super::event::{MemberRole, is_address};
use super::plan::{MemberWork, is_shown_so};
use super::unheard::{UNHEARD_MAX, UnheardMemberCall, UnheardOfMember};

/// Notes the reply to a call that changes something. A repeat of an unheard call takes its place.
pub(super) fn note_reply(work: &mut MemberWork, call: &MemberCall, reply: &Reply<MemberDone>, now: Timestamp) {
    let Some(unheard) = UnheardMemberCall::of(call, work.member.observed_role()) else { return };
    let is_gone = matches!((call, reply),
        (MemberCall::DeleteMember { .. }, Reply::Refused(refusal)) if refusal.kind == RefusalKind::NotFound);
    let found = if is_gone { Some((AuditOutcome::Done, Some(ALREADY_GONE.to_owned()))) } else { outcome_of(reply) };
    let Some((outcome, reason)) = found else { return };
    let (event, actor) = (work.event.id, work.actor.clone());
    let action = unheard.action();
    work.member.unheard.retain(|known| known.event != event || known.call.action() != action);
    let row = row(work, &unheard, MadeFor { event, actor: actor.clone() }, now);
    work.acts.push(AuditEntry { outcome, reason, ..row });
    let is_unknown = outcome == AuditOutcome::Unknown;
    let is_taken = matches!((call, reply),
        (MemberCall::CreateMember { .. }, Reply::Refused(refusal)) if refusal.kind == RefusalKind::Duplicate);
    if is_unknown || is_taken {
        note_unheard(work, UnheardOfMember { event, actor, call: unheard, is_recorded: is_unknown });
    }
}

/// Keeps a call that the claim before, which was interrupted, may have made and recorded nothing of: the one that the event wants.
pub(super) fn note_interrupted(work: &mut MemberWork, call: &MemberCall) {
    if !std::mem::take(&mut work.was_interrupted) {
        return;
    }
    let Some(unheard) = UnheardMemberCall::of(call, None) else { return };
    let (event, actor, action) = (work.event.id, work.actor.clone(), unheard.action());
    if !work.member.unheard.iter().any(|known| known.event == event && known.call.action() == action) {
        note_unheard(work, UnheardOfMember { event, actor, call: unheard, is_recorded: false });
    }
}

fn note_unheard(work: &mut MemberWork, unheard: UnheardOfMember) {
    let known = &mut work.member.unheard;
    known.push(unheard);
    known.drain(..known.len().saturating_sub(UNHEARD_MAX));
}

/// True if the event made an invitation of which nothing was heard.
pub(super) fn may_have_invited(work: &MemberWork) -> bool {
    let is_it = |unheard: &UnheardOfMember| {
        unheard.event == work.event.id && matches!(unheard.call, UnheardMemberCall::Create { .. })
    };
    work.member.unheard.iter().any(is_it)
}

/// Notes the effects of unheard calls that a look-up by our key showed.
pub(super) fn note_findings(work: &mut MemberWork, found: Option<&Colleague>, now: Timestamp) {
    for unheard in std::mem::take(&mut work.member.unheard) {
        let (outcome, reason) = match took_effect(&unheard.call, found) {
            true => (AuditOutcome::Done, FOUND_BY_LOOKUP),
            false if unheard.is_recorded => (AuditOutcome::Failed, NOT_THERE),
            false => continue,
        };
        let made_for = MadeFor { event: unheard.event, actor: unheard.actor };
        let row = row(work, &unheard.call, made_for, now);
        work.acts.push(AuditEntry { outcome, reason: Some(reason.to_owned()), ..row });
    }
}

fn took_effect(call: &UnheardMemberCall, found: Option<&Colleague>) -> bool {
    match (call, found) {
        (UnheardMemberCall::Create { .. }, found) => found.is_some(),
        (UnheardMemberCall::Delete { .. }, found) => found.is_none(),
        (UnheardMemberCall::Update { .. }, None) => false,
        (UnheardMemberCall::Update { changes, .. }, Some(found)) => {
            let is_shown = |(field, value): (&_, &String)| {
                found.profile.get(field).is_some_and(|shown| is_shown_so(*field, shown, value))
            };
            let has_role = changes.role.is_none_or(|role| found.role.of_member() == Some(role));
            has_role && changes.profile.iter().all(is_shown)
        }
    }
}

/// The row of a refusal of the policy: nothing was changed.
pub(super) fn refusal(work: &MemberWork, reason: Reason, now: Timestamp) -> AuditEntry {
    // An id that is an address is personal data, which the audit log keeps of no one.
    let target = match work.id().as_str() {
        id if is_address(id) => AuditTarget::new(TargetKind::Event, work.event.id.to_string()),
        id => AuditTarget::new(TargetKind::Member, id),
    };
    let entry = AuditEntry::done(now, work.actor.clone(), Action::TeamChange, target);
    let to = Some(work.event.happening.type_name().to_owned());
    AuditEntry { event: Some(work.event.id), to, ..entry }.refused(reason.name(), 0)
}

/// The event for which a call was made, and the actor behind it.
struct MadeFor {
    event: EventId,
    actor: Actor,
}

fn row(work: &MemberWork, call: &UnheardMemberCall, made_for: MadeFor, now: Timestamp) -> AuditEntry {
    let target = AuditTarget::new(TargetKind::Member, work.id().as_str());
    let (from, to) = call.roles();
    let name = |role: Option<MemberRole>| role.map(|role| role.name().to_owned());
    let entry = AuditEntry::done(now, made_for.actor, call.action(), target);
    AuditEntry { event: Some(made_for.event), from: name(from), to: name(to), ..entry }
}
