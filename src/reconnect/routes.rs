//! Requests to the owner's pages, and their answers.
//!
//! A GET changes nothing. A POST makes the partner's link; each has a row of the audit log, also where it is refused. Of the request only
//! the token, the wanted language and the address are read: neither its host nor its body.
//!
//! Before: a browser. After: [`crate::link_maker`].

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_LANGUAGE, ALLOW, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, REFRESH, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::page::ShownPage;
use super::pages::{AskedLink, OwnerPages, WINDOW};
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditTarget, TargetKind};
use crate::domain::call::{Cue, ResolveCue};
use crate::domain::identity::Actor;
use crate::domain::link;
use crate::domain::plan::page_language;
use crate::domain::reconnect::{
    LandingView, LinkRefusal, LinkView, OwnerPage, accepted_language, judge_landing, judge_link,
};
use crate::link_maker::{LandingPages, LinkOrder, NoLink};
use crate::listener::peer_of;
use crate::store::{CLOSE_WATCH_TIME, WatchedFor};

/// The route of a link as logs and the audit log have it: never with a token.
const LINK_ROUTE: &str = "/r/{token}";

/// Interval in seconds at which a landing page that waits is fetched again: twice that of the polls.
const REFRESH_SECONDS: u32 = 10;

/// Value of `Retry-After`, in seconds, when the partner or the store is away.
const AWAY_SECONDS: u64 = 60;

/// Limit of the query in characters: it has a language, and what the partner may append.
const QUERY_CHARS_MAX: usize = 1_024;

/// Headers of every page, next to the policy of its content. No answer is kept, no search engine lists it, no other page frames it, and no
/// other site learns its address.
const HEADERS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, pages: Arc<OwnerPages>) {
    let link = web::resource(LINK_ROUTE)
        .route(web::get().to(open))
        .route(web::head().to(open))
        .route(web::post().to(click))
        .default_service(web::to(|| wrong_method("GET, HEAD, POST")));
    let landing = |path: &str| web::resource(path).default_service(web::to(|| wrong_method("GET, HEAD")));
    config
        .app_data(web::Data::from(pages))
        .service(link)
        .service(landing("/r/{token}/done").route(web::get().to(arrive)).route(web::head().to(arrive)))
        .service(landing("/r/{token}/stopped").route(web::get().to(stop)).route(web::head().to(stop)));
}

async fn wrong_method(methods: &'static str) -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, methods)).finish()
}

/// The wish of a reader, by query and headers.
#[derive(Clone, Copy)]
struct Wish {
    /// The language of a link at the foot of the page.
    chosen: Option<&'static str>,
    /// The browser's.
    accepted: Option<&'static str>,
}

impl Wish {
    fn of(request: &HttpRequest) -> Self {
        let query = Some(request.query_string()).filter(|query| query.len() <= QUERY_CHARS_MAX).unwrap_or_default();
        // The partner may append parameters of its own.
        let chosen = query.split('&').find_map(|pair| pair.strip_prefix("lang=")).and_then(page_language);
        let header = request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Self { chosen, accepted: header.and_then(accepted_language) }
    }
}

/// A page that is to be shown, or the refusal that makes one.
type Decided = Result<OwnerPage, LinkRefusal>;

/// The link that a page is asked for, within the limit of its reader's address.
async fn asked_by_page(request: &HttpRequest, token: &str, pages: &OwnerPages) -> Result<AskedLink, LinkRefusal> {
    if !pages.pages_per_peer.admit(peer_of(request), pages.maker.clock.now()) {
        return Err(LinkRefusal::Limited);
    }
    pages.ask(token).await
}

/// The page of a link. Opening it makes nothing.
async fn open(request: HttpRequest, token: web::Path<String>, pages: web::Data<OwnerPages>) -> HttpResponse {
    let wish = Wish::of(&request);
    let asked = match asked_by_page(&request, &token, &pages).await {
        Ok(asked) => asked,
        Err(refusal) => return refused(&pages, wish, refusal),
    };
    let decided = match judged(&pages, &asked) {
        Ok(view) => {
            pages.metrics.reconnect_opened.inc();
            Ok(match view {
                LinkView::Offered => OwnerPage::Offer,
                LinkView::Connected => OwnerPage::Connected,
            })
        }
        Err(refusal) => Err(refusal),
    };
    answered(&pages, &asked, wish, decided).await
}

