//! Heat pumps for support staff: lists, open alerts, and a link for a customer who must reconnect one.
//!
//! A link is made when it is asked for and is sent to the caller, nowhere else: the secret in it is bound to its customer and
//! dies within the hour.
//!
//! Before: an operator, a ticketing tool. After: [`crate::store`], [`crate::link_maker`].

use actix_web::{HttpResponse, web};
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
use crate::domain::alert::Knowledge;
use crate::domain::audit::{Action, AuditOutcome, AuditReason};
use crate::domain::call::{Cue, OnboardingPolicy, ResolveCue};
use crate::link_maker::{LandingPages, LinkOrder, MadeLink, NoLink};
use crate::problem::ProblemKind;
use crate::store::{PumpFilter, PumpView, WatchedFor};

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

/// The fleet in numbers.
pub(super) async fn summary(admin: web::Data<Admin>) -> ApiResult {
    Ok(HttpResponse::Ok().json(admin.store.fleet().await?))
}

/// One heat pump and all that is known of it.
pub(super) async fn heat_pump(admin: web::Data<Admin>, id: web::Path<String>) -> ApiResult {
    let unknown = || ApiError::not_found("no heat pump that was ever seen has this id");
    Ok(HttpResponse::Ok().json(admin.store.pump_detail(&id).await?.ok_or_else(unknown)?))
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
    /// The languages that a page may have.
    pub fn languages() -> impl Iterator<Item = &'static str> {
        Language::names().into_iter()
    }

    /// A request with these parts, if they are right.
    pub fn accept(
        success_url: Option<String>,
        cancel_url: Option<String>,
        language: Option<String>,
    ) -> Result<Self, ApiError> {
        Self { success_url, cancel_url, language }.checked().map_err(ApiError::malformed)
    }

    fn read(body: &[u8]) -> Result<Self, String> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let usage = "send nothing, or `{\"success_url\": U, \"cancel_url\": U, \"language\": L}` or a part of it";
        serde_json::from_slice::<Self>(body).map_err(|_| usage.to_owned())?.checked()
    }

    fn checked(self) -> Result<Self, String> {
        for url in [&self.success_url, &self.cancel_url].into_iter().flatten() {
            let is_web = url.starts_with("https://") || url.starts_with("http://");
            if !is_web || url.chars().count() > URL_CHARS_MAX {
                return Err(format!(
                    "an address begins with https:// or http:// and has at most {URL_CHARS_MAX} characters"
                ));
            }
        }
        if self.language.as_ref().is_some_and(|language| Language::from_name(language).is_none()) {
            return Err(format!("`language` is one of {}", Language::names().join(", ")));
        }
        Ok(self)
    }

    /// The call that begins an action. Configured landing pages take the place of those that were left out, else the bridge's own;
    /// `None`: there are none.
    fn resolve(
        self,
        cue: Cue,
        configured: Option<&OnboardingPolicy>,
        own: Option<&LandingPages>,
    ) -> Option<ResolveCue> {
        let success_url = self.success_url.or_else(|| configured.map(|known| known.success_url.clone()));
        let success_url = success_url.or_else(|| own.map(|own| own.success_url.clone()))?;
        let cancel_url = self.cancel_url.or_else(|| configured.map(|known| known.cancel_url.clone()));
        let cancel_url = cancel_url.or_else(|| own.map(|own| own.cancel_url.clone()))?;
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
    Ok(HttpResponse::Ok().json(make_link(&admin, &caller, &id, wanted).await?))
}

/// Makes a link, as the route and the page do it.
pub async fn make_link(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    wanted: LinkRequest,
) -> Result<ReconnectLink, ApiError> {
    let Some(pump) = admin.store.heat_pump(id).await? else {
        if let Ok(heat_pump) = Uuid::parse_str(id) {
            // It has no owner that is known; the row names the heat pump alone.
            let order =
                LinkOrder { heat_pump, user: Uuid::nil(), by: caller.actor.clone(), action: Action::LinkCreate };
            admin.links.maker.note(&order, AuditOutcome::Refused, AuditReason::UnknownHeatPump).await?;
        }
        return Err(ApiError::not_found("no heat pump that is watched has this id"));
    };
    let foreign = |_| ApiError::not_found("its ids are none of Podero's");
    let order = LinkOrder {
        heat_pump: Uuid::parse_str(&pump.heat_pump_id).map_err(foreign)?,
        user: Uuid::parse_str(&pump.podero_user_id).map_err(foreign)?,
        by: caller.actor.clone(),
        action: Action::LinkCreate,
    };
    tracing::info!(by = %order.by, heat_pump.id = %order.heat_pump, "a reconnection link is asked for");
    let own = admin.links.maker.landing(&order);
    let landing = |cue| wanted.resolve(cue, admin.links.landing.as_ref(), own.as_ref());
    let MadeLink { url, expires_at } = admin.links.maker.make(&order, landing).await.map_err(not_made)?;
    let watched_until = admin.links.maker.watch(&order, WatchedFor::Agent).await;
    Ok(ReconnectLink { expires_at, heat_pump_id: order.heat_pump, url, watched_until })
}

/// A link for a customer who must reconnect a heat pump.
#[derive(Serialize, JsonSchema)]
pub struct ReconnectLink {
    /// The secret in it expires then.
    pub expires_at: Option<Timestamp>,
    /// Podero's.
    pub heat_pump_id: Uuid,
    /// For this heat pump's owner alone.
    pub url: String,
    /// Until when the heat pump is polled every few seconds, to see it come back; null: heat pumps are not watched, or as many are
    /// polled so as may.
    pub watched_until: Option<Timestamp>,
}

fn not_made(none: NoLink) -> ApiError {
    match none {
        NoLink::NotNeeded => {
            let detail = "Podero asks nothing of this heat pump's owner, and has no link for one";
            ApiError::new(ProblemKind::NoReconnection, detail)
        }
        NoLink::NoLanding => {
            let detail = "Podero wants to know where the customer lands: send `success_url` and `cancel_url`, or configure them \
                          in [onboarding] or [reconnect]";
            ApiError::new(ProblemKind::LandingRequired, detail)
        }
        NoLink::Gone => ApiError::not_found("Podero does not know this heat pump, or its action is over"),
        NoLink::Away => ApiError::new(ProblemKind::Unavailable, "Podero made no link; try again, and see /readyz"),
        NoLink::Store(error) => error.into(),
    }
}
