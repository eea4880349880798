//! Makes the link under which the owner of a heat pump reconnects it, at the partner: for an agent, and for the owner's own page.
//!
//! A link is made when it is asked for and goes to the one who asked, nowhere else: the secret in it dies within the hour. The call that
//! begins an action has a row of the audit log before it is made, so that a process that dies meanwhile leaves no change without one; and
//! a link that no row tells of is not handed out.
//!
//! Before: [`crate::admin`], [`crate::reconnect`]. After: [`crate::podero`] makes the calls, [`crate::store`] keeps the rows.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::acts::outcome_of;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use crate::domain::call::{Cue, Reconnection, RefusalKind, Reply, ResolveCue};
use crate::domain::identity::Actor;
use crate::domain::reconnect::LinkSigner;
use crate::podero::Client;
use crate::store::{self, Store, WatchedFor};

/// Timeout of each of the two calls that make a link: a person waits.
const LINK_TIME_MAX: Duration = Duration::from_secs(20);

/// Life of a link: a cue's secret dies an hour after it was issued (`api-reference/cues/start-a-pending-action`).
const CUE_LIFE: Duration = Duration::from_hours(1);

/// Maker of links.
#[derive(Clone)]
pub struct LinkMaker {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub client: Client,
    /// Time.
    pub clock: Clock,
    /// True if heat pumps are watched.
    pub is_watching: bool,
    /// The signer of pages of the bridge's own, to which owners come back; `None`: there are none.
    pub signer: Option<SignLinks>,
}

/// Gives the signer of links, with the secret that signs now.
pub type SignLinks = Arc<dyn Fn() -> LinkSigner + Send + Sync>;

/// The pages of the bridge to which the partner leads an owner back.
#[derive(Debug, Clone)]
pub struct LandingPages {
    /// After the login: says whether it has worked.
    pub success_url: String,
    /// After giving up.
    pub cancel_url: String,
}

/// A wish for a link.
#[derive(Debug, Clone)]
pub struct LinkOrder {
    /// The heat pump.
    pub heat_pump: Uuid,
    /// Its owner.
    pub user: Uuid,
    /// The one who asks.
    pub by: Actor,
    /// The act that the audit log records.
    pub action: Action,
}

/// A link.
#[derive(Debug, Clone)]
pub struct MadeLink {
    /// The partner's page, for the owner alone.
    pub url: String,
    /// The end of its life; `None`: it has none.
    pub expires_at: Option<Timestamp>,
}

/// The reason for which no link was made.
#[derive(Debug)]
pub enum NoLink {
    /// Podero asks nothing of the owner, and has no page for them.
    NotNeeded,
    /// Nothing says where the owner is to land.
    NoLanding,
    /// Podero does not know the heat pump, or its action is over.
    Gone,
    /// Podero did not answer, or made none.
    Away,
    /// The audit log could not be written.
    Store(store::Error),
}

impl From<store::Error> for NoLink {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl LinkMaker {
    /// The bridge's own pages to return to; `None`: there are none.
    pub fn landing(&self, order: &LinkOrder) -> Option<LandingPages> {
        let signer = self.signer.as_ref()?();
        let page = signer.landing(order.heat_pump, order.user, self.clock.now());
        Some(LandingPages { success_url: format!("{page}/done"), cancel_url: format!("{page}/stopped") })
    }

    /// Makes a link. `landing` turns the action into the call that begins it; `None` from it: there is no page to return to.
    pub async fn make(
        &self,
        order: &LinkOrder,
        landing: impl FnOnce(Cue) -> Option<ResolveCue>,
    ) -> Result<MadeLink, NoLink> {
        let asked_at = self.clock.now();
        let until = asked_at.plus(LINK_TIME_MAX);
        let found = self.client.find_reconnection(order.user, order.heat_pump, until).await;
        let Reply::Done(way) = found else {
            self.note(order, AuditOutcome::Failed, AuditReason::NoLink).await?;
            return Err(not_made(&found));
        };
        match way {
            None => {
                self.note(order, AuditOutcome::Refused, AuditReason::NoReconnection).await?;
                Err(NoLink::NotNeeded)
            }
            Some(Reconnection::Page(url)) => {
                self.store.record(vec![self.row(order, order.action, AuditOutcome::Done, None)]).await?;
                Ok(MadeLink { url, expires_at: None })
            }
            Some(Reconnection::Cue(cue)) => {
                let Some(resolve) = landing(cue) else {
                    self.note(order, AuditOutcome::Refused, AuditReason::LandingRequired).await?;
                    return Err(NoLink::NoLanding);
                };
                let url = self.begin(order, &resolve).await?;
                Ok(MadeLink { url, expires_at: Some(asked_at.plus(CUE_LIFE)) })
            }
        }
    }

    /// Has the heat pump polled every few seconds for a while. Returns the end of it; `None`: heat pumps are not watched, or as many are
    /// polled so as may. A link is handed out also where nobody will see it used.
    pub async fn watch(&self, order: &LinkOrder, watched_for: WatchedFor) -> Option<Timestamp> {
        if !self.is_watching {
            return None;
        }
        self.store.watch_closely(order.heat_pump, order.user, watched_for).await.unwrap_or_else(|error| {
            tracing::warn!(%error, heat_pump.id = %order.heat_pump, "a close watch could not be begun");
            None
        })
    }

    /// Writes down a wish that is refused.
    pub async fn note(
        &self,
        order: &LinkOrder,
        outcome: AuditOutcome,
        reason: impl Into<String>,
    ) -> Result<(), store::Error> {
        self.store.record(vec![self.row(order, order.action, outcome, Some(reason.into()))]).await
    }

    /// Begins the action of a cue, and returns its page.
    async fn begin(&self, order: &LinkOrder, resolve: &ResolveCue) -> Result<String, NoLink> {
        let (call, begun) = (Action::PoderoResolveCue, Some(AuditReason::Begun.into()));
        self.store.record(vec![self.row(order, call, AuditOutcome::Unknown, begun)]).await?;
        let until = self.clock.now().plus(LINK_TIME_MAX);
        let begun = self.client.resolve_cue(resolve, until).await;
        let no_link = || (AuditOutcome::Failed, Some(AuditReason::NoLink.into()));
        let (outcome, reason) = outcome_of(&begun).unwrap_or_else(no_link);
        let link = if outcome == AuditOutcome::Done { (outcome, None) } else { no_link() };
        let rows = vec![self.row(order, call, outcome, reason), self.row(order, order.action, link.0, link.1)];
        self.store.record(rows).await?;
        let Reply::Done(url) = begun else { return Err(not_made(&begun)) };
        Ok(url)
    }

    fn row(&self, order: &LinkOrder, action: Action, outcome: AuditOutcome, reason: Option<String>) -> AuditEntry {
        let target = AuditTarget::new(TargetKind::HeatPump, order.heat_pump.to_string());
        let entry = AuditEntry::done(self.clock.now(), order.by.clone(), action, target);
        AuditEntry { outcome, reason, ..entry }
    }
}

fn not_made<A>(reply: &Reply<A>) -> NoLink {
    // The action was done in the meantime, or the heat pump is gone: the next poll shows which.
    let is_gone = matches!(reply, Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound);
    if is_gone { NoLink::Gone } else { NoLink::Away }
}
