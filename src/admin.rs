//! The operator's door: health, metrics, timelines, and what is parked.
//!
//! `/livez`, `/readyz` and `/metrics` answer anybody who reaches the address; everything under `/v1` wants the
//! token when one is configured, and without one the address is loopback (the configuration sees to that) and no web
//! page is answered. It changes nothing but the state of parked events.
//!
//! Before: an operator, Prometheus. After: [`crate::store`]; for links, [`crate::podero`].

mod events;
mod guard;
mod pumps;

use std::sync::Arc;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Error, HttpResponse, Resource, Route};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Secret;
use crate::domain::alert::Knowledge;
use crate::domain::brake::Brake;
use crate::domain::event::EventKind;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::listener::{is_late, respond_untitled};
use crate::metrics::{CONTENT_TYPE, Metrics, Outcome};
use crate::problem::{Problem, ProblemKind};
use crate::pump::Step;
use crate::store::{
    self, BulkRetry, Gauges, NotTaken, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX, ROWS_MAX, RetryRequest, Stepped,
    Store, Trouble,
};
use crate::telemetry::{self, Lines};

pub use guard::not_by_a_page;
pub use pumps::{Landing, Links};

/// Limit of a request's body in bytes: two addresses of landing pages, each character written as an escape, and some more.
const ORDER_BYTES_MAX: usize = 128 << 10;

/// Time for which standard error takes nothing until `/readyz` tells it: a busy disk or collector takes a second or two.
const LOG_BLOCKED_SHOWN: Duration = Duration::from_secs(5);

/// What the rest of the bridge says of itself: one line per part it needs.
pub trait Health: Send + Sync {
    /// The parts beside the store, each with whether it is well and why not.
    fn parts(&self) -> Vec<Part>;
}

/// One line of `/readyz`.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which part.
    pub name: &'static str,
    /// Whether it is well.
    pub is_ready: bool,
    /// In a few words.
    pub state: String,
}

/// The door's own knowledge; shared by its workers.
pub struct Admin {
    /// The tables.
    pub store: Store,
    /// The instruments.
    pub metrics: Metrics,
    /// Broker and Podero.
    pub health: Box<dyn Health>,
    /// `admin.token`.
    pub token: Option<Secret>,
    /// Time.
    pub clock: Clock,
    /// Rung when a parked event goes back to work.
    pub wake: Arc<Notify>,
    /// Rung when a bulk retry is ordered.
    pub wake_retries: Arc<Notify>,
    /// What makes links for customers who must reconnect.
    pub links: Links,
    /// OpenAPI of this door, as JSON.
    pub openapi: String,
}

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, admin: Arc<Admin>) {
    config
        .app_data(web::Data::from(admin))
        .app_data(
            web::QueryConfig::default().error_handler(|error, _| malformed(error, "see the query's names and values")),
        )
        .app_data(web::PayloadConfig::new(ORDER_BYTES_MAX))
        .app_data(web::PathConfig::default().error_handler(|error, _| malformed(error, "the path is not UTF-8")))
        .service(only("GET", "/livez", web::get().to(livez)))
        .service(only("GET", "/readyz", web::get().to(readyz)))
        .service(only("GET", "/metrics", web::get().to(metrics)))
        .service(only("GET", "/openapi.json", web::get().to(openapi)))
        .service(
            web::scope("/v1")
                .wrap(from_fn(guard::with_token))
                .service(only("GET", "/events", web::get().to(events::open)))
                .service(only("GET", "/events/{id}", web::get().to(event)))
                .service(only("GET", "/customers/{id}", web::get().to(customer)))
                .service(only("GET", "/parked", web::get().to(parked)))
                .service(only("POST", "/parked/retry", web::post().to(order_retry)))
                .service(only("GET", "/parked/retries", web::get().to(bulk_retries)))
                .service(only("GET", "/parked/retries/{id}", web::get().to(bulk_retry)))
                .service(only("POST", "/parked/retries/{id}/stop", web::post().to(stop_retry)))
                .service(only("POST", "/parked/{id}/retry", web::post().to(retry)))
                .service(only("POST", "/parked/{id}/skip", web::post().to(skip)))
                .service(only("GET", "/heat-pumps", web::get().to(pumps::heat_pumps)))
                .service(only("POST", "/heat-pumps/{id}/reconnect-link", web::post().to(pumps::reconnect_link)))
                .service(only("GET", "/alerts", web::get().to(pumps::alerts))),
        )
        .default_service(web::to(nothing_here));
}