/// The page to which the partner leads the owner back: has it worked?
async fn arrive(request: HttpRequest, token: web::Path<String>, pages: web::Data<OwnerPages>) -> HttpResponse {
    let wish = Wish::of(&request);
    let asked = match asked_by_page(&request, &token, &pages).await {
        Ok(asked) => asked,
        Err(refusal) => return refused(&pages, wish, refusal),
    };
    let standing = asked.pump.as_ref().map(|pump| &pump.standing);
    let now = pages.maker.clock.now();
    let view = judge_landing(&asked.token, &asked.secrets(), standing, now, CLOSE_WATCH_TIME);
    let decided = view.map(|view| match view {
        LandingView::Connected => OwnerPage::Arrived,
        LandingView::Waiting => OwnerPage::Waiting,
        LandingView::Late => OwnerPage::Late,
    });
    answered(&pages, &asked, wish, decided).await
}

/// The page to which the partner leads an owner back who gave up. It says the same to each reader, and asks nothing.
async fn stop(request: HttpRequest, pages: web::Data<OwnerPages>) -> HttpResponse {
    let wish = Wish::of(&request);
    let language = wish.chosen.unwrap_or_else(|| pages.language_of_stranger(wish.accepted));
    shown(&pages, ShownPage { page: OwnerPage::Stopped, language, chosen: wish.chosen })
}

/// The button: makes the partner's link, and leads there.
async fn click(request: HttpRequest, token: web::Path<String>, pages: web::Data<OwnerPages>) -> HttpResponse {
    let wish = Wish::of(&request);
    let now = pages.maker.clock.now();
    if !pages.clicks_per_peer.admit(peer_of(&request), now) {
        return stranger_refused(&pages, wish, LinkRefusal::Limited).await;
    }
    let asked = match pages.ask(&token).await {
        Ok(asked) => asked,
        Err(refusal) => return stranger_refused(&pages, wish, refusal).await,
    };
    // Of a link that is used again and again no more rows are written than of strangers.
    if !pages.per_link.admit((asked.token.heat_pump, asked.token.since), now) {
        return stranger_refused(&pages, wish, LinkRefusal::Limited).await;
    }
    let order = LinkOrder {
        heat_pump: asked.token.heat_pump,
        user: asked.pump.as_ref().map(|pump| pump.standing.owner).unwrap_or_default(),
        // The link is a capability: the one who holds it is not known.
        by: Actor::Bridge,
        action: Action::LinkUse,
    };
    let language = match wish.chosen {
        Some(chosen) => chosen,
        None => pages.language_of(&asked, wish.accepted).await,
    };
    match used(&pages, &asked, &order, language).await {
        Ok(url) => {
            pages.metrics.reconnect_used.inc();
            tracing::info!(heat_pump.id = %order.heat_pump, "an owner was led to the partner's page by a reconnection link");
            let mut answer = HttpResponse::SeeOther();
            answer.insert_header((LOCATION, url));
            protected(&pages, answer.finish())
        }
        Err(refusal) => {
            count(&pages, refusal);
            let page = page_of(refusal);
            shown(&pages, ShownPage { page, language, chosen: wish.chosen })
        }
    }
}

/// Makes the link of a click and returns its address. Each refusal that no call has noted has its row.
async fn used(
    pages: &OwnerPages,
    asked: &AskedLink,
    order: &LinkOrder,
    language: &'static str,
) -> Result<HeaderValue, LinkRefusal> {
    let permit = pages.clicks.try_acquire();
    let allowed = match judged(pages, asked) {
        Err(refusal) => Err(refusal),
        Ok(LinkView::Connected) => Err(LinkRefusal::Connected),
        Ok(LinkView::Offered) if permit.is_err() => Err(LinkRefusal::Away),
        Ok(LinkView::Offered) => Ok(()),
    };
    if let Err(refusal) = allowed {
        if let Err(error) = pages.maker.note(order, AuditOutcome::Refused, refusal.name()).await {
            tracing::warn!(%error, heat_pump.id = %order.heat_pump, "a refused use of a link has no row of the audit log");
        }
        return Err(refusal);
    }
    let landing = pages.maker.landing(order);
    // The pages to return to speak the same language, also to a browser that prefers another.
    let query = format!("?lang={language}");
    let resolve = |cue: Cue| {
        let LandingPages { success_url, cancel_url } = landing?;
        Some(ResolveCue {
            cue,
            success_url: success_url + &query,
            cancel_url: cancel_url + &query,
            language: Some(language.to_owned()),
        })
    };
    let made = pages.maker.make(order, resolve).await;
    match made {
        Ok(made) => {
            let address = safe_address(&made.url).ok_or(LinkRefusal::Away)?;
            pages.maker.watch(order, WatchedFor::Owner).await;
            Ok(address)
        }
        Err(NoLink::NotNeeded | NoLink::NoLanding) => {
            // It may be connected again, and then its alert need not wait for the next round. That is no success of a link.
            pages.maker.watch(order, WatchedFor::Agent).await;
            Err(LinkRefusal::NotNeeded)
        }
        Err(NoLink::Gone | NoLink::Away) => Err(LinkRefusal::Away),
        Err(NoLink::Store(error)) => {
            tracing::warn!(%error, heat_pump.id = %order.heat_pump, "the store did not answer the use of a link");
            Err(LinkRefusal::Away)
        }
    }
}

