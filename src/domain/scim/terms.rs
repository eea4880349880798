//! Names that the standard gives, or that the bridge has given, and the setting of the role.
//!
//! Before: nothing. After: every file of [`super`].

use super::super::names::names;

/// The schema of users.
pub const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// The schema of groups.
pub const GROUP_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// The schema of the bridge's own attributes of a user.
pub const BRIDGE_SCHEMA: &str = "urn:podero-bridge:scim:User";

/// The path under which everything is.
pub const SCIM_PATH: &str = "/scim/v2";

names! {
    /// The attribute that sets a member's role (`scim.role_from`).
    pub enum RoleFrom {
        /// Membership in the groups `staff` and `admin`.
        Groups = "groups",
        /// The attribute `roles`.
        Roles = "roles",
    }
}
