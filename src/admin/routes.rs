//! The routes of the admin API: one table, from which they are mounted, guarded and documented.
//!
//! A new route is a value of [`ApiRoute`]; each `match` here, and that of the OpenAPI document, asks for its part. So no route
//! is mounted without a role, and none is documented with another one.
//!
//! Before: [`crate::admin`] mounts them. After: the handlers in this folder; [`crate::spec`] documents them.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError, Route};

use super::error::ApiError;
use super::guard::SCOPE;
use super::state::Admin;
use super::{
    audit, events, guard, health, history, overview, parked, pumps, rehearsal, retries, sessions, settings, team,
};
use crate::domain::audit::Action;
use crate::domain::identity::Role;
use crate::domain::names::names;
use crate::problem::ProblemKind;

names! {
    /// A route of the admin API, by the id of its operation in OpenAPI. They are mounted in this order.
    pub enum ApiRoute {
        Livez = "livez",
        Readyz = "readyz",
        Metrics = "metrics",
        OpenApi = "openapi",
        Overview = "overview",
        History = "history",
        OpenEvents = "openEvents",
        Event = "event",
        Customers = "customers",
        Customer = "customer",
        CustomerTimeline = "customerTimeline",
        Team = "team",
        Member = "member",
        TeamReview = "teamReview",
        Parked = "parked",
        ParkedGroups = "parkedGroups",
        ParkedPreview = "parkedPreview",
        OrderRetry = "orderRetry",
        Retries = "retries",
        Retry = "retry",
        StopRetry = "stopRetry",
        Rehearsal = "rehearsal",
        RetryParked = "retryParked",
        SkipParked = "skipParked",
        HeatPumps = "heatPumps",
        Fleet = "fleet",
        HeatPump = "heatPump",
        ReconnectLink = "reconnectLink",
        Alerts = "alerts",
        Audit = "audit",
        ExportAudit = "exportAudit",
        Operators = "operators",
        Settings = "settings",
        Sessions = "sessions",
        RevokeSession = "revokeSession",
    }

    /// The method of a route.
    pub enum ApiMethod {
        Get = "GET",
        Post = "POST",
    }
}

/// A row of the table of routes.
#[derive(Debug, Clone, Copy)]
pub struct RouteRow {
    /// Its method.
    pub method: ApiMethod,
    /// Its path, with `{id}` for an id.
    pub path: &'static str,
    /// The least role that may use it; `None`: it wants no token.
    pub role: Option<Role>,
    /// The acts that it carries out, as the audit log names them; none if it only reads.
    pub actions: &'static [Action],
}

