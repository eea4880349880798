//! The partner: one [`Call`] over HTTP becomes one [`Reply`], always, within a bound.
//!
//! Everything that is asked of Podero goes through one budget; every way in which asking can go wrong is a
//! reply, not an error. The line that matters most runs between `Unsent` (surely not received) and `Unknown`
//! (may have happened): whatever is not sure is `Unknown`. This module never repeats a call by itself (but for
//! one that was refused for its token, which surely was not carried out), decides nothing about events, and
//! writes no body, token, name or address into a log. A create whose claim has ended is not written to the wire.
//!
//! Before: [`crate::domain::plan`] names the call; [`crate::apply`] and [`crate::watch`] make it.
//! After: [`crate::domain::verdict`] judges the reply.

mod answer;
mod auth;
mod body;
mod drift;
mod pruned;
mod refusal;
mod throttle;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::call::{Answer, Call, Operation, Reply};
use crate::domain::partner_health::{CircuitCause, Hold, Opening, PartnerHealth};
use crate::domain::{CustomerId, Timestamp};
use answer::{Bound, Coding, Lost, POOL_BYTES, Pool, Received, coding_of, fetch};
use auth::{Token, Tokens};
use body::Deadline;
pub use drift::Drift;
use drift::Found;
pub use throttle::ProbePurpose;
use throttle::{Budget, Evidence, SLOT_WAIT_MAX, Throttle, Turnstile};
use wire::{Outgoing, Part, Reading};

/// The longest time for a connection to come about. Shorter than the whole deadline, so that a host which does
/// not answer at all is `Unsent`, not `Unknown`.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Idle connections are given up before a server's own keep-alive limit (60 s and more where known) closes them
/// under a request that is being written, which would leave that call in doubt.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// A list of 50,000 users is about 30 MB.
const USERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Everything else is about one user.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pages of one list: 512 of 200 entries are twice the largest fleet that is planned for.
const PAGES_MAX: usize = 512;

/// Without a word about it a server may choose any coding (RFC 9110 §12.5.3), and gateways choose gzip.
const UNCODED: &str = "identity";

/// Time for which an answer that could not be read is shown to operators: a single one passes by itself, and a gateway that
/// packs answers does it again within that.
const UNREADABLE_SHOWN: Duration = Duration::from_mins(15);

/// What a probe looks up: an id that no customer has, since it would have to be signed up with it.
const PROBE_ID: &str = "podero-bridge-probe";

/// What a call is made for: events go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// For an event that holds its customer's lane.
    Event {
        /// A call that has not left the bridge by then never does: the claim's lease would not cover its end.
        until: Timestamp,
    },
    /// For the watch, which comes round again.
    Poll,
}

/// Podero, as the stages see it.
pub trait Partner: Send + Sync + 'static {
    /// Makes one call, within [`Settings::call_time_max`] when it is urgent. Never fails but by its reply, never
    /// panics. Dropped before it is ready, the call may have happened all the same.
    fn call(&self, call: &Call, idempotency_key: Option<Uuid>, urgency: Urgency) -> impl Future<Output = Reply> + Send;

    /// `Some(until)`: Podero asked for a pause, or the circuit is open; claim no event before then.
    fn paused_until(&self) -> Option<Timestamp>;

    /// Calls that may be under way at once from this process; more claims than twice that are only in others' way.
    fn places(&self) -> usize {
        usize::MAX
    }

    /// When the last outage ended: what failed before it has not failed ever since.
    fn back_since(&self) -> Option<Timestamp> {
        None
    }

    /// Counts a difference from Podero's pages that shows only between answers, so that the caller finds it.
    fn drifted(&self, _: Operation, _: Drift) {}
}

/// A call as it would be sent, but for host and credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPreview {
    /// The HTTP method.
    pub method: String,
    /// Path and query; the nil UUID stands for the organisation.
    pub path: String,
    /// The body, if it has one.
    pub body: Option<serde_json::Value>,
}

/// How a call would be sent. Nothing is.
pub fn preview(call: &Call) -> CallPreview {
    match wire::request(call, Uuid::nil(), None) {
        Ok(Outgoing { method, path, body }) => CallPreview { method: method.to_string(), path, body },
        Err(refusal) => CallPreview { method: "none".to_owned(), path: refusal.detail, body: None },
    }
}

