//! The meaning of a reply for a member's event, and everything that becomes durable at the end of its claim.
//!
//! The table of replies is that of customers ([`crate::domain::verdict`]); here are the answers that only members have.
//!
//! Before: [`super::plan`]. After: [`crate::store`] makes the verdict durable in one transaction.

use serde_json::json;
use uuid::Uuid;

use super::super::call::{Refusal, RefusalKind, Reply};
use super::super::notice::{Notice, Topic, notice_id};
use super::super::plan::Policy;
use super::super::verdict::{
    About, Answer, Decision, Fate, Moment, Reason, Setback, Tries, Verdict, answered, fail_again, parked_about,
};
use super::super::{EventId, NAMESPACE, Timestamp};
use super::acts;
use super::call::{Colleague, MemberCall, MemberDone, PoderoRole};
use super::event::{MemberRole, Profile, TeamEvent, TeamHappening, is_address};
use super::member::{Departure, MemberFacts, ObservedMember, TeamMember};
use super::plan::{MemberEnd, MemberNext, MemberWork, next};
use super::policy::PolicyRefusal;

/// Judges the reply to a call, lets the member absorb it, and notes what the audit log has to say of it.
pub fn judge(
    work: &mut MemberWork,
    call: &MemberCall,
    reply: Reply<MemberDone>,
    moment: Moment,
    policy: &Policy,
) -> Decision {
    acts::note_reply(work, call, &reply, moment.now);
    let is_in_doubt = matches!(reply, Reply::Unknown { .. }) && !call.reads();
    match answered(tries(work), reply, moment, policy) {
        Ok(Answer::Done(done)) => self::done(work, call, done, moment, policy),
        Ok(Answer::Refused(refusal)) => refused(work, call, &refusal),
        Err(fate) if is_in_doubt => Decision::Settle(in_doubt(work, fate, moment, policy)),
        Err(fate) => Decision::Settle(fate),
    }
}

fn tries(work: &mut MemberWork) -> Tries<'_> {
    Tries { failures: &mut work.failures, failing_since: &mut work.failing_since }
}

/// A change without an answer: nothing is asked about the member before it must have ended.
fn in_doubt(work: &mut MemberWork, mut fate: Fate, moment: Moment, policy: &Policy) -> Fate {
    work.member.doubt();
    let quiet_until = moment.now.plus(policy.doubt_pause);
    work.member.podero.quiet_until = Some(quiet_until);
    if let Fate::Retry { at, .. } = &mut fate {
        *at = (*at).max(quiet_until);
    }
    fate
}

/// The fate of a claim that comes while an unheard call may be under way for its member.
pub(crate) fn too_soon(work: &MemberWork, now: Timestamp, policy: &Policy) -> Option<Fate> {
    let plausible = now.plus(policy.doubt_pause.saturating_mul(2));
    let until = work.member.podero.quiet_until.filter(|until| *until > now && *until <= plausible)?;
    Some(Fate::Retry { at: until, setback: Setback::Unknown })
}

/// Ends a claim during which the bridge failed: the same as after a crash.
pub(crate) fn interrupted(work: &mut MemberWork, now: Timestamp, policy: &Policy) -> Fate {
    work.member.doubt();
    work.member.podero.quiet_until = Some(now.plus(policy.doubt_pause));
    Fate::Parked { reason: Reason::Panicked, detail: "the bridge failed over it; see its log".to_owned() }
}