impl ApiRoute {
    /// Its row.
    pub const fn row(self) -> RouteRow {
        match self {
            Self::Livez => open("/livez"),
            Self::Readyz => open("/readyz"),
            Self::Metrics => open("/metrics"),
            Self::OpenApi => open("/openapi.json"),
            Self::Overview => read("/v1/overview", Role::Viewer),
            Self::History => read("/v1/history", Role::Viewer),
            Self::OpenEvents => read("/v1/events", Role::Viewer),
            Self::Event => read("/v1/events/{id}", Role::Viewer),
            Self::Customers => read("/v1/customers", Role::Support),
            Self::Customer => read("/v1/customers/{id}", Role::Viewer),
            Self::CustomerTimeline => read("/v1/customers/{id}/timeline", Role::Viewer),
            Self::Team => read("/v1/team", Role::Viewer),
            Self::Member => read("/v1/team/{id}", Role::Viewer),
            Self::TeamReview => read("/v1/team-review", Role::Viewer),
            Self::Parked => read("/v1/parked", Role::Viewer),
            Self::ParkedGroups => read("/v1/parked/groups", Role::Viewer),
            Self::ParkedPreview => read("/v1/parked/preview", Role::Viewer),
            Self::OrderRetry => act("/v1/parked/retry", Role::Admin, &[Action::RetryOrder, Action::RetryApprove]),
            Self::Retries => read("/v1/parked/retries", Role::Viewer),
            Self::Retry => read("/v1/parked/retries/{id}", Role::Viewer),
            Self::StopRetry => act("/v1/parked/retries/{id}/stop", Role::Admin, &[Action::RetryStop]),
            Self::Rehearsal => read("/v1/parked/{id}/rehearsal", Role::Support),
            Self::RetryParked => act("/v1/parked/{id}/retry", Role::Admin, &[Action::EventRetry, Action::EventApprove]),
            Self::SkipParked => act("/v1/parked/{id}/skip", Role::Admin, &[Action::EventSkip]),
            Self::HeatPumps => read("/v1/heat-pumps", Role::Viewer),
            Self::Fleet => read("/v1/heat-pumps/summary", Role::Viewer),
            Self::HeatPump => read("/v1/heat-pumps/{id}", Role::Viewer),
            Self::ReconnectLink => {
                let actions = &[Action::LinkCreate, Action::PoderoResolveCue];
                act("/v1/heat-pumps/{id}/reconnect-link", Role::Support, actions)
            }
            Self::Alerts => read("/v1/alerts", Role::Viewer),
            Self::Audit => read("/v1/audit", Role::Viewer),
            Self::Operators => read("/v1/operators", Role::Admin),
            Self::Settings => read("/v1/settings", Role::Admin),
            Self::ExportAudit => RouteRow { actions: &[Action::AuditExport], ..read("/v1/audit/export", Role::Admin) },
            Self::Sessions => read("/v1/sessions", Role::Viewer),
            Self::RevokeSession => act("/v1/sessions/{id}/revoke", Role::Admin, &[Action::SessionRevoke]),
        }
    }

    /// The parameters of its query. Any other is refused: a filter with a slip in its name would let every row pass.
    pub const fn query(self) -> &'static [&'static str] {
        match self {
            Self::OpenEvents => &["state", "customer_id", "after", "limit"],
            Self::Customers => &["email"],
            Self::Team | Self::CustomerTimeline => &["after", "limit"],
            Self::TeamReview => &["inactive_days"],
            Self::Parked => &["reason", "after", "limit"],
            Self::ParkedGroups | Self::ParkedPreview => &["reason", "source", "since", "until"],
            Self::HeatPumps => &["state", "manufacturer", "region", "after", "limit"],
            Self::Alerts => &["open", "after", "limit"],
            Self::Audit => &["actor", "action", "target", "since", "until", "after", "limit"],
            Self::ExportAudit => &["actor", "action", "target", "since", "until", "format"],
            Self::Livez
            | Self::Readyz
            | Self::Metrics
            | Self::OpenApi
            | Self::Overview
            | Self::History
            | Self::Event
            | Self::Customer
            | Self::Member
            | Self::OrderRetry
            | Self::Retries
            | Self::Retry
            | Self::StopRetry
            | Self::Rehearsal
            | Self::RetryParked
            | Self::SkipParked
            | Self::Fleet
            | Self::HeatPump
            | Self::ReconnectLink
            | Self::Operators
            | Self::Settings
            | Self::Sessions
            | Self::RevokeSession => &[],
        }
    }

    fn route(self) -> Route {
        let row = self.row();
        let route = match row.method {
            ApiMethod::Get => web::method(Method::GET),
            ApiMethod::Post => web::method(Method::POST),
        };
        let route = match self {
            Self::Livez => route.to(health::livez),
            Self::Readyz => route.to(health::readyz),
            Self::Metrics => route.to(health::metrics),
            Self::OpenApi => route.to(openapi),
            Self::Overview => route.to(overview::show),
            Self::History => route.to(history::show),
            Self::OpenEvents => route.to(events::open),
            Self::Event => route.to(events::event),
            Self::Customers => route.to(events::customers),
            Self::Customer => route.to(events::customer),
            Self::CustomerTimeline => route.to(events::timeline),
            Self::Team => route.to(team::list),
            Self::Member => route.to(team::member),
            Self::TeamReview => route.to(team::show_review),
            Self::Parked => route.to(parked::list),
            Self::ParkedGroups => route.to(parked::groups),
            Self::ParkedPreview => route.to(parked::preview),
            Self::OrderRetry => route.to(retries::order),
            Self::Retries => route.to(retries::list),
            Self::Retry => route.to(retries::one),
            Self::StopRetry => route.to(retries::stop),
            Self::Rehearsal => route.to(rehearsal::rehearse),
            Self::RetryParked => route.to(parked::retry),
            Self::SkipParked => route.to(parked::skip),
            Self::HeatPumps => route.to(pumps::heat_pumps),
            Self::Fleet => route.to(pumps::summary),
            Self::HeatPump => route.to(pumps::heat_pump),
            Self::ReconnectLink => route.to(pumps::reconnect_link),
            Self::Alerts => route.to(pumps::alerts),
            Self::Audit => route.to(audit::list),
            Self::ExportAudit => route.to(audit::export_audit),
            Self::Operators => route.to(settings::operators),
            Self::Settings => route.to(settings::show),
            Self::Sessions => route.to(sessions::list),
            Self::RevokeSession => route.to(sessions::revoke),
        };
        match row.role {
            Some(role) => route.wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
                guard::with_role(role, self.query(), request, next)
            })),
            None => route,
        }
    }
}

