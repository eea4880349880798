//! The composition root: the only room that knows every part. Opens, spawns the background tasks, drains.
//!
//! `stages.rs` makes the stages, `tasks.rs` is the table of the tasks that repeat their steps, `running.rs` tells them to end;
//! `listeners.rs` opens the HTTP listeners, `opening.rs` the store; `settings.rs` puts the configuration into the words of the
//! tools, `health.rs` the state of the tools into those of an operator.
//!
//! The end comes in the order of the walk: the webhook listener closes, nothing new is claimed, calls in flight finish, the
//! outbox empties, the broker's connection goes last; each within its bound. A task that ends before it was told to ends the
//! process.
//!
//! Before: [`crate::cli`]. After: every stage.

mod health;
mod listeners;
mod opening;
mod running;
pub mod settings;
mod stages;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, ServiceConfig};
use anyhow::Context;
use uuid::Uuid;

use crate::admin;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{self, Config, Verify};
use crate::console::{self, Console};
use crate::domain::call::Operation;
use crate::inbound::amqp::Frames;
use crate::inbound::mapping::mapper::Mapper;
use crate::inbound::{Backlog, Inbox, http, mapping, scim};
use crate::metrics::Metrics;
use crate::podero::{Client, Drift};
use crate::pump;
use crate::reconnect;
use crate::store::Store;
use crate::upkeep;
use listeners::{OpenSandbox, SlowClients};
use running::{Ends, Stage, Tasks};
use stages::{Handles, Wakes};

pub use listeners::Limits;
pub use opening::STORE_GRACE;

/// Timeout of draining as a whole. With what comes behind it the end takes less than 30 s, after which Kubernetes kills.
pub const GRACE: Duration = Duration::from_secs(22);

/// Part of [`GRACE`] for sealing the last rows of the audit log.
const SEAL_GRACE: Duration = Duration::from_secs(1);

/// Part of [`GRACE`] for the last notices once the work has ended.
const FLUSH_GRACE: Duration = Duration::from_secs(5);

/// Interval at which the outbox is counted while it empties.
const FLUSH_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Added to twice `podero.timeout` before a restarted process checks the calls it had in flight: the kernel may still be
/// sending a dead process's data.
const RESTART_MARGIN: Duration = Duration::from_millis(500);

/// Options of a start that the configuration does not have.
#[derive(Default)]
pub struct Options {
    /// True to run the embedded sandbox and use it.
    pub sandbox: bool,
    /// Temporary folder that holds the store. It lives as long as the bridge.
    pub scratch: Option<tempfile::TempDir>,
    /// Bounds of the listeners.
    pub limits: Limits,
    /// The binary that runs mappings; `None`: the one that runs.
    pub worker: Option<PathBuf>,
}

/// A bridge that runs.
pub struct Bridge {
    /// Address of the webhook listener.
    pub http: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Link by which the one who started the sandbox logs in at the console, once; `None`: there is no sandbox, or no console.
    pub login_link: Option<String>,
    /// Address of the sandbox, if it runs.
    pub sandbox: Option<SocketAddr>,
    tasks: Tasks,
    http_server: ServerHandle,
    admin_server: ServerHandle,
    sandbox_server: Option<ServerHandle>,
    ends: Ends,
    store: Store,
    replica: Uuid,
    _scratch: Option<tempfile::TempDir>,
}

impl Bridge {
    /// Starts every part. When this returns, both listeners are open. After an error nothing runs, and the store is closed.
    pub async fn start(config: Config, options: Options) -> anyhow::Result<Self> {
        let started = Self::start_unless(config, options, std::future::pending()).await?;
        Ok(started.expect("no signal ends it"))
    }

    /// [`Bridge::start`], which may wait for its store for minutes; `None`: `signal` came first, nothing runs and the store is
    /// closed.
    pub async fn start_unless(
        config: Config,
        options: Options,
        signal: impl Future<Output = ()>,
    ) -> anyhow::Result<Option<Self>> {
        let (mut tasks, mut store) = (Tasks::default(), None);
        let started = tokio::select! {
            started = Self::start_parts(Arc::new(config), options, &mut tasks, &mut store) => started.map(Some),
            () = signal => Ok(None),
        };
        if let (Err(_) | Ok(None), Some(store)) = (&started, store) {
            opening::close(&store, &mut tasks).await;
        }
        Ok(started?.map(|started| Self { tasks, ..started }))
    }

    async fn start_parts(
        config: Arc<Config>,
        options: Options,
        tasks: &mut Tasks,
        opened: &mut Option<Store>,
    ) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = Metrics::new();
        expect_series(&config, &metrics);
        warn_of_open_sources(&config);
        let mapper = mapper(&config, options.worker)?;
        let (ends, wakes) = (Ends::new(), Wakes::default());

