//! Sessions at the console: who is logged in, and the end of a session before its time.
//!
//! Before: an administrator, the console. After: [`crate::store`].

use actix_web::{HttpResponse, web};
use serde_json::json;
use uuid::Uuid;

use super::access::Caller;
use super::error::{ApiError, ApiResult};
use super::state::Admin;
use crate::domain::identity::{Actor, Role};
use crate::store::SessionView;

/// The sessions that go on, those first that began last: to an admin all, to any other operator their own.
pub async fn sessions(admin: &Admin, caller: &Caller) -> Result<Vec<SessionView>, ApiError> {
    if caller.role.allows(Role::Admin) {
        return Ok(admin.store.sessions(None).await?);
    }
    match &caller.actor {
        Actor::Operator(name) => Ok(admin.store.sessions(Some(name)).await?),
        Actor::Oidc(_) => Ok(admin.store.sessions(Some(&caller.actor.to_string())).await?),
        Actor::Source(_) | Actor::Token(_) | Actor::Cli(_) | Actor::Scim(_) | Actor::Bridge => Ok(Vec::new()),
    }
}

/// Ends a session.
pub async fn revoke_session(admin: &Admin, caller: &Caller, id: &str) -> Result<Uuid, ApiError> {
    let unknown = || ApiError::not_found("no session that goes on has this id");
    let id = Uuid::parse_str(id).map_err(|_| unknown())?;
    let is_ended = admin.store.revoke_session(id, &caller.actor).await?;
    if !is_ended {
        return Err(unknown());
    }
    tracing::info!(by = %caller.actor, session.id = %id, "a session at the console was ended");
    Ok(id)
}

pub(super) async fn list(admin: web::Data<Admin>, caller: Caller) -> ApiResult {
    Ok(HttpResponse::Ok().json(json!({ "sessions": sessions(&admin, &caller).await? })))
}

pub(super) async fn revoke(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let id = revoke_session(&admin, &caller, &id).await?;
    Ok(HttpResponse::Ok().json(json!({ "id": id, "state": "ended" })))
}