/// A path that takes one method.
fn only(method: &'static str, path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(move || async move {
        let mut refusal = problem(ProblemKind::MethodNotAllowed, &format!("use {method}"));
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
        refusal
    }))
}

fn malformed(error: impl std::fmt::Debug + std::fmt::Display + 'static, detail: &str) -> Error {
    let answer = problem(ProblemKind::Malformed, detail);
    actix_web::error::InternalError::from_response(error, answer).into()
}

fn problem(kind: ProblemKind, detail: &str) -> HttpResponse {
    respond_untitled(&Problem::new(kind, detail))
}

async fn nothing_here() -> HttpResponse {
    problem(ProblemKind::NotFound, "see /openapi.json")
}

/// The process runs. Says nothing about anything it needs.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// A line per part: `[+]` well, `[-]` not. 200 only when all are.
async fn readyz(admin: web::Data<Admin>) -> HttpResponse {
    let store = store_part(&admin.store).await;
    let parts: Vec<Part> = std::iter::once(store).chain(admin.health.parts()).chain(log_part()).collect();
    let lines: String = parts
        .iter()
        .map(|part| format!("[{}] {}: {}\n", if part.is_ready { '+' } else { '-' }, part.name, part.state))
        .collect();
    let mut response =
        if parts.iter().all(|part| part.is_ready) { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type("text/plain; charset=utf-8").body(lines)
}

/// The log's line, once something of it is missing, or waits: the bridge works as before, but what it did cannot be read.
fn log_part() -> Option<Part> {
    let Lines { dropped, is_short, blocked, .. } = telemetry::lines();
    let is_blocked = blocked.since >= LOG_BLOCKED_SHOWN;
    let waiting = is_blocked
        .then(|| format!("nothing was taken for {} s; {} lines wait", blocked.since.as_secs(), blocked.lines));
    let short = if is_short { "; standard error takes fewer than come" } else { "" };
    let missing = (dropped > 0).then(|| format!("{dropped} lines dropped{short}"));
    let states: Vec<String> = waiting.into_iter().chain(missing).collect();
    (!states.is_empty()).then(|| Part { name: "log", is_ready: true, state: states.join("; ") })
}

/// Whether the store takes writes, by its writer's own word; and, where it does, whether it answers a read.
async fn store_part(store: &Store) -> Part {
    let writability = store.writability();
    if writability.trouble.is_some() {
        return Part { name: "store", is_ready: false, state: writability.to_string() };
    }
    match store.check().await {
        Ok(()) => Part { name: "store", is_ready: true, state: "ok".to_owned() },
        Err(error) => {
            tracing::debug!(%error, "the store does not answer a read");
            Part { name: "store", is_ready: false, state: Trouble::Silent.words().to_owned() }
        }
    }
}

async fn openapi(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(admin.openapi.clone())
}

async fn metrics(admin: web::Data<Admin>) -> HttpResponse {
    let Lines { dropped, limited, blocked, .. } = telemetry::lines();
    admin.metrics.set_log_lines(dropped, limited);
    admin.metrics.log_blocked.set(blocked.since.as_secs_f64());
    let writability = admin.store.writability();
    admin.metrics.store_writable.set(writability.trouble.is_none().into());
    admin.metrics.store_last_write_age.set(writability.last_write_age.as_secs_f64());
    HttpResponse::Ok().content_type(CONTENT_TYPE).body(admin.metrics.encode())
}

async fn event(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    match admin.store.event(&id).await {
        Ok(Some(event)) => HttpResponse::Ok().json(event),
        Ok(None) => problem(ProblemKind::NotFound, "no event has this id"),
        Err(error) => away(&error),
    }
}

async fn customer(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    match admin.store.customer(&id).await {
        Ok(Some(customer)) => HttpResponse::Ok().json(customer),
        Ok(None) => problem(ProblemKind::NotFound, "nothing was ever heard of this customer"),
        Err(error) => away(&error),
    }
}

#[derive(Deserialize)]
struct ParkedQuery {
    reason: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

/// A page of parked events; with the first one the groups of all of them, whose count takes a while when they are many.
/// `next`, if there is more, is the next page's `after`.
async fn parked(admin: web::Data<Admin>, query: web::Query<ParkedQuery>) -> HttpResponse {
    if let Some(reason) = &query.reason
        && Reason::from_name(reason).is_none()
    {
        return problem(ProblemKind::Malformed, &unknown_reason());
    }
    let limit = query.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
    let page = admin.store.parked_page(query.reason.as_deref(), query.after.as_deref(), limit).await;
    let groups = match &query.after {
        None => admin.store.parked_groups().await.map(Some),
        Some(_) => Ok(None),
    };
    match (page, groups) {
        (Ok(parked), Ok(groups)) => {
            let is_full = i64::try_from(parked.len()).is_ok_and(|count| count == limit);
            let next = parked.last().filter(|_| is_full).map(|last| last.id.clone());
            HttpResponse::Ok().json(json!({ "groups": groups, "parked": parked, "next": next }))
        }
        (Err(error), _) | (_, Err(error)) => away(&error),
    }
}

fn unknown_reason() -> String {
    format!("`reason` is one of {}", Reason::ALL.map(Reason::name).join(", "))
}

/// What a bulk retry covers: one reason, or all written out, so that an empty body does not set off everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryOrder {
    reason: Option<String>,
    #[serde(default)]
    all: bool,
    per_second: Option<u32>,
    #[serde(default)]
    approve: bool,
    until: Option<String>,
}

/// The act that a bulk retry does.
enum Wanted {
    /// Try again: of this reason, or all.
    Retry(Option<Reason>),
    /// Approve what was parked of this reason until then; `None`: until now.
    Approve(Reason, Option<Timestamp>),
}

impl RetryOrder {
    /// What, and how fast; the error says what is wrong.
    fn read(body: &[u8]) -> Result<(Wanted, u32), String> {
        let wanted = || {
            "send `{\"reason\": R}` or `{\"all\": true}`, and `per_second` if you like; with a reason also `approve`, and with \
             that `until`"
                .to_owned()
        };
        let order: Self = serde_json::from_slice(body).map_err(|_| wanted())?;
        let per_second = order.per_second.unwrap_or(PER_SECOND_DEFAULT);
        if !(1..=PER_SECOND_MAX).contains(&per_second) {
            return Err(format!("`per_second` is from 1 to {PER_SECOND_MAX}"));
        }
        let reason = match (order.reason, order.all) {
            (Some(name), false) => Some(Reason::from_name(&name).ok_or_else(unknown_reason)?),
            (None, true) => None,
            (Some(_), true) | (None, false) => return Err(wanted()),
        };
        let until = order.until.map(|text| Timestamp::parse(&text).ok_or("`until` is a moment as in RFC 3339"));
        let wanted = match (order.approve, reason.filter(|reason| reason.is_approvable()), until.transpose()?) {
            (false, _, None) => Wanted::Retry(reason),
            (false, _, Some(_)) => return Err("`until` goes with `approve`".to_owned()),
            (true, Some(reason), until) => Wanted::Approve(reason, until),
            (true, None, _) => return Err(approvable_reasons()),
        };
        Ok((wanted, per_second))
    }
}

fn approvable_reasons() -> String {
    format!("`approve` needs one `reason`, and overrides {} alone", Reason::APPROVABLE.map(Reason::name).join(", "))
}

/// The body of a retry of one event.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryOne {
    #[serde(default)]
    approve: bool,
}

