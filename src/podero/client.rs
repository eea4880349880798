//! The partner over HTTP: sends each call through the budget and reads its answer.
//!
//! Before: the stages ask by [`super::Partner`]. After: [`super::wire`] reads the answers, [`super::gate`] learns from them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use super::answer::{Bound, Lost, POOL_BYTES, Pool, Received, UNCODED, fetch};
use super::auth::{Token, Tokens};
use super::body::Deadline;
use super::calls::{GetHeatPump, ListUsers, ObserveHeatPumps};
use super::drift::{Drift, DriftNotes};
use super::gate::{Budget, Evidence, Gate, ProbePurpose};
use super::partner::{Observe, Partner};
use super::settings::{Error, Settings, base_of, credentials};
use super::turnstile::{Throttle, Turnstile, Urgency, turnstile};
use super::wire::{self, PartnerCall, Reading, RequestParts};
use crate::clock::Clock;
use crate::domain::alert::Observation;
use crate::domain::call::{Call, Operation, Reconnection, Refusal, Reply, ResolveCue, UserFound};
use crate::domain::partner_health::{CircuitCause, Hold, Opening, PartnerHealth};
use crate::domain::team::{MemberCall, MemberDone};
use crate::domain::{CustomerId, Timestamp};

/// Timeout of connecting. Shorter than the whole deadline, so that a host which does not answer at all is `Unsent`, not
/// `Unknown`.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Timeout of an idle connection. The bridge closes it before a server's own keep-alive limit (60 s and more where known) can
/// close it under a request that is being written, which would leave that call in doubt.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Limit of the pages of one list: 512 of 200 entries are twice the largest fleet that is planned for.
const PAGES_MAX: usize = 512;

/// Time for which an answer that could not be read is shown to operators: a single one passes by itself, and a gateway that
/// packs answers does it again within that.
const UNREADABLE_SHOWN: Duration = Duration::from_mins(15);

/// Id that a probe looks up. No customer has it, since a customer would have to be signed up with it.
pub(super) const PROBE_ID: &str = "podero-bridge-probe";

/// A call as it would be sent, but for host and credentials.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallPreview {
    /// The HTTP method.
    pub(super) method: String,
    /// Path and query; the nil UUID stands for the organisation.
    pub(super) path: String,
    /// The body, if it has one.
    pub(super) body: Option<serde_json::Value>,
}

/// Shows how a call would be sent, and sends nothing.
pub(super) fn preview(call: &Call) -> CallPreview {
    previewed(PartnerCall::request(call, Uuid::nil()))
}

/// As [`preview`], of a call about a member.
pub(super) fn preview_of_member(call: &MemberCall) -> CallPreview {
    previewed(PartnerCall::request(call, Uuid::nil()))
}

fn previewed(request: Result<RequestParts, Refusal>) -> CallPreview {
    match request {
        Ok(RequestParts { method, path, body }) => CallPreview { method: method.to_string(), path, body },
        Err(refusal) => CallPreview { method: "none".to_owned(), path: refusal.detail, body: None },
    }
}

/// Texts for the ends of a request: a closed set, so that they may label metrics.
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

/// Podero's state as this process sees it, short enough for an operator's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Calls go at full pace.
    Clear,
    /// Calls go more slowly than the budget allows: Podero asked for it.
    Slowed {
        /// Requests per second now.
        per_second: u32,
        /// Requests per second at full pace.
        of: u32,
    },
    /// Podero asked for a pause.
    Paused {
        /// The end of the pause.
        until: Timestamp,
    },
    /// The circuit is open.
    Open {
        /// When it opened.
        since: Timestamp,
        /// The cause of the opening.
        why: CircuitCause,
    },
}

/// The partner over HTTP. Cheap to clone; clones share token, budget and circuit.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    http: reqwest::Client,
    pub(super) settings: Settings,
    /// The address without a slash at its end.
    base_url: String,
    clock: Clock,
    pub(super) tokens: Arc<Tokens>,
    gate: Arc<Gate>,
    throttle: Throttle,
    /// The memory that all answers share while they are read.
    pool: Pool,
    watcher: Arc<dyn Observe>,
    /// The calls whose last answer could not be read, with its time and the reason.
    unreadable: Mutex<BTreeMap<Operation, (Timestamp, &'static str)>>,
}

/// Hands the budget out and keeps the token fresh. Without it running, no call gets a slot.
pub struct Dispatcher {
    turnstile: Turnstile,
    tokens: Arc<Tokens>,
}

