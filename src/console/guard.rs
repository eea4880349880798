//! The guard of the console: whose session it is, whether the role is enough, and whether the request comes from a page of this
//! console; and the headers and the error page of each answer.
//!
//! A request that changes something proves its origin by `Sec-Fetch-Site`, which a page cannot forge, or by `Origin`; there is no token
//! in forms. A session's secret is in a cookie that no script reads.
//!
//! Before: the routes of [`crate::console`]. After: the pages.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};

use super::choices::{Choices, Theme, accepted_language};
use super::error::PageError;
use super::error_page;
use super::parts::with_query;
use super::state::Console;
use super::table::{ConsoleRoute, LOGIN, OIDC_CALLBACK, SCOPE};
use super::visit::{Visit, return_path};
use super::words;
use crate::admin::{Admin, ApiError, Caller, names_loopback};
use crate::domain::Timestamp;
use crate::domain::identity::{Actor, LOGIN_LINK, Role};
use crate::domain::zone::Zone;
use crate::store::{self, LiveSession, SessionHolder, SessionSecret};

/// Header in which a browser says whose page makes a request (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Header of a refresh by the script of a page: no person asks, so that it keeps no session alive.
const REFRESH: &str = "x-console-refresh";

/// Headers of every answer. Nothing but this console's own files is loaded, no other page frames it, and no answer is kept, unless it
/// is one of those files.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// A header that browsers take from an origin alone that they trust: over TLS, or of this machine. Elsewhere they call it an error.
const OPENER: (&str, &str) = ("cross-origin-opener-policy", "same-origin");

/// Makes the visit of each request, lets it pass where it may, and makes the page of what went wrong.
pub(super) async fn protect<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let visit = visit_of(request.request(), None);
    request.extensions_mut().insert(visit);
    let refused = match refusal(&request).await {
        Ok(None) => None,
        Ok(Some(answer)) => return Ok(finished(request.into_response(answer))),
        Err(error) => Some(error),
    };
    let answer = match refused {
        Some(error) => request.error_response(error),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    let shown = answer.response().error().map(|error| {
        let of_page = error.as_error::<PageError>().cloned();
        let of_api = || error.as_error::<ApiError>().map(PageError::from);
        of_page.or_else(of_api).unwrap_or_else(|| PageError::of(answer.status()))
    });
    Ok(finished(match shown {
        Some(error) => {
            let page = error_page::page(answer.request(), &error);
            answer.into_response(page)
        }
        None => answer,
    }))
}

/// Lets requests pass whose caller has at least this role. The others are written down and refused.
pub(super) async fn with_role(
    needed: Role,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    let Some(caller) = caller else { return Ok(request.error_response(PageError::unknown())) };
    if caller.role.allows(needed) {
        return next.call(request).await;
    }
    if let Some(admin) = request.app_data::<web::Data<Admin>>() {
        admin.access.note_missing_role(&admin.store, &caller, needed, &route_of(&request)).await;
    }
    let error =
        PageError::of(StatusCode::FORBIDDEN).with(words::ERROR_ROLE_DETAIL, &[needed.name(), caller.role.name()]);
    Ok(request.error_response(error))
}

/// The answer instead of the page: of a request that may not be made, or a way to the login. Notes caller and session of the others.
async fn refusal(request: &ServiceRequest) -> Result<Option<HttpResponse>, PageError> {
    let (Some(console), Some(admin)) =
        (request.app_data::<web::Data<Console>>(), request.app_data::<web::Data<Admin>>())
    else {
        return Err(PageError::unknown());
    };
    if !is_known_host(console, request.headers()) {
        return Err(PageError::new(StatusCode::FORBIDDEN, words::ERROR_HOST).with(words::ERROR_HOST_DETAIL, &[]));
    }
    let is_safe = [Method::GET, Method::HEAD].contains(request.method());
    if !is_safe && !is_own(console, request.headers()) {
        admin.access.note_web_page(&admin.store, &route_of(request)).await;
        let error = PageError::new(StatusCode::FORBIDDEN, words::ERROR_FOREIGN);
        return Err(error.with(words::ERROR_FOREIGN_DETAIL, &[]));
    }
    if let Some(login) = login_of(request.request(), console, admin).await? {
        let visit = visit_of(request.request(), Some(login.clone()));
        request.extensions_mut().insert(visit);
        request.extensions_mut().insert(login.0);
        return Ok(None);
    }
    let pattern = request.match_pattern();
    let is_open = |route: ConsoleRoute| route.row().role.is_none() && pattern.as_deref() == Some(route.row().path);
    if ConsoleRoute::ALL.into_iter().any(is_open) {
        return Ok(None);
    }
    let wanted = if is_safe { return_path(Some(&address_of(request.request()))).to_owned() } else { SCOPE.to_owned() };
    Ok(Some(to_login(&wanted)))
}

/// A way to the login, and from there to this page.
fn to_login(wanted: &str) -> HttpResponse {
    let next = Some(wanted).filter(|wanted| *wanted != SCOPE);
    see_other(&with_query(LOGIN, &[("next", next)]))
}

/// A way to another page, also after a form.
pub(super) fn see_other(address: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, address)).finish()
}

/// The secret of the session that a browser holds.
pub(super) fn secret_of(request: &HttpRequest, console: &Console) -> Option<SessionSecret> {
    request.cookie(console.cookie()).map(|cookie| SessionSecret::given(cookie.value()))
}

