//! SCIM 2.0 at the webhook listener: an identity provider provisions the team, and each request becomes events in the same inbox.
//!
//! ```text
//! routes -> access (token, rate) -> requests (read, ask the store) -> domain::scim -> store
//! ```
//!
//! Before: Entra ID, Okta, or another client with a token of `[[scim.token]]`. After: [`crate::store`], which answers after the commit.

mod access;
mod endpoint;
mod requests;
mod routes;

pub use access::ScimAccess;
pub use endpoint::ScimEndpoint;
pub use requests::LIST_WAIT_MAX;
pub use routes::configure;