        let sandbox = options.sandbox.then(|| OpenSandbox::open(&config, &clock, tasks)).transpose()?;
        let store = opening::open(&config, &clock, tasks).await.context("the store cannot be opened")?;
        *opened = Some(store.clone());

        let settings = settings::podero(&config, sandbox.as_ref())?;
        let (call_time_max, probe_time_max) = (settings.call_time_max(), settings.probe_time_max());
        // The process that held the claims died with requests under way, which Podero may still be carrying out.
        let release_after = settings.timeout * 2 + RESTART_MARGIN;
        store.expect_waits(settings::ceilings(&config, call_time_max));
        let released = opening::wait_for(async || Ok(store.release_claims(release_after).await?)).await;
        released.context("the store cannot be written to")?;
        let noted = opening::wait_for(async || {
            Ok(upkeep::note_tokens(&store, &config.admin.tokens, &config.scim.tokens).await?)
        })
        .await;
        noted.context("the store cannot be written to")?;
        let (client, dispatcher) = Client::new(settings, clock.clone(), metrics.clone())?;
        tasks.spawn(Stage::Dispatcher, dispatcher.run(ends.told(Stage::Dispatcher)));

        let broker = config
            .amqp
            .as_ref()
            .map(|amqp| Broker::new(settings::broker(amqp, config.policy.team.is_enabled), clock.clone()));
        let backlog = Backlog::new(config.store.backlog_max).waking(wakes.outbound.clone());
        let replica = clock.fresh_id();
        let handles = Handles {
            config,
            store,
            client,
            broker,
            clock,
            metrics,
            backlog,
            wakes,
            replica,
            call_time_max,
            probe_time_max,
        };
        let inbox = handles.inbox(mapper);
        let slow_clients = SlowClients::new(&handles.config, options.limits, &handles.metrics);
        tasks::start(&handles, &inbox, &slow_clients, tasks, &ends).await?;
        spawn_broker(&handles, &inbox, tasks, &ends);

        let routes = public_routes(&handles, &slow_clients, inbox);
        let http = listeners::open(handles.config.http.listen, &slow_clients.http, options.limits, routes, tasks)?;
        let admin = Arc::new(handles.admin());
        tell_of_open_access(&admin).await;
        let (console, link) = handles.console(sandbox.is_some())?.unzip();
        let routes = private_routes(admin, console);
        let admin = listeners::open(handles.config.admin.listen, &slow_clients.admin, options.limits, routes, tasks)?;
        let (sandbox, sandbox_server) = sandbox.map(|open| (open.listener.address, open.listener.server)).unzip();
        tracing::info!(http = %http.address, admin = %admin.address, "the doors are open");
        Ok(Self {
            http: http.address,
            admin: admin.address,
            login_link: link.flatten().map(|link| login_link(&handles.config, admin.address, &link)),
            sandbox,
            tasks: Tasks::default(),
            http_server: http.server,
            admin_server: admin.server,
            sandbox_server,
            ends,
            store: handles.store,
            replica,
            _scratch: options.scratch,
        })
    }

    /// Waits until `signal` resolves, or a part ends that must not. The error names the part.
    pub async fn serve(&mut self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            () = signal => Ok(()),
            ended = self.tasks.next() => match ended {
                Some(Stage::Examination) => anyhow::bail!("the SQLite file is damaged; the log says how, and what to do"),
                Some(stage) => anyhow::bail!("a part of the bridge ended by itself: {stage:?}"),
                None => anyhow::bail!("a part of the bridge panicked; see the log"),
            },
        }
    }

    /// Drains and stops, within [`GRACE`].
    pub async fn stop(mut self) {
        tracing::info!("draining: the doors close, work in flight finishes");
        if tokio::time::timeout(GRACE, self.drain()).await.is_err() {
            tracing::warn!("not everything ended within the grace; what was in flight is taken up at the next start");
        }
        opening::close(&self.store, &mut self.tasks).await;
        self.tasks.abort();
        tracing::info!("stopped");
    }

    async fn drain(&mut self) {
        self.ends.consumer.send_replace(true);
        self.http_server.stop(true).await;
        self.tasks.wait_for(Stage::Consumer).await;
        self.ends.work.send_replace(true);
        self.tasks.wait_for(Stage::Work).await;
        if let Err(error) = self.store.leave(self.replica).await {
            tracing::debug!(%error, "the other replicas get this one's share of the budget a little later");
        }
        if tokio::time::timeout(FLUSH_GRACE, self.flushed()).await.is_err() {
            tracing::info!("some notices are not out yet; they are rows and go out at the next start");
        }
        self.ends.outbound.send_replace(true);
        self.tasks.wait_for(Stage::Outbound).await;
        self.ends.last.send_replace(true);
        self.tasks.wait_for(Stage::BrokerPublisher).await;
        self.admin_server.stop(true).await;
        if let Some(server) = &self.sandbox_server {
            server.stop(true).await;
        }
        // Nothing acts any more.
        let sealed = tokio::time::timeout(SEAL_GRACE, self.store.seal_all()).await;
        if !matches!(sealed, Ok(Ok(()))) {
            tracing::info!("the last rows of the audit log are not sealed yet; the next start seals them");
        }
    }

    async fn flushed(&self) {
        while self.store.outbox_pending().await.is_ok_and(|pending| pending > 0) {
            pump::sleep(FLUSH_LOOK_EVERY).await;
        }
    }
}

