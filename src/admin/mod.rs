//! The admin API: health, metrics, timelines, heat pumps, and parked events.
//!
//! `/livez`, `/readyz` and `/metrics` answer anybody who reaches the address; everything under `/v1` wants the
//! token when one is configured, and without one the address is loopback (the configuration sees to that) and no web
//! page is answered. It changes nothing but the state of parked events.
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

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::alert::Knowledge;
use crate::domain::brake::Brake;
use crate::domain::event::EventKind;
use crate::metrics::{Metrics, Outcome};
use crate::problem::ProblemKind;
use crate::pump::Step;
use crate::store::{self, Gauges, Stepped, Store};
use error::ApiError;
use std::time::Duration;
use tokio::sync::Notify;

pub use guard::not_by_a_page;
pub use state::{Admin, Health, Landing, Links, Part};

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

/// Refreshes the gauges that count rows, and gives back what was counted. Called by a pump, so that a scrape never waits
/// for the database.
///
/// `interval` is the promise that the coverage is measured against.
pub async fn refresh(
    store: &Store,
    metrics: &Metrics,
    clock: &Clock,
    interval: Duration,
) -> Result<Gauges, store::Error> {
    let now = clock.now();
    let gauges = store.gauges(now.minus(interval)).await?;
    let age = |since: Option<Timestamp>| since.map(|since| now.since(since)).unwrap_or_default().as_secs_f64();
    metrics.events_pending.set(real(gauges.pending));
    metrics.events_scheduled.set(real(gauges.scheduled));
    metrics.events_parked.set(real(gauges.parked));
    metrics.churns_braked.set(real(gauges.braked));
    metrics.oldest_pending_age.set(age(gauges.oldest_pending));
    metrics.outbox_pending.set(real(gauges.outbox_pending));
    metrics.alerts_open.set(real(gauges.alerts_open));
    metrics.outages_open.set(real(gauges.outages_open));
    metrics.poll_coverage.set(gauges.polled_in_time);
    metrics.poll_staleness.set(age(gauges.stalest_poll));
    for name in Knowledge::NAMES {
        let found = gauges.heat_pumps.iter().find(|(state, _)| state == name);
        metrics.heat_pumps.with_label_values(&[name]).set(real(found.map_or(0, |(_, count)| *count)));
    }
    for (type_name, count) in store.take_replaced() {
        (0..count).for_each(|_| metrics.event_settled(EventKind::from_name(type_name), Outcome::Superseded));
    }
    for _ in 0..store.take_unreadable() {
        metrics.event_settled(None, Outcome::Parked);
    }
    Ok(gauges)
}

/// Refreshes the gauges of the churn brake, where there is one. Called by the same pump.
pub async fn refresh_brake(store: &Store, metrics: &Metrics, brake: Brake) -> Result<(), store::Error> {
    let tally = store.brake_tally(brake).await?;
    let count = |count| real(i64::try_from(count).unwrap_or(i64::MAX));
    metrics.churns_admitted.set(count(tally.admitted));
    metrics.churns_admitted_limit.set(count(brake.limit(tally.active)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn real(count: i64) -> f64 {
    count as f64
}

/// One step of the running bulk retry, if there is one. Called by a pump.
pub async fn retry_step(store: &Store, wake: &Notify, backlog_max: u64) -> Step {
    match store.retry_step(backlog_max).await {
        Ok(Stepped::Nothing) => Step::Idle,
        Ok(Stepped::Retried { count, pause }) => {
            if count > 0 {
                wake.notify_one();
            }
            if pause.is_zero() { Step::Busy } else { Step::IdleFor(pause) }
        }
        Err(error) => {
            tracing::warn!(%error, "parked events could not be retried");
            Step::Failed
        }
    }
}