impl RetryOne {
    /// Nothing at all is a retry without an approval.
    fn read(body: &[u8]) -> Result<Self, &'static str> {
        match body.trim_ascii() {
            b"" => Ok(Self::default()),
            said => serde_json::from_slice(said).map_err(|_| "send nothing, or `{\"approve\": true}`"),
        }
    }
}

/// The answer to a body that did not come whole.
fn not_whole(error: &Error) -> HttpResponse {
    if error.as_error::<PayloadError>().is_some_and(is_late) {
        return problem(ProblemKind::Timeout, "send the whole body at once");
    }
    match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => problem(ProblemKind::TooLarge, "an order has a few dozen bytes"),
        _ => problem(ProblemKind::Malformed, "the body ended early"),
    }
}

async fn order_retry(admin: web::Data<Admin>, body: Result<web::Bytes, Error>) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(error) => return not_whole(&error),
    };
    let (wanted, per_second) = match RetryOrder::read(&body) {
        Ok(order) => order,
        Err(wrong) => return problem(ProblemKind::Malformed, &wrong),
    };
    let ordered = match wanted {
        Wanted::Retry(reason) => admin.store.order_retry(reason, per_second).await,
        Wanted::Approve(reason, until) => {
            let until = until.unwrap_or_else(|| admin.clock.now());
            admin.store.order_approval(reason, per_second, until).await
        }
    };
    match ordered {
        Ok(Ordered::Running(retry)) => {
            let (total, approve) = (retry.total, retry.approve);
            tracing::info!(retry.id, total, per_second, approve, "a retry of parked events was ordered");
            admin.wake_retries.notify_one();
            HttpResponse::Accepted().json(retry)
        }
        Ok(Ordered::Occupied(running)) => {
            let detail = format!("retry {} runs; wait for its end, or stop it", running.id);
            problem(ProblemKind::RetryRunning, &detail)
        }
        Err(error) => away(&error),
    }
}

