//! Whom the operator's door answers: who has the token, and, where there is none, nobody's web page.
//!
//! It decides by headers alone, before anything is looked up, and answers problem details.
//!
//! Before: [`crate::app`] and the routes of [`crate::admin`] wrap it around. After: their handlers.

use std::net::IpAddr;

use actix_web::Error;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web;
use subtle::ConstantTimeEq;

use super::{Admin, problem};
use crate::problem::ProblemKind;

/// Challenge of a refusal (RFC 9110, §11.6.1). The realm differs from that of the webhooks: another secret is wanted.
const CHALLENGE: &str = r#"Bearer realm="podero-bridge admin""#;

/// Lets pass whoever has the token, or everybody where none is configured.
pub(super) async fn with_token<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let admin = request.app_data::<web::Data<Admin>>().cloned();
    if request.headers().get_all(header::AUTHORIZATION).count() > 1 {
        let refusal = problem(ProblemKind::Malformed, "the header `authorization` is there twice; send it once");
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
    let mut refusal =
        problem(ProblemKind::Unauthorized, "this path wants the header `authorization: Bearer <admin.token>`");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    Ok(request.into_response(refusal).map_into_right_body())
}

/// Without a token the door is on loopback and takes whoever runs on this machine, a browser among them: a page from
/// anywhere may send requests to it, and read the answers once the page's own name resolves to loopback (DNS
/// rebinding). Such requests name the page's host, or where they come from; an operator's tools do not.
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
    Ok(request.into_response(problem(ProblemKind::Forbidden, detail)).map_into_right_body())
}

/// Whether a `Host` (with or without a port) is this machine by its own names.
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
