//! The composition root: the only file that knows every part. Binds, spawns the pumps, drains.
//!
//! It defines nothing that others use but itself. The end comes in the order of the walk: the doors close, nothing
//! new is claimed, calls in flight finish, the outbox empties, the broker's connection goes last; each within its
//! bound. A pump that ends before it was told to ends the process.
//!
//! Before: [`crate::cli`]. After: every stage.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::header;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App as ActixApp, HttpServer, web};
use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

use crate::admin::{self, Admin, Health, Part};
use crate::apply::{self, Applier, Room};
use crate::broker::{self, Broker};
use crate::clock::Clock;
use crate::config::{self, Account, Amqp, Config, Networks, Reloaded, Secret, Secrets, Source, Verify};
use crate::domain::brake::Brake;
use crate::domain::call::{OnboardingPolicy, Operation};
use crate::domain::partner_health::CircuitCause;
use crate::domain::plan::Policy;
use crate::domain::retry::RetrySchedule;
use crate::domain::verdict;
use crate::inbound::amqp::Frames;
use crate::inbound::bodies::{self, Bodies};
use crate::inbound::http::{self, Webhooks};
use crate::inbound::mapping::mapper::Mapper;
use crate::inbound::refusals::Refusals;
use crate::inbound::{AllowedTypes, Backlog, Inbox, TreeBudget, mapping};
use crate::listener::connections::{self, Bounds, Connections, ProvedPeers};
use crate::listener::note_request;
use crate::metrics::{Listener, Metrics};
use crate::outbound::{self, Publisher, ToBroker, ToWebhook};
use crate::podero::{self, Client, Drift, Outlook};
use crate::pump::{self, Schedule, Step};
use crate::replica::Replica;
use crate::sandbox::{self, Sandbox};
use crate::spec;
use crate::store::{self, Store, Target, Writer};
use crate::watch::Watcher;

/// Workers of the public door: parsing and signatures; the store behind it is one.
const HTTP_WORKERS: usize = 2;
/// Connections of the public door at once; more wait in the kernel's queue.
const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Requests a second by one connection of the public door: more than a sender that waits for answers makes.
const HTTP_REQUESTS_PER_SECOND: u32 = 1_000;
/// The same of the admin API, whose scrapes and lists are larger.
const ADMIN_REQUESTS_PER_SECOND: u32 = 100;
/// Connections of the operator's door at once.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Limit of one address's connections at the webhook listener, as a part of all: a quarter is more than a sender's pool has.
const HTTP_PEER_PART: usize = 4;
/// Limit of one address's connections at the operator's listener, as a part of all: few clients reach it, often from one address.
const ADMIN_PEER_PART: usize = 2;
/// Timeout for a body at the operator's listener: an order has a few dozen bytes.
const ADMIN_BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// A client that has not sent its request line and headers by then is cut off.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(10);
/// An idle connection is kept for this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Limit of the time for which a start waits for its store: a PostgreSQL that does not answer, a SQLite file that another
/// process has locked, a disk without room. Then the operator is to know. Once it has started the bridge waits for ever.
const STORE_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// How often it is tried.
const STORE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Interval at which a start that waits says so again.
const STORE_WAIT_TELL_EVERY: Duration = Duration::from_secs(30);

/// Timeout of draining as a whole. With what comes behind it the end takes less than 30 s, after which Kubernetes kills.
pub const GRACE: Duration = Duration::from_secs(22);
/// Of that, for the last notices once the work has ended.
const FLUSH_GRACE: Duration = Duration::from_secs(5);

/// Timeout of the store's own end, added to [`GRACE`]: waiting writes are done and a SQLite file's log emptied. Together they are
/// below Kubernetes' 30 s.
pub const STORE_GRACE: Duration = Duration::from_secs(4);

/// Of that, for requests under way at a door.
const DOOR_GRACE_SECONDS: u64 = 5;
/// While the outbox empties, it is counted this often.
const FLUSH_LOOK_EVERY: Duration = Duration::from_millis(50);

/// After a restart, what was under way is looked for no sooner than twice `podero.timeout` and this: what a kernel still sends
/// for a process that is gone.
const RESTART_MARGIN: Duration = Duration::from_millis(500);
/// An applier looks by itself this often: what a lost wake-up or another replica's crash left.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Publishers to the broker: while one writes down what was confirmed, the other has its notices on their way. A line's
/// notices go out in order whoever takes them.
const PUBLISHERS: usize = 2;
/// What replicas know of Podero is shared this often, and at once when a pause or the circuit changes.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// What is old enough is looked for this often;
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Interval of the look for purges that a clock ahead has put off: it reads past all that is announced, and a purge is days away.
const PURGES_EVERY: Duration = Duration::from_hours(1);
/// with so much room for everybody else between two of its transactions: some thousand rows a second.
const FORGET_PAUSE: Duration = Duration::from_millis(50);
/// Files of secrets are read again this often: sooner than whoever changed one looks whether it holds.
const ROTATE_EVERY: Duration = Duration::from_secs(5);
/// Limit of the wait for files of secrets: a local file takes a millisecond. A file system that does not answer must not hold
/// up the end.
const ROTATE_TIME_MAX: Duration = Duration::from_secs(2);
/// Interval at which an erasure that could not empty the log of a SQLite file is made up for.
const SCRUB_EVERY: Duration = Duration::from_secs(5);
/// Interval of the gauges that count rows.
const GAUGES_EVERY: Duration = Duration::from_secs(2);
/// Rest after a count, as a multiple of the time that the last two took at least: a backlog of a million must not be counted
/// all the time. Of two, since one may have waited for a database that was away or locked, which is no cost of counting.
const GAUGES_REST: u32 = 50;
/// Limit of that rest.
const GAUGES_REST_MAX: Duration = Duration::from_secs(60);
/// Timeout of the first count, which comes before the listeners open: without it they would take events beyond
/// `store.backlog_max`.
const FIRST_COUNT_MAX: Duration = Duration::from_secs(20);