/// Who wants to know how the calls go: the metrics, in production.
pub trait Observe: Send + Sync + 'static {
    /// One HTTP request ended; `status` is one of [`STATUSES`].
    fn request(&self, operation: Operation, status: &'static str, took: Duration);
    /// The circuit opened or closed.
    fn circuit(&self, is_open: bool);
    /// An answer differs from what Podero's pages show; at most once per answer and way.
    fn drift(&self, operation: Operation, drift: Drift);
}

/// Nobody wants to know.
impl Observe for () {
    fn request(&self, _: Operation, _: &'static str, _: Duration) {}
    fn circuit(&self, _: bool) {}
    fn drift(&self, _: Operation, _: Drift) {}
}

/// Every text with which a request can end: a closed set, so that it may label metrics.
pub const STATUSES: [&str; 29] = [
    "200", "201", "204", "2xx", "3xx", "400", "401", "403", "404", "405", "408", "409", "410", "422", "425", "429",
    "4xx", "500", "501", "502", "503", "504", "5xx", "other", "timeout", "connect", "cut", "garbage", "no_room",
];

fn status_text(status: u16) -> &'static str {
    let exact = STATUSES.iter().find(|text| text.parse() == Ok(status));
    exact.copied().unwrap_or(match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    })
}

/// What the operator chose (contract §4, `podero.*`).
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host; the paths are the API's own.
    pub base_url: String,
    /// The utility's organisation.
    pub org_id: Uuid,
    /// OAuth2 client credentials.
    pub client_id: String,
    /// CallPreview to nobody.
    pub client_secret: String,
    /// Deadline of one HTTP request, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// A forward proxy for all calls; its URL may hold a password, and is never shown.
    pub proxy: Option<String>,
    /// Requests at one time, of all replicas together.
    pub max_in_flight: usize,
    /// Requests per second, of all replicas together.
    pub requests_per_second: u32,
}

impl Settings {
    /// The longest a probe can take: a token and the request, and both once more when the first token was rejected.
    pub fn probe_time_max(&self) -> Duration {
        self.timeout.saturating_mul(4)
    }

    /// The longest an urgent call can take: the wait for a slot, then a token and the request, and both once
    /// more when the first token was rejected. A claim's lease must outlive it.
    pub fn call_time_max(&self) -> Duration {
        SLOT_WAIT_MAX.saturating_add(self.timeout.saturating_mul(4))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("base_url", &self.base_url)
            .field("org_id", &self.org_id)
            .field("client_id", &self.client_id)
            .field("timeout", &self.timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("requests_per_second", &self.requests_per_second)
            .finish_non_exhaustive()
    }
}

/// Why no client can be made of the settings: the operator must change them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is unusable.
    #[error("podero.base_url is not an address of the form https://host[:port]")]
    BaseUrl,
    /// Nothing could ever be sent.
    #[error("podero.{0} must be at least 1")]
    NoBudget(&'static str),
    /// The proxy is unusable. Its URL is not shown.
    #[error("podero.proxy is not an address of a proxy")]
    Proxy,
    /// The credentials cannot be written into a header.
    #[error("podero.client_id and podero.client_secret must not be empty, and the id holds no colon")]
    Credentials,
    /// TLS or the like.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// What [`Client::check`] found wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Podero gives no token for these credentials.
    #[error("Podero refuses the client credentials (status {status})")]
    Credentials {
        /// The status that said so.
        status: u16,
    },
    /// The token is good, the organisation is not.
    #[error("Podero does not open the organisation to these credentials (status {status})")]
    Organisation {
        /// The status that said so.
        status: u16,
    },
    /// Podero was reached and fails.
    #[error("Podero was reached and fails (status {status}): the trouble is at Podero, not on the way to it")]
    Failing {
        /// The status that said so.
        status: u16,
    },
    /// Podero says something that no page shows.
    #[error("Podero answers with an unexpected status ({status})")]
    Status {
        /// This one.
        status: u16,
    },
    /// Nothing can be said now.
    #[error("Podero does not answer as it should: {why}")]
    Away {
        /// What went wrong.
        why: &'static str,
    },
}

/// How Podero stands to this process, in few words for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Calls go at full pace.
    Clear,
    /// Calls go, more slowly than the budget would allow: Podero asked for it.
    Slowed {
        /// Requests per second now.
        per_second: u32,
        /// And otherwise.
        of: u32,
    },
    /// Podero asked for a pause.
    Paused {
        /// Its end.
        until: Timestamp,
    },
    /// The circuit is open.
    Open {
        /// When it opened.
        since: Timestamp,
        /// What opened it.
        why: CircuitCause,
    },
}

