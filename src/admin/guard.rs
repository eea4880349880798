//! Access to the admin API: by the token, and, where none is configured, not for web pages.
//!
//! It decides by headers alone, before anything is looked up.
//!
//! Before: [`crate::app`] and the routes of [`crate::admin`] wrap it around. After: their handlers.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::state::Admin;
use crate::domain::identity::{Actor, DEFAULT_TOKEN};
use crate::problem::ProblemKind;

/// Challenge of a refusal (RFC 9110, §11.6.1). The realm differs from that of the webhook endpoint, which wants another secret.
const CHALLENGE: &str = r#"Bearer realm="podero-bridge admin""#;

/// Lets requests with the token pass, or all where none is configured.
pub(super) async fn with_token<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let admin = request.app_data::<web::Data<Admin>>().cloned();
    if request.headers().get_all(header::AUTHORIZATION).count() > 1 {
        let refusal = ApiError::malformed("the header `authorization` is there twice; send it once").error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    let wanted = admin.as_ref().and_then(|admin| admin.token.as_ref());
    let is_known = wanted.is_none_or(|token| {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, given)| given.trim().as_bytes().ct_eq(token.expose().as_bytes()).into())
    });
    if is_known {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let detail = "this path wants the header `authorization: Bearer <admin.token>`";
    let mut refusal = ApiError::new(ProblemKind::Unauthorized, detail).error_response();
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    Ok(request.into_response(refusal).map_into_right_body())
}

/// The caller behind the one token.
pub(super) fn by() -> Actor {
    Actor::Token(DEFAULT_TOKEN.to_owned())
}

/// Refuses the requests of web pages where no token is configured. The admin API is on loopback then and answers every
/// program on the machine, a browser among them: any web page may send requests to it, and read the answers once the page's
/// own name resolves to loopback (DNS rebinding). Such requests name the page's host or origin; an operator's tools do not.
pub async fn not_by_a_page<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let has_token = request.app_data::<web::Data<Admin>>().is_some_and(|admin| admin.token.is_some());
    let headers = request.headers();
    let is_loopback = headers.get_all(header::HOST).all(|host| host.to_str().is_ok_and(names_loopback));
    if has_token || (is_loopback && !headers.contains_key(header::ORIGIN)) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let detail = "without admin.token this door answers to loopback addresses and `localhost`, and not to web pages";
    Ok(request.into_response(ApiError::new(ProblemKind::Forbidden, detail).error_response()).map_into_right_body())
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