/// Counts a failure that no reply told.
pub(crate) fn fail(work: &mut MemberWork, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate {
    fail_again(tries(work), setback, why, moment, policy)
}

fn done(work: &mut MemberWork, call: &MemberCall, done: MemberDone, moment: Moment, policy: &Policy) -> Decision {
    let go_on = Decision::Continue { save: false };
    match done {
        MemberDone::LookedUp(found) => {
            // One who has no key of ours yet is not found by it: the list tells what became of a deletion.
            if found.is_some() || !work.may_be_adopted() {
                note_interrupted(work, found.as_ref(), policy);
                if found.is_some() && acts::may_have_invited(work) {
                    work.member.podero.invited_by = Some(work.event.id);
                }
                acts::note_findings(work, found.as_ref(), moment.now);
            }
            looked_up(work, found)
        }
        MemberDone::StaffListed { staff, .. } if work.event.happening.is_removal() => {
            listed_for_removal(work, &staff, moment.now, policy)
        }
        MemberDone::StaffListed { holder, .. } => listed(work, holder),
        MemberDone::Created { user } => {
            let MemberCall::CreateMember { member, role, profile } = call else { return go_on };
            work.failures = 0;
            work.failing_since = None;
            work.member.podero.invited_by = Some(work.event.id);
            work.member.podero.made_at = Some(moment.now);
            work.member.podero.user = ObservedMember::Present(Colleague {
                id: user,
                role: (*role).into(),
                external_id: Some(member.as_str().to_owned()),
                profile: profile.clone(),
                last_login: None,
                has_joined: false,
            });
            // From here on a look-up finds the user; the row of the audit log must not be lost.
            Decision::Continue { save: true }
        }
        MemberDone::Updated => {
            if let MemberCall::UpdateMember { changes, .. } = call {
                work.member.show(changes);
                work.member.podero.adopting = work.member.podero.adopting.filter(|_| changes.external_id.is_none());
            }
            Decision::Continue { save: true }
        }
        MemberDone::Deleted => {
            deleted(work);
            go_on
        }
    }
}

/// Keeps the call that the claim before may have made: the one that the event wanted of a Podero that had not seen it. Before a
/// leave, a user whom the bridge did not know was made by the join that the leave overtook.
fn note_interrupted(work: &mut MemberWork, found: Option<&Colleague>, policy: &Policy) {
    if !work.was_interrupted {
        return;
    }
    let is_unknown = !work.member.facts.is_active() && work.member.podero.departed.is_none();
    if let Some(found) = found.filter(|_| work.event.happening.is_removal() && is_unknown) {
        let (member, profile) = (work.id().clone(), found.profile.clone());
        let role = found.role.of_member().unwrap_or(MemberRole::Staff);
        return acts::note_interrupted(work, &MemberCall::CreateMember { member, role, profile });
    }
    let mut before = work.clone();
    before.is_allowed = true;
    before.has_listed = true;
    before.member.podero.user = match (&work.event.happening, found) {
        (TeamHappening::Left | TeamHappening::AccessExpired { .. }, None) => {
            ObservedMember::Present(unknown_colleague(work.member.podero.departed.unwrap_or_default()))
        }
        (TeamHappening::Joined { .. }, Some(found)) if work.member.podero.departed != Some(found.id) => {
            ObservedMember::Absent { is_listed: true, is_contested: false }
        }
        (_, Some(found)) => ObservedMember::Present(Colleague {
            profile: work.member.facts.profile(),
            role: work.member.facts.role.map_or(found.role, |fact| fact.role.into()),
            ..found.clone()
        }),
        (_, None) => ObservedMember::Unknown,
    };
    // The access may have ended since: then the claim before was made while it had not.
    match next(&before, policy, work.event.received_at) {
        MemberNext::Call(call) => acts::note_interrupted(work, &call),
        MemberNext::Ask(_) | MemberNext::End(_) => work.was_interrupted = false,
    }
}

fn unknown_colleague(id: Uuid) -> Colleague {
    let (external_id, profile) = (None, Profile::new());
    Colleague { id, role: PoderoRole::Staff, external_id, profile, last_login: None, has_joined: false }
}

fn looked_up(work: &mut MemberWork, found: Option<Colleague>) -> Decision {
    work.is_allowed = false;
    if found.is_some() {
        work.member.podero.adopting = None;
    }
    let Some(found) = found else {
        let is_contested = matches!(work.member.podero.user, ObservedMember::Absent { is_contested: true, .. });
        work.member.podero.user = ObservedMember::Absent { is_listed: false, is_contested };
        return Decision::Continue { save: false };
    };
    if found.role.of_member().is_none() {
        return not_a_member(&found);
    }
    see(work, found);
    Decision::Continue { save: false }
}

fn see(work: &mut MemberWork, found: Colleague) {
    work.role_seen = found.role.of_member();
    work.member.podero.user = ObservedMember::Present(found);
}

/// The list shows who holds the e-mail address: no user, a colleague without a key of ours, or another person.
fn listed(work: &mut MemberWork, holder: Option<Colleague>) -> Decision {
    work.is_allowed = false;
    work.has_listed = true;
    let own = work.member.user_id();
    let is_contested = matches!(work.member.podero.user, ObservedMember::Absent { is_contested: true, .. });
    let Some(holder) = holder.filter(|holder| own != Some(holder.id)) else {
        if own.is_none() {
            work.member.podero.user = ObservedMember::Absent { is_listed: true, is_contested };
        }
        return Decision::Continue { save: false };
    };
    if holder.role.of_member().is_none() {
        return not_a_member(&holder);
    }
    match holder.external_id.as_deref() {
        _ if own.is_some() => email_taken(),
        Some(id) if id != work.id().as_str() => email_taken(),
        Some(_) | None => {
            // Whether the key arrives or not, a leave finds the user.
            work.member.podero.adopting = holder.external_id.is_none().then_some(holder.id);
            see(work, holder);
            Decision::Continue { save: false }
        }
    }
}

/// The list shows whether the user is there whom a join was about to adopt before the leave overtook it.
fn listed_for_removal(work: &mut MemberWork, staff: &[Colleague], now: Timestamp, policy: &Policy) -> Decision {
    work.is_allowed = false;
    let found = work.adopted(staff).cloned();
    if found.is_none() && work.member.podero.departed.is_some() {
        note_interrupted(work, None, policy);
    }
    work.was_interrupted = false;
    acts::note_findings(work, found.as_ref(), now);
    let Some(found) = found else {
        work.member.podero.user = ObservedMember::Absent { is_listed: true, is_contested: false };
        return Decision::Continue { save: false };
    };
    work.member.podero.adopting = Some(found.id);
    see(work, found);
    // After a crash the next claim looks for this user again.
    Decision::Continue { save: true }
}

fn not_a_member(found: &Colleague) -> Decision {
    let detail = format!("user {} has the role `{}` at Podero, and is no member of the team", found.id, found.role);
    park(Reason::NotATeamMember, detail)
}

fn email_taken() -> Decision {
    park(Reason::EmailTaken, "Podero has another user with this e-mail address".to_owned())
}

/// The user is gone.
fn deleted(work: &mut MemberWork) {
    work.member.podero.departed = work.member.user_id().or(work.member.podero.departed);
    work.member.podero.adopting = None;
    work.member.podero.user = ObservedMember::Absent { is_listed: true, is_contested: false };
}

fn refused(work: &mut MemberWork, call: &MemberCall, refusal: &Refusal) -> Decision {
    match (call, refusal.kind) {
        (MemberCall::DeleteMember { .. }, RefusalKind::NotFound) => {
            deleted(work);
            Decision::Continue { save: false }
        }
        // Did a create of ours make it, with a late answer? One more look shows it; if not, another user has the address.
        (MemberCall::CreateMember { .. }, RefusalKind::Duplicate)
            if !matches!(work.member.podero.user, ObservedMember::Absent { is_contested: true, .. }) =>
        {
            work.member.podero.user = ObservedMember::Absent { is_listed: false, is_contested: true };
            Decision::Continue { save: false }
        }
        (MemberCall::CreateMember { .. } | MemberCall::UpdateMember { .. }, RefusalKind::Duplicate) => email_taken(),
        // Deleted by hand between the look-up and the change.
        (MemberCall::UpdateMember { .. }, RefusalKind::NotFound) => {
            let detail = "the member's user was deleted at Podero at this moment; retry to look again".to_owned();
            park(Reason::MemberMissing, detail)
        }
        (_, RefusalKind::NotFound | RefusalKind::Unsupported | RefusalKind::Duplicate | RefusalKind::Invalid) => {
            let answered = format!("{} answered {}", call.operation().name(), refusal.status);
            let detail = &refusal.detail;
            park(Reason::Refused, if detail.is_empty() { answered } else { format!("{answered}: {detail}") })
        }
    }
}

fn park(reason: Reason, detail: String) -> Decision {
    Decision::Settle(Fate::Parked { reason, detail })
}

/// Turns the end of a claim into everything that must be written down about it.
pub fn settle_with(work: &MemberWork, fate: Fate, now: Timestamp, policy: &Policy) -> Verdict<TeamMember, TeamEvent> {
    let is_applied = matches!(fate, Fate::Applied { .. });
    let was_removed = is_removed(work);
    let mut member = work.member.clone();
    if is_applied || was_removed {
        member.facts = work.merged.facts.clone();
        member.unheard.retain(|unheard| unheard.event != work.event.id);
    }
    if was_removed {
        member.podero.gone_at = Some(now);
    }
    let mut notices = Vec::new();
    let mut follow_ups = Vec::new();
    let mut acts = work.acts.clone();
    match &fate {
        Fate::Applied { .. } => {
            notices.extend(outcome(work, now));
            let (notice, events) = expiry(work, now, policy);
            notices.extend(notice);
            follow_ups = events;
        }
        Fate::Parked { reason, .. } => {
            notices.push(parked_about(about(work), *reason, now));
            if reason.is_of_team_policy() {
                acts.push(acts::refusal(work, *reason, now));
            }
        }
        Fate::Superseded | Fate::Waiting { .. } | Fate::Retry { .. } => {}
    }
    let expires_at = member.facts.expires_at();
    let ends = matches!(fate, Fate::Applied { .. } | Fate::Superseded | Fate::Parked { .. });
    let about_membership = matches!(work.event.happening, TeamHappening::Joined { .. } | TeamHappening::Left);
    let is_leave = work.event.happening == TeamHappening::Left;
    Verdict {
        remark: remark(work, &fate),
        fate,
        state: member,
        failures: work.failures,
        failing_since: work.failing_since,
        notices,
        seen: Vec::new(),
        follow_ups,
        ends_scheduled: work.member.facts.expires_at() != expires_at
            || (is_applied && work.event.happening.is_removal()),
        // A leave that the policy refused ends nothing: its member's older events go on. One whose deletion was asked for does, also
        // if it is parked then.
        overtakes: is_leave && (is_applied || work.member.facts.left == Some(work.event.stamp())),
        wakes_waiting: ends && about_membership,
        acts,
    }
}

/// True if the event took the member away, even if it ends otherwise than applied.
fn is_removed(work: &MemberWork) -> bool {
    let is_gone = matches!(work.member.podero.user, ObservedMember::Absent { .. });
    work.event.happening.is_removal() && work.merged.accepted > 0 && is_gone
}

fn about(work: &MemberWork) -> About<'_> {
    About {
        event: work.event.id,
        customer: None,
        member: Some(work.id().as_str()).filter(|id| !is_address(id)),
        type_name: work.event.happening.type_name(),
    }
}

