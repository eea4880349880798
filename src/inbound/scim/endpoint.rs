//! The state of the SCIM endpoint.
//!
//! Before: [`crate::app`] makes it. After: [`super::routes`].

use futures_util::future::BoxFuture;

use super::super::bodies::BodyBudget;
use super::super::inbox::Inbox;
use super::access::ScimAccess;
use crate::config::ScimToken;
use crate::domain::plan::Policy;
use crate::domain::scim::RoleFrom;
use crate::listener::connections::ProvedPeers;

/// State of the SCIM endpoint; the listener's workers share it.
pub struct ScimEndpoint {
    /// Accepts events.
    pub inbox: Inbox,
    /// Knows the callers.
    pub access: ScimAccess,
    /// The operator's choices.
    pub policy: Policy,
    /// `scim.role_from`.
    pub role_from: RoleFrom,
    /// The memory for bodies.
    pub bodies: BodyBudget,
    /// Peers that sent something with a valid token.
    pub proved: ProvedPeers,
    /// Reads a new list of the staff at Podero, and keeps it.
    pub list_staff: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl ScimEndpoint {
    /// `true` if there is anyone who may call.
    pub fn is_open(tokens: &[ScimToken]) -> bool {
        !tokens.is_empty()
    }
}
