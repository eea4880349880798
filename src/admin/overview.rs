//! Whether the bridge is well, at a look: its parts, the work that waits, the open alerts, the replicas.
//!
//! Before: an operator who opens the console. After: [`crate::store`] counts, each number up to a limit.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::error::{ApiError, ApiResult};
use super::health;
use super::state::{Admin, Part};
use crate::domain::Timestamp;
use crate::store::{OpenAlertsView, ReplicaView, WorkView};

/// The state of the bridge.
#[derive(Serialize, JsonSchema)]
pub struct OverviewView {
    /// When it was looked at.
    pub at: Timestamp,
    /// Of the program.
    pub version: &'static str,
    /// True if all parts are well.
    pub is_ready: bool,
    /// The lines of `/readyz`.
    pub parts: Vec<PartView>,
    /// Work that is not done.
    pub work: WorkView,
    /// Open alerts.
    pub alerts: OpenAlertsView,
    /// Those that live, by id.
    pub replicas: Vec<ReplicaView>,
}

/// A part that the bridge needs.
#[derive(Serialize, JsonSchema)]
pub struct PartView {
    /// As `/readyz` has it.
    pub name: &'static str,
    /// True if it is well.
    pub is_ready: bool,
    /// In a few words.
    pub state: String,
}

/// The state of the bridge, as the route and the page show it.
pub async fn overview(admin: &Admin) -> Result<OverviewView, ApiError> {
    let parts = health::parts(admin).await;
    let (work, alerts) = (admin.store.work().await?, admin.store.alert_counts().await?);
    let view = |Part { name, is_ready, state }| PartView { name, is_ready, state };
    Ok(OverviewView {
        at: admin.clock.now(),
        version: env!("CARGO_PKG_VERSION"),
        is_ready: parts.iter().all(|part| part.is_ready),
        parts: parts.into_iter().map(view).collect(),
        work,
        alerts,
        replicas: admin.store.replicas().await?,
    })
}

pub(super) async fn show(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(overview(&admin).await?))
}