/// How a start differs from what the configuration says.
#[derive(Default)]
pub struct Options {
    /// Run the embedded sandbox and use it.
    pub sandbox: bool,
    /// Lives as long as the bridge: a temporary folder that holds the store.
    pub scratch: Option<tempfile::TempDir>,
    /// Bounds of the doors.
    pub limits: Limits,
    /// The binary that runs mappings; `None`: the one that runs.
    pub worker: Option<PathBuf>,
}

/// Bounds of the doors that nobody needs to configure, and a test does not want to wait for. The operator's door has the
/// times of them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the request line and headers.
    pub headers_time_max: Duration,
    /// For the body.
    pub body_time_max: Duration,
    /// Bytes of bodies in memory at once.
    pub bodies_bytes_max: usize,
    /// Between two requests.
    pub keep_alive: Duration,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections at once of one address; `None`: a part of all.
    pub connections_per_peer_max: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers_time_max: HEADERS_TIME_MAX,
            body_time_max: connections::BODY_TIME_MAX,
            bodies_bytes_max: bodies::BODIES_BYTES_MAX,
            keep_alive: KEEP_ALIVE,
            connections_max: HTTP_CONNECTIONS_MAX,
            connections_per_peer_max: None,
        }
    }
}

/// A bridge that runs.
pub struct Bridge {
    /// Where the webhook door listens.
    pub http: SocketAddr,
    /// Where the operator's door listens.
    pub admin: SocketAddr,
    /// Where the sandbox listens, if it runs.
    pub sandbox: Option<SocketAddr>,
    tasks: Tasks,
    door: ServerHandle,
    operators_door: ServerHandle,
    sandbox_server: Option<ServerHandle>,
    ends: Ends,
    store: Store,
    replica: Uuid,
    _scratch: Option<tempfile::TempDir>,
}

/// The part of the bridge that a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sandbox,
    Writer,
    Examination,
    Dispatcher,
    Consumer,
    BrokerPublisher,
    Work,
    Replica,
    Outbound,
    Gauges,
    Door,
    OperatorsDoor,
}

/// Everything that was spawned.
#[derive(Default)]
struct Tasks {
    set: JoinSet<Stage>,
    running: Vec<Stage>,
}

impl Tasks {
    fn spawn(&mut self, stage: Stage, task: impl Future<Output = ()> + Send + 'static) {
        self.running.push(stage);
        self.set.spawn(async move {
            task.await;
            stage
        });
    }

    /// The next task that ends; `None` for one that panicked, or when none is left.
    async fn next(&mut self) -> Option<Stage> {
        let stage = self.set.join_next().await?.ok()?;
        if let Some(place) = self.running.iter().position(|running| *running == stage) {
            self.running.swap_remove(place);
        }
        Some(stage)
    }

    async fn wait_for(&mut self, stage: Stage) {
        while self.running.contains(&stage) && self.next().await.is_some() {}
    }
}

/// What ends what, in this order.
struct Ends {
    doors: watch::Sender<bool>,
    work: watch::Sender<bool>,
    outbound: watch::Sender<bool>,
    broker: watch::Sender<bool>,
}

/// Resolves when `end` is told.
fn when(end: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut end = end.subscribe();
    async move { pump::ended(&mut end).await }
}

/// Who wakes whom.
#[derive(Clone, Default)]
struct Bells {
    /// Something is to be applied: the applier takes all that is due and has a place.
    work: Arc<Notify>,
    /// Something is to be published: every publisher looks.
    outbound: Arc<Notify>,
    /// A bulk retry was ordered.
    retries: Arc<Notify>,
    /// No bell but a sign: the applier has plenty in hand, and the queue may keep its messages for a moment.
    plenty: Arc<AtomicBool>,
}

