//! The work of a claim, of whatever subject its lane is: a customer or a member of the team.
//!
//! The store claims and settles, and the applier drives it, by this trait alone; the two cores do not know each other.
//!
//! Before: [`super::plan`] and [`super::team`]. After: [`crate::store`] and [`crate::apply`].

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::alert::PumpRecord;
use super::audit::AuditEntry;
use super::brake::Clearance;
use super::call::{Call, Done, Operation, Reply};
use super::customer::Customer;
use super::event::{Event, EventKind};
use super::identity::Actor;
use super::interruption;
use super::plan::{Next, Policy, Work, next};
use super::team::{
    self, MemberCall, MemberDone, MemberField, MemberNext, MemberWork, Proposal, TeamEvent, TeamHappening, TeamMember,
};
use super::verdict::{self, Decision, Fate, Moment, Setback, Verdict};
use super::{EventId, Stamp, Timestamp};

/// An event that a sender sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SentEvent {
    /// About a customer.
    Customer(Event),
    /// About a member of the team.
    Member(TeamEvent),
}

/// The next step of a claim.
#[derive(Debug)]
pub enum WorkStep<W: LaneWork> {
    /// Make this call, then ask again.
    Call(W::Call),
    /// Ask the store whether it may be done, then ask again.
    Ask(W::Question),
    /// The claim ends.
    End(Fate),
}

/// One call to Podero, as the applier sees it.
pub trait LaneCall: Send + Sync {
    /// The kind of call.
    fn operation(&self) -> Operation;
    /// The key of a call that changes something.
    fn idempotency_key(&self, event: EventId) -> Option<Uuid>;
}

/// The kind of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// Lanes of customers.
    Customers,
    /// Lanes of members of the team.
    Members,
}

/// The columns of a subject's row in addition to its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateColumns {
    /// True if a customer is active, or a member is one.
    pub is_active: bool,
    /// The e-mail address of a customer, in the form in which it is searched for.
    pub email: Option<String>,
    /// Of a member.
    pub member: Option<MemberColumns>,
}

/// The columns of a member's row alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberColumns {
    /// Podero's id of the user, if it is known.
    pub user: Option<Uuid>,
    /// The end of the access.
    pub expires_at: Option<Timestamp>,
    /// The end of the membership.
    pub left_at: Option<Timestamp>,
}

/// The parts of an event that each has.
#[derive(Debug, Clone, Copy)]
pub struct EventHead<'a> {
    /// The bridge's own id.
    pub id: EventId,
    /// The kind under which a sender sends it.
    pub kind: Option<EventKind>,
    /// Its public type.
    pub type_name: &'static str,
    /// The id of its customer or member.
    pub subject: &'a str,
    /// The position in its lane.
    pub stamp: Stamp,
    /// The time at which it takes effect, if it was announced.
    pub effective_at: Option<Timestamp>,
}

/// What a claim brings apart from event and state.
#[derive(Debug)]
pub struct ClaimedParts {
    /// The time at which the event was accepted, or last retried by hand.
    pub tries_from: Timestamp,
    /// Failures in a row that count against it.
    pub failures: u32,
    /// The time at which they began.
    pub failing_since: Option<Timestamp>,
    /// Whether it was cleared.
    pub clearance: Clearance,
    /// The actor behind the event.
    pub actor: Actor,
    /// True if the claim before this one was interrupted.
    pub was_interrupted: bool,
    /// The watch's memory of a customer's heat pumps.
    pub seen: Vec<PumpRecord>,
    /// Of a member's leave: the joins that wait before it, and that it overtakes.
    pub overtaken: Vec<TeamEvent>,
}