impl Dispatcher {
    /// Runs until `shutdown`, or until every [`Client`] is gone. Calls that still wait then are `Unsent`, so stop the stages
    /// first.
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
            // A proxy that the environment names is not meant for the bridge: its credentials would go there.
            .no_proxy();
        let http = match &settings.proxy {
            Some(proxy) => http.proxy(reqwest::Proxy::all(proxy).map_err(|_| Error::Proxy)?),
            None => http,
        };
        let http = http.build().map_err(Error::Http)?;
        let watcher: Arc<dyn Observe> = Arc::new(watcher);
        let tokens = Arc::new(Tokens::new(http.clone(), &base_url, credentials, clock.clone()));
        let budget = Budget { max_in_flight: settings.max_in_flight, per_second };
        let gate = Gate::new(budget, clock.clone(), watcher.clone());
        let (throttle, turnstile) = turnstile(gate.clone());
        let dispatcher = Dispatcher { turnstile, tokens: tokens.clone() };
        let (pool, unreadable) = (Pool::new(POOL_BYTES), Mutex::default());
        let inner = Inner { http, settings, base_url, clock, tokens, gate, throttle, pool, watcher, unreadable };
        Ok((Self(Arc::new(inner)), dispatcher))
    }

    /// `true` when a token that has not expired is at hand; the [`Dispatcher`] keeps it so.
    pub fn has_token(&self) -> bool {
        self.0.tokens.is_ready()
    }

    /// The reason why the last refresh brought no token, if it brought an answer that cannot be used.
    pub fn token_trouble(&self) -> Option<&'static str> {
        self.0.tokens.trouble()
    }

    /// A call whose last answer, a short time ago, could not be read, and the reason.
    pub fn unreadable(&self) -> Option<(Operation, &'static str)> {
        let now = self.0.clock.now();
        let unreadable = self.0.unreadable();
        let lately = unreadable.iter().find(|(_, (at, _))| now.since(*at) < UNREADABLE_SHOWN);
        lately.map(|(operation, (_, why))| (*operation, *why))
    }

    /// The health of Podero, as this process knows it.
    pub fn health(&self) -> PartnerHealth {
        self.0.gate.health()
    }

    /// Learns what other replicas know, and the number of live replicas, this one among them: each uses its part of the budget.
    pub fn adopt(&self, known: PartnerHealth, replicas: usize) {
        self.0.gate.adopt(known, replicas);
    }

    /// Woken when this process learnt of a change of a pause or the circuit; for one listener.
    pub fn changed(&self) -> Arc<Notify> {
        self.0.gate.changed.clone()
    }

    /// Podero's state for an operator.
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

    /// Requests per second that this process may make now, and at full pace.
    pub fn per_second(&self) -> (u32, u32) {
        self.0.gate.per_second()
    }

    /// The purpose of a probe now; `None` when [`Client::probe`] would send none.
    pub fn purpose(&self) -> Option<ProbePurpose> {
        self.0.gate.purpose()
    }

    /// Woken when calls fail so that a probe has to find out whether the trouble is Podero's; for one listener.
    pub fn suspected(&self) -> Arc<Notify> {
        self.0.gate.suspected.clone()
    }

    /// Asks Podero something harmless, if a probe is due; the answer opens the circuit, closes it or keeps it open for longer.
    /// Outside the budget: a probe must not wait behind calls that hang. `false` when none was due.
    pub async fn probe(&self) -> bool {
        let Some(probe) = Gate::begin_probe(&self.0.gate) else { return false };
        let is_organisation =
            matches!(probe.opening(), Some(Opening { why: CircuitCause::Refused { status: 404 | 410 }, .. }));
        let reply = match CustomerId::accept(PROBE_ID) {
            // A look-up of an unknown id is answered "not there" in any case, so another call has to show that the organisation
            // is back.
            _ if is_organisation => self.0.look_at_organisation().await,
            Some(external_id) => self.0.look_up(&Call::FindUser { external_id }).await,
            None => return false,
        };
        tracing::debug!(well = matches!(reply, Reply::Done(_)), "probed Podero");
        probe.settle(&reply);
        true
    }

    /// Looks up how the owner of a heat pump can reconnect it, for support.
    pub async fn find_reconnection(
        &self,
        user: Uuid,
        heat_pump: Uuid,
        until: Timestamp,
    ) -> Reply<Option<Reconnection>> {
        self.0.ask_in_time(&GetHeatPump::reconnection(user, heat_pump), None, until).await
    }

    /// Begins to resolve a pending action, for support: the address to which its owner goes now.
    pub async fn resolve_cue(&self, request: &ResolveCue, until: Timestamp) -> Reply<String> {
        self.0.ask_in_time(request, None, until).await
    }
}

