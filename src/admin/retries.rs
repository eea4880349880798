//! Retries of many parked events: ordered, listed, stopped.
//!
//! Before: an operator who has mended the cause. After: [`crate::store`] keeps the order; a step puts the events back.

use actix_web::{Error, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::access::Caller;
use super::error::{ApiError, ApiResult, whole};
use super::parked::reason_of;
use super::state::Admin;
use crate::domain::Timestamp;
use crate::domain::verdict::Reason;
use crate::problem::ProblemKind;
use crate::store::{BulkRetry, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX};

/// The order of a bulk retry: of one reason, or of all if that is written out, so that an empty body does not set off everything.
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

/// The act that is ordered.
enum Act {
    /// Try again: of this reason, or all.
    Retry(Option<Reason>),
    /// Approve what was parked of this reason until then; `None`: until now.
    Approve(Reason, Option<Timestamp>),
}

impl RetryOrder {
    /// The act and its pace; the error says what is wrong.
    fn read(body: &[u8]) -> Result<(Act, u32), String> {
        let usage = || {
            "send `{\"reason\": R}` or `{\"all\": true}`, and `per_second` if you like; with a reason also `approve`, and with \
             that `until`"
                .to_owned()
        };
        let order: Self = serde_json::from_slice(body).map_err(|_| usage())?;
        let per_second = order.per_second.unwrap_or(PER_SECOND_DEFAULT);
        if !(1..=PER_SECOND_MAX).contains(&per_second) {
            return Err(format!("`per_second` is from 1 to {PER_SECOND_MAX}"));
        }
        let reason = match (order.reason, order.all) {
            (Some(name), false) => Some(reason_of(&name)?),
            (None, true) => None,
            (Some(_), true) | (None, false) => return Err(usage()),
        };
        let until = order.until.map(|text| Timestamp::parse(&text).ok_or("`until` is a moment as in RFC 3339"));
        let act = match (order.approve, reason.filter(|reason| reason.is_approvable()), until.transpose()?) {
            (false, _, None) => Act::Retry(reason),
            (false, _, Some(_)) => return Err("`until` goes with `approve`".to_owned()),
            (true, Some(reason), until) => Act::Approve(reason, until),
            (true, None, _) => return Err(approvable_reasons()),
        };
        Ok((act, per_second))
    }
}

fn approvable_reasons() -> String {
    format!("`approve` needs one `reason`, and overrides {} alone", Reason::APPROVABLE.map(Reason::name).join(", "))
}

pub(super) async fn order(admin: web::Data<Admin>, caller: Caller, body: Result<web::Bytes, Error>) -> ApiResult {
    let (act, per_second) = RetryOrder::read(&whole(body)?).map_err(ApiError::malformed)?;
    let ordered = match act {
        Act::Retry(reason) => admin.store.order_retry(reason, per_second, &caller.actor).await?,
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
            Ok(HttpResponse::Accepted().json(retry))
        }
        Ordered::Occupied(running) => {
            let detail = format!("retry {} runs; wait for its end, or stop it", running.id);
            Err(ApiError::new(ProblemKind::RetryRunning, detail))
        }
    }
}

pub(super) async fn list(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(json!({ "retries": admin.store.bulk_retries().await? })))
}

pub(super) async fn one(admin: web::Data<Admin>, id: web::Path<String>) -> ApiResult {
    shown(admin.store.bulk_retry(&id).await?)
}

pub(super) async fn stop(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let retry = admin.store.stop_retry(&id, &caller.actor).await?;
    if let Some(retry) = &retry {
        tracing::info!(by = %caller.actor, retry.id, state = %retry.state, "a retry of parked events was told to stop");
    }
    shown(retry)
}

fn shown(retry: Option<BulkRetry>) -> ApiResult {
    Ok(HttpResponse::Ok().json(retry.ok_or_else(|| ApiError::not_found("no retry has this id"))?))
}