fn remark(work: &MemberWork, fate: &Fate) -> Option<String> {
    let newer = || (!work.merged.newer.is_empty()).then(|| work.merged.newer.join(", "));
    match fate {
        Fate::Superseded if work.merged.accepted > 0 => {
            Some("the access that it gives has passed: no one was invited".to_owned())
        }
        Fate::Superseded => newer(),
        Fate::Applied { .. } => newer().map(|newer| format!("by {newer}")),
        Fate::Waiting { .. } | Fate::Retry { .. } | Fate::Parked { .. } => None,
    }
}

/// The notice of a completed effect.
fn outcome(work: &MemberWork, now: Timestamp) -> Option<Notice> {
    let (topic, resolution) = match &work.event.happening {
        TeamHappening::Joined { .. } => (Topic::TeamMemberAdded, None),
        TeamHappening::Updated { .. } | TeamHappening::RoleChanged { .. } => (Topic::TeamMemberChanged, None),
        // HR may tell of everyone who leaves the company: one who was never of the team is not removed.
        TeamHappening::Left if !work.member.was_ever_there() => return None,
        TeamHappening::Left => (Topic::TeamMemberRemoved, Some(Departure::Left)),
        TeamHappening::AccessExpired { .. } => (Topic::TeamMemberRemoved, Some(Departure::Expired)),
        TeamHappening::AccessExpiring { expires_at } => return Some(expiring(work, *expires_at, now)),
        TeamHappening::CalledOff { .. } => return None,
    };
    let member = work.id().as_str();
    let role = work.member.observed_role().or(work.role_seen).or(work.member.facts.role.map(|fact| fact.role));
    let mut data = json!({
        "member_id": member,
        "podero_user_id": work.member.user_id().or(work.member.podero.departed),
        "role": role.map(MemberRole::name),
        "event_id": work.event.id,
    });
    if let Some(resolution) = resolution {
        data["resolution"] = json!(resolution.name());
    }
    Some(Notice {
        id: notice_id(&work.event.id.to_string(), topic),
        topic,
        order_key: format!("member/{member}"),
        subject: member.to_owned(),
        time: now,
        data,
    })
}

