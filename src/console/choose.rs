//! Keeps the reader's choices (language, theme, time zone) in their cookie, and shows the page again.
//!
//! Before: the switches below every page. After: the same page.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde::Deserialize;

use super::choices::{COOKIE, Choices, Theme};
use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::state::Console;
use super::visit::return_path;
use super::words::PageLanguage;
use crate::domain::zone::Zone;

/// Life of the cookie in days: long enough that a choice is made once.
const KEPT_DAYS: i64 = 365;

/// One of the switches.
#[derive(Deserialize)]
pub(super) struct Choice {
    language: Option<String>,
    theme: Option<String>,
    zone: Option<String>,
    next: Option<String>,
}

/// Keeps a choice; one that is none is refused.
pub(super) async fn choose(request: HttpRequest, console: web::Data<Console>, form: web::Form<Choice>) -> PageResult {
    let unknown = || PageError::of(StatusCode::BAD_REQUEST);
    let Choice { language, theme, zone, next } = form.into_inner();
    let mut choices = Choices::of(&request);
    if let Some(name) = language {
        choices.language = Some(PageLanguage::from_name(&name).ok_or_else(unknown)?);
    }
    if let Some(name) = theme {
        choices.theme = Some(Theme::from_name(&name).ok_or_else(unknown)?);
    }
    if let Some(name) = zone {
        choices.zone = Some(Zone::named(&name).ok_or_else(unknown)?);
    }
    let cookie = Cookie::build(COOKIE, choices.written())
        .path("/console")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(console.is_secure())
        .max_age(Duration::days(KEPT_DAYS))
        .finish();
    let mut answer = see_other(return_path(next.as_deref()));
    answer.add_cookie(&cookie).map_err(|_| unknown())?;
    Ok(answer)
}
