//! From an envelope to an event, whomever it is about.
//!
//! Before: [`super::cloudevents`]. After: [`super::wire`] reads an event of a customer, [`super::team_wire`] one of a member.

use super::cloudevents::Envelope;
use super::{team_wire, wire};
use crate::domain::event::EventKind;
use crate::domain::team::TeamPolicy;
use crate::domain::work::SentEvent;
use crate::domain::{EventId, Timestamp};
use crate::problem::Problem;

/// Translates one event. With the policy of a team that is administered, what it refuses at once is a problem.
pub(super) fn event(
    envelope: &Envelope,
    id: EventId,
    received_at: Timestamp,
    team: Option<&TeamPolicy>,
) -> Result<SentEvent, Problem> {
    match EventKind::from_name(&envelope.type_name).filter(|kind| kind.is_of_team()) {
        Some(kind) => team_wire::event(envelope, kind, id, received_at, team).map(SentEvent::Member),
        None => wire::event(envelope, id, received_at).map(SentEvent::Customer),
    }
}
