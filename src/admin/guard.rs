//! The guard of the admin API: who calls, whether the role is enough, and, where no token is configured, no web pages.
//!
//! The caller is known before anything is looked up, and noted for the handlers.
//!
//! Before: [`crate::app`] and the routes of [`crate::admin`] wrap it around. After: [`super::access`] knows callers; the handlers.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError, web};

use super::access::{AuthError, Caller, Credentials};
use super::error::ApiError;
use super::refused::AccessRefusal;
use super::state::Admin;
use crate::domain::identity::Role;
use crate::listener::peer_of;
use crate::problem::ProblemKind;

/// Prefix of the paths that want a role.
pub(super) const SCOPE: &str = "/v1";

/// Challenges of a refusal (RFC 9110, section 11.6.1). The realm differs from that of the webhook endpoint, which wants another
/// secret.
const CHALLENGES: [&str; 2] =
    [r#"Bearer realm="podero-bridge admin""#, r#"Basic realm="podero-bridge admin", charset="UTF-8""#];

/// Header in which a browser says whose page makes a request (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Lets requests of known callers pass, and notes the caller. Others are written down and refused.
pub(super) async fn with_caller<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let refusal = match caller_of(&request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            return Ok(next.call(request).await?.map_into_left_body());
        }
        Err(refusal) => refusal,
    };
    if let Some(why) = refusal.why {
        note(&request, why, refusal.operator).await;
    }
    Ok(request.into_response(refusal.answer).map_into_right_body())
}

/// The refusal of a caller who is not known.
struct Refusal {
    answer: HttpResponse,
    /// `None`: the caller may be known, and was not refused for that.
    why: Option<AccessRefusal>,
    operator: Option<String>,
}

impl Refusal {
    fn of(why: AccessRefusal, answer: HttpResponse) -> Self {
        Self { answer, why: Some(why), operator: None }
    }

    fn other(problem: &ApiError) -> Self {
        Self { answer: problem.error_response(), why: None, operator: None }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown { why: why @ AccessRefusal::NoCredentials, operator } => {
                Self { operator, ..Self::of(why, unknown(MISSING)) }
            }
            AuthError::Unknown { why, operator } => Self { operator, ..Self::of(why, unknown(NOT_ACCEPTED)) },
            AuthError::Waits(wait) => {
                let detail = "too many wrong passwords by this address or for this name; wait, and try again";
                let mut answer = ApiError::new(ProblemKind::TooManyAttempts, detail).error_response();
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
                Self::of(AccessRefusal::TooManyAttempts, answer)
            }
            AuthError::Crowded => {
                let detail = "too many passwords wait to be checked; try again";
                Self::other(&ApiError::new(ProblemKind::Unavailable, detail))
            }
            AuthError::NotAnswered(error) => Self::other(&ApiError::from(error)),
        }
    }
}

