//! The settings that are in effect, where each comes from, and the operators. Never a secret.
//!
//! Before: an administrator. After: [`crate::config`] has read the settings, [`crate::store`] has the operators.

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::error::{ApiError, ApiResult};
use super::state::Admin;
use crate::config::Setting;
use crate::store::{Dialect, ReplicaView, SchemaView};

/// The running version with its settings.
#[derive(Serialize, JsonSchema)]
pub struct SettingsView {
    /// Of the program.
    pub version: &'static str,
    /// `sqlite` or `postgres`.
    pub store: &'static str,
    /// Of the store.
    pub schema: SchemaView,
    /// Those that live, by id.
    pub replicas: Vec<ReplicaView>,
    /// Every key, in the order of the documents.
    pub settings: Vec<SettingView>,
}

/// A configuration key and its value on this replica.
#[derive(Serialize, JsonSchema)]
pub struct SettingView {
    /// `section.key`, or `section.NAME.key` of one of several tables.
    pub key: String,
    /// As the environment would give it; null: it has none, or is not shown.
    pub value: Option<String>,
    /// Where it comes from.
    #[schemars(extend("enum" = ["default", "file", "environment"]))]
    pub origin: &'static str,
    /// True if the value is never shown, since it is a secret, or may have one or an address in it.
    pub is_hidden: bool,
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> Self {
        let Setting { key, value, origin, is_hidden } = setting;
        Self { key: key.clone(), value: value.clone(), origin: origin.name(), is_hidden: *is_hidden }
    }
}

/// The running version with its settings, for the route and the page.
pub async fn settings(admin: &Admin) -> Result<SettingsView, ApiError> {
    let (schema, replicas) = tokio::try_join!(admin.store.schema(), admin.store.replicas())?;
    Ok(SettingsView {
        version: env!("CARGO_PKG_VERSION"),
        store: match admin.store.dialect() {
            Dialect::Sqlite => "sqlite",
            Dialect::Postgres => "postgres",
        },
        schema,
        replicas,
        settings: admin.settings.iter().map(SettingView::from).collect(),
    })
}

pub(super) async fn show(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(settings(&admin).await?))
}

/// The operators, by name.
pub(super) async fn operators(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(json!({ "operators": admin.store.operators().await? })))
}
