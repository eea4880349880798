//! Opens the HTTP listeners, the sandbox's too: their bounds, their middleware, and the guard against slow clients.
//!
//! Both listeners are the same server with different routes; that of the admin API has one worker, and refuses web pages.
//!
//! Before: [`super`]. After: [`crate::listener`] around the routes of [`crate::inbound::http`] and [`crate::admin`].

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::header;
use actix_web::middleware::{Condition, DefaultHeaders, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use anyhow::Context;
use futures_util::FutureExt;

use super::running::{Stage, Tasks};
use crate::admin;
use crate::clock::Clock;
use crate::config::{Config, Networks};
use crate::inbound::bodies::{self, BodyBudget};
use crate::listener::connections::{self, Bounds, Connections, ProvedPeers};
use crate::listener::note_request;
use crate::metrics::{Listener, Metrics};
use crate::pump::Step;
use crate::sandbox::{self, Sandbox};

/// Workers of the webhook listener, for parsing and signatures. The store behind them has one writer.
const HTTP_WORKERS: usize = 2;

/// Workers of the admin listener.
const ADMIN_WORKERS: usize = 1;

/// Limit of the webhook listener's connections at once; more wait in the kernel's queue.
const HTTP_CONNECTIONS_MAX: usize = 4_096;

/// Limit of the admin listener's connections at once.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// Requests a second by one connection of the webhook listener: more than a sender that waits for answers makes.
const HTTP_REQUESTS_PER_SECOND: u32 = 1_000;

/// Requests a second by one connection of the admin listener, whose scrapes and lists are larger.
const ADMIN_REQUESTS_PER_SECOND: u32 = 100;

/// Limit of one address's connections at the webhook listener, as a part of all: a quarter is more than a sender's pool has.
const HTTP_PEER_PART: usize = 4;

/// Limit of one address's connections at the admin listener, as a part of all: few clients reach it, often from one address.
const ADMIN_PEER_PART: usize = 2;

/// Timeout for a body at the admin listener: an order has a few dozen bytes.
const ADMIN_BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// Timeout for a request line and headers. A client that has not sent them by then is cut off.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for which an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Part of [`super::GRACE`] for requests under way at a listener.
const GRACE_SECONDS: u64 = 5;

/// Bounds of the listeners that no operator needs to configure, and a test does not want to wait for. The admin listener has
/// the webhook listener's times.
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

/// The guard against slow clients: the listeners' knowledge of their connections, and of the memory that bodies take.
#[derive(Clone)]
pub(super) struct SlowClients {
    pub(super) http: Connections,
    pub(super) admin: Connections,
    pub(super) bodies: BodyBudget,
    pub(super) proved: ProvedPeers,
}

impl SlowClients {
    pub(super) fn new(config: &Config, limits: Limits, metrics: &Metrics) -> Self {
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
            bodies: BodyBudget::new(limits.bodies_bytes_max, config.http.body_max, metrics.clone()),
            proved,
        }
    }

    /// Cuts off connections that have owed something for too long, and lets bodies and proofs grow older.
    pub(super) fn tick(&self) -> Step {
        self.proved.tick();
        self.bodies.tick();
        self.http.tick();
        self.admin.tick();
        Step::Idle
    }
}

/// A listener that is open.
pub(super) struct OpenListener {
    pub(super) address: SocketAddr,
    pub(super) server: ServerHandle,
}

/// Opens the listener of these connections with these routes.
pub(super) fn open(
    at: SocketAddr,
    connections: &Connections,
    limits: Limits,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    tasks: &mut Tasks,
) -> anyhow::Result<OpenListener> {
    let (stage, key, workers, connections_max) = match connections.listener() {
        Listener::Http => (Stage::WebhookListener, "http.listen", HTTP_WORKERS, limits.connections_max),
        Listener::Admin => (Stage::AdminListener, "admin.listen", ADMIN_WORKERS, ADMIN_CONNECTIONS_MAX),
    };
    let (listener, address) = listen(at, key)?;
    let running = HttpServer::new(move || {
        App::new()
            .wrap(Condition::new(stage == Stage::AdminListener, from_fn(admin::not_by_a_page)))
            .wrap(from_fn(note_request))
            .wrap(not_stored())
            .configure(routes.clone())
    })
    .on_connect(watched_by(connections.clone()))
    .workers(workers)
    .max_connections(connections_max.div_ceil(workers))
    .client_request_timeout(limits.headers_time_max)
    .keep_alive(limits.keep_alive)
    .shutdown_timeout(GRACE_SECONDS)
    // Signals have one owner, `cli::serve`.
    .disable_signals()
    .listen(listener)?
    .run();
    let server = running.handle();
    tasks.spawn(stage, async move {
        if let Err(error) = running.await {
            tracing::error!(%error, "a listener broke");
        }
    });
    Ok(OpenListener { address, server })
}

/// The embedded sandbox, which runs next to the bridge and is reached over HTTP like Podero.
pub struct OpenSandbox {
    pub(super) sandbox: Sandbox,
    pub(super) listener: OpenListener,
}

impl OpenSandbox {
    pub(super) fn open(config: &Config, clock: &Clock, tasks: &mut Tasks) -> anyhow::Result<Self> {
        let (listener, address) = listen(config.sandbox.listen, "sandbox.listen")?;
        let settings = sandbox::SandboxSettings { seed: config.sandbox.seed, ..sandbox::SandboxSettings::default() };
        let sandbox = Sandbox::new(settings, clock.clone());
        let running = sandbox::server(sandbox.clone(), listener)?;
        let server = running.handle();
        tasks.spawn(Stage::Sandbox, running.map(|_| ()));
        Ok(Self { sandbox, listener: OpenListener { address, server } })
    }
}

/// An answer is for its client alone: many of the admin listener show personal data.
fn not_stored() -> DefaultHeaders {
    DefaultHeaders::new().add((header::CACHE_CONTROL, "no-store"))
}

/// Hands each new connection to the guard.
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

/// Binds an address that a key names.
fn listen(at: SocketAddr, key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(at).with_context(|| format!("{key}: {at} cannot be bound"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
