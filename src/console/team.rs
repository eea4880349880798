//! The team: its members with role, state, origin and end of access, and what a person should look at. Ids, no names.
//!
//! Before: an operator who reviews the team. After: [`crate::admin`], as `/v1/team` and `/v1/team-review` show.

use actix_web::web;
use maud::{Markup, html};
use serde::Deserialize;

use super::error::PageResult;
use super::layout::Sheet;
use super::parts::with_query;
use super::visit::Visit;
use super::words;
use crate::admin::{self, Admin, INACTIVE_DAYS, PageQuery, TeamPage, TeamReview};
use crate::domain::team::{MemberState, ReviewRow, TeamRow};

/// Members of a page.
const PAGE: i64 = 100;

/// The query of the page.
#[derive(Deserialize)]
pub(super) struct TeamQuery {
    after: Option<String>,
}

/// The page.
pub(super) async fn page(visit: Visit, admin: web::Data<Admin>, query: web::Query<TeamQuery>) -> PageResult {
    let after = query.into_inner().after.filter(|after| !after.is_empty());
    let is_first = after.is_none();
    let team = admin::team_page(&admin, &PageQuery::of(after, PAGE)).await?;
    let review = admin::team_review(&admin, INACTIVE_DAYS).await?;
    let main = html! {
        div.stack {
            (age(&visit, &team))
            @if is_first { (findings(&visit, &review)) }
            (members(&visit, &team, is_first))
        }
    };
    let commands = ["podero-bridge team list", "podero-bridge team review"];
    Ok(visit.page(Sheet::new(visit.say(words::TEAM), main).same_as(&commands)))
}

fn age(visit: &Visit, team: &TeamPage) -> Markup {
    html! {
        @match team.listed_at {
            Some(at) => p.small.soft { (visit.say(words::STAFF_LISTED)) " " (visit.time(at)) },
            None => p.note.warn { (visit.say(words::STAFF_NOT_LISTED)) },
        }
        @if team.is_cut { p.note.warn { (visit.say(words::TEAM_CUT)) } }
    }
}

fn findings(visit: &Visit, review: &TeamReview) -> Markup {
    let days = INACTIVE_DAYS.to_string();
    html! {
        section.panel {
            h2 { (visit.say(words::REVIEW)) }
            @if review.findings.is_empty() {
                @if review.listed_at.is_some() { p.note.good { (visit.say(words::NO_FINDINGS)) } }
                @else { p.soft { (visit.say(words::NOT_COMPARED)) } }
            } @else {
                table.cards {
                    thead { tr {
                        th { (visit.say(words::FINDING)) } th { (visit.say(words::MEMBER)) } th { (visit.say(words::PODERO_USER)) }
                        th { (visit.say(words::DETAIL)) }
                    } }
                    tbody { @for row in &review.findings { (finding(visit, row)) } }
                }
            }
            p.small.soft.below { (visit.say_with(words::INACTIVE_AFTER, &[&days])) }
        }
    }
}

fn finding(visit: &Visit, row: &ReviewRow) -> Markup {
    html! {
        tr {
            td data-name=(visit.say(words::FINDING)) { span.tag.warn { (row.finding.name()) } }
            td data-name=(visit.say(words::MEMBER)) { @if let Some(id) = &row.member_id { span.id { (id) } } }
            td data-name=(visit.say(words::PODERO_USER)) { @if let Some(id) = &row.podero_user_id { span.id { (id) } } }
            td data-name=(visit.say(words::DETAIL)) { (row.detail) }
        }
    }
}

fn members(visit: &Visit, team: &TeamPage, is_first: bool) -> Markup {
    html! {
        section.panel {
            h2 { (visit.say(words::MEMBERS)) }
            @if team.members.is_empty() {
                (visit.empty(words::NO_MEMBERS, words::NO_MEMBERS_HINT))
            } @else {
                table.cards {
                    thead { tr {
                        th { (visit.say(words::MEMBER)) } th { (visit.say(words::ROLE)) } th { (visit.say(words::STATE)) }
                        th { (visit.say(words::ORIGIN_OF_MEMBER)) } th { (visit.say(words::LAST_LOGIN)) } th { (visit.say(words::EXPIRES)) }
                        th.end { (visit.say(words::PARKED_EVENTS)) }
                    } }
                    tbody { @for row in &team.members { (member(visit, row)) } }
                }
            }
            @if !is_first || team.next.is_some() {
                div.pages {
                    @if !is_first { a.button href="/console/team" { (visit.say(words::FIRST_PAGE)) } }
                    @if let Some(next) = &team.next {
                        a.button rel="next" href=(with_query("/console/team", &[("after", Some(next))])) { (visit.say(words::NEXT_PAGE)) }
                    }
                }
            }
        }
    }
}

fn member(visit: &Visit, row: &TeamRow) -> Markup {
    html! {
        tr {
            td data-name=(visit.say(words::MEMBER)) {
                @if let Some(id) = &row.member_id { span.id { (id) } }
                @else if let Some(id) = &row.podero_user_id { span.id.soft { (id) } }
                @else { "–" }
            }
            td data-name=(visit.say(words::ROLE)) { @if let Some(role) = row.role { (role) } }
            td data-name=(visit.say(words::STATE)) { span class=(class_of(row.state)) { (row.state.name()) } }
            td data-name=(visit.say(words::ORIGIN_OF_MEMBER)) { (row.origin.name()) }
            td data-name=(visit.say(words::LAST_LOGIN)) { @if let Some(at) = row.last_login { (visit.time(at)) } }
            td data-name=(visit.say(words::EXPIRES)) { @if let Some(at) = row.expires_at { (visit.time(at)) } }
            td.end data-name=(visit.say(words::PARKED_EVENTS)) { @if row.parked > 0 { span.tag.warn { (row.parked) } } @else { "0" } }
        }
    }
}

fn class_of(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "tag good",
        MemberState::Missing | MemberState::Expired => "tag bad",
        MemberState::Invited | MemberState::Announced | MemberState::Unlisted => "tag warn",
        MemberState::Left => "tag",
    }
}
