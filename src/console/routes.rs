//! Mounts the pages of the table, each behind its role.
//!
//! Before: [`crate::console`]. After: the pages.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{Resource, Route};

use super::error::PageError;
use super::guard;
use super::table::{ConsoleRoute, SCOPE};
use super::{
    assets, audit, choose, customer, customers, event, fleet, login, oidc, overview, parked, retries, settings,
    support, team,
};
use crate::admin::{ApiMethod, export_audit};

fn route(of: ConsoleRoute) -> Route {
    let row = of.row();
    let route = match row.method {
        ApiMethod::Get => web::method(Method::GET),
        ApiMethod::Post => web::method(Method::POST),
    };
    let route = match of {
        ConsoleRoute::Overview => route.to(overview::page),
        ConsoleRoute::Customers => route.to(customers::page),
        ConsoleRoute::FindCustomers => route.to(customers::find),
        ConsoleRoute::Customer => route.to(customer::page),
        ConsoleRoute::Event => route.to(event::page),
        ConsoleRoute::RetryEvent => route.to(event::retry),
        ConsoleRoute::ApproveEvent => route.to(event::approve),
        ConsoleRoute::SkipEvent => route.to(event::skip),
        ConsoleRoute::Parked => route.to(parked::page),
        ConsoleRoute::PreviewRetry => route.to(retries::preview),
        ConsoleRoute::OrderRetry => route.to(retries::order),
        ConsoleRoute::Retry => route.to(retries::page),
        ConsoleRoute::StopRetry => route.to(retries::stop),
        ConsoleRoute::Audit => route.to(audit::page),
        // The route of the API: a stream, with a row of its own.
        ConsoleRoute::ExportAudit => route.to(export_audit),
        ConsoleRoute::Settings => route.to(settings::page),
        ConsoleRoute::RevokeSession => route.to(settings::revoke),
        ConsoleRoute::Fleet => route.to(fleet::page),
        ConsoleRoute::Support => route.to(support::search),
        ConsoleRoute::HeatPump => route.to(support::page),
        ConsoleRoute::MakeLink => route.to(support::make_link),
        ConsoleRoute::Team => route.to(team::page),
        ConsoleRoute::ShowLogin => route.to(login::show),
        ConsoleRoute::LogIn => route.to(login::log_in),
        ConsoleRoute::LogInByLink => route.to(login::log_in_by_link),
        ConsoleRoute::BeginOidc => route.to(oidc::begin),
        ConsoleRoute::EndOidc => route.to(oidc::end),
        ConsoleRoute::LogOut => route.to(login::log_out),
        ConsoleRoute::Choose => route.to(choose::choose),
        ConsoleRoute::Asset => route.to(assets::asset),
    };
    match row.role {
        Some(role) => route
            .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| guard::with_role(role, request, next))),
        None => route,
    }
}

/// Mounts every page. One who is not logged in does not find out which there are.
pub(super) fn mount(config: &mut ServiceConfig) {
    let mut scope = web::scope(SCOPE);
    let mut mounted = Vec::new();
    for path in ConsoleRoute::ALL.map(|route| route.row().path) {
        if !mounted.contains(&path) {
            mounted.push(path);
            scope = scope.service(resource(path));
        }
    }
    let bad_query = |_, _: &_| PageError::of(StatusCode::BAD_REQUEST).into();
    scope = scope
        .app_data(web::QueryConfig::default().error_handler(bad_query))
        .default_service(web::to(|| async { Err::<&str, PageError>(PageError::unknown()) }));
    config.service(scope.wrap(from_fn(guard::protect)));
}

/// The routes of a path.
fn resource(path: &'static str) -> Resource {
    let routes = ConsoleRoute::ALL.into_iter().filter(|route| route.row().path == path);
    let at = path.strip_prefix(SCOPE).unwrap_or(path);
    let resource = routes.fold(web::resource(at), |resource, of| resource.route(route(of)));
    resource
        .default_service(web::to(|| async { Err::<&str, PageError>(PageError::of(StatusCode::METHOD_NOT_ALLOWED)) }))
}