/// A route that wants no token.
const fn open(path: &'static str) -> RouteRow {
    RouteRow { method: ApiMethod::Get, path, role: None, actions: &[] }
}

/// A route that only reads.
const fn read(path: &'static str, role: Role) -> RouteRow {
    RouteRow { method: ApiMethod::Get, path, role: Some(role), actions: &[] }
}

/// A route that carries out one of these acts.
const fn act(path: &'static str, role: Role, actions: &'static [Action]) -> RouteRow {
    RouteRow { method: ApiMethod::Post, path, role: Some(role), actions }
}

/// Mounts every route. Callers of those with a role are known before their path is looked at, so that a stranger cannot tell
/// which paths there are.
pub(super) fn mount(config: &mut ServiceConfig) {
    let mut scope = web::scope(SCOPE).wrap(from_fn(guard::with_caller));
    for path in paths() {
        match path.strip_prefix(SCOPE) {
            Some(below) => scope = scope.service(resource(path, below)),
            None => {
                config.service(resource(path, path));
            }
        }
    }
    config.service(scope);
}

/// The paths in their order, each once.
fn paths() -> Vec<&'static str> {
    let mut paths = Vec::new();
    for path in ApiRoute::ALL.map(|route| route.row().path) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The routes of a path, mounted at `at`. Another method is answered with those that there are.
fn resource(path: &str, at: &str) -> Resource {
    let routes = ApiRoute::ALL.into_iter().filter(|route| route.row().path == path);
    let methods = routes.clone().map(|route| route.row().method.name()).collect::<Vec<_>>().join(", ");
    let resource = routes.fold(web::resource(at), |resource, route| resource.route(route.route()));
    resource.default_service(web::to(move || {
        let methods = methods.clone();
        async move {
            let mut refusal = ApiError::new(ProblemKind::MethodNotAllowed, format!("use {methods}")).error_response();
            let allow = HeaderValue::from_str(&methods).unwrap_or_else(|_| HeaderValue::from_static(""));
            refusal.headers_mut().insert(header::ALLOW, allow);
            refusal
        }
    }))
}

async fn openapi(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(admin.openapi.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_wants_a_role_is_below_v1_and_whatever_acts_is_no_get() {
        for route in ApiRoute::ALL {
            let RouteRow { method, path, role, actions } = route.row();
            assert_eq!(path.starts_with("/v1/"), role.is_some(), "{path}");
            // An export changes nothing; that it was made is all that is written down.
            let only_reads = actions.iter().all(|action| *action == Action::AuditExport);
            assert_eq!(method == ApiMethod::Get, only_reads, "{path}");
            assert!(actions.is_empty() || role > Some(Role::Viewer), "{path}: a viewer changes nothing");
        }
        let mut rows: Vec<_> = ApiRoute::ALL.map(|route| (route.row().method, route.row().path)).to_vec();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ApiRoute::ALL.len(), "no two routes are the same");
    }
}