/// The link with this secret, under the address by which browsers reach the console.
fn login_link(config: &Config, admin: SocketAddr, secret: &str) -> String {
    let base_url = config.console.as_ref().and_then(|console| console.base_url.clone());
    format!("{}/console/login?link={secret}", base_url.unwrap_or_else(|| format!("http://{admin}")))
}

/// The routes of the webhook listener.
fn public_routes(
    handles: &Handles,
    slow_clients: &SlowClients,
    inbox: Inbox,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + use<> {
    let scim = handles.scim(slow_clients, inbox.clone()).map(Arc::new);
    let webhooks = Arc::new(handles.webhooks(slow_clients, inbox));
    let pages = handles.owner_pages().map(Arc::new);
    move |routes: &mut ServiceConfig| {
        http::configure(routes, webhooks.clone());
        if let Some(scim) = &scim {
            scim::configure(routes, scim.clone());
        }
        if let Some(pages) = &pages {
            reconnect::configure(routes, pages.clone());
        }
        routes.default_service(web::to(http::nothing_here));
    }
}

/// The routes of the admin listener.
fn private_routes(admin: Arc<admin::Admin>, console: Option<Console>) -> impl Fn(&mut ServiceConfig) + Clone + Send {
    let console = console.map(Arc::new);
    move |routes: &mut ServiceConfig| {
        console.iter().for_each(|console| console::configure(routes, console.clone()));
        admin::configure(routes, admin.clone());
    }
}

/// The two connections to the broker, which are kept up until they are told to end: the consumer with the webhook listener,
/// the publisher last of all.
fn spawn_broker(handles: &Handles, inbox: &Inbox, tasks: &mut Tasks, ends: &Ends) {
    let (Some(broker), Some(amqp)) = (&handles.broker, &handles.config.amqp) else { return };
    let frames = Frames { inbox: inbox.clone(), source: amqp.source.clone(), appliers: handles.wakes.appliers.clone() };
    let (consumer, end) = (broker.clone(), ends.told(Stage::Consumer));
    tasks.spawn(Stage::Consumer, async move { consumer.run_consumer(frames, end).await });
    let (publisher, end) = (broker.clone(), ends.told(Stage::BrokerPublisher));
    tasks.spawn(Stage::BrokerPublisher, async move { publisher.run_publisher(end).await });
}

fn mapper(config: &Config, worker: Option<PathBuf>) -> anyhow::Result<Mapper> {
    let faults = mapping::check(&config.sources);
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let worker = worker.map_or_else(std::env::current_exe, Ok).context("where this binary is")?;
    Ok(Mapper::new(&config.sources, worker, config.http.batch_max, config.http.body_max))
}

/// Series that are to be there from the start, and those that never will be.
fn expect_series(config: &Config, metrics: &Metrics) {
    config.sources.iter().for_each(|source| metrics.expect_source(&source.name));
    for operation in Operation::ALL {
        for drift in Drift::ALL {
            metrics.contract_drift.with_label_values(&[operation.name(), drift.name()]);
        }
    }
    if config.amqp.is_none() {
        metrics.without_broker();
    }
    if config.policy.brake.is_none() {
        metrics.without_churn_brake();
    }
}

/// An admin API without tokens and operators is allowed on loopback, and said at each start.
async fn tell_of_open_access(admin: &admin::Admin) {
    // It writes the line. A store that does not answer now is asked again with each request.
    if let Err(error) = admin.access.is_open(&admin.store).await {
        tracing::debug!(%error, "whether the admin API is open was not found out");
    }
}

/// An open source is allowed where it is written out, and said at each start.
fn warn_of_open_sources(config: &Config) {
    if config::is_loopback(config.http.listen) {
        return;
    }
    for source in config.sources.iter().filter(|source| matches!(source.verify, Verify::None)) {
        tracing::warn!(
            source = source.name,
            "verify = \"none\": every client that reaches the listener can send for it"
        );
    }
}