impl Bridge {
    /// Starts every part. When this returns, both doors are open. After an error nothing runs, and the store is closed.
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
            started = Self::start_parts(config, options, &mut tasks, &mut store) => started.map(Some),
            () = signal => Ok(None),
        };
        if let (Err(_) | Ok(None), Some(store)) = (&started, store) {
            end_store(&store, &mut tasks).await;
        }
        Ok(started?.map(|started| Self { tasks, ..started }))
    }

    async fn start_parts(
        config: Config,
        options: Options,
        tasks: &mut Tasks,
        opened: &mut Option<Store>,
    ) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = Metrics::new();
        expect_series(&config, &metrics);
        warn_of_open_sources(&config);
        let mapper = mapper(&config, options.worker)?;
        let end = || watch::channel(false).0;
        let ends = Ends { doors: end(), work: end(), outbound: end(), broker: end() };
        let bells = Bells::default();

        let sandbox = options.sandbox.then(|| open_sandbox(&config, &clock, tasks)).transpose()?;
        let store = start_store(&config, &clock, tasks).await.context("the store cannot be opened")?;
        *opened = Some(store.clone());

        let settings = podero_settings(&config, sandbox.as_ref().map(|open| (open.address, &open.sandbox)))?;
        let (call_time_max, probe_time_max) = (settings.call_time_max(), settings.probe_time_max());
        // Whoever claimed before died with requests under way, which Podero may still be carrying out.
        let release_after = settings.timeout * 2 + RESTART_MARGIN;
        store.expect_waits(ceilings(&config, call_time_max));
        wait_for_store(|| store.release_claims(release_after)).await.context("the store cannot be written to")?;
        let (client, dispatcher) = Client::new(settings, clock.clone(), metrics.clone())?;
        tasks.spawn(Stage::Dispatcher, dispatcher.run(when(&ends.broker)));

        let inbox = Inbox {
            store: store.clone(),
            clock: clock.clone(),
            wake: bells.work.clone(),
            metrics: metrics.clone(),
            batch_max: config.http.batch_max,
            body_bytes_max: config.http.body_max,
            backlog: Backlog::new(config.store.backlog_max).ringing(bells.outbound.clone()),
            trees: TreeBudget::default(),
            mapper,
            types: AllowedTypes::of(&config.sources),
        };
        let broker = config.amqp.as_ref().map(|amqp| Broker::new(broker_settings(amqp), clock.clone()));
        let parts =
            Parts { config: &config, store: &store, client: &client, clock: &clock, metrics: &metrics, call_time_max };
        parts.count_first(&inbox.backlog).await;
        parts.spawn_work(tasks, &ends, &bells);
        let replica = clock.fresh_id();
        parts.spawn_replica(tasks, &ends, &bells, (replica, probe_time_max));
        parts.spawn_outbound(tasks, &ends, &bells, broker.as_ref())?;
        parts.spawn_broker(tasks, &ends, broker.as_ref(), (&inbox, &bells));
        spawn_rereading(tasks, &ends, &inbox);
        parts.spawn_gauges(tasks, &ends, broker.clone(), &inbox.backlog);
        spawn_scrubbing(tasks, &ends, &store);

        let limits = options.limits;
        let backlog = inbox.backlog.clone();
        let guards = Guards::new(&config, limits, &metrics);
        guards.spawn(tasks, &ends);
        let webhooks = webhooks(&config, &guards, inbox);
        let (http, door) = open_door(config.http.listen, webhooks, (limits, guards.http), tasks)?;
        let operators = Admin {
            store: store.clone(),
            metrics,
            links: admin::Links { client: client.clone(), landing: landing(&config) },
            health: Box::new(Vitals { broker, client, backlog, clock: clock.clone() }),
            token: config.admin.token.clone(),
            clock,
            wake: bells.work,
            wake_retries: bells.retries,
            openapi: spec::operator().to_string(),
        };
        let (admin, operators_door) =
            open_operators_door(config.admin.listen, operators, (limits, guards.admin), tasks)?;
        let (sandbox, sandbox_server) = sandbox.map(|open| (open.address, open.server)).unzip();
        tracing::info!(%http, %admin, "the doors are open");
        let _scratch = options.scratch;
        let tasks = Tasks::default();
        Ok(Self { http, admin, sandbox, tasks, door, operators_door, sandbox_server, ends, store, replica, _scratch })
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
        end_store(&self.store, &mut self.tasks).await;
        self.tasks.set.abort_all();
        tracing::info!("stopped");
    }

    async fn drain(&mut self) {
        self.ends.doors.send_replace(true);
        self.door.stop(true).await;
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
        self.ends.broker.send_replace(true);
        self.tasks.wait_for(Stage::BrokerPublisher).await;
        self.operators_door.stop(true).await;
        if let Some(server) = &self.sandbox_server {
            server.stop(true).await;
        }
    }

    async fn flushed(&self) {
        while self.store.outbox_pending().await.is_ok_and(|pending| pending > 0) {
            pump::sleep(FLUSH_LOOK_EVERY).await;
        }
    }
}

/// What the stages are made of.
struct Parts<'a> {
    config: &'a Config,
    store: &'a Store,
    client: &'a Client,
    clock: &'a Clock,
    metrics: &'a Metrics,
    call_time_max: Duration,
}

