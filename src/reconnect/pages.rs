//! The state of the owner's pages, and the questions that they ask before they show something.
//!
//! Before: [`crate::app`] makes it. After: [`super::routes`] answers requests with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::limits::WindowLimit;
use super::page::Appearance;
use crate::config::{ReconnectSection, Secret, Secrets};
use crate::domain::Timestamp;
use crate::domain::plan::page_language;
use crate::domain::reconnect::texts::FALLBACK_LANGUAGE;
use crate::domain::reconnect::{LinkRefusal, LinkToken, verify};
use crate::link_maker::LinkMaker;
use crate::listener::peers::Peer;
use crate::metrics::Metrics;
use crate::store::{OwnedPump, RefusalRows};

/// Clicks on one link within [`WINDOW`]: a person who goes astray at the manufacturer tries a few times.
const CLICKS_PER_LINK: u32 = 5;

/// Clicks from one address within [`WINDOW`]: a household has one heat pump, and many households may share an address.
const CLICKS_PER_PEER: u32 = 30;

/// Pages for one address within [`WINDOW`]: a landing page that waits is fetched 90 times, and the scanner of a mail server opens
/// the links of many customers.
const PAGES_PER_PEER: u32 = 600;

/// Time within which requests are counted, and after which the page says that one may try again.
pub(super) const WINDOW: Duration = Duration::from_mins(15);

/// Limit of clicks that are carried out at once: as many as heat pumps are polled often, so that clicks leave the budget to events.
const CLICKS_AT_ONCE: usize = 20;

/// State of the pages; the listener's workers share it.
pub struct OwnerPages {
    pub(super) maker: LinkMaker,
    pub(super) metrics: Metrics,
    pub(super) link_ttl: Duration,
    pub(super) appearance: Appearance,
    pub(super) clicks: Arc<Semaphore>,
    pub(super) strangers: RefusalRows,
    /// By heat pump and moment: one who holds a dead link of a heat pump takes nothing from the link of its owner.
    pub(super) per_link: WindowLimit<(Uuid, Timestamp)>,
    pub(super) clicks_per_peer: WindowLimit<Peer>,
    pub(super) pages_per_peer: WindowLimit<Peer>,
    secrets: Secrets,
    home_language: &'static str,
}

/// A token that was verified, and the heat pump that it names.
pub(super) struct AskedLink {
    pub(super) token: LinkToken,
    pub(super) pump: Option<OwnedPump>,
    secrets: Arc<[Secret]>,
}

impl AskedLink {
    /// The secrets by which the token was verified.
    pub(super) fn secrets(&self) -> Vec<&str> {
        self.secrets.iter().map(Secret::expose).collect()
    }
}

impl OwnerPages {
    /// The pages of this configuration. `home_language` is the one of customers of whom nothing else is known.
    pub fn new(settings: &ReconnectSection, home_language: Option<String>, maker: LinkMaker, metrics: Metrics) -> Self {
        let ReconnectSection { base_url: _, secrets, link_ttl, operator_name, contact, logo } = settings.clone();
        Self {
            maker,
            metrics,
            link_ttl,
            appearance: Appearance::new(operator_name, contact, logo.as_ref()),
            clicks: Arc::new(Semaphore::new(CLICKS_AT_ONCE)),
            strangers: RefusalRows::default(),
            per_link: WindowLimit::new(CLICKS_PER_LINK, WINDOW),
            clicks_per_peer: WindowLimit::new(CLICKS_PER_PEER, WINDOW),
            pages_per_peer: WindowLimit::new(PAGES_PER_PEER, WINDOW),
            secrets,
            home_language: home_language.as_deref().and_then(page_language).unwrap_or(FALLBACK_LANGUAGE),
        }
    }

    /// Verifies a token, and looks its heat pump up. A token that is not ours costs no look.
    pub(super) async fn ask(&self, token: &str) -> Result<AskedLink, LinkRefusal> {
        let secrets = self.secrets.now();
        let known: Vec<&str> = secrets.iter().map(Secret::expose).collect();
        let token = verify(token, &known).ok_or(LinkRefusal::Forged)?;
        match self.maker.store.owned_pump(token.heat_pump).await {
            Ok(pump) => Ok(AskedLink { token, pump, secrets }),
            Err(error) => {
                tracing::warn!(%error, "the store did not answer the page of a reconnection link");
                Err(LinkRefusal::Away)
            }
        }
    }

    /// The language of the owner: the one that upstream named, else the browser's, else that of the country of the home.
    pub(super) async fn language_of(&self, asked: &AskedLink, accepted: Option<&'static str>) -> &'static str {
        let customer = asked.pump.as_ref().and_then(|pump| pump.customer.as_deref());
        let known = match customer {
            // A page without this is a page all the same.
            Some(customer) => self.maker.store.owner_languages(customer).await.unwrap_or_default(),
            None => Default::default(),
        };
        known.named.or(accepted).or(known.of_country).unwrap_or(self.home_language)
    }

    /// The language of a reader of whom only the browser is known.
    pub(super) fn language_of_stranger(&self, accepted: Option<&'static str>) -> &'static str {
        accepted.unwrap_or(self.home_language)
    }
}
