//! SCIM 2.0 (RFC 7643, RFC 7644) in the core's terms: an identity provider speaks of users and groups, the bridge of events of members.
//!
//! Pure. A resource is what was said of it and what the facts of its member say since; a request becomes the events by which the two
//! differ. `id` is the bridge's, `externalId` the provider's, and neither is ever taken for the other (docs/adr/0032).
//!
//! ```text
//! request -> document (user, patch) -> change (record, events) -> permission (may they?)      view <- record + facts
//! ```
//!
//! Before: [`crate::inbound`] reads the request. After: [`crate::store`] keeps the record and accepts the events in one transaction.

mod change;
mod discovery;
mod document;
mod error;
mod filter;
mod group;
mod known;
mod patch;
mod path;
mod permission;
mod record;
mod reply;
mod terms;

pub use change::{ScimChange, ScimContext, ScimWrite, change_user, delete_user, no_such_user, regroup};
pub use discovery::{resource_type, resource_types, schema, schemas, service_provider_config};
pub use document::ScimDocument;
pub use error::{ScimError, ScimType};
pub use filter::{FILTER_BYTES_MAX, GroupFilter, ScimFilter};
pub use group::{GROUP_CHANGES_MAX, GroupChange, ScimGroup, change_group, read_group_patch, read_group_put};
pub use known::{KnownUser, OpenTeamEvent, ScimState, ScimView};
pub use patch::{OPERATIONS_MAX, PatchOperation, patch_document, read_patch};
pub use permission::{Permission, PolicyAtHand, permission};
pub use record::{ScimRecord, derived_id};
pub use reply::{PAGE_MAX, Projection, ScimPage, group_json, list_json, user_json};
pub use terms::{BRIDGE_SCHEMA, GROUP_SCHEMA, RoleFrom, SCIM_PATH, USER_SCHEMA};

#[cfg(test)]
mod tests;