/// The partner over HTTP. Cheap to clone; clones share token, budget and circuit.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    settings: Settings,
    /// Without a slash at its end.
    base_url: String,
    clock: Clock,
    tokens: Arc<Tokens>,
    throttle: Throttle,
    /// The memory of all answers that are being read.
    pool: Pool,
    watcher: Arc<dyn Observe>,
    /// Calls whose last answer could not be read, when it came, and why.
    unreadable: Mutex<BTreeMap<Operation, (Timestamp, &'static str)>>,
}

/// Hands the budget out and keeps the token fresh. Without it running, no call gets a slot.
pub struct Dispatcher {
    turnstile: Turnstile,
    tokens: Arc<Tokens>,
}

impl Dispatcher {
    /// Runs until `shutdown`, or until every [`Client`] is gone. Calls that still wait then are `Unsent`, so stop
    /// the stages first.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = shutdown => {}
            () = self.turnstile.run() => {}
            () = self.tokens.keep() => {}
        }
    }
}

impl Client {
    /// Checks the settings and sets everything up; sends nothing yet.
    pub fn new(settings: Settings, clock: Clock, watcher: impl Observe) -> Result<(Self, Dispatcher), Error> {
        let base_url = base_of(&settings.base_url).ok_or(Error::BaseUrl)?;
        let per_second = NonZeroU32::new(settings.requests_per_second).ok_or(Error::NoBudget("requests_per_second"))?;
        if settings.max_in_flight == 0 {
            return Err(Error::NoBudget("max_in_flight"));
        }
        let credentials = credentials(&settings).ok_or(Error::Credentials)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("podero-bridge/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(UNCODED))]))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout((settings.timeout / 2).min(CONNECT_TIMEOUT_MAX))
            .timeout(settings.timeout)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(settings.max_in_flight)
            // A proxy that the environment names is not for the bridge: its credentials would go there.
            .no_proxy();
        let http = match &settings.proxy {
            Some(proxy) => http.proxy(reqwest::Proxy::all(proxy).map_err(|_| Error::Proxy)?),
            None => http,
        };
        let http = http.build().map_err(Error::Http)?;
        let watcher: Arc<dyn Observe> = Arc::new(watcher);
        let tokens = Arc::new(Tokens::new(http.clone(), &base_url, credentials, clock.clone()));
        let budget = Budget { max_in_flight: settings.max_in_flight, per_second };
        let (throttle, turnstile) = throttle::throttle(budget, clock.clone(), watcher.clone());
        let dispatcher = Dispatcher { turnstile, tokens: tokens.clone() };
        let (pool, unreadable) = (Pool::new(POOL_BYTES), Mutex::default());
        let inner = Inner { http, settings, base_url, clock, tokens, throttle, pool, watcher, unreadable };
        Ok((Self(Arc::new(inner)), dispatcher))
    }

    /// Whether a token that has not expired is at hand; the [`Dispatcher`] sees to it.
    pub fn has_token(&self) -> bool {
        self.0.tokens.is_ready()
    }

    /// Why the last try brought no token, if it brought an answer that cannot be used.
    pub fn token_trouble(&self) -> Option<&'static str> {
        self.0.tokens.trouble()
    }

    /// A call whose last answer could not be read, and why, if that was lately.
    pub fn unreadable(&self) -> Option<(Operation, &'static str)> {
        let now = self.0.clock.now();
        let unreadable = self.0.unreadable();
        let lately = unreadable.iter().find(|(_, (at, _))| now.since(*at) < UNREADABLE_SHOWN);
        lately.map(|(operation, (_, why))| (*operation, *why))
    }

    /// What this process knows of Podero as a whole.
    pub fn health(&self) -> PartnerHealth {
        self.0.throttle.health()
    }

