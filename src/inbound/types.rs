//! The types of events that a source may send: one check for all entrances, on the event and not on the message, so that a
//! mapping cannot get round it.
//!
//! Before: [`crate::inbound`] reads the envelope. After: [`crate::inbound::wire`] reads the event.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Source, Types};
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::event::EventKind;
use crate::domain::identity::Actor;
use crate::domain::verdict::Reason;
use crate::problem::{Problem, ProblemKind};
use crate::store::{Desk, RefusalRows};

/// The types that each source may send; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AllowedTypes {
    types: Arc<BTreeMap<String, Types>>,
    /// `team.enabled`.
    has_team: bool,
    rows: Arc<RefusalRows>,
}

impl AllowedTypes {
    /// The types by `source.types`. A source that is not configured (RabbitMQ's need not be) has the default.
    pub fn of(sources: &[Source]) -> Self {
        let types = sources.iter().map(|source| (source.name.clone(), source.types.clone())).collect();
        Self { types: Arc::new(types), has_team: false, rows: Arc::default() }
    }

    /// As [`AllowedTypes::of`], with `team.enabled`.
    #[must_use]
    pub fn with_team(self, has_team: bool) -> Self {
        Self { has_team, ..self }
    }

    /// True if the team is administered: what its policy refuses at once is refused at the entrance.
    pub(super) fn has_team(&self) -> bool {
        self.has_team
    }

    /// Writes down events that a source may not send. No refusal waits long for its row.
    pub(super) async fn note_refused(&self, store: &Desk, source: &str, kinds: &[EventKind], now: Timestamp) {
        let row = |kind: &EventKind| {
            let target = AuditTarget::new(TargetKind::Source, source);
            let entry = AuditEntry::done(now, Actor::Source(source.to_owned()), Action::EventReceive, target);
            AuditEntry { to: Some(kind.name().to_owned()), ..entry }
        };
        self.rows.note(store, kinds.iter().map(row), Reason::TypeNotAllowed.name()).await;
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
