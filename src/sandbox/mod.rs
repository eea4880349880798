//! An embedded Podero for development, demonstration and tests: in memory, faithful where the documents are clear,
//! switchable where they contradict each other or are silent.
//!
//! It speaks Podero's HTTP, and a control API of its own under `/_sandbox`; the rest of the bridge uses it as it
//! would use Podero. It must never be reached by another way than HTTP, except for [`model`] in a simulation.
//!
//! Before: the command line and the composition root. After: [`crate::clock`], [`crate::domain`].

pub mod access;
pub mod faults;
pub mod model;
mod operation;
pub mod requests;
mod routes;
mod variants;

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use uuid::Uuid;

use crate::clock::Clock;
use access::Tokens;
use faults::Faults;
use model::World;
use requests::RequestLog;
use routes::Answer;

pub use operation::Operation;
pub use variants::{CountryField, Variants};

/// Largest request body: no documented body comes near it, and memory stays bounded.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most answers kept for repeated idempotency keys; the oldest goes first.
pub const REPLIES_MAX: usize = 10_000;
/// Lifetime of an access token (`partner-api/overview/authentication`: 36000 s).
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(10);
/// How long a stopping server waits for answers that a latency fault holds back.
const SHUTDOWN_SECONDS: u64 = 1;

/// Organisation and credentials of the sandbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The only organisation; any other is 404.
    pub org_id: Uuid,
    /// For the token endpoint.
    pub client_id: String,
    /// For the token endpoint.
    pub client_secret: String,
}

impl Default for Account {
    /// Organisation `5a9db000-0000-4000-8000-000000000001`, `sandbox-client`, `sandbox-secret`: no secret at all.
    fn default() -> Self {
        Self {
            org_id: Uuid::from_u128(0x5a9d_b000_0000_4000_8000_0000_0000_0001),
            client_id: "sandbox-client".to_owned(),
            client_secret: "sandbox-secret".to_owned(),
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("org_id", &self.org_id)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// What a sandbox is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Organisation and credentials.
    pub account: Account,
    /// Ids repeat with it; without it they differ at each start.
    pub seed: Option<u64>,
    /// How long an access token serves.
    pub token_lifetime: Duration,
    /// The switches at the start.
    pub variants: Variants,
}

impl Default for Settings {
    fn default() -> Self {
        Self { account: Account::default(), seed: None, token_lifetime: TOKEN_LIFETIME, variants: Variants::default() }
    }
}

/// One embedded Podero. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    account: Account,
    token_lifetime: Duration,
    clock: Clock,
    // Held for one call, never across an await.
    state: Mutex<State>,
}

/// Everything that changes.
struct State {
    world: World,
    tokens: Tokens,
    faults: Faults,
    requests: RequestLog,
    replies: Replies,
}

/// First answers by idempotency key, for the switch that honours them.
#[derive(Default)]
struct Replies {
    by_key: HashMap<String, Answer>,
    in_order: VecDeque<String>,
}

impl Replies {
    fn get(&self, key: &str) -> Option<Answer> {
        self.by_key.get(key).cloned()
    }

    fn keep(&mut self, key: String, answer: Answer) {
        if self.in_order.len() >= REPLIES_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.in_order.push_back(key.clone());
        self.by_key.insert(key, answer);
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sandbox").field(&self.0.account).finish()
    }
}

impl Sandbox {
    /// An empty organisation. Time, and chance where no seed is set, come from `clock`.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        let drawn = || clock.fresh_id().as_u64_pair().1 ^ clock.jitter().to_bits();
        let seed = settings.seed.unwrap_or_else(drawn);
        let state = State {
            world: World::new(settings.account.org_id, settings.variants, seed),
            tokens: Tokens::default(),
            faults: Faults::default(),
            requests: RequestLog::default(),
            replies: Replies::default(),
        };
        let (account, token_lifetime) = (settings.account, settings.token_lifetime);
        Self(Arc::new(Inner { account, token_lifetime, clock, state: Mutex::new(state) }))
    }

    /// What a client needs to know to use it.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// Mounts `/oauth2/token/`, `/api/partners/v2.0` and `/_sandbox`.
    pub fn configure(&self, cfg: &mut ServiceConfig) {
        routes::mount(self, cfg);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no code panics while it holds the state")
    }
}

/// A server of this sandbox alone, on a socket that is bound already. Await it to run it; signals are the caller's.
pub fn server(sandbox: Sandbox, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(move || App::new().configure(|cfg| sandbox.configure(cfg)))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .listen(listener)?;
    Ok(server.run())
}
