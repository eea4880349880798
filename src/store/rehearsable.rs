//! A parked event with what is known of its customer or member: all that a rehearsal of its retry takes.
//!
//! Reads only.
//!
//! Before: [`crate::store::parking`]. After: [`crate::admin`] rehearses it.

use super::db::query;
use super::error::Error;
use super::handle::StoreView;
use crate::domain::EventId;
use crate::domain::customer::Customer;
use crate::domain::event::{Event, EventState};
use crate::domain::team::{TeamEvent, TeamMember, member_of_lane};

/// An event as its retry would find it.
#[derive(Debug, Clone)]
pub enum Rehearsable {
    /// An event of a customer, and what is known of them.
    Customer(Event, Customer),
    /// An event of a member, and what is known of them.
    Member(TeamEvent, TeamMember),
    /// A message that never became an event: its retry reads it again.
    Message,
    /// It is not parked.
    NotParked(EventState),
}

impl StoreView {
    /// The event of this id as its retry would find it, with the number of its lane's events that are pending; `None`: no event
    /// has the id.
    pub async fn rehearsable(&self, id: EventId) -> Result<Option<(Rehearsable, u64)>, Error> {
        let row = query("SELECT state, lane, event FROM events WHERE id = $1").bind(id);
        let row: Option<(EventState, Option<String>, Option<String>)> = row.fetch_optional(&self.readers).await?;
        let Some((state, lane, event)) = row else { return Ok(None) };
        if state != EventState::Parked {
            return Ok(Some((Rehearsable::NotParked(state), 0)));
        }
        let (Some(lane), Some(event)) = (lane, event) else { return Ok(Some((Rehearsable::Message, 0))) };
        let unreadable = |error: serde_json::Error| Error::Unreadable(error.to_string());
        if member_of_lane(&lane).is_some() {
            let (member, pending) = self.knowledge_of_member(&lane).await?;
            let event = serde_json::from_str(&event).map_err(unreadable)?;
            return Ok(Some((Rehearsable::Member(event, member), pending)));
        }
        let (customer, pending) = self.knowledge(&lane).await?;
        let event = serde_json::from_str(&event).map_err(unreadable)?;
        Ok(Some((Rehearsable::Customer(event, customer), pending)))
    }
}
