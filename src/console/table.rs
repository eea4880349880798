//! The pages of the console in one table: path, method, role and acts of each, and its place in the navigation.
//!
//! A new page is a value of [`ConsoleRoute`]; each `match` here, and the one in `routes.rs`, asks for its part, so that no page is
//! mounted without a role.
//!
//! Before: nothing. After: the guard, the frame of the pages, and `routes.rs`, which mounts them.

use super::words::{self, Text};
use crate::admin::ApiMethod;
use crate::domain::audit::Action;
use crate::domain::identity::Role;
use crate::domain::names::names;

/// Prefix of the console's paths.
pub(super) const SCOPE: &str = "/console";

/// Path of the login.
pub(super) const LOGIN: &str = "/console/login";

/// Path of the form of a login link.
pub(super) const LOGIN_BY_LINK: &str = "/console/login/link";

/// Path of the way to the identity provider.
pub(super) const OIDC_BEGIN: &str = "/console/login/oidc";

/// Path to which the identity provider leads browsers back.
pub const OIDC_CALLBACK: &str = "/console/login/oidc/callback";

names! {
    /// A page of the console, or a form of one. They are mounted in this order.
    pub enum ConsoleRoute {
        Overview = "overview",
        Customers = "customers",
        FindCustomers = "findCustomers",
        Customer = "customer",
        Event = "event",
        RetryEvent = "retryEvent",
        ApproveEvent = "approveEvent",
        SkipEvent = "skipEvent",
        Fleet = "fleet",
        Support = "support",
        HeatPump = "heatPump",
        MakeLink = "makeLink",
        Parked = "parked",
        PreviewRetry = "previewRetry",
        OrderRetry = "orderRetry",
        Retry = "retry",
        StopRetry = "stopRetry",
        Team = "team",
        Audit = "audit",
        ExportAudit = "exportAudit",
        Settings = "settings",
        RevokeSession = "revokeSession",
        ShowLogin = "showLogin",
        LogIn = "logIn",
        LogInByLink = "logInByLink",
        BeginOidc = "beginOidc",
        EndOidc = "endOidc",
        LogOut = "logOut",
        Choose = "choose",
        Asset = "asset",
    }
}

/// A row of the table of pages.
#[derive(Debug, Clone, Copy)]
pub struct ConsoleRow {
    /// Its method.
    pub method: ApiMethod,
    /// Its path, with `{id}` for an id.
    pub path: &'static str,
    /// The least role that may use it; `None`: it wants no session.
    pub role: Option<Role>,
    /// The acts that it carries out, as the audit log names them; none if it only reads.
    pub actions: &'static [Action],
}

impl ConsoleRoute {
    /// Its row.
    pub const fn row(self) -> ConsoleRow {
        match self {
            Self::Overview => page("/console", Role::Viewer),
            Self::Customers => page("/console/customers", Role::Viewer),
            Self::FindCustomers => form("/console/customers/find", Role::Support, &[]),
            Self::Customer => page("/console/customers/{id}", Role::Viewer),
            Self::Event => page("/console/events/{id}", Role::Viewer),
            Self::RetryEvent => form("/console/events/{id}/retry", Role::Admin, &[Action::EventRetry]),
            Self::ApproveEvent => form("/console/events/{id}/approve", Role::Admin, &[Action::EventApprove]),
            Self::SkipEvent => form("/console/events/{id}/skip", Role::Admin, &[Action::EventSkip]),
            Self::Parked => page("/console/parked", Role::Viewer),
            Self::PreviewRetry => page("/console/parked/retry", Role::Admin),
            Self::OrderRetry => form("/console/parked/retry", Role::Admin, &[Action::RetryOrder, Action::RetryApprove]),
            Self::Retry => page("/console/retries/{id}", Role::Viewer),
            Self::StopRetry => form("/console/retries/{id}/stop", Role::Admin, &[Action::RetryStop]),
            Self::Audit => page("/console/audit", Role::Viewer),
            Self::ExportAudit => form("/console/audit/export", Role::Admin, &[Action::AuditExport]),
            Self::Settings => page("/console/settings", Role::Viewer),
            Self::RevokeSession => form("/console/sessions/{id}/revoke", Role::Admin, &[Action::SessionRevoke]),
            Self::Fleet => page("/console/fleet", Role::Viewer),
            Self::Support => page("/console/support", Role::Viewer),
            Self::HeatPump => page("/console/heat-pumps/{id}", Role::Viewer),
            Self::MakeLink => {
                let actions = &[Action::LinkCreate, Action::PoderoResolveCue];
                form("/console/heat-pumps/{id}", Role::Support, actions)
            }
            Self::Team => page("/console/team", Role::Viewer),
            Self::ShowLogin => ConsoleRow { role: None, ..page(LOGIN, Role::Viewer) },
            Self::LogIn => ConsoleRow { role: None, ..form(LOGIN, Role::Viewer, &[Action::SessionOpen]) },
            Self::LogInByLink => ConsoleRow { role: None, ..form(LOGIN_BY_LINK, Role::Viewer, &[Action::SessionOpen]) },
            Self::BeginOidc => ConsoleRow { role: None, ..page(OIDC_BEGIN, Role::Viewer) },
            Self::EndOidc => {
                ConsoleRow { role: None, actions: &[Action::SessionOpen], ..page(OIDC_CALLBACK, Role::Viewer) }
            }
            Self::LogOut => form("/console/logout", Role::Viewer, &[Action::SessionClose]),
            Self::Choose => ConsoleRow { role: None, ..form("/console/view", Role::Viewer, &[]) },
            Self::Asset => ConsoleRow { role: None, ..page("/console/assets/{id}", Role::Viewer) },
        }
    }