impl Parts<'_> {
    /// The applier, the promoter, the watch.
    fn spawn_work(&self, tasks: &mut Tasks, ends: &Ends, bells: &Bells) {
        let wake_outbound = bells.outbound.clone();
        let applier = Arc::new(Applier {
            store: self.store.clone(),
            partner: self.client.clone(),
            policy: policy(self.config),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            wake: bells.work.clone(),
            wake_outbound: wake_outbound.clone(),
            call_time_max: self.call_time_max,
            request_time_max: self.config.podero.timeout,
            room: Room::telling(bells.plenty.clone()),
        });
        let rhythm_of_work = rhythm("apply", Some(LOOK_EVERY), &bells.work, &ends.work);
        tasks.spawn(Stage::Work, async move {
            let working = Mutex::new(JoinSet::new());
            pump::run(rhythm_of_work, || applier.clone().feed(&working)).await;
            let mut working = working.into_inner().expect("no code panics while it spawns");
            // Not `join_all`, which would panic over a task that did.
            while working.join_next().await.is_some() {}
        });
        let (store, wake) = (self.store.clone(), bells.work.clone());
        let timer = rhythm("promote", Some(LOOK_EVERY), &Arc::default(), &ends.work);
        tasks.spawn(Stage::Work, async move { pump::run(timer, || promote(&store, &wake)).await });
        let (store, wake) = (self.store.clone(), bells.work.clone());
        let retries = rhythm("retry", Some(LOOK_EVERY), &bells.retries, &ends.work);
        let max = self.config.store.backlog_max;
        tasks.spawn(Stage::Work, async move { pump::run(retries, || admin::retry_step(&store, &wake, max)).await });
        let secrets = Rereading { sources: self.config.sources.clone(), under_way: tokio::sync::Mutex::default() };
        let rotations = rhythm("rotate", Some(ROTATE_EVERY), &Arc::default(), &ends.work);
        tasks.spawn(Stage::Work, async move { pump::run(rotations, || secrets.step()).await });
        let store = self.store.clone();
        let purges = rhythm("purges", Some(PURGES_EVERY), &Arc::default(), &ends.work);
        tasks.spawn(Stage::Work, async move { pump::run(purges, || date_purges(&store)).await });
        if let Some(retention) = self.config.store.retention {
            let store = self.store.clone();
            let forgets = rhythm("forget", Some(FORGET_EVERY.min(retention)), &Arc::default(), &ends.work);
            tasks.spawn(Stage::Work, async move { pump::run(forgets, || forget(&store, retention)).await });
        }
        if self.config.watch.enabled {
            self.spawn_watch(tasks, ends, wake_outbound);
        }
    }

    /// Not waited for at the end: a probe may take longer than the grace, and what it finds is found again.
    fn spawn_replica(&self, tasks: &mut Tasks, ends: &Ends, bells: &Bells, (id, probe_time_max): (Uuid, Duration)) {
        let replica = Arc::new(Replica {
            id,
            store: self.store.clone(),
            client: self.client.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            interval: self.config.watch.policy.interval,
            severities: self.config.watch.policy.severities,
            probe_time_max,
            wake_outbound: bells.outbound.clone(),
        });
        let sync = (rhythm("share", Some(SYNC_EVERY), &self.client.changed(), &ends.work), replica.clone());
        tasks.spawn(Stage::Replica, async move { pump::run(sync.0, || sync.1.sync_step()).await });
        let probes = rhythm("probe", Some(LOOK_EVERY), &self.client.suspected(), &ends.work);
        tasks.spawn(Stage::Replica, async move { pump::run(probes, || replica.probe_step()).await });
    }

    fn spawn_watch(&self, tasks: &mut Tasks, ends: &Ends, wake_outbound: Arc<Notify>) {
        let watch = &self.config.watch;
        let watcher = Arc::new(Watcher {
            store: self.store.clone(),
            partner: self.client.clone(),
            policy: watch.policy,
            region_chars: watch.region_chars,
            lease: self.call_time_max,
            look_every: Some(LOOK_EVERY),
            clock: self.clock.clone(),
            wake_outbound,
        });
        let every = LOOK_EVERY.min(watch.policy.interval);
        let roster = (rhythm("roster", Some(every), &Arc::default(), &ends.work), watcher.clone());
        tasks.spawn(Stage::Work, async move { pump::run(roster.0, || roster.1.roster_step()).await });
        let fleets = (rhythm("fleets", Some(every), &Arc::default(), &ends.work), watcher.clone());
        tasks.spawn(Stage::Work, async move { pump::run(fleets.0, || fleets.1.fleet_step()).await });
        let mut end = ends.work.subscribe();
        let polls = rhythm("poll", Some(every), &Arc::default(), &ends.work);
        tasks.spawn(Stage::Work, async move {
            // A poll only reads, and is due until it is written down: the end does not wait for Podero's answers.
            tokio::select! {
                () = pump::run(polls, || watcher.poll_step()) => {}
                () = pump::ended(&mut end) => {}
            }
        });
    }

    fn spawn_outbound(
        &self,
        tasks: &mut Tasks,
        ends: &Ends,
        bells: &Bells,
        broker: Option<&Broker>,
    ) -> anyhow::Result<()> {
        let (store, clock, metrics) = (self.store, self.clock, self.metrics);
        if let Some(broker) = broker {
            let deliver = ToBroker(broker.clone());
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            let publisher = Arc::new(Publisher { store, deliver, clock, metrics });
            for _ in 0..PUBLISHERS {
                let publisher = publisher.clone();
                let rhythm = rhythm("publish", Some(LOOK_EVERY), &bells.outbound, &ends.outbound);
                tasks.spawn(Stage::Outbound, async move { pump::run(rhythm, || publisher.step()).await });
            }
        }
        if let Some(webhook) = &self.config.outbound.webhook {
            let deliver = {
                let proxy = webhook.proxy.as_ref().map(Secret::expose);
                ToWebhook::new(webhook.url.clone(), webhook.secret.expose(), proxy, clock.clone())?
            };
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            let publisher = Publisher { store, deliver, clock, metrics };
            let rhythm = rhythm("deliver", Some(LOOK_EVERY), &bells.outbound, &ends.outbound);
            tasks.spawn(Stage::Outbound, async move { pump::run(rhythm, || publisher.step()).await });
        }
        Ok(())
    }

    /// The consumer ends with the doors, the publisher last of all.
    fn spawn_broker(&self, tasks: &mut Tasks, ends: &Ends, broker: Option<&Broker>, (inbox, bells): (&Inbox, &Bells)) {
        let (Some(broker), Some(amqp)) = (broker, &self.config.amqp) else { return };
        let (source, plenty) = (amqp.source.clone(), bells.plenty.clone());
        let frames = Frames { inbox: inbox.clone(), source, plenty };
        let (consumer, end) = (broker.clone(), when(&ends.doors));
        tasks.spawn(Stage::Consumer, async move { consumer.run_consumer(frames, end).await });
        let (publisher, end) = (broker.clone(), when(&ends.broker));
        tasks.spawn(Stage::BrokerPublisher, async move { publisher.run_publisher(end).await });
    }

    /// How much is waiting bounds what the listeners take, so it is counted before they open.
    async fn count_first(&self, backlog: &Backlog) {
        let counted = tokio::time::timeout(FIRST_COUNT_MAX, self.counting(backlog).count()).await;
        if !counted.unwrap_or(false) {
            tracing::warn!("the tables could not be counted before the listeners open; it is tried again");
        }
    }

    fn counting(&self, backlog: &Backlog) -> Counting {
        Counting {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            backlog: backlog.clone(),
            interval: self.config.watch.policy.interval,
            brake: self.config.churn.brake,
        }
    }

    fn spawn_gauges(&self, tasks: &mut Tasks, ends: &Ends, broker: Option<Broker>, backlog: &Backlog) {
        let counting = self.counting(backlog);
        let last_took = Mutex::new(Duration::ZERO);
        let counts = rhythm("gauges", None, &Arc::default(), &ends.broker);
        tasks.spawn(Stage::Gauges, async move {
            pump::run(counts, || async {
                let began = Instant::now();
                if !counting.count().await {
                    return Step::Failed;
                }
                let took = began.elapsed();
                let before =
                    std::mem::replace(&mut *last_took.lock().expect("no code panics while it holds this"), took);
                Step::IdleFor((took.min(before) * GAUGES_REST).clamp(GAUGES_EVERY, GAUGES_REST_MAX))
            })
            .await;
        });
        // Another task: gauges that need no table must not wait for one.
        let (metrics, backlog, clock) = (self.metrics.clone(), backlog.clone(), self.clock.clone());
        let looks = rhythm("states", Some(GAUGES_EVERY), &Arc::default(), &ends.broker);
        tasks.spawn(Stage::Gauges, async move {
            pump::run(looks, || async {
                metrics.clock_jump.set(clock.jump().as_secs_f64());
                if let Some(status) = broker.as_ref().map(Broker::status) {
                    metrics.broker_connected.set(status.connected().into());
                    metrics.broker_consuming.set(status.consuming().into());
                }
                metrics.backlog_full.set(backlog.is_full().into());
                Step::Idle
            })
            .await;
        });
    }
}