    /// Learns what other replicas know, and how many live, this one among them: each uses its part of the budget.
    pub fn adopt(&self, known: PartnerHealth, replicas: usize) {
        self.0.throttle.adopt(known, replicas);
    }

    /// Rung when a pause or the circuit changed by what this process learnt; for one listener.
    pub fn changed(&self) -> Arc<Notify> {
        self.0.throttle.changed()
    }

    /// How Podero stands to this process.
    pub fn outlook(&self) -> Outlook {
        let (now, health) = (self.0.clock.now(), self.health());
        match health.hold(now) {
            Some(Hold::Paused { until }) => Outlook::Paused { until },
            Some(Hold::Open(opening)) => Outlook::Open { since: opening.since, why: opening.why },
            None => match self.per_second() {
                (per_second, of) if per_second < of => Outlook::Slowed { per_second, of },
                (_, _) => Outlook::Clear,
            },
        }
    }

    /// Requests per second that this process may make now, and when nothing slows it down.
    pub fn per_second(&self) -> (u32, u32) {
        self.0.throttle.per_second()
    }

    /// What [`Client::probe`] would find out; `None` when it would not ask.
    pub fn purpose(&self) -> Option<ProbePurpose> {
        self.0.throttle.purpose()
    }

    /// Rung when calls fail so that a probe has to tell whose trouble it is; for one listener.
    pub fn suspected(&self) -> Arc<Notify> {
        self.0.throttle.suspected()
    }

    /// Asks Podero something harmless, if it is time to; the answer opens the circuit, closes it or keeps it open for
    /// longer. Beside the budget: it must not wait behind calls that hang. `false` when it was not time.
    pub async fn probe(&self) -> bool {
        let Some(probe) = self.0.throttle.probe() else { return false };
        let is_organisation =
            matches!(probe.opening(), Some(Opening { why: CircuitCause::Refused { status: 404 | 410 }, .. }));
        let reply = match CustomerId::accept(PROBE_ID) {
            // "Not there" is what a look-up of nobody hears anyway, so it takes another call to see that the
            // organisation is back.
            _ if is_organisation => self.0.look_at_organisation().await,
            Some(external_id) => self.0.look_up(&Call::FindUser { external_id }).await,
            None => return false,
        };
        tracing::debug!(well = matches!(reply, Reply::Done(_)), "probed Podero");
        probe.settle(&reply);
        true
    }

    /// Gets a token, asks for the organisation's users without reading them, and looks up the id that the circuit's probe
    /// asks for. Works outside of the budget and without the [`Dispatcher`], changes nothing at Podero. Each step follows only
    /// when the one before it went well; `told` hears of each.
    pub async fn check(&self, mut told: impl FnMut(Checked)) -> Result<(), Unfit> {
        let inner = &*self.0;
        let mut tell = |step, outcome: Result<u16, Unfit>| {
            told(Checked { step, outcome: outcome.clone() });
            outcome
        };
        let token = inner.tokens.token(None).await.map_err(|reply| match reply {
            Reply::Held { status } => Unfit::Credentials { status },
            Reply::Unsent { why } | Reply::Unknown { why } => Unfit::Away { why },
            Reply::Busy { .. } => Unfit::Away { why: "it asks for a pause" },
            Reply::Done(_) | Reply::Refused(_) => Unfit::Away { why: "the token endpoint makes no sense" },
        });
        let token = match token {
            Ok(token) => token,
            Err(unfit) => return tell("token", Err(unfit)).map(drop),
        };
        tell("token", Ok(200))?;
        tell("organisation", inner.status_of(&Call::ListUsers, &token).await.and_then(of_organisation))?;
        let Some(external_id) = CustomerId::accept(PROBE_ID) else { return Ok(()) };
        let probe = Call::FindUser { external_id };
        // No user has this id: a healthy Podero says 404.
        let asked = inner.status_of(&probe, &token).await.and_then(|(status, _)| of_probe(status));
        tell("find_user", asked).map(drop)
    }
}

/// A step of [`Client::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// `token`, `organisation` or `find_user`.
    pub step: &'static str,
    /// The status of a good answer, or what is wrong.
    pub outcome: Result<u16, Unfit>,
}

