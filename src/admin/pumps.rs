//! Heat pumps for support staff: lists, open alerts, and a link for a customer who must reconnect one.
//!
//! A link is made at the moment when it is asked for and goes to whoever asked, nowhere else: what opens it is bound to
//! its customer and dies within the hour.
//!
//! Before: an operator, a ticketing tool. After: [`crate::store`], [`crate::podero`].

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Admin, away, problem};
use crate::config::Language;
use crate::domain::alert::Knowledge;
use crate::domain::call::{Answer, Call, Cue, Reconnection, RefusalKind, Reply};
use crate::podero::{Client, Partner, Urgency};
use crate::problem::ProblemKind;
use crate::store::{PumpFilter, PumpView, ROWS_MAX};

/// Whoever waits on the telephone waits no longer for Podero's answer than this.
const LINK_TIME_MAX: Duration = Duration::from_secs(20);

/// A cue's secret dies an hour after it was issued (`api-reference/cues/start-a-pending-action`).
const CUE_LIFE: Duration = Duration::from_hours(1);

/// Longest address of a landing page: Podero's limit for those of an onboarding.
const URL_CHARS_MAX: usize = 8_000;

/// Where a customer lands who has reconnected a heat pump, or given up.
#[derive(Debug, Clone)]
pub struct Landing {
    /// `onboarding.success_url`.
    pub success_url: String,
    /// `onboarding.cancel_url`.
    pub cancel_url: String,
    /// `onboarding.language`.
    pub language: Option<String>,
}

/// What makes links.
pub struct Links {
    /// Podero.
    pub client: Client,
    /// Where customers land unless the request says otherwise.
    pub landing: Option<Landing>,
}

#[derive(Deserialize)]
pub(super) struct PumpsQuery {
    state: Option<String>,
    manufacturer: Option<String>,
    region: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

/// A page of heat pumps. `next`, if there is more, is the next page's `after`.
pub(super) async fn heat_pumps(admin: web::Data<Admin>, query: web::Query<PumpsQuery>) -> HttpResponse {
    let query = query.into_inner();
    if let Some(state) = &query.state
        && !Knowledge::NAMES.contains(&state.as_str())
    {
        let known = Knowledge::NAMES.join(", ");
        return problem(ProblemKind::Malformed, &format!("`state` is one of {known}"));
    }
    let limit = query.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
    let filter = PumpFilter {
        state: query.state,
        manufacturer: query.manufacturer,
        region: query.region,
        after: query.after,
        has_alert: false,
        limit,
    };
    match admin.store.heat_pumps(filter).await {
        Ok(pumps) => HttpResponse::Ok().json(json!({ "next": next(&pumps, limit), "heat_pumps": pumps })),
        Err(error) => away(&error),
    }
}

/// Where the next page begins, if this one is full.
fn next(pumps: &[PumpView], limit: i64) -> Option<String> {
    let is_full = i64::try_from(pumps.len()).is_ok_and(|count| count == limit);
    pumps.last().filter(|_| is_full).map(|last| last.heat_pump_id.clone())
}

#[derive(Deserialize)]
pub(super) struct AlertsQuery {
    open: Option<bool>,
    after: Option<String>,
    limit: Option<i64>,
}

/// A page of heat pumps with an open alert; with the first one the outages and the bridge's own blindness.
pub(super) async fn alerts(admin: web::Data<Admin>, query: web::Query<AlertsQuery>) -> HttpResponse {
    if query.open == Some(false) {
        let detail = "resolved alerts are in the customers' timelines; ask with `open=true`";
        return problem(ProblemKind::Malformed, detail);
    }
    let limit = query.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
    let filter = PumpFilter { has_alert: true, after: query.into_inner().after, limit, ..PumpFilter::default() };
    let store = &admin.store;
    match (store.heat_pumps(filter).await, store.open_outages().await, store.open_blindness().await) {
        (Ok(pumps), Ok(outages), Ok(blindness)) => HttpResponse::Ok().json(json!({
            "next": next(&pumps, limit), "alerts": pumps, "outages": outages, "watch": blindness,
        })),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => away(&error),
    }
}

/// What a link is wanted for; all of it may be left out where `onboarding.*` says it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Wanted {
    success_url: Option<String>,
    cancel_url: Option<String>,
    language: Option<String>,
}

