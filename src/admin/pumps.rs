//! Heat pumps for support staff: lists, open alerts, and a link for a customer who must reconnect one.
//!
//! A link is made when it is asked for and is sent to the caller, nowhere else: the secret in it is bound to its customer and
//! dies within the hour.
//!
//! Before: an operator, a ticketing tool. After: [`crate::store`], [`crate::podero`].

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::access::Caller;
use super::error::{ApiError, ApiResult, whole};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::config::Language;
use crate::domain::Timestamp;
use crate::domain::acts::outcome_of;
use crate::domain::alert::Knowledge;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use crate::domain::call::{Cue, OnboardingPolicy, Reconnection, RefusalKind, Reply, ResolveCue};
use crate::domain::identity::Actor;
use crate::problem::ProblemKind;
use crate::store::{PumpFilter, PumpView};

/// Timeout for creating a reconnection link; an agent has the customer on the phone.
const LINK_TIME_MAX: Duration = Duration::from_secs(20);

/// Life of a link: a cue's secret dies an hour after it was issued (`api-reference/cues/start-a-pending-action`).
const CUE_LIFE: Duration = Duration::from_hours(1);

/// Limit of the address of a landing page in characters: Podero's limit for those of an onboarding.
const URL_CHARS_MAX: usize = 8_000;

/// The query of the list of heat pumps.
#[derive(Deserialize, JsonSchema)]
pub struct PumpsQuery {
    /// Only those.
    #[schemars(extend("enum" = Knowledge::NAMES))]
    state: Option<String>,
    /// Only its.
    manufacturer: Option<String>,
    /// Only those of it.
    region: Option<String>,
}

/// A page of heat pumps.
pub(super) async fn heat_pumps(
    admin: web::Data<Admin>,
    query: web::Query<PumpsQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let PumpsQuery { state, manufacturer, region } = query.into_inner();
    if state.as_ref().is_some_and(|state| !Knowledge::NAMES.contains(&state.as_str())) {
        return Err(ApiError::malformed(format!("`state` is one of {}", Knowledge::NAMES.join(", "))));
    }
    let filter = PumpFilter { state, manufacturer, region, ..PumpFilter::default() };
    Ok(HttpResponse::Ok().json(page_of(&admin, filter, &page).await?.named("heat_pumps")))
}

async fn page_of(admin: &Admin, filter: PumpFilter, page: &PageQuery) -> Result<Page<PumpView>, ApiError> {
    // Podero's ids have no form of their own.
    let after = page.after(|after| (!after.is_empty()).then(|| after.to_owned()))?;
    let limit = page.limit()?;
    let pumps = admin.store.heat_pumps(PumpFilter { after, limit, ..filter }).await?;
    Ok(Page::by_id(pumps, limit, |pump| pump.heat_pump_id.clone()))
}

/// The query of the list of open alerts.
#[derive(Deserialize, JsonSchema)]
pub struct AlertsQuery {
    /// Only `true`: resolved ones are in the customers' timelines.
    open: Option<bool>,
}

/// A page of heat pumps with an open alert. Each page has the open outages and the bridge's own blindness as well.
pub(super) async fn alerts(
    admin: web::Data<Admin>,
    query: web::Query<AlertsQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    if query.open == Some(false) {
        return Err(ApiError::malformed("resolved alerts are in the customers' timelines; ask with `open=true`"));
    }
    let filter = PumpFilter { has_alert: true, ..PumpFilter::default() };
    let mut answer = page_of(&admin, filter, &page).await?.named("alerts");
    answer["outages"] = json!(admin.store.open_outages().await?);
    answer["watch"] = json!(admin.store.open_blindness().await?);
    Ok(HttpResponse::Ok().json(answer))
}

/// The body of a request for a link. All of it may be left out where `onboarding.*` says it.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    #[schemars(length(max = URL_CHARS_MAX), regex(pattern = "^https?://"))]
    success_url: Option<String>,
    #[schemars(length(max = URL_CHARS_MAX), regex(pattern = "^https?://"))]
    cancel_url: Option<String>,
    #[schemars(extend("enum" = Language::names()))]
    language: Option<String>,
}

impl LinkRequest {
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
        if wanted.language.as_ref().is_some_and(|language| Language::from_name(language).is_none()) {
            return Err(format!("`language` is one of {}", Language::names().join(", ")));
        }
        Ok(wanted)
    }

    /// The call that begins an action. Configured landing pages take the place of those that were left out; `None`: there are none.
    fn resolve(self, cue: Cue, configured: Option<&OnboardingPolicy>) -> Option<ResolveCue> {
        let success_url = self.success_url.or_else(|| configured.map(|known| known.success_url.clone()))?;
        let cancel_url = self.cancel_url.or_else(|| configured.map(|known| known.cancel_url.clone()))?;
        let language = self.language.or_else(|| configured.map(|known| known.language.clone()));
        Some(ResolveCue { cue, success_url, cancel_url, language })
    }
}

