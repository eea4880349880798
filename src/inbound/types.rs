//! The types of events that a source may send: one check for all entrances, on the event and not on the message, so that a
//! mapping cannot get round it.
//!
//! Before: [`crate::inbound`] reads the envelope. After: [`crate::inbound::wire`] reads the event.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::cloudevents::Envelope;
use super::team_wire::MEMBER_ID;
use crate::config::{Source, Types};
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::event::EventKind;
use crate::domain::identity::Actor;
use crate::domain::team::{MemberId, TeamPolicy, is_address};
use crate::domain::verdict::Reason;
use crate::problem::{Problem, ProblemKind};
use crate::store::{Desk, RefusalRows};

/// The types that each source may send, and the policy of the team; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AllowedTypes {
    types: Arc<BTreeMap<String, Types>>,
    /// While `team.enabled` is on.
    team: Option<Arc<TeamPolicy>>,
    rows: Arc<RefusalRows>,
}

/// An event that was refused for a reason that the audit log records.
#[derive(Debug)]
pub(super) struct RefusedEvent {
    kind: EventKind,
    reason: Reason,
    /// Of an event that the policy of the team refuses.
    member: Option<MemberId>,
}

impl RefusedEvent {
    /// The event of an envelope with this problem; `None`: it has no row.
    pub(super) fn of(envelope: &Envelope, problem: ProblemKind) -> Option<Self> {
        let reason = problem.recorded_reason()?;
        let kind = EventKind::from_name(&envelope.type_name)?;
        let named = envelope.data.get(MEMBER_ID).and_then(Value::as_str).or(envelope.subject.as_deref());
        // An id that is an address is personal data, which the audit log keeps of no one.
        let member = named.and_then(MemberId::accept).filter(|id| !is_address(id.as_str()));
        Some(Self { kind, reason, member: member.filter(|_| problem != ProblemKind::TypeNotAllowed) })
    }

    fn row(&self, source: &str, now: Timestamp) -> AuditEntry {
        let action = if self.reason == Reason::TypeNotAllowed { Action::EventReceive } else { Action::TeamChange };
        let of_source = || AuditTarget::new(TargetKind::Source, source);
        let of_member = |member: &MemberId| AuditTarget::new(TargetKind::Member, member.as_str());
        let target = self.member.as_ref().map_or_else(of_source, of_member);
        let entry = AuditEntry::done(now, Actor::Source(source.to_owned()), action, target);
        AuditEntry { to: Some(self.kind.name().to_owned()), ..entry }
    }
}

impl AllowedTypes {
    /// The types by `source.types`. A source that is not configured (RabbitMQ's need not be) has the default.
    pub fn of(sources: &[Source]) -> Self {
        let types = sources.iter().map(|source| (source.name.clone(), source.types.clone())).collect();
        Self { types: Arc::new(types), team: None, rows: Arc::default() }
    }

    /// As [`AllowedTypes::of`], with the policy of the team. While `team.enabled` is off, nothing is refused by it.
    #[must_use]
    pub fn with_team(self, policy: &TeamPolicy) -> Self {
        Self { team: policy.is_enabled.then(|| Arc::new(policy.clone())), ..self }
    }

    /// The policy of a team that is administered: what it refuses at once is refused at the entrance.
    pub(super) fn team(&self) -> Option<&TeamPolicy> {
        self.team.as_deref()
    }

    /// Writes down events that were refused. No refusal waits long for its row.
    pub(super) async fn note_refused(&self, store: &Desk, source: &str, refused: &[RefusedEvent], now: Timestamp) {
        for reason in ProblemKind::ALL.into_iter().filter_map(ProblemKind::recorded_reason) {
            let of_reason = refused.iter().filter(|event| event.reason == reason);
            self.rows.note(store, of_reason.map(|event| event.row(source, now)), reason.name()).await;
        }
    }

    /// Refuses a type that the source may not send. A type that the bridge does not know passes: it is no event.
    pub fn check(&self, source: &str, type_name: &str) -> Result<(), Problem> {
        let of_unknown = Types::default();
        let types = self.types.get(source).unwrap_or(&of_unknown);
        if types.allow(type_name) || EventKind::from_name(type_name).is_none() {
            return Ok(());
        }
        let allowed = types.patterns().join(", ");
        let detail = format!("source `{source}` may send {allowed} (source.types), and not {type_name}");
        Err(Problem::new(ProblemKind::TypeNotAllowed, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A source sends what its types say and unknown types are no matter of permission.
    #[test]
    fn a_source_sends_what_its_types_allow() {
        let text = "[[source]]\nname = 'crm'\nverify = 'none'\ntypes = ['customer.signed_up', 'team.*']\n\
                    [[source]]\nname = 'billing'\nverify = 'none'";
        let config = Config::parse(text, &BTreeMap::new(), true).expect("it is right");
        let types = AllowedTypes::of(&config.sources);
        for (source, type_name, is_allowed) in [
            ("crm", "customer.signed_up", true),
            ("crm", "customer.churned", false),
            ("crm", "customer.unheard_of", true),
            ("billing", "customer.churned", true),
            ("nowhere configured", "customer.churned", true),
        ] {
            let checked = types.check(source, type_name);
            assert_eq!(checked.is_ok(), is_allowed, "{source} {type_name}");
            if let Err(problem) = checked {
                assert_eq!((problem.kind.status(), problem.kind.name()), (403, "type-not-allowed"));
            }
        }
        for (pattern, of_customers, of_the_team) in [("customer.*", true, false), ("team.*", false, true)] {
            let text = format!("[[source]]\nname = 'a'\nverify = 'none'\ntypes = ['{pattern}']");
            let config = Config::parse(&text, &BTreeMap::new(), true).expect("it is right");
            let types = &config.sources[0].types;
            assert_eq!(types.allow("customer.moved"), of_customers, "{pattern}");
            assert_eq!(types.allow("team.member_joined"), of_the_team, "{pattern}");
        }
    }
}