/// Counts the tables, for the gauges and for the bounds of the listeners.
struct Counting {
    store: Store,
    metrics: Metrics,
    clock: Clock,
    backlog: Backlog,
    interval: Duration,
    brake: Option<Brake>,
}

impl Counting {
    /// `false`: they could not be counted. The gauges are absent then, and the bounds stay as they were counted last, with
    /// the events that were accepted since.
    async fn count(&self) -> bool {
        let gauges = match admin::refresh(&self.store, &self.metrics, &self.clock, self.interval).await {
            Ok(gauges) => gauges,
            Err(error) => {
                self.metrics.uncounted();
                tracing::debug!(%error, "the tables could not be counted");
                return false;
            }
        };
        let was_full = self.backlog.is_full_of_unreadable();
        // An event that waits for its sign-up is no work, and must not shut the door to that sign-up.
        let (work, later) = (gauges.pending - gauges.waiting, gauges.scheduled + gauges.waiting);
        let [work, later, unreadable] =
            [work, later, gauges.parked_unreadable].map(|count| u64::try_from(count).unwrap_or(0));
        self.backlog.set(work, later, unreadable);
        if self.backlog.is_full_of_unreadable() && !was_full {
            tracing::warn!(parked = unreadable, "messages that are no events stay in RabbitMQ from now on");
        }
        self.metrics.backlog_full.set(self.backlog.is_full().into());
        if let Some(brake) = self.brake
            && let Err(error) = admin::refresh_brake(&self.store, &self.metrics, brake).await
        {
            self.metrics.uncounted_brake();
            tracing::debug!(%error, "the churns within the brake's window could not be counted");
        }
        true
    }
}

/// Opens the store, and starts its writer and the check of its file.
async fn start_store(config: &Config, clock: &Clock, tasks: &mut Tasks) -> Result<Store, store::Error> {
    let url = config.store.url.expose().to_owned();
    let settings = store::Settings { url, targets: targets(config), works: true };
    let (store, writer) = open_store(settings, config.store.erasure_key.as_ref(), clock).await?;
    tasks.spawn(Stage::Writer, writer.run_apart());
    tasks.spawn(Stage::Examination, examine(store.clone()));
    Ok(store)
}

/// Opens the store; one that is not there yet (a server that was started together with the bridge), is locked or has no room
/// is waited for.
async fn open_store(
    settings: store::Settings,
    erasure_key: Option<&Secret>,
    clock: &Clock,
) -> Result<(Store, Writer), store::Error> {
    wait_for_store(|| Store::open_with(settings.clone(), erasure_key.map(Secret::expose), clock.clone())).await
}

/// Tries until it is done, for [`STORE_WAIT_MAX`]. A fault that an operator must mend first is not tried again.
async fn wait_for_store<T>(mut attempt: impl AsyncFnMut() -> Result<T, store::Error>) -> Result<T, store::Error> {
    let started = Instant::now();
    let mut told: Option<(String, Instant)> = None;
    loop {
        match attempt().await {
            Err(store::Error::Away(why)) if started.elapsed() < STORE_WAIT_MAX => {
                let is_told =
                    told.as_ref().is_some_and(|(told, at)| *told == why && at.elapsed() < STORE_WAIT_TELL_EVERY);
                if !is_told {
                    tracing::warn!(why, "the store is not there yet; the start waits for it");
                    told = Some((why, Instant::now()));
                }
                pump::sleep(STORE_LOOK_EVERY).await;
            }
            done => return done,
        }
    }
}

/// Ends the store, last of all: waiting writes are done, and a SQLite file is whole without its log.
async fn end_store(store: &Store, tasks: &mut Tasks) {
    let ending = async {
        store.close().await;
        tasks.wait_for(Stage::Writer).await;
    };
    if tokio::time::timeout(STORE_GRACE, ending).await.is_err() {
        tracing::warn!("the store did not end in time; what is on disk is whole together with FILE-wal");
    }
}

/// Empties the log of a SQLite file after an erasure next to a reader, as soon as no other process reads.
fn spawn_scrubbing(tasks: &mut Tasks, ends: &Ends, store: &Store) {
    let store = store.clone();
    let scrubs = rhythm("scrub", Some(SCRUB_EVERY), &Arc::default(), &ends.work);
    tasks.spawn(Stage::Work, async move { pump::run(scrubs, || scrub(&store)).await });
}

async fn scrub(store: &Store) -> Step {
    match store.scrub_if_owed().await {
        Ok(Some(true)) => tracing::info!("what was erased has left the store's log (FILE-wal)"),
        Ok(Some(false) | None) => {}
        Err(error) => tracing::debug!(%error, "the store's log (FILE-wal) could not be emptied after an erasure"),
    }
    Step::Idle
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
    if config.churn.brake.is_none() {
        metrics.without_churn_brake();
    }
}

