//! Makes every stage of the handles that all share.
//!
//! Before: [`super`] has opened the tools. After: [`super::tasks`] repeats the stages' steps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use uuid::Uuid;

use super::listeners::SlowClients;
use crate::admin::{Access, Admin, Exports, Links};
use crate::apply::Applier;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{self, Config, ReconnectSection, Secret};
use crate::console::{Console, IdentityProvider, OIDC_CALLBACK, ProviderError};
use crate::domain::call::Operation;
use crate::domain::chain::hex;
use crate::domain::reconnect::LinkSigner;
use crate::inbound::http::Webhooks;
use crate::inbound::mapping::mapper::Mapper;
use crate::inbound::refusals::Refusals;
use crate::inbound::scim::{ScimAccess, ScimEndpoint};
use crate::inbound::{AllowedTypes, Backlog, Inbox, TreeBudget};
use crate::link_maker::{LinkMaker, SignLinks};
use crate::metrics::Metrics;
use crate::outbound::{Deliver, Publisher, ToBroker, ToWebhook};
use crate::permits::Permits;
use crate::podero::{Client, Drift, Observe};
use crate::pump::Step;
use crate::reconnect::OwnerPages;
use crate::replica::Replica;
use crate::spec;
use crate::staff::Staffing;
use crate::store::{Dialect, Gauges, Store};
use crate::upkeep::{AuditUpkeep, Counting, Measuring, Recorder, Upkeep};
use crate::watch::{SelfService, Watcher};

/// Polling interval of stages that are usually woken. Catches lost wake-ups, and work left by a crashed replica.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The wake-ups by which one stage tells another that there is something to do. They carry nothing, and may be lost.
#[derive(Clone)]
pub(super) struct Wakes {
    /// Wake-up of the applier, which takes all that is due and has room.
    pub(super) work: Arc<Notify>,
    /// Wake-up of the applier of members.
    pub(super) team: Arc<Notify>,
    /// Wake-up of every publisher, which looks for notices.
    pub(super) outbound: Arc<Notify>,
    /// Wake-up of the step of bulk retries, when one is ordered.
    pub(super) retries: Arc<Notify>,
    /// The permits of the applier: no wake-up, but they tell the consumer of the queue when they are saturated.
    pub(super) appliers: Permits,
}

impl Default for Wakes {
    fn default() -> Self {
        let work = Arc::<Notify>::default();
        let appliers = Permits::waking(work.clone());
        Self { work, team: Arc::default(), outbound: Arc::default(), retries: Arc::default(), appliers }
    }
}

/// The tools that all stages share. Clones are the same ones.
#[derive(Clone)]
pub(super) struct Handles {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) broker: Option<Broker>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) backlog: Backlog,
    pub(super) wakes: Wakes,
    /// Names this process among the replicas; fresh at each start.
    pub(super) replica: Uuid,
    pub(super) call_time_max: Duration,
    pub(super) probe_time_max: Duration,
}

/// Gauges that need no table.
pub(super) struct States(pub(super) Handles);

impl States {
    pub(super) fn refresh(&self) -> Step {
        let Handles { metrics, clock, broker, backlog, .. } = &self.0;
        metrics.clock_jump.set(clock.jump().as_secs_f64());
        if let Some(status) = broker.as_ref().map(Broker::status) {
            metrics.broker_connected.set(status.connected().into());
            metrics.broker_consuming.set(status.consuming().into());
        }
        metrics.backlog_full.set(backlog.is_full().into());
        Step::Idle
    }
}

impl Handles {
    pub(super) fn upkeep(&self) -> Upkeep {
        let Self { config, store, wakes, .. } = self.clone();
        let (retention, backlog_max) = (config.store.retention, config.store.backlog_max);
        Upkeep { store, wake: wakes.work, retention, backlog_max }
    }

    pub(super) fn audit_upkeep(&self) -> AuditUpkeep {
        let Self { config, store, clock, metrics, .. } = self.clone();
        AuditUpkeep::new(store, clock, metrics, config.audit.retention)
    }

    pub(super) fn applier(&self) -> Applier<Client> {
        let Self { config, store, client, clock, metrics, wakes, call_time_max, .. } = self.clone();
        Applier {
            store,
            partner: client,
            policy: config.policy.clone(),
            clock,
            metrics,
            wake: wakes.work,
            wake_outbound: wakes.outbound,
            call_time_max,
            request_time_max: config.podero.timeout,
            permits: wakes.appliers,
        }
    }

