//! The page of an error: the right status, what to do, and an id by which the log tells more.
//!
//! Before: the guard of [`crate::console`]. After: a browser; the log.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use maud::html;

use super::error::{Detail, PageError};
use super::layout::Sheet;
use super::table::SCOPE;
use super::visit::Visit;
use super::words;
use crate::admin::Admin;

/// The page of an error. The log has a line with its id.
pub(super) fn page(request: &HttpRequest, error: &PageError) -> HttpResponse {
    let visit = request.extensions().get::<Visit>().cloned();
    let admin = request.app_data::<web::Data<Admin>>();
    let (Some(visit), Some(admin)) = (visit, admin) else { return HttpResponse::new(error.status) };
    let (id, status) = (admin.clock.fresh_id(), error.status.as_u16());
    let path = request.match_pattern().unwrap_or_else(|| SCOPE.to_owned());
    if error.status.is_server_error() {
        tracing::warn!(console.error = %id, status, path, "the console showed an error");
    } else {
        tracing::info!(console.error = %id, status, path, "the console showed an error");
    }
    let title = visit.say(error.title);
    let detail = error.detail.as_ref().map(|detail| match detail {
        Detail::Text(text, values) => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            visit.say_with(*text, &values)
        }
        Detail::Api(words) => words.clone(),
    });
    let main = html! {
        section.panel {
            @if let Some(detail) = detail { p { (detail) } }
            @if let Some(advice) = error.advice { p { (visit.say(*advice)) } }
            p.small.soft { (visit.say(words::ERROR_STATUS)) " " (status) ". " (visit.say(words::ERROR_ID)) " " code { (id) } }
            p { a.button href=(SCOPE) { (visit.say(words::ERROR_BACK)) } }
        }
    };
    match visit.login {
        Some(_) => visit.page_with(error.status, Sheet::new(title, main)),
        None => visit.page_alone(error.status, title, &html! { h1 { (title) } (main) }),
    }
}