/// The caller and the session of a request, if it goes on; notes its use.
async fn login_of(
    request: &HttpRequest,
    console: &Console,
    admin: &Admin,
) -> Result<Option<(Caller, LiveSession)>, store::Error> {
    let Some(secret) = secret_of(request, console) else { return Ok(None) };
    let Some(session) = admin.store.session(&secret).await? else { return Ok(None) };
    let Some(caller) = caller_of(&session, console) else { return Ok(None) };
    let is_refresh = request.headers().contains_key(REFRESH);
    if !is_refresh && session.age.is_noted(admin.clock.now()) {
        // A store that takes no writes shows its pages all the same.
        if let Err(error) = admin.store.note_session(&session).await {
            tracing::debug!(%error, "the use of a session was not written down");
        }
    }
    Ok(Some((caller, session)))
}

/// The caller whose session it is. The one who used a sandbox's login link is one for as long as there is a sandbox, and the one whom an
/// identity provider knows for as long as it is configured.
fn caller_of(session: &LiveSession, console: &Console) -> Option<Caller> {
    match &session.holder {
        SessionHolder::Operator(name) => session.role.map(|role| Caller { actor: Actor::Operator(name.clone()), role }),
        SessionHolder::Oidc(name, role) => {
            console.provider().is_some().then(|| Caller { actor: Actor::Oidc(name.clone()), role: *role })
        }
        SessionHolder::LoginLink => console.has_link().then(of_link),
    }
}

/// The caller who used the login link of a sandbox.
pub(super) fn of_link() -> Caller {
    Caller { actor: Actor::Token(LOGIN_LINK.to_owned()), role: Role::Admin }
}

fn visit_of(request: &HttpRequest, login: Option<(Caller, LiveSession)>) -> Visit {
    let choices = Choices::of(request);
    let console = request.app_data::<web::Data<Console>>();
    let clock = request.app_data::<web::Data<Admin>>().map(|admin| admin.clock.now());
    let zone_at_home = console.map_or(Zone::UTC, |console| console.time_zone.clone());
    Visit {
        login,
        language: choices.language.unwrap_or_else(|| accepted_language(request)),
        theme: choices.theme.unwrap_or(Theme::System),
        zone: choices.zone.unwrap_or_else(|| zone_at_home.clone()),
        zone_at_home,
        now: clock.unwrap_or(Timestamp::from_micros(0)),
        address: address_of(request),
    }
}

fn address_of(request: &HttpRequest) -> String {
    // The address of the way back from an identity provider has its code, which no page repeats.
    if request.path() == OIDC_CALLBACK {
        return LOGIN.to_owned();
    }
    request.uri().path_and_query().map_or_else(|| SCOPE.to_owned(), |address| address.as_str().to_owned())
}

/// Says whether the console is reached by a name of its own: a page of another name that resolves to this machine (DNS rebinding) is
/// none. Behind a proxy the browser knows the name alone.
fn is_known_host(console: &Console, headers: &HeaderMap) -> bool {
    let is_loopback = || headers.get_all(header::HOST).all(|host| host.to_str().is_ok_and(names_loopback));
    console.base_url().is_some() || is_loopback()
}

/// Says whether a page of this console makes the request.
fn is_own(console: &Console, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(FETCH_SITE).peekable();
    if sites.peek().is_some() {
        return sites.all(|site| site.as_bytes() == b"same-origin");
    }
    let expected = match console.base_url() {
        Some(url) => url.to_owned(),
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            format!("http://{host}")
        }
    };
    let mut origins = headers.get_all(header::ORIGIN).peekable();
    origins.peek().is_some() && origins.all(|origin| origin.as_bytes() == expected.as_bytes())
}

/// Method and pattern of a route, in which the sender chooses nothing.
fn route_of(request: &ServiceRequest) -> String {
    let method = if request.method() == Method::GET { "GET" } else { "POST" };
    format!("{method} {}", request.match_pattern().unwrap_or_else(|| SCOPE.to_owned()))
}

fn finished(mut answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let console = answer.request().app_data::<web::Data<Console>>();
    let is_trusted = console.is_none_or(|console| console.is_secure() || console.base_url().is_none());
    let headers = answer.headers_mut();
    for (name, value) in HEADERS.into_iter().chain(is_trusted.then_some(OPENER)) {
        let name = HeaderName::from_static(name);
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_page_of_this_console_changes_something() {
        let (at_home, behind) =
            (Console::new(None, Zone::UTC), Console::new(Some("https://bridge.utility.example".to_owned()), Zone::UTC));
        for (name, console, headers, expected) in [
            ("no header at all is no browser", &at_home, &[("host", "localhost:1")][..], false),
            ("its own page", &at_home, &[("sec-fetch-site", "same-origin")], true),
            ("typed by a person, which is no form", &at_home, &[("sec-fetch-site", "none")], false),
            ("a page of another site", &at_home, &[("sec-fetch-site", "cross-site")], false),
            ("a page of another host of the site", &at_home, &[("sec-fetch-site", "same-site")], false),
            (
                "the browser's word goes before the origin",
                &at_home,
                &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:1"), ("host", "localhost:1")],
                false,
            ),
            ("two words", &at_home, &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")], false),
            ("an old browser", &at_home, &[("origin", "http://localhost:1"), ("host", "localhost:1")], true),
            ("another port", &at_home, &[("origin", "http://localhost:2"), ("host", "localhost:1")], false),
            ("an origin without a name", &at_home, &[("origin", "null"), ("host", "localhost:1")], false),
            (
                "behind a proxy that gives its own host",
                &behind,
                &[("origin", "https://bridge.utility.example"), ("host", "10.0.0.7:9090")],
                true,
            ),
            (
                "behind a proxy, without TLS",
                &behind,
                &[("origin", "http://bridge.utility.example"), ("host", "bridge.utility.example")],
                false,
            ),
        ] {
            let request = headers.iter().fold(TestRequest::default(), |request, header| request.append_header(*header));
            let request = request.to_http_request();
            assert_eq!(is_own(console, request.headers()), expected, "{name}");
        }
    }
}