/// The address of the partner's page, if a customer may be led there: it came from the partner alone, and with TLS.
fn safe_address(url: &str) -> Option<HeaderValue> {
    let is_safe = link::may_go_out(url) && link::is_sealed(url);
    if !is_safe {
        tracing::warn!("Podero's page of a reconnection has an address to which no customer is led");
    }
    HeaderValue::from_str(url).ok().filter(|_| is_safe)
}

fn judged(pages: &OwnerPages, asked: &AskedLink) -> Result<LinkView, LinkRefusal> {
    let standing = asked.pump.as_ref().map(|pump| &pump.standing);
    judge_link(&asked.token, &asked.secrets(), standing, pages.maker.clock.now(), pages.link_ttl)
}

/// A click beyond a limit, or with a token that is none. Strangers can make many: their rows are bounded, and name the route alone.
async fn stranger_refused(pages: &OwnerPages, wish: Wish, refusal: LinkRefusal) -> HttpResponse {
    let target = AuditTarget::new(TargetKind::Route, LINK_ROUTE);
    let row = AuditEntry::done(pages.maker.clock.now(), Actor::Bridge, Action::LinkUse, target);
    pages.strangers.note(&pages.maker.store, [row], refusal.name()).await;
    refused(pages, wish, refusal)
}

/// A page for a reader of whom only the browser is known.
fn refused(pages: &OwnerPages, wish: Wish, refusal: LinkRefusal) -> HttpResponse {
    count(pages, refusal);
    let language = wish.chosen.unwrap_or_else(|| pages.language_of_stranger(wish.accepted));
    shown(pages, ShownPage { page: page_of(refusal), language, chosen: wish.chosen })
}

async fn answered(pages: &OwnerPages, asked: &AskedLink, wish: Wish, decided: Decided) -> HttpResponse {
    let page = match decided {
        Ok(page) => page,
        // A stranger who found an old link does not learn which language its owner reads.
        Err(refusal) => return refused(pages, wish, refusal),
    };
    let language = match wish.chosen {
        Some(chosen) => chosen,
        None => pages.language_of(asked, wish.accepted).await,
    };
    shown(pages, ShownPage { page, language, chosen: wish.chosen })
}

fn count(pages: &OwnerPages, refusal: LinkRefusal) {
    pages.metrics.reconnect_refused.with_label_values(&[refusal.name()]).inc();
}

/// The page of a refusal. The one of a link that is over does not say why: the reader may be another than the owner.
fn page_of(refusal: LinkRefusal) -> OwnerPage {
    match refusal {
        LinkRefusal::Forged | LinkRefusal::Ended | LinkRefusal::OtherOwner => OwnerPage::Invalid,
        LinkRefusal::Expired => OwnerPage::Expired,
        LinkRefusal::Limited => OwnerPage::Limited,
        LinkRefusal::Connected => OwnerPage::Connected,
        LinkRefusal::NotNeeded => OwnerPage::NotNeeded,
        LinkRefusal::Away => OwnerPage::Away,
    }
}

fn shown(pages: &OwnerPages, shown: ShownPage) -> HttpResponse {
    let status = StatusCode::from_u16(shown.page.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = HttpResponse::build(status);
    answer.content_type("text/html; charset=utf-8").insert_header((VARY, ACCEPT_LANGUAGE.as_str()));
    match shown.page {
        // A header, since the page has no script; it goes on for as long as the heat pump is polled often.
        OwnerPage::Waiting => drop(answer.insert_header((REFRESH, REFRESH_SECONDS.to_string()))),
        OwnerPage::Limited => drop(answer.insert_header((RETRY_AFTER, WINDOW.as_secs().to_string()))),
        OwnerPage::Away => drop(answer.insert_header((RETRY_AFTER, AWAY_SECONDS.to_string()))),
        OwnerPage::Offer
        | OwnerPage::Connected
        | OwnerPage::Expired
        | OwnerPage::Invalid
        | OwnerPage::NotNeeded
        | OwnerPage::Arrived
        | OwnerPage::Late
        | OwnerPage::Stopped => {}
    }
    let body = pages.appearance.page(shown);
    protected(pages, answer.body(body))
}

fn protected(pages: &OwnerPages, mut answer: HttpResponse) -> HttpResponse {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&pages.appearance.policy) {
        headers.insert(actix_web::http::header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}
