//! The login of operators: its page, the check, and the end of a session.
//!
//! A login gets a session of its own, whatever session the browser had before. It leads back to the page that was asked for, and to no
//! other site.
//!
//! Before: the guard of [`crate::console`] sends strangers here. After: [`crate::admin`] checks the password, [`crate::store`] has
//! the session.

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use serde::Deserialize;

use super::error::{PageError, PageResult};
use super::guard::{of_link, secret_of, see_other};
use super::parts::with_query;
use super::state::Console;
use super::table::{LOGIN, LOGIN_BY_LINK, OIDC_BEGIN, SCOPE};
use super::visit::{Visit, return_path};
use super::words;
use crate::admin::{AccessRefusal, Admin, AuthError, Caller};
use crate::listener::peer_of;
use crate::store::SessionHolder;

/// The route of a login, as the audit log names it.
const ROUTE: &str = "POST /console/login";

/// The route of a login by link.
const LINK_ROUTE: &str = "POST /console/login/link";

/// The command that adds the first operator.
const ADD_OPERATOR: &str = "podero-bridge operator add NAME --role admin";

/// The query of the login page.
#[derive(Deserialize)]
pub(super) struct LoginQuery {
    next: Option<String>,
    /// Given after a logout.
    ended: Option<String>,
    /// The secret of a sandbox's login link.
    link: Option<String>,
}

/// The form of a login.
#[derive(Deserialize)]
pub(super) struct LoginForm {
    name: String,
    password: String,
    next: Option<String>,
}

/// The form of a login link.
#[derive(Deserialize)]
pub(super) struct LinkForm {
    link: String,
}

/// The page of the login; one who is logged in goes on to the page that was asked for.
pub(super) async fn show(
    visit: Visit,
    admin: web::Data<Admin>,
    console: web::Data<Console>,
    query: web::Query<LoginQuery>,
) -> PageResult {
    let next = return_path(query.next.as_deref());
    if visit.login.is_some() {
        return Ok(see_other(next));
    }
    if let Some(link) = &query.link {
        return match console.offers(link, visit.now) {
            true => Ok(link_page(&visit, link)),
            false => {
                let said = html! { p.note.warn role="alert" { (visit.say(words::LINK_OVER)) } };
                login_page(&visit, &admin, &console, StatusCode::GONE, next, Some(said)).await
            }
        };
    }
    let ended = query.ended.is_some().then(|| html! { p.note.good role="status" { (visit.say(words::LOGIN_ENDED)) } });
    login_page(&visit, &admin, &console, StatusCode::OK, next, ended).await
}

/// The page of a login link. Opening it uses nothing up: a browser may fetch a page that no person opens.
fn link_page(visit: &Visit, link: &str) -> HttpResponse {
    let title = visit.say(words::LOG_IN);
    let main = html! {
        section.panel {
            div {
                h1 { (title) }
                p.soft { (visit.say(words::LINK_ABOUT)) }
            }
            form method="post" action=(LOGIN_BY_LINK) {
                input type="hidden" name="link" value=(link);
                button.main autofocus { (visit.say(words::LINK_OPEN)) }
            }
        }
    };
    visit.page_alone(StatusCode::OK, title, &main)
}

/// Uses a login link, and opens a session.
pub(super) async fn log_in_by_link(
    request: HttpRequest,
    visit: Visit,
    admin: web::Data<Admin>,
    console: web::Data<Console>,
    form: web::Form<LinkForm>,
) -> PageResult {
    if !console.redeem(&form.link, visit.now) {
        admin.access.note_failed_login(&admin.store, AccessRefusal::WrongToken, None, LINK_ROUTE).await;
        let said = html! { p.note.warn role="alert" { (visit.say(words::LINK_OVER)) } };
        return login_page(&visit, &admin, &console, StatusCode::GONE, SCOPE, Some(said)).await;
    }
    let entry = ProvenLogin { holder: SessionHolder::LoginLink, caller: of_link(), next: SCOPE };
    enter(&request, &admin, &console, entry).await
}

async fn login_page(
    visit: &Visit,
    admin: &Admin,
    console: &Console,
    status: StatusCode,
    next: &str,
    said: Option<Markup>,
) -> PageResult {
    let has_operators = admin.store.has_operators().await?;
    let title = visit.say(words::LOG_IN);
    let main = html! {
        section.panel {
            div {
                h1 { (title) }
                p.soft { (visit.say(words::LOGIN_ABOUT)) }
            }
            @if let Some(said) = said { (said) }
            @if !has_operators {
                div.note {
                    p { (visit.say(words::NO_OPERATORS)) }
                    (visit.command(ADD_OPERATOR))
                }
            }
            form method="post" action=(LOGIN) {
                input type="hidden" name="next" value=(next);
                div.field {
                    label for="name" { (visit.say(words::NAME)) }
                    input #name name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus;
                }
                div.field {
                    label for="password" { (visit.say(words::PASSWORD)) }
                    input #password type="password" name="password" autocomplete="current-password" required;
                }
                button.main { (title) }
            }
            // A link: the policy of the page lets no form lead to another site.
            @if let Some(provider) = console.provider() {
                p { a.button href=(begin_address(next)) { (visit.say_with(words::OIDC_LOG_IN, &[provider.name()])) } }
            }
        }
    };
    Ok(visit.page_alone(status, title, &main))
}