    /// The applier of members: apart from customers, so that none of their backlogs delays a leave.
    pub(super) fn team_applier(&self) -> Applier<Client> {
        let wake = self.wakes.team.clone();
        Applier { permits: Permits::waking(wake.clone()), wake, ..self.applier() }
    }

    /// The reading of the list of the staff, and the end of what is kept of those who left, also once the team is not administered.
    pub(super) fn staffing(&self) -> Staffing<Client> {
        let Self { config, store, client, clock, .. } = self.clone();
        let policy = config.policy.team.clone();
        Staffing { store, partner: client, clock, policy }
    }

    pub(super) fn watcher(&self) -> Watcher<Client> {
        let Self { config, store, client, clock, wakes, call_time_max, .. } = self.clone();
        Watcher {
            store,
            partner: client,
            policy: config.watch.policy,
            region_chars: config.watch.region_chars,
            lease: call_time_max,
            look_every: Some(LOOK_EVERY),
            clock,
            wake_outbound: wakes.outbound,
            self_service: self.self_service(),
        }
    }

    /// The links of alerts, where owners reconnect their heat pumps themselves.
    fn self_service(&self) -> Option<SelfService> {
        let succeeded = self.metrics.reconnect_succeeded.clone();
        Some(SelfService {
            signer: self.signer()?,
            succeeded: Box::new(move |count| succeeded.inc_by(u64::try_from(count).unwrap_or(u64::MAX))),
        })
    }

    /// The signer of owners' links, with the first of the secrets as they are now.
    fn signer(&self) -> Option<SignLinks> {
        let ReconnectSection { base_url, secrets, .. } = self.config.reconnect.clone()?;
        Some(Arc::new(move || {
            let secret = secrets.now().first().map(|secret| secret.expose().to_owned());
            // The configuration sees to it that there is one; no token of another verifies.
            LinkSigner { base_url: base_url.clone(), secret: secret.unwrap_or_default() }
        }))
    }

    fn link_maker(&self) -> LinkMaker {
        let Self { config, store, client, clock, .. } = self.clone();
        LinkMaker { store, client, clock, is_watching: config.watch.enabled, signer: self.signer() }
    }

    /// The pages by which owners reconnect their heat pumps; `None`: there are none.
    pub(super) fn owner_pages(&self) -> Option<OwnerPages> {
        let settings = self.config.reconnect.clone()?;
        let home_language = self.config.policy.onboarding.as_ref().map(|onboarding| onboarding.language.clone());
        Some(OwnerPages::new(&settings, home_language, self.link_maker(), self.metrics.clone()))
    }

    pub(super) fn replica(&self) -> Replica {
        let Self { config, store, client, clock, metrics, wakes, replica, probe_time_max, .. } = self.clone();
        let policy = config.watch.policy;
        Replica {
            id: replica,
            store,
            client,
            clock,
            metrics,
            interval: policy.interval,
            severities: policy.severities,
            probe_time_max,
            wake_outbound: wakes.outbound,
        }
    }

    pub(super) fn counting(&self) -> Counting {
        let Self { config, store, clock, metrics, backlog, .. } = self.clone();
        let backlog_full = metrics.backlog_full.clone();
        let counted = move |gauges: &Gauges| {
            backlog.counted(gauges);
            backlog_full.set(backlog.is_full().into());
        };
        Counting {
            store,
            metrics,
            clock,
            interval: config.watch.policy.interval,
            brake: config.policy.brake,
            team: Some(config.policy.team.clone()).filter(|team| team.is_enabled),
            counted: Box::new(counted),
            last_took: Mutex::default(),
        }
    }

    pub(super) fn recorder(&self) -> Recorder {
        let Self { store, metrics, clock, replica, .. } = self.clone();
        Recorder::new(store, metrics, clock, replica)
    }

    /// The measuring of the database's server; `None` on SQLite, which has none.
    pub(super) fn measuring(&self) -> Option<Measuring> {
        let Self { store, metrics, .. } = self.clone();
        (store.dialect() == Dialect::Postgres).then(|| Measuring { store, metrics })
    }

    /// The publisher to the broker, where one is configured.
    pub(super) fn to_broker(&self) -> Option<Publisher<ToBroker<Broker>>> {
        self.broker.clone().map(|broker| self.publisher(ToBroker(broker)))
    }