/// The work of one claim.
pub trait LaneWork: Debug + Sized + Send + Sync + 'static {
    /// An event of the lane.
    type Event: Serialize + DeserializeOwned + Debug + Send + Sync;
    /// The durable knowledge about the lane's subject.
    type State: Serialize + DeserializeOwned + Default + Debug + Send + Sync;
    /// A call to Podero.
    type Call: LaneCall;
    /// The answer to a call.
    type Done: Send;
    /// A question that the store decides.
    type Question: Send;
    /// The kind of its lane.
    const LANES: LaneKind;
    /// Reason of the timeline for an event that waits for another.
    const WAITS_FOR: &'static str;

    /// Puts a claimed event and its subject together.
    fn begin(event: Self::Event, state: Self::State, claimed: ClaimedParts) -> Self;
    /// The event.
    fn head(&self) -> EventHead<'_>;
    /// The parts of an event.
    fn head_of(event: &Self::Event) -> EventHead<'_>;
    /// The subject as of now.
    fn state(&self) -> &Self::State;
    /// The columns of a subject's row.
    fn columns(state: &Self::State) -> StateColumns;
    /// The time from which the event's age counts.
    fn tries_from(&self) -> Timestamp;
    /// Notes that the brake, or the policy, has cleared it.
    fn clear(&mut self);
    /// The time at which the present row of failures began.
    fn failing_since(&mut self) -> &mut Option<Timestamp>;
    /// Rows of the audit log that are not durable yet.
    fn acts(&mut self) -> &mut Vec<AuditEntry>;
    /// Makes up for a claim that was interrupted.
    fn resume(&mut self, now: Timestamp, policy: &Policy);
    /// The fate of a claim that comes while an unheard call may be under way.
    fn too_soon(&self, now: Timestamp, policy: &Policy) -> Option<Fate>;
    /// The next step.
    fn step(&mut self, moment: Moment, policy: &Policy) -> WorkStep<Self>;
    /// Judges the reply to a call.
    fn judge(&mut self, call: &Self::Call, reply: Reply<Self::Done>, moment: Moment, policy: &Policy) -> Decision;
    /// Counts a failure that no reply told.
    fn fail(&mut self, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate;
    /// Ends a claim during which the bridge failed.
    fn interrupt(&mut self, now: Timestamp, policy: &Policy) -> Fate;
    /// Turns the end of a claim into everything that must be written down about it.
    fn settle_with(&self, fate: Fate, now: Timestamp, policy: &Policy) -> Verdict<Self::State, Self::Event>;
}

impl LaneCall for Call {
    fn operation(&self) -> Operation {
        self.operation()
    }

    fn idempotency_key(&self, event: EventId) -> Option<Uuid> {
        self.idempotency_key(event)
    }
}

impl LaneCall for MemberCall {
    fn operation(&self) -> Operation {
        self.operation()
    }

    fn idempotency_key(&self, event: EventId) -> Option<Uuid> {
        self.idempotency_key(event)
    }
}

impl LaneWork for Work {
    type Event = Event;
    type State = Customer;
    type Call = Call;
    type Done = Done;
    /// Whether one more customer may be taken away.
    type Question = ();
    const LANES: LaneKind = LaneKind::Customers;
    const WAITS_FOR: &'static str = "no_sign_up";

    fn begin(event: Event, mut customer: Customer, claimed: ClaimedParts) -> Self {
        let interrupted = claimed.was_interrupted.then(|| Box::new(customer.clone()));
        customer.begin(claimed.was_interrupted);
        let ClaimedParts { tries_from, failures, failing_since, clearance, actor, seen, .. } = claimed;
        let work = Self::new(event, tries_from, customer);
        Self { failures, failing_since, clearance, actor, interrupted, seen, ..work }
    }

    fn head(&self) -> EventHead<'_> {
        Self::head_of(&self.event)
    }

    fn head_of(event: &Event) -> EventHead<'_> {
        EventHead {
            id: event.id,
            kind: event.happening.kind(),
            type_name: event.happening.type_name(),
            subject: event.customer.as_str(),
            stamp: event.stamp(),
            effective_at: event.effective_at,
        }
    }

    fn state(&self) -> &Customer {
        &self.customer
    }

    fn columns(customer: &Customer) -> StateColumns {
        StateColumns { is_active: customer.facts.is_active(), email: customer.facts.email(), member: None }
    }

    fn clear(&mut self) {
        self.clearance = Clearance::Admitted;
    }

    fn tries_from(&self) -> Timestamp {
        self.tries_from
    }

    fn failing_since(&mut self) -> &mut Option<Timestamp> {
        &mut self.failing_since
    }

    fn acts(&mut self) -> &mut Vec<AuditEntry> {
        &mut self.acts
    }

    fn resume(&mut self, now: Timestamp, policy: &Policy) {
        interruption::resume(self, now, policy);
    }

    fn too_soon(&self, now: Timestamp, policy: &Policy) -> Option<Fate> {
        verdict::too_soon(self, now, policy)
    }

    fn step(&mut self, moment: Moment, policy: &Policy) -> WorkStep<Self> {
        let step = next(self, policy);
        match (verdict::final_fate(self, &step, moment, policy), step) {
            (Some(fate), _) => WorkStep::End(fate),
            (None, Next::Call(call)) => WorkStep::Call(call),
            (None, Next::AskBrake | Next::Applied | Next::Superseded | Next::WaitsForSignUp) => WorkStep::Ask(()),
        }
    }

    fn judge(&mut self, call: &Call, reply: Reply, moment: Moment, policy: &Policy) -> Decision {
        verdict::judge(self, call, reply, moment, policy)
    }

    fn fail(&mut self, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate {
        verdict::fail(self, setback, why, moment, policy)
    }

    fn interrupt(&mut self, now: Timestamp, policy: &Policy) -> Fate {
        verdict::interrupted(self, now, policy)
    }

    fn settle_with(&self, fate: Fate, now: Timestamp, policy: &Policy) -> Verdict {
        verdict::settle_with(self, fate, now, policy)
    }
}