    /// Its name in the navigation; `None`: it has no place there.
    pub(super) const fn place(self) -> Option<Text> {
        match self {
            Self::Overview => Some(words::OVERVIEW),
            Self::Customers => Some(words::CUSTOMERS),
            Self::Parked => Some(words::PARKED),
            Self::Audit => Some(words::AUDIT),
            Self::Settings => Some(words::SETTINGS),
            Self::FindCustomers
            | Self::Customer
            | Self::Event
            | Self::RetryEvent
            | Self::ApproveEvent
            | Self::SkipEvent
            | Self::PreviewRetry
            | Self::OrderRetry
            | Self::Retry
            | Self::StopRetry
            | Self::ExportAudit
            | Self::RevokeSession
            | Self::HeatPump
            | Self::MakeLink
            | Self::ShowLogin
            | Self::LogIn
            | Self::LogInByLink
            | Self::BeginOidc
            | Self::EndOidc
            | Self::LogOut
            | Self::Choose
            | Self::Asset => None,
            Self::Fleet => Some(words::FLEET),
            Self::Support => Some(words::SUPPORT),
            Self::Team => Some(words::TEAM),
        }
    }
}

/// A page, which only reads.
const fn page(path: &'static str, role: Role) -> ConsoleRow {
    ConsoleRow { method: ApiMethod::Get, path, role: Some(role), actions: &[] }
}

/// A form that carries out one of these acts.
const fn form(path: &'static str, role: Role, actions: &'static [Action]) -> ConsoleRow {
    ConsoleRow { method: ApiMethod::Post, path, role: Some(role), actions }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms that change nothing. Every other form has acts.
    const READING_FORMS: [ConsoleRoute; 2] = [
        // An address is a person's, and stands in no address of a page: the search is sent in a body.
        ConsoleRoute::FindCustomers,
        // Language, theme and zone are kept in a cookie of the browser.
        ConsoleRoute::Choose,
    ];

    #[test]
    fn no_page_acts_and_each_is_below_the_console_once() {
        for route in ConsoleRoute::ALL {
            let ConsoleRow { method, path, actions, .. } = route.row();
            assert!(path == SCOPE || path.strip_prefix(SCOPE).is_some_and(|rest| rest.starts_with('/')), "{path}");
            // An identity provider leads the browser back by a GET; state and cookie prove that it began the login.
            let is_way_back = route == ConsoleRoute::EndOidc;
            let acts = (method == ApiMethod::Post && !READING_FORMS.contains(&route)) || is_way_back;
            assert_eq!(
                !actions.is_empty(),
                acts,
                "{path}: a form has acts and a page has none, but for those named here"
            );
            assert!(route.place().is_none() || method == ApiMethod::Get, "{path}");
        }
        let mut rows: Vec<_> = ConsoleRoute::ALL.map(|route| (route.row().method, route.row().path)).to_vec();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ConsoleRoute::ALL.len(), "no two routes are the same");
    }
}
