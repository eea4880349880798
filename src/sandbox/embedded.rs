//! One embedded Podero: the model, the tokens, the faults and the logs, under one lock.
//!
//! It must never answer anything by itself: the routes do.
//!
//! Before: [`crate::sandbox::model`], [`crate::sandbox::faults`]. After: [`crate::sandbox::routes`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use uuid::Uuid;

use super::access::AccessTokens;
use super::answer::SandboxAnswer;
use super::faults::Faults;
use super::model::World;
use super::newest::NewestByText;
use super::requests::LoggedRequest;
use super::variants::Variants;
use crate::clock::Clock;

/// Limit of a request body in bytes: no documented body comes near it, and memory stays bounded.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Limit of the answers kept for repeated idempotency keys; the oldest goes first.
pub const REPLIES_MAX: usize = 10_000;
/// Lifetime of an access token (`partner-api/overview/authentication`: 36000 s).
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(10);
/// Organisation and credentials of the sandbox.
#[derive(Clone, PartialEq, Eq)]
pub struct SandboxAccount {
    /// The only organisation; any other is 404.
    pub org_id: Uuid,
    /// For the token endpoint.
    pub client_id: String,
    /// For the token endpoint.
    pub client_secret: String,
}

impl Default for SandboxAccount {
    /// Organisation `5a9db000-0000-4000-8000-000000000001`, `sandbox-client`, `sandbox-secret`: no secret at all.
    fn default() -> Self {
        Self {
            org_id: Uuid::from_u128(0x5a9d_b000_0000_4000_8000_0000_0000_0001),
            client_id: "sandbox-client".to_owned(),
            client_secret: "sandbox-secret".to_owned(),
        }
    }
}

impl std::fmt::Debug for SandboxAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxAccount")
            .field("org_id", &self.org_id)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Settings of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSettings {
    /// Organisation and credentials.
    pub account: SandboxAccount,
    /// The seed by which ids repeat; without it they differ at each start.
    pub seed: Option<u64>,
    /// Lifetime of an access token.
    pub token_lifetime: Duration,
    /// The switches at the start.
    pub variants: Variants,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            account: SandboxAccount::default(),
            seed: None,
            token_lifetime: TOKEN_LIFETIME,
            variants: Variants::default(),
        }
    }
}

/// One embedded Podero. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    account: SandboxAccount,
    token_lifetime: Duration,
    clock: Clock,
    // Held for one call, never across an await.
    state: Mutex<State>,
}

/// Everything that changes.
pub(super) struct State {
    pub(super) world: World,
    pub(super) tokens: AccessTokens,
    pub(super) faults: Faults,
    pub(super) requests: VecDeque<LoggedRequest>,
    /// The number of the last request.
    pub(super) last_request: usize,
    /// First answers by idempotency key, for the switch that honours them.
    pub(super) replies: NewestByText<SandboxAnswer>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sandbox").field(&self.0.account).finish()
    }
}

impl Sandbox {
    /// An empty organisation. Time, and chance where no seed is set, come from `clock`.
    pub fn new(settings: SandboxSettings, clock: Clock) -> Self {
        let drawn = || clock.fresh_id().as_u64_pair().1 ^ clock.jitter().to_bits();
        let seed = settings.seed.unwrap_or_else(drawn);
        let state = State {
            world: World::new(settings.account.org_id, settings.variants, seed),
            tokens: AccessTokens::default(),
            faults: Faults::default(),
            requests: VecDeque::new(),
            last_request: 0,
            replies: NewestByText::default(),
        };
        let (account, token_lifetime) = (settings.account, settings.token_lifetime);
        Self(Arc::new(Inner { account, token_lifetime, clock, state: Mutex::new(state) }))
    }

    /// The organisation and the credentials of its client.
    pub fn account(&self) -> &SandboxAccount {
        &self.0.account
    }

    /// Lifetime of an access token.
    pub(super) fn token_lifetime(&self) -> Duration {
        self.0.token_lifetime
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no code panics while it holds the state")
    }
}