impl LaneWork for MemberWork {
    type Event = TeamEvent;
    type State = TeamMember;
    type Call = MemberCall;
    type Done = MemberDone;
    /// Whether a change of a member may be made.
    type Question = Proposal;
    const LANES: LaneKind = LaneKind::Members;
    const WAITS_FOR: &'static str = "no_join";

    fn begin(event: TeamEvent, mut member: TeamMember, claimed: ClaimedParts) -> Self {
        member.begin();
        let ClaimedParts { tries_from, failures, failing_since, clearance, actor, was_interrupted, overtaken, .. } =
            claimed;
        let emails = overtaken.iter().filter_map(|event| match &event.happening {
            TeamHappening::Joined { profile, .. } => profile.get(&MemberField::Email).cloned(),
            TeamHappening::Updated { .. }
            | TeamHappening::RoleChanged { .. }
            | TeamHappening::Left
            | TeamHappening::CalledOff { .. }
            | TeamHappening::AccessExpiring { .. }
            | TeamHappening::AccessExpired { .. } => None,
        });
        let overtaken = emails.collect();
        let work = Self::new(event, tries_from, member);
        Self { failures, failing_since, clearance, actor, was_interrupted, overtaken, ..work }
    }

    fn head(&self) -> EventHead<'_> {
        Self::head_of(&self.event)
    }

    fn head_of(event: &TeamEvent) -> EventHead<'_> {
        EventHead {
            id: event.id,
            kind: event.happening.kind(),
            type_name: event.happening.type_name(),
            subject: event.member.as_str(),
            stamp: event.stamp(),
            effective_at: event.effective_at,
        }
    }

    fn state(&self) -> &TeamMember {
        &self.member
    }

    fn columns(member: &TeamMember) -> StateColumns {
        let facts = &member.facts;
        let left_at = facts.left.filter(|_| !facts.is_active()).map(|left| left.time);
        let user = member.user_id().or(member.podero.departed);
        let member = MemberColumns { user, expires_at: facts.expires_at(), left_at };
        StateColumns { is_active: facts.is_active(), email: None, member: Some(member) }
    }

    fn clear(&mut self) {
        self.is_allowed = true;
    }

    fn tries_from(&self) -> Timestamp {
        self.tries_from
    }

    fn failing_since(&mut self) -> &mut Option<Timestamp> {
        &mut self.failing_since
    }

    fn acts(&mut self) -> &mut Vec<AuditEntry> {
        &mut self.acts
    }

    /// Nothing: the look-up with which each claim begins tells.
    fn resume(&mut self, _: Timestamp, _: &Policy) {}

    fn too_soon(&self, now: Timestamp, policy: &Policy) -> Option<Fate> {
        team::too_soon(self, now, policy)
    }

    fn step(&mut self, moment: Moment, policy: &Policy) -> WorkStep<Self> {
        match team::next(self, policy, moment.now) {
            MemberNext::Call(call) => {
                team::before_call(self, &call);
                WorkStep::Call(call)
            }
            MemberNext::Ask(proposal) => WorkStep::Ask(proposal),
            MemberNext::End(end) => WorkStep::End(team::fate_of(self, end, moment, policy)),
        }
    }

    fn judge(&mut self, call: &MemberCall, reply: Reply<MemberDone>, moment: Moment, policy: &Policy) -> Decision {
        team::judge(self, call, reply, moment, policy)
    }

    fn fail(&mut self, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate {
        team::fail(self, setback, why, moment, policy)
    }

    fn interrupt(&mut self, now: Timestamp, policy: &Policy) -> Fate {
        team::interrupted(self, now, policy)
    }

    fn settle_with(&self, fate: Fate, now: Timestamp, policy: &Policy) -> Verdict<TeamMember, TeamEvent> {
        team::settle_with(self, fate, now, policy)
    }
}