/// The notice that the access ends soon: one for each end that is set.
fn expiring(work: &MemberWork, expires_at: Timestamp, now: Timestamp) -> Notice {
    let (member, topic) = (work.id().as_str(), Topic::TeamAccessExpiring);
    Notice {
        id: notice_id(&format!("{member}/{}", expires_at.micros()), topic),
        topic,
        order_key: format!("member/{member}"),
        subject: member.to_owned(),
        time: now,
        data: json!({
            "member_id": member,
            "podero_user_id": work.member.user_id().or(work.member.podero.departed),
            // With the join the facts are not the member's yet.
            "role": work.member.facts.role.or(work.merged.facts.role).map(|fact| fact.role.name()),
            "event_id": work.event.id,
            "expires_at": expires_at,
        }),
    }
}

/// The bridge's own events about an end of the access that this event sets: the notice ahead of it, at once if it is near, and the end.
fn expiry(work: &MemberWork, now: Timestamp, policy: &Policy) -> (Option<Notice>, Vec<TeamEvent>) {
    let set = work.event.happening.expiry_said().is_some();
    let Some(expires_at) = work.merged.facts.expires_at().filter(|_| set) else { return (None, Vec::new()) };
    if work.member.facts.expires_at() == Some(expires_at) {
        return (None, Vec::new());
    }
    let own = |name: &str, at: Timestamp, happening| TeamEvent {
        id: EventId(Uuid::new_v5(&NAMESPACE, format!("{name}/{}", work.event.id).as_bytes())),
        member: work.id().clone(),
        time: at,
        received_at: now,
        effective_at: Some(at),
        happening,
    };
    let end = own("access-expired", expires_at, TeamHappening::AccessExpired { expires_at });
    let notice_at = expires_at.minus(policy.team.expiry_notice);
    if expires_at <= now {
        return (None, vec![end]);
    }
    if notice_at <= now {
        return (Some(expiring(work, expires_at, now)), vec![end]);
    }
    let ahead = own("access-expiring", notice_at, TeamHappening::AccessExpiring { expires_at });
    (None, vec![ahead, end])
}

