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

mod auth;
mod body;
mod drift;
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
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::plan::{Answer, Call, Operation, Reply};
use crate::domain::standing::{Hold, Opening, Standing, Why};
use crate::domain::{CustomerId, Timestamp};
use crate::tls;
use auth::{Token, Tokens};
use body::Deadline;
pub use drift::Drift;
pub use throttle::Errand;
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
pub struct Shown {
    /// The HTTP method.
    pub method: String,
    /// Path and query; the nil UUID stands for the organisation.
    pub path: String,
    /// The body, if it has one.
    pub body: Option<serde_json::Value>,
}

/// How a call would be sent. Nothing is.
pub fn show(call: &Call) -> Shown {
    match wire::request(call, Uuid::nil(), None) {
        Ok(Outgoing { method, path, body }) => Shown { method: method.to_string(), path, body },
        Err(refusal) => Shown { method: "none".to_owned(), path: refusal.detail, body: None },
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
pub const STATUSES: [&str; 28] = [
    "200", "201", "204", "2xx", "3xx", "400", "401", "403", "404", "405", "408", "409", "410", "422", "425", "429",
    "4xx", "500", "501", "502", "503", "504", "5xx", "other", "timeout", "connect", "cut", "garbage",
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
    /// Shown to nobody.
    pub client_secret: String,
    /// Deadline of one HTTP request, from connecting to the last byte of the answer.
    pub timeout: Duration,
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
        why: Why,
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
            .build()
            .map_err(Error::Http)?;
        let watcher: Arc<dyn Observe> = Arc::new(watcher);
        let tokens = Arc::new(Tokens::new(http.clone(), &base_url, credentials, clock.clone()));
        let budget = Budget { max_in_flight: settings.max_in_flight, per_second };
        let (throttle, turnstile) = throttle::throttle(budget, clock.clone(), watcher.clone());
        let dispatcher = Dispatcher { turnstile, tokens: tokens.clone() };
        let unreadable = Mutex::default();
        let inner = Inner { http, settings, base_url, clock, tokens, throttle, watcher, unreadable };
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
    pub fn standing(&self) -> Standing {
        self.0.throttle.standing()
    }

    /// Learns what other replicas know, and how many live, this one among them: each uses its part of the budget.
    pub fn adopt(&self, known: Standing, replicas: usize) {
        self.0.throttle.adopt(known, replicas);
    }

    /// Rung when a pause or the circuit changed by what this process learnt; for one listener.
    pub fn changed(&self) -> Arc<Notify> {
        self.0.throttle.changed()
    }

    /// How Podero stands to this process.
    pub fn outlook(&self) -> Outlook {
        let (now, standing) = (self.0.clock.now(), self.standing());
        match standing.hold(now) {
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
    pub fn errand(&self) -> Option<Errand> {
        self.0.throttle.errand()
    }

    /// Rung when calls fail so that a probe has to tell whose trouble it is; for one listener.
    pub fn suspected(&self) -> Arc<Notify> {
        self.0.throttle.suspected()
    }

    /// Asks Podero something harmless, if it is time to; the answer opens the circuit, closes it or keeps it open for
    /// longer. Beside the budget: it must not wait behind calls that hang. `false` when it was not time.
    pub async fn probe(&self) -> bool {
        let Some(probe) = self.0.throttle.probe() else { return false };
        let is_organisation = matches!(probe.opening(), Some(Opening { why: Why::Refused { status: 404 | 410 }, .. }));
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

    /// Gets a token and asks for the organisation's users, without reading them. Works beside the budget and
    /// without the [`Dispatcher`], changes nothing at Podero.
    pub async fn check(&self) -> Result<(), Unfit> {
        let inner = &*self.0;
        let away = |why| Err(Unfit::Away { why });
        let token = match inner.tokens.token(None).await {
            Ok(token) => token,
            Err(Reply::Held { status }) => return Err(Unfit::Credentials { status }),
            Err(Reply::Unsent { why } | Reply::Unknown { why }) => return away(why),
            Err(Reply::Busy { .. }) => return away("it asks for a pause"),
            Err(Reply::Done(_) | Reply::Refused(_)) => return away("the token endpoint makes no sense"),
        };
        let Ok(outgoing) = wire::request(&Call::ListUsers, inner.settings.org_id, None) else {
            return away("the organisation has no address");
        };
        match inner.build(&outgoing, &token, None, None).send().await {
            Ok(answer) => match answer.status().as_u16() {
                200 => coding_of(answer.headers(), &[]).map_or(Ok(()), |coding| away(coding.why())),
                status @ 400..=404 | status @ 410 => Err(Unfit::Organisation { status }),
                300..=399 => away("it redirects; check podero.base_url"),
                429 | 503 => away("it asks for a pause"),
                _ => away("unexpected status"),
            },
            Err(error) => away(Lost::of(&error).text()),
        }
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
        self.standing().back_since()
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
            Err(error) => Lost::of(&error).reply(),
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
            let reading = self.attempt(call, request, so_far).await;
            if deadline.as_ref().is_some_and(Deadline::struck) {
                return late;
            }
            if rejected.is_some() || reading != Reading::Whole(Reply::Held { status: 401 }) {
                let is_of_one = !matches!(call, Call::ListUsers);
                return (reading, if is_of_one { Evidence::OneCustomer } else { Evidence::Podero });
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

    async fn attempt(&self, call: &Call, request: reqwest::RequestBuilder, so_far: &mut Option<Part>) -> Reading {
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
        let received = fetch(request, bytes_max).await;
        let now = self.clock.now();
        let (reading, status) = match &received {
            Ok(received) => {
                let reading = wire::read(call, received, so_far, now);
                let is_garbage = matches!(reading, Reading::Whole(Reply::Unknown { .. }));
                let is_garbage = is_garbage && (200..300).contains(&received.status);
                let status = if is_garbage { "garbage" } else { status_text(received.status) };
                (reading, status)
            }
            Err(lost) => (Reading::Whole(lost.reply()), lost.status_text()),
        };
        let (operation, took) = (call.operation(), now.since(asked_at));
        tracing::debug!(operation = operation.name(), status, took_ms = took.as_millis(), "asked Podero");
        self.watcher.request(operation, status, took);
        self.note_unreadable(operation, received.as_ref().ok(), &reading, now);
        for drift in received.iter().flat_map(|received| drift::of(call, received, now)) {
            tracing::debug!(
                operation = operation.name(),
                drift = drift.name(),
                "an answer differs from Podero's pages"
            );
            self.watcher.drift(operation, drift);
        }
        reading
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

/// An answer as it came off the wire, whole.
struct Received {
    status: u16,
    retry_after: Option<String>,
    /// In which its body is, although none was asked for.
    coding: Option<Coding>,
    body: Vec<u8>,
}

/// A content coding, in which an answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    Other,
}

impl Coding {
    fn why(self) -> &'static str {
        match self {
            Self::Gzip => "the answer is coded as gzip; it was asked for without a coding",
            Self::Deflate => "the answer is coded as deflate; it was asked for without a coding",
            Self::Brotli => "the answer is coded as br; it was asked for without a coding",
            Self::Zstd => "the answer is coded as zstd; it was asked for without a coding",
            Self::Other => "the answer is in a coding that is not known; it was asked for without one",
        }
    }
}

/// The coding that an answer names, or that its first bytes show.
fn coding_of(headers: &HeaderMap, body: &[u8]) -> Option<Coding> {
    let named = headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let named = named.map(|name| name.trim().to_ascii_lowercase());
    let mut coding = named.filter(|name| !name.is_empty() && name != UNCODED).map(|name| match name.as_str() {
        "gzip" | "x-gzip" => Coding::Gzip,
        "deflate" => Coding::Deflate,
        "br" => Coding::Brotli,
        "zstd" => Coding::Zstd,
        _ => Coding::Other,
    });
    // JSON begins with neither.
    let shown = match body {
        [0x1f, 0x8b, ..] => Some(Coding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Coding::Zstd),
        _ => None,
    };
    coding.next_back().or(shown)
}

/// Some servers put a byte order mark in front of a text; RFC 8259 §8.1 allows a reader to pass over it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// No whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// No connection came about: surely nothing was sent.
    Connect,
    /// TLS was spoken to a port that does not: surely nothing was sent.
    PlainPort,
    /// It could not even be written down.
    Unwritable,
    /// The deadline passed after sending began.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// The answer is larger than any that makes sense.
    TooLarge,
}

impl Lost {
    fn of(error: &reqwest::Error) -> Self {
        // A time-out while connecting is both; that nothing was sent is what counts.
        if error.is_connect() {
            if tls::is_plain_port(error) { Self::PlainPort } else { Self::Connect }
        } else if error.is_builder() {
            Self::Unwritable
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Cut
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::PlainPort => tls::PLAIN_PORT,
            Self::Unwritable => "request cannot be written",
            Self::Timeout => "no answer in time",
            Self::Cut => "connection cut",
            Self::TooLarge => "answer too large",
        }
    }

    fn status_text(self) -> &'static str {
        match self {
            Self::Connect | Self::PlainPort => "connect",
            Self::Unwritable => "other",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::TooLarge => "garbage",
        }
    }

    fn reply(self) -> Reply {
        let why = self.text();
        match self {
            Self::Connect | Self::PlainPort | Self::Unwritable => Reply::Unsent { why },
            Self::Timeout | Self::Cut | Self::TooLarge => Reply::Unknown { why },
        }
    }

    /// The same when it was the token that was asked for: the call itself was surely not sent.
    fn while_authenticating(self) -> &'static str {
        match self {
            Self::Connect => "no connection for a token",
            Self::PlainPort => tls::PLAIN_PORT,
            Self::Timeout => "no token in time",
            Self::Unwritable | Self::Cut | Self::TooLarge => "no token",
        }
    }
}

/// Sends a request and reads the whole answer, within the client's deadline and `bytes_max`.
async fn fetch(request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Received, Lost> {
    let lost = |error: reqwest::Error| Lost::of(&error);
    let mut answer = request.send().await.map_err(lost)?;
    let retry_after = answer.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Lost::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    // Nothing is in no coding.
    let coding = if body.is_empty() { None } else { coding_of(answer.headers(), &body) };
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Received { status, retry_after, coding, body })
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
        for lost in [Lost::Connect, Lost::PlainPort, Lost::Unwritable, Lost::Timeout, Lost::Cut, Lost::TooLarge] {
            assert!(STATUSES.contains(&lost.status_text()), "{lost:?}");
        }
    }

    #[test]
    fn a_coding_is_told_by_its_name_or_by_the_first_bytes() {
        for (name, body, expected) in [
            (None, &b"[]"[..], None),
            (Some("identity"), b"[]", None),
            (Some(""), b"[]", None),
            (Some("gzip"), b"x", Some(Coding::Gzip)),
            (Some("X-GZIP"), b"x", Some(Coding::Gzip)),
            (Some("identity, br"), b"x", Some(Coding::Brotli)),
            (Some("deflate"), b"x", Some(Coding::Deflate)),
            (Some("zstd"), b"x", Some(Coding::Zstd)),
            (Some("secret"), b"x", Some(Coding::Other)),
            (None, b"\x1f\x8b\x08", Some(Coding::Gzip)),
            (None, b"\x28\xb5\x2f\xfd", Some(Coding::Zstd)),
        ] {
            let named = name.map(|name| (CONTENT_ENCODING, HeaderValue::from_static(name)));
            let coding = coding_of(&HeaderMap::from_iter(named), body);
            assert_eq!(coding, expected, "{name:?}");
            assert!(!coding.is_some_and(|coding| coding.why().contains("secret")), "no value is repeated");
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