impl Partner for Client {
    async fn call(&self, call: &Call, idempotency_key: Option<Uuid>, until: Timestamp) -> Reply {
        self.0.ask_in_time(call, idempotency_key, until).await
    }

    async fn call_for_member(
        &self,
        call: &MemberCall,
        idempotency_key: Option<Uuid>,
        until: Timestamp,
    ) -> Reply<MemberDone> {
        self.0.ask_in_time(call, idempotency_key, until).await
    }

    async fn list_users(&self) -> Reply<Vec<UserFound>> {
        self.0.ask(&ListUsers, None, Urgency::Poll).await
    }

    async fn observe_heat_pumps(&self, user: Uuid) -> Reply<Vec<Observation>> {
        self.0.ask(&ObserveHeatPumps { user }, None, Urgency::Poll).await
    }

    async fn observe_heat_pump(&self, user: Uuid, heat_pump: Uuid) -> Reply<Observation> {
        self.0.ask(&GetHeatPump::observe(user, heat_pump), None, Urgency::Poll).await
    }

    fn paused_until(&self) -> Option<Timestamp> {
        self.0.gate.paused_until()
    }

    fn concurrency(&self) -> usize {
        self.0.gate.permits.limit()
    }

    fn back_since(&self) -> Option<Timestamp> {
        self.health().back_since()
    }

    fn drifted(&self, operation: Operation, drift: Drift) {
        self.0.watcher.drift(operation, drift);
    }
}

/// One request and what is known of its making, whatever the call.
struct Exchange<A> {
    reading: Reading<A>,
    evidence: Evidence,
}

impl Inner {
    /// Makes one urgent call. A list in many pages must not outlive the claim that asked for it.
    async fn ask_in_time<R: PartnerCall>(
        &self,
        request: &R,
        idempotency_key: Option<Uuid>,
        until: Timestamp,
    ) -> Reply<R::Answer> {
        let whole = self.ask(request, idempotency_key, Urgency::Event { until });
        let reply = tokio::time::timeout(self.settings.call_time_max(), whole).await;
        reply.unwrap_or(Reply::Unknown { why: "took too long" })
    }

    /// Makes one call: one request, or one for each page of a list. Each takes a slot of the budget.
    async fn ask<R: PartnerCall>(
        &self,
        request: &R,
        idempotency_key: Option<Uuid>,
        urgency: Urgency,
    ) -> Reply<R::Answer> {
        let first = match request.request(self.settings.org_id) {
            Ok(parts) => parts,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let (mut pages, mut parts) = (R::Pages::default(), first.clone());
        for _ in 0..PAGES_MAX {
            let slot = match self.throttle.slot(urgency).await {
                Ok(slot) => slot,
                Err(instead) => return instead.of_call(),
            };
            let Exchange { reading, evidence } =
                self.exchange(request, &parts, idempotency_key, urgency, &mut pages).await;
            match reading {
                Reading::Whole(reply) => {
                    slot.settle(&reply.bare(), evidence);
                    return reply;
                }
                Reading::Part(entries) => {
                    slot.settle(&Reply::Done(()), evidence);
                    parts = first.page_from(entries);
                }
            }
        }
        Reply::Unknown { why: "list without end" }
    }

    /// Makes one call outside the budget, of which only the outcome counts.
    async fn look_up(&self, call: &Call) -> Reply<()> {
        let parts = match PartnerCall::request(call, self.settings.org_id) {
            Ok(parts) => parts,
            Err(refusal) => return Reply::Refused(refusal),
        };
        match self.exchange(call, &parts, None, Urgency::Poll, &mut Default::default()).await.reading {
            Reading::Whole(reply) => reply.bare(),
            Reading::Part(_) => Reply::Done(()),
        }
    }

    /// Asks for the organisation's list of users, of which only the status is read.
    async fn look_at_organisation(&self) -> Reply<()> {
        let token = match self.tokens.token(None).await {
            Ok(token) => token,
            Err(instead) => return instead.of_call(),
        };
        match self.status_of(&ListUsers, &token).await.map(|status| status.code) {
            Ok(200) => Reply::Done(()),
            Ok(status @ 300..=499) => Reply::Held { status },
            Ok(_) => Reply::Unknown { why: "unexpected status" },
            Err(lost) => lost.reply(true),
        }
    }

    /// Makes one request with a good token, and once more with a fresh one after a 401, which says that nothing was done.
    async fn exchange<R: PartnerCall>(
        &self,
        request: &R,
        parts: &RequestParts,
        idempotency_key: Option<Uuid>,
        urgency: Urgency,
        pages: &mut R::Pages,
    ) -> Exchange<R::Answer> {
        let deadline = match urgency {
            Urgency::Event { until } => Some(Deadline::new(until, self.clock.clone())),
            Urgency::Poll => None,
        };
        // By then a newer claim may exist and have looked already: a request that leaves after that look makes doubles.
        let late = || {
            let reading = Reading::Whole(Reply::Unsent { why: "the claim's time was over" });
            Exchange { reading, evidence: Evidence::Nothing }
        };
        let mut rejected = None;
        loop {
            let token = match self.tokens.token(rejected).await {
                Ok(token) => token,
                Err(instead) => {
                    return Exchange { reading: Reading::Whole(instead.of_call()), evidence: Evidence::Podero };
                }
            };
            if deadline.as_ref().is_some_and(Deadline::is_over) {
                return late();
            }
            let http = self.build(parts, &token, idempotency_key, deadline.as_ref());
            let exchange = self.attempt(request, http, pages).await;
            if deadline.as_ref().is_some_and(Deadline::struck) {
                return late();
            }
            if rejected.is_some() || !matches!(exchange.reading, Reading::Whole(Reply::Held { status: 401 })) {
                return exchange;
            }
            rejected = Some(token.serial);
        }
    }

    pub(super) fn build(
        &self,
        parts: &RequestParts,
        token: &Token,
        idempotency_key: Option<Uuid>,
        deadline: Option<&Deadline>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.base_url, parts.path);
        let mut request = self
            .http
            .request(parts.method.clone(), url)
            .header(AUTHORIZATION, token.header.clone())
            .header(ACCEPT, "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key.to_string());
        }
        match (&parts.body, deadline) {
            (None, _) => request,
            (Some(body), None) => request.json(body),
            (Some(body), Some(deadline)) => {
                request.header(CONTENT_TYPE, "application/json").body(deadline.guard(body.to_string()))
            }
        }
    }

