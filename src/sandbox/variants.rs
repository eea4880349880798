//! The questions on which Podero's pages contradict each other or are silent: one switch for each.
//!
//! Every default is the reading that the newer page or the schema supports. It must never hold a switch that no
//! page gives a reason for: what is documented clearly is simply so.
//!
//! Before: nothing. After: [`crate::sandbox::model`], [`crate::sandbox::routes`].

use serde::{Deserialize, Serialize};

use crate::domain::names::names;

/// The switches; `PATCH /_sandbox/variants` sets any of them while the sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Variants {
    /// Answers carry `zip_code` as a number where it is one (`partner-api/reference/users`: integer), and a number is
    /// accepted. Default: text, as in the schemas.
    pub zip_code_as_integer: bool,
    /// Name of the country field, read and written: `country` in schemas, `country_iso2` in two guides.
    pub country_field: CountryField,
    /// `include_deleted` has no effect, as on the copy of the list page that does not name it.
    pub include_deleted_ignored: bool,
    /// Lists of users, buildings and heat pumps come as `{total, items}` in pages (`limit` 1 to 200, default 50;
    /// `offset`), as the session list of electric vehicles does. Default: bare arrays.
    pub list_envelope: bool,
    /// `resolution_link` is a text (dashboard guide) instead of an object (cues pages).
    pub resolution_link_as_text: bool,
    /// Items of the heat-pump list carry `actions`. Default: the detail answer alone.
    pub actions_in_list: bool,
    /// Users without `organization_id` and `num_*`, with `location_last_updated`: the getting-started example.
    pub older_user_shape: bool,
    /// GET `…/buildings` is answered; no page shows it.
    pub building_list_supported: bool,
    /// DELETE `…/buildings/{building_id}` is answered; no page shows it.
    pub building_delete_supported: bool,
    /// PUT of a building without `name` is refused, as its schema says; guides call PUT partial.
    pub building_put_requires_name: bool,
    /// Status of a created user, building or heat pump: 200 or 201; not documented.
    pub created_status: u16,
    /// `soft_delete` has no effect: every DELETE of a user is final, as on the older team page.
    pub soft_delete_ignored: bool,
    /// Status of a refused duplicate: 422, 409 or 400; not documented.
    pub duplicate_status: u16,
    /// A soft-deleted user keeps their e-mail address occupied; not documented.
    pub soft_deleted_holds_email: bool,
    /// A second user with the same `external_user_id` is refused; not documented.
    pub external_user_id_unique: bool,
    /// A repeated POST with a known `Idempotency-Key` gets the first answer; not documented.
    pub honour_idempotency_keys: bool,
    /// POST `…/heat-pumps/{heat_pump_id}/auth_session` is answered; documented for other devices only.
    pub auth_session_supported: bool,
    /// Whom staff manage: three pages say three things.
    pub staff_rights: StaffRights,
    /// A user with the role `user` may change their own data. Default: they see it, as the team page says.
    pub users_edit_own_data: bool,
    /// Only admins delete buildings, as the older permission table says; the newer one does not name buildings.
    pub building_delete_admin_only: bool,
}

names! {
    /// Name of the country field.
    pub enum CountryField {
        Country = "country",
        CountryIso2 = "country_iso2",
    }

    /// Whom staff manage beside reading everyone. Nothing of it lets them change a role.
    pub enum StaffRights {
        /// Users of role `user` (`…/back-office/team-administration`: neither staff nor admins).
        EndUsers = "end_users",
        /// Also staff (`…/getting-started/create-user`: they cannot manage admins).
        EndUsersAndStaff = "end_users_and_staff",
        /// They edit every user, and create and delete those of role `user` (`…/overview/introduction`: view and edit all
        /// other users).
        EditAll = "edit_all",
    }
}

impl Default for Variants {
    fn default() -> Self {
        Self {
            zip_code_as_integer: false,
            country_field: CountryField::Country,
            include_deleted_ignored: false,
            list_envelope: false,
            resolution_link_as_text: false,
            actions_in_list: false,
            older_user_shape: false,
            building_list_supported: true,
            building_delete_supported: true,
            building_put_requires_name: true,
            created_status: 200,
            soft_delete_ignored: false,
            duplicate_status: 422,
            soft_deleted_holds_email: false,
            external_user_id_unique: false,
            honour_idempotency_keys: false,
            auth_session_supported: false,
            staff_rights: StaffRights::EndUsers,
            users_edit_own_data: false,
            building_delete_admin_only: true,
        }
    }
}

impl Variants {
    /// Says whether the two statuses are among those that the sandbox can be switched to.
    pub fn are_valid(&self) -> bool {
        matches!(self.created_status, 200 | 201) && matches!(self.duplicate_status, 400 | 409 | 422)
    }
}