/// What was written out is done, and said.
fn warn_of_open_sources(config: &Config) {
    if config::is_loopback(config.http.listen) {
        return;
    }
    for source in config.sources.iter().filter(|source| matches!(source.verify, Verify::None)) {
        tracing::warn!(source = source.name, "verify = \"none\": whoever reaches the door can send for it");
    }
}

/// Checks a large SQLite file next to the work, and any when a statement has met damage later. Ends only when the first of
/// these finds damage, which ends the bridge as at a start.
async fn examine(store: Store) {
    match store.examine().await {
        Ok(()) => {}
        Err(error @ store::Error::Damaged(_)) => {
            tracing::error!(%error, "the bridge ends");
            return;
        }
        // The next reader or writer meets the same trouble, and waits for its end.
        Err(error) => tracing::warn!(%error, "the store's file could not be checked"),
    }
    loop {
        match store.examine_when_damage_is_seen().await {
            Ok(()) => tracing::info!("the whole of the store's file was checked: nothing is wrong with it"),
            // It stays up and takes nothing, so that an operator can look at what is there.
            Err(error) => tracing::error!(%error, "the store stays damaged; stop the bridge and start with a backup"),
        }
    }
}

/// Secrets follow their files, which are read on a thread that may wait for a file system.
struct Rereading {
    sources: Vec<Source>,
    /// There is at most one: a file system that does not answer holds one thread.
    under_way: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Rereading {
    async fn step(&self) -> Step {
        let mut under_way = self.under_way.lock().await;
        let reading = under_way.get_or_insert_with(|| {
            let sources = self.sources.clone();
            tokio::task::spawn_blocking(move || sources.iter().for_each(reread_secrets))
        });
        match tokio::time::timeout(ROTATE_TIME_MAX, reading).await {
            // One that panicked is begun again.
            Ok(_) => *under_way = None,
            Err(_) => tracing::warn!("the files of secrets do not answer; the secrets stay as they were"),
        }
        Step::Idle
    }
}

fn reread_secrets(source: &Source) {
    match source.verify.secrets().map_or(Reloaded::Same, Secrets::reload) {
        Reloaded::Same => {}
        Reloaded::Changed => tracing::info!(source = source.name, "its secrets were read again"),
        Reloaded::Refused(why) => {
            tracing::warn!(source = source.name, why, "its secrets stay as they were: the file cannot be used");
        }
    }
}

/// Messages that were parked and are retried are read by the same path as new ones.
fn spawn_rereading(tasks: &mut Tasks, ends: &Ends, inbox: &Inbox) {
    let inbox = inbox.clone();
    let rhythm = rhythm("reread", Some(LOOK_EVERY), &Arc::default(), &ends.work);
    tasks.spawn(Stage::Work, async move { pump::run(rhythm, || reread(&inbox)).await });
}

async fn reread(inbox: &Inbox) -> Step {
    match inbox.reread().await {
        Ok(true) => Step::Busy,
        Ok(false) => Step::Idle,
        Err(error) => {
            tracing::warn!(%error, "parked messages could not be read again");
            Step::Failed
        }
    }
}

async fn promote(store: &Store, wake: &Notify) -> Step {
    match store.promote().await {
        Ok(0) => Step::Idle,
        Ok(_) => {
            wake.notify_one();
            Step::Busy
        }
        Err(error) => {
            tracing::warn!(%error, "events that are due could not be taken up");
            Step::Failed
        }
    }
}

async fn date_purges(store: &Store) -> Step {
    match store.date_purges().await {
        Ok(true) => Step::IdleFor(FORGET_PAUSE),
        Ok(false) => Step::Idle,
        Err(error) => {
            tracing::warn!(%error, "purges that a clock ahead has put off could not be looked for");
            Step::Failed
        }
    }
}

async fn forget(store: &Store, retention: Duration) -> Step {
    match store.forget(retention).await {
        Ok(true) => Step::IdleFor(FORGET_PAUSE),
        Ok(false) => Step::Idle,
        Err(error) => {
            tracing::warn!(%error, "what is old enough could not be removed");
            Step::Failed
        }
    }
}

fn rhythm(name: &'static str, every: Option<Duration>, wake: &Arc<Notify>, end: &watch::Sender<bool>) -> Schedule {
    Schedule { name, every, wake: wake.clone(), shutdown: end.subscribe() }
}

/// Broker and Podero, for `/readyz`.
struct Vitals {
    broker: Option<Broker>,
    client: Client,
    backlog: Backlog,
    clock: Clock,
}

impl Health for Vitals {
    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(broker) = &self.broker {
            let status = broker.status();
            let part = |name, leg: &broker::Leg| Part {
                name,
                is_ready: *leg == broker::Leg::Connected,
                state: match leg {
                    broker::Leg::Connected => "ok".to_owned(),
                    broker::Leg::Disconnected { why } => why.clone(),
                },
            };
            parts.push(part("broker", &status.publisher));
            parts.push(part("consumer", &status.consumer));
        }
        let (is_ready, mut state) = standing_of(self.client.outlook(), self.client.has_token());
        if let Some(why) = self.client.token_trouble().filter(|_| !self.client.has_token()) {
            state = format!("{state}; {why}");
        }
        if let Some((operation, why)) = self.client.unreadable() {
            state = format!("{state}; the last answer to {} could not be used: {why}", operation.name());
        }
        parts.push(Part { name: "podero", is_ready, state });
        let jump = self.clock.jump();
        if !jump.is_zero() {
            let by = Duration::from_secs(jump.as_secs());
            let state = format!(
                "the machine's clock is {} ahead of the time that passed: nothing is removed, and no announced event takes effect early",
                humantime::format_duration(by)
            );
            parts.push(Part { name: "clock", is_ready: true, state });
        }
        // What the bridge has it works on; another one would not do it faster.
        let complaints = self.backlog.complaints().into_iter();
        parts.extend(complaints.map(|state| Part { name: "backlog", is_ready: true, state }));
        parts
    }
}