/// Makes a link under which the owner of a heat pump reconnects it.
pub(super) async fn reconnect_link(
    admin: web::Data<Admin>,
    caller: Caller,
    id: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult {
    let wanted = LinkRequest::read(&whole(body)?).map_err(ApiError::malformed)?;
    let Some(pump) = admin.store.heat_pump(&id).await? else {
        if let Ok(heat_pump) = Uuid::parse_str(&id) {
            let audit = LinkAudit { admin: &admin, by: caller.actor, heat_pump };
            audit.link(AuditOutcome::Refused, Some(AuditReason::UnknownHeatPump)).await?;
        }
        return Err(ApiError::not_found("no heat pump that is watched has this id"));
    };
    let foreign = |_| ApiError::not_found("its ids are none of Podero's");
    let user = Uuid::parse_str(&pump.podero_user_id).map_err(foreign)?;
    let heat_pump = Uuid::parse_str(&pump.heat_pump_id).map_err(foreign)?;
    tracing::info!(by = %caller.actor, heat_pump.id = %heat_pump, "a reconnection link is asked for");
    let asked_at = admin.clock.now();
    let until = asked_at.plus(LINK_TIME_MAX);
    let found = admin.links.client.find_reconnection(user, heat_pump, until).await;
    let audit = LinkAudit { admin: &admin, by: caller.actor.clone(), heat_pump };
    let Reply::Done(way) = found else {
        audit.link(AuditOutcome::Failed, Some(AuditReason::NoLink)).await?;
        return not_made(&found);
    };
    match way {
        None => {
            audit.link(AuditOutcome::Refused, Some(AuditReason::NoReconnection)).await?;
            not_needed()
        }
        Some(Reconnection::Page(url)) => {
            audit.link(AuditOutcome::Done, None).await?;
            made(pump, url, None)
        }
        Some(Reconnection::Cue(cue)) => {
            let Some(resolve) = wanted.resolve(cue, admin.links.landing.as_ref()) else {
                audit.link(AuditOutcome::Refused, Some(AuditReason::LandingRequired)).await?;
                let detail = "Podero wants to know where the customer lands: send `success_url` and `cancel_url`, \
                              or configure them in [onboarding]";
                return Err(ApiError::new(ProblemKind::LandingRequired, detail));
            };
            audit.begin().await?;
            let until = admin.clock.now().plus(LINK_TIME_MAX);
            let begun = admin.links.client.resolve_cue(&resolve, until).await;
            audit.resolved(&begun).await?;
            let Reply::Done(url) = begun else { return not_made(&begun) };
            made(pump, url, Some(asked_at.plus(CUE_LIFE)))
        }
    }
}

/// Writes down what became of a request for a link, before it is answered: a link that no row tells of is not handed out. The call
/// that begins an action has a row before it is made, so that a process that dies meanwhile leaves no change without one.
struct LinkAudit<'a> {
    admin: &'a Admin,
    by: Actor,
    heat_pump: Uuid,
}

impl LinkAudit<'_> {
    fn row(&self, action: Action, outcome: AuditOutcome, reason: Option<String>) -> AuditEntry {
        let target = AuditTarget::new(TargetKind::HeatPump, self.heat_pump.to_string());
        let entry = AuditEntry::done(self.admin.clock.now(), self.by.clone(), action, target);
        AuditEntry { outcome, reason, ..entry }
    }

    async fn link(&self, outcome: AuditOutcome, reason: Option<AuditReason>) -> Result<(), ApiError> {
        let row = self.row(Action::LinkCreate, outcome, reason.map(String::from));
        Ok(self.admin.store.record(vec![row]).await?)
    }

    /// The call that is about to begin the action. Without this row it is not made.
    async fn begin(&self) -> Result<(), ApiError> {
        let row = self.row(Action::PoderoResolveCue, AuditOutcome::Unknown, Some(AuditReason::Begun.into()));
        Ok(self.admin.store.record(vec![row]).await?)
    }

    /// The end of the call, and the link.
    async fn resolved(&self, begun: &Reply<String>) -> Result<(), ApiError> {
        let no_link = || (AuditOutcome::Failed, Some(AuditReason::NoLink.into()));
        let (outcome, reason) = outcome_of(begun).unwrap_or_else(no_link);
        let link = if outcome == AuditOutcome::Done { (outcome, None) } else { no_link() };
        let link = self.row(Action::LinkCreate, link.0, link.1);
        let call = self.row(Action::PoderoResolveCue, outcome, reason);
        Ok(self.admin.store.record(vec![call, link]).await?)
    }
}

/// A link for a customer who must reconnect a heat pump.
#[derive(Serialize, JsonSchema)]
pub struct ReconnectLink {
    /// The secret in it expires then.
    expires_at: Option<Timestamp>,
    /// Podero's.
    #[schemars(with = "Uuid")]
    heat_pump_id: String,
    /// For this heat pump's owner alone.
    url: String,
}

fn made(pump: PumpView, url: String, expires_at: Option<Timestamp>) -> ApiResult {
    Ok(HttpResponse::Ok().json(ReconnectLink { expires_at, heat_pump_id: pump.heat_pump_id, url }))
}

fn not_needed() -> ApiResult {
    let detail = "Podero asks nothing of this heat pump's owner, and has no link for one";
    Err(ApiError::new(ProblemKind::NoReconnection, detail))
}

fn not_made<A>(reply: &Reply<A>) -> ApiResult {
    let is_gone = matches!(reply, Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound);
    if is_gone {
        // The action was done in the meantime, or the heat pump is gone: the next poll shows which.
        return Err(ApiError::not_found("Podero does not know this heat pump, or its action is over"));
    }
    let detail = "Podero made no link; try again, and see /readyz";
    let mut response = ApiError::new(ProblemKind::Unavailable, detail).error_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    Ok(response)
}