/// The way to the identity provider, and from there to this page.
fn begin_address(next: &str) -> String {
    with_query(OIDC_BEGIN, &[("next", Some(next))])
}

/// Checks a login, and opens a session.
pub(super) async fn log_in(
    request: HttpRequest,
    visit: Visit,
    admin: web::Data<Admin>,
    console: web::Data<Console>,
    form: web::Form<LoginForm>,
) -> PageResult {
    let LoginForm { name, password, next } = form.into_inner();
    let next = return_path(next.as_deref());
    let caller = match admin.access.log_in(&admin.store, name.clone(), password, peer_of(&request)).await {
        Ok(caller) => caller,
        Err(error) => return refused(&visit, &admin, &console, error, next).await,
    };
    enter(&request, &admin, &console, ProvenLogin { holder: SessionHolder::Operator(name), caller, next }).await
}

/// A login that was right.
pub(super) struct ProvenLogin<'a> {
    pub(super) holder: SessionHolder,
    pub(super) caller: Caller,
    /// The page that was asked for.
    pub(super) next: &'a str,
}

/// Opens a session, and gives its secret to the browser.
pub(super) async fn enter(
    request: &HttpRequest,
    admin: &Admin,
    console: &Console,
    entry: ProvenLogin<'_>,
) -> PageResult {
    let ProvenLogin { holder, caller, next } = entry;
    let before = secret_of(request, console);
    let secret = admin.store.open_session(&holder, &caller.actor, caller.role, before.as_ref()).await?;
    tracing::info!(by = %caller.actor, role = %caller.role, "an operator logged in at the console");
    let mut answer = see_other(next);
    let cookie = session_cookie(console, secret.expose().to_owned());
    answer.add_cookie(&cookie).map_err(|_| PageError::of(StatusCode::INTERNAL_SERVER_ERROR))?;
    Ok(answer)
}

async fn refused(visit: &Visit, admin: &Admin, console: &Console, error: AuthError, next: &str) -> PageResult {
    let (status, why, operator, said) = match error {
        AuthError::Unknown { why, operator } => {
            (StatusCode::UNAUTHORIZED, Some(why), operator, visit.say(words::LOGIN_WRONG).to_owned())
        }
        AuthError::Waits(wait) => {
            let seconds = (wait.as_secs() + 1).to_string();
            let said = visit.say_with(words::LOGIN_WAIT, &[&seconds]);
            (StatusCode::TOO_MANY_REQUESTS, Some(AccessRefusal::TooManyAttempts), None, said)
        }
        AuthError::Crowded => (StatusCode::SERVICE_UNAVAILABLE, None, None, visit.say(words::LOGIN_CROWDED).to_owned()),
        AuthError::NotAnswered(error) => return Err(error.into()),
    };
    if let Some(why) = why {
        admin.access.note_failed_login(&admin.store, why, operator, ROUTE).await;
    }
    let said = html! { p.note.bad role="alert" { (said) } };
    let mut page = login_page(visit, admin, console, status, next, Some(said)).await?;
    if status != StatusCode::UNAUTHORIZED {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    }
    Ok(page)
}

/// Ends the session of the one who asks.
pub(super) async fn log_out(visit: Visit, admin: web::Data<Admin>, console: web::Data<Console>) -> PageResult {
    let (caller, session) = visit.login.ok_or_else(PageError::unknown)?;
    admin.store.close_session(&session, &caller.actor).await?;
    tracing::info!(by = %caller.actor, "an operator logged out of the console");
    let mut answer = see_other(&format!("{LOGIN}?ended=1"));
    forget_cookie(&console, &mut answer);
    Ok(answer)
}

/// The cookie of a session. It ends with the browser, and the session in any case by its age.
fn session_cookie(console: &Console, value: String) -> Cookie<'static> {
    Cookie::build(console.cookie(), value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(console.is_secure())
        .finish()
}

fn forget_cookie(console: &Console, answer: &mut HttpResponse) {
    let mut cookie = session_cookie(console, String::new());
    cookie.make_removal();
    // A browser that keeps it has the secret of a session that is over.
    let _ = answer.add_cookie(&cookie);
}