fn of_organisation((status, coding): (u16, Option<Coding>)) -> Result<u16, Unfit> {
    match status {
        200 => coding.map_or(Ok(200), |coding| Err(Unfit::Away { why: coding.why() })),
        400..=404 | 410 => Err(Unfit::Organisation { status }),
        _ => Err(not_well(status)),
    }
}

fn of_probe(status: u16) -> Result<u16, Unfit> {
    match status {
        200 | 404 | 410 => Ok(status),
        401 | 403 => Err(Unfit::Organisation { status }),
        _ => Err(not_well(status)),
    }
}

/// A status that says nothing about credentials or organisation.
fn not_well(status: u16) -> Unfit {
    match status {
        300..=399 => Unfit::Away { why: "it redirects; check podero.base_url" },
        429 => Unfit::Away { why: "it asks for a pause" },
        500..=599 => Unfit::Failing { status },
        _ => Unfit::Status { status },
    }
}

impl Partner for Client {
    async fn call(&self, call: &Call, idempotency_key: Option<Uuid>, urgency: Urgency) -> Reply {
        let whole = self.0.call(call, idempotency_key, urgency);
        match urgency {
            // A list in many pages must not outlive the claim that asked for it.
            Urgency::Event { .. } => tokio::time::timeout(self.0.settings.call_time_max(), whole)
                .await
                .unwrap_or(Reply::Unknown { why: "took too long" }),
            Urgency::Poll => whole.await,
        }
    }

    fn paused_until(&self) -> Option<Timestamp> {
        self.0.throttle.paused_until()
    }

    fn places(&self) -> usize {
        self.0.throttle.places()
    }

    fn back_since(&self) -> Option<Timestamp> {
        self.health().back_since()
    }

    fn drifted(&self, operation: Operation, drift: Drift) {
        self.0.watcher.drift(operation, drift);
    }
}

impl Inner {
    /// One call: one request, or as many as a list has pages. Each takes a slot of the budget.
    async fn call(&self, call: &Call, idempotency_key: Option<Uuid>, urgency: Urgency) -> Reply {
        let mut so_far: Option<Part> = None;
        for _ in 0..PAGES_MAX {
            let outgoing = match wire::request(call, self.settings.org_id, so_far.as_ref()) {
                Ok(outgoing) => outgoing,
                Err(refusal) => return Reply::Refused(refusal),
            };
            let slot = match self.throttle.slot(urgency).await {
                Ok(slot) => slot,
                Err(instead) => return instead,
            };
            match self.exchange(call, &outgoing, (idempotency_key, urgency), &mut so_far).await {
                (Reading::Whole(reply), evidence) => {
                    slot.settle(&reply, evidence);
                    return reply;
                }
                (Reading::Part(part), evidence) => {
                    slot.settle(&Reply::Done(Answer::Nothing), evidence);
                    so_far = Some(part);
                }
            }
        }
        Reply::Unknown { why: "list without end" }
    }

    /// One call beside the budget.
    async fn look_up(&self, call: &Call) -> Reply {
        let outgoing = match wire::request(call, self.settings.org_id, None) {
            Ok(outgoing) => outgoing,
            Err(refusal) => return Reply::Refused(refusal),
        };
        match self.exchange(call, &outgoing, (None, Urgency::Poll), &mut None).await {
            (Reading::Whole(reply), _) => reply,
            (Reading::Part(_), _) => Reply::Done(Answer::Nothing),
        }
    }

    /// Whether the organisation is there: the list of its users, of which only the status is read.
    async fn look_at_organisation(&self) -> Reply {
        let token = match self.tokens.token(None).await {
            Ok(token) => token,
            Err(instead) => return instead,
        };
        let Ok(outgoing) = wire::request(&Call::ListUsers, self.settings.org_id, None) else {
            return Reply::Unsent { why: "the organisation has no address" };
        };
        match self.build(&outgoing, &token, None, None).send().await {
            Ok(answer) => match answer.status().as_u16() {
                200 => Reply::Done(Answer::Nothing),
                status @ 300..=499 => Reply::Held { status },
                _ => Reply::Unknown { why: "unexpected status" },
            },
            Err(error) => Lost::of(&error).reply(&Call::ListUsers),
        }
    }

