//! The routes of SCIM: the token first, then the rate, then the path. Every answer is SCIM's own JSON.
//!
//! Before: the listener. After: [`super::requests`].

use std::sync::Arc;

use actix_web::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::Value;

use super::super::bodies::Sender;
use super::super::http::{content_length, read};
use super::super::json;
use super::endpoint::ScimEndpoint;
use super::requests::{Body, ScimCaller, ScimQuery, ScimReply};
use crate::domain::scim::{
    self, GroupFilter, Projection, ScimDocument, ScimError, ScimFilter, ScimGroup, ScimPage, ScimType, ScimWrite,
    read_patch,
};
use crate::listener::peer_of;
use crate::problem::{Problem, ProblemKind};

/// Limit of a query in bytes: a filter, and names of attributes.
const QUERY_BYTES_MAX: usize = 4_096;

/// The media types of a body; without one it is taken for the first.
const MEDIA_TYPES: [&str; 2] = ["application/scim+json", "application/json"];

/// Value of `Retry-After` beyond the rate.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Value of `Retry-After` while the store is away.
const AWAY_SECONDS: u64 = 5;

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, scim: Arc<ScimEndpoint>) {
    config.app_data(web::Data::from(scim)).service(web::resource("/scim/v2{tail:(/.*)?}").route(web::to(serve)));
}

async fn serve(request: HttpRequest, body: Payload, scim: web::Data<ScimEndpoint>) -> HttpResponse {
    let authorization = request.headers().get(AUTHORIZATION);
    let Some(token) = scim.access.caller(authorization.and_then(|value| value.to_str().ok())) else {
        scim.access.note_stranger(&scim.inbox.store, authorization.is_some()).await;
        let class = "of no token";
        // Every stranger who reaches the port can cause it.
        tracing::info!(class, status = 401_u16, "a request of SCIM was refused");
        let mut response = respond_error(&ScimError::new(401, "a token of [[scim.token]] is needed, as `Bearer`"));
        response.headers_mut().insert(WWW_AUTHENTICATE, actix_web::http::header::HeaderValue::from_static("Bearer"));
        return response;
    };
    scim.proved.note(peer_of(&request));
    if !scim.access.admit(&token) {
        let mut response = respond_error(&ScimError::new(429, "more requests than a token may make; slow down"));
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        return response;
    }
    let caller = ScimCaller { token };
    match route(&request, body, &scim, &caller).await {
        Ok(reply) => respond(reply),
        Err(error) => {
            let kind = error.kind.map(ScimType::name);
            tracing::warn!(token = caller.token, status = error.status, kind, "a request of SCIM was refused");
            refusal(&request, &error)
        }
    }
}

/// The answer to a refused request, with the header that its status asks for.
fn refusal(request: &HttpRequest, error: &ScimError) -> HttpResponse {
    let mut response = respond_error(error);
    match error.status {
        405 => {
            let methods = methods_of(request.match_info().get("tail").unwrap_or_default());
            response.headers_mut().insert(ALLOW, actix_web::http::header::HeaderValue::from_static(methods));
        }
        503 => drop(response.headers_mut().insert(RETRY_AFTER, AWAY_SECONDS.into())),
        _ => {}
    }
    response
}

fn methods_of(tail: &str) -> &'static str {
    let mut parts = tail.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some("Users"), None) => "GET, POST",
        (Some("Users"), Some(_)) => "GET, PUT, PATCH, DELETE",
        (Some("Groups"), Some(_)) => "GET, PUT, PATCH",
        _ => "GET",
    }
}

fn respond(reply: ScimReply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response.insert_header((CACHE_CONTROL, "no-store"));
    if let Some(location) = &reply.location {
        response.insert_header((LOCATION, location.as_str()));
    }
    match reply.body {
        Some(body) => response.content_type(MEDIA_TYPES[0]).body(body.to_string()),
        None => response.finish(),
    }
}

fn respond_error(error: &ScimError) -> HttpResponse {
    respond(ScimReply { status: error.status, location: None, body: Some(error.json()) })
}

/// Errors of the parts that all doors share, in SCIM's words.
fn of_problem(problem: Problem) -> ScimError {
    if problem.kind == ProblemKind::Malformed || problem.kind == ProblemKind::InvalidEvent {
        let detail = format!("the body is not readable as JSON: {}", problem.detail);
        return ScimError::wrong(ScimType::InvalidSyntax, detail);
    }
    ScimError::new(problem.kind.status(), problem.detail)
}