async fn caller_of(request: &ServiceRequest) -> Result<Caller, Refusal> {
    let Some(admin) = request.app_data::<web::Data<Admin>>() else {
        return Err(Refusal { why: None, ..Refusal::of(AccessRefusal::NoCredentials, unknown(MISSING)) });
    };
    let headers = request.headers();
    if headers.get_all(header::AUTHORIZATION).count() > 1 {
        let detail = "the header `authorization` is there twice; send it once";
        return Err(Refusal::other(&ApiError::malformed(detail)));
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credentials = Credentials::read(given);
    if matches!(credentials, Credentials::Password { .. }) && is_by_a_page(headers) {
        // A browser keeps a password that was typed once, and sends it with whatever a page of another site asks for.
        let detail = "a web page may not use an operator's password";
        let answer = ApiError::new(ProblemKind::Forbidden, detail).error_response();
        return Err(Refusal::of(AccessRefusal::WebPage, answer));
    }
    let peer = peer_of(request.request());
    Ok(admin.access.identify(&admin.store, credentials, peer).await?)
}

/// Detail of a refusal without credentials.
const MISSING: &str = "this path wants the header `authorization`: `Bearer` and a token, or `Basic` with an operator's name and \
                       password; the request has none that can be read";

/// Detail of a refusal of wrong credentials. It does not tell whether an operator has the name.
const NOT_ACCEPTED: &str = "the token, or the name with its password, is not accepted";

fn unknown(detail: &str) -> HttpResponse {
    let mut refusal = ApiError::new(ProblemKind::Unauthorized, detail).error_response();
    for challenge in CHALLENGES {
        refusal.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    refusal
}

/// Writes down that a stranger was refused.
async fn note(request: &ServiceRequest, why: AccessRefusal, operator: Option<String>) {
    if let Some(admin) = request.app_data::<web::Data<Admin>>() {
        admin.access.refused.stranger(&admin.store, why, operator, route_of(request)).await;
    }
}

fn route_of(request: &ServiceRequest) -> String {
    route_name(request.method(), request.match_pattern())
}

/// The name of a route in a row: method and pattern of its path. The sender chooses nothing in it: an odd method is left out, and
/// for an unknown path the prefix stands.
fn route_name(method: &Method, pattern: Option<String>) -> String {
    match pattern {
        Some(pattern) if [Method::GET, Method::POST].contains(method) => format!("{method} {pattern}"),
        Some(pattern) => pattern,
        None => SCOPE.to_owned(),
    }
}

/// The problem of a query with a parameter that is none of these. It is not named: the sender may have typed anything there.
fn unknown_parameter(request: &ServiceRequest, known: &[&str]) -> Option<ApiError> {
    let given = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?;
    let is_known = |(name, _): &(String, String)| known.contains(&name.as_str());
    if given.iter().all(is_known) {
        return None;
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(ApiError::malformed(match names.is_empty() {
        true => "this path takes no parameters".to_owned(),
        false => format!("this path takes the parameters {}, and no other", names.join(", ")),
    }))
}

/// Lets requests pass whose caller has at least this role, and whose query has these parameters and no other. Callers without the role
/// are written down and refused.
pub(super) async fn with_role<B: MessageBody + 'static>(
    needed: Role,
    parameters: &[&str],
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    let Some(Caller { actor, role }) = caller else {
        return Ok(request.into_response(unknown(MISSING)).map_into_right_body());
    };
    if role.allows(needed) {
        if let Some(problem) = unknown_parameter(&request, parameters) {
            return Ok(request.into_response(problem.error_response()).map_into_right_body());
        }
        return Ok(next.call(request).await?.map_into_left_body());
    }
    if let Some(admin) = request.app_data::<web::Data<Admin>>() {
        admin.access.refused.role(&admin.store, actor, needed, route_of(&request)).await;
    }
    let detail = format!("this takes the role {needed}; the caller has {role}");
    let refusal = ApiError::new(ProblemKind::RoleRequired, detail).error_response();
    Ok(request.into_response(refusal).map_into_right_body())
}

/// Prefix of the console, which has a guard of its own.
const CONSOLE: &str = "/console";

/// Refuses the requests of web pages where no token is configured. The admin API is on loopback then and answers every
/// program on the machine, a browser among them: any web page may send requests to it, and read the answers once the page's
/// own name resolves to loopback (DNS rebinding). Such requests name the page's host or origin; an operator's tools do not. The
/// console is for browsers, and always wants a session.
pub async fn not_by_a_page<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let has_tokens = request.app_data::<web::Data<Admin>>().is_some_and(|admin| admin.access.has_tokens());
    let headers = request.headers();
    let is_loopback = headers.get_all(header::HOST).all(|host| host.to_str().is_ok_and(names_loopback));
    let is_console = request.path().strip_prefix(CONSOLE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_console || has_tokens || (is_loopback && !headers.contains_key(header::ORIGIN)) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    if request.path().starts_with(SCOPE) {
        note(&request, AccessRefusal::WebPage, None).await;
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
pub fn names_loopback(host: &str) -> bool {
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
    fn a_route_is_named_by_nothing_that_a_stranger_chose() {
        let named = |method: &str, pattern: Option<&str>| {
            route_name(&Method::from_bytes(method.as_bytes()).expect("a method"), pattern.map(str::to_owned))
        };
        assert_eq!(named("GET", Some("/v1/events/{id}")), "GET /v1/events/{id}");
        assert_eq!(named("ANNA", Some("/v1/events/{id}")), "/v1/events/{id}");
        assert_eq!(named("GET", None), "/v1");
    }

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