async fn bulk_retries(admin: web::Data<Admin>) -> HttpResponse {
    match admin.store.bulk_retries().await {
        Ok(retries) => HttpResponse::Ok().json(json!({ "retries": retries })),
        Err(error) => away(&error),
    }
}

async fn bulk_retry(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    shown(admin.store.bulk_retry(&id).await)
}

async fn stop_retry(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    shown(admin.store.stop_retry(&id).await)
}

fn shown(retry: Result<Option<BulkRetry>, store::Error>) -> HttpResponse {
    match retry {
        Ok(Some(retry)) => HttpResponse::Ok().json(retry),
        Ok(None) => problem(ProblemKind::NotFound, "no retry has this id"),
        Err(error) => away(&error),
    }
}

async fn retry(admin: web::Data<Admin>, id: web::Path<String>, body: Result<web::Bytes, Error>) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(error) => return not_whole(&error),
    };
    match RetryOne::read(&body) {
        Ok(RetryOne { approve: true }) => unpark(&admin, &id, RetryRequest::Approve).await,
        Ok(RetryOne { approve: false }) => unpark(&admin, &id, RetryRequest::Retry).await,
        Err(wrong) => problem(ProblemKind::Malformed, wrong),
    }
}

async fn skip(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    unpark(&admin, &id, RetryRequest::Skip).await
}

async fn unpark(admin: &Admin, id: &str, request: RetryRequest) -> HttpResponse {
    let Ok(event) = Uuid::parse_str(id) else { return problem(ProblemKind::NotFound, "no event has this id") };
    let is_skip = request == RetryRequest::Skip;
    match admin.store.unpark(EventId(event), request.clone()).await {
        Ok(Some(type_name)) => {
            if is_skip {
                admin.metrics.event_settled(EventKind::from_name(&type_name), Outcome::Skipped);
            } else {
                admin.wake.notify_one();
            }
            let state = if is_skip { "skipped" } else { "pending" };
            HttpResponse::Ok().json(json!({ "id": id, "state": state }))
        }
        Ok(None) => match admin.store.why_not_taken(EventId(event), &request).await {
            Ok(why @ NotTaken::Unknown) => problem(ProblemKind::NotFound, &why.to_string()),
            Ok(why @ (NotTaken::NotParked(_) | NotTaken::NotWhole)) => {
                problem(ProblemKind::NotParked, &why.to_string())
            }
            Ok(why @ NotTaken::InProgress) => problem(ProblemKind::InProgress, &why.to_string()),
            Ok(why @ NotTaken::NotApprovable(_)) => problem(ProblemKind::NotApprovable, &why.to_string()),
            Err(error) => away(&error),
        },
        Err(error) => away(&error),
    }
}

fn away(error: &store::Error) -> HttpResponse {
    tracing::warn!(%error, "the store did not answer the operator's door");
    problem(ProblemKind::Unavailable, "the store does not answer; try again")
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
