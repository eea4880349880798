//! The last day, in buckets of ten minutes.
//!
//! Before: an operator who asks since when. After: [`crate::store`], in which each replica keeps what it counted.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiResult;
use super::state::Admin;
use crate::store::{BUCKET, BucketView};

/// The last day.
#[derive(Serialize, JsonSchema)]
pub struct HistoryView {
    /// Seconds that a bucket lasts.
    bucket_seconds: u64,
    /// Oldest first. One in which no bridge ran is not there, and the last one is not over yet.
    buckets: Vec<BucketView>,
}

pub(super) async fn show(admin: web::Data<Admin>) -> ApiResult {
    let buckets = admin.store.history().await?;
    Ok(HttpResponse::Ok().json(HistoryView { bucket_seconds: BUCKET.as_secs(), buckets }))
}
