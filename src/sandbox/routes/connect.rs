//! The Connect page: where a customer brings a heat pump, or brings it back, and returns to the utility.
//!
//! It plays the part of Podero's own page, for a person or a browser test. It works without a script and loads nothing from
//! another host. It must never ask for a manufacturer's real password.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use std::collections::HashMap;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use actix_web::web::{self, Bytes, PayloadConfig, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::page;
use crate::sandbox::embedded::Sandbox;
use crate::sandbox::error::SandboxError;
use crate::sandbox::model::{CONNECT_PATH, ConnectLink};

/// Limit of a submitted form in bytes: five short fields.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Limit of the model's name in characters, as the form has it.
const MODEL_CHARS_MAX: usize = 100;

type Form = HashMap<String, String>;

/// Mounts the page and its style sheet.
pub(super) fn configure(sandbox: &Sandbox, cfg: &mut ServiceConfig) {
    let (showing, acting) = (sandbox.clone(), sandbox.clone());
    let show = move |request: HttpRequest| std::future::ready(show(&showing, request.query_string()));
    let act = move |body: Bytes| std::future::ready(act(&acting, &body));
    let page = web::resource(CONNECT_PATH).app_data(PayloadConfig::new(FORM_BYTES_MAX));
    cfg.service(page.route(web::get().to(show)).route(web::post().to(act)));
    cfg.route(page::STYLE_PATH, web::get().to(style));
}

async fn style() -> HttpResponse {
    HttpResponse::Ok().content_type("text/css; charset=utf-8").body(page::STYLE)
}

fn show(sandbox: &Sandbox, query: &str) -> HttpResponse {
    let Some(link) = link_of(&fields(query)) else { return refused(&SandboxError::NotFound) };
    match sandbox.lock().world.visit(link, sandbox.clock().now()) {
        Ok(visit) => html(StatusCode::OK, page::form(link, &visit, None)),
        Err(refusal) => refused(&refusal),
    }
}

/// The customer pressed a button: `connect`, `refuse` (they play a manufacturer that does not let them in) or `cancel`.
fn act(sandbox: &Sandbox, body: &[u8]) -> HttpResponse {
    let form = fields(std::str::from_utf8(body).unwrap_or_default());
    let Some(link) = link_of(&form) else { return refused(&SandboxError::NotFound) };
    let (mut state, now) = (sandbox.lock(), sandbox.clock().now());
    let visit = match state.world.visit(link, now) {
        Ok(visit) => visit,
        Err(refusal) => return refused(&refusal),
    };
    match form.get("outcome").map(String::as_str) {
        Some("connect") => match state.world.finish_visit(link, device(&form), now) {
            Ok(urls) => leave(urls.success.as_deref(), "Your heat pump is connected."),
            Err(refusal) => refused(&refusal),
        },
        Some("cancel") => leave(visit.urls.cancel.as_deref(), "Nothing was changed."),
        Some(_) | None => html(StatusCode::OK, page::form(link, &visit, Some("The manufacturer did not let you in."))),
    }
}

/// The fields of a query or of a form; none of one that cannot be read.
fn fields(encoded: &str) -> Form {
    Query::<Form>::from_query(encoded).map(Query::into_inner).unwrap_or_default()
}

fn link_of(fields: &Form) -> Option<ConnectLink> {
    ConnectLink::read(|name| fields.get(name).and_then(|text| Uuid::try_parse(text).ok()))
}

/// Manufacturer and model, as far as the customer named them.
fn device(form: &Form) -> Map<String, Value> {
    let named = |name: &str| form.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let short = |text: &str| text.chars().take(MODEL_CHARS_MAX).collect::<String>();
    let fields = ["manufacturer", "model"].into_iter();
    fields.filter_map(|name| named(name).map(|text| (name.to_owned(), json!(short(text))))).collect()
}

/// Back to the utility's page, exactly as it was given; without one, or where it is no web address, a last page.
fn leave(url: Option<&str>, told: &str) -> HttpResponse {
    let is_web = |url: &&str| url.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match url.filter(is_web).and_then(|url| HeaderValue::from_str(url).ok()) {
        Some(url) => HttpResponse::SeeOther().insert_header((header::LOCATION, url)).finish(),
        None => html(StatusCode::OK, page::told("Thank you", told)),
    }
}

fn refused(refusal: &SandboxError) -> HttpResponse {
    let told = match refusal {
        SandboxError::Untimely(told) | SandboxError::Full(told) => told,
        SandboxError::NotFound
        | SandboxError::Unreadable
        | SandboxError::Unauthorized
        | SandboxError::Forbidden
        | SandboxError::MethodNotAllowed
        | SandboxError::NoData
        | SandboxError::Duplicate { .. }
        | SandboxError::Invalid(_) => "This link leads nowhere.",
    };
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    html(status, page::told("This does not work", told))
}

fn html(status: StatusCode, page: String) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // No `form-action`: browsers hold it against the utility's page, to which the answer of the form redirects.
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'",
        ))
        .body(page)
}
