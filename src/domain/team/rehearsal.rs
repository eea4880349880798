//! The calls for an event of a member, if Podero and the policy said yes to everything. Nothing is sent.
//!
//! Before: [`super::plan`] and [`super::verdict`] decide. After: a person reads it.

use super::super::Timestamp;
use super::super::call::Reply;
use super::super::notice::Topic;
use super::super::plan::Policy;
use super::super::rehearsal::placeholder;
use super::super::verdict::{Decision, Fate, Moment};
use super::call::{MemberCall, MemberDone};
use super::plan::{MemberNext, MemberWork, next};
use super::verdict::{fate_of, judge, settle_with};

/// Limit of calls: a member takes a handful.
const CALLS_MAX: usize = 20;

/// The result of a rehearsal.
#[derive(Debug, Clone, PartialEq)]
pub struct TeamRehearsal {
    /// The calls, in order.
    pub calls: Vec<MemberCall>,
    /// The end of the event; `None`: it does not end within the limit.
    pub fate: Option<Fate>,
    /// The topics of the notices that would be published.
    pub topics: Vec<Topic>,
}

/// Plays an event through to its end. Podero holds the user that is known, and no one else.
pub fn rehearse_member(mut work: MemberWork, now: Timestamp, policy: &Policy) -> TeamRehearsal {
    let moment = Moment { now, jitter: 0.0 };
    let (known, mut calls) = (work.member.observed().cloned(), Vec::new());
    work.member.begin();
    let fate = loop {
        let call = match next(&work, policy, now) {
            MemberNext::Call(call) => call,
            MemberNext::Ask(_) => {
                work.is_allowed = true;
                continue;
            }
            MemberNext::End(end) => break Some(fate_of(&work, end, moment, policy)),
        };
        if calls.len() == CALLS_MAX {
            break None;
        }
        let done = match &call {
            MemberCall::FindMember { .. } => MemberDone::LookedUp(known.clone()),
            MemberCall::ListStaff { .. } => MemberDone::StaffListed { staff: Vec::new(), holder: None },
            MemberCall::CreateMember { .. } => MemberDone::Created { user: placeholder("user") },
            MemberCall::UpdateMember { .. } => MemberDone::Updated,
            MemberCall::DeleteMember { .. } => MemberDone::Deleted,
        };
        let decision = judge(&mut work, &call, Reply::Done(done), moment, policy);
        calls.push(call);
        if let Decision::Settle(fate) = decision {
            break Some(fate);
        }
    };
    let told = fate.clone().map(|fate| settle_with(&work, fate, now, policy).notices).unwrap_or_default();
    TeamRehearsal { calls, fate, topics: told.iter().map(|notice| notice.topic).collect() }
}
