//! The guard of the admin API: who calls, whether the role is enough, and, where no token is configured, no web pages.
//!
//! The caller is known before anything is looked up, and noted for the handlers.
//!
//! Before: [`crate::app`] and the routes of [`crate::admin`] wrap it around. After: [`super::access`] knows callers; the handlers.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError, web};

use super::access::{Caller, Credentials, Stranger};
use super::error::ApiError;
use super::state::Admin;
use crate::domain::identity::Role;
use crate::listener::peer_of;
use crate::problem::ProblemKind;

/// Challenges of a refusal (RFC 9110, section 11.6.1). The realm differs from that of the webhook endpoint, which wants another
/// secret.
const CHALLENGES: [&str; 2] =
    [r#"Bearer realm="podero-bridge admin""#, r#"Basic realm="podero-bridge admin", charset="UTF-8""#];

/// Header in which a browser says whose page makes a request (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Lets requests of known callers pass, and notes the caller.
pub(super) async fn with_caller<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match caller_of(&request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(refusal) => Ok(request.into_response(refusal).map_into_right_body()),
    }
}

async fn caller_of(request: &ServiceRequest) -> Result<Caller, HttpResponse> {
    let Some(admin) = request.app_data::<web::Data<Admin>>() else { return Err(unknown()) };
    let headers = request.headers();
    if headers.get_all(header::AUTHORIZATION).count() > 1 {
        let detail = "the header `authorization` is there twice; send it once";
        return Err(ApiError::malformed(detail).error_response());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credentials = Credentials::read(given);
    if matches!(credentials, Credentials::Password { .. }) && is_by_a_page(headers) {
        // A browser keeps a password that was typed once, and sends it with whatever a page of another site asks for.
        let detail = "a web page may not use an operator's password";
        return Err(ApiError::new(ProblemKind::Forbidden, detail).error_response());
    }
    let peer = peer_of(request.request());
    admin.access.identify(&admin.store, credentials, peer).await.map_err(|stranger| match stranger {
        Stranger::Unknown => unknown(),
        Stranger::Waits(wait) => {
            let detail = "too many wrong passwords by this address or for this name; wait, and try again";
            let mut refusal = ApiError::new(ProblemKind::TooManyAttempts, detail).error_response();
            refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            refusal
        }
        Stranger::Crowded => {
            ApiError::new(ProblemKind::Unavailable, "too many passwords wait to be checked; try again").error_response()
        }
        Stranger::NotAnswered(error) => ApiError::from(error).error_response(),
    })
}

fn unknown() -> HttpResponse {
    let detail = "this path wants the header `authorization`: `Bearer` and a token, or `Basic` with an operator's name and \
                  password";
    let mut refusal = ApiError::new(ProblemKind::Unauthorized, detail).error_response();
    for challenge in CHALLENGES {
        refusal.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    refusal
}

/// Lets requests pass whose caller has at least this role.
pub(super) async fn with_role<B: MessageBody + 'static>(
    needed: Role,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let role = request.extensions().get::<Caller>().map(|caller| caller.role);
    match role {
        Some(role) if role.allows(needed) => Ok(next.call(request).await?.map_into_left_body()),
        Some(role) => {
            let detail = format!("this takes the role {needed}; the caller has {role}");
            let refusal = ApiError::new(ProblemKind::RoleRequired, detail).error_response();
            Ok(request.into_response(refusal).map_into_right_body())
        }
        None => Ok(request.into_response(unknown()).map_into_right_body()),
    }
}

/// Refuses the requests of web pages where no token is configured. The admin API is on loopback then and answers every
/// program on the machine, a browser among them: any web page may send requests to it, and read the answers once the page's
/// own name resolves to loopback (DNS rebinding). Such requests name the page's host or origin; an operator's tools do not.
pub async fn not_by_a_page<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let has_tokens = request.app_data::<web::Data<Admin>>().is_some_and(|admin| admin.access.has_tokens());
    let headers = request.headers();
    let is_loopback = headers.get_all(header::HOST).all(|host| host.to_str().is_ok_and(names_loopback));
    if has_tokens || (is_loopback && !headers.contains_key(header::ORIGIN)) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let detail = "without a token this door answers to loopback addresses and `localhost`, and not to web pages";
    Ok(request.into_response(ApiError::new(ProblemKind::Forbidden, detail).error_response()).map_into_right_body())
}

/// Says whether a web page makes the request, and not the person at the browser.
fn is_by_a_page(headers: &HeaderMap) -> bool {
    let is_own = |value: &HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
    headers.contains_key(header::ORIGIN) || headers.get_all(FETCH_SITE).any(|value| !is_own(value))
}

/// Says whether a `Host` (with or without a port) is this machine by its own names.
fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_loopback() {
        for (host, expected) in [
            ("127.0.0.1:9090", true),
            ("127.1.2.3", true),
            ("LocalHost:9090", true),
            ("[::1]:9090", true),
            ("rebound.example:9090", false),
            ("localhost.example", false),
            ("10.0.0.1:9090", false),
            ("[::2]", false),
            ("", false),
        ] {
            assert_eq!(names_loopback(host), expected, "{host}");
        }
    }
}
