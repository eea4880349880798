//! The state that the handlers of the admin API share, and what it needs from the rest of the bridge.
//!
//! Before: [`crate::app`] makes it. After: the handlers in this folder.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::access::Access;
use crate::clock::Clock;
use crate::config::Setting;
use crate::domain::call::OnboardingPolicy;
use crate::domain::plan::Policy;
use crate::link_maker::LinkMaker;
use crate::metrics::Metrics;
use crate::store::Store;

/// Readiness of the parts that the bridge needs, one line for each.
pub trait Health: Send + Sync {
    /// The parts other than the store, each with its state.
    fn parts(&self) -> Vec<Part>;
}

/// One line of `/readyz`.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// True if the part is well.
    pub is_ready: bool,
    /// State in a few words.
    pub state: String,
}

/// The state of the admin API; shared by its workers.
pub struct Admin {
    /// The tables.
    pub store: Store,
    /// The instruments.
    pub metrics: Metrics,
    /// Broker and Podero.
    pub health: Box<dyn Health>,
    /// The callers that are known.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Wakes the appliers when a parked event goes back to work.
    pub wake: Arc<Notify>,
    /// Wakes the step of bulk retries when one is ordered.
    pub wake_retries: Arc<Notify>,
    /// Makes links for customers who must reconnect.
    pub links: Links,
    /// The rules by which events become calls, for rehearsals.
    pub policy: Policy,
    /// Permits of exports of the audit log.
    pub exports: Exports,
    /// The settings in effect, without secrets.
    pub settings: Vec<Setting>,
    /// OpenAPI of the admin API, as JSON.
    pub openapi: String,
}

/// Limit of the exports of the audit log at once: each reads the store for as long as it lasts.
const EXPORTS_MAX: usize = 2;

/// The permits of exports of the audit log.
pub struct Exports(Arc<Semaphore>);

impl Default for Exports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }
}

impl Exports {
    /// The permit of one more export; `None`: as many are under way as may be.
    pub(super) fn begin(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// Links for agents.
pub struct Links {
    /// Makes them.
    pub maker: LinkMaker,
    /// Pages where customers land unless the request says otherwise.
    pub landing: Option<OnboardingPolicy>,
}