    /// Sends one request and reads its answer.
    async fn attempt<R: PartnerCall>(
        &self,
        request: &R,
        http: reqwest::RequestBuilder,
        pages: &mut R::Pages,
    ) -> Exchange<R::Answer> {
        let asked_at = self.clock.now();
        let received = fetch(http, Bound { bytes_max: R::BYTES_MAX, pool: Some(&self.pool) }).await;
        let now = self.clock.now();
        let mut notes =
            received.as_ref().map_or_else(|_| DriftNotes::default(), |received| DriftNotes::of(received, now));
        let (reading, status) = match &received {
            Ok(received) => {
                let reading = wire::read(request, received, pages, now, &mut notes);
                let is_garbage = matches!(reading, Reading::Whole(Reply::Unknown { .. }));
                let is_garbage = is_garbage && (200..300).contains(&received.status);
                let status = if is_garbage { "garbage" } else { status_text(received.status) };
                (reading, status)
            }
            Err(lost) => (Reading::Whole(lost.reply(request.reads())), lost.status_text()),
        };
        let (operation, took) = (request.operation(), now.since(asked_at));
        tracing::debug!(operation = operation.name(), status, took_ms = took.as_millis(), "asked Podero");
        self.watcher.request(operation, status, took);
        self.note_unreadable(operation, received.as_ref().ok(), &reading, now);
        for drift in notes.drifts().iter().copied() {
            tracing::debug!(
                operation = operation.name(),
                drift = drift.name(),
                "an answer differs from Podero's pages"
            );
            self.watcher.drift(operation, drift);
        }
        // The bridge itself had no memory for the answer.
        let is_ours = matches!(received, Err(Lost::NoRoom));
        Exchange { reading, evidence: if is_ours { Evidence::Nothing } else { R::EVIDENCE } }
    }

    /// Remembers why answers to a call cannot be read, and logs it once.
    fn note_unreadable<A>(
        &self,
        operation: Operation,
        received: Option<&Received>,
        reading: &Reading<A>,
        now: Timestamp,
    ) {
        let is_odd = |received: &Received| received.coding.is_some() || (200..300).contains(&received.status);
        match reading {
            Reading::Part(_) | Reading::Whole(Reply::Done(_)) => drop(self.unreadable().remove(&operation)),
            Reading::Whole(Reply::Unknown { why }) if received.is_some_and(is_odd) => {
                let before = self.unreadable().insert(operation, (now, why));
                if before.is_none_or(|(_, before)| before != *why) {
                    tracing::warn!(operation = operation.name(), why, "an answer of Podero cannot be read");
                }
            }
            // There is no answer, or none that must be read.
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
}
