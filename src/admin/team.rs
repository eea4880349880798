//! The team: its members with their state, and one member with all that happened.
//!
//! Before: an operator who reviews the team. After: [`crate::store`].

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::access::Caller;
use super::error::{ApiError, ApiResult};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::domain::Timestamp;
use crate::domain::team::{MemberId, TeamRow, is_position, team_rows};
use crate::store::is_cut;

/// A page of the team's list.
#[derive(Serialize, JsonSchema)]
pub struct TeamPage {
    /// When the list of the staff was asked for by which states and logins are told; null: none was read yet.
    listed_at: Option<Timestamp>,
    /// Those whom events named, by id, then those whom only Podero has, then those who have left.
    members: Vec<TeamRow>,
    /// True if the store has more members than are listed; those who have left are missing first.
    is_cut: bool,
    /// The next page's `after`; null: there is none.
    next: Option<String>,
}

/// A page of members.
pub(super) async fn list(admin: web::Data<Admin>, page: web::Query<PageQuery>) -> ApiResult {
    let after = page.after(|after| is_position(after).then(|| after.to_owned()))?.unwrap_or_default();
    let limit = page.limit()?;
    let (known, list) = (admin.store.members().await?, admin.store.staff().await?);
    // A row that comes or goes between two pages moves no other one to another page.
    let rows = team_rows(&known, list.as_ref()).into_iter().filter(|row| row.position > after);
    let rows = rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    let page = Page::by_id(rows, limit, |row: &TeamRow| row.position.clone());
    let (listed_at, is_cut) = (list.map(|list| list.asked_at), is_cut(&known));
    Ok(HttpResponse::Ok().json(TeamPage { listed_at, members: page.rows, is_cut, next: page.next }))
}

/// One member; to a viewer without facts, and without the data of outgoing events.
pub(super) async fn member(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("nothing was ever heard of this member");
    let id = MemberId::accept(&id).ok_or_else(unknown)?;
    let member = admin.store.member(&id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(if caller.sees_personal_data() { member } else { member.impersonal() }))
}