    /// The status of the answer to a call, whose body is not read.
    async fn status_of(&self, call: &Call, token: &Token) -> Result<(u16, Option<Coding>), Unfit> {
        let Ok(outgoing) = wire::request(call, self.settings.org_id, None) else {
            return Err(Unfit::Away { why: "the call has no address" });
        };
        match self.build(&outgoing, token, None, None).send().await {
            Ok(answer) => Ok((answer.status().as_u16(), coding_of(answer.headers(), &[]))),
            Err(error) => Err(Unfit::Away { why: Lost::of(&error).text() }),
        }
    }

    /// One request with a good token; once more with a fresh one after a 401, which says that nothing was done.
    async fn exchange(
        &self,
        call: &Call,
        outgoing: &Outgoing,
        (idempotency_key, urgency): (Option<Uuid>, Urgency),
        so_far: &mut Option<Part>,
    ) -> (Reading, Evidence) {
        let deadline = match urgency {
            Urgency::Event { until } => Some(Deadline::new(until, self.clock.clone())),
            Urgency::Poll => None,
        };
        // A newer claim may exist by then and have looked already: what leaves after that look makes doubles.
        let late = (Reading::Whole(Reply::Unsent { why: "the claim's time was over" }), Evidence::Nothing);
        let mut rejected = None;
        loop {
            let token = match self.tokens.token(rejected).await {
                Ok(token) => token,
                Err(instead) => return (Reading::Whole(instead), Evidence::Podero),
            };
            if deadline.as_ref().is_some_and(Deadline::is_over) {
                return late;
            }
            let request = self.build(outgoing, &token, idempotency_key, deadline.as_ref());
            let (reading, is_ours) = self.attempt(call, request, so_far).await;
            if deadline.as_ref().is_some_and(Deadline::struck) {
                return late;
            }
            if rejected.is_some() || reading != Reading::Whole(Reply::Held { status: 401 }) {
                let evidence = match call {
                    _ if is_ours => Evidence::Nothing,
                    Call::ListUsers => Evidence::Podero,
                    Call::FindUser { .. }
                    | Call::CreateUser { .. }
                    | Call::UpdateUser { .. }
                    | Call::DeleteUser { .. }
                    | Call::ListBuildings { .. }
                    | Call::CreateBuilding { .. }
                    | Call::UpdateBuilding { .. }
                    | Call::DeleteBuilding { .. }
                    | Call::ListHeatPumps { .. }
                    | Call::PauseHeatPump { .. }
                    | Call::CreateOnboardingSession { .. }
                    | Call::ObserveHeatPumps { .. }
                    | Call::ObserveHeatPump { .. }
                    | Call::FindReconnection { .. }
                    | Call::ResolveCue { .. } => Evidence::OneCustomer,
                };
                return (reading, evidence);
            }
            rejected = Some(token.serial());
        }
    }

