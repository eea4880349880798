//! Retries of many parked events: ordered, listed, stopped.
//!
//! Before: an operator who has mended the cause. After: [`crate::store`] keeps the order; a step puts the events back.

use actix_web::{Error, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::access::Caller;
use super::error::{ApiError, ApiResult, whole};
use super::parked::filter_of;
use super::state::Admin;
use crate::domain::Timestamp;
use crate::domain::verdict::Reason;
use crate::problem::ProblemKind;
use crate::store::{BulkRetry, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX, ParkedFilter};

/// The order of a bulk retry: by a filter, or of all if that is written out, so that an empty body does not set off everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryOrder {
    reason: Option<String>,
    #[serde(default)]
    all: bool,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
    per_second: Option<u32>,
    #[serde(default)]
    approve: bool,
}

/// The act that is ordered.
enum Act {
    /// Try again what the filter selects.
    Retry(ParkedFilter),
    /// Approve what was parked of this reason until then; `None`: until now.
    Approve(Reason, Option<Timestamp>),
}

impl RetryOrder {
    /// The act and its pace; the error says what is wrong.
    fn read(body: &[u8]) -> Result<(Act, u32), String> {
        let usage = || {
            "send `{\"reason\": R}`, `source`, `since` or `until`, or several of them, or `{\"all\": true}`; and `per_second` if you \
             like; with a reason also `approve`"
                .to_owned()
        };
        let order: Self = serde_json::from_slice(body).map_err(|_| usage())?;
        let per_second = order.per_second.unwrap_or(PER_SECOND_DEFAULT);
        if !(1..=PER_SECOND_MAX).contains(&per_second) {
            return Err(format!("`per_second` is from 1 to {PER_SECOND_MAX}"));
        }
        let filter = filter_of(order.reason, order.source, order.since, order.until)?;
        if order.all == (filter != ParkedFilter::default()) {
            return Err(usage());
        }
        if !order.approve {
            return Ok((Act::Retry(filter), per_second));
        }
        if filter.source.is_some() || filter.since.is_some() {
            return Err("an approval goes by `reason` and `until` alone".to_owned());
        }
        match filter.reason.filter(|reason| reason.is_approvable()) {
            Some(reason) => Ok((Act::Approve(reason, filter.until), per_second)),
            None => Err(approvable_reasons()),
        }
    }
}

fn approvable_reasons() -> String {
    format!("`approve` needs one `reason`, and overrides {} alone", Reason::APPROVABLE.map(Reason::name).join(", "))
}

/// Orders a retry of many; `order` is the body of the route, and refused as there.
pub async fn order_retry(admin: &Admin, caller: &Caller, order: &[u8]) -> Result<BulkRetry, ApiError> {
    let (act, per_second) = RetryOrder::read(order).map_err(ApiError::malformed)?;
    let ordered = match act {
        Act::Retry(filter) => admin.store.order_retry(filter, per_second, &caller.actor).await?,
        Act::Approve(reason, until) => {
            let until = until.unwrap_or_else(|| admin.clock.now());
            admin.store.order_approval(reason, per_second, until, &caller.actor).await?
        }
    };
    match ordered {
        Ordered::Running(retry) => {
            let (total, approve) = (retry.total, retry.approve);
            tracing::info!(by = %caller.actor, retry.id, total, per_second, approve, "a retry of parked events was ordered");
            admin.wake_retries.notify_one();
            Ok(retry)
        }
        Ordered::Occupied(running) => {
            let detail = format!("retry {} runs; wait for its end, or stop it", running.id);
            Err(ApiError::new(ProblemKind::RetryRunning, detail))
        }
    }
}

/// Stops a retry of many; `None`: there is none of this id.
pub async fn stop_retry(admin: &Admin, caller: &Caller, id: &str) -> Result<Option<BulkRetry>, ApiError> {
    let retry = admin.store.stop_retry(id, &caller.actor).await?;
    if let Some(retry) = &retry {
        tracing::info!(by = %caller.actor, retry.id, state = %retry.state, "a retry of parked events was told to stop");
    }
    Ok(retry)
}

pub(super) async fn order(admin: web::Data<Admin>, caller: Caller, body: Result<web::Bytes, Error>) -> ApiResult {
    Ok(HttpResponse::Accepted().json(order_retry(&admin, &caller, &whole(body)?).await?))
}

pub(super) async fn list(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(json!({ "retries": admin.store.bulk_retries().await? })))
}

pub(super) async fn one(admin: web::Data<Admin>, id: web::Path<String>) -> ApiResult {
    shown(admin.store.bulk_retry(&id).await?)
}

pub(super) async fn stop(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    shown(stop_retry(&admin, &caller, &id).await?)
}

fn shown(retry: Option<BulkRetry>) -> ApiResult {
    Ok(HttpResponse::Ok().json(retry.ok_or_else(|| ApiError::not_found("no retry has this id"))?))
}