/// Podero's line.
fn standing_of(outlook: Outlook, has_token: bool) -> (bool, String) {
    match (outlook, has_token) {
        (Outlook::Paused { until }, _) => (false, format!("paused until {until}: Podero asks for it")),
        (Outlook::Open { since, why: CircuitCause::Away }, _) => {
            (false, format!("circuit open since {since}: Podero is away"))
        }
        (Outlook::Open { since, why: CircuitCause::Refused { status } }, _) => {
            (false, format!("circuit open since {since}: Podero refuses the bridge (status {status})"))
        }
        (Outlook::Clear | Outlook::Slowed { .. }, false) => (false, "no token yet".to_owned()),
        (Outlook::Slowed { per_second, of }, true) => {
            (true, format!("ok, pace lowered to {per_second} of {of} requests per second"))
        }
        (Outlook::Clear, true) => (true, "ok".to_owned()),
    }
}

impl podero::Observe for Metrics {
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

/// The sandbox beside the bridge.
struct OpenSandbox {
    sandbox: Sandbox,
    address: SocketAddr,
    server: ServerHandle,
}

fn open_sandbox(config: &Config, clock: &Clock, tasks: &mut Tasks) -> anyhow::Result<OpenSandbox> {
    let (listener, address) = listen(config.sandbox.listen, "sandbox.listen")?;
    let settings = sandbox::Settings { seed: config.sandbox.seed, ..sandbox::Settings::default() };
    let sandbox = Sandbox::new(settings, clock.clone());
    let server = sandbox::server(sandbox.clone(), listener)?;
    let handle = server.handle();
    tasks.spawn(Stage::Sandbox, async move {
        let _ = server.await;
    });
    Ok(OpenSandbox { sandbox, address, server: handle })
}

fn webhooks(config: &Config, guards: &Guards, inbox: Inbox) -> Webhooks {
    Webhooks {
        refusals: Refusals::new(inbox.metrics.clone()),
        inbox,
        sources: config.sources.clone(),
        body_bytes_max: config.http.body_max,
        bodies: guards.bodies.clone(),
        proved: guards.proved.clone(),
        openapi: spec::door().to_string(),
    }
}

/// Spawns a server whose type names its factory, which nobody wants to write out.
macro_rules! serve {
    ($server:expr, $listener:expr, $limits:expr, $stage:expr, $tasks:expr) => {{
        let server = $server
            .client_request_timeout($limits.headers_time_max)
            .keep_alive($limits.keep_alive)
            .shutdown_timeout(DOOR_GRACE_SECONDS)
            // Signals have one owner, `cli::serve`.
            .disable_signals()
            .listen($listener)?
            .run();
        let handle = server.handle();
        $tasks.spawn($stage, async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "a door broke");
            }
        });
        handle
    }};
}

/// The listeners' knowledge of their connections, and of the memory that bodies take.
struct Guards {
    http: Connections,
    admin: Connections,
    bodies: Bodies,
    proved: ProvedPeers,
}

impl Guards {
    fn new(config: &Config, limits: Limits, metrics: &Metrics) -> Self {
        let proved = ProvedPeers::default();
        let http = Bounds {
            connections_max: limits.connections_max,
            per_peer_max: limits
                .connections_per_peer_max
                .unwrap_or_else(|| limits.connections_max.div_ceil(HTTP_PEER_PART)),
            idle_max: limits.keep_alive,
            body_time_max: limits.body_time_max,
            requests_per_second: HTTP_REQUESTS_PER_SECOND,
        };
        let admin = Bounds {
            connections_max: ADMIN_CONNECTIONS_MAX,
            per_peer_max: ADMIN_CONNECTIONS_MAX / ADMIN_PEER_PART,
            body_time_max: limits.body_time_max.min(ADMIN_BODY_TIME_MAX),
            requests_per_second: ADMIN_REQUESTS_PER_SECOND,
            ..http
        };
        let connections = |listener, bounds, trusted: &Networks| {
            Connections::new(listener, bounds, trusted.clone(), proved.clone(), metrics.clone())
        };
        Self {
            http: connections(Listener::Http, http, &config.http.trusted_proxies),
            admin: connections(Listener::Admin, admin, &config.admin.trusted_proxies),
            bodies: Bodies::new(limits.bodies_bytes_max, config.http.body_max, metrics.clone()),
            proved,
        }
    }

    /// Cuts off connections that have owed something for too long, and lets bodies and proofs grow older.
    fn spawn(&self, tasks: &mut Tasks, ends: &Ends) {
        let (http, admin) = (self.http.clone(), self.admin.clone());
        let (bodies, proved) = (self.bodies.clone(), self.proved.clone());
        let rhythm = rhythm("connections", Some(connections::TICK), &Arc::default(), &ends.broker);
        tasks.spawn(Stage::Gauges, async move {
            pump::run(rhythm, || async {
                proved.tick();
                bodies.tick();
                http.tick();
                admin.tick();
                Step::Idle
            })
            .await;
        });
    }
}

/// An answer is for its client alone: many of the operator's listener show personal data.
fn not_stored() -> DefaultHeaders {
    DefaultHeaders::new().add((header::CACHE_CONTROL, "no-store"))
}

