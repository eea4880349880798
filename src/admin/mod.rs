//! The admin API: health, metrics, timelines, heat pumps, and parked events.
//!
//! `/livez`, `/readyz` and `/metrics` answer every client that reaches the address; everything under `/v1` wants the token when
//! one is configured, and without one the address is loopback (the configuration sees to that) and no web page is answered. It
//! changes nothing but the state of parked events.
//!
//! Before: an operator, Prometheus. After: [`crate::store`]; for links, [`crate::podero`].

mod error;
mod events;
mod guard;
mod health;
mod page;
mod parked;
mod pumps;
mod retries;
mod state;

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError, Route};

use crate::problem::ProblemKind;
use error::ApiError;

pub use events::OpenQuery;
pub use guard::not_by_a_page;
pub use page::PageQuery;
pub use parked::{ParkedQuery, RetryOne};
pub use pumps::{AlertsQuery, LinkRequest, PumpsQuery, ReconnectLink};
pub use state::{Admin, Health, Links, Part};

/// Limit of a request's body in bytes: two addresses of landing pages, each character written as an escape, and some more.
const ORDER_BYTES_MAX: usize = 128 << 10;

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, admin: Arc<Admin>) {
    config
        .app_data(web::Data::from(admin))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|_, _| ApiError::malformed("see the query's names and values").into()),
        )
        .app_data(web::PayloadConfig::new(ORDER_BYTES_MAX))
        .app_data(web::PathConfig::default().error_handler(|_, _| ApiError::malformed("the path is not UTF-8").into()))
        .service(only("GET", "/livez", web::get().to(health::livez)))
        .service(only("GET", "/readyz", web::get().to(health::readyz)))
        .service(only("GET", "/metrics", web::get().to(health::metrics)))
        .service(only("GET", "/openapi.json", web::get().to(openapi)))
        .service(
            web::scope("/v1")
                .wrap(from_fn(guard::with_token))
                .service(only("GET", "/events", web::get().to(events::open)))
                .service(only("GET", "/events/{id}", web::get().to(events::event)))
                .service(only("GET", "/customers/{id}", web::get().to(events::customer)))
                .service(only("GET", "/parked", web::get().to(parked::list)))
                .service(only("POST", "/parked/retry", web::post().to(retries::order)))
                .service(only("GET", "/parked/retries", web::get().to(retries::list)))
                .service(only("GET", "/parked/retries/{id}", web::get().to(retries::one)))
                .service(only("POST", "/parked/retries/{id}/stop", web::post().to(retries::stop)))
                .service(only("POST", "/parked/{id}/retry", web::post().to(parked::retry)))
                .service(only("POST", "/parked/{id}/skip", web::post().to(parked::skip)))
                .service(only("GET", "/heat-pumps", web::get().to(pumps::heat_pumps)))
                .service(only("POST", "/heat-pumps/{id}/reconnect-link", web::post().to(pumps::reconnect_link)))
                .service(only("GET", "/alerts", web::get().to(pumps::alerts))),
        )
        .default_service(web::to(nothing_here));
}

/// A path that takes one method.
fn only(method: &'static str, path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(move || async move {
        let mut refusal = ApiError::new(ProblemKind::MethodNotAllowed, format!("use {method}")).error_response();
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
        refusal
    }))
}

async fn nothing_here() -> HttpResponse {
    ApiError::not_found("see /openapi.json").error_response()
}

async fn openapi(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(admin.openapi.clone())
}
