//! Events that are not done: which of them wait, and why.
//!
//! Before: an operator who asks what a backlog is made of. After: [`crate::store`].

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, away, problem};
use crate::problem::ProblemKind;
use crate::store::{OpenCursor, OpenFilter, OpenState, ROWS_MAX};

#[derive(Deserialize)]
pub(super) struct OpenQuery {
    state: Option<String>,
    customer_id: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

/// A page of events that are not done, those first that wait for longest. `next`, if there is more, is the next page's
/// `after`.
pub(super) async fn open(admin: web::Data<Admin>, query: web::Query<OpenQuery>) -> HttpResponse {
    let query = query.into_inner();
    let name = query.state.as_deref().unwrap_or(OpenState::Pending.name());
    let Some(state) = OpenState::from_name(name) else {
        let known = OpenState::ALL.map(OpenState::name).join(", ");
        return problem(ProblemKind::Malformed, &format!("`state` is one of {known}"));
    };
    let after = query.after.as_deref().map(OpenCursor::parse);
    if after == Some(None) {
        return problem(ProblemKind::Malformed, "`after` is the `next` of the page before");
    }
    let limit = query.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
    let filter = OpenFilter { state, customer: query.customer_id, after: after.flatten(), limit };
    match admin.store.open_events(filter).await {
        Ok(page) => {
            let next = page.next.map(|next| next.to_string());
            HttpResponse::Ok().json(json!({ "events": page.events, "next": next }))
        }
        Err(error) => away(&error),
    }
}