fn open_door(
    listen_at: SocketAddr,
    webhooks: Webhooks,
    (limits, connections): (Limits, Connections),
    tasks: &mut Tasks,
) -> anyhow::Result<(SocketAddr, ServerHandle)> {
    let (listener, address) = listen(listen_at, "http.listen")?;
    let webhooks = Arc::new(webhooks);
    let server = HttpServer::new(move || {
        let webhooks = webhooks.clone();
        ActixApp::new()
            .wrap(from_fn(note_request))
            .wrap(not_stored())
            .configure(move |config| http::configure(config, webhooks))
            .default_service(web::to(http::nothing_here))
    })
    .on_connect(watched_by(connections))
    .workers(HTTP_WORKERS)
    .max_connections(limits.connections_max.div_ceil(HTTP_WORKERS));
    Ok((address, serve!(server, listener, limits, Stage::Door, tasks)))
}

/// What a door does with each new connection.
fn watched_by(connections: Connections) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static {
    move |io, known| {
        let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
        // A connection that is gone already has no address.
        let Ok(address) = stream.peer_addr() else { return };
        // Without a second handle (no descriptor is left) the server's own timers must do.
        let socket = stream.as_fd().try_clone_to_owned().ok().map(Into::into);
        known.insert(Arc::new(connections.open(address.ip(), socket)));
    }
}

fn open_operators_door(
    listen_at: SocketAddr,
    operators: Admin,
    (limits, connections): (Limits, Connections),
    tasks: &mut Tasks,
) -> anyhow::Result<(SocketAddr, ServerHandle)> {
    let (listener, address) = listen(listen_at, "admin.listen")?;
    let operators = Arc::new(operators);
    let server = HttpServer::new(move || {
        let operators = operators.clone();
        ActixApp::new()
            .wrap(from_fn(admin::not_by_a_page))
            .wrap(from_fn(note_request))
            .wrap(not_stored())
            .configure(move |config| admin::configure(config, operators))
    })
    .on_connect(watched_by(connections))
    .workers(1)
    .max_connections(ADMIN_CONNECTIONS_MAX);
    Ok((address, serve!(server, listener, limits, Stage::OperatorsDoor, tasks)))
}

fn listen(at: SocketAddr, key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(at).with_context(|| format!("{key}: {at} cannot be bound"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn targets(config: &Config) -> Vec<Target> {
    let amqp = config.amqp.as_ref().map(|_| Target::Amqp);
    let webhook = config.outbound.webhook.as_ref().map(|_| Target::Webhook);
    amqp.into_iter().chain(webhook).collect()
}

/// How far ahead due times can lie by the settings. The first poll of a new user is an interval away, as every other one.
fn ceilings(config: &Config, call_time_max: Duration) -> store::Ceilings {
    store::Ceilings {
        work: config.retry.max.max(verdict::BUSY_DELAY_MAX).max(policy(config).doubt_pause).max(apply::LEASE_MAX),
        notice: outbound::WAIT_MAX,
        poll: config.watch.policy.interval.max(call_time_max),
        sign_up: config.retry.give_up_after,
    }
}

/// What the operator chose, in the core's words.
pub fn policy(config: &Config) -> Policy {
    Policy {
        schedule: RetrySchedule { initial: config.retry.initial, max: config.retry.max },
        doubt_pause: config.podero.timeout.max(config.retry.initial),
        give_up_after: config.retry.give_up_after,
        onboarding: config.onboarding.as_ref().map(|onboarding| OnboardingPolicy {
            language: onboarding.language.name().to_owned(),
            price_zone: onboarding.price_zone.name().to_owned(),
            success_url: onboarding.success_url.clone(),
            cancel_url: onboarding.cancel_url.clone(),
        }),
        old_heat_pumps: config.moving.old_heat_pumps,
        old_building: config.moving.old_building,
        churn: config.churn.delete,
        retention: config.churn.retention,
        brake: config.churn.brake,
    }
}

/// Where customers land who reconnect a heat pump.
fn landing(config: &Config) -> Option<admin::Landing> {
    config.onboarding.as_ref().map(|onboarding| admin::Landing {
        success_url: onboarding.success_url.clone(),
        cancel_url: onboarding.cancel_url.clone(),
        language: Some(onboarding.language.name().to_owned()),
    })
}

/// The settings of the Podero client: the account, or the sandbox's own.
pub fn podero_settings(config: &Config, sandbox: Option<(SocketAddr, &Sandbox)>) -> anyhow::Result<podero::Settings> {
    let (base_url, org_id, client_id, client_secret) = match (sandbox, &config.podero.account) {
        (Some((address, sandbox)), _) => {
            let account = sandbox.account();
            (format!("http://{address}"), account.org_id, account.client_id.clone(), account.client_secret.clone())
        }
        (None, Account::Podero { base_url, org_id, client_id, client_secret }) => {
            (base_url.clone(), *org_id, client_id.clone(), client_secret.expose().to_owned())
        }
        (None, Account::Sandbox) => anyhow::bail!("there is no Podero account, and the sandbox does not run"),
    };
    // The sandbox is on this machine.
    let proxy = config.podero.proxy.as_ref().filter(|_| sandbox.is_none());
    Ok(podero::Settings {
        base_url,
        org_id,
        client_id,
        client_secret,
        proxy: proxy.map(|proxy| proxy.expose().to_owned()),
        timeout: config.podero.timeout,
        max_in_flight: config.podero.max_in_flight,
        requests_per_second: config.podero.requests_per_second,
    })
}

/// The settings of the broker's connection.
pub fn broker_settings(amqp: &Amqp) -> broker::Settings {
    broker::Settings {
        urls: amqp.urls.iter().map(|url| url.expose().to_owned()).collect(),
        inbound_exchange: amqp.inbound_exchange.clone(),
        inbound_queue: amqp.inbound_queue.clone(),
        bindings: amqp.bindings.clone(),
        outbound_exchange: amqp.outbound_exchange.clone(),
        declare: amqp.declare,
        prefetch: amqp.prefetch,
    }
}
