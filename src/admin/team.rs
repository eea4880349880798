//! The team: its members with their state, and one member with all that happened.
//!
//! Before: an operator who reviews the team. After: [`crate::store`].

use std::time::Duration;

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::error::{ApiError, ApiResult};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::domain::Timestamp;
use crate::domain::team::{MemberId, ReviewRow, TeamRow, is_position, review, team_rows};
use crate::store::is_cut;

/// Default of the days without a login after which a member counts as inactive: a quarter.
pub const INACTIVE_DAYS: u32 = 90;

/// Limit of those days: ten years.
const INACTIVE_DAYS_MAX: u32 = 3_650;

/// A page of the team's list.
#[derive(Serialize, JsonSchema)]
pub struct TeamPage {
    /// When the list of the staff was asked for by which states and logins are told; null: none was read yet.
    pub listed_at: Option<Timestamp>,
    /// Those whom events named, by id, then those whom only Podero has, then those who have left.
    pub members: Vec<TeamRow>,
    /// True if the store has more members than are listed; those who have left are missing first.
    pub is_cut: bool,
    /// The next page's `after`; null: there is none.
    pub next: Option<String>,
}

/// A page of members.
pub(super) async fn list(admin: web::Data<Admin>, page: web::Query<PageQuery>) -> ApiResult {
    Ok(HttpResponse::Ok().json(team_page(&admin, &page).await?))
}

/// A page of members, as the route and the page show it.
pub async fn team_page(admin: &Admin, page: &PageQuery) -> Result<TeamPage, ApiError> {
    let after = page.after(|after| is_position(after).then(|| after.to_owned()))?.unwrap_or_default();
    let limit = page.limit()?;
    let (known, list) = (admin.store.members().await?, admin.store.staff().await?);
    // A row that comes or goes between two pages moves no other one to another page.
    let rows = team_rows(&known, list.as_ref()).into_iter().filter(|row| row.position > after);
    let rows = rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    let page = Page::by_id(rows, limit, |row: &TeamRow| row.position.clone());
    let (listed_at, is_cut) = (list.map(|list| list.asked_at), is_cut(&known));
    Ok(TeamPage { listed_at, members: page.rows, is_cut, next: page.next })
}

/// The query of a review.
#[derive(Deserialize, JsonSchema)]
pub struct ReviewQuery {
    /// Days without a login after which a member counts as inactive.
    #[schemars(range(min = 1, max = INACTIVE_DAYS_MAX), extend("default" = INACTIVE_DAYS))]
    inactive_days: Option<u32>,
}

/// Findings about the team, for a person to look at.
#[derive(Serialize, JsonSchema)]
pub struct TeamReview {
    /// When the list of the staff was asked for; null: none was read yet, and nothing could be compared with it.
    pub listed_at: Option<Timestamp>,
    /// The findings.
    pub findings: Vec<ReviewRow>,
    /// True if the store has more members than are looked at.
    pub is_cut: bool,
}

/// A review of the team.
pub(super) async fn show_review(admin: web::Data<Admin>, query: web::Query<ReviewQuery>) -> ApiResult {
    let days = query.inactive_days.unwrap_or(INACTIVE_DAYS);
    if !(1..=INACTIVE_DAYS_MAX).contains(&days) {
        return Err(ApiError::malformed(format!("`inactive_days` is from 1 to {INACTIVE_DAYS_MAX}")));
    }
    Ok(HttpResponse::Ok().json(team_review(&admin, days).await?))
}

/// A review of the team, as the route and the page show it.
pub async fn team_review(admin: &Admin, inactive_days: u32) -> Result<TeamReview, ApiError> {
    let (known, list) = (admin.store.members().await?, admin.store.staff().await?);
    let inactive_after = Duration::from_secs(u64::from(inactive_days) * 86_400);
    let findings = review(&known, list.as_ref(), &admin.policy.team, inactive_after, admin.clock.now());
    Ok(TeamReview { listed_at: list.map(|list| list.asked_at), findings, is_cut: is_cut(&known) })
}

/// One member; to a viewer without facts, and without the data of outgoing events.
pub(super) async fn member(admin: web::Data<Admin>, caller: Caller, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("nothing was ever heard of this member");
    let id = MemberId::accept(&id).ok_or_else(unknown)?;
    let member = admin.store.member(&id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(if caller.sees_personal_data() { member } else { member.impersonal() }))
}