impl Wanted {
    fn read(body: &[u8]) -> Result<Self, String> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let usage = "send nothing, or `{\"success_url\": U, \"cancel_url\": U, \"language\": L}` or a part of it";
        let wanted: Self = serde_json::from_slice(body).map_err(|_| usage.to_owned())?;
        for url in [&wanted.success_url, &wanted.cancel_url].into_iter().flatten() {
            let is_web = url.starts_with("https://") || url.starts_with("http://");
            if !is_web || url.chars().count() > URL_CHARS_MAX {
                return Err(format!(
                    "an address begins with https:// or http:// and has at most {URL_CHARS_MAX} characters"
                ));
            }
        }
        let is_known = |language: &String| Language::WORDS.iter().any(|(word, _)| word == language);
        if wanted.language.as_ref().is_some_and(|language| !is_known(language)) {
            let known: Vec<&str> = Language::WORDS.iter().map(|(word, _)| *word).collect();
            return Err(format!("`language` is one of {}", known.join(", ")));
        }
        Ok(wanted)
    }

    /// With what is configured in the place of what was left out.
    fn landing(self, usual: Option<&Landing>) -> Option<Landing> {
        let success_url = self.success_url.or_else(|| usual.map(|usual| usual.success_url.clone()))?;
        let cancel_url = self.cancel_url.or_else(|| usual.map(|usual| usual.cancel_url.clone()))?;
        let language = self.language.or_else(|| usual.and_then(|usual| usual.language.clone()));
        Some(Landing { success_url, cancel_url, language })
    }
}

/// Makes a link under which the owner of a heat pump reconnects it.
pub(super) async fn reconnect_link(
    admin: web::Data<Admin>,
    id: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(error) => return super::not_whole(&error),
    };
    let wanted = match Wanted::read(&body) {
        Ok(wanted) => wanted,
        Err(wrong) => return problem(ProblemKind::Malformed, &wrong),
    };
    let pump = match admin.store.heat_pump(&id).await {
        Ok(Some(pump)) => pump,
        Ok(None) => return problem(ProblemKind::NotFound, "no heat pump that is watched has this id"),
        Err(error) => return away(&error),
    };
    let ids = (Uuid::parse_str(&pump.podero_user_id), Uuid::parse_str(&pump.heat_pump_id));
    let (Ok(user), Ok(heat_pump)) = ids else { return problem(ProblemKind::NotFound, "its ids are none of Podero's") };
    let asked_at = admin.clock.now();
    let found = admin.ask(&Call::FindReconnection { user, heat_pump }).await;
    let Reply::Done(Answer::Reconnection(way)) = found else { return not_made(&found) };
    match way {
        None => not_needed(),
        Some(Reconnection::Page(url)) => made(&pump, &url, None),
        Some(Reconnection::Cue(cue)) => {
            let Some(landing) = wanted.landing(admin.links.landing.as_ref()) else {
                let detail = "Podero wants to know where the customer lands: send `success_url` and `cancel_url`, \
                              or configure them in [onboarding]";
                return problem(ProblemKind::LandingRequired, detail);
            };
            let begun = admin.ask(&resolve(cue, landing)).await;
            let Reply::Done(Answer::Link { url }) = begun else { return not_made(&begun) };
            made(&pump, &url, Some(asked_at.plus(CUE_LIFE).to_string()))
        }
    }
}

impl Admin {
    async fn ask(&self, call: &Call) -> Reply {
        let until = self.clock.now().plus(LINK_TIME_MAX);
        self.links.client.call(call, None, Urgency::Event { until }).await
    }
}

fn resolve(cue: Cue, landing: Landing) -> Call {
    let Landing { success_url, cancel_url, language } = landing;
    Call::ResolveCue { cue, success_url, cancel_url, language }
}

fn made(pump: &PumpView, url: &str, expires_at: Option<String>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "heat_pump_id": pump.heat_pump_id, "url": url, "expires_at": expires_at }))
}

fn not_needed() -> HttpResponse {
    problem(ProblemKind::NoReconnection, "Podero asks nothing of this heat pump's owner, and has no link for one")
}

fn not_made(reply: &Reply) -> HttpResponse {
    let is_gone = matches!(reply, Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound);
    if is_gone {
        // The action was done in the meantime, or the heat pump is gone: the next poll tells.
        return problem(ProblemKind::NotFound, "Podero does not know this heat pump, or its action is over");
    }
    let mut response = problem(ProblemKind::Unavailable, "Podero made no link; try again, and see /readyz");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    response
}