async fn route(
    request: &HttpRequest,
    body: Payload,
    scim: &ScimEndpoint,
    caller: &ScimCaller,
) -> Result<ScimReply, ScimError> {
    let tail = request.match_info().get("tail").unwrap_or_default();
    let parts: Vec<&str> = tail.split('/').filter(|part| !part.is_empty()).collect();
    let (method, query) = (request.method(), query_of(request)?);
    if parts.last() == Some(&".search") || matches!(parts[..], ["Bulk"] | ["Me"]) {
        return Err(ScimError::new(501, "the bridge has no /.search, no Bulk and no Me"));
    }
    match parts[..] {
        ["ServiceProviderConfig" | "ResourceTypes" | "Schemas", ..] => discovery(method, &parts),
        ["Users"] => match *method {
            Method::GET => scim.list_users(&query).await,
            Method::POST => {
                let body = body_of(request, body, scim, caller).await?;
                let document = ScimDocument::read(&body.value)?;
                scim.create_user(caller, document, body, &query.projection).await
            }
            _ => Err(wrong_method()),
        },
        ["Users", id] => match *method {
            Method::GET => scim.user(id, &query.projection).await,
            Method::PUT => {
                let body = body_of(request, body, scim, caller).await?;
                let write = ScimWrite::Replace(ScimDocument::read(&body.value)?);
                scim.write_user(caller, id, write, body, &query.projection).await
            }
            Method::PATCH => {
                let body = body_of(request, body, scim, caller).await?;
                let write = ScimWrite::Patch(read_patch(&body.value)?);
                scim.write_user(caller, id, write, body, &query.projection).await
            }
            Method::DELETE => scim.delete_user(caller, id).await,
            _ => Err(wrong_method()),
        },
        ["Groups"] => match *method {
            Method::GET => scim.list_groups(&query).await,
            Method::POST => Err(ScimError::new(403, "the groups are `staff` and `admin`: none is made")),
            _ => Err(wrong_method()),
        },
        ["Groups", id] => {
            let group = ScimGroup::from_name(id).ok_or_else(|| ScimError::new(404, "there is no such group"))?;
            match *method {
                Method::GET => scim.group(group, &query.projection).await,
                Method::PUT => {
                    let body = body_of(request, body, scim, caller).await?;
                    let changes = scim::read_group_put(&body.value, group)?;
                    scim.change_group(caller, group, &changes, &query.projection).await
                }
                Method::PATCH => {
                    let body = body_of(request, body, scim, caller).await?;
                    let changes = scim::read_group_patch(&read_patch(&body.value)?, group)?;
                    scim.change_group(caller, group, &changes, &query.projection).await
                }
                Method::DELETE => Err(ScimError::new(403, "the groups are `staff` and `admin`: none is deleted")),
                _ => Err(wrong_method()),
            }
        }
        _ => Err(ScimError::new(404, "there is nothing under this path")),
    }
}

fn wrong_method() -> ScimError {
    ScimError::new(405, "the method is not allowed here")
}

fn discovery(method: &Method, parts: &[&str]) -> Result<ScimReply, ScimError> {
    if *method != Method::GET {
        return Err(wrong_method());
    }
    let found = match parts {
        ["ServiceProviderConfig"] => Some(scim::service_provider_config()),
        ["ResourceTypes"] => Some(scim::resource_types()),
        ["ResourceTypes", name] => scim::resource_type(name),
        ["Schemas"] => Some(scim::schemas()),
        ["Schemas", urn] => scim::schema(urn),
        _ => None,
    };
    let found = found.ok_or_else(|| ScimError::new(404, "there is nothing under this path"))?;
    Ok(ScimReply { status: 200, location: None, body: Some(found) })
}

/// The parameters of a query. A name that is not known is passed over.
fn query_of(request: &HttpRequest) -> Result<ScimQuery, ScimError> {
    let text = request.query_string();
    if text.len() > QUERY_BYTES_MAX {
        return Err(ScimError::wrong(ScimType::InvalidValue, "a query has at most 4,096 bytes"));
    }
    let wrong = |_| ScimError::wrong(ScimType::InvalidValue, "the query cannot be read");
    let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map_err(wrong)?.into_inner();
    let of = |wanted: &str| pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, text)| &**text);
    let filter = of("filter").map(str::trim).filter(|filter| !filter.is_empty());
    let is_of_groups = request.match_info().get("tail").is_some_and(|tail| tail.starts_with("/Groups"));
    Ok(ScimQuery {
        users: filter.filter(|_| !is_of_groups).map(ScimFilter::read).transpose()?,
        groups: filter.filter(|_| is_of_groups).map(GroupFilter::read).transpose()?,
        page: ScimPage::read(of("startIndex"), of("count"))?,
        projection: Projection::read(of("attributes"), of("excludedAttributes"))?,
    })
}

/// Reads a body within its bounds.
async fn body_of(
    request: &HttpRequest,
    payload: Payload,
    scim: &ScimEndpoint,
    caller: &ScimCaller,
) -> Result<Body, ScimError> {
    let bytes_max = scim.inbox.body_bytes_max;
    let media_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let media_type = media_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if media_type.is_some_and(|media_type| !MEDIA_TYPES.contains(&&*media_type)) {
        return Err(ScimError::new(415, "a body is application/scim+json or application/json"));
    }
    let length = content_length(request);
    if length.is_some_and(|length| length > bytes_max) {
        return Err(of_problem(Problem::too_large(bytes_max)));
    }
    // No source has a name with a colon.
    let sender = Sender { peer: peer_of(request), source: format!("scim:{}", caller.token), is_proved: true };
    let incoming = scim.bodies.begin(sender, length.unwrap_or_default());
    let (bytes, permit) = read(payload, incoming, bytes_max).await.map_err(of_problem)?;
    let bytes: Bytes = permit.with(bytes.into());
    let budget = scim.inbox.trees.reserve(&bytes).await.map_err(of_problem)?;
    let value: Value = json::read(&bytes).map_err(of_problem)?;
    Ok(Body { bytes, value, _budget: budget })
}
