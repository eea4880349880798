//! The login by OpenID Connect: the way to the identity provider, and the way back.
//!
//! The browser comes back with a code, which is worth something only together with the cookie of the login that was begun here. A
//! person whom the provider knows, and who has no role of the configuration, gets no session.
//!
//! Before: the page of the login has a link to [`begin`]. After: the identity provider; `login.rs` opens the session.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::guard::see_other;
use super::login::{ProvenLogin, enter};
use super::login_state::{LOGIN_LIFE, LoginState};
use super::provider::{IdentityProvider, ProviderFailure};
use super::state::Console;
use super::table::OIDC_CALLBACK;
use super::visit::{Visit, return_path};
use super::words;
use crate::admin::{AccessRefusal, Admin, Caller};
use crate::domain::identity::Actor;
use crate::store::SessionHolder;

/// The route of the way back, as the audit log names it.
const ROUTE: &str = "GET /console/login/oidc/callback";

/// Name of the cookie of a login that was begun. A browser takes the second one over TLS alone.
const COOKIES: [&str; 2] = ["podero-bridge-login", "__Secure-podero-bridge-login"];

/// The query of the way to the provider.
#[derive(Deserialize)]
pub(super) struct BeginQuery {
    next: Option<String>,
}

/// The query with which the provider leads a browser back.
#[derive(Deserialize)]
pub(super) struct CallbackQuery {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

/// Begins a login: leads to the provider.
pub(super) async fn begin(
    visit: Visit,
    admin: web::Data<Admin>,
    console: web::Data<Console>,
    query: web::Query<BeginQuery>,
) -> PageResult {
    let provider = console.provider().ok_or_else(PageError::unknown)?;
    let next = return_path(query.next.as_deref());
    let login = LoginState::begun(&admin.clock.fresh_secret(), visit.now, next);
    let address = provider.address_of(&login, visit.now).await.map_err(of_failure)?;
    let life = Duration::seconds(i64::try_from(LOGIN_LIFE.as_secs()).unwrap_or(0));
    let cookie = login_cookie(&console, login.sealed(&provider.seal), life);
    with_cookie(see_other(&address), &cookie)
}

/// Ends a login: opens a session for the person whom the provider proves.
pub(super) async fn end(
    request: HttpRequest,
    visit: Visit,
    admin: web::Data<Admin>,
    console: web::Data<Console>,
    query: web::Query<CallbackQuery>,
) -> PageResult {
    let provider = console.provider().ok_or_else(PageError::unknown)?;
    let CallbackQuery { code, state, error } = query.into_inner();
    let refuse = async |why, actor| admin.access.note_failed_oidc(&admin.store, why, actor, ROUTE).await;
    let Some(login) = begun(&request, &console, provider, &visit, state.as_deref()) else {
        refuse(AccessRefusal::WrongLoginState, None).await;
        return Err(again(StatusCode::BAD_REQUEST, words::OIDC_STATE_DETAIL));
    };
    if let Some(error) = error {
        refuse(AccessRefusal::ProviderRefused, None).await;
        return Err(of_provider(&error));
    }
    let code = code.ok_or_else(|| again(StatusCode::BAD_REQUEST, words::OIDC_STATE_DETAIL))?;
    let person = match provider.person(&login, code, visit.now).await {
        Ok(person) => person,
        Err(failure) => {
            match failure {
                ProviderFailure::CodeRefused => refuse(AccessRefusal::ProviderRefused, None).await,
                ProviderFailure::WrongToken(why) => {
                    tracing::warn!(why, "an ID token of the identity provider was refused");
                    refuse(AccessRefusal::WrongIdToken, None).await;
                }
                ProviderFailure::Away | ProviderFailure::Crowded => {}
            }
            return Err(of_failure(failure));
        }
    };
    let actor = Actor::Oidc(person.name.clone());
    let Some(role) = person.role else {
        refuse(AccessRefusal::NoMappedRole, Some(actor)).await;
        let error = PageError::new(StatusCode::FORBIDDEN, words::OIDC_NO_ROLE);
        return Err(error.with(words::OIDC_NO_ROLE_DETAIL, &[provider.name()]));
    };
    let caller = Caller { actor, role };
    let entry =
        ProvenLogin { holder: SessionHolder::Oidc(person.name, role), caller, next: return_path(Some(&login.next)) };
    let answer = enter(&request, &admin, &console, entry).await?;
    // It has led to a session, and leads to no other.
    let mut cookie = login_cookie(&console, String::new(), Duration::ZERO);
    cookie.make_removal();
    with_cookie(answer, &cookie)
}

/// The login that this browser began, if the provider's answer belongs to it.
fn begun(
    request: &HttpRequest,
    console: &Console,
    provider: &IdentityProvider,
    visit: &Visit,
    state: Option<&str>,
) -> Option<LoginState> {
    let cookie = request.cookie(COOKIES[usize::from(console.is_secure())])?;
    let login = LoginState::opened(cookie.value(), &provider.seal, visit.now)?;
    login.is_answered_by(state?, &provider.seal).then_some(login)
}

fn login_cookie(console: &Console, value: String, life: Duration) -> Cookie<'static> {
    Cookie::build(COOKIES[usize::from(console.is_secure())], value)
        .path(OIDC_CALLBACK)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(console.is_secure())
        .max_age(life)
        .finish()
}

fn with_cookie(mut answer: HttpResponse, cookie: &Cookie<'_>) -> PageResult {
    answer.add_cookie(cookie).map_err(|_| PageError::of(StatusCode::INTERNAL_SERVER_ERROR))?;
    Ok(answer)
}

fn again(status: StatusCode, detail: words::Text) -> PageError {
    PageError::new(status, words::OIDC_FAILED).with(detail, &[])
}

/// The page of an error that the provider names (RFC 6749, section 4.1.2.1).
fn of_provider(error: &str) -> PageError {
    match error {
        "access_denied" => again(StatusCode::FORBIDDEN, words::OIDC_DENIED_DETAIL),
        "server_error" | "temporarily_unavailable" => again(StatusCode::SERVICE_UNAVAILABLE, words::OIDC_AWAY_DETAIL),
        _ => again(StatusCode::BAD_GATEWAY, words::OIDC_REFUSED_DETAIL),
    }
}

fn of_failure(failure: ProviderFailure) -> PageError {
    match failure {
        ProviderFailure::Away | ProviderFailure::Crowded => {
            again(StatusCode::SERVICE_UNAVAILABLE, words::OIDC_AWAY_DETAIL)
        }
        ProviderFailure::CodeRefused => again(StatusCode::BAD_REQUEST, words::OIDC_STATE_DETAIL),
        ProviderFailure::WrongToken(_) => again(StatusCode::BAD_GATEWAY, words::OIDC_TOKEN_DETAIL),
    }
}