    fn build(
        &self,
        outgoing: &Outgoing,
        token: &Token,
        idempotency_key: Option<Uuid>,
        deadline: Option<&Deadline>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.base_url, outgoing.path);
        let mut request = self
            .http
            .request(outgoing.method.clone(), url)
            .header(AUTHORIZATION, token.header())
            .header(ACCEPT, "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key.to_string());
        }
        match (&outgoing.body, deadline) {
            (None, _) => request,
            (Some(body), None) => request.json(body),
            (Some(body), Some(deadline)) => {
                request.header(CONTENT_TYPE, "application/json").body(deadline.guard(body.to_string()))
            }
        }
    }

    /// One request and its answer. `true`: it was the bridge that had no memory for the answer.
    async fn attempt(
        &self,
        call: &Call,
        request: reqwest::RequestBuilder,
        so_far: &mut Option<Part>,
    ) -> (Reading, bool) {
        let bytes_max = match call.operation() {
            Operation::ListUsers => USERS_BYTES_MAX,
            Operation::FindUser
            | Operation::CreateUser
            | Operation::UpdateUser
            | Operation::DeleteUser
            | Operation::ListBuildings
            | Operation::CreateBuilding
            | Operation::UpdateBuilding
            | Operation::DeleteBuilding
            | Operation::ListHeatPumps
            | Operation::UpdateHeatPump
            | Operation::CreateOnboardingSession
            | Operation::GetHeatPump
            | Operation::ResolveCue => ANSWER_BYTES_MAX,
        };
        let asked_at = self.clock.now();
        let received = fetch(request, Bound { bytes_max, pool: Some(&self.pool) }).await;
        let now = self.clock.now();
        let mut found = received.as_ref().map_or_else(|_| Found::default(), |received| Found::of(received, now));
        let (reading, status) = match &received {
            Ok(received) => {
                let reading = wire::read(call, received, so_far, now, &mut found);
                let is_garbage = matches!(reading, Reading::Whole(Reply::Unknown { .. }));
                let is_garbage = is_garbage && (200..300).contains(&received.status);
                let status = if is_garbage { "garbage" } else { status_text(received.status) };
                (reading, status)
            }
            Err(lost) => (Reading::Whole(lost.reply(call)), lost.status_text()),
        };
        let (operation, took) = (call.operation(), now.since(asked_at));
        tracing::debug!(operation = operation.name(), status, took_ms = took.as_millis(), "asked Podero");
        self.watcher.request(operation, status, took);
        self.note_unreadable(operation, received.as_ref().ok(), &reading, now);
        for drift in found.drifts().iter().copied() {
            tracing::debug!(
                operation = operation.name(),
                drift = drift.name(),
                "an answer differs from Podero's pages"
            );
            self.watcher.drift(operation, drift);
        }
        (reading, matches!(received, Err(Lost::NoRoom)))
    }

    /// Remembers why answers to a call cannot be read, and says so once.
    fn note_unreadable(&self, operation: Operation, received: Option<&Received>, reading: &Reading, now: Timestamp) {
        let is_odd = |received: &Received| received.coding.is_some() || (200..300).contains(&received.status);
        match reading {
            Reading::Part(_) | Reading::Whole(Reply::Done(_)) => drop(self.unreadable().remove(&operation)),
            Reading::Whole(Reply::Unknown { why }) if received.is_some_and(is_odd) => {
                let before = self.unreadable().insert(operation, (now, why));
                if before.is_none_or(|(_, before)| before != *why) {
                    tracing::warn!(operation = operation.name(), why, "an answer of Podero cannot be read");
                }
            }
            // No answer, or one that need not be read.
            Reading::Whole(
                Reply::Unknown { .. }
                | Reply::Refused(_)
                | Reply::Busy { .. }
                | Reply::Held { .. }
                | Reply::Unsent { .. },
            ) => {}
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<Operation, (Timestamp, &'static str)>> {
        self.unreadable.lock().expect("no code panics while it holds the reasons")
    }
}

/// Scheme, host and port alone, without a slash at the end.
fn base_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let is_http = matches!(url.scheme(), "https" | "http") && url.has_host();
    (is_bare && is_anonymous && is_http).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// `Basic …` of RFC 7617: an id with a colon would be read as another id.
fn credentials(settings: &Settings) -> Option<HeaderValue> {
    let (id, secret) = (&settings.client_id, &settings.client_secret);
    if id.is_empty() || secret.is_empty() || id.contains(':') {
        return None;
    }
    let pair = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    let mut header = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_text_in_the_closed_set() {
        for status in 0..=999 {
            assert!(STATUSES.contains(&status_text(status)), "{status}");
        }
        for lost in
            [Lost::Connect, Lost::PlainPort, Lost::Unwritable, Lost::Timeout, Lost::Cut, Lost::TooLarge, Lost::NoRoom]
        {
            assert!(STATUSES.contains(&lost.status_text()), "{lost:?}");
        }
    }

    #[test]
    fn the_base_is_scheme_and_host_and_nothing_else() {
        for (text, expect) in [
            ("https://app.podero.com", Some("https://app.podero.com")),
            ("https://app.podero.com/", Some("https://app.podero.com")),
            ("http://127.0.0.1:8085", Some("http://127.0.0.1:8085")),
            ("https://app.podero.com/api/partners/v2.0/", None),
            ("https://user:secret@app.podero.com", None),
            ("https://app.podero.com?x", None),
            ("ftp://app.podero.com", None),
            ("app.podero.com", None),
            ("", None),
        ] {
            assert_eq!(base_of(text).as_deref(), expect, "{text}");
        }
    }
}