/// The fate of an event for which there is no call left and nothing to ask.
pub(crate) fn fate_of(work: &MemberWork, end: MemberEnd, moment: Moment, policy: &Policy) -> Fate {
    match end {
        MemberEnd::Applied => Fate::Applied { stale: work.merged.stale.clone() },
        MemberEnd::Superseded => Fate::Superseded,
        MemberEnd::Refused(PolicyRefusal { reason, detail }) => Fate::Parked { reason, detail },
        MemberEnd::WaitsForJoin => {
            let until = work.tries_from.plus(policy.give_up_after);
            if moment.now >= until {
                let detail = "no join of this member came in time".to_owned();
                Fate::Parked { reason: Reason::NoJoin, detail }
            } else {
                Fate::Waiting { until }
            }
        }
    }
}

/// Writes the tombstone before a deletion is asked for: from the moment in which the user may be gone, an older event that comes
/// late must not find an active member and invite the person again, even if the leave itself is parked. The end of the access stays
/// set until the user is known to be gone.
pub(crate) fn before_call(work: &mut MemberWork, call: &MemberCall) {
    if matches!(call, MemberCall::DeleteMember { .. }) {
        let expires = work.member.facts.expires.take();
        work.member.facts = MemberFacts { leaving: true, expires, ..work.merged.facts.clone() };
    }
}