    /// The publisher to the webhook's receiver, where one is configured.
    pub(super) fn to_webhook(&self) -> anyhow::Result<Option<Publisher<ToWebhook>>> {
        let Some(webhook) = &self.config.outbound.webhook else { return Ok(None) };
        let proxy = webhook.proxy.as_ref().map(Secret::expose);
        let deliver = ToWebhook::new(webhook.url.clone(), webhook.secret.expose(), proxy, self.clock.clone())?;
        Ok(Some(self.publisher(deliver)))
    }

    fn publisher<D: Deliver>(&self, deliver: D) -> Publisher<D> {
        let Self { store, clock, metrics, .. } = self.clone();
        Publisher { store, deliver, clock, metrics }
    }

    pub(super) fn inbox(&self, mapper: Mapper) -> Inbox {
        let Self { config, store, clock, metrics, backlog, wakes, .. } = self.clone();
        Inbox {
            store,
            clock,
            wake: wakes.work,
            wake_team: wakes.team,
            metrics,
            batch_max: config.http.batch_max,
            body_bytes_max: config.http.body_max,
            backlog,
            trees: TreeBudget::default(),
            mapper,
            types: AllowedTypes::of(&config.sources).with_team(&config.policy.team),
        }
    }

    pub(super) fn webhooks(&self, slow_clients: &SlowClients, inbox: Inbox) -> Webhooks {
        Webhooks {
            refusals: Refusals::new(self.metrics.clone()),
            inbox,
            sources: self.config.sources.clone(),
            body_bytes_max: self.config.http.body_max,
            bodies: slow_clients.bodies.clone(),
            proved: slow_clients.proved.clone(),
            openapi: spec::webhook().to_string(),
        }
    }

    /// SCIM, if an identity provider has a token.
    pub(super) fn scim(&self, slow_clients: &SlowClients, inbox: Inbox) -> Option<ScimEndpoint> {
        let Self { config, clock, .. } = self.clone();
        let staffing = Arc::new(self.staffing());
        ScimEndpoint::is_open(&config.scim.tokens).then(|| ScimEndpoint {
            inbox,
            access: ScimAccess::new(config.scim.tokens.clone(), clock),
            policy: config.policy.clone(),
            role_from: config.scim.role_from,
            bodies: slow_clients.bodies.clone(),
            proved: slow_clients.proved.clone(),
            list_staff: Box::new(move || {
                let staffing = staffing.clone();
                async move { staffing.list_now().await }.boxed()
            }),
        })
    }

    /// The console, with the secret of a login link if the sandbox runs; `None`: there is none.
    pub(super) fn console(&self, is_sandbox: bool) -> Result<Option<(Console, Option<String>)>, ProviderError> {
        let Some(config::ConsoleSection { base_url, time_zone, oidc }) = self.config.console.clone() else {
            return Ok(None);
        };
        let callback = format!("{}{OIDC_CALLBACK}", base_url.as_deref().unwrap_or_default());
        let provider = oidc.map(|settings| IdentityProvider::new(settings, callback)).transpose()?;
        let console = Console::new(base_url, time_zone);
        let console = provider.into_iter().fold(console, Console::with_provider);
        if !is_sandbox {
            return Ok(Some((console, None)));
        }
        let secret = hex(&self.clock.fresh_secret());
        Ok(Some((console.with_link(&secret, self.clock.now()), Some(secret))))
    }

    pub(super) fn admin(&self) -> Admin {
        let Self { config, store, clock, metrics, wakes, .. } = self.clone();
        Admin {
            store,
            metrics,
            links: Links { maker: self.link_maker(), landing: config.policy.onboarding.clone() },
            policy: config.policy.clone(),
            settings: config.settings.clone(),
            health: Box::new(self.clone()),
            access: Access::new(config.admin.tokens.clone(), clock.clone()),
            clock,
            wake: wakes.work,
            wake_retries: wakes.retries,
            exports: Exports::default(),
            openapi: spec::admin().to_string(),
        }
    }
}

impl Observe for Metrics {
    fn request(&self, operation: Operation, status: &'static str, took: Duration) {
        self.podero_requests.with_label_values(&[operation.name(), status]).inc();
        self.podero_request_duration.with_label_values(&[operation.name()]).observe(took.as_secs_f64());
    }

    fn circuit(&self, is_open: bool) {
        self.circuit_open.set(is_open.into());
    }

    fn drift(&self, operation: Operation, drift: Drift) {
        self.contract_drift.with_label_values(&[operation.name(), drift.name()]).inc();
    }
}
